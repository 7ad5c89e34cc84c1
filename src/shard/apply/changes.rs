//! What takes effect when its record is durable, other than messages: streams, consumers, removals.

use corelane_storage::index::{FilterSet, RangeRemoval, Removed};
use corelane_storage::log::ReadId;

use crate::api::error::kinds;
use crate::api::types::{ResponseType, StreamConfig, Success, write_response};
use crate::meta::StreamEntry;
use crate::shard::Shard;
use crate::shard::api::replies::Reply;
use crate::shard::apply::pending::Change;
use crate::shard::catalogue::follow::Decided;
use crate::shard::effects::{ShardEffects, StreamPlacement};
use crate::shard::mailbox::{Requester, ShardMessage};
use crate::shard::streams::read::Fetched;
use crate::shard::streams::stream::ShardStream;
use crate::types::{ShardId, StreamId, Timestamp};

/// Entries that a purge step may visit: it was cut to fit when it was decided.
const PURGE_VISITS_MAX: u32 = 10_000;

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

    /// Lets something take effect. What must wait for a read comes back, to be put in front again.
    pub(in crate::shard) fn apply_change(
        &mut self,
        now: Timestamp,
        change: Change,
        out: &mut impl ShardEffects,
    ) -> Option<(Change, ReadId)> {
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
            Change::DeleteMessage { stream, seq, requester } => {
                return self.message_deleted(stream, seq, requester, out);
            }
            // Begun where the record was applied.
            Change::Enforce { .. } => {}
            Change::Purge { stream, from, to, filter, job } => {
                return self.purged(stream, from, to, filter, job, out);
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
            Change::Delta { stream, consumer, body, answers } => {
                self.apply_delta(stream, consumer, &body, &answers, out);
            }
        }
        None
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
        requester: Requester,
        out: &mut impl ShardEffects,
    ) -> Option<(Change, ReadId)> {
        let kind = ResponseType::StreamMsgDelete;
        let Some(&slot) = self.slots.get(&stream) else {
            self.stream_is_gone(Some(&requester), kind, out);
            return None;
        };
        self.before_change(slot);
        let gone = loop {
            match self.streams[slot].index.remove(seq) {
                Removed::Done(gone) => break Some(gone),
                Removed::NotThere => break None,
                Removed::NeedPage(key) => match self.fetch_page(slot, key) {
                    Fetched::Loaded => {}
                    Fetched::Pending(read) => {
                        return Some((Change::DeleteMessage { stream, seq, requester }, read));
                    }
                    Fetched::Failed(text) => {
                        let error = kinds::STREAM_MSG_DELETE_FAILED.with(text);
                        self.refuse_request(&requester, kind, &error, out);
                        return None;
                    }
                },
            }
        };
        match gone {
            Some(gone) => {
                self.removed(slot, &gone);
                let mut body = Vec::new();
                write_response(&mut body, kind, &Success::YES);
                self.answer(&requester, &body, out);
            }
            None => {
                let error = kinds::SEQUENCE_NOT_FOUND.with(seq);
                self.refuse_request(&requester, kind, &error, out);
            }
        }
        None
    }

    /// Removes a range that was cut to what a turn can do.
    fn purged(
        &mut self,
        stream: StreamId,
        mut from: u64,
        to: u64,
        filter: Box<[u8]>,
        job: u64,
        out: &mut impl ShardEffects,
    ) -> Option<(Change, ReadId)> {
        let Some(&slot) = self.slots.get(&stream) else {
            self.purge_step_done(job, out);
            return None;
        };
        self.before_change(slot);
        if from == to {
            // Nothing was there and nothing was under way when this was decided.
            self.streams[slot].index.skip_to(to);
            self.streams[slot].first_shown = true;
        }
        let mut filters =
            if filter.is_empty() { FilterSet::all() } else { FilterSet::new([&filter]) };
        let mut count = 0;
        loop {
            let mut budget = PURGE_VISITS_MAX;
            let mut gone = std::mem::take(&mut self.gone);
            let index = &mut self.streams[slot].index;
            let end = index.remove_matching(&mut filters, from..to, &mut budget, |m| gone.push(m));
            count += gone.len() as u64;
            for m in gone.drain(..) {
                self.removed(slot, &m);
            }
            self.gone = gone;
            match end {
                RangeRemoval::Done => break,
                RangeRemoval::Budget { resume } => from = resume,
                RangeRemoval::NeedPage { key, resume } => {
                    from = resume;
                    match self.fetch_page(slot, key) {
                        Fetched::Loaded => {}
                        Fetched::Pending(read) => {
                            self.purge_progress(job, count);
                            return Some((Change::Purge { stream, from, to, filter, job }, read));
                        }
                        Fetched::Failed(text) => {
                            self.complain(slot, format_args!("messages stay: {text}"), out);
                            self.purge_failed(job, &text);
                            break;
                        }
                    }
                }
            }
        }
        self.consumers_after_purge(slot, &filter);
        self.purge_progress(job, count);
        self.purge_step_done(job, out);
        None
    }
}
