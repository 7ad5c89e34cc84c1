//! The interest of one reactor: what is subscribed here, what others told, what streams capture.

use super::cache::Cache;
use super::catalogue::{Catalogue, Destination, StreamPlace};
use super::trie::{NONE, Trie};
use super::watch::{Watch, WatchEvent, WatchId, Watches};
use super::{AccountId, SubId};
use crate::subject;
use crate::types::{CreditKind, ReactorId, ShardId, StreamId};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use slab::Slab;
use std::hash::BuildHasher;

/// Watches whose interest is looked up in one go.
const WATCHES_LOOKED_AT: usize = 1024;

/// A stream that captures a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamTarget {
    /// The stream.
    pub stream: StreamId,
    /// Its shard.
    pub shard: ShardId,
    /// The reactor that hosts the shard.
    pub reactor: ReactorId,
    /// The credit that publishes into it are charged to.
    pub credit: CreditKind,
}

/// A queue group that wants a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupPlan {
    /// The group's name.
    pub name: Box<[u8]>,
    /// Its members on this reactor.
    pub local: Vec<SubId>,
    /// Its members elsewhere: how many on which reactor, by reactor.
    pub remote: Vec<(ReactorId, u32)>,
}

impl GroupPlan {
    /// Members on all reactors.
    pub fn members(&self) -> u64 {
        self.local.len() as u64 + self.remote.iter().map(|&(_, n)| u64::from(n)).sum::<u64>()
    }
}

/// Everybody who wants a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Plain subscriptions on this reactor.
    pub plain: Vec<SubId>,
    /// Queue groups with members anywhere on the node.
    pub groups: Vec<GroupPlan>,
    /// Other reactors that get a copy whatever is chosen in queue groups, in order.
    pub reactors: Vec<ReactorId>,
    /// Of `reactors`, those with plain interest.
    pub plain_reactors: Vec<ReactorId>,
    /// Streams that capture the subject, here and elsewhere.
    pub streams: Vec<StreamTarget>,
    /// Positions in `groups`, ordered by name, where there are so many that a search pays.
    by_name: Vec<u32>,
}

/// Groups of a plan that are searched one by one; among more, names are found by their order.
const GROUPS_LISTED: usize = 16;

impl Plan {
    pub(super) fn clear(&mut self) {
        self.plain.clear();
        self.groups.clear();
        self.reactors.clear();
        self.plain_reactors.clear();
        self.streams.clear();
        self.by_name.clear();
    }

    /// The position of a queue group.
    pub fn group_named(&self, name: &[u8]) -> Option<usize> {
        if self.by_name.is_empty() {
            return self.groups.iter().position(|g| *g.name == *name);
        }
        let name_at = |at: &u32| &*self.groups[*at as usize].name;
        let found = self.by_name.binary_search_by(|at| name_at(at).cmp(name)).ok()?;
        Some(self.by_name[found] as usize)
    }

    fn order_groups(&mut self) {
        if self.groups.len() > GROUPS_LISTED {
            self.by_name.extend(0..self.groups.len() as u32);
            let groups = &self.groups;
            self.by_name.sort_unstable_by_key(|&at| &*groups[at as usize].name);
        }
    }
}

/// Joins groups of one name that several filters of a plan have.
struct Merge<'a> {
    known: &'a mut HashTable<u32>,
    hasher: &'a FixedState,
    /// Groups of the plan that are in `known`.
    entered: usize,
    /// Groups that the filters before the current one brought.
    before: usize,
}

impl Merge<'_> {
    /// A filter begins: no two of its groups have one name.
    fn filter(&mut self, plan: &Plan) {
        self.before = plan.groups.len();
    }

    fn group<'p>(&mut self, plan: &'p mut Plan, name: &[u8]) -> &'p mut GroupPlan {
        let at = match self.find(plan, name) {
            Some(at) => at,
            None => {
                plan.groups.push(GroupPlan { name: name.into(), ..GroupPlan::default() });
                plan.groups.len() - 1
            }
        };
        &mut plan.groups[at]
    }

    fn find(&mut self, plan: &Plan, name: &[u8]) -> Option<usize> {
        let known = &plan.groups[..self.before];
        if known.len() <= GROUPS_LISTED {
            return known.iter().position(|g| *g.name == *name);
        }
        let hash = |at: u32| self.hasher.hash_one(&*known[at as usize].name);
        for at in self.entered as u32..self.before as u32 {
            self.known.insert_unique(hash(at), at, |&at| hash(at));
        }
        self.entered = self.before;
        let found =
            self.known.find(self.hasher.hash_one(name), |&at| *known[at as usize].name == *name);
        found.map(|&at| at as usize)
    }
}

/// A plan in the cache. Valid until interest changes or the next plan is asked for.
#[derive(Clone, Copy, Debug)]
pub struct PlanId {
    account: AccountId,
    slot: u32,
}

/// What other reactors must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The filter.
    pub filter: Box<[u8]>,
    /// The queue group, or `None` for plain interest.
    pub queue: Option<Box<[u8]>>,
    /// How much interest there is here now: members, or 0 or 1.
    pub count: u32,
}

/// The interest of one queue group in one filter.
#[derive(Debug)]
struct Group {
    name: Box<[u8]>,
    filter: u32,
    /// Its position in the filter's list.
    at: u32,
    local: Vec<SubId>,
    remote: Vec<(ReactorId, u32)>,
}

/// What is known of one filter.
#[derive(Debug, Default)]
struct Filter {
    node: u32,
    plain: Vec<SubId>,
    remote: Vec<ReactorId>,
    groups: Vec<u32>,
    streams: Vec<StreamTarget>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.plain.is_empty()
            && self.remote.is_empty()
            && self.groups.is_empty()
            && self.streams.is_empty()
    }
}

/// Where a local subscription stands, so that it is found again without a search.
#[derive(Clone, Copy, Debug)]
struct Place {
    filter: u32,
    /// Its queue group, or `NONE`.
    group: u32,
    /// Its position among the filter's plain subscriptions, or among the group's members.
    at: u32,
}

const NOWHERE: Place = Place { filter: NONE, group: NONE, at: NONE };

#[derive(Debug)]
struct Table {
    trie: Trie,
    filters: Vec<Filter>,
    free: Vec<u32>,
    groups: Slab<Group>,
    /// Groups by filter and name.
    group_index: HashTable<u32>,
    hasher: FixedState,
    /// What building a plan needs for a moment.
    merged: HashTable<u32>,
    cache: Cache,
    walks: u64,
}

fn group_hash(hasher: &FixedState, filter: u32, name: &[u8]) -> u64 {
    hasher.hash_one((filter, name))
}

/// Takes the member at `at` out of a list; another one moves into its place.
fn take_member(members: &mut Vec<SubId>, at: u32, places: &mut [Place]) {
    members.swap_remove(at as usize);
    if let Some(moved) = members.get(at as usize) {
        places[moved.0 as usize].at = at;
    }
    if members.len() < members.capacity() / 8 {
        members.shrink_to(members.len() * 2);
    }
}

impl Table {
    fn new(seed: u64) -> Self {
        Table {
            trie: Trie::new(seed),
            filters: Vec::new(),
            free: Vec::new(),
            groups: Slab::new(),
            group_index: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            merged: HashTable::new(),
            cache: Cache::new(seed),
            walks: 0,
        }
    }

    fn find_group(&self, filter: u32, name: &[u8]) -> Option<u32> {
        let hash = group_hash(&self.hasher, filter, name);
        let found = self.group_index.find(hash, |&id| {
            let group = &self.groups[id as usize];
            group.filter == filter && *group.name == *name
        });
        found.copied()
    }

    /// The group `name` of a filter, made if it is not there.
    fn group(&mut self, filter: u32, name: &[u8]) -> u32 {
        if let Some(id) = self.find_group(filter, name) {
            return id;
        }
        let list = &mut self.filters[filter as usize].groups;
        let at = list.len() as u32;
        let (local, remote) = (Vec::new(), Vec::new());
        let id = self.groups.insert(Group { name: name.into(), filter, at, local, remote }) as u32;
        list.push(id);
        let (groups, hasher) = (&self.groups, &self.hasher);
        self.group_index.insert_unique(group_hash(hasher, filter, name), id, |&id| {
            let group = &groups[id as usize];
            group_hash(hasher, group.filter, &group.name)
        });
        id
    }

    fn drop_group_if_empty(&mut self, id: u32) {
        let group = &self.groups[id as usize];
        if !group.local.is_empty() || !group.remote.is_empty() {
            return;
        }
        let (filter, at) = (group.filter, group.at);
        let hash = group_hash(&self.hasher, filter, &group.name);
        if let Ok(found) = self.group_index.find_entry(hash, |&other| other == id) {
            found.remove();
        }
        self.groups.remove(id as usize);
        let list = &mut self.filters[filter as usize].groups;
        list.swap_remove(at as usize);
        if let Some(&moved) = list.get(at as usize) {
            self.groups[moved as usize].at = at;
        }
    }

    fn filter(&mut self, name: &[u8]) -> u32 {
        let node = self.trie.insert(name);
        let known = self.trie.value(node);
        if known != NONE {
            return known;
        }
        let made = Filter { node, ..Filter::default() };
        let id = match self.free.pop() {
            Some(id) => {
                self.filters[id as usize] = made;
                id
            }
            None => {
                self.filters.push(made);
                (self.filters.len() - 1) as u32
            }
        };
        self.trie.set_value(node, id);
        id
    }

    fn find(&self, name: &[u8]) -> Option<u32> {
        let value = self.trie.value(self.trie.find(name)?);
        (value != NONE).then_some(value)
    }

    fn drop_if_empty(&mut self, id: u32) {
        let filter = &mut self.filters[id as usize];
        if filter.is_empty() {
            self.trie.set_value(filter.node, NONE);
            *filter = Filter::default();
            self.free.push(id);
        }
    }

    fn build(&mut self, own: ReactorId, subject: &[u8], slot: u32) -> bool {
        let plan = self.cache.plan_mut(slot);
        let (filters, groups) = (&self.filters, &self.groups);
        self.merged.clear();
        let (known, hasher) = (&mut self.merged, &self.hasher);
        let mut merge = Merge { known, hasher, entered: 0, before: 0 };
        let free = self.trie.walk(subject, |id| {
            let Some(filter) = filters.get(id as usize) else { return };
            plan.plain.extend_from_slice(&filter.plain);
            plan.plain_reactors.extend_from_slice(&filter.remote);
            merge.filter(plan);
            for group in filter.groups.iter().map(|&id| &groups[id as usize]) {
                let merged = merge.group(plan, &group.name);
                merged.local.extend_from_slice(&group.local);
                for &(reactor, count) in &group.remote {
                    match merged.remote.iter_mut().find(|(r, _)| *r == reactor) {
                        Some((_, sum)) => *sum += count,
                        None => merged.remote.push((reactor, count)),
                    }
                }
            }
            for &target in &filter.streams {
                if !plan.streams.iter().any(|t| t.stream == target.stream) {
                    plan.streams.push(target);
                }
            }
        });
        plan.plain_reactors.sort_unstable();
        plan.plain_reactors.dedup();
        plan.streams.sort_unstable_by_key(|t| t.stream);
        for group in &mut plan.groups {
            group.remote.sort_unstable();
        }
        plan.order_groups();
        plan.reactors.extend_from_slice(&plan.plain_reactors);
        plan.reactors.extend(plan.streams.iter().map(|t| t.reactor).filter(|&r| r != own));
        plan.reactors.sort_unstable();
        plan.reactors.dedup();
        free
    }

    /// The slot of the plan for `subject`.
    #[inline]
    fn plan(&mut self, own: ReactorId, name: &[u8]) -> u32 {
        if let Some(slot) = self.cache.again(name) {
            return slot;
        }
        self.search(own, name)
    }

    fn search(&mut self, own: ReactorId, name: &[u8]) -> u32 {
        if name.last() == Some(&b'.') {
            // Such a key stands for all that follows the dot.
            self.cache.plan_mut(0).clear();
            return 0;
        }
        let hash = self.cache.hash(name);
        if let Some(slot) = self.cache.get(hash, name) {
            return slot;
        }
        let prefix = memchr::memrchr(b'.', name).map(|dot| &name[..=dot]);
        let prefix = prefix.map(|p| (self.cache.hash(p), p));
        if let Some((prefix_hash, prefix)) = prefix
            && let Some(slot) = self.cache.get(prefix_hash, prefix)
        {
            return slot;
        }
        self.cache.plan_mut(0).clear();
        if !subject::is_routable(name) {
            return 0;
        }
        self.walks += 1;
        let free = self.build(own, name, 0);
        let slot = match prefix {
            Some((hash, prefix)) if free => self.cache.remember(hash, prefix),
            _ => self.cache.remember(hash, name),
        };
        slot.unwrap_or(0)
    }
}

/// The interest of one reactor.
#[derive(Debug)]
pub struct Interest {
    own: ReactorId,
    seed: u64,
    tables: Vec<Table>,
    /// Where local subscriptions stand, by their ids.
    places: Vec<Place>,
    catalogue: Catalogue,
    watches: Watches,
    /// The filter that changes.
    name: Vec<u8>,
}

impl Interest {
    /// Nothing is wanted yet. `own` is this reactor, `meta_reactor` hosts shard 0.
    pub fn new(own: ReactorId, meta_reactor: ReactorId, seed: u64) -> Self {
        Interest {
            own,
            seed,
            tables: vec![Table::new(seed)],
            places: Vec::new(),
            name: Vec::new(),
            catalogue: Catalogue::new(seed, meta_reactor),
            watches: Watches::default(),
        }
    }

    #[inline]
    fn table(&mut self, account: AccountId) -> &mut Table {
        if self.tables.len() <= account.0 as usize {
            self.add_tables(account);
        }
        &mut self.tables[account.0 as usize]
    }

    #[cold]
    #[inline(never)]
    fn add_tables(&mut self, last: AccountId) {
        while self.tables.len() <= last.0 as usize {
            self.tables.push(Table::new(self.seed));
        }
    }

    fn changed(&mut self, account: AccountId, filter: &[u8]) {
        self.table(account).cache.invalidate(filter);
        self.watches.touch(filter);
    }

    /// Adds a local subscription. Returns what others must be told.
    pub fn subscribe(
        &mut self,
        account: AccountId,
        filter: &[u8],
        queue: Option<&[u8]>,
        sub: SubId,
    ) -> Option<Change> {
        let table = self.table(account);
        let id = table.filter(filter);
        let (group, members, count) = match queue {
            None => {
                let plain = &mut table.filters[id as usize].plain;
                plain.push(sub);
                (NONE, plain.len() as u32, (plain.len() == 1).then_some(1))
            }
            Some(queue) => {
                let group = table.group(id, queue);
                let local = &mut table.groups[group as usize].local;
                local.push(sub);
                (group, local.len() as u32, Some(local.len() as u32))
            }
        };
        if self.places.len() <= sub.0 as usize {
            self.places.resize(sub.0 as usize + 1, NOWHERE);
        }
        self.places[sub.0 as usize] = Place { filter: id, group, at: members - 1 };
        self.changed(account, filter);
        count.map(|count| Change { filter: filter.into(), queue: queue.map(Into::into), count })
    }

    /// Removes a local subscription. Returns what others must be told. Takes the same time however
    /// many subscriptions there are.
    pub fn unsubscribe(&mut self, account: AccountId, sub: SubId) -> Option<Change> {
        let place = std::mem::replace(self.places.get_mut(sub.0 as usize)?, NOWHERE);
        let mut name = std::mem::take(&mut self.name);
        let table = &mut self.tables[account.0 as usize];
        let known = table.filters.get_mut(place.filter as usize)?;
        table.trie.filter_into(known.node, &mut name);
        let change = if place.group == NONE {
            take_member(&mut known.plain, place.at, &mut self.places);
            let last = known.plain.is_empty();
            last.then(|| Change { filter: name.as_slice().into(), queue: None, count: 0 })
        } else {
            let group = &mut table.groups[place.group as usize];
            take_member(&mut group.local, place.at, &mut self.places);
            let (queue, count) = (Some(group.name.clone()), group.local.len() as u32);
            table.drop_group_if_empty(place.group);
            Some(Change { filter: name.as_slice().into(), queue, count })
        };
        table.drop_if_empty(place.filter);
        self.changed(account, &name);
        self.name = name;
        change
    }

    /// What a local subscription subscribes to, and its queue group or nothing.
    pub fn filter_of(&self, account: AccountId, sub: SubId) -> Option<(Vec<u8>, Vec<u8>)> {
        let table = self.tables.get(account.0 as usize)?;
        let place = self.places.get(sub.0 as usize)?;
        let known = table.filters.get(place.filter as usize)?;
        let group = table.groups.get(place.group as usize);
        let queue = group.map(|group| group.name.to_vec()).unwrap_or_default();
        let mut filter = Vec::new();
        table.trie.filter_into(known.node, &mut filter);
        Some((filter, queue))
    }

    /// Notes what another reactor wants now.
    pub fn remote(
        &mut self,
        account: AccountId,
        from: ReactorId,
        filter: &[u8],
        queue: Option<&[u8]>,
        count: u32,
    ) {
        let table = self.table(account);
        let id = table.filter(filter);
        match queue {
            None => {
                let known = &mut table.filters[id as usize];
                known.remote.retain(|&r| r != from);
                if count > 0 {
                    known.remote.push(from);
                }
            }
            Some(queue) => {
                let group = table.group(id, queue);
                let remote = &mut table.groups[group as usize].remote;
                remote.retain(|&(r, _)| r != from);
                if count > 0 {
                    remote.push((from, count));
                }
                table.drop_group_if_empty(group);
            }
        }
        table.drop_if_empty(id);
        self.changed(account, filter);
    }

    /// Filters that somebody on any reactor subscribes to.
    pub fn subscribed(&self) -> usize {
        let taken =
            |f: &&Filter| !f.plain.is_empty() || !f.remote.is_empty() || !f.groups.is_empty();
        self.tables.iter().map(|table| table.filters.iter().filter(taken).count()).sum()
    }

    /// Adds a stream, or gives it another place or other subjects.
    pub fn set_stream(&mut self, place: StreamPlace) {
        self.remove_stream(place.id);
        let StreamPlace { id: stream, shard, reactor, credit, .. } = place;
        let target = StreamTarget { stream, shard, reactor, credit };
        for filter in &place.subjects {
            let table = self.table(place.account);
            let id = table.filter(filter);
            table.filters[id as usize].streams.push(target);
            self.changed(place.account, filter);
        }
        self.catalogue.insert(place);
    }

    /// Removes a stream.
    pub fn remove_stream(&mut self, stream: StreamId) {
        let Some(place) = self.catalogue.remove(stream) else { return };
        for filter in &place.subjects {
            let table = self.table(place.account);
            if let Some(id) = table.find(filter) {
                table.filters[id as usize].streams.retain(|t| t.stream != stream);
                table.drop_if_empty(id);
            }
            self.changed(place.account, filter);
        }
    }

    /// Turns the subjects of JetStream's API on or off.
    pub fn set_jetstream(&mut self, enabled: bool) {
        self.catalogue.set_enabled(enabled);
    }

    /// The streams that exist.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Who takes a subject of JetStream itself.
    #[inline]
    pub fn destination(&self, account: AccountId, subject: &[u8]) -> Option<Destination> {
        if !subject.starts_with(b"$JS.") {
            return None;
        }
        self.catalogue.destination(account, subject)
    }

    /// The plan for a subject.
    #[inline]
    pub fn plan(&mut self, account: AccountId, subject: &[u8]) -> PlanId {
        let own = self.own;
        let slot = self.table(account).plan(own, subject);
        PlanId { account, slot }
    }

    /// A plan.
    #[inline]
    pub fn get(&self, id: PlanId) -> &Plan {
        self.tables[id.account.0 as usize].cache.plan(id.slot)
    }

    /// True if anybody on the node subscribes to `subject`, or, with a group, if that group does.
    pub fn has_interest(
        &mut self,
        account: AccountId,
        subject: &[u8],
        group: Option<&[u8]>,
    ) -> bool {
        let id = self.plan(account, subject);
        let plan = self.get(id);
        match group {
            Some(group) => plan.group_named(group).is_some(),
            None => {
                !plan.plain.is_empty()
                    || !plan.reactors.is_empty()
                    || !plan.groups.is_empty()
                    || !plan.streams.is_empty()
            }
        }
    }

    /// True if anybody on the node subscribes to just this subject without a group, or, with one,
    /// if a member of that group does: wildcards do not count.
    pub fn has_listener(
        &mut self,
        account: AccountId,
        subject: &[u8],
        group: Option<&[u8]>,
    ) -> bool {
        let table = self.table(account);
        let Some(id) = table.find(subject) else { return false };
        let filter = &table.filters[id as usize];
        match group {
            Some(group) => table.find_group(id, group).is_some(),
            None => !filter.plain.is_empty() || !filter.remote.is_empty(),
        }
    }

    /// Watches a subject; events follow when the answer of `has_listener` changes.
    pub fn watch(&mut self, account: AccountId, subject: &[u8], group: Option<&[u8]>) -> WatchId {
        let interested = self.has_listener(account, subject, group);
        let (subject, group) = (subject.into(), group.map(Into::into));
        self.watches.add(Watch { account, subject, group, interested })
    }

    /// Gives up a watch.
    pub fn unwatch(&mut self, watch: WatchId) {
        self.watches.remove(watch);
    }

    /// How often the trie was walked because no plan was remembered.
    pub fn walks(&self) -> u64 {
        self.tables.iter().map(|t| t.walks).sum()
    }

    /// Plans that are remembered, with the local subscriptions of each.
    pub fn fanouts(&self) -> impl Iterator<Item = usize> + '_ {
        self.tables.iter().flat_map(|t| t.cache.fanouts())
    }

    /// What changed for watches since the last call: of so many at most, the others later.
    pub fn take_watch_events(&mut self) -> Vec<WatchEvent> {
        if !self.watches.is_dirty() {
            return Vec::new();
        }
        let mut events = Vec::new();
        for id in self.watches.take_dirty(WATCHES_LOOKED_AT) {
            let Some(watch) = self.watches.get_mut(id) else { continue };
            let (account, before) = (watch.account, watch.interested);
            let (subject, group) = (watch.subject.clone(), watch.group.clone());
            let interested = self.has_listener(account, &subject, group.as_deref());
            if interested != before {
                if let Some(watch) = self.watches.get_mut(id) {
                    watch.interested = interested;
                }
                events.push(WatchEvent { watch: id, interested });
            }
        }
        events
    }

    /// True if `take_watch_events` has something to look at.
    pub fn has_watch_events(&self) -> bool {
        self.watches.is_dirty()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
