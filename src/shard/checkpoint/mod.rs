//! Checkpoints: what lives is written into the log page by page, so that replay begins there.
//!
//! A checkpoint is frozen when everything up to an `Lsn` is applied and nothing behind it; from
//! then on a stream or a consumer is frozen before it changes, or when its turn comes, whichever is
//! first. Streams, configurations, duplicate windows and consumers are those of the freeze. The
//! catalogue is written as it is when its turn comes, with the place up to which its records are
//! applied: replay leaves those out. The root comes last, so
//! it is durable after everything that it names; what it supersedes is dead when the superblock
//! names it.

mod write;

use std::collections::BTreeMap;

use corelane_storage::index::{Location, PageKey};
use corelane_storage::log::{Commit, SpaceState};
use corelane_storage::record::{MetaIn, RecordIn};
use corelane_storage::superblock::CheckpointRef;

use crate::api::json::to_json;
use crate::api::types::StorageType;
use crate::meta::Record;
use crate::shard::budget::{Background, Handler};
use crate::shard::groups::Pipeline;
use crate::shard::records::checkpoint::{DedupePage, Root, StreamState, Upto};
use crate::shard::records::{ConfigBody, kind, put_counted};
use crate::shard::state::Shard;
use crate::shard::state::checkpoint::{
    CheckpointPause, CheckpointRun, CheckpointStage, CheckpointStep, StreamPart,
};
use crate::shard::state::consumers::ShardConsumer;
use crate::types::{Lsn, StreamId, Timestamp};

/// Bytes that one step writes.
const STEP_BYTES: usize = 192 << 10;
/// Streams, consumers and pages that one step visits.
const STEP_VISITS: usize = 128;
/// Index entries that are looked at in the time of such a visit.
const VISIT_ENTRIES: u32 = 16;
/// Nothing is written while more than this waits for the disk.
const UNFLUSHED_MAX: usize = 8 << 20;
/// How soon to try again without space, in nanoseconds.
const RETRY: i64 = 100_000_000;
/// Bytes of a page of the catalogue.
const CATALOGUE_PAGE: usize = 64 << 10;
/// Pages of indexes that one step of eviction may drop, in bytes.
const EVICT_STREAMS: usize = 64;

impl Shard {
    /// To be called before a stream changes: freezes it if a checkpoint still has to.
    #[inline]
    pub(in crate::shard) fn before_change(&mut self, slot: usize) {
        if self.streams[slot].checkpointed.epoch != self.checkpoint.epoch {
            self.freeze_stream(slot);
        }
    }

    #[cold]
    fn freeze_stream(&mut self, slot: usize) {
        let stream = &mut self.streams[slot];
        stream.checkpointed.epoch = self.checkpoint.epoch;
        stream.checkpointed.config_before = None;
        if !stream.is_memory() {
            stream.checkpointed.last_seq = stream.index.last_seq();
            stream.checkpointed.moved |= stream.index.freeze().is_some();
        }
    }

    /// To be called before a stream's configuration changes.
    pub(in crate::shard) fn before_update(&mut self, slot: usize) {
        self.before_change(slot);
        let needed = self.checkpoint.still_needs(slot);
        let stream = &mut self.streams[slot];
        let frozen = stream.checkpointed.born != self.checkpoint.epoch && !stream.is_memory();
        if needed && frozen && stream.checkpointed.config_before.is_none() {
            stream.checkpointed.config_before = Some(write::config_body(stream));
        }
    }

    /// To be called before a consumer's ledger or configuration changes: it is frozen if a
    /// checkpoint still has to be written as it is.
    pub(in crate::shard) fn before_consumer(&mut self, slot: usize, at: usize) {
        let epoch = self.checkpoint.epoch;
        let needed = self.checkpoint.still_needs(slot);
        let memory = self.streams[slot].is_memory();
        let c = &mut self.streams[slot].consumers.slab[at];
        let recorded = !memory && !c.ledger.settings().volatile;
        if c.checkpointed.epoch != epoch {
            c.checkpointed.epoch = epoch;
            c.checkpointed.before = (needed && recorded).then(|| {
                let mut body = Vec::new();
                c.encode(&mut body);
                body
            });
        }
        c.checkpointed.changed = true;
    }

    /// A consumer is gone: no checkpoint names what was stored of it, from the one on that is being
    /// written, if it did not come to it yet.
    pub(in crate::shard) fn consumer_gone(&mut self, slot: usize, gone: &ShardConsumer) {
        let Some(location) = gone.checkpointed.location else { return };
        let needed = self.checkpoint.still_needs(slot);
        match &mut self.checkpoint.run {
            Some(run) if needed && !run.consumers.contains_key(&gone.id) => {
                run.supersede([location]);
            }
            _ => self.checkpoint.orphans.push(location),
        }
    }

    /// A consumer appears: it is not part of a checkpoint that is being written.
    pub(in crate::shard) fn consumer_born(&mut self, slot: usize, at: usize) {
        let epoch = self.checkpoint.epoch;
        let stored = &mut self.streams[slot].consumers.slab[at].checkpointed;
        (stored.born, stored.epoch, stored.changed) = (epoch, epoch, true);
    }

    pub(in crate::shard) fn checkpoint_deadline(&self) -> Option<Timestamp> {
        let c = &self.checkpoint;
        if c.run.is_some() {
            return c.retry_at;
        }
        let waits = c.committing.is_some() || self.groups.are_stuck();
        if c.appended == 0 || waits || !self.has_room_for_checkpoint() {
            return None;
        }
        let options = &self.options.checkpoint;
        Some(c.changed_at.plus(options.idle_ns).max(c.begun_at.plus(options.gap_ns)))
    }

    pub(in crate::shard) fn checkpoint_is_ready(&self) -> bool {
        let c = &self.checkpoint;
        let writing =
            c.run.is_some() && c.retry_at.is_none() && self.log.unflushed_bytes() < UNFLUSHED_MAX;
        writing || c.evicting.is_some()
    }

    /// Whether there is nothing that the next start would have to replay.
    pub fn is_settled(&self) -> bool {
        self.checkpoint.appended == 0
            && !self.checkpoint.is_busy()
            && self.groups.iter().all(Pipeline::is_idle)
    }

    /// Makes or continues a checkpoint: once a step, when what is durable is applied.
    pub(in crate::shard) fn step_checkpoint(&mut self, now: Timestamp) {
        if self.checkpoint.seen != self.checkpoint.appended {
            self.checkpoint.seen = self.checkpoint.appended;
            self.checkpoint.changed_at = now;
        }
        if let Some(id) = self.checkpoint.durable.take() {
            self.checkpoint_is_durable(id);
        }
        self.evict_pages();
        if !self.checkpoint.is_busy() {
            // A stop does not wait for what cannot be.
            self.checkpoint.wanted &= self.has_room_for_checkpoint() && !self.groups.are_stuck();
            if self.checkpoint_is_due(now) {
                self.begin_checkpoint(now);
            }
        }
        if self.checkpoint.retry_at.is_some_and(|at| at > now) {
            return;
        }
        self.checkpoint.retry_at = None;
        if self.log.unflushed_bytes() >= UNFLUSHED_MAX {
            return;
        }
        if self.checkpoint.run.is_none() || !self.turn.may_step(Background::Checkpoint) {
            return;
        }
        let Some(mut run) = self.checkpoint.run.take() else { return };
        (run.left, run.visits) = (STEP_BYTES, STEP_VISITS);
        let before = self.tally.work;
        let advanced = self.advance_checkpoint(&mut run);
        self.turn.copied(self.tally.work.written - before.written);
        self.turn.visited((STEP_VISITS - run.visits) as u32 * VISIT_ENTRIES);
        self.tally.note(Handler::Checkpoint, before);
        match advanced {
            Ok(()) => {}
            Err(pause) => {
                if matches!(pause, CheckpointPause::NoRoom) {
                    self.checkpoint.retry_at = Some(now.plus(RETRY));
                }
                self.checkpoint.run = Some(run);
            }
        }
    }

    /// On a full disk the reserve is not spent on a checkpoint that frees nothing.
    fn has_room_for_checkpoint(&self) -> bool {
        self.log.space() == SpaceState::Available
            || self.log.segments().any(|s| s.live == 0 && !s.open)
    }

    fn checkpoint_is_due(&self, now: Timestamp) -> bool {
        let (c, options) = (&self.checkpoint, &self.options.checkpoint);
        if c.appended == 0 || !self.has_room_for_checkpoint() {
            return false;
        }
        let bytes = (2 * c.last_bytes).clamp(options.bytes_min, options.bytes_max);
        c.wanted || c.appended >= bytes || self.checkpoint_deadline().is_some_and(|at| at <= now)
    }

    /// Freezes, if everything durable is applied.
    fn begin_checkpoint(&mut self, now: Timestamp) {
        let frontier = self.log.acknowledgeable();
        if !self.groups.iter().all(Pipeline::is_caught_up) {
            return;
        }
        let Some(replay) = self.log.replay_point(frontier) else { return };
        self.settle_live();
        let live = self.log.segments().filter(|s| s.live > 0);
        let mut run = CheckpointRun {
            replay,
            live: live.map(|s| (s.segment, s.live as i64)).collect(),
            superseded: Vec::new(),
            moved: Vec::new(),
            root: Root::default(),
            holds_entries: self.checkpoint.appended > self.checkpoint.relocations,
            groups: self.groups.applied_states(),
            stage: CheckpointStage::Stream(0, StreamPart::Index),
            page: None,
            body: Vec::new(),
            consumers: BTreeMap::new(),
            bytes: 0,
            left: 0,
            visits: 0,
        };
        run.supersede(std::mem::take(&mut self.checkpoint.orphans));
        for (segment, live) in self.reclaim.unswapped() {
            *run.live.entry(segment).or_default() -= i64::from(live);
        }
        run.moved = self.reclaim.take_moved();
        for &(segment, live) in &run.moved {
            *run.live.entry(segment).or_default() -= i64::from(live);
        }
        let c = &mut self.checkpoint;
        c.epoch += 1;
        c.wanted = false;
        c.relocations = 0;
        c.begun_at = now;
        // What is on its way is behind the freeze.
        c.appended = self.log.unflushed_hot_bytes() as u64;
        c.seen = c.appended;
        c.run = Some(Box::new(run));
    }

    fn advance_checkpoint(&mut self, run: &mut CheckpointRun) -> CheckpointStep {
        loop {
            match &mut run.stage {
                CheckpointStage::Stream(slot, _) if *slot >= self.streams.capacity() => {
                    run.stage = CheckpointStage::Catalogue(None);
                    self.begin_catalogue(run);
                }
                CheckpointStage::Stream(slot, _) => {
                    let slot = *slot;
                    self.write_stream(run, slot)?;
                    run.stage = CheckpointStage::Stream(slot + 1, StreamPart::Index);
                }
                CheckpointStage::Catalogue(after) => {
                    let after = after.take();
                    match self.write_catalogue(run, after.as_ref()) {
                        Ok(Some(next)) => run.stage = CheckpointStage::Catalogue(Some(next)),
                        Ok(None) => run.stage = CheckpointStage::Root,
                        Err(pause) => {
                            run.stage = CheckpointStage::Catalogue(after);
                            return Err(pause);
                        }
                    }
                }
                CheckpointStage::Root => return self.write_root(run),
            }
        }
    }

    /// Appends what is in `run.body`.
    fn write_record(
        &mut self,
        run: &mut CheckpointRun,
        kind: u16,
        stream: StreamId,
        id: u64,
    ) -> CheckpointStep<(Location, Lsn)> {
        let meta = MetaIn { kind, stream: stream.0, id, body: &run.body, relocated: false };
        let done = self.log.append_cold(&RecordIn::Meta(meta), None)?;
        *run.live.entry(done.position.segment).or_default() += i64::from(done.len);
        run.bytes += u64::from(done.len);
        self.tally.work.written += u64::from(done.len);
        run.left = run.left.saturating_sub(done.len as usize);
        Ok((Location { position: done.position, len: done.len }, done.lsn))
    }

    fn write_stream(&mut self, run: &mut CheckpointRun, slot: usize) -> CheckpointStep {
        let Some(stream) = self.streams.get(slot) else { return Ok(()) };
        if stream.is_memory() || stream.checkpointed.born == self.checkpoint.epoch {
            return Ok(());
        }
        run.visit()?;
        self.before_change(slot);
        loop {
            let CheckpointStage::Stream(_, part) = run.stage else { return Ok(()) };
            let next = match part {
                StreamPart::Index => {
                    self.write_index(run, slot)?;
                    StreamPart::Config
                }
                StreamPart::Config => {
                    self.write_config(run, slot)?;
                    StreamPart::Dedupe(0)
                }
                StreamPart::Dedupe(from) => match self.write_dedupe(run, slot, from)? {
                    Some(number) => StreamPart::Dedupe(number + 1),
                    None => {
                        run.consumers.clear();
                        StreamPart::Consumers(0)
                    }
                },
                StreamPart::Consumers(from) => match self.write_consumer(run, slot, from)? {
                    Some(at) => StreamPart::Consumers(at + 1),
                    None => StreamPart::State,
                },
                StreamPart::State => {
                    self.write_state(run, slot)?;
                    return Ok(());
                }
            };
            run.stage = CheckpointStage::Stream(slot, next);
        }
    }

    fn checkpoint_is_durable(&mut self, id: u64) {
        let Some(done) = self.checkpoint.committing.take_if(|c| c.id == id) else { return };
        self.checkpoint.made += 1;
        for l in done.superseded {
            self.log.mark_dead(l.position.segment, l.len);
        }
        for (segment, live) in done.moved {
            self.log.mark_dead(segment, live);
        }
        if done.holds_entries {
            self.reclaim.look();
        }
        self.sort.look();
        self.log.free_dead(&mut self.device.ops);
        self.checkpoint.evicting = Some(0);
        self.checkpoint.resident = 0;
    }

    /// Drops stored index pages beyond the cache's size, some streams at a time.
    fn evict_pages(&mut self) {
        let Some(from) = self.checkpoint.evicting else { return };
        let end = self.streams.capacity();
        let to = end.min(from + EVICT_STREAMS);
        let budget = self.options.index_cache_bytes;
        for slot in from..to {
            let Some(stream) = self.streams.get_mut(slot).filter(|c| !c.is_memory()) else {
                continue;
            };
            let bytes = stream.index.sequence_bytes();
            let over = (self.checkpoint.resident + bytes).saturating_sub(budget);
            let freed = if over > 0 { stream.index.evict(over) } else { 0 };
            self.checkpoint.resident += bytes.saturating_sub(freed);
        }
        self.checkpoint.evicting = (to < end).then_some(to);
    }
}

/// What the id of a page's record says: the kind in the top byte, the number below.
pub(in crate::shard) fn page_id(key: PageKey) -> u64 {
    u64::from(key.kind.code()) << 56 | key.number
}
