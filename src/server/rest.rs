//! When the process comes to rest: then memory that is not in use goes back to the kernel.
//!
//! The allocator gives freed memory back as it works. What was freed last would stay for as long as
//! nothing else is to be done.

use std::time::Duration;

/// How often the process is looked at.
pub const LOOK: Duration = Duration::from_secs(1);
/// Processor time between two looks, in nanoseconds, up to which the process comes to rest, and up
/// to which it stays at rest: giving memory back takes time too.
const REST_CPU_MAX: u64 = 50_000_000;
const RESTING_CPU_MAX: u64 = 200_000_000;
/// Looks at rest that give memory back: buffers that were kept for reuse are freed by and by.
const LOOKS: u32 = 10;

/// How long the process has been at rest.
#[derive(Debug)]
pub struct Rest {
    cpu: u64,
    looks: u32,
}

impl Rest {
    /// Not at rest yet; the process has had `cpu` nanoseconds of processor time.
    pub fn new(cpu: u64) -> Self {
        Rest { cpu, looks: 0 }
    }

    /// One look after `LOOK`. Returns whether memory is to be given back.
    pub fn look(&mut self, cpu: u64) -> bool {
        let most = if self.looks > 0 { RESTING_CPU_MAX } else { REST_CPU_MAX };
        let busy = cpu.saturating_sub(std::mem::replace(&mut self.cpu, cpu)) > most;
        self.looks = if busy { 0 } else { self.looks.saturating_add(1) };
        (1..=LOOKS).contains(&self.looks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_for_some_time_whenever_work_is_over() {
        let mut cpu = 0;
        let mut rest = Rest::new(cpu);
        for _ in 0..3 {
            cpu += RESTING_CPU_MAX + 1;
            assert!(!rest.look(cpu), "at work");
            cpu += REST_CPU_MAX + 1;
            assert!(!rest.look(cpu), "at work");
            let given = (0..100).filter(|_| {
                cpu += 1_000_000;
                rest.look(cpu)
            });
            assert_eq!(given.count(), LOOKS as usize);
        }
    }
}
