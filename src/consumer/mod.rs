//! One JetStream consumer: a pure state machine beside its stream.
//!
//! Purpose: decide what is delivered to whom and when, and what is owed. It is two things:
//! - the [`Ledger`], the replicated state, which only records of the log change, by one function
//!   live, in recovery and on a replica;
//! - the [`Delivery`], which exists where the consumer's group is led: waiting requests, timers,
//!   flow control, and what was delivered or acknowledged and is not applied to the ledger yet.
//!
//! What a configuration may be, and what a create or an update comes to, is decided in [`config`]
//! before there is either.
//!
//! It must not know connections, sockets, JSON, the stream's index or the log: the shard owns
//! those, asks [`Delivery::wants`], looks the message up and offers it with [`Delivery::deliver`].
//! It exists once per consumer, on the shard of its stream; [`pending::FilterGroups`] exists once
//! per stream.
//!
//! Invariants:
//! - Time, seeds and counts are arguments. Effects go to a [`Sink`], in order.
//! - The ledger looks at no clock and knows nothing that is not in the log: a [`Delivery`] may be
//!   dropped at any moment, and another one begins where the log is.
//! - An answered acknowledgement is never undone: [`Sink::ack_reply`] is held until the delta that
//!   contains it is applied.
//! - A consumer sequence that a client has seen is never given to another message. Deliveries are
//!   recorded lazily, but run at most [`SEQ_AHEAD_MAX`] ahead of the ledger, and after a crash the
//!   consumer sequence jumps by as much. The jump is applied before the next delivery.
//! - After a crash, acknowledgements of deliveries that were not recorded are accepted up to the
//!   stream's recovered last sequence, kept as *ahead*, and their messages are passed without
//!   another delivery.
//! - The floors never pass a message that is owed.
//!
//! How a shard drives one: `set_counted` (from [`pending::FilterGroups`]), then inputs or
//! `wants`/`deliver` until `Nothing` or `Wait`, then `progress` (to the groups), `delta` (to the
//! log), `deadline` (to the timer). What the log has committed goes to [`Ledger::apply`], and then
//! `applied` says so to the delivering side.

mod ack_subject;
mod codec;
pub mod config;
mod delivery;
mod delta;
mod from_config;
mod inputs;
mod ledger;
pub mod pending;
mod push;
mod settings;
mod sink;
mod snapshot;
mod start_set;
pub mod status;
mod unacked;
mod waiting;

#[cfg(test)]
mod tests;

pub use ack_subject::AckSubject;
pub use codec::Corrupt;
pub use delivery::{Delivery, Info, Meta, Outcome, Progress, Want};
pub use from_config::rate_burst_bytes;
pub use inputs::GONE_CHECKS_MAX;
pub use ledger::Ledger;
pub use settings::{
    AckPolicy, ConsumerSettings, FLOW_WINDOW_BYTES_MAX, Mode, Origin, PullSettings, PushSettings,
    ReplayPolicy, SECOND, SEQ_AHEAD_MAX, StartPosition,
};
pub use sink::{Dispatch, Output, Recorder, Sink};
