//! What a reactor holds for connections: nothing, when the last of them is gone from the node and
//! everything under way has arrived. Tests and the simulator look.

use super::{Core, Net};

/// Counts of what belongs to connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Connections.
    pub connections: usize,
    /// Their subscriptions.
    pub subscriptions: usize,
    /// Filters that somebody on any reactor subscribes to.
    pub filters: usize,
    /// Connections in the lists of those that are to go on or to be removed.
    pub listed: usize,
    /// Bytes of messages that wait for other reactors.
    pub batched: usize,
}

impl Net {
    fn leftovers(&self) -> Leftovers {
        Leftovers {
            connections: self.clients.len(),
            subscriptions: self.clients.subscriptions(),
            filters: self.interest.subscribed(),
            listed: self.holding.len() + self.runnable.len() + self.leaving.len(),
            batched: self.mesh.batched(),
        }
    }
}

impl Core {
    /// What this reactor holds for connections.
    pub fn leftovers(&self) -> Leftovers {
        self.net.leftovers()
    }
}
