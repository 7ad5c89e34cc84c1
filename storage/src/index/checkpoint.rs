//! Exact incremental checkpoints: which pages are dirty, frozen or copied, and the order in which
//! they are written.

use super::codec;
use super::{DELETED_PER_PAGE, Location, PageKey, PageKind, SEQUENCES_PER_PAGE, StreamIndex};
use crate::types::Position;
use std::collections::VecDeque;

const DIRTY: u8 = 1;
const FROZEN: u8 = 2;
const COPIED: u8 = 4;
/// Dirty pages listed before the dropped ones among them are taken out.
const DIRTY_LISTED_MIN: usize = 4096;

/// Where a page stands towards its stored version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageState(u8);

impl PageState {
    /// True if the page may change without further ado.
    #[inline]
    pub fn is_freely_dirty(self) -> bool {
        self.0 & (DIRTY | FROZEN) == DIRTY
    }

    /// True if the stored version equals the page.
    pub fn is_clean(self) -> bool {
        self.0 == 0
    }

    fn is_dirty(self) -> bool {
        self.0 & DIRTY != 0
    }

    /// True if a checkpoint under way has it or will store it.
    pub fn is_in_checkpoint(self) -> bool {
        self.0 & (FROZEN | COPIED) != 0
    }
}

/// The numbers of a stream that the head carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scalars {
    pub first_seq: u64,
    pub last_seq: u64,
    pub messages: u64,
    pub bytes: u64,
    pub track_history: bool,
    pub live_sum: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    Pages,
    Directory(Vec<PageKey>),
    Head,
}

/// The bookkeeping of dirty and frozen pages.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    dirty: Vec<PageKey>,
    /// Length of `dirty` from which dropped pages are taken out of it.
    dirty_limit: usize,
    frozen: VecDeque<PageKey>,
    outbox: VecDeque<(PageKey, Vec<u8>)>,
    outbox_bytes: usize,
    phase: Phase,
    awaited: Option<PageKey>,
    /// The numbers at the last freeze.
    scalars: Scalars,
    /// A directory or head page must be written although no data page is dirty.
    head_dirty: bool,
    /// Sequence pages that were dropped and whose stored versions the next freeze gives back.
    dropped: Vec<u64>,
    released: Vec<Location>,
}

impl Checkpoint {
    /// To be asked before a page changes: copies it to the outbox if it is frozen and unwritten,
    /// and marks it dirty.
    pub fn before_change(
        &mut self,
        state: PageState,
        key: PageKey,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> PageState {
        let state = self.copy_frozen(state, key, encode);
        if state.is_dirty() {
            return state;
        }
        self.dirty.push(key);
        PageState(state.0 | DIRTY)
    }

    /// Copies a page to the outbox if it is frozen and unwritten: before it changes or is dropped.
    pub fn copy_frozen(
        &mut self,
        state: PageState,
        key: PageKey,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> PageState {
        if state.0 & FROZEN == 0 {
            return state;
        }
        let mut copy = Vec::new();
        encode(&mut copy);
        self.outbox_bytes += copy.len();
        self.outbox.push_back((key, copy));
        PageState(state.0 & !FROZEN | COPIED)
    }

    /// A sequence page was dropped that is stored, or will be by the checkpoint under way.
    pub fn drop_at_freeze(&mut self, number: u64) {
        self.dropped.push(number);
    }

    pub fn outbox_bytes(&self) -> usize {
        self.outbox_bytes
    }

    pub fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    /// What recovery found is what was frozen last.
    pub fn set_recovered(&mut self, scalars: Scalars) {
        self.scalars = scalars;
    }
}

/// How much a checkpoint has before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// Data pages that are frozen and not handed out yet.
    pub pages: usize,
}

impl StreamIndex {
    /// True if a checkpoint would write something.
    pub fn is_dirty(&self) -> bool {
        let c = &self.checkpoint;
        !c.dirty.is_empty()
            || c.head_dirty
            || !c.dropped.is_empty()
            || c.scalars != self.scalars()
            || self.directory.head.is_none()
    }

    /// True from [`StreamIndex::freeze`] until the head is stored.
    pub fn is_checkpointing(&self) -> bool {
        self.checkpoint.phase != Phase::Idle
    }

    /// Starts a checkpoint of the state as it is now. `None` if nothing changed since the last one.
    ///
    /// # Panics
    /// If a checkpoint of this stream is under way.
    pub fn freeze(&mut self) -> Option<Frozen> {
        assert!(!self.is_checkpointing(), "one checkpoint at a time");
        if !self.is_dirty() {
            return None;
        }
        self.checkpoint.scalars = self.scalars();
        self.checkpoint.head_dirty = false;
        self.checkpoint.phase = Phase::Pages;
        let mut dirty = std::mem::take(&mut self.checkpoint.dirty);
        for key in dirty.drain(..) {
            // A dirty page may have been dropped since.
            if let Some(state) = self.page_state(key).filter(|s| s.is_dirty()) {
                *state = PageState(state.0 & !DIRTY | FROZEN);
                self.checkpoint.frozen.push_back(key);
            }
        }
        self.checkpoint.dirty = dirty;
        let released = &mut self.checkpoint.released;
        let first = self.first_seq;
        self.directory.drop_below(PageKind::Sequences, first / SEQUENCES_PER_PAGE, released);
        self.directory.drop_below(PageKind::Deleted, first / DELETED_PER_PAGE, released);
        for number in self.checkpoint.dropped.drain(..) {
            self.directory.remove(PageKey::new(PageKind::Sequences, number), released);
        }
        Some(Frozen { pages: self.checkpoint.frozen.len() })
    }

    /// Writes the next page of the checkpoint into `out` (whose content is replaced). Its place
    /// must be told with [`StreamIndex::stored`] before the next call. `None` when the checkpoint
    /// is complete, which is after the head.
    ///
    /// # Panics
    /// If the place of the page before was not told.
    pub fn next_frozen(&mut self, out: &mut Vec<u8>) -> Option<PageKey> {
        assert!(self.checkpoint.awaited.is_none(), "a page handed out must be stored first");
        out.clear();
        let key = self.next_page(out)?;
        self.checkpoint.awaited = Some(key);
        Some(key)
    }

    fn next_page(&mut self, out: &mut Vec<u8>) -> Option<PageKey> {
        if self.checkpoint.phase == Phase::Idle {
            return None;
        }
        if let Some((key, copy)) = self.checkpoint.outbox.pop_front() {
            self.checkpoint.outbox_bytes -= copy.len();
            out.extend_from_slice(&copy);
            return Some(key);
        }
        while let Some(key) = self.checkpoint.frozen.pop_front() {
            // What is no longer frozen, or dropped, went through the outbox.
            if self.page_state(key).is_some_and(|s| s.0 & FROZEN != 0) {
                self.encode_page(key, out);
                if let Some(state) = self.page_state(key) {
                    *state = PageState(state.0 & !FROZEN | COPIED);
                }
                return Some(key);
            }
        }
        if self.checkpoint.phase == Phase::Pages {
            let chunks = self.directory.chunks.iter().rev();
            let dirty = chunks.filter(|(_, chunk)| chunk.dirty).map(|(&key, _)| key).collect();
            self.checkpoint.phase = Phase::Directory(dirty);
        }
        if let Phase::Directory(keys) = &mut self.checkpoint.phase {
            if let Some(key) = keys.pop() {
                if let Some(chunk) = self.directory.chunks.get_mut(&key) {
                    chunk.dirty = false;
                    codec::encode_directory(key, &chunk.slots, out);
                }
                return Some(key);
            }
            self.checkpoint.phase = Phase::Head;
        }
        let scalars = self.checkpoint.scalars;
        codec::encode_head(&scalars, &self.directory.chunk_locations, out);
        Some(PageKey::HEAD)
    }

    /// Takes dropped pages out of the list of dirty ones now and then, for streams that are never
    /// checkpointed.
    pub(super) fn trim_dirty(&mut self) {
        let limit = self.checkpoint.dirty_limit.max(DIRTY_LISTED_MIN);
        if self.checkpoint.dirty_len() < limit {
            return;
        }
        let mut dirty = std::mem::take(&mut self.checkpoint.dirty);
        dirty.retain(|&key| self.page_state(key).is_some_and(|s| s.is_dirty()));
        self.checkpoint.dirty_limit = dirty.len() * 2;
        self.checkpoint.dirty = dirty;
    }

    fn encode_page(&mut self, key: PageKey, out: &mut Vec<u8>) {
        match key.kind {
            PageKind::Sequences => {
                if let Some(page) = self.sequences.get(key.number) {
                    codec::encode_sequences(key.number, page, out);
                }
            }
            PageKind::Deleted => {
                if let Some(page) = self.deleted.pages.get(&key.number) {
                    codec::encode_deleted(key.number, page, out);
                }
            }
            _ => {
                if let Some(page) = self.subjects.pages.get(key.number as usize) {
                    codec::encode_subjects(key.number, page, out);
                }
            }
        }
    }

    /// Tells where the page that was handed out last went. Answers the place of the version it
    /// replaces, which is dead when this checkpoint's root is durable.
    ///
    /// # Panics
    /// If `key` is not that page.
    pub fn stored(&mut self, key: PageKey, position: Position, len: u32) -> Option<Location> {
        assert_eq!(self.checkpoint.awaited.take(), Some(key), "the page handed out last");
        assert!(len > 0, "a page has a length");
        if let Some(state) = self.page_state(key) {
            *state = PageState(state.0 & !COPIED);
        }
        if key.kind == PageKind::Head {
            self.checkpoint.phase = Phase::Idle;
        }
        self.directory.set(key, Location { position, len })
    }

    /// A page record was relocated: from now on it is at `to`. False if its current version is not
    /// at `from`. The old place may be freed when a checkpoint that starts after this call is
    /// durable. The head's own place is in the caller's root.
    pub fn page_moved(&mut self, key: PageKey, from: Position, to: Position) -> bool {
        let Some(location) = self.directory.get(key).filter(|l| l.position == from) else {
            return false;
        };
        self.directory.set(key, Location { position: to, len: location.len });
        self.checkpoint.head_dirty |= key.kind != PageKind::Head;
        true
    }

    /// Places of pages that the checkpoint under way (or the next one) no longer needs; they are
    /// dead when its root is durable.
    pub fn take_released(&mut self) -> Vec<Location> {
        std::mem::take(&mut self.checkpoint.released)
    }

    /// What `take_released` would answer.
    pub fn released(&self) -> &[Location] {
        &self.checkpoint.released
    }

    /// Where the stored version of a page lies.
    pub fn location(&self, key: PageKey) -> Option<Location> {
        self.directory.get(key)
    }

    /// Every stored page of the stream, head included.
    pub fn locations(&self) -> impl Iterator<Item = (PageKey, Location)> + '_ {
        self.directory.locations()
    }

    fn page_state(&mut self, key: PageKey) -> Option<&mut PageState> {
        match key.kind {
            PageKind::Sequences => self.sequences.state_mut(key.number),
            PageKind::Deleted => self.deleted.pages.get_mut(&key.number).map(|p| &mut p.state),
            PageKind::Subjects => {
                self.subjects.pages.get_mut(key.number as usize).map(|p| &mut p.state)
            }
            _ => None,
        }
    }
}
