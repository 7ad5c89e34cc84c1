//! A full disk, and the flush pipeline's limits.

use crate::world::{World, stamper};
use corelane_storage::device::sim::{SimFaults, SimRng};
use corelane_storage::device::{Blocking, File, Op};
use corelane_storage::log::{AppendError, LogOptions, SpaceState, SyncPolicy};
use corelane_storage::types::ShardId;

fn world(seed: u64, capacity_bytes: u64, change: impl Fn(&mut LogOptions)) -> World {
    let mut options = LogOptions::small(9, ShardId(1), 2);
    options.segment_bytes = 64 << 10;
    change(&mut options);
    let faults = SimFaults { capacity_bytes, ..SimFaults::default() };
    World::with(SimRng::new(seed), options, faults)
}

fn turn(world: &mut World) {
    let mut ops = Vec::new();
    world.log.tick(world.now, &mut ops);
    world.log.seal(&mut ops, &mut { stamper });
    world.submit(ops);
    let mut ops = Vec::new();
    world.complete_one(&mut ops);
    world.submit(ops);
}

#[test]
fn an_empty_store_is_small_and_asks_for_nothing() {
    let mut world = world(1, u64::MAX, |_| {});
    for _ in 0..10 {
        turn(&mut world);
    }
    assert!(world.disk.list().unwrap().is_empty());
    assert!(world.disk.used_bytes() <= 128 << 10);
    assert_eq!(world.log.deadline(), None);
}

#[test]
fn a_full_disk_refuses_messages_and_takes_metadata() {
    for seed in 0..50 {
        let mut world = world(seed, 1 << 20, |_| {});
        let mut refused = None;
        for n in 0..10_000 {
            if let Err(e) = world.append(900, false) {
                refused = Some((n, e));
                break;
            }
            if world.rng.below(4) == 0 {
                turn(&mut world);
            }
        }
        let (taken, error) = refused.expect("the disk is full some time");
        assert_eq!(error, AppendError::NoSpace);
        assert_eq!(world.log.space(), SpaceState::Full);
        assert!(taken > 500, "{taken}");
        // All that was taken becomes durable, and metadata goes on: the reserve is for it.
        for _ in 0..40 {
            world.append(900, true).expect("metadata uses the reserve");
            turn(&mut world);
        }
        for _ in 0..200 {
            turn(&mut world);
        }
        assert_eq!(world.durable, world.entries.len());
        // Space returns.
        world.disk.faults.capacity_bytes = 4 << 20;
        world.now += 3_000_000_000;
        for _ in 0..10 {
            turn(&mut world);
        }
        assert_eq!(world.log.space(), SpaceState::Available);
        for _ in 0..200 {
            world.append(900, false).expect("there is space");
            turn(&mut world);
        }
        world.settle();
        world.check_all();
        world.crash();
        world.check_all();
    }
}

#[test]
fn deleting_brings_a_full_disk_back() {
    let mut world = world(3, 1 << 20, |_| {});
    while world.append(900, false).is_ok() {
        turn(&mut world);
    }
    world.settle();
    let mut ops = Vec::new();
    world.checkpoint(&mut ops);
    world.submit(ops);
    world.settle();
    for n in 0..world.entries.len() / 2 {
        let entry = &mut world.entries[n];
        entry.dead = true;
        world.log.mark_dead(entry.at.segment, entry.len);
    }
    let mut ops = Vec::new();
    assert!(world.log.free_dead(&mut ops) > 3);
    world.submit(ops);
    assert_eq!(world.log.space(), SpaceState::Available);
    for _ in 0..50 {
        world.append(900, false).expect("freed segments are used");
        turn(&mut world);
    }
    world.settle();
    world.check_all();
}

/// The next write to a segment, not submitted; everything else goes on. `None` if none comes.
fn next_write(world: &mut World) -> Option<Op> {
    for _ in 0..20 {
        let mut ops = Vec::new();
        world.log.tick(world.now, &mut ops);
        world.log.seal(&mut ops, &mut { stamper });
        let mut write = None;
        for op in ops {
            match op {
                Op::Write { file: File::Segment(_), .. } => assert!(write.replace(op).is_none()),
                other => world.submit(vec![other]),
            }
        }
        if write.is_some() {
            return write;
        }
        let mut ops = Vec::new();
        world.complete_one(&mut ops);
        world.submit(ops);
    }
    None
}

/// Where a write begins, where its data and where its zeroes end.
fn extent(op: &Op) -> (u64, u64, u64) {
    let Op::Write { offset, data, zeroes, .. } = op else { panic!("{op:?}") };
    let end = offset + data.len() as u64;
    (*offset, end, end + *zeroes as u64)
}

#[test]
fn a_small_write_prepares_the_way_for_those_behind_it() {
    let mut world = world(7, u64::MAX, |o| {
        o.writes_in_flight = 4;
        // The first write has the segment's header in it.
        o.extend_write_bytes = 12 << 10;
    });
    world.append(100, false).unwrap();
    let first = next_write(&mut world).expect("a write");
    let (_, mut end, prepared) = extent(&first);
    assert!(prepared > end && prepared % world.options.extend_bytes as u64 == 0);
    world.append(100, false).unwrap();
    assert!(next_write(&mut world).is_none(), "the next one lies in the zeroes of the first");
    world.submit(vec![first]);
    let mut ops = Vec::new();
    world.complete_one(&mut ops);
    world.submit(ops);
    while end < prepared {
        world.append(100, false).unwrap();
        let next = next_write(&mut world).expect("a write");
        let (from, data, zeroes) = extent(&next);
        assert!(from == end && zeroes == data && data <= prepared, "{next:?}");
        end = data;
        world.submit(vec![next]);
    }
    world.append(100, false).unwrap();
    let next = next_write(&mut world).expect("a write");
    let (from, data, zeroes) = extent(&next);
    assert!(from == prepared && zeroes > data, "{next:?}");
    world.submit(vec![next]);
    world.settle();
    world.crash();
    world.check_all();
}

#[test]
fn small_writes_keep_their_distance_and_large_ones_do_not() {
    let gather = 1_000_000;
    let mut world = world(8, u64::MAX, |o| {
        o.gather_ns = gather;
        o.writes_in_flight = 4;
        o.extend_write_bytes = 0;
    });
    world.append(100, false).unwrap();
    let first = next_write(&mut world).expect("a write");
    let issued = world.now;
    world.append(100, false).unwrap();
    let seal = |world: &mut World| {
        let mut ops = Vec::new();
        world.log.tick(world.now, &mut ops);
        world.log.seal(&mut ops, &mut { stamper });
        ops
    };
    assert!(seal(&mut world).is_empty());
    assert_eq!(world.log.deadline(), Some(issued + gather));
    world.now = issued + gather;
    let second = seal(&mut world);
    assert!(matches!(second[..], [Op::Write { .. }]), "{second:?}");
    world.append(world.options.large_write_bytes as u64, false).unwrap();
    let third = seal(&mut world);
    assert!(matches!(third[..], [Op::Write { .. }]), "{third:?}");
    world.submit(vec![first]);
    world.submit(second);
    world.submit(third);
    world.settle();
    world.check_all();
}

#[test]
fn writes_in_flight_and_memory_are_bounded() {
    let mut world = world(4, u64::MAX, |o| o.unflushed_bytes_max = 100_000);
    let mut writes = 0;
    let mut held = Vec::new();
    for _ in 0..10_000 {
        let done = world.append(2_000, false);
        let mut ops = Vec::new();
        world.log.seal(&mut ops, &mut { stamper });
        for op in ops {
            if matches!(op, Op::Write { .. }) {
                writes += 1;
                held.push(op);
            } else {
                world.submit(vec![op]);
            }
        }
        let mut ops = Vec::new();
        world.complete_one(&mut ops);
        world.submit(ops);
        if done == Err(AppendError::Busy) {
            break;
        }
    }
    assert!(world.append(1, false) == Err(AppendError::Busy));
    assert!(writes <= 4, "{writes} writes in flight");
    assert!(world.log.unflushed_bytes() < 120_000);
    assert!(world.append(1, true).is_ok(), "metadata is bounded by the shard");
    world.submit(held);
    world.settle();
    world.check_all();
}

#[test]
fn under_an_interval_what_is_written_may_be_acknowledged_and_flushes_are_rare() {
    let mut world = world(5, u64::MAX, |o| {
        o.sync = SyncPolicy::Interval(50_000_000);
        o.segment_bytes = 4 << 20;
    });
    let mut flushes = 0;
    let mut ahead = 0;
    for _ in 0..2_000 {
        world.append(500, false).unwrap();
        world.now += 100_000;
        let mut ops = Vec::new();
        world.log.tick(world.now, &mut ops);
        world.log.seal(&mut ops, &mut { stamper });
        for op in &ops {
            let flush = matches!(op, Op::Flush { .. });
            flushes += flush as u32;
            if let Op::Write { file: corelane_storage::device::File::Segment(_), flush, .. } = op {
                assert!(!flush);
            }
        }
        world.submit(ops);
        let mut ops = Vec::new();
        world.complete_one(&mut ops);
        world.submit(ops);
        assert_eq!(world.log.acknowledgeable(), world.log.written());
        ahead += (world.log.written() > world.log.durable()) as u32;
    }
    assert!(flushes > 2 && flushes < 40, "{flushes}");
    assert!(ahead > 1_000);
    world.settle();
    world.crash();
    world.check_all();
}

#[test]
fn records_up_to_the_largest_are_taken_and_larger_ones_are_not() {
    let mut world = world(6, u64::MAX, |_| {});
    let block = world.options.block_bytes as u64;
    for size in (block - 9_000..block + 100).step_by(37).chain([3 * block, 1_000_000]) {
        world.append(size, size % 2 == 0).unwrap();
        while world.log.unflushed_bytes() > 300_000 {
            turn(&mut world);
        }
    }
    assert_eq!(world.append(1 << 20, false), Err(AppendError::TooLarge));
    world.settle();
    world.check_all();
    world.crash();
    world.check_all();
}
