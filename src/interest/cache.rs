//! Plans remembered per subject.
//!
//! A key is a subject, or a subject without its last token (it then ends in a dot) where that
//! token does not matter. A change of a literal filter drops exactly the keys it can concern. A
//! change of a wildcard filter advances the generation of its literal beginning (none, one or two
//! tokens), and plans under that beginning are stale. So inboxes that come and go leave the plans
//! of other subjects alone.
//!
//! A subject is remembered only when it is asked for a second time, so that subjects used once do
//! not push others out.

use super::table::Plan;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Plans remembered at most, per account and reactor.
pub const PLANS_MAX: usize = 8192;
const GENERATIONS: usize = 1024;
const SEEN: usize = 2048;

#[derive(Debug, Default)]
struct Slot {
    key: Box<[u8]>,
    hash: u64,
    stamp: u64,
    generations: [u16; 2],
    plan: Plan,
}

/// The cache. Slot 0 is a scratch plan that is not remembered.
#[derive(Debug)]
pub struct Cache {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hand: usize,
    last: u32,
    every: u64,
    generations: Vec<u64>,
    seen: Vec<u32>,
    hasher: FixedState,
}

/// The parts of a subject or filter that generations are kept for: one token, two tokens.
fn beginnings(subject: &[u8]) -> [Option<&[u8]>; 2] {
    match memchr::memchr(b'.', subject) {
        None => [Some(subject), None],
        Some(first) => {
            let rest = &subject[first + 1..];
            let second = memchr::memchr(b'.', rest).unwrap_or(rest.len());
            let two = (second > 0).then(|| &subject[..first + 1 + second]);
            [Some(&subject[..first]), two]
        }
    }
}

impl Cache {
    /// An empty cache.
    pub fn new(seed: u64) -> Self {
        Cache {
            slots: vec![Slot::default()],
            free: Vec::new(),
            index: HashTable::new(),
            hand: 0,
            last: 0,
            every: 0,
            generations: vec![0; GENERATIONS + 1],
            seen: vec![0; SEEN],
            hasher: FixedState::with_seed(seed),
        }
    }

    /// The hash of a key.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Plans that are remembered, with the local subscriptions of each.
    pub fn fanouts(&self) -> impl Iterator<Item = usize> + '_ {
        self.index.iter().map(|&slot| {
            let plan = self.plan(slot);
            plan.plain.len() + plan.groups.iter().map(|g| g.local.len()).sum::<usize>()
        })
    }

    /// The plan in a slot.
    #[inline]
    pub fn plan(&self, slot: u32) -> &Plan {
        &self.slots[slot as usize].plan
    }

    /// The plan in a slot, to be filled.
    pub fn plan_mut(&mut self, slot: u32) -> &mut Plan {
        &mut self.slots[slot as usize].plan
    }

    #[inline]
    fn stamp(&self, generations: [u16; 2]) -> u64 {
        self.every
            + self.generations[generations[0] as usize]
            + self.generations[generations[1] as usize]
    }

    fn generation_of(&self, beginning: Option<&[u8]>) -> u16 {
        // The last generation is never advanced: it stands for beginnings that do not exist.
        beginning.map_or(GENERATIONS as u16, |b| (self.hash(b) % GENERATIONS as u64) as u16)
    }

    /// The slot asked for last, if its plan is current and that of `subject`.
    #[inline]
    pub fn again(&self, subject: &[u8]) -> Option<u32> {
        let found = &self.slots[self.last as usize];
        if self.last == 0 || found.stamp != self.stamp(found.generations) {
            return None;
        }
        let same = match subject.strip_prefix(&*found.key) {
            Some(rest) if found.key.ends_with(b".") => {
                !rest.is_empty() && memchr::memchr(b'.', rest).is_none()
            }
            Some(rest) => rest.is_empty(),
            None => false,
        };
        same.then_some(self.last)
    }

    /// The slot with a current plan for `key`.
    #[inline]
    pub fn get(&mut self, hash: u64, key: &[u8]) -> Option<u32> {
        let slot = *self.index.find(hash, |&id| *self.slots[id as usize].key == *key)?;
        let found = &self.slots[slot as usize];
        if found.stamp != self.stamp(found.generations) {
            return None;
        }
        self.last = slot;
        Some(slot)
    }

    /// Remembers the scratch plan for `key`, if the key was asked for before, and returns its slot.
    pub fn remember(&mut self, hash: u64, key: &[u8]) -> Option<u32> {
        let known = self.index.find(hash, |&id| *self.slots[id as usize].key == *key).copied();
        let slot = match known {
            Some(slot) => slot,
            None => {
                let tag = (hash >> 32) as u32 | 1;
                let seen = &mut self.seen[hash as usize % SEEN];
                if *seen != tag {
                    *seen = tag;
                    return None;
                }
                self.make_slot(hash, key)
            }
        };
        let stamp = self.stamp(self.slots[slot as usize].generations);
        let plan = std::mem::take(&mut self.slots[0].plan);
        let found = &mut self.slots[slot as usize];
        found.stamp = stamp;
        found.plan = plan;
        Some(slot)
    }

    fn make_slot(&mut self, hash: u64, key: &[u8]) -> u32 {
        let [one, two] = beginnings(key);
        let generations = [self.generation_of(one), self.generation_of(two)];
        let slot = self.free_slot();
        let plan = Plan::default();
        self.slots[slot as usize] = Slot { key: key.into(), hash, stamp: 0, generations, plan };
        let slots = &self.slots;
        self.index.insert_unique(hash, slot, |&id| slots[id as usize].hash);
        slot
    }

    fn free_slot(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        if self.slots.len() <= PLANS_MAX {
            self.slots.push(Slot::default());
            return (self.slots.len() - 1) as u32;
        }
        self.hand = self.hand % PLANS_MAX + 1;
        let slot = self.hand as u32;
        self.drop_slot(slot);
        self.free.pop().unwrap_or(slot)
    }

    fn drop_slot(&mut self, slot: u32) {
        let hash = self.slots[slot as usize].hash;
        if let Ok(found) = self.index.find_entry(hash, |&id| id == slot) {
            found.remove();
        }
        self.slots[slot as usize] = Slot::default();
        self.free.push(slot);
    }

    fn drop_key(&mut self, key: &[u8]) {
        let hash = self.hash(key);
        let slot = self.index.find(hash, |&id| *self.slots[id as usize].key == *key).copied();
        if let Some(slot) = slot {
            self.drop_slot(slot);
        }
    }

    /// Forgets every plan that a change of `filter` can concern.
    pub fn invalidate(&mut self, filter: &[u8]) {
        let mut at = 0;
        for (literals, token) in filter.split(|&b| b == b'.').enumerate() {
            if token == b"*" || token == b">" {
                match literals {
                    0 => self.every += 1,
                    n => {
                        let beginning = beginnings(&filter[..at - 1])[n.min(2) - 1];
                        let generation = self.generation_of(beginning);
                        self.generations[generation as usize] += 1;
                    }
                }
                return;
            }
            at += token.len() + 1;
        }
        self.drop_key(filter);
        if let Some(dot) = memchr::memrchr(b'.', filter) {
            self.drop_key(&filter[..=dot]);
        }
    }
}
