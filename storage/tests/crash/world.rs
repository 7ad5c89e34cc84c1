//! A log, its disk, and the model of what it must hold.

use corelane_storage::device::sim::{SimDisk, SimFaults, SimRng};
use corelane_storage::device::{Blocking, DeviceError, File, Fill, Op, Slot};
use corelane_storage::log::{
    AppendError, Commit, Log, LogOptions, Progress, Read, ReadError, ReadHint, Scan, ScanStep,
    SpaceState, Stamp, SyncPolicy,
};
use corelane_storage::record::{MessageIn, MetaIn, RecordIn, RecordView};
use corelane_storage::recovery::{Recovery, Replayed, open};
use corelane_storage::superblock::CheckpointRef;
use corelane_storage::types::{
    GroupId, LogIndex, Lsn, Position, SegmentId, ShardId, StreamId, Term,
};
use std::collections::BTreeMap;

/// A record of the model: its content follows from its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    pub size: u64,
    pub at: Position,
    pub len: u32,
    pub dead: bool,
}

/// A live record copied to the cold lane.
struct Move {
    index: usize,
    to: Position,
    len: u32,
    lsn: Lsn,
    /// The checkpoint that first holds the new place.
    checkpoint: Option<u64>,
}

#[derive(Clone, Copy)]
struct Begun {
    id: u64,
    /// Entries that it holds.
    entries: usize,
    /// Its root.
    root: Option<Entry>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub appended: u64,
    pub crashes: u64,
    pub freed: u64,
    pub moved: u64,
    pub checkpoints: u64,
}

pub struct World {
    pub rng: SimRng,
    pub options: LogOptions,
    pub disk: SimDisk,
    pub log: Log,
    pub now: i64,
    /// All entries: accepted by a recovery, then appended since.
    pub entries: Vec<Entry>,
    /// How many were accepted before the log was opened.
    pub base: usize,
    /// What was reported durable.
    pub durable: usize,
    next_id: u64,
    /// Roots of checkpoints that were appended.
    roots: u64,
    checkpoints: Vec<Begun>,
    confirmed: Begun,
    committing: bool,
    moves: Vec<Move>,
    scan: Option<Scan>,
    pub failed: bool,
    pub tally: Tally,
    pub trace: u64,
}

/// A disk that stops answering after some operations: of all, or of those on one file.
pub struct Cut<'a> {
    pub disk: &'a mut SimDisk,
    pub left: u64,
    pub of: Option<File>,
}

impl Cut<'_> {
    fn next(&mut self, file: Option<File>) -> Result<&mut SimDisk, DeviceError> {
        if self.of.is_none() || self.of == file {
            let errno = 5;
            let stopped = DeviceError::Io { errno, message: "stopped".into() };
            self.left = self.left.checked_sub(1).ok_or(stopped)?;
        }
        Ok(self.disk)
    }
}

impl Blocking for Cut<'_> {
    fn list(&mut self) -> Result<Vec<(Slot, u64)>, DeviceError> {
        self.next(None)?.list()
    }
    fn file_len(&mut self, file: File) -> Result<Option<u64>, DeviceError> {
        self.next(Some(file))?.file_len(file)
    }
    fn read_at(&mut self, file: File, at: u64, buf: &mut [u8]) -> Result<usize, DeviceError> {
        self.next(Some(file))?.read_at(file, at, buf)
    }
    fn write_at(&mut self, file: File, at: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.next(Some(file))?.write_at(file, at, data)
    }
    fn flush(&mut self, file: File) -> Result<(), DeviceError> {
        self.next(Some(file))?.flush(file)
    }
    fn create(&mut self, file: File, bytes: u64, fill: Fill) -> Result<(), DeviceError> {
        self.next(Some(file))?.create(file, bytes, fill)
    }
    fn remove(&mut self, file: File) -> Result<(), DeviceError> {
        self.next(Some(file))?.remove(file)
    }
    fn free_bytes(&mut self) -> Result<u64, DeviceError> {
        self.next(None)?.free_bytes()
    }
}

/// The log under test is of one group, and what index its entries have does not matter.
pub fn stamper(_: GroupId) -> Stamp {
    Stamp { term: Term(1), index: LogIndex(1), commit: LogIndex(0) }
}

pub fn content(id: u64, size: u64) -> Vec<u8> {
    let mut rng = SimRng::new(id);
    let first = rng.bits() as u8;
    if cfg!(miri) {
        return vec![first; size as usize]; // much faster there
    }
    (0..size).map(|n| first.wrapping_add(n as u8)).collect()
}

pub fn check(view: &RecordView, entry: &Entry) {
    match view.content() {
        RecordIn::Message(m) => {
            assert_eq!((m.seq, m.stream), (entry.id, StreamId(entry.id % 5)), "wrong record");
            assert_eq!(m.payload, content(entry.id, entry.size), "wrong payload of {}", entry.id);
        }
        RecordIn::Meta(m) => {
            assert_eq!(m.id, entry.id, "wrong record");
            assert_eq!(m.body, content(entry.id, entry.size), "wrong body of {}", entry.id);
        }
    }
}

fn options(rng: &mut SimRng) -> LogOptions {
    let mut options = LogOptions::small(9, ShardId(1), 2);
    options.block_bytes = 16 << 10;
    options.segment_bytes = (16 << 10) * (1 + rng.below(4) as u32);
    options.write_bytes_max = 4096 * (1 + rng.below(4) as u32);
    options.large_write_bytes = 8 << 10;
    options.writes_in_flight = 1 + rng.below(3) as u32;
    options.tail_bytes = 1 << (14 + rng.below(4));
    options.read_ahead_bytes = 16 << 10;
    options.read_cache_bytes = 32 << 10 << rng.below(3);
    options.gather_ns = [0, 0, 50_000, 2_000_000][rng.below(4) as usize];
    options.extend_bytes = 4096 << rng.below(3);
    if rng.below(3) == 0 {
        options.sync = SyncPolicy::Interval(rng.below(3_000_000) as i64);
    }
    options
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = SimRng::new(seed);
        let options = options(&mut rng);
        let faults = SimFaults {
            slow_flush_ppm: if rng.below(3) == 0 { 100_000 } else { 0 },
            failed_flush_ppm: if rng.below(8) == 0 { 10_000 } else { 0 },
            failed_write_ppm: if rng.below(8) == 0 { 10_000 } else { 0 },
            failed_read_ppm: if rng.below(8) == 0 { 50_000 } else { 0 },
            ..SimFaults::default()
        };
        World::with(rng, options, faults)
    }

    pub fn with(mut rng: SimRng, options: LogOptions, faults: SimFaults) -> World {
        let mut disk = SimDisk::new(rng.bits(), faults);
        // Each looks for zeroes in the whole superblock, which takes Miri minutes.
        for left in 0..if cfg!(miri) { 0 } else { rng.below(6) } {
            let mut cut = Cut { disk: &mut disk, left, of: None };
            assert!(open(&mut cut, options.clone(), rng.bits(), |_| {}).is_err());
            disk.crash();
        }
        let recovery = Recovery::open(&mut disk, options.clone(), rng.bits()).unwrap();
        let (mut log, report) = recovery.finish(&mut disk).unwrap();
        assert!(report.created);
        assert!(log.finish_restore().is_empty());
        World {
            rng,
            options,
            disk,
            log,
            now: 0,
            entries: Vec::new(),
            base: 0,
            durable: 0,
            next_id: 1,
            roots: 0,
            checkpoints: Vec::new(),
            confirmed: Begun { id: 0, entries: 0, root: None },
            committing: false,
            moves: Vec::new(),
            scan: None,
            failed: false,
            tally: Tally::default(),
            trace: 0,
        }
    }

    fn note(&mut self, n: u64) {
        self.trace = (self.trace ^ n).wrapping_mul(0x0100_0000_01b3).rotate_left(5);
    }

    pub fn submit(&mut self, mut ops: Vec<Op>) {
        // Order does not matter, says the device's contract.
        while !ops.is_empty() {
            let at = self.rng.below(ops.len() as u64) as usize;
            let op = ops.swap_remove(at);
            self.note(op.token().0);
            self.disk.submit(self.now, op);
        }
    }

    pub fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            if self.failed {
                return;
            }
            let mut ops = Vec::new();
            match self.rng.below(16) {
                0..4 => self.append_some(),
                4..7 => self.log.seal(&mut ops, &mut { stamper }),
                7..10 => self.complete_one(&mut ops),
                10 => {
                    self.now += self.rng.below(2_000_000) as i64;
                    self.log.tick(self.now, &mut ops);
                }
                11 => self.checkpoint(&mut ops),
                12 => self.delete_some(&mut ops),
                _ => {
                    self.relocate(&mut ops);
                    self.read_one(&mut ops);
                }
            }
            self.submit(ops);
        }
    }

    pub fn append_some(&mut self) {
        for _ in 0..1 + self.rng.below(8) {
            let size = match self.rng.below(100) {
                0 if cfg!(miri) => 9_000,
                0 => 16_000 + self.rng.below(30_000),
                1..10 => self.rng.below(9_000),
                _ => self.rng.below(600),
            };
            let meta = self.rng.below(4) == 0;
            if self.append(size, meta).is_err() {
                break;
            }
        }
    }

    pub fn append(&mut self, size: u64, meta: bool) -> Result<Position, AppendError> {
        let id = self.next_id;
        let body = content(id, size);
        let record = if meta {
            RecordIn::Meta(MetaIn { kind: 3, stream: 1, id, body: &body, relocated: false })
        } else {
            RecordIn::Message(MessageIn {
                stream: StreamId(id % 5),
                seq: id,
                ts: id as i64,
                subject: b"a.subject",
                headers: b"",
                payload: &body,
                relocated: false,
            })
        };
        let done = self.log.append(GroupId(2), &record)?;
        let at = done.position.expect("one group's records lie where they are appended");
        let Position { segment, .. } = at;
        assert_eq!(done.lsn.0 as usize, self.entries.len() - self.base + 1);
        self.log.add_live(segment, done.len);
        let entry = Entry { id, size, at, len: done.len, dead: false };
        self.entries.push(entry);
        self.next_id += 1;
        self.tally.appended += 1;
        check(&self.log.peek(at).expect("just appended"), &entry);
        Ok(at)
    }

    pub fn complete_one(&mut self, ops: &mut Vec<Op>) {
        let Some(time) = self.disk.next_time() else { return };
        self.now = self.now.max(time);
        while let Some(done) = self.disk.poll(self.now) {
            self.note(done.token.0);
            let mut stamps = stamper;
            match self.log.complete(done, ops, &mut stamps) {
                Ok(progress) => self.progressed(progress),
                Err(_) => {
                    self.failed = true;
                    assert!(self.log.failure().is_some());
                    return;
                }
            }
        }
    }

    pub fn progressed(&mut self, progress: Progress) {
        let (durable, written) = (self.log.durable(), self.log.written());
        assert!(durable <= written && written <= self.log.appended());
        let now = self.base + durable.0 as usize;
        assert!(now >= self.durable);
        assert_eq!(progress.durable, now > self.durable);
        self.durable = now;
        if let Some(id) = progress.checkpoint {
            let begun = *self.checkpoints.iter().find(|c| c.id == id).expect("was begun");
            assert!(id > self.confirmed.id);
            if let Some(old) = self.confirmed.root {
                self.log.mark_dead(old.at.segment, old.len);
            }
            self.confirmed = begun;
            self.committing = false;
            self.tally.checkpoints += 1;
            for moved in std::mem::take(&mut self.moves) {
                if moved.checkpoint.is_some_and(|c| c <= id) {
                    self.finish_move(moved);
                } else {
                    self.moves.push(moved);
                }
            }
        }
    }

    fn finish_move(&mut self, moved: Move) {
        let entry = &mut self.entries[moved.index];
        if entry.dead {
            self.log.mark_dead(moved.to.segment, moved.len);
            return;
        }
        self.log.mark_dead(entry.at.segment, entry.len);
        entry.at = moved.to;
        entry.len = moved.len;
        self.tally.moved += 1;
    }

    pub fn checkpoint(&mut self, ops: &mut Vec<Op>) {
        if self.committing {
            return;
        }
        // Frozen at what is durable, sometimes a little earlier.
        let lag = self.rng.below(4).min(self.log.durable().0);
        let lsn = Lsn(self.log.durable().0 - lag);
        let entries = self.base + lsn.0 as usize;
        if entries < self.confirmed.entries {
            return;
        }
        let replay = self.log.replay_point(lsn).expect("recent");
        self.roots += 1;
        let id = self.roots;
        let body = content(id, 40);
        let record =
            RecordIn::Meta(MetaIn { kind: 3, stream: 1, id, body: &body, relocated: false });
        let Ok(done) = self.log.append_cold(&record, None) else { return };
        let root = Entry { id, size: 40, at: done.position, len: done.len, dead: false };
        let durable = self.log.cold_durable();
        for moved in self.moves.iter_mut().filter(|m| m.lsn <= durable) {
            moved.checkpoint.get_or_insert(id);
        }
        self.checkpoints.push(Begun { id, entries, root: Some(root) });
        self.committing = true;
        let checkpoint = CheckpointRef { id, root: root.at, root_len: root.len };
        let commit = Commit { checkpoint, root_lsn: done.lsn, applied: lsn, replay };
        self.log.commit_checkpoint(commit, ops);
    }

    /// Entries that the durable checkpoint holds may die (a deletion is not modelled otherwise).
    fn delete_some(&mut self, ops: &mut Vec<Op>) {
        let most = self.rng.below(8) == 0;
        for n in 0..self.confirmed.entries {
            let dies = self.rng.below(if most { 4 } else { 40 }) == 0;
            let entry = &mut self.entries[n];
            if !entry.dead && dies {
                entry.dead = true;
                self.log.mark_dead(entry.at.segment, entry.len);
            }
        }
        self.tally.freed += self.log.free_dead(ops) as u64;
    }

    fn relocate(&mut self, ops: &mut Vec<Op>) {
        if self.scan.is_none() {
            let found = self.log.mostly_dead(SegmentId(0), 75, 1);
            self.scan = found.first().map(|s| self.log.scan_segment(s.segment));
        }
        let Some(mut scan) = self.scan.take() else { return };
        for _ in 0..40 {
            let step = match self.log.scan_next(&mut scan, ops) {
                Ok(step) => step,
                Err(_) => return,
            };
            match step {
                ScanStep::Record { position, record, .. } => {
                    let live = self.entries.iter().position(|e| !e.dead && e.at == position);
                    let Some(index) = live else { continue };
                    if self.moves.iter().any(|m| m.index == index) {
                        continue;
                    }
                    check(&record, &self.entries[index]);
                    let bytes = record.as_bytes().to_vec();
                    let copy = RecordView::decode(&bytes).unwrap();
                    let copied = match copy.content() {
                        RecordIn::Message(m) => {
                            RecordIn::Message(MessageIn { relocated: true, ..m })
                        }
                        RecordIn::Meta(m) => RecordIn::Meta(MetaIn { relocated: true, ..m }),
                    };
                    let Ok(done) = self.log.append_cold(&copied, Some(self.entries[index].len))
                    else {
                        return;
                    };
                    let to = done.position;
                    self.moves.push(Move {
                        index,
                        to,
                        len: done.len,
                        lsn: done.lsn,
                        checkpoint: None,
                    });
                }
                // A write of the cold lane that a crash has torn: nothing of it counts.
                ScanStep::Damaged(position) => {
                    let lives = |e: &Entry| !e.dead && e.at == position;
                    assert!(!self.entries.iter().any(lives), "undamaged {position:?}");
                }
                ScanStep::End => return,
                ScanStep::Pending(_) | ScanStep::Busy | ScanStep::More => break,
            }
        }
        self.scan = Some(scan);
    }

    fn read_one(&mut self, ops: &mut Vec<Op>) {
        if self.entries.is_empty() {
            return;
        }
        let entry = self.entries[self.rng.below(self.entries.len() as u64) as usize];
        if entry.dead {
            return;
        }
        let hint = if self.rng.below(2) == 0 { ReadHint::One } else { ReadHint::Ahead };
        if self.rng.below(4) == 0 {
            let len = entry.len.max(self.rng.below(20_000) as u32);
            let known = self.log.prefetch(entry.at, len, ops);
            assert!(!known || self.log.is_at_hand(entry.at, entry.len));
        }
        match self.log.read(entry.at, entry.len, hint, ops) {
            Ok(Read::Ready(view)) => check(&view, &entry),
            Ok(_) => {}
            Err(ReadError::Device { .. }) => assert!(self.disk.faults.failed_read_ppm > 0),
            Err(e) => panic!("{entry:?}: {e}"),
        }
    }

    /// Lets everything come to rest, with a good disk.
    pub fn settle(&mut self) {
        if self.failed {
            return self.crash();
        }
        self.disk.faults.failed_flush_ppm = 0;
        self.disk.faults.failed_write_ppm = 0;
        self.disk.faults.failed_read_ppm = 0;
        self.log.request_flush();
        for _ in 0..10_000 {
            let mut ops = Vec::new();
            self.log.tick(self.now, &mut ops);
            self.log.seal(&mut ops, &mut { stamper });
            self.complete_one(&mut ops);
            self.submit(ops);
            if self.log.is_idle() && self.disk.in_flight() == 0 {
                match self.log.deadline() {
                    // A full disk is tried again for ever.
                    Some(at) if self.log.space() == SpaceState::Available => {
                        self.now = self.now.max(at);
                    }
                    _ => break,
                }
            }
            assert!(!self.failed);
        }
        assert!(self.log.is_idle(), "did not come to rest");
        assert_eq!(self.durable, self.entries.len());
    }

    /// Reads every live record.
    pub fn check_all(&mut self) {
        for n in 0..self.entries.len() {
            let entry = self.entries[n];
            if !entry.dead {
                self.read_fully(&entry);
            }
        }
    }

    pub fn read_fully(&mut self, entry: &Entry) {
        for _ in 0..10 {
            let mut ops = Vec::new();
            self.log.tick(self.now, &mut ops);
            let ready = match self.log.read(entry.at, entry.len, ReadHint::Ahead, &mut ops) {
                Ok(Read::Ready(view)) => {
                    check(&view, entry);
                    true
                }
                Ok(_) => false,
                Err(ReadError::Device { .. }) => false, // from before the disk was made good
                Err(e) => panic!("{entry:?}: {e}"),
            };
            self.submit(ops);
            if ready {
                return;
            }
            let mut ops = Vec::new();
            self.complete_one(&mut ops);
            self.submit(ops);
        }
        panic!("never read: {entry:?}");
    }

    /// Stops the machine, recovers, and compares.
    pub fn crash(&mut self) {
        self.tally.crashes += 1;
        match self.rng.below(2) {
            0 => self.disk.crash(),
            _ => self.disk.kill(),
        }
        while self.rng.below(3) == 0 {
            // A recovery that is stopped itself.
            let (seed, left) = (self.rng.bits(), self.rng.below(60));
            let mut cut = Cut { disk: &mut self.disk, left, of: None };
            let _ = open(&mut cut, self.options.clone(), seed, |_| {});
            self.disk.crash();
        }
        self.recover(true);
    }

    pub fn recover(&mut self, exact: bool) {
        let seed = self.rng.bits();
        let mut recovery =
            Recovery::open(&mut self.disk, self.options.clone(), seed).expect("opens");
        let checkpoint = recovery.checkpoint();
        let id = checkpoint.map_or(0, |c| c.id);
        assert!(id >= self.confirmed.id, "a durable checkpoint is lost");
        if id > self.confirmed.id {
            self.confirmed = *self.checkpoints.iter().find(|c| c.id == id).expect("was begun");
        }
        if let Some(checkpoint) = checkpoint {
            let root = recovery.read(&mut self.disk, checkpoint.root, checkpoint.root_len);
            check(&root.expect("the root is readable"), &self.confirmed.root.expect("its root"));
        }
        let start = self.confirmed.entries;
        let mut at = start;
        while let Some(replayed) = recovery.next(&mut self.disk).expect("replays") {
            let Replayed::Record { position, len, record, .. } = replayed else {
                panic!("a crash looks like corruption: {replayed:?}")
            };
            let entry = self.entries.get(at).expect("nothing comes back that was never there");
            check(&record, entry);
            assert_eq!((position, len), (entry.at, entry.len));
            at += 1;
        }
        assert!(!exact || at >= self.durable, "{at} of {} durable records", self.durable);
        let (log, report) = recovery.finish(&mut self.disk).expect("finishes");
        assert!(report.damaged.is_empty() && report.unidentified.is_empty());
        self.log = log;
        self.reopened(id, at);
    }

    /// Tells the log what lives, as a shard does.
    fn reopened(&mut self, checkpoint: u64, at: usize) {
        self.entries.truncate(at);
        for moved in std::mem::take(&mut self.moves) {
            if moved.checkpoint.is_some_and(|c| c <= checkpoint) {
                let entry = &mut self.entries[moved.index];
                entry.at = moved.to;
                entry.len = moved.len;
            }
        }
        let mut live: BTreeMap<SegmentId, u64> = BTreeMap::new();
        let held = self.confirmed.entries.min(at);
        for entry in self.entries[..held].iter().filter(|e| !e.dead) {
            *live.entry(entry.at.segment).or_default() += entry.len as u64;
        }
        if let Some(root) = self.confirmed.root {
            *live.entry(root.at.segment).or_default() += root.len as u64;
        }
        for (segment, bytes) in live {
            self.log.restore_live(segment, bytes);
        }
        for entry in self.entries[held..].iter().filter(|e| !e.dead) {
            self.log.add_live(entry.at.segment, entry.len);
        }
        assert_eq!(self.log.finish_restore(), vec![], "segments with live records are missing");
        self.base = at;
        self.durable = at;
        self.committing = false;
        self.scan = None;
        self.failed = false;
        self.checkpoints.retain(|c| c.id <= checkpoint);
    }
}
