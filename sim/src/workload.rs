//! What clients do.

use crate::consumers::{AckPolicy, Consumer, DeliverPolicy, MAX_OPEN, Token, Tuning};
use crate::model::{self, Exists, Fate, Publish, Removal, Settings, Uid};
use crate::runner::{DELIVER_SIDS, Runner, What};
use crate::tally::Rare;
use crate::wire;

/// Subjects of a stream.
pub const SUBJECTS: u64 = 6;
/// Consumers of a seed at most.
pub const CONSUMERS_MAX: usize = 24;
/// Operations that wait for an answer at most.
const OPS_MAX: usize = 300;

impl Runner {
    /// Does so many operations, at the plan's pace.
    pub fn work(&mut self, ops: u64) -> Result<(), String> {
        let mut burst = 0;
        for _ in 0..ops {
            if self.ops.len() < OPS_MAX {
                self.operate();
            }
            if burst > 0 {
                burst -= 1;
                continue;
            }
            if self.rng.chance(20_000) {
                burst = self.rng.below(60);
            }
            let mut gap = self.rng.below(2 * self.world.plan.pace) as i64;
            if self.rng.chance(2_000) {
                gap += self.rng.below(1_500_000_000) as i64;
            }
            self.pump(self.world.now + gap)?;
            if self.world.is_stopped() {
                self.start_after_failure()?;
            }
            self.disturb();
        }
        self.world.set_faults(|f| f.failed_flush_ppm = 0);
        self.settle_failure()
    }

    /// Nothing fails any more; a failure that is under way stops the node.
    fn settle_failure(&mut self) -> Result<(), String> {
        self.world.single.disarm();
        while let Some(by) = self.world.single.stop_by() {
            self.pump(by + 1)?;
            if self.world.is_stopped() {
                self.start_after_failure()?;
            }
        }
        // A read that fails and is under way comes to its end.
        match self.world.single.read_fails_by() {
            Some(by) => self.pump(by),
            None => Ok(()),
        }
    }

    fn let_one_fail(&mut self) {
        let disks = usize::from(self.world.plan.shards);
        if self.later.chance(20_000) {
            self.world.single.arm_copy(&mut self.later, disks);
        }
        if self.world.plan.aimed.page_reads && self.aims.chance(40_000) {
            self.world.single.arm_page_read(&mut self.aims, disks);
        }
        if self.later.chance(1_000) {
            self.world.single.arm_write(&mut self.later, disks);
        } else if self.later.chance(8_000) && self.world.single.stop_by().is_none() {
            self.world.single.arm_read(&mut self.later, disks);
        }
    }

    /// Things go wrong around the server.
    fn disturb(&mut self) {
        let plan = &self.world.plan;
        let (full, cuts, slow) = (plan.full_disk, plan.disconnects, plan.slow_readers);
        if full && self.rng.chance(4_000) {
            let room = self.rng.below(300_000);
            let used = (0..usize::from(self.world.plan.shards)).map(|s| self.world.disk_used(s));
            let used = used.max().unwrap_or(0);
            self.world.set_faults(|f| f.capacity_bytes = used + room);
        } else if full && self.rng.chance(8_000) {
            self.world.set_faults(|f| f.capacity_bytes = u64::MAX);
        }
        if self.world.plan.failing_flush && self.kinds.chance(3_000) {
            let shard = self.kinds.below(u64::from(self.world.plan.shards)) as usize;
            self.world.let_flush_fail(shard);
        }
        if self.world.plan.later.single_failures {
            self.let_one_fail();
        }
        if self.world.plan.later.impatient && self.later.chance(2_000) {
            self.fall_silent();
        }
        if cuts && self.rng.chance(3_000) {
            let client = self.client();
            self.disconnect(client);
        }
        if slow && self.rng.chance(5_000) {
            let client = self.client();
            let ns = self.rng.below(30_000_000) as i64;
            if let Some(s) = self.clients[client].conn.and_then(|c| self.world.sockets.get_mut(&c))
            {
                s.slow = if s.slow > 0 { 0 } else { ns };
            }
        }
    }

    fn client(&mut self) -> usize {
        self.rng.below(self.clients.len() as u64) as usize
    }

    /// One operation of some client.
    pub fn operate(&mut self) {
        let client = self.client();
        if self.world.plan.topics && self.more.chance(200_000) {
            return self.topic_operation(client);
        }
        if self.world.plan.kinds && self.kinds.chance(60_000) {
            return self.kind_operation(client);
        }
        if self.world.plan.large && self.large.chance(20_000) {
            return self.large_operation(client);
        }
        let stream = self.rng.below(self.model.streams.len() as u64) as usize;
        match self.model.streams[stream].exists {
            Exists::No => return self.create_stream(client, stream),
            Exists::Maybe => return,
            // Only for the client that asked for it, a stream is there on every reactor at once:
            // the word of it may wait behind a full lane.
            Exists::Yes if self.world.plan.stalls && self.model.is_new(stream) => return,
            Exists::Yes => {}
        }
        if self.world.plan.later.refused_again && self.later.chance(10_000) {
            return self.publish_refused(client, stream);
        }
        if self.world.plan.later.waiting_pulls && self.later.chance(5_000) {
            return self.pull_and_wait(client);
        }
        let (removals, churn, consumers, core, limited) = {
            let p = &self.world.plan;
            (p.removals, p.stream_churn, p.consumers, p.core_requests, p.limited_streams)
        };
        match self.rng.below(1_000) {
            0..=549 => self.publish_new(client, stream),
            550..=579 => self.publish_again(client, stream),
            580..=599 => self.info(client, stream),
            600..=619 => self.get(client, stream),
            620..=659 if removals => self.delete(client, stream),
            660..=666 if removals => self.purge(client, stream),
            667..=669 if churn => self.delete_stream(client, stream),
            670..=679 if consumers => self.create_consumer(client, stream),
            680..=681 if consumers && churn => self.delete_consumer(client),
            682..=769 if consumers => self.pull(client),
            770..=949 if consumers => self.acknowledge(client),
            950..=980 if core => self.core_request(client),
            981..=987 if limited => self.update_stream(client, stream),
            _ => self.publish_new(client, stream),
        }
    }

    // ---- Streams ----

    fn create_stream(&mut self, client: usize, stream: usize) {
        let settings = self.settings();
        if settings.memory {
            self.world.tally.add(Rare::MemoryStream);
        }
        let name = self.model.streams[stream].name.clone();
        let Some((_, reply)) = self.begin(client, What::Create { stream }) else { return };
        self.model.streams[stream].exists = Exists::Maybe;
        let body = stream_config(&name, stream, &settings);
        self.wanted.insert(stream, settings);
        let subject = format!("$JS.API.STREAM.CREATE.{name}");
        self.publish(client, &subject, &reply, &[], body.as_bytes());
        // Now and then again, before the answer.
        if self.rng.chance(150_000)
            && let Some((_, reply)) = self.begin(client, What::Create { stream })
        {
            self.world.tally.add(Rare::AskedTwice);
            self.publish(client, &subject, &reply, &[], body.as_bytes());
        }
    }

    /// Whether a creation of the stream waits for its answer.
    pub fn is_being_created(&self, stream: usize) -> bool {
        let of = |what: &What| matches!(what, What::Create { stream: s } if *s == stream);
        self.ops.values().any(|op| of(&op.what))
    }

    /// Other limits for a stream.
    fn update_stream(&mut self, client: usize, stream: usize) {
        let s = &self.model.streams[stream];
        if s.updating.is_some() {
            return;
        }
        let (name, incarnation, old) = (s.name.clone(), s.incarnation, s.settings.clone());
        let limits = self.settings();
        let (mut window, mut max_msg_size) = (old.window, old.max_msg_size);
        if self.world.plan.later.updates && self.later.chance(500_000) {
            max_msg_size = [None, Some(16 << 20), Some(24 << 20)][self.later.below(3) as usize];
        }
        if self.world.plan.later.updates && old.max_age.is_none() && self.later.chance(500_000) {
            window = Some(100_000_000 + self.later.below(5_000_000_000) as i64);
        }
        let Some((_, reply)) = self.begin(client, What::Update { stream, incarnation }) else {
            return;
        };
        let Settings { memory, direct, max_age, max_consumers, first, .. } = old;
        let kept = Settings { memory, direct, max_age, max_consumers, first, ..limits };
        let settings = Settings { window, max_msg_size, ..kept };
        let body = stream_config(&name, stream, &settings);
        let s = &mut self.model.streams[stream];
        if settings.window != s.settings.window {
            s.ids_unsure_before = i64::MAX;
        }
        s.updating = Some(settings);
        let subject = format!("$JS.API.STREAM.UPDATE.{name}");
        self.publish(client, &subject, &reply, &[], body.as_bytes());
    }

    fn settings(&mut self) -> Settings {
        let memory = self.world.plan.memory_streams && self.rng.chance(300_000);
        let mut s = Settings { memory, direct: self.rng.chance(500_000), ..Settings::default() };
        if self.world.plan.limited_streams && self.rng.chance(600_000) {
            let mut some = |max: u64| self.rng.chance(400_000).then(|| 1 + self.rng.below(max));
            s.max_msgs = some(150);
            s.max_bytes = some(60_000).map(|b| b + 500);
            s.per_subject = some(8);
            s.discard_new = self.rng.chance(250_000);
            if self.rng.chance(150_000) {
                s.max_age = Some(100_000_000 + self.rng.below(4_000_000_000) as i64);
            }
        }
        if self.world.plan.kinds && self.kinds.chance(300_000) {
            s.max_consumers = Some(2 + self.kinds.below(8));
        }
        if self.world.plan.kinds && s.max_age.is_none() && self.kinds.chance(200_000) {
            s.window = Some(500_000_000 + self.kinds.below(5_000_000_000) as i64);
        }
        s.first = self.world.plan.later.first_seq(&mut self.later);
        s
    }

    fn delete_stream(&mut self, client: usize, stream: usize) {
        if self.is_being_created(stream) {
            return;
        }
        let name = self.model.streams[stream].name.clone();
        let Some((_, reply)) = self.begin(client, What::Bury { stream }) else { return };
        self.model.streams[stream].exists = Exists::Maybe;
        self.let_go(stream, None);
        self.publish(client, &format!("$JS.API.STREAM.DELETE.{name}"), &reply, &[], b"");
    }

    /// What waits for something that goes away may wait in vain.
    pub fn let_go(&mut self, stream: usize, consumer: Option<usize>) {
        let (publishes, consumers) = (&self.model.publishes, &self.consumers);
        for op in self.ops.values_mut() {
            let concerned = match op.what {
                What::Publish { uid, .. } => consumer.is_none() && publishes[&uid].stream == stream,
                What::Remove { stream: s, .. }
                | What::Update { stream: s, .. }
                | What::Purge { stream: s, .. }
                | What::Info { stream: s, .. }
                | What::Get { stream: s, .. } => consumer.is_none() && s == stream,
                What::NewConsumer { consumer: c }
                | What::DropConsumer { consumer: c }
                | What::TuneConsumer { consumer: c }
                | What::Pull { consumer: c, .. }
                | What::Ack { consumer: c, .. } => {
                    consumers[c].stream == stream && consumer.is_none_or(|only| only == c)
                }
                _ => false,
            };
            op.optional |= concerned;
        }
    }

    fn info(&mut self, client: usize, stream: usize) {
        let name = self.model.streams[stream].name.clone();
        let incarnation = self.model.streams[stream].incarnation;
        let Some((_, reply)) = self.begin(client, What::Info { stream, incarnation }) else {
            return;
        };
        self.publish(client, &format!("$JS.API.STREAM.INFO.{name}"), &reply, &[], b"");
    }

    // ---- Messages ----

    pub fn publish_new(&mut self, client: usize, stream: usize) {
        let subject = format!("s{stream}.{}", self.rng.below(SUBJECTS));
        let most = self.world.plan.payload_max;
        let len = if self.rng.chance(2_000) {
            30_000 + self.rng.below(120_000)
        } else {
            self.rng.below(most)
        } as usize;
        let with_id = self.rng.chance(400_000);
        let mut fields = Vec::new();
        if with_id {
            fields.push(("Nats-Msg-Id", format!("m{}", self.next_uid)));
        }
        let floor = self.model.streams[stream].floor;
        if self.rng.chance(20_000) {
            fields.push(("Nats-Expected-Last-Sequence", floor.to_string()));
        }
        self.send_new(client, stream, subject, &fields, len);
    }

    /// Publishes a message that was not there before.
    pub fn send_new(
        &mut self,
        client: usize,
        stream: usize,
        subject: String,
        fields: &[(&str, String)],
        len: usize,
    ) {
        let uid = self.next_uid;
        self.next_uid += 1;
        let headers = wire::headers(fields);
        let with_id = fields.iter().any(|(name, _)| *name == "Nats-Msg-Id");
        let len = model::body(uid, len).len();
        let s = &self.model.streams[stream];
        let floor = s.floor;
        let memory = s.settings.memory;
        let mut p = Publish {
            stream,
            incarnation: s.incarnation,
            size: 0,
            subject,
            headers,
            len,
            with_id,
            fate: Fate::Pending,
            place: None,
            also: Vec::new(),
            sent_again: false,
            floor,
            generation: 0,
            fresh: false,
            sent: self.world.now,
            known: i64::MAX / 2,
        };
        p.size = p.size_in(memory);
        self.model.publishes.insert(uid, p);
        self.send_publish(client, uid, false);
    }

    pub fn send_publish(&mut self, client: usize, uid: Uid, retry: bool) {
        let Some((_, reply)) = self.begin(client, What::Publish { uid, retry }) else { return };
        let p = &self.model.publishes[&uid];
        let (subject, headers, len) = (p.subject.clone(), p.headers.clone(), p.len);
        self.publish(client, &subject, &reply, &headers, &model::body(uid, len));
    }

    /// The same message once more, under its message id.
    fn publish_again(&mut self, client: usize, stream: usize) {
        let incarnation = self.model.streams[stream].incarnation;
        let from = self.rng.below(self.next_uid);
        let now = self.world.now;
        let age = self.model.streams[stream].settings.max_age;
        let window = age.map_or(60_000_000_000, |age| age / 2);
        let found = self.model.publishes.range(from..).take(200).find(|(_, p)| {
            p.stream == stream
                && p.incarnation == incarnation
                && p.with_id
                && matches!(p.fate, Fate::Acked | Fate::Loose)
                && now - p.sent < window
        });
        let Some((&uid, _)) = found else { return self.publish_new(client, stream) };
        if let Some(p) = self.model.publishes.get_mut(&uid) {
            p.sent_again = true;
        }
        self.send_publish(client, uid, true);
    }

    /// Sends a message once more that was acknowledged.
    pub fn send_again(&mut self, client: usize, uid: Uid) {
        if let Some(p) = self.model.publishes.get_mut(&uid) {
            p.sent_again = true;
        }
        self.send_publish(client, uid, true);
    }

    /// Sends a message once more that was refused, without what it was refused for.
    pub fn send_refused_again(&mut self, client: usize, uid: Uid) {
        let now = self.world.now;
        let Some(p) = self.model.publishes.get_mut(&uid) else { return };
        p.fate = Fate::Pending;
        p.sent = now;
        p.floor = self.model.streams[p.stream].floor;
        let with_more = p.headers.len();
        p.headers = wire::headers(&[("Nats-Msg-Id", format!("m{uid}"))]);
        p.size -= (with_more - p.headers.len()) as u64;
        self.send_publish(client, uid, false);
    }

    fn some_seq(&mut self, stream: usize) -> Option<u64> {
        let facts = &self.model.streams[stream].facts;
        let s = &self.model.streams[stream];
        let from = s.base() + self.rng.below(s.seen() + 1);
        facts.range(from..).next().map(|(&seq, _)| seq)
    }

    fn get(&mut self, client: usize, stream: usize) {
        let Some(seq) = self.some_seq(stream) else { return };
        self.get_seq(client, stream, seq);
    }

    /// Gets a message.
    pub fn get_seq(&mut self, client: usize, stream: usize, seq: u64) {
        let name = self.model.streams[stream].name.clone();
        let Some((_, reply)) = self.begin(client, What::Get { stream, seq }) else { return };
        let body = format!("{{\"seq\":{seq}}}");
        let verb = if self.model.streams[stream].settings.direct { "DIRECT" } else { "STREAM.MSG" };
        self.publish(client, &format!("$JS.API.{verb}.GET.{name}"), &reply, &[], body.as_bytes());
    }

    fn delete(&mut self, client: usize, stream: usize) {
        let Some(seq) = self.some_seq(stream) else { return };
        self.delete_seq(client, stream, seq);
    }

    /// Removes a message.
    pub fn delete_seq(&mut self, client: usize, stream: usize, seq: u64) {
        let name = self.model.streams[stream].name.clone();
        let Some((op, reply)) = self.begin(client, What::Remove { stream, seq }) else { return };
        let s = &mut self.model.streams[stream];
        if let Some(fact) = s.facts.get_mut(&seq)
            && fact.state == model::State::Live
        {
            fact.state = model::State::Maybe;
        }
        let _ = op;
        let body = format!("{{\"seq\":{seq},\"no_erase\":true}}");
        let subject = format!("$JS.API.STREAM.MSG.DELETE.{name}");
        self.publish(client, &subject, &reply, &[], body.as_bytes());
    }

    fn purge(&mut self, client: usize, stream: usize) {
        let name = self.model.streams[stream].name.clone();
        let (base, seen) = (self.model.streams[stream].base(), self.model.streams[stream].seen());
        let what = What::Purge { stream, known: Vec::new() };
        let Some((op, reply)) = self.begin(client, what) else { return };
        let (mut filter, mut below, mut keep) = (String::new(), u64::MAX, 0);
        if self.rng.chance(600_000) {
            filter = format!("s{stream}.{}", self.rng.below(SUBJECTS));
        }
        match self.rng.below(3) {
            0 => below = base + 1 + self.rng.below(seen + 1),
            1 => keep = 1 + self.rng.below(20),
            _ => {}
        }
        let mut fields = Vec::new();
        if !filter.is_empty() {
            fields.push(format!("\"filter\":\"{filter}\""));
        }
        if below < u64::MAX {
            fields.push(format!("\"seq\":{below}"));
        }
        if keep > 0 {
            fields.push(format!("\"keep\":{keep}"));
        }
        let known = self.model.removal_begins(stream, op, Removal { filter, below });
        if keep == 0
            && let Some(op) = self.ops.get_mut(&op)
        {
            op.what = What::Purge { stream, known };
        }
        let body =
            if fields.is_empty() { String::new() } else { format!("{{{}}}", fields.join(",")) };
        self.publish(client, &format!("$JS.API.STREAM.PURGE.{name}"), &reply, &[], body.as_bytes());
    }

    // ---- Consumers ----

    fn create_consumer(&mut self, client: usize, stream: usize) {
        let now = self.world.now;
        let there = self.consumers.iter();
        let there = there.filter(|c| c.exists != Exists::No && !c.may_be_gone(now)).count();
        if there >= CONSUMERS_MAX {
            return;
        }
        let (incarnation, at) = (self.model.streams[stream].incarnation, self.consumers.len());
        // A name that was used before, now and then.
        let old = self.rng.below(at as u64 + 1) as usize;
        let reuse = self.consumers.get(old).filter(|c| {
            let same = |o: &&Consumer| o.stream == stream && o.name == c.name;
            let gone = |o: &Consumer| o.exists == Exists::No && o.changing.is_none();
            c.name.starts_with('C') && self.consumers.iter().filter(same).all(gone)
        });
        let name = reuse.map_or_else(|| format!("C{at}"), |c| c.name.clone());
        let named_again = reuse.is_some();
        let push = self.world.plan.push_consumers && self.rng.chance(400_000);
        let ack = [AckPolicy::Explicit, AckPolicy::Explicit, AckPolicy::All, AckPolicy::None]
            [self.rng.below(4) as usize];
        let filter = if self.rng.chance(400_000) {
            format!("s{stream}.{}", self.rng.below(SUBJECTS))
        } else {
            String::new()
        };
        let policy = match self.rng.below(20) {
            0 => DeliverPolicy::New,
            1 => DeliverPolicy::Last,
            2 if !filter.is_empty() => DeliverPolicy::LastPerSubject,
            3 => {
                let s = &self.model.streams[stream];
                DeliverPolicy::From(s.base() + 1 + self.rng.below(s.seen() + 2))
            }
            _ => DeliverPolicy::All,
        };
        let max_deliver = if self.rng.chance(150_000) { 1 + self.rng.below(4) } else { 0 };
        let deliver = if push { format!("d.{client}.{at}") } else { String::new() };
        if self.clients[client].conn.is_none() {
            return;
        }
        let mut c = Consumer::new(stream, incarnation, name, ack);
        c.policy = policy;
        c.tuning = Tuning { filter, max_deliver, max_open: MAX_OPEN };
        (c.deliver, c.named_again) = (deliver, named_again);
        c.wait = 20_000_000 + self.rng.below(2_000_000_000);
        let controlled = push && self.world.plan.thorough && self.more.chance(500_000);
        c.beat = controlled.then(|| 100_000_000 + self.more.below(2_000_000_000));
        self.send_creation(client, c);
    }

    /// Asks for a new consumer.
    pub fn send_creation(&mut self, client: usize, mut c: Consumer) {
        c.used = self.world.now;
        let at = self.consumers.len();
        let what = What::NewConsumer { consumer: at };
        let Some((_, reply)) = self.begin(client, what) else { return };
        if !c.deliver.is_empty() {
            self.world.tally.add(Rare::Push);
        }
        let stream = self.model.streams[c.stream].name.clone();
        let body = consumer_config(&c, &stream, "create");
        self.consumers.push(c);
        if self.world.plan.thorough {
            self.listen_to_consumer(client, at);
        }
        let api = format!("$JS.API.CONSUMER.CREATE.{stream}.{}", self.consumers[at].name);
        self.publish(client, &api, &reply, &[], body.as_bytes());
    }

    /// Those who are to get what a push consumer delivers subscribe.
    fn listen_to_consumer(&mut self, client: usize, at: usize) {
        let c = &self.consumers[at];
        if c.deliver.is_empty() {
            return;
        }
        let line = deliver_subscription(c, at);
        let members = if c.members.is_empty() { vec![client] } else { c.members.clone() };
        for member in members {
            self.publish_raw(member, &line);
        }
    }

    pub fn some_consumer(&mut self, wanted: impl Fn(&Consumer) -> bool) -> Option<usize> {
        let fit: Vec<usize> = (0..self.consumers.len())
            .filter(|&c| {
                let c = &self.consumers[c];
                let there = self.model.streams[c.stream].exists == Exists::Yes;
                there && c.exists == Exists::Yes && wanted(c)
            })
            .collect();
        (!fit.is_empty()).then(|| fit[self.rng.below(fit.len() as u64) as usize])
    }

    fn delete_consumer(&mut self, client: usize) {
        let Some(consumer) = self.some_consumer(|_| true) else { return };
        let (stream, name) =
            (self.consumers[consumer].stream, self.consumers[consumer].name.clone());
        let Some((_, reply)) = self.begin(client, What::DropConsumer { consumer }) else { return };
        self.consumers[consumer].exists = Exists::Maybe;
        self.let_go(stream, Some(consumer));
        let stream = self.model.streams[stream].name.clone();
        let subject = format!("$JS.API.CONSUMER.DELETE.{stream}.{name}");
        self.publish(client, &subject, &reply, &[], b"");
    }

    fn pull(&mut self, client: usize) {
        let Some(consumer) = self.some_consumer(|c| c.deliver.is_empty() && c.ordered.is_none())
        else {
            return;
        };
        let batch = 1 + self.rng.below(12);
        let mut fields = vec![format!("\"batch\":{batch}")];
        if self.rng.chance(400_000) {
            fields.push("\"no_wait\":true".into());
        }
        let expires = 5_000_000 + self.rng.below(3_000_000_000);
        fields.push(format!("\"expires\":{expires}"));
        let bytes = self.rng.chance(100_000).then(|| 200 + self.rng.below(20_000));
        if let Some(bytes) = bytes {
            fields.push(format!("\"max_bytes\":{bytes}"));
        }
        if self.rng.chance(100_000) {
            fields.push(format!("\"idle_heartbeat\":{}", expires / 3));
        }
        self.pull_with(client, consumer, (batch, bytes), &fields.join(","));
    }

    /// Sends a pull request for so many messages and bytes.
    pub fn pull_with(
        &mut self,
        client: usize,
        consumer: usize,
        (batch, bytes): (u64, Option<u64>),
        fields: &str,
    ) {
        let what = What::Pull { consumer, left: batch, bytes };
        let Some((_, reply)) = self.begin_apart(client, what, batch + 100) else { return };
        let c = &self.consumers[consumer];
        let (stream, name) = (&self.model.streams[c.stream].name, &c.name);
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}");
        self.publish(client, &subject, &reply, &[], format!("{{{fields}}}").as_bytes());
    }

    fn acknowledge(&mut self, client: usize) {
        let Some(consumer) = self.some_consumer(|c| !c.open.is_empty()) else { return };
        let open = &self.consumers[consumer].open;
        let nth = self.rng.below(open.len() as u64) as usize;
        let Some((&seq, _)) = open.iter().nth(nth) else { return };
        let kind: &[u8] = match self.rng.below(20) {
            0 => b"-NAK",
            1 => b"-NAK {\"delay\":30000000}",
            2 => b"+WPI",
            3 => b"+TERM",
            _ => b"+ACK",
        };
        self.acknowledge_with(client, consumer, seq, kind);
    }

    /// Acknowledges a delivery, and wants an answer most of the time.
    pub fn acknowledge_with(&mut self, client: usize, consumer: usize, seq: u64, kind: &[u8]) {
        let c = &mut self.consumers[consumer];
        let Some(subject) = c.open.get(&seq).cloned() else { return };
        let settles = kind == b"+ACK" || kind == b"+TERM";
        let cseq = Token::parse(&subject).map_or(0, |t| t.cseq);
        if settles {
            c.acked_cseq = c.acked_cseq.max(cseq);
            c.touched.insert(seq);
            c.open.remove(&seq);
        }
        if self.rng.chance(150_000) {
            return self.publish(client, &subject, "", &[], kind);
        }
        // With the policy `All`, only an acknowledgement settles what lies below.
        let settles = settles && (c.ack != AckPolicy::All || kind == b"+ACK");
        let what = What::Ack { consumer, seq, cseq, settles };
        let Some((op, reply)) = self.begin(client, what) else { return };
        if let Some(op) = self.ops.get_mut(&op) {
            op.optional = true;
        }
        self.publish(client, &subject, &reply, &[], kind);
    }

    // ---- Core ----

    /// A request to another client, on a fresh inbox.
    pub fn core_request(&mut self, client: usize) {
        let other = self.client();
        if !self.clients[other].confirmed {
            return;
        }
        let Some((_, reply)) = self.begin_apart(client, What::Core, 1) else { return };
        self.publish(client, &format!("svc.{other}"), &reply, &[], b"hello");
    }
}

/// The configuration of a stream.
pub fn stream_config(name: &str, at: usize, s: &Settings) -> String {
    let storage = if s.memory { "memory" } else { "file" };
    let mut fields = vec![
        format!("\"name\":\"{name}\",\"subjects\":[\"s{at}.>\"],\"storage\":\"{storage}\""),
        format!("\"allow_direct\":{}", s.direct),
        "\"retention\":\"limits\",\"num_replicas\":1".to_owned(),
    ];
    let consumers = s.max_consumers.map_or(-1, |n| n as i64);
    fields.push(format!("\"max_consumers\":{consumers}"));
    if s.first > 1 {
        fields.push(format!("\"first_seq\":{}", s.first));
    }
    fields.extend(s.window.map(|ns| format!("\"duplicate_window\":{ns}")));
    fields.extend(s.max_msg_size.map(|n| format!("\"max_msg_size\":{n}")));
    fields.push(format!("\"max_msgs\":{}", s.max_msgs.map_or(-1, |n| n as i64)));
    fields.push(format!("\"max_bytes\":{}", s.max_bytes.map_or(-1, |n| n as i64)));
    let per_subject = s.per_subject.map_or(-1, |n| n as i64);
    fields.push(format!("\"max_msgs_per_subject\":{per_subject}"));
    fields.push(format!("\"max_age\":{}", s.max_age.unwrap_or(0)));
    fields.push(format!("\"discard\":\"{}\"", if s.discard_new { "new" } else { "old" }));
    format!("{{{}}}", fields.join(","))
}

/// The line that subscribes to what a push consumer delivers.
pub fn deliver_subscription(c: &Consumer, at: usize) -> String {
    let group = if c.members.is_empty() { String::new() } else { format!(" g{at}") };
    format!("SUB {}{group} {}\r\n", c.deliver, DELIVER_SIDS + at)
}

/// A request to create or update a consumer.
pub fn consumer_config(c: &Consumer, stream: &str, action: &str) -> String {
    let ack = match c.ack {
        AckPolicy::None => "none",
        AckPolicy::Explicit => "explicit",
        AckPolicy::All => "all",
    };
    let policy = match c.policy {
        DeliverPolicy::All => "all",
        DeliverPolicy::New => "new",
        DeliverPolicy::Last => "last",
        DeliverPolicy::LastPerSubject => "last_per_subject",
        DeliverPolicy::From(_) => "by_start_sequence",
    };
    let mut fields = vec![
        format!("\"name\":\"{}\",\"ack_policy\":\"{ack}\"", c.name),
        format!("\"deliver_policy\":\"{policy}\",\"replay_policy\":\"instant\""),
    ];
    match c.inactive {
        None => fields.push(format!("\"durable_name\":\"{}\"", c.name)),
        Some(ns) => fields.push(format!("\"inactive_threshold\":{ns}")),
    }
    if let DeliverPolicy::From(seq) = c.policy {
        fields.push(format!("\"opt_start_seq\":{seq}"));
    }
    let tuning = c.changing.as_ref().unwrap_or(&c.tuning);
    if c.ack != AckPolicy::None {
        fields.push(format!("\"ack_wait\":{}", c.wait));
        if tuning.max_deliver > 0 {
            fields.push(format!("\"max_deliver\":{}", tuning.max_deliver));
        }
        if tuning.max_open != MAX_OPEN {
            fields.push(format!("\"max_ack_pending\":{}", tuning.max_open));
        }
    }
    if c.ordered.is_some() {
        fields.push("\"mem_storage\":true,\"max_deliver\":1".into());
    }
    if !tuning.filter.is_empty() {
        fields.push(format!("\"filter_subject\":\"{}\"", tuning.filter));
    }
    if !c.deliver.is_empty() {
        fields.push(format!("\"deliver_subject\":\"{}\"", c.deliver));
    }
    if !c.members.is_empty() {
        let group = c.deliver.rsplit('.').next().unwrap_or_default();
        fields.push(format!("\"deliver_group\":\"g{group}\""));
    }
    if let Some(beat) = c.beat {
        fields.push(format!("\"flow_control\":true,\"idle_heartbeat\":{beat}"));
    }
    let config = fields.join(",");
    format!("{{\"stream_name\":\"{stream}\",\"config\":{{{config}}},\"action\":\"{action}\"}}")
}
