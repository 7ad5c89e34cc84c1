//! Space: what nobody needs is freed, and a full disk refuses messages and nothing else.

use corelane_storage::device::sim::SimFaults;

use super::world::{World, options};

fn fill(world: &mut World, stream: &str, count: u64, bytes: usize) -> u64 {
    let payload = "p".repeat(bytes);
    let mut stored = 0;
    let mut replies = Vec::new();
    for nth in 0..count {
        let subject = format!("{}.{}", stream.to_lowercase(), nth % 50);
        replies.push(world.publish(stream, &subject, "", &payload));
        if nth % 20 == 0 {
            world.turn();
        }
    }
    for _ in 0..20_000 {
        replies.retain(|reply| match world.answer(reply) {
            Some(answer) => {
                let refused = answer.contains("\"error\"");
                assert!(!refused || answer.contains("10023"), "{answer}");
                stored += u64::from(!refused);
                false
            }
            None => true,
        });
        if replies.is_empty() {
            return stored;
        }
        world.turn();
    }
    panic!("publishes are not answered");
}

fn file_bytes(world: &mut World) -> u64 {
    world.shard().log.segments().map(|s| s.bytes).sum()
}

#[test]
fn mostly_dead_segments_are_compacted() {
    let mut world = World::new(11);
    world.create("A", "");
    assert_eq!(fill(&mut world, "A", 8_000, 400), 8_000);
    world.settle();
    let full = file_bytes(&mut world);
    for subject in 5..50 {
        let body = format!(r#"{{"filter":"a.{subject}"}}"#);
        world.request("STREAM.PURGE.A", "A", &body);
    }
    world.wait(2_000_000_000);
    world.settle();
    world.check_live();
    let left = file_bytes(&mut world);
    assert!(left < full / 3, "{left} of {full} bytes are in use");
    let before = world.dump();
    world.crash();
    assert_eq!(before, world.dump());
    world.check_live();
}

#[test]
fn a_removed_stream_leaves_nothing() {
    let mut world = World::new(12);
    world.create("A", "");
    fill(&mut world, "A", 5_000, 300);
    world.request("STREAM.DELETE.A", "A", "");
    world.wait(2_000_000_000);
    world.settle();
    world.check_live();
    let left = file_bytes(&mut world);
    assert!(left <= 3 * u64::from(world.options.log.segment_bytes), "{left} bytes are in use");
}

#[test]
fn a_full_disk_refuses_messages_and_recovers() {
    // Pages of the index fit into blocks, as they do with the usual sizes.
    let mut options = options();
    options.log.block_bytes = 128 << 10;
    options.log.tail_bytes = 512 << 10;
    options.log.reserve_segments = 4;
    let faults = SimFaults { capacity_bytes: 4 << 20, ..SimFaults::default() };
    let mut world = World::with_options(13, faults, options);
    world.create("A", "");
    let body = r#"{"stream_name":"A","config":{"durable_name":"c","ack_policy":"explicit"}}"#;
    world.request("CONSUMER.CREATE.A.c", "A", body);
    let stored = fill(&mut world, "A", 10_000, 400);
    assert!(stored > 1_000 && stored < 9_000, "{stored}");
    // What is not a message goes on.
    let next = world.ask("CONSUMER.MSG.NEXT.A.c", "A", "");
    world.wait(5_000_000);
    let message = world.inbox.iter().find(|m| m.to == next).expect("a message").clone();
    let reply = world.ack("A", &message.reply);
    world.wait(5_000_000);
    assert!(world.answer(&reply).is_some(), "the acknowledgement is not answered");
    let answer = world.request("STREAM.MSG.DELETE.A", "A", r#"{"seq":1}"#);
    assert!(answer.contains("\"success\":true"), "{answer}");
    assert!(world.request("STREAM.PURGE.A", "A", "").contains("\"success\":true"));
    world.wait(3_000_000_000);
    assert_eq!(fill(&mut world, "A", 500, 400), 500, "space did not return");
    let before = world.dump();
    world.settle();
    world.crash();
    assert_eq!(before, world.dump());
    world.check_live();
}
