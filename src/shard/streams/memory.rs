//! The messages of a memory stream: the same records as in the log, kept in memory alone.

use std::collections::VecDeque;

/// Encoded records by sequence.
#[derive(Debug, Default)]
pub struct MemoryStore {
    first: u64,
    records: VecDeque<Option<Message>>,
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

impl MemoryStore {
    /// Keeps a message. Sequences only grow.
    pub fn insert(&mut self, seq: u64, message: Message) {
        if self.records.is_empty() {
            self.first = seq;
        }
        let slot = (seq - self.first) as usize;
        debug_assert!(slot >= self.records.len());
        while self.records.len() < slot {
            self.records.push_back(None);
        }
        self.records.push_back(Some(message));
    }

    /// The message at `seq`.
    pub fn get(&self, seq: u64) -> Option<&Message> {
        let slot = seq.checked_sub(self.first)?;
        self.records.get(usize::try_from(slot).ok()?)?.as_ref()
    }

    /// Drops the message at `seq`.
    pub fn remove(&mut self, seq: u64) {
        let Some(slot) = seq.checked_sub(self.first) else { return };
        if let Some(r) = self.records.get_mut(slot as usize) {
            *r = None;
        }
        while let Some(None) = self.records.front() {
            self.records.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_until_removed() {
        let mut s = MemoryStore::default();
        for seq in [3u64, 4, 7] {
            s.insert(seq, Message::new(seq as i64, b"a.b", b"NATS/1.0\r\n\r\n", b"x"));
        }
        assert!(s.get(2).is_none() && s.get(5).is_none() && s.get(8).is_none());
        let m = s.get(7).unwrap();
        assert_eq!(
            (m.subject(), m.headers(), m.payload(), m.ts),
            (&b"a.b"[..], &b"NATS/1.0\r\n\r\n"[..], &b"x"[..], 7)
        );
        s.remove(3);
        s.remove(4);
        assert_eq!(s.first, 7);
        s.remove(7);
        s.insert(9, Message::new(0, b"a", b"", b""));
        assert!(s.get(9).is_some());
    }
}
