//! A naive model, a disk of pages, and the two of them beside an index.

use crate::index::*;
use crate::types::{Position, SegmentId};
use std::collections::{BTreeMap, BTreeSet};

/// A small generator of numbers (splitmix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The tests' own matcher.
pub fn model_matches(filter: &str, subject: &str) -> bool {
    let f: Vec<&str> = filter.split('.').collect();
    let s: Vec<&str> = subject.split('.').collect();
    fn go(f: &[&str], s: &[&str]) -> bool {
        match (f, s) {
            ([], []) => true,
            ([">"], rest) => !rest.is_empty(),
            (["*", f @ ..], [_, s @ ..]) => go(f, s),
            ([a, f @ ..], [b, s @ ..]) => a == b && go(f, s),
            _ => false,
        }
    }
    go(&f, &s)
}

pub fn any_matches(filters: &[String], subject: &str) -> bool {
    filters.is_empty() || filters.iter().any(|f| model_matches(f, subject))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub subject: String,
    pub size: u32,
    pub position: Position,
}

/// What a stream is, naively.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub live: BTreeMap<u64, Message>,
    pub first: u64,
    pub last: u64,
}

impl Model {
    fn after_removal(&mut self) {
        self.first = self.live.keys().next().copied().unwrap_or(self.last + 1);
    }

    pub fn count(&self, filters: &[String], from: u64) -> u64 {
        let live = self.live.range(from..);
        live.filter(|(_, m)| any_matches(filters, &m.subject)).count() as u64
    }

    pub fn last_matching(&self, filters: &[String]) -> Option<u64> {
        let mut live = self.live.iter().rev();
        live.find(|(_, m)| any_matches(filters, &m.subject)).map(|(&seq, _)| seq)
    }

    pub fn totals(&self) -> BTreeMap<String, u64> {
        let mut totals = BTreeMap::new();
        for message in self.live.values() {
            *totals.entry(message.subject.clone()).or_insert(0) += 1;
        }
        totals
    }
}

/// What is logged and replayed.
#[derive(Clone, Debug)]
pub enum Op {
    Append(u64, Message),
    Remove(u64),
    RemoveLastOf(String),
    RemoveFirst,
    RemoveMatching(Vec<String>, u64, u64),
    Relocate(u64, Position, Position),
    SkipTo(u64),
    TrackHistory(bool),
}

/// An index, its model, and a disk that holds its pages.
pub struct Pair {
    pub index: StreamIndex,
    pub model: Model,
    pub config: IndexConfig,
    pub disk: BTreeMap<Position, Vec<u8>>,
    pub root: Option<Location>,
    /// Since the freeze of the last complete checkpoint.
    pub log: Vec<Op>,
    /// Since the freeze of the checkpoint under way.
    pub log_frozen: Option<usize>,
    dead: Vec<Location>,
    moved: Vec<Position>,
    next_page: u32,
    pub loads: u64,
    pub copies: u64,
}

impl Pair {
    pub fn new(config: IndexConfig) -> Pair {
        let first = config.first_seq;
        Pair {
            index: StreamIndex::new(config),
            model: Model { live: BTreeMap::new(), first, last: first - 1 },
            config,
            disk: BTreeMap::new(),
            root: None,
            log: Vec::new(),
            log_frozen: None,
            dead: Vec::new(),
            moved: Vec::new(),
            next_page: 0,
            loads: 0,
            copies: 0,
        }
    }

    pub fn load(&mut self, key: PageKey) {
        let location = self.index.location(key).expect("a page that is needed is stored");
        let bytes = &self.disk[&location.position];
        assert_eq!(bytes.len(), location.len as usize);
        self.index.load_page(key, location.position, bytes).expect("a stored page loads");
        self.loads += 1;
    }

    fn removed(&mut self, ask: impl Fn(&mut StreamIndex) -> Removed) -> Option<RemovedMessage> {
        loop {
            match ask(&mut self.index) {
                Removed::Done(message) => return Some(message),
                Removed::NotThere => return None,
                Removed::NeedPage(key) => self.load(key),
            }
        }
    }

    fn check_removed(&mut self, want: Option<u64>, got: Option<RemovedMessage>) {
        let message = want.and_then(|seq| self.model.live.remove(&seq));
        assert_eq!(want.filter(|_| message.is_some()), got.map(|r| r.seq));
        if let (Some(message), Some(got)) = (message, got) {
            assert_eq!((message.size, message.position.segment), (got.size, got.segment));
            self.model.after_removal();
        }
    }

    /// Does `op` to the index and to the model, and logs it.
    pub fn apply(&mut self, op: Op) {
        self.apply_unlogged(&op);
        self.log.push(op);
    }

    fn apply_unlogged(&mut self, op: &Op) {
        match op {
            Op::Append(seq, m) => {
                self.index.append(*seq, m.position, m.size, m.subject.as_bytes());
                if self.model.live.is_empty() {
                    self.model.first = *seq;
                }
                self.model.last = *seq;
                self.model.live.insert(*seq, m.clone());
            }
            Op::Remove(seq) => {
                let got = self.removed(|index| index.remove(*seq));
                self.check_removed(Some(*seq), got);
            }
            Op::RemoveFirst => {
                let got = self.removed(StreamIndex::remove_first);
                self.check_removed(self.model.live.keys().next().copied(), got);
            }
            Op::RemoveLastOf(subject) => self.remove_last_of(subject),
            Op::RemoveMatching(filters, from, to) => self.remove_matching(filters, *from, *to),
            Op::Relocate(seq, from, to) => {
                let moved = loop {
                    match self.index.relocate(*seq, *from, *to) {
                        Relocated::NeedPage(key) => self.load(key),
                        Relocated::Moved => break true,
                        Relocated::NotThere => break false,
                    }
                };
                let message = self.model.live.get_mut(seq).filter(|m| m.position == *from);
                assert_eq!(moved, message.is_some());
                if let Some(message) = message {
                    message.position = *to;
                }
            }
            Op::SkipTo(seq) => {
                self.index.skip_to(*seq);
                if *seq > self.model.last + 1 {
                    self.model.first = *seq;
                    self.model.last = *seq - 1;
                }
            }
            Op::TrackHistory(track) => self.index.set_track_history(*track),
        }
    }

    fn remove_last_of(&mut self, subject: &str) {
        let want = self.model.last_matching(&[subject.to_owned()]);
        let Some(id) = self.index.subjects().lookup(subject.as_bytes()) else {
            assert_eq!(want, None);
            return;
        };
        let seq = want.expect("a subject in use has a message");
        let entry = self.index.subjects().get(id).expect("in use").clone();
        let got = if entry.last_is_exact() {
            assert_eq!(entry.last, seq);
            match self.index.remove_of(id, seq) {
                Removed::Done(message) => Some(message),
                other => panic!("the last of a subject needs no page: {other:?}"),
            }
        } else {
            self.removed(|index| index.remove_of(id, seq))
        };
        self.check_removed(want, got);
    }

    fn remove_matching(&mut self, filters: &[String], from: u64, to: u64) {
        let mut set = FilterSet::new(filters);
        let mut got = Vec::new();
        let mut at = from;
        loop {
            let mut budget = 300;
            match self.index.remove_matching(&mut set, at..to, &mut budget, |m| got.push(m)) {
                RangeRemoval::Done => break,
                RangeRemoval::NeedPage { key, resume } => {
                    self.load(key);
                    at = resume;
                }
                RangeRemoval::Budget { resume } => {
                    assert!(resume > at);
                    at = resume;
                }
            }
        }
        let range = self.model.live.range(from..to.max(from));
        let want: Vec<u64> =
            range.filter(|(_, m)| any_matches(filters, &m.subject)).map(|(&s, _)| s).collect();
        assert_eq!(want, got.iter().map(|m| m.seq).collect::<Vec<_>>());
        for message in got {
            self.check_removed(Some(message.seq), Some(message));
        }
    }

    fn place(&mut self) -> Position {
        self.next_page += 8;
        Position { segment: SegmentId(1_000_000), offset: self.next_page }
    }

    pub fn freeze(&mut self) {
        if self.index.freeze().is_some() {
            self.log_frozen = Some(self.log.len());
            self.dead = self.index.take_released();
            self.dead.extend(
                std::mem::take(&mut self.moved)
                    .into_iter()
                    .map(|position| Location { position, len: 1 }),
            );
        }
    }

    /// Writes one page of the checkpoint; true when it is complete.
    pub fn write_one(&mut self) -> bool {
        let mut bytes = Vec::new();
        self.copies += u64::from(self.index.resident().outbox > 0);
        let Some(key) = self.index.next_frozen(&mut bytes) else { return true };
        let position = self.place();
        let len = bytes.len() as u32;
        self.disk.insert(position, bytes);
        self.dead.extend(self.index.stored(key, position, len));
        if key != PageKey::HEAD {
            return false;
        }
        self.root = Some(Location { position, len });
        self.log.drain(..self.log_frozen.take().expect("frozen"));
        for dead in std::mem::take(&mut self.dead) {
            assert!(self.disk.remove(&dead.position).is_some(), "dead once only");
        }
        let kept: BTreeSet<Position> = self.index.locations().map(|(_, l)| l.position).collect();
        let moved = self.moved.iter().copied();
        let expected: BTreeSet<Position> = kept.into_iter().chain(moved).collect();
        assert_eq!(self.disk.keys().copied().collect::<BTreeSet<_>>(), expected);
        true
    }

    pub fn checkpoint(&mut self) {
        if !self.index.is_checkpointing() {
            self.freeze();
        }
        while !self.write_one() {}
    }

    /// Moves the record of some stored page.
    pub fn move_page(&mut self, pick: u64) {
        let all: Vec<_> = self.index.locations().filter(|(key, _)| *key != PageKey::HEAD).collect();
        let Some(&(key, location)) = all.get(pick as usize % all.len().max(1)) else { return };
        let to = self.place();
        assert!(!self.index.page_moved(key, to, to));
        assert!(self.index.page_moved(key, location.position, to));
        self.disk.insert(to, self.disk[&location.position].clone());
        self.moved.push(location.position);
    }

    /// Forgets the index and builds it again from the last complete checkpoint and the log.
    pub fn crash(&mut self) {
        let before = std::mem::replace(&mut self.index, StreamIndex::new(self.config));
        let ids = ids_of(&before);
        let digest = before.digest();
        let model = std::mem::take(&mut self.model);
        self.dead.clear();
        self.moved.clear();
        self.log_frozen = None;
        let first = self.config.first_seq;
        self.model = Model { live: BTreeMap::new(), first, last: first - 1 };
        if let Some(root) = self.root {
            let head = self.disk[&root.position].clone();
            self.index = StreamIndex::recover(self.config, &head).expect("a stored head");
            self.index.set_head_location(root);
            while self.index.is_recovering() {
                let pages: Vec<_> = self.index.pages_to_load().collect();
                for (key, location) in pages {
                    let bytes = self.disk[&location.position].clone();
                    self.index.load_page(key, location.position, &bytes).expect("a stored page");
                }
            }
            self.read_model();
        }
        for op in self.log.clone() {
            self.apply_unlogged(&op);
        }
        assert_eq!((self.model.first, self.model.last), (model.first, model.last));
        assert_eq!(self.model.live, model.live);
        assert_eq!(ids_of(&self.index), ids, "replay gives the same ids");
        assert_eq!(self.index.digest(), digest, "replay gives the same digest");
        // What no checkpoint refers to would be garbage now.
        let kept: BTreeSet<Position> = self.index.locations().map(|(_, l)| l.position).collect();
        self.disk.retain(|position, _| kept.contains(position));
    }

    /// The model of what the recovered index says.
    fn read_model(&mut self) {
        self.model.first = self.index.first_seq();
        self.model.last = self.index.last_seq();
        let mut seq = self.index.first_seq();
        while let Some(live) = self.index.next_live(seq) {
            let entry = self.entry(live).expect("a live message");
            let subject = self.index.subjects().get(entry.subject).expect("in use");
            let subject = String::from_utf8(subject.name().to_vec()).expect("utf-8");
            let message = Message { subject, size: entry.size, position: entry.position };
            self.model.live.insert(live, message);
            seq = live + 1;
        }
    }

    pub fn entry(&mut self, seq: u64) -> Option<Entry> {
        loop {
            match self.index.get(seq) {
                Lookup::Found(entry) => return Some(entry),
                Lookup::NeedPage(key) => self.load(key),
                Lookup::Deleted | Lookup::OutOfRange => return None,
            }
        }
    }

    /// Compares everything.
    pub fn check(&mut self) {
        let (index, model) = (&self.index, &self.model);
        assert_eq!((index.first_seq(), index.last_seq()), (model.first, model.last));
        assert_eq!(index.messages(), model.live.len() as u64);
        assert_eq!(index.bytes(), model.live.values().map(|m| u64::from(m.size)).sum::<u64>());
        let span = model.last + 1 - model.first;
        assert_eq!(index.num_deleted(), span - model.live.len() as u64);
        self.check_subjects();
        self.check_digest();
        let model = self.model.live.clone();
        let mut previous = self.model.first;
        for (seq, message) in model {
            let entry = self.entry(seq).expect("live");
            assert_eq!((entry.size, entry.position), (message.size, message.position));
            let subject = self.index.subjects().get(entry.subject).expect("in use");
            assert_eq!(subject.name(), message.subject.as_bytes());
            assert!(subject.first <= seq && seq <= subject.last);
            if seq > previous {
                assert_eq!(self.index.next_live(previous), Some(seq));
                assert_eq!(self.index.get(seq - 1), Lookup::Deleted);
            }
            previous = seq + 1;
        }
        assert_eq!(self.index.next_live(previous), None);
        assert_eq!(self.index.get(self.model.last + 1), Lookup::OutOfRange);
        assert_eq!(self.index.get(self.model.first - 1), Lookup::OutOfRange);
    }

    /// It is that of an index to which only what lives was ever appended.
    fn check_digest(&self) {
        let Some((&last, _)) =
            self.model.live.last_key_value().filter(|_| self.model.live.len() < 500)
        else {
            return;
        };
        let first_seq = self.model.first;
        let mut again = StreamIndex::new(IndexConfig { first_seq, ..self.config });
        for (&seq, m) in &self.model.live {
            again.append(seq, Position::default(), m.size, m.subject.as_bytes());
        }
        if last == self.model.last {
            assert_eq!(again.digest(), self.index.digest());
        }
    }

    fn check_subjects(&self) {
        let totals = self.model.totals();
        let table = self.index.subjects();
        assert_eq!(table.len(), totals.len());
        let mut by_subject: BTreeMap<&str, Vec<(u64, &Message)>> = BTreeMap::new();
        for (&seq, message) in &self.model.live {
            by_subject.entry(&message.subject).or_default().push((seq, message));
        }
        for (name, count) in totals {
            let id = table.lookup(name.as_bytes()).expect("a subject in use");
            let entry = table.get(id).expect("in use");
            assert_eq!(entry.count, count);
            let messages = &by_subject[name.as_str()];
            let (last, message) = messages[messages.len() - 1];
            assert!(entry.first <= messages[0].0 && last <= entry.last);
            if entry.last_is_exact() {
                let known = (entry.last, entry.last_size, entry.last_segment);
                assert_eq!(known, (last, message.size, message.position.segment));
            }
            let (history, _) = table.history(id);
            assert!(history.is_empty() || entry.last_is_exact());
            for (kept, (seq, m)) in history.iter().rev().zip(messages.iter().rev()) {
                let known = (kept.seq, kept.size, kept.segment);
                assert_eq!(known, (*seq, m.size, m.position.segment));
            }
        }
    }
}

pub fn ids_of(index: &StreamIndex) -> Vec<(SubjectId, Vec<u8>, u64)> {
    let mut ids = Vec::new();
    let mut budget = u32::MAX;
    let done =
        index.subjects().for_each_match(b">", &mut SubjectCursor::new(), &mut budget, |id, e| {
            ids.push((id, e.name().to_vec(), e.count));
        });
    assert!(done);
    assert!(ids.windows(2).all(|w| w[0].1 < w[1].1), "in the order of names");
    ids
}
