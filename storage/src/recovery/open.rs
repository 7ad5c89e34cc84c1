//! Opening: the superblock, the segments' headers; and finishing: the new generation.

use super::{Known, OpenError, Recovery, Report, WRITES_MAX};
use crate::bytes::round_up;
use crate::device::{Blocking, File, Fill, IoBuf, Slot};
use crate::log::{Log, LogOptions, ReadError, RecoveredSegment, Start, is_usable};
use crate::record::{RecordError, RecordView};
use crate::segment::{HeaderState, SEGMENT_HEADER_COPIES, SegmentHeader, SegmentKind};
use crate::superblock::{
    GENERATION_ENDS_MAX, GenerationEnd, ReplayPoint, SUPERBLOCK_COPY_BYTES, Superblock,
};
use crate::types::{Position, SegmentId};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes that a read of a checkpoint's record takes in.
const READ_AHEAD: u32 = 256 << 10;

impl Recovery {
    /// Reads the superblock and the segments' headers. `seed` must be fresh for each opening: the
    /// keys of new segments come from it.
    pub fn open<D: Blocking>(
        dev: &mut D,
        options: LogOptions,
        seed: u64,
    ) -> Result<Recovery, OpenError> {
        options.check().map_err(OpenError::Options)?;
        let headers = read_headers(dev, &options)?;
        let mut report = Report::default();
        let (superblock, good_copy) = match read_superblock(dev, &options, &mut report)? {
            Some(found) => found,
            None if headers.iter().any(|(_, _, s)| *s != HeaderState::Blank) => {
                return Err(OpenError::Superblock(
                    "the file is missing, empty or cut off, although there are segments with \
                     content; nothing was changed or deleted. It can be put back from a copy that \
                     is as new as the segments"
                        .into(),
                ));
            }
            None => {
                report.created = true;
                (first_superblock(&options), 1)
            }
        };
        if (superblock.store, superblock.shard) != (options.store, options.shard.0) {
            return Err(OpenError::Foreign(format!(
                "the superblock is that of store {:x}, shard {}",
                superblock.store, superblock.shard
            )));
        }
        if superblock.shards != options.shards {
            return Err(OpenError::Foreign(format!(
                "the store has {} shards, not {}",
                superblock.shards, options.shards
            )));
        }
        check_counts(&superblock)?;
        let replay = superblock.replay;
        let mut recovery = Recovery {
            seed,
            report,
            segments: BTreeMap::new(),
            begins: BTreeMap::new(),
            spares: Vec::new(),
            unwanted: Vec::new(),
            next_segment: 1,
            next_slot: 0,
            number: replay.number,
            cursor: replay.cursor,
            skip: replay.skip,
            in_write: None,
            ended: false,
            touched: BTreeSet::new(),
            buf: IoBuf::zeroed(options.block_bytes as usize),
            own_buf: None,
            loaded: None,
            page: None,
            page_at: None,
            superblock,
            good_copy,
            options,
        };
        for (slot, len, state) in headers {
            recovery.take_file(slot, len, state)?;
        }
        Ok(recovery)
    }

    /// Sorts a segment file in.
    fn take_file(&mut self, slot: Slot, len: u64, state: HeaderState) -> Result<(), OpenError> {
        self.next_slot = self.next_slot.max(slot.0.saturating_add(1));
        let header = match state {
            HeaderState::Valid(header) => header,
            HeaderState::Corrupt => {
                self.report.unidentified.push(slot.0);
                return Ok(());
            }
            HeaderState::Unknown(format) => {
                let file = slot.0;
                let what = format!("the header of segment file {file:08x} is of format {format}");
                return Err(OpenError::Unknown(what));
            }
            HeaderState::Blank => {
                self.keep_spare(slot, len);
                return Ok(());
            }
        };
        self.check_header(slot, &header)?;
        self.next_segment = self.next_segment.max(header.segment.0 + 1);
        let discarded = match self.end_of(header.generation) {
            None if header.generation < self.superblock.generation => {
                // The generation has no live segments any more, says the superblock.
                self.keep_spare(slot, len);
                return Ok(());
            }
            None => false,
            Some(end) => match header.kind {
                SegmentKind::Hot => header.segment > end.end.segment,
                SegmentKind::Own => header.first_write >= end.write,
                SegmentKind::Cold | SegmentKind::ColdOwn => false,
            },
        };
        let mut end = u32::try_from(header.bytes.min(len)).unwrap_or(u32::MAX);
        if let Some(ended) = self.end_of(header.generation)
            && header.kind == SegmentKind::Hot
            && header.segment == ended.end.segment
        {
            end = end.min(ended.end.offset);
        }
        let own = header.kind == SegmentKind::Own;
        let last_write = if own { header.first_write } else { 0 };
        let segment = header.segment;
        if !header.kind.is_cold() && !discarded {
            self.begins.insert((header.generation, header.first_write), segment);
        }
        let known = Known { slot, header, discarded, last_write, end };
        if let Some(twin) = self.segments.insert(segment, known) {
            return Err(OpenError::Foreign(format!(
                "segment {} lies in two files, {:08x} and {:08x}",
                segment.0, twin.slot.0, slot.0
            )));
        }
        Ok(())
    }

    fn check_header(&self, slot: Slot, header: &SegmentHeader) -> Result<(), OpenError> {
        let options = &self.options;
        let wrong =
            |what: &str| Err(OpenError::Foreign(format!("segment file {:08x} {what}", slot.0)));
        if (header.store, header.shard) != (options.store, options.shard.0) {
            return wrong("belongs to another store or shard");
        }
        if (header.block_bytes, header.device_block_bytes)
            != (options.block_bytes, options.device_block_bytes)
        {
            return wrong("was made with other block sizes");
        }
        if header.segment.0 >= u32::MAX - 1 {
            return wrong("has an id that no segment gets");
        }
        if header.generation > self.superblock.generation {
            return wrong("is of a generation that the superblock does not know");
        }
        Ok(())
    }

    fn keep_spare(&mut self, slot: Slot, len: u64) {
        let wanted = self.spares.len() < self.options.pool_segments_max as usize;
        if wanted && is_usable(len, &self.options) {
            self.spares.push((slot, len));
        } else {
            self.unwanted.push(slot);
        }
    }

    pub(super) fn end_of(&self, generation: u32) -> Option<&GenerationEnd> {
        self.superblock.ends.iter().find(|end| end.generation == generation)
    }

    /// Reads one record, verified: the root of the checkpoint and its pages. `len` is the record's
    /// padded length, or more.
    pub fn read<D: Blocking>(
        &mut self,
        dev: &mut D,
        position: Position,
        len: u32,
    ) -> Result<RecordView<'_>, ReadError> {
        let known = self.segments.get(&position.segment).filter(|k| !k.discarded);
        let Some(known) = known else { return Err(ReadError::Missing(position.segment)) };
        let file = File::Segment(known.slot);
        let corrupt = |error| ReadError::Corrupt { position, error };
        let Some(room) = known.end.checked_sub(position.offset) else {
            return Err(corrupt(RecordError::Short { needed: len as usize }));
        };
        let dev_block = self.options.device_block_bytes;
        let end = position.offset + len.min(room);
        let held = |(segment, start, got): (SegmentId, u32, u32)| {
            segment == position.segment && start <= position.offset && end <= start + got
        };
        if !self.page_at.is_some_and(held) {
            let start = position.offset & !(dev_block - 1);
            // The records of a checkpoint lie together: what comes next is read too.
            let to = end.max(start.saturating_add(READ_AHEAD).min(known.end));
            let bytes = round_up(to - start, dev_block) as usize;
            if self.page.as_ref().is_none_or(|p| p.len() < bytes) {
                self.page = Some(IoBuf::zeroed(bytes.next_power_of_two()));
            }
            self.page_at = None;
            let Some(page) = self.page.as_mut() else {
                return Err(corrupt(RecordError::Malformed));
            };
            let got = dev
                .read_at(file, start as u64, &mut page[..bytes])
                .map_err(|error| ReadError::Device { position, error })?;
            self.page_at = Some((position.segment, start, got as u32));
        }
        let (_, start, got) = self.page_at.unwrap_or_default();
        let page = self.page.as_deref().unwrap_or_default();
        let record = page.get((position.offset - start) as usize..got as usize);
        let record = record.map(RecordView::decode);
        let record = record.unwrap_or(Err(RecordError::Short { needed: len as usize }));
        record.and_then(|r| r.verify().map(|()| r)).map_err(corrupt)
    }

    /// Ends the replay (running what is left of it), flushes what was accepted, begins a new
    /// generation and gives the log that goes on.
    pub fn finish<D: Blocking>(mut self, dev: &mut D) -> Result<(Log, Report), OpenError> {
        while self.next(dev)?.is_some() {}
        for slot in &self.unwanted {
            dev.remove(File::Segment(*slot))?;
        }
        for slot in &self.touched {
            dev.flush(File::Segment(*slot))?;
        }
        self.begin_generation(dev)?;
        self.report.generation = self.superblock.generation;
        self.report.end = self.cursor;
        let segments = self.segments.into_iter().map(|(segment, known)| RecoveredSegment {
            segment,
            slot: known.slot,
            kind: known.header.kind,
            bytes: known.header.bytes,
            key: known.header.key,
            generation: known.header.generation,
            end: known.end,
            last_write: known.last_write,
            discarded: known.discarded,
        });
        let log = Log::start(Start {
            options: self.options,
            seed: self.seed,
            superblock: self.superblock,
            segments: segments.collect(),
            spares: self.spares,
            next_segment: self.next_segment,
            next_slot: self.next_slot,
            next_write: self.number,
            cursor: self.cursor,
        });
        Ok((log, self.report))
    }

    fn begin_generation<D: Blocking>(&mut self, dev: &mut D) -> Result<(), OpenError> {
        let ended = self.superblock.generation;
        let end = GenerationEnd { generation: ended, end: self.cursor, write: self.number };
        for known in self.segments.values_mut().filter(|k| k.header.generation == ended) {
            known.discarded |= match known.header.kind {
                SegmentKind::Hot => known.header.segment > end.end.segment,
                SegmentKind::Own => known.header.first_write >= end.write,
                SegmentKind::Cold | SegmentKind::ColdOwn => false,
            };
        }
        if let Some(last) = self.segments.get_mut(&self.cursor.segment)
            && last.header.generation == ended
        {
            last.end = last.end.min(self.cursor.offset);
        }
        let superblock = &mut self.superblock;
        superblock.ends.push(end);
        let replay = superblock.replay.number;
        let segments = &self.segments;
        superblock.ends.retain(|end| {
            end.write > replay
                || segments.values().any(|k| k.header.generation == end.generation && !k.discarded)
        });
        if superblock.ends.len() > GENERATION_ENDS_MAX {
            return Err(OpenError::TooManyGenerations);
        }
        superblock.generation += 1;
        superblock.sequence += 1;
        superblock.durable_through = self.number - 1;
        if self.report.created {
            dev.create(File::Superblock, 2 * SUPERBLOCK_COPY_BYTES as u64, Fill::Allocate)?;
        }
        let length = round_up(superblock.length() as u32, self.options.device_block_bytes);
        let mut buf = IoBuf::zeroed(length as usize);
        superblock.encode(&mut buf);
        for copy in [1 - self.good_copy, self.good_copy] {
            dev.write_at(File::Superblock, copy * SUPERBLOCK_COPY_BYTES as u64, &buf)?;
            dev.flush(File::Superblock)?;
        }
        Ok(())
    }
}

fn first_superblock(options: &LogOptions) -> Superblock {
    Superblock {
        store: options.store,
        shard: options.shard.0,
        shards: options.shards,
        replay: ReplayPoint { number: 1, ..ReplayPoint::default() },
        ..Superblock::default()
    }
}

/// Counts that no log reaches would overflow later.
fn check_counts(superblock: &Superblock) -> Result<(), OpenError> {
    let writes = |n: u64| (1..=WRITES_MAX).contains(&n);
    let possible = writes(superblock.replay.number)
        && superblock.ends.iter().all(|end| writes(end.write))
        && superblock.durable_through <= WRITES_MAX
        && superblock.sequence <= WRITES_MAX
        && superblock.generation < u32::MAX;
    match possible {
        true => Ok(()),
        false => Err(OpenError::Superblock("it counts beyond what there can be".into())),
    }
}

fn read_headers<D: Blocking>(
    dev: &mut D,
    options: &LogOptions,
) -> Result<Vec<(Slot, u64, HeaderState)>, OpenError> {
    let bytes = (SEGMENT_HEADER_COPIES * options.device_block_bytes) as usize;
    let mut buf = IoBuf::zeroed(bytes);
    let mut found = Vec::new();
    for (slot, len) in dev.list()? {
        buf.fill(0);
        dev.read_at(File::Segment(slot), 0, &mut buf)?;
        found.push((slot, len, SegmentHeader::judge(&buf, options.device_block_bytes)));
    }
    Ok(found)
}

/// The newer of the two copies, and which of them it is; `None` if there never was one.
fn read_superblock<D: Blocking>(
    dev: &mut D,
    options: &LogOptions,
    report: &mut Report,
) -> Result<Option<(Superblock, u64)>, OpenError> {
    debug_assert!(SUPERBLOCK_COPY_BYTES.is_multiple_of(options.device_block_bytes));
    let Some(buf) = superblock_copies(dev)? else { return Ok(None) };
    // What a killed process wrote may not be on the medium yet; nothing may rest on it.
    dev.flush(File::Superblock)?;
    let second = &buf[SUPERBLOCK_COPY_BYTES as usize..];
    let copies = [Superblock::decode(&buf), Superblock::decode(second)];
    let good = copies.iter().flatten().count();
    let whole = copies.into_iter().zip(0..).filter_map(|(found, copy)| Some((found?, copy)));
    match whole.max_by_key(|(found, _)| found.sequence) {
        Some(newer) => {
            report.superblock_repaired = good == 1;
            Ok(Some(newer))
        }
        None if buf.iter().all(|b| *b == 0) => Ok(None),
        // A machine that stopped while the first superblock was written leaves a part of the
        // first copy, nothing in the second, and no segments; the caller refuses if there are.
        None if second.iter().all(|b| *b == 0) => Ok(None),
        None => Err(OpenError::Superblock(
            "both copies are corrupt; nothing was changed or deleted. It can be put back from a \
             copy that is as new as the segments"
                .into(),
        )),
    }
}

/// Reads both copies of the superblock, if there is a file. A whole one that another release wrote
/// is not passed over, whatever the other copy says: that may be the older one, and would replace
/// it.
fn superblock_copies<D: Blocking>(dev: &mut D) -> Result<Option<IoBuf>, OpenError> {
    if dev.file_len(File::Superblock)?.is_none() {
        return Ok(None);
    }
    let mut buf = IoBuf::zeroed(2 * SUPERBLOCK_COPY_BYTES as usize);
    dev.read_at(File::Superblock, 0, &mut buf)?;
    let second = &buf[SUPERBLOCK_COPY_BYTES as usize..];
    let other = [&buf[..], second].into_iter().find_map(Superblock::other_version);
    match other {
        Some(version) => Err(OpenError::Unknown(format!("the superblock is of version {version}"))),
        None => Ok(Some(buf)),
    }
}

/// Refuses a log whose superblock a later release wrote, before another of its store is changed.
pub fn refuse_unknown<D: Blocking>(dev: &mut D) -> Result<(), OpenError> {
    superblock_copies(dev).map(|_| ())
}

/// The standard place of a segment's first write.
pub(super) fn first_write(options: &LogOptions, segment: SegmentId) -> Position {
    Position { segment, offset: SEGMENT_HEADER_COPIES * options.device_block_bytes }
}
