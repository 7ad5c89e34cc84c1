//! Requests as they wait: what a client asked, what it waits for, how far it came.
//!
//! Purpose: what queues of the shard hold of requests and of answers. Knows neither streams nor who
//! handles them.

pub(in crate::shard) mod permits;
pub(in crate::shard) mod search;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use corelane_storage::log::ReadId;

use crate::api::types::StreamInfo;
use crate::interest::{Captured, Target};
use crate::shard::mailbox::Requester;
use crate::stream::headers::header;
use crate::types::{Origin, ShardId, StreamId};
use permits::Permit;
use search::Search;

/// Stands for "any read": used when all of the read memory is waited for.
pub const ANY_READ: ReadId = ReadId(u64::MAX);

/// A request, owned.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it is for.
    pub target: Target,
    /// Who asked.
    pub origin: Origin,
    /// The subject it was sent to.
    pub subject: Rc<[u8]>,
    /// Where the answer goes; may be empty.
    pub reply: Box<[u8]>,
    /// The level of the API that it asks for; the highest there is for nonsense.
    pub required_level: u32,
    /// Its body.
    pub payload: Box<[u8]>,
    /// It stands in the API's count already.
    pub counted: Cell<bool>,
    /// Credit to give back once it is answered. Whoever is to answer it later takes that over.
    pub credit: Cell<u32>,
    /// What it has seen so far.
    pub walk: RefCell<Search>,
    /// It has one of the permits for walks.
    pub has_permit: Cell<bool>,
}

/// Why a request is not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A read has to end first.
    Read(ReadId),
    /// A change of the consumer that it is about has to take effect first. Requests wait for that
    /// in the order in which they came.
    Changed,
    /// As `Changed`, but that waits for what cannot be read: there is no telling when it will be.
    Unreadable,
    /// What the catalogue decided has to take effect first.
    Decided,
    /// It goes on in a later turn.
    Turn,
    /// Too many hold what it would hold: it begins when one of them is answered.
    Permit(Permit),
}

/// Finished, or not yet.
pub type Handled = Result<(), Wait>;

fn required_level(headers: &[u8]) -> u32 {
    let Some(level) = header(headers, b"Nats-Required-Api-Level") else { return 0 };
    let level = std::str::from_utf8(level).ok().and_then(|l| l.parse::<i64>().ok());
    level.map_or(u32::MAX, |level| u32::try_from(level.max(0)).unwrap_or(u32::MAX))
}

impl Request {
    /// Copies a captured message.
    pub fn new(m: &Captured<'_>) -> Self {
        Request {
            target: m.target,
            origin: m.origin,
            subject: m.subject.into(),
            reply: m.reply.into(),
            required_level: required_level(m.headers),
            payload: m.payload.into(),
            counted: Cell::new(false),
            credit: Cell::new(m.credit_bytes),
            walk: RefCell::default(),
            has_permit: Cell::new(false),
        }
    }

    /// Who waits for the answer, to be answered at once.
    pub fn requester(&self) -> Requester {
        let (origin, reply) = (self.origin, self.reply.clone());
        let kind = self.target.credit(&self.subject);
        Requester { origin, reply, credit: 0, kind, shard: self.target.shard() }
    }

    /// Who waits for the answer, to be answered when this request is gone.
    pub fn hand_over(&self) -> Requester {
        Requester { credit: self.credit.take(), ..self.requester() }
    }

    /// The same request, to be handled again when this one is gone.
    pub fn hand_on(&self) -> Request {
        let again = self.clone();
        self.credit.set(0);
        again
    }
}

/// What is to be listed, and to whom.
pub enum Reply {
    /// A stream was created, or was there.
    Created(StreamId, Requester),
    /// A stream was updated: once the new limits hold.
    Updated(StreamId, Requester),
    /// What streams hold, to the shard that asked.
    List {
        /// The question.
        question: u64,
        /// Who asks.
        from: ShardId,
        /// Those still to be listed of, the next last.
        left: Vec<StreamId>,
        /// What is to be listed of the others.
        listed: Vec<StreamInfo>,
    },
}

/// Why a step ended.
pub enum Answered {
    /// It was listed.
    Done,
    /// There is more to do.
    More(Reply),
    /// It waits for a read.
    Reading(ReadId, Reply),
}
