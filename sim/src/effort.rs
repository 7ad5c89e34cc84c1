//! Handlers stay within their budgets: what each did in one go, as counted where it was done, and
//! how many steps a turn took. The bounds are stated here once more, so that nobody changes one by
//! accident. No time is measured.

use corelane::shard::budget::{HANDLERS, Handler, TURN_UNITS, Work, WorkTally};
use corelane::turn::Core;

/// Steps that a shard makes in one turn at most: rounds of a turn, after the inputs and after each
/// piece of parked bytes.
const STEPS_MAX: u64 = 4 * 5;

/// Units of its budget that a shard spends in a turn at most: the last thing it does and one step
/// of each kind of background work may go beyond what is allowed. A delivery of the largest message
/// takes 4,096, a step of copying half of that.
const UNITS_MAX: u32 = TURN_UNITS + 6_144;

const NONE: Work = Work { jobs: 0, requests: 0, removed: 0, sent: 0, visited: 0, written: 0 };

/// The most that a handler may do in one go.
fn bound(handler: Handler) -> Work {
    match handler {
        // A scan that ends in the middle of its budget has done what it was allowed.
        Handler::Drive => Work { sent: 512, visited: 8_192, ..NONE },
        // What removes messages visits an index entry for each.
        Handler::Job => Work { jobs: 1, removed: 500, ..NONE },
        Handler::Jobs => Work { jobs: 4, removed: 2_000, ..NONE },
        // A record of a purge, a deleted message, the first step of an eviction, the jobs that
        // follow a new consumer.
        Handler::Change => Work { jobs: 4, removed: 2_500, ..NONE },
        Handler::Limits => Work { removed: 250, ..NONE },
        Handler::Requests => Work { requests: 256, ..NONE },
        // A step ends behind the record that spends its last byte.
        Handler::Checkpoint => Work { written: (192 + 72) << 10, ..NONE },
        Handler::Copy => Work { written: (64 << 10) + (1 << 20), ..NONE },
    }
}

fn fields(w: &Work) -> [(&'static str, u64); 6] {
    [
        ("jobs", w.jobs),
        ("requests", w.requests),
        ("removed", w.removed),
        ("sent", w.sent),
        ("visited", w.visited),
        ("written", w.written),
    ]
}

fn most(a: &Work, b: &Work) -> Work {
    Work {
        jobs: a.jobs.max(b.jobs),
        requests: a.requests.max(b.requests),
        removed: a.removed.max(b.removed),
        sent: a.sent.max(b.sent),
        visited: a.visited.max(b.visited),
        written: a.written.max(b.written),
    }
}

/// What was done, and what was done since `before`.
fn sum(done: &Work, now: &Work, before: &Work) -> Work {
    Work {
        jobs: done.jobs + now.jobs - before.jobs,
        requests: done.requests + now.requests - before.requests,
        removed: done.removed + now.removed - before.removed,
        sent: done.sent + now.sent - before.sent,
        visited: done.visited + now.visited - before.visited,
        written: done.written + now.written - before.written,
    }
}

/// The worst that was seen.
#[derive(Clone, Debug, Default)]
pub struct Worst {
    handlers: [Work; HANDLERS.len()],
    /// Of all shards of a reactor in one turn.
    turn: Work,
    steps: u64,
    /// Of the budget of a turn.
    units: u32,
    /// Requests that a reactor's shards held after a turn.
    requests: usize,
}

impl Worst {
    /// Adds what others saw.
    pub fn join(&mut self, other: &Worst) {
        for (mine, others) in self.handlers.iter_mut().zip(&other.handlers) {
            *mine = most(mine, others);
        }
        self.turn = most(&self.turn, &other.turn);
        self.steps = self.steps.max(other.steps);
        self.units = self.units.max(other.units);
        self.requests = self.requests.max(other.requests);
    }

    /// What the shards of a reactor had done before its turn: steps, and work.
    pub fn before(core: &Core) -> Vec<(u64, Work)> {
        core.efforts().map(|e| (e.steps, e.work)).collect()
    }

    /// Looks at a reactor after its turn.
    pub fn look(&mut self, core: &Core, before: &[(u64, Work)]) -> Result<(), String> {
        let mut turn = NONE;
        for (effort, (steps, work)) in core.efforts().zip(before) {
            let made = effort.steps - steps;
            self.steps = self.steps.max(made);
            if made > STEPS_MAX {
                return Err(format!("a turn took {made} steps"));
            }
            self.units = self.units.max(effort.units_max);
            if effort.units_max > UNITS_MAX {
                return Err(format!("a turn spent {} units", effort.units_max));
            }
            turn = sum(&turn, &effort.work, work);
            self.look_at(effort)?;
        }
        self.turn = most(&self.turn, &turn);
        let requests = core.footprints().map(|f| f.requests).sum();
        self.requests = self.requests.max(requests);
        Ok(())
    }

    fn look_at(&mut self, effort: &WorkTally) -> Result<(), String> {
        for handler in HANDLERS {
            let did = effort.most(handler);
            let worst = &mut self.handlers[handler as usize];
            if did == *worst {
                continue;
            }
            *worst = most(worst, &did);
            let allowed = fields(&bound(handler));
            for ((what, n), (_, most)) in fields(&did).into_iter().zip(allowed) {
                if n > most {
                    return Err(format!("{handler:?} went beyond its budget: {n} {what}"));
                }
            }
        }
        Ok(())
    }

    /// A line for each handler, and one for turns.
    pub fn lines(&self) -> Vec<String> {
        let turn = fields(&self.turn).map(|(what, n)| format!("{n} {what}"));
        let mut lines = vec![
            format!("a turn: {} steps (of {STEPS_MAX})", self.steps),
            format!("a turn: {} units (of {UNITS_MAX})", self.units),
            format!("a turn of all shards: {}", turn.join(", ")),
            format!("held after a turn: {} requests", self.requests),
        ];
        for handler in HANDLERS {
            let (did, allowed) = (fields(&self.handlers[handler as usize]), bound(handler));
            let parts = did.into_iter().zip(fields(&allowed)).filter(|(_, (_, most))| *most > 0);
            let parts: Vec<String> =
                parts.map(|((what, n), (_, most))| format!("{n} {what} (of {most})")).collect();
            lines.push(format!("{handler:?}: {}", parts.join(", ")));
        }
        lines
    }
}
