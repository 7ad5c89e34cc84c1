//! What reactors tell each other beside messages, in order and before them.

use crate::interest::{AccountId, StreamPlace};
use crate::types::{ConnId, CreditKind, Pressure, PressureQuery, ShardId, StreamId};

/// One entry of the control lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// The sender's interest in a filter, as an absolute count: for plain interest 0 or 1, for a
    /// queue group its members.
    Interest {
        /// The account.
        account: AccountId,
        /// The subject filter.
        filter: Box<[u8]>,
        /// The queue group, or `None` for plain interest.
        queue: Option<Box<[u8]>>,
        /// How much interest the sender has now.
        count: u32,
    },
    /// A stream exists from now on, or captures other subjects.
    StreamSet(StreamPlace),
    /// A stream is gone.
    StreamRemoved(StreamId),
    /// Asks for `BarrierDone` once everything before it on this lane is in effect.
    Barrier {
        /// The sender's count.
        seq: u64,
    },
    /// Answers `Barrier`.
    BarrierDone {
        /// The count of the barrier answered.
        seq: u64,
    },
    /// Bytes of publishes that no longer wait for durability, or of requests that were handled.
    Credit {
        /// What they were charged to.
        kind: CreditKind,
        /// The shard that returns them.
        shard: ShardId,
        /// How many.
        bytes: u64,
    },
    /// A connection of the receiver publishes into an outbound that is nearly full: do not read
    /// it for a while.
    Stall {
        /// The publisher.
        conn: ConnId,
        /// For how long at most, in nanoseconds.
        ns: i64,
    },
    /// An outbound that a connection of the receiver was stalled for has drained: read it again.
    Unstall {
        /// The publisher.
        conn: ConnId,
    },
    /// An outbound of the sender is full for consumers, or has filled further: consumers are to
    /// ask before they deliver more.
    Full,
    /// A consumer of the sender asks whether those who receive a subject from the receiver take
    /// more.
    PressureQuery {
        /// The account.
        account: AccountId,
        /// The subject that it delivers to.
        subject: Box<[u8]>,
        /// The question.
        query: PressureQuery,
    },
    /// The answer.
    Pressure {
        /// The question.
        query: PressureQuery,
        /// What it came to.
        pressure: Pressure,
    },
}
