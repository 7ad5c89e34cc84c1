//! One JetStream consumer: a pure state machine beside its stream.
//!
//! Purpose: decide what is delivered to whom and when, what is owed, and what of it is durable. It
//! must not know connections, sockets, the stream's index or the log (and JSON only where
//! `from_config` reads settings): the shard owns those, asks [`Consumer::wants`], looks the message
//! up and offers it with [`Consumer::deliver`]. It exists once per consumer, on the shard of its
//! stream; [`pending::FilterGroups`] exists once per stream.
//!
//! Invariants:
//! - Time, seeds and counts are arguments. Effects go to a [`Sink`], in order.
//! - An answered acknowledgement is never undone: [`Sink::ack_reply`] is held until the delta that
//!   contains it is durable.
//! - A consumer sequence that a client has seen is never given to another message. Deliveries are
//!   recorded lazily, but run at most [`SEQ_AHEAD_MAX`] ahead of what is durable, and after a crash
//!   the consumer sequence jumps by as much. The jump is durable before the next delivery.
//! - After a crash, acknowledgements of deliveries that were not recorded are accepted up to the
//!   stream's recovered last sequence, kept as *ahead*, and their messages are passed without
//!   another delivery.
//! - Replaying a consumer's deltas gives an equal ledger: the deltas are the operations themselves.
//! - The floors never pass a message that is owed.
//!
//! How a shard drives one: `set_counted` (from [`pending::FilterGroups`]), then inputs or
//! `wants`/`deliver` until `Nothing` or `Wait`, then `progress` (to the groups), `take_delta` (to
//! the log), `deadline` (to the timer).

mod codec;
mod from_config;
mod inputs;
mod ledger;
mod machine;
pub mod pending;
mod push;
mod request;
mod settings;
mod sink;
mod snapshot;
mod start_set;
pub mod status;
mod unacked;
mod waiting;

#[cfg(test)]
mod tests;

pub use codec::Corrupt;
pub use inputs::GONE_CHECKS_MAX;
pub use machine::{Consumer, DeltaMark, Info, Meta, Outcome, Progress, Want};
pub use request::{AckKind, AckSubject, duration_text, parse_duration};
pub use settings::{
    AckPolicy, ConsumerSettings, FLOW_WINDOW_BYTES_MAX, Mode, Origin, PullSettings, PushSettings,
    ReplayPolicy, SECOND, SEQ_AHEAD_MAX, StartPosition,
};
pub use sink::{Dispatch, Output, Recorder, Sink};
