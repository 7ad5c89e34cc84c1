//! Requests that look at many subjects or sequences. They do it in short steps: what was seen is
//! kept with the request, which is run again in a later turn.

use std::cell::RefCell;
use std::collections::BTreeMap;

use corelane_storage::index::{
    FilterSet, LastJob, LastStep, PageKey, Resolved, Scan, StreamIndex, SubjectCursor, SubjectId,
};
use roaring::RoaringTreemap;

use crate::consumer::StartPosition;
use crate::shard::Shard;
use crate::shard::api::requests::{Request, Wait};
use crate::shard::streams::read::Unread;

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

/// The last messages of subjects: where a last-per-subject consumer begins.
///
/// The messages up to the one that was last when the walk began are taken by subject; all behind it
/// are delivered in any case. So a subject that gets a message meanwhile may be delivered with the
/// message before it, or without, as if that had come before or after the request.
#[derive(Clone, Debug)]
pub struct Each {
    filters: FilterSet,
    /// Which of the filters is walked, and how far.
    filter: usize,
    cursor: SubjectCursor,
    /// Subjects whose last message is still to be looked for.
    inexact: Vec<SubjectId>,
    /// The stream's first and last sequence when the walk began.
    first: u64,
    upto: u64,
    found: RoaringTreemap,
}

/// What became of one step over subjects.
enum Stepped {
    All,
    NeedPage(PageKey),
    Budget,
}

impl Each {
    fn new(filters: &[String], index: &StreamIndex) -> Each {
        Each {
            filters: FilterSet::new(filters.iter().map(String::as_bytes)),
            filter: 0,
            cursor: SubjectCursor::new(),
            inexact: Vec::new(),
            first: index.first_seq(),
            upto: index.last_seq(),
            found: RoaringTreemap::new(),
        }
    }

    fn step(&mut self, index: &mut StreamIndex, budget: &mut u32) -> Stepped {
        loop {
            if let Some(stop) = self.resolve(index, budget) {
                return stop;
            }
            let Some(filter) = self.filters.filters().get(self.filter) else {
                return Stepped::All;
            };
            let Each { cursor, inexact, found, upto, .. } = self;
            let walked = index.subjects().for_each_match(filter, cursor, budget, |id, entry| {
                if !entry.last_is_exact() {
                    inexact.push(id);
                } else if entry.last <= *upto {
                    found.insert(entry.last);
                }
            });
            if walked {
                self.filter += 1;
                self.cursor = SubjectCursor::new();
            } else if self.inexact.is_empty() {
                return Stepped::Budget;
            }
        }
    }

    /// Looks for the last messages of subjects that do not know theirs.
    fn resolve(&mut self, index: &mut StreamIndex, budget: &mut u32) -> Option<Stepped> {
        while let Some(&id) = self.inexact.last() {
            // The id may have been given to another subject meanwhile.
            self.filters.sync(index.subjects());
            if self.filters.matches_id(index.subjects(), id) {
                match index.last_of(id, budget) {
                    Resolved::Found(seq) if seq <= self.upto => {
                        self.found.insert(seq);
                    }
                    Resolved::Found(_) | Resolved::None => {}
                    Resolved::NeedPage(key) => return Some(Stepped::NeedPage(key)),
                    Resolved::Budget => return Some(Stepped::Budget),
                }
            }
            self.inexact.pop();
        }
        None
    }

    fn position(self, last: u64) -> StartPosition {
        let nothing = self.found.is_empty() && last == self.upto;
        let next_seq = if nothing { last.max(self.first) } else { self.upto + 1 };
        StartPosition { next_seq, last_seq: self.upto, start_set: self.found }
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
        mut budget: u32,
    ) -> bool {
        let Details { cursor, total, subjects, .. } = self;
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
    pub(in crate::shard) fn last_of<F: AsRef<[u8]>>(
        &mut self,
        slot: usize,
        filters: &[F],
        walk: &RefCell<Walk>,
    ) -> Result<Option<u64>, Unread> {
        let mut job = match walk.take() {
            Walk::Last(job) => job,
            _ => LastJob::new(FilterSet::new(filters)),
        };
        let mut budget = self.options.job_visits;
        loop {
            let wait = match job.step(&mut self.streams[slot].index, &mut budget) {
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
    pub(in crate::shard) fn next_of(
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
        let mut budget = self.options.job_visits;
        loop {
            let wait = match self.streams[slot].index.next_matching(&mut filters, from, &mut budget)
            {
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

    /// Where a consumer begins that wants the last message of every subject.
    pub(in crate::shard) fn last_of_each(
        &mut self,
        slot: usize,
        filters: &[String],
        r: &Request,
    ) -> Result<StartPosition, Unread> {
        let index = &self.streams[slot].index;
        let mut each = match r.walk.take() {
            Walk::Each(each) => each,
            _ => Box::new(Each::new(filters, index)),
        };
        let mut budget = self.options.job_visits;
        let wait = loop {
            match each.step(&mut self.streams[slot].index, &mut budget) {
                Stepped::All => return Ok(each.position(self.streams[slot].index.last_seq())),
                Stepped::Budget => break Wait::Turn,
                Stepped::NeedPage(key) => match self.want_page(slot, key) {
                    Ok(loaded) => loaded.map_err(Unread::Failed)?,
                    Err(wait) => break wait,
                },
            }
        };
        r.walk.replace(Walk::Each(each));
        Err(Unread::Wait(wait))
    }
}
