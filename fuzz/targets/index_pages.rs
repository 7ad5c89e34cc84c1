//! Pages of a stream's index, edited: taken or refused, never a panic.
#![no_main]

use corelane_fuzz::edits::{Source, edit};
use corelane_storage::index::{FilterSet, IndexConfig, PageKey, StreamIndex};
use corelane_storage::types::{Position, SegmentId};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static PAGES: OnceLock<Vec<(PageKey, Position, Vec<u8>)>> = OnceLock::new();
const CONFIG: IndexConfig = IndexConfig { first_seq: 1, track_history: true, hash_seed: 5 };

fn position(n: u32) -> Position {
    Position { segment: SegmentId(1 + n / 100), offset: n % 100 * 8 }
}

/// The pages of a checkpoint of an index with some of everything.
fn pages() -> Vec<(PageKey, Position, Vec<u8>)> {
    let mut index = StreamIndex::new(CONFIG);
    for seq in 1..=600u32 {
        let subject = format!("a.{}.b{}", seq % 7, seq % 300);
        index.append(u64::from(seq), position(seq), 100 + seq, subject.as_bytes());
    }
    for seq in (20..200).step_by(3) {
        index.remove(seq);
    }
    index.freeze().expect("there is something");
    let (mut found, mut out) = (Vec::new(), Vec::new());
    while let Some(key) = index.next_frozen(&mut out) {
        let place = position(5000 + found.len() as u32);
        index.stored(key, place, out.len() as u32);
        found.push((key, place, out.clone()));
    }
    found
}

fuzz_target!(|data: &[u8]| {
    let mut pages = PAGES.get_or_init(pages).clone();
    let mut source = Source(data);
    for _ in 0..8 {
        if source.is_over() {
            break;
        }
        let at = usize::from(source.byte()) % pages.len();
        edit(&mut source, &mut pages[at].2);
    }
    let (_, _, head) = pages.last().expect("a head");
    let Ok(mut index) = StreamIndex::recover(CONFIG, head) else { return };
    for _ in 0..64 {
        let wanted: Vec<_> = index.pages_to_load().collect();
        let Some((key, location)) = wanted.first().copied() else { break };
        let found = pages.iter().find(|(_, place, _)| *place == location.position);
        let Some((_, _, bytes)) = found else { return };
        if index.load_page(key, location.position, bytes).is_err() {
            return;
        }
    }
    if index.is_recovering() {
        return;
    }
    let _ = (index.first_seq(), index.last_seq(), index.num_deleted());
    for seq in [0, 1, 2, 50, 599, 600, 601, u64::MAX] {
        let _ = (index.get(seq), index.is_live(seq), index.next_live(seq), index.prev_live(seq));
    }
    let mut filter = FilterSet::new(["a.*.b1", "a.3.>"]);
    let _ = index.next_matching(&mut filter, 1, &mut 1000);
});
