//! What the catalogue decided about this shard's streams.
//!
//! It is durable there, so it is carried out here whatever happens: without room for its record it
//! waits for room, with all that was decided after it, and its answer waits with it. A refusal
//! would be a lie, since the next start carries it out.

use std::collections::{BTreeSet, VecDeque};

use crate::api::json::to_json;
use crate::api::types::{StorageType, StreamConfig};
use crate::meta::StreamEntry;
use crate::shard::Shard;
use crate::shard::apply::groups::GroupName;
use crate::shard::apply::pending::Change;
use crate::shard::mailbox::Requester;
use crate::shard::records::{ConfigBody, kind};
use crate::types::{StreamId, WallTime};

/// One decision.
pub(in crate::shard) enum Decided {
    /// There is a new stream.
    Create { entry: Box<StreamEntry>, requester: Option<Requester> },
    /// A stream was asked for again.
    Existing { id: StreamId, requester: Requester },
    /// A stream has another configuration.
    Update { id: StreamId, config: Box<StreamConfig>, requester: Option<Requester> },
    /// A stream goes away.
    Delete { id: StreamId, requester: Option<Requester> },
}

impl Decided {
    fn stream(&self) -> StreamId {
        match self {
            Decided::Create { entry, .. } => entry.id,
            Decided::Existing { id, .. }
            | Decided::Update { id, .. }
            | Decided::Delete { id, .. } => *id,
        }
    }
}

/// Decisions that were not begun yet.
#[derive(Default)]
pub(in crate::shard) struct Decisions {
    waiting: VecDeque<Decided>,
    /// Streams whose creation was begun and has not taken effect: what follows about them waits.
    creating: BTreeSet<StreamId>,
}

impl Shard {
    /// Takes a decision of the catalogue in.
    pub(in crate::shard) fn decided(&mut self, decided: Decided) {
        self.decisions.waiting.push_back(decided);
        self.run_decisions();
    }

    /// A stream's creation took effect.
    pub(in crate::shard) fn created(&mut self, id: StreamId) {
        self.decisions.creating.remove(&id);
        self.run_decisions();
    }

    /// Begins what was decided, in order, as far as there is room for it.
    pub(in crate::shard) fn run_decisions(&mut self) {
        while let Some(first) = self.decisions.waiting.pop_front() {
            let early = self.decisions.creating.contains(&first.stream());
            let group = self.group_of(&first);
            if early || !self.record_decision(group, &first) {
                self.decisions.waiting.push_front(first);
                return;
            }
            let id = first.stream();
            let answer = match first {
                Decided::Create { requester, .. } => {
                    self.decisions.creating.insert(id);
                    requester.map(|requester| Change::Created(id, requester))
                }
                Decided::Existing { requester, .. } => Some(Change::Created(id, requester)),
                Decided::Update { requester, .. } => {
                    requester.map(|requester| Change::Updated(id, requester))
                }
                Decided::Delete { requester, .. } => {
                    if let Some(&slot) = self.slots.get(&id) {
                        self.streams[slot].leaving = true;
                    }
                    Some(Change::Deleted { id, requester })
                }
            };
            if let Some(answer) = answer {
                self.wait_for_appended(group, answer);
            }
        }
    }

    /// The group of the stream that a decision is about.
    fn group_of(&self, decided: &Decided) -> GroupName {
        let of_config = |config: &StreamConfig| match config.storage {
            StorageType::Memory => GroupName::Memory,
            StorageType::File => GroupName::File,
        };
        match decided {
            Decided::Create { entry, .. } => of_config(&entry.config),
            Decided::Update { config, .. } => of_config(config),
            Decided::Existing { id, .. } | Decided::Delete { id, .. } => {
                let slot = self.slots.get(id);
                slot.map_or(GroupName::File, |&slot| self.streams[slot].group())
            }
        }
    }

    /// Appends the record of a decision, if it has one. False if there is no room for it.
    fn record_decision(&mut self, group: GroupName, decided: &Decided) -> bool {
        match decided {
            Decided::Create { entry, .. } => {
                self.append_stream(group, entry.id, entry.created, &entry.config)
            }
            Decided::Existing { .. } => true,
            Decided::Update { id, config, .. } => match self.slots.get(id) {
                Some(&slot) => {
                    let created = self.streams[slot].created;
                    self.append_stream(group, *id, created, config)
                }
                None => true,
            },
            Decided::Delete { id, .. } => match self.slots.get(id) {
                Some(_) => self.append_meta(group, kind::STREAM_REMOVED, id.0, 0, b"").is_ok(),
                None => true,
            },
        }
    }

    fn append_stream(
        &mut self,
        group: GroupName,
        id: StreamId,
        created: WallTime,
        config: &StreamConfig,
    ) -> bool {
        let mut body = Vec::new();
        let json = to_json(config);
        ConfigBody { created: created.0, start: b"", json: &json }.encode(&mut body);
        self.append_meta(group, kind::STREAM, id.0, 0, &body).is_ok()
    }
}
