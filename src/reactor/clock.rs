//! The two clocks of a turn.
//!
//! Time that passes is that of `CLOCK_MONOTONIC`, counted from what the wall clock said when the
//! process started: no step of the wall clock moves it. The kernel steers both clocks at one rate,
//! so they differ by a number that changes only when the wall clock is set.

use crate::types::{Clocks, Timestamp, WallTime};

/// A difference that has moved by less is taken for the time between two readings, in nanoseconds.
const TOLERANCE: i64 = 1_000_000;

/// A process's clocks. Reactors have copies, so that their times compare.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What is added to `CLOCK_MONOTONIC`.
    start: i64,
    /// By how much the wall clock is ahead.
    ahead: i64,
}

impl Clock {
    /// Starts the steady clock at the wall clock's time.
    pub fn start() -> Clock {
        let monotonic = read(libc::CLOCK_MONOTONIC);
        Clock { start: read(libc::CLOCK_REALTIME) - monotonic, ahead: 0 }
    }

    /// The steady clock alone.
    pub fn now(&self) -> Timestamp {
        Timestamp(read(libc::CLOCK_MONOTONIC) + self.start)
    }

    /// Both clocks, at the beginning of a turn.
    pub fn look(&mut self) -> Clocks {
        let now = self.now();
        self.follow(now, read(libc::CLOCK_REALTIME))
    }

    fn follow(&mut self, now: Timestamp, wall: i64) -> Clocks {
        let ahead = wall - now.0;
        if (ahead - self.ahead).abs() >= TOLERANCE {
            self.ahead = ahead;
        }
        Clocks { now, wall: WallTime(now.0 + self.ahead) }
    }
}

/// Processor time that the calling thread has used, in nanoseconds. It costs a system call.
pub fn thread_time() -> i64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Nanoseconds of one of the kernel's clocks.
fn read(clock: libc::clockid_t) -> i64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid timespec to write to.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    ts.tv_sec * 1_000_000_000 + ts.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    #[test]
    fn a_step_moves_the_wall_clock_alone() {
        let mut clock = Clock { start: 0, ahead: 0 };
        // The steady time, what the wall clock is ahead by, and what is seen of that.
        for (now, ahead, seen) in [
            (1_000, 0, 0),
            (2_000, 999_999, 0),
            (3_000, -999_999, 0),
            (4_000, HOUR, HOUR),
            (5_000, HOUR - 40, HOUR),
            (6_000, -HOUR, -HOUR),
            (7_000, 0, 0),
        ] {
            let clocks = clock.follow(Timestamp(now), now + ahead);
            assert_eq!(clocks.now, Timestamp(now));
            assert_eq!(clocks.wall, WallTime(now + seen), "at {now}");
        }
    }

    #[test]
    fn the_steady_clock_starts_at_the_wall_clock() {
        let mut clock = Clock::start();
        let first = clock.look();
        let real = read(libc::CLOCK_REALTIME);
        assert!((real - first.now.0).abs() < 60_000_000_000, "{first:?} {real}");
        assert!(clock.look().now >= first.now);
    }
}
