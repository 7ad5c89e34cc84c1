//! The durable state of a consumer: what was delivered, what was acknowledged, what is owed.
//!
//! Every change is an [`Op`]. `Ledger::change` carries it out and notes it for the next delta;
//! replay carries out the same ops in the same order, so a replayed ledger is equal by
//! construction.
//!
//! # Delta (version 1)
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | version: 1 |
//! | ops | until the end of the body |
//!
//! An op is a tag byte and LEB128 numbers; `step` is the signed difference (zigzag) to the last
//! stream sequence (or due time) in this delta, 0 at first.
//!
//! | tag | op | numbers |
//! |---|---|---|
//! | 1 | delivered | step to the first sequence, count of consecutive ones, step of due |
//! | 2 | acknowledged | step to the first sequence, count of consecutive sequences |
//! | 3 | acknowledged all up to | step, consumer sequence |
//! | 4 | delivered again | step, step to the due time |
//! | 5 | due time changed | step, step to the due time |
//! | 6 | dropped, delivered too often | step |
//! | 7 | message is gone from the stream | step |
//! | 8 | everything below is gone | step |
//! | 9 | position | next stream sequence, next consumer sequence, last stream sequence delivered |
//! | 10 | acknowledged ahead of the position | step |
//! | 11 | all acknowledged ahead of the position up to | step |
//! | 13 | after a purge: what was looked at is delivered, and done if nothing is owed | step |
//! | 14 | consumer sequences that nothing recorded uses | the next consumer sequence |
//! | 12 | start | next sequence, stream's last, bytes of the start set, a 64-bit Roaring bitmap |

use super::codec::{Corrupt, Reader, put, put_step};
use super::settings::{AckPolicy, SEQ_AHEAD_MAX, StartPosition};
use super::start_set::{self, StartSet};
use super::unacked::Unacked;
use std::collections::{BTreeMap, BTreeSet};

/// The version of deltas.
pub const DELTA_VERSION: u8 = 1;

/// Consecutive sequences in one op at most.
const RUN_MAX: u64 = 1 << 24;

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
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The first stream sequence that was not looked at yet.
    pub next_seq: u64,
    /// The consumer sequence of the next delivery.
    pub next_cseq: u64,
    /// The stream sequence that was delivered last for the first time (or the end of what was
    /// purged).
    pub delivered_seq: u64,
    /// All up to here is done, in stream sequences.
    pub floor_seq: u64,
    /// All up to here is done, in consumer sequences.
    pub floor_cseq: u64,
    /// The stream's last sequence when the consumer was made.
    pub created_last_seq: u64,
    /// The last jump over consumer sequences: what was recorded as delivered before it, and the
    /// last sequence that it passed.
    pub(super) jump: (u64, u64),
    /// What is delivered and not done.
    pub unacked: Unacked,
    policy: AckPolicy,
    /// Dropped after too many deliveries, with their number.
    pub(super) dropped: BTreeMap<u64, u32>,
    pub(super) start: StartSet,
    pub(super) ahead: BTreeSet<u64>,
    pub(super) ahead_all: u64,
    pub(super) delta: Delta,
}

impl PartialEq for Ledger {
    fn eq(&self, other: &Self) -> bool {
        let key = |l: &Ledger| {
            let positions = (l.next_seq, l.next_cseq, l.delivered_seq);
            (positions, l.floor_seq, l.floor_cseq, l.created_last_seq, l.ahead_all, l.jump)
        };
        let slots = |l: &Ledger| -> Vec<_> {
            l.unacked.iter().map(|s| (s.seq, s.consumer_seq, s.due, s.deliveries)).collect()
        };
        key(self) == key(other)
            && self.dropped == other.dropped
            && self.ahead == other.ahead
            && self.start == other.start
            && self.resume_seq() == other.resume_seq()
            && slots(self) == slots(other)
    }
}

impl Ledger {
    /// A ledger of a new consumer; the first delta tells its start.
    pub fn new(policy: AckPolicy, start: StartPosition) -> Self {
        let mut ledger = Ledger::blank(policy);
        ledger.delta.start(&start);
        ledger.begin(start);
        ledger
    }

    /// A ledger to replay into.
    pub fn blank(policy: AckPolicy) -> Self {
        Ledger { next_seq: 1, next_cseq: 1, policy, ..Default::default() }
    }

    fn begin(&mut self, start: StartPosition) {
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

    /// Carries out a change and notes it for the next delta.
    pub fn change(&mut self, op: Op) {
        match op {
            // Without acknowledgements a delivery is a position; only the last one counts.
            Op::Delivered { .. } if self.policy == AckPolicy::None => self.delta.moved = true,
            Op::Position { .. } => self.delta.moved = true,
            _ if self.delta.off => {}
            _ => self.delta.note(op, self.position()),
        }
        self.perform(op);
    }

    /// Next stream sequence, next consumer sequence and last delivered stream sequence.
    pub(super) fn position(&self) -> (u64, u64, u64) {
        (self.next_seq, self.next_cseq, self.delivered_seq)
    }

    fn perform(&mut self, op: Op) {
        self.carry_out(op);
        if self.policy == AckPolicy::None {
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
        if self.policy != AckPolicy::None {
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

    /// Carries out the ops of a delta.
    pub fn replay(&mut self, body: &[u8]) -> Result<(), Corrupt> {
        let mut r = Reader(body);
        if r.byte()? != DELTA_VERSION {
            return Err(Corrupt("unknown version of a delta"));
        }
        let (mut seq, mut due) = (0u64, 0u64);
        while !r.is_empty() {
            let tag = r.byte()?;
            if tag == 12 {
                let start = read_start(&mut r)?;
                self.begin(start);
                continue;
            }
            if tag == 9 {
                let (next_seq, next_cseq, delivered_seq) = (r.take()?, r.take()?, r.take()?);
                if next_seq.max(next_cseq).max(delivered_seq) == u64::MAX {
                    return Err(Corrupt("a position is too large"));
                }
                self.delivered_seq = self.delivered_seq.max(delivered_seq);
                self.perform(Op::Position { next_seq, next_cseq });
                continue;
            }
            if tag == 14 {
                let next_cseq = r.take()?;
                if next_cseq == u64::MAX {
                    return Err(Corrupt("a position is too large"));
                }
                self.perform(Op::Jump { next_cseq });
                continue;
            }
            seq = r.step(seq)?;
            let count = if tag <= 2 { r.take()? } else { 1 };
            if count > RUN_MAX || seq.checked_add(count).is_none_or(|end| end == u64::MAX) {
                return Err(Corrupt("a sequence or a run is too large"));
            }
            let consumer_seq = if tag == 3 { r.take()? } else { 0 };
            if matches!(tag, 1 | 4 | 5) {
                due = r.step(due)?;
            }
            let first = seq;
            for seq in first..first + count {
                self.perform(op_of(tag, seq, due as i64, consumer_seq)?);
            }
            seq = first + count.saturating_sub(1);
        }
        Ok(())
    }
}

fn op_of(tag: u8, seq: u64, due: i64, consumer_seq: u64) -> Result<Op, Corrupt> {
    Ok(match tag {
        1 => Op::Delivered { seq, due },
        2 => Op::Acked { seq },
        3 => Op::AckedAll { seq, consumer_seq },
        4 => Op::Redelivered { seq, due },
        5 => Op::Due { seq, due },
        6 => Op::Dropped { seq },
        7 => Op::Removed { seq },
        8 => Op::Purged { below: seq },
        10 => Op::Ahead { seq },
        11 => Op::AheadAll { seq },
        13 => Op::Settled { seq },
        _ => return Err(Corrupt("unknown op in a delta")),
    })
}

fn read_start(r: &mut Reader<'_>) -> Result<StartPosition, Corrupt> {
    let (next_seq, last_seq) = (r.take()?, r.take()?);
    let start_set = start_set::decode(r, next_seq)?;
    Ok(StartPosition { next_seq, last_seq, start_set })
}

/// What changed since the last delta, already encoded; a run of consecutive deliveries or
/// acknowledgements stays open.
#[derive(Clone, Debug, Default)]
pub(super) struct Delta {
    body: Vec<u8>,
    run: Option<Run>,
    seq: u64,
    due: u64,
    /// The position moved since it was last noted.
    pub(super) moved: bool,
    /// Nothing is noted: the consumer dies with the process.
    pub(super) off: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    tag: u8,
    first: u64,
    count: u64,
    due: u64,
}

impl Delta {
    fn begin(&mut self, tag: u8, seq: u64) {
        if self.body.is_empty() {
            self.body.push(DELTA_VERSION);
            (self.seq, self.due) = (0, 0);
        }
        self.body.push(tag);
        put_step(&mut self.body, self.seq, seq);
        self.seq = seq;
    }

    fn due(&mut self, due: u64) {
        put_step(&mut self.body, self.due, due);
        self.due = due;
    }

    fn close_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        self.begin(run.tag, run.first);
        put(&mut self.body, run.count);
        if run.tag == 1 {
            self.due(run.due);
        }
        self.seq = run.first + run.count - 1;
    }

    fn extend_run(&mut self, tag: u8, seq: u64, due: u64) {
        if let Some(run) = &mut self.run
            && (run.tag, run.first + run.count, run.due) == (tag, seq, due)
            && run.count < RUN_MAX
        {
            run.count += 1;
            return;
        }
        self.close_run();
        self.run = Some(Run { tag, first: seq, count: 1, due });
    }

    fn tag(&mut self, tag: u8) {
        self.close_run();
        if self.body.is_empty() {
            self.body.push(DELTA_VERSION);
            (self.seq, self.due) = (0, 0);
        }
        self.body.push(tag);
    }

    fn jump(&mut self, next_cseq: u64) {
        self.tag(14);
        put(&mut self.body, next_cseq);
    }

    fn position(&mut self, at: (u64, u64, u64)) {
        self.tag(9);
        put(&mut self.body, at.0);
        put(&mut self.body, at.1);
        put(&mut self.body, at.2);
        self.moved = false;
    }

    fn start(&mut self, start: &StartPosition) {
        self.body.extend_from_slice(&[DELTA_VERSION, 12]);
        put(&mut self.body, start.next_seq);
        put(&mut self.body, start.last_seq);
        start_set::encode(&start.start_set, &mut self.body);
    }

    /// Notes an op; `at` is the position before it.
    fn note(&mut self, op: Op, at: (u64, u64, u64)) {
        if self.moved {
            self.position(at);
        }
        let (tag, seq) = match op {
            Op::Delivered { seq, due } => return self.extend_run(1, seq, due as u64),
            Op::Acked { seq } => return self.extend_run(2, seq, 0),
            // Noted as a move; the numbers follow when it matters.
            Op::Position { .. } => return,
            Op::Jump { next_cseq } => return self.jump(next_cseq),
            Op::AckedAll { seq, .. } => (3, seq),
            Op::Redelivered { seq, .. } => (4, seq),
            Op::Due { seq, .. } => (5, seq),
            Op::Dropped { seq } => (6, seq),
            Op::Removed { seq } => (7, seq),
            Op::Purged { below } => (8, below),
            Op::Ahead { seq } => (10, seq),
            Op::AheadAll { seq } => (11, seq),
            Op::Settled { seq } => (13, seq),
        };
        self.close_run();
        self.begin(tag, seq);
        match op {
            Op::AckedAll { consumer_seq, .. } => put(&mut self.body, consumer_seq),
            Op::Redelivered { due, .. } | Op::Due { due, .. } => self.due(due as u64),
            _ => {}
        }
    }

    /// True if there is something to take.
    pub(super) fn is_dirty(&self) -> bool {
        !self.off && (self.moved || self.run.is_some() || !self.body.is_empty())
    }

    /// Appends the delta's body; `at` is the position now.
    pub(super) fn take(&mut self, at: (u64, u64, u64), out: &mut Vec<u8>) -> bool {
        if !self.is_dirty() {
            return false;
        }
        if self.moved {
            self.position(at);
        }
        self.close_run();
        out.extend_from_slice(&self.body);
        self.body.clear();
        true
    }
}
