//! The record: one message, or one piece of metadata, that can be read and verified alone.
//!
//! Records start at multiples of 8 bytes. All numbers are little-endian. `length` counts the
//! record from its first byte, without the zero bytes (0 to 7) that pad it to a multiple of 8.
//!
//! ```text
//! both kinds
//!   0  8  checksum     chain of two xxh3-64: of the bytes 8..tail, and of tail..length, where
//!                      the tail is the payload or the body
//!   8  4  length
//!  12  1  kind         1 message, 2 meta
//!  13  1  flags        bit 0: relocated (state, no longer an entry); other bits are zero
//! message (header of 48 bytes)
//!  14  2  subject_len
//!  16  8  stream
//!  24  8  seq
//!  32  8  ts           nanoseconds since the epoch, signed
//!  40  4  headers_len
//!  44  4  reserved     zero
//!  48     subject, headers, payload (what is left of length)
//! meta (header of 32 bytes)
//!  14  2  meta kind    chosen by the shard
//!  16  8  stream
//!  24  8  id           chosen by the shard
//!  32     body (what is left of length)
//! ```
//!
//! chain(a, b) = rotate_left(fold((a ^ 0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93), 29) ^ b, where
//! fold takes the exclusive or of both halves of the 128-bit product.
//!
//! The tail is hashed where it comes from, before it is copied: hashing the copy measured 80 ns
//! more for 1 KiB, because loads that straddle stores still under way must wait for them.

use crate::bytes::{chain, get_u16, get_u32, get_u64, put_u16, put_u32, put_u64};
use crate::types::StreamId;
use std::fmt;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes before the subject of a message.
pub const MESSAGE_HEADER_BYTES: usize = 48;
/// Bytes before the body of a meta record.
pub const META_HEADER_BYTES: usize = 32;
/// Records start at multiples of this.
pub const RECORD_ALIGN: usize = 8;

const KIND_MESSAGE: u8 = 1;
const KIND_META: u8 = 2;
const FLAG_RELOCATED: u8 = 1;

/// A record to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordIn<'a> {
    /// A message of a stream. Refused when the disk is full.
    Message(MessageIn<'a>),
    /// Anything else. May use the reserve when the disk is full.
    Meta(MetaIn<'a>),
}

/// A message of a stream, to append or as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageIn<'a> {
    /// Its stream.
    pub stream: StreamId,
    /// Its sequence in the stream.
    pub seq: u64,
    /// When it was stored, in nanoseconds since the epoch.
    pub ts: i64,
    /// At most 65,535 bytes.
    pub subject: &'a [u8],
    /// The whole NATS header block with its version line and blank line, or empty.
    pub headers: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// Set on a copy made by relocation.
    pub relocated: bool,
}

/// A piece of metadata, to append or as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaIn<'a> {
    /// What it is; the shard chooses the numbers.
    pub kind: u16,
    /// The stream it belongs to, or 0.
    pub stream: u64,
    /// A number that means what the kind says: a consumer, a page, a sequence.
    pub id: u64,
    /// Its content.
    pub body: &'a [u8],
    /// Set on a copy made by relocation.
    pub relocated: bool,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Fewer bytes than the record says it has; the number is what it says (at least a header).
    Short {
        /// Bytes that the record claims.
        needed: usize,
    },
    /// A kind, flag or length that no writer makes.
    Malformed,
    /// The checksum is not that of the bytes.
    Checksum,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Short { needed } => write!(f, "record cut short: needs {needed} bytes"),
            RecordError::Malformed => f.write_str("malformed record"),
            RecordError::Checksum => f.write_str("record checksum mismatch"),
        }
    }
}

impl std::error::Error for RecordError {}

impl RecordIn<'_> {
    /// Bytes of the record without its padding. More than `u32::MAX` for what cannot be encoded.
    #[inline]
    pub fn length(&self) -> u64 {
        match self {
            RecordIn::Message(m) => {
                if m.subject.len() > u16::MAX as usize {
                    return u64::MAX;
                }
                (MESSAGE_HEADER_BYTES + m.subject.len()) as u64
                    + m.headers.len() as u64
                    + m.payload.len() as u64
            }
            RecordIn::Meta(m) => META_HEADER_BYTES as u64 + m.body.len() as u64,
        }
    }

    /// Whether it is a message, which a full disk refuses first.
    #[inline]
    pub fn is_message(&self) -> bool {
        matches!(self, RecordIn::Message(_))
    }

    /// Appends the record, padded, to `out`: for entries that are kept in memory alone. False if it
    /// cannot be encoded.
    pub fn append_to(&self, out: &mut Vec<u8>) -> bool {
        let Ok(length) = u32::try_from(self.length()) else { return false };
        let at = out.len();
        out.resize(at + padded(length as usize), 0);
        self.encode(length as usize, &mut out[at..]);
        true
    }

    /// Writes the record into `out`, which has exactly `padded(length())` bytes. Returns the
    /// checksum.
    #[inline]
    pub(crate) fn encode(&self, length: usize, out: &mut [u8]) -> u64 {
        debug_assert_eq!(length as u64, self.length());
        debug_assert_eq!(padded(length), out.len());
        put_u32(out, 8, length as u32);
        let (tail, to) = match self {
            RecordIn::Message(m) => {
                out[12] = KIND_MESSAGE;
                out[13] = m.relocated as u8 * FLAG_RELOCATED;
                put_u16(out, 14, m.subject.len() as u16);
                put_u64(out, 16, m.stream.0);
                put_u64(out, 24, m.seq);
                put_u64(out, 32, m.ts as u64);
                put_u32(out, 40, m.headers.len() as u32);
                put_u32(out, 44, 0);
                let (subject, rest) = out[MESSAGE_HEADER_BYTES..].split_at_mut(m.subject.len());
                subject.copy_from_slice(m.subject);
                let (headers, rest) = rest.split_at_mut(m.headers.len());
                headers.copy_from_slice(m.headers);
                (m.payload, rest)
            }
            RecordIn::Meta(m) => {
                out[12] = KIND_META;
                out[13] = m.relocated as u8 * FLAG_RELOCATED;
                put_u16(out, 14, m.kind);
                put_u64(out, 16, m.stream);
                put_u64(out, 24, m.id);
                (m.body, &mut out[META_HEADER_BYTES..])
            }
        };
        let hashed = xxh3_64(tail);
        let (to, padding) = to.split_at_mut(tail.len());
        to.copy_from_slice(tail);
        padding.fill(0);
        let checksum = chain(xxh3_64(&out[8..length - tail.len()]), hashed);
        put_u64(out, 0, checksum);
        checksum
    }
}

/// `length` with its padding.
#[inline]
pub const fn padded(length: usize) -> usize {
    (length + RECORD_ALIGN - 1) & !(RECORD_ALIGN - 1)
}

/// A record in place. `decode` checked every length in it; `verify` checks the content.
#[derive(Clone, Copy)]
pub struct RecordView<'a> {
    bytes: &'a [u8],
}

/// What a record is, as read.
pub type RecordContent<'a> = RecordIn<'a>;

impl<'a> RecordView<'a> {
    /// The record at the start of `bytes`, which may go on after it.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<RecordView<'a>, RecordError> {
        if bytes.len() < META_HEADER_BYTES {
            return Err(RecordError::Short { needed: META_HEADER_BYTES });
        }
        let length = get_u32(bytes, 8) as usize;
        let fixed = match bytes[12] {
            KIND_MESSAGE => MESSAGE_HEADER_BYTES,
            KIND_META => META_HEADER_BYTES,
            _ => return Err(RecordError::Malformed),
        };
        if length < fixed || bytes[13] & !FLAG_RELOCATED != 0 {
            return Err(RecordError::Malformed);
        }
        if bytes.len() < length {
            return Err(RecordError::Short { needed: length });
        }
        if bytes[12] == KIND_MESSAGE {
            let subject = get_u16(bytes, 14) as usize;
            let headers = get_u32(bytes, 40) as usize;
            if fixed + subject + headers > length || get_u32(bytes, 44) != 0 {
                return Err(RecordError::Malformed);
            }
        }
        Ok(RecordView { bytes: &bytes[..length] })
    }

    /// Checks the content against the checksum.
    pub fn verify(&self) -> Result<(), RecordError> {
        match self.computed_checksum() == self.checksum() {
            true => Ok(()),
            false => Err(RecordError::Checksum),
        }
    }

    /// The checksum of its content.
    pub(crate) fn computed_checksum(&self) -> u64 {
        let (head, tail) = self.bytes.split_at(self.tail_at());
        chain(xxh3_64(&head[8..]), xxh3_64(tail))
    }

    /// Where the payload or body starts.
    fn tail_at(&self) -> usize {
        if self.bytes[12] == KIND_META {
            META_HEADER_BYTES
        } else {
            MESSAGE_HEADER_BYTES
                + get_u16(self.bytes, 14) as usize
                + get_u32(self.bytes, 40) as usize
        }
    }

    /// The checksum it carries.
    #[inline]
    pub fn checksum(&self) -> u64 {
        get_u64(self.bytes, 0)
    }

    /// Bytes on disk, with padding.
    #[inline]
    pub fn padded_len(&self) -> u32 {
        padded(self.bytes.len()) as u32
    }

    /// The whole record as it lies on disk, without padding.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether it is a copy made by relocation.
    #[inline]
    pub fn relocated(&self) -> bool {
        self.bytes[13] & FLAG_RELOCATED != 0
    }

    /// The message, if it is one.
    // Always inlined, and not taken out of the enum: copying what was just written field by field
    // costs a dozen nanoseconds, as wide loads wait for the narrow stores before them.
    #[inline(always)]
    pub fn message(&self) -> Option<MessageIn<'a>> {
        let b = self.bytes;
        if b[12] == KIND_META {
            return None;
        }
        let (subject, rest) = b[MESSAGE_HEADER_BYTES..].split_at(get_u16(b, 14) as usize);
        let (headers, payload) = rest.split_at(get_u32(b, 40) as usize);
        Some(MessageIn {
            stream: StreamId(get_u64(b, 16)),
            seq: get_u64(b, 24),
            ts: get_u64(b, 32) as i64,
            subject,
            headers,
            payload,
            relocated: self.relocated(),
        })
    }

    /// The metadata, if it is that.
    #[inline]
    pub fn meta(&self) -> Option<MetaIn<'a>> {
        (self.bytes[12] == KIND_META).then(|| self.as_meta())
    }

    /// Its fields, where they are those of metadata.
    #[inline]
    fn as_meta(&self) -> MetaIn<'a> {
        let b = self.bytes;
        MetaIn {
            kind: get_u16(b, 14),
            stream: get_u64(b, 16),
            id: get_u64(b, 24),
            body: &b[META_HEADER_BYTES..],
            relocated: self.relocated(),
        }
    }

    /// What it is.
    #[inline]
    pub fn content(&self) -> RecordContent<'a> {
        match self.message() {
            Some(message) => RecordIn::Message(message),
            None => RecordIn::Meta(self.as_meta()),
        }
    }
}

impl fmt::Debug for RecordView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.content().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(record: &RecordIn) -> Vec<u8> {
        let length = record.length() as usize;
        let mut out = vec![0xaa; padded(length)];
        record.encode(length, &mut out);
        out
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn message() -> RecordIn<'static> {
        RecordIn::Message(MessageIn {
            stream: StreamId(7),
            seq: 0x0102_0304,
            ts: -2,
            subject: b"a.b",
            headers: b"NATS/1.0\r\n\r\n",
            payload: b"hello",
            relocated: false,
        })
    }

    #[test]
    fn golden_message() {
        let want = concat!(
            "CHECKSUM________",
            "44000000",
            "01",
            "00",
            "0300",
            "0700000000000000",
            "0403020100000000",
            "feffffffffffffff",
            "0c000000",
            "00000000",
            "612e62",
            "4e4154532f312e300d0a0d0a",
            "68656c6c6f",
            "00000000"
        );
        let bytes = encode(&message());
        assert_eq!(hex(&bytes[8..]), want[16..]);
        assert_eq!(hex(&bytes[..8]), MESSAGE_SUM);
    }

    #[test]
    fn golden_meta() {
        let bytes = encode(&RecordIn::Meta(MetaIn {
            kind: 0x0201,
            stream: 3,
            id: 4,
            body: b"xyz",
            relocated: true,
        }));
        let want = "23000000020101020300000000000000040000000000000078797a0000000000";
        assert_eq!(hex(&bytes[8..]), want);
        assert_eq!(hex(&bytes[..8]), META_SUM);
    }

    const MESSAGE_SUM: &str = "8879eb0015865431";
    const META_SUM: &str = "4d5a9b721f31ead7";

    #[test]
    fn what_is_written_is_read() {
        for record in [
            message(),
            RecordIn::Meta(MetaIn { kind: 1, stream: 0, id: 0, body: b"", relocated: false }),
        ] {
            let bytes = encode(&record);
            let view = RecordView::decode(&bytes).unwrap();
            view.verify().unwrap();
            assert_eq!(view.content(), record);
            assert_eq!(view.padded_len() as usize, bytes.len());
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_none_panics() {
        let bytes = encode(&message());
        let length = message().length() as usize;
        for bit in (0..length * 8).step_by(if cfg!(miri) { 17 } else { 1 }) {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let seen = RecordView::decode(&bad).and_then(|v| v.verify());
            assert!(seen.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn short_bytes_are_short() {
        let bytes = encode(&message());
        for cut in 0..message().length() as usize {
            let error = RecordView::decode(&bytes[..cut]).unwrap_err();
            assert!(matches!(error, RecordError::Short { needed } if needed > cut));
        }
    }

    #[test]
    fn a_subject_that_does_not_fit_has_no_length() {
        let subject = vec![b'a'; 70_000];
        let RecordIn::Message(m) = message() else { unreachable!() };
        let length = RecordIn::Message(MessageIn { subject: &subject, ..m }).length();
        assert!(length > u32::MAX as u64);
    }
}
