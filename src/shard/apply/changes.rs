//! What records other than messages lead to where their group is led: placement, deliveries,
//! timers, and the answers to those who asked for them.

use crate::api::error::kinds;
use crate::api::types::{ResponseType, Success, write_response};
use crate::consumer::rate_burst_bytes;
use crate::shard::apply::state::Applied;
use crate::shard::effects::{ShardEffects, StreamPlacement};
use crate::shard::groups::GroupName;
use crate::shard::groups::pending::{Change, SetConsumer, Unlogged};
use crate::shard::groups::removal::{Outcome, Unfinished};
use crate::shard::mailbox::{Requester, ShardMessage};
use crate::shard::request::Reply;
use crate::shard::state::Shard;
use crate::shard::state::catalogue::Decided;
use crate::shard::state::jobs::Job;
use crate::shard::state::stream::ShardStream;
use crate::types::{ShardId, StreamId, Timestamp};

impl Shard {
    /// A message of another shard.
    pub fn receive(&mut self, now: Timestamp, message: ShardMessage, out: &mut impl ShardEffects) {
        match message {
            ShardMessage::Catalogue { record, requester } => {
                self.decided(Decided::Change { record, requester });
            }
            ShardMessage::Existing { id, requester } => {
                self.decided(Decided::Existing { id, requester })
            }
            ShardMessage::Deleted { id } => self.stream_deleted(id),
            ShardMessage::Query { question, from, streams } => {
                let (left, listed) = (streams, Vec::new());
                self.reply(now, Reply::List { question, from, left, listed }, out);
            }
            ShardMessage::QueryAnswer { question, streams, usage } => {
                self.query_answered(question, streams, &usage, out);
            }
            ShardMessage::Held { from, bytes } => {
                let at = usize::from(from.0);
                if self.space.elsewhere.len() <= at {
                    self.space.elsewhere.resize(at + 1, [0; 2]);
                }
                self.space.elsewhere[at] = bytes;
            }
            ShardMessage::CheckLimits { question, from, id, limits } => {
                let violators = self.violators(id, &limits);
                out.send_to_shard(from, ShardMessage::Checked { question, violators });
            }
            ShardMessage::Checked { question, violators } => {
                self.limits_checked(question, &violators, out);
            }
            ShardMessage::Reconcile { entries, deleted } => {
                self.reconcile(entries, &deleted, out);
            }
        }
    }

    /// What follows from a record of a group that was applied, and who asked for it.
    pub(in crate::shard) fn took_effect(
        &mut self,
        group: GroupName,
        now: Timestamp,
        applied: Applied,
        out: &mut impl ShardEffects,
    ) {
        let pipeline = self.groups.get_mut(group);
        if let Applied::Removal(slot, removal) = applied {
            // Who waits for it waits until it is through.
            pipeline.unfinished = Some(Unfinished { slot, removal });
            return;
        }
        let mut asked = pipeline.waiting.pop_answer(pipeline.applied());
        match applied {
            Applied::Nothing | Applied::Removal(..) => {}
            Applied::StreamCreated(slot) => self.stream_created(slot, out),
            Applied::StreamUpdated(slot) => self.stream_updated(slot, out),
            Applied::StreamRemoved(slot) => self.stream_removed(slot, out),
            Applied::Catalogue(record) => {
                let (requester, rest) = match asked {
                    Some(Change::Catalogue(requester)) => (Some(requester), None),
                    rest => (None, rest),
                };
                asked = rest;
                self.catalogue_changed(record, requester, out);
            }
            Applied::ConsumerCreated { slot, at } => {
                let (by, rest) = set_by(asked);
                asked = rest;
                self.consumer_created(now, slot, at, by, out);
            }
            Applied::ConsumerUpdated { slot, at, before } => {
                let (by, rest) = set_by(asked);
                asked = rest;
                self.consumer_updated(now, slot, at, *before, by, out);
            }
            Applied::ConsumerProgress { slot, at } => self.consumer_progressed(slot, at),
            Applied::ConsumerRemoved { slot, gone } => self.consumer_is_gone(slot, &gone, out),
        }
        if let Some(change) = asked {
            self.apply_waiting(group, change, now, out);
        }
    }

    /// Answers who waited for the record of `group` that was applied last.
    pub(in crate::shard) fn apply_change(
        &mut self,
        group: GroupName,
        now: Timestamp,
        change: Change,
        out: &mut impl ShardEffects,
    ) {
        match change {
            Change::Request(request) => self.behind_group(group, *request),
            Change::Unlogged(Unlogged { kind, stream, id, body }) => {
                if let Some(applied) = self.apply_meta(group, kind, stream, id, &body, out) {
                    self.took_effect(group, now, applied, out);
                }
            }
            // The record was about what is gone.
            Change::Catalogue(requester) => self.release(&requester, out),
            Change::Existing { id, shard, requester } => {
                out.send_to_shard(shard, ShardMessage::Existing { id, requester });
            }
            Change::Created(id, requester) => self.reply(now, Reply::Created(id, requester), out),
            Change::Updated(id, requester) => {
                let slot = self.slots.get(&id);
                match slot.and_then(|&slot| self.streams[slot].enforcement.as_mut()) {
                    Some(enforcement) => enforcement.answer(requester),
                    None => self.reply(now, Reply::Updated(id, requester), out),
                }
            }
            Change::Deleted { id, requester } => self.answer_deleted(id, requester, out),
            Change::MessageDeleted { stream, seq, requester } => {
                self.removal_applied(stream);
                let outcome = std::mem::take(&mut self.groups.get_mut(group).outcome);
                self.message_deleted(stream, seq, outcome, &requester, out);
            }
            Change::Enforced(stream) => {
                self.removal_applied(stream);
                self.enforce_applied(now, stream, out);
            }
            Change::Unparked(stream) => self.jobs.add(Job::Parked { stream }),
            Change::Purged { job, stream } => {
                self.removal_applied(stream);
                let outcome = std::mem::take(&mut self.groups.get_mut(group).outcome);
                self.purge_step_done(job, outcome, out);
            }
            Change::SetConsumer(by) => self.consumer_was_not_set(&by, out),
            Change::ConsumerDeleted(requester) => {
                let mut body = Vec::new();
                write_response(&mut body, ResponseType::ConsumerDelete, &Success::YES);
                self.answer(&requester, &body, out);
            }
            Change::Acknowledged { requesters, delta } => {
                self.consumers.deltas.of(group).in_flight -= usize::from(delta);
                for requester in requesters {
                    self.answer(&requester, b"", out);
                }
            }
        }
    }

    /// A stream exists from now on; every reactor is notified before all else.
    fn stream_created(&mut self, slot: usize, out: &mut impl ShardEffects) {
        let stream = &mut self.streams[slot];
        let (id, name) = (stream.id, stream.config.name.as_bytes().into());
        self.checkpoint.born(&mut stream.checkpointed);
        self.names.insert(name, slot);
        self.place(id, false, out);
        self.created(id);
    }

    /// Tells all reactors where a stream lives.
    pub(in crate::shard) fn place(
        &mut self,
        id: StreamId,
        update: bool,
        out: &mut impl ShardEffects,
    ) {
        let Some(&slot) = self.slots.get(&id) else { return };
        let stream = &self.streams[slot];
        let config = &stream.config;
        out.place(StreamPlacement::Here {
            id,
            name: config.name.as_bytes().into(),
            shard: self.id,
            credit: stream.group().publish_credit(),
            subjects: config.subjects.iter().map(|s| s.as_bytes().into()).collect(),
            update,
        });
    }

    fn stream_updated(&mut self, slot: usize, out: &mut impl ShardEffects) {
        let ShardStream { id, config, consumers, .. } = &mut self.streams[slot];
        let (id, burst) = (*id, rate_burst_bytes(config, self.options.max_payload));
        for (_, c) in &mut consumers.slab {
            if let Some(delivery) = &mut c.delivery {
                delivery.set_rate_burst(burst);
            }
        }
        self.look_at_age(id);
        self.place(id, true, out);
        if self.streams[slot].enforcing {
            self.start_enforcement(slot);
        }
    }

    fn stream_removed(&mut self, slot: usize, out: &mut impl ShardEffects) {
        out.place(StreamPlacement::Gone(self.streams[slot].id));
        self.detach(slot, out);
        self.requests.consumer_changed = true;
    }

    fn answer_deleted(
        &mut self,
        id: StreamId,
        requester: Option<Requester>,
        out: &mut impl ShardEffects,
    ) {
        out.send_to_shard(ShardId(0), ShardMessage::Deleted { id });
        if let Some(requester) = requester {
            let mut body = Vec::new();
            write_response(&mut body, ResponseType::StreamDelete, &Success::YES);
            self.answer(&requester, &body, out);
        }
    }

    fn message_deleted(
        &mut self,
        stream: StreamId,
        seq: u64,
        outcome: Outcome,
        requester: &Requester,
        out: &mut impl ShardEffects,
    ) {
        let kind = ResponseType::StreamMsgDelete;
        if !self.slots.contains_key(&stream) {
            return self.stream_is_gone(Some(requester), kind, out);
        }
        let Outcome { removed, failed } = outcome;
        let error = match failed {
            Some(text) => kinds::STREAM_MSG_DELETE_FAILED.with(text),
            None if removed == 0 => kinds::SEQUENCE_NOT_FOUND.with(seq),
            None => {
                let mut body = Vec::new();
                write_response(&mut body, kind, &Success::YES);
                return self.answer(requester, &body, out);
            }
        };
        self.refuse_request(requester, kind, &error, out);
    }
}

/// Who asked for a consumer, if that is what was asked for.
fn set_by(asked: Option<Change>) -> (Option<SetConsumer>, Option<Change>) {
    match asked {
        Some(Change::SetConsumer(by)) => (Some(by), None),
        rest => (None, rest),
    }
}
