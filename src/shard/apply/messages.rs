//! What a message leads to where its group is led: what the shard counts, its consumers, the answer
//! to its publisher.

use corelane_storage::log::Log;
use corelane_storage::record::RecordIn;

use crate::shard::apply::removals::Progress;
use crate::shard::apply::state::{StateMut, StoredMessage};
use crate::shard::apply::{record_of, settle};
use crate::shard::budget::Handler;
use crate::shard::effects::{Outgoing, ShardEffects};
use crate::shard::groups::pending::StoreItem;
use crate::shard::groups::removal::Unfinished;
use crate::shard::groups::{GroupName, Groups, NextRecord};
use crate::shard::state::Shard;
use crate::types::{SegmentId, StreamId};

/// What is visited for one message that is stored.
const STORE_VISITS: u32 = 1_000;

impl Shard {
    /// Applies the next record of a group, a message that `publisher` sent if that is known here.
    /// False if it makes no sense, which ends the node.
    pub(super) fn apply_message(
        &mut self,
        group: GroupName,
        next: &NextRecord,
        publisher: Option<StoreItem>,
        out: &mut impl ShardEffects,
    ) -> bool {
        let slot = match publisher {
            Some(item) => Some(item.slot as usize),
            None => stream_of(&self.groups, &self.log, group, next)
                .and_then(|stream| self.slots.get(&stream).copied()),
        };
        if let Some(slot) = slot {
            self.before_change(slot);
        }
        let Shard { groups, log, streams, slots, consumers: queues, options, .. } = self;
        let Some(record) = record_of(groups, log, group, next) else { return self.entry_is_lost() };
        let Some(m) = record.message() else { return self.entry_is_lost() };
        let len = record.padded_len();
        let next_consumer = &mut queues.next_id;
        let seed = options.seed;
        let mut state = StateMut { streams, slots, next_consumer, catalogue: None, seed };
        let stored = match state.message(slot, &m, next.position) {
            Ok(stored) => stored,
            Err(why) => return self.fails(&why),
        };
        if let Some(stored) = &stored {
            let consumers = &mut streams[stored.slot].consumers;
            consumers.appended(stored.subject, m.subject, stored.seq);
        }
        self.groups.get_mut(group).advance(next, len);
        if let Some(stored) = &stored {
            self.message_stored(group, stored, next.position.segment);
        }
        if let Some(item) = publisher {
            self.answer_publisher(group, &item, stored.as_ref(), out);
        }
        true
    }

    /// A message was stored; its record lies in `segment`.
    fn message_stored(&mut self, group: GroupName, stored: &StoredMessage, segment: SegmentId) {
        let &StoredMessage { slot, size, is_only, .. } = stored;
        let is_memory = group == GroupName::Memory;
        self.space.here[usize::from(!is_memory)] += u64::from(size);
        if !is_memory {
            if self.applying.live.0 != segment {
                settle(&mut self.log, &mut self.applying.live);
                self.applying.live.0 = segment;
            }
            self.applying.live.1 += size;
        }
        if let Some(mut removal) = stored.removal() {
            let before = self.tally.work;
            if self.step_removal(slot, &mut removal, &mut { STORE_VISITS }) != Progress::Done {
                self.streams[slot].admission.removal_decided();
                self.groups.get_mut(group).unfinished = Some(Unfinished { slot, removal });
            }
            // Most messages evict nothing.
            if self.tally.work.removed != before.removed {
                self.tally.note(Handler::Limits, before);
            }
        }
        if is_only {
            self.watch_age(slot);
        }
        self.mark_active(slot);
    }

    /// Answers who published a message, if an answer is wanted and the message is stored.
    fn answer_publisher(
        &mut self,
        group: GroupName,
        item: &StoreItem,
        stored: Option<&StoredMessage>,
        out: &mut impl ShardEffects,
    ) {
        let len = item.reply_len as usize;
        let waiting = &mut self.groups.get_mut(group).waiting;
        if let Some(stored) = stored.filter(|_| len > 0) {
            self.scratch.clear();
            self.streams[stored.slot].ack.write_stored(&mut self.scratch, stored.seq);
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
        self.owe_credit(group.publish_credit(), item.origin, item.credit);
    }
}

/// The stream that the next record of a group is about.
fn stream_of(groups: &Groups, log: &Log, group: GroupName, next: &NextRecord) -> Option<StreamId> {
    match record_of(groups, log, group, next)?.content() {
        RecordIn::Message(m) => Some(m.stream),
        RecordIn::Meta(m) => Some(StreamId(m.stream)),
    }
}
