//! Pages of a stream's index, edited: taken or refused, never a panic. An index that took them can
//! be read, and what it writes then is taken again.
#![no_main]

use corelane_fuzz::edits::{Source, edit};
use corelane_storage::index::{
    FilterSet, IndexConfig, Lookup, PageKey, Resolved, Scan, StreamIndex, SubjectId,
};
use corelane_storage::types::{Position, SegmentId};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

/// Pages with their places.
type Pages = Vec<(PageKey, Position, Vec<u8>)>;

static PAGES: OnceLock<[Pages; 2]> = OnceLock::new();
const CONFIG: IndexConfig = IndexConfig { first_seq: 1, track_history: true, hash_seed: 5 };

fn position(n: u32) -> Position {
    Position { segment: SegmentId(1 + n / 100), offset: n % 100 * 8 }
}

/// Writes a checkpoint; places begin at `base`.
fn write(index: &mut StreamIndex, base: u32) -> Pages {
    let (mut found, mut out) = (Pages::new(), Vec::new());
    if index.freeze().is_none() {
        return found;
    }
    while let Some(key) = index.next_frozen(&mut out) {
        let place = position(base + found.len() as u32);
        index.stored(key, place, out.len() as u32);
        found.push((key, place, out.clone()));
    }
    found
}

/// The pages of a checkpoint of an index with some of everything.
fn pages(gaps: bool) -> Pages {
    let mut index = StreamIndex::new(CONFIG);
    for n in 1..=600u32 {
        let subject = format!("a.{}.b{}", n % 7, n % 300);
        // With gaps: over three pages of sequences, of which the last alone is always resident.
        let seq = n + if gaps { 3900 * (1 + n / 256) } else { 0 };
        index.append(u64::from(seq), position(n), 100 + n, subject.as_bytes());
    }
    for seq in (20..200).step_by(3) {
        index.remove(seq + if gaps { 3900 } else { 0 });
    }
    write(&mut index, 5000)
}

/// An index and the pages it may ask for.
struct Stored<'a> {
    index: StreamIndex,
    pages: &'a Pages,
}

impl Stored<'_> {
    fn load(&mut self, key: PageKey, place: Position) -> Option<()> {
        let (_, _, bytes) = self.pages.iter().find(|(_, at, _)| *at == place)?;
        self.index.load_page(key, place, bytes).ok()
    }

    fn recover(pages: &Pages) -> Option<Stored<'_>> {
        let (_, _, head) = pages.last()?;
        let mut stored = Stored { index: StreamIndex::recover(CONFIG, head).ok()?, pages };
        for _ in 0..64 {
            let wanted = stored.index.pages_to_load().next();
            let Some((key, location)) = wanted else { return Some(stored) };
            stored.load(key, location.position)?;
        }
        None
    }

    /// Asks, loads the page that is needed, and asks again.
    fn ask<T>(
        &mut self,
        mut what: impl FnMut(&mut StreamIndex) -> Result<T, PageKey>,
    ) -> Option<T> {
        for _ in 0..16 {
            let key = match what(&mut self.index) {
                Ok(answer) => return Some(answer),
                Err(key) => key,
            };
            let place = self.index.location(key)?.position;
            self.load(key, place)?;
        }
        None
    }

    /// Reads, as a stream does. `None` when a page was refused. (Changes are the model tests' part:
    /// pages that contradict each other under good checksums are the work of a defect, and changing
    /// such an index trips the assertions that look for it.)
    fn read_all(&mut self) -> Option<()> {
        let (first, last) = (self.index.first_seq(), self.index.last_seq());
        for seq in [0, 1, 2, 50, first, 3925, 4095, 4096, 8191, last, u64::MAX] {
            let found = self.ask(|index| match index.get(seq) {
                Lookup::NeedPage(key) => Err(key),
                found => Ok(found),
            });
            let live = matches!(found?, Lookup::Found(_));
            assert_eq!(live, self.index.is_live(seq));
            let _ = (self.index.next_live(seq), self.index.prev_live(seq));
        }
        let mut filter = FilterSet::new(["a.*.b1", "a.3.>"]);
        self.ask(|index| match index.next_matching(&mut filter, 1, &mut 1000) {
            Scan::NeedPage(key) => Err(key),
            found => Ok(found),
        })?;
        for subject in [0, 5, 299] {
            self.ask(|index| match index.first_of(SubjectId(subject), &mut 1000) {
                Resolved::NeedPage(key) => Err(key),
                found => Ok(found),
            })?;
            self.ask(|index| match index.last_of(SubjectId(subject), &mut 1000) {
                Resolved::NeedPage(key) => Err(key),
                found => Ok(found),
            })?;
        }
        let _ = self.index.evict(usize::MAX);
        Some(())
    }
}

fuzz_target!(|data: &[u8]| {
    let sets = PAGES.get_or_init(|| [pages(false), pages(true)]);
    let set = usize::from(data.first().is_some_and(|byte| byte & 0x80 != 0));
    let mut pages = sets[set].clone();
    let mut source = Source(data);
    for _ in 0..8 {
        if source.is_over() {
            break;
        }
        let at = usize::from(source.byte()) % pages.len();
        edit(&mut source, &mut pages[at].2);
    }
    let Some(mut stored) = Stored::recover(&pages) else { return };
    if stored.read_all().is_none() {
        return;
    }
    let written = write(&mut stored.index, 10_000);
    let mut all = pages.clone();
    all.extend(written);
    let again = Stored::recover(&all).expect("what was written is taken");
    assert_eq!(again.index.messages(), stored.index.messages());
    assert_eq!(again.index.last_seq(), stored.index.last_seq());
});
