//! What handlers do in one go. Each has a bound, so that a turn has one; the simulator holds them
//! to it.

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
