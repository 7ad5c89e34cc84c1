//! What connections write to the log: nats-server's lines.
//!
//! Nothing here happens for a message that is fine. Lines of a turn are bounded; what lies beyond
//! is left out and counted.

use super::net::Net;
use super::protocol_trace::TraceSettings;
use crate::api::time::go_duration;
use crate::client::{CloseReason, SECOND};
use crate::logline::{Level, LogLine};
use crate::protocol::{Violation, format, subject_of};
use crate::types::Timestamp;

/// Lines of one turn at most.
const LINES_MAX: usize = 4096;
/// Bytes of the lines of one turn at most.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Bytes of an operation that nobody understands, as they are shown.
const SNIPPET_BYTES: usize = 32;

/// Which lines connections write beside those that are always written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// `[DBG]`: connects, closes, timers.
    pub debug: bool,
    /// `[TRC]`: the protocol.
    pub trace: Option<TraceSettings>,
}

/// The lines of a turn.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Vec<LogLine>,
    bytes: usize,
    left_out: u64,
    /// When it was last said that there are too many connections.
    full_at: Option<Timestamp>,
}

impl Lines {
    /// True if another line fits into this turn; one that does not is counted.
    pub(super) fn has_room(&mut self) -> bool {
        let room = self.lines.len() < LINES_MAX && self.bytes < LINE_BYTES_MAX;
        self.left_out += u64::from(!room);
        room
    }

    pub(super) fn push(&mut self, level: Level, text: String) {
        self.bytes += text.len();
        self.lines.push(LogLine { level, text });
    }

    fn take(&mut self, into: &mut Vec<LogLine>) {
        into.append(&mut self.lines);
        self.bytes = 0;
        if self.left_out > 0 {
            let text = format!("{} lines of connections were left out", self.left_out);
            into.push(LogLine::warn(text));
            self.left_out = 0;
        }
    }
}

impl Net {
    /// Moves the turn's lines behind those that are there.
    pub fn take_lines(&mut self, into: &mut Vec<LogLine>) {
        if !self.lines.lines.is_empty() {
            self.lines.take(into);
        }
    }

    fn log_line(&mut self, slot: u32, level: Level, text: &str) {
        if self.lines.has_room() {
            let label = self.clients.conn(slot).label();
            self.lines.push(level, format!("{label} - {text}"));
        }
    }

    fn log_debug(&mut self, slot: u32, text: &str) {
        if self.settings.log.debug {
            self.log_line(slot, Level::Debug, text);
        }
    }

    pub(super) fn log_error(&mut self, slot: u32, text: &str) {
        self.log_line(slot, Level::Error, text);
    }

    pub(super) fn log_created(&mut self, slot: u32) {
        self.log_debug(slot, "Client connection created");
    }

    pub(super) fn log_closed(&mut self, slot: u32) {
        if self.settings.log.debug {
            let reason = self.clients.conn(slot).close_reason().text();
            self.log_line(slot, Level::Debug, &format!("Client connection closed: {reason}"));
        }
    }

    pub(super) fn log_ping_timer(&mut self, slot: u32) {
        self.log_debug(slot, "Client Ping Timer");
    }

    pub(super) fn log_stale(&mut self, slot: u32) {
        self.log_debug(slot, "Stale Client Connection - Closing");
    }

    /// There are as many connections as there may be. Said once a second, as it may last.
    pub(super) fn log_full(&mut self, now: Timestamp, slot: u32) {
        if self.lines.full_at.is_none_or(|at| now.since(at) >= SECOND) {
            self.lines.full_at = Some(now);
            self.log_error(slot, "maximum connections exceeded");
        }
    }

    pub(super) fn log_pending(&mut self, slot: u32) {
        let max = self.settings.limits.max_pending;
        let text = format!("Slow Consumer Detected: MaxPending of {max} Exceeded");
        self.log_line(slot, Level::Info, &text);
    }

    pub(super) fn log_write_deadline(&mut self, slot: u32) {
        let deadline = go_duration(self.settings.limits.write_deadline);
        let out = &self.clients.conn(slot).out;
        let (chunks, bytes) = (out.chunks(), out.pending());
        let text = format!(
            "Slow Consumer Detected: WriteDeadline of {deadline} exceeded with {chunks} chunks of \
             {bytes} total bytes."
        );
        self.log_line(slot, Level::Info, &text);
    }

    pub(super) fn log_too_many_tokens(&mut self, slot: u32, quoted: &[u8], sid: &[u8]) {
        let (subject, sid) = (String::from_utf8_lossy(quoted), String::from_utf8_lossy(sid));
        let text = format!("Subscription Violation Too Many Tokens - Subject {subject}, SID {sid}");
        self.log_error(slot, &text);
    }

    /// A connection is closed because of what its CONNECT asks for.
    pub(super) fn log_refused(&mut self, slot: u32, reason: CloseReason) {
        let text = match reason {
            CloseReason::AuthenticationFailure => "authentication error",
            CloseReason::ProtocolViolation => "invalid JSON in CONNECT or INFO",
            CloseReason::BadClientProtocolVersion => "invalid client protocol",
            CloseReason::NoRespondersRequiresHeaders => "no responders requires headers support",
            _ => return,
        };
        self.log_error(slot, text);
    }

    /// A connection is closed because of an operation, of which the beginning is known.
    pub(super) fn log_violation(&mut self, slot: u32, violation: Violation, operation: &[u8]) {
        let text = match violation {
            Violation::UnknownOperation => {
                let snippet = unknown_part(operation);
                let snippet = &snippet[..snippet.len().min(SNIPPET_BYTES)];
                format!("Client parser ERROR: proto='{}...'", quoted(snippet))
            }
            Violation::Arguments => arguments_text(operation),
            Violation::ControlLine => "maximum control line exceeded".to_owned(),
            Violation::Payload => {
                let (_, arguments) = control_line(operation);
                let size = words(arguments).last().unwrap_or_default();
                let (size, max) = (String::from_utf8_lossy(size), self.settings.limits.max_payload);
                format!("maximum payload exceeded: {size} vs {max}")
            }
            Violation::Headers => "message headers not supported".to_owned(),
            Violation::PeerError => {
                let (_, arguments) = control_line(operation);
                format!("Client Error {}", String::from_utf8_lossy(arguments))
            }
        };
        self.log_error(slot, &text);
    }
}

fn quoted(text: &[u8]) -> String {
    String::from_utf8_lossy(&format::quoted(text)).into_owned()
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&b| b == b' ' || b == b'\t').filter(|word| !word.is_empty())
}

/// The verb of an operation, and what follows on its line.
pub(super) fn control_line(operation: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', operation).unwrap_or(operation.len());
    let line = operation[..end].strip_suffix(b"\r").unwrap_or(&operation[..end]);
    let verb = line.iter().position(|&b| b == b' ' || b == b'\t').unwrap_or(line.len());
    let (verb, arguments) = line.split_at(verb);
    (verb, arguments.trim_ascii_start())
}

/// Where an operation stops to be one: behind its message, if it is a publish.
fn unknown_part(operation: &[u8]) -> &[u8] {
    let (verb, arguments) = control_line(operation);
    if subject_of(operation).is_empty()
        || !matches!(verb.to_ascii_lowercase().as_slice(), b"pub" | b"hpub")
    {
        return operation;
    }
    let size =
        words(arguments).last().and_then(|size| std::str::from_utf8(size).ok()?.parse().ok());
    let line = memchr::memchr(b'\n', operation).map_or(operation.len(), |end| end + 1);
    let end = size.map(|size: usize| line.saturating_add(size));
    end.and_then(|end| operation.get(end..)).filter(|rest| !rest.is_empty()).unwrap_or(operation)
}

/// What is wrong with the arguments of an operation, in nats-server's words.
fn arguments_text(operation: &[u8]) -> String {
    let (verb, arguments) = control_line(operation);
    let number = |word: &[u8]| std::str::from_utf8(word).ok().and_then(|w| w.parse::<u32>().ok());
    let all: Vec<&[u8]> = words(arguments).collect();
    let problem = match (verb.to_ascii_lowercase().as_slice(), all.as_slice()) {
        (b"pub", [_, _] | [_, _, _]) => "processPub Bad or Missing Size",
        (b"pub", _) => "processPub Parse Error",
        (b"hpub", [_, headers, total] | [_, _, headers, total]) => {
            match (number(headers), number(total)) {
                (None, _) => "processHeaderPub Bad or Missing Header Size",
                (_, None) => "processHeaderPub Bad or Missing Total Size",
                _ => "processHeaderPub Header Size larger then TotalSize",
            }
        }
        (b"hpub", _) => "processHeaderPub Parse Error",
        (b"sub", _) => "processSub Parse Error",
        _ => "processUnsub Parse Error",
    };
    format!("{problem}: {}", quoted(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_of_arguments_are_nats_servers() {
        for (operation, text) in [
            ("PUB foo bad\r\n", "processPub Bad or Missing Size: \"foo bad\""),
            ("PUB a\r\n", "processPub Parse Error: \"a\""),
            ("HPUB a b c d e\r\n", "processHeaderPub Parse Error: \"a b c d e\""),
            ("HPUB a 14 6\r\nx", "processHeaderPub Header Size larger then TotalSize: \"a 14 6\""),
            ("HPUB a b x 6\r\n", "processHeaderPub Bad or Missing Header Size: \"a b x 6\""),
            ("HPUB a b 6 x\r\n", "processHeaderPub Bad or Missing Total Size: \"a b 6 x\""),
            ("SUB foo\r\n", "processSub Parse Error: \"foo\""),
            ("unsub a b c\r\n", "processUnsub Parse Error: \"a b c\""),
        ] {
            assert_eq!(arguments_text(operation.as_bytes()), text);
        }
    }

    #[test]
    fn what_nobody_understands_begins_where_it_does() {
        for (operation, part) in [
            ("FOO bar\r\n", "FOO bar\r\n"),
            ("PUB foo 2\r\nhello\r\n", "llo\r\n"),
            ("HPUB foo 2 4\r\nhello\r\n", "o\r\n"),
            ("PUB foo 99\r\nhello\r\n", "PUB foo 99\r\nhello\r\n"),
        ] {
            assert_eq!(unknown_part(operation.as_bytes()), part.as_bytes());
        }
    }
}
