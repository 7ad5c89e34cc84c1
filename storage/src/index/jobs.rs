//! Long questions in bounded steps: exact counts, the last match of a filter, and the ranges that a
//! purge removes.

use std::collections::BinaryHeap;

use super::scan::{Resolved, ScanEnd};
use super::subjects::SubjectTable;
use super::{FilterSet, PageKey, StreamIndex, SubjectCursor, SubjectId};

/// A count under way, see [`StreamIndex::start_count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CountId(u64);

/// The answer of [`StreamIndex::step_count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountStep {
    /// The live matches as of now; the count is over.
    Done(u64),
    /// Load the page and step on.
    NeedPage(PageKey),
    /// The budget is used up; step on.
    Budget,
}

#[derive(Debug)]
enum Method {
    /// Walks from `from` on; what lies below `at` is in `count`.
    Upwards { at: u64, count: u64 },
    /// Adds up subjects, then walks what lies below `from`, which is taken off.
    Totals(Totals),
}

#[derive(Debug, Default)]
struct Totals {
    /// The filter whose subjects are walked. A subject belongs to the first filter that matches it.
    filter: usize,
    cursor: SubjectCursor,
    total: u64,
    /// Sequences below it that match are in `below`.
    at: u64,
    below: u64,
}

impl Totals {
    fn has_visited(&self, filters: &FilterSet, name: &[u8]) -> bool {
        let owner = filters.filters().iter().position(|f| super::filter::matches(f, name));
        owner.is_some_and(|owner| {
            owner < self.filter || (owner == self.filter && self.cursor.has_passed(name))
        })
    }
}

#[derive(Debug)]
struct Count {
    id: CountId,
    filters: FilterSet,
    from: u64,
    method: Method,
}

/// The counts under way. They are kept in step with every append and removal, so that their answer
/// is exact whenever they end. Not part of the stored state.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    counts: Vec<Count>,
    next: u64,
}

impl Jobs {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// A message was appended to `id`, which is counted in the table already.
    #[cold]
    pub fn appended(&mut self, table: &SubjectTable, id: SubjectId) {
        for count in &mut self.counts {
            let Method::Totals(totals) = &mut count.method else { continue };
            count.filters.sync(table);
            if count.filters.matches_id(table, id)
                && totals.has_visited(&count.filters, table.name_of(id.0))
            {
                totals.total += 1;
            }
        }
    }

    /// The message `seq` of `id` is about to leave the table.
    #[cold]
    pub fn removed(&mut self, table: &SubjectTable, id: SubjectId, seq: u64) {
        for count in &mut self.counts {
            count.filters.sync(table);
            if !count.filters.matches_id(table, id) {
                continue;
            }
            match &mut count.method {
                Method::Upwards { at, count: counted } => {
                    *counted -= u64::from(seq >= count.from && seq < *at);
                }
                Method::Totals(totals) => {
                    totals.below -= u64::from(seq < count.from && seq < totals.at);
                    let visited = totals.has_visited(&count.filters, table.name_of(id.0));
                    totals.total -= u64::from(visited);
                }
            }
        }
    }
}

impl StreamIndex {
    /// Starts to count the live messages from `from` on that match. Step it until it is done;
    /// meanwhile every append and removal is taken into account.
    pub fn start_count(&mut self, filters: FilterSet, from: u64) -> CountId {
        let id = CountId(self.jobs.next);
        self.jobs.next += 1;
        let subjects =
            if filters.is_literal() { filters.filters().len() } else { self.subjects.len() };
        let upwards = (self.last_seq + 1).saturating_sub(from.max(self.first_seq));
        let below = from.min(self.last_seq + 1).saturating_sub(self.first_seq);
        let method = if upwards <= below.saturating_add(subjects as u64) {
            Method::Upwards { at: from, count: 0 }
        } else {
            Method::Totals(Totals::default())
        };
        self.jobs.counts.push(Count { id, filters, from, method });
        id
    }

    /// Goes on with a count.
    ///
    /// # Panics
    /// If there is no such count.
    pub fn step_count(&mut self, id: CountId, budget: &mut u32) -> CountStep {
        let at = self.jobs.counts.iter().position(|c| c.id == id).expect("a count under way");
        let mut count = self.jobs.counts.swap_remove(at);
        let step = self.advance(&mut count, budget);
        if !matches!(step, CountStep::Done(_)) {
            self.jobs.counts.push(count);
        }
        step
    }

    fn advance(&self, count: &mut Count, budget: &mut u32) -> CountStep {
        let Count { filters, from, method, .. } = count;
        if filters.matches_all() {
            return CountStep::Done(self.count_live(*from, u64::MAX));
        }
        match method {
            Method::Upwards { at, count } => {
                let start = *at;
                let end = self.visit(filters, start, u64::MAX, budget, |_, _| {
                    *count += 1;
                    true
                });
                unfinished(end, at).unwrap_or(CountStep::Done(*count))
            }
            Method::Totals(totals) => {
                if !self.add_totals(filters, totals, budget) {
                    return CountStep::Budget;
                }
                let Totals { at, below, total, .. } = totals;
                let start = *at;
                let end = self.visit(filters, start, *from, budget, |_, _| {
                    *below += 1;
                    true
                });
                unfinished(end, at).unwrap_or(CountStep::Done(*total - *below))
            }
        }
    }

    fn add_totals(&self, filters: &FilterSet, totals: &mut Totals, budget: &mut u32) -> bool {
        let all = filters.filters();
        while let Some(filter) = all.get(totals.filter) {
            let earlier = &all[..totals.filter];
            let total = &mut totals.total;
            let done = self.subjects.for_each_match(filter, &mut totals.cursor, budget, |_, e| {
                if !earlier.iter().any(|f| super::filter::matches(f, e.name())) {
                    *total += e.count;
                }
            });
            if !done {
                return false;
            }
            totals.filter += 1;
            totals.cursor = SubjectCursor::new();
        }
        true
    }
}

/// Remembers where a walk stopped; `None` if it came to its end.
fn unfinished(end: ScanEnd, at: &mut u64) -> Option<CountStep> {
    match end {
        ScanEnd::End => None,
        ScanEnd::NeedPage { key, resume } => {
            *at = resume.max(*at);
            Some(CountStep::NeedPage(key))
        }
        ScanEnd::Budget { resume } | ScanEnd::Full { resume } => {
            *at = resume.max(*at);
            Some(CountStep::Budget)
        }
    }
}

/// The answer of [`LastJob::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStep {
    /// The last match as of now; `None` if nothing matches.
    Done(Option<u64>),
    /// Load the page and step on.
    NeedPage(PageKey),
    /// The budget is used up; step on.
    Budget,
}

/// Finds the last live message that matches. One step with a fresh budget answers for literal
/// filters and wherever few subjects match; the answer is exact for the moment of the last step.
#[derive(Clone, Debug)]
pub struct LastJob {
    filters: FilterSet,
    filter: usize,
    cursor: SubjectCursor,
    best: Option<u64>,
    /// Subjects whose last message is this or an earlier one.
    unresolved: BinaryHeap<(u64, SubjectId)>,
    /// What came after it was not looked at: the last sequence when the walk over the subjects
    /// began.
    upto: Option<u64>,
}

impl LastJob {
    /// A job for these filters.
    pub fn new(filters: FilterSet) -> LastJob {
        LastJob {
            filters,
            filter: 0,
            cursor: SubjectCursor::new(),
            best: None,
            unresolved: BinaryHeap::new(),
            upto: None,
        }
    }

    /// Goes on.
    pub fn step(&mut self, index: &mut StreamIndex, budget: &mut u32) -> LastStep {
        if self.filters.matches_all() {
            return LastStep::Done(index.prev_live(u64::MAX));
        }
        loop {
            self.upto.get_or_insert(index.last_seq());
            if !self.walk(index, budget) {
                return LastStep::Budget;
            }
            if let Some(step) = self.resolve(index, budget) {
                return step;
            }
            if let Some(step) = self.look_at_newer(index, budget) {
                return step;
            }
            if self.best.is_none_or(|best| index.is_live(best)) {
                return LastStep::Done(self.best);
            }
            // What was best is gone: begin again.
            *self = LastJob::new(std::mem::take(&mut self.filters));
        }
    }

    fn walk(&mut self, index: &StreamIndex, budget: &mut u32) -> bool {
        while let Some(filter) = self.filters.filters().get(self.filter) {
            let (best, unresolved) = (&mut self.best, &mut self.unresolved);
            let table = index.subjects();
            let done = table.for_each_match(filter, &mut self.cursor, budget, |id, entry| {
                if best.is_some_and(|best| best >= entry.last) {
                    return;
                }
                if entry.last_is_exact() {
                    *best = Some(entry.last);
                } else {
                    unresolved.push((entry.last, id));
                }
            });
            if !done {
                return false;
            }
            self.filter += 1;
            self.cursor = SubjectCursor::new();
        }
        true
    }

    fn resolve(&mut self, index: &mut StreamIndex, budget: &mut u32) -> Option<LastStep> {
        while let Some(&(bound, id)) = self.unresolved.peek() {
            self.filters.sync(index.subjects());
            let matches = self.filters.matches_id(index.subjects(), id);
            if matches && self.best.is_none_or(|best| best < bound) {
                match index.last_of(id, budget) {
                    Resolved::Found(seq) => self.best = self.best.max(Some(seq)),
                    Resolved::None => {}
                    Resolved::NeedPage(key) => return Some(LastStep::NeedPage(key)),
                    Resolved::Budget => return Some(LastStep::Budget),
                }
            }
            self.unresolved.pop();
        }
        None
    }

    /// Messages that came since the walk began may be of subjects that it had passed.
    fn look_at_newer(&mut self, index: &StreamIndex, budget: &mut u32) -> Option<LastStep> {
        let from = self.upto.map_or(0, |upto| upto + 1);
        let best = &mut self.best;
        let end = index.visit(&mut self.filters, from, u64::MAX, budget, |seq, _| {
            *best = (*best).max(Some(seq));
            true
        });
        let (step, resume) = match end {
            ScanEnd::NeedPage { key, resume } => (LastStep::NeedPage(key), resume),
            ScanEnd::Budget { resume } | ScanEnd::Full { resume } => (LastStep::Budget, resume),
            ScanEnd::End => return None,
        };
        self.upto = Some(resume.saturating_sub(1));
        Some(step)
    }
}

/// The answer of [`NthJob::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NthStep {
    /// The sequence and the accounted bytes of the message, as of now; `None` if there are not so
    /// many.
    Done(Option<(u64, u32)>),
    /// Load the page and step on.
    NeedPage(PageKey),
    /// The budget is used up; step on.
    Budget,
}

/// Finds the `nth` live message of a subject, counted from the oldest (0). The answer is exact for
/// the moment of the last step.
#[derive(Clone, Debug)]
pub struct NthJob {
    filter: FilterSet,
    nth: usize,
    at: u64,
    /// Sequence and size of those that were found below `at`.
    found: Vec<(u64, u32)>,
}

impl NthJob {
    /// A job for the oldest message of this literal subject.
    pub fn new(subject: &[u8]) -> NthJob {
        NthJob { filter: FilterSet::new([subject]), nth: 0, at: 0, found: Vec::new() }
    }

    /// Which message is looked for.
    pub fn nth(&self) -> usize {
        self.nth
    }

    /// Looks for this one from now on; what was found counts.
    pub fn seek(&mut self, nth: usize) {
        self.nth = nth;
    }

    /// Goes on.
    pub fn step(&mut self, index: &StreamIndex, budget: &mut u32) -> NthStep {
        loop {
            // Some may have been removed since they were found.
            self.found.retain(|(seq, _)| index.is_live(*seq));
            if let Some(&found) = self.found.get(self.nth) {
                return NthStep::Done(Some(found));
            }
            let (found, nth) = (&mut self.found, self.nth);
            let end = index.visit(&mut self.filter, self.at, u64::MAX, budget, |seq, entry| {
                found.push((seq, entry.size));
                found.len() <= nth
            });
            match end {
                ScanEnd::Full { resume } => self.at = resume,
                ScanEnd::End => return NthStep::Done(None),
                ScanEnd::NeedPage { key, resume } => {
                    self.at = resume;
                    return NthStep::NeedPage(key);
                }
                ScanEnd::Budget { resume } => {
                    self.at = resume;
                    return NthStep::Budget;
                }
            }
        }
    }
}

/// The answer of [`PurgeJob::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgeStep {
    /// The matches of `from..to`, this many as of now, are to be removed (with
    /// [`StreamIndex::remove_matching`]).
    Remove {
        /// The first sequence.
        from: u64,
        /// One past the last sequence.
        to: u64,
        /// Matches in between.
        messages: u64,
    },
    /// Load the page and step on.
    NeedPage(PageKey),
    /// The budget is used up; step on.
    Budget,
    /// All ranges were told.
    Done,
}

/// Cuts a purge into ranges of bounded work, to be logged and applied one by one. What it tells
/// covers the messages that were there when it began (with `keep`: when its count of them was
/// done).
#[derive(Debug)]
pub struct PurgeJob {
    filters: FilterSet,
    below: Option<u64>,
    keep: u64,
    count: Option<CountId>,
    /// Matches that may still be removed; unknown until the count is done.
    remaining: Option<u64>,
    start: u64,
    at: u64,
    found: u64,
}

impl PurgeJob {
    /// Removes what matches, below sequence `below` if given, and keeps the last `keep` matches.
    pub fn new(filters: FilterSet, below: Option<u64>, keep: u64) -> PurgeJob {
        PurgeJob { filters, below, keep, count: None, remaining: None, start: 0, at: 0, found: 0 }
    }

    /// Goes on. A range has at most `max` matches.
    pub fn step(&mut self, index: &mut StreamIndex, max: u64, budget: &mut u32) -> PurgeStep {
        let remaining = match self.remaining {
            Some(remaining) => remaining,
            None => match self.begin(index, budget) {
                Ok(remaining) => remaining,
                Err(step) => return step,
            },
        };
        let wanted = remaining.min(max.max(1));
        let below = self.below.unwrap_or(0);
        if wanted == 0 || self.at >= below {
            return self.range(self.at);
        }
        let found = &mut self.found;
        let end = index.visit(&mut self.filters, self.at, below, budget, |_, _| {
            *found += 1;
            *found < wanted
        });
        match end {
            ScanEnd::Full { resume } => self.range(resume),
            ScanEnd::End => {
                let step = self.range(below);
                self.at = below;
                step
            }
            ScanEnd::Budget { resume } => {
                self.at = resume;
                if self.found > 0 { self.range(resume) } else { PurgeStep::Budget }
            }
            ScanEnd::NeedPage { key, resume } => {
                self.at = resume;
                if self.found > 0 { self.range(resume) } else { PurgeStep::NeedPage(key) }
            }
        }
    }

    fn begin(&mut self, index: &mut StreamIndex, budget: &mut u32) -> Result<u64, PurgeStep> {
        let remaining = if self.keep == 0 {
            u64::MAX
        } else {
            let filters = &self.filters;
            let id = *self.count.get_or_insert_with(|| index.start_count(filters.clone(), 0));
            match index.step_count(id, budget) {
                CountStep::Done(total) => total.saturating_sub(self.keep),
                CountStep::NeedPage(key) => return Err(PurgeStep::NeedPage(key)),
                CountStep::Budget => return Err(PurgeStep::Budget),
            }
        };
        self.count = None;
        let end = index.last_seq() + 1;
        self.below = Some(self.below.unwrap_or(end).min(end));
        self.start = index.first_seq();
        self.at = self.start;
        self.remaining = Some(remaining);
        Ok(remaining)
    }

    /// Tells the range up to `to`, if it has a match.
    fn range(&mut self, to: u64) -> PurgeStep {
        let messages = std::mem::take(&mut self.found);
        if messages == 0 {
            return PurgeStep::Done;
        }
        let from = self.start;
        self.remaining = self.remaining.map(|r| r - messages);
        self.start = to;
        self.at = to;
        PurgeStep::Remove { from, to, messages }
    }
}
