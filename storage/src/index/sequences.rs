//! Sequence pages: the dense entries of 4,096 sequences, the open one and the resident others.

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

/// Entries of one page from slot `start` on. Slots outside of it were never stored.
#[derive(Debug, Default)]
pub(super) struct SequencePage {
    pub start: u16,
    pub entries: Vec<Entry>,
    pub state: PageState,
    /// Looked at since the clock's hand passed.
    pub referenced: Cell<bool>,
}

impl SequencePage {
    pub fn get(&self, slot: usize) -> Option<&Entry> {
        self.entries.get(slot.checked_sub(self.start as usize)?)
    }

    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Entry> {
        self.entries.get_mut(slot.checked_sub(self.start as usize)?)
    }

    /// One past the last slot that holds an entry.
    pub fn end(&self) -> usize {
        self.start as usize + self.entries.len()
    }

    fn bytes(&self) -> usize {
        self.entries.capacity() * ENTRY_BYTES
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
