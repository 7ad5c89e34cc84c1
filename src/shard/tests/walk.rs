//! Requests about many subjects: they take several turns, others go on meanwhile, and the answer is
//! right.

use super::world::World;

const SUBJECTS: u64 = 4_000;

/// So many subjects with so many messages each.
fn filled(subjects: u64, rounds: u64) -> World {
    let mut world = World::new(42);
    world.create("A", r#","allow_direct":true"#);
    for n in 0..rounds * subjects {
        world.publish("A", &format!("a.{}", n % subjects), "", "p");
        if n % 50 == 0 {
            world.turn();
            world.inbox.clear();
        }
    }
    world.settle();
    world.inbox.clear();
    world
}

/// Asks, does something after the first turn, and gives the answer with the turns it took.
fn asked(
    world: &mut World,
    verb: &str,
    body: &str,
    meanwhile: impl FnOnce(&mut World),
) -> (serde_json::Value, usize) {
    let reply = world.ask(verb, "A", body);
    world.turn();
    meanwhile(world);
    for turns in 1..1_000 {
        if let Some(answer) = world.answer(&reply) {
            return (serde_json::from_str(&answer).expect("JSON"), turns);
        }
        world.turn();
    }
    panic!("no answer to {verb}");
}

#[test]
fn a_streams_details_take_several_turns() {
    let mut world = filled(SUBJECTS, 3);
    let purged = world.request("STREAM.PURGE.A", "A", r#"{"filter":"a.7"}"#);
    assert!(purged.contains(r#""purged":3"#), "{purged}");
    let body = r#"{"subjects_filter":"a.>","deleted_details":true}"#;
    let (info, turns) = asked(&mut world, "STREAM.INFO.A", body, |world| {
        // Purged from the front while the walk is under way.
        world.ask("STREAM.PURGE.A", "A", r#"{"seq":101}"#);
    });
    assert!(turns > 1, "{turns}");
    assert_eq!(info["total"], SUBJECTS - 1);
    let state = &info["state"];
    assert_eq!(state["subjects"].as_object().map(serde_json::Map::len), Some(3_999));
    assert!(state["subjects"]["a.7"].is_null());
    let first = state["first_seq"].as_u64().unwrap_or_default();
    let gone: Vec<u64> = [8, SUBJECTS + 8, 2 * SUBJECTS + 8].into_iter().collect();
    let expected: Vec<u64> = gone.into_iter().filter(|&seq| seq >= first).collect();
    assert_eq!(state["deleted"], serde_json::json!(expected), "from {first}");
    let (page, _) =
        asked(&mut world, "STREAM.INFO.A", r#"{"subjects_filter":"a.>","offset":3998}"#, |_| ());
    assert_eq!(page["state"]["subjects"].as_object().map(serde_json::Map::len), Some(1));
}

#[test]
fn the_last_message_is_sought_step_by_step() {
    let mut world = filled(SUBJECTS, 3);
    let (message, turns) =
        asked(&mut world, "STREAM.MSG.GET.A", r#"{"last_by_subj":"a.*"}"#, |world| {
            world.publish("A", "a.new", "", "p");
        });
    assert!(turns > 1, "{turns}");
    let seq = message["message"]["seq"].as_u64();
    assert!([Some(3 * SUBJECTS), Some(3 * SUBJECTS + 1)].contains(&seq), "{message}");
    let (none, turns) =
        asked(&mut world, "STREAM.MSG.GET.A", r#"{"next_by_subj":"a.x","seq":1}"#, |_| ());
    assert_eq!(none["error"]["err_code"], 10037, "{none}");
    assert!(turns > 0);
}

#[test]
fn a_consumer_of_each_last_message_misses_none() {
    let subjects = 20_000;
    let mut world = filled(subjects, 1);
    let config = r#"{"durable_name":"C","deliver_policy":"last_per_subject","filter_subject":">"}"#;
    let body = format!(r#"{{"stream_name":"A","config":{config}}}"#);
    let (info, _) = asked(&mut world, "CONSUMER.CREATE.A.C", &body, |world| {
        // Of a subject that the walk has passed, of one that is still to come, and of a new one.
        for subject in ["a.0", "a.9999", "a.zzz"] {
            world.publish("A", subject, "", "new");
        }
    });
    // What came after the walk began is found as new, and a subject that is reached later may have
    // only its new message left.
    let pending = info["num_pending"].as_u64().unwrap_or_default();
    assert!((subjects + 2..=subjects + 3).contains(&pending), "{info}");
}
