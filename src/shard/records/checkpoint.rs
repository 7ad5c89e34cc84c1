//! The records of a checkpoint that the shard lays out itself: root, stream state, consumer state.
//!
//! All numbers are little-endian; a *location* is segment `u32`, offset `u32`, padded length `u32`,
//! and all zero where there is none; *counted* is a `u32` and that many bytes.
//! `docs/DATA_FORMAT.md` has the tables.

use corelane_storage::index::Location;

use crate::replication::FILE_GROUP;
use crate::shard::records::{Fields, put_counted};
use crate::types::{ConsumerId, GroupId, LogIndex, Position, SegmentId, StreamId, Term};

const MAGIC: [u8; 4] = *b"clrt";
/// That of stream states.
const VERSION: u8 = 1;
/// That of consumer states; version 1 is read.
const CONSUMER_VERSION: u8 = 2;
/// That of roots; versions 1 and 2 are read.
const ROOT_VERSION: u8 = 3;
const BURIED: u8 = 1;
const FIRST_SHOWN: u8 = 2;
const ENFORCING: u8 = 4;
/// Bytes of the root before its lists.
const ROOT_HEADER: usize = 128;

/// How far a group is applied in a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// Which group.
    pub group: GroupId,
    /// The last entry that is applied, and its term.
    pub index: LogIndex,
    /// See above.
    pub term: Term,
    /// Raft ids of its voters; none for a group of one.
    pub members: Vec<u64>,
    /// Where entries lie that are in the log and not applied, by index.
    pub unapplied: Vec<(LogIndex, Location)>,
}

/// The place of a record in its group's log, which is the same in every replica: records before it
/// are part of what names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upto {
    /// The index of an entry, and which record of it.
    Entry(LogIndex, u32),
    /// In version 2 of the root, the number of a write of this log, and which record of the group's
    /// entry in it.
    Write(u64, u32),
    /// In version 1, the index of a record.
    Record(u64),
    #[default]
    /// None.
    Nothing,
}

/// Where a record lies in its group's log and in this one.
#[derive(Clone, Copy, Debug)]
pub struct ReplayedPlace {
    /// The version of its frame.
    pub version: u8,
    /// The index of its entry; in version 1, its own.
    pub index: LogIndex,
    /// The number of its write.
    pub write: u64,
    /// Which record of the entry it is.
    pub nth: u32,
}

impl Upto {
    fn encode(self, out: &mut Vec<u8>) {
        let (index, nth) = match self {
            Upto::Entry(index, nth) => (index.0, nth),
            // Taken over from an earlier root, before which a checkpoint of this version does not
            // replay: it covers nothing that is met.
            Upto::Write(..) | Upto::Record(_) | Upto::Nothing => (0, 0),
        };
        put_u64(out, index);
        put_u32(out, nth);
    }

    /// Whether a record is before this.
    pub fn covers(self, place: ReplayedPlace) -> bool {
        match self {
            // Who wrote this had all of version 1 behind it.
            Upto::Entry(index, nth) => {
                place.version == 1 || (place.index, place.nth) < (index, nth)
            }
            Upto::Write(write, nth) => (place.write, place.nth) < (write, nth),
            Upto::Record(index) => place.index.0 < index,
            Upto::Nothing => false,
        }
    }

    fn decode(f: &mut Fields<'_>, version: u8) -> Option<Upto> {
        Some(match version {
            1 => Upto::Record(f.u64()?),
            2 => Upto::Write(f.u64()?, f.u32()?),
            _ => Upto::Entry(LogIndex(f.u64()?), f.u32()?),
        })
    }
}

/// What a checkpoint holds, except for its streams, which are appended one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Root {
    /// The version that it was read from.
    pub version: u8,
    /// The groups.
    pub groups: Vec<GroupState>,
    /// The next consumer id.
    pub next_consumer: u64,
    /// Catalogue records before this are in `catalogue`.
    pub catalogue_upto: Upto,
    /// The catalogue's records.
    pub catalogue: Vec<Location>,
    /// Live bytes of each segment, this root left out.
    pub live: Vec<(SegmentId, u64)>,
    /// Where the state of each stream lies.
    pub streams: Vec<(StreamId, Location)>,
}

fn put_u32(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_location(out: &mut Vec<u8>, l: Location) {
    put_u32(out, l.position.segment.0);
    put_u32(out, l.position.offset);
    put_u32(out, l.len);
}

fn location(f: &mut Fields<'_>) -> Option<Location> {
    let position = Position { segment: SegmentId(f.u32()?), offset: f.u32()? };
    Some(Location { position, len: f.u32()? })
}

/// Reads a list; what it claims to hold must be there before room is made for it.
fn list<T>(
    f: &mut Fields<'_>,
    bytes: usize,
    mut each: impl FnMut(&mut Fields<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = f.u32()? as usize;
    if f.0.len() / bytes < count {
        return None;
    }
    (0..count).map(|_| each(f)).collect()
}

impl Root {
    /// Appends the root to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let lists = self.catalogue.len() * 12 + self.live.len() * 12 + self.streams.len() * 20;
        out.reserve(ROOT_HEADER + 12 + lists);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[ROOT_VERSION, 0, 0, 0]);
        put_u64(out, self.next_consumer);
        self.catalogue_upto.encode(out);
        put_u32(out, self.groups.len() as u32);
        for g in &self.groups {
            put_u64(out, g.group.0);
            put_u64(out, g.index.0);
            put_u64(out, g.term.0);
            put_u32(out, g.members.len() as u32);
            g.members.iter().for_each(|&id| put_u64(out, id));
            put_u32(out, g.unapplied.len() as u32);
            for &(index, l) in &g.unapplied {
                put_u64(out, index.0);
                put_location(out, l);
            }
        }
        put_u32(out, self.catalogue.len() as u32);
        for &l in &self.catalogue {
            put_location(out, l);
        }
        put_u32(out, self.live.len() as u32);
        for &(segment, live) in &self.live {
            put_u32(out, segment.0);
            put_u64(out, live);
        }
        put_u32(out, self.streams.len() as u32);
        for &(id, l) in &self.streams {
            put_u64(out, id.0);
            put_location(out, l);
        }
    }

    /// Reads a root.
    pub fn decode(body: &[u8]) -> Option<Root> {
        let mut f = Fields(body);
        if f.bytes(4)? != MAGIC {
            return None;
        }
        let version = f.u8()?;
        if !(1..=ROOT_VERSION).contains(&version) {
            return None;
        }
        f.bytes(3)?;
        let mut groups = Vec::new();
        if version == 1 {
            // The next index of the shard's one group, which counted records.
            let index = LogIndex(f.u64()?.saturating_sub(1));
            groups.push(GroupState { group: FILE_GROUP, index, ..GroupState::default() });
        }
        let next_consumer = f.u64()?;
        let catalogue_upto = Upto::decode(&mut f, version)?;
        if version > 1 {
            groups = list(&mut f, 32, group_state)?;
        }
        let root = Root {
            version,
            groups,
            next_consumer,
            catalogue_upto,
            catalogue: list(&mut f, 12, location)?,
            live: list(&mut f, 12, |f| Some((SegmentId(f.u32()?), f.u64()?)))?,
            streams: list(&mut f, 20, |f| Some((StreamId(f.u64()?), location(f)?)))?,
        };
        f.0.is_empty().then_some(root)
    }
}

fn group_state(f: &mut Fields<'_>) -> Option<GroupState> {
    Some(GroupState {
        group: GroupId(f.u64()?),
        index: LogIndex(f.u64()?),
        term: Term(f.u64()?),
        members: list(f, 8, |f| f.u64())?,
        unapplied: list(f, 20, |f| Some((LogIndex(f.u64()?), location(f)?)))?,
    })
}

/// A stored page of the duplicate window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupePage {
    /// Which page.
    pub number: u64,
    /// It does not change any more.
    pub complete: bool,
    /// Where it lies.
    pub location: Location,
}

/// What a checkpoint holds of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// The stream is removed, and its messages are being removed.
    pub buried: bool,
    /// The first sequence is shown even if none was used.
    pub first_shown: bool,
    /// Limits were lowered, and not all that is over them is removed.
    pub enforcing: bool,
    /// The time of the last sequence used.
    pub last_time: i64,
    /// A message whose time is known, usually the first.
    pub first_time: (u64, i64),
    /// The configuration.
    pub config: Location,
    /// The head of the index.
    pub head: Location,
    /// The id of the last message, empty if it had none.
    pub last_id: Vec<u8>,
    /// The duplicate window.
    pub dedupe: Vec<DedupePage>,
    /// The consumers.
    pub consumers: Vec<(ConsumerId, Location)>,
}

impl StreamState {
    /// Appends the state to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flags =
            [(self.buried, BURIED), (self.first_shown, FIRST_SHOWN), (self.enforcing, ENFORCING)];
        let flags = flags.iter().filter(|(is, _)| *is).fold(0, |all, (_, flag)| all | flag);
        out.extend_from_slice(&[VERSION, flags]);
        out.extend_from_slice(&self.last_time.to_le_bytes());
        put_u64(out, self.first_time.0);
        out.extend_from_slice(&self.first_time.1.to_le_bytes());
        put_location(out, self.config);
        put_location(out, self.head);
        put_counted(out, &self.last_id);
        put_u32(out, self.dedupe.len() as u32);
        for page in &self.dedupe {
            put_u64(out, page.number);
            out.push(u8::from(page.complete));
            put_location(out, page.location);
        }
        put_u32(out, self.consumers.len() as u32);
        for &(id, l) in &self.consumers {
            put_u64(out, id.0);
            put_location(out, l);
        }
    }

    /// Reads a state.
    pub fn decode(body: &[u8]) -> Option<StreamState> {
        let mut f = Fields(body);
        if f.u8()? != VERSION {
            return None;
        }
        let flags = f.u8()?;
        let state = StreamState {
            buried: flags & BURIED != 0,
            first_shown: flags & FIRST_SHOWN != 0,
            enforcing: flags & ENFORCING != 0,
            last_time: f.i64()?,
            first_time: (f.u64()?, f.i64()?),
            config: location(&mut f)?,
            head: location(&mut f)?,
            last_id: f.counted()?.to_vec(),
            dedupe: list(&mut f, 21, |f| {
                let (number, complete) = (f.u64()?, f.u8()? != 0);
                Some(DedupePage { number, complete, location: location(f)? })
            })?,
            consumers: list(&mut f, 20, |f| Some((ConsumerId(f.u64()?), location(f)?)))?,
        };
        f.0.is_empty().then_some(state)
    }
}

/// What a checkpoint holds of one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerState<'a> {
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// Version 1 alone: records about it below this index of the group are part of the snapshot.
    /// From version 2 on the snapshot is that of the replay point.
    pub applied_below: Option<u64>,
    /// The configuration as JSON.
    pub json: &'a [u8],
    /// The consumer's own encoding of its state.
    pub snapshot: &'a [u8],
}

impl<'a> ConsumerState<'a> {
    /// Appends the state to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let version = if self.applied_below.is_some() { VERSION } else { CONSUMER_VERSION };
        out.push(version);
        out.extend_from_slice(&self.created.to_le_bytes());
        if let Some(index) = self.applied_below {
            put_u64(out, index);
        }
        put_counted(out, self.json);
        out.extend_from_slice(self.snapshot);
    }

    /// Reads a state.
    pub fn decode(body: &'a [u8]) -> Option<Self> {
        let mut f = Fields(body);
        let version = f.u8()?;
        if !(VERSION..=CONSUMER_VERSION).contains(&version) {
            return None;
        }
        let created = f.i64()?;
        let applied_below = if version == VERSION { Some(f.u64()?) } else { None };
        Some(ConsumerState { created, applied_below, json: f.counted()?, snapshot: f.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u32, offset: u32, len: u32) -> Location {
        Location { position: Position { segment: SegmentId(segment), offset }, len }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn golden_root() {
        let file = GroupState {
            group: GroupId(2),
            index: LogIndex(0x0102),
            term: Term(1),
            members: vec![14],
            unapplied: vec![(LogIndex(15), at(16, 17, 18))],
        };
        let root = Root {
            version: 3,
            groups: vec![file],
            next_consumer: 3,
            catalogue_upto: Upto::Entry(LogIndex(4), 5),
            catalogue: vec![at(5, 6, 7)],
            live: vec![(SegmentId(8), 0x0900_0000_0000)],
            streams: vec![(StreamId(10), at(11, 12, 13))],
        };
        let mut out = Vec::new();
        root.encode(&mut out);
        let want = "636c727403000000\
            0300000000000000\
            0400000000000000\
            05000000\
            01000000\
            0200000000000000\
            0201000000000000\
            0100000000000000\
            01000000\
            0e00000000000000\
            01000000\
            0f00000000000000100000001100000012000000\
            01000000\
            050000000600000007000000\
            01000000\
            080000000000000000090000\
            01000000\
            0a000000000000000b0000000c0000000d000000";
        assert_eq!(hex(&out), want);
        assert_eq!(Root::decode(&out), Some(root.clone()));
        let mut of_version_2 = out.clone();
        of_version_2[4] = 2;
        let root = Root { version: 2, catalogue_upto: Upto::Write(4, 5), ..root };
        assert_eq!(Root::decode(&of_version_2), Some(root));
        for cut in 0..out.len() {
            assert_eq!(Root::decode(&out[..cut]), None, "{cut} bytes");
        }
        out.push(0);
        assert_eq!(Root::decode(&out), None);
    }

    #[test]
    fn a_root_of_version_1_is_read() {
        let mut bytes = b"clrt\x01\0\0\0".to_vec();
        bytes.extend([[7u8, 0, 0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0, 0]].concat());
        bytes.extend([4u8, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0u8; 12]);
        let group = GroupState { group: FILE_GROUP, index: LogIndex(6), ..GroupState::default() };
        let root = Root {
            version: 1,
            groups: vec![group],
            next_consumer: 3,
            catalogue_upto: Upto::Record(4),
            ..Root::default()
        };
        assert_eq!(Root::decode(&bytes), Some(root));
    }

    #[test]
    fn what_is_part_of_a_checkpoint_is_before_its_place() {
        let place = |version, index, write, nth| ReplayedPlace {
            version,
            index: LogIndex(index),
            write,
            nth,
        };
        for (upto, at, covered) in [
            (Upto::Entry(LogIndex(7), 2), place(2, 7, 900, 1), true),
            (Upto::Entry(LogIndex(7), 2), place(2, 7, 3, 2), false),
            (Upto::Entry(LogIndex(7), 0), place(2, 6, 900, 9), true),
            (Upto::Entry(LogIndex(7), 0), place(2, 8, 3, 0), false),
            (Upto::Entry(LogIndex(7), 0), place(1, 9, 3, 0), true),
            (Upto::Write(7, 2), place(2, 900, 7, 1), true),
            (Upto::Write(7, 2), place(2, 3, 7, 2), false),
            (Upto::Record(7), place(1, 6, 900, 5), true),
            (Upto::Record(7), place(1, 7, 3, 0), false),
            (Upto::Nothing, place(2, 0, 0, 0), false),
        ] {
            assert_eq!(upto.covers(at), covered, "{upto:?} {at:?}");
        }
        // A place of an earlier version is not taken for one of this.
        for upto in [Upto::Write(7, 2), Upto::Record(7), Upto::Nothing] {
            let mut out = Vec::new();
            Root { catalogue_upto: upto, ..Root::default() }.encode(&mut out);
            let root = Root::decode(&out).expect("a root");
            assert_eq!(root.catalogue_upto, Upto::Entry(LogIndex(0), 0));
        }
    }

    #[test]
    fn golden_stream_state() {
        let state = StreamState {
            buried: true,
            first_shown: true,
            enforcing: true,
            last_time: -2,
            first_time: (3, 4),
            config: at(5, 6, 7),
            head: at(8, 9, 10),
            last_id: b"id".to_vec(),
            dedupe: vec![DedupePage { number: 11, complete: true, location: at(12, 13, 14) }],
            consumers: vec![(ConsumerId(15), at(16, 17, 18))],
        };
        let mut out = Vec::new();
        state.encode(&mut out);
        let want = "0107\
            feffffffffffffff\
            03000000000000000400000000000000\
            050000000600000007000000\
            08000000090000000a000000\
            020000006964\
            01000000\
            0b00000000000000010c0000000d0000000e000000\
            01000000\
            0f00000000000000100000001100000012000000";
        assert_eq!(hex(&out), want);
        assert_eq!(StreamState::decode(&out), Some(state));
        for cut in 0..out.len() {
            assert_eq!(StreamState::decode(&out[..cut]), None, "{cut} bytes");
        }
    }

    #[test]
    fn golden_consumer_state() {
        let state =
            ConsumerState { created: 1, applied_below: None, json: b"{}", snapshot: b"abc" };
        let of_version_1 = ConsumerState { applied_below: Some(2), ..state };
        for (state, want) in [
            (state, "020100000000000000020000007b7d616263"),
            (of_version_1, "0101000000000000000200000000000000020000007b7d616263"),
        ] {
            let mut out = Vec::new();
            state.encode(&mut out);
            assert_eq!(hex(&out), want);
            assert_eq!(ConsumerState::decode(&out), Some(state));
            assert_eq!(ConsumerState::decode(&out[..14]), None);
        }
    }

    #[test]
    fn a_list_that_claims_too_much_is_refused() {
        let mut out = Vec::new();
        Root::default().encode(&mut out);
        out[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Root::decode(&out), None);
    }
}
