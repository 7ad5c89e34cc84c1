//! The message ids of the duplicate window.
//!
//! Ids are kept as 128-bit hashes in the order of their sequences, in one queue: what expires
//! leaves at the front, what is admitted enters at the back, and what is dropped leaves at the
//! back. A hash table finds an entry's place in the queue. For checkpoints the queue is cut into
//! pages of [`PAGE_ENTRIES`]: entries never move, so only pages at the ends change.

use std::collections::VecDeque;
use std::ops::Range;

use corelane_storage::step_table::StepTable;

use crate::types::WallTime;

/// Entries of a page.
pub const PAGE_ENTRIES: u64 = 4_096;
/// Expired entries that one call removes at most, so that no turn pays for a whole window.
pub const EXPIRE_BATCH: usize = 256;
/// Type and version in front of an encoded page.
const PAGE_HEADER: [u8; 8] = *b"dedp\x01\0\0\0";

#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Entry {
    hash: u128,
    seq: u64,
    at: i64,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Page {
    /// The place of the first entry.
    start: u64,
    entries: Vec<Entry>,
}

/// Message ids and the sequences they were stored as.
#[derive(Debug, Default)]
pub struct DedupeTable {
    queue: Queue,
    /// Places of the entries, found by hash.
    places: StepTable<u64>,
}

/// Entries by their places, counted since the stream was created. Nothing moves when it grows.
#[derive(Debug, Default)]
struct Queue {
    /// The place of the first entry, and the place after the last.
    start: u64,
    end: u64,
    /// One for each page that has entries: the place of its first one, and all behind that.
    pages: VecDeque<(u64, Vec<Entry>)>,
}

impl Queue {
    fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn get(&self, place: u64) -> Option<&Entry> {
        let (first, _) = self.pages.front().filter(|_| place >= self.start)?;
        let page = (place / PAGE_ENTRIES).checked_sub(first / PAGE_ENTRIES)?;
        let (base, entries) = self.pages.get(page as usize)?;
        entries.get((place - base) as usize)
    }

    fn hash_at(&self, place: u64) -> u128 {
        self.get(place).map_or(0, |entry| entry.hash)
    }

    fn front(&self) -> Option<&Entry> {
        self.get(self.start)
    }

    fn back(&self) -> Option<&Entry> {
        self.pages.back().and_then(|(_, entries)| entries.last())
    }

    fn push_back(&mut self, entry: Entry) -> u64 {
        let place = self.end;
        if self.pages.is_empty() || place.is_multiple_of(PAGE_ENTRIES) {
            self.pages.push_back((place, Vec::new()));
        }
        if let Some((_, entries)) = self.pages.back_mut() {
            entries.push(entry);
        }
        self.end += 1;
        place
    }

    fn pop_front(&mut self) {
        self.start += 1;
        if self.is_empty() || self.start.is_multiple_of(PAGE_ENTRIES) {
            self.pages.pop_front();
        }
    }

    fn pop_back(&mut self) {
        self.end -= 1;
        let Some((_, entries)) = self.pages.back_mut() else { return };
        entries.pop();
        if entries.is_empty() || self.start == self.end {
            self.pages.pop_back();
        }
    }
}

/// The hash of a message id.
pub fn hash_id(id: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(id)
}

impl DedupeTable {
    /// Entries, expired ones that are still there included.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// The sequence of the oldest entry; the highest of all where there is none.
    #[inline]
    pub fn first_seq(&self) -> u64 {
        self.queue.front().map_or(u64::MAX, |entry| entry.seq)
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The sequence under which a message with this id was stored last, and its time.
    pub fn find(&self, hash: u128) -> Option<(u64, WallTime)> {
        let queue = &self.queue;
        let place = self.places.find(hash as u64, |&place| queue.hash_at(place) == hash)?;
        let found = queue.get(*place)?;
        Some((found.seq, WallTime(found.at)))
    }

    /// Adds an id. A previous entry of the same id, expired by now, is forgotten.
    pub fn insert(&mut self, hash: u128, seq: u64, at: WallTime) {
        let place = self.queue.push_back(Entry { hash, seq, at: at.0 });
        let queue = &self.queue;
        let old = self.places.find_mut(hash as u64, |&p| queue.hash_at(p) == hash);
        if let Some(old) = old {
            *old = place;
            return;
        }
        self.places.insert_unique(hash as u64, place, |&place| queue.hash_at(place) as u64);
    }

    /// Removes up to [`EXPIRE_BATCH`] of the oldest entries as long as `is_over` says so of their
    /// sequences and times. True if there may be more.
    pub fn expire(&mut self, is_over: impl Fn(u64, WallTime) -> bool) -> bool {
        for _ in 0..EXPIRE_BATCH {
            match self.queue.front() {
                Some(first) if is_over(first.seq, WallTime(first.at)) => {
                    let (hash, place) = (first.hash, self.queue.start);
                    self.forget(hash, place);
                    self.queue.pop_front();
                }
                _ => return false,
            }
        }
        true
    }

    /// Removes the entries of sequences above `seq`: they were never committed.
    pub fn drop_after(&mut self, seq: u64) {
        while let Some(last) = self.queue.back().filter(|last| last.seq > seq) {
            let (hash, place) = (last.hash, self.queue.end - 1);
            self.forget(hash, place);
            self.queue.pop_back();
        }
    }

    /// A digest of the ids of sequences up to `committed` that are younger than `window`.
    pub fn digest(&self, committed: u64, now: WallTime, window: i64) -> u64 {
        let mut bytes = Vec::new();
        let known = |e: &&Entry| e.seq <= committed && now.0.saturating_sub(e.at) < window;
        let all = (self.queue.start..self.queue.end).filter_map(|place| self.queue.get(place));
        for entry in all.filter(known) {
            bytes.extend_from_slice(&entry.hash.to_le_bytes());
            bytes.extend_from_slice(&entry.seq.to_le_bytes());
            bytes.extend_from_slice(&entry.at.to_le_bytes());
        }
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }

    fn forget(&mut self, hash: u128, place: u64) {
        self.places.remove(hash as u64, |&p| p == place);
    }

    /// The pages that hold entries.
    pub fn pages(&self) -> Range<u64> {
        self.queue.start / PAGE_ENTRIES..self.queue.end.div_ceil(PAGE_ENTRIES)
    }

    /// True if the page is full, and all of it has sequences up to `committed`: it does not change
    /// any more, except that its entries expire.
    pub fn page_is_complete(&self, page: u64, committed: u64) -> bool {
        let last = (page + 1) * PAGE_ENTRIES - 1;
        self.queue.get(last).is_some_and(|entry| entry.seq <= committed)
    }

    /// Appends the page's entries with sequences up to `committed`, encoded. False if it has none.
    pub fn encode_page(&self, page: u64, committed: u64, out: &mut Vec<u8>) -> bool {
        let start = (page * PAGE_ENTRIES).max(self.queue.start);
        let end = ((page + 1) * PAGE_ENTRIES).min(self.queue.end);
        let there = (start..end).filter_map(|place| self.queue.get(place).copied());
        let entries: Vec<Entry> = there.filter(|entry| entry.seq <= committed).collect();
        if entries.is_empty() {
            return false;
        }
        let Ok(bytes) = rkyv::to_bytes::<rkyv::rancor::Error>(&Page { start, entries }) else {
            return false;
        };
        out.extend_from_slice(&PAGE_HEADER);
        out.extend_from_slice(&bytes);
        true
    }

    /// Adds an encoded page. Pages are given in their order, to an empty table first. False for
    /// what is none, or does not follow.
    pub fn restore_page(&mut self, bytes: &[u8]) -> bool {
        let Some(body) = bytes.strip_prefix(&PAGE_HEADER) else { return false };
        let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(body.len());
        aligned.extend_from_slice(body);
        let Ok(page) = rkyv::from_bytes::<Page, rkyv::rancor::Error>(&aligned) else {
            return false;
        };
        if self.queue.is_empty() {
            (self.queue.start, self.queue.end) = (page.start, page.start);
        } else if page.start != self.queue.end {
            return false;
        }
        for entry in page.entries {
            self.insert(entry.hash, entry.seq, WallTime(entry.at));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: i64 = 1_000;

    /// Removes what is older than the window at this time.
    fn expire(table: &mut DedupeTable, now: i64) -> bool {
        table.expire(|_, at| now - at.0 >= WINDOW)
    }

    fn find(table: &DedupeTable, hash: u128) -> Option<u64> {
        table.find(hash).map(|(seq, _)| seq)
    }

    #[test]
    fn finds_what_was_not_removed() {
        let mut table = DedupeTable::default();
        table.insert(1, 10, WallTime(0));
        table.insert(2, 11, WallTime(500));
        for (now, left) in [(999, [Some(10), Some(11)]), (1_000, [None, Some(11)])] {
            assert!(!expire(&mut table, now));
            assert_eq!([find(&table, 1), find(&table, 2)], left, "at {now}");
        }
        assert_eq!((table.find(2), table.find(3)), (Some((11, WallTime(500))), None));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn an_expired_id_may_come_again() {
        let mut table = DedupeTable::default();
        table.insert(1, 10, WallTime(0));
        table.insert(1, 20, WallTime(5_000));
        assert!(!expire(&mut table, 5_000));
        assert_eq!(find(&table, 1), Some(20));
        table.drop_after(19);
        assert_eq!(find(&table, 1), None);
        assert!(table.is_empty());
    }

    #[test]
    fn expiry_is_bounded_by_call() {
        let mut table = DedupeTable::default();
        for i in 0..1_000 {
            table.insert(i, i as u64 + 1, WallTime(0));
        }
        let mut calls = 1;
        while expire(&mut table, WINDOW) {
            calls += 1;
        }
        assert_eq!(calls, 1_000 / EXPIRE_BATCH + 1);
        assert!(table.is_empty());
    }

    #[test]
    fn pages_round_trip() {
        let mut table = DedupeTable::default();
        let count = 2 * PAGE_ENTRIES + 100;
        for i in 0..count {
            table.insert(hash_id(&i.to_le_bytes()), i + 1, WallTime(i as i64));
        }
        assert!(!expire(&mut table, WINDOW + 9));
        assert_eq!(table.pages(), 0..3);
        let committed = count - 20;
        let mut restored = DedupeTable::default();
        for page in table.pages() {
            let mut bytes = Vec::new();
            assert!(table.encode_page(page, committed, &mut bytes));
            assert!(restored.restore_page(&bytes));
        }
        for i in 0..count {
            let want = (10..committed).contains(&i).then_some(i + 1);
            let got = find(&restored, hash_id(&i.to_le_bytes()));
            assert_eq!(got, want, "{i}");
        }
        assert_eq!(restored.pages(), 0..3);
    }

    /// The bytes of a page are what later versions must read.
    #[test]
    fn golden_page() {
        let mut table = DedupeTable::default();
        table.insert(0x0102, 7, WallTime(9));
        let mut bytes = Vec::new();
        assert!(table.encode_page(0, 7, &mut bytes));
        let mut want = b"dedp\x01\0\0\0".to_vec();
        want.extend_from_slice(&[2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        want.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        want.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0]);
        want.extend_from_slice(&(-40i32).to_le_bytes());
        want.extend_from_slice(&1u32.to_le_bytes());
        assert_eq!(bytes, want);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let mut table = DedupeTable::default();
        for bytes in [&b""[..], b"dedp\x02\0\0\0", b"dedp\x01\0\0\0", b"dedp\x01\0\0\0abcdefgh"] {
            assert!(!table.restore_page(bytes));
        }
        assert!(table.is_empty());
    }
}
