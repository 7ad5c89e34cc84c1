//! The jobs of a shard: long work that is done in short steps, and what each waits for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use corelane_storage::index::{CountId, PurgeJob};
use corelane_storage::log::ReadId;

use crate::api::error::ApiError;
use crate::shard::mailbox::Requester;
use crate::shard::request::{Reply, Request};
use crate::shard::state::stream::ShardStream;
use crate::types::{ConsumerId, StreamId, Timestamp};

/// The jobs of a shard.
#[derive(Default)]
pub struct Jobs {
    pub next: u64,
    /// Those that can go on.
    pub ready: VecDeque<Job>,
    /// Those that wait for a time, because what they need could not be read.
    pub later: BTreeMap<(Timestamp, u64), Job>,
    /// Those that wait for a read.
    pub reading: Vec<(ReadId, Job)>,
    /// Removed streams that the checkpoint under way has yet to write.
    pub checkpointed: Vec<usize>,
    /// Purges whose records are all on their way.
    pub draining: Vec<Purge>,
    /// When the first message of a stream may have reached its age.
    pub ages: BTreeSet<(Timestamp, StreamId)>,
    /// When to try again to enforce the limits of a stream.
    pub enforce_at: BTreeSet<(Timestamp, StreamId)>,
}

/// One of them.
pub enum Job {
    Purge(Purge),
    Count(Count),
    RemoveStream { slot: usize, failures: u32 },
    Age { stream: StreamId },
    Enforce { stream: StreamId },
    Reply(Reply),
    Request(Box<Request>),
    Parked { stream: StreamId },
}

impl Jobs {
    /// Adds a job that can go on.
    pub fn add(&mut self, job: Job) {
        self.ready.push_back(job);
    }

    /// Goes on enforcing limits at a time.
    pub fn enforce_later(&mut self, at: Timestamp, stream: StreamId) {
        self.enforce_at.insert((at, stream));
    }

    /// A message left a stream: consumers that still count hear of it if their start sets may have
    /// held it when they were looked up.
    #[inline]
    pub fn removed_while_counting(&self, from: &mut ShardStream, now: Timestamp, seq: u64) {
        let waiting = self.reading.iter().map(|(_, j)| j).chain(self.later.values());
        for job in self.ready.iter().chain(waiting) {
            if let Job::Count(c) = job
                && c.stream == from.id
                && seq < c.checked
                && let Some(&at) = from.consumers.by_id.get(&c.consumer)
                && let Some(delivery) = &mut from.consumers.slab[at].delivery
            {
                delivery.removed(now, seq);
            }
        }
    }

    /// Adds a job that waits for a read.
    pub fn wait(&mut self, read: ReadId, job: Job) {
        self.reading.push((read, job));
    }
}

pub struct Purge {
    pub id: u64,
    pub stream: StreamId,
    pub job: Option<PurgeJob>,
    pub filter: Box<[u8]>,
    pub requester: Option<Requester>,
    pub purged: u64,
    /// An emptied stream goes on from this sequence.
    pub skip_to: Option<u64>,
    /// Everything was asked to go.
    pub whole: bool,
    /// Records that are not applied yet.
    pub ahead: usize,
    pub done: bool,
    /// Why not all of it is removed.
    pub refused: Option<ApiError>,
}

/// A consumer that counts what is pending before it joins the others.
pub struct Count {
    pub stream: StreamId,
    pub consumer: ConsumerId,
    pub requester: Option<Requester>,
    pub count: Option<CountId>,
    /// Members of its start set below this were looked up: it hears of their removal.
    pub checked: u64,
    /// How often in turn what it needs could not be read.
    pub failures: u32,
}

/// What became of one step.
pub enum Stepped {
    Finished,
    Again(Job),
    /// It waits for a read.
    Reading(ReadId, Job),
    /// Taken over by another list.
    Moved,
}
