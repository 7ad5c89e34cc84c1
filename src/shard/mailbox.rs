//! What shards of a node say to each other: decisions of the catalogue, and questions about what
//! streams hold.

use crate::api::types::{ConsumerLimits, StreamInfo};
use crate::meta::{Record, StreamEntry};
use crate::types::{CreditKind, Origin, ShardId, StreamId};

/// Who waits for an answer, and where. It is answered once, and its credit comes home with that.
#[derive(Debug, PartialEq, Eq)]
pub struct Requester {
    /// The requester.
    pub origin: Origin,
    /// Its reply subject; empty if it wants no answer.
    pub reply: Box<[u8]>,
    /// Bytes of credit for requests that come home with the answer. 0 where the request itself is
    /// still there, and has them.
    pub credit: u32,
    /// Which credit that is.
    pub kind: CreditKind,
    /// The shard whose credit that is.
    pub shard: ShardId,
}

/// What a shard's streams take and hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory streams.
    pub memory: u64,
    /// Bytes of file streams.
    pub storage: u64,
    /// Streams.
    pub streams: u64,
    /// Consumers.
    pub consumers: u64,
    /// API requests handled.
    pub api_total: u64,
    /// Of these, refused.
    pub api_errors: u64,
}

/// One shard to another.
#[derive(Debug)]
pub enum ShardMessage {
    /// The catalogue has changed by this record, which is about a stream of the shard.
    Catalogue {
        /// The record.
        record: Box<Record>,
        /// Who asked; nobody at recovery.
        requester: Option<Requester>,
    },
    /// A stream that exists was asked for again: the requester is to be answered.
    Existing {
        /// The stream.
        id: StreamId,
        /// Who asked.
        requester: Requester,
    },
    /// To shard 0: a stream was removed for good.
    Deleted {
        /// The stream.
        id: StreamId,
    },
    /// What do these streams (none: no stream) hold, and the shard in all?
    Query {
        /// The question.
        question: u64,
        /// Shard that asks.
        from: ShardId,
        /// The streams.
        streams: Vec<StreamId>,
    },
    /// The answer.
    QueryAnswer {
        /// The question.
        question: u64,
        /// What the streams hold, as STREAM.LIST shows it.
        streams: Vec<StreamInfo>,
        /// What the shard holds.
        usage: Usage,
    },
    /// What a shard's streams hold, in memory and on disk.
    Held {
        /// The shard.
        from: ShardId,
        /// Bytes.
        bytes: [u64; 2],
    },
    /// To the shard of a stream: would these limits hurt its consumers?
    CheckLimits {
        /// The question.
        question: u64,
        /// Shard that asks.
        from: ShardId,
        /// The stream.
        id: StreamId,
        /// The limits.
        limits: ConsumerLimits,
    },
    /// The answer.
    Checked {
        /// The question.
        question: u64,
        /// Names of consumers that are over a limit.
        violators: Vec<String>,
    },
    /// At the start: what the catalogue says this shard has.
    Reconcile {
        /// Its streams.
        entries: Vec<StreamEntry>,
        /// Streams that are to be removed.
        deleted: Vec<StreamId>,
    },
}
