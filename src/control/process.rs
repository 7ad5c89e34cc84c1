//! What the kernel tells about this process.

use std::time::Instant;

/// The kernel's unit of CPU time in `/proc`, which is fixed for user space.
const TICKS_PER_SECOND: f64 = 100.0;
/// The page size of `/proc/self/statm` on the architectures that we build for.
const PAGE_BYTES: u64 = 4096;

/// Memory and CPU of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// Resident bytes.
    pub memory_bytes: u64,
    /// CPU since the last look, in percent of one CPU.
    pub cpu_percent: f64,
    /// CPU since the start, in seconds.
    pub cpu_seconds: f64,
}

/// Looks at the process from time to time.
pub(super) struct Meter {
    at: Instant,
    cpu_seconds: f64,
    percent: f64,
}

impl Meter {
    pub(super) fn new() -> Meter {
        Meter { at: Instant::now(), cpu_seconds: cpu_seconds(), percent: 0.0 }
    }

    pub(super) fn read(&mut self) -> Usage {
        let (now, cpu) = (Instant::now(), cpu_seconds());
        let seconds = now.duration_since(self.at).as_secs_f64();
        // In less than a second there are too few ticks to divide.
        if seconds >= 1.0 {
            self.percent = (cpu - self.cpu_seconds) / seconds * 100.0;
            (self.at, self.cpu_seconds) = (now, cpu);
        }
        let memory_bytes = memory_bytes();
        Usage { memory_bytes, cpu_percent: self.percent, cpu_seconds: cpu }
    }
}

fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}

fn cpu_seconds() -> f64 {
    cpu_ticks(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default()) / TICKS_PER_SECOND
}

/// User and system time in the text of `/proc/self/stat`. The name in brackets may hold blanks.
fn cpu_ticks(stat: &str) -> f64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields.filter_map(|n| n.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_an_odd_name() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1";
        assert_eq!(cpu_ticks(stat), 300.0);
        assert_eq!(cpu_ticks(""), 0.0);
    }

    #[test]
    fn this_process_takes_memory() {
        assert!(Meter::new().read().memory_bytes > 0);
    }
}
