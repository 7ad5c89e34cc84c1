//! One seed: clients, what they have asked, and the phases of a run.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use corelane::types::ConnId;
use corelane_storage::device::sim::SimRng;

use crate::aimed::{AIMED, Aimed};
use crate::answers::READ_ERROR;
use crate::closer::Progress;
use crate::consumers::Consumer;
use crate::later::{LATER, Later};
use crate::model::{Exists, Fate, Model, Settings, Uid};
use crate::plan::{KINDS, LARGE, MORE, Plan};
use crate::tally::{Rare, Tally};
use crate::topics::Topics;
use crate::wire::{self, Incoming};
use crate::workload::deliver_subscription;
use crate::world::{Happened, World};

/// How long an answer may take at rest, in nanoseconds.
const ANSWER_MAX: i64 = 60_000_000_000;
/// Turns of one seed at most: more is a node that does not come to rest.
const TURNS_MAX: u64 = 20_000_000;

/// Subscription ids of deliver subjects, by consumer.
pub const DELIVER_SIDS: usize = 1_000;
/// Subscription ids from here on belong to one operation each.
pub const OWN_SIDS: u64 = 1_000_000;

/// A client.
#[derive(Default)]
pub struct Client {
    pub conn: Option<ConnId>,
    rx: Vec<u8>,
    /// Its subscriptions are confirmed.
    pub confirmed: bool,
    /// It answers no PING.
    pub mute: bool,
    /// PINGs that it sent, and PONGs that came.
    pub pings: u64,
    pub pongs: u64,
    /// Sequences acknowledged on this connection, by stream: they must rise.
    pub last_acked: BTreeMap<(usize, u32), u64>,
}

/// What was asked.
#[derive(Clone, Debug)]
pub enum What {
    Publish {
        uid: Uid,
        retry: bool,
    },
    Create {
        stream: usize,
    },
    Update {
        stream: usize,
        incarnation: u32,
    },
    Bury {
        stream: usize,
    },
    Remove {
        stream: usize,
        seq: u64,
    },
    Purge {
        stream: usize,
        known: Vec<u64>,
    },
    NewConsumer {
        consumer: usize,
    },
    DropConsumer {
        consumer: usize,
    },
    TuneConsumer {
        consumer: usize,
    },
    /// `bytes` is what it may still get; a request that got exactly that ends without a word.
    Pull {
        consumer: usize,
        left: u64,
        bytes: Option<u64>,
    },
    Ack {
        consumer: usize,
        seq: u64,
        cseq: u64,
        settles: bool,
    },
    Info {
        stream: usize,
        incarnation: u32,
    },
    Get {
        stream: usize,
        seq: u64,
    },
    Core,
    Probe,
}

/// A request that is not answered.
#[derive(Clone, Debug)]
pub struct Op {
    pub client: usize,
    pub conn: ConnId,
    pub what: What,
    pub sent: i64,
    /// It may stay without an answer: what it is about went away.
    pub optional: bool,
}

/// What a seed came to.
pub struct Report {
    pub tally: Tally,
    pub trace: u64,
}

/// One run.
pub struct Runner {
    pub world: World,
    pub rng: SimRng,
    pub model: Model,
    pub clients: Vec<Client>,
    pub consumers: Vec<Consumer>,
    pub ops: BTreeMap<u64, Op>,
    /// Answers to probes: headers and payload.
    pub answers: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
    pub next_op: u64,
    pub next_uid: Uid,
    /// Settings of streams whose creation is not answered.
    pub wanted: BTreeMap<usize, Settings>,
    /// Damage is expected.
    pub rotten: bool,
    /// It was told.
    pub damage_told: bool,
    /// What was told is lost, so that nothing is known of streams and consumers any more.
    pub isolated: bool,
    /// Bytes of a payload that a trace shows.
    pub print_bytes: usize,
    /// Choices of what was added later: seeds in which it is off stay what they were.
    pub more: SimRng,
    /// Choices of what was added still later.
    pub kinds: SimRng,
    /// Choices about large messages.
    pub large: SimRng,
    /// Choices of what was added later still.
    pub later: SimRng,
    /// Choices about what the seed aims at.
    pub aims: SimRng,
    pub topics: Topics,
    /// Times of messages as first told: by stream, incarnation and sequence.
    pub times: BTreeMap<(usize, u32, u64), String>,
    /// Consumers at the last snapshot.
    pub progress: BTreeMap<usize, Progress>,
}

impl Runner {
    /// A machine that has not been started.
    pub fn new(seed: u64) -> Runner {
        let mut rng = SimRng::new(seed);
        let mut more = SimRng::new(seed ^ MORE);
        let mut kinds = SimRng::new(seed ^ KINDS);
        let mut large = SimRng::new(seed ^ LARGE);
        let mut plan = Plan::new(&mut rng, &mut more, &mut kinds);
        plan.large = large.chance(400_000);
        let mut later = SimRng::new(seed ^ LATER);
        let mut choices = Later::new(&mut later);
        let mut aims = SimRng::new(seed ^ AIMED);
        let aimed = Aimed::new(&mut aims, &mut choices);
        plan.add(choices, &mut later);
        plan.aim(aimed);
        let (clients, streams) = (plan.clients, plan.streams);
        Runner {
            world: World::new(seed, plan),
            rng,
            model: Model::new(streams),
            clients: (0..clients).map(|_| Client::default()).collect(),
            consumers: Vec::new(),
            ops: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_op: 1,
            next_uid: 1,
            wanted: BTreeMap::new(),
            rotten: false,
            damage_told: false,
            isolated: false,
            print_bytes: 700,
            more,
            kinds,
            large,
            later,
            aims,
            topics: Topics::default(),
            times: BTreeMap::new(),
            progress: BTreeMap::new(),
        }
    }

    /// Runs all phases.
    pub fn run(mut self, ops: u64) -> Result<Report, String> {
        self.phases(ops).map_err(|why| {
            let (generation, now) = (self.world.generation, self.world.now % 1_000_000_000_000);
            let turns = self.world.turns;
            format!("{why} (generation {generation}, at {now} ns, {turns} turns)")
        })?;
        let mut tally = std::mem::take(&mut self.model.tally);
        tally.join(&self.world.tally, &mut Tally::default());
        Ok(Report { tally, trace: self.world.trace })
    }

    fn phases(&mut self, ops: u64) -> Result<(), String> {
        self.recover()?;
        self.short_lives()?;
        let rounds = u64::from(self.world.plan.crashes) + 1;
        for round in 0..rounds {
            self.work(ops.div_ceil(rounds))?;
            if round + 1 == rounds {
                break;
            }
            match self.rng.below(4) {
                0 => self.restart_at_rest(false)?,
                1 => {
                    let more = self.rng.below(3_000_000) as i64;
                    self.pump(self.world.now + more)?;
                    self.crash();
                    self.recover()?;
                }
                _ => {
                    self.crash();
                    self.recover()?;
                }
            }
            if self.rng.chance(200_000) {
                self.stop()?;
                self.crash();
                self.recover()?;
                self.crash_after_stop()?;
            }
            if self.rng.chance(600_000) {
                self.rest()?;
                self.audit_all()?;
            }
        }
        self.rest()?;
        self.audit_all()?;
        self.drain_consumers()?;
        self.idle_out()?;
        self.crowd()?;
        self.remove_exactly()?;
        self.end_waiting_pulls()?;
        self.a_stranger_falls_silent()?;
        self.a_stranger_reads_nothing()?;
        self.everybody_leaves()?;
        self.cut_power_between_flushes()?;
        self.fill_window()?;
        self.pass_through()?;
        self.fill_pages()?;
        let clean = self.world.plan.thorough && self.more.chance(400_000);
        self.restart_at_rest(clean)?;
        self.check_dead_segments()?;
        if self.world.plan.rot { self.rot() } else { Ok(()) }
    }

    /// The server is told to stop, and comes to rest.
    pub fn stop(&mut self) -> Result<(), String> {
        if self.world.print {
            println!("---- stop");
        }
        let reactors = usize::from(self.world.plan.reactors);
        let rested = self.world.shut_down();
        let full = self.world.disks.iter().any(|d| d.faults.capacity_bytes < u64::MAX);
        let until = self.world.now + if full { 5_000_000_000 } else { i64::MAX / 4 };
        let done = |r: &Self| rested.load(Ordering::Relaxed) == reactors || r.world.now >= until;
        if !self.pump_until(done)? && !full {
            return Err("the server was told to stop and does not".into());
        }
        if rested.load(Ordering::Relaxed) < reactors {
            // What was accepted and finds no room is waited for; the server gives up after a while.
            return Ok(());
        }
        Ok(())
    }

    /// Comes to rest, restarts, and compares what was there with what is there. After a clean stop
    /// consumers are where they were.
    fn restart_at_rest(&mut self, clean: bool) -> Result<(), String> {
        self.rest()?;
        self.audit_all()?;
        self.pump(self.world.now + 300_000_000)?;
        let before = self.snapshot(clean)?;
        self.check_last_ids()?;
        let progress = std::mem::take(&mut self.progress);
        if clean {
            self.stop()?;
        }
        self.crash();
        self.recover()?;
        self.rest()?;
        let after = self.snapshot(clean)?;
        self.check_last_ids()?;
        self.compare_progress(&progress)?;
        for (what, was) in &before {
            match after.get(what) {
                Some(is) if is == was => {}
                is => return Err(format!("{what} was {was}, and after a restart is {is:?}")),
            }
        }
        self.audit_all()
    }

    // ---- Time ----

    /// Lets the world go on until `limit`.
    pub fn pump(&mut self, limit: i64) -> Result<(), String> {
        loop {
            let happened = self.world.step(limit);
            self.model.at(self.world.now, &self.world.wall);
            self.look()?;
            match happened {
                Happened::Client(conn) => self.incoming(conn)?,
                Happened::Inside if self.world.is_stopped() => return Ok(()),
                Happened::Inside => {}
                Happened::Nothing => return Ok(()),
            }
        }
    }

    /// Lets the world go on until `done`, for a bounded time.
    pub fn pump_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<bool, String> {
        let limit = self.world.now + ANSWER_MAX;
        while !done(self) {
            let next = self.world.next_time();
            if next > limit {
                return Ok(false);
            }
            let happened = self.world.step(limit);
            self.model.at(self.world.now, &self.world.wall);
            self.look()?;
            if let Happened::Client(conn) = happened {
                self.incoming(conn)?;
            }
        }
        Ok(true)
    }

    fn look(&mut self) -> Result<(), String> {
        if let Some(why) = self.world.fatal.take() {
            if self.world.stops_with(&why) {
                self.world.tally.add(Rare::FlushFailed);
                return Ok(());
            }
            return Err(format!("the node stopped: {why}"));
        }
        if let Some(why) = self.world.single.ignored(self.world.now) {
            return Err(why);
        }
        if self.world.turns > TURNS_MAX {
            return Err("the node does not come to rest".into());
        }
        for line in std::mem::take(&mut self.world.lines) {
            if self.world.print {
                println!("{:>12} log: {line}", self.world.now % 1_000_000_000_000);
            }
            let bad = [
                "damaged",
                "missing with",
                "again",
                "not in the catalogue",
                "record of kind",
                "cannot",
                "given up",
                "not where",
                "corrupt",
            ];
            self.damage_told |= line.contains("damaged") || line.contains("is not served");
            let failed = line.contains(READ_ERROR);
            let torn = self.world.superblock_torn && line.contains("copy of the superblock");
            if !self.rotten && !failed && !torn && bad.iter().any(|b| line.contains(b)) {
                return Err(format!("without any damage: {line}"));
            }
        }
        Ok(())
    }

    // ---- Lives of the server ----

    /// Everything stops; what was asked is not answered any more.
    pub fn crash(&mut self) {
        let machine = self.rng.chance(700_000);
        // With a flush now and then, only a process may end and lose nothing.
        self.end_life(machine && self.world.plan.later.sync_interval.is_none());
    }

    /// As `crash`, of the machine or of the process alone.
    pub fn end_life(&mut self, machine: bool) {
        self.world.tally.add(if machine { Rare::Crash } else { Rare::Kill });
        if self.world.print {
            println!("---- crash of the {}", if machine { "machine" } else { "process" });
        }
        let before = self.world.now;
        self.world.crash(machine);
        self.topics = Topics::default();
        self.model.at(self.world.now, &self.world.wall);
        for client in &mut self.clients {
            *client = Client::default();
        }
        for (_, op) in std::mem::take(&mut self.ops) {
            self.abandon(&op);
        }
        for at in 0..self.model.streams.len() {
            let wanted = self.wanted.get(&at).is_some_and(|s| s.memory);
            let s = &self.model.streams[at];
            if wanted || (s.exists == Exists::Yes && s.settings.memory) {
                self.wanted.remove(&at);
                self.stream_is_gone(at);
            } else if s.exists == Exists::Maybe
                && s.settings.memory
                && !self.wanted.contains_key(&at)
            {
                self.stream_is_gone(at);
            }
        }
        let now = self.world.now;
        for c in &mut self.consumers {
            c.open.clear();
            c.deliveries.restart();
            // What lives in memory only is gone.
            if c.ordered.is_some() && c.exists != Exists::No {
                c.exists = Exists::No;
            } else if c.exists == Exists::Yes && c.may_be_gone(before) {
                c.exists = Exists::Maybe;
            }
            c.used = now;
        }
    }

    /// A flush failed and the node stopped. What it had begun to send arrives; then it starts
    /// anew.
    pub fn start_after_failure(&mut self) -> Result<(), String> {
        for conn in self.world.last_words() {
            self.incoming(conn)?;
        }
        self.crash();
        self.recover()
    }

    /// Starts the server, perhaps after further crashes, and connects the clients.
    pub fn recover(&mut self) -> Result<(), String> {
        let mut interrupted = self.world.generation > 0 && self.rng.chance(300_000);
        interrupted |= self.world.plan.aimed.lives && self.aims.chance(300_000);
        while !self.world.start(interrupted)? {
            interrupted = self.rng.chance(500_000);
        }
        self.connect_all()
    }

    /// The server runs: all clients connect.
    pub fn connect_all(&mut self) -> Result<(), String> {
        self.model.generation = self.world.generation;
        for client in 0..self.clients.len() {
            self.connect(client);
        }
        self.look()
    }

    /// Connects a client anew.
    pub fn connect(&mut self, client: usize) {
        let conn = self.world.connect();
        self.clients[client] = Client { conn: Some(conn), pings: 1, ..Client::default() };
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\
             \"no_responders\":true,\"protocol\":1}}\r\n\
             SUB _I.{client}.* 1\r\n{}SUB svc.{client} 3\r\nPING\r\n",
            self.deliver_subscriptions(client)
        );
        self.world.write(conn, hello.as_bytes());
    }

    /// What a client subscribes to for its push consumers: only a literal subscription counts as
    /// somebody who listens.
    fn deliver_subscriptions(&self, client: usize) -> String {
        if !self.world.plan.thorough {
            return format!("SUB d.{client}.* 2\r\n");
        }
        let own = format!("d.{client}.");
        let all = self.consumers.iter().enumerate();
        let mine = all.filter(|(_, c)| {
            c.members.contains(&client) || c.ordered.is_none() && c.deliver.starts_with(&own)
        });
        mine.map(|(at, c)| deliver_subscription(c, at)).collect()
    }

    /// A client's connection breaks.
    pub fn disconnect(&mut self, client: usize) {
        let Some(conn) = self.clients[client].conn else { return };
        self.world.tally.add(Rare::Disconnect);
        self.world.hang_up(conn);
        let core = self.ops.values_mut().filter(|o| matches!(o.what, What::Core));
        core.for_each(|o| o.optional = true);
        self.clients[client] = Client::default();
        self.abandon_of(conn);
        self.connect(client);
    }

    /// All connections break, and nobody connects.
    pub fn leave_all(&mut self) {
        for conn in self.world.all_connections() {
            self.world.hang_up(conn);
            self.abandon_of(conn);
        }
        self.clients.fill_with(Client::default);
    }

    fn abandon_of(&mut self, conn: ConnId) {
        self.listeners_gone(conn);
        self.ordered_gone(conn);
        let ops: Vec<u64> =
            self.ops.iter().filter(|(_, o)| o.conn == conn).map(|(&id, _)| id).collect();
        for id in ops {
            if let Some(op) = self.ops.remove(&id) {
                self.abandon(&op);
            }
        }
    }

    /// An operation will not be answered: what it did is unknown.
    fn abandon(&mut self, op: &Op) {
        if let What::Publish { uid, .. } = &op.what
            && let Some(p) = self.model.publishes.get_mut(uid)
            && p.fate == Fate::Pending
        {
            p.fate = if p.place.is_some() { Fate::Acked } else { Fate::Loose };
            let s = &mut self.model.streams[p.stream];
            if p.fate == Fate::Loose && s.incarnation == p.incarnation {
                s.loose.insert(*uid);
            }
        }
    }

    /// A stream does not exist any more.
    pub fn stream_is_gone(&mut self, at: usize) {
        self.model.buried(at);
        self.model.streams[at].exists = Exists::No;
        // Its consumers went with it: an answer that is on its way counted them.
        self.model.streams[at].consumer_removed = self.world.now;
        self.consumers.iter_mut().filter(|c| c.stream == at).for_each(|c| {
            c.exists = Exists::No;
        });
    }

    /// Waits until nothing is under way, with good disks and patient readers.
    pub fn rest(&mut self) -> Result<(), String> {
        self.world.set_faults(|f| f.capacity_bytes = u64::MAX);
        for s in self.world.sockets.values_mut() {
            s.slow = 0;
        }
        let answered =
            self.pump_until(|r| r.ops.values().all(|o| o.optional) && r.all_confirmed())?;
        if !answered {
            let left = self.ops.values().find(|o| !o.optional);
            return Err(format!("no answer within a minute: {left:?}"));
        }
        // What nobody waits for ends too.
        self.pump(self.world.now + 1_500_000_000)?;
        self.check_topics()?;
        for (_, op) in std::mem::take(&mut self.ops) {
            self.abandon(&op);
        }
        Ok(())
    }

    fn all_confirmed(&self) -> bool {
        self.clients.iter().all(|c| c.confirmed && c.pongs == c.pings)
    }

    // ---- Input ----

    /// Bytes, or the end, came to a client.
    fn incoming(&mut self, conn: ConnId) -> Result<(), String> {
        let Some(client) = self.clients.iter().position(|c| c.conn == Some(conn)) else {
            let _ = self.world.read(conn);
            return Ok(());
        };
        let (bytes, ended) = self.world.read(conn);
        self.clients[client].rx.extend_from_slice(&bytes);
        let mut rx = std::mem::take(&mut self.clients[client].rx);
        while let Some(thing) = wire::next(&mut rx)? {
            self.heard(client, conn, thing)?;
        }
        self.clients[client].rx = rx;
        if ended {
            // Slow consumers are closed, and come back.
            let core = self.ops.values_mut().filter(|o| matches!(o.what, What::Core));
            core.for_each(|o| o.optional = true);
            self.clients[client] = Client::default();
            self.abandon_of(conn);
            self.connect(client);
        }
        Ok(())
    }

    fn heard(&mut self, client: usize, conn: ConnId, thing: Incoming) -> Result<(), String> {
        match thing {
            Incoming::Info | Incoming::Ok => Ok(()),
            Incoming::Ping => {
                self.world.tally.add(Rare::Pinged);
                if !self.clients[client].mute {
                    self.world.write(conn, b"PONG\r\n");
                }
                Ok(())
            }
            Incoming::Pong => {
                self.clients[client].confirmed = true;
                self.clients[client].pongs += 1;
                self.listeners_confirmed(conn, self.clients[client].pongs);
                Ok(())
            }
            Incoming::Error(text) if text.contains("Slow Consumer") => Ok(()),
            Incoming::Error(text) if text.contains("Stale Connection") => self.was_stale(client),
            Incoming::Error(text) => Err(format!("client {client} was told {text}")),
            Incoming::Message { subject, sid, reply, headers, payload } => {
                if self.world.print {
                    let now = self.world.now % 1_000_000_000_000;
                    let text =
                        String::from_utf8_lossy(&payload[..payload.len().min(self.print_bytes)]);
                    let head = String::from_utf8_lossy(&headers).replace("\r\n", " ");
                    println!("{now:>12} {client} < {subject} [{reply}] {head}{text}");
                }
                self.message(client, conn, (&subject, sid), &reply, headers, payload)
            }
        }
    }

    // ---- Output ----

    /// Begins an operation: its number and the subject for its answer.
    pub fn begin(&mut self, client: usize, what: What) -> Option<(u64, String)> {
        let conn = self.clients[client].conn?;
        let id = self.next_op;
        self.next_op += 1;
        let op = Op { client, conn, what, sent: self.world.now, optional: false };
        self.ops.insert(id, op);
        self.world.tally.ops += 1;
        Some((id, format!("_I.{client}.{id}")))
    }

    /// Begins an operation whose answers come to a subscription of its own, which ends by itself
    /// after `most` messages.
    pub fn begin_apart(&mut self, client: usize, what: What, most: u64) -> Option<(u64, String)> {
        let (op, _) = self.begin(client, what)?;
        let sid = OWN_SIDS + op;
        let line = format!("SUB _R.{op} {sid}\r\nUNSUB {sid} {most}\r\n");
        self.world.write(self.clients[client].conn?, line.as_bytes());
        Some((op, format!("_R.{op}")))
    }

    /// A client writes a line.
    pub fn publish_raw(&mut self, client: usize, line: &str) {
        if let Some(conn) = self.clients[client].conn {
            self.world.write(conn, line.as_bytes());
        }
    }

    /// A client publishes.
    pub fn publish(&mut self, client: usize, subject: &str, reply: &str, head: &[u8], body: &[u8]) {
        let Some(conn) = self.clients[client].conn else { return };
        if self.world.print {
            let now = self.world.now % 1_000_000_000_000;
            let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
            let head = String::from_utf8_lossy(head).replace("\r\n", " ");
            println!("{now:>12} {client} > {subject} [{reply}] {head}{text}");
        }
        let mut bytes = Vec::new();
        wire::publish(&mut bytes, subject, reply, head, body);
        self.world.write(conn, &bytes);
    }
}
