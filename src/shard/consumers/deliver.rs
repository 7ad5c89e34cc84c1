//! Driving consumers: what they want is fetched and sent.

use corelane_storage::index::{Lookup, Scan};
use corelane_storage::log::{Read, ReadHint, ReadId};
use corelane_storage::record::RecordIn;

use crate::api::ack::AckKind;
use crate::consumer::{AckSubject, Delivery, Dispatch, Meta, Origin, Outcome, Sink, Want, status};
use crate::shard::budget::Handler;
use crate::shard::effects::{Outgoing, ShardEffects};
use crate::shard::groups::pending::Change;
use crate::shard::groups::{GROUPS, GroupName};
use crate::shard::mailbox::Requester;
use crate::shard::records::kind;
use crate::shard::request::{ANY_READ, Handled, Request};
use crate::shard::state::Shard;
use crate::shard::state::consumers::ShardConsumer;
use crate::shard::state::memory_store::MemoryStore;
use crate::shard::state::queues::DeviceQueues;
use crate::shard::state::stream::ShardStream;
use crate::shard::streams::read::Fetched;
use crate::types::{ConsumerId, CreditKind, ShardId, StreamId, Timestamp, WallTime};

/// Messages that one drive sends at most.
const DRIVE_MAX: usize = 512;
/// Consumers whose timers fire in one step at most.
const TICKS_MAX: usize = 1024;
/// Bytes that one drive sends at most.
const DRIVE_BYTES_MAX: usize = 1 << 20;
/// Index entries that one drive visits at most.
const VISITS_MAX: u32 = 8_192;
/// How soon a consumer tries again to read what could not be read, in nanoseconds.
const RETRY: i64 = 1_000_000_000;
/// Deltas of a group that may wait to be applied: what happens meanwhile makes the next.
const DELTAS_IN_FLIGHT: usize = 2;

/// What a drive sends, straight into the effects.
struct Emit<'a, O> {
    out: &'a mut O,
    held: &'a mut Vec<Requester>,
    shard: ShardId,
    message: MessageView<'a>,
    deleted: &'a mut bool,
    head: &'a mut Vec<u8>,
}

/// The message that is being delivered.
#[derive(Clone, Copy, Default)]
struct MessageView<'a> {
    subject: &'a [u8],
    headers: &'a [u8],
    payload: &'a [u8],
}

impl<O: ShardEffects> Sink for Emit<'_, O> {
    fn message(&mut self, d: &Dispatch<'_>) {
        let m = self.message;
        let (headers, payload) = if d.headers_only {
            self.head.clear();
            status::headers_only(self.head, m.headers, m.payload.len() as u32);
            (self.head.as_slice(), &[][..])
        } else {
            (m.headers, m.payload)
        };
        self.out.send(&Outgoing {
            origin: d.origin,
            to: d.to,
            shown: m.subject,
            reply: d.reply,
            headers,
            payload,
        });
    }

    fn status(&mut self, to: &[u8], origin: Option<Origin>, head: &[u8], reply: &[u8]) {
        self.out.send(&Outgoing { origin, to, shown: &[], reply, headers: head, payload: &[] });
    }

    fn ack_reply(&mut self, to: &[u8], origin: Origin) {
        // The request has its credit still.
        let (kind, shard) = (CreditKind::Consume, self.shard);
        self.held.push(Requester { origin, reply: to.into(), credit: 0, kind, shard });
    }

    fn listens(&mut self, inbox: &[u8]) -> bool {
        self.out.has_interest(inbox, b"")
    }

    fn auto_delete(&mut self) {
        *self.deleted = true;
    }
}

impl Shard {
    /// Calls into a consumer's delivering side with a sink. `None` if it has none.
    pub(in crate::shard) fn with_consumer<R>(
        &mut self,
        slot: usize,
        at: usize,
        out: &mut impl ShardEffects,
        act: impl FnOnce(&mut Delivery, &mut dyn Sink) -> R,
    ) -> Option<R> {
        let ShardStream { consumers, .. } = &mut self.streams[slot];
        let counted = consumers.groups.pending(consumers.slab[at].handle);
        let ShardConsumer { delivery, held, .. } = &mut consumers.slab[at];
        let delivery = delivery.as_mut()?;
        delivery.set_counted(counted);
        let mut deleted = false;
        let mut sink = Emit {
            out,
            held,
            shard: self.id,
            message: MessageView::default(),
            deleted: &mut deleted,
            head: &mut self.scratch,
        };
        let result = act(delivery, &mut sink);
        self.after_consumer(slot, at);
        if deleted {
            self.consumers
                .expired
                .push((self.streams[slot].id, self.streams[slot].consumers.slab[at].id));
        }
        Some(result)
    }

    /// After anything that may have changed a consumer.
    pub(in crate::shard) fn after_consumer(&mut self, slot: usize, at: usize) {
        let group = self.streams[slot].group();
        let ShardStream { consumers, id, .. } = &mut self.streams[slot];
        let stream = *id;
        let c = &mut consumers.slab[at];
        let Some(delivery) = &mut c.delivery else { return };
        consumers.groups.moved(c.handle, delivery.progress());
        consumers.groups.watch(c.handle, delivery.watched());
        if delivery.is_caught_up() {
            consumers.groups.park(c.handle);
        }
        let deadline = delivery.deadline().into_iter().chain(c.retry_at).min();
        if c.owes() {
            self.consumers.deltas.of(group).dirty.insert((stream, c.id));
        }
        if deadline != c.timer {
            if let Some(old) = c.timer {
                self.consumers.timers.remove(&(old, stream, c.id));
            }
            if let Some(new) = deadline {
                self.consumers.timers.insert((new, stream, c.id));
            }
            c.timer = deadline;
        }
    }

    pub(in crate::shard) fn consumers_deadline(&self) -> Option<Timestamp> {
        self.consumers.timers.first().map(|(at, ..)| *at)
    }

    /// Ticks those whose time has come, and drives those that can go on.
    pub(in crate::shard) fn serve_consumers(
        &mut self,
        now: Timestamp,
        out: &mut impl ShardEffects,
    ) {
        self.turn.routed_before(out.routed());
        self.tick_consumers(now, out);
        let mut active = std::mem::take(&mut self.consumers.active).into_iter();
        while self.turn.is_left()
            && out.has_room()
            && let Some(slot) = active.next()
        {
            self.serve_stream(now, slot, out);
        }
        // Those that were not reached are first in the next turn.
        let behind = std::mem::replace(&mut self.consumers.active, active.collect());
        self.consumers.active.extend(behind);
        for (stream, id) in std::mem::take(&mut self.consumers.expired) {
            self.begin_delete_consumer(stream, id, None, out);
        }
    }

    /// Ticks the consumers that are due. One that is due again at once waits for the next step.
    fn tick_consumers(&mut self, now: Timestamp, out: &mut impl ShardEffects) {
        let due = self.consumers.timers.iter().take_while(|(at, ..)| *at <= now).take(TICKS_MAX);
        for (at, stream, id) in due.copied().collect::<Vec<_>>() {
            if !self.turn.is_left() {
                break;
            }
            self.consumers.timers.remove(&(at, stream, id));
            self.turn.consumer();
            let Some((slot, c)) = self.locate(stream, id) else { continue };
            let woken = &mut self.streams[slot].consumers.slab[c];
            woken.timer = None;
            // It is driven below, and must not find the same time due again.
            woken.retry_at = woken.retry_at.filter(|&at| at > now);
            self.with_consumer(slot, c, out, |consumer, sink| consumer.tick(now, sink));
            self.wake_consumer(slot, c);
        }
    }

    /// Drives the consumers of a stream that can go on, as far as the turn has time.
    fn serve_stream(&mut self, now: Timestamp, slot: usize, out: &mut impl ShardEffects) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        stream.active = false;
        let mut ready = std::mem::take(&mut stream.consumers.ready).into_iter();
        while self.turn.is_left()
            && out.has_room()
            && let Some(at) = ready.next()
        {
            let Some(c) = self.streams[slot].consumers.slab.get_mut(at) else { continue };
            c.queued = false;
            self.turn.consumer();
            let waits = c.blocked.is_some() || c.retry_at.is_some_and(|at| at > now);
            if !waits && self.drive(now, slot, at, out) {
                self.wake_consumer(slot, at);
            }
        }
        let left: Vec<usize> = ready.collect();
        if !left.is_empty() {
            let consumers = &mut self.streams[slot].consumers;
            let behind = std::mem::replace(&mut consumers.ready, left);
            consumers.ready.extend(behind);
            self.mark_active(slot);
        }
    }

    /// Puts a consumer into the list of those to be driven.
    pub(in crate::shard) fn wake_consumer(&mut self, slot: usize, at: usize) {
        self.streams[slot].consumers.queue(at);
        self.mark_active(slot);
    }

    pub(in crate::shard) fn locate(
        &self,
        stream: StreamId,
        id: ConsumerId,
    ) -> Option<(usize, usize)> {
        let slot = *self.slots.get(&stream)?;
        Some((slot, *self.streams[slot].consumers.by_id.get(&id)?))
    }

    /// Sends what a consumer wants. True if it would go on at once.
    fn drive(
        &mut self,
        now: Timestamp,
        slot: usize,
        at: usize,
        out: &mut impl ShardEffects,
    ) -> bool {
        let consumers = &mut self.streams[slot].consumers;
        let counted = consumers.groups.pending(consumers.slab[at].handle);
        let Some(delivery) = &mut consumers.slab[at].delivery else { return false };
        delivery.set_counted(counted);
        let before = self.tally.work;
        if !self.may_deliver(now, slot, at, out) {
            return false;
        }
        let pressure = out.pressure();
        let (mut visits, mut bytes) = (VISITS_MAX, 0);
        let mut more = false;
        for sent in 0.. {
            let is_over = sent == DRIVE_MAX || bytes >= DRIVE_BYTES_MAX;
            let has_room = out.has_room() && out.pressure() == pressure;
            if is_over || !self.turn.is_left() || !has_room {
                more = true;
                break;
            }
            match self.drive_one(now, slot, at, &mut visits, out) {
                Step::Sent(n) => {
                    bytes += n + 1;
                    self.turn.delivered(n, out.routed());
                    self.tally.work.sent += 1;
                }
                Step::Again => {}
                Step::Rest => break,
                Step::More => {
                    more = true;
                    break;
                }
                Step::Fetch(key) => match self.fetch_page(slot, key) {
                    Fetched::Loaded => {}
                    Fetched::Pending(read) => {
                        self.block_consumer(slot, at, read);
                        break;
                    }
                    Fetched::Failed(text) | Fetched::Damaged(text) => {
                        self.retry_later(now, slot, at, &text, out);
                        break;
                    }
                },
                Step::Unreadable(text) => {
                    self.retry_later(now, slot, at, &text, out);
                    break;
                }
                Step::Blocked(read) => {
                    self.block_consumer(slot, at, read);
                    break;
                }
            }
        }
        self.tally.work.visited += u64::from(VISITS_MAX - visits);
        self.turn.visited(VISITS_MAX - visits);
        self.tally.note(Handler::Drive, before);
        if bytes > 0 {
            self.note_load(now);
        }
        if let Some(key) = self.streams[slot].consumers.slab[at].ahead.page.take() {
            self.fetch_page_early(slot, key);
        }
        self.after_consumer(slot, at);
        more
    }

    /// What a consumer needs cannot be read now. Nothing is passed over: it tries again after a
    /// while.
    fn retry_later(
        &mut self,
        now: Timestamp,
        slot: usize,
        at: usize,
        why: &str,
        out: &mut impl ShardEffects,
    ) {
        let c = &mut self.streams[slot].consumers.slab[at];
        c.retry_at = Some(now.plus(RETRY));
        let name = c.name.clone();
        self.complain(slot, format_args!("consumer '{name}' waits: {why}"), out);
    }

    fn block_consumer(&mut self, slot: usize, at: usize, read: ReadId) {
        let stream = &mut self.streams[slot];
        stream.consumers.slab[at].blocked = Some(read);
        self.consumers.blocked.push((read, stream.id, stream.consumers.slab[at].id));
    }

    /// A read is over: consumers that waited for it go on.
    pub(in crate::shard) fn read_is_over(&mut self, read: ReadId) {
        let mut i = 0;
        while i < self.consumers.blocked.len() {
            let (waits, stream, id) = self.consumers.blocked[i];
            if waits != read && waits != ANY_READ {
                i += 1;
                continue;
            }
            self.consumers.blocked.swap_remove(i);
            if let Some((slot, at)) = self.locate(stream, id) {
                self.streams[slot].consumers.slab[at].blocked = None;
                self.wake_consumer(slot, at);
            }
        }
    }

    fn drive_one(
        &mut self,
        now: Timestamp,
        slot: usize,
        at: usize,
        visits: &mut u32,
        out: &mut impl ShardEffects,
    ) -> Step {
        let Shard { id, streams, log, device: DeviceQueues { ops, .. }, scratch, .. } = self;
        let ShardStream { consumers, index, memory, .. } = &mut streams[slot];
        let ShardConsumer { delivery, held, filter, scan_from, ahead, .. } =
            &mut consumers.slab[at];
        let Some(consumer) = delivery else { return Step::Rest };
        let (mut deleted, message) = (false, MessageView::default());
        let (shard, deleted) = (*id, &mut deleted);
        let mut sink = Emit { out, held, shard, message, deleted, head: scratch };
        let (seq, entry, hint) = match consumer.wants(now, &mut sink) {
            Want::Nothing | Want::Wait(_) => return Step::Rest,
            Want::Exactly(seq) => match index.get(seq) {
                Lookup::Found(entry) => (seq, entry, ReadHint::One),
                Lookup::Deleted | Lookup::OutOfRange => {
                    consumer.skip(now, seq);
                    return Step::Again;
                }
                Lookup::NeedPage(key) => return Step::Fetch(key),
            },
            Want::Next { from } => {
                match index.next_matching(filter, from.max(*scan_from), visits) {
                    Scan::Found(seq, entry) if memory.is_some() => (seq, entry, ReadHint::One),
                    Scan::Found(seq, entry) => {
                        let hint = ahead.hint(seq, &entry, (index, filter), (log, ops));
                        (seq, entry, hint)
                    }
                    Scan::End => {
                        *scan_from = index.last_seq() + 1;
                        consumer.exhausted(index.last_seq() + 1);
                        return Step::Again;
                    }
                    Scan::NeedPage(key) => return Step::Fetch(key),
                    Scan::Budget { resume } => {
                        *scan_from = resume;
                        return Step::More;
                    }
                }
            }
        };
        if let Some(memory) = memory {
            return offer_memory(now, consumer, seq, memory, &mut sink);
        }
        match log.read(entry.position, entry.size, hint, ops) {
            Ok(Read::Ready(view)) => {
                let RecordIn::Message(m) = view.content() else {
                    return Step::Unreadable(format!("message {seq} is not where the index says"));
                };
                sink.message =
                    MessageView { subject: m.subject, headers: m.headers, payload: m.payload };
                offer(now, consumer, seq, m.ts, &mut sink)
            }
            Ok(Read::Pending(read)) => Step::Blocked(read),
            Ok(Read::Busy) => Step::Blocked(ANY_READ),
            Err(e) => Step::Unreadable(format!("message {seq} cannot be read: {e}")),
        }
    }

    /// An acknowledgement.
    pub(in crate::shard) fn acknowledge(
        &mut self,
        now: Timestamp,
        stream: StreamId,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        let Some((_, name, ack)) = AckSubject::parse(&r.subject) else { return Ok(()) };
        let Some(&slot) = self.slots.get(&stream) else { return Ok(()) };
        let name = std::str::from_utf8(name).ok();
        let found =
            name.map(|n| self.streams[slot].consumers.find_joined(n)).transpose()?.flatten();
        let taken = found.and_then(|at| {
            let taken = self.with_consumer(slot, at, out, |consumer, sink| {
                consumer.ack(now, &ack, AckKind::parse(&r.payload), &r.reply, r.origin, sink)
            });
            if !r.reply.is_empty() {
                self.hold_credit(slot, at, r);
            }
            taken
        });
        let taken = taken.unwrap_or(false);
        match found {
            Some(at) if taken => self.wake_consumer(slot, at),
            _ => out.no_responders(r.origin, &r.subject, &r.reply),
        }
        Ok(())
    }

    /// The answer to an acknowledgement is held, if there is to be one: so is its credit.
    fn hold_credit(&mut self, slot: usize, at: usize, r: &Request) {
        let held = &mut self.streams[slot].consumers.slab[at].held;
        if let Some(last) = held.last_mut().filter(|h| h.credit == 0 && h.reply == r.reply) {
            last.credit = r.credit.take();
        }
    }

    /// A client's answer to flow control: `$JS.FC.<stream>.<consumer>.<token>`, or with domain and
    /// account in front.
    pub(in crate::shard) fn flow_response(
        &mut self,
        stream: StreamId,
        r: &Request,
        out: &mut impl ShardEffects,
    ) -> Handled {
        let Some(&slot) = self.slots.get(&stream) else { return Ok(()) };
        let name = r.subject.rsplit(|&b| b == b'.').nth(1).unwrap_or_default();
        let name = std::str::from_utf8(name).ok();
        let found =
            name.map(|n| self.streams[slot].consumers.find_joined(n)).transpose()?.flatten();
        let asks = |at: &usize| self.streams[slot].consumers.slab[*at].config.flow_control;
        match found.filter(asks) {
            Some(at) => {
                if let Some(delivery) = &mut self.streams[slot].consumers.slab[at].delivery {
                    delivery.flow_response(&r.subject);
                }
                self.wake_consumer(slot, at);
            }
            None => out.no_responders(r.origin, &r.subject, &r.reply),
        }
        Ok(())
    }

    /// Logs what changed in consumers, gathered while earlier deltas are being flushed. A group
    /// that applies nothing holds up its own consumers alone.
    pub(in crate::shard) fn record_acknowledgements(&mut self) {
        self.consumers.deltas.wait = false;
        for group in GROUPS {
            let deltas = self.consumers.deltas.of(group);
            let is_busy = deltas.in_flight >= DELTAS_IN_FLIGHT && self.lifecycle.stopping.is_none();
            if !deltas.dirty.is_empty() && !is_busy {
                self.record_deltas(group);
            }
        }
    }

    fn record_deltas(&mut self, group: GroupName) {
        let mut without_room = Vec::new();
        for _ in 0..self.consumers.deltas.of(group).dirty.len() {
            let Some((stream, id)) = self.consumers.deltas.of(group).next() else { break };
            if self.lifecycle.stopping.is_none() && !self.turn.may_log() {
                self.consumers.deltas.wait = true;
                break;
            }
            let deltas = self.consumers.deltas.of(group);
            deltas.dirty.remove(&(stream, id));
            deltas.last = Some((stream, id));
            if let Some((slot, at)) = self.locate(stream, id)
                && !self.record_delta(slot, at)
            {
                without_room.push((stream, id));
            }
        }
        self.consumers.deltas.of(group).dirty.extend(without_room);
    }

    /// Logs what one consumer gathered. Without room for it (false) it stays gathered, and the
    /// acknowledgements in it stay unanswered until there is.
    fn record_delta(&mut self, slot: usize, at: usize) -> bool {
        let (stream, group) = (self.streams[slot].id, self.streams[slot].group());
        let c = &mut self.streams[slot].consumers.slab[at];
        let consumer = c.id;
        let Some(delivery) = c.delivery.as_mut().filter(|d| d.is_dirty()) else {
            let requesters = std::mem::take(&mut c.held);
            let change = Change::Acknowledged { requesters, delta: false };
            self.wait_for_appended(group, change);
            return true;
        };
        let body = delivery.delta().to_vec();
        self.turn.delta(body.len());
        if self.append_meta(group, kind::CONSUMER_DELTA, stream.0, consumer.0, &body).is_err() {
            return false;
        }
        let c = &mut self.streams[slot].consumers.slab[at];
        if let Some(delivery) = &mut c.delivery {
            delivery.delta_logged();
        }
        let requesters = std::mem::take(&mut c.held);
        self.consumers.deltas.of(group).in_flight += 1;
        let change = Change::Acknowledged { requesters, delta: true };
        self.wait_for_appended(group, change);
        true
    }

    /// A delta was applied to a consumer's ledger.
    pub(in crate::shard) fn consumer_progressed(&mut self, slot: usize, at: usize) {
        let c = &mut self.streams[slot].consumers.slab[at];
        if let Some(delivery) = &mut c.delivery {
            delivery.applied(&c.ledger);
        }
        if c.has_joined() {
            self.wake_consumer(slot, at);
        }
    }
}

/// What one step of a drive came to.
enum Step {
    /// A message of so many bytes was sent.
    Sent(usize),
    /// Ask again.
    Again,
    /// Nothing more to do now.
    Rest,
    /// More to do, in another turn.
    More,
    /// A page of the index is needed.
    Fetch(corelane_storage::index::PageKey),
    /// A read is needed.
    Blocked(ReadId),
    /// A read has failed.
    Unreadable(String),
}

fn offer_memory<O: ShardEffects>(
    now: Timestamp,
    consumer: &mut Delivery,
    seq: u64,
    memory: &MemoryStore,
    sink: &mut Emit<'_, O>,
) -> Step {
    let Some(m) = memory.get(seq) else { return Step::Rest };
    let mut sink = Emit {
        out: &mut *sink.out,
        held: &mut *sink.held,
        shard: sink.shard,
        message: MessageView { subject: m.subject(), headers: m.headers(), payload: m.payload() },
        deleted: &mut *sink.deleted,
        head: &mut *sink.head,
    };
    offer(now, consumer, seq, m.ts, &mut sink)
}

fn offer<O: ShardEffects>(
    now: Timestamp,
    consumer: &mut Delivery,
    seq: u64,
    ts: i64,
    sink: &mut Emit<'_, O>,
) -> Step {
    let m = sink.message;
    let meta = Meta {
        subject_bytes: m.subject.len() as u32,
        header_bytes: m.headers.len() as u32,
        payload_bytes: m.payload.len() as u32,
        stored: WallTime(ts),
    };
    match consumer.deliver(now, seq, &meta, sink) {
        Outcome::Sent => Step::Sent(m.headers.len() + m.payload.len()),
        Outcome::Passed | Outcome::Unplaced => Step::Again,
        Outcome::Wait(_) => Step::Rest,
    }
}
