//! What happens to a consumer: requests, acknowledgements, interest, removals, time and
//! configuration.

use super::ack_subject::AckSubject;
use super::delivery::Delivery;
use super::ledger::{Ledger, Op};
use super::settings::{AckPolicy, Mode, Origin, PullSettings};
use super::sink::Sink;
use super::status::{self, Closing};
use super::unacked::EXPIRE_MAX;
use crate::api::ack::AckKind;
use crate::api::time::go_duration;
use crate::api::types::PullRequest;
use crate::types::Timestamp;

/// A request that expires sooner has expired before it is looked at.
const EXPIRES_NS_MIN: i64 = 100;

/// Inboxes that are looked at, whether somebody still listens there, in one go.
pub const GONE_CHECKS_MAX: usize = 1_024;

impl Delivery {
    /// A pull request (`CONSUMER.MSG.NEXT`, or the rest of a `+NXT`), or what is wrong with it.
    /// Answers go to `inbox` with `origin`.
    pub fn pull(
        &mut self,
        now: Timestamp,
        request: Result<PullRequest, String>,
        inbox: &[u8],
        origin: Origin,
        sink: &mut dyn Sink,
    ) {
        let Mode::Pull(limits) = &self.view.settings.mode else {
            return sink.status(inbox, Some(origin), status::PUSH_BASED, b"");
        };
        if self.deleted {
            // The record that says so is on its way.
            return sink.status(inbox, Some(origin), status::CONSUMER_DELETED, b"");
        }
        self.active_at = now.0;
        let request = match request {
            Ok(request) => request,
            Err(why) => {
                status::line(&mut self.scratch, format_args!("400 Bad Request - {why}"));
                return sink.status(inbox, Some(origin), &self.scratch, b"");
            }
        };
        if exceeds(limits, &request, &mut self.scratch) {
            return sink.status(inbox, Some(origin), &self.scratch, b"");
        }
        let max_waiting = limits.max_waiting;
        self.expire_requests(now, sink);
        if request.no_wait {
            let there = self.pending() + self.view.unacked.queued() as u64;
            if there == 0 && request.expires == 0 {
                return sink.status(inbox, Some(origin), status::NO_MESSAGES, b"");
            }
            if there > 0 && (there as i64) < self.waiting.owed() {
                self.drop_gone(&mut { GONE_CHECKS_MAX }, sink);
            }
            if there > 0 && (there as i64) < self.waiting.owed() {
                return sink.status(inbox, Some(origin), status::REQUESTS_PENDING, b"");
            }
        }
        if self.waiting.len() >= max_waiting {
            self.drop_gone(&mut { GONE_CHECKS_MAX }, sink);
        }
        if self.waiting.len() >= max_waiting {
            if request.idle_heartbeat <= 0 {
                sink.status(inbox, Some(origin), status::MAX_WAITING, b"");
            }
            return;
        }
        self.waiting.add(now.0, &request, inbox, origin);
        if request.expires != 0 && request.expires < EXPIRES_NS_MIN {
            self.expire_requests(now.plus(EXPIRES_NS_MIN), sink);
        }
    }

    /// An acknowledgement. `reply` may be empty. False if nobody listens for it, as the consumer
    /// takes no acknowledgements: the publisher is told that there are no responders.
    pub fn ack(
        &mut self,
        now: Timestamp,
        ack: &AckSubject,
        kind: AckKind,
        reply: &[u8],
        origin: Origin,
        sink: &mut dyn Sink,
    ) -> bool {
        if self.view.settings.ack_policy == AckPolicy::None || self.deleted {
            return false;
        }
        if self.is_overfull() {
            // Without room in the log nothing is taken in; the client asks again.
            return true;
        }
        // Whoever acknowledges is at work, whatever it says and of which message.
        self.active_at = self.active_at.max(now.0);
        let answered = match kind {
            AckKind::Ack | AckKind::Term => self.done(now, ack),
            AckKind::Next(request) => {
                self.done(now, ack);
                if !reply.is_empty() {
                    self.pull(now, *request, reply, origin, sink);
                }
                false
            }
            AckKind::Nak(delay) => {
                self.nak(now, ack, delay);
                true
            }
            AckKind::Progress => {
                self.progressing(now, ack.seq);
                true
            }
            AckKind::Unknown => true,
        };
        if answered && !reply.is_empty() {
            sink.ack_reply(reply, origin);
        }
        true
    }

    /// A message is done; false if its delivery cannot have happened.
    fn done(&mut self, now: Timestamp, ack: &AckSubject) -> bool {
        let seq = ack.seq;
        if seq >= self.view.next_seq {
            return self.done_ahead(now, ack);
        }
        if self.view.settings.ack_policy == AckPolicy::All {
            if seq > self.view.floor_seq && ack.consumer_seq > self.view.floor_cseq {
                self.acked_at = Some(now);
                self.change(Op::AckedAll { seq, consumer_seq: ack.consumer_seq });
            }
            return true;
        }
        self.acked_at = Some(now);
        if self.view.unacked.get(seq).is_some() {
            self.change(Op::Acked { seq });
        } else if self.view.concerns(seq) {
            // It was dropped after its last delivery; now it is done after all.
            self.change(Op::Removed { seq });
        }
        true
    }

    /// An acknowledgement above the position: of a delivery made before a crash and not recorded,
    /// or nonsense.
    fn done_ahead(&mut self, now: Timestamp, ack: &AckSubject) -> bool {
        let (last_cseq, last_seq) = self.earlier;
        if ack.seq > last_seq || ack.consumer_seq > last_cseq {
            return false;
        }
        if self.view.is_ahead(ack.seq) {
            return true;
        }
        if self.view.settings.ack_policy == AckPolicy::All {
            self.change(Op::AheadAll { seq: ack.seq });
        } else if self.view.may_ahead() {
            self.change(Op::Ahead { seq: ack.seq });
        } else {
            return false;
        }
        self.acked_at = Some(now);
        true
    }

    fn nak(&mut self, now: Timestamp, ack: &AckSubject, delay: Option<i64>) {
        let known = ack.consumer_seq > self.view.floor_cseq
            && ack.consumer_seq <= self.view.next_cseq
            && self.view.unacked.get(ack.seq).is_some();
        if !known {
            return;
        }
        match delay {
            Some(delay) => {
                self.due_at(ack.seq, now.0.saturating_add(delay));
            }
            None if !self.view.unacked.is_queued(ack.seq) => {
                self.due_at(ack.seq, now.0);
                self.view.unacked.queue(ack.seq);
            }
            None => {}
        }
    }

    fn progressing(&mut self, now: Timestamp, seq: u64) {
        if self.view.unacked.is_queued(seq) {
            return;
        }
        if let Some(slot) = self.view.unacked.get(seq) {
            self.due_at(seq, now.0.saturating_add(self.view.settings.wait_after(slot.deliveries)));
        }
    }

    /// A message is to be delivered again at this time. Somebody may work on it until then.
    fn due_at(&mut self, seq: u64, due: i64) {
        self.wait_end = self.wait_end.max(due);
        self.change(Op::Due { seq, due });
    }

    /// A message to a `$JS.FC.` subject. True if the window moved.
    pub fn flow_response(&mut self, subject: &[u8]) -> bool {
        self.push.answered(subject)
    }

    /// The deliver subject of a push consumer gained or lost its interest.
    pub fn interest(&mut self, now: Timestamp, active: bool) {
        if self.push.active && !active {
            self.active_at = now.0;
        }
        self.push.active = active;
    }

    /// Ends requests on whose inbox nobody listens any more: they neither count as waiting nor
    /// speak for messages. Looks at so many at most, which it takes off, from the one on that is
    /// served next.
    pub fn drop_gone(&mut self, checks: &mut usize, sink: &mut dyn Sink) {
        for at in self.waiting.first(*checks) {
            *checks -= 1;
            if !sink.listens(&self.waiting.get(at).inbox) {
                self.close(at, Closing::InterestExpired, sink);
            }
        }
    }

    /// A message left the stream.
    pub fn removed(&mut self, now: Timestamp, seq: u64) {
        if self.view.concerns(seq) {
            if self.view.unacked.get(seq).is_some() {
                // nats-server takes it for acknowledged.
                self.acked_at = Some(now);
            }
            self.change(Op::Removed { seq });
        }
    }

    /// Everything below `below` left the stream at once (a purge, or what recovery found gone).
    /// `below` is the first sequence that is there, or the last sequence + 1.
    pub fn purged_below(&mut self, below: u64) {
        let watched = self.watched().is_some_and(|(first, _)| first < below);
        if watched || self.view.next_seq < below || self.view.floor_seq + 1 < below {
            self.change(Op::Purged { below });
        }
    }

    /// A purge of what the consumer wants is over: nats-server shows all that it passed as
    /// delivered from then on.
    pub fn settle(&mut self) {
        let seq = self.view.next_seq - 1;
        let floor = self.view.unacked.is_empty() && self.view.floor_seq < seq;
        if self.view.start_next().is_none() && (self.view.delivered_seq < seq || floor) {
            self.change(Op::Settled { seq });
        }
    }

    /// Time has passed: redeliveries, expiries, heartbeats, inactivity. To be called when
    /// `deadline` is reached, and followed by a drive.
    pub fn tick(&mut self, now: Timestamp, sink: &mut dyn Sink) {
        if self.deleted {
            return;
        }
        for _ in 0..EXPIRE_MAX {
            let Some(slot) = self.view.unacked.pop_due(now.0) else { break };
            if self.is_last_delivery(slot.deliveries) {
                self.change(Op::Dropped { seq: slot.seq });
                sink.max_deliveries(slot.seq, slot.deliveries);
            } else {
                self.view.unacked.queue(slot.seq);
            }
        }
        if self.wait_until.is_some_and(|at| at <= now.0) {
            self.wait_until = None;
        }
        if self.waiting.no_wait() > 0 && self.stands_full() && self.waiting.is_due(now.0) {
            self.close_ended(now, sink);
        }
        self.expire_requests(now, sink);
        self.beat(now, sink);
        if self.inactive_at().is_some_and(|at| at <= now.0) {
            self.drop_gone(&mut { GONE_CHECKS_MAX }, sink);
            if !self.waiting.is_empty() {
                self.active_at = now.0;
                return;
            }
            self.deleted = true;
            sink.auto_delete();
        }
    }

    fn expire_requests(&mut self, now: Timestamp, sink: &mut dyn Sink) {
        while let Some(at) = self.waiting.pop_due(now.0) {
            let r = self.waiting.get(at);
            if r.expires_at <= now.0 {
                self.close(at, Closing::RequestTimeout, sink);
                self.active_at = now.0;
                continue;
            }
            let (cseq, seq) = (self.view.last_cseq(), self.view.next_seq - 1);
            status::heartbeat(&mut self.scratch, cseq, seq, b"");
            sink.status(&r.inbox, Some(r.origin), &self.scratch, b"");
            self.waiting.beaten(now.0, at);
        }
    }

    /// Closes what has expired and, in the same round, what does not wait: while the consumer may
    /// not deliver, as too much is unacknowledged, such requests stay until the time of some
    /// request has come, as in nats-server.
    fn close_ended(&mut self, now: Timestamp, sink: &mut dyn Sink) {
        for at in self.waiting.first(usize::MAX) {
            let r = self.waiting.get(at);
            if r.expires_at <= now.0 {
                self.close(at, Closing::RequestTimeout, sink);
                self.active_at = now.0;
            } else if r.ends_dry() {
                self.close_empty(at, sink);
            }
        }
    }

    fn beat(&mut self, now: Timestamp, sink: &mut dyn Sink) {
        let Mode::Push(push) = &self.view.settings.mode else { return };
        if self.push.heartbeat_at.is_none_or(|at| at > now.0) {
            return;
        }
        if self.push.active {
            let (cseq, seq) = (self.view.last_cseq(), self.view.next_seq - 1);
            status::heartbeat(&mut self.scratch, cseq, seq, self.push.request());
            sink.status(&push.deliver_subject, None, &self.scratch, b"");
        }
        self.push.delivered_at(now.0, push);
    }

    /// The ledger has a new configuration. Another deliver subject gets everything unacknowledged
    /// again, once it has interest; say `interest` for it.
    pub fn reconfigured(&mut self, now: Timestamp, ledger: &Ledger) {
        let new = ledger.settings.clone();
        let old = std::mem::replace(&mut self.view.settings, new);
        let new = &self.view.settings;
        if (old.ack_wait, &old.backoff) != (new.ack_wait, &new.backoff) {
            let shift = |n: u32| new.wait_after(n).saturating_sub(old.wait_after(n));
            let waiting = self.view.unacked.iter().filter(|s| s.is_waiting());
            let dues = waiting.map(|s| (s.seq, s.due.saturating_add(shift(s.deliveries))));
            for (seq, due) in dues.collect::<Vec<_>>() {
                self.due_at(seq, due);
            }
        }
        if let (Mode::Push(before), Mode::Push(after)) = (&old.mode, &self.view.settings.mode)
            && before.deliver_subject != after.deliver_subject
        {
            self.push.active = false;
            self.view.unacked.queue_all();
        }
        // Other filters may find more.
        self.caught_up = false;
        self.active_at = self.active_at.max(now.0);
    }

    /// The consumer or its stream was deleted: requests are told, and nothing happens any more.
    pub fn delete(&mut self, sink: &mut dyn Sink) {
        self.deleted = true;
        while let Some(at) = self.waiting.front() {
            let r = self.waiting.get(at);
            sink.status(&r.inbox, Some(r.origin), status::CONSUMER_DELETED, b"");
            self.waiting.remove(at);
        }
    }

    /// The server goes away: requests are told to ask elsewhere.
    pub fn shutdown(&mut self, sink: &mut dyn Sink) {
        while let Some(at) = self.waiting.front() {
            self.close(at, Closing::ServerShutdown, sink);
        }
    }
}

/// Checks a request against the consumer's limits, and then that it asks nothing of priority
/// groups; true if it is refused, which `out` then tells.
fn exceeds(limits: &PullSettings, request: &PullRequest, out: &mut Vec<u8>) -> bool {
    if limits.max_batch > 0 && request.batch > limits.max_batch {
        let n = limits.max_batch;
        status::line(out, format_args!("409 Exceeded MaxRequestBatch of {n}"));
    } else if limits.max_expires > 0 && request.expires > limits.max_expires {
        let d = go_duration(limits.max_expires);
        status::line(out, format_args!("409 Exceeded MaxRequestExpires of {d}"));
    } else if limits.max_bytes > 0 && request.max_bytes > limits.max_bytes {
        let n = limits.max_bytes;
        status::line(out, format_args!("409 Exceeded MaxRequestMaxBytes of {n}"));
    } else if let Err(why) = request.check_priority() {
        status::line(out, format_args!("400 Bad Request - {why}"));
    } else {
        return false;
    }
    true
}
