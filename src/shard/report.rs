//! What a shard tells monitoring.

use super::message::Usage;

/// Counters of one shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardReport {
    /// What its streams hold.
    pub usage: Usage,
    /// Bytes of its files.
    pub file_bytes: u64,
}
