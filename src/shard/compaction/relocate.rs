//! Reclaiming: what still lives in mostly dead segments moves to cold ones, so that the segments
//! can be freed.
//!
//! A record is copied, the copy made durable, and then the index points to it; the source counts as
//! live until a
//! checkpoint that knows the new place is durable. Nothing is swapped while a checkpoint is being
//! written, so each
//! checkpoint has the places of its freeze. What lives and is not a message or an index page
//! (states, configurations,
//! catalogue) is not copied: the next checkpoint writes it again.

use corelane_storage::index::{Lookup, PageKey, PageKind, Relocated, Shrunk};
use corelane_storage::log::{ReadId, ScanStep};
use corelane_storage::record::{MessageIn, MetaIn, RecordIn};

use crate::shard::budget::{Background, Handler};
use crate::shard::records::kind;
use crate::shard::request::ANY_READ;
use crate::shard::state::Shard;
use crate::shard::state::compaction::{Relocation, What};
use crate::shard::streams::read::Fetched;
use crate::types::{ConsumerId, Position, SegmentId, StreamId, Timestamp};

/// A small piece of copying: what it cost, in bytes, or `Err` to stop for now, perhaps for so many
/// nanoseconds.
pub(in crate::shard) type CopyStep = Result<usize, Option<i64>>;

/// A segment of which at most so many percent live is worth copying.
pub(in crate::shard) const LIVE_PERCENT: u64 = 50;
/// Records that one step looks at.
const STEP_RECORDS: usize = 128;
/// Index entries that are visited in the time that a record takes.
const RECORD_ENTRIES: u32 = 4;
/// Bytes that one step copies.
const STEP_BYTES: usize = 64 << 10;
/// Bytes copied per second.
const RATE: i64 = 64 << 20;
/// Nothing is copied while more than this waits for the disk.
const UNFLUSHED_MAX: usize = 6 << 20;
/// How soon to try again without space, in nanoseconds.
pub(in crate::shard) const RETRY: i64 = 1_000_000_000;

/// What is to be done with a record.
enum Found {
    Copy(What, u32),
    Leave,
    Wait(ReadId),
}

impl Shard {
    pub(in crate::shard) fn reclaim_deadline(&self) -> Option<Timestamp> {
        let r = &self.reclaim;
        let waits = r.reading.is_some() || r.is_full();
        (r.round && !waits && self.log.unflushed_bytes() < UNFLUSHED_MAX).then_some(r.not_before)
    }

    /// Whether there are copies that the index could point to.
    pub(in crate::shard) fn can_swap(&self) -> bool {
        let durable = self.log.cold_durable();
        self.reclaim.copies.front().is_some_and(|c| c.lsn <= durable)
            && self.reclaim.reading.is_none()
            && !self.checkpoint.is_writing()
    }

    /// Copies a little, and lets the index point to what is durable.
    pub(in crate::shard) fn step_reclaim(&mut self, now: Timestamp) {
        let copies = self.reclaim_deadline().is_some_and(|at| at <= now);
        if !(copies || self.can_swap()) || !self.turn.may_step(Background::Relocation) {
            return;
        }
        if self.can_swap() {
            self.swap_durable();
            self.turn.visited(STEP_RECORDS as u32 * RECORD_ENTRIES);
        }
        if self.reclaim_deadline().is_none_or(|at| at > now) {
            return;
        }
        let enough = |shard: &Self| shard.reclaim.is_full() || !shard.reclaim.round;
        self.reclaim.not_before = self.paced(now, Self::reclaim_one, enough);
    }

    /// Copies in small pieces until that is enough for one turn. Answers when it may go on, so that
    /// no more than `RATE` is copied.
    pub(in crate::shard) fn paced(
        &mut self,
        now: Timestamp,
        one: impl Fn(&mut Self) -> CopyStep,
        enough: impl Fn(&Self) -> bool,
    ) -> Timestamp {
        let before = self.tally.work;
        let (mut bytes, mut pause) = (0, None);
        for _ in 0..STEP_RECORDS {
            match one(self) {
                Ok(n) => {
                    bytes += n;
                    self.tally.work.written += n as u64;
                }
                Err(until) => {
                    pause = until;
                    break;
                }
            }
            if bytes >= STEP_BYTES || enough(self) {
                break;
            }
        }
        self.tally.note(Handler::Copy, before);
        self.turn.copied(bytes as u64);
        self.turn.visited(STEP_RECORDS as u32 * RECORD_ENTRIES);
        let pace = bytes as i64 * (1_000_000_000 / RATE).max(1);
        now.plus(pace.max(pause.unwrap_or(0)))
    }

    /// Looks at the next record. Answers the bytes copied; `Err` to stop for now, perhaps for so
    /// long.
    fn reclaim_one(&mut self) -> CopyStep {
        if let Some((stream, key)) = self.reclaim.page
            && let Some(slot) = self.slots.get(&stream).copied()
            && let Fetched::Pending(read) = self.fetch_page(slot, key)
        {
            self.reclaim.reading = Some(read);
            return Err(None);
        }
        self.reclaim.page = None;
        let Some(scan) = self.reclaim.scan.clone() else {
            self.next_victim();
            return Ok(0);
        };
        let mut next = scan.clone();
        let step = self.log.scan_next(&mut next, &mut self.device.ops);
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        let record = match step {
            Ok(ScanStep::Record { position, record, .. }) => {
                Some((position, Shape::of(&record.content(), &mut body)))
            }
            Ok(ScanStep::Damaged(_) | ScanStep::More) => None,
            // What was skipped on the way to the read is not looked at again.
            Ok(step @ (ScanStep::Pending(_) | ScanStep::Busy)) => {
                let read = if let ScanStep::Pending(read) = step { read } else { ANY_READ };
                self.reclaim.reading = Some(read);
                self.reclaim.scan = Some(next);
                self.scratch = body;
                return Err(None);
            }
            Ok(ScanStep::End) | Err(_) => {
                self.scratch = body;
                self.victim_is_done(scan.segment());
                return Ok(0);
            }
        };
        let done = match &record {
            Some((position, shape)) => self.reclaim_record(*position, shape, &body),
            None => Ok(0),
        };
        self.scratch = body;
        if done.is_ok() {
            self.reclaim.scan = Some(next);
        }
        done
    }

    fn next_victim(&mut self) {
        let r = &mut self.reclaim;
        let found = self.log.mostly_dead(r.after, LIVE_PERCENT, 16);
        let Some(last) = found.last() else {
            r.round = false;
            return;
        };
        let fresh = found.iter().find(|s| r.tried.get(&s.segment) != Some(&s.live));
        r.after = fresh.unwrap_or(last).segment;
        r.scan = fresh.map(|s| self.log.scan_segment(s.segment));
    }

    fn victim_is_done(&mut self, segment: SegmentId) {
        self.reclaim.scan = None;
        let left = self.log.segments().find(|s| s.segment == segment).map_or(0, |s| s.live);
        self.reclaim.tried.retain(|s, _| self.log.segments().any(|found| found.segment == *s));
        self.reclaim.tried.insert(segment, left);
        // The next checkpoint frees it.
        self.checkpoint.relocated();
    }

    fn reclaim_record(
        &mut self,
        from: Position,
        shape: &Shape,
        body: &[u8],
    ) -> Result<usize, Option<i64>> {
        let (what, live) = match self.judge(from, shape) {
            Found::Leave => return Ok(0),
            Found::Wait(read) => {
                self.reclaim.reading = Some(read);
                return Err(None);
            }
            Found::Copy(what, live) => (what, live),
        };
        let appended =
            self.log.append_cold(&shape.record(body), Some(live)).map_err(|_| Some(RETRY))?;
        let (lsn, to) = (appended.lsn, appended.position);
        self.reclaim.copied(Relocation { lsn, what, from, to, live }, appended.len as usize);
        Ok(appended.len as usize)
    }

    /// Whether a record lives, and where.
    fn judge(&mut self, at: Position, shape: &Shape) -> Found {
        let stream = shape.stream();
        let slot = self.slots.get(&stream).copied();
        match *shape {
            Shape::Message { seq, .. } => {
                let Some(slot) = slot else { return Found::Leave };
                loop {
                    match self.streams[slot].index.get(seq) {
                        Lookup::Found(e) if e.position == at => {
                            return Found::Copy(What::Message(stream, seq), e.size);
                        }
                        Lookup::NeedPage(key) => match self.fetch_page(slot, key) {
                            Fetched::Loaded => {}
                            Fetched::Pending(read) => {
                                self.reclaim.page = Some((stream, key));
                                return Found::Wait(read);
                            }
                            Fetched::Failed(_) | Fetched::Damaged(_) => return Found::Leave,
                        },
                        _ => return Found::Leave,
                    }
                }
            }
            Shape::Meta { kind: kind::PAGE, id, .. } => {
                let key = PageKind::from_code((id >> 56) as u8)
                    .map(|kind| PageKey { kind, number: id & 0x00ff_ffff_ffff_ffff });
                let (Some(slot), Some(key)) = (slot, key) else { return Found::Leave };
                self.judge_page(at, stream, slot, key)
            }
            Shape::Meta { kind, id, .. } => {
                self.write_again(at, kind, slot, id);
                Found::Leave
            }
        }
    }

    /// A page of the index: a copy of it, or, if most of it is dead, a smaller one that the next
    /// checkpoint writes.
    fn judge_page(&mut self, at: Position, stream: StreamId, slot: usize, key: PageKey) -> Found {
        let location = self.streams[slot].index.location(key).filter(|l| l.position == at);
        let Some(location) = location else { return Found::Leave };
        let copy = Found::Copy(What::Page(stream, key), location.len);
        loop {
            match self.streams[slot].index.shrink_stored(key, location.len) {
                Shrunk::Not => return copy,
                Shrunk::Done => return Found::Leave,
                Shrunk::NeedPage(key) => match self.fetch_page(slot, key) {
                    Fetched::Loaded => {}
                    Fetched::Pending(read) => {
                        self.reclaim.page = Some((stream, key));
                        return Found::Wait(read);
                    }
                    Fetched::Failed(_) | Fetched::Damaged(_) => return copy,
                },
            }
        }
    }

    /// What the next checkpoint must write again because it lies here.
    fn write_again(&mut self, at: Position, kind: u16, slot: Option<usize>, id: u64) {
        match (kind, slot) {
            (kind::CATALOGUE_STATE, _) => self.checkpoint.rewrite_catalogue(at),
            (kind::CONSUMER_STATE, Some(slot)) => {
                let consumers = &mut self.streams[slot].consumers;
                let found = consumers.by_id.get(&ConsumerId(id));
                if let Some(c) = found.and_then(|&c| consumers.slab.get_mut(c)) {
                    c.checkpointed.changed |=
                        c.checkpointed.location.is_some_and(|l| l.position == at);
                }
            }
            (kind::STREAM_STATE | kind::STREAM_CONFIG | kind::DEDUPE, Some(slot)) => {
                self.streams[slot].checkpointed.rewrite(at);
            }
            _ => {}
        }
    }

    /// Pages that were changed stay in memory until a checkpoint has written them.
    fn note_changed_page(&mut self, stream: StreamId, seq: u64) {
        let page = (stream, PageKey::of_sequence(seq).number);
        if self.reclaim.swapped != page {
            self.reclaim.swapped = page;
            self.checkpoint.wanted |= self.sort.page_changed();
        }
    }

    /// Lets the index point to the copies that are durable.
    fn swap_durable(&mut self) {
        let durable = self.log.cold_durable();
        for _ in 0..STEP_RECORDS {
            let Some(copy) = self.reclaim.copies.front().filter(|c| c.lsn <= durable) else {
                break;
            };
            let (what, from, to, live) = (copy.what, copy.from, copy.to, copy.live);
            let moved = match what {
                What::Message(stream, seq) => match self.slots.get(&stream).copied() {
                    None => false,
                    Some(slot) => match self.streams[slot].index.relocate(seq, from, to) {
                        Relocated::Moved => {
                            self.reclaim.relocated += 1;
                            self.note_changed_page(stream, seq);
                            true
                        }
                        Relocated::NotThere => false,
                        Relocated::NeedPage(key) => match self.fetch_page(slot, key) {
                            Fetched::Loaded => continue,
                            // Asked for again when there is something else to do.
                            Fetched::Pending(read) => {
                                self.reclaim.reading = Some(read);
                                break;
                            }
                            Fetched::Failed(_) | Fetched::Damaged(_) => false,
                        },
                    },
                },
                What::Page(stream, key) => match self.slots.get(&stream).copied() {
                    None => false,
                    Some(slot) => self.streams[slot].index.page_moved(key, from, to),
                },
            };
            if moved {
                self.reclaim.moved.push((from.segment, live));
            } else {
                self.log.mark_dead(to.segment, live);
            }
            self.reclaim.copies.pop_front();
            if self.reclaim.copies.is_empty() {
                self.reclaim.copied = 0;
            }
            self.checkpoint.relocated();
        }
    }
}

/// A record without its bytes.
#[derive(Clone, Copy)]
enum Shape {
    Message { stream: StreamId, seq: u64, ts: i64, subject: usize, headers: usize },
    Meta { kind: u16, stream: StreamId, id: u64 },
}

impl Shape {
    /// The shape of a record, whose bytes go to `out`.
    fn of(record: &RecordIn<'_>, out: &mut Vec<u8>) -> Shape {
        match record {
            RecordIn::Message(m) => {
                out.extend_from_slice(m.subject);
                out.extend_from_slice(m.headers);
                out.extend_from_slice(m.payload);
                let (subject, headers) = (m.subject.len(), m.headers.len());
                Shape::Message { stream: m.stream, seq: m.seq, ts: m.ts, subject, headers }
            }
            RecordIn::Meta(m) => {
                out.extend_from_slice(m.body);
                Shape::Meta { kind: m.kind, stream: StreamId(m.stream), id: m.id }
            }
        }
    }

    fn stream(&self) -> StreamId {
        match *self {
            Shape::Message { stream, .. } | Shape::Meta { stream, .. } => stream,
        }
    }

    /// The record again, relocated.
    fn record<'a>(&self, bytes: &'a [u8]) -> RecordIn<'a> {
        match *self {
            Shape::Message { stream, seq, ts, subject, headers } => {
                let (subject, rest) = bytes.split_at(subject);
                let (headers, payload) = rest.split_at(headers);
                let relocated = true;
                RecordIn::Message(MessageIn {
                    stream,
                    seq,
                    ts,
                    subject,
                    headers,
                    payload,
                    relocated,
                })
            }
            Shape::Meta { kind, stream, id } => {
                RecordIn::Meta(MetaIn { kind, stream: stream.0, id, body: bytes, relocated: true })
            }
        }
    }
}
