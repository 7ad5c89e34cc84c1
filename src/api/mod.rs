//! JetStream's API as it is on the wire: subjects, JSON, errors.
//!
//! Purpose: turn requests into typed values and answers into the bytes nats-server would send.
//! Everything here is pure. It must not know streams' or consumers' state, shards, logs or
//! connections; it exists wherever a request is answered.
//!
//! Invariants: what decodes is typed but not yet valid (that is `stream::config` and
//! `consumer::config`); a refusal is an [`error::ApiError`] with nats-server's code and words;
//! names of features that are not built are known here, so that they are refused and never half
//! obeyed.

pub mod ack;
#[cfg(test)]
pub(crate) mod cases;
pub mod error;
pub mod error_table;
pub mod filter_index;
pub mod json;
pub mod metadata;
pub mod names;
mod response;
#[cfg(test)]
mod tests;
pub mod time;
pub mod types;

/// The highest API level whose features are all there: level 1 has pause, message TTLs and priority
/// groups, which are not.
pub const API_LEVEL: u32 = 0;

/// The level of the nats-server whose version is reported.
pub const NATS_API_LEVEL: u32 = 5;

/// The NATS version whose behaviour is copied, as clients' feature checks see it.
pub const NATS_VERSION: &str = "2.15.1";
