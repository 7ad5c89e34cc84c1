//! Further kinds of consumers: ephemeral ones, ordered ones, those that push to a group; and
//! updates.
//!
//! An ephemeral consumer is there as long as somebody uses it, and gone some time after. An ordered
//! one is for one connection, which gets everything once, in order and without a gap; when the
//! connection breaks, another takes its place behind what came. Of a group, one member gets a
//! message.

use corelane::types::ConnId;
use serde_json::Value;

use crate::consumers::{AckPolicy, Consumer, DeliverPolicy, MAX_OPEN, Token};
use crate::model::{Exists, State, Stream};
use crate::runner::{DELIVER_SIDS, Runner, What};
use crate::tally::Rare;
use crate::workload::{CONSUMERS_MAX, SUBJECTS, consumer_config};

/// Bursts of messages, and messages of one.
const CROWD: usize = 12;
const CROWD_BURST: usize = 100;
/// A threshold that no seed reaches: to pull all from a consumer of which only a few messages may
/// be open takes more than an hour.
const LONG: i64 = 100 * 86_400_000_000_000;
/// How much later than it should an unused consumer goes away, at most.
const LATE: i64 = 1_000_000_000;

impl Runner {
    /// A new consumer of a further kind, or an update.
    pub fn kind_operation(&mut self, client: usize) {
        let stream = self.kinds.below(self.model.streams.len() as u64) as usize;
        let new = self.model.is_new(stream) && self.world.plan.stalls;
        if self.model.streams[stream].exists != Exists::Yes || new {
            return;
        }
        match self.kinds.below(10) {
            0 | 1 => self.create_ephemeral(client, stream),
            2 | 3 => self.create_ordered(client, stream, None),
            4 => self.create_group(client, stream),
            5 | 6 => self.pull_ordered(),
            _ => self.update_consumer(client),
        }
    }

    fn has_room(&self) -> bool {
        let now = self.world.now;
        let there = self.consumers.iter();
        there.filter(|c| c.exists != Exists::No && !c.may_be_gone(now)).count() < CONSUMERS_MAX
    }

    fn new_kind(&mut self, stream: usize, prefix: &str, ack: AckPolicy) -> Consumer {
        let name = format!("{prefix}{}", self.consumers.len());
        let mut c = Consumer::new(stream, self.model.streams[stream].incarnation, name, ack);
        if self.kinds.chance(300_000) {
            c.tuning.filter = format!("s{stream}.{}", self.kinds.below(SUBJECTS));
        }
        c.wait = 200_000_000 + self.kinds.below(2_000_000_000);
        c
    }

    fn create_ephemeral(&mut self, client: usize, stream: usize) {
        if !self.has_room() || self.clients[client].conn.is_none() {
            return;
        }
        let ack = [AckPolicy::Explicit, AckPolicy::All, AckPolicy::None];
        let ack = ack[self.kinds.below(3) as usize];
        let mut c = self.new_kind(stream, "E", ack);
        let short = 300_000_000 + self.kinds.below(2_000_000_000) as i64;
        c.inactive = Some(if self.kinds.chance(600_000) { short } else { LONG });
        c.used = self.world.now;
        if self.kinds.chance(200_000) {
            c.deliver = format!("d.{client}.{}", self.consumers.len());
        }
        self.world.tally.add(Rare::Ephemeral);
        self.send_creation(client, c);
    }

    /// One for this client's connection, perhaps in place of another.
    fn create_ordered(&mut self, client: usize, stream: usize, after: Option<usize>) {
        let Some(conn) = self.clients[client].conn.filter(|_| self.has_room()) else { return };
        let mut c = self.new_kind(stream, "O", AckPolicy::None);
        c.inactive = Some(2_500_000_000);
        c.used = self.world.now;
        c.ordered = Some((client, conn));
        match after {
            Some(old) => {
                c.tuning.filter = self.consumers[old].tuning.filter.clone();
                let next = self.consumers[old].seen.keys().next_back().map_or(1, |seq| seq + 1);
                c.policy = DeliverPolicy::From(next);
                self.world.tally.add(Rare::OrderedAgain);
            }
            None if self.kinds.chance(300_000) => {
                let s = &self.model.streams[stream];
                let from = s.base() + 1 + self.kinds.below(s.seen() + 2);
                c.policy = DeliverPolicy::From(from);
            }
            None => {}
        }
        if self.kinds.chance(600_000) {
            c.deliver = format!("d.{client}.{}", self.consumers.len());
            c.beat = Some(100_000_000 + self.kinds.below(2_000_000_000));
        }
        self.world.tally.add(Rare::Ordered);
        self.send_creation(client, c);
    }

    /// One that delivers to a group of two.
    fn create_group(&mut self, client: usize, stream: usize) {
        if !self.has_room() || self.clients[client].conn.is_none() {
            return;
        }
        let ack = if self.kinds.chance(800_000) { AckPolicy::Explicit } else { AckPolicy::None };
        let mut c = self.new_kind(stream, "G", ack);
        c.deliver = format!("dq.{}", self.consumers.len());
        c.members = vec![client, (client + 1) % self.clients.len()];
        self.send_creation(client, c);
    }

    /// The one for whom it is pulls from an ordered consumer, or makes another in its place.
    fn pull_ordered(&mut self) {
        // After a crash another takes the place of each.
        let ordered =
            |c: &Consumer| c.ordered.is_some() && (c.exists == Exists::Yes || !c.named_again);
        let of_stream = |c: &Consumer| {
            let s = &self.model.streams[c.stream];
            s.exists == Exists::Yes && s.incarnation == c.incarnation
        };
        let all = self.consumers.iter().enumerate();
        let fit: Vec<usize> =
            all.filter(|(_, c)| ordered(c) && of_stream(c)).map(|(at, _)| at).collect();
        if fit.is_empty() {
            return;
        }
        let at = fit[self.kinds.below(fit.len() as u64) as usize];
        let c = &self.consumers[at];
        let (stream, pulls) = (c.stream, c.deliver.is_empty() && c.exists == Exists::Yes);
        match c.ordered {
            Some((client, conn)) if self.clients[client].conn == Some(conn) => {
                if !pulls {
                    return;
                }
                let expires = 5_000_000 + self.kinds.below(500_000_000);
                let batch = 1 + self.kinds.below(30);
                let fields = format!("\"batch\":{batch},\"expires\":{expires}");
                self.pull_with(client, at, (batch, None), &fields);
            }
            Some((client, _)) if !self.consumers[at].named_again => {
                // Nobody takes its place twice.
                self.consumers[at].named_again = true;
                self.create_ordered(client, stream, Some(at));
            }
            _ => {}
        }
    }

    fn update_consumer(&mut self, client: usize) {
        let now = self.world.now;
        let all = self.consumers.iter().enumerate().filter(|(_, c)| {
            let s = &self.model.streams[c.stream];
            let there = s.exists == Exists::Yes && s.incarnation == c.incarnation;
            let fits = c.ordered.is_none() && c.changing.is_none() && !c.may_be_gone(now);
            there && fits && c.exists == Exists::Yes
        });
        let fit: Vec<usize> = all.map(|(at, _)| at).collect();
        if fit.is_empty() {
            return;
        }
        let at = fit[self.kinds.below(fit.len() as u64) as usize];
        let stream = self.consumers[at].stream;
        let what = What::TuneConsumer { consumer: at };
        let Some((_, reply)) = self.begin(client, what) else { return };
        let mut tuning = self.consumers[at].tuning.clone();
        let by_subject = self.consumers[at].policy == DeliverPolicy::LastPerSubject;
        match self.kinds.below(4) {
            0 | 1 => {
                tuning.filter = match self.kinds.chance(600_000) || by_subject {
                    true => format!("s{stream}.{}", self.kinds.below(SUBJECTS)),
                    false => String::new(),
                }
            }
            2 => tuning.max_open = if self.kinds.chance(500_000) { MAX_OPEN } else { 8 },
            _ => tuning.max_deliver = self.kinds.below(4),
        }
        let c = &mut self.consumers[at];
        c.changing = Some(tuning);
        let name = &self.model.streams[stream].name;
        let body = consumer_config(c, name, "update");
        let api = format!("$JS.API.CONSUMER.CREATE.{name}.{}", c.name);
        self.publish(client, &api, &reply, &[], body.as_bytes());
    }

    /// The answer to an update. False if it is none that is expected.
    pub fn tuning_answer(&mut self, consumer: usize, code: Option<u64>) -> bool {
        let now = self.world.now;
        let c = &mut self.consumers[consumer];
        // With its stream it goes before the word of either's end comes.
        let stream_goes = self.model.streams[c.stream].exists != Exists::Yes;
        match code {
            None => {
                c.updated(true);
                self.world.tally.add(Rare::Tuned);
            }
            Some(10023) => c.updated(false),
            // It is gone, or going.
            Some(10149) if c.exists != Exists::Yes || stream_goes || c.may_be_gone(now) => {
                c.updated(false);
            }
            _ => return false,
        }
        true
    }

    /// Finds out from its configuration whether an update without an answer was carried out.
    pub fn resolve_tuning(&mut self, consumer: usize, config: &Value) {
        let c = &mut self.consumers[consumer];
        let Some(new) = &c.changing else { return };
        let filter = config["filter_subject"].as_str().unwrap_or_default();
        let acks = c.ack != AckPolicy::None;
        let max_deliver = config["max_deliver"].as_i64().filter(|&n| n > 0).unwrap_or(0) as u64;
        let max_open = config["max_ack_pending"].as_u64().unwrap_or(MAX_OPEN);
        let done = filter == new.filter
            && (!acks || max_deliver == new.max_deliver && max_open == new.max_open);
        c.updated(done);
    }

    /// A delivery to a deliver subject is of the consumer that it is for.
    pub fn came_to(&self, sid: u64, t: &Token<'_>) -> Result<(), String> {
        let consumer = (sid as usize).checked_sub(DELIVER_SIDS);
        match consumer.and_then(|at| self.consumers.get(at)) {
            Some(c) if c.name != t.consumer => {
                Err(format!("it came to the listener of {}", c.name))
            }
            _ => Ok(()),
        }
    }

    /// A delivery of an ordered consumer on the connection that it is for: there is no gap.
    pub fn in_one_row(&mut self, conn: ConnId, t: &Token<'_>) -> Result<(), String> {
        let its = |c: &&mut Consumer| c.name == t.consumer && c.ordered.is_some();
        let Some(c) = self.consumers.iter_mut().find(its) else { return Ok(()) };
        if c.ordered.is_none_or(|(_, only)| only != conn) {
            return Ok(());
        }
        let (cseq, seq) = std::mem::replace(&mut c.row, (t.cseq, t.seq));
        c.seen.insert(t.seq, self.model.generation);
        if t.cseq != cseq + 1 || t.count != 1 || t.seq <= seq {
            return Err(format!("the last of an ordered consumer was {cseq}, {seq}"));
        }
        Ok(())
    }

    /// A connection is gone, and with it whoever used an ordered consumer.
    pub fn ordered_gone(&mut self, conn: ConnId) {
        let now = self.world.now;
        let its = |c: &&mut Consumer| c.ordered.is_some_and(|(_, o)| o == conn);
        // Somebody who listens uses it; who pulls did so when he pulled.
        for c in self.consumers.iter_mut().filter(its).filter(|c| !c.deliver.is_empty()) {
            c.used = c.used.max(now);
        }
    }

    /// Many messages, and somebody who wants them all at once: more than one go of a handler.
    pub fn crowd(&mut self) -> Result<(), String> {
        if !self.world.plan.kinds || !self.kinds.chance(300_000) {
            return Ok(());
        }
        let fits = |s: &Stream| {
            let set = &s.settings;
            let limited = set.max_msgs.or(set.max_bytes).or(set.per_subject);
            s.exists == Exists::Yes && limited.is_none() && set.max_age.is_none()
        };
        let Some(stream) = self.model.streams.iter().position(fits) else { return Ok(()) };
        for _ in 0..CROWD {
            for _ in 0..CROWD_BURST {
                self.publish_new(0, stream);
            }
            self.pump(self.world.now + 1_000_000)?;
        }
        self.rest()?;
        let Some(conn) = self.clients[0].conn else { return Ok(()) };
        let mut c = self.new_kind(stream, "O", AckPolicy::None);
        let at = self.consumers.len();
        (c.inactive, c.ordered) = (Some(2_500_000_000), Some((0, conn)));
        (c.tuning.filter, c.deliver) = (String::new(), format!("d.0.{at}"));
        self.send_creation(0, c);
        self.rest()?;
        self.audit_all()?;
        let c = &self.consumers[at];
        if c.exists == Exists::Yes && self.has_its_client(c) {
            self.ordered_catches_up(at)?;
            self.world.tally.add(Rare::Crowd);
        }
        Ok(())
    }

    /// Whether its stream may have had as many consumers as it may have without this one.
    pub fn may_have_too_many(&self, consumer: usize) -> bool {
        let stream = self.consumers[consumer].stream;
        if self.model.streams[stream].consumer_removed >= self.consumers[consumer].used {
            return true;
        }
        let others = self
            .consumers
            .iter()
            .enumerate()
            .filter(|&(at, c)| at != consumer && c.stream == stream && c.exists != Exists::No);
        let count = others.count() as u64;
        self.model.streams[stream].settings.max_consumers.is_some_and(|most| count >= most)
    }

    /// Whether a consumer may be gone because nobody used it.
    pub fn may_be_gone(&self, at: usize) -> bool {
        let c = &self.consumers[at];
        let listened = !c.deliver.is_empty() && self.has_its_client(c);
        !listened && c.may_be_gone(self.world.now)
    }

    /// Whether the client of an ordered consumer is still there.
    pub fn has_its_client(&self, c: &Consumer) -> bool {
        c.ordered.is_some_and(|(client, conn)| self.clients[client].conn == Some(conn))
    }

    /// At rest: what nobody used for long enough is gone.
    pub fn idle_out(&mut self) -> Result<(), String> {
        let listened = |r: &Self, c: &Consumer| {
            !c.deliver.is_empty() && (c.ordered.is_none() || r.has_its_client(c))
        };
        let short: Vec<usize> = (0..self.consumers.len())
            .filter(|&at| {
                let c = &self.consumers[at];
                let there = c.exists == Exists::Yes && !listened(self, c);
                there && c.is_short_lived()
            })
            .collect();
        if short.is_empty() {
            return Ok(());
        }
        let takes = |c: &Consumer| {
            // What waits for its acknowledgement counts as use.
            let owed = if c.ack == AckPolicy::None { 0 } else { c.wait as i64 };
            c.inactive.unwrap_or(0) + owed
        };
        let most = short.iter().map(|&at| takes(&self.consumers[at])).max().unwrap_or(0);
        self.pump(self.world.now + most + LATE)?;
        for at in short {
            let c = &self.consumers[at];
            let (stream, name) = (self.model.streams[c.stream].name.clone(), c.name.clone());
            let api = format!("$JS.API.CONSUMER.INFO.{stream}.{name}");
            let info = self.ask(&api, "")?;
            if info["error"]["err_code"] != 10014 {
                let c = &self.consumers[at];
                return Err(format!("nobody uses it, and it is there: {c:?}: {info}"));
            }
            self.consumers[at].exists = Exists::No;
            self.world.tally.add(Rare::EphemeralGone);
        }
        Ok(())
    }

    /// An ordered consumer delivers all that is there. What is pushed may still be on its way to a
    /// slow reader: as long as it moves.
    pub fn ordered_catches_up(&mut self, at: usize) -> Result<(), String> {
        loop {
            let before = self.consumers[at].seen.len();
            let checked = self.check_ordered(&self.consumers[at]);
            if checked.is_ok() {
                return checked;
            }
            self.pump(self.world.now + 100_000_000)?;
            if self.consumers[at].seen.len() == before {
                return checked;
            }
        }
    }

    /// An ordered consumer at rest has delivered all that is there from its start on.
    fn check_ordered(&self, c: &Consumer) -> Result<(), String> {
        let s = &self.model.streams[c.stream];
        let from = if let DeliverPolicy::From(seq) = c.policy { seq } else { 0 };
        for (seq, fact) in s.facts.range(from..).filter(|(_, f)| f.state == State::Live) {
            let p = &self.model.publishes[&fact.uid];
            let aged = s.settings.max_age.is_some();
            if c.tuning.wants(&p.subject) && !aged && !c.seen.contains_key(seq) {
                return Err(format!("ordered {} never got {} seq {seq}", c.name, s.name));
            }
        }
        Ok(())
    }
}
