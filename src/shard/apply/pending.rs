//! What was appended and waits for its durability, in the order of the log.

use std::collections::VecDeque;

use crate::api::types::{ConsumerConfig, StreamConfig};
use crate::meta::StreamEntry;
use crate::shard::api::requests::Request;
use crate::shard::apply::byte_queue::ByteQueue;
use crate::shard::catalogue::leader::CatalogueStep;
use crate::shard::consumers::NewConsumer;
use crate::shard::mailbox::Requester;
use crate::types::{ConsumerId, Lsn, Origin, Position, StreamId};

/// A message that was admitted and appended.
#[derive(Clone, Copy, Debug)]
pub struct StoreItem {
    /// The stream's slot in the shard.
    pub slot: u32,
    /// Its sequence.
    pub seq: u64,
    /// When it was admitted.
    pub ts: i64,
    /// Where its record lies.
    pub position: Position,
    /// Bytes of its record.
    pub record_len: u32,
    /// Bytes as streams count them.
    pub size: u32,
    /// Who published it.
    pub origin: Origin,
    /// Bytes of its subject in the queue.
    pub subject_len: u32,
    /// Bytes of its reply subject in the queue, behind the subject; 0 for none.
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

/// Something rarer.
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
    /// A message's removal is durable.
    DeleteMessage {
        /// The stream.
        stream: StreamId,
        /// The message.
        seq: u64,
        /// Who asked.
        requester: Requester,
    },
    /// A range of sequences is to be removed.
    Purge {
        /// The stream.
        stream: StreamId,
        /// The first sequence still to look at.
        from: u64,
        /// One past the last.
        to: u64,
        /// The filter; empty for all.
        filter: Box<[u8]>,
        /// The job that this is a step of.
        job: u64,
    },
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
    /// A consumer's delta is durable: it is applied, and its acknowledgements may be answered.
    Delta {
        /// The stream.
        stream: StreamId,
        /// The consumer.
        consumer: ConsumerId,
        /// The delta.
        body: Vec<u8>,
        /// Who waits for an empty answer.
        answers: Vec<Requester>,
    },
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

/// The queue of one shard. Invariant: `Lsn`s do not fall from front to back.
#[derive(Default)]
pub struct Queue {
    items: VecDeque<(Lsn, Item)>,
    bytes: ByteQueue,
}

impl Queue {
    /// A message was appended as `lsn`.
    pub fn push_store(&mut self, lsn: Lsn, item: StoreItem, subject: &[u8], reply: &[u8]) {
        debug_assert_eq!(item.reply_len as usize, reply.len());
        debug_assert_eq!(item.subject_len as usize, subject.len());
        self.bytes.push(subject);
        self.bytes.push(reply);
        self.items.push_back((lsn, Item::Store(item)));
    }

    /// An answer waits until `lsn` is durable.
    pub fn push_answer(
        &mut self,
        lsn: Lsn,
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
        self.items.push_back((lsn, Item::Answer(item)));
    }

    /// Something rarer waits until `lsn` is durable.
    pub fn push(&mut self, lsn: Lsn, change: Change) {
        self.items.push_back((lsn, Item::Change(Box::new(change))));
    }

    /// The first item, if it is durable.
    pub fn front(&mut self, durable: Lsn) -> Option<&mut Item> {
        match self.items.front_mut() {
            Some((lsn, item)) if *lsn <= durable => Some(item),
            _ => None,
        }
    }

    /// True if the first item is durable.
    pub fn is_due(&self, durable: Lsn) -> bool {
        self.items.front().is_some_and(|(lsn, _)| *lsn <= durable)
    }

    /// Puts back what could not be finished; it may go on at once when it is asked for again.
    pub fn push_front(&mut self, change: Change) {
        self.items.push_front((Lsn(0), Item::Change(Box::new(change))));
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
