//! Ledgers follow from the log alone, and what delivers follows from them.

use super::world::World;
use crate::shard::StateDigest;
use crate::shard::groups::GroupName;
use crate::shard::state::read_ahead::ReadAhead;

/// Consumers of a stream; the second one's acknowledgements cover what lies below.
const CONSUMERS: [(&str, &str); 2] = [("C", "explicit"), ("D", "all")];

fn create_consumers(w: &mut World, stream: &str) {
    for (name, policy) in CONSUMERS {
        let body = format!(
            concat!(
                r#"{{"stream_name":"{}","config":"#,
                r#"{{"durable_name":"{}","ack_policy":"{}","ack_wait":50000000}}}}"#
            ),
            stream, name, policy
        );
        let answer = w.request(&format!("CONSUMER.CREATE.{stream}.{name}"), stream, &body);
        assert!(!answer.contains("error"), "{answer}");
    }
}

/// Waits until all is applied that is in the log. Then each view is level with its ledger.
fn level(w: &mut World, stream: &str) {
    let id = w.stream(stream).expect("a stream");
    for group in [GroupName::File, GroupName::Memory] {
        while !w.shard().groups.get(group).is_idle() {
            w.turn();
        }
    }
    let slot = w.shard().slots[&id];
    for (_, c) in &w.shard().streams[slot].consumers.slab {
        let delivery = c.delivery.as_ref().expect("is led");
        if !delivery.is_dirty() {
            assert!(delivery.is_level_with(&c.ledger), "{}", c.name);
        }
    }
}

/// What delivers for a stream's consumers is dropped, and made anew from their ledgers.
fn lead_anew(w: &mut World, stream: &str) {
    level(w, stream);
    let (now, id) = (w.now, w.stream(stream).expect("a stream"));
    let shard = w.shard();
    let slot = shard.slots[&id];
    // What was delivered and is not in the log is not known any more.
    shard.lifecycle.stopped_clean = false;
    let all: Vec<usize> = shard.streams[slot].consumers.slab.iter().map(|(at, _)| at).collect();
    for at in all {
        let consumers = &mut shard.streams[slot].consumers;
        consumers.leave(at);
        let c = &mut consumers.slab[at];
        c.delivery = None;
        c.held.clear();
        (c.blocked, c.retry_at, c.scan_from, c.ahead) = (None, None, 0, ReadAhead::default());
        let (timer, consumer) = (c.timer.take(), c.id);
        if let Some(timer) = timer {
            shard.consumers.timers.remove(&(timer, id, consumer));
        }
        shard.lead_consumer(now, id, consumer);
    }
}

/// Pulls some messages and acknowledges some of them. The stream sequences whose acknowledgement
/// was answered.
fn consume(w: &mut World, stream: &str, name: &str, acked: &mut Vec<u64>) {
    let verb = format!("CONSUMER.MSG.NEXT.{stream}.{name}");
    let inbox = w.ask(&verb, stream, r#"{"batch":7,"expires":5000000}"#);
    w.wait(3_000_000);
    let got = w.inbox.iter().filter(|m| m.to == inbox && m.reply.starts_with("$JS.ACK."));
    let replies: Vec<String> = got.map(|m| m.reply.clone()).collect();
    w.inbox.retain(|m| m.to != inbox);
    for reply in replies {
        let seq: u64 = reply.split('.').nth(5).and_then(|n| n.parse().ok()).expect("a sequence");
        assert!(!acked.contains(&seq), "{stream} {name}: {seq} came again");
        if w.rng.below(3) > 0 {
            let answer = w.ack(stream, &reply);
            w.await_answer(&answer);
            acked.push(seq);
        }
    }
}

#[test]
fn what_delivers_may_be_dropped_at_any_moment() {
    for (seed, storage) in [(1, "memory"), (2, "memory"), (3, "file"), (4, "memory")] {
        let mut w = World::new(seed);
        w.create("S", &format!(r#","storage":"{storage}""#));
        create_consumers(&mut w, "S");
        let mut acked = [Vec::new(), Vec::new()];
        for _ in 0..40 {
            for _ in 0..w.rng.below(12) {
                w.publish("S", "s.x", "", "p");
            }
            let some = w.rng.below(2) as usize;
            // One acknowledgement covers those below: these may come again before it does.
            let mut ignored = Vec::new();
            let of = if some == 0 { &mut acked[0] } else { &mut ignored };
            consume(&mut w, "S", CONSUMERS[some].0, of);
            if w.rng.below(3) == 0 {
                lead_anew(&mut w, "S");
            }
        }
        level(&mut w, "S");
        let info = w.request("CONSUMER.INFO.S.C", "S", "");
        let delivered = info.split("\"stream_seq\":").nth(1).expect(&info);
        assert!(!delivered.starts_with('0') && acked[0].len() > 50, "{info}");
    }
}

#[test]
fn a_ledger_does_not_depend_on_what_the_stream_and_the_server_may_change() {
    let mut w = World::new(5);
    w.create("S", "");
    let body = concat!(
        r#"{"stream_name":"S","config":{"durable_name":"P","deliver_subject":"d","#,
        r#""ack_policy":"explicit","rate_limit_bps":8000}}"#
    );
    let answer = w.request("CONSUMER.DURABLE.CREATE.S.P", "S", body);
    assert!(!answer.contains("error"), "{answer}");
    for size in [2_000, 3_000] {
        let body = format!(r#"{{"name":"S","subjects":["s.>"],"max_msg_size":{size}}}"#);
        let answer = w.request("STREAM.UPDATE.S", "S", &body);
        assert!(!answer.contains("error"), "{answer}");
        // In the first round the update is behind the checkpoint, then it is part of it.
        for _ in 0..2 {
            w.settle();
            let was = w.shard().state_digest();
            assert!(was.is_some());
            w.options.max_payload *= 2;
            w.restart();
            let streams = |d: &Option<StateDigest>| d.clone().map(|d| d.streams);
            assert_eq!(streams(&was), streams(&w.opened));
        }
    }
}
