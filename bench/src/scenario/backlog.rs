//! What many push consumers with a backlog do to others: a thousand of them begin at once, on a few
//! connections that read as fast as they come to run, and another client asks meanwhile.
//!
//! The readers' threads run at the lowest priority, so that the server is what is measured even
//! where they share its processors.

use std::{net::SocketAddr, thread};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::{
    args::JsPushBacklog,
    clock::{self, Nanos},
    conn::Conn,
    driver::{Client, drive},
    jetstream,
    outcome::Outcome,
    proc,
    run::{self, Job, Meter, Plan, Shared, Watch},
    scenario::publish::{self, Publishing},
    stats::Latencies,
    wire::{Msg, Op, write_pub, write_sub},
};

/// How long an answer is waited for before the run's end is looked at.
const LOOK: Nanos = 100_000_000;
/// The priority of readers, as `nice` counts.
const READERS_NICE: i32 = 19;

/// A connection that receives what many consumers deliver.
struct Reader<'a> {
    meter: &'a Meter,
    shared: &'a Shared,
    /// The subscriptions of all of them, sent at once.
    subscribe: Vec<u8>,
    out: Vec<u8>,
    /// The last sequence of each consumer, by the number of its subscription.
    last: Vec<u64>,
    /// Deliveries out of order or missing.
    gaps: u64,
    batch: u64,
}

impl Client for Reader<'_> {
    fn on_msg(&mut self, msg: &Msg<'_>, _at: Nanos) {
        self.batch += 1;
        let sequences = jetstream::delivery_sequences(msg.reply);
        let Some((last, (_, seq))) = self.last.get_mut(msg.sid as usize).zip(sequences) else {
            self.gaps += 1;
            return;
        };
        self.gaps += u64::from(seq != *last + 1);
        *last = seq;
    }

    fn end_of_read(&mut self) {
        self.meter.add_received(std::mem::take(&mut self.batch));
    }

    fn prepare(&mut self, _now: Nanos) -> usize {
        self.out = std::mem::take(&mut self.subscribe);
        self.out.len()
    }

    fn output(&self) -> &[u8] {
        &self.out
    }

    fn is_done(&self, _now: Nanos) -> bool {
        self.shared.is_stopped()
    }
}

/// What asks meanwhile: for information on the stream, and by a message to itself.
#[derive(Default)]
struct Asked {
    api: Latencies,
    core: Latencies,
    unanswered: u32,
}

enum Hand<'a> {
    Readers(Vec<Reader<'a>>),
    Asked(Asked),
}

/// Runs the scenario.
pub fn run(server: SocketAddr, args: &JsPushBacklog, watch: Watch) -> Result<Outcome> {
    ensure!(args.connections > 0 && args.consumers >= args.connections, "nobody would read");
    drop(publish::prepare_stream(server, &args.stream, "bench.js")?);
    let publishing = Publishing {
        subject: "bench.js".to_owned(),
        subjects: 1,
        size: args.size,
        clients: 4,
        in_flight: 500,
        rate: None,
        quota: Some(args.msgs),
    };
    publish::fill(server, watch, publishing, args.limit)?;
    // No consumer delivers yet: nobody listens.
    let mut conn = Conn::open(server)?;
    for index in 0..args.consumers {
        create_consumer(&mut conn, args, index)?;
    }
    run::sleep(args.pause)?;
    let shared = Shared::new(args.connections);
    let mut jobs: Vec<Job<'_, Hand<'_>>> = Vec::new();
    for index in 0..args.connections {
        let (conn, reader) = reader(server, args, index, &shared)?;
        let shared = &shared;
        jobs.push(Box::new(move || {
            // Of this thread alone.
            rustix::process::setpriority_process(None, READERS_NICE)?;
            drive(vec![(conn, reader)], shared).map(Hand::Readers)
        }));
    }
    let conns = (0..args.askers).map(|_| Asker::connect(server, args));
    let mut askers = conns.collect::<Result<Vec<_>>>()?;
    let asking = &shared;
    jobs.push(Box::new(move || ask(&mut askers, args, asking).map(Hand::Asked)));
    let before = watch.monitor.map(turns).transpose()?;
    let plan = Plan { warmup: args.load.warmup, measure: args.load.duration, until_received: None };
    let (sampled, hands) = run::run("js-push-backlog", plan, watch, &shared, jobs)?;
    let after = watch.monitor.map(turns).transpose()?;
    let mut outcome = Outcome::new("js-push-backlog")
        .parameter("size", args.size)
        .parameter("msgs", args.msgs)
        .parameter("consumers", args.consumers)
        .parameter("connections", args.connections);
    outcome.rates(&sampled, sampled.received, args.size);
    if let Some((before, after)) = before.zip(after) {
        outcome.figure("slow_turns", after.slow - before.slow, "turns");
        outcome.figure("preempted_turns", after.preempted - before.preempted, "turns");
        outcome.figure("longest_turn", after.longest / 1e6, "ms since the start");
    }
    let mut gaps = 0;
    for hand in hands {
        match hand {
            Hand::Readers(readers) => gaps += readers.iter().map(|r| r.gaps).sum::<u64>(),
            Hand::Asked(asked) => {
                outcome.latency("api", &asked.api);
                outcome.latency("core", &asked.core);
                if asked.unanswered > 0 {
                    outcome.figure("unanswered", f64::from(asked.unanswered), "requests");
                }
            }
        }
    }
    outcome.figure("gaps", gaps as f64, "msgs");
    publish::drop_stream(server, &args.stream)?;
    Ok(outcome)
}

fn deliver_subject(args: &JsPushBacklog, index: usize) -> String {
    format!("bench.backlog.{}.{index}", args.stream.stream)
}

fn create_consumer(conn: &mut Conn, args: &JsPushBacklog, index: usize) -> Result<()> {
    let (stream, name) = (&args.stream.stream, format!("cb-backlog-{index}"));
    let config = json!({
        "name": name,
        "deliver_subject": deliver_subject(args, index),
        "deliver_policy": "all",
        "ack_policy": "none",
        "mem_storage": true,
        "num_replicas": 1,
        "inactive_threshold": 300_000_000_000_u64,
    });
    let request = json!({ "stream_name": stream, "config": config, "action": "create" });
    conn.request_json(&format!("$JS.API.CONSUMER.CREATE.{stream}.{name}"), &request)?;
    Ok(())
}

/// The connection of every `connections`th consumer from `index` on.
fn reader<'a>(
    server: SocketAddr,
    args: &JsPushBacklog,
    index: usize,
    shared: &'a Shared,
) -> Result<(Conn, Reader<'a>)> {
    let conn = Conn::open(server)?;
    let mut subscribe = Vec::new();
    let mut sid = 0;
    for consumer in (index..args.consumers).step_by(args.connections) {
        write_sub(&mut subscribe, &deliver_subject(args, consumer), "", sid);
        sid += 1;
    }
    let reader = Reader {
        meter: shared.meter(index),
        shared,
        subscribe,
        out: Vec::new(),
        last: vec![0; sid as usize],
        gaps: 0,
        batch: 0,
    };
    Ok((conn, reader))
}

/// A connection that asks. There are several, because a server spreads them over its cores.
struct Asker {
    conn: Conn,
    api: Vec<u8>,
    core: Vec<u8>,
}

impl Asker {
    fn connect(server: SocketAddr, args: &JsPushBacklog) -> Result<Self> {
        let mut conn = Conn::open(server)?;
        let inbox = format!("{}.a", conn.inbox());
        conn.subscribe(&inbox, "")?;
        conn.flush()?;
        let (mut api, mut core) = (Vec::new(), Vec::new());
        let subject = format!("$JS.API.STREAM.INFO.{}", args.stream.stream);
        write_pub(&mut api, subject.as_bytes(), inbox.as_bytes(), b"");
        write_pub(&mut core, inbox.as_bytes(), b"", b"x");
        Ok(Self { conn, api, core })
    }

    /// Sends and waits for what comes back. Returns how long, and whether it came at all: some time
    /// after the end of the run, it is not waited for any longer.
    fn ask(&mut self, api: bool, shared: &Shared) -> Result<(Nanos, bool)> {
        let sent = clock::now();
        self.conn.send(if api { &self.api } else { &self.core })?;
        let mut came = 0;
        while came == 0 && !shared.is_overdue(clock::now()) {
            self.conn.turn(clock::now() + LOOK, |op| {
                if matches!(op, Op::Msg(_)) {
                    came = clock::now();
                }
            })?;
        }
        let until = if came == 0 { clock::now() } else { came };
        Ok((until - sent, came > 0))
    }
}

/// Asks on each connection in turn, with a pause after each answer.
fn ask(askers: &mut [Asker], args: &JsPushBacklog, shared: &Shared) -> Result<Asked> {
    let mut asked = Asked::default();
    while !shared.is_stopped() {
        for asker in &mut *askers {
            for api in [true, false] {
                let (took, came) = asker.ask(api, shared)?;
                let latencies = if api { &mut asked.api } else { &mut asked.core };
                if shared.is_recording() || !came {
                    latencies.record(took);
                }
                if !came {
                    asked.unanswered += 1;
                    return Ok(asked);
                }
                thread::sleep(args.every);
            }
        }
    }
    Ok(asked)
}

/// What corelane tells of its turns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Turns {
    /// Those of more than 5 ms in which the thread ran for so long.
    slow: f64,
    /// Those of more than 5 ms in which it waited for a processor.
    preempted: f64,
    /// Nanoseconds.
    longest: f64,
}

fn turns(monitor: SocketAddr) -> Result<Turns> {
    let text = proc::http_get(monitor, "/metrics").context("no answer from the monitoring port")?;
    Ok(turns_of(&text))
}

/// The turns of all reactors.
fn turns_of(metrics: &str) -> Turns {
    let mut turns = Turns::default();
    for line in metrics.lines() {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let value: f64 = value.parse().unwrap_or(0.0);
        if name.starts_with("corelane_slow_turns_total{") {
            turns.slow += value;
        } else if name.starts_with("corelane_preempted_turns_total{") {
            turns.preempted += value;
        } else if name.starts_with("corelane_longest_turn_nanoseconds{") {
            turns.longest = turns.longest.max(value);
        }
    }
    turns.slow -= turns.preempted;
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_those_of_all_reactors() {
        let text = "# TYPE corelane_slow_turns_total counter\n\
                    corelane_slow_turns_total{reactor=\"0\"} 3\n\
                    corelane_slow_turns_total{reactor=\"1\"} 4\n\
                    corelane_preempted_turns_total{reactor=\"0\"} 1\n\
                    corelane_longest_turn_nanoseconds{reactor=\"0\"} 7000000\n\
                    corelane_longest_turn_nanoseconds{reactor=\"1\"} 2000000\n";
        assert_eq!(turns_of(text), Turns { slow: 6.0, preempted: 1.0, longest: 7e6 });
        assert_eq!(turns_of(""), Turns::default());
    }
}
