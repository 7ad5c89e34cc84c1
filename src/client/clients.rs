//! The connections and subscriptions of one reactor.

use super::closed::Closed;
use super::waiters::{Waiters, full_at};
use super::{
    ClientName, CloseReason, ConnectFlags, InfoKind, InfoTemplate, Limits, MILLISECOND, Message,
    Outbound, Spares,
};
use crate::auth::Permissions;
use crate::interest::SubId;
use crate::protocol::{Parser, format};
use crate::types::{ConnId, Origin, PressureQuery, Timestamp, WallTime};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use slab::Slab;
use std::collections::VecDeque;
use std::hash::BuildHasher;

/// No subscription, no slot.
const NONE: u32 = u32::MAX;
/// The part of an outbound that fills before its publishers are stalled. Half, where nats-server
/// takes three quarters: what is on its way from another reactor must still fit.
pub(super) const STALL_PART: usize = 2;
/// Stall for a publisher into an outbound that is half full, and into a full one.
const STALL: [i64; 2] = [2 * MILLISECOND, 5 * MILLISECOND];

/// Why a connection is not read for now. Several may hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PauseReason {
    /// It publishes into nearly full outbounds.
    Stall = 1,
    /// It publishes to a reactor whose ring is full.
    Backlog = 2,
    /// What it published into streams waits for durability.
    Credit = 4,
    /// It waits for a barrier and sent too much meanwhile.
    Held = 8,
}

/// Why what a connection sent is held, and not parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// It is not.
    #[default]
    No,
    /// The barrier of this count has to be confirmed.
    Barrier(u64),
    /// The turn has done enough.
    NextTurn,
    /// The credit for requests is spent: what is under way is to be answered first.
    Credit,
    /// Its subscriptions are being removed, because it connects anew.
    Unsubscribing,
}

/// How far the removal of all subscriptions of a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaving {
    /// It was not asked for.
    #[default]
    No,
    /// It is under way.
    Queued,
    /// It is over.
    Done,
}

/// Whether a connection is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFlow {
    /// Stop reading it. What arrives all the same may still be handed over.
    Pause,
    /// Read it again.
    Resume,
}

/// A connection to be closed now. What it was to get has been sent, or is not worth sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The connection.
    pub conn: ConnId,
    /// Why.
    pub reason: CloseReason,
    /// It sent more than was read.
    pub unread: bool,
}

/// Sums over all connections of a reactor since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NetStats {
    pub total_connections: u64,
    pub in_msgs: u64,
    pub out_msgs: u64,
    pub in_bytes: u64,
    pub out_bytes: u64,
    pub slow_consumers: u64,
    pub stale_connections: u64,
    pub stalled_clients: u64,
    pub added_subscriptions: u64,
    pub removed_subscriptions: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub in_msgs: u64,
    pub out_msgs: u64,
    pub in_bytes: u64,
    pub out_bytes: u64,
    pub stalls: u64,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    pub(crate) id: ConnId,
    pub(crate) flags: ConnectFlags,
    pub(crate) connected: bool,
    pub(crate) first_pong_sent: bool,
    /// The subject of the publish that is being received was refused already.
    pub(crate) refused: bool,
    pub(crate) permissions: Permissions,
    touched: bool,
    pub(super) closing: Option<CloseReason>,
    close_told: bool,
    /// How far the removal of its subscriptions is.
    leaving: Leaving,
    /// What its subscriptions match is dropped.
    pub(super) deaf: bool,
    /// Its socket is gone.
    gone: bool,
    /// All that it sent was handled, and its socket is gone.
    pub(crate) ended: bool,
    /// Something that it sent is not read any more.
    pub(crate) unread: bool,
    /// It sends nothing any more, and what it sent is to be handled.
    pub(crate) hung_up: bool,
    /// Why its socket failed, if it did.
    pub(super) failure: Option<CloseReason>,
    pauses: u8,
    pub(crate) out: Outbound,
    pub(super) traffic: Traffic,
    pub(crate) parser: Parser,
    subs: u32,
    pub(super) sub_count: u32,
    /// Input that waits.
    pub(crate) held: Vec<u8>,
    /// What it waits for.
    pub(crate) hold: Hold,
    /// The last barrier count at which it changed the interest.
    pub(crate) last_change: u64,
    pub(super) started: Timestamp,
    /// When that was, as it is shown.
    pub(super) accepted: WallTime,
    pub(crate) last_in: Timestamp,
    pub(crate) stall_until: Timestamp,
    /// Who waits for this outbound to drain.
    pub(super) waiters: Waiters,
    pub(crate) pings_out: u32,
    pub(crate) ping_sent: Timestamp,
    pub(crate) rtt: i64,
    pub(crate) send_started: Timestamp,
    pub(crate) write_timer: bool,
    pub(super) ip: Box<str>,
    pub(super) address: Box<str>,
    pub(crate) name: Option<Box<ClientName>>,
}

impl Connection {
    /// True until the connection is about to be closed.
    pub(crate) fn is_open(&self) -> bool {
        self.closing.is_none()
    }

    /// True if its socket is gone, and the rest of it follows.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Until a PING is answered, the time to its CONNECT stands for the round trip.
    pub(crate) fn first_rtt(&mut self, now: Timestamp) {
        if self.rtt == 0 {
            self.rtt = now.since(self.started).max(1);
        }
    }

    /// Its socket failed: that is why it closes, unless it does already.
    pub(crate) fn failed(&mut self, reason: CloseReason) {
        self.failure.get_or_insert(reason);
    }

    /// True if it is not read for some reason.
    pub(crate) fn is_paused(&self) -> bool {
        self.pauses != 0
    }
}

/// A subscription id: short ones stand in place.
#[derive(Debug)]
pub(super) struct Sid {
    short: [u8; 15],
    size: u8,
    long: Box<[u8]>,
}

impl Sid {
    fn new(sid: &[u8]) -> Self {
        let mut short = [0; 15];
        match short.get_mut(..sid.len()) {
            Some(place) => {
                place.copy_from_slice(sid);
                Sid { short, size: sid.len() as u8, long: Box::default() }
            }
            None => Sid { short, size: 0, long: sid.into() },
        }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        if self.long.is_empty() { &self.short[..self.size as usize] } else { &self.long }
    }
}

/// A subscription.
#[derive(Debug)]
pub(crate) struct Sub {
    pub(crate) conn: u32,
    pub(super) delivered: u64,
    /// Messages it gets at most.
    pub(super) max: u64,
    pub(super) sid: Sid,
    next: u32,
    previous: u32,
}

impl Sub {
    /// True if it had its last message.
    #[inline]
    pub(crate) fn is_expired(&self) -> bool {
        self.delivered >= self.max
    }

    /// The connection's name for it.
    pub(crate) fn sid(&self) -> &[u8] {
        self.sid.as_bytes()
    }
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    Yes,
    /// It is the publisher's own and it wants no echo, or the subscription had its last message.
    No,
}

/// The connections and subscriptions of one reactor, and what they want from it.
#[derive(Debug)]
pub struct Clients {
    pub(super) conns: Slab<Connection>,
    /// Of them, those whose sockets are gone.
    gone: usize,
    ids: HashMap<ConnId, u32, FixedState>,
    pub(super) subs: Slab<Sub>,
    by_sid: HashTable<u32>,
    hasher: FixedState,
    pub(crate) spares: Spares,
    pub(crate) assembly: Spares,
    pub(crate) limits: Limits,
    touched: Vec<ConnId>,
    closing: Vec<Closing>,
    flow: Vec<(ConnId, ReadFlow)>,
    /// Subscriptions that got their last message, to be removed.
    pub(crate) expired: VecDeque<SubId>,
    /// Connections over `max_pending`, to be closed.
    pub(crate) slow: Vec<u32>,
    /// Stall earned by the message being delivered.
    pub(crate) stall: i64,
    /// Connections whose outbounds earned it.
    pub(crate) full: Vec<u32>,
    /// Publishers whose stall is over before its time.
    pub(crate) released: Vec<Origin>,
    /// How often an outbound was found to be full for consumers, or to have filled further.
    pub(crate) pressure: u64,
    /// Consumers that need not wait for an outbound any longer.
    pub(crate) drained: Vec<PressureQuery>,
    pub(crate) stats: NetStats,
    /// Those that were closed last.
    pub(crate) closed: Closed,
}

fn sid_hash(hasher: &FixedState, conn: u32, sid: &[u8]) -> u64 {
    hasher.hash_one((conn, sid))
}

impl Clients {
    /// No connections yet.
    pub fn new(limits: Limits, seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Clients {
            conns: Slab::new(),
            gone: 0,
            ids: HashMap::with_hasher(hasher.clone()),
            subs: Slab::new(),
            by_sid: HashTable::new(),
            hasher,
            spares: Spares::for_outbounds(limits.max_pending),
            assembly: Spares::default(),
            limits,
            touched: Vec::new(),
            closing: Vec::new(),
            flow: Vec::new(),
            expired: VecDeque::new(),
            slow: Vec::new(),
            stall: 0,
            full: Vec::new(),
            released: Vec::new(),
            pressure: 0,
            drained: Vec::new(),
            stats: NetStats::default(),
            closed: Closed::new(limits.closed_max),
        }
    }

    pub(crate) fn add(&mut self, now: Timestamp, wall: WallTime, id: ConnId, address: &str) -> u32 {
        let ip = match address.rsplit_once(':') {
            Some((host, _)) => host.trim_start_matches('[').trim_end_matches(']'),
            None => address,
        };
        let slot = self.conns.insert(Connection {
            id,
            flags: ConnectFlags::default(),
            connected: false,
            first_pong_sent: false,
            refused: false,
            permissions: Permissions,
            touched: false,
            closing: None,
            close_told: false,
            leaving: Leaving::No,
            deaf: false,
            gone: false,
            ended: false,
            unread: false,
            hung_up: false,
            failure: None,
            pauses: 0,
            out: Outbound::default(),
            traffic: Traffic::default(),
            parser: Parser::default(),
            subs: NONE,
            sub_count: 0,
            held: Vec::new(),
            hold: Hold::No,
            last_change: 0,
            started: now,
            accepted: wall,
            last_in: now,
            stall_until: Timestamp(0),
            waiters: Waiters::default(),
            pings_out: 0,
            ping_sent: Timestamp(0),
            rtt: 0,
            send_started: now,
            write_timer: false,
            ip: ip.into(),
            address: address.into(),
            name: None,
        }) as u32;
        self.ids.insert(id, slot);
        self.stats.total_connections += 1;
        slot
    }

    /// Connections, those that are closing included.
    pub fn len(&self) -> usize {
        self.conns.len() - self.gone
    }

    /// Connections whose sockets are gone, and which are not removed yet.
    pub(crate) fn gone(&self) -> usize {
        self.gone
    }

    /// True if there is no connection.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Subscriptions of all connections.
    pub fn subscriptions(&self) -> usize {
        self.subs.len()
    }

    #[inline]
    pub(crate) fn slot(&self, id: ConnId) -> Option<u32> {
        self.ids.get(&id).copied()
    }

    #[inline]
    pub(crate) fn conn(&self, slot: u32) -> &Connection {
        &self.conns[slot as usize]
    }

    #[inline]
    pub(crate) fn conn_mut(&mut self, slot: u32) -> &mut Connection {
        &mut self.conns[slot as usize]
    }

    #[inline]
    pub(crate) fn sub(&self, sub: SubId) -> &Sub {
        &self.subs[sub.0 as usize]
    }

    /// Slots of all connections, in order.
    pub(crate) fn slots(&self) -> Vec<u32> {
        let there = self.conns.iter().filter(|(_, conn)| !conn.gone);
        there.map(|(slot, _)| slot as u32).collect()
    }

    #[inline]
    fn touch(touched: &mut Vec<ConnId>, conn: &mut Connection) {
        if !conn.touched {
            conn.touched = true;
            touched.push(conn.id);
        }
    }

    /// Appends to a connection's outbound by way of `fill`.
    pub(crate) fn write(&mut self, slot: u32, fill: impl FnOnce(&mut Vec<u8>)) {
        let conn = &mut self.conns[slot as usize];
        if conn.closing.is_some() || conn.gone {
            return;
        }
        fill(conn.out.fill(&mut self.spares));
        Self::touch(&mut self.touched, conn);
        if conn.out.pending() > self.limits.max_pending {
            self.slow.push(slot);
        }
    }

    pub(crate) fn write_info(&mut self, slot: u32, template: &InfoTemplate, kind: InfoKind) {
        let conn = &mut self.conns[slot as usize];
        if conn.gone {
            return;
        }
        let (id, ip) = (conn.id.0, &conn.ip);
        template.push(conn.out.fill(&mut self.spares), kind, id, ip);
        Self::touch(&mut self.touched, conn);
    }

    /// Counts a message from a client.
    #[inline]
    pub(crate) fn count_in(&mut self, slot: u32, bytes: usize) -> &Connection {
        let conn = &mut self.conns[slot as usize];
        conn.traffic.in_msgs += 1;
        conn.traffic.in_bytes += bytes as u64;
        self.stats.in_msgs += 1;
        self.stats.in_bytes += bytes as u64;
        conn
    }

    /// Appends a message to the outbound of a subscription. `publisher` is the connection it came
    /// from, if it is here.
    #[inline]
    pub(crate) fn deliver(
        &mut self,
        sub: SubId,
        publisher: Option<u32>,
        message: &Message<'_>,
    ) -> Delivered {
        let s = &mut self.subs[sub.0 as usize];
        let conn = &mut self.conns[s.conn as usize];
        if publisher == Some(s.conn) && !conn.flags.echo || s.is_expired() {
            return Delivered::No;
        }
        if conn.deaf {
            // As if it had come a moment earlier, and was lost with the connection.
            return Delivered::Yes;
        }
        let subject = message.shown_subject();
        if !conn.permissions.may_receive(subject) {
            return Delivered::No;
        }
        let headers = if conn.flags.headers { message.headers } else { b"" };
        let out = conn.out.fill(&mut self.spares);
        format::push_message(
            out,
            subject,
            s.sid.as_bytes(),
            message.reply,
            headers,
            message.payload,
        );
        let bytes = (headers.len() + message.payload.len()) as u64;
        conn.traffic.out_msgs += 1;
        conn.traffic.out_bytes += bytes;
        self.stats.out_msgs += 1;
        self.stats.out_bytes += bytes;
        s.delivered += 1;
        if s.is_expired() {
            self.expired.push_back(sub);
        }
        Self::touch(&mut self.touched, conn);
        let (pending, max) = (conn.out.pending(), self.limits.max_pending);
        if pending > full_at(max) {
            self.pressure += u64::from(conn.waiters.is_to_report(pending, max));
            if pending > max / STALL_PART {
                self.stall += STALL[usize::from(pending > max)];
                if self.full.last() != Some(&s.conn) {
                    self.full.push(s.conn);
                }
            }
            if pending > max {
                self.slow.push(s.conn);
            }
        }
        Delivered::Yes
    }

    /// Tells a requester that nobody takes its request, by one of its own subscriptions.
    pub(crate) fn deliver_no_responders(&mut self, sub: SubId, reply: &[u8], subject: &[u8]) {
        let s = &self.subs[sub.0 as usize];
        let conn = &mut self.conns[s.conn as usize];
        if conn.deaf {
            return;
        }
        let out = conn.out.fill(&mut self.spares);
        format::push_no_responders(out, reply, s.sid.as_bytes(), subject);
        Self::touch(&mut self.touched, conn);
    }

    /// The subscription of this sid on a connection.
    pub(crate) fn find_sub(&self, slot: u32, sid: &[u8]) -> Option<SubId> {
        let hash = sid_hash(&self.hasher, slot, sid);
        self.by_sid
            .find(hash, |&id| {
                let sub = &self.subs[id as usize];
                sub.conn == slot && sub.sid.as_bytes() == sid
            })
            .map(|&id| SubId(id))
    }

    /// Subscriptions of a connection.
    pub(crate) fn sub_count(&self, slot: u32) -> usize {
        self.conns[slot as usize].sub_count as usize
    }

    /// Adds a subscription; the sid must be new on the connection.
    pub(crate) fn add_sub(&mut self, slot: u32, sid: &[u8]) -> SubId {
        let conn = &mut self.conns[slot as usize];
        let id = self.subs.insert(Sub {
            conn: slot,
            delivered: 0,
            max: u64::MAX,
            sid: Sid::new(sid),
            next: conn.subs,
            previous: NONE,
        }) as u32;
        if conn.subs != NONE {
            self.subs[conn.subs as usize].previous = id;
        }
        conn.subs = id;
        conn.sub_count += 1;
        self.stats.added_subscriptions += 1;
        let (subs, hasher) = (&self.subs, &self.hasher);
        self.by_sid.insert_unique(sid_hash(hasher, slot, sid), id, |&id| {
            let sub = &subs[id as usize];
            sid_hash(hasher, sub.conn, sub.sid.as_bytes())
        });
        SubId(id)
    }

    /// UNSUB: limits a subscription to `max` messages in all. Returns it if it is to be removed
    /// now.
    pub(crate) fn limit_sub(&mut self, slot: u32, sid: &[u8], max: Option<u64>) -> Option<SubId> {
        let id = self.find_sub(slot, sid)?;
        let sub = &mut self.subs[id.0 as usize];
        let max = max.unwrap_or(0);
        if max > sub.delivered && !sub.is_expired() {
            sub.max = max;
            return None;
        }
        Some(id)
    }

    /// The next subscription that had its last message and is still there.
    pub(crate) fn next_expired(&mut self) -> Option<SubId> {
        while let Some(sub) = self.expired.pop_front() {
            // It may be gone, and another one in its place.
            if self.subs.get(sub.0 as usize).is_some_and(Sub::is_expired) {
                return Some(sub);
            }
        }
        None
    }

    /// Removes a subscription.
    pub(crate) fn remove_sub(&mut self, sub: SubId) {
        let hash = {
            let s = &self.subs[sub.0 as usize];
            sid_hash(&self.hasher, s.conn, s.sid.as_bytes())
        };
        if let Ok(found) = self.by_sid.find_entry(hash, |&id| id == sub.0) {
            found.remove();
        }
        let s = self.subs.remove(sub.0 as usize);
        let conn = &mut self.conns[s.conn as usize];
        conn.sub_count -= 1;
        self.stats.removed_subscriptions += 1;
        match s.previous {
            NONE => conn.subs = s.next,
            previous => self.subs[previous as usize].next = s.next,
        }
        if s.next != NONE {
            self.subs[s.next as usize].previous = s.previous;
        }
    }

    /// Notes how far the removal of a connection's subscriptions is. Returns how far it was.
    pub(crate) fn set_leaving(&mut self, slot: u32, leaving: Leaving) -> Leaving {
        let conn = &mut self.conns[slot as usize];
        conn.deaf = conn.gone || leaving != Leaving::No;
        std::mem::replace(&mut conn.leaving, leaving)
    }

    /// The newest subscription of a connection.
    pub(crate) fn first_sub(&self, slot: u32) -> Option<SubId> {
        let first = self.conns[slot as usize].subs;
        (first != NONE).then_some(SubId(first))
    }

    /// Stops reading a connection.
    pub(crate) fn pause(&mut self, slot: u32, reason: PauseReason) {
        let conn = &mut self.conns[slot as usize];
        if conn.gone {
            return;
        }
        if conn.pauses == 0 {
            self.flow.push((conn.id, ReadFlow::Pause));
        }
        conn.pauses |= reason as u8;
    }

    /// Takes one reason not to read a connection back.
    pub(crate) fn unpause(&mut self, slot: u32, reason: PauseReason) {
        let conn = &mut self.conns[slot as usize];
        if conn.pauses == 0 || conn.gone {
            return;
        }
        conn.pauses &= !(reason as u8);
        if conn.pauses == 0 {
            self.flow.push((conn.id, ReadFlow::Resume));
        }
    }

    /// Counts a stall of a publisher.
    pub(crate) fn count_stall(&mut self, slot: u32) {
        self.conns[slot as usize].traffic.stalls += 1;
        self.stats.stalled_clients += 1;
    }

    /// Marks a connection as closing. Its error, if it has one, is still sent unless `at_once`.
    pub(crate) fn close(&mut self, slot: u32, reason: CloseReason, at_once: bool) {
        let conn = &mut self.conns[slot as usize];
        if conn.closing.is_some() {
            if at_once {
                conn.out.discard(&mut self.spares);
                Self::tell_close(&mut self.closing, conn);
            }
            return;
        }
        if conn.gone {
            conn.closing = Some(reason);
            return;
        }
        if let Some(text) = reason.error_text() {
            format::push_error(conn.out.fill(&mut self.spares), text);
            Self::touch(&mut self.touched, conn);
        }
        conn.closing = Some(reason);
        if at_once {
            conn.out.discard(&mut self.spares);
            Self::tell_close(&mut self.closing, conn);
        } else {
            self.close_if_drained(slot);
        }
    }

    fn tell_close(closing: &mut Vec<Closing>, conn: &mut Connection) {
        if let Some(reason) = conn.closing
            && !conn.close_told
        {
            conn.close_told = true;
            closing.push(Closing { conn: conn.id, reason, unread: conn.unread });
        }
    }

    fn close_if_drained(&mut self, slot: u32) {
        let conn = &mut self.conns[slot as usize];
        if conn.out.pending() == 0 && !conn.out.in_flight() {
            Self::tell_close(&mut self.closing, conn);
        }
    }

    /// The next bytes to send; they stay in place until `sent`.
    pub(crate) fn start_send(&mut self, now: Timestamp, slot: u32) -> Option<&[u8]> {
        let conn = &mut self.conns[slot as usize];
        conn.touched = false;
        let bytes = conn.out.start(&mut self.spares)?;
        conn.send_started = now;
        Some(bytes)
    }

    /// A send took `bytes`.
    pub(crate) fn sent(&mut self, now: Timestamp, slot: u32, bytes: usize) {
        let conn = &mut self.conns[slot as usize];
        if conn.gone {
            return;
        }
        let more = conn.out.complete(bytes, &mut self.spares);
        if conn.waiters.is_full() {
            let (pending, max) = (conn.out.pending(), self.limits.max_pending);
            conn.waiters.drained(pending, max, &mut self.released, &mut self.drained);
        }
        if more {
            conn.send_started = now;
            if conn.close_told {
                conn.out.discard(&mut self.spares);
                return;
            }
            Self::touch(&mut self.touched, conn);
        } else if conn.closing.is_some() {
            self.close_if_drained(slot);
        }
    }

    /// The socket of a connection is gone. Returns the buffer a send in flight still reads.
    pub(crate) fn lose(&mut self, slot: u32) -> Option<Vec<u8>> {
        let conn = &mut self.conns[slot as usize];
        self.gone += usize::from(!std::mem::replace(&mut conn.gone, true));
        conn.deaf = true;
        conn.waiters.release(&mut self.released, &mut self.drained);
        self.slow.retain(|&other| other != slot);
        if conn.closing.is_some() && !self.closing.is_empty() {
            self.closing.retain(|closing| closing.conn != conn.id);
        }
        std::mem::take(&mut conn.out).into_lent(&mut self.spares)
    }

    /// Forgets a connection whose socket is gone and which has no subscriptions any more.
    pub(crate) fn remove(&mut self, slot: u32) {
        let conn = self.conns.remove(slot as usize);
        self.gone -= usize::from(conn.gone);
        self.ids.remove(&conn.id);
        self.slow.retain(|&other| other != slot);
    }

    /// Connections with something to send that nobody was told of yet.
    pub(crate) fn touched(&self) -> &[ConnId] {
        &self.touched
    }

    pub(crate) fn take_touched(&mut self, into: &mut Vec<ConnId>) {
        into.append(&mut self.touched);
    }

    pub(crate) fn take_closing(&mut self) -> Vec<Closing> {
        std::mem::take(&mut self.closing)
    }

    pub(crate) fn take_flow(&mut self) -> Vec<(ConnId, ReadFlow)> {
        std::mem::take(&mut self.flow)
    }

    /// Heap bytes of one connection, without the tables it shares with others.
    pub(crate) fn heap_bytes(&self, slot: u32) -> usize {
        let conn = &self.conns[slot as usize];
        let name = conn.name.as_ref().map_or(0, |n| {
            size_of::<ClientName>() + n.name.capacity() + n.lang.capacity() + n.version.capacity()
        });
        conn.out.heap_bytes()
            + conn.parser.heap_bytes()
            + conn.held.capacity()
            + conn.ip.len()
            + conn.address.len()
            + name
    }
}
