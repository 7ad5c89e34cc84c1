//! One append-only log per shard: segments, group commit, recovery, index, reclaiming.
//!
//! Everything here but `device::uring` and `device::blocking` is a synchronous state machine. It
//! emits device operations and is told of their completions; it reads no clock, draws no
//! randomness and does no I/O.

pub mod device;
pub mod envelope;
pub mod index;
pub mod log;
pub mod random;
pub mod record;
pub mod recovery;
pub mod segment;
pub mod step_table;
pub mod superblock;
pub mod types;

mod bytes;

/// Insides that the fuzz targets look at.
#[cfg(fuzzing)]
pub mod fuzzing {
    use crate::envelope::{Envelope, RecordWalk};

    /// Whether every checksum and count of a write holds.
    pub fn write_is_whole(envelope: &Envelope, write: &[u8]) -> bool {
        crate::envelope::write_is_whole(envelope, write)
    }

    /// How many records a write has, and whether walking it ended early.
    pub fn walk(write: &[u8]) -> (u64, bool) {
        let (mut walk, mut records) = (RecordWalk::new(false), 0);
        while walk.next(write).is_some() {
            records += 1;
        }
        (records, walk.broken())
    }
}
