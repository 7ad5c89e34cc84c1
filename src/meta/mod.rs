//! The catalogue: which streams there are, whose, where, and with what configuration.
//!
//! Purpose: serialise what concerns all streams of an account: names, overlapping subjects, account
//! limits, placement on shards, listing. It is pure; it must not know streams' contents, logs or
//! connections. It exists once per node, on shard 0.
//!
//! Invariants: a stream's id is never used again; no two streams of an account have overlapping
//! subjects; a decision says what may be done and changes nothing. A record that was appended is
//! noted by [`Catalogue::decide`], so that the next decision sees it, and changes the catalogue, by
//! [`Catalogue::apply`], when it is committed. A deleted stream stays in the list of what must
//! still be removed until its shard has confirmed.

mod catalogue;
mod overlay;
mod record;
#[cfg(test)]
mod tests;

pub use catalogue::{
    Catalogue, CreateDecision, DeleteDecision, MetaLimits, StreamEntry, StreamPage, UpdateDecision,
};
pub use record::{Record, RecordError};
