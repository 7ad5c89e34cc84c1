//! A segment's header, and what a log remembers of each segment.
//!
//! A segment is a file (a slot) of fixed size, seen as blocks. Its first two device blocks hold two
//! copies of the header, one at the start of each; the first write follows at once, and the header
//! is written together with it. A copy is 512 bytes, so it lies in one sector and is never torn.
//! Two copies that differ mean that the machine stopped while the slot was being used again; the
//! one with the larger segment id counts. Two copies that are neither valid nor zero are corrupt:
//! the file is kept aside and reported.
//!
//! ```text
//!   0  8  magic          "CLSEGMNT"
//!   8  4  format         1
//!  12  4  shard
//!  16 16  store          the store's id
//!  32  4  segment
//!  36  1  kind           1 hot, 2 cold, 3 own (one record larger than a block), 4 cold own
//!  37  3  zero
//!  40  4  generation
//!  44  4  block bytes
//!  48  4  device block bytes
//!  52  4  zero
//!  56  8  segment bytes
//!  64  8  first write    number of its first write
//!  72  8  key            random; keys the envelopes' checksums
//!  80    zero
//! 504  8  checksum       xxh3-64 of the bytes 0..504
//! ```

use crate::bytes::{get_u32, get_u64, put_u32, put_u64};
use crate::types::SegmentId;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of one copy of the header.
pub const SEGMENT_HEADER_BYTES: usize = 512;
/// Copies, each in a device block of its own at the segment's start.
pub const SEGMENT_HEADER_COPIES: u32 = 2;

const MAGIC: &[u8; 8] = b"CLSEGMNT";
const FORMAT: u32 = 1;
const CHECKSUM_AT: usize = SEGMENT_HEADER_BYTES - 8;

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// Entries in the order of their writes; replayed.
    Hot,
    /// Relocated records and checkpoints: state, not replayed.
    Cold,
    /// One entry that is larger than a block; replayed in the order of its write.
    Own,
    /// One record of state that is larger than a block.
    ColdOwn,
}

impl SegmentKind {
    /// Whether it holds one record that is larger than a block.
    pub fn is_own(self) -> bool {
        matches!(self, SegmentKind::Own | SegmentKind::ColdOwn)
    }

    /// Whether it holds state, which is not replayed.
    pub fn is_cold(self) -> bool {
        matches!(self, SegmentKind::Cold | SegmentKind::ColdOwn)
    }
}

/// The header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store it belongs to.
    pub store: u128,
    /// The shard it belongs to.
    pub shard: u16,
    /// Its id, never used twice in a shard.
    pub segment: SegmentId,
    /// What it holds.
    pub kind: SegmentKind,
    /// The log's generation when it was begun.
    pub generation: u32,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Bytes of a device block.
    pub device_block_bytes: u32,
    /// Its size.
    pub bytes: u64,
    /// The number of its first write.
    pub first_write: u64,
    /// Keys the checksums of its envelopes.
    pub key: u64,
}

/// What the first blocks of a segment file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderState {
    /// Never written: all zero.
    Blank,
    /// A header.
    Valid(SegmentHeader),
    /// A whole header of a format that this release does not know, in either copy.
    Unknown(u32),
    /// Neither.
    Corrupt,
}

impl SegmentHeader {
    /// Writes one copy into the first 512 bytes of `out`.
    pub fn encode(&self, out: &mut [u8]) {
        let out = &mut out[..SEGMENT_HEADER_BYTES];
        out.fill(0);
        out[..8].copy_from_slice(MAGIC);
        put_u32(out, 8, FORMAT);
        put_u32(out, 12, self.shard as u32);
        out[16..32].copy_from_slice(&self.store.to_le_bytes());
        put_u32(out, 32, self.segment.0);
        out[36] = match self.kind {
            SegmentKind::Hot => 1,
            SegmentKind::Cold => 2,
            SegmentKind::Own => 3,
            SegmentKind::ColdOwn => 4,
        };
        put_u32(out, 40, self.generation);
        put_u32(out, 44, self.block_bytes);
        put_u32(out, 48, self.device_block_bytes);
        put_u64(out, 56, self.bytes);
        put_u64(out, 64, self.first_write);
        put_u64(out, 72, self.key);
        let checksum = xxh3_64(&out[..CHECKSUM_AT]);
        put_u64(out, CHECKSUM_AT, checksum);
    }

    /// Reads one copy from the first 512 bytes of `bytes`.
    pub fn decode(bytes: &[u8]) -> Option<SegmentHeader> {
        let b = bytes.get(..SEGMENT_HEADER_BYTES)?;
        if &b[..8] != MAGIC
            || get_u32(b, 8) != FORMAT
            || get_u64(b, CHECKSUM_AT) != xxh3_64(&b[..CHECKSUM_AT])
        {
            return None;
        }
        let mut store = [0; 16];
        store.copy_from_slice(&b[16..32]);
        Some(SegmentHeader {
            store: u128::from_le_bytes(store),
            shard: u16::try_from(get_u32(b, 12)).ok()?,
            segment: SegmentId(get_u32(b, 32)),
            kind: match b[36] {
                1 => SegmentKind::Hot,
                2 => SegmentKind::Cold,
                3 => SegmentKind::Own,
                4 => SegmentKind::ColdOwn,
                _ => return None,
            },
            generation: get_u32(b, 40),
            block_bytes: get_u32(b, 44),
            device_block_bytes: get_u32(b, 48),
            bytes: get_u64(b, 56),
            first_write: get_u64(b, 64),
            key: get_u64(b, 72),
        })
    }

    /// The format of a whole copy that another release has written.
    fn other_format(bytes: &[u8]) -> Option<u32> {
        let b = bytes.get(..SEGMENT_HEADER_BYTES).filter(|b| &b[..8] == MAGIC)?;
        let format = get_u32(b, 8);
        (format != FORMAT && get_u64(b, CHECKSUM_AT) == xxh3_64(&b[..CHECKSUM_AT]))
            .then_some(format)
    }

    /// Judges the first two device blocks of a file.
    pub fn judge(bytes: &[u8], device_block_bytes: u32) -> HeaderState {
        let second = device_block_bytes as usize;
        let other = [0, second].iter().find_map(|&at| SegmentHeader::other_format(&bytes[at..]));
        if let Some(format) = other {
            return HeaderState::Unknown(format);
        }
        let copies = [SegmentHeader::decode(bytes), SegmentHeader::decode(&bytes[second..])];
        match copies.into_iter().flatten().max_by_key(|h| h.segment) {
            Some(header) => HeaderState::Valid(header),
            None => {
                let blank =
                    |at: usize| bytes[at..at + SEGMENT_HEADER_BYTES].iter().all(|b| *b == 0);
                if blank(0) && blank(second) { HeaderState::Blank } else { HeaderState::Corrupt }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            store: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
            shard: 2,
            segment: SegmentId(3),
            kind: SegmentKind::Cold,
            generation: 4,
            block_bytes: 4 << 20,
            device_block_bytes: 4096,
            bytes: 64 << 20,
            first_write: 5,
            key: 0x1122_3344_5566_7788,
        }
    }

    #[test]
    fn golden() {
        let mut bytes = [0xaa; 512];
        header().encode(&mut bytes);
        let hex: String = bytes[..80].iter().map(|b| format!("{b:02x}")).collect();
        let want = "434c5345474d4e540100000002000000000102030405060708090a0b0c0d0e0f\
                    0300000002000000040000000000400000100000000000000000000400000000\
                    05000000000000008877665544332211";
        assert_eq!(hex, want);
        assert!(bytes[80..504].iter().all(|b| *b == 0));
        assert_eq!(get_u64(&bytes, 504), HEADER_SUM);
        assert_eq!(SegmentHeader::decode(&bytes), Some(header()));
    }

    const HEADER_SUM: u64 = 847363394425139938;

    #[test]
    fn one_bad_copy_is_no_loss_and_two_are_corrupt() {
        let mut bytes = vec![0; 8192];
        assert_eq!(SegmentHeader::judge(&bytes, 4096), HeaderState::Blank);
        header().encode(&mut bytes);
        header().encode(&mut bytes[4096..]);
        bytes[9] ^= 1;
        assert_eq!(SegmentHeader::judge(&bytes, 4096), HeaderState::Valid(header()));
        bytes[4100] ^= 1;
        assert_eq!(SegmentHeader::judge(&bytes, 4096), HeaderState::Corrupt);
    }

    #[test]
    fn another_format_in_either_copy_is_told_from_damage() {
        for copy in [0, 4096] {
            let mut bytes = vec![0; 8192];
            header().encode(&mut bytes);
            header().encode(&mut bytes[4096..]);
            let later = &mut bytes[copy..copy + SEGMENT_HEADER_BYTES];
            put_u32(later, 8, 2);
            let valid = HeaderState::Valid(header());
            assert_eq!(SegmentHeader::judge(&bytes, 4096), valid, "its checksum is that of 1");
            let later = &mut bytes[copy..copy + SEGMENT_HEADER_BYTES];
            let checksum = xxh3_64(&later[..CHECKSUM_AT]);
            put_u64(later, CHECKSUM_AT, checksum);
            assert_eq!(SegmentHeader::judge(&bytes, 4096), HeaderState::Unknown(2));
        }
    }

    #[test]
    fn of_two_different_copies_the_newer_counts() {
        let newer = SegmentHeader { segment: SegmentId(9), ..header() };
        let mut bytes = vec![0; 8192];
        header().encode(&mut bytes);
        newer.encode(&mut bytes[4096..]);
        assert_eq!(SegmentHeader::judge(&bytes, 4096), HeaderState::Valid(newer));
    }
}
