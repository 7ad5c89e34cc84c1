//! The log's settings and limits.

use crate::envelope::{ENVELOPE_BYTES, FRAME_HEADER_BYTES};
use crate::segment::{SEGMENT_HEADER_BYTES, SEGMENT_HEADER_COPIES};
use crate::types::ShardId;
use std::fmt;

/// When a record may be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// When it is flushed: every write carries its flush.
    Always,
    /// When it is written; flushes are at most this many nanoseconds apart.
    Interval(i64),
}

/// Zeroes that one write carries behind it at most.
pub const EXTENSION_BYTES_MAX: u32 = 256 << 10;

/// Settings of one log. `LogOptions::new` gives the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The store's id: files of another store are refused.
    pub store: u128,
    /// The shard.
    pub shard: ShardId,
    /// Shards of the store.
    pub shards: u16,
    /// Size of a segment of a log that holds much, a multiple of the block.
    pub segment_bytes: u32,
    /// Size of the first segments, of a whole block at least: a log grows into its full size.
    pub first_segment_bytes: u32,
    /// Size of a block: the unit of the tail cache, which no write crosses.
    pub block_bytes: u32,
    /// The largest of the device's physical block, its direct-I/O alignment and 4 KiB.
    pub device_block_bytes: u32,
    /// A write ends when it has this size.
    pub write_bytes_max: u32,
    /// Writes in flight.
    pub writes_in_flight: u32,
    /// Writes in flight when the next one is large.
    pub large_writes_in_flight: u32,
    /// What counts as large.
    pub large_write_bytes: u32,
    /// A write that is not large waits until the one before it was handed out so long ago, in
    /// nanoseconds: what comes meanwhile shares its flush.
    pub gather_ns: i64,
    /// Writes of at most this size that come to a part of a file that was never written carry
    /// zeroes for what follows.
    pub extend_write_bytes: u32,
    /// Zeroes are written up to the next multiple of this, of whole device blocks.
    pub extend_bytes: u32,
    /// The largest record, with its header.
    pub record_bytes_max: u32,
    /// Messages are refused with `Busy` beyond this. Far above where a shard stops reading.
    pub unflushed_bytes_max: usize,
    /// Memory for recent blocks.
    pub tail_bytes: usize,
    /// Memory for reads.
    pub read_cache_bytes: usize,
    /// Bytes of one read when the reader goes on forward.
    pub read_ahead_bytes: u32,
    /// When records may be acknowledged.
    pub sync: SyncPolicy,
    /// Spare segments kept for metadata when the disk is full.
    pub reserve_segments: u32,
    /// Spare segments kept at most; further freed ones are removed.
    pub pool_segments_max: u32,
    /// Whether idle time is used to write zeroes over spare segments.
    pub zero_spares: bool,
    /// How long after the last durable write the mark in the superblock is refreshed.
    pub idle_mark_ns: i64,
    /// How long after a full disk to try again.
    pub space_retry_ns: i64,
}

/// Settings that cannot work together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionsError(pub(crate) &'static str);

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for OptionsError {}

impl LogOptions {
    /// The defaults for a shard of a store.
    pub fn new(store: u128, shard: ShardId, shards: u16) -> LogOptions {
        LogOptions {
            store,
            shard,
            shards,
            segment_bytes: 64 << 20,
            first_segment_bytes: 4 << 20,
            block_bytes: 4 << 20,
            device_block_bytes: 4096,
            write_bytes_max: 2 << 20,
            writes_in_flight: 2,
            large_writes_in_flight: 4,
            large_write_bytes: 256 << 10,
            gather_ns: 0,
            extend_write_bytes: 64 << 10,
            extend_bytes: EXTENSION_BYTES_MAX,
            record_bytes_max: 72 << 20,
            unflushed_bytes_max: 128 << 20,
            tail_bytes: 32 << 20,
            read_cache_bytes: 16 << 20,
            read_ahead_bytes: 1 << 20,
            sync: SyncPolicy::Always,
            reserve_segments: 2,
            pool_segments_max: 8,
            zero_spares: true,
            idle_mark_ns: 100_000_000,
            space_retry_ns: 1_000_000_000,
        }
    }

    /// Small segments and blocks, for tests and the simulator.
    pub fn small(store: u128, shard: ShardId, shards: u16) -> LogOptions {
        LogOptions {
            segment_bytes: 256 << 10,
            first_segment_bytes: 256 << 10,
            block_bytes: 32 << 10,
            write_bytes_max: 16 << 10,
            large_write_bytes: 8 << 10,
            extend_write_bytes: 8 << 10,
            extend_bytes: 16 << 10,
            record_bytes_max: 1 << 20,
            unflushed_bytes_max: 2 << 20,
            tail_bytes: 128 << 10,
            read_cache_bytes: 128 << 10,
            read_ahead_bytes: 32 << 10,
            ..LogOptions::new(store, shard, shards)
        }
    }

    /// Checks them against each other.
    pub fn check(&self) -> Result<(), OptionsError> {
        let dev = self.device_block_bytes;
        let rules = [
            (dev >= 4096 && dev.is_power_of_two(), "device block: a power of two of at least 4096"),
            (
                self.block_bytes.is_power_of_two() && self.block_bytes >= 4 * dev,
                "block: a power of two of at least four device blocks",
            ),
            (
                self.segment_bytes >= self.block_bytes
                    && self.segment_bytes.is_multiple_of(self.block_bytes)
                    && self.segment_bytes <= 1 << 31,
                "segment: a multiple of the block, at most 2 GiB",
            ),
            (self.write_bytes_max >= dev, "write: at least a device block"),
            (
                self.extend_bytes >= dev
                    && self.extend_bytes.is_multiple_of(dev)
                    && self.extend_bytes <= EXTENSION_BYTES_MAX,
                "extension: a multiple of the device block, at most 256 KiB",
            ),
            (self.writes_in_flight >= 1, "writes in flight: at least 1"),
            (self.large_writes_in_flight >= 1, "large writes in flight: at least 1"),
            (self.record_bytes_max <= 1 << 30, "record: at most 1 GiB"),
            (
                self.read_ahead_bytes.is_multiple_of(dev) && self.read_ahead_bytes >= 2 * dev,
                "read ahead: a multiple of the device block, at least two of them",
            ),
            (
                self.read_cache_bytes >= 2 * self.read_ahead_bytes as usize,
                "read cache: at least two reads ahead",
            ),
            (
                self.pool_segments_max > self.reserve_segments,
                "pool of segments: more than the reserve",
            ),
            (self.unflushed_bytes_max >= self.block_bytes as usize, "unflushed bytes: a block"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(OptionsError(rule)),
            None => Ok(()),
        }
    }

    /// Where the first write of a segment starts.
    pub(crate) fn first_write_offset(&self) -> u32 {
        const { assert!(SEGMENT_HEADER_BYTES <= 4096) };
        SEGMENT_HEADER_COPIES * self.device_block_bytes
    }

    /// The largest padded record that goes into a block with others.
    pub(crate) fn block_record_max(&self) -> u32 {
        self.block_bytes - self.first_write_offset() - ENVELOPE_BYTES - FRAME_HEADER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_and_nonsense_does_not() {
        LogOptions::new(1, ShardId(0), 1).check().unwrap();
        let small = LogOptions::small(1, ShardId(0), 1);
        small.check().unwrap();
        assert!(LogOptions { block_bytes: 5000, ..small.clone() }.check().is_err());
        assert!(LogOptions { segment_bytes: 40 << 10, ..small.clone() }.check().is_err());
        assert!(LogOptions { pool_segments_max: 2, ..small }.check().is_err());
    }
}
