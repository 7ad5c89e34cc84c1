//! What handlers do in one go, and in one turn together. Both have bounds, so that a turn has one;
//! the simulator holds them to it.

/// Work, counted where it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Jobs that made a step.
    pub jobs: u64,
    /// Requests that were handled.
    pub requests: u64,
    /// Messages that left a stream.
    pub removed: u64,
    /// Messages that consumers delivered.
    pub sent: u64,
    /// Index entries that consumers visited.
    pub visited: u64,
    /// Bytes that checkpoints wrote and that were copied.
    pub written: u64,
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// Delivers for one consumer.
    Drive,
    /// One step of a job.
    Job,
    /// The jobs' part of a step of the shard.
    Jobs,
    /// Something change that became durable.
    Change,
    /// Limits, after a message.
    Limits,
    /// Requests' part of a step.
    Requests,
    /// The checkpoint's part of a step.
    Checkpoint,
    /// The part of a step in which records are copied.
    Copy,
}

/// All handlers.
pub const HANDLERS: [Handler; 8] = [
    Handler::Drive,
    Handler::Job,
    Handler::Jobs,
    Handler::Change,
    Handler::Limits,
    Handler::Requests,
    Handler::Checkpoint,
    Handler::Copy,
];

/// What a shard did since its start.
#[derive(Clone, Debug, Default)]
pub struct WorkTally {
    /// Altogether.
    pub work: Work,
    /// Steps of the shard.
    pub steps: u64,
    /// The most units that a turn has spent, in the terms of its budget.
    pub units_max: u32,
    most: [Work; HANDLERS.len()],
}

impl WorkTally {
    /// The most that a handler did in one go.
    pub fn most(&self, handler: Handler) -> Work {
        self.most[handler as usize]
    }

    /// A handler did what was not done `before`.
    #[inline]
    pub(super) fn note(&mut self, handler: Handler, before: Work) {
        let (now, most) = (self.work, &mut self.most[handler as usize]);
        most.jobs = most.jobs.max(now.jobs - before.jobs);
        most.requests = most.requests.max(now.requests - before.requests);
        most.removed = most.removed.max(now.removed - before.removed);
        most.sent = most.sent.max(now.sent - before.sent);
        most.visited = most.visited.max(now.visited - before.visited);
        most.written = most.written.max(now.written - before.written);
    }
}

/// Units of a turn, for all shards of a reactor together. A unit takes about half a microsecond.
pub const TURN_UNITS: u32 = 4_096;
/// Of so many units, one is left to consumers, however many requests and jobs there are.
const CONSUMERS_PART: u32 = 4;
/// Applying takes no more than one of so many units.
const APPLY_PART: u32 = 2;
/// Items that are applied for a unit.
const UNIT_ITEMS: u32 = 2;
/// Units of a request of the API.
const REQUEST: u32 = 16;
/// Units of a stream or a consumer that a request or a question lists.
const LISTED: u32 = 2;
/// Bytes of an answer for a unit: they are made, and copied into an outbound.
const UNIT_ANSWER_BYTES: usize = 256;
/// Units of an acknowledgement, or an answer to flow control.
const ACK: u32 = 2;
/// Units of a step of a job.
const JOB: u32 = 128;
/// Units of turning to a consumer, whether it delivers or not.
const CONSUMER: u32 = 1;
/// Deltas that consumers log in a turn at least: acknowledgements that are answered wait for them.
const DELTAS_MIN: u32 = 64;
/// Units of logging what a consumer gathered, besides its bytes.
const DELTA: u32 = 2;
/// Units of a message that is delivered, besides its bytes.
const MESSAGE: u32 = 1;
/// Bytes that are delivered for a unit: they are copied into an outbound whose memory may be new,
/// where a page takes microseconds, and the kernel copies them again before the next turn.
const UNIT_DELIVERED_BYTES: usize = 256;
/// Bytes that are copied for a unit.
const UNIT_BYTES: usize = 512;
/// Index entries that are visited for a unit.
const UNIT_VISITS: u32 = 16;
/// What the net layer does in the time of a unit, in its own units.
const UNIT_ROUTED: u64 = 16;

/// What a shard may do in one turn, over all its handlers and however many steps the turn has. What
/// is left over goes on in the next turn, those that waited first. Background work makes at least
/// one step in a turn in which its shard is favoured: nothing may keep it from going on.
#[derive(Debug, Default)]
pub(super) struct TurnBudget {
    limit: u32,
    spent: u32,
    /// Of that, what was spent on applying.
    applied: u32,
    /// Who has made its step.
    stepped: [bool; 4],
    /// What consumers may log whatever else there is to do, in deltas.
    deltas: u32,
    /// What the net layer had done when it was looked at last.
    routed: u64,
}

/// Work that nobody is kept waiting for, as long as it goes on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Background {
    Jobs,
    Checkpoint,
    Relocation,
    Sorting,
}

impl TurnBudget {
    /// That of a shard that shares its reactor with others, `shards` in all. One of them at a time
    /// is `favoured`.
    pub fn share(shards: usize, favoured: bool) -> Self {
        let limit = TURN_UNITS / (shards.max(1) as u32);
        let deltas = (DELTAS_MIN / shards.max(1) as u32).max(1);
        TurnBudget { limit, stepped: [!favoured; 4], deltas, ..Default::default() }
    }

    /// Units spent so far.
    pub fn spent(&self) -> u32 {
        self.spent
    }

    /// Items that may be applied still.
    pub fn items_left(&self) -> u32 {
        (self.limit / APPLY_PART).saturating_sub(self.applied) * UNIT_ITEMS
    }

    /// So many items were applied.
    pub fn applied(&mut self, items: u32) {
        self.applied += items.div_ceil(UNIT_ITEMS);
        self.spent += items.div_ceil(UNIT_ITEMS);
    }

    /// True while requests may be handled.
    pub fn has_requests(&self) -> bool {
        self.spent < self.limit - self.limit / CONSUMERS_PART
    }

    /// A request is handled.
    pub fn request(&mut self, api: bool) {
        self.spent += if api { REQUEST } else { ACK };
    }

    /// So many streams or consumers are listed.
    pub fn listed(&mut self, items: usize) {
        let units = u32::try_from(items).unwrap_or(u32::MAX).saturating_mul(LISTED);
        self.spent += units.min(self.limit);
    }

    /// An answer of so many bytes. One that is larger than all that a turn may do takes all of it.
    pub fn answered(&mut self, bytes: usize) {
        let units = u32::try_from(bytes / UNIT_ANSWER_BYTES).unwrap_or(u32::MAX);
        self.spent += units.min(self.limit);
    }

    /// True if another step may be made, which the caller then does.
    pub fn may_step(&mut self, who: Background) -> bool {
        let is_first = !std::mem::replace(&mut self.stepped[who as usize], true);
        is_first || self.has_requests()
    }

    /// A job made a step.
    pub fn job(&mut self) {
        self.spent += JOB;
    }

    /// So many bytes were copied or written.
    pub fn copied(&mut self, bytes: u64) {
        self.spent += (bytes / UNIT_BYTES as u64) as u32;
    }

    /// True while consumers may be served.
    pub fn is_left(&self) -> bool {
        self.spent < self.limit
    }

    /// A consumer is looked at.
    pub fn consumer(&mut self) {
        self.spent += CONSUMER;
    }

    /// True if what another consumer gathered may be logged, which the caller then does.
    pub fn may_log(&mut self) -> bool {
        let is_early = self.deltas > 0;
        self.deltas = self.deltas.saturating_sub(1);
        is_early || self.has_requests()
    }

    /// So many bytes of what a consumer gathered were logged.
    pub fn delta(&mut self, bytes: usize) {
        self.spent += DELTA + (bytes / UNIT_BYTES) as u32;
    }

    /// A message of so many bytes was delivered, and the net layer has done this much since.
    pub fn delivered(&mut self, bytes: usize, routed: u64) {
        self.spent += MESSAGE + (bytes / UNIT_DELIVERED_BYTES) as u32;
        let fan_out = routed.saturating_sub(self.routed) / UNIT_ROUTED;
        self.spent += u32::try_from(fan_out).unwrap_or(u32::MAX / 2);
        self.routed = routed;
    }

    /// What the net layer has done up to now is not for what is delivered.
    pub fn routed_before(&mut self, routed: u64) {
        self.routed = routed;
    }

    /// So many index entries were visited.
    pub fn visited(&mut self, entries: u32) {
        self.spent += entries / UNIT_VISITS;
    }
}
