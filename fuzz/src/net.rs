//! A `Net` without reactor: bytes in, bytes out.

use corelane::client::{CloseReason, Limits, ServerInfo};
use corelane::turn::{Captured, Delivery, JetStream, Net, NetConfig, Settings};
use corelane::types::{ConnId, ReactorId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Shards that write down what they get.
#[derive(Default)]
pub struct Shards(pub Vec<String>);

impl JetStream for Shards {
    fn capture(&mut self, _now: Timestamp, message: &Captured<'_>) {
        self.0.push(format!("{message:?}"));
    }
}

/// What a connection got and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub bytes: Vec<u8>,
    pub closed: Option<CloseReason>,
}

/// One reactor of two; the other one is never heard of.
pub struct Driven {
    pub net: Net,
    pub shards: Shards,
    pub seen: BTreeMap<ConnId, Seen>,
    now: Timestamp,
}

impl Driven {
    /// A reactor of a node of so many.
    pub fn new(reactors: u16) -> Self {
        let info = ServerInfo { headers: true, max_payload: 1 << 20, ..ServerInfo::default() };
        let limits = Limits::default();
        let settings = Arc::new(Settings::new(limits, info));
        let config = NetConfig::new(ReactorId(0), reactors, 1, settings);
        Driven {
            net: Net::new(NetConfig { seed: 7, ..config }),
            shards: Shards::default(),
            seen: BTreeMap::new(),
            now: Timestamp(1_000_000_000),
        }
    }

    /// A new connection.
    pub fn connect(&mut self, id: u64) -> ConnId {
        let conn = ConnId(id);
        self.net.accept(self.now, conn, "127.0.0.1:5000", false);
        self.seen.insert(conn, Seen::default());
        self.effects();
        conn
    }

    /// Bytes of one read.
    pub fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.net.begin_turn();
        self.net.received(self.now, conn, bytes, &mut self.shards);
        while self.net.is_runnable() {
            self.net.begin_turn();
            self.net.run(self.now, &mut self.shards);
        }
        self.effects();
    }

    /// A batch of the other reactor.
    pub fn batch(&mut self, bytes: &[u8]) {
        self.net.messages(self.now, ReactorId(1), bytes, &mut self.shards);
        self.effects();
    }

    /// An answer of a shard.
    pub fn deliver(&mut self, delivery: &Delivery<'_>) {
        self.net.deliver(self.now, delivery, &mut self.shards);
        self.effects();
    }

    fn effects(&mut self) {
        let mut touched = Vec::new();
        self.net.take_touched(&mut touched);
        while let Some(conn) = touched.pop() {
            let Some(bytes) = self.net.start_send(self.now, conn) else { continue };
            let taken = bytes.len();
            if let Some(seen) = self.seen.get_mut(&conn) {
                seen.bytes.extend_from_slice(bytes);
            }
            self.net.sent(self.now, conn, taken);
            self.net.take_touched(&mut touched);
        }
        for closing in self.net.take_closing() {
            if let Some(seen) = self.seen.get_mut(&closing.conn) {
                seen.closed = Some(closing.reason);
            }
            self.net.closed(self.now, closing.conn, &mut self.shards);
        }
        let _ = self.net.take_flow();
    }
}
