//! What the server sends: lines and messages, formatted by hand.

use std::io::Write;

/// Room for the decimal digits of any `u64`.
pub const DIGITS_MAX: usize = 20;

/// Appends `value` in decimal.
#[inline]
pub fn push_number(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0u8; DIGITS_MAX];
    let start = number(&mut digits, value);
    out.extend_from_slice(&digits[start..]);
}

/// Writes `value` in decimal at the end of `digits`; returns where it starts.
#[inline]
pub fn number(digits: &mut [u8; DIGITS_MAX], mut value: u64) -> usize {
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return at;
        }
    }
}

/// Appends a MSG, or an HMSG if there is a header block.
#[inline]
pub fn push_message(
    out: &mut Vec<u8>,
    subject: &[u8],
    sid: &[u8],
    reply: &[u8],
    headers: &[u8],
    payload: &[u8],
) {
    let total = headers.len() + payload.len();
    out.reserve(subject.len() + sid.len() + reply.len() + total + 2 * DIGITS_MAX + 12);
    let mut sizes = [0u8; 2 * DIGITS_MAX + 4];
    let mut at = sizes.len() - 2;
    sizes[at..].copy_from_slice(b"\r\n");
    at = number_before(&mut sizes, at, total as u64);
    if headers.is_empty() {
        out.extend_from_slice(b"MSG ");
    } else {
        at -= 1;
        sizes[at] = b' ';
        at = number_before(&mut sizes, at, headers.len() as u64);
        out.extend_from_slice(b"HMSG ");
    }
    out.extend_from_slice(subject);
    out.push(b' ');
    out.extend_from_slice(sid);
    out.push(b' ');
    if !reply.is_empty() {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
    out.extend_from_slice(&sizes[at..]);
    if !headers.is_empty() {
        out.extend_from_slice(headers);
    }
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

#[inline]
fn number_before(out: &mut [u8], end: usize, mut value: u64) -> usize {
    let mut at = end;
    loop {
        at -= 1;
        out[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return at;
        }
    }
}

/// Appends the answer to a request that nobody takes.
pub fn push_no_responders(out: &mut Vec<u8>, reply: &[u8], sid: &[u8], subject: &[u8]) {
    let mut headers = Vec::with_capacity(subject.len() + 32);
    headers.extend_from_slice(b"NATS/1.0 503\r\nNats-Subject: ");
    headers.extend_from_slice(subject);
    headers.extend_from_slice(b"\r\n\r\n");
    push_message(out, reply, sid, b"", &headers, b"");
}

/// Appends `-ERR '<text>'`.
pub fn push_error(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(b"-ERR '");
    out.extend_from_slice(text);
    out.extend_from_slice(b"'\r\n");
}

/// `text` in double quotes, escaped as Go's `%q` does.
pub fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_quoted_char(&mut out, c);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push(b'"');
    out
}

fn push_quoted_char(out: &mut Vec<u8>, c: char) {
    let short = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0c' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\x0b' => "\\v",
        _ => "",
    };
    let _ = match c {
        _ if !short.is_empty() => write!(out, "{short}"),
        c if c < ' ' || c == '\x7f' => write!(out, "\\x{:02x}", c as u32),
        c if c.is_control() => write!(out, "\\u{:04x}", c as u32),
        c => write!(out, "{c}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let mut out = Vec::new();
        push_message(&mut out, b"foo", b"1", b"", b"", b"hi");
        push_message(&mut out, b"foo", b"sid", b"r", b"", b"");
        push_message(&mut out, b"foo", b"1", b"", b"NATS/1.0\r\n\r\n", b"hi");
        push_no_responders(&mut out, b"_INBOX.a.1", b"1", b"nobody");
        push_error(&mut out, b"Stale Connection");
        let want = "MSG foo 1 2\r\nhi\r\nMSG foo sid r 0\r\n\r\n\
            HMSG foo 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n\
            HMSG _INBOX.a.1 1 38 38\r\nNATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n\
            -ERR 'Stale Connection'\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn numbers() {
        for value in [0, 9, 10, 99, 100, 1 << 20, u64::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, value);
            assert_eq!(out, value.to_string().into_bytes());
        }
    }

    #[test]
    fn quoting_is_go_s() {
        assert_eq!(quoted(b"$GR.\"x\x01\xff\xc3\xa9\\"), b"\"$GR.\\\"x\\x01\\xff\xc3\xa9\\\\\"");
    }
}
