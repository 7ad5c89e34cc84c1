//! PubAcks: written by hand into a buffer, without allocation but for the buffer's own growth.

use crate::api::error::ApiError;
use crate::api::json::{write_string, write_u64};

/// The parts of a stream's PubAcks that never change.
#[derive(Clone, Debug)]
pub struct AckTemplate {
    /// `{"stream":"S","seq":`, with the domain if there is one.
    success: Vec<u8>,
    /// `,"stream":"S","seq":0}`
    failure_tail: Vec<u8>,
}

impl AckTemplate {
    /// For a stream and JetStream's domain (empty for none).
    pub fn new(stream: &str, domain: &str) -> Self {
        let mut success = b"{\"stream\":".to_vec();
        write_string(&mut success, stream);
        let mut failure_tail = b",".to_vec();
        failure_tail.extend_from_slice(&success[1..]);
        failure_tail.extend_from_slice(b",\"seq\":0}");
        if !domain.is_empty() {
            success.extend_from_slice(b",\"domain\":");
            write_string(&mut success, domain);
        }
        success.extend_from_slice(b",\"seq\":");
        AckTemplate { success, failure_tail }
    }

    /// Appends the PubAck of a stored message.
    pub fn write_stored(&self, out: &mut Vec<u8>, seq: u64) {
        out.extend_from_slice(&self.success);
        write_u64(out, seq);
        out.push(b'}');
    }

    /// Appends the PubAck of a message that was stored before, as `seq`.
    pub fn write_duplicate(&self, out: &mut Vec<u8>, seq: u64) {
        out.extend_from_slice(&self.success);
        write_u64(out, seq);
        out.extend_from_slice(b",\"duplicate\": true}");
    }

    /// Appends the PubAck of a refused message.
    pub fn write_refused(&self, out: &mut Vec<u8>, error: &ApiError) {
        out.extend_from_slice(b"{\"error\":");
        error.write_json(out);
        out.extend_from_slice(&self.failure_tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error::kinds;

    /// Captured from nats-server 2.15.1.
    #[test]
    fn bytes() {
        let ack = AckTemplate::new("H", "");
        let with_domain = AckTemplate::new("H", "D");
        let error = kinds::WRONG_LAST_SEQUENCE.with(9);
        for (write, want) in [
            (
                Box::new(|out: &mut Vec<u8>| ack.write_stored(out, 1)) as Box<dyn Fn(&mut Vec<u8>)>,
                r#"{"stream":"H","seq":1}"#,
            ),
            (
                Box::new(|out| ack.write_duplicate(out, 1)),
                r#"{"stream":"H","seq":1,"duplicate": true}"#,
            ),
            (
                Box::new(|out| with_domain.write_stored(out, 18_446_744_073_709_551_615)),
                r#"{"stream":"H","domain":"D","seq":18446744073709551615}"#,
            ),
            (
                Box::new(|out| with_domain.write_refused(out, &error)),
                concat!(
                    r#"{"error":{"code":400,"err_code":10071,"description":"wrong last "#,
                    r#"sequence: 9"},"stream":"H","seq":0}"#
                ),
            ),
        ] {
            let mut out = Vec::new();
            write(&mut out);
            assert_eq!(String::from_utf8(out).expect("ascii"), want);
        }
    }
}
