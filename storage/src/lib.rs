//! One append-only log per shard: segments, group commit, recovery, index, reclaiming.
//!
//! Everything here but `device::uring` is a synchronous state machine. It emits device operations and is told of their
//! completions; it reads no clock, draws no randomness and does no I/O.

pub mod index;
pub mod types;
