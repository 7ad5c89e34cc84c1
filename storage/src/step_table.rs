//! A hash table that grows in steps: no insertion pays for moving all that is there.
//!
//! When the table is full a larger one takes its place, and every insertion moves a few entries
//! over; until that is done, a lookup asks both.

use hashbrown::HashTable;

/// Buckets of the old table that one insertion empties. The new one has room for so many more
/// entries that the old one is empty long before it is full.
const STEP_BUCKETS: usize = 8;
/// A table this small grows at once.
const SMALL: usize = 1 << 12;

/// See the module. The hash of an entry is always given by the caller.
#[derive(Debug)]
pub struct StepTable<T> {
    table: HashTable<T>,
    /// What was not moved yet lies in the buckets below `left`.
    old: HashTable<T>,
    left: usize,
}

impl<T> Default for StepTable<T> {
    fn default() -> Self {
        StepTable::with_capacity(0)
    }
}

impl<T> StepTable<T> {
    /// A table with room for so many entries.
    pub fn with_capacity(capacity: usize) -> Self {
        StepTable { table: HashTable::with_capacity(capacity), old: HashTable::new(), left: 0 }
    }

    /// The entry with this hash that `eq` takes.
    #[inline]
    pub fn find(&self, hash: u64, mut eq: impl FnMut(&T) -> bool) -> Option<&T> {
        let found = self.table.find(hash, &mut eq);
        if found.is_none() && self.left > 0 { self.old.find(hash, eq) } else { found }
    }

    /// The entry with this hash that `eq` takes, to be changed; its hash must stay the same.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, mut eq: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let found = self.table.find_mut(hash, &mut eq);
        if found.is_none() && self.left > 0 { self.old.find_mut(hash, eq) } else { found }
    }

    /// Takes out the entry with this hash that `eq` takes.
    pub fn remove(&mut self, hash: u64, mut eq: impl FnMut(&T) -> bool) -> Option<T> {
        if let Ok(found) = self.table.find_entry(hash, &mut eq) {
            return Some(found.remove().0);
        }
        let found = self.old.find_entry(hash, eq).ok()?;
        Some(found.remove().0)
    }

    /// Adds an entry that is not there yet. `hasher` answers the hash of any entry.
    #[inline]
    pub fn insert_unique(&mut self, hash: u64, value: T, hasher: impl Fn(&T) -> u64) {
        if self.table.len() == self.table.capacity() && self.table.capacity() >= SMALL {
            self.replace(&hasher);
        }
        self.table.insert_unique(hash, value, &hasher);
        if self.left > 0 {
            self.step(STEP_BUCKETS, &hasher);
        }
    }

    /// Bytes held, spare room included.
    pub fn allocation_size(&self) -> usize {
        self.table.allocation_size() + self.old.allocation_size()
    }

    #[cold]
    fn replace(&mut self, hasher: &impl Fn(&T) -> u64) {
        self.step(self.left, hasher);
        // Full of entries, or of places where some were.
        let crowded = self.table.len() > self.table.num_buckets() / 2;
        let capacity = self.table.num_buckets() / 8 * if crowded { 14 } else { 7 };
        self.old = std::mem::replace(&mut self.table, HashTable::with_capacity(capacity));
        self.left = self.old.num_buckets();
    }

    #[cold]
    fn step(&mut self, buckets: usize, hasher: &impl Fn(&T) -> u64) {
        for _ in 0..buckets.min(self.left) {
            self.left -= 1;
            if let Ok(entry) = self.old.get_bucket_entry(self.left) {
                let value = entry.remove().0;
                self.table.insert_unique(hasher(&value), value, hasher);
            }
        }
        if self.left == 0 {
            self.old = HashTable::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::collections::BTreeSet;

    fn hash(n: &u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
    }

    fn insert(table: &mut StepTable<u64>, n: u64) -> usize {
        let hashed = Cell::new(0);
        table.insert_unique(hash(&n), n, |n| {
            hashed.set(hashed.get() + 1);
            hash(n)
        });
        hashed.get()
    }

    #[test]
    fn no_insertion_moves_more_than_a_few() {
        let mut table = StepTable::default();
        for n in 0..300_000 {
            let moved = insert(&mut table, n);
            assert!(moved <= STEP_BUCKETS || n < SMALL as u64 * 2, "{moved} were moved at {n}");
            if n % 1_009 == 0 {
                assert!((0..=n).step_by(97).all(|n| table.find(hash(&n), |&x| x == n).is_some()));
            }
        }
    }

    #[test]
    fn what_comes_and_goes_does_not_make_it_grow() {
        let mut table = StepTable::default();
        for n in 0..1_000_000u64 {
            let moved = insert(&mut table, n);
            assert!(moved <= STEP_BUCKETS || n < SMALL as u64 * 2, "{moved} were moved at {n}");
            if let Some(gone) = n.checked_sub(10_000) {
                assert_eq!(table.remove(hash(&gone), |&x| x == gone), Some(gone));
                assert_eq!(table.find(hash(&gone), |&x| x == gone), None);
            }
        }
        assert!(table.allocation_size() < 64 * 10_000, "{}", table.allocation_size());
    }

    #[test]
    fn it_holds_what_a_set_holds() {
        let (mut table, mut model) = (StepTable::default(), BTreeSet::new());
        let mut random = 1u64;
        for _ in 0..400_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let n = random >> 47;
            match random >> 20 & 3 {
                0 => {
                    let removed = table.remove(hash(&n), |&x| x == n);
                    assert_eq!(removed.is_some(), model.remove(&n));
                }
                1 => {
                    let found = table.find_mut(hash(&n), |&x| x == n).copied();
                    assert_eq!(found, model.contains(&n).then_some(n));
                }
                _ if model.insert(n) => {
                    insert(&mut table, n);
                }
                _ => assert_eq!(table.find(hash(&n), |&x| x == n), Some(&n)),
            }
        }
    }
}
