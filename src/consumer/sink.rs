//! What a consumer sends: one trait that the shard implements, and a recorder for tests.

use super::settings::Origin;

/// One delivery. The stored subject, headers and payload are the shard's; the rest is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatch<'a> {
    /// The stream sequence.
    pub seq: u64,
    /// The consumer sequence of this delivery.
    pub consumer_seq: u64,
    /// Which delivery of the message this is, from 1.
    pub deliveries: u32,
    /// The inbox of the pull request or the deliver subject. The message carries its stored subject
    /// all the same.
    pub to: &'a [u8],
    /// The requester of a pull; `None` for push.
    pub origin: Option<Origin>,
    /// The acknowledgement subject, which is the message's reply.
    pub reply: &'a [u8],
    /// Send no payload, and the headers with `Nats-Msg-Size` (see `status::headers_only`).
    pub headers_only: bool,
}

/// Takes what a consumer sends, in order. Slices are valid for the call only.
pub trait Sink {
    /// A message is to be sent.
    fn message(&mut self, dispatch: &Dispatch<'_>);
    /// A message without payload whose header block is `head`: a status, a heartbeat, a
    /// flow-control request. `reply` may be empty. `origin` is `None` for push.
    fn status(&mut self, to: &[u8], origin: Option<Origin>, head: &[u8], reply: &[u8]);
    /// The empty answer to an acknowledgement. It must be held until the next delta of this
    /// consumer is durable (at once if there is none to take and none under way).
    fn ack_reply(&mut self, to: &[u8], origin: Origin);
    /// A message that was delivered as often as allowed and was never acknowledged.
    fn max_deliveries(&mut self, seq: u64, deliveries: u32) {
        let _ = (seq, deliveries);
    }
    /// Whether anybody listens on the inbox of a pull request.
    fn listens(&mut self, inbox: &[u8]) -> bool {
        let _ = inbox;
        true
    }
    /// The consumer was inactive for longer than its threshold and is to be deleted.
    fn auto_delete(&mut self);
}

/// One thing a [`Recorder`] took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// See [`Sink::message`].
    Message {
        /// Stream sequence.
        seq: u64,
        /// Consumer sequence.
        consumer_seq: u64,
        /// Which delivery, from 1.
        deliveries: u32,
        /// Inbox or deliver subject.
        to: Vec<u8>,
        /// The requester of a pull.
        origin: Option<Origin>,
        /// Acknowledgement subject.
        reply: Vec<u8>,
    },
    /// See [`Sink::status`].
    Status {
        /// Inbox or deliver subject.
        to: Vec<u8>,
        /// The requester of a pull.
        origin: Option<Origin>,
        /// The header block.
        head: Vec<u8>,
        /// Reply subject or empty.
        reply: Vec<u8>,
    },
    /// See [`Sink::ack_reply`].
    AckReply {
        /// Where to.
        to: Vec<u8>,
        /// Who asked.
        origin: Origin,
    },
    /// See [`Sink::max_deliveries`].
    MaxDeliveries {
        /// Stream sequence.
        seq: u64,
        /// Deliveries made.
        deliveries: u32,
    },
    /// See [`Sink::auto_delete`].
    AutoDelete,
}

/// A sink that keeps everything: for tests and simulators.
#[derive(Debug, Default)]
pub struct Recorder {
    /// What it took.
    pub taken: Vec<Output>,
    /// Inboxes on which nobody listens.
    pub gone: Vec<Vec<u8>>,
}

impl Recorder {
    /// Takes what was recorded.
    pub fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.taken)
    }
}

impl Sink for Recorder {
    fn message(&mut self, d: &Dispatch<'_>) {
        self.taken.push(Output::Message {
            seq: d.seq,
            consumer_seq: d.consumer_seq,
            deliveries: d.deliveries,
            to: d.to.to_vec(),
            origin: d.origin,
            reply: d.reply.to_vec(),
        });
    }

    fn status(&mut self, to: &[u8], origin: Option<Origin>, head: &[u8], reply: &[u8]) {
        self.taken.push(Output::Status {
            to: to.to_vec(),
            origin,
            head: head.to_vec(),
            reply: reply.to_vec(),
        });
    }

    fn ack_reply(&mut self, to: &[u8], origin: Origin) {
        self.taken.push(Output::AckReply { to: to.to_vec(), origin });
    }

    fn max_deliveries(&mut self, seq: u64, deliveries: u32) {
        self.taken.push(Output::MaxDeliveries { seq, deliveries });
    }

    fn listens(&mut self, inbox: &[u8]) -> bool {
        !self.gone.iter().any(|gone| gone == inbox)
    }

    fn auto_delete(&mut self) {
        self.taken.push(Output::AutoDelete);
    }
}
