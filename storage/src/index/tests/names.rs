//! The order of names and the walk of wildcard filters over it.

use super::harness::{Rng, ids_of, model_matches};
use crate::index::*;
use crate::types::Position;
use std::collections::BTreeMap;

fn joined(tokens: &[&str], most: usize) -> Vec<String> {
    let mut all: Vec<String> = tokens.iter().map(|t| t.to_string()).collect();
    let mut from = 0;
    for _ in 1..most {
        let longer: Vec<String> = all[from..]
            .iter()
            .flat_map(|a| tokens.iter().map(move |t| format!("{a}.{t}")))
            .collect();
        from = all.len();
        all.extend(longer);
    }
    all
}

/// Tokens that sort around the separator, in every combination, under every filter.
#[test]
fn every_filter_over_every_name() {
    let names = joined(&["a", "a-", "a/", "a0", "b"], 3);
    let mut index = StreamIndex::new(IndexConfig::default());
    for (n, name) in names.iter().enumerate() {
        index.append(n as u64 + 1, Position::default(), 1, name.as_bytes());
    }
    let mut sorted = names.clone();
    sorted.sort();
    let filters = joined(&["a", "a/", "b", "*", ">"], 3);
    for filter in filters.iter().filter(|f| !f.trim_end_matches('>').contains('>')) {
        let want: Vec<&String> = sorted.iter().filter(|n| model_matches(filter, n)).collect();
        for step in [1, 3, u32::MAX] {
            let mut got = Vec::new();
            let mut cursor = SubjectCursor::new();
            while !cursor.is_done() {
                let mut budget = step;
                let table = index.subjects();
                table.for_each_match(filter.as_bytes(), &mut cursor, &mut budget, |_, e| {
                    got.push(String::from_utf8(e.name().to_vec()).expect("utf-8"));
                });
            }
            assert_eq!(got.iter().collect::<Vec<_>>(), want, "{filter} by {step}");
        }
    }
}

/// A filter that matches little looks at little.
#[test]
fn what_cannot_match_is_jumped_over() {
    let mut index = StreamIndex::new(IndexConfig::default());
    for n in 0..20_000u64 {
        let name = format!("dev.{}.t.{n}", n % 10);
        index.append(n + 1, Position::default(), 1, name.as_bytes());
    }
    for (filter, matches, most) in [
        ("*.3.t.1233", 1, 10),
        ("dev.*.t.1233", 1, 40),
        ("dev.3.>", 2000, 2001),
        ("*.*.none.*", 0, 40),
        ("none.>", 0, 1),
        ("dev.3.t", 0, 1),
    ] {
        let mut budget = 100_000;
        let mut found = 0;
        let mut cursor = SubjectCursor::new();
        let table = index.subjects();
        let count = |_, _: &SubjectEntry| found += 1;
        assert!(table.for_each_match(filter.as_bytes(), &mut cursor, &mut budget, count));
        assert_eq!(found, matches, "{filter}");
        assert!(100_000 - budget <= most, "{filter}: {} names", 100_000 - budget);
    }
}

/// Thousands of names come and go, so that leaves split, merge and vanish.
#[test]
fn names_come_and_go() {
    let mut rng = Rng(7);
    let mut index = StreamIndex::new(IndexConfig::default());
    let mut live: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for round in 0..12 {
        let percent = if round % 2 == 0 { 85 } else { 15 };
        for _ in 0..4000 {
            if rng.chance(percent) {
                let name = format!("n.{:x}", rng.below(1 << 20)).into_bytes();
                let seq = index.last_seq() + 1;
                index.append(seq, Position::default(), 1, &name);
                if let Some(before) = live.insert(name, seq) {
                    assert!(matches!(index.remove(before), Removed::Done(_)));
                }
            } else if let Some((name, seq)) = {
                let key = format!("n.{:x}", rng.below(1 << 20)).into_bytes();
                live.range(key..).next().map(|(n, &s)| (n.clone(), s))
            } {
                live.remove(&name);
                assert!(matches!(index.remove(seq), Removed::Done(_)));
            }
        }
        let ids = ids_of(&index);
        assert!(ids.iter().map(|(_, name, _)| name).eq(live.keys()));
        let used: Vec<u32> = ids.iter().map(|(id, ..)| id.0).collect();
        assert!(used.iter().all(|&id| index.subjects().get(SubjectId(id)).is_some()));
    }
}
