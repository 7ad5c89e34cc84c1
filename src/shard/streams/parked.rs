//! Publishes that wait until something is looked up in the index: the last sequence of a subject
//! whose newest message was removed, or of all subjects that match a filter. What comes to the
//! stream behind such a publish waits behind it, so that order holds. The copies are bounded by the
//! credit of their publishers.

use std::collections::VecDeque;

use corelane_storage::index::{
    FilterSet, LastJob, LastStep, NthJob, NthStep, PageKey, StreamIndex,
};

use super::read::Fetched;
use super::stream::Known;
use crate::api::error::kinds;
use crate::interest::{AccountId, Captured, Target};
use crate::shard::Shard;
use crate::shard::api::requests::Request;
use crate::shard::jobs::{Job, Stepped};
use crate::stream::admission::LookUp;
use crate::types::{CreditKind, Origin, StreamId, Timestamp};

/// Index entries that publishes of one turn may have looked up before they are parked.
pub const TURN_VISITS: u32 = 2_000;
/// What a parked publish counts for when it goes on, and so many bytes of its payload.
const PUBLISH_VISITS: u32 = 8;
const BYTES_PER_VISIT: usize = 512;

/// What waits at one stream, in the order in which it came.
#[derive(Default)]
pub struct Parked {
    items: VecDeque<Item>,
    /// What the first one waits for.
    look_ups: LookUps,
}

enum Item {
    Publish(Box<OwnedPublish>),
    Request(Box<Request>),
}

/// A publish with its bytes: subject, reply, headers, payload.
struct OwnedPublish {
    origin: Origin,
    account: AccountId,
    target: Target,
    credit: u32,
    ends: [usize; 3],
    bytes: Box<[u8]>,
}

impl OwnedPublish {
    fn new(m: &Captured<'_>) -> OwnedPublish {
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

    fn captured(&self) -> Captured<'_> {
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
pub(in crate::shard) struct LookUps {
    last: Option<LastJob>,
    size: Option<NthJob>,
}

/// Why it is not known yet.
enum Need {
    Page(PageKey),
    Budget,
}

impl LookUps {
    fn add(&mut self, what: LookUp) {
        match what {
            // The gate remembers how far it came.
            LookUp::InFlight => {}
            LookUp::Last(filter) => self.last = Some(LastJob::new(FilterSet::new([filter]))),
            LookUp::Size { subject, nth } => {
                let nth = usize::try_from(nth).unwrap_or(usize::MAX);
                self.size.get_or_insert_with(|| NthJob::new(&subject)).seek(nth);
            }
        }
    }

    fn step(&mut self, index: &mut StreamIndex, budget: &mut u32) -> Result<Known, Need> {
        let mut known = Known::default();
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

impl Shard {
    /// Whether what comes to a stream has to wait.
    #[inline]
    pub(in crate::shard) fn is_parked(&self, stream: StreamId) -> bool {
        !self.parked.is_empty() && self.parked.contains_key(&stream)
    }

    /// Puts a publish behind those that wait at its stream.
    pub(in crate::shard) fn park_publish(&mut self, stream: StreamId, m: &Captured<'_>) {
        if let Some(parked) = self.parked.get_mut(&stream) {
            parked.items.push_back(Item::Publish(Box::new(OwnedPublish::new(m))));
        }
    }

    /// Puts a request behind the publishes that wait at its stream, if there are any.
    pub(in crate::shard) fn park_request(&mut self, request: Request) -> Option<Request> {
        let Target::Api { stream: Some(stream), .. } = request.target else { return Some(request) };
        match self.parked.get_mut(&stream) {
            None => Some(request),
            Some(parked) => {
                parked.items.push_back(Item::Request(Box::new(request)));
                None
            }
        }
    }

    /// Parks a publish, the first at its stream.
    #[cold]
    pub(in crate::shard) fn park_first(
        &mut self,
        stream: StreamId,
        m: &Captured<'_>,
        look_ups: LookUps,
    ) {
        let items = VecDeque::from([Item::Publish(Box::new(OwnedPublish::new(m)))]);
        self.parked.insert(stream, Parked { items, look_ups });
        self.jobs.add(Job::Parked { stream });
    }

    /// A publish depends on what must be looked up: does that now if it is little work, or parks
    /// the publish.
    #[cold]
    pub(in crate::shard) fn look_up_first(
        &mut self,
        now: Timestamp,
        stream: StreamId,
        slot: usize,
        m: &Captured<'_>,
        what: LookUp,
    ) {
        let mut look_ups = LookUps::default();
        look_ups.add(what);
        let mut budget = self.look_up_visits;
        let offered = self.offer_known(now, slot, m, &mut look_ups, &mut budget);
        self.look_up_visits = budget;
        if offered.is_err() {
            self.park_first(stream, m, look_ups);
        }
    }

    /// Looks up what a publish depends on and offers it.
    fn offer_known(
        &mut self,
        now: Timestamp,
        slot: usize,
        m: &Captured<'_>,
        look_ups: &mut LookUps,
        budget: &mut u32,
    ) -> Result<(), Need> {
        loop {
            let known = look_ups.step(&mut self.streams[slot].index, budget)?;
            match self.offer(now, slot, m, known, budget) {
                None => return Ok(()),
                Some(what) => look_ups.add(what),
            }
        }
    }

    /// A step of the job: lets what waits at a stream go on.
    pub(in crate::shard) fn step_parked(&mut self, now: Timestamp, stream: StreamId) -> Stepped {
        let Some(mut parked) = self.parked.remove(&stream) else { return Stepped::Finished };
        let mut budget = self.options.job_visits;
        let stepped = self.unpark(now, stream, &mut parked, &mut budget);
        if !parked.items.is_empty() {
            self.parked.insert(stream, parked);
        }
        stepped
    }

    fn unpark(
        &mut self,
        now: Timestamp,
        stream: StreamId,
        parked: &mut Parked,
        budget: &mut u32,
    ) -> Stepped {
        while let Some(item) = parked.items.pop_front() {
            let job = Job::Parked { stream };
            let publish = match item {
                Item::Request(request) => {
                    self.behind_appended(*request);
                    continue;
                }
                Item::Publish(publish) => publish,
            };
            let m = publish.captured();
            let slot = self.slots.get(&stream).copied();
            let Some(slot) = slot.filter(|&slot| !self.streams[slot].leaving) else {
                self.owe_credit(CreditKind::Publish, m.origin, m.credit_bytes);
                parked.look_ups = LookUps::default();
                continue;
            };
            let again = match self.offer_known(now, slot, &m, &mut parked.look_ups, budget) {
                Ok(()) => {
                    let cost = PUBLISH_VISITS + (m.payload.len() / BYTES_PER_VISIT) as u32;
                    *budget = budget.saturating_sub(cost);
                    parked.look_ups = LookUps::default();
                    continue;
                }
                Err(Need::Budget) => Stepped::Again(job),
                Err(Need::Page(key)) => match self.fetch_page(slot, key) {
                    Fetched::Loaded => Stepped::Again(job),
                    Fetched::Pending(read) => Stepped::Reading(read, job),
                    Fetched::Failed(text) | Fetched::Damaged(text) => {
                        // What it depends on cannot be known, so it is not stored.
                        let error = kinds::STREAM_STORE_FAILED.with(text);
                        self.refuse_publish(slot, &error, &m);
                        parked.look_ups = LookUps::default();
                        continue;
                    }
                },
            };
            parked.items.push_front(Item::Publish(publish));
            return again;
        }
        Stepped::Finished
    }
}
