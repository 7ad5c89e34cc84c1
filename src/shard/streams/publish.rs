//! Publishes into streams: admission, and the one copy into the log.

use corelane_storage::log::AppendError;
use corelane_storage::record::{MessageIn, RecordIn};

use crate::api::error::{ApiError, kinds};
use crate::interest::Captured;
use crate::shard::groups::pending::StoreItem;
use crate::shard::state::Shard;
use crate::shard::state::stream::Known;
use crate::stream::admission::{Admitted, LookUp, Publish};
use crate::stream::headers::without_server_fields;
use crate::types::{Clocks, Origin, StreamId, Timestamp, WallTime};

impl Shard {
    /// A message that one of the shard's streams captures.
    pub(in crate::shard) fn publish(&mut self, now: Timestamp, stream: StreamId, m: &Captured<'_>) {
        let stripped = match m.headers.is_empty() {
            true => None,
            false => without_server_fields(m.headers),
        };
        let m = &match &stripped {
            Some(headers) => Captured { headers, ..*m },
            None => *m,
        };
        let origin = m.origin;
        let slot = match self.slots.get(&stream) {
            Some(&slot) if !self.streams[slot].leaving => slot,
            _ => {
                self.owe_credit(m.target.credit(m.subject), origin, m.credit_bytes);
                return;
            }
        };
        if self.is_parked(stream) {
            return self.park_publish(stream, m);
        }
        // Enough was looked up in this turn: what may need more is for the next.
        if self.parked.turn_visits == 0 && !m.headers.is_empty() {
            return self.park_first(stream, m, Default::default());
        }
        let mut visits = self.parked.turn_visits;
        let what = self.offer(now, slot, m, Known::default(), &mut visits);
        self.parked.turn_visits = visits;
        if let Some(what) = what {
            self.look_up_first(now, stream, slot, m, what);
        }
    }

    /// Offers a publish to its stream's gate, with what was looked up for it. Of what is in flight,
    /// `visits` may be searched. Answers what must be looked up first; then nothing has happened.
    pub(in crate::shard) fn offer(
        &mut self,
        now: Timestamp,
        slot: usize,
        m: &Captured<'_>,
        known: Known,
        visits: &mut u32,
    ) -> Option<LookUp> {
        let origin = m.origin;
        let full = self.is_full(self.streams[slot].is_memory());
        let clocks = Clocks { now, wall: self.clocks.wall_of(now) };
        let stream = &mut self.streams[slot];
        let reply = if stream.config.no_ack { &[][..] } else { m.reply };
        let publish = Publish {
            subject: m.subject,
            reply: m.reply,
            headers: m.headers,
            payload_len: m.payload.len(),
        };
        let (admission, view) = stream.gate(known);
        admission.set_visits(*visits);
        admission.set_waited(known.waited);
        let admitted = admission.admit(&view, clocks, &publish);
        *visits = admission.visits();
        match admitted {
            Admitted::Store { seq, .. } if full => {
                self.streams[slot].admission.withdraw(seq);
                self.refuse(slot, &kinds::INSUFFICIENT_RESOURCES.error(), m, reply);
            }
            Admitted::Store { seq, at } => self.append_message(slot, seq, at, m, reply),
            Admitted::Duplicate { seq } => {
                self.scratch.clear();
                self.streams[slot].ack.write_duplicate(&mut self.scratch, seq);
                self.answer_later(slot, origin, reply, m.credit_bytes);
            }
            Admitted::Refuse(error) => self.refuse(slot, &error, m, reply),
            Admitted::LookUp(what) => return Some(what),
        }
        None
    }

    /// Refuses a publish for what is not its stream's rules.
    pub(in crate::shard) fn refuse_publish(
        &mut self,
        slot: usize,
        error: &ApiError,
        m: &Captured<'_>,
    ) {
        let no_ack = self.streams[slot].config.no_ack;
        self.refuse(slot, error, m, if no_ack { &[] } else { m.reply });
    }

    fn refuse(&mut self, slot: usize, error: &ApiError, m: &Captured<'_>, reply: &[u8]) {
        self.scratch.clear();
        self.streams[slot].ack.write_refused(&mut self.scratch, error);
        self.answer_later(slot, m.origin, reply, m.credit_bytes);
    }

    /// Queues `scratch` as an answer behind everything admitted before.
    fn answer_later(&mut self, slot: usize, origin: Origin, reply: &[u8], credit: u32) {
        let body: &[u8] = if reply.is_empty() { &[] } else { &self.scratch };
        let pipeline = self.groups.get_mut(self.streams[slot].group());
        let place = pipeline.appended();
        pipeline.waiting.push_answer(place, origin, reply, body, credit);
    }

    fn append_message(
        &mut self,
        slot: usize,
        seq: u64,
        at: WallTime,
        m: &Captured<'_>,
        reply: &[u8],
    ) {
        let state = &mut self.streams[slot];
        let record = RecordIn::Message(MessageIn {
            stream: state.id,
            seq,
            ts: at.0,
            subject: m.subject,
            headers: m.headers,
            payload: m.payload,
            relocated: false,
        });
        let group = state.group();
        match self.groups.append(group, &mut self.log, &record) {
            Ok((place, len)) => {
                self.checkpoint.appended += if state.is_memory() { 0 } else { u64::from(len) };
                let item = StoreItem {
                    slot: slot as u32,
                    origin: m.origin,
                    reply_len: reply.len() as u32,
                    credit: m.credit_bytes,
                };
                self.groups.get_mut(group).waiting.push_store(place, item, reply);
            }
            Err(error) => {
                state.admission.withdraw(seq);
                let error = match error {
                    AppendError::TooLarge => kinds::STREAM_MESSAGE_EXCEEDS_MAXIMUM.error(),
                    AppendError::NoSpace | AppendError::Busy | AppendError::Failed => {
                        kinds::INSUFFICIENT_RESOURCES.error()
                    }
                };
                self.refuse(slot, &error, m, reply);
            }
        }
    }
}
