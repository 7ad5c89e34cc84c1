//! What rots below a durable mark is reported, and nothing else is lost with it.

use crate::world::{World, check, stamper};
use corelane_storage::device::sim::{SimDisk, SimFaults, SimRng};
use corelane_storage::device::{Blocking, File};
use corelane_storage::envelope::Envelope;
use corelane_storage::log::{LogOptions, ReadError};
use corelane_storage::recovery::{Damage, OpenError, Recovery, Replayed};
use corelane_storage::segment::{SegmentHeader, SegmentKind};
use corelane_storage::superblock::{SUPERBLOCK_COPY_BYTES, Superblock};
use corelane_storage::types::{Position, ShardId};

fn world(seed: u64) -> World {
    let mut rng = SimRng::new(seed);
    let mut options = LogOptions::small(9, ShardId(1), 2);
    options.block_bytes = 16 << 10;
    options.segment_bytes = (16 << 10) * (1 + rng.below(3) as u32);
    options.read_ahead_bytes = 16 << 10;
    World::with(rng, options, SimFaults::default())
}

/// Appends over several generations, and comes to rest: everything lies below a durable mark.
pub fn filled(seed: u64) -> World {
    let mut world = world(seed);
    for _ in 0..1 + seed % 3 {
        for _ in 0..10 + world.rng.below(30) {
            world.append_some();
            let mut ops = Vec::new();
            world.log.seal(&mut ops, &mut { stamper });
            world.complete_one(&mut ops);
            world.submit(ops);
        }
        world.settle();
        world.disk.crash();
        world.recover(true);
    }
    for _ in 0..20 {
        world.append_some();
        let mut ops = Vec::new();
        world.log.seal(&mut ops, &mut { stamper });
        world.submit(ops);
        world.settle();
    }
    world
}

#[derive(Debug)]
pub struct Seen {
    ids: Vec<u64>,
    damaged: Vec<Damage>,
}

pub fn replay(
    disk: &mut SimDisk,
    world_options: &LogOptions,
    seed: u64,
) -> Result<Seen, OpenError> {
    let mut recovery = Recovery::open(disk, world_options.clone(), seed)?;
    let mut seen = Seen { ids: Vec::new(), damaged: Vec::new() };
    while let Some(replayed) = recovery.next(disk)? {
        match replayed {
            Replayed::Record { record, .. } => {
                record.verify().expect("only verified records are delivered");
                let id = record.message().map(|m| m.seq).or(record.meta().map(|m| m.id));
                seen.ids.extend(id);
            }
            Replayed::Damaged(damage) => seen.damaged.push(damage),
        }
    }
    let (_, report) = recovery.finish(disk)?;
    assert_eq!(report.damaged, seen.damaged);
    Ok(seen)
}

#[test]
fn a_rotten_byte_is_reported_and_costs_one_write_at_most() {
    let (mut lost, mut harmless) = (0, 0);
    for seed in 0..400 {
        let mut world = filled(seed);
        let ids: Vec<u64> = world.entries.iter().map(|e| e.id).collect();
        let mut files: Vec<_> = world.disk.list().unwrap();
        files.retain(|(slot, _)| world.entries.iter().any(|_| slot.0 < 64));
        let (slot, len) = files[world.rng.below(files.len() as u64) as usize];
        let offset = world.rng.below(len);
        let mask = 1 << world.rng.below(8);
        assert!(world.disk.rot(File::Segment(slot), offset, mask));
        let seen = replay(&mut world.disk, &world.options, 77).expect("opens");
        let missing: Vec<u64> = ids.iter().copied().filter(|id| !seen.ids.contains(id)).collect();
        let got: Vec<u64> = ids.iter().copied().filter(|id| seen.ids.contains(id)).collect();
        assert_eq!(seen.ids, got, "seed {seed}: in order, once");
        if missing.is_empty() {
            harmless += 1;
        } else {
            assert!(!seen.damaged.is_empty(), "seed {seed}: {missing:?} gone without a word");
            let run = missing.last().unwrap() - missing[0] + 1;
            assert_eq!(run, missing.len() as u64, "seed {seed}: one stretch");
            let at = |id: u64| world.entries.iter().find(|e| e.id == id).unwrap().at;
            let (first, last) = (at(missing[0]), at(*missing.last().unwrap()));
            assert_eq!(first.segment, last.segment, "seed {seed}: one write");
            lost += 1;
        }
        // What is damaged stays damaged, and what is whole stays whole, in later openings.
        let again = replay(&mut world.disk, &world.options, 78).expect("opens");
        assert_eq!(again.ids, seen.ids);
        assert_eq!(again.damaged, seen.damaged);
    }
    assert!(lost > 50 && harmless > 50, "{lost} {harmless}");
}

#[test]
fn a_rotten_record_is_corrupt_to_its_reader_and_not_missing() {
    let mut world = filled(5);
    world.disk.crash();
    world.recover(true);
    let entry = world.entries[3];
    let slot = (0..64)
        .map(corelane_storage::device::Slot)
        .find(|slot| {
            // Find the file by its content.
            let mut buf = corelane_storage::device::IoBuf::zeroed(4096);
            let Position { segment, .. } = entry.at;
            let got = world.disk.read_at(File::Segment(*slot), 0, &mut buf);
            got.is_ok() && buf[32..36] == segment.0.to_le_bytes()
        })
        .expect("its segment has a file");
    world.disk.rot(File::Segment(slot), (entry.at.offset + 20) as u64, 1);
    let mut errors = 0;
    for _ in 0..4 {
        let mut ops = Vec::new();
        let hint = corelane_storage::log::ReadHint::One;
        match world.log.read(entry.at, entry.len, hint, &mut ops) {
            Err(ReadError::Corrupt { position, .. }) => {
                assert_eq!(position, entry.at);
                errors += 1;
            }
            Ok(corelane_storage::log::Read::Ready(view)) => check(&view, &entry),
            Ok(_) => {}
            Err(other) => panic!("{other}"),
        }
        world.submit(ops);
        let mut ops = Vec::new();
        world.complete_one(&mut ops);
    }
    assert!(errors > 0);
    let other = world.entries[4];
    world.read_fully(&other);
}

#[test]
fn one_rotten_superblock_copy_is_repaired_and_two_are_refused() {
    for copy in [0, 1] {
        let mut world = filled(2);
        let mut ops = Vec::new();
        world.checkpoint(&mut ops);
        world.submit(ops);
        world.settle();
        let checkpoint = world.log.checkpoint();
        assert!(checkpoint.is_some());
        let at = |copy: u64| copy * SUPERBLOCK_COPY_BYTES as u64 + 60;
        world.disk.rot(File::Superblock, at(copy), 4);
        let mut recovery = Recovery::open(&mut world.disk, world.options.clone(), 1).unwrap();
        assert!(recovery.report().superblock_repaired);
        assert_eq!(recovery.checkpoint(), checkpoint, "both copies were up to date");
        while recovery.next(&mut world.disk).unwrap().is_some() {}
        recovery.finish(&mut world.disk).unwrap();
        let recovery = Recovery::open(&mut world.disk, world.options.clone(), 1).unwrap();
        assert!(!recovery.report().superblock_repaired);
        world.disk.rot(File::Superblock, at(0), 4);
        world.disk.rot(File::Superblock, at(1), 4);
        let refused = Recovery::open(&mut world.disk, world.options.clone(), 1);
        assert!(matches!(refused.err(), Some(OpenError::Superblock(_))));
        world.disk.remove(File::Superblock).unwrap();
        let refused = Recovery::open(&mut world.disk, world.options.clone(), 1);
        assert!(matches!(refused.err(), Some(OpenError::Superblock(_))));
    }
}

#[test]
fn a_foreign_store_is_refused() {
    let mut world = filled(2);
    for options in [
        LogOptions { store: 10, ..world.options.clone() },
        LogOptions { shard: ShardId(0), ..world.options.clone() },
        LogOptions { shards: 3, ..world.options.clone() },
        LogOptions { block_bytes: 32 << 10, segment_bytes: 64 << 10, ..world.options.clone() },
    ] {
        let refused = Recovery::open(&mut world.disk, options, 1).err();
        assert!(matches!(refused, Some(OpenError::Foreign(_))), "{refused:?}");
    }
}

#[test]
fn an_unreadable_header_is_left_alone_and_its_records_are_reported() {
    let mut world = filled(6);
    let (slot, len) = world.disk.list().unwrap()[0];
    for at in [100, 4096 + 100] {
        world.disk.rot(File::Segment(slot), at, 8);
    }
    let mut recovery = Recovery::open(&mut world.disk, world.options.clone(), 1).unwrap();
    let mut damaged = 0;
    while let Some(replayed) = recovery.next(&mut world.disk).unwrap() {
        damaged += matches!(replayed, Replayed::Damaged(_)) as u32;
    }
    let (_, report) = recovery.finish(&mut world.disk).unwrap();
    assert_eq!(report.unidentified, vec![slot.0]);
    assert_eq!(damaged, 1);
    assert_eq!(world.disk.file_len(File::Segment(slot)), Ok(Some(len)));
}

/// Writes bytes where they lay, and flushes.
pub fn put(disk: &mut SimDisk, file: File, at: u64, bytes: &[u8]) {
    disk.write_at(file, at, bytes).unwrap();
    disk.flush(file).unwrap();
}

#[test]
fn counts_that_cannot_be_are_refused_and_do_not_overflow() {
    let changes: [fn(&mut Superblock); 6] = [
        |s| s.replay.number = 0,
        |s| s.replay.number = u64::MAX,
        |s| s.durable_through = u64::MAX,
        |s| s.sequence = u64::MAX,
        |s| s.generation = u32::MAX,
        |s| s.ends.iter_mut().for_each(|end| end.write = 0),
    ];
    for change in changes {
        let mut world = filled(1);
        let mut bytes = vec![0; SUPERBLOCK_COPY_BYTES as usize];
        world.disk.read_at(File::Superblock, 0, &mut bytes).unwrap();
        let mut superblock = Superblock::decode(&bytes).unwrap();
        assert!(!superblock.ends.is_empty());
        change(&mut superblock);
        superblock.encode(&mut bytes);
        for copy in [0, SUPERBLOCK_COPY_BYTES] {
            put(&mut world.disk, File::Superblock, u64::from(copy), &bytes);
        }
        let refused = replay(&mut world.disk, &world.options, 1).err();
        assert!(matches!(refused, Some(OpenError::Superblock(_))), "{refused:?}");
    }
}

#[test]
fn an_envelope_that_counts_too_far_is_none() {
    let changes: [fn(&mut Envelope); 3] = [
        |e| e.number = u64::MAX,
        |e| e.durable_through = u64::MAX,
        |e| (e.number, e.durable_through) = (u64::MAX, u64::MAX - 1),
    ];
    for change in changes {
        let mut world = filled(6);
        for (slot, _) in world.disk.list().unwrap() {
            let file = File::Segment(slot);
            let mut bytes = vec![0; 12288];
            world.disk.read_at(file, 0, &mut bytes).unwrap();
            let Some(header) = SegmentHeader::decode(&bytes) else { continue };
            let Some(mut envelope) = Envelope::decode(&bytes[8192..], header.key) else { continue };
            change(&mut envelope);
            envelope.encode(header.key, &mut bytes[8192..]);
            put(&mut world.disk, file, 0, &bytes);
        }
        let first = replay(&mut world.disk, &world.options, 1).expect("opens");
        assert!(!first.damaged.is_empty(), "what was durable is reported");
        let again = replay(&mut world.disk, &world.options, 2).expect("opens");
        assert_eq!(first.ids, again.ids);
    }
}

/// Envelopes under good checksums that contradict their segment and each other. What the first
/// opening decides to be lost is what the later ones tell.
#[test]
fn what_is_lost_is_decided_once() {
    let mut world = world(3);
    for size in [600, 600, 20_000] {
        world.append(size, false).expect("there is room");
        world.settle();
    }
    let mut changed = [0; 2];
    for (slot, len) in world.disk.list().unwrap() {
        let file = File::Segment(slot);
        let mut bytes = vec![0; len as usize];
        world.disk.read_at(file, 0, &mut bytes).unwrap();
        let Some(header) = SegmentHeader::decode(&bytes) else { continue };
        for at in (8192..bytes.len()).step_by(4096) {
            let Some(mut envelope) = Envelope::decode(&bytes[at..], header.key) else { continue };
            match (header.kind, envelope.number) {
                (SegmentKind::Own, _) => {
                    (envelope.number, envelope.durable_through) = (1 << 40, 1 << 20);
                    changed[0] += 1;
                }
                (SegmentKind::Hot, 2) => {
                    (envelope.number, envelope.records) = (65_535, 9);
                    changed[1] += 1;
                }
                _ => continue,
            }
            envelope.encode(header.key, &mut bytes[at..]);
        }
        put(&mut world.disk, file, 0, &bytes);
    }
    assert_eq!(changed, [1, 1]);
    let first = replay(&mut world.disk, &world.options, 1).expect("opens");
    for seed in 2..5 {
        let again = replay(&mut world.disk, &world.options, seed).expect("opens");
        assert_eq!((&first.ids, &first.damaged), (&again.ids, &again.damaged));
    }
}
