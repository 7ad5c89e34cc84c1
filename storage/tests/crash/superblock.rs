//! Starts that stop one after the other, each in the middle of writing the superblock.

use crate::world::{Cut, World, stamper};
use corelane_storage::device::File;
use corelane_storage::device::sim::{SimFaults, SimRng};
use corelane_storage::log::LogOptions;
use corelane_storage::recovery::{Recovery, open};
use corelane_storage::superblock::{SUPERBLOCK_COPY_BYTES, Superblock};
use corelane_storage::types::ShardId;

/// Generations of which a superblock tells that is longer than a sector.
const LIVES: u64 = 20;
/// Operations on the superblock before its first write: its length, a flush and a read.
const BEFORE: u64 = 3;
/// Writes and flushes of the two copies.
const WRITES: u64 = 4;

fn world(seed: u64) -> World {
    let faults = SimFaults { torn_ppm: 1_000_000, ..SimFaults::default() };
    let mut world = World::with(SimRng::new(seed), LogOptions::small(9, ShardId(1), 2), faults);
    for _ in 0..LIVES {
        world.append_some();
        let mut ops = Vec::new();
        world.log.seal(&mut ops, &mut { stamper });
        world.submit(ops);
        world.settle();
        world.disk.crash();
        world.recover(true);
    }
    world
}

#[test]
#[cfg_attr(miri, ignore = "it takes minutes")]
fn one_copy_is_whole_whenever_starts_stop() {
    for seed in 0..60 {
        let mut world = world(seed);
        let copy = world.disk.durable(File::Superblock, 0, SUPERBLOCK_COPY_BYTES as usize);
        let length = Superblock::decode(copy).map_or(0, |s| s.length());
        assert!(length > 512, "a copy of {length} bytes cannot be torn");
        for nth in 0..12 {
            let left = BEFORE + world.rng.below(WRITES);
            let mut cut = Cut { disk: &mut world.disk, left, of: Some(File::Superblock) };
            let Err(why) = open(&mut cut, world.options.clone(), world.rng.bits(), |_| {}) else {
                panic!("seed {seed}: it did not stop");
            };
            assert!(why.to_string().contains("stopped"), "seed {seed}, start {nth}: {why}");
            // The machine, or the process alone: its writes are not on the medium for that.
            if world.rng.chance(700_000) {
                world.disk.crash();
            } else {
                world.disk.kill();
            }
        }
        let opened = Recovery::open(&mut world.disk, world.options.clone(), 1);
        assert!(opened.is_ok(), "seed {seed}: {:?}", opened.err());
    }
}
