//! The machine's wall clock. In some seeds it drifts, and is set back and forth while the node
//! runs; whenever a node starts it is right. The steady clock is the world's time.
//!
//! It is drawn apart: seeds in which it is right stay what they were.

use corelane::types::{Clocks, Timestamp, WallTime};
use corelane_storage::device::sim::SimRng;

/// Sets these choices apart.
const WALL: u64 = 0x3a11_c10c_0000;

/// Seeds, per million, in which the wall clock is not right.
const WRONG_PPM: u32 = 250_000;
/// Turns, per million, before which it is set.
const SET_PPM: u32 = 400;
/// By how much it is set at most, in nanoseconds.
const SET_BY: [u64; 5] = [5_000_000, 300_000_000, 5_000_000_000, 60_000_000_000, 3_600_000_000_000];

/// See the module.
pub struct WallClock {
    rng: SimRng,
    /// It is not always right.
    wrong: bool,
    /// Nanoseconds by which it gains on the steady clock in a millisecond.
    drift: i64,
    /// By how much it is ahead without its drift.
    set: i64,
    /// When it was set last, or the node started.
    since: i64,
    /// It has been wrong at some time.
    was_wrong: bool,
    /// What was stored before this moment of the world may be older or younger than a later life
    /// of the node takes it for.
    pub unsure_before: i64,
    /// When it was set forwards after it had been already, both beyond all that it had shown.
    pub leapt: i64,
    /// By how much it was ahead at most, since the node started.
    most: i64,
}

impl WallClock {
    /// The clock of a seed.
    pub fn new(seed: u64) -> WallClock {
        let mut rng = SimRng::new(seed ^ WALL);
        let wrong = rng.chance(WRONG_PPM);
        let drift = if rng.chance(500_000) { rng.below(1_000) as i64 - 500 } else { 0 };
        let (was_wrong, unsure_before) = (false, 0);
        let (set, since, leapt, most) = (0, 0, 0, 0);
        WallClock { rng, wrong, drift, set, since, was_wrong, unsure_before, leapt, most }
    }

    /// The node starts.
    pub fn start(&mut self, now: i64) -> Clocks {
        (self.set, self.since, self.most) = (0, now, 0);
        if self.was_wrong {
            self.unsure_before = now;
        }
        Clocks::level(Timestamp(now))
    }

    /// A turn begins. Whether the clock was set before it is told, too.
    pub fn look(&mut self, now: i64) -> (Clocks, bool) {
        let mut clocks = Clocks::level(Timestamp(now));
        if !self.wrong {
            return (clocks, false);
        }
        self.was_wrong = true;
        let is_set = self.rng.chance(SET_PPM);
        if is_set {
            let most = SET_BY[self.rng.below(SET_BY.len() as u64) as usize];
            let by = self.rng.below(most) as i64;
            self.since = now;
            self.set = if self.rng.chance(500_000) { by } else { -by };
            if self.most > 0 && self.set > self.most {
                self.leapt = now;
            }
            self.most = self.most.max(self.set);
        }
        let drifted = (now - self.since) / 1_000_000 * self.drift;
        clocks.wall = WallTime(now + self.set + drifted);
        (clocks, is_set)
    }
}
