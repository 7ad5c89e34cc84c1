//! Interest: who wants a subject, on this reactor and on the others.
//!
//! Purpose: subject to *plan*: the local subscriptions, the queue groups with their members here
//! and elsewhere, the other reactors, and the streams that capture it. It must not know
//! connections, sockets or how messages are delivered; a subscription is an opaque `SubId`.
//! Exists once per reactor, keyed by account.
//!
//! Invariants: a plan from the cache equals the plan a walk of the trie would build now; what
//! other reactors want is known by absolute counts, so that applying a change twice does no harm;
//! iteration order never depends on a hash.

mod cache;
mod captured;
mod catalogue;
mod table;
mod trie;
mod watch;

pub use captured::Captured;
pub use catalogue::{Catalogue, Destination, StreamPlace, Target, request_credit};
pub use table::{Change, GroupPlan, Interest, Plan, PlanId, StreamTarget};
pub use watch::{WatchEvent, WatchId, Watches};

/// An account: an index from 0. There is one today, `$G`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u32);

/// A local subscription: an index into the reactor's slab of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubId(pub u32);
