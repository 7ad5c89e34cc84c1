//! What waits for records of a group to be applied, in the order of the group.

use std::collections::VecDeque;

use crate::fifo::Fifo;
use crate::shard::groups::Place;
use crate::shard::groups::byte_queue::ByteQueue;
use crate::shard::mailbox::Requester;
use crate::shard::request::Request;
use crate::types::{Origin, ShardId, StreamId};

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

/// A record that the log does not get, because a restart is not to find what it is about.
pub struct Unlogged {
    /// Its kind.
    pub kind: u16,
    /// Its stream.
    pub stream: StreamId,
    /// Its own number.
    pub id: u64,
    /// Its body.
    pub body: Box<[u8]>,
}

/// Who asked for a consumer.
pub struct SetConsumer {
    /// Who asked.
    pub requester: Requester,
    /// It is a new one.
    pub creates: bool,
    /// Its name was made up: it is not shown in its configuration.
    pub unnamed: bool,
}

/// What else waits: answers to changes other than messages, and requests that must see them. What
/// changes follows from the records; this is who is to be answered, and what with.
pub enum Change {
    /// A request that must see what was appended before it.
    Request(Box<Request>),
    /// Something takes effect in its turn that no log has.
    Unlogged(Unlogged),
    /// The catalogue has changed: the stream's shard carries that out and answers.
    Catalogue(Requester),
    /// A stream that the catalogue has was asked for again: its shard answers.
    Existing {
        /// The stream.
        id: StreamId,
        /// Its shard.
        shard: ShardId,
        /// Who asked.
        requester: Requester,
    },
    /// A stream was created, or was there.
    Created(StreamId, Requester),
    /// A stream has another configuration.
    Updated(StreamId, Requester),
    /// A stream was removed.
    Deleted {
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
    /// What waits at a stream for all that was under way may go on.
    Unparked(StreamId),
    /// A step of a purge was applied.
    Purged {
        /// The number of the job.
        job: u64,
        /// The stream.
        stream: StreamId,
    },
    /// A consumer was created, or has another configuration.
    SetConsumer(SetConsumer),
    /// A consumer was removed.
    ConsumerDeleted(Requester),
    /// What consumers had to log is applied: these acknowledgements may be answered.
    Acknowledged {
        /// Whose they are.
        requesters: Vec<Requester>,
        /// It is about the record of a delta.
        delta: bool,
    },
}

impl Change {
    /// Whether it is about the record before it, and changes nothing itself.
    fn is_answer(&self) -> bool {
        !matches!(self, Change::Request(_) | Change::Unlogged(_) | Change::Unparked(_))
    }
}

/// What an item of the queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// Who published the message at its place.
    #[default]
    Store,
    /// An answer.
    Answer,
    /// The first of the changes.
    Change,
}

/// One thing that waits. A field that its kind does not use is zero.
#[derive(Clone, Copy, Debug, Default)]
struct Item {
    place: Place,
    origin: Origin,
    kind: Kind,
    slot: u32,
    reply_len: u32,
    body_len: u32,
    credit: u32,
}

/// What waited and is due.
pub enum Due {
    /// An answer. Its bytes are the first of the queue.
    Answer(AnswerItem),
    /// Anything else.
    Change(Box<Change>),
}

/// The queue of one group. Invariant: places do not fall from front to back.
#[derive(Default)]
pub struct Queue {
    items: Fifo<Item>,
    /// Those of the items of that kind, in their order.
    changes: VecDeque<Box<Change>>,
    bytes: ByteQueue,
}

impl Queue {
    /// A message was appended at this place.
    // Always inlined and field by field: see `fifo`.
    #[inline(always)]
    pub fn push_store(&mut self, place: Place, item: StoreItem, reply: &[u8]) {
        debug_assert_eq!(item.reply_len as usize, reply.len());
        self.bytes.push(reply);
        let slot = self.items.push_slot();
        slot.place.write = place.write;
        slot.place.nth = place.nth;
        slot.origin.reactor = item.origin.reactor;
        slot.origin.conn = item.origin.conn;
        slot.kind = Kind::Store;
        slot.slot = item.slot;
        slot.reply_len = item.reply_len;
        slot.body_len = 0;
        slot.credit = item.credit;
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
        let (reply_len, body_len) = (reply.len() as u32, body.len() as u32);
        let kind = Kind::Answer;
        let item = Item { place, origin, kind, reply_len, body_len, credit, ..Item::default() };
        self.items.push(item);
    }

    /// Something else waits until the record at this place is applied.
    pub fn push(&mut self, place: Place, change: Change) {
        self.changes.push_back(Box::new(change));
        self.items.push(Item { place, kind: Kind::Change, ..Item::default() });
    }

    /// True if the first item waits for no more than what is applied.
    #[inline]
    pub fn is_due(&self, applied: Place) -> bool {
        self.items.front().is_some_and(|item| item.place <= applied)
    }

    /// Takes off the first answer or change, if it waits for no more than what is applied. The
    /// bytes of an answer stay until `pop_bytes`.
    #[inline]
    pub fn pop_due(&mut self, applied: Place) -> Option<Due> {
        let due = self.items.front().filter(|i| i.kind != Kind::Store && i.place <= applied);
        let item = *due?;
        self.items.pop_front();
        let Item { origin, reply_len, body_len, credit, .. } = item;
        match item.kind {
            Kind::Change => self.changes.pop_front().map(Due::Change),
            _ => Some(Due::Answer(AnswerItem { origin, reply_len, body_len, credit })),
        }
    }

    /// Takes off who asked for the record at this place, if that is the first item.
    pub fn pop_answer(&mut self, place: Place) -> Option<Change> {
        self.items.front().filter(|i| i.kind == Kind::Change && i.place <= place)?;
        self.changes.front().filter(|change| change.is_answer())?;
        self.items.pop_front();
        self.changes.pop_front().map(|change| *change)
    }

    /// Takes off the publisher of the message at this place, if there is one here.
    #[inline]
    pub fn pop_store(&mut self, place: Place) -> Option<StoreItem> {
        let first = self.items.front().filter(|i| i.kind == Kind::Store && i.place == place);
        let &Item { origin, slot, reply_len, credit, .. } = first?;
        self.items.pop_front();
        Some(StoreItem { slot, origin, reply_len, credit })
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
