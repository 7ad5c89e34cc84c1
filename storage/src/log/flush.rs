//! Writes out and completions in: sealing, the frontiers, the flushes of `SyncPolicy::Interval`.

use super::append::{ClosedFrame, Write};
use super::space::Spare;
use super::{
    BlockName, LaneId, Log, LogFailure, Pending, Progress, SealedEntry, Stamp, Stamper, SyncPolicy,
};
use crate::bytes::chain;
use crate::device::{DeviceError, Done, File, Op, Token};
use crate::envelope::{FRAME_HEADER_BYTES, FrameHeader, LOCAL_GROUP};
use crate::segment::{SEGMENT_HEADER_COPIES, SegmentHeader};
use crate::types::{Position, SegmentId};

/// Flushes under `SyncPolicy::Interval`. One round at a time covers every file written since the
/// last.
#[derive(Default)]
pub(super) struct FlushRounds {
    /// Files with hot writes that are written and not flushed.
    dirty: Vec<File>,
    /// Flushes of the round that are not complete. The round covers the writes that were written
    /// when it began (`Write::flushing`).
    left: usize,
    /// When the last round was begun.
    begun_at: i64,
    /// Somebody waits for a flush: do not wait for the interval.
    wanted: bool,
    /// When something last became durable.
    pub(super) durable_at: i64,
}

impl Log {
    /// Hands out what may be written now. Called once a turn, after the turn's appends.
    ///
    /// The open write is sealed only when a slot is free; otherwise it goes on collecting.
    pub fn seal(&mut self, ops: &mut Vec<Op>, stamper: &mut impl Stamper) {
        if self.failed.is_some() {
            return;
        }
        self.request_space(ops);
        for lane in [LaneId::Hot, LaneId::Cold] {
            while self.hand_out(lane, ops, stamper) {}
        }
        self.pump_superblock(ops);
    }

    /// Asks for a flush of everything written, and soon of what is appended, without waiting for
    /// the interval: on shutdown, or when somebody needs `durable` to move.
    pub fn request_flush(&mut self) {
        self.flush.wanted = true;
    }

    /// Told of the time, once a turn before anything else, and at `deadline`.
    pub fn tick(&mut self, now: i64, ops: &mut Vec<Op>) {
        self.now = self.now.max(now);
        self.reads.begin_round();
        if self.failed.is_some() {
            return;
        }
        self.flush_if_due(ops);
        if self.idle_mark_due().is_some_and(|at| at <= self.now) {
            self.superblock.want_mark();
        }
        self.pump_superblock(ops);
        self.retry_space(ops);
        self.zero_a_spare(ops);
    }

    /// When `tick` has something to do.
    pub fn deadline(&self) -> Option<i64> {
        if self.failed.is_some() {
            return None;
        }
        let flush = match self.options.sync {
            SyncPolicy::Interval(ns) if !self.flush.dirty.is_empty() && self.flush.left == 0 => {
                Some(self.flush.begun_at.saturating_add(ns))
            }
            _ => None,
        };
        let gather = self.gather_until().filter(|at| self.now < *at);
        let due = [flush, gather, self.idle_mark_due(), self.space_retry_due(), self.zero_due()];
        due.into_iter().flatten().min()
    }

    /// Told that an operation is over. Pushes what follows from it.
    pub fn complete(
        &mut self,
        done: Done,
        ops: &mut Vec<Op>,
        stamper: &mut impl Stamper,
    ) -> Result<Progress, LogFailure> {
        let mut progress = Progress::default();
        let Some(pending) = self.tokens.remove(&done.token) else {
            return Err(LogFailure { message: format!("unknown completion {:?}", done.token) });
        };
        match pending {
            Pending::Write { lane, number } => {
                self.write_done(lane, number, done.result, &mut progress)?;
                while self.hand_out_queued(lane, ops, stamper) {}
            }
            Pending::Flush => self.flush_done(done.result, &mut progress)?,
            Pending::Read { id } => {
                self.read_done(id, done.result, done.buf);
                progress.read = Some(id);
            }
            Pending::CreateSpare { slot, bytes } => {
                let spare = Spare { slot, bytes, zeroed: false };
                self.spare_done(spare, done.result, &mut progress)?;
            }
            Pending::Zero { slot, bytes } => {
                let spare = Spare { slot, bytes, zeroed: true };
                self.spare_done(spare, done.result, &mut progress)?;
            }
            Pending::CreateOwn { slot, segment } => {
                self.own_done(slot, segment, done.result, &mut progress)?;
            }
            Pending::Remove => {
                done.result.map_err(|e| self.fail("removing a segment", &e))?;
            }
            Pending::Superblock => self.superblock_done(done.result, ops, &mut progress)?,
        }
        if self.failed.is_none() {
            self.flush_if_due(ops);
            self.pump_superblock(ops);
        }
        Ok(progress)
    }

    /// Hands out the lane's next write, closing the open one if it is that. False if there is
    /// none or no slot is free.
    fn hand_out(&mut self, id: LaneId, ops: &mut Vec<Op>, stamper: &mut impl Stamper) -> bool {
        let lane = self.lane(id);
        if lane.issued == lane.queue.len() {
            let Some(bytes) = lane.open.as_ref().map(|w| w.bytes()) else { return false };
            let gathers = id == LaneId::Hot && self.gather_until().is_some_and(|at| self.now < at);
            if gathers || !self.slot_free(id, bytes) {
                return false;
            }
            self.close_write(id);
        }
        self.hand_out_queued(id, ops, stamper)
    }

    fn hand_out_queued(
        &mut self,
        id: LaneId,
        ops: &mut Vec<Op>,
        stamper: &mut impl Stamper,
    ) -> bool {
        let lane = self.lane(id);
        let next = lane.issued;
        let Some(write) = lane.queue.get(next) else { return false };
        let (bytes, segment, number) = (write.bytes(), write.segment, write.number);
        let Some(slot) = self.segments.get(&segment).and_then(|s| s.slot) else { return false };
        if self.failed.is_some() || !self.slot_free(id, bytes) {
            return false;
        }
        let token = self.token(Pending::Write { lane: id, number });
        let zeroes = self.extend(id, next, segment);
        let now = self.now;
        let lane = self.lane(id);
        lane.extending = (zeroes > 0).then_some(number);
        lane.queue[next].zeroes = zeroes;
        lane.issued += 1;
        lane.in_flight += 1;
        lane.issued_at = now;
        let flush = id == LaneId::Cold || self.options.sync == SyncPolicy::Always;
        self.stamp_frames(id, next, stamper);
        let op = self.write_op(id, next, token, File::Segment(slot), flush);
        ops.push(op);
        true
    }

    /// Gives the frames of a write their places in their groups' logs, and reports the entries.
    fn stamp_frames(&mut self, id: LaneId, nth: usize, stamper: &mut impl Stamper) {
        let Log { hot, cold, tails, sealed, .. } = self;
        let lane = if id == LaneId::Hot { hot } else { cold };
        let write = &mut lane.queue[nth];
        let buf = &mut tails[write.kind as usize].get_mut(write.block).buf;
        let mut bodies = 0;
        for frame in &write.frames {
            let ClosedFrame { group, start, length, sums, records } = *frame;
            let stamp = if group == LOCAL_GROUP { Stamp::default() } else { stamper.stamp(group) };
            let Stamp { term, index, commit } = stamp;
            let header = FrameHeader { group, term, index, commit, version: 2, length, records };
            bodies = chain(bodies, header.encode(sums, &mut buf[start as usize..]));
            if group != LOCAL_GROUP {
                let offset = write.base + start + FRAME_HEADER_BYTES;
                let position = Position { segment: write.segment, offset };
                let length = length - FRAME_HEADER_BYTES;
                let block = BlockName { kind: write.kind as u8, serial: write.block };
                let write = write.number;
                sealed.push(SealedEntry {
                    group,
                    term,
                    index,
                    write,
                    position,
                    length,
                    records,
                    block,
                });
            }
        }
        write.envelope.bodies = bodies;
    }

    fn extend(&mut self, id: LaneId, nth: usize, segment: SegmentId) -> u32 {
        let write = &self.lane(id).queue[nth];
        let (end, bytes) = (write.base as u64 + write.end as u64, write.bytes());
        let found = self.segments.get_mut(&segment);
        found.map_or(0, |s| s.extend(end, bytes, &self.options))
    }

    /// Until when the open write waits for company.
    fn gather_until(&self) -> Option<i64> {
        let open = self.hot.open.as_ref()?;
        let waits = self.options.gather_ns > 0
            && !self.flush.wanted
            && self.hot.issued == self.hot.queue.len()
            && open.bytes() < self.options.large_write_bytes;
        waits.then(|| self.hot.issued_at.saturating_add(self.options.gather_ns))
    }

    fn slot_free(&self, id: LaneId, bytes: u32) -> bool {
        let options = &self.options;
        let lane = match id {
            LaneId::Hot => &self.hot,
            LaneId::Cold => &self.cold,
        };
        if lane.extending.is_some() {
            return false;
        }
        let large = id == LaneId::Hot && bytes >= options.large_write_bytes;
        let allowed = if large {
            options.large_writes_in_flight.max(options.writes_in_flight)
        } else {
            options.writes_in_flight
        };
        lane.in_flight < allowed
    }

    /// Fills in the envelope (and the segment's header before a first write).
    fn write_op(&mut self, id: LaneId, nth: usize, token: Token, file: File, flush: bool) -> Op {
        let durable = self.lane(id).durable_number;
        let (write, tails) = match id {
            LaneId::Hot => (&mut self.hot.queue[nth], &mut self.tails),
            LaneId::Cold => (&mut self.cold.queue[nth], &mut self.tails),
        };
        let segment = &self.segments[&write.segment];
        write.envelope.durable_through = durable;
        let block = tails[write.kind as usize].get_mut(write.block);
        write.envelope.encode(segment.key, &mut block.buf[write.at as usize..]);
        if write.start < write.at {
            let header = SegmentHeader {
                store: self.options.store,
                shard: self.options.shard.0,
                segment: write.segment,
                kind: write.kind,
                generation: self.generation,
                block_bytes: self.options.block_bytes,
                device_block_bytes: self.options.device_block_bytes,
                bytes: segment.bytes,
                first_write: segment.first_write,
                key: segment.key,
            };
            block.buf[..write.at as usize].fill(0);
            for copy in 0..SEGMENT_HEADER_COPIES {
                let at = copy * self.options.device_block_bytes;
                header.encode(&mut block.buf[at as usize..]);
            }
        }
        // SAFETY: the block has a pending write until write_done, so it is neither evicted nor
        // freed (drop leaks it), and records only go behind the end of closed writes.
        let data = unsafe { block.buf.view(write.start as usize, write.end as usize) };
        let (offset, zeroes) = ((write.base + write.start) as u64, write.zeroes);
        Op::Write { token, file, offset, data, zeroes, flush }
    }

    fn write_done(
        &mut self,
        id: LaneId,
        number: u64,
        result: Result<usize, DeviceError>,
        progress: &mut Progress,
    ) -> Result<(), LogFailure> {
        let lane = self.lane(id);
        lane.in_flight -= 1;
        lane.extending = lane.extending.filter(|extending| *extending != number);
        let Some(first) = lane.queue.front().map(|w| w.number) else { return Ok(()) };
        let write = &mut lane.queue[(number - first) as usize];
        let want = (write.bytes() + write.zeroes) as usize;
        write.written = true;
        let (kind, block, segment) = (write.kind, write.block, write.segment);
        self.tails[kind as usize].get_mut(block).pending -= 1;
        match result {
            Ok(n) if n == want => {}
            Ok(n) => {
                let message = format!("only {n} of {want} bytes");
                let error = DeviceError::Io { errno: 0, message };
                return Err(self.fail("writing to the log", &error));
            }
            Err(e) => return Err(self.fail("writing or flushing the log", &e)),
        }
        if self.failed.is_some() {
            return Ok(());
        }
        if id == LaneId::Cold || self.options.sync == SyncPolicy::Always {
            let lane = self.lane(id);
            lane.queue[(number - first) as usize].flushed = true;
        } else if let Some(slot) = self.segments.get(&segment).and_then(|s| s.slot) {
            let file = File::Segment(slot);
            if !self.flush.dirty.contains(&file) {
                self.flush.dirty.push(file);
            }
        }
        self.advance(id, progress);
        Ok(())
    }

    /// Moves the frontiers over what is an unbroken run now.
    fn advance(&mut self, id: LaneId, progress: &mut Progress) {
        let lane = self.lane(id);
        let first = lane.queue.front().map_or(0, |w| w.number);
        let begin = (lane.written_number + 1).saturating_sub(first) as usize;
        let run = lane.queue.iter().skip(begin).take_while(|w| w.written);
        if let Some(last) = run.last() {
            lane.written = last.mark.last_lsn;
            lane.written_number = last.number;
            progress.written |= id == LaneId::Hot;
        }
        let retire = |w: &Write| w.written && w.flushed;
        while lane.queue.front().is_some_and(retire) {
            lane.retire();
            match id {
                LaneId::Hot => progress.durable = true,
                LaneId::Cold => progress.cold_durable = true,
            }
        }
        if progress.durable {
            self.flush.durable_at = self.now;
        }
    }

    pub(super) fn flush_if_due(&mut self, ops: &mut Vec<Op>) {
        let SyncPolicy::Interval(ns) = self.options.sync else { return };
        let due = self.flush.wanted
            || self.superblock.waits()
            || self.now >= self.flush.begun_at.saturating_add(ns);
        if self.flush.left > 0 || self.flush.dirty.is_empty() || !due {
            return;
        }
        self.flush.begun_at = self.now;
        for write in self.hot.queue.iter_mut().filter(|w| w.written) {
            write.flushing = true;
        }
        let files = std::mem::take(&mut self.flush.dirty);
        self.flush.left = files.len();
        for file in files {
            let token = self.token(Pending::Flush);
            ops.push(Op::Flush { token, file });
        }
    }

    fn flush_done(
        &mut self,
        result: Result<usize, DeviceError>,
        progress: &mut Progress,
    ) -> Result<(), LogFailure> {
        self.flush.left -= 1;
        result.map_err(|e| self.fail("flushing the log", &e))?;
        if self.flush.left == 0 && self.failed.is_none() {
            for write in self.hot.queue.iter_mut().filter(|w| w.flushing) {
                write.flushed = true;
            }
            self.advance(LaneId::Hot, progress);
            self.flush.wanted &= self.unflushed_bytes() > 0;
        }
        Ok(())
    }

    fn idle_mark_due(&self) -> Option<i64> {
        let behind = self.superblock.marked() < self.hot.durable_number;
        let idle = self.hot.queue.is_empty() && self.hot.open.is_none();
        (behind && idle && !self.superblock.in_flight())
            .then(|| self.flush.durable_at.saturating_add(self.options.idle_mark_ns))
    }
}
