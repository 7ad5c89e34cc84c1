//! This reactor's ends of the mesh: pushing what a turn produced, and keeping in order what did not fit.

use std::collections::VecDeque;
use std::os::fd::{OwnedFd, RawFd};

use corelane_ringbuf::{Endpoint, Note};
use io_uring::{opcode, squeue, types};

use super::driver::Driver;
use super::tag::{self, Kind};
use crate::turn::{Core, Ctl};
use crate::types::{ConnId, ReactorId, Timestamp};

/// What travels in a message lane: a batch of encoded entries.
pub type Batch = Vec<u8>;

/// What travels in a control lane.
pub enum Lane {
    /// The turn's.
    Core(Ctl),
    /// A connected socket for the receiver.
    Socket(NewSocket),
}

/// A connected socket, the connection it is to be, and the peer's address.
pub type NewSocket = (OwnedFd, ConnId, String);

/// The links of one reactor to all others.
pub struct Links {
    endpoint: Endpoint<Lane, Batch>,
    /// Ring descriptors of all reactors, by id.
    rings: Vec<RawFd>,
    waiting: Vec<Waiting>,
    notes: Vec<(usize, Note)>,
    batches: u64,
    full: u64,
}

/// What did not fit, per destination. Control goes before messages, so a full control lane holds both; messages that
/// do not fit stay with the turn, which stops reading those who made them.
#[derive(Default)]
struct Waiting {
    control: VecDeque<Lane>,
    fresh: VecDeque<Ctl>,
    /// A batch that found the lane full: it is what tells the receiver to wake this reactor.
    batch: Option<Batch>,
}

impl Links {
    /// The links of `endpoint`; `rings` are the ring descriptors of all reactors.
    pub fn new(endpoint: Endpoint<Lane, Batch>, rings: Vec<RawFd>) -> Self {
        let waiting = (0..endpoint.reactors()).map(|_| Waiting::default()).collect();
        Links { endpoint, rings, waiting, notes: Vec::new(), batches: 0, full: 0 }
    }

    /// Handles what has arrived: notes how far the message lanes reach, drains the control lanes, then the messages
    /// up to the note. What was sent before a noted message is therefore known when that message is handled.
    pub fn drain(
        &mut self,
        now: Timestamp,
        core: &mut Core,
        driver: &mut Driver,
        sockets: &mut Vec<NewSocket>,
    ) {
        self.notes.clear();
        for peer in 0..self.rings.len() {
            if peer != self.endpoint.id() {
                let note = self.endpoint.inbound(peer).messages.note();
                self.notes.push((peer, note));
            }
        }
        for i in 0..self.notes.len() {
            let peer = self.notes[i].0;
            let lane = &mut self.endpoint.inbound(peer).control;
            lane.drain(usize::MAX, |item| match item {
                Lane::Core(ctl) => core.control(now, ReactorId(peer as u16), ctl),
                Lane::Socket(socket) => sockets.push(socket),
            });
        }
        for i in 0..self.notes.len() {
            let (peer, note) = self.notes[i];
            let lane = &mut self.endpoint.inbound(peer).messages;
            lane.drain_to(note, usize::MAX, |b| core.messages(now, ReactorId(peer as u16), &b));
            if self.endpoint.must_wake_starved(peer) {
                ring(driver, self.rings[peer]);
            }
        }
    }

    /// Pushes what the turn produced, and wakes whoever sleeps and got something.
    pub fn push(&mut self, core: &mut Core, driver: &mut Driver) {
        for peer in 0..self.rings.len() {
            if peer == self.endpoint.id() {
                continue;
            }
            let waiting = &mut self.waiting[peer];
            core.take_control(ReactorId(peer as u16), &mut waiting.fresh);
            waiting.control.extend(waiting.fresh.drain(..).map(Lane::Core));
            let lanes = self.endpoint.outbound(peer);
            let mut pushed = lanes.control.push_all(&mut waiting.control);
            while waiting.control.is_empty() {
                let held = waiting.batch.take();
                let next = held.or_else(|| core.take_messages(ReactorId(peer as u16)));
                let Some(batch) = next else { break };
                match lanes.messages.push(batch) {
                    Ok(()) => {
                        pushed += 1;
                        self.batches += 1;
                    }
                    Err(batch) => {
                        waiting.batch = Some(batch);
                        self.full += 1;
                        break;
                    }
                }
            }
            if pushed > 0 && self.endpoint.must_wake(peer) {
                ring(driver, self.rings[peer]);
            }
        }
    }

    /// Hands a socket to another reactor, with the next push.
    pub fn hand_over(&mut self, to: usize, socket: NewSocket) {
        self.waiting[to].control.push_back(Lane::Socket(socket));
    }

    /// Batches pushed, and times that there was no room for one.
    pub fn counted(&self) -> (u64, u64) {
        (self.batches, self.full)
    }

    /// Announces sleep. True if nothing is there and the reactor may sleep.
    pub fn try_sleep(&mut self) -> bool {
        self.endpoint.try_sleep()
    }

    /// The reactor is awake again.
    pub fn wake_up(&self) {
        self.endpoint.wake_up();
    }
}

fn ring(driver: &mut Driver, fd: RawFd) {
    let entry = opcode::MsgRingData::new(types::Fd(fd), 0, tag::pack(Kind::Wake, 0), None)
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS)
        .user_data(tag::pack(Kind::Ignore, 0));
    driver.push(&entry);
}
