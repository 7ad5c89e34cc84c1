//! What a record that removes messages leaves to be done, and what it did.

use corelane_storage::index::{FilterSet, SubjectId};

/// What a record removes from a stream, as far as that is not done.
#[derive(Debug)]
pub enum Removal {
    /// What the limits no longer allow after a message of this subject was stored.
    Limits(SubjectId),
    /// What is over lowered limits.
    Enforce {
        /// Subjects to look at, the next last.
        subjects: Vec<SubjectId>,
        /// Messages that may leave for the limits of the stream.
        most: u64,
    },
    /// One message.
    Message(u64),
    /// A range.
    Range {
        /// The first sequence still to look at.
        from: u64,
        /// One past the last.
        to: u64,
        /// Which messages of it.
        filter: FilterSet,
    },
}

/// How often a page of the index is read, one time right after the other, before a removal goes by
/// what came of it: one that is damaged is so for every replica, and its messages stay; one that
/// the device does not read is not passed over, and all waits for it, or the start is given up.
const PAGE_ATTEMPTS: u32 = 3;

/// How often a page that a removal needs was read in vain.
#[derive(Debug, Default)]
pub struct PageAttempts(u32);

impl PageAttempts {
    /// It was read.
    pub fn succeeded(&mut self) {
        self.0 = 0;
    }

    /// It was not. Whether it is to be read again at once.
    pub fn failed(&mut self) -> bool {
        self.0 = (self.0 + 1) % PAGE_ATTEMPTS;
        self.0 > 0
    }
}

/// What the record that was applied last removes, as far as that is not done.
#[derive(Debug)]
pub struct Unfinished {
    /// The stream's slot.
    pub slot: usize,
    /// What it removes.
    pub removal: Removal,
}

/// What the record that was applied last removed.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Messages.
    pub removed: u64,
    /// Why more could not be removed.
    pub failed: Option<String>,
}
