//! Permits for requests that hold much until they are answered: there are few of each kind. A
//! request without one waits in the order in which it came, and holds nothing but itself.

use std::collections::VecDeque;

use super::Request;

/// What a permit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// What was seen of an index so far.
    Search,
    /// A list of streams that all shards are asked for.
    Listing,
    /// Another question to all shards.
    Account,
    /// A purge.
    Purge,
}

/// All kinds.
pub const PERMITS: [Permit; 4] = [Permit::Search, Permit::Listing, Permit::Account, Permit::Purge];

impl Permit {
    /// How many there are in a shard. A walk may hold 100,000 subjects or more, a listing 256
    /// configurations with as many states, the others some hundred bytes.
    pub fn count(self) -> usize {
        match self {
            Permit::Search => 2,
            Permit::Listing => 4,
            Permit::Account => 64,
            Permit::Purge => 16,
        }
    }
}

/// Who has a permit for a walk, and who waits for what.
#[derive(Default)]
pub struct Permits {
    pub walks: usize,
    pub waiting: [VecDeque<Request>; PERMITS.len()],
}

impl Permits {
    /// A request waits for a permit.
    pub fn wait(&mut self, permit: Permit, request: Request) {
        self.waiting[permit as usize].push_back(request);
    }
}
