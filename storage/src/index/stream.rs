//! The index of one stream: appends, lookups, removals and relocations.

use super::checkpoint::{Checkpoint, Scalars};
use super::codec;
use super::deleted::DeletedPages;
use super::directory::Directory;
use super::jobs::Jobs;
use super::recovery::Recovery;
use super::sequences::{ENTRY_BYTES, SPARSE_SHARE, SequencePage, SequencePages, slot_of};
use super::subjects::{Kept, SubjectTable};
use super::{
    DELETED_PER_PAGE, Entry, IndexConfig, Lookup, PageKey, PageKind, Relocated, Removed,
    RemovedMessage, Resident, SEQUENCES_PER_PAGE, Shrunk, SubjectId,
};
use crate::bytes::chain;
use crate::types::{Position, SegmentId};

/// Pages that one call of [`StreamIndex::evict`] looks at.
const EVICT_VISITS_MAX: usize = 4096;

/// A closed page in memory has at most so many entries for each message that lives in it, and some
/// more, if it is not larger than a few words of 64 messages: it is looked at when nearly all of a
/// word are gone.
const WASTE_SHARE: usize = 64;
const WASTE_SLACK: usize = 64;

/// The index of one stream. The folder's opening comment tells its laws.
#[derive(Debug)]
pub struct StreamIndex {
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) sequences: SequencePages,
    pub(super) deleted: DeletedPages,
    pub(super) subjects: SubjectTable,
    pub(super) directory: Directory,
    pub(super) checkpoint: Checkpoint,
    pub(super) recovery: Recovery,
    pub(super) jobs: Jobs,
    /// The sum of what each live message gives to the digest.
    pub(super) live_sum: u64,
}

/// What a live message gives to the digest of its stream.
fn share_of_digest(seq: u64, size: u32, subject: u64) -> u64 {
    chain(chain(subject ^ seq, u64::from(size)), 0)
}

impl StreamIndex {
    /// The index of a new stream.
    ///
    /// # Panics
    /// If the first sequence is 0.
    pub fn new(config: IndexConfig) -> StreamIndex {
        assert!(config.first_seq > 0, "sequences start at 1");
        StreamIndex {
            first_seq: config.first_seq,
            last_seq: config.first_seq - 1,
            messages: 0,
            bytes: 0,
            sequences: SequencePages::new(config.first_seq),
            deleted: DeletedPages::default(),
            subjects: SubjectTable::new(config.hash_seed, config.track_history),
            directory: Directory::default(),
            checkpoint: Checkpoint::default(),
            recovery: Recovery::default(),
            jobs: Jobs::default(),
            live_sum: 0,
        }
    }

    /// The lowest live sequence; one past the last in an empty stream.
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// The highest sequence ever given; one below the first in a new stream.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Live messages.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Accounted bytes of the live messages.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A digest of what is applied: which messages live (sequence, size, subject) and which
    /// sequences were used. It does not depend on where they lie, nor on the order in which others
    /// went. Of messages from before the format that keeps it, it knows nothing.
    pub fn digest(&self) -> u64 {
        let numbers = [self.first_seq, self.last_seq, self.messages, self.bytes, self.live_sum];
        let mut bytes = [0; 40];
        for (into, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            into.copy_from_slice(&number.to_le_bytes());
        }
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }

    /// Sequences between first and last that are gone.
    pub fn num_deleted(&self) -> u64 {
        self.last_seq + 1 - self.first_seq - self.messages
    }

    /// The subjects.
    pub fn subjects(&self) -> &SubjectTable {
        &self.subjects
    }

    /// Says whether histories are kept from now on. See [`IndexConfig::track_history`].
    pub fn set_track_history(&mut self, track: bool) {
        self.subjects.set_track_history(track, &mut self.checkpoint);
    }

    pub(super) fn scalars(&self) -> Scalars {
        Scalars {
            first_seq: self.first_seq,
            last_seq: self.last_seq,
            messages: self.messages,
            bytes: self.bytes,
            track_history: self.subjects.track_history,
            live_sum: self.live_sum,
        }
    }

    /// Adds the message `seq`. Sequences that are left out count as deleted; that costs a step for
    /// each 65,536 of them.
    ///
    /// # Panics
    /// If `seq` is not above the last sequence, or pages of a recovery are missing.
    #[inline]
    pub fn append(&mut self, seq: u64, position: Position, size: u32, subject: &[u8]) -> SubjectId {
        assert!(seq > self.last_seq, "sequences rise");
        let slot = slot_of(seq);
        if seq != self.last_seq + 1
            || self.sequences.tail_number != seq / SEQUENCES_PER_PAGE
            || self.sequences.tail.end() != slot
        {
            self.prepare(seq);
        }
        let kept = Kept { seq, size, segment: position.segment };
        let id = self.subjects.add(subject, kept, &mut self.checkpoint);
        self.touch_tail();
        self.sequences.tail.entries.push(Entry { position, size, subject: id });
        self.last_seq = seq;
        self.messages += 1;
        self.bytes += u64::from(size);
        let share = share_of_digest(seq, size, self.subjects.hash_of(id));
        self.live_sum = self.live_sum.wrapping_add(share);
        if !self.jobs.is_empty() {
            self.jobs.appended(&self.subjects, id);
        }
        id
    }

    /// Makes room for `seq` behind a gap or in a new page.
    #[cold]
    fn prepare(&mut self, seq: u64) {
        assert!(seq < u64::MAX, "one sequence stays free behind the last");
        assert!(!self.is_recovering(), "the pages of the recovery are loaded");
        if self.messages == 0 {
            self.first_seq = seq;
            self.last_seq = seq - 1;
            self.drop_dead_pages();
        } else if seq > self.last_seq + 1 {
            self.mark_deleted(self.last_seq + 1, seq);
        }
        if self.sequences.tail_number != seq / SEQUENCES_PER_PAGE {
            let closed = self.sequences.tail_number;
            self.sequences.close_tail();
            self.sequences.open(seq);
            self.shrink(closed);
        } else if self.sequences.tail.entries.is_empty() {
            self.sequences.tail.start = slot_of(seq) as u16;
        } else {
            self.touch_tail();
            let tail = &mut self.sequences.tail;
            let missing = slot_of(seq) - tail.end();
            tail.entries.extend(std::iter::repeat_n(Entry::default(), missing));
        }
    }

    /// Empties the sequence range of an empty stream up to `seq`: the next message may be `seq`,
    /// none is below it.
    ///
    /// # Panics
    /// If the stream is not empty.
    pub fn skip_to(&mut self, seq: u64) {
        assert_eq!(self.messages, 0, "only an empty stream can skip sequences");
        if seq > self.last_seq + 1 {
            self.first_seq = seq;
            self.last_seq = seq - 1;
            self.drop_dead_pages();
        }
    }

    /// Looks a message up.
    pub fn get(&self, seq: u64) -> Lookup {
        if seq < self.first_seq || seq > self.last_seq {
            return Lookup::OutOfRange;
        }
        if self.deleted.contains(seq) {
            return Lookup::Deleted;
        }
        match self.sequences.get(seq / SEQUENCES_PER_PAGE) {
            None => Lookup::NeedPage(PageKey::of_sequence(seq)),
            Some(page) => match page.get(slot_of(seq)) {
                Some(entry) => Lookup::Found(*entry),
                None => Lookup::Deleted,
            },
        }
    }

    /// True if the message `seq` is there. Needs no page.
    pub fn is_live(&self, seq: u64) -> bool {
        (self.first_seq..=self.last_seq).contains(&seq) && !self.deleted.contains(seq)
    }

    /// Live messages in `from..to`. Needs no page.
    pub fn count_live(&self, from: u64, to: u64) -> u64 {
        self.deleted.count_live(from.max(self.first_seq), to.min(self.last_seq + 1))
    }

    /// The lowest live sequence from `seq` on. Needs no page.
    pub fn next_live(&self, seq: u64) -> Option<u64> {
        self.deleted.next_live(seq.max(self.first_seq), self.last_seq)
    }

    /// The highest live sequence up to `seq`. Needs no page.
    pub fn prev_live(&self, seq: u64) -> Option<u64> {
        self.deleted.prev_live(seq.min(self.last_seq), self.first_seq)
    }

    /// Removes a message.
    pub fn remove(&mut self, seq: u64) -> Removed {
        match self.get(seq) {
            Lookup::Found(entry) => Removed::Done(self.finish_removal(RemovedMessage {
                seq,
                subject: entry.subject,
                size: entry.size,
                segment: entry.position.segment,
            })),
            Lookup::Deleted | Lookup::OutOfRange => Removed::NotThere,
            Lookup::NeedPage(key) => Removed::NeedPage(key),
        }
    }

    /// Removes a message that is known to be of `subject`. Needs no page when it is the subject's
    /// last message (as long as that is exact), in its kept history, or the only one of the subject
    /// before the message that was appended last.
    pub fn remove_of(&mut self, subject: SubjectId, seq: u64) -> Removed {
        if !self.is_live(seq) {
            return Removed::NotThere;
        }
        if let Some((size, segment)) = self.known(subject, seq) {
            let message = RemovedMessage { seq, subject, size, segment };
            return Removed::Done(self.finish_removal(message));
        }
        match self.get(seq) {
            Lookup::Found(entry) if entry.subject != subject => Removed::NotThere,
            _ => self.remove(seq),
        }
    }

    /// Size and segment of a subject's message, where the subject knows them.
    fn known(&self, subject: SubjectId, seq: u64) -> Option<(u32, SegmentId)> {
        let entry = self.subjects.get(subject)?;
        if entry.last == seq && entry.last_is_exact() {
            return Some((entry.last_size, entry.last_segment));
        }
        if let Some((of, kept)) = self.subjects.overwritten
            && (of, kept.seq) == (subject, seq)
        {
            return Some((kept.size, kept.segment));
        }
        let (history, _) = self.subjects.history(subject);
        let at = history.binary_search_by_key(&seq, |k| k.seq).ok()?;
        Some((history[at].size, history[at].segment))
    }

    /// Removes the first message.
    pub fn remove_first(&mut self) -> Removed {
        self.remove(self.first_seq)
    }

    pub(super) fn finish_removal(&mut self, message: RemovedMessage) -> RemovedMessage {
        let RemovedMessage { seq, subject, size, .. } = message;
        if !self.jobs.is_empty() {
            self.jobs.removed(&self.subjects, subject, seq);
        }
        let share = share_of_digest(seq, size, self.subjects.hash_of(subject));
        self.live_sum = self.live_sum.wrapping_sub(share);
        self.subjects.remove(subject, seq, &mut self.checkpoint);
        self.messages -= 1;
        self.bytes = self.bytes.saturating_sub(u64::from(size));
        if seq == self.first_seq {
            let next = self.deleted.next_live(seq + 1, self.last_seq);
            self.first_seq = next.unwrap_or(self.last_seq + 1);
            if self.first_seq / SEQUENCES_PER_PAGE != seq / SEQUENCES_PER_PAGE {
                self.drop_dead_pages();
            }
        } else {
            self.mark_deleted(seq, seq + 1);
            // Looked at twice for 64 messages that go, whatever their order.
            if self.deleted.live_around(seq) <= 1 {
                self.shrink(seq / SEQUENCES_PER_PAGE);
            }
        }
        message
    }

    /// A record was copied from `from` to `to`: points the entry there, unless it is gone or has
    /// moved meanwhile. The source may be freed when a checkpoint that was frozen after this call
    /// is durable: one under way may still tell the old place.
    pub fn relocate(&mut self, seq: u64, from: Position, to: Position) -> Relocated {
        let entry = match self.get(seq) {
            Lookup::Found(entry) if entry.position == from => entry,
            Lookup::NeedPage(key) => return Relocated::NeedPage(key),
            _ => return Relocated::NotThere,
        };
        self.touch_sequences(seq / SEQUENCES_PER_PAGE);
        let page = self.sequences.get_mut(seq / SEQUENCES_PER_PAGE);
        if let Some(entry) = page.and_then(|p| p.get_mut(slot_of(seq))) {
            entry.position = to;
        }
        self.subjects.relocate(entry.subject, seq, to.segment, &mut self.checkpoint);
        Relocated::Moved
    }

    #[inline]
    fn touch_tail(&mut self) {
        if !self.sequences.tail.state.is_freely_dirty() {
            self.touch_sequences(self.sequences.tail_number);
        }
    }

    fn touch_sequences(&mut self, number: u64) {
        if let Some(page) = self.sequences.get_mut(number) {
            let key = PageKey::new(PageKind::Sequences, number);
            page.state = self.checkpoint.before_change(page.state, key, |out| {
                codec::encode_sequences(number, page, out);
            });
        }
    }

    /// Sets the bits of `from..to`.
    fn mark_deleted(&mut self, from: u64, to: u64) {
        let mut seq = from;
        while seq < to {
            let number = seq / DELETED_PER_PAGE;
            let base = number * DELETED_PER_PAGE;
            let end = to.min(base + DELETED_PER_PAGE);
            let page = self.deleted.pages.entry(number).or_default();
            if !page.state.is_freely_dirty() {
                let key = PageKey::new(PageKind::Deleted, number);
                page.state = self.checkpoint.before_change(page.state, key, |out| {
                    codec::encode_deleted(number, page, out);
                });
            }
            page.set((seq - base) as usize, (end - base) as usize);
            seq = end;
        }
    }

    /// Live messages in a page that is not the open one.
    fn live_in(&self, number: u64) -> u64 {
        let base = number * SEQUENCES_PER_PAGE;
        self.count_live(base, base + SEQUENCES_PER_PAGE)
    }

    /// Drops a closed page in which nothing lives, and makes one sparse of which little lives, if
    /// it is resident.
    #[cold]
    fn shrink(&mut self, number: u64) {
        if number >= self.sequences.tail_number || number < self.first_seq / SEQUENCES_PER_PAGE {
            return;
        }
        let live = self.live_in(number);
        if live == 0 {
            self.drop_page(number);
        } else if self.sequences.get(number).is_some_and(|page| page.is_mostly_dead(live)) {
            self.touch_sequences(number);
            self.compact(number);
        }
    }

    fn compact(&mut self, number: u64) {
        let (deleted, first) = (&self.deleted, self.first_seq);
        let base = number * SEQUENCES_PER_PAGE;
        self.sequences.change(number, |page| {
            page.compact(|slot| {
                let seq = base + slot as u64;
                seq >= first && !deleted.contains(seq)
            });
        });
    }

    /// Drops a page in which nothing lives; what a checkpoint still needs of it is copied.
    fn drop_page(&mut self, number: u64) {
        let key = PageKey::new(PageKind::Sequences, number);
        let page = self.sequences.take(number);
        let state = page.as_ref().map_or_else(Default::default, |page| page.state);
        if let Some(page) = &page {
            self.checkpoint.copy_frozen(page.state, key, |out| {
                codec::encode_sequences(number, page, out);
            });
        }
        if state.is_in_checkpoint() || self.directory.get(key).is_some() {
            self.checkpoint.drop_at_freeze(number);
        }
        self.trim_dirty();
    }

    /// A page of sequences whose stored version holds `len` bytes: if most of that is dead, lets
    /// the next checkpoint write it again, smaller.
    pub fn shrink_stored(&mut self, key: PageKey, len: u32) -> Shrunk {
        let number = key.number;
        let stored = (len as usize).saturating_sub(codec::SEQUENCES_HEADER) / ENTRY_BYTES;
        if key.kind != PageKind::Sequences || number >= self.sequences.tail_number {
            return Shrunk::Not;
        }
        let live = self.live_in(number);
        if live == 0 || live as usize * SPARSE_SHARE > stored {
            return Shrunk::Not;
        }
        if !self.sequences.is_resident(number) {
            return Shrunk::NeedPage(key);
        }
        self.touch_sequences(number);
        self.compact(number);
        Shrunk::Done
    }

    /// What [`StreamIndex::load_page`] brings takes no more memory than what lives in it.
    pub(super) fn compact_loaded(&mut self, number: u64) {
        let live = self.live_in(number);
        if self.sequences.get(number).is_some_and(|page| page.is_mostly_dead(live)) {
            self.compact(number);
        }
    }

    /// Drops the pages that lie wholly below the first sequence; what a checkpoint still needs of
    /// them is copied.
    fn drop_dead_pages(&mut self) {
        let first = self.first_seq / SEQUENCES_PER_PAGE;
        while let Some((number, page)) = self.sequences.pop_below(first) {
            let key = PageKey::new(PageKind::Sequences, number);
            self.checkpoint.copy_frozen(page.state, key, |out| {
                codec::encode_sequences(number, &page, out);
            });
        }
        if self.sequences.tail_number < first {
            let number = self.sequences.tail_number;
            let page = &self.sequences.tail;
            let key = PageKey::new(PageKind::Sequences, number);
            self.checkpoint.copy_frozen(page.state, key, |out| {
                codec::encode_sequences(number, page, out);
            });
            self.sequences.open(self.first_seq);
        }
        while let Some((number, page)) = self.deleted.pop_below(self.first_seq / DELETED_PER_PAGE) {
            let key = PageKey::new(PageKind::Deleted, number);
            self.checkpoint.copy_frozen(page.state, key, |out| {
                codec::encode_deleted(number, &page, out);
            });
        }
        self.trim_dirty();
    }

    /// Drops clean sequence pages until `bytes` are free or none is left; the first page goes last.
    /// Answers how many bytes went.
    pub fn evict(&mut self, bytes: usize) -> usize {
        self.sequences.evict(bytes, self.first_seq / SEQUENCES_PER_PAGE, EVICT_VISITS_MAX)
    }

    /// Bytes held in memory. Walks the page lists: not for every message.
    pub fn resident(&self) -> Resident {
        Resident {
            sequences: self.sequences.resident_bytes(),
            fixed: self.subjects.resident_bytes()
                + self.deleted.resident_bytes()
                + self.directory.resident_bytes(),
            outbox: self.checkpoint.outbox_bytes(),
        }
    }

    /// A closed page in memory that should have been dropped or made smaller, since most of its
    /// messages are gone.
    pub fn find_waste(&self) -> Option<PageKey> {
        let wasteful = |(number, page): &(u64, &SequencePage)| {
            let from = self.first_seq.saturating_sub(number * SEQUENCES_PER_PAGE) as usize;
            let (held, live) = (page.entries_from(from), self.live_in(*number) as usize);
            held > 0 && (live == 0 || held > WASTE_SHARE * live + WASTE_SLACK)
        };
        let (number, _) = self.sequences.closed().find(wasteful)?;
        Some(PageKey::new(PageKind::Sequences, number))
    }

    /// Bytes of resident sequence pages; cheap.
    pub fn sequence_bytes(&self) -> usize {
        self.sequences.resident_bytes()
    }
}
