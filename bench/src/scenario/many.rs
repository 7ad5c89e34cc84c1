//! Many of something that does little: slow streams, connections at rest.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    args::{IdleConnections, JsSlowStreams},
    clock,
    conn::Conn,
    jetstream,
    outcome::Outcome,
    proc,
    run::{self, Plan, Watch},
    scenario::publish::{Publishing, publish},
    template::SUBJECT_NUMBER,
};

/// `js-slow-streams`.
pub fn run_streams(server: SocketAddr, args: &JsSlowStreams, watch: Watch) -> Result<Outcome> {
    ensure!(args.streams > 0 && args.rate > 0.0, "nothing to do");
    let mut conn = Conn::open(server)?;
    let name = |index: usize| format!("{}-slow-{index}", args.stream.stream);
    let begun = clock::now();
    for index in 0..args.streams {
        let subjects = [format!("bench.slow.{index:08}")];
        jetstream::create_stream(&mut conn, &name(index), &subjects, &args.stream)?;
        run::check_interrupted()?;
    }
    let created = (clock::now() - begun) as f64 / 1e9;
    let rate = args.streams as f64 * args.rate;
    let publishing = Publishing {
        subject: format!("bench.slow.{SUBJECT_NUMBER}"),
        subjects: args.streams as u64,
        size: args.size,
        clients: args.clients,
        // Room for ten seconds of a server that stands still.
        in_flight: (rate * 10.0 / args.clients.max(1) as f64) as usize + 1,
        rate: Some(rate),
        quota: None,
    };
    let plan = Plan { warmup: args.load.warmup, measure: args.load.duration, until_received: None };
    let (sampled, published) = publish("js-slow-streams", server, &publishing, (plan, 1), watch)?;
    let mut outcome = Outcome::new("js-slow-streams")
        .parameter("streams", args.streams)
        .parameter("rate", args.rate)
        .parameter("size", args.size);
    outcome.rates(&sampled, sampled.received, args.size);
    outcome.figure("offered_rate", rate, "msgs/s");
    outcome.figure("create_streams", created, "s");
    published.report(&mut outcome);
    if !args.stream.keep {
        let mut conn = Conn::open(server)?;
        for index in 0..args.streams {
            jetstream::delete_stream(&mut conn, &name(index))?;
        }
    }
    Ok(outcome)
}

/// Allows this process and those it starts as many open files as the host lets them have.
pub fn raise_file_limit() -> Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)?;
    Ok(())
}

/// `idle-connections`.
pub fn run_idle(server: SocketAddr, args: &IdleConnections, watch: Watch) -> Result<Outcome> {
    raise_file_limit()?;
    let resident = || watch.server_pid.map(proc::resident_bytes).transpose();
    let before = resident()?;
    let mut sockets = Vec::with_capacity(args.connections);
    let begun = clock::now();
    for index in 0..args.connections {
        let conn = Conn::open(server)
            .with_context(|| format!("connection {index} of {}", args.connections))?;
        sockets.push(conn.into_parts().0);
        run::check_interrupted()?;
    }
    let seconds = (clock::now() - begun) as f64 / 1e9;
    run::sleep(Duration::from_millis(500))?;
    let cpu = || watch.server_pid.map(proc::cpu_seconds).transpose();
    let cpu_before = cpu()?;
    run::sleep(args.hold)?;
    let cpu_after = cpu()?;
    let after = resident()?;
    let mut outcome = Outcome::new("idle-connections").parameter("connections", args.connections);
    outcome.figure("connect_rate", sockets.len() as f64 / seconds, "conns/s");
    let mib = f64::from(1 << 20);
    if let Some((before, after)) = before.zip(after) {
        outcome.figure("rss_before", before as f64 / mib, "MiB");
        outcome.figure("rss_after", after as f64 / mib, "MiB");
        let per = (after as f64 - before as f64) / 1024.0 / sockets.len().max(1) as f64;
        outcome.figure("rss_per_connection", per, "KiB");
    }
    if let Some((before, after)) = cpu_before.zip(cpu_after) {
        let share = (after - before) / args.hold.as_secs_f64().max(1e-9);
        outcome.figure("idle_server_cpus", share, "cpus");
    }
    Ok(outcome)
}
