//! Writing down what a server answers, with holes for what changes from run to run.

use super::conn::Frame;
use super::matching::{api_type, show};
use super::pattern::is_time;
use serde_json::{Map, Value};

/// Members whose values are never the same twice.
const VOLATILE: [&str; 15] = [
    "server_id",
    "server_name",
    "git_commit",
    "go",
    "xkey",
    "client_id",
    "port",
    "leader",
    "_nats.ver",
    "_nats.level",
    "version",
    "level",
    "host",
    "build",
    "api_lvl",
];

/// Where a written line is broken.
const WIDTH: usize = 100;

/// A frame as a `<` line.
pub fn frame_line(conn: &str, frame: &Frame) -> String {
    if let Some(json) = frame.line.strip_prefix("INFO ") {
        return wrap(&format!("{conn}< INFO "), &json_text(json.as_bytes(), None, false));
    }
    let mut shown = show(&Frame { body: Vec::new(), ..frame.clone() });
    let json = json_text(&frame.body, None, false);
    if frame.body.is_empty() {
        return format!("{conn}< {}", holes(&shown));
    }
    if json.is_empty() {
        return format!("{conn}< {}", holes(&show(frame)));
    }
    let count = frame.body.len().to_string();
    shown = shown.trim_end_matches(" | ").trim_end_matches(&count).to_owned() + "{len}";
    wrap(&format!("{conn}< {} | ", holes(&shown)), &json)
}

/// The answer to a request, as it stands after `=>`; a short one leaves out the configuration.
pub fn answer(subject: &str, frame: &Frame, short: bool) -> String {
    let json = json_text(&frame.body, api_type(subject).as_deref(), short);
    if frame.headers.is_some() || json.is_empty() {
        let shown = show(frame);
        let rest = shown.find(" | ").map_or("|", |at| &shown[at + 1..]);
        return holes(rest);
    }
    let value: Value = serde_json::from_slice(&frame.body).unwrap_or_default();
    if let Some(error) = value.get("error").filter(|_| api_type(subject).is_some()) {
        let text = error["description"].as_str().unwrap_or_default();
        return format!("!{} {} {text}", error["code"], error["err_code"]);
    }
    wrap("", &json)
}

/// Times and timestamps of a text as holes.
fn holes(text: &str) -> String {
    let stamp = |part: &str| part.len() == 19 && part.bytes().all(|b| b.is_ascii_digit());
    let words = text.split(' ').map(|word| {
        let parts = word.split('.').map(|part| if stamp(part) { "{int}" } else { part });
        if is_time(word) { "{time}".to_owned() } else { parts.collect::<Vec<_>>().join(".") }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// JSON with holes, or nothing where the bytes are not an object.
fn json_text(bytes: &[u8], kind: Option<&str>, short: bool) -> String {
    let Ok(Value::Object(mut members)) = serde_json::from_slice::<Value>(bytes) else {
        return String::new();
    };
    if kind.is_some() && members.get("type").and_then(Value::as_str) == kind {
        members.shift_remove("type");
    }
    volatile(&mut members);
    if short && members.contains_key("config") {
        members.insert("config".into(), Value::from("{...}"));
    }
    let mut text = Value::Object(members).to_string();
    for kind in ["any", "int", "time", "..."] {
        text = text.replace(&format!("\"{{{kind}}}\""), &format!("{{{kind}}}"));
    }
    text
}

fn volatile(members: &mut Map<String, Value>) {
    for (key, value) in members.iter_mut() {
        match value {
            _ if VOLATILE.contains(&key.as_str()) => *value = Value::from("{any}"),
            Value::String(text) if is_time(text) => *value = Value::from("{time}"),
            Value::Object(inner) => volatile(inner),
            Value::Array(list) => {
                list.iter_mut().filter_map(Value::as_object_mut).for_each(volatile);
            }
            _ => {}
        }
    }
}

/// Breaks a long line between members of its JSON.
fn wrap(head: &str, json: &str) -> String {
    let (mut out, mut line) = (String::new(), head.to_owned());
    let pieces: Vec<&str> = json.split_inclusive(",\"").collect();
    let mut carry = "";
    for piece in pieces {
        let ends_short = piece.ends_with(",\"");
        let body = if ends_short { &piece[..piece.len() - 1] } else { piece };
        if line.len() + carry.len() + body.len() > WIDTH && line.trim() != "" && line != head {
            out.push_str(&line);
            out.push_str("\n ");
            line.clear();
        }
        line.push_str(carry);
        line.push_str(body);
        carry = if ends_short { "\"" } else { "" };
    }
    out + &line
}
