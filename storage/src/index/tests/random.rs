//! Random runs of everything against the model.

use super::harness::{Message, Op, Pair, Rng, any_matches, model_matches};
use crate::index::*;
use crate::types::{Position, SegmentId};

const FILTERS: [&str; 17] = [
    ">", "a.>", "a.*", "*.1", "*.*.c", "b.*.c", "a.3", "a-b.*", "*", "s.>", "none.*", "b.2.>",
    "*.7.*", "solo", "s.11", "*.*.*", "a.*.>",
];

struct Run {
    pair: Pair,
    rng: Rng,
    subjects: u64,
    filters: Vec<(Vec<String>, FilterSet)>,
    counts: Vec<(Vec<String>, u64, CountId)>,
    last: Option<(Vec<String>, LastJob)>,
}

fn filters_of(rng: &mut Rng) -> Vec<String> {
    let n = if rng.chance(70) { 1 } else { rng.below(4) };
    (0..n).map(|_| FILTERS[rng.below(FILTERS.len() as u64) as usize].to_owned()).collect()
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut rng = Rng(seed);
        // Near the borders of pages, bitmaps and directory pages, so that short runs cross them.
        let border = [1, 4096, 65_536, 4096 * 512, 4096 * 512 * 3][rng.below(5) as usize];
        let first_seq = (border - rng.below(border.min(3000))).max(1);
        let config = IndexConfig { first_seq, track_history: rng.chance(50), hash_seed: seed };
        let subjects = [4, 30, 700][rng.below(3) as usize];
        let filters = (0..3)
            .map(|_| {
                let filters = filters_of(&mut rng);
                let set = FilterSet::new(&filters);
                (filters, set)
            })
            .collect();
        let pair = Pair::new(config);
        Run { pair, rng, subjects, filters, counts: Vec::new(), last: None }
    }

    fn subject(&mut self) -> String {
        let n = self.rng.below(self.subjects);
        match n % 6 {
            0 => format!("a.{}", n / 6),
            1 => format!("b.{}.c", n / 6),
            2 => format!("a-b.{}", n / 6),
            3 => format!("s.{}", n),
            4 => format!("a.{}.{}", n / 12, n),
            _ if n < 12 => "solo".to_owned(),
            _ => format!("b.{}.{}", n / 6, n % 5),
        }
    }

    fn position(&mut self) -> Position {
        let segment = SegmentId(self.rng.below(50) as u32);
        Position { segment, offset: self.rng.below(1 << 20) as u32 * 8 }
    }

    fn append(&mut self) {
        let most = if self.rng.chance(10) { 2500 } else { 60 };
        for _ in 0..1 + self.rng.below(most) {
            let gap = match self.rng.below(1000) {
                0 => self.rng.below(150_000),
                1..8 => self.rng.below(100),
                _ => 0,
            };
            let seq = self.pair.model.last + 1 + gap;
            let (subject, position) = (self.subject(), self.position());
            let size = self.rng.below(1000) as u32;
            self.pair.apply(Op::Append(seq, Message { subject, size, position }));
        }
    }

    /// A sequence in or around the stream; mostly a live one.
    fn seq(&mut self) -> u64 {
        let model = &self.pair.model;
        let span = model.last + 2 - model.first;
        let seq = model.first + self.rng.below(span.max(1));
        if self.rng.chance(80) {
            model.live.range(seq..).next().map_or(seq, |(&live, _)| live)
        } else {
            seq
        }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..22 => self.append(),
            22..36 => {
                for _ in 0..self.rng.below(30) {
                    let seq = self.seq();
                    self.pair.apply(Op::Remove(seq));
                }
            }
            36..42 => {
                for _ in 0..self.rng.below(10) {
                    let subject = self.subject();
                    self.pair.apply(Op::RemoveLastOf(subject));
                }
            }
            42..48 => {
                let most = if self.rng.chance(20) { 3000 } else { 40 };
                for _ in 0..self.rng.below(most) {
                    self.pair.apply(Op::RemoveFirst);
                }
            }
            48..51 => {
                let (a, b) = (self.seq(), self.seq());
                let filters = filters_of(&mut self.rng);
                self.pair.apply(Op::RemoveMatching(filters, a.min(b), a.max(b) + 1));
            }
            51..57 => self.relocate(),
            57..63 => self.scan(),
            63..67 => self.count(),
            67..71 => self.last_job(),
            71..73 => self.purge(),
            73..76 => self.first_and_last(),
            76..80 => self.totals(),
            80..84 if !self.pair.index.is_checkpointing() => self.pair.freeze(),
            80..90 => {
                for _ in 0..self.rng.below(8) {
                    self.pair.write_one();
                }
            }
            90..92 => self.pair.checkpoint(),
            92..96 => {
                let want = self.rng.below(400_000) as usize;
                let (before, freed) =
                    (self.pair.index.sequence_bytes(), self.pair.index.evict(want));
                assert_eq!(self.pair.index.sequence_bytes(), before - freed);
            }
            96 => self.pair.move_page(self.rng.0),
            97 => self.crash(),
            98 if self.pair.model.live.is_empty() => {
                let seq = self.pair.model.last + self.rng.below(9000);
                self.pair.apply(Op::SkipTo(seq));
            }
            98 => self.pair.apply(Op::TrackHistory(self.rng.0 & 256 == 0)),
            _ => self.pair.check(),
        }
    }

    fn crash(&mut self) {
        self.counts.clear();
        self.last = None;
        for (filters, set) in &mut self.filters {
            *set = FilterSet::new(filters.iter());
        }
        self.pair.crash();
        self.pair.check();
    }

    fn relocate(&mut self) {
        for _ in 0..self.rng.below(20) {
            let (seq, to) = (self.seq(), self.position());
            let other = self.position();
            let held = self.pair.model.live.get(&seq).map(|m| m.position);
            let from = held.filter(|_| !self.rng.chance(10)).unwrap_or(other);
            self.pair.apply(Op::Relocate(seq, from, to));
        }
    }

    fn scan(&mut self) {
        let which = self.rng.below(3) as usize;
        let from = self.seq();
        let (filters, mut set) = std::mem::take(&mut self.filters[which]);
        let mut at = from;
        let mut got = Vec::new();
        loop {
            let mut budget = 1 + self.rng.below(200) as u32;
            let given = budget;
            match self.pair.index.next_matching(&mut set, at, &mut budget) {
                Scan::Found(seq, entry) => {
                    got.push((seq, entry.position));
                    at = seq + 1;
                }
                Scan::End => break,
                Scan::NeedPage(key) => self.pair.load(key),
                Scan::Budget { resume } => {
                    assert!(budget == 0 && resume >= at && (resume > at || given == 0));
                    at = resume;
                }
            }
        }
        let live = self.pair.model.live.range(from..);
        let matching = live.filter(|(_, m)| any_matches(&filters, &m.subject));
        let want: Vec<_> = matching.map(|(&seq, m)| (seq, m.position)).collect();
        assert_eq!(got, want, "{filters:?} from {from}");
        self.filters[which] = (filters, set);
    }

    fn count(&mut self) {
        if self.counts.len() < 3 {
            let (filters, from) = (filters_of(&mut self.rng), self.seq());
            let id = self.pair.index.start_count(FilterSet::new(&filters), from);
            self.counts.push((filters, from, id));
        }
        let which = self.rng.below(self.counts.len() as u64) as usize;
        let (filters, from, id) = self.counts[which].clone();
        for _ in 0..1 + self.rng.below(6) {
            let mut budget = self.rng.below(150) as u32;
            match self.pair.index.step_count(id, &mut budget) {
                CountStep::Done(count) => {
                    assert_eq!(count, self.pair.model.count(&filters, from), "{filters:?} {from}");
                    self.counts.swap_remove(which);
                    return;
                }
                CountStep::NeedPage(key) => self.pair.load(key),
                CountStep::Budget => {}
            }
        }
    }

    fn last_job(&mut self) {
        let (filters, mut job) = self.last.take().unwrap_or_else(|| {
            let filters = filters_of(&mut self.rng);
            let job = LastJob::new(FilterSet::new(&filters));
            (filters, job)
        });
        for _ in 0..1 + self.rng.below(6) {
            let mut budget = self.rng.below(150) as u32;
            match job.step(&mut self.pair.index, &mut budget) {
                LastStep::Done(last) => {
                    assert_eq!(last, self.pair.model.last_matching(&filters), "{filters:?}");
                    return;
                }
                LastStep::NeedPage(key) => self.pair.load(key),
                LastStep::Budget => {}
            }
        }
        self.last = Some((filters, job));
    }

    fn purge(&mut self) {
        let filters = filters_of(&mut self.rng);
        let below = self.rng.chance(50).then(|| self.seq());
        let keep = if below.is_none() { self.rng.below(50) } else { 0 };
        let live = self.pair.model.live.range(..below.unwrap_or(u64::MAX));
        let matching = live.filter(|(_, m)| any_matches(&filters, &m.subject));
        let mut want: Vec<u64> = matching.map(|(&seq, _)| seq).collect();
        want.truncate(want.len().saturating_sub(keep as usize));
        let rest = self.pair.model.live.len() - want.len();
        let mut job = PurgeJob::new(FilterSet::new(&filters), below, keep);
        let mut told = 0;
        loop {
            let mut budget = 1 + self.rng.below(300) as u32;
            match job.step(&mut self.pair.index, 100, &mut budget) {
                PurgeStep::Remove { from, to, messages } => {
                    assert!((1..=100).contains(&messages) && from < to);
                    told += messages;
                    self.pair.apply(Op::RemoveMatching(filters.clone(), from, to));
                }
                PurgeStep::NeedPage(key) => self.pair.load(key),
                PurgeStep::Budget => {}
                PurgeStep::Done => break,
            }
        }
        assert_eq!(told, want.len() as u64);
        assert_eq!(self.pair.model.live.len(), rest);
        assert!(want.iter().all(|seq| !self.pair.model.live.contains_key(seq)));
    }

    fn first_and_last(&mut self) {
        let subject = self.subject();
        let Some(id) = self.pair.index.subjects().lookup(subject.as_bytes()) else { return };
        let one = [subject.clone()];
        let last = self.pair.model.last_matching(&one);
        let mut live = self.pair.model.live.iter();
        let first = live.find(|(_, m)| m.subject == subject).map(|(&seq, _)| seq);
        for (want, ask) in [
            (last, StreamIndex::last_of as fn(&mut StreamIndex, SubjectId, &mut u32) -> Resolved),
            (first, StreamIndex::first_of),
        ] {
            loop {
                let mut budget = 1 + self.rng.below(40) as u32;
                match ask(&mut self.pair.index, id, &mut budget) {
                    Resolved::Found(seq) => {
                        assert_eq!(Some(seq), want);
                        break;
                    }
                    Resolved::None => panic!("a subject in use has a message"),
                    Resolved::NeedPage(key) => self.pair.load(key),
                    Resolved::Budget => {}
                }
            }
        }
    }

    fn totals(&mut self) {
        let filter = FILTERS[self.rng.below(FILTERS.len() as u64) as usize];
        let mut got = Vec::new();
        let mut cursor = SubjectCursor::new();
        while !cursor.is_done() {
            let mut budget = 1 + self.rng.below(20) as u32;
            let visit = |_, e: &SubjectEntry| got.push((e.name().to_vec(), e.count));
            self.pair.index.subjects().for_each_match(
                filter.as_bytes(),
                &mut cursor,
                &mut budget,
                visit,
            );
        }
        let totals = self.pair.model.totals();
        let matching = totals.into_iter().filter(|(name, _)| model_matches(filter, name));
        let want: Vec<_> = matching.map(|(name, count)| (name.into_bytes(), count)).collect();
        assert_eq!(got, want, "{filter}");
    }
}

fn run(seed: u64, steps: u64) -> Pair {
    let mut run = Run::new(seed);
    for _ in 0..steps {
        run.step();
    }
    run.pair.check();
    run.crash();
    run.pair
}

/// `INDEX_CASES` runs more of them, `INDEX_SEED` one.
#[test]
fn random_runs_equal_the_model() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seeds = match number("INDEX_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("INDEX_CASES").unwrap_or(400),
    };
    let single = seeds.clone().count() == 1;
    let (mut loads, mut copies) = (0, 0);
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let pair = run(seed, 120);
            (pair.loads, pair.copies)
        });
        match result {
            Ok(done) => {
                loads += done.0;
                copies += done.1;
            }
            Err(panic) => {
                eprintln!("INDEX_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(single || (loads > 100 && copies > 100), "{loads} loads, {copies} copies");
}
