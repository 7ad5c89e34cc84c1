//! corelane: a durable, thread-per-core message broker that speaks the NATS protocol.
//!
//! Reading order: `config`, `subject`, `protocol`, `auth`, `interest`, `client`, `stream`, `consumer`, `replication`, `meta`, `api`,
//! `shard`, `turn`, `reactor`, `control`. See `docs/ARCHITECTURE.md`.

pub mod config;
pub mod control;
pub mod subject;
pub mod types;
