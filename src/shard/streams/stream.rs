//! One stream on its shard: configuration, gate, index, consumers.

use corelane_storage::index::{IndexConfig, StreamIndex, SubjectId};

use crate::api::types::{StorageType, StreamConfig};
use crate::shard::streams::memory::MemoryStore;
use crate::stream::ack::AckTemplate;
use crate::stream::admission::{Admission, StreamView, SubjectState};
use crate::stream::retention::Retention;
use crate::types::{StreamId, Timestamp};

/// A stream with all that belongs to it.
pub struct ShardStream {
    /// Its id.
    pub id: StreamId,
    /// Its configuration, normalised.
    pub config: StreamConfig,
    /// When it was created.
    pub created: Timestamp,
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
    pub last_time: Timestamp,
    /// The time of the message `first_time.0`, if known.
    pub first_time: (u64, Timestamp),
    /// Times of some messages, by sequence, as searches by time came upon them.
    pub times: Vec<(u64, i64)>,
    /// Its consumers.
    pub consumers: crate::shard::consumers::Consumers,
    /// When the first message may have reached its age, as the shard's timers have it.
    pub age_due: Option<Timestamp>,
    /// It stands in the shard's list of streams to be served.
    pub active: bool,
    /// Removal was decided: nothing more is captured.
    pub removing: bool,
    /// What limits still have to remove.
    pub eviction: crate::shard::apply::limits::Eviction,
    /// What checkpoints have of it.
    pub stored: crate::shard::checkpoint::Stored,
}

impl ShardStream {
    /// A new, empty stream.
    pub fn new(id: StreamId, config: StreamConfig, created: Timestamp, seed: u64) -> Self {
        let index = StreamIndex::new(index_config(&config, seed));
        Self::with_index(id, config, created, index)
    }

    /// A stream whose index was recovered.
    pub fn with_index(
        id: StreamId,
        config: StreamConfig,
        created: Timestamp,
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
            last_time: Timestamp(0),
            first_time: (0, Timestamp(0)),
            times: Vec::new(),
            consumers: Default::default(),
            age_due: None,
            active: false,
            removing: false,
            eviction: Default::default(),
            stored: Default::default(),
        }
    }

    /// Follows an update of the configuration.
    pub fn update(&mut self, config: StreamConfig) {
        self.admission.update(&config);
        self.retention = Retention::new(&config);
        self.index.set_track_history(index_config(&config, 0).track_history);
        self.config = config;
        self.stored.config_changed = true;
    }

    /// Whether no sequence was ever used, and none is shown as the first.
    pub fn is_untouched(&self) -> bool {
        self.index.last_seq() == 0 && !self.first_shown
    }

    /// Whether the stream lives in memory alone.
    pub fn is_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// The committed state, as admission sees it.
    pub fn view(&self) -> View<'_> {
        View { index: &self.index, last_time: self.last_time }
    }

    /// The gate and the state it looks at.
    pub fn gate(&mut self) -> (&mut Admission, View<'_>) {
        (&mut self.admission, View { index: &self.index, last_time: self.last_time })
    }
}

/// What a subject holds.
pub fn subject_state(index: &StreamIndex, id: SubjectId) -> SubjectState {
    index
        .subjects()
        .get(id)
        .map_or_else(SubjectState::default, |e| SubjectState { last_seq: e.last, count: e.count })
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

/// The committed state of a stream.
pub struct View<'a> {
    index: &'a StreamIndex,
    last_time: Timestamp,
}

impl StreamView for View<'_> {
    fn first_seq(&self) -> u64 {
        self.index.first_seq()
    }

    fn last_seq(&self) -> u64 {
        self.index.last_seq()
    }

    fn last_time(&self) -> Timestamp {
        self.last_time
    }

    fn messages(&self) -> u64 {
        self.index.messages()
    }

    fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    fn subject(&self, subject: &[u8]) -> SubjectState {
        let table = self.index.subjects();
        let found = table.lookup(subject).and_then(|id| table.get(id));
        found.map_or_else(SubjectState::default, |e| SubjectState {
            last_seq: e.last,
            count: e.count,
        })
    }

    fn last_matching(&self, filter: &[u8]) -> u64 {
        let mut last = 0;
        let mut cursor = corelane_storage::index::SubjectCursor::new();
        let mut budget = u32::MAX;
        self.index.subjects().for_each_match(filter, &mut cursor, &mut budget, |_, entry| {
            last = last.max(entry.last);
        });
        last
    }

    fn nth_size(&self, subject: &[u8], nth: u64) -> u64 {
        let table = self.index.subjects();
        let Some(id) = table.lookup(subject) else { return 0 };
        let (history, _) = table.history(id);
        if let Some(kept) = history.get(nth as usize) {
            return u64::from(kept.size);
        }
        table.get(id).map_or(0, |e| u64::from(e.last_size))
    }
}
