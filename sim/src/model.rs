//! What clients know of streams: which message has which sequence, and what may be gone.

use std::collections::{BTreeMap, BTreeSet};

use crate::tally::{Rare, Tally};
use crate::wall::WallClock;
use crate::wire;

/// Names one body. No two publishes of different messages share it.
pub type Uid = u64;

/// The body of a message: its name, its length and bytes that follow from both.
pub fn body(uid: Uid, len: usize) -> Vec<u8> {
    let mut text = format!("{uid}:{len}:").into_bytes();
    let mut word = uid.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while text.len() < len {
        word = word.rotate_left(13).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ uid;
        text.push(b'a' + (word % 26) as u8);
    }
    text
}

/// The name in a body, if it is whole.
pub fn uid_of(bytes: &[u8]) -> Option<Uid> {
    let mut fields = bytes.splitn(3, |&b| b == b':');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<u64>().ok();
    let (uid, len) = (number()?, number()?);
    (body(uid, len as usize) == bytes).then_some(uid)
}

/// Whether a message came with the headers that it was published with, and perhaps the server's.
pub fn has_fields(p: &Publish, headers: &[u8]) -> bool {
    let own = ["Nats-Msg-Id", "Nats-Expected-Last-Sequence"];
    own.iter().all(|name| wire::header(&p.headers, name) == wire::header(headers, name))
}

/// For so long a message id is known, with some room; for less if messages live shorter.
const DEDUPE: i64 = 100_000_000_000;
/// How long the word of a new stream takes to all reactors at most, if they are held up.
const KNOWN_AFTER: i64 = 20_000_000;

/// How much later than it should a message leaves for its age, at most.
const AGED_AFTER: i64 = 1_000_000_000;

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its answer is awaited.
    Pending,
    /// It was acknowledged.
    Acked,
    /// It was refused.
    Refused,
    /// Its answer will not come: it may be stored now or soon.
    Loose,
    /// It was not there when nothing was under way any more.
    Lost,
}

/// A message that was published.
#[derive(Clone, Debug)]
pub struct Publish {
    pub stream: usize,
    /// The incarnation of the stream it was meant for.
    pub incarnation: u32,
    pub subject: String,
    pub headers: Vec<u8>,
    pub len: usize,
    /// Bytes as streams count them.
    pub size: u64,
    pub with_id: bool,
    pub fate: Fate,
    /// Where it was seen: incarnation and sequence.
    pub place: Option<(u32, u64)>,
    /// Where else: it was sent once more, and that came when its id was forgotten already.
    pub also: Vec<(u32, u64)>,
    /// It was sent more than once.
    pub sent_again: bool,
    /// The highest sequence anybody had seen when it was first sent.
    pub floor: u64,
    /// The generation of the server that acknowledged it.
    pub generation: u32,
    /// It was acknowledged as stored, not as a duplicate.
    pub fresh: bool,
    pub sent: i64,
    /// When it was first known to be stored.
    pub known: i64,
}

/// What is known of the message at a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is there, unless a limit removed it.
    Live,
    /// A removal that is under way, or was not answered, may concern it.
    Maybe,
    /// It is gone for good, since this generation.
    Gone(u32),
}

impl Publish {
    /// Bytes that it counts for in a stream: that it reached may be another one than it was meant
    /// for, made anew with another storage.
    pub fn size_in(&self, memory: bool) -> u64 {
        let overhead = match (memory, self.headers.is_empty()) {
            (true, _) => 16,
            (false, true) => 30,
            (false, false) => 34,
        };
        (self.subject.len() + self.headers.len() + self.len + overhead) as u64
    }
}

/// A sequence and the message that has it.
#[derive(Clone, Debug)]
pub struct Fact {
    pub uid: Uid,
    pub state: State,
}

/// A stream's settings, as far as the model heeds them.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub memory: bool,
    pub max_msgs: Option<u64>,
    pub max_bytes: Option<u64>,
    pub per_subject: Option<u64>,
    pub max_age: Option<i64>,
    pub discard_new: bool,
    pub direct: bool,
    pub max_consumers: Option<u64>,
    /// For so long message ids are known, if it was said.
    pub window: Option<i64>,
    /// Bytes of a message, more than any has.
    pub max_msg_size: Option<u64>,
    /// The first sequence, if that is not 1.
    pub first: u64,
}

impl Settings {
    /// For so long at least a message's id is known.
    pub fn id_window(&self) -> i64 {
        let window = self.window.or(self.max_age).unwrap_or(DEDUPE).min(DEDUPE);
        // The wall clock drifts.
        window - window / 1_000
    }
}

/// Whether something exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exists {
    No,
    Yes,
    /// A request about it is under way or was not answered.
    Maybe,
}

/// A removal of messages that is not answered.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The subject that it is for; empty for all.
    pub filter: String,
    /// Only sequences below.
    pub below: u64,
}

impl Removal {
    /// Whether it concerns a message.
    pub fn concerns(&self, seq: u64, subject: &str) -> bool {
        seq < self.below && (self.filter.is_empty() || self.filter == subject)
    }
}

/// One stream, by its name.
pub struct Stream {
    pub name: String,
    pub exists: Exists,
    pub incarnation: u32,
    pub settings: Settings,
    /// Settings of an update that is not answered, or never will be.
    pub updating: Option<Settings>,
    /// There was one: a stream that discards what is new may hold more than it takes.
    pub was_updated: bool,
    /// Settings that held since the last audit and hold no more.
    past_settings: Vec<Settings>,
    pub facts: BTreeMap<u64, Fact>,
    /// The highest sequence that a client has seen in use.
    pub floor: u64,
    /// Removals under way or never answered, by operation.
    pub removals: BTreeMap<u64, Removal>,
    /// Removals that were answered: what was published before may have gone with them.
    pub past: Vec<(i64, Removal)>,
    /// The ids of what was sent before may be forgotten: the window was shorter for a while.
    pub ids_unsure_before: i64,
    /// Publishes that may be stored without an answer.
    pub loose: BTreeSet<Uid>,
    /// When it was last created.
    pub born: i64,
    /// When it was last told that something was removed by a request, or that a consumer was.
    pub removed: i64,
    pub consumer_removed: i64,
}

impl Stream {
    /// The sequence before the first that a message may have.
    pub fn base(&self) -> u64 {
        self.settings.first.max(1) - 1
    }

    /// Whether the id of a message may be forgotten.
    fn may_forget(&self, p: &Publish, unsure_before: i64, now: i64) -> bool {
        let unsure = p.sent < unsure_before.max(self.ids_unsure_before);
        unsure || now - p.sent >= self.settings.id_window()
    }

    /// Sequences from the first on that were seen in use.
    pub fn seen(&self) -> u64 {
        self.floor.saturating_sub(self.base())
    }
}

/// All streams and publishes.
pub struct Model {
    pub streams: Vec<Stream>,
    pub publishes: BTreeMap<Uid, Publish>,
    pub generation: u32,
    pub now: i64,
    /// The wall clock was wrong before, and the node has started since.
    pub unsure_before: i64,
    /// The same, or it was set forwards more than once: ids of what was sent before may be
    /// forgotten.
    pub ids_unsure_before: i64,
    pub tally: Tally,
}

impl Model {
    /// Streams that do not exist yet.
    pub fn new(streams: usize) -> Model {
        let stream = |i: usize| Stream {
            name: format!("S{i}"),
            exists: Exists::No,
            incarnation: 0,
            settings: Settings::default(),
            updating: None,
            ids_unsure_before: 0,
            was_updated: false,
            past_settings: Vec::new(),
            facts: BTreeMap::new(),
            floor: 0,
            removals: BTreeMap::new(),
            past: Vec::new(),
            loose: BTreeSet::new(),
            born: 0,
            removed: 0,
            consumer_removed: 0,
        };
        Model {
            streams: (0..streams).map(stream).collect(),
            publishes: BTreeMap::new(),
            generation: 1,
            now: 0,
            unsure_before: 0,
            ids_unsure_before: 0,
            tally: Tally::default(),
        }
    }

    /// The stream of a name.
    pub fn stream_of(&self, name: &str) -> Option<usize> {
        self.streams.iter().position(|s| s.name == name)
    }

    /// A stream begins anew.
    pub fn reborn(&mut self, at: usize, settings: Settings) {
        let s = &mut self.streams[at];
        if s.incarnation > 0 {
            self.tally.add(Rare::StreamRecreated);
        }
        s.incarnation += 1;
        s.exists = Exists::Yes;
        s.settings = settings;
        s.born = self.now;
        self.buried(at);
        let s = &mut self.streams[at];
        s.floor = s.base();
    }

    /// Time has passed.
    pub fn at(&mut self, now: i64, wall: &WallClock) {
        self.now = now;
        self.unsure_before = wall.unsure_before;
        self.ids_unsure_before = wall.unsure_before.max(wall.leapt);
    }

    /// Whether the id of a message may be forgotten.
    pub fn may_forget(&self, p: &Publish, at: usize) -> bool {
        self.streams[at].may_forget(p, self.ids_unsure_before, self.now)
    }

    /// Whether a stream was created so shortly ago that not everybody may know of it.
    pub fn is_new(&self, at: usize) -> bool {
        self.now - self.streams[at].born < KNOWN_AFTER
    }

    /// A stream is gone with all that was in it.
    pub fn buried(&mut self, at: usize) {
        let s = &mut self.streams[at];
        s.facts.clear();
        s.removals.clear();
        s.past.clear();
        s.loose.clear();
        s.updating = None;
        s.ids_unsure_before = 0;
        s.was_updated = false;
        s.past_settings.clear();
        s.floor = 0;
    }

    /// An update was carried out, or was not.
    pub fn updated(&mut self, at: usize, done: bool) {
        let s = &mut self.streams[at];
        let Some(new) = s.updating.take() else { return };
        if new.window != s.settings.window {
            s.ids_unsure_before = self.now;
        }
        if done {
            s.was_updated = true;
            s.past_settings.push(std::mem::replace(&mut s.settings, new));
            self.tally.add(Rare::Updated);
        }
    }

    /// A client saw message `uid` at `seq`: in an acknowledgement, a delivery or a get.
    pub fn observe(&mut self, at: usize, seq: u64, uid: Uid) -> Result<(), String> {
        let s = &mut self.streams[at];
        let name = &s.name;
        let Some(p) = self.publishes.get_mut(&uid) else {
            return Err(format!("{name} seq {seq}: message {uid} was never published"));
        };
        if s.exists == Exists::No {
            return Ok(());
        }
        let here = (s.incarnation, seq);
        match p.place {
            // Delivered late, out of an earlier incarnation.
            Some((i, _)) if i < s.incarnation => return Ok(()),
            Some(place) if place != here && !p.also.contains(&here) => {
                let forgotten = s.may_forget(p, self.ids_unsure_before, self.now);
                if p.sent_again && forgotten {
                    p.also.push(here);
                } else {
                    return Err(format!("{name}: message {uid} is at {place:?} and at {here:?}"));
                }
            }
            Some(_) => {}
            None => {
                if matches!(p.fate, Fate::Refused | Fate::Lost) {
                    let fate = p.fate;
                    return Err(format!("{name} seq {seq}: message {uid} was {fate:?}, and came"));
                }
                if p.incarnation == s.incarnation && seq <= p.floor {
                    let floor = p.floor;
                    return Err(format!(
                        "{name} seq {seq}: {floor} had been seen when message {uid} was sent"
                    ));
                }
                if p.stream != at {
                    return Err(format!("{name} seq {seq}: message {uid} is of another stream"));
                }
                p.place = Some(here);
                p.known = self.now;
                if p.fate == Fate::Loose {
                    self.tally.add(Rare::UnansweredStored);
                }
            }
        }
        let subject = &p.subject;
        let past = s.past.iter().filter(|(at, _)| *at > p.sent).map(|(_, r)| r);
        let threatened = s.removals.values().chain(past).any(|r| r.concerns(seq, subject));
        let state = if threatened { State::Maybe } else { State::Live };
        s.floor = s.floor.max(seq);
        let fact = s.facts.entry(seq).or_insert(Fact { uid, state });
        if fact.uid != uid {
            let was = fact.uid;
            return Err(format!("{name} seq {seq}: was message {was}, is message {uid}"));
        }
        if p.fate == Fate::Loose {
            s.loose.remove(&uid);
        }
        Ok(())
    }

    /// A message was delivered or read: it must not be one that is gone since an earlier life of
    /// the server.
    pub fn must_not_be_gone(&self, at: usize, seq: u64, strict: bool) -> Result<(), String> {
        let s = &self.streams[at];
        match s.facts.get(&seq).map(|f| f.state) {
            Some(State::Gone(since)) if strict || since < self.generation => {
                Err(format!("{} seq {seq}: removed in generation {since}, and back", s.name))
            }
            _ => Ok(()),
        }
    }

    /// A client saw that sequences up to `seq` are in use.
    pub fn saw_last(&mut self, at: usize, seq: u64) {
        let floor = &mut self.streams[at].floor;
        *floor = (*floor).max(seq);
    }

    /// A removal was sent.
    pub fn removal_begins(&mut self, at: usize, op: u64, removal: Removal) -> Vec<u64> {
        let s = &mut self.streams[at];
        let mut known = Vec::new();
        for (&seq, fact) in &mut s.facts {
            let p = &self.publishes[&fact.uid];
            if !matches!(fact.state, State::Gone(_)) && removal.concerns(seq, &p.subject) {
                fact.state = State::Maybe;
                known.push(seq);
            }
        }
        s.removals.insert(op, removal);
        known
    }

    /// A removal was carried out: what was known of when it was sent is gone.
    pub fn removal_done(&mut self, at: usize, op: u64, known: &[u64]) {
        let s = &mut self.streams[at];
        s.removed = self.now;
        if let Some(removal) = s.removals.remove(&op) {
            s.past.push((self.now, removal));
        }
        for seq in known {
            if let Some(fact) = s.facts.get_mut(seq)
                && fact.state == State::Maybe
            {
                fact.state = State::Gone(self.generation);
            }
        }
    }

    /// Whether a message may be as old as this.
    fn is_older(&self, p: &Publish, age: i64) -> bool {
        p.sent < self.unsure_before || self.now - p.sent >= age
    }

    /// Whether the limits of a stream can have removed the message at `seq`.
    pub fn may_be_evicted(&self, at: usize, seq: u64) -> bool {
        let s = &self.streams[at];
        let Some(p) = s.facts.get(&seq).map(|f| &self.publishes[&f.uid]) else { return true };
        let above = s.facts.range(seq + 1..).map(|(_, f)| f.uid);
        let above: Vec<&Publish> =
            above.chain(s.loose.iter().copied()).map(|uid| &self.publishes[&uid]).collect();
        let same = above.iter().filter(|o| o.subject == p.subject).count() as u64;
        let bytes: u64 = above.iter().map(|o| o.size).sum();
        let evicts = |set: &Settings| {
            set.max_age.is_some_and(|age| self.is_older(p, age))
                || set.per_subject.is_some_and(|max| same >= max)
                || !set.discard_new
                    && (set.max_msgs.is_some_and(|max| above.len() as u64 >= max)
                        || set.max_bytes.is_some_and(|max| bytes + p.size > max))
        };
        evicts(&s.settings) || s.past_settings.iter().chain(&s.updating).any(evicts)
    }

    /// Whether a stream that discards what is new may have had no room for a message.
    pub fn may_be_full(&self, uid: Uid) -> bool {
        let p = &self.publishes[&uid];
        let s = &self.streams[p.stream];
        if s.removed >= p.sent {
            return true;
        }
        let there = s.facts.values().filter(|f| !matches!(f.state, State::Gone(_)));
        let open = self.publishes.values().filter(|o| {
            let there = (o.stream, o.incarnation) == (p.stream, p.incarnation);
            there && o.place.is_none() && matches!(o.fate, Fate::Pending | Fate::Loose)
        });
        let all = there.map(|f| &self.publishes[&f.uid]).chain(open);
        let (count, bytes) = all.fold((0, 0), |(count, bytes), o| (count + 1, bytes + o.size));
        let refuses = |set: &Settings| {
            set.discard_new
                && (set.max_msgs.is_some_and(|max| count >= max)
                    || set.max_bytes.is_some_and(|max| bytes + p.size > max))
        };
        refuses(&s.settings) || s.past_settings.iter().chain(&s.updating).any(refuses)
    }

    /// Compares what a walk over a stream found, at rest, with what is known.
    pub fn audit(
        &mut self,
        at: usize,
        found: &BTreeMap<u64, Uid>,
        first: u64,
        last: u64,
        bytes: u64,
    ) -> Result<(), String> {
        for (&seq, &uid) in found {
            self.observe(at, seq, uid)?;
            self.must_not_be_gone(at, seq, true)?;
            let (known, age) = (self.publishes[&uid].known, self.streams[at].settings.max_age);
            let known = known.max(self.unsure_before);
            if age.is_some_and(|age| known + age + AGED_AFTER < self.now) {
                let name = &self.streams[at].name;
                return Err(format!("{name} seq {seq}: is there, and older than allowed"));
            }
        }
        let name = self.streams[at].name.clone();
        if last < self.streams[at].floor {
            let floor = self.streams[at].floor;
            return Err(format!("{name}: sequence {floor} had been seen, the last is {last}"));
        }
        let missing: Vec<u64> = {
            let facts = self.streams[at].facts.iter();
            let there = facts.filter(|(_, f)| !matches!(f.state, State::Gone(_)));
            there.map(|(&seq, _)| seq).filter(|seq| !found.contains_key(seq)).collect()
        };
        for seq in missing {
            let state = self.streams[at].facts[&seq].state;
            if state == State::Live && !self.may_be_evicted(at, seq) {
                let uid = self.streams[at].facts[&seq].uid;
                let p = &self.publishes[&uid];
                return Err(format!("{name} seq {seq}: message {uid} is lost: {p:?}"));
            }
            self.tally.add(Rare::Evicted);
        }
        self.check_sums(at, found, first, last, bytes)?;
        self.settle(at, found);
        Ok(())
    }

    fn check_sums(
        &self,
        at: usize,
        found: &BTreeMap<u64, Uid>,
        first: u64,
        last: u64,
        bytes: u64,
    ) -> Result<(), String> {
        let s = &self.streams[at];
        let name = &s.name;
        let sum: u64 =
            found.values().map(|uid| self.publishes[uid].size_in(s.settings.memory)).sum();
        if sum != bytes {
            return Err(format!("{name}: {bytes} bytes told, {sum} found"));
        }
        let lowest = found.keys().next().copied().unwrap_or(last + 1);
        if first != lowest && last > 0 {
            return Err(format!("{name}: first sequence {first} told, {lowest} found"));
        }
        let set = &s.settings;
        let may_be_over = set.discard_new && s.was_updated;
        if !may_be_over && set.max_msgs.is_some_and(|max| found.len() as u64 > max) {
            return Err(format!("{name}: {} messages, more than allowed", found.len()));
        }
        if !may_be_over && set.max_bytes.is_some_and(|max| sum > max) {
            return Err(format!("{name}: {sum} bytes, more than allowed"));
        }
        let mut subjects: BTreeMap<&str, u64> = BTreeMap::new();
        for uid in found.values() {
            *subjects.entry(&self.publishes[uid].subject).or_default() += 1;
        }
        let most = subjects.values().copied().max().unwrap_or(0);
        if set.per_subject.is_some_and(|max| most > max) {
            return Err(format!("{name}: {most} messages of one subject, more than allowed"));
        }
        Ok(())
    }

    /// At rest nothing is open: what was not found is gone, what was found is there.
    fn settle(&mut self, at: usize, found: &BTreeMap<u64, Uid>) {
        let generation = self.generation;
        let s = &mut self.streams[at];
        for (seq, fact) in &mut s.facts {
            fact.state = match fact.state {
                State::Gone(since) => State::Gone(since),
                _ if found.contains_key(seq) => State::Live,
                _ => State::Gone(generation),
            };
        }
        s.removals.clear();
        s.past.clear();
        s.past_settings.clear();
        for uid in std::mem::take(&mut s.loose) {
            if let Some(p) = self.publishes.get_mut(&uid)
                && p.place.is_none()
            {
                p.fate = Fate::Lost;
                self.tally.add(Rare::UnansweredLost);
            }
        }
    }
}
