//! What is admitted and not yet committed.
//!
//! A plain publish costs an entry in a queue and a copy of its subject. Subjects are looked up only
//! when a per-subject rule or header asks: then the queue is read into a table, which follows the
//! queue from there on until the queue is empty.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::types::Timestamp;

/// A publish between admission and commit.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub seq: u64,
    pub at: Timestamp,
    /// Bytes it will count for in the stream's state.
    pub size: u64,
    /// By how much it will change the number of messages and bytes, evictions within its subject
    /// included.
    pub grow_msgs: i64,
    pub grow_bytes: i64,
    subject_start: u64,
    subject_len: u32,
}

/// In-flight messages of one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SubjectOverlay {
    pub last_seq: u64,
    pub count: u64,
}

#[derive(Debug, Default)]
pub(super) struct Overlay {
    queue: VecDeque<InFlight>,
    /// The subjects of `queue`, one after another; the first byte is byte `bytes_start` of all.
    bytes: Vec<u8>,
    bytes_start: u64,
    grow_msgs: i64,
    grow_bytes: i64,
    by_subject: HashMap<Vec<u8>, SubjectOverlay, FixedState>,
    /// How many entries at the front of `queue` are in `by_subject`.
    indexed: usize,
    /// Entries that searches for a filter looked at.
    visited: u32,
}

impl Overlay {
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn last(&self) -> Option<&InFlight> {
        self.queue.back()
    }

    pub fn grow_msgs(&self) -> i64 {
        self.grow_msgs
    }

    pub fn grow_bytes(&self) -> i64 {
        self.grow_bytes
    }

    pub fn push(&mut self, seq: u64, at: Timestamp, subject: &[u8], size: u64, grow: (i64, i64)) {
        let subject_start = self.bytes_start + self.bytes.len() as u64;
        self.bytes.extend_from_slice(subject);
        self.queue.push_back(InFlight {
            seq,
            at,
            size,
            grow_msgs: grow.0,
            grow_bytes: grow.1,
            subject_start,
            subject_len: subject.len() as u32,
        });
        self.grow_msgs += grow.0;
        self.grow_bytes += grow.1;
    }

    fn subject(&self, entry: &InFlight) -> &[u8] {
        let start = (entry.subject_start - self.bytes_start) as usize;
        &self.bytes[start..start + entry.subject_len as usize]
    }

    /// In-flight messages of `subject`.
    pub fn of_subject(&mut self, subject: &[u8]) -> SubjectOverlay {
        if self.queue.is_empty() {
            return SubjectOverlay::default();
        }
        self.index();
        self.by_subject.get(subject).copied().unwrap_or_default()
    }

    fn index(&mut self) {
        while self.indexed < self.queue.len() {
            let entry = self.queue[self.indexed];
            let start = (entry.subject_start - self.bytes_start) as usize;
            let subject = &self.bytes[start..start + entry.subject_len as usize];
            let found = self.by_subject.entry_ref(subject).or_default();
            found.last_seq = entry.seq;
            found.count += 1;
            self.indexed += 1;
        }
    }

    /// The last in-flight message whose subject matches `filter`, 0 for none.
    pub fn last_matching(&mut self, filter: &[u8]) -> u64 {
        let matching = |entry: &&InFlight| crate::subject::matches(filter, self.subject(entry));
        let found = self.queue.iter().rev().position(|entry| matching(&entry));
        let visited = found.map_or(self.queue.len(), |at| at + 1);
        self.visited = self.visited.saturating_add(visited as u32);
        found.map_or(0, |at| self.queue[self.queue.len() - 1 - at].seq)
    }

    /// Entries that were looked at since the last call to find what matches filters.
    pub fn take_visited(&mut self) -> u32 {
        std::mem::take(&mut self.visited)
    }

    /// The size of the `nth` in-flight message of `subject`, counted from the oldest.
    pub fn nth_size(&self, subject: &[u8], nth: u64) -> Option<u64> {
        let of_subject = self.queue.iter().filter(|entry| self.subject(entry) == subject);
        of_subject.map(|entry| entry.size).nth(usize::try_from(nth).ok()?)
    }

    /// Forgets all up to `seq`: it is in the committed state now.
    pub fn commit(&mut self, seq: u64) {
        while let Some(entry) = self.queue.front().copied().filter(|entry| entry.seq <= seq) {
            self.grow_msgs -= entry.grow_msgs;
            self.grow_bytes -= entry.grow_bytes;
            if self.indexed > 0 {
                self.unindex(&entry);
                self.indexed -= 1;
            }
            self.queue.pop_front();
        }
        match self.queue.front() {
            None => self.clear(),
            Some(front) => {
                let dead = (front.subject_start - self.bytes_start) as usize;
                if dead >= 4_096 && dead * 2 >= self.bytes.len() {
                    self.bytes.drain(..dead);
                    self.bytes_start += dead as u64;
                }
            }
        }
    }

    fn unindex(&mut self, entry: &InFlight) {
        let start = (entry.subject_start - self.bytes_start) as usize;
        let subject = &self.bytes[start..start + entry.subject_len as usize];
        if let Some(found) = self.by_subject.get_mut(subject) {
            found.count -= 1;
            if found.count == 0 {
                self.by_subject.remove(subject);
            }
        }
    }

    /// Takes the last entry back, if it is `seq`.
    pub fn pop(&mut self, seq: u64) {
        let Some(entry) = self.queue.back().copied().filter(|entry| entry.seq == seq) else {
            return;
        };
        if self.indexed == self.queue.len() {
            self.indexed -= 1;
            self.unindex(&entry);
            self.by_subject.clear();
            self.indexed = 0;
        }
        self.grow_msgs -= entry.grow_msgs;
        self.grow_bytes -= entry.grow_bytes;
        self.queue.pop_back();
        self.bytes.truncate((entry.subject_start - self.bytes_start) as usize);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bytes_start += self.bytes.len() as u64;
        self.bytes.clear();
        self.queue.clear();
        self.by_subject.clear();
        self.indexed = 0;
        self.grow_msgs = 0;
        self.grow_bytes = 0;
    }
}
