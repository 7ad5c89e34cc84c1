//! Runs many connections on one thread: edge-triggered epoll, non-blocking sockets, buffers that
//! are made once. Scenarios plug in as [`Client`]s; nothing is allocated per message.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

use anyhow::{Result, bail};
use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    fd::OwnedFd,
    fs::Timespec,
};

use crate::{
    clock::{self, Nanos},
    conn::Conn,
    run::Shared,
    wire::{Msg, Op, Parser},
};

/// What a scenario does on one connection.
pub trait Client {
    /// A message arrived; `at` is when the read that brought it returned.
    fn on_msg(&mut self, msg: &Msg<'_>, at: Nanos);

    /// The answer to a `PING` that the client sent arrived.
    fn on_pong(&mut self) {}

    /// The messages of one read are through.
    fn end_of_read(&mut self) {}

    /// Everything prepared before is written. Makes the next bytes ready at the front of
    /// [`output`](Self::output) and returns how many; 0 for none now.
    fn prepare(&mut self, now: Nanos) -> usize;

    /// The bytes that `prepare` made ready.
    fn output(&self) -> &[u8];

    /// When `prepare` should be asked again although nothing arrived.
    fn wake_at(&self) -> Option<Nanos> {
        None
    }

    /// Whether the connection may be closed.
    fn is_done(&self, now: Nanos) -> bool;
}

const READ_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 256;
/// The longest sleep, so that a stop is seen.
const SLEEP_MAX: Nanos = 20_000_000;

struct Slot<C> {
    stream: TcpStream,
    client: C,
    parser: Parser,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    readable: bool,
    writable: bool,
    pongs: usize,
    /// What of the client's output is still to be written.
    from: usize,
    until: usize,
    done: bool,
}

/// Runs the connections until each is done or the run is stopped by a failure. Returns the clients.
pub fn drive<C: Client>(connections: Vec<(Conn, C)>, shared: &Shared) -> Result<Vec<C>> {
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut slots = Vec::with_capacity(connections.len());
    for (index, (conn, client)) in connections.into_iter().enumerate() {
        slots.push(Slot::new(conn, client, &poll, index as u64)?);
    }
    let mut events = Vec::with_capacity(EVENTS_MAX);
    let mut open = slots.len();
    while open > 0 && !shared.has_failed() {
        let now = clock::now();
        if shared.is_overdue(now) {
            break;
        }
        let mut busy = false;
        let mut wake_at = now + SLEEP_MAX;
        for slot in slots.iter_mut().filter(|slot| !slot.done) {
            busy |= slot.read()?;
            busy |= slot.write(now)?;
            if slot.idle() && slot.client.is_done(now) {
                slot.done = true;
                open -= 1;
            } else if slot.idle()
                && let Some(at) = slot.client.wake_at()
            {
                wake_at = wake_at.min(at);
            }
        }
        if open == 0 {
            break;
        }
        let wait = if busy { 0 } else { wake_at.saturating_sub(clock::now()) };
        events.clear();
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait as i64 };
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let flags = event.flags;
            let slot = &mut slots[event.data.u64() as usize];
            let closed = EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP;
            slot.readable |= flags.intersects(EventFlags::IN | closed);
            slot.writable |= flags.intersects(EventFlags::OUT | closed);
        }
    }
    Ok(slots.into_iter().map(|slot| slot.client).collect())
}

impl<C: Client> Slot<C> {
    fn new(conn: Conn, client: C, poll: &OwnedFd, index: u64) -> Result<Self> {
        let (stream, rest) = conn.into_parts();
        stream.set_nonblocking(true)?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(poll, &stream, EventData::new_u64(index), flags)?;
        let mut buffer = vec![0; READ_BYTES.max(rest.len())];
        buffer[..rest.len()].copy_from_slice(&rest);
        Ok(Self {
            stream,
            client,
            parser: Parser::new(),
            buffer,
            start: 0,
            end: rest.len(),
            readable: true,
            writable: true,
            pongs: 0,
            from: 0,
            until: 0,
            done: false,
        })
    }

    fn idle(&self) -> bool {
        self.from == self.until && self.pongs == 0
    }

    /// Reads once and handles all of it. Returns whether there may be more to read.
    fn read(&mut self) -> Result<bool> {
        if !self.readable {
            return Ok(false);
        }
        if self.end == self.buffer.len() && self.start == 0 {
            self.buffer.resize(self.buffer.len() * 2, 0);
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match self.stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => {
                self.end += count;
                // A short read has emptied the socket; the next edge will tell.
                self.readable = self.end == self.buffer.len();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        let at = clock::now();
        while let Some((op, used)) = self.parser.next(&self.buffer[self.start..self.end])? {
            match op {
                Op::Msg(msg) => self.client.on_msg(&msg, at),
                Op::Ping => self.pongs += 1,
                Op::Err(text) => bail!("the server says {}", String::from_utf8_lossy(text)),
                Op::Pong => self.client.on_pong(),
                Op::Ok | Op::Info(_) => {}
            }
            self.start += used;
        }
        self.client.end_of_read();
        Ok(self.readable)
    }

    /// Writes once. Returns whether there may be more to write at once.
    fn write(&mut self, now: Nanos) -> Result<bool> {
        if !self.writable {
            return Ok(false);
        }
        if self.from == self.until {
            while self.pongs > 0 {
                // Between two blocks, so that no message is cut in two. Six bytes fit or nothing.
                match self.stream.write(b"PONG\r\n") {
                    Ok(6) => self.pongs -= 1,
                    Ok(_) => bail!("a PONG was cut in two"),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.writable = false;
                        return Ok(false);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            (self.from, self.until) = (0, self.client.prepare(now));
            if self.until == 0 {
                return Ok(false);
            }
        }
        match self.stream.write(&self.client.output()[self.from..self.until]) {
            Ok(count) => {
                self.from += count;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}
