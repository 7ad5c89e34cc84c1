//! Without any room, the reserve used up: what was decided or taken waits and is not forgotten. And
//! what is freed early does not harm the next start.

use corelane_storage::device::sim::SimFaults;

use super::world::{World, options};
use crate::meta::Record;
use crate::shard::ShardMessage;
use crate::shard::mailbox::Requester;
use crate::types::{CreditKind, Origin, ShardId};

/// A world whose disk takes nothing any more, with a stream A and its consumer c, to which a
/// message was delivered: where it is acknowledged.
fn without_room(seed: u64) -> (World, String) {
    let mut options = options();
    options.log.reserve_segments = 2;
    let faults = SimFaults { capacity_bytes: 1 << 20, ..SimFaults::default() };
    let mut world = World::with_options(seed, faults, options);
    world.create("A", "");
    let body = r#"{"stream_name":"A","config":{"durable_name":"c","ack_policy":"explicit"}}"#;
    world.request("CONSUMER.CREATE.A.c", "A", body);
    let payload = "p".repeat(400);
    for nth in 0..4_000 {
        world.publish("A", &format!("a.{}", nth % 7), "", &payload);
        if nth % 20 == 0 {
            world.turn();
        }
    }
    let next = world.ask("CONSUMER.MSG.NEXT.A.c", "A", "");
    world.wait(500_000_000);
    let message = world.inbox.iter().find(|m| m.to == next).expect("a message").clone();
    let refused = (0..20_000).any(|nth| {
        let subject = format!("CONSUMER.CREATE.A.d{nth}");
        let body = format!(
            r#"{{"stream_name":"A","config":{{"durable_name":"d{nth}","ack_policy":"none"}}}}"#
        );
        world.request(&subject, "A", &body).contains("10023")
    });
    assert!(refused, "there is always room");
    (world, message.reply)
}

fn give_room(world: &mut World) {
    world.disk.faults.capacity_bytes = u64::MAX;
    world.wait(3_000_000_000);
}

#[test]
fn what_the_catalogue_decided_waits_for_room() {
    let (mut world, _) = without_room(21);
    let id = world.stream("A").expect("it is there");
    let (origin, reply, shard) = (Origin::default(), b"told"[..].into(), ShardId(0));
    let requester = Some(Requester { origin, reply, credit: 0, kind: CreditKind::Request, shard });
    let record = Box::new(Record::Delete { id, shard: ShardId(0) });
    world.tell(ShardMessage::Catalogue { record, requester });
    world.wait(500_000_000);
    assert_eq!(world.answer("told"), None);
    give_room(&mut world);
    assert!(world.answer("told").is_some_and(|answer| answer.contains("\"success\":true")));
    world.settle();
    world.check_live();
    assert_eq!(world.stream("A"), None);
}

#[test]
fn an_acknowledgement_waits_for_room() {
    let (mut world, reply) = without_room(22);
    let answered = world.ack("A", &reply);
    world.wait(500_000_000);
    assert_eq!(world.answer(&answered), None, "answered and not durable");
    give_room(&mut world);
    assert!(world.answer(&answered).is_some());
    world.settle();
    world.crash();
    let info = world.request("CONSUMER.INFO.A.c", "A", "");
    assert!(info.contains("\"num_ack_pending\":0"), "{info}");
    assert!(info.contains("\"ack_floor\":{\"consumer_seq\":1,\"stream_seq\":1"), "{info}");
}

fn filled(seed: u64) -> World {
    let mut world = World::new(seed);
    world.create("A", "");
    let payload = "p".repeat(900);
    for nth in 0..600 {
        world.publish("A", &format!("a.{}", nth % 7), "", &payload);
        if nth % 20 == 0 {
            world.turn();
        }
    }
    world.settle();
    world
}

#[test]
fn what_smaller_limits_evict_is_evicted_again() {
    for delay in 0..24 {
        let mut world = filled(30 + delay);
        let body = r#"{"name":"A","subjects":["a.>"],"max_msgs":5,"max_msgs_per_subject":1}"#;
        let answer = world.request("STREAM.UPDATE.A", "A", body);
        assert!(!answer.contains("\"error\""), "{answer}");
        world.wait(delay as i64 * 4_000_000);
        let before = world.dump();
        world.crash();
        assert!(!world.lines.iter().any(|l| l.contains("missing")), "{:?}", world.lines);
        assert_eq!(before, world.dump());
        world.settle();
        world.check_live();
    }
}

#[test]
fn the_ids_of_freed_segments_stay_theirs() {
    for delay in 0..24 {
        let mut world = filled(60 + delay);
        assert!(world.request("STREAM.DELETE.A", "A", "").contains("\"success\":true"));
        world.wait(delay as i64 * 4_000_000);
        world.crash();
        world.create("B", "");
        (0..50).for_each(|_| drop(world.publish("B", "b.1", "", &"p".repeat(900))));
        world.settle();
        world.check_live();
        assert!(!world.lines.iter().any(|l| l.contains("missing")), "{:?}", world.lines);
    }
}
