//! What waits for the other reactors: control and message batches, barriers, and the credit of
//! publishes.

use super::control::Control;
use super::entry::{self, Entry};
use crate::client::Spares;
use crate::interest::AccountId;
use crate::interest::Change;
use crate::types::{CREDIT_KINDS, ConnId, CreditKind, ReactorId, ShardId};

#[derive(Debug, Default)]
struct Lane {
    control: Vec<Control>,
    messages: Vec<u8>,
    blocked: Vec<ConnId>,
    asked: u64,
    confirmed: u64,
}

#[derive(Debug, Default)]
struct Credit {
    taken: u64,
    waiting: Vec<ConnId>,
}

/// The batches for the other reactors.
#[derive(Debug)]
pub struct Mesh {
    own: ReactorId,
    lanes: Vec<Lane>,
    /// Batches that were emptied.
    pub(super) spares: Spares,
    /// By shard and kind.
    credits: Vec<[Credit; CREDIT_KINDS.len()]>,
    /// Changes of the interest that were broadcast so far.
    changes: u64,
    backlog_bytes_max: usize,
    /// Batches over that limit.
    over: usize,
    /// Of each shard, by kind.
    credit_bytes_max: [u64; CREDIT_KINDS.len()],
}

impl Mesh {
    pub fn new(
        own: ReactorId,
        reactors: u16,
        backlog: usize,
        credit: [u64; CREDIT_KINDS.len()],
    ) -> Self {
        Mesh {
            own,
            lanes: (0..reactors).map(|_| Lane::default()).collect(),
            spares: Spares::for_outbounds(backlog),
            credits: Vec::new(),
            changes: 0,
            backlog_bytes_max: backlog,
            over: 0,
            credit_bytes_max: credit,
        }
    }

    /// Bytes of messages that wait for other reactors.
    pub fn batched(&self) -> usize {
        self.lanes.iter().map(|lane| lane.messages.len()).sum()
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = usize::from(self.own.0);
        (0..self.lanes.len()).filter(move |&r| r != own)
    }

    /// Tells all others of a change. Returns the count to wait for in a barrier.
    pub fn broadcast(&mut self, account: AccountId, change: Change) -> u64 {
        self.changes += 1;
        for reactor in self.others() {
            self.lanes[reactor].control.push(Control::Interest {
                account,
                filter: change.filter.clone(),
                queue: change.queue.clone(),
                count: change.count,
            });
        }
        self.changes
    }

    /// Tells all others, in a change of what they know.
    pub fn tell_all(&mut self, control: &Control) {
        self.changes += 1;
        self.send_all(control);
    }

    /// Sends to all others.
    pub fn send_all(&mut self, control: &Control) {
        for reactor in self.others() {
            self.lanes[reactor].control.push(control.clone());
        }
    }

    pub fn send_control(&mut self, to: ReactorId, control: Control) {
        if let Some(lane) = self.lanes.get_mut(usize::from(to.0)) {
            lane.control.push(control);
        }
    }

    /// Appends an entry. Returns whether the batch is over its limit.
    #[inline]
    pub fn send(&mut self, to: ReactorId, entry: &Entry<'_>) -> bool {
        debug_assert!(to != self.own, "entries go to other reactors");
        let Some(lane) = self.lanes.get_mut(usize::from(to.0)) else { return false };
        let was_over = lane.messages.len() > self.backlog_bytes_max;
        if lane.messages.capacity() == 0 {
            lane.messages = self.spares.take();
        }
        entry::encode(&mut lane.messages, entry);
        let is_over = lane.messages.len() > self.backlog_bytes_max;
        self.over += usize::from(is_over && !was_over);
        is_over
    }

    /// True unless a batch is over its limit.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.over == 0
    }

    /// Notes that a connection waits for the batch to `to` to be taken.
    pub fn block(&mut self, to: ReactorId, conn: ConnId) {
        let blocked = &mut self.lanes[usize::from(to.0)].blocked;
        if blocked.last() != Some(&conn) {
            blocked.push(conn);
        }
    }

    /// True once all others have confirmed the change of this count.
    pub fn is_confirmed(&self, change: u64) -> bool {
        self.others().all(|r| self.lanes[r].confirmed >= change)
    }

    /// Asks those who did not confirm `change` to do so.
    pub fn ask(&mut self, change: u64) {
        let seq = self.changes;
        for reactor in self.others() {
            let lane = &mut self.lanes[reactor];
            if lane.confirmed < change && lane.asked < change {
                lane.asked = seq;
                lane.control.push(Control::Barrier { seq });
            }
        }
    }

    pub fn confirm(&mut self, from: ReactorId, seq: u64) {
        if let Some(lane) = self.lanes.get_mut(usize::from(from.0)) {
            lane.confirmed = lane.confirmed.max(seq);
        }
    }

    pub fn take_control(&mut self, to: ReactorId) -> Vec<Control> {
        self.lanes
            .get_mut(usize::from(to.0))
            .map(|l| std::mem::take(&mut l.control))
            .unwrap_or_default()
    }

    /// Takes the message batch for `to`; `blocked` gets those who waited for it.
    pub fn take_messages(&mut self, to: ReactorId, blocked: &mut Vec<ConnId>) -> Vec<u8> {
        let Some(lane) = self.lanes.get_mut(usize::from(to.0)) else { return Vec::new() };
        blocked.append(&mut lane.blocked);
        self.over -= usize::from(lane.messages.len() > self.backlog_bytes_max);
        std::mem::take(&mut lane.messages)
    }

    pub fn control_pending(&self, to: ReactorId) -> usize {
        self.lanes.get(usize::from(to.0)).map_or(0, |l| l.control.len())
    }

    pub fn messages_pending(&self, to: ReactorId) -> usize {
        self.lanes.get(usize::from(to.0)).map_or(0, |l| l.messages.len())
    }

    fn credit(&mut self, kind: CreditKind, shard: ShardId) -> &mut Credit {
        let at = usize::from(shard.0);
        if self.credits.len() <= at {
            self.credits.resize_with(at + 1, Default::default);
        }
        &mut self.credits[at][kind as usize]
    }

    /// Charges a publish or a request. Returns whether who sent it has to wait.
    #[inline]
    pub fn credit_take(&mut self, kind: CreditKind, shard: ShardId, bytes: u32) -> bool {
        let max = self.credit_bytes_max[kind as usize];
        let credit = self.credit(kind, shard);
        credit.taken += u64::from(bytes);
        credit.taken > max
    }

    /// Notes that a connection waits for credit.
    pub fn credit_wait(&mut self, kind: CreditKind, shard: ShardId, conn: ConnId) {
        let waiting = &mut self.credit(kind, shard).waiting;
        if waiting.last() != Some(&conn) {
            waiting.push(conn);
        }
    }

    /// Gives credit back; `resumed` gets those who waited, once half of it is free.
    pub fn credit_give(
        &mut self,
        kind: CreditKind,
        shard: ShardId,
        bytes: u64,
        resumed: &mut Vec<ConnId>,
    ) {
        let half = self.credit_bytes_max[kind as usize] / 2;
        let credit = self.credit(kind, shard);
        credit.taken = credit.taken.saturating_sub(bytes);
        if credit.taken <= half {
            resumed.append(&mut credit.waiting);
        }
    }

    pub fn credit_taken(&self, kind: CreditKind, shard: ShardId) -> u64 {
        self.credits.get(usize::from(shard.0)).map_or(0, |c| c[kind as usize].taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_until_a_batch_is_over_its_limit_and_once_it_is_taken() {
        let mut mesh = Mesh::new(ReactorId(0), 3, 100, [0; CREDIT_KINDS.len()]);
        let entry = Entry {
            kind: entry::Kind::Deliver,
            want_return: false,
            credit: None,
            request_credit: None,
            hops: 0,
            origin: entry::Origin::default(),
            queues: entry::Queues::default(),
            message: entry::Message::default(),
        };
        for to in [1, 2] {
            while !mesh.send(ReactorId(to), &entry) {}
            assert!(mesh.send(ReactorId(to), &entry) && !mesh.has_room());
        }
        for (to, room) in [(1, false), (1, false), (2, true)] {
            mesh.take_messages(ReactorId(to), &mut Vec::new());
            assert_eq!(mesh.has_room(), room);
        }
    }
}
