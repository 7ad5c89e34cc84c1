//! Appending: records into the open write of a lane, writes into blocks, blocks into segments.

use super::tail::Block;
use super::{AppendError, Appended, LaneId, Log, Placed};
use crate::bytes::{chain, round_up};
use crate::device::{IoBuf, prefetch};
use crate::envelope::{ENVELOPE_BYTES, Envelope, FRAME_HEADER_BYTES, LOCAL_GROUP};
use crate::record::{RecordIn, padded};
use crate::segment::SegmentKind;
use crate::superblock::ReplayPoint;
use crate::types::{GroupId, Lsn, Position, SegmentId};
use std::collections::VecDeque;

/// Durable writes whose places are remembered for `replay_point`.
const HISTORY_MAX: usize = 4096;
/// Bytes behind a record that are brought into the cache for the next one, at most.
const PREFETCHED: u32 = 2_048;
/// Groups that may append to one write.
const FRAMES_MAX: usize = 64;

/// A sequence of writes into segments of one kind.
pub(super) struct Lane {
    pub kind: SegmentKind,
    pub open: Option<OpenWrite>,
    current: Option<Current>,
    /// Closed writes that are not durable, by number; the first `issued` were handed out.
    pub queue: VecDeque<Write>,
    pub issued: usize,
    /// Handed out and not complete.
    pub in_flight: u32,
    /// The write under way that has zeroes behind it: the next one would lie in them.
    pub extending: Option<u64>,
    /// When the last write was handed out.
    pub issued_at: i64,
    next_number: u64,
    /// The last durable write.
    pub durable_number: u64,
    /// The last written one of an unbroken run.
    pub written_number: u64,
    pub appended: Lsn,
    pub written: Lsn,
    pub durable: Lsn,
    queued_bytes: usize,
    history: VecDeque<Mark>,
    /// Where the next write would be looked for.
    cursor: Position,
}

struct Current {
    segment: SegmentId,
    /// Its size.
    bytes: u32,
    /// Where its next block starts.
    next_base: u32,
    /// Its last block.
    block: u64,
}

/// The write that records go into.
pub(super) struct OpenWrite {
    number: u64,
    kind: SegmentKind,
    segment: SegmentId,
    block: u64,
    base: u32,
    /// Offsets in the block: of the first byte to write, of the envelope, of the next record, and
    /// the end of what may be used.
    start: u32,
    envelope: u32,
    fill: u32,
    limit: u32,
    cursor: Position,
    first_lsn: Lsn,
    /// A frame for each group that has appended; the first is laid out in place.
    frames: Vec<OpenFrame>,
    /// Bytes of the frames that are laid out beside the block until the write is closed.
    staged: u32,
    records: u32,
}

/// What one group has appended to an open write: its entry. Groups that append in turn would cut
/// each other's frames to pieces, so all but the first collect theirs beside the block.
struct OpenFrame {
    group: GroupId,
    /// The records, without the header; empty for the first frame.
    staged: Vec<u8>,
    sums: u64,
    records: u32,
}

/// A frame of a closed write, whose header is written when the write is handed out.
pub(super) struct ClosedFrame {
    pub group: GroupId,
    /// Offset of its header in the block.
    pub start: u32,
    pub length: u32,
    pub sums: u64,
    pub records: u32,
}

/// A closed write.
pub(super) struct Write {
    pub number: u64,
    pub kind: SegmentKind,
    pub segment: SegmentId,
    pub block: u64,
    pub base: u32,
    pub start: u32,
    pub end: u32,
    pub at: u32,
    /// Zeroes written behind it.
    pub zeroes: u32,
    pub envelope: Envelope,
    pub frames: Vec<ClosedFrame>,
    pub written: bool,
    pub flushing: bool,
    pub flushed: bool,
    pub mark: Mark,
}

/// Which records a write holds, and where replay would look for it.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub number: u64,
    pub cursor: Position,
    pub first_lsn: Lsn,
    pub last_lsn: Lsn,
}

impl Write {
    /// Bytes to be written.
    pub fn bytes(&self) -> u32 {
        self.end - self.start
    }
}

impl OpenWrite {
    pub fn bytes(&self) -> u32 {
        self.fill + self.staged - self.start
    }

    /// Which of the frames a group appends to.
    #[inline]
    fn frame_of(&self, group: GroupId) -> Option<usize> {
        self.frames.iter().position(|f| f.group == group)
    }
}

impl Lane {
    pub fn new(kind: SegmentKind, next_number: u64, cursor: Position) -> Lane {
        Lane {
            kind,
            open: None,
            current: None,
            queue: VecDeque::new(),
            issued: 0,
            in_flight: 0,
            extending: None,
            issued_at: i64::MIN,
            next_number,
            durable_number: next_number - 1,
            written_number: next_number - 1,
            appended: Lsn(0),
            written: Lsn(0),
            durable: Lsn(0),
            queued_bytes: 0,
            history: VecDeque::new(),
            cursor,
        }
    }

    #[inline]
    pub fn unflushed_bytes(&self) -> usize {
        self.queued_bytes + self.open.as_ref().map_or(0, |w| w.bytes() as usize)
    }

    /// Takes the first write, which is durable, out of the queue.
    pub fn retire(&mut self) -> Option<Write> {
        let write = self.queue.pop_front()?;
        self.issued -= 1;
        self.queued_bytes -= write.bytes() as usize;
        self.durable = write.mark.last_lsn;
        self.durable_number = write.number;
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(write.mark);
        Some(write)
    }

    /// Whether a good part of the segment at hand is used, so that another is needed before long.
    pub(super) fn nears_rotation(&self) -> bool {
        self.current.as_ref().is_some_and(|c| {
            let used = if self.cursor.segment == c.segment { self.cursor.offset } else { 0 };
            used > c.bytes / 4
        })
    }

    fn replay_point(&self, lsn: Lsn) -> Option<ReplayPoint> {
        let next = Lsn(lsn.0 + 1);
        let holds = |m: &&Mark| m.first_lsn <= next && next <= m.last_lsn;
        let point = |cursor, number, first: Lsn| ReplayPoint {
            cursor,
            number,
            skip: (next.0 - first.0) as u32,
        };
        if let Some(open) = self.open.as_ref().filter(|w| w.first_lsn <= next) {
            return Some(point(open.cursor, open.number, open.first_lsn));
        }
        if next.0 == self.appended.0 + 1 {
            return Some(point(self.cursor, self.next_number, next));
        }
        let queued = self.queue.iter().map(|w| &w.mark);
        let mark = queued.rev().find(holds).or_else(|| self.history.iter().rev().find(holds))?;
        Some(point(mark.cursor, mark.number, mark.first_lsn))
    }
}

impl Log {
    /// Appends a record to the entry that a group collects: one copy, with its checksum, into the
    /// open write. An entry is what a group appends to one write; it becomes one frame, whose index
    /// and term are asked for when the write is handed out (`Stamper`). Group 0 is for what is of
    /// this log alone and of no group.
    #[inline]
    pub fn append(
        &mut self,
        group: GroupId,
        record: &RecordIn<'_>,
    ) -> Result<Appended, AppendError> {
        self.append_to(LaneId::Hot, group, record)
    }

    /// Appends a record that is state and no entry (a relocated one, a part of a checkpoint) to the
    /// cold lane, and counts `live` bytes there: for a relocated one as many as its source counts
    /// for (so the caller calls `mark_dead` for a copy that it does not use, and never `add_live`
    /// for one that it does), `None` for the bytes that it takes. Wait for `cold_durable` before
    /// using its position.
    pub fn append_cold(
        &mut self,
        record: &RecordIn<'_>,
        live: Option<u32>,
    ) -> Result<Placed, AppendError> {
        let appended = self.append_to(LaneId::Cold, LOCAL_GROUP, record)?;
        let Some(position) = appended.position else { return Err(AppendError::Failed) };
        self.add_live(position.segment, live.unwrap_or(appended.len));
        Ok(Placed { lsn: appended.lsn, position, len: appended.len })
    }

    /// Where replay must start if a checkpoint holds the effects of all hot records up to `lsn`.
    /// To be taken when the checkpoint is frozen. `None` if that was more than 4,096 durable
    /// writes ago.
    pub fn replay_point(&self, lsn: Lsn) -> Option<ReplayPoint> {
        self.hot.replay_point(lsn)
    }

    #[inline]
    fn append_to(
        &mut self,
        lane: LaneId,
        group: GroupId,
        record: &RecordIn<'_>,
    ) -> Result<Appended, AppendError> {
        let length = record.length();
        if length > self.options.record_bytes_max as u64 {
            return Err(AppendError::TooLarge);
        }
        let length = length as usize;
        let need = padded(length) as u32;
        let chosen = match lane {
            LaneId::Hot => &mut self.hot,
            LaneId::Cold => &mut self.cold,
        };
        let message = record.is_message() && lane == LaneId::Hot;
        let fits = |w: &OpenWrite| w.fill + w.staged + need <= w.limit;
        let room = chosen.open.as_ref().filter(|w| fits(w)).and_then(|w| w.frame_of(group));
        if message && chosen.unflushed_bytes() >= self.options.unflushed_bytes_max {
            return Err(AppendError::Busy);
        }
        let frame = match room {
            Some(frame) => frame,
            None => self.make_room(lane, group, need, message)?,
        };
        let chosen = match lane {
            LaneId::Hot => &mut self.hot,
            LaneId::Cold => &mut self.cold,
        };
        let open = chosen.open.as_mut().expect("make_room opened a write");
        let into = &mut open.frames[frame];
        let (checksum, position) = if frame == 0 {
            let block = self.tails[open.kind as usize].get_mut(open.block);
            let end = open.fill + need;
            let checksum = record.encode(length, &mut block.buf[open.fill as usize..end as usize]);
            let position = Position { segment: open.segment, offset: open.base + open.fill };
            open.fill = end;
            block.fill = end;
            prefetch(&block.buf, end as usize, need.min(PREFETCHED) as usize);
            (checksum, Some(position))
        } else {
            let at = into.staged.len();
            into.staged.resize(at + need as usize, 0);
            open.staged += need;
            (record.encode(length, &mut into.staged[at..]), None)
        };
        let (write, nth) = (open.number, into.records);
        into.sums = chain(into.sums, checksum);
        into.records += 1;
        open.records += 1;
        chosen.appended.0 += 1;
        let lsn = chosen.appended;
        if open.kind.is_own() {
            self.close_write(lane);
        }
        Ok(Appended { lsn, position, len: need, write, nth })
    }

    /// Begins a frame of the group, in the open write or in a new one. Answers which frame of the
    /// write it is.
    #[cold]
    #[inline(never)]
    fn make_room(
        &mut self,
        id: LaneId,
        group: GroupId,
        need: u32,
        message: bool,
    ) -> Result<usize, AppendError> {
        if self.failed.is_some() {
            return Err(AppendError::Failed);
        }
        if let Some(open) = self.lane(id).open.as_mut()
            && open.frame_of(group).is_none()
            && open.frames.len() < FRAMES_MAX
            && open.fill + open.staged + FRAME_HEADER_BYTES + need <= open.limit
        {
            open.staged += FRAME_HEADER_BYTES;
            open.frames.push(OpenFrame { group, staged: Vec::new(), sums: 0, records: 0 });
            return Ok(open.frames.len() - 1);
        }
        self.close_write(id);
        let fresh = ENVELOPE_BYTES + FRAME_HEADER_BYTES + need;
        if need > self.options.block_record_max() {
            let kind = match id {
                LaneId::Hot => SegmentKind::Own,
                LaneId::Cold => SegmentKind::ColdOwn,
            };
            let block = self.begin_own(id, kind, fresh)?;
            self.begin_write(id, kind, block, fresh, group);
            return Ok(0);
        }
        let kind = self.lane(id).kind;
        let block_bytes = self.options.block_bytes;
        let (in_block, in_segment) = match &self.lane(id).current {
            None => (None, None),
            Some(c) => {
                let next = (c.segment, c.next_base, c.bytes);
                (Some(c.block), (c.next_base < c.bytes).then_some(next))
            }
        };
        let fits = |b: &u64| self.tails[kind as usize].get(*b).fill + fresh <= block_bytes;
        let block = match (in_block.filter(fits), in_segment) {
            (Some(block), _) => block,
            (None, Some((segment, base, bytes))) => self.begin_block(id, segment, base, bytes),
            (None, None) => {
                let (segment, bytes) = self.begin_segment(id, message)?;
                self.begin_block(id, segment, 0, bytes)
            }
        };
        self.begin_write(id, kind, block, fresh, group);
        Ok(0)
    }

    /// Closes the lane's segment and begins another, which may have to wait for its file.
    fn begin_segment(
        &mut self,
        id: LaneId,
        message: bool,
    ) -> Result<(SegmentId, u32), AppendError> {
        let spare = self.claim_slot(message)?;
        let lane = self.lane(id);
        let (kind, number) = (lane.kind, lane.next_number);
        if let Some(old) = lane.current.take() {
            self.tails[kind as usize].get_mut(old.block).current = false;
            self.seal_segment(old.segment, number - 1);
        }
        let bytes = spare.as_ref().map_or_else(|| self.waiting_bytes(), |spare| spare.bytes) as u32;
        Ok((self.new_segment(kind, bytes, number, spare), bytes))
    }

    fn begin_block(&mut self, id: LaneId, segment: SegmentId, base: u32, bytes: u32) -> u64 {
        self.evict(self.options.block_bytes as usize);
        let buf = self.pool.take();
        let fill = if base == 0 { self.options.first_write_offset() } else { 0 };
        let (kind, number) = (self.lane(id).kind, self.lane(id).next_number);
        let last = number;
        let block = Block { segment, base, buf, fill, pending: 0, number, last, current: true };
        let tail = &mut self.tails[kind as usize];
        if let Some(old) = match id {
            LaneId::Hot => &self.hot.current,
            LaneId::Cold => &self.cold.current,
        } {
            tail.get_mut(old.block).current = false;
        }
        let block = tail.push(block);
        let next_base = base + self.options.block_bytes;
        self.lane(id).current = Some(Current { segment, bytes, next_base, block });
        block
    }

    /// A segment and a buffer for one record that is larger than a block.
    fn begin_own(&mut self, id: LaneId, kind: SegmentKind, fresh: u32) -> Result<u64, AppendError> {
        let first = self.options.first_write_offset();
        let bytes = round_up(first + fresh, self.options.device_block_bytes);
        self.claim_own()?;
        let number = self.lane(id).next_number;
        let segment = self.new_segment(kind, bytes, number, None);
        self.seal_segment(segment, number);
        self.evict(bytes as usize);
        let buf = IoBuf::zeroed(bytes as usize);
        let block = Block {
            segment,
            base: 0,
            buf,
            fill: first,
            pending: 0,
            number,
            last: number,
            current: false,
        };
        Ok(self.tails[kind as usize].push(block))
    }

    fn begin_write(
        &mut self,
        id: LaneId,
        kind: SegmentKind,
        block: u64,
        fresh: u32,
        group: GroupId,
    ) {
        let write_bytes_max = self.options.write_bytes_max;
        let number = self.lane(id).next_number;
        let found = self.tails[kind as usize].get_mut(block);
        found.pending += 1;
        found.last = number;
        let (segment, base, envelope) = (found.segment, found.base, found.fill);
        let first_of_segment = base == 0 && envelope == self.options.first_write_offset();
        let limit = (found.buf.len() as u32).min(envelope + write_bytes_max.max(fresh));
        let fill = envelope + ENVELOPE_BYTES + FRAME_HEADER_BYTES;
        found.fill = fill;
        let lane = self.lane(id);
        lane.next_number += 1;
        if !kind.is_own() {
            lane.cursor = Position { segment, offset: base + envelope };
        }
        lane.open = Some(OpenWrite {
            number,
            kind,
            segment,
            block,
            base,
            start: if first_of_segment { 0 } else { envelope },
            envelope,
            fill,
            limit,
            cursor: lane.cursor,
            first_lsn: Lsn(lane.appended.0 + 1),
            frames: vec![OpenFrame { group, staged: Vec::new(), sums: 0, records: 0 }],
            staged: 0,
            records: 0,
        });
    }

    /// Moves the open write to the queue, padded, with the frames that were beside the block behind
    /// the first; the headers of the frames and the envelope are filled in when it is handed out.
    pub(super) fn close_write(&mut self, id: LaneId) {
        let device_block_bytes = self.options.device_block_bytes;
        let generation = self.generation;
        let lane = match id {
            LaneId::Hot => &mut self.hot,
            LaneId::Cold => &mut self.cold,
        };
        let Some(open) = lane.open.take() else { return };
        let block = self.tails[open.kind as usize].get_mut(open.block);
        let mut frames = Vec::with_capacity(open.frames.len());
        let mut fill = open.fill;
        for (nth, frame) in open.frames.iter().enumerate() {
            let start = if nth == 0 { open.envelope + ENVELOPE_BYTES } else { fill };
            if nth > 0 {
                let records = (fill + FRAME_HEADER_BYTES) as usize;
                let end = records + frame.staged.len();
                block.buf[records..end].copy_from_slice(&frame.staged);
                fill = end as u32;
            }
            let OpenFrame { group, sums, records, .. } = *frame;
            let length = if nth == 0 { open.fill - start } else { fill - start };
            frames.push(ClosedFrame { group, start, length, sums, records });
        }
        let end = round_up(fill, device_block_bytes);
        block.buf[fill as usize..end as usize].fill(0);
        block.fill = end;
        if !open.kind.is_own() {
            lane.cursor = Position { segment: open.segment, offset: open.base + end };
        }
        let envelope = Envelope {
            segment: open.segment,
            offset: open.base + open.envelope,
            generation,
            length: fill - open.envelope,
            padded: end - open.envelope,
            frames: frames.len() as u32,
            records: open.records,
            number: open.number,
            durable_through: 0,
            bodies: 0,
        };
        lane.queued_bytes += (end - open.start) as usize;
        lane.queue.push_back(Write {
            number: open.number,
            kind: open.kind,
            segment: open.segment,
            block: open.block,
            base: open.base,
            start: open.start,
            end,
            at: open.envelope,
            zeroes: 0,
            envelope,
            frames,
            written: false,
            flushing: false,
            flushed: false,
            mark: Mark {
                number: open.number,
                cursor: open.cursor,
                first_lsn: open.first_lsn,
                last_lsn: lane.appended,
            },
        });
    }

    /// Bytes of the tail cache.
    pub fn tail_bytes(&self) -> usize {
        [SegmentKind::Hot, SegmentKind::Own].map(|k| self.tails[k as usize].bytes()).iter().sum()
    }

    /// Sets the size of the tail cache: the options' at first.
    pub fn set_tail_max(&mut self, bytes: usize) {
        self.tail_max = bytes;
        self.evict(0);
    }

    /// Makes room for `coming` bytes in the tail cache, as far as blocks may go.
    fn evict(&mut self, coming: usize) {
        let kinds = [SegmentKind::Hot as usize, SegmentKind::Own as usize];
        while self.tail_bytes() + coming > self.tail_max {
            let ages = kinds.map(|k| self.tails[k].evictable(self.needed_from).unwrap_or(u64::MAX));
            let oldest = if ages[1] < ages[0] { 1 } else { 0 };
            if ages[oldest] == u64::MAX {
                break;
            }
            if let Some(block) = self.tails[kinds[oldest]].evict() {
                self.pool.give(block.buf);
            }
        }
        let own = &mut self.tails[SegmentKind::ColdOwn as usize];
        while own.evictable(u64::MAX).is_some() {
            own.evict();
        }
        let cold = &mut self.tails[SegmentKind::Cold as usize];
        while cold.len() > 1 && cold.evictable(u64::MAX).is_some() {
            if let Some(block) = cold.evict() {
                self.pool.give(block.buf);
            }
        }
    }
}
