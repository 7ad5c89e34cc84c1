//! What records do to streams, consumers and the catalogue.
//!
//! This is the one code for that, for a shard that lives and for one that replays its log. It does
//! what follows from the bytes of a record alone, and says what it did; what else that leads to
//! (freezing for a checkpoint, deliveries, timers, answers) is for the caller.
//!
//! A record about a stream or a consumer that is gone does nothing. One that makes no sense, or is
//! of a kind that is not known here, is a fault: every replica and every replay meets it, so what
//! comes behind it cannot be right. A node ends with it, and a start is given up.

use corelane_storage::index::SubjectId;
use corelane_storage::record::MessageIn;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::api::types::{ConsumerConfig, StreamConfig};
use crate::consumer::ConsumerSettings;
use crate::meta::{Catalogue, Record};
use crate::shard::groups::removal::Removal;
use crate::shard::records::{ConfigBody, kind, parse_config};
use crate::shard::state::consumers::{NewConsumer, ShardConsumer, filters_of};
use crate::shard::state::stream::ShardStream;
use crate::stream::admission::SEQ_MAX;
use crate::types::{ConsumerId, Position, StreamId, WallTime};

/// The state of a shard, as far as such records change it.
pub struct StateMut<'a> {
    /// Its streams.
    pub streams: &'a mut slab::Slab<ShardStream>,
    /// Where they are, but those that are being removed.
    pub slots: &'a mut HashMap<StreamId, usize, FixedState>,
    /// Ids of consumers below were used.
    pub next_consumer: &'a mut u64,
    /// The catalogue, where it is.
    pub catalogue: Option<&'a mut Catalogue>,
    /// Seed of hashes.
    pub seed: u64,
}

/// What a record did.
pub enum Applied {
    /// Nothing: it is about something that went away.
    Nothing,
    /// There is a new stream in this slot.
    StreamCreated(usize),
    /// The stream in this slot has another configuration.
    StreamUpdated(usize),
    /// The stream in this slot is found no more, and what it holds is to go.
    StreamRemoved(usize),
    /// The catalogue has changed by this.
    Catalogue(Box<Record>),
    /// Messages of the stream in this slot are to be removed before the next record is applied.
    Removal(usize, Removal),
    /// There is a new consumer. It has not joined the others of its stream.
    ConsumerCreated {
        /// The stream's slot.
        slot: usize,
        /// The consumer's.
        at: usize,
    },
    /// A consumer has another configuration.
    ConsumerUpdated {
        /// The stream's slot.
        slot: usize,
        /// The consumer's.
        at: usize,
        /// What it was.
        before: Box<ConsumerConfig>,
    },
    /// A consumer's ledger has changed.
    ConsumerProgress {
        /// The stream's slot.
        slot: usize,
        /// The consumer's.
        at: usize,
    },
    /// A consumer was taken out.
    ConsumerRemoved {
        /// The stream's slot.
        slot: usize,
        /// The consumer.
        gone: Box<ShardConsumer>,
    },
}

/// A message that was stored.
#[derive(Clone, Copy, Debug)]
pub struct StoredMessage {
    /// The stream's slot.
    pub slot: usize,
    /// Its sequence.
    pub seq: u64,
    /// Its subject.
    pub subject: SubjectId,
    /// Bytes that it counts for.
    pub size: u32,
    /// It is the only one of its stream.
    pub is_only: bool,
    limited: bool,
}

impl StoredMessage {
    /// What is to be removed for it before the next record is applied.
    pub fn removal(&self) -> Option<Removal> {
        self.limited.then_some(Removal::Limits(self.subject))
    }
}

impl StateMut<'_> {
    /// Stores a message whose record lies at `position`. `slot` is that of its stream, if the
    /// caller knows it. `None` if the stream is gone.
    // Always inlined: see `RecordView::message`.
    #[inline(always)]
    pub fn message(
        &mut self,
        slot: Option<usize>,
        m: &MessageIn<'_>,
        position: Position,
    ) -> Result<Option<StoredMessage>, String> {
        let Some(slot) = slot.or_else(|| self.slots.get(&m.stream).copied()) else {
            return Ok(None);
        };
        let stream = &mut self.streams[slot];
        debug_assert_eq!(stream.id, m.stream);
        let last = stream.index.last_seq();
        if m.seq <= last || m.seq > SEQ_MAX {
            return Err(out_of_order(m, last));
        }
        let (subject, size) = stream.append(m, position);
        let is_only = stream.index.messages() == 1;
        let limited = stream.retention.is_limited();
        Ok(Some(StoredMessage { slot, seq: m.seq, subject, size, is_only, limited }))
    }

    /// Applies a record other than a message; `id` and `body` are its own.
    pub fn apply(
        &mut self,
        record_kind: u16,
        stream: StreamId,
        id: u64,
        body: &[u8],
    ) -> Result<Applied, String> {
        let fault =
            |why: String| format!("record of kind {record_kind} for stream {}: {why}", stream.0);
        self.change(record_kind, stream, id, body).map_err(fault)
    }

    fn change(
        &mut self,
        record_kind: u16,
        stream: StreamId,
        id: u64,
        body: &[u8],
    ) -> Result<Applied, String> {
        match record_kind {
            kind::STREAM => return self.stream(stream, body),
            kind::CATALOGUE => return self.catalogue(body),
            known if kind::is_of_stream(known) => {}
            _ => return Err("this release does not know that kind".into()),
        }
        let Some(&slot) = self.slots.get(&stream) else {
            if record_kind == kind::CONSUMER {
                self.use_consumer_id(id);
            }
            return Ok(Applied::Nothing);
        };
        match record_kind {
            kind::CONSUMER_DELTA => self.delta(slot, ConsumerId(id), body),
            kind::CONSUMER => self.consumer(slot, ConsumerId(id), body),
            kind::CONSUMER_REMOVED => Ok(self.consumer_removed(slot, ConsumerId(id))),
            kind::STREAM_REMOVED => {
                self.slots.remove(&stream);
                self.streams[slot].removing = true;
                Ok(Applied::StreamRemoved(slot))
            }
            _ => {
                let removal = Removal::of_record(&mut self.streams[slot], record_kind, id, body)?;
                Ok(removal.map_or(Applied::Nothing, |removal| Applied::Removal(slot, removal)))
            }
        }
    }

    fn stream(&mut self, id: StreamId, body: &[u8]) -> Result<Applied, String> {
        let body = ConfigBody::decode(body).ok_or("too short")?;
        let config: StreamConfig = parse_config(body.json, "StreamConfig")?;
        if let Some(&slot) = self.slots.get(&id) {
            self.streams[slot].update(config);
            return Ok(Applied::StreamUpdated(slot));
        }
        let stream = ShardStream::new(id, config, WallTime(body.created), self.seed);
        let slot = self.streams.insert(stream);
        self.slots.insert(id, slot);
        Ok(Applied::StreamCreated(slot))
    }

    fn catalogue(&mut self, body: &[u8]) -> Result<Applied, String> {
        let record = Record::decode(body).map_err(|why| format!("{why:?}"))?;
        let Some(catalogue) = &mut self.catalogue else { return Ok(Applied::Nothing) };
        catalogue.apply(&record);
        Ok(Applied::Catalogue(Box::new(record)))
    }

    fn use_consumer_id(&mut self, id: u64) {
        *self.next_consumer = (*self.next_consumer).max(id.saturating_add(1));
    }

    fn consumer(&mut self, slot: usize, id: ConsumerId, body: &[u8]) -> Result<Applied, String> {
        self.use_consumer_id(id.0);
        let body = ConfigBody::decode(body).ok_or("too short")?;
        let config: ConsumerConfig = parse_config(body.json, "ConsumerConfig")?;
        let name =
            if config.name.is_empty() { config.durable_name.clone() } else { config.name.clone() };
        let ShardStream { config: of, consumers, .. } = &mut self.streams[slot];
        if let Some(&at) = consumers.by_id.get(&id) {
            let c = &mut consumers.slab[at];
            c.ledger.configure(ConsumerSettings::of(of, &name, &config));
            c.filter = filters_of(&config);
            c.checkpointed.changed = true;
            let before = Box::new(std::mem::replace(&mut c.config, config));
            return Ok(Applied::ConsumerUpdated { slot, at, before });
        }
        let (created, start) = (WallTime(body.created), body.start.to_vec());
        let consumer = NewConsumer { id, name, config, created, start };
        let mut consumer =
            ShardConsumer::new(of, consumer).map_err(|why| format!("consumer {}: {why}", id.0))?;
        consumer.checkpointed.changed = true;
        let at = consumers.insert(consumer);
        Ok(Applied::ConsumerCreated { slot, at })
    }

    fn delta(&mut self, slot: usize, id: ConsumerId, body: &[u8]) -> Result<Applied, String> {
        let consumers = &mut self.streams[slot].consumers;
        let Some(&at) = consumers.by_id.get(&id) else { return Ok(Applied::Nothing) };
        let c = &mut consumers.slab[at];
        c.ledger.apply(body).map_err(|why| format!("consumer {}: {why}", id.0))?;
        c.checkpointed.changed = true;
        Ok(Applied::ConsumerProgress { slot, at })
    }

    fn consumer_removed(&mut self, slot: usize, id: ConsumerId) -> Applied {
        let consumers = &mut self.streams[slot].consumers;
        match consumers.by_id.get(&id) {
            Some(&at) => {
                let gone = Box::new(consumers.remove(at));
                Applied::ConsumerRemoved { slot, gone }
            }
            None => Applied::Nothing,
        }
    }
}

#[cold]
fn out_of_order(m: &MessageIn<'_>, last: u64) -> String {
    format!("message {} of stream {}: it comes behind message {last}", m.seq, m.stream.0)
}
