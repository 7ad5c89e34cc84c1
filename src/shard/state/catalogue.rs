//! What a shard holds of the catalogue: shard 0 all of it, with the questions that it asks; each
//! what was decided about its own streams and is not begun.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::api::types::StreamInfo;
use crate::meta::{Catalogue, MetaLimits, Record, StreamEntry};
use crate::shard::mailbox::{Requester, Usage};
use crate::shard::request::Request;
use crate::types::{ShardId, StreamId};

/// The one account there is so far.
pub const ACCOUNT: &str = "$G";

/// What shard 0 has beside its streams.
pub struct Meta {
    /// The catalogue.
    pub catalogue: Catalogue,
    pub limits: MetaLimits,
    pub shards: u16,
    pub questions: BTreeMap<u64, Question>,
    /// Updates that wait for what consumers say to them.
    pub checks: BTreeMap<u64, Request>,
    pub next_question: u64,
}

/// A request whose answer needs every shard.
pub struct Question {
    pub requester: Requester,
    pub what: Asked,
    pub left: usize,
    pub streams: Vec<StreamInfo>,
    pub usage: Usage,
}

pub enum Asked {
    List { total: u64, offset: u64, limit: u64 },
    Info,
}

impl Meta {
    /// A catalogue with the limits of the server.
    pub fn new(catalogue: Catalogue, limits: MetaLimits, shards: u16) -> Self {
        let (questions, checks) = (BTreeMap::new(), BTreeMap::new());
        Meta { catalogue, limits, shards, questions, checks, next_question: 1 }
    }

    /// Questions that are to list streams, and others.
    pub fn questions(&self) -> [usize; 2] {
        let lists = |q: &&Question| matches!(q.what, Asked::List { .. });
        let listings = self.questions.values().filter(lists).count();
        [listings, self.questions.len() - listings]
    }

    /// The streams of a shard.
    pub fn entries_of(&self, shard: ShardId) -> Vec<StreamEntry> {
        let all = self.catalogue.streams(ACCOUNT);
        all.filter(|e| e.shard == shard).cloned().collect()
    }
}

/// What the catalogue says about a stream of this shard.
pub enum Decided {
    /// It has changed by this record.
    Change { record: Box<Record>, requester: Option<Requester> },
    /// A stream was asked for again.
    Existing { id: StreamId, requester: Requester },
}

impl Decided {
    pub fn stream(&self) -> StreamId {
        match self {
            Decided::Existing { id, .. } => *id,
            Decided::Change { record, .. } => match &**record {
                Record::Create { entry, .. } => entry.id,
                Record::Update { id, .. }
                | Record::Delete { id, .. }
                | Record::Forget { id }
                | Record::NextId(id) => *id,
            },
        }
    }
}

/// Decisions that were not begun yet.
#[derive(Default)]
pub struct Decisions {
    pub waiting: VecDeque<Decided>,
    /// Streams whose creation was begun and has not taken effect: what follows about them waits.
    pub creating: BTreeSet<StreamId>,
}
