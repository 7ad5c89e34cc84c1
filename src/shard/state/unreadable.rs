//! What could not be read when the shard was opened.

use std::collections::BTreeMap;

use corelane_storage::index::Location;
use corelane_storage::record::RecordIn;

use crate::shard::records::kind;
use crate::types::{ConsumerId, StreamId};

/// What a checkpoint names and could not be read. It is not served, its place is named by every
/// later checkpoint, and its record stays: it is lost only if that stays unreadable.
#[derive(Debug, Default)]
pub struct Unreadable {
    /// Segments without a file are still to be reported, once removed streams hold nothing more.
    pub judge_missing: bool,
    /// Consumers, and where theirs lie.
    pub consumers: BTreeMap<(StreamId, ConsumerId), Location>,
}

impl Unreadable {
    /// Whether a record is about something that is not served.
    pub fn concerns(&self, record: &RecordIn<'_>) -> bool {
        let (stream, id) = match record {
            RecordIn::Message(m) => (m.stream, None),
            RecordIn::Meta(m) if m.kind == kind::CATALOGUE => return false,
            RecordIn::Meta(m) => (StreamId(m.stream), Some((m.kind, ConsumerId(m.id)))),
        };
        let of_consumer = |&(k, _): &(u16, ConsumerId)| {
            matches!(k, kind::CONSUMER | kind::CONSUMER_DELTA | kind::CONSUMER_REMOVED)
        };
        let consumer = id.filter(of_consumer);
        consumer.is_some_and(|(_, id)| self.consumers.contains_key(&(stream, id)))
    }

    /// The consumers of a stream.
    pub fn of_stream(&self, stream: StreamId) -> impl Iterator<Item = (ConsumerId, Location)> + '_ {
        let all = (stream, ConsumerId(0))..=(stream, ConsumerId(u64::MAX));
        self.consumers.range(all).map(|(&(_, id), &l)| (id, l))
    }
}
