//! The streams of a shard: publishing into them, reading from them, enforcing lowered limits.

pub(in crate::shard) mod enforce;
pub(in crate::shard) mod parked;
pub(in crate::shard) mod publish;
pub(in crate::shard) mod read;
