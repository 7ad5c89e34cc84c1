//! The messages of a memory stream: the same records as in the log, kept in memory alone.
//!
//! They lie in chunks of neighbouring sequences. A chunk in which nothing lives is dropped, and one
//! in which little lives is packed, so that what was removed takes no memory, whatever lives before
//! it.

use std::collections::BTreeMap;

/// Sequences of one chunk.
const CHUNK: u64 = 1024;
/// A chunk of which at most one slot in so many is used is packed.
const PACK_SHARE: usize = 4;

/// Messages by sequence.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// Number of the open chunk: the one that took the last message.
    open_number: u64,
    open: Chunk,
    /// The others, all below it.
    closed: BTreeMap<u64, Chunk>,
}

/// Messages of neighbouring sequences.
#[derive(Debug, Default)]
struct Chunk {
    /// The slot of the first record, if the chunk is not packed.
    start: u16,
    /// The slots of the records of a packed chunk, ascending; empty in others.
    slots: Vec<u16>,
    records: Vec<Option<Message>>,
    live: usize,
}

impl Chunk {
    fn place(&self, slot: u16) -> Option<usize> {
        if self.slots.is_empty() {
            return Some(usize::from(slot.checked_sub(self.start)?));
        }
        self.slots.binary_search(&slot).ok()
    }

    fn get(&self, slot: u16) -> Option<&Message> {
        self.records.get(self.place(slot)?)?.as_ref()
    }

    /// Appends to a chunk that is not packed.
    fn push(&mut self, slot: u16, message: Message) {
        if self.records.is_empty() {
            self.start = slot;
        }
        let place = usize::from(slot - self.start);
        debug_assert!(place >= self.records.len(), "sequences rise");
        self.records.resize_with(place, || None);
        self.records.push(Some(message));
        self.live += 1;
    }

    fn remove(&mut self, slot: u16) {
        let record = self.place(slot).and_then(|place| self.records.get_mut(place));
        if record.and_then(Option::take).is_some() {
            self.live -= 1;
        }
    }

    /// Whether it is to be packed.
    fn is_mostly_empty(&self) -> bool {
        self.records.len() > self.live && self.live * PACK_SHARE <= self.records.len()
    }

    fn pack(&mut self) {
        let mut slots = Vec::with_capacity(self.live);
        let mut records = Vec::with_capacity(self.live);
        for (place, record) in std::mem::take(&mut self.records).into_iter().enumerate() {
            if record.is_some() {
                let packed = self.slots.get(place).copied();
                slots.push(packed.unwrap_or(self.start + place as u16));
                records.push(record);
            }
        }
        (self.slots, self.records) = (slots, records);
    }
}

/// One message of a memory stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// When it was stored, in nanoseconds since the epoch.
    pub ts: i64,
    subject_len: u32,
    headers_len: u32,
    bytes: Box<[u8]>,
}

impl Message {
    /// Copies a message.
    pub fn new(ts: i64, subject: &[u8], headers: &[u8], payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(subject.len() + headers.len() + payload.len());
        bytes.extend_from_slice(subject);
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(payload);
        Message {
            ts,
            subject_len: subject.len() as u32,
            headers_len: headers.len() as u32,
            bytes: bytes.into(),
        }
    }

    /// Its subject.
    pub fn subject(&self) -> &[u8] {
        &self.bytes[..self.subject_len as usize]
    }

    /// Its header block, or empty.
    pub fn headers(&self) -> &[u8] {
        let start = self.subject_len as usize;
        &self.bytes[start..start + self.headers_len as usize]
    }

    /// Its payload.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[(self.subject_len + self.headers_len) as usize..]
    }
}

fn split(seq: u64) -> (u64, u16) {
    (seq / CHUNK, (seq % CHUNK) as u16)
}

impl MemoryStore {
    /// Keeps a message. Sequences only grow.
    pub fn insert(&mut self, seq: u64, message: Message) {
        let (number, slot) = split(seq);
        if number != self.open_number {
            let mut closed = std::mem::take(&mut self.open);
            let before = std::mem::replace(&mut self.open_number, number);
            if closed.live > 0 {
                // Most of it may have been removed while it was open.
                if closed.is_mostly_empty() {
                    closed.pack();
                }
                self.closed.insert(before, closed);
            }
        }
        self.open.push(slot, message);
    }

    /// The message at `seq`.
    pub fn get(&self, seq: u64) -> Option<&Message> {
        let (number, slot) = split(seq);
        match number == self.open_number {
            true => self.open.get(slot),
            false => self.closed.get(&number)?.get(slot),
        }
    }

    /// Drops the message at `seq`.
    pub fn remove(&mut self, seq: u64) {
        let (number, slot) = split(seq);
        if number == self.open_number {
            return self.open.remove(slot);
        }
        let Some(chunk) = self.closed.get_mut(&number) else { return };
        chunk.remove(slot);
        if chunk.live == 0 {
            self.closed.remove(&number);
        } else if chunk.is_mostly_empty() {
            chunk.pack();
        }
    }

    /// The first sequence of a chunk that takes more memory than what lives in it explains.
    pub fn find_waste(&self) -> Option<u64> {
        let wasteful = |(_, chunk): &(&u64, &Chunk)| chunk.live == 0 || chunk.is_mostly_empty();
        let chunk = self.closed.iter().find(wasteful);
        chunk.map(|(number, _)| number * CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64) -> Message {
        Message::new(seq as i64, b"a.b", b"NATS/1.0\r\n\r\n", b"x")
    }

    #[test]
    fn messages_come_back_until_removed() {
        let mut s = MemoryStore::default();
        for seq in [3u64, 4, 7, 2000] {
            s.insert(seq, message(seq));
        }
        assert!([2, 5, 8, 1999, 2001, 5000].iter().all(|&seq| s.get(seq).is_none()));
        let m = s.get(7).unwrap();
        assert_eq!(
            (m.subject(), m.headers(), m.payload(), m.ts),
            (&b"a.b"[..], &b"NATS/1.0\r\n\r\n"[..], &b"x"[..], 7)
        );
        for seq in [3, 4, 7, 7, 2] {
            s.remove(seq);
            assert!(s.get(seq).is_none());
        }
        assert!(s.closed.is_empty() && s.get(2000).is_some());
        s.remove(2000);
        s.insert(2002, message(2002));
        assert!(s.get(2002).is_some() && s.get(2000).is_none());
    }

    /// Against a map, with removals in any order.
    #[test]
    fn what_lives_is_there_and_nothing_else() {
        let mut s = MemoryStore::default();
        let mut map = BTreeMap::new();
        let mut random = 1u64;
        let mut next = 0;
        for n in 0..200_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let r = random >> 33;
            if r.is_multiple_of(2) {
                next += if r.is_multiple_of(1_000) { 3_000 } else { 1 };
                s.insert(next, message(next));
                map.insert(next, next as i64);
            } else if n < 150_000 || !r.is_multiple_of(8) {
                // Old ones and recent ones.
                let from = if r.is_multiple_of(3) {
                    r % (next + 1)
                } else {
                    next.saturating_sub(r % 5_000)
                };
                if let Some((&seq, _)) = map.range(from..).next() {
                    s.remove(seq);
                    map.remove(&seq);
                }
            }
        }
        for seq in 0..next + 2 {
            assert_eq!(s.get(seq).map(|m| m.ts), map.get(&seq).copied(), "{seq}");
        }
        assert_eq!(s.find_waste(), None);
        let slots: usize = s.closed.values().map(|c| c.records.len()).sum();
        assert!(slots <= map.len() * PACK_SHARE, "{slots} slots for {}", map.len());
    }

    #[test]
    fn one_old_message_holds_nothing_else() {
        let mut s = MemoryStore::default();
        s.insert(1, message(1));
        for seq in 2..100_000 {
            s.insert(seq, message(seq));
            if seq > 2 {
                s.remove(seq - 1);
            }
        }
        assert_eq!((s.closed.len(), s.find_waste()), (1, None));
        assert!(s.closed.values().all(|chunk| chunk.records.len() <= PACK_SHARE));
    }
}
