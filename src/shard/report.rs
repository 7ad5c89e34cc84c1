//! What a shard reports to monitoring.

use crate::shard::mailbox::Usage;
use crate::shard::state::Shard;
use crate::shard::state::catalogue::ACCOUNT;

impl Shard {
    /// What it keeps for what is under way.
    pub fn footprint(&self) -> Footprint {
        let all = || self.streams.iter().flat_map(|(_, s)| s.consumers.slab.iter());
        let held = all().map(|(_, c)| c.held.len());
        let enforcing = self.streams.iter().filter_map(|(_, s)| s.enforcement.as_ref());
        let enforcing = enforcing.map(|e| e.requesters.len());
        let consumers: usize = self.streams.iter().map(|(_, s)| s.consumers.slab.len()).sum();
        Footprint {
            requests: self.requests.len(),
            jobs: self.jobs.under_way(),
            decisions: self.decisions.waiting.len(),
            questions: self.meta.as_ref().map_or(0, |m| m.questions.len() + m.checks.len()),
            walks: self.requests.permits.walks,
            held: held.sum(),
            enforcing: enforcing.sum(),
            blocked: self.consumers.blocked.len(),
            expired: self.consumers.expired.len(),
            timers: self.consumers.timers.len().saturating_sub(consumers),
            parked: self.parked.streams.len(),
            pending: self.groups.iter().filter(|group| !group.is_idle()).count(),
        }
    }

    /// Counters for monitoring.
    pub fn report(&self) -> ShardReport {
        let (segments, live_bytes) = self.log.usage();
        let reserved = self.meta.as_ref().map_or((0, 0), |m| m.catalogue.reserved_bytes(ACCOUNT));
        ShardReport {
            shard: self.options.id.0,
            usage: self.usage(),
            messages: self.streams.iter().map(|(_, stream)| stream.index.messages()).sum(),
            reserved,
            records: self.log.appended().0,
            segments: segments as u64,
            live_bytes,
            checkpoints: self.checkpoint.made,
            relocated: self.reclaim.relocated,
            sorted: self.sort.sorted,
            freed: self.log.freed(),
            pages_read: self.pages_read,
            file_bytes: self.log.file_bytes(),
        }
    }

    /// Bytes of the tail cache that are its own part, and those that it uses.
    pub fn tail_bytes(&self) -> (usize, usize) {
        (self.log.options().tail_bytes, self.log.tail_bytes())
    }

    /// Sets the size of its tail cache.
    pub fn set_tail_max(&mut self, bytes: usize) {
        self.log.set_tail_max(bytes);
    }
}

/// Counters of one shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardReport {
    /// Its number.
    pub shard: u16,
    /// What its streams hold.
    pub usage: Usage,
    /// Messages in its streams.
    pub messages: u64,
    /// Bytes that streams' configurations reserve: memory and storage. Only shard 0 knows.
    pub reserved: (u64, u64),
    /// Records appended to its log since the start.
    pub records: u64,
    /// Segments that hold data.
    pub segments: u64,
    /// Bytes in them that are alive.
    pub live_bytes: u64,
    /// Checkpoints, messages relocated, segments sorted and freed since the start.
    pub checkpoints: u64,
    /// See above.
    pub relocated: u64,
    /// See above.
    pub sorted: u64,
    /// See above.
    pub freed: u64,
    /// Index pages read from the log since the start.
    pub pages_read: u64,
    /// Bytes of its files.
    pub file_bytes: u64,
}

/// What a shard keeps for what is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Requests that came, or wait for a read, for a consumer's change or for a permit.
    pub requests: usize,
    /// Jobs of clients, and purges and counts that are under way.
    pub jobs: usize,
    /// Decisions of the catalogue that were not begun.
    pub decisions: usize,
    /// Questions of shard 0 that were not answered.
    pub questions: usize,
    /// Requests that hold what they have seen of an index.
    pub walks: usize,
    /// Acknowledgements that are answered when a delta is logged.
    pub held: usize,
    /// Updates that are answered when their limits hold.
    pub enforcing: usize,
    /// Consumers that wait for a read.
    pub blocked: usize,
    /// Consumers that were inactive for too long and are still to be deleted.
    pub expired: usize,
    /// Timers beyond one for each consumer.
    pub timers: usize,
    /// Streams at which publishes wait until something is looked up.
    pub parked: usize,
    /// Groups with something that is not applied, or that waits for it.
    pub pending: usize,
}

impl Footprint {
    /// What nothing but requests brings about: consumers go on delivering without any.
    pub fn of_requests(&self) -> usize {
        let asked = self.requests + self.jobs + self.decisions + self.questions + self.walks;
        asked + self.held + self.enforcing + self.expired + self.timers + self.parked
    }
}
