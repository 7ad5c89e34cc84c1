//! The parts of a checkpoint: a stream's index, configuration, duplicate window and consumers, the
//! catalogue, the root.

use super::*;
use crate::shard::groups::GroupName;
use crate::shard::state::checkpoint::{
    CheckpointRun, CheckpointStage, CheckpointStep, CommittingCheckpoint,
};

impl Shard {
    pub(super) fn write_index(&mut self, run: &mut CheckpointRun, slot: usize) -> CheckpointStep {
        let stream = self.streams[slot].id;
        loop {
            let key = match run.page {
                Some(key) => key,
                None => match self.streams[slot].index.next_frozen(&mut run.body) {
                    Some(key) => key,
                    None => break,
                },
            };
            run.page = Some(key);
            let (l, _) = self.write_record(run, kind::PAGE, stream, page_id(key))?;
            run.page = None;
            run.supersede(self.streams[slot].index.stored(key, l.position, l.len));
            run.visit()?;
        }
        run.supersede(self.streams[slot].index.take_released());
        Ok(())
    }

    pub(super) fn write_config(&mut self, run: &mut CheckpointRun, slot: usize) -> CheckpointStep {
        let state = &mut self.streams[slot];
        if !state.checkpointed.config_changed && state.checkpointed.config.is_some() {
            return Ok(());
        }
        let stream = state.id;
        let before = state.checkpointed.config_before.take();
        // What changed since the freeze is for the next one.
        let again = before.is_some();
        run.body = before.unwrap_or_else(|| config_body(state));
        match self.write_record(run, kind::STREAM_CONFIG, stream, 0) {
            Ok((l, _)) => {
                let stored = &mut self.streams[slot].checkpointed;
                run.supersede(stored.config.replace(l));
                stored.config_changed = again;
                Ok(())
            }
            Err(pause) => {
                if again {
                    self.streams[slot].checkpointed.config_before =
                        Some(std::mem::take(&mut run.body));
                }
                Err(pause)
            }
        }
    }

    /// Writes the next page of the duplicate window that changed. Answers its number.
    pub(super) fn write_dedupe(
        &mut self,
        run: &mut CheckpointRun,
        slot: usize,
        from: u64,
    ) -> CheckpointStep<Option<u64>> {
        let state = &mut self.streams[slot];
        let (stream, table) = (state.id, state.admission.dedupe());
        if !state.checkpointed.moved {
            return Ok(None);
        }
        let pages = table.pages();
        if from == 0 {
            let kept = state.checkpointed.dedupe.split_off(&pages.start);
            let gone = std::mem::replace(&mut state.checkpointed.dedupe, kept);
            run.supersede(gone.into_values().map(|p| p.location));
        }
        for number in from.max(pages.start)..pages.end {
            let complete = table.page_is_complete(number, state.checkpointed.last_seq);
            if complete && state.checkpointed.dedupe.get(&number).is_some_and(|p| p.complete) {
                continue;
            }
            run.visit()?;
            run.body.clear();
            if !table.encode_page(number, state.checkpointed.last_seq, &mut run.body) {
                run.supersede(state.checkpointed.dedupe.remove(&number).map(|p| p.location));
                continue;
            }
            let (location, _) = self.write_record(run, kind::DEDUPE, stream, number)?;
            let page = DedupePage { number, complete, location };
            let old = self.streams[slot].checkpointed.dedupe.insert(number, page);
            run.supersede(old.map(|p| p.location));
            return Ok(Some(number));
        }
        state.checkpointed.moved = false;
        Ok(None)
    }

    /// Writes a consumer, as it was at the freeze, if it changed since the last checkpoint. Answers
    /// its slot.
    pub(super) fn write_consumer(
        &mut self,
        run: &mut CheckpointRun,
        slot: usize,
        from: usize,
    ) -> CheckpointStep<Option<usize>> {
        let epoch = self.checkpoint.epoch;
        let stream = self.streams[slot].id;
        for at in from..self.streams[slot].consumers.slab.capacity() {
            let Some(c) = self.streams[slot].consumers.slab.get_mut(at) else { continue };
            let id = c.id;
            let written = run.consumers.contains_key(&id);
            if written || c.ledger.settings().volatile || c.checkpointed.born == epoch {
                continue;
            }
            if let Some(l) = c.checkpointed.location.filter(|_| !c.checkpointed.changed) {
                c.checkpointed.epoch = epoch;
                run.consumers.insert(id, l);
                continue;
            }
            run.visit()?;
            run.body.clear();
            // What changed since the freeze is for the next checkpoint.
            let again = c.checkpointed.before.is_some();
            match &c.checkpointed.before {
                Some(before) => run.body.extend_from_slice(before),
                None => c.encode(&mut run.body),
            }
            let (l, _) = self.write_record(run, kind::CONSUMER_STATE, stream, id.0)?;
            let stored = &mut self.streams[slot].consumers.slab[at].checkpointed;
            (stored.epoch, stored.changed, stored.before) = (epoch, again, None);
            run.supersede(stored.location.replace(l));
            run.consumers.insert(id, l);
            return Ok(Some(at));
        }
        Ok(None)
    }

    pub(super) fn write_state(&mut self, run: &mut CheckpointRun, slot: usize) -> CheckpointStep {
        let of_stream = &self.streams[slot];
        let stream = of_stream.id;
        let state = StreamState {
            buried: !self.slots.contains_key(&stream),
            first_shown: of_stream.first_shown,
            enforcing: of_stream.enforcing,
            last_time: of_stream.last_time.0,
            first_time: (of_stream.first_time.0, of_stream.first_time.1.0),
            config: of_stream.checkpointed.config.unwrap_or_default(),
            head: of_stream.index.location(PageKey::HEAD).unwrap_or_default(),
            last_id: of_stream.admission.last_applied_id().to_vec(),
            dedupe: of_stream.checkpointed.dedupe.values().copied().collect(),
            consumers: {
                let whole = run.consumers.iter().map(|(&id, &l)| (id, l));
                whole.chain(self.unreadable.of_stream(stream)).collect()
            },
        };
        run.body.clear();
        state.encode(&mut run.body);
        let sum = xxhash_rust::xxh3::xxh3_64(&run.body);
        let location = match of_stream.checkpointed.state {
            Some((l, known)) if known == sum => l,
            old => {
                let (l, _) = self.write_record(run, kind::STREAM_STATE, stream, 0)?;
                run.supersede(old.map(|(l, _)| l));
                self.streams[slot].checkpointed.state = Some((l, sum));
                l
            }
        };
        run.root.streams.push((stream, location));
        Ok(())
    }

    pub(super) fn begin_catalogue(&mut self, run: &mut CheckpointRun) {
        if !self.checkpoint.catalogue_changed || self.meta.is_none() {
            run.root.catalogue.clone_from(&self.checkpoint.catalogue);
            run.root.catalogue_upto = self.checkpoint.catalogue_upto;
            run.stage = CheckpointStage::Root;
            return;
        }
        self.checkpoint.catalogue_changed = false;
        let (index, nth) = self.groups.get(GroupName::Meta).next_place();
        run.root.catalogue_upto = Upto::Entry(index, nth);
    }

    /// Writes a page of the catalogue. Answers the last stream of it; `None` if there are no more.
    pub(super) fn write_catalogue(
        &mut self,
        run: &mut CheckpointRun,
        after: Option<&(String, String)>,
    ) -> CheckpointStep<Option<(String, String)>> {
        let Some(meta) = &self.meta else { return Ok(None) };
        run.visit()?;
        run.body.clear();
        let mut bytes = Vec::new();
        let mut put = |record: Record, body: &mut Vec<u8>| {
            bytes.clear();
            record.encode(&mut bytes);
            put_counted(body, &bytes);
        };
        if after.is_none() {
            meta.catalogue.first_records().for_each(|r| put(r, &mut run.body));
        }
        let mut last = None;
        for (account, entry) in meta.catalogue.streams_after(after) {
            let account = account.to_owned();
            last = Some((account.clone(), entry.config.name.clone()));
            // A memory stream is gone after a restart.
            if entry.config.storage == StorageType::Memory {
                continue;
            }
            put(Record::Create { account, entry: entry.clone() }, &mut run.body);
            if run.body.len() >= CATALOGUE_PAGE {
                break;
            }
        }
        if !run.body.is_empty() {
            let number = run.root.catalogue.len() as u64;
            let (l, _) = self.write_record(run, kind::CATALOGUE_STATE, StreamId(0), number)?;
            run.root.catalogue.push(l);
        }
        if last.is_none() {
            run.supersede(std::mem::take(&mut self.checkpoint.catalogue));
            self.checkpoint.catalogue.clone_from(&run.root.catalogue);
            self.checkpoint.catalogue_upto = run.root.catalogue_upto;
        }
        Ok(last)
    }

    pub(super) fn write_root(&mut self, run: &mut CheckpointRun) -> CheckpointStep {
        let old = self.checkpoint.root;
        if let Some(l) = old {
            run.supersede([l]);
        }
        let id = self.checkpoint.last_id + 1;
        run.root.groups = run.groups.clone();
        run.root.next_consumer = self.consumers.next_id;
        let live = run.live.iter().filter(|(_, live)| **live > 0);
        run.root.live = live.map(|(&segment, &live)| (segment, live as u64)).collect();
        run.body.clear();
        run.root.encode(&mut run.body);
        let (l, root_lsn) = match self.write_record(run, kind::ROOT, StreamId(0), id) {
            Ok(written) => written,
            Err(pause) => {
                if let Some(l) = run.superseded.pop_if(|_| old.is_some()) {
                    *run.live.entry(l.position.segment).or_default() += i64::from(l.len);
                }
                return Err(pause);
            }
        };
        let c = &mut self.checkpoint;
        c.last_id = id;
        c.root = Some(l);
        c.last_bytes = run.bytes;
        let superseded = std::mem::take(&mut run.superseded);
        let (moved, holds_entries) = (std::mem::take(&mut run.moved), run.holds_entries);
        c.committing = Some(CommittingCheckpoint { id, superseded, moved, holds_entries });
        let checkpoint = CheckpointRef { id, root: l.position, root_len: l.len };
        // Consumers and the catalogue may hold what was appended since the freeze.
        let applied = self.log.appended();
        let commit = Commit { checkpoint, root_lsn, applied, replay: run.replay };
        self.log.commit_checkpoint(commit, &mut self.device.ops);
        Ok(())
    }
}

pub(super) fn config_body(stream: &crate::shard::state::stream::ShardStream) -> Vec<u8> {
    let mut body = Vec::new();
    let json = to_json(&stream.config);
    ConfigBody { created: stream.created.0, start: b"", json: &json }.encode(&mut body);
    body
}
