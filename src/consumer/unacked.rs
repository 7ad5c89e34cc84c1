//! Messages that were delivered and not yet acknowledged, with their timers and the redelivery
//! queue.
//!
//! Deliveries come in ascending stream sequence, so a ring of slots is sorted by itself: an
//! acknowledgement is a binary search and marks its slot dead, and dead slots leave at the front or
//! when they outnumber the living. Timers are a heap whose stale entries are skipped, and dropped
//! when they outnumber the living. A message that is queued for redelivery holds the ticket of its
//! place in the queue: a place it has left does not count when it is queued again, so that one
//! message that is refused again and again cannot keep the others from their turn. Nothing
//! allocates in steady state. Timers and queue are those of a consumer that delivers: the
//! replicated set has neither.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Slack before dead slots or stale timers are swept, so that small sets are left alone.
const SWEEP_SLACK: usize = 64;

/// Messages that may be moved to the redelivery queue in one call, so that a turn stays short.
pub const EXPIRE_MAX: usize = 4_096;

/// What becomes of a slot: it waits for its time, is dead, or holds the ticket of a place in the
/// redelivery queue. One number, so that a slot has 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(u32);

impl State {
    const WAITING: State = State(0);
    const DEAD: State = State(u32::MAX);

    fn is_queued(self) -> bool {
        self != State::WAITING && self != State::DEAD
    }
}

const _: () = assert!(size_of::<Slot>() == 32);

/// One unacknowledged message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Stream sequence.
    pub seq: u64,
    /// Consumer sequence of the first delivery.
    pub consumer_seq: u64,
    /// When it is to be delivered again.
    pub due: i64,
    /// Deliveries so far.
    pub deliveries: u32,
    state: State,
}

impl Slot {
    /// True if it waits for its time: it is not queued for redelivery.
    pub fn is_waiting(&self) -> bool {
        self.state == State::WAITING
    }
}

/// The set, ordered by stream sequence.
#[derive(Clone, Debug, Default)]
pub struct Unacked {
    slots: VecDeque<Slot>,
    live: usize,
    redelivered: usize,
    timers: BinaryHeap<Reverse<(i64, u64)>>,
    /// Places of the redelivery queue: stream sequence and ticket.
    ready: VecDeque<(u64, u32)>,
    queued: usize,
    /// The ticket of the last place. It wraps: stale places are swept long before.
    ticket: u32,
    /// Whether there are timers: the replicated set has none.
    timed: bool,
}

impl Unacked {
    /// From now on messages are delivered again when their time comes.
    pub fn start_timers(&mut self) {
        self.timed = true;
        self.rebuild_timers();
    }

    /// Messages in the set.
    pub fn len(&self) -> usize {
        self.live
    }

    /// True if nothing waits for an acknowledgement.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Messages that were delivered more than once.
    pub fn redelivered(&self) -> usize {
        self.redelivered
    }

    /// Messages in the redelivery queue.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// The oldest message.
    pub fn first(&self) -> Option<&Slot> {
        // Dead slots never stay at the front.
        self.slots.front()
    }

    /// The youngest message.
    pub fn last(&self) -> Option<&Slot> {
        self.slots.back()
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|s| s.state != State::DEAD)
    }

    fn index(&self, seq: u64) -> Option<usize> {
        let i = self.slots.binary_search_by_key(&seq, |s| s.seq).ok()?;
        (self.slots[i].state != State::DEAD).then_some(i)
    }

    /// The message, if it is in the set.
    pub fn get(&self, seq: u64) -> Option<&Slot> {
        self.index(seq).map(|i| &self.slots[i])
    }

    /// True if the message is in the redelivery queue.
    pub fn is_queued(&self, seq: u64) -> bool {
        self.get(seq).is_some_and(|s| s.state.is_queued())
    }

    /// Adds a message that was just delivered. One that is there already keeps its consumer
    /// sequence.
    pub fn insert(&mut self, seq: u64, consumer_seq: u64, due: i64, deliveries: u32) {
        let slot = Slot { seq, consumer_seq, due, deliveries, state: State::WAITING };
        if self.slots.back().is_none_or(|last| last.seq < seq) {
            self.slots.push_back(slot);
        } else {
            match self.slots.binary_search_by_key(&seq, |s| s.seq) {
                Ok(i) if self.slots[i].state == State::DEAD => self.slots[i] = slot,
                Ok(_) => return,
                Err(i) => self.slots.insert(i, slot),
            }
        }
        self.live += 1;
        self.redelivered += usize::from(deliveries > 1);
        self.arm(due, seq);
    }

    /// Notes another delivery of a message in the set.
    pub fn redeliver(&mut self, seq: u64, due: i64) {
        let Some(i) = self.index(seq) else { return };
        let slot = &mut self.slots[i];
        self.queued -= usize::from(slot.state.is_queued());
        slot.state = State::WAITING;
        slot.deliveries = slot.deliveries.saturating_add(1);
        slot.due = due;
        self.redelivered += usize::from(slot.deliveries == 2);
        self.arm(due, seq);
    }

    /// Sets when a message is delivered again, and takes it off the redelivery queue.
    pub fn set_due(&mut self, seq: u64, due: i64) {
        let Some(i) = self.index(seq) else { return };
        let slot = &mut self.slots[i];
        self.queued -= usize::from(slot.state.is_queued());
        slot.state = State::WAITING;
        slot.due = due;
        self.arm(due, seq);
    }

    /// Appends a message to the redelivery queue, unless it is there.
    pub fn queue(&mut self, seq: u64) {
        let Some(i) = self.index(seq) else { return };
        self.enqueue(i);
        if self.ready.len() > 2 * self.queued + SWEEP_SLACK {
            self.sweep_ready();
        }
    }

    /// Gives the message in slot `i` the last place of the redelivery queue, unless it has one.
    fn enqueue(&mut self, i: usize) {
        let slot = &mut self.slots[i];
        if slot.state == State::WAITING {
            self.ticket = self.ticket % (u32::MAX - 1) + 1;
            slot.state = State(self.ticket);
            self.ready.push_back((slot.seq, self.ticket));
            self.queued += 1;
        }
    }

    /// Removes a message.
    pub fn remove(&mut self, seq: u64) -> Option<Slot> {
        let i = self.index(seq)?;
        let slot = self.slots[i];
        self.slots[i].state = State::DEAD;
        self.live -= 1;
        self.redelivered -= usize::from(slot.deliveries > 1);
        self.queued -= usize::from(slot.state.is_queued());
        self.sweep();
        Some(slot)
    }

    /// Removes every message up to and including `seq`; says the highest consumer sequence among
    /// them.
    pub fn remove_through(&mut self, seq: u64) -> Option<u64> {
        let mut highest = None;
        while self.slots.front().is_some_and(|s| s.seq <= seq) {
            if let Some(slot) = self.slots.pop_front().filter(|s| s.state != State::DEAD) {
                highest = highest.max(Some(slot.consumer_seq));
                self.live -= 1;
                self.redelivered -= usize::from(slot.deliveries > 1);
                self.queued -= usize::from(slot.state.is_queued());
            }
        }
        self.sweep();
        highest
    }

    /// The next message of the redelivery queue, which stays there until it is delivered or
    /// removed.
    pub fn next_ready(&mut self) -> Option<u64> {
        while let Some(&(seq, ticket)) = self.ready.front() {
            if self.holds(seq, ticket) {
                return Some(seq);
            }
            self.ready.pop_front();
        }
        None
    }

    /// True if a place of the redelivery queue is still this message's.
    fn holds(&self, seq: u64, ticket: u32) -> bool {
        self.get(seq).is_some_and(|s| s.state == State(ticket))
    }

    /// When the next timer fires; a lower bound, as the message may have been acknowledged
    /// meanwhile.
    pub fn next_due(&self) -> Option<i64> {
        self.timers.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes the next message whose time has come, by time and then sequence. It is not queued yet.
    pub fn pop_due(&mut self, now: i64) -> Option<Slot> {
        while let Some(&Reverse((due, seq))) = self.timers.peek() {
            if due > now {
                return None;
            }
            self.timers.pop();
            match self.get(seq) {
                Some(slot) if slot.due == due && slot.state == State::WAITING => {
                    return Some(*slot);
                }
                _ => {}
            }
        }
        None
    }

    /// Queues every message that is not queued yet, in order of sequence.
    pub fn queue_all(&mut self) {
        for i in 0..self.slots.len() {
            self.enqueue(i);
        }
    }

    fn arm(&mut self, due: i64, seq: u64) {
        if !self.timed {
            return;
        }
        self.timers.push(Reverse((due, seq)));
        if self.timers.len() > 2 * self.live + SWEEP_SLACK {
            self.rebuild_timers();
        }
    }

    fn rebuild_timers(&mut self) {
        let mut timers = std::mem::take(&mut self.timers).into_vec();
        timers.clear();
        let waiting = self.slots.iter().filter(|s| s.state == State::WAITING);
        timers.extend(waiting.map(|s| Reverse((s.due, s.seq))));
        self.timers = BinaryHeap::from(timers);
    }

    /// Whether dead slots outnumber the messages, or stale timers or places of the queue the most
    /// messages that it had.
    pub fn is_wasteful(&self) -> bool {
        let most = 2 * self.slots.capacity() + SWEEP_SLACK;
        self.slots.len() > 2 * self.live + SWEEP_SLACK
            || self.timers.len() > most
            || self.ready.len() > most
    }

    fn sweep_ready(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        ready.retain(|&(seq, ticket)| self.holds(seq, ticket));
        self.ready = ready;
    }

    fn sweep(&mut self) {
        while self.slots.front().is_some_and(|s| s.state == State::DEAD) {
            self.slots.pop_front();
        }
        if self.slots.len() > 2 * self.live + SWEEP_SLACK {
            self.slots.retain(|s| s.state != State::DEAD);
        }
        if self.live == 0 {
            self.timers.clear();
            self.ready.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed() -> Unacked {
        Unacked { timed: true, ..Unacked::default() }
    }

    /// With few messages owed, neither slots nor timers nor the queue grow with what passed.
    #[test]
    fn nothing_grows_with_what_passed() {
        let mut u = timed();
        u.insert(1, 1, i64::MAX, 1);
        for seq in 2..100_000u64 {
            u.insert(seq, seq, seq as i64 + 1_000_000, 1);
            u.queue(seq);
            u.set_due(seq, seq as i64 + 2_000_000);
            u.queue(seq);
            assert_eq!(u.next_ready(), Some(seq));
            assert!(u.remove(seq).is_some());
        }
        assert_eq!((u.len(), u.queued(), u.redelivered()), (1, 0, 0));
        assert!(u.slots.len() < 200 && u.timers.len() < 200 && u.ready.len() < 200);
    }

    /// A message that leaves its place, however it does, and is queued again goes to the end.
    #[test]
    fn a_place_that_was_left_does_not_count_again() {
        let leave: [fn(&mut Unacked); 3] = [
            |u| u.redeliver(1, 50),
            |u| u.set_due(1, 50),
            |u| {
                u.remove(1);
                u.insert(1, 9, 50, 2);
            },
        ];
        for leave in leave {
            let mut u = timed();
            (1..=3).for_each(|seq| u.insert(seq, seq, 10, 1));
            u.queue_all();
            for round in 0..100 {
                assert_eq!(u.next_ready(), Some(1), "{round}");
                leave(&mut u);
                u.queue(1);
                for seq in [2, 3] {
                    assert_eq!(u.next_ready(), Some(seq), "{round}");
                    u.redeliver(seq, 50);
                    u.queue(seq);
                }
            }
            assert_eq!((u.queued(), u.len()), (3, 3));
            assert!(u.ready.len() < 100);
        }
    }

    #[test]
    fn a_million() {
        let mut u = timed();
        for seq in 1..=1_000_000u64 {
            u.insert(seq, seq, seq as i64, 1);
        }
        for step in 0..1_000_000u64 {
            // Every sequence once, far from in order.
            let seq = 1 + (step * 617_459) % 1_000_000;
            assert!(u.remove(seq).is_some(), "{seq}");
        }
        assert!(u.is_empty() && u.slots.is_empty() && u.timers.is_empty());
    }

    #[test]
    fn timers_fire_by_time_and_then_sequence() {
        let mut u = timed();
        for (seq, due) in [(1, 30), (2, 10), (3, 10), (4, 20), (5, 50)] {
            u.insert(seq, seq, due, 1);
        }
        u.set_due(2, 40);
        u.remove(4);
        let mut fired = Vec::new();
        while let Some(slot) = u.pop_due(45) {
            fired.push(slot.seq);
            u.queue(slot.seq);
        }
        assert_eq!(fired, [3, 1, 2]);
        assert_eq!(u.next_due(), Some(50));
        assert_eq!(u.next_ready(), Some(3));
        u.redeliver(3, 100);
        assert_eq!((u.next_ready(), u.redelivered()), (Some(1), 1));
        assert_eq!(u.remove_through(3), Some(3));
        assert_eq!((u.len(), u.queued(), u.redelivered()), (1, 0, 0));
    }
}
