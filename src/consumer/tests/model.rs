//! A consumer against a naive account of what clients saw, over random runs with crashes.

use super::drive::*;
use super::groups::Dice;
use crate::consumer::*;
use std::collections::{BTreeMap, BTreeSet};

/// What clients and an omniscient observer know.
#[derive(Default)]
struct Account {
    /// Consumer sequence → stream sequence, for all lives.
    seen: BTreeMap<u64, u64>,
    /// Acknowledgements whose answer was sent after their delta was durable.
    answered: BTreeSet<u64>,
    /// Acknowledged in this life or answered.
    acked: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
}

struct Run {
    b: Bench,
    account: Account,
    dice: Dice,
    seed: u64,
    snapshot: Option<(usize, Vec<u8>)>,
}

pub fn settings(seed: u64) -> ConsumerSettings {
    let mut s = if seed.is_multiple_of(3) { push_settings() } else { pull_settings() };
    s.ack_wait = 50 * MS;
    s.max_ack_pending = [0, 3, 20][(seed % 3) as usize];
    s.max_deliver = if seed % 4 == 1 { 3 } else { 0 };
    s.ack_policy = if seed % 5 == 2 { AckPolicy::All } else { AckPolicy::Explicit };
    s
}

/// Fills the stream and starts the consumer at the last message of each subject.
fn begin_with_last_per_subject(b: &mut Bench, dice: &mut Dice) {
    let mut last = BTreeMap::new();
    for _ in 0..40 {
        let s = [&b"s.a"[..], b"s.b", b"s.c", b"s.d"][dice.roll(4) as usize];
        let seq = b.append(s);
        if b.matches(s) {
            last.insert(s, seq);
        }
    }
    let start_set = last.into_values().collect();
    let start = StartPosition { next_seq: 41, last_seq: 40, start_set };
    b.consumer = Consumer::new(b.consumer.settings().clone(), b.now, start, 1);
    b.log.clear();
    b.flush();
    b.groups.set(b.handle, 41, 0, 40);
    b.groups.watch(b.handle, b.consumer.watched());
}

impl Run {
    fn new(seed: u64) -> Self {
        let filters: &[&[u8]] = if seed.is_multiple_of(2) { &[] } else { &[b"s.a", b"s.b"] };
        let start = StartPosition { next_seq: 1, ..Default::default() };
        let mut b = Bench::bare(settings(seed), filters, start);
        let mut dice = Dice(seed);
        if seed.is_multiple_of(7) {
            begin_with_last_per_subject(&mut b, &mut dice);
        }
        b.consumer.interest(b.now, true);
        Run { b, account: Account::default(), dice, seed, snapshot: None }
    }

    fn step(&mut self) {
        let subjects = [&b"s.a"[..], b"s.b", b"s.c"];
        match self.dice.roll(100) {
            0..25 => {
                self.b.append(subjects[self.dice.roll(3) as usize]);
                self.b.drive_without_flush();
            }
            25..45 => {
                let bodies = [
                    "1",
                    "5",
                    "{\"batch\":3,\"no_wait\":true}",
                    "{\"batch\":9,\"expires\":30000000}",
                ];
                let body = bodies[self.dice.roll(4) as usize];
                self.b.counted();
                let b = &mut self.b;
                if b.consumer.settings().pull().is_some() {
                    b.consumer.pull(b.now, body.as_bytes(), b"inbox", ORIGIN, &mut b.sink);
                }
                b.drive_without_flush();
            }
            45..70 => self.acknowledge(),
            70..80 => {
                let to = self.b.now.0 + self.dice.roll(40) as i64 * MS;
                self.tick(to);
            }
            80..86 => {
                let near = self.dice.roll(self.b.last_seq + 1);
                if let Some((&seq, _)) = self.b.messages.range(near..).next() {
                    self.b.remove(seq);
                    self.b.drive_without_flush();
                }
            }
            86..88 => {
                let below = self.dice.roll(self.b.last_seq + 2);
                self.b.purge_below(below);
                self.b.drive_without_flush();
            }
            88..96 => self.flush(),
            96..97 => {
                self.flush();
                let mut out = Vec::new();
                self.b.consumer.encode_snapshot(&mut out);
                self.snapshot = Some((self.b.log.len(), out));
            }
            97..98 => self.crash(false),
            _ => {
                self.flush();
                self.crash(true);
            }
        }
        self.observe();
        self.check();
    }

    fn tick(&mut self, to: i64) {
        let b = &mut self.b;
        while let Some(at) = b.consumer.deadline().filter(|at| at.0 <= to) {
            b.now = b.now.max(at);
            b.counted();
            b.consumer.tick(b.now, &mut b.sink);
            b.drive_without_flush();
            if b.consumer.deadline().is_some_and(|next| next <= at) {
                break;
            }
        }
        b.now.0 = b.now.0.max(to);
    }

    fn acknowledge(&mut self) {
        let n = self.account.seen.len() as u64;
        if n == 0 {
            return;
        }
        let pick = self.dice.roll(n.min(12)) as usize;
        let Some((&cseq, &seq)) = self.account.seen.iter().rev().nth(pick) else { return };
        let payload = ["", "+ACK", "+TERM", "-NAK", "-NAK 5ms", "+WPI"][self.dice.roll(6) as usize];
        let ack = AckSubject { deliveries: 1, seq, consumer_seq: cseq, ..Default::default() };
        let b = &mut self.b;
        b.counted();
        b.sink.taken.retain(|o| !matches!(o, Output::AckReply { .. }));
        b.consumer.ack(b.now, &ack, payload.as_bytes(), b"ar", ORIGIN, &mut b.sink);
        let answered = b.sink.taken.iter().any(|o| matches!(o, Output::AckReply { .. }));
        if answered && matches!(payload, "" | "+ACK" | "+TERM") {
            self.account.acked.insert(seq);
        }
        b.drive_without_flush();
    }

    /// The shard's flush: everything taken is durable, and held answers go out.
    fn flush(&mut self) {
        self.b.flush();
        // What is durable now may have been waited for.
        self.b.drive_without_flush();
        self.b.flush();
        self.account.answered = self.account.acked.clone();
    }

    fn crash(&mut self, clean: bool) {
        let b = &mut self.b;
        let before = b.consumer.clone();
        let settings = b.consumer.settings().clone();
        // The snapshot if there is one, and the deltas after it; the first delta is the start.
        let snapshot = self.snapshot.as_ref().map(|(at, bytes)| (*at, bytes.as_slice()));
        let from = snapshot.map_or(0, |(at, _)| at);
        let mut c = Consumer::restore(settings, b.now, snapshot.map(|(_, s)| s), self.seed)
            .expect("a snapshot");
        for delta in &b.log[from..] {
            c.apply_delta(delta).expect("a delta");
        }
        assert_eq!(c.ledger, before.ledger, "seed {}", self.seed);
        if clean {
            assert!(c.same_state(&before), "seed {}: {:#?}\n{:#?}", self.seed, c.view, before.view);
        }
        c.recovered(b.now, b.last_seq, clean);
        let first = b.messages.first_key_value().map_or(b.last_seq + 1, |(&s, _)| s);
        c.purged_below(first);
        let mut kept = Vec::new();
        c.kept(&mut kept);
        for seq in kept {
            if !b.messages.contains_key(&seq) {
                c.removed(b.now, seq);
            }
        }
        c.interest(b.now, true);
        b.consumer = c;
        let position = b.consumer.progress().position;
        let pending = b.messages.range(position..).filter(|(_, m)| b.matches(&m.subject)).count();
        b.groups.set(b.handle, position, pending as u64, b.last_seq);
        b.groups.watch(b.handle, b.consumer.watched());
        self.account.acked = self.account.answered.clone();
        self.observe();
        self.b.flush();
    }

    /// Looks at everything that was sent.
    fn observe(&mut self) {
        for output in self.b.sink.take() {
            let Output::Message { seq, consumer_seq, reply, .. } = output else { continue };
            let (_, _, numbers) = AckSubject::parse(&reply).expect("an ack subject");
            assert_eq!((numbers.seq, numbers.consumer_seq), (seq, consumer_seq));
            let old = self.account.seen.insert(consumer_seq, seq);
            assert_eq!(old, None, "seed {}: {consumer_seq} was given twice", self.seed);
            if self.b.consumer.settings().ack_policy == AckPolicy::Explicit {
                let answered = self.account.answered.contains(&seq);
                assert!(!answered, "seed {}: {seq} was acknowledged", self.seed);
            }
            self.account.delivered.insert(seq);
        }
    }

    fn check(&mut self) {
        let numbers = self.b.numbers();
        let position = self.b.consumer.view.resume_seq();
        let scan = self.b.messages.range(position..).filter(|(_, m)| self.b.matches(&m.subject));
        let start = self.b.consumer.view.start.members();
        let start = start.inspect(|seq| assert!(self.b.messages.contains_key(seq)));
        let want = (scan.count() + start.count()) as u64;
        assert_eq!(numbers[7], want, "seed {}: pending", self.seed);
        let ledger = &self.b.consumer.view;
        for slot in ledger.unacked.iter() {
            assert!(slot.seq > ledger.floor_seq, "seed {}: the floor passed a message", self.seed);
            assert!(
                self.b.messages.contains_key(&slot.seq),
                "seed {}: {} is gone",
                self.seed,
                slot.seq
            );
        }
        assert!(ledger.floor_cseq < ledger.next_cseq);
    }

    /// In the end every message that is still there was delivered to somebody.
    fn finish(&mut self) {
        for _ in 0..200 {
            self.flush();
            if self.b.consumer.settings().pull().is_some() {
                self.b.pull("50");
            }
            let to = self.b.now.0 + 60 * MS;
            self.tick(to);
            self.observe();
            let owed: Vec<_> = self.b.consumer.view.unacked.iter().map(|s| s.seq).collect();
            for seq in owed {
                let cseq = self.b.consumer.view.next_cseq - 1;
                self.b.ack(seq, cseq, "");
            }
            self.observe();
        }
        for (seq, m) in &self.b.messages {
            let before = self.seed.is_multiple_of(7) && *seq <= 40;
            let done =
                before || self.account.delivered.contains(seq) || !self.b.matches(&m.subject);
            assert!(done, "seed {}: {seq} was never delivered", self.seed);
        }
        assert_eq!(self.b.numbers()[7], 0);
        assert_eq!(self.b.numbers()[4], 0);
    }
}

#[test]
fn random_runs() {
    for seed in 0..1_000 {
        let mut run = Run::new(seed);
        for _ in 0..400 {
            run.step();
        }
        run.finish();
    }
}
