//! Requests that look at many subjects or sequences. They do it in short steps: what was seen is
//! kept with the request, which is run again in a later turn.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use corelane_storage::index::{
    FilterSet, LastJob, LastStep, Resolved, Scan, StreamIndex, SubjectCursor, SubjectId,
};

use super::Shard;
use super::read::Unread;
use super::requests::{Request, Wait};

/// Names or index entries that one step looks at.
const VISITS: u32 = 1_000;
/// Sequences that one step looks at to tell the deleted ones.
const DELETED_VISITS: u64 = 16_384;

/// What a request has seen so far.
#[derive(Clone, Debug, Default)]
pub enum Walk {
    /// Nothing.
    #[default]
    None,
    /// Towards the last message that matches.
    Last(LastJob),
    /// Towards the next message that matches, from this sequence on.
    Next(FilterSet, u64),
    /// It was found; its message is being read.
    Found(u64),
    /// Towards the last message of every subject.
    Each(Box<Each>),
    /// Towards what a stream's state has in detail.
    Details(Box<Details>),
}

/// The last messages of subjects.
#[derive(Clone, Debug)]
pub struct Each {
    /// The stream's last sequence when the walk began. What came later is found as new.
    upto: u64,
    /// The filter that is walked.
    filter: usize,
    cursor: SubjectCursor,
    exact: BTreeSet<u64>,
    inexact: Vec<SubjectId>,
}

impl Each {
    fn note(&mut self, seq: u64) {
        if seq <= self.upto {
            self.exact.insert(seq);
        }
    }
}

/// The details of a stream's state.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// The next sequence to look at; 0 before the first.
    next: u64,
    /// Deleted sequences, ascending.
    pub deleted: Vec<u64>,
    cursor: SubjectCursor,
    /// Subjects that match.
    pub total: u64,
    /// One page of them with their messages.
    pub subjects: BTreeMap<String, u64>,
}

impl Details {
    /// Goes on with the deleted sequences. True when it is through.
    pub fn walk_deleted(&mut self, index: &StreamIndex) -> bool {
        let (first, last) = (index.first_seq(), index.last_seq());
        if index.messages() == 0 {
            self.deleted.clear();
            return true;
        }
        let from = self.next.max(first);
        let to = last.min(from.saturating_add(DELETED_VISITS - 1));
        self.deleted.extend((from..=to).filter(|&seq| !index.is_live(seq)));
        self.next = to + 1;
        if to < last {
            return false;
        }
        // Messages may have gone since at the front.
        let gone = self.deleted.partition_point(|&seq| seq < first);
        self.deleted.drain(..gone);
        true
    }

    /// Goes on with the subjects that match: `limit` of them from `offset` on are kept. True when
    /// it is through.
    pub fn walk_subjects(
        &mut self,
        index: &StreamIndex,
        filter: &[u8],
        offset: u64,
        limit: usize,
    ) -> bool {
        let Details { cursor, total, subjects, .. } = self;
        let mut budget = VISITS;
        index.subjects().for_each_match(filter, cursor, &mut budget, |_, entry| {
            if *total >= offset && subjects.len() < limit {
                let name = String::from_utf8_lossy(entry.name()).into_owned();
                subjects.insert(name, entry.count);
            }
            *total += 1;
        })
    }
}

impl Shard {
    /// The last message that matches one of the filters.
    pub(super) fn last_of<F: AsRef<[u8]>>(
        &mut self,
        slot: usize,
        filters: &[F],
        walk: &RefCell<Walk>,
    ) -> Result<Option<u64>, Unread> {
        let mut job = match walk.take() {
            Walk::Last(job) => job,
            _ => LastJob::new(FilterSet::new(filters)),
        };
        let mut budget = VISITS;
        loop {
            let wait = match job.step(&mut self.cells[slot].index, &mut budget) {
                LastStep::Done(seq) => return Ok(seq),
                LastStep::Budget => Wait::Turn,
                LastStep::NeedPage(key) => match self.want_page(slot, key) {
                    Ok(loaded) => {
                        loaded.map_err(Unread::Failed)?;
                        continue;
                    }
                    Err(wait) => wait,
                },
            };
            walk.replace(Walk::Last(job));
            return Err(Unread::Wait(wait));
        }
    }

    /// The first message at or above `from` that matches.
    pub(super) fn next_of(
        &mut self,
        slot: usize,
        filter: &[u8],
        from: u64,
        walk: &RefCell<Walk>,
    ) -> Result<Option<u64>, Unread> {
        let (mut filters, mut from) = match walk.take() {
            Walk::Next(filters, at) => (filters, at),
            _ => (FilterSet::new([filter]), from),
        };
        let mut budget = VISITS;
        loop {
            let wait = match self.cells[slot].index.next_matching(&mut filters, from, &mut budget) {
                Scan::Found(seq, _) => return Ok(Some(seq)),
                Scan::End => return Ok(None),
                Scan::Budget { resume } => {
                    from = resume;
                    Wait::Turn
                }
                Scan::NeedPage(key) => match self.want_page(slot, key) {
                    Ok(loaded) => {
                        loaded.map_err(Unread::Failed)?;
                        continue;
                    }
                    Err(wait) => wait,
                },
            };
            walk.replace(Walk::Next(filters, from));
            return Err(Unread::Wait(wait));
        }
    }

    /// The last sequence of every subject that matches one of the filters, ascending, as of the
    /// sequence that comes with them.
    pub(super) fn last_of_each(
        &mut self,
        slot: usize,
        filters: &[String],
        r: &Request,
    ) -> Result<(Vec<u64>, u64), Unread> {
        let mut each = match r.walk.take() {
            Walk::Each(each) => each,
            _ => Box::new(Each {
                upto: self.cells[slot].index.last_seq(),
                filter: 0,
                cursor: SubjectCursor::new(),
                exact: BTreeSet::new(),
                inexact: Vec::new(),
            }),
        };
        let mut budget = VISITS;
        let wait = loop {
            if !self.each_subject(slot, filters, &mut each, &mut budget) {
                break Wait::Turn;
            }
            let Some(&id) = each.inexact.last() else {
                return Ok((each.exact.into_iter().collect(), each.upto));
            };
            match self.cells[slot].index.last_of(id, &mut budget) {
                Resolved::Found(seq) => each.note(seq),
                Resolved::None => {}
                Resolved::Budget => break Wait::Turn,
                Resolved::NeedPage(key) => match self.want_page(slot, key) {
                    Ok(loaded) => {
                        loaded.map_err(Unread::Failed)?;
                        continue;
                    }
                    Err(wait) => break wait,
                },
            }
            each.inexact.pop();
        };
        r.walk.replace(Walk::Each(each));
        Err(Unread::Wait(wait))
    }

    /// Walks over the subjects. True when it is through.
    fn each_subject(
        &self,
        slot: usize,
        filters: &[String],
        each: &mut Each,
        budget: &mut u32,
    ) -> bool {
        let subjects = self.cells[slot].index.subjects();
        while let Some(filter) = filters.get(each.filter) {
            let mut cursor = std::mem::take(&mut each.cursor);
            let filter = filter.as_bytes();
            let through = subjects.for_each_match(filter, &mut cursor, budget, |id, entry| {
                if entry.last_is_exact() {
                    each.note(entry.last);
                } else {
                    each.inexact.push(id);
                }
            });
            if !through {
                each.cursor = cursor;
                return false;
            }
            each.filter += 1;
        }
        true
    }
}
