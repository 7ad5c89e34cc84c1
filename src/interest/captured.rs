//! What a shard is handed: a message with where it goes and who sent it.

use super::{AccountId, Target};
use crate::types::Origin;

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
    /// Bytes to give back through `Net::credit_return` to `origin.reactor` once this message is
    /// durable or refused, or this request handled; 0 when none were taken.
    pub credit_bytes: u32,
}
