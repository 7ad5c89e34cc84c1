//! Single operations of a disk that fail while everything else works.
//!
//! After a write or a flush that failed, what the disk holds is not known: the node must stop, and
//! must not believe a flush that follows. A read that failed is tried again or answered as an
//! error.

use std::collections::BTreeSet;

use corelane_storage::device::sim::{Failing, SimRng};
use corelane_storage::device::{File, Op, Slot};
use corelane_storage::segment::{SegmentHeader, SegmentKind};

use crate::tally::Rare;

/// Operations of the chosen kind that are let through before one fails, at most.
const SKIPPED_MAX: u64 = 4;
/// The same of writes of copies, which come in runs.
const COLD_SKIPPED_MAX: u64 = 3;
/// How long a reactor needs at most to see that an operation failed, in nanoseconds, beside what
/// the operation takes.
const NOTICED_AFTER: i64 = 50_000_000;

/// An operation that can fail alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    HotWrite,
    HotFlush,
    ColdWrite,
    ColdFlush,
    SuperblockWrite,
    SuperblockFlush,
    Read,
    /// A read of what a checkpoint or a copy wrote: an index page, most of the time.
    PageRead,
}

const WRITES: [Target; 4] =
    [Target::HotWrite, Target::HotFlush, Target::SuperblockWrite, Target::SuperblockFlush];

fn below(rng: &mut SimRng, n: usize) -> usize {
    rng.below(n as u64) as usize
}

/// The next operation that fails, and what follows from the last that did.
#[derive(Default)]
pub struct Single {
    /// By disk, with how many to let through: one write or flush, one of a copy, one read.
    armed: [Option<(usize, Target, u64)>; 3],
    /// Files that hold a cold segment, by disk.
    cold: Vec<BTreeSet<Slot>>,
    /// The node must have stopped then.
    stop_by: Option<(i64, Target)>,
    /// When the last read that fails is over at the latest.
    read_failed: Option<i64>,
}

impl Single {
    /// Lets one of the next writes or flushes of a disk fail.
    pub fn arm_write(&mut self, rng: &mut SimRng, disks: usize) {
        let target = WRITES[rng.below(WRITES.len() as u64) as usize];
        self.armed[0] = Some((below(rng, disks), target, rng.below(SKIPPED_MAX)));
    }

    /// Lets one of the next writes or flushes of copies fail.
    pub fn arm_copy(&mut self, rng: &mut SimRng, disks: usize) {
        let target = [Target::ColdWrite, Target::ColdFlush][below(rng, 2)];
        self.armed[1] = Some((below(rng, disks), target, rng.below(COLD_SKIPPED_MAX)));
    }

    /// Lets one of the next reads of a disk fail.
    pub fn arm_read(&mut self, rng: &mut SimRng, disks: usize) {
        self.armed[2] = Some((below(rng, disks), Target::Read, rng.below(SKIPPED_MAX)));
    }

    /// Lets one of the next reads of index pages of a disk fail.
    pub fn arm_page_read(&mut self, rng: &mut SimRng, disks: usize) {
        self.armed[2] = Some((below(rng, disks), Target::PageRead, 0));
    }

    /// Nothing more fails.
    pub fn disarm(&mut self) {
        self.armed = [None; 3];
    }

    /// The node has stopped, or is stopped now.
    pub fn forget(&mut self) {
        (self.armed, self.stop_by) = ([None; 3], None);
    }

    /// When the node must have stopped, if it must.
    pub fn stop_by(&self) -> Option<i64> {
        self.stop_by.map(|(at, _)| at)
    }

    /// What it goes on after although it must not.
    pub fn ignored(&self, now: i64) -> Option<String> {
        let (_, target) = self.stop_by.filter(|(at, _)| *at < now)?;
        Some(format!("a {target:?} failed, and the node goes on"))
    }

    /// When the last read that fails is over, if one does.
    pub fn read_fails_by(&self) -> Option<i64> {
        self.read_failed.map(|at| at + NOTICED_AFTER)
    }

    /// Whether a read may have failed since then.
    pub fn read_failed_since(&self, time: i64) -> bool {
        // One that was under way then counts.
        self.read_failed.is_some_and(|at| at + NOTICED_AFTER >= time)
    }

    /// Whether an operation that is submitted now fails, and what is noted about it.
    pub fn submitted(
        &mut self,
        now: i64,
        disk: usize,
        op: &Op,
        took_max: i64,
    ) -> Option<(Failing, Rare)> {
        self.note_kind(disk, op);
        let wanted = |armed: &Option<(usize, Target, u64)>| {
            armed.is_some_and(|(of, target, _)| of == disk && self.is(target, disk, op))
        };
        let nth = self.armed.iter().position(wanted)?;
        let (chosen, target, skip) = self.armed[nth]?;
        self.armed[nth] = skip.checked_sub(1).map(|skip| (chosen, target, skip));
        if skip > 0 {
            return None;
        }
        if let Target::Read | Target::PageRead = target {
            self.read_failed = Some(now + took_max);
            let page = target == Target::PageRead;
            let rare = if page { Rare::PageReadFailed } else { Rare::ReadFailed };
            return Some((Failing::Transfer, rare));
        }
        self.stop_by = Some((now + 2 * took_max + NOTICED_AFTER, target));
        let (failing, rare) = match target {
            Target::HotWrite | Target::SuperblockWrite => (Failing::Transfer, Rare::WriteFailed),
            Target::ColdWrite => (Failing::Transfer, Rare::ColdWriteFailed),
            Target::ColdFlush => (Failing::Flush, Rare::ColdWriteFailed),
            _ => (Failing::Flush, Rare::OneFlushFailed),
        };
        Some((failing, rare))
    }

    /// Learns from the header, which a segment's first write carries, what a file holds.
    fn note_kind(&mut self, disk: usize, op: &Op) {
        let Op::Write { file: File::Segment(slot), offset: 0, data, .. } = op else { return };
        if self.cold.len() <= disk {
            self.cold.resize_with(disk + 1, BTreeSet::new);
        }
        // SAFETY: the write has not been submitted, so its Done has not been made.
        let header = SegmentHeader::decode(unsafe { data.bytes() });
        if header.is_some_and(|h| h.kind == SegmentKind::Cold) {
            self.cold[disk].insert(*slot);
        } else {
            self.cold[disk].remove(slot);
        }
    }

    fn is(&self, target: Target, disk: usize, op: &Op) -> bool {
        let cold = |slot: &Slot| self.cold.get(disk).is_some_and(|slots| slots.contains(slot));
        let of = match op {
            Op::Write { file: File::Superblock, .. } => {
                [Some(Target::SuperblockWrite), Some(Target::SuperblockFlush)]
            }
            Op::Write { file: File::Segment(slot), flush, .. } if cold(slot) => {
                [Some(Target::ColdWrite), flush.then_some(Target::ColdFlush)]
            }
            Op::Write { flush, .. } => [Some(Target::HotWrite), flush.then_some(Target::HotFlush)],
            Op::Flush { .. } => [Some(Target::HotFlush), None],
            Op::Read { file: File::Segment(slot), .. } => {
                [Some(Target::Read), cold(slot).then_some(Target::PageRead)]
            }
            Op::Read { .. } => [Some(Target::Read), None],
            Op::Create { .. } | Op::Remove { .. } => [None, None],
        };
        of.contains(&Some(target))
    }
}
