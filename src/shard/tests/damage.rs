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
    let state = |s: &Shard, slot: usize| s.streams[slot].stored.state.map(|(l, _)| l);
    let config = |s: &Shard, slot: usize| s.streams[slot].stored.config;
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
        s.streams[slot].consumers.slab.iter().find_map(|(_, c)| c.stored.location)
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
fn a_damaged_duplicate_window_costs_no_message() {
    let mut world = filled();
    let location = of_a(&mut world, |s, slot| {
        s.streams[slot].stored.dedupe.values().next().map(|p| p.location)
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
