//! Replaying: what the records behind a checkpoint did, done again.

use corelane_storage::device::Blocking;
use corelane_storage::envelope::FrameHeader;

use super::*;
use crate::types::WallTime;

impl Replay<'_> {
    pub(super) fn message(&mut self, m: &MessageIn<'_>, position: Position) {
        let Some(&slot) = self.slots.get(&m.stream) else { return };
        let cell = &mut self.streams[slot];
        if m.seq <= cell.index.last_seq() {
            let name = &cell.config.name;
            self.lines.push(format!("stream '{name}': sequence {} appears again", m.seq));
            return;
        }
        let (subject, headers) = (m.subject.len(), m.headers.len());
        let size = stored_size(cell.config.storage, subject, headers, m.payload.len()) as u32;
        let id = cell.index.append(m.seq, position, size, m.subject);
        cell.last_time = WallTime(m.ts);
        if cell.index.messages() == 1 {
            cell.first_time = (m.seq, cell.last_time);
        }
        cell.admission.replay(m.seq, cell.last_time, m.headers);
        *self.live.entry(position.segment).or_default() += i64::from(size);
        if cell.retention.is_limited() {
            self.todo = Todo::Limits(slot, id);
        }
    }

    pub(super) fn meta(&mut self, m: &MetaIn<'_>, place: ReplayedPlace) {
        let stream = StreamId(m.stream);
        let consumer = ConsumerId(m.id);
        let known = match m.kind {
            kind::CONSUMER_DELTA | kind::CONSUMER => self
                .applied_below
                .get(&(stream, consumer))
                .map_or(Upto::Nothing, |&index| Upto::Index(index)),
            kind::CATALOGUE => self.loaded.as_ref().map_or(Upto::Nothing, |l| l.catalogue_upto),
            _ => Upto::Nothing,
        };
        if known.covers(place.index, place.write, place.nth) {
            return;
        }
        let done = match m.kind {
            kind::CONSUMER_DELTA => match self.consumers.get_mut(&(stream, consumer)) {
                Some(c) => {
                    c.stored.changed = true;
                    c.ledger.apply(m.body).map_err(|e| format!("{e:?}"))
                }
                None => Ok(()),
            },
            kind::DELETE => {
                if let Some(&slot) = self.slots.get(&stream) {
                    self.todo = Todo::Remove(slot, m.id);
                }
                Ok(())
            }
            kind::PURGE => self.purge(stream, m.body),
            kind::ENFORCE => self.enforce(stream, m.body),
            kind::STREAM => self.stream(stream, m.body, place.version),
            kind::STREAM_REMOVED => {
                self.stream_removed(stream);
                Ok(())
            }
            kind::CONSUMER => self.consumer(stream, consumer, m.body),
            kind::CONSUMER_REMOVED => {
                let gone = self.consumers.remove(&(stream, consumer));
                self.orphans.extend(gone.and_then(|c| c.stored.location));
                Ok(())
            }
            kind::CATALOGUE => match Record::decode(m.body) {
                Ok(record) => {
                    self.catalogue.apply(&record);
                    Ok(())
                }
                Err(e) => Err(format!("{e:?}")),
            },
            kind::STOPPED => {
                self.stopped_clean = m.id != BEGUN;
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(why) = done {
            self.lines.push(format!("record of kind {} for stream {}: {why}", m.kind, m.stream));
        }
    }

    /// Takes in where a record lies in its group's log.
    pub(super) fn count_entry(
        &mut self,
        frame: &FrameHeader,
        write: u64,
        nth: u32,
    ) -> ReplayedPlace {
        let FrameHeader { group, index, version, .. } = *frame;
        self.format_1 |= version == 1;
        let index = match version {
            1 => index.0.saturating_add(u64::from(nth)),
            _ => index.0,
        };
        let last = self.last_index.entry(group).or_default();
        *last = (*last).max(LogIndex(index));
        ReplayedPlace { index, write, nth, version }
    }

    pub(super) fn enforce(&mut self, stream: StreamId, body: &[u8]) -> Result<(), String> {
        let what = EnforceBody::decode(body).ok_or("too short")?;
        if let Some(&slot) = self.slots.get(&stream) {
            self.todo = Todo::Enforce(slot, what);
        }
        Ok(())
    }

    pub(super) fn purge(&mut self, stream: StreamId, body: &[u8]) -> Result<(), String> {
        let PurgeBody { from, to, filter } = PurgeBody::decode(body).ok_or("too short")?;
        if let Some(&slot) = self.slots.get(&stream) {
            if from == to {
                // The stream was empty, and went on from here.
                self.streams[slot].first_shown = true;
                if self.streams[slot].index.messages() == 0 {
                    self.streams[slot].index.skip_to(to);
                }
                return Ok(());
            }
            self.todo = Todo::Purge { slot, from, to, filter: filter.into() };
        }
        Ok(())
    }

    /// Does what the last record leaves to be done, reading pages where they are needed.
    pub(super) fn settle<D: Blocking>(&mut self, dev: &mut D, recovery: &mut Recovery) {
        let (slot, done) = match std::mem::take(&mut self.todo) {
            Todo::Nothing => return,
            Todo::Limits(slot, subject) => (slot, self.keep_limits(dev, recovery, slot, subject)),
            Todo::AllLimits(slot) => (slot, self.keep_all_limits(dev, recovery, slot)),
            Todo::Enforce(slot, what) => (slot, self.keep_enforced(dev, recovery, slot, &what)),
            Todo::Remove(slot, seq) => (slot, self.remove(dev, recovery, slot, seq)),
            Todo::Purge { slot, from, to, filter } => {
                (slot, self.remove_range(dev, recovery, slot, (from, to), &filter))
            }
        };
        if let Err(why) = done {
            let name = &self.streams[slot].config.name;
            self.lines.push(format!("stream '{name}': a removal could not be replayed: {why}"));
        }
    }

    /// As `enforce_limits` did when the limits changed.
    pub(super) fn keep_all_limits<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
        slot: usize,
    ) -> Result<(), String> {
        let cell = &self.streams[slot];
        let mut over = Vec::new();
        if cell.retention.limits_subjects() {
            let (mut cursor, mut budget) = (SubjectCursor::new(), u32::MAX);
            cell.index.subjects().for_each_match(b">", &mut cursor, &mut budget, |id, _| {
                if cell.retention.of_subject(subject_count(&cell.index, id)) > 0 {
                    over.push(id);
                }
            });
        }
        for subject in over {
            self.keep_subject_limit(dev, recovery, slot, subject)?;
        }
        self.keep_size_limits(dev, recovery, slot, u64::MAX)
    }

    pub(super) fn keep_limits<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
        slot: usize,
        subject: SubjectId,
    ) -> Result<(), String> {
        self.keep_subject_limit(dev, recovery, slot, subject)?;
        self.keep_size_limits(dev, recovery, slot, u64::MAX)
    }

    pub(super) fn keep_enforced<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
        slot: usize,
        what: &Enforce,
    ) -> Result<(), String> {
        match what {
            Enforce::Subjects(names) => {
                for name in names {
                    if let Some(subject) = self.streams[slot].index.subjects().lookup(name) {
                        self.keep_subject_limit(dev, recovery, slot, subject)?;
                    }
                }
                Ok(())
            }
            Enforce::Stream(most) => self.keep_size_limits(dev, recovery, slot, *most),
            Enforce::Done => {
                self.streams[slot].enforcing = false;
                Ok(())
            }
        }
    }

    pub(super) fn keep_subject_limit<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
        slot: usize,
        subject: SubjectId,
    ) -> Result<(), String> {
        let cell = &self.streams[slot];
        let excess = match cell.retention.limits_subjects() {
            true => cell.retention.of_subject(subject_count(&cell.index, subject)),
            false => 0,
        };
        for _ in 0..excess {
            loop {
                let index = &mut self.streams[slot].index;
                match index.first_of(subject, &mut { u32::MAX }) {
                    Resolved::NeedPage(key) => self.bring(dev, recovery, slot, key)?,
                    Resolved::None | Resolved::Budget => break,
                    Resolved::Found(seq) => match index.remove_of(subject, seq) {
                        Removed::NeedPage(key) => self.bring(dev, recovery, slot, key)?,
                        Removed::NotThere => break,
                        Removed::Done(gone) => {
                            drop_live(&mut self.live, &gone);
                            break;
                        }
                    },
                }
            }
        }
        Ok(())
    }

    pub(super) fn keep_size_limits<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
        slot: usize,
        most: u64,
    ) -> Result<(), String> {
        let mut left = most;
        loop {
            let cell = &mut self.streams[slot];
            if left == 0 || cell.retention.by_limits(&cell.view()) == Evict::Nothing {
                return Ok(());
            }
            match cell.index.remove_first() {
                Removed::Done(gone) => {
                    left -= 1;
                    drop_live(&mut self.live, &gone);
                }
                Removed::NeedPage(key) => self.bring(dev, recovery, slot, key)?,
                Removed::NotThere => return Ok(()),
            }
        }
    }

    pub(super) fn remove<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
        slot: usize,
        seq: u64,
    ) -> Result<(), String> {
        loop {
            match self.streams[slot].index.remove(seq) {
                Removed::NeedPage(key) => self.bring(dev, recovery, slot, key)?,
                Removed::NotThere => return Ok(()),
                Removed::Done(gone) => {
                    drop_live(&mut self.live, &gone);
                    return Ok(());
                }
            }
        }
    }

    pub(super) fn remove_range<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
        slot: usize,
        (mut from, to): (u64, u64),
        filter: &[u8],
    ) -> Result<(), String> {
        let mut filter =
            if filter.is_empty() { FilterSet::all() } else { FilterSet::new([filter]) };
        loop {
            let live = &mut self.live;
            let index = &mut self.streams[slot].index;
            let end = index.remove_matching(&mut filter, from..to, &mut { u32::MAX }, |gone| {
                drop_live(live, &gone);
            });
            match end {
                RangeRemoval::Done => return Ok(()),
                RangeRemoval::Budget { resume } => from = resume,
                RangeRemoval::NeedPage { key, resume } => {
                    from = resume;
                    self.bring(dev, recovery, slot, key)?;
                }
            }
        }
    }

    pub(super) fn stream(&mut self, id: StreamId, body: &[u8], version: u8) -> Result<(), String> {
        let body = ConfigBody::decode(body).ok_or("too short")?;
        let config: StreamConfig = parse_config(body.json, "StreamConfig")?;
        match self.slots.get(&id) {
            Some(&slot) => {
                self.streams[slot].update(config);
                if version == 1 {
                    // What new limits removed had no records of its own.
                    self.streams[slot].enforcing = false;
                    self.todo = Todo::AllLimits(slot);
                }
            }
            None => {
                let created = WallTime(body.created);
                let cell = ShardStream::new(id, config, created, self.options.seed);
                let slot = self.streams.insert(cell);
                self.slots.insert(id, slot);
            }
        }
        Ok(())
    }

    pub(super) fn stream_removed(&mut self, id: StreamId) {
        let Some(slot) = self.slots.remove(&id) else { return };
        self.streams[slot].removing = true;
        self.buried.push(slot);
        forget_removed(&mut self.consumers, id, &mut self.orphans);
    }

    pub(super) fn consumer(
        &mut self,
        stream: StreamId,
        id: ConsumerId,
        body: &[u8],
    ) -> Result<(), String> {
        self.next_consumer = self.next_consumer.max(id.0 + 1);
        let body = ConfigBody::decode(body).ok_or("too short")?;
        let config: ConsumerConfig = parse_config(body.json, "ConsumerConfig")?;
        let Some(&slot) = self.slots.get(&stream) else { return Ok(()) };
        let name =
            if config.name.is_empty() { config.durable_name.clone() } else { config.name.clone() };
        let of = &self.streams[slot].config;
        if let Some(c) = self.consumers.get_mut(&(stream, id)) {
            c.ledger.configure(ConsumerSettings::of(of, &name, &config, self.options.max_payload));
            c.filter = filters_of(&config);
            c.config = config;
            c.stored.changed = true;
            return Ok(());
        }
        let (created, start) = (WallTime(body.created), body.start.to_vec());
        let consumer = NewConsumer { id, name, config, created, start };
        let mut cell = ShardConsumer::new(of, consumer, self.options.max_payload)
            .map_err(|e| format!("{e:?}"))?;
        cell.stored.changed = true;
        self.consumers.insert((stream, id), cell);
        Ok(())
    }
}

fn drop_live(live: &mut BTreeMap<SegmentId, i64>, gone: &RemovedMessage) {
    *live.entry(gone.segment).or_default() -= i64::from(gone.size);
}
