//! A stream in a map, one consumer on it, and what a shard does between them.

use crate::api::ack::AckKind;
use crate::api::types::PullRequest;
use crate::consumer::pending::{FilterGroups, Handle};
use crate::consumer::*;
use crate::subject;
use crate::types::{ConnId, ReactorId, Timestamp, WallTime};
use std::collections::BTreeMap;

/// One millisecond.
pub const MS: i64 = 1_000_000;

/// The requester of every test request.
pub const ORIGIN: Origin = Origin { reactor: ReactorId(0), conn: ConnId(7) };

/// What rate limits let pass at once.
pub const BURST_BYTES: u64 = 120;

/// Settings of a pull consumer with explicit acknowledgements, as NATS fills them in.
pub fn pull_settings() -> ConsumerSettings {
    ConsumerSettings {
        stream: b"S".to_vec(),
        name: b"C".to_vec(),
        mode: Mode::Pull(PullSettings { max_waiting: 512, ..Default::default() }),
        ack_policy: AckPolicy::Explicit,
        ack_wait: 30 * SECOND,
        backoff: Vec::new(),
        max_deliver: 0,
        max_ack_pending: 1000,
        headers_only: false,
        replay: ReplayPolicy::Instant,
        inactive_threshold: 0,
        volatile: false,
    }
}

/// Settings of a push consumer to `dlv`.
pub fn push_settings() -> ConsumerSettings {
    let push = PushSettings { deliver_subject: b"dlv".to_vec(), ..Default::default() };
    ConsumerSettings { mode: Mode::Push(push), ..pull_settings() }
}

/// A stored message.
#[derive(Clone, Debug)]
pub struct Stored {
    pub subject: Vec<u8>,
    pub payload_bytes: u32,
    pub stored: WallTime,
}

/// A consumer with all that a shard keeps of it, whose log is an argument.
#[derive(Clone)]
pub struct Consumer {
    pub ledger: Ledger,
    delivery: Delivery,
    /// Its first delta, until it is taken.
    start: Option<Vec<u8>>,
    now: Timestamp,
    seed: u64,
}

/// A delta that was taken, to be handed back when it is durable; `None` for the first one, which is
/// applied at once.
pub struct Taken(Option<Vec<u8>>);

impl Consumer {
    pub fn new(settings: ConsumerSettings, now: Timestamp, at: StartPosition, seed: u64) -> Self {
        let start = at.to_delta();
        let volatile = settings.volatile;
        let mut c = Consumer::restore(settings, now, None, seed).expect("a blank one");
        c.apply_delta(&start).expect("a start");
        Consumer { start: (!volatile).then_some(start), ..c }
    }

    pub fn restore(
        settings: ConsumerSettings,
        now: Timestamp,
        snapshot: Option<&[u8]>,
        seed: u64,
    ) -> Result<Self, Corrupt> {
        let ledger = match snapshot {
            Some(bytes) => Ledger::decode(settings, bytes)?,
            None => Ledger::new(settings),
        };
        let delivery = Delivery::new(&ledger, now, seed, BURST_BYTES);
        Ok(Consumer { ledger, delivery, start: None, now, seed })
    }

    pub fn apply_delta(&mut self, body: &[u8]) -> Result<(), Corrupt> {
        self.ledger.apply(body)?;
        self.delivery = Delivery::new(&self.ledger, self.now, self.seed, BURST_BYTES);
        Ok(())
    }

    pub fn recovered(&mut self, now: Timestamp, stream_last: u64, clean: bool) {
        self.delivery = Delivery::new(&self.ledger, now, self.seed, BURST_BYTES);
        if !clean {
            self.delivery.jump(stream_last);
        }
    }

    pub fn set_rate_burst(&mut self, bytes: u64) {
        self.delivery.set_rate_burst(bytes);
    }

    pub fn take_delta(&mut self, out: &mut Vec<u8>) -> Option<Taken> {
        if let Some(start) = self.start.take() {
            out.extend_from_slice(&start);
            return Some(Taken(None));
        }
        if !self.delivery.is_dirty() {
            return None;
        }
        let body = self.delivery.delta().to_vec();
        self.delivery.delta_logged();
        out.extend_from_slice(&body);
        Some(Taken(Some(body)))
    }

    pub fn delta_durable(&mut self, taken: Taken) {
        if let Some(body) = taken.0 {
            self.ledger.apply(&body).expect("a delta");
            self.delivery.applied(&self.ledger);
        }
    }

    pub fn pull(
        &mut self,
        now: Timestamp,
        body: &[u8],
        inbox: &[u8],
        origin: Origin,
        sink: &mut dyn Sink,
    ) {
        self.delivery.pull(now, PullRequest::decode(body), inbox, origin, sink);
    }

    pub fn ack(
        &mut self,
        now: Timestamp,
        ack: &AckSubject,
        payload: &[u8],
        reply: &[u8],
        origin: Origin,
        sink: &mut dyn Sink,
    ) -> bool {
        self.delivery.ack(now, ack, AckKind::parse(payload), reply, origin, sink)
    }

    pub fn update(&mut self, now: Timestamp, settings: ConsumerSettings) {
        self.ledger.configure(settings);
        self.delivery.reconfigured(now, &self.ledger);
    }

    pub fn encode_snapshot(&self, out: &mut Vec<u8>) {
        self.ledger.encode(out);
    }

    pub fn same_state(&self, other: &Consumer) -> bool {
        self.view == other.view
    }
}

impl std::ops::Deref for Consumer {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.delivery
    }
}

impl std::ops::DerefMut for Consumer {
    fn deref_mut(&mut self) -> &mut Delivery {
        &mut self.delivery
    }
}

/// A stream with one consumer.
pub struct Bench {
    pub now: Timestamp,
    pub messages: BTreeMap<u64, Stored>,
    pub last_seq: u64,
    pub filters: Vec<Vec<u8>>,
    pub groups: FilterGroups,
    pub handle: Handle,
    pub consumer: Consumer,
    pub sink: Recorder,
    /// Every delta that was taken and is durable.
    pub log: Vec<Vec<u8>>,
}

impl Bench {
    /// A bench with `count` stored messages of five bytes on `s.a`, at times 1 ms, 2 ms, ...
    pub fn new(settings: ConsumerSettings, count: u64) -> Self {
        let mut bench =
            Self::bare(settings, &[], StartPosition { next_seq: 1, ..Default::default() });
        for _ in 0..count {
            bench.append(b"s.a");
        }
        bench
    }

    pub fn bare(settings: ConsumerSettings, filters: &[&[u8]], start: StartPosition) -> Self {
        let filters: Vec<Vec<u8>> = filters.iter().map(|f| f.to_vec()).collect();
        let now = Timestamp(0);
        let mut groups = FilterGroups::new();
        let handle = groups.add(&filters, start.next_seq, 0, 0);
        let mut consumer = Consumer::new(settings, now, start, 1);
        let mut log = vec![Vec::new()];
        let mark = consumer.take_delta(&mut log[0]).expect("a start");
        consumer.delta_durable(mark);
        Bench {
            now,
            messages: BTreeMap::new(),
            last_seq: 0,
            filters,
            groups,
            handle,
            consumer,
            sink: Recorder::default(),
            log,
        }
    }

    pub fn matches(&self, s: &[u8]) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|f| subject::matches(f, s))
    }

    /// Stores a message, a millisecond after the last.
    pub fn append(&mut self, s: &[u8]) -> u64 {
        self.append_sized(s, 5)
    }

    pub fn append_sized(&mut self, s: &[u8], payload_bytes: u32) -> u64 {
        self.last_seq += 1;
        let stored = WallTime(self.last_seq as i64 * MS);
        self.messages.insert(self.last_seq, Stored { subject: s.to_vec(), payload_bytes, stored });
        let mut woken = false;
        let id = subject_id(s);
        self.groups.appended(id, s, self.last_seq, |_| woken = true);
        if woken {
            self.consumer.arrived();
        }
        self.last_seq
    }

    /// Removes a message from the stream.
    pub fn remove(&mut self, seq: u64) {
        let Some(m) = self.messages.remove(&seq) else { return };
        self.groups.removed(subject_id(&m.subject), &m.subject, seq);
        let mut concerned = Vec::new();
        self.groups.watchers(seq, &mut concerned);
        if !concerned.is_empty() {
            self.consumer.removed(self.now, seq);
        }
        self.after();
    }

    /// Removes everything below.
    pub fn purge_below(&mut self, below: u64) {
        self.messages = self.messages.split_off(&below);
        let filters = self.filters.clone();
        let messages = &self.messages;
        self.groups.purged_below(below, |_| {
            let hit =
                |s: &[u8]| filters.is_empty() || filters.iter().any(|f| subject::matches(f, s));
            messages.values().filter(|m| hit(&m.subject)).count() as u64
        });
        self.consumer.set_counted(self.groups.pending(self.handle));
        self.consumer.purged_below(below);
        self.after();
    }

    fn after(&mut self) {
        self.groups.moved(self.handle, self.consumer.progress());
        self.groups.watch(self.handle, self.consumer.watched());
    }

    pub fn counted(&mut self) {
        self.consumer.set_counted(self.groups.pending(self.handle));
    }

    pub fn pull(&mut self, body: &str) {
        self.pull_to(body, "inbox");
    }

    pub fn pull_to(&mut self, body: &str, inbox: &str) {
        self.counted();
        self.consumer.pull(self.now, body.as_bytes(), inbox.as_bytes(), ORIGIN, &mut self.sink);
        self.drive();
    }

    pub fn ack(&mut self, seq: u64, consumer_seq: u64, payload: &str) -> bool {
        self.counted();
        let ack = AckSubject { deliveries: 1, seq, consumer_seq, ..Default::default() };
        let bytes = payload.as_bytes();
        let heard = self.consumer.ack(self.now, &ack, bytes, b"ar", ORIGIN, &mut self.sink);
        self.drive();
        heard
    }

    /// Lets time pass, ticking and driving at each deadline on the way.
    pub fn until(&mut self, now: i64) {
        while let Some(at) = self.consumer.deadline().filter(|at| at.0 <= now) {
            self.now = self.now.max(at);
            self.counted();
            self.consumer.tick(self.now, &mut self.sink);
            self.drive();
        }
        self.now = Timestamp(now.max(self.now.0));
    }

    /// What a shard does when something happened to the consumer.
    pub fn drive(&mut self) {
        self.drive_without_flush();
        self.flush();
        // What is durable now may have been waited for.
        self.drive_without_flush();
        self.flush();
    }

    pub fn drive_without_flush(&mut self) {
        self.counted();
        loop {
            match self.consumer.wants(self.now, &mut self.sink) {
                Want::Nothing | Want::Wait(_) => break,
                Want::Exactly(seq) if self.messages.contains_key(&seq) => {
                    if !self.offer(seq) {
                        break;
                    }
                }
                Want::Exactly(seq) => self.consumer.skip(self.now, seq),
                Want::Next { from } => {
                    let next = self.messages.range(from..).find(|(_, m)| self.matches(&m.subject));
                    match next.map(|(&seq, _)| seq) {
                        Some(seq) => {
                            if !self.offer(seq) {
                                break;
                            }
                        }
                        None => {
                            self.consumer.exhausted(self.last_seq + 1);
                            self.groups.park(self.handle);
                        }
                    }
                }
            }
        }
        self.after();
        let place = self.groups.pending(self.handle);
        assert_eq!(self.consumer.pending() - self.start_left(), place, "counts agree");
    }

    fn start_left(&self) -> u64 {
        self.consumer.view.start_left()
    }

    fn offer(&mut self, seq: u64) -> bool {
        let m = &self.messages[&seq];
        let meta = Meta {
            subject_bytes: m.subject.len() as u32,
            header_bytes: 0,
            payload_bytes: m.payload_bytes,
            stored: m.stored,
        };
        let outcome = self.consumer.deliver(self.now, seq, &meta, &mut self.sink);
        !matches!(outcome, Outcome::Wait(_))
    }

    pub fn flush(&mut self) {
        let mut delta = Vec::new();
        if let Some(mark) = self.consumer.take_delta(&mut delta) {
            self.log.push(delta);
            self.consumer.delta_durable(mark);
        }
    }

    /// What was sent since the last call, a line each.
    pub fn lines(&mut self) -> Vec<String> {
        self.sink.take().iter().map(line).collect()
    }

    /// Delivered, ack floor, ack pending, redelivered, waiting, pending.
    pub fn numbers(&mut self) -> [u64; 8] {
        self.counted();
        let i = self.consumer.info();
        [
            i.delivered_consumer_seq,
            i.delivered_stream_seq,
            i.floor_consumer_seq,
            i.floor_stream_seq,
            i.ack_pending as u64,
            i.redelivered as u64,
            i.waiting as u64,
            i.pending,
        ]
    }
}

/// A number for a subject, as a stream would keep one.
pub fn subject_id(s: &[u8]) -> u32 {
    s.iter().fold(7, |n, &b| n * 31 + u32::from(b))
}

fn line(output: &Output) -> String {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    match output {
        Output::Message { seq, consumer_seq, to, reply, .. } => {
            let reply = text(reply);
            let reply = reply.strip_prefix("$JS.ACK.S.C").expect("an ack subject");
            let _ = (seq, consumer_seq);
            format!("{} {reply}", text(to))
        }
        Output::Status { to, head, reply, .. } => {
            let head = text(head);
            let head = head.strip_prefix("NATS/1.0 ").expect("a status");
            let head = head.strip_suffix("\r\n\r\n").expect("an end").replace("\r\n", "|");
            let head =
                head.replace("Nats-Pending-Messages", "M").replace("Nats-Pending-Bytes", "B");
            let reply = if reply.is_empty() { String::new() } else { format!(" ^{}", text(reply)) };
            format!("{} {head}{reply}", text(to))
        }
        Output::AckReply { to, .. } => format!("{} ack", text(to)),
        Output::MaxDeliveries { seq, deliveries } => format!("max {seq} {deliveries}"),
        Output::AutoDelete => "auto delete".to_owned(),
    }
}
