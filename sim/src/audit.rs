//! Looking at everything at rest: whole streams and consumers, through the protocol.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::answers::base64;
use crate::consumers::{AckPolicy, DeliverPolicy};
use crate::model::{self, Exists, State};
use crate::runner::{Runner, What};
use crate::wire;

/// Gets that are asked for at once.
const GETS: u64 = 128;
/// Rounds of pulls in which a consumer must be done.
const DRAIN_ROUNDS: usize = 400;

impl Runner {
    /// Asks, and waits for the answer.
    fn ask(&mut self, subject: &str, payload: &str) -> Result<Value, String> {
        let Some((id, reply)) = self.begin(0, What::Probe) else {
            return Err("the first client is not connected".into());
        };
        self.publish(0, subject, &reply, &[], payload.as_bytes());
        if !self.pump_until(|r| r.answers.contains_key(&id))? {
            return Err(format!("no answer to {subject} {payload}"));
        }
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
        Ok(())
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
        let pending: Vec<u64> = found.keys().copied().collect();
        self.check_pending(at, &name, &pending)
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
    fn walk(
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
        let mut from = first.max(1);
        while from <= last {
            let to = (from + GETS).min(last + 1);
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
                if let Some(uid) = self.gotten(at, seq, direct, &headers, &body)? {
                    found.insert(seq, uid);
                }
            }
            from = to;
        }
        Ok(found)
    }

    fn gotten(
        &self,
        at: usize,
        seq: u64,
        direct: bool,
        headers: &[u8],
        body: &[u8],
    ) -> Result<Option<u64>, String> {
        let name = &self.model.streams[at].name;
        let (body, subject) = if direct {
            match wire::status(headers) {
                404 => return Ok(None),
                0 => {}
                other => return Err(format!("{name} seq {seq}: {other}")),
            }
            (body.to_vec(), wire::header(headers, "Nats-Subject").unwrap_or_default())
        } else {
            let json: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
            if let Some(error) = json.get("error") {
                return match error["err_code"].as_u64() {
                    Some(10037) => Ok(None),
                    _ => Err(format!("{name} seq {seq}: {error}")),
                };
            }
            let m = &json["message"];
            let subject = m["subject"].as_str().unwrap_or_default().to_owned();
            (base64(m["data"].as_str().unwrap_or_default()), subject)
        };
        let uid = model::uid_of(&body).ok_or(format!("{name} seq {seq}: a damaged body"))?;
        match self.model.publishes.get(&uid) {
            Some(p) if p.subject == subject => Ok(Some(uid)),
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
        if self.consumers[at].exists == Exists::Yes && !there {
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
            if info.get("error").is_some() {
                return Err(format!("{subject}: {info}"));
            }
            let delivered = info["delivered"]["stream_seq"].as_u64().unwrap_or(0);
            let pending = info["num_pending"].as_u64().unwrap_or(0);
            let c = &self.consumers[at];
            let wants = |seq: &u64| {
                let p = &self.model.publishes[&self.model.streams[stream].facts[seq].uid];
                c.filter.is_empty() || c.filter == p.subject
            };
            let above = found.iter().filter(|&&seq| seq > delivered && wants(&seq)).count() as u64;
            // A push consumer goes on meanwhile, and messages may reach their age.
            let aged = self.model.streams[stream].settings.max_age.is_some() && pending < above;
            if c.deliver.is_empty() && !aged && pending != above {
                return Err(format!("{subject}: {pending} pending told, {above} found: {info}"));
            }
        }
        Ok(())
    }

    /// Pulls until nothing is left, and checks that everything came.
    pub fn drain_consumers(&mut self) -> Result<(), String> {
        for at in 0..self.consumers.len() {
            let c = &self.consumers[at];
            if c.exists != Exists::Yes || !c.deliver.is_empty() || c.max_deliver > 0 {
                continue;
            }
            self.drain(at)?;
            self.check_drained(at)?;
        }
        Ok(())
    }

    fn drain(&mut self, at: usize) -> Result<(), String> {
        for _ in 0..DRAIN_ROUNDS {
            self.pull_with(0, at, (100, None), "\"batch\":100,\"no_wait\":true");
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
            let wanted = c.filter.is_empty() || c.filter == p.subject;
            let aged = s.settings.max_age.is_some();
            if *seq >= from && wanted && !aged && !c.seen.contains_key(seq) {
                return Err(format!("{} never got {} seq {seq}", c.name, s.name));
            }
        }
        Ok(())
    }

    // ---- Snapshots ----

    /// The state that a restart at rest must not change.
    pub fn snapshot(&mut self) -> Result<BTreeMap<String, String>, String> {
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
            all.insert(format!("state of {name}"), info["state"].take().to_string());
            all.insert(format!("config of {name}"), info["config"].take().to_string());
            for c in 0..self.consumers.len() {
                let c = &self.consumers[c];
                if c.stream != at || c.exists != Exists::Yes || !c.deliver.is_empty() {
                    continue;
                }
                let subject = format!("$JS.API.CONSUMER.INFO.{name}.{}", c.name);
                let key = format!("consumer {} of {name}", c.name);
                let info = self.ask(&subject, "")?;
                let text = format!("config {}", info["config"]);
                all.insert(key, text);
            }
        }
        Ok(all)
    }
}
