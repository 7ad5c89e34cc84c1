//! The log of a group that keeps nothing on disk: entries stay in memory until they are applied.

use std::collections::VecDeque;

use corelane_storage::record::RecordIn;

use crate::shard::groups::Place;

/// An entry of so many bytes is full.
const ENTRY_BYTES: usize = 256 << 10;
/// A buffer larger than this is not used again.
const SPARE_BYTES_MAX: usize = 4 * ENTRY_BYTES;
/// Buffers to be used again at most.
const SPARES_MAX: usize = 8;

/// Entries that are open or sealed and not applied.
#[derive(Debug)]
pub struct MemoryLog {
    open: Vec<u8>,
    records: u32,
    /// The number that the open entry gets.
    write: u64,
    sealed: VecDeque<Vec<u8>>,
    /// Buffers to be used again.
    spares: Vec<Vec<u8>>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        MemoryLog {
            open: Vec::new(),
            records: 0,
            write: 1,
            sealed: VecDeque::new(),
            spares: Vec::new(),
        }
    }
}

impl MemoryLog {
    /// Appends a record. Answers its place and padded bytes; `None` if it cannot be encoded.
    pub fn append(&mut self, record: &RecordIn<'_>) -> Option<(Place, u32)> {
        let before = self.open.len();
        if !record.append_to(&mut self.open) {
            return None;
        }
        let place = Place { write: self.write, nth: self.records };
        self.records += 1;
        Some((place, (self.open.len() - before) as u32))
    }

    /// Whether the open entry is to be sealed before more is appended.
    pub fn is_full(&self) -> bool {
        self.open.len() >= ENTRY_BYTES
    }

    /// Whether nothing was appended since the last entry was sealed.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Seals the open entry. Answers its number, bytes and records; `None` if it is empty.
    pub fn seal(&mut self) -> Option<(u64, u32, u32)> {
        if self.records == 0 {
            return None;
        }
        let bytes = std::mem::replace(&mut self.open, self.spares.pop().unwrap_or_default());
        let sealed = (self.write, bytes.len() as u32, std::mem::take(&mut self.records));
        self.sealed.push_back(bytes);
        self.write += 1;
        Some(sealed)
    }

    /// The bytes of a sealed entry.
    pub fn entry_bytes(&self, write: u64) -> Option<&[u8]> {
        let first = self.write - self.sealed.len() as u64;
        let nth = usize::try_from(write.checked_sub(first)?).ok()?;
        self.sealed.get(nth).map(Vec::as_slice)
    }

    /// The oldest entry, this one, is applied.
    pub fn release(&mut self, write: u64) {
        debug_assert_eq!(write, self.write - self.sealed.len() as u64);
        if let Some(mut bytes) = self.sealed.pop_front()
            && bytes.capacity() <= SPARE_BYTES_MAX
            && self.spares.len() < SPARES_MAX
        {
            bytes.clear();
            self.spares.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_storage::record::{MetaIn, RecordView};

    #[test]
    fn entries_are_there_until_they_are_applied() {
        let mut log = MemoryLog::default();
        let body = [1, 2, 3];
        let record =
            |id| RecordIn::Meta(MetaIn { kind: 1, stream: 2, id, body: &body, relocated: false });
        assert_eq!(log.seal(), None);
        assert_eq!(log.append(&record(7)), Some((Place { write: 1, nth: 0 }, 40)));
        assert_eq!(log.append(&record(8)), Some((Place { write: 1, nth: 1 }, 40)));
        assert!(log.entry_bytes(1).is_none());
        assert_eq!(log.seal(), Some((1, 80, 2)));
        assert_eq!(log.append(&record(9)), Some((Place { write: 2, nth: 0 }, 40)));
        assert_eq!(log.seal(), Some((2, 40, 1)));
        let id = |bytes: &[u8]| RecordView::decode(bytes).unwrap().meta().unwrap().id;
        assert_eq!(id(log.entry_bytes(1).unwrap()), 7);
        assert_eq!(id(&log.entry_bytes(1).unwrap()[40..]), 8);
        log.release(1);
        assert!(log.entry_bytes(1).is_none());
        assert_eq!(id(log.entry_bytes(2).unwrap()), 9);
        log.release(2);
        assert!(log.is_empty());
    }
}
