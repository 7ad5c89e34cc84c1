//! Replaying: what the records behind a checkpoint did, done again.

use corelane_storage::device::Blocking;
use corelane_storage::envelope::FrameHeader;

use super::*;
use crate::shard::apply::state::{Applied, StateMut};
use crate::shard::recovery::load::NotBrought;

/// Index entries that a removal visits before what it removed is taken in.
const STEP_VISITS: u32 = 10_000;
/// How often a page is read that a removal needs before that is given up.
const PAGE_ATTEMPTS: u32 = 3;

impl Replay<'_> {
    pub(super) fn message(&mut self, m: &MessageIn<'_>, position: Position) {
        let Some(&slot) = self.slots.get(&m.stream) else { return };
        let cell = &mut self.streams[slot];
        if m.seq <= cell.index.last_seq() {
            let name = &cell.config.name;
            self.lines.push(format!("stream '{name}': sequence {} appears again", m.seq));
            return;
        }
        let message = Appended::of(m, cell.config.storage, position);
        let id = cell.append(&message, m.subject);
        cell.admission.replay(m.seq, cell.last_time, m.headers);
        *self.live.entry(position.segment).or_default() += i64::from(message.size);
        if cell.retention.is_limited() {
            self.unfinished = Some((slot, Removal::Limits(id)));
        }
    }

    pub(super) fn meta(&mut self, m: &MetaIn<'_>, place: ReplayedPlace) {
        let stream = StreamId(m.stream);
        let consumer = ConsumerId(m.id);
        let known = match m.kind {
            kind::CONSUMER_DELTA | kind::CONSUMER => self
                .applied_below
                .get(&(stream, consumer))
                .map_or(Upto::Nothing, |&index| Upto::Record(index)),
            kind::CATALOGUE => self.loaded.as_ref().map_or(Upto::Nothing, |l| l.catalogue_upto),
            _ => Upto::Nothing,
        };
        if known.covers(place) {
            return;
        }
        let done = match m.kind {
            kind::STOPPED => {
                self.stopped_clean = m.id != BEGUN;
                Ok(())
            }
            _ => self.change(m, place.version),
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
            1 => LogIndex(index.0.saturating_add(u64::from(nth))),
            _ => index,
        };
        let last = self.last_index.entry(group).or_default();
        *last = (*last).max(index);
        ReplayedPlace { version, index, write, nth }
    }

    /// What a record does to streams and consumers.
    fn change(&mut self, m: &MetaIn<'_>, version: u8) -> Result<(), String> {
        let Replay { streams, slots, next_consumer, catalogue, options, .. } = self;
        let catalogue = Some(catalogue);
        let (seed, max_payload) = (options.seed, options.max_payload);
        let mut state = StateMut { streams, slots, next_consumer, catalogue, seed, max_payload };
        match state.apply(m.kind, StreamId(m.stream), m.id, m.body)? {
            Applied::Removal(slot, removal) => self.unfinished = Some((slot, removal)),
            Applied::StreamUpdated(slot) if version == 1 => {
                // What new limits removed had no records of its own.
                self.streams[slot].enforcing = false;
                self.unfinished = Some((slot, self.all_over_limits(slot)));
            }
            Applied::StreamRemoved(slot) => {
                self.buried.push(slot);
                let consumers = std::mem::take(&mut self.streams[slot].consumers);
                let stored = consumers.slab.iter().filter_map(|(_, c)| c.stored.location);
                self.orphans.extend(stored);
            }
            Applied::ConsumerRemoved { gone, .. } => self.orphans.extend(gone.stored.location),
            _ => {}
        }
        Ok(())
    }

    /// Removes what the last record says, reading pages where they are needed.
    pub(super) fn settle<D: Blocking>(
        &mut self,
        dev: &mut D,
        recovery: &mut Recovery,
    ) -> Result<(), String> {
        let Some((slot, mut removal)) = self.unfinished.take() else { return Ok(()) };
        let mut attempts = 0;
        loop {
            let (mut budget, mut live) = (STEP_VISITS, Leaving(&mut self.live));
            match removal.step(&mut self.streams[slot], &mut budget, &mut live) {
                Progress::Done => return Ok(()),
                Progress::Budget => {}
                Progress::NeedPage(key) => {
                    attempts += 1;
                    let name = |r: &Self| r.streams[slot].config.name.clone();
                    match self.bring(dev, recovery, slot, key) {
                        Ok(()) => attempts = 0,
                        Err(_) if attempts < PAGE_ATTEMPTS => {}
                        // It may be read at another start, and must not be passed over.
                        Err(NotBrought::Device(why)) => {
                            return Err(format!("stream '{}': {why}", name(self)));
                        }
                        Err(NotBrought::Damaged(why)) => {
                            let line = "a removal could not be replayed";
                            self.lines.push(format!("stream '{}': {line}: {why}", name(self)));
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// All that the limits of a stream do not allow: of stores of format 1, where it left no record
    /// of its own.
    pub(super) fn all_over_limits(&self, slot: usize) -> Removal {
        let cell = &self.streams[slot];
        let mut subjects = Vec::new();
        if cell.retention.limits_subjects() {
            let (mut cursor, mut budget) = (SubjectCursor::new(), u32::MAX);
            cell.index.subjects().for_each_match(b">", &mut cursor, &mut budget, |id, _| {
                if cell.retention.of_subject(subject_count(&cell.index, id)) > 0 {
                    subjects.push(id);
                }
            });
        }
        subjects.reverse();
        Removal::Enforce { subjects, most: u64::MAX }
    }
}

/// What the removal of messages changes beside their streams: the bytes that live in segments.
struct Leaving<'a>(&'a mut BTreeMap<SegmentId, i64>);

impl RemovalSink for Leaving<'_> {
    fn removed(&mut self, _stream: &mut ShardStream, gone: &RemovedMessage) {
        *self.0.entry(gone.segment).or_default() -= i64::from(gone.size);
    }
}
