//! The doorbell: one word that tells producers whether a reactor sleeps. The ordering argument is
//! in the crate's docs, point 2.
//!
//! ```text
//! consumer                                   producer
//!   announce_sleep   AWAKE -> SLEEPING         push to a lane
//!   look at the lanes                          must_wake   SLEEPING -> RUNG: wake it
//!     nothing: sleep in the kernel                         anything else: it knows, or looks
//!   wake_up          any   -> AWAKE
//! ```

use crate::sync::{AtomicU32, Ordering, fence};

const AWAKE: u32 = 0;
const SLEEPING: u32 = 1;
const RUNG: u32 = 2;

/// The doorbell of one reactor.
#[derive(Debug)]
pub struct Doorbell(AtomicU32);

impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}

impl Doorbell {
    /// A doorbell of a reactor that is awake.
    pub fn new() -> Self {
        Self(AtomicU32::new(AWAKE))
    }

    /// The owner says that it is about to sleep. It must now look at all its lanes once more, and
    /// sleep only if there is nothing; either way it calls [`wake_up`](Self::wake_up) afterwards.
    pub fn announce_sleep(&self) {
        self.0.store(SLEEPING, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The owner is up. Returns whether somebody rang: then a wake-up is on its way or has arrived,
    /// and the owner must expect it (a completion, a count of an eventfd).
    pub fn wake_up(&self) -> bool {
        self.0.swap(AWAKE, Ordering::Relaxed) == RUNG
    }

    /// A neighbour calls this after it has pushed (or has freed slots that the owner waits for):
    /// `true` exactly once per sleep, and then that neighbour must wake the owner.
    #[must_use = "the sleeper relies on being woken"]
    pub fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) == SLEEPING
            && self.0.compare_exchange(SLEEPING, RUNG, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
