//! How often rare things happened: a simulator that never sees them proves nothing.

use crate::effort::Worst;

/// A rare thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Rare {
    Crash,
    Kill,
    ShutDown,
    CrashInRecovery,
    TornWrite,
    FlushesAtCrash,
    RingFull,
    HeldUp,
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
    Topic,
    LookedCloser,
    MemoryStream,
    Push,
    RotFound,
    Checkpoint,
    Relocation,
    Sorted,
    Recycled,
    Updated,
    AskedTwice,
    Ephemeral,
    EphemeralGone,
    Ordered,
    OrderedAgain,
    Group,
    Tuned,
    FlushFailed,
    ConsumerRefused,
    Crowd,
    ReadAndRemoved,
    LastId,
    TornSuperblock,
    LongSuperblock,
    SuperblockRot,
    WriteFailed,
    OneFlushFailed,
    ColdWriteFailed,
    ReadFailed,
    PageRead,
    LiveAudit,
    WindowPages,
    PowerCut,
    PowerCutLost,
    RefusedAgain,
    PullWaits,
    PullEnded,
    CrashAfterStop,
    Pinged,
    Stale,
    ClockSet,
    Replayed,
    NotRead,
    EverybodyLeft,
    PassedThrough,
    DescriptorAwaited,
    SuperblockHalf,
    HeldUpFull,
    PagesFilled,
    PageReadFailed,
}

/// All of them.
pub const ALL: [Rare; 76] = [
    Rare::Crash,
    Rare::Kill,
    Rare::ShutDown,
    Rare::CrashInRecovery,
    Rare::TornWrite,
    Rare::FlushesAtCrash,
    Rare::RingFull,
    Rare::HeldUp,
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
    Rare::Topic,
    Rare::LookedCloser,
    Rare::MemoryStream,
    Rare::Push,
    Rare::RotFound,
    Rare::Checkpoint,
    Rare::Relocation,
    Rare::Sorted,
    Rare::Recycled,
    Rare::Updated,
    Rare::AskedTwice,
    Rare::Ephemeral,
    Rare::EphemeralGone,
    Rare::Ordered,
    Rare::OrderedAgain,
    Rare::Group,
    Rare::Tuned,
    Rare::FlushFailed,
    Rare::ConsumerRefused,
    Rare::Crowd,
    Rare::ReadAndRemoved,
    Rare::LastId,
    Rare::TornSuperblock,
    Rare::LongSuperblock,
    Rare::SuperblockRot,
    Rare::WriteFailed,
    Rare::OneFlushFailed,
    Rare::ColdWriteFailed,
    Rare::ReadFailed,
    Rare::PageRead,
    Rare::LiveAudit,
    Rare::WindowPages,
    Rare::PowerCut,
    Rare::PowerCutLost,
    Rare::RefusedAgain,
    Rare::PullWaits,
    Rare::PullEnded,
    Rare::CrashAfterStop,
    Rare::Pinged,
    Rare::Stale,
    Rare::ClockSet,
    Rare::Replayed,
    Rare::NotRead,
    Rare::EverybodyLeft,
    Rare::PassedThrough,
    Rare::DescriptorAwaited,
    Rare::SuperblockHalf,
    Rare::HeldUpFull,
    Rare::PagesFilled,
    Rare::PageReadFailed,
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
    /// The most that handlers did.
    pub worst: Worst,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            counts: [0; ALL.len()],
            ops: 0,
            acked: 0,
            delivered: 0,
            audited: 0,
            worst: Worst::default(),
        }
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
        self.worst.join(&one.worst);
    }
}
