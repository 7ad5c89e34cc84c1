//! JetStream consumers that read a stream: from its start to its end, or while it is published to.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    args::{JsReplay, JsSustained, Mode},
    clock::Nanos,
    conn::Conn,
    driver::{Client, drive},
    jetstream,
    outcome::Outcome,
    run::{self, Errors, Job, Meter, Plan, Sampled, Shared, Watch, deal},
    scenario::publish::{self, Published, Publisher, Publishing},
    wire::{Msg, write_pub},
};

/// What a consumer reads, and how.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The stream.
    pub stream: String,
    /// How messages come.
    pub mode: Mode,
    /// Messages of a pull request.
    pub batch: usize,
    /// Only what matches.
    pub filter: Option<String>,
    /// Whether to end when everything that was there at the start has come; else at the stop.
    pub to_the_end: bool,
}

/// One consumer on a connection of its own.
pub struct Reader<'a> {
    reading: Reading,
    name: String,
    inbox: String,
    delivery_sid: u32,
    meter: &'a Meter,
    shared: &'a Shared,
    next: Vec<u8>,
    out: Vec<u8>,
    /// What is there to be read; known once the consumer is made.
    expected: Option<u64>,
    received: u64,
    batch: u64,
    /// What the pull requests under way may still bring.
    requested: usize,
    last_stream_seq: u64,
    last_consumer_seq: u64,
    /// Deliveries out of order or missing, by their sequences.
    gaps: u64,
    errors: Errors,
}

/// How long a pull request waits.
const PULL_EXPIRES_NS: u64 = 30_000_000_000;

impl<'a> Reader<'a> {
    /// Connects; the consumer is made when the driver starts.
    pub fn connect(
        server: SocketAddr,
        reading: &Reading,
        meter: &'a Meter,
        shared: &'a Shared,
    ) -> Result<(Conn, Self)> {
        let mut conn = Conn::open(server)?;
        let inbox = conn.inbox().to_owned();
        conn.subscribe(&format!("{inbox}.made"), "")?;
        let delivery_sid = conn.subscribe(&format!("{inbox}.d"), "")?;
        conn.flush()?;
        // An inbox is one token after its first dot.
        let name = inbox.trim_start_matches("_INBOX.").to_owned();
        let mut reader = Self {
            reading: reading.clone(),
            name,
            inbox,
            delivery_sid,
            meter,
            shared,
            next: Vec::new(),
            out: Vec::new(),
            expected: None,
            received: 0,
            batch: 0,
            requested: 0,
            last_stream_seq: 0,
            last_consumer_seq: 0,
            gaps: 0,
            errors: Errors::default(),
        };
        reader.make();
        Ok((conn, reader))
    }

    fn make(&mut self) {
        let mut config = json!({
            "name": self.name,
            "deliver_policy": "all",
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": true,
            "num_replicas": 1,
            "inactive_threshold": 300_000_000_000_u64,
        });
        if self.reading.mode == Mode::Push {
            config["deliver_subject"] = json!(format!("{}.d", self.inbox));
            config["flow_control"] = json!(true);
            config["idle_heartbeat"] = json!(5_000_000_000_u64);
            config["max_deliver"] = json!(1);
        }
        if let Some(filter) = &self.reading.filter {
            config["filter_subject"] = json!(filter);
        }
        let stream = &self.reading.stream;
        let request = json!({ "stream_name": stream, "config": config, "action": "create" });
        // Without the filter in the subject, which every server since 2.9 takes.
        let subject = match &self.reading.filter {
            None => format!("$JS.API.CONSUMER.CREATE.{stream}.{}", self.name),
            Some(filter) => format!("$JS.API.CONSUMER.CREATE.{stream}.{}.{filter}", self.name),
        };
        let reply = format!("{}.made", self.inbox);
        let bytes = request.to_string();
        write_pub(&mut self.next, subject.as_bytes(), reply.as_bytes(), bytes.as_bytes());
    }

    fn made(&mut self, msg: &Msg<'_>) {
        let answer: Value = serde_json::from_slice(msg.payload).unwrap_or(Value::Null);
        if answer.get("error").is_some() || msg.status().is_some() {
            self.errors.add(&format!("cannot make a consumer: {}", answer["error"]));
            self.shared.stop();
            return;
        }
        // What a push consumer has sent by the time it answers is no longer pending.
        let pending = answer["num_pending"].as_u64().unwrap_or(0);
        let delivered = answer["delivered"]["consumer_seq"].as_u64().unwrap_or(0);
        self.expected = Some(pending + delivered);
        self.pull();
    }

    /// Asks for more when half of what was asked for has come.
    fn pull(&mut self) {
        if self.reading.mode == Mode::Push || self.requested > self.reading.batch / 2 {
            return;
        }
        let count = self.reading.batch - self.requested;
        self.requested += count;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.reading.stream, self.name);
        let request = format!("{{\"batch\":{count},\"expires\":{PULL_EXPIRES_NS}}}");
        let reply = format!("{}.d", self.inbox);
        write_pub(&mut self.next, subject.as_bytes(), reply.as_bytes(), request.as_bytes());
    }

    /// Flow control and heartbeats of a push consumer, ends of pull requests.
    fn status(&mut self, msg: &Msg<'_>, code: u16) {
        let number =
            |name: &[u8]| msg.header_value(name).and_then(crate::wire::decimal).unwrap_or(0);
        match code {
            100 => {
                let stalled = msg.header_value(b"Nats-Consumer-Stalled").unwrap_or(b"");
                let answer_to = if msg.reply.is_empty() { stalled } else { msg.reply };
                if !answer_to.is_empty() {
                    write_pub(&mut self.next, answer_to, b"", b"");
                }
            }
            404 | 408 => {
                let unused = number(b"Nats-Pending-Messages");
                self.requested = self.requested.saturating_sub(unused);
                self.pull();
            }
            _ => {
                let (_, text) = msg.status().unwrap_or((code, b""));
                self.errors.add(&format!("status {code} {}", String::from_utf8_lossy(text)));
                self.shared.stop();
            }
        }
    }

    fn is_through(&self) -> bool {
        self.reading.to_the_end && self.expected.is_some_and(|expected| self.received >= expected)
    }
}

impl Client for Reader<'_> {
    fn on_msg(&mut self, msg: &Msg<'_>, _at: Nanos) {
        if msg.sid != self.delivery_sid {
            self.made(msg);
            return;
        }
        if !msg.header.is_empty()
            && let Some((code, _)) = msg.status()
        {
            self.status(msg, code);
            return;
        }
        self.batch += 1;
        self.requested = self.requested.saturating_sub(1);
        let Some((stream, consumer)) = jetstream::delivery_sequences(msg.reply) else {
            self.gaps += 1;
            return;
        };
        self.gaps += u64::from(consumer != self.last_consumer_seq + 1)
            + u64::from(stream <= self.last_stream_seq);
        (self.last_stream_seq, self.last_consumer_seq) = (stream, consumer);
    }

    fn end_of_read(&mut self) {
        self.received += self.batch;
        self.meter.add_received(std::mem::take(&mut self.batch));
        if self.expected.is_some() && !self.shared.is_stopped() {
            self.pull();
        }
    }

    fn prepare(&mut self, _now: Nanos) -> usize {
        self.out.clear();
        std::mem::swap(&mut self.out, &mut self.next);
        self.out.len()
    }

    fn output(&self) -> &[u8] {
        &self.out
    }

    fn is_done(&self, _now: Nanos) -> bool {
        self.is_through() || self.shared.is_stopped()
    }
}

/// Removes the consumers, and reports what they found.
fn finish(server: SocketAddr, readers: &[Reader<'_>], outcome: &mut Outcome) -> Result<()> {
    let mut conn = Conn::open(server)?;
    let mut gaps = 0;
    for reader in readers {
        let subject = format!("$JS.API.CONSUMER.DELETE.{}.{}", reader.reading.stream, reader.name);
        let _ = conn.request_json(&subject, &Value::Null);
        gaps += reader.gaps;
        outcome.errors(&reader.errors);
    }
    outcome.figure("gaps", gaps as f64, "msgs");
    Ok(())
}

/// Reads a stream to its end with so many consumers.
pub fn replay(
    server: SocketAddr,
    reading: &Reading,
    (consumers, expected, limit): (usize, u64, Duration),
    watch: Watch,
) -> Result<(Sampled, Outcome)> {
    ensure!(consumers > 0, "nobody would read anything");
    let shared = Shared::new(consumers);
    let shared = &shared;
    let readers = (0..consumers)
        .map(|index| Reader::connect(server, reading, shared.meter(index), shared))
        .collect::<Result<Vec<_>>>()?;
    let jobs: Vec<Job<'_, Vec<Reader<'_>>>> = deal(readers, super::cores())
        .into_iter()
        .map(|hand| -> Job<'_, _> { Box::new(move || drive(hand, shared)) })
        .collect();
    let until_received = Some(expected * consumers as u64);
    let plan = Plan { warmup: Duration::ZERO, measure: limit, until_received };
    let (sampled, readers) = run::run("js-replay", plan, watch, shared, jobs)?;
    let readers: Vec<_> = readers.into_iter().flatten().collect();
    let mut outcome = Outcome::new("js-replay");
    finish(server, &readers, &mut outcome)?;
    if !outcome.errors.is_empty() {
        bail!("the replay was refused: {:?}", outcome.errors);
    }
    Ok((sampled, outcome))
}

/// `js-replay`.
pub fn run(server: SocketAddr, args: &JsReplay, watch: Watch) -> Result<Vec<Outcome>> {
    let msgs = args.msgs.unwrap_or((512 << 20) / args.size.max(1) as u64);
    if !args.no_fill {
        drop(publish::prepare_stream(server, &args.stream, "bench.js")?);
        let publishing = Publishing {
            subject: "bench.js".to_owned(),
            subjects: 1,
            size: args.size,
            clients: 4,
            in_flight: ((4 << 20) / args.size.max(1)).clamp(10, 500),
            rate: None,
            quota: Some(msgs),
        };
        publish::fill(server, watch, publishing, args.limit)?;
    }
    let expected = jetstream::stream_messages(&mut Conn::open(server)?, &args.stream.stream)?;
    let reading = Reading {
        stream: args.stream.stream.clone(),
        mode: args.mode,
        batch: args.batch,
        filter: args.filter.clone(),
        to_the_end: true,
    };
    let mut outcomes = Vec::new();
    for &consumers in &args.consumers {
        let limits = (consumers, expected, args.limit);
        let (sampled, mut outcome) = replay(server, &reading, limits, watch)?;
        outcome = outcome
            .parameter("size", args.size)
            .parameter("msgs", expected)
            .parameter("consumers", consumers)
            .parameter("mode", format!("{:?}", args.mode).to_lowercase());
        outcome.rates(&sampled, sampled.received, args.size);
        outcomes.push(outcome);
    }
    if !args.no_fill {
        publish::drop_stream(server, &args.stream)?;
    }
    Ok(outcomes)
}

/// A thread's clients in `js-sustained`.
enum Hand<'a> {
    Publishers(Vec<Publisher<'a>>),
    Readers(Vec<Reader<'a>>),
}

/// `js-sustained`.
pub fn run_sustained(server: SocketAddr, args: &JsSustained, watch: Watch) -> Result<Outcome> {
    drop(publish::prepare_stream(server, &args.stream, "bench.js")?);
    let shared = Shared::new(args.clients + args.consumers);
    let shared = &shared;
    let publishing = Publishing {
        subject: "bench.js".to_owned(),
        subjects: 1,
        size: args.size,
        clients: args.clients,
        in_flight: args.in_flight,
        rate: None,
        quota: None,
    };
    let reading = Reading {
        stream: args.stream.stream.clone(),
        mode: args.mode,
        batch: args.batch,
        filter: None,
        to_the_end: false,
    };
    let readers = (0..args.consumers)
        .map(|index| Reader::connect(server, &reading, shared.meter(args.clients + index), shared))
        .collect::<Result<Vec<_>>>()?;
    let mut jobs: Vec<Job<'_, Hand<'_>>> = Vec::new();
    for hand in deal(readers, super::cores()) {
        jobs.push(Box::new(move || drive(hand, shared).map(Hand::Readers)));
    }
    let threads = args.threads.unwrap_or(super::cores());
    for hand in deal(publishing.connect(server, shared)?, threads) {
        jobs.push(Box::new(move || drive(hand, shared).map(Hand::Publishers)));
    }
    let plan = Plan { warmup: args.load.warmup, measure: args.load.duration, until_received: None };
    let (sampled, hands) = run::run("js-sustained", plan, watch, shared, jobs)?;
    let mut outcome = Outcome::new("js-sustained")
        .parameter("size", args.size)
        .parameter("clients", args.clients)
        .parameter("in_flight", args.in_flight)
        .parameter("consumers", args.consumers)
        .parameter("mode", format!("{:?}", args.mode).to_lowercase());
    let received = |meters: &[(u64, u64)]| meters.iter().map(|meter| meter.1).sum::<u64>();
    let (publishers, consumers) = sampled.by_meter.split_at(args.clients);
    let (acknowledged, delivered) = (received(publishers), received(consumers));
    outcome.rates(&sampled, acknowledged, args.size);
    let per_consumer = delivered as f64 / args.consumers.max(1) as f64 / sampled.seconds;
    outcome.figure("consumer_rate", per_consumer, "msgs/s each");
    let mib = per_consumer * args.size as f64 / f64::from(1 << 20);
    outcome.figure("consumer_volume", mib, "MiB/s each");
    let (mut published, mut readers) = (Published::default(), Vec::new());
    for hand in hands {
        match hand {
            Hand::Publishers(hand) => published.add(&hand),
            Hand::Readers(hand) => readers.extend(hand),
        }
    }
    finish(server, &readers, &mut outcome)?;
    published.report(&mut outcome);
    publish::drop_stream(server, &args.stream)?;
    Ok(outcome)
}
