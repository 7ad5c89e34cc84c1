//! How far a request came that looks at many subjects or sequences.

use std::collections::BTreeMap;

use corelane_storage::index::{
    FilterSet, LastJob, PageKey, Resolved, StreamIndex, SubjectCursor, SubjectId,
};
use roaring::RoaringTreemap;

use crate::consumer::StartPosition;

/// Sequences that one step looks at to list the deleted ones.
pub const DELETED_VISITS: u64 = 16_384;

/// What a request has seen so far.
#[derive(Clone, Debug, Default)]
pub enum Search {
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

impl Search {
    /// Whether it holds more than a few bytes.
    pub fn is_kept(&self) -> bool {
        !matches!(self, Search::None | Search::Found(_))
    }
}

/// The last messages of subjects: where a last-per-subject consumer begins.
///
/// The messages up to the one that was last when the search began are taken by subject; all behind
/// it are delivered in any case. So a subject that gets a message meanwhile may be delivered with
/// the message before it, or without, as if that had come before or after the request.
#[derive(Clone, Debug)]
pub struct Each {
    pub filters: FilterSet,
    /// Which of the filters is searched, and how far.
    pub filter: usize,
    pub cursor: SubjectCursor,
    /// Subjects whose last message is still to be looked for.
    pub inexact: Vec<SubjectId>,
    /// The stream's first and last sequence when the search began.
    pub first: u64,
    pub upto: u64,
    pub found: RoaringTreemap,
}

/// What became of one step over subjects.
pub enum SearchStep {
    All,
    NeedPage(PageKey),
    Budget,
}

impl Each {
    pub fn new(filters: &[String], index: &StreamIndex) -> Each {
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

    pub fn step(&mut self, index: &mut StreamIndex, budget: &mut u32) -> SearchStep {
        loop {
            if let Some(stop) = self.resolve(index, budget) {
                return stop;
            }
            let Some(filter) = self.filters.filters().get(self.filter) else {
                return SearchStep::All;
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
                return SearchStep::Budget;
            }
        }
    }

    /// Looks for the last messages of subjects that do not know theirs.
    pub fn resolve(&mut self, index: &mut StreamIndex, budget: &mut u32) -> Option<SearchStep> {
        while let Some(&id) = self.inexact.last() {
            // The id may have been given to another subject meanwhile.
            self.filters.sync(index.subjects());
            if self.filters.matches_id(index.subjects(), id) {
                match index.last_of(id, budget) {
                    Resolved::Found(seq) if seq <= self.upto => {
                        self.found.insert(seq);
                    }
                    Resolved::Found(_) | Resolved::None => {}
                    Resolved::NeedPage(key) => return Some(SearchStep::NeedPage(key)),
                    Resolved::Budget => return Some(SearchStep::Budget),
                }
            }
            self.inexact.pop();
        }
        None
    }

    pub fn position(self, last: u64) -> StartPosition {
        let nothing = self.found.is_empty() && last == self.upto;
        let next_seq = if nothing { last.max(self.first) } else { self.upto + 1 };
        StartPosition { next_seq, last_seq: self.upto, start_set: self.found }
    }
}

/// The details of a stream's state.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// The next sequence to look at; 0 before the first.
    pub next: u64,
    /// Deleted sequences, ascending.
    pub deleted: Vec<u64>,
    pub cursor: SubjectCursor,
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
