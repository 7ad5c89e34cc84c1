//! The superblock: what opening a log starts from.
//!
//! The file holds two copies, at 0 and at `SUPERBLOCK_COPY_BYTES`. An update writes and flushes one
//! after the other, so one of them is whole at any time, and both are alike when nothing is being
//! written. The copy with the larger sequence counts. After a crash only one may be whole, so
//! opening writes the other one first.
//!
//! ```text
//!   0  8  checksum         xxh3-64 of the bytes 8..length
//!   8  8  magic            "CLSUPER1"
//!  16  4  version          2; 1 is read
//!  20  4  length           bytes of this copy
//!  24  8  sequence
//!  32 16  store            the store's id
//!  48  4  shard
//!  52  4  shards           of the store
//!  56  4  generation       the current one
//!  60  4  ends             how many
//!  64  8  durable_through  all writes up to this number were durable when this was written
//!  72  8  checkpoint       its id, or 0 if there is none
//!  80  4  root segment
//!  84  4  root offset
//!  88  4  root length      padded bytes of the root record
//!  92  4  replay skip      records of the first write to leave out
//!  96  4  replay segment   where to look for the first write to replay
//! 100  4  replay offset
//! 104  8  replay write     its number
//! 112 16  reserved         zero
//! 128     ends, 24 bytes each:
//!           0  4  generation
//!           4  4  segment  where it ended; nothing of the generation beyond it is ever read
//!           8  4  offset
//!          12  4  zero
//!          16  8  write    number of the first write that does not belong to it
//! ```

use crate::bytes::{get_u32, get_u64, put_u32, put_u64};
use crate::types::{Position, SegmentId};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of the file kept for each of the two copies.
pub const SUPERBLOCK_COPY_BYTES: u32 = 64 << 10;
/// Ends of generations that fit into a copy.
pub const GENERATION_ENDS_MAX: usize = 2_700;

const MAGIC: &[u8; 8] = b"CLSUPER1";
const VERSION: u32 = 2;
const VERSION_MIN: u32 = 1;
const FIXED_BYTES: usize = 128;
const END_BYTES: usize = 24;

/// Where replay starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayPoint {
    /// Where to look for the first write first: there, or behind it in the order of the log.
    pub cursor: Position,
    /// The number of that write.
    pub number: u64,
    /// Records of it that the checkpoint already holds.
    pub skip: u32,
}

/// A checkpoint that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointRef {
    /// Chosen by the shard, not 0.
    pub id: u64,
    /// The root record.
    pub root: Position,
    /// Its padded length.
    pub root_len: u32,
}

/// Where a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationEnd {
    /// Which.
    pub generation: u32,
    /// Nothing of it at or beyond this position, in its segments of ids from this one on, is read.
    pub end: Position,
    /// The first write that does not belong to it.
    pub write: u64,
}

/// The content of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Superblock {
    /// Counts the updates.
    pub sequence: u64,
    /// The store's id.
    pub store: u128,
    /// The shard.
    pub shard: u16,
    /// Shards of the store.
    pub shards: u16,
    /// The current generation.
    pub generation: u32,
    /// Ends of the earlier generations that matter, in their order.
    pub ends: Vec<GenerationEnd>,
    /// All writes up to this number were durable.
    pub durable_through: u64,
    /// The last checkpoint.
    pub checkpoint: Option<CheckpointRef>,
    /// Where replay starts.
    pub replay: ReplayPoint,
}

impl Superblock {
    /// Bytes of a copy.
    pub fn length(&self) -> usize {
        FIXED_BYTES + self.ends.len() * END_BYTES
    }

    /// Writes a copy into the start of `out`. At most `GENERATION_ENDS_MAX` ends.
    pub fn encode(&self, out: &mut [u8]) {
        assert!(self.ends.len() <= GENERATION_ENDS_MAX);
        let out = &mut out[..self.length()];
        out.fill(0);
        out[8..16].copy_from_slice(MAGIC);
        put_u32(out, 16, VERSION);
        put_u32(out, 20, self.length() as u32);
        put_u64(out, 24, self.sequence);
        out[32..48].copy_from_slice(&self.store.to_le_bytes());
        put_u32(out, 48, self.shard as u32);
        put_u32(out, 52, self.shards as u32);
        put_u32(out, 56, self.generation);
        put_u32(out, 60, self.ends.len() as u32);
        put_u64(out, 64, self.durable_through);
        if let Some(checkpoint) = &self.checkpoint {
            put_u64(out, 72, checkpoint.id);
            put_u32(out, 80, checkpoint.root.segment.0);
            put_u32(out, 84, checkpoint.root.offset);
            put_u32(out, 88, checkpoint.root_len);
        }
        put_u32(out, 92, self.replay.skip);
        put_u32(out, 96, self.replay.cursor.segment.0);
        put_u32(out, 100, self.replay.cursor.offset);
        put_u64(out, 104, self.replay.number);
        for (end, out) in self.ends.iter().zip(out[FIXED_BYTES..].chunks_exact_mut(END_BYTES)) {
            put_u32(out, 0, end.generation);
            put_u32(out, 4, end.end.segment.0);
            put_u32(out, 8, end.end.offset);
            put_u64(out, 16, end.write);
        }
        let checksum = xxh3_64(&out[8..]);
        put_u64(out, 0, checksum);
    }

    /// The version of a whole copy that another release has written.
    pub fn other_version(bytes: &[u8]) -> Option<u32> {
        let fixed = bytes.get(..FIXED_BYTES).filter(|b| &b[8..16] == MAGIC)?;
        let b = bytes.get(..get_u32(fixed, 20) as usize).filter(|b| b.len() >= FIXED_BYTES)?;
        let version = get_u32(b, 16);
        (!(VERSION_MIN..=VERSION).contains(&version) && get_u64(b, 0) == xxh3_64(&b[8..]))
            .then_some(version)
    }

    /// Reads a copy.
    pub fn decode(bytes: &[u8]) -> Option<Superblock> {
        let fixed = bytes.get(..FIXED_BYTES)?;
        let count = get_u32(fixed, 60) as usize;
        let known = (VERSION_MIN..=VERSION).contains(&get_u32(fixed, 16));
        if &fixed[8..16] != MAGIC || !known || count > GENERATION_ENDS_MAX {
            return None;
        }
        let b = bytes.get(..FIXED_BYTES + count * END_BYTES)?;
        if get_u32(b, 20) as usize != b.len() || get_u64(b, 0) != xxh3_64(&b[8..]) {
            return None;
        }
        let position = |b: &[u8], at| Position {
            segment: SegmentId(get_u32(b, at)),
            offset: get_u32(b, at + 4),
        };
        let mut store = [0; 16];
        store.copy_from_slice(&b[32..48]);
        Some(Superblock {
            sequence: get_u64(b, 24),
            store: u128::from_le_bytes(store),
            shard: u16::try_from(get_u32(b, 48)).ok()?,
            shards: u16::try_from(get_u32(b, 52)).ok()?,
            generation: get_u32(b, 56),
            ends: b[FIXED_BYTES..]
                .chunks_exact(END_BYTES)
                .map(|b| GenerationEnd {
                    generation: get_u32(b, 0),
                    end: position(b, 4),
                    write: get_u64(b, 16),
                })
                .collect(),
            durable_through: get_u64(b, 64),
            checkpoint: (get_u64(b, 72) != 0).then(|| CheckpointRef {
                id: get_u64(b, 72),
                root: position(b, 80),
                root_len: get_u32(b, 88),
            }),
            replay: ReplayPoint {
                cursor: position(b, 96),
                number: get_u64(b, 104),
                skip: get_u32(b, 92),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Superblock {
        Superblock {
            sequence: 1,
            store: 2,
            shard: 3,
            shards: 4,
            generation: 5,
            ends: vec![GenerationEnd {
                generation: 4,
                end: Position { segment: SegmentId(6), offset: 7 },
                write: 8,
            }],
            durable_through: 9,
            checkpoint: Some(CheckpointRef {
                id: 10,
                root: Position { segment: SegmentId(11), offset: 16 },
                root_len: 12,
            }),
            replay: ReplayPoint {
                cursor: Position { segment: SegmentId(13), offset: 14 },
                number: 15,
                skip: 16,
            },
        }
    }

    #[test]
    fn golden() {
        let mut bytes = vec![0xaa; 4096];
        superblock().encode(&mut bytes);
        assert_eq!(superblock().length(), 152);
        let hex: String = bytes[8..152].iter().map(|b| format!("{b:02x}")).collect();
        let want = "434c535550455231020000009800000001000000000000000200000000000000\
                    0000000000000000030000000400000005000000010000000900000000000000\
                    0a000000000000000b000000100000000c000000100000000d0000000e000000\
                    0f00000000000000000000000000000000000000000000000400000006000000\
                    07000000000000000800000000000000";
        assert_eq!(hex, want);
        assert_eq!(get_u64(&bytes, 0), SUPERBLOCK_SUM);
        assert_eq!(Superblock::decode(&bytes), Some(superblock()));
    }

    const SUPERBLOCK_SUM: u64 = 7562352109982137864;

    #[test]
    fn another_version_is_told_from_damage() {
        let mut bytes = vec![0; 4096];
        superblock().encode(&mut bytes);
        assert_eq!(Superblock::other_version(&bytes), None);
        put_u32(&mut bytes, 16, 3);
        assert_eq!(Superblock::other_version(&bytes), None, "the checksum is that of version 2");
        let checksum = xxh3_64(&bytes[8..152]);
        put_u64(&mut bytes, 0, checksum);
        assert_eq!(Superblock::other_version(&bytes), Some(3));
        assert_eq!(Superblock::decode(&bytes), None);
        put_u32(&mut bytes, 20, 100_000);
        assert_eq!(Superblock::other_version(&bytes), None);
    }

    #[test]
    fn version_1_is_read() {
        let mut bytes = vec![0; 4096];
        superblock().encode(&mut bytes);
        put_u32(&mut bytes, 16, 1);
        let checksum = xxh3_64(&bytes[8..152]);
        put_u64(&mut bytes, 0, checksum);
        assert_eq!(Superblock::decode(&bytes), Some(superblock()));
        assert_eq!(Superblock::other_version(&bytes), None);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = vec![0; 4096];
        superblock().encode(&mut bytes);
        for bit in (0..superblock().length() * 8).step_by(if cfg!(miri) { 17 } else { 1 }) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Superblock::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Superblock::decode(&bytes[..151]), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "it takes a minute")]
    fn the_largest_fits_into_its_place() {
        let end = superblock().ends[0];
        let largest = Superblock { ends: vec![end; GENERATION_ENDS_MAX], ..superblock() };
        let mut bytes = vec![0; SUPERBLOCK_COPY_BYTES as usize];
        largest.encode(&mut bytes);
        assert_eq!(Superblock::decode(&bytes), Some(largest));
    }
}
