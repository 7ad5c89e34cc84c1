//! The log on real files with direct I/O, one operation after another.

use corelane_storage::device::blocking::Directory;
use corelane_storage::device::{Blocking, DeviceError, Done, File, IoBuf, Op};
use corelane_storage::log::{Log, LogOptions, Read, ReadHint};
use corelane_storage::record::{MetaIn, RecordIn};
use corelane_storage::recovery::{Replayed, open};
use corelane_storage::types::{GroupId, LogIndex, Position, ShardId, Term};

fn execute(log: &mut Log, dir: &mut Directory, ops: &mut Vec<Op>) {
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
        log.complete(Done { token, result, buf }, ops).unwrap();
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
            let done = log.append(GroupId(1), Term(1), LogIndex(id), &record).unwrap();
            places.push((done.position, done.len));
            if id.is_multiple_of(7) {
                log.seal(&mut ops);
                execute(&mut log, &mut dir, &mut ops);
            }
        }
        while log.durable() < log.appended() {
            log.seal(&mut ops);
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
