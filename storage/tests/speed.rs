//! Figures, not checks:
//! `cargo test --release -p corelane-storage --test speed -- --ignored --nocapture`.

use corelane_storage::device::blocking::Directory;
use corelane_storage::device::{Blocking, Done, File, Op};
use corelane_storage::log::{Log, LogOptions, Stamp};
use corelane_storage::record::{MessageIn, RecordIn};
use corelane_storage::recovery::{Recovery, open};
use corelane_storage::types::{GroupId, LogIndex, ShardId, StreamId, Term};
use std::time::Instant;

/// A device that has everything done at once, writing to `dir` if there is one.
fn stamper(_: GroupId) -> Stamp {
    Stamp { term: Term(1), index: LogIndex(1), commit: LogIndex(0) }
}

fn finish(log: &mut Log, ops: &mut Vec<Op>, dir: Option<&mut Directory>) {
    let mut dir = dir;
    while !ops.is_empty() {
        for op in std::mem::take(ops) {
            let token = op.token();
            let mut result = Ok(0);
            match op {
                Op::Write { file, offset, data, zeroes, .. } => {
                    result = Ok(data.len() + zeroes as usize);
                    if let Some(dir) = dir.as_deref_mut() {
                        // SAFETY: its Done has not been made yet.
                        dir.write_at(file, offset, unsafe { data.bytes() }).unwrap();
                    }
                }
                Op::Create { slot, bytes, fill, .. } => {
                    if let Some(dir) = dir.as_deref_mut() {
                        dir.create(File::Segment(slot), bytes, fill).unwrap();
                    }
                }
                _ => {}
            }
            log.complete(Done { token, result, buf: None }, ops, &mut { stamper }).unwrap();
        }
    }
}

fn fill(log: &mut Log, count: u64, size: usize, mut dir: Option<&mut Directory>) -> f64 {
    let payload = vec![7u8; size];
    let mut ops = Vec::new();
    let mut spent = std::time::Duration::ZERO;
    for turn in 0..count / 256 {
        let begun = Instant::now();
        for n in 0..256 {
            let record = RecordIn::Message(MessageIn {
                stream: StreamId(1),
                seq: turn * 256 + n,
                ts: 5,
                subject: b"orders.created",
                headers: b"",
                payload: &payload,
                relocated: false,
            });
            log.append(GroupId(2), &record).unwrap();
        }
        log.seal(&mut ops, &mut { stamper });
        spent += begun.elapsed();
        finish(log, &mut ops, dir.as_deref_mut());
    }
    spent.as_nanos() as f64 / count as f64
}

#[test]
#[ignore = "figures"]
fn append() {
    for (size, tail) in [(128, 32), (1024, 64), (1024, 32), (1024, 8), (10_240, 32)] {
        let mut disk = corelane_storage::device::sim::SimDisk::new(1, Default::default());
        let mut options = LogOptions::new(1, ShardId(0), 1);
        options.tail_bytes = tail << 20;
        let (mut log, _) = open(&mut disk, options, 1, |_| {}).unwrap();
        let count = (1 << 30) / size as u64;
        fill(&mut log, count / 4, size, None);
        let ns = fill(&mut log, count, size, None);
        println!("append {size} B, tail of {tail} MiB: {ns:.0} ns");
    }
}

#[test]
#[ignore = "figures"]
fn replay() {
    let path = std::env::temp_dir().join(format!("corelane-speed-{}", std::process::id()));
    let mut dir = Directory::open(&path).unwrap();
    let options = LogOptions::new(1, ShardId(0), 1);
    let (mut log, _) = open(&mut dir, options.clone(), 1, |_| {}).unwrap();
    fill(&mut log, 400_000, 1024, Some(&mut dir));
    drop(log);
    let begun = Instant::now();
    let mut recovery = Recovery::open(&mut dir, options, 2).unwrap();
    let opened = begun.elapsed();
    let mut records = 0u64;
    while recovery.next(&mut dir).unwrap().is_some() {
        records += 1;
    }
    let replayed = begun.elapsed();
    let bytes = recovery.report().bytes;
    recovery.finish(&mut dir).unwrap();
    let speed = bytes as f64 / (replayed - opened).as_secs_f64() / 1e9;
    println!("replay {records} records, {speed:.2} GB/s, all {:?}", begun.elapsed());
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
#[ignore = "figures"]
fn parts() {
    let source = vec![7u8; 1024];
    for mib in [64usize, 8, 1] {
        let mut target = vec![1u8; mib << 20];
        let (mut copy, mut hash) = (0, 0);
        let mut sum = 0;
        for _ in 0..(512 / mib) {
            for chunk in target.chunks_exact_mut(1024 * 256) {
                let begun = Instant::now();
                for part in chunk.chunks_exact_mut(1024) {
                    part.copy_from_slice(std::hint::black_box(&source));
                    std::hint::black_box(&part);
                }
                copy += begun.elapsed().as_nanos();
            }
            for chunk in target.chunks_exact_mut(1024 * 256) {
                let begun = Instant::now();
                for part in chunk.chunks_exact_mut(1024) {
                    part.copy_from_slice(std::hint::black_box(&source));
                    sum ^= xxhash_rust::xxh3::xxh3_64(&part[8..]);
                }
                hash += begun.elapsed().as_nanos();
            }
        }
        let n = 512 << 10;
        println!("{mib} MiB: copy {} ns, copy and hash {} ns ({sum})", copy / n, hash / n);
    }
}
