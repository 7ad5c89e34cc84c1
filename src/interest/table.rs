//! The interest of one reactor: what is subscribed here, what others told, what streams capture.

use super::cache::Cache;
use super::catalogue::{Catalogue, Destination, StreamPlace};
use super::trie::{NONE, Trie};
use super::watch::{Watch, WatchEvent, WatchId, Watches};
use super::{AccountId, SubId};
use crate::subject;
use crate::types::{ReactorId, ShardId, StreamId};

/// A stream that captures a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamTarget {
    /// The stream.
    pub stream: StreamId,
    /// Its shard.
    pub shard: ShardId,
    /// The reactor that hosts the shard.
    pub reactor: ReactorId,
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
}

impl Plan {
    pub(super) fn clear(&mut self) {
        self.plain.clear();
        self.groups.clear();
        self.reactors.clear();
        self.plain_reactors.clear();
        self.streams.clear();
    }

    fn group(&mut self, name: &[u8]) -> &mut GroupPlan {
        let at = match self.groups.iter().position(|g| *g.name == *name) {
            Some(at) => at,
            None => {
                self.groups.push(GroupPlan { name: name.into(), ..GroupPlan::default() });
                self.groups.len() - 1
            }
        };
        &mut self.groups[at]
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

#[derive(Debug, Default)]
struct Group {
    name: Box<[u8]>,
    local: Vec<SubId>,
    remote: Vec<(ReactorId, u32)>,
}

/// What is known of one filter.
#[derive(Debug, Default)]
struct Filter {
    node: u32,
    plain: Vec<SubId>,
    remote: Vec<ReactorId>,
    groups: Vec<Group>,
    streams: Vec<StreamTarget>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.plain.is_empty()
            && self.remote.is_empty()
            && self.groups.is_empty()
            && self.streams.is_empty()
    }

    fn group(&mut self, name: &[u8]) -> &mut Group {
        let at = match self.groups.iter().position(|g| *g.name == *name) {
            Some(at) => at,
            None => {
                self.groups.push(Group { name: name.into(), ..Group::default() });
                self.groups.len() - 1
            }
        };
        &mut self.groups[at]
    }

    fn drop_empty_groups(&mut self) {
        self.groups.retain(|g| !g.local.is_empty() || !g.remote.is_empty());
    }
}

#[derive(Debug)]
struct Table {
    trie: Trie,
    filters: Vec<Filter>,
    free: Vec<u32>,
    cache: Cache,
    walks: u64,
}

impl Table {
    fn new(seed: u64) -> Self {
        Table {
            trie: Trie::new(seed),
            filters: Vec::new(),
            free: Vec::new(),
            cache: Cache::new(seed),
            walks: 0,
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
        let filters = &self.filters;
        let free = self.trie.walk(subject, |id| {
            let Some(filter) = filters.get(id as usize) else { return };
            plan.plain.extend_from_slice(&filter.plain);
            plan.plain_reactors.extend_from_slice(&filter.remote);
            for group in &filter.groups {
                let merged = plan.group(&group.name);
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
    catalogue: Catalogue,
    watches: Watches,
}

impl Interest {
    /// Nothing is wanted yet. `own` is this reactor, `meta_reactor` hosts shard 0.
    pub fn new(own: ReactorId, meta_reactor: ReactorId, seed: u64) -> Self {
        Interest {
            own,
            seed,
            tables: vec![Table::new(seed)],
            catalogue: Catalogue::new(seed, meta_reactor),
            watches: Watches::default(),
        }
    }

    fn table(&mut self, account: AccountId) -> &mut Table {
        while self.tables.len() <= account.0 as usize {
            self.tables.push(Table::new(self.seed));
        }
        &mut self.tables[account.0 as usize]
    }

    fn changed(&mut self, account: AccountId, filter: &[u8]) {
        self.table(account).cache.invalidate(filter);
        self.watches.touch(filter);
    }

    /// Adds a local subscription. Returns where it hangs, for `unsubscribe`, and what others must
    /// be told.
    pub fn subscribe(
        &mut self,
        account: AccountId,
        filter: &[u8],
        queue: Option<&[u8]>,
        sub: SubId,
    ) -> (u32, Option<Change>) {
        let table = self.table(account);
        let id = table.filter(filter);
        let known = &mut table.filters[id as usize];
        let count = match queue {
            None => {
                known.plain.push(sub);
                (known.plain.len() == 1).then_some(1)
            }
            Some(queue) => {
                let group = known.group(queue);
                group.local.push(sub);
                Some(group.local.len() as u32)
            }
        };
        self.changed(account, filter);
        let change = count.map(|count| Change {
            filter: filter.into(),
            queue: queue.map(Into::into),
            count,
        });
        (id, change)
    }

    /// Removes a local subscription that hangs at `at`. Returns what others must be told.
    pub fn unsubscribe(&mut self, account: AccountId, at: u32, sub: SubId) -> Option<Change> {
        let table = self.table(account);
        let known = &mut table.filters[at as usize];
        let filter: Box<[u8]> = table.trie.filter(known.node).into();
        let mut change = None;
        if let Some(i) = known.plain.iter().position(|&s| s == sub) {
            known.plain.swap_remove(i);
            if known.plain.is_empty() {
                known.plain = Vec::new();
                change = Some(Change { filter: filter.clone(), queue: None, count: 0 });
            }
        }
        for group in &mut known.groups {
            if let Some(i) = group.local.iter().position(|&s| s == sub) {
                group.local.swap_remove(i);
                let (queue, count) = (Some(group.name.clone()), group.local.len() as u32);
                change = Some(Change { filter: filter.clone(), queue, count });
            }
        }
        known.drop_empty_groups();
        table.drop_if_empty(at);
        self.changed(account, &filter);
        change
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
        let known = &mut table.filters[id as usize];
        match queue {
            None => {
                known.remote.retain(|&r| r != from);
                if count > 0 {
                    known.remote.push(from);
                }
            }
            Some(queue) => {
                let group = known.group(queue);
                group.remote.retain(|&(r, _)| r != from);
                if count > 0 {
                    group.remote.push((from, count));
                }
                known.drop_empty_groups();
            }
        }
        table.drop_if_empty(id);
        self.changed(account, filter);
    }

    /// Adds a stream, or gives it another place or other subjects.
    pub fn set_stream(&mut self, place: StreamPlace) {
        self.remove_stream(place.id);
        let target = StreamTarget { stream: place.id, shard: place.shard, reactor: place.reactor };
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
            Some(group) => plan.groups.iter().any(|g| *g.name == *group),
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
            Some(group) => filter.groups.iter().any(|g| *g.name == *group),
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

    /// What changed for watches since the last call.
    pub fn take_watch_events(&mut self) -> Vec<WatchEvent> {
        if !self.watches.is_dirty() {
            return Vec::new();
        }
        let mut events = Vec::new();
        for id in self.watches.take_dirty() {
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
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
