//! The wall clock, read once a turn and never running backwards.

use crate::types::Timestamp;

/// A monotonic wall clock.
#[derive(Default)]
pub struct Clock {
    last: i64,
}

impl Clock {
    /// The time now; at least as late as any time told before.
    pub fn now(&mut self) -> Timestamp {
        let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `ts` is a valid timespec to write to.
        unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut ts) };
        self.last = self.last.max(ts.tv_sec * 1_000_000_000 + ts.tv_nsec);
        Timestamp(self.last)
    }
}
