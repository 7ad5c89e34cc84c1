//! The directory of a stream's pages: where the stored version of each lies, itself cut into pages
//! of 512 locations.

use super::{LOCATIONS_PER_PAGE, Location, PageKey, PageKind};
use std::collections::BTreeMap;

/// Locations of 512 pages of one kind. A length of 0 is no location.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub slots: Vec<Location>,
    pub dirty: bool,
}

/// All locations of one stream.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub chunks: BTreeMap<PageKey, Chunk>,
    /// Where the directory's own pages lie.
    pub chunk_locations: BTreeMap<PageKey, Location>,
    /// Where the head lies.
    pub head: Option<Location>,
}

fn chunk_of(key: PageKey) -> Option<(PageKey, usize)> {
    let kind = key.kind.directory()?;
    let slot = (key.number % LOCATIONS_PER_PAGE) as usize;
    Some((PageKey::new(kind, key.number / LOCATIONS_PER_PAGE), slot))
}

impl Directory {
    pub fn get(&self, key: PageKey) -> Option<Location> {
        if key.kind == PageKind::Head {
            return self.head;
        }
        let Some((chunk, slot)) = chunk_of(key) else {
            return self.chunk_locations.get(&key).copied();
        };
        self.chunks.get(&chunk)?.slots.get(slot).copied().filter(|l| l.len > 0)
    }

    /// Sets a location and answers the former one.
    pub fn set(&mut self, key: PageKey, location: Location) -> Option<Location> {
        if key.kind == PageKind::Head {
            return self.head.replace(location);
        }
        let Some((chunk, slot)) = chunk_of(key) else {
            return self.chunk_locations.insert(key, location);
        };
        let chunk = self.chunks.entry(chunk).or_default();
        chunk.dirty = true;
        if chunk.slots.len() <= slot {
            chunk.slots.resize(slot + 1, Location::default());
        }
        let old = std::mem::replace(&mut chunk.slots[slot], location);
        (old.len > 0).then_some(old)
    }

    /// Forgets a data page; its location goes to `released`, with that of its directory page if
    /// nothing else is in it.
    pub fn remove(&mut self, key: PageKey, released: &mut Vec<Location>) {
        let Some((chunk_key, slot)) = chunk_of(key) else { return };
        let Some(chunk) = self.chunks.get_mut(&chunk_key) else { return };
        let Some(location) = chunk.slots.get_mut(slot).filter(|l| l.len > 0) else { return };
        released.push(std::mem::take(location));
        chunk.dirty = true;
        if chunk.slots.iter().all(|l| l.len == 0) {
            self.chunks.remove(&chunk_key);
            released.extend(self.chunk_locations.remove(&chunk_key));
        }
    }

    /// Forgets the pages of `kind` below `number`; their locations go to `released`. True if there
    /// was one.
    pub fn drop_below(
        &mut self,
        kind: PageKind,
        number: u64,
        released: &mut Vec<Location>,
    ) -> bool {
        let Some(chunk_kind) = kind.directory() else { return false };
        let before = released.len();
        let (bound, slot) = (number / LOCATIONS_PER_PAGE, number % LOCATIONS_PER_PAGE);
        let low = PageKey::new(chunk_kind, 0);
        while let Some((&key, _)) = self.chunks.range(low..PageKey::new(chunk_kind, bound)).next() {
            if let Some(chunk) = self.chunks.remove(&key) {
                released.extend(chunk.slots.into_iter().filter(|l| l.len > 0));
            }
            released.extend(self.chunk_locations.remove(&key));
        }
        let key = PageKey::new(chunk_kind, bound);
        if let Some(chunk) = self.chunks.get_mut(&key) {
            for location in chunk.slots.iter_mut().take(slot as usize).filter(|l| l.len > 0) {
                released.push(std::mem::take(location));
                chunk.dirty = true;
            }
        }
        released.len() > before
    }

    /// Every location there is.
    pub fn locations(&self) -> impl Iterator<Item = (PageKey, Location)> + '_ {
        let pages = self.chunks.iter().flat_map(|(key, chunk)| {
            let kind = key.kind.located().unwrap_or(PageKind::Head);
            let base = key.number * LOCATIONS_PER_PAGE;
            let slots = chunk.slots.iter().enumerate().filter(|(_, l)| l.len > 0);
            slots.map(move |(slot, &l)| (PageKey::new(kind, base + slot as u64), l))
        });
        let chunks = self.chunk_locations.iter().map(|(&key, &location)| (key, location));
        pages.chain(chunks).chain(self.head.map(|l| (PageKey::HEAD, l)))
    }

    pub fn resident_bytes(&self) -> usize {
        let slots: usize = self.chunks.values().map(|c| c.slots.capacity() * 12 + 64).sum();
        slots + self.chunk_locations.len() * 40
    }
}
