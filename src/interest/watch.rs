//! Watches: shards that want to know when the interest in a subject comes or goes.

use super::AccountId;
use std::collections::{BTreeMap, BTreeSet};

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

/// The watches of one subject.
#[derive(Debug, Default)]
struct Watched {
    ids: BTreeSet<WatchId>,
    /// It stands among those that changed.
    dirty: bool,
}

/// All watches of a reactor.
#[derive(Debug, Default)]
pub struct Watches {
    watches: BTreeMap<WatchId, Watch>,
    by_subject: BTreeMap<Box<[u8]>, Watched>,
    /// Subjects whose interest changed, each once.
    changed: Vec<Box<[u8]>>,
    /// Watches of such subjects that are still to be looked at.
    dirty: BTreeSet<WatchId>,
    last: u64,
}

impl Watches {
    pub(super) fn add(&mut self, watch: Watch) -> WatchId {
        self.last += 1;
        let id = WatchId(self.last);
        self.by_subject.entry(watch.subject.clone()).or_default().ids.insert(id);
        self.watches.insert(id, watch);
        id
    }

    pub(super) fn remove(&mut self, id: WatchId) {
        let Some(watch) = self.watches.remove(&id) else { return };
        self.dirty.remove(&id);
        if let Some(watched) = self.by_subject.get_mut(&watch.subject) {
            watched.ids.remove(&id);
            if watched.ids.is_empty() {
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
        if let Some(watched) = self.by_subject.get_mut(filter)
            && !std::mem::replace(&mut watched.dirty, true)
        {
            self.changed.push(filter.into());
        }
    }

    /// The first `most` watches that may have changed, each once, in order.
    pub(super) fn take_dirty(&mut self, most: usize) -> Vec<WatchId> {
        for subject in self.changed.drain(..) {
            if let Some(watched) = self.by_subject.get_mut(&subject) {
                watched.dirty = false;
                self.dirty.extend(&watched.ids);
            }
        }
        (0..most).map_while(|_| self.dirty.pop_first()).collect()
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.changed.is_empty() || !self.dirty.is_empty()
    }
}
