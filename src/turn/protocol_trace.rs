//! The protocol lines of connections in the log, as nats-server traces them.
//!
//! Where nothing is traced, this costs a branch for a read and one for a send: what comes in is
//! parsed by way of [`Traced`] only where it is traced, and what goes out is read again from the
//! outbound before it is sent.

use super::jetstream::JetStream;
use super::lines::control_line;
use super::net::Net;
use super::session::Session;
use crate::interest::SubId;
use crate::logline::Level;
use crate::protocol::{Flow, Handler, ParseLimits, Publish, format};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a message that are shown at most, also where the configuration sets no limit.
const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// Outbounds that are read after an operation at most; more are read when they are sent.
const OUTBOUNDS_MAX: usize = 16;
/// Members of CONNECT that are secrets.
const SECRETS: [&[u8]; 4] = [b"pass", b"auth_token", b"sig", b"nkey"];
/// What stands for one.
const REDACTED: &[u8] = b"[REDACTED]";

/// How messages are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceSettings {
    /// Bytes of a message at most, 0 for as many as are ever shown.
    pub payload_bytes_max: usize,
    /// Only header blocks.
    pub headers_only: bool,
}

impl TraceSettings {
    fn payload_bytes(&self) -> usize {
        match self.payload_bytes_max {
            0 => PAYLOAD_BYTES_MAX,
            max => max.min(PAYLOAD_BYTES_MAX),
        }
    }

    /// What is shown of a message; nothing where it is empty.
    fn message(&self, headers: &[u8], payload: &[u8]) -> Option<String> {
        let all = match self.headers_only {
            true => headers.strip_suffix(b"\r\n\r\n").unwrap_or(headers).to_vec(),
            false => {
                let max = self.payload_bytes().saturating_add(1);
                headers.iter().chain(payload).take(max).copied().collect()
            }
        };
        if all.is_empty() {
            return None;
        }
        let max = self.payload_bytes();
        let quoted = match all.len() > max {
            true => format::quoted(&[&all[..max], b"..."].concat()),
            false => format::quoted(&all),
        };
        Some(format!("MSG_PAYLOAD: [{}]", String::from_utf8_lossy(&quoted)))
    }
}

/// What is traced already.
#[derive(Debug, Default)]
pub(super) struct Tracer {
    settings: TraceSettings,
    /// Connections whose publish was shown before its message came.
    announced: BTreeSet<u32>,
    /// How much of what an outbound is being filled with was shown, by connection.
    shown: BTreeMap<u32, u64>,
}

impl Tracer {
    pub(super) fn new(settings: TraceSettings) -> Tracer {
        Tracer { settings, ..Tracer::default() }
    }
}

/// Handles what a session handles, and shows it.
pub(super) struct Traced<'a, 'b, J>(pub &'b mut Session<'a, J>);

impl<J: JetStream> Traced<'_, '_, J> {
    fn show(&mut self, text: &str) {
        self.0.net.show_protocol(self.0.slot, text);
    }

    /// What the operation wrote to connections.
    fn after(&mut self, flow: Flow) -> Flow {
        self.0.net.trace_touched();
        flow
    }
}

impl<J: JetStream> Handler for Traced<'_, '_, J> {
    const TRACES: bool = true;

    fn limits(&self) -> ParseLimits {
        self.0.limits()
    }

    fn line(&mut self, verb: &'static str, arguments: &[u8]) {
        let (slot, publish) = (self.0.slot, verb.ends_with("PUB"));
        let Some(tracer) = &mut self.0.net.tracer else { return };
        if publish && !tracer.announced.insert(slot) {
            return;
        }
        let shown = match verb {
            "CONNECT" => redact(arguments),
            _ => arguments.to_vec(),
        };
        self.show(&format!("<<- [{verb} {}]", String::from_utf8_lossy(&shown)));
    }

    fn publish(&mut self, publish: &Publish<'_>) -> Flow {
        let slot = self.0.slot;
        if let Some(tracer) = &mut self.0.net.tracer {
            tracer.announced.remove(&slot);
            if let Some(text) = tracer.settings.message(publish.headers, publish.payload) {
                self.show(&format!("<<- {text}"));
            }
        }
        let flow = self.0.publish(publish);
        self.after(flow)
    }

    fn announced(&mut self, operation: &[u8]) {
        self.0.announced(operation);
        self.0.net.trace_touched();
    }

    fn refused(&mut self, operation: &[u8]) {
        self.0.refused(operation);
    }

    fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) -> Flow {
        let flow = self.0.subscribe(subject, queue, sid);
        self.after(flow)
    }

    fn unsubscribe(&mut self, sid: &[u8], max: Option<u64>) -> Flow {
        let flow = self.0.unsubscribe(sid, max);
        self.after(flow)
    }

    fn connect(&mut self, json: &[u8]) -> Flow {
        let flow = self.0.connect(json);
        self.after(flow)
    }

    fn info(&mut self, json: &[u8]) -> Flow {
        self.0.info(json)
    }

    fn ping(&mut self) -> Flow {
        self.show("<<- [PING]");
        let flow = self.0.ping();
        self.after(flow)
    }

    fn pong(&mut self) -> Flow {
        self.show("<<- [PONG]");
        self.0.pong()
    }

    fn take_buffer(&mut self, size: usize) -> Vec<u8> {
        self.0.take_buffer(size)
    }

    fn give_buffer(&mut self, buffer: Vec<u8>) {
        self.0.give_buffer(buffer);
    }
}

impl Net {
    fn show_protocol(&mut self, slot: u32, text: &str) {
        if self.lines.has_room() {
            let label = self.clients.conn(slot).label();
            self.lines.push(Level::Trace, format!("{label} - {text}"));
        }
    }

    /// Shows what was written to few connections; what many get is shown when it is sent.
    fn trace_touched(&mut self) {
        if self.clients.touched().len() > OUTBOUNDS_MAX {
            return;
        }
        let touched = self.clients.touched().to_vec();
        for conn in touched {
            if let Some(slot) = self.clients.slot(conn) {
                self.trace_outbound(slot);
            }
        }
    }

    /// Shows what an outbound was filled with since it was shown last.
    pub(super) fn trace_outbound(&mut self, slot: u32) {
        let Net { clients, tracer: Some(tracer), lines, .. } = self else { return };
        let conn = clients.conn(slot);
        let from = tracer.shown.insert(slot, conn.out.filled()).unwrap_or(0);
        for mut rest in conn.out.filled_from(from) {
            while !rest.is_empty() {
                let (frame, behind) = Frame::first(rest);
                rest = behind;
                for text in frame.texts(&tracer.settings) {
                    if lines.has_room() {
                        lines.push(Level::Trace, format!("{} - ->> {text}", conn.label()));
                    }
                }
            }
        }
    }

    /// A subscription is being removed.
    pub(super) fn trace_unsubscribe(&mut self, sub: SubId) {
        let slot = self.clients.sub(sub).conn;
        let sid = String::from_utf8_lossy(self.clients.sub(sub).sid()).into_owned();
        self.show_protocol(slot, &format!("<-> [DELSUB {sid}]"));
    }

    /// A connection is gone.
    pub(super) fn trace_closed(&mut self, slot: u32) {
        if let Some(tracer) = &mut self.tracer {
            tracer.announced.remove(&slot);
            tracer.shown.remove(&slot);
        }
    }
}

/// One line to a client, with its message.
struct Frame<'a> {
    line: &'a [u8],
    message: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame of bytes that are not empty, and what follows it.
    fn first(bytes: &'a [u8]) -> (Frame<'a>, &'a [u8]) {
        let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
        let (line, rest) = bytes.split_at(end);
        let line = line.trim_ascii_end();
        let size = match line.starts_with(b"MSG ") || line.starts_with(b"HMSG ") {
            true => number(line.rsplit(|&b| b == b' ').next()),
            false => 0,
        };
        let (message, rest) = rest.split_at(size.min(rest.len()));
        let rest = if size > 0 || line.starts_with(b"MSG ") {
            rest.strip_prefix(b"\r\n").unwrap_or(rest)
        } else {
            rest
        };
        (Frame { line, message }, rest)
    }

    fn texts(&self, settings: &TraceSettings) -> Vec<String> {
        let (verb, arguments) = control_line(self.line);
        let headers = match verb {
            b"HMSG" => number(self.line.rsplit(|&b| b == b' ').nth(1)).min(self.message.len()),
            _ => 0,
        };
        let (headers, payload) = self.message.split_at(headers);
        let shown = String::from_utf8_lossy(self.line);
        match verb {
            b"INFO" => Vec::new(),
            // nats-server does not show that nobody takes a request.
            b"HMSG" if payload.is_empty() && headers.starts_with(b"NATS/1.0 503") => Vec::new(),
            b"+OK" => vec!["[OK]".to_owned()],
            b"-ERR" => {
                let text = String::from_utf8_lossy(arguments);
                vec![format!("[-ERR {}]", text.trim_matches('\''))]
            }
            b"MSG" | b"HMSG" => {
                let message = settings.message(headers, payload);
                [Some(format!("[{shown}]")), message].into_iter().flatten().collect()
            }
            _ => vec![format!("[{shown}]")],
        }
    }
}

fn number(word: Option<&[u8]>) -> usize {
    word.and_then(|word| std::str::from_utf8(word).ok()?.parse().ok()).unwrap_or(0)
}

/// CONNECT's JSON without its secrets.
fn redact(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some((&byte, tail)) = rest.split_first() {
        let secret = (byte == b'"').then(|| secret_at(tail)).flatten();
        match secret {
            Some((before, value)) => {
                out.push(byte);
                out.extend_from_slice(&tail[..before]);
                out.extend_from_slice(REDACTED);
                rest = &tail[before + value..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

/// Where the value of a secret begins and how long it is, if its name stands here.
fn secret_at(text: &[u8]) -> Option<(usize, usize)> {
    let end = memchr::memchr(b'"', text)?;
    SECRETS.iter().find(|name| text[..end].eq_ignore_ascii_case(name))?;
    let blanks = |at: usize| text[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
    let colon = end + 1 + blanks(end + 1);
    if text.get(colon) != Some(&b':') {
        return None;
    }
    let quote = colon + 1 + blanks(colon + 1);
    if text.get(quote) != Some(&b'"') {
        return None;
    }
    let value = &text[quote + 1..];
    let mut length = 0;
    while let Some(&byte) = value.get(length).filter(|b| **b != b'"') {
        length += if byte == b'\\' { 2 } else { 1 };
    }
    Some((quote + 1, length.min(value.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (json, shown) in [
            (r#"{"pass":"x","user":"u"}"#, r#"{"pass":"[REDACTED]","user":"u"}"#),
            (r#"{ "auth_token" : "t" , "a":1}"#, r#"{ "auth_token" : "[REDACTED]" , "a":1}"#),
            (r#"{"PASS":"a\"b","sig":"s"}"#, r#"{"PASS":"[REDACTED]","sig":"[REDACTED]"}"#),
            (r#"{"nkey":"k","jwt":"j"}"#, r#"{"nkey":"[REDACTED]","jwt":"j"}"#),
            (r#"{"pass":"unfinished"#, r#"{"pass":"[REDACTED]"#),
            (r#"{"pass":"\"#, r#"{"pass":"[REDACTED]"#),
            (r#"{"pass":1,"passing":"by"}"#, r#"{"pass":1,"passing":"by"}"#),
        ] {
            let got = redact(json.as_bytes());
            assert_eq!(String::from_utf8_lossy(&got), shown);
        }
    }

    #[test]
    fn messages_are_cut_and_quoted() {
        let settings = TraceSettings { payload_bytes_max: 4, headers_only: false };
        let shown = |payload: &[u8]| settings.message(b"", payload);
        assert_eq!(shown(b""), None);
        assert_eq!(shown(b"a\"\r\n").unwrap(), r#"MSG_PAYLOAD: ["a\"\r\n"]"#);
        assert_eq!(shown(b"abcde").unwrap(), r#"MSG_PAYLOAD: ["abcd..."]"#);
        let headers = b"NATS/1.0\r\nK: v\r\n\r\n";
        let settings = TraceSettings { headers_only: true, ..TraceSettings::default() };
        let want = r#"MSG_PAYLOAD: ["NATS/1.0\r\nK: v"]"#;
        assert_eq!(settings.message(headers, b"x").unwrap(), want);
        assert_eq!(settings.message(b"", b"x"), None);
    }

    #[test]
    fn frames_to_clients() {
        let bytes = b"MSG a 1 0\r\n\r\n+OK\r\nHMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n\
            -ERR 'Invalid Subject'\r\nINFO {}\r\nPING\r\n";
        let (mut rest, mut texts) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let (frame, behind) = Frame::first(rest);
            texts.extend(frame.texts(&TraceSettings::default()));
            rest = behind;
        }
        let want = [
            "[MSG a 1 0]",
            "[OK]",
            "[HMSG a 1 12 14]",
            "MSG_PAYLOAD: [\"NATS/1.0\\r\\n\\r\\nhi\"]",
            "[-ERR Invalid Subject]",
            "[PING]",
        ];
        assert_eq!(texts, want);
    }
}
