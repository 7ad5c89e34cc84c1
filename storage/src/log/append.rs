//! Appending: records into the open write of a lane, writes into blocks, blocks into segments.

use super::tail::Block;
use super::{AppendError, Appended, LaneId, Log};
use crate::bytes::{chain, round_up};
use crate::device::IoBuf;
use crate::envelope::{ENVELOPE_BYTES, Envelope, FRAME_HEADER_BYTES, FrameHeader};
use crate::record::{RecordIn, padded};
use crate::segment::SegmentKind;
use crate::superblock::ReplayPoint;
use crate::types::{GroupId, LogIndex, Lsn, Position, SegmentId, Term};
use std::collections::VecDeque;

/// Durable writes whose places are remembered for `replay_point`.
const HISTORY_MAX: usize = 4096;

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
    frame: FrameHeader,
    frame_start: u32,
    sums: u64,
    bodies: u64,
    frames: u32,
    records: u32,
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
        self.fill - self.start
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
    /// Appends an entry of a group: one copy, with its checksum, into the open write.
    ///
    /// Records of one group and term that follow one another make one frame; `index` is that of
    /// the frame's first record.
    #[inline]
    pub fn append(
        &mut self,
        group: GroupId,
        term: Term,
        index: LogIndex,
        record: &RecordIn<'_>,
    ) -> Result<Appended, AppendError> {
        self.append_to(LaneId::Hot, group, term, index, record)
    }

    /// Appends a relocated record, which is state, to the cold lane, and counts `live` bytes there,
    /// as many as its source counts for (so the caller calls `mark_dead` for a copy that it does
    /// not use, and never `add_live` for one that it does). Wait for `cold_durable` before using
    /// its position.
    pub fn append_cold(
        &mut self,
        record: &RecordIn<'_>,
        live: u32,
    ) -> Result<Appended, AppendError> {
        let none = (GroupId(0), Term(0), LogIndex(0));
        let appended = self.append_to(LaneId::Cold, none.0, none.1, none.2, record)?;
        self.add_live(appended.position.segment, live);
        Ok(appended)
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
        term: Term,
        index: LogIndex,
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
        let room = chosen.open.as_ref().is_some_and(|w| {
            w.frame.group == group && w.frame.term == term && w.fill + need <= w.limit
        });
        if message && chosen.unflushed_bytes() >= self.options.unflushed_bytes_max {
            return Err(AppendError::Busy);
        }
        if !room {
            self.make_room(
                lane,
                FrameHeader { group, term, index, length: 0, records: 0 },
                need,
                message,
            )?;
        }
        let chosen = match lane {
            LaneId::Hot => &mut self.hot,
            LaneId::Cold => &mut self.cold,
        };
        let open = chosen.open.as_mut().expect("make_room opened a write");
        let block = self.tails[open.kind as usize].get_mut(open.block);
        let end = open.fill + need;
        let checksum = record.encode(length, &mut block.buf[open.fill as usize..end as usize]);
        let position = Position { segment: open.segment, offset: open.base + open.fill };
        open.sums = chain(open.sums, checksum);
        open.frame.records += 1;
        open.records += 1;
        open.fill = end;
        block.fill = end;
        chosen.appended.0 += 1;
        let lsn = chosen.appended;
        if open.kind == SegmentKind::Own {
            self.close_write(lane);
        }
        Ok(Appended { lsn, position, len: need })
    }

    #[cold]
    #[inline(never)]
    fn make_room(
        &mut self,
        id: LaneId,
        frame: FrameHeader,
        need: u32,
        message: bool,
    ) -> Result<(), AppendError> {
        if self.failed.is_some() {
            return Err(AppendError::Failed);
        }
        if let Some(open) = &self.lane(id).open
            && open.fill + FRAME_HEADER_BYTES + need <= open.limit
        {
            self.end_frame(id);
            self.begin_frame(id, frame);
            return Ok(());
        }
        self.close_write(id);
        let fresh = ENVELOPE_BYTES + FRAME_HEADER_BYTES + need;
        if need > self.options.block_record_max() {
            let block = self.begin_own(id, fresh)?;
            self.begin_write(id, SegmentKind::Own, block, fresh);
            self.begin_frame(id, frame);
            return Ok(());
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
        self.begin_write(id, kind, block, fresh);
        self.begin_frame(id, frame);
        Ok(())
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
        let block = Block { segment, base, buf, fill, pending: 0, number, current: true };
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
    fn begin_own(&mut self, id: LaneId, fresh: u32) -> Result<u64, AppendError> {
        let first = self.options.first_write_offset();
        let bytes = round_up(first + fresh, self.options.device_block_bytes);
        self.claim_own()?;
        let number = self.lane(id).next_number;
        let kind = SegmentKind::Own;
        let segment = self.new_segment(kind, bytes, number, None);
        self.seal_segment(segment, number);
        self.evict(bytes as usize);
        let buf = IoBuf::zeroed(bytes as usize);
        let block =
            Block { segment, base: 0, buf, fill: first, pending: 0, number, current: false };
        Ok(self.tails[kind as usize].push(block))
    }

    fn begin_write(&mut self, id: LaneId, kind: SegmentKind, block: u64, fresh: u32) {
        let write_bytes_max = self.options.write_bytes_max;
        let found = self.tails[kind as usize].get_mut(block);
        found.pending += 1;
        let (segment, base, envelope) = (found.segment, found.base, found.fill);
        let first_of_segment = base == 0 && envelope == self.options.first_write_offset();
        let limit = (found.buf.len() as u32).min(envelope + write_bytes_max.max(fresh));
        found.fill = envelope + ENVELOPE_BYTES;
        let lane = self.lane(id);
        let number = lane.next_number;
        lane.next_number += 1;
        if kind != SegmentKind::Own {
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
            fill: envelope + ENVELOPE_BYTES,
            limit,
            cursor: lane.cursor,
            first_lsn: Lsn(lane.appended.0 + 1),
            frame: FrameHeader::default(),
            frame_start: 0,
            sums: 0,
            bodies: 0,
            frames: 0,
            records: 0,
        });
    }

    fn begin_frame(&mut self, id: LaneId, frame: FrameHeader) {
        let Some(open) = self.lane(id).open.as_mut() else { return };
        open.frame = frame;
        open.frame_start = open.fill;
        open.sums = 0;
        open.fill += FRAME_HEADER_BYTES;
    }

    fn end_frame(&mut self, id: LaneId) {
        let lane = match id {
            LaneId::Hot => &mut self.hot,
            LaneId::Cold => &mut self.cold,
        };
        let Some(open) = lane.open.as_mut() else { return };
        let buf = &mut self.tails[open.kind as usize].get_mut(open.block).buf;
        open.frame.length = open.fill - open.frame_start;
        let body = open.frame.encode(open.sums, &mut buf[open.frame_start as usize..]);
        open.bodies = chain(open.bodies, body);
        open.frames += 1;
    }

    /// Moves the open write to the queue, padded; its envelope is filled in when it is handed out.
    pub(super) fn close_write(&mut self, id: LaneId) {
        self.end_frame(id);
        let device_block_bytes = self.options.device_block_bytes;
        let generation = self.generation;
        let lane = match id {
            LaneId::Hot => &mut self.hot,
            LaneId::Cold => &mut self.cold,
        };
        let Some(open) = lane.open.take() else { return };
        let block = self.tails[open.kind as usize].get_mut(open.block);
        let end = round_up(open.fill, device_block_bytes);
        block.buf[open.fill as usize..end as usize].fill(0);
        block.fill = end;
        if open.kind != SegmentKind::Own {
            lane.cursor = Position { segment: open.segment, offset: open.base + end };
        }
        let envelope = Envelope {
            segment: open.segment,
            offset: open.base + open.envelope,
            generation,
            length: open.fill - open.envelope,
            padded: end - open.envelope,
            frames: open.frames,
            records: open.records,
            number: open.number,
            durable_through: 0,
            bodies: open.bodies,
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
            let ages = kinds.map(|k| self.tails[k].evictable().unwrap_or(u64::MAX));
            let oldest = if ages[1] < ages[0] { 1 } else { 0 };
            if ages[oldest] == u64::MAX {
                break;
            }
            if let Some(block) = self.tails[kinds[oldest]].evict() {
                self.pool.give(block.buf);
            }
        }
        let cold = &mut self.tails[SegmentKind::Cold as usize];
        while cold.len() > 1 && cold.evictable().is_some() {
            if let Some(block) = cold.evict() {
                self.pool.give(block.buf);
            }
        }
    }
}
