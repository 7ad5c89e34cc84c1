//! What a shard holds: the struct, and the owners of its fields.
//!
//! Purpose: the layer below everything that drives a shard (`api`, `apply`, `catalogue`,
//! `checkpoint`, `compaction`, `consumers`, `jobs`, `recovery`, `streams`). It must not know any of
//! them. What is here changes its own fields, keeps what must hold between them, and appends to the
//! log; it reads nothing from the device and sends nothing. Exists once per shard.

pub(in crate::shard) mod catalogue;
pub(in crate::shard) mod checkpoint;
pub(in crate::shard) mod compaction;
pub(in crate::shard) mod consumers;
pub(in crate::shard) mod jobs;
pub(in crate::shard) mod memory_store;
pub(in crate::shard) mod options;
pub(in crate::shard) mod parked;
pub(in crate::shard) mod queues;
pub(in crate::shard) mod read_ahead;
pub(in crate::shard) mod stream;
pub(in crate::shard) mod unreadable;

use corelane_storage::device::Op;
use corelane_storage::envelope::LOCAL_GROUP;
use corelane_storage::log::{AppendError, Log};
use corelane_storage::record::{MetaIn, RecordIn};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::shard::budget::{TurnBudget, WorkTally};
use crate::shard::groups::pending::{Change, Unlogged};
use crate::shard::groups::{GroupName, Groups};
use crate::types::{CREDIT_KINDS, Clocks, SegmentId, ShardId, StreamId};
use catalogue::{Decisions, Meta};
use checkpoint::Checkpointer;
use compaction::{Reclaim, Sort};
use consumers::ConsumerQueues;
use jobs::Jobs;
use options::ShardOptions;
use parked::ParkedStreams;
use queues::{Applying, DeviceQueues, Lifecycle, Requests, SpaceUsed};
use stream::ShardStream;
use unreadable::Unreadable;

pub const NO_SEGMENT: SegmentId = SegmentId(u32::MAX);

/// One shard.
pub struct Shard {
    pub(super) id: ShardId,
    pub(super) options: ShardOptions,
    pub(super) log: Log,
    pub(super) device: DeviceQueues,
    /// Entries on their way to being applied.
    pub(super) groups: Groups,
    pub(super) applying: Applying,
    pub(super) streams: slab::Slab<ShardStream>,
    /// Slots of streams by their ids.
    pub(super) slots: HashMap<StreamId, usize, FixedState>,
    /// Slots of streams by their names.
    pub(super) names: HashMap<Box<[u8]>, usize, FixedState>,
    pub(super) requests: Requests,
    pub(super) parked: ParkedStreams,
    pub(super) consumers: ConsumerQueues,
    pub(super) jobs: Jobs,
    /// Of shard 0.
    pub(super) meta: Option<Meta>,
    pub(super) decisions: Decisions,
    pub(super) checkpoint: Checkpointer,
    pub(super) reclaim: Reclaim,
    pub(super) sort: Sort,
    pub(super) space: SpaceUsed,
    /// What is damaged and not served.
    pub(super) unreadable: Unreadable,
    pub(super) lifecycle: Lifecycle,
    /// Credit to give back, by reactor and kind.
    pub(super) credit: Vec<[u64; CREDIT_KINDS.len()]>,
    /// Bytes of a record or a message that is being made.
    pub(super) scratch: Vec<u8>,
    /// Index pages that were read from the log since the start.
    pub(super) pages_read: u64,
    pub(super) tally: WorkTally,
    /// What this turn may still do.
    pub(super) turn: TurnBudget,
    pub(super) random: u64,
    /// Those of this turn.
    pub(super) clocks: Clocks,
}

impl Shard {
    /// Its id.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// What the clocks say from now on; inputs and steps of the turn have the same time.
    pub fn set_clocks(&mut self, clocks: Clocks) {
        self.clocks = clocks;
    }

    pub(super) fn mark_active(&mut self, slot: usize) {
        let stream = &mut self.streams[slot];
        if !stream.active {
            stream.active = true;
            self.consumers.active.push(slot);
        }
    }

    /// Appends a record other than a message to a group.
    pub(super) fn append_meta(
        &mut self,
        group: GroupName,
        kind: u16,
        stream: u64,
        id: u64,
        body: &[u8],
    ) -> Result<(), AppendError> {
        let record = RecordIn::Meta(MetaIn { kind, stream, id, body, relocated: false });
        let (_, len) = self.groups.append(group, &mut self.log, &record)?;
        if group != GroupName::Memory {
            self.checkpoint.appended += u64::from(len);
        }
        Ok(())
    }

    /// Appends a record that removes messages of a stream. `change` follows once they have left.
    pub(super) fn append_removal(
        &mut self,
        slot: usize,
        kind: u16,
        id: u64,
        body: &[u8],
        change: impl FnOnce() -> Change,
    ) -> Result<(), AppendError> {
        let (stream, group) = (self.streams[slot].id, self.streams[slot].group());
        self.append_meta(group, kind, stream.0, id, body)?;
        self.streams[slot].admission.removal_decided();
        self.wait_for_appended(group, change());
        Ok(())
    }

    /// What such a record removes has left.
    pub(super) fn removal_applied(&mut self, stream: StreamId) {
        if let Some(&slot) = self.slots.get(&stream) {
            self.streams[slot].admission.removal_applied();
        }
    }

    /// Has a record take effect in its turn: once it is committed, or behind what was appended
    /// before it, if the log is not to have it.
    pub(super) fn append_change(
        &mut self,
        logged: bool,
        group: GroupName,
        kind: u16,
        stream: StreamId,
        id: u64,
        body: &[u8],
    ) -> Result<(), AppendError> {
        if logged {
            return self.append_meta(group, kind, stream.0, id, body);
        }
        let body = body.into();
        self.wait_for_appended(group, Change::Unlogged(Unlogged { kind, stream, id, body }));
        Ok(())
    }

    /// Appends a record that is of this log alone.
    pub(super) fn append_local(&mut self, kind: u16, id: u64) -> Result<(), AppendError> {
        let record = MetaIn { kind, stream: 0, id, body: b"", relocated: false };
        let appended = self.log.append(LOCAL_GROUP, &RecordIn::Meta(record))?;
        self.checkpoint.appended += u64::from(appended.len);
        Ok(())
    }

    /// What follows once all that was appended to a group is applied.
    pub(super) fn wait_for_appended(&mut self, group: GroupName, change: Change) {
        let pipeline = self.groups.get_mut(group);
        let place = pipeline.appended();
        pipeline.waiting.push(place, change);
    }

    /// The next number of the shard's own generator (SplitMix64).
    pub(super) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// What its handlers did.
    pub fn tally(&self) -> &WorkTally {
        &self.tally
    }

    /// Takes the device operations to start.
    pub fn take_ops(&mut self, mut each: impl FnMut(Op)) {
        for op in self.device.ops.drain(..) {
            each(op);
        }
    }
}
