//! Numbers that could be confused, as types of their own.

/// A moment of the steady clock, in nanoseconds: timers, deadlines and ages are measured with it.
///
/// A process starts it at what its wall clock says, so that it compares with the times that earlier
/// ones left behind. From then on it neither jumps nor stands still, whatever is done to the wall
/// clock. Inside the state machines it is always an argument.
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

/// A time of the wall clock, in nanoseconds since the Unix epoch: what is stored with messages and
/// shown to users. It may be set back or forth at any moment, so no duration is measured with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub i64);

/// The two times of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The steady clock.
    pub now: Timestamp,
    /// What the wall clock says at that moment.
    pub wall: WallTime,
}

impl Clocks {
    /// Both clocks at one time, as they are when a process starts.
    pub fn level(now: Timestamp) -> Clocks {
        Clocks { now, wall: WallTime(now.0) }
    }

    /// A moment as the wall clock shows it now.
    pub fn wall_of(&self, at: Timestamp) -> WallTime {
        WallTime(self.wall.0.saturating_add(at.since(self.now)))
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

/// A consumer, wherever on the node it is led.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerPlace {
    /// The reactor that hosts its shard.
    pub reactor: ReactorId,
    /// Its stream's shard.
    pub shard: ShardId,
    /// Its stream.
    pub stream: StreamId,
    /// The consumer.
    pub consumer: ConsumerId,
}

/// A consumer's question whether its receivers take more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PressureQuery {
    /// Who asks.
    pub consumer: ConsumerPlace,
    /// Which of its questions this is: answers to earlier ones do not count.
    pub nth: u64,
    /// Others wait with it for the same receiver: it is not to wait for long.
    pub shared: bool,
}

/// What a reactor answers to a consumer's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// The receivers here take more.
    Clear,
    /// The receiver that it waited for has drained: the others are to be asked again.
    Drained,
}

/// What a connection pays for before it enters a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CreditKind {
    /// A publish into a file stream, until it is durable or refused.
    Publish,
    /// A publish into a memory stream, until it is stored or refused: it does not wait behind a
    /// disk that is slow.
    PublishMemory,
    /// A request of the API, until it is answered.
    Request,
    /// A pull request, an acknowledgement or an answer to flow control, until it is handled, or
    /// answered: consumers go on however many other requests wait.
    Consume,
}

impl CreditKind {
    /// Whether it is for publishes.
    pub fn is_publish(self) -> bool {
        matches!(self, CreditKind::Publish | CreditKind::PublishMemory)
    }
}

/// All kinds of credit.
pub const CREDIT_KINDS: [CreditKind; 4] =
    [CreditKind::Publish, CreditKind::PublishMemory, CreditKind::Request, CreditKind::Consume];

pub use corelane_storage::types::{
    ConsumerId, GroupId, LogIndex, Lsn, Position, SegmentId, ShardId, StreamId, Term,
};
