//! Building an index from its stored pages.

use super::codec;
use super::directory::Chunk;
use super::sequences::{SequencePage, slot_of};
use super::{Corrupt, IndexConfig, Location, PageKey, PageKind, SEQUENCES_PER_PAGE, StreamIndex};
use crate::types::Position;
use std::collections::BTreeMap;

/// What a recovery still has to load before the index can be used.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    missing: BTreeMap<PageKey, Location>,
}

impl StreamIndex {
    /// Starts from a stored head. The pages that [`StreamIndex::pages_to_load`] names must be
    /// loaded before the index is used; then what was appended and removed since the freeze is
    /// replayed. The sequence and history settings are the head's.
    pub fn recover(config: IndexConfig, head: &[u8]) -> Result<StreamIndex, Corrupt> {
        let (scalars, directory) = codec::decode_head(head)?;
        let first_seq = scalars.first_seq;
        let track_history = scalars.track_history;
        let mut index = StreamIndex::new(IndexConfig { first_seq, track_history, ..config });
        index.last_seq = scalars.last_seq;
        index.messages = scalars.messages;
        index.bytes = scalars.bytes;
        index.live_sum = scalars.live_sum;
        index.sequences.open(scalars.last_seq + 1);
        index.recovery.missing = directory.clone();
        index.directory.chunk_locations = directory;
        index.checkpoint.set_recovered(scalars);
        if index.recovery.missing.is_empty() {
            index.finish_recovery()?;
        }
        Ok(index)
    }

    /// Tells where the head that [`StreamIndex::recover`] was given lies.
    pub fn set_head_location(&mut self, location: Location) {
        self.directory.head = Some(location);
    }

    /// True until all pages that have to be resident are loaded.
    pub fn is_recovering(&self) -> bool {
        !self.recovery.missing.is_empty()
    }

    /// The pages that must be loaded before the index can be used, with their places. Loading them
    /// may name others: ask again until there are none.
    pub fn pages_to_load(&self) -> impl Iterator<Item = (PageKey, Location)> + '_ {
        self.recovery.missing.iter().map(|(&key, &location)| (key, location))
    }

    /// Takes a page that was read at `from`: one that a recovery waits for, or one that an answer
    /// said is needed. Nothing happens if the page is resident already, or if its current version
    /// is elsewhere by now (the read was overtaken by a checkpoint or a relocation: whoever needs
    /// the page asks for it again).
    pub fn load_page(&mut self, key: PageKey, from: Position, bytes: &[u8]) -> Result<(), Corrupt> {
        if self.directory.get(key).is_none_or(|l| l.position != from) {
            return Ok(());
        }
        let awaited = self.recovery.missing.contains_key(&key);
        match key.kind {
            PageKind::Sequences if !awaited => return self.load_sequences(key.number, bytes),
            _ if !awaited => return Ok(()),
            PageKind::Sequences => {
                let page = codec::decode_sequences(key.number, bytes)?;
                if page.end() != slot_of(self.last_seq) + 1 {
                    return Err(Corrupt { key, what: "does not end at the last sequence" });
                }
                self.sequences.tail_number = key.number;
                self.sequences.tail = page;
            }
            PageKind::Deleted => {
                let page = codec::decode_deleted(key.number, bytes)?;
                self.deleted.pages.insert(key.number, page);
            }
            PageKind::Subjects => {
                let page = codec::decode_subjects(key.number, bytes)?;
                let pages = &mut self.subjects.pages;
                let at = key.number as usize;
                if pages.len() <= at {
                    pages.resize_with(at + 1, Default::default);
                }
                pages[at] = page;
            }
            PageKind::Head => return Ok(()),
            _ => self.load_chunk(key, bytes)?,
        }
        self.recovery.missing.remove(&key);
        if self.recovery.missing.is_empty() { self.finish_recovery() } else { Ok(()) }
    }

    /// A directory page: what it locates and has to be resident is missing from now on.
    fn load_chunk(&mut self, key: PageKey, bytes: &[u8]) -> Result<(), Corrupt> {
        let slots = codec::decode_directory(key, bytes)?;
        self.directory.chunks.insert(key, Chunk { slots, dirty: false });
        let Some(kind) = key.kind.located() else { return Ok(()) };
        let chunk = &self.directory.chunks[&key];
        let base = key.number * super::LOCATIONS_PER_PAGE;
        let tail = PageKey::of_sequence(self.last_seq);
        let tail_is_open =
            self.messages > 0 && !(self.last_seq + 1).is_multiple_of(SEQUENCES_PER_PAGE);
        for (slot, &location) in chunk.slots.iter().enumerate().filter(|(_, l)| l.len > 0) {
            let page = PageKey::new(kind, base + slot as u64);
            if kind != PageKind::Sequences || (page == tail && tail_is_open) {
                self.recovery.missing.insert(page, location);
            }
        }
        Ok(())
    }

    fn finish_recovery(&mut self) -> Result<(), Corrupt> {
        let bad = |what| Err(Corrupt { key: PageKey::HEAD, what });
        let subjects = &mut self.subjects;
        let full = super::SUBJECTS_PER_PAGE as usize;
        let ahead = subjects.pages.len().saturating_sub(1);
        if subjects.pages.iter().take(ahead).any(|p| p.entries.len() != full) {
            return bad("a subject page is missing or short");
        }
        let counted = subjects.pages.iter().flat_map(|p| &p.entries).map(|e| e.count);
        if counted.fold(0u64, u64::saturating_add) != self.messages {
            return bad("subjects and messages differ");
        }
        if !subjects.rebuild() {
            return bad("a subject appears twice");
        }
        if self.count_live(self.first_seq, self.last_seq + 1) != self.messages {
            return bad("deleted sequences and messages differ");
        }
        self.drop_stored_holes();
        let open = self.messages > 0 && !(self.last_seq + 1).is_multiple_of(SEQUENCES_PER_PAGE);
        if open {
            let number = self.last_seq / SEQUENCES_PER_PAGE;
            return self.check_covers(number, &self.sequences.tail);
        }
        Ok(())
    }

    /// Earlier versions kept pages in which nothing lives: the next checkpoint gives them back.
    fn drop_stored_holes(&mut self) {
        let stored = self.directory.locations().map(|(key, _)| key);
        let below_tail = self.sequences.tail_number;
        let dead: Vec<u64> = stored
            .filter(|key| key.kind == PageKind::Sequences && key.number < below_tail)
            .map(|key| key.number)
            .filter(|&number| {
                let base = number * SEQUENCES_PER_PAGE;
                self.count_live(base, base + SEQUENCES_PER_PAGE) == 0
            })
            .collect();
        dead.into_iter().for_each(|number| self.checkpoint.drop_at_freeze(number));
    }

    fn load_sequences(&mut self, number: u64, bytes: &[u8]) -> Result<(), Corrupt> {
        let last = self.last_seq / SEQUENCES_PER_PAGE;
        let base = number * SEQUENCES_PER_PAGE;
        let is_dead = number > last || self.count_live(base, base + SEQUENCES_PER_PAGE) == 0;
        if self.sequences.is_resident(number) || is_dead {
            return Ok(());
        }
        let page = codec::decode_sequences(number, bytes)?;
        self.check_covers(number, &page)?;
        page.referenced.set(true);
        self.sequences.insert(number, page);
        self.compact_loaded(number);
        Ok(())
    }

    /// A page must hold every live sequence of its range, each with a subject in use.
    fn check_covers(&self, number: u64, page: &SequencePage) -> Result<(), Corrupt> {
        let base = number * SEQUENCES_PER_PAGE;
        let mut seq = base.max(self.first_seq);
        let end = (base + SEQUENCES_PER_PAGE - 1).min(self.last_seq);
        while let Some(live) = self.deleted.next_live(seq, end) {
            let entry = page.get(slot_of(live));
            if entry.is_none_or(|e| self.subjects.get(e.subject).is_none()) {
                let key = PageKey::new(PageKind::Sequences, number);
                return Err(Corrupt { key, what: "a live sequence has no entry or no subject" });
            }
            seq = live + 1;
        }
        Ok(())
    }
}
