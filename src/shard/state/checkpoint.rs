//! What a shard holds of its checkpoints: the one that is being written, the one that is durable,
//! and of each stream where its records lie and what changed since.

use std::collections::BTreeMap;

use corelane_storage::index::{Location, PageKey};
use corelane_storage::log::AppendError;
use corelane_storage::superblock::ReplayPoint;

use crate::shard::records::checkpoint::{DedupePage, GroupState, Root, Upto};
use crate::types::{ConsumerId, Position, SegmentId, Timestamp};

/// Decides when checkpoints are made, and makes them.
#[derive(Default)]
pub struct Checkpointer {
    /// Checkpoints that became durable since the start.
    pub made: u64,
    pub epoch: u32,
    pub last_id: u64,
    pub run: Option<Box<CheckpointRun>>,
    pub committing: Option<CommittingCheckpoint>,
    pub durable: Option<u64>,
    /// Where eviction goes on.
    pub evicting: Option<usize>,
    /// Bytes appended since the last freeze that replay would read.
    pub appended: u64,
    /// What of that stands for relocations alone: each asks for a checkpoint that frees its source.
    pub relocations: u64,
    pub seen: u64,
    pub changed_at: Timestamp,
    pub begun_at: Timestamp,
    pub retry_at: Option<Timestamp>,
    pub last_bytes: u64,
    /// Make one as soon as there is something to write.
    pub wanted: bool,
    /// Stored records that the next checkpoint no longer names.
    pub orphans: Vec<Location>,
    /// The catalogue is newer than the stored one.
    pub catalogue_changed: bool,
    pub catalogue: Vec<Location>,
    pub catalogue_upto: Upto,
    pub root: Option<Location>,
    /// Bytes of resident sequence pages, as last counted.
    pub resident: usize,
    /// The stream that gives up pages next when one is read.
    pub evict_next: usize,
}

/// The checkpoint that recovery began with.
pub struct Loaded {
    /// Its id.
    pub id: u64,
    /// Its root.
    pub root: Location,
    /// The catalogue's records.
    pub catalogue: Vec<Location>,
    /// Catalogue records before this are in them.
    pub catalogue_upto: Upto,
}

/// A checkpoint that waits for its root, and what is dead then.
pub struct CommittingCheckpoint {
    pub id: u64,
    pub superseded: Vec<Location>,
    pub moved: Vec<(SegmentId, u32)>,
    pub holds_entries: bool,
}

/// A checkpoint being written.
pub struct CheckpointRun {
    pub replay: ReplayPoint,
    /// Live bytes by segment: as of the freeze, and what this checkpoint adds and supersedes.
    pub live: BTreeMap<SegmentId, i64>,
    pub superseded: Vec<Location>,
    /// Bytes of records that were relocated before the freeze.
    pub moved: Vec<(SegmentId, u32)>,
    pub root: Root,
    /// It holds more than relocations. What those leave dead is no reason to relocate again: with
    /// small segments that would never end.
    pub holds_entries: bool,
    /// How far the groups were applied at the freeze.
    pub groups: Vec<GroupState>,
    pub stage: CheckpointStage,
    /// The page that was handed out and found no room; its bytes are in `body`.
    pub page: Option<PageKey>,
    pub body: Vec<u8>,
    pub consumers: BTreeMap<ConsumerId, Location>,
    pub bytes: u64,
    pub left: usize,
    pub visits: usize,
}

pub enum CheckpointStage {
    /// The stream in this slot, and what of it.
    Stream(usize, StreamPart),
    /// The catalogue's streams behind this one.
    Catalogue(Option<(String, String)>),
    Root,
}

#[derive(Clone, Copy)]
pub enum StreamPart {
    Index,
    Config,
    Dedupe(u64),
    Consumers(usize),
    State,
}

/// Why a step ended.
pub enum CheckpointPause {
    /// Its budget is used up.
    Budget,
    /// There is no room in the log.
    NoRoom,
}

impl From<AppendError> for CheckpointPause {
    fn from(_: AppendError) -> Self {
        CheckpointPause::NoRoom
    }
}

pub type CheckpointStep<T = ()> = Result<T, CheckpointPause>;

impl CheckpointRun {
    pub fn supersede(&mut self, old: impl IntoIterator<Item = Location>) {
        for l in old {
            *self.live.entry(l.position.segment).or_default() -= i64::from(l.len);
            self.superseded.push(l);
        }
    }

    /// Counts something visited.
    pub fn visit(&mut self) -> CheckpointStep {
        self.visits = self.visits.checked_sub(1).ok_or(CheckpointPause::Budget)?;
        if self.left == 0 { Err(CheckpointPause::Budget) } else { Ok(()) }
    }
}

impl Checkpointer {
    /// Goes on from what recovery loaded; `replayed` bytes were replayed behind it.
    pub fn recovered(loaded: Option<Loaded>, orphans: Vec<Location>, replayed: u64) -> Self {
        let mut c = Checkpointer { appended: replayed, orphans, ..Checkpointer::default() };
        c.catalogue_changed = replayed > 0 || loaded.is_none();
        if let Some(l) = loaded {
            c.last_id = l.id;
            c.root = Some(l.root);
            c.catalogue = l.catalogue;
            c.catalogue_upto = l.catalogue_upto;
        }
        c
    }

    /// A checkpoint is durable.
    pub fn durable(&mut self, id: u64) {
        self.durable = Some(id);
    }

    /// A record was relocated: the next checkpoint frees its source.
    pub fn relocated(&mut self) {
        self.appended += 1;
        self.relocations += 1;
    }

    /// A stream appears.
    pub fn born(&self, stored: &mut StreamCheckpoint) {
        stored.epoch = self.epoch;
        stored.born = self.epoch;
    }

    /// Whether the checkpoint under way has not yet written the stream in this slot.
    pub fn still_needs(&self, slot: usize) -> bool {
        self.run.as_ref().is_some_and(|r| match r.stage {
            CheckpointStage::Stream(at, _) => at <= slot,
            _ => false,
        })
    }

    /// Whether a checkpoint is being written.
    pub fn is_writing(&self) -> bool {
        self.run.is_some()
    }

    /// The catalogue must be written again if it lies here: the segment is to be freed.
    pub fn rewrite_catalogue(&mut self, at: Position) {
        self.catalogue_changed |= self.catalogue.iter().any(|l| l.position == at);
    }

    /// Every stored record that is not a stream's or a consumer's, or not yet dead.
    pub fn locations(&self) -> impl Iterator<Item = Location> + '_ {
        let pages = self.catalogue.iter().chain(&self.orphans).chain(&self.root);
        let run = self.run.iter().flat_map(|r| &r.superseded);
        let waiting = self.committing.iter().flat_map(|c| &c.superseded);
        pages.chain(run).chain(waiting).copied()
    }

    /// Relocated bytes whose sources are not dead yet.
    pub fn moved(&self) -> impl Iterator<Item = (SegmentId, u32)> + '_ {
        let run = self.run.iter().flat_map(|r| &r.moved);
        run.chain(self.committing.iter().flat_map(|c| &c.moved)).copied()
    }

    /// True if none is under way and none is wanted.
    pub fn is_idle(&self) -> bool {
        !(self.is_busy() || self.wanted && self.appended > 0)
    }

    pub fn is_busy(&self) -> bool {
        self.run.is_some() || self.committing.is_some()
    }
}

/// What checkpoints have of one stream.
#[derive(Debug, Default)]
pub struct StreamCheckpoint {
    /// The last checkpoint for which it was frozen, or in which it appeared.
    pub epoch: u32,
    /// The checkpoint during which it appeared: it is not part of that one.
    pub born: u32,
    /// Its last sequence when it was frozen.
    pub last_seq: u64,
    /// Something was stored or removed before the freeze.
    pub moved: bool,
    /// The configuration at the freeze, encoded, if it changed since.
    pub config_before: Option<Vec<u8>>,
    /// The configuration is newer than the stored one.
    pub config_changed: bool,
    /// Where its configuration lies.
    pub config: Option<Location>,
    /// Where its state lies, and the checksum of that.
    pub state: Option<(Location, u64)>,
    /// The pages of its duplicate window.
    pub dedupe: BTreeMap<u64, DedupePage>,
}

impl StreamCheckpoint {
    /// Everything stored but the index and the consumers.
    pub fn locations(&self) -> impl Iterator<Item = Location> + '_ {
        let pages = self.dedupe.values().map(|p| p.location);
        pages.chain(self.config).chain(self.state.map(|(l, _)| l))
    }

    /// The records at `position` must be written again: their segment is to be freed. True if there
    /// is one.
    pub fn rewrite(&mut self, position: Position) -> bool {
        if self.config.is_some_and(|l| l.position == position) {
            self.config_changed = true;
            return true;
        }
        if let Some((l, sum)) = &mut self.state
            && l.position == position
        {
            *sum = !*sum;
            return true;
        }
        let page = self.dedupe.values_mut().find(|p| p.location.position == position);
        if let Some(page) = page {
            page.complete = false;
            self.moved = true;
            return true;
        }
        false
    }
}
