//! Loading a checkpoint: the root, and of each stream what has to be in memory.

use corelane_storage::device::Blocking;
use corelane_storage::index::{Location, PageKey, StreamIndex};
use corelane_storage::log::ReadError;
use corelane_storage::record::{MetaIn, RecordIn};
use corelane_storage::recovery::Recovery;
use corelane_storage::superblock::CheckpointRef;

use crate::api::types::{ConsumerConfig, StreamConfig};
use crate::consumer::{ConsumerSettings, Ledger};
use crate::meta::Record;
use crate::shard::records::checkpoint::{ConsumerState, Root, StreamState};
use crate::shard::records::{ConfigBody, Fields, kind, parse_config};
use crate::shard::recovery::Replay;
use crate::shard::state::checkpoint::Loaded;
use crate::shard::state::consumers::{ConsumerCheckpoint, NewConsumer, ShardConsumer};
use crate::shard::state::stream::{ShardStream, index_config};
use crate::types::{ConsumerId, StreamId, WallTime};

/// Why a page was not brought.
pub(in crate::shard) enum NotBrought {
    /// The device did not read it.
    Device(String),
    /// Something else lies in its place.
    Damaged(String),
}

/// Reads one record of a checkpoint.
fn read<D: Blocking, T>(
    dev: &mut D,
    recovery: &mut Recovery,
    location: Location,
    kind: u16,
    take: impl FnOnce(&MetaIn<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let (segment, offset) = (location.position.segment.0, location.position.offset);
    let failed = |what: &dyn std::fmt::Display| {
        format!("checkpoint: record of kind {kind} in segment {segment} at {offset}: {what}")
    };
    let view = recovery.read(dev, location.position, location.len).map_err(|e| failed(&e))?;
    match view.content() {
        RecordIn::Meta(m) if m.kind == kind => take(&m).map_err(|e| failed(&e)),
        _ => Err(failed(&"something else lies there")),
    }
}

impl Replay<'_> {
    /// Loads the checkpoint that replay begins behind.
    pub(in crate::shard) fn load<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
        checkpoint: CheckpointRef,
    ) -> Result<(), String> {
        let at = Location { position: checkpoint.root, len: checkpoint.root_len };
        let needed = |why| {
            format!("{why}; nothing can be served without this record, and nothing was deleted")
        };
        let root = read(dev, recovery, at, kind::ROOT, |m| {
            Root::decode(m.body).ok_or_else(|| "not a root of this version".into())
        });
        let root = root.map_err(needed)?;
        self.format_1 |= root.version == 1;
        for g in &root.groups {
            self.last_index.insert(g.group, g.index);
        }
        self.next_consumer = root.next_consumer;
        self.live = root.live.iter().map(|&(s, live)| (s, live as i64)).collect();
        *self.live.entry(at.position.segment).or_default() += i64::from(at.len);
        for &page in &root.catalogue {
            self.load_catalogue(dev, recovery, page).map_err(needed)?;
        }
        for &(id, location) in &root.streams {
            self.load_stream(dev, recovery, id, location).map_err(|why| {
                format!("stream {} cannot be read; nothing was deleted: {why}", id.0)
            })?;
        }
        self.loaded = Some(Loaded {
            id: checkpoint.id,
            root: at,
            catalogue: root.catalogue,
            catalogue_upto: root.catalogue_upto,
        });
        Ok(())
    }

    fn load_catalogue<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
        page: Location,
    ) -> Result<(), String> {
        read(dev, recovery, page, kind::CATALOGUE_STATE, |m| {
            let mut fields = Fields(m.body);
            while !fields.0.is_empty() {
                let body = fields.counted().ok_or("too short")?;
                let record = Record::decode(body).map_err(|e| format!("{e:?}"))?;
                self.catalogue.apply(&record);
            }
            Ok(())
        })
    }

    fn load_stream<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
        id: StreamId,
        location: Location,
    ) -> Result<(), String> {
        let (state, sum) = read(dev, recovery, location, kind::STREAM_STATE, |m| {
            let state = StreamState::decode(m.body).ok_or("not a state of this version")?;
            Ok((state, xxhash_rust::xxh3::xxh3_64(m.body)))
        })?;
        let (created, config) = read(dev, recovery, state.config, kind::STREAM_CONFIG, |m| {
            let body = ConfigBody::decode(m.body).ok_or("too short")?;
            let config: StreamConfig = parse_config(body.json, "StreamConfig")?;
            Ok((WallTime(body.created), config))
        })?;
        let index = load_index(dev, recovery, &config, self.options.seed, state.head)?;
        let mut of_stream = ShardStream::with_index(id, config, created, index);
        of_stream.first_shown |= state.first_shown;
        of_stream.enforcing = state.enforcing;
        of_stream.last_time = WallTime(state.last_time);
        of_stream.first_time = (state.first_time.0, WallTime(state.first_time.1));
        of_stream.admission.restore_last_id(&state.last_id);
        for page in &state.dedupe {
            let restored = read(dev, recovery, page.location, kind::DEDUPE, |m| {
                match of_stream.admission.dedupe_mut().restore_page(m.body) {
                    true => Ok(()),
                    false => Err("the duplicate window is damaged".into()),
                }
            });
            if let Err(why) = restored {
                self.lines.push(format!(
                    "stream '{}': some message ids of its duplicate window are not known any \
                     more: {why}",
                    of_stream.config.name
                ));
            }
        }
        of_stream.checkpointed.config = Some(state.config);
        of_stream.checkpointed.state = Some((location, sum));
        of_stream.checkpointed.dedupe = state.dedupe.iter().map(|&p| (p.number, p)).collect();
        let slot = self.streams.insert(of_stream);
        if state.buried {
            self.streams[slot].removing = true;
            self.buried.push(slot);
        } else {
            self.slots.insert(id, slot);
        }
        if state.buried {
            // Nothing names them any more.
            self.orphans.extend(state.consumers.iter().map(|&(_, location)| location));
            return Ok(());
        }
        for (consumer, l) in state.consumers {
            if let Err(why) = self.load_consumer(dev, recovery, slot, consumer, l) {
                self.lines.push(format!(
                    "stream '{}': consumer {} cannot be read and is not served; it was not \
                     deleted: {why}",
                    self.streams[slot].config.name, consumer.0
                ));
                self.unreadable.consumers.insert((id, consumer), l);
            }
        }
        Ok(())
    }

    fn load_consumer<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
        slot: usize,
        id: ConsumerId,
        location: Location,
    ) -> Result<(), String> {
        let stream = self.streams[slot].id;
        let (mut loaded, applied) = read(dev, recovery, location, kind::CONSUMER_STATE, |m| {
            let state = ConsumerState::decode(m.body).ok_or("not a state of this version")?;
            let config: ConsumerConfig = parse_config(state.json, "ConsumerConfig")?;
            let name = if config.name.is_empty() { &config.durable_name } else { &config.name };
            let name = name.clone();
            let of = &self.streams[slot].config;
            let settings = ConsumerSettings::of(of, &name, &config);
            let (created, start) = (WallTime(state.created), Vec::new());
            let consumer = NewConsumer { id, name, config, created, start };
            let mut loaded = ShardConsumer::new(of, consumer).map_err(|e| format!("{e:?}"))?;
            loaded.ledger =
                Ledger::decode(settings, state.snapshot).map_err(|e| format!("{e:?}"))?;
            Ok((loaded, state.applied_below))
        })?;
        if let Some(applied) = applied {
            self.applied_below.insert((stream, id), applied);
        }
        loaded.checkpointed = ConsumerCheckpoint { location: Some(location), ..Default::default() };
        self.streams[slot].consumers.insert(loaded);
        Ok(())
    }

    /// Brings a page that a removal needs. What the device does not read is not taken for damaged.
    pub(in crate::shard) fn bring<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
        slot: usize,
        key: PageKey,
    ) -> Result<(), NotBrought> {
        let index = &mut self.streams[slot].index;
        let Some(at) = index.location(key) else {
            return Err(NotBrought::Damaged(format!("index page {key:?} has no place")));
        };
        load_page(dev, recovery, index, key, at).map_err(|why| {
            match recovery.read(dev, at.position, at.len) {
                Err(ReadError::Device { .. }) => NotBrought::Device(why),
                _ => NotBrought::Damaged(why),
            }
        })
    }
}

fn load_page<D: Blocking>(
    dev: &mut D,
    recovery: &mut Recovery,
    index: &mut StreamIndex,
    key: PageKey,
    at: Location,
) -> Result<(), String> {
    read(dev, recovery, at, kind::PAGE, |m| {
        index.load_page(key, at.position, m.body).map_err(|e| e.to_string())
    })
}

/// The index behind a head, with every page that has to be resident.
fn load_index<D: Blocking>(
    dev: &mut D,
    recovery: &mut Recovery,
    config: &StreamConfig,
    seed: u64,
    head: Location,
) -> Result<StreamIndex, String> {
    let mut index = read(dev, recovery, head, kind::PAGE, |m| {
        StreamIndex::recover(index_config(config, seed), m.body).map_err(|e| e.to_string())
    })?;
    index.set_head_location(head);
    while index.is_recovering() {
        let mut pages: Vec<(PageKey, Location)> = index.pages_to_load().collect();
        // In the order of the disk.
        pages.sort_unstable_by_key(|(_, l)| l.position);
        for (key, at) in pages {
            load_page(dev, recovery, &mut index, key, at)?;
        }
    }
    Ok(index)
}
