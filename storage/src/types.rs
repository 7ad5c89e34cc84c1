//! Numbers that could be confused, as types of their own.

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
        )]
        pub struct $name(pub $inner);
    };
}

number!(
    /// A shard of this node: an index from 0, fixed when the store is created.
    ShardId(u16)
);
number!(
    /// A segment of one shard. Names one content for ever: a file that is used again gets a new id.
    SegmentId(u32)
);
number!(
    /// A stream, unique for the life of the store.
    StreamId(u64)
);
number!(
    /// A consumer, unique within the store.
    ConsumerId(u64)
);
number!(
    /// A replication group. Opaque: a (shard, peer set) may have several.
    GroupId(u64)
);
number!(
    /// A consensus term of a group.
    Term(u64)
);
number!(
    /// An entry's index in its group's log.
    LogIndex(u64)
);
number!(
    /// A count of appends to one shard's log since it was opened: the order in which things become
    /// durable.
    Lsn(u64)
);

/// Where a record starts on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The segment.
    pub segment: SegmentId,
    /// Bytes from the start of the segment; a multiple of 8.
    pub offset: u32,
}
