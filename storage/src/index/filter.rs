//! Filters over subjects, with the verdict on each subject id remembered.

use super::SubjectId;
use super::subjects::SubjectTable;

fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> {
    subject.split(|&b| b == b'.')
}

/// True if any token is `*` or `>`.
pub(super) fn has_wildcards(subject: &[u8]) -> bool {
    tokens(subject).any(|t| t == b"*" || t == b">")
}

/// True if the literal `subject` matches `filter`.
pub(super) fn matches(filter: &[u8], subject: &[u8]) -> bool {
    let mut f = tokens(filter);
    let mut s = tokens(subject);
    loop {
        match (f.next(), s.next()) {
            (Some(b">"), Some(_)) => return true,
            (Some(b"*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Literal filters of one set whose subjects' bounds are looked up at each walk; with more, walks
/// are not bounded.
const BOUNDED_MAX: usize = 16;

/// Several filters; a message matches when one of them matches its subject.
///
/// Belongs to one stream's index: the verdicts are by its subject ids. Not part of any stored
/// state.
#[derive(Debug, Clone, Default)]
pub struct FilterSet {
    filters: Vec<Box<[u8]>>,
    all: bool,
    literal: bool,
    /// Two bits a subject id: known, matches.
    verdicts: Vec<u64>,
    /// How many reuses of ids these verdicts know of.
    reuses_seen: u64,
}

impl FilterSet {
    /// A set of valid filters. No filter at all, or `>`, matches everything.
    pub fn new<F: AsRef<[u8]>>(filters: impl IntoIterator<Item = F>) -> FilterSet {
        let filters: Vec<Box<[u8]>> = filters.into_iter().map(|f| f.as_ref().into()).collect();
        FilterSet {
            all: filters.is_empty() || filters.iter().any(|f| f.as_ref() == b">"),
            literal: !filters.is_empty() && filters.iter().all(|f| !has_wildcards(f)),
            filters,
            verdicts: Vec::new(),
            reuses_seen: 0,
        }
    }

    /// The set that matches everything.
    pub fn all() -> FilterSet {
        FilterSet { all: true, ..FilterSet::default() }
    }

    /// True if everything matches.
    pub fn matches_all(&self) -> bool {
        self.all
    }

    /// The filters it was made of.
    pub fn filters(&self) -> &[Box<[u8]>] {
        &self.filters
    }

    /// True if no filter has a wildcard (and there is one).
    pub(super) fn is_literal(&self) -> bool {
        self.literal && !self.all
    }

    /// Forgets what was said about ids that changed their subject. Call before
    /// [`FilterSet::matches_id`].
    pub fn sync(&mut self, table: &SubjectTable) {
        if self.all {
            return;
        }
        match table.reuses_since(self.reuses_seen) {
            None => self.verdicts.clear(),
            Some(ids) => {
                for id in ids {
                    if let Some(word) = self.verdicts.get_mut(id as usize / 32) {
                        *word &= !(3 << (id % 32 * 2));
                    }
                }
            }
        }
        self.reuses_seen = table.reuses();
    }

    /// True if the subject of `id` matches. The set must be in step with the table.
    #[inline]
    pub fn matches_id(&mut self, table: &SubjectTable, id: SubjectId) -> bool {
        if self.all {
            return true;
        }
        let (word, shift) = (id.0 as usize / 32, id.0 % 32 * 2);
        match self.verdicts.get(word).map_or(0, |w| w >> shift & 3) {
            0 => self.decide(table, id, word, shift),
            verdict => verdict == 3,
        }
    }

    #[cold]
    fn decide(&mut self, table: &SubjectTable, id: SubjectId, word: usize, shift: u32) -> bool {
        let Some(entry) = table.get(id) else { return false };
        let matched = self.filters.iter().any(|f| matches(f, entry.name()));
        if self.verdicts.len() <= word {
            self.verdicts.resize(word + 1, 0);
        }
        self.verdicts[word] |= if matched { 3 } else { 1 } << shift;
        matched
    }

    /// The sequences outside of which nothing can match, where that is cheap to know: of a few
    /// literal filters.
    pub(super) fn bounds(&self, table: &SubjectTable) -> Option<(u64, u64)> {
        if !self.is_literal() || self.filters.len() > BOUNDED_MAX {
            return None;
        }
        let mut bounds = (u64::MAX, 0);
        for filter in &self.filters {
            if let Some(entry) = table.lookup(filter).and_then(|id| table.get(id)) {
                bounds = (bounds.0.min(entry.first), bounds.1.max(entry.last));
            }
        }
        Some(bounds)
    }
}
