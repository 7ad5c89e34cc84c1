//! HTTP monitoring, on an executor and a thread of its own.
//!
//! Purpose: answer `/varz`, `/connz`, `/jsz`, `/healthz` and so on the way NATS's tools expect, and
//! `/metrics` for Prometheus, without taking anything from the reactors but a plain [`Snapshot`]
//! now and then, and pages of what there is (`crate::inspect`).
//!
//! It must not know reactors, streams or rings: what it shows comes through [`StatusSource`], what
//! does not change through [`Site`]. `args`, `http`, `varz` and `metrics` are pure: a request and a
//! snapshot in, bytes out. `server` and `process` are the shell: glommio, the clock, `/proc`. The
//! others gather pages through the shell and make one answer of them.
//!
//! It exists once a process, and only where monitoring is configured.
//!
//! Invariants: a snapshot is asked for at most once at a time; a source that does not answer makes
//! a request fail, never hang; the number of connections is bounded, and so are the items of a
//! listing and the bytes of all answers that are not read yet; one listing is gathered at a time.

mod args;
mod connections;
mod health;
mod http;
mod jetstream;
mod metrics;
mod others;
mod process;
mod server;
mod status;
mod subscriptions;
mod varz;

/// The one account there is so far.
const ACCOUNT: &str = "$G";
/// The system account, which nobody is in.
const SYSTEM_ACCOUNT: &str = "$SYS";

pub use server::{Control, DESCRIPTORS_MAX, start};
pub use status::PageAnswer;
pub use status::{
    Health, JetStreamStatus, ReactorStatus, ShardStatus, Site, Snapshot, StatusSource,
};

#[cfg(test)]
mod tests;
