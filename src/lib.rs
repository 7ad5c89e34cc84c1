//! corelane: a durable, thread-per-core message broker that speaks the NATS protocol.
//!
//! Reading order: `config`, `subject`, `protocol`, `auth`, `interest`, `client`, `stream`, `consumer`, `replication`, `meta`, `api`,
//! `shard`, `turn`, `reactor`, `control`. See `docs/ARCHITECTURE.md`.

pub mod api;
pub mod config;
pub mod meta;
pub mod stream;
pub mod auth;
pub mod client;
pub mod interest;
pub mod protocol;
pub mod consumer;
pub mod reactor;
pub mod server;
pub mod shard;
pub mod replication;
pub mod consumer;
pub mod meta;
pub mod stream;
pub mod control;
pub mod subject;
pub mod turn;
pub mod types;
