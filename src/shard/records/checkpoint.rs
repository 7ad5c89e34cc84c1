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
/// The version of roots and of consumer states; version 1 is read.
const VERSION_2: u8 = 2;
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

/// The place of a record in the log: records of a group before it are part of what names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Upto {
    /// The number of a write, and which record of the group's entry in it.
    Place(u64, u32),
    /// In version 1, the index of a record.
    Index(u64),
    #[default]
    /// None.
    Nothing,
}

impl Upto {
    fn encode(self, out: &mut Vec<u8>) {
        let (write, nth) = match self {
            Upto::Place(write, nth) => (write, nth),
            Upto::Index(_) | Upto::Nothing => (0, 0),
        };
        put_u64(out, write);
        put_u32(out, nth);
    }

    /// Whether a record is before this: that of an entry with this index (or, in version 1, the
    /// record's), in this write.
    pub fn covers(self, index: u64, write: u64, nth: u32) -> bool {
        match self {
            Upto::Place(before, records) => (write, nth) < (before, records),
            Upto::Index(before) => index < before,
            Upto::Nothing => false,
        }
    }

    fn decode(f: &mut Fields<'_>, version: u8) -> Option<Upto> {
        Some(match version {
            1 => Upto::Index(f.u64()?),
            _ => Upto::Place(f.u64()?, f.u32()?),
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
        out.extend_from_slice(&[VERSION_2, 0, 0, 0]);
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
        if !(1..=VERSION_2).contains(&version) {
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
        let version = if self.applied_below.is_some() { VERSION } else { VERSION_2 };
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
        if !(VERSION..=VERSION_2).contains(&version) {
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
            version: 2,
            groups: vec![file],
            next_consumer: 3,
            catalogue_upto: Upto::Place(4, 5),
            catalogue: vec![at(5, 6, 7)],
            live: vec![(SegmentId(8), 0x0900_0000_0000)],
            streams: vec![(StreamId(10), at(11, 12, 13))],
        };
        let mut out = Vec::new();
        root.encode(&mut out);
        let want = "636c727402000000\
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
        assert_eq!(Root::decode(&out), Some(root));
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
            catalogue_upto: Upto::Index(4),
            ..Root::default()
        };
        assert_eq!(Root::decode(&bytes), Some(root));
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
