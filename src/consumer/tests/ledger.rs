//! The ledger is what the log says, whatever the delivering side did and whenever it is dropped.

use super::drive::*;
use super::groups::Dice;
use super::model::settings;
use crate::consumer::*;
use std::collections::VecDeque;

/// A record of the log.
enum Record {
    Delta(Vec<u8>, Taken),
    Config(ConsumerSettings),
}

/// A consumer whose records are logged and committed one by one, and a replica.
struct Run {
    b: Bench,
    replica: Ledger,
    in_flight: VecDeque<Record>,
    dice: Dice,
    seed: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let start = StartPosition { next_seq: 1, ..Default::default() };
        let mut b = Bench::bare(settings(seed), &[], start);
        let mut replica = Ledger::new(settings(seed));
        replica.apply(&b.log[0]).expect("a start");
        b.consumer.interest(b.now, true);
        Run { b, replica, in_flight: VecDeque::new(), dice: Dice(seed), seed }
    }

    fn step(&mut self) {
        match self.dice.roll(100) {
            0..25 => {
                self.b.append(b"s.a");
                self.b.drive_without_flush();
            }
            25..40 if self.b.consumer.settings().pull().is_some() => {
                self.b.counted();
                let b = &mut self.b;
                let body = b"{\"batch\":5,\"expires\":30000000}";
                b.consumer.pull(b.now, body, b"inbox", ORIGIN, &mut b.sink);
                b.drive_without_flush();
            }
            25..60 => self.acknowledge(),
            60..68 => {
                let to = crate::types::Timestamp(self.b.now.0 + self.dice.roll(60) as i64 * MS);
                self.b.now = to;
                self.b.counted();
                self.b.consumer.tick(to, &mut self.b.sink);
                self.b.drive_without_flush();
            }
            68..72 => {
                let near = self.dice.roll(self.b.last_seq + 1);
                if let Some((&seq, _)) = self.b.messages.range(near..).next() {
                    self.b.remove(seq);
                }
            }
            72..73 => {
                let below = self.dice.roll(self.b.last_seq + 2);
                self.b.purge_below(below);
            }
            73..75 => self.reconfigure(),
            75..85 => self.log(),
            85..98 => self.commit(),
            _ => self.drop_delivery(),
        }
        self.b.sink.take();
    }

    fn acknowledge(&mut self) {
        let near = self.dice.roll(self.b.last_seq + 1);
        let owed = self.b.consumer.view.unacked.iter().find(|s| s.seq >= near);
        let Some((seq, cseq)) = owed.map(|s| (s.seq, s.consumer_seq)) else { return };
        let payload = ["", "+TERM", "-NAK", "-NAK 5ms", "+WPI"][self.dice.roll(5) as usize];
        let ack = AckSubject { deliveries: 1, seq, consumer_seq: cseq, ..Default::default() };
        let b = &mut self.b;
        b.counted();
        b.consumer.ack(b.now, &ack, payload.as_bytes(), b"ar", ORIGIN, &mut b.sink);
        b.drive_without_flush();
    }

    /// What was gathered is appended before a configuration that is decided after it.
    fn reconfigure(&mut self) {
        self.log();
        let ack_wait = (10 + self.dice.roll(100) as i64) * MS;
        let new = ConsumerSettings { ack_wait, ..self.b.consumer.settings().clone() };
        self.in_flight.push_back(Record::Config(new));
    }

    fn log(&mut self) {
        let mut body = Vec::new();
        if let Some(taken) = self.b.consumer.take_delta(&mut body) {
            self.in_flight.push_back(Record::Delta(body, taken));
        }
    }

    fn commit(&mut self) {
        match self.in_flight.pop_front() {
            Some(Record::Delta(body, taken)) => {
                self.b.consumer.delta_durable(taken);
                self.replica.apply(&body).expect("a delta");
            }
            Some(Record::Config(new)) => {
                self.b.consumer.update(self.b.now, new.clone());
                self.replica.configure(new);
            }
            None => {}
        }
        self.check();
        self.b.drive_without_flush();
    }

    fn check(&self) {
        assert_eq!(self.b.consumer.ledger, self.replica, "seed {}", self.seed);
        let live = self.b.consumer.ledger.digest();
        assert_eq!(live, self.replica.digest(), "seed {}", self.seed);
    }

    /// Nobody delivers any more, and then somebody does: what was not committed never was.
    fn drop_delivery(&mut self) {
        self.in_flight.clear();
        self.check();
        let mut snapshot = Vec::new();
        self.replica.encode(&mut snapshot);
        let settings = self.replica.settings().clone();
        let read = Ledger::decode(settings, &snapshot).expect("a snapshot");
        assert_eq!(read, self.replica, "seed {}", self.seed);
        assert_eq!(read.digest(), self.replica.digest(), "seed {}", self.seed);
        let b = &mut self.b;
        b.consumer.recovered(b.now, b.last_seq, false);
        assert_eq!(b.consumer.ledger, self.replica, "seed {}", self.seed);
        let first = b.messages.first_key_value().map_or(b.last_seq + 1, |(&s, _)| s);
        b.consumer.purged_below(first);
        let mut kept = Vec::new();
        b.consumer.kept(&mut kept);
        for seq in kept {
            if !b.messages.contains_key(&seq) {
                b.consumer.removed(b.now, seq);
            }
        }
        b.consumer.interest(b.now, true);
        let position = b.consumer.progress().position;
        let pending = b.messages.range(position..).count() as u64;
        b.groups.set(b.handle, position, pending, b.last_seq);
        b.groups.watch(b.handle, b.consumer.watched());
    }

    fn finish(&mut self) {
        self.log();
        while !self.in_flight.is_empty() {
            self.commit();
            self.log();
        }
        let ledger = self.b.consumer.ledger.clone();
        assert!(self.b.consumer.is_level_with(&ledger), "seed {}", self.seed);
    }
}

#[test]
fn a_delivering_side_may_be_dropped_at_any_moment() {
    for seed in 0..500 {
        let mut run = Run::new(seed);
        for _ in 0..300 {
            run.step();
        }
        run.finish();
    }
}

#[test]
fn different_ledgers_have_different_digests() {
    let mut b = Bench::new(settings(1), 3);
    let mut seen = vec![b.consumer.ledger.digest()];
    b.pull("2");
    seen.push(b.consumer.ledger.digest());
    b.ack(1, 1, "");
    seen.push(b.consumer.ledger.digest());
    let mut other = b.consumer.ledger.clone();
    other.configure(ConsumerSettings { ack_wait: 7, ..other.settings().clone() });
    seen.push(other.digest());
    for (i, digest) in seen.iter().enumerate() {
        assert!(!seen[i + 1..].contains(digest), "{i}");
    }
}
