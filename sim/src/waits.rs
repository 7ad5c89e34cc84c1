//! Who waits: pull requests that outlive the patience of their ephemeral consumer, and clients that
//! answer no PING.

use crate::consumers::Consumer;
use crate::model::Exists;
use crate::runner::{Runner, What};
use crate::tally::Rare;

/// Messages of a request that waits.
const BATCH: u64 = 60;
/// How much longer a request waits than its consumer would live unused, in nanoseconds.
const LONGER: i64 = 400_000_000;
/// How much later than it must a silent connection is given up at most, in nanoseconds.
const GIVEN_UP_AFTER: i64 = 500_000_000;

impl Runner {
    /// Asks a short-lived consumer for more than there is, for longer than it lives unused: as long
    /// as the request waits it is used.
    pub fn pull_and_wait(&mut self, client: usize) {
        let now = self.world.now;
        let fits = |c: &Consumer| {
            let pulls = c.deliver.is_empty() && c.ordered.is_none();
            // One that may go right now may be gone before the request comes.
            pulls && c.inactive.is_some_and(|ns| now - c.used < ns / 2) && c.is_short_lived()
        };
        let Some(consumer) = self.some_consumer(fits) else { return };
        let inactive = self.consumers[consumer].inactive.unwrap_or(0);
        let fields = format!("\"batch\":{BATCH},\"expires\":{}", inactive + LONGER);
        self.pull_with(client, consumer, (BATCH, None), &fields);
        self.world.tally.add(Rare::PullWaits);
        let conn = self.clients[client].conn;
        if let Some(c) = self.consumers.get_mut(consumer).filter(|_| conn.is_some()) {
            c.waited_for = conn.map(|conn| (conn, now, now + inactive + LONGER));
        }
    }

    /// A pull request was told that its consumer is deleted.
    pub fn pull_was_deleted(&self, consumer: usize, sent: i64) -> Result<(), String> {
        let c = &self.consumers[consumer];
        let there = c.exists == Exists::Yes && self.model.streams[c.stream].exists == Exists::Yes;
        let of_stream = self.model.streams[c.stream].incarnation == c.incarnation;
        let asked = |what: &What| match *what {
            What::DropConsumer { consumer: of } => of == consumer,
            What::Bury { stream } => stream == c.stream,
            _ => false,
        };
        let requested = self.ops.values().any(|op| asked(&op.what));
        let waits = c.waited_for.is_some_and(|(_, since, _)| since == sent);
        if waits && there && of_stream && !requested {
            return Err(format!("a consumer was deleted while a request waited for it: {c:?}"));
        }
        Ok(())
    }

    /// At rest: a consumer that is deleted tells the requests that wait for it.
    pub fn end_waiting_pulls(&mut self) -> Result<(), String> {
        if !self.world.plan.later.waiting_pulls {
            return Ok(());
        }
        let pulls = |c: &Consumer| {
            let kind = c.deliver.is_empty() && c.ordered.is_none() && !c.is_short_lived();
            kind && c.exists == Exists::Yes
        };
        let Some(at) = self.consumers.iter().position(pulls) else { return Ok(()) };
        let c = &self.consumers[at];
        let (stream, name) = (self.model.streams[c.stream].name.clone(), c.name.clone());
        let id = self.next_op;
        self.pull_with(0, at, (5_000, None), "\"batch\":5000,\"expires\":30000000000");
        self.pump(self.world.now + 300_000_000)?;
        let api = format!("$JS.API.CONSUMER.DELETE.{stream}.{name}");
        let answer = self.ask(&api, "")?;
        if answer["success"] != true {
            return Err(format!("{api}: {answer}"));
        }
        self.consumers[at].exists = Exists::No;
        self.pump(self.world.now + 300_000_000)?;
        if self.ops.contains_key(&id) {
            return Err(format!("{api}: a request that waited for it waits still"));
        }
        self.world.tally.add(Rare::PullEnded);
        Ok(())
    }

    /// A client answers no PING any more. The first one asks what the audits need.
    pub fn fall_silent(&mut self) {
        if self.clients.len() > 1 {
            let client = 1 + self.later.below(self.clients.len() as u64 - 1) as usize;
            self.clients[client].mute = true;
        }
    }

    /// At rest: somebody who connects and then says nothing any more is given up. One who asks for
    /// something now and then is not pinged, answers or no answers.
    pub fn a_stranger_falls_silent(&mut self) -> Result<(), String> {
        if !self.world.plan.later.impatient {
            return Ok(());
        }
        let limits = self.world.plan.limits;
        let conn = self.world.connect();
        self.world.write(conn, b"CONNECT {\"verbose\":false}\r\nPING\r\n");
        // The first PING comes up to a fifth later than it should.
        let pinged = limits.first_ping + limits.first_ping / 5;
        let intervals = i64::from(limits.ping_max) + 1;
        let given_up = pinged + intervals * limits.ping_interval + GIVEN_UP_AFTER;
        self.pump(self.world.now + given_up)?;
        if self.world.is_open(conn) {
            return Err("a connection that answers no PING is not given up".into());
        }
        self.world.tally.add(Rare::Stale);
        Ok(())
    }

    /// At rest: somebody who asks for more than his connection takes at once, and reads nothing of
    /// it, is given up.
    pub fn a_stranger_reads_nothing(&mut self) -> Result<(), String> {
        if !self.world.plan.later.impatient {
            return Ok(());
        }
        let conn = self.world.connect();
        self.world.stop_reading(conn);
        self.world.write(conn, b"CONNECT {\"verbose\":false}\r\nSUB stranger 1\r\nPING\r\n");
        let line = b"PUB stranger 10\r\n0123456789\r\n";
        for _ in 0..1 + self.later.below(100) {
            self.world.write(conn, line);
            let pause = self.later.below(1_000_000) as i64;
            self.pump(self.world.now + pause)?;
        }
        self.pump(self.world.now + self.world.plan.limits.write_deadline + GIVEN_UP_AFTER)?;
        if self.world.is_open(conn) {
            return Err("a connection that reads nothing is not given up".into());
        }
        self.world.tally.add(Rare::NotRead);
        Ok(())
    }

    /// A connection was given up because it answered no PING.
    pub fn was_stale(&mut self, client: usize) -> Result<(), String> {
        if !self.clients[client].mute {
            return Err(format!("client {client} answers, and was called stale"));
        }
        self.world.tally.add(Rare::Stale);
        Ok(())
    }
}
