//! What monitoring asks of a reactor, page by page, and what it answers: plain data that the
//! control thread and the reactors share, since neither knows the other.
//!
//! A page costs a reactor a bounded part of one turn: it looks at no more than [`PAGE_VISITS`]
//! places and collects no more than [`PAGE_ITEMS`] items. Nothing is held between two pages: each
//! says where the next one begins. What changes meanwhile may be missed or seen twice, as with any
//! listing of what is alive.

use crate::api::types::{ConsumerInfo, StreamInfo};
use crate::types::WallTime;

/// Items of a page at most.
pub const PAGE_ITEMS: usize = 128;
/// Places that are looked at for a page at most.
pub const PAGE_VISITS: usize = 4096;

/// One connection, open or closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Its id, as INFO shows it.
    pub cid: u64,
    /// The peer's address, without brackets.
    pub ip: String,
    /// The peer's port.
    pub port: u16,
    /// Its name, the language of its library and that library's version, as CONNECT said.
    pub name: String,
    /// See above.
    pub lang: String,
    /// See above.
    pub version: String,
    /// Whom it says it is: user, nkey, or a stand-in for a token.
    pub user: String,
    /// When it was accepted.
    pub start: WallTime,
    /// When bytes went either way last.
    pub last_activity: WallTime,
    /// When and why it was closed.
    pub stop: Option<(WallTime, &'static str)>,
    /// How long it has been open, or was, in nanoseconds.
    pub uptime: i64,
    /// For how long nothing has gone either way, or had when it was closed, in nanoseconds.
    pub idle: i64,
    /// Round trip of the last PING in nanoseconds; 0 before the first answer.
    pub rtt: i64,
    /// Bytes that wait for it.
    pub pending_bytes: u64,
    /// Its subscriptions.
    pub subscriptions: u32,
    /// What it published.
    pub in_msgs: u64,
    /// See above.
    pub in_bytes: u64,
    /// What was delivered to it.
    pub out_msgs: u64,
    /// See above.
    pub out_bytes: u64,
    /// How often it was stalled as a publisher.
    pub stalls: u64,
}

/// One subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The connection's id.
    pub cid: u64,
    /// What it subscribes to.
    pub subject: String,
    /// Its queue group, or empty.
    pub queue: String,
    /// The connection's name for it.
    pub sid: String,
    /// Messages delivered.
    pub msgs: u64,
    /// Messages after which it ends, or 0.
    pub max: u64,
}

/// What is known of matching subjects with subscriptions, since the start where it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// Subscriptions now.
    pub subscriptions: u64,
    /// Subscriptions that were added.
    pub inserts: u64,
    /// Subscriptions that were removed.
    pub removes: u64,
    /// Messages that were matched.
    pub matches: u64,
    /// Of them, those that no remembered plan was found for.
    pub searches: u64,
    /// Plans that are remembered now.
    pub plans: u64,
    /// Subscriptions in them.
    pub fanout: u64,
    /// In the one with the most.
    pub fanout_max: u64,
}

/// A question for one reactor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Its open connections from this place on.
    Connections {
        /// Where to begin: 0, or what the page before said.
        from: usize,
    },
    /// Connections that were closed, the oldest first.
    Closed {
        /// Where to begin: 0, or what the page before said.
        from: usize,
    },
    /// Subscriptions of its connections.
    Subscriptions {
        /// Where to begin: 0, or what the page before said.
        from: usize,
        /// Only those of these connections, in order; none stands for all.
        of: Vec<u64>,
        /// Only those that match this subject; empty stands for all.
        subject: Vec<u8>,
    },
    /// What is known of matching.
    Matching,
    /// Streams of its shards.
    Streams {
        /// The shard's place among those of the reactor, and the stream's place in the shard.
        from: (usize, usize),
    },
    /// Consumers of a stream, by name.
    Consumers {
        /// The stream.
        stream: String,
        /// The name that comes before the first one wanted, or empty.
        after: String,
    },
    /// Whether a stream and its consumer are there.
    Find {
        /// The stream.
        stream: String,
        /// The consumer, or empty.
        consumer: String,
    },
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// Connections, and where the next page begins, if there is one.
    Connections(Vec<Connection>, Option<usize>),
    /// Subscriptions, and where the next page begins.
    Subscriptions(Vec<Subscription>, Option<usize>),
    /// What is known of matching.
    Matching(Matching),
    /// Streams, and where the next page begins.
    Streams(Vec<StreamInfo>, Option<(usize, usize)>),
    /// Consumers, and whether more follow.
    Consumers(Vec<ConsumerInfo>, bool),
    /// Whether the stream is there, and whether the consumer is.
    Found(bool, bool),
}
