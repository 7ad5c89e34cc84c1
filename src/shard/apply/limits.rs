//! Limits that remove messages.
//!
//! Removal by count and size follows from what is applied: it is complete before the next record of
//! the group is applied, so that every replica and every replay removes the same. Where a page of
//! the index is missing, or much is to be removed, the group's applying pauses and goes on step by
//! step. Limits that an update lowers are enforced by records (`streams::enforce`).

use corelane_storage::index::{PageKey, Removed, Resolved, SubjectId};

use super::groups::GroupName;
use crate::shard::Shard;
use crate::shard::effects::ShardEffects;
use crate::shard::streams::read::Fetched;
use crate::shard::streams::stream::subject_count;
use crate::stream::retention::Evict;
use crate::types::{StreamId, Timestamp};

/// Index entries that one step visits.
const STEP_VISITS: u32 = 2_000;
/// What is visited for one message that is stored.
const STORE_VISITS: u32 = 1_000;
/// What the removal of a message counts for.
const REMOVAL_VISITS: u32 = 4;

/// How soon limits are enforced again where the index could not be read, in nanoseconds.
const LIMITS_AGAIN: i64 = 1_000_000_000;

/// What a record says about limits that are to be enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforce {
    /// These subjects hold more than they may.
    Subjects(Vec<Box<[u8]>>),
    /// The stream holds more than it may: at most so many messages leave.
    Stream(u64),
    /// All is within the limits.
    Done,
}

/// What the record that was applied last leaves to be done.
#[derive(Debug)]
pub enum Unfinished {
    /// A message of this subject was stored in this slot.
    Limits {
        /// The stream's slot.
        slot: usize,
        /// The subject.
        subject: SubjectId,
    },
    /// Limits are to be enforced in this slot.
    Enforce {
        /// The stream's slot.
        slot: usize,
        /// The stream.
        stream: StreamId,
        /// Subjects to look at, the next last.
        subjects: Vec<SubjectId>,
        /// Messages that may leave for the limits of the stream.
        most: u64,
    },
}

/// How far an eviction came.
pub enum Evicted {
    /// All is within the limits.
    Done,
    /// There is more to do.
    Budget,
    /// A page is needed first.
    NeedPage(PageKey),
}

impl Shard {
    /// Evicts what the limits no longer allow, after a message of `subject` was applied.
    pub(super) fn evict_after(&mut self, slot: usize, subject: SubjectId) -> Evicted {
        if let Some(at) = self.streams[slot].limits_wait {
            if at > self.clocks.now {
                return Evicted::Done;
            }
            self.streams[slot].limits_wait = None;
        }
        let mut budget = STORE_VISITS;
        self.evict_stored(slot, subject, &mut budget)
    }

    fn evict_stored(&mut self, slot: usize, subject: SubjectId, budget: &mut u32) -> Evicted {
        if self.streams[slot].retention.limits_subjects() {
            match self.evict_of_subject(slot, subject, budget) {
                Evicted::Done => {}
                more => return more,
            }
        }
        self.evict_by_limits(slot, &mut { u64::MAX }, budget)
    }

    /// A record that enforces limits was applied: what it says is done before the next.
    pub(super) fn begin_enforce(&mut self, group: GroupName, stream: StreamId, what: Enforce) {
        let Some(&slot) = self.slots.get(&stream) else { return };
        let table = self.streams[slot].index.subjects();
        let (subjects, most) = match what {
            Enforce::Subjects(names) => {
                (names.iter().filter_map(|name| table.lookup(name)).collect(), 0)
            }
            Enforce::Stream(most) => (Vec::new(), most),
            Enforce::Done => {
                self.before_change(slot);
                self.streams[slot].enforcing = false;
                (Vec::new(), 0)
            }
        };
        let unfinished = Unfinished::Enforce { slot, stream, subjects, most };
        self.groups.get_mut(group).unfinished = Some(unfinished);
    }

    /// Goes on with what the last record left to be done. True if applying goes on at once.
    pub(super) fn finish_removals(
        &mut self,
        group: GroupName,
        now: Timestamp,
        out: &mut impl ShardEffects,
    ) -> bool {
        let Some(mut unfinished) = self.groups.get_mut(group).unfinished.take() else {
            return true;
        };
        let mut budget = STEP_VISITS;
        let slot = match unfinished {
            Unfinished::Limits { slot, .. } | Unfinished::Enforce { slot, .. } => slot,
        };
        self.before_change(slot);
        loop {
            match self.step_removals(&mut unfinished, &mut budget) {
                Evicted::Done => break,
                Evicted::Budget => {
                    self.groups.get_mut(group).unfinished = Some(unfinished);
                    return false;
                }
                Evicted::NeedPage(key) => match self.fetch_page(slot, key) {
                    Fetched::Loaded => {}
                    Fetched::Pending(read) => {
                        let pipeline = self.groups.get_mut(group);
                        pipeline.unfinished = Some(unfinished);
                        pipeline.blocked = Some(read);
                        return false;
                    }
                    Fetched::Failed(text) => {
                        self.streams[slot].limits_wait = Some(now.plus(LIMITS_AGAIN));
                        let why = format_args!("its limits do not remove what they should: {text}");
                        self.complain(slot, why, out);
                        break;
                    }
                },
            }
        }
        if let Unfinished::Enforce { stream, .. } = unfinished {
            self.enforce_applied(now, stream, out);
        }
        true
    }

    fn step_removals(&mut self, unfinished: &mut Unfinished, budget: &mut u32) -> Evicted {
        match unfinished {
            Unfinished::Limits { slot, subject } => self.evict_stored(*slot, *subject, budget),
            Unfinished::Enforce { slot, subjects, most, .. } => {
                while let Some(&subject) = subjects.last() {
                    match self.evict_of_subject(*slot, subject, budget) {
                        Evicted::Done => subjects.pop(),
                        more => return more,
                    };
                }
                self.evict_by_limits(*slot, most, budget)
            }
        }
    }

    /// Removes first messages while there are too many, at most so many.
    fn evict_by_limits(&mut self, slot: usize, most: &mut u64, budget: &mut u32) -> Evicted {
        loop {
            let cell = &mut self.streams[slot];
            if *most == 0 || cell.retention.by_limits(&cell.view()) == Evict::Nothing {
                return Evicted::Done;
            }
            if *budget == 0 {
                return Evicted::Budget;
            }
            *budget = budget.saturating_sub(REMOVAL_VISITS);
            match cell.index.remove_first() {
                Removed::Done(gone) => {
                    *most -= 1;
                    self.removed(slot, &gone);
                }
                Removed::NotThere => return Evicted::Done,
                Removed::NeedPage(key) => return Evicted::NeedPage(key),
            }
        }
    }

    /// Removes the oldest messages of a subject while it holds too much.
    fn evict_of_subject(&mut self, slot: usize, subject: SubjectId, budget: &mut u32) -> Evicted {
        loop {
            let cell = &mut self.streams[slot];
            if cell.retention.of_subject(subject_count(&cell.index, subject)) == 0 {
                return Evicted::Done;
            }
            if *budget == 0 {
                return Evicted::Budget;
            }
            *budget = budget.saturating_sub(REMOVAL_VISITS);
            match cell.index.first_of(subject, budget) {
                Resolved::Found(seq) => match cell.index.remove_of(subject, seq) {
                    Removed::Done(gone) => self.removed(slot, &gone),
                    Removed::NotThere => return Evicted::Done,
                    Removed::NeedPage(key) => return Evicted::NeedPage(key),
                },
                Resolved::None => return Evicted::Done,
                Resolved::NeedPage(key) => return Evicted::NeedPage(key),
                Resolved::Budget => return Evicted::Budget,
            }
        }
    }
}
