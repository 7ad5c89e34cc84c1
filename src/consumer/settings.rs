//! What a consumer is told to do: its configuration by meaning, free of JSON.

use roaring::RoaringTreemap;

pub use crate::types::Origin;

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

/// How far deliveries may run ahead of the durable record of them. After a crash the consumer
/// sequence jumps by this much, so that no consumer sequence a client has seen is ever given to
/// another message.
pub const SEQ_AHEAD_MAX: u64 = 16_384;

/// The largest flow-control window, in bytes. It starts at a sixteenth.
pub const FLOW_WINDOW_BYTES_MAX: u64 = 32 << 20;

/// Which acknowledgements a consumer expects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AckPolicy {
    /// None: what is delivered counts as done.
    #[default]
    None,
    /// One acknowledgement covers everything up to its message.
    All,
    /// Every message is acknowledged on its own.
    Explicit,
}

/// The pace of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReplayPolicy {
    /// As fast as the client takes it.
    #[default]
    Instant,
    /// With the gaps in which the messages were stored.
    Original,
}

/// What only a push consumer has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PushSettings {
    /// Where messages go. The queue group, if any, is a matter of routing.
    pub deliver_subject: Vec<u8>,
    /// Ask the client for a sign of life when half of the window is under way.
    pub flow_control: bool,
    /// Nanoseconds without a delivery after which a heartbeat is sent; 0 for none.
    pub idle_heartbeat: i64,
    /// Bits a second; 0 for no limit.
    pub rate_limit_bps: u64,
}

/// What only a pull consumer has. 0 is no limit, except for `max_waiting`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PullSettings {
    /// Requests that may wait at a time.
    pub max_waiting: usize,
    /// The largest batch of a request.
    pub max_batch: i64,
    /// The longest expiry of a request, in nanoseconds.
    pub max_expires: i64,
    /// The largest `max_bytes` of a request.
    pub max_bytes: i64,
}

/// Who starts a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The server, whenever the deliver subject has interest.
    Push(PushSettings),
    /// The client, by requests.
    Pull(PullSettings),
}

/// One consumer's configuration, by meaning.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerSettings {
    /// The stream's name, as it stands in acknowledgement subjects.
    pub stream: Vec<u8>,
    /// The consumer's name.
    pub name: Vec<u8>,
    /// Push or pull.
    pub mode: Mode,
    /// Which acknowledgements are expected.
    pub ack_policy: AckPolicy,
    /// Nanoseconds until an unacknowledged message is delivered again.
    pub ack_wait: i64,
    /// Waits by number of deliveries, in place of `ack_wait`; the last repeats.
    pub backoff: Vec<i64>,
    /// Deliveries of one message at most; 0 for no limit.
    pub max_deliver: u32,
    /// Messages that may wait for acknowledgement; 0 for no limit.
    pub max_ack_pending: usize,
    /// Deliver headers and the size in place of the payload.
    pub headers_only: bool,
    /// The pace of a replay.
    pub replay: ReplayPolicy,
    /// Nanoseconds without activity after which the consumer deletes itself; 0 for never.
    pub inactive_threshold: i64,
    /// The consumer dies with the process although its stream does not: nothing of it is recorded.
    pub volatile: bool,
}

impl ConsumerSettings {
    /// Nanoseconds to wait for an acknowledgement after the `deliveries`-th delivery (from 1).
    pub fn wait_after(&self, deliveries: u32) -> i64 {
        let step = (deliveries.max(1) - 1) as usize;
        match self.backoff.len() {
            0 => self.ack_wait,
            n => self.backoff[step.min(n - 1)],
        }
    }

    /// The push side, if it is a push consumer.
    pub fn push(&self) -> Option<&PushSettings> {
        match &self.mode {
            Mode::Push(push) => Some(push),
            Mode::Pull(_) => None,
        }
    }

    /// The pull side, if it is a pull consumer.
    pub fn pull(&self) -> Option<&PullSettings> {
        match &self.mode {
            Mode::Pull(pull) => Some(pull),
            Mode::Push(_) => None,
        }
    }
}

/// Where a new consumer begins, resolved by its shard from the deliver policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartPosition {
    /// The first stream sequence to look at (at least 1). With a start set: the first one after it.
    pub next_seq: u64,
    /// The stream's last sequence at creation: `replay: original` keeps its gaps up to here.
    pub last_seq: u64,
    /// `last_per_subject`: a sequence of each matching subject, all below `next_seq`.
    pub start_set: RoaringTreemap,
}
