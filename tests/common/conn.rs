//! One raw connection: lines and payloads as they come over the socket.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// One protocol line of the server, with its payload where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The control line without its CR LF.
    pub line: String,
    /// The header block of an HMSG as its lines, the first being `NATS/1.0…`.
    pub headers: Option<Vec<String>>,
    /// The body of a MSG or HMSG.
    pub body: Vec<u8>,
}

impl Frame {
    /// The subscription id of a MSG or HMSG.
    pub fn sid(&self) -> &str {
        match self.line.starts_with("MSG ") || self.line.starts_with("HMSG ") {
            true => self.line.split(' ').nth(2).unwrap_or_default(),
            false => "",
        }
    }
}

/// Bytes as printable text: what is not printable ASCII is escaped.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            b'|' => text.push_str("\\x7c"),
            0x20..0x7f => text.push(byte as char),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

/// The bytes that an escaped text stands for.
pub fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let (byte, used) = match (bytes[at], bytes.get(at + 1)) {
            (b'\\', Some(b'r')) => (b'\r', 2),
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b't')) => (b'\t', 2),
            (b'\\', Some(b'\\')) => (b'\\', 2),
            (b'\\', Some(b's')) => (b' ', 2),
            (b'\\', Some(b'x')) => {
                let hex = text.get(at + 2..at + 4).unwrap_or("3f");
                (u8::from_str_radix(hex, 16).unwrap_or(b'?'), 4)
            }
            (byte, _) => (byte, 1),
        };
        out.push(byte);
        at += used;
    }
    out
}

/// A client connection of a transcript.
pub struct Conn {
    socket: TcpStream,
    input: Vec<u8>,
    frames: VecDeque<Frame>,
    closed: bool,
    answer_pings: bool,
}

impl Conn {
    /// Connects and reads nothing yet.
    pub fn open(port: u16, answer_pings: bool) -> Result<Conn, String> {
        let socket =
            TcpStream::connect(("127.0.0.1", port)).map_err(|e| format!("connect: {e}"))?;
        socket.set_nodelay(true).map_err(|e| e.to_string())?;
        let (input, frames) = (Vec::new(), VecDeque::new());
        Ok(Conn { socket, input, frames, closed: false, answer_pings })
    }

    /// Sends bytes. A peer that has closed is found when its answer is read, not here.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// The next frame, waiting at most until `end`. `None`: none came, or the server has closed.
    pub fn next(&mut self, end: Instant) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            if !self.fill(end) {
                return None;
            }
        }
    }

    /// The first frame that satisfies `wanted`; the others stay in their order.
    pub fn take(&mut self, end: Instant, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let mut seen = 0;
        loop {
            while seen < self.frames.len() {
                if wanted(&self.frames[seen]) {
                    return self.frames.remove(seen);
                }
                seen += 1;
            }
            if !self.fill(end) {
                return None;
            }
        }
    }

    /// Whether the server closed the connection before `end`, with nothing left to read.
    pub fn closes(&mut self, end: Instant) -> bool {
        while self.frames.is_empty() && self.fill(end) {}
        self.closed && self.frames.is_empty()
    }

    /// Says that nothing more will be sent; the server ends the connection when it has read that.
    pub fn finish(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Sends PING and waits for its PONG, so that all that came before it is in the queue.
    pub fn sync(&mut self, end: Instant) -> bool {
        self.send(b"PING\r\n");
        self.take(end, |frame| frame.line == "PONG").is_some()
    }

    /// What was received and not yet looked at.
    pub fn drain(&mut self) -> Vec<Frame> {
        self.frames.drain(..).collect()
    }

    /// Reads once. False when nothing can come any more before `end`.
    fn fill(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        if self.closed || left.is_zero() {
            return false;
        }
        let _ = self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1))));
        let mut chunk = [0; 65536];
        match self.socket.read(&mut chunk) {
            Ok(0) => self.closed = true,
            Ok(n) => self.input.extend_from_slice(&chunk[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.closed = true,
        }
        while let Some((frame, used)) = parse(&self.input) {
            self.input.drain(..used);
            match self.answer_pings && frame.line == "PING" {
                true => self.send(b"PONG\r\n"),
                false => self.frames.push_back(frame),
            }
        }
        true
    }
}

/// One frame from the head of the input, and how many bytes it took.
fn parse(input: &[u8]) -> Option<(Frame, usize)> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    let line = escape(&input[..end]);
    let words: Vec<&str> = line.split(' ').collect();
    let count = |from_end: usize| -> usize {
        words.len().checked_sub(from_end).and_then(|i| words[i].parse().ok()).unwrap_or(0)
    };
    let (header_bytes, total) = match words[0] {
        "MSG" => (0, count(1)),
        "HMSG" => (count(2), count(1)),
        _ => return Some((Frame { line, headers: None, body: Vec::new() }, end + 2)),
    };
    let start = end + 2;
    let payload = input.get(start..start + total)?;
    input.get(start + total..start + total + 2)?;
    let (block, body) = payload.split_at(header_bytes.min(total));
    let headers = (words[0] == "HMSG").then(|| {
        let block = block.strip_suffix(b"\r\n\r\n").unwrap_or(block);
        escape(block).split("\\r\\n").map(str::to_owned).collect()
    });
    Some((Frame { line, headers, body: body.to_vec() }, start + total + 2))
}
