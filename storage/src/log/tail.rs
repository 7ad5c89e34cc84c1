//! The tail cache: the memory of recent blocks, which is what is being or was written.

use crate::device::IoBuf;
use crate::types::{Position, SegmentId};
use std::collections::VecDeque;

/// Buffers kept for reuse beyond those in use.
const POOL_MAX: usize = 2;

/// A block in memory.
pub(super) struct Block {
    pub segment: SegmentId,
    /// Where it starts in its segment.
    pub base: u32,
    pub buf: IoBuf,
    /// Bytes in use from its start.
    pub fill: u32,
    /// Writes of it that are open, queued or in flight.
    pub pending: u32,
    /// Number of its first write: its age.
    pub number: u64,
    /// Number of its last write so far.
    pub last: u64,
    /// More will be appended to it.
    pub current: bool,
}

/// The blocks of one kind of segment, oldest first: ordered by position. A block's serial number
/// stays while older ones go.
#[derive(Default)]
pub(super) struct Tail {
    blocks: VecDeque<Block>,
    first: u64,
    bytes: usize,
}

impl Tail {
    /// Adds the newest block. Returns its serial number.
    pub fn push(&mut self, block: Block) -> u64 {
        debug_assert!(
            self.blocks
                .back()
                .is_none_or(|last| { (last.segment, last.base) < (block.segment, block.base) })
        );
        self.bytes += block.buf.len();
        self.blocks.push_back(block);
        self.first + self.blocks.len() as u64 - 1
    }

    #[inline]
    pub fn get(&self, serial: u64) -> &Block {
        &self.blocks[(serial - self.first) as usize]
    }

    /// The block of this number, if it is still there.
    #[inline]
    pub fn in_memory(&self, serial: u64) -> Option<&Block> {
        self.blocks.get(usize::try_from(serial.checked_sub(self.first)?).ok()?)
    }

    #[inline]
    pub fn get_mut(&mut self, serial: u64) -> &mut Block {
        &mut self.blocks[(serial - self.first) as usize]
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The oldest block's age, if it may go: nothing of it is under way, and none of its writes is
    /// `needed` (their number or later).
    pub fn evictable(&self, needed: u64) -> Option<u64> {
        let free = |b: &&Block| b.pending == 0 && !b.current && b.last < needed;
        self.blocks.front().filter(free).map(|b| b.number)
    }

    pub fn evict(&mut self) -> Option<Block> {
        let block = self.blocks.pop_front()?;
        debug_assert!(block.pending == 0 && !block.current);
        self.first += 1;
        self.bytes -= block.buf.len();
        Some(block)
    }

    /// The bytes in memory from `position` on, to the end of what its block holds.
    #[inline]
    pub fn find(&self, position: Position) -> Option<&[u8]> {
        let key = (position.segment, position.offset);
        let last = self.blocks.back()?;
        let block = if (last.segment, last.base) <= key {
            last
        } else {
            let after = self.blocks.partition_point(|b| (b.segment, b.base) <= key);
            self.blocks.get(after.checked_sub(1)?)?
        };
        if block.segment != position.segment {
            return None;
        }
        let from = position.offset - block.base;
        (from < block.fill).then(|| &block.buf[from as usize..block.fill as usize])
    }

    /// Where the part of a segment begins that is in memory, if any of it is.
    pub fn begin_of(&self, segment: SegmentId) -> Option<u32> {
        let at = self.blocks.partition_point(|b| b.segment < segment);
        self.blocks.get(at).filter(|b| b.segment == segment).map(|b| b.base)
    }

    /// Whether a write of this segment is not complete.
    pub fn busy(&self, segment: SegmentId) -> bool {
        let at = self.blocks.partition_point(|b| b.segment < segment);
        let blocks = self.blocks.range(at..).take_while(|b| b.segment == segment);
        blocks.into_iter().any(|b| b.pending > 0 || b.current)
    }

    /// Gives the memory that a device may still read to nobody.
    pub fn leak_in_flight(&mut self) {
        for block in self.blocks.drain(..) {
            if block.pending > 0 {
                std::mem::forget(block.buf);
            }
        }
    }
}

/// Buffers of one block, used again so that the pages behind them stay.
pub(super) struct BlockPool {
    block_bytes: usize,
    free: Vec<IoBuf>,
}

impl BlockPool {
    pub fn new(block_bytes: usize) -> Self {
        BlockPool { block_bytes, free: Vec::with_capacity(POOL_MAX) }
    }

    /// A buffer whose content is anything.
    pub fn take(&mut self) -> IoBuf {
        self.free.pop().unwrap_or_else(|| IoBuf::zeroed(self.block_bytes))
    }

    pub fn give(&mut self, buf: IoBuf) {
        if buf.len() == self.block_bytes && self.free.len() < POOL_MAX {
            self.free.push(buf);
        }
    }
}
