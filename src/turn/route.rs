//! Routing: one way for every publish.

use super::control::Control;
use super::entry::{self, Entry, HOPS_MAX, Kind, Message, Origin, Queues};
use super::jetstream::{Captured, JetStream, Target};
use super::net::{Net, STALL_MAX, STALL_REMOTE_MAX};
use super::trace::TraceOnly;
use super::user_info;
use super::work::Work;
use crate::client::{Clients, CloseReason, Delivered, Hold, Leaving, PauseReason};
use crate::interest::{AccountId, Destination, GroupPlan, PlanId, SubId, request_credit};
use crate::subject;
use crate::types::{ConnId, CreditKind, ReactorId, ShardId, Timestamp};

/// The account of all connections, for now.
pub(super) const ACCOUNT: AccountId = AccountId(0);
/// Subscriptions of one connection that are removed before it is the turn of the next.
const LEAVING_SHARE: usize = 256;
/// Bytes charged for a publish beside its own: its record's head, and what waits for it until it is
/// applied, in queues that grow by doubling.
const CREDIT_OVERHEAD_BYTES: u32 = 1024;

/// Where a message comes from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Source {
    /// Who published it.
    pub origin: Origin,
    /// The publisher's slot, if its connection is here.
    pub slot: Option<u32>,
    /// The publisher wants a 503 if nobody takes it.
    pub wants_answer: bool,
    /// It is charged to the publisher's credit.
    pub charged: bool,
    /// How often it was handed on or back.
    pub hops: u8,
}

/// Bytes charged for a request of the API beside its own: about what it takes in memory while it
/// waits and is handled.
const REQUEST_OVERHEAD_BYTES: u32 = 1024;
/// The same of an acknowledgement.
const ACK_OVERHEAD_BYTES: u32 = 256;

/// What a publish costs while it waits for durability.
fn credit_bytes(message: &Message<'_>) -> u32 {
    (message.subject.len() + message.body_bytes()) as u32 + CREDIT_OVERHEAD_BYTES
}

/// What a request, an acknowledgement or an answer to flow control costs while it waits. The same
/// on every reactor.
fn request_bytes(message: &Message<'_>, api_bytes_min: u32) -> u32 {
    let own = (message.subject.len() + message.reply.len() + message.body_bytes()) as u32;
    match subject::api::is_request(message.subject) {
        true => (own + REQUEST_OVERHEAD_BYTES).max(api_bytes_min),
        false => own + ACK_OVERHEAD_BYTES,
    }
}

/// Who outside the interest takes a subject of the server's own.
enum Special {
    None,
    Answered,
    Destination(Destination),
}

/// The outcome of choosing a member of a queue group.
enum Pick {
    Taken,
    Remote(ReactorId),
    Nobody,
}

/// What is handed to a shard; it counts among the turn's work.
#[inline]
fn captured<'a>(
    work: &mut Work,
    target: Target,
    origin: Origin,
    message: &Message<'a>,
    credit_bytes: u32,
) -> Captured<'a> {
    work.capture(message.body_bytes());
    Captured {
        target,
        origin,
        account: message.account,
        subject: message.subject,
        reply: message.reply,
        headers: message.headers,
        payload: message.payload,
        credit_bytes,
    }
}

/// Delivers to one of `members`, the chosen one if it takes the message.
fn deliver_one(
    clients: &mut Clients,
    members: &[SubId],
    choice: usize,
    publisher: Option<u32>,
    message: &Message<'_>,
) -> bool {
    (0..members.len()).any(|i| {
        let sub = members[(choice + i) % members.len()];
        clients.deliver(sub, publisher, message) == Delivered::Yes
    })
}

/// Gives the message to the member with the number `choice` among all members of the node, or to
/// another one here if that one does not want its own messages back.
fn pick(
    clients: &mut Clients,
    group: &GroupPlan,
    choice: u64,
    publisher: Option<u32>,
    message: &Message<'_>,
) -> Pick {
    let local = group.local.len() as u64;
    if choice < local && deliver_one(clients, &group.local, choice as usize, publisher, message) {
        return Pick::Taken;
    }
    let mut at = choice.saturating_sub(local);
    for &(reactor, count) in &group.remote {
        if at < u64::from(count) {
            return Pick::Remote(reactor);
        }
        at -= u64::from(count);
    }
    Pick::Nobody
}

impl Net {
    /// Routes a message by this reactor's interest: to subscriptions here, to one member of each
    /// queue group anywhere, to other reactors, to streams and to JetStream's API. Returns
    /// whether anybody takes it.
    #[inline]
    pub(super) fn route<J: JetStream>(
        &mut self,
        now: Timestamp,
        source: Source,
        message: &Message<'_>,
        js: &mut J,
    ) -> bool {
        let special = match message.subject.first() {
            Some(b'$') => self.special(now, &source, message, js),
            _ => Special::None,
        };
        let destination = match special {
            Special::None => None,
            Special::Answered => return true,
            Special::Destination(destination) => Some(destination),
        };
        let id = self.interest.plan(message.account, message.subject);
        let plan = self.interest.get(id);
        self.work.deliveries(plan.plain.len() + plan.groups.len(), message.body_bytes());
        let mut taken = 0usize;
        for &sub in &plan.plain {
            taken += usize::from(self.clients.deliver(sub, source.slot, message) == Delivered::Yes);
        }
        self.picks.clear();
        for (at, group) in plan.groups.iter().enumerate() {
            let choice = self.random.below(group.members().max(1));
            match pick(&mut self.clients, group, choice, source.slot, message) {
                Pick::Taken => taken += 1,
                Pick::Remote(reactor) => self.picks.push((reactor, at as u32)),
                Pick::Nobody => {}
            }
        }
        let mut waits = None;
        for (at, stream) in plan.streams.iter().enumerate() {
            let again = plan.streams[..at].iter().any(|s| s.reactor == stream.reactor);
            let bytes = if source.charged && !again { credit_bytes(message) } else { 0 };
            let (kind, shard) = (stream.credit, stream.shard);
            if source.charged && !again && self.mesh.credit_take(kind, shard, bytes) {
                waits = Some((kind, shard));
            }
            if stream.reactor == self.own {
                let target = Target::Stream { stream: stream.stream, shard, credit: kind };
                js.capture(now, &captured(&mut self.work, target, source.origin, message, bytes));
                taken += 1;
            }
        }
        let remote = destination.filter(|&Destination { target, reactor }| {
            let (kind, shard) = (request_credit(message.subject), target.shard());
            let min = self.request_bytes_min;
            let bytes = if source.charged { request_bytes(message, min) } else { 0 };
            if bytes > 0 && self.mesh.credit_take(kind, shard, bytes) {
                waits = Some((kind, shard));
            }
            if reactor != self.own {
                return true;
            }
            js.capture(now, &captured(&mut self.work, target, source.origin, message, bytes));
            taken += 1;
            false
        });
        if !(self.picks.is_empty() && remote.is_none() && plan.reactors.is_empty()) {
            taken += self.send_remote(id, remote, &source, message, taken == 0);
        }
        if let (Some((kind, shard)), Some(slot)) = (waits, source.slot) {
            self.wait_for_credit(kind, shard, slot);
        }
        self.settle();
        taken > 0
    }

    /// A connection has spent credit: it is not read until half of that is home. What was read of
    /// it is held too where requests are what it sends: a small one takes many times its own bytes
    /// until it is answered, and each new connection would add a whole read of them.
    #[cold]
    fn wait_for_credit(&mut self, kind: CreditKind, shard: ShardId, slot: u32) {
        let conn = self.clients.conn_mut(slot);
        if !kind.is_publish() && conn.hold == Hold::No && conn.is_open() {
            conn.hold = Hold::Credit;
        }
        let id = conn.id;
        self.mesh.credit_wait(kind, shard, id);
        self.clients.pause(slot, PauseReason::Credit);
    }

    /// Sends one entry to each interested reactor. Returns how many.
    fn send_remote(
        &mut self,
        id: PlanId,
        destination: Option<Destination>,
        source: &Source,
        message: &Message<'_>,
        nobody_here: bool,
    ) -> usize {
        let plan = self.interest.get(id);
        let mut reactors = std::mem::take(&mut self.reactors);
        reactors.clear();
        reactors.extend_from_slice(&plan.reactors);
        if !self.picks.is_empty() || destination.is_some() {
            let picked = self.picks.iter().map(|&(reactor, _)| reactor);
            reactors.extend(picked.chain(destination.map(|d| d.reactor)));
            reactors.sort_unstable();
            reactors.dedup();
        }
        let only = nobody_here && reactors.len() == 1;
        let mut names = std::mem::take(&mut self.names);
        for &reactor in &reactors {
            names.clear();
            for &(_, at) in self.picks.iter().filter(|&&(r, _)| r == reactor) {
                Queues::push(&mut names, &plan.groups[at as usize].name);
            }
            let entry = Entry {
                kind: Kind::Publish,
                want_return: only && source.wants_answer,
                credit: match source.charged {
                    true => {
                        let first = plan.streams.iter().find(|s| s.reactor == reactor);
                        first.map(|s| (s.credit, s.shard))
                    }
                    false => None,
                },
                request_credit: destination
                    .filter(|d| source.charged && d.reactor == reactor)
                    .map(|d| d.target.shard()),
                hops: source.hops,
                origin: source.origin,
                queues: Queues::from_bytes(&names),
                message: *message,
            };
            let over = self.mesh.send(reactor, &entry);
            if let (true, Some(slot)) = (over, source.slot) {
                self.mesh.block(reactor, source.origin.conn);
                self.clients.pause(slot, PauseReason::Backlog);
            }
        }
        let sent = reactors.len();
        self.names = names;
        self.reactors = reactors;
        sent
    }

    /// The origin of what the server itself publishes here.
    pub(super) fn server(&self) -> Origin {
        Origin { reactor: self.own, conn: ConnId(0) }
    }

    /// Sends a message to another reactor: to be routed there, or to be told to a connection there.
    pub(super) fn forward(&mut self, to: Origin, kind: Kind, message: &Message<'_>) {
        let entry = Entry {
            kind,
            want_return: false,
            credit: None,
            request_credit: None,
            hops: 0,
            origin: if kind == Kind::Nobody { to } else { self.server() },
            queues: Queues::default(),
            message: *message,
        };
        self.mesh.send(to.reactor, &entry);
    }

    /// A batch of a message lane, in order. The control lanes were drained as far as they reached
    /// when this batch was seen.
    ///
    /// # Panics
    /// If the batch is malformed: it was written by another reactor of this process.
    pub fn messages<J: JetStream>(
        &mut self,
        now: Timestamp,
        from: ReactorId,
        batch: &[u8],
        js: &mut J,
    ) {
        let mut rest = batch;
        let mut stalled: Vec<Stalled> = Vec::new();
        while let Some(entry) = entry::decode(&mut rest).expect("batches consist of whole entries")
        {
            self.clients.stall = 0;
            match entry.kind {
                Kind::Publish | Kind::Queue => self.arrived(now, from, &entry, js),
                Kind::Deliver => {
                    let source = Source { origin: entry.origin, ..Source::default() };
                    self.route(now, source, &entry.message, js);
                }
                Kind::Returned => self.returned(now, &entry, js),
                Kind::Nobody => {
                    let slot = self.clients.slot(entry.origin.conn);
                    self.no_responders(slot, &entry.message);
                }
            }
            if self.clients.stall > 0 {
                note_stall(&mut stalled, &entry, self.clients.stall);
            }
        }
        for s in
            stalled.iter().filter(|s| s.origin.conn != ConnId(0) && s.origin.reactor != self.own)
        {
            self.clients.wait_for_full(s.origin);
            let (to, conn) = (s.origin.reactor, s.origin.conn);
            self.mesh.send_control(to, Control::Stall { conn, ns: s.ns() });
        }
        self.clients.full.clear();
    }

    /// An entry that another reactor routed here: to subscriptions and streams on this reactor
    /// only.
    fn arrived<J: JetStream>(
        &mut self,
        now: Timestamp,
        from: ReactorId,
        entry: &Entry<'_>,
        js: &mut J,
    ) {
        let message = &entry.message;
        let id = self.interest.plan(message.account, message.subject);
        let plan = self.interest.get(id);
        let all = entry.kind == Kind::Publish;
        let mut taken = 0usize;
        for &sub in plan.plain.iter().filter(|_| all) {
            taken += usize::from(self.clients.deliver(sub, None, message) == Delivered::Yes);
        }
        let mut missing = std::mem::take(&mut self.names);
        missing.clear();
        for name in entry.queues {
            let group = plan.group_named(name).map(|at| &plan.groups[at]);
            let group = group.filter(|g| !g.local.is_empty());
            let choice = group.map(|g| (g, self.random.below(g.local.len() as u64)));
            let delivered = choice.is_some_and(|(group, choice)| {
                deliver_one(&mut self.clients, &group.local, choice as usize, None, message)
            });
            match delivered {
                true => taken += 1,
                false => Queues::push(&mut missing, name),
            }
        }
        let mut credit = entry.credit;
        for stream in plan.streams.iter().filter(|s| all && s.reactor == self.own) {
            let (kind, shard) = (stream.credit, stream.shard);
            let charged = credit.take_if(|charged| *charged == (kind, shard)).is_some();
            let bytes = if charged { credit_bytes(message) } else { 0 };
            let target = Target::Stream { stream: stream.stream, shard, credit: kind };
            js.capture(now, &captured(&mut self.work, target, entry.origin, message, bytes));
            taken += 1;
        }
        if let Some((kind, shard)) = credit {
            // The stream is gone: nothing here will give the credit back.
            let bytes = u64::from(credit_bytes(message));
            self.mesh.send_control(entry.origin.reactor, Control::Credit { kind, shard, bytes });
        }
        let mut credit = entry.request_credit;
        let bytes = request_bytes(message, self.request_bytes_min);
        if let Some(found) = self.interest.destination(message.account, message.subject)
            && all
            && found.reactor == self.own
        {
            let charged = credit.take_if(|shard| *shard == found.target.shard()).is_some();
            let bytes = if charged { bytes } else { 0 };
            js.capture(now, &captured(&mut self.work, found.target, entry.origin, message, bytes));
            taken += 1;
        }
        if let Some(shard) = credit {
            let (kind, bytes) = (request_credit(message.subject), u64::from(bytes));
            self.mesh.send_control(entry.origin.reactor, Control::Credit { kind, shard, bytes });
        }
        let whole = all && taken == 0 && entry.want_return;
        if (whole || !missing.is_empty()) && entry.hops < HOPS_MAX {
            self.send_back(from, entry, if whole { &[][..] } else { &missing });
        }
        self.names = missing;
        self.settle();
    }

    /// Sends an entry back to where it was routed: for these queue groups, or as a whole.
    fn send_back(&mut self, to: ReactorId, entry: &Entry<'_>, queues: &[u8]) {
        let back = Entry {
            kind: Kind::Returned,
            hops: entry.hops + 1,
            queues: Queues::from_bytes(queues),
            credit: None,
            request_credit: None,
            ..*entry
        };
        self.mesh.send(to, &back);
    }

    /// An entry of this reactor came back: nobody was left there, or no member of the named
    /// groups. What made it come back is known here by now, because it was told before.
    fn returned<J: JetStream>(&mut self, now: Timestamp, entry: &Entry<'_>, js: &mut J) {
        let slot = match entry.origin.reactor == self.own {
            true => self.clients.slot(entry.origin.conn),
            false => None,
        };
        let source = Source {
            origin: entry.origin,
            slot,
            wants_answer: entry.want_return,
            charged: false,
            hops: entry.hops,
        };
        let message = &entry.message;
        if entry.queues.is_empty() {
            if !self.route(now, source, message, js) {
                self.no_responders(slot, message);
            }
            return;
        }
        let id = self.interest.plan(message.account, message.subject);
        let plan = self.interest.get(id);
        self.picks.clear();
        let mut taken = 0usize;
        for name in entry.queues {
            let Some(at) = plan.group_named(name) else { continue };
            let group = &plan.groups[at];
            let choice = self.random.below(group.members().max(1));
            match pick(&mut self.clients, group, choice, slot, message) {
                Pick::Taken => taken += 1,
                Pick::Remote(reactor) => self.picks.push((reactor, at as u32)),
                Pick::Nobody => {}
            }
        }
        taken += self.send_picked(id, &source, message);
        self.settle();
        if taken == 0 && entry.want_return {
            self.no_responders(slot, message);
        }
    }

    /// Sends the message to the picked members of queue groups alone, one entry each.
    fn send_picked(&mut self, id: PlanId, source: &Source, message: &Message<'_>) -> usize {
        let plan = self.interest.get(id);
        let only = self.picks.len() == 1;
        for &(reactor, at) in &self.picks {
            self.names.clear();
            Queues::push(&mut self.names, &plan.groups[at as usize].name);
            let entry = Entry {
                kind: Kind::Queue,
                want_return: only && source.wants_answer,
                credit: None,
                request_credit: None,
                hops: source.hops,
                origin: source.origin,
                queues: Queues::from_bytes(&self.names),
                message: *message,
            };
            self.mesh.send(reactor, &entry);
        }
        self.picks.len()
    }

    /// Tells a requester here that nobody takes its request, if it subscribes to the reply.
    pub(super) fn no_responders(&mut self, slot: Option<u32>, message: &Message<'_>) {
        let Some(slot) = slot else { return };
        let conn = self.clients.conn(slot);
        if message.reply.is_empty() || !conn.flags.no_responders || !conn.is_open() {
            return;
        }
        let id = self.interest.plan(message.account, message.reply);
        let plan = self.interest.get(id);
        // Members of queue groups do not count, as in NATS.
        self.work.deliveries(plan.plain.len(), 0);
        let own = plan.plain.iter().find(|s| {
            let sub = self.clients.sub(**s);
            sub.conn == slot && !sub.is_expired()
        });
        if let Some(&sub) = own {
            self.clients.deliver_no_responders(sub, message.reply, message.subject);
        }
    }

    /// A message that is only to be traced goes nowhere; a requester hears if nobody would have
    /// taken it.
    pub(super) fn trace(&mut self, slot: u32, trace: TraceOnly, from: &Source, m: &Message<'_>) {
        if trace.valid && from.wants_answer && !self.has_interest(m.account, m.subject, None) {
            self.no_responders(Some(slot), m);
        }
    }

    /// Does what deliveries left behind: removes subscriptions that got their last message,
    /// closes slow consumers.
    #[inline]
    pub(super) fn settle(&mut self) {
        if self.clients.expired.is_empty() && self.clients.slow.is_empty() {
            return;
        }
        while !self.clients.expired.is_empty() && self.work.remove() {
            if let Some(sub) = self.clients.next_expired() {
                self.unsubscribe(sub);
            }
        }
        for slot in std::mem::take(&mut self.clients.slow) {
            if self.clients.conn(slot).is_open() {
                self.clients.stats.slow_consumers += 1;
                self.log_pending(slot);
                self.close(slot, CloseReason::SlowConsumerPendingBytes, true);
            }
        }
    }

    /// Removes a subscription and tells the others.
    pub(super) fn unsubscribe(&mut self, sub: SubId) {
        if self.tracer.is_some() {
            self.trace_unsubscribe(sub);
        }
        let slot = self.clients.sub(sub).conn;
        self.clients.remove_sub(sub);
        if let Some(change) = self.interest.unsubscribe(ACCOUNT, sub)
            && !self.single
        {
            let count = self.mesh.broadcast(ACCOUNT, change);
            self.clients.conn_mut(slot).last_change = count;
        }
    }

    /// Removes all subscriptions of a connection, over several turns if there are many. They get
    /// nothing from now on.
    pub(super) fn leave(&mut self, slot: u32) {
        match self.clients.set_leaving(slot, Leaving::Queued) {
            Leaving::No => self.leaving.push_back(slot),
            Leaving::Queued => {}
            Leaving::Done => return self.left(slot),
        }
        self.remove_subscriptions();
    }

    /// Goes on with connections that leave, as far as the turn has time, each a bit at a time.
    pub(super) fn remove_subscriptions(&mut self) {
        while let Some(slot) = self.leaving.pop_front() {
            let mut share = LEAVING_SHARE;
            let next = loop {
                let Some(sub) = self.clients.first_sub(slot) else { break None };
                if share == 0 || !self.work.remove() {
                    break Some(slot);
                }
                share -= 1;
                self.unsubscribe(sub);
            };
            match next {
                None => self.left(slot),
                Some(slot) if share == 0 => self.leaving.push_back(slot),
                Some(slot) => return self.leaving.push_front(slot),
            }
        }
    }

    /// The last subscription of a connection that leaves is removed.
    fn left(&mut self, slot: u32) {
        let conn = self.clients.conn_mut(slot);
        let mut leaving = Leaving::Done;
        if conn.ended {
            return self.clients.remove(slot);
        }
        if conn.hold == Hold::Unsubscribing {
            conn.hold = Hold::NextTurn;
            let id = conn.id;
            self.runnable.push(id);
            leaving = Leaving::No;
        } else if conn.is_open() {
            leaving = Leaving::No;
        }
        self.clients.set_leaving(slot, leaving);
    }

    /// Closes a connection: its subscriptions get nothing from now on, its socket goes when its
    /// error is sent, or `at_once`.
    pub(super) fn close(&mut self, slot: u32, reason: CloseReason, at_once: bool) {
        self.clients.close(slot, reason, at_once);
        self.leave(slot);
    }

    fn special<J: JetStream>(
        &mut self,
        now: Timestamp,
        source: &Source,
        message: &Message<'_>,
        js: &mut J,
    ) -> Special {
        if message.subject == user_info::SUBJECT && source.slot.is_some() {
            self.answer_user_info(now, message, js);
            return Special::Answered;
        }
        match self.interest.destination(message.account, message.subject) {
            Some(destination) => Special::Destination(destination),
            None => Special::None,
        }
    }
}

/// A publisher of another reactor whose messages went into nearly full outbounds.
struct Stalled {
    origin: Origin,
    /// What they earned in all, in nanoseconds.
    earned: i64,
    bytes: usize,
}

impl Stalled {
    /// As long as its reads would have been stalled one by one, had it been here.
    fn ns(&self) -> i64 {
        let reads = self.bytes.div_ceil(READ_BYTES) as i64;
        self.earned.min(reads * STALL_MAX).min(STALL_REMOTE_MAX)
    }
}

/// What a batch gathers counts as reads of this size.
const READ_BYTES: usize = 64 << 10;

fn note_stall(stalled: &mut Vec<Stalled>, entry: &Entry<'_>, ns: i64) {
    let bytes = entry.message.body_bytes() + entry.message.subject.len();
    match stalled.iter_mut().find(|s| s.origin == entry.origin) {
        Some(s) => {
            s.earned += ns;
            s.bytes += bytes;
        }
        None => stalled.push(Stalled { origin: entry.origin, earned: ns, bytes }),
    }
}
