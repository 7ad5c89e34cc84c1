//! Bytes on their way to a client: one chunk that the kernel sends, full ones behind it, and one
//! that is being filled.

use std::collections::VecDeque;

/// A chunk of so many bytes is full: about what a turn delivers, since a turn sends one of each
/// connection.
const CHUNK_BYTES: usize = 2 << 20;
/// Room in a chunk behind that, so that the last of small messages does not make it grow.
const CHUNK_MARGIN: usize = 16 << 10;
/// Buffers kept for reuse at most.
const SPARES_MAX: usize = 256;
/// Buffers larger than this are not kept.
const SPARE_BYTES_MAX: usize = 3 * CHUNK_BYTES;
/// Heap bytes kept in spare buffers at most, or what one slow reader has pending if that is less.
const SPARE_BYTES_SUM_MAX: usize = 48 << 20;
/// So much is kept however long it is not used.
const SPARE_BYTES_AT_REST: usize = 1 << 20;

/// Buffers between two uses, so that connections at rest hold none and busy ones allocate none.
#[derive(Debug)]
pub struct Spares {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
    /// What was not in use at any time since the last `trim`.
    least: usize,
}

impl Default for Spares {
    fn default() -> Self {
        Spares { buffers: Vec::new(), bytes: 0, bytes_max: SPARE_BYTES_SUM_MAX, least: 0 }
    }
}

impl Spares {
    /// None yet, for outbounds that hold up to `max_pending` bytes.
    pub fn for_outbounds(max_pending: usize) -> Self {
        let bytes_max = max_pending.saturating_add(2 * CHUNK_BYTES).min(SPARE_BYTES_SUM_MAX);
        Spares { bytes_max, ..Spares::default() }
    }

    /// An empty buffer.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        match self.buffers.pop() {
            Some(buffer) => {
                self.bytes -= buffer.capacity();
                self.least = self.least.min(self.bytes);
                buffer
            }
            None => Vec::new(),
        }
    }

    /// Takes a buffer back; its contents are forgotten.
    #[inline]
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        let keep = bytes > 0
            && bytes <= SPARE_BYTES_MAX
            && self.buffers.len() < SPARES_MAX
            && self.bytes + bytes <= self.bytes_max;
        if keep {
            buffer.clear();
            self.bytes += bytes;
            self.buffers.push(buffer);
        }
    }

    /// Heap bytes held.
    pub fn heap_bytes(&self) -> usize {
        self.bytes
    }

    /// True if it holds more than it does at rest.
    pub fn is_large(&self) -> bool {
        self.bytes > SPARE_BYTES_AT_REST
    }

    /// Gives back what was not needed since the last call.
    pub fn trim(&mut self) {
        let mut unused = self.least;
        while self.is_large()
            && let Some(buffer) = self.buffers.pop_if(|b| b.capacity() <= unused)
        {
            unused -= buffer.capacity();
            self.bytes -= buffer.capacity();
        }
        self.least = self.bytes;
    }
}

/// The outbound of one connection. While a send is in flight, `sending` neither moves nor changes.
/// What is to be sent stands in chunks, so that the memory of a long one is not copied and cleared
/// as it grows, but used again.
#[derive(Debug, Default)]
pub struct Outbound {
    filling: Vec<u8>,
    /// Full chunks between the one that is being sent and the one that is being filled.
    full: VecDeque<Vec<u8>>,
    full_bytes: usize,
    sending: Vec<u8>,
    sent: usize,
    in_flight: bool,
    /// Bytes that ever came into `sending`.
    begun: u64,
}

impl Outbound {
    /// Where to append. Takes a spare buffer when there is none.
    #[inline]
    pub fn fill(&mut self, spares: &mut Spares) -> &mut Vec<u8> {
        if self.filling.len() >= CHUNK_BYTES {
            self.full_bytes += self.filling.len();
            self.full.push_back(std::mem::take(&mut self.filling));
            // Another one will be filled whole: it need not be copied as it grows.
            self.filling = spares.take();
            self.filling.reserve_exact(CHUNK_BYTES + CHUNK_MARGIN);
        } else if self.filling.capacity() == 0 {
            self.filling = spares.take();
        }
        &mut self.filling
    }

    /// Bytes that were not taken by the kernel yet.
    #[inline]
    pub fn pending(&self) -> usize {
        self.filling.len() + self.full_bytes + self.sending.len() - self.sent
    }

    /// Bytes that ever were filled in.
    pub fn filled(&self) -> u64 {
        self.begun + (self.full_bytes + self.filling.len()) as u64
    }

    /// The chunks that are not being sent yet, from the `from`th byte that was ever filled in on.
    pub fn filled_from(&self, from: u64) -> impl Iterator<Item = &[u8]> {
        let mut skip = from.saturating_sub(self.begun) as usize;
        self.full.iter().chain([&self.filling]).map(move |chunk| {
            let skipped = skip.min(chunk.len());
            skip -= skipped;
            &chunk[skipped..]
        })
    }

    /// Buffers with bytes that were not taken yet.
    pub fn chunks(&self) -> usize {
        let ends = [!self.filling.is_empty(), self.sent < self.sending.len()];
        self.full.len() + ends.into_iter().filter(|&there| there).count()
    }

    /// True while a send is in flight.
    pub fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// The bytes for the next send, or `None` if one is in flight or nothing is pending. They
    /// stay where they are until `complete`.
    pub fn start(&mut self, spares: &mut Spares) -> Option<&[u8]> {
        if self.in_flight {
            return None;
        }
        if self.sent == self.sending.len() {
            let next = match self.full.pop_front() {
                Some(chunk) => {
                    self.full_bytes -= chunk.len();
                    chunk
                }
                None if self.filling.is_empty() => return None,
                None => std::mem::take(&mut self.filling),
            };
            self.sent = 0;
            self.begun += next.len() as u64;
            spares.give(std::mem::replace(&mut self.sending, next));
        }
        self.in_flight = true;
        Some(&self.sending[self.sent..])
    }

    /// The send in flight took `bytes`. Returns whether there is more to send.
    pub fn complete(&mut self, bytes: usize, spares: &mut Spares) -> bool {
        self.in_flight = false;
        self.sent = (self.sent + bytes).min(self.sending.len());
        if self.sent < self.sending.len() {
            return true;
        }
        self.sent = 0;
        spares.give(std::mem::take(&mut self.sending));
        if !self.filling.is_empty() || !self.full.is_empty() {
            return true;
        }
        spares.give(std::mem::take(&mut self.filling));
        false
    }

    /// Forgets what was not handed to the kernel.
    pub fn discard(&mut self, spares: &mut Spares) {
        spares.give(std::mem::take(&mut self.filling));
        self.full_bytes = 0;
        for chunk in std::mem::take(&mut self.full) {
            spares.give(chunk);
        }
        if !self.in_flight {
            self.sent = 0;
            spares.give(std::mem::take(&mut self.sending));
        }
    }

    /// The buffer a send in flight still reads, to be kept until it completes.
    pub fn into_lent(mut self, spares: &mut Spares) -> Option<Vec<u8>> {
        self.discard(spares);
        self.in_flight.then_some(self.sending)
    }

    /// Heap bytes held.
    pub fn heap_bytes(&self) -> usize {
        let full: usize = self.full.iter().map(Vec::capacity).sum();
        self.filling.capacity() + full + self.sending.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_sends_keep_order_and_place() {
        let mut spares = Spares::default();
        let mut out = Outbound::default();
        out.fill(&mut spares).extend_from_slice(b"hello");
        let first = out.start(&mut spares).unwrap();
        assert_eq!(first, b"hello");
        let place = first.as_ptr();
        assert!(out.start(&mut spares).is_none());
        out.fill(&mut spares).extend_from_slice(b" world");
        assert_eq!(out.pending(), 11);
        assert!(out.complete(2, &mut spares));
        let rest = out.start(&mut spares).unwrap();
        assert_eq!(rest, b"llo");
        assert_eq!(rest.as_ptr(), place.wrapping_add(2));
        assert!(out.complete(3, &mut spares));
        assert_eq!(out.start(&mut spares).unwrap(), b" world");
        assert!(!out.complete(6, &mut spares));
        assert_eq!((out.pending(), out.heap_bytes()), (0, 0));
        assert!(spares.heap_bytes() > 0);
    }

    #[test]
    fn a_lent_buffer_survives_the_connection() {
        let mut spares = Spares::default();
        let mut out = Outbound::default();
        out.fill(&mut spares).extend_from_slice(b"a");
        out.start(&mut spares);
        out.fill(&mut spares).extend_from_slice(b"b");
        out.discard(&mut spares);
        assert_eq!(out.pending(), 1);
        assert_eq!(out.into_lent(&mut spares).as_deref(), Some(&b"a"[..]));
    }

    #[test]
    fn spares_that_are_not_used_are_given_back() {
        let mut spares = Spares::default();
        (0..16).for_each(|_| spares.give(Vec::with_capacity(CHUNK_BYTES)));
        // All of them were used since the last time, then half of them.
        spares.trim();
        assert_eq!(spares.heap_bytes(), 16 * CHUNK_BYTES);
        let used: Vec<_> = (0..8).map(|_| spares.take()).collect();
        used.into_iter().for_each(|buffer| spares.give(buffer));
        spares.trim();
        assert_eq!(spares.heap_bytes(), 8 * CHUNK_BYTES);
        assert!(spares.is_large());
        spares.trim();
        assert_eq!(spares.heap_bytes(), 0);
        // What connections at rest need stays.
        spares.give(Vec::with_capacity(SPARE_BYTES_AT_REST));
        (0..2).for_each(|_| spares.trim());
        assert_eq!((spares.heap_bytes(), spares.is_large()), (SPARE_BYTES_AT_REST, false));
    }

    #[test]
    fn no_more_is_kept_than_an_outbound_may_hold() {
        for (max_pending, kept) in [(16 << 20, 10), (1 << 30, 24)] {
            let mut spares = Spares::for_outbounds(max_pending);
            (0..40).for_each(|_| spares.give(Vec::with_capacity(CHUNK_BYTES)));
            assert_eq!(spares.heap_bytes(), kept * CHUNK_BYTES);
        }
    }

    #[test]
    fn full_chunks_are_sent_in_order_and_used_again() {
        let mut spares = Spares::default();
        let mut out = Outbound::default();
        let mut wanted = Vec::new();
        for i in 0..40_u8 {
            let part = vec![i; 200_000];
            out.fill(&mut spares).extend_from_slice(&part);
            wanted.extend(part);
        }
        assert_eq!((out.pending(), out.chunks()), (8_000_000, 4));
        assert_eq!(out.filled_from(1_500_000).map(<[u8]>::len).sum::<usize>(), 6_500_000);
        let mut sent = Vec::new();
        while let Some(bytes) = out.start(&mut spares) {
            sent.extend_from_slice(bytes);
            let bytes = bytes.len();
            out.complete(bytes, &mut spares);
        }
        assert_eq!((sent == wanted, out.filled()), (true, 8_000_000));
        assert_eq!((out.pending(), out.chunks(), out.heap_bytes()), (0, 0, 0));
        assert!(spares.buffers.iter().all(|b| b.capacity() <= 2 * (CHUNK_BYTES + CHUNK_MARGIN)));
        assert_eq!(spares.buffers.len(), 4);
    }
}
