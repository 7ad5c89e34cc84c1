//! Enumerating the records of a segment, for relocation.
//!
//! A scan finds what it can verify. It is safe to relocate by: a record that a scan does not find
//! keeps counting as live, so its segment is not freed.

use super::read::Place;
use super::{Log, ReadError, ReadHint, ReadId};
use crate::device::Op;
use crate::envelope::{ENVELOPE_BYTES, Envelope, FRAME_HEADER_BYTES, FrameHeader};
use crate::record::{META_HEADER_BYTES, RecordError, RecordView};
use crate::types::{Position, SegmentId};

/// Steps over device blocks without a write in one call.
const SKIPS_MAX: u32 = 256;

/// Where a scan is.
#[derive(Clone, Debug)]
pub struct Scan {
    segment: SegmentId,
    at: u32,
    /// End of the write that `at` is in and start of the next; 0 between writes.
    write_end: u32,
    next_write: u32,
    /// Records left in the frame.
    records: u32,
}

/// One step of a scan.
#[derive(Debug)]
pub enum ScanStep<'a> {
    /// A verified record.
    Record {
        /// Where it lies.
        position: Position,
        /// Its padded bytes.
        len: u32,
        /// The record, until the next call.
        record: RecordView<'a>,
    },
    /// Something that does not verify was left out.
    Damaged(Position),
    /// Call again when this read is over.
    Pending(ReadId),
    /// Call again when any read is over.
    Busy,
    /// Call again, in another turn if this one is long.
    More,
    /// There is nothing more.
    End,
}

impl Scan {
    /// The segment.
    pub fn segment(&self) -> SegmentId {
        self.segment
    }
}

enum Got {
    Here(Place),
    Step(ScanStep<'static>),
}

impl Log {
    /// Begins a scan of a segment that is not appended to.
    pub fn scan_segment(&self, segment: SegmentId) -> Scan {
        let at = self.options.first_write_offset();
        Scan { segment, at, write_end: 0, next_write: 0, records: 0 }
    }

    /// Begins a scan somewhere in a segment, at part `nth` of `parts`. `None` if there is nothing.
    pub fn scan_part(&self, segment: SegmentId, nth: u32, parts: u32) -> Option<Scan> {
        let end = self.segments.get(&segment)?.end;
        let at = u64::from(end) * u64::from(nth) / u64::from(parts);
        // A block begins with a write.
        let at = (at / u64::from(self.options.block_bytes)) as u32 * self.options.block_bytes;
        let at = at.max(self.options.first_write_offset());
        (at < end).then_some(Scan { segment, at, write_end: 0, next_write: 0, records: 0 })
    }

    /// Goes on to the next record.
    pub fn scan_next(
        &mut self,
        scan: &mut Scan,
        ops: &mut Vec<Op>,
    ) -> Result<ScanStep<'_>, ReadError> {
        let mut skips = 0;
        loop {
            if scan.write_end == 0 {
                if let Some(step) = self.scan_envelope(scan, ops)? {
                    return Ok(step);
                }
                skips += 1;
                if skips > SKIPS_MAX {
                    return Ok(ScanStep::More);
                }
            } else if scan.at >= scan.write_end {
                scan.at = scan.next_write;
                scan.write_end = 0;
            } else if scan.records == 0 {
                if let Some(step) = self.scan_frame(scan, ops)? {
                    return Ok(step);
                }
            } else {
                return self.scan_record(scan, ops);
            }
        }
    }

    fn get(&mut self, scan: &Scan, len: u32, ops: &mut Vec<Op>) -> Result<Got, ReadError> {
        let position = Position { segment: scan.segment, offset: scan.at };
        Ok(match self.place(position, len, ReadHint::Ahead, ops)? {
            Place::Pending(id) => Got::Step(ScanStep::Pending(id)),
            Place::Busy => Got::Step(ScanStep::Busy),
            place => Got::Here(place),
        })
    }

    fn scan_envelope(
        &mut self,
        scan: &mut Scan,
        ops: &mut Vec<Op>,
    ) -> Result<Option<ScanStep<'static>>, ReadError> {
        let Some(segment) = self.segments.get(&scan.segment) else {
            return Err(ReadError::Missing(scan.segment));
        };
        let (key, generation, end) = (segment.key, segment.generation, segment.end);
        if scan.at as u64 + ENVELOPE_BYTES as u64 > end as u64 {
            return Ok(Some(ScanStep::End));
        }
        let place = match self.get(scan, ENVELOPE_BYTES, ops)? {
            Got::Here(place) => place,
            Got::Step(step) => return Ok(Some(step)),
        };
        let position = Position { segment: scan.segment, offset: scan.at };
        let found = self.bytes_at(&place, position).and_then(|b| Envelope::decode(b, key));
        let fits = |e: &Envelope| {
            (e.segment, e.offset, e.generation) == (scan.segment, scan.at, generation)
                && e.length >= ENVELOPE_BYTES
                && e.padded >= e.length
                && scan.at as u64 + e.length as u64 <= end as u64
        };
        match found.filter(fits) {
            Some(envelope) => {
                scan.write_end = scan.at + envelope.length;
                scan.next_write = scan.at + envelope.padded;
                scan.at += ENVELOPE_BYTES;
                scan.records = 0;
            }
            None => scan.at += self.options.device_block_bytes,
        }
        Ok(None)
    }

    fn scan_frame(
        &mut self,
        scan: &mut Scan,
        ops: &mut Vec<Op>,
    ) -> Result<Option<ScanStep<'static>>, ReadError> {
        let place = match self.get(scan, FRAME_HEADER_BYTES, ops)? {
            Got::Here(place) => place,
            Got::Step(step) => return Ok(Some(step)),
        };
        let position = Position { segment: scan.segment, offset: scan.at };
        let frame = self.bytes_at(&place, position).and_then(FrameHeader::decode);
        match frame.filter(|f| f.records > 0) {
            Some(frame) => {
                scan.records = frame.records;
                scan.at += FRAME_HEADER_BYTES;
                Ok(None)
            }
            None => {
                scan.at = scan.write_end;
                Ok(Some(ScanStep::Damaged(position)))
            }
        }
    }

    fn scan_record(
        &mut self,
        scan: &mut Scan,
        ops: &mut Vec<Op>,
    ) -> Result<ScanStep<'_>, ReadError> {
        let position = Position { segment: scan.segment, offset: scan.at };
        let left = (scan.write_end - scan.at) as usize;
        let mut len = META_HEADER_BYTES as u32;
        let place = loop {
            let place = match self.get(scan, len.min(left as u32), ops)? {
                Got::Here(place) => place,
                Got::Step(step) => return Ok(step),
            };
            let bytes = self.bytes_at(&place, position).unwrap_or_default();
            match RecordView::decode(&bytes[..bytes.len().min(left)]) {
                Err(RecordError::Short { needed })
                    if needed <= left && needed as u64 > len as u64 =>
                {
                    len = needed as u32;
                }
                _ => break place,
            }
        };
        let bytes = self.bytes_at(&place, position).unwrap_or_default();
        match RecordView::decode(&bytes[..bytes.len().min(left)]) {
            Ok(record) => {
                let len = record.padded_len();
                scan.at += len;
                scan.records -= 1;
                Ok(match record.verify() {
                    Ok(()) => ScanStep::Record { position, len, record },
                    Err(_) => ScanStep::Damaged(position),
                })
            }
            Err(_) => {
                scan.at = scan.write_end;
                scan.records = 0;
                Ok(ScanStep::Damaged(position))
            }
        }
    }
}
