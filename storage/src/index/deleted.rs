//! Bitmaps of the sequences that are gone, one page per 65,536 of them.

use super::DELETED_PER_PAGE;
use super::checkpoint::PageState;
use std::collections::BTreeMap;

/// Words of a page.
pub(super) const WORDS: usize = (DELETED_PER_PAGE / 64) as usize;

/// One page of bits. A page whose bits are all set keeps no words.
#[derive(Debug, Default, Clone)]
pub(super) struct DeletedPage {
    /// Words up to the last that has a bit set. Empty when `dead` counts all.
    pub words: Vec<u64>,
    /// Bits set.
    pub dead: u32,
    pub state: PageState,
}

impl DeletedPage {
    pub fn is_all(&self) -> bool {
        u64::from(self.dead) == DELETED_PER_PAGE
    }

    pub fn word(&self, index: usize) -> u64 {
        if self.is_all() { u64::MAX } else { self.words.get(index).copied().unwrap_or(0) }
    }

    /// Sets the bits `from..to` of this page that are not set yet.
    pub fn set(&mut self, from: usize, to: usize) {
        if self.is_all() || from >= to {
            return;
        }
        let last = (to - 1) / 64;
        if self.words.len() <= last {
            self.words.resize(last + 1, 0);
        }
        for index in from / 64..=last {
            let mask = mask(from, to, index);
            self.dead += (mask & !self.words[index]).count_ones();
            self.words[index] |= mask;
        }
        if self.is_all() {
            self.words = Vec::new();
        }
    }

    /// Bits set in `from..to`.
    fn count(&self, from: usize, to: usize) -> u64 {
        if from == 0 && to == DELETED_PER_PAGE as usize {
            return u64::from(self.dead);
        }
        if from >= to {
            return 0;
        }
        (from / 64..=(to - 1) / 64)
            .map(|i| u64::from((self.word(i) & mask(from, to, i)).count_ones()))
            .sum()
    }
}

/// The bits of word `index` that lie in `from..to`.
pub(super) fn mask(from: usize, to: usize, index: usize) -> u64 {
    let low = from.saturating_sub(index * 64).min(64);
    let high = to.saturating_sub(index * 64).min(64);
    if low >= high {
        return 0;
    }
    let upto_high = if high == 64 { u64::MAX } else { (1 << high) - 1 };
    upto_high & !((1u64 << low) - 1)
}

/// The bitmaps of a stream: only pages in which something is gone.
#[derive(Debug, Default)]
pub(super) struct DeletedPages {
    pub pages: BTreeMap<u64, DeletedPage>,
}

impl DeletedPages {
    pub fn contains(&self, seq: u64) -> bool {
        let Some(page) = self.pages.get(&(seq / DELETED_PER_PAGE)) else { return false };
        let slot = (seq % DELETED_PER_PAGE) as usize;
        page.word(slot / 64) >> (slot % 64) & 1 == 1
    }

    /// How many of the 64 sequences around `seq` have no bit set.
    pub fn live_around(&self, seq: u64) -> u32 {
        let page = self.pages.get(&(seq / DELETED_PER_PAGE));
        let slot = (seq % DELETED_PER_PAGE) as usize;
        page.map_or(64, |page| page.word(slot / 64).count_zeros())
    }

    /// The lowest sequence in `from..=last` whose bit is not set.
    pub fn next_live(&self, from: u64, last: u64) -> Option<u64> {
        let mut seq = from;
        while seq <= last {
            let number = seq / DELETED_PER_PAGE;
            let page_end = (number + 1) * DELETED_PER_PAGE;
            let Some(page) = self.pages.get(&number) else { return Some(seq) };
            if page.is_all() {
                seq = page_end;
                continue;
            }
            let slot = (seq % DELETED_PER_PAGE) as usize;
            for index in slot / 64..WORDS {
                let live = !page.word(index) & mask(slot, DELETED_PER_PAGE as usize, index);
                if live != 0 {
                    let bit = u64::from(live.trailing_zeros());
                    let found = number * DELETED_PER_PAGE + index as u64 * 64 + bit;
                    return (found <= last).then_some(found);
                }
            }
            seq = page_end;
        }
        None
    }

    /// The highest sequence in `low..=from` whose bit is not set.
    pub fn prev_live(&self, from: u64, low: u64) -> Option<u64> {
        let mut seq = from;
        while seq >= low {
            let number = seq / DELETED_PER_PAGE;
            let base = number * DELETED_PER_PAGE;
            let Some(page) = self.pages.get(&number) else { return Some(seq) };
            let end = if page.is_all() { 0 } else { (seq - base) as usize + 1 };
            for index in (0..end.div_ceil(64)).rev() {
                let live = !page.word(index) & mask(0, end, index);
                if live != 0 {
                    let found = base + index as u64 * 64 + 63 - u64::from(live.leading_zeros());
                    return (found >= low).then_some(found);
                }
            }
            seq = base.checked_sub(1)?;
        }
        None
    }

    /// Sequences in `from..to` whose bit is not set.
    pub fn count_live(&self, from: u64, to: u64) -> u64 {
        if from >= to {
            return 0;
        }
        let (low, high) = (from / DELETED_PER_PAGE, (to - 1) / DELETED_PER_PAGE);
        let dead: u64 = self
            .pages
            .range(low..=high)
            .map(|(&number, page)| {
                let base = number * DELETED_PER_PAGE;
                let start = from.max(base) - base;
                let end = to.min(base + DELETED_PER_PAGE) - base;
                page.count(start as usize, end as usize)
            })
            .sum();
        to - from - dead
    }

    pub fn pop_below(&mut self, number: u64) -> Option<(u64, DeletedPage)> {
        let entry = self.pages.first_entry()?;
        if *entry.key() >= number {
            return None;
        }
        Some(entry.remove_entry())
    }

    pub fn resident_bytes(&self) -> usize {
        self.pages.values().map(|p| p.words.capacity() * 8 + 64).sum()
    }
}
