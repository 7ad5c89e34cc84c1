//! What a shard is opened with.

use corelane_storage::log::LogOptions;

use crate::consumer::config::ConsumerServerLimits;
use crate::meta::MetaLimits;
use crate::types::ShardId;

/// What a shard is opened with.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Its id.
    pub id: ShardId,
    /// Shards of the store.
    pub shards: u16,
    /// Seed of hashes, names and keys: fresh for each opening.
    pub seed: u64,
    /// The name that STREAM.INFO shows as the leader.
    pub server_name: String,
    /// Limits of consumers.
    pub consumer_limits: ConsumerServerLimits,
    /// Limits of streams.
    pub meta_limits: MetaLimits,
    /// Requests with unknown members are refused.
    pub strict: bool,
    /// The server's `max_payload`.
    pub max_payload: u64,
    /// Index pages that are kept in memory although they are stored, in bytes.
    pub index_cache_bytes: usize,
    /// Entries that one step of a long job visits.
    pub job_visits: u32,
    /// Things that became durable and take effect in one go.
    pub apply_items: u32,
    /// When checkpoints are made.
    pub checkpoint: CheckpointOptions,
    /// When segments are sorted.
    pub sort: SortOptions,
    /// The log's settings.
    pub log: LogOptions,
}

/// When checkpoints are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// After so many bytes in the log, at least.
    pub bytes_min: u64,
    /// And at most: twice what the last one wrote lies between them.
    pub bytes_max: u64,
    /// After the log was idle for so long, in nanoseconds.
    pub idle_ns: i64,
    /// But not sooner than so long after the last one.
    pub gap_ns: i64,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        CheckpointOptions {
            bytes_min: 96 << 20,
            bytes_max: 256 << 20,
            idle_ns: 250_000_000,
            gap_ns: 5_000_000_000,
        }
    }
}

/// When segments are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortOptions {
    /// The window in which next to nothing may have happened, in nanoseconds.
    pub idle_ns: i64,
    /// So many streams must interleave.
    pub streams_min: usize,
    /// Memory that one bunch of messages takes.
    pub memory_bytes: usize,
}

impl Default for SortOptions {
    fn default() -> Self {
        SortOptions { idle_ns: 1_000_000_000, streams_min: 8, memory_bytes: 16 << 20 }
    }
}
