//! Streams that were written at the same time, and are read one by one.

use corelane_storage::device::sim::SimFaults;

use super::world::{World, options};

const STREAMS: usize = 24;

/// Publishes `count` messages to each of the streams in turn, and waits for the answers.
fn interleave(world: &mut World, from: usize, count: usize) {
    for nth in from..from + count {
        let mut replies = Vec::new();
        for stream in 0..STREAMS {
            let payload = format!("{stream}-{nth}-{}", "p".repeat(150 + (nth * 7 + stream) % 90));
            let (name, subject) = (format!("S{stream}"), format!("s{stream}.x"));
            replies.push(world.publish(&name, &subject, "", &payload));
        }
        while !replies.is_empty() {
            world.turn();
            replies.retain(|reply| world.answer(reply).is_none());
        }
    }
}

fn streams(world: &mut World) {
    for stream in 0..STREAMS {
        world.create(&format!("S{stream}"), "");
    }
}

/// Reads a stream from its start with a consumer of its own; answers how long that took.
fn replay(world: &mut World, stream: usize, count: usize, consumer: &str) -> i64 {
    let name = format!("S{stream}");
    let body = format!(
        r#"{{"stream_name":"{name}","config":{{"name":"{consumer}","deliver_policy":"all",
        "ack_policy":"none","mem_storage":true,"inactive_threshold":60000000000}}}}"#
    );
    let answer = world.request(&format!("CONSUMER.CREATE.{name}.{consumer}"), &name, &body);
    assert!(!answer.contains("\"error\""), "{answer}");
    world.inbox.clear();
    let pull = format!(r#"{{"batch":{count},"expires":60000000000}}"#);
    let to = world.ask(&format!("CONSUMER.MSG.NEXT.{name}.{consumer}"), &name, &pull);
    let begun = world.now.0;
    for _ in 0..100_000 {
        if world.inbox.iter().filter(|m| m.to == to).count() == count {
            for (nth, m) in world.inbox.drain(..).filter(|m| m.to == to).enumerate() {
                assert!(m.payload.starts_with(&format!("{stream}-{nth}-")), "{}", m.payload);
            }
            return world.now.0 - begun;
        }
        world.turn();
    }
    panic!("{} of {count} messages came", world.inbox.len());
}

#[test]
fn scattered_messages_are_read_side_by_side() {
    let mut options = options();
    options.log.read_cache_bytes = 2 << 20;
    let latency = 100_000;
    let faults =
        SimFaults { latency_ns_min: latency, latency_ns_max: latency, ..SimFaults::default() };
    let mut world = World::with_options(21, faults, options);
    streams(&mut world);
    interleave(&mut world, 0, 400);
    world.settle();
    world.crash();
    for stream in 0..STREAMS {
        let took = replay(&mut world, stream, 400, "c");
        // One after the other, ten at a time, they would take 40 times as long as a read.
        assert!(took < 30 * latency, "{took} ns for 400 messages");
    }
}

#[test]
fn reading_ahead_gets_along_with_little_memory() {
    let mut options = options();
    options.log.read_cache_bytes = 64 << 10;
    options.index_cache_bytes = 0;
    let mut world = World::with_options(22, Default::default(), options);
    streams(&mut world);
    interleave(&mut world, 0, 200);
    world.settle();
    world.crash();
    for stream in 0..STREAMS {
        replay(&mut world, stream, 200, "c");
    }
}

/// A shard that sorts soon.
fn sorted_world(seed: u64) -> World {
    let mut options = options();
    options.log.read_cache_bytes = 512 << 10;
    let mut world = World::with_options(seed, SimFaults::default(), options);
    streams(&mut world);
    world
}

fn all_stretches(world: &mut World) -> usize {
    (0..STREAMS).map(|s| world.stretches(&format!("S{s}"))).sum()
}

#[test]
fn interleaved_segments_are_sorted_once() {
    let mut world = sorted_world(23);
    for _ in 0..5 {
        // Publishing goes on: nothing is sorted.
        interleave(&mut world, 0, 200);
        assert_eq!(world.shard().report().sorted, 0);
    }
    // What settles may be sorted meanwhile.
    let scattered = all_stretches(&mut world);
    world.settle();
    let before = world.dump();
    world.wait(10_000_000_000);
    let sorted = world.shard().report().sorted;
    assert!(sorted >= 5, "{sorted} segments were sorted");
    let together = all_stretches(&mut world);
    // All but what lies in the segment that is open.
    assert!(together * 2 < scattered, "{scattered} stretches became {together}");
    assert_eq!(before, world.dump());
    world.check_live();
    // There is nothing more to be sorted, and nothing is kept twice.
    world.wait(10_000_000_000);
    assert_eq!(world.shard().report().sorted, sorted);
    world.settle();
    let (_, live) = world.shard().log.usage();
    let bytes: u64 = world.shard().log.segments().map(|s| s.bytes).sum();
    assert!(bytes < 2 * live, "{live} bytes live in {bytes}");
    for _ in 0..2 {
        world.crash();
        assert_eq!(before, world.dump());
        world.check_live();
        world.wait(10_000_000_000);
    }
    // What was in a segment that was open is sorted by now; what was sorted is left alone.
    let again = world.shard().report().sorted;
    world.wait(10_000_000_000);
    assert_eq!(world.shard().report().sorted, again);
    for stream in 0..STREAMS {
        let name = format!("S{stream}");
        assert!(world.stretches(&name) < 80, "{}", world.stretches(&name));
    }
}

#[test]
fn a_crash_while_sorting_loses_nothing() {
    for seed in 0..20 {
        let mut world = sorted_world(100 + seed);
        let mut stored = 0;
        let mut sorted = 0;
        for round in 0..4 {
            let count = 60 + (seed as usize * 13 + round * 37) % 80;
            interleave(&mut world, stored, count);
            stored += count;
            world.wait(50_000_000 + (seed as i64 * 7 + round as i64 * 31) % 60 * 3_000_000);
            if seed % 3 == 0 {
                world.request("STREAM.PURGE.S1", "S1", &format!(r#"{{"seq":{stored}}}"#));
            }
            let before = world.dump();
            world.check_live();
            sorted += world.shard().report().sorted;
            world.crash();
            assert_eq!(before, world.dump());
            world.check_live();
        }
        world.wait(5_000_000_000);
        sorted += world.shard().report().sorted;
        assert!(sorted > 0, "nothing was sorted with seed {seed}");
        world.check_live();
        for stream in (0..STREAMS).filter(|s| seed % 3 > 0 || *s != 1) {
            replay(&mut world, stream, stored, "c");
        }
    }
}

#[test]
fn streams_that_do_not_interleave_are_left_alone() {
    let mut world = sorted_world(24);
    for stream in 0..STREAMS {
        let (name, subject) = (format!("S{stream}"), format!("s{stream}.x"));
        for nth in 0..300 {
            world.publish(&name, &subject, "", &"p".repeat(200));
            if nth % 20 == 0 {
                world.turn();
            }
        }
    }
    world.settle();
    world.wait(10_000_000_000);
    assert_eq!(world.shard().report().sorted, 0);
}
