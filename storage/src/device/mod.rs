//! What the log asks of a disk, and what it is told.
//!
//! The log emits `Op`s and is told of each exactly once by a `Done` with the same token. Order of
//! execution is free: the log never has two operations in flight whose order matters. At start,
//! opening and recovery use the `Blocking` side.
//!
//! Must not know: what the bytes mean. Exists: one device (a directory) per shard.
//!
//! Files of the directory: `superblock`, and `segment-%08x` by slot. A *slot* is a file; which
//! segment lies in it, its header tells. A freed segment's slot is used again for a segment of a
//! new id, so a `SegmentId` names one content for ever.

pub mod blocking;
pub mod sim;

mod buf;

pub use buf::{IoBuf, WriteView, prefetch};

use std::fmt;

/// A segment file. Slots are numbered from 0 and never renamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// A file of the shard's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// The superblock, which holds both of its copies.
    Superblock,
    /// A segment file.
    Segment(Slot),
}

/// Names one operation in flight. Unique for the life of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// How a new file gets its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Space is reserved (`fallocate`); quick.
    Allocate,
    /// Space is reserved and zeroes are written over all of it; slow, never waited for.
    Zero,
}

/// One thing to do. Offsets and lengths are multiples of the device block, buffers are aligned to
/// 4 KiB.
#[derive(Debug)]
pub enum Op {
    /// Write all of `data` at `offset`; with `flush`, then flush the file's data (`fdatasync`,
    /// linked: submitted when the write has completed), and report both as one. A short write
    /// is continued by the device, or reported as an error. The file exists.
    Write {
        /// Repeated in the `Done`.
        token: Token,
        /// Where.
        file: File,
        /// Where in it.
        offset: u64,
        /// Memory of the log that neither moves nor changes until the `Done` is handed in.
        data: WriteView,
        /// How many zeroes to write directly behind the data. The `Done` counts them.
        zeroes: u32,
        /// Whether to flush after the write.
        flush: bool,
    },
    /// Flush what was written to the file before this was submitted (`fdatasync`).
    Flush {
        /// Repeated in the `Done`.
        token: Token,
        /// Which file.
        file: File,
    },
    /// Read `len` bytes at `offset` into the start of `buf`, and hand `buf` back in the `Done`.
    /// Fewer bytes only at the end of the file.
    Read {
        /// Repeated in the `Done`.
        token: Token,
        /// Where.
        file: File,
        /// Where in it.
        offset: u64,
        /// How many bytes; at most the buffer's length.
        len: usize,
        /// Where to; always handed back, also with an error.
        buf: IoBuf,
    },
    /// Make the slot's file `bytes` long and fill it, creating it if there is none; then flush
    /// file and directory. Not for the submission path: give it to a thread. On `NoSpace` a
    /// file that did not exist before is gone again.
    Create {
        /// Repeated in the `Done`.
        token: Token,
        /// Which file.
        slot: Slot,
        /// How long.
        bytes: u64,
        /// How.
        fill: Fill,
    },
    /// Remove the slot's file and flush the directory. Not for the submission path.
    Remove {
        /// Repeated in the `Done`.
        token: Token,
        /// Which file.
        slot: Slot,
    },
}

impl Op {
    /// The token that its `Done` must carry.
    pub fn token(&self) -> Token {
        match self {
            Op::Write { token, .. }
            | Op::Flush { token, .. }
            | Op::Read { token, .. }
            | Op::Create { token, .. }
            | Op::Remove { token, .. } => *token,
        }
    }
}

/// The end of an operation.
#[derive(Debug)]
pub struct Done {
    /// Which operation.
    pub token: Token,
    /// Bytes written or read (0 for the others), or why not.
    pub result: Result<usize, DeviceError>,
    /// The buffer of a read.
    pub buf: Option<IoBuf>,
}

/// Why the disk did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// No space left on the device, or a quota is reached.
    NoSpace,
    /// Anything else: an `errno` (0 if there is none) and a text.
    Io {
        /// The operating system's number.
        errno: i32,
        /// What failed, for the operator.
        message: String,
    },
}

impl DeviceError {
    /// From an `errno`; `message` says what was being done.
    pub fn from_errno(errno: i32, message: &str) -> Self {
        match errno {
            libc::ENOSPC | libc::EDQUOT => DeviceError::NoSpace,
            _ => DeviceError::Io {
                errno,
                message: format!("{message}: {}", std::io::Error::from_raw_os_error(errno)),
            },
        }
    }

    /// From an I/O error; `message` says what was being done.
    pub fn from_io(error: &std::io::Error, message: &str) -> Self {
        match error.raw_os_error() {
            Some(errno) => DeviceError::from_errno(errno, message),
            None => DeviceError::Io { errno: 0, message: format!("{message}: {error}") },
        }
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceError::NoSpace => f.write_str("no space left on device"),
            DeviceError::Io { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for DeviceError {}

/// The waiting side of a device, for opening and recovery.
pub trait Blocking {
    /// Every segment file with its length, by slot.
    fn list(&mut self) -> Result<Vec<(Slot, u64)>, DeviceError>;
    /// The length of a file, or `None` if there is none.
    fn file_len(&mut self, file: File) -> Result<Option<u64>, DeviceError>;
    /// Reads into all of `buf` (aligned like an `IoBuf`); fewer bytes only at the file's end.
    fn read_at(&mut self, file: File, offset: u64, buf: &mut [u8]) -> Result<usize, DeviceError>;
    /// Writes all of `data` (aligned like an `IoBuf`).
    fn write_at(&mut self, file: File, offset: u64, data: &[u8]) -> Result<(), DeviceError>;
    /// Flushes a file's data.
    fn flush(&mut self, file: File) -> Result<(), DeviceError>;
    /// As `Op::Create`.
    fn create(&mut self, file: File, bytes: u64, fill: Fill) -> Result<(), DeviceError>;
    /// As `Op::Remove`.
    fn remove(&mut self, file: File) -> Result<(), DeviceError>;
    /// Bytes that the device has left for us.
    fn free_bytes(&mut self) -> Result<u64, DeviceError>;
}
