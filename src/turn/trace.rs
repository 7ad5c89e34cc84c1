//! Headers of message tracing. Traces are not made yet, but a message that is only to be traced
//! must not become a real one.

use crate::subject;
use memchr::{memchr, memmem};

/// Asks for a trace of this message alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TraceOnly {
    /// The trace could be sent where it is asked for.
    pub valid: bool,
}

/// Reads a header block as nats-server does: names count when they are spelled exactly, the first
/// of several wins, and blanks around a value do not belong to it.
pub(super) fn trace_only(block: &[u8]) -> Option<TraceOnly> {
    let mut rest = block.strip_prefix(b"NATS/1.0\r\n")?;
    let (mut destination, mut only) = (None, None);
    while let Some(colon) = memchr(b':', rest) {
        let (name, after) = (&rest[..colon], &rest[colon + 1..]);
        let Some(end) = crlf(after) else { break };
        rest = &after[end + 2..];
        if !name.starts_with(b"Nats-Trace-") {
            continue;
        }
        let value = trim(&after[..end]);
        match name {
            _ if value.is_empty() => {}
            b"Nats-Trace-Dest" if value == b"trace disabled" => return None,
            b"Nats-Trace-Dest" => _ = destination.get_or_insert(value),
            b"Nats-Trace-Only" => _ = only.get_or_insert(value),
            _ => {}
        }
    }
    let is_set =
        |v: &[u8]| v == b"1" || v.eq_ignore_ascii_case(b"true") || v.eq_ignore_ascii_case(b"on");
    let (destination, _) = (destination?, only.filter(|v| is_set(v))?);
    Some(TraceOnly { valid: subject::is_valid_literal(destination) })
}

/// Where the first CR LF is. Lines are short: looking for the CR is enough to find it soon.
fn crlf(bytes: &[u8]) -> Option<usize> {
    let first = memchr(b'\r', bytes)?;
    match bytes.get(first + 1) {
        Some(b'\n') => Some(first),
        _ => memmem::find(&bytes[first..], b"\r\n").map(|at| first + at),
    }
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_nats_server_reads_them() {
        let (traced, invalid) = (Some(TraceOnly { valid: true }), Some(TraceOnly { valid: false }));
        for (block, want) in [
            ("", None),
            ("NATS/1.0||", None),
            ("NATS/1.0|Nats-Trace-Dest: d|Nats-Trace-Only: true||", traced),
            ("NATS/1.0|A: b|Nats-Trace-Only:  TRUE |B:|Nats-Trace-Dest:\td ||", traced),
            ("NATS/1.0|Nats-Trace-Dest: d|Nats-Trace-Only: 1||", traced),
            ("NATS/1.0|Nats-Trace-Dest: d|Nats-Trace-Only: On||", traced),
            ("NATS/1.0|Nats-Trace-Dest: a..b|Nats-Trace-Only: true||", invalid),
            ("NATS/1.0|Nats-Trace-Dest: d||", None),
            ("NATS/1.0|Nats-Trace-Only: true||", None),
            ("NATS/1.0|Nats-Trace-Dest:|Nats-Trace-Only: true||", None),
            ("NATS/1.0|Nats-Trace-Dest: d|Nats-Trace-Only: yes||", None),
            ("NATS/1.0|Nats-Trace-Dest: d|Nats-Trace-Only: no|Nats-Trace-Only: true||", None),
            ("NATS/1.0|nats-trace-dest: d|Nats-Trace-Only: true||", None),
            ("NATS/1.0|Nats-Trace-Dest: d|nats-trace-only: true||", None),
            ("NATS/1.0|Nats-Trace-Dest: trace disabled|Nats-Trace-Only: true||", None),
            ("NATS/1.0|junk|Nats-Trace-Dest: d|Nats-Trace-Only: true||", None),
            ("NATS/1.0 503|Nats-Trace-Dest: d|Nats-Trace-Only: true||", None),
            ("NATS/1.0|Nats-Trace-Dest: d|Nats-Trace-Only: true", None),
        ] {
            assert_eq!(trace_only(block.replace('|', "\r\n").as_bytes()), want, "{block}");
        }
    }
}
