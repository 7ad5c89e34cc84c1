//! One stream on its shard: configuration, gate, index, consumers.

use corelane_storage::index::{IndexConfig, StreamIndex, SubjectCursor, SubjectId};
use corelane_storage::record::MessageIn;

use crate::api::types::{StorageType, StreamConfig};
use crate::shard::groups::GroupName;
use crate::shard::mailbox::Requester;
use crate::shard::state::checkpoint::StreamCheckpoint;
use crate::shard::state::consumers::Consumers;
use crate::shard::state::memory_store::{MemoryStore, Message};
use crate::stream::ack::AckTemplate;
use crate::stream::admission::{Admission, StreamView, stored_size};
use crate::stream::retention::Retention;
use crate::types::{Position, StreamId, Timestamp, WallTime};

/// A stream with all that belongs to it.
pub struct ShardStream {
    /// Its id.
    pub id: StreamId,
    /// Its configuration, normalised.
    pub config: StreamConfig,
    /// When it was created.
    pub created: WallTime,
    /// The first sequence is shown although none was used: it was configured, or the stream was
    /// purged.
    pub first_shown: bool,
    /// The gate of publishes.
    pub admission: Admission,
    /// What lies where.
    pub index: StreamIndex,
    /// The messages themselves, of a memory stream.
    pub memory: Option<MemoryStore>,
    /// Limits that evict.
    pub retention: Retention,
    /// Its PubAcks.
    pub ack: AckTemplate,
    /// The time of the last sequence used.
    pub last_time: WallTime,
    /// The time of the message `first_time.0`, if known.
    pub first_time: (u64, WallTime),
    /// Times of some messages, by sequence, as searches by time came upon them.
    pub times: Vec<(u64, i64)>,
    /// Its consumers.
    pub consumers: Consumers,
    /// When the first message may have reached its age, as the shard's timers have it.
    pub age_due: Option<Timestamp>,
    /// It stands in the shard's list of streams to be served.
    pub active: bool,
    /// Its removal was decided: nothing more is captured.
    pub leaving: bool,
    /// It was removed, and what it holds is to go.
    pub removing: bool,
    /// The limits were lowered, and not all that is over them is removed.
    pub enforcing: bool,
    /// What is being done about that.
    pub enforcement: Option<Enforcement>,
    /// When the log said last that something of it cannot be read.
    pub complained_at: Option<Timestamp>,
    /// What checkpoints have of it.
    pub checkpointed: StreamCheckpoint,
}

/// What is left to be enforced in one stream.
#[derive(Default)]
pub struct Enforcement {
    /// Where the search for subjects that hold too much goes on.
    pub cursor: Option<SubjectCursor>,
    /// Who waits for the limits to hold.
    pub requesters: Vec<Requester>,
    /// Records that are not applied yet.
    pub ahead: u32,
    /// The last record is on its way.
    pub closing: bool,
    /// Waits for records to be applied.
    pub parked: bool,
}

impl Enforcement {
    /// Has an update answered once the limits hold.
    pub fn answer(&mut self, requester: Requester) {
        self.requesters.push(requester);
    }
}

impl ShardStream {
    /// Takes in a message whose record lies at `position`, with the next sequence or a later one.
    /// Answers its subject and the bytes that it counts for.
    #[inline]
    pub fn append(&mut self, m: &MessageIn<'_>, position: Position) -> (SubjectId, u32) {
        let (storage, position) = match &mut self.memory {
            None => (StorageType::File, position),
            Some(memory) => {
                memory.insert(m.seq, Message::new(m.ts, m.subject, m.headers, m.payload));
                (StorageType::Memory, Position::default())
            }
        };
        let (subject, headers) = (m.subject.len(), m.headers.len());
        let size = stored_size(storage, subject, headers, m.payload.len()) as u32;
        let id = self.index.append(m.seq, position, size, m.subject);
        self.last_time = WallTime(m.ts);
        if self.index.messages() == 1 {
            self.first_time = (m.seq, self.last_time);
        }
        self.admission.apply(m.seq, self.last_time, m.headers);
        (id, size)
    }

    /// A new, empty stream.
    pub fn new(id: StreamId, config: StreamConfig, created: WallTime, seed: u64) -> Self {
        let index = StreamIndex::new(index_config(&config, seed));
        Self::with_index(id, config, created, index)
    }

    /// A stream whose index was recovered.
    pub fn with_index(
        id: StreamId,
        config: StreamConfig,
        created: WallTime,
        index: StreamIndex,
    ) -> Self {
        ShardStream {
            id,
            admission: Admission::new(&config),
            memory: (config.storage == StorageType::Memory).then(MemoryStore::default),
            retention: Retention::new(&config),
            ack: AckTemplate::new(&config.name, ""),
            first_shown: config.first_seq > 0,
            config,
            created,
            index,
            last_time: WallTime(0),
            first_time: (0, WallTime(0)),
            times: Vec::new(),
            consumers: Default::default(),
            age_due: None,
            active: false,
            leaving: false,
            removing: false,
            enforcing: false,
            enforcement: None,
            complained_at: None,
            checkpointed: Default::default(),
        }
    }

    /// Follows an update of the configuration.
    pub fn update(&mut self, config: StreamConfig) {
        self.admission.update(&config);
        let retention = Retention::new(&config);
        self.enforcing |= retention != self.retention && retention.is_limited();
        self.retention = retention;
        self.index.set_track_history(index_config(&config, 0).track_history);
        self.config = config;
        self.checkpointed.config_changed = true;
    }

    /// Whether no sequence was ever used, and none is shown as the first.
    pub fn is_untouched(&self) -> bool {
        self.index.last_seq() == 0 && !self.first_shown
    }

    /// Whether the stream lives in memory alone.
    pub fn is_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// The group that its entries belong to.
    #[inline]
    pub fn group(&self) -> GroupName {
        if self.is_memory() { GroupName::Memory } else { GroupName::File }
    }

    /// When a message of this time was stored, at the latest.
    pub fn stored_at(&self, seq: u64, at: WallTime) -> Timestamp {
        self.admission.times().stored(seq, at)
    }

    /// The committed state, as admission sees it.
    pub fn view(&self) -> View<'_> {
        View { index: &self.index, last_time: self.last_time, known: Known::default() }
    }

    /// The gate and the state it looks at, with what was looked up for the publish at hand.
    pub fn gate(&mut self, known: Known) -> (&mut Admission, View<'_>) {
        let view = View { index: &self.index, last_time: self.last_time, known };
        (&mut self.admission, view)
    }
}

/// How many messages a subject holds.
pub fn subject_count(index: &StreamIndex, id: SubjectId) -> u64 {
    index.subjects().get(id).map_or(0, |e| e.count)
}

/// The settings of a stream's index.
pub fn index_config(config: &StreamConfig, seed: u64) -> IndexConfig {
    IndexConfig {
        first_seq: config.first_seq.max(1),
        track_history: (2..=corelane_storage::index::HISTORY_MAX as i64)
            .contains(&config.max_msgs_per_subject),
        hash_seed: seed,
    }
}

/// What was looked up for one publish. It holds until the stream changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The last sequence that matches what it expects.
    pub last: Option<u64>,
    /// Which message of its subject it replaces, and the size of that.
    pub size: Option<(u64, u64)>,
    /// It has waited for all that was under way when it came.
    pub waited: bool,
}

/// The committed state of a stream.
pub struct View<'a> {
    index: &'a StreamIndex,
    last_time: WallTime,
    known: Known,
}

impl StreamView for View<'_> {
    fn first_seq(&self) -> u64 {
        self.index.first_seq()
    }

    fn last_seq(&self) -> u64 {
        self.index.last_seq()
    }

    fn last_time(&self) -> WallTime {
        self.last_time
    }

    fn messages(&self) -> u64 {
        self.index.messages()
    }

    fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    fn subject_count(&self, subject: &[u8]) -> u64 {
        self.index.subjects().lookup(subject).map_or(0, |id| subject_count(self.index, id))
    }

    fn last_matching(&self, filter: &[u8]) -> Option<u64> {
        if self.known.last.is_some() || crate::subject::has_wildcards(filter) {
            return self.known.last;
        }
        let table = self.index.subjects();
        match table.lookup(filter).and_then(|id| table.get(id)) {
            None => Some(0),
            Some(entry) => entry.last_is_exact().then_some(entry.last),
        }
    }

    fn nth_size(&self, subject: &[u8], nth: u64) -> Option<u64> {
        let table = self.index.subjects();
        let Some(id) = table.lookup(subject) else { return Some(0) };
        if let (history, true) = table.history(id) {
            return Some(
                history
                    .get(usize::try_from(nth).unwrap_or(usize::MAX))
                    .map_or(0, |kept| u64::from(kept.size)),
            );
        }
        let only = table.get(id).filter(|e| e.count == 1 && e.last_is_exact());
        let known = self.known.size.filter(|known| known.0 == nth).map(|known| known.1);
        only.map(|e| u64::from(e.last_size)).or(known)
    }
}
