//! How often rare things happened: a simulator that never sees them proves nothing.

/// A rare thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Rare {
    Crash,
    Kill,
    CrashInRecovery,
    TornWrite,
    FlushesAtCrash,
    RingFull,
    ReadPaused,
    PartialSend,
    DiskFull,
    Disconnect,
    Refused,
    Duplicate,
    DuplicateAfterRestart,
    UnansweredStored,
    UnansweredLost,
    Evicted,
    Deleted,
    Purged,
    StreamRecreated,
    Redelivered,
    RedeliveredAfterRestart,
    ConsumerJump,
    AckHeld,
    CoreReply,
    MemoryStream,
    Push,
    RotFound,
    Checkpoint,
    Relocation,
    Sorted,
    Recycled,
    Updated,
    AskedTwice,
}

/// All of them.
pub const ALL: [Rare; 33] = [
    Rare::Crash,
    Rare::Kill,
    Rare::CrashInRecovery,
    Rare::TornWrite,
    Rare::FlushesAtCrash,
    Rare::RingFull,
    Rare::ReadPaused,
    Rare::PartialSend,
    Rare::DiskFull,
    Rare::Disconnect,
    Rare::Refused,
    Rare::Duplicate,
    Rare::DuplicateAfterRestart,
    Rare::UnansweredStored,
    Rare::UnansweredLost,
    Rare::Evicted,
    Rare::Deleted,
    Rare::Purged,
    Rare::StreamRecreated,
    Rare::Redelivered,
    Rare::RedeliveredAfterRestart,
    Rare::ConsumerJump,
    Rare::AckHeld,
    Rare::CoreReply,
    Rare::MemoryStream,
    Rare::Push,
    Rare::RotFound,
    Rare::Checkpoint,
    Rare::Relocation,
    Rare::Sorted,
    Rare::Recycled,
    Rare::Updated,
    Rare::AskedTwice,
];

/// Those that cannot happen yet: the code for them is not there.
pub const ABSENT: [Rare; 0] = [];

/// Counts of one seed, or the number of seeds in which each happened.
#[derive(Clone, Debug)]
pub struct Tally {
    counts: [u64; ALL.len()],
    /// Operations of clients.
    pub ops: u64,
    /// Publishes that were acknowledged.
    pub acked: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Messages looked at by the audits.
    pub audited: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Tally { counts: [0; ALL.len()], ops: 0, acked: 0, delivered: 0, audited: 0 }
    }
}

impl Tally {
    /// It happened.
    pub fn add(&mut self, what: Rare) {
        self.counts[what as usize] += 1;
    }

    /// It happened so often.
    pub fn add_many(&mut self, what: Rare, times: u64) {
        self.counts[what as usize] += times;
    }

    /// How often.
    pub fn count(&self, what: Rare) -> u64 {
        self.counts[what as usize]
    }

    /// Adds a seed's: `seeds` counts seeds in which a thing happened, `self` how often.
    pub fn join(&mut self, one: &Tally, seeds: &mut Tally) {
        for (i, n) in one.counts.iter().enumerate() {
            self.counts[i] += n;
            seeds.counts[i] += u64::from(*n > 0);
        }
        self.ops += one.ops;
        self.acked += one.acked;
        self.delivered += one.delivered;
        self.audited += one.audited;
    }
}
