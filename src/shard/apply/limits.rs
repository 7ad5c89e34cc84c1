//! Limits that remove messages: at once where little is to be removed, in steps of a job where it
//! is more, as after an update that lowers a limit.

use corelane_storage::index::{PageKey, Removed, Resolved, SubjectCursor, SubjectId};

use crate::shard::Shard;
use crate::shard::effects::ShardEffects;
use crate::shard::streams::read::Fetched;
use crate::shard::streams::stream::subject_count;
use crate::stream::retention::Evict;

/// Index entries that one step visits.
const STEP_VISITS: u32 = 2_000;
/// What is visited for one message that is stored.
const STORE_VISITS: u32 = 1_000;
/// What the removal of a message counts for.
const REMOVAL_VISITS: u32 = 4;

/// What limits still have to look at in one stream.
#[derive(Default)]
pub struct Eviction {
    /// Where the walk over all subjects goes on.
    walk: Option<SubjectCursor>,
    /// Subjects that may hold too much.
    over: Vec<SubjectId>,
    /// A job is on its way.
    queued: bool,
}

/// How far an eviction came.
pub enum Evicted {
    /// All is within the limits.
    Done,
    /// There is more to do.
    Budget,
    /// A page is needed first.
    NeedPage(PageKey),
}

impl Shard {
    /// Evicts what the limits no longer allow, after a message of `subject` was applied.
    pub(in crate::shard) fn evict_after(&mut self, slot: usize, subject: SubjectId) {
        let cell = &mut self.streams[slot];
        let over = cell.retention.limits_subjects()
            && cell.retention.of_subject(subject_count(&cell.index, subject)) > 0;
        if cell.eviction.queued {
            cell.eviction.over.extend(over.then_some(subject));
            return;
        }
        let mut budget = STORE_VISITS;
        if over && !matches!(self.evict_of_subject(slot, subject, &mut budget), Evicted::Done) {
            self.streams[slot].eviction.over.push(subject);
            return self.owe_eviction(slot);
        }
        if !matches!(self.evict_by_limits(slot, &mut budget), Evicted::Done) {
            self.owe_eviction(slot);
        }
    }

    /// The limits have changed: evicts some at once, the rest as a job.
    pub(in crate::shard) fn enforce_limits(&mut self, slot: usize) {
        let cell = &mut self.streams[slot];
        if !cell.retention.is_limited() {
            return;
        }
        if cell.retention.limits_subjects() {
            cell.eviction.walk = Some(SubjectCursor::new());
        }
        if !matches!(self.evict_some(slot), Evicted::Done) {
            self.owe_eviction(slot);
        }
    }

    fn owe_eviction(&mut self, slot: usize) {
        let cell = &mut self.streams[slot];
        if !std::mem::replace(&mut cell.eviction.queued, true) {
            let stream = cell.id;
            self.start_eviction(stream);
        }
    }

    /// One step of what is left to be evicted.
    pub(in crate::shard) fn evict_some(&mut self, slot: usize) -> Evicted {
        self.before_change(slot);
        let mut budget = STEP_VISITS;
        loop {
            while let Some(&subject) = self.streams[slot].eviction.over.last() {
                match self.evict_of_subject(slot, subject, &mut budget) {
                    Evicted::Done => self.streams[slot].eviction.over.pop(),
                    more => return more,
                };
            }
            let cell = &mut self.streams[slot];
            let Some(mut cursor) = cell.eviction.walk.take() else { break };
            if budget == 0 {
                cell.eviction.walk = Some(cursor);
                return Evicted::Budget;
            }
            let (retention, over) = (&cell.retention, &mut cell.eviction.over);
            let subjects = cell.index.subjects();
            let done = subjects.for_each_match(b">", &mut cursor, &mut budget, |id, e| {
                over.extend((retention.of_subject(e.count) > 0).then_some(id));
            });
            if !done {
                cell.eviction.walk = Some(cursor);
            }
        }
        self.evict_by_limits(slot, &mut budget)
    }

    /// A step of the job; `Err` with the read that it waits for, `Ok(true)` once it is done.
    pub(in crate::shard) fn evict_step(
        &mut self,
        slot: usize,
        out: &mut impl ShardEffects,
    ) -> Result<bool, corelane_storage::log::ReadId> {
        match self.evict_some(slot) {
            Evicted::Done => {}
            Evicted::Budget => return Ok(false),
            Evicted::NeedPage(key) => match self.fetch_page(slot, key) {
                Fetched::Loaded => return Ok(false),
                Fetched::Pending(read) => return Err(read),
                Fetched::Failed(text) => {
                    out.log(format!("limits cannot remove what they should: {text}"));
                    self.streams[slot].eviction = Eviction::default();
                    return Ok(true);
                }
            },
        }
        self.streams[slot].eviction.queued = false;
        Ok(true)
    }

    /// Removes first messages while there are too many.
    fn evict_by_limits(&mut self, slot: usize, budget: &mut u32) -> Evicted {
        loop {
            let cell = &mut self.streams[slot];
            if cell.retention.by_limits(&cell.view()) == Evict::Nothing {
                return Evicted::Done;
            }
            if *budget == 0 {
                return Evicted::Budget;
            }
            *budget = budget.saturating_sub(REMOVAL_VISITS);
            match cell.index.remove_first() {
                Removed::Done(gone) => self.removed(slot, &gone),
                Removed::NotThere => return Evicted::Done,
                Removed::NeedPage(key) => return Evicted::NeedPage(key),
            }
        }
    }

    /// Removes the oldest messages of a subject while it holds too much.
    fn evict_of_subject(&mut self, slot: usize, subject: SubjectId, budget: &mut u32) -> Evicted {
        loop {
            let cell = &mut self.streams[slot];
            if cell.retention.of_subject(subject_count(&cell.index, subject)) == 0 {
                return Evicted::Done;
            }
            if *budget == 0 {
                return Evicted::Budget;
            }
            *budget = budget.saturating_sub(REMOVAL_VISITS);
            match cell.index.first_of(subject, budget) {
                Resolved::Found(seq) => match cell.index.remove_of(subject, seq) {
                    Removed::Done(gone) => self.removed(slot, &gone),
                    Removed::NotThere => return Evicted::Done,
                    Removed::NeedPage(key) => return Evicted::NeedPage(key),
                },
                Resolved::None => return Evicted::Done,
                Resolved::NeedPage(key) => return Evicted::NeedPage(key),
                Resolved::Budget => return Evicted::Budget,
            }
        }
    }
}
