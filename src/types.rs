//! Numbers that could be confused, as types of their own.

/// Nanoseconds since the Unix epoch. The only notion of time inside the state machines; always an
/// argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time `ns` nanoseconds later.
    pub fn plus(self, ns: i64) -> Self {
        Timestamp(self.0.saturating_add(ns))
    }

    /// Nanoseconds from `earlier` to `self`.
    pub fn since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A reactor of this node: an index from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReactorId(pub u16);

/// A connection, unique for the life of the node: the client id that INFO and connz show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Who asked or published, and so where answers are routed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The reactor of the connection.
    pub reactor: ReactorId,
    /// The connection; `ConnId(0)` for the server itself.
    pub conn: ConnId,
}

/// What a connection pays for before it enters a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CreditKind {
    /// A publish into a stream, until it is durable or refused.
    Publish,
    /// A request of the API, an acknowledgement or an answer to flow control, until it is handled.
    Request,
}

pub use corelane_storage::types::{
    ConsumerId, GroupId, LogIndex, Lsn, Position, SegmentId, ShardId, StreamId, Term,
};
