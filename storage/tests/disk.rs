//! The log on real files with direct I/O, one operation after another.

use corelane_storage::device::blocking::Directory;
use corelane_storage::device::{Blocking, DeviceError, Done, File, IoBuf, Op};
use corelane_storage::log::{Log, LogOptions, Read, ReadHint, Stamp};
use corelane_storage::record::{MetaIn, RecordIn};
use corelane_storage::recovery::{OpenError, Recovery, Replayed, open};
use corelane_storage::types::{GroupId, LogIndex, Position, ShardId, Term};

fn stamper(_: GroupId) -> Stamp {
    Stamp { term: Term(1), index: LogIndex(1), commit: LogIndex(0) }
}

fn execute(log: &mut Log, dir: &mut Directory, ops: &mut Vec<Op>) {
    // A turn begins: what nobody came for may go.
    log.tick(0, ops);
    while let Some(op) = ops.pop() {
        let token = op.token();
        let (result, buf): (Result<usize, DeviceError>, Option<IoBuf>) = match op {
            Op::Write { file, offset, data, zeroes, flush, .. } => {
                // SAFETY: its Done has not been made yet.
                let written = dir.write_at(file, offset, unsafe { data.bytes() });
                let zeros = IoBuf::zeroed((zeroes as usize).max(1));
                let behind = offset + data.len() as u64;
                let zeros = &zeros[..zeroes as usize];
                let written = written.and_then(|()| dir.write_at(file, behind, zeros));
                let flushed = written.and_then(|()| if flush { dir.flush(file) } else { Ok(()) });
                (flushed.map(|()| data.len() + zeros.len()), None)
            }
            Op::Flush { file, .. } => (dir.flush(file).map(|()| 0), None),
            Op::Read { file, offset, len, mut buf, .. } => {
                (dir.read_at(file, offset, &mut buf[..len]), Some(buf))
            }
            Op::Create { slot, bytes, fill, .. } => {
                (dir.create(File::Segment(slot), bytes, fill).map(|()| 0), None)
            }
            Op::Remove { slot, .. } => (dir.remove(File::Segment(slot)).map(|()| 0), None),
        };
        log.complete(Done { token, result, buf }, ops, &mut { stamper }).unwrap();
    }
}

#[test]
fn a_directory_holds_a_log() {
    let path = std::env::temp_dir().join(format!("corelane-disk-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let mut dir = Directory::open(&path).unwrap();
    let options = LogOptions::small(5, ShardId(0), 1);
    let mut places: Vec<(Position, u32)> = Vec::new();
    for opening in 0..3u64 {
        let mut replayed = Vec::new();
        let opened = open(&mut dir, options.clone(), opening, |r| match r {
            Replayed::Record { position, len, record, .. } => {
                assert_eq!(record.meta().map(|m| m.id), Some(replayed.len() as u64));
                replayed.push((position, len));
            }
            Replayed::Damaged(damage) => panic!("{damage:?}"),
        });
        let mut log = match opened {
            // A file system without direct I/O.
            Err(e) if opening == 0 && format!("{e}").contains("nvalid argument") => return,
            opened => opened.unwrap().0,
        };
        log.finish_restore();
        assert_eq!(replayed, places);
        let mut ops = Vec::new();
        for _ in 0..500 {
            let id = places.len() as u64;
            let body = vec![id as u8; (id * 37 % 3000) as usize];
            let record =
                RecordIn::Meta(MetaIn { kind: 1, stream: 0, id, body: &body, relocated: false });
            let done = log.append(GroupId(2), &record).unwrap();
            places.push((done.position.unwrap(), done.len));
            if id.is_multiple_of(7) {
                log.seal(&mut ops, &mut { stamper });
                execute(&mut log, &mut dir, &mut ops);
            }
        }
        while log.durable() < log.appended() {
            log.seal(&mut ops, &mut { stamper });
            execute(&mut log, &mut dir, &mut ops);
        }
        for (id, (position, len)) in places.iter().enumerate() {
            loop {
                log.tick(id as i64, &mut ops);
                match log.read(*position, *len, ReadHint::Ahead, &mut ops).unwrap() {
                    Read::Ready(record) => {
                        assert_eq!(record.meta().map(|m| m.id), Some(id as u64));
                        break;
                    }
                    Read::Pending(_) | Read::Busy => execute(&mut log, &mut dir, &mut ops),
                }
            }
        }
        log.tick(1_000_000_000, &mut ops);
        execute(&mut log, &mut dir, &mut ops);
        assert!(log.is_idle());
    }
    std::fs::remove_dir_all(&path).unwrap();
}

/// A store with a few records in a directory of its own; `None` where there is no direct I/O.
fn store(name: &str, options: &LogOptions) -> Option<std::path::PathBuf> {
    let path = std::env::temp_dir().join(format!("corelane-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let mut dir = Directory::open(&path).unwrap();
    let (mut log, _) = match open(&mut dir, options.clone(), 1, |_| {}) {
        Err(e) if format!("{e}").contains("nvalid argument") => return None,
        opened => opened.unwrap(),
    };
    let mut ops = Vec::new();
    for id in 0..50 {
        let record =
            RecordIn::Meta(MetaIn { kind: 1, stream: 0, id, body: b"body", relocated: false });
        log.append(GroupId(2), &record).unwrap();
    }
    while log.durable() < log.appended() {
        log.seal(&mut ops, &mut { stamper });
        execute(&mut log, &mut dir, &mut ops);
    }
    execute(&mut log, &mut dir, &mut ops);
    Some(path)
}

#[test]
fn a_superblock_that_was_cut_off_is_repaired_or_refused() {
    let options = LogOptions::small(5, ShardId(0), 1);
    // One copy is enough; less than one is not.
    for (len, whole) in [
        (131_071, true),
        (65_536 + 4_096, true),
        (65_536 + 50, true),
        (65_536, true),
        (4_096, true),
        (151, true),
        (100, false),
        (0, false),
    ] {
        let Some(path) = store("cut", &options) else { return };
        let file = std::fs::read_dir(&path)
            .unwrap()
            .map(|f| f.unwrap().path())
            .find(|f| f.file_name().is_some_and(|n| n.to_string_lossy().contains("superblock")))
            .expect("a superblock");
        std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(len).unwrap();
        let files = || std::fs::read_dir(&path).unwrap().count();
        let before = files();
        let mut dir = Directory::open(&path).unwrap();
        let mut records = 0;
        let opened = open(&mut dir, options.clone(), 2, |_| records += 1);
        if whole {
            let (_, report) = opened.unwrap_or_else(|e| panic!("cut to {len}: {e}"));
            assert_eq!((records, report.superblock_repaired), (50, len < 65_536 + 151), "{len}");
            let again = Recovery::open(&mut dir, options.clone(), 3).unwrap();
            assert!(!again.report().superblock_repaired, "both copies are written again");
        } else {
            let Err(OpenError::Superblock(why)) = opened.map(|_| ()) else {
                panic!("cut to {len}: not refused");
            };
            assert!(why.contains("nothing was changed"), "{why}");
            assert_eq!(files(), before, "nothing is deleted");
        }
        std::fs::remove_dir_all(&path).unwrap();
    }
}
