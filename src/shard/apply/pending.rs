//! What waits for records of a group to be applied, in the order of the group.

use std::collections::VecDeque;

use crate::api::types::{ConsumerConfig, StreamConfig};
use crate::meta::StreamEntry;
use crate::shard::api::requests::Request;
use crate::shard::apply::byte_queue::ByteQueue;
use crate::shard::apply::groups::Place;
use crate::shard::catalogue::leader::CatalogueStep;
use crate::shard::consumers::NewConsumer;
use crate::shard::mailbox::Requester;
use crate::types::{ConsumerId, Origin, StreamId};

/// Who published a message that was appended.
#[derive(Clone, Copy, Debug)]
pub struct StoreItem {
    /// The stream's slot in the shard.
    pub slot: u32,
    /// Who published it.
    pub origin: Origin,
    /// Bytes of its reply subject in the queue; 0 for none.
    pub reply_len: u32,
    /// Publish credit to give back.
    pub credit: u32,
}

/// An answer that rests on what was appended before it.
#[derive(Clone, Copy, Debug)]
pub struct AnswerItem {
    /// Who asked.
    pub origin: Origin,
    /// Bytes of the reply subject in the queue.
    pub reply_len: u32,
    /// Bytes of the answer in the queue.
    pub body_len: u32,
    /// Publish credit to give back.
    pub credit: u32,
}

/// What else waits: changes other than messages, and requests that must see them.
pub enum Change {
    /// A request that must see what was appended before it.
    Request(Box<Request>),
    /// A catalogue record is durable: a shard is told.
    Catalogue(Box<CatalogueStep>),
    /// A stream's record is durable.
    Create {
        /// The stream.
        entry: Box<StreamEntry>,
        /// Who asked.
        requester: Option<Requester>,
    },
    /// A stream that is there was asked for again.
    Existing {
        /// The stream.
        id: StreamId,
        /// Who asked.
        requester: Requester,
    },
    /// A stream's new configuration is durable.
    Update {
        /// The stream.
        id: StreamId,
        /// Its configuration.
        config: Box<StreamConfig>,
        /// Who asked.
        requester: Option<Requester>,
    },
    /// A stream's removal is durable.
    Delete {
        /// The stream.
        id: StreamId,
        /// Who asked.
        requester: Option<Requester>,
    },
    /// A message was removed.
    MessageDeleted {
        /// The stream.
        stream: StreamId,
        /// The message.
        seq: u64,
        /// Who asked.
        requester: Requester,
    },
    /// Something that was over the limits of a stream was removed.
    Enforced(StreamId),
    /// A step of a purge, the job of this number, was applied.
    Purged(u64),
    /// A consumer's record is durable, and its first delta.
    CreateConsumer {
        /// The stream.
        stream: StreamId,
        /// The consumer.
        consumer: Box<NewConsumer>,
        /// Who asked.
        requester: Requester,
    },
    /// A consumer's new configuration is durable.
    UpdateConsumer {
        /// The stream.
        stream: StreamId,
        /// The consumer.
        consumer: ConsumerId,
        /// Its configuration.
        config: Box<ConsumerConfig>,
        /// Who asked.
        requester: Requester,
    },
    /// A consumer's removal is durable.
    DeleteConsumer {
        /// The stream.
        stream: StreamId,
        /// The consumer.
        consumer: ConsumerId,
        /// Who asked, if anybody did.
        requester: Option<Requester>,
    },
    /// A consumer's delta was applied: these acknowledgements may be answered.
    Acknowledged(Vec<Requester>),
}

/// One thing that waits.
pub enum Item {
    /// A message.
    Store(StoreItem),
    /// An answer.
    Answer(AnswerItem),
    /// Anything else.
    Change(Box<Change>),
}

/// The queue of one group. Invariant: places do not fall from front to back.
#[derive(Default)]
pub struct Queue {
    items: VecDeque<(Place, Item)>,
    bytes: ByteQueue,
}

impl Queue {
    /// A message was appended at this place.
    pub fn push_store(&mut self, place: Place, item: StoreItem, reply: &[u8]) {
        debug_assert_eq!(item.reply_len as usize, reply.len());
        self.bytes.push(reply);
        self.items.push_back((place, Item::Store(item)));
    }

    /// An answer waits until the record at this place is applied.
    pub fn push_answer(
        &mut self,
        place: Place,
        origin: Origin,
        reply: &[u8],
        body: &[u8],
        credit: u32,
    ) {
        self.bytes.push(reply);
        self.bytes.push(body);
        let item = AnswerItem {
            origin,
            reply_len: reply.len() as u32,
            body_len: body.len() as u32,
            credit,
        };
        self.items.push_back((place, Item::Answer(item)));
    }

    /// Something else waits until the record at this place is applied.
    pub fn push(&mut self, place: Place, change: Change) {
        self.items.push_back((place, Item::Change(Box::new(change))));
    }

    /// The first item, if it waits for no more than what is applied.
    pub fn front(&mut self, applied: Place) -> Option<&mut Item> {
        match self.items.front_mut() {
            Some((place, item)) if *place <= applied => Some(item),
            _ => None,
        }
    }

    /// True if the first item waits for no more than what is applied.
    pub fn is_due(&self, applied: Place) -> bool {
        self.items.front().is_some_and(|(place, _)| *place <= applied)
    }

    /// Takes off the publisher of the message at this place, if there is one here.
    #[inline]
    pub fn pop_store(&mut self, place: Place) -> Option<StoreItem> {
        match self.items.front() {
            Some((at, Item::Store(item))) if *at == place => {
                let item = *item;
                self.items.pop_front();
                Some(item)
            }
            _ => None,
        }
    }

    /// Takes the first item off. Its bytes stay until `pop_bytes`.
    pub fn pop(&mut self) -> Option<Item> {
        self.items.pop_front().map(|(_, item)| item)
    }

    /// The first `len` bytes that belong to the items.
    pub fn bytes(&self, len: usize) -> &[u8] {
        self.bytes.front(len)
    }

    /// Drops them.
    pub fn pop_bytes(&mut self, len: usize) {
        self.bytes.pop(len);
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
