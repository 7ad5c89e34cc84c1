//! Core NATS at full speed: one to one, and fan-out.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;

use crate::{
    args::Load,
    clock::{self, Nanos},
    conn::Conn,
    driver::{Client, drive},
    outcome::Outcome,
    run::{self, Job, Meter, Plan, Shared, Watch},
    template::Template,
    wire::Msg,
};

/// Publishes as fast as the connection takes it, until the run stops.
pub struct Flood<'a> {
    template: Template,
    meter: &'a Meter,
    shared: &'a Shared,
    ready: u64,
    ending: Ending,
}

/// The last thing a publisher does is to ask whether everything was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    NotYet,
    Asked,
    Answered,
}

const PING: &[u8] = b"PING\r\n";

impl<'a> Flood<'a> {
    /// Floods one subject.
    pub fn new(subject: &str, size: usize, meter: &'a Meter, shared: &'a Shared) -> Self {
        let template = Template::new(subject, "", size, usize::MAX);
        Self { template, meter, shared, ready: 0, ending: Ending::NotYet }
    }
}

impl Client for Flood<'_> {
    fn on_msg(&mut self, _msg: &Msg<'_>, _at: Nanos) {}

    fn on_pong(&mut self) {
        if self.ending == Ending::Asked {
            self.ending = Ending::Answered;
        }
    }

    fn prepare(&mut self, _now: Nanos) -> usize {
        self.meter.add_sent(std::mem::take(&mut self.ready));
        if !self.shared.is_stopped() {
            self.ready = self.template.capacity() as u64;
            return self.template.bytes().len();
        }
        if self.ending == Ending::NotYet {
            self.ending = Ending::Asked;
            return PING.len();
        }
        0
    }

    fn output(&self) -> &[u8] {
        if self.ending == Ending::NotYet { self.template.bytes() } else { PING }
    }

    fn is_done(&self, _now: Nanos) -> bool {
        self.ending == Ending::Answered
    }
}

/// Counts what arrives. Done when the run has stopped and it has been quiet for a while.
pub struct Count<'a> {
    meter: &'a Meter,
    shared: &'a Shared,
    batch: u64,
    last: Nanos,
}

const QUIET: Nanos = 500_000_000;

impl<'a> Count<'a> {
    /// Counts into this meter.
    pub fn new(meter: &'a Meter, shared: &'a Shared) -> Self {
        Self { meter, shared, batch: 0, last: clock::now() }
    }
}

impl Client for Count<'_> {
    fn on_msg(&mut self, _msg: &Msg<'_>, at: Nanos) {
        self.batch += 1;
        self.last = at;
    }

    fn end_of_read(&mut self) {
        self.meter.add_received(std::mem::take(&mut self.batch));
    }

    fn prepare(&mut self, _now: Nanos) -> usize {
        0
    }

    fn output(&self) -> &[u8] {
        b""
    }

    fn is_done(&self, now: Nanos) -> bool {
        self.shared.is_stopped() && now.saturating_sub(self.last) > QUIET
    }
}

/// Opens a connection and subscribes it, so that nothing published later is missed.
pub fn subscriber(server: SocketAddr, subject: &str, queue: &str) -> Result<Conn> {
    let mut conn = Conn::open(server)?;
    conn.subscribe(subject, queue)?;
    conn.flush()?;
    Ok(conn)
}

/// `pairs` publishers, each on a subject of its own with `subscribers` subscribers.
pub fn run(
    name: &str,
    server: SocketAddr,
    load: &Load,
    watch: Watch,
    (pairs, subscribers): (usize, usize),
    size: usize,
) -> Result<Outcome> {
    let shared = Shared::new(pairs * (1 + subscribers));
    let plan = Plan { warmup: load.warmup, measure: load.duration, until_received: None };
    let mut jobs: Vec<Job<'_, ()>> = Vec::new();
    let shared = &shared;
    for pair in 0..pairs {
        let subject = format!("bench.core.{pair}");
        for index in 0..subscribers {
            let conn = subscriber(server, &subject, "")?;
            let meter = shared.meter(pairs + pair * subscribers + index);
            jobs.push(Box::new(move || {
                drive(vec![(conn, Count::new(meter, shared))], shared).map(drop)
            }));
        }
        let conn = Conn::open(server)?;
        let meter = shared.meter(pair);
        jobs.push(Box::new(move || {
            let flood = Flood::new(&subject, size, meter, shared);
            drive(vec![(conn, flood)], shared).map(drop)
        }));
    }
    let (sampled, _) = run::run(name, plan, watch, shared, jobs)?;
    let mut outcome = Outcome::new(name)
        .parameter("size", size)
        .parameter("publishers", pairs)
        .parameter("subscribers", pairs * subscribers)
        .parameter("seconds", load.duration.as_secs_f64());
    let counted = if subscribers == 0 { sampled.sent } else { sampled.received };
    outcome.rates(&sampled, counted, size);
    outcome.figure("published_rate", sampled.sent as f64 / sampled.seconds, "msgs/s");
    if subscribers > 0 {
        // Everything from start to the quiet end, warm-up included.
        let (sent, received) = totals(shared, pairs, subscribers);
        let lost = (sent * subscribers as u64).saturating_sub(received);
        outcome.figure("lost", lost as f64, "msgs");
    }
    Ok(outcome)
}

fn totals(shared: &Shared, pairs: usize, subscribers: usize) -> (u64, u64) {
    let sent = (0..pairs).map(|index| shared.meter(index).sent()).sum();
    let meters = pairs..pairs * (1 + subscribers);
    (sent, meters.map(|index| shared.meter(index).received()).sum())
}

/// A short pause, so that a server forgets the connections of the run before.
pub fn settle() -> Result<()> {
    run::sleep(Duration::from_millis(100))
}
