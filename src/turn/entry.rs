//! The entry: one message between two reactors, as bytes in a batch.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | size of the entry, this header included |
//! | 4 | 1 | kind: 1 publish, 2 deliver, 3 returned, 4 queue, 5 nobody |
//! | 5 | 1 | low four bits flags: 1 return when nobody takes it, 4 shown; high four bits hops |
//! | 6 | 2 | origin: reactor |
//! | 8 | 8 | origin: connection, 0 for the server itself |
//! | 16 | 4 | account |
//! | 20 | 4 | size of the subject it is routed by |
//! | 24 | 4 | size of the subject shown to subscribers, present only with the flag *shown* |
//! | 28 | 4 | size of the reply |
//! | 32 | 4 | size of the names of the chosen queue groups, each a u32 and its bytes |
//! | 36 | 4 | size of the header block |
//! | 40 | 4 | size of the payload |
//! | 44 | 2 | shard whose credit for publishes was charged, plus 1, or 0; bit 15: in memory |
//! | 46 | 2 | shard whose credit for requests was charged, plus 1, or 0 |
//! | 48 | … | subject, shown, reply, queue groups, header block, payload |
//!
//! Numbers are little-endian. Entries are packed without gaps; a batch is a run of whole entries.

pub use crate::client::Message;
use crate::interest::AccountId;
pub use crate::types::Origin;
use crate::types::{ConnId, CreditKind, ReactorId, ShardId};

/// Bytes before an entry's first variable field.
pub const HEADER_BYTES: usize = 48;

/// Times a message may be handed on or back before it is answered as undeliverable.
pub const HOPS_MAX: u8 = 8;

/// What the receiver does with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Deliver to what lives on the receiving reactor: it was routed already.
    Publish = 1,
    /// Route it there as if it had been published there.
    Deliver = 2,
    /// Came back: nobody was left to take it, or no member of the named queue groups.
    Returned = 3,
    /// Deliver to one member of each named queue group there, and to nobody else.
    Queue = 4,
    /// Tell the origin, which lives there, that nobody takes what it published.
    Nobody = 5,
}

/// A decoded entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What to do with it.
    pub kind: Kind,
    /// Hand it back if nobody takes it.
    pub want_return: bool,
    /// The credit for publishes that was charged for it, and the shard at the receiver.
    pub credit: Option<(CreditKind, ShardId)>,
    /// The shard at the receiver whose credit for requests was charged for it.
    pub request_credit: Option<ShardId>,
    /// How often it was handed on or back.
    pub hops: u8,
    /// Who published it.
    pub origin: Origin,
    /// Names of the queue groups of which one member is chosen at the receiver.
    pub queues: Queues<'a>,
    /// The message.
    pub message: Message<'a>,
}

/// The names of chosen queue groups, encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues<'a>(&'a [u8]);

impl<'a> Queues<'a> {
    /// The encoded names, well-formed or not.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Queues(bytes)
    }

    /// True if no group is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends one name to an encoded list.
    pub fn push(list: &mut Vec<u8>, name: &[u8]) {
        list.extend_from_slice(&(name.len() as u32).to_le_bytes());
        list.extend_from_slice(name);
    }
}

impl<'a> Iterator for Queues<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (size, rest) = self.0.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size) as usize;
        if rest.len() < size {
            self.0 = &[];
            return None;
        }
        let (name, rest) = rest.split_at(size);
        self.0 = rest;
        Some(name)
    }
}

/// A batch that does not consist of whole, well-formed entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

const WANT_RETURN: u8 = 1;
const SHOWN: u8 = 4;
/// Set beside a shard (there are at most 1,024) whose credit for memory streams was charged.
const IN_MEMORY: u16 = 1 << 15;

/// Appends `entry` to a batch.
pub fn encode(batch: &mut Vec<u8>, entry: &Entry<'_>) {
    let m = &entry.message;
    let shown = if m.shown == m.subject { &[][..] } else { m.shown };
    let total = HEADER_BYTES
        + m.subject.len()
        + shown.len()
        + m.reply.len()
        + entry.queues.0.len()
        + m.headers.len()
        + m.payload.len();
    let mut flags = entry.hops.min(15) << 4;
    flags |= if entry.want_return { WANT_RETURN } else { 0 };
    flags |= if shown.is_empty() { 0 } else { SHOWN };
    let mut head = [0u8; HEADER_BYTES];
    head[0..4].copy_from_slice(&(total as u32).to_le_bytes());
    head[4] = entry.kind as u8;
    head[5] = flags;
    head[6..8].copy_from_slice(&entry.origin.reactor.0.to_le_bytes());
    head[8..16].copy_from_slice(&entry.origin.conn.0.to_le_bytes());
    head[16..20].copy_from_slice(&m.account.0.to_le_bytes());
    head[20..24].copy_from_slice(&(m.subject.len() as u32).to_le_bytes());
    head[24..28].copy_from_slice(&(shown.len() as u32).to_le_bytes());
    head[28..32].copy_from_slice(&(m.reply.len() as u32).to_le_bytes());
    head[32..36].copy_from_slice(&(entry.queues.0.len() as u32).to_le_bytes());
    head[36..40].copy_from_slice(&(m.headers.len() as u32).to_le_bytes());
    head[40..44].copy_from_slice(&(m.payload.len() as u32).to_le_bytes());
    let credit = entry.credit.map_or(0, |(kind, shard)| match kind {
        CreditKind::PublishMemory => (shard.0 + 1) | IN_MEMORY,
        _ => shard.0 + 1,
    });
    head[44..46].copy_from_slice(&credit.to_le_bytes());
    let request_credit = entry.request_credit.map_or(0, |shard| shard.0 + 1);
    head[46..48].copy_from_slice(&request_credit.to_le_bytes());
    batch.reserve(total);
    batch.extend_from_slice(&head);
    batch.extend_from_slice(m.subject);
    // Most messages have none of these.
    if total > HEADER_BYTES + m.subject.len() + m.payload.len() {
        batch.extend_from_slice(shown);
        batch.extend_from_slice(m.reply);
        batch.extend_from_slice(entry.queues.0);
        batch.extend_from_slice(m.headers);
    }
    batch.extend_from_slice(m.payload);
}

/// Takes the first entry off `batch`; `None` at its end.
pub fn decode<'a>(batch: &mut &'a [u8]) -> Result<Option<Entry<'a>>, Malformed> {
    if batch.is_empty() {
        return Ok(None);
    }
    let head: &[u8; HEADER_BYTES] = batch.first_chunk().ok_or(Malformed)?;
    let word = |at: usize| -> usize {
        u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize
    };
    let half = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let kind_of = |half: u16| match half & IN_MEMORY {
        0 => CreditKind::Publish,
        _ => CreditKind::PublishMemory,
    };
    let credit = (half(44) & !IN_MEMORY).checked_sub(1).map(|at| (kind_of(half(44)), ShardId(at)));
    let sizes = [word(20), word(24), word(28), word(32), word(36), word(40)];
    let total = sizes.iter().sum::<usize>() + HEADER_BYTES;
    if word(0) != total || batch.len() < total {
        return Err(Malformed);
    }
    let kind = match head[4] {
        1 => Kind::Publish,
        2 => Kind::Deliver,
        3 => Kind::Returned,
        4 => Kind::Queue,
        5 => Kind::Nobody,
        _ => return Err(Malformed),
    };
    let flags = head[5];
    if (flags & SHOWN != 0) != (sizes[1] != 0) {
        return Err(Malformed);
    }
    let mut rest = &batch[HEADER_BYTES..total];
    let mut take = |size: usize| -> &'a [u8] {
        let (field, after) = rest.split_at(size);
        rest = after;
        field
    };
    let subject = take(sizes[0]);
    let shown = take(sizes[1]);
    let reply = take(sizes[2]);
    let queues = Queues(take(sizes[3]));
    let headers = take(sizes[4]);
    let payload = take(sizes[5]);
    *batch = &batch[total..];
    let mut conn = [0u8; 8];
    conn.copy_from_slice(&head[8..16]);
    Ok(Some(Entry {
        kind,
        want_return: flags & WANT_RETURN != 0,
        credit,
        request_credit: half(46).checked_sub(1).map(ShardId),
        hops: flags >> 4,
        origin: Origin {
            reactor: ReactorId(u16::from_le_bytes([head[6], head[7]])),
            conn: ConnId(u64::from_le_bytes(conn)),
        },
        queues,
        message: Message {
            account: AccountId(word(16) as u32),
            subject,
            shown,
            reply,
            headers,
            payload,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample<'a>(queues: &'a [u8]) -> Entry<'a> {
        Entry {
            kind: Kind::Deliver,
            want_return: true,
            credit: Some((CreditKind::PublishMemory, ShardId(4))),
            request_credit: Some(ShardId(6)),
            hops: 3,
            origin: Origin { reactor: ReactorId(0x0102), conn: ConnId(0x0a) },
            queues: Queues::from_bytes(queues),
            message: Message {
                account: AccountId(7),
                subject: b"_INBOX.a",
                shown: b"foo",
                reply: b"r",
                headers: b"NATS/1.0\r\n\r\n",
                payload: b"hi",
            },
        }
    }

    #[test]
    fn golden() {
        let mut queues = Vec::new();
        Queues::push(&mut queues, b"q");
        Queues::push(&mut queues, b"");
        let entry = sample(&queues);
        let mut batch = Vec::new();
        encode(&mut batch, &entry);
        let mut want = vec![83, 0, 0, 0, 2, 0x35, 2, 1, 10, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0];
        for size in [8u8, 3, 1, 9, 12, 2] {
            want.extend_from_slice(&[size, 0, 0, 0]);
        }
        want.extend_from_slice(&[5, 0x80, 7, 0]);
        want.extend_from_slice(b"_INBOX.afoor\x01\0\0\0q\0\0\0\0NATS/1.0\r\n\r\nhi");
        assert_eq!(batch, want);
        let mut at = &batch[..];
        let back = decode(&mut at).unwrap().unwrap();
        assert_eq!(back, entry);
        assert_eq!(back.queues.collect::<Vec<_>>(), vec![&b"q"[..], &b""[..]]);
        assert_eq!(decode(&mut at), Ok(None));
    }

    #[test]
    fn shown_equal_to_the_subject_is_left_out() {
        let mut entry = sample(&[]);
        entry.message.shown = entry.message.subject;
        let mut batch = Vec::new();
        encode(&mut batch, &entry);
        let back = decode(&mut &batch[..]).unwrap().unwrap();
        assert_eq!(back.message.shown, b"");
        assert_eq!(back.message.shown_subject(), b"_INBOX.a");
    }

    #[test]
    fn whatever_is_cut_or_flipped_never_panics() {
        let mut batch = Vec::new();
        encode(&mut batch, &sample(b"\x05\0\0\0q"));
        encode(&mut batch, &sample(b""));
        for cut in 0..batch.len() {
            let mut at = &batch[..cut];
            while let Ok(Some(entry)) = decode(&mut at) {
                let _ = entry.queues.count();
            }
        }
        for at in 0..batch.len() {
            for bit in 0..8 {
                let mut bad = batch.clone();
                bad[at] ^= 1 << bit;
                let mut at = &bad[..];
                while let Ok(Some(entry)) = decode(&mut at) {
                    let _ = entry.queues.count();
                }
            }
        }
    }
}
