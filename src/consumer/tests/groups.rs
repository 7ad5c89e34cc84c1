use super::drive::subject_id;
use crate::consumer::Progress;
use crate::consumer::pending::{FilterGroups, Handle, MEMO_GROUPS_MAX};
use crate::subject;
use std::collections::BTreeMap;

/// A small seeded generator.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

struct Place {
    handle: Handle,
    filters: Vec<Vec<u8>>,
    position: u64,
}

/// Unique subjects that come and go leave nothing behind, and count for the right groups.
#[test]
fn what_is_remembered_of_subjects_is_bounded() {
    let mut groups = FilterGroups::new();
    let filters = ["u.*", "u.>", "*.*", "u.x"].map(|f| vec![f.as_bytes().to_vec()]);
    let handles = filters.each_ref().map(|f| groups.add(f, 1, 0, 0));
    for seq in 1..=1_000_000u64 {
        let subject = format!("u.{seq}");
        groups.appended(seq as u32 % 1_000, subject.as_bytes(), seq, |_| {});
        groups.removed(seq as u32 % 1_000, subject.as_bytes(), seq);
        groups.forget_subject(seq as u32 % 1_000);
    }
    assert!(groups.remembered() <= 2 * MEMO_GROUPS_MAX, "{}", groups.remembered());
    groups.appended(7, b"u.x", 1_000_001, |_| {});
    assert_eq!(handles.map(|h| groups.pending(h)), [1; 4]);
}

#[derive(Default)]
struct Model {
    groups: FilterGroups,
    messages: BTreeMap<u64, Vec<u8>>,
    last_seq: u64,
    places: Vec<Place>,
}

const FILTERS: [&[&str]; 7] =
    [&[], &["a.*"], &["a.>"], &["a.x"], &["*.x", "b.y"], &["c"], &["a.x", "b.>"]];
const SUBJECTS: [&str; 6] = ["a.x", "a.y", "b.x", "b.y.z", "c", "a.x.y"];

fn hit(filters: &[Vec<u8>], s: &[u8]) -> bool {
    filters.is_empty() || filters.iter().any(|f| subject::matches(f, s))
}

impl Model {
    fn count(&self, filters: &[Vec<u8>], from: u64) -> u64 {
        self.messages.range(from..).filter(|(_, s)| hit(filters, s)).count() as u64
    }

    fn check(&self, seed: u64) {
        for p in &self.places {
            let want = self.count(&p.filters, p.position);
            assert_eq!(self.groups.pending(p.handle), want, "seed {seed} at {}", p.position);
        }
    }

    fn step(&mut self, dice: &mut Dice) {
        match dice.roll(100) {
            0..40 => {
                let s = SUBJECTS[dice.roll(6) as usize].as_bytes();
                self.last_seq += 1;
                self.messages.insert(self.last_seq, s.to_vec());
                self.groups.appended(subject_id(s), s, self.last_seq, |_| {});
            }
            40..50 => self.add(dice),
            50..75 => self.advance(dice),
            75..93 => {
                let near = dice.roll(self.last_seq + 1);
                let Some((&seq, _)) = self.messages.range(near..).next() else { return };
                let s = self.messages.remove(&seq).unwrap_or_default();
                self.groups.removed(subject_id(&s), &s, seq);
            }
            93..96 => {
                let below = dice.roll(self.last_seq + 2);
                self.messages = self.messages.split_off(&below);
                let messages = &self.messages;
                self.groups.purged_below(below, |filters| {
                    messages.range(below..).filter(|(_, s)| hit(filters, s)).count() as u64
                });
            }
            _ => {
                if !self.places.is_empty() {
                    let i = dice.roll(self.places.len() as u64) as usize;
                    self.groups.remove(self.places.swap_remove(i).handle);
                }
            }
        }
    }

    fn add(&mut self, dice: &mut Dice) {
        let filters = FILTERS[dice.roll(7) as usize];
        let filters: Vec<_> = filters.iter().map(|f| f.as_bytes().to_vec()).collect();
        // Sometimes above everything stored.
        let position = 1 + dice.roll(self.last_seq + 6);
        let pending = self.count(&filters, position);
        let handle = self.groups.add(&filters, position, pending, self.last_seq);
        self.places.push(Place { handle, filters, position });
    }

    fn advance(&mut self, dice: &mut Dice) {
        if self.places.is_empty() {
            return;
        }
        let i = dice.roll(self.places.len() as u64) as usize;
        let p = &mut self.places[i];
        let mut passed = 0;
        for _ in 0..dice.roll(5) {
            let next = self.messages.range(p.position..).find(|(_, s)| hit(&p.filters, s));
            match next {
                Some((&seq, _)) => {
                    p.position = seq + 1;
                    passed += 1;
                }
                None => {
                    p.position = p.position.max(self.last_seq + 1);
                    break;
                }
            }
        }
        self.groups.moved(p.handle, Progress { position: p.position, passed });
    }
}

#[test]
fn counts_equal_a_scan() {
    for seed in 0..60 {
        let (mut model, mut dice) = (Model::default(), Dice(seed));
        for _ in 0..600 {
            model.step(&mut dice);
            model.check(seed);
        }
    }
}

#[test]
fn counts_equal_a_scan_with_many_consumers() {
    let (mut model, mut dice) = (Model::default(), Dice(99));
    for _ in 0..100 {
        model.step(&mut dice);
    }
    for _ in 0..2_000 {
        model.add(&mut dice);
    }
    for step in 0..2_000 {
        model.step(&mut dice);
        if step % 100 == 0 {
            model.check(99);
        }
    }
    model.check(99);
}

#[test]
fn only_parked_consumers_are_woken_and_once() {
    let mut g = FilterGroups::new();
    let a = g.add(&[b"a".to_vec()], 1, 0, 0);
    let b = g.add(&[b"a".to_vec()], 1, 0, 0);
    let c = g.add(&[b"c".to_vec()], 1, 0, 0);
    g.park(a);
    g.park(a);
    g.park(c);
    let mut woken = Vec::new();
    g.appended(1, b"a", 1, |h| woken.push(h));
    g.appended(1, b"a", 2, |h| woken.push(h));
    assert_eq!(woken, [a]);
    assert_eq!((g.pending(a), g.pending(b), g.pending(c)), (2, 2, 0));
}

#[test]
fn watchers_of_a_removal() {
    let mut g = FilterGroups::new();
    let a = g.add(&[], 1, 0, 0);
    let b = g.add(&[], 1, 0, 0);
    g.watch(a, Some((5, 10)));
    g.watch(b, Some((7, 8)));
    let look = |g: &FilterGroups, seq| {
        let mut out = Vec::new();
        g.watchers(seq, &mut out);
        out
    };
    assert_eq!(look(&g, 4), []);
    assert_eq!(look(&g, 7), [a, b]);
    assert_eq!(look(&g, 9), [a]);
    g.watch(a, Some((9, 12)));
    assert_eq!(look(&g, 7), [b]);
    let mut below = Vec::new();
    g.concerned_below(8, &mut below);
    assert_eq!(below, [a, b]);
    below.clear();
    g.moved(a, Progress { position: 9, passed: 0 });
    g.concerned_below(9, &mut below);
    assert_eq!(below, [b]);
    g.watch(b, None);
    g.remove(a);
    assert_eq!(look(&g, 9), []);
}

/// Appends and removals do not touch consumers: with a step for each, this would take minutes.
#[test]
fn ten_thousand_idle_consumers_cost_nothing() {
    let mut g = FilterGroups::new();
    let handles: Vec<_> = (0..10_000).map(|_| g.add(&[b"a.>".to_vec()], 1, 0, 0)).collect();
    for seq in 1..=200_000u64 {
        g.appended(1, b"a.b", seq, |_| {});
        if seq > 1_000 {
            // The oldest leaves, and now and then one from the middle.
            g.removed(1, b"a.b", if seq.is_multiple_of(2) { seq - 500 } else { seq - 1_000 });
        }
    }
    for h in handles {
        assert_eq!(g.pending(h), 1_000);
    }
}
