//! What was decided about an account's streams and is not applied yet: later decisions see it, all
//! else does not. It is small: as much as one write of the log takes.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{Account, StreamEntry};
use crate::types::StreamId;

/// The decisions about the streams of one account.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// Streams that are new or have another configuration, as decided last.
    pub(super) changed: Account,
    /// Streams of the applied state of which something else was decided.
    hidden: BTreeSet<StreamId>,
    /// What those reserve there, in memory and on disk.
    hidden_bytes: [i64; 2],
    /// Records that are not applied, by stream.
    pending: BTreeMap<StreamId, u32>,
}

impl Overlay {
    /// A record about this stream was decided: it will be as `changed` says, or gone.
    pub(super) fn decide(
        &mut self,
        applied: Option<&Account>,
        id: StreamId,
        changed: Option<StreamEntry>,
    ) {
        *self.pending.entry(id).or_default() += 1;
        self.changed.remove(id);
        if let Some(entry) = changed {
            self.changed.insert(entry);
        }
        self.hide(applied, id);
    }

    /// A record about this stream, which was decided here, is about to be applied.
    pub(super) fn before_apply(&mut self, applied: Option<&Account>, id: StreamId) {
        if self.hidden.remove(&id) {
            self.count_hidden(applied, id, -1);
        }
    }

    /// It was applied.
    pub(super) fn after_apply(&mut self, applied: Option<&Account>, id: StreamId) {
        let Some(left) = self.pending.get_mut(&id) else { return };
        *left -= 1;
        if *left == 0 {
            self.pending.remove(&id);
            self.changed.remove(id);
        } else {
            self.hide(applied, id);
        }
    }

    fn hide(&mut self, applied: Option<&Account>, id: StreamId) {
        let is_there = applied.is_some_and(|applied| applied.by_id(id).is_some());
        if is_there && self.hidden.insert(id) {
            self.count_hidden(applied, id, 1);
        }
    }

    fn count_hidden(&mut self, applied: Option<&Account>, id: StreamId, sign: i64) {
        if let Some(entry) = applied.and_then(|applied| applied.by_id(id)) {
            let (at, bytes) = Account::reserved_by(&entry.config);
            self.hidden_bytes[at] += sign * bytes;
        }
    }

    /// Whether the applied state of a stream is not what was decided last.
    pub(super) fn hides(&self, id: StreamId) -> bool {
        self.hidden.contains(&id)
    }

    /// Whether the applied state of any stream is not.
    pub(super) fn hides_any(&self) -> bool {
        !self.hidden.is_empty()
    }

    /// How many streams more there will be.
    pub(super) fn more_streams(&self) -> isize {
        self.changed.len() as isize - self.hidden.len() as isize
    }

    /// By how many bytes what is reserved will grow, in memory (0) or on disk (1).
    pub(super) fn more_bytes(&self, at: usize) -> i64 {
        self.changed.reserved(at) - self.hidden_bytes[at]
    }

    /// Whether a record about this stream was decided and is not applied.
    pub(super) fn has(&self, id: StreamId) -> bool {
        self.pending.contains_key(&id)
    }

    /// Whether all is applied.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}
