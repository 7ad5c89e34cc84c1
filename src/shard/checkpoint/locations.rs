//! What checkpoints know of one stream: where its records lie, and what changed since.

use std::collections::BTreeMap;

use corelane_storage::index::Location;

use crate::shard::checkpoint::codec::DedupePage;
use crate::types::Position;

/// What checkpoints have of one stream.
#[derive(Debug, Default)]
pub struct Stored {
    /// The last checkpoint for which it was frozen, or in which it appeared.
    pub(in crate::shard) epoch: u32,
    /// The checkpoint during which it appeared: it is not part of that one.
    pub(in crate::shard) born: u32,
    /// Its last sequence when it was frozen.
    pub(in crate::shard) last_seq: u64,
    /// Something was stored or removed before the freeze.
    pub(in crate::shard) moved: bool,
    /// The configuration at the freeze, encoded, if it changed since.
    pub(in crate::shard) config_before: Option<Vec<u8>>,
    /// The configuration is newer than the stored one.
    pub config_changed: bool,
    /// Where its configuration lies.
    pub config: Option<Location>,
    /// Where its state lies, and the checksum of that.
    pub state: Option<(Location, u64)>,
    /// The pages of its duplicate window.
    pub dedupe: BTreeMap<u64, DedupePage>,
}

impl Stored {
    /// Everything stored but the index and the consumers.
    pub fn locations(&self) -> impl Iterator<Item = Location> + '_ {
        let pages = self.dedupe.values().map(|p| p.location);
        pages.chain(self.config).chain(self.state.map(|(l, _)| l))
    }

    /// The records at `position` must be written again: their segment is to be freed. True if there
    /// is one.
    pub fn rewrite(&mut self, position: Position) -> bool {
        if self.config.is_some_and(|l| l.position == position) {
            self.config_changed = true;
            return true;
        }
        if let Some((l, sum)) = &mut self.state
            && l.position == position
        {
            *sum = !*sum;
            return true;
        }
        let page = self.dedupe.values_mut().find(|p| p.location.position == position);
        if let Some(page) = page {
            page.complete = false;
            self.moved = true;
            return true;
        }
        false
    }
}
