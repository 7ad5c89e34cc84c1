//! Rules as tables, a consumer against a stream in virtual time, and models with random runs.

mod codec;
mod config;
mod drive;
mod groups;
mod ledger;
mod model;
mod pull;
mod push;
mod recovery;
