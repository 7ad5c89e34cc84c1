//! Small cases, one after the other.

use super::harness::Pair;
use crate::index::*;
use crate::types::{Position, SegmentId};

fn position(n: u64) -> Position {
    Position { segment: SegmentId(n as u32 / 10), offset: n as u32 * 8 }
}

fn filled(config: IndexConfig, subjects: &[&str]) -> StreamIndex {
    let mut index = StreamIndex::new(config);
    for subject in subjects {
        let seq = index.last_seq() + 1;
        index.append(seq, position(seq), 10, subject.as_bytes());
    }
    index
}

fn store(index: &mut StreamIndex, out: &mut Vec<u8>) -> Vec<(PageKey, Vec<u8>)> {
    let mut pages = Vec::new();
    index.freeze();
    while let Some(key) = index.next_frozen(out) {
        index.stored(key, position(pages.len() as u64), out.len() as u32);
        pages.push((key, out.clone()));
    }
    pages
}

#[test]
fn sequences_and_their_ends() {
    let mut index = StreamIndex::new(IndexConfig { first_seq: 7, ..IndexConfig::default() });
    assert_eq!((index.first_seq(), index.last_seq(), index.num_deleted()), (7, 6, 0));
    assert_eq!(index.get(7), Lookup::OutOfRange);
    assert_eq!(index.remove_first(), Removed::NotThere);
    index.append(9, position(9), 10, b"a");
    assert_eq!((index.first_seq(), index.last_seq(), index.num_deleted()), (9, 9, 0));
    index.append(12, position(12), 20, b"b");
    assert_eq!((index.messages(), index.bytes(), index.num_deleted()), (2, 30, 2));
    for (seq, want) in [(8, Lookup::OutOfRange), (10, Lookup::Deleted), (13, Lookup::OutOfRange)] {
        assert_eq!(index.get(seq), want, "{seq}");
    }
    assert!(
        matches!(index.get(12), Lookup::Found(e) if e.size == 20 && e.position == position(12))
    );
    assert!(matches!(index.remove(12), Removed::Done(m) if m.size == 20));
    assert_eq!(index.remove(12), Removed::NotThere);
    assert_eq!((index.first_seq(), index.last_seq(), index.num_deleted()), (9, 12, 3));
    assert!(matches!(index.remove_first(), Removed::Done(m) if m.seq == 9));
    assert_eq!((index.first_seq(), index.last_seq(), index.num_deleted()), (13, 12, 0));
    index.skip_to(5000);
    assert_eq!((index.first_seq(), index.last_seq()), (5000, 4999));
    assert!(index.subjects().is_empty());
}

#[test]
fn the_smallest_free_id_is_taken() {
    let mut index = filled(IndexConfig::default(), &["a", "b", "c", "d"]);
    for seq in [3, 2] {
        index.remove(seq);
    }
    let ids: Vec<u32> = ["x", "d", "y", "z"]
        .iter()
        .map(|s| {
            let seq = index.last_seq() + 1;
            index.append(seq, position(seq), 10, s.as_bytes()).0
        })
        .collect();
    assert_eq!(ids, [1, 3, 2, 4]);
}

#[test]
fn the_last_of_a_subject_needs_no_page() {
    let mut names = vec!["a", "b"];
    names.extend(vec!["filler"; 2 * SEQUENCES_PER_PAGE as usize]);
    let mut index = filled(IndexConfig::default(), &names);
    store(&mut index, &mut Vec::new());
    while index.evict(usize::MAX) > 0 {}
    let a = index.subjects().lookup(b"a").expect("in use");
    assert_eq!(index.remove(1), Removed::NeedPage(PageKey::of_sequence(1)));
    let gone = RemovedMessage { seq: 1, subject: a, size: 10, segment: SegmentId(0) };
    assert_eq!(index.remove_of(a, 1), Removed::Done(gone));
    assert_eq!(index.first_seq(), 2);
    let filler = index.subjects().lookup(b"filler").expect("in use");
    assert!(matches!(index.remove_of(filler, 5), Removed::NeedPage(_)));
    let last = index.last_seq();
    assert!(matches!(index.remove_of(filler, last), Removed::Done(_)));
    assert!(!index.subjects().get(filler).expect("in use").last_is_exact());
    assert_eq!(index.last_of(filler, &mut 10), Resolved::Found(last - 1));
    assert!(index.subjects().get(filler).expect("in use").last_is_exact());
}

#[test]
fn a_kept_history_needs_no_page() {
    let config = IndexConfig { track_history: true, ..IndexConfig::default() };
    let mut names = vec!["a", "a", "b", "a"];
    names.extend(vec!["filler"; 2 * SEQUENCES_PER_PAGE as usize]);
    let mut index = filled(config, &names);
    let filler = index.subjects().lookup(b"filler").expect("in use");
    let (kept, whole) = index.subjects().history(filler);
    assert_eq!((kept.len(), whole), (HISTORY_MAX, false));
    store(&mut index, &mut Vec::new());
    while index.evict(usize::MAX) > 0 {}
    let a = index.subjects().lookup(b"a").expect("in use");
    for (seq, next) in [(1, Some(2)), (4, Some(2)), (2, None)] {
        assert!(matches!(index.remove_of(a, seq), Removed::Done(_)), "{seq}");
        assert_eq!(index.subjects().history(a).0.first().map(|k| k.seq), next);
    }
    assert_eq!(index.first_seq(), 3);
}

#[test]
fn filters_find_and_skip() {
    let mut index = filled(IndexConfig::default(), &["a.1", "b", "a.2", "b", "a.1"]);
    let find = |index: &StreamIndex, filter: &[&str], from| {
        let mut set = FilterSet::new(filter);
        match index.next_matching(&mut set, from, &mut 100) {
            Scan::Found(seq, _) => Some(seq),
            Scan::End => None,
            other => panic!("{other:?}"),
        }
    };
    for (filter, from, want) in [
        (&["a.*"][..], 2, Some(3)),
        (&["a.1"], 2, Some(5)),
        (&["a.2"], 4, None),
        (&["none"], 1, None),
        (&["a.2", "b"], 1, Some(2)),
        (&[], 4, Some(4)),
        (&[">"], 6, None),
    ] {
        assert_eq!(find(&index, filter, from), want, "{filter:?} from {from}");
    }
    index.remove(4);
    assert_eq!(find(&index, &["b"], 3), None);
    let mut budget = 1;
    let scan = index.next_matching(&mut FilterSet::new(["*"]), 3, &mut budget);
    assert_eq!((scan, budget), (Scan::Budget { resume: 5 }, 0));
}

/// A verdict must not outlive its subject.
#[test]
fn a_reused_id_is_judged_anew() {
    let mut index = filled(IndexConfig::default(), &["a.1"]);
    let mut set = FilterSet::new(["a.*"]);
    assert!(matches!(index.next_matching(&mut set, 1, &mut 9), Scan::Found(1, _)));
    index.remove(1);
    index.append(2, position(2), 10, b"b.1");
    assert_eq!(index.next_matching(&mut set, 1, &mut 9), Scan::End);
    for seq in 3..5000 {
        index.remove(seq - 1);
        let subject = format!("{}.1", if seq % 2 == 0 { "a" } else { "b" });
        index.append(seq, position(seq), 10, subject.as_bytes());
    }
    assert_eq!(index.next_matching(&mut set, 1, &mut 9), Scan::End);
}

#[test]
fn nothing_dirty_is_nothing_to_write() {
    let mut index = filled(IndexConfig::default(), &["a", "b"]);
    let out = &mut Vec::new();
    let kinds: Vec<PageKind> = store(&mut index, out).iter().map(|(k, _)| k.kind).collect();
    let want = [
        PageKind::Subjects,
        PageKind::Sequences,
        PageKind::SequencesDirectory,
        PageKind::SubjectsDirectory,
        PageKind::Head,
    ];
    assert_eq!(kinds, want);
    assert!(!index.is_dirty() && index.freeze().is_none());
    index.remove_first();
    assert!(index.is_dirty() && index.freeze().is_some());
}

/// A billion sequences do not make a checkpoint rewrite the directory.
#[test]
fn a_checkpoint_writes_what_changed() {
    let mut pair = Pair::new(IndexConfig::default());
    for page in 0..1100u64 {
        let seq = page * SEQUENCES_PER_PAGE + 1;
        pair.index.append(seq, position(seq), 10, b"a");
    }
    let out = &mut Vec::new();
    assert!(store(&mut pair.index, out).len() > 1100);
    let next = pair.index.last_seq() + 1;
    pair.index.append(next, position(next), 10, b"a");
    let pages = store(&mut pair.index, out);
    assert_eq!(pages.len(), 5, "sequences, subjects, a directory page of each, head");
    assert!(pages.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < 10_000);
}

/// A read that was overtaken by a checkpoint brings an old version: it must not be taken.
#[test]
fn an_overtaken_read_is_ignored() {
    let names = vec!["a"; 2 * SEQUENCES_PER_PAGE as usize];
    let mut index = filled(IndexConfig::default(), &names);
    let key = PageKey::of_sequence(5);
    let out = &mut Vec::new();
    let old = store(&mut index, out).iter().find(|(k, _)| *k == key).expect("stored").1.clone();
    let old_place = index.location(key).expect("stored").position;
    index.relocate(5, position(5), Position { segment: SegmentId(77), offset: 8 });
    index.freeze();
    while let Some(key) = index.next_frozen(out) {
        let place = Position { segment: SegmentId(500), offset: key.number as u32 * 8 };
        index.stored(key, place, out.len() as u32);
    }
    while index.evict(usize::MAX) > 0 {}
    assert_eq!(index.load_page(key, old_place, &old), Ok(()));
    assert_eq!(index.get(5), Lookup::NeedPage(key));
}

/// Without checkpoints, the list of dirty pages does not grow with what passed through.
#[test]
fn a_volatile_stream_keeps_no_list() {
    let mut index = StreamIndex::new(IndexConfig::default());
    for page in 0..20_000u64 {
        let seq = page * SEQUENCES_PER_PAGE + 1;
        index.append(seq, position(1), 10, b"a");
        if page > 2 {
            assert!(matches!(index.remove_first(), Removed::Done(_)));
        }
    }
    assert!(index.checkpoint.dirty_len() < 10_000);
}

#[test]
fn pages_that_do_not_fit_are_refused() {
    let mut index = filled(IndexConfig::default(), &["a", "b", "a"]);
    let pages = store(&mut index, &mut Vec::new());
    let head = &pages.last().expect("a head").1;
    let load = |mangle: &dyn Fn(PageKey, &mut Vec<u8>)| -> Result<(), Corrupt> {
        let mut index = StreamIndex::recover(IndexConfig::default(), head)?;
        while index.is_recovering() {
            for (key, location) in index.pages_to_load().collect::<Vec<_>>() {
                let stored = pages.iter().find(|(k, _)| *k == key);
                let mut bytes = stored.expect("a stored page").1.clone();
                mangle(key, &mut bytes);
                index.load_page(key, location.position, &bytes)?;
            }
        }
        Ok(())
    };
    assert_eq!(load(&|_, _| {}), Ok(()));
    let sequences = |key: PageKey| key.kind == PageKind::Sequences;
    let short = load(&|key, bytes| {
        if sequences(key) {
            bytes.truncate(bytes.len() - 16);
            bytes[4] -= 1;
        }
    });
    assert!(short.is_err_and(|c| c.what.contains("does not end")));
    let stranger = load(&|key, bytes| {
        if sequences(key) {
            bytes[16 + 12] = 9;
        }
    });
    assert!(stranger.is_err_and(|c| c.what.contains("no subject")));
}

#[test]
fn overwriting_the_only_message_of_a_subject_needs_no_page() {
    let mut index = StreamIndex::new(IndexConfig::default());
    let at = |n: u64| Position { segment: SegmentId(n as u32 / 100), offset: n as u32 * 64 };
    for seq in 1..=10_000u64 {
        index.append(seq, at(seq), seq as u32, format!("k.{seq}").as_bytes());
    }
    let mut out = Vec::new();
    index.freeze();
    while let Some(key) = index.next_frozen(&mut out) {
        index.stored(key, at(20_000), out.len() as u32);
    }
    index.evict(usize::MAX);
    index.evict(usize::MAX);
    assert!(matches!(index.get(5), Lookup::NeedPage(_)));
    let subject = index.append(10_001, at(10_001), 7, b"k.5");
    assert_eq!(index.first_of(subject, &mut 100), Resolved::Found(5));
    let Removed::Done(gone) = index.remove_of(subject, 5) else { panic!("a page is needed") };
    assert_eq!((gone.size, gone.segment), (5, SegmentId(0)));
    assert_eq!(index.first_of(subject, &mut 100), Resolved::Found(10_001));
}
