//! Segments: their files, spares and live bytes; a full disk; freeing what is dead.
//!
//! Files are asked for ahead of need, so that a rotation finds one: `reserve_segments` for metadata
//! on a full disk and one more to go on with. Their size grows with what the log holds, from
//! `first_segment_bytes` to `segment_bytes`: new ones have half of that, so that a small store
//! takes little of the disk, and one under load seldom rotates. Nothing is asked for before the
//! first append: an empty store is a superblock. A rotation that finds none waits in
//! `waiting`, with its writes in memory; messages are refused while the disk is full and only the
//! reserve is left.

use super::{AppendError, Log, LogFailure, LogOptions, Pending, Progress, RecoveredSegment};
use crate::device::{DeviceError, Fill, Op, Slot};
use crate::segment::SegmentKind;
use crate::types::{Lsn, SegmentId};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Files being created at once.
const CREATES_MAX: usize = 2;
/// Idle time, in units of `idle_mark_ns`, before a spare is written over with zeroes.
const ZERO_AFTER_IDLE_MARKS: i64 = 5;

/// What is known of a segment.
pub(super) struct Segment {
    pub kind: SegmentKind,
    /// Its file, once there is one.
    pub slot: Option<Slot>,
    pub bytes: u64,
    pub key: u64,
    pub generation: u32,
    pub first_write: u64,
    /// Its last write; 0 if that lies below the replayed part.
    last_write: u64,
    /// Bytes in which its writes lie.
    pub end: u32,
    live: u64,
    open: bool,
    pub readers: u32,
    discarded: bool,
    /// How far its file was written at least once: overwriting that is fast.
    initialised: u64,
}

impl Segment {
    fn attach(&mut self, spare: &Spare) {
        self.slot = Some(spare.slot);
        self.initialised = if spare.zeroed { self.bytes } else { 0 };
    }

    /// How many zeroes are to follow a small write of `bytes` up to `end`: a first write to any
    /// part of a file changes the file's own records, which costs a flush more than the data does,
    /// so one write prepares the way for those that follow.
    pub(super) fn extend(&mut self, end: u64, bytes: u32, options: &LogOptions) -> u32 {
        if end <= self.initialised {
            return 0;
        }
        let unit = options.extend_bytes as u64;
        let small = bytes <= options.extend_write_bytes && !self.kind.is_own();
        let to = if small { (end / unit + 1) * unit } else { end };
        self.initialised = to.min(self.bytes);
        (self.initialised - end) as u32
    }
}

/// A file without content.
pub(super) struct Spare {
    pub slot: Slot,
    pub bytes: u64,
    /// All of it was written once: overwriting it is fast.
    pub zeroed: bool,
}

/// A segment without a file.
pub(super) struct Waiting {
    segment: SegmentId,
    /// Its size, if it is not the standard one, and whether its file is being created.
    own: Option<u64>,
    asked: bool,
}

#[derive(Default)]
pub(super) struct Space {
    /// A creation found no space, and none has succeeded since.
    full: bool,
    retry_at: i64,
    /// Spare files being created.
    creating: usize,
    /// Spares wanted beyond those that are kept anyway.
    extra: usize,
    zeroing: bool,
    /// Segments in which nothing lives, with the hot record that emptied them.
    dead: BTreeMap<SegmentId, Lsn>,
    /// Bytes of the segments that hold data, but for those of a single record.
    held: u64,
    /// Segments freed since the start.
    freed: u64,
    /// The shard has counted what lives.
    restored: bool,
    /// Live bytes of segments that have no file: more was lost than is known otherwise.
    missing: BTreeMap<SegmentId, u64>,
}

/// Whether messages can be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceState {
    /// Yes.
    Available,
    /// The disk is full: messages are taken only as far as the open segment goes.
    Full,
}

/// How a segment is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentUse {
    /// Which.
    pub segment: SegmentId,
    /// What it holds.
    pub kind: SegmentKind,
    /// Its size.
    pub bytes: u64,
    /// Of that, bytes of live records.
    pub live: u64,
    /// Still appended to.
    pub open: bool,
}

impl Log {
    /// Counts a record of `len` padded bytes as live.
    #[inline]
    pub fn add_live(&mut self, segment: SegmentId, len: u32) {
        match self.segments.get_mut(&segment) {
            Some(found) => found.live += len as u64,
            None => *self.space.missing.entry(segment).or_default() += len as u64,
        }
    }

    /// Counts a record as dead: no reader will ask for it and no durable checkpoint needs it.
    /// What a checkpoint's pages point to may be marked when the deletion is applied, since the
    /// deletion is replayed; a replaced page only when the checkpoint that replaced it is durable;
    /// a relocated record's source only when a checkpoint with its new place is durable.
    #[inline]
    pub fn mark_dead(&mut self, segment: SegmentId, len: u32) {
        let Some(found) = self.segments.get_mut(&segment) else {
            if let Some(live) = self.space.missing.get_mut(&segment) {
                *live = live.saturating_sub(len as u64);
                if *live == 0 {
                    self.space.missing.remove(&segment);
                }
            }
            return;
        };
        debug_assert!(found.live >= len as u64, "more died than lived in {segment:?}");
        found.live = found.live.saturating_sub(len as u64);
        if found.live == 0 && !found.open {
            self.space.dead.insert(segment, self.hot.appended);
        }
    }

    /// Sets what lives in a segment: after recovery, what the checkpoint said (replay then goes on
    /// from that); and 0 when a whole scan found no damage and nothing that the index points to,
    /// which happens to copies whose relocation a crash cut short. A segment that is named here and
    /// has no file any more keeps its id: positions in it must not come to mean another.
    pub fn restore_live(&mut self, segment: SegmentId, bytes: u64) {
        self.next_segment = self.next_segment.max(segment.0.saturating_add(1));
        match self.segments.get_mut(&segment) {
            Some(found) => {
                found.live = bytes;
                if bytes == 0 && !found.open {
                    self.space.dead.insert(segment, self.hot.appended);
                }
            }
            None if bytes > 0 => {
                self.space.missing.insert(segment, bytes);
            }
            None => {}
        }
    }

    /// After recovery, when everything that lives is counted: from now on what is dead is freed.
    /// Returns segments that hold live bytes and have no file: what was in them is lost, and must
    /// be reported, not deleted.
    pub fn finish_restore(&mut self) -> Vec<(SegmentId, u64)> {
        self.space.restored = true;
        let dead = self.segments.iter().filter(|(_, s)| s.live == 0 && !s.open);
        self.space.dead = dead.map(|(id, _)| (*id, Lsn(0))).collect();
        self.missing()
    }

    /// Segments without a file, and the bytes in them that did not die since.
    pub fn missing(&self) -> Vec<(SegmentId, u64)> {
        self.space.missing.iter().map(|(id, live)| (*id, *live)).collect()
    }

    /// How each segment is used, by id: what a checkpoint stores to restore.
    pub fn segments(&self) -> impl Iterator<Item = SegmentUse> + '_ {
        self.segments.iter().map(|(id, s)| use_of(*id, s))
    }

    /// Up to `max` segments after `after` of which at most `percent` lives and which could be
    /// freed if nothing did: candidates for relocation. An empty answer ends the round.
    pub fn mostly_dead(&self, after: SegmentId, percent: u64, max: usize) -> Vec<SegmentUse> {
        self.segments
            .range((Bound::Excluded(after), Bound::Unbounded))
            .filter(|(_, s)| s.live > 0 && s.live * 100 <= s.bytes * percent)
            .filter(|(id, s)| self.below_replay(**id, s))
            .map(|(id, s)| use_of(*id, s))
            .take(max)
            .collect()
    }

    /// Up to `max` segments after `after` of which more than `percent` lives and which could be
    /// freed if nothing did, but for those that hold a single record: candidates for sorting.
    pub fn mostly_alive(&self, after: SegmentId, percent: u64, max: usize) -> Vec<SegmentUse> {
        self.segments
            .range((Bound::Excluded(after), Bound::Unbounded))
            .filter(|(_, s)| s.live * 100 > s.bytes * percent && !s.kind.is_own())
            .filter(|(id, s)| self.below_replay(**id, s))
            .map(|(id, s)| use_of(*id, s))
            .take(max)
            .collect()
    }

    /// Whether there is such a segment.
    pub fn holds(&self, segment: SegmentId) -> bool {
        self.segments.contains_key(&segment)
    }

    /// From now on `count` spare segments more than are needed to go on are kept, as far as the
    /// disk has room: who copies what lives must not take what publishers need.
    pub fn want_spares(&mut self, count: usize) {
        self.space.extra = count;
    }

    /// Whether as many are there.
    pub fn has_wanted_spares(&self) -> bool {
        let spares = self.large_spares() + self.space.zeroing as usize;
        self.waiting.is_empty() && spares >= self.spares_wanted()
    }

    fn spares_wanted(&self) -> usize {
        // A log that may never fill its first segment needs no second one.
        let LogOptions { first_segment_bytes, segment_bytes, .. } = self.options;
        let first = self.space.held <= first_segment_bytes.min(segment_bytes) as u64;
        let next = !first || self.hot.nears_rotation() || self.space.extra > 0;
        self.options.reserve_segments as usize + usize::from(next) + self.space.extra
    }

    /// The size of the files that are created next.
    pub(super) fn wanted_bytes(&self) -> u64 {
        let LogOptions { first_segment_bytes, segment_bytes, block_bytes, .. } = self.options;
        let full = segment_bytes as u64;
        let first = first_segment_bytes.next_multiple_of(block_bytes) as u64;
        let half = 1 << (self.space.held / 2).max(1).ilog2();
        u64::max(half, block_bytes as u64).clamp(first.min(full), full)
    }

    /// The size of a segment that is begun without a file: whatever spare there is must do for it,
    /// since it may need the reserve.
    pub(super) fn waiting_bytes(&self) -> u64 {
        let smallest = self.spares.iter().map(|s| s.bytes).min();
        smallest.unwrap_or(u64::MAX).min(self.wanted_bytes())
    }

    /// Spares large enough to count for what is kept: the files of a smaller log are used up.
    fn large_spares(&self) -> usize {
        let least = self.wanted_bytes() / 2;
        self.spares.iter().filter(|s| s.bytes >= least).count()
    }

    /// Frees segments that are dead for good, and returns how many. To be called after a
    /// checkpoint is durable, and when `mark_dead` emptied something. May make `space` available.
    pub fn free_dead(&mut self, ops: &mut Vec<Op>) -> usize {
        if !self.space.restored || self.failed.is_some() {
            return 0;
        }
        let mut freed = 0;
        for (id, lsn) in std::mem::take(&mut self.space.dead) {
            let Some(segment) = self.segments.get(&id).filter(|s| s.live == 0) else { continue };
            let done = self.below_replay(id, segment)
                && lsn <= self.hot.durable
                && segment.readers == 0
                && !self.tails[segment.kind as usize].busy(id);
            if done {
                self.free(id, ops);
                freed += 1;
            } else {
                self.space.dead.insert(id, lsn);
            }
        }
        freed
    }

    /// Whether messages can be appended.
    pub fn space(&self) -> SpaceState {
        if self.space.full && self.spares.len() <= self.options.reserve_segments as usize {
            SpaceState::Full
        } else {
            SpaceState::Available
        }
    }

    /// Bytes of all segment files, spares included.
    pub fn file_bytes(&self) -> u64 {
        let used: u64 = self.segments.values().filter(|s| s.slot.is_some()).map(|s| s.bytes).sum();
        used + self.spares.iter().map(|s| s.bytes).sum::<u64>()
    }

    /// How many segments hold data, and the live bytes in them.
    pub fn usage(&self) -> (usize, u64) {
        let held = self.segments.values().filter(|s| s.slot.is_some());
        held.fold((0, 0), |(count, live), s| (count + 1, live + s.live))
    }

    /// How many segments were freed since the start.
    pub fn freed(&self) -> u64 {
        self.space.freed
    }

    pub(super) fn restore_segment(&mut self, found: RecoveredSegment) {
        let segment = Segment {
            kind: found.kind,
            slot: Some(found.slot),
            bytes: found.bytes,
            key: found.key,
            generation: found.generation,
            first_write: 0,
            last_write: found.last_write,
            end: found.end,
            live: 0,
            open: false,
            readers: 0,
            discarded: found.discarded,
            initialised: found.bytes,
        };
        self.hold(&segment);
        self.segments.insert(found.segment, segment);
    }

    fn hold(&mut self, segment: &Segment) {
        if segment.kind != SegmentKind::Own {
            self.space.held += segment.bytes;
        }
    }

    /// Whether no replay can need the segment.
    fn below_replay(&self, id: SegmentId, segment: &Segment) -> bool {
        if segment.open {
            return false;
        }
        if segment.discarded || segment.kind.is_cold() {
            return true;
        }
        let superblock = self.superblock.durable();
        let replay = &superblock.replay;
        superblock.checkpoint.is_some()
            && match segment.last_write {
                0 => id < replay.cursor.segment,
                last => last < replay.number,
            }
    }

    pub(super) fn new_segment(
        &mut self,
        kind: SegmentKind,
        bytes: u32,
        first_write: u64,
        spare: Option<Spare>,
    ) -> SegmentId {
        let id = SegmentId(self.next_segment);
        self.next_segment += 1;
        let mut segment = Segment {
            kind,
            slot: None,
            bytes: bytes as u64,
            key: self.keys.bits(),
            generation: self.generation,
            first_write,
            last_write: 0,
            end: bytes,
            live: 0,
            open: true,
            readers: 0,
            discarded: false,
            initialised: 0,
        };
        if let Some(spare) = &spare {
            segment.attach(spare);
        }
        self.hold(&segment);
        self.segments.insert(id, segment);
        if spare.is_none() {
            let own = kind.is_own().then_some(bytes as u64);
            self.waiting.push_back(Waiting { segment: id, own, asked: false });
        }
        id
    }

    pub(super) fn seal_segment(&mut self, id: SegmentId, last_write: u64) {
        let Some(segment) = self.segments.get_mut(&id) else { return };
        segment.open = false;
        segment.last_write = last_write;
        if segment.live == 0 {
            self.space.dead.insert(id, self.hot.appended);
        }
    }

    /// A file for a standard segment, or `None` if one will come.
    pub(super) fn claim_slot(&mut self, message: bool) -> Result<Option<Spare>, AppendError> {
        let reserve = self.options.reserve_segments as usize;
        let waits = !self.waiting.is_empty();
        if self.space.full {
            let left = if message { reserve } else { 0 };
            if waits || self.spares.len() <= left {
                return Err(AppendError::NoSpace);
            }
        }
        // One that is being written over with zeroes comes back: it counts for the reserve, and
        // nobody waits for it.
        let spares = self.spares.len() + self.space.zeroing as usize;
        if waits || spares <= reserve && !self.space.full {
            return Ok(None);
        }
        Ok(self.take_spare(0))
    }

    /// Whether a segment of its own size may be begun.
    pub(super) fn claim_own(&mut self) -> Result<(), AppendError> {
        if self.space.full { Err(AppendError::NoSpace) } else { Ok(()) }
    }

    /// A spare of at least so many bytes: one that is smaller than they are now, or the fastest.
    fn take_spare(&mut self, bytes: u64) -> Option<Spare> {
        let least = self.wanted_bytes() / 2;
        let fits = |s: &Spare| s.bytes >= bytes;
        let small = self.spares.iter().position(|s| fits(s) && s.bytes < least);
        let zeroed = || self.spares.iter().position(|s| fits(s) && s.zeroed);
        let any = || self.spares.iter().position(fits);
        let at = small.or_else(zeroed).or_else(any)?;
        Some(self.spares.remove(at))
    }

    /// Asks for the files that are wanted.
    pub(super) fn request_space(&mut self, ops: &mut Vec<Op>) {
        let untouched = self.hot.appended.0 + self.cold.appended.0 == 0 && self.space.extra == 0;
        if self.space.full || untouched {
            return;
        }
        let waiting = self.waiting.iter().filter(|w| w.own.is_none()).count();
        let wanted = waiting + self.spares_wanted();
        let zeroing = self.space.zeroing as usize;
        // A segment that waits although there are spares needs a larger file than those.
        while self.space.creating < CREATES_MAX
            && (self.space.creating < waiting
                || self.large_spares() + zeroing + self.space.creating < wanted)
        {
            self.space.creating += 1;
            let slot = self.new_slot();
            let bytes = self.creation_bytes();
            let token = self.token(Pending::CreateSpare { slot, bytes });
            ops.push(Op::Create { token, slot, bytes, fill: Fill::Allocate });
        }
        for nth in 0..self.waiting.len() {
            let Waiting { segment, own: Some(bytes), asked: false } = self.waiting[nth] else {
                continue;
            };
            self.waiting[nth].asked = true;
            let slot = self.new_slot();
            let token = self.token(Pending::CreateOwn { slot, segment });
            ops.push(Op::Create { token, slot, bytes, fill: Fill::Allocate });
        }
    }

    /// The size of a file that is created now: it must do for the segments that wait for one.
    fn creation_bytes(&self) -> u64 {
        let waiting = self.waiting.iter().filter(|w| w.own.is_none());
        let waiting = waiting.filter_map(|w| self.segments.get(&w.segment)).map(|s| s.bytes);
        waiting.max().unwrap_or(0).max(self.wanted_bytes())
    }

    fn new_slot(&mut self) -> Slot {
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        slot
    }

    /// A spare was created or written over.
    pub(super) fn spare_done(
        &mut self,
        spare: Spare,
        result: Result<usize, DeviceError>,
        progress: &mut Progress,
    ) -> Result<(), LogFailure> {
        let zeroed = spare.zeroed;
        if zeroed {
            self.space.zeroing = false;
        } else {
            self.space.creating -= 1;
        }
        match result {
            Ok(_) => {
                self.spares.push(spare);
                if !zeroed {
                    self.space_found(progress);
                }
            }
            // Zeroes can be refused where blocks are shared or compressed: the file stays usable,
            // and is not tried again.
            Err(DeviceError::NoSpace) if zeroed => self.spares.push(spare),
            Err(DeviceError::NoSpace) => self.space_refused(),
            Err(e) => return Err(self.fail("creating a segment", &e)),
        }
        self.give_out_spares();
        Ok(())
    }

    /// A file for a record larger than a block was created.
    pub(super) fn own_done(
        &mut self,
        slot: Slot,
        segment: SegmentId,
        result: Result<usize, DeviceError>,
        progress: &mut Progress,
    ) -> Result<(), LogFailure> {
        match result {
            Ok(_) => {
                self.waiting.retain(|w| w.segment != segment);
                if let Some(found) = self.segments.get_mut(&segment) {
                    found.slot = Some(slot);
                }
                self.space_found(progress);
            }
            Err(DeviceError::NoSpace) => {
                if let Some(w) = self.waiting.iter_mut().find(|w| w.segment == segment) {
                    w.asked = false;
                }
                self.space_refused();
            }
            Err(e) => return Err(self.fail("creating a segment", &e)),
        }
        self.give_out_spares();
        Ok(())
    }

    fn space_found(&mut self, progress: &mut Progress) {
        progress.space_returned |= self.space.full;
        self.space.full = false;
    }

    fn space_refused(&mut self) {
        self.space.full = true;
        self.space.retry_at = self.now.saturating_add(self.options.space_retry_ns);
    }

    /// Gives spares to the segments that wait: what they hold was accepted, so it may use the
    /// reserve when the disk is full.
    fn give_out_spares(&mut self) {
        let mut nth = 0;
        while nth < self.waiting.len() && !self.spares.is_empty() {
            let waiting = &self.waiting[nth];
            let bytes = match waiting.own {
                None => self.segments.get(&waiting.segment).map(|s| s.bytes),
                Some(bytes) => (self.space.full && !waiting.asked).then_some(bytes),
            };
            let Some(spare) = bytes.and_then(|bytes| self.take_spare(bytes)) else {
                nth += 1;
                continue;
            };
            let Some(Waiting { segment, own, .. }) = self.waiting.remove(nth) else { break };
            if let Some(found) = self.segments.get_mut(&segment) {
                if own.is_none() {
                    self.space.held = self.space.held - found.bytes + spare.bytes;
                }
                found.bytes = spare.bytes;
                found.attach(&spare);
            }
        }
    }

    pub(super) fn space_retry_due(&self) -> Option<i64> {
        (self.space.full && self.space.creating == 0).then_some(self.space.retry_at)
    }

    /// Tries again after a full disk.
    pub(super) fn retry_space(&mut self, ops: &mut Vec<Op>) {
        if self.space_retry_due().is_none_or(|at| self.now < at) {
            return;
        }
        self.space.retry_at = self.now.saturating_add(self.options.space_retry_ns);
        self.space.creating += 1;
        let slot = self.new_slot();
        let bytes = self.creation_bytes();
        let token = self.token(Pending::CreateSpare { slot, bytes });
        ops.push(Op::Create { token, slot, bytes, fill: Fill::Allocate });
    }

    /// When a spare may be written over with zeroes, if nothing happens until then.
    pub(super) fn zero_due(&self) -> Option<i64> {
        let idle = self.unflushed_bytes() == 0
            && self.space.creating == 0
            && self.waiting.is_empty()
            && !self.space.zeroing
            && !self.space.full;
        let enough = self.spares.len() > self.options.reserve_segments as usize;
        let any = self.spares.iter().any(|s| !s.zeroed);
        let idle_ns = self.options.idle_mark_ns.saturating_mul(ZERO_AFTER_IDLE_MARKS);
        (self.options.zero_spares && idle && enough && any)
            .then(|| self.flush.durable_at.saturating_add(idle_ns))
    }

    /// Writes zeroes over one spare when nothing else is to be done.
    pub(super) fn zero_a_spare(&mut self, ops: &mut Vec<Op>) {
        if self.zero_due().is_none_or(|at| self.now < at) {
            return;
        }
        let Some(at) = self.spares.iter().position(|s| !s.zeroed) else { return };
        let Spare { slot, bytes, .. } = self.spares.remove(at);
        self.space.zeroing = true;
        let token = self.token(Pending::Zero { slot, bytes });
        ops.push(Op::Create { token, slot, bytes, fill: Fill::Zero });
    }

    fn free(&mut self, id: SegmentId, ops: &mut Vec<Op>) {
        let Some(segment) = self.segments.remove(&id) else { return };
        if segment.kind != SegmentKind::Own {
            self.space.held -= segment.bytes;
        }
        let Some(slot) = segment.slot else { return };
        self.space.freed += 1;
        let bytes = segment.bytes;
        // On a full disk a small file is better than none.
        let large = bytes >= self.wanted_bytes() / 2 || self.space.full;
        let usable = is_usable(bytes, &self.options) && large;
        if usable && self.spares.len() < self.options.pool_segments_max as usize {
            let zeroed = segment.initialised == segment.bytes;
            self.spares.push(Spare { slot, bytes, zeroed });
            self.give_out_spares();
            // Enough to go on without asking the disk.
            let reserve = self.options.reserve_segments as usize;
            self.space.full &= self.spares.len() <= reserve;
        } else {
            let token = self.token(Pending::Remove);
            ops.push(Op::Remove { token, slot });
        }
    }

    /// Whether a generation has segments with content.
    pub(super) fn has_generation(&self, generation: u32) -> bool {
        self.segments.values().any(|s| s.generation == generation && !s.discarded)
    }

    /// Where the part of a segment ends that is on the disk and will not change.
    pub(super) fn stable_end(&self, id: SegmentId, segment: &Segment) -> u32 {
        match self.tails[segment.kind as usize].begin_of(id) {
            Some(begin) => begin.min(segment.end),
            None => segment.end,
        }
    }
}

/// Whether a file of this size can be a segment of many records.
pub(crate) fn is_usable(bytes: u64, options: &LogOptions) -> bool {
    let block = options.block_bytes as u64;
    bytes >= block && bytes.is_multiple_of(block) && bytes <= options.segment_bytes as u64
}

fn use_of(id: SegmentId, s: &Segment) -> SegmentUse {
    SegmentUse { segment: id, kind: s.kind, bytes: s.bytes, live: s.live, open: s.open }
}
