//! Small valid logs on a simulated disk, as bytes of their files.

use corelane_storage::device::sim::{SimDisk, SimFaults};
use corelane_storage::device::{Blocking, File, Fill, Op};
use corelane_storage::log::{Commit, Log, LogOptions, Stamp};
use corelane_storage::record::{MessageIn, MetaIn, RecordIn};
use corelane_storage::recovery::open;
use corelane_storage::superblock::CheckpointRef;
use corelane_storage::types::{GroupId, LogIndex, ShardId, StreamId, Term};

/// The files of a log.
pub type Image = Vec<(File, Vec<u8>)>;

/// How the images' logs are opened.
pub fn options() -> LogOptions {
    let mut options = LogOptions::small(9, ShardId(1), 2);
    options.block_bytes = 16 << 10;
    options.segment_bytes = 32 << 10;
    options.write_bytes_max = 8 << 10;
    options.large_write_bytes = 8 << 10;
    options.read_ahead_bytes = 16 << 10;
    options.read_cache_bytes = 32 << 10;
    options.record_bytes_max = 64 << 10;
    options
}

/// The index of an entry does not matter here.
fn stamper(_: GroupId) -> Stamp {
    Stamp { term: Term(1), index: LogIndex(1), commit: LogIndex(0) }
}

fn settle(disk: &mut SimDisk, log: &mut Log) {
    let mut ops: Vec<Op> = Vec::new();
    log.seal(&mut ops, &mut { stamper });
    loop {
        let now = disk.next_time().unwrap_or(0);
        for op in ops.drain(..) {
            disk.submit(now, op);
        }
        let Some(now) = disk.next_time() else { break };
        while let Some(done) = disk.poll(now) {
            log.complete(done, &mut ops, &mut { stamper }).expect("a good disk");
        }
        log.seal(&mut ops, &mut { stamper });
    }
}

fn append(log: &mut Log, id: u64, size: usize) {
    let payload = vec![id as u8; size];
    let record = match id % 4 {
        0 => {
            RecordIn::Meta(MetaIn { kind: 4, stream: id % 3, id, body: &payload, relocated: false })
        }
        _ => RecordIn::Message(MessageIn {
            stream: StreamId(id % 3),
            seq: id,
            ts: id as i64,
            subject: b"a.b.c",
            headers: if id % 2 == 0 { b"NATS/1.0\r\nA: b\r\n\r\n" } else { b"" },
            payload: &payload,
            relocated: false,
        }),
    };
    log.append(GroupId(id / 7), &record).expect("there is room");
}

fn checkpoint(disk: &mut SimDisk, log: &mut Log, id: u64) {
    let lsn = log.durable();
    let replay = log.replay_point(lsn).expect("recent");
    let root = RecordIn::Meta(MetaIn { kind: 13, stream: 0, id, body: b"root", relocated: false });
    let appended = log.append_cold(&root, None).expect("there is room");
    let checkpoint = CheckpointRef { id, root: appended.position, root_len: appended.len };
    let mut ops = Vec::new();
    let commit = Commit { checkpoint, root_lsn: appended.lsn, applied: lsn, replay };
    log.commit_checkpoint(commit, &mut ops);
    for op in ops {
        disk.submit(0, op);
    }
    settle(disk, log);
}

/// Copies of two records, as moving them out of a segment makes them.
fn relocate(log: &mut Log) {
    for id in [1, 4] {
        let payload = vec![id as u8; 900];
        let copy = RecordIn::Message(MessageIn {
            stream: StreamId(id % 3),
            seq: id,
            ts: id as i64,
            subject: b"a.b.c",
            headers: b"",
            payload: &payload,
            relocated: true,
        });
        log.append_cold(&copy, Some(1)).expect("there is room");
    }
}

/// A log of some generations, with records of all sizes, a checkpoint, and one cut off.
fn image(generations: u64, checkpoints: bool, relocated: bool) -> Image {
    let mut disk = SimDisk::new(generations, SimFaults::default());
    let mut id = 1;
    for generation in 1..=generations {
        let (mut log, _) = open(&mut disk, options(), generation, |_| {}).expect("a good disk");
        let _ = log.finish_restore();
        for n in 0..6 {
            let large = n == 3 && generation == 1;
            append(&mut log, id, if large { 20 << 10 } else { (id * 700 % 3000) as usize });
            id += 1;
            if n % 2 == 1 {
                settle(&mut disk, &mut log);
            }
            if n == 3 && relocated {
                relocate(&mut log);
            }
            if n == 4 && checkpoints {
                settle(&mut disk, &mut log);
                checkpoint(&mut disk, &mut log, id);
                id += 1;
            }
        }
        settle(&mut disk, &mut log);
    }
    save(&mut disk)
}

/// The images that inputs choose from.
pub fn images() -> Vec<Image> {
    vec![
        image(1, false, false),
        image(3, false, false),
        image(2, true, false),
        image(2, true, true),
    ]
}

/// All files of a disk.
pub fn save(disk: &mut SimDisk) -> Image {
    let slots: Vec<_> = disk.list().expect("lists").into_iter().map(|(slot, _)| slot).collect();
    let files = slots.into_iter().map(File::Segment).chain([File::Superblock]);
    files
        .filter_map(|file| {
            let len = disk.file_len(file).ok()??;
            let mut bytes = vec![0; len as usize];
            disk.read_at(file, 0, &mut bytes).ok()?;
            Some((file, bytes))
        })
        .collect()
}

/// A disk with these files; lengths are cut to whole sectors.
pub fn load(image: &Image) -> SimDisk {
    let mut disk = SimDisk::new(1, SimFaults::default());
    for (file, bytes) in image {
        let len = bytes.len() & !511;
        disk.create(*file, len as u64, Fill::Zero).expect("there is room");
        if len > 0 {
            disk.write_at(*file, 0, &bytes[..len]).expect("it exists");
            disk.flush(*file).expect("it exists");
        }
    }
    disk
}
