//! Opening a log: what is accepted, what is corrupt, where it goes on (law 7).
//!
//! ```text
//! open ──> [read pages of the checkpoint] ──> next … next ──> finish ──> Log
//! ```
//!
//! Replay follows the numbers of the writes. Write N is looked for in turn: at the start of the
//! segment whose header names it as the first (a hot one, or one of its own); where write N-1
//! ended; at the next block. Its
//! generation is the one whose end lies beyond N. A write is accepted if everything in it verifies.
//!
//! Where N is not found whole, evidence is looked for that it was durable once: N lies before the
//! end of an earlier generation; or before the mark of the superblock; or a later write of the
//! same generation carries a `durable_through` of at least N. With evidence it is *corruption*:
//! reported as `Damaged`, what verifies in it is still delivered, and replay goes on behind it.
//! Without evidence the log *ends* before N, and everything behind it is discarded for ever: the
//! end is written to the superblock, and a new generation begins with the same number N.
//!
//! What is whole and of a version that is not known here was written by a later release: it is
//! neither damage nor the log's end. Opening is refused, and nothing is changed until `finish`.
//!
//! `finish` flushes what was accepted before it writes the superblock, and the log serves only
//! after that.

mod open;
mod walk;

pub use open::refuse_unknown;

use crate::device::{Blocking, DeviceError, IoBuf, Slot};
use crate::envelope::{FrameHeader, RecordWalk};
use crate::log::{Log, LogOptions, OptionsError};
use crate::record::RecordView;
use crate::segment::SegmentHeader;
use crate::superblock::{CheckpointRef, Superblock};
use crate::types::{Position, SegmentId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Why a log cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The settings contradict each other.
    Options(OptionsError),
    /// The device failed.
    Device(DeviceError),
    /// Both copies of the superblock are bad, or missing although there are segments.
    Superblock(String),
    /// The files belong to another store or shard, or were made with other sizes.
    Foreign(String),
    /// Something that is whole is of a version that this release does not know: a later release
    /// wrote it. Nothing was changed.
    Unknown(String),
    /// The superblock has no room for another generation.
    TooManyGenerations,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Options(e) => write!(f, "log settings: {e}"),
            OpenError::Device(e) => write!(f, "cannot open the log: {e}"),
            OpenError::Superblock(why) => write!(f, "superblock: {why}"),
            OpenError::Foreign(why) => f.write_str(why),
            OpenError::Unknown(what) => write!(
                f,
                "{what}, which this release does not know; nothing was changed or deleted. A later \
                 release has used this store, and can open it"
            ),
            OpenError::TooManyGenerations => {
                f.write_str("the superblock has no room for another generation")
            }
        }
    }
}

impl std::error::Error for OpenError {}

impl From<DeviceError> for OpenError {
    fn from(error: DeviceError) -> Self {
        OpenError::Device(error)
    }
}

/// No log writes so often: a larger number is damage, and counting on from it must not overflow.
const WRITES_MAX: u64 = 1 << 62;

/// A stretch of the log that was durable and does not verify any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins.
    pub position: Position,
    /// Bytes, as far as known: to the end of the record or write, or of the device block.
    pub len: u64,
    /// The writes in it: from this number on, half-open.
    pub first_write: u64,
    /// The first write that is not in it.
    pub end_write: u64,
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The store was new.
    pub created: bool,
    /// The generation that the log goes on with.
    pub generation: u32,
    /// Writes and records replayed.
    pub writes: u64,
    /// Records delivered by `next`.
    pub records: u64,
    /// Bytes of the writes replayed.
    pub bytes: u64,
    /// What was durable and is not readable.
    pub damaged: Vec<Damage>,
    /// The segments in which that lies: they are to be kept, whatever else lives in them.
    pub damaged_segments: BTreeSet<SegmentId>,
    /// Segment files whose headers are not readable; they are left alone.
    pub unidentified: Vec<u32>,
    /// A copy of the superblock was bad and has been written again.
    pub superblock_repaired: bool,
    /// Where the accepted log ends.
    pub end: Position,
}

/// What replay delivers, in the order of the log.
#[derive(Clone, Copy, Debug)]
pub enum Replayed<'a> {
    /// A verified record that the checkpoint does not hold.
    Record {
        /// Its frame: group, term, index.
        frame: FrameHeader,
        /// The number of the frame's write.
        write: u64,
        /// Which record of its frame, from 0.
        nth: u32,
        /// Where it lies.
        position: Position,
        /// Its padded bytes.
        len: u32,
        /// The record, until the next call.
        record: RecordView<'a>,
    },
    /// Records were here, were durable, and are not readable.
    Damaged(Damage),
}

/// A segment file with a readable header.
struct Known {
    slot: Slot,
    header: SegmentHeader,
    /// Its generation ended before it: nothing in it was accepted.
    discarded: bool,
    /// The last write found in it by replay.
    last_write: u64,
    /// Where that write ends.
    end: u32,
}

/// The write that replay is in.
struct InWrite {
    number: u64,
    segment: SegmentId,
    /// Where it lies in its segment, and in the loaded bytes.
    offset: u32,
    at: usize,
    length: usize,
    walk: RecordWalk,
    skip: u32,
    /// Something in it does not verify: look at each record.
    salvage: bool,
}

/// A log being opened.
pub struct Recovery {
    options: LogOptions,
    seed: u64,
    superblock: Superblock,
    /// Which copy that was read from: it must stay until the other has been written and flushed.
    good_copy: u64,
    report: Report,
    segments: BTreeMap<SegmentId, Known>,
    /// Hot and own segments by generation and number of their first write.
    begins: BTreeMap<(u32, u64), SegmentId>,
    /// Files without accepted content that have the standard size.
    spares: Vec<(Slot, u64)>,
    /// Files without accepted content that are not kept; `finish` removes them.
    unwanted: Vec<Slot>,
    next_segment: u32,
    next_slot: u32,
    /// Where replay is: the number of the next write, and where to look for it.
    number: u64,
    cursor: Position,
    skip: u32,
    in_write: Option<InWrite>,
    ended: bool,
    /// Files with replayed writes: flushed before they are served.
    touched: BTreeSet<Slot>,
    /// The loaded bytes and where they are from: a block, or all of a segment of its own.
    buf: IoBuf,
    own_buf: Option<IoBuf>,
    loaded: Option<(SegmentId, u32)>,
    page: Option<IoBuf>,
    /// What `page` holds: segment, offset, bytes.
    page_at: Option<(SegmentId, u32, u32)>,
}

impl Recovery {
    /// The last checkpoint, which the shard loads first (see `read`).
    pub fn checkpoint(&self) -> Option<CheckpointRef> {
        self.superblock.checkpoint
    }

    /// What was found so far.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// Opens a log and replays it through `each`. For logs whose checkpoint the caller does not load.
pub fn open<D: Blocking>(
    dev: &mut D,
    options: LogOptions,
    seed: u64,
    mut each: impl FnMut(Replayed<'_>),
) -> Result<(Log, Report), OpenError> {
    let mut recovery = Recovery::open(dev, options, seed)?;
    while let Some(replayed) = recovery.next(dev)? {
        each(replayed);
    }
    recovery.finish(dev)
}
