//! The queue of pull requests: one message to each in turn.
//!
//! Requests live in reused slots; the round and the timers refer to them by slot and generation,
//! and what is stale is skipped, or dropped when it outnumbers the living. A request allocates only
//! while the queue grows.

use super::settings::Origin;
use crate::api::types::PullRequest;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const SWEEP_SLACK: usize = 64;

/// Never.
pub const NEVER: i64 = i64::MAX;

/// A waiting request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Where its messages go.
    pub inbox: Vec<u8>,
    /// Who asked.
    pub origin: Origin,
    /// Messages still owed; may be 0 or less from the start, which delivers one.
    pub messages: i64,
    /// Bytes still allowed, if there is a limit.
    pub bytes: i64,
    /// There is a limit of bytes.
    pub limited: bool,
    /// It ends when there is nothing more to deliver.
    pub no_wait: bool,
    /// When it expires.
    pub expires_at: i64,
    /// Nanoseconds between heartbeats; 0 for none.
    pub idle_heartbeat: i64,
    /// When the next heartbeat is due.
    pub heartbeat_at: i64,
    /// Messages it got.
    pub served: u64,
    /// When somebody was seen to listen on its inbox.
    pub checked_at: i64,
    generation: u32,
    live: bool,
}

impl Request {
    fn due(&self) -> i64 {
        self.expires_at.min(self.heartbeat_at)
    }

    /// True if it is to be closed once the stream has nothing more.
    pub fn ends_dry(&self) -> bool {
        self.no_wait && (self.served > 0 || self.expires_at == NEVER)
    }
}

/// The queue.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    slots: Vec<Request>,
    free: Vec<u32>,
    round: VecDeque<(u32, u32)>,
    timers: BinaryHeap<Reverse<(i64, u32, u32)>>,
    live: usize,
    no_wait: usize,
    owed: i64,
}

impl Waiting {
    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.live
    }

    /// True if nobody waits.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Requests that will not wait for messages.
    pub fn no_wait(&self) -> usize {
        self.no_wait
    }

    /// Messages owed to all requests together.
    pub fn owed(&self) -> i64 {
        self.owed
    }

    /// Adds a request at the end of the round.
    pub fn add(&mut self, now: i64, request: &PullRequest, inbox: &[u8], origin: Origin) {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Request::default());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[at as usize];
        slot.inbox.clear();
        slot.inbox.extend_from_slice(inbox);
        slot.origin = origin;
        slot.messages = request.batch;
        slot.bytes = request.max_bytes;
        slot.limited = request.max_bytes > 0;
        slot.no_wait = request.no_wait;
        let expires = request.expires != 0;
        slot.expires_at = if expires { now.saturating_add(request.expires) } else { NEVER };
        slot.idle_heartbeat = request.idle_heartbeat.max(0);
        let beats = slot.idle_heartbeat > 0;
        slot.heartbeat_at = if beats { now.saturating_add(slot.idle_heartbeat) } else { NEVER };
        slot.served = 0;
        slot.checked_at = i64::MIN;
        slot.generation = slot.generation.wrapping_add(1);
        slot.live = true;
        let (generation, due) = (slot.generation, slot.due());
        self.live += 1;
        self.no_wait += usize::from(request.no_wait);
        self.owed = self.owed.saturating_add(request.batch);
        self.round.push_back((at, generation));
        if due != NEVER {
            self.timers.push(Reverse((due, at, generation)));
        }
        self.sweep();
    }

    fn alive(&self, at: u32, generation: u32) -> bool {
        let slot = &self.slots[at as usize];
        slot.live && slot.generation == generation
    }

    /// The request whose turn it is.
    pub fn front(&mut self) -> Option<u32> {
        while let Some(&(at, generation)) = self.round.front() {
            if self.alive(at, generation) {
                return Some(at);
            }
            self.round.pop_front();
        }
        None
    }

    /// The first requests in their order, `max` of them at most.
    pub fn first(&self, max: usize) -> Vec<u32> {
        let alive = self.round.iter().filter(|&&(at, g)| self.alive(at, g));
        alive.map(|&(at, _)| at).take(max).collect()
    }

    /// Somebody was seen to listen on a request's inbox.
    pub fn checked(&mut self, at: u32, now: i64) {
        self.slots[at as usize].checked_at = now;
    }

    /// A request by the slot that [`Waiting::front`] and others name.
    pub fn get(&self, at: u32) -> &Request {
        &self.slots[at as usize]
    }

    /// Notes a message of `size` bytes for the front request and moves it to the end; true if that
    /// was its last.
    pub fn served(&mut self, now: i64, at: u32, size: i64) -> bool {
        let slot = &mut self.slots[at as usize];
        slot.served += 1;
        slot.messages = slot.messages.saturating_sub(1);
        self.owed = self.owed.saturating_sub(1);
        if slot.limited {
            slot.bytes -= size;
        }
        if slot.messages <= 0 || (slot.limited && slot.bytes <= 0) {
            return true;
        }
        if slot.idle_heartbeat > 0 {
            slot.heartbeat_at = now.saturating_add(slot.idle_heartbeat);
        }
        // A stale entry cannot be at the front here: `front` named this one.
        if let Some(turn) = self.round.pop_front() {
            self.round.push_back(turn);
        }
        false
    }

    /// Ends a request. Its slot may be read until the next `add`.
    pub fn remove(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if !slot.live {
            return;
        }
        slot.live = false;
        self.live -= 1;
        self.no_wait -= usize::from(slot.no_wait);
        self.owed = self.owed.saturating_sub(slot.messages);
        self.free.push(at);
        if self.live == 0 {
            self.round.clear();
            self.timers.clear();
            self.owed = 0;
        }
        self.sweep();
    }

    /// When the next request expires or is owed a heartbeat; a lower bound.
    pub fn deadline(&self) -> i64 {
        self.timers.peek().map_or(NEVER, |Reverse((due, ..))| *due)
    }

    /// True if a request's time has come.
    pub fn is_due(&mut self, now: i64) -> bool {
        self.first_due(now).is_some()
    }

    /// The next request whose time has come. The caller removes it or says [`Waiting::beaten`].
    pub fn pop_due(&mut self, now: i64) -> Option<u32> {
        let at = self.first_due(now)?;
        self.timers.pop();
        Some(at)
    }

    /// The request whose time has come; its timer is on top then.
    fn first_due(&mut self, now: i64) -> Option<u32> {
        while let Some(&Reverse((due, at, generation))) = self.timers.peek() {
            if due > now {
                return None;
            }
            let real = match self.alive(at, generation) {
                true => self.slots[at as usize].due(),
                false => NEVER,
            };
            if real <= now {
                return Some(at);
            }
            self.timers.pop();
            if real != NEVER {
                self.timers.push(Reverse((real, at, generation)));
            }
        }
        None
    }

    /// A heartbeat was sent; the next one is due later.
    pub fn beaten(&mut self, now: i64, at: u32) {
        let slot = &mut self.slots[at as usize];
        slot.heartbeat_at = now.saturating_add(slot.idle_heartbeat.max(1));
        self.timers.push(Reverse((slot.due(), at, slot.generation)));
    }

    /// The first request in the round that `pick` picks.
    pub fn find(&self, pick: impl Fn(&Request) -> bool) -> Option<u32> {
        let mut alive = self.round.iter().filter(|&&(at, g)| self.alive(at, g));
        alive.find(|&&(at, _)| pick(&self.slots[at as usize])).map(|&(at, _)| at)
    }

    /// Whether stale places and timers outnumber the requests.
    pub fn is_wasteful(&self) -> bool {
        let most = 2 * self.live + SWEEP_SLACK;
        self.round.len() > most || self.timers.len() > most
    }

    fn sweep(&mut self) {
        if self.round.len() > 2 * self.live + SWEEP_SLACK {
            let mut round = std::mem::take(&mut self.round);
            round.retain(|&(at, generation)| self.alive(at, generation));
            self.round = round;
        }
        if self.timers.len() > 2 * self.live + SWEEP_SLACK {
            let mut timers = std::mem::take(&mut self.timers).into_vec();
            timers.retain(|&Reverse((_, at, generation))| self.alive(at, generation));
            self.timers = BinaryHeap::from(timers);
        }
    }
}
