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

/// Deliveries that may wait for their acknowledgement, by default.
pub const MAX_OPEN: u64 = 1_000;

/// An ephemeral consumer that goes away sooner than this does so within a seed.
pub const SHORT: i64 = 5_000_000_000;

/// What an update may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The subject it is for; empty for all.
    pub filter: String,
    /// Deliveries of one message at most; 0 for no limit.
    pub max_deliver: u64,
    /// Messages that may wait for their acknowledgement.
    pub max_open: u64,
}

impl Tuning {
    /// Whether it is for messages of a subject.
    pub fn wants(&self, subject: &str) -> bool {
        self.filter.is_empty() || self.filter == subject
    }
}

/// One consumer.
#[derive(Clone, Debug)]
pub struct Consumer {
    pub stream: usize,
    pub incarnation: u32,
    pub name: String,
    pub exists: Exists,
    pub ack: AckPolicy,
    pub tuning: Tuning,
    /// What an update that is not answered wants.
    pub changing: Option<Tuning>,
    /// What it was since everything was last at rest, and what it was ever.
    pub recent: Vec<Tuning>,
    pub past: Vec<Tuning>,
    /// Where it began.
    pub policy: DeliverPolicy,
    /// The deliver subject of a push consumer.
    pub deliver: String,
    /// Who listens there as a group.
    pub members: Vec<usize>,
    /// Nanoseconds until what is not acknowledged comes again.
    pub wait: u64,
    /// Nanoseconds between two heartbeats.
    pub beat: Option<u64>,
    /// It is ephemeral: it goes away after so many nanoseconds without anybody who uses it.
    pub inactive: Option<i64>,
    /// It was used then.
    pub used: i64,
    /// A request waits for it: on this connection, since then, and until then at most.
    pub waited_for: Option<(ConnId, i64, i64)>,
    /// The client and connection for which it delivers everything once and in order.
    pub ordered: Option<(usize, ConnId)>,
    /// The consumer and the stream sequence of the last that came there.
    pub row: (u64, u64),
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
    /// Another consumer had its name: what that one sent may come late.
    pub named_again: bool,
    /// Deliveries: what none of them shares with another.
    pub deliveries: Deliveries,
}

/// The deliveries of one consumer.
#[derive(Clone, Debug, Default)]
pub struct Deliveries {
    /// Consumer sequences ever used.
    cseqs: BTreeSet<u64>,
    /// Sequences and delivery counts since the start of the server.
    counts: BTreeSet<(u64, u64)>,
    /// Sequences of first deliveries since then, by consumer sequence.
    firsts: BTreeMap<u64, u64>,
}

impl Deliveries {
    /// The server starts anew. Deliveries run ahead of what it recorded.
    pub fn restart(&mut self) {
        self.counts.clear();
        self.firsts.clear();
    }

    /// A delivery came.
    pub fn add(&mut self, t: &Token<'_>) -> Result<(), &'static str> {
        if !self.cseqs.insert(t.cseq) {
            return Err("its consumer sequence was used before");
        }
        if !self.counts.insert((t.seq, t.count)) {
            return Err("its delivery count was used before");
        }
        if t.count == 1 {
            let before = self.firsts.range(..t.cseq).next_back();
            let after = self.firsts.range(t.cseq..).next();
            if before.is_some_and(|(_, &s)| s >= t.seq) || after.is_some_and(|(_, &s)| s <= t.seq) {
                return Err("first deliveries are out of order");
            }
            self.firsts.insert(t.cseq, t.seq);
        }
        Ok(())
    }
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
    /// One of a stream that nothing is known of.
    pub fn new(stream: usize, incarnation: u32, name: String, ack: AckPolicy) -> Consumer {
        let tuning = Tuning { filter: String::new(), max_deliver: 0, max_open: MAX_OPEN };
        Consumer {
            stream,
            incarnation,
            name,
            exists: Exists::Maybe,
            ack,
            tuning,
            changing: None,
            recent: Vec::new(),
            past: Vec::new(),
            policy: DeliverPolicy::All,
            deliver: String::new(),
            members: Vec::new(),
            wait: 0,
            beat: None,
            inactive: None,
            used: 0,
            waited_for: None,
            ordered: None,
            row: (0, 0),
            settled: Default::default(),
            settled_below: Default::default(),
            open: Default::default(),
            seen: Default::default(),
            touched: Default::default(),
            last_cseq: 0,
            acked_cseq: 0,
            named_again: false,
            deliveries: Default::default(),
        }
    }

    /// Whether nobody may have used it for so long that it is gone.
    pub fn may_be_gone(&self, now: i64) -> bool {
        // Somebody listens to a push consumer, unless the one client that it is for is gone.
        let listened = !self.deliver.is_empty() && self.ordered.is_none();
        self.inactive.is_some_and(|ns| !listened && now - self.used >= ns)
    }

    /// It may go away while a seed runs, without any request.
    pub fn is_short_lived(&self) -> bool {
        self.inactive.is_some_and(|ns| ns <= SHORT)
    }

    /// There was ever a last delivery.
    pub fn was_limited(&self) -> bool {
        self.past.iter().chain(self.lately()).any(|t| t.max_deliver > 0)
    }

    /// What it is or may have been lately.
    fn lately(&self) -> impl Iterator<Item = &Tuning> {
        self.recent.iter().chain(&self.changing).chain([&self.tuning])
    }

    /// Whether it may deliver a message of a subject, for the first time or once more.
    pub fn may_want(&self, subject: &str, again: bool) -> bool {
        self.lately().any(|t| t.wants(subject))
            || again && self.past.iter().any(|t| t.wants(subject))
    }

    /// How often it may deliver one message; `None` for any number.
    pub fn deliveries_max(&self) -> Option<u64> {
        let most = self.lately().map(|t| t.max_deliver);
        most.map(|n| if n == 0 { u64::MAX } else { n }).max().filter(|&n| n < u64::MAX)
    }

    /// How many messages may ever have been allowed to wait for their acknowledgement.
    pub fn open_max(&self) -> u64 {
        self.past.iter().chain(self.lately()).map(|t| t.max_open).max().unwrap_or(0)
    }

    /// An update was carried out, or was not.
    pub fn updated(&mut self, done: bool) {
        let Some(new) = self.changing.take() else { return };
        if done {
            let old = std::mem::replace(&mut self.tuning, new);
            self.recent.push(old.clone());
            self.past.push(old);
        }
    }

    /// Whether all that it was for was a message of this subject for.
    pub fn always_wants(&self, subject: &str) -> bool {
        self.past.iter().chain([&self.tuning]).all(|t| t.wants(subject))
    }

    /// Its filter changed once.
    pub fn was_filtered_anew(&self) -> bool {
        self.past.iter().any(|t| t.filter != self.tuning.filter)
    }

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
