//! One reactor's whole state: its net layer and its shards, and how a turn joins them.

use std::collections::VecDeque;

use super::entry::Message;
use super::jetstream::{Captured, JetStream};
use super::net::{Delivery, Net};
use super::{Control, Target};
use crate::client::CloseReason;
use crate::inspect::{Page, Query};
use crate::interest::{AccountId, StreamPlace, WatchId};
use crate::logline::LogLine;
use crate::shard::report::Footprint;
use crate::shard::{
    Audited, LiveAudit, Outgoing, Shard, ShardEffects, ShardMessage, StateDigest, StreamPlacement,
};
use crate::types::{
    Clocks, ConnId, ConsumerPlace, CreditKind, Origin, PressureQuery, ReactorId, ShardId, StreamId,
    Timestamp,
};

/// Rounds of a turn at most: what is left goes on in the next.
const ROUNDS: usize = 4;

/// What travels in a control lane.
#[derive(Debug)]
pub enum Ctl {
    /// The net layer's.
    Net(Vec<Control>),
    /// A shard's word to a shard of the receiver.
    Shard(ShardId, Box<ShardMessage>),
}

/// What other threads ask of a reactor.
pub enum Command {
    /// Nothing: it was only to wake.
    Nothing,
    /// End at once.
    Stop,
    /// Accept connections.
    StartAccepting,
    /// Accept no more connections.
    StopAccepting,
    /// Let go of memory that is not in use.
    ReleaseMemory,
    /// Begin lame duck mode.
    LameDuck(super::LameDuck),
    /// Tell pulls that the server goes away.
    ShutDownJetStream,
    /// Call this once nothing of JetStream is under way any more, after `ShutDownJetStream`.
    Drained(Box<dyn FnOnce() + Send>),
    /// Hand a snapshot of counters to this function.
    Report(Box<dyn FnOnce(super::report::Report) + Send>),
    /// Hand a page of what there is to this function.
    Inspect(Query, Box<dyn FnOnce(Page) + Send>),
}

/// What a turn wants done.
#[derive(Default)]
pub struct Effects {
    /// Connections with something to send.
    pub send: Vec<ConnId>,
    /// Connections to close.
    pub close: Vec<(ConnId, bool)>,
    /// Connections to read no longer (true) or again (false), in order.
    pub flow: Vec<(ConnId, bool)>,
    /// Device operations, by the shard's position on this reactor.
    pub disk: Vec<(usize, corelane_storage::device::Op)>,
    /// Lines for the log.
    pub log: Vec<LogLine>,
    /// The node must stop, and why.
    pub fatal: Option<String>,
}

impl Effects {
    /// True if something is to be carried out.
    pub fn is_pending(&self) -> bool {
        !(self.send.is_empty()
            && self.close.is_empty()
            && self.flow.is_empty()
            && self.disk.is_empty())
    }
}

/// A captured message kept until the shard that said something is done.
struct Kept {
    target: Target,
    origin: Origin,
    account: AccountId,
    subject: Vec<u8>,
    reply: Vec<u8>,
    headers: Vec<u8>,
    payload: Vec<u8>,
    credit_bytes: u32,
}

/// Captures that happen while a shard speaks: they are handed over afterwards.
#[derive(Default)]
struct Deferred(Vec<Kept>);

impl JetStream for Deferred {
    fn capture(&mut self, _now: Timestamp, m: &Captured<'_>) {
        self.0.push(Kept {
            target: m.target,
            origin: m.origin,
            account: m.account,
            subject: m.subject.to_vec(),
            reply: m.reply.to_vec(),
            headers: m.headers.to_vec(),
            payload: m.payload.to_vec(),
            credit_bytes: m.credit_bytes,
        });
    }
}

/// The shards of a reactor.
#[derive(Default)]
pub(super) struct Shards(pub(super) Vec<Shard>);

impl JetStream for Shards {
    #[inline]
    fn capture(&mut self, now: Timestamp, m: &Captured<'_>) {
        let id = m.target.shard();
        if let Some(shard) = self.0.iter_mut().find(|s| s.id() == id) {
            shard.capture(now, m);
        }
    }
}

/// A shard's outlet during a turn.
pub(super) struct Speaker<'a> {
    now: Timestamp,
    net: &'a mut Net,
    deferred: &'a mut Deferred,
    words: &'a mut VecDeque<(ShardId, ShardMessage)>,
    watchers: &'a mut std::collections::BTreeMap<WatchId, ShardId>,
    log: &'a mut Vec<LogLine>,
    fatal: &'a mut Option<String>,
}

impl ShardEffects for Speaker<'_> {
    #[inline]
    fn send(&mut self, m: &Outgoing<'_>) {
        let message = Message {
            account: AccountId::default(),
            subject: m.to,
            shown: m.shown,
            reply: m.reply,
            headers: m.headers,
            payload: m.payload,
        };
        match m.origin {
            Some(origin) => {
                let delivery = Delivery { to: origin.reactor, message };
                self.net.deliver(self.now, &delivery, self.deferred);
            }
            None => {
                self.net.publish(self.now, &message, self.deferred);
            }
        }
    }

    fn credit(&mut self, reactor: ReactorId, kind: CreditKind, shard: ShardId, bytes: u64) {
        self.net.credit_return(reactor, kind, shard, bytes);
    }

    fn routed(&self) -> u64 {
        self.net.work_done()
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.net.has_room()
    }

    #[inline]
    fn pressure(&self) -> u64 {
        self.net.pressure()
    }

    fn ask_receivers(
        &mut self,
        subject: &[u8],
        requester: Option<Origin>,
        query: PressureQuery,
    ) -> u32 {
        let (account, at) = (AccountId::default(), requester.map(|origin| origin.reactor));
        let reactor = self.net.reactor();
        let query =
            PressureQuery { consumer: ConsumerPlace { reactor, ..query.consumer }, ..query };
        self.net.ask_receivers(self.now, account, subject, at, query)
    }

    fn place(&mut self, placed: StreamPlacement) {
        match placed {
            StreamPlacement::Here { id, name, shard, credit, subjects, .. } => {
                let account = AccountId::default();
                let reactor = self.net.reactor();
                let place = StreamPlace { account, id, name, shard, reactor, credit, subjects };
                self.net.announce_stream(&place);
            }
            StreamPlacement::Gone(id) => self.net.announce_stream_removed(id),
        }
    }

    fn has_interest(&mut self, subject: &[u8], group: &[u8]) -> bool {
        let group = (!group.is_empty()).then_some(group);
        self.net.has_interest(AccountId::default(), subject, group)
    }

    fn has_listener(&mut self, subject: &[u8], group: &[u8]) -> bool {
        let group = (!group.is_empty()).then_some(group);
        self.net.has_listener(AccountId::default(), subject, group)
    }

    fn no_responders(&mut self, publisher: Origin, subject: &[u8], reply: &[u8]) {
        self.net.nobody(publisher, subject, reply);
    }

    fn watch(&mut self, shard: ShardId, subject: &[u8], group: &[u8]) -> WatchId {
        let group = (!group.is_empty()).then_some(group);
        let watch = self.net.watch(AccountId::default(), subject, group);
        self.watchers.insert(watch, shard);
        watch
    }

    fn unwatch(&mut self, watch: WatchId) {
        self.watchers.remove(&watch);
        self.net.unwatch(watch);
    }

    fn send_to_shard(&mut self, to: ShardId, message: ShardMessage) {
        self.words.push_back((to, message));
    }

    fn fatal(&mut self, text: &str) {
        self.fatal.get_or_insert_with(|| text.to_owned());
    }

    fn log(&mut self, line: String) {
        self.log.push(LogLine::warn(line));
    }
}

/// Everything one reactor owns, as a state machine.
pub struct Core {
    pub(super) net: Net,
    pub(super) shards: Shards,
    deferred: Deferred,
    words: VecDeque<(ShardId, ShardMessage)>,
    watchers: std::collections::BTreeMap<WatchId, ShardId>,
    outgoing: Vec<VecDeque<Ctl>>,
    reactors: u16,
    log: Vec<LogLine>,
    fatal: Option<String>,
    stalls: u64,
    /// Whose background work goes on in this turn whatever else there is to do.
    favoured: usize,
    full: bool,
    /// Whom to tell when the shards have come to rest, and whether they have.
    drained: Option<(Box<dyn FnOnce() + Send>, bool)>,
}

impl Core {
    /// Joins a net layer and the shards that live on its reactor.
    pub fn new(net: Net, shards: Vec<Shard>, reactors: u16) -> Self {
        Core {
            net,
            shards: Shards(shards),
            deferred: Deferred::default(),
            words: VecDeque::new(),
            watchers: Default::default(),
            outgoing: (0..reactors).map(|_| VecDeque::new()).collect(),
            reactors,
            log: Vec::new(),
            fatal: None,
            stalls: 0,
            favoured: 0,
            full: false,
            drained: None,
        }
    }

    /// The reactor that hosts a shard.
    pub fn host_of(shard: ShardId, reactors: u16) -> ReactorId {
        ReactorId(shard.0 % reactors)
    }

    /// After recovery: shards announce their streams, and shard 0 what the catalogue says.
    pub fn start(&mut self, clocks: Clocks) {
        let now = clocks.now;
        self.set_clocks(clocks);
        self.speak(now, |shard, out| shard.start(now, out));
        self.finish(now);
    }

    // ---- Inputs ----

    fn set_clocks(&mut self, clocks: Clocks) {
        self.net.set_clocks(clocks);
        self.shards.0.iter_mut().for_each(|shard| shard.set_clocks(clocks));
    }

    /// A turn begins at this time, which all its inputs share.
    pub fn begin(&mut self, clocks: Clocks) {
        let now = clocks.now;
        self.set_clocks(clocks);
        self.net.begin_turn();
        let shards = self.shards.0.len();
        self.favoured = (self.favoured + 1) % shards.max(1);
        for (at, shard) in self.shards.0.iter_mut().enumerate() {
            shard.begin_turn(shards, at == self.favoured);
        }
        if self.net.deadline().is_some_and(|at| at <= now) {
            self.net.tick(now);
        }
        // What the shards said last was sent to the other reactors at the end of the last turn.
        if let Some((tell, _)) = self.drained.take_if(|(_, rested)| *rested) {
            tell();
        }
    }

    /// A connection was accepted.
    pub fn accept(&mut self, now: Timestamp, conn: ConnId, peer: &str) {
        self.net.accept(now, conn, peer, self.full);
    }

    /// Bytes arrived.
    pub fn received(&mut self, now: Timestamp, conn: ConnId, bytes: &[u8]) {
        self.net.received(now, conn, bytes, &mut self.shards);
    }

    /// True if a connection is not to be read: what arrives is better kept until it is.
    #[inline]
    pub fn is_paused(&self, conn: ConnId) -> bool {
        self.net.is_paused(conn)
    }

    /// A send took so many bytes.
    pub fn sent(&mut self, now: Timestamp, conn: ConnId, bytes: usize) {
        self.net.sent(now, conn, bytes);
    }

    /// The peer sends nothing any more.
    pub fn hung_up(&mut self, now: Timestamp, conn: ConnId) {
        self.net.hung_up(now, conn, &mut self.shards);
    }

    /// The socket of a connection failed; `closed` follows.
    pub fn failed(&mut self, conn: ConnId, reason: CloseReason) {
        self.net.failed(conn, reason);
    }

    /// The socket is gone. The answer is the buffer that a send in flight still reads.
    pub fn closed(&mut self, now: Timestamp, conn: ConnId) -> Option<Vec<u8>> {
        self.net.closed(now, conn, &mut self.shards)
    }

    /// Something arrived in a control lane.
    pub fn control(&mut self, now: Timestamp, from: ReactorId, ctl: Ctl) {
        match ctl {
            Ctl::Net(batch) => self.net.control(now, from, batch),
            Ctl::Shard(to, message) => self.words.push_back((to, *message)),
        }
    }

    /// A batch arrived in a message lane.
    pub fn messages(&mut self, now: Timestamp, from: ReactorId, batch: &[u8]) {
        self.net.messages(now, from, batch, &mut self.shards);
    }

    /// Sets the size of each shard's tail cache to what `share` makes of the shard, its own part
    /// and what it uses.
    pub fn share_tails(&mut self, mut share: impl FnMut(ShardId, usize, usize) -> usize) {
        for shard in &mut self.shards.0 {
            let (part, used) = shard.tail_bytes();
            let bytes = share(shard.id(), part, used);
            shard.set_tail_max(bytes);
        }
    }

    /// A device operation of the shard at position `shard` is over.
    pub fn disk_done(&mut self, shard: usize, done: corelane_storage::device::Done) {
        self.shards.0[shard].disk_done(done);
    }

    /// A command of another thread.
    pub fn command(&mut self, now: Timestamp, command: Command) {
        match command {
            Command::LameDuck(how) => self.net.lame_duck(now, how),
            Command::ShutDownJetStream => self.speak(now, |shard, out| shard.shut_down(out)),
            Command::Drained(tell) => self.drained = Some((tell, false)),
            Command::Report(tell) => tell(self.report()),
            Command::Inspect(query, tell) => tell(self.inspect(now, &query)),
            Command::Nothing
            | Command::Stop
            | Command::StartAccepting
            | Command::StopAccepting
            | Command::ReleaseMemory => {}
        }
    }

    /// The node has as many connections as it may have, or not.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// A turn took longer than it may.
    pub fn stalled(&mut self, ns: i64) {
        self.stalls += 1;
        if self.stalls.is_power_of_two() {
            let (ms, n) = (ns / 1_000_000, self.stalls);
            let text = format!("a turn took {ms} ms ({n} long turns so far)");
            self.log.push(LogLine::warn(text));
        }
    }

    /// Counters for monitoring; what the shell counts is left to it.
    pub fn report(&self) -> super::report::Report {
        super::report::Report {
            net: self.net.stats(),
            connections: self.net.connections(),
            subscriptions: self.net.subscriptions(),
            shards: self.shards.0.iter().map(Shard::report).collect(),
            stalls: self.stalls,
            shell: super::report::ShellReport::default(),
        }
    }

    /// Goes on with a recount of the live bytes of the shard at `position`.
    pub fn audit_live(
        &mut self,
        position: usize,
        audit: &mut LiveAudit,
    ) -> Result<Audited, String> {
        self.shards.0[position].audit_live(audit)
    }

    /// The first thing that takes more memory than it should, in any shard.
    pub fn audit_memory(&self) -> Result<(), String> {
        self.shards.0.iter().try_for_each(Shard::audit_memory)
    }

    /// What the file streams of each shard have applied; see `Shard::state_digest`.
    pub fn state_digests(&self) -> impl Iterator<Item = Option<StateDigest>> + '_ {
        self.shards.0.iter().map(Shard::state_digest)
    }

    /// What the shards keep for what is under way.
    pub fn footprints(&self) -> impl Iterator<Item = Footprint> + '_ {
        self.shards.0.iter().map(Shard::footprint)
    }

    /// Bytes of credit of a shard that are not at home.
    pub fn credit_taken(&self, kind: CreditKind, shard: ShardId) -> u64 {
        self.net.credit_taken(kind, shard)
    }

    /// What the shards' handlers did.
    pub fn efforts(&self) -> impl Iterator<Item = &crate::shard::budget::WorkTally> {
        self.shards.0.iter().map(Shard::tally)
    }

    // ---- The turn ----

    /// Lets everything that has arrived take effect.
    pub fn finish(&mut self, now: Timestamp) {
        self.net.run(now, &mut self.shards);
        for _ in 0..ROUNDS {
            for event in self.net.take_watch_events() {
                let Some(&shard) = self.watchers.get(&event.watch) else { continue };
                self.speak_to(now, shard, |s, out| {
                    s.interest_changed(now, event.watch, event.interested, out);
                });
            }
            for (query, pressure) in self.net.take_answers() {
                self.speak_to(now, query.consumer.shard, |s, _| {
                    s.pressure_answered(query, pressure)
                });
            }
            while let Some((to, message)) = self.words.pop_front() {
                self.carry(now, to, message);
            }
            self.speak(now, |shard, out| shard.step(now, out));
            let kept = std::mem::take(&mut self.deferred.0);
            for k in &kept {
                self.shards.capture(now, &k.borrow());
            }
            if kept.is_empty() && self.words.is_empty() {
                break;
            }
        }
        self.net.report_pressure();
        if let Some((_, rested)) = &mut self.drained {
            *rested = self.shards.0.iter().all(Shard::is_at_rest);
        }
    }

    fn carry(&mut self, now: Timestamp, to: ShardId, message: ShardMessage) {
        let host = Self::host_of(to, self.reactors);
        if host == self.net.reactor() {
            self.speak_to(now, to, |shard, out| shard.receive(now, message, out));
        } else {
            self.outgoing[usize::from(host.0)].push_back(Ctl::Shard(to, Box::new(message)));
        }
    }

    pub(super) fn speak(
        &mut self,
        now: Timestamp,
        mut act: impl FnMut(&mut Shard, &mut Speaker<'_>),
    ) {
        let mut speaker = Speaker {
            now,
            net: &mut self.net,
            deferred: &mut self.deferred,
            words: &mut self.words,
            watchers: &mut self.watchers,
            log: &mut self.log,
            fatal: &mut self.fatal,
        };
        for shard in &mut self.shards.0 {
            act(shard, &mut speaker);
        }
    }

    fn speak_to(
        &mut self,
        now: Timestamp,
        id: ShardId,
        act: impl FnOnce(&mut Shard, &mut Speaker<'_>),
    ) {
        let mut act = Some(act);
        self.speak(now, |shard, out| {
            if shard.id() == id
                && let Some(act) = act.take()
            {
                act(shard, out);
            }
        });
    }

    // ---- Effects ----

    /// Takes what the turn wants done.
    pub fn take_effects(&mut self, into: &mut Effects) {
        self.net.take_touched(&mut into.send);
        into.flow.extend(
            self.net.take_flow().into_iter().map(|(c, f)| (c, f == crate::client::ReadFlow::Pause)),
        );
        into.close.extend(self.net.take_closing().into_iter().map(|c| (c.conn, c.unread)));
        for (at, shard) in self.shards.0.iter_mut().enumerate() {
            shard.take_ops(|op| into.disk.push((at, op)));
        }
        into.log.append(&mut self.log);
        self.net.take_lines(&mut into.log);
        if into.fatal.is_none() {
            into.fatal = self.fatal.take();
        }
    }

    /// The bytes to send on a connection, which stay in place until `sent`.
    pub fn start_send(&mut self, now: Timestamp, conn: ConnId) -> Option<&[u8]> {
        self.net.start_send(now, conn)
    }

    /// Moves what the control lane to `to` is to carry behind what waits for it already.
    pub fn take_control(&mut self, to: ReactorId, into: &mut VecDeque<Ctl>) {
        if self.net.control_pending(to) > 0 {
            into.push_back(Ctl::Net(self.net.take_control(to)));
        }
        into.append(&mut self.outgoing[usize::from(to.0)]);
    }

    /// Takes what the message lane to `to` is to carry: only when it can be pushed, and nothing
    /// waits in control.
    pub fn take_messages(&mut self, to: ReactorId) -> Option<Vec<u8>> {
        (self.net.messages_pending(to) > 0).then(|| self.net.take_messages(to))
    }

    /// A batch of this reactor that was emptied comes home, to be filled again.
    pub fn keep_batch(&mut self, batch: Vec<u8>) {
        self.net.keep_batch(batch);
    }

    /// When the next turn must be, if nothing comes in.
    pub fn deadline(&self) -> Option<Timestamp> {
        let shards = self.shards.0.iter().filter_map(Shard::deadline).min();
        [self.net.deadline(), shards].into_iter().flatten().min()
    }

    /// True if the next turn has something to do already.
    pub fn has_work(&self) -> bool {
        self.net.is_runnable()
            || self.net.has_watch_events()
            || self.net.has_answers()
            || !self.words.is_empty()
            || self.shards.0.iter().any(|shard| shard.has_work(self.net.has_room()))
            || self.drained.as_ref().is_some_and(|(_, rested)| *rested)
    }

    /// The catalogue's id of a stream, for tests and the simulator.
    pub fn stream_id(&self, name: &[u8]) -> Option<StreamId> {
        self.net.catalogue().by_name(AccountId::default(), name).map(|p| p.id)
    }
}

impl Kept {
    fn borrow(&self) -> Captured<'_> {
        Captured {
            target: self.target,
            origin: self.origin,
            account: self.account,
            subject: &self.subject,
            reply: &self.reply,
            headers: &self.headers,
            payload: &self.payload,
            credit_bytes: self.credit_bytes,
        }
    }
}
