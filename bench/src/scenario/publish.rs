//! JetStream publishes with acknowledgements: at full speed or at a rate, and to fill streams.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    args::{JsPublish, StreamArgs},
    clock::{self, Nanos, SECOND},
    conn::Conn,
    driver::{Client, drive},
    jetstream,
    outcome::Outcome,
    run::{self, Errors, Job, Plan, Sampled, Shared, Watch, deal},
    scenario::window::{Pace, Window},
    stats::Latencies,
    template::{SUBJECT_NUMBER, TOKEN, Template},
    wire::Msg,
};

/// One publishing connection.
pub struct Publisher<'a> {
    window: Window<'a>,
    errors: Errors,
    /// Message `n` goes to subject `(n + offset) % subjects`. All publishers go round all subjects,
    /// each from its own place on: had each its own subjects, it would be chance whether their
    /// streams lie with the publisher's reactor.
    subjects: u64,
    offset: u64,
}

impl Client for Publisher<'_> {
    fn on_msg(&mut self, msg: &Msg<'_>, at: Nanos) {
        let good = jetstream::is_acknowledged(msg, &mut self.errors);
        self.window.answer(msg.subject, at, good);
    }

    fn end_of_read(&mut self) {
        self.window.end_of_read();
    }

    fn prepare(&mut self, now: Nanos) -> usize {
        let (len, first, count) = self.window.prepare(now);
        if self.subjects > 1 {
            for index in 0..count {
                let number = first + index as u64 + self.offset;
                self.window.template().set_subject_number(index, number % self.subjects);
            }
        }
        len
    }

    fn output(&self) -> &[u8] {
        self.window.output()
    }

    fn wake_at(&self) -> Option<Nanos> {
        self.window.wake_at()
    }

    fn is_done(&self, _now: Nanos) -> bool {
        self.window.is_done()
    }
}

/// What a group of publishers does.
#[derive(Clone, Debug)]
pub struct Publishing {
    /// The subject; with [`SUBJECT_NUMBER`] in it when there are several.
    pub subject: String,
    /// How many subjects the number runs over.
    pub subjects: u64,
    /// Payload bytes.
    pub size: usize,
    /// Connections.
    pub clients: usize,
    /// Unacknowledged publishes of each.
    pub in_flight: usize,
    /// Publishes per second, in all.
    pub rate: Option<f64>,
    /// Publishes in all.
    pub quota: Option<u64>,
}

impl Publishing {
    /// Opens the connections. Their meters are `0..clients` of `shared`.
    pub fn connect<'a>(
        &self,
        server: SocketAddr,
        shared: &'a Shared,
    ) -> Result<Vec<(Conn, Publisher<'a>)>> {
        ensure!(self.clients > 0 && self.in_flight > 0, "nobody would publish anything");
        // Late enough for the threads to be up; the first publishes are spread over a period.
        let start = clock::now() + 20_000_000;
        let clients = self.clients as u64;
        (0..clients)
            .map(|index| {
                let mut conn = Conn::open(server)?;
                let inbox = conn.inbox().to_owned();
                conn.subscribe(&format!("{inbox}.*"), "")?;
                conn.flush()?;
                let reply = format!("{inbox}.{TOKEN}");
                let template = Template::new(&self.subject, &reply, self.size, self.in_flight);
                let pace = match self.rate {
                    None => Pace::Closed,
                    Some(rate) => Pace::Open {
                        start: start + (index as f64 / rate * SECOND as f64) as Nanos,
                        rate: rate / clients as f64,
                    },
                };
                let quota = match self.quota {
                    None => u64::MAX,
                    Some(all) => all / clients + u64::from(index < all % clients),
                };
                let limits = (self.in_flight, pace, quota);
                let window = Window::new(template, shared.meter(index as usize), shared, limits);
                let publisher = Publisher {
                    window,
                    errors: Errors::default(),
                    subjects: self.subjects,
                    offset: index * (self.subjects / clients) + index.min(self.subjects % clients),
                };
                Ok((conn, publisher))
            })
            .collect()
    }
}

/// What publishers found out.
#[derive(Default)]
pub struct Published {
    /// From publish (or when it was due) to acknowledgement.
    pub latencies: Latencies,
    /// Refusals.
    pub errors: Errors,
    /// Publishes that were never answered.
    pub unanswered: u64,
    /// Answers to nothing.
    pub unexpected: u64,
}

impl Published {
    /// Adds what these publishers found out.
    pub fn add(&mut self, publishers: &[Publisher<'_>]) {
        for publisher in publishers {
            self.latencies.merge(publisher.window.latencies());
            self.errors.merge(&publisher.errors);
            self.unanswered += publisher.window.unanswered();
            self.unexpected += publisher.window.unexpected();
        }
    }

    /// Reports it.
    pub fn report(&self, outcome: &mut Outcome) {
        outcome.latency("ack", &self.latencies);
        outcome.errors(&self.errors);
        if self.unanswered > 0 {
            outcome.figure("unanswered", self.unanswered as f64, "msgs");
        }
        if self.unexpected > 0 {
            outcome.figure("unexpected_answers", self.unexpected as f64, "msgs");
        }
    }
}

/// Runs publishers and nothing else.
pub fn publish(
    label: &str,
    server: SocketAddr,
    publishing: &Publishing,
    (plan, threads): (Plan, usize),
    watch: Watch,
) -> Result<(Sampled, Published)> {
    let shared = Shared::new(publishing.clients);
    let shared = &shared;
    let jobs: Vec<Job<'_, Vec<Publisher<'_>>>> = deal(publishing.connect(server, shared)?, threads)
        .into_iter()
        .map(|hand| -> Job<'_, _> { Box::new(move || drive(hand, shared)) })
        .collect();
    let (sampled, results) = run::run(label, plan, watch, shared, jobs)?;
    let mut published = Published::default();
    results.iter().for_each(|publishers| published.add(publishers));
    Ok((sampled, published))
}

/// Publishes `count` messages as fast as it goes, for the scenarios that need a full stream.
pub fn fill(
    server: SocketAddr,
    watch: Watch,
    publishing: Publishing,
    limit: Duration,
) -> Result<(Sampled, Published)> {
    let plan = Plan { warmup: Duration::ZERO, measure: limit, until_received: publishing.quota };
    let threads = super::cores();
    let (sampled, published) = publish("fill", server, &publishing, (plan, threads), watch)?;
    ensure!(published.errors.total() == 0, "the server refused: {:?}", published.errors.0);
    ensure!(published.unanswered == 0, "{} publishes were not answered", published.unanswered);
    Ok((sampled, published))
}

/// Makes the stream of a scenario. Returns the control connection.
pub fn prepare_stream(server: SocketAddr, args: &StreamArgs, subject: &str) -> Result<Conn> {
    let mut conn = Conn::open(server)?;
    jetstream::create_stream(&mut conn, &args.stream, &[subject.to_owned()], args)?;
    Ok(conn)
}

/// Deletes the stream of a scenario, unless it is to stay.
pub fn drop_stream(server: SocketAddr, args: &StreamArgs) -> Result<()> {
    if !args.keep {
        // The control connection may have waited too long for keep-alives; take a fresh one.
        jetstream::delete_stream(&mut Conn::open(server)?, &args.stream)?;
    }
    Ok(())
}

/// `js-publish` with one size.
pub fn run(server: SocketAddr, args: &JsPublish, watch: Watch, size: usize) -> Result<Outcome> {
    drop(prepare_stream(server, &args.stream, "bench.js")?);
    let publishing = Publishing {
        subject: "bench.js".to_owned(),
        subjects: 1,
        size,
        clients: args.clients,
        in_flight: args.in_flight,
        rate: args.rate,
        quota: args.msgs,
    };
    let plan = match args.msgs {
        None => {
            Plan { warmup: args.load.warmup, measure: args.load.duration, until_received: None }
        }
        Some(_) => Plan {
            warmup: Duration::ZERO,
            measure: Duration::from_secs(600),
            until_received: args.msgs,
        },
    };
    let threads = args.threads.unwrap_or(super::cores());
    let (sampled, published) = publish("js-publish", server, &publishing, (plan, threads), watch)?;
    let mut outcome = Outcome::new("js-publish")
        .parameter("size", size)
        .parameter("clients", args.clients)
        .parameter("in_flight", args.in_flight)
        .parameter("replicas", args.stream.replicas);
    if let Some(rate) = args.rate {
        outcome = outcome.parameter("rate", rate);
    }
    outcome.rates(&sampled, sampled.received, size);
    published.report(&mut outcome);
    drop_stream(server, &args.stream)?;
    Ok(outcome)
}

/// `js-restart-fill`.
pub fn run_fill(
    server: SocketAddr,
    args: &crate::args::JsRestartFill,
    watch: Watch,
) -> Result<Outcome> {
    ensure!(args.streams == 1 || args.subjects == 1, "many streams have one subject each");
    let mut conn = Conn::open(server)?;
    let name = &args.stream.stream;
    if args.streams == 1 {
        jetstream::create_stream(&mut conn, name, &["bench.fill.*".to_owned()], &args.stream)?;
    }
    for index in (0..args.streams).filter(|_| args.streams > 1) {
        let subjects = [format!("bench.fill.{index:08}")];
        jetstream::create_stream(&mut conn, &format!("{name}-{index}"), &subjects, &args.stream)?;
    }
    drop(conn);
    let publishing = Publishing {
        subject: format!("bench.fill.{SUBJECT_NUMBER}"),
        subjects: args.streams.max(args.subjects),
        size: args.size,
        clients: args.clients,
        in_flight: args.in_flight,
        rate: None,
        quota: Some(args.msgs),
    };
    let (sampled, published) = fill(server, watch, publishing, args.limit)?;
    let mut outcome = Outcome::new("js-restart-fill")
        .parameter("size", args.size)
        .parameter("msgs", args.msgs)
        .parameter("subjects", args.subjects)
        .parameter("streams", args.streams);
    outcome.rates(&sampled, sampled.received, args.size);
    published.report(&mut outcome);
    Ok(outcome)
}
