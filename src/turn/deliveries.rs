//! What shards ask of the net layer: answers, deliveries, interest, and credit that goes home.

use super::control::Control;
use super::entry::{Kind, Message, Origin};
use super::jetstream::JetStream;
use super::net::{Delivery, Net};
use super::route::Source;
use crate::client::{Hold, PauseReason};
use crate::interest::{AccountId, StreamPlace, WatchId};
use crate::types::{ConnId, CreditKind, ReactorId, ShardId, StreamId, Timestamp};

impl Net {
    /// Routes an answer of a shard: by this reactor's interest, or by that of the reactor the
    /// request came from.
    pub fn deliver<J: JetStream>(&mut self, now: Timestamp, delivery: &Delivery<'_>, js: &mut J) {
        if delivery.to == self.own {
            self.route(
                now,
                Source { origin: self.server(), ..Source::default() },
                &delivery.message,
                js,
            );
            // Nobody is stalled for it: consumers look at the pressure.
            self.clients.full.clear();
        } else {
            let to = Origin { reactor: delivery.to, ..self.server() };
            self.forward(to, Kind::Deliver, &delivery.message);
        }
    }

    /// Publishes a message of a shard with ordinary routing: plain subscriptions anywhere, one
    /// member of each queue group. Returns whether anybody took it.
    pub fn publish<J: JetStream>(
        &mut self,
        now: Timestamp,
        message: &Message<'_>,
        js: &mut J,
    ) -> bool {
        let source = Source { origin: self.server(), ..Source::default() };
        let taken = self.route(now, source, message, js);
        self.clients.full.clear();
        taken
    }

    /// True if anybody on the node wants `subject`; with a group, if that queue group does.
    pub fn has_interest(
        &mut self,
        account: AccountId,
        subject: &[u8],
        group: Option<&[u8]>,
    ) -> bool {
        self.interest.has_interest(account, subject, group)
    }

    /// True if anybody on the node subscribes to just this subject; with a group, in that group.
    pub fn has_listener(
        &mut self,
        account: AccountId,
        subject: &[u8],
        group: Option<&[u8]>,
    ) -> bool {
        self.interest.has_listener(account, subject, group)
    }

    /// A shard found that nobody takes what `publisher` sent: it is told, wherever it is.
    pub fn nobody(&mut self, publisher: Origin, subject: &[u8], reply: &[u8]) {
        let message =
            Message { account: AccountId::default(), subject, reply, ..Message::default() };
        if publisher.reactor == self.own {
            let slot = self.clients.slot(publisher.conn);
            self.no_responders(slot, &message);
        } else if !reply.is_empty() {
            self.forward(publisher, Kind::Nobody, &message);
        }
    }

    /// Watches the interest in a subject; see `take_watch_events`.
    pub fn watch(&mut self, account: AccountId, subject: &[u8], group: Option<&[u8]>) -> WatchId {
        self.interest.watch(account, subject, group)
    }

    /// Gives up a watch.
    pub fn unwatch(&mut self, watch: WatchId) {
        self.interest.unwatch(watch);
    }

    /// False while more waits for another reactor than a batch may hold.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.mesh.has_room()
    }

    /// What was done in this turn, in the units of its work.
    pub fn work_done(&self) -> u64 {
        self.work.done()
    }

    /// Publishes of `from` that a local shard captured no longer wait for durability, or requests
    /// were handled.
    pub fn credit_return(&mut self, from: ReactorId, kind: CreditKind, shard: ShardId, bytes: u64) {
        if bytes == 0 {
            return;
        }
        if from == self.own {
            self.credit_home(kind, shard, bytes);
        } else {
            self.mesh.send_control(from, Control::Credit { kind, shard, bytes });
        }
    }

    pub(super) fn credit_home(&mut self, kind: CreditKind, shard: ShardId, bytes: u64) {
        let mut resumed = Vec::new();
        self.mesh.credit_give(kind, shard, bytes, &mut resumed);
        if resumed.is_empty() {
            return;
        }
        // The first may spend all of it again: not the same one each time.
        let first = self.random.below(resumed.len() as u64) as usize;
        resumed.rotate_left(first);
        self.unpause(&resumed, PauseReason::Credit);
        for &conn in &resumed {
            let Some(slot) = self.clients.slot(conn) else { continue };
            let state = self.clients.conn_mut(slot);
            if state.hold == Hold::Credit {
                state.hold = Hold::NextTurn;
                self.runnable.push(conn);
            }
        }
    }

    pub(super) fn unpause(&mut self, conns: &[ConnId], reason: PauseReason) {
        for &conn in conns {
            if let Some(slot) = self.clients.slot(conn) {
                self.clients.unpause(slot, reason);
            }
        }
    }

    /// A stream exists from now on, or changed: here, and on the other reactors by way of their
    /// control batches.
    pub fn announce_stream(&mut self, place: &StreamPlace) {
        self.tell_all(&Control::StreamSet(place.clone()));
        self.interest.set_stream(place.clone());
    }

    /// A stream is gone, here and everywhere.
    pub fn announce_stream_removed(&mut self, stream: StreamId) {
        self.tell_all(&Control::StreamRemoved(stream));
        self.interest.remove_stream(stream);
    }

    /// Turns routing to JetStream on or off on this reactor alone.
    pub fn set_jetstream(&mut self, enabled: bool) {
        self.interest.set_jetstream(enabled);
    }

    fn tell_all(&mut self, control: &Control) {
        self.mesh.tell_all(control);
    }
}
