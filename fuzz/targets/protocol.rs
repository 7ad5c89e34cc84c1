//! Bytes of a client: the same operations and answers however they are split over reads.
#![no_main]

use corelane::protocol::{Flow, Handler, ParseLimits, Parser, Publish};
use corelane_fuzz::net::Driven;
use libfuzzer_sys::fuzz_target;

/// Writes down what it gets, and stops where it is told to.
#[derive(Default)]
struct Log {
    operations: Vec<String>,
    headers: bool,
    small: bool,
    /// Every so many operations it stops; 0 for never.
    stop: usize,
}

impl Log {
    fn note(&mut self, text: String) -> Flow {
        self.operations.push(text);
        match self.stop {
            0 => Flow::Continue,
            n if self.operations.len() % n == 0 => Flow::Stop,
            _ => Flow::Continue,
        }
    }
}

impl Handler for Log {
    fn limits(&self) -> ParseLimits {
        let (max_control_line, max_payload) = if self.small { (24, 32) } else { (4096, 1 << 20) };
        ParseLimits { max_control_line, max_payload, headers: self.headers }
    }
    fn publish(&mut self, p: &Publish<'_>) -> Flow {
        self.note(format!("{p:?}"))
    }
    fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) -> Flow {
        self.note(format!("{subject:?} {queue:?} {sid:?}"))
    }
    fn unsubscribe(&mut self, sid: &[u8], max: Option<u64>) -> Flow {
        self.note(format!("un {sid:?} {max:?}"))
    }
    fn connect(&mut self, json: &[u8]) -> Flow {
        self.note(format!("connect {json:?}"))
    }
    fn info(&mut self, json: &[u8]) -> Flow {
        self.note(format!("info {json:?}"))
    }
    fn ping(&mut self) -> Flow {
        self.note("ping".into())
    }
    fn pong(&mut self) -> Flow {
        self.note("pong".into())
    }
}

/// Calls `each` with pieces of `bytes` whose lengths come from `seed`.
fn split<'a>(bytes: &'a [u8], mut seed: u32, mut each: impl FnMut(&'a [u8]) -> bool) {
    let mut rest = bytes;
    while !rest.is_empty() {
        seed = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let mixed = (seed >> 16) ^ seed;
        let most = if mixed & 0x100 == 0 { 4 } else { 64 };
        let (head, tail) = rest.split_at((1 + mixed as usize % most).min(rest.len()));
        if !each(head) {
            return;
        }
        rest = tail;
    }
}

fn parse(bytes: &[u8], seed: Option<u32>, flags: u8) -> (Vec<String>, String) {
    let mut log = Log {
        headers: flags & 1 != 0,
        small: flags & 2 != 0,
        stop: usize::from(flags >> 2 & 3),
        ..Log::default()
    };
    let mut parser = Parser::default();
    let mut end = String::new();
    let mut feed = |mut piece: &[u8]| {
        while !piece.is_empty() {
            match parser.parse(piece, &mut log) {
                Ok(taken) => piece = &piece[taken..],
                Err(violation) => {
                    end = format!("{violation:?}");
                    return false;
                }
            }
        }
        true
    };
    match seed {
        None => {
            feed(bytes);
        }
        Some(seed) => split(bytes, seed, feed),
    }
    (log.operations, end)
}

fn serve(bytes: &[u8], seed: Option<u32>) -> Driven {
    let mut node = Driven::new(1);
    let other = node.connect(1);
    node.send(
        other,
        b"CONNECT {\"headers\":true,\"no_responders\":true}\r\nSUB > 1\r\nSUB * q 2\r\n",
    );
    let conn = node.connect(2);
    match seed {
        None => node.send(conn, bytes),
        Some(seed) => split(bytes, seed, |piece| {
            node.send(conn, piece);
            true
        }),
    }
    node.send(other, b"PING\r\n");
    node
}

fuzz_target!(|data: &[u8]| {
    let Some((head, bytes)) = data.split_first_chunk::<5>() else { return };
    let bytes = &bytes[..bytes.len().min(4096)];
    let seed = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    assert_eq!(parse(bytes, None, head[4]), parse(bytes, Some(seed), head[4]));
    let (whole, pieces) = (serve(bytes, None), serve(bytes, Some(seed)));
    assert_eq!(whole.shards.0, pieces.shards.0);
    assert_eq!(whole.seen, pieces.seen);
});
