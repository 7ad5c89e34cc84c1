//! Credit of requests is away while they wait, whatever they wait for, and is home once they are
//! answered; few of them hold more than themselves.

use super::world::{REQUEST_CREDIT, World};
use crate::types::CreditKind;

/// Asks so many times, and looks after each turn that what is away belongs to requests without an
/// answer. Answers the most that was seen by `look`.
fn flood(
    world: &mut World,
    count: usize,
    (verb, body): (&str, &str),
    look: impl Fn(&mut World) -> usize,
) -> usize {
    let home = world.credit_away(CreditKind::Request);
    let replies: Vec<String> = (0..count).map(|_| world.ask(verb, "A", body)).collect();
    let mut most = 0;
    for _ in 0..20_000 {
        world.turn();
        most = most.max(look(world));
        let waiting = |world: &World| {
            replies.iter().filter(|r| !world.inbox.iter().any(|m| m.to == **r)).count()
        };
        let waiting = waiting(world);
        let away = world.credit_away(CreditKind::Request) - home;
        assert_eq!(away, waiting as u64 * u64::from(REQUEST_CREDIT), "{verb}: {waiting} wait");
        if waiting == 0 {
            return most;
        }
    }
    panic!("{verb}: some are not answered");
}

#[test]
fn few_requests_hold_more_than_themselves_and_all_are_answered() {
    let mut world = World::new(31);
    world.fill(3_000, 6_000);
    let walks = |world: &mut World| world.shard().footprint().walks;
    for body in [r#"{"subjects_filter":">"}"#, r#"{"subjects_filter":"a.*"}"#] {
        let most = flood(&mut world, 40, ("STREAM.INFO.A", body), walks);
        assert_eq!(most, 2, "walks at a time");
    }
    let purges = |world: &mut World| world.shard().jobs.requested_purges;
    let most = flood(&mut world, 100, ("STREAM.PURGE.A", r#"{"filter":"b"}"#), purges);
    assert!((2..=16).contains(&most), "{most} purges at a time");
    let questions = |world: &mut World| world.shard().footprint().questions;
    flood(&mut world, 100, ("STREAM.LIST", ""), questions);
    flood(&mut world, 100, ("INFO", ""), questions);
}
