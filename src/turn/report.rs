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
}
