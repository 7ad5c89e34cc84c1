//! The catalogue of streams: shard 0 decides (`leader`), every shard carries out what was decided
//! about its own streams (`follow`).

pub(in crate::shard) mod follow;
pub(in crate::shard) mod leader;
