//! One append-only log per shard: segments, group commit, recovery, index, reclaiming.
//!
//! Everything here but `device::uring` and `device::blocking` is a synchronous state machine. It
//! emits device operations and is told of their completions; it reads no clock, draws no
//! randomness and does no I/O.

pub mod device;
pub mod envelope;
pub mod index;
pub mod log;
pub mod record;
pub mod recovery;
pub mod segment;
pub mod superblock;
pub mod types;

mod bytes;
