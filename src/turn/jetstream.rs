//! What routing asks of the shards on its reactor.

pub use crate::interest::{Captured, Target};
use crate::types::Timestamp;

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
