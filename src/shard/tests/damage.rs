//! Records of a checkpoint that rot: what they tell of is set aside, all else is served.

use corelane_storage::device::{Blocking, File, IoBuf, Slot};
use corelane_storage::index::{Location, PageKey};

use super::super::Shard;
use super::world::{World, options};

/// Finds a record of a stream.
type Find = dyn Fn(&Shard, usize) -> Option<Location>;

fn filled() -> World {
    let mut world = World::new(31);
    for name in ["A", "B"] {
        world.create(name, "");
        let subject = format!("{}.x", name.to_lowercase());
        for n in 0..300 {
            world.publish(name, &subject, &format!("id{n}"), &"p".repeat(200));
        }
        let body = format!(
            r#"{{"stream_name":"{name}","config":{{"durable_name":"c","ack_policy":"explicit"}}}}"#
        );
        world.request(&format!("CONSUMER.CREATE.{name}.c"), name, &body);
    }
    world.settle();
    world
}

/// Flips bits in the middle of a record; again, and it is as it was.
fn rot(world: &mut World, location: Location) {
    let slot = (0..256).map(Slot).find(|&slot| {
        let mut buf = IoBuf::zeroed(4096);
        let got = world.disk.read_at(File::Segment(slot), 0, &mut buf);
        got.is_ok() && buf[32..36] == location.position.segment.0.to_le_bytes()
    });
    let at = u64::from(location.position.offset + location.len / 2);
    assert!(world.disk.rot(File::Segment(slot.expect("a file")), at, 0x55));
}

fn restart(world: &mut World) {
    world.shard = None;
    world.disk.kill();
    world.open();
}

fn of_a(world: &mut World, find: impl Fn(&Shard, usize) -> Option<Location>) -> Location {
    let id = world.stream("A").expect("A");
    let slot = world.shard().slots[&id];
    find(world.shard(), slot).expect("a record of the checkpoint")
}

#[test]
fn a_stream_that_is_damaged_is_refused_with_a_clear_word() {
    let state = |s: &Shard, slot: usize| s.streams[slot].checkpointed.state.map(|(l, _)| l);
    let config = |s: &Shard, slot: usize| s.streams[slot].checkpointed.config;
    let head = |s: &Shard, slot: usize| s.streams[slot].index.location(PageKey::HEAD);
    let finds: [&Find; 3] = [&state, &config, &head];
    for find in finds {
        let mut world = filled();
        let before = world.dump();
        let location = of_a(&mut world, find);
        rot(&mut world, location);
        world.shard = None;
        let opened = Shard::open(&mut world.disk, options(), world.now);
        let why = opened.err().expect("refused");
        assert!(why.contains("stream") && why.contains("nothing was deleted"), "{why}");
        // Mended, it is there with all that it had.
        rot(&mut world, location);
        restart(&mut world);
        assert_eq!(world.dump(), before);
        world.check_live();
    }
}

#[test]
fn a_consumer_whose_state_is_damaged_is_set_aside() {
    let mut world = filled();
    let before = world.dump();
    let location = of_a(&mut world, |s, slot| {
        s.streams[slot].consumers.slab.iter().find_map(|(_, c)| c.checkpointed.location)
    });
    rot(&mut world, location);
    restart(&mut world);
    assert!(world.lines.iter().any(|l| l.contains("consumer")), "{:?}", world.lines);
    let info = world.request("STREAM.INFO.A", "A", "");
    assert!(info.contains(r#""consumer_count":0"#) && info.contains(r#""messages":300"#), "{info}");
    for n in 0..50 {
        world.publish("A", "a.x", "", &format!("{n}"));
    }
    world.settle();
    restart(&mut world);
    rot(&mut world, location);
    restart(&mut world);
    let consumer = |lines: &[String]| lines.iter().filter(|l| l.contains("consumer")).count();
    assert_eq!(consumer(&world.dump()["A"]), consumer(&before["A"]));
    world.check_live();
}

#[test]
fn a_consumer_that_was_removed_does_not_come_back_when_its_state_can_be_read() {
    let mut world = filled();
    let location = of_a(&mut world, |s, slot| {
        s.streams[slot].consumers.slab.iter().find_map(|(_, c)| c.checkpointed.location)
    });
    let answer = world.request("CONSUMER.DELETE.A.c", "A", "");
    assert!(answer.contains(r#""success":true"#), "{answer}");
    rot(&mut world, location);
    restart(&mut world);
    world.settle();
    rot(&mut world, location);
    restart(&mut world);
    let info = world.request("STREAM.INFO.A", "A", "");
    assert!(info.contains(r#""consumer_count":0"#) && info.contains(r#""messages":300"#), "{info}");
    world.check_live();
}

#[test]
fn a_damaged_duplicate_window_costs_no_message() {
    let mut world = filled();
    let location = of_a(&mut world, |s, slot| {
        s.streams[slot].checkpointed.dedupe.values().next().map(|p| p.location)
    });
    rot(&mut world, location);
    restart(&mut world);
    assert!(world.lines.iter().any(|l| l.contains("duplicate window")), "{:?}", world.lines);
    let info = world.request("STREAM.INFO.A", "A", "");
    assert!(info.contains(r#""messages":300"#), "{info}");
}

#[test]
fn a_damaged_root_is_refused_with_a_clear_word() {
    let mut world = filled();
    let root = world.shard().log.checkpoint().expect("a checkpoint");
    world.shard = None;
    rot(&mut world, Location { position: root.root, len: root.root_len });
    let opened = Shard::open(&mut world.disk, options(), world.now);
    let why = opened.err().expect("refused");
    assert!(why.contains("nothing was deleted"), "{why}");
}

const CONSUMER: &str = r#"{"stream_name":"A","config":{"durable_name":"NAME","opt_start_seq":4500,
    "ack_policy":"explicit","deliver_policy":"by_start_sequence","filter_subject":"a.3"}}"#;

fn create_consumer(world: &mut World, name: &str) -> String {
    world.request(&format!("CONSUMER.CREATE.A.{name}"), "A", &CONSUMER.replace("NAME", name))
}

fn info(world: &mut World, name: &str) -> String {
    world.request(&format!("CONSUMER.INFO.A.{name}"), "A", "")
}

/// A stream of nine thousand messages in three pages of sequences, with a consumer; the page in the
/// middle cannot be read. Answers where that lies.
fn with_an_unreadable_page() -> (World, Location) {
    let mut options = options();
    options.index_cache_bytes = 0;
    let mut world = World::with_options(33, Default::default(), options);
    world.fill(7, 9_000);
    let created = create_consumer(&mut world, "c");
    assert!(created.contains(r#""num_pending":643"#), "{created}");
    world.settle();
    let middle = PageKey::of_sequence(5_000);
    let page = of_a(&mut world, |s, slot| s.streams[slot].index.location(middle));
    rot(&mut world, page);
    restart(&mut world);
    (world, page)
}

#[test]
fn a_purge_that_cannot_read_the_index_is_refused() {
    let (mut world, page) = with_an_unreadable_page();
    for _ in 0..3 {
        let refused = world.request("STREAM.PURGE.A", "A", r#"{"filter":"a.3"}"#);
        assert!(refused.contains("\"err_code\":10051"), "{refused}");
    }
    rot(&mut world, page);
    restart(&mut world);
    let purged = world.request("STREAM.PURGE.A", "A", r#"{"filter":"a.3"}"#);
    assert!(purged.contains("\"success\":true"), "{purged}");
    let info = world.request("STREAM.INFO.A", "A", r#"{"subjects_filter":">"}"#);
    assert!(info.contains("\"messages\":7714") && !info.contains("a.3"), "{info}");
}

#[test]
fn a_consumer_that_cannot_count_is_there_when_it_can() {
    let (mut world, page) = with_an_unreadable_page();
    let refused = create_consumer(&mut world, "d");
    assert!(refused.contains("\"err_code\":10012"), "{refused}");
    // It is there, and what is asked of it is not left unanswered.
    for name in ["c", "d"] {
        let refused = info(&mut world, name);
        assert!(refused.contains("\"err_code\":10077"), "{refused}");
    }
    world.wait(3_000_000_000);
    let lines = world.take_log();
    assert!(!lines.is_empty() && lines.len() < 4, "{lines:?}");
    world.settle();
    rot(&mut world, page);
    restart(&mut world);
    for name in ["c", "d"] {
        let found = info(&mut world, name);
        assert!(found.contains(r#""num_pending":643"#), "{found}");
    }
    world.check_live();
}

#[test]
fn what_is_left_of_a_stream_is_removed_once_it_can_be_read() {
    let (mut world, page) = with_an_unreadable_page();
    let deleted = world.request("STREAM.DELETE.A", "A", "");
    assert!(deleted.contains("\"success\":true"), "{deleted}");
    world.wait(3_000_000_000);
    let lines = world.take_log();
    assert!(lines.len() < 4, "{lines:?}");
    rot(&mut world, page);
    restart(&mut world);
    world.wait(1_000_000_000);
    assert!(world.shard().streams.is_empty());
    world.settle();
    world.check_live();
}

#[test]
fn removal_by_age_waits_where_the_index_cannot_be_read() {
    let (mut world, _) = with_an_unreadable_page();
    let config = r#"{"name":"A","subjects":["a.>"],"max_age":100000000}"#;
    let updated = world.request("STREAM.UPDATE.A", "A", config);
    assert!(updated.contains("\"max_age\":100000000"), "{updated}");
    world.wait(1_000_000_000);
    let before = world.shard().tally().work.jobs;
    world.wait(2_000_000_000);
    let jobs = world.shard().tally().work.jobs - before;
    assert!(jobs < 1_000, "{jobs} steps of jobs");
    let lines = world.take_log();
    assert!(!lines.is_empty() && lines.len() < 4, "{lines:?}");
    let info = world.request("STREAM.INFO.A", "A", "");
    assert!(!info.contains("\"messages\":0,"), "{info}");
}

#[test]
fn what_the_log_says_is_done_although_reads_fail() {
    for failing in [1, 2, 7] {
        let mut options = options();
        options.index_cache_bytes = 0;
        let mut world = World::with_options(35, Default::default(), options);
        world.fill(7, 9_000);
        restart(&mut world);
        world.failing_reads = failing;
        let update = r#"{"name":"A","subjects":["a.>"],"max_msgs":100}"#;
        let answer = world.request("STREAM.UPDATE.A", "A", update);
        assert_eq!(world.failing_reads, 0, "a page was not read again");
        assert!(answer.contains("\"messages\":100,"), "{failing}: {answer}");
        let dump = world.dump();
        world.settle();
        restart(&mut world);
        assert!(world.dump() == dump, "{failing}: a restart finds something else");
    }
}

#[test]
fn a_message_that_the_index_cannot_find_is_not_deleted() {
    let (mut world, page) = with_an_unreadable_page();
    let body = r#"{"seq":5000}"#;
    let refused = world.request("STREAM.MSG.DELETE.A", "A", body);
    assert!(refused.contains("\"err_code\":10057"), "{refused}");
    rot(&mut world, page);
    restart(&mut world);
    let deleted = world.request("STREAM.MSG.DELETE.A", "A", body);
    assert!(deleted.contains("\"success\":true"), "{deleted}");
}
