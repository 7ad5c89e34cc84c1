//! The bytes of every kind of page, held fast. A change here is a change of the store's format.

use crate::index::checkpoint::Scalars;
use crate::index::codec::*;
use crate::index::deleted::DeletedPage;
use crate::index::sequences::SequencePage;
use crate::index::subjects::{Kept, NO_SEGMENT, SubjectEntry, SubjectPage};
use crate::index::*;
use crate::types::{Position, SegmentId};
use std::collections::BTreeMap;

fn hex(bytes: &[u8]) -> String {
    let words = bytes.chunks(8).map(|c| c.iter().map(|b| format!("{b:02x}")).collect::<String>());
    words.collect::<Vec<_>>().join(" ")
}

fn position(segment: u32, offset: u32) -> Position {
    Position { segment: SegmentId(segment), offset }
}

fn location(segment: u32, offset: u32, len: u32) -> Location {
    Location { position: position(segment, offset), len }
}

fn sequences() -> SequencePage {
    let entries = vec![
        Entry { position: position(1, 0x10), size: 300, subject: SubjectId(7) },
        Entry { position: position(2, 0x0102_0308), size: 5, subject: SubjectId(0x0a0b_0c0d) },
    ];
    SequencePage { start: 4094, entries, ..SequencePage::default() }
}

fn subjects() -> SubjectPage {
    let entry = |name: &str, first, last, count, segment| {
        let mut entry = SubjectEntry::free();
        (entry.first, entry.last, entry.count) = (first, last, count);
        (entry.last_size, entry.last_segment) = (300, segment);
        entry.set_name(name.as_bytes());
        entry
    };
    let kept = |seq| Kept { seq, size: 9, segment: SegmentId(3) };
    let mut page = SubjectPage::default();
    page.entries.push(entry("a.b", 1, 9, 3, SegmentId(3)));
    page.entries.push(SubjectEntry::free());
    page.entries.push(entry("c", 5, 6, 2, NO_SEGMENT));
    page.entries[2].last_size = 0;
    page.history = vec![vec![kept(4), kept(9)], vec![], vec![]];
    page
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

#[test]
fn sequence_page() {
    let bytes = encoded(|out| encode_sequences(0x0102, &sequences(), out));
    assert_eq!(
        hex(&bytes),
        "0101fe0f02000000 0201000000000000 0100000010000000 2c01000007000000 \
         0200000008030201 050000000d0c0b0a"
    );
    let page = decode_sequences(0x0102, &bytes).expect("valid");
    assert_eq!((page.start, page.entries), (4094, sequences().entries));
}

#[test]
fn sparse_sequence_page() {
    let mut page = sequences();
    page.compact(|slot| slot == 4095);
    assert!(page.get(4094).is_none());
    assert_eq!(page.get(4095), Some(&sequences().entries[1]));
    let bytes = encoded(|out| encode_sequences(0x0102, &page, out));
    assert_eq!(
        hex(&bytes),
        "0102fe0f01000000 0201000000000000 0200000008030201 050000000d0c0b0a ff0f"
    );
    let back = decode_sequences(0x0102, &bytes).expect("valid");
    assert_eq!((back.entries, back.slots), (page.entries, page.slots));
    assert!(decode_sequences(0x0102, &bytes[..bytes.len() - 1]).is_err());
    let mut beyond = bytes;
    let len = beyond.len();
    beyond[len - 1] = 0x10;
    assert!(decode_sequences(0x0102, &beyond).is_err());
}

#[test]
fn deleted_pages() {
    let mut page = DeletedPage::default();
    page.set(3, 5);
    page.set(127, 129);
    let bytes = encoded(|out| encode_deleted(9, &page, out));
    assert_eq!(
        hex(&bytes),
        "0201000003000000 0900000000000000 1800000000000000 0000000000000080 0100000000000000"
    );
    let back = decode_deleted(9, &bytes).expect("valid");
    assert_eq!((back.words, back.dead), (page.words.clone(), 4));
    page.set(0, 65_536);
    let bytes = encoded(|out| encode_deleted(9, &page, out));
    assert_eq!(hex(&bytes), "0201010000000000 0900000000000000");
    assert!(decode_deleted(9, &bytes).expect("valid").is_all());
}

#[test]
fn subject_page() {
    let bytes = encoded(|out| encode_subjects(2, &subjects(), out));
    assert_eq!(
        hex(&bytes),
        "0301000000000000 0100000000000000 0900000000000000 0300000000000000 \
         2c01000003000000 0300000002000000 0500000000000000 0600000000000000 \
         0200000000000000 00000000ffffffff 0100000000000200 612e626300000000 \
         0400000000000000 0900000003000000 0900000000000000 0900000003000000 \
         0200000000000000 030000007cffffff 02000000c4ffffff 04000000c4ffffff \
         0200000000000000"
    );
    let page = decode_subjects(2, &bytes).expect("valid");
    assert_eq!(page.entries, subjects().entries);
    assert_eq!(page.history, subjects().history);
}

#[test]
fn directory_page() {
    let slots = [Location::default(), location(1, 8, 100), location(2, 16, 200)];
    let key = PageKey::new(PageKind::SequencesDirectory, 5);
    let bytes = encoded(|out| encode_directory(key, &slots, out));
    assert_eq!(
        hex(&bytes),
        "0401000000000000 0000000000000000 0000000001000000 0800000064000000 \
         0200000010000000 c800000000000000 0500000000000000 d0ffffff03000000"
    );
    assert_eq!(decode_directory(key, &bytes).expect("valid"), slots);
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.bytes().filter_map(|b| char::from(b).to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn head() -> (Scalars, BTreeMap<PageKey, Location>) {
    let directory = BTreeMap::from([
        (PageKey::new(PageKind::SequencesDirectory, 0), location(1, 8, 100)),
        (PageKey::new(PageKind::SubjectsDirectory, 3), location(2, 16, 200)),
    ]);
    let scalars = Scalars {
        first_seq: 5,
        last_seq: 900,
        messages: 17,
        bytes: 4000,
        track_history: true,
        live_sum: 0x1122_3344_5566_7788,
    };
    (scalars, directory)
}

#[test]
fn heads() {
    let (scalars, directory) = head();
    let bytes = encoded(|out| encode_head(&scalars, &directory, out));
    assert_eq!(
        hex(&bytes),
        "0702000000000000 0000000000000000 0400000001000000 0800000064000000 \
         0300000000000000 0600000002000000 10000000c8000000 0500000000000000 \
         8403000000000000 1100000000000000 a00f000000000000 0100000000000000 \
         8877665544332211 a0ffffff02000000"
    );
    assert_eq!(decode_head(&bytes).expect("valid"), (scalars, directory));
}

#[test]
fn heads_of_version_1() {
    let bytes = unhex(
        "0701000000000000 0000000000000000 0400000001000000 0800000064000000 \
         0300000000000000 0600000002000000 10000000c8000000 0500000000000000 \
         8403000000000000 1100000000000000 a00f000000000000 01000000acffffff \
         0200000000000000",
    );
    let (scalars, directory) = head();
    let scalars = Scalars { live_sum: 0, ..scalars };
    assert_eq!(decode_head(&bytes).expect("valid"), (scalars, directory));
}

/// Whatever bytes come, decoding answers; a page of another kind, number or version is refused.
#[test]
fn wrong_bytes_are_refused() {
    let key = PageKey::new(PageKind::SequencesDirectory, 5);
    let scalars = Scalars { first_seq: 1, ..Scalars::default() };
    let pages = [
        encoded(|out| encode_sequences(1, &sequences(), out)),
        encoded(|out| {
            let mut page = sequences();
            page.compact(|slot| slot == 4094);
            encode_sequences(1, &page, out);
        }),
        encoded(|out| encode_deleted(1, &DeletedPage::default(), out)),
        encoded(|out| encode_subjects(1, &subjects(), out)),
        encoded(|out| encode_directory(key, &[location(1, 8, 100)], out)),
        encoded(|out| encode_head(&scalars, &BTreeMap::new(), out)),
    ];
    let refuses = |bytes: &[u8]| {
        decode_sequences(1, bytes).is_err()
            && decode_deleted(1, bytes).is_err()
            && decode_subjects(1, bytes).is_err()
            && decode_directory(key, bytes).is_err()
            && decode_head(bytes).is_err()
    };
    assert!(refuses(&[]));
    for bytes in &pages {
        assert!(!refuses(bytes));
        assert!(decode_sequences(2, bytes).is_err() && decode_deleted(2, bytes).is_err());
        assert!(decode_subjects(2, bytes).is_err());
        for len in 0..bytes.len() {
            assert!(refuses(&bytes[..len]), "{len} bytes of {}", hex(bytes));
        }
        let mut other = bytes.clone();
        other[1] = 3;
        assert!(refuses(&other), "another version");
        for at in (0..bytes.len()).step_by(if cfg!(miri) { 7 } else { 1 }) {
            for bit in 0..8 {
                // Flipped bits may go unseen here (the record's checksum is for that), but never
                // panic.
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                refuses(&flipped);
            }
        }
    }
}
