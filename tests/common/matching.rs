//! Comparing what a server sent with what a transcript says.

use super::conn::{Frame, escape, unescape};
use super::pattern::{Vars, json_matches, parse_json, substitute, text_matches};
use serde_json::Value;

/// A line with what may follow it: ` | body`, or ` | header | header || body`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split<'a> {
    /// The control line.
    pub line: &'a str,
    /// The lines of the header block.
    pub headers: Option<Vec<&'a str>>,
    /// The body, escaped.
    pub body: &'a str,
}

/// Takes a line of a transcript apart.
pub fn split(text: &str) -> Split<'_> {
    let double = text.find(" || ").or_else(|| text.strip_suffix(" ||").map(str::len));
    let (left, body) = match (double, text.split_once(" | ")) {
        (Some(at), _) => (&text[..at], text[at + 3..].trim_start()),
        (None, Some((line, body))) => return Split { line, headers: None, body },
        (None, None) => return Split { line: text, headers: None, body: "" },
    };
    let mut pieces = left.split("| ").map(|piece| piece.trim_end_matches(' '));
    let line = pieces.next().unwrap_or_default();
    Split { line, headers: Some(pieces.collect()), body }
}

/// The bytes that a `>` line sends.
pub fn encode(text: &str, vars: &Vars) -> Vec<u8> {
    let text = substitute(text, vars);
    let parts = split(&text);
    let verb = parts.line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
    if verb != "PUB" && verb != "HPUB" {
        return [unescape(&text), b"\r\n".to_vec()].concat();
    }
    let mut payload = Vec::new();
    for header in parts.headers.iter().flatten() {
        payload.extend(unescape(header));
        payload.extend(b"\r\n");
    }
    if parts.headers.is_some() {
        payload.extend(b"\r\n");
    }
    let hdr = payload.len();
    payload.extend(unescape(parts.body));
    let line = parts.line.replace("{hdr}", &hdr.to_string());
    let line = line.replace("{len}", &payload.len().to_string());
    [unescape(&line), b"\r\n".to_vec(), payload, b"\r\n".to_vec()].concat()
}

/// A frame as a transcript writes it.
pub fn show(frame: &Frame) -> String {
    let body = escape(&frame.body);
    match &frame.headers {
        Some(lines) => {
            format!("{} | {} || {body}", frame.line, lines.join(" | ")).trim_end().into()
        }
        None if frame.line.starts_with("MSG ") => match body.as_str() {
            "" => frame.line.clone(),
            body => format!("{} | {body}", frame.line),
        },
        None => frame.line.clone(),
    }
}

/// Whether a frame is what a `<` line says.
pub fn frame_matches(pattern: &str, frame: &Frame, vars: &mut Vars) -> Result<(), String> {
    let want = split(pattern);
    let why = |what: &str| format!("expected {what} {pattern}\n       got {}", show(frame));
    if let Some((verb, json)) = want.line.split_once(' ').filter(|(verb, _)| *verb == "INFO") {
        let have = frame.line.strip_prefix(verb).ok_or_else(|| why("line"))?;
        return body_matches(json, have.trim().as_bytes(), vars);
    }
    if !text_matches(want.line, &frame.line, vars) {
        return Err(why("line"));
    }
    if !headers_match(want.headers.as_deref(), frame.headers.as_deref(), vars) {
        return Err(why("headers"));
    }
    body_matches(want.body, &frame.body, vars).map_err(|e| format!("{}\n       {e}", why("body")))
}

fn headers_match(want: Option<&[&str]>, have: Option<&[String]>, vars: &mut Vars) -> bool {
    let (Some(want), Some(have)) = (want, have) else { return want.is_none() && have.is_none() };
    let open = want.last() == Some(&"...");
    let want = if open { &want[..want.len() - 1] } else { want };
    (want.len() == have.len() || open && want.len() <= have.len())
        && want.iter().zip(have).all(|(want, have)| text_matches(want, have, vars))
}

/// Whether a body is what a transcript says: JSON where it looks like that, else text. `=` before
/// a body means these very bytes.
pub fn body_matches(want: &str, have: &[u8], vars: &mut Vars) -> Result<(), String> {
    let as_json = want.starts_with("{\"") || want.starts_with("{.") || want == "{}";
    if as_json || want.starts_with('[') {
        let want = parse_json(want)?;
        let have: Value = serde_json::from_slice(have)
            .map_err(|_| format!("expected JSON {want}, got {}", escape(have)))?;
        return json_matches(&want, &have, "", vars);
    }
    let want = want.strip_prefix('=').unwrap_or(want);
    match text_matches(want, &escape(have), vars) {
        true => Ok(()),
        false => Err(format!("expected body {want}, got {}", escape(have))),
    }
}

/// The `type` that the answer to an API subject carries.
pub fn api_type(subject: &str) -> Option<String> {
    let verb = subject.strip_prefix("$JS.API.")?;
    let words: Vec<&str> = verb.split('.').collect();
    let name = match words[..] {
        ["INFO"] => "account_info".to_owned(),
        ["DIRECT", ..] | ["CONSUMER", "MSG", ..] => return None,
        ["CONSUMER", "DURABLE", ..] => "consumer_create".to_owned(),
        ["STREAM", "PEER", ..] => "stream_remove_peer".to_owned(),
        ["STREAM", "MSG", verb, ..] => format!("stream_msg_{}", verb.to_lowercase()),
        [kind, "LEADER", ..] => format!("{}_leader_stepdown", kind.to_lowercase()),
        [kind @ ("STREAM" | "CONSUMER"), verb, ..] => {
            format!("{}_{}", kind.to_lowercase(), verb.to_lowercase())
        }
        _ => return None,
    };
    Some(format!("io.nats.jetstream.api.v1.{name}_response"))
}

/// Whether the answer to a request is what a transcript says.
pub fn answer_matches(
    subject: &str,
    want: &str,
    frame: &Frame,
    vars: &mut Vars,
) -> Result<(), String> {
    if want == "|" {
        return frame_matches("MSG {any}", frame, vars);
    }
    if want.starts_with("| ") {
        let any_line = match frame.headers {
            Some(_) => "HMSG {any}",
            None => "MSG {any}",
        };
        return frame_matches(&format!("{any_line} {want}"), frame, vars);
    }
    if let Some(headers) = &frame.headers {
        return Err(format!("expected {want}, got {}", headers.join(" | ")));
    }
    let have: Result<Value, _> = serde_json::from_slice(&frame.body);
    let mut have = match have {
        Ok(have) if want.starts_with(['{', '!', '[']) || want == "ok" => have,
        _ => return body_matches(want, &frame.body, vars),
    };
    if let (Some(kind), Some(members)) = (api_type(subject), have.as_object_mut())
        && members.shift_remove("type") != Some(Value::from(kind.as_str()))
    {
        return Err(format!("expected type {kind}, got {}", escape(&frame.body)));
    }
    if let Some(error) = want.strip_prefix('!') {
        return error_matches(error, &have, vars);
    }
    match want {
        "ok" if have.get("error").is_none() => Ok(()),
        "ok" => Err(format!("expected no error, got {}", have["error"])),
        _ => json_matches(&parse_json(want)?, &have, "", vars),
    }
}

/// `!400 10058 text`
fn error_matches(want: &str, have: &Value, vars: &mut Vars) -> Result<(), String> {
    let mut words = want.splitn(3, ' ');
    let (code, err_code) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let text = words.next().unwrap_or("");
    let error = &have["error"];
    let number = |key: &str| error[key].as_u64();
    let same = number("code") == code.parse().ok()
        && number("err_code") == err_code.parse().ok()
        && text_matches(text, error["description"].as_str().unwrap_or_default(), vars);
    if same { Ok(()) } else { Err(format!("expected error {want}, got {have}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_lengths() {
        let vars = Vars::new();
        assert_eq!(encode("PUB a {len} | hi\\r", &vars), b"PUB a 3\r\nhi\r\r\n");
        assert_eq!(encode("PUB a 0", &vars), b"PUB a 0\r\n\r\n");
        assert_eq!(encode("SUB a | b", &vars), b"SUB a | b\r\n");
        let hpub = encode("HPUB a {hdr} {len} | NATS/1.0 | A: b || hi", &vars);
        assert_eq!(hpub, b"HPUB a 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n");
        let empty = encode("HPUB a {hdr} {len} | NATS/1.0 ||", &vars);
        assert_eq!(empty, b"HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n");
    }
}
