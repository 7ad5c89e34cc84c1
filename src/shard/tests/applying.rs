//! Records that make no sense, and groups that have much to apply side by side.

use std::panic::{AssertUnwindSafe, catch_unwind};

use corelane_storage::record::{MessageIn, MetaIn, RecordIn};

use super::super::Shard;
use super::world::World;
use crate::shard::groups::GroupName;
use crate::types::StreamId;

/// The node ends with such a record, and no start passes it over.
#[test]
fn a_record_that_cannot_be_applied_ends_a_node_and_a_start() {
    let again = |stream| {
        RecordIn::Message(MessageIn {
            stream,
            seq: 2,
            ts: 1,
            subject: b"a.x",
            headers: b"",
            payload: b"",
            relocated: false,
        })
    };
    let unknown = |stream: StreamId| {
        let (stream, id, body) = (stream.0, 0, &b""[..]);
        RecordIn::Meta(MetaIn { kind: 99, stream, id, body, relocated: false })
    };
    let records: [(&dyn Fn(StreamId) -> RecordIn<'static>, &str); 2] =
        [(&again, "it comes behind message 3"), (&unknown, "does not know that kind")];
    for (record, why) in records {
        let mut world = World::new(7);
        world.create("A", "");
        for _ in 0..3 {
            world.publish("A", "a.x", "", "p");
        }
        world.settle();
        let record = record(world.stream("A").expect("it is there"));
        let Shard { groups, log, .. } = world.shard();
        groups.append(GroupName::File, log, &record).expect("there is room");
        let live = catch_unwind(AssertUnwindSafe(|| world.settle())).expect_err("it ends");
        let live = live.downcast_ref::<String>().expect("a text");
        assert!(live.contains(why), "{live}");
        world.shard = None;
        world.disk.kill();
        for _ in 0..2 {
            let opened = Shard::open(&mut world.disk, world.options.clone(), world.now);
            let refused = opened.err().expect("it does not start");
            assert!(refused.contains(why), "{refused}");
        }
    }
}

#[test]
fn a_group_with_little_to_apply_does_not_wait_for_one_with_much() {
    let mut world = World::new(8);
    world.create("F", "");
    world.create("M", r#","storage":"memory""#);
    let much: Vec<String> = (0..2_000).map(|_| world.publish("F", "f.x", "", "p")).collect();
    world.await_answer(&much[0]);
    let little: Vec<String> = (0..40).map(|_| world.publish("M", "m.x", "", "p")).collect();
    for _ in 0..6 {
        world.turn();
    }
    assert!(little.iter().all(|reply| world.answer(reply).is_some()));
    assert!(world.answer(&much[1_999]).is_none(), "there was more than these turns apply");
    world.await_answer(&much[1_999]);
}

/// A request about no stream waits for what was appended before it to any group.
#[test]
fn a_request_about_no_stream_waits_for_every_group() {
    let mut world = World::new(9);
    world.create("F", "");
    world.ask("STREAM.CREATE.G", "", r#"{"name":"G","subjects":["g.>"]}"#);
    let published: Vec<String> = (0..400).map(|_| world.publish("F", "f.x", "", "p")).collect();
    let names = world.ask("STREAM.NAMES", "", "");
    for _ in 0..1_000 {
        world.turn();
        if world.inbox.iter().any(|sent| sent.to == names) {
            break;
        }
    }
    for reply in &published {
        assert!(world.answer(reply).is_some(), "answered before {reply}");
    }
}
