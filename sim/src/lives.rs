//! Short lives: many one after another, and a crash soon after the start that follows a clean stop.

use crate::model::Exists;
use crate::runner::Runner;
use crate::tally::Rare;

/// Lives in a row: each leaves the end of its generation in the superblock as long as something of
/// it lives, and 16 of them do not fit into a sector.
const LIVES: u64 = 18;
/// Operations of a life at most.
const OPS: u64 = 12;

impl Runner {
    /// Starts and crashes again and again, with a few operations in each life.
    pub fn short_lives(&mut self) -> Result<(), String> {
        if !self.world.plan.later.lives {
            return Ok(());
        }
        for _ in 0..LIVES + self.later.below(20) {
            let ops = 1 + self.later.below(OPS);
            for _ in 0..ops {
                let client = self.later.below(self.clients.len() as u64) as usize;
                let stream = self.later.below(self.model.streams.len() as u64) as usize;
                match self.model.streams[stream].exists {
                    Exists::Yes => self.publish_new(client, stream),
                    _ => self.operate(),
                }
            }
            let mut gap = self.later.below(8_000_000) as i64;
            if self.world.plan.aimed.lives && self.aims.chance(400_000) {
                self.burst();
                gap = self.aims.below(1_500_000) as i64;
            }
            self.pump(self.world.now + gap)?;
            self.crash();
            self.recover()?;
        }
        Ok(())
    }

    /// After a clean stop and a start, clients get a little done before the node crashes: that the
    /// stop was clean must mean nothing any more.
    pub fn crash_after_stop(&mut self) -> Result<(), String> {
        if !self.world.plan.later.after_stop {
            return Ok(());
        }
        let until = self.world.now + self.later.below(6_000_000) as i64;
        while self.world.now < until {
            let consumers = self.some_consumer(|c| c.deliver.is_empty() && c.ordered.is_none());
            match consumers.filter(|_| self.later.chance(700_000)) {
                Some(consumer) => {
                    let client = self.later.below(self.clients.len() as u64) as usize;
                    let fields = "\"batch\":10,\"no_wait\":true";
                    self.pull_with(client, consumer, (10, None), fields);
                }
                None => self.operate(),
            }
            let gap = self.later.below(600_000) as i64;
            self.pump(self.world.now + gap)?;
        }
        self.world.tally.add(Rare::CrashAfterStop);
        self.crash();
        self.recover()
    }
}
