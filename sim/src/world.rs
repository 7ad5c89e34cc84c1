//! One node in one thread: reactors, lanes, disks and connections under virtual time.
//!
//! Fault model: every turn of every reactor starts at a seeded time, and other reactors may run
//! between its steps; lanes are small and fill; bytes arrive and leave in pieces; disks are
//! `SimDisk`s. A crash ends everything but what the disks keep.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corelane::shard::{APPLY_ITEMS, Shard, ShardOptions};
use corelane::turn::links::{Batch, Lane, Links};
use corelane::turn::{Command, Core, Effects, Net, NetConfig, Settings, drive};
use corelane::types::{ConnId, ReactorId, ShardId, Timestamp};
use corelane_ringbuf::{LaneCapacity, mesh};
use corelane_storage::device::sim::{SimDisk, SimFaults, SimRng};
use corelane_storage::device::{Done, File, Op};
use corelane_storage::superblock::{SUPERBLOCK_COPY_BYTES, Superblock};

use crate::descriptors::Descriptors;
use crate::digests::Digests;
use crate::edge::Around;
use crate::effort::Worst;
use crate::fuse::{Blows, Fuse};
use crate::plan::Plan;
use crate::single::Single;
use crate::socket::Socket;
use crate::tally::{Rare, Tally};
use crate::wall::WallClock;

/// How long waking a reactor takes at most.
const WAKE_MAX: i64 = 10_500;

/// Turns, per million, after which a reactor is held up, and for how long at most.
const STALL_PPM: u32 = 4_000;
const STALL_MAX: u64 = 3_000_000;

/// The same after turns that found a control lane full, where a seed aims at that: for longer than
/// a client takes to answer.
const BACKED_UP_STALL_PPM: u32 = 200_000;
const BACKED_UP_STALL_MAX: u64 = 300_000;

/// How long a send takes to a client that reads nothing, in nanoseconds.
const NO_END: i64 = 3_600_000_000_000;

/// A write of so many bytes is done as a whole or not at all.
const SECTOR: usize = 512;

/// When nothing is to come.
pub const NEVER: i64 = i64::MAX;

/// One reactor with what it owns.
pub struct Reactor {
    pub core: Core,
    pub links: Links<ConnId>,
    effects: Effects,
    incoming: Vec<ConnId>,
    asleep: bool,
}

/// Something that a reactor finds at its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A connection was made, and is for that reactor.
    Accept(ConnId, usize),
    /// Bytes, or the end, of a connection.
    Receive(ConnId),
    /// A send took so many bytes.
    Sent(ConnId, usize),
}

/// Something that happens at a time.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Bytes that a client wrote come in.
    Arrive(ConnId),
    /// A send that is in flight ends.
    Sent(ConnId),
    /// Bytes come to a client.
    Client(ConnId),
}

/// What came out of a step of the world.
#[derive(Debug, PartialEq, Eq)]
pub enum Happened {
    /// Something inside.
    Inside,
    /// Bytes, or the end of its connection, came to a client.
    Client(ConnId),
    /// Nothing will happen any more without new input.
    Nothing,
}

/// The node and what surrounds it.
pub struct World {
    pub now: i64,
    pub wall: WallClock,
    pub rng: SimRng,
    pub plan: Plan,
    pub tally: Tally,
    /// Lines that the node logged since they were last looked at.
    pub lines: Vec<String>,
    /// Why the node had to stop.
    pub fatal: Option<String>,
    pub sockets: BTreeMap<ConnId, Socket>,
    /// Connections that are read again, by reactor: what was kept for them goes in first.
    pub unparking: Vec<(usize, ConnId)>,
    /// A hash of all that happened.
    pub trace: u64,
    pub turns: u64,
    /// The node has stopped by itself.
    stopped: bool,
    /// Operations of disks that fail alone.
    pub single: Single,
    /// One copy of a superblock may be bad: the node stopped while it started, or one was so long
    /// that its last write may be done in part.
    pub superblock_torn: bool,
    pub(crate) digests: Digests,
    descriptors: Descriptors,
    pub print: bool,
    pub(crate) reactors: Vec<Option<Reactor>>,
    /// When each reactor's next turn begins.
    next_turn: Vec<i64>,
    /// Until when each is held up: its thread does not run.
    held_up: Vec<i64>,
    arrivals: Vec<Vec<Arrival>>,
    pub(crate) disks: Vec<SimDisk>,
    events: BTreeMap<(i64, u64), Event>,
    count: u64,
    next_conn: u64,
    /// How deep turns are nested.
    depth: u32,
    pub generation: u32,
}

impl World {
    /// A machine with empty disks. Nothing runs yet.
    pub fn new(seed: u64, plan: Plan) -> World {
        let disks = (0..plan.shards)
            .map(|s| SimDisk::new(seed ^ (u64::from(s) + 1) << 40, plan.faults.clone()))
            .collect();
        World {
            now: 1_700_000_000_000_000_000,
            wall: WallClock::new(seed),
            descriptors: Descriptors::new(plan.later.descriptors),
            rng: SimRng::new(seed ^ 0x77),
            plan,
            tally: Tally::default(),
            lines: Vec::new(),
            fatal: None,
            unparking: Vec::new(),
            sockets: BTreeMap::new(),
            trace: 0,
            turns: 0,
            stopped: false,
            single: Single::default(),
            superblock_torn: false,
            digests: Digests::default(),
            print: false,
            reactors: Vec::new(),
            next_turn: Vec::new(),
            held_up: Vec::new(),
            arrivals: Vec::new(),
            disks,
            events: BTreeMap::new(),
            count: 0,
            next_conn: 0,
            depth: 0,
            generation: 0,
        }
    }

    /// Mixes something that happened into the trace.
    pub fn note(&mut self, what: u64) {
        self.trace = (self.trace.rotate_left(5) ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// Mixes bytes into the trace.
    pub fn note_bytes(&mut self, bytes: &[u8]) {
        let hash = bytes.chunks(8).fold(bytes.len() as u64, |h, c| {
            let mut word = [0; 8];
            word[..c.len()].copy_from_slice(c);
            (h.rotate_left(7) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95)
        });
        self.note(hash);
    }

    // ---- Starting and stopping ----

    /// Opens the shards and starts the reactors. False if the machine was stopped meanwhile: try
    /// again.
    pub fn start(&mut self, interrupted: bool) -> Result<bool, String> {
        let n = self.plan.reactors;
        let mut shards: Vec<Vec<Shard>> = (0..n).map(|_| Vec::new()).collect();
        self.generation += 1;
        let clocks = self.wall.start(self.now);
        for shard in 0..self.plan.shards {
            let host = Core::host_of(ShardId(shard), n).0;
            let options = self.shard_options(shard);
            let blows = if interrupted { self.blows() } else { Blows::Never };
            let disk = &mut self.disks[usize::from(shard)];
            let mut device = Fuse::new(disk, blows);
            let opened = Shard::open(&mut device, options, clocks.now);
            if device.is_blown() {
                drop(opened);
                self.tally.add(Rare::CrashInRecovery);
                if matches!(blows, Blows::InSuperblock(_)) {
                    self.tally.add(Rare::SuperblockHalf);
                }
                self.stop_disks(self.plan.later.sync_interval.is_none());
                // It may have stopped between the two copies, also of the first superblock.
                self.superblock_torn = true;
                return Ok(false);
            }
            let opened = opened.map_err(|e| format!("a shard does not open: {e}"))?;
            self.lines.extend(opened.lines);
            self.compare_digests(usize::from(shard), &opened.shard)?;
            shards[usize::from(host)].push(opened.shard);
        }
        let settings = std::sync::Arc::new(Settings::new(self.plan.limits, self.plan.info()));
        let capacity =
            LaneCapacity { control: self.plan.lane_control, messages: self.plan.lane_messages };
        let endpoints = mesh::<Lane<ConnId>, Batch>(usize::from(n), capacity);
        self.reactors.clear();
        for ((id, endpoint), own) in endpoints.into_iter().enumerate().zip(shards) {
            let id = ReactorId(id as u16);
            let mut config = NetConfig::new(id, n, self.plan.shards, settings.clone());
            config.seed = self.rng.bits();
            config.credit_bytes_max = self.plan.credit_bytes;
            config.request_credit_bytes_max = self.plan.request_credit();
            config.backlog_bytes_max = self.plan.backlog_bytes;
            let mut net = Net::new(config);
            net.set_jetstream(true);
            let mut core = Core::new(net, own, n);
            let mut links = Links::new(endpoint);
            drive::start(clocks, &mut core, &mut links);
            let (effects, incoming) = (Effects::default(), Vec::new());
            self.reactors.push(Some(Reactor { core, links, effects, incoming, asleep: false }));
        }
        self.next_turn = vec![self.now; usize::from(n)];
        self.held_up = vec![self.now; usize::from(n)];
        self.arrivals = vec![Vec::new(); usize::from(n)];
        Ok(true)
    }

    /// When the disk of a shard stops, of a machine that stops while it starts.
    fn blows(&mut self) -> Blows {
        if self.plan.aimed.lives && self.rng.chance(600_000) {
            return Blows::InSuperblock(2 + self.rng.below(3));
        }
        Blows::After(self.rng.below(60))
    }

    fn shard_options(&mut self, shard: u16) -> ShardOptions {
        let seed = self.rng.bits();
        ShardOptions {
            id: ShardId(shard),
            shards: self.plan.shards,
            seed,
            server_name: "sim".into(),
            consumer_limits: Default::default(),
            meta_limits: Default::default(),
            strict: true,
            // Nothing that is kept rests on it.
            max_payload: [1, 2, 8][(seed % 3) as usize] << 20,
            index_cache_bytes: self.plan.index_cache_bytes,
            job_visits: self.plan.job_visits,
            apply_items: self.plan.job_visits.min(APPLY_ITEMS),
            checkpoint: self.plan.checkpoint,
            sort: self.plan.sort,
            log: self.plan.log(shard),
        }
    }

    /// The server is asked to go away. Counts the reactors whose shards have come to rest.
    pub fn shut_down(&mut self) -> Arc<AtomicUsize> {
        let rested = Arc::new(AtomicUsize::new(0));
        let now = Timestamp(self.now);
        for r in self.reactors.iter_mut().flatten() {
            let count = rested.clone();
            let tell = move || {
                count.fetch_add(1, Ordering::Relaxed);
            };
            r.core.command(now, Command::ShutDownJetStream);
            r.core.command(now, Command::Drained(Box::new(tell)));
        }
        (0..self.reactors.len()).for_each(|id| self.wake(id));
        self.tally.add(Rare::ShutDown);
        rested
    }

    /// Everything ends at once: the process alone, or the machine with its disks' caches.
    pub fn crash(&mut self, machine: bool) {
        self.note_digests();
        for r in self.reactors.iter().flatten() {
            for shard in r.core.report().shards {
                self.tally.add_many(Rare::Checkpoint, shard.checkpoints);
                self.tally.add_many(Rare::Relocation, shard.relocated);
                self.tally.add_many(Rare::Sorted, shard.sorted);
                self.tally.add_many(Rare::Recycled, shard.freed);
                self.tally.add_many(Rare::PageRead, shard.pages_read);
            }
        }
        let writing: usize = self.disks.iter().map(SimDisk::writes_in_flight).max().unwrap_or(0);
        if writing > 1 {
            self.tally.add(Rare::FlushesAtCrash);
        }
        self.reactors.clear();
        self.sockets.clear();
        self.unparking.clear();
        self.events.clear();
        self.arrivals.clear();
        self.next_turn.clear();
        self.depth = 0;
        self.fatal = None;
        self.stopped = false;
        self.single.forget();
        self.descriptors.forget();
        self.set_faults(|f| f.failed_flush_ppm = 0);
        self.count_long_superblocks();
        self.stop_disks(machine);
        self.now += 1_000_000 + self.rng.below(5_000_000_000) as i64;
        self.note(self.now as u64);
    }

    /// The disks lose what was in flight, and with the machine what was not flushed.
    fn stop_disks(&mut self, machine: bool) {
        for disk in &mut self.disks {
            if machine {
                disk.crash();
            } else {
                disk.kill();
            }
        }
        for torn in self.disks.iter_mut().map(SimDisk::take_torn) {
            self.tally.add_many(Rare::TornWrite, torn.writes);
            self.tally.add_many(Rare::TornSuperblock, torn.superblocks);
        }
    }

    fn count_long_superblocks(&mut self) {
        // One copy may be bad.
        let length = |disk: &SimDisk| {
            let copy = |at: u32| {
                let from = u64::from(at * SUPERBLOCK_COPY_BYTES);
                let bytes = disk.durable(File::Superblock, from, SUPERBLOCK_COPY_BYTES as usize);
                Superblock::decode(bytes).map_or(0, |s| s.length())
            };
            copy(0).max(copy(1))
        };
        if self.print {
            println!("---- superblocks: {:?}", self.disks.iter().map(length).collect::<Vec<_>>());
        }
        let longest = self.disks.iter().map(length).max().unwrap_or(0);
        if longest > SECTOR {
            self.tally.add(Rare::LongSuperblock);
        }
        // The one that was being written may be longer than the last.
        self.superblock_torn = longest > SECTOR / 2;
    }

    /// A shard gives its disk something to do.
    pub fn submit(&mut self, shard: usize, op: Op) {
        match self.descriptors.admit(shard, op) {
            Some(op) => self.begin(shard, op),
            None => self.tally.add(Rare::DescriptorAwaited),
        }
    }

    /// The next thing that a disk has done for its shard.
    pub fn poll_disk(&mut self, shard: usize, now: i64) -> Option<Done> {
        let done = self.disks[shard].poll(now)?;
        for op in self.descriptors.done(shard, done.token) {
            self.begin(shard, op);
        }
        Some(done)
    }

    fn begin(&mut self, shard: usize, op: Op) {
        let (now, took_max) = (self.now, self.plan.disk_op_max());
        match self.single.submitted(now, shard, &op, took_max) {
            Some((failing, what)) => {
                self.tally.add(what);
                self.disks[shard].submit_failing(now, op, failing);
            }
            None => self.disks[shard].submit(now, op),
        }
    }

    /// Changes what goes wrong with the disks.
    pub fn set_faults(&mut self, change: impl Fn(&mut SimFaults)) {
        for disk in &mut self.disks {
            change(&mut disk.faults);
        }
    }

    /// The next flush of a shard's disk fails.
    pub fn let_flush_fail(&mut self, shard: usize) {
        self.disks[shard].faults.failed_flush_ppm = 1_000_000;
    }

    /// Whether this is why the node should stop, and says so. It is stopped then.
    pub fn stops_with(&mut self, why: &str) -> bool {
        let failing = self.disks.iter().any(|d| d.faults.failed_flush_ppm > 0)
            || self.single.stop_by().is_some();
        let told = why.contains("failed") && why.contains("what the disk holds is not known");
        self.stopped = failing && told;
        self.stopped
    }

    /// Whether the node has stopped by itself.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// What the node had begun to send when it stopped arrives: to these connections.
    pub fn last_words(&mut self) -> Vec<ConnId> {
        let mut conns = Vec::new();
        for (conn, s) in self.sockets.iter_mut().filter(|(_, s)| !s.hung_up) {
            let len = s.send_len();
            let bytes = s.sent(len);
            s.to_client.extend_from_slice(&bytes);
            conns.push(*conn);
        }
        conns
    }

    /// Bytes of a shard's files.
    pub fn disk_used(&self, shard: usize) -> u64 {
        self.disks[shard].used_bytes()
    }

    // ---- Connections ----

    /// A client connects.
    pub fn connect(&mut self) -> ConnId {
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        let to = self.rng.below(self.reactors.len() as u64) as usize;
        self.sockets.insert(conn, Socket::new(to));
        self.arrivals[0].push(Arrival::Accept(conn, to));
        self.wake(0);
        conn
    }

    /// A client writes.
    pub fn write(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(s) = self.sockets.get_mut(&conn) else { return };
        s.wire.extend_from_slice(bytes);
        if !s.arriving {
            s.arriving = true;
            let at = self.soon(self.plan.client_ns);
            self.at(at, Event::Arrive(conn));
        }
    }

    /// A client reads nothing any more.
    pub fn stop_reading(&mut self, conn: ConnId) {
        if let Some(s) = self.sockets.get_mut(&conn) {
            s.slow = NO_END;
        }
    }

    /// A client goes away without a word.
    pub fn hang_up(&mut self, conn: ConnId) {
        let Some(s) = self.sockets.get_mut(&conn) else { return };
        s.hung_up = true;
        s.slow = 0;
        let reactor = s.reactor;
        self.arrivals[reactor].push(Arrival::Receive(conn));
        self.wake(reactor);
    }

    /// Those that the server still has.
    pub fn all_connections(&self) -> Vec<ConnId> {
        self.sockets.iter().filter(|(_, s)| !s.closed && !s.hung_up).map(|(&c, _)| c).collect()
    }

    /// Whether the server still has a connection, as far as it knows.
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.sockets.get(&conn).is_some_and(|s| !s.closed)
    }

    /// Takes what came to a client, and whether the connection is at its end.
    pub fn read(&mut self, conn: ConnId) -> (Vec<u8>, bool) {
        match self.sockets.get_mut(&conn) {
            Some(s) => {
                let bytes = std::mem::take(&mut s.to_client);
                let ended = s.closed;
                if ended {
                    self.sockets.remove(&conn);
                }
                (bytes, ended)
            }
            None => (Vec::new(), true),
        }
    }

    // ---- Time ----

    fn at(&mut self, time: i64, event: Event) {
        self.count += 1;
        self.events.insert((time.max(self.now), self.count), event);
    }

    /// A time a little later.
    fn soon(&mut self, ns: u64) -> i64 {
        self.now + 500 + self.rng.below(ns) as i64
    }

    /// Wakes a reactor, which begins a turn a little later.
    pub(crate) fn wake(&mut self, reactor: usize) {
        let at = self.soon(10_000).max(self.held_up[reactor]);
        let next = &mut self.next_turn[reactor];
        *next = (*next).min(at);
    }

    pub(crate) fn take_arrivals(&mut self, reactor: usize) -> Vec<Arrival> {
        std::mem::take(&mut self.arrivals[reactor])
    }

    pub(crate) fn arrive(&mut self, reactor: usize, arrival: Arrival) {
        self.arrivals[reactor].push(arrival);
        self.wake(reactor);
    }

    /// A send of `len` bytes was begun.
    pub(crate) fn send_begun(&mut self, conn: ConnId) {
        let slow = self.sockets.get(&conn).map_or(0, |s| s.slow);
        let at = self.soon(self.plan.client_ns) + slow;
        self.at(at, Event::Sent(conn));
    }

    pub(crate) fn tell_client(&mut self, conn: ConnId) {
        let at = self.soon(10_000);
        self.at(at, Event::Client(conn));
    }

    /// When the next thing happens.
    pub fn next_time(&mut self) -> i64 {
        for (shard, disk) in self.disks.iter().enumerate() {
            let host = shard % self.next_turn.len().max(1);
            if let (Some(at), Some(next)) = (disk.next_time(), self.next_turn.get_mut(host)) {
                *next = (*next).min((at.max(self.now) + 1_000).max(self.held_up[host]));
            }
        }
        let event = self.events.keys().next().map_or(NEVER, |(at, _)| *at);
        let turn = self.next_turn.iter().copied().min().unwrap_or(NEVER);
        event.min(turn)
    }

    /// Does the next thing, if it is not later than `limit`.
    pub fn step(&mut self, limit: i64) -> Happened {
        let next = self.next_time();
        if next > limit {
            self.now = self.now.max(limit);
            return Happened::Nothing;
        }
        self.now = self.now.max(next);
        let first = self.events.first_key_value().map_or(NEVER, |((at, _), _)| *at);
        if first <= next {
            let Some((_, event)) = self.events.pop_first() else { return Happened::Nothing };
            return self.happen(event);
        }
        let due: Vec<usize> =
            (0..self.next_turn.len()).filter(|&r| self.next_turn[r] <= self.now).collect();
        let reactor = due[self.rng.below(due.len() as u64) as usize];
        self.turn(reactor);
        self.look_for_sleepers();
        Happened::Inside
    }

    /// Nobody sleeps over what is in his lanes, or because another sleeps who should make room.
    fn look_for_sleepers(&mut self) {
        let soon = self.now + WAKE_MAX;
        let all = self.reactors.len();
        let asleep: Vec<usize> = (0..all)
            .filter(|&id| self.reactors[id].as_ref().is_some_and(|r| r.asleep))
            .filter(|&id| self.next_turn[id] > soon && self.held_up[id] <= self.now)
            .collect();
        for &id in &asleep {
            let sent = |from: usize, to: usize| {
                self.reactors[from].as_ref().map_or(0, |r| r.links.homes(to).0)
            };
            let sent: Vec<u64> = (0..all).map(|peer| sent(peer, id)).collect();
            let Some(r) = &mut self.reactors[id] else { continue };
            let received: Vec<u64> = (0..all).map(|peer| r.links.homes(peer).1).collect();
            let forgotten = r.links.is_forgotten(|peer| sent[peer] - received[peer]);
            let blocked = asleep.iter().any(|&peer| peer != id && r.links.waits_for(peer));
            if forgotten || blocked {
                let why = format!("reactor {id} sleeps, and nobody wakes it");
                self.fatal.get_or_insert(why);
            }
        }
    }

    fn happen(&mut self, event: Event) -> Happened {
        match event {
            Event::Arrive(conn) => {
                let Some(s) = self.sockets.get_mut(&conn) else { return Happened::Inside };
                let whole = s.wire.len();
                let part = match self.rng.below(4) {
                    0 => 1 + self.rng.below(whole.max(1) as u64) as usize,
                    1 => 1 + self.rng.below(40) as usize,
                    _ => whole,
                };
                let piece: Vec<u8> = s.wire.drain(..part.min(whole)).collect();
                s.ready.extend_from_slice(&piece);
                s.arriving = !s.wire.is_empty();
                let (again, reactor) = (s.arriving, s.reactor);
                self.arrive(reactor, Arrival::Receive(conn));
                if again {
                    let at = self.soon(self.plan.client_ns);
                    self.at(at, Event::Arrive(conn));
                }
                Happened::Inside
            }
            Event::Sent(conn) => {
                let Some(s) = self.sockets.get_mut(&conn) else { return Happened::Inside };
                let all = s.send_len();
                let part = match self.rng.below(4) {
                    0 => 1 + self.rng.below(all.max(1) as u64) as usize,
                    _ => all,
                };
                if part < all {
                    self.tally.add(Rare::PartialSend);
                }
                let piece = s.sent(part);
                let reactor = s.reactor;
                if !s.hung_up {
                    s.to_client.extend_from_slice(&piece);
                }
                self.note_bytes(&piece);
                self.arrive(reactor, Arrival::Sent(conn, part));
                Happened::Client(conn)
            }
            Event::Client(conn) => Happened::Client(conn),
        }
    }

    // ---- Turns ----

    /// One turn of a reactor.
    fn turn(&mut self, id: usize) {
        let Some(mut r) = self.reactors[id].take() else { return };
        self.next_turn[id] = NEVER;
        self.turns += 1;
        self.note(id as u64 ^ self.now as u64);
        if r.asleep {
            r.asleep = false;
            r.links.wake_up();
        }
        let (clocks, is_set) = self.wall.look(self.now);
        self.tally.add_many(Rare::ClockSet, u64::from(is_set));
        let before = Worst::before(&r.core);
        let Reactor { core, links, effects, incoming, .. } = &mut r;
        let mut around = Around { world: self, id };
        drive::turn(clocks, core, links, &mut around, effects, incoming);
        if let Err(why) = self.tally.worst.look(&r.core, &before) {
            self.fatal.get_or_insert(why);
        }
        let backed_up = r.links.is_backed_up();
        if backed_up {
            self.tally.add(Rare::RingFull);
        }
        let busy = r.core.has_work() || r.effects.is_pending() || !r.links.try_sleep();
        let next = if busy {
            self.soon(15_000)
        } else {
            r.asleep = true;
            r.core.deadline().map_or(NEVER, |d| d.0.max(self.now + 1_000))
        };
        if self.plan.stalls && self.rng.chance(STALL_PPM) {
            self.tally.add(Rare::HeldUp);
            self.held_up[id] = self.now + self.rng.below(STALL_MAX) as i64;
        }
        if backed_up && self.plan.aimed.lanes && self.rng.chance(BACKED_UP_STALL_PPM) {
            self.tally.add(Rare::HeldUpFull);
            self.held_up[id] = self.now + self.rng.below(BACKED_UP_STALL_MAX) as i64;
        }
        self.next_turn[id] = self.next_turn[id].min(next).max(self.held_up[id]);
        self.reactors[id] = Some(r);
    }

    /// Between two steps of a turn: perhaps others go on.
    pub(crate) fn moment(&mut self) {
        if self.depth >= 2 || self.reactors.len() < 2 || !self.rng.chance(100_000) {
            return;
        }
        self.depth += 1;
        for _ in 0..1 + self.rng.below(4) {
            let id = self.rng.below(self.reactors.len() as u64) as usize;
            if self.held_up[id] <= self.now {
                self.turn(id);
            }
        }
        self.depth -= 1;
    }
}
