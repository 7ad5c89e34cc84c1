//! Watches: shards that want to know when the interest in a subject comes or goes.

use super::AccountId;
use std::collections::BTreeMap;

/// A watch, until it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// The interest in a watched subject has come or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// The watch.
    pub watch: WatchId,
    /// Whether somebody on the node is interested now.
    pub interested: bool,
}

/// A watched subject.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) account: AccountId,
    pub(super) subject: Box<[u8]>,
    pub(super) group: Option<Box<[u8]>>,
    pub(super) interested: bool,
}

/// All watches of a reactor.
#[derive(Debug, Default)]
pub struct Watches {
    watches: BTreeMap<WatchId, Watch>,
    by_subject: BTreeMap<Box<[u8]>, Vec<WatchId>>,
    dirty: Vec<WatchId>,
    last: u64,
}

impl Watches {
    pub(super) fn add(&mut self, watch: Watch) -> WatchId {
        self.last += 1;
        let id = WatchId(self.last);
        self.by_subject.entry(watch.subject.clone()).or_default().push(id);
        self.watches.insert(id, watch);
        id
    }

    pub(super) fn remove(&mut self, id: WatchId) {
        let Some(watch) = self.watches.remove(&id) else { return };
        if let Some(ids) = self.by_subject.get_mut(&watch.subject) {
            ids.retain(|&other| other != id);
            if ids.is_empty() {
                self.by_subject.remove(&watch.subject);
            }
        }
    }

    pub(super) fn get_mut(&mut self, id: WatchId) -> Option<&mut Watch> {
        self.watches.get_mut(&id)
    }

    /// Notes that the interest in `filter` changed.
    pub(super) fn touch(&mut self, filter: &[u8]) {
        if self.watches.is_empty() {
            return;
        }
        // Wildcards are no listeners.
        if let Some(ids) = self.by_subject.get(filter) {
            self.dirty.extend_from_slice(ids);
        }
    }

    /// Watches that may have changed, each once, in order.
    pub(super) fn take_dirty(&mut self) -> Vec<WatchId> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        dirty
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }
}
