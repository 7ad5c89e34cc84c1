//! A stream's decisions: what its configuration may be, what is admitted, what must leave.
//!
//! Purpose: everything about a stream that is decided and not stored. It must not know logs,
//! indexes, shards or connections: it sees what is stored through [`admission::StreamView`], and
//! its caller executes what it decides. One [`admission::Admission`] exists per stream, on the
//! stream's shard.
//!
//! Invariants: sequences are assigned at admission, without gaps, and in the order of admission;
//! what is admitted is either committed, in that order, or dropped with all that came after it; a
//! refusal changes nothing.

pub mod ack;
pub mod admission;
pub mod config;
pub mod dedupe;
pub mod headers;
mod overlay;
pub mod retention;
pub mod store_times;
#[cfg(test)]
mod tests;
