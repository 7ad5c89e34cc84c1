//! The client's half of the NATS protocol: a parser for what a server sends, and a few lines a
//! client sends. Pure: bytes in, values that borrow them out.
//!
//! The parser remembers the last `MSG` line without a reply. A subscriber of one subject with
//! messages of one size sees the same line again and again, and a comparison is several times
//! cheaper than taking the line apart.

use std::fmt;

/// The longest protocol line that is accepted from a server (`INFO` is the long one).
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Longer lines are not remembered.
const REMEMBERED_BYTES_MAX: usize = 96;

/// A delivered message.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Msg<'a> {
    /// The subject it was published to.
    pub subject: &'a [u8],
    /// The subscription it is for.
    pub sid: u32,
    /// The reply subject; empty when there is none.
    pub reply: &'a [u8],
    /// The header block with its version line; empty when there is none.
    pub header: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Msg<'a> {
    /// The status code and description of a status message (`NATS/1.0 503`), if it is one.
    pub fn status(&self) -> Option<(u16, &'a [u8])> {
        let rest = self.header.strip_prefix(b"NATS/1.0 ")?;
        let line = &rest[..memchr::memchr(b'\r', rest)?];
        let code = std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()?;
        Some((code, line[3..].trim_ascii()))
    }

    /// The value of a header, compared as written.
    pub fn header_value(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.header.split(|&b| b == b'\n').skip(1).find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(b":")?;
            Some(value.trim_ascii())
        })
    }
}

/// What a server sends.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Op<'a> {
    /// `MSG` or `HMSG`.
    Msg(Msg<'a>),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `INFO` with its JSON.
    Info(&'a [u8]),
    /// `-ERR` with its text, quotes included.
    Err(&'a [u8]),
}

/// The server sent something that is not the protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct WireError(pub String);

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server broke the protocol: {}", self.0)
    }
}

impl std::error::Error for WireError {}

#[derive(Clone, Copy)]
struct Remembered {
    line: [u8; REMEMBERED_BYTES_MAX],
    line_len: usize,
    subject_len: usize,
    sid: u32,
    payload_len: usize,
}

/// Takes a server's bytes apart. Holds no bytes itself: the caller keeps its buffer.
pub struct Parser {
    last: Remembered,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Parser {
    /// A parser that has seen nothing yet.
    pub fn new() -> Self {
        let last = Remembered {
            line: [0; REMEMBERED_BYTES_MAX],
            line_len: 0,
            subject_len: 0,
            sid: 0,
            payload_len: 0,
        };
        Self { last }
    }

    /// The first operation in `bytes` and how many bytes it takes, or `None` when it is not there
    /// whole.
    #[inline]
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Op<'a>, usize)>, WireError> {
        let last = &self.last;
        if last.line_len > 0 && bytes.starts_with(&last.line[..last.line_len]) {
            let end = last.line_len + last.payload_len + 2;
            if bytes.len() < end {
                return Ok(None);
            }
            let msg = Msg {
                subject: &bytes[4..4 + last.subject_len],
                sid: last.sid,
                reply: b"",
                header: b"",
                payload: &bytes[last.line_len..end - 2],
            };
            return Ok(Some((Op::Msg(msg), end)));
        }
        self.next_unknown(bytes)
    }

    fn next_unknown<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Op<'a>, usize)>, WireError> {
        let Some(newline) = memchr::memchr(b'\n', bytes) else {
            if bytes.len() > LINE_BYTES_MAX {
                return Err(WireError("a line without end".to_owned()));
            }
            return Ok(None);
        };
        let end = newline + 1;
        let line = bytes[..newline].strip_suffix(b"\r").unwrap_or(&bytes[..newline]);
        match line {
            [b'M', b'S', b'G', b' ', rest @ ..] => self.msg(bytes, rest, end, false),
            [b'H', b'M', b'S', b'G', b' ', rest @ ..] => self.msg(bytes, rest, end, true),
            b"PING" => Ok(Some((Op::Ping, end))),
            b"PONG" => Ok(Some((Op::Pong, end))),
            b"+OK" => Ok(Some((Op::Ok, end))),
            [b'I', b'N', b'F', b'O', b' ', rest @ ..] => Ok(Some((Op::Info(rest), end))),
            [b'-', b'E', b'R', b'R', b' ', rest @ ..] => Ok(Some((Op::Err(rest), end))),
            _ => Err(bad(line)),
        }
    }

    /// `subject sid [reply] [header bytes] bytes`
    fn msg<'a>(
        &mut self,
        bytes: &'a [u8],
        arguments: &'a [u8],
        line_end: usize,
        with_header: bool,
    ) -> Result<Option<(Op<'a>, usize)>, WireError> {
        let mut fields = [b"".as_slice(); 5];
        let mut count = 0;
        for field in arguments.split(|&b| b == b' ').filter(|field| !field.is_empty()) {
            *fields.get_mut(count).ok_or_else(|| bad(arguments))? = field;
            count += 1;
        }
        let sizes = 1 + usize::from(with_header);
        let reply: &[u8] = match count.checked_sub(sizes) {
            Some(2) => b"",
            Some(3) => fields[2],
            _ => return Err(bad(arguments)),
        };
        let number = |field: &[u8]| decimal(field).ok_or_else(|| bad(arguments));
        let total = number(fields[count - 1])?;
        let header_len = if with_header { number(fields[count - 2])? } else { 0 };
        let sid = u32::try_from(number(fields[1])?).map_err(|_| bad(arguments))?;
        if header_len > total {
            return Err(bad(arguments));
        }
        if !with_header && reply.is_empty() && line_end <= REMEMBERED_BYTES_MAX {
            self.last.line[..line_end].copy_from_slice(&bytes[..line_end]);
            self.last.line_len = line_end;
            self.last.subject_len = fields[0].len();
            self.last.sid = sid;
            self.last.payload_len = total;
        }
        let end = line_end + total + 2;
        if bytes.len() < end {
            return Ok(None);
        }
        let (header, payload) = bytes[line_end..end - 2].split_at(header_len);
        let msg = Msg { subject: fields[0], sid, reply, header, payload };
        Ok(Some((Op::Msg(msg), end)))
    }
}

fn bad(line: &[u8]) -> WireError {
    WireError(String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned())
}

/// A decimal number of at most 18 digits.
pub fn decimal(field: &[u8]) -> Option<usize> {
    if field.is_empty() || field.len() > 18 {
        return None;
    }
    field.iter().try_fold(0, |value: usize, &digit| {
        digit.is_ascii_digit().then(|| value * 10 + usize::from(digit - b'0'))
    })
}

/// Appends `PUB subject [reply] bytes` and the payload.
pub fn write_pub(out: &mut Vec<u8>, subject: &[u8], reply: &[u8], payload: &[u8]) {
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(subject);
    if !reply.is_empty() {
        out.push(b' ');
        out.extend_from_slice(reply);
    }
    write_size(out, payload.len());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

fn write_size(out: &mut Vec<u8>, size: usize) {
    out.push(b' ');
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = size;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Appends `SUB subject [queue] sid`.
pub fn write_sub(out: &mut Vec<u8>, subject: &str, queue: &str, sid: u32) {
    let gap = if queue.is_empty() { "" } else { " " };
    out.extend_from_slice(format!("SUB {subject}{gap}{queue} {sid}\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses all of `bytes`, given at most `step` more bytes at a time.
    fn all(bytes: &[u8], step: usize) -> Vec<String> {
        let mut parser = Parser::new();
        let (mut start, mut end, mut seen) = (0, 0, Vec::new());
        while end < bytes.len() {
            end = (end + step).min(bytes.len());
            while let Some((op, used)) = parser.next(&bytes[start..end]).expect("valid") {
                seen.push(format!("{op:?}"));
                start += used;
            }
        }
        assert_eq!(start, bytes.len(), "everything is taken");
        seen
    }

    const STREAM: &[u8] = b"INFO {\"a\":1}\r\nPING\r\nMSG a.b 1 5\r\nhello\r\n\
        MSG a.b 1 5\r\nworld\r\nMSG a.b 1 4\r\nfour\r\nMSG a 12 _INBOX.1 0\r\n\r\n\
        HMSG a 1 r 20 22\r\nNATS/1.0\r\nA: \r\nb\r\n\r\nhi\r\nMSG a.b 1 5\r\nagain\r\n\
        PONG\r\n+OK\r\n-ERR 'Slow Consumer'\r\n";

    #[test]
    fn the_same_operations_come_out_however_the_bytes_arrive() {
        let whole = all(STREAM, STREAM.len());
        assert_eq!(whole.len(), 11);
        for step in 1..40 {
            assert_eq!(all(STREAM, step), whole, "step {step}");
        }
    }

    #[test]
    fn fields_are_what_was_sent() {
        let mut parser = Parser::new();
        let bytes = b"HMSG foo 7 bar 16 18\r\nNATS/1.0 100 x\r\nhi\r\n";
        let (op, used) = parser.next(bytes).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        let Op::Msg(msg) = op else { panic!("a message") };
        assert_eq!((msg.subject, msg.sid, msg.reply), (&b"foo"[..], 7, &b"bar"[..]));
        assert_eq!((msg.header, msg.payload), (&b"NATS/1.0 100 x\r\n"[..], &b"hi"[..]));
        assert_eq!(msg.status(), Some((100, &b"x"[..])));
    }

    #[test]
    fn a_remembered_line_never_matches_another_one() {
        let mut parser = Parser::new();
        for (bytes, payload) in [
            (&b"MSG a 1 2\r\nxy\r\n"[..], &b"xy"[..]),
            (b"MSG a 1 22\r\n0123456789012345678901\r\n", b"0123456789012345678901"),
            (b"MSG a 1 r 2\r\nzz\r\n", b"zz"),
            (b"MSG a 1 22\r\n0123456789\r\n89012345678\r\n", b"0123456789\r\n8901234567"),
        ] {
            match parser.next(bytes) {
                Ok(Some((Op::Msg(msg), _))) => assert_eq!(msg.payload, payload),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn header_values_and_statuses() {
        let header = b"NATS/1.0 409 Consumer Deleted\r\nNats-Consumer-Stalled: $JS.FC.a\r\n\r\n";
        let msg = Msg { subject: b"", sid: 0, reply: b"", header, payload: b"" };
        assert_eq!(msg.status(), Some((409, &b"Consumer Deleted"[..])));
        assert_eq!(msg.header_value(b"Nats-Consumer-Stalled"), Some(&b"$JS.FC.a"[..]));
        assert_eq!(msg.header_value(b"Nats"), None);
        let plain = Msg { header: b"NATS/1.0\r\nA: b\r\n\r\n", ..msg };
        assert_eq!(plain.status(), None);
        assert_eq!(plain.header_value(b"A"), Some(&b"b"[..]));
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [
            &b"HELLO\r\n"[..],
            b"MSG a 1\r\n",
            b"MSG a x 1\r\n",
            b"MSG a 1 r s t 1\r\n",
            b"HMSG a 1 9 8\r\n",
            b"MSG a 1 -1\r\n",
            b"MSG a 99999999999 1\r\n",
        ] {
            assert!(Parser::new().next(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(Parser::new().next(&vec![b'x'; LINE_BYTES_MAX + 1]).is_err());
        assert_eq!(Parser::new().next(b"MSG a 1 2").unwrap(), None);
    }

    #[test]
    fn lines_are_written_as_nats_wants_them() {
        let mut out = Vec::new();
        write_pub(&mut out, b"a", b"", b"hi");
        write_pub(&mut out, b"a", b"r", b"");
        write_sub(&mut out, "s.>", "", 3);
        write_sub(&mut out, "s.*", "q", 12);
        let expected = "PUB a 2\r\nhi\r\nPUB a r 0\r\n\r\nSUB s.> 3\r\nSUB s.* q 12\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
