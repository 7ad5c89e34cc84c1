//! What a message get asks for, and the answer of a direct get.

use super::request::MsgGetRequest;
use crate::api::error::{ApiError, kinds};
use crate::api::json::{self, write_u64};
use crate::api::time::{GoTime, write_time};

/// Which message a get asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The one with this sequence.
    Seq(u64),
    /// The last of a subject; wildcards are allowed.
    Last(String),
    /// The first from a sequence on that matches.
    Next {
        /// A filter.
        subject: String,
        /// At least 1.
        seq: u64,
    },
    /// The first stored at or after a time.
    Since {
        /// The time.
        time: GoTime,
        /// A filter, empty for everything.
        subject: String,
    },
}

/// Why a get asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// It names nothing.
    Empty,
    /// It contradicts itself.
    Bad,
    /// It is not JSON, or its members have wrong types.
    Malformed,
    /// It asks for several messages by this member, which is not built.
    NotSupported(&'static str),
}

impl LookupError {
    /// The status line of a direct get's answer, `NATS/1.0` and line end included.
    pub fn write_status(self, out: &mut Vec<u8>) {
        match self {
            LookupError::Empty => out.extend_from_slice(b"NATS/1.0 408 Empty Request\r\n\r\n"),
            LookupError::Bad => out.extend_from_slice(b"NATS/1.0 408 Bad Request\r\n\r\n"),
            LookupError::Malformed => {
                out.extend_from_slice(b"NATS/1.0 408 Malformed Request\r\n\r\n");
            }
            LookupError::NotSupported(member) => {
                out.extend_from_slice(b"NATS/1.0 400 ");
                out.extend_from_slice(member.as_bytes());
                out.extend_from_slice(b" is not supported yet\r\n\r\n");
            }
        }
    }
}

/// A direct get's answer when there is no such message.
pub const DIRECT_NOT_FOUND: &[u8] = b"NATS/1.0 404 Message Not Found\r\n\r\n";

/// The status of a direct get whose message is there and cannot be read.
pub const DIRECT_UNREADABLE: &[u8] = b"NATS/1.0 500 Message Not Readable\r\n\r\n";

impl MsgGetRequest {
    /// What STREAM.MSG.GET asks for.
    pub fn lookup(&self) -> Result<Lookup, ApiError> {
        if self.batch > 0 || self.max_bytes > 0 || !self.multi_last.is_empty() {
            return Err(kinds::BAD_REQUEST.error());
        }
        self.single().map_err(|_| kinds::BAD_REQUEST.error())
    }

    /// Decodes a direct get: the rest of its subject and its body, whose unknown members are
    /// ignored.
    pub fn decode_direct(subject: Option<&str>, body: &[u8]) -> Result<Self, LookupError> {
        let mut request = Self::default();
        if !body.is_empty() {
            let decoded = json::decode_value(body, "JSApiMsgGetRequest", &mut request);
            decoded.map_err(|_| LookupError::Malformed)?;
        }
        if let Some(subject) = subject {
            if !request.last_by_subj.is_empty() {
                return Err(LookupError::Bad);
            }
            subject.clone_into(&mut request.last_by_subj);
        }
        Ok(request)
    }

    /// What a direct get asks for.
    pub fn direct_lookup(&self) -> Result<Lookup, LookupError> {
        if !self.multi_last.is_empty() {
            return Err(LookupError::NotSupported("multi_last"));
        }
        let lookup = self.single();
        if self.batch > 0 {
            return Err(match lookup {
                Ok(Lookup::Last(_)) => LookupError::Bad,
                _ => LookupError::NotSupported("batch"),
            });
        }
        lookup
    }

    fn single(&self) -> Result<Lookup, LookupError> {
        let (last, next) = (!self.last_by_subj.is_empty(), !self.next_by_subj.is_empty());
        match (self.seq, last, next, self.start_time) {
            (0, false, false, None) => Err(LookupError::Empty),
            (1.., true, _, _) | (_, true, true, _) => Err(LookupError::Bad),
            (1.., _, _, Some(_)) | (_, true, _, Some(_)) => Err(LookupError::Bad),
            (_, _, _, Some(time)) => Ok(Lookup::Since { time, subject: self.next_by_subj.clone() }),
            (_, true, _, _) => Ok(Lookup::Last(self.last_by_subj.clone())),
            (seq, _, true, _) => {
                Ok(Lookup::Next { subject: self.next_by_subj.clone(), seq: seq.max(1) })
            }
            (seq, ..) => Ok(Lookup::Seq(seq)),
        }
    }
}

/// Appends the header block of a direct get's answer: the message's own headers, then where it was
/// stored.
pub fn write_direct_headers(
    out: &mut Vec<u8>,
    own: &[u8],
    stream: &str,
    subject: &[u8],
    seq: u64,
    time: GoTime,
) {
    match own.strip_suffix(b"\r\n") {
        Some(lines) => out.extend_from_slice(lines),
        None => out.extend_from_slice(b"NATS/1.0\r\n"),
    }
    out.extend_from_slice(b"Nats-Stream: ");
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(b"\r\nNats-Subject: ");
    out.extend_from_slice(subject);
    out.extend_from_slice(b"\r\nNats-Sequence: ");
    write_u64(out, seq);
    out.extend_from_slice(b"\r\nNats-Time-Stamp: ");
    write_time(out, time);
    out.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2020-01-01T00:00:00Z";

    fn get(body: &str) -> Result<Lookup, u16> {
        let request = MsgGetRequest::decode(body.as_bytes(), true).map_err(|e| e.err_code)?;
        request.lookup().map_err(|e| e.err_code)
    }

    fn direct(subject: Option<&str>, body: &str) -> Result<Lookup, LookupError> {
        MsgGetRequest::decode_direct(subject, body.as_bytes())?.direct_lookup()
    }

    /// As nats-server 2.15.1 answers.
    #[test]
    fn lookups() {
        let time = crate::api::time::parse_time(TIME).expect("a time");
        let next = |subject: &str, seq| Ok(Lookup::Next { subject: subject.to_owned(), seq });
        let since = |subject: &str| Ok(Lookup::Since { time, subject: subject.to_owned() });
        let start = format!(r#""start_time":"{TIME}""#);
        for (members, want) in [
            ("".to_owned(), Err(LookupError::Empty)),
            (r#""seq":0"#.to_owned(), Err(LookupError::Empty)),
            (r#""last_by_subj":"""#.to_owned(), Err(LookupError::Empty)),
            (r#""no_hdr":true"#.to_owned(), Err(LookupError::Empty)),
            (r#""seq":7"#.to_owned(), Ok(Lookup::Seq(7))),
            (r#""seq":1,"next_by_subj":"""#.to_owned(), Ok(Lookup::Seq(1))),
            (r#""up_to_seq":1,"seq":7"#.to_owned(), Ok(Lookup::Seq(7))),
            (r#""last_by_subj":"s.*""#.to_owned(), Ok(Lookup::Last("s.*".to_owned()))),
            (r#""next_by_subj":"s.0""#.to_owned(), next("s.0", 1)),
            (r#""next_by_subj":"s.0","seq":8"#.to_owned(), next("s.0", 8)),
            (start.clone(), since("")),
            (format!(r#"{start},"next_by_subj":"a""#), since("a")),
            (r#""seq":7,"last_by_subj":"a""#.to_owned(), Err(LookupError::Bad)),
            (r#""last_by_subj":"a","next_by_subj":"a""#.to_owned(), Err(LookupError::Bad)),
            (format!(r#"{start},"seq":1"#), Err(LookupError::Bad)),
            (format!(r#"{start},"last_by_subj":"a""#), Err(LookupError::Bad)),
            (format!(r#"{start},"next_by_subj":"a","seq":1"#), Err(LookupError::Bad)),
        ] {
            let body = format!("{{{members}}}");
            assert_eq!(direct(None, &body), want, "{body}");
            assert_eq!(get(&body), want.map_err(|_| 10_003), "{body}");
        }
    }

    #[test]
    fn several_messages() {
        for body in
            [r#"{"batch":1,"seq":1}"#, r#"{"max_bytes":1,"seq":1}"#, r#"{"multi_last":["a"]}"#]
        {
            assert_eq!(get(body), Err(10_003), "{body}");
        }
        for (subject, body, want) in [
            (None, r#"{"batch":1,"seq":1}"#, Err(LookupError::NotSupported("batch"))),
            (None, r#"{"multi_last":["a"]}"#, Err(LookupError::NotSupported("multi_last"))),
            (None, r#"{"batch":1,"last_by_subj":"a"}"#, Err(LookupError::Bad)),
            (None, r#"{"max_bytes":1,"seq":7}"#, Ok(Lookup::Seq(7))),
            (None, r#"{"zz":1,"seq":7}"#, Ok(Lookup::Seq(7))),
            (None, "x", Err(LookupError::Malformed)),
            (None, r#"{"seq":"x"}"#, Err(LookupError::Malformed)),
            (None, "", Err(LookupError::Empty)),
            (Some("a.>"), "", Ok(Lookup::Last("a.>".to_owned()))),
            (Some("a"), r#"{"seq":7}"#, Err(LookupError::Bad)),
            (Some("a"), r#"{"no_hdr":true}"#, Ok(Lookup::Last("a".to_owned()))),
            (Some("a"), "x", Err(LookupError::Malformed)),
            (None, "[]", Err(LookupError::Malformed)),
            (None, "null", Err(LookupError::Empty)),
            (None, "{} {}", Err(LookupError::Malformed)),
        ] {
            assert_eq!(direct(subject, body), want, "{body}");
        }
        let mut out = Vec::new();
        LookupError::NotSupported("batch").write_status(&mut out);
        assert_eq!(out, b"NATS/1.0 400 batch is not supported yet\r\n\r\n");
    }

    #[test]
    fn direct_headers() {
        let time = crate::api::time::parse_time("2026-11-23T03:06:25.558165041Z").expect("a time");
        for (own, first) in
            [("", "NATS/1.0\r\n"), ("NATS/1.0\r\nA: b\r\n\r\n", "NATS/1.0\r\nA: b\r\n")]
        {
            let mut out = Vec::new();
            write_direct_headers(&mut out, own.as_bytes(), "S", b"s.1", 103, time);
            let want = format!(
                "{first}Nats-Stream: S\r\nNats-Subject: s.1\r\nNats-Sequence: 103\r\n\
                 Nats-Time-Stamp: 2026-11-23T03:06:25.558165041Z\r\n\r\n"
            );
            assert_eq!(String::from_utf8(out).expect("ascii"), want);
        }
    }
}
