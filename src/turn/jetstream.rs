//! What routing asks of the shards on its reactor.

use crate::interest::AccountId;
pub use crate::interest::Target;
use crate::turn::entry::Origin;
use crate::types::Timestamp;

/// A message that a local shard gets. Everything is borrowed for the length of the call.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// Where it goes.
    pub target: Target,
    /// Who published it: answers go to `origin.reactor`.
    pub origin: Origin,
    /// The account.
    pub account: AccountId,
    /// The subject.
    pub subject: &'a [u8],
    /// The reply subject, or empty.
    pub reply: &'a [u8],
    /// The header block, or empty.
    pub headers: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// Bytes to give back through `Net::credit_return(origin.reactor, shard, bytes)` once this
    /// message is durable or refused; 0 when none were taken.
    pub credit_bytes: u32,
}

/// The shards of a reactor, as routing sees them. What they answer goes through `Net::deliver`
/// after the call.
pub trait JetStream {
    /// A message for a shard on this reactor.
    fn capture(&mut self, now: Timestamp, message: &Captured<'_>);
}

/// No shards: for reactors without JetStream.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoJetStream;

impl JetStream for NoJetStream {
    fn capture(&mut self, _now: Timestamp, _message: &Captured<'_>) {}
}
