//! Publishes that expect something of the stream which its index must look up first.

use super::world::{World, options};

const OTHERS: u64 = 9_000;

/// Three messages of `s.a`, many of other subjects, and one more of `s.a`, which is deleted.
/// Answers its sequence.
fn filled(settings: &str) -> (World, u64) {
    let mut options = options();
    options.index_cache_bytes = 0;
    let mut world = World::with_options(11, Default::default(), options);
    world.create("S", settings);
    for n in 0..OTHERS + 4 {
        let subject = match n {
            0..3 => "s.a".to_owned(),
            n if n == OTHERS + 3 => "s.a".to_owned(),
            n => format!("s.b.{}", n % 7),
        };
        world.publish("S", &subject, "", "x");
        if n % 50 == 0 {
            world.turn();
        }
    }
    let newest = OTHERS + 4;
    world.settle();
    let deleted = world.request("STREAM.MSG.DELETE.S", "S", &format!(r#"{{"seq":{newest}}}"#));
    assert!(deleted.contains("true"), "{deleted}");
    (world, newest)
}

fn expecting(world: &mut World, subject: &str, last: u64) -> String {
    let header = format!("Nats-Expected-Last-Subject-Sequence: {last}\r\n");
    world.publish_with("S", subject, &header, "x")
}

fn matching(world: &mut World, filter: &str, last: u64) -> String {
    let header = format!(
        "Nats-Expected-Last-Subject-Sequence: {last}\r\n\
         Nats-Expected-Last-Subject-Sequence-Subject: {filter}\r\n"
    );
    world.publish_with("S", "s.c", &header, "x")
}

fn wrong(answer: &str, last: u64) {
    assert!(answer.contains(&format!("wrong last sequence: {last}\"")), "{answer}");
}

fn stored(answer: &str, seq: u64) {
    assert!(answer.contains(&format!("\"seq\":{seq}}}")), "{answer}");
}

#[test]
fn only_the_true_last_sequence_of_a_subject_is_accepted() {
    for settings in ["", r#","storage":"memory""#] {
        let file = settings.is_empty();
        let (mut world, newest) = filled(settings);
        for after in ["the deletion", "a checkpoint", "a crash"] {
            match after {
                "a checkpoint" => world.settle(),
                "a crash" if file => world.crash(),
                _ => {}
            }
            for last in [newest, newest - 1, 0, 4] {
                let reply = expecting(&mut world, "s.a", last);
                wrong(&world.await_answer(&reply), 3);
            }
        }
        // Another publisher's message, and a question, come behind the one that waits.
        let right = expecting(&mut world, "s.a", 3);
        let next = world.publish("S", "s.b.1", "", "x");
        let again = expecting(&mut world, "s.a", 3);
        let info = world.ask("STREAM.INFO.S", "S", "");
        stored(&world.await_answer(&right), newest + 1);
        stored(&world.await_answer(&next), newest + 2);
        wrong(&world.await_answer(&again), newest + 1);
        let info = world.await_answer(&info);
        assert!(info.contains(&format!("\"last_seq\":{},", newest + 2)), "{info}");
    }
}

#[test]
fn the_last_sequence_of_a_filter_is_the_true_one() {
    let (mut world, newest) = filled("");
    world.settle();
    world.crash();
    for (filter, last) in [("s.*", 3), ("s.>", newest - 1), ("s.b.*", newest - 1), ("s.x.>", 0)] {
        let reply = matching(&mut world, filter, newest);
        wrong(&world.await_answer(&reply), last);
    }
    let all = world.request("STREAM.PURGE.S", "S", r#"{"filter":"s.b.>"}"#);
    assert!(all.contains("true"), "{all}");
    for filter in ["s.*", "s.>"] {
        let reply = matching(&mut world, filter, newest - 1);
        wrong(&world.await_answer(&reply), 3);
    }
    let right = matching(&mut world, "s.>", 3);
    let again = matching(&mut world, "s.>", 3);
    stored(&world.await_answer(&right), newest + 1);
    wrong(&world.await_answer(&again), newest + 1);
}

#[test]
fn what_waits_at_a_stream_that_is_removed_is_forgotten() {
    let (mut world, newest) = filled("");
    world.settle();
    world.crash();
    let delete = world.ask("STREAM.DELETE.S", "S", "");
    let reply = expecting(&mut world, "s.a", newest);
    let info = world.ask("STREAM.INFO.S", "S", "");
    let deleted = world.await_answer(&delete);
    assert!(deleted.contains("true"), "{deleted}");
    let info = world.await_answer(&info);
    assert!(info.contains("10059") || info.contains("\"last_seq\""), "{info}");
    world.settle();
    let answer = world.answer(&reply);
    assert!(answer.is_none_or(|a| a.contains("wrong last sequence: 3")));
    assert!(world.shard().parked.streams.is_empty());
}

/// A stream that refuses what is new, but lets a message of a full subject replace its oldest, if
/// that is as large. No history is kept for so many of a subject.
#[test]
fn the_message_that_is_replaced_has_its_true_size() {
    let mut options = options();
    options.index_cache_bytes = 0;
    let mut world = World::with_options(12, Default::default(), options);
    let limits = r#","discard":"new","max_bytes":60000,"max_msgs_per_subject":70"#;
    world.create("S", limits);
    let large = "l".repeat(500);
    for n in 0..70 {
        world.publish("S", "s.a", "", if n < 2 { &large } else { "small" });
        world.publish("S", &format!("s.b.{n}"), "", "x");
    }
    world.settle();
    let fill = 60_000 - stream_bytes(&mut world) - 30 - 5;
    world.publish("S", "s.c", "", &"f".repeat(fill as usize - 3));
    world.settle();
    world.crash();
    // Two large ones may be replaced by large ones, the small ones behind them may not.
    let replies: Vec<String> = (0..3).map(|_| world.publish("S", "s.a", "", &large)).collect();
    let answers: Vec<String> = replies.iter().map(|r| world.await_answer(r)).collect();
    assert!(!answers[0].contains("error") && !answers[1].contains("error"), "{answers:?}");
    assert!(answers[2].contains("maximum bytes exceeded"), "{answers:?}");
}

fn stream_bytes(world: &mut World) -> u64 {
    let slot = world.slots()[0];
    world.shard().streams[slot].index.bytes()
}
