//! What the net layer does in one turn at most, over all connections.
//!
//! The unit is about one small delivery (tens of nanoseconds). Who finds it spent goes on in the
//! next turn: a connection behind the operation it had begun, with its input held; a removal of
//! subscriptions where it stopped.

/// Units of a turn.
const TURN: u64 = 65_536;
/// Units that connections which had to wait have for themselves, whatever arrived before them.
const WAITED: u64 = TURN / 4;
/// Units of a message that a shard captures: a publish is checked, its record written.
const CAPTURE: u64 = 12;
/// Units of adding or removing a subscription.
const CHANGE: u64 = 32;
/// Bytes that are copied in the time of a unit.
const UNIT_BYTES: usize = 512;
/// Subscriptions of connections that are gone, or that had their last message, which are removed
/// in a turn.
const REMOVALS: u32 = 4_096;

/// The work of a turn.
#[derive(Debug, Default)]
pub(super) struct Work {
    done: u64,
    removed: u32,
    granted: bool,
}

impl Work {
    /// A message is offered to so many subscriptions and groups.
    #[inline]
    pub fn deliveries(&mut self, count: usize, bytes: usize) {
        self.done += 1 + count as u64 * (1 + (bytes / UNIT_BYTES) as u64);
    }

    /// A shard captures a message of so many bytes: they are copied and summed.
    #[inline]
    pub fn capture(&mut self, bytes: usize) {
        self.done += CAPTURE + 2 * (bytes / UNIT_BYTES) as u64;
    }

    /// A connection adds or removes a subscription.
    pub fn change(&mut self) {
        self.done += CHANGE;
    }

    /// Units that are spent.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// True if connections go on in the next turn.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.done >= TURN
    }

    /// Leaves something for connections that waited, once a turn.
    pub fn grant(&mut self) {
        if !std::mem::replace(&mut self.granted, true) {
            self.done = self.done.min(TURN - WAITED);
        }
    }

    /// Counts a removal. False if the turn has no more of them.
    pub fn remove(&mut self) -> bool {
        let more = self.removed < REMOVALS;
        self.removed += u32::from(more);
        more
    }
}
