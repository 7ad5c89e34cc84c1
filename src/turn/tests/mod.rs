//! Several reactors' `Net`s, joined by FIFO lanes, with clients that speak protocol bytes.

mod core;
mod jetstream;
mod mesh;
mod model;
mod pressure;
mod transcript;
mod work;

use super::jetstream::{Captured, JetStream, Target};
use super::*;
use crate::client::{CloseReason, Limits, ReadFlow, ServerInfo};
use crate::interest::AccountId;
use crate::types::{ConnId, CreditKind, ReactorId, ShardId, Timestamp};
use corelane_storage::random::Random;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(crate) const QUIET: &str =
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n";

/// A message that a shard got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub target: Target,
    pub origin: Origin,
    pub subject: String,
    pub reply: String,
    pub payload: String,
    pub credit: u32,
}

/// Shards that write down what they get.
#[derive(Default)]
pub(crate) struct Shards {
    pub got: Vec<Got>,
}

impl JetStream for Shards {
    fn capture(&mut self, _now: Timestamp, message: &Captured<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.got.push(Got {
            target: message.target,
            origin: message.origin,
            subject: text(message.subject),
            reply: text(message.reply),
            payload: text(message.payload),
            credit: message.credit_bytes,
        });
    }
}

#[derive(Default)]
struct Lane {
    control: VecDeque<Vec<Control>>,
    messages: VecDeque<Vec<u8>>,
}

/// What a client saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub bytes: Vec<u8>,
    pub closed: Option<CloseReason>,
    pub paused: bool,
    /// Bytes of a send that are taken at once; the rest waits for the next turn.
    pub window: Option<usize>,
}

/// A node of several reactors in virtual time.
pub(crate) struct Node {
    pub nets: Vec<Net>,
    pub shards: Vec<Shards>,
    lanes: BTreeMap<(usize, usize), Lane>,
    home: BTreeMap<ConnId, usize>,
    pub seen: BTreeMap<ConnId, Seen>,
    pub now: Timestamp,
    random: Random,
    next: u64,
    /// Message lanes that are full: nothing is taken for them.
    pub full: bool,
}

pub(crate) fn info() -> ServerInfo {
    ServerInfo {
        server_id: "NID".into(),
        server_name: "n".into(),
        version: "2.15.1".into(),
        proto: 1,
        go: "go1.27".into(),
        host: "127.0.0.1".into(),
        port: 4222,
        headers: true,
        max_payload: 1 << 20,
        ..ServerInfo::default()
    }
}

impl Node {
    pub fn new(reactors: usize, seed: u64) -> Self {
        Self::with_limits(reactors, seed, Limits::default())
    }

    pub fn with_limits(reactors: usize, seed: u64, limits: Limits) -> Self {
        let settings = Arc::new(Settings::new(limits, info()));
        let nets = (0..reactors)
            .map(|r| {
                let id = ReactorId(r as u16);
                let config = NetConfig::new(id, reactors as u16, reactors as u16, settings.clone());
                Net::new(NetConfig { seed: seed * 100 + r as u64, ..config })
            })
            .collect();
        Node {
            nets,
            shards: (0..reactors).map(|_| Shards::default()).collect(),
            lanes: BTreeMap::new(),
            home: BTreeMap::new(),
            seen: BTreeMap::new(),
            now: Timestamp(1_000_000_000),
            random: Random::new(seed),
            next: 0,
            full: false,
        }
    }

    /// Connects a client to a reactor and reads INFO away.
    pub fn connect(&mut self, reactor: usize) -> ConnId {
        self.next += 1;
        let conn = ConnId(self.next);
        self.home.insert(conn, reactor);
        self.seen.insert(conn, Seen::default());
        self.nets[reactor].accept(self.now, conn, "127.0.0.1:5000", false);
        self.effects(reactor);
        let text = self.read(conn);
        assert!(text.starts_with("INFO {") && text.ends_with("} \r\n"), "{text}");
        conn
    }

    /// Connects a client that is neither verbose nor pedantic.
    pub fn client(&mut self, reactor: usize) -> ConnId {
        let conn = self.connect(reactor);
        self.send(conn, QUIET);
        conn
    }

    /// Hands bytes to the client's reactor, as one read. Lanes are not run.
    pub fn send(&mut self, conn: ConnId, bytes: impl AsRef<[u8]>) {
        let reactor = self.home[&conn];
        let (net, shards) = (&mut self.nets[reactor], &mut self.shards[reactor]);
        net.received(self.now, conn, bytes.as_ref(), shards);
        self.effects(reactor);
    }

    /// The client goes away.
    pub fn hang_up(&mut self, conn: ConnId) {
        let reactor = self.home[&conn];
        self.nets[reactor].closed(self.now, conn, &mut self.shards[reactor]);
        self.effects(reactor);
    }

    /// What the client got since it was last asked.
    pub fn read(&mut self, conn: ConnId) -> String {
        let seen = self.seen.get_mut(&conn).unwrap();
        String::from_utf8_lossy(&std::mem::take(&mut seen.bytes)).into_owned()
    }

    pub fn closed(&self, conn: ConnId) -> Option<CloseReason> {
        self.seen[&conn].closed
    }

    /// Does what a reactor does at the end of a turn.
    pub fn effects(&mut self, reactor: usize) {
        let net = &mut self.nets[reactor];
        let mut touched = Vec::new();
        net.take_touched(&mut touched);
        while let Some(conn) = touched.pop() {
            let seen = self.seen.get_mut(&conn).unwrap();
            let window = seen.window;
            let Some(bytes) = net.start_send(self.now, conn) else { continue };
            let taken = window.unwrap_or(bytes.len()).min(bytes.len());
            seen.bytes.extend_from_slice(&bytes[..taken]);
            if window != Some(0) {
                net.sent(self.now, conn, taken);
            }
            net.take_touched(&mut touched);
        }
        for (conn, flow) in net.take_flow() {
            self.seen.get_mut(&conn).unwrap().paused = flow == ReadFlow::Pause;
        }
        for closing in net.take_closing() {
            self.seen.get_mut(&closing.conn).unwrap().closed = Some(closing.reason);
            net.closed(self.now, closing.conn, &mut self.shards[reactor]);
        }
        self.nets[reactor].report_pressure();
        for to in (0..self.nets.len()).filter(|&r| r != reactor) {
            let net = &mut self.nets[reactor];
            let id = ReactorId(to as u16);
            let lane = self.lanes.entry((reactor, to)).or_default();
            let control = net.take_control(id);
            if !control.is_empty() {
                lane.control.push_back(control);
            }
            if !self.full && net.messages_pending(id) > 0 {
                lane.messages.push_back(net.take_messages(id));
            }
        }
        for (conn, flow) in self.nets[reactor].take_flow() {
            self.seen.get_mut(&conn).unwrap().paused = flow == ReadFlow::Pause;
        }
    }

    /// One turn of a reactor: notes how far message lanes reach, drains control lanes, then
    /// handles the messages noted.
    pub fn turn(&mut self, reactor: usize) -> bool {
        let mut work = false;
        let froms: Vec<usize> = (0..self.nets.len()).filter(|&r| r != reactor).collect();
        let mut reach = Vec::new();
        for &from in &froms {
            let lane = self.lanes.entry((from, reactor)).or_default();
            let most = lane.messages.len() as u64;
            reach.push(if most > 0 { 1 + self.random.below(most) } else { 0 });
        }
        for &from in &froms {
            while let Some(batch) = self.pop_control(from, reactor) {
                self.nets[reactor].control(self.now, ReactorId(from as u16), batch);
                work = true;
            }
        }
        self.nets[reactor].begin_turn();
        self.nets[reactor].run(self.now, &mut self.shards[reactor]);
        work |= self.nets[reactor].is_runnable();
        for (&from, reach) in froms.iter().zip(reach) {
            for _ in 0..reach {
                let lane = self.lanes.get_mut(&(from, reactor)).unwrap();
                let Some(batch) = lane.messages.pop_front() else { break };
                let (net, shards) = (&mut self.nets[reactor], &mut self.shards[reactor]);
                net.messages(self.now, ReactorId(from as u16), &batch, shards);
                work = true;
            }
        }
        self.effects(reactor);
        work
    }

    fn pop_control(&mut self, from: usize, to: usize) -> Option<Vec<Control>> {
        self.lanes.get_mut(&(from, to))?.control.pop_front()
    }

    /// Turns of reactors in random order until nothing is on its way.
    pub fn settle(&mut self) {
        let mut idle = 0;
        while idle < 50 * self.nets.len() {
            let reactor = self.random.below(self.nets.len() as u64) as usize;
            idle = if self.turn(reactor) { 0 } else { idle + 1 };
        }
    }

    /// Sends, settles and returns what came back.
    pub fn ask(&mut self, conn: ConnId, bytes: impl AsRef<[u8]>) -> String {
        self.send(conn, bytes);
        self.settle();
        self.read(conn)
    }

    /// Time passes, and timers that are due fire.
    pub fn pass(&mut self, ns: i64) {
        let end = self.now.plus(ns);
        loop {
            let next = self.nets.iter().filter_map(|n| n.deadline()).min();
            match next.filter(|&at| at <= end) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
            for reactor in 0..self.nets.len() {
                self.nets[reactor].tick(self.now);
                self.effects(reactor);
            }
        }
        self.now = end;
    }

    pub fn stream(&mut self, owner: usize, id: u64, name: &str, subjects: &[&str]) {
        self.stream_charged_to(CreditKind::Publish, owner, id, name, subjects);
    }

    pub fn stream_charged_to(
        &mut self,
        credit: CreditKind,
        owner: usize,
        id: u64,
        name: &str,
        subjects: &[&str],
    ) {
        let place = crate::interest::StreamPlace {
            account: AccountId(0),
            id: crate::types::StreamId(id),
            name: name.as_bytes().into(),
            shard: ShardId(owner as u16),
            reactor: ReactorId(owner as u16),
            credit,
            subjects: subjects.iter().map(|s| s.as_bytes().into()).collect(),
        };
        self.nets[owner].announce_stream(&place);
        self.effects(owner);
        self.settle();
    }
}
