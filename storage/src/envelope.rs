//! The write's envelope and the frame's header.
//!
//! A write starts on a device block: an envelope, then frames one after another, then zeroes up to
//! the next device block. A frame is a header and its records. The frames' bytes do not depend on
//! where they lie; the envelope's do. All numbers are little-endian.
//!
//! ```text
//! envelope (96 bytes; `chain` is defined with the record)
//!   0  8  checksum         xxh3-64 of the bytes 8..96, seeded with the segment's key
//!   8  4  magic            "CLW1"
//!  12  2  version          1
//!  14  2  flags            zero
//!  16  4  segment
//!  20  4  offset           of the envelope in the segment
//!  24  4  generation
//!  28  4  length           bytes from the envelope to the end of the last frame
//!  32  4  padded           bytes to the next write
//!  36  4  frames
//!  40  4  records          in all frames
//!  44  4  zero
//!  48  8  number           of this write; counts on through generations
//!  56  8  durable_through  number of the last write that was durable when this one was sealed
//!  64  8  bodies           chain of the frames' body checksums
//!  72 24  reserved         zero
//!
//! frame header (64 bytes)
//!   0  8  checksum         chain of: each record's checksum (which covers the record's header),
//!                          from 0, then xxh3-64 of the bytes 8..64
//!   8  4  magic            "CLF1"
//!  12  1  version          2
//!  13  1  flags            zero
//!  14  1  codec            0: records as they are
//!  15  1  cipher           0: none
//!  16  8  group            0: of this log alone (term, index and commit are zero)
//!  24  8  term
//!  32  8  index            of this entry in the group's log
//!  40  4  length           bytes with this header
//!  44  4  records
//!  48  8  key              of the cipher; zero
//!  56  8  commit           the group's commit index when this was sealed
//! ```
//!
//! A frame is an entry of its group: what one write collected for it. In version 1, which is read,
//! a write held several frames of a group, `index` was that of the frame's first record and records
//! took one each, group 2 held what groups 0 and 1 hold now, and `commit` was zero.

use crate::bytes::{chain, get_u16, get_u32, get_u64, put_u16, put_u32, put_u64};
use crate::record::RecordView;
use crate::types::{GroupId, LogIndex, SegmentId, Term};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Bytes of the envelope before the first frame.
pub const ENVELOPE_BYTES: u32 = 96;
/// Bytes of a frame before its first record.
pub const FRAME_HEADER_BYTES: u32 = 64;

const ENVELOPE_MAGIC: &[u8; 4] = b"CLW1";
const FRAME_MAGIC: &[u8; 4] = b"CLF1";
const VERSION: u16 = 1;
const FRAME_VERSION: u8 = 2;
/// The group of frames that are of one log alone: no group's index counts them.
pub const LOCAL_GROUP: GroupId = GroupId(0);

/// What is said of one write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Where it lies.
    pub segment: SegmentId,
    /// Where in it.
    pub offset: u32,
    /// The log's generation.
    pub generation: u32,
    /// Bytes to the end of the last frame.
    pub length: u32,
    /// Bytes to the next write.
    pub padded: u32,
    /// How many frames.
    pub frames: u32,
    /// How many records in all of them.
    pub records: u32,
    /// The write's number.
    pub number: u64,
    /// The last durable write when it was sealed.
    pub durable_through: u64,
    /// Chain of the frames' checksums.
    pub bodies: u64,
}

impl Envelope {
    /// Writes it into the first bytes of `out`.
    pub fn encode(&self, key: u64, out: &mut [u8]) {
        let out = &mut out[..ENVELOPE_BYTES as usize];
        out.fill(0);
        out[8..12].copy_from_slice(ENVELOPE_MAGIC);
        put_u16(out, 12, VERSION);
        put_u32(out, 16, self.segment.0);
        put_u32(out, 20, self.offset);
        put_u32(out, 24, self.generation);
        put_u32(out, 28, self.length);
        put_u32(out, 32, self.padded);
        put_u32(out, 36, self.frames);
        put_u32(out, 40, self.records);
        put_u64(out, 48, self.number);
        put_u64(out, 56, self.durable_through);
        put_u64(out, 64, self.bodies);
        let checksum = xxh3_64_with_seed(&out[8..], key);
        put_u64(out, 0, checksum);
    }

    /// What is said of a whole one that another release wrote with this key, if this release does
    /// not know its version or flags.
    pub fn unknown(bytes: &[u8], key: u64) -> Option<String> {
        let b = bytes.get(..ENVELOPE_BYTES as usize)?;
        let (version, flags) = (get_u16(b, 12), get_u16(b, 14));
        let unknown = &b[8..12] == ENVELOPE_MAGIC
            && (version, flags) != (VERSION, 0)
            && get_u64(b, 0) == xxh3_64_with_seed(&b[8..], key);
        unknown.then(|| format!("a write of version {version}, flags {flags:#x}"))
    }

    /// Reads one that was written with this key.
    pub fn decode(bytes: &[u8], key: u64) -> Option<Envelope> {
        let b = bytes.get(..ENVELOPE_BYTES as usize)?;
        if &b[8..12] != ENVELOPE_MAGIC
            || (get_u16(b, 12), get_u16(b, 14)) != (VERSION, 0)
            || get_u64(b, 0) != xxh3_64_with_seed(&b[8..], key)
        {
            return None;
        }
        Some(Envelope {
            segment: SegmentId(get_u32(b, 16)),
            offset: get_u32(b, 20),
            generation: get_u32(b, 24),
            length: get_u32(b, 28),
            padded: get_u32(b, 32),
            frames: get_u32(b, 36),
            records: get_u32(b, 40),
            number: get_u64(b, 48),
            durable_through: get_u64(b, 56),
            bodies: get_u64(b, 64),
        })
    }
}

/// What is said of one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameHeader {
    /// Its group.
    pub group: GroupId,
    /// Its term.
    pub term: Term,
    /// Its index in the group's log; of a frame of version 1, that of its first record.
    pub index: LogIndex,
    /// What was committed of the group when it was sealed.
    pub commit: LogIndex,
    /// The format's version: 1 or 2.
    pub version: u8,
    /// Bytes with this header.
    pub length: u32,
    /// How many records.
    pub records: u32,
}

impl FrameHeader {
    /// Writes the header for records whose checksums chain from `start_chain` to `sums`.
    /// Returns the frame's checksum.
    pub(crate) fn encode(&self, sums: u64, out: &mut [u8]) -> u64 {
        let out = &mut out[..FRAME_HEADER_BYTES as usize];
        out.fill(0);
        out[8..12].copy_from_slice(FRAME_MAGIC);
        out[12] = FRAME_VERSION;
        put_u64(out, 16, self.group.0);
        put_u64(out, 24, self.term.0);
        put_u64(out, 32, self.index.0);
        put_u32(out, 40, self.length);
        put_u32(out, 44, self.records);
        put_u64(out, 56, self.commit.0);
        let checksum = chain(sums, xxh3_64(&out[8..]));
        put_u64(out, 0, checksum);
        checksum
    }

    /// Reads a header; its checksum is checked with the records'.
    pub(crate) fn decode(bytes: &[u8]) -> Option<FrameHeader> {
        let b = bytes.get(..FRAME_HEADER_BYTES as usize)?;
        let known = matches!(b[12], 1 | FRAME_VERSION) && b[13] == 0;
        if &b[8..12] != FRAME_MAGIC || !known || get_u16(b, 14) != 0 {
            return None;
        }
        Some(FrameHeader {
            group: GroupId(get_u64(b, 16)),
            term: Term(get_u64(b, 24)),
            index: LogIndex(get_u64(b, 32)),
            commit: LogIndex(get_u64(b, 56)),
            version: b[12],
            length: get_u32(b, 40),
            records: get_u32(b, 44),
        })
    }

    /// What is said of a frame by a header that this release does not know.
    fn unknown(bytes: &[u8]) -> Option<String> {
        let b = bytes.get(..FRAME_HEADER_BYTES as usize).filter(|b| &b[8..12] == FRAME_MAGIC)?;
        let [version, flags, codec, cipher] = [b[12], b[13], b[14], b[15]];
        FrameHeader::decode(b).is_none().then(|| {
            format!(
                "a frame of version {version}, flags {flags:#x}, codec {codec}, cipher {cipher}"
            )
        })
    }

    /// The checksum that the header's bytes carry.
    pub(crate) fn checksum_in(bytes: &[u8]) -> u64 {
        get_u64(bytes, 0)
    }

    /// Whether the checksum of the frame that begins here says that its header is as it was
    /// written, although the frame's write is not whole. A damaged record's checksum counts as it
    /// is carried or as its content gives it: only one of the two is damaged, if it is one place.
    fn is_covered(frame: &[u8]) -> bool {
        let Some(header) = FrameHeader::decode(frame) else { return false };
        let Some(frame) = frame.get(..header.length as usize) else { return false };
        if frame.len() < FRAME_HEADER_BYTES as usize {
            return false;
        }
        let mut carried = 0;
        let mut computed = 0;
        let mut at = FRAME_HEADER_BYTES as usize;
        for _ in 0..header.records {
            let Some(Ok(record)) = frame.get(at..).map(RecordView::decode) else { return false };
            carried = chain(carried, record.checksum());
            computed = chain(computed, record.computed_checksum());
            at += record.padded_len() as usize;
        }
        let checksum = FrameHeader::checksum_in(frame);
        let sums = [carried, computed];
        at == frame.len()
            && sums.iter().any(|&sum| FrameHeader::checksum_of(frame, sum) == checksum)
    }

    fn checksum_of(bytes: &[u8], sums: u64) -> u64 {
        chain(sums, xxh3_64(&bytes[8..FRAME_HEADER_BYTES as usize]))
    }
}

/// A record of a write, where it lies in the write's bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'a> {
    pub frame: FrameHeader,
    /// Which record of its frame, from 0.
    pub nth: u32,
    /// From the envelope's first byte.
    pub at: u32,
    pub record: RecordView<'a>,
}

/// Walks the records of a write by their lengths. Ends early (`broken`) where bytes make no sense.
/// Holds no borrow, so that it can be kept beside the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordWalk {
    at: usize,
    frame: FrameHeader,
    nth: u32,
    /// The write is not whole: frames whose header no checksum covers end the walk.
    damaged: bool,
    broken: bool,
}

impl RecordWalk {
    /// A walk through a write that is whole, or that is `damaged`.
    pub(crate) fn new(damaged: bool) -> Self {
        let at = ENVELOPE_BYTES as usize;
        RecordWalk { at, frame: FrameHeader::default(), nth: 0, damaged, broken: false }
    }

    pub(crate) fn broken(&self) -> bool {
        self.broken
    }

    /// Where it is, from the envelope's first byte.
    pub(crate) fn at(&self) -> u32 {
        self.at as u32
    }

    /// The next record. `write` is the envelope's `length` bytes, the same at each call.
    pub(crate) fn next<'a>(&mut self, write: &'a [u8]) -> Option<Placed<'a>> {
        if self.broken || self.at >= write.len() {
            return None;
        }
        self.broken = true;
        if self.nth == self.frame.records {
            if self.damaged && !FrameHeader::is_covered(&write[self.at..]) {
                return None;
            }
            self.frame = FrameHeader::decode(&write[self.at..]).filter(|f| f.records > 0)?;
            self.nth = 0;
            self.at += FRAME_HEADER_BYTES as usize;
        }
        let record = RecordView::decode(write.get(self.at..)?).ok()?;
        let placed = Placed { frame: self.frame, nth: self.nth, at: self.at as u32, record };
        self.at += record.padded_len() as usize;
        self.nth += 1;
        self.broken = false;
        Some(placed)
    }
}

/// What a write that is not whole to this release has in it of a later one: a frame that it does
/// not know, in a write whose frames are as many and as long as the envelope says, and carry the
/// checksums that it was sealed with. A frame that is whole but for the bytes that tell its version
/// is damaged. `write` is the envelope's `length` bytes.
pub(crate) fn unknown_frame(envelope: &Envelope, write: &[u8]) -> Option<String> {
    let mut bodies = 0;
    let mut at = ENVELOPE_BYTES as usize;
    let mut unknown = None;
    for _ in 0..envelope.frames {
        let header = write.get(at..at + FRAME_HEADER_BYTES as usize)?;
        let length = get_u32(header, 40).max(FRAME_HEADER_BYTES) as usize;
        let frame = write.get(at..at + length).filter(|f| &f[8..12] == FRAME_MAGIC)?;
        if unknown.is_none() {
            unknown = FrameHeader::unknown(frame).filter(|_| !is_known_but_for_its_version(frame));
        }
        bodies = chain(bodies, FrameHeader::checksum_in(frame));
        at += length;
    }
    unknown.filter(|_| at == write.len() && bodies == envelope.bodies)
}

fn is_known_but_for_its_version(frame: &[u8]) -> bool {
    let mut known = frame.to_vec();
    [1, FRAME_VERSION].into_iter().any(|version| {
        known[12..16].copy_from_slice(&[version, 0, 0, 0]);
        FrameHeader::is_covered(&known)
    })
}

/// Whether every checksum and count of a write holds. `write` is the envelope's `length` bytes.
pub(crate) fn write_is_whole(envelope: &Envelope, write: &[u8]) -> bool {
    let mut bodies = 0;
    let mut at = ENVELOPE_BYTES as usize;
    let mut records = 0;
    for _ in 0..envelope.frames {
        let Some(header) = write.get(at..).and_then(FrameHeader::decode) else { return false };
        if header.length < FRAME_HEADER_BYTES {
            return false;
        }
        let end = at + header.length as usize;
        let Some(body) = write.get(at..end) else { return false };
        let mut sums = 0;
        let mut inside = FRAME_HEADER_BYTES as usize;
        for _ in 0..header.records {
            let Some(Ok(record)) = body.get(inside..).map(RecordView::decode) else { return false };
            if record.verify().is_err() {
                return false;
            }
            sums = chain(sums, record.checksum());
            inside += record.padded_len() as usize;
        }
        let checksum = FrameHeader::checksum_in(body);
        if inside != body.len() || checksum != FrameHeader::checksum_of(body, sums) {
            return false;
        }
        bodies = chain(bodies, checksum);
        records += header.records;
        at = end;
    }
    at == write.len() && bodies == envelope.bodies && records == envelope.records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{MetaIn, RecordIn, padded};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn envelope() -> Envelope {
        Envelope {
            segment: SegmentId(1),
            offset: 8192,
            generation: 2,
            length: 300,
            padded: 4096,
            frames: 1,
            records: 2,
            number: 9,
            durable_through: 7,
            bodies: 0x0102,
        }
    }

    #[test]
    fn golden_envelope() {
        let mut bytes = [0xaa; 96];
        envelope().encode(77, &mut bytes);
        let want = "434c57310100000001000000002000000200000\
                    02c0100000010000001000000020000000000000009000000000000000700000000000000\
                    0201000000000000000000000000000000000000000000000000000000000000";
        assert_eq!(hex(&bytes[8..]), want);
        assert_eq!(get_u64(&bytes, 0), ENVELOPE_SUM);
        assert_eq!(Envelope::decode(&bytes, 77), Some(envelope()));
        assert_eq!(Envelope::decode(&bytes, 78), None);
    }

    const ENVELOPE_SUM: u64 = 18276284088295518370;
    const FRAME_SUM: u64 = 8835803675945722311;

    #[test]
    fn golden_frame() {
        let header = FrameHeader {
            group: GroupId(1),
            term: Term(2),
            index: LogIndex(3),
            commit: LogIndex(2),
            version: 2,
            length: 64,
            records: 5,
        };
        let mut bytes = [0xaa; 64];
        assert_eq!(header.encode(6, &mut bytes), FRAME_SUM);
        let want = "434c463102000000010000000000000002000000000000000300000000000000\
                    400000000500000000000000000000000200000000000000";
        assert_eq!(hex(&bytes[8..]), want);
        assert_eq!(FrameHeader::decode(&bytes), Some(header));
        (bytes[12], bytes[56]) = (1, 0);
        let old = FrameHeader { version: 1, commit: LogIndex(0), ..header };
        assert_eq!(FrameHeader::decode(&bytes), Some(old));
        for (byte, version) in [(12, 0), (12, 3), (13, 1)] {
            let mut other = bytes;
            other[byte] = version;
            assert_eq!(FrameHeader::decode(&other), None);
        }
    }

    fn write() -> (Envelope, Vec<u8>) {
        let mut bytes = vec![0; ENVELOPE_BYTES as usize];
        let mut bodies = 0;
        for group in 1..3 {
            let start = bytes.len();
            bytes.resize(start + FRAME_HEADER_BYTES as usize, 0);
            let mut sums = 0;
            for id in 0..group {
                let record = RecordIn::Meta(MetaIn {
                    kind: 1,
                    stream: 2,
                    id,
                    body: b"8 bytes.",
                    relocated: false,
                });
                let length = record.length() as usize;
                let at = bytes.len();
                bytes.resize(at + padded(length), 0);
                sums = chain(sums, record.encode(length, &mut bytes[at..]));
            }
            let length = (bytes.len() - start) as u32;
            let header = FrameHeader {
                group: GroupId(group),
                length,
                records: group as u32,
                ..FrameHeader::default()
            };
            bodies = chain(bodies, header.encode(sums, &mut bytes[start..]));
        }
        let length = bytes.len() as u32;
        (Envelope { length, frames: 2, records: 3, bodies, ..envelope() }, bytes)
    }

    #[test]
    fn a_whole_write_is_whole_and_any_flip_is_not() {
        let (envelope, bytes) = write();
        assert!(write_is_whole(&envelope, &bytes));
        let mut walk = RecordWalk::new(false);
        let mut walked = Vec::new();
        while let Some(p) = walk.next(&bytes) {
            walked.push((p.frame.group.0, p.nth));
        }
        assert_eq!(walked, vec![(1, 0), (2, 0), (2, 1)]);
        assert!(!walk.broken());
        let some = if cfg!(miri) { 97 } else { 1 };
        for bit in (ENVELOPE_BYTES as usize * 8..bytes.len() * 8).step_by(some) {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!write_is_whole(&envelope, &bad), "bit {bit}");
            // Frames as they were written, or none.
            let mut walk = RecordWalk::new(true);
            let mut frames = 0;
            while let Some(placed) = walk.next(&bad) {
                frames += u32::from(placed.nth == 0);
                let (group, records) = (placed.frame.group.0, placed.frame.records);
                assert_eq!((group, records), (frames.into(), frames), "bit {bit}");
                assert_eq!(placed.frame.index, LogIndex(0), "bit {bit}");
            }
            // What is damaged in a record costs no other record.
            let in_header = (ENVELOPE_BYTES as usize
                ..(ENVELOPE_BYTES + FRAME_HEADER_BYTES) as usize)
                .contains(&(bit / 8));
            assert!(frames > 0 || in_header || bit / 8 < 200, "bit {bit}");
        }
    }

    /// Changes bytes of the first frame's header, and seals the write as a later release would.
    fn resealed(at: usize, bytes: &[u8], sum_too: bool) -> (Envelope, Vec<u8>) {
        let (envelope, mut write) = write();
        let frame = ENVELOPE_BYTES as usize;
        write[frame + at..frame + at + bytes.len()].copy_from_slice(bytes);
        let mut sums = Vec::new();
        let mut start = frame;
        for _ in 0..2 {
            let length = get_u32(&write[start..], 40) as usize;
            let mut sum = 0;
            let mut inside = start + FRAME_HEADER_BYTES as usize;
            while inside < start + length {
                let record = RecordView::decode(&write[inside..]).unwrap();
                sum = chain(sum, record.checksum());
                inside += record.padded_len() as usize;
            }
            let mut checksum = FrameHeader::checksum_of(&write[start..], sum);
            if start == frame && !sum_too {
                checksum = FrameHeader::checksum_in(&write[start..]);
            }
            put_u64(&mut write[start..], 0, checksum);
            sums.push(checksum);
            start += length;
        }
        let bodies = sums.into_iter().fold(0, chain);
        (Envelope { bodies, ..envelope }, write)
    }

    #[test]
    fn a_frame_of_a_later_release_is_told_from_damage() {
        let named = |version, flags, codec, cipher| {
            let of = format!("version {version}, flags {flags}, codec {codec}, cipher {cipher}");
            Some(format!("a frame of {of}"))
        };
        for (at, byte, want) in [
            (12, 3, named(3, "0x0", 0, 0)),
            (12, 0, named(0, "0x0", 0, 0)),
            (13, 1, named(2, "0x1", 0, 0)),
            (14, 1, named(2, "0x0", 1, 0)),
            (15, 1, named(2, "0x0", 0, 1)),
            (24, 9, None),
        ] {
            let (envelope, bytes) = resealed(at, &[byte], true);
            assert_eq!(write_is_whole(&envelope, &bytes), want.is_none(), "byte {at}");
            assert_eq!(unknown_frame(&envelope, &bytes), want, "byte {at}");
            // Records that this release cannot read either, or that are not all there.
            let mut odd = bytes.clone();
            odd[ENVELOPE_BYTES as usize + FRAME_HEADER_BYTES as usize + 8] ^= 0xff;
            assert_eq!(unknown_frame(&envelope, &odd), want, "byte {at}");
            // Not what was sealed.
            let other = Envelope { bodies: envelope.bodies ^ 1, ..envelope.clone() };
            assert_eq!(unknown_frame(&other, &bytes), None, "byte {at}");
            // A byte that rotted after it was sealed.
            let (envelope, bytes) = resealed(at, &[byte], false);
            assert!(!write_is_whole(&envelope, &bytes), "byte {at}");
            assert_eq!(unknown_frame(&envelope, &bytes), None, "byte {at}");
        }
    }

    #[test]
    fn an_envelope_of_a_later_release_is_told_from_damage() {
        for (at, want) in [(12, "version 2, flags 0x0"), (14, "version 1, flags 0x1")] {
            let mut bytes = [0; 96];
            envelope().encode(77, &mut bytes);
            bytes[at] ^= if at == 12 { 3 } else { 1 };
            assert_eq!(Envelope::unknown(&bytes, 77), None);
            let checksum = xxh3_64_with_seed(&bytes[8..], 77);
            put_u64(&mut bytes, 0, checksum);
            assert_eq!(Envelope::unknown(&bytes, 77), Some(format!("a write of {want}")));
            assert_eq!(Envelope::unknown(&bytes, 78), None, "it was written with another key");
            assert_eq!(Envelope::decode(&bytes, 77), None);
        }
    }
}
