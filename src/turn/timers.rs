//! Deadlines of connections, in a heap. A connection at rest has one entry; entries of
//! connections that are gone are skipped when they come up.

use crate::types::{ConnId, Timestamp};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Look whether the connection needs a PING.
    Ping(ConnId),
    /// Look whether its send makes progress.
    Write(ConnId),
    /// A stall ends.
    Stall(ConnId),
    /// Close the next connection of lame duck mode.
    LameDuck,
    /// Give memory back that no connection used for a while.
    Spares,
}

/// The heap. Equal deadlines come up in the order in which they were set.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Timestamp, u64, Timer)>>,
    count: u64,
}

impl Timers {
    /// Sets a timer.
    pub fn set(&mut self, at: Timestamp, timer: Timer) {
        self.count += 1;
        self.heap.push(Reverse((at, self.count, timer)));
    }

    /// The earliest deadline.
    #[inline]
    pub fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes one timer that is due.
    pub fn pop(&mut self, now: Timestamp) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, _, timer))| timer)
    }
}
