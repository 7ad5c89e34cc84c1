//! What the catalogue decided about this shard's streams.
//!
//! It is durable there, so it is carried out here whatever happens: without room for its record it
//! waits for room, with all that was decided after it, and its answer waits with it. A refusal
//! would be a lie, since the next start carries it out.

use crate::api::json::to_json;
use crate::api::types::{StorageType, StreamConfig};
use crate::meta::Record;
use crate::shard::groups::GroupName;
use crate::shard::groups::pending::Change;
use crate::shard::records::{ConfigBody, kind};
use crate::shard::state::Shard;
use crate::shard::state::catalogue::Decided;
use crate::types::{StreamId, WallTime};

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
            if let Some(answer) = self.begun(first) {
                self.wait_for_appended(group, answer);
            }
        }
    }

    /// A decision was begun. Answers what follows when it takes effect.
    fn begun(&mut self, decided: Decided) -> Option<Change> {
        let id = decided.stream();
        let (record, requester) = match decided {
            Decided::Existing { requester, .. } => return Some(Change::Created(id, requester)),
            Decided::Change { record, requester } => (record, requester),
        };
        match *record {
            Record::Create { .. } => {
                self.decisions.creating.insert(id);
                requester.map(|requester| Change::Created(id, requester))
            }
            Record::Update { .. } => requester.map(|requester| Change::Updated(id, requester)),
            Record::Delete { .. } => {
                if let Some(&slot) = self.slots.get(&id) {
                    self.streams[slot].leaving = true;
                }
                Some(Change::Deleted { id, requester })
            }
            Record::Forget { .. } | Record::NextId(_) => None,
        }
    }

    /// The group of the stream that a decision is about.
    fn group_of(&self, decided: &Decided) -> GroupName {
        let of_config = |config: &StreamConfig| match config.storage {
            StorageType::Memory => GroupName::Memory,
            StorageType::File => GroupName::File,
        };
        if let Decided::Change { record, .. } = decided {
            match &**record {
                Record::Create { entry, .. } => return of_config(&entry.config),
                Record::Update { config, .. } => return of_config(config),
                _ => {}
            }
        }
        let slot = self.slots.get(&decided.stream());
        slot.map_or(GroupName::File, |&slot| self.streams[slot].group())
    }

    /// Appends the record of a decision, if it has one. False if there is no room for it.
    fn record_decision(&mut self, group: GroupName, decided: &Decided) -> bool {
        let Decided::Change { record, .. } = decided else { return true };
        let slot = self.slots.get(&decided.stream());
        match &**record {
            Record::Create { entry, .. } => {
                self.append_stream(group, entry.id, entry.created, &entry.config)
            }
            Record::Update { id, config, .. } => match slot {
                Some(&slot) => {
                    let created = self.streams[slot].created;
                    let appended = self.append_stream(group, *id, created, config);
                    if appended {
                        self.streams[slot].admission.update_decided();
                    }
                    appended
                }
                None => true,
            },
            Record::Delete { id, .. } => {
                slot.is_none()
                    || self.append_meta(group, kind::STREAM_REMOVED, id.0, 0, b"").is_ok()
            }
            Record::Forget { .. } | Record::NextId(_) => true,
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
