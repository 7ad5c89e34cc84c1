//! The bytes of every page. The tables are in the folder's opening comment; the golden tests hold
//! them.

use super::checkpoint::{PageState, Scalars};
use super::deleted::{DeletedPage, WORDS};
use super::sequences::{ENTRY_BYTES, SequencePage};
use super::subjects::{Kept, SubjectEntry, SubjectPage};
use super::{
    Corrupt, DELETED_PER_PAGE, Entry, LOCATIONS_PER_PAGE, Location, PageKey, PageKind,
    SEQUENCES_PER_PAGE, SUBJECTS_PER_PAGE, SubjectId,
};
use crate::types::{Position, SegmentId};
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};
use std::collections::BTreeMap;

const VERSION: u8 = 1;
/// The version of sparse sequence pages.
const SPARSE_VERSION: u8 = 2;
/// The version of heads that have a sum for the digest.
const HEAD_VERSION: u8 = 2;
const HEADER: usize = 8;
/// Bytes of a sequence page before its entries.
pub(super) const SEQUENCES_HEADER: usize = HEADER + 8;
/// Bytes of a slot of a sparse page.
const SLOT_BYTES: usize = 2;

/// A used id of a subject page.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub(super) struct SubjectBody {
    pub first: u64,
    pub last: u64,
    pub count: u64,
    pub last_size: u32,
    /// 2^32 - 1: `last` is an upper bound, `last_size` is 0.
    pub last_segment: u32,
    /// Bytes of its name in `names`, behind those of the ids before it.
    pub name_len: u32,
    /// Its messages in `history`, behind those of the ids before it.
    pub history_len: u16,
    /// The id within the page.
    pub slot: u16,
}

/// A message of a kept history.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub(super) struct KeptBody {
    pub seq: u64,
    pub size: u32,
    pub segment: u32,
}

/// A subject page: the used ids in rising order.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub(super) struct SubjectsBody {
    pub number: u64,
    /// Ids of this page that were ever used.
    pub slots: u32,
    pub subjects: Vec<SubjectBody>,
    pub names: Vec<u8>,
    pub history: Vec<KeptBody>,
}

/// A location; a length of 0 is none.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub(super) struct LocationBody {
    pub segment: u32,
    pub offset: u32,
    pub len: u32,
}

/// A directory page.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub(super) struct DirectoryBody {
    pub number: u64,
    /// Location *i* is that of page `number * 512 + i`.
    pub locations: Vec<LocationBody>,
}

/// The location of a directory page.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub(super) struct ChunkBody {
    pub number: u64,
    pub kind: u8,
    pub location: LocationBody,
}

/// A stream's head of version 1.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub(super) struct HeadBody1 {
    pub first_seq: u64,
    pub last_seq: u64,
    pub messages: u64,
    pub bytes: u64,
    pub track_history: bool,
    pub directory: Vec<ChunkBody>,
}

/// A stream's head.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub(super) struct HeadBody {
    pub first_seq: u64,
    pub last_seq: u64,
    pub messages: u64,
    pub bytes: u64,
    pub track_history: bool,
    /// The sum of what each live message gives to the digest.
    pub live_sum: u64,
    pub directory: Vec<ChunkBody>,
}

fn header(kind: PageKind, rest: [u16; 3], out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind.code(), VERSION]);
    for word in rest {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn check_header(key: PageKey, bytes: &[u8]) -> Result<(), Corrupt> {
    let bad = |what| Err(Corrupt { key, what });
    match bytes {
        [kind, _, ..] if *kind != key.kind.code() => bad("another type of page"),
        [_, VERSION, ..] => Ok(()),
        [_, SPARSE_VERSION, ..] if key.kind == PageKind::Sequences => Ok(()),
        [_, HEAD_VERSION, ..] if key.kind == PageKind::Head => Ok(()),
        [_, _, ..] => bad("unknown version"),
        _ => bad("too short"),
    }
    .and_then(|()| match bytes.len() {
        0..HEADER => bad("too short"),
        _ => Ok(()),
    })
}

/// Appends the rkyv archive of `body` behind a header.
fn encode_archive(
    kind: PageKind,
    body: &impl for<'a> Serialize<
        rkyv::api::high::HighSerializer<
            AlignedVec,
            rkyv::ser::allocator::ArenaHandle<'a>,
            rkyv::rancor::Error,
        >,
    >,
    out: &mut Vec<u8>,
) {
    header(kind, [0; 3], out);
    let archive = rkyv::to_bytes::<rkyv::rancor::Error>(body);
    // Serialising plain data into memory has no way to fail.
    out.extend_from_slice(&archive.expect("plain data serialises"));
}

/// The body behind the header, aligned for reading in place.
fn aligned(bytes: &[u8]) -> AlignedVec {
    let mut body = AlignedVec::with_capacity(bytes.len());
    body.extend_from_slice(&bytes[HEADER..]);
    body
}

pub(super) fn encode_sequences(number: u64, page: &SequencePage, out: &mut Vec<u8>) {
    out.reserve(SEQUENCES_HEADER + page.entries.len() * (ENTRY_BYTES + SLOT_BYTES));
    let version_at = out.len() + 1;
    header(PageKind::Sequences, [page.start, page.entries.len() as u16, 0], out);
    out.extend_from_slice(&number.to_le_bytes());
    for entry in &page.entries {
        let mut raw = [0; ENTRY_BYTES];
        raw[0..4].copy_from_slice(&entry.position.segment.0.to_le_bytes());
        raw[4..8].copy_from_slice(&entry.position.offset.to_le_bytes());
        raw[8..12].copy_from_slice(&entry.size.to_le_bytes());
        raw[12..16].copy_from_slice(&entry.subject.0.to_le_bytes());
        out.extend_from_slice(&raw);
    }
    if !page.slots.is_empty() {
        out[version_at] = SPARSE_VERSION;
        out.extend(page.slots.iter().flat_map(|slot| slot.to_le_bytes()));
    }
}

fn decode_entry(raw: &[u8]) -> Option<Entry> {
    Some(Entry {
        position: Position { segment: SegmentId(u32_at(raw, 0)?), offset: u32_at(raw, 4)? },
        size: u32_at(raw, 8)?,
        subject: SubjectId(u32_at(raw, 12)?),
    })
}

pub(super) fn decode_sequences(number: u64, bytes: &[u8]) -> Result<SequencePage, Corrupt> {
    let key = PageKey::new(PageKind::Sequences, number);
    let bad = |what| Corrupt { key, what };
    check_header(key, bytes)?;
    let fields = (u16_at(bytes, 2), u16_at(bytes, 4), u64_at(bytes, HEADER));
    let (Some(start), Some(count), Some(found)) = fields else { return Err(bad("too short")) };
    let entries = &bytes[SEQUENCES_HEADER..];
    if found != number {
        return Err(bad("another page's number"));
    }
    let sparse = bytes[1] == SPARSE_VERSION;
    let entry_bytes = ENTRY_BYTES + if sparse { SLOT_BYTES } else { 0 };
    if u64::from(start) + u64::from(count) > SEQUENCES_PER_PAGE && !sparse
        || entries.len() != usize::from(count) * entry_bytes
    {
        return Err(bad("wrong number of entries"));
    }
    let (entries, slots) = entries.split_at(usize::from(count) * ENTRY_BYTES);
    let slots: Vec<u16> = slots.chunks_exact(SLOT_BYTES).filter_map(|raw| u16_at(raw, 0)).collect();
    let rising = slots.windows(2).all(|w| w[0] < w[1]);
    let within = slots.last().is_none_or(|&slot| u64::from(slot) < SEQUENCES_PER_PAGE);
    if !rising || !within || sparse && slots.is_empty() {
        return Err(bad("slots that cannot be"));
    }
    let entries = entries.chunks_exact(ENTRY_BYTES).filter_map(decode_entry).collect();
    Ok(SequencePage { start, entries, slots, ..SequencePage::default() })
}

pub(super) fn encode_deleted(number: u64, page: &DeletedPage, out: &mut Vec<u8>) {
    out.reserve(HEADER + 8 + page.words.len() * 8);
    let all = u16::from(page.is_all());
    header(PageKind::Deleted, [all, page.words.len() as u16, 0], out);
    out.extend_from_slice(&number.to_le_bytes());
    for word in &page.words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

pub(super) fn decode_deleted(number: u64, bytes: &[u8]) -> Result<DeletedPage, Corrupt> {
    let key = PageKey::new(PageKind::Deleted, number);
    let bad = |what| Corrupt { key, what };
    check_header(key, bytes)?;
    let fields = (u16_at(bytes, 2), u16_at(bytes, 4), u64_at(bytes, HEADER));
    let (Some(all), Some(count), Some(found)) = fields else { return Err(bad("too short")) };
    let words = &bytes[HEADER + 8..];
    if found != number {
        return Err(bad("another page's number"));
    }
    if all > 1 || usize::from(count) > WORDS || words.len() != usize::from(count) * 8 {
        return Err(bad("wrong number of words"));
    }
    if all == 1 {
        let dead = DELETED_PER_PAGE as u32;
        return Ok(DeletedPage { dead, ..DeletedPage::default() });
    }
    let words: Vec<u64> = words.chunks_exact(8).filter_map(|raw| u64_at(raw, 0)).collect();
    let dead = words.iter().map(|w| w.count_ones()).sum();
    if u64::from(dead) == DELETED_PER_PAGE {
        return Err(bad("full, but not said to be"));
    }
    Ok(DeletedPage { words, dead, ..DeletedPage::default() })
}

pub(super) fn encode_subjects(number: u64, page: &SubjectPage, out: &mut Vec<u8>) {
    let mut body = SubjectsBody {
        number,
        slots: page.entries.len() as u32,
        subjects: Vec::with_capacity(page.entries.len()),
        names: Vec::with_capacity(page.entries.len() * 32),
        history: Vec::new(),
    };
    for (slot, entry) in page.entries.iter().enumerate().filter(|(_, e)| e.count > 0) {
        let history = page.history.get(slot).map_or(&[][..], Vec::as_slice);
        body.subjects.push(SubjectBody {
            first: entry.first,
            last: entry.last,
            count: entry.count,
            last_size: entry.last_size,
            last_segment: entry.last_segment.0,
            name_len: entry.name.len() as u32,
            history_len: history.len() as u16,
            slot: slot as u16,
        });
        body.names.extend_from_slice(&entry.name);
        body.history.extend(history.iter().map(|k| KeptBody {
            seq: k.seq,
            size: k.size,
            segment: k.segment.0,
        }));
    }
    encode_archive(PageKind::Subjects, &body, out);
}

pub(super) fn decode_subjects(number: u64, bytes: &[u8]) -> Result<SubjectPage, Corrupt> {
    let key = PageKey::new(PageKind::Subjects, number);
    let bad = |what| Corrupt { key, what };
    check_header(key, bytes)?;
    let body = aligned(bytes);
    let body = rkyv::access::<ArchivedSubjectsBody, rkyv::rancor::Error>(&body)
        .map_err(|_| bad("not a valid archive"))?;
    if body.number != number {
        return Err(bad("another page's number"));
    }
    let slots = body.slots.to_native();
    if slots > SUBJECTS_PER_PAGE {
        return Err(bad("too many ids"));
    }
    let mut page = SubjectPage {
        entries: vec![SubjectEntry::free(); slots as usize],
        history: Vec::new(),
        state: PageState::default(),
    };
    let (mut names, mut kept) = (body.names.as_slice(), body.history.as_slice());
    if !kept.is_empty() {
        page.history.resize_with(page.entries.len(), Vec::new);
    }
    for subject in body.subjects.iter() {
        let slot = usize::from(subject.slot.to_native());
        let name = names.split_off(..subject.name_len.to_native() as usize);
        let history = kept.split_off(..usize::from(subject.history_len.to_native()));
        let (Some(name), Some(history)) = (name, history) else {
            return Err(bad("names or history too short"));
        };
        let entry = page.entries.get_mut(slot).ok_or(bad("an id beyond the page"))?;
        let count = subject.count.to_native();
        if entry.count != 0 || count == 0 || history.len() as u64 > count {
            return Err(bad("an id that cannot be"));
        }
        entry.first = subject.first.to_native();
        entry.last = subject.last.to_native();
        entry.count = count;
        entry.last_size = subject.last_size.to_native();
        entry.last_segment = SegmentId(subject.last_segment.to_native());
        entry.set_name(name);
        if let Some(into) = page.history.get_mut(slot) {
            into.extend(history.iter().map(|k| Kept {
                seq: k.seq.to_native(),
                size: k.size.to_native(),
                segment: SegmentId(k.segment.to_native()),
            }));
        }
    }
    Ok(page)
}

fn location_body(location: &Location) -> LocationBody {
    LocationBody {
        segment: location.position.segment.0,
        offset: location.position.offset,
        len: location.len,
    }
}

fn location_of(body: &ArchivedLocationBody) -> Location {
    let segment = SegmentId(body.segment.to_native());
    let position = Position { segment, offset: body.offset.to_native() };
    Location { position, len: body.len.to_native() }
}

pub(super) fn encode_directory(key: PageKey, slots: &[Location], out: &mut Vec<u8>) {
    let locations = slots.iter().map(location_body).collect();
    encode_archive(key.kind, &DirectoryBody { number: key.number, locations }, out);
}

pub(super) fn decode_directory(key: PageKey, bytes: &[u8]) -> Result<Vec<Location>, Corrupt> {
    let bad = |what| Corrupt { key, what };
    check_header(key, bytes)?;
    let body = aligned(bytes);
    let body = rkyv::access::<ArchivedDirectoryBody, rkyv::rancor::Error>(&body)
        .map_err(|_| bad("not a valid archive"))?;
    if body.number != key.number {
        return Err(bad("another page's number"));
    }
    if body.locations.len() as u64 > LOCATIONS_PER_PAGE {
        return Err(bad("too many locations"));
    }
    Ok(body.locations.iter().map(location_of).collect())
}

pub(super) fn encode_head(
    scalars: &Scalars,
    directory: &BTreeMap<PageKey, Location>,
    out: &mut Vec<u8>,
) {
    let body = HeadBody {
        first_seq: scalars.first_seq,
        last_seq: scalars.last_seq,
        messages: scalars.messages,
        bytes: scalars.bytes,
        track_history: scalars.track_history,
        live_sum: scalars.live_sum,
        directory: directory
            .iter()
            .map(|(key, location)| ChunkBody {
                number: key.number,
                kind: key.kind.code(),
                location: location_body(location),
            })
            .collect(),
    };
    let version_at = out.len() + 1;
    encode_archive(PageKind::Head, &body, out);
    out[version_at] = HEAD_VERSION;
}

/// The numbers and the places of the directory's pages.
pub(super) type Head = (Scalars, BTreeMap<PageKey, Location>);

pub(super) fn decode_head(bytes: &[u8]) -> Result<Head, Corrupt> {
    let bad = |what| Corrupt { key: PageKey::HEAD, what };
    let invalid = |_: rkyv::rancor::Error| bad("not a valid archive");
    check_header(PageKey::HEAD, bytes)?;
    let body = aligned(bytes);
    let (scalars, chunks) = if bytes[1] == VERSION {
        let body = rkyv::access::<ArchivedHeadBody1, _>(&body).map_err(invalid)?;
        let scalars = Scalars {
            first_seq: body.first_seq.to_native(),
            last_seq: body.last_seq.to_native(),
            messages: body.messages.to_native(),
            bytes: body.bytes.to_native(),
            track_history: body.track_history,
            live_sum: 0,
        };
        (scalars, &body.directory)
    } else {
        let body = rkyv::access::<ArchivedHeadBody, _>(&body).map_err(invalid)?;
        let scalars = Scalars {
            first_seq: body.first_seq.to_native(),
            last_seq: body.last_seq.to_native(),
            messages: body.messages.to_native(),
            bytes: body.bytes.to_native(),
            track_history: body.track_history,
            live_sum: body.live_sum.to_native(),
        };
        (scalars, &body.directory)
    };
    let span = scalars.last_seq.checked_add(1).and_then(|end| end.checked_sub(scalars.first_seq));
    let fits = span.is_some_and(|s| scalars.messages <= s && (scalars.messages > 0 || s == 0));
    if !fits || scalars.first_seq == 0 {
        return Err(bad("numbers that cannot be"));
    }
    let mut directory = BTreeMap::new();
    for chunk in chunks.iter() {
        let kind = PageKind::from_code(chunk.kind).filter(|k| k.located().is_some());
        let Some(kind) = kind else { return Err(bad("not a directory page")) };
        let location = location_of(&chunk.location);
        let key = PageKey::new(kind, chunk.number.to_native());
        if location.len == 0 || directory.insert(key, location).is_some() {
            return Err(bad("a directory page twice or nowhere"));
        }
    }
    Ok((scalars, directory))
}
