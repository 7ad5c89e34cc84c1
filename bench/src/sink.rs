//! A server that does as little as a server can: it forwards, acknowledges and forgets, on one
//! thread, without checks. What the scenarios reach against it is the ceiling of the generator and
//! of the kernel's sockets on this machine; no real server can be measured beyond it.
//!
//! A publish like the one before it (same subject, same size) is recognised by its prefix and
//! costs a comparison. Streams are a count: a publish with a reply is acknowledged with the next
//! number, and consumers replay that many messages of the last size.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::Result;
use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    fd::OwnedFd,
    fs::Timespec,
};
use serde_json::Value;

use crate::run;

const READ_BYTES: usize = 256 * 1024;
/// Nobody is read while somebody has so much to be written.
const PENDING_BYTES_MAX: usize = 4 << 20;
/// A replay writes ahead by so much.
const REPLAY_BYTES: usize = 256 * 1024;
const LISTENER: u64 = u64::MAX;
const INFO: &[u8] = b"INFO {\"server_id\":\"sink\",\"version\":\"2.15.0\",\"headers\":true,\
    \"max_payload\":8388608,\"jetstream\":true}\r\n";

struct Sub {
    subject: Vec<u8>,
    sid: Vec<u8>,
    queue: bool,
}

/// Where publishes of a remembered form go.
#[derive(Clone, Default)]
enum Target {
    /// Nobody asked for them.
    #[default]
    Nobody,
    /// To these peers under these subscriptions.
    Subscribers(Vec<(usize, Vec<u8>)>),
    /// They have a reply and are acknowledged to this subscription of the publisher.
    Stream(Vec<u8>),
}

/// A publish like the one before.
#[derive(Default)]
struct Form {
    /// `PUB subject ` up to where the reply or the size begins.
    prefix: Vec<u8>,
    /// From the size to the end of the line.
    suffix: Vec<u8>,
    line_len: usize,
    payload_len: usize,
    target: Target,
    version: u64,
}

struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    out: Vec<u8>,
    written: usize,
    readable: bool,
    writable: bool,
    subs: Vec<Sub>,
    form: Form,
}

/// A consumer that invents what it delivers.
struct Replay {
    peer: usize,
    sid: Vec<u8>,
    subject: Vec<u8>,
    sequence: u64,
    /// What may still be sent: everything for a push consumer, what was asked for by pulls.
    credit: u64,
    pending: u64,
}

#[derive(Default)]
struct State {
    peers: Vec<Option<Peer>>,
    /// Grows with every subscription, so that remembered targets grow old.
    version: u64,
    messages: u64,
    payload_len: usize,
    replays: HashMap<String, Replay>,
}

/// A sink on a thread of its own; dropping it ends the thread.
pub struct Background {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts one on a free port.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            if let Err(error) = serve(&listener, &seen) {
                eprintln!("sink: {error:#}");
            }
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves until asked to stop.
pub fn serve(listener: &TcpListener, stop: &AtomicBool) -> Result<()> {
    listener.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut state = State::default();
    let mut events = Vec::with_capacity(256);
    while !stop.load(Ordering::Relaxed) && run::check_interrupted().is_ok() {
        let busy = state.turn();
        let wait = if busy { 0 } else { 20_000_000 };
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait };
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            if event.data.u64() == LISTENER {
                state.accept(listener, &poll)?;
            } else if let Some(Some(peer)) = state.peers.get_mut(event.data.u64() as usize) {
                let closed = EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP;
                let flags = event.flags;
                peer.readable |= flags.intersects(EventFlags::IN | closed);
                peer.writable |= flags.intersects(EventFlags::OUT | closed);
            }
        }
    }
    Ok(())
}

impl State {
    fn accept(&mut self, listener: &TcpListener, poll: &OwnedFd) -> Result<()> {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(poll, &stream, EventData::new_u64(self.peers.len() as u64), flags)?;
            self.peers.push(Some(Peer {
                stream,
                buffer: vec![0; READ_BYTES],
                start: 0,
                end: 0,
                out: INFO.to_vec(),
                written: 0,
                readable: true,
                writable: true,
                subs: Vec::new(),
                form: Form::default(),
            }));
        }
        Ok(())
    }

    /// Reads, handles and writes once for every peer. Returns whether there may be more.
    fn turn(&mut self) -> bool {
        let mut busy = false;
        let full = self.peers.iter().flatten().any(|p| p.out.len() > PENDING_BYTES_MAX);
        for index in 0..self.peers.len() {
            if full {
                break;
            }
            // Taken out meanwhile, so that it can be routed from into the others.
            let Some(mut peer) = self.peers[index].take() else { continue };
            let open = match peer.read() {
                Ok(came) => {
                    busy |= came;
                    !came || self.handle(index, &mut peer)
                }
                Err(_) => false,
            };
            if open {
                self.peers[index] = Some(peer);
            } else {
                self.version += 1;
                self.replays.retain(|_, replay| replay.peer != index);
            }
        }
        busy |= self.replay();
        for peer in self.peers.iter_mut().flatten() {
            busy |= peer.write();
        }
        busy
    }

    /// Handles what a peer sent; `false` when it makes no sense.
    fn handle(&mut self, index: usize, peer: &mut Peer) -> bool {
        let buffer = std::mem::take(&mut peer.buffer);
        let mut at = peer.start;
        let mut sound = true;
        while at < peer.end {
            let bytes = &buffer[at..peer.end];
            let used = match self.alike(peer, bytes) {
                Some(used) => Some(used),
                None => match self.operation(index, peer, bytes) {
                    Ok(used) => used,
                    Err(()) => {
                        sound = false;
                        None
                    }
                },
            };
            let Some(used) = used else { break };
            at += used;
        }
        peer.start = at;
        peer.buffer = buffer;
        sound
    }

    /// A publish like the one before it.
    fn alike(&mut self, peer: &mut Peer, bytes: &[u8]) -> Option<usize> {
        let form = &peer.form;
        let (line_len, payload_len) = (form.line_len, form.payload_len);
        let whole = line_len + payload_len + 2;
        if form.prefix.is_empty()
            || form.version != self.version
            || bytes.len() < whole
            || !bytes.starts_with(&form.prefix)
            || !bytes[..line_len].ends_with(&form.suffix)
        {
            return None;
        }
        let reply = &bytes[form.prefix.len()..line_len - form.suffix.len()];
        match &form.target {
            Target::Nobody => {}
            Target::Stream(sid) => {
                self.messages += 1;
                self.payload_len = payload_len;
                acknowledge(&mut peer.out, reply.trim_ascii_end(), sid, self.messages);
            }
            Target::Subscribers(targets) => {
                let subject = &form.prefix[4..form.prefix.len() - 1];
                for (target, sid) in targets {
                    if let Some(Some(to)) = self.peers.get_mut(*target) {
                        let rest = &bytes[line_len..whole];
                        deliver(&mut to.out, subject, sid, reply.trim_ascii_end(), rest);
                    }
                }
            }
        }
        Some(whole)
    }

    /// Anything else. `Ok(None)` when it is not there whole.
    fn operation(
        &mut self,
        index: usize,
        peer: &mut Peer,
        bytes: &[u8],
    ) -> Result<Option<usize>, ()> {
        let Some(newline) = memchr::memchr(b'\n', bytes) else { return Ok(None) };
        let line_len = newline + 1;
        let line = bytes[..newline].trim_ascii_end();
        let mut words = line.split(|&b| b == b' ').filter(|word| !word.is_empty());
        match words.next().unwrap_or(b"") {
            b"PUB" => {
                let words: Vec<&[u8]> = words.collect();
                let (subject, reply) = match words[..] {
                    [subject, _] => (subject, &b""[..]),
                    [subject, reply, _] => (subject, reply),
                    _ => return Err(()),
                };
                let size = crate::wire::decimal(words[words.len() - 1]).ok_or(())?;
                if bytes.len() < line_len + size + 2 {
                    return Ok(None);
                }
                self.publish(index, peer, (subject, reply), &bytes[line_len..][..size + 2]);
                self.remember(peer, (subject, reply), (line_len, size), bytes);
                return Ok(Some(line_len + size + 2));
            }
            b"SUB" => {
                let words: Vec<Vec<u8>> = words.map(<[u8]>::to_vec).collect();
                let [subject, .., sid] = &words[..] else { return Err(()) };
                let (subject, sid, queue) = (subject.clone(), sid.clone(), words.len() == 3);
                peer.subs.push(Sub { subject, sid, queue });
                self.version += 1;
            }
            b"UNSUB" => {
                let sid = words.next().unwrap_or(b"");
                peer.subs.retain(|sub| sub.sid != sid);
                self.version += 1;
            }
            b"PING" => peer.out.extend_from_slice(b"PONG\r\n"),
            b"PONG" | b"CONNECT" => {}
            _ => return Err(()),
        }
        Ok(Some(line_len))
    }

    fn remember(
        &self,
        peer: &mut Peer,
        (subject, reply): (&[u8], &[u8]),
        (line_len, payload_len): (usize, usize),
        bytes: &[u8],
    ) {
        if subject.starts_with(b"$") || subject.starts_with(b"_INBOX.") {
            return;
        }
        let targets = self.route(subject, peer, usize::MAX);
        let target = match (targets.is_empty(), reply.is_empty()) {
            (false, _) => Target::Subscribers(targets),
            (true, true) => Target::Nobody,
            (true, false) => match peer.subs.iter().find(|s| matches(&s.subject, reply)) {
                Some(sub) => Target::Stream(sub.sid.clone()),
                None => return,
            },
        };
        let line = bytes[..line_len].trim_ascii_end();
        let size_at = line.iter().rposition(|&b| b == b' ').map_or(0, |at| at + 1);
        peer.form = Form {
            prefix: [b"PUB ", subject, b" "].concat(),
            suffix: bytes[size_at..line_len].to_vec(),
            line_len,
            payload_len,
            target,
            version: self.version,
        };
    }

    /// The subscriptions that a subject goes to. The publisher is not among the peers meanwhile.
    fn route(&self, subject: &[u8], publisher: &Peer, index: usize) -> Vec<(usize, Vec<u8>)> {
        let mut queue_served = false;
        let others = self.peers.iter().enumerate();
        let peers = others.filter_map(|(at, peer)| peer.as_ref().map(|peer| (at, peer)));
        let mut targets = Vec::new();
        for (at, peer) in peers.chain((index != usize::MAX).then_some((index, publisher))) {
            for sub in peer.subs.iter().filter(|sub| matches(&sub.subject, subject)) {
                if !(sub.queue && std::mem::replace(&mut queue_served, true)) {
                    targets.push((at, sub.sid.clone()));
                }
            }
        }
        targets
    }

    /// Routes one publish; `rest` is the payload with its line end.
    fn publish(
        &mut self,
        index: usize,
        peer: &mut Peer,
        (subject, reply): (&[u8], &[u8]),
        rest: &[u8],
    ) {
        let targets = self.route(subject, peer, index);
        for (target, sid) in &targets {
            let out = match self.peers.get_mut(*target) {
                Some(Some(to)) => &mut to.out,
                _ => &mut peer.out,
            };
            deliver(out, subject, sid, reply, rest);
        }
        let sid = peer.subs.iter().find(|s| matches(&s.subject, reply)).map(|s| s.sid.clone());
        let Some(sid) = sid.filter(|_| targets.is_empty() && !reply.is_empty()) else { return };
        if let Some(request) = subject.strip_prefix(b"$JS.API.") {
            let answer = self.api(index, peer, (request, reply), &rest[..rest.len() - 2]);
            if !answer.is_empty() {
                deliver(&mut peer.out, reply, &sid, b"", format!("{answer}\r\n").as_bytes());
            }
        } else {
            self.messages += 1;
            self.payload_len = rest.len() - 2;
            acknowledge(&mut peer.out, reply, &sid, self.messages);
        }
    }

    /// Answers a request of the JetStream API, empty for a pull.
    fn api(
        &mut self,
        index: usize,
        peer: &Peer,
        (request, reply): (&[u8], &[u8]),
        payload: &[u8],
    ) -> String {
        let request = String::from_utf8_lossy(request).into_owned();
        let payload: Value = serde_json::from_slice(payload).unwrap_or(Value::Null);
        if request.starts_with("STREAM.CREATE.") {
            self.messages = 0;
        } else if let Some(name) = request.strip_prefix("CONSUMER.CREATE.") {
            let name = name.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
            let deliver = payload["config"]["deliver_subject"].as_str().unwrap_or("");
            let credit = if deliver.is_empty() { 0 } else { u64::MAX };
            self.add_replay(name, (index, peer), deliver.as_bytes(), credit);
        } else if let Some(name) = request.strip_prefix("CONSUMER.MSG.NEXT.") {
            let batch = payload["batch"].as_u64().unwrap_or(1);
            let credit = self.replays.get(name).map_or(0, |replay| replay.credit) + batch;
            match self.replays.get_mut(name).filter(|replay| !replay.subject.is_empty()) {
                Some(replay) => replay.credit = credit,
                None => self.add_replay(name.to_owned(), (index, peer), reply, credit),
            }
            return String::new();
        } else if let Some(name) = request.strip_prefix("CONSUMER.DELETE.") {
            self.replays.remove(name);
        }
        let count = self.messages;
        format!(
            "{{\"success\":true,\"purged\":{count},\"state\":{{\"messages\":{count}}},\
             \"num_pending\":{count},\"delivered\":{{\"consumer_seq\":0}}}}"
        )
    }

    fn add_replay(&mut self, name: String, peer: (usize, &Peer), subject: &[u8], credit: u64) {
        let sub = peer.1.subs.iter().find(|sub| matches(&sub.subject, subject));
        let replay = Replay {
            peer: peer.0,
            sid: sub.map_or(Vec::new(), |sub| sub.sid.clone()),
            subject: subject.to_vec(),
            sequence: 0,
            credit,
            pending: self.messages,
        };
        self.replays.insert(name, replay);
    }

    /// Writes deliveries ahead. Returns whether there are more to come.
    fn replay(&mut self) -> bool {
        let mut more = false;
        if self.replays.is_empty() {
            return more;
        }
        let rest = [vec![b'x'; self.payload_len], b"\r\n".to_vec()].concat();
        for replay in self.replays.values_mut().filter(|replay| !replay.subject.is_empty()) {
            let Some(Some(peer)) = self.peers.get_mut(replay.peer) else { continue };
            while replay.credit > 0 && replay.pending > 0 && peer.out.len() < REPLAY_BYTES {
                replay.sequence += 1;
                replay.credit -= 1;
                replay.pending -= 1;
                let (sequence, pending) = (replay.sequence, replay.pending);
                let reply = format!("$JS.ACK.s.c.1.{sequence}.{sequence}.1700000000.{pending}");
                deliver(&mut peer.out, b"bench.js", &replay.sid, reply.as_bytes(), &rest);
                more = true;
            }
        }
        more
    }
}

impl Peer {
    /// Reads once. Returns whether something came.
    fn read(&mut self) -> Result<bool> {
        if !self.readable {
            return Ok(false);
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        match self.stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => anyhow::bail!("closed"),
            Ok(count) => {
                self.end += count;
                self.readable = self.end == self.buffer.len();
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes once. Returns whether something went. A failure shows at the next read.
    fn write(&mut self) -> bool {
        if !self.writable || self.out.is_empty() {
            return false;
        }
        match self.stream.write(&self.out[self.written..]) {
            Ok(count) => self.written += count,
            Err(_) => {
                self.writable = false;
                return false;
            }
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        } else if self.written > REPLAY_BYTES {
            self.out.drain(..self.written);
            self.written = 0;
        }
        true
    }
}

/// `MSG subject sid [reply] size` and `rest`, which is the payload with its line end.
fn deliver(out: &mut Vec<u8>, subject: &[u8], sid: &[u8], reply: &[u8], rest: &[u8]) {
    let gap: &[u8] = if reply.is_empty() { b"" } else { b" " };
    for part in [b"MSG ", subject, b" ", sid, gap, reply, b" "] {
        out.extend_from_slice(part);
    }
    push_number(out, (rest.len() - 2) as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(rest);
}

fn acknowledge(out: &mut Vec<u8>, reply: &[u8], sid: &[u8], sequence: u64) {
    let mut rest = *b"{\"stream\":\"sink\",\"seq\":0000000000}\r\n";
    let mut left = sequence;
    // Leading blanks instead of zeroes, which JSON does not know.
    for digit in rest[23..33].iter_mut().rev() {
        *digit = if left == 0 { b' ' } else { b'0' + (left % 10) as u8 };
        left /= 10;
    }
    deliver(out, reply, sid, b"", &rest);
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let (mut at, mut left) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Whether a subject matches a subscription, wildcards included.
fn matches(filter: &[u8], subject: &[u8]) -> bool {
    let mut tokens = subject.split(|&b| b == b'.');
    for want in filter.split(|&b| b == b'.') {
        match (want, tokens.next()) {
            (b">", token) => return token.is_some(),
            (_, None) => return false,
            (b"*", Some(_)) => {}
            (want, Some(token)) if want == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_in_nats() {
        for (filter, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*", "a.b.c", false),
            ("a.b", "a", false),
            ("a", "a.b", false),
        ] {
            assert_eq!(matches(filter.as_bytes(), subject.as_bytes()), expected, "{filter}");
        }
    }

    #[test]
    fn acknowledgements_are_json() {
        for sequence in [1, 42, 9_999_999_999] {
            let mut out = Vec::new();
            acknowledge(&mut out, b"r", b"1", sequence);
            let text = String::from_utf8(out).unwrap();
            let (line, payload) = text.split_once("\r\n").unwrap();
            assert_eq!(line, "MSG r 1 34");
            let json: Value = serde_json::from_str(payload.trim_end()).unwrap();
            assert_eq!(json["seq"], sequence);
        }
    }
}
