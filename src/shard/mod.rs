//! The shard: the actor that owns streams, consumers and one log.
//!
//! Purpose: everything that happens to the streams of one core, decided synchronously. Messages
//! come in by `capture`, device completions by `disk_done`, other shards' messages by `receive`;
//! `step`, once a turn, lets things take effect and gives what follows to [`ShardEffects`]. It must
//! not know reactors, sockets, clocks or io_uring. One per shard id of a node; a reactor may host
//! several.
//!
//! Layers, from below: the types that it exchanges with others (`mailbox`, `effects`, `records`,
//! `request`, `budget`), the queues of `groups`, `state` (the struct, and the owners of its
//! fields), and above it those who drive it, each with methods of [`Shard`] of its own. No two
//! modules import each other, directly or in a circle (`tests/tidy.rs`).
//!
//! Invariants: nothing is applied, answered or delivered before its record may be acknowledged, and
//! all is applied in the order of the log; sequences are assigned at admission; a request that must
//! wait for a read is run again from its beginning, so it changes nothing before its last step.

mod api;
mod apply;
pub mod budget;
mod catalogue;
mod checkpoint;
mod compaction;
mod consumers;
pub mod effects;
mod groups;
mod inspect;
mod jobs;
mod live_audit;
pub mod mailbox;
mod memory_audit;
mod records;
mod recovery;
pub mod report;
mod request;
mod state;
mod state_digest;
mod streams;
#[cfg(test)]
mod tests;

use corelane_storage::device::Done;

use crate::interest::{Captured, Target};
use crate::types::Timestamp;
pub use apply::APPLY_ITEMS;
pub use effects::{Outgoing, ShardEffects, StreamPlacement};
use groups::{GroupName, Pipeline};
pub use jobs::STEP_VISITS as JOB_VISITS;
pub use live_audit::{Audited, LiveAudit};
pub use mailbox::ShardMessage;
pub use recovery::Opened;
pub use state::Shard;
pub use state::options::{CheckpointOptions, ShardOptions, SortOptions};
pub use state_digest::StateDigest;

impl Shard {
    /// A message for one of the shard's streams, or a request.
    pub fn capture(&mut self, now: Timestamp, m: &Captured<'_>) {
        self.note_load(now);
        match m.target {
            _ if self.lifecycle.stopping.is_some() => {
                self.owe_credit(m.target.credit(m.subject), m.origin, m.credit_bytes);
            }
            Target::Stream { stream, .. } => self.publish(now, stream, m),
            _ => self.request(m),
        }
    }

    /// A device operation is over.
    pub fn disk_done(&mut self, done: Done) {
        match self.log.complete(done, &mut self.device.ops, &mut self.groups) {
            Ok(progress) => {
                self.groups.take_sealed(&mut self.log);
                if let Some(read) = progress.read {
                    self.device.reads_over.push(read);
                }
                if let Some(id) = progress.checkpoint {
                    self.checkpoint.durable(id);
                }
            }
            Err(failure) => self.device.failure = Some(failure.message),
        }
    }

    /// A turn begins, which may have several steps. The reactor hosts `shards` shards in all.
    /// Nothing keeps the background work of one that is `favoured` from going on.
    pub fn begin_turn(&mut self, shards: usize, favoured: bool) {
        self.tally.units_max = self.tally.units_max.max(self.turn.spent());
        self.turn = budget::TurnBudget::share(shards, favoured);
        self.parked.turn_visits = streams::parked::TURN_VISITS;
    }

    /// Lets things take effect: after the inputs of a turn, and again after what they led to.
    pub fn step(&mut self, now: Timestamp, out: &mut impl ShardEffects) {
        if let Some(failure) = self.device.failure.take() {
            out.fatal(&failure);
            return;
        }
        self.tally.steps += 1;
        self.log.tick(now.0, &mut self.device.ops);
        self.reads_are_over(out);
        self.run_decisions();
        self.apply(now, out);
        self.run_requests(now, out);
        if self.lifecycle.stopping.is_none() {
            self.run_jobs(now, out);
        }
        if self.delivers() {
            self.serve_consumers(now, out);
        }
        self.report_usage(out);
        self.record_acknowledgements();
        if self.lifecycle.stopping != Some(true) {
            self.step_checkpoint(now);
            self.job_checkpoint_went_on();
        }
        if self.lifecycle.stopping.is_none() {
            self.step_reclaim(now);
            self.step_sort(now);
        }
        self.record_stop();
        self.return_credit(out);
        self.log.seal(&mut self.device.ops, &mut self.groups);
        self.groups.take_sealed(&mut self.log);
    }

    /// When `step` has something to do although nothing comes in.
    pub fn deadline(&self) -> Option<Timestamp> {
        if self.lifecycle.stopping.is_some() {
            return self.log.deadline().map(Timestamp);
        }
        let log = self.log.deadline().map(Timestamp);
        let checkpoint = self.checkpoint_deadline();
        let reclaim = self.reclaim_deadline();
        let (consumers, jobs) = (self.consumers_deadline(), self.jobs_deadline());
        let apply = self.groups.iter().filter_map(Pipeline::retry_at).min();
        let mut next = [log, consumers, jobs, checkpoint, reclaim, self.sort_deadline(), apply];
        next.sort_unstable();
        next.into_iter().flatten().min()
    }

    /// True if `step` would go on at once, where there is room for messages to be sent.
    pub fn has_work(&self, room: bool) -> bool {
        (room || self.lifecycle.stopping.is_some()) && self.requests_are_ready()
            || self.groups.iter().any(Pipeline::is_due)
            || self.log.reads_are_stalled()
            || self.consumers.deltas.wait
            || room && self.delivers() && !self.consumers.active.is_empty()
            || self.lifecycle.stopping.is_none() && (self.jobs_are_ready() || self.can_swap())
            || self.lifecycle.stopping != Some(true) && self.checkpoint_is_ready()
    }

    fn delivers(&self) -> bool {
        self.lifecycle.stopping.is_none() && self.log.durable() >= self.lifecycle.begun
    }

    /// The server goes away: waiting pulls are ended, so that clients ask elsewhere.
    pub fn shut_down(&mut self, out: &mut impl ShardEffects) {
        let slots: Vec<usize> = self.slots.values().copied().collect();
        for slot in slots {
            let all: Vec<usize> = self.streams[slot].consumers.by_name.values().copied().collect();
            for at in all {
                self.with_consumer(slot, at, out, |c, sink| c.shutdown(sink));
            }
        }
        self.log.request_flush();
        self.checkpoint.wanted = true;
        self.lifecycle.stopping.get_or_insert(false);
    }

    /// Once all that consumers owe the log is in it, a last record says that nothing is missing:
    /// the next start need not guess what was delivered after.
    fn record_stop(&mut self) {
        if self.lifecycle.stopping == Some(false)
            && self.requests.inbox.is_empty()
            && self.requests.reading.is_empty()
            && self.checkpoint.is_idle()
        {
            // Without room for it, or for what consumers owe, the next start takes this for a
            // crash, which is safe.
            if self.consumers.deltas.of(GroupName::File).dirty.is_empty() {
                let _ = self.append_local(records::kind::STOPPED, 0);
            }
            self.log.request_flush();
            self.lifecycle.stopping = Some(true);
        }
    }

    /// After a start from a log that ended in order: what is delivered from now on may be more than
    /// the log knows, and must not be taken for nothing after a crash.
    fn record_begin(&mut self) {
        let begun = records::BEGUN;
        if self.lifecycle.stopped_clean && self.append_local(records::kind::STOPPED, begun).is_ok()
        {
            self.lifecycle.begun = self.log.appended();
            self.log.request_flush();
        }
    }

    /// True once a shard that was shut down has nothing under way any more.
    pub fn is_at_rest(&self) -> bool {
        self.lifecycle.stopping == Some(true)
            && self.groups.iter().all(|g| g.is_idle() || g.retry_at().is_some())
            && self.log.durable() >= self.log.appended()
    }
}
