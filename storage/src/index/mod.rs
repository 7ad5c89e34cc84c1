//! The index of one stream: where each message lies, which are gone, and what each subject holds.
//!
//! Purpose: the paged map from sequence to `(segment, offset, size, subject)`, the bitmaps of
//! deleted sequences and the table of subjects, with the checkpoints that write them into the log
//! page by page. It must not know records, segments' files, streams' limits, consumers or time, and
//! it never reads: what is not resident is named ([`PageKey`]) and the caller brings it with
//! [`StreamIndex::load_page`].
//!
//! It exists once per stream, on the stream's shard. A [`StreamIndex`] is plain data: no clock, no
//! I/O, no threads.
//!
//! # Invariants
//!
//! - `first_seq..=last_seq` holds `messages` live sequences; an empty stream has `first_seq ==
//!   last_seq + 1`.
//! - A sequence in that range is live unless its bit is set. Bits outside of the range mean
//!   nothing.
//! - The subject of a live entry is in use; its `count` is the number of live entries that name it.
//! - `first` of a subject is a lower bound, `last` an upper bound; `last` is exact unless
//!   [`SubjectEntry::last_is_exact`] says no (only after the last of several messages was removed).
//! - The smallest free [`SubjectId`] is taken first, so that replay gives the same ids.
//! - A page that is evictable equals its stored version as far as live messages go. No page is
//!   kept in which nothing lives, but for the open one. Subjects, bitmaps and directory are always
//!   resident.
//! - Everything that walks takes a budget of visited entries and can be resumed.
//!
//! # Checkpoints
//!
//! [`StreamIndex::freeze`] marks the dirty pages. [`StreamIndex::next_frozen`] hands them out one
//! by one (data pages, then directory pages, then the head), and [`StreamIndex::stored`] must be
//! told where each went before the next call. A page that has to change while it is frozen is
//! encoded into an outbox first. Locations that a checkpoint supersedes (answers of `stored`, and
//! [`StreamIndex::take_released`]) are dead when that checkpoint's root is durable, not before.
//!
//! # Byte formats
//!
//! All little-endian. Every page starts with 8 bytes: type `u8` (the [`PageKind`]'s code), version
//! `u8` (1), 6 bytes of its own. Checksums are the record's.
//!
//! ```text
//! 1  sequences, 4,096 a page
//!      2  u16  start slot            8  u64  page number
//!      4  u16  entries              16  entries of 16 bytes:
//!      6  u16  zero                       segment u32, offset u32, size u32, subject u32
//!    Entry i is sequence number * 4096 + start + i. In version 2, of which little lives, the
//!    entries are followed by the slot of each, u16, ascending; start means nothing.
//! 2  deleted, 65,536 a page
//!      2  u16  1: every bit is set and there are no words
//!      4  u16  words, at most 1,024  8  u64  page number
//!      6  u16  zero                 16  words of u64
//!    Bit b of word w is sequence number * 65536 + 64 * w + b. Words left out are 0.
//! 3  subjects, 256 ids a page                  2  zero   8  rkyv archive of SubjectsBody
//! 4, 5, 6  directory of 1, 2, 3; 512 a page    2  zero   8  rkyv archive of DirectoryBody
//! 7  head, version 2                           2  zero   8  rkyv archive of HeadBody
//! ```
//!
//! The bodies are declared in `codec`. Heads of version 1 have no sum for the digest: it
//! begins at 0.

mod checkpoint;
mod codec;
mod deleted;
mod directory;
mod filter;
mod jobs;
mod order;
mod recovery;
mod scan;
mod sequences;
mod stream;
mod subjects;

#[cfg(test)]
mod tests;

use crate::types::Position;

pub use checkpoint::Frozen;
pub use filter::FilterSet;
pub use jobs::{CountId, CountStep, LastJob, LastStep, NthJob, NthStep, PurgeJob, PurgeStep};
pub use order::SubjectCursor;
pub use scan::{RangeRemoval, Resolved, Scan, ScanEnd};
pub use stream::StreamIndex;
pub use subjects::{Kept, SubjectEntry, SubjectTable};

/// Sequences in one page of the sequence map.
pub const SEQUENCES_PER_PAGE: u64 = 4096;
/// Sequences in one page of the bitmaps of deleted sequences.
pub const DELETED_PER_PAGE: u64 = 65_536;
/// Subject ids in one subject page.
pub const SUBJECTS_PER_PAGE: u32 = 256;
/// Page locations in one directory page.
pub const LOCATIONS_PER_PAGE: u64 = 512;
/// Messages of one subject that a kept history holds at most. A per-subject limit above it needs
/// pages to evict.
pub const HISTORY_MAX: usize = 64;

/// A subject of one stream: an index into its table, reused when the subject is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectId(pub u32);

/// Where a message lies, what it accounts for and what its subject is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The record's place in the log.
    pub position: Position,
    /// Accounted bytes.
    pub size: u32,
    /// The subject.
    pub subject: SubjectId,
}

/// What kind of page a [`PageKey`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PageKind {
    /// Entries of 4,096 sequences.
    Sequences = 1,
    /// Bits of 65,536 sequences.
    Deleted = 2,
    /// 256 subjects.
    Subjects = 3,
    /// Locations of 512 sequence pages.
    SequencesDirectory = 4,
    /// Locations of 512 pages of deleted bits.
    DeletedDirectory = 5,
    /// Locations of 512 subject pages.
    SubjectsDirectory = 6,
    /// The state and the locations of the directory pages; its number is 0.
    Head = 7,
}

impl PageKind {
    /// The code that pages and records carry.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The kind of a code.
    pub fn from_code(code: u8) -> Option<PageKind> {
        Some(match code {
            1 => PageKind::Sequences,
            2 => PageKind::Deleted,
            3 => PageKind::Subjects,
            4 => PageKind::SequencesDirectory,
            5 => PageKind::DeletedDirectory,
            6 => PageKind::SubjectsDirectory,
            7 => PageKind::Head,
            _ => return None,
        })
    }

    /// The kind of the directory page that locates a data page of this kind.
    fn directory(self) -> Option<PageKind> {
        match self {
            PageKind::Sequences => Some(PageKind::SequencesDirectory),
            PageKind::Deleted => Some(PageKind::DeletedDirectory),
            PageKind::Subjects => Some(PageKind::SubjectsDirectory),
            _ => None,
        }
    }

    /// The kind of the data pages that a directory page of this kind locates.
    fn located(self) -> Option<PageKind> {
        match self {
            PageKind::SequencesDirectory => Some(PageKind::Sequences),
            PageKind::DeletedDirectory => Some(PageKind::Deleted),
            PageKind::SubjectsDirectory => Some(PageKind::Subjects),
            _ => None,
        }
    }
}

/// The name of a page within its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageKey {
    /// What it holds.
    pub kind: PageKind,
    /// Which one of its kind.
    pub number: u64,
}

impl PageKey {
    /// The stream's head.
    pub const HEAD: PageKey = PageKey { kind: PageKind::Head, number: 0 };

    /// The page with the entry of `seq`.
    pub fn of_sequence(seq: u64) -> PageKey {
        PageKey { kind: PageKind::Sequences, number: seq / SEQUENCES_PER_PAGE }
    }

    pub(crate) fn new(kind: PageKind, number: u64) -> PageKey {
        PageKey { kind, number }
    }
}

/// Where the stored version of a page lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The page record's place in the log.
    pub position: Position,
    /// Its length in bytes, as told to [`StreamIndex::stored`]; never 0.
    pub len: u32,
}

/// Settings of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexConfig {
    /// The sequence of the first message of a new stream, at least 1.
    pub first_seq: u64,
    /// Keep (sequence, size, segment) of each subject's newest [`HISTORY_MAX`] messages, so that
    /// removing the oldest of a subject needs no page. For streams with a per-subject limit of 2 to
    /// [`HISTORY_MAX`].
    pub track_history: bool,
    /// Seed of the subject table's hash.
    pub hash_seed: u64,
}

impl Default for IndexConfig {
    fn default() -> Self {
        IndexConfig { first_seq: 1, track_history: false, hash_seed: 0 }
    }
}

/// The answer of [`StreamIndex::get`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A live message.
    Found(Entry),
    /// The sequence was removed or never stored.
    Deleted,
    /// Below the first or above the last sequence.
    OutOfRange,
    /// Live; its page must be loaded first.
    NeedPage(PageKey),
}

/// A message that was removed: what the live bytes of its segment lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovedMessage {
    /// Its sequence.
    pub seq: u64,
    /// Its subject; the id may already be free.
    pub subject: SubjectId,
    /// Its accounted bytes.
    pub size: u32,
    /// The segment that held it.
    pub segment: crate::types::SegmentId,
}

/// The answer of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Done(RemovedMessage),
    /// No live message has this sequence (and, where one was named, this subject).
    NotThere,
    /// Nothing changed; load the page and ask again.
    NeedPage(PageKey),
}

/// The answer of [`StreamIndex::shrink_stored`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrunk {
    /// The next checkpoint writes it again.
    Done,
    /// It is as small as it should be.
    Not,
    /// Nothing changed; load the page and ask again.
    NeedPage(PageKey),
}

/// The answer of [`StreamIndex::relocate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relocated {
    /// The entry points to the new place.
    Moved,
    /// No live message of this sequence is at the old place.
    NotThere,
    /// Nothing changed; load the page and ask again.
    NeedPage(PageKey),
}

/// A page's bytes do not fit what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// The page.
    pub key: PageKey,
    /// What is wrong, for the log.
    pub what: &'static str,
}

impl std::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "index page {:?} {}: {}", self.key.kind, self.key.number, self.what)
    }
}

impl std::error::Error for Corrupt {}

/// Bytes that an index holds in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Sequence pages, which [`StreamIndex::evict`] can shrink once they are stored.
    pub sequences: usize,
    /// Subjects, bitmaps, directory: always resident.
    pub fixed: usize,
    /// Copies of frozen pages that wait to be written.
    pub outbox: usize,
}
