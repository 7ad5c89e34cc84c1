//! What is admitted and not yet committed.
//!
//! A plain publish costs an entry in a queue and a copy of its subject and of its message id, which
//! a table finds. Subjects are looked up only when a per-subject rule or header asks: then the
//! queue is read into a table, which follows the queue from there on until the queue is empty. A
//! search for what matches a filter looks at no more than it may, goes on where it stopped, and
//! does not look again at what the last one saw.

use corelane_storage::step_table::StepTable;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::fifo::Fifo;
use crate::stream::dedupe::hash_id;
use crate::types::WallTime;

/// A table of ids larger than this is not kept once it is empty.
const ID_TABLE_BYTES: usize = 64 << 10;

/// A publish between admission and commit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InFlight {
    pub seq: u64,
    pub at: WallTime,
    /// Bytes it will count for in the stream's state.
    pub size: u64,
    /// By how much it will change the number of messages and bytes, evictions within its subject
    /// included.
    pub grow_msgs: i64,
    pub grow_bytes: i64,
    subject_start: u64,
    subject_len: u32,
    /// The message id lies behind the subject.
    id_len: u32,
    /// The number of the next one of its subject, once that is indexed.
    next_of_subject: u64,
}

/// In-flight messages of one subject. Numbers count all that were ever pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SubjectOverlay {
    pub last_seq: u64,
    pub count: u64,
    /// Of this subject, committed since it was first indexed.
    committed: u64,
    first: u64,
    last: u64,
    /// The one whose size was asked for last: which of the subject's it is, and its number.
    sized: (u64, u64),
}

/// A search for the last message that matches a filter, from the newest on.
#[derive(Debug)]
struct Search {
    filter: Vec<u8>,
    /// An earlier search for the same has seen all up to the first of these; the other is what it
    /// found, 0 for nothing.
    seen: (u64, u64),
    /// The newest message when it began, and the one above the next to look at; 0 once it is over.
    newest: u64,
    below: u64,
}

/// What a publish counts for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub size: u64,
    /// By how many messages and bytes the stream grows.
    pub grow: (i64, i64),
}

/// The id of an entry, in bytes of which the first is byte `start` of all; empty if it has none.
fn id_in<'a>(entry: Option<&InFlight>, bytes: &'a [u8], start: u64) -> &'a [u8] {
    let Some(entry) = entry.filter(|entry| entry.id_len > 0) else { return &[] };
    let at = (entry.subject_start - start) as usize + entry.subject_len as usize;
    &bytes[at..at + entry.id_len as usize]
}

#[derive(Debug, Default)]
pub(super) struct Overlay {
    queue: Fifo<InFlight>,
    /// The number of the first in `queue`.
    first: u64,
    /// The subjects and ids of `queue`, one after another; the first byte is byte `bytes_start` of
    /// all.
    bytes: Vec<u8>,
    bytes_start: u64,
    grow_msgs: i64,
    grow_bytes: i64,
    /// The last sequence that counts for more than it may be found to.
    unsure: u64,
    /// Numbers of the newest entries of each id, found by its hash.
    by_id: StepTable<u64>,
    by_subject: HashMap<Vec<u8>, SubjectOverlay, FixedState>,
    /// How many entries at the front of `queue` are in `by_subject`.
    indexed: usize,
    search: Option<Box<Search>>,
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

    /// A publish was admitted: what it counts for is its size and by how much the stream grows.
    pub fn push(&mut self, seq: u64, at: WallTime, subject: &[u8], id: &[u8], counts: Counts) {
        let Counts { size, grow } = counts;
        let subject_start = self.bytes_start + self.bytes.len() as u64;
        self.bytes.extend_from_slice(subject);
        self.bytes.extend_from_slice(id);
        let slot = self.queue.push_slot();
        slot.seq = seq;
        slot.at = at;
        slot.size = size;
        slot.grow_msgs = grow.0;
        slot.grow_bytes = grow.1;
        slot.subject_start = subject_start;
        slot.subject_len = subject.len() as u32;
        slot.id_len = id.len() as u32;
        slot.next_of_subject = 0;
        self.grow_msgs += grow.0;
        self.grow_bytes += grow.1;
        if !id.is_empty() {
            self.note_id(id);
        }
    }

    /// The last entry has this id.
    fn note_id(&mut self, id: &[u8]) {
        let (hash, number) = (hash_id(id) as u64, self.first + self.queue.len() as u64 - 1);
        let Overlay { by_id, queue, bytes, bytes_start, first, .. } = self;
        let id_of = |number: u64| id_in(queue.get((number - *first) as usize), bytes, *bytes_start);
        match by_id.find_mut(hash, |&earlier| id_of(earlier) == id) {
            Some(earlier) => *earlier = number,
            None => by_id.insert_unique(hash, number, |&number| hash_id(id_of(number)) as u64),
        }
    }

    /// The entry leaves the queue.
    fn forget_id(&mut self, entry: &InFlight, number: u64) {
        let id = id_in(Some(entry), &self.bytes, self.bytes_start);
        self.by_id.remove(hash_id(id) as u64, |&newest| newest == number);
    }

    /// The last entry may replace an older one of its subject, which its counts leave out.
    pub fn last_is_unsure(&mut self) {
        self.unsure = self.queue.back().map_or(0, |last| last.seq);
    }

    /// Whether the stream will perhaps grow by less than `grow_msgs` and `grow_bytes` say.
    pub fn is_unsure(&self) -> bool {
        self.queue.front().is_some_and(|first| first.seq <= self.unsure)
    }

    /// The newest publish with this id.
    pub fn with_id(&self, id: &[u8]) -> Option<&InFlight> {
        if self.queue.is_empty() {
            return None;
        }
        let at = |number: u64| self.queue.get((number - self.first) as usize);
        let is = |number: u64| id_in(at(number), &self.bytes, self.bytes_start) == id;
        self.by_id.find(hash_id(id) as u64, |&number| is(number)).and_then(|&number| at(number))
    }

    /// The id of the oldest publish if that is `seq`: empty if it has none.
    #[inline]
    pub fn id_of_first(&self, seq: u64) -> Option<&[u8]> {
        let first = self.queue.front().filter(|entry| entry.seq == seq)?;
        Some(id_in(Some(first), &self.bytes, self.bytes_start))
    }

    /// The id of the newest publish, empty if that has none; `None` if nothing is in flight.
    pub fn last_id(&self) -> Option<&[u8]> {
        let last = self.queue.back()?;
        Some(id_in(Some(last), &self.bytes, self.bytes_start))
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
            let number = self.first + self.indexed as u64;
            let found = self.by_subject.entry_ref(subject).or_default();
            if found.count == 0 {
                (found.first, found.sized) = (number, (0, number));
            } else {
                self.queue[(found.last - self.first) as usize].next_of_subject = number;
            }
            (found.last_seq, found.last) = (entry.seq, number);
            found.count += 1;
            self.indexed += 1;
        }
    }

    /// The last in-flight message whose subject matches `filter`, 0 for none. `None` if more is to
    /// be looked at than `budget` has left: then the next call goes on.
    pub fn last_matching(&mut self, filter: &[u8], budget: &mut u32) -> Option<u64> {
        let Some(newest) = self.queue.back().map(|entry| entry.seq) else { return Some(0) };
        let mut search = match self.search.take() {
            Some(search) if search.filter == filter => search,
            _ => Box::new(Search { filter: filter.to_vec(), seen: (0, 0), newest: 0, below: 0 }),
        };
        if search.below == 0 || search.newest != newest {
            (search.newest, search.below) = (newest, newest + 1);
        }
        let end = self.queue.partition_point(|entry| entry.seq < search.below);
        let mut found = search.seen.1;
        for entry in (0..end).rev().map(|nth| &self.queue[nth]) {
            if entry.seq <= search.seen.0 {
                break;
            }
            if *budget == 0 {
                search.below = entry.seq + 1;
                self.search = Some(search);
                return None;
            }
            *budget -= 1;
            if crate::subject::matches(filter, self.subject(entry)) {
                found = entry.seq;
                break;
            }
        }
        (search.seen, search.below) = ((newest, found), 0);
        self.search = Some(search);
        let first = self.queue.front().map_or(0, |entry| entry.seq);
        Some(if found < first { 0 } else { found })
    }

    /// The size of the `nth` in-flight message of `subject`, counted from the oldest. Those who ask
    /// again and again, for later ones each time, go on from the one before.
    pub fn nth_size(&mut self, subject: &[u8], nth: u64) -> Option<u64> {
        self.index();
        let Overlay { by_subject, queue, first, .. } = self;
        let found = by_subject.get_mut(subject).filter(|found| nth < found.count)?;
        let wanted = found.committed + nth;
        let (mut at, mut number) = found.sized;
        if at < found.committed || at > wanted {
            (at, number) = (found.committed, found.first);
        }
        while at < wanted {
            number = queue.get((number - *first) as usize)?.next_of_subject;
            at += 1;
        }
        found.sized = (at, number);
        queue.get((number - *first) as usize).map(|entry| entry.size)
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
            if entry.id_len > 0 {
                self.forget_id(&entry, self.first);
            }
            self.queue.pop_front();
            self.first += 1;
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

    /// The first entry is not in flight any more, or the last: then all are indexed anew.
    fn unindex(&mut self, entry: &InFlight) {
        let start = (entry.subject_start - self.bytes_start) as usize;
        let subject = &self.bytes[start..start + entry.subject_len as usize];
        if let Some(found) = self.by_subject.get_mut(subject) {
            found.count -= 1;
            found.committed += 1;
            found.first = entry.next_of_subject;
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
        self.search = None;
        if entry.id_len > 0 {
            self.forget_id(&entry, self.first + self.queue.len() as u64 - 1);
        }
        self.queue.pop_back();
        self.bytes.truncate((entry.subject_start - self.bytes_start) as usize);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        if !self.queue.is_empty() || self.by_id.allocation_size() > ID_TABLE_BYTES {
            self.by_id = StepTable::default();
        }
        self.bytes_start += self.bytes.len() as u64;
        self.bytes.clear();
        self.first += self.queue.len() as u64;
        self.queue.clear();
        self.by_subject.clear();
        self.search = None;
        self.indexed = 0;
        self.grow_msgs = 0;
        self.grow_bytes = 0;
    }
}
