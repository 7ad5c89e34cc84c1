//! What became durable takes effect: index, limits, answers, consumers.

pub(in crate::shard) mod byte_queue;
pub(in crate::shard) mod changes;
pub(in crate::shard) mod limits;
pub(in crate::shard) mod pending;

use corelane_storage::index::RemovedMessage;

use crate::shard::apply::pending::{AnswerItem, Item, StoreItem};
use crate::shard::budget::Handler;
use crate::shard::effects::{Outgoing, ShardEffects};
use crate::shard::mailbox::ShardMessage;
use crate::shard::{NO_SEGMENT, Shard};
use crate::types::{CreditKind, Origin, ReactorId, ShardId, Timestamp};

/// Things that became durable and take effect in one go, so that a turn has an end. Much less would
/// cut the acknowledgements of small messages into more sends than they need.
pub const APPLY_ITEMS: u32 = 16_384;
/// A change by this part of the server's limit is told to the other shards.
const HELD_SHARE: u64 = 256;

impl Shard {
    /// Applies what may be acknowledged, in order; what is more than a turn has time for, in the
    /// next step.
    pub(in crate::shard) fn apply(&mut self, now: Timestamp, out: &mut impl ShardEffects) {
        let frontier = self.log.acknowledgeable();
        for _ in 0..self.options.apply_items {
            if self.blocked_apply.is_some() {
                break;
            }
            let Some(item) = self.queue.front(frontier) else { break };
            match item {
                Item::Store(s) => {
                    let s = *s;
                    self.queue.pop();
                    self.apply_store(&s, false, out);
                }
                Item::Answer(a) => {
                    let a = *a;
                    self.queue.pop();
                    self.apply_answer(&a, false, out);
                }
                Item::Change(_) => {
                    let Some(Item::Change(change)) = self.queue.pop() else { break };
                    let before = self.tally.work;
                    let rest = self.apply_change(now, *change, out);
                    self.tally.note(Handler::Change, before);
                    if let Some((rest, read)) = rest {
                        self.queue.push_front(rest);
                        self.blocked_apply = Some(read);
                    }
                }
            }
        }
        while let Some(item) = self.at_once.front(Default::default()) {
            match item {
                Item::Store(s) => {
                    let s = *s;
                    self.at_once.pop();
                    self.apply_store(&s, true, out);
                }
                Item::Answer(a) => {
                    let a = *a;
                    self.at_once.pop();
                    self.apply_answer(&a, true, out);
                }
                Item::Change(_) => {
                    let Some(Item::Change(change)) = self.at_once.pop() else { break };
                    let _ = self.apply_change(now, *change, out);
                }
            }
        }
        self.settle_live();
        self.return_credit(out);
    }

    fn apply_store(&mut self, s: &StoreItem, at_once: bool, out: &mut impl ShardEffects) {
        self.before_change(s.slot as usize);
        let queue = if at_once { &mut self.at_once } else { &mut self.queue };
        let len = (s.subject_len + s.reply_len) as usize;
        let (subject, reply) = queue.bytes(len).split_at(s.subject_len as usize);
        let cell = &mut self.streams[s.slot as usize];
        let id = cell.index.append(s.seq, s.position, s.size, subject);
        cell.last_time = Timestamp(s.ts);
        let is_first = cell.index.messages() == 1;
        if is_first {
            cell.first_time = (s.seq, cell.last_time);
        }
        cell.admission.commit(s.seq);
        cell.consumers.appended(id, subject, s.seq);
        if s.reply_len > 0 {
            self.scratch.clear();
            cell.ack.write_stored(&mut self.scratch, s.seq);
            out.send(&Outgoing {
                origin: Some(s.origin),
                to: reply,
                shown: &[],
                reply: &[],
                headers: &[],
                payload: &self.scratch,
            });
        }
        queue.pop_bytes(len);
        if !at_once {
            if self.live.0 != s.position.segment {
                self.settle_live();
                self.live.0 = s.position.segment;
            }
            self.live.1 += s.size;
        }
        self.owe_credit(CreditKind::Publish, s.origin, s.credit);
        let slot = s.slot as usize;
        if self.streams[slot].retention.is_limited() {
            let before = self.tally.work;
            self.evict_after(slot, id);
            // Most messages evict nothing.
            if self.tally.work.removed != before.removed {
                self.tally.note(Handler::Limits, before);
            }
        }
        if is_first {
            self.watch_age(slot);
        }
        self.count_used(slot, i64::from(s.size));
        self.mark_active(slot);
    }

    fn apply_answer(&mut self, a: &AnswerItem, at_once: bool, out: &mut impl ShardEffects) {
        let queue = if at_once { &mut self.at_once } else { &mut self.queue };
        let len = (a.reply_len + a.body_len) as usize;
        if a.reply_len > 0 {
            let (to, payload) = queue.bytes(len).split_at(a.reply_len as usize);
            out.send(&Outgoing {
                origin: Some(a.origin),
                to,
                shown: &[],
                reply: &[],
                headers: &[],
                payload,
            });
        }
        queue.pop_bytes(len);
        self.owe_credit(CreditKind::Publish, a.origin, a.credit);
    }

    /// A message left a stream: its bytes are dead, and consumers no longer count it.
    pub(in crate::shard) fn removed(&mut self, slot: usize, gone: &RemovedMessage) {
        self.count_used(slot, -i64::from(gone.size));
        self.tally.work.removed += 1;
        let cell = &mut self.streams[slot];
        cell.consumers.removed(self.now, &cell.index, gone.subject, gone.seq);
        match &mut cell.memory {
            Some(memory) => memory.remove(gone.seq),
            None => {
                if self.live.0 == gone.segment {
                    self.settle_live();
                }
                self.log.mark_dead(gone.segment, gone.size);
            }
        }
        let stream = self.streams[slot].id;
        self.removed_while_counting(stream, gone.seq);
    }

    /// Counts bytes that streams hold now, or hold no more.
    fn count_used(&mut self, slot: usize, bytes: i64) {
        let held = &mut self.used[usize::from(!self.streams[slot].is_memory())];
        *held = held.saturating_add_signed(bytes);
    }

    /// True if the server's room for streams of this kind is used up.
    pub(in crate::shard) fn is_full(&self, memory: bool) -> bool {
        let limits = &self.options.meta_limits;
        let limit = if memory { limits.server_memory } else { limits.server_storage };
        let at = usize::from(!memory);
        let others: u64 = self.used_elsewhere.iter().map(|held| held[at]).sum();
        u64::try_from(limit).is_ok_and(|limit| self.used[at] + others > limit)
    }

    /// Tells the other shards what this one holds, when that has changed by a good part.
    pub(in crate::shard) fn report_usage(&mut self, out: &mut impl ShardEffects) {
        let limits = &self.options.meta_limits;
        let shares = [limits.server_memory, limits.server_storage]
            .map(|limit| u64::try_from(limit).map_or(u64::MAX, |limit| limit / HELD_SHARE));
        let changed = |at: usize| self.used[at].abs_diff(self.usage_reported[at]) > shares[at];
        if self.options.shards > 1 && (changed(0) || changed(1)) {
            self.usage_reported = self.used;
            for to in (0..self.options.shards).map(ShardId).filter(|&s| s != self.id) {
                out.send_to_shard(to, ShardMessage::Held { from: self.id, bytes: self.used });
            }
        }
    }

    /// Tells the log of the live bytes gathered so far.
    pub(in crate::shard) fn settle_live(&mut self) {
        if self.live.1 > 0 {
            self.log.add_live(self.live.0, self.live.1);
        }
        self.live = (NO_SEGMENT, 0);
    }

    /// Notes credit that goes home at the end of the turn.
    pub(in crate::shard) fn owe_credit(&mut self, kind: CreditKind, origin: Origin, bytes: u32) {
        if bytes == 0 {
            return;
        }
        let at = usize::from(origin.reactor.0);
        if self.credit.len() <= at {
            self.credit.resize(at + 1, [0; 2]);
        }
        self.credit[at][kind as usize] += u64::from(bytes);
    }

    fn return_credit(&mut self, out: &mut impl ShardEffects) {
        for (reactor, owed) in self.credit.iter_mut().enumerate() {
            for kind in [CreditKind::Publish, CreditKind::Request] {
                let bytes = std::mem::take(&mut owed[kind as usize]);
                if bytes > 0 {
                    out.credit(ReactorId(reactor as u16), kind, self.id, bytes);
                }
            }
        }
    }
}
