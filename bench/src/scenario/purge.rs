//! What a large removal does to others: publish latency on one stream, at a given rate and counted
//! from when each publish was due, first undisturbed, then while a million messages are purged by
//! filter from another stream and a consumer is created over its million subjects.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    args::JsPurgeInterference,
    clock::{self, Nanos},
    conn::Conn,
    driver::drive,
    jetstream,
    outcome::Outcome,
    run::{self, Job, Plan, Shared, Watch, deal},
    scenario::publish::{Published, Publisher, Publishing, fill},
    template::SUBJECT_NUMBER,
};

/// What the disturbance took.
#[derive(Default)]
struct Disturbance {
    purge_seconds: f64,
    consumer_seconds: f64,
    purged: u64,
}

enum Hand<'a> {
    Publishers(Vec<Publisher<'a>>),
    Disturbance(Disturbance),
}

/// Runs the scenario.
pub fn run(server: SocketAddr, args: &JsPurgeInterference, watch: Watch) -> Result<Outcome> {
    let busy = format!("{}-purged", args.stream.stream);
    let mut conn = Conn::open(server)?;
    let subjects = ["bench.purge.>".to_owned()];
    jetstream::create_stream(&mut conn, &busy, &subjects, &args.stream)?;
    jetstream::create_stream(
        &mut conn,
        &args.stream.stream,
        &["bench.js".to_owned()],
        &args.stream,
    )?;
    drop(conn);
    for (branch, count) in [("gone", args.purged), ("kept", args.subjects)] {
        let publishing = Publishing {
            subject: format!("bench.purge.{branch}.{SUBJECT_NUMBER}"),
            subjects: count.max(1),
            size: args.size,
            clients: 4,
            in_flight: 500,
            rate: None,
            quota: Some(count),
        };
        fill(server, watch, publishing, args.limit)?;
    }
    run::sleep(Duration::from_secs(1))?;
    let (quiet, _) = phase(server, args, watch, None)?;
    let (disturbed, disturbance) = phase(server, args, watch, Some(&busy))?;
    ensure!(
        disturbance.purged == args.purged,
        "{} messages were purged instead of {}",
        disturbance.purged,
        args.purged
    );
    let mut outcome = Outcome::new("js-purge-interference")
        .parameter("purged", args.purged)
        .parameter("subjects", args.subjects)
        .parameter("rate", args.rate);
    outcome.figure("purge", disturbance.purge_seconds, "s");
    outcome.figure("create_consumer", disturbance.consumer_seconds, "s");
    let ratio = disturbed.latencies.at(0.99) / quiet.latencies.at(0.99).max(1e-3);
    outcome.figure("p99_ratio", ratio, "x");
    outcome.latency("quiet", &quiet.latencies);
    outcome.latency("disturbed", &disturbed.latencies);
    for published in [&quiet, &disturbed] {
        outcome.errors(&published.errors);
    }
    let unanswered = quiet.unanswered + disturbed.unanswered;
    if unanswered > 0 {
        outcome.figure("unanswered", unanswered as f64, "msgs");
    }
    if !args.stream.keep {
        let mut conn = Conn::open(server)?;
        jetstream::delete_stream(&mut conn, &busy)?;
        jetstream::delete_stream(&mut conn, &args.stream.stream)?;
    }
    Ok(outcome)
}

/// Publishes at the rate for the time of a phase; with a stream to disturb, at least until that is
/// through.
fn phase(
    server: SocketAddr,
    args: &JsPurgeInterference,
    watch: Watch,
    disturb: Option<&str>,
) -> Result<(Published, Disturbance)> {
    let publishing = Publishing {
        subject: "bench.js".to_owned(),
        subjects: 1,
        size: args.size,
        clients: 2,
        in_flight: (args.rate * 30.0) as usize + 1,
        rate: Some(args.rate),
        quota: None,
    };
    let shared = Shared::new(publishing.clients);
    let shared = &shared;
    let mut jobs: Vec<Job<'_, Hand<'_>>> = Vec::new();
    for hand in deal(publishing.connect(server, shared)?, 1) {
        jobs.push(Box::new(move || drive(hand, shared).map(Hand::Publishers)));
    }
    let warmup = Duration::from_millis(500);
    let measure = if disturb.is_some() { args.limit + args.phase } else { args.phase };
    if let Some(stream) = disturb {
        jobs.push(Box::new(move || {
            run::sleep(warmup)?;
            let begun = clock::now();
            let disturbance = disturbance(server, args, stream)?;
            let spent = clock::now() - begun;
            let least = args.phase.as_nanos() as Nanos;
            run::sleep(Duration::from_nanos(least.saturating_sub(spent)))?;
            shared.stop();
            Ok(Hand::Disturbance(disturbance))
        }));
    }
    let plan = Plan { warmup, measure, until_received: None };
    let (_, hands) = run::run("js-purge-interference", plan, watch, shared, jobs)?;
    let (mut published, mut disturbance) = (Published::default(), Disturbance::default());
    for hand in hands {
        match hand {
            Hand::Publishers(hand) => published.add(&hand),
            Hand::Disturbance(it) => disturbance = it,
        }
    }
    Ok((published, disturbance))
}

fn disturbance(
    server: SocketAddr,
    args: &JsPurgeInterference,
    stream: &str,
) -> Result<Disturbance> {
    let mut conn = Conn::open(server)?;
    let begun = clock::now();
    let subject = format!("$JS.API.STREAM.PURGE.{stream}");
    let filter = json!({ "filter": "bench.purge.gone.>" });
    let answer = conn.request_json_within(&subject, &filter, args.limit)?;
    let purged_at = clock::now();
    let config = json!({
        "name": "cb-wide",
        "deliver_policy": "last_per_subject",
        "ack_policy": "explicit",
        "filter_subject": "bench.purge.kept.>",
        "inactive_threshold": 60_000_000_000_u64,
        "mem_storage": true,
    });
    let request = json!({ "stream_name": stream, "config": config, "action": "create" });
    let subject = format!("$JS.API.CONSUMER.CREATE.{stream}.cb-wide.bench.purge.kept.>");
    conn.request_json_within(&subject, &request, args.limit)?;
    Ok(Disturbance {
        purge_seconds: (purged_at - begun) as f64 / 1e9,
        consumer_seconds: (clock::now() - purged_at) as f64 / 1e9,
        purged: answer["purged"].as_u64().unwrap_or(0),
    })
}
