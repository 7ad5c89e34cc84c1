//! The tail cache of a node, shared by its shards: a shard whose neighbours need less has more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::turn::Core;

/// Turns between two looks at what the others use.
const TURNS: u32 = 16;

/// What every shard of the node uses, and what all of them may use together.
#[derive(Clone)]
pub struct Tails {
    used: Arc<[AtomicUsize]>,
    total: usize,
    turns: u32,
}

impl Tails {
    /// `total` bytes for so many shards.
    pub fn new(shards: u16, total: u64) -> Self {
        let used = (0..shards).map(|_| AtomicUsize::new(0)).collect();
        Tails { used, total: usize::try_from(total).unwrap_or(usize::MAX), turns: 0 }
    }

    /// Once a turn: tells the others what is used here, and takes what they leave. Each shard has
    /// the part that its log was opened with in any case.
    pub fn share(&mut self, core: &mut Core) {
        self.turns += 1;
        if !self.turns.is_multiple_of(TURNS) {
            return;
        }
        let Tails { used, total, .. } = self;
        core.share_tails(|shard, least, bytes| {
            let own = usize::from(shard.0);
            used[own].store(bytes, Ordering::Relaxed);
            let others = used.iter().enumerate().filter(|(at, _)| *at != own);
            let others = others.map(|(_, used)| used.load(Ordering::Relaxed)).sum();
            part(*total, least, others)
        });
    }
}

/// What a shard may use when the others use so much: its own part at least.
fn part(total: usize, least: usize, others: usize) -> usize {
    least.max(total.saturating_sub(others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_its_part_and_what_the_others_leave() {
        for (total, least, others, want) in [
            (128, 64, 0, 128),
            (128, 64, 30, 98),
            (128, 64, 64, 64),
            (128, 64, 100, 64),
            (128, 64, 500, 64),
            (8, 16, 0, 16),
        ] {
            assert_eq!(part(total, least, others), want, "{total} {least} {others}");
        }
    }
}
