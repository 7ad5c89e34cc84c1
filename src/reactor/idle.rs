//! Keeping the CPUs out of idle states that take long to leave, while clients keep a node busy.
//!
//! A halted CPU takes 10 to 40 µs to wake, in a virtual machine more than the rest of a message's
//! way; a publish wakes one four times or more. Linux lets a process ask for short wake-ups by
//! writing to `/dev/cpu_dma_latency` (see the kernel's `pm_qos_interface`). That costs power, so a
//! reactor asks only while it is spoken to often, and takes it back when that has ended.

use std::fs::File;
use std::io::Write;

use crate::types::Timestamp;

const PATH: &str = "/dev/cpu_dma_latency";
/// The length of a window, in nanoseconds.
const WINDOW: i64 = 1_000_000_000;
/// Receives in a window from which on short wake-ups are asked for.
const BUSY: u32 = 100;
/// Receives in a window below which they are given up.
const QUIET: u32 = 50;
/// What is written for no demand at all, in microseconds.
const ANY: i32 = 2_000_000_000;

/// One reactor's demand for short wake-ups.
pub struct IdleHold {
    file: Option<File>,
    held: bool,
    window_end: Timestamp,
    receives: u32,
}

impl IdleHold {
    /// Asks for nothing yet, and never if `wanted` is false or the system does not let us.
    pub fn new(wanted: bool) -> Self {
        let file = wanted.then(|| File::options().write(true).open(PATH).ok()).flatten();
        let mut hold = IdleHold { file, held: true, window_end: Timestamp(0), receives: 0 };
        // Opening alone already counts as the strictest demand.
        hold.demand(false);
        hold
    }

    /// Something came from a client.
    pub fn received(&mut self) {
        self.receives += 1;
    }

    /// Before each wait.
    pub fn look(&mut self, now: Timestamp) {
        if self.file.is_none() {
            return;
        }
        if self.receives >= BUSY && !self.held {
            self.demand(true);
        }
        if now >= self.window_end {
            if self.receives < QUIET && self.held {
                self.demand(false);
            }
            self.receives = 0;
            self.window_end = now.plus(WINDOW);
        }
    }

    /// When to look again at the latest.
    pub fn deadline(&self) -> Option<Timestamp> {
        (self.held && self.file.is_some()).then_some(self.window_end)
    }

    fn demand(&mut self, short: bool) {
        let Some(file) = &mut self.file else { return };
        let microseconds = if short { 0 } else { ANY };
        if file.write_all(&microseconds.to_ne_bytes()).is_err() {
            self.file = None;
        }
        self.held = short;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_wake_ups_are_asked_for_while_clients_are_busy() {
        let path = std::env::temp_dir().join(format!("corelane-idle-{}", std::process::id()));
        let mut hold = IdleHold::new(false);
        assert_eq!(hold.deadline(), None);
        hold.file = File::create(&path).ok();
        hold.demand(false);
        let mut now = Timestamp(1);
        hold.look(now);
        for _ in 0..BUSY {
            assert!(!hold.held);
            hold.received();
            now = now.plus(1_000);
            hold.look(now);
        }
        assert!(hold.held && hold.deadline() == Some(Timestamp(1).plus(WINDOW)));
        now = now.plus(WINDOW);
        hold.look(now);
        assert!(hold.held, "it was busy in the window that ended");
        hold.received();
        now = now.plus(WINDOW);
        hold.look(now);
        assert!(!hold.held && hold.deadline().is_none());
        let written = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let words: Vec<i32> =
            written.chunks(4).map(|w| i32::from_ne_bytes(w.try_into().unwrap())).collect();
        assert_eq!(words, [ANY, 0, ANY]);
    }
}
