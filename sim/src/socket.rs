//! One simulated connection, both ends.

/// The bytes of a send in flight, as they were when it was begun and where they lie.
struct Sending {
    bytes: Vec<u8>,
    place: *const u8,
}

/// A connection.
pub struct Socket {
    /// The reactor that serves it.
    pub reactor: usize,
    /// What the client wrote and the server's host has not got.
    pub wire: Vec<u8>,
    /// An arrival is due.
    pub arriving: bool,
    /// What the server can read.
    pub ready: Vec<u8>,
    /// The reactor has taken it over.
    pub adopted: bool,
    /// The server does not read.
    pub paused: bool,
    /// A send is in flight.
    pub sending: bool,
    /// The server closed it.
    pub closing: bool,
    /// The client is told that it is closed.
    pub closed: bool,
    /// The client is gone.
    pub hung_up: bool,
    /// How much longer sends take, in nanoseconds.
    pub slow: i64,
    /// What the client can read.
    pub to_client: Vec<u8>,
    /// What a send in flight of a closed connection reads.
    pub kept: Option<Vec<u8>>,
    sends: Option<Sending>,
}

impl Socket {
    /// A connection to a reactor.
    pub fn new(reactor: usize) -> Socket {
        Socket {
            reactor,
            wire: Vec::new(),
            arriving: false,
            ready: Vec::new(),
            adopted: false,
            paused: false,
            sending: false,
            closing: false,
            closed: false,
            hung_up: false,
            slow: 0,
            to_client: Vec::new(),
            kept: None,
            sends: None,
        }
    }

    /// A send begins.
    pub fn send(&mut self, bytes: &[u8]) {
        assert!(!self.sending && !bytes.is_empty(), "one send at a time, of something");
        self.sending = true;
        self.sends = Some(Sending { bytes: bytes.to_vec(), place: bytes.as_ptr() });
    }

    /// Bytes of the send in flight.
    pub fn send_len(&self) -> usize {
        self.sends.as_ref().map_or(0, |s| s.bytes.len())
    }

    /// The send ends after `n` bytes, which come back. They must be what they were.
    pub fn sent(&mut self, n: usize) -> Vec<u8> {
        let Some(s) = self.sends.take() else { return Vec::new() };
        if !self.closing || self.kept.is_some() {
            // SAFETY: the core keeps what it lent to a send where it is until `sent` is told, or
            // hands the buffer over with `closed`, and then it is in `kept`.
            let there = unsafe { std::slice::from_raw_parts(s.place, s.bytes.len()) };
            assert!(there == s.bytes, "bytes changed while they were sent");
        }
        s.bytes[..n.min(s.bytes.len())].to_vec()
    }
}
