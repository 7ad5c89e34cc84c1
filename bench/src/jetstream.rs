//! The few requests of the JetStream API that the scenarios need, and what its answers mean.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    args::{Storage, StreamArgs},
    conn::Conn,
    run::Errors,
    wire::Msg,
};

/// Makes a stream anew: one of the same name is deleted first.
pub fn create_stream(
    conn: &mut Conn,
    name: &str,
    subjects: &[String],
    args: &StreamArgs,
) -> Result<()> {
    // Most often it is not there, which is an error that does not matter here.
    let _ = conn.request_json(&format!("$JS.API.STREAM.DELETE.{name}"), &Value::Null);
    let storage = if args.storage == Storage::Memory { "memory" } else { "file" };
    let config = json!({
        "name": name,
        "subjects": subjects,
        "retention": "limits",
        "discard": "old",
        "storage": storage,
        "num_replicas": args.replicas,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msg_size": -1,
        "max_msgs_per_subject": -1,
        "max_age": 0,
        "duplicate_window": 120_000_000_000_u64,
    });
    conn.request_json(&format!("$JS.API.STREAM.CREATE.{name}"), &config)
        .with_context(|| format!("cannot create stream {name}"))?;
    Ok(())
}

/// Deletes a stream; large ones may take a while.
pub fn delete_stream(conn: &mut Conn, name: &str) -> Result<()> {
    let subject = format!("$JS.API.STREAM.DELETE.{name}");
    conn.request_json_within(&subject, &Value::Null, Duration::from_secs(120))?;
    Ok(())
}

/// How many messages a stream holds.
pub fn stream_messages(conn: &mut Conn, name: &str) -> Result<u64> {
    let info = conn.request_json(&format!("$JS.API.STREAM.INFO.{name}"), &Value::Null)?;
    info["state"]["messages"].as_u64().context("stream info without a count")
}

/// Whether the answer to a publish is an acknowledgement; a refusal is counted.
#[inline]
pub fn is_acknowledged(msg: &Msg<'_>, errors: &mut Errors) -> bool {
    // The key that comes first tells, and only refusals are taken apart.
    if msg.header.is_empty() && msg.payload.starts_with(b"{\"stream\":") {
        return true;
    }
    refusal(msg, errors)
}

#[cold]
fn refusal(msg: &Msg<'_>, errors: &mut Errors) -> bool {
    if let Some((code, text)) = msg.status() {
        let text = String::from_utf8_lossy(text);
        errors.add(format!("status {code} {text}").trim_end());
        return false;
    }
    match serde_json::from_slice::<Value>(msg.payload) {
        Ok(answer) if answer.get("error").is_none() && answer.get("seq").is_some() => true,
        Ok(answer) => {
            let error = &answer["error"];
            let text = error["description"].as_str().unwrap_or("no description");
            errors.add(&format!("{} / {}: {text}", error["code"], error["err_code"]));
            false
        }
        Err(_) => {
            errors.add("an answer that is no JSON");
            false
        }
    }
}

/// The stream sequence and the consumer sequence in a delivery's reply subject
/// (`$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`).
#[inline]
pub fn delivery_sequences(reply: &[u8]) -> Option<(u64, u64)> {
    let mut rest = reply;
    let mut take = || {
        let dot = memchr::memrchr(b'.', rest)?;
        let field = &rest[dot + 1..];
        rest = &rest[..dot];
        Some(field)
    };
    let (_pending, _time) = (take()?, take()?);
    let consumer = crate::wire::decimal(take()?)?;
    let stream = crate::wire::decimal(take()?)?;
    Some((stream as u64, consumer as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer<'a>(header: &'a [u8], payload: &'a [u8]) -> Msg<'a> {
        Msg { subject: b"r", sid: 1, reply: b"", header, payload }
    }

    #[test]
    fn acknowledgements_and_refusals() {
        let mut errors = Errors::default();
        assert!(is_acknowledged(&answer(b"", br#"{"stream":"S","seq":7}"#), &mut errors));
        assert!(is_acknowledged(&answer(b"", br#"{"seq":7,"stream":"S"}"#), &mut errors));
        assert_eq!(errors.total(), 0);
        let refused =
            br#"{"error":{"code":429,"err_code":10167,"description":"too many"},"seq":0}"#;
        assert!(!is_acknowledged(&answer(b"", refused), &mut errors));
        assert!(!is_acknowledged(&answer(b"NATS/1.0 503\r\n\r\n", b""), &mut errors));
        assert!(!is_acknowledged(&answer(b"", b"what"), &mut errors));
        let texts: Vec<_> = errors.0.keys().map(String::as_str).collect();
        assert_eq!(texts, ["429 / 10167: too many", "an answer that is no JSON", "status 503"]);
    }

    #[test]
    fn sequences_of_a_delivery() {
        let reply = b"$JS.ACK.bench.cb1.1.12345.678.1763865600123456789.42";
        assert_eq!(delivery_sequences(reply), Some((12_345, 678)));
        let longer = b"$JS.ACK._.abcdefgh.bench.cb1.1.5.6.1763865600123456789.0";
        assert_eq!(delivery_sequences(longer), Some((5, 6)));
        assert_eq!(delivery_sequences(b"_INBOX.a.b"), None);
    }
}
