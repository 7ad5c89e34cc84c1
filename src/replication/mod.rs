//! Groups: sets of replicas with one consensus log.
//!
//! Purpose: the facade behind which a stream's records become committed. A group of one replica
//! commits what its own log has made durable; groups of several will run consensus behind the same
//! calls. It must not know connections, streams or the device. One value per group and replica; it
//! lives in the shard that hosts the replica.
//!
//! Invariants: indices are handed out without gaps; `committed` never falls and never passes
//! `persisted`.

use crate::types::{GroupId, LogIndex, Lsn, Term};

/// The group of a shard's catalogue records (shard 0 only).
pub const META_GROUP: GroupId = GroupId(1);
/// The group of the single-replica file streams of a shard.
pub const FILE_GROUP: GroupId = GroupId(2);

/// One replica of a group; here always the only one.
#[derive(Debug)]
pub struct Group {
    id: GroupId,
    term: Term,
    next_index: LogIndex,
    committed: Lsn,
}

/// What a proposal is tagged with in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The group.
    pub group: GroupId,
    /// The term it was proposed in.
    pub term: Term,
    /// Its place in the group's log.
    pub index: LogIndex,
}

impl Group {
    /// A group of one replica whose log goes on at `next_index`.
    pub fn single(id: GroupId, term: Term, next_index: LogIndex) -> Self {
        Group { id, term, next_index, committed: Lsn(0) }
    }

    /// The next place in the group's log, without taking it.
    pub fn next(&self) -> Proposal {
        Proposal { group: self.id, term: self.term, index: self.next_index }
    }

    /// Takes the next place in the group's log.
    pub fn propose(&mut self) -> Proposal {
        let proposal = self.next();
        self.next_index = LogIndex(proposal.index.0 + 1);
        proposal
    }

    /// The local log has made everything below `durable` durable.
    pub fn persisted(&mut self, durable: Lsn) {
        if durable > self.committed {
            self.committed = durable;
        }
    }

    /// Everything below this is committed.
    pub fn committed(&self) -> Lsn {
        self.committed
    }

    /// Where the group's log goes on.
    pub fn next_index(&self) -> LogIndex {
        self.next_index
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
        let mut g = Group::single(FILE_GROUP, Term(1), LogIndex(7));
        assert_eq!(g.propose().index, LogIndex(7));
        assert_eq!(g.propose().index, LogIndex(8));
        assert_eq!(g.committed(), Lsn(0));
        g.persisted(Lsn(2));
        g.persisted(Lsn(1));
        assert_eq!(g.committed(), Lsn(2));
        assert_eq!(g.next_index(), LogIndex(9));
    }
}
