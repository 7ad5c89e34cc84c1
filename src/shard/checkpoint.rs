//! Checkpoints: what lives is written into the log page by page, so that replay begins there.
//!
//! A checkpoint is frozen when everything up to an `Lsn` is applied and nothing behind it; from
//! then on a stream is frozen before it changes, or when its turn comes, whichever is first.
//! Streams, configurations and duplicate windows are those of the freeze. Consumers and the
//! catalogue, which change before their records are durable, are written as they are when their
//! turn comes, with the index of the group up to which records are part of them. The root comes
//! last, so it is durable after everything that it names; what it supersedes is dead when the
//! superblock names it.

use std::collections::BTreeMap;

use corelane_storage::index::{Location, PageKey};
use corelane_storage::log::{AppendError, Commit, SpaceState};
use corelane_storage::record::{MetaIn, RecordIn};
use corelane_storage::superblock::{CheckpointRef, ReplayPoint};

use super::Shard;
use super::bodies::{ConfigBody, kind, put_counted};
use super::consumers::ConsumerCell;
use super::root::{ConsumerState, DedupePage, Root, StreamState};
use crate::api::json::to_json;
use crate::api::types::StorageType;
use crate::meta::Record;
use crate::types::{ConsumerId, Lsn, Position, SegmentId, StreamId, Timestamp};

/// Bytes that one step writes.
const STEP_BYTES: usize = 192 << 10;
/// Streams, consumers and pages that one step visits.
const STEP_VISITS: usize = 128;
/// Nothing is written while more than this waits for the disk.
const UNFLUSHED_MAX: usize = 8 << 20;
/// How soon to try again without space, in nanoseconds.
const RETRY: i64 = 100_000_000;
/// Bytes of a page of the catalogue.
const CATALOGUE_PAGE: usize = 64 << 10;
/// Pages of indexes that one step of eviction may drop, in bytes.
const EVICT_STREAMS: usize = 64;

/// When checkpoints are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// After so many bytes in the log, at least.
    pub bytes_min: u64,
    /// And at most: twice what the last one wrote lies between them.
    pub bytes_max: u64,
    /// After the log was idle for so long, in nanoseconds.
    pub idle_ns: i64,
    /// But not sooner than so long after the last one.
    pub gap_ns: i64,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        CheckpointOptions {
            bytes_min: 96 << 20,
            bytes_max: 256 << 20,
            idle_ns: 250_000_000,
            gap_ns: 5_000_000_000,
        }
    }
}

/// What checkpoints have of one stream.
#[derive(Debug, Default)]
pub struct Stored {
    /// The last checkpoint for which it was frozen, or in which it appeared.
    epoch: u32,
    /// The checkpoint during which it appeared: it is not part of that one.
    born: u32,
    /// Its last sequence when it was frozen.
    last_seq: u64,
    /// Something was stored or removed before the freeze.
    moved: bool,
    /// The configuration at the freeze, encoded, if it changed since.
    config_before: Option<Vec<u8>>,
    /// The configuration is newer than the stored one.
    pub config_changed: bool,
    /// Where its configuration lies.
    pub config: Option<Location>,
    /// Where its state lies, and the checksum of that.
    pub state: Option<(Location, u64)>,
    /// The pages of its duplicate window.
    pub dedupe: BTreeMap<u64, DedupePage>,
}

impl Stored {
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

/// Decides when checkpoints are made, and makes them.
#[derive(Default)]
pub struct Checkpointer {
    epoch: u32,
    last_id: u64,
    run: Option<Box<Run>>,
    committing: Option<Committing>,
    durable: Option<u64>,
    /// Where eviction goes on.
    evicting: Option<usize>,
    /// Bytes appended since the last freeze that replay would read.
    pub appended: u64,
    seen: u64,
    changed_at: Timestamp,
    begun_at: Timestamp,
    retry_at: Option<Timestamp>,
    last_bytes: u64,
    /// Make one as soon as there is something to write.
    pub wanted: bool,
    /// Stored records that the next checkpoint no longer names.
    pub orphans: Vec<Location>,
    /// The catalogue is newer than the stored one.
    pub catalogue_changed: bool,
    catalogue: Vec<Location>,
    catalogue_upto: u64,
    root: Option<Location>,
    /// Bytes of resident sequence pages, as last counted.
    pub resident: usize,
}

/// The checkpoint that recovery began with.
pub struct Loaded {
    /// Its id.
    pub id: u64,
    /// Its root.
    pub root: Location,
    /// The catalogue's records.
    pub catalogue: Vec<Location>,
    /// Catalogue records below this index are in them.
    pub catalogue_upto: u64,
}

/// A checkpoint that waits for its root, and what is dead then.
struct Committing {
    id: u64,
    superseded: Vec<Location>,
    moved: Vec<(SegmentId, u32)>,
}

/// A checkpoint being written.
struct Run {
    replay: ReplayPoint,
    /// Live bytes by segment: as of the freeze, and what this checkpoint adds and supersedes.
    live: BTreeMap<SegmentId, i64>,
    superseded: Vec<Location>,
    /// Bytes of records that were relocated before the freeze.
    moved: Vec<(SegmentId, u32)>,
    root: Root,
    stage: Stage,
    /// The page that was handed out and found no room; its bytes are in `body`.
    page: Option<PageKey>,
    body: Vec<u8>,
    consumers: BTreeMap<ConsumerId, Location>,
    bytes: u64,
    left: usize,
    visits: usize,
}

enum Stage {
    /// The stream in this slot, and what of it.
    Stream(usize, Part),
    /// The catalogue's streams behind this one.
    Catalogue(Option<(String, String)>),
    Root,
}

#[derive(Clone, Copy)]
enum Part {
    Index,
    Config,
    Dedupe(u64),
    Consumers(usize),
    State,
}

/// Why a step ended.
enum Pause {
    /// Its budget is used up.
    Budget,
    /// There is no room in the log.
    NoRoom,
}

impl From<AppendError> for Pause {
    fn from(_: AppendError) -> Self {
        Pause::NoRoom
    }
}

type Step<T = ()> = Result<T, Pause>;

impl Run {
    fn supersede(&mut self, old: impl IntoIterator<Item = Location>) {
        for l in old {
            *self.live.entry(l.position.segment).or_default() -= i64::from(l.len);
            self.superseded.push(l);
        }
    }

    /// Counts something visited.
    fn visit(&mut self) -> Step {
        self.visits = self.visits.checked_sub(1).ok_or(Pause::Budget)?;
        if self.left == 0 { Err(Pause::Budget) } else { Ok(()) }
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

    /// A stream appears.
    pub fn born(&self, stored: &mut Stored) {
        stored.epoch = self.epoch;
        stored.born = self.epoch;
    }

    /// Whether the checkpoint under way has not yet written the stream in this slot.
    pub fn still_needs(&self, slot: usize) -> bool {
        self.run.as_ref().is_some_and(|r| match r.stage {
            Stage::Stream(at, _) => at <= slot,
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
    #[cfg(test)]
    pub fn locations(&self) -> impl Iterator<Item = Location> + '_ {
        let pages = self.catalogue.iter().chain(&self.orphans).chain(&self.root);
        let run = self.run.iter().flat_map(|r| &r.superseded);
        let waiting = self.committing.iter().flat_map(|c| &c.superseded);
        pages.chain(run).chain(waiting).copied()
    }

    /// Relocated bytes whose sources are not dead yet.
    #[cfg(test)]
    pub fn moved(&self) -> impl Iterator<Item = (SegmentId, u32)> + '_ {
        let run = self.run.iter().flat_map(|r| &r.moved);
        run.chain(self.committing.iter().flat_map(|c| &c.moved)).copied()
    }

    /// True if none is under way and none is wanted.
    pub fn is_idle(&self) -> bool {
        !(self.is_busy() || self.wanted && self.appended > 0)
    }

    fn is_busy(&self) -> bool {
        self.run.is_some() || self.committing.is_some()
    }
}

impl Shard {
    /// To be called before a stream changes: freezes it if a checkpoint still has to.
    #[inline]
    pub(super) fn before_change(&mut self, slot: usize) {
        if self.cells[slot].stored.epoch != self.checkpoint.epoch {
            self.freeze_stream(slot);
        }
    }

    #[cold]
    fn freeze_stream(&mut self, slot: usize) {
        let cell = &mut self.cells[slot];
        cell.stored.epoch = self.checkpoint.epoch;
        cell.stored.config_before = None;
        if !cell.is_memory() {
            cell.stored.last_seq = cell.index.last_seq();
            cell.stored.moved |= cell.index.freeze().is_some();
        }
    }

    /// To be called before a stream's configuration changes.
    pub(super) fn before_update(&mut self, slot: usize) {
        self.before_change(slot);
        let needed = self.checkpoint.still_needs(slot);
        let cell = &mut self.cells[slot];
        let frozen = cell.stored.born != self.checkpoint.epoch && !cell.is_memory();
        if needed && frozen && cell.stored.config_before.is_none() {
            cell.stored.config_before = Some(config_body(cell));
        }
    }

    pub(super) fn checkpoint_deadline(&self) -> Option<Timestamp> {
        let c = &self.checkpoint;
        if c.run.is_some() {
            return c.retry_at;
        }
        if c.appended == 0 || c.committing.is_some() || !self.has_room_for_checkpoint() {
            return None;
        }
        let options = &self.options.checkpoint;
        Some(c.changed_at.plus(options.idle_ns).max(c.begun_at.plus(options.gap_ns)))
    }

    pub(super) fn checkpoint_is_ready(&self) -> bool {
        let c = &self.checkpoint;
        let writing =
            c.run.is_some() && c.retry_at.is_none() && self.log.unflushed_bytes() < UNFLUSHED_MAX;
        writing || c.evicting.is_some()
    }

    /// Whether there is nothing that the next start would have to replay.
    pub fn is_settled(&self) -> bool {
        self.checkpoint.appended == 0 && !self.checkpoint.is_busy() && self.queue.is_empty()
    }

    /// Makes or continues a checkpoint: once a step, when what is durable is applied.
    pub(super) fn step_checkpoint(&mut self, now: Timestamp) {
        if self.checkpoint.seen != self.checkpoint.appended {
            self.checkpoint.seen = self.checkpoint.appended;
            self.checkpoint.changed_at = now;
        }
        if let Some(id) = self.checkpoint.durable.take() {
            self.checkpoint_is_durable(id);
        }
        self.evict_pages();
        if !self.checkpoint.is_busy() {
            // A stop does not wait for what cannot be.
            self.checkpoint.wanted &= self.has_room_for_checkpoint();
            if self.checkpoint_is_due(now) {
                self.begin_checkpoint(now);
            }
        }
        if self.checkpoint.retry_at.is_some_and(|at| at > now) {
            return;
        }
        self.checkpoint.retry_at = None;
        if self.log.unflushed_bytes() >= UNFLUSHED_MAX {
            return;
        }
        let Some(mut run) = self.checkpoint.run.take() else { return };
        (run.left, run.visits) = (STEP_BYTES, STEP_VISITS);
        match self.advance_checkpoint(&mut run) {
            Ok(()) => {}
            Err(pause) => {
                if matches!(pause, Pause::NoRoom) {
                    self.checkpoint.retry_at = Some(now.plus(RETRY));
                }
                self.checkpoint.run = Some(run);
            }
        }
    }

    /// On a full disk the reserve is not spent on a checkpoint that frees nothing.
    fn has_room_for_checkpoint(&self) -> bool {
        self.log.space() == SpaceState::Available
            || self.log.segments().any(|s| s.live == 0 && !s.open)
    }

    fn checkpoint_is_due(&self, now: Timestamp) -> bool {
        let (c, options) = (&self.checkpoint, &self.options.checkpoint);
        if c.appended == 0 || !self.has_room_for_checkpoint() {
            return false;
        }
        let bytes = (2 * c.last_bytes).clamp(options.bytes_min, options.bytes_max);
        c.wanted || c.appended >= bytes || self.checkpoint_deadline().is_some_and(|at| at <= now)
    }

    /// Freezes, if everything durable is applied.
    fn begin_checkpoint(&mut self, now: Timestamp) {
        let frontier = self.log.acknowledgeable();
        if self.blocked_apply.is_some() || self.queue.front(frontier).is_some() {
            return;
        }
        let Some(replay) = self.log.replay_point(frontier) else { return };
        self.settle_live();
        let live = self.log.segments().filter(|s| s.live > 0);
        let mut run = Run {
            replay,
            live: live.map(|s| (s.segment, s.live as i64)).collect(),
            superseded: Vec::new(),
            moved: Vec::new(),
            root: Root::default(),
            stage: Stage::Stream(0, Part::Index),
            page: None,
            body: Vec::new(),
            consumers: BTreeMap::new(),
            bytes: 0,
            left: 0,
            visits: 0,
        };
        run.supersede(std::mem::take(&mut self.checkpoint.orphans));
        for (segment, live) in self.reclaim.unswapped() {
            *run.live.entry(segment).or_default() -= i64::from(live);
        }
        run.moved = self.reclaim.take_moved();
        for &(segment, live) in &run.moved {
            *run.live.entry(segment).or_default() -= i64::from(live);
        }
        let c = &mut self.checkpoint;
        c.epoch += 1;
        c.wanted = false;
        c.begun_at = now;
        // What is on its way is behind the freeze.
        c.appended = self.log.unflushed_bytes() as u64;
        c.seen = c.appended;
        c.run = Some(Box::new(run));
    }

    fn advance_checkpoint(&mut self, run: &mut Run) -> Step {
        loop {
            match &mut run.stage {
                Stage::Stream(slot, _) if *slot >= self.cells.capacity() => {
                    run.stage = Stage::Catalogue(None);
                    self.begin_catalogue(run);
                }
                Stage::Stream(slot, _) => {
                    let slot = *slot;
                    self.write_stream(run, slot)?;
                    run.stage = Stage::Stream(slot + 1, Part::Index);
                }
                Stage::Catalogue(after) => {
                    let after = after.take();
                    match self.write_catalogue(run, after.as_ref()) {
                        Ok(Some(next)) => run.stage = Stage::Catalogue(Some(next)),
                        Ok(None) => run.stage = Stage::Root,
                        Err(pause) => {
                            run.stage = Stage::Catalogue(after);
                            return Err(pause);
                        }
                    }
                }
                Stage::Root => return self.write_root(run),
            }
        }
    }

    /// Appends what is in `run.body`.
    fn write_record(
        &mut self,
        run: &mut Run,
        kind: u16,
        stream: StreamId,
        id: u64,
    ) -> Step<(Location, Lsn)> {
        let p = self.group.next();
        let meta = MetaIn { kind, stream: stream.0, id, body: &run.body, relocated: false };
        let done = self.log.append(p.group, p.term, p.index, &RecordIn::Meta(meta))?;
        self.group.propose();
        self.log.add_live(done.position.segment, done.len);
        *run.live.entry(done.position.segment).or_default() += i64::from(done.len);
        run.bytes += u64::from(done.len);
        run.left = run.left.saturating_sub(done.len as usize);
        Ok((Location { position: done.position, len: done.len }, done.lsn))
    }

    fn write_stream(&mut self, run: &mut Run, slot: usize) -> Step {
        let Some(cell) = self.cells.get(slot) else { return Ok(()) };
        if cell.is_memory() || cell.stored.born == self.checkpoint.epoch {
            return Ok(());
        }
        run.visit()?;
        self.before_change(slot);
        loop {
            let Stage::Stream(_, part) = run.stage else { return Ok(()) };
            let next = match part {
                Part::Index => {
                    self.write_index(run, slot)?;
                    Part::Config
                }
                Part::Config => {
                    self.write_config(run, slot)?;
                    Part::Dedupe(0)
                }
                Part::Dedupe(from) => match self.write_dedupe(run, slot, from)? {
                    Some(number) => Part::Dedupe(number + 1),
                    None => {
                        run.consumers.clear();
                        self.write_counting(run, slot)?;
                        Part::Consumers(0)
                    }
                },
                Part::Consumers(from) => match self.write_consumer(run, slot, from)? {
                    Some(at) => Part::Consumers(at + 1),
                    None => Part::State,
                },
                Part::State => {
                    self.write_state(run, slot)?;
                    return Ok(());
                }
            };
            run.stage = Stage::Stream(slot, next);
        }
    }

    fn write_index(&mut self, run: &mut Run, slot: usize) -> Step {
        let stream = self.cells[slot].id;
        loop {
            let key = match run.page {
                Some(key) => key,
                None => match self.cells[slot].index.next_frozen(&mut run.body) {
                    Some(key) => key,
                    None => break,
                },
            };
            run.page = Some(key);
            let (l, _) = self.write_record(run, kind::PAGE, stream, page_id(key))?;
            run.page = None;
            run.supersede(self.cells[slot].index.stored(key, l.position, l.len));
            run.visit()?;
        }
        run.supersede(self.cells[slot].index.take_released());
        Ok(())
    }

    fn write_config(&mut self, run: &mut Run, slot: usize) -> Step {
        let cell = &mut self.cells[slot];
        if !cell.stored.config_changed && cell.stored.config.is_some() {
            return Ok(());
        }
        let stream = cell.id;
        let before = cell.stored.config_before.take();
        // What changed since the freeze is for the next one.
        let again = before.is_some();
        run.body = before.unwrap_or_else(|| config_body(cell));
        match self.write_record(run, kind::STREAM_CONFIG, stream, 0) {
            Ok((l, _)) => {
                let stored = &mut self.cells[slot].stored;
                run.supersede(stored.config.replace(l));
                stored.config_changed = again;
                Ok(())
            }
            Err(pause) => {
                if again {
                    self.cells[slot].stored.config_before = Some(std::mem::take(&mut run.body));
                }
                Err(pause)
            }
        }
    }

    /// Writes the next page of the duplicate window that changed. Answers its number.
    fn write_dedupe(&mut self, run: &mut Run, slot: usize, from: u64) -> Step<Option<u64>> {
        let cell = &mut self.cells[slot];
        let (stream, table) = (cell.id, cell.admission.dedupe());
        if !cell.stored.moved {
            return Ok(None);
        }
        let pages = table.pages();
        if from == 0 {
            let kept = cell.stored.dedupe.split_off(&pages.start);
            let gone = std::mem::replace(&mut cell.stored.dedupe, kept);
            run.supersede(gone.into_values().map(|p| p.location));
        }
        for number in from.max(pages.start)..pages.end {
            if cell.stored.dedupe.get(&number).is_some_and(|p| p.complete) {
                continue;
            }
            run.visit()?;
            run.body.clear();
            if !table.encode_page(number, cell.stored.last_seq, &mut run.body) {
                continue;
            }
            let complete = table.page_is_complete(number, cell.stored.last_seq);
            let (location, _) = self.write_record(run, kind::DEDUPE, stream, number)?;
            let page = DedupePage { number, complete, location };
            let old = self.cells[slot].stored.dedupe.insert(number, page);
            run.supersede(old.map(|p| p.location));
            return Ok(Some(number));
        }
        cell.stored.moved = false;
        Ok(None)
    }

    /// Consumers that have not joined their stream yet: their first deltas may not be taken.
    fn write_counting(&mut self, run: &mut Run, slot: usize) -> Step {
        let stream = self.cells[slot].id;
        let upto = self.group.next().index.0;
        let mut found = Vec::new();
        for c in self.counting(stream).filter(|c| !c.consumer.settings().volatile) {
            if let Some(l) = c.stored.filter(|_| !c.changed) {
                run.consumers.insert(c.id, l);
                continue;
            }
            let mut copy = c.consumer.clone();
            copy.take_delta(&mut Vec::new());
            let mut body = Vec::new();
            encode_consumer(c, &copy, upto, &mut body);
            found.push((c.id, body));
        }
        for (id, body) in found {
            run.body = body;
            let (l, _) = self.write_record(run, kind::CONSUMER_STATE, stream, id.0)?;
            run.consumers.insert(id, l);
            if let Some(c) = self.counting(stream).find(|c| c.id == id) {
                run.supersede(c.stored.replace(l));
            }
        }
        Ok(())
    }

    /// Writes a consumer if it changed. Answers its slot.
    fn write_consumer(&mut self, run: &mut Run, slot: usize, from: usize) -> Step<Option<usize>> {
        for at in from..self.cells[slot].consumers.cells.capacity() {
            let Some(c) = self.cells[slot].consumers.cells.get(at) else { continue };
            if c.consumer.settings().volatile {
                continue;
            }
            let (id, stream) = (c.id, self.cells[slot].id);
            if let Some(l) = c.stored.filter(|_| !c.changed) {
                run.consumers.insert(id, l);
                continue;
            }
            run.visit()?;
            if (c.consumer.is_dirty() || !c.held.is_empty()) && !self.record_delta(slot, at) {
                return Err(Pause::NoRoom);
            }
            let upto = self.group.next().index.0;
            let c = &self.cells[slot].consumers.cells[at];
            run.body.clear();
            encode_consumer(c, &c.consumer, upto, &mut run.body);
            let (l, _) = self.write_record(run, kind::CONSUMER_STATE, stream, id.0)?;
            let c = &mut self.cells[slot].consumers.cells[at];
            c.changed = false;
            run.supersede(c.stored.replace(l));
            run.consumers.insert(id, l);
            return Ok(Some(at));
        }
        Ok(None)
    }

    fn write_state(&mut self, run: &mut Run, slot: usize) -> Step {
        let cell = &self.cells[slot];
        let stream = cell.id;
        let state = StreamState {
            buried: !self.slots.contains_key(&stream),
            last_time: cell.last_time.0,
            first_time: (cell.first_time.0, cell.first_time.1.0),
            config: cell.stored.config.unwrap_or_default(),
            head: cell.index.location(PageKey::HEAD).unwrap_or_default(),
            last_id: cell.admission.last_committed_id().to_vec(),
            dedupe: cell.stored.dedupe.values().copied().collect(),
            consumers: run.consumers.iter().map(|(&id, &l)| (id, l)).collect(),
        };
        run.body.clear();
        state.encode(&mut run.body);
        let sum = xxhash_rust::xxh3::xxh3_64(&run.body);
        let location = match cell.stored.state {
            Some((l, known)) if known == sum => l,
            old => {
                let (l, _) = self.write_record(run, kind::STREAM_STATE, stream, 0)?;
                run.supersede(old.map(|(l, _)| l));
                self.cells[slot].stored.state = Some((l, sum));
                l
            }
        };
        run.root.streams.push((stream, location));
        Ok(())
    }

    fn begin_catalogue(&mut self, run: &mut Run) {
        if !self.checkpoint.catalogue_changed || self.meta.is_none() {
            run.root.catalogue.clone_from(&self.checkpoint.catalogue);
            run.root.catalogue_upto = self.checkpoint.catalogue_upto;
            run.stage = Stage::Root;
            return;
        }
        self.checkpoint.catalogue_changed = false;
        run.root.catalogue_upto = self.group.next().index.0;
    }

    /// Writes a page of the catalogue. Answers the last stream of it; `None` if there are no more.
    fn write_catalogue(
        &mut self,
        run: &mut Run,
        after: Option<&(String, String)>,
    ) -> Step<Option<(String, String)>> {
        let Some(meta) = &self.meta else { return Ok(None) };
        run.visit()?;
        run.body.clear();
        let mut bytes = Vec::new();
        let mut put = |record: Record, body: &mut Vec<u8>| {
            bytes.clear();
            record.encode(&mut bytes);
            put_counted(body, &bytes);
        };
        if after.is_none() {
            meta.catalogue.first_records().for_each(|r| put(r, &mut run.body));
        }
        let mut last = None;
        for (account, entry) in meta.catalogue.streams_after(after) {
            let account = account.to_owned();
            last = Some((account.clone(), entry.config.name.clone()));
            // A memory stream is gone after a restart.
            if entry.config.storage == StorageType::Memory {
                continue;
            }
            put(Record::Create { account, entry: entry.clone() }, &mut run.body);
            if run.body.len() >= CATALOGUE_PAGE {
                break;
            }
        }
        if !run.body.is_empty() {
            let number = run.root.catalogue.len() as u64;
            let (l, _) = self.write_record(run, kind::CATALOGUE_STATE, StreamId(0), number)?;
            run.root.catalogue.push(l);
        }
        if last.is_none() {
            run.supersede(std::mem::take(&mut self.checkpoint.catalogue));
            self.checkpoint.catalogue.clone_from(&run.root.catalogue);
            self.checkpoint.catalogue_upto = run.root.catalogue_upto;
        }
        Ok(last)
    }

    fn write_root(&mut self, run: &mut Run) -> Step {
        let old = self.checkpoint.root;
        if let Some(l) = old {
            run.supersede([l]);
        }
        let id = self.checkpoint.last_id + 1;
        run.root.next_index = self.group.next().index.0 + 1;
        run.root.next_consumer = self.next_consumer;
        let live = run.live.iter().filter(|(_, live)| **live > 0);
        run.root.live = live.map(|(&segment, &live)| (segment, live as u64)).collect();
        run.body.clear();
        run.root.encode(&mut run.body);
        let (l, root_lsn) = match self.write_record(run, kind::ROOT, StreamId(0), id) {
            Ok(written) => written,
            Err(pause) => {
                if let Some(l) = run.superseded.pop_if(|_| old.is_some()) {
                    *run.live.entry(l.position.segment).or_default() += i64::from(l.len);
                }
                return Err(pause);
            }
        };
        let c = &mut self.checkpoint;
        c.last_id = id;
        c.root = Some(l);
        c.last_bytes = run.bytes;
        let superseded = std::mem::take(&mut run.superseded);
        c.committing = Some(Committing { id, superseded, moved: std::mem::take(&mut run.moved) });
        let checkpoint = CheckpointRef { id, root: l.position, root_len: l.len };
        let commit = Commit { checkpoint, root_lsn, replay: run.replay };
        self.log.commit_checkpoint(commit, &mut self.ops);
        Ok(())
    }

    fn checkpoint_is_durable(&mut self, id: u64) {
        let Some(done) = self.checkpoint.committing.take_if(|c| c.id == id) else { return };
        for l in done.superseded {
            self.log.mark_dead(l.position.segment, l.len);
        }
        for (segment, live) in done.moved {
            self.log.mark_dead(segment, live);
        }
        self.reclaim.look();
        self.log.free_dead(&mut self.ops);
        self.checkpoint.evicting = Some(0);
        self.checkpoint.resident = 0;
    }

    /// Drops stored index pages beyond the cache's size, some streams at a time.
    fn evict_pages(&mut self) {
        let Some(from) = self.checkpoint.evicting else { return };
        let end = self.cells.capacity();
        let to = end.min(from + EVICT_STREAMS);
        let budget = self.options.index_cache_bytes;
        for slot in from..to {
            let Some(cell) = self.cells.get_mut(slot).filter(|c| !c.is_memory()) else { continue };
            let bytes = cell.index.sequence_bytes();
            let over = (self.checkpoint.resident + bytes).saturating_sub(budget);
            let freed = if over > 0 { cell.index.evict(over) } else { 0 };
            self.checkpoint.resident += bytes.saturating_sub(freed);
        }
        self.checkpoint.evicting = (to < end).then_some(to);
    }
}

/// What the id of a page's record says: the kind in the top byte, the number below.
pub(super) fn page_id(key: PageKey) -> u64 {
    u64::from(key.kind.code()) << 56 | key.number
}

fn config_body(cell: &super::cell::StreamCell) -> Vec<u8> {
    let mut body = Vec::new();
    let json = to_json(&cell.config);
    ConfigBody { created: cell.created.0, start: b"", json: &json }.encode(&mut body);
    body
}

fn encode_consumer(
    cell: &ConsumerCell,
    consumer: &crate::consumer::Consumer,
    upto: u64,
    out: &mut Vec<u8>,
) {
    let mut snapshot = Vec::new();
    consumer.encode_snapshot(&mut snapshot);
    let json = to_json(&super::api_consumer::stored_config(&cell.name, &cell.config));
    let state = ConsumerState { created: cell.created.0, upto, json: &json, snapshot: &snapshot };
    state.encode(out);
}
