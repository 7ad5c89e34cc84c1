//! A turn ends, however much there is to do, and what it left goes on in the next.

use std::collections::BTreeMap;

use super::super::budget::TURN_UNITS;
use super::world::World;

const CONSUMERS: usize = 300;
const MESSAGES: usize = 100;

#[test]
fn consumers_with_a_backlog_share_turns_with_requests() {
    let mut world = World::new(41);
    world.create("A", "");
    for n in 0..CONSUMERS {
        let body = format!(
            r#"{{"stream_name":"A","config":{{"durable_name":"c{n}","deliver_subject":"d.{n}",
                "ack_policy":"none"}}}}"#
        );
        let created = world.request(&format!("CONSUMER.CREATE.A.c{n}"), "A", &body);
        assert!(created.contains("\"config\""), "{created}");
    }
    world.settle();
    world.inbox.clear();
    for _ in 0..MESSAGES {
        world.publish("A", "a.x", "", "p");
    }
    let info = world.ask("STREAM.INFO.A", "A", "");
    let (mut got, mut turns, mut answered_after) = (BTreeMap::new(), 0, 0);
    while got.values().sum::<usize>() < CONSUMERS * MESSAGES {
        world.turn();
        turns += 1;
        assert!(turns < 1_000, "{got:?}");
        if answered_after == 0 && world.answer(&info).is_some() {
            answered_after = turns;
        }
        let sent: Vec<String> = world.inbox.drain(..).map(|m| m.to).collect();
        let delivered: Vec<&String> = sent.iter().filter(|to| to.starts_with("d.")).collect();
        assert!(delivered.len() as u32 <= TURN_UNITS, "{} in a turn", delivered.len());
        for to in delivered {
            *got.entry(to.clone()).or_insert(0) += 1;
        }
    }
    assert!(got.values().all(|&n| n == MESSAGES), "{got:?}");
    assert!(turns >= CONSUMERS * MESSAGES / TURN_UNITS as usize, "{turns} turns");
    assert!(answered_after > 0 && answered_after < turns, "{answered_after} of {turns} turns");
}
