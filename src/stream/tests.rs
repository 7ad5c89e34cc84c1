//! Admission and retention against answers captured from nats-server 2.15.1, and against a model
//! that commits at once.

use std::collections::VecDeque;

use crate::api::cases::{parse, text};
use crate::api::error::ApiError;
use crate::api::types::{DiscardPolicy, StorageType, StreamConfig, StreamConfigRequest};
use crate::stream::ack::AckTemplate;
use crate::stream::admission::*;
use crate::stream::config::*;
use crate::stream::retention::{Evict, Retention};
use crate::types::{Clocks, Timestamp, WallTime};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    seq: u64,
    at: WallTime,
    subject: Vec<u8>,
    size: u64,
}

/// A stream's committed state, by the simplest means.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    messages: Vec<Message>,
    last_seq: u64,
    last_time: WallTime,
    retention: Retention,
    /// Last sequences and sizes of subjects are not known without a search.
    must_look_up: bool,
}

impl Model {
    fn new(config: &StreamConfig) -> Self {
        Model {
            messages: Vec::new(),
            last_seq: config.first_seq.saturating_sub(1),
            last_time: WallTime(0),
            retention: Retention::new(config),
            must_look_up: false,
        }
    }

    fn apply(&mut self, message: Message) {
        assert_eq!(message.seq, self.last_seq + 1);
        assert!(message.at >= self.last_time);
        (self.last_seq, self.last_time) = (message.seq, message.at);
        let subject = message.subject.clone();
        self.messages.push(message);
        for _ in 0..self.retention.of_subject(self.subject_count(&subject)) {
            let first = self.messages.iter().position(|m| m.subject == subject);
            self.messages.remove(first.expect("counted"));
        }
        while self.retention.by_limits(self) == Evict::First {
            self.messages.remove(0);
        }
    }
}

impl StreamView for Model {
    fn first_seq(&self) -> u64 {
        self.messages.first().map_or(self.last_seq + 1, |m| m.seq)
    }
    fn last_seq(&self) -> u64 {
        self.last_seq
    }
    fn last_time(&self) -> WallTime {
        self.last_time
    }
    fn messages(&self) -> u64 {
        self.messages.len() as u64
    }
    fn bytes(&self) -> u64 {
        self.messages.iter().map(|m| m.size).sum()
    }
    fn subject_count(&self, subject: &[u8]) -> u64 {
        self.messages.iter().filter(|m| m.subject == subject).count() as u64
    }
    fn last_matching(&self, filter: &[u8]) -> Option<u64> {
        let matching = |m: &&Message| crate::subject::matches(filter, &m.subject);
        let last = self.messages.iter().rev().find(matching).map_or(0, |m| m.seq);
        (!self.must_look_up).then_some(last)
    }
    fn nth_size(&self, subject: &[u8], nth: u64) -> Option<u64> {
        let mut of = self.messages.iter().filter(|m| m.subject == subject);
        let size = of.nth(nth as usize).expect("there").size;
        (!self.must_look_up).then_some(size)
    }
}

/// A stream whose commits may lag behind its admissions.
struct Stream {
    config: StreamConfig,
    admission: Admission,
    model: Model,
    /// Messages that are not committed, and their headers.
    waiting: VecDeque<(Message, Vec<u8>)>,
}

impl Stream {
    fn new(config: StreamConfig) -> Self {
        Stream {
            admission: Admission::new(&config),
            model: Model::new(&config),
            waiting: VecDeque::new(),
            config,
        }
    }

    fn publish(&mut self, now: Timestamp, publish: &Publish) -> Admitted {
        self.publish_at(Clocks::level(now), publish)
    }

    fn publish_at(&mut self, clocks: Clocks, publish: &Publish) -> Admitted {
        // What must be looked up first leaves no trace.
        self.model.must_look_up = true;
        let admitted = loop {
            self.admission.set_visits(3);
            match self.admission.admit(&self.model, clocks, publish) {
                Admitted::LookUp(LookUp::UnderWay) => self.commit(self.waiting.len()),
                Admitted::LookUp(_) => self.model.must_look_up = false,
                admitted => break admitted,
            }
        };
        self.model.must_look_up = false;
        if let Admitted::Store { seq, at } = admitted {
            let storage = self.config.storage;
            let headers = publish.headers.len();
            let size = stored_size(storage, publish.subject.len(), headers, publish.payload_len);
            let subject = publish.subject.to_vec();
            let message = Message { seq, at, subject, size };
            self.waiting.push_back((message, publish.headers.to_vec()));
        }
        assert_eq!(self.admission.in_flight(), self.waiting.len());
        admitted
    }

    fn commit(&mut self, count: usize) {
        for (message, headers) in self.waiting.drain(..count) {
            let (seq, at) = (message.seq, message.at);
            self.model.apply(message);
            self.admission.apply(seq, at, &headers);
        }
        assert_eq!(self.admission.in_flight(), self.waiting.len());
    }

    fn lose_uncommitted(&mut self) {
        self.waiting.clear();
        self.admission.drop_uncommitted(self.model.last_seq);
    }
}

fn config(body: &[u8]) -> StreamConfig {
    let request = StreamConfigRequest::decode(body, true).expect("json");
    let name = request.config.name.clone();
    check_create(request, &name, &StreamLimits::default()).expect("a configuration")
}

/// Answers of a stream with up to `lag` publishes in flight.
fn captured(lag: usize) {
    let cases = parse(include_str!("testdata/publish.txt"));
    let mut stream = Stream::new(StreamConfig::default());
    let mut now = Timestamp(1_000);
    let mut wrong = Vec::new();
    for case in &cases {
        now = now.plus(1_000);
        match text(&case[0]) {
            "STREAM" => stream = Stream::new(config(&case[1])),
            "SEAL" => {
                let mut request = StreamConfigRequest::decode(&case[1], true).expect("json");
                request.config.sealed = true;
                let name = stream.config.name.clone();
                let limits = StreamLimits::default();
                let new = check_update_request(request, &name, &limits).expect("valid");
                stream.config = check_update(&stream.config, new).expect("sealable");
                stream.admission.update(&stream.config);
            }
            _ => {
                let [_, subject, headers, payload, want] = &case[..] else { panic!("{case:?}") };
                let publish =
                    Publish { subject, reply: b"_I.1", headers, payload_len: payload.len() };
                let admitted = stream.publish(now, &publish);
                let ack = AckTemplate::new(&stream.config.name, "");
                let mut got = Vec::new();
                match admitted {
                    Admitted::Store { seq, .. } => ack.write_stored(&mut got, seq),
                    Admitted::Duplicate { seq } => ack.write_duplicate(&mut got, seq),
                    Admitted::Refuse(error) => ack.write_refused(&mut got, &error),
                    Admitted::LookUp(what) => panic!("{what:?} was looked up"),
                }
                if got != *want {
                    wrong.push(format!(
                        "{} {:.200}\n   got {}\n  want {}",
                        text(subject),
                        String::from_utf8_lossy(headers),
                        text(&got),
                        text(want)
                    ));
                }
                let excess = stream.waiting.len().saturating_sub(lag);
                stream.commit(excess);
            }
        }
    }
    assert!(cases.len() > 200);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn captured_answers() {
    captured(0);
}

#[test]
fn captured_answers_with_some_in_flight() {
    captured(3);
}

#[test]
fn fast_batches_are_refused() {
    let mut stream = Stream::new(config(br#"{"name":"S","allow_batched":true}"#));
    let publish = Publish {
        subject: b"S",
        reply: b"_I.u1.10.ok.1.0.$FI",
        headers: b"NATS/1.0\r\nNats-Expected-Stream: Z\r\n\r\n",
        payload_len: 1,
    };
    let admitted = stream.publish(Timestamp(1), &publish);
    assert!(matches!(admitted, Admitted::Refuse(error) if error.err_code == 10205));
}

#[test]
fn times_never_go_back() {
    let mut stream = Stream::new(config(br#"{"name":"S"}"#));
    let publish = Publish { subject: b"S", reply: b"", headers: b"", payload_len: 1 };
    let mut seen = Vec::new();
    for (now, wall) in [(1, 5), (2, 3), (3, 9), (4, 8)] {
        let clocks = Clocks { now: Timestamp(now), wall: WallTime(wall) };
        match stream.publish_at(clocks, &publish) {
            Admitted::Store { at, .. } => seen.push(at.0),
            other => panic!("{other:?}"),
        }
        if now == 3 {
            stream.commit(3);
        }
    }
    assert_eq!(seen, [5, 5, 9, 9]);
}

#[test]
fn first_sequence() {
    let mut stream = Stream::new(config(br#"{"name":"S","first_seq":10}"#));
    let publish = Publish { subject: b"S", reply: b"", headers: b"", payload_len: 1 };
    let admitted = stream.publish(Timestamp(1), &publish);
    assert!(matches!(admitted, Admitted::Store { seq: 10, .. }));
}

#[test]
fn what_discards_the_new_keeps_the_old() {
    let config = |discard: &str| {
        let text = format!(
            r#"{{"name":"S","discard":"{discard}","max_msgs":1,"max_bytes":10,
                "max_msgs_per_subject":2}}"#
        );
        config(text.as_bytes())
    };
    let message = |seq| Message { seq, at: WallTime(0), subject: b"s".to_vec(), size: 8 };
    for (discard, left) in [("old", 1), ("new", 2)] {
        let mut model = Model::new(&config(discard));
        (1..=3).for_each(|seq| model.apply(message(seq)));
        assert_eq!(model.messages.len(), left, "{discard}");
    }
}

#[test]
fn ages() {
    let config = config(br#"{"name":"S","max_age":1000000000}"#);
    let retention = Retention::new(&config);
    assert_eq!(retention.deadline(Timestamp(5)), Some(Timestamp(1_000_000_005)));
    let now = Timestamp(1_000_000_005);
    assert_eq!(retention.expired_at_or_before(now), Some(Timestamp(5)));
    let none = Retention::new(&StreamConfig::default());
    assert_eq!((none.deadline(now), none.expired_at_or_before(now)), (None, None));
}

/// A small seeded generator, so that the tests need no dependency.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

fn random_config(random: &mut Random) -> StreamConfig {
    let mut config = StreamConfig { name: "S".to_owned(), ..StreamConfig::default() };
    config.max_msg_size = -1;
    config.duplicate_window = 50;
    config.max_msgs_per_subject = random.below(4) as i64;
    if random.chance(2) {
        config.storage = StorageType::Memory;
    }
    if !random.chance(3) {
        config.discard = DiscardPolicy::New;
    }
    config.max_msgs = random.below(3) as i64 * 7;
    config.max_bytes = random.below(3) as i64 * 150;
    config.discard_new_per_subject =
        config.discard == DiscardPolicy::New && config.max_msgs_per_subject > 0 && random.chance(3);
    config
}

fn random_headers(random: &mut Random, last_seq: u64) -> Vec<u8> {
    let mut headers = Vec::new();
    let near = |random: &mut Random| last_seq.saturating_sub(random.below(4));
    if random.chance(3) {
        headers.push(format!("Nats-Msg-Id: {}", random.below(6)));
    }
    if random.chance(8) {
        headers.push(format!("Nats-Expected-Last-Sequence: {}", near(random)));
    }
    if random.chance(4) {
        let seq = if random.chance(3) { 0 } else { near(random) };
        headers.push(format!("Nats-Expected-Last-Subject-Sequence: {seq}"));
        if random.chance(3) {
            let subject = ["s.*", "s.1", "*.2", ">"][random.below(4) as usize];
            headers.push(format!("Nats-Expected-Last-Subject-Sequence-Subject: {subject}"));
        }
    }
    if random.chance(9) {
        headers.push(format!("Nats-Expected-Last-Msg-Id: {}", random.below(6)));
    }
    if headers.is_empty() {
        return Vec::new();
    }
    format!("NATS/1.0\r\n{}\r\n\r\n", headers.join("\r\n")).into_bytes()
}

#[derive(Debug, Default)]
struct Counts {
    stored: u32,
    duplicates: u32,
    refused: std::collections::BTreeMap<u16, u32>,
    lost: u32,
}

/// Publishes the same to a stream that lags and to one that commits at once: the answers must be
/// the same.
fn run_seed(seed: u64, counts: &mut Counts) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        random.next();
    }
    let config = random_config(&mut random);
    let mut lagging = Stream::new(config.clone());
    let mut prompt = Stream::new(config);
    let mut now = Timestamp(100);
    for _ in 0..300 {
        now = now.plus(random.below(5) as i64);
        let subject = format!("s.{}", random.below(4));
        let headers = random_headers(&mut random, prompt.model.last_seq);
        let publish = Publish {
            subject: subject.as_bytes(),
            reply: b"",
            headers: &headers,
            payload_len: random.below(12) as usize,
        };
        let got = lagging.publish(now, &publish);
        let want = prompt.publish(now, &publish);
        assert_eq!(got, want, "seed {seed}: {subject} {}", String::from_utf8_lossy(&headers));
        prompt.commit(prompt.waiting.len());
        match got {
            Admitted::Store { .. } => counts.stored += 1,
            Admitted::Duplicate { .. } => counts.duplicates += 1,
            Admitted::Refuse(error) => *counts.refused.entry(error.err_code).or_default() += 1,
            Admitted::LookUp(what) => panic!("{what:?} was looked up"),
        }
        if random.chance(4) {
            let some = random.below(lagging.waiting.len() as u64 + 1) as usize;
            lagging.commit(some);
        }
        if random.chance(60) {
            counts.lost += 1;
            lagging.lose_uncommitted();
            prompt.model = lagging.model.clone();
            restart(&mut prompt, &lagging);
        }
    }
    lagging.commit(lagging.waiting.len());
    assert_eq!(lagging.model, prompt.model, "seed {seed}");
}

/// Gives `stream` the memory of what `of` has committed, the way a checkpoint does.
fn restart(stream: &mut Stream, of: &Stream) {
    stream.admission = Admission::new(&stream.config);
    let committed = of.model.last_seq;
    for page in of.admission.dedupe().pages() {
        let mut bytes = Vec::new();
        if of.admission.dedupe().encode_page(page, committed, &mut bytes) {
            assert!(stream.admission.dedupe_mut().restore_page(&bytes));
        }
    }
    stream.admission.restore_last_id(of.admission.last_applied_id());
}

#[test]
fn overlay_equals_committing_at_once() {
    let mut counts = Counts::default();
    for seed in 0..1_500 {
        run_seed(seed, &mut counts);
    }
    assert!(counts.stored > 50_000, "{counts:?}");
    assert!(counts.duplicates > 5_000 && counts.lost > 1_000, "{counts:?}");
    for code in [10_071, 10_070, 10_077] {
        let seen = counts.refused.get(&code).copied().unwrap_or(0);
        assert!(seen > 1_000, "{code} {counts:?}");
    }
}

/// A stream that lags, and whose messages are deleted meanwhile.
struct Deleting {
    stream: Stream,
    /// What is deleted, each once the sequence before it is committed.
    deletions: VecDeque<(u64, u64)>,
}

impl Deleting {
    fn delete(&mut self, seq: u64) {
        let last = self.stream.waiting.back().map_or(self.stream.model.last_seq, |(m, _)| m.seq);
        self.deletions.push_back((last, seq));
        self.stream.admission.removal_decided();
    }

    /// Applies what comes next. False if that is nothing.
    fn step(&mut self) -> bool {
        let committed = self.stream.model.last_seq;
        if let Some((_, seq)) = self.deletions.pop_front_if(|(behind, _)| *behind <= committed) {
            self.stream.model.messages.retain(|m| m.seq != seq);
            self.stream.admission.removal_applied();
            return true;
        }
        let some = !self.stream.waiting.is_empty();
        self.stream.commit(usize::from(some));
        some
    }

    /// Publishes, where it must wait once all is applied. Answers whether it did wait, too.
    fn publish(&mut self, now: Timestamp, publish: &Publish) -> (Admitted, bool) {
        self.stream.admission.set_visits(u32::MAX);
        let (model, clocks) = (&self.stream.model, Clocks::level(now));
        let waits = self.stream.admission.admit(model, clocks, publish);
        let waits = waits == Admitted::LookUp(LookUp::UnderWay);
        if waits {
            while self.step() {}
        } else {
            let last =
                self.stream.waiting.back().map_or(self.stream.model.last_seq, |(m, _)| m.seq);
            self.stream.admission.withdraw(last + 1);
        }
        (self.stream.publish(now, publish), waits)
    }
}

/// Deletes messages while others are in flight that would replace them: what is stored and what is
/// refused must be the same as where all happens at once. Answers how many publishes waited and how
/// many were refused.
fn delete_beside_publishes(seed: u64) -> [u32; 2] {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut config = StreamConfig { name: "S".to_owned(), ..StreamConfig::default() };
    config.max_msg_size = -1;
    config.discard = DiscardPolicy::New;
    config.max_msgs_per_subject = 1 + random.below(3) as i64;
    config.max_msgs = random.below(2) as i64 * 7;
    config.max_bytes = 300;
    config.discard_new_per_subject = random.chance(4);
    let mut prompt = Stream::new(config.clone());
    let mut lagging = Deleting { stream: Stream::new(config), deletions: VecDeque::new() };
    let mut counts = [0; 2];
    for now in 0..300 {
        let subject = format!("s.{}", random.below(4));
        let payload_len = random.below(60) as usize;
        let publish =
            Publish { subject: subject.as_bytes(), reply: b"", headers: b"", payload_len };
        let (got, waited) = lagging.publish(Timestamp(now), &publish);
        let want = prompt.publish(Timestamp(now), &publish);
        assert_eq!(got, want, "seed {seed}, step {now}");
        prompt.commit(prompt.waiting.len());
        counts[0] += u32::from(waited);
        counts[1] += u32::from(matches!(got, Admitted::Refuse(_)));
        if random.chance(3) && !prompt.model.messages.is_empty() {
            let at = random.below(prompt.model.messages.len() as u64) as usize;
            let gone = prompt.model.messages.remove(at);
            lagging.delete(gone.seq);
        }
        for _ in 0..random.below(4) {
            lagging.step();
            assert!(lagging.stream.model.bytes() <= 300, "seed {seed}, step {now}");
        }
    }
    while lagging.step() {}
    assert_eq!(lagging.stream.model, prompt.model, "seed {seed}");
    counts
}

#[test]
fn a_message_that_is_deleted_frees_room_once() {
    let sum = |a: [u32; 2], b: [u32; 2]| [a[0] + b[0], a[1] + b[1]];
    let counts = (0..2_000).map(delete_beside_publishes).fold([0; 2], sum);
    assert!(counts[0] > 5_000 && counts[1] > 20_000, "{counts:?}");
}

#[test]
fn replay_rebuilds_what_is_remembered() {
    let mut config = config(br#"{"name":"S"}"#);
    config.duplicate_window = 1_000;
    let mut stream = Stream::new(config.clone());
    let mut replayed = Admission::new(&config);
    for i in 0..50u64 {
        let headers = match i % 3 {
            0 => Vec::new(),
            _ => format!("NATS/1.0\r\nNats-Msg-Id: {i}\r\n\r\n").into_bytes(),
        };
        let publish = Publish { subject: b"S", reply: b"", headers: &headers, payload_len: 0 };
        let now = Timestamp(i as i64 * 100);
        match stream.publish(now, &publish) {
            Admitted::Store { seq, at } => replayed.apply(seq, at, &headers),
            other => panic!("{other:?}"),
        }
    }
    stream.commit(50);
    assert_eq!(replayed.last_applied_id(), b"49");
    assert_eq!(replayed.last_applied_id(), stream.admission.last_applied_id());
    for i in 30..50u64 {
        let headers = format!("NATS/1.0\r\nNats-Msg-Id: {i}\r\n\r\n").into_bytes();
        let publish = Publish { subject: b"S", reply: b"", headers: &headers, payload_len: 0 };
        let now = Timestamp(5_000);
        let want = match i % 3 != 0 && i * 100 > 4_000 {
            true => Admitted::Duplicate { seq: i + 1 },
            false => Admitted::Store { seq: 51, at: WallTime(now.0) },
        };
        let got = replayed.admit(&stream.model, Clocks::level(now), &publish);
        assert_eq!(got, want, "{i}");
        replayed.drop_uncommitted(50);
    }
}

#[test]
fn purges_and_deletes() {
    let open = StreamConfig::default();
    let denied = StreamConfig { deny_delete: true, deny_purge: true, ..open.clone() };
    let sealed = StreamConfig { sealed: true, ..denied.clone() };
    let codes = [&open, &denied, &sealed].map(|c| check_purge(c).err().map(|e| e.err_code));
    assert_eq!(codes, [None, Some(10_110), Some(10_109)]);
    let shown = |result: Result<(), ApiError>| {
        result.err().map(|e| (e.err_code, e.description.into_owned())).unwrap_or_default()
    };
    let got = [&open, &denied, &sealed].map(|c| shown(check_deletes(c)));
    let want = [
        (0, ""),
        (10_057, "message delete not permitted"),
        (10_109, "invalid operation on sealed stream"),
    ];
    assert_eq!(got, want.map(|(code, text)| (code, text.to_owned())));
    let memory = StreamConfig { storage: StorageType::Memory, ..open.clone() };
    for (config, seq, live, want) in [
        (&open, 5, true, (0, "")),
        (&open, 5, false, (10_043, "sequence 5 not found")),
        (&open, 0, false, (10_057, "no message found")),
        (&open, 2, false, (10_057, "no message found")),
        (&open, 10, false, (10_057, "stream store EOF")),
        (&memory, 5, true, (0, "")),
        (&memory, 0, false, (10_043, "sequence 0 not found")),
        (&memory, 2, false, (10_043, "sequence 2 not found")),
        (&memory, 10, false, (10_043, "sequence 10 not found")),
    ] {
        let got = shown(check_msg_delete(config, seq, 3..10, live));
        assert_eq!(got, (want.0, want.1.to_owned()), "{seq}");
    }
}

/// Anything may stand in a header block; nothing in it may stop the server.
#[test]
fn damaged_headers() {
    let cases = parse(include_str!("testdata/publish.txt"));
    let blocks: Vec<&[u8]> =
        cases.iter().filter(|c| c.len() == 5 && c[2].len() < 300).map(|c| &c[2][..]).collect();
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut stream = Stream::new(config(br#"{"name":"S"}"#));
    for _ in 0..50_000 {
        let mut block = blocks[random.below(blocks.len() as u64) as usize].to_vec();
        for _ in 0..random.below(4) {
            let at = random.below(block.len() as u64 + 1) as usize;
            match random.below(3) {
                0 => block.insert(at, random.next() as u8),
                1 if at < block.len() => block[at] = b"\r\n: Nats-"[random.below(9) as usize],
                _ => block.truncate(at),
            }
        }
        let publish = Publish { subject: b"S", reply: b"", headers: &block, payload_len: 0 };
        stream.publish(Timestamp(1), &publish);
        stream.lose_uncommitted();
    }
}

#[test]
fn what_the_server_says_itself_is_taken_out_of_a_header_block() {
    use super::headers::without_server_fields;
    let info = "Nats-Request-Info: x";
    for (block, want) in [
        ("NATS/1.0||".to_owned(), None),
        ("NATS/1.0|A: b||".to_owned(), None),
        ("NATS/1.0 503||".to_owned(), Some("")),
        ("NATS/1.0 ||".to_owned(), Some("")),
        ("NATS/1.0 404 No Messages|A: b||".to_owned(), Some("NATS/1.0|A: b||")),
        ("NATS/1.0503|A: b||".to_owned(), Some("NATS/1.0|A: b||")),
        ("NATS/1.0 503|A: b|NATS/1.0 100||".to_owned(), Some("NATS/1.0|A: b|NATS/1.0 100||")),
        ("NATS/1.0\n503|A: b||".to_owned(), Some("NATS/1.0|A: b||")),
        ("NATS/1.0 503\nA: b||".to_owned(), Some("")),
        ("NATS/1.0 503|".to_owned(), Some("NATS/1.0|")),
        ("NATS/1.0 503||A: b||".to_owned(), Some("NATS/1.0||A: b||")),
        ("NATS/1.0 503".to_owned(), None),
        ("NATS/1.0\r503|A: b||".to_owned(), None),
        ("NATS/1.1 503|A: b||".to_owned(), None),
        ("nats/1.0 503|A: b||".to_owned(), None),
        (" NATS/1.0 503|A: b||".to_owned(), None),
        ("|NATS/1.0 503|A: b||".to_owned(), None),
        ("x".to_owned(), None),
        (format!("NATS/1.0|{info}||"), Some("")),
        (format!("NATS/1.0 503|{info}||"), Some("")),
        (format!("NATS/1.0 503|{info}|A: b||"), Some("NATS/1.0|A: b||")),
    ] {
        let got = without_server_fields(block.replace('|', "\r\n").as_bytes());
        let want = want.map(|w| w.replace('|', "\r\n").into_bytes());
        assert_eq!(got, want, "{block:?}");
    }
}
