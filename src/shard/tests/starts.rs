//! Last-per-subject consumers over more subjects than one step visits.

use std::collections::{BTreeMap, BTreeSet};

use super::world::World;

const SUBJECTS: u64 = 300;
const CREATE: &str = concat!(
    r#"{"stream_name":"A","config":{"durable_name":"c","ack_policy":"none","#,
    r#""deliver_policy":"last_per_subject","filter_subject":"a.*"}}"#
);

/// A stream, and the subject of every message that it has.
struct Model {
    world: World,
    live: BTreeMap<u64, u64>,
    /// The last message that each subject ever had.
    newest: BTreeMap<u64, u64>,
    last: u64,
}

impl Model {
    fn new(seed: u64) -> Model {
        let mut world = World::new(seed);
        world.create("A", r#","subjects":["a.*","b"],"allow_direct":true"#);
        Model { world, live: BTreeMap::new(), newest: BTreeMap::new(), last: 0 }
    }

    fn publish(&mut self, subject: u64) {
        self.world.publish("A", &format!("a.{subject}"), "", "x");
        self.last += 1;
        self.live.insert(self.last, subject);
        self.newest.insert(subject, self.last);
    }

    fn delete(&mut self, seq: u64) {
        self.world.ask("STREAM.MSG.DELETE.A", "A", &format!(r#"{{"seq":{seq}}}"#));
        self.live.remove(&seq);
    }

    /// The last message of each subject.
    fn lasts(&self) -> BTreeSet<u64> {
        let lasts: BTreeMap<u64, u64> = self.live.iter().map(|(seq, s)| (*s, *seq)).collect();
        lasts.into_values().collect()
    }

    /// What the consumer delivers, by stream sequence.
    fn deliveries(&mut self) -> Vec<u64> {
        self.world.inbox.clear();
        let to = self.world.ask("CONSUMER.MSG.NEXT.A.c", "A", r#"{"batch":5000,"no_wait":true}"#);
        self.world.wait(50_000_000);
        let delivered = self.world.inbox.iter().filter(|m| m.to == to && m.payload == "x");
        delivered
            .map(|m| m.reply.split('.').nth(5).and_then(|seq| seq.parse().ok()).expect("a seq"))
            .collect()
    }
}

fn pending(answer: &str) -> u64 {
    let (_, rest) = answer.split_once("\"num_pending\":").expect("a count");
    rest.split(',').next().and_then(|n| n.parse().ok()).expect("a number")
}

/// Publishes and removals go on while the consumer is created; `crash` comes before the answer or
/// after it.
fn play(seed: u64, busy: bool, crash: bool) {
    let mut m = Model::new(seed);
    for nth in 0..3 * SUBJECTS {
        m.publish(nth * 7 % SUBJECTS);
    }
    m.world.settle();
    // So that some do not know their last message.
    for subject in (0..SUBJECTS).step_by(5) {
        let last = m.live.iter().rev().find(|(_, s)| **s == subject).map(|(seq, _)| *seq);
        m.delete(last.expect("a message"));
    }
    m.world.settle();
    let (at_start, last) = (m.lasts(), m.last);
    let reply = m.world.ask("CONSUMER.CREATE.A.c.a.*", "A", CREATE);
    let mut turns = 0;
    let answer = loop {
        if let Some(answer) = m.world.answer(&reply) {
            break answer;
        }
        turns += 1;
        assert!(turns < 5_000, "no answer");
        if busy {
            let subject = m.world.rng.below(SUBJECTS + 20);
            m.publish(subject);
            if turns % 3 == 0 {
                let gone = m.world.rng.below(m.last) + 1;
                m.delete(gone);
            }
        }
        m.world.turn();
    };
    assert!(turns > 5, "it was not made in steps");
    m.world.settle();
    if crash {
        m.world.crash();
    }
    let info = m.world.request("CONSUMER.INFO.A.c", "A", "");
    let delivered = m.deliveries();
    assert_eq!(pending(&info), delivered.len() as u64, "{info}");
    if !busy {
        assert_eq!(pending(&answer), at_start.len() as u64, "{answer}");
        assert_eq!(delivered, at_start.iter().copied().collect::<Vec<_>>());
    }
    assert!(delivered.is_sorted_by(|a, b| a < b), "in order, and once");
    let set: BTreeSet<u64> = delivered.iter().copied().collect();
    // Only a message that was followed by others, which are gone, need not be delivered.
    let hidden = |seq: &u64| *seq <= last && m.newest[&m.live[seq]] > *seq;
    let missing: Vec<u64> = m.lasts().difference(&set).copied().collect();
    assert!(missing.iter().all(hidden), "{missing:?}");
    assert!(set.iter().all(|seq| m.live.contains_key(seq)), "what is gone is not delivered");
}

#[test]
fn each_last_message_is_delivered() {
    play(1, false, false);
    play(2, false, true);
}

#[test]
fn what_changes_meanwhile_is_neither_lost_nor_delivered_twice() {
    for seed in 10..30 {
        play(seed, true, seed % 2 == 0);
    }
}

#[test]
fn a_stream_that_goes_away_meanwhile_is_not_found() {
    let mut m = Model::new(3);
    for nth in 0..SUBJECTS {
        m.publish(nth);
    }
    m.world.settle();
    let reply = m.world.ask("CONSUMER.CREATE.A.c.a.*", "A", CREATE);
    m.world.request("STREAM.DELETE.A", "A", "");
    m.world.wait(100_000_000);
    let answer = m.world.answer(&reply).expect("an answer");
    assert!(answer.contains("10059") || answer.contains("\"name\":\"c\""), "{answer}");
}
