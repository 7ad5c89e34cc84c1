//! The newest choices of a plan. They are drawn apart, and off in the seeds of `seeds.txt`, so that
//! those stay what they were.

use corelane_storage::device::sim::SimRng;

/// Sets these choices apart.
pub const LATER: u64 = 0x106f_fc90_0000;

/// A page boundary of the sequence map, or of the bitmaps of deleted sequences, lies here.
const BOUNDARIES: [u64; 3] = [4_096, 3 * 4_096, 65_536];

/// What a seed turns on.
#[derive(Clone, Debug, Default)]
pub struct Later {
    /// Single writes, flushes and reads fail.
    pub single_failures: bool,
    /// Streams begin shortly before a page boundary, and nearly no index page stays in memory.
    pub paged: bool,
    /// One stream gets more message ids than a page of the duplicate window holds.
    pub window: bool,
    /// Acknowledged when written, and flushed at most so many nanoseconds later.
    pub sync_interval: Option<i64>,
    /// A write waits so long for company, in nanoseconds.
    pub gather: i64,
    /// Many short lives one after another: the superblock gets longer than a sector.
    pub lives: bool,
    /// Bits of the superblock flip.
    pub superblock_rot: bool,
    /// A publish that was refused is sent once more under its id.
    pub refused_again: bool,
    /// Pull requests wait for longer than their consumer lives without being used.
    pub waiting_pulls: bool,
    /// A crash soon after the start that follows a clean stop.
    pub after_stop: bool,
    /// Idle connections are pinged, and slow readers given up, within a seed.
    pub impatient: bool,
    /// Bytes of requests from a reactor that may wait in a shard, if that is little.
    pub request_credit: Option<u64>,
    /// All connections end, and come back.
    pub leaving: bool,
    /// Updates of streams change their duplicate windows and the size of their messages.
    pub updates: bool,
    /// Many messages pass through streams beside one that stays.
    pub passing: bool,
    /// Files that a shard may have open, if those are few.
    pub descriptors: Option<usize>,
}

impl Later {
    /// The choices of a seed.
    pub fn new(rng: &mut SimRng) -> Later {
        if !rng.chance(500_000) {
            return Later::default();
        }
        let sync_interval =
            rng.chance(200_000).then(|| 2_000_000 + rng.below(1_000_000_000) as i64);
        let mut on = |ppm| rng.chance(ppm);
        let mut later = Later {
            sync_interval,
            single_failures: on(500_000) && sync_interval.is_none(),
            paged: on(400_000),
            window: on(80_000),
            lives: on(150_000) && sync_interval.is_none(),
            superblock_rot: on(120_000) && sync_interval.is_none(),
            refused_again: on(600_000),
            waiting_pulls: on(600_000),
            after_stop: on(600_000),
            impatient: on(400_000),
            gather: if on(250_000) {
                [50_000, 1_000_000, 5_000_000][rng.below(3) as usize]
            } else {
                0
            },
            request_credit: rng.chance(400_000).then(|| 1_024 + rng.below(16 << 10)),
            ..Later::default()
        };
        later.leaving = rng.chance(500_000);
        later.passing = rng.chance(300_000);
        // Who waits for a descriptor does so for as long as another operation takes: then it is
        // not known when a failure must have been seen, or a flush be over.
        let timed = later.single_failures || sync_interval.is_some();
        later.descriptors = rng.chance(300_000).then(|| 1 + rng.below(3) as usize);
        later.descriptors = later.descriptors.filter(|_| !timed);
        later.updates = rng.chance(500_000);
        later
    }

    /// The first sequence of a new stream; 1 where nothing is said.
    pub fn first_seq(&self, rng: &mut SimRng) -> u64 {
        if !self.paged || !rng.chance(800_000) {
            return 1;
        }
        let boundary = BOUNDARIES[rng.below(BOUNDARIES.len() as u64) as usize];
        boundary - rng.below(120)
    }
}
