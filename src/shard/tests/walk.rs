//! Requests about many subjects: they take several turns, others go on meanwhile, and the answer is
//! right.

use super::world::World;

const SUBJECTS: u64 = 4_000;

/// Many subjects with three messages each.
fn filled() -> World {
    let mut world = World::new(42);
    world.fill(SUBJECTS, 3 * SUBJECTS);
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
    for turns in 1..20_000 {
        if let Some(answer) = world.answer(&reply) {
            return (serde_json::from_str(&answer).expect("JSON"), turns);
        }
        world.turn();
    }
    panic!("no answer to {verb}");
}

#[test]
fn a_streams_details_take_several_turns() {
    let mut world = filled();
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
    let mut world = filled();
    let (message, turns) =
        asked(&mut world, "STREAM.MSG.GET.A", r#"{"last_by_subj":"a.*"}"#, |world| {
            world.publish("A", "a.new", "", "p");
        });
    assert!(turns > 1, "{turns}");
    let seq = message["message"]["seq"].as_u64();
    assert!([Some(3 * SUBJECTS), Some(3 * SUBJECTS + 1)].contains(&seq), "{message}");
    let (none, _) =
        asked(&mut world, "STREAM.MSG.GET.A", r#"{"next_by_subj":"a.x","seq":1}"#, |_| ());
    assert_eq!(none["error"]["err_code"], 10037, "{none}");
}
