//! Compaction: live records of mostly dead segments are relocated, and interleaved segments are
//! sorted by stream while there is nothing else to do.

pub(in crate::shard) mod relocate;
pub(in crate::shard) mod sort;
