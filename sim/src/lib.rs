//! The deterministic simulator: one node, its disks and its clients, under one seed.
//!
//! Purpose: to find what no test was written for. It must not know a second turn, log or
//! scheduler of its own: reactors run `corelane::turn::drive::turn`, shards are opened by
//! `corelane::shard::Shard::open`, and clients speak protocol bytes; what they count as
//! acknowledged, delivered or removed they read out of bytes that the server emitted.
//!
//! Invariants: the same seed gives the same trace; nothing here asks a clock; a failure names its
//! seed. Reading order: `plan` (what a seed turns on), `world` (time, reactors, lanes, disks),
//! `edge` (a turn's surroundings), `runner` (clients and phases), `workload`, `topics`,
//! `kinds`, `answers`, `model` and `consumers` (what must hold), `audit`, `closer`, `exact`, `rot`,
//! `effort` (how much a turn does), `books` (what must add up inside the node), `wall` (a clock
//! that is set), `descriptors` (files that may be open); `later` and what it turns on: `single`,
//! `lives`, `promise`, `window`, `waits`, `passing`; `aimed` and what it turns on: `pages`.
//!
//! Whether it finds what it should is tried by `sim/bugs/run`, which plants bugs in a copy.

#![allow(missing_docs)]

mod aimed;
mod answers;
mod audit;
mod books;
mod closer;
mod consumers;
mod descriptors;
mod digests;
mod edge;
mod effort;
mod exact;
mod fuse;
mod kinds;
mod large;
mod later;
mod lives;
mod model;
mod pages;
mod passing;
mod plan;
pub mod pool;
mod promise;
mod rot;
mod runner;
mod single;
mod socket;
pub mod tally;
mod topics;
mod waits;
mod wall;
mod window;
mod wire;
mod workload;
mod world;

pub use runner::{Report, Runner};

/// Runs one seed.
pub fn run(seed: u64, ops: u64, print: bool) -> Result<Report, String> {
    let mut runner = Runner::new(seed);
    runner.world.print = print;
    runner.run(ops)
}
