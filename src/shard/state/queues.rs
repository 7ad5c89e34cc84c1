//! Smaller owners of a shard's fields: what came and is not handled yet, what applying needs at
//! hand, what streams hold in all, and how far the shard is in its life.

use std::collections::VecDeque;

use corelane_storage::device::Op;
use corelane_storage::log::ReadId;

use crate::shard::request::Request;
use crate::shard::request::permits::Permits;
use crate::shard::state::NO_SEGMENT;
use crate::types::{Lsn, SegmentId};

/// Requests that are not finished, and how many there were.
#[derive(Default)]
pub struct Requests {
    /// Those that can be handled.
    pub inbox: VecDeque<Request>,
    /// Those that hold much while they are answered, and those that wait for that.
    pub permits: Permits,
    /// Those that wait for a read.
    pub reading: Vec<(ReadId, Request)>,
    /// Those that wait until a change of their consumer took effect.
    pub held_back: Vec<Request>,
    /// Such a change took effect.
    pub consumer_changed: bool,
    /// API requests since the start.
    pub total: u64,
    /// Of these, refused.
    pub refused: u64,
}

impl Requests {
    /// Requests that are not finished.
    pub fn len(&self) -> usize {
        let permits = self.permits.waiting.iter().map(VecDeque::len).sum::<usize>();
        self.inbox.len() + self.reading.len() + self.held_back.len() + permits
    }

    /// Whether some can be handled at once.
    pub fn are_ready(&self) -> bool {
        !self.inbox.is_empty() || self.consumer_changed && !self.held_back.is_empty()
    }
}

/// What goes between the shard and its device.
#[derive(Default)]
pub struct DeviceQueues {
    /// Operations to be started.
    pub ops: Vec<Op>,
    /// Reads that are over and whose waiters were not woken.
    pub reads_over: Vec<ReadId>,
    /// Why the node must stop.
    pub failure: Option<String>,
}

/// What applying has at hand.
pub struct Applying {
    /// Segment and bytes that became live and are not in the log's counters yet.
    pub live: (SegmentId, u32),
    /// The body of the record that is being applied.
    pub body: Vec<u8>,
}

impl Default for Applying {
    fn default() -> Self {
        Applying { live: (NO_SEGMENT, 0), body: Vec::new() }
    }
}

/// Bytes that streams hold, each in memory and on disk.
#[derive(Default)]
pub struct SpaceUsed {
    /// Those of this shard.
    pub here: [u64; 2],
    /// The same, as the other shards know it.
    pub reported: [u64; 2],
    /// Those of the other shards, by shard.
    pub elsewhere: Vec<[u64; 2]>,
}

/// How the last run of the shard ended, and whether this one ends.
#[derive(Default)]
pub struct Lifecycle {
    /// The server goes away: whether the record that says so was appended.
    pub stopping: Option<bool>,
    /// The log ended with that record when it was opened.
    pub stopped_clean: bool,
    /// Nothing is delivered before this is durable.
    pub begun: Lsn,
}
