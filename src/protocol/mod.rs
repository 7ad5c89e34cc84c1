//! The NATS client protocol on the wire: parsing what clients send and formatting what they get.
//!
//! Purpose: bytes to operations and back. It must not know connections, interest or reactors;
//! what it finds it hands to a `Handler` as borrowed slices. Exists once per connection (the
//! `Parser`), the rest are functions.
//!
//! Invariants: an operation is handed over whole or not at all, but a publish may be announced when
//! its control line is there; the same bytes give the same operations however they were split over
//! reads; a message split over several reads is copied once, into an assembly buffer sized for it.

pub mod format;
pub mod parse;

pub use parse::{Flow, Handler, ParseLimits, Parser, Publish, Violation, subject_of};
