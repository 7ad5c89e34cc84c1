//! The subjects of one stream: name to id by hash, id to what the subject holds, names in order.

use super::checkpoint::{Checkpoint, PageState};
use super::order::NameOrder;
use super::{HISTORY_MAX, PageKey, PageKind, SUBJECTS_PER_PAGE, SubjectId};
use crate::step_table::StepTable;
use crate::types::SegmentId;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::{BuildHasher, Hasher};

/// Freed subjects whose names stay known: as many as one removal step may free.
pub const FREED_MAX: usize = 16_384;

/// Reuses of ids that are remembered for the verdicts of filters.
const REUSES_KEPT: usize = 1024;
/// Stands for the segment of a last message that is not known.
pub(super) const NO_SEGMENT: SegmentId = SegmentId(u32::MAX);

/// What a subject holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectEntry {
    /// No live message of the subject is below it.
    pub first: u64,
    /// No live message of the subject is above it.
    pub last: u64,
    /// Live messages; 0 for a free id.
    pub count: u64,
    /// Accounted bytes of the last message, if `last` is exact.
    pub last_size: u32,
    /// Segment of the last message, if `last` is exact.
    pub last_segment: SegmentId,
    pub(super) name: Box<[u8]>,
    /// Of the name, the same everywhere: for the digest of the stream.
    pub(super) name_hash: u64,
}

impl SubjectEntry {
    pub(super) fn free() -> SubjectEntry {
        SubjectEntry {
            first: 0,
            last: 0,
            count: 0,
            last_size: 0,
            last_segment: NO_SEGMENT,
            name: Box::default(),
            name_hash: 0,
        }
    }

    pub(super) fn set_name(&mut self, name: &[u8]) {
        self.name = name.into();
        self.name_hash = xxhash_rust::xxh3::xxh3_64(name);
    }

    /// The subject.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// True if the message at `last` is live, and its size and segment are known.
    pub fn last_is_exact(&self) -> bool {
        self.last_segment != NO_SEGMENT
    }
}

/// A message in a subject's kept history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its sequence.
    pub seq: u64,
    /// Its accounted bytes.
    pub size: u32,
    /// Its segment.
    pub segment: SegmentId,
}

/// 256 ids. Where histories are kept, `history` has one for each entry: the newest of its messages,
/// oldest first.
#[derive(Debug, Default)]
pub(super) struct SubjectPage {
    pub entries: Vec<SubjectEntry>,
    pub history: Vec<Vec<Kept>>,
    pub state: PageState,
}

/// The subjects of a stream.
#[derive(Debug)]
pub struct SubjectTable {
    pub(super) pages: Vec<SubjectPage>,
    pub(super) order: NameOrder,
    by_name: StepTable<u32>,
    /// Names of the subjects freed last, and of those before.
    freed: [HashMap<u32, Box<[u8]>, FixedState>; 2],
    free: BinaryHeap<Reverse<u32>>,
    hasher: FixedState,
    reused: VecDeque<u32>,
    reuses: u64,
    used: usize,
    name_bytes: usize,
    kept_bytes: usize,
    pub(super) track_history: bool,
    /// The only message of a subject before the one that was added last, and that subject.
    pub(super) overwritten: Option<(SubjectId, Kept)>,
}

fn split(id: u32) -> (usize, usize) {
    ((id / SUBJECTS_PER_PAGE) as usize, (id % SUBJECTS_PER_PAGE) as usize)
}

fn name_in(pages: &[SubjectPage], id: u32) -> &[u8] {
    let (page, at) = split(id);
    pages.get(page).and_then(|p| p.entries.get(at)).map_or(&[], |e| e.name.as_ref())
}

fn hash(hasher: &FixedState, name: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(name);
    state.finish()
}

impl SubjectTable {
    pub(super) fn new(hash_seed: u64, track_history: bool) -> SubjectTable {
        SubjectTable {
            pages: Vec::new(),
            order: NameOrder::default(),
            by_name: StepTable::default(),
            freed: Default::default(),
            free: BinaryHeap::new(),
            hasher: FixedState::with_seed(hash_seed),
            reused: VecDeque::new(),
            reuses: 0,
            used: 0,
            name_bytes: 0,
            kept_bytes: 0,
            track_history,
            overwritten: None,
        }
    }

    /// Subjects in use.
    pub fn len(&self) -> usize {
        self.used
    }

    /// True if no subject is in use.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The id of a literal subject that has a live message.
    #[inline]
    pub fn lookup(&self, name: &[u8]) -> Option<SubjectId> {
        let hash = hash(&self.hasher, name);
        let pages = &self.pages;
        self.by_name.find(hash, |&id| name_in(pages, id) == name).map(|&id| SubjectId(id))
    }

    /// What a subject holds, if the id is in use.
    #[inline]
    pub fn get(&self, id: SubjectId) -> Option<&SubjectEntry> {
        let (page, at) = split(id.0);
        self.pages.get(page)?.entries.get(at).filter(|e| e.count > 0)
    }

    /// The kept history of a subject, oldest first, and whether it is the whole of it.
    pub fn history(&self, id: SubjectId) -> (&[Kept], bool) {
        let (page, at) = split(id.0);
        let Some(page) = self.pages.get(page) else { return (&[], false) };
        let kept = page.history.get(at).map_or(&[][..], Vec::as_slice);
        let count = page.entries.get(at).map_or(0, |e| e.count);
        (kept, kept.len() as u64 == count)
    }

    /// The hash of a subject's name, the same everywhere.
    #[inline]
    pub(super) fn hash_of(&self, id: SubjectId) -> u64 {
        self.get(id).map_or(0, |entry| entry.name_hash)
    }

    pub(super) fn name_of(&self, id: u32) -> &[u8] {
        name_in(&self.pages, id)
    }

    /// The subject of a message that was just removed: its name stays known for the last
    /// [`FREED_MAX`] ids that became free. True if the id is free now.
    pub fn name_of_removed(&self, id: SubjectId) -> (&[u8], bool) {
        if let Some(entry) = self.get(id) {
            return (&entry.name, false);
        }
        let freed = self.freed.iter().find_map(|names| names.get(&id.0));
        (freed.map_or(&[], |name| name), true)
    }

    /// How often an id got another subject.
    pub(super) fn reuses(&self) -> u64 {
        self.reuses
    }

    /// The ids that got another subject since `seen` of such events, or `None` if that is not
    /// remembered.
    pub(super) fn reuses_since(&self, seen: u64) -> Option<impl Iterator<Item = u32> + '_> {
        let unseen = usize::try_from(self.reuses.checked_sub(seen)?).ok()?;
        let skip = self.reused.len().checked_sub(unseen)?;
        Some(self.reused.iter().skip(skip).copied())
    }

    /// Counts a new message of `name` and answers its id.
    #[inline]
    pub(super) fn add(
        &mut self,
        name: &[u8],
        kept: Kept,
        checkpoint: &mut Checkpoint,
    ) -> SubjectId {
        let hash = hash(&self.hasher, name);
        let pages = &self.pages;
        let id = match self.by_name.find(hash, |&id| name_in(pages, id) == name) {
            Some(&id) => id,
            None => self.create(hash, name, checkpoint),
        };
        self.touch(id, checkpoint);
        let (page, at) = split(id);
        let page = &mut self.pages[page];
        let entry = &mut page.entries[at];
        if entry.count == 0 {
            entry.first = kept.seq;
        }
        self.overwritten = (entry.count == 1 && entry.last_is_exact()).then_some((
            SubjectId(id),
            Kept { seq: entry.last, size: entry.last_size, segment: entry.last_segment },
        ));
        entry.last = kept.seq;
        entry.count += 1;
        entry.last_size = kept.size;
        entry.last_segment = kept.segment;
        if self.track_history {
            self.remember(id, kept);
        }
        SubjectId(id)
    }

    fn remember(&mut self, id: u32, kept: Kept) {
        let (page, at) = split(id);
        let page = &mut self.pages[page];
        if page.history.len() < page.entries.len() {
            page.history.resize_with(page.entries.len(), Vec::new);
        }
        let history = &mut page.history[at];
        let before = history.capacity();
        if history.len() == HISTORY_MAX {
            history.remove(0);
        }
        history.push(kept);
        self.kept_bytes += (history.capacity() - before) * size_of::<Kept>();
    }

    #[cold]
    fn create(&mut self, hash: u64, name: &[u8], checkpoint: &mut Checkpoint) -> u32 {
        let id = match self.free.pop() {
            Some(Reverse(id)) => {
                if self.reused.len() == REUSES_KEPT {
                    self.reused.pop_front();
                }
                self.reused.push_back(id);
                self.reuses += 1;
                id
            }
            None => self.grow(),
        };
        self.touch(id, checkpoint);
        let (page, at) = split(id);
        self.pages[page].entries[at].set_name(name);
        self.attach(id, hash);
        self.order.insert(id, |id| name_in(&self.pages, id));
        id
    }

    /// A new free id behind all others, not in the heap of free ones.
    fn grow(&mut self) -> u32 {
        if self.pages.last().is_none_or(|p| p.entries.len() == SUBJECTS_PER_PAGE as usize) {
            self.pages.push(SubjectPage::default());
        }
        let number = self.pages.len() - 1;
        let page = &mut self.pages[number];
        page.entries.push(SubjectEntry::free());
        number as u32 * SUBJECTS_PER_PAGE + page.entries.len() as u32 - 1
    }

    fn attach(&mut self, id: u32, hash_of_name: u64) {
        let (pages, hasher) = (&self.pages, &self.hasher);
        self.by_name.insert_unique(hash_of_name, id, |&id| hash(hasher, name_in(pages, id)));
        self.used += 1;
        self.name_bytes += name_in(pages, id).len().next_multiple_of(16) + 16;
    }

    /// Makes the page of `id` ready for a change.
    #[inline]
    pub(super) fn touch(&mut self, id: u32, checkpoint: &mut Checkpoint) {
        let number = split(id).0;
        let page = &mut self.pages[number];
        if !page.state.is_freely_dirty() {
            let key = PageKey::new(PageKind::Subjects, number as u64);
            let state = checkpoint.before_change(page.state, key, |out| {
                super::codec::encode_subjects(number as u64, page, out);
            });
            page.state = state;
        }
    }

    /// The entry of an id in use, ready for a change.
    pub(super) fn change(
        &mut self,
        id: SubjectId,
        checkpoint: &mut Checkpoint,
    ) -> Option<&mut SubjectEntry> {
        self.get(id)?;
        self.touch(id.0, checkpoint);
        let (page, at) = split(id.0);
        self.pages[page].entries.get_mut(at)
    }

    /// A message of `id` is gone: corrects count and bounds, and frees the id with its last
    /// message.
    pub(super) fn remove(&mut self, id: SubjectId, seq: u64, checkpoint: &mut Checkpoint) {
        let Some(entry) = self.change(id, checkpoint) else {
            debug_assert!(false, "a live message has a subject");
            return;
        };
        entry.count -= 1;
        if entry.count == 0 {
            self.free(id.0);
            return;
        }
        let (page, at) = split(id.0);
        let page = &mut self.pages[page];
        let entry = &mut page.entries[at];
        let history = page.history.get_mut(at);
        let mut newest = None;
        let mut oldest = None;
        if let Some(history) = history {
            if let Ok(at) = history.binary_search_by_key(&seq, |k| k.seq) {
                history.remove(at);
            }
            newest = history.last().copied();
            oldest = history.first().copied().filter(|_| history.len() as u64 == entry.count);
        }
        if seq == entry.last {
            match newest {
                Some(kept) => {
                    entry.last = kept.seq;
                    entry.last_size = kept.size;
                    entry.last_segment = kept.segment;
                }
                None => {
                    entry.last = seq - 1;
                    entry.last_size = 0;
                    entry.last_segment = NO_SEGMENT;
                }
            }
        }
        if seq == entry.first {
            entry.first = seq + 1;
        }
        if let Some(kept) = oldest {
            entry.first = kept.seq;
        } else if entry.count == 1 && entry.last_is_exact() {
            entry.first = entry.last;
        }
    }

    fn free(&mut self, id: u32) {
        let hash = hash(&self.hasher, name_in(&self.pages, id));
        self.by_name.remove(hash, |&other| other == id);
        self.order.remove(id, |id| name_in(&self.pages, id));
        let (page, at) = split(id);
        let page = &mut self.pages[page];
        let entry = std::mem::replace(&mut page.entries[at], SubjectEntry::free());
        self.name_bytes -= entry.name.len().next_multiple_of(16) + 16;
        if self.freed[0].len() == FREED_MAX {
            self.freed.swap(0, 1);
            self.freed[0].clear();
        }
        self.freed[0].insert(id, entry.name);
        if let Some(history) = page.history.get_mut(at) {
            self.kept_bytes -= history.capacity() * size_of::<Kept>();
            *history = Vec::new();
        }
        self.free.push(Reverse(id));
        self.used -= 1;
    }

    /// Notes that the message `seq` of `id` lies in `segment` now.
    pub(super) fn relocate(
        &mut self,
        id: SubjectId,
        seq: u64,
        segment: SegmentId,
        checkpoint: &mut Checkpoint,
    ) {
        if let Some((_, kept)) =
            self.overwritten.as_mut().filter(|(of, k)| *of == id && k.seq == seq)
        {
            kept.segment = segment;
        }
        let (page, at) = split(id.0);
        let Some(entry) = self.get(id) else { return };
        let is_last = entry.last == seq && entry.last_is_exact();
        let kept = self.pages[page]
            .history
            .get(at)
            .and_then(|h| h.binary_search_by_key(&seq, |k| k.seq).ok());
        if !is_last && kept.is_none() {
            return;
        }
        self.touch(id.0, checkpoint);
        let page = &mut self.pages[page];
        if is_last {
            page.entries[at].last_segment = segment;
        }
        if let Some(kept) = kept {
            page.history[at][kept].segment = segment;
        }
    }

    /// Stops keeping histories, or starts to for messages to come.
    pub(super) fn set_track_history(&mut self, track: bool, checkpoint: &mut Checkpoint) {
        self.track_history = track;
        if track {
            return;
        }
        for number in 0..self.pages.len() {
            if self.pages[number].history.iter().any(|h| !h.is_empty()) {
                self.touch(number as u32 * SUBJECTS_PER_PAGE, checkpoint);
            }
            self.pages[number].history = Vec::new();
        }
        self.kept_bytes = 0;
    }

    /// Builds hash, order and free ids over pages that were loaded. False if a name appears twice.
    pub(super) fn rebuild(&mut self) -> bool {
        let mut ids = Vec::new();
        for (number, page) in self.pages.iter().enumerate() {
            for (at, entry) in page.entries.iter().enumerate() {
                let id = number as u32 * SUBJECTS_PER_PAGE + at as u32;
                if entry.count > 0 {
                    ids.push(id);
                } else {
                    self.free.push(Reverse(id));
                }
            }
            let kept: usize = page.history.iter().map(Vec::capacity).sum();
            self.kept_bytes += kept * size_of::<Kept>();
        }
        let pages = &self.pages;
        ids.sort_unstable_by(|&a, &b| name_in(pages, a).cmp(name_in(pages, b)));
        if ids.windows(2).any(|w| name_in(pages, w[0]) == name_in(pages, w[1])) {
            return false;
        }
        self.order = NameOrder::from_sorted(&ids);
        self.by_name = StepTable::with_capacity(ids.len());
        for id in ids {
            let hash = hash(&self.hasher, name_in(&self.pages, id));
            self.attach(id, hash);
        }
        true
    }

    /// Bytes held in memory, names included.
    pub fn resident_bytes(&self) -> usize {
        let full = SUBJECTS_PER_PAGE as usize;
        let entries: usize = match self.pages.last() {
            Some(last) => (self.pages.len() - 1) * full + last.entries.capacity(),
            None => 0,
        };
        let histories = if self.track_history { entries * size_of::<Vec<Kept>>() } else { 0 };
        entries * size_of::<SubjectEntry>()
            + histories
            + self.kept_bytes
            + self.name_bytes
            + self.by_name.allocation_size()
            + self.order.resident_bytes()
            + self.free.capacity() * 4
            + self.pages.capacity() * size_of::<SubjectPage>()
    }
}
