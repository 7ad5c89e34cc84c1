//! The replicated state of a consumer: its settings, what was delivered, what was acknowledged,
//! what is owed.
//!
//! A consumer's own ledger changes by [`Ledger::apply`] (a delta of the log, see
//! [`delta`](super::delta)) and [`Ledger::configure`] (a configuration of the log) and by nothing
//! else: after the same records it is the same on every replica and after every restart. It looks
//! at no clock, and what it says of when a message is delivered again is what the log says.
//!
//! [`Delivery`](super::Delivery) works on a copy that is ahead by what it has gathered for the log.

use super::settings::{AckPolicy, ConsumerSettings, SEQ_AHEAD_MAX, StartPosition};
use super::start_set::StartSet;
use super::unacked::Unacked;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use xxhash_rust::xxh3::Xxh3;

/// One durable change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A message was delivered for the first time.
    Delivered {
        /// Stream sequence.
        seq: u64,
        /// When it is delivered again.
        due: i64,
    },
    /// An unacknowledged message was delivered again.
    Redelivered {
        /// Stream sequence.
        seq: u64,
        /// When it is delivered again.
        due: i64,
    },
    /// One message is done.
    Acked {
        /// Stream sequence.
        seq: u64,
    },
    /// All messages up to this one are done.
    AckedAll {
        /// Stream sequence.
        seq: u64,
        /// Consumer sequence in the acknowledgement.
        consumer_seq: u64,
    },
    /// A message's next delivery was moved.
    Due {
        /// Stream sequence.
        seq: u64,
        /// When it is delivered again.
        due: i64,
    },
    /// A message was delivered as often as allowed.
    Dropped {
        /// Stream sequence.
        seq: u64,
    },
    /// A message left the stream.
    Removed {
        /// Stream sequence.
        seq: u64,
    },
    /// All messages below left the stream.
    Purged {
        /// The first stream sequence that may be there.
        below: u64,
    },
    /// A purge is over: all up to here counts as delivered, and as done if nothing is owed.
    Settled {
        /// Stream sequence.
        seq: u64,
    },
    /// The position moved without a delivery.
    Position {
        /// Next stream sequence.
        next_seq: u64,
        /// Next consumer sequence.
        next_cseq: u64,
    },
    /// After a crash: an earlier life may have used the consumer sequences up to here.
    Jump {
        /// Next consumer sequence.
        next_cseq: u64,
    },
    /// A message is done whose delivery was not recorded.
    Ahead {
        /// Stream sequence.
        seq: u64,
    },
    /// So are all messages up to this one.
    AheadAll {
        /// Stream sequence.
        seq: u64,
    },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(super) settings: ConsumerSettings,
    /// The first stream sequence that was not looked at yet.
    pub(super) next_seq: u64,
    /// The consumer sequence of the next delivery.
    pub(super) next_cseq: u64,
    /// The stream sequence that was delivered last for the first time (or the end of what was
    /// purged).
    pub(super) delivered_seq: u64,
    /// All up to here is done, in stream sequences.
    pub(super) floor_seq: u64,
    /// All up to here is done, in consumer sequences.
    pub(super) floor_cseq: u64,
    /// The stream's last sequence when the consumer was made.
    pub(super) created_last_seq: u64,
    /// The last jump over consumer sequences: what was recorded as delivered before it, and the
    /// last sequence that it passed.
    pub(super) jump: (u64, u64),
    /// What is delivered and not done.
    pub(super) unacked: Unacked,
    /// Dropped after too many deliveries, with their number.
    pub(super) dropped: BTreeMap<u64, u32>,
    pub(super) start: StartSet,
    pub(super) ahead: BTreeSet<u64>,
    pub(super) ahead_all: u64,
}

/// What counts is what the log says: the redelivery queue of a delivering copy is no part of it.
impl PartialEq for Ledger {
    fn eq(&self, other: &Self) -> bool {
        let key = |l: &Ledger| {
            let positions = (l.next_seq, l.next_cseq, l.delivered_seq);
            (positions, l.floor_seq, l.floor_cseq, l.created_last_seq, l.ahead_all, l.jump)
        };
        let slots = |l: &Ledger| -> Vec<_> {
            l.unacked.iter().map(|s| (s.seq, s.consumer_seq, s.due, s.deliveries)).collect()
        };
        self.settings == other.settings
            && key(self) == key(other)
            && self.dropped == other.dropped
            && self.ahead == other.ahead
            && self.start == other.start
            && self.resume_seq() == other.resume_seq()
            && slots(self) == slots(other)
    }
}

impl Ledger {
    /// A ledger that nothing was applied to. The first delta of a consumer says where it starts:
    /// see [`StartPosition::to_delta`].
    pub fn new(settings: ConsumerSettings) -> Self {
        Ledger {
            settings,
            next_seq: 1,
            next_cseq: 1,
            delivered_seq: 0,
            floor_seq: 0,
            floor_cseq: 0,
            created_last_seq: 0,
            jump: (0, 0),
            unacked: Unacked::default(),
            dropped: BTreeMap::new(),
            start: StartSet::default(),
            ahead: BTreeSet::new(),
            ahead_all: 0,
        }
    }

    /// The settings it follows.
    pub fn settings(&self) -> &ConsumerSettings {
        &self.settings
    }

    /// Applies a new configuration (what may not change was refused before).
    pub fn configure(&mut self, settings: ConsumerSettings) {
        self.settings = settings;
    }

    /// A checksum of all of it: equal ledgers have equal ones. Visits everything that is owed.
    pub fn digest(&self) -> u64 {
        let mut sum = Xxh3::new();
        self.settings.hash(&mut sum);
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        sum.write(&bytes);
        sum.digest()
    }

    /// Up to `max` members of its start set from `from` on: what left the stream while nobody
    /// delivered is looked up.
    pub fn start_members(&self, from: u64, max: usize) -> impl Iterator<Item = u64> + '_ {
        self.start.members_from(from, max)
    }

    pub(super) fn begin(&mut self, start: StartPosition) {
        let resume = start.next_seq.max(1);
        self.created_last_seq = start.last_seq;
        self.next_seq = start.start_set.min().unwrap_or(resume);
        self.start = StartSet::new(start.start_set, resume);
        self.floor_seq = self.next_seq - 1;
        self.delivered_seq = self.next_seq - 1;
    }

    /// The next member of the start set, if the consumer is still in it.
    pub fn start_next(&self) -> Option<u64> {
        self.start.next()
    }

    /// Members of the start set that are still to be delivered.
    pub fn start_left(&self) -> u64 {
        self.start.left()
    }

    /// Where counting by filter begins: the position, or what comes after the start set.
    pub fn resume_seq(&self) -> u64 {
        if self.start.next().is_some() { self.start.resume() } else { self.next_seq }
    }

    /// The consumer sequence of the last delivery that is known: of a sequence that a jump passed
    /// nobody knows whether it was used, and clients compare this one with what they got.
    pub fn last_cseq(&self) -> u64 {
        self.delivered_cseq(self.next_cseq - 1)
    }

    /// The last known delivery at or below a consumer sequence.
    pub fn delivered_cseq(&self, cseq: u64) -> u64 {
        let (from, to) = self.jump;
        if (from..=to).contains(&cseq) { from } else { cseq }
    }

    /// Messages delivered more than once, also those that were dropped.
    pub fn redelivered(&self) -> usize {
        self.unacked.redelivered() + self.dropped.len()
    }

    /// True if the message was acknowledged in an earlier life, although its delivery was not
    /// recorded.
    pub fn is_ahead(&self, seq: u64) -> bool {
        seq <= self.ahead_all || self.ahead.contains(&seq)
    }

    /// True if one more message may be noted as acknowledged ahead.
    pub fn may_ahead(&self) -> bool {
        (self.ahead.len() as u64) < SEQ_AHEAD_MAX
    }

    /// The stream sequences whose removal concerns this consumer: from the first to the last, if
    /// any.
    pub fn watched(&self) -> Option<(u64, u64)> {
        let unacked = self.unacked.first().zip(self.unacked.last()).map(|(a, b)| (a.seq, b.seq));
        let start = self.start.next().zip(self.start.last());
        let dropped = self.dropped.first_key_value().zip(self.dropped.last_key_value());
        let dropped = dropped.map(|(a, b)| (*a.0, *b.0));
        [unacked, start, dropped].into_iter().flatten().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// True if the removal of `seq` changes anything.
    pub fn concerns(&self, seq: u64) -> bool {
        self.unacked.get(seq).is_some()
            || self.dropped.contains_key(&seq)
            || self.start.contains(seq)
    }

    /// Next stream sequence, next consumer sequence and last delivered stream sequence.
    pub(super) fn position(&self) -> (u64, u64, u64) {
        (self.next_seq, self.next_cseq, self.delivered_seq)
    }

    /// Carries out one change.
    pub(super) fn perform(&mut self, op: Op) {
        self.carry_out(op);
        if self.settings.ack_policy == AckPolicy::None {
            (self.floor_seq, self.floor_cseq) = (self.delivered_seq, self.next_cseq - 1);
        }
    }

    fn carry_out(&mut self, op: Op) {
        match op {
            Op::Delivered { seq, due } => self.delivered(seq, due),
            Op::Redelivered { seq, due } => {
                self.next_cseq += 1;
                self.unacked.redeliver(seq, due);
            }
            Op::Acked { seq } => {
                if self.unacked.remove(seq).is_some() {
                    self.raise_floor();
                }
            }
            Op::AckedAll { seq, consumer_seq } => {
                self.unacked.remove_through(seq);
                self.dropped = self.dropped.split_off(&(seq + 1));
                self.floor_seq = self.floor_seq.max(seq);
                self.floor_cseq = self.floor_cseq.max(consumer_seq.min(self.next_cseq - 1));
            }
            Op::Due { seq, due } => self.unacked.set_due(seq, due),
            Op::Dropped { seq } => {
                if let Some(slot) = self.unacked.remove(seq) {
                    self.dropped.insert(seq, slot.deliveries);
                }
            }
            Op::Removed { seq } => {
                self.dropped.remove(&seq);
                if self.start.remove(seq) {
                    self.leave_start_set();
                }
                if self.unacked.remove(seq).is_some() {
                    self.raise_floor();
                }
            }
            Op::Purged { below } => self.purged(below),
            Op::Settled { seq } => {
                self.delivered_seq = self.delivered_seq.max(seq);
                if self.unacked.is_empty() {
                    self.raise_floor();
                }
            }
            Op::Position { next_seq, next_cseq } => {
                self.move_to(next_seq);
                self.next_cseq = self.next_cseq.max(next_cseq);
            }
            Op::Jump { next_cseq } if next_cseq > self.next_cseq => {
                self.jump = (self.last_cseq(), next_cseq - 1);
                self.next_cseq = next_cseq;
            }
            Op::Jump { .. } => {}
            Op::Ahead { seq } => {
                self.ahead.insert(seq);
            }
            Op::AheadAll { seq } => {
                self.unacked.remove_through(seq);
                self.ahead_all = self.ahead_all.max(seq);
                self.raise_floor();
            }
        }
    }

    fn delivered(&mut self, seq: u64, due: i64) {
        let cseq = self.next_cseq;
        self.next_cseq += 1;
        self.move_to(seq + 1);
        self.delivered_seq = self.delivered_seq.max(seq);
        if self.settings.ack_policy != AckPolicy::None {
            self.unacked.insert(seq, cseq, due, 1);
        }
    }

    /// Moves the position up; what the start set holds below is passed.
    fn move_to(&mut self, next_seq: u64) {
        if next_seq <= self.next_seq {
            return;
        }
        self.next_seq = next_seq;
        if self.start.next().is_some() {
            self.start.advance(next_seq);
            self.leave_start_set();
        }
        if !self.ahead.is_empty() {
            self.ahead = self.ahead.split_off(&next_seq);
        }
    }

    fn leave_start_set(&mut self) {
        if self.start.next().is_none() {
            self.next_seq = self.next_seq.max(self.start.resume());
        }
    }

    /// The floor lies below the first message that is owed, or at what was delivered last.
    fn raise_floor(&mut self) {
        let (seq, cseq) = match self.unacked.first() {
            Some(first) => (first.seq - 1, first.consumer_seq - 1),
            None => (self.delivered_seq, self.next_cseq - 1),
        };
        self.floor_seq = self.floor_seq.max(seq);
        self.floor_cseq = self.floor_cseq.max(cseq);
    }

    fn purged(&mut self, below: u64) {
        let Some(last) = below.checked_sub(1) else { return };
        self.dropped = self.dropped.split_off(&below);
        let ahead_of_floor = last > self.floor_seq;
        let highest = self.unacked.remove_through(last);
        if self.next_seq < below {
            self.move_to(below);
        }
        self.delivered_seq = self.delivered_seq.max(last);
        if ahead_of_floor {
            self.floor_seq = last;
            self.floor_cseq = self.floor_cseq.max(highest.unwrap_or(0));
        }
        if self.unacked.is_empty() && ahead_of_floor {
            self.floor_cseq = self.floor_cseq.max(self.next_cseq - 1);
        }
    }
}
