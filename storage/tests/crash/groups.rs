//! Groups that append in turn: each gets one frame of a write, whole and with the index it was
//! given.

use crate::world::World;
use corelane_storage::device::sim::{SimFaults, SimRng};
use corelane_storage::log::{LogOptions, Stamp};
use corelane_storage::record::{MetaIn, RecordIn, RecordView};
use corelane_storage::recovery::{Recovery, Replayed};
use corelane_storage::types::{GroupId, LogIndex, ShardId, Term};
use std::collections::BTreeMap;

fn ids(bytes: &[u8]) -> Vec<u64> {
    let mut ids = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let record = RecordView::decode(&bytes[at..]).unwrap();
        record.verify().unwrap();
        ids.push(record.meta().unwrap().id);
        at += record.padded_len() as usize;
    }
    ids
}

#[test]
fn groups_that_append_in_turn_get_one_frame_a_write_each() {
    let mut options = LogOptions::small(9, ShardId(1), 2);
    options.write_bytes_max = 16 << 10;
    let mut world = World::with(SimRng::new(1), options.clone(), SimFaults::default());
    let mut next: BTreeMap<GroupId, u64> = BTreeMap::new();
    let mut model: BTreeMap<(GroupId, u64), Vec<u64>> = BTreeMap::new();
    let mut id = 0;
    for round in 0..40 {
        let mut open: BTreeMap<GroupId, Vec<u64>> = BTreeMap::new();
        for _ in 0..1 + round % 12 {
            let group = GroupId(world.rng.below(5));
            let body = vec![7; world.rng.below(100) as usize];
            let record =
                RecordIn::Meta(MetaIn { kind: 1, stream: 0, id, body: &body, relocated: false });
            world.log.append(group, &record).unwrap();
            open.entry(group).or_default().push(id);
            id += 1;
        }
        let mut stamped = Vec::new();
        let mut sealed = Vec::new();
        while world.log.durable() < world.log.appended() {
            let mut stamper = |group: GroupId| {
                assert_ne!(group, GroupId(0), "what is of this log alone has no index");
                let next = next.entry(group).or_insert(1);
                let (index, commit) = (*next, *next - 1);
                *next += 1;
                stamped.push((group, index));
                Stamp { term: Term(3), index: LogIndex(index), commit: LogIndex(commit) }
            };
            let mut ops = Vec::new();
            world.log.seal(&mut ops, &mut stamper);
            world.log.need_writes_from(1);
            for entry in world.log.take_sealed().collect::<Vec<_>>() {
                let found = ids(world.log.entry_bytes(&entry).expect("in memory"));
                assert_eq!((entry.records as usize, entry.term), (found.len(), Term(3)));
                assert_eq!(found, open[&entry.group]);
                sealed.push(entry);
            }
            world.submit(ops);
            let mut ops = Vec::new();
            world.complete_one(&mut ops);
            world.submit(ops);
        }
        for (group, index) in stamped {
            model.insert((group, index), open.remove(&group).unwrap());
        }
        open.remove(&GroupId(0));
        assert!(open.is_empty(), "one write held it all");
        if let Some(last) = sealed.last() {
            assert_eq!(world.log.acknowledgeable_write(), last.write);
        }
    }
    world.disk.kill();
    let mut recovery = Recovery::open(&mut world.disk, options, 5).unwrap();
    let mut replayed: BTreeMap<(GroupId, u64), Vec<u64>> = BTreeMap::new();
    while let Some(r) = recovery.next(&mut world.disk).unwrap() {
        let Replayed::Record { frame, nth, record, .. } = r else { panic!("{r:?}") };
        if frame.group == GroupId(0) {
            assert_eq!((frame.index, frame.term), (LogIndex(0), Term(0)));
            continue;
        }
        let entry = replayed.entry((frame.group, frame.index.0)).or_default();
        assert_eq!(entry.len(), nth as usize);
        assert_eq!(frame.commit.0, frame.index.0 - 1);
        entry.push(record.meta().unwrap().id);
    }
    assert_eq!(replayed, model);
}
