//! The message ids of the duplicate window.
//!
//! Ids are kept as 128-bit hashes in the order of their sequences, in one queue: what expires
//! leaves at the front, what is admitted enters at the back, and what is dropped leaves at the
//! back. A hash table finds an entry's place in the queue. For checkpoints the queue is cut into
//! pages of [`PAGE_ENTRIES`]: entries never move, so only pages at the ends change.
//!
//! Which committed ids are known is a function of the records alone, by [`DedupeTable::commit`]
//! live and in replay. An id is forgotten when the newest committed one has a time that is later by
//! the window, the longest gap between neighbours since then left out: of a gap the records do not
//! tell whether nothing was published or the wall clock was set forwards, and then nothing may be
//! forgotten. Where there are no long gaps, the window's ids are kept, and where there are, at most
//! two windows' (one on either side of a gap).
//! What is forgotten leaves memory in batches of [`EXPIRE_BATCH`].

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
    /// Entries before this place are committed.
    committed: u64,
    /// Entries before this place are forgotten.
    known: u64,
    /// What is before this place was forgotten when the window was shorter.
    cut: u64,
    /// Gaps between committed neighbours: the place of the later one, and by how much it is later.
    /// Of those that are at least as long as all behind them.
    gaps: VecDeque<(u64, i64)>,
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
}

/// The hash of a message id.
pub fn hash_id(id: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(id)
}

impl DedupeTable {
    /// Entries, forgotten ones that are still there included.
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
        let found = queue.get(*place).filter(|_| *place >= self.known)?;
        Some((found.seq, WallTime(found.at)))
    }

    /// Adds an id, not committed yet. A previous entry of the same id is not found any more.
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

    /// The entries of sequences up to `seq` are committed. Forgets what leaves the window by that.
    pub fn commit(&mut self, seq: u64, window: i64) {
        if self.commit_to(seq) {
            self.forget(window);
        }
    }

    /// The window is another one from here on.
    pub fn change_window(&mut self, old: i64, new: i64) {
        self.forget(old);
        if new > old {
            self.cut = self.known;
        }
    }

    /// False if there are no such entries.
    fn commit_to(&mut self, seq: u64) -> bool {
        let before = self.committed;
        while let Some(entry) = self.queue.get(self.committed).filter(|entry| entry.seq <= seq) {
            let earlier = self.committed.checked_sub(1).and_then(|place| self.queue.get(place));
            let gap = earlier.map_or(0, |earlier| entry.at.saturating_sub(earlier.at));
            while self.gaps.back().is_some_and(|&(_, shorter)| shorter < gap) {
                self.gaps.pop_back();
            }
            if gap > 0 {
                self.gaps.push_back((self.committed, gap));
            }
            self.committed += 1;
        }
        self.committed > before
    }

    /// Whether a committed entry has left the window.
    fn is_over(&self, place: u64, window: i64) -> bool {
        let newest = self.committed.checked_sub(1).and_then(|newest| self.queue.get(newest));
        let Some((entry, newest)) = self.queue.get(place).zip(newest) else { return false };
        let behind = self.gaps.partition_point(|&(later, _)| later <= place);
        let longest = self.gaps.get(behind).map_or(0, |&(_, gap)| gap);
        newest.at.saturating_sub(entry.at).saturating_sub(longest) >= window
    }

    /// The first place of a committed entry that is within the window: the earlier an entry is, the
    /// earlier it leaves.
    fn first_within(&self, window: i64) -> u64 {
        let is_over = |place| place < self.committed && self.is_over(place, window);
        if !is_over(self.known) {
            return self.known;
        }
        let (mut over, mut step) = (self.known, 1);
        while is_over(over + step) {
            over += step;
            step *= 2;
        }
        let mut within = (over + step).min(self.committed);
        while within - over > 1 {
            let middle = over + (within - over) / 2;
            if is_over(middle) {
                over = middle;
            } else {
                within = middle;
            }
        }
        within
    }

    /// Forgets what has left the window, and removes up to [`EXPIRE_BATCH`] of what is forgotten.
    fn forget(&mut self, window: i64) {
        self.known = self.first_within(window);
        while self.gaps.front().is_some_and(|&(later, _)| later <= self.known) {
            self.gaps.pop_front();
        }
        for _ in 0..EXPIRE_BATCH {
            let place = self.queue.start;
            if place >= self.known {
                return;
            }
            self.lose_place(self.queue.hash_at(place), place);
            self.queue.pop_front();
        }
    }

    /// A digest of the committed ids that are known.
    pub fn digest(&self, window: i64) -> u64 {
        let mut bytes = Vec::new();
        let known = self.first_within(window)..self.committed;
        for entry in known.filter_map(|place| self.queue.get(place)) {
            bytes.extend_from_slice(&entry.hash.to_le_bytes());
            bytes.extend_from_slice(&entry.seq.to_le_bytes());
            bytes.extend_from_slice(&entry.at.to_le_bytes());
        }
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }

    fn lose_place(&mut self, hash: u128, place: u64) {
        self.places.remove(hash as u64, |&p| p == place);
    }

    /// The pages that hold entries that are not forgotten.
    pub fn pages(&self) -> Range<u64> {
        self.known / PAGE_ENTRIES..self.queue.end.div_ceil(PAGE_ENTRIES)
    }

    /// True if the page is full, and all of it has sequences up to `committed`: it does not change
    /// any more, except that its entries are forgotten as time passes.
    pub fn page_is_complete(&self, page: u64, committed: u64) -> bool {
        let last = (page + 1) * PAGE_ENTRIES - 1;
        let whole = self.queue.get(last).is_some_and(|entry| entry.seq <= committed);
        whole && self.cut <= page * PAGE_ENTRIES
    }

    /// Appends the page's entries with sequences up to `committed`, encoded. False if it has none.
    pub fn encode_page(&self, page: u64, committed: u64, out: &mut Vec<u8>) -> bool {
        let start = (page * PAGE_ENTRIES).max(self.queue.start).max(self.cut);
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
            (self.committed, self.known) = (page.start, page.start);
        } else if page.start != self.queue.end {
            return false;
        }
        for entry in page.entries {
            self.insert(entry.hash, entry.seq, WallTime(entry.at));
        }
        self.commit_to(u64::MAX);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: i64 = 1_000;

    /// Ids 1, 2, … that were stored at these times, one behind the other.
    fn stored(times: &[i64]) -> DedupeTable {
        let mut table = DedupeTable::default();
        for (id, &at) in (1..).zip(times) {
            table.insert(u128::from(id), id, WallTime(at));
            table.commit(id, WINDOW);
        }
        table
    }

    fn find(table: &DedupeTable, hash: u128) -> Option<u64> {
        table.find(hash).map(|(seq, _)| seq)
    }

    #[test]
    fn ids_are_forgotten_by_the_times_of_the_records() {
        const HOUR: i64 = 3_600_000;
        // Times, and the first id that is known.
        let cases: [(&[i64], u64); 9] = [
            (&[0, 500], 1),
            // The longest gap is left out: the clock may have been set.
            (&[0, 500, 999, 1_000, 1_499], 1),
            (&[0, 500, 999, 1_000, 1_500], 2),
            (&[0, HOUR], 1),
            (&[0, 1, HOUR, HOUR + 1, HOUR + 998], 1),
            (&[0, 1, HOUR, HOUR + 1, HOUR + 999], 2),
            (&[0, 1, HOUR, HOUR + 1, 2 * HOUR], 3),
            // It was set back: the times stay what they are.
            (&[0, 1, 2, 2, 2, 2, 2], 1),
            (&[0, 900, 900, 1_000, 1_800, 1_801, 1_900], 2),
        ];
        for (times, first) in cases {
            let table = stored(times);
            for id in 1..=times.len() as u64 {
                let want = (id >= first).then_some(id);
                assert_eq!(find(&table, u128::from(id)), want, "{id} of {times:?}");
            }
        }
    }

    #[test]
    fn an_id_may_come_again() {
        let mut table = stored(&[0, 600]);
        table.insert(1, 20, WallTime(5_000));
        assert_eq!((find(&table, 1), find(&table, 2)), (Some(20), Some(2)));
    }

    /// However committing is cut into pieces, what is known is the same.
    #[test]
    fn what_is_known_follows_from_the_records() {
        let mut random = 7u64;
        let mut below = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % n
        };
        let (mut table, mut at, mut window) = (DedupeTable::default(), 0, WINDOW);
        let (mut records, mut committed) = (Vec::new(), 0);
        let mut replayed = DedupeTable::default();
        for step in 0..20_000u64 {
            at += [0, 1, 5, 100, 4_000][below(5) as usize];
            let seq = records.len() as u64 + 1;
            table.insert(u128::from(step), seq, WallTime(at));
            records.push((u128::from(step), at));
            if below(3) == 0 {
                let upto = committed + below(records.len() as u64 - committed + 1);
                for seq in committed + 1..=upto {
                    let (hash, at) = records[seq as usize - 1];
                    replayed.insert(hash, seq, WallTime(at));
                    replayed.commit(seq, window);
                }
                table.commit(upto, window);
                committed = upto;
            }
            if below(100) == 0 {
                let old = std::mem::replace(&mut window, 1 + below(3_000) as i64);
                table.change_window(old, window);
                replayed.change_window(old, window);
            }
            if below(50) == 0 {
                assert_eq!(table.digest(window), replayed.digest(window), "step {step}");
                replayed = restored(&table, committed, window);
                assert_eq!(table.digest(window), replayed.digest(window), "step {step}");
            }
        }
    }

    /// What a checkpoint leaves of a table.
    fn restored(table: &DedupeTable, committed: u64, window: i64) -> DedupeTable {
        let mut restored = DedupeTable::default();
        for page in table.pages() {
            let mut bytes = Vec::new();
            if table.encode_page(page, committed, &mut bytes) {
                assert!(restored.restore_page(&bytes));
            }
        }
        restored.commit(committed, window);
        restored
    }

    #[test]
    fn removal_is_bounded_by_call() {
        let mut table = stored(&[0; 1_000]);
        table.insert(u128::MAX, 2_000, WallTime(5_000));
        table.commit(2_000, WINDOW);
        assert_eq!(table.len(), 1_001);
        for n in 1..=4 {
            table.insert(u128::MAX - n, 2_000 + n as u64, WallTime(10_000));
            table.commit(2_000 + n as u64, WINDOW);
            assert_eq!(find(&table, 1), None);
            let left = 1_000usize.saturating_sub(n as usize * EXPIRE_BATCH);
            assert_eq!(table.len(), left + 1 + n as usize);
        }
    }

    #[test]
    fn pages_round_trip() {
        let mut table = DedupeTable::default();
        let count = 2 * PAGE_ENTRIES + 100;
        for i in 0..count {
            table.insert(hash_id(&i.to_le_bytes()), i + 1, WallTime(i as i64));
        }
        let committed = count - 20;
        let window = committed as i64 - 11;
        table.commit(committed, window);
        assert_eq!(table.pages(), 0..3);
        let restored = restored(&table, committed, window);
        for i in 0..count {
            let want = (10..committed).contains(&i).then_some(i + 1);
            let got = find(&restored, hash_id(&i.to_le_bytes()));
            assert_eq!(got, want, "{i}");
        }
        assert_eq!(restored.pages(), 0..3);
    }

    /// What a shorter window forgot does not come back with a longer one, nor from a page that was
    /// written before.
    #[test]
    fn a_longer_window_brings_nothing_back() {
        let mut table = DedupeTable::default();
        let last = PAGE_ENTRIES + 10;
        for seq in 1..=last {
            table.insert(u128::from(seq), seq, WallTime(seq as i64));
            table.commit(seq, i64::MAX);
        }
        assert!(table.page_is_complete(0, last));
        table.change_window(i64::MAX, 100);
        table.change_window(100, i64::MAX);
        assert!(!table.page_is_complete(0, last));
        let again = restored(&table, last, i64::MAX);
        for table in [&table, &again] {
            assert_eq!(find(table, u128::from(last - 101)), None);
            assert_eq!(find(table, u128::from(last - 100)), Some(last - 100));
        }
        assert_eq!(table.digest(i64::MAX), again.digest(i64::MAX));
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
