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
    /// Those of the shard itself that can go on, and parked publishes.
    pub own: VecDeque<Job>,
    /// Those of requests that can go on.
    pub requested: VecDeque<Job>,
    /// The next step is for one of requests, if there is one.
    pub requested_next: bool,
    /// Those that wait for a time, because what they need could not be read.
    pub later: BTreeMap<(Timestamp, u64), Job>,
    /// Those that wait for a read.
    pub reading: Vec<(ReadId, Job)>,
    /// Removed streams that the checkpoint under way has yet to write.
    pub checkpointed: Vec<usize>,
    /// Purges under way, by number.
    pub purges: BTreeMap<u64, Purge>,
    /// Consumers that count what is pending.
    pub counts: BTreeMap<(StreamId, ConsumerId), Count>,
    /// Purges that clients wait for.
    pub requested_purges: usize,
    /// When the first message of a stream may have reached its age.
    pub ages: BTreeSet<(Timestamp, StreamId)>,
    /// When to try again to enforce the limits of a stream.
    pub enforce_at: BTreeSet<(Timestamp, StreamId)>,
}

/// One of them.
pub enum Job {
    Purge(u64),
    Count(StreamId, ConsumerId),
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
        let is_requested = match &job {
            Job::Request(_) | Job::Reply(_) => true,
            Job::Purge(id) => self.purges.get(id).is_some_and(|p| p.requester.is_some()),
            Job::Count(stream, consumer) => {
                self.counts.get(&(*stream, *consumer)).is_some_and(|c| c.requester.is_some())
            }
            Job::RemoveStream { .. }
            | Job::Age { .. }
            | Job::Enforce { .. }
            | Job::Parked { .. } => false,
        };
        if is_requested { self.requested.push_back(job) } else { self.own.push_back(job) }
    }

    /// The job that makes the next step: those of the shard and those of requests take turns, so
    /// that neither waits for many of the others.
    pub fn next(&mut self) -> Option<Job> {
        self.requested_next = !self.requested_next;
        let (first, second) = match self.requested_next {
            true => (&mut self.requested, &mut self.own),
            false => (&mut self.own, &mut self.requested),
        };
        first.pop_front().or_else(|| second.pop_front())
    }

    /// What is under way for requests, or waits for a read or for its records.
    pub fn under_way(&self) -> usize {
        let counts = self.counts.len().saturating_sub(self.later.len());
        self.requested.len() + self.reading.len() + self.purges.len() + counts
    }

    /// Goes on enforcing limits at a time.
    pub fn enforce_later(&mut self, at: Timestamp, stream: StreamId) {
        self.enforce_at.insert((at, stream));
    }

    /// A message left a stream: consumers that still count hear of it if their start sets may have
    /// held it when they were looked up.
    #[inline]
    pub fn removed_while_counting(&self, from: &mut ShardStream, now: Timestamp, seq: u64) {
        if self.counts.is_empty() {
            return;
        }
        let of_stream = (from.id, ConsumerId(0))..=(from.id, ConsumerId(u64::MAX));
        for (&(_, consumer), c) in self.counts.range(of_stream) {
            if seq < c.checked
                && let Some(&at) = from.consumers.by_id.get(&consumer)
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
    pub job: PurgeJob,
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
    /// It waits for its records to be applied.
    pub parked: bool,
    /// Why not all of it is removed.
    pub refused: Option<ApiError>,
}

/// A consumer that counts what is pending before it joins the others.
#[derive(Default)]
pub struct Count {
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
