//! What clients know of consumers: what was delivered, and what was settled for good.

use std::collections::{BTreeMap, BTreeSet};

use corelane::types::ConnId;

use crate::model::Exists;

/// How a consumer's messages are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckPolicy {
    None,
    Explicit,
    All,
}

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliverPolicy {
    All,
    New,
    Last,
    LastPerSubject,
    From(u64),
}

/// One consumer.
#[derive(Clone, Debug)]
pub struct Consumer {
    pub stream: usize,
    pub incarnation: u32,
    pub name: String,
    pub exists: Exists,
    pub ack: AckPolicy,
    /// The subject it is for; empty for all.
    pub filter: String,
    /// Where it began.
    pub policy: DeliverPolicy,
    pub max_deliver: u64,
    /// The deliver subject of a push consumer.
    pub deliver: String,
    /// What is settled: an acknowledgement was answered, on this connection, in this generation.
    pub settled: BTreeMap<u64, (ConnId, u32)>,
    /// All up to here is settled so, with the policy `All`.
    pub settled_below: (u64, ConnId, u32),
    /// What was delivered and not acknowledged: the subject to answer to.
    pub open: BTreeMap<u64, String>,
    /// What was ever delivered, and in which generation first.
    pub seen: BTreeMap<u64, u32>,
    /// Sequences for which an acknowledgement was sent, answered or not.
    pub touched: BTreeSet<u64>,
    pub last_cseq: u64,
    /// The highest consumer sequence of an acknowledgement that was sent.
    pub acked_cseq: u64,
}

/// A delivery's reply subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub stream: &'a str,
    pub consumer: &'a str,
    pub count: u64,
    pub seq: u64,
    pub cseq: u64,
    pub pending: u64,
}

impl<'a> Token<'a> {
    /// Reads `$JS.ACK.<stream>.<consumer>.<count>.<seq>.<cseq>.<time>.<pending>`.
    pub fn parse(reply: &'a str) -> Option<Token<'a>> {
        let fields: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let &[stream, consumer, count, seq, cseq, _, pending] = fields.as_slice() else {
            return None;
        };
        Some(Token {
            stream,
            consumer,
            count: count.parse().ok()?,
            seq: seq.parse().ok()?,
            cseq: cseq.parse().ok()?,
            pending: pending.parse().ok()?,
        })
    }
}

impl Consumer {
    /// Whether a sequence is settled so that a delivery on `conn` in `generation` is an error.
    pub fn is_settled_for(&self, seq: u64, conn: ConnId, generation: u32) -> bool {
        let after = |(c, g): (ConnId, u32)| g < generation || c == conn;
        let (below, c, g) = self.settled_below;
        self.settled.get(&seq).is_some_and(|&s| after(s)) || (seq <= below && after((c, g)))
    }

    /// Whether a sequence is settled at all.
    pub fn is_settled(&self, seq: u64) -> bool {
        self.settled.contains_key(&seq) || seq <= self.settled_below.0
    }

    /// An acknowledgement of `seq` was answered.
    pub fn settle(&mut self, seq: u64, conn: ConnId, generation: u32) {
        if self.ack == AckPolicy::All {
            if seq > self.settled_below.0 {
                self.settled_below = (seq, conn, generation);
            }
            self.open.retain(|&s, _| s > seq);
        } else {
            self.settled.entry(seq).or_insert((conn, generation));
        }
        self.open.remove(&seq);
    }
}
