//! One-way latency at rest. One thread publishes on one connection and waits on another for the
//! message, so that both clocks are one; the pairs take turns. A server spreads its connections
//! over its cores, so among several subscribing connections some share the publisher's core and
//! some do not: the fastest third and the slowest third are reported beside all.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    args,
    clock::{self, Nanos, SECOND},
    conn::Conn,
    outcome::Outcome,
    run::{self, Watch},
    scenario::core::subscriber,
    stats::Latencies,
    wire::write_pub,
};

/// Messages in a row to one connection. The core that answers draws the generator's thread to
/// itself, so a pair that changed with every message would measure where the one before had left
/// it; the first ones of a row do not count.
const ROW: usize = 50;

/// Runs the scenario.
pub fn run(server: SocketAddr, args: &args::Latency, watch: Watch) -> Result<Outcome> {
    let _ = watch;
    ensure!(args.connections > 0 && args.rate > 0.0, "nothing to do");
    let mut publisher = Conn::open(server)?;
    let mut lanes = Vec::new();
    for index in 0..args.connections {
        let subject = format!("bench.latency.{index}");
        let conn = subscriber(server, &subject, "")?;
        let mut message = Vec::new();
        write_pub(&mut message, subject.as_bytes(), b"", &vec![b'x'; args.size]);
        lanes.push((conn, message, Latencies::new()));
    }
    let warm_until = clock::now() + args.load.warmup.as_nanos() as Nanos;
    let until = warm_until + args.load.duration.as_nanos() as Nanos;
    let gap = (SECOND as f64 / args.rate) as Nanos;
    let mut due = clock::now();
    'all: loop {
        for (conn, message, latencies) in &mut lanes {
            for turn in 0..ROW {
                due += gap;
                let wait = due.saturating_sub(clock::now());
                std::thread::sleep(Duration::from_nanos(wait));
                let sent = clock::now();
                if sent >= until {
                    break 'all;
                }
                publisher.send(message)?;
                let mut came = 0;
                while came == 0 {
                    conn.turn_blocking(|_| came = clock::now())?;
                }
                if sent >= warm_until && turn >= ROW / 5 {
                    latencies.record(came - sent);
                }
            }
        }
        // Keep-alives of the server to the publisher.
        publisher.turn(0, |_| {})?;
        run::check_interrupted()?;
    }
    let lanes: Vec<_> = lanes.into_iter().map(|(_, _, latencies)| latencies).collect();
    let mut outcome = Outcome::new("latency")
        .parameter("size", args.size)
        .parameter("connections", args.connections)
        .parameter("rate", args.rate);
    near_and_far(&mut outcome, lanes, "one_way");
    Ok(outcome)
}

/// Adds the latencies of all lanes together, and of the third with the lowest and the highest
/// medians: `<of>`, `<of>_near` and `<of>_far`.
pub fn near_and_far(outcome: &mut Outcome, mut lanes: Vec<Latencies>, of: &str) {
    lanes.retain(|lane| lane.count() > 0);
    lanes.sort_by(|a, b| a.at(0.5).total_cmp(&b.at(0.5)));
    let medians: Vec<String> = lanes.iter().map(|lane| format!("{:.1}", lane.at(0.5))).collect();
    let merged = |lanes: &[Latencies]| {
        let mut all = Latencies::new();
        lanes.iter().for_each(|lane| all.merge(lane));
        all
    };
    let third = lanes.len().div_ceil(3);
    outcome.latency(of, &merged(&lanes));
    outcome.latency(&format!("{of}_near"), &merged(&lanes[..third]));
    outcome.latency(&format!("{of}_far"), &merged(&lanes[lanes.len() - third..]));
    outcome.notes.push(format!("medians by connection, us: {}", medians.join(" ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_lanes_are_told_from_far_ones() {
        let lane = |nanos| {
            let mut lane = Latencies::new();
            (0..10).for_each(|_| lane.record(nanos));
            lane
        };
        let lanes = [9_000, 1_000, 5_000, 2_000, 8_000, 4_000].map(lane).to_vec();
        let mut outcome = Outcome::new("x");
        near_and_far(&mut outcome, lanes, "one_way");
        let value = |name| outcome.value(name).unwrap();
        assert!(value("one_way_near.max") < 2.1);
        assert!(value("one_way_far.p50") > 7.9);
        assert_eq!(outcome.latencies[0].1.count, 60);
    }
}
