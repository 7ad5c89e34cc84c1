//! Long work in short steps: purges, removal by age, requests that look at much, counting for new
//! consumers, what is left of removed streams, limits to be enforced.

use std::collections::BTreeSet;

use corelane_storage::index::{CountStep, FilterSet, PageKey, PurgeJob, PurgeStep};
use corelane_storage::log::ReadId;

use crate::api::error::kinds;
use crate::api::types::{PurgeResponse, ResponseType, write_response};
use crate::shard::apply::removals::Progress;
use crate::shard::budget::{Background, Handler};
use crate::shard::effects::ShardEffects;
use crate::shard::groups::pending::Change;
use crate::shard::groups::removal::{Outcome, Removal};
use crate::shard::mailbox::Requester;
use crate::shard::records::{PurgeBody, kind};
use crate::shard::request::{ANY_READ, Answered, Wait};
use crate::shard::state::Shard;
use crate::shard::state::jobs::{Count, Job, Purge, Stepped};
use crate::shard::state::stream::ShardStream;
use crate::shard::streams::read::{Fetched, Unread};
use crate::types::{ConsumerId, StreamId, Timestamp, WallTime};

/// Index entries that one step of a job visits.
pub const STEP_VISITS: u32 = 500;
/// Messages that one record of a purge removes.
const PURGE_MESSAGES: u64 = 500;
/// Records of one purge that may wait for durability.
const PURGE_AHEAD: usize = 4;
/// Jobs that make a step in one turn.
const STEPS: usize = 4;
/// How soon a job tries again to read what could not be read, in nanoseconds, and how often that
/// doubles.
const PAGE_AGAIN: i64 = 1_000_000_000;
const PAGE_DOUBLINGS: u32 = 6;
/// How soon a removal by age looks again when it could not go on, in nanoseconds.
const AGE_AGAIN: i64 = 100_000_000;

impl Shard {
    pub(super) fn jobs_deadline(&self) -> Option<Timestamp> {
        let first = |set: &BTreeSet<(Timestamp, StreamId)>| set.first().map(|(at, _)| *at);
        let later = self.jobs.later.first_key_value().map(|((at, _), _)| *at);
        let times = [first(&self.jobs.ages), first(&self.jobs.enforce_at), later];
        times.into_iter().flatten().min()
    }

    pub(super) fn jobs_are_ready(&self) -> bool {
        !self.jobs.own.is_empty() || !self.jobs.requested.is_empty()
    }

    /// Starts a purge; its answer follows when all of it is applied.
    pub(super) fn start_purge(
        &mut self,
        stream: StreamId,
        filter: &[u8],
        below: Option<u64>,
        keep: u64,
        requester: Option<Requester>,
    ) {
        self.jobs.next += 1;
        self.jobs.requested_purges += usize::from(requester.is_some());
        let filters = if filter.is_empty() { FilterSet::all() } else { FilterSet::new([filter]) };
        let job = PurgeJob::new(filters, below, keep);
        let id = self.jobs.next;
        let skip_to = below.filter(|_| filter.is_empty());
        let whole = below.is_none() && keep == 0 && filter.is_empty();
        let filter = filter.into();
        let done = false;
        let purge = Purge {
            id,
            stream,
            job,
            filter,
            requester,
            purged: 0,
            skip_to,
            whole,
            ahead: 0,
            done,
            parked: false,
            refused: None,
        };
        self.jobs.purges.insert(id, purge);
        self.jobs.add(Job::Purge(id));
    }

    /// A consumer joins its stream once it has counted what is pending.
    pub(super) fn start_count(
        &mut self,
        stream: StreamId,
        consumer: ConsumerId,
        requester: Option<Requester>,
    ) {
        let is_requested = requester.is_some();
        let count = Count { requester, ..Count::default() };
        self.jobs.counts.insert((stream, consumer), count);
        let queue = if is_requested { &mut self.jobs.requested } else { &mut self.jobs.own };
        queue.push_front(Job::Count(stream, consumer));
    }

    /// Removes what is left of a stream that is gone.
    pub(super) fn start_stream_removal(&mut self, slot: usize) {
        self.jobs.add(Job::RemoveStream { slot, failures: 0 });
    }

    /// Looks at the age of a stream's first message when it may be due.
    pub(super) fn watch_age(&mut self, slot: usize) {
        let stream = &mut self.streams[slot];
        let (seq, at) = stream.first_time;
        let known = seq == stream.index.first_seq();
        let stored = if known { stream.stored_at(seq, at) } else { Timestamp(0) };
        let Some(due) = stream.retention.deadline(stored) else { return };
        if stream.index.messages() == 0 || stream.age_due.is_some_and(|d| d <= due) {
            return;
        }
        if let Some(old) = stream.age_due.replace(due) {
            self.jobs.ages.remove(&(old, stream.id));
        }
        self.jobs.ages.insert((due, stream.id));
    }

    /// Looks at a stream's age at once: its limit may have changed.
    pub(super) fn look_at_age(&mut self, stream: StreamId) {
        self.jobs.add(Job::Age { stream });
    }

    pub(super) fn run_jobs(&mut self, now: Timestamp, out: &mut impl ShardEffects) {
        while let Some(&(at, stream)) = self.jobs.ages.first() {
            if at > now {
                break;
            }
            self.jobs.ages.pop_first();
            if let Some(&slot) = self.slots.get(&stream) {
                self.streams[slot].age_due = None;
                self.jobs.add(Job::Age { stream });
            }
        }
        while self.jobs.enforce_at.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, stream)) = self.jobs.enforce_at.pop_first() else { break };
            self.jobs.add(Job::Enforce { stream });
        }
        while let Some(first) = self.jobs.later.first_entry().filter(|e| e.key().0 <= now) {
            let job = first.remove();
            self.jobs.add(job);
        }
        let begun = self.tally.work;
        let ready = self.jobs.own.len() + self.jobs.requested.len();
        for _ in 0..ready.min(STEPS) {
            if !self.turn.may_step(Background::Jobs) {
                break;
            }
            self.turn.job();
            let Some(job) = self.jobs.next() else { break };
            self.run_job(now, job, out);
        }
        self.tally.note(Handler::Jobs, begun);
    }

    /// Makes one step of a job, and keeps it if there is more to do.
    fn run_job(&mut self, now: Timestamp, job: Job, out: &mut impl ShardEffects) {
        let before = self.tally.work;
        self.tally.work.jobs += 1;
        let stepped = self.step_job(now, job, out);
        self.tally.note(Handler::Job, before);
        match stepped {
            Stepped::Finished | Stepped::Moved => {}
            Stepped::Again(job) => self.jobs.add(job),
            Stepped::Reading(read, job) => self.jobs.wait(read, job),
        }
    }

    /// The checkpoint went on: removals of streams that waited for it may follow.
    pub(super) fn job_checkpoint_went_on(&mut self) {
        let (jobs, checkpoint) = (&mut self.jobs, &self.checkpoint);
        let own = &mut jobs.own;
        jobs.checkpointed.retain(|&slot| {
            let waits = checkpoint.still_needs(slot);
            if !waits {
                own.push_back(Job::RemoveStream { slot, failures: 0 });
            }
            waits
        });
    }

    /// A read is over: jobs that waited for it go on.
    pub(super) fn job_read_is_over(&mut self, read: ReadId) {
        let mut i = 0;
        while i < self.jobs.reading.len() {
            if self.jobs.reading[i].0 == read || self.jobs.reading[i].0 == ANY_READ {
                let (_, job) = self.jobs.reading.swap_remove(i);
                self.jobs.add(job);
            } else {
                i += 1;
            }
        }
    }

    fn step_job(&mut self, now: Timestamp, job: Job, out: &mut impl ShardEffects) -> Stepped {
        match job {
            Job::Purge(id) => self.step_purge(id, out),
            Job::Count(stream, consumer) => self.step_count(now, stream, consumer, out),
            Job::RemoveStream { slot, failures } => self.step_stream_removal(slot, failures, out),
            Job::Age { stream } => self.step_age(now, stream, out),
            Job::Enforce { stream } => self.step_enforcement(now, stream),
            Job::Parked { stream } => self.step_parked(now, stream),
            Job::Request(request) => {
                self.run_request(now, *request, out);
                Stepped::Moved
            }
            Job::Reply(reply) => match self.step_reply(now, reply, out) {
                Answered::Done => Stepped::Finished,
                Answered::More(reply) => Stepped::Again(Job::Reply(reply)),
                Answered::Reading(read, reply) => Stepped::Reading(read, Job::Reply(reply)),
            },
        }
    }

    /// A page that a job needs: goes on, waits, or cannot go on.
    fn page_for(
        &mut self,
        slot: usize,
        key: PageKey,
        job: Job,
        out: &mut impl ShardEffects,
    ) -> Stepped {
        match self.fetch_page(slot, key) {
            Fetched::Loaded => Stepped::Again(job),
            Fetched::Pending(read) => Stepped::Reading(read, job),
            Fetched::Failed(text) | Fetched::Damaged(text) => {
                self.page_failed(slot, job, text, out)
            }
        }
    }

    /// A page that a job needs cannot be read. Nothing is taken for done, and nothing is deleted: a
    /// purge is refused where it stands, all else is tried again after a while.
    #[cold]
    fn page_failed(
        &mut self,
        slot: usize,
        job: Job,
        text: String,
        out: &mut impl ShardEffects,
    ) -> Stepped {
        let (job, failures) = match job {
            Job::Purge(id) => {
                self.complain(slot, format_args!("messages are not removed: {text}"), out);
                let Some(mut purge) = self.jobs.purges.remove(&id) else {
                    return Stepped::Finished;
                };
                purge.refused = Some(kinds::STREAM_GENERAL.with(text));
                return self.purge_is_through(purge, out);
            }
            Job::Count(stream, consumer) => {
                self.complain(slot, format_args!("a consumer cannot begin: {text}"), out);
                self.consumer_is_unreadable(slot, consumer);
                let count = self.jobs.counts.entry((stream, consumer)).or_default();
                count.failures += 1;
                let (failures, requester) = (count.failures, count.requester.take());
                if let Some(requester) = requester {
                    let error = kinds::CONSUMER_CREATE.with(&text);
                    self.refuse_request(&requester, ResponseType::ConsumerCreate, &error, out);
                }
                (Job::Count(stream, consumer), failures)
            }
            Job::RemoveStream { slot, failures } => {
                self.complain(slot, format_args!("what is left of it stays: {text}"), out);
                (Job::RemoveStream { slot, failures: failures + 1 }, failures + 1)
            }
            job => (job, 1),
        };
        let pause = PAGE_AGAIN << (failures - 1).min(PAGE_DOUBLINGS);
        self.jobs.next += 1;
        self.jobs.later.insert((self.clocks.now.plus(pause), self.jobs.next), job);
        Stepped::Moved
    }

    /// A consumer that cannot count is there, and begins when the index can be read: until then,
    /// what is asked of it is refused.
    fn consumer_is_unreadable(&mut self, slot: usize, consumer: ConsumerId) {
        let consumers = &mut self.streams[slot].consumers;
        if let Some(&at) = consumers.by_id.get(&consumer) {
            let name = consumers.slab[at].name.clone();
            if consumers.is_changing(&name) && !consumers.unreadable.contains(&name) {
                consumers.unreadable.push(name);
                self.requests.consumer_changed = true;
            }
        }
    }

    fn step_purge(&mut self, id: u64, out: &mut impl ShardEffects) -> Stepped {
        let Some(mut purge) = self.jobs.purges.remove(&id) else { return Stepped::Finished };
        let Some(&slot) = self.slots.get(&purge.stream) else {
            self.jobs.requested_purges -= usize::from(purge.requester.is_some());
            self.stream_is_gone(purge.requester.as_ref(), ResponseType::StreamPurge, out);
            return Stepped::Finished;
        };
        if purge.ahead >= PURGE_AHEAD {
            return self.park_purge(purge);
        }
        let mut budget = self.options.job_visits;
        match purge.job.step(&mut self.streams[slot].index, PURGE_MESSAGES, &mut budget) {
            PurgeStep::Remove { from, to, .. } => {
                if self.append_purge(&mut purge, slot, from, to) {
                    self.jobs.purges.insert(id, purge);
                    return Stepped::Again(Job::Purge(id));
                }
                purge.refused = Some(kinds::INSUFFICIENT_RESOURCES.error());
                self.purge_is_through(purge, out)
            }
            PurgeStep::Budget => {
                self.jobs.purges.insert(id, purge);
                Stepped::Again(Job::Purge(id))
            }
            PurgeStep::NeedPage(key) => {
                self.jobs.purges.insert(id, purge);
                self.page_for(slot, key, Job::Purge(id), out)
            }
            PurgeStep::Done => self.purge_is_through(purge, out),
        }
    }

    /// No more records of a purge will be appended.
    fn purge_is_through(&mut self, mut purge: Purge, out: &mut impl ShardEffects) -> Stepped {
        purge.done = true;
        if purge.ahead == 0 {
            self.purge_finished(purge, out);
            return Stepped::Finished;
        }
        self.park_purge(purge)
    }

    /// A purge waits for its records to be applied.
    fn park_purge(&mut self, mut purge: Purge) -> Stepped {
        purge.parked = true;
        self.jobs.purges.insert(purge.id, purge);
        Stepped::Moved
    }

    /// Appends one record of a purge. False if there is no room for it, not even in the reserve.
    fn append_purge(&mut self, purge: &mut Purge, slot: usize, from: u64, to: u64) -> bool {
        let (job, stream, mut body) = (purge.id, purge.stream, Vec::new());
        PurgeBody { from, to, filter: &purge.filter }.encode(&mut body);
        let change = || Change::Purged { job, stream };
        let appended = self.append_removal(slot, kind::PURGE, 0, &body, change);
        purge.ahead += usize::from(appended.is_ok());
        appended.is_ok()
    }

    /// A step of a purge was applied.
    pub(super) fn purge_step_done(
        &mut self,
        job: u64,
        outcome: Outcome,
        out: &mut impl ShardEffects,
    ) {
        let Some(purge) = self.jobs.purges.get_mut(&job) else { return };
        purge.ahead -= 1;
        purge.purged += outcome.removed;
        if let Some(text) = outcome.failed {
            purge.refused.get_or_insert_with(|| kinds::STREAM_GENERAL.with(text));
        }
        let (stream, filter) = (purge.stream, purge.filter.clone());
        if let Some(&slot) = self.slots.get(&stream) {
            self.consumers_after_purge(slot, &filter);
        }
        let Some(purge) = self.jobs.purges.get_mut(&job).filter(|p| p.parked) else { return };
        if !purge.done {
            purge.parked = false;
            self.jobs.add(Job::Purge(job));
        } else if purge.ahead == 0
            && let Some(purge) = self.jobs.purges.remove(&job)
        {
            self.purge_finished(purge, out);
        }
    }

    /// A purge up to a sequence that was not given yet: the stream goes on from there. One of all
    /// that a stream holds that was never used: it shows its first sequence from now on. Decided
    /// only while nothing is there and nothing under way, so that replay finds the same.
    fn skip_ahead(&mut self, purge: &mut Purge) -> bool {
        let Some(&slot) = self.slots.get(&purge.stream) else { return false };
        let (skip_to, whole) = (purge.skip_to.take(), std::mem::take(&mut purge.whole));
        let stream = &mut self.streams[slot];
        if stream.index.messages() > 0 || stream.admission.in_flight() > 0 {
            return false;
        }
        let to = match skip_to.filter(|&to| to > stream.index.last_seq() + 1) {
            Some(to) => to,
            None if whole && stream.is_untouched() => stream.index.first_seq(),
            None => return false,
        };
        if !self.append_purge(purge, slot, to, to) {
            // What a stream shows is no reason to refuse anything.
            if skip_to.is_some() {
                purge.refused = Some(kinds::INSUFFICIENT_RESOURCES.error());
            }
            return false;
        }
        self.streams[slot].admission.skip_to(to);
        true
    }

    fn purge_finished(&mut self, mut purge: Purge, out: &mut impl ShardEffects) {
        if purge.refused.is_none() && self.skip_ahead(&mut purge) {
            self.park_purge(purge);
            return;
        }
        if let Some(&slot) = self.slots.get(&purge.stream) {
            self.consumers_after_purge(slot, &purge.filter);
            for at in self.streams[slot].consumers.settle(&purge.filter) {
                self.with_consumer(slot, at, out, |_, _| ());
            }
            if purge.refused.is_some() && purge.requester.is_none() {
                self.age_again(slot, self.clocks.now);
            } else {
                self.watch_age(slot);
            }
        }
        if let Some(requester) = purge.requester {
            self.jobs.requested_purges -= 1;
            let kind = ResponseType::StreamPurge;
            if let Some(error) = purge.refused {
                return self.refuse_request(&requester, kind, &error, out);
            }
            let mut body = Vec::new();
            let answer = PurgeResponse { success: true, purged: purge.purged };
            write_response(&mut body, kind, &answer);
            self.answer(&requester, &body, out);
        }
    }

    fn step_count(
        &mut self,
        now: Timestamp,
        stream: StreamId,
        consumer: ConsumerId,
        out: &mut impl ShardEffects,
    ) -> Stepped {
        let key = (stream, consumer);
        let Some(mut count) = self.jobs.counts.remove(&key) else { return Stepped::Finished };
        let Some((slot, at)) = self.locate(stream, consumer) else {
            self.stream_is_gone(count.requester.as_ref(), ResponseType::ConsumerCreate, out);
            return Stepped::Finished;
        };
        let ShardStream { consumers, index, .. } = &mut self.streams[slot];
        let c = &mut consumers.slab[at];
        let looked_up = c.check_start_set(now, index, count.checked, self.options.job_visits);
        if let Some(next) = looked_up {
            count.checked = next;
            self.jobs.counts.insert(key, count);
            return Stepped::Again(Job::Count(stream, consumer));
        }
        count.checked = u64::MAX;
        let Some(delivery) = &mut c.delivery else {
            // It is led no longer.
            if let Some(requester) = &count.requester {
                self.release(requester, out);
            }
            return Stepped::Finished;
        };
        let position = delivery.progress().position;
        let id = *count.count.get_or_insert_with(|| index.start_count(c.filter.clone(), position));
        let mut budget = self.options.job_visits;
        match index.step_count(id, &mut budget) {
            CountStep::Done(pending) => {
                // Limits, deletions and purges did not reach it since its start was decided.
                c.catch_up(now, index);
                consumers.join(at, position, pending, index.last_seq());
                self.consumer_joined(now, slot, at, count.requester.as_ref(), out);
                Stepped::Finished
            }
            CountStep::Budget => {
                self.jobs.counts.insert(key, count);
                Stepped::Again(Job::Count(stream, consumer))
            }
            CountStep::NeedPage(page) => {
                self.jobs.counts.insert(key, count);
                self.page_for(slot, page, Job::Count(stream, consumer), out)
            }
        }
    }

    fn step_stream_removal(
        &mut self,
        slot: usize,
        failures: u32,
        out: &mut impl ShardEffects,
    ) -> Stepped {
        if self.checkpoint.still_needs(slot) {
            self.jobs.checkpointed.push(slot);
            return Stepped::Moved;
        }
        if !self.streams.contains(slot) {
            return Stepped::Finished;
        }
        let filter = FilterSet::all();
        let mut all = Removal::Range { from: 0, to: u64::MAX, filter };
        match self.step_removal(slot, &mut all, &mut { self.options.job_visits }) {
            Progress::Done => {
                self.forget_stream(slot);
                self.report_missing(out);
                Stepped::Finished
            }
            Progress::Budget => Stepped::Again(Job::RemoveStream { slot, failures: 0 }),
            Progress::NeedPage(key) => {
                self.page_for(slot, key, Job::RemoveStream { slot, failures }, out)
            }
        }
    }

    /// Removes what is older than the stream allows, by records of the log: a restart must not
    /// depend on its clock.
    fn step_age(
        &mut self,
        now: Timestamp,
        stream: StreamId,
        out: &mut impl ShardEffects,
    ) -> Stepped {
        let Some(&slot) = self.slots.get(&stream) else { return Stepped::Finished };
        let state = &self.streams[slot];
        let Some(limit) = state.retention.expired_at_or_before(now) else {
            return Stepped::Finished;
        };
        let first = state.index.first_seq();
        let (within, time) = state.admission.times().stored_after(limit);
        match self.first_since(slot, time.0.saturating_add(1)) {
            Ok(keep) => {
                let index = &self.streams[slot].index;
                let keep = keep.clamp(within.start, within.end).min(index.last_seq() + 1);
                let keep = index.next_live(keep).unwrap_or(index.last_seq() + 1);
                let ages = |p: &Purge| p.stream == stream && p.requester.is_none();
                let busy = self.jobs.purges.values().any(ages);
                if keep > first && !busy {
                    self.start_purge(stream, b"", Some(keep), 0, None);
                }
                match self.time_of(slot, keep) {
                    Ok(ts) => {
                        let at = WallTime(ts);
                        self.streams[slot].first_time = (keep, at);
                        self.age_at(slot, self.streams[slot].stored_at(keep, at));
                    }
                    Err(Unread::NotThere) => {}
                    Err(_) => self.age_again(slot, now),
                }
                Stepped::Finished
            }
            Err(Unread::Wait(Wait::Read(read))) => Stepped::Reading(read, Job::Age { stream }),
            Err(Unread::Wait(_)) => Stepped::Again(Job::Age { stream }),
            Err(Unread::NotThere) => Stepped::Finished,
            Err(Unread::Failed(text)) => {
                self.complain(slot, format_args!("removal by age waits: {text}"), out);
                self.age_again(slot, now);
                Stepped::Finished
            }
        }
    }

    fn age_at(&mut self, slot: usize, stored: Timestamp) {
        let stream = &mut self.streams[slot];
        if let Some(due) = stream.retention.deadline(stored) {
            if let Some(old) = stream.age_due.replace(due) {
                self.jobs.ages.remove(&(old, stream.id));
            }
            self.jobs.ages.insert((due, stream.id));
        }
    }

    pub(super) fn forget_age(&mut self, due: Timestamp, stream: StreamId) {
        self.jobs.ages.remove(&(due, stream));
    }

    fn age_again(&mut self, slot: usize, now: Timestamp) {
        let stream = &mut self.streams[slot];
        let due = now.plus(AGE_AGAIN);
        stream.age_due = Some(due);
        self.jobs.ages.insert((due, stream.id));
    }
}
