//! Publishes that wait until something is looked up in the index, and what came to their streams
//! behind them.

use std::collections::{BTreeMap, VecDeque};

use corelane_storage::index::{
    FilterSet, LastJob, LastStep, NthJob, NthStep, PageKey, StreamIndex,
};

use crate::interest::{AccountId, Captured, Target};
use crate::shard::request::Request;
use crate::shard::state::stream::Known;
use crate::stream::admission::LookUp;
use crate::types::{Origin, StreamId};

/// What waits at streams until something is looked up.
#[derive(Default)]
pub struct ParkedStreams {
    /// By stream.
    pub streams: BTreeMap<StreamId, Parked>,
    /// Index entries that publishes of this turn may still have looked up.
    pub turn_visits: u32,
}

/// What waits at one stream, in the order in which it came.
#[derive(Default)]
pub struct Parked {
    pub items: VecDeque<ParkedItem>,
    /// What the first one waits for.
    pub look_ups: LookUps,
}

pub enum ParkedItem {
    Publish(Box<OwnedPublish>),
    Request(Box<Request>),
}

/// A publish with its bytes: subject, reply, headers, payload.
pub struct OwnedPublish {
    pub origin: Origin,
    pub account: AccountId,
    pub target: Target,
    pub credit: u32,
    pub ends: [usize; 3],
    pub bytes: Box<[u8]>,
}

impl OwnedPublish {
    pub fn new(m: &Captured<'_>) -> OwnedPublish {
        let parts = [m.subject, m.reply, m.headers, m.payload];
        let reply = m.subject.len() + m.reply.len();
        OwnedPublish {
            origin: m.origin,
            account: m.account,
            target: m.target,
            credit: m.credit_bytes,
            ends: [m.subject.len(), reply, reply + m.headers.len()],
            bytes: parts.concat().into(),
        }
    }

    pub fn captured(&self) -> Captured<'_> {
        let [subject, reply, headers] = self.ends;
        Captured {
            target: self.target,
            origin: self.origin,
            account: self.account,
            subject: &self.bytes[..subject],
            reply: &self.bytes[subject..reply],
            headers: &self.bytes[reply..headers],
            payload: &self.bytes[headers..],
            credit_bytes: self.credit,
        }
    }
}

/// What one publish needs to know. All of it is brought up to date before the publish is offered.
#[derive(Default)]
pub struct LookUps {
    pub last: Option<LastJob>,
    pub size: Option<NthJob>,
    /// It has waited for all that was under way when it came.
    pub waited: bool,
}

/// Why it is not known yet.
pub enum Need {
    Page(PageKey),
    Budget,
    /// All that is under way is to be applied first.
    Applied,
}

impl LookUps {
    pub fn add(&mut self, what: LookUp) {
        match what {
            // The gate remembers how far it came.
            LookUp::InFlight | LookUp::UnderWay => {}
            LookUp::Last(filter) => self.last = Some(LastJob::new(FilterSet::new([filter]))),
            LookUp::Size { subject, nth } => {
                let nth = usize::try_from(nth).unwrap_or(usize::MAX);
                self.size.get_or_insert_with(|| NthJob::new(&subject)).seek(nth);
            }
        }
    }

    pub fn step(&mut self, index: &mut StreamIndex, budget: &mut u32) -> Result<Known, Need> {
        let mut known = Known { waited: self.waited, ..Known::default() };
        if *budget == 0 {
            return Err(Need::Budget);
        }
        if let Some(job) = &mut self.last {
            match job.step(index, budget) {
                LastStep::Done(last) => known.last = Some(last.unwrap_or(0)),
                LastStep::NeedPage(key) => return Err(Need::Page(key)),
                LastStep::Budget => return Err(Need::Budget),
            }
        }
        if let Some(job) = &mut self.size {
            let nth = job.nth() as u64;
            match job.step(index, budget) {
                NthStep::Done(found) => {
                    known.size = Some((nth, found.map_or(0, |(_, size)| u64::from(size))));
                }
                NthStep::NeedPage(key) => return Err(Need::Page(key)),
                NthStep::Budget => return Err(Need::Budget),
            }
        }
        Ok(known)
    }
}
