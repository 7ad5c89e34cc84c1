//! The exact header blocks of a consumer's status messages, written into a scratch buffer.

use std::io::Write;

/// Nothing to deliver to a `no_wait` request.
pub const NO_MESSAGES: &[u8] = b"NATS/1.0 404 No Messages\r\n\r\n";
/// Messages are pending, but queued requests will take them.
pub const REQUESTS_PENDING: &[u8] = b"NATS/1.0 408 Requests Pending\r\n\r\n";
/// Too many requests wait.
pub const MAX_WAITING: &[u8] = b"NATS/1.0 409 Exceeded MaxWaiting\r\n\r\n";
/// The consumer or its stream is gone.
pub const CONSUMER_DELETED: &[u8] = b"NATS/1.0 409 Consumer Deleted\r\n\r\n";
/// A pull request to a push consumer.
pub const PUSH_BASED: &[u8] = b"NATS/1.0 409 Consumer is push based\r\n\r\n";
/// Asks the client for a sign of life.
pub const FLOW_CONTROL: &[u8] = b"NATS/1.0 100 FlowControl Request\r\n\r\n";

/// Statuses that end a request and say what was still owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The request expired.
    RequestTimeout,
    /// Nobody listens on the inbox any more.
    InterestExpired,
    /// The next message does not fit into `max_bytes`.
    MaxBytes,
    /// The batch is complete, and bytes remain.
    BatchCompleted,
    /// The server goes away; ask again.
    ServerShutdown,
}

/// Writes a closing status with what is still owed.
pub fn closing(out: &mut Vec<u8>, kind: Closing, messages: i64, bytes: i64) {
    let line = match kind {
        Closing::RequestTimeout => "408 Request Timeout",
        Closing::InterestExpired => "408 Interest Expired",
        Closing::MaxBytes => "409 Message Size Exceeds MaxBytes",
        Closing::BatchCompleted => "409 Batch Completed",
        Closing::ServerShutdown => "409 Server Shutdown",
    };
    out.clear();
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "NATS/1.0 {line}\r\nNats-Pending-Messages: {messages}\r\n\
         Nats-Pending-Bytes: {bytes}\r\n\r\n"
    );
}

/// Writes a heartbeat: the last consumer and stream sequences, and the flow-control subject when
/// stalled on it.
pub fn heartbeat(out: &mut Vec<u8>, consumer_seq: u64, stream_seq: u64, stalled: &[u8]) {
    out.clear();
    let _ = write!(
        out,
        "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: {consumer_seq}\r\n\
         Nats-Last-Stream: {stream_seq}\r\n"
    );
    if !stalled.is_empty() {
        out.extend_from_slice(b"Nats-Consumer-Stalled: ");
        out.extend_from_slice(stalled);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes `NATS/1.0 <code> <text>` as a whole block.
pub fn line(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.clear();
    let _ = write!(out, "NATS/1.0 {text}\r\n\r\n");
}

/// Appends the header block of a delivery without payload: the stored block and `Nats-Msg-Size`.
pub fn headers_only(out: &mut Vec<u8>, stored: &[u8], payload_bytes: u32) {
    match stored.strip_suffix(b"\r\n") {
        Some(rest) => out.extend_from_slice(rest),
        None => out.extend_from_slice(b"NATS/1.0\r\n"),
    }
    let _ = write!(out, "Nats-Msg-Size: {payload_bytes}\r\n\r\n");
}

/// How many bytes [`headers_only`] writes.
pub fn headers_only_bytes(stored_bytes: u32, payload_bytes: u32) -> u32 {
    let digits = payload_bytes.checked_ilog10().unwrap_or(0) + 1;
    let stored = if stored_bytes == 0 { 10 } else { stored_bytes - 2 };
    stored + 15 + digits + 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"old".to_vec();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// Recorded from nats-server 2.15.1.
    #[test]
    fn recorded_blocks() {
        assert_eq!(
            text(|o| closing(o, Closing::RequestTimeout, -5, 0)),
            "NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: -5\r\n\
             Nats-Pending-Bytes: 0\r\n\r\n"
        );
        assert_eq!(
            text(|o| closing(o, Closing::MaxBytes, 5, 10)),
            "NATS/1.0 409 Message Size Exceeds MaxBytes\r\nNats-Pending-Messages: 5\r\n\
             Nats-Pending-Bytes: 10\r\n\r\n"
        );
        assert_eq!(
            text(|o| closing(o, Closing::BatchCompleted, 0, 953)),
            "NATS/1.0 409 Batch Completed\r\nNats-Pending-Messages: 0\r\n\
             Nats-Pending-Bytes: 953\r\n\r\n"
        );
        assert_eq!(
            text(|o| heartbeat(o, 7, 7, b"")),
            "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\nNats-Last-Stream: 7\r\n\r\n"
        );
        assert_eq!(
            text(|o| heartbeat(o, 7, 9, b"$JS.FC.S.C.abcd")),
            "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\nNats-Last-Stream: 9\r\n\
             Nats-Consumer-Stalled: $JS.FC.S.C.abcd\r\n\r\n"
        );
        assert_eq!(
            text(|o| line(o, format_args!("409 Exceeded MaxRequestBatch of {}", 5))),
            "NATS/1.0 409 Exceeded MaxRequestBatch of 5\r\n\r\n"
        );
    }

    #[test]
    fn headers_only_blocks() {
        for (stored, bytes, want) in [
            (&b""[..], 5, "NATS/1.0\r\nNats-Msg-Size: 5\r\n\r\n"),
            (b"NATS/1.0\r\nA: b\r\n\r\n", 0, "NATS/1.0\r\nA: b\r\nNats-Msg-Size: 0\r\n\r\n"),
            (b"NATS/1.0\r\nA: b\r\n\r\n", 1024, "NATS/1.0\r\nA: b\r\nNats-Msg-Size: 1024\r\n\r\n"),
        ] {
            let mut out = Vec::new();
            headers_only(&mut out, stored, bytes);
            assert_eq!(String::from_utf8_lossy(&out), want);
            assert_eq!(headers_only_bytes(stored.len() as u32, bytes) as usize, out.len());
        }
    }
}
