//! The shard: the actor that owns streams, consumers and one log.
//!
//! Purpose: everything that happens to the streams of one core, decided synchronously. Messages
//! come in by `capture`, device completions by `disk_done`, other shards' messages by `receive`;
//! `step`, once a turn, lets things take effect and gives what follows to [`ShardEffects`]. It must
//! not know reactors, sockets, clocks or io_uring. One per shard id of a node; a reactor may host
//! several.
//!
//! Invariants: nothing is applied, answered or delivered before its record may be acknowledged, and
//! all is applied in the order of the log; sequences are assigned at admission; a request that must
//! wait for a read is run again from its beginning, so it changes nothing before its last step.

mod api;
mod apply;
pub mod budget;
mod catalogue;
mod checkpoint;
mod compaction;
mod consumers;
pub mod effects;
mod inspect;
mod jobs;
mod live_audit;
pub mod mailbox;
mod memory_audit;
mod records;
mod recovery;
pub mod report;
mod state_digest;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use corelane_storage::device::{Done, Op};
use corelane_storage::envelope::LOCAL_GROUP;
use corelane_storage::log::{AppendError, Log, ReadId};
use corelane_storage::record::{MetaIn, RecordIn};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::interest::{Captured, Target, WatchId};
use crate::types::{Clocks, ConsumerId, SegmentId, ShardId, StreamId, Timestamp};
use api::requests::Request;
pub use apply::APPLY_ITEMS;
use apply::groups::{GroupName, Groups, Pipeline};
use apply::pending::{Change, Unlogged};
pub use checkpoint::CheckpointOptions;
pub use compaction::sort::SortOptions;
pub use effects::{Outgoing, ShardEffects, StreamPlacement};
pub use jobs::STEP_VISITS as JOB_VISITS;
pub use live_audit::{Audited, LiveAudit};
pub use mailbox::ShardMessage;
pub use recovery::{Opened, ShardOptions};
pub use state_digest::StateDigest;
use streams::stream::ShardStream;

const NO_SEGMENT: SegmentId = SegmentId(u32::MAX);

/// One shard.
pub struct Shard {
    id: ShardId,
    options: ShardOptions,
    log: Log,
    /// Entries on their way to being applied.
    groups: Groups,
    streams: slab::Slab<ShardStream>,
    slots: HashMap<StreamId, usize, FixedState>,
    names: HashMap<Box<[u8]>, usize, FixedState>,
    inbox: VecDeque<Request>,
    /// Requests that wait for a read.
    waiting: Vec<(ReadId, Request)>,
    /// Requests that wait until a change of their consumer took effect.
    held_back: Vec<Request>,
    /// One did.
    consumer_changed: bool,
    /// Segment and bytes that became live and were not told to the log yet.
    live: (SegmentId, u32),
    /// Index pages that were read from the log since the start.
    pages_read: u64,
    /// Credit to give back, by reactor and kind.
    credit: Vec<[u64; 2]>,
    scratch: Vec<u8>,
    /// The subject of the message that is being applied.
    subject: Vec<u8>,
    /// The body of the record that is being applied.
    body: Vec<u8>,
    /// Streams with something for their consumers.
    active: Vec<usize>,
    ops: Vec<Op>,
    jobs: jobs::Jobs,
    /// Publishes that wait until something is looked up, by stream.
    parked: BTreeMap<StreamId, streams::parked::Parked>,
    /// Index entries that publishes of this turn may still have looked up.
    look_up_visits: u32,
    meta: Option<catalogue::leader::Meta>,
    decisions: catalogue::follow::Decisions,
    checkpoint: checkpoint::Checkpointer,
    reclaim: compaction::relocate::Reclaim,
    sort: compaction::sort::Sort,
    /// What is damaged and not served.
    isolated: recovery::load::Isolated,
    reads_over: Vec<ReadId>,
    failure: Option<String>,
    api_total: u64,
    api_errors: u64,
    /// When consumers are to be ticked.
    timers: BTreeSet<(Timestamp, StreamId, ConsumerId)>,
    /// Consumers that were inactive for too long.
    expired: Vec<(StreamId, ConsumerId)>,
    /// Consumers with something to log.
    dirty_consumers: BTreeSet<(StreamId, ConsumerId)>,
    deltas: consumers::Deltas,
    /// Consumers that wait for a read.
    blocked_consumers: Vec<(ReadId, StreamId, ConsumerId)>,
    /// Watched deliver subjects.
    watches: BTreeMap<WatchId, (StreamId, ConsumerId)>,
    next_consumer: u64,
    /// Consumers that recovery found; they join at the start.
    recovered: Vec<(StreamId, ConsumerId)>,
    lines: Vec<String>,
    tally: budget::WorkTally,
    /// What this turn may still do.
    turn: budget::TurnBudget,
    random: u64,
    /// Those of this turn.
    clocks: Clocks,
    /// Bytes held by memory streams and by file streams.
    used: [u64; 2],
    /// As the other shards know it.
    usage_reported: [u64; 2],
    /// What the other shards hold, by shard.
    used_elsewhere: Vec<[u64; 2]>,
    /// The server goes away: whether the record that says so was appended.
    stopping: Option<bool>,
    /// The log ended with that record when it was opened.
    stopped_clean: bool,
    /// Nothing is delivered before this is durable.
    begun: crate::types::Lsn,
    /// Segments without a file are still to be reported.
    judge_missing: bool,
}

impl Shard {
    /// Its id.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// What the clocks say from now on; inputs and steps of the turn have the same time.
    pub fn set_clocks(&mut self, clocks: Clocks) {
        self.clocks = clocks;
    }

    /// A message for one of the shard's streams, or a request.
    pub fn capture(&mut self, now: Timestamp, m: &Captured<'_>) {
        self.note_load(now);
        match m.target {
            _ if self.stopping.is_some() => {
                self.owe_credit(m.target.credit(), m.origin, m.credit_bytes);
            }
            Target::Stream { stream, .. } => self.publish(now, stream, m),
            _ => self.request(m),
        }
    }

    /// A device operation is over.
    pub fn disk_done(&mut self, done: Done) {
        match self.log.complete(done, &mut self.ops, &mut self.groups) {
            Ok(progress) => {
                if let Some(read) = progress.read {
                    self.reads_over.push(read);
                }
                if let Some(id) = progress.checkpoint {
                    self.checkpoint.durable(id);
                }
            }
            Err(failure) => self.failure = Some(failure.message),
        }
    }

    /// A turn begins, which may have several steps. The reactor hosts `shards` shards in all.
    /// Nothing keeps the background work of one that is `favoured` from going on.
    pub fn begin_turn(&mut self, shards: usize, favoured: bool) {
        self.tally.units_max = self.tally.units_max.max(self.turn.spent());
        self.turn = budget::TurnBudget::share(shards, favoured);
        self.look_up_visits = streams::parked::TURN_VISITS;
    }

    /// Lets things take effect: after the inputs of a turn, and again after what they led to.
    pub fn step(&mut self, now: Timestamp, out: &mut impl ShardEffects) {
        if let Some(failure) = self.failure.take() {
            out.fatal(&failure);
            return;
        }
        self.tally.steps += 1;
        self.log.tick(now.0, &mut self.ops);
        self.reads_are_over(out);
        self.run_decisions();
        self.apply(now, out);
        self.run_requests(now, out);
        if self.stopping.is_none() {
            self.run_jobs(now, out);
        }
        if self.delivers() {
            self.serve_consumers(now, out);
        }
        self.report_usage(out);
        self.record_acknowledgements();
        if self.stopping != Some(true) {
            self.step_checkpoint(now);
            self.job_checkpoint_went_on();
        }
        if self.stopping.is_none() {
            self.step_reclaim(now);
            self.step_sort(now);
        }
        self.record_stop();
        self.return_credit(out);
        self.log.seal(&mut self.ops, &mut self.groups);
    }

    /// Takes the device operations to start.
    pub fn take_ops(&mut self, mut each: impl FnMut(Op)) {
        for op in self.ops.drain(..) {
            each(op);
        }
    }

    /// When `step` has something to do although nothing comes in.
    pub fn deadline(&self) -> Option<Timestamp> {
        if self.stopping.is_some() {
            return self.log.deadline().map(Timestamp);
        }
        let log = self.log.deadline().map(Timestamp);
        let checkpoint = self.checkpoint_deadline();
        let reclaim = self.reclaim_deadline();
        let (consumers, jobs) = (self.consumers_deadline(), self.jobs_deadline());
        let apply = self.groups.iter().filter_map(Pipeline::retry_at).min();
        let mut next = [log, consumers, jobs, checkpoint, reclaim, self.sort_deadline(), apply];
        next.sort_unstable();
        next.into_iter().flatten().min()
    }

    /// True if `step` would go on at once, where there is room for messages to be sent.
    pub fn has_work(&self, room: bool) -> bool {
        !self.inbox.is_empty()
            || self.consumer_changed && !self.held_back.is_empty()
            || self.groups.iter().any(Pipeline::is_due)
            || self.log.reads_are_stalled()
            || self.deltas.wait
            || room && self.delivers() && !self.active.is_empty()
            || self.stopping.is_none() && (self.jobs_are_ready() || self.can_swap())
            || self.stopping != Some(true) && self.checkpoint_is_ready()
    }

    fn delivers(&self) -> bool {
        self.stopping.is_none() && self.log.durable() >= self.begun
    }

    fn mark_active(&mut self, slot: usize) {
        let cell = &mut self.streams[slot];
        if !cell.active {
            cell.active = true;
            self.active.push(slot);
        }
    }

    /// Appends a record other than a message to a group.
    fn append_meta(
        &mut self,
        group: GroupName,
        kind: u16,
        stream: u64,
        id: u64,
        body: &[u8],
    ) -> Result<(), AppendError> {
        let record = RecordIn::Meta(MetaIn { kind, stream, id, body, relocated: false });
        let (_, len) = self.groups.append(group, &mut self.log, &record)?;
        if group != GroupName::Memory {
            self.checkpoint.appended += u64::from(len);
        }
        Ok(())
    }

    /// Has a record take effect in its turn: once it is committed, or behind what was appended
    /// before it, if the log is not to have it.
    fn append_change(
        &mut self,
        logged: bool,
        group: GroupName,
        kind: u16,
        stream: StreamId,
        id: u64,
        body: &[u8],
    ) -> Result<(), AppendError> {
        if logged {
            return self.append_meta(group, kind, stream.0, id, body);
        }
        let body = body.into();
        self.wait_for_appended(group, Change::Unlogged(Unlogged { kind, stream, id, body }));
        Ok(())
    }

    /// Appends a record that is of this log alone.
    fn append_local(&mut self, kind: u16, id: u64) -> Result<(), AppendError> {
        let record = MetaIn { kind, stream: 0, id, body: b"", relocated: false };
        let appended = self.log.append(LOCAL_GROUP, &RecordIn::Meta(record))?;
        self.checkpoint.appended += u64::from(appended.len);
        Ok(())
    }

    /// What follows once all that was appended to a group is applied.
    fn wait_for_appended(&mut self, group: GroupName, change: Change) {
        let pipeline = self.groups.get_mut(group);
        let place = pipeline.appended();
        pipeline.waiting.push(place, change);
    }

    /// The next number of the shard's own generator (SplitMix64).
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The server goes away: waiting pulls are told to ask elsewhere.
    pub fn shut_down(&mut self, out: &mut impl ShardEffects) {
        let slots: Vec<usize> = self.slots.values().copied().collect();
        for slot in slots {
            let all: Vec<usize> = self.streams[slot].consumers.by_name.values().copied().collect();
            for at in all {
                self.with_consumer(slot, at, out, |c, sink| c.shutdown(sink));
            }
        }
        self.log.request_flush();
        self.checkpoint.wanted = true;
        self.stopping.get_or_insert(false);
    }

    /// Once all that consumers owe the log is in it, a last record says that nothing is missing:
    /// the next start need not guess what was delivered after.
    fn record_stop(&mut self) {
        if self.stopping == Some(false)
            && self.inbox.is_empty()
            && self.waiting.is_empty()
            && self.checkpoint.is_idle()
        {
            // Without room for it, or for what consumers owe, the next start takes this for a
            // crash, which is safe.
            if self.dirty_consumers.is_empty() {
                let _ = self.append_local(records::kind::STOPPED, 0);
            }
            self.log.request_flush();
            self.stopping = Some(true);
        }
    }

    /// After a start from a log that ended in order: what is delivered from now on may be more than
    /// the log knows, and must not be taken for nothing after a crash.
    fn record_begin(&mut self) {
        let begun = records::BEGUN;
        if self.stopped_clean && self.append_local(records::kind::STOPPED, begun).is_ok() {
            self.begun = self.log.appended();
            self.log.request_flush();
        }
    }

    /// True once a shard that was shut down has nothing under way any more.
    pub fn is_at_rest(&self) -> bool {
        self.stopping == Some(true)
            && self.groups.iter().all(|g| g.is_idle() || g.retry_at().is_some())
            && self.log.durable() >= self.log.appended()
    }

    /// What its handlers did.
    pub fn tally(&self) -> &budget::WorkTally {
        &self.tally
    }

    /// What it keeps for what is under way.
    pub fn footprint(&self) -> report::Footprint {
        let consumers: usize = self.streams.iter().map(|(_, s)| s.consumers.slab.len()).sum();
        report::Footprint {
            requests: self.inbox.len() + self.waiting.len() + self.held_back.len(),
            blocked: self.blocked_consumers.len(),
            expired: self.expired.len(),
            timers: self.timers.len().saturating_sub(consumers),
            parked: self.parked.len(),
            pending: self.groups.iter().filter(|group| !group.is_idle()).count(),
        }
    }

    /// Counters for monitoring.
    pub fn report(&self) -> report::ShardReport {
        let (segments, live_bytes) = self.log.usage();
        let reserved = self
            .meta
            .as_ref()
            .map_or((0, 0), |m| m.catalogue.reserved_bytes(catalogue::leader::ACCOUNT));
        report::ShardReport {
            shard: self.options.id.0,
            usage: self.usage(),
            messages: self.streams.iter().map(|(_, cell)| cell.index.messages()).sum(),
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
}
