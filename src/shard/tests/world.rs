//! A shard on a simulated disk, with a client that remembers its answers.

use std::collections::{BTreeMap, VecDeque};

use corelane_storage::device::Op;
use corelane_storage::device::sim::{Failing, SimDisk, SimFaults, SimRng};
use corelane_storage::index::Lookup;
use corelane_storage::log::LogOptions;

use super::super::{
    Audited, LiveAudit, Outgoing, Shard, ShardEffects, ShardMessage, ShardOptions, SortOptions,
    StreamPlacement,
};
use crate::consumer::config::ConsumerServerLimits;
use crate::interest::{Target, WatchId};
use crate::meta::MetaLimits;
use crate::shard::streams::read::Fetched;
use crate::shard::{CheckpointOptions, StateDigest};
use crate::turn::Captured;
use crate::types::{
    CREDIT_KINDS, Clocks, CreditKind, Origin, ReactorId, SegmentId, ShardId, StreamId, Timestamp,
    WallTime,
};

const ID: ShardId = ShardId(0);
/// What is charged for each publish and each request.
pub const REQUEST_CREDIT: u32 = 7;

/// A message that the shard sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub to: String,
    pub reply: String,
    pub payload: String,
}

#[derive(Default)]
struct Recorder {
    sent: Vec<Sent>,
    words: VecDeque<ShardMessage>,
    streams: BTreeMap<String, StreamId>,
    fatal: Option<String>,
    lines: Vec<String>,
    /// Nothing more goes out.
    full: bool,
    /// Credit that came home, by kind.
    credit_home: [u64; CREDIT_KINDS.len()],
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl ShardEffects for Recorder {
    fn send(&mut self, m: &Outgoing<'_>) {
        let (to, reply, payload) = (text(m.to), text(m.reply), text(m.payload));
        self.sent.push(Sent { to, reply, payload });
    }
    fn has_room(&self) -> bool {
        !self.full
    }
    fn credit(&mut self, _: ReactorId, kind: CreditKind, _: ShardId, bytes: u64) {
        self.credit_home[kind as usize] += bytes;
    }
    fn place(&mut self, placed: StreamPlacement) {
        match placed {
            StreamPlacement::Here { id, name, .. } => {
                self.streams.insert(text(&name), id);
            }
            StreamPlacement::Gone(id) => self.streams.retain(|_, s| *s != id),
        }
    }
    fn has_interest(&mut self, _: &[u8], _: &[u8]) -> bool {
        true
    }
    fn has_listener(&mut self, _: &[u8], _: &[u8]) -> bool {
        true
    }
    fn no_responders(&mut self, _: Origin, _: &[u8], _: &[u8]) {}
    fn watch(&mut self, _: ShardId, _: &[u8], _: &[u8]) -> WatchId {
        WatchId(1)
    }
    fn unwatch(&mut self, _: WatchId) {}
    fn send_to_shard(&mut self, _: ShardId, message: ShardMessage) {
        self.words.push_back(message);
    }
    fn fatal(&mut self, text: &str) {
        self.fatal = Some(text.into());
    }
    fn log(&mut self, line: String) {
        self.lines.push(line);
    }
}

/// What the shard holds, as far as a restart must not change it.
pub type Dump = BTreeMap<String, Vec<String>>;

pub struct World {
    pub disk: SimDisk,
    pub shard: Option<Shard>,
    pub now: Timestamp,
    /// By how much the wall clock is ahead of `now`.
    pub ahead: i64,
    /// By how much `now` is ahead of the disk's time, which nothing sets.
    disk_ahead: i64,
    pub rng: SimRng,
    pub options: ShardOptions,
    out: Recorder,
    pub inbox: Vec<Sent>,
    next_reply: u64,
    /// What was applied when the shard was opened.
    pub opened: Option<StateDigest>,
    /// Credit that was charged, by kind.
    charged: [u64; CREDIT_KINDS.len()],
    /// What the shard said to the operator.
    pub lines: Vec<String>,
    /// So many of the next reads fail.
    pub failing_reads: u32,
}

pub fn options() -> ShardOptions {
    let mut log = LogOptions::small(7, ID, 1);
    log.zero_spares = false;
    ShardOptions {
        id: ID,
        shards: 1,
        seed: 1,
        server_name: "n".into(),
        consumer_limits: ConsumerServerLimits::default(),
        meta_limits: MetaLimits::default(),
        strict: true,
        max_payload: 1 << 20,
        index_cache_bytes: 64 << 10,
        job_visits: 40,
        apply_items: 40,
        checkpoint: CheckpointOptions {
            bytes_min: 100 << 10,
            bytes_max: 400 << 10,
            idle_ns: 20_000_000,
            gap_ns: 50_000_000,
        },
        sort: SortOptions { idle_ns: 20_000_000, streams_min: 4, memory_bytes: 64 << 10 },
        log,
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        World::with(seed, SimFaults::default())
    }

    pub fn with(seed: u64, faults: SimFaults) -> World {
        World::with_options(seed, faults, options())
    }

    pub fn with_options(seed: u64, faults: SimFaults, options: ShardOptions) -> World {
        let mut world = World {
            disk: SimDisk::new(seed, faults),
            shard: None,
            now: Timestamp(100_000_000_000_000),
            ahead: 0,
            disk_ahead: 0,
            rng: SimRng::new(seed),
            options,
            out: Recorder::default(),
            inbox: Vec::new(),
            next_reply: 0,
            opened: None,
            charged: Default::default(),
            lines: Vec::new(),
            failing_reads: 0,
        };
        world.open();
        world
    }

    pub fn open(&mut self) {
        let options = ShardOptions { seed: self.rng.bits(), ..self.options.clone() };
        let opened = Shard::open(&mut self.disk, options, self.now).expect("opens");
        self.lines = opened.lines;
        self.out = Recorder::default();
        self.charged = Default::default();
        let mut shard = opened.shard;
        self.opened = shard.state_digest();
        shard.start(self.now, &mut self.out);
        self.shard = Some(shard);
        for _ in 0..10 {
            self.turn();
        }
    }

    /// The machine stops, or only the process.
    pub fn crash(&mut self) {
        self.shard = None;
        if self.rng.chance(500_000) {
            self.disk.crash()
        } else {
            self.disk.kill()
        }
        self.open();
    }

    pub fn shard(&mut self) -> &mut Shard {
        self.shard.as_mut().expect("running")
    }

    /// The steady clock starts anew, at what the wall clock says.
    pub fn restart(&mut self) {
        self.shard = None;
        self.disk.kill();
        self.now = self.now.plus(self.ahead);
        self.disk_ahead += std::mem::take(&mut self.ahead);
        self.open();
    }

    fn clocks(&self) -> Clocks {
        Clocks { now: self.now, wall: WallTime(self.now.0 + self.ahead) }
    }

    /// One turn; then time goes on to the next event.
    pub fn turn(&mut self) {
        let clocks = self.clocks();
        let (shard, out) = (self.shard.as_mut().expect("running"), &mut self.out);
        shard.set_clocks(clocks);
        while let Some(done) = self.disk.poll(self.now.0 - self.disk_ahead) {
            shard.disk_done(done);
        }
        while let Some(word) = out.words.pop_front() {
            shard.receive(self.now, word, out);
        }
        shard.begin_turn(1, true);
        shard.step(self.now, out);
        let (now, disk_ahead) = (self.now.0, self.disk_ahead);
        shard.take_ops(|op| match op {
            Op::Read { .. } if self.failing_reads > 0 => {
                self.failing_reads -= 1;
                self.disk.submit_failing(now - disk_ahead, op, Failing::Transfer);
            }
            op => self.disk.submit(now - disk_ahead, op),
        });
        self.inbox.append(&mut out.sent);
        if let Some(why) = &out.fatal {
            panic!("the shard gave up: {why}");
        }
        self.now = self.now.plus(1_000);
        if !shard.has_work(true) && out.words.is_empty() {
            let next =
                [self.disk.next_time().map(|at| at + disk_ahead), shard.deadline().map(|t| t.0)];
            let next = next.into_iter().flatten().min().unwrap_or(now + 1_000_000);
            self.now = Timestamp(next.clamp(now + 1_000, now + 1_000_000));
        }
    }

    /// Whether what goes out finds no room.
    pub fn set_full(&mut self, full: bool) {
        self.out.full = full;
    }

    pub fn wait(&mut self, ns: i64) {
        let until = self.now.plus(ns);
        while self.now < until {
            self.turn();
        }
    }

    /// What the shard wrote to the log meanwhile.
    pub fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.out.lines)
    }

    /// Runs until everything is durable, applied and checkpointed.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            self.turn();
            if self.shard().is_settled() && self.disk.in_flight() == 0 {
                return;
            }
        }
        panic!("does not settle");
    }

    fn capture(&mut self, target: Target, subject: &str, headers: &str, payload: &str) -> String {
        self.next_reply += 1;
        let reply = format!("reply.{}", self.next_reply);
        let m = Captured {
            target,
            origin: Origin::default(),
            account: Default::default(),
            subject: subject.as_bytes(),
            reply: reply.as_bytes(),
            headers: headers.as_bytes(),
            payload: payload.as_bytes(),
            credit_bytes: REQUEST_CREDIT,
        };
        self.charged[target.credit(subject.as_bytes()) as usize] += u64::from(REQUEST_CREDIT);
        let clocks = self.clocks();
        let shard = self.shard();
        shard.set_clocks(clocks);
        shard.capture(clocks.now, &m);
        reply
    }

    pub fn stream(&self, name: &str) -> Option<StreamId> {
        self.out.streams.get(name).copied()
    }

    /// Publishes; the answer comes to the reply subject that is returned.
    pub fn publish(&mut self, stream: &str, subject: &str, id: &str, payload: &str) -> String {
        let header = format!("Nats-Msg-Id: {id}\r\n");
        self.publish_with(stream, subject, if id.is_empty() { "" } else { &header }, payload)
    }

    /// Publishes with these header lines.
    pub fn publish_with(
        &mut self,
        stream: &str,
        subject: &str,
        headers: &str,
        payload: &str,
    ) -> String {
        let Some(stream) = self.stream(stream) else { return String::new() };
        let headers = match headers {
            "" => String::new(),
            headers => format!("NATS/1.0\r\n{headers}\r\n"),
        };
        let credit = CreditKind::Publish;
        self.capture(Target::Stream { stream, shard: ID, credit }, subject, &headers, payload)
    }

    /// The answer to a reply subject, once it comes.
    pub fn await_answer(&mut self, reply: &str) -> String {
        for _ in 0..20_000 {
            if let Some(answer) = self.answer(reply) {
                return answer;
            }
            self.turn();
        }
        panic!("no answer to {reply}");
    }

    /// Sends a request to the API without waiting for the answer.
    pub fn ask(&mut self, verb: &str, stream: &str, body: &str) -> String {
        let stream_id = self.stream(stream);
        let target = match verb.starts_with("STREAM.CREATE") {
            true => Target::Api { shard: ID, stream: None },
            false => Target::Api { shard: ID, stream: stream_id },
        };
        self.capture(target, &format!("$JS.API.{verb}"), "", body)
    }

    /// A message of another shard.
    pub fn tell(&mut self, message: ShardMessage) {
        self.out.words.push_back(message);
    }

    pub fn ack(&mut self, stream: &str, subject: &str) -> String {
        let Some(stream) = self.stream(stream) else { return String::new() };
        self.capture(Target::Ack { stream, shard: ID }, subject, "", "")
    }

    /// Credit that has not come home.
    pub fn credit_away(&self, kind: CreditKind) -> u64 {
        self.charged[kind as usize] - self.out.credit_home[kind as usize]
    }

    /// The answer to a reply subject, if it has come.
    pub fn answer(&mut self, reply: &str) -> Option<String> {
        let at = self.inbox.iter().position(|m| m.to == reply)?;
        Some(self.inbox.swap_remove(at).payload)
    }

    /// A stream A with so many messages, dealt to so many subjects in turn.
    pub fn fill(&mut self, subjects: u64, messages: u64) {
        self.create("A", "");
        for n in 0..messages {
            self.publish("A", &format!("a.{}", n % subjects), "", "p");
            if n % 50 == 0 {
                self.turn();
                self.inbox.clear();
            }
        }
        self.settle();
        self.inbox.clear();
    }

    /// A request and its answer.
    pub fn request(&mut self, verb: &str, stream: &str, body: &str) -> String {
        let reply = self.ask(verb, stream, body);
        self.await_answer(&reply)
    }

    pub fn create(&mut self, name: &str, settings: &str) -> String {
        let subject = name.to_lowercase();
        let body = format!(r#"{{"name":"{name}","subjects":["{subject}.>"]{settings}}}"#);
        let answer = self.request(&format!("STREAM.CREATE.{name}"), name, &body);
        assert!(!answer.contains("\"error\""), "{answer}");
        answer
    }

    /// The entry of a message, loading its page.
    fn entry(&mut self, slot: usize, seq: u64) -> Option<corelane_storage::index::Entry> {
        for _ in 0..1_000 {
            match self.shard().streams[slot].index.get(seq) {
                Lookup::Found(entry) => return Some(entry),
                Lookup::Deleted | Lookup::OutOfRange => return None,
                Lookup::NeedPage(key) => match self.shard().fetch_page(slot, key) {
                    Fetched::Failed(why) | Fetched::Damaged(why) => panic!("{why}"),
                    Fetched::Loaded => {}
                    Fetched::Pending(_) => self.turn(),
                },
            }
        }
        panic!("a page does not come");
    }

    /// In how many stretches of the log the messages of a stream lie.
    pub fn stretches(&mut self, stream: &str) -> usize {
        let id = self.stream(stream).expect("a stream");
        let slot = self.shard().slots[&id];
        let (first, last) = {
            let index = &self.shard().streams[slot].index;
            (index.first_seq(), index.last_seq())
        };
        let mut stretches = 0;
        let mut end = None;
        for seq in first..=last {
            let Some(e) = self.entry(slot, seq) else { continue };
            // Between two records of one stream lie an envelope and a frame at most.
            let (segment, at) = (e.position.segment, e.position.offset);
            let near = |(s, to): (SegmentId, u32)| s == segment && at.wrapping_sub(to) < 4096 + 256;
            stretches += usize::from(!end.is_some_and(near));
            end = Some((segment, at + e.size));
        }
        stretches
    }

    pub fn slots(&mut self) -> Vec<usize> {
        let mut slots: Vec<usize> = self.shard().slots.values().copied().collect();
        slots.sort_unstable_by_key(|&s| self.shard().streams[s].id);
        slots
    }

    /// Everything that a restart must bring back.
    pub fn dump(&mut self) -> Dump {
        let mut dump = Dump::new();
        for slot in self.slots() {
            let stream = &self.shard().streams[slot];
            let mut lines = Vec::new();
            let index = &stream.index;
            let (first, last) = (index.first_seq(), index.last_seq());
            let digest = index.digest();
            lines.push(format!(
                "{first}..={last} {} {} {digest:x}",
                index.messages(),
                index.bytes()
            ));
            lines.push(format!("{:?} {:?}", stream.config, stream.created));
            lines.push(format!("{:?} {:?}", stream.last_time, stream.admission.last_applied_id()));
            for seq in first..=last {
                let Some(e) = self.entry(slot, seq) else { continue };
                let table = self.shard().streams[slot].index.subjects();
                let name = text(table.get(e.subject).expect("in use").name());
                lines.push(format!("{seq} {name} {}", e.size));
            }
            let consumers = &self.shard().streams[slot].consumers;
            for c in consumers.by_name.values().map(|&at| &consumers.slab[at]) {
                let info = c.delivery.as_ref().expect("it is led").info();
                // A restart tells consumers at once that what they stood in is gone.
                let at = |seq: u64| seq.max(first - 1);
                let (delivered, floor) = (info.delivered_stream_seq, info.floor_stream_seq);
                let (delivered, floor) = (at(delivered), at(floor));
                lines.push(format!("consumer {} {:?} {delivered} {floor}", c.name, c.config));
            }
            let name = self.shard().streams[slot].config.name.clone();
            dump.insert(name, lines);
        }
        dump
    }

    /// Panics unless the live bytes of every segment are those of what lives in it.
    pub fn check_live(&mut self) {
        let mut audit = LiveAudit::default();
        for _ in 0..10_000 {
            match self.shard().audit_live(&mut audit) {
                Ok(Audited::Done(_)) => return,
                Ok(Audited::Waiting) => self.turn(),
                Err(why) => panic!("{why}"),
            }
        }
        panic!("the shard does not come to rest");
    }
}
