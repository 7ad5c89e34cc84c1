//! Requests and replies.

use std::net::SocketAddr;

use anyhow::Result;

use crate::{
    args,
    clock::Nanos,
    conn::Conn,
    driver::{Client, drive},
    outcome::Outcome,
    run::{self, Errors, Job, Plan, Shared, Watch, deal},
    scenario::{
        core::subscriber,
        window::{Pace, Window},
    },
    stats::Latencies,
    template::{TOKEN, Template},
    wire::{Msg, write_pub},
};

/// Asks and waits for answers.
struct Requester<'a> {
    window: Window<'a>,
    errors: Errors,
}

impl Client for Requester<'_> {
    fn on_msg(&mut self, msg: &Msg<'_>, at: Nanos) {
        let status = msg.status();
        if let Some((code, _)) = status {
            self.errors.add(&format!("status {code}"));
        }
        self.window.answer(msg.subject, at, status.is_none());
    }

    fn end_of_read(&mut self) {
        self.window.end_of_read();
    }

    fn prepare(&mut self, now: Nanos) -> usize {
        self.window.prepare(now).0
    }

    fn output(&self) -> &[u8] {
        self.window.output()
    }

    fn is_done(&self, _now: Nanos) -> bool {
        self.window.is_done()
    }
}

/// Sends every payload back.
struct Responder<'a> {
    shared: &'a Shared,
    next: Vec<u8>,
    out: Vec<u8>,
}

impl Client for Responder<'_> {
    fn on_msg(&mut self, msg: &Msg<'_>, _at: Nanos) {
        write_pub(&mut self.next, msg.reply, b"", msg.payload);
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
        self.shared.is_stopped()
    }
}

/// Runs the scenario.
pub fn run(server: SocketAddr, args: &args::Request, watch: Watch) -> Result<Outcome> {
    let shared = Shared::new(args.clients);
    let shared = &shared;
    let mut jobs: Vec<Job<'_, Vec<Requester<'_>>>> = Vec::new();
    let mut responders = Vec::new();
    for _ in 0..args.responders {
        let conn = subscriber(server, "bench.request", "responders")?;
        responders.push((conn, Responder { shared, next: Vec::new(), out: Vec::new() }));
    }
    for hand in deal(responders, args.responders) {
        jobs.push(Box::new(move || drive(hand, shared).map(|_| Vec::new())));
    }
    let mut requesters = Vec::new();
    for index in 0..args.clients {
        let mut conn = Conn::open(server)?;
        let inbox = conn.inbox().to_owned();
        conn.subscribe(&format!("{inbox}.*"), "")?;
        conn.flush()?;
        let reply = format!("{inbox}.{TOKEN}");
        let template = Template::new("bench.request", &reply, args.size, args.in_flight);
        let limits = (args.in_flight, Pace::Closed, u64::MAX);
        let window = Window::new(template, shared.meter(index), shared, limits);
        requesters.push((conn, Requester { window, errors: Errors::default() }));
    }
    for hand in deal(requesters, super::cores()) {
        jobs.push(Box::new(move || drive(hand, shared)));
    }
    let plan = Plan { warmup: args.load.warmup, measure: args.load.duration, until_received: None };
    let (sampled, results) = run::run("request", plan, watch, shared, jobs)?;
    let mut outcome = Outcome::new("request")
        .parameter("size", args.size)
        .parameter("clients", args.clients)
        .parameter("in_flight", args.in_flight)
        .parameter("responders", args.responders);
    outcome.rates(&sampled, sampled.received, args.size);
    let mut latencies = Latencies::new();
    for requester in results.iter().flatten() {
        latencies.merge(requester.window.latencies());
        outcome.errors(&requester.errors);
    }
    outcome.latency("round_trip", &latencies);
    Ok(outcome)
}
