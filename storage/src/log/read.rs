//! Reading records: from the tail, from the read cache, from the disk.
//!
//! The cache is a bounded set of buffers, each a stretch of one segment. What can still change is
//! never read into it: a segment that is appended to is read from disk only below its blocks in
//! memory.

use super::{Log, LogOptions, Pending};
use crate::bytes::round_up;
use crate::device::{DeviceError, File, IoBuf, Op};
use crate::record::{META_HEADER_BYTES, RecordError, RecordView};
use crate::segment::SegmentKind;
use crate::types::{Position, SegmentId};
use std::fmt;

/// Sizes of small buffers: single records share them, so that buffers can be used again.
const SMALL_BUF_BYTES: [usize; 2] = [8 << 10, 64 << 10];
/// Stretches at most: they are searched one by one.
const STRETCHES_MAX: usize = 512;
/// Of those, so many that were read before anybody asked, and are not served.
const PREFETCHED_MAX: usize = 256;
/// Steps of the shard for which what was read before anybody asked waits for its reader, as far as
/// other reads before anybody asks are concerned.
const PREFETCHED_ROUNDS: u64 = 4096;
/// Steps of the shard for which what was read waits for its reader.
const FRESH_ROUNDS: u64 = 2;
/// Long reads before a reader that goes on and on.
const READS_AHEAD: usize = 4;
/// Buffers kept for reuse, large and smallest ones.
const FREE_BUFS_MAX: [usize; 2] = [8, 64];

/// A read from disk that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What the reader is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadHint {
    /// Read this record alone.
    One,
    /// Go on forward from it: reads run ahead.
    Ahead,
}

/// The answer to a read.
#[derive(Debug)]
pub enum Read<'a> {
    /// The record, verified if it comes from disk.
    Ready(RecordView<'a>),
    /// Read again when `Progress::read` names this.
    Pending(ReadId),
    /// All of the read memory is waited for: read again when any read is over.
    Busy,
}

/// Why a record cannot be read. Never means that it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The segment has no file.
    Missing(SegmentId),
    /// What lies there is not the record that was written.
    Corrupt {
        /// Where.
        position: Position,
        /// How it was noticed.
        error: RecordError,
    },
    /// The device refused to read.
    Device {
        /// Where.
        position: Position,
        /// What it said.
        error: DeviceError,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Missing(segment) => write!(f, "segment {} is missing", segment.0),
            ReadError::Corrupt { position, error } => {
                write!(f, "segment {} offset {}: {error}", position.segment.0, position.offset)
            }
            ReadError::Device { position, error } => {
                write!(f, "segment {} offset {}: {error}", position.segment.0, position.offset)
            }
        }
    }
}

impl std::error::Error for ReadError {}

/// Where bytes are in memory.
pub(super) enum Place {
    Tail(SegmentKind),
    /// A buffer of the cache, by index.
    Cached(usize),
    Pending(ReadId),
    Busy,
}

struct Stretch {
    segment: SegmentId,
    start: u32,
    /// Bytes that it holds, or will.
    len: u32,
    /// Absent while the read is in flight.
    buf: Option<IoBuf>,
    bytes: usize,
    id: ReadId,
    used: u64,
    /// Somebody found what was read.
    served: bool,
    /// What follows it was asked for.
    followed: bool,
    /// The round in which the read ended.
    ended: u64,
    /// Somebody waits for it.
    awaited: bool,
    error: Option<DeviceError>,
}

impl Stretch {
    /// Whether nobody can be expected to come for it any more.
    fn may_go(&self, round: u64) -> bool {
        self.buf.is_some() && (self.served || round > self.ended + FRESH_ROUNDS)
    }

    /// Whether even a read that nobody asked for may take its place.
    fn is_done_with(&self, round: u64) -> bool {
        self.buf.is_some() && (self.served || round > self.ended + PREFETCHED_ROUNDS)
    }

    fn covers(&self, segment: SegmentId, from: u32, to: u64) -> bool {
        self.segment == segment && self.start <= from && to <= self.start as u64 + self.len as u64
    }
}

pub(super) struct Reads {
    stretches: Vec<Stretch>,
    bytes: usize,
    bytes_max: usize,
    ahead_bytes: u32,
    free: Vec<IoBuf>,
    last: usize,
    next_id: u64,
    clock: u64,
    round: u64,
    /// The largest read that found no room, in bytes, and the round in which it last asked.
    hungry: (usize, u64),
    /// Somebody found no room since that was last looked at.
    turned_away: bool,
}

impl Reads {
    pub fn new(options: &LogOptions) -> Reads {
        Reads {
            stretches: Vec::new(),
            bytes: 0,
            bytes_max: options.read_cache_bytes,
            ahead_bytes: options.read_ahead_bytes,
            free: Vec::new(),
            last: 0,
            next_id: 1,
            clock: 0,
            round: 0,
            hungry: (0, 0),
            turned_away: false,
        }
    }

    fn find(&mut self, segment: SegmentId, from: u32, to: u64) -> Option<usize> {
        let covers = |s: &Stretch| s.covers(segment, from, to);
        let at = if self.stretches.get(self.last).is_some_and(covers) {
            self.last
        } else {
            self.stretches.iter().position(covers)?
        };
        self.last = at;
        self.clock += 1;
        self.stretches[at].used = self.clock;
        self.stretches[at].served |= self.stretches[at].buf.is_some();
        Some(at)
    }

    /// A buffer of at least `bytes`, if the budget allows, letting go of what was used longest ago.
    ///
    /// Nothing is let go in vain, nor what its reader had no time to look at: readers would take
    /// one another's bytes for ever. Who needs more than there is gets it when nothing else is in
    /// flight, and while he asks nobody begins a smaller read.
    fn take_buf(&mut self, bytes: usize) -> Option<IoBuf> {
        let bytes = self.class_of(bytes);
        let kept = self.stretches.iter().filter(|s| !s.may_go(self.round));
        let (count, kept) = kept.fold((0, 0), |(n, sum), s| (n + 1, sum + s.bytes));
        let (most, asked) = self.hungry;
        let first = most > bytes && self.round <= asked + FRESH_ROUNDS;
        let room = count == 0 || kept + bytes <= self.bytes_max && count < STRETCHES_MAX;
        if !room || first {
            if !room {
                self.hungry = (most.max(bytes), self.round);
            }
            self.turned_away = true;
            return None;
        }
        while self.is_full(bytes) {
            let ready = self.stretches.iter().enumerate();
            let ready = ready.filter(|(_, s)| s.may_go(self.round));
            let Some((oldest, _)) = ready.min_by_key(|(_, s)| s.used) else { break };
            self.drop_stretch(oldest);
        }
        if bytes >= most {
            self.hungry = (0, 0);
        }
        Some(self.give_buf(bytes))
    }

    /// As `take_buf`, for what nobody has asked for yet: takes half of the memory at most, and only
    /// what is of no use any more.
    fn spare_buf(&mut self, bytes: usize) -> Option<IoBuf> {
        let bytes = self.class_of(bytes);
        let kept = self.stretches.iter().filter(|s| !s.is_done_with(self.round));
        let (count, kept) = kept.fold((0, 0), |(n, sum), s| (n + 1, sum + s.bytes));
        let asked_for = self.hungry.0 > 0 && self.round <= self.hungry.1 + FRESH_ROUNDS;
        if asked_for || count >= PREFETCHED_MAX || kept + bytes > self.bytes_max / 2 {
            return None;
        }
        while self.is_full(bytes) {
            let ready = self.stretches.iter().enumerate();
            let ready = ready.filter(|(_, s)| s.is_done_with(self.round));
            let (oldest, _) = ready.min_by_key(|(_, s)| s.used)?;
            self.drop_stretch(oldest);
        }
        Some(self.give_buf(bytes))
    }

    /// The size of the buffers for reads of so many bytes.
    fn class_of(&self, bytes: usize) -> usize {
        let ahead = self.ahead_bytes as usize;
        let classes = SMALL_BUF_BYTES.map(|c| c.min(ahead)).into_iter().chain([ahead]);
        classes.into_iter().find(|c| bytes <= *c).unwrap_or(bytes)
    }

    fn is_full(&self, bytes: usize) -> bool {
        self.bytes + bytes > self.bytes_max || self.stretches.len() >= STRETCHES_MAX
    }

    fn give_buf(&mut self, bytes: usize) -> IoBuf {
        self.bytes += bytes;
        let reused = self.free.iter().position(|b| b.len() == bytes);
        reused.map_or_else(|| IoBuf::zeroed(bytes), |at| self.free.swap_remove(at))
    }

    fn is_reading(&self) -> bool {
        self.stretches.iter().any(|s| s.buf.is_none())
    }

    /// A step of the shard begins.
    pub fn begin_round(&mut self) {
        self.round += 1;
    }

    /// True if somebody was turned away and no read is under way whose end would bring him back.
    pub fn are_stalled(&self) -> bool {
        self.turned_away && !self.is_reading()
    }

    fn drop_stretch(&mut self, at: usize) {
        let stretch = self.stretches.swap_remove(at);
        self.bytes -= stretch.bytes;
        let Some(buf) = stretch.buf.filter(|b| b.len() <= self.ahead_bytes as usize) else {
            return;
        };
        let is_smallest = |b: &IoBuf| b.len() <= SMALL_BUF_BYTES[0];
        let smallest = is_smallest(&buf);
        let kept = self.free.iter().filter(|b| is_smallest(b) == smallest).count();
        if kept < FREE_BUFS_MAX[usize::from(smallest)] {
            self.free.push(buf);
        }
    }
}

impl Log {
    /// Reads the record at `position`, which has `len` padded bytes (as `append` returned). The
    /// view lasts until the next call; copy what must last longer.
    pub fn read(
        &mut self,
        position: Position,
        len: u32,
        hint: ReadHint,
        ops: &mut Vec<Op>,
    ) -> Result<Read<'_>, ReadError> {
        let mut len = len.max(META_HEADER_BYTES as u32);
        let place = loop {
            let place = self.place(position, len, hint, ops)?;
            match (&place, self.bytes_at(&place, position).map(RecordView::decode)) {
                (Place::Cached(_), Some(Err(RecordError::Short { needed })))
                    if needed as u64 > len as u64 && needed <= u32::MAX as usize =>
                {
                    len = needed as u32;
                }
                _ => break place,
            }
        };
        let bytes = match place {
            Place::Pending(id) => return Ok(Read::Pending(id)),
            Place::Busy => return Ok(Read::Busy),
            _ => self.bytes_at(&place, position).unwrap_or_default(),
        };
        let verified = RecordView::decode(bytes).and_then(|view| {
            if matches!(place, Place::Cached(_)) {
                view.verify()?;
            }
            Ok(view)
        });
        verified.map(Read::Ready).map_err(|error| ReadError::Corrupt { position, error })
    }

    /// Whether somebody was told `Read::Busy` and no read is under way that he could wait for: it
    /// is time to try again.
    pub fn reads_are_stalled(&self) -> bool {
        self.reads.are_stalled()
    }

    /// As `reads_are_stalled`, once.
    pub fn take_stalled_reads(&mut self) -> bool {
        let stalled = self.reads.are_stalled();
        self.reads.turned_away &= !stalled;
        stalled
    }

    /// Whether `len` bytes at `position` are in memory, or on their way there.
    #[inline]
    pub fn is_at_hand(&self, position: Position, len: u32) -> bool {
        let to = position.offset as u64 + len as u64;
        let reads = &self.reads;
        let covers = |s: &Stretch| s.covers(position.segment, position.offset, to);
        self.tails.iter().any(|t| t.find(position).is_some())
            || reads.stretches.get(reads.last).is_some_and(covers)
            || reads.stretches.iter().any(covers)
    }

    /// Reads `len` bytes at `position`, which will be asked for soon, if there is memory to spare:
    /// many such reads run side by side. False if there is none.
    pub fn prefetch(&mut self, position: Position, len: u32, ops: &mut Vec<Op>) -> bool {
        if self.is_at_hand(position, len) {
            return true;
        }
        let Position { segment: id, offset } = position;
        let Some(segment) = self.segments.get(&id) else { return false };
        let end = round_up(self.stable_end(id, segment), self.options.device_block_bytes);
        let Some(slot) = segment.slot.filter(|_| offset < end) else { return false };
        let dev = self.options.device_block_bytes;
        let start = offset & !(dev - 1);
        let stop = (offset as u64 + len as u64).min(end as u64) as u32;
        let len = round_up(stop, dev) - start;
        let Some(buf) = self.reads.spare_buf(len as usize) else { return false };
        self.issue_read(File::Segment(slot), id, start, len, buf, ops);
        true
    }

    /// The record at `position` if it is in the tail: no device, no waiting.
    #[inline]
    pub fn peek(&self, position: Position) -> Option<RecordView<'_>> {
        let bytes = self.tails.iter().find_map(|t| t.find(position))?;
        RecordView::decode(bytes).ok()
    }

    /// Finds `len` bytes at `position` in memory, or asks the device for them.
    pub(super) fn place(
        &mut self,
        position: Position,
        len: u32,
        hint: ReadHint,
        ops: &mut Vec<Op>,
    ) -> Result<Place, ReadError> {
        use SegmentKind::{Cold, ColdOwn, Hot, Own};
        for kind in [Hot, Own, Cold, ColdOwn] {
            if self.tails[kind as usize].find(position).is_some() {
                return Ok(Place::Tail(kind));
            }
        }
        let Position { segment: id, offset } = position;
        let Some(segment) = self.segments.get(&id) else { return Err(ReadError::Missing(id)) };
        let end = round_up(self.stable_end(id, segment), self.options.device_block_bytes);
        let to = offset as u64 + len as u64;
        let Some(slot) = segment.slot.filter(|_| to <= end as u64) else {
            let error = RecordError::Short { needed: len as usize };
            return Err(ReadError::Corrupt { position, error });
        };
        if let Some(at) = self.reads.find(id, offset, to) {
            let found = &mut self.reads.stretches[at];
            if found.buf.is_none() {
                found.awaited = true;
                return Ok(Place::Pending(found.id));
            }
            if let Some(error) = found.error.take() {
                self.reads.drop_stretch(at);
                return Err(ReadError::Device { position, error });
            }
            let (found_id, begin, stop) = (found.id, found.start, found.start + found.len);
            let follow = hint == ReadHint::Ahead && offset - begin >= (stop - begin) / 2;
            if !follow || found.followed {
                return Ok(Place::Cached(at));
            }
            found.followed = true;
            let overlap = round_up(2 * len, self.options.device_block_bytes);
            let overlap = overlap.min(self.reads.ahead_bytes / 2);
            self.read_on(File::Segment(slot), id, (stop, end), overlap, ops);
            // The prefetch may have moved it, or evicted it if all others are waited for.
            let at = self.reads.stretches.iter().position(|s| s.id == found_id);
            self.reads.turned_away |= at.is_none();
            self.reads.last = at.unwrap_or(0);
            return Ok(at.map_or(Place::Busy, Place::Cached));
        }
        let ahead = if hint == ReadHint::Ahead { end } else { 0 };
        Ok(match self.start_read(File::Segment(slot), id, offset, to, ahead, ops) {
            Some(id) => Place::Pending(id),
            None => Place::Busy,
        })
    }

    /// The bytes from `position` on, if the place has them.
    pub(super) fn bytes_at(&self, place: &Place, position: Position) -> Option<&[u8]> {
        match place {
            Place::Tail(kind) => self.tails[*kind as usize].find(position),
            Place::Cached(at) => {
                let stretch = self.reads.stretches.get(*at)?;
                let from = position.offset.checked_sub(stretch.start)? as usize;
                stretch.buf.as_ref()?.get(from..stretch.len as usize)
            }
            _ => None,
        }
    }

    /// Keeps a few reads under way behind `stop`, before a reader that goes on and on: a device has
    /// several in hand at a time. They overlap by `overlap`, so that a record that lies across the
    /// end of one is whole in the next.
    fn read_on(
        &mut self,
        file: File,
        id: SegmentId,
        (mut stop, end): (u32, u32),
        overlap: u32,
        ops: &mut Vec<Op>,
    ) {
        for _ in 0..READS_AHEAD {
            let from = stop - overlap.min(stop);
            let behind = stop as u64 + 1;
            let known = self.reads.stretches.iter().find(|s| s.covers(id, from, behind));
            if let Some(known) = known {
                stop = known.start + known.len;
                continue;
            }
            let len = self.reads.ahead_bytes.min(end.saturating_sub(from));
            let buf = (stop < end).then(|| self.reads.spare_buf(len as usize)).flatten();
            let Some(buf) = buf else { break };
            self.issue_read(file, id, from, len, buf, ops);
            stop = from + len;
        }
    }

    /// Reads `from..to`, and on towards `ahead` as far as one read goes.
    fn start_read(
        &mut self,
        file: File,
        segment: SegmentId,
        from: u32,
        to: u64,
        ahead: u32,
        ops: &mut Vec<Op>,
    ) -> Option<ReadId> {
        if ahead > 0 && self.reads.find(segment, from, to).is_some() {
            return None;
        }
        let dev = self.options.device_block_bytes;
        let start = from & !(dev - 1);
        let stop = round_up(to as u32, dev);
        let stop = stop.max(ahead.min(start.saturating_add(self.reads.ahead_bytes)));
        let len = stop - start;
        let buf = self.reads.take_buf(len as usize)?;
        let id = self.issue_read(file, segment, start, len, buf, ops);
        if let Some(issued) = self.reads.stretches.last_mut() {
            issued.awaited = true;
        }
        Some(id)
    }

    fn issue_read(
        &mut self,
        file: File,
        segment: SegmentId,
        start: u32,
        len: u32,
        buf: IoBuf,
        ops: &mut Vec<Op>,
    ) -> ReadId {
        let id = ReadId(self.reads.next_id);
        self.reads.next_id += 1;
        self.reads.clock += 1;
        let (used, bytes) = (self.reads.clock, buf.len());
        let stretch = Stretch {
            segment,
            start,
            len,
            buf: None,
            bytes,
            id,
            used,
            served: false,
            followed: false,
            ended: 0,
            awaited: false,
            error: None,
        };
        self.reads.stretches.push(stretch);
        if let Some(found) = self.segments.get_mut(&segment) {
            found.readers += 1;
        }
        let token = self.token(Pending::Read { id });
        ops.push(Op::Read { token, file, offset: start as u64, len: len as usize, buf });
        id
    }

    pub(super) fn read_done(
        &mut self,
        id: ReadId,
        result: Result<usize, DeviceError>,
        buf: Option<IoBuf>,
    ) {
        let Some(at) = self.reads.stretches.iter().position(|s| s.id == id) else { return };
        let stretch = &mut self.reads.stretches[at];
        stretch.buf = Some(buf.unwrap_or_else(|| IoBuf::zeroed(stretch.bytes)));
        match result {
            Ok(n) if n >= stretch.len as usize => {}
            Ok(n) => {
                let message = format!("only {n} of {} bytes", stretch.len);
                stretch.error = Some(DeviceError::Io { errno: 0, message });
            }
            Err(e) => stretch.error = Some(e),
        }
        self.reads.clock += 1;
        stretch.used = self.reads.clock;
        stretch.ended = self.reads.round;
        if let Some(found) = self.segments.get_mut(&stretch.segment) {
            found.readers -= 1;
        }
        let stretch = &self.reads.stretches[at];
        if stretch.error.is_some() && !stretch.awaited {
            // Who comes later reads anew, and is not refused for what nobody asked for.
            self.reads.drop_stretch(at);
        }
    }
}
