//! Where a last-per-subject consumer begins: the last sequence of every subject that it wants,
//! gathered in steps, since there may be millions.
//!
//! The messages up to the one that was last when the gathering began are taken by subject; all
//! behind it are delivered in any case. So a subject that gets a message meanwhile may be delivered
//! with the message before it, or without, as if that had come before or after the request.

use corelane_storage::index::{
    FilterSet, PageKey, Resolved, StreamIndex, SubjectCursor, SubjectId,
};
use roaring::RoaringTreemap;

use super::Shard;
use super::jobs::{Job, Stepped};
use super::message::Asker;
use super::outlet::Outlet;
use super::read::Fetched;
use super::requests::Request;
use crate::api::types::{ConsumerConfig, ResponseType};
use crate::consumer::StartPosition;
use crate::types::{StreamId, Timestamp};

/// A consumer that is to be created once its start is known.
pub(super) struct Start {
    stream: StreamId,
    name: String,
    config: ConsumerConfig,
    asker: Asker,
    gather: Gather,
}

/// The last sequences found so far.
struct Gather {
    filters: FilterSet,
    /// Which of the filters is walked, and how far.
    filter: usize,
    cursor: SubjectCursor,
    /// Subjects whose last message is still to be looked for.
    inexact: Vec<SubjectId>,
    /// The stream's first and last sequence when it began.
    first: u64,
    upto: u64,
    found: RoaringTreemap,
}

/// What became of one step.
enum Gathered {
    All,
    NeedPage(PageKey),
    Budget,
}

impl Gather {
    fn new(config: &ConsumerConfig, index: &StreamIndex) -> Gather {
        Gather {
            filters: FilterSet::new(config.filters().iter().map(String::as_bytes)),
            filter: 0,
            cursor: SubjectCursor::new(),
            inexact: Vec::new(),
            first: index.first_seq(),
            upto: index.last_seq(),
            found: RoaringTreemap::new(),
        }
    }

    fn step(&mut self, index: &mut StreamIndex, budget: &mut u32) -> Gathered {
        loop {
            if let Some(stop) = self.resolve(index, budget) {
                return stop;
            }
            let Some(filter) = self.filters.filters().get(self.filter) else {
                return Gathered::All;
            };
            let Gather { cursor, inexact, found, upto, .. } = self;
            let walked = index.subjects().for_each_match(filter, cursor, budget, |id, entry| {
                if !entry.last_is_exact() {
                    inexact.push(id);
                } else if entry.last <= *upto {
                    found.insert(entry.last);
                }
            });
            if walked {
                self.filter += 1;
                self.cursor = SubjectCursor::new();
            } else if self.inexact.is_empty() {
                return Gathered::Budget;
            }
        }
    }

    /// Looks for the last messages of subjects that do not know theirs.
    fn resolve(&mut self, index: &mut StreamIndex, budget: &mut u32) -> Option<Gathered> {
        while let Some(&id) = self.inexact.last() {
            // The id may have been given to another subject meanwhile.
            self.filters.sync(index.subjects());
            if self.filters.matches_id(index.subjects(), id) {
                match index.last_of(id, budget) {
                    Resolved::Found(seq) if seq <= self.upto => {
                        self.found.insert(seq);
                    }
                    Resolved::Found(_) | Resolved::None => {}
                    Resolved::NeedPage(key) => return Some(Gathered::NeedPage(key)),
                    Resolved::Budget => return Some(Gathered::Budget),
                }
            }
            self.inexact.pop();
        }
        None
    }

    fn position(self, last: u64) -> StartPosition {
        let nothing = self.found.is_empty() && last == self.upto;
        let next_seq = if nothing { last.max(self.first) } else { self.upto + 1 };
        StartPosition { next_seq, last_seq: self.upto, start_set: self.found }
    }
}

impl Shard {
    /// Creates a last-per-subject consumer: in this turn where few subjects match.
    pub(super) fn gather_start(
        &mut self,
        slot: usize,
        name: String,
        config: ConsumerConfig,
        r: &Request,
    ) {
        let cell = &mut self.cells[slot];
        let (stream, asker) = (cell.id, r.asker());
        let gather = Gather::new(&config, &cell.index);
        cell.consumers.in_flight.push(name.as_str().into());
        let start = Start { stream, name, config, asker, gather };
        self.jobs.add(Job::Start(Box::new(start)));
    }

    pub(super) fn step_start(
        &mut self,
        now: Timestamp,
        mut start: Box<Start>,
        out: &mut impl Outlet,
    ) -> Stepped {
        let Some(&slot) = self.slots.get(&start.stream) else {
            self.stream_is_gone(Some(&start.asker), ResponseType::ConsumerCreate, out);
            return Stepped::Finished;
        };
        let mut budget = self.options.job_visits;
        let failed = match start.gather.step(&mut self.cells[slot].index, &mut budget) {
            Gathered::Budget => return Stepped::Again(Job::Start(start)),
            Gathered::NeedPage(key) => match self.fetch_page(slot, key) {
                Fetched::Loaded => return Stepped::Again(Job::Start(start)),
                Fetched::Pending(read) => return Stepped::Reading(read, Job::Start(start)),
                Fetched::Failed(_) => true,
            },
            Gathered::All => false,
        };
        let Start { name, config, asker, gather, .. } = *start;
        let cell = &mut self.cells[slot];
        cell.consumers.in_flight.retain(|n| **n != *name);
        if failed {
            self.refuse_consumer(&asker, out);
        } else {
            let position = gather.position(cell.index.last_seq());
            self.create_consumer(now, slot, name, config, position, &asker, out);
        }
        Stepped::Finished
    }
}
