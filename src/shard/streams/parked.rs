//! Publishes that wait until something is looked up in the index: the last sequence of a subject
//! whose newest message was removed, or of all subjects that match a filter. What comes to the
//! stream behind such a publish waits behind it, so that order holds. The copies are bounded by the
//! credit of their publishers.

use std::collections::VecDeque;

use crate::api::error::kinds;
use crate::interest::{Captured, Target};
use crate::shard::groups::pending::Change;
use crate::shard::request::Request;
use crate::shard::state::Shard;
use crate::shard::state::jobs::{Job, Stepped};
use crate::shard::state::parked::{LookUps, Need, OwnedPublish, Parked, ParkedItem};
use crate::shard::streams::read::Fetched;
use crate::stream::admission::LookUp;
use crate::types::{StreamId, Timestamp};

/// Index entries that publishes of one turn may have looked up before they are parked.
pub const TURN_VISITS: u32 = 2_000;
/// What a parked publish counts for when it goes on, and so many bytes of its payload.
const PUBLISH_VISITS: u32 = 8;
const BYTES_PER_VISIT: usize = 512;

impl Shard {
    /// Whether what comes to a stream has to wait.
    #[inline]
    pub(in crate::shard) fn is_parked(&self, stream: StreamId) -> bool {
        !self.parked.streams.is_empty() && self.parked.streams.contains_key(&stream)
    }

    /// Puts a publish behind those that wait at its stream.
    pub(in crate::shard) fn park_publish(&mut self, stream: StreamId, m: &Captured<'_>) {
        if let Some(parked) = self.parked.streams.get_mut(&stream) {
            parked.items.push_back(ParkedItem::Publish(Box::new(OwnedPublish::new(m))));
        }
    }

    /// Puts a request behind the publishes that wait at its stream, if there are any.
    pub(in crate::shard) fn park_request(&mut self, request: Request) -> Option<Request> {
        let Target::Api { stream: Some(stream), .. } = request.target else { return Some(request) };
        match self.parked.streams.get_mut(&stream) {
            None => Some(request),
            Some(parked) => {
                parked.items.push_back(ParkedItem::Request(Box::new(request)));
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
        let items = VecDeque::from([ParkedItem::Publish(Box::new(OwnedPublish::new(m)))]);
        self.parked.streams.insert(stream, Parked { items, look_ups });
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
        let mut budget = self.parked.turn_visits;
        let offered = self.offer_known(now, slot, m, &mut look_ups, &mut budget);
        self.parked.turn_visits = budget;
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
                Some(LookUp::UnderWay) => return Err(Need::Applied),
                Some(what) => look_ups.add(what),
            }
        }
    }

    /// A step of the job: lets what waits at a stream go on.
    pub(in crate::shard) fn step_parked(&mut self, now: Timestamp, stream: StreamId) -> Stepped {
        let Some(mut parked) = self.parked.streams.remove(&stream) else {
            return Stepped::Finished;
        };
        let mut budget = self.options.job_visits;
        let stepped = self.unpark(now, stream, &mut parked, &mut budget);
        if !parked.items.is_empty() {
            self.parked.streams.insert(stream, parked);
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
                ParkedItem::Request(request) => {
                    self.behind_appended(*request);
                    continue;
                }
                ParkedItem::Publish(publish) => publish,
            };
            let m = publish.captured();
            let slot = self.slots.get(&stream).copied();
            let Some(slot) = slot.filter(|&slot| !self.streams[slot].leaving) else {
                self.owe_credit(m.target.credit(m.subject), m.origin, m.credit_bytes);
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
                Err(Need::Applied) => {
                    // What was looked up may be another one then.
                    parked.look_ups = LookUps { waited: true, ..LookUps::default() };
                    let group = self.streams[slot].group();
                    self.wait_for_appended(group, Change::Unparked(stream));
                    Stepped::Moved
                }
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
            parked.items.push_front(ParkedItem::Publish(publish));
            return again;
        }
        Stepped::Finished
    }
}
