//! Replay: finding write after write, telling a crash from corruption.

use super::open::first_write;
use super::{Damage, InWrite, OpenError, Recovery, Replayed, WRITES_MAX};
use crate::device::{Blocking, File, IoBuf};
use crate::envelope::{ENVELOPE_BYTES, Envelope, RecordWalk, unknown_frame, write_is_whole};
use crate::record::RecordView;
use crate::segment::SegmentKind;
use crate::types::{Position, SegmentId};

/// A write whose envelope was found.
struct Found {
    position: Position,
    envelope: Envelope,
    whole: bool,
}

/// What lies behind a write that is not there.
#[derive(Default)]
struct Evidence {
    /// All writes up to this one were durable once.
    durable_through: u64,
    /// The first write from here on that is there, and where.
    next: Option<(u64, Position)>,
    /// The next that does not lie in a segment of its own.
    next_hot: Option<(u64, Position)>,
}

impl Recovery {
    /// The next record or damage, or `None` at the end of the accepted log.
    pub fn next<D: Blocking>(&mut self, dev: &mut D) -> Result<Option<Replayed<'_>>, OpenError> {
        loop {
            let Some(write) = &mut self.in_write else {
                if self.ended {
                    return Ok(None);
                }
                let begin = self.cursor;
                if let Some(damage) = self.step(dev)? {
                    self.damaged_between(begin.segment, &damage);
                    self.report.damaged.push(damage);
                    return Ok(Some(Replayed::Damaged(damage)));
                }
                continue;
            };
            let own = self.own_buf.as_deref().filter(|_| self.loaded.is_none());
            let bytes = own.unwrap_or(&self.buf);
            let bytes = &bytes[write.at..write.at + write.length];
            let before = write.walk.at();
            let placed = write.walk.next(bytes);
            let damage = |at: u32, len: u64| Damage {
                position: Position { segment: write.segment, offset: write.offset + at },
                len,
                first_write: write.number,
                end_write: write.number + 1,
            };
            let Some(placed) = placed else {
                let broken = write.walk.broken();
                let rest = damage(before, (write.length as u64).saturating_sub(before as u64));
                self.in_write = None;
                if broken {
                    self.report.damaged_segments.insert(rest.position.segment);
                    self.report.damaged.push(rest);
                    return Ok(Some(Replayed::Damaged(rest)));
                }
                continue;
            };
            if write.skip > 0 {
                write.skip -= 1;
                continue;
            }
            let len = placed.record.padded_len();
            if write.salvage && placed.record.verify().is_err() {
                let bad = damage(placed.at, len as u64);
                self.report.damaged_segments.insert(bad.position.segment);
                self.report.damaged.push(bad);
                return Ok(Some(Replayed::Damaged(bad)));
            }
            self.report.records += 1;
            let (frame, nth, at) = (placed.frame, placed.nth, placed.at);
            let position = Position { segment: write.segment, offset: write.offset + at };
            return Ok(Some(self.record_at(frame, nth, position, len)));
        }
    }

    /// The record that `next` has just found, borrowed for the caller.
    fn record_at(
        &self,
        frame: crate::envelope::FrameHeader,
        nth: u32,
        position: Position,
        len: u32,
    ) -> Replayed<'_> {
        let write = self.in_write.as_ref().expect("next is in a write");
        let own = self.own_buf.as_deref().filter(|_| self.loaded.is_none());
        let bytes = own.unwrap_or(&self.buf);
        let from = write.at + (position.offset - write.offset) as usize;
        let record = RecordView::decode(&bytes[from..]).expect("next has decoded it");
        Replayed::Record { frame, write: write.number, nth, position, len, record }
    }

    /// Finds the next write, or decides that the log ends, or isolates damage.
    fn step<D: Blocking>(&mut self, dev: &mut D) -> Result<Option<Damage>, OpenError> {
        let found = self.find(dev)?;
        if let Some(found) = found.as_ref().filter(|f| f.whole) {
            self.enter(found, false);
            return Ok(None);
        }
        let evidence = self.evidence(dev)?;
        if let Some((number, position)) = evidence.next
            && number == self.number
            && found.is_none()
            && self.kind_of(position.segment) == Some(SegmentKind::Hot)
        {
            // Writes before it were lost, and a segment of its own came next, which does not say
            // where the others go on.
            self.damage_before(position);
            self.cursor = position;
            return Ok(None);
        }
        if evidence.durable_through < self.number {
            self.ended = true;
            return Ok(None);
        }
        if let Some(found) = &found {
            // The evidence was read into the same buffer.
            self.load(dev, found.position)?;
            self.enter(found, true);
            return Ok(None);
        }
        let lost_to = match evidence.next {
            Some((number, position)) if number <= evidence.durable_through + 1 => {
                if self.kind_of(position.segment) == Some(SegmentKind::Hot) {
                    self.damage_before(position);
                    let begin = self.cursor;
                    self.cursor = position;
                    return Ok(Some(self.lost(begin, number)));
                }
                // What is lost lies before the next write beside it.
                if let Some((_, position)) = evidence.next_hot {
                    self.damage_before(position);
                    let begin = self.cursor;
                    self.cursor = position;
                    return Ok(Some(self.lost(begin, number)));
                }
                number
            }
            _ => evidence.durable_through + 1,
        };
        let begin = self.cursor;
        if evidence.next.is_none() {
            self.keep_rest();
        }
        Ok(Some(self.lost(begin, lost_to)))
    }

    /// Notes the segments of writes that were not found: those from `begin` to the cursor, and
    /// those that one of the writes began.
    fn damaged_between(&mut self, begin: SegmentId, damage: &Damage) {
        let passed = self.segments.range(begin..=self.cursor.segment);
        let hot = passed.filter(|(_, k)| k.header.kind == SegmentKind::Hot).map(|(id, _)| *id);
        let writes = damage.first_write..damage.end_write;
        let begun = self.begins.iter().filter(|((_, first), _)| writes.contains(first));
        self.report.damaged_segments.extend(hot.chain(begun.map(|(_, id)| *id)));
    }

    /// Marks the writes up to `end_write` as lost.
    fn lost(&mut self, begin: Position, end_write: u64) -> Damage {
        let first_write = self.number;
        self.number = end_write;
        self.skip = 0;
        let same = self.cursor.segment == begin.segment && self.cursor.offset > begin.offset;
        let len = if same { (self.cursor.offset - begin.offset) as u64 } else { 0 };
        Damage { position: begin, len, first_write, end_write }
    }

    /// Segments between the cursor and `position` hold writes that are lost: they stay.
    fn damage_before(&mut self, position: Position) {
        for (_, known) in self.segments.range_mut(self.cursor.segment..position.segment) {
            known.last_write = known.last_write.max(self.number);
        }
    }

    /// All that follows in this generation is lost, and was durable: it is not discarded.
    fn keep_rest(&mut self) {
        let generation = self.generation_of(self.number);
        let last = self.segments.iter().rev().find(|(_, k)| {
            k.header.generation == generation && k.header.kind == SegmentKind::Hot && !k.discarded
        });
        if let Some((id, known)) = last
            && *id > self.cursor.segment
        {
            self.cursor = Position { segment: *id, offset: known.end };
        }
    }

    /// Makes a write the one that `next` is in.
    fn enter(&mut self, found: &Found, salvage: bool) {
        let Found { position, envelope, .. } = found;
        let own = self.kind_of(position.segment) == Some(SegmentKind::Own);
        let base = if own { 0 } else { position.offset & !(self.options.block_bytes - 1) };
        self.in_write = Some(InWrite {
            number: envelope.number,
            segment: position.segment,
            offset: position.offset,
            at: (position.offset - base) as usize,
            length: envelope.length as usize,
            walk: RecordWalk::new(salvage),
            skip: std::mem::take(&mut self.skip),
            salvage,
        });
        let end = position.offset + envelope.padded;
        if let Some(known) = self.segments.get_mut(&position.segment) {
            known.last_write = envelope.number;
            self.touched.insert(known.slot);
        }
        if !own {
            self.cursor = Position { segment: position.segment, offset: end };
        }
        self.number = envelope.number + 1;
        self.report.writes += 1;
        self.report.bytes += envelope.padded as u64;
    }

    fn kind_of(&self, segment: SegmentId) -> Option<SegmentKind> {
        self.segments.get(&segment).map(|k| k.header.kind)
    }

    /// The generation that a write of this number belongs to.
    fn generation_of(&self, number: u64) -> u32 {
        let ends = &self.superblock.ends;
        ends.iter()
            .find(|end| end.write > number)
            .map_or(self.superblock.generation, |end| end.generation)
    }

    /// Looks for the next write where it can be.
    fn find<D: Blocking>(&mut self, dev: &mut D) -> Result<Option<Found>, OpenError> {
        let generation = self.generation_of(self.number);
        let number = self.number;
        let Position { segment, offset } = self.cursor;
        let begins = self.begins.get(&(generation, number));
        let begins = begins.map(|id| first_write(&self.options, *id));
        let mut here = [None; 2];
        if let Some(known) = self.segments.get(&segment)
            && known.header.kind == SegmentKind::Hot
            && known.header.generation == generation
        {
            let next = (offset | (self.options.block_bytes - 1)).saturating_add(1);
            here = [offset, next].map(|offset| {
                let inside = offset < known.end;
                inside.then_some(Position { segment, offset })
            });
        }
        let places = [begins, here[0], here[1]].into_iter().flatten();
        for position in places {
            let found = self.envelope_at(dev, position, generation)?;
            if let Some(envelope) = found.filter(|e| e.number == number) {
                let at = self.offset_in_loaded(position);
                let length = envelope.length as usize;
                let write = self.loaded_bytes().get(at..at + length);
                let whole = write.is_some_and(|w| write_is_whole(&envelope, w));
                if !whole && let Some(what) = write.and_then(|w| unknown_frame(&envelope, w)) {
                    return Err(unknown_at(position, &what));
                }
                return Ok(Some(Found { position, envelope, whole }));
            }
        }
        Ok(None)
    }

    /// Reads on behind the cursor for later writes of the generation, and what they say.
    fn evidence<D: Blocking>(&mut self, dev: &mut D) -> Result<Evidence, OpenError> {
        let generation = self.generation_of(self.number);
        let ended = self.end_of(generation).map(|end| end.write - 1);
        let mark = ended.unwrap_or(self.superblock.durable_through);
        let mut evidence = Evidence { durable_through: mark, next: None, next_hot: None };
        let cursor = self.cursor;
        let later: Vec<(SegmentId, SegmentKind, u32)> = self
            .segments
            .iter()
            .filter(|(id, k)| {
                k.header.generation == generation
                    && !k.discarded
                    && match k.header.kind {
                        SegmentKind::Hot => **id >= cursor.segment,
                        SegmentKind::Own => k.header.first_write > self.number,
                        SegmentKind::Cold | SegmentKind::ColdOwn => false,
                    }
            })
            .map(|(id, k)| (*id, k.header.kind, k.end))
            .collect();
        for (id, kind, end) in later {
            let mut at = first_write(&self.options, id);
            if id == cursor.segment {
                at.offset = at.offset.max(cursor.offset);
            }
            while at.offset < end {
                let step = match self.envelope_at(dev, at, generation)? {
                    Some(found) => {
                        self.weigh(&mut evidence, &found, at);
                        found.padded.max(self.options.device_block_bytes)
                    }
                    None => self.options.device_block_bytes,
                };
                at.offset = at.offset.saturating_add(step);
                if kind == SegmentKind::Own {
                    break;
                }
            }
        }
        if let Some(last) = ended {
            // Decided once, and told the same way ever after.
            evidence.durable_through = evidence.durable_through.min(last);
        }
        Ok(evidence)
    }

    fn weigh(&self, evidence: &mut Evidence, found: &Envelope, at: Position) {
        if found.number < self.number {
            return;
        }
        evidence.durable_through = evidence.durable_through.max(found.durable_through);
        if evidence.next.is_none_or(|(number, _)| found.number < number) {
            evidence.next = Some((found.number, at));
        }
        let hot = self.kind_of(at.segment) == Some(SegmentKind::Hot);
        if hot && evidence.next_hot.is_none_or(|(number, _)| found.number < number) {
            evidence.next_hot = Some((found.number, at));
        }
    }

    /// The envelope at a place, if one of this generation lies there whole; an error if one lies
    /// there that this release does not know. Loads its block.
    fn envelope_at<D: Blocking>(
        &mut self,
        dev: &mut D,
        position: Position,
        generation: u32,
    ) -> Result<Option<Envelope>, OpenError> {
        self.load(dev, position)?;
        let Some(known) = self.segments.get(&position.segment) else { return Ok(None) };
        let at = self.offset_in_loaded(position);
        let bytes = self.loaded_bytes();
        let Some(rest) = bytes.get(at..) else { return Ok(None) };
        let key = known.header.key;
        if let Some(what) = Envelope::unknown(rest, key) {
            return Err(unknown_at(position, &what));
        }
        let envelope = Envelope::decode(rest, key);
        let own = (known.header.kind == SegmentKind::Own).then_some(known.header.first_write);
        Ok(envelope.filter(|e| {
            (e.segment, e.offset, e.generation) == (position.segment, position.offset, generation)
                && e.number <= WRITES_MAX
                && own.is_none_or(|number| e.number == number)
                && e.durable_through < e.number
                && e.length >= ENVELOPE_BYTES
                && e.length <= e.padded
                && e.padded as usize <= rest.len()
        }))
    }

    fn offset_in_loaded(&self, position: Position) -> usize {
        match self.loaded {
            Some((_, base)) => (position.offset - base) as usize,
            None => position.offset as usize,
        }
    }

    fn loaded_bytes(&self) -> &[u8] {
        match (&self.loaded, &self.own_buf) {
            (None, Some(own)) => own,
            _ => &self.buf,
        }
    }

    /// Reads the block of a position (or all of a segment of its own) unless it is loaded.
    fn load<D: Blocking>(&mut self, dev: &mut D, position: Position) -> Result<(), OpenError> {
        let Some(known) = self.segments.get(&position.segment) else { return Ok(()) };
        let file = File::Segment(known.slot);
        if known.header.kind == SegmentKind::Own {
            let mut own = IoBuf::zeroed((known.end as usize).max(1));
            dev.read_at(file, 0, &mut own)?;
            self.own_buf = Some(own);
            self.loaded = None;
            return Ok(());
        }
        self.own_buf = None;
        let base = position.offset & !(self.options.block_bytes - 1);
        if self.loaded != Some((position.segment, base)) {
            self.loaded = None;
            let got = dev.read_at(file, base as u64, &mut self.buf)?;
            self.buf[got..].fill(0);
            self.loaded = Some((position.segment, base));
        }
        Ok(())
    }
}

fn unknown_at(position: Position, what: &str) -> OpenError {
    let Position { segment, offset } = position;
    OpenError::Unknown(format!("in segment {} at {offset} lies {what}", segment.0))
}
