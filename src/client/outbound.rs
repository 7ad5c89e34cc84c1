//! Bytes on their way to a client: one buffer that the kernel sends, one that is being filled.

/// Buffers kept for reuse at most.
const SPARES_MAX: usize = 64;
/// Buffers larger than this are not kept.
const SPARE_BYTES_MAX: usize = 2 << 20;
/// Heap bytes kept in spare buffers at most.
const SPARE_BYTES_SUM_MAX: usize = 16 << 20;

/// Buffers between two uses, so that connections at rest hold none and busy ones allocate none.
#[derive(Debug, Default)]
pub struct Spares {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Spares {
    /// An empty buffer.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        match self.buffers.pop() {
            Some(buffer) => {
                self.bytes -= buffer.capacity();
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
            && self.bytes + bytes <= SPARE_BYTES_SUM_MAX;
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
}

/// The outbound of one connection. While a send is in flight, `sending` neither moves nor changes.
#[derive(Debug, Default)]
pub struct Outbound {
    filling: Vec<u8>,
    sending: Vec<u8>,
    sent: usize,
    in_flight: bool,
}

impl Outbound {
    /// Where to append. Takes a spare buffer when there is none.
    #[inline]
    pub fn fill(&mut self, spares: &mut Spares) -> &mut Vec<u8> {
        if self.filling.capacity() == 0 {
            self.filling = spares.take();
        }
        &mut self.filling
    }

    /// Bytes that were not taken by the kernel yet.
    #[inline]
    pub fn pending(&self) -> usize {
        self.filling.len() + self.sending.len() - self.sent
    }

    /// What is being filled.
    pub fn filling(&self) -> &[u8] {
        &self.filling
    }

    /// True if `start` would take what is being filled.
    pub fn is_about_to_send(&self) -> bool {
        !self.in_flight && self.sent == self.sending.len()
    }

    /// Buffers with bytes that were not taken yet.
    pub fn chunks(&self) -> usize {
        usize::from(!self.filling.is_empty()) + usize::from(self.sent < self.sending.len())
    }

    /// True while a send is in flight.
    pub fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// The bytes for the next send, or `None` if one is in flight or nothing is pending. They
    /// stay where they are until `complete`.
    pub fn start(&mut self) -> Option<&[u8]> {
        if self.in_flight {
            return None;
        }
        if self.sent == self.sending.len() {
            if self.filling.is_empty() {
                return None;
            }
            self.sending.clear();
            self.sent = 0;
            std::mem::swap(&mut self.sending, &mut self.filling);
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
        self.sending.clear();
        if !self.filling.is_empty() {
            return true;
        }
        spares.give(std::mem::take(&mut self.sending));
        spares.give(std::mem::take(&mut self.filling));
        false
    }

    /// Forgets what was not handed to the kernel.
    pub fn discard(&mut self, spares: &mut Spares) {
        spares.give(std::mem::take(&mut self.filling));
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
        self.filling.capacity() + self.sending.capacity()
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
        let first = out.start().unwrap();
        assert_eq!(first, b"hello");
        let place = first.as_ptr();
        assert!(out.start().is_none());
        out.fill(&mut spares).extend_from_slice(b" world");
        assert_eq!(out.pending(), 11);
        assert!(out.complete(2, &mut spares));
        let rest = out.start().unwrap();
        assert_eq!(rest, b"llo");
        assert_eq!(rest.as_ptr(), place.wrapping_add(2));
        assert!(out.complete(3, &mut spares));
        assert_eq!(out.start().unwrap(), b" world");
        assert!(!out.complete(6, &mut spares));
        assert_eq!((out.pending(), out.heap_bytes()), (0, 0));
        assert!(spares.heap_bytes() > 0);
    }

    #[test]
    fn a_lent_buffer_survives_the_connection() {
        let mut spares = Spares::default();
        let mut out = Outbound::default();
        out.fill(&mut spares).extend_from_slice(b"a");
        out.start();
        out.fill(&mut spares).extend_from_slice(b"b");
        out.discard(&mut spares);
        assert_eq!(out.pending(), 1);
        assert_eq!(out.into_lent(&mut spares).as_deref(), Some(&b"a"[..]));
    }
}
