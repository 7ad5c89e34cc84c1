//! The JetStream API of one shard: requests are queued, run, and answered here.
//!
//! Purpose: what clients ask about streams and consumers, and what the answers say. It must not
//! know how state changes: it decides, appends a record, and answers from what applying it returns.
//! A request that must wait for a read is run again from its beginning.

pub(in crate::shard) mod consumer;
pub(in crate::shard) mod permits;
pub(in crate::shard) mod replies;
pub(in crate::shard) mod requests;
pub(in crate::shard) mod search;
pub(in crate::shard) mod stream;
