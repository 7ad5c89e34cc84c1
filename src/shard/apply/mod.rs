//! Applying: what is committed takes effect, in the order of each group: index, limits, consumers,
//! and the answers to those who waited for it.

pub(in crate::shard) mod byte_queue;
pub(in crate::shard) mod changes;
pub(in crate::shard) mod groups;
pub(in crate::shard) mod limits;
mod memory_log;
pub(in crate::shard) mod pending;

use corelane_storage::index::RemovedMessage;
use corelane_storage::record::RecordView;

use crate::api::types::StorageType;
use crate::shard::budget::Handler;
use crate::shard::effects::{Outgoing, ShardEffects};
use crate::shard::mailbox::ShardMessage;
use crate::shard::streams::memory::Message;
use crate::shard::{NO_SEGMENT, Shard};
use crate::stream::admission::stored_size;
use crate::types::{
    CreditKind, Origin, Position, ReactorId, ShardId, StreamId, Timestamp, WallTime,
};
use groups::{GROUPS, GroupName, NextRecord, Place};
use limits::{Evicted, Unfinished};
use pending::{AnswerItem, Change, Item};

/// Things that became durable and take effect in one go, so that a turn has an end. Much less would
/// cut the acknowledgements of small messages into more sends than they need.
pub const APPLY_ITEMS: u32 = 16_384;
/// Messages that a record or a limit removes in the time of an item.
const ITEM_REMOVALS: u64 = 2;
/// Items that a step of what the last record left to be done counts for.
const FINISH_ITEMS: u32 = 256;
/// A change by this part of the server's limit is told to the other shards.
const HELD_SHARE: u64 = 256;

/// A message that is being applied.
struct AppliedMessage {
    stream: StreamId,
    seq: u64,
    ts: WallTime,
    /// Bytes as streams count them.
    size: u32,
    position: Position,
    place: Place,
}

impl Shard {
    /// Applies what is committed, group by group and in the order of each; what is more than a turn
    /// has time for, in the next step.
    pub(in crate::shard) fn apply(&mut self, now: Timestamp, out: &mut impl ShardEffects) {
        self.groups.follow(&mut self.log);
        let most = self.options.apply_items.min(self.turn.items_left());
        let mut left = most;
        for group in GROUPS {
            self.apply_group(group, &mut left, now, out);
        }
        self.turn.applied(most - left);
        self.groups.keep_in_memory(&mut self.log);
        self.settle_live();
    }

    fn apply_group(
        &mut self,
        group: GroupName,
        left: &mut u32,
        now: Timestamp,
        out: &mut impl ShardEffects,
    ) {
        while *left > 0 && self.groups.get(group).blocked.is_none() {
            if self.groups.get(group).unfinished.is_some() {
                *left = left.saturating_sub(FINISH_ITEMS);
                if !self.finish_removals(group, now, out) {
                    return;
                }
                continue;
            }
            *left -= 1;
            let removed = self.tally.work.removed;
            let pipeline = self.groups.get_mut(group);
            let applied = pipeline.applied();
            match pipeline.waiting.front(applied) {
                Some(Item::Answer(a)) => {
                    let a = *a;
                    pipeline.waiting.pop();
                    self.apply_answer(group, &a, out);
                }
                Some(_) => {
                    let Some(Item::Change(change)) = pipeline.waiting.pop() else { continue };
                    self.apply_waiting(group, *change, now, out);
                }
                None => {
                    let Some(next) = pipeline.next_record() else { return };
                    if !self.apply_record(group, &next, out) {
                        return;
                    }
                }
            }
            let removed = (self.tally.work.removed - removed) / ITEM_REMOVALS;
            *left = left.saturating_sub(removed as u32);
        }
    }

    /// What waited for the record that was applied last.
    fn apply_waiting(
        &mut self,
        group: GroupName,
        change: Change,
        now: Timestamp,
        out: &mut impl ShardEffects,
    ) {
        let before = self.tally.work;
        let rest = match change {
            Change::Enforce { stream, what } => {
                self.begin_enforce(group, stream, what);
                None
            }
            change => self.apply_change(now, change, out),
        };
        self.tally.note(Handler::Change, before);
        if let Some((rest, read)) = rest {
            let pipeline = self.groups.get_mut(group);
            pipeline.waiting.push_front(rest);
            pipeline.blocked = Some(read);
        }
    }

    /// Applies the next record of a group. False if it is not there, which ends the node.
    fn apply_record(
        &mut self,
        group: GroupName,
        next: &NextRecord,
        out: &mut impl ShardEffects,
    ) -> bool {
        let pipeline = self.groups.get(group);
        let bytes = pipeline.bytes(&self.log, next);
        let Some(record) = bytes.and_then(|b| RecordView::decode(b).ok()) else {
            let id = self.id.0;
            self.failure = Some(format!("shard {id}: an entry is not in memory any more"));
            return false;
        };
        let len = record.padded_len();
        if let Some(m) = record.message() {
            let (subject, headers) = (m.subject.len(), m.headers.len());
            let (storage, kept) = match group {
                GroupName::Memory => {
                    let message = Message::new(m.ts, m.subject, m.headers, m.payload);
                    (StorageType::Memory, Some(message))
                }
                _ => (StorageType::File, None),
            };
            let message = AppliedMessage {
                stream: m.stream,
                seq: m.seq,
                ts: WallTime(m.ts),
                size: stored_size(storage, subject, headers, m.payload.len()) as u32,
                position: if kept.is_some() { Position::default() } else { next.position },
                place: next.place,
            };
            self.subject.clear();
            self.subject.extend_from_slice(m.subject);
            self.apply_message(group, &message, kept, out);
        }
        self.groups.get_mut(group).advance(next, len);
        true
    }

    fn apply_message(
        &mut self,
        group: GroupName,
        m: &AppliedMessage,
        kept: Option<Message>,
        out: &mut impl ShardEffects,
    ) {
        let waiting = &mut self.groups.get_mut(group).waiting;
        let publisher = waiting.pop_store(m.place);
        let slot = match publisher {
            Some(item) => Some(item.slot as usize),
            None => self.slots.get(&m.stream).copied(),
        };
        if let Some(slot) = slot {
            self.store(group, slot, m, kept);
        }
        let Some(item) = publisher else { return };
        let len = item.reply_len as usize;
        let waiting = &mut self.groups.get_mut(group).waiting;
        if let Some(slot) = slot.filter(|_| len > 0) {
            self.scratch.clear();
            self.streams[slot].ack.write_stored(&mut self.scratch, m.seq);
            out.send(&Outgoing {
                origin: Some(item.origin),
                to: waiting.bytes(len),
                shown: &[],
                reply: &[],
                headers: &[],
                payload: &self.scratch,
            });
        }
        waiting.pop_bytes(len);
        self.owe_credit(CreditKind::Publish, item.origin, item.credit);
    }

    /// Stores a message of the subject at hand in a stream, and removes what its limits no longer
    /// allow.
    fn store(&mut self, group: GroupName, slot: usize, m: &AppliedMessage, kept: Option<Message>) {
        self.before_change(slot);
        let cell = &mut self.streams[slot];
        let id = cell.index.append(m.seq, m.position, m.size, &self.subject);
        cell.last_time = m.ts;
        let is_first = cell.index.messages() == 1;
        if is_first {
            cell.first_time = (m.seq, m.ts);
        }
        cell.admission.commit(m.seq);
        cell.consumers.appended(id, &self.subject, m.seq);
        match (&mut cell.memory, kept) {
            (Some(memory), Some(message)) => memory.insert(m.seq, message),
            _ => {
                if self.live.0 != m.position.segment {
                    self.settle_live();
                    self.live.0 = m.position.segment;
                }
                self.live.1 += m.size;
            }
        }
        if self.streams[slot].retention.is_limited() {
            let before = self.tally.work;
            if !matches!(self.evict_after(slot, id), Evicted::Done) {
                let unfinished = Unfinished::Limits { slot, subject: id };
                self.groups.get_mut(group).unfinished = Some(unfinished);
            }
            // Most messages evict nothing.
            if self.tally.work.removed != before.removed {
                self.tally.note(Handler::Limits, before);
            }
        }
        if is_first {
            self.watch_age(slot);
        }
        self.count_used(slot, i64::from(m.size));
        self.mark_active(slot);
    }

    fn apply_answer(&mut self, group: GroupName, a: &AnswerItem, out: &mut impl ShardEffects) {
        let waiting = &mut self.groups.get_mut(group).waiting;
        let len = (a.reply_len + a.body_len) as usize;
        if a.reply_len > 0 {
            let (to, payload) = waiting.bytes(len).split_at(a.reply_len as usize);
            out.send(&Outgoing {
                origin: Some(a.origin),
                to,
                shown: &[],
                reply: &[],
                headers: &[],
                payload,
            });
        }
        waiting.pop_bytes(len);
        self.owe_credit(CreditKind::Publish, a.origin, a.credit);
    }

    /// A message left a stream: its bytes are dead, and consumers no longer count it.
    pub(in crate::shard) fn removed(&mut self, slot: usize, gone: &RemovedMessage) {
        self.count_used(slot, -i64::from(gone.size));
        self.tally.work.removed += 1;
        let cell = &mut self.streams[slot];
        cell.consumers.removed(self.clocks.now, &cell.index, gone.subject, gone.seq);
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

    /// Gives back what was owed in this step: nobody may wait for what an idle shard holds.
    pub(in crate::shard) fn return_credit(&mut self, out: &mut impl ShardEffects) {
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
