//! The incremental parser.

use memchr::{memchr, memchr2};

/// Blanks an argument list may be separated by.
const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Digits a size may have; more are refused as in NATS.
const SIZE_DIGITS_MAX: usize = 9;

/// Limits that hold for the operation being parsed.
#[derive(Clone, Copy, Debug)]
pub struct ParseLimits {
    /// Longest argument list of a control line, in bytes.
    pub max_control_line: usize,
    /// Largest header block and payload together, in bytes.
    pub max_payload: usize,
    /// Whether HPUB is allowed.
    pub headers: bool,
}

/// A PUB or HPUB with its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The subject, not validated.
    pub subject: &'a [u8],
    /// The reply subject, or empty.
    pub reply: &'a [u8],
    /// The header block, or empty.
    pub headers: &'a [u8],
    /// The payload without the header block.
    pub payload: &'a [u8],
}

/// What a handler wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on with the next operation.
    Continue,
    /// Return to the caller: the connection closes or waits.
    Stop,
}

/// Why a connection's bytes cannot be parsed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// No operation starts like this, or a payload does not end where it should.
    UnknownOperation,
    /// Wrong arguments: closed without a word.
    Arguments,
    /// The argument list is too long.
    ControlLine,
    /// The message is too large.
    Payload,
    /// HPUB from a connection without header support: closed without a word.
    Headers,
    /// The client sent `-ERR`.
    PeerError,
}

/// Receives operations. Slices are borrowed for the length of the call.
pub trait Handler {
    /// Whether `line` is called: a constant, so that it costs nothing where it is not.
    const TRACES: bool = false;
    /// The control line of an operation with arguments is there; it may come again with more of
    /// the operation's message.
    fn line(&mut self, _verb: &'static str, _arguments: &[u8]) {}
    /// Limits for the operation that is about to be parsed.
    fn limits(&self) -> ParseLimits;
    /// PUB or HPUB.
    fn publish(&mut self, publish: &Publish<'_>) -> Flow;
    /// The control line of a PUB or HPUB is there and its message is not whole, or does not end as
    /// it must; `operation` is what came so far. Said once before `publish`, and perhaps again
    /// before a violation.
    fn announced(&mut self, _operation: &[u8]) {}
    /// The operation that begins like this is a violation: the last call of a parse.
    fn refused(&mut self, _operation: &[u8]) {}
    /// SUB.
    fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) -> Flow;
    /// UNSUB; `max` is absent if it was not a number.
    fn unsubscribe(&mut self, sid: &[u8], max: Option<u64>) -> Flow;
    /// CONNECT with its JSON, not validated.
    fn connect(&mut self, json: &[u8]) -> Flow;
    /// INFO with its JSON, not validated.
    fn info(&mut self, json: &[u8]) -> Flow;
    /// PING.
    fn ping(&mut self) -> Flow;
    /// PONG.
    fn pong(&mut self) -> Flow;
    /// An empty buffer for a message that is not whole yet, preferably with `size` bytes of room.
    fn take_buffer(&mut self, size: usize) -> Vec<u8> {
        Vec::with_capacity(size)
    }
    /// Takes the buffer back.
    fn give_buffer(&mut self, _buffer: Vec<u8>) {}
}

/// The state between two reads of one connection: the beginning of an operation that is not whole
/// yet.
#[derive(Debug, Default)]
pub struct Parser {
    assembly: Vec<u8>,
    /// Size of the whole operation once its control line is known, else 0.
    need: usize,
    /// How much of the last input was before the operation that violated the protocol.
    taken: usize,
}

enum Step {
    /// An operation of so many bytes was handed over.
    Done(usize, Flow),
    /// The operation is not whole. Its first `keep` bytes matter; it will have `need` bytes, if
    /// that is known already.
    Partial { keep: usize, need: usize },
}

impl Parser {
    /// True between two operations.
    pub fn is_idle(&self) -> bool {
        self.assembly.is_empty()
    }

    /// Heap bytes held.
    pub fn heap_bytes(&self) -> usize {
        self.assembly.capacity()
    }

    /// How much of the last input was handled before the operation that violated the protocol.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Parses `input` and hands whole operations to `handler`. Returns how many bytes were taken:
    /// all of them, unless the handler stopped.
    pub fn parse<H: Handler>(&mut self, input: &[u8], handler: &mut H) -> Result<usize, Violation> {
        let mut at = 0;
        self.taken = 0;
        if !self.assembly.is_empty() {
            match self.resume(input, handler)? {
                Step::Done(taken, Flow::Continue) => at = taken,
                Step::Done(taken, Flow::Stop) => return Ok(taken),
                Step::Partial { .. } => return Ok(input.len()),
            }
        }
        while at < input.len() {
            match step(&input[at..], handler) {
                Ok(Step::Done(taken, flow)) => {
                    at += taken;
                    if flow == Flow::Stop {
                        return Ok(at);
                    }
                }
                Ok(Step::Partial { keep, need }) => {
                    if need > 0 {
                        handler.announced(&input[at..]);
                    }
                    let mut buffer = handler.take_buffer(need);
                    buffer.clear();
                    buffer.reserve_exact(need.max(keep));
                    buffer.extend_from_slice(&input[at..at + keep]);
                    self.assembly = buffer;
                    self.need = need;
                    return Ok(input.len());
                }
                Err(violation) => {
                    self.taken = at;
                    handler.refused(&input[at..]);
                    return Err(violation);
                }
            }
        }
        Ok(at)
    }

    /// Goes on with a partial operation. `Done` counts bytes of `input`.
    fn resume<H: Handler>(&mut self, input: &[u8], handler: &mut H) -> Result<Step, Violation> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let take = if self.need > 0 {
                rest.len().min(self.need - self.assembly.len())
            } else {
                memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1)
            };
            self.assembly.extend_from_slice(&rest[..take]);
            at += take;
            let outcome = step(&self.assembly, handler);
            match outcome {
                Ok(Step::Done(_, flow)) => {
                    self.release(handler);
                    return Ok(Step::Done(at, flow));
                }
                Ok(Step::Partial { keep, need }) => {
                    if need > 0 && self.need == 0 {
                        handler.announced(&self.assembly);
                    }
                    self.assembly.truncate(keep);
                    self.need = need;
                    if need > self.assembly.capacity() {
                        self.grow(need, handler);
                    }
                    if at == input.len() {
                        return Ok(Step::Partial { keep, need });
                    }
                }
                Err(violation) => {
                    handler.refused(&self.assembly);
                    self.release(handler);
                    return Err(violation);
                }
            }
        }
    }

    fn grow<H: Handler>(&mut self, need: usize, handler: &mut H) {
        let mut buffer = handler.take_buffer(need);
        buffer.clear();
        buffer.reserve_exact(need);
        buffer.extend_from_slice(&self.assembly);
        handler.give_buffer(std::mem::replace(&mut self.assembly, buffer));
    }

    /// Gives the assembly buffer back; what it held is forgotten.
    pub fn release<H: Handler>(&mut self, handler: &mut H) {
        self.need = 0;
        self.assembly.clear();
        handler.give_buffer(std::mem::take(&mut self.assembly));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Pub,
    Hpub,
    Sub,
    Unsub,
    Connect,
    Info,
    Ping,
    Pong,
    Ok,
    Err,
}

/// The verb at the start of `input`, and its length; `None` if more bytes are needed.
fn verb(input: &[u8]) -> Result<Option<(Verb, usize)>, Violation> {
    let second = input.get(1).map(u8::to_ascii_lowercase);
    let (verb, name): (Verb, &[u8]) = match (input[0].to_ascii_lowercase(), second) {
        (b'p', None) => return Ok(None),
        (b'p', Some(b'u')) => (Verb::Pub, b"pub"),
        (b'p', Some(b'i')) => (Verb::Ping, b"ping"),
        (b'p', Some(b'o')) => (Verb::Pong, b"pong"),
        (b'h', _) => (Verb::Hpub, b"hpub"),
        (b's', _) => (Verb::Sub, b"sub"),
        (b'u', _) => (Verb::Unsub, b"unsub"),
        (b'c', _) => (Verb::Connect, b"connect"),
        (b'i', _) => (Verb::Info, b"info"),
        (b'+', _) => (Verb::Ok, b"+ok"),
        (b'-', _) => (Verb::Err, b"-err"),
        _ => return Err(Violation::UnknownOperation),
    };
    let common = input.len().min(name.len());
    if !input[..common].eq_ignore_ascii_case(&name[..common]) {
        return Err(Violation::UnknownOperation);
    }
    if common < name.len() {
        return Ok(None);
    }
    let needs_blank = matches!(verb, Verb::Pub | Verb::Hpub | Verb::Sub | Verb::Unsub | Verb::Err);
    match input.get(name.len()) {
        None if needs_blank => Ok(None),
        Some(&byte) if needs_blank && !is_blank(byte) => Err(Violation::UnknownOperation),
        _ => Ok(Some((verb, name.len()))),
    }
}

/// Handles the operation at the start of `input`, which is not empty.
#[inline]
fn step<H: Handler>(input: &[u8], handler: &mut H) -> Result<Step, Violation> {
    let (verb, verb_bytes) = if input.starts_with(b"PUB ") {
        (Verb::Pub, 3)
    } else {
        match verb(input)? {
            Some(found) => found,
            None => return Ok(Step::Partial { keep: input.len(), need: 0 }),
        }
    };
    if matches!(verb, Verb::Ping | Verb::Pong | Verb::Ok) {
        return Ok(match memchr(b'\n', &input[verb_bytes..]) {
            None => Step::Partial { keep: verb_bytes, need: 0 },
            Some(newline) => Step::Done(
                verb_bytes + newline + 1,
                match verb {
                    Verb::Ping => handler.ping(),
                    Verb::Pong => handler.pong(),
                    _ => Flow::Continue,
                },
            ),
        });
    }
    let mut start = verb_bytes;
    while start < input.len() && is_blank(input[start]) {
        start += 1;
    }
    if start == input.len() {
        let keep = (verb_bytes + 1).min(input.len());
        return Ok(Step::Partial { keep, need: 0 });
    }
    let limits = handler.limits();
    let newline = memchr(b'\n', &input[start..]);
    let mut arguments = &input[start..newline.map_or(input.len(), |n| start + n)];
    if let Some((b'\r', before)) = arguments.split_last() {
        arguments = before;
    }
    if arguments.len() > limits.max_control_line {
        return Err(Violation::ControlLine);
    }
    let Some(newline) = newline else {
        return Ok(Step::Partial { keep: input.len(), need: 0 });
    };
    if H::TRACES {
        trace(verb, arguments, handler);
    }
    let line = start + newline + 1;
    match verb {
        Verb::Pub => publish(input, line, pub_arguments(arguments)?, &limits, handler),
        Verb::Hpub if !limits.headers => Err(Violation::Headers),
        Verb::Hpub => publish(input, line, hpub_arguments(arguments)?, &limits, handler),
        _ => Ok(Step::Done(line, control(verb, arguments, handler)?)),
    }
}

#[cold]
fn trace<H: Handler>(verb: Verb, arguments: &[u8], handler: &mut H) {
    let name = match verb {
        Verb::Pub => "PUB",
        Verb::Hpub => "HPUB",
        Verb::Sub => "SUB",
        Verb::Unsub => "UNSUB",
        Verb::Connect => "CONNECT",
        _ => return,
    };
    handler.line(name, arguments);
}

/// Operations without a payload.
fn control<H: Handler>(verb: Verb, line: &[u8], handler: &mut H) -> Result<Flow, Violation> {
    match verb {
        Verb::Sub => match split(line) {
            ([subject, sid, ..], 2) => Ok(handler.subscribe(subject, None, sid)),
            ([subject, queue, sid, _], 3) => Ok(handler.subscribe(subject, Some(queue), sid)),
            _ => Err(Violation::Arguments),
        },
        Verb::Unsub => match split(line) {
            ([sid, ..], 1) => Ok(handler.unsubscribe(sid, None)),
            ([sid, max, ..], 2) => Ok(handler.unsubscribe(sid, size(max).map(|n| n as u64))),
            _ => Err(Violation::Arguments),
        },
        Verb::Connect => Ok(handler.connect(line)),
        Verb::Info => Ok(handler.info(line)),
        _ => Err(Violation::PeerError),
    }
}

struct Arguments<'a> {
    subject: &'a [u8],
    reply: &'a [u8],
    headers: usize,
    total: usize,
}

/// `subject [reply] size`, read from both ends.
// Always: the parser that traces calls it too.
#[inline(always)]
fn pub_arguments(line: &[u8]) -> Result<Arguments<'_>, Violation> {
    let subject_end = memchr2(b' ', b'\t', line).ok_or(Violation::Arguments)?;
    let mut end = line.len();
    while end > subject_end && is_blank(line[end - 1]) {
        end -= 1;
    }
    let mut digits = end;
    while digits > subject_end && !is_blank(line[digits - 1]) {
        digits -= 1;
    }
    let total = size(&line[digits..end]).ok_or(Violation::Arguments)?;
    let mut reply = &line[subject_end..digits];
    while let Some((&first, rest)) = reply.split_first()
        && is_blank(first)
    {
        reply = rest;
    }
    while let Some((&last, rest)) = reply.split_last()
        && is_blank(last)
    {
        reply = rest;
    }
    if !reply.is_empty() && memchr2(b' ', b'\t', reply).is_some() {
        return Err(Violation::Arguments);
    }
    Ok(Arguments { subject: &line[..subject_end], reply, headers: 0, total })
}

fn hpub_arguments(line: &[u8]) -> Result<Arguments<'_>, Violation> {
    let (subject, reply, headers, total) = match split(line) {
        ([subject, headers, total, _], 3) => (subject, &[][..], headers, total),
        ([subject, reply, headers, total], 4) => (subject, reply, headers, total),
        _ => return Err(Violation::Arguments),
    };
    let headers = size(headers).ok_or(Violation::Arguments)?;
    let total = size(total).ok_or(Violation::Arguments)?;
    if headers > total {
        return Err(Violation::Arguments);
    }
    Ok(Arguments { subject, reply, headers, total })
}

#[inline]
fn publish<H: Handler>(
    input: &[u8],
    line: usize,
    arguments: Arguments<'_>,
    limits: &ParseLimits,
    handler: &mut H,
) -> Result<Step, Violation> {
    if arguments.total > limits.max_payload {
        return Err(Violation::Payload);
    }
    let end = line + arguments.total;
    let whole = end + 2;
    if input.len() < whole {
        if input.len() > end && input[end] != b'\r' {
            handler.announced(input);
            return Err(Violation::UnknownOperation);
        }
        return Ok(Step::Partial { keep: input.len(), need: whole });
    }
    if input[end..whole] != *b"\r\n" {
        handler.announced(input);
        return Err(Violation::UnknownOperation);
    }
    let (headers, payload) = input[line..end].split_at(arguments.headers);
    let publish = Publish { subject: arguments.subject, reply: arguments.reply, headers, payload };
    Ok(Step::Done(whole, handler.publish(&publish)))
}

/// The subject of a PUB or HPUB, of which the control line is there.
pub fn subject_of(operation: &[u8]) -> &[u8] {
    let mut words = operation.split(|&b| is_blank(b)).filter(|word| !word.is_empty());
    words.nth(1).unwrap_or_default()
}

/// Splits at runs of blanks. Returns up to four arguments and their number, 5 if there are more.
fn split(line: &[u8]) -> ([&[u8]; 4], usize) {
    let mut arguments = [&[][..]; 4];
    let mut count = 0;
    for argument in line.split(|&b| is_blank(b)).filter(|a| !a.is_empty()) {
        if count == arguments.len() {
            return (arguments, 5);
        }
        arguments[count] = argument;
        count += 1;
    }
    (arguments, count)
}

/// A size: decimal digits only.
#[inline]
fn size(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > SIZE_DIGITS_MAX {
        return None;
    }
    let mut value = 0usize;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + usize::from(digit);
    }
    Some(value)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
