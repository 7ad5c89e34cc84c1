//! What a shard holds of its compaction: records being relocated, the segment being sorted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use corelane_storage::index::PageKey;
use corelane_storage::log::{ReadId, Scan};

use crate::shard::request::ANY_READ;
use crate::types::{Lsn, Position, SegmentId, StreamId, Timestamp};

/// Copies that may wait to be durable, in bytes.
const AHEAD_BYTES: usize = 2 << 20;
/// Messages, requests and deliveries of a window that do not count as load.
const CALM: u32 = 50;
/// Index pages that may be changed before a checkpoint writes them.
const DIRTY_PAGES_MAX: u32 = 1_024;

/// What is being reclaimed.
#[derive(Default)]
pub struct Reclaim {
    /// Messages that were given another place since the start.
    pub relocated: u64,
    /// Look for segments.
    pub round: bool,
    pub after: SegmentId,
    pub scan: Option<Scan>,
    /// Waits for this read.
    pub reading: Option<ReadId>,
    /// The index page that the record at hand needs: taken before the record is read again, which
    /// might push it out.
    pub page: Option<(StreamId, PageKey)>,
    /// Copies that the index does not point to yet.
    pub copies: VecDeque<Relocation>,
    pub copied: usize,
    /// The index page that the last swap changed.
    pub swapped: (StreamId, u64),
    /// Sources that are dead when the next checkpoint is durable.
    pub moved: Vec<(SegmentId, u32)>,
    /// What lived in the segments that were copied: who is not freed is not tried again.
    pub tried: BTreeMap<SegmentId, u64>,
    pub not_before: Timestamp,
}

/// A copied record.
pub struct Relocation {
    pub lsn: Lsn,
    pub what: What,
    pub from: Position,
    pub to: Position,
    pub live: u32,
}

#[derive(Clone, Copy)]
pub enum What {
    Message(StreamId, u64),
    Page(StreamId, PageKey),
}

impl Reclaim {
    /// A checkpoint is durable: see what can be freed next.
    pub fn look(&mut self) {
        if !self.round {
            self.round = true;
            self.after = SegmentId(0);
        }
    }

    /// Copies that the index does not point to: a checkpoint must not count them.
    pub fn unswapped(&self) -> impl Iterator<Item = (SegmentId, u32)> + '_ {
        self.copies.iter().map(|c| (c.to.segment, c.live))
    }

    /// A record was copied: once the copy is durable, the index points to it.
    pub fn copied(&mut self, copy: Relocation, bytes: usize) {
        self.copies.push_back(copy);
        self.copied += bytes;
    }

    /// Whether copies must become durable before there are more.
    pub fn is_full(&self) -> bool {
        self.copied >= AHEAD_BYTES
    }

    /// Sources to be dead with the checkpoint that is frozen now.
    pub fn take_moved(&mut self) -> Vec<(SegmentId, u32)> {
        std::mem::take(&mut self.moved)
    }

    /// Everything that counts as live twice for now.
    pub fn unsettled(&self) -> impl Iterator<Item = (SegmentId, u32)> + '_ {
        self.unswapped().chain(self.moved.iter().copied())
    }

    /// How far it is.
    #[cfg(test)]
    pub fn progress(&self) -> String {
        let (scan, copies) = (&self.scan, self.copies.len());
        let Reclaim { round, after, reading, page, tried, .. } = self;
        format!("{round} {after:?} {scan:?} {reading:?} {page:?} {copies} {tried:?}")
    }

    /// A read is over.
    pub fn read_is_over(&mut self, read: ReadId) {
        if self.reading.is_some_and(|r| r == read || r == ANY_READ) {
            self.reading = None;
        }
    }
}

/// What a shard was busy with of late.
pub struct Load {
    pub last: Timestamp,
    /// When the window began, what happened in it and in the one before.
    pub window: Timestamp,
    pub count: u32,
    pub before: u32,
}

/// What is being sorted.
pub struct Sort {
    /// Segments that were sorted since the start.
    pub sorted: u64,
    pub load: Load,
    /// Look for segments.
    pub round: bool,
    pub after: SegmentId,
    /// Not worth it.
    pub judged: BTreeSet<SegmentId>,
    pub work: Option<Box<SortWork>>,
    pub reading: Option<ReadId>,
    pub not_before: Timestamp,
    /// Sorted and not freed.
    pub ahead: u32,
    pub dirty_pages: u32,
}

/// One segment being sorted.
pub struct SortWork {
    pub segment: SegmentId,
    pub stage: SortStage,
    /// What is in it and was not chosen yet.
    pub keys: BTreeMap<StreamId, Vec<Key>>,
    pub chosen: Chosen,
}

pub enum SortStage {
    Sample(Sample),
    Gather { scan: Scan, runs: u64, last: Option<StreamId>, bytes: u64 },
    Choose,
    Collect(Scan),
    Emit(usize),
}

pub struct Sample {
    pub scan: Scan,
    pub nth: u32,
    pub left: usize,
    pub last: Option<StreamId>,
    pub runs: u64,
    pub bytes: u64,
    pub streams: BTreeSet<StreamId>,
}

/// A message in the segment.
#[derive(Clone, Copy)]
pub struct Key {
    pub seq: u64,
    pub offset: u32,
    pub len: u32,
}

/// Some of the messages in the segment, in order, and their bytes.
#[derive(Default)]
pub struct Chosen {
    pub picks: Vec<Pick>,
    pub bytes: usize,
    pub arena: Vec<u8>,
    /// The stream that is chosen from, and which of its keys is next.
    pub at: Option<(StreamId, Vec<Key>, usize)>,
}

/// A message that lives.
pub struct Pick {
    pub stream: StreamId,
    pub key: Key,
    /// What it counts for.
    pub live: u32,
    /// Where its bytes begin, once they are there.
    pub at: Option<u32>,
}

impl Load {
    /// Something happened.
    #[inline]
    pub fn add(&mut self, now: Timestamp, idle_ns: i64) {
        self.last = now;
        if now.0 >= self.window.0.saturating_add(idle_ns) {
            let gone = now.0 >= self.window.0.saturating_add(2 * idle_ns);
            self.before = if gone { 0 } else { self.count };
            self.count = 0;
            self.window = now;
        }
        self.count = self.count.saturating_add(1);
    }

    /// When it is calm, if nothing happens until then.
    pub fn calm_at(&self, idle_ns: i64) -> Timestamp {
        let pause = self.last.plus(idle_ns / 50);
        let over = match (self.count > CALM, self.before > CALM) {
            (true, _) => self.window.plus(2 * idle_ns),
            (_, true) => self.window.plus(idle_ns),
            _ => pause,
        };
        pause.max(over)
    }
}

impl Sort {
    /// Begins at a time.
    pub fn new(now: Timestamp) -> Sort {
        Sort {
            sorted: 0,
            load: Load { last: now, window: now, count: CALM + 1, before: 0 },
            round: true,
            after: SegmentId(0),
            judged: BTreeSet::new(),
            work: None,
            reading: None,
            not_before: Timestamp(0),
            ahead: 0,
            dirty_pages: 0,
        }
    }

    /// A checkpoint is durable: what was sorted is freed, and more may be closed.
    pub fn look(&mut self) {
        self.ahead = 0;
        self.dirty_pages = 0;
        if !self.round {
            self.round = true;
            self.after = SegmentId(0);
        }
    }

    /// A read is over.
    pub fn read_is_over(&mut self, read: ReadId) {
        if self.reading.is_some_and(|r| r == read || r == ANY_READ) {
            self.reading = None;
        }
    }

    /// A page of the index was changed. True if it is time that a checkpoint writes such pages.
    pub fn page_changed(&mut self) -> bool {
        self.dirty_pages += 1;
        self.dirty_pages >= DIRTY_PAGES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: i64 = 1_000;

    fn load() -> Load {
        Load { last: Timestamp(0), window: Timestamp(0), count: 0, before: 0 }
    }

    #[test]
    fn a_trickle_is_no_load() {
        let mut l = load();
        for at in 0..100 {
            l.add(Timestamp(at * 100), W);
            assert_eq!(l.calm_at(W), Timestamp(at * 100 + 20));
        }
    }

    #[test]
    fn a_burst_is_one_for_two_windows() {
        let mut l = load();
        for _ in 0..=CALM {
            l.add(Timestamp(10), W);
        }
        assert_eq!(l.calm_at(W), Timestamp(2 * W));
        // One message behind it begins a window; the burst was in the one before.
        l.add(Timestamp(W + 500), W);
        assert_eq!(l.calm_at(W), Timestamp(2 * W + 500));
        l.add(Timestamp(2 * W + 600), W);
        assert_eq!(l.calm_at(W), Timestamp(2 * W + 620));
    }
}
