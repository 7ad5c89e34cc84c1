//! Sequence pages: the entries of 4,096 sequences, the open page and the resident others.
//!
//! A page is dense (the slots of its entries follow one another) until most of its messages are
//! gone; then it may become sparse (each entry with its slot). A page in which nothing lives is
//! dropped.

use super::checkpoint::PageState;
use super::{Entry, SEQUENCES_PER_PAGE};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Bytes of one entry, in memory and stored.
pub(super) const ENTRY_BYTES: usize = 16;

/// The slot of `seq` within its page.
pub(super) fn slot_of(seq: u64) -> usize {
    (seq % SEQUENCES_PER_PAGE) as usize
}

/// A page of which at most one entry in so many lives may become sparse.
pub(super) const SPARSE_SHARE: usize = 4;

/// Entries of one page. A slot that has none was never stored, or its message is gone.
#[derive(Debug, Default)]
pub(super) struct SequencePage {
    /// The slot of the first entry of a dense page.
    pub start: u16,
    pub entries: Vec<Entry>,
    /// The slots of a sparse page's entries, ascending; empty in a dense one.
    pub slots: Vec<u16>,
    pub state: PageState,
    /// Looked at since the clock's hand passed.
    pub referenced: Cell<bool>,
}

impl SequencePage {
    pub fn get(&self, slot: usize) -> Option<&Entry> {
        self.entries.get(self.place(slot)?)
    }

    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Entry> {
        let place = self.place(slot)?;
        self.entries.get_mut(place)
    }

    #[inline]
    fn place(&self, slot: usize) -> Option<usize> {
        if self.slots.is_empty() {
            return slot.checked_sub(self.start as usize);
        }
        self.slots.binary_search(&(slot as u16)).ok()
    }

    /// One past the last slot that holds an entry.
    pub fn end(&self) -> usize {
        match self.slots.last() {
            Some(&last) => last as usize + 1,
            None => self.start as usize + self.entries.len(),
        }
    }

    /// True if so few of its entries live that it should let the others go.
    pub fn is_mostly_dead(&self, live: u64) -> bool {
        live as usize * SPARSE_SHARE <= self.entries.len()
    }

    /// Entries of this slot and those that follow, the dead ones included.
    pub fn entries_from(&self, slot: usize) -> usize {
        match self.slots.is_empty() {
            true => self.end().saturating_sub(slot.max(self.start as usize)),
            false => self.slots.iter().filter(|&&at| at as usize >= slot).count(),
        }
    }

    /// Keeps the entries whose slot `lives`, each with its slot.
    pub fn compact(&mut self, lives: impl Fn(usize) -> bool) {
        let mut slots = Vec::new();
        let mut entries = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let slot = self.slots.get(at).map_or(self.start as usize + at, |&slot| slot.into());
            if lives(slot) {
                slots.push(slot as u16);
                entries.push(*entry);
            }
        }
        slots.shrink_to_fit();
        entries.shrink_to_fit();
        (self.slots, self.entries) = (slots, entries);
    }

    fn bytes(&self) -> usize {
        self.entries.capacity() * ENTRY_BYTES + self.slots.capacity() * 2
    }
}

/// All resident sequence pages of a stream.
#[derive(Debug, Default)]
pub(super) struct SequencePages {
    /// Number of the open page; it is resident, all other pages are below it.
    pub tail_number: u64,
    /// The open page.
    pub tail: SequencePage,
    full: BTreeMap<u64, SequencePage>,
    full_bytes: usize,
    hand: u64,
}

impl SequencePages {
    pub fn new(next_seq: u64) -> Self {
        let mut pages = SequencePages::default();
        pages.open(next_seq);
        pages
    }

    /// Makes the page of `seq` the open one, empty before it. The former open page must have been
    /// moved away.
    pub fn open(&mut self, seq: u64) {
        self.tail_number = seq / SEQUENCES_PER_PAGE;
        self.tail = SequencePage { start: slot_of(seq) as u16, ..SequencePage::default() };
    }

    /// Moves the open page among the others.
    pub fn close_tail(&mut self) {
        let page = std::mem::take(&mut self.tail);
        if !page.entries.is_empty() {
            self.insert(self.tail_number, page);
        }
    }

    /// Lets a resident page other than the open one change.
    pub fn change<T>(
        &mut self,
        number: u64,
        change: impl FnOnce(&mut SequencePage) -> T,
    ) -> Option<T> {
        let page = self.full.get_mut(&number)?;
        self.full_bytes -= page.bytes();
        let changed = change(page);
        self.full_bytes += page.bytes();
        Some(changed)
    }

    /// Takes out a resident page other than the open one.
    pub fn take(&mut self, number: u64) -> Option<SequencePage> {
        let page = self.full.remove(&number)?;
        self.full_bytes -= page.bytes();
        Some(page)
    }

    pub fn insert(&mut self, number: u64, page: SequencePage) {
        self.full_bytes += page.bytes();
        if let Some(old) = self.full.insert(number, page) {
            self.full_bytes -= old.bytes();
        }
    }

    pub fn get(&self, number: u64) -> Option<&SequencePage> {
        if number == self.tail_number {
            return Some(&self.tail);
        }
        let page = self.full.get(&number)?;
        page.referenced.set(true);
        Some(page)
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut SequencePage> {
        if number == self.tail_number {
            return Some(&mut self.tail);
        }
        let page = self.full.get_mut(&number)?;
        page.referenced.set(true);
        Some(page)
    }

    pub fn state_mut(&mut self, number: u64) -> Option<&mut PageState> {
        if number == self.tail_number {
            return Some(&mut self.tail.state);
        }
        self.full.get_mut(&number).map(|page| &mut page.state)
    }

    pub fn is_resident(&self, number: u64) -> bool {
        number == self.tail_number || self.full.contains_key(&number)
    }

    /// The resident pages other than the open one, which do not count as looked at.
    pub fn closed(&self) -> impl Iterator<Item = (u64, &SequencePage)> + '_ {
        self.full.iter().map(|(&number, page)| (number, page))
    }

    /// Takes out the lowest page below `number`, the open one excepted.
    pub fn pop_below(&mut self, number: u64) -> Option<(u64, SequencePage)> {
        let entry = self.full.first_entry()?;
        if *entry.key() >= number {
            return None;
        }
        let (number, page) = entry.remove_entry();
        self.full_bytes -= page.bytes();
        Some((number, page))
    }

    pub fn resident_bytes(&self) -> usize {
        self.full_bytes + self.tail.bytes()
    }

    /// Drops clean pages until `want` bytes are free, passing each page at most twice and visiting
    /// at most `visits`. The open page stays. `keep` (the front) goes only when nothing else is
    /// left. Answers how many bytes went.
    pub fn evict(&mut self, want: usize, keep: u64, visits: usize) -> usize {
        let mut freed = 0;
        let rounds = (self.full.len() * 2).min(visits);
        for _ in 0..rounds {
            if freed >= want || self.full.is_empty() {
                break;
            }
            let ahead = self.full.range((Bound::Included(self.hand), Bound::Unbounded)).next();
            let Some((&number, page)) = ahead.or_else(|| self.full.first_key_value()) else {
                break;
            };
            self.hand = number + 1;
            if number == keep || !page.state.is_clean() || page.referenced.replace(false) {
                continue;
            }
            freed += self.remove(number);
        }
        if freed < want && self.full.get(&keep).is_some_and(|p| p.state.is_clean()) {
            freed += self.remove(keep);
        }
        freed
    }

    fn remove(&mut self, number: u64) -> usize {
        let bytes = self.full.remove(&number).map_or(0, |page| page.bytes());
        self.full_bytes -= bytes;
        bytes
    }
}
