//! Limits that are lowered over much, and answers that have to wait.

use super::world::{World, options};

fn messages(world: &mut World, stream: &str) -> u64 {
    let id = world.stream(stream).expect("a stream");
    let slot = world.shard().slots[&id];
    world.shard().streams[slot].index.messages()
}

/// Many subjects, several messages each, over more pages than stay in memory.
fn filled() -> World {
    let mut options = options();
    options.index_cache_bytes = 0;
    let mut world = World::with_options(41, Default::default(), options);
    world.fill(4_000, 24_000);
    world
}

fn lower(settings: &str, left: u64) {
    let mut world = filled();
    world.crash();
    let update = format!(r#"{{"name":"A","subjects":["a.>"]{settings}}}"#);
    let reply = world.ask("STREAM.UPDATE.A", "A", &update);
    let mut before = messages(&mut world, "A");
    assert_eq!(before, 24_000);
    let answer = loop {
        world.turn();
        let now = messages(&mut world, "A");
        assert!(before - now <= 4_000, "{} messages went in one turn", before - now);
        before = now;
        if let Some(answer) = world.answer(&reply) {
            break answer;
        }
    };
    assert!(answer.contains(&format!(r#""messages":{left},"#)), "{answer}");
    assert_eq!(messages(&mut world, "A"), left);
    let dump = world.dump();
    world.settle();
    world.check_live();
    world.crash();
    // What was removed is not there again, not even for a moment.
    assert!(world.dump() == dump, "a restart brought back what was removed");
}

#[test]
fn a_lower_limit_of_messages_takes_its_time() {
    lower(r#","max_msgs":100"#, 100);
}

#[test]
fn a_lower_limit_per_subject_takes_its_time() {
    lower(r#","max_msgs_per_subject":1"#, 4_000);
    lower(r#","max_msgs_per_subject":4"#, 16_000);
}

#[test]
fn a_crash_in_the_middle_of_it_is_made_up_for() {
    let mut world = filled();
    world.crash();
    let update = r#"{"name":"A","subjects":["a.>"],"max_msgs_per_subject":2}"#;
    world.ask("STREAM.UPDATE.A", "A", update);
    while messages(&mut world, "A") > 20_000 {
        world.turn();
    }
    world.crash();
    // What an update asked for goes on after a restart.
    for _ in 0..10_000 {
        world.turn();
    }
    assert_eq!(messages(&mut world, "A"), 8_000);
    world.settle();
    world.check_live();
}

fn first_ts(answer: &str) -> &str {
    let (_, rest) = answer.split_once(r#""first_ts":""#).expect("a first_ts");
    rest.split_once('"').expect("its end").0
}

#[test]
fn lists_and_updates_tell_a_first_time_that_must_be_read() {
    for nth in 0..3 {
        let mut world = filled();
        world.request("STREAM.PURGE.A", "A", r#"{"seq":5000}"#);
        world.settle();
        world.crash();
        let update = r#"{"name":"A","subjects":["a.>"],"max_msgs":50000}"#;
        let body = r#"{"name":"A","subjects":["a.>"]}"#;
        let told = match nth {
            0 => world.request("STREAM.LIST", "", "{}"),
            1 => world.request("STREAM.UPDATE.A", "A", update),
            _ => world.request("STREAM.CREATE.A", "A", body),
        };
        let told = first_ts(&told).to_owned();
        let info = world.request("STREAM.INFO.A", "A", "");
        assert_eq!(told, first_ts(&info));
        assert!(!told.starts_with("0001"), "{told}");
    }
}

#[test]
fn nothing_is_delivered_that_would_only_wait_in_memory() {
    let mut world = World::new(33);
    world.create("A", "");
    let body =
        r#"{"stream_name":"A","config":{"name":"p","deliver_subject":"d","ack_policy":"none"}}"#;
    world.request("CONSUMER.CREATE.A.p", "A", body);
    world.set_full(true);
    for _ in 0..100 {
        world.publish("A", "a.x", "", "m");
    }
    world.wait(100_000_000);
    let delivered = |world: &World| world.inbox.iter().filter(|m| m.to == "d").count();
    assert_eq!(delivered(&world), 0);
    assert!(!world.shard().has_work(false) && world.shard().has_work(true));
    world.set_full(false);
    world.wait(100_000_000);
    assert_eq!(delivered(&world), 100);
}

#[test]
fn what_would_replace_a_message_waits_for_deletions_that_are_decided() {
    for settings in ["", r#","storage":"memory""#] {
        let mut world = World::new(43);
        let limits = r#","discard":"new","max_bytes":300,"max_msgs_per_subject":2"#;
        world.create("S", &format!("{limits}{settings}"));
        // A message counts for 33 bytes more than its payload, in memory for 19.
        let overhead = if settings.is_empty() { 33 } else { 19 };
        let sized = |bytes: usize| "x".repeat(bytes - overhead);
        for (subject, bytes) in [("s.a", 100), ("s.a", 50), ("s.b", 150)] {
            world.publish("S", subject, "", &sized(bytes));
        }
        world.settle();
        let deleted = world.ask("STREAM.MSG.DELETE.S", "S", r#"{"seq":2}"#);
        world.turn();
        // It would replace the first, and does not: the second will have left.
        let refused = world.publish("S", "s.a", "", &sized(100));
        let stored = world.publish("S", "s.b", "", &sized(50));
        let unanswered = world.answer(&deleted).is_none() && world.answer(&refused).is_none();
        assert!(unanswered || !settings.is_empty(), "nothing was durable yet");
        let refused = world.await_answer(&refused);
        assert!(refused.contains("maximum bytes exceeded"), "{refused}");
        let stored = world.await_answer(&stored);
        assert!(stored.contains("\"seq\":4"), "{stored}");
        world.settle();
        let info = world.request("STREAM.INFO.S", "S", "");
        assert!(info.contains("\"bytes\":300,"), "{info}");
    }
}

#[test]
fn what_comes_behind_an_update_is_judged_by_it() {
    for settings in ["", r#","storage":"memory""#] {
        let mut world = World::new(44);
        let stream = |per_subject: u32| {
            format!(
                r#","discard":"new","max_msgs":3,"max_msgs_per_subject":{per_subject}{settings}"#
            )
        };
        world.create("S", &stream(1));
        for subject in ["s.a", "s.b", "s.c"] {
            world.publish("S", subject, "", "x");
        }
        world.settle();
        let update = format!(r#"{{"name":"S","subjects":["s.>"]{}}}"#, stream(5));
        let updated = world.ask("STREAM.UPDATE.S", "S", &update);
        let mut replies = Vec::new();
        let answer = loop {
            for subject in ["s.a", "s.b", "s.c"] {
                replies.push(world.publish("S", subject, "", "y"));
            }
            world.turn();
            if let Some(answer) = world.answer(&updated) {
                break answer;
            }
        };
        assert!(answer.contains("\"max_msgs_per_subject\":5,"), "{answer}");
        let answers: Vec<String> = replies.iter().map(|r| world.await_answer(r)).collect();
        let stored = answers.iter().filter(|a| a.contains("\"seq\"") && !a.contains("error"));
        assert!(stored.count() > 0, "some came before the update");
        assert!(answers.iter().any(|a| a.contains("maximum messages exceeded")), "{answers:?}");
        world.settle();
        assert_eq!(messages(&mut world, "S"), 3);
    }
}
