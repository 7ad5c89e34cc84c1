//! Opening a shard: the checkpoint is loaded, what follows it is replayed.

pub(in crate::shard) mod load;
mod replay;

use std::collections::BTreeMap;

use corelane_storage::device::Blocking;
use corelane_storage::index::{Location, RemovedMessage, SubjectCursor};
use corelane_storage::record::{MessageIn, MetaIn, RecordIn};
use corelane_storage::recovery::{Damage, Recovery, Replayed, Report};
use corelane_storage::types::Position;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::consumer::{Delivery, rate_burst_bytes};
use crate::meta::{Catalogue, Record, StreamEntry};
use crate::replication::{FILE_GROUP, META_GROUP};
use crate::shard::apply::removals::{Progress, RemovalSink};
use crate::shard::effects::ShardEffects;
use crate::shard::groups::Groups;
use crate::shard::groups::removal::Removal;
use crate::shard::mailbox::ShardMessage;
use crate::shard::records::checkpoint::{ReplayedPlace, Upto};
use crate::shard::records::{BEGUN, kind};
use crate::shard::state::Shard;
use crate::shard::state::catalogue::{ACCOUNT, Decided, Meta};
use crate::shard::state::checkpoint::{Checkpointer, Loaded};
use crate::shard::state::compaction::Sort;
use crate::shard::state::consumers::ConsumerQueues;
use crate::shard::state::options::ShardOptions;
use crate::shard::state::queues::Lifecycle;
use crate::shard::state::stream::{ShardStream, subject_count};
use crate::shard::state::unreadable::Unreadable;
use crate::types::{
    Clocks, ConsumerId, GroupId, LogIndex, SegmentId, ShardId, StreamId, Timestamp,
};

/// An opened shard, and what the operator should know.
pub struct Opened {
    /// The shard.
    pub shard: Shard,
    /// Lines for the log.
    pub lines: Vec<String>,
}

/// The state that replay builds.
pub(in crate::shard) struct Replay<'a> {
    pub options: &'a ShardOptions,
    pub streams: slab::Slab<ShardStream>,
    pub slots: HashMap<StreamId, usize, FixedState>,
    pub catalogue: Catalogue,
    pub live: BTreeMap<SegmentId, i64>,
    pub buried: Vec<usize>,
    /// The last entry of each group.
    pub last_index: BTreeMap<GroupId, LogIndex>,
    /// The store was written by a release of format 1.
    pub format_1: bool,
    pub next_consumer: u64,
    pub stopped_clean: bool,
    pub lines: Vec<String>,
    /// Of a checkpoint of format 1: records about these consumers below these indices are part of
    /// it.
    pub applied_below: BTreeMap<(StreamId, ConsumerId), u64>,
    pub loaded: Option<Loaded>,
    /// What the checkpoint names and could not be read.
    pub unreadable: Unreadable,
    /// Records of the checkpoint that the next one no longer names.
    pub orphans: Vec<Location>,
    /// Records and bytes that were replayed.
    replayed: (u64, u64),
    /// What the last record removes, and from which slot.
    unfinished: Option<(usize, Removal)>,
}

impl Shard {
    /// Opens the shard that lies on `dev`, or makes it.
    pub fn open(
        dev: &mut impl Blocking,
        options: ShardOptions,
        now: Timestamp,
    ) -> Result<Opened, String> {
        let text = |e: &dyn std::fmt::Display| format!("shard {}: {e}", options.id.0);
        let mut recovery =
            Recovery::open(dev, options.log.clone(), options.seed).map_err(|e| text(&e))?;
        let mut replay = Replay::new(&options);
        if let Some(checkpoint) = recovery.checkpoint() {
            replay.load(dev, &mut recovery, checkpoint).map_err(|e| text(&e))?;
        }
        loop {
            match recovery.next(dev).map_err(|e| text(&e))? {
                None => break,
                Some(Replayed::Record { frame, write, nth, position, len, record }) => {
                    let place = replay.count_entry(&frame, write, nth);
                    let content = record.content();
                    if matches!(&content, RecordIn::Meta(m) if kind::is_of_checkpoint(m.kind)) {
                        continue;
                    }
                    replay.stopped_clean = false;
                    if replay.passes_over(&content) {
                        continue;
                    }
                    replay.record(&content, place, position).map_err(|e| text(&e))?;
                    replay.replayed.0 += 1;
                    replay.replayed.1 += u64::from(len);
                }
                Some(Replayed::Damaged(damage)) => replay.damaged(&damage),
            }
            replay.settle(dev, &mut recovery).map_err(|e| text(&e))?;
        }
        if replay.format_1 {
            replay.evict_owed(dev, &mut recovery).map_err(|e| text(&e))?;
        }
        let (log, report) = recovery.finish(dev).map_err(|e| text(&e))?;
        replay.keep_damaged(&report);
        let (records, _) = replay.replayed;
        replay.lines.extend(lines_of(&report, options.id));
        let outcome = replay.into_outcome();
        let mut opened = Shard::assemble(options, log, outcome, now);
        if records > 0 {
            let (id, writes) = (opened.shard.id.0, report.writes);
            let line = format!("shard {id}: replayed {records} records in {writes} writes");
            opened.lines.push(line);
        }
        Ok(opened)
    }

    fn assemble(
        options: ShardOptions,
        mut log: corelane_storage::log::Log,
        outcome: Outcome,
        now: Timestamp,
    ) -> Opened {
        let judge_missing = !outcome.buried.is_empty();
        let lines = restore_live(&mut log, &outcome.live, outcome.lines, judge_missing);
        let meta = (options.id == ShardId(0))
            .then(|| Meta::new(outcome.catalogue, options.meta_limits, options.shards));
        let last = |group| outcome.last_index.get(&group).copied().unwrap_or_default();
        let mut unreadable = outcome.unreadable;
        unreadable.judge_missing = judge_missing;
        let mut shard = Shard {
            id: options.id,
            random: options.seed ^ 0x9e37_79b9_7f4a_7c15,
            options,
            log,
            device: Default::default(),
            groups: Groups::new(last(META_GROUP), last(FILE_GROUP)),
            applying: Default::default(),
            streams: outcome.streams,
            slots: Default::default(),
            names: Default::default(),
            requests: Default::default(),
            parked: Default::default(),
            consumers: ConsumerQueues { next_id: outcome.next_consumer, ..Default::default() },
            jobs: Default::default(),
            meta,
            decisions: Default::default(),
            checkpoint: Checkpointer::recovered(outcome.loaded, outcome.orphans, outcome.replayed),
            reclaim: Default::default(),
            sort: Sort::new(now),
            space: Default::default(),
            unreadable,
            lifecycle: Lifecycle { stopped_clean: outcome.stopped_clean, ..Default::default() },
            credit: Vec::new(),
            scratch: Vec::new(),
            pages_read: 0,
            tally: Default::default(),
            turn: Default::default(),
            clocks: Clocks::level(now),
        };
        shard.register_streams();
        shard.consumers.recovered = shard.all_consumers();
        outcome.buried.into_iter().for_each(|slot| shard.start_stream_removal(slot));
        Opened { shard, lines }
    }

    /// The consumers of all streams, in order.
    fn all_consumers(&self) -> Vec<(StreamId, ConsumerId)> {
        let slots = self.slots.values().map(|&slot| &self.streams[slot]);
        let of =
            |s: &'_ ShardStream| s.consumers.by_id.keys().map(|&c| (s.id, c)).collect::<Vec<_>>();
        let mut all: Vec<_> = slots.flat_map(of).collect();
        all.sort_unstable();
        all
    }

    /// What the streams hold, and how they are found.
    fn register_streams(&mut self) {
        for (slot, stream) in self.streams.iter() {
            self.space.here[usize::from(!stream.is_memory())] += stream.index.bytes();
            if !stream.removing {
                self.slots.insert(stream.id, slot);
                self.names.insert(stream.config.name.as_bytes().into(), slot);
            }
        }
    }

    /// Once what was removed before a restart is buried: what is still missing is lost.
    pub(in crate::shard) fn report_missing(&mut self, out: &mut impl ShardEffects) {
        if self.unreadable.judge_missing && self.streams.iter().all(|(_, c)| !c.removing) {
            self.unreadable.judge_missing = false;
            for (segment, live) in self.log.missing() {
                out.log(missing(segment, live));
            }
        }
    }

    /// The node starts: reactors learn of the streams, shards what the catalogue has of them.
    pub fn start(&mut self, now: Timestamp, out: &mut impl ShardEffects) {
        let ids: Vec<StreamId> =
            self.streams.iter().filter(|(_, c)| !c.removing).map(|(_, c)| c.id).collect();
        for id in ids {
            self.place(id, false, out);
            if let Some(&slot) = self.slots.get(&id) {
                self.streams[slot].admission.take_over(now);
                self.watch_age(slot);
                if self.streams[slot].enforcing {
                    self.start_enforcement(slot);
                }
            }
        }
        if !self.consumers.recovered.is_empty() {
            self.record_begin();
        }
        for (stream, consumer) in std::mem::take(&mut self.consumers.recovered) {
            self.lead_consumer(now, stream, consumer);
        }
        self.log.free_dead(&mut self.device.ops);
        if let Some(meta) = &self.meta {
            for shard in (0..self.options.shards).map(ShardId) {
                let deleted = meta.catalogue.deleted().filter(|(_, s)| *s == shard);
                let deleted = deleted.map(|(id, _)| id).collect();
                let entries = meta.entries_of(shard);
                out.send_to_shard(shard, ShardMessage::Reconcile { entries, deleted });
            }
            for (id, shard) in meta.catalogue.deleted() {
                let record = Box::new(Record::Delete { id, shard });
                out.send_to_shard(shard, ShardMessage::Catalogue { record, requester: None });
            }
        }
    }

    /// Begins to deliver for a consumer from its ledger, to which all is applied that its group has
    /// committed: recovery found it, or somebody else delivered for it before.
    pub(in crate::shard) fn lead_consumer(
        &mut self,
        now: Timestamp,
        stream: StreamId,
        consumer: ConsumerId,
    ) {
        let Some((slot, at)) = self.locate(stream, consumer) else { return };
        let group = self.streams[slot].group();
        let ShardStream { consumers, index, config, .. } = &mut self.streams[slot];
        let c = &mut consumers.slab[at];
        let burst = rate_burst_bytes(config, self.options.max_payload);
        let seed = self.options.seed ^ consumer.0;
        let mut delivery = Delivery::new(&c.ledger, now, seed, burst);
        if !self.lifecycle.stopped_clean {
            delivery.jump(index.last_seq());
        }
        delivery.purged_below(index.first_seq());
        c.delivery = Some(delivery);
        c.catch_up(now, index);
        if c.owes() {
            // The jump must be in the log even if nothing else happens before a stop.
            self.consumers.deltas.of(group).dirty.insert((stream, consumer));
        }
        consumers.begin_change(consumers.slab[at].name.clone());
        self.start_count(stream, consumer, None);
    }

    /// What the catalogue says this shard has, against what it has.
    pub(in crate::shard) fn reconcile(
        &mut self,
        entries: Vec<StreamEntry>,
        deleted: &[StreamId],
        out: &mut impl ShardEffects,
    ) {
        let mut known: Vec<StreamId> = Vec::new();
        for entry in entries {
            known.push(entry.id);
            let account = ACCOUNT.to_owned();
            let record = match self.slots.get(&entry.id) {
                None => Record::Create { account, entry },
                Some(&slot) if self.streams[slot].config != entry.config => {
                    Record::Update { account, id: entry.id, config: entry.config }
                }
                Some(_) => continue,
            };
            self.decided(Decided::Change { record: Box::new(record), requester: None });
        }
        for (_, stream) in self.streams.iter().filter(|(_, c)| !c.removing) {
            if !known.contains(&stream.id) && !deleted.contains(&stream.id) {
                out.log(format!(
                    "stream '{}' is on shard {} but not in the catalogue; it is kept",
                    stream.config.name, self.id.0
                ));
            }
        }
    }
}

/// What opening the log found and mended, or left alone.
fn lines_of(report: &corelane_storage::recovery::Report, shard: ShardId) -> Vec<String> {
    let mut lines = Vec::new();
    if report.superblock_repaired {
        let id = shard.0;
        lines.push(format!(
            "shard {id}: a copy of the superblock was damaged; it was written again from the other"
        ));
    }
    for slot in &report.unidentified {
        lines.push(format!(
            "shard {}: the header of segment file {slot:08x} is damaged; it is left as it is",
            shard.0
        ));
    }
    lines
}

fn missing(segment: SegmentId, live: u64) -> String {
    format!("segment {} is missing with {live} bytes in it", segment.0)
}

/// Tells the log what lives, and the operator what is missing. What removed streams still count may
/// have been freed already: it is judged once they are buried.
fn restore_live(
    log: &mut corelane_storage::log::Log,
    live: &BTreeMap<SegmentId, i64>,
    mut lines: Vec<String>,
    judge_missing: bool,
) -> Vec<String> {
    for (segment, bytes) in live {
        log.restore_live(*segment, u64::try_from(*bytes).unwrap_or(0));
    }
    for (segment, bytes) in log.finish_restore() {
        if !judge_missing {
            lines.push(missing(segment, bytes));
        }
    }
    lines
}

/// What replay built.
struct Outcome {
    streams: slab::Slab<ShardStream>,
    catalogue: Catalogue,
    live: BTreeMap<SegmentId, i64>,
    buried: Vec<usize>,
    last_index: BTreeMap<GroupId, LogIndex>,
    stopped_clean: bool,
    next_consumer: u64,
    lines: Vec<String>,
    loaded: Option<Loaded>,
    unreadable: Unreadable,
    orphans: Vec<Location>,
    replayed: u64,
}

impl<'a> Replay<'a> {
    fn new(options: &'a ShardOptions) -> Self {
        Replay {
            options,
            streams: slab::Slab::new(),
            slots: HashMap::default(),
            catalogue: Catalogue::new(options.shards),
            live: BTreeMap::new(),
            buried: Vec::new(),
            last_index: BTreeMap::new(),
            format_1: false,
            next_consumer: 1,
            stopped_clean: false,
            lines: Vec::new(),
            applied_below: BTreeMap::new(),
            loaded: None,
            unreadable: Unreadable::default(),
            orphans: Vec::new(),
            replayed: (0, 0),
            unfinished: None,
        }
    }
}

impl Replay<'_> {
    fn into_outcome(self) -> Outcome {
        Outcome {
            streams: self.streams,
            catalogue: self.catalogue,
            live: self.live,
            buried: self.buried,
            last_index: self.last_index,
            next_consumer: self.next_consumer,
            stopped_clean: self.stopped_clean,
            lines: self.lines,
            loaded: self.loaded,
            unreadable: self.unreadable,
            orphans: self.orphans,
            replayed: self.replayed.1,
        }
    }

    fn damaged(&mut self, damage: &Damage) {
        self.lines.push(format!(
            "shard {}: {} bytes at segment {} offset {} are damaged; nothing was deleted",
            self.options.id.0, damage.len, damage.position.segment.0, damage.position.offset
        ));
    }

    /// Whether a record is about a consumer that is set aside. It is not counted as live: replay of
    /// a later checkpoint does not come to it, and it would keep its segment for nobody. A consumer
    /// that it removes does not come back when its state can be read.
    fn passes_over(&mut self, content: &RecordIn<'_>) -> bool {
        let concerns = self.unreadable.concerns(content);
        if let RecordIn::Meta(m) = content
            && concerns
            && m.kind == kind::CONSUMER_REMOVED
        {
            let consumer = (StreamId(m.stream), ConsumerId(m.id));
            self.orphans.extend(self.unreadable.consumers.remove(&consumer));
        }
        concerns
    }

    /// Evictions that waited for pages left no record.
    fn evict_owed<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
    ) -> Result<(), String> {
        let mut slots: Vec<usize> = self.slots.values().copied().collect();
        slots.sort_unstable();
        for slot in slots {
            self.unfinished = Some((slot, self.all_over_limits(slot)));
            self.settle(dev, recovery)?;
        }
        Ok(())
    }

    /// What does not verify is kept: its segments count something that never dies.
    fn keep_damaged(&mut self, report: &Report) {
        for segment in &report.damaged_segments {
            *self.live.entry(*segment).or_default() += 1;
        }
        let id = self.options.id.0;
        for file in &report.unidentified {
            self.lines
                .push(format!("shard {id}: file {file:08x} has no readable header; left alone"));
        }
        if report.superblock_repaired {
            self.lines
                .push(format!("shard {id}: one copy of the superblock was bad; written again"));
        }
    }
}
