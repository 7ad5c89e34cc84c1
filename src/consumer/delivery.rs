//! The delivering side of a consumer, and the drive that turns wishes into deliveries.
//!
//! It exists where the consumer's group is led, is built from the [`Ledger`], and may be dropped at
//! any moment: the ledger is then what the log says, and nothing that was not in the log was
//! answered. Its view is the ledger as it will be once all that was gathered for the log is
//! applied; it decides against that.

use super::ack_subject::AckSubject;
use super::delta::Delta;
use super::ledger::{Ledger, Op};
use super::push::Push;
use super::settings::{AckPolicy, ConsumerSettings, Mode, ReplayPolicy, SEQ_AHEAD_MAX};
use super::sink::{Dispatch, Sink};
use super::status::{self, Closing};
use super::waiting::{NEVER, Waiting};
use crate::types::{Origin, Timestamp, WallTime};

/// A gap below this is not kept by `replay: original`.
const REPLAY_GAP_NS_MIN: i64 = 1_000_000;

/// What is gathered for a log that takes nothing, in bytes, before acknowledgements are left
/// unanswered.
const DELTA_BYTES_MAX: usize = 1 << 20;

/// What the consumer wants from its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Nothing, until something happens to it.
    Nothing,
    /// Nothing before this time, which [`Delivery::deadline`] names too.
    Wait(Timestamp),
    /// This message: one that is delivered again, or a member of the start set. If it is gone, say
    /// `skip`.
    Exactly(u64),
    /// The first matching message at or after this sequence. If there is none, say `exhausted`.
    Next {
        /// The stream sequence to start at.
        from: u64,
    },
}

/// What a delivery needs to know of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Length of the stored subject.
    pub subject_bytes: u32,
    /// Length of the stored header block, 0 if there is none.
    pub header_bytes: u32,
    /// Length of the payload.
    pub payload_bytes: u32,
    /// When the message was stored.
    pub stored: WallTime,
}

/// What became of a message that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was handed to the sink.
    Sent,
    /// It was acknowledged in an earlier life: passed without a delivery.
    Passed,
    /// Nobody takes it now (a request had no room for it, or had expired). Ask `wants` again.
    Unplaced,
    /// Its time comes later: rate limit or original pace.
    Wait(Timestamp),
}

/// How far the consumer got since it was asked last, for the counts kept by filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The first stream sequence that counts as pending.
    pub position: u64,
    /// Messages that were counted as pending and are not any more, as they were passed.
    pub passed: u64,
}

/// What `CONSUMER.INFO` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Consumer sequence of the last delivery.
    pub delivered_consumer_seq: u64,
    /// Stream sequence of the last new delivery; before the first, what lies before the start.
    pub delivered_stream_seq: u64,
    /// When the last delivery was; `None` before the first.
    pub delivered_at: Option<Timestamp>,
    /// Everything up to this consumer sequence is done.
    pub floor_consumer_seq: u64,
    /// Everything up to this stream sequence is done.
    pub floor_stream_seq: u64,
    /// When the last acknowledgement was.
    pub acked_at: Option<Timestamp>,
    /// Messages delivered and not done.
    pub ack_pending: usize,
    /// Messages delivered more than once.
    pub redelivered: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Matching messages that were not delivered yet.
    pub pending: u64,
    /// Push: the deliver subject has interest.
    pub push_bound: bool,
}

/// The delivering side of one consumer. See the module.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The ledger with all that was gathered for the log and is not applied yet.
    pub(super) view: Ledger,
    delta: Delta,
    /// The next consumer sequence, as the ledger has it.
    applied_cseq: u64,
    pub(super) waiting: Waiting,
    pub(super) push: Push,
    /// Matching messages from the position on (after the start set), as the counts by filter have
    /// it.
    pub(super) counted: u64,
    passed: u64,
    /// The stream had nothing more when it was asked last.
    pub(super) caught_up: bool,
    /// Rate limit or original pace: nothing is delivered before.
    pub(super) wait_until: Option<i64>,
    replaying: bool,
    last_stored: Option<i64>,
    last_sent: i64,
    /// After a crash: consumer and stream sequences up to which an earlier life may have delivered.
    pub(super) earlier: (u64, u64),
    pub(super) active_at: i64,
    pub(super) wait_end: i64,
    pub(super) deleted: bool,
    pub(super) delivered_at: Option<Timestamp>,
    pub(super) acked_at: Option<Timestamp>,
    reply: Vec<u8>,
    reply_prefix: usize,
    pub(super) scratch: Vec<u8>,
}

impl Delivery {
    /// Whether stale entries outnumber what is open and who waits.
    pub fn is_wasteful(&self) -> bool {
        self.waiting.is_wasteful() || self.view.unacked.is_wasteful()
    }

    /// Begins to deliver for a consumer. `seed` feeds the tokens of flow-control subjects;
    /// `rate_burst_bytes` is [`rate_burst_bytes`](super::rate_burst_bytes) of its stream.
    pub fn new(ledger: &Ledger, now: Timestamp, seed: u64, rate_burst_bytes: u64) -> Self {
        let settings = &ledger.settings;
        let mut reply = b"$JS.ACK.".to_vec();
        reply.extend_from_slice(&settings.stream);
        reply.push(b'.');
        reply.extend_from_slice(&settings.name);
        let mut view = ledger.clone();
        view.unacked.start_timers();
        Delivery {
            applied_cseq: ledger.next_cseq,
            delta: Delta::new(settings.volatile),
            push: settings
                .push()
                .map(|p| Push::new(now.0, p, seed, rate_burst_bytes))
                .unwrap_or_default(),
            replaying: settings.replay == ReplayPolicy::Original,
            reply_prefix: reply.len(),
            reply,
            waiting: Waiting::default(),
            counted: 0,
            passed: 0,
            caught_up: false,
            wait_until: None,
            last_stored: None,
            last_sent: 0,
            earlier: (0, 0),
            active_at: now.0,
            wait_end: view.unacked.iter().map(|s| s.due).max().unwrap_or(0),
            deleted: false,
            delivered_at: None,
            acked_at: None,
            scratch: Vec::new(),
            view,
        }
    }

    /// The stream takes messages of another size.
    pub fn set_rate_burst(&mut self, bytes: u64) {
        self.push.set_burst_bytes(bytes);
    }

    /// Goes on after another delivering side that may have delivered more than the log says (a
    /// crash); `stream_last` is the stream's last sequence. The consumer sequence jumps over what
    /// may have been used, and acknowledgements of such deliveries are accepted. Nothing is
    /// delivered before the jump is in the log.
    pub fn jump(&mut self, stream_last: u64) {
        let next_cseq = self.view.next_cseq.saturating_add(SEQ_AHEAD_MAX);
        self.change(Op::Jump { next_cseq });
        self.earlier = (next_cseq - 1, stream_last);
    }

    // ---- the log ----

    /// Changes the view and gathers the change for the log.
    pub(super) fn change(&mut self, op: Op) {
        match op {
            // Without acknowledgements a delivery is a position; only the last one counts.
            Op::Delivered { .. } if self.view.settings.ack_policy == AckPolicy::None => {
                self.delta.moved = true;
            }
            Op::Position { .. } => self.delta.moved = true,
            _ if self.delta.off => {}
            _ => self.delta.note(op, self.view.position()),
        }
        self.view.perform(op);
    }

    /// True if something was gathered for the log.
    pub fn is_dirty(&self) -> bool {
        self.delta.is_dirty()
    }

    /// True if the log has taken nothing for so long that no more is gathered.
    pub(super) fn is_overfull(&self) -> bool {
        self.delta.len() > DELTA_BYTES_MAX
    }

    /// What was gathered, as the body of one record. Say [`Delivery::delta_logged`] once it is in
    /// the log; without room for it, ask again later.
    pub fn delta(&mut self) -> &[u8] {
        self.delta.body(self.view.position())
    }

    /// What [`Delivery::delta`] gave is in the log. It is to be applied to the ledger when it is
    /// committed.
    pub fn delta_logged(&mut self) {
        self.delta.clear();
    }

    /// Something was applied to the ledger: deliveries may run ahead of it by [`SEQ_AHEAD_MAX`].
    /// May let `wants` want again.
    pub fn applied(&mut self, ledger: &Ledger) {
        self.applied_cseq = ledger.next_cseq;
    }

    /// True if the ledger is what the view says: for tests and the simulator.
    pub fn is_level_with(&self, ledger: &Ledger) -> bool {
        self.view == *ledger
    }

    // ---- counts ----

    /// Tells how many matching messages lie at or after the position that `progress` told last. To
    /// be called before `pull`, `ack`, a drive or `info`, with what the counts by filter say.
    pub fn set_counted(&mut self, counted: u64) {
        self.counted = counted;
        self.passed = 0;
    }

    /// How far it got since `set_counted`; to be told to the counts by filter after a drive.
    pub fn progress(&mut self) -> Progress {
        let passed = std::mem::take(&mut self.passed);
        Progress { position: self.view.resume_seq(), passed }
    }

    /// Matching messages not delivered yet.
    pub fn pending(&self) -> u64 {
        self.view.start_left() + self.counted
    }

    /// The stream sequences whose removal must be told to this consumer, first and last, if any.
    pub fn watched(&self) -> Option<(u64, u64)> {
        self.view.watched()
    }

    /// Appends every stream sequence it keeps something about, but for its start set. Recovery
    /// looks each of them up, and says `removed` for those that the recovered stream does not have.
    pub fn kept(&self, out: &mut Vec<u64>) {
        out.extend(self.view.unacked.iter().map(|slot| slot.seq));
        out.extend(self.view.dropped.keys());
    }

    /// What `CONSUMER.INFO` shows.
    pub fn info(&self) -> Info {
        Info {
            delivered_consumer_seq: self.view.last_cseq(),
            delivered_stream_seq: self.view.delivered_seq,
            delivered_at: self.delivered_at,
            floor_consumer_seq: self.view.delivered_cseq(self.view.floor_cseq),
            floor_stream_seq: self.view.floor_seq,
            acked_at: self.acked_at,
            ack_pending: self.view.unacked.len(),
            redelivered: self.redelivered(),
            waiting: self.waiting.len(),
            pending: self.pending(),
            push_bound: self.push.active,
        }
    }

    /// Messages delivered more than once. Those that were dropped after their only delivery were
    /// not.
    fn redelivered(&self) -> usize {
        if self.view.settings.max_deliver == 1 { 0 } else { self.view.redelivered() }
    }

    /// The settings it follows.
    pub fn settings(&self) -> &ConsumerSettings {
        &self.view.settings
    }

    // ---- drive ----

    /// What the consumer wants next. Drops messages that were delivered as often as allowed, and
    /// closes `no_wait` requests when there is nothing more.
    pub fn wants(&mut self, now: Timestamp, sink: &mut dyn Sink) -> Want {
        if self.deleted || !self.has_taker() {
            return Want::Nothing;
        }
        let ahead = self.view.next_cseq.saturating_sub(self.applied_cseq);
        if ahead >= SEQ_AHEAD_MAX && !self.view.settings.volatile {
            return Want::Nothing;
        }
        match self.wait_until {
            Some(until) if now.0 < until => return Want::Wait(Timestamp(until)),
            _ => self.wait_until = None,
        }
        while let Some(seq) = self.view.unacked.next_ready() {
            let deliveries = self.view.unacked.get(seq).map_or(0, |s| s.deliveries);
            if !self.is_last_delivery(deliveries) {
                return Want::Exactly(seq);
            }
            self.change(Op::Dropped { seq });
            sink.max_deliveries(seq, deliveries);
        }
        if self.is_full() {
            return Want::Nothing;
        }
        if let Some(seq) = self.view.start_next() {
            return Want::Exactly(seq);
        }
        if self.caught_up {
            self.close_dry(sink);
            return Want::Nothing;
        }
        Want::Next { from: self.view.next_seq }
    }

    /// Who gets the next message: the subject, for a pull request who sent it, and whether others
    /// wait behind it. `None` if nobody takes one.
    pub fn receiver(&mut self) -> Option<(&[u8], Option<Origin>, bool)> {
        match &self.view.settings.mode {
            Mode::Push(push) if self.push.active => Some((&push.deliver_subject, None, false)),
            Mode::Push(_) => None,
            Mode::Pull(_) => {
                let at = self.waiting.front()?;
                let shared = self.waiting.len() > 1;
                let request = self.waiting.get(at);
                Some((&request.inbox, Some(request.origin), shared))
            }
        }
    }

    fn has_taker(&self) -> bool {
        match &self.view.settings.mode {
            Mode::Push(_) => self.push.active && !self.push.stalled(),
            Mode::Pull(_) => !self.waiting.is_empty(),
        }
    }

    pub(super) fn is_last_delivery(&self, deliveries: u32) -> bool {
        self.view.settings.max_deliver > 0 && deliveries >= self.view.settings.max_deliver
    }

    /// True if so much is unacknowledged that nothing new may be delivered.
    fn is_full(&self) -> bool {
        let limit = self.view.settings.max_ack_pending;
        limit > 0 && self.view.unacked.len() >= limit
    }

    /// True if that is why it does not deliver.
    pub(super) fn stands_full(&self) -> bool {
        self.is_full() && self.view.unacked.queued() == 0
    }

    fn close_dry(&mut self, sink: &mut dyn Sink) {
        while self.waiting.no_wait() > 0 {
            let Some(at) = self.waiting.find(|r| r.ends_dry()) else { return };
            self.close_empty(at, sink);
        }
    }

    /// Ends a request that does not wait: there is nothing for it.
    pub(super) fn close_empty(&mut self, at: u32, sink: &mut dyn Sink) {
        let r = self.waiting.get(at);
        sink.status(&r.inbox, Some(r.origin), status::NO_MESSAGES, b"");
        self.waiting.remove(at);
    }

    /// Offers the message that was wanted.
    pub fn deliver(
        &mut self,
        now: Timestamp,
        seq: u64,
        meta: &Meta,
        sink: &mut dyn Sink,
    ) -> Outcome {
        let again = self.view.unacked.get(seq).copied();
        if again.is_none() && self.view.is_ahead(seq) {
            self.pass(seq);
            return Outcome::Passed;
        }
        let deliveries = again.map_or(1, |s| s.deliveries.saturating_add(1));
        let consumer_seq = self.view.next_cseq;
        self.write_reply(seq, deliveries, again.is_some(), meta.stored);
        let size = self.size_of(meta);
        if let Some(until) = self.pace(now, size, meta.stored) {
            self.wait_until = Some(until.0);
            return Outcome::Wait(until);
        }
        let request = match self.view.settings.mode {
            Mode::Pull(_) => match self.take_request(now, size, sink) {
                Some(at) => Some(at),
                None => return Outcome::Unplaced,
            },
            Mode::Push(_) => None,
        };
        let due = now.0.saturating_add(self.view.settings.wait_after(deliveries));
        if self.view.settings.ack_policy != AckPolicy::None {
            self.wait_end = self.wait_end.max(due);
        }
        if again.is_some() {
            self.change(Op::Redelivered { seq, due });
        } else {
            self.count_passed(seq);
            self.change(Op::Delivered { seq, due });
        }
        self.delivered_at = Some(now);
        (self.last_stored, self.last_sent) = (Some(meta.stored.0), now.0);
        let (to, origin) = match (request, self.view.settings.push()) {
            (Some(at), _) => {
                let r = self.waiting.get(at);
                (r.inbox.as_slice(), Some(r.origin))
            }
            (None, Some(push)) => (push.deliver_subject.as_slice(), None),
            (None, None) => return Outcome::Unplaced,
        };
        sink.message(&Dispatch {
            seq,
            consumer_seq,
            deliveries,
            to,
            origin,
            reply: &self.reply,
            headers_only: self.view.settings.headers_only,
        });
        match request {
            Some(at) => self.request_served(now, at, size, sink),
            None => self.push_sent(now, size, sink),
        }
        Outcome::Sent
    }

    fn write_reply(&mut self, seq: u64, deliveries: u32, again: bool, stored: WallTime) {
        let pending = self.pending() - u64::from(!again && self.pending() > 0);
        self.reply.truncate(self.reply_prefix);
        AckSubject {
            deliveries: u64::from(deliveries),
            seq,
            consumer_seq: self.view.next_cseq,
            stored: stored.0,
            pending,
        }
        .write_to(&mut self.reply);
    }

    fn size_of(&self, meta: &Meta) -> u64 {
        let body = if self.view.settings.headers_only {
            u64::from(status::headers_only_bytes(meta.header_bytes, meta.payload_bytes))
        } else {
            u64::from(meta.header_bytes) + u64::from(meta.payload_bytes)
        };
        u64::from(meta.subject_bytes) + self.reply.len() as u64 + body
    }

    /// When the message may go, if not now.
    fn pace(&mut self, now: Timestamp, size: u64, stored: WallTime) -> Option<Timestamp> {
        let mut at = i64::MIN;
        if self.replaying && self.view.next_seq > self.view.created_last_seq {
            self.replaying = false;
        }
        if let Some(last) = self.last_stored.filter(|_| self.replaying) {
            let gap = stored.0.saturating_sub(last);
            if gap > REPLAY_GAP_NS_MIN {
                at = self.last_sent.saturating_add(gap);
            }
        }
        if let Some(push) = self.view.settings.push() {
            at = at.max(self.push.allowed_at(size, push));
        }
        (at > now.0).then_some(Timestamp(at))
    }

    /// Notes that a message counts as pending no longer, before the ledger moves past it.
    fn count_passed(&mut self, seq: u64) {
        // A member of the start set is counted by the set itself.
        if self.view.start_next() != Some(seq) {
            self.counted = self.counted.saturating_sub(1);
            self.passed += 1;
        }
    }

    fn pass(&mut self, seq: u64) {
        self.count_passed(seq);
        let next_cseq = self.view.next_cseq;
        self.change(Op::Position { next_seq: seq + 1, next_cseq });
    }

    /// The request that takes a message of `size` bytes; those that cannot are closed on the way.
    fn take_request(&mut self, now: Timestamp, size: u64, sink: &mut dyn Sink) -> Option<u32> {
        while let Some(at) = self.waiting.front() {
            let r = self.waiting.get(at);
            if r.expires_at <= now.0 {
                self.close(at, Closing::RequestTimeout, sink);
            } else if r.limited && size > r.bytes as u64 {
                self.close(at, Closing::MaxBytes, sink);
            } else if r.checked_at != now.0 && !sink.listens(&r.inbox) {
                self.close(at, Closing::InterestExpired, sink);
            } else {
                self.waiting.checked(at, now.0);
                return Some(at);
            }
        }
        None
    }

    /// Ends a request with a status that tells what it is still owed.
    pub(super) fn close(&mut self, at: u32, kind: Closing, sink: &mut dyn Sink) {
        let r = self.waiting.get(at);
        status::closing(&mut self.scratch, kind, r.messages, r.bytes);
        sink.status(&r.inbox, Some(r.origin), &self.scratch, b"");
        self.waiting.remove(at);
    }

    fn request_served(&mut self, now: Timestamp, at: u32, size: u64, sink: &mut dyn Sink) {
        self.active_at = self.active_at.max(now.0);
        if !self.waiting.served(now.0, at, size as i64) {
            return;
        }
        let r = self.waiting.get(at);
        if r.limited && r.bytes > 0 {
            self.close(at, Closing::BatchCompleted, sink);
        } else {
            self.waiting.remove(at);
        }
    }

    fn push_sent(&mut self, now: Timestamp, size: u64, sink: &mut dyn Sink) {
        let Mode::Push(push) = &self.view.settings.mode else { return };
        self.push.delivered_at(now.0, push);
        self.push.spend(now.0, size, push);
        if self.push.sent(size, &self.view.settings) {
            let reply = self.push.request();
            sink.status(&push.deliver_subject, None, status::FLOW_CONTROL, reply);
        }
    }

    /// The message that was wanted exactly is gone.
    pub fn skip(&mut self, now: Timestamp, seq: u64) {
        self.removed(now, seq);
    }

    /// There is no matching message from the position on: `next` is the stream's last sequence + 1.
    /// The consumer wants nothing new until `arrived`.
    pub fn exhausted(&mut self, next: u64) {
        self.caught_up = true;
        if self.view.start_next().is_none() && next > self.view.next_seq {
            let next_cseq = self.view.next_cseq;
            self.change(Op::Position { next_seq: next, next_cseq });
        }
    }

    /// True if the consumer was told that there is nothing more: worth telling when a matching
    /// message is appended, if somebody waits.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// A matching message was appended.
    pub fn arrived(&mut self) {
        self.caught_up = false;
    }

    /// When the consumer is to be ticked next.
    pub fn deadline(&self) -> Option<Timestamp> {
        if self.deleted {
            return None;
        }
        let at = [
            self.view.unacked.next_due().unwrap_or(NEVER),
            self.waiting.deadline(),
            self.push.heartbeat_at.unwrap_or(NEVER),
            self.wait_until.unwrap_or(NEVER),
            self.inactive_at().unwrap_or(NEVER),
        ];
        at.into_iter().min().filter(|&at| at != NEVER).map(Timestamp)
    }

    /// When inactivity deletes the consumer, if nothing happens.
    pub(super) fn inactive_at(&self) -> Option<i64> {
        let threshold = self.view.settings.inactive_threshold;
        if threshold <= 0 {
            return None;
        }
        match &self.view.settings.mode {
            Mode::Push(_) if self.push.active => None,
            Mode::Push(_) => Some(self.active_at.saturating_add(threshold)),
            Mode::Pull(_) => {
                let owed = self.view.settings.ack_policy != AckPolicy::None
                    && !self.view.unacked.is_empty();
                let base = if owed { self.active_at.max(self.wait_end) } else { self.active_at };
                Some(base.saturating_add(threshold))
            }
        }
    }
}
