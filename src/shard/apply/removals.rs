//! Removing messages as records say it.
//!
//! What a record removes follows from the log and is complete before the next record of its group
//! is applied, so that every replica and every replay removes the same, in the same order. This is
//! the one code for that: a live shard takes it in steps, fetching pages of the index as they come,
//! and recovery goes through it at once.

use corelane_storage::index::{FilterSet, PageKey, RangeRemoval, Removed, RemovedMessage};
use corelane_storage::index::{Resolved, SubjectId};

use crate::shard::groups::removal::Removal;
use crate::shard::records::{Enforce, EnforceBody, PurgeBody, kind};
use crate::shard::state::stream::{ShardStream, subject_count};
use crate::stream::retention::Evict;

/// What the removal of a message counts for, in index entries visited.
const REMOVAL_VISITS: u32 = 4;

/// How far a removal came.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is complete.
    Done,
    /// There is more to do.
    Budget,
    /// A page of the index is needed first.
    NeedPage(PageKey),
}

/// Who takes in that messages leave.
pub trait RemovalSink {
    /// A message left its stream.
    fn removed(&mut self, stream: &mut ShardStream, gone: &RemovedMessage);
}

impl Removal {
    /// What a meta record removes from a stream, if it is of a kind that removes.
    pub fn of_record(
        stream: &mut ShardStream,
        record_kind: u16,
        id: u64,
        body: &[u8],
    ) -> Result<Option<Removal>, &'static str> {
        const SHORT: &str = "its body cannot be read";
        match record_kind {
            kind::DELETE => Ok(Some(Removal::Message(id))),
            kind::PURGE => {
                let PurgeBody { from, to, filter } = PurgeBody::decode(body).ok_or(SHORT)?;
                if from == to {
                    // The stream was empty, and goes on from here.
                    stream.first_shown = true;
                    if stream.index.messages() == 0 {
                        stream.index.skip_to(to);
                    }
                    return Ok(None);
                }
                let filter =
                    if filter.is_empty() { FilterSet::all() } else { FilterSet::new([filter]) };
                Ok(Some(Removal::Range { from, to, filter }))
            }
            kind::ENFORCE => {
                let table = stream.index.subjects();
                let (subjects, most) = match EnforceBody::decode(body).ok_or(SHORT)? {
                    Enforce::Subjects(names) => {
                        (names.iter().filter_map(|name| table.lookup(name)).collect(), 0)
                    }
                    Enforce::Stream(most) => (Vec::new(), most),
                    Enforce::Done => {
                        stream.enforcing = false;
                        (Vec::new(), 0)
                    }
                };
                Ok(Some(Removal::Enforce { subjects, most }))
            }
            _ => Ok(None),
        }
    }

    /// Goes on, visiting about `budget` entries of the index.
    pub fn step(
        &mut self,
        stream: &mut ShardStream,
        budget: &mut u32,
        sink: &mut impl RemovalSink,
    ) -> Progress {
        match self {
            Removal::Limits(subject) => {
                if stream.retention.limits_subjects() {
                    match evict_of_subject(stream, *subject, budget, sink) {
                        Progress::Done => {}
                        more => return more,
                    }
                }
                evict_first(stream, &mut { u64::MAX }, budget, sink)
            }
            Removal::Enforce { subjects, most } => {
                while let Some(&subject) = subjects.last() {
                    match evict_of_subject(stream, subject, budget, sink) {
                        Progress::Done => subjects.pop(),
                        more => return more,
                    };
                }
                evict_first(stream, most, budget, sink)
            }
            Removal::Message(seq) => match stream.index.remove(*seq) {
                Removed::Done(gone) => {
                    sink.removed(stream, &gone);
                    Progress::Done
                }
                Removed::NotThere => Progress::Done,
                Removed::NeedPage(key) => Progress::NeedPage(key),
            },
            Removal::Range { from, to, filter } => {
                let mut gone = Vec::new();
                let range = *from..*to;
                let end = stream.index.remove_matching(filter, range, budget, |m| gone.push(m));
                gone.iter().for_each(|m| sink.removed(stream, m));
                match end {
                    RangeRemoval::Done => Progress::Done,
                    RangeRemoval::Budget { resume } => {
                        *from = resume;
                        Progress::Budget
                    }
                    RangeRemoval::NeedPage { key, resume } => {
                        *from = resume;
                        Progress::NeedPage(key)
                    }
                }
            }
        }
    }
}

/// Removes first messages while there are too many, at most so many.
fn evict_first(
    stream: &mut ShardStream,
    most: &mut u64,
    budget: &mut u32,
    sink: &mut impl RemovalSink,
) -> Progress {
    loop {
        if *most == 0 || stream.retention.by_limits(&stream.view()) == Evict::Nothing {
            return Progress::Done;
        }
        if *budget == 0 {
            return Progress::Budget;
        }
        *budget = budget.saturating_sub(REMOVAL_VISITS);
        match stream.index.remove_first() {
            Removed::Done(gone) => {
                *most -= 1;
                sink.removed(stream, &gone);
            }
            Removed::NotThere => return Progress::Done,
            Removed::NeedPage(key) => return Progress::NeedPage(key),
        }
    }
}

/// Removes the oldest messages of a subject while it holds too many.
fn evict_of_subject(
    stream: &mut ShardStream,
    subject: SubjectId,
    budget: &mut u32,
    sink: &mut impl RemovalSink,
) -> Progress {
    loop {
        if stream.retention.of_subject(subject_count(&stream.index, subject)) == 0 {
            return Progress::Done;
        }
        if *budget == 0 {
            return Progress::Budget;
        }
        *budget = budget.saturating_sub(REMOVAL_VISITS);
        match stream.index.first_of(subject, budget) {
            Resolved::Found(seq) => match stream.index.remove_of(subject, seq) {
                Removed::Done(gone) => sink.removed(stream, &gone),
                Removed::NotThere => return Progress::Done,
                Removed::NeedPage(key) => return Progress::NeedPage(key),
            },
            Resolved::None => return Progress::Done,
            Resolved::NeedPage(key) => return Progress::NeedPage(key),
            Resolved::Budget => return Progress::Budget,
        }
    }
}
