//! Restarts: after every crash the shard holds what it had acknowledged.

use std::collections::BTreeMap;

use super::world::World;

/// A client that publishes, removes, consumes and remembers.
struct Client {
    world: World,
    /// Acknowledged messages by stream and sequence; those that were removed since are `None`.
    acked: BTreeMap<(String, u64), Option<String>>,
    /// Publishes without an answer yet: reply, stream, payload.
    open: Vec<(String, String, String)>,
    count: u64,
}

const STREAMS: [(&str, &str); 5] = [
    ("PLAIN", ""),
    ("LAST", r#","max_msgs_per_subject":1"#),
    ("FEW", r#","max_msgs":300"#),
    ("THREE", r#","max_msgs_per_subject":3,"max_bytes":40000"#),
    ("GONE", ""),
];

impl Client {
    fn new(seed: u64) -> Client {
        let mut world = World::new(seed);
        for (name, settings) in STREAMS {
            world.create(name, settings);
        }
        Client { world, acked: BTreeMap::new(), open: Vec::new(), count: 0 }
    }

    fn collect(&mut self) {
        for (reply, stream, payload) in std::mem::take(&mut self.open) {
            match self.world.answer(&reply) {
                None => self.open.push((reply, stream, payload)),
                Some(answer) if answer.contains("duplicate") => {}
                Some(answer) => {
                    let seq = answer.split("\"seq\":").nth(1).expect(&answer);
                    let seq: String = seq.chars().take_while(char::is_ascii_digit).collect();
                    self.acked.insert((stream, seq.parse().unwrap()), Some(payload));
                }
            }
        }
    }

    fn publish(&mut self, n: u64) {
        for _ in 0..n {
            self.count += 1;
            let count = self.count;
            let at = self.world.rng.below(STREAMS.len() as u64) as usize;
            let name = STREAMS[at].0;
            let subject = format!("{}.{}", name.to_lowercase(), self.world.rng.below(40));
            let id = match self.world.rng.below(3) {
                0 => format!("id-{}", self.world.rng.below(500)),
                _ => String::new(),
            };
            let size = self.world.rng.below(200) as usize;
            let payload = format!("{count} {}", "x".repeat(size));
            let reply = self.world.publish(name, &subject, &id, &payload);
            if !reply.is_empty() {
                self.open.push((reply, name.into(), payload));
            }
        }
    }

    /// Something that is not a publish.
    fn other(&mut self) {
        let at = self.world.rng.below(STREAMS.len() as u64) as usize;
        let name = STREAMS[at].0;
        match self.world.rng.below(9) {
            0 => {
                let seq = 1 + self.world.rng.below(self.count.max(1));
                let body = format!(r#"{{"seq":{seq}}}"#);
                let answer = self.world.request(&format!("STREAM.MSG.DELETE.{name}"), name, &body);
                self.collect();
                if answer.contains("\"success\":true") {
                    self.acked.insert((name.into(), seq), None);
                }
            }
            1 | 2 => {
                let subject = format!("{}.{}", name.to_lowercase(), self.world.rng.below(40));
                let body = match self.world.rng.below(3) {
                    0 => format!(r#"{{"filter":"{subject}"}}"#),
                    1 => format!(r#"{{"keep":{}}}"#, self.world.rng.below(400)),
                    _ => format!(r#"{{"seq":{}}}"#, self.world.rng.below(self.count.max(1))),
                };
                let answer = self.world.request(&format!("STREAM.PURGE.{name}"), name, &body);
                assert!(answer.contains("\"success\":true"), "{answer}");
                self.look(name);
            }
            3 => {
                let c = format!("c{}", self.world.rng.below(4));
                let body = format!(
                    concat!(
                        r#"{{"stream_name":"{}","config":"#,
                        r#"{{"durable_name":"{}","ack_policy":"explicit"}}}}"#
                    ),
                    name, c
                );
                let verb = format!("CONSUMER.CREATE.{name}.{c}");
                self.world.request(&verb, name, &body);
            }
            4 => {
                let c = format!("c{}", self.world.rng.below(4));
                let verb = format!("CONSUMER.DELETE.{name}.{c}");
                self.world.request(&verb, name, "");
            }
            5 | 6 => self.consume(name),
            7 => {
                self.world.request("STREAM.DELETE.GONE", "GONE", "");
                self.open.retain(|(_, stream, _)| stream != "GONE");
                self.acked.retain(|(stream, _), _| stream != "GONE");
                self.world.create("GONE", "");
            }
            _ => {
                let few = [100, 300, 1000][self.world.rng.below(3) as usize];
                let body = format!(r#"{{"name":"FEW","subjects":["few.>"],"max_msgs":{few}}}"#);
                let answer = self.world.request("STREAM.UPDATE.FEW", "FEW", &body);
                assert!(!answer.contains("\"error\""), "{answer}");
            }
        }
    }

    fn consume(&mut self, name: &str) {
        let c = format!("c{}", self.world.rng.below(4));
        let reply =
            self.world.ask(&format!("CONSUMER.MSG.NEXT.{name}.{c}"), name, r#"{"batch":20}"#);
        self.world.wait(3_000_000);
        let acks: Vec<String> = self.world.inbox.iter().map(|m| m.reply.clone()).collect();
        for ack in acks.iter().filter(|a| a.starts_with("$JS.ACK.")) {
            self.world.ack(name, ack);
        }
        self.world.inbox.retain(|m| m.to != reply);
    }

    /// Forgets what the stream no longer has: after a purge that was answered.
    fn look(&mut self, name: &str) {
        self.world.wait(5_000_000);
        self.collect();
        let live = self.sequences(name);
        for ((stream, seq), message) in &mut self.acked {
            if stream == name && !live.contains_key(seq) {
                *message = None;
            }
        }
    }

    fn sequences(&mut self, name: &str) -> BTreeMap<u64, String> {
        let lines = self.world.dump().remove(name).unwrap_or_default();
        let messages = lines.iter().skip(3).filter(|l| !l.starts_with("consumer "));
        messages
            .map(|l| {
                let (seq, rest) = l.split_once(' ').unwrap();
                (seq.parse().unwrap(), rest.to_owned())
            })
            .collect()
    }

    /// What was acknowledged to stay is there, what was acknowledged to go is not.
    fn check(&mut self) {
        for name in ["PLAIN", "GONE"] {
            let live = self.sequences(name);
            for ((stream, seq), message) in &self.acked {
                if stream == name {
                    let what = format!("{name} {seq}");
                    assert_eq!(message.is_some(), live.contains_key(seq), "{what}");
                }
            }
        }
    }

    fn crash_quietly(&mut self) {
        self.world.wait(2_000_000);
        let mut turns = 0;
        while !self.world.shard().log.is_idle() || self.world.shard().has_work(true) {
            self.world.turn();
            turns += 1;
            if turns > 199_980 {
                let shard = self.world.shard();
                let (work, idle) = (shard.has_work(true), shard.log.is_idle());
                println!("{work} {idle} {}", shard.reclaim.progress());
            }
            assert!(turns < 200_000, "no rest");
        }
        self.collect();
        let before = self.world.dump();
        self.world.check_live();
        self.world.crash();
        self.world.wait(2_000_000);
        let after = self.world.dump();
        for (name, lines) in &before {
            let found = after.get(name).unwrap_or_else(|| panic!("stream {name} is gone"));
            for (line, now) in lines.iter().zip(found) {
                assert_eq!(line, now, "stream {name}");
            }
            assert_eq!(lines.len(), found.len(), "stream {name}");
        }
        assert_eq!(before.len(), after.len());
        assert!(
            !self.world.lines.iter().any(|l| !l.contains("replayed")),
            "{:?}",
            self.world.lines
        );
        self.world.check_live();
    }

    fn crash_in_the_middle(&mut self) {
        for _ in 0..self.world.rng.below(30) {
            self.world.turn();
        }
        self.collect();
        self.world.crash();
        self.open.clear();
        self.world.inbox.clear();
        self.check();
        self.world.check_live();
        // What was on its way may be there or not: from now on it is as it is.
        for name in ["PLAIN", "GONE"] {
            self.look(name);
        }
    }
}

fn run(seed: u64, rounds: usize) {
    let mut client = Client::new(seed);
    for _ in 0..rounds {
        for _ in 0..client.world.rng.below(12) {
            let n = 1 + client.world.rng.below(300);
            client.publish(n);
            for _ in 0..client.world.rng.below(20) {
                client.world.turn();
            }
            client.collect();
            if client.world.rng.chance(400_000) {
                client.other();
            }
        }
        match client.world.rng.below(3) {
            0 => client.crash_quietly(),
            1 => client.crash_in_the_middle(),
            _ => {
                client.world.settle();
                client.crash_quietly();
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_crashes() {
    let seeds = std::env::var("SHARD_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4);
    for seed in 0..seeds {
        println!("seed {seed}");
        run(seed, 12);
    }
}

#[test]
fn a_settled_shard_replays_nothing() {
    let mut client = Client::new(99);
    client.publish(2_000);
    client.world.settle();
    client.world.shard = None;
    client.world.open();
    let replayed = client.world.lines.iter().any(|l| l.contains("replayed"));
    assert!(!replayed, "{:?}", client.world.lines);
}

#[test]
fn recovery_reads_what_changed_behind_the_checkpoint_only() {
    let mut client = Client::new(5);
    for _ in 0..40 {
        client.publish(300);
        client.world.wait(5_000_000);
    }
    client.crash_quietly();
    let replayed = client.world.lines.iter().find(|l| l.contains("replayed")).cloned();
    let records = replayed.map_or(0, |l| {
        let n = l.split("replayed ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        n.parse::<u64>().unwrap()
    });
    assert!(records < 6_000, "{records} of 12000 messages were replayed");
}

#[test]
fn what_a_purge_made_of_an_unused_stream_is_not_forgotten() {
    let shown = |world: &mut World| {
        let answer = world.request("STREAM.INFO.A", "A", "");
        let first = answer.split("\"first_seq\":").nth(1).expect(&answer).chars().next();
        first.and_then(|c| c.to_digit(10)).expect("a digit")
    };
    let mut world = World::new(77);
    world.create("A", "");
    assert_eq!(shown(&mut world), 0);
    let answer = world.request("STREAM.PURGE.A", "A", "");
    assert!(answer.contains("\"success\":true"), "{answer}");
    assert_eq!(shown(&mut world), 1);
    world.crash();
    assert_eq!(shown(&mut world), 1, "after the record was replayed");
    world.settle();
    world.crash();
    assert!(!world.lines.iter().any(|l| l.contains("replayed")), "{:?}", world.lines);
    assert_eq!(shown(&mut world), 1, "as the checkpoint has it");
    world.publish("A", "a.1", "", "x");
    world.settle();
    assert_eq!(shown(&mut world), 1);
}

#[test]
fn a_new_consumer_knows_what_was_evicted_while_it_was_created() {
    let mut world = World::new(78);
    world.create("A", r#","max_msgs_per_subject":1"#);
    world.publish("A", "a.1", "", "old");
    world.settle();
    let config = concat!(
        r#"{"durable_name":"c","ack_policy":"all","#,
        r#""deliver_policy":"last_per_subject","filter_subject":"a.*"}"#
    );
    let body = format!(r#"{{"stream_name":"A","config":{config}}}"#);
    let reply = world.ask("CONSUMER.CREATE.A.c.a.*", "A", &body);
    world.publish("A", "a.1", "", "new");
    world.settle();
    let answer = world.answer(&reply).expect("an answer");
    assert!(answer.contains("\"num_pending\":1,"), "{answer}");
    let before = world.request("CONSUMER.INFO.A.c", "A", "");
    assert!(before.contains("\"num_pending\":1,"), "{before}");
    world.crash();
    let after = world.request("CONSUMER.INFO.A.c", "A", "");
    assert!(after.contains("\"num_pending\":1,"), "{after}");
}
