//! The superblock while the log runs: checkpoints and idle marks.
//!
//! An update writes and flushes the first copy, then the second. It counts when both are done.

use super::{Log, LogFailure, Pending, Progress};
use crate::bytes::round_up;
use crate::device::{DeviceError, File, IoBuf, Op};
use crate::superblock::{CheckpointRef, ReplayPoint, SUPERBLOCK_COPY_BYTES, Superblock};
use crate::types::Lsn;

/// A checkpoint to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its id (not 0) and root.
    pub checkpoint: CheckpointRef,
    /// The root record's place in the cold lane; all of the checkpoint's records come before it.
    pub root_lsn: Lsn,
    /// What the checkpoint holds of the hot lane.
    pub applied: Lsn,
    /// From `Log::replay_point`, when the checkpoint was frozen.
    pub replay: ReplayPoint,
}

pub(super) struct SuperblockWriter {
    /// What both copies on disk say.
    durable: Superblock,
    /// What is being written, and the copy that is in flight.
    writing: Option<(Superblock, u32)>,
    wanted: Option<Commit>,
    mark_wanted: bool,
    buf: Option<IoBuf>,
}

impl SuperblockWriter {
    pub fn new(durable: Superblock) -> Self {
        SuperblockWriter { durable, writing: None, wanted: None, mark_wanted: false, buf: None }
    }

    pub fn durable(&self) -> &Superblock {
        &self.durable
    }

    pub fn in_flight(&self) -> bool {
        self.writing.is_some()
    }

    /// Whether a checkpoint waits for its root to be durable.
    pub fn waits(&self) -> bool {
        self.wanted.is_some() && self.writing.is_none()
    }

    pub fn want_mark(&mut self) {
        self.mark_wanted = true;
    }

    /// Up to which write the superblock says that all were durable.
    pub fn marked(&self) -> u64 {
        self.durable.durable_through
    }

    pub fn leak(&mut self) {
        std::mem::forget(self.buf.take());
    }
}

impl Log {
    /// Makes a checkpoint the one that recovery starts from, as soon as its root is durable.
    /// `Progress::checkpoint` tells when that is done; one at a time (a second call before that
    /// replaces what has not begun to be written).
    pub fn commit_checkpoint(&mut self, commit: Commit, ops: &mut Vec<Op>) {
        assert!(commit.checkpoint.id != 0);
        self.superblock.wanted = Some(commit);
        if self.failed.is_none() {
            self.flush_if_due(ops);
            self.pump_superblock(ops);
        }
    }

    pub(super) fn pump_superblock(&mut self, ops: &mut Vec<Op>) {
        if self.superblock.in_flight() {
            return;
        }
        let (cold, hot) = (self.cold.durable, self.hot.durable);
        let ready = self.superblock.wanted.take_if(|c| c.root_lsn <= cold && c.applied <= hot);
        if ready.is_none() && !std::mem::take(&mut self.superblock.mark_wanted) {
            return;
        }
        let mut next = self.superblock.durable.clone();
        next.sequence += 1;
        next.durable_through = self.hot.durable_number;
        if let Some(commit) = ready {
            next.checkpoint = Some(commit.checkpoint);
            next.replay = commit.replay;
        }
        let replay = next.replay.number;
        next.ends.retain(|end| end.write > replay || self.has_generation(end.generation));
        self.superblock.writing = Some((next, 0));
        self.write_superblock(ops);
    }

    fn write_superblock(&mut self, ops: &mut Vec<Op>) {
        let token = self.token(Pending::Superblock);
        let device_block_bytes = self.options.device_block_bytes;
        let writer = &mut self.superblock;
        let Some((content, copy)) = &writer.writing else { return };
        let buf = writer.buf.get_or_insert_with(|| IoBuf::zeroed(SUPERBLOCK_COPY_BYTES as usize));
        content.encode(buf);
        let length = round_up(content.length() as u32, device_block_bytes);
        // SAFETY: the buffer is written to again only after this write's completion, and leaked
        // if the log is dropped before that.
        let data = unsafe { buf.view(0, length as usize) };
        let offset = (*copy * SUPERBLOCK_COPY_BYTES) as u64;
        let file = File::Superblock;
        ops.push(Op::Write { token, file, offset, data, zeroes: 0, flush: true });
    }

    pub(super) fn superblock_done(
        &mut self,
        result: Result<usize, DeviceError>,
        ops: &mut Vec<Op>,
        progress: &mut Progress,
    ) -> Result<(), LogFailure> {
        let written = self.superblock.writing.take();
        result.map_err(|e| self.fail("writing the superblock", &e))?;
        let Some((content, copy)) = written else { return Ok(()) };
        if self.failed.is_some() {
            return Ok(());
        }
        if copy == 0 {
            self.superblock.writing = Some((content, 1));
            self.write_superblock(ops);
            return Ok(());
        }
        if content.checkpoint != self.superblock.durable.checkpoint {
            progress.checkpoint = content.checkpoint.map(|c| c.id);
        }
        self.superblock.durable = content;
        Ok(())
    }
}
