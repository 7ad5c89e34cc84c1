//! A stream's consumers: who there is, what they count, whose turn it is.

pub(in crate::shard) mod deliver;
pub(in crate::shard) mod read_ahead;

use std::collections::BTreeMap;

use corelane_storage::index::{FilterSet, Location, StreamIndex, SubjectId};
use corelane_storage::log::ReadId;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::api::types::ConsumerConfig;
use crate::consumer::pending::{FilterGroups, Handle};
use crate::consumer::{Consumer, DeltaMark};
use crate::interest::WatchId;
use crate::shard::api::requests::Wait;
use crate::shard::consumers::read_ahead::ReadAhead;
use crate::shard::mailbox::Requester;
use crate::subject;
use crate::types::{ConsumerId, Timestamp};

/// What is watched for a push consumer.
#[derive(Clone, Debug)]
pub(in crate::shard) struct Watch {
    pub id: WatchId,
    pub subject: String,
    pub group: String,
}

/// One consumer with all that belongs to it.
pub struct ShardConsumer {
    /// Its id.
    pub id: ConsumerId,
    /// Its name.
    pub name: Box<str>,
    /// Its configuration, normalised.
    pub config: ConsumerConfig,
    /// That of an update whose record did not take effect yet: checkpoints have it already, since
    /// the record lies before them.
    pub next_config: Option<Box<ConsumerConfig>>,
    /// When it was created.
    pub created: Timestamp,
    /// Its state machine.
    pub consumer: Consumer,
    /// What it wants of the stream.
    pub filter: FilterSet,
    /// Its place among those that count.
    pub handle: Handle,
    /// It stands in the list of those to be driven.
    pub queued: bool,
    /// Its drive waits for this read.
    pub blocked: Option<ReadId>,
    /// Where a scan for its next message goes on.
    pub scan_from: u64,
    /// How far what it will want is read already.
    pub ahead: ReadAhead,
    /// Answers that wait for the next delta.
    pub held: Vec<Requester>,
    /// A delta that found no room in the log. What changes after it makes another.
    pub unwritten: Option<Unwritten>,
    /// The deadline under which it stands in the shard's timers.
    pub timer: Option<Timestamp>,
    /// The watch of its deliver subject.
    pub watch: Option<Watch>,
    /// The group to watch the deliver subject with, where it is not the configuration's.
    pub watch_group: Option<String>,
    /// Its state is newer than the one that the checkpoints have.
    pub changed: bool,
    /// Where that lies.
    pub stored: Option<Location>,
}

impl ShardConsumer {
    /// Whether it has something to log, or somebody waits for that.
    pub fn owes(&self) -> bool {
        self.consumer.is_dirty() || !self.held.is_empty() || self.unwritten.is_some()
    }

    /// Tells it which members of its start set from `from` on left the stream while it was not
    /// among the stream's consumers, and looks at `max` of them at most. Answers where to go on.
    pub fn check_start_set(
        &mut self,
        now: Timestamp,
        index: &StreamIndex,
        from: u64,
        max: u32,
    ) -> Option<u64> {
        let max = max as usize;
        let members: Vec<u64> = self.consumer.start_members(from, max).collect();
        self.look_up(now, index, &members);
        members.last().filter(|_| members.len() == max).map(|last| last + 1)
    }

    /// Tells it what else left the stream while it was not among the stream's consumers.
    pub fn catch_up(&mut self, now: Timestamp, index: &StreamIndex) {
        let mut kept = Vec::new();
        self.consumer.kept(&mut kept);
        self.look_up(now, index, &kept);
    }

    fn look_up(&mut self, now: Timestamp, index: &StreamIndex, seqs: &[u64]) {
        for &seq in seqs {
            if seq <= index.last_seq() && !index.is_live(seq) {
                self.consumer.removed(now, seq);
            }
        }
    }
}

/// A delta that was taken and is not in the log.
pub struct Unwritten {
    /// What it covers.
    pub mark: DeltaMark,
    /// The body of its record.
    pub body: Vec<u8>,
    /// Who waits for it.
    pub answers: Vec<Requester>,
}

/// The consumers of one stream.
#[derive(Default)]
pub struct Consumers {
    /// By slot.
    pub slab: slab::Slab<ShardConsumer>,
    /// Slots by name.
    pub by_name: BTreeMap<Box<str>, usize>,
    /// Slots by id.
    pub by_id: HashMap<ConsumerId, usize, FixedState>,
    /// What they count.
    pub groups: FilterGroups,
    by_handle: HashMap<u32, usize, FixedState>,
    /// Slots to be driven.
    pub ready: Vec<usize>,
    /// Names whose creation, update or removal did not take effect yet: what else would change them
    /// waits for that.
    pub in_flight: Vec<Box<str>>,
    touched: Vec<Handle>,
}

impl Consumers {
    /// Adds a consumer that counts `pending` messages from `position` on.
    pub fn insert(
        &mut self,
        mut cell: ShardConsumer,
        position: u64,
        pending: u64,
        last: u64,
    ) -> usize {
        let filters: Vec<Vec<u8>> =
            cell.config.filters().iter().map(|f| f.clone().into_bytes()).collect();
        cell.handle = self.groups.add(&filters, position, pending, last);
        self.groups.watch(cell.handle, cell.consumer.watched());
        let (name, id, handle) = (cell.name.clone(), cell.id, cell.handle);
        let slot = self.slab.insert(cell);
        self.by_name.insert(name, slot);
        self.by_id.insert(id, slot);
        self.by_handle.insert(handle.0, slot);
        slot
    }

    /// Takes a consumer out.
    pub fn remove(&mut self, slot: usize) -> ShardConsumer {
        let cell = self.slab.remove(slot);
        self.groups.remove(cell.handle);
        self.by_name.remove(&cell.name);
        self.by_id.remove(&cell.id);
        self.by_handle.remove(&cell.handle.0);
        self.ready.retain(|&s| s != slot);
        cell
    }

    /// A message was stored.
    #[inline]
    pub fn appended(&mut self, id: SubjectId, subject: &[u8], seq: u64) {
        if self.slab.is_empty() {
            return;
        }
        let Consumers { groups, by_handle, slab, ready, .. } = self;
        groups.appended(id.0, subject, seq, |handle| {
            let Some(&slot) = by_handle.get(&handle.0) else { return };
            let cell = &mut slab[slot];
            cell.consumer.arrived();
            if !cell.queued {
                cell.queued = true;
                ready.push(slot);
            }
        });
    }

    /// A message left the stream.
    pub fn removed(&mut self, now: Timestamp, index: &StreamIndex, id: SubjectId, seq: u64) {
        if self.slab.is_empty() {
            return;
        }
        let (name, freed) = index.subjects().name_of_removed(id);
        self.groups.removed(id.0, name, seq);
        if freed {
            self.groups.forget_subject(id.0);
        }
        let mut touched = std::mem::take(&mut self.touched);
        self.groups.watchers(seq, &mut touched);
        for handle in touched.drain(..) {
            let Some(&slot) = self.by_handle.get(&handle.0) else { continue };
            let cell = &mut self.slab[slot];
            cell.consumer.removed(now, seq);
            self.groups.watch(handle, cell.consumer.watched());
            self.queue(slot);
        }
        self.touched = touched;
    }

    /// A purge with this filter is over and the stream begins at `first`: consumers of what was
    /// purged that stand below move on.
    pub fn purged_below(&mut self, first: u64, filter: &[u8]) {
        let mut touched = std::mem::take(&mut self.touched);
        self.groups.concerned_below(first, &mut touched);
        for handle in touched.drain(..) {
            let Some(&slot) = self.by_handle.get(&handle.0) else { continue };
            let cell = &mut self.slab[slot];
            if !is_concerned(cell.config.filters(), filter) {
                continue;
            }
            cell.consumer.purged_below(first);
            self.groups.moved(handle, cell.consumer.progress());
            self.groups.watch(handle, cell.consumer.watched());
            self.queue(slot);
        }
        self.touched = touched;
    }

    /// A purge is over: see [`Consumer::settle`]. The slots of those that changed.
    pub fn settle(&mut self, filter: &[u8]) -> Vec<usize> {
        let mut changed = Vec::new();
        for &slot in self.by_name.values() {
            let cell = &mut self.slab[slot];
            if is_concerned(cell.config.filters(), filter) {
                cell.consumer.settle();
                if cell.consumer.is_dirty() {
                    changed.push(slot);
                }
            }
        }
        changed
    }

    /// Puts a consumer into the list of those to be driven.
    pub fn queue(&mut self, slot: usize) {
        let cell = &mut self.slab[slot];
        if !cell.queued {
            cell.queued = true;
            self.ready.push(slot);
        }
    }

    /// Whether something that would change a consumer has to wait.
    pub fn is_changing(&self, name: &str) -> bool {
        self.in_flight.iter().any(|n| **n == *name)
    }

    /// A change took effect.
    pub fn changed(&mut self, name: &str) {
        self.in_flight.retain(|n| **n != *name);
    }

    /// Consumers with those that are on their way.
    pub fn count(&self) -> usize {
        let new = self.in_flight.iter().filter(|n| !self.by_name.contains_key(&***n));
        self.slab.len() + new.count()
    }

    /// A consumer's slot by its name. One that counts what is pending, for the first time or for
    /// another filter, is waited for.
    pub fn find_joined(&self, name: &str) -> Result<Option<usize>, Wait> {
        match self.find(name) {
            None if self.is_changing(name) => Err(Wait::Changed),
            found => Ok(found),
        }
    }

    /// A consumer's slot by its name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// Whether a purge with this filter (empty for everything) takes what a consumer with `filters`
/// wants.
fn is_concerned(filters: &[String], filter: &[u8]) -> bool {
    let overlaps = |own: &String| subject::overlaps(own.as_bytes(), filter);
    filter.is_empty() || filters.is_empty() || filters.iter().any(overlaps)
}
