//! Counts of pending messages for all consumers of a stream, kept once per distinct set of filters.
//!
//! A *group* is the consumers with the same filters. An append costs one increment for each group
//! that matches (found through a memo by subject), and nothing for a consumer. A consumer's count
//! is `appended + base - removals at or above its position`. Removals are marks in an ordered list
//! of positions: a mark on an entry says "one less for this one and all before it", so a removal is
//! a binary search and an increment whatever the number of consumers, and reading or moving a
//! consumer sums the marks after it (at most a bucket and the list of buckets).
//!
//! Also here, since they answer "whom does this sequence concern": the consumers that wait for the
//! next matching append, and those that keep something about a range of stored sequences
//! (unacknowledged messages, a start set).

use super::delivery::Progress;
use crate::subject;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// Consumers in one bucket of the ordered list.
const BUCKET_MAX: usize = 128;

/// Subjects remembered with their groups; beyond that the memo starts anew.
const MEMO_SUBJECTS_MAX: usize = 65_536;

/// Groups remembered for all of these subjects together, those of subjects that are gone included.
/// It bounds what unique subjects cost, and the ranges of the memo fit 32 bits.
pub(super) const MEMO_GROUPS_MAX: usize = 262_144;

/// A consumer's place in [`FilterGroups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u32);

#[derive(Clone, Debug)]
struct Entry {
    position: u64,
    member: u32,
    base: i64,
    /// Removals that concern this entry and all before it in its bucket.
    mark: i64,
}

impl Entry {
    fn key(&self) -> (u64, u32) {
        (self.position, self.member)
    }
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    entries: Vec<Entry>,
    /// Removals that concern this bucket and all before it.
    mark: i64,
}

/// Entries in order of position, with removals as marks.
#[derive(Clone, Debug, Default)]
struct Positions {
    buckets: Vec<Bucket>,
}

impl Positions {
    fn bucket_of(&self, key: (u64, u32)) -> usize {
        self.buckets.partition_point(|b| b.entries[0].key() <= key).saturating_sub(1)
    }

    fn find(&self, key: (u64, u32)) -> Option<(usize, usize)> {
        let b = self.bucket_of(key);
        let entries = &self.buckets.get(b)?.entries;
        entries.binary_search_by_key(&key, Entry::key).ok().map(|i| (b, i))
    }

    /// Removals that concern the place `(b, i)`.
    fn marks_from(&self, b: usize, i: usize) -> i64 {
        let entries: i64 = self.buckets[b].entries[i..].iter().map(|e| e.mark).sum();
        entries + self.buckets[b..].iter().map(|b| b.mark).sum::<i64>()
    }

    /// `base` less the removals since.
    fn read(&self, key: (u64, u32)) -> Option<i64> {
        let (b, i) = self.find(key)?;
        Some(self.buckets[b].entries[i].base - self.marks_from(b, i))
    }

    fn insert(&mut self, position: u64, member: u32, value: i64) {
        if self.buckets.is_empty() {
            self.buckets.push(Bucket::default());
            let entry = Entry { position, member, base: value, mark: 0 };
            return self.buckets[0].entries.push(entry);
        }
        let key = (position, member);
        let b = self.bucket_of(key);
        let i = self.buckets[b].entries.partition_point(|e| e.key() < key);
        let base = value + self.marks_from(b, i);
        self.buckets[b].entries.insert(i, Entry { position, member, base, mark: 0 });
        if self.buckets[b].entries.len() > BUCKET_MAX {
            let upper = self.buckets[b].entries.split_off(BUCKET_MAX / 2);
            let inside: i64 = upper.iter().map(|e| e.mark).sum();
            self.buckets[b].entries[BUCKET_MAX / 2 - 1].mark += inside;
            let mark = std::mem::take(&mut self.buckets[b].mark);
            self.buckets.insert(b + 1, Bucket { entries: upper, mark });
        }
    }

    fn remove(&mut self, key: (u64, u32)) -> Option<i64> {
        let (b, i) = self.find(key)?;
        let value = self.buckets[b].entries[i].base - self.marks_from(b, i);
        // Its removals concern those before it: in this bucket, for the buckets before have their
        // own mark.
        let mark = self.buckets[b].entries.remove(i).mark;
        if i > 0 {
            self.buckets[b].entries[i - 1].mark += mark;
        }
        if self.buckets[b].entries.is_empty() {
            let mark = self.buckets.remove(b).mark;
            if b > 0 {
                self.buckets[b - 1].mark += mark;
            }
        }
        Some(value)
    }

    /// Moves an entry up and takes `passed` off its value.
    fn advance(&mut self, key: (u64, u32), position: u64, passed: i64) {
        let Some((b, i)) = self.find(key) else { return };
        let to = (position, key.1);
        let next = self.buckets[b].entries.get(i + 1);
        let next = next.or_else(|| self.buckets.get(b + 1).and_then(|b| b.entries.first()));
        if position >= key.0 && next.is_none_or(|n| to < n.key()) {
            let entry = &mut self.buckets[b].entries[i];
            entry.position = position;
            entry.base -= passed;
        } else if let Some(value) = self.remove(key) {
            self.insert(position, key.1, value - passed);
        }
    }

    /// One message less for every entry at or below `seq`.
    fn removed(&mut self, seq: u64) {
        let after = self.buckets.partition_point(|b| b.entries[0].position <= seq);
        let Some(b) = after.checked_sub(1) else { return };
        let bucket = &mut self.buckets[b];
        let i = bucket.entries.partition_point(|e| e.position <= seq);
        if i == bucket.entries.len() {
            bucket.mark += 1;
        } else {
            bucket.entries[i - 1].mark += 1;
            if b > 0 {
                self.buckets[b - 1].mark += 1;
            }
        }
    }

    fn first(&self) -> Option<(u64, u32)> {
        self.buckets.first().map(|b| b.entries[0].key())
    }
}

#[derive(Clone, Debug, Default)]
struct Group {
    filters: Vec<Vec<u8>>,
    members: usize,
    appended: i64,
    positions: Positions,
    /// Members whose position lies above everything stored, who count nothing yet.
    future: Vec<u32>,
    waiting: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Member {
    group: u32,
    position: u64,
    future: bool,
    parked: bool,
    watch: Option<(u64, u64)>,
    live: bool,
}

/// Token by token, from a subject to the groups that match it.
#[derive(Clone, Debug, Default)]
struct Node {
    children: HashMap<Vec<u8>, Node, FixedState>,
    /// Groups with a filter that ends here.
    here: Vec<u32>,
    /// Groups with a filter that ends here with `>`.
    full: Vec<u32>,
}

impl Node {
    fn at(&mut self, filter: &[u8]) -> (&mut Node, bool) {
        let mut node = self;
        for token in subject::tokens(filter) {
            if token == b">" {
                return (node, true);
            }
            node = node.children.entry_ref(token).or_default();
        }
        (node, false)
    }

    fn add(&mut self, filter: &[u8], group: u32) {
        let (node, full) = self.at(filter);
        if full { node.full.push(group) } else { node.here.push(group) }
    }

    /// True if the node is empty afterwards.
    fn remove(&mut self, filter: &[u8], group: u32) -> bool {
        let end = filter.iter().position(|&b| b == b'.');
        let (token, rest) = match end {
            Some(end) => (&filter[..end], Some(&filter[end + 1..])),
            None => (filter, None),
        };
        if token == b">" {
            self.full.retain(|&g| g != group);
        } else if let Some(child) = self.children.get_mut(token) {
            let empty = match rest {
                Some(rest) => child.remove(rest, group),
                None => {
                    child.here.retain(|&g| g != group);
                    child.is_empty()
                }
            };
            if empty {
                self.children.remove(token);
            }
        }
        self.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.here.is_empty() && self.full.is_empty()
    }

    fn collect(&self, rest: Option<&[u8]>, out: &mut Vec<u32>) {
        let Some(rest) = rest else {
            out.extend_from_slice(&self.here);
            return;
        };
        out.extend_from_slice(&self.full);
        let (token, rest) = match rest.iter().position(|&b| b == b'.') {
            Some(end) => (&rest[..end], Some(&rest[end + 1..])),
            None => (rest, None),
        };
        if let Some(child) = self.children.get(token) {
            child.collect(rest, out);
        }
        if let Some(child) = self.children.get(&b"*"[..]).filter(|_| token != b"*") {
            child.collect(rest, out);
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct FilterGroups {
    groups: Vec<Group>,
    free_groups: Vec<u32>,
    by_filters: HashMap<Vec<Vec<u8>>, u32, FixedState>,
    trie: Node,
    members: Vec<Member>,
    free_members: Vec<u32>,
    /// Subject id → its groups, a range of `memo_lists`.
    memo: HashMap<u32, (u32, u32), FixedState>,
    memo_lists: Vec<u32>,
    watched: BTreeSet<(u64, u32)>,
}

impl FilterGroups {
    /// No consumers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a consumer. No filter means everything. `position` is its first sequence that counts,
    /// `pending` the matching messages stored from there on, `last_seq` the stream's last sequence.
    pub fn add(
        &mut self,
        filters: &[Vec<u8>],
        position: u64,
        pending: u64,
        last_seq: u64,
    ) -> Handle {
        let g = self.group(filters);
        let handle = self.free_members.pop().unwrap_or_else(|| {
            self.members.push(Member::default());
            (self.members.len() - 1) as u32
        });
        let future = position > last_seq.saturating_add(1);
        self.members[handle as usize] =
            Member { group: g, position, future, live: true, ..Default::default() };
        let group = &mut self.groups[g as usize];
        group.members += 1;
        if future {
            group.future.push(handle);
        } else {
            group.positions.insert(position, handle, pending as i64 - group.appended);
        }
        Handle(handle)
    }

    fn group(&mut self, filters: &[Vec<u8>]) -> u32 {
        let mut filters = filters.to_vec();
        if filters.is_empty() {
            filters.push(b">".to_vec());
        }
        filters.sort();
        filters.dedup();
        if let Some(&g) = self.by_filters.get(&filters) {
            return g;
        }
        let g = self.free_groups.pop().unwrap_or_else(|| {
            self.groups.push(Group::default());
            (self.groups.len() - 1) as u32
        });
        for filter in &filters {
            self.trie.add(filter, g);
        }
        self.groups[g as usize] = Group { filters: filters.clone(), ..Default::default() };
        self.by_filters.insert(filters, g);
        self.forget_memo();
        g
    }

    /// A subject's number was freed and may be given to another subject.
    pub fn forget_subject(&mut self, subject_id: u32) {
        self.memo.remove(&subject_id);
    }

    fn forget_memo(&mut self) {
        self.memo.clear();
        self.memo_lists.clear();
    }

    /// Compares what it holds with the number of its consumers and of the stream's subjects.
    pub fn audit(&self, consumers: usize, subjects: usize) -> Result<(), String> {
        let members = self.members.iter().filter(|m| m.live).count();
        let groups = self.groups.len() - self.free_groups.len();
        let of_groups: usize = self.groups.iter().map(|g| g.members).sum();
        let watched = self.members.iter().filter(|m| m.watch.is_some()).count();
        let parked = self.groups.iter().map(|g| g.waiting.len()).sum::<usize>();
        if members != consumers || of_groups != consumers {
            return Err(format!("{consumers} consumers, {members} members, {of_groups} in groups"));
        }
        if groups > consumers || groups != self.by_filters.len() || parked > consumers {
            let filters = self.by_filters.len();
            return Err(format!(
                "{consumers} consumers, {groups} groups of {filters} filters, {parked} parked"
            ));
        }
        if self.watched.len() != watched {
            return Err(format!("{watched} consumers watch, {} are known", self.watched.len()));
        }
        if self.memo.len() > subjects {
            return Err(format!("{subjects} subjects, {} remembered", self.memo.len()));
        }
        match self.memo_lists.len() > MEMO_GROUPS_MAX + groups {
            true => Err(format!("{} groups remembered", self.memo_lists.len())),
            false => Ok(()),
        }
    }

    /// What the memo takes, in groups.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.memo_lists.capacity()
    }

    /// Removes a consumer.
    pub fn remove(&mut self, handle: Handle) {
        let Some(member) = self.member(handle) else { return };
        self.watch(handle, None);
        let group = &mut self.groups[member.group as usize];
        group.positions.remove((member.position, handle.0));
        group.future.retain(|&m| m != handle.0);
        group.waiting.retain(|&m| m != handle.0);
        group.members -= 1;
        if group.members == 0 {
            let filters = std::mem::take(&mut group.filters);
            for filter in &filters {
                self.trie.remove(filter, member.group);
            }
            self.by_filters.remove(&filters);
            self.free_groups.push(member.group);
            self.forget_memo();
        }
        self.members[handle.0 as usize] = Member::default();
        self.free_members.push(handle.0);
    }

    fn member(&self, handle: Handle) -> Option<Member> {
        self.members.get(handle.0 as usize).copied().filter(|m| m.live)
    }

    /// Matching messages at or after the consumer's position.
    pub fn pending(&self, handle: Handle) -> u64 {
        let Some(member) = self.member(handle).filter(|m| !m.future) else { return 0 };
        let group = &self.groups[member.group as usize];
        let value = group.positions.read((member.position, handle.0)).unwrap_or(0);
        (group.appended + value).max(0) as u64
    }

    /// A consumer moved on, and passed messages that counted.
    pub fn moved(&mut self, handle: Handle, progress: Progress) {
        let Some(member) = self.member(handle) else { return };
        let Progress { position, passed } = progress;
        if (position, passed) == (member.position, 0) {
            return;
        }
        self.members[handle.0 as usize].position = position;
        if !member.future {
            let group = &mut self.groups[member.group as usize];
            group.positions.advance((member.position, handle.0), position, passed as i64);
        }
    }

    /// Sets a consumer's position and count anew, counted from the index.
    pub fn set(&mut self, handle: Handle, position: u64, pending: u64, last_seq: u64) {
        let Some(member) = self.member(handle) else { return };
        let future = position > last_seq.saturating_add(1);
        let group = &mut self.groups[member.group as usize];
        group.positions.remove((member.position, handle.0));
        group.future.retain(|&m| m != handle.0);
        if future {
            group.future.push(handle.0);
        } else {
            group.positions.insert(position, handle.0, pending as i64 - group.appended);
        }
        let member = &mut self.members[handle.0 as usize];
        (member.position, member.future) = (position, future);
    }

    /// The groups of a subject, as a range of `memo_lists`.
    fn groups_of(&mut self, subject_id: u32, subject: &[u8]) -> std::ops::Range<usize> {
        if let Some(&(from, to)) = self.memo.get(&subject_id) {
            return from as usize..to as usize;
        }
        if self.memo.len() >= MEMO_SUBJECTS_MAX || self.memo_lists.len() >= MEMO_GROUPS_MAX {
            self.forget_memo();
        }
        let from = self.memo_lists.len();
        self.trie.collect(Some(subject), &mut self.memo_lists);
        self.memo_lists[from..].sort_unstable();
        // Filters of one group do not overlap; should they all the same, the group counts once.
        let mut kept = from;
        for i in from..self.memo_lists.len() {
            if kept == from || self.memo_lists[kept - 1] != self.memo_lists[i] {
                self.memo_lists[kept] = self.memo_lists[i];
                kept += 1;
            }
        }
        self.memo_lists.truncate(kept);
        self.memo.insert(subject_id, (from as u32, kept as u32));
        from..kept
    }

    /// A message was appended; `subject_id` is the stream's own number for the subject and is never
    /// given to another one while these groups live. Calls `wake` for each parked consumer that it
    /// matches, who is parked no more.
    pub fn appended(
        &mut self,
        subject_id: u32,
        subject: &[u8],
        seq: u64,
        mut wake: impl FnMut(Handle),
    ) {
        for at in self.groups_of(subject_id, subject) {
            let group = &mut self.groups[self.memo_lists[at] as usize];
            group.appended += 1;
            if !group.future.is_empty() {
                let members = &mut self.members;
                let (appended, positions) = (group.appended, &mut group.positions);
                group.future.retain(|&m| {
                    let member = &mut members[m as usize];
                    member.future = member.position > seq;
                    if !member.future {
                        positions.insert(member.position, m, 1 - appended);
                    }
                    member.future
                });
            }
            for m in group.waiting.drain(..) {
                self.members[m as usize].parked = false;
                wake(Handle(m));
            }
        }
    }

    /// Wakes a consumer at the next append that matches.
    pub fn park(&mut self, handle: Handle) {
        let Some(member) = self.members.get_mut(handle.0 as usize).filter(|m| m.live) else {
            return;
        };
        if !member.parked {
            member.parked = true;
            self.groups[member.group as usize].waiting.push(handle.0);
        }
    }

    /// A message left the stream.
    pub fn removed(&mut self, subject_id: u32, subject: &[u8], seq: u64) {
        for at in self.groups_of(subject_id, subject) {
            self.groups[self.memo_lists[at] as usize].positions.removed(seq);
        }
    }

    /// All messages below `below` left the stream at once, instead of a `removed` for each. `count`
    /// tells how many messages matching some filters are stored at or after `below`; it is asked
    /// once per group that has a consumer below. Positions stay; consumers move theirs by
    /// `purged_below`.
    pub fn purged_below(&mut self, below: u64, mut count: impl FnMut(&[Vec<u8>]) -> u64) {
        for group in &mut self.groups {
            let mut left = None;
            let mut behind = Vec::new();
            while let Some(key) = group.positions.first().filter(|key| key.0 < below) {
                group.positions.remove(key);
                behind.push(key);
            }
            for (position, member) in behind {
                let left = *left.get_or_insert_with(|| count(&group.filters)) as i64;
                group.positions.insert(position, member, left - group.appended);
            }
        }
    }

    /// The filters of a consumer, sorted; `>` for everything.
    pub fn filters(&self, handle: Handle) -> &[Vec<u8>] {
        match self.member(handle) {
            Some(member) => &self.groups[member.group as usize].filters,
            None => &[],
        }
    }

    /// Notes which removals concern a consumer ([`super::Delivery::watched`]); to be told after it
    /// was driven or acknowledged.
    pub fn watch(&mut self, handle: Handle, range: Option<(u64, u64)>) {
        let Some(member) = self.members.get_mut(handle.0 as usize).filter(|m| m.live) else {
            return;
        };
        if member.watch.map(|w| w.0) != range.map(|r| r.0) {
            if let Some((first, _)) = member.watch {
                self.watched.remove(&(first, handle.0));
            }
            if let Some((first, _)) = range {
                self.watched.insert((first, handle.0));
            }
        }
        member.watch = range;
    }

    /// Appends the consumers that the removal of `seq` concerns. Costs nothing for consumers that
    /// keep nothing that old.
    pub fn watchers(&self, seq: u64, out: &mut Vec<Handle>) {
        for &(_, m) in self.watched.range(..=(seq, u32::MAX)) {
            if self.members[m as usize].watch.is_some_and(|(_, last)| last >= seq) {
                out.push(Handle(m));
            }
        }
    }

    /// Appends the consumers that a purge below `below` concerns: those that keep something older,
    /// or stand below it.
    pub fn concerned_below(&self, below: u64, out: &mut Vec<Handle>) {
        for (m, member) in self.members.iter().enumerate().filter(|(_, m)| m.live) {
            if member.position < below || member.watch.is_some_and(|(first, _)| first < below) {
                out.push(Handle(m as u32));
            }
        }
    }
}
