//! Core publish and subscribe among the clients: plain, wildcard and queue subscriptions that come
//! and go, and what must hold of every message.
//!
//! Who was confirmed (a PONG came after its SUB) when a message was written, and stays, gets it
//! exactly once; of a queue group one member does, unless the server may still believe in one
//! whose connection broke; messages of one connection come in their order
//! to who is in no group; nothing comes after an UNSUB was confirmed.

use std::collections::{BTreeMap, BTreeSet};

use corelane::types::ConnId;

use crate::runner::Runner;
use crate::tally::Rare;

/// Subscription ids of listeners begin here.
pub const LISTENER_SIDS: u64 = 1 << 40;
/// Last tokens of the subjects.
const TOPICS: u64 = 4;
/// Listeners at most.
const LISTENERS_MAX: usize = 24;

/// A subscription to topics.
struct Listener {
    client: usize,
    conn: ConnId,
    filter: &'static str,
    queue: Option<u64>,
    /// It is confirmed by this PONG of its connection.
    since: u64,
    /// It has ended with this PONG.
    until: Option<u64>,
    /// Confirmed, and not ending.
    here: bool,
    /// The last message of each connection that it got.
    last: BTreeMap<ConnId, u64>,
    got: BTreeSet<u64>,
}

/// A message to a topic.
struct Shout {
    conn: ConnId,
    subject: String,
    /// Who must get it.
    must: Vec<u64>,
    /// Queue groups of which one must.
    groups: BTreeSet<u64>,
    /// Groups of which a member got it.
    taken: BTreeSet<u64>,
}

/// Listeners, and messages since the last rest.
#[derive(Default)]
pub struct Topics {
    listeners: BTreeMap<u64, Listener>,
    shouts: BTreeMap<u64, Shout>,
    /// Members of queue groups whose connection broke: the server may not have noticed.
    lost: Vec<(ConnId, &'static str, u64)>,
    next: u64,
}

fn matches(filter: &str, subject: &str) -> bool {
    match filter {
        "t.>" => subject.starts_with("t."),
        "t.*" => subject.starts_with("t.") && subject.matches('.').count() == 1,
        _ => filter == subject,
    }
}

impl Runner {
    /// One of: a message, a new listener, the end of one.
    pub fn topic_operation(&mut self, client: usize) {
        match self.more.below(10) {
            0 | 1 => self.listen(client),
            2 => self.unlisten(),
            3..=5 => self.core_request(client),
            _ => self.shout(client),
        }
    }

    fn listen(&mut self, client: usize) {
        if self.topics.listeners.len() >= LISTENERS_MAX {
            return;
        }
        let Some(conn) = self.clients[client].conn else { return };
        let filter = ["t.>", "t.*", "t.0", "t.1", "t.2.x"][self.more.below(5) as usize];
        let queue = self.more.chance(500_000).then(|| self.more.below(3));
        let id = self.topics.next;
        self.topics.next += 1;
        let group = queue.map_or(String::new(), |q| format!(" q{q}"));
        let line = format!("SUB {filter}{group} {}\r\n", LISTENER_SIDS + id);
        self.world.write(conn, line.as_bytes());
        let since = self.ping(client);
        let (until, here, last, got) = (None, false, BTreeMap::new(), BTreeSet::new());
        let listener = Listener { client, conn, filter, queue, since, until, here, last, got };
        self.topics.listeners.insert(id, listener);
    }

    fn unlisten(&mut self) {
        let all = self.topics.listeners.iter().filter(|(_, l)| l.here);
        let ids: Vec<u64> = all.map(|(&id, _)| id).collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.more.below(ids.len() as u64) as usize];
        let Some(l) = self.topics.listeners.get_mut(&id) else { return };
        l.here = false;
        let (client, conn, queue) = (l.client, l.conn, l.queue);
        self.world.write(conn, format!("UNSUB {}\r\n", LISTENER_SIDS + id).as_bytes());
        let until = Some(self.ping(client));
        if let Some(l) = self.topics.listeners.get_mut(&id) {
            l.until = until;
        }
        self.release(id, queue);
    }

    fn ping(&mut self, client: usize) -> u64 {
        let Some(conn) = self.clients[client].conn else { return u64::MAX };
        self.world.write(conn, b"PING\r\n");
        self.clients[client].pings += 1;
        self.clients[client].pings
    }

    fn shout(&mut self, client: usize) {
        let Some(conn) = self.clients[client].conn else { return };
        let mut subject = format!("t.{}", self.more.below(TOPICS));
        if self.more.chance(200_000) {
            subject.push_str(".x");
        }
        let n = self.topics.next;
        self.topics.next += 1;
        let wants = |l: &Listener| l.here && matches(l.filter, &subject);
        let here = self.topics.listeners.iter().filter(|(_, l)| wants(l));
        let mut groups: BTreeSet<u64> = here.clone().filter_map(|(_, l)| l.queue).collect();
        let must = here.filter(|(_, l)| l.queue.is_none()).map(|(&id, _)| id).collect();
        // Until the server has noticed, it may choose a member that is gone.
        self.topics.lost.retain(|&(conn, ..)| self.world.is_open(conn));
        for (_, _, queue) in self.topics.lost.iter().filter(|(_, f, _)| matches(f, &subject)) {
            groups.remove(queue);
        }
        let long = if self.more.chance(20_000) { 20_000 } else { 60 };
        let body = format!("{n}:{}", "-".repeat(self.more.below(long) as usize));
        let taken = BTreeSet::new();
        self.topics.shouts.insert(n, Shout { conn, subject: subject.clone(), must, groups, taken });
        self.publish(client, &subject, "", &[], body.as_bytes());
    }

    /// A PONG came: listeners that waited for it are confirmed, or have ended.
    pub fn listeners_confirmed(&mut self, conn: ConnId, pongs: u64) {
        for l in self.topics.listeners.values_mut().filter(|l| l.conn == conn) {
            l.here |= l.until.is_none() && l.since <= pongs;
        }
        self.topics.listeners.retain(|_, l| l.conn != conn || l.until.is_none_or(|at| at > pongs));
    }

    /// A message came to a listener.
    pub fn heard_topic(&mut self, id: u64, subject: &str, payload: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(payload);
        let n = text.split(':').next().and_then(|n| n.parse::<u64>().ok());
        let n = n.ok_or_else(|| format!("{text:?} came on {subject}"))?;
        let Some(l) = self.topics.listeners.get_mut(&id) else {
            return Err(format!("message {n} on {subject} came to a subscription that had ended"));
        };
        let Some(shout) = self.topics.shouts.get_mut(&n) else {
            return Err(format!("message {n} on {subject} came late, or was never sent"));
        };
        if subject != shout.subject || !matches(l.filter, subject) {
            let (sent, filter) = (&shout.subject, l.filter);
            return Err(format!("message {n} to {sent} came as {subject} to {filter}"));
        }
        if !l.got.insert(n) {
            return Err(format!("message {n} on {subject} came twice to {}", l.filter));
        }
        let last = l.last.entry(shout.conn).or_default();
        // Of a group, one may be handed on because its member was gone.
        if n < *last && l.queue.is_none() {
            return Err(format!("message {n} on {subject} came after {last}"));
        }
        *last = n.max(*last);
        if let Some(q) = l.queue
            && !shout.taken.insert(q)
        {
            return Err(format!("message {n} on {subject} came to two of group q{q}"));
        }
        self.world.tally.add(Rare::Topic);
        Ok(())
    }

    /// A connection is gone, and its listeners with it.
    pub fn listeners_gone(&mut self, conn: ConnId) {
        let gone = self.topics.listeners.iter().filter(|(_, l)| l.conn == conn);
        for id in gone.map(|(&id, _)| id).collect::<Vec<_>>() {
            let Some(l) = self.topics.listeners.remove(&id) else { continue };
            self.release(id, l.queue);
            self.topics.lost.extend(l.queue.map(|queue| (conn, l.filter, queue)));
        }
        for shout in self.topics.shouts.values_mut().filter(|s| s.conn == conn) {
            shout.must.clear();
            shout.groups.clear();
        }
    }

    /// A listener ends: what it has not got may never come, and a message that was on its way to
    /// it may be lost to its group.
    fn release(&mut self, id: u64, queue: Option<u64>) {
        for shout in self.topics.shouts.values_mut() {
            shout.must.retain(|&m| m != id);
            if let Some(queue) = queue {
                shout.groups.remove(&queue);
            }
        }
    }

    /// At rest everything has arrived.
    pub fn check_topics(&mut self) -> Result<(), String> {
        for (n, shout) in std::mem::take(&mut self.topics.shouts) {
            let subject = &shout.subject;
            for id in &shout.must {
                if self.topics.listeners.get(id).is_some_and(|l| !l.got.contains(&n)) {
                    return Err(format!("message {n} on {subject} did not come to listener {id}"));
                }
            }
            if let Some(queue) = shout.groups.difference(&shout.taken).next() {
                return Err(format!("message {n} on {subject} came to nobody of group q{queue}"));
            }
        }
        self.topics.listeners.values_mut().for_each(|l| l.got.clear());
        Ok(())
    }
}
