//! What the shard's own records in the log are, and the bodies that it lays out itself.
//!
//! Kinds of meta records (`stream` and `id` are the record's own fields):
//!
//! | kind | record | stream | id | body |
//! |---|---|---|---|---|
//! | 1 | consumer delta | stream | consumer | the consumer's own encoding |
//! | 2 | delete | stream | sequence | empty |
//! | 3 | purge | stream | 0 | from `u64`, to `u64` (exclusive), filter bytes (empty: all) |
//! | 4 | stream | stream | 0 | version `u8` (1), created `i64`, JSON of its configuration |
//! | 5 | stream removed | stream | 0 | empty |
//! | 6 | consumer | stream | consumer | version `u8` (1), created `i64`, start (below), its JSON |
//! | 7 | consumer removed | stream | consumer | empty |
//! | 8 | catalogue | 0 | 0 | the catalogue's own encoding |
//! | 9 | index page | stream | page key: kind in the top byte | the index's own encoding |
//! | 10 | consumer state | stream | consumer | see `records::checkpoint` |
//! | 11 | dedupe | stream | page | the stream's own encoding |
//! | 12 | catalogue state | 0 | page | counted records of the catalogue |
//! | 13 | checkpoint root | 0 | checkpoint | see `records::checkpoint` |
//! | 14 | stream state | stream | 0 | see `records::checkpoint` |
//! | 15 | stream configuration | stream | 0 | as kind 4 |
//! | 16 | stopped in order, if it is the log's last | 0 | 0; 1: started after that | empty |
//! | 17 | enforce limits | stream | 0 | `u8`; 0: counted subjects, 1: messages `u64`, 2: done |
//!
//! All numbers are little-endian. Kinds 9 to 15 belong to checkpoints and are not replayed.

pub(in crate::shard) mod checkpoint;

use crate::api::json::{self, Object};

/// The id of a `STOPPED` record that says that the shard was started again.
pub const BEGUN: u64 = 1;

/// See the table above. All numbers that the format gives away stand here, used or not.
#[allow(missing_docs, dead_code)]
pub mod kind {
    pub const CONSUMER_DELTA: u16 = 1;
    pub const DELETE: u16 = 2;
    pub const PURGE: u16 = 3;
    pub const STREAM: u16 = 4;
    pub const STREAM_REMOVED: u16 = 5;
    pub const CONSUMER: u16 = 6;
    pub const CONSUMER_REMOVED: u16 = 7;
    pub const CATALOGUE: u16 = 8;
    pub const PAGE: u16 = 9;
    pub const CONSUMER_STATE: u16 = 10;
    pub const DEDUPE: u16 = 11;
    pub const CATALOGUE_STATE: u16 = 12;
    pub const ROOT: u16 = 13;
    pub const STREAM_STATE: u16 = 14;
    pub const STREAM_CONFIG: u16 = 15;
    pub const STOPPED: u16 = 16;
    pub const ENFORCE: u16 = 17;

    /// True for records that remove messages.
    pub fn removes(kind: u16) -> bool {
        matches!(kind, DELETE | PURGE | ENFORCE)
    }

    /// True for records about a stream that is there.
    pub fn is_of_stream(kind: u16) -> bool {
        removes(kind)
            || matches!(kind, CONSUMER_DELTA | CONSUMER | CONSUMER_REMOVED | STREAM_REMOVED)
    }

    /// True for records that only checkpoints name.
    pub fn is_of_checkpoint(kind: u16) -> bool {
        (PAGE..=STREAM_CONFIG).contains(&kind)
    }
}

const VERSION: u8 = 1;

/// Reads little-endian numbers off the front of a body; `None` once it is too short.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Option<u8> {
        Some(self.bytes(1)?[0])
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    /// The next eight bytes, signed.
    pub fn i64(&mut self) -> Option<i64> {
        self.u64().map(|v| v as i64)
    }

    /// A count and that many bytes.
    pub fn counted(&mut self) -> Option<&'a [u8]> {
        let n = self.u32()?;
        self.bytes(n as usize)
    }
}

/// Appends a count and bytes.
pub fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// A range of sequences to remove, and which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeBody<'a> {
    /// The first sequence.
    pub from: u64,
    /// One past the last.
    pub to: u64,
    /// The subject filter; empty for all.
    pub filter: &'a [u8],
}

impl<'a> PurgeBody<'a> {
    /// Appends the body to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.from.to_le_bytes());
        out.extend_from_slice(&self.to.to_le_bytes());
        out.extend_from_slice(self.filter);
    }

    /// Reads a body.
    pub fn decode(body: &'a [u8]) -> Option<Self> {
        let mut f = Fields(body);
        Some(PurgeBody { from: f.u64()?, to: f.u64()?, filter: f.0 })
    }
}

/// What a record says about limits that are to be enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforce {
    /// These subjects hold more than they may.
    Subjects(Vec<Box<[u8]>>),
    /// The stream holds more than it may: at most so many messages leave.
    Stream(u64),
    /// All is within the limits.
    Done,
}

/// Limits to be enforced.
pub struct EnforceBody;

impl EnforceBody {
    /// Appends the body to `out`.
    pub fn encode(what: &Enforce, out: &mut Vec<u8>) {
        match what {
            Enforce::Subjects(subjects) => {
                out.push(0);
                subjects.iter().for_each(|subject| put_counted(out, subject));
            }
            Enforce::Stream(messages) => {
                out.push(1);
                out.extend_from_slice(&messages.to_le_bytes());
            }
            Enforce::Done => out.push(2),
        }
    }

    /// Reads a body.
    pub fn decode(body: &[u8]) -> Option<Enforce> {
        let mut f = Fields(body);
        let what = match f.u8()? {
            0 => {
                let mut subjects = Vec::new();
                while !f.0.is_empty() {
                    subjects.push(f.counted()?.into());
                }
                Enforce::Subjects(subjects)
            }
            1 => Enforce::Stream(f.u64()?),
            2 => Enforce::Done,
            _ => return None,
        };
        f.0.is_empty().then_some(what)
    }
}

/// The configuration of a stream or a consumer, with the time it was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigBody<'a> {
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// What a consumer's start was resolved to, in the consumer's own encoding; empty for streams.
    pub start: &'a [u8],
    /// The configuration as JSON.
    pub json: &'a [u8],
}

impl<'a> ConfigBody<'a> {
    /// Appends the body to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.created.to_le_bytes());
        put_counted(out, self.start);
        out.extend_from_slice(self.json);
    }

    /// Reads a body.
    pub fn decode(body: &'a [u8]) -> Option<Self> {
        let mut f = Fields(body);
        if f.u8()? != VERSION {
            return None;
        }
        Some(ConfigBody { created: f.i64()?, start: f.counted()?, json: f.0 })
    }
}

/// Reads a configuration as it was written.
pub fn parse_config<T: Object + Default>(text: &[u8], root: &'static str) -> Result<T, String> {
    let mut config = T::default();
    json::decode_body(text, root, false, &mut config)?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_these_bytes() {
        let mut out = Vec::new();
        PurgeBody { from: 1, to: 0x0203, filter: b"a.*" }.encode(&mut out);
        assert_eq!(out, b"\x01\0\0\0\0\0\0\0\x03\x02\0\0\0\0\0\0a.*");
        let back = PurgeBody::decode(&out).unwrap();
        assert_eq!((back.from, back.to, back.filter), (1, 0x0203, &b"a.*"[..]));
        assert!(PurgeBody::decode(&out[..15]).is_none());

        let names = [b"a"[..].into(), b"bc"[..].into()].to_vec();
        for (what, bytes) in [
            (Enforce::Subjects(names), &b"\0\x01\0\0\0a\x02\0\0\0bc"[..]),
            (Enforce::Stream(0x0102), b"\x01\x02\x01\0\0\0\0\0\0"),
            (Enforce::Done, b"\x02"),
        ] {
            let mut out = Vec::new();
            EnforceBody::encode(&what, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(EnforceBody::decode(bytes), Some(what));
            assert_eq!(EnforceBody::decode(&[bytes, b"x"].concat()), None);
        }

        let mut out = Vec::new();
        ConfigBody { created: 5, start: b"xy", json: b"{}" }.encode(&mut out);
        assert_eq!(out, b"\x01\x05\0\0\0\0\0\0\0\x02\0\0\0xy{}");
        let back = ConfigBody::decode(&out).unwrap();
        assert_eq!((back.created, back.start, back.json), (5, &b"xy"[..], &b"{}"[..]));
        out[0] = 2;
        assert!(ConfigBody::decode(&out).is_none());
    }
}
