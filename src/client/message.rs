//! A message on its way through the server.

use crate::interest::AccountId;

/// A message as it is routed. Everything is borrowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    /// The account it belongs to.
    pub account: AccountId,
    /// The subject it is routed by.
    pub subject: &'a [u8],
    /// The subject that subscribers are shown, when it differs from `subject`; else empty.
    pub shown: &'a [u8],
    /// The reply subject, or empty.
    pub reply: &'a [u8],
    /// The header block, or empty.
    pub headers: &'a [u8],
    /// The payload without the header block.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The subject subscribers see.
    #[inline]
    pub fn shown_subject(&self) -> &'a [u8] {
        if self.shown.is_empty() { self.subject } else { self.shown }
    }

    /// Header block and payload together, in bytes.
    #[inline]
    pub fn body_bytes(&self) -> usize {
        self.headers.len() + self.payload.len()
    }
}
