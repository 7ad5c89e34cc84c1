//! What a connection's operations do.

use super::entry::Message;
use super::jetstream::JetStream;
use super::net::{Net, STALL_MAX};
use super::protocol_trace::Traced;
use super::route::{ACCOUNT, Source};
use super::trace::trace_only;
use crate::client::{CloseReason, Hold, InfoKind, parse_connect};
use crate::protocol::{Flow, Handler, ParseLimits, Publish, Violation, format, subject_of};
use crate::subject;
use crate::types::Timestamp;

/// One read of one connection.
pub(super) struct Session<'a, J> {
    pub(super) net: &'a mut Net,
    js: &'a mut J,
    pub(super) slot: u32,
    now: Timestamp,
    stall: i64,
    /// The beginning of the operation that is a violation.
    offender: Vec<u8>,
}

/// What nats-server first reads of a connection's input at once, and what it does at most. It reads
/// twice as much whenever it got all that it asked for.
const READ_BYTES: [usize; 2] = [512, 64 << 10];

/// Whether nats-server would have left something of an input of `len` bytes unread when it closed
/// the connection for what is at `at`. An end with unread input is a reset for the client.
fn leaves_unread(len: usize, at: usize) -> bool {
    let [mut read, most] = READ_BYTES;
    let mut end = read;
    while end <= at && end < len {
        read = (2 * read).min(most);
        end += read;
    }
    end < len
}
/// Bytes of a violation that are looked at for the log.
const OFFENDER_BYTES: usize = 8 << 10;

fn reason(violation: Violation) -> CloseReason {
    match violation {
        Violation::UnknownOperation | Violation::Arguments | Violation::Headers => {
            CloseReason::ProtocolViolation
        }
        Violation::ControlLine => CloseReason::MaxControlLineExceeded,
        Violation::Payload => CloseReason::MaxPayloadExceeded,
        Violation::PeerError => CloseReason::ParseError,
    }
}

impl Net {
    /// Parses bytes of a connection and does what they say.
    pub(super) fn feed<J: JetStream>(
        &mut self,
        now: Timestamp,
        slot: u32,
        bytes: &[u8],
        js: &mut J,
    ) {
        let mut parser = std::mem::take(&mut self.clients.conn_mut(slot).parser);
        let mut session = Session::new(self, js, slot, now);
        let outcome = match session.net.tracer {
            None => parser.parse(bytes, &mut session),
            Some(_) => parser.parse(bytes, &mut Traced(&mut session)),
        };
        let (stall, offender) = (session.stall, session.offender);
        if outcome.is_err() || !self.clients.conn(slot).is_open() {
            parser.release(&mut Session::new(self, js, slot, now));
        }
        let conn = self.clients.conn_mut(slot);
        conn.parser = parser;
        match outcome {
            Ok(taken) => {
                if conn.hold != Hold::No && taken < bytes.len() {
                    conn.held.extend_from_slice(&bytes[taken..]);
                }
                conn.unread |= !conn.is_open() && leaves_unread(bytes.len(), taken);
            }
            Err(violation) => {
                let at = conn.parser.taken()
                    + match violation {
                        // As much is read before a control line is too long.
                        Violation::ControlLine => self.clients.limits.max_control_line,
                        _ => 0,
                    };
                self.clients.conn_mut(slot).unread |= leaves_unread(bytes.len(), at);
                if violation == Violation::UnknownOperation {
                    self.error(slot, b"Unknown Protocol Operation");
                }
                self.log_violation(slot, violation, &offender);
                self.close(slot, reason(violation), false);
            }
        }
        if stall > 0 {
            let conn = self.clients.conn(slot).id;
            self.clients.wait_for_full(super::Origin { reactor: self.own, conn });
            self.clients.full.clear();
            self.stall(now, slot, stall);
        }
        self.settle();
    }

    fn error(&mut self, slot: u32, text: &[u8]) {
        self.clients.write(slot, |out| format::push_error(out, text));
    }

    /// Answers a PING; the first one after CONNECT is followed by the second INFO.
    pub(super) fn pong(&mut self, slot: u32) {
        self.clients.write(slot, |out| out.extend_from_slice(b"PONG\r\n"));
        let conn = self.clients.conn_mut(slot);
        if conn.connected && !conn.first_pong_sent {
            conn.first_pong_sent = true;
            if conn.flags.protocol >= 1 {
                self.clients.write_info(slot, &self.settings.template, InfoKind::Second);
            }
        }
    }
}

impl<'a, J: JetStream> Session<'a, J> {
    fn new(net: &'a mut Net, js: &'a mut J, slot: u32, now: Timestamp) -> Self {
        Session { net, js, slot, now, stall: 0, offender: Vec::new() }
    }
}

impl<J: JetStream> Session<'_, J> {
    fn ok(&mut self) {
        if self.net.clients.conn(self.slot).flags.verbose {
            self.net.clients.write(self.slot, |out| out.extend_from_slice(b"+OK\r\n"));
        }
    }

    fn refuse(&mut self, text: &[&[u8]]) -> Flow {
        let text = text.concat();
        self.net.error(self.slot, &text);
        Flow::Continue
    }

    /// Refuses the subject of a publish, once.
    fn refuse_subject(&mut self) {
        if !std::mem::replace(&mut self.net.clients.conn_mut(self.slot).refused, true) {
            self.net.error(self.slot, b"Invalid Publish Subject");
        }
    }

    fn close(&mut self, reason: CloseReason) -> Flow {
        self.net.log_refused(self.slot, reason);
        self.net.close(self.slot, reason, false);
        Flow::Stop
    }

    /// Goes on with the next operation, unless the connection closes or waits, or the turn has done
    /// enough.
    #[inline]
    fn flow(&mut self) -> Flow {
        if self.net.work.is_spent() {
            return self.wait_for_turn();
        }
        let conn = self.net.clients.conn(self.slot);
        match conn.is_open() && conn.hold == Hold::No {
            true => Flow::Continue,
            false => Flow::Stop,
        }
    }

    #[cold]
    fn wait_for_turn(&mut self) -> Flow {
        let conn = self.net.clients.conn_mut(self.slot);
        if conn.is_open() && conn.hold == Hold::No {
            conn.hold = Hold::NextTurn;
            let id = conn.id;
            self.net.runnable.push(id);
        }
        Flow::Stop
    }
}

impl<J: JetStream> Handler for Session<'_, J> {
    #[inline]
    fn limits(&self) -> ParseLimits {
        let limits = &self.net.clients.limits;
        ParseLimits {
            max_control_line: limits.max_control_line,
            max_payload: limits.max_payload,
            headers: self.net.clients.conn(self.slot).flags.headers,
        }
    }

    // Always: the parser that traces calls it too.
    #[inline(always)]
    fn publish(&mut self, publish: &Publish<'_>) -> Flow {
        let bytes = publish.headers.len() + publish.payload.len();
        let conn = self.net.clients.count_in(self.slot, bytes);
        let (id, flags, permissions) = (conn.id, conn.flags, conn.permissions);
        if flags.pedantic && !subject::is_valid_literal(publish.subject) {
            self.refuse_subject();
            self.net.clients.conn_mut(self.slot).refused = false;
        }
        if !permissions.may_publish(publish.subject) {
            let quoted = format::quoted(publish.subject);
            return self.refuse(&[b"Permissions Violation for Publish to ", &quoted]);
        }
        if !permissions.may_reply_to(publish.reply) {
            let quoted = format::quoted(publish.reply);
            return self.refuse(&[b"Permissions Violation for Publish with Reply of ", &quoted]);
        }
        if flags.verbose {
            self.ok();
        }
        let trace = match publish.headers.is_empty() {
            true => None,
            false => trace_only(publish.headers),
        };
        let message = Message {
            account: ACCOUNT,
            subject: publish.subject,
            shown: b"",
            reply: publish.reply,
            headers: publish.headers,
            payload: publish.payload,
        };
        let source = Source {
            origin: super::Origin { reactor: self.net.own, conn: id },
            slot: Some(self.slot),
            wants_answer: flags.no_responders && !publish.reply.is_empty(),
            charged: true,
            hops: 0,
        };
        if let Some(trace) = trace {
            self.net.trace(self.slot, trace, &source, &message);
            return self.flow();
        }
        self.net.clients.stall = 0;
        let taken = self.net.route(self.now, source, &message, self.js);
        if !taken && source.wants_answer {
            self.net.no_responders(Some(self.slot), &message);
        }
        self.stall = (self.stall + self.net.clients.stall).min(STALL_MAX);
        self.flow()
    }

    fn announced(&mut self, operation: &[u8]) {
        // As in NATS, the control line is enough to know.
        if self.net.clients.conn(self.slot).flags.pedantic
            && !subject::is_valid_literal(subject_of(operation))
        {
            self.refuse_subject();
        }
    }

    fn refused(&mut self, operation: &[u8]) {
        self.offender = operation[..operation.len().min(OFFENDER_BYTES)].to_vec();
    }

    fn subscribe(&mut self, filter: &[u8], queue: Option<&[u8]>, sid: &[u8]) -> Flow {
        let (slot, limits) = (self.slot, self.net.clients.limits);
        if !self.net.clients.conn(slot).permissions.may_subscribe(filter, queue) {
            let quoted = format::quoted(filter);
            let queue = format::quoted(queue.unwrap_or_default());
            let text = b"Permissions Violation for Subscription to ";
            return self.refuse(&[text, &quoted, b" using queue ", &queue]);
        }
        let tokens = limits.max_subscription_tokens;
        if tokens > 0 && subject::tokens(filter).count() > tokens {
            let quoted = format::quoted(filter);
            let text = b"Permissions Violation for Subscription to ";
            self.net.log_too_many_tokens(slot, &quoted, sid);
            return self.refuse(&[text, &quoted, b", too many tokens"]);
        }
        let most = limits.max_subscriptions;
        if most > 0 && self.net.clients.sub_count(slot) >= most {
            self.net.log_error(slot, "maximum subscriptions exceeded");
            return self.refuse(&[b"maximum subscriptions exceeded"]);
        }
        // The order of the checks is that of NATS: a sid that is known hides a bad subject.
        self.net.work.change();
        let mut known = self.net.clients.find_sub(slot, sid);
        if let Some(sub) = known.take_if(|sub| self.net.clients.sub(*sub).is_expired()) {
            self.net.unsubscribe(sub);
        }
        if known.is_none() {
            if !subject::is_valid_filter(filter) {
                return self.refuse(&[b"Invalid Subject"]);
            }
            let sub = self.net.clients.add_sub(slot, sid);
            let change = self.net.interest.subscribe(ACCOUNT, filter, queue, sub);
            if let Some(change) = change
                && !self.net.single
            {
                let count = self.net.mesh.broadcast(ACCOUNT, change);
                self.net.clients.conn_mut(slot).last_change = count;
            }
        }
        self.ok();
        self.flow()
    }

    fn unsubscribe(&mut self, sid: &[u8], max: Option<u64>) -> Flow {
        self.net.work.change();
        if let Some(sub) = self.net.clients.limit_sub(self.slot, sid, max) {
            self.net.unsubscribe(sub);
        }
        self.ok();
        self.flow()
    }

    fn connect(&mut self, json: &[u8]) -> Flow {
        let flags = self.net.clients.conn(self.slot).flags;
        let server_headers = self.net.clients.limits.headers;
        let (flags, name) = match parse_connect(json, flags, server_headers) {
            Ok(parsed) => parsed,
            Err(reason) => return self.close(reason),
        };
        let conn = self.net.clients.conn_mut(self.slot);
        let first = !conn.connected;
        conn.connected = true;
        conn.first_rtt(self.now);
        conn.flags = flags;
        conn.name = Some(Box::new(name));
        if first {
            self.net.arm_first_ping(self.now, self.slot);
        } else {
            // A second CONNECT starts over, as in NATS.
            self.net.leave(self.slot);
        }
        self.ok();
        if self.net.clients.sub_count(self.slot) > 0 && !first {
            self.net.clients.conn_mut(self.slot).hold = Hold::Unsubscribing;
            return Flow::Stop;
        }
        Flow::Continue
    }

    fn info(&mut self, json: &[u8]) -> Flow {
        match serde_json::from_slice::<serde::de::IgnoredAny>(json) {
            Ok(_) if json.starts_with(b"{") => Flow::Continue,
            _ => self.close(CloseReason::ProtocolViolation),
        }
    }

    fn ping(&mut self) -> Flow {
        let change = self.net.clients.conn(self.slot).last_change;
        if self.net.single || self.net.mesh.is_confirmed(change) {
            self.net.pong(self.slot);
            return Flow::Continue;
        }
        self.net.mesh.ask(change);
        let conn = self.net.clients.conn_mut(self.slot);
        conn.hold = Hold::Barrier(change);
        let id = conn.id;
        self.net.holding.push(id);
        Flow::Stop
    }

    fn pong(&mut self) -> Flow {
        let now = self.now;
        let conn = self.net.clients.conn_mut(self.slot);
        if conn.pings_out > 0 {
            conn.rtt = now.since(conn.ping_sent).max(1);
        }
        conn.pings_out = 0;
        Flow::Continue
    }

    fn take_buffer(&mut self, _size: usize) -> Vec<u8> {
        self.net.clients.assembly.take()
    }

    fn give_buffer(&mut self, buffer: Vec<u8>) {
        self.net.clients.assembly.give(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_left_unread_as_nats_server_reads_it() {
        for (len, at, want) in [
            (200, 0, false),
            (512, 0, false),
            (513, 0, true),
            (513, 511, true),
            (513, 512, false),
            (1_536, 600, false),
            (1_537, 600, true),
            (5_006, 4_096, false),
            (50_000, 4_096, true),
            (128 << 10, 127 << 10, true),
            (128 << 10, 130_600, false),
        ] {
            assert_eq!(leaves_unread(len, at), want, "{len} bytes, closed at {at}");
        }
    }
}
