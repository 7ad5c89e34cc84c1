//! A simulated disk with a volatile cache.
//!
//! Fault model:
//! - Writes and reads complete in any order, after a random time; the data of a write is applied
//!   when it completes. A flush covers what had completed in its file when it was begun, and takes
//!   time of its own; a write's linked flush begins when the write completes.
//! - A crash loses the cache. Of every sector (512 bytes or 4 KiB, by crash) written and not
//!   flushed, the new or the old content remains, each chosen by itself (torn, lost, reordered);
//!   so too for the sectors of writes in flight. A crash can also keep all, or none. Sectors that
//!   were flushed keep their content.
//! - A file created or removed is so for good at the completion; before it, either may be.
//! - A killed process (`kill`) loses what was in flight in the same way, but nothing of the cache.
//! - Bit rot flips bits of flushed data (`rot`).
//! - Writes and flushes fail as often as told; what a failed flush should have covered may or may
//!   not be there after a crash. Flushes and reads can be slow. The disk can be full: creating a
//!   file beyond the capacity gives `NoSpace`.
//! - A single operation can fail (`submit_failing`) on a disk that goes on working. Of a failed
//!   write some sectors have the new content. What a failed flush should have covered is either
//!   on the medium or is lost: reads still see it, no later flush covers it (only writing it again
//!   does), and a stop of the machine takes it. After `kill` it is there or not, for good.
//!
//! Same seed and same calls, same result. What no log may do panics: changing the memory of a
//! write in flight, which is compared at completion with what was submitted; writing, filling or
//! removing what a read in flight reads; reading what a write in flight writes; using a file whose
//! removal is under way. The memory of a read holds nothing that could be taken for data until it
//! is complete.

use super::{Blocking, DeviceError, Done, File, Fill, IoBuf, Op, Slot, Token, WriteView};
use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};

const SECTOR: usize = 512;
/// Sectors, per million, that a failed flush loses.
const LOST_PPM: u32 = 700_000;
/// What memory holds that nothing was read into yet.
const POISON: u8 = 0xdb;

/// A seeded generator, for the simulation and its tests.
#[derive(Clone, Debug)]
pub struct SimRng(Random);

impl SimRng {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        SimRng(Random::new(seed ^ 0x5851_f42d_4c95_7f2d))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.bits()
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// True `ppm` times in a million.
    pub fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.below(1_000_000) < ppm as u64
    }
}

/// What can go wrong, and how often. The default is a good disk of endless size.
#[derive(Clone, Debug)]
pub struct SimFaults {
    /// Nanoseconds that an operation takes, at least.
    pub latency_ns_min: i64,
    /// And at most.
    pub latency_ns_max: i64,
    /// Flushes, per million, that take a hundred times as long.
    pub slow_flush_ppm: u32,
    /// Reads, per million, that take a hundred times as long.
    pub slow_read_ppm: u32,
    /// Flushes, per million, that fail.
    pub failed_flush_ppm: u32,
    /// Writes, per million, that fail.
    pub failed_write_ppm: u32,
    /// Reads, per million, that fail.
    pub failed_read_ppm: u32,
    /// Stops of the machine, per million, after which any sector that was not flushed may be there
    /// and the next not; of the others, some leave larger pieces, all or nothing.
    pub torn_ppm: u32,
    /// Bytes of all files.
    pub capacity_bytes: u64,
}

impl Default for SimFaults {
    fn default() -> Self {
        SimFaults {
            latency_ns_min: 10_000,
            latency_ns_max: 200_000,
            slow_flush_ppm: 0,
            slow_read_ppm: 0,
            failed_flush_ppm: 0,
            failed_write_ppm: 0,
            failed_read_ppm: 0,
            torn_ppm: 0,
            capacity_bytes: u64::MAX,
        }
    }
}

#[derive(Default)]
struct SimFile {
    /// What a crash leaves.
    durable: Vec<u8>,
    /// What a read sees.
    cached: Vec<u8>,
    /// Sectors that differ, with the count of the write that made them so.
    dirty: BTreeMap<usize, u64>,
    /// Sectors that differ and that no flush will cover: one of them failed.
    lost: BTreeSet<usize>,
}

impl SimFile {
    fn write(&mut self, offset: usize, data: &[u8], stamp: u64) {
        assert!(offset.is_multiple_of(SECTOR) && data.len().is_multiple_of(SECTOR));
        self.cached[offset..offset + data.len()].copy_from_slice(data);
        for sector in offset / SECTOR..(offset + data.len()) / SECTOR {
            self.dirty.insert(sector, stamp);
            self.lost.remove(&sector);
        }
    }

    fn flush(&mut self, stamp: u64) {
        let SimFile { durable, cached, dirty, .. } = self;
        dirty.retain(|sector, written| {
            if *written > stamp {
                return true;
            }
            let bytes = sector * SECTOR..(sector + 1) * SECTOR;
            durable[bytes.clone()].copy_from_slice(&cached[bytes]);
            false
        });
    }

    /// A flush fails: of what it should have covered, some is on the medium and the rest is lost.
    fn fail_flush(&mut self, stamp: u64, rng: &mut SimRng) {
        let SimFile { durable, cached, dirty, lost } = self;
        dirty.retain(|sector, written| {
            if *written > stamp {
                return true;
            }
            if rng.chance(LOST_PPM) {
                lost.insert(*sector);
            } else {
                let bytes = sector * SECTOR..(sector + 1) * SECTOR;
                durable[bytes.clone()].copy_from_slice(&cached[bytes]);
            }
            false
        });
    }

    /// What no flush covers is gone, or (`keep_ppm`) was written after all.
    fn settle_lost(&mut self, keep_ppm: u32, rng: &mut SimRng) {
        for sector in std::mem::take(&mut self.lost) {
            let bytes = sector * SECTOR..(sector + 1) * SECTOR;
            if rng.chance(keep_ppm) {
                self.durable[bytes.clone()].copy_from_slice(&self.cached[bytes]);
            } else {
                self.cached[bytes.clone()].copy_from_slice(&self.durable[bytes]);
            }
        }
    }
}

/// What of one operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// The write or the read.
    Transfer,
    /// The flush, or the one that is linked to the write.
    Flush,
}

enum Event {
    Write {
        token: Token,
        file: File,
        offset: u64,
        data: Vec<u8>,
        view: WriteView,
        flush: bool,
        failing: Option<Failing>,
    },
    Flushed {
        token: Token,
        file: File,
        stamp: u64,
        len: usize,
        fails: bool,
    },
    Flush {
        token: Token,
        file: File,
        fails: bool,
    },
    Read {
        token: Token,
        file: File,
        offset: u64,
        len: usize,
        buf: IoBuf,
        fails: bool,
    },
    Create {
        token: Token,
        slot: Slot,
        bytes: u64,
    },
    Remove {
        token: Token,
        slot: Slot,
    },
}

/// Writes in flight that a stop left done in part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Torn {
    /// All of them.
    pub writes: u64,
    /// Those of a superblock, which other sectors than its first one were part of.
    pub superblocks: u64,
}

/// The disk of one shard: all files of its directory.
pub struct SimDisk {
    rng: SimRng,
    /// What goes wrong; may be changed at any time.
    pub faults: SimFaults,
    files: BTreeMap<File, SimFile>,
    events: BTreeMap<(i64, u64), Event>,
    count: u64,
    now: i64,
    torn: Torn,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64, faults: SimFaults) -> SimDisk {
        SimDisk {
            rng: SimRng::new(seed),
            faults,
            files: BTreeMap::new(),
            events: BTreeMap::new(),
            count: 0,
            now: 0,
            torn: Torn::default(),
        }
    }

    /// Takes an operation at `now`.
    pub fn submit(&mut self, now: i64, op: Op) {
        self.take(now, op, None);
    }

    /// Takes an operation that fails, which none of the others does for that.
    pub fn submit_failing(&mut self, now: i64, op: Op, failing: Failing) {
        self.take(now, op, Some(failing));
    }

    fn take(&mut self, now: i64, op: Op, failing: Option<Failing>) {
        self.now = self.now.max(now);
        self.check_races(&op);
        let slow = matches!(op, Op::Read { .. }) && self.rng.chance(self.faults.slow_read_ppm);
        let event = match op {
            Op::Write { token, file, offset, data, zeroes, flush } => {
                // SAFETY: its Done has not been made yet.
                let mut bytes = unsafe { data.bytes() }.to_vec();
                bytes.resize(bytes.len() + zeroes as usize, 0);
                Event::Write { token, file, offset, data: bytes, view: data, flush, failing }
            }
            Op::Flush { token, file } => Event::Flush { token, file, fails: failing.is_some() },
            Op::Read { token, file, offset, len, mut buf } => {
                buf.fill(POISON);
                Event::Read { token, file, offset, len, buf, fails: failing.is_some() }
            }
            Op::Create { token, slot, bytes, .. } => Event::Create { token, slot, bytes },
            Op::Remove { token, slot } => Event::Remove { token, slot },
        };
        self.after(if slow { 100 } else { 1 }, event);
    }

    /// Nothing is written, filled or removed while it is read, nor read while it is written.
    fn check_races(&self, op: &Op) {
        let (file, from, len, reads) = match op {
            Op::Write { file, offset, data, .. } => (*file, *offset, data.len() as u64, false),
            Op::Read { file, offset, len, .. } => (*file, *offset, *len as u64, true),
            Op::Flush { file, .. } => (*file, 0, 0, false),
            Op::Create { slot, .. } | Op::Remove { slot, .. } => {
                (File::Segment(*slot), 0, u64::MAX, false)
            }
        };
        let clash = self.events.values().find(|event| {
            let (other, begin, bytes, other_reads) = match event {
                Event::Write { file, offset, data, .. } => {
                    (*file, *offset, data.len() as u64, false)
                }
                Event::Read { file, offset, len, .. } => (*file, *offset, *len as u64, true),
                Event::Create { slot, .. } => (File::Segment(*slot), 0, u64::MAX, false),
                Event::Remove { slot, .. } => (File::Segment(*slot), 0, u64::MAX, false),
                Event::Flushed { .. } | Event::Flush { .. } => return false,
            };
            let apart = from.saturating_add(len) <= begin || begin.saturating_add(bytes) <= from;
            file == other && !apart && !(reads && other_reads)
        });
        assert!(clash.is_none(), "{file:?} is used from {from} on while it is written or read");
    }

    fn after(&mut self, times: i64, event: Event) {
        let spread = (self.faults.latency_ns_max - self.faults.latency_ns_min).max(0) + 1;
        let took = self.faults.latency_ns_min + self.rng.below(spread as u64) as i64;
        self.count += 1;
        self.events.insert((self.now + took * times, self.count), event);
    }

    /// When the next thing happens.
    pub fn next_time(&self) -> Option<i64> {
        self.events.keys().next().map(|(time, _)| *time)
    }

    /// The next completion up to `now`, if there is one.
    pub fn poll(&mut self, now: i64) -> Option<Done> {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > now {
                break;
            }
            self.now = self.now.max(entry.key().0);
            let event = entry.remove();
            if let Some(done) = self.happen(event) {
                return Some(done);
            }
        }
        self.now = self.now.max(now);
        None
    }

    fn happen(&mut self, event: Event) -> Option<Done> {
        let done = |token, result| Some(Done { token, result, buf: None });
        match event {
            Event::Write { token, file, offset, data, view, flush, failing } => {
                // SAFETY: its Done has not been made yet.
                let now = unsafe { view.bytes() };
                assert!(data.starts_with(now), "memory changed while it was written");
                if self.rng.chance(self.faults.failed_write_ppm) {
                    return done(token, Err(refused("write")));
                }
                if failing == Some(Failing::Transfer) {
                    self.write_some(file, offset, &data);
                    return done(token, Err(refused("write")));
                }
                self.count += 1;
                let stamp = self.count;
                let Some(found) = self.files.get_mut(&file) else {
                    return done(token, Err(refused("open")));
                };
                found.write(offset as usize, &data, stamp);
                if !flush {
                    return done(token, Ok(data.len()));
                }
                self.begin_flush(token, file, data.len(), failing.is_some());
                None
            }
            Event::Flush { token, file, fails } => {
                self.begin_flush(token, file, 0, fails);
                None
            }
            Event::Flushed { token, file, stamp, len, fails } => {
                if fails && let Some(found) = self.files.get_mut(&file) {
                    found.fail_flush(stamp, &mut self.rng);
                }
                if fails || self.rng.chance(self.faults.failed_flush_ppm) {
                    return done(token, Err(refused("flush")));
                }
                if let Some(found) = self.files.get_mut(&file) {
                    found.flush(stamp);
                }
                done(token, Ok(len))
            }
            Event::Read { token, file, offset, len, mut buf, fails } => {
                let result = if fails || self.rng.chance(self.faults.failed_read_ppm) {
                    Err(refused("read"))
                } else {
                    self.read_at(file, offset, &mut buf[..len])
                };
                Some(Done { token, result, buf: Some(buf) })
            }
            Event::Create { token, slot, bytes } => {
                done(token, self.create(File::Segment(slot), bytes, Fill::Zero).map(|()| 0))
            }
            Event::Remove { token, slot } => {
                done(token, self.remove(File::Segment(slot)).map(|()| 0))
            }
        }
    }

    fn begin_flush(&mut self, token: Token, file: File, len: usize, fails: bool) {
        let slow = self.rng.chance(self.faults.slow_flush_ppm);
        let stamp = self.count;
        self.after(if slow { 100 } else { 1 }, Event::Flushed { token, file, stamp, len, fails });
    }

    /// Writes some sectors, each chosen by itself. How many, and of how many.
    fn write_some(&mut self, file: File, offset: u64, data: &[u8]) -> (usize, usize) {
        let keep_ppm = self.keep_ppm();
        self.write_chosen(file, offset, data, keep_ppm)
    }

    fn write_chosen(
        &mut self,
        file: File,
        offset: u64,
        data: &[u8],
        keep_ppm: u32,
    ) -> (usize, usize) {
        self.count += 1;
        let stamp = self.count;
        let Some(found) = self.files.get_mut(&file) else { return (0, 0) };
        let mut kept = 0;
        for (nth, sector) in data.chunks(SECTOR).enumerate() {
            if self.rng.chance(keep_ppm) {
                found.write(offset as usize + nth * SECTOR, sector, stamp);
                kept += 1;
            }
        }
        (kept, data.len() / SECTOR)
    }

    /// The process stops and starts again: what was in flight is done, partly done or not done,
    /// and the cache stays, volatile as it is.
    pub fn kill(&mut self) {
        let keep_ppm = self.keep_ppm();
        self.drop_events(keep_ppm);
        self.settle_lost(500_000);
    }

    fn settle_lost(&mut self, keep_ppm: u32) {
        for file in self.files.values_mut() {
            file.settle_lost(keep_ppm, &mut self.rng);
        }
    }

    /// How much of what was not flushed remains.
    fn keep_ppm(&mut self) -> u32 {
        [0, 100_000, 500_000, 900_000, 1_000_000][self.rng.below(5) as usize]
    }

    fn drop_events(&mut self, keep_ppm: u32) {
        for event in std::mem::take(&mut self.events).into_values() {
            match event {
                Event::Write { file, offset, data, .. } => {
                    let (kept, all) = self.write_chosen(file, offset, &data, keep_ppm);
                    let torn = kept > 0 && kept < all;
                    self.torn.writes += u64::from(torn);
                    self.torn.superblocks += u64::from(torn && file == File::Superblock);
                }
                Event::Create { slot, bytes, .. } if self.rng.chance(500_000) => {
                    let _ = self.create(File::Segment(slot), bytes, Fill::Zero);
                }
                Event::Remove { slot, .. } if self.rng.chance(500_000) => {
                    let _ = self.remove(File::Segment(slot));
                }
                _ => {}
            }
        }
    }

    /// The machine stops and starts again: see the fault model.
    pub fn crash(&mut self) {
        let torn = self.rng.chance(self.faults.torn_ppm);
        let keep_ppm = if torn { 500_000 } else { self.keep_ppm() };
        self.drop_events(keep_ppm);
        self.settle_lost(0);
        // In what pieces it remains.
        let piece = if torn || self.rng.chance(500_000) { 1 } else { 4096 / SECTOR };
        for file in self.files.values_mut() {
            let mut kept = (usize::MAX, false);
            for sector in std::mem::take(&mut file.dirty).into_keys() {
                if kept.0 != sector / piece {
                    kept = (sector / piece, self.rng.chance(keep_ppm));
                }
                let bytes = sector * SECTOR..(sector + 1) * SECTOR;
                let SimFile { durable, cached, .. } = file;
                if kept.1 {
                    durable[bytes.clone()].copy_from_slice(&cached[bytes]);
                } else {
                    cached[bytes.clone()].copy_from_slice(&durable[bytes]);
                }
            }
        }
    }

    /// Flips bits of a byte on the medium. False if there is no such byte.
    pub fn rot(&mut self, file: File, offset: u64, mask: u8) -> bool {
        let Some(found) = self.files.get_mut(&file) else { return false };
        let Some(byte) = found.durable.get_mut(offset as usize) else { return false };
        *byte ^= mask;
        found.cached[offset as usize] ^= mask;
        true
    }

    /// A byte of a segment on the medium that is not zero, chosen by `rng`.
    pub fn some_byte(&self, rng: &mut SimRng) -> Option<(File, u64)> {
        let segments = self.files.iter().filter(|(f, _)| matches!(f, File::Segment(_)));
        let segments: Vec<(&File, &SimFile)> = segments.collect();
        (0..256).find_map(|_| {
            let (file, content) = segments.get(rng.below(segments.len().max(1) as u64) as usize)?;
            let at = rng.below(content.durable.len().max(1) as u64);
            let settled = !content.dirty.contains_key(&(at as usize / SECTOR));
            (settled && *content.durable.get(at as usize)? != 0).then_some((**file, at))
        })
    }

    /// Bytes on the medium; fewer if the file is shorter or not there.
    pub fn durable(&self, file: File, from: u64, len: usize) -> &[u8] {
        let Some(found) = self.files.get(&file) else { return &[] };
        let from = (from as usize).min(found.durable.len());
        &found.durable[from..found.durable.len().min(from + len)]
    }

    /// Operations that are not complete.
    pub fn in_flight(&self) -> usize {
        self.events.len()
    }

    /// Writes whose data is not flushed as far as they asked for it.
    pub fn writes_in_flight(&self) -> usize {
        let writes = |e: &&Event| matches!(e, Event::Write { .. } | Event::Flushed { .. });
        self.events.values().filter(writes).count()
    }

    /// Takes the counts of writes in flight that a stop left done in part.
    pub fn take_torn(&mut self) -> Torn {
        std::mem::take(&mut self.torn)
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        self.files.values().map(|f| f.cached.len() as u64).sum()
    }
}

fn refused(what: &str) -> DeviceError {
    DeviceError::Io { errno: libc::EIO, message: format!("simulated {what} error") }
}

fn absent() -> DeviceError {
    DeviceError::Io { errno: libc::ENOENT, message: "no such simulated file".into() }
}

impl Blocking for SimDisk {
    fn list(&mut self) -> Result<Vec<(Slot, u64)>, DeviceError> {
        let segments = self.files.iter().filter_map(|(file, content)| match file {
            File::Superblock => None,
            File::Segment(slot) => Some((*slot, content.cached.len() as u64)),
        });
        Ok(segments.collect())
    }

    fn file_len(&mut self, file: File) -> Result<Option<u64>, DeviceError> {
        Ok(self.files.get(&file).map(|f| f.cached.len() as u64))
    }

    fn read_at(&mut self, file: File, offset: u64, buf: &mut [u8]) -> Result<usize, DeviceError> {
        let content = &self.files.get(&file).ok_or_else(absent)?.cached;
        let from = (offset as usize).min(content.len());
        let n = buf.len().min(content.len() - from);
        buf[..n].copy_from_slice(&content[from..from + n]);
        Ok(n)
    }

    fn write_at(&mut self, file: File, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.count += 1;
        let stamp = self.count;
        self.files.get_mut(&file).ok_or_else(absent)?.write(offset as usize, data, stamp);
        Ok(())
    }

    fn flush(&mut self, file: File) -> Result<(), DeviceError> {
        self.files.get_mut(&file).ok_or_else(absent)?.flush(u64::MAX);
        Ok(())
    }

    fn create(&mut self, file: File, bytes: u64, fill: Fill) -> Result<(), DeviceError> {
        let had = self.files.get(&file).map_or(0, |f| f.cached.len() as u64);
        if self.used_bytes() - had + bytes > self.faults.capacity_bytes {
            return Err(DeviceError::NoSpace);
        }
        let found = self.files.entry(file).or_default();
        if fill == Fill::Zero {
            *found = SimFile::default();
        }
        found.durable.resize(bytes as usize, 0);
        found.cached.resize(bytes as usize, 0);
        Ok(())
    }

    fn remove(&mut self, file: File) -> Result<(), DeviceError> {
        self.files.remove(&file).map(|_| ()).ok_or_else(absent)
    }

    fn free_bytes(&mut self) -> Result<u64, DeviceError> {
        Ok(self.faults.capacity_bytes.saturating_sub(self.used_bytes()))
    }
}
