//! Streams that were written at the same time, and are read one by one.

use corelane_storage::device::sim::SimFaults;

use super::world::{World, options};

const STREAMS: usize = 12;

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
