//! What a reactor tells monitoring.

use crate::client::NetStats;
use crate::shard::report::ShardReport;

/// Counters of one reactor and its shards.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Sums over all connections since the start.
    pub net: NetStats,
    /// Open connections.
    pub connections: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Its shards.
    pub shards: Vec<ShardReport>,
    /// Turns that took too long.
    pub stalls: u64,
    /// What its shell counted.
    pub shell: ShellReport,
}

/// What is counted where the kernel is talked to; the shell fills it in.
#[derive(Clone, Debug, Default)]
pub struct ShellReport {
    /// Turns.
    pub turns: u64,
    /// Nanoseconds spent in turns.
    pub busy_ns: u64,
    /// Nanoseconds that the longest of them took.
    pub longest_ns: u64,
    /// Turns that took too long only because the processor was given to others meanwhile.
    pub preempted: u64,
    /// Batches pushed to other reactors.
    pub mesh_batches: u64,
    /// Times that a lane to another reactor had no room.
    pub mesh_full: u64,
    /// One for each shard, in the order of [`Report::shards`].
    pub disks: Vec<DiskReport>,
}

impl ShellReport {
    /// A turn took so many nanoseconds.
    pub fn took(&mut self, ns: u64) {
        self.turns += 1;
        self.busy_ns += ns;
        self.longest_ns = self.longest_ns.max(ns);
    }
}

/// What one shard's device was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskReport {
    /// Writes.
    pub writes: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Flushes, those linked to a write too.
    pub flushes: u64,
}
