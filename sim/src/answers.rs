//! What clients make of what they are told, and the checks that need nothing else.

use corelane::types::ConnId;
use serde_json::Value;

use crate::consumers::{AckPolicy, Token};
use crate::model::{self, Exists, Fate, State};
use crate::runner::{OWN_SIDS, Op, Runner, What};
use crate::tally::Rare;
use crate::topics::LISTENER_SIDS;
use crate::wire;

/// The error of what cannot be read now.
const UNREADABLE: u64 = 10051;
/// What a device says that fails to read.
pub const READ_ERROR: &str = "simulated read error";
/// A consumer whose start could not be counted, because a read failed, is there by then.
const COUNTED_AGAIN: i64 = 2_000_000_000;

/// Whether an error of the API says that the device did not read.
pub fn is_read_error(error: &Value) -> bool {
    error["description"].as_str().is_some_and(|d| d.contains(READ_ERROR))
}

impl Runner {
    /// A message came to a client.
    pub fn message(
        &mut self,
        client: usize,
        conn: ConnId,
        (subject, sid): (&str, u64),
        reply: &str,
        headers: Vec<u8>,
        payload: Vec<u8>,
    ) -> Result<(), String> {
        if sid >= LISTENER_SIDS {
            return self.heard_topic(sid - LISTENER_SIDS, subject, &payload);
        }
        if let Some(responder) = subject.strip_prefix("svc.") {
            if responder != client.to_string() {
                return Err(format!("client {client} got {subject}"));
            }
            self.publish(client, reply, "", &[], b"world");
            return Ok(());
        }
        let status = wire::status(&headers);
        if let Some(token) = Token::parse(reply).filter(|_| status == 0) {
            self.came_to(sid, &token).map_err(|why| format!("{reply}: {why}"))?;
            self.delivery(conn, subject, reply, &token, &payload)?;
        } else if status == 100 {
            if !reply.is_empty() {
                self.publish(client, reply, "", &[], b"");
            }
            return Ok(());
        }
        let id = if sid >= OWN_SIDS {
            sid - OWN_SIDS
        } else {
            match subject.rsplit('.').next().and_then(|id| id.parse::<u64>().ok()) {
                Some(id) if sid == 1 => id,
                Some(_) => return Ok(()),
                None => return Err(format!("a message came on {subject}")),
            }
        };
        let Some(op) = self.ops.get(&id).cloned() else {
            // A late end of a pull, or an answer to what was given up.
            return Ok(());
        };
        if op.conn != conn {
            return Err(format!("{op:?} was answered on another connection"));
        }
        let size = (subject.len() + reply.len() + headers.len() + payload.len()) as u64;
        self.answered(id, &op, (status, size), &headers, &payload)
    }

    fn answered(
        &mut self,
        id: u64,
        op: &Op,
        (status, size): (u16, u64),
        headers: &[u8],
        payload: &[u8],
    ) -> Result<(), String> {
        if let What::Pull { consumer, left, bytes } = op.what {
            let bytes = bytes.map(|b| b.saturating_sub(size));
            if left > 1 && status == 0 && bytes != Some(0) {
                let what = What::Pull { consumer, left: left - 1, bytes };
                if let Some(op) = self.ops.get_mut(&id) {
                    op.what = what;
                }
            } else {
                self.ops.remove(&id);
            }
            if headers.windows(16).any(|w| w == b"Interest Expired") {
                return Err(format!("{op:?}: nobody listens, it was told, and there it came"));
            }
            let now = self.world.now;
            let going = headers.windows(16).any(|w| w == b"Consumer Deleted");
            if going && !op.optional {
                self.pull_was_deleted(consumer, op.sent)?;
            }
            let c = &mut self.consumers[consumer];
            if status != 503 && !going {
                c.used = c.used.max(op.sent);
            }
            return match status {
                0 | 404 | 408 | 409 => Ok(()),
                503 if op.optional || c.may_be_gone(now) => Ok(()),
                // It was there and could not begin.
                503 if self.world.single.read_failed_since(op.sent - COUNTED_AGAIN) => Ok(()),
                _ => Err(format!("{op:?} ended with {status}")),
            };
        }
        self.ops.remove(&id);
        match &op.what {
            What::Publish { uid, retry } => self.pub_ack(op, *uid, *retry, status, payload),
            What::Core if status == 503 && !op.optional && !self.world.plan.later.impatient => {
                Err(format!("{op:?}: nobody responded, though the responder is there"))
            }
            What::Core => {
                self.world.tally.add(Rare::CoreReply);
                Ok(())
            }
            What::Probe => {
                self.answers.insert(id, (headers.to_vec(), payload.to_vec()));
                Ok(())
            }
            What::Ack { consumer, seq, cseq, settles } => {
                let c = &self.consumers[*consumer];
                // As in NATS, an acknowledgement of all up to an older delivery settles nothing.
                let stale = c.ack == AckPolicy::All && *cseq < c.acked_cseq;
                self.ack_answered(op, *consumer, *seq, *settles && !stale, status)
            }
            What::Get { .. } if self.is_unreadable(op.sent, status) => Ok(()),
            What::Get { stream, seq } => self.got(*stream, *seq, status, headers, payload),
            _ if status == 503 && op.optional => Ok(()),
            _ if status != 0 => Err(format!("{op:?} was answered with {status}")),
            what => {
                let json: Value = serde_json::from_slice(payload)
                    .map_err(|e| format!("{op:?} was answered with what is no JSON: {e}"))?;
                self.api_answer(id, what.clone(), (op.optional, op.sent), &json)
            }
        }
    }

    fn pub_ack(
        &mut self,
        op: &Op,
        uid: u64,
        retry: bool,
        status: u16,
        payload: &[u8],
    ) -> Result<(), String> {
        let Some(p) = self.model.publishes.get_mut(&uid) else { return Ok(()) };
        if status == 503 {
            if !op.optional {
                return Err(format!("{op:?}: no responders, though the stream is there"));
            }
            return Ok(());
        }
        let json: Value = serde_json::from_slice(payload)
            .map_err(|e| format!("{op:?} was answered with what is no JSON: {e}"))?;
        let stream = p.stream;
        if let Some(error) = json.get("error") {
            return self.refused(uid, retry, error);
        }
        let seq = json["seq"].as_u64().ok_or_else(|| format!("PubAck without seq: {json}"))?;
        if json["stream"] != self.model.streams[stream].name.as_str() {
            return Err(format!("{op:?} was answered for another stream: {json}"));
        }
        let s = &mut self.model.streams[stream];
        // A removal that is under way may come to nothing: what was stored before it counts. A
        // creation that is under way: it may be stored in either stream.
        if s.exists == Exists::No || s.incarnation != p.incarnation {
            return Ok(());
        }
        if self.wanted.contains_key(&stream) {
            if p.fate == Fate::Pending {
                p.fate = Fate::Loose;
                s.loose.insert(uid);
            }
            return Ok(());
        }
        self.acknowledged(op, uid, retry, seq, &json)
    }

    /// The stream says that it has the message at this sequence.
    fn acknowledged(
        &mut self,
        op: &Op,
        uid: u64,
        retry: bool,
        seq: u64,
        json: &Value,
    ) -> Result<(), String> {
        let Some(p) = self.model.publishes.get(&uid) else { return Ok(()) };
        let stream = p.stream;
        let may_forget = self.model.may_forget(p, stream);
        let Some(p) = self.model.publishes.get_mut(&uid) else { return Ok(()) };
        let duplicate = json["duplicate"] == true;
        let was = p.fate;
        let generation = p.generation;
        p.fate = Fate::Acked;
        if was != Fate::Acked {
            p.generation = self.model.generation;
        }
        if duplicate {
            if !retry {
                return Err(format!("message {uid} was sent once and is a duplicate: {json}"));
            }
            self.world.tally.add(Rare::Duplicate);
            if was == Fate::Acked && generation < self.model.generation {
                self.world.tally.add(Rare::DuplicateAfterRestart);
            }
        } else {
            if retry && p.fresh && !may_forget {
                return Err(format!("message {uid} was acknowledged and is no duplicate: {json}"));
            }
            p.fresh = true;
            self.world.tally.acked += 1;
        }
        let expected = wire::header(&p.headers, "Nats-Expected-Last-Sequence");
        if let Some(expected) = expected.and_then(|e| e.parse::<u64>().ok())
            && !duplicate
            && seq != expected + 1
        {
            return Err(format!("message {uid} expected {expected} before it and got {seq}"));
        }
        self.model.observe(stream, seq, uid)?;
        self.model.streams[stream].loose.remove(&uid);
        if !duplicate {
            self.in_order(op, stream, seq)?;
        }
        Ok(())
    }

    /// Acknowledgements of one publisher rise.
    fn in_order(&mut self, op: &Op, stream: usize, seq: u64) -> Result<(), String> {
        let incarnation = self.model.streams[stream].incarnation;
        let client = &mut self.clients[op.client];
        let last = client.last_acked.entry((stream, incarnation)).or_default();
        if seq <= *last {
            return Err(format!("{op:?}: sequence {seq} was acknowledged after {last}"));
        }
        *last = seq;
        Ok(())
    }

    fn refused(&mut self, uid: u64, retry: bool, error: &Value) -> Result<(), String> {
        let Some(p) = self.model.publishes.get_mut(&uid) else { return Ok(()) };
        let (stream, incarnation, headers) = (p.stream, p.incarnation, p.headers.clone());
        match (retry, p.fate) {
            (false, Fate::Pending) if p.place.is_some() => {
                return Err(format!("message {uid} was refused and is there: {p:?}"));
            }
            (false, Fate::Pending) => p.fate = Fate::Refused,
            _ => {}
        }
        self.world.tally.add(Rare::Refused);
        // What is asked twice may take room once more, after its id was forgotten.
        let twice = |o: &Op| matches!(o.what, What::Publish { retry: true, .. });
        let asked_twice = self.ops.values().any(twice);
        // What limits would remove for it could not be looked up.
        let read_failed = is_read_error(error);
        match error["err_code"].as_u64() {
            Some(10023) => self.world.tally.add(Rare::DiskFull),
            Some(10071) => {
                let text = error["description"].as_str().unwrap_or_default();
                let last = text.rsplit(' ').next().and_then(|n| n.parse().ok());
                if let Some(last) = last
                    && self.model.streams[stream].incarnation == incarnation
                {
                    self.model.saw_last(stream, last);
                }
            }
            Some(10077)
                if self.model.streams[stream].exists == Exists::Yes
                    && self.model.streams[stream].incarnation == incarnation
                    && !asked_twice
                    && !self.model.may_be_full(uid)
                    && !read_failed =>
            {
                return Err(format!("message {uid} was refused, and there is room: {error}"));
            }
            // One that expects another message id before it.
            Some(10070) if wire::header(&headers, "Nats-Expected-Last-Msg-Id").is_some() => {}
            Some(10077 | 10047 | 10122) => {}
            _ => return Err(format!("message {uid} was refused: {error}")),
        }
        Ok(())
    }

    fn ack_answered(
        &mut self,
        op: &Op,
        consumer: usize,
        seq: u64,
        settles: bool,
        status: u16,
    ) -> Result<(), String> {
        let generation = self.model.generation;
        let c = &mut self.consumers[consumer];
        if status == 503 || c.exists != Exists::Yes || !settles {
            return Ok(());
        }
        self.world.tally.add(Rare::AckHeld);
        c.settle(seq, op.conn, generation);
        Ok(())
    }

    /// Whether an answer that something cannot be read is one, because a read failed.
    fn is_unreadable(&self, sent: i64, status: u16) -> bool {
        status == 500 && self.world.single.read_failed_since(sent)
    }

    /// Whether a request was refused because a read failed.
    fn was_not_read(&self, what: &What, code: Option<u64>, sent: i64) -> bool {
        // What is asked of a consumer that could not begin is not done.
        let of_consumer = matches!(what, What::TuneConsumer { .. } | What::DropConsumer { .. });
        match code {
            Some(UNREADABLE) => self.is_unreadable(sent, 500),
            Some(10077) => of_consumer && self.world.single.read_failed_since(sent - COUNTED_AGAIN),
            _ => false,
        }
    }

    fn got(
        &mut self,
        stream: usize,
        seq: u64,
        status: u16,
        headers: &[u8],
        payload: &[u8],
    ) -> Result<(), String> {
        if status == 404 || status == 503 || self.model.streams[stream].exists != Exists::Yes {
            return Ok(());
        }
        let direct = !headers.is_empty();
        let body = if direct {
            let told = wire::header(headers, "Nats-Sequence").and_then(|s| s.parse::<u64>().ok());
            if told != Some(seq) {
                return Err(format!("asked for {seq}, got {told:?}"));
            }
            payload.to_vec()
        } else {
            let json: Value = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
            match json.get("message") {
                Some(m) => base64(m["data"].as_str().unwrap_or_default()),
                None => return Ok(()),
            }
        };
        let uid = model::uid_of(&body).ok_or_else(|| format!("seq {seq} has a damaged body"))?;
        if self.is_of_the_past(stream, uid) {
            return Ok(());
        }
        self.model.observe(stream, seq, uid)?;
        self.model.must_not_be_gone(stream, seq, false)
    }

    fn api_answer(
        &mut self,
        id: u64,
        what: What,
        (optional, sent): (bool, i64),
        json: &Value,
    ) -> Result<(), String> {
        let error = json.get("error");
        let code = error.and_then(|e| e["err_code"].as_u64());
        let removal = matches!(what, What::Remove { .. } | What::Purge { .. });
        // Its stream is gone, or another one. Whether what failed was carried out is seen later.
        let gone = optional && (code == Some(10059) || removal);
        if gone || self.was_not_read(&what, code, sent) {
            return Ok(());
        }
        let surprise = |what: &What| Err(format!("{what:?} was answered with {json}"));
        match &what {
            &What::Create { stream } => {
                if !self.creation_answer(stream, code) {
                    return surprise(&what);
                }
            }
            &What::Update { stream, incarnation } => match code {
                _ if self.model.streams[stream].incarnation != incarnation => {}
                None => self.model.updated(stream, true),
                Some(10023) => self.model.updated(stream, false),
                _ => return surprise(&what),
            },
            &What::Bury { stream } => match code {
                None => self.stream_is_gone(stream),
                Some(10023) => self.model.streams[stream].exists = Exists::Yes,
                _ => return surprise(&what),
            },
            &What::Remove { stream, seq } => match code {
                None | Some(10043) if self.model.streams[stream].exists == Exists::Yes => {
                    self.message_is_gone(stream, seq);
                }
                None | Some(10043 | 10023 | 10057) => {}
                _ => return surprise(&what),
            },
            What::Purge { stream, known } => match code {
                None => {
                    self.model.removal_done(*stream, id, known);
                    self.world.tally.add(Rare::Purged);
                }
                Some(10023) => {}
                _ => return surprise(&what),
            },
            &What::TuneConsumer { consumer } if self.tuning_answer(consumer, code) => {}
            What::NewConsumer { .. } | What::DropConsumer { .. } => {
                if !self.consumer_answer(&what, code) {
                    return surprise(&what);
                }
            }
            &What::Info { stream, incarnation } => {
                let last = json["state"]["last_seq"].as_u64();
                if let Some(last) = last
                    && self.model.streams[stream].exists == Exists::Yes
                    && self.model.streams[stream].incarnation == incarnation
                {
                    self.model.saw_last(stream, last);
                }
            }
            _ => return surprise(&what),
        }
        Ok(())
    }

    fn message_is_gone(&mut self, stream: usize, seq: u64) {
        let generation = self.model.generation;
        self.model.streams[stream].removed = self.world.now;
        if let Some(fact) = self.model.streams[stream].facts.get_mut(&seq) {
            fact.state = State::Gone(generation);
        }
        self.world.tally.add(Rare::Deleted);
    }

    /// The answer to a stream's creation. False if it is none that is expected.
    fn creation_answer(&mut self, stream: usize, code: Option<u64>) -> bool {
        let again = self.is_being_created(stream);
        match code {
            None => {
                if let Some(settings) = self.wanted.remove(&stream) {
                    self.model.reborn(stream, settings);
                }
            }
            Some(10023) if again => {}
            Some(10023) => {
                if self.wanted.remove(&stream).is_some() {
                    self.model.streams[stream].exists = Exists::No;
                }
            }
            _ => return false,
        }
        true
    }

    /// The answer to a consumer's creation or removal. False if it is none that is expected.
    fn consumer_answer(&mut self, what: &What, code: Option<u64>) -> bool {
        let (&What::NewConsumer { consumer } | &What::DropConsumer { consumer }) = what else {
            return false;
        };
        let made = matches!(what, What::NewConsumer { .. });
        if made && code == Some(10026) {
            self.consumers[consumer].exists = Exists::No;
            self.world.tally.add(Rare::ConsumerRefused);
            let c = &self.consumers[consumer];
            let former = c.incarnation != self.model.streams[c.stream].incarnation;
            return former || self.may_have_too_many(consumer);
        }
        let c = &mut self.consumers[consumer];
        let stream = &mut self.model.streams[c.stream];
        if !made {
            stream.consumer_removed = self.world.now;
        }
        c.exists = match code {
            None if made && stream.exists == Exists::Yes && stream.incarnation == c.incarnation => {
                Exists::Yes
            }
            None if made && stream.exists == Exists::Maybe => Exists::Maybe,
            None if made && stream.exists == Exists::Yes => {
                // Its request may have come after the stream was made anew.
                c.incarnation = stream.incarnation;
                Exists::Maybe
            }
            None | Some(10059) => Exists::No,
            Some(10023) if made => Exists::No,
            // It is there, and begins when the index can be read.
            Some(10012) if made => Exists::Maybe,
            Some(10014) if !made => Exists::No,
            Some(10023) => Exists::Yes,
            _ => return false,
        };
        true
    }

    /// Whether a message may have come late, out of a stream that had the name before.
    fn is_of_the_past(&self, stream: usize, uid: u64) -> bool {
        let now = self.model.streams[stream].incarnation;
        let publish = self.model.publishes.get(&uid);
        publish.is_some_and(|p| p.incarnation != now && p.place.is_none_or(|(i, _)| i != now))
    }

    /// A consumer delivered a message.
    fn delivery(
        &mut self,
        conn: ConnId,
        subject: &str,
        reply: &str,
        t: &Token<'_>,
        payload: &[u8],
    ) -> Result<(), String> {
        self.world.tally.delivered += 1;
        let generation = self.model.generation;
        let at = self.model.stream_of(t.stream).ok_or_else(|| format!("a delivery of {reply}"))?;
        let uid = model::uid_of(payload).ok_or_else(|| format!("damaged body in {reply}"))?;
        if self.isolated {
            return Ok(());
        }
        self.in_one_row(conn, t).map_err(|why| format!("{reply}: {why}"))?;
        let (stream, incarnation) = (&self.model.streams[at], self.model.streams[at].incarnation);
        if stream.exists != Exists::Yes || !self.model.publishes.contains_key(&uid) {
            return match stream.exists {
                Exists::Yes => Err(format!("{reply}: message {uid} was never published")),
                _ => Ok(()),
            };
        }
        let p = &self.model.publishes[&uid];
        if subject.starts_with("s") && subject != p.subject {
            return Err(format!("{reply}: delivered as {subject}: {p:?}"));
        }
        if self.is_of_the_past(at, uid) {
            return Ok(());
        }
        self.model.observe(at, t.seq, uid)?;
        self.model.must_not_be_gone(at, t.seq, false)?;
        let found = self.consumers.iter().position(|c| {
            c.stream == at
                && c.incarnation == incarnation
                && c.name == t.consumer
                && c.exists == Exists::Yes
        });
        let Some(found) = found else { return Ok(()) };
        let c = &mut self.consumers[found];
        if !c.members.is_empty() {
            self.world.tally.add(Rare::Group);
        }
        let p = &self.model.publishes[&uid];
        let unwanted = !c.may_want(&p.subject, t.count > 1);
        if unwanted && c.named_again {
            return Ok(()); // Late, from the one that had its name before.
        } else if unwanted {
            return Err(format!("{reply}: {} is not what {c:?} wants", p.subject));
        }
        if c.is_settled_for(t.seq, conn, generation) {
            let tally = (c.settled.get(&t.seq), c.settled_below);
            return Err(format!("{reply}: delivered after its answered acknowledgement {tally:?}"));
        }
        if c.deliveries_max().is_some_and(|most| t.count > most) {
            return Err(format!("{reply}: delivered more often than allowed: {c:?}"));
        }
        self.count_delivery(found, t, reply)
    }

    /// Notes a delivery that is right.
    fn count_delivery(&mut self, found: usize, t: &Token<'_>, reply: &str) -> Result<(), String> {
        let (generation, c) = (self.model.generation, &mut self.consumers[found]);
        match *c.seen.entry(t.seq).or_insert(u32::MAX) {
            u32::MAX => *c.seen.entry(t.seq).or_default() = generation,
            g if g < generation => self.world.tally.add(Rare::RedeliveredAfterRestart),
            _ => self.world.tally.add(Rare::Redelivered),
        }
        if !c.named_again {
            c.deliveries.add(t).map_err(|why| format!("{reply}: {why}"))?;
        }
        if t.cseq > c.last_cseq + 1 {
            self.world.tally.add(Rare::ConsumerJump);
        }
        c.last_cseq = c.last_cseq.max(t.cseq);
        if c.ack != AckPolicy::None && !c.is_settled(t.seq) {
            c.open.insert(t.seq, reply.to_owned());
        }
        Ok(())
    }
}

/// Decodes base64, as message gets carry bodies.
pub fn base64(text: &str) -> Vec<u8> {
    let (mut out, mut bits, mut held) = (Vec::with_capacity(text.len() * 3 / 4), 0u32, 0);
    for b in text.bytes() {
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}
