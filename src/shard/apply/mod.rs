//! Applying: what is committed takes effect, in the order of each group: index, limits, consumers,
//! and the answers to those who waited for it.

pub(in crate::shard) mod changes;
mod messages;
pub(in crate::shard) mod removals;
pub(in crate::shard) mod state;

use corelane_storage::device::prefetch;
use corelane_storage::index::{PageKey, RemovedMessage};
use corelane_storage::log::Log;
use corelane_storage::record::{RecordIn, RecordView};

use crate::shard::budget::{Handler, WorkTally};
use crate::shard::effects::{Outgoing, ShardEffects};
use crate::shard::groups::pending::{AnswerItem, Change, Due};
use crate::shard::groups::removal::{Outcome, Removal, Unfinished};
use crate::shard::groups::{Blocked, GroupName, Groups, NextRecord};
use crate::shard::mailbox::ShardMessage;
use crate::shard::records::kind;
use crate::shard::state::jobs::Jobs;
use crate::shard::state::stream::ShardStream;
use crate::shard::state::{NO_SEGMENT, Shard};
use crate::shard::streams::read::Fetched;
use crate::types::{
    CREDIT_KINDS, ConsumerId, CreditKind, Origin, ReactorId, SegmentId, ShardId, StreamId,
    Timestamp,
};
use removals::{Progress, RemovalSink};
use state::{Applied, StateMut};

/// Things that became durable and take effect in one go, so that a turn has an end. Much less would
/// cut the acknowledgements of small messages into more sends than they need.
pub const APPLY_ITEMS: u32 = 16_384;
/// Messages that a record or a limit removes in the time of an item.
const ITEM_REMOVALS: u64 = 2;
/// Items that a step of what the last record left to be done counts for.
const FINISH_ITEMS: u32 = 256;
/// A change by this part of the server's limit is reported to the other shards.
const HELD_SHARE: u64 = 256;

/// How many records ahead of the one that is applied memory is asked for, and for how many of its
/// bytes: the header and most subjects.
const AHEAD: usize = 4;
const AHEAD_BYTES: usize = 128;
/// Index entries that one step of a removal visits.
const STEP_VISITS: u32 = 2_000;
/// How soon a page is asked for again that the device did not read, in nanoseconds.
const PAGE_AGAIN: i64 = 1_000_000_000;

/// What the removal of messages changes beside their streams.
struct Leaving<'a> {
    log: &'a mut Log,
    live: &'a mut (SegmentId, u32),
    used: &'a mut [u64; 2],
    jobs: &'a Jobs,
    tally: &'a mut WorkTally,
    now: Timestamp,
}

impl RemovalSink for Leaving<'_> {
    fn removed(&mut self, stream: &mut ShardStream, gone: &RemovedMessage) {
        let held = &mut self.used[usize::from(!stream.is_memory())];
        *held = held.saturating_sub(u64::from(gone.size));
        self.tally.work.removed += 1;
        stream.consumers.removed(self.now, &stream.index, gone.subject, gone.seq);
        match &mut stream.memory {
            Some(memory) => memory.remove(gone.seq),
            None => {
                if self.live.0 == gone.segment {
                    settle(self.log, self.live);
                }
                self.log.mark_dead(gone.segment, gone.size);
            }
        }
        self.jobs.removed_while_counting(stream, self.now, gone.seq);
    }
}

/// Tells the log of the live bytes gathered so far.
fn settle(log: &mut Log, live: &mut (SegmentId, u32)) {
    if live.1 > 0 {
        log.add_live(live.0, live.1);
    }
    *live = (NO_SEGMENT, 0);
}

/// The next record of a group, if it is in memory.
#[inline(always)]
fn record_of<'a>(
    groups: &'a Groups,
    log: &'a Log,
    group: GroupName,
    next: &NextRecord,
) -> Option<RecordView<'a>> {
    let bytes = groups.get(group).bytes(log, next)?;
    let record = RecordView::decode(bytes).ok()?;
    // Records that follow are mostly as long, and out of the processor's cache by now.
    prefetch(bytes, AHEAD * record.padded_len() as usize, AHEAD_BYTES);
    Some(record)
}

impl Shard {
    /// Applies what is committed, group by group and in the order of each; what is more than a turn
    /// has time for, in the next step.
    pub(in crate::shard) fn apply(&mut self, now: Timestamp, out: &mut impl ShardEffects) {
        self.groups.follow(&mut self.log);
        self.groups.wake(now);
        let most = self.options.apply_items.min(self.turn.items_left());
        let mut left = most;
        // Each group that has something to do gets the same share, and what another leaves of its.
        let order = self.groups.next_order();
        let mut waiting = order.iter().filter(|&&group| self.groups.get(group).is_due()).count();
        for group in order {
            if waiting > 0 && self.groups.get(group).is_due() {
                let share = left.div_ceil(waiting as u32);
                let mut rest = share;
                self.apply_group(group, &mut rest, now, out);
                left -= share - rest;
                waiting -= 1;
            }
        }
        for group in order {
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
        while *left > 0 && !self.groups.get(group).waits() {
            if self.groups.get(group).unfinished.is_some() {
                *left = left.saturating_sub(FINISH_ITEMS);
                if !self.finish_removal(group, now, out) {
                    return;
                }
                continue;
            }
            *left -= 1;
            let removed = self.tally.work.removed;
            let pipeline = self.groups.get_mut(group);
            let applied = pipeline.applied();
            match pipeline.waiting.pop_due(applied) {
                Some(Due::Answer(a)) => self.apply_answer(group, &a, out),
                Some(Due::Change(change)) => self.apply_waiting(group, *change, now, out),
                None => {
                    let Some(next) = pipeline.next_record() else { return };
                    if !self.apply_record(group, &next, now, out) {
                        return;
                    }
                }
            }
            let removed = (self.tally.work.removed - removed) / ITEM_REMOVALS;
            *left = left.saturating_sub(removed as u32);
        }
    }

    /// What waited for the record that was applied last.
    pub(in crate::shard) fn apply_waiting(
        &mut self,
        group: GroupName,
        change: Change,
        now: Timestamp,
        out: &mut impl ShardEffects,
    ) {
        let before = self.tally.work;
        self.apply_change(group, now, change, out);
        self.tally.note(Handler::Change, before);
    }

    /// Applies the next record of a group. False if it is not there or makes no sense, which ends
    /// the node.
    fn apply_record(
        &mut self,
        group: GroupName,
        next: &NextRecord,
        now: Timestamp,
        out: &mut impl ShardEffects,
    ) -> bool {
        let publisher = self.groups.get_mut(group).waiting.pop_store(next.place);
        if publisher.is_some() {
            return self.apply_message(group, next, publisher, out);
        }
        let Some(record) = record_of(&self.groups, &self.log, group, next) else {
            return self.entry_is_lost();
        };
        let RecordIn::Meta(m) = record.content() else {
            return self.apply_message(group, next, None, out);
        };
        let len = record.padded_len();
        let (kind, stream, id) = (m.kind, StreamId(m.stream), m.id);
        let mut body = std::mem::take(&mut self.applying.body);
        body.clear();
        body.extend_from_slice(m.body);
        let applied = self.apply_meta(group, kind, stream, id, &body, out);
        self.applying.body = body;
        let Some(applied) = applied else { return false };
        self.groups.get_mut(group).advance(next, len);
        self.took_effect(group, now, applied, out);
        true
    }

    /// What is committed and not applied must be in memory.
    #[cold]
    fn entry_is_lost(&mut self) -> bool {
        self.fails("an entry is not in memory any more")
    }

    /// What is committed cannot be applied: the node ends.
    #[cold]
    fn fails(&mut self, why: &str) -> bool {
        self.device.failure = Some(format!("shard {}: {why}", self.id.0));
        false
    }

    /// Applies a record other than a message, as far as that follows from the record alone. `None`
    /// if it makes no sense, which ends the node.
    pub(in crate::shard) fn apply_meta(
        &mut self,
        group: GroupName,
        record_kind: u16,
        stream: StreamId,
        id: u64,
        body: &[u8],
        out: &mut impl ShardEffects,
    ) -> Option<Applied> {
        self.before_record(group, record_kind, stream, ConsumerId(id), out);
        let Shard { streams, slots, consumers, options, meta, .. } = self;
        let next_consumer = &mut consumers.next_id;
        let catalogue = meta.as_mut().map(|meta| &mut meta.catalogue);
        let seed = options.seed;
        let mut state = StateMut { streams, slots, next_consumer, catalogue, seed };
        match state.apply(record_kind, stream, id, body) {
            Ok(applied) => Some(applied),
            Err(why) => {
                self.fails(&why);
                None
            }
        }
    }

    /// What is to be done before a record changes something: a checkpoint that is being written has
    /// it as it is, and a consumer that goes says so.
    fn before_record(
        &mut self,
        group: GroupName,
        record_kind: u16,
        stream: StreamId,
        consumer: ConsumerId,
        out: &mut impl ShardEffects,
    ) {
        if kind::removes(record_kind) {
            self.groups.get_mut(group).outcome = Outcome::default();
        }
        let Some(&slot) = self.slots.get(&stream) else { return };
        let at = self.streams[slot].consumers.by_id.get(&consumer).copied();
        match (record_kind, at) {
            (kind::CONSUMER_DELTA | kind::CONSUMER, Some(at)) => self.before_consumer(slot, at),
            (kind::CONSUMER_REMOVED, Some(at)) => self.consumer_leaves(slot, at, out),
            (kind::STREAM, _) => self.before_update(slot),
            (removes, _) if kind::removes(removes) => self.before_change(slot),
            _ => {}
        }
    }

    /// Goes on with a removal, with all that follows from it.
    pub(in crate::shard) fn step_removal(
        &mut self,
        slot: usize,
        removal: &mut Removal,
        budget: &mut u32,
    ) -> Progress {
        let Shard { streams, log, applying, space, jobs, tally, clocks, .. } = self;
        let (live, used) = (&mut applying.live, &mut space.here);
        let mut sink = Leaving { log, live, used, jobs, tally, now: clocks.now };
        removal.step(&mut streams[slot], budget, &mut sink)
    }

    /// Goes on with what the last record removes. True if applying goes on at once.
    fn finish_removal(
        &mut self,
        group: GroupName,
        now: Timestamp,
        out: &mut impl ShardEffects,
    ) -> bool {
        let pipeline = self.groups.get_mut(group);
        let Some(Unfinished { slot, mut removal }) = pipeline.unfinished.take() else {
            return true;
        };
        self.before_change(slot);
        let mut budget = STEP_VISITS;
        let before = self.tally.work.removed;
        let mut failed = None;
        let blocked = loop {
            match self.step_removal(slot, &mut removal, &mut budget) {
                Progress::Done => break None,
                Progress::Budget => break Some(Blocked::No),
                Progress::NeedPage(key) => match self.fetch_to_apply(group, slot, key) {
                    Fetched::Loaded => {}
                    Fetched::Pending(read) => break Some(Blocked::Read(read)),
                    Fetched::Failed(text) => {
                        self.complain(slot, format_args!("all waits for the index: {text}"), out);
                        break Some(Blocked::Until(now.plus(PAGE_AGAIN)));
                    }
                    Fetched::Damaged(text) => {
                        self.complain(slot, format_args!("messages stay: {text}"), out);
                        failed = Some(text);
                        break None;
                    }
                },
            }
        };
        let removed = self.tally.work.removed - before;
        let pipeline = self.groups.get_mut(group);
        pipeline.outcome.removed += removed;
        pipeline.outcome.failed = failed;
        let Some(blocked) = blocked else {
            // Others were decided by a record, and somebody waits for them.
            if matches!(removal, Removal::Limits(_)) {
                self.streams[slot].admission.removal_applied();
            }
            return true;
        };
        pipeline.unfinished = Some(Unfinished { slot, removal });
        pipeline.blocked = blocked;
        false
    }

    /// As `fetch_page`, for what is applied: what the log says must be done, so a read that fails
    /// is tried again at once; see `PageAttempts`.
    fn fetch_to_apply(&mut self, group: GroupName, slot: usize, key: PageKey) -> Fetched {
        loop {
            let fetched = self.fetch_page(slot, key);
            let attempts = &mut self.groups.get_mut(group).attempts;
            match fetched {
                Fetched::Loaded => attempts.succeeded(),
                Fetched::Failed(_) | Fetched::Damaged(_) if attempts.failed() => continue,
                _ => {}
            }
            return fetched;
        }
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
        self.owe_credit(group.publish_credit(), a.origin, a.credit);
    }

    /// True if the server's room for streams of this kind is used up.
    pub(in crate::shard) fn is_full(&self, memory: bool) -> bool {
        let limits = &self.options.meta_limits;
        let limit = if memory { limits.server_memory } else { limits.server_storage };
        let at = usize::from(!memory);
        let others: u64 = self.space.elsewhere.iter().map(|held| held[at]).sum();
        u64::try_from(limit).is_ok_and(|limit| self.space.here[at] + others > limit)
    }

    /// Tells the other shards what this one holds, when that has changed by a good part.
    pub(in crate::shard) fn report_usage(&mut self, out: &mut impl ShardEffects) {
        let limits = &self.options.meta_limits;
        let shares = [limits.server_memory, limits.server_storage]
            .map(|limit| u64::try_from(limit).map_or(u64::MAX, |limit| limit / HELD_SHARE));
        let changed =
            |at: usize| self.space.here[at].abs_diff(self.space.reported[at]) > shares[at];
        if self.options.shards > 1 && (changed(0) || changed(1)) {
            self.space.reported = self.space.here;
            for to in (0..self.options.shards).map(ShardId).filter(|&s| s != self.id) {
                out.send_to_shard(to, ShardMessage::Held { from: self.id, bytes: self.space.here });
            }
        }
    }

    /// Tells the log of the live bytes gathered so far.
    pub(in crate::shard) fn settle_live(&mut self) {
        settle(&mut self.log, &mut self.applying.live);
    }

    /// Notes credit that goes home at the end of the turn.
    pub(in crate::shard) fn owe_credit(&mut self, kind: CreditKind, origin: Origin, bytes: u32) {
        if bytes == 0 {
            return;
        }
        let at = usize::from(origin.reactor.0);
        if self.credit.len() <= at {
            self.credit.resize(at + 1, Default::default());
        }
        self.credit[at][kind as usize] += u64::from(bytes);
    }

    /// Gives back what was owed in this step: nobody may wait for what an idle shard holds.
    pub(in crate::shard) fn return_credit(&mut self, out: &mut impl ShardEffects) {
        for (reactor, owed) in self.credit.iter_mut().enumerate() {
            for kind in CREDIT_KINDS {
                let bytes = std::mem::take(&mut owed[kind as usize]);
                if bytes > 0 {
                    out.credit(ReactorId(reactor as u16), kind, self.id, bytes);
                }
            }
        }
    }
}
