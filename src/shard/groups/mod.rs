//! The groups of a shard: entries on their way from being appended to being applied.
//!
//! ```text
//! append ──> open entry ──seal──> sealed ──committed──> applied, record by record
//! ```
//!
//! A record's place is that of its entry's write and which record of the entry it is. What waits
//! for a record (who published it, an answer that rests on it, a request that must see it) waits
//! in the group's queue under that place. Exists once per shard; knows neither streams nor the
//! device.
//!
//! Invariants: places only grow within a group; what waits is released in the order of its places
//! and never before the record at its place was applied.

pub(in crate::shard) mod byte_queue;
mod memory_log;
pub(in crate::shard) mod pending;
pub(in crate::shard) mod removal;

use std::collections::VecDeque;

use corelane_storage::log::{AppendError, BlockName, Log, ReadId, SealedEntry, Stamp, Stamper};
use corelane_storage::record::RecordIn;

use crate::replication::{FILE_GROUP, Group, MEMORY_GROUP, META_GROUP};
use crate::shard::records::checkpoint::GroupState;
use crate::types::{CreditKind, GroupId, LogIndex, Position, Term, Timestamp};
use memory_log::MemoryLog;
use pending::Queue;
use removal::{Outcome, PageAttempts, Unfinished};

/// The place of a record in the order of its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number of its entry's write.
    pub write: u64,
    /// Which record of the entry it is, from 0.
    pub nth: u32,
}

/// A group of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupName {
    /// The catalogue's.
    Meta,
    /// That of file streams.
    File,
    /// That of memory streams.
    Memory,
}

impl GroupName {
    /// The credit of a message on its way in the group.
    pub fn publish_credit(self) -> CreditKind {
        match self {
            GroupName::Memory => CreditKind::PublishMemory,
            GroupName::Meta | GroupName::File => CreditKind::Publish,
        }
    }
}

/// All groups.
pub const GROUPS: [GroupName; 3] = [GroupName::Meta, GroupName::File, GroupName::Memory];

/// What applying waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blocked {
    /// Nothing.
    #[default]
    No,
    /// A read.
    Read(ReadId),
    /// A time: the device did not read what is needed, and is asked again then.
    Until(Timestamp),
}

/// One group and what is on its way in it.
pub struct Pipeline {
    group: Group,
    /// The entries of a group that has none on disk.
    memory: Option<MemoryLog>,
    /// Entries that are sealed and not wholly applied.
    sealed: VecDeque<SealedEntry>,
    /// The next record of the first of them, and where it begins in its bytes.
    next: (u32, u32),
    appended: Place,
    applied: Place,
    /// What waits for records to be applied.
    pub waiting: Queue,
    /// What applying waits for.
    pub blocked: Blocked,
    /// How often the page that applying waits for was read in vain.
    pub attempts: PageAttempts,
    /// What the last record leaves to be done before the next is applied.
    pub unfinished: Option<Unfinished>,
    /// What the last record that removes did, for who waits for it.
    pub outcome: Outcome,
}

/// The next record to apply.
#[derive(Clone, Copy, Debug)]
pub struct NextRecord {
    /// Its place.
    pub place: Place,
    /// Where it lies.
    pub position: Position,
    at: u32,
}

impl Pipeline {
    fn new(group: Group, memory: Option<MemoryLog>) -> Self {
        Pipeline {
            group,
            memory,
            sealed: VecDeque::new(),
            next: (0, 0),
            appended: Place::default(),
            applied: Place::default(),
            waiting: Queue::default(),
            blocked: Blocked::No,
            attempts: PageAttempts::default(),
            unfinished: None,
            outcome: Outcome::default(),
        }
    }

    /// The last record that was appended.
    pub fn appended(&self) -> Place {
        self.appended
    }

    /// The last record that was applied.
    pub fn applied(&self) -> Place {
        self.applied
    }

    /// Whether all that was appended is applied, and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.appended == self.applied && self.waiting.is_empty() && self.unfinished.is_none()
    }

    /// Whether applying waits for something.
    #[inline]
    pub fn waits(&self) -> bool {
        self.blocked != Blocked::No
    }

    /// When the device is asked again for what it did not read.
    pub fn retry_at(&self) -> Option<Timestamp> {
        match self.blocked {
            Blocked::Until(at) => Some(at),
            _ => None,
        }
    }

    /// Whether there is something to apply.
    pub fn is_due(&self) -> bool {
        !self.waits()
            && (self.unfinished.is_some()
                || self.waiting.is_due(self.applied)
                || self.sealed.front().is_some_and(|e| e.index <= self.group.committed())
                || self.memory.as_ref().is_some_and(|m| !m.is_empty()))
    }

    /// Whether all that is committed is applied.
    pub fn is_caught_up(&self) -> bool {
        self.unfinished.is_none()
            && self.sealed.front().is_none_or(|e| e.index > self.group.committed())
    }

    /// The last entry that is applied, with all that follows from it, if none is applied in part.
    pub fn applied_index(&self) -> Option<LogIndex> {
        let whole = self.next.0 == 0 && self.unfinished.is_none();
        let last = self.sealed.front().map_or(self.group.committed().0, |e| e.index.0 - 1);
        (whole && !self.waiting.is_due(self.applied)).then_some(LogIndex(last))
    }

    /// The place in the group's log of the record that is applied next: the index of its entry,
    /// and which record of it. The same in every replica.
    pub fn next_place(&self) -> (LogIndex, u32) {
        let after = LogIndex(self.group.committed().0 + 1);
        (self.sealed.front().map_or(after, |entry| entry.index), self.next.0)
    }

    /// The next record, if its entry is committed.
    #[inline]
    pub fn next_record(&self) -> Option<NextRecord> {
        let entry = self.sealed.front().filter(|e| e.index <= self.group.committed())?;
        let (nth, at) = self.next;
        let place = Place { write: entry.write, nth };
        let Position { segment, offset } = entry.position;
        let position = Position { segment, offset: offset + at };
        Some(NextRecord { place, position, at })
    }

    /// The bytes of the entry from this record on.
    #[inline]
    pub fn bytes<'a>(&'a self, log: &'a Log, next: &NextRecord) -> Option<&'a [u8]> {
        let first = self.sealed.front()?;
        let entry = match &self.memory {
            Some(memory) => memory.entry_bytes(first.write),
            None => log.entry_bytes(first),
        };
        entry.and_then(|bytes| bytes.get(next.at as usize..))
    }

    /// That record, of `len` padded bytes, was applied.
    #[inline]
    pub fn advance(&mut self, record: &NextRecord, len: u32) {
        self.applied = record.place;
        self.next = (record.place.nth + 1, record.at + len);
        if self.sealed.front().is_some_and(|entry| self.next.0 == entry.records) {
            self.sealed.pop_front();
            self.next = (0, 0);
            if let Some(memory) = &mut self.memory {
                memory.release(record.place.write);
            }
        }
    }

    /// Seals what a group that lives in memory has collected: it is persisted at once.
    fn seal_memory(&mut self) {
        let Some(memory) = &mut self.memory else { return };
        if let Some((write, length, records)) = memory.seal() {
            let Stamp { term, index, .. } = self.group.seal();
            let (group, position) = (self.group.id(), Position::default());
            self.sealed.push_back(SealedEntry {
                group,
                term,
                index,
                write,
                position,
                length,
                records,
                block: BlockName::default(),
            });
            self.group.persisted(index);
        }
    }
}

/// The groups of one shard.
pub struct Groups {
    list: [Pipeline; GROUPS.len()],
    /// Sealed entries that are not persisted: group, index and write, oldest first.
    unpersisted: VecDeque<(GroupName, LogIndex, u64)>,
    /// Which group is applied first the next time.
    first: usize,
}

impl Groups {
    /// Groups of one replica each that go on behind these entries.
    pub fn new(meta_last: LogIndex, file_last: LogIndex) -> Self {
        let single = |id, last, memory| Pipeline::new(Group::single(id, Term(1), last), memory);
        let list = [
            single(META_GROUP, meta_last, None),
            single(FILE_GROUP, file_last, None),
            single(MEMORY_GROUP, LogIndex(0), Some(MemoryLog::default())),
        ];
        Groups { list, unpersisted: VecDeque::new(), first: 0 }
    }

    /// The order in which the groups are applied now: each comes first in its turn.
    pub fn next_order(&mut self) -> [GroupName; GROUPS.len()] {
        let mut order = GROUPS;
        order.rotate_left(self.first);
        self.first = (self.first + 1) % GROUPS.len();
        order
    }

    /// One of them.
    #[inline]
    pub fn get(&self, name: GroupName) -> &Pipeline {
        &self.list[name as usize]
    }

    /// One of them.
    #[inline]
    pub fn get_mut(&mut self, name: GroupName) -> &mut Pipeline {
        &mut self.list[name as usize]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Pipeline> {
        self.list.iter()
    }

    /// Appends a record to the entry that a group collects. Answers its place and padded bytes.
    #[inline]
    pub fn append(
        &mut self,
        name: GroupName,
        log: &mut Log,
        record: &RecordIn<'_>,
    ) -> Result<(Place, u32), AppendError> {
        let p = &mut self.list[name as usize];
        if p.memory.as_ref().is_some_and(MemoryLog::is_full) {
            p.seal_memory();
        }
        let (place, len) = match &mut p.memory {
            Some(memory) => memory.append(record).ok_or(AppendError::TooLarge)?,
            None => {
                let appended = log.append(p.group.id(), record)?;
                (Place { write: appended.write, nth: appended.nth }, appended.len)
            }
        };
        p.appended = place;
        Ok((place, len))
    }

    /// How far the groups on disk are applied, where all that is committed is applied.
    pub fn applied_states(&self) -> Vec<GroupState> {
        let on_disk = self.list.iter().filter(|p| p.memory.is_none());
        let state = |p: &Pipeline| GroupState {
            group: p.group.id(),
            index: p.group.committed(),
            term: p.group.term(),
            ..GroupState::default()
        };
        on_disk.map(state).collect()
    }

    /// Takes in what the log has sealed: at once, since its blocks must stay in memory when they
    /// are written and what is in them is not applied.
    pub fn take_sealed(&mut self, log: &mut Log) {
        for entry in log.take_sealed() {
            let Some(name) = name_of(entry.group) else { continue };
            self.list[name as usize].sealed.push_back(entry);
            self.unpersisted.push_back((name, entry.index, entry.write));
        }
        self.keep_in_memory(log);
    }

    /// Takes in what the log has persisted.
    pub fn follow(&mut self, log: &mut Log) {
        self.take_sealed(log);
        let persisted = log.acknowledgeable_write();
        while let Some(&(name, index, _)) =
            self.unpersisted.front().filter(|(_, _, write)| *write <= persisted)
        {
            self.unpersisted.pop_front();
            self.list[name as usize].group.persisted(index);
        }
        self.list[GroupName::Memory as usize].seal_memory();
    }

    /// Tells the log which blocks must stay in memory: those of entries that are not applied.
    pub fn keep_in_memory(&self, log: &mut Log) {
        let first = |p: &Pipeline| p.sealed.front().filter(|_| p.memory.is_none()).map(|e| e.write);
        log.need_writes_from(self.list.iter().filter_map(first).min().unwrap_or(u64::MAX));
    }

    /// Groups whose time has come go on.
    pub fn wake(&mut self, now: Timestamp) {
        for p in &mut self.list {
            if p.retry_at().is_some_and(|at| at <= now) {
                p.blocked = Blocked::No;
            }
        }
    }

    /// Whether the device does not read what one of them needs.
    pub fn are_stuck(&self) -> bool {
        self.list.iter().any(|p| p.retry_at().is_some())
    }

    /// A read is over: groups that waited for it go on.
    pub fn read_is_over(&mut self, read: ReadId, any: ReadId) {
        for p in &mut self.list {
            if p.blocked == Blocked::Read(read) || p.blocked == Blocked::Read(any) {
                p.blocked = Blocked::No;
            }
        }
    }
}

impl Stamper for Groups {
    fn stamp(&mut self, group: GroupId) -> Stamp {
        match name_of(group) {
            Some(name) => self.list[name as usize].group.seal(),
            None => Stamp::default(),
        }
    }
}

fn name_of(group: GroupId) -> Option<GroupName> {
    match group {
        META_GROUP => Some(GroupName::Meta),
        FILE_GROUP => Some(GroupName::File),
        _ => None,
    }
}
