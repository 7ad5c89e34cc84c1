//! Descriptors that run out: an operation on a file that is not open waits until another file can
//! be closed. What is on its way to an open file overtakes it.

use std::collections::{BTreeMap, VecDeque};

use corelane_storage::device::{File, Op, Token};

/// The descriptors of every shard.
#[derive(Default)]
pub struct Descriptors {
    /// Files that a shard may have open; `None` for all.
    limit: Option<usize>,
    shards: BTreeMap<usize, Files>,
}

/// The files of one shard.
#[derive(Default)]
struct Files {
    /// Open files, with the operations under way; the one that was opened last is at the end.
    open: VecDeque<(File, usize)>,
    under_way: BTreeMap<Token, File>,
    waiting: VecDeque<Op>,
}

/// What an operation reads or writes. Creating and removing go by the name.
fn used(op: &Op) -> Option<(Token, File)> {
    match *op {
        Op::Write { token, file, .. }
        | Op::Flush { token, file }
        | Op::Read { token, file, .. } => Some((token, file)),
        Op::Create { .. } | Op::Remove { .. } => None,
    }
}

impl Files {
    /// The operation, if there is a descriptor for it.
    fn admit(&mut self, limit: usize, op: Op) -> Result<Op, Op> {
        let Some((token, file)) = used(&op) else { return Ok(op) };
        let at = match self.open.iter().position(|(open, _)| *open == file) {
            Some(at) => at,
            None if self.open.len() < limit => {
                self.open.push_back((file, 0));
                self.open.len() - 1
            }
            None => {
                let Some(idle) = self.open.iter().position(|(_, busy)| *busy == 0) else {
                    return Err(op);
                };
                self.open.remove(idle);
                self.open.push_back((file, 0));
                self.open.len() - 1
            }
        };
        self.open[at].1 += 1;
        self.under_way.insert(token, file);
        Ok(op)
    }

    fn done(&mut self, token: Token) {
        let Some(file) = self.under_way.remove(&token) else { return };
        if let Some((_, busy)) = self.open.iter_mut().find(|(open, _)| *open == file) {
            *busy -= 1;
        }
    }
}

impl Descriptors {
    /// So many files of a shard.
    pub fn new(limit: Option<usize>) -> Descriptors {
        Descriptors { limit, shards: BTreeMap::new() }
    }

    /// The operation, if it need not wait.
    pub fn admit(&mut self, shard: usize, op: Op) -> Option<Op> {
        let Some(limit) = self.limit else { return Some(op) };
        let files = self.shards.entry(shard).or_default();
        match files.admit(limit, op) {
            Ok(op) => Some(op),
            Err(op) => {
                files.waiting.push_back(op);
                None
            }
        }
    }

    /// An operation is over: those that need not wait any more.
    pub fn done(&mut self, shard: usize, token: Token) -> Vec<Op> {
        let (Some(limit), Some(files)) = (self.limit, self.shards.get_mut(&shard)) else {
            return Vec::new();
        };
        files.done(token);
        let mut admitted = Vec::new();
        for op in std::mem::take(&mut files.waiting) {
            match files.admit(limit, op) {
                Ok(op) => admitted.push(op),
                Err(op) => files.waiting.push_back(op),
            }
        }
        admitted
    }

    /// The node stopped.
    pub fn forget(&mut self) {
        self.shards.clear();
    }
}
