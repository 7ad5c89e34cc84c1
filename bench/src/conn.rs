//! One blocking connection: the handshake, requests to the API, and the latency scenarios. What is
//! meant to be fast hands its connection to the [driver](crate::driver).

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::{
    clock::{self, Nanos},
    wire::{Msg, Op, Parser, write_pub, write_sub},
};

/// How long a server may take to answer anything.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 64 * 1024;

const CONNECT: &str = concat!(
    r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"#,
    r#""protocol":1,"echo":true,"name":"corelane-bench","lang":"rust","version":""#,
    env!("CARGO_PKG_VERSION"),
    "\"}\r\nPING\r\n"
);

/// A blocking connection to a NATS server.
pub struct Conn {
    stream: TcpStream,
    parser: Parser,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    next_sid: u32,
    requests: u64,
    inbox: String,
    out: Vec<u8>,
}

impl Conn {
    /// Connects and waits until the server has taken it.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)
            .with_context(|| format!("no connection to {address}"))?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?.port();
        let mut conn = Self {
            stream,
            parser: Parser::new(),
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            next_sid: 1,
            requests: 0,
            inbox: format!("_INBOX.cb{}p{local}t{}", std::process::id(), clock::now()),
            out: Vec::new(),
        };
        conn.stream.write_all(CONNECT.as_bytes())?;
        conn.wait_pong()?;
        Ok(conn)
    }

    /// A prefix for subjects that nobody else uses.
    pub fn inbox(&self) -> &str {
        &self.inbox
    }

    /// Sends raw protocol bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("the server closed the connection")
    }

    /// Subscribes and returns the subscription's number; [`flush`](Self::flush) makes it known.
    pub fn subscribe(&mut self, subject: &str, queue: &str) -> Result<u32> {
        let sid = self.next_sid;
        self.next_sid += 1;
        let mut out = Vec::new();
        write_sub(&mut out, subject, queue, sid);
        self.send(&out)?;
        Ok(sid)
    }

    /// Waits until the server has handled everything sent so far.
    pub fn flush(&mut self) -> Result<()> {
        self.send(b"PING\r\n")?;
        self.wait_pong()
    }

    fn wait_pong(&mut self) -> Result<()> {
        let deadline = clock::now() + ANSWER_TIMEOUT.as_nanos() as Nanos;
        let mut ponged = false;
        while !ponged {
            ensure!(self.turn(deadline, |op| ponged |= matches!(op, Op::Pong))?, "no PONG came");
        }
        Ok(())
    }

    /// Handles the operations that are there, or waits for some until `deadline`; `false` when
    /// none came. A server's `PING` is answered, its `-ERR` is an error.
    pub fn turn(&mut self, deadline: Nanos, mut f: impl FnMut(Op<'_>)) -> Result<bool> {
        loop {
            let mut any = false;
            let mut pings = 0;
            while let Some((op, used)) = self.parser.next(&self.buffer[self.start..self.end])? {
                match op {
                    Op::Ping => pings += 1,
                    Op::Err(text) => bail!("the server says {}", String::from_utf8_lossy(text)),
                    op => f(op),
                }
                self.start += used;
                any = true;
            }
            for _ in 0..pings {
                self.send(b"PONG\r\n")?;
            }
            if any {
                return Ok(true);
            }
            if !self.fill(deadline)? {
                return Ok(false);
            }
        }
    }

    /// Reads once; `false` at the deadline.
    fn fill(&mut self, deadline: Nanos) -> Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            if self.start == 0 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let now = clock::now();
        if now >= deadline {
            return Ok(false);
        }
        self.stream
            .set_read_timeout(Some(Duration::from_nanos((deadline - now).max(1_000_000))))?;
        match self.stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => {
                self.end += count;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Blocks for bytes without looking at the clock, for the latency scenarios: handles what is
    /// in the next read.
    pub fn turn_blocking(&mut self, mut f: impl FnMut(&Msg<'_>)) -> Result<()> {
        let deadline = clock::now() + ANSWER_TIMEOUT.as_nanos() as Nanos;
        let came = self.turn(deadline, |op| {
            if let Op::Msg(msg) = op {
                f(&msg);
            }
        })?;
        ensure!(came, "the server did not answer within {ANSWER_TIMEOUT:?}");
        Ok(())
    }

    /// Sends a request and returns the answer's payload.
    pub fn request(&mut self, subject: &str, payload: &[u8]) -> Result<Vec<u8>> {
        self.request_within(subject, payload, ANSWER_TIMEOUT)
    }

    /// As [`request`](Self::request), with a patience of its own.
    pub fn request_within(
        &mut self,
        subject: &str,
        payload: &[u8],
        patience: Duration,
    ) -> Result<Vec<u8>> {
        self.requests += 1;
        let reply = format!("{}.r{}", self.inbox, self.requests);
        let sid = self.subscribe(&reply, "")?;
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        write_pub(&mut out, subject.as_bytes(), reply.as_bytes(), payload);
        out.extend_from_slice(b"PING\r\n");
        self.send(&out)?;
        self.out = out;
        let deadline = clock::now() + patience.as_nanos() as Nanos;
        let mut answer = None;
        let mut refused = None;
        while answer.is_none() && refused.is_none() {
            let came = self.turn(deadline, |op| {
                if let Op::Msg(msg) = op
                    && msg.sid == sid
                {
                    refused = msg.status().map(|(code, _)| code);
                    answer = Some(msg.payload.to_vec());
                }
            })?;
            ensure!(came, "no answer to {subject} within {patience:?}");
        }
        self.send(format!("UNSUB {sid}\r\n").as_bytes())?;
        if let Some(code) = refused {
            bail!("{subject} was answered with status {code}");
        }
        answer.ok_or_else(|| anyhow!("no answer to {subject}"))
    }

    /// Sends a JSON request, and makes an error of an answer that holds one.
    pub fn request_json(&mut self, subject: &str, payload: &Value) -> Result<Value> {
        self.request_json_within(subject, payload, ANSWER_TIMEOUT)
    }

    /// As [`request_json`](Self::request_json), with a patience of its own.
    pub fn request_json_within(
        &mut self,
        subject: &str,
        payload: &Value,
        patience: Duration,
    ) -> Result<Value> {
        let bytes = if payload.is_null() { Vec::new() } else { serde_json::to_vec(payload)? };
        let answer = self.request_within(subject, &bytes, patience)?;
        let answer: Value = serde_json::from_slice(&answer)
            .with_context(|| format!("the answer to {subject} is not JSON"))?;
        if let Some(error) = answer.get("error") {
            bail!("{subject}: {error}");
        }
        Ok(answer)
    }

    /// The socket and the bytes read and not yet handled.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        let rest = self.buffer[self.start..self.end].to_vec();
        (self.stream, rest)
    }
}
