//! Walking the live entries that match filters, forwards and backwards, within a budget.

use super::sequences::slot_of;
use super::{
    DELETED_PER_PAGE, Entry, FilterSet, PageKey, RemovedMessage, SEQUENCES_PER_PAGE, StreamIndex,
    SubjectId,
};

/// Matches that a range removal gathers before it removes them.
const REMOVAL_BATCH: usize = 64;

/// The answer of [`StreamIndex::next_matching`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The next match.
    Found(u64, Entry),
    /// There is none.
    End,
    /// Load the page and ask again.
    NeedPage(PageKey),
    /// The budget is used up; nothing below `resume` matches.
    Budget {
        /// Where to go on.
        resume: u64,
    },
}

/// Why a walk ended, and where the next one goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanEnd {
    /// As many as were asked for were found.
    Full {
        /// Where to go on.
        resume: u64,
    },
    /// No match is left.
    End,
    /// Load the page and go on.
    NeedPage {
        /// What to load.
        key: PageKey,
        /// Where to go on.
        resume: u64,
    },
    /// The budget is used up.
    Budget {
        /// Where to go on.
        resume: u64,
    },
}

/// The answer of [`StreamIndex::remove_matching`]. To go on, call it with the range from `resume`
/// on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRemoval {
    /// No match is left in the range.
    Done,
    /// Load the page and go on at `resume`.
    NeedPage {
        /// What to load.
        key: PageKey,
        /// Nothing is left below.
        resume: u64,
    },
    /// The budget is used up.
    Budget {
        /// Nothing is left below.
        resume: u64,
    },
}

/// The answer of [`StreamIndex::last_of`] and [`StreamIndex::first_of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// The sequence.
    Found(u64),
    /// The subject has no message.
    None,
    /// Load the page and ask again.
    NeedPage(PageKey),
    /// The budget is used up; ask again, what was walked is remembered.
    Budget,
}

/// 64 neighbouring sequences at most: the live ones from `seq` on and below `high`, as bits over
/// `base`.
struct Block {
    base: u64,
    live: u64,
    /// One past the sequences that this block speaks of.
    end: u64,
}

impl StreamIndex {
    fn block(&self, seq: u64, high: u64) -> Block {
        let page = self.deleted.pages.get(&(seq / DELETED_PER_PAGE));
        let base = seq & !63;
        if page.is_some_and(|p| p.is_all()) {
            let end = (seq / DELETED_PER_PAGE + 1) * DELETED_PER_PAGE;
            return Block { base, live: 0, end: end.min(high) };
        }
        let index = (base % DELETED_PER_PAGE) as usize / 64;
        let dead = page.map_or(0, |p| p.word(index));
        let end = high.min(base + 64);
        let mask = super::deleted::mask((seq - base) as usize, (end - base) as usize, 0);
        Block { base, live: !dead & mask, end }
    }

    /// Walks the live entries of `from..to` that match, until `visit` answers false. Every entry
    /// and every run of dead sequences looked at takes one from `budget`.
    pub(super) fn visit(
        &self,
        filter: &mut FilterSet,
        from: u64,
        to: u64,
        budget: &mut u32,
        mut visit: impl FnMut(u64, &Entry) -> bool,
    ) -> ScanEnd {
        filter.sync(&self.subjects);
        let mut seq = from.max(self.first_seq);
        let mut high = to.min(self.last_seq + 1);
        if let Some((first, last)) = filter.bounds(&self.subjects) {
            seq = seq.max(first);
            high = high.min(last + 1);
        }
        while seq < high {
            if *budget == 0 {
                return ScanEnd::Budget { resume: seq };
            }
            let mut block = self.block(seq, high);
            if block.live == 0 {
                *budget -= 1;
                seq = block.end;
                continue;
            }
            let number = block.base / SEQUENCES_PER_PAGE;
            let Some(page) = self.sequences.get(number) else {
                let resume = block.base + u64::from(block.live.trailing_zeros());
                return ScanEnd::NeedPage { key: PageKey::of_sequence(resume), resume };
            };
            while block.live != 0 {
                let at = block.base + u64::from(block.live.trailing_zeros());
                if *budget == 0 {
                    return ScanEnd::Budget { resume: at };
                }
                *budget -= 1;
                block.live &= block.live - 1;
                let Some(entry) = page.get(slot_of(at)) else { continue };
                if filter.matches_id(&self.subjects, entry.subject) && !visit(at, entry) {
                    return ScanEnd::Full { resume: at + 1 };
                }
            }
            seq = block.end;
        }
        ScanEnd::End
    }

    /// Walks the live entries from `from` down to `low` until `visit` answers false; `resume` is
    /// then where to go on downwards (inclusive).
    pub(super) fn visit_back(
        &self,
        from: u64,
        low: u64,
        budget: &mut u32,
        mut visit: impl FnMut(u64, &Entry) -> bool,
    ) -> ScanEnd {
        let low = low.max(self.first_seq);
        let mut seq = from.min(self.last_seq);
        while seq >= low {
            let Some(at) = self.deleted.prev_live(seq, low) else { break };
            if *budget == 0 {
                return ScanEnd::Budget { resume: at };
            }
            let skipped = u32::try_from((seq - at) / 64).unwrap_or(u32::MAX);
            *budget = budget.saturating_sub(skipped.saturating_add(1));
            let Some(page) = self.sequences.get(at / SEQUENCES_PER_PAGE) else {
                return ScanEnd::NeedPage { key: PageKey::of_sequence(at), resume: at };
            };
            if page.get(slot_of(at)).is_some_and(|entry| !visit(at, entry)) {
                return ScanEnd::Full { resume: at.saturating_sub(1) };
            }
            let Some(below) = at.checked_sub(1) else { break };
            seq = below;
        }
        ScanEnd::End
    }

    /// The first live message at or above `from` that matches.
    pub fn next_matching(&self, filter: &mut FilterSet, from: u64, budget: &mut u32) -> Scan {
        let mut found = None;
        let end = self.visit(filter, from, u64::MAX, budget, |seq, entry| {
            found = Some((seq, *entry));
            false
        });
        match (found, end) {
            (Some((seq, entry)), _) => Scan::Found(seq, entry),
            (None, ScanEnd::NeedPage { key, .. }) => Scan::NeedPage(key),
            (None, ScanEnd::Budget { resume } | ScanEnd::Full { resume }) => {
                Scan::Budget { resume }
            }
            (None, ScanEnd::End) => Scan::End,
        }
    }

    /// Appends the live messages of `from..to` that match to `out`, at most `max` of them.
    pub fn scan_into(
        &self,
        filter: &mut FilterSet,
        range: std::ops::Range<u64>,
        max: usize,
        budget: &mut u32,
        out: &mut Vec<(u64, Entry)>,
    ) -> ScanEnd {
        if max == 0 {
            return ScanEnd::Full { resume: range.start };
        }
        let full = out.len() + max;
        self.visit(filter, range.start, range.end, budget, |seq, entry| {
            out.push((seq, *entry));
            out.len() < full
        })
    }

    /// Removes the live messages of `range` that match, telling each.
    pub fn remove_matching(
        &mut self,
        filter: &mut FilterSet,
        range: std::ops::Range<u64>,
        budget: &mut u32,
        mut removed: impl FnMut(RemovedMessage),
    ) -> RangeRemoval {
        let mut from = range.start;
        loop {
            let mut batch = [(0, Entry::default()); REMOVAL_BATCH];
            let mut len = 0;
            let end = self.visit(filter, from, range.end, budget, |seq, entry| {
                batch[len] = (seq, *entry);
                len += 1;
                len < REMOVAL_BATCH
            });
            for (seq, entry) in &batch[..len] {
                removed(self.finish_removal(RemovedMessage {
                    seq: *seq,
                    subject: entry.subject,
                    size: entry.size,
                    segment: entry.position.segment,
                }));
            }
            match end {
                ScanEnd::Full { resume } => from = resume,
                ScanEnd::End => return RangeRemoval::Done,
                ScanEnd::NeedPage { key, resume } => return RangeRemoval::NeedPage { key, resume },
                ScanEnd::Budget { resume } => return RangeRemoval::Budget { resume },
            }
        }
    }

    /// The last message of a subject. Walks backwards only when the last of several messages was
    /// removed.
    pub fn last_of(&mut self, subject: SubjectId, budget: &mut u32) -> Resolved {
        let Some(entry) = self.subjects.get(subject) else { return Resolved::None };
        let (first, last) = (entry.first, entry.last);
        if entry.last_is_exact() {
            return Resolved::Found(last);
        }
        let mut found = None;
        let end = self.visit_back(last, first, budget, |seq, entry| {
            if entry.subject == subject {
                found = Some((seq, *entry));
            }
            found.is_none()
        });
        let bound = match (found, end) {
            (Some((seq, _)), _) => seq,
            (None, ScanEnd::NeedPage { resume, .. } | ScanEnd::Budget { resume }) => resume,
            (None, _) => last,
        };
        if let Some(entry) = self.subjects.change(subject, &mut self.checkpoint) {
            entry.last = bound;
            if let Some((_, found)) = found {
                entry.last_size = found.size;
                entry.last_segment = found.position.segment;
                if entry.count == 1 {
                    entry.first = bound;
                }
            }
        }
        answer(found.map(|(seq, _)| seq), end)
    }

    /// The first message of a subject. Walks forwards from the lower bound unless the history is
    /// known.
    pub fn first_of(&mut self, subject: SubjectId, budget: &mut u32) -> Resolved {
        let Some(entry) = self.subjects.get(subject) else { return Resolved::None };
        let (first, last) = (entry.first, entry.last);
        if entry.count == 1 && entry.last_is_exact() {
            return Resolved::Found(last);
        }
        if let ([oldest, ..], true) = self.subjects.history(subject) {
            return Resolved::Found(oldest.seq);
        }
        if let Some((of, kept)) = self.subjects.overwritten
            && of == subject
            && self.subjects.get(subject).is_some_and(|e| e.count == 2)
            && self.is_live(kept.seq)
        {
            return Resolved::Found(kept.seq);
        }
        let mut found = None;
        let end = self.visit(&mut FilterSet::all(), first, last + 1, budget, |seq, entry| {
            if entry.subject == subject {
                found = Some(seq);
            }
            found.is_none()
        });
        let bound = match (found, end) {
            (Some(seq), _) => seq,
            (None, ScanEnd::NeedPage { resume, .. } | ScanEnd::Budget { resume }) => resume,
            (None, _) => first,
        };
        if bound != first
            && let Some(entry) = self.subjects.change(subject, &mut self.checkpoint)
        {
            entry.first = bound;
        }
        answer(found, end)
    }
}

fn answer(found: Option<u64>, end: ScanEnd) -> Resolved {
    match (found, end) {
        (Some(seq), _) => Resolved::Found(seq),
        (None, ScanEnd::NeedPage { key, .. }) => Resolved::NeedPage(key),
        (None, ScanEnd::Budget { .. }) => Resolved::Budget,
        // A subject in use has a message within its bounds.
        (None, _) => Resolved::None,
    }
}
