//! Looking at everything at rest: whole streams and consumers, through the protocol.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::answers::{base64, is_read_error};
use crate::consumers::{AckPolicy, DeliverPolicy};
use crate::model::{self, Exists, State};
use crate::runner::{Runner, What};
use crate::wire;

/// Gets that are asked for at once.
const GETS: u64 = 128;
/// Rounds of pulls in which a consumer must be done.
const DRAIN_ROUNDS: usize = 400;

/// Gets that are asked again in one walk, because a read that was under way failed: each does once.
const READ_FAILURES_MAX: u32 = 8;

impl Runner {
    /// Asks, and waits for the answer.
    pub fn ask(&mut self, subject: &str, payload: &str) -> Result<Value, String> {
        self.ask_with(subject, &[], payload)
    }

    /// Asks with headers, and waits for the answer.
    pub fn ask_with(
        &mut self,
        subject: &str,
        fields: &[(&str, String)],
        payload: &str,
    ) -> Result<Value, String> {
        let begun = self.world.now;
        let Some((id, reply)) = self.begin(0, What::Probe) else {
            return Err("the first client is not connected".into());
        };
        self.publish(0, subject, &reply, &wire::headers(fields), payload.as_bytes());
        if !self.pump_until(|r| r.answers.contains_key(&id))? {
            return Err(format!("no answer to {subject} {payload}"));
        }
        self.answered_in(self.world.now - begun, subject)?;
        let (headers, body) = self.answers.remove(&id).unwrap_or_default();
        if wire::status(&headers) != 0 {
            return Err(format!("{subject} was answered with {}", wire::status(&headers)));
        }
        serde_json::from_slice(&body).map_err(|e| format!("{subject}: {e}"))
    }

    /// Compares all streams and consumers with the model. To be called at rest.
    pub fn audit_all(&mut self) -> Result<(), String> {
        for at in 0..self.model.streams.len() {
            self.resolve(at)?;
            if self.model.streams[at].exists == Exists::Yes {
                self.audit_stream(at)?;
            }
        }
        for c in 0..self.consumers.len() {
            self.resolve_consumer(c)?;
        }
        (0..self.model.streams.len()).try_for_each(|at| self.check_names(at))?;
        self.check_books()
    }

    /// Who is among a stream's consumers is known, and who is known is among them.
    fn check_names(&mut self, at: usize) -> Result<(), String> {
        if self.model.streams[at].exists != Exists::Yes {
            return Ok(());
        }
        let name = self.model.streams[at].name.clone();
        let answer = self.ask(&format!("$JS.API.CONSUMER.NAMES.{name}"), "")?;
        let listed = answer["consumers"].as_array().cloned().unwrap_or_default();
        let listed: BTreeSet<&str> = listed.iter().filter_map(Value::as_str).collect();
        let mine = (0..self.consumers.len()).filter(|&c| {
            let c = &self.consumers[c];
            c.stream == at && c.exists == Exists::Yes
        });
        let known: BTreeSet<&str> = mine.clone().map(|c| self.consumers[c].name.as_str()).collect();
        let gone = mine.filter(|&c| !self.may_be_gone(c)).map(|c| self.consumers[c].name.as_str());
        let most = self.model.streams[at].settings.max_consumers;
        if most.is_some_and(|most| listed.len() as u64 > most) {
            return Err(format!("{name} has more consumers than allowed: {listed:?}"));
        }
        if listed.is_subset(&known) && gone.into_iter().all(|name| listed.contains(name)) {
            return Ok(());
        }
        Err(format!("{name} should have the consumers {known:?} and has {listed:?}"))
    }

    /// Finds out whether a stream exists.
    fn resolve(&mut self, at: usize) -> Result<(), String> {
        let name = self.model.streams[at].name.clone();
        let info = self.ask(&format!("$JS.API.STREAM.INFO.{name}"), "")?;
        let there = info.get("error").is_none();
        match self.model.streams[at].exists {
            Exists::Yes if !there => Err(format!("{name} is gone: {info}")),
            Exists::No if there => Err(format!("{name} is there, and should not be: {info}")),
            Exists::Maybe => {
                match self.wanted.remove(&at) {
                    Some(settings) if there => self.model.reborn(at, settings),
                    _ if there => self.model.streams[at].exists = Exists::Yes,
                    _ => self.stream_is_gone(at),
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn audit_stream(&mut self, at: usize) -> Result<(), String> {
        let name = self.model.streams[at].name.clone();
        let subject = format!("$JS.API.STREAM.INFO.{name}");
        let mut info = self.ask(&subject, "")?;
        self.resolve_update(at, &info["config"]);
        let number = |info: &Value, field: &str| info["state"][field].as_u64().unwrap_or(0);
        let found = loop {
            let (first, last) = (number(&info, "first_seq"), number(&info, "last_seq"));
            let found = self.walk(at, &name, first, last)?;
            // Messages may reach their age meanwhile.
            let again = self.ask(&subject, "")?;
            let aged = self.model.streams[at].settings.max_age.is_some();
            if !aged || again["state"] == info["state"] {
                break found;
            }
            info = again;
        };
        let number = |field: &str| number(&info, field);
        let (first, last, bytes) = (number("first_seq"), number("last_seq"), number("bytes"));
        self.world.tally.audited += found.len() as u64;
        if number("messages") != found.len() as u64 {
            return Err(format!("{name}: {info} told, {} messages found", found.len()));
        }
        self.model.audit(at, &found, first, last, bytes)?;
        let seqs: Vec<u64> = found.keys().copied().collect();
        self.check_pending(at, &name, &seqs)?;
        self.look_closer(at, &name, &found)
    }

    /// Finds out whether an update without an answer was carried out.
    fn resolve_update(&mut self, at: usize, config: &Value) {
        let Some(new) = &self.model.streams[at].updating else { return };
        let is = |field: &str, limit: Option<u64>| {
            config[field].as_i64().filter(|&n| n > 0) == limit.map(|n| n as i64)
        };
        let done = is("max_msgs", new.max_msgs)
            && is("max_bytes", new.max_bytes)
            && is("max_msgs_per_subject", new.per_subject)
            && (config["discard"] == "new") == new.discard_new;
        self.model.updated(at, done);
    }

    /// Every message of a stream, got one by one.
    pub fn walk(
        &mut self,
        at: usize,
        name: &str,
        first: u64,
        last: u64,
    ) -> Result<BTreeMap<u64, u64>, String> {
        let mut found = BTreeMap::new();
        let direct = self.model.streams[at].settings.direct;
        let verb = if direct { "DIRECT" } else { "STREAM.MSG" };
        let subject = format!("$JS.API.{verb}.GET.{name}");
        let (mut from, mut failures) = (first.max(1), 0);
        while from <= last {
            let mut to = (from + GETS).min(last + 1);
            let mut asked = Vec::new();
            for seq in from..to {
                let Some((id, reply)) = self.begin(0, What::Probe) else { break };
                self.publish(0, &subject, &reply, &[], format!("{{\"seq\":{seq}}}").as_bytes());
                asked.push((seq, id));
            }
            if !self.pump_until(|r| asked.iter().all(|(_, id)| r.answers.contains_key(id)))? {
                return Err(format!("{name}: gets from {from} on are not answered"));
            }
            for (seq, id) in asked {
                let (headers, body) = self.answers.remove(&id).unwrap_or_default();
                let json: Value = serde_json::from_slice(&body).unwrap_or_default();
                if failures < READ_FAILURES_MAX && is_read_error(&json["error"]) {
                    (to, failures) = (to.min(seq), failures + 1);
                } else if let Some(uid) = self.gotten(at, seq, direct, &headers, &body)? {
                    found.insert(seq, uid);
                }
            }
            from = to;
        }
        Ok(found)
    }

    fn gotten(
        &mut self,
        at: usize,
        seq: u64,
        direct: bool,
        headers: &[u8],
        body: &[u8],
    ) -> Result<Option<u64>, String> {
        let name = self.model.streams[at].name.clone();
        let (body, subject, fields, time) = if direct {
            match wire::status(headers) {
                404 => return Ok(None),
                0 => {}
                other => return Err(format!("{name} seq {seq}: {other}")),
            }
            let header = |name| wire::header(headers, name).unwrap_or_default();
            (body.to_vec(), header("Nats-Subject"), headers.to_vec(), header("Nats-Time-Stamp"))
        } else {
            let json: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
            if let Some(error) = json.get("error") {
                return match error["err_code"].as_u64() {
                    Some(10037) => Ok(None),
                    _ => Err(format!("{name} seq {seq}: {error}")),
                };
            }
            let m = &json["message"];
            let text = |field: &str| m[field].as_str().unwrap_or_default();
            let (body, fields) = (base64(text("data")), base64(text("hdrs")));
            (body, text("subject").to_owned(), fields, text("time").to_owned())
        };
        let uid = model::uid_of(&body).ok_or(format!("{name} seq {seq}: a damaged body"))?;
        match self.model.publishes.get(&uid) {
            Some(p) if p.subject == subject && model::has_fields(p, &fields) => {
                self.came_at(at, seq, time).map(|()| Some(uid))
            }
            p => Err(format!("{name} seq {seq}: message {uid} as {subject}: {p:?}")),
        }
    }

    // ---- Consumers ----

    /// Finds out whether a consumer exists.
    fn resolve_consumer(&mut self, at: usize) -> Result<(), String> {
        let c = &self.consumers[at];
        if c.exists == Exists::No {
            return Ok(());
        }
        let (stream, name) = (self.model.streams[c.stream].name.clone(), c.name.clone());
        let info = self.ask(&format!("$JS.API.CONSUMER.INFO.{stream}.{name}"), "")?;
        let there = info.get("error").is_none();
        self.resolve_tuning(at, &info["config"]);
        let gone = self.may_be_gone(at);
        if self.consumers[at].exists == Exists::Yes && !there && !gone {
            return Err(format!("consumer {name} of {stream} is gone: {info}"));
        }
        self.consumers[at].exists = if there { Exists::Yes } else { Exists::No };
        Ok(())
    }

    /// What consumers say is pending, against what is there.
    fn check_pending(&mut self, stream: usize, name: &str, found: &[u64]) -> Result<(), String> {
        for at in 0..self.consumers.len() {
            let c = &self.consumers[at];
            // What begins with the last of each subject counts those apart.
            let apart = c.policy == DeliverPolicy::LastPerSubject;
            if c.stream != stream || c.exists != Exists::Yes || apart {
                continue;
            }
            let subject = format!("$JS.API.CONSUMER.INFO.{name}.{}", c.name);
            let info = self.ask(&subject, "")?;
            if info.get("error").is_some() && self.may_be_gone(at) {
                self.consumers[at].exists = Exists::No;
                continue;
            }
            if info.get("error").is_some() {
                return Err(format!("{subject}: {info}"));
            }
            let delivered = info["delivered"]["stream_seq"].as_u64().unwrap_or(0);
            let pending = info["num_pending"].as_u64().unwrap_or(0);
            self.resolve_tuning(at, &info["config"]);
            let c = &mut self.consumers[at];
            c.recent.clear();
            let open = info["num_ack_pending"].as_u64().unwrap_or(0);
            if open > c.open_max() {
                return Err(format!("{subject}: more are open than allowed: {info}"));
            }
            let c = &self.consumers[at];
            let wants = |seq: &u64| {
                let p = &self.model.publishes[&self.model.streams[stream].facts[seq].uid];
                c.tuning.wants(&p.subject)
            };
            let above = found.iter().filter(|&&seq| seq > delivered && wants(&seq)).count() as u64;
            // A push consumer goes on meanwhile, and messages may reach their age.
            let aged = self.model.streams[stream].settings.max_age.is_some();
            // What another filter passed over does not count.
            let fewer = (aged || c.was_filtered_anew()) && pending < above;
            if c.deliver.is_empty() && !fewer && pending != above
                || self.push_stands_still(at, pending, &info) && !self.push_moves(at, &subject)?
            {
                return Err(format!("{subject}: {pending} pending told, {above} found: {info}"));
            }
        }
        Ok(())
    }

    /// Pulls until nothing is left, and checks that everything came.
    pub fn drain_consumers(&mut self) -> Result<(), String> {
        for at in 0..self.consumers.len() {
            let c = &self.consumers[at];
            if c.exists != Exists::Yes {
                continue;
            }
            if c.ordered.is_some() {
                self.drain_ordered(at)?;
                continue;
            }
            if !c.deliver.is_empty() || c.was_limited() || c.is_short_lived() {
                continue;
            }
            self.drain(at)?;
            self.check_drained(at)?;
        }
        Ok(())
    }

    /// An ordered consumer whose client is there has delivered all, or does when it is pulled from.
    fn drain_ordered(&mut self, at: usize) -> Result<(), String> {
        let c = &self.consumers[at];
        let Some((client, _)) = c.ordered.filter(|_| self.has_its_client(c)) else {
            return Ok(());
        };
        if c.deliver.is_empty() {
            for _ in 0..DRAIN_ROUNDS {
                let before = self.consumers[at].seen.len();
                if self.consumers[at].may_be_gone(self.world.now) {
                    return Ok(());
                }
                self.pull_with(client, at, (100, None), "\"batch\":100,\"no_wait\":true");
                if !self.pump_until(|r| r.ops.is_empty())? {
                    return Err(format!("a pull has no end: {:?}", self.ops.values().next()));
                }
                if self.consumers[at].seen.len() == before {
                    break;
                }
            }
        }
        self.ordered_catches_up(at)
    }

    fn drain(&mut self, at: usize) -> Result<(), String> {
        for _ in 0..DRAIN_ROUNDS {
            // As much as may be open is less than that, maybe.
            self.pull_with(0, at, (100, None), "\"batch\":100,\"expires\":200000000");
            if !self.pump_until(|r| r.ops.is_empty())? {
                return Err(format!("a pull has no end: {:?}", self.ops.values().next()));
            }
            let seqs: Vec<u64> = self.consumers[at].open.keys().copied().collect();
            for seq in seqs {
                self.acknowledge_with(0, at, seq, b"+ACK");
            }
            if !self.pump_until(|r| r.ops.is_empty())? {
                return Err(format!("no answer: {:?}", self.ops.values().next()));
            }
            let c = &self.consumers[at];
            let (stream, name) = (self.model.streams[c.stream].name.clone(), c.name.clone());
            let info = self.ask(&format!("$JS.API.CONSUMER.INFO.{stream}.{name}"), "")?;
            let number = |field: &str| info[field].as_u64().unwrap_or(u64::MAX);
            if number("num_pending") == 0 && number("num_ack_pending") == 0 {
                return Ok(());
            }
            // What others got and did not acknowledge comes again.
            self.pump(self.world.now + 100_000_000)?;
        }
        Err(format!("a consumer is not done: {:?}", self.consumers[at]))
    }

    fn check_drained(&mut self, at: usize) -> Result<(), String> {
        let c = &self.consumers[at];
        // With `All`, what was lost on its way may have been settled by a later one.
        let from = match c.policy {
            DeliverPolicy::All => 0,
            DeliverPolicy::From(seq) => seq,
            _ => return Ok(()),
        };
        if c.ack != AckPolicy::Explicit {
            return Ok(());
        }
        let s = &self.model.streams[c.stream];
        for (seq, fact) in s.facts.iter().filter(|(_, f)| f.state == State::Live) {
            let p = &self.model.publishes[&fact.uid];
            let wanted = c.always_wants(&p.subject);
            let aged = s.settings.max_age.is_some();
            if *seq >= from && wanted && !aged && !c.seen.contains_key(seq) {
                return Err(format!("{} never got {} seq {seq}", c.name, s.name));
            }
        }
        Ok(())
    }

    // ---- Snapshots ----

    /// The state that a restart at rest must not change; with that of consumers, a clean one.
    pub fn snapshot(&mut self, consumers: bool) -> Result<BTreeMap<String, String>, String> {
        let mut all = BTreeMap::new();
        for at in 0..self.model.streams.len() {
            let s = &self.model.streams[at];
            if s.exists != Exists::Yes || s.settings.memory || s.settings.max_age.is_some() {
                continue;
            }
            let name = s.name.clone();
            let subject = format!("$JS.API.STREAM.INFO.{name}");
            let asked = "{\"deleted_details\":true,\"subjects_filter\":\">\"}";
            let mut info = self.ask(&subject, asked)?;
            let first = info["state"]["first_seq"].as_u64().unwrap_or(0);
            info["state"]["consumer_count"].take();
            all.insert(format!("state of {name}"), info["state"].take().to_string());
            all.insert(format!("config of {name}"), info["config"].take().to_string());
            for nth in 0..self.consumers.len() {
                let c = &self.consumers[nth];
                let stays = c.exists == Exists::Yes && !c.is_short_lived();
                if c.stream != at || !stays || !c.deliver.is_empty() {
                    continue;
                }
                let subject = format!("$JS.API.CONSUMER.INFO.{name}.{}", c.name);
                let key = format!("consumer {} of {name}", c.name);
                let timeless = !c.was_limited();
                let info = self.ask(&subject, "")?;
                let mut text = format!("config {}", info["config"]);
                // Those with a last delivery change with time.
                if consumers && timeless {
                    // A restart leaves behind what lies below the first message.
                    let below = first.saturating_sub(1);
                    for field in ["delivered", "ack_floor"] {
                        let of = &info[field];
                        match of["stream_seq"].as_u64().filter(|&seq| seq > below) {
                            Some(seq) => text += &format!(" {field} {} {seq}", of["consumer_seq"]),
                            None => text += &format!(" {field} below"),
                        }
                    }
                    for field in ["num_ack_pending", "num_redelivered", "num_pending"] {
                        text += &format!(" {field} {}", info[field]);
                    }
                }
                all.insert(key, text);
                self.note_progress(nth, &info);
            }
        }
        Ok(all)
    }
}
