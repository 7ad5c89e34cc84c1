//! One reactor's ends of the mesh: pushing what a turn produced, and keeping in order what did not
//! fit.

use std::collections::VecDeque;

use corelane_ringbuf::{Endpoint, Note};

use super::{Core, Ctl};
use crate::types::{ReactorId, Timestamp};

/// What travels in a message lane: a batch of encoded entries.
pub type Batch = Vec<u8>;

/// What travels in a control lane. `S` is a connected socket with what belongs to it.
pub enum Lane<S> {
    /// The turn's.
    Core(Ctl),
    /// A connected socket for the receiver.
    Socket(S),
    /// An emptied batch comes home, to be filled again.
    Home(Batch),
}

/// The links of one reactor to all others.
pub struct Links<S> {
    endpoint: Endpoint<Lane<S>, Batch>,
    waiting: Vec<Waiting<S>>,
    notes: Vec<(usize, Note)>,
    /// Batches that were emptied, by where they came from.
    home: Vec<Vec<Batch>>,
    batches: u64,
    full: u64,
}

/// What did not fit, per destination. Control goes before messages, so a full control lane holds
/// both; messages that do not fit stay with the turn, which stops reading those who made them.
struct Waiting<S> {
    control: VecDeque<Lane<S>>,
    fresh: VecDeque<Ctl>,
    /// A batch that found the lane full: it is what tells the receiver to wake this reactor.
    batch: Option<Batch>,
    /// Empty batches that went there, and that came from there.
    homes: (u64, u64),
}

impl<S> Links<S> {
    /// The links of `endpoint`.
    pub fn new(endpoint: Endpoint<Lane<S>, Batch>) -> Self {
        let none = || Waiting {
            control: VecDeque::new(),
            fresh: VecDeque::new(),
            batch: None,
            homes: (0, 0),
        };
        let n = endpoint.reactors();
        let waiting = (0..n).map(|_| none()).collect();
        let home = (0..n).map(|_| Vec::new()).collect();
        Links { endpoint, waiting, notes: Vec::new(), home, batches: 0, full: 0 }
    }

    /// The reactor whose links these are.
    pub fn id(&self) -> usize {
        self.endpoint.id()
    }

    /// Notes how far the message lanes reach: the first step of a turn. What was sent before a
    /// noted message is in the control lanes by now, and so known when that message is handled.
    pub fn note(&mut self) {
        self.notes.clear();
        for peer in 0..self.endpoint.reactors() {
            if peer != self.endpoint.id() {
                let note = self.endpoint.inbound(peer).messages.note();
                self.notes.push((peer, note));
            }
        }
    }

    /// Drains the control lanes: the second step.
    pub fn drain_control(&mut self, now: Timestamp, core: &mut Core, sockets: &mut Vec<S>) {
        for i in 0..self.notes.len() {
            let peer = self.notes[i].0;
            let waiting = &mut self.waiting[peer];
            let lane = &mut self.endpoint.inbound(peer).control;
            lane.drain(usize::MAX, |item| match item {
                Lane::Core(ctl) => core.control(now, ReactorId(peer as u16), ctl),
                Lane::Socket(socket) => sockets.push(socket),
                Lane::Home(batch) => {
                    waiting.homes.1 += 1;
                    core.keep_batch(batch);
                }
            });
        }
    }

    /// Handles the messages up to the note: the third step. `wake` is told of peers that sleep
    /// and waited for room.
    pub fn drain_messages(&mut self, now: Timestamp, core: &mut Core, mut wake: impl FnMut(usize)) {
        for i in 0..self.notes.len() {
            let (peer, note) = self.notes[i];
            let home = &mut self.home[peer];
            let lane = &mut self.endpoint.inbound(peer).messages;
            lane.drain_to(note, usize::MAX, |mut b| {
                core.messages(now, ReactorId(peer as u16), &b);
                b.clear();
                home.push(b);
            });
            if self.endpoint.must_wake_starved(peer) {
                wake(peer);
            }
        }
    }

    /// Pushes what the turn produced: the last step. `wake` is told of peers that sleep and got
    /// something.
    pub fn push(&mut self, core: &mut Core, mut wake: impl FnMut(usize)) {
        for peer in 0..self.endpoint.reactors() {
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
            // Nobody waits for an empty batch: it wakes nobody, and is dropped where it does not
            // fit.
            for batch in self.home[peer].drain(..) {
                if lanes.control.room() > 0 && lanes.control.push(Lane::Home(batch)).is_ok() {
                    waiting.homes.0 += 1;
                }
            }
            // Also where nothing fitted: empty batches, which wake nobody, may fill the lane.
            let waits = !waiting.control.is_empty() || waiting.batch.is_some();
            if (pushed > 0 || waits) && self.endpoint.must_wake(peer) {
                wake(peer);
            }
        }
    }

    /// Hands a socket to another reactor, with the next push.
    pub fn hand_over(&mut self, to: usize, socket: S) {
        self.waiting[to].control.push_back(Lane::Socket(socket));
    }

    /// True if a control lane was too full for what is to go into it.
    pub fn is_backed_up(&self) -> bool {
        self.waiting.iter().any(|w| !w.control.is_empty())
    }

    /// Batches pushed, and times that there was no room for one.
    pub fn counted(&self) -> (u64, u64) {
        (self.batches, self.full)
    }

    /// For checks, about a reactor that sleeps: something else than empty batches is in its lanes,
    /// or what waits for room would fit. `homes` are the empty batches sent here and not received.
    pub fn is_forgotten(&mut self, homes: impl Fn(usize) -> u64) -> bool {
        let id = self.endpoint.id();
        (0..self.endpoint.reactors()).filter(|&peer| peer != id).any(|peer| {
            let lanes = self.endpoint.inbound(peer);
            let came = lanes.control.available() as u64 > homes(peer);
            let came = came || lanes.messages.available() > 0;
            let lanes = self.endpoint.outbound(peer);
            let waiting = &self.waiting[peer];
            let control = !waiting.control.is_empty();
            let message = waiting.control.is_empty() && waiting.batch.is_some();
            came || control && lanes.control.room() > 0 || message && lanes.messages.room() > 0
        })
    }

    /// For checks: whether something for `peer` found no room.
    pub fn waits_for(&self, peer: usize) -> bool {
        let waiting = &self.waiting[peer];
        !waiting.control.is_empty() || waiting.batch.is_some()
    }

    /// For checks: how many empty batches went home to `peer`, and how many came home from there.
    pub fn homes(&self, peer: usize) -> (u64, u64) {
        self.waiting[peer].homes
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
