//! The streams of a shard: their state, publishing into them, reading from them.

pub(in crate::shard) mod enforce;
pub(in crate::shard) mod memory;
pub(in crate::shard) mod parked;
pub(in crate::shard) mod publish;
pub(in crate::shard) mod read;
pub(in crate::shard) mod stream;
