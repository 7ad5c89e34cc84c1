//! Changes of consumers that overlap, with one another and with checkpoints.

use super::world::World;

fn config(action: &str, settings: &str) -> String {
    format!(
        r#"{{"stream_name":"S","config":{{"durable_name":"C","ack_policy":"explicit"{settings}}},
        "action":"{action}"}}"#
    )
}

/// A stream with messages of two subjects, and a consumer of one of them.
fn world(seed: u64) -> World {
    let mut w = World::new(seed);
    w.create("S", "");
    for n in 0..1_500 {
        w.publish("S", &format!("s.{}", n % 2), "", &format!("message {n}"));
    }
    w.settle();
    let answer =
        w.request("CONSUMER.CREATE.S.C", "S", &config("create", r#","filter_subject":"s.0""#));
    assert!(!answer.contains("error"), "{answer}");
    w
}

fn answer(w: &mut World, reply: &str) -> String {
    for _ in 0..20_000 {
        if let Some(answer) = w.answer(reply) {
            return answer;
        }
        w.turn();
    }
    panic!("no answer to {reply}");
}

fn names(w: &mut World) -> String {
    w.request("CONSUMER.NAMES.S", "S", "")
}

#[test]
fn a_consumer_that_counts_anew_can_be_pulled_from_and_removed() {
    let mut w = world(1);
    let update = config("update", r#","filter_subject":"s.1""#);
    let update = w.ask("CONSUMER.CREATE.S.C", "S", &update);
    let pull = w.ask("CONSUMER.MSG.NEXT.S.C", "S", r#"{"batch":1,"expires":1000000000}"#);
    assert!(answer(&mut w, &update).contains("\"s.1\""));
    assert_eq!(answer(&mut w, &pull).split(' ').next(), Some("message"));
    let back = config("update", r#","filter_subject":"s.0""#);
    let back = w.ask("CONSUMER.CREATE.S.C", "S", &back);
    let delete = w.ask("CONSUMER.DELETE.S.C", "S", "");
    assert!(answer(&mut w, &back).contains("\"s.0\""));
    assert!(answer(&mut w, &delete).contains("\"success\":true"));
    assert!(!names(&mut w).contains("\"C\""));
    w.crash();
    assert!(!names(&mut w).contains("\"C\""));
}

/// A read for the old filters that ends while the consumer counts its new ones.
#[test]
fn a_consumer_that_waits_for_a_read_gets_another_filter() {
    let mut met = 0;
    for n in 0..12 {
        let mut w = World::new(n);
        w.create("S", "");
        // Counting visits the subjects, and takes some turns therefore.
        for at in 0..600 {
            let subject = format!("s.{}.{}", at / 2, ["a", "b"][at % 2]);
            w.publish("S", &subject, "", &format!("message {}", "x".repeat(2_000)));
            w.turn();
        }
        w.settle();
        let create = config("create", r#","filter_subject":"s.*.a""#);
        assert!(!w.request("CONSUMER.CREATE.S.C", "S", &create).contains("error"));
        w.settle();
        // What it reads is not in memory then.
        w.crash();
        w.ask("CONSUMER.MSG.NEXT.S.C", "S", r#"{"batch":250,"expires":900000000000}"#);
        for _ in 0..n {
            w.turn();
        }
        let update = config("update", r#","filter_subject":"s.*.b""#);
        let update = w.ask("CONSUMER.CREATE.S.C", "S", &update);
        for _ in 0..5_000 {
            let before = blocked(&mut w);
            w.turn();
            if w.inbox.iter().any(|m| m.to == update) {
                break;
            }
            met += u32::from(before == Some(true) && blocked(&mut w).is_none());
        }
        assert!(answer(&mut w, &update).contains("\"s.*.b\""));
        let pull = w.ask("CONSUMER.MSG.NEXT.S.C", "S", r#"{"batch":1,"expires":1000000000}"#);
        assert_eq!(answer(&mut w, &pull).split(' ').next(), Some("message"), "{n}");
    }
    assert!(met > 0, "no update came while the consumer waited for a read");
}

/// Whether the consumer C of the only stream waits for a read, unless it counts.
fn blocked(w: &mut World) -> Option<bool> {
    let slot = w.slots()[0];
    let consumers = &w.shard().streams[slot].consumers;
    consumers.find("C").map(|at| consumers.slab[at].blocked.is_some())
}

#[test]
fn an_update_behind_a_removal_finds_nothing() {
    let mut w = world(2);
    let delete = w.ask("CONSUMER.DELETE.S.C", "S", "");
    let update = config("update", r#","filter_subject":"s.1""#);
    let update = w.ask("CONSUMER.CREATE.S.C", "S", &update);
    assert!(answer(&mut w, &delete).contains("\"success\":true"));
    assert!(answer(&mut w, &update).contains("10149"));
    w.crash();
    assert!(!names(&mut w).contains("\"C\""));
}

#[test]
fn creations_on_their_way_count() {
    let mut w = World::new(3);
    w.create("S", r#","max_consumers":1"#);
    let one = w.ask("CONSUMER.CREATE.S.C", "S", &config("create", ""));
    let two = config("create", "").replace("\"C\"", "\"D\"");
    let two = w.ask("CONSUMER.CREATE.S.D", "S", &two);
    assert!(!answer(&mut w, &one).contains("error"));
    assert!(answer(&mut w, &two).contains("10026"));
}

/// The checkpoint that is written while an update waits for durability has it.
#[test]
fn an_answered_update_survives() {
    for seed in 0..12 {
        let mut w = world(seed);
        let (mut asked, mut told) = (Vec::new(), -1);
        for n in 1..120 {
            for _ in 0..w.rng.below(20) {
                w.publish("S", "s.2", "", &"x".repeat(2_000));
            }
            let update = config("update", &format!(r#","max_deliver":{n}"#));
            asked.push((n, w.ask("CONSUMER.CREATE.S.C", "S", &update)));
            for _ in 0..w.rng.below(12) {
                w.turn();
            }
            asked.retain(|(n, reply)| {
                let Some(answer) = w.answer(reply) else { return true };
                assert!(answer.contains(&format!("\"max_deliver\":{n},")), "{n}: {answer}");
                told = told.max(*n);
                false
            });
            if w.rng.below(10) > 0 {
                continue;
            }
            w.crash();
            asked.clear();
            let info = w.request("CONSUMER.INFO.S.C", "S", "");
            let is = info.split("\"max_deliver\":").nth(1).unwrap_or_default();
            let is: String = is.chars().take_while(|c| *c == '-' || c.is_ascii_digit()).collect();
            let is: i64 = is.parse().unwrap_or(0);
            assert!(is >= told, "seed {seed}: {told} was told, and now it is {is}: {info}");
        }
    }
}
