//! `Net`: the inputs, the getters, and what a reactor takes from it after each of them.

use super::control::Control;
use super::entry::Message;
use super::jetstream::JetStream;
use super::lines::{Lines, LogSettings};
use super::mesh::Mesh;
use super::protocol_trace::Tracer;
use super::timers::{Timer, Timers};
use super::work::Work;
use crate::client::{
    Clients, CloseReason, Closing, Hold, InfoKind, InfoTemplate, Limits, NetStats, PauseReason,
    ReadFlow, SECOND, ServerInfo,
};
use crate::interest::{Interest, WatchEvent};
use crate::types::{
    Clocks, ConnId, CreditKind, Pressure, PressureQuery, ReactorId, ShardId, Timestamp,
};
use corelane_storage::random::Random;
use std::collections::VecDeque;
use std::sync::Arc;

/// Held input above which a connection is not read while it waits for a barrier.
const HELD_BYTES_MAX: usize = 256 << 10;
/// Connections without a socket whose requests may wait for credit. What the next ones sent and
/// was not handled is dropped: who comes and goes does not make it grow without an end.
const GONE_WAITING_MAX: usize = 32;
/// A stall by another reactor at most: it speaks for all reads of a batch.
pub(super) const STALL_REMOTE_MAX: i64 = 1_000 * crate::client::MILLISECOND;
/// A stall of one read at most.
pub(super) const STALL_MAX: i64 = 10 * crate::client::MILLISECOND;
/// A round trip is measured at least so often.
const RTT_INTERVAL: i64 = 3600 * SECOND;
/// How often buffers that were not needed meanwhile are given back.
const TRIM_INTERVAL: i64 = SECOND;
/// A batch for another reactor of so many bytes is not to lie in a lane for long once it is empty.
const LARGE_BATCH_BYTES: usize = 64 << 10;

/// What connections are told and held to: an immutable snapshot of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits of connections.
    pub limits: Limits,
    /// What INFO says.
    pub info: ServerInfo,
    /// Which lines connections write to the log.
    pub log: LogSettings,
    pub(super) template: InfoTemplate,
}

impl Settings {
    /// Renders what is sent often.
    pub fn new(limits: Limits, info: ServerInfo) -> Self {
        let template = InfoTemplate::new(&info);
        Settings { limits, info, log: LogSettings::default(), template }
    }
}

/// What a `Net` is made with.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// This reactor.
    pub reactor: ReactorId,
    /// Reactors of the node.
    pub reactors: u16,
    /// The reactor that hosts shard 0.
    pub meta_reactor: ReactorId,
    /// Seed of hash maps and choices.
    pub seed: u64,
    /// Bytes that may wait for one other reactor before those who publish to it are not read.
    pub backlog_bytes_max: usize,
    /// Bytes of publishes from this reactor that may be under way in one shard, into file streams,
    /// and as many into memory streams.
    pub credit_bytes_max: u64,
    /// The same of requests that wait to be answered, and of acknowledgements and pull requests.
    pub request_credit_bytes_max: u64,
    /// Requests of the API that may wait on the node.
    pub requests_max: u32,
    /// The settings at first.
    pub settings: Arc<Settings>,
}

/// The part of an outbound that one batch between reactors may be. A few of them are on their way
/// at a time, and all of them
/// must fit into the half of the outbound that is left when its publishers are stalled.
const BACKLOG_PART: usize = 16;
/// Bytes of publishes that may wait for durability on a node, by default.
pub const PUBLISH_CREDIT_BYTES: u64 = 64 << 20;
/// Bytes of requests that may wait on a node.
pub const REQUEST_CREDIT_BYTES: u64 = 8 << 20;
/// Requests of the API that may wait on a node, by default: JetStream's `request_queue_limit`.
pub const REQUESTS_MAX: u32 = 10_000;

impl NetConfig {
    /// Defaults for one reactor of `reactors`, which host `shards` shards.
    pub fn new(reactor: ReactorId, reactors: u16, shards: u16, settings: Arc<Settings>) -> Self {
        let parts = u64::from(reactors.max(1)) * u64::from(shards.max(1));
        NetConfig {
            reactor,
            reactors,
            meta_reactor: ReactorId(0),
            seed: u64::from(reactor.0) + 1,
            backlog_bytes_max: (settings.limits.max_pending / BACKLOG_PART)
                .clamp(64 << 10, 1 << 20),
            credit_bytes_max: PUBLISH_CREDIT_BYTES / parts,
            request_credit_bytes_max: REQUEST_CREDIT_BYTES / parts,
            requests_max: REQUESTS_MAX,
            settings,
        }
    }

    /// Bytes of publishes that may wait for durability on the node, which hosts `shards` shards.
    pub fn set_publish_credit(&mut self, bytes: u64, shards: u16) {
        let parts = u64::from(self.reactors.max(1)) * u64::from(shards.max(1));
        self.credit_bytes_max = bytes / parts;
    }
}

/// So many requests take all of the node's credit for them.
fn request_bytes_min(requests_max: u32) -> u32 {
    (REQUEST_CREDIT_BYTES / u64::from(requests_max.max(1))) as u32
}

/// An answer of a shard, to be routed where the request came from.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The reactor of the request: `Captured::origin.reactor`.
    pub to: ReactorId,
    /// The message: routed by `subject`, shown as `shown`.
    pub message: Message<'a>,
}

/// How lame duck mode goes.
#[derive(Clone, Copy, Debug)]
pub struct LameDuck {
    /// Time before the first connection is closed, in nanoseconds.
    pub grace: i64,
    /// Time over which connections are closed evenly, in nanoseconds.
    pub duration: i64,
}

/// The connections, the interest and the routing of one reactor.
#[derive(Debug)]
pub struct Net {
    pub(super) own: ReactorId,
    pub(super) settings: Arc<Settings>,
    pub(super) interest: Interest,
    pub(super) clients: Clients,
    pub(super) mesh: Mesh,
    pub(super) timers: Timers,
    /// Those of the turn.
    pub(super) clocks: Clocks,
    pub(super) random: Random,
    pub(super) single: bool,
    /// Connections that wait for a barrier, in order.
    pub(super) holding: Vec<ConnId>,
    /// Connections that go on at the next opportunity, in order.
    pub(super) runnable: Vec<ConnId>,
    /// Connections whose subscriptions are being removed.
    pub(super) leaving: VecDeque<u32>,
    pub(super) work: Work,
    /// What a request of the API is charged at least.
    pub(super) request_bytes_min: u32,
    pub(super) picks: Vec<(ReactorId, u32)>,
    pub(super) names: Vec<u8>,
    pub(super) reactors: Vec<ReactorId>,
    pub(super) events: u64,
    /// How often other reactors found outbounds of theirs full.
    pub(super) pressure_elsewhere: u64,
    /// Of those that were found full here, what the others know.
    pub(super) pressure_reported: u64,
    /// Answers for consumers of this reactor.
    pub(super) answers: Vec<(PressureQuery, Pressure)>,
    /// Spare buffers will be trimmed.
    trimming: bool,
    lame_duck_step: i64,
    pub(super) lines: Lines,
    /// What is shown of the protocol, if it is.
    pub(super) tracer: Option<Box<Tracer>>,
}

impl Net {
    /// A reactor's part without connections.
    pub fn new(config: NetConfig) -> Self {
        let (own, seed) = (config.reactor, config.seed);
        let tracer = config.settings.log.trace.map(|trace| Box::new(Tracer::new(trace)));
        Net {
            own,
            interest: Interest::new(own, config.meta_reactor, seed),
            clients: Clients::new(config.settings.limits, seed),
            settings: config.settings,
            mesh: Mesh::new(own, config.reactors, config.backlog_bytes_max, {
                let requests = config.request_credit_bytes_max;
                [config.credit_bytes_max, config.credit_bytes_max, requests, requests]
            }),
            request_bytes_min: request_bytes_min(config.requests_max),
            timers: Timers::default(),
            clocks: Clocks::default(),
            random: Random::new(seed),
            single: config.reactors <= 1,
            holding: Vec::new(),
            runnable: Vec::new(),
            leaving: VecDeque::new(),
            work: Work::default(),
            picks: Vec::new(),
            names: Vec::new(),
            reactors: Vec::new(),
            events: 0,
            pressure_elsewhere: 0,
            pressure_reported: 0,
            answers: Vec::new(),
            trimming: false,
            lame_duck_step: 0,
            lines: Lines::default(),
            tracer,
        }
    }

    // ---- Inputs: connections ----

    /// A connection was accepted. `full` means that the node has as many as it may have: it is
    /// told and closed.
    pub fn accept(&mut self, now: Timestamp, conn: ConnId, address: &str, full: bool) {
        let slot = self.clients.add(now, self.clocks.wall_of(now), conn, address);
        self.clients.write_info(slot, &self.settings.template, InfoKind::First);
        self.log_created(slot);
        if full {
            self.close(slot, CloseReason::MaxConnectionsExceeded, false);
            self.log_full(now, slot);
        }
    }

    /// Bytes arrived.
    pub fn received<J: JetStream>(
        &mut self,
        now: Timestamp,
        conn: ConnId,
        bytes: &[u8],
        js: &mut J,
    ) {
        let Some(slot) = self.clients.slot(conn) else { return };
        let state = self.clients.conn_mut(slot);
        state.last_in = now;
        if !state.is_open() {
            state.unread = true;
            return;
        }
        if state.hold != Hold::No {
            state.held.extend_from_slice(bytes);
            if state.held.len() > HELD_BYTES_MAX {
                self.clients.pause(slot, PauseReason::Held);
            }
            return;
        }
        self.feed(now, slot, bytes, js);
    }

    /// What the clocks say from now on.
    pub fn set_clocks(&mut self, clocks: Clocks) {
        self.clocks = clocks;
    }

    /// A turn begins, with work of its own.
    pub fn begin_turn(&mut self) {
        self.work = Work::default();
        self.clients.full.clear();
    }

    /// Goes on with connections that waited: for a barrier, or for a turn that has time for them.
    /// To be called after the control lanes were drained.
    pub fn run<J: JetStream>(&mut self, now: Timestamp, js: &mut J) {
        self.settle();
        self.remove_subscriptions();
        if self.runnable.is_empty() {
            return;
        }
        self.work.grant();
        let mut waiting = std::mem::take(&mut self.runnable).into_iter();
        while !self.work.is_spent()
            && let Some(conn) = waiting.next()
        {
            let Some(slot) = self.clients.slot(conn) else { continue };
            self.release_hold(now, slot, js);
            if self.clients.conn(slot).is_gone() {
                self.end_input(now, slot, js);
            } else if self.clients.conn(slot).hung_up {
                self.end_hung_up(now, slot, js);
            }
        }
        let behind = std::mem::replace(&mut self.runnable, waiting.collect());
        self.runnable.extend(behind);
    }

    /// True if `run` has something to do.
    pub fn is_runnable(&self) -> bool {
        !self.runnable.is_empty() || !self.leaving.is_empty() || !self.clients.expired.is_empty()
    }

    pub(super) fn release_hold<J: JetStream>(&mut self, now: Timestamp, slot: u32, js: &mut J) {
        let state = self.clients.conn_mut(slot);
        let waits = matches!(state.hold, Hold::No | Hold::Unsubscribing | Hold::Credit);
        if waits || !state.is_open() {
            return;
        }
        let hold = std::mem::take(&mut state.hold);
        let held = std::mem::take(&mut state.held);
        self.clients.unpause(slot, PauseReason::Held);
        if let Hold::Barrier(_) = hold {
            self.pong(slot);
        }
        self.feed(now, slot, &held, js);
    }

    /// A send that `start_send` began took `bytes` bytes. If there is more, the connection is
    /// touched again.
    pub fn sent(&mut self, now: Timestamp, conn: ConnId, bytes: usize) {
        if let Some(slot) = self.clients.slot(conn) {
            self.clients.sent(now, slot, bytes);
            self.unstall_released(now);
        }
    }

    /// Lets publishers go on whose outbounds have drained before their stall was over.
    fn unstall_released(&mut self, now: Timestamp) {
        for publisher in std::mem::take(&mut self.clients.released) {
            let conn = publisher.conn;
            if publisher.reactor == self.own {
                self.unstall(now, conn);
            } else {
                self.mesh.send_control(publisher.reactor, Control::Unstall { conn });
            }
        }
        self.answer_drained();
    }

    fn unstall(&mut self, now: Timestamp, conn: ConnId) {
        if let Some(slot) = self.clients.slot(conn) {
            let conn = self.clients.conn_mut(slot);
            if conn.stall_until > now {
                conn.stall_until = now;
                self.clients.unpause(slot, PauseReason::Stall);
            }
        }
    }

    /// The peer sends nothing any more. What it sent counts, and what it is to get is still sent.
    pub fn hung_up<J: JetStream>(&mut self, now: Timestamp, conn: ConnId, js: &mut J) {
        let Some(slot) = self.clients.slot(conn) else { return };
        self.clients.conn_mut(slot).hung_up = true;
        self.end_hung_up(now, slot, js);
    }

    fn end_hung_up<J: JetStream>(&mut self, now: Timestamp, slot: u32, js: &mut J) {
        if self.handle_held(now, slot, js) {
            self.close(slot, CloseReason::ClientClosed, false);
        }
    }

    /// Handles what a connection sent before, where it sends nothing any more: that counts although
    /// it may be early. False if some of it must wait for another turn.
    fn handle_held<J: JetStream>(&mut self, now: Timestamp, slot: u32, js: &mut J) -> bool {
        loop {
            let conn = self.clients.conn(slot);
            match conn.hold {
                Hold::Barrier(_) if conn.is_open() => self.release_hold(now, slot, js),
                Hold::Credit if conn.is_gone() && self.clients.gone() > GONE_WAITING_MAX => {
                    let conn = self.clients.conn_mut(slot);
                    (conn.hold, conn.held) = (Hold::No, Vec::new());
                    return true;
                }
                Hold::NextTurn | Hold::Unsubscribing | Hold::Credit if conn.is_open() => {
                    return false;
                }
                _ => return true,
            }
        }
    }

    /// The socket is gone. Returns the buffer that a send in flight still reads, to be kept until
    /// it completes.
    pub fn closed<J: JetStream>(
        &mut self,
        now: Timestamp,
        conn: ConnId,
        js: &mut J,
    ) -> Option<Vec<u8>> {
        let slot = self.clients.slot(conn).filter(|&slot| !self.clients.conn(slot).is_gone())?;
        self.log_closed(slot);
        self.trace_closed(slot);
        self.clients.remember_closed(&self.clocks, slot);
        let kept = self.clients.lose(slot);
        self.unstall_released(now);
        self.end_input(now, slot, js);
        kept
    }

    /// Handles what a connection without a socket sent before: that counts although nobody waits
    /// for an answer any more. Then its subscriptions go.
    fn end_input<J: JetStream>(&mut self, now: Timestamp, slot: u32, js: &mut J) {
        if !self.handle_held(now, slot, js) {
            return; // it is called again
        }
        self.clients.conn_mut(slot).ended = true;
        self.leave(slot);
    }

    /// The socket of a connection failed, for this reason: what closes it if nothing else did.
    pub fn failed(&mut self, conn: ConnId, reason: CloseReason) {
        if let Some(slot) = self.clients.slot(conn) {
            self.clients.conn_mut(slot).failed(reason);
        }
    }

    /// Begins lame duck mode: clients are told, and closed one after the other once the grace is
    /// over.
    pub fn lame_duck(&mut self, now: Timestamp, how: LameDuck) {
        for slot in self.clients.slots() {
            let conn = self.clients.conn(slot);
            if conn.is_open() && conn.first_pong_sent && conn.flags.protocol >= 1 {
                self.clients.write_info(slot, &self.settings.template, InfoKind::LameDuck);
            }
        }
        self.lame_duck_step = (how.duration / (self.clients.len().max(1) as i64)).max(1);
        self.timers.set(now.plus(how.grace), Timer::LameDuck);
        self.settle();
    }

    // ---- Inputs: other reactors ----

    /// A batch of a control lane. Control lanes are drained before message lanes.
    pub fn control(&mut self, now: Timestamp, from: ReactorId, batch: Vec<Control>) {
        for control in batch {
            match control {
                Control::Interest { account, filter, queue, count } => {
                    self.interest.remote(account, from, &filter, queue.as_deref(), count);
                }
                Control::StreamSet(place) => self.interest.set_stream(place),
                Control::StreamRemoved(stream) => self.interest.remove_stream(stream),
                Control::Barrier { seq } => {
                    self.mesh.send_control(from, Control::BarrierDone { seq });
                }
                Control::BarrierDone { seq } => self.barrier_done(from, seq),
                Control::Credit { kind, shard, bytes } => self.credit_home(kind, shard, bytes),
                Control::Stall { conn, ns } => {
                    if let Some(slot) = self.clients.slot(conn) {
                        self.stall(now, slot, ns);
                    }
                }
                Control::Unstall { conn } => self.unstall(now, conn),
                Control::Full => self.pressure_elsewhere += 1,
                Control::PressureQuery { account, subject, query } => {
                    self.pressure_query(now, account, &subject, query);
                }
                Control::Pressure { query, pressure } => self.answers.push((query, pressure)),
            }
        }
    }

    fn barrier_done(&mut self, from: ReactorId, seq: u64) {
        self.mesh.confirm(from, seq);
        let (clients, mesh, runnable) = (&self.clients, &self.mesh, &mut self.runnable);
        self.holding.retain(|&conn| {
            let Some(slot) = clients.slot(conn) else { return false };
            let Hold::Barrier(change) = clients.conn(slot).hold else { return false };
            let confirmed = mesh.is_confirmed(change);
            if confirmed {
                runnable.push(conn);
            }
            !confirmed
        });
    }

    // ---- Inputs: time ----

    /// The next time at which `tick` has something to do.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Timestamp) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Ping(conn) => self.with(conn, |net, slot| net.ping_due(now, slot)),
                Timer::Write(conn) => self.with(conn, |net, slot| net.write_due(now, slot)),
                Timer::Stall(conn) => self.with(conn, |net, slot| {
                    if net.clients.conn(slot).stall_until <= now {
                        net.clients.unpause(slot, PauseReason::Stall);
                    }
                }),
                Timer::LameDuck => self.lame_duck_due(now),
                Timer::Spares => {
                    self.clients.spares.trim();
                    self.mesh.spares.trim();
                    self.trimming = false;
                    self.arm_trim(now);
                }
            }
        }
        self.settle();
    }

    fn with(&mut self, conn: ConnId, act: impl FnOnce(&mut Self, u32)) {
        if let Some(slot) = self.clients.slot(conn) {
            act(self, slot);
        }
    }

    /// Sets the first PING timer, once CONNECT came.
    pub(super) fn arm_first_ping(&mut self, now: Timestamp, slot: u32) {
        let base = self.settings.limits.first_ping.max(1);
        let jitter = self.random.below((base / 5).max(1) as u64) as i64;
        let conn = self.clients.conn(slot).id;
        self.timers.set(now.plus(base + jitter), Timer::Ping(conn));
    }

    fn ping_due(&mut self, now: Timestamp, slot: u32) {
        let limits = self.settings.limits;
        let conn = self.clients.conn_mut(slot);
        if !conn.is_open() || conn.is_gone() {
            return;
        }
        let id = conn.id;
        self.log_ping_timer(slot);
        let conn = self.clients.conn_mut(slot);
        let wants_rtt = conn.ping_sent.0 == 0 || now.since(conn.ping_sent) > RTT_INTERVAL;
        if !conn.is_paused() && (wants_rtt || now.since(conn.last_in) >= limits.ping_interval) {
            if conn.pings_out + 1 > limits.ping_max {
                self.clients.stats.stale_connections += 1;
                self.log_stale(slot);
                return self.close(slot, CloseReason::StaleConnection, false);
            }
            conn.pings_out += 1;
            conn.ping_sent = now;
            self.clients.write(slot, |out| out.extend_from_slice(b"PING\r\n"));
        }
        self.timers.set(now.plus(limits.ping_interval), Timer::Ping(id));
    }

    /// Sees to it that a send without progress is noticed.
    pub(super) fn arm_write(&mut self, now: Timestamp, slot: u32) {
        let deadline = self.settings.limits.write_deadline;
        let conn = self.clients.conn_mut(slot);
        if !conn.write_timer {
            conn.write_timer = true;
            let id = conn.id;
            self.timers.set(now.plus(deadline), Timer::Write(id));
        }
    }

    /// Sees to it that buffers which are not needed any more are given back.
    pub(super) fn arm_trim(&mut self, now: Timestamp) {
        if self.clients.spares.is_large() || self.mesh.spares.is_large() {
            self.trim_later(now);
        }
    }

    fn trim_later(&mut self, now: Timestamp) {
        if !std::mem::replace(&mut self.trimming, true) {
            self.timers.set(now.plus(TRIM_INTERVAL), Timer::Spares);
        }
    }

    fn write_due(&mut self, now: Timestamp, slot: u32) {
        let deadline = self.settings.limits.write_deadline;
        let conn = self.clients.conn_mut(slot);
        conn.write_timer = false;
        if !conn.out.in_flight() {
            return;
        }
        let due = conn.send_started.plus(deadline);
        if due <= now {
            if conn.is_open() {
                self.clients.stats.slow_consumers += 1;
                self.log_write_deadline(slot);
            }
            self.close(slot, CloseReason::SlowConsumerWriteDeadline, true);
        } else {
            conn.write_timer = true;
            let id = conn.id;
            self.timers.set(due, Timer::Write(id));
        }
    }

    fn lame_duck_due(&mut self, now: Timestamp) {
        let slots = self.clients.slots();
        let next = slots.into_iter().find(|&slot| self.clients.conn(slot).is_open());
        if let Some(slot) = next {
            self.close(slot, CloseReason::ServerShutdown, false);
            self.timers.set(now.plus(self.lame_duck_step), Timer::LameDuck);
        }
    }

    /// Does not read a connection for `ns` from now.
    pub(super) fn stall(&mut self, now: Timestamp, slot: u32, ns: i64) {
        let conn = self.clients.conn_mut(slot);
        if !self.settings.limits.stall || !conn.is_open() {
            return;
        }
        let until = now.plus(ns);
        if until > conn.stall_until {
            conn.stall_until = until;
            let id = conn.id;
            self.clients.count_stall(slot);
            self.clients.pause(slot, PauseReason::Stall);
            self.timers.set(until, Timer::Stall(id));
        }
    }

    // ---- What there is to do ----

    /// Appends the connections that have something to send and were not reported since their last
    /// `start_send`.
    pub fn take_touched(&mut self, into: &mut Vec<ConnId>) {
        self.clients.take_touched(into);
    }

    /// Begins a send: the bytes stay in place until `sent`. `None` if a send is in flight or
    /// there is nothing.
    pub fn start_send(&mut self, now: Timestamp, conn: ConnId) -> Option<&[u8]> {
        let slot = self.clients.slot(conn)?;
        self.arm_write(now, slot);
        self.arm_trim(now);
        if self.tracer.is_some() {
            self.trace_outbound(slot);
        }
        self.clients.start_send(now, slot)
    }

    /// Connections to be closed now; `closed` follows when it is done.
    pub fn take_closing(&mut self) -> Vec<Closing> {
        self.clients.take_closing()
    }

    /// Connections to be read no longer, or again, in order.
    pub fn take_flow(&mut self) -> Vec<(ConnId, ReadFlow)> {
        self.clients.take_flow()
    }

    /// Takes what the control lane to `to` is to carry.
    pub fn take_control(&mut self, to: ReactorId) -> Vec<Control> {
        self.mesh.take_control(to)
    }

    /// Takes what the message lane to `to` is to carry. To be called only when it can be pushed,
    /// and when nothing is left of the control batch.
    pub fn take_messages(&mut self, to: ReactorId) -> Vec<u8> {
        let mut blocked = Vec::new();
        let batch = self.mesh.take_messages(to, &mut blocked);
        if batch.capacity() >= LARGE_BATCH_BYTES {
            // It wakes nobody when it comes home.
            self.trim_later(self.clocks.now);
        }
        self.unpause(&blocked, PauseReason::Backlog);
        batch
    }

    /// A batch that was emptied is filled again.
    pub fn keep_batch(&mut self, batch: Vec<u8>) {
        self.mesh.spares.give(batch);
        self.arm_trim(self.clocks.now);
    }

    /// Entries that wait for the control lane to `to`.
    pub fn control_pending(&self, to: ReactorId) -> usize {
        self.mesh.control_pending(to)
    }

    /// Bytes that wait for the message lane to `to`.
    pub fn messages_pending(&self, to: ReactorId) -> usize {
        self.mesh.messages_pending(to)
    }

    /// Bytes of this reactor's publishes or requests that wait in `shard`.
    pub fn credit_taken(&self, kind: CreditKind, shard: ShardId) -> u64 {
        self.mesh.credit_taken(kind, shard)
    }

    /// True if `take_watch_events` has something to look at.
    pub fn has_watch_events(&self) -> bool {
        self.interest.has_watch_events()
    }

    /// Watches whose interest came or went.
    pub fn take_watch_events(&mut self) -> Vec<WatchEvent> {
        self.interest.take_watch_events()
    }

    // ---- Getters ----

    /// True if the connection is not to be read: what arrives is better kept until it is.
    #[inline]
    pub fn is_paused(&self, conn: ConnId) -> bool {
        self.clients.slot(conn).is_some_and(|slot| self.clients.conn(slot).is_paused())
    }

    /// Its reactor.
    pub fn reactor(&self) -> ReactorId {
        self.own
    }

    /// Connections, those that are closing included.
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// Subscriptions of the connections here.
    pub fn subscriptions(&self) -> usize {
        self.clients.subscriptions()
    }

    /// Sums over all connections.
    pub fn stats(&self) -> NetStats {
        self.clients.stats
    }

    /// The streams this reactor knows.
    pub fn catalogue(&self) -> &crate::interest::Catalogue {
        self.interest.catalogue()
    }

    /// Heap bytes a connection holds by itself; its place in tables comes on top.
    pub fn conn_heap_bytes(&self, conn: ConnId) -> Option<usize> {
        self.clients.slot(conn).map(|slot| self.clients.heap_bytes(slot))
    }
}
