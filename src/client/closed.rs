//! The connections of one reactor that were closed last, for monitoring.

use crate::inspect::Connection;
use std::collections::VecDeque;

/// Closed connections that a reactor remembers, where nothing else is asked for.
pub const CLOSED_MAX: usize = 10_000;

/// A ring of them: the oldest goes when it is full.
#[derive(Debug, Default)]
pub struct Closed {
    ring: VecDeque<Connection>,
    max: usize,
}

impl Closed {
    /// Room for `max` connections.
    pub fn new(max: usize) -> Self {
        Closed { ring: VecDeque::new(), max }
    }

    /// Adds one.
    pub fn push(&mut self, connection: Connection) {
        if self.max == 0 {
            return;
        }
        if self.ring.len() >= self.max {
            self.ring.pop_front();
        }
        self.ring.push_back(connection);
    }

    /// Up to `max` of them from the position `from` on.
    pub fn page(&self, from: usize, max: usize) -> Vec<Connection> {
        self.ring.iter().skip(from).take(max).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ring.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let mut closed = Closed::new(2);
        for cid in 1..=3 {
            closed.push(Connection { cid, ..Connection::default() });
        }
        let cids: Vec<u64> = closed.page(0, 9).iter().map(|c| c.cid).collect();
        assert_eq!(cids, [2, 3]);
        assert_eq!(closed.page(1, 9).len(), 1);
        assert!(closed.page(2, 9).is_empty());
        Closed::new(0).push(Connection::default());
    }
}
