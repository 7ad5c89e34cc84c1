//! HTTP monitoring, on an executor and a thread of its own.
//!
//! Purpose: answer `/healthz`, `/varz` and `/metrics` the way NATS's tools and Prometheus expect,
//! without taking anything from the reactors but a plain [`Snapshot`] now and then.
//!
//! It must not know reactors, streams or rings: what it shows comes through [`StatusSource`], what
//! does not change through [`Site`]. `http`, `varz` and `metrics` are pure: a request and a
//! snapshot in, bytes out. `server` and `process` are the shell: glommio, the clock, `/proc`.
//!
//! It exists once a process, and only where monitoring is configured.
//!
//! Invariants: a snapshot is asked for at most once at a time; a source that does not answer makes
//! a request fail, never hang; the number of connections is bounded.

mod http;
mod metrics;
mod process;
mod server;
mod status;
mod varz;

pub use server::{Control, DESCRIPTORS_MAX, start};
pub use status::{
    Health, JetStreamStatus, ReactorStatus, ShardStatus, Site, Snapshot, StatusSource,
};

#[cfg(test)]
mod tests;
