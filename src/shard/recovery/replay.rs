//! Replaying: what the records behind a checkpoint did, done again.

use corelane_storage::device::Blocking;
use corelane_storage::envelope::FrameHeader;

use super::*;
use crate::shard::apply::state::{Applied, StateMut};
use crate::shard::groups::removal::PageAttempts;
use crate::shard::recovery::load::NotBrought;

/// Index entries that a removal visits before what it removed is taken in.
const STEP_VISITS: u32 = 10_000;

impl Replay<'_> {
    /// Does again what a record did.
    pub(super) fn record(
        &mut self,
        content: &RecordIn<'_>,
        place: ReplayedPlace,
        position: Position,
    ) -> Result<(), String> {
        let done = match content {
            RecordIn::Message(m) => self.message(m, position),
            RecordIn::Meta(m) => self.meta(m, place),
        };
        done.map_err(|why| {
            let Position { segment, offset } = position;
            format!(
                "{why}. It lies in segment {} at {offset}, and nothing behind it can be right; \
                 nothing was changed or deleted",
                segment.0
            )
        })
    }

    fn state(&mut self) -> StateMut<'_> {
        let Replay { streams, slots, next_consumer, catalogue, options, .. } = self;
        let catalogue = Some(catalogue);
        let seed = options.seed;
        StateMut { streams, slots, next_consumer, catalogue, seed }
    }

    fn message(&mut self, m: &MessageIn<'_>, position: Position) -> Result<(), String> {
        let Some(stored) = self.state().message(None, m, position)? else { return Ok(()) };
        *self.live.entry(position.segment).or_default() += i64::from(stored.size);
        self.unfinished = stored.removal().map(|removal| (stored.slot, removal));
        Ok(())
    }

    fn meta(&mut self, m: &MetaIn<'_>, place: ReplayedPlace) -> Result<(), String> {
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
            return Ok(());
        }
        if m.kind == kind::STOPPED {
            self.stopped_clean = m.id != BEGUN;
            return Ok(());
        }
        self.change(m, place.version)
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
        match self.state().apply(m.kind, StreamId(m.stream), m.id, m.body)? {
            Applied::Removal(slot, removal) => self.unfinished = Some((slot, removal)),
            Applied::StreamUpdated(slot) if version == 1 => {
                // What new limits removed had no records of its own.
                self.streams[slot].enforcing = false;
                self.unfinished = Some((slot, self.all_over_limits(slot)));
            }
            Applied::StreamRemoved(slot) => {
                self.buried.push(slot);
                let consumers = std::mem::take(&mut self.streams[slot].consumers);
                let stored = consumers.slab.iter().filter_map(|(_, c)| c.checkpointed.location);
                self.orphans.extend(stored);
            }
            Applied::ConsumerRemoved { gone, .. } => {
                self.orphans.extend(gone.checkpointed.location)
            }
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
        let mut attempts = PageAttempts::default();
        loop {
            let (mut budget, mut live) = (STEP_VISITS, Leaving(&mut self.live));
            match removal.step(&mut self.streams[slot], &mut budget, &mut live) {
                Progress::Done => return Ok(()),
                Progress::Budget => {}
                Progress::NeedPage(key) => {
                    let name = |r: &Self| r.streams[slot].config.name.clone();
                    match self.bring(dev, recovery, slot, key) {
                        Ok(()) => attempts.succeeded(),
                        Err(_) if attempts.failed() => {}
                        // It may be read at another start, and must not be passed over.
                        Err(NotBrought::Device(why)) => {
                            return Err(format!("stream '{}': {why}", name(self)));
                        }
                        Err(NotBrought::Damaged(why)) => {
                            let line = format!("stream '{}': messages stay: {why}", name(self));
                            self.lines.push(line);
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
        let stream = &self.streams[slot];
        let mut subjects = Vec::new();
        if stream.retention.limits_subjects() {
            let (mut cursor, mut budget) = (SubjectCursor::new(), u32::MAX);
            stream.index.subjects().for_each_match(b">", &mut cursor, &mut budget, |id, _| {
                if stream.retention.of_subject(subject_count(&stream.index, id)) > 0 {
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
