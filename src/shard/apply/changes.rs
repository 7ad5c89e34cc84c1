//! What takes effect when its record is durable, other than messages: streams, consumers, removals.

use corelane_storage::index::{FilterSet, RangeRemoval, Removed};
use corelane_storage::log::ReadId;

use crate::api::error::kinds;
use crate::api::types::{ResponseType, StreamConfig, Success, write_response};
use crate::meta::StreamEntry;
use crate::shard::Shard;
use crate::shard::api::replies::Tell;
use crate::shard::apply::pending::Rare;
use crate::shard::catalogue::follow::Decided;
use crate::shard::effects::{Outlet, Placed};
use crate::shard::mailbox::{Asker, ShardMessage};
use crate::shard::streams::read::Fetched;
use crate::shard::streams::stream::StreamCell;
use crate::types::{ShardId, StreamId, Timestamp};

/// Entries that a purge step may visit: it was cut to fit when it was decided.
const PURGE_VISITS_MAX: u32 = 10_000;

impl Shard {
    /// Another shard's word.
    pub fn told(&mut self, now: Timestamp, message: ShardMessage, out: &mut impl Outlet) {
        match message {
            ShardMessage::Create { entry, asker } => {
                self.decided(Decided::Create { entry, asker });
            }
            ShardMessage::Existing { id, asker } => self.decided(Decided::Existing { id, asker }),
            ShardMessage::Update { id, config, asker } => {
                self.decided(Decided::Update { id, config, asker });
            }
            ShardMessage::Delete { id, asker } => self.decided(Decided::Delete { id, asker }),
            ShardMessage::Deleted { id } => self.stream_deleted(id),
            ShardMessage::Ask { question, from, streams } => {
                let (left, told) = (streams, Vec::new());
                self.tell(now, Tell::List { question, from, left, told }, out);
            }
            ShardMessage::Tell { question, streams, usage } => {
                self.told_about(question, streams, &usage, out);
            }
            ShardMessage::Held { from, bytes } => {
                let at = usize::from(from.0);
                if self.held_elsewhere.len() <= at {
                    self.held_elsewhere.resize(at + 1, [0; 2]);
                }
                self.held_elsewhere[at] = bytes;
            }
            ShardMessage::CheckLimits { question, from, id, limits } => {
                let violators = self.violators(id, &limits);
                out.tell(from, ShardMessage::Checked { question, violators });
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
    pub(in crate::shard) fn apply_rare(
        &mut self,
        now: Timestamp,
        rare: Rare,
        out: &mut impl Outlet,
    ) -> Option<(Rare, ReadId)> {
        match rare {
            Rare::Request(request) => self.inbox.push_back(*request),
            Rare::Catalogue(step) => out.tell(step.to, step.message),
            Rare::Create { entry, asker } => {
                let id = entry.id;
                self.insert_stream(*entry, out);
                self.created(id);
                if let Some(asker) = asker {
                    self.tell(now, Tell::Created(id, asker), out);
                }
            }
            Rare::Existing { id, asker } => self.tell(now, Tell::Created(id, asker), out),
            Rare::Update { id, config, asker } => self.updated(now, id, *config, asker, out),
            Rare::Delete { id, asker } => self.deleted(id, asker, out),
            Rare::DeleteMessage { stream, seq, asker } => {
                return self.message_deleted(stream, seq, asker, out);
            }
            Rare::Purge { stream, from, to, filter, job } => {
                return self.purged(stream, from, to, filter, job, out);
            }
            Rare::CreateConsumer { stream, cell, asker } => {
                self.consumer_created(now, stream, *cell, &asker, out);
            }
            Rare::UpdateConsumer { stream, consumer, config, asker } => {
                self.consumer_updated(now, stream, consumer, *config, &asker, out);
            }
            Rare::DeleteConsumer { stream, consumer, asker } => {
                self.consumer_deleted(stream, consumer, asker.as_ref(), out);
            }
            Rare::Delta { stream, consumer, mark, answers } => {
                self.delta_durable(stream, consumer, mark, &answers, out);
            }
        }
        None
    }

    /// A stream exists from now on; every reactor is told before anything else is.
    pub(in crate::shard) fn insert_stream(&mut self, entry: StreamEntry, out: &mut impl Outlet) {
        let cell = StreamCell::new(entry.id, entry.config, entry.created, self.options.seed);
        self.insert_cell(cell);
        self.place(entry.id, false, out);
    }

    pub(in crate::shard) fn insert_cell(&mut self, cell: StreamCell) -> usize {
        let (id, name) = (cell.id, cell.config.name.as_bytes().into());
        let slot = self.cells.insert(cell);
        self.checkpoint.born(&mut self.cells[slot].stored);
        self.slots.insert(id, slot);
        self.names.insert(name, slot);
        slot
    }

    /// Tells all reactors where a stream lives.
    pub(in crate::shard) fn place(&mut self, id: StreamId, update: bool, out: &mut impl Outlet) {
        let Some(&slot) = self.slots.get(&id) else { return };
        let config = &self.cells[slot].config;
        out.place(Placed::Here {
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
        asker: Option<Asker>,
        out: &mut impl Outlet,
    ) {
        let Some(&slot) = self.slots.get(&id) else { return };
        self.before_update(slot);
        self.cells[slot].update(config);
        self.enforce_limits(slot);
        self.look_at_age(id);
        self.place(id, true, out);
        if let Some(asker) = asker {
            self.tell(now, Tell::Updated(id, asker), out);
        }
    }

    fn deleted(&mut self, id: StreamId, asker: Option<Asker>, out: &mut impl Outlet) {
        if let Some(slot) = self.slots.remove(&id) {
            out.place(Placed::Gone(id));
            self.detach(slot, out);
            self.consumer_changed = true;
        }
        out.tell(ShardId(0), ShardMessage::Deleted { id });
        if let Some(asker) = asker {
            let mut body = Vec::new();
            write_response(&mut body, ResponseType::StreamDelete, &Success::YES);
            self.answer(&asker, &body, out);
        }
    }

    fn message_deleted(
        &mut self,
        stream: StreamId,
        seq: u64,
        asker: Asker,
        out: &mut impl Outlet,
    ) -> Option<(Rare, ReadId)> {
        let kind = ResponseType::StreamMsgDelete;
        let Some(&slot) = self.slots.get(&stream) else {
            self.stream_is_gone(Some(&asker), kind, out);
            return None;
        };
        self.before_change(slot);
        let gone = loop {
            match self.cells[slot].index.remove(seq) {
                Removed::Done(gone) => break Some(gone),
                Removed::NotThere => break None,
                Removed::NeedPage(key) => match self.fetch_page(slot, key) {
                    Fetched::Loaded => {}
                    Fetched::Pending(read) => {
                        return Some((Rare::DeleteMessage { stream, seq, asker }, read));
                    }
                    Fetched::Failed(text) => {
                        let error = kinds::STREAM_MSG_DELETE_FAILED.with(text);
                        self.refuse_request(&asker, kind, &error, out);
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
                self.answer(&asker, &body, out);
            }
            None => {
                let error = kinds::SEQUENCE_NOT_FOUND.with(seq);
                self.refuse_request(&asker, kind, &error, out);
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
        out: &mut impl Outlet,
    ) -> Option<(Rare, ReadId)> {
        let Some(&slot) = self.slots.get(&stream) else {
            self.purge_step_done(job, out);
            return None;
        };
        self.before_change(slot);
        if from == to {
            // Nothing was there and nothing was under way when this was decided.
            self.cells[slot].index.skip_to(to);
            self.cells[slot].first_shown = true;
        }
        let mut filters =
            if filter.is_empty() { FilterSet::all() } else { FilterSet::new([&filter]) };
        let mut count = 0;
        loop {
            let mut budget = PURGE_VISITS_MAX;
            let mut gone = std::mem::take(&mut self.gone);
            let index = &mut self.cells[slot].index;
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
                            return Some((Rare::Purge { stream, from, to, filter, job }, read));
                        }
                        Fetched::Failed(_) => break,
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
