//! Rings between cores: bounded single-producer single-consumer lanes, a full mesh of them, and
//! one doorbell word per reactor.
//!
//! *Purpose*: hand values (typically boxed batches) from one reactor to another without a lock.
//! *Must not know*: the broker, the kernel, time. Waking a sleeper is the caller's business.
//! *Where it exists*: one mesh per process; an [`Endpoint`] of it per reactor thread.
//!
//! # Memory ordering
//!
//! A ring is an array of slots and two counters that only grow (and wrap). `tail` counts what was
//! ever pushed and is stored only by the producer; `head` counts what was ever taken and is stored
//! only by the consumer. Invariant: `head <= tail <= head + capacity`.
//!
//! 1. *Slots.* The producer writes slot `tail % capacity`, then stores `tail + 1` with Release.
//!    The consumer loads `tail` with Acquire before it reads the slot, so the write of the value
//!    happens before its read. In return the consumer reads the value out, then stores `head + 1`
//!    with Release, and the producer loads `head` with Acquire before it writes that slot again:
//!    the read happens before the overwrite. Each side keeps the other's counter cached; a cached
//!    counter is an older value of one that only grows, so it can hide room or items, never invent
//!    them.
//! 2. *Doorbell.* A lost wake-up would need the producer to see "awake" and the consumer to see
//!    "nothing there". The consumer stores SLEEPING, then fences, then looks at its lanes; the
//!    producer stores `tail`, then fences, then looks at the word. Both fences are SeqCst, so one
//!    precedes the other in their single total order, and whoever comes second sees the other's
//!    store. Acquire and Release alone do not order a store before a later load; that is why the
//!    fences are there. The word goes from SLEEPING to RUNG by compare-exchange, so exactly one
//!    producer per sleep is told to wake. A producer that finds RUNG relies on that one; should the
//!    sleeper meanwhile be up and lie down again, point 2 holds for the new SLEEPING.
//! 3. *Full lane.* The same argument turned around: a producer that finds its lane full stores
//!    `starved`, fences and looks at `head` again; a consumer stores `head`, fences and looks at
//!    `starved`. Before a producer sleeps it looks at the room of every lane it starves on, as it
//!    looks at what came in, so ringing its doorbell after a drain cannot be lost either.
//! 4. *Two lanes.* What was pushed to lane A before lane B by one producer is seen by a consumer
//!    that first notes how far B reaches ([`Consumer::note`]) and then drains A: the Acquire load
//!    of B's tail makes the earlier push to A visible. Happens-before is transitive, so the same
//!    holds when A and B come from different reactors and a third one passed the cause on. That is
//!    how interest stays ahead of messages: a turn notes all message lanes, then notes all control
//!    lanes, drains the control lanes to their notes, and only then the message lanes to theirs.
//!
//! `tests/loom.rs` checks each point by model, and tells which weakenings were seen to fail it.

mod doorbell;
mod mesh;
mod ring;
mod sync;

pub use doorbell::Doorbell;
pub use mesh::{Endpoint, Inbound, LaneCapacity, Outbound, mesh};
pub use ring::{CAPACITY_MAX, Consumer, Note, Producer, channel};
