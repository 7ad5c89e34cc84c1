//! What takes effect when its record is durable, other than messages: streams, consumers, removals.

use crate::api::error::kinds;
use crate::api::types::{ResponseType, StreamConfig, Success, write_response};
use crate::meta::StreamEntry;
use crate::shard::Shard;
use crate::shard::api::replies::Reply;
use crate::shard::apply::Outcome;
use crate::shard::apply::groups::GroupName;
use crate::shard::apply::pending::Change;
use crate::shard::catalogue::follow::Decided;
use crate::shard::effects::{ShardEffects, StreamPlacement};
use crate::shard::mailbox::{Requester, ShardMessage};
use crate::shard::streams::stream::ShardStream;
use crate::types::{ShardId, StreamId, Timestamp};

impl Shard {
    /// Another shard's word.
    pub fn receive(&mut self, now: Timestamp, message: ShardMessage, out: &mut impl ShardEffects) {
        match message {
            ShardMessage::Create { entry, requester } => {
                self.decided(Decided::Create { entry, requester });
            }
            ShardMessage::Existing { id, requester } => {
                self.decided(Decided::Existing { id, requester })
            }
            ShardMessage::Update { id, config, requester } => {
                self.decided(Decided::Update { id, config, requester });
            }
            ShardMessage::Delete { id, requester } => {
                self.decided(Decided::Delete { id, requester })
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
                if self.used_elsewhere.len() <= at {
                    self.used_elsewhere.resize(at + 1, [0; 2]);
                }
                self.used_elsewhere[at] = bytes;
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

    /// Lets something take effect that waited for the record of `group` that was applied last.
    pub(in crate::shard) fn apply_change(
        &mut self,
        group: GroupName,
        now: Timestamp,
        change: Change,
        out: &mut impl ShardEffects,
    ) {
        match change {
            Change::Request(request) => self.inbox.push_back(*request),
            Change::Catalogue(step) => out.send_to_shard(step.to, step.message),
            Change::Create { entry, requester } => {
                let id = entry.id;
                self.insert_stream(*entry, out);
                self.created(id);
                if let Some(requester) = requester {
                    self.reply(now, Reply::Created(id, requester), out);
                }
            }
            Change::Existing { id, requester } => {
                self.reply(now, Reply::Created(id, requester), out)
            }
            Change::Update { id, config, requester } => {
                self.updated(now, id, *config, requester, out)
            }
            Change::Delete { id, requester } => self.deleted(id, requester, out),
            Change::MessageDeleted { stream, seq, requester } => {
                let outcome = std::mem::take(&mut self.groups.get_mut(group).outcome);
                self.message_deleted(stream, seq, outcome, &requester, out);
            }
            Change::Enforced(stream) => self.enforce_applied(now, stream, out),
            Change::Purged(job) => {
                let outcome = std::mem::take(&mut self.groups.get_mut(group).outcome);
                self.purge_step_done(job, outcome, out);
            }
            Change::CreateConsumer { stream, consumer, requester } => {
                self.consumer_created(now, stream, *consumer, &requester, out);
            }
            Change::UpdateConsumer { stream, consumer, config, requester } => {
                self.consumer_updated(now, stream, consumer, *config, &requester, out);
            }
            Change::DeleteConsumer { stream, consumer, requester } => {
                self.consumer_deleted(stream, consumer, requester.as_ref(), out);
            }
            Change::Acknowledged(requesters) => {
                self.deltas.in_flight -= 1;
                for requester in requesters {
                    self.answer(&requester, b"", out);
                }
            }
        }
    }

    /// A stream exists from now on; every reactor is told before anything else is.
    pub(in crate::shard) fn insert_stream(
        &mut self,
        entry: StreamEntry,
        out: &mut impl ShardEffects,
    ) {
        let cell = ShardStream::new(entry.id, entry.config, entry.created, self.options.seed);
        self.insert_cell(cell);
        self.place(entry.id, false, out);
    }

    pub(in crate::shard) fn insert_cell(&mut self, cell: ShardStream) -> usize {
        let (id, name) = (cell.id, cell.config.name.as_bytes().into());
        let slot = self.streams.insert(cell);
        self.checkpoint.born(&mut self.streams[slot].stored);
        self.slots.insert(id, slot);
        self.names.insert(name, slot);
        slot
    }

    /// Tells all reactors where a stream lives.
    pub(in crate::shard) fn place(
        &mut self,
        id: StreamId,
        update: bool,
        out: &mut impl ShardEffects,
    ) {
        let Some(&slot) = self.slots.get(&id) else { return };
        let config = &self.streams[slot].config;
        out.place(StreamPlacement::Here {
            id,
            name: config.name.as_bytes().into(),
            shard: self.id,
            subjects: config.subjects.iter().map(|s| s.as_bytes().into()).collect(),
            update,
        });
    }

    fn updated(
        &mut self,
        now: Timestamp,
        id: StreamId,
        config: StreamConfig,
        requester: Option<Requester>,
        out: &mut impl ShardEffects,
    ) {
        let Some(&slot) = self.slots.get(&id) else { return };
        self.before_update(slot);
        self.streams[slot].update(config);
        self.look_at_age(id);
        self.place(id, true, out);
        if self.streams[slot].enforcing {
            return self.start_enforcement(slot, requester);
        }
        if let Some(requester) = requester {
            self.reply(now, Reply::Updated(id, requester), out);
        }
    }

    fn deleted(&mut self, id: StreamId, requester: Option<Requester>, out: &mut impl ShardEffects) {
        if let Some(slot) = self.slots.remove(&id) {
            out.place(StreamPlacement::Gone(id));
            self.detach(slot, out);
            self.consumer_changed = true;
        }
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
