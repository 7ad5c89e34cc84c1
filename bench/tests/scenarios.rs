//! The scenarios against the built-in sink: every one that the sink can answer runs, counts what it
//! should and reports no losses.

use clap::Parser;
use corelane_bench::{args::Cli, outcome::Outcome, run::Watch, scenario, sink::Background};

fn outcomes(words: &str) -> Vec<Outcome> {
    let sink = Background::start().expect("a free port");
    let cli = Cli::parse_from(["corelane-bench"].into_iter().chain(words.split_whitespace()));
    let watch = Watch { server_pid: Some(std::process::id()), monitor: None, progress: false };
    scenario::run(&cli.command, sink.address, watch).expect(words)
}

fn value(outcome: &Outcome, name: &str) -> f64 {
    outcome.value(name).unwrap_or_else(|| panic!("no {name} in {}", outcome.to_text()))
}

const BRIEF: &str = "-d 200ms --warmup 50ms";

#[test]
fn core_scenarios_lose_nothing() {
    let sets = [("core-pub-sub --pairs 2 --size 16,1KiB", 2), ("fanout --subscribers 3", 1)];
    for (words, count) in sets {
        let outcomes = outcomes(&format!("{words} {BRIEF}"));
        assert_eq!(outcomes.len(), count);
        for outcome in outcomes {
            assert!(value(&outcome, "rate") > 1000.0, "{}", outcome.to_text());
            assert_eq!(value(&outcome, "lost"), 0.0, "{}", outcome.to_text());
            assert!(value(&outcome, "server_rss") > 0.0);
        }
    }
}

#[test]
fn requests_are_answered() {
    let words = format!("request --clients 2 --responders 2 --in-flight 8 {BRIEF}");
    let outcome = &outcomes(&words)[0];
    assert!(value(outcome, "rate") > 100.0);
    assert!(value(outcome, "round_trip.p50") > 0.0);
    assert!(outcome.errors.is_empty());
}

#[test]
fn latency_is_told_by_pairs() {
    let outcome = &outcomes(&format!("latency --connections 3 --rate 500 {BRIEF}"))[0];
    let near = value(outcome, "one_way_near.p50");
    assert!(near > 0.0 && near <= value(outcome, "one_way_far.p50"));
}

#[test]
fn publishes_are_acknowledged_once() {
    for extra in ["--size 128,100KiB --in-flight 50", "--rate 3000 --size 64", "--msgs 1000"] {
        for outcome in outcomes(&format!("js-publish {extra} {BRIEF}")) {
            assert!(value(&outcome, "rate") > 100.0, "{}", outcome.to_text());
            assert!(value(&outcome, "ack.p50") > 0.0);
            assert_eq!(outcome.value("unanswered"), None, "{}", outcome.to_text());
            assert_eq!(outcome.value("unexpected_answers"), None, "{}", outcome.to_text());
            assert!(outcome.errors.is_empty());
        }
    }
    let outcome = &outcomes(&format!("js-ack-latency --connections 2 {BRIEF}"))[0];
    assert!(value(outcome, "ack_near.p50") > 0.0);
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let outcome = &outcomes("js-publish --rate 2000 --size 64 -d 1s --warmup 100ms")[0];
    let rate = value(outcome, "rate");
    assert!((1800.0..2200.0).contains(&rate), "{rate}");
}

#[test]
fn replays_are_whole_and_in_order() {
    for mode in ["push", "pull"] {
        let words = format!("js-replay --size 512 --msgs 5000 --consumers 1,3 --mode {mode}");
        let outcomes = outcomes(&words);
        assert_eq!(outcomes.len(), 2);
        for outcome in &outcomes {
            assert_eq!(value(outcome, "gaps"), 0.0, "{}", outcome.to_text());
        }
    }
}

#[test]
fn slow_streams_idle_connections_and_fills_run() {
    let outcome = &outcomes(&format!("js-slow-streams --streams 20 --rate 50 {BRIEF}"))[0];
    assert_eq!(value(outcome, "offered_rate"), 1000.0);
    let outcome = &outcomes("idle-connections --connections 50 --hold 50ms")[0];
    assert!(value(outcome, "connect_rate") > 1.0);
    let outcome = &outcomes("js-restart-fill --msgs 3000 --subjects 100")[0];
    assert!(value(outcome, "rate") > 100.0);
}
