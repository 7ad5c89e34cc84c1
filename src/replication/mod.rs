//! Groups: sets of replicas with one consensus log.
//!
//! Purpose: the facade behind which entries become committed. A group of one replica commits what
//! its own log has persisted; groups of several will run consensus behind the same calls. It must
//! not know connections, streams or the device. One value per group and replica; it lives in the
//! shard that hosts the replica.
//!
//! Invariants: indices are given to entries without gaps, when they are sealed; `committed` never
//! falls and never passes what was persisted.

use corelane_storage::log::Stamp;

use crate::types::{GroupId, LogIndex, Term};

/// The group of the catalogue (shard 0 only).
pub const META_GROUP: GroupId = GroupId(1);
/// The group of a shard's single-replica file streams.
pub const FILE_GROUP: GroupId = GroupId(2);
/// The group of a shard's single-replica memory streams. Nothing of it is on disk.
pub const MEMORY_GROUP: GroupId = GroupId(3);

/// One replica of a group; here always the only one.
#[derive(Debug)]
pub struct Group {
    id: GroupId,
    term: Term,
    last: LogIndex,
    committed: LogIndex,
}

impl Group {
    /// A group of one replica whose last entry is `last`; it is committed.
    pub fn single(id: GroupId, term: Term, last: LogIndex) -> Self {
        Group { id, term, last, committed: last }
    }

    /// Its id.
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// Seals the next entry: its place in the group's log.
    pub fn seal(&mut self) -> Stamp {
        self.last = LogIndex(self.last.0 + 1);
        Stamp { term: self.term, index: self.last, commit: self.committed }
    }

    /// The log has persisted the group's entries up to this one.
    pub fn persisted(&mut self, index: LogIndex) {
        debug_assert!(index <= self.last);
        self.committed = self.committed.max(index);
    }

    /// Entries up to this one may be applied.
    pub fn committed(&self) -> LogIndex {
        self.committed
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.term
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_replica_commits_what_it_persisted() {
        let mut g = Group::single(FILE_GROUP, Term(1), LogIndex(6));
        assert_eq!(g.committed(), LogIndex(6));
        let stamp = |index, commit| Stamp {
            term: Term(1),
            index: LogIndex(index),
            commit: LogIndex(commit),
        };
        assert_eq!(g.seal(), stamp(7, 6));
        assert_eq!(g.seal(), stamp(8, 6));
        g.persisted(LogIndex(7));
        g.persisted(LogIndex(6));
        assert_eq!(g.committed(), LogIndex(7));
        assert_eq!(g.seal(), stamp(9, 7));
    }
}
