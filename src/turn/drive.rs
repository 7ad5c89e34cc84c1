//! The turn, step by step: one function for the reactor and for the simulator.

use super::links::Links;
use super::{Core, Effects};
use crate::logline::LogLine;
use crate::types::{Clocks, ConnId, Timestamp};
use corelane_storage::device::Op;

/// Pieces of parked bytes that are handed over in one turn.
const PIECES: usize = 4;

/// What surrounds a core: sockets and disks, real or simulated.
pub trait Edge {
    /// A connected socket, as it travels between reactors.
    type Socket;

    /// Between two steps of a turn, where other reactors may have gone on meanwhile.
    fn moment(&mut self) {}
    /// Wakes another reactor.
    fn wake(&mut self, reactor: usize);
    /// Takes over a connected socket.
    fn adopt(&mut self, now: Timestamp, core: &mut Core, socket: Self::Socket);
    /// Hands over what arrived: bytes, completions, commands. New sockets for others go into
    /// `links`.
    fn arrivals(&mut self, now: Timestamp, core: &mut Core, links: &mut Links<Self::Socket>);
    /// Reads a connection no longer.
    fn pause(&mut self, conn: ConnId);
    /// Reads a connection again, beginning with what arrived meanwhile.
    fn resume(&mut self, conn: ConnId);
    /// The next piece of what arrived while a connection was not read that is read again now, and
    /// whether its peer is gone after it. A stall delays each piece, as it would have delayed a
    /// read.
    fn unpark(&mut self) -> Option<(ConnId, Vec<u8>, bool)>;
    /// Such a piece was handled; its buffer may be used again.
    fn unparked(&mut self, _piece: Vec<u8>) {}
    /// Begins a send. The bytes stay in place until `Core::sent` is told.
    fn send(&mut self, conn: ConnId, bytes: &[u8]);
    /// A connection that is about to be closed ends with a reset: it sent more than was read.
    fn reset(&mut self, _conn: ConnId) {}
    /// Closes a connection, and tells the core that it is gone.
    fn lost(&mut self, now: Timestamp, core: &mut Core, conn: ConnId);
    /// Starts a device operation of the shard at position `shard`.
    fn submit(&mut self, shard: usize, op: Op);
    /// Writes the turn's lines to the log, and leaves none.
    fn lines(&mut self, lines: &mut Vec<LogLine>);
    /// The node must stop, and why.
    fn fatal(&mut self, why: &str);
}

/// The first step of all: what a core knows goes into the lanes. Done on every reactor before the
/// first connection is accepted on any, so that no client finds a stream missing that is there.
pub fn start<S>(clocks: Clocks, core: &mut Core, links: &mut Links<S>) {
    core.start(clocks);
    // Nobody sleeps yet.
    links.push(core, |_| {});
}

/// One turn: everything that has arrived is handled, and what follows from it is begun.
///
/// Messages are noted first, then control lanes are drained, then the noted messages and the
/// connections are handled: so interest is known before any message that could depend on it.
pub fn turn<E: Edge>(
    clocks: Clocks,
    core: &mut Core,
    links: &mut Links<E::Socket>,
    edge: &mut E,
    effects: &mut Effects,
    sockets: &mut Vec<E::Socket>,
) {
    let now = clocks.now;
    core.begin(clocks);
    links.note();
    edge.moment();
    links.drain_control(now, core, sockets);
    edge.moment();
    links.drain_messages(now, core, |peer| edge.wake(peer));
    for socket in sockets.drain(..) {
        edge.adopt(now, core, socket);
    }
    // A stall that has just been told holds for what arrived, too.
    core.take_effects(effects);
    apply_flow(edge, effects);
    edge.arrivals(now, core, links);
    core.finish(now);
    act(now, core, edge, effects);
    edge.moment();
    links.push(core, |peer| edge.wake(peer));
    // What was pushed may have let connections be read again: that is for the next turn, which must
    // not be slept over.
    core.take_effects(effects);
    if !effects.log.is_empty() {
        edge.lines(&mut effects.log);
    }
    if let Some(why) = effects.fatal.take() {
        edge.fatal(&why);
    }
}

/// Carries out what the turn decided, but for what goes to other reactors.
fn act<E: Edge>(now: Timestamp, core: &mut Core, edge: &mut E, effects: &mut Effects) {
    for _ in 0..PIECES {
        core.take_effects(effects);
        apply_flow(edge, effects);
        let Some((conn, piece, ended)) = edge.unpark() else { break };
        if !piece.is_empty() {
            core.received(now, conn, &piece);
        }
        edge.unparked(piece);
        if ended {
            core.hung_up(now, conn);
        }
        core.finish(now);
    }
    core.take_effects(effects);
    for conn in effects.send.drain(..) {
        // Also where a send is in flight: a connection is told again only after this call.
        if let Some(bytes) = core.start_send(now, conn) {
            edge.send(conn, bytes);
        }
    }
    for (conn, unread) in std::mem::take(&mut effects.close) {
        if unread {
            edge.reset(conn);
        }
        edge.lost(now, core, conn);
    }
    for (shard, op) in effects.disk.drain(..) {
        edge.submit(shard, op);
    }
}

/// Stops and resumes reading as the turn has decided so far.
fn apply_flow<E: Edge>(edge: &mut E, effects: &mut Effects) {
    for (conn, pause) in std::mem::take(&mut effects.flow) {
        if pause {
            edge.pause(conn);
        } else {
            edge.resume(conn);
        }
    }
}
