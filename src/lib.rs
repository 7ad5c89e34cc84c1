//! corelane: a durable, thread-per-core message broker that speaks the NATS protocol.
//!
//! Reading order: `config`, `subject`, `protocol`, `auth`, `interest`, `client`, `stream`,
//! `consumer`, `replication`, `meta`, `api`, `shard`, `turn`, `reactor`, `control`. See
//! `docs/ARCHITECTURE.md`.

pub mod api;
pub mod auth;
pub mod client;
pub mod config;
pub mod consumer;
pub mod control;
mod fifo;
pub mod inspect;
pub mod interest;
pub mod listen;
pub mod logline;
pub mod meta;
pub mod protocol;
pub mod reactor;
pub mod replication;
pub mod server;
pub mod shard;
pub mod stream;
pub mod subject;
pub mod turn;
pub mod types;
