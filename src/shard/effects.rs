//! What a shard says to the rest of the node, in order. Implemented by the turn over its net layer.

use crate::interest::WatchId;
use crate::shard::mailbox::ShardMessage;
use crate::types::{CreditKind, Origin, PressureQuery, ReactorId, ShardId, StreamId};

/// A message that leaves a stream.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The requester; its reactor routes `to`. `None` for push: any interest on the node.
    pub origin: Option<Origin>,
    /// The subject it is routed by: an inbox or a deliver subject.
    pub to: &'a [u8],
    /// The subject that subscribers see; empty if it is `to`.
    pub shown: &'a [u8],
    /// The reply subject; may be empty.
    pub reply: &'a [u8],
    /// The header block; may be empty.
    pub headers: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

/// A change of what the node's reactors know of streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamPlacement {
    /// A stream exists, or captures other subjects.
    Here {
        /// The stream.
        id: StreamId,
        /// Its name.
        name: Box<[u8]>,
        /// Its shard.
        shard: ShardId,
        /// The credit that publishes into it are charged to.
        credit: CreditKind,
        /// What it captures.
        subjects: Vec<Box<[u8]>>,
        /// It was there before.
        update: bool,
    },
    /// A stream is gone.
    Gone(StreamId),
}

/// Where the effects of a shard go during one turn.
pub trait ShardEffects {
    /// Sends a message.
    fn send(&mut self, message: &Outgoing<'_>);
    /// What the net layer has done in this turn: it grows with the receivers of what is sent.
    fn routed(&self) -> u64 {
        0
    }
    /// False while more is on its way to another reactor than that takes: what is sent would only
    /// wait in memory.
    fn has_room(&self) -> bool {
        true
    }
    /// Grows whenever a receiver somewhere on the node is found to be slow: its outbound is full
    /// for consumers, or has filled further.
    fn pressure(&self) -> u64 {
        0
    }
    /// Asks whether those who receive `subject` take more; for an answer to a requester, those on
    /// its reactor. Returns how many answers follow; if it is none, they do.
    fn ask_receivers(
        &mut self,
        _subject: &[u8],
        _requester: Option<Origin>,
        _query: PressureQuery,
    ) -> u32 {
        0
    }
    /// Gives credit back.
    fn credit(&mut self, reactor: ReactorId, kind: CreditKind, shard: ShardId, bytes: u64);
    /// Tells all reactors of a stream, before anything that is sent later.
    fn place(&mut self, placed: StreamPlacement);
    /// True if a client of the node subscribes to `subject`; with `group`, in that queue group.
    fn has_interest(&mut self, subject: &[u8], group: &[u8]) -> bool;
    /// True if a client of the node subscribes to just this subject; with `group`, in that queue
    /// group. Wildcards do not count.
    fn has_listener(&mut self, subject: &[u8], group: &[u8]) -> bool;
    /// Tells who published to `subject` that nobody takes it, if it wants to know.
    fn no_responders(&mut self, publisher: Origin, subject: &[u8], reply: &[u8]);
    /// Asks for a notice when interest in `subject` (of the queue group, if one is named) comes or
    /// goes.
    fn watch(&mut self, shard: ShardId, subject: &[u8], group: &[u8]) -> WatchId;
    /// Gives up a watch.
    fn unwatch(&mut self, watch: WatchId);
    /// Sends a message to a shard of this node.
    fn send_to_shard(&mut self, to: ShardId, message: ShardMessage);
    /// The node must stop; the text is for the operator.
    fn fatal(&mut self, text: &str);
    /// A line for the log.
    fn log(&mut self, line: String);
}
