//! The simulated surroundings of one reactor during a turn.

use corelane::logline::LogLine;
use corelane::turn::Core;
use corelane::turn::drive::Edge;
use corelane::turn::links::Links;
use corelane::types::{ConnId, Timestamp};
use corelane_storage::device::Op;

use crate::tally::Rare;
use crate::world::{Arrival, World};

/// The world without the reactor whose turn it is.
pub struct Around<'a> {
    pub world: &'a mut World,
    pub id: usize,
}

impl Around<'_> {
    /// The shard at a position of this reactor.
    fn shard(&self, position: usize) -> usize {
        self.id + position * usize::from(self.world.plan.reactors)
    }

    fn received(&mut self, now: Timestamp, core: &mut Core, conn: ConnId) {
        let Some(s) = self.world.sockets.get_mut(&conn) else { return };
        if s.closing || s.paused || !s.adopted {
            return;
        }
        let mut bytes = std::mem::take(&mut s.ready);
        let gone = s.hung_up;
        if !bytes.is_empty() {
            core.received(now, conn, &bytes);
            // Whoever kept a reference reads this.
            bytes.fill(0xdd);
        }
        if gone {
            self.lost(now, core, conn);
        }
    }
}

impl Edge for Around<'_> {
    type Socket = ConnId;

    fn moment(&mut self) {
        self.world.moment();
    }

    fn wake(&mut self, reactor: usize) {
        self.world.wake(reactor);
    }

    fn adopt(&mut self, now: Timestamp, core: &mut Core, conn: ConnId) {
        if let Some(s) = self.world.sockets.get_mut(&conn) {
            s.adopted = true;
            core.accept(now, conn, "127.0.0.1:1");
            self.world.arrive(self.id, Arrival::Receive(conn));
        }
    }

    fn arrivals(&mut self, now: Timestamp, core: &mut Core, links: &mut Links<ConnId>) {
        for arrival in self.world.take_arrivals(self.id) {
            match arrival {
                Arrival::Accept(conn, to) if to == self.id => self.adopt(now, core, conn),
                Arrival::Accept(conn, to) => links.hand_over(to, conn),
                Arrival::Receive(conn) => self.received(now, core, conn),
                Arrival::Sent(conn, bytes) => {
                    let Some(s) = self.world.sockets.get_mut(&conn) else { continue };
                    s.sending = false;
                    if !s.closing {
                        core.sent(now, conn, bytes);
                    }
                    s.kept = None;
                }
            }
        }
        for shard in
            (self.id..self.world.disks.len()).step_by(usize::from(self.world.plan.reactors))
        {
            let position = shard / usize::from(self.world.plan.reactors);
            while let Some(done) = self.world.poll_disk(shard, now.0) {
                self.world.note(done.token.0);
                core.disk_done(position, done);
            }
        }
    }

    fn pause(&mut self, conn: ConnId) {
        if let Some(s) = self.world.sockets.get_mut(&conn) {
            s.paused = true;
            self.world.tally.add(Rare::ReadPaused);
        }
    }

    fn resume(&mut self, conn: ConnId) {
        let Some(s) = self.world.sockets.get_mut(&conn) else { return };
        if s.paused && !s.closing {
            s.paused = false;
            self.world.unparking.push((self.id, conn));
        }
    }

    fn unpark(&mut self) -> Option<(ConnId, Vec<u8>, bool)> {
        let mine = self.id;
        while let Some(at) = self.world.unparking.iter().position(|(id, _)| *id == mine) {
            let (_, conn) = self.world.unparking.remove(at);
            let Some(s) = self.world.sockets.get_mut(&conn) else { continue };
            if !s.paused && !s.closing {
                return Some((conn, std::mem::take(&mut s.ready), s.hung_up));
            }
        }
        None
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some(s) = self.world.sockets.get_mut(&conn) {
            s.send(bytes);
            self.world.send_begun(conn);
        }
    }

    fn lost(&mut self, now: Timestamp, core: &mut Core, conn: ConnId) {
        let Some(s) = self.world.sockets.get_mut(&conn) else { return };
        if s.closing {
            return;
        }
        s.closing = true;
        s.kept = core.closed(now, conn);
        // What a send in flight reads must outlive the connection.
        assert!(!s.sending || s.kept.is_some(), "what is being sent was freed");
        s.closed = true;
        self.world.tell_client(conn);
    }

    fn submit(&mut self, shard: usize, op: Op) {
        let shard = self.shard(shard);
        self.world.submit(shard, op);
    }

    fn lines(&mut self, lines: &mut Vec<LogLine>) {
        for line in lines.drain(..) {
            self.world.note_bytes(line.text.as_bytes());
            self.world.lines.push(line.text);
        }
    }

    fn fatal(&mut self, why: &str) {
        self.world.fatal.get_or_insert_with(|| why.to_owned());
    }
}
