use super::*;
use std::collections::BTreeMap;

const ACCOUNT: AccountId = AccountId(0);
const OWN: ReactorId = ReactorId(1);

#[derive(Clone)]
struct Local {
    filter: &'static str,
    queue: Option<&'static str>,
}

/// What the table should know, as plain lists.
#[derive(Default)]
struct Model {
    local: BTreeMap<u32, Local>,
    remote: BTreeMap<(&'static str, Option<&'static str>, u16), u32>,
    streams: BTreeMap<u64, (&'static str, u16)>,
}

impl Model {
    fn plan(&self, name: &str) -> Plan {
        let mut plan = Plan::default();
        if !subject::is_routable(name.as_bytes()) {
            return plan;
        }
        let fits = |filter: &str| subject::matches(filter.as_bytes(), name.as_bytes());
        for (&id, local) in self.local.iter().filter(|(_, l)| fits(l.filter)) {
            match local.queue {
                None => plan.plain.push(SubId(id)),
                Some(queue) => group(&mut plan, queue).local.push(SubId(id)),
            }
        }
        for (&(_, queue, reactor), &count) in self.remote.iter().filter(|(k, _)| fits(k.0)) {
            let reactor = ReactorId(reactor);
            match queue {
                None => plan.plain_reactors.push(reactor),
                Some(queue) => {
                    let group = group(&mut plan, queue);
                    match group.remote.iter_mut().find(|(r, _)| *r == reactor) {
                        Some((_, sum)) => *sum += count,
                        None => group.remote.push((reactor, count)),
                    }
                }
            }
        }
        for (&id, &(_, reactor)) in self.streams.iter().filter(|(_, s)| fits(s.0)) {
            let (stream, shard, reactor) = (StreamId(id), ShardId(0), ReactorId(reactor));
            plan.streams.push(StreamTarget { stream, shard, reactor, credit: CreditKind::Publish });
        }
        plan.reactors = plan.plain_reactors.clone();
        plan.reactors.extend(plan.streams.iter().map(|s| s.reactor).filter(|&r| r != OWN));
        sorted(plan)
    }
}

fn group<'a>(plan: &'a mut Plan, name: &str) -> &'a mut GroupPlan {
    let at = plan.groups.iter().position(|g| *g.name == *name.as_bytes()).unwrap_or_else(|| {
        let name = name.as_bytes().into();
        plan.groups.push(GroupPlan { name, ..GroupPlan::default() });
        plan.groups.len() - 1
    });
    &mut plan.groups[at]
}

fn sorted(mut plan: Plan) -> Plan {
    plan.plain.sort_unstable();
    plan.plain_reactors.sort_unstable();
    plan.plain_reactors.dedup();
    plan.reactors.sort_unstable();
    plan.reactors.dedup();
    plan.groups.sort_by(|a, b| a.name.cmp(&b.name));
    for group in &mut plan.groups {
        group.local.sort_unstable();
        group.remote.sort_unstable();
    }
    plan
}

const FILTERS: &[&str] = &[
    "a", "a.b", "a.*", "a.>", ">", "*.b", "*", "in.x.*", "in.x.1", "in.*.2", "in.y.*", "in.>",
    "o.eu.1", "o.*.1", "o.eu.>", "o.eu.*", "*.x.1",
];
const SUBJECTS: &[&str] = &[
    "a", "b", "a.b", "a.c", "c.b", "in.x.1", "in.x.2", "in.x.3", "in.y.1", "in.y", "o.eu.1",
    "o.eu.2", "o.us.1", "a..b", "a.", ".a", "", "q.x.1", "in.x.", "in.x",
];

#[test]
fn plans_from_the_cache_equal_a_list_searched() {
    for seed in 0..8 {
        let mut random = corelane_storage::random::Random::new(seed);
        let mut interest = Interest::new(OWN, ReactorId(0), seed);
        let mut model = Model::default();
        let mut next = 0u32;
        for _ in 0..4000 {
            let mut any = |n: usize| random.below(n as u64) as usize;
            let filter = FILTERS[any(FILTERS.len())];
            let queue = [None, None, Some("q"), Some("r")][any(4)];
            match any(6) {
                0 if model.local.len() < 12 => {
                    next += 1;
                    let (name, group) = (filter.as_bytes(), queue.map(str::as_bytes));
                    interest.subscribe(ACCOUNT, name, group, SubId(next));
                    model.local.insert(next, Local { filter, queue });
                }
                0 | 1 if !model.local.is_empty() => {
                    let nth = any(model.local.len());
                    let (&id, _) = model.local.iter().nth(nth).unwrap();
                    interest.unsubscribe(ACCOUNT, SubId(id));
                    model.local.remove(&id);
                }
                2 => {
                    let reactor = [0, 2, 3][any(3)];
                    let count = if queue.is_some() { any(3) as u32 } else { any(2) as u32 };
                    let (name, group) = (filter.as_bytes(), queue.map(str::as_bytes));
                    interest.remote(ACCOUNT, ReactorId(reactor), name, group, count);
                    model.remote.insert((filter, queue, reactor), count);
                    model.remote.retain(|_, count| *count > 0);
                }
                3 => {
                    let (id, reactor) = (any(3) as u64, any(3) as u16);
                    if any(2) == 0 {
                        interest.remove_stream(StreamId(id));
                        model.streams.remove(&id);
                    } else {
                        interest.set_stream(StreamPlace {
                            account: ACCOUNT,
                            id: StreamId(id),
                            name: id.to_string().into_bytes().into(),
                            shard: ShardId(0),
                            reactor: ReactorId(reactor),
                            credit: CreditKind::Publish,
                            subjects: vec![filter.as_bytes().into()],
                        });
                        model.streams.insert(id, (filter, reactor));
                    }
                }
                _ => {}
            }
            for _ in 0..3 {
                let name = SUBJECTS[any(SUBJECTS.len())];
                let id = interest.plan(ACCOUNT, name.as_bytes());
                let got = sorted(interest.get(id).clone());
                assert_eq!(got, model.plan(name), "{name} with seed {seed}");
            }
        }
    }
}

#[test]
fn others_hear_of_the_first_and_the_last_and_of_every_member() {
    let mut interest = Interest::new(OWN, ReactorId(0), 1);
    let mut count = |queue: Option<&[u8]>, id: u32| {
        interest.subscribe(ACCOUNT, b"a.*", queue, SubId(id)).map(|c| c.count)
    };
    assert_eq!(count(None, 1), Some(1));
    assert_eq!(count(None, 2), None);
    assert_eq!(count(Some(b"q"), 3), Some(1));
    assert_eq!(count(Some(b"q"), 4), Some(2));
    let mut gone = |id: u32| interest.unsubscribe(ACCOUNT, SubId(id)).map(|c| c.count);
    assert_eq!(gone(1), None);
    assert_eq!(gone(2), Some(0));
    assert_eq!(gone(3), Some(1));
    let last = interest.unsubscribe(ACCOUNT, SubId(4)).unwrap();
    assert_eq!(
        (&*last.filter, last.queue.as_deref(), last.count),
        (&b"a.*"[..], Some(&b"q"[..]), 0)
    );
}

#[test]
fn inboxes_that_come_and_go_leave_other_plans_alone() {
    let mut interest = Interest::new(OWN, ReactorId(0), 1);
    interest.subscribe(ACCOUNT, b"orders.eu", None, SubId(1));
    interest.subscribe(ACCOUNT, b"_INBOX.abc.*", None, SubId(2));
    let slots = |interest: &mut Interest| {
        ["orders.eu", "_INBOX.abc.7", "_INBOX.abc.8"]
            .map(|s| interest.plan(ACCOUNT, s.as_bytes()).slot)
    };
    slots(&mut interest);
    let before = slots(&mut interest);
    assert!(before.iter().all(|&slot| slot != 0), "all remembered: {before:?}");
    assert_eq!(before[1], before[2], "one plan for a prefix");
    let walks = interest.walks();
    for i in 0..100u32 {
        let filter = format!("_INBOX.new{i}.*");
        interest.subscribe(ACCOUNT, filter.as_bytes(), None, SubId(100 + i));
        slots(&mut interest);
        interest.unsubscribe(ACCOUNT, SubId(100 + i));
        let literal = format!("_INBOX.lit{i}");
        interest.subscribe(ACCOUNT, literal.as_bytes(), None, SubId(500 + i));
        slots(&mut interest);
        interest.unsubscribe(ACCOUNT, SubId(500 + i));
    }
    assert!(interest.walks() - walks < 5, "{} walks", interest.walks() - walks);
}

#[test]
fn the_cache_is_bounded() {
    let mut interest = Interest::new(OWN, ReactorId(0), 1);
    interest.subscribe(ACCOUNT, b"*.*.x", None, SubId(1));
    for i in 0..20_000u32 {
        let name = format!("a.{i}.x");
        for _ in 0..2 {
            let id = interest.plan(ACCOUNT, name.as_bytes());
            assert_eq!(interest.get(id).plain, [SubId(1)]);
        }
    }
}

#[test]
fn watches_hear_of_interest_that_comes_and_goes() {
    let mut interest = Interest::new(OWN, ReactorId(0), 1);
    let plain = interest.watch(ACCOUNT, b"_INBOX.a.7", None);
    let group = interest.watch(ACCOUNT, b"deliver", Some(b"g"));
    assert_eq!(interest.take_watch_events(), []);
    interest.subscribe(ACCOUNT, b"_INBOX.>", None, SubId(3));
    assert_eq!(interest.take_watch_events(), [], "a wildcard is no listener");
    interest.subscribe(ACCOUNT, b"_INBOX.a.7", None, SubId(1));
    interest.subscribe(ACCOUNT, b"deliver", None, SubId(2));
    interest.remote(ACCOUNT, ReactorId(0), b"_INBOX.a.7", None, 1);
    let event = |watch, interested| WatchEvent { watch, interested };
    assert_eq!(interest.take_watch_events(), [event(plain, true)]);
    interest.unsubscribe(ACCOUNT, SubId(1));
    assert_eq!(interest.take_watch_events(), []);
    interest.remote(ACCOUNT, ReactorId(0), b"_INBOX.a.7", None, 0);
    interest.remote(ACCOUNT, ReactorId(0), b"deliver", Some(b"g"), 2);
    assert_eq!(interest.take_watch_events(), [event(plain, false), event(group, true)]);
    interest.unwatch(group);
    interest.remote(ACCOUNT, ReactorId(0), b"deliver", Some(b"g"), 0);
    assert_eq!(interest.take_watch_events(), []);
}

/// With a search per subscription, either half of this takes minutes.
#[test]
fn many_subscriptions_of_one_subject_and_many_groups_are_found_at_once() {
    const COUNT: u32 = 100_000;
    let mut interest = Interest::new(OWN, ReactorId(0), 1);
    for i in 0..COUNT {
        interest.subscribe(ACCOUNT, b"one.subject", None, SubId(4 * i));
        interest.subscribe(ACCOUNT, b"one.subject", Some(b"workers"), SubId(4 * i + 1));
        let group = format!("group-{i}");
        interest.subscribe(ACCOUNT, b"one.subject", Some(group.as_bytes()), SubId(4 * i + 2));
        interest.subscribe(ACCOUNT, b"one.*", Some(group.as_bytes()), SubId(4 * i + 3));
    }
    let id = interest.plan(ACCOUNT, b"one.subject");
    let plan = interest.get(id);
    assert_eq!((plan.plain.len(), plan.groups.len()), (COUNT as usize, COUNT as usize + 1));
    let members = |name: &[u8]| plan.group_named(name).map(|at| plan.groups[at].local.len());
    assert_eq!(members(b"workers"), Some(COUNT as usize));
    assert_eq!(members(b"group-99"), Some(2));
    assert_eq!(members(b"group-"), None);
    for i in 0..4 * COUNT {
        interest.unsubscribe(ACCOUNT, SubId(i));
    }
    assert!(!interest.has_interest(ACCOUNT, b"one.subject", None));
    assert!(interest.tables[0].groups.is_empty() && interest.tables[0].group_index.is_empty());
}

#[test]
fn many_watches_of_one_subject_are_looked_at_bit_by_bit() {
    let mut interest = Interest::new(OWN, ReactorId(0), 1);
    let count = 3 * WATCHES_LOOKED_AT / 2;
    for _ in 0..count {
        interest.watch(ACCOUNT, b"deliver", None);
    }
    for i in 0..1000 {
        interest.subscribe(ACCOUNT, b"deliver", None, SubId(i));
    }
    assert_eq!(interest.take_watch_events().len(), WATCHES_LOOKED_AT);
    assert!(interest.has_watch_events());
    assert_eq!(interest.take_watch_events().len(), count - WATCHES_LOOKED_AT);
    assert!(!interest.has_watch_events());
}
