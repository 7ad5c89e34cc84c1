//! A first-in first-out queue of small plain values that are written where they lie.
//!
//! Purpose: queues that every message passes. `VecDeque::push_back` takes a value that was put
//! together elsewhere; copying it in right after reads with wide loads what was just written in
//! pieces, and such a load waits until the processor's store buffer is empty, behind the copy of
//! the message before it. `push_slot` hands out the place instead, to be filled field by field.
//!
//! Invariants: its capacity is a power of two and does not fall; a slot that is handed out holds
//! some earlier value, so every field of it must be set.

use std::ops::{Index, IndexMut};

/// Slots of a queue that was pushed to for the first time.
const FIRST_SLOTS: usize = 16;

/// The queue.
#[derive(Debug, Default)]
pub struct Fifo<T> {
    slots: Vec<T>,
    head: usize,
    len: usize,
}

impl<T: Copy + Default> Fifo<T> {
    /// How many values it holds.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if it holds none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a value at the back and hands out its slot, in which the caller sets every field.
    #[inline(always)]
    pub fn push_slot(&mut self) -> &mut T {
        if self.len == self.slots.len() {
            self.grow();
        }
        self.len += 1;
        let at = self.slot_of(self.len - 1);
        &mut self.slots[at]
    }

    /// Adds a value at the back.
    pub fn push(&mut self, value: T) {
        *self.push_slot() = value;
    }

    /// The oldest value.
    #[inline]
    pub fn front(&self) -> Option<&T> {
        self.get(0)
    }

    /// The newest value.
    #[inline]
    pub fn back(&self) -> Option<&T> {
        self.get(self.len.checked_sub(1)?)
    }

    /// The value with so many in front of it.
    #[inline]
    pub fn get(&self, nth: usize) -> Option<&T> {
        (nth < self.len).then(|| &self.slots[self.slot_of(nth)])
    }

    /// Drops the oldest value.
    #[inline]
    pub fn pop_front(&mut self) {
        if self.len > 0 {
            self.head = self.slot_of(1);
            self.len -= 1;
        }
    }

    /// Drops the newest value.
    pub fn pop_back(&mut self) {
        self.len = self.len.saturating_sub(1);
    }

    /// Drops all.
    pub fn clear(&mut self) {
        (self.head, self.len) = (0, 0);
    }

    /// How many values at the front satisfy `before`, which no value behind the first that does not
    /// satisfies either.
    pub fn partition_point(&self, before: impl Fn(&T) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            match before(&self[middle]) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    #[inline]
    fn slot_of(&self, nth: usize) -> usize {
        (self.head + nth) & self.slots.len().wrapping_sub(1)
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        self.slots.rotate_left(self.head);
        self.head = 0;
        let capacity = (2 * self.slots.len()).max(FIRST_SLOTS);
        self.slots.resize(capacity, T::default());
    }
}

impl<T: Copy + Default> Index<usize> for Fifo<T> {
    type Output = T;

    fn index(&self, nth: usize) -> &T {
        assert!(nth < self.len, "value {nth} of {}", self.len);
        &self.slots[self.slot_of(nth)]
    }
}

impl<T: Copy + Default> IndexMut<usize> for Fifo<T> {
    fn index_mut(&mut self, nth: usize) -> &mut T {
        assert!(nth < self.len, "value {nth} of {}", self.len);
        let at = self.slot_of(nth);
        &mut self.slots[at]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn it_does_what_a_deque_does() {
        let (mut fifo, mut deque) = (Fifo::default(), VecDeque::new());
        let mut random = 7u64;
        for value in 0..20_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match (random >> 33) % 8 {
                0..4 => {
                    fifo.push(value);
                    deque.push_back(value);
                }
                4..7 => {
                    fifo.pop_front();
                    deque.pop_front();
                }
                _ => {
                    fifo.pop_back();
                    deque.pop_back();
                }
            }
            if random >> 54 == 0 {
                fifo.clear();
                deque.clear();
            }
            assert_eq!((fifo.len(), fifo.is_empty()), (deque.len(), deque.is_empty()));
            assert_eq!((fifo.front(), fifo.back()), (deque.front(), deque.back()));
            let nth = (random >> 40) as usize % 32;
            assert_eq!(fifo.get(nth), deque.get(nth));
            let limit = value.saturating_sub(9);
            let (ours, theirs) =
                (fifo.partition_point(|v| *v < limit), deque.partition_point(|v| *v < limit));
            assert_eq!(ours, theirs);
        }
        fifo.push(1);
        let last = fifo.len() - 1;
        fifo[last] = 5;
        assert_eq!(fifo[last], 5);
    }
}
