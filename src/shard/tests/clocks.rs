//! A wall clock that is set back or forth, or drifts: nothing that measures time heeds it.

use corelane_storage::log::SyncPolicy;

use super::world::{World, options};
use crate::api::time::GoTime;
use crate::types::{Timestamp, WallTime};

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;
const HOUR: i64 = 3_600 * SECOND;

/// What a test may be off by: turns, and the disk.
const LATE: i64 = 50 * MS;

fn slot(world: &mut World) -> usize {
    let id = world.stream("A").expect("a stream");
    world.shard().slots[&id]
}

/// The first sequence and how many messages there are.
fn held(world: &mut World) -> (u64, u64) {
    let slot = slot(world);
    let index = &world.shard().streams[slot].index;
    (index.first_seq(), index.messages())
}

fn last_time(world: &mut World) -> WallTime {
    let slot = slot(world);
    world.shard().streams[slot].last_time
}

fn publish(world: &mut World, id: &str) -> String {
    let reply = world.publish("A", "a.x", id, "p");
    world.await_answer(&reply)
}

#[test]
fn ack_wait_is_kept() {
    for step in [-HOUR, HOUR] {
        let mut world = World::new(1);
        world.create("A", "");
        let config = concat!(
            r#"{"stream_name":"A","config":{"durable_name":"c","ack_policy":"explicit","#,
            r#""ack_wait":2000000000}}"#
        );
        world.request("CONSUMER.CREATE.A.c", "A", config);
        publish(&mut world, "");
        let inbox = world.ask("CONSUMER.MSG.NEXT.A.c", "A", r#"{"batch":2}"#);
        world.await_answer(&inbox);
        let delivered = world.now;
        world.wait(SECOND);
        world.ahead += step;
        world.await_answer(&inbox);
        let took = world.now.since(delivered);
        assert!((2 * SECOND - LATE..2 * SECOND + LATE).contains(&took), "{step}: {took}");
    }
}

#[test]
fn pull_requests_expire_in_time() {
    for step in [-HOUR, HOUR] {
        let mut world = World::new(2);
        world.create("A", "");
        let config = r#"{"stream_name":"A","config":{"durable_name":"c","ack_policy":"none"}}"#;
        world.request("CONSUMER.CREATE.A.c", "A", config);
        let begun = world.now;
        world.ask("CONSUMER.MSG.NEXT.A.c", "A", r#"{"batch":1,"expires":1000000000}"#);
        world.ahead += step;
        world.wait(900 * MS);
        let waiting = r#""num_waiting":1"#;
        assert!(world.request("CONSUMER.INFO.A.c", "A", "").contains(waiting), "{step}");
        world.wait(SECOND + LATE - world.now.since(begun));
        assert!(!world.request("CONSUMER.INFO.A.c", "A", "").contains(waiting), "{step}");
    }
}

/// Ten messages a second that live for two seconds, while the wall clock is as `ahead` says by
/// tenths of a second. As many must be there as were stored within two seconds, or a few more.
fn ages(ahead: impl Fn(i64) -> i64, storage: &str) {
    let mut world = World::new(3);
    let settings = format!(r#","max_age":2000000000,"duplicate_window":1000000000{storage}"#);
    world.create("A", &settings);
    let begun = world.now;
    let mut last = WallTime(0);
    for n in 0..120 {
        world.ahead = ahead(n);
        world.wait(begun.plus(n * SECOND / 10).since(world.now));
        publish(&mut world, "");
        let time = last_time(&mut world);
        assert!(time >= last, "the time fell at {n}");
        last = time;
        let (_, count) = held(&mut world);
        let want = 20.min(n as u64 + 1);
        assert!((want..=want + 3).contains(&count), "{count} messages at {n}");
    }
    world.ahead = 0;
    let stored = world.now;
    while held(&mut world).1 > 0 {
        world.turn();
    }
    let took = world.now.since(stored);
    assert!((2 * SECOND - LATE..2 * SECOND + 4 * LATE).contains(&took), "the last took {took}");
}

#[test]
fn messages_leave_at_their_age() {
    for storage in ["", r#","storage":"memory""#] {
        ages(|_| 0, storage);
        ages(|n| if n < 40 { 0 } else { HOUR }, storage);
        ages(|n| if n < 40 { 0 } else { -HOUR }, storage);
        ages(|n| [0, HOUR, -HOUR, SECOND][(n / 30) as usize], storage);
        ages(|n| n * SECOND / 1_000, storage);
        ages(|n| -n * SECOND / 100, storage);
    }
}

#[test]
fn what_an_earlier_process_stored_leaves_in_time() {
    // Stored while the wall clock was an hour ahead, which is put right before the restart.
    let mut world = World::new(4);
    world.create("A", r#","max_age":2000000000,"duplicate_window":1000000000"#);
    world.ahead = HOUR;
    publish(&mut world, "");
    world.settle();
    world.ahead = 0;
    world.wait(SECOND);
    world.restart();
    let begun = world.now;
    publish(&mut world, "");
    assert_eq!(held(&mut world), (1, 2));
    while held(&mut world).1 > 0 {
        world.turn();
    }
    let took = world.now.since(begun);
    assert!((SECOND..2 * SECOND + 4 * LATE).contains(&took), "{took}");
    // A step while it runs, and a restart with the wall clock as it is: as if nothing had been.
    for step in [-HOUR, HOUR] {
        world.ahead = step;
        publish(&mut world, "");
        world.wait(SECOND);
        world.settle();
        world.restart();
        let (_, left) = held(&mut world);
        assert!(left == 1 || step > 0, "{step}");
        world.wait(2 * SECOND + LATE);
        assert_eq!(held(&mut world).1, 0, "{step}");
    }
}

#[test]
fn message_ids_are_known_for_the_window() {
    for step in [-HOUR, HOUR] {
        let mut world = World::new(5);
        world.create("A", r#","duplicate_window":2000000000"#);
        publish(&mut world, "one");
        world.wait(SECOND);
        world.ahead = step;
        publish(&mut world, "two");
        world.wait(SECOND - LATE);
        assert!(publish(&mut world, "one").contains("duplicate"), "{step}");
        world.wait(2 * LATE);
        assert!(!publish(&mut world, "one").contains("duplicate"), "{step}");
        assert!(publish(&mut world, "two").contains("duplicate"), "{step}");
        world.wait(SECOND);
        assert!(!publish(&mut world, "two").contains("duplicate"), "{step}");
        // What has expired does not stay in memory, but while times do not move.
        for n in 0..10 {
            world.wait(SECOND);
            publish(&mut world, &format!("{n}"));
        }
        let slot = slot(&mut world);
        let held = world.shard().streams[slot].admission.dedupe().len();
        assert!(held <= if step < 0 { 14 } else { 4 }, "{step}: {held}");
    }
}

#[test]
fn the_flush_interval_is_kept() {
    for step in [-HOUR, HOUR] {
        let mut options = options();
        options.log.sync = SyncPolicy::Interval(200 * MS);
        let mut world = World::with_options(6, Default::default(), options);
        world.create("A", "");
        for _ in 0..5 {
            world.ahead += step;
            publish(&mut world, "");
            let appended = world.shard().log.appended();
            world.wait(200 * MS + LATE);
            assert!(world.shard().log.durable() >= appended, "{step}");
        }
    }
}

#[test]
fn what_is_shown_is_the_wall_clock() {
    let mut world = World::new(7);
    world.ahead = -HOUR;
    let created = world.create("A", "");
    let time = |at: Timestamp| {
        let mut text = Vec::new();
        let wall = GoTime::utc(WallTime(at.0 - HOUR));
        crate::api::time::write_time(&mut text, wall);
        // To the second.
        String::from_utf8_lossy(&text[..19]).into_owned()
    };
    let now = time(world.now);
    for field in ["created", "ts"] {
        assert!(created.contains(&format!(r#""{field}":"{now}"#)), "{field} {now}: {created}");
    }
    publish(&mut world, "");
    let config = r#"{"stream_name":"A","config":{"durable_name":"c","ack_policy":"explicit"}}"#;
    world.request("CONSUMER.CREATE.A.c", "A", config);
    let inbox = world.ask("CONSUMER.MSG.NEXT.A.c", "A", "1");
    world.await_answer(&inbox);
    let active = format!(r#""last_active":"{}"#, time(world.now));
    let info = world.request("CONSUMER.INFO.A.c", "A", "");
    assert!(info.contains(&active), "{active}: {info}");
}
