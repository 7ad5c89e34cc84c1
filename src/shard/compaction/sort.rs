//! Sorting while there is nothing else to do: a segment in which many streams interleave is written
//! again by stream and sequence, so that one stream's messages can be read in long stretches.
//!
//! ```text
//! Sample ──> Gather ──> Choose ──> Collect ──> Emit ──┐
//! (some of   (what is   (what of   (its bytes  (sorted, to the cold lane)
//!  it)        in it)     it lives)  into memory) <────┘ until all of it is through
//! ```
//!
//! Copies become the messages' places as those of `reclaim` do; what is left in the source is
//! `reclaim`'s to move. It ends: a segment is sorted only if that leaves a fraction of the
//! stretches that were there, and what was looked at in vain is not looked at again. A publish, a
//! request or a delivery stops it before its next step.

use std::collections::{BTreeMap, BTreeSet};

use corelane_storage::index::{Lookup, PageKey};
use corelane_storage::log::{Scan, ScanStep, SpaceState};
use corelane_storage::record::{MessageIn, RecordIn, RecordView};
use corelane_storage::types::Position;

use crate::shard::budget::Background;
use crate::shard::compaction::relocate::{CopyStep, LIVE_PERCENT, RETRY};
use crate::shard::groups::Pipeline;
use crate::shard::request::ANY_READ;
use crate::shard::state::Shard;
use crate::shard::state::compaction::{
    Chosen, Key, Pick, Relocation, Sample, SortStage, SortWork, What,
};
use crate::shard::streams::read::Fetched;
use crate::types::{SegmentId, Timestamp};

/// A byte that is only read counts for the pace as one part in so many.
const READ_COST: usize = 4;
/// What looking a message up counts for.
const LOOK_UP_COST: usize = 64;
/// Nothing is done while more than this waits for the disk.
const UNFLUSHED_MAX: usize = 4 << 20;
/// Places in a segment that are looked at to judge it, and records at each.
const SAMPLES: u32 = 4;
const SAMPLE_RECORDS: usize = 256;
/// Sorting must leave one stretch in so many.
const GAIN: u64 = 4;
/// Segments sorted and not freed.
const AHEAD_SEGMENTS: u32 = 4;

/// One step of a scan.
enum Scanned {
    /// A record of so many bytes, or nothing.
    Went(usize),
    End,
}

impl Shard {
    /// Something is asked of the shard, or delivered.
    #[inline]
    pub(in crate::shard) fn note_load(&mut self, now: Timestamp) {
        self.sort.load.add(now, self.options.sort.idle_ns);
    }

    pub(in crate::shard) fn sort_deadline(&self) -> Option<Timestamp> {
        let s = &self.sort;
        let ready = (s.round || s.work.is_some())
            && s.reading.is_none()
            && !self.reclaim.is_full()
            && (s.ahead < AHEAD_SEGMENTS || s.work.is_some())
            && self.log.unflushed_bytes() < UNFLUSHED_MAX
            && self.log.space() == SpaceState::Available
            && self.groups.iter().all(Pipeline::is_idle)
            && self.consumers.blocked.is_empty();
        ready.then(|| s.not_before.max(s.load.calm_at(self.options.sort.idle_ns)))
    }

    /// Sorts a little.
    pub(in crate::shard) fn step_sort(&mut self, now: Timestamp) {
        let due = self.sort_deadline().is_some_and(|at| at <= now);
        if !due || !self.turn.may_step(Background::Sorting) {
            return;
        }
        let enough = |shard: &Self| {
            shard.reclaim.is_full() || shard.sort.work.is_none() && !shard.sort.round
        };
        self.sort.not_before = self.paced(now, Self::sort_one, enough);
    }

    /// The next small piece of work. Answers what it cost, in bytes; `Err` to stop for now, perhaps
    /// for so long.
    fn sort_one(&mut self) -> CopyStep {
        let Some(mut work) = self.sort.work.take() else {
            return self.begin_sort();
        };
        let step = match &mut work.stage {
            SortStage::Sample(_) => self.sample(&mut work),
            SortStage::Gather { .. } => self.gather(&mut work),
            SortStage::Choose => self.choose(&mut work),
            SortStage::Collect(_) => self.collect(&mut work),
            SortStage::Emit(_) => self.emit(&mut work),
        };
        match step {
            Ok(Some(cost)) => {
                self.sort.work = Some(work);
                Ok(cost)
            }
            // It is done, or not worth it.
            Ok(None) => Ok(0),
            Err(pause) => {
                self.sort.work = Some(work);
                Err(pause)
            }
        }
    }

    /// Picks the next segment.
    fn begin_sort(&mut self) -> CopyStep {
        if self.sort.ahead >= AHEAD_SEGMENTS {
            return Err(None);
        }
        if self.sort.after == SegmentId(0) {
            let log = &self.log;
            self.sort.judged.retain(|s| log.holds(*s));
        }
        let found = self.log.mostly_alive(self.sort.after, LIVE_PERCENT, 16);
        let Some(last) = found.last() else {
            self.sort.round = false;
            self.log.want_spares(0);
            return Ok(0);
        };
        let fresh = found.iter().find(|s| !self.sort.judged.contains(&s.segment));
        let Some(fresh) = fresh.map(|s| s.segment) else {
            self.sort.after = last.segment;
            return Ok(0);
        };
        // The disk must have room for the copy and for all else.
        self.log.want_spares(1);
        if !self.log.has_wanted_spares() {
            return Err(Some(RETRY));
        }
        self.sort.after = fresh;
        let scan = self.log.scan_segment(fresh);
        self.sort.work = Some(Box::new(SortWork {
            segment: fresh,
            stage: SortStage::Sample(Sample {
                scan,
                nth: 0,
                left: SAMPLE_RECORDS,
                last: None,
                runs: 0,
                bytes: 0,
                streams: BTreeSet::new(),
            }),
            keys: BTreeMap::new(),
            chosen: Chosen::default(),
        }));
        Ok(0)
    }

    /// Goes on to the next record.
    fn scan_on(
        &mut self,
        scan: &mut Scan,
        act: impl FnOnce(Position, u32, &RecordView<'_>),
    ) -> Result<Scanned, Option<i64>> {
        match self.log.scan_next(scan, &mut self.device.ops) {
            Ok(ScanStep::Record { position, len, record }) => {
                act(position, len, &record);
                Ok(Scanned::Went(len as usize))
            }
            Ok(ScanStep::Damaged(_) | ScanStep::More) => Ok(Scanned::Went(0)),
            Ok(ScanStep::Pending(read)) => {
                self.sort.reading = Some(read);
                Err(None)
            }
            Ok(ScanStep::Busy) => {
                self.sort.reading = Some(ANY_READ);
                Err(None)
            }
            Ok(ScanStep::End) | Err(_) => Ok(Scanned::End),
        }
    }

    /// Looks at some places of the segment: do many streams interleave?
    fn sample(&mut self, work: &mut SortWork) -> Result<Option<usize>, Option<i64>> {
        let SortStage::Sample(sample) = &mut work.stage else { return Ok(None) };
        let Sample { scan, left, last, runs, bytes, streams, nth } = sample;
        let scanned = self.scan_on(scan, |_, len, record| {
            let Some(m) = record.message() else { return };
            *bytes += u64::from(len);
            if last.replace(m.stream) != Some(m.stream) {
                *runs += 1;
                streams.insert(m.stream);
            }
        })?;
        *left = left.saturating_sub(1);
        if let Scanned::Went(cost) = scanned
            && *left > 0
        {
            return Ok(Some(cost / READ_COST));
        }
        *nth += 1;
        let next = self.log.scan_part(work.segment, *nth, SAMPLES);
        if let Some(next) = next.filter(|_| *nth < SAMPLES) {
            (*scan, *left, *last) = (next, SAMPLE_RECORDS, None);
            return Ok(Some(0));
        }
        let longest = u64::from(self.log.options().read_ahead_bytes / 32);
        if streams.len() < self.options.sort.streams_min || *bytes >= *runs * longest {
            self.sort.judged.insert(work.segment);
            return Ok(None);
        }
        let scan = self.log.scan_segment(work.segment);
        work.stage = SortStage::Gather { scan, runs: 0, last: None, bytes: 0 };
        Ok(Some(0))
    }

    /// Notes what is in the segment.
    fn gather(&mut self, work: &mut SortWork) -> Result<Option<usize>, Option<i64>> {
        let SortStage::Gather { scan, runs, last, bytes } = &mut work.stage else {
            return Ok(None);
        };
        let keys = &mut work.keys;
        let scanned = self.scan_on(scan, |position, len, record| {
            let Some(m) = record.message() else { return };
            *bytes += u64::from(len);
            *runs += u64::from(last.replace(m.stream) != Some(m.stream));
            let key = Key { seq: m.seq, offset: position.offset, len };
            keys.entry(m.stream).or_default().push(key);
        })?;
        if let Scanned::Went(cost) = scanned {
            return Ok(Some(cost / READ_COST));
        }
        let streams = work.keys.len() as u64;
        let short = u64::from(self.log.options().read_ahead_bytes / 64);
        if *runs < GAIN * streams || *bytes < streams * short {
            self.sort.judged.insert(work.segment);
            return Ok(None);
        }
        work.stage = SortStage::Choose;
        Ok(Some(0))
    }

    /// Takes the next messages that live, as many as fit into memory.
    fn choose(&mut self, work: &mut SortWork) -> Result<Option<usize>, Option<i64>> {
        let SortWork { segment, keys, chosen, stage } = work;
        if chosen.bytes >= self.options.sort.memory_bytes {
            return Ok(Some(self.begin_collect(*segment, chosen, stage)));
        }
        let Some((stream, of_stream, nth)) = &mut chosen.at else {
            let Some((stream, mut list)) = keys.pop_first() else {
                if chosen.picks.is_empty() {
                    self.segment_is_sorted(*segment);
                    return Ok(None);
                }
                return Ok(Some(self.begin_collect(*segment, chosen, stage)));
            };
            if !list.is_sorted_by_key(|k| k.seq) {
                list.sort_unstable_by_key(|k| k.seq);
            }
            chosen.at = Some((stream, list, 0));
            return Ok(Some(0));
        };
        let (Some(key), Some(slot)) =
            (of_stream.get(*nth).copied(), self.slots.get(stream).copied())
        else {
            chosen.at = None;
            return Ok(Some(0));
        };
        match self.streams[slot].index.get(key.seq) {
            Lookup::Found(e)
                if e.position == (Position { segment: *segment, offset: key.offset }) =>
            {
                let pick = Pick { stream: *stream, key, live: e.size, at: None };
                chosen.bytes += key.len as usize;
                chosen.picks.push(pick);
            }
            Lookup::NeedPage(page) => match self.fetch_for_sort(slot, page) {
                Ok(true) => return Ok(Some(0)),
                Ok(false) => {}
                Err(wait) => return Err(wait),
            },
            _ => {}
        }
        *nth += 1;
        Ok(Some(LOOK_UP_COST))
    }

    /// Brings an index page. False if it cannot be read.
    fn fetch_for_sort(&mut self, slot: usize, page: PageKey) -> Result<bool, Option<i64>> {
        match self.fetch_page(slot, page) {
            Fetched::Loaded => Ok(true),
            Fetched::Failed(_) | Fetched::Damaged(_) => Ok(false),
            Fetched::Pending(read) => {
                self.sort.reading = Some(read);
                Err(None)
            }
        }
    }

    fn begin_collect(
        &mut self,
        id: SegmentId,
        chosen: &mut Chosen,
        stage: &mut SortStage,
    ) -> usize {
        chosen.arena.reserve(chosen.bytes);
        *stage = SortStage::Collect(self.log.scan_segment(id));
        0
    }

    /// Takes the bytes of what was chosen into memory.
    fn collect(&mut self, work: &mut SortWork) -> Result<Option<usize>, Option<i64>> {
        let SortStage::Collect(scan) = &mut work.stage else { return Ok(None) };
        let Chosen { picks, arena, .. } = &mut work.chosen;
        let scanned = self.scan_on(scan, |position, _, record| {
            let Some(m) = record.message() else { return };
            let at = picks.binary_search_by_key(&(m.stream, m.seq), |p| (p.stream, p.key.seq));
            let found = at.ok().and_then(|at| picks.get_mut(at));
            if let Some(pick) = found.filter(|p| p.key.offset == position.offset) {
                pick.at = u32::try_from(arena.len()).ok();
                arena.extend_from_slice(record.as_bytes());
            }
        })?;
        if let Scanned::Went(cost) = scanned {
            return Ok(Some(cost / READ_COST));
        }
        work.stage = SortStage::Emit(0);
        Ok(Some(0))
    }

    /// Appends the next message to the cold lane.
    fn emit(&mut self, work: &mut SortWork) -> Result<Option<usize>, Option<i64>> {
        let SortStage::Emit(next) = &mut work.stage else { return Ok(None) };
        let Some(pick) = work.chosen.picks.get(*next) else {
            work.chosen.picks.clear();
            work.chosen.arena.clear();
            work.chosen.bytes = 0;
            work.stage = SortStage::Choose;
            return Ok(Some(0));
        };
        let bytes = pick.at.and_then(|at| work.chosen.arena.get(at as usize..));
        let record = bytes.and_then(|b| RecordView::decode(b).ok()).and_then(|r| r.message());
        let mut cost = 0;
        if let Some(m) = record {
            let record = RecordIn::Message(MessageIn { relocated: true, ..m });
            let appended =
                self.log.append_cold(&record, Some(pick.live)).map_err(|_| Some(RETRY))?;
            let what = What::Message(pick.stream, pick.key.seq);
            let from = Position { segment: work.segment, offset: pick.key.offset };
            let (lsn, to, live) = (appended.lsn, appended.position, pick.live);
            self.reclaim.copied(Relocation { lsn, what, from, to, live }, appended.len as usize);
            cost = appended.len as usize;
        }
        *next += 1;
        Ok(Some(cost))
    }

    fn segment_is_sorted(&mut self, segment: SegmentId) {
        self.sort.sorted += 1;
        self.sort.ahead += 1;
        self.sort.judged.insert(segment);
        // The next checkpoint frees it.
        self.checkpoint.appended += 1;
    }
}
