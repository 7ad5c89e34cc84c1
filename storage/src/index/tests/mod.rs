//! Tests of the index: tables, golden bytes, memory, and random runs against a naive model with a
//! disk that forgets what a checkpoint declared dead.

mod golden;
mod harness;
mod memory;
mod names;
mod random;
mod tables;
