//! The latency of a JetStream publish with one in flight, by connection: a server spreads its
//! connections over its cores, and the stream lives on one of them.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use crate::{
    args::JsAckLatency,
    clock::{self, Nanos},
    conn::Conn,
    jetstream,
    outcome::Outcome,
    proc,
    run::{self, Errors, Watch},
    scenario::{latency::near_and_far, publish},
    stats::Latencies,
    wire::write_pub,
};

/// Publishes in a row on one connection, so that it is not always the first after a pause.
const ROW: usize = 20;

/// Runs the scenario.
pub fn run(server: SocketAddr, args: &JsAckLatency, watch: Watch) -> Result<Outcome> {
    ensure!(args.connections > 0, "nothing to do");
    drop(publish::prepare_stream(server, &args.stream, "bench.js")?);
    let mut lanes = Vec::new();
    for _ in 0..args.connections {
        let mut conn = Conn::open(server)?;
        let reply = format!("{}.a", conn.inbox());
        conn.subscribe(&reply, "")?;
        conn.flush()?;
        let mut message = Vec::new();
        write_pub(&mut message, b"bench.js", reply.as_bytes(), &vec![b'x'; args.size]);
        lanes.push((conn, message, Latencies::new()));
    }
    let warm_until = clock::now() + args.load.warmup.as_nanos() as Nanos;
    let until = warm_until + args.load.duration.as_nanos() as Nanos;
    let mut errors = Errors::default();
    let cpu = |at: u32| proc::cpu_seconds(at).ok();
    let mut cpu_before = None;
    let mut count = 0_u64;
    while clock::now() < until {
        run::check_interrupted()?;
        for (conn, message, latencies) in &mut lanes {
            for _ in 0..ROW {
                let sent = clock::now();
                conn.send(message)?;
                let mut came = 0;
                let mut acknowledged = false;
                while came == 0 {
                    conn.turn_blocking(|msg| {
                        came = clock::now();
                        acknowledged = jetstream::is_acknowledged(msg, &mut errors);
                    })?;
                }
                if sent >= warm_until && acknowledged {
                    cpu_before = cpu_before.or_else(|| watch.server_pid.and_then(cpu));
                    latencies.record(came - sent);
                    count += 1;
                }
            }
        }
    }
    let cpu_after = watch.server_pid.and_then(cpu);
    let lanes: Vec<_> = lanes.into_iter().map(|(_, _, latencies)| latencies).collect();
    let mut outcome = Outcome::new("js-ack-latency")
        .parameter("size", args.size)
        .parameter("connections", args.connections)
        .parameter("replicas", args.stream.replicas);
    if let Some((after, before)) = cpu_after.zip(cpu_before) {
        outcome.figure("server_cpu_per_msg", (after - before) * 1e6 / count.max(1) as f64, "us");
    }
    near_and_far(&mut outcome, lanes, "ack");
    outcome.errors(&errors);
    publish::drop_stream(server, &args.stream)?;
    Ok(outcome)
}
