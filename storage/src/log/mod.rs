//! One shard's log: what is appended, written, durable, kept in memory, read and freed.
//!
//! A synchronous state machine. Inputs: `append`, `seal` once a turn, `complete` for each device
//! completion, `tick` at its `deadline`. Outputs: device operations pushed to `ops`, `Progress`.
//!
//! Must not know: what records mean, clocks, files. Exists: one per shard, after recovery.
//!
//! Invariants:
//! - Two lanes, hot and cold, each a sequence of numbered writes. Within a lane `appended >=
//!   written >= durable`, each of them only ever grows, and `durable` ends an unbroken run.
//! - A write lies in one block of one segment; a block's memory is the bytes that are written, and
//!   is neither moved, changed nor freed while a write of it is in flight.
//! - A segment id names one content for ever; a slot (file) is used again with a new id.
//! - A failed write or flush ends the log: every later call that could acknowledge refuses.
//! - A segment is freed when nothing in it lives, it lies below the replay point of the durable
//!   checkpoint, what emptied it is durable, and nobody reads it.
//!
//! ```text
//! append ──> open write ──seal──> queue ──slot free──> device ──Done──> written ──flush──> durable
//!            (tail block, in memory until evicted; positions are final at append)
//! ```

mod append;
mod checkpoint;
mod flush;
mod options;
mod read;
mod scan;
mod space;
mod tail;

pub use checkpoint::Commit;
pub use options::{EXTENSION_BYTES_MAX, LogOptions, OptionsError, SyncPolicy};
pub use read::{Read, ReadError, ReadHint, ReadId};
pub use scan::{Scan, ScanStep};
pub(crate) use space::is_usable;
pub use space::{SegmentUse, SpaceState};

use crate::device::{DeviceError, Slot, Token};
use crate::random::Random;
use crate::segment::SegmentKind;
use crate::superblock::{CheckpointRef, Superblock};
use crate::types::{GroupId, LogIndex, Lsn, Position, SegmentId, Term};
use append::Lane;
use space::{Segment, Spare, Waiting};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use tail::{BlockPool, Tail};

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its place in the order in which its lane's records were appended.
    pub lsn: Lsn,
    /// Where it lies, unless that is only known when its write is closed: a write has one group's
    /// frame behind the other's.
    pub position: Option<Position>,
    /// Bytes that it takes, with padding: what live-byte counts and reads are given.
    pub len: u32,
    /// The number of its write, which holds one entry of its group.
    pub write: u64,
    /// Which record of that entry it is, from 0.
    pub nth: u32,
}

/// Where a record of the cold lane went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its place in the order of the cold lane.
    pub lsn: Lsn,
    /// Where it lies.
    pub position: Position,
    /// Bytes that it takes, with padding.
    pub len: u32,
}

/// The place of an entry in its group's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The term in which it is sealed.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
    /// What is committed of the group.
    pub commit: LogIndex,
}

/// Gives out the places of entries, when their write is handed to the device.
pub trait Stamper {
    /// The next entry of this group is sealed.
    fn stamp(&mut self, group: GroupId) -> Stamp;
}

impl<F: FnMut(GroupId) -> Stamp> Stamper for F {
    fn stamp(&mut self, group: GroupId) -> Stamp {
        self(group)
    }
}

/// An entry whose write was handed to the device. Its records follow one another from `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedEntry {
    /// Its group.
    pub group: GroupId,
    /// Its term.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
    /// The number of its write.
    pub write: u64,
    /// Its first record.
    pub position: Position,
    /// Bytes of its records.
    pub length: u32,
    /// How many.
    pub records: u32,
    /// The block that holds it in memory.
    pub block: BlockName,
}

/// A block of the tail cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockName {
    kind: u8,
    serial: u64,
}

/// Why a record was not appended. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The disk is full: messages are refused until space returns, metadata once the reserve is
    /// used up as well.
    NoSpace,
    /// `unflushed_bytes_max` are waiting for the disk already. The caller should have stopped.
    Busy,
    /// Larger than `record_bytes_max`, or a subject longer than 65,535 bytes.
    TooLarge,
    /// The log has failed.
    Failed,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AppendError::NoSpace => "no space left for the log",
            AppendError::Busy => "too much waits for the disk",
            AppendError::TooLarge => "record too large",
            AppendError::Failed => "the log has failed",
        })
    }
}

impl std::error::Error for AppendError {}

/// The disk did not do as asked. The node must stop: what is on the disk is not known any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFailure {
    /// What failed, for the operator.
    pub message: String,
}

impl fmt::Display for LogFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LogFailure {}

/// What a completion moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// `written()` of the hot lane grew.
    pub written: bool,
    /// `durable()` grew.
    pub durable: bool,
    /// `cold_durable()` grew.
    pub cold_durable: bool,
    /// This read is over: `read` the record again (it is ready, or an error, or was evicted).
    pub read: Option<ReadId>,
    /// This checkpoint is durable.
    pub checkpoint: Option<u64>,
    /// Space returned after `AppendError::NoSpace`.
    pub space_returned: bool,
}

/// What a token stands for.
#[derive(Debug)]
enum Pending {
    Write { lane: LaneId, number: u64 },
    Flush,
    Read { id: ReadId },
    CreateSpare { slot: Slot, bytes: u64 },
    CreateOwn { slot: Slot, segment: SegmentId },
    Zero { slot: Slot, bytes: u64 },
    Remove,
    Superblock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LaneId {
    Hot,
    Cold,
}

/// One shard's log. Told of the time by `tick` before anything else. Made by
/// `recovery::Recovery::finish`.
pub struct Log {
    options: LogOptions,
    tail_max: usize,
    failed: Option<LogFailure>,
    generation: u32,
    keys: Random,
    next_segment: u32,
    next_slot: u32,
    next_token: u64,
    tokens: BTreeMap<Token, Pending>,
    hot: Lane,
    cold: Lane,
    /// By `SegmentKind`.
    tails: [Tail; 4],
    pool: BlockPool,
    segments: BTreeMap<SegmentId, Segment>,
    spares: Vec<Spare>,
    waiting: VecDeque<Waiting>,
    space: space::Space,
    flush: flush::FlushRounds,
    superblock: checkpoint::SuperblockWriter,
    reads: read::Reads,
    /// Entries handed out and not taken by `take_sealed`.
    sealed: Vec<SealedEntry>,
    /// The blocks of writes from this number on stay in memory.
    needed_from: u64,
    /// When `tick` was last told.
    now: i64,
}

/// What recovery found, for the log that goes on from it.
pub(crate) struct Start {
    pub options: LogOptions,
    pub seed: u64,
    pub superblock: Superblock,
    /// Segments with content, with what is known of them.
    pub segments: Vec<RecoveredSegment>,
    /// Slots without content, and their sizes.
    pub spares: Vec<(Slot, u64)>,
    pub next_segment: u32,
    pub next_slot: u32,
    /// Number of the next write.
    pub next_write: u64,
    /// Where the accepted log ends.
    pub cursor: Position,
}

pub(crate) struct RecoveredSegment {
    pub segment: SegmentId,
    pub slot: Slot,
    pub kind: SegmentKind,
    pub bytes: u64,
    pub key: u64,
    pub generation: u32,
    /// Bytes in which its writes lie.
    pub end: u32,
    /// Its last write, if it lies in the replayed part, or its only one.
    pub last_write: u64,
    /// Nothing in it was accepted.
    pub discarded: bool,
}

impl Log {
    pub(crate) fn start(start: Start) -> Log {
        let options = start.options;
        let mut log = Log {
            failed: None,
            generation: start.superblock.generation,
            keys: Random::new(start.seed),
            next_segment: start.next_segment,
            next_slot: start.next_slot,
            next_token: 1,
            tokens: BTreeMap::new(),
            hot: Lane::new(SegmentKind::Hot, start.next_write, start.cursor),
            cold: Lane::new(SegmentKind::Cold, 1, Position::default()),
            tails: Default::default(),
            pool: BlockPool::new(options.block_bytes as usize),
            segments: BTreeMap::new(),
            spares: start
                .spares
                .iter()
                .map(|&(slot, bytes)| Spare { slot, bytes, zeroed: false })
                .collect(),
            waiting: VecDeque::new(),
            space: space::Space::default(),
            flush: flush::FlushRounds::default(),
            superblock: checkpoint::SuperblockWriter::new(start.superblock),
            reads: read::Reads::new(&options),
            sealed: Vec::new(),
            needed_from: u64::MAX,
            now: 0,
            tail_max: options.tail_bytes,
            options,
        };
        for found in start.segments {
            log.restore_segment(found);
        }
        log
    }

    /// The settings.
    pub fn options(&self) -> &LogOptions {
        &self.options
    }

    /// Why the log has failed, if it has.
    pub fn failure(&self) -> Option<&LogFailure> {
        self.failed.as_ref()
    }

    /// The last record appended to the hot lane. `Lsn(0)` before the first since opening.
    pub fn appended(&self) -> Lsn {
        self.hot.appended
    }

    /// All hot records up to this one are written (and perhaps not flushed).
    pub fn written(&self) -> Lsn {
        self.hot.written
    }

    /// All hot records up to this one are on the medium.
    pub fn durable(&self) -> Lsn {
        self.hot.durable
    }

    /// All hot records up to this one may be acknowledged: durable, or written where the sync
    /// policy says so.
    pub fn acknowledgeable(&self) -> Lsn {
        match self.options.sync {
            SyncPolicy::Always => self.hot.durable,
            SyncPolicy::Interval(_) => self.hot.written,
        }
    }

    /// The number of the last write whose entries may be acknowledged.
    pub fn acknowledgeable_write(&self) -> u64 {
        match self.options.sync {
            SyncPolicy::Always => self.hot.durable_number,
            SyncPolicy::Interval(_) => self.hot.written_number,
        }
    }

    /// Takes the entries that were handed out, in the order of their writes.
    pub fn take_sealed(&mut self) -> std::vec::Drain<'_, SealedEntry> {
        self.sealed.drain(..)
    }

    /// The records of an entry that is not applied yet: in memory while `need_writes_from` says so.
    pub fn entry_bytes(&self, entry: &SealedEntry) -> Option<&[u8]> {
        let BlockName { kind, serial } = entry.block;
        let block = self.tails.get(usize::from(kind))?.in_memory(serial)?;
        let from = entry.position.offset.checked_sub(block.base)? as usize;
        block.buf.get(from..from + entry.length as usize)
    }

    /// The blocks of writes from this number on are kept in memory: they hold entries that are not
    /// applied.
    pub fn need_writes_from(&mut self, number: u64) {
        self.needed_from = number;
    }

    /// The last record appended to the cold lane, which counts on its own.
    pub fn cold_appended(&self) -> Lsn {
        self.cold.appended
    }

    /// All cold records up to this one are on the medium.
    pub fn cold_durable(&self) -> Lsn {
        self.cold.durable
    }

    /// Bytes appended and not durable: what back-pressure goes by.
    pub fn unflushed_bytes(&self) -> usize {
        self.hot.unflushed_bytes() + self.cold.unflushed_bytes()
    }

    /// Those of them in the hot lane.
    pub fn unflushed_hot_bytes(&self) -> usize {
        self.hot.unflushed_bytes()
    }

    /// The last durable checkpoint.
    pub fn checkpoint(&self) -> Option<CheckpointRef> {
        self.superblock.durable().checkpoint
    }

    /// Whether operations are in flight. A log may be dropped when none are; earlier, the memory
    /// of those in flight is leaked.
    pub fn is_idle(&self) -> bool {
        self.tokens.is_empty() && self.unflushed_bytes() == 0
    }

    fn token(&mut self, pending: Pending) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.tokens.insert(token, pending);
        token
    }

    fn lane(&mut self, id: LaneId) -> &mut Lane {
        match id {
            LaneId::Hot => &mut self.hot,
            LaneId::Cold => &mut self.cold,
        }
    }

    fn fail(&mut self, doing: &str, error: &DeviceError) -> LogFailure {
        let failure = LogFailure {
            message: format!(
                "shard {}: {doing} failed ({error}); what the disk holds is not known any more",
                self.options.shard.0
            ),
        };
        self.failed.get_or_insert_with(|| failure.clone());
        failure
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // The device may still read from what is in flight.
        for tail in &mut self.tails {
            tail.leak_in_flight();
        }
        if self.superblock.in_flight() {
            self.superblock.leak();
        }
    }
}

const _: () = {
    const fn moves_between_threads<T: Send>() {}
    moves_between_threads::<Log>();
};

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("shard", &self.options.shard)
            .field("generation", &self.generation)
            .field("appended", &self.hot.appended)
            .field("durable", &self.hot.durable)
            .finish_non_exhaustive()
    }
}
