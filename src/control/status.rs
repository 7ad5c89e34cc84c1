//! What monitoring shows: the counters of a moment, and what is fixed for the process's life.

use crate::config::options::Options;
use crate::inspect::{Page, Query};
use crate::types::WallTime;
use std::ops::AddAssign;
use std::time::Instant;

/// Where snapshots come from. Lives on the control thread; must not block it.
pub trait StatusSource: Send {
    /// Asks for a snapshot. Called again only after [`StatusSource::poll`] gave one, or when one
    /// has been awaited for too long; then the question is a new one.
    fn ask(&mut self);

    /// The snapshot asked for, once it is there. Called about every millisecond until then.
    fn poll(&mut self) -> Option<Snapshot>;

    /// How many reactors there are; none before they started.
    fn reactors(&self) -> usize;

    /// Asks one reactor for a page. False if it is not there; else it calls `answer` soon.
    fn inspect(&mut self, reactor: usize, query: Query, answer: PageAnswer) -> bool;
}

/// Takes a page from another thread.
pub type PageAnswer = Box<dyn FnOnce(Page) + Send>;

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct Site {
    /// The settings.
    pub options: Options,
    /// `N…`, as in INFO.
    pub server_id: String,
    /// As in INFO.
    pub server_name: String,
    /// The port that clients connect to.
    pub client_port: u16,
    /// When the process started, and read its configuration.
    pub start: WallTime,
    /// That moment, to measure from.
    pub begun: Instant,
    /// CPUs of the host that the process may use.
    pub cores: u32,
    /// JetStream's API level; shown where JetStream is on.
    pub api_level: u32,
    /// Bytes that memory streams may take.
    pub memory_bytes_max: u64,
    /// Bytes that file streams may take.
    pub store_bytes_max: u64,
}

/// The state of a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether the broker can serve.
    pub health: Health,
    /// One for each reactor, by number.
    pub reactors: Vec<ReactorStatus>,
    /// One for each shard, by number.
    pub shards: Vec<ShardStatus>,
    /// `None` where JetStream is off.
    pub jetstream: Option<JetStreamStatus>,
}

/// Whether the broker can serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It can.
    #[default]
    Ok,
    /// It cannot, for this reason, told in `/healthz`.
    Unavailable(String),
}

/// Counters of one reactor, since the start where the name does not say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReactorStatus {
    /// Connections that are open now.
    pub connections: u64,
    /// Connections that were accepted.
    pub total_connections: u64,
    /// Subscriptions that exist now.
    pub subscriptions: u64,
    /// Messages received from clients.
    pub in_msgs: u64,
    /// Their headers and bodies.
    pub in_bytes: u64,
    /// Messages delivered to clients.
    pub out_msgs: u64,
    /// Their headers and bodies.
    pub out_bytes: u64,
    /// Clients closed because they were slow.
    pub slow_consumers: u64,
    /// Clients closed because they did not answer PINGs.
    pub stale_connections: u64,
    /// Publishers delayed before a full outbound.
    pub stalled_clients: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Turns that took longer than they may.
    pub slow_turns: u64,
    /// Of those, turns in which the thread itself ran no longer than it may.
    pub preempted_turns: u64,
    /// Nanoseconds spent in turns, the waits left out.
    pub busy_ns: u64,
    /// The longest turn since the start.
    pub longest_turn_ns: u64,
    /// Batches sent to other reactors.
    pub mesh_batches: u64,
    /// Times that a ring to another reactor was full.
    pub mesh_full: u64,
}

/// Counters of one shard's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStatus {
    /// Records appended.
    pub records: u64,
    /// Bytes written to the device, padding included.
    pub written_bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Segments that hold data now.
    pub segments: u64,
    /// Bytes in them that are still alive.
    pub live_bytes: u64,
}

/// JetStream as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JetStreamStatus {
    /// Streams that exist now.
    pub streams: u64,
    /// Consumers that exist now.
    pub consumers: u64,
    /// Messages stored now.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of memory streams now.
    pub memory: u64,
    /// Bytes of file streams now.
    pub storage: u64,
    /// Bytes of memory that streams' configurations reserve.
    pub reserved_memory: u64,
    /// Bytes of storage that streams' configurations reserve.
    pub reserved_storage: u64,
    /// Accounts that have JetStream.
    pub accounts: u64,
    /// API requests answered.
    pub api_total: u64,
    /// Of these, the ones answered with an error.
    pub api_errors: u64,
    /// API requests under way now.
    pub api_inflight: u64,
}

impl Snapshot {
    /// The sums over all reactors.
    pub fn totals(&self) -> ReactorStatus {
        let mut total = ReactorStatus::default();
        for reactor in &self.reactors {
            total += *reactor;
        }
        total
    }
}

impl AddAssign for ReactorStatus {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.total_connections += other.total_connections;
        self.subscriptions += other.subscriptions;
        self.in_msgs += other.in_msgs;
        self.in_bytes += other.in_bytes;
        self.out_msgs += other.out_msgs;
        self.out_bytes += other.out_bytes;
        self.slow_consumers += other.slow_consumers;
        self.stale_connections += other.stale_connections;
        self.stalled_clients += other.stalled_clients;
        self.turns += other.turns;
        self.slow_turns += other.slow_turns;
        self.preempted_turns += other.preempted_turns;
        self.busy_ns += other.busy_ns;
        self.longest_turn_ns = self.longest_turn_ns.max(other.longest_turn_ns);
        self.mesh_batches += other.mesh_batches;
        self.mesh_full += other.mesh_full;
    }
}
