//! What an index costs: bytes a subject and a message, and the time of an append.

use crate::index::*;
use crate::types::{Position, SegmentId};
use std::collections::BTreeMap;
use std::time::Instant;

fn position(n: u64) -> Position {
    Position { segment: SegmentId((n >> 18) as u32), offset: (n as u32 & 0x3ffff) * 256 }
}

fn names(subjects: u64) -> Vec<String> {
    (0..subjects).map(|n| format!("orders.{}.{:06}", n % 50, n)).collect()
}

/// Appends `messages` spread over `names`; answers nanoseconds an append.
fn fill(index: &mut StreamIndex, names: &[String], messages: u64) -> f64 {
    let start = Instant::now();
    let mut n = index.last_seq();
    for _ in 0..messages {
        n += 1;
        // A multiplicative walk visits the subjects in no friendly order.
        let subject = &names[(n.wrapping_mul(0x9e37_79b9) % names.len() as u64) as usize];
        index.append(n, position(n), 300, subject.as_bytes());
    }
    start.elapsed().as_nanos() as f64 / messages as f64
}

type Stored = BTreeMap<PageKey, Vec<u8>>;

fn checkpoint(index: &mut StreamIndex, stored: &mut Stored) -> (u64, u64) {
    let mut out = Vec::new();
    let (mut pages, mut bytes) = (0, 0);
    index.freeze();
    while let Some(key) = index.next_frozen(&mut out) {
        pages += 1;
        bytes += out.len() as u64;
        index.stored(key, position(pages), out.len() as u32);
        stored.insert(key, out.clone());
    }
    (pages, bytes)
}

fn rss_kib() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|p| p.parse::<usize>().ok()).unwrap_or(0) * 4
}

#[test]
fn what_stays_resident_is_small() {
    let names = names(100_000);
    let name_bytes: usize = names.iter().map(String::len).sum();
    let mut index = StreamIndex::new(IndexConfig::default());
    fill(&mut index, &names, 600_000);
    assert_eq!(index.subjects().len(), names.len());
    checkpoint(&mut index, &mut Stored::new());
    while index.evict(usize::MAX) > 0 {}
    let resident = index.resident();
    assert!(resident.sequences <= 2 * 65_536, "{resident:?}");
    assert_eq!(resident.outbox, 0);
    let beyond = (resident.fixed - name_bytes) / names.len();
    assert!(beyond <= 120, "{beyond} bytes a subject beyond its name");
}

/// One old message and one subject that is overwritten again and again: what was overwritten takes
/// neither memory nor disk.
#[test]
fn overwritten_messages_leave_nothing() {
    let mut index = StreamIndex::new(IndexConfig::default());
    index.append(1, position(1), 300, b"old");
    let mut on_disk = BTreeMap::new();
    let mut out = Vec::new();
    let (mut kept, mut places) = (Vec::new(), 0);
    for n in 2..=3_000_000u64 {
        let id = index.append(n, position(n), 300, b"hot");
        if n > 2 {
            assert!(matches!(index.remove_of(id, n - 1), Removed::Done(_)), "{n}");
        }
        if n.is_multiple_of(10_000) && n % 100_000 >= 50_000 {
            index.freeze();
            for location in index.take_released() {
                assert!(on_disk.remove(&location.position).is_some());
            }
            while let Some(key) = index.next_frozen(&mut out) {
                places += 1;
                let at = position(places);
                let old = index.stored(key, at, out.len() as u32);
                old.map(|old| on_disk.remove(&old.position));
                on_disk.insert(at, out.len());
            }
            let resident = index.resident();
            kept.push((on_disk.values().sum::<usize>(), resident.sequences + resident.fixed));
        }
    }
    let most = kept.iter().max().expect("checkpoints");
    assert!(most.0 < 400 << 10, "{most:?} bytes on disk");
    let most = kept.iter().map(|k| k.1).max().expect("checkpoints");
    assert!(most < 400 << 10, "{most} bytes in memory");
    assert_eq!(index.num_deleted(), 3_000_000 - 2);
}

/// Few messages that live among many that were overwritten.
#[test]
fn sparse_pages_are_small() {
    let mut index = StreamIndex::new(IndexConfig::default());
    let (mut stored, mut places, mut out) = (Stored::new(), 0, Vec::new());
    for n in 1..=1_000_000u64 {
        if n.is_multiple_of(1_000) {
            index.append(n, position(n), 300, format!("cold.{n}").as_bytes());
            continue;
        }
        let before = index.subjects().lookup(b"hot").and_then(|id| index.subjects().get(id));
        let before = before.map(|e| e.last);
        let id = index.append(n, position(n), 300, b"hot");
        if let Some(before) = before {
            assert!(matches!(index.remove_of(id, before), Removed::Done(_)));
        }
    }
    index.freeze();
    while let Some(key) = index.next_frozen(&mut out) {
        places += 1;
        index.stored(key, position(places), out.len() as u32);
        stored.insert(key, out.clone());
    }
    let bytes = stored.iter().filter(|(key, _)| key.kind == PageKind::Sequences);
    let bytes: usize = bytes.map(|(_, page)| page.len()).sum();
    assert!(bytes < 200 << 10, "{bytes} bytes for 1,000 messages");
    assert!(index.sequence_bytes() < 200 << 10, "{} in memory", index.sequence_bytes());
    while index.evict(usize::MAX) > 0 {}
    recover(&index, &stored);
    for n in (1_000..1_000_000).step_by(1_000) {
        let key = PageKey::of_sequence(n);
        if let Lookup::NeedPage(_) = index.get(n) {
            let location = index.location(key).expect("stored");
            index.load_page(key, location.position, &stored[&key]).expect("a page");
        }
        assert!(matches!(index.get(n), Lookup::Found(entry) if entry.position == position(n)));
        assert!(!matches!(index.get(n + 1), Lookup::Found(_)));
    }
}

/// `cargo test --release -p corelane-storage figures -- --ignored --nocapture`
#[test]
#[ignore = "prints figures"]
fn figures() {
    let names = names(100_000);
    let before = rss_kib();
    let mut index = StreamIndex::new(IndexConfig::default());
    let (mut times, mut stored) = (Vec::new(), Stored::new());
    times.push(fill(&mut index, &names, 100_000));
    times.push(fill(&mut index, &names, 900_000));
    for _ in 0..4 {
        let start = Instant::now();
        let (pages, bytes) = checkpoint(&mut index, &mut stored);
        println!("checkpoint: {pages} pages, {bytes} B, {:?}", start.elapsed());
        index.evict(usize::MAX);
        times.push(fill(&mut index, &names, 1_000_000));
    }
    println!("ns an append, 100 k new subjects first: {times:.0?}");
    checkpoint(&mut index, &mut stored);
    while index.evict(usize::MAX) > 0 {}
    let rss = rss_kib() - before - stored.values().map(Vec::len).sum::<usize>() / 1024;
    recover(&index, &stored);
    println!("5 M messages, 100 k subjects: {:?}, RSS + {} KiB", index.resident(), rss);
    let one = vec!["orders".to_owned()];
    let mut index = StreamIndex::new(IndexConfig::default());
    println!("one subject: {:.0} ns an append", fill(&mut index, &one, 4_000_000));
    let start = Instant::now();
    let mut filter = FilterSet::new(["orders"]);
    let (mut at, mut found) = (1, 0u64);
    while let Scan::Found(seq, _) = index.next_matching(&mut filter, at, &mut u32::MAX.clone()) {
        at = seq + 1;
        found += 1;
    }
    println!("next_matching: {:.0} ns", start.elapsed().as_nanos() as f64 / found as f64);
    let start = Instant::now();
    for _ in 0..4_000_000 {
        index.remove_first();
    }
    println!("remove_first: {:.0} ns", start.elapsed().as_nanos() as f64 / 4e6);
    overwrites(&names);
    walks(&names);
}

/// Builds the index again.
fn recover(index: &StreamIndex, stored: &Stored) {
    let start = Instant::now();
    let head = &stored[&PageKey::HEAD];
    let mut again = StreamIndex::recover(IndexConfig::default(), head).expect("a head");
    let mut loaded = 0;
    while again.is_recovering() {
        for (key, location) in again.pages_to_load().collect::<Vec<_>>() {
            loaded += 1;
            again.load_page(key, location.position, &stored[&key]).expect("a page");
        }
    }
    println!("recovery: {loaded} pages, {:?}", start.elapsed());
    assert_eq!(again.messages(), index.messages());
}

/// One message a subject: each append removes the one before.
fn overwrites(names: &[String]) {
    let mut index = StreamIndex::new(IndexConfig::default());
    let start = Instant::now();
    for n in 1..=1_000_000u64 {
        let subject = names[(n.wrapping_mul(0x9e37_79b9) % names.len() as u64) as usize].as_bytes();
        let known = index.subjects().lookup(subject);
        let last = known.and_then(|id| Some((id, index.subjects().get(id)?.last)));
        index.append(n, position(n), 300, subject);
        if let Some((id, seq)) = last {
            assert!(matches!(index.remove_of(id, seq), Removed::Done(_)));
        }
    }
    println!(
        "overwrite: {:.0} ns, {:?}",
        start.elapsed().as_nanos() as f64 / 1e6,
        index.resident()
    );
}

fn walks(names: &[String]) {
    let mut index = StreamIndex::new(IndexConfig::default());
    fill(&mut index, names, 200_000);
    for filter in [">", "orders.*.*", "orders.7.*", "*.*.000777", "orders.7.000007"] {
        let start = Instant::now();
        let mut found = 0;
        let mut budget = u32::MAX;
        let mut cursor = SubjectCursor::new();
        let count = |_, _: &SubjectEntry| found += 1;
        index.subjects().for_each_match(filter.as_bytes(), &mut cursor, &mut budget, count);
        let visited = u32::MAX - budget;
        println!("{filter}: {found} found, {visited} names, {:?}", start.elapsed());
    }
}
