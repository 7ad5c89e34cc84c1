//! A stream's consumers: who there is, what they count, whose turn it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use corelane_storage::index::{FilterSet, Location, StreamIndex, SubjectId};
use corelane_storage::log::ReadId;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::api::json::to_json;
use crate::api::types::{ConsumerConfig, StreamConfig};
use crate::consumer::pending::{FilterGroups, Handle};
use crate::consumer::{ConsumerSettings, Corrupt, Delivery, Ledger};
use crate::interest::WatchId;
use crate::shard::groups::{GROUPS, GroupName};
use crate::shard::mailbox::Requester;
use crate::shard::records::checkpoint::ConsumerState;
use crate::shard::request::Wait;
use crate::shard::state::read_ahead::ReadAhead;
use crate::subject;
use crate::types::{ConsumerId, StreamId, Timestamp, WallTime};

/// What is watched for a push consumer.
#[derive(Clone, Debug)]
pub struct Watch {
    pub id: WatchId,
    pub subject: String,
    pub group: String,
}

/// What consumers have to log.
#[derive(Debug, Default)]
pub struct Deltas {
    groups: [GroupDeltas; GROUPS.len()],
    /// The turn had no time for all of them.
    pub wait: bool,
}

/// Consumers of all streams that have something to be done.
#[derive(Default)]
pub struct ConsumerQueues {
    /// Slots of streams with something for their consumers.
    pub active: Vec<usize>,
    /// When consumers are to be ticked.
    pub timers: BTreeSet<(Timestamp, StreamId, ConsumerId)>,
    /// Consumers that were inactive for too long.
    pub expired: Vec<(StreamId, ConsumerId)>,
    /// What they have to log.
    pub deltas: Deltas,
    /// Consumers that wait for a read.
    pub blocked: Vec<(ReadId, StreamId, ConsumerId)>,
    /// Watched deliver subjects.
    pub watches: BTreeMap<WatchId, (StreamId, ConsumerId)>,
    /// The id of the next one that is created.
    pub next_id: u64,
    /// Consumers that recovery found; they join at the start.
    pub recovered: Vec<(StreamId, ConsumerId)>,
}

/// Of the consumers of one group.
#[derive(Debug, Default)]
pub struct GroupDeltas {
    /// Deltas that are not applied yet.
    pub in_flight: usize,
    /// Consumers with something to log.
    pub dirty: BTreeSet<(StreamId, ConsumerId)>,
    /// Whose delta was logged last: those behind come next.
    pub last: Option<(StreamId, ConsumerId)>,
}

impl Deltas {
    /// Those of one group.
    #[inline]
    pub fn of(&mut self, group: GroupName) -> &mut GroupDeltas {
        &mut self.groups[group as usize]
    }
}

impl GroupDeltas {
    /// The next consumer with something to log.
    pub fn next(&self) -> Option<(StreamId, ConsumerId)> {
        let behind = match self.last {
            Some(last) => self.dirty.range((Bound::Excluded(last), Bound::Unbounded)),
            None => self.dirty.range(..),
        };
        behind.chain(self.dirty.first()).next().copied()
    }
}

/// One consumer with all that belongs to it.
pub struct ShardConsumer {
    /// Its id.
    pub id: ConsumerId,
    /// Its name.
    pub name: Box<str>,
    /// Its configuration, normalised.
    pub config: ConsumerConfig,
    /// Its name was made up since the start: as in nats-server, its configuration is shown without
    /// it until a restart.
    pub unnamed: bool,
    /// When it was created.
    pub created: WallTime,
    /// Its state, as the log has it.
    pub ledger: Ledger,
    /// Its delivering side, where its group is led.
    pub delivery: Option<Delivery>,
    /// What it wants of the stream.
    pub filter: FilterSet,
    /// Its place among those that count; of one that has not joined them, none of these.
    pub handle: Handle,
    /// It stands in the list of those to be driven.
    pub queued: bool,
    /// Its drive waits for this read.
    pub blocked: Option<ReadId>,
    /// What it wants next could not be read: it tries again then.
    pub retry_at: Option<Timestamp>,
    /// What it knows of its receivers.
    pub pace: Pace,
    /// Where a scan for its next message goes on.
    pub scan_from: u64,
    /// How far what it will want is read already.
    pub ahead: ReadAhead,
    /// Answers that wait for the next delta.
    pub held: Vec<Requester>,
    /// The deadline under which it stands in the shard's timers.
    pub timer: Option<Timestamp>,
    /// The watch of its deliver subject.
    pub watch: Option<Watch>,
    /// The group to watch the deliver subject with, where it is not the configuration's.
    pub watch_group: Option<String>,
    /// What checkpoints have of it.
    pub checkpointed: ConsumerCheckpoint,
}

/// No receiver was ever slow.
pub const NO_PRESSURE: u64 = 0;
/// A pressure that there never is.
pub const UNKNOWN: u64 = u64::MAX;

/// What a consumer knows of its receivers.
#[derive(Debug, Default)]
pub struct Pace {
    /// The pressure at which they took more.
    pub clear_at: u64,
    /// That of the last question.
    pub asked_at: u64,
    /// Questions asked.
    pub asked: u64,
    /// Answers to the last one that are still to come.
    pub answers: u32,
}

impl Pace {
    /// Its receivers are others from now on.
    pub fn forget(&mut self) {
        self.clear_at = UNKNOWN;
    }
}

/// A consumer as its record has it.
pub struct NewConsumer {
    /// Its id.
    pub id: ConsumerId,
    /// Its name.
    pub name: String,
    /// Its configuration, normalised.
    pub config: ConsumerConfig,
    /// When it was created.
    pub created: WallTime,
    /// Its first delta; empty if it has a record of its own.
    pub start: Vec<u8>,
}

/// What checkpoints have of one consumer.
#[derive(Debug, Default)]
pub struct ConsumerCheckpoint {
    /// The last checkpoint that has it, or for which it was frozen.
    pub epoch: u32,
    /// The checkpoint during which it appeared: it is not part of that one.
    pub born: u32,
    /// Its state at the freeze, encoded, if it changed since.
    pub before: Option<Vec<u8>>,
    /// Its state is newer than the one that the checkpoints have.
    pub changed: bool,
    /// Where that lies.
    pub location: Option<Location>,
}

/// A consumer's configuration as the log keeps it: with its name, also if the server made that up.
pub fn stored_config(name: &str, config: &ConsumerConfig) -> ConsumerConfig {
    ConsumerConfig { name: name.to_owned(), ..config.clone() }
}

/// What a consumer wants of its stream.
pub fn filters_of(config: &ConsumerConfig) -> FilterSet {
    match config.filters() {
        [] => FilterSet::all(),
        filters => FilterSet::new(filters),
    }
}

impl ShardConsumer {
    /// A consumer as its record has it. Nobody delivers for it yet, and it has not joined the
    /// others of its stream.
    pub fn new(stream: &StreamConfig, consumer: NewConsumer) -> Result<Self, Corrupt> {
        let NewConsumer { id, name, config, created, start } = consumer;
        let mut ledger = Ledger::new(ConsumerSettings::of(stream, &name, &config));
        if !start.is_empty() {
            ledger.apply(&start)?;
        }
        Ok(ShardConsumer {
            id,
            name: name.into(),
            filter: filters_of(&config),
            config,
            unnamed: false,
            created,
            ledger,
            delivery: None,
            handle: NOT_JOINED,
            queued: false,
            blocked: None,
            retry_at: None,
            pace: Pace::default(),
            scan_from: 0,
            ahead: Default::default(),
            held: Vec::new(),
            timer: None,
            watch: None,
            watch_group: None,
            checkpointed: Default::default(),
        })
    }

    /// Whether it has something to log, or a requester waits for that.
    pub fn owes(&self) -> bool {
        self.delivery.as_ref().is_some_and(Delivery::is_dirty) || !self.held.is_empty()
    }

    /// Its configuration as requests see it.
    pub fn shown_config(&self) -> ConsumerConfig {
        let mut config = self.config.clone();
        if self.unnamed {
            config.name.clear();
        }
        config
    }

    /// Whether it counts what is pending and is found by its name.
    pub fn has_joined(&self) -> bool {
        self.handle != NOT_JOINED
    }

    /// A checkpoint's record of it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut snapshot = Vec::new();
        self.ledger.encode(&mut snapshot);
        let json = to_json(&stored_config(&self.name, &self.config));
        let created = self.created.0;
        ConsumerState { created, applied_below: None, json: &json, snapshot: &snapshot }
            .encode(out);
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
        let members: Vec<u64> = self.ledger.start_members(from, max).collect();
        self.look_up(now, index, &members);
        members.last().filter(|_| members.len() == max).map(|last| last + 1)
    }

    /// Tells it what else left the stream while it was not among the stream's consumers.
    pub fn catch_up(&mut self, now: Timestamp, index: &StreamIndex) {
        let mut kept = Vec::new();
        if let Some(delivery) = &self.delivery {
            delivery.kept(&mut kept);
        }
        self.look_up(now, index, &kept);
    }

    fn look_up(&mut self, now: Timestamp, index: &StreamIndex, seqs: &[u64]) {
        let Some(delivery) = &mut self.delivery else { return };
        for &seq in seqs {
            if seq <= index.last_seq() && !index.is_live(seq) {
                delivery.removed(now, seq);
            }
        }
    }
}

/// The handle of a consumer that counts what is pending before it joins the others.
pub const NOT_JOINED: Handle = Handle(u32::MAX);

/// The consumers of one stream.
#[derive(Default)]
pub struct Consumers {
    /// By slot, those included that have not joined the others yet.
    pub slab: slab::Slab<ShardConsumer>,
    /// Slots of those that have, by name.
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
    in_flight: BTreeSet<Box<str>>,
    /// How many of them are not among `by_name`.
    new: usize,
    /// Those of them that cannot count because the index cannot be read.
    pub unreadable: Vec<Box<str>>,
    touched: Vec<Handle>,
}

impl Consumers {
    /// Adds a consumer that has not joined the others.
    pub fn insert(&mut self, consumer: ShardConsumer) -> usize {
        let id = consumer.id;
        let slot = self.slab.insert(consumer);
        self.by_id.insert(id, slot);
        slot
    }

    /// A consumer joins the others: it counts `pending` messages from `position` on.
    pub fn join(&mut self, slot: usize, position: u64, pending: u64, last: u64) {
        let consumer = &mut self.slab[slot];
        let filters: Vec<Vec<u8>> =
            consumer.config.filters().iter().map(|f| f.clone().into_bytes()).collect();
        consumer.handle = self.groups.add(&filters, position, pending, last);
        self.groups.watch(consumer.handle, consumer.delivery.as_ref().and_then(Delivery::watched));
        if self.by_name.insert(consumer.name.clone(), slot).is_none() {
            self.new -= usize::from(self.in_flight.contains(&consumer.name));
        }
        self.by_handle.insert(consumer.handle.0, slot);
    }

    /// A consumer leaves the others, to count anew or for good.
    pub fn leave(&mut self, slot: usize) {
        let consumer = &mut self.slab[slot];
        let handle = std::mem::replace(&mut consumer.handle, NOT_JOINED);
        let was_queued = std::mem::take(&mut consumer.queued);
        if self.by_handle.remove(&handle.0).is_some() {
            self.groups.remove(handle);
            if self.by_name.remove(&consumer.name).is_some() {
                self.new += usize::from(self.in_flight.contains(&consumer.name));
            }
        }
        if was_queued {
            self.ready.retain(|&s| s != slot);
        }
    }

    /// Takes a consumer out.
    pub fn remove(&mut self, slot: usize) -> ShardConsumer {
        self.leave(slot);
        let consumer = self.slab.remove(slot);
        self.by_id.remove(&consumer.id);
        consumer
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
            let consumer = &mut slab[slot];
            if let Some(delivery) = &mut consumer.delivery {
                delivery.arrived();
            }
            if !consumer.queued {
                consumer.queued = true;
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
            let Some(delivery) = &mut self.slab[slot].delivery else { continue };
            delivery.removed(now, seq);
            self.groups.watch(handle, delivery.watched());
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
            let consumer = &mut self.slab[slot];
            if !is_concerned(consumer.config.filters(), filter) {
                continue;
            }
            let Some(delivery) = &mut consumer.delivery else { continue };
            delivery.purged_below(first);
            self.groups.moved(handle, delivery.progress());
            self.groups.watch(handle, delivery.watched());
            self.queue(slot);
        }
        self.touched = touched;
    }

    /// A purge is over: see [`Delivery::settle`]. The slots of those that changed.
    pub fn settle(&mut self, filter: &[u8]) -> Vec<usize> {
        let mut changed = Vec::new();
        for &slot in self.by_name.values() {
            let consumer = &mut self.slab[slot];
            let Some(delivery) = &mut consumer.delivery else { continue };
            if is_concerned(consumer.config.filters(), filter) {
                delivery.settle();
                if delivery.is_dirty() {
                    changed.push(slot);
                }
            }
        }
        changed
    }

    /// Puts a consumer into the list of those to be driven.
    pub fn queue(&mut self, slot: usize) {
        let consumer = &mut self.slab[slot];
        if !consumer.queued {
            consumer.queued = true;
            self.ready.push(slot);
        }
    }

    /// Whether something that would change a consumer has to wait.
    pub fn is_changing(&self, name: &str) -> bool {
        self.in_flight.contains(name)
    }

    /// None of them is to be driven any more: they are about to be removed. Answers their slots.
    pub fn rest_all(&mut self) -> Vec<usize> {
        self.ready.clear();
        let rest = |(slot, consumer): (usize, &mut ShardConsumer)| {
            consumer.queued = false;
            slot
        };
        self.slab.iter_mut().map(rest).collect()
    }

    /// A change of a consumer, or its creation, is on its way.
    pub fn begin_change(&mut self, name: Box<str>) {
        let is_new = !self.by_name.contains_key(&name);
        if self.in_flight.insert(name) {
            self.new += usize::from(is_new);
        }
    }

    /// A change took effect.
    pub fn changed(&mut self, name: &str) {
        if self.in_flight.remove(name) {
            self.new -= usize::from(!self.by_name.contains_key(name));
        }
        self.unreadable.retain(|n| **n != *name);
    }

    /// What a request about a changing consumer waits for.
    pub fn until_changed(&self, name: &str) -> Wait {
        let unreadable = self.unreadable.iter().any(|n| **n == *name);
        if unreadable { Wait::Unreadable } else { Wait::Changed }
    }

    /// Consumers with those that are on their way.
    pub fn count(&self) -> usize {
        self.by_name.len() + self.new
    }

    /// A consumer's slot by its name. One that counts what is pending, for the first time or for
    /// another filter, is waited for.
    pub fn find_joined(&self, name: &str) -> Result<Option<usize>, Wait> {
        match self.find(name) {
            None if self.is_changing(name) => Err(self.until_changed(name)),
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
