//! A first-in first-out queue of byte strings in one buffer: replies and small bodies that wait for
//! durability.

/// Bytes pushed at one end and popped at the other. The caller remembers lengths.
#[derive(Debug, Default)]
pub struct ByteQueue {
    buffer: Vec<u8>,
    head: usize,
}

impl ByteQueue {
    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The first `len` bytes.
    pub fn front(&self, len: usize) -> &[u8] {
        &self.buffer[self.head..self.head + len]
    }

    /// Drops the first `len` bytes.
    pub fn pop(&mut self, len: usize) {
        self.head += len;
        assert!(self.head <= self.buffer.len(), "popped more than was pushed");
        if self.head == self.buffer.len() {
            self.buffer.clear();
            self.head = 0;
        } else if self.head > 1 << 16 && self.head * 2 > self.buffer.len() {
            self.buffer.drain(..self.head);
            self.head = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_out_in_order() {
        let mut q = ByteQueue::default();
        let mut expected = std::collections::VecDeque::new();
        for round in 0..20_000u32 {
            let text = vec![round as u8; (round % 97) as usize];
            q.push(&text);
            expected.push_back(text);
            if round % 3 != 0 {
                let want = expected.pop_front().unwrap();
                assert_eq!(q.front(want.len()), &want[..]);
                q.pop(want.len());
            }
        }
        while let Some(want) = expected.pop_front() {
            assert_eq!(q.front(want.len()), &want[..]);
            q.pop(want.len());
        }
        assert!(q.buffer.is_empty());
    }
}
