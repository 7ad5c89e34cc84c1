//! What must add up inside the node at rest, where no client sees it: publishing credit is home,
//! and the live bytes of segments are those of what lives in them.

use corelane::shard::{Audited, LiveAudit};
use corelane::turn::Leftovers;
use corelane::types::{CREDIT_KINDS, ShardId};
use corelane_storage::log::SegmentUse;

use crate::runner::Runner;
use crate::tally::Rare;

/// Checkpoints after which what was dead before them must be free.
const MADE: u64 = 3;
/// How long they may take at rest, in nanoseconds.
const FREED_AFTER: i64 = 4_000_000_000;
/// Looks at what a shard keeps, a millisecond apart, until one finds nothing.
const PASSES: usize = 2_000;
/// Turns in which a recount must come to its end.
const TURNS_MAX: usize = 5_000;

impl Runner {
    /// To be called at rest.
    pub fn check_books(&mut self) -> Result<(), String> {
        if self.rotten || self.isolated {
            return Ok(());
        }
        self.check_credit()?;
        self.check_footprint()?;
        self.check_memory()?;
        self.check_live_bytes().map(|_| ())
    }

    /// Nobody publishes or asks, so nobody owes credit: what is on its way home comes there.
    fn check_credit(&mut self) -> Result<(), String> {
        for _ in 0..PASSES {
            if self.credit_is_home().is_ok() {
                return Ok(());
            }
            self.pump(self.world.now + 1_000_000)?;
        }
        self.credit_is_home()
    }

    fn credit_is_home(&self) -> Result<(), String> {
        for (id, r) in self.world.reactors.iter().enumerate() {
            let Some(r) = r else { continue };
            let all = (0..self.world.plan.shards).flat_map(|s| CREDIT_KINDS.map(|kind| (kind, s)));
            for (kind, shard) in all {
                let taken = r.core.credit_taken(kind, ShardId(shard));
                if taken > 0 {
                    return Err(format!(
                        "reactor {id} misses {taken} bytes of {kind:?} credit at shard {shard}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Nothing is under way, so nothing is kept for it. Push consumers go on: what they need
    /// passes.
    fn check_footprint(&mut self) -> Result<(), String> {
        let held = |r: &Self| {
            let reactors = r.world.reactors.iter().flatten();
            reactors.flat_map(|r| r.core.footprints()).find(|f| f.of_requests() > 0)
        };
        for _ in 0..PASSES {
            if held(self).is_none() {
                return Ok(());
            }
            self.pump(self.world.now + 1_000_000)?;
        }
        match held(self) {
            Some(footprint) => Err(format!("at rest, a shard keeps {footprint:?}")),
            None => Ok(()),
        }
    }

    /// At rest, all clients and strangers go away: nothing is kept for any of them.
    pub fn everybody_leaves(&mut self) -> Result<(), String> {
        if self.rotten || self.isolated || !self.world.plan.later.leaving {
            return Ok(());
        }
        self.leave_all();
        let left = |r: &Self| {
            let reactors = r.world.reactors.iter().flatten();
            reactors.map(|r| r.core.leftovers()).find(|left| *left != Leftovers::default())
        };
        for _ in 0..PASSES {
            if left(self).is_none() {
                self.check_credit()?;
                self.world.tally.add(Rare::EverybodyLeft);
                return self.connect_all().and_then(|()| self.rest());
            }
            self.pump(self.world.now + 1_000_000)?;
        }
        Err(format!("everybody left, and a reactor keeps {:?}", left(self)))
    }

    /// Recounts every segment. Answers the closed ones that hold nothing, with their shards.
    fn check_live_bytes(&mut self) -> Result<Vec<(usize, SegmentUse)>, String> {
        let reactors = usize::from(self.world.plan.reactors);
        let mut dead = Vec::new();
        for shard in 0..usize::from(self.world.plan.shards) {
            let found = self.recount(shard % reactors, shard / reactors)?;
            dead.extend(found.into_iter().map(|s| (shard, s)));
        }
        self.world.tally.add(Rare::LiveAudit);
        Ok(dead)
    }

    fn recount(&mut self, reactor: usize, position: usize) -> Result<Vec<SegmentUse>, String> {
        let mut audit = LiveAudit::default();
        for _ in 0..TURNS_MAX {
            let Some(r) = &mut self.world.reactors[reactor] else { break };
            match r.core.audit_live(position, &mut audit)? {
                Audited::Done(dead) => return Ok(dead),
                Audited::Waiting => {
                    self.world.wake(reactor);
                    self.pump(self.world.now + 1_000_000)?;
                }
            }
        }
        Err(format!("a recount of reactor {reactor} has no end"))
    }

    /// What is dead is freed with the checkpoints that follow.
    pub fn check_dead_segments(&mut self) -> Result<(), String> {
        if self.rotten || self.isolated {
            return Ok(());
        }
        let first = self.check_live_bytes()?;
        let (begun, until) = (self.checkpoints(), self.world.now + FREED_AFTER);
        let mut dead = first.clone();
        // A shard that is never idle makes checkpoints as its log grows: that can take long.
        while !dead.is_empty() && self.world.now < until {
            self.nudge()?;
            self.pump(self.world.now + FREED_AFTER / 4)?;
            let now = self.check_live_bytes()?;
            dead.retain(|found| now.contains(found));
            let made = self.checkpoints();
            let late = |(shard, _): &&(usize, SegmentUse)| made[*shard] >= begun[*shard] + MADE;
            if let Some((shard, segment)) = dead.iter().find(late) {
                return Err(format!("shard {shard}: {segment:?} is dead and is not freed"));
            }
        }
        Ok(())
    }

    /// Checkpoints that were made, by shard.
    fn checkpoints(&self) -> Vec<u64> {
        let mut made = vec![0; usize::from(self.world.plan.shards)];
        for r in self.world.reactors.iter().flatten() {
            for report in r.core.report().shards {
                made[usize::from(report.shard)] = report.checkpoints;
            }
        }
        made
    }

    /// A little goes through the logs: what the last checkpoint left behind goes with the next.
    fn nudge(&mut self) -> Result<(), String> {
        for nth in 0..2 * self.world.plan.shards {
            let config = format!(
                "{{\"name\":\"NUDGE{nth}\",\"subjects\":[\"nudge.{nth}\"],\"storage\":\"file\",\
                 \"retention\":\"limits\",\"num_replicas\":1}}"
            );
            self.ask(&format!("$JS.API.STREAM.CREATE.NUDGE{nth}"), &config)?;
        }
        for nth in 0..2 * self.world.plan.shards {
            self.ask(&format!("$JS.API.STREAM.DELETE.NUDGE{nth}"), "")?;
        }
        Ok(())
    }
}
