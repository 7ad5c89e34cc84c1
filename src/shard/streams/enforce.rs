//! Enforcing limits that an update has lowered: the leader finds what is over them and appends
//! records, some at a time, each of which is applied within a few turns. The update is answered
//! once its limits hold.

use corelane_storage::index::SubjectCursor;

use crate::api::error::kinds;
use crate::api::types::ResponseType;
use crate::shard::effects::ShardEffects;
use crate::shard::groups::pending::Change;
use crate::shard::records::{Enforce, EnforceBody, kind};
use crate::shard::request::Reply;
use crate::shard::state::Shard;
use crate::shard::state::jobs::{Job, Stepped};
use crate::stream::retention::Evict;
use crate::types::{StreamId, Timestamp};

/// Messages that one record removes for the limits of the stream.
const STEP_MESSAGES: u64 = 500;
/// Records that may wait to be applied.
const RECORDS_AHEAD: u32 = 4;
/// How soon to try again without room in the log, in nanoseconds.
const RETRY: i64 = 100_000_000;

impl Shard {
    /// The limits of a stream have changed, or were not enforced when the node stopped.
    pub(in crate::shard) fn start_enforcement(&mut self, slot: usize) {
        let state = &mut self.streams[slot];
        let limits_subjects = state.retention.limits_subjects();
        let stream = state.id;
        let begins = state.enforcement.is_none();
        let e = state.enforcement.get_or_insert_default();
        e.cursor = limits_subjects.then(SubjectCursor::new);
        if begins {
            self.jobs.add(Job::Enforce { stream });
        }
    }

    /// One step of the job.
    pub(in crate::shard) fn step_enforcement(
        &mut self,
        now: Timestamp,
        stream: StreamId,
    ) -> Stepped {
        let Some(&slot) = self.slots.get(&stream) else { return Stepped::Finished };
        let job_visits = self.options.job_visits;
        let state = &mut self.streams[slot];
        let over = state.retention.by_limits(&state.view()) != Evict::Nothing;
        let Some(e) = &mut state.enforcement else { return Stepped::Finished };
        if e.ahead >= RECORDS_AHEAD || e.closing {
            e.parked = true;
            return Stepped::Moved;
        }
        // As in nats-server, what the limits of the stream leave is then looked at by subject.
        let (what, cursor) = match e.cursor.take_if(|_| !over) {
            Some(before) => {
                let (mut budget, mut cursor) = (job_visits, before.clone());
                let mut over: Vec<Box<[u8]>> = Vec::new();
                let retention = &state.retention;
                let subjects = state.index.subjects();
                let done = subjects.for_each_match(b">", &mut cursor, &mut budget, |_, entry| {
                    if retention.of_subject(entry.count) > 0 {
                        over.push(entry.name().into());
                    }
                });
                e.cursor = (!done).then_some(cursor);
                if over.is_empty() {
                    return Stepped::Again(Job::Enforce { stream });
                }
                (Enforce::Subjects(over), Some(before))
            }
            None if over => (Enforce::Stream(STEP_MESSAGES), None),
            None if e.ahead > 0 => {
                e.parked = true;
                return Stepped::Moved;
            }
            None => (Enforce::Done, None),
        };
        if self.append_enforce(slot, what) {
            return Stepped::Again(Job::Enforce { stream });
        }
        // What was found is looked for again when there is room.
        if let Some(e) = &mut self.streams[slot].enforcement
            && cursor.is_some()
        {
            e.cursor = cursor;
        }
        self.jobs.enforce_later(now.plus(RETRY), stream);
        Stepped::Moved
    }

    /// Appends one record. False if there is no room for it.
    fn append_enforce(&mut self, slot: usize, what: Enforce) -> bool {
        let stream = self.streams[slot].id;
        let mut body = Vec::new();
        EnforceBody::encode(&what, &mut body);
        let change = || Change::Enforced(stream);
        if self.append_removal(slot, kind::ENFORCE, 0, &body, change).is_err() {
            return false;
        }
        if let Some(e) = &mut self.streams[slot].enforcement {
            e.ahead += 1;
            e.closing = what == Enforce::Done;
        }
        true
    }

    /// A record was applied.
    pub(in crate::shard) fn enforce_applied(
        &mut self,
        now: Timestamp,
        stream: StreamId,
        out: &mut impl ShardEffects,
    ) {
        let Some(&slot) = self.slots.get(&stream) else { return };
        let state = &mut self.streams[slot];
        let Some(e) = &mut state.enforcement else { return };
        e.ahead -= 1;
        if e.closing && e.ahead == 0 {
            // An update that came meanwhile begins anew.
            let changed = e.cursor.is_some() || state.enforcing;
            if !changed {
                let requesters = std::mem::take(&mut e.requesters);
                state.enforcement = None;
                self.watch_age(slot);
                for requester in requesters {
                    self.reply(now, Reply::Updated(stream, requester), out);
                }
                return;
            }
            e.closing = false;
        }
        if std::mem::take(&mut e.parked) {
            self.jobs.add(Job::Enforce { stream });
        }
    }

    /// The stream goes away: who waited for its limits is refused.
    pub(in crate::shard) fn drop_enforcement(&mut self, slot: usize, out: &mut impl ShardEffects) {
        let Some(e) = self.streams[slot].enforcement.take() else { return };
        for requester in e.requesters {
            let error = kinds::STREAM_NOT_FOUND.error();
            self.refuse_request(&requester, ResponseType::StreamUpdate, &error, out);
        }
    }
}
