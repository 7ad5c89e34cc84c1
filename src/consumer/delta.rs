//! Deltas: a consumer's changes as they stand in the log.
//!
//! A delta is a list of [`Op`]s. The consumer that delivers gathers them; [`Ledger::apply`] carries
//! them out, on the node that gathered them, in recovery and on every replica alike.
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
use super::ledger::{Ledger, Op};
use super::settings::StartPosition;
use super::start_set;

/// The version of deltas.
pub const DELTA_VERSION: u8 = 1;

/// Consecutive sequences in one op at most.
const RUN_MAX: u64 = 1 << 24;

impl Ledger {
    /// Applies a delta of the log.
    pub fn apply(&mut self, body: &[u8]) -> Result<(), Corrupt> {
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

impl StartPosition {
    /// A consumer's first delta, which says where it starts.
    pub fn to_delta(&self) -> Vec<u8> {
        let mut body = vec![DELTA_VERSION, 12];
        put(&mut body, self.next_seq);
        put(&mut body, self.last_seq);
        start_set::encode(&self.start_set, &mut body);
        body
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

/// What was gathered since the last delta, already encoded; a run of consecutive deliveries or
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
    /// An empty one; one that is `off` notes nothing.
    pub(super) fn new(off: bool) -> Self {
        Delta { off, ..Delta::default() }
    }

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

    /// Notes an op; `at` is the position before it.
    pub(super) fn note(&mut self, op: Op, at: (u64, u64, u64)) {
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

    /// Its bytes so far.
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    /// Its body; `at` is the position now. Unless it is [`Delta::clear`]ed, what follows is
    /// appended to it.
    pub(super) fn body(&mut self, at: (u64, u64, u64)) -> &[u8] {
        if self.moved {
            self.position(at);
        }
        self.close_run();
        &self.body
    }

    /// It is in the log: the next one begins.
    pub(super) fn clear(&mut self) {
        self.body.clear();
    }
}
