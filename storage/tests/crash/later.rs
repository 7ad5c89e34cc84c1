//! What a later release wrote is refused by its name, wherever it lies, and nothing is changed: it
//! is neither repaired from an older copy nor taken for damage or for the log's end.

use crate::rot::{filled, put, replay};
use crate::world::World;
use corelane_storage::device::{Blocking, File};
use corelane_storage::envelope::{ENVELOPE_BYTES, Envelope, FRAME_HEADER_BYTES};
use corelane_storage::recovery::{OpenError, refuse_unknown};
use corelane_storage::segment::{SegmentHeader, SegmentKind};
use corelane_storage::superblock::SUPERBLOCK_COPY_BYTES;
use xxhash_rust::xxh3::xxh3_64;

/// All files and their bytes.
fn image(world: &mut World) -> Vec<(File, Vec<u8>)> {
    let mut files = vec![(File::Superblock, 2 * u64::from(SUPERBLOCK_COPY_BYTES))];
    files.extend(world.disk.list().unwrap().into_iter().map(|(slot, n)| (File::Segment(slot), n)));
    let disk = &mut world.disk;
    let mut read = |(file, len): (File, u64)| {
        let mut bytes = vec![0; len as usize];
        disk.read_at(file, 0, &mut bytes).unwrap();
        (file, bytes)
    };
    files.into_iter().map(&mut read).collect()
}

fn refuses(world: &mut World, name: &str) {
    let before = image(world);
    let refused = replay(&mut world.disk, &world.options, 1).err();
    let Some(OpenError::Unknown(what)) = &refused else { panic!("{name}: {refused:?}") };
    assert!(what.contains(name), "{what}");
    assert!(image(world) == before, "{name}: something was changed");
}

/// Gives bytes a version and the checksum that goes with it.
fn reseal(bytes: &mut [u8], version_at: usize, version: u8, checksum_at: usize) {
    bytes[version_at] = version;
    let covered = if checksum_at == 0 { &bytes[8..] } else { &bytes[..checksum_at] };
    let checksum = xxh3_64(covered).to_le_bytes();
    bytes[checksum_at..checksum_at + 8].copy_from_slice(&checksum);
}

#[test]
fn a_superblock_in_either_copy() {
    for copy in [0, 1] {
        for other_is_whole in [true, false] {
            let mut world = filled(2);
            let place = |copy: u32| u64::from(copy * SUPERBLOCK_COPY_BYTES);
            let mut bytes = vec![0; SUPERBLOCK_COPY_BYTES as usize];
            world.disk.read_at(File::Superblock, place(copy), &mut bytes).unwrap();
            let length = u32::from_le_bytes(bytes[20..24].try_into().unwrap());
            reseal(&mut bytes[..length as usize], 16, 3, 0);
            put(&mut world.disk, File::Superblock, place(copy), &bytes);
            if !other_is_whole {
                put(&mut world.disk, File::Superblock, place(1 - copy), &vec![0; bytes.len()]);
            }
            refuses(&mut world, "superblock is of version 3");
            let early = refuse_unknown(&mut world.disk);
            assert!(matches!(early, Err(OpenError::Unknown(_))), "{early:?}");
            // A damaged one of a later version is damaged.
            bytes[40] ^= 1;
            put(&mut world.disk, File::Superblock, place(copy), &bytes);
            assert_eq!(refuse_unknown(&mut world.disk), Ok(()));
        }
    }
}

#[test]
fn a_segment_header_in_either_copy() {
    for (copy, nth) in [(0, 0), (4096, 0), (0, 1), (4096, 2)] {
        let mut world = filled(2);
        let (slot, _) = world.disk.list().unwrap()[nth];
        let mut bytes = vec![0; 512];
        world.disk.read_at(File::Segment(slot), copy, &mut bytes).unwrap();
        reseal(&mut bytes, 8, 2, 504);
        put(&mut world.disk, File::Segment(slot), copy, &bytes);
        refuses(&mut world, "is of format 2");
    }
}

/// Files with their key, and where the writes of the log lie in them.
fn writes(world: &mut World) -> Vec<(File, u64, u64, Envelope)> {
    let mut found = Vec::new();
    for (file, bytes) in image(world).into_iter().skip(1) {
        let header = SegmentHeader::decode(&bytes).filter(|h| !h.kind.is_cold());
        let Some(SegmentHeader { key, kind, .. }) = header else { continue };
        let end = if kind == SegmentKind::Own { 8193 } else { bytes.len() };
        let envelopes = (8192..end).step_by(4096);
        let envelopes = envelopes.filter_map(|at| Some((at, Envelope::decode(&bytes[at..], key)?)));
        found.extend(envelopes.map(|(at, e)| (file, key, at as u64, e)));
    }
    found.sort_by_key(|(.., envelope)| envelope.number);
    found
}

#[test]
fn a_write_or_a_frame_of_the_log() {
    let count = writes(&mut filled(5)).len();
    assert!(count > 30);
    // The last writes are those that the log could end before, or the only ones that are left.
    for (nth, from) in [(0, 0), (count / 2, 0), (count - 1, 0), (count - 1, count - 3)] {
        for frame in [false, true] {
            let mut world = filled(5);
            let all = writes(&mut world);
            let (file, key, at, mut envelope) = all[nth].clone();
            let mut write = vec![0; envelope.padded as usize];
            world.disk.read_at(file, at, &mut write).unwrap();
            if frame {
                let header = ENVELOPE_BYTES as usize;
                write[header + 12] = 3;
                let body = &write[header..header + FRAME_HEADER_BYTES as usize];
                // Whatever a later version means by its checksum, the write was sealed with it.
                let sum = xxh3_64(&body[8..]);
                assert_eq!(envelope.frames, 1);
                write[header..header + 8].copy_from_slice(&sum.to_le_bytes());
                envelope.bodies = chain(0, sum);
                envelope.encode(key, &mut write);
            } else {
                write[12] = 2;
                let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&write[8..96], key);
                write[..8].copy_from_slice(&sum.to_le_bytes());
            }
            put(&mut world.disk, file, at, &write);
            for (file, _, at, _) in &all[from..nth.max(from)] {
                if from > 0 {
                    put(&mut world.disk, *file, *at, &[0; 4096]);
                }
            }
            refuses(&mut world, if frame { "frame of version 3" } else { "write of version 2" });
        }
    }
}

/// As `DATA_FORMAT.md` has it.
fn chain(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93);
    ((product as u64) ^ ((product >> 64) as u64)).rotate_left(29) ^ b
}
