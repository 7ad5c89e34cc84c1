//! What must leave a stream after something was applied to it: decisions over the committed state,
//! which the caller executes on its index.
//!
//! Removal by count or size follows from what is applied and needs no record of its own. Removal by
//! age rests on a clock, so it is a decision of the leader that goes through the log.

use crate::api::types::{DiscardPolicy, StreamConfig};
use crate::stream::admission::StreamView;
use crate::types::Timestamp;

/// The limits of a configuration that evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    max_msgs: u64,
    max_bytes: u64,
    max_per_subject: u64,
    /// Nanoseconds, `i64::MAX` for none.
    max_age: i64,
}

/// The next message to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evict {
    /// Nothing.
    Nothing,
    /// The first message of the stream.
    First,
}

impl Retention {
    /// The limits of a configuration. A stream that discards what is new keeps what it has, also
    /// when an update leaves it with more than it may take.
    pub fn new(config: &StreamConfig) -> Self {
        let old = config.discard == DiscardPolicy::Old;
        let limit = |value: i64| u64::try_from(value).ok().filter(|&v| v > 0).unwrap_or(u64::MAX);
        Retention {
            max_msgs: if old { limit(config.max_msgs) } else { u64::MAX },
            max_bytes: if old { limit(config.max_bytes) } else { u64::MAX },
            max_per_subject: limit(config.max_msgs_per_subject),
            max_age: if config.max_age > 0 { config.max_age } else { i64::MAX },
        }
    }

    /// How many of a subject's oldest messages must leave if it holds so many.
    pub fn of_subject(&self, count: u64) -> u64 {
        count.saturating_sub(self.max_per_subject)
    }

    /// True if anything is limited by count or size.
    pub fn is_limited(&self) -> bool {
        (self.max_msgs & self.max_bytes & self.max_per_subject) != u64::MAX
    }

    /// True if subjects are limited at all.
    pub fn limits_subjects(&self) -> bool {
        self.max_per_subject != u64::MAX
    }

    /// Whether the first message must leave for a limit of count or size. Asked again after each
    /// removal: a message of which nobody knows the size may leave only one at a time.
    pub fn by_limits(&self, view: &impl StreamView) -> Evict {
        if view.messages() == 0 {
            return Evict::Nothing;
        }
        if view.messages() > self.max_msgs || view.bytes() > self.max_bytes {
            return Evict::First;
        }
        Evict::Nothing
    }

    /// When a message of this time must leave; `None` without a limit of age.
    pub fn deadline(&self, stored_at: Timestamp) -> Option<Timestamp> {
        (self.max_age != i64::MAX).then(|| stored_at.plus(self.max_age))
    }

    /// Messages stored at or before this time must leave now.
    pub fn expired_at_or_before(&self, now: Timestamp) -> Option<Timestamp> {
        (self.max_age != i64::MAX).then(|| now.plus(-self.max_age))
    }
}
