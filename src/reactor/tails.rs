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
    /// its equal part in any case.
    pub fn share(&mut self, core: &mut Core) {
        self.turns += 1;
        if !self.turns.is_multiple_of(TURNS) {
            return;
        }
        let Tails { used, total, .. } = self;
        core.share_tails(|shard, bytes| {
            let own = &used[usize::from(shard.0)];
            own.store(bytes, Ordering::Relaxed);
            let all: usize = used.iter().map(|u| u.load(Ordering::Relaxed)).sum();
            (*total / used.len()).max(total.saturating_sub(all - bytes.min(all)))
        });
    }
}
