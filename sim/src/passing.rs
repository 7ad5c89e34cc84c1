//! Messages that pass through a stream beside one that stays: what passed takes no memory.

use crate::runner::{Runner, What};
use crate::tally::Rare;

/// The subject whose message stays.
const OLD: &str = "passing.old";
/// Messages before the page boundary, and in all.
const BEFORE: u64 = 150;
const ALL: u64 = 170;

/// A stream that is made for this.
struct Passing {
    name: &'static str,
    storage: &'static str,
    /// A limit, as the configuration has it.
    limit: &'static str,
    /// Each message has a subject of its own, and consumers want some of them.
    unique: bool,
}

const STREAMS: [Passing; 3] = [
    Passing {
        name: "PASSING_M",
        storage: "memory",
        limit: "\"max_msgs_per_subject\":1",
        unique: false,
    },
    Passing {
        name: "PASSING_F",
        storage: "file",
        limit: "\"max_msgs_per_subject\":1",
        unique: false,
    },
    Passing { name: "PASSING_U", storage: "file", limit: "\"max_msgs\":5", unique: true },
];

impl Runner {
    /// At rest: one old message and many of a hot subject, across a page boundary; and many
    /// subjects through a small stream with consumers.
    pub fn pass_through(&mut self) -> Result<(), String> {
        if !self.world.plan.later.passing || self.rotten || self.isolated {
            return Ok(());
        }
        STREAMS.iter().try_for_each(|stream| self.pass(stream))?;
        self.world.tally.add(Rare::PassedThrough);
        Ok(())
    }

    fn pass(&mut self, stream: &Passing) -> Result<(), String> {
        let Passing { name, storage, limit, unique } = stream;
        let first = 4_096 - BEFORE;
        let config = format!(
            "{{\"name\":\"{name}\",\"subjects\":[\"passing.>\"],\"storage\":\"{storage}\",\
             \"retention\":\"limits\",\"num_replicas\":1,\"first_seq\":{first},{limit}}}"
        );
        self.must(&format!("$JS.API.STREAM.CREATE.{name}"), &config)?;
        for filter in ["passing.*.x", "passing.>"].iter().filter(|_| *unique) {
            let config = format!(
                "{{\"stream_name\":\"{name}\",\"config\":{{\"durable_name\":\"C{}\",\
                 \"ack_policy\":\"none\",\"filter_subject\":\"{filter}\"}}}}",
                filter.len()
            );
            let api = format!("$JS.API.CONSUMER.DURABLE.CREATE.{name}.C{}", filter.len());
            self.must(&api, &config)?;
        }
        let mut sent = Vec::new();
        for n in 0..ALL {
            let subject = match n {
                0 => OLD.to_owned(),
                _ if *unique => format!("passing.{n}.{}", ["x", "y"][n as usize % 2]),
                _ => "passing.hot".to_owned(),
            };
            let Some((op, reply)) = self.begin(0, What::Probe) else { continue };
            self.publish(0, &subject, &reply, &[], b"passes");
            sent.push(op);
        }
        if !self.pump_until(|r| sent.iter().all(|op| r.answers.contains_key(op)))? {
            return Err(format!("{name}: publishes are not answered"));
        }
        let mut full = false;
        for op in sent {
            let (_, answer) = self.answers.remove(&op).unwrap_or_default();
            let json: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
            full |= json["error"]["err_code"] == 10023;
            if json["seq"].is_null() {
                return Err(format!("{name}: no PubAck: {json}"));
            }
        }
        self.check_memory()?;
        if full {
            return self.must(&format!("$JS.API.STREAM.DELETE.{name}"), "");
        }
        let info = self.ask(&format!("$JS.API.STREAM.INFO.{name}"), "")?;
        let state = &info["state"];
        let left = if *unique { 5 } else { 2 };
        if state["messages"] != left || state["last_seq"] != first + ALL - 1 {
            return Err(format!("{name}: {left} messages are left, and not {state}"));
        }
        self.must(&format!("$JS.API.STREAM.DELETE.{name}"), "")
    }

    /// Asks for something that is not refused.
    pub fn must(&mut self, subject: &str, payload: &str) -> Result<(), String> {
        let answer = self.ask(subject, payload)?;
        match answer.get("error") {
            Some(error) => Err(format!("{subject}: {error}")),
            None => Ok(()),
        }
    }

    /// Nothing takes more memory than what is there explains.
    pub fn check_memory(&self) -> Result<(), String> {
        self.world.reactors.iter().flatten().try_for_each(|r| r.core.audit_memory())
    }
}
