//! What clients write into acknowledgements.

use super::types::{NakOptions, PullRequest};

/// What an acknowledgement's payload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckKind {
    /// Done.
    Ack,
    /// Deliver again, after so many nanoseconds if given.
    Nak(Option<i64>),
    /// Still at work: start the wait anew.
    Progress,
    /// Do not deliver again.
    Term,
    /// Done, and the rest is a pull request, or what is wrong with it.
    Next(Box<Result<PullRequest, String>>),
    /// Nothing known. Answered, and otherwise ignored.
    Unknown,
}

impl AckKind {
    /// Reads an acknowledgement's payload.
    pub fn parse(payload: &[u8]) -> Self {
        if matches!(payload, b"" | b"+ACK" | b"+OK") {
            AckKind::Ack
        } else if let Some(rest) = payload.strip_prefix(b"+NXT") {
            AckKind::Next(Box::new(PullRequest::decode(rest)))
        } else if let Some(rest) = payload.strip_prefix(b"-NAK") {
            AckKind::Nak(nak_delay(rest.trim_ascii()))
        } else if payload == b"+WPI" {
            AckKind::Progress
        } else if payload.starts_with(b"+TERM") {
            AckKind::Term
        } else {
            AckKind::Unknown
        }
    }
}

/// The delay of a `-NAK`: a duration, or an object with `delay` in nanoseconds. What cannot be read
/// is no delay.
fn nak_delay(argument: &[u8]) -> Option<i64> {
    if argument.is_empty() {
        return None;
    }
    if argument[0] != b'{' {
        return parse_duration(argument);
    }
    NakOptions::decode(argument).ok().map(|options| options.delay)
}

/// Reads a duration such as `1h2m3.5s`, `-10ms` or `0`, in nanoseconds.
fn parse_duration(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|&n| n > 0)?;
        let (digits, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        total += scaled(digits, unit_ns(unit)?)?;
        if total > i64::MAX as i128 {
            return None;
        }
        rest = after;
    }
    Some(if negative { -(total as i64) } else { total as i64 })
}

fn unit_ns(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn scaled(digits: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() > 19 || fraction.contains('.') {
        return None;
    }
    let mut total: i128 = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? * unit };
    let mut part = unit;
    for digit in fraction.bytes() {
        part /= 10;
        total += part * i128::from(digit - b'0');
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(batch: i64, expires: i64, max_bytes: i64, no_wait: bool, hb: i64) -> PullRequest {
        let request = PullRequest { batch, expires, max_bytes, no_wait, ..PullRequest::default() };
        PullRequest { idle_heartbeat: hb, ..request }
    }

    /// Bodies and answers recorded from nats-server 2.15.1.
    #[test]
    fn recorded_bodies() {
        for (body, want) in [
            ("", pull(1, 0, 0, false, 0)),
            ("abc", pull(1, 0, 0, false, 0)),
            ("\"x\"", pull(1, 0, 0, false, 0)),
            ("[1]", pull(1, 0, 0, false, 0)),
            (" 3 ", pull(3, 0, 0, false, 0)),
            ("-4", pull(-4, 0, 0, false, 0)),
            ("{\"expires\":5}", pull(0, 5, 0, false, 0)),
            ("{\"Batch\":2,\"EXPIRES\":5}", pull(2, 5, 0, false, 0)),
            ("{\"batch\":5,\"batch\":2}", pull(2, 0, 0, false, 0)),
            ("{\"batch\":null,\"no_wait\":true}", pull(0, 0, 0, true, 0)),
            ("   {\"no_wait\":true}  ", pull(0, 0, 0, true, 0)),
            ("{\"batch\":2,\"group\":\"A\",\"max_bytes\":-3}", pull(2, 0, -3, false, 0)),
            ("{\"x\":[1,{\"y\":[]}],\"z\":{\"batch\":9}}", pull(0, 0, 0, false, 0)),
            ("{\"expires\":10,\"idle_heartbeat\":5}", pull(0, 10, 0, false, 5)),
        ] {
            let read = PullRequest::decode(body.as_bytes());
            let read = read.map(|r| PullRequest { group: String::new(), ..r });
            assert_eq!(read, Ok(want), "{body}");
        }
    }

    #[test]
    fn recorded_errors() {
        for (body, want) in [
            ("{", "unexpected end of JSON input"),
            ("{a}", "invalid character 'a' looking for beginning of object key string"),
            (
                "{\"batch\":\"x\"}",
                "json: cannot unmarshal string into Go struct field .batch of type int",
            ),
            (
                "{\"batch\":1.5}",
                "json: cannot unmarshal number 1.5 into Go struct field .batch of type int",
            ),
            ("{\"batch\":1}x", "invalid character 'x' after top-level value"),
            ("{\"batch\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{\"batch\":1 \"a\":2}", "invalid character '\"' after object key:value pair"),
            (
                "{\"no_wait\":1}",
                "json: cannot unmarshal number into Go struct field .no_wait of type bool",
            ),
            (
                "{\"expires\":\"5s\"}",
                "json: cannot unmarshal string into Go struct field .expires of type time.Duration",
            ),
            ("{\"batch\":nul}", "invalid character '}' in literal null (expecting 'l')"),
            ("{\"a\":\"\x01\"}", "invalid character '\\x01' in string"),
            ("{\"a\":\"\\q\"}", "invalid escape sequence `\\q` in string"),
            ("{\"a\":01}", "invalid character '1' after object key:value pair"),
            ("{\"a\":-}", "invalid character '}' in numeric literal"),
            ("{\"expires\":1000,\"idle_heartbeat\":600}", "heartbeat value too large"),
            ("{\"idle_heartbeat\":600}", "heartbeat value too large"),
            ("{\"min_pending\":3}", "Not a Overflow Priority consumer"),
            ("{\"priority\":12}", "Priority must be between 0 and 9"),
            ("{\"id\":\"x\"}", "Not a Pinned Client Priority consumer"),
            (
                "{\"batch\":{}}",
                "json: cannot unmarshal object into Go struct field .batch of type int",
            ),
            (
                "{\"batch\":\"x\",\"no_wait\":\"y\"}",
                "json: cannot unmarshal string into Go struct field .batch of type int",
            ),
        ] {
            let read = PullRequest::decode(body.as_bytes());
            let read = read.and_then(|r| r.check_priority().map_err(str::to_owned));
            assert_eq!(read, Err(want.to_owned()), "{body}");
        }
    }

    /// Whatever a client sends is an answer or an error, in bounded stack.
    #[test]
    fn any_body_is_read() {
        let deep = "{\"a\":".repeat(10_000);
        assert_eq!(PullRequest::decode(deep.as_bytes()), Err("exceeded max depth".to_owned()));
        let good =
            br#"{"batch":5,"x":[1,-2.5e3,"\u00e9\"",{"y":null}],"no_wait":true,"expires":10}"#;
        assert!(PullRequest::decode(good).is_ok());
        for at in 0..good.len() {
            let _ = PullRequest::decode(&good[..at]);
            for b in 0..=255 {
                let mut body = good.to_vec();
                body[at] = b;
                let _ = PullRequest::decode(&body);
                body.insert(0, b' ');
                let _ = AckKind::parse(&body);
            }
        }
    }

    #[test]
    fn ack_payloads() {
        for (payload, want) in [
            ("", AckKind::Ack),
            ("+ACK", AckKind::Ack),
            ("+OK", AckKind::Ack),
            ("+ACKx", AckKind::Unknown),
            ("-NAK", AckKind::Nak(None)),
            ("-NAKfoo", AckKind::Nak(None)),
            ("-NAK 10s", AckKind::Nak(Some(10_000_000_000))),
            ("-NAK {\"delay\": 100}", AckKind::Nak(Some(100))),
            ("-NAK {}", AckKind::Nak(Some(0))),
            ("-NAK {\"delay\":\"1s\"}", AckKind::Nak(None)),
            ("+WPI", AckKind::Progress),
            ("+WPIx", AckKind::Unknown),
            ("+TERM", AckKind::Term),
            ("+TERM why", AckKind::Term),
            ("+NXT", AckKind::Next(Box::new(Ok(pull(1, 0, 0, false, 0))))),
            ("+NXT 2", AckKind::Next(Box::new(Ok(pull(2, 0, 0, false, 0))))),
            ("+NXT {", AckKind::Next(Box::new(Err("unexpected end of JSON input".to_owned())))),
        ] {
            assert_eq!(AckKind::parse(payload.as_bytes()), want, "{payload}");
        }
    }

    #[test]
    fn durations() {
        for (text, want) in [
            ("10s", Some(10_000_000_000)),
            ("1h2m3.5s", Some(3_723_500_000_000)),
            ("1.5ms", Some(1_500_000)),
            (".5s", Some(500_000_000)),
            ("0", Some(0)),
            ("-1s", Some(-1_000_000_000)),
            ("", None),
            ("5", None),
            ("5x", None),
            (".s", None),
            ("99999999999999999999s", None),
            ("9999999h", None),
        ] {
            assert_eq!(parse_duration(text.as_bytes()), want, "{text}");
        }
    }
}
