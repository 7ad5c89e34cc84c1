//! Connections of clients: their state, their subscriptions by sid, their outbounds.
//!
//! Purpose: everything that belongs to one connection. It must not know routing, other reactors
//! or the kernel: it appends to outbounds and notes which connections want attention. Exists once
//! per reactor (`Clients`), with one `Connection` each.
//!
//! Invariants: the subscriptions of a connection that closes get nothing any more, and a connection
//! is forgotten after the last of them; bytes lent to a send neither move nor change; a connection
//! at rest holds no buffers.

mod clients;
mod closed;
mod connect;
mod info;
mod inspect;
mod message;
mod outbound;
mod waiters;

pub(crate) use clients::Delivered;
pub use clients::{Clients, Closing, Connection, Hold, Leaving, NetStats, PauseReason, ReadFlow};
pub use closed::CLOSED_MAX;
pub use connect::{ClientName, ConnectFlags, User, parse as parse_connect};
pub use info::{InfoKind, InfoTemplate, ServerInfo};
pub use message::Message;
pub use outbound::{Outbound, Spares};

/// Nanoseconds of a second.
pub const SECOND: i64 = 1_000_000_000;
/// Nanoseconds of a millisecond.
pub const MILLISECOND: i64 = 1_000_000;

/// Limits of connections, with NATS's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest argument list of a control line, in bytes.
    pub max_control_line: usize,
    /// Largest message, in bytes.
    pub max_payload: usize,
    /// Most bytes that may wait for one client.
    pub max_pending: usize,
    /// Most subscriptions of a connection; 0 for any number.
    pub max_subscriptions: usize,
    /// Most tokens of a subscription's subject; 0 for any number.
    pub max_subscription_tokens: usize,
    /// Time between two PINGs, in nanoseconds.
    pub ping_interval: i64,
    /// PINGs that may stay unanswered.
    pub ping_max: u32,
    /// Time until the first PING after CONNECT, in nanoseconds, before jitter.
    pub first_ping: i64,
    /// Time a send may take without progress, in nanoseconds.
    pub write_deadline: i64,
    /// Whether those who publish into nearly full outbounds are stalled.
    pub stall: bool,
    /// Whether clients may use headers at all.
    pub headers: bool,
    /// Closed connections that a reactor remembers.
    pub closed_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_control_line: 4096,
            max_payload: 1 << 20,
            max_pending: 64 << 20,
            max_subscriptions: 0,
            max_subscription_tokens: 0,
            ping_interval: 120 * SECOND,
            ping_max: 2,
            first_ping: 2 * SECOND,
            write_deadline: 10 * SECOND,
            stall: true,
            headers: true,
            closed_max: CLOSED_MAX,
        }
    }
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CloseReason {
    ClientClosed,
    AuthenticationFailure,
    SlowConsumerPendingBytes,
    SlowConsumerWriteDeadline,
    WriteError,
    ReadError,
    ParseError,
    StaleConnection,
    ProtocolViolation,
    BadClientProtocolVersion,
    MaxConnectionsExceeded,
    MaxPayloadExceeded,
    MaxControlLineExceeded,
    ServerShutdown,
    NoRespondersRequiresHeaders,
}

impl CloseReason {
    /// The reason as monitoring shows it.
    pub fn text(self) -> &'static str {
        match self {
            CloseReason::ClientClosed => "Client Closed",
            CloseReason::AuthenticationFailure => "Authentication Failure",
            CloseReason::SlowConsumerPendingBytes => "Slow Consumer (Pending Bytes)",
            CloseReason::SlowConsumerWriteDeadline => "Slow Consumer (Write Deadline)",
            CloseReason::WriteError => "Write Error",
            CloseReason::ReadError => "Read Error",
            CloseReason::ParseError => "Parse Error",
            CloseReason::StaleConnection => "Stale Connection",
            CloseReason::ProtocolViolation => "Protocol Violation",
            CloseReason::BadClientProtocolVersion => "Bad Client Protocol Version",
            CloseReason::MaxConnectionsExceeded => "Maximum Connections Exceeded",
            CloseReason::MaxPayloadExceeded => "Maximum Message Payload Exceeded",
            CloseReason::MaxControlLineExceeded => "Maximum Control Line Exceeded",
            CloseReason::ServerShutdown => "Server Shutdown",
            CloseReason::NoRespondersRequiresHeaders => "No Responders Requires Headers",
        }
    }

    /// The `-ERR` text the client gets, if it gets one.
    pub fn error_text(self) -> Option<&'static [u8]> {
        match self {
            CloseReason::AuthenticationFailure => Some(b"Authorization Violation"),
            CloseReason::StaleConnection => Some(b"Stale Connection"),
            CloseReason::BadClientProtocolVersion => Some(b"invalid client protocol"),
            CloseReason::MaxConnectionsExceeded => Some(b"maximum connections exceeded"),
            CloseReason::MaxPayloadExceeded => Some(b"Maximum Payload Violation"),
            CloseReason::MaxControlLineExceeded => Some(b"maximum control line exceeded"),
            CloseReason::NoRespondersRequiresHeaders => {
                Some(b"no responders requires headers support")
            }
            _ => None,
        }
    }
}
