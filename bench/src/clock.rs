//! The clock of a run: nanoseconds since the process first asked.

use std::{sync::OnceLock, time::Instant};

/// Nanoseconds since the start of the process.
pub type Nanos = u64;

/// A second.
pub const SECOND: Nanos = 1_000_000_000;

/// The time now.
#[inline]
pub fn now() -> Nanos {
    static START: OnceLock<Instant> = OnceLock::new();
    // 2^64 nanoseconds are 584 years.
    START.get_or_init(Instant::now).elapsed().as_nanos() as Nanos
}
