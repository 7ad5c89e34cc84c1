//! The headers of a publish that a stream obeys, parsed in one pass.
//!
//! A header counts when its name is spelled exactly and its value is not empty; the first of
//! several wins; spaces before a value are skipped, those behind it belong to it.

use crate::api::error::{ApiError, kinds};

/// What a publish's header block says to a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishHeaders<'a> {
    /// `Nats-Msg-Id`
    pub msg_id: &'a [u8],
    /// `Nats-Expected-Stream`
    pub expected_stream: &'a [u8],
    /// `Nats-Expected-Last-Sequence`
    pub expected_last_seq: Option<Expected>,
    /// `Nats-Expected-Last-Subject-Sequence`
    pub expected_last_subject_seq: Option<Expected>,
    /// `Nats-Expected-Last-Subject-Sequence-Subject`
    pub expected_subject: &'a [u8],
    /// `Nats-Expected-Last-Msg-Id`
    pub expected_last_msg_id: &'a [u8],
    /// `Nats-Rollup`
    pub rollup: &'a [u8],
    /// `Nats-TTL`
    pub ttl: &'a [u8],
    /// `Nats-Incr`
    pub incr: &'a [u8],
    /// `Nats-Schedule` or `Nats-Schedule-Time-Zone`
    pub schedule: bool,
    /// `Nats-Scheduler`
    pub scheduler: &'a [u8],
    /// `Nats-Schedule-Next`
    pub schedule_next: &'a [u8],
    /// `Nats-Stream-Source`
    pub stream_source: bool,
    /// `Nats-Batch-Id`
    pub batch: bool,
}

/// A sequence that a publisher expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This one.
    Seq(u64),
    /// Not a number: never met.
    Never,
}

impl Expected {
    /// True if `actual` is what is expected.
    pub fn is(self, actual: u64) -> bool {
        self == Expected::Seq(actual)
    }

    fn parse(value: &[u8]) -> Self {
        let number = std::str::from_utf8(value).ok().filter(|v| v.as_bytes()[0].is_ascii_digit());
        number.and_then(|v| v.parse().ok()).map_or(Expected::Never, Expected::Seq)
    }
}

/// The header block without what is the server's own: a status behind `NATS/1.0`, by which clients
/// know what the server says itself, and `Nats-Request-Info`. `None` if neither is in it. Nothing
/// is left of a block that holds nothing else.
pub fn without_server_fields(block: &[u8]) -> Option<Vec<u8>> {
    match without_status(block) {
        Some(block) => Some(without_request_info(&block).unwrap_or(block)),
        None => without_request_info(block),
    }
}

fn without_status(block: &[u8]) -> Option<Vec<u8>> {
    const LINE: &[u8] = b"NATS/1.0";
    let behind = block.strip_prefix(LINE).filter(|behind| behind.first() != Some(&b'\r'))?;
    let end = behind.iter().position(|&b| b == b'\r')?;
    let mut out = [LINE, &behind[end..]].concat();
    if out.len() == LINE.len() + 4 {
        out.clear();
    }
    Some(out)
}

fn without_request_info(block: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"Nats-Request-Info";
    header(block, NAME)?;
    let mut out = Vec::with_capacity(block.len());
    let (mut rest, mut kept) = (block, 0);
    while let Some(end) = find_crlf(rest) {
        let line = &rest[..end + 2];
        rest = &rest[end + 2..];
        if !line.strip_prefix(NAME).is_some_and(|tail| tail.starts_with(b":")) {
            out.extend_from_slice(line);
            kept += usize::from(line.len() > 2);
        }
    }
    out.extend_from_slice(rest);
    if kept <= 1 {
        out.clear();
    }
    Some(out)
}

/// The value of the first header of this exact name, if it has one.
pub fn header<'a>(block: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = block;
    while let Some(end) = find_crlf(rest) {
        let line = &rest[..end];
        rest = &rest[end + 2..];
        if let Some(value) = line.strip_prefix(name).and_then(|v| v.strip_prefix(b":")) {
            return Some(value.trim_ascii_start()).filter(|value| !value.is_empty());
        }
    }
    None
}

impl<'a> PublishHeaders<'a> {
    /// Parses a header block, `NATS/1.0\r\n` included. Anything malformed is not a header.
    pub fn parse(block: &'a [u8]) -> Self {
        let mut headers = PublishHeaders::default();
        let mut rest = block;
        while let Some(end) = find_crlf(rest) {
            let line = &rest[..end];
            rest = &rest[end + 2..];
            if let Some(tail) = line.strip_prefix(b"Nats-")
                && let Some(colon) = tail.iter().position(|&b| b == b':')
            {
                let value = &tail[colon + 1..];
                let spaces = value.iter().take_while(|&&b| b == b' ').count();
                if spaces < value.len() {
                    headers.set(&tail[..colon], &value[spaces..]);
                }
            }
        }
        headers
    }

    fn set(&mut self, name: &[u8], value: &'a [u8]) {
        match name {
            b"Msg-Id" => first(&mut self.msg_id, value),
            b"Expected-Stream" => first(&mut self.expected_stream, value),
            b"Expected-Last-Sequence" => {
                self.expected_last_seq.get_or_insert_with(|| Expected::parse(value));
            }
            b"Expected-Last-Subject-Sequence" => {
                self.expected_last_subject_seq.get_or_insert_with(|| Expected::parse(value));
            }
            b"Expected-Last-Subject-Sequence-Subject" => first(&mut self.expected_subject, value),
            b"Expected-Last-Msg-Id" => first(&mut self.expected_last_msg_id, value),
            b"Rollup" => first(&mut self.rollup, value),
            b"TTL" => first(&mut self.ttl, value),
            b"Incr" => first(&mut self.incr, value),
            b"Schedule" | b"Schedule-Time-Zone" => self.schedule = true,
            b"Scheduler" => first(&mut self.scheduler, value),
            b"Schedule-Next" => first(&mut self.schedule_next, value),
            b"Stream-Source" => self.stream_source = true,
            b"Batch-Id" => self.batch = true,
            _ => {}
        }
    }

    /// The error of a `Nats-Incr` on a stream without counters.
    pub(super) fn check_counter(&self) -> Result<(), ApiError> {
        if self.incr.is_empty() {
            return Ok(());
        }
        let digits = self.incr.strip_prefix(b"-").or_else(|| self.incr.strip_prefix(b"+"));
        let digits = digits.unwrap_or(self.incr);
        let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        Err(if valid {
            kinds::MESSAGE_COUNTERS_DISABLED.error()
        } else {
            kinds::MESSAGE_COUNTER_INCREMENT_INVALID.error()
        })
    }

    /// The error of a `Nats-TTL` on a stream without message TTLs.
    pub(super) fn check_ttl(&self) -> Result<(), ApiError> {
        match parse_ttl(self.ttl) {
            None | Some(0) => Ok(()),
            Some(_) => Err(kinds::PER_MESSAGE_TTL_DISABLED.error()),
        }
    }

    /// The error of a `Nats-TTL` that says nothing, which is looked at last.
    pub(super) fn check_ttl_text(&self) -> Result<(), ApiError> {
        match parse_ttl(self.ttl) {
            None if !self.ttl.is_empty() => Err(kinds::INVALID_PER_MESSAGE_TTL.error()),
            _ => Ok(()),
        }
    }

    /// The error of schedule headers on a stream without schedules.
    pub(super) fn check_schedule(&self, subject: &[u8]) -> Result<(), ApiError> {
        if self.schedule {
            return Err(kinds::MESSAGE_SCHEDULES_DISABLED.error());
        }
        if self.scheduler.is_empty() && self.schedule_next.is_empty() {
            return Ok(());
        }
        let valid = self.schedule_next == b"purge"
            && crate::subject::is_valid_literal(self.scheduler)
            && self.scheduler != subject;
        Err(if valid {
            kinds::MESSAGE_SCHEDULES_DISABLED.error()
        } else {
            kinds::MESSAGE_SCHEDULES_INVALID_SCHEDULER.error()
        })
    }
}

fn first<'a>(slot: &mut &'a [u8], value: &'a [u8]) {
    if slot.is_empty() {
        *slot = value;
    }
}

fn find_crlf(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&b| b == b'\r') {
        if bytes.get(from + at + 1) == Some(&b'\n') {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Seconds of a TTL, -1 for `never`: a Go duration of at least a second, or a whole number, of
/// which 0 means none.
fn parse_ttl(value: &[u8]) -> Option<i64> {
    if value.eq_ignore_ascii_case(b"never") {
        return Some(-1);
    }
    if let Some(ns) = go_duration(value) {
        return (ns >= 1e9).then_some((ns / 1e9) as i64);
    }
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Nanoseconds of a Go duration such as `1m30s`; `0` needs no unit.
fn go_duration(value: &[u8]) -> Option<f64> {
    const UNITS: [(&[u8], f64); 8] = [
        (b"ns", 1.0),
        (b"us", 1e3),
        ("\u{b5}s".as_bytes(), 1e3),
        ("\u{3bc}s".as_bytes(), 1e3),
        (b"ms", 1e6),
        (b"s", 1e9),
        (b"m", 60e9),
        (b"h", 3600e9),
    ];
    let (sign, mut rest) = match value.split_first()? {
        (b'-', rest) => (-1.0, rest),
        (b'+', rest) => (1.0, rest),
        _ => (1.0, value),
    };
    if rest == b"0" {
        return Some(0.0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
        let number: f64 = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        rest = &rest[digits..];
        let (unit, ns) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        total += number * ns;
        rest = &rest[unit.len()..];
    }
    (total < i64::MAX as f64).then_some(sign * total)
}

/// True for a reply subject of the fast batch protocol.
pub fn is_fast_batch(reply: &[u8]) -> bool {
    reply.ends_with(b".$FI")
}
