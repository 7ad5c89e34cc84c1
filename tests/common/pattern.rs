//! What a transcript expects: texts with holes, and JSON with holes.
//!
//! A hole is `{kind}`, `{name=kind}` (which keeps what it matched) or `{name}` (which must match
//! what was kept). Kinds: `int`, `word` (no blank), `any`, `time` (RFC 3339, not the zero time),
//! `len` and `hdr` (byte counts), `absent` (a JSON member that must not be there).

use serde_json::Value;
use std::collections::BTreeMap;

/// What holes have kept so far.
pub type Vars = BTreeMap<String, String>;

const KINDS: [&str; 7] = ["int", "word", "any", "time", "len", "hdr", "absent"];

enum Part<'a> {
    Text(&'a str),
    Hole { name: &'a str, kind: &'a str },
}

/// Length of the hole at the start of `text`, braces included, or 0.
fn hole_len(text: &str) -> usize {
    let Some(rest) = text.strip_prefix('{') else { return 0 };
    let Some(close) = rest.find('}') else { return 0 };
    let inner = &rest[..close];
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '=';
    let starts = inner.starts_with(|c: char| c.is_ascii_lowercase());
    if starts && inner.chars().all(plain) { close + 2 } else { 0 }
}

fn parts(pattern: &str) -> Vec<Part<'_>> {
    let (mut out, mut text_from, mut at) = (Vec::new(), 0, 0);
    while at < pattern.len() {
        let len = if pattern.is_char_boundary(at) { hole_len(&pattern[at..]) } else { 0 };
        if len == 0 {
            at += 1;
            continue;
        }
        out.push(Part::Text(&pattern[text_from..at]));
        let inner = &pattern[at + 1..at + len - 1];
        out.push(match inner.split_once('=') {
            Some((name, kind)) => Part::Hole { name, kind },
            None if KINDS.contains(&inner) => Part::Hole { name: "", kind: inner },
            None => Part::Hole { name: inner, kind: "" },
        });
        at += len;
        text_from = at;
    }
    out.push(Part::Text(&pattern[text_from..]));
    out
}

/// The number in `{x255}`.
fn fill(hole: &str) -> Option<usize> {
    hole.strip_prefix("{x")?.strip_suffix('}')?.parse().ok()
}

/// Replaces each `{x<n>}` by so many letters, and each `{name}` that is known by its value.
/// Leaves every other hole as it is.
pub fn substitute(text: &str, vars: &Vars) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let len = if text.is_char_boundary(at) { hole_len(&text[at..]) } else { 0 };
        match vars.get(text.get(at + 1..(at + len).saturating_sub(1)).unwrap_or_default()) {
            Some(value) if len > 0 => {
                out.push_str(value);
                at += len;
            }
            _ if len > 0 && fill(&text[at..at + len]).is_some() => {
                out.push_str(&"x".repeat(fill(&text[at..at + len]).unwrap_or(0)));
                at += len;
            }
            _ => {
                let next = text[at..].chars().next().map_or(1, char::len_utf8);
                out.push_str(&text[at..at + next]);
                at += next;
            }
        }
    }
    out
}

/// Whether `actual` is what `pattern` says; what named holes matched goes to `vars`.
pub fn text_matches(pattern: &str, actual: &str, vars: &mut Vars) -> bool {
    let mut kept = Vec::new();
    if !step(&parts(pattern), actual, vars, &mut kept) {
        return false;
    }
    vars.extend(kept);
    true
}

fn step(parts: &[Part], actual: &str, vars: &Vars, kept: &mut Vec<(String, String)>) -> bool {
    match parts.first() {
        None => actual.is_empty(),
        Some(Part::Text(text)) => match actual.strip_prefix(text) {
            Some(rest) => step(&parts[1..], rest, vars, kept),
            None => false,
        },
        Some(Part::Hole { name, kind: "" }) => match vars.get(*name) {
            Some(value) => match actual.strip_prefix(value.as_str()) {
                Some(rest) => step(&parts[1..], rest, vars, kept),
                None => false,
            },
            None => false,
        },
        Some(Part::Hole { name, kind }) => {
            let ends = (0..=actual.len()).filter(|&i| actual.is_char_boundary(i));
            for end in ends {
                if is_kind(kind, &actual[..end]) && step(&parts[1..], &actual[end..], vars, kept) {
                    if !name.is_empty() {
                        kept.push(((*name).to_owned(), actual[..end].to_owned()));
                    }
                    return true;
                }
            }
            false
        }
    }
}

fn is_kind(kind: &str, text: &str) -> bool {
    match kind {
        "int" | "len" | "hdr" => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
        }
        "word" => !text.is_empty() && !text.contains([' ', '\t']),
        "time" => is_time(text),
        _ => true,
    }
}

/// RFC 3339 in UTC, and not Go's zero time.
pub fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = bytes.len() >= 20 && bytes.len() <= 30 && bytes[4] == b'-' && bytes[10] == b'T';
    let tail = text.ends_with('Z') && !text.starts_with("0001-");
    shape && tail && text.chars().all(|c| c.is_ascii_digit() || "-:.TZ".contains(c))
}

/// Reads a JSON pattern: JSON, and outside its strings `...` (other members may follow) and holes.
pub fn parse_json(pattern: &str) -> Result<Value, String> {
    let mut text = String::with_capacity(pattern.len() + 16);
    let (mut at, mut quoted) = (0, false);
    while at < pattern.len() {
        let rest = &pattern[at..];
        let hole = if quoted { 0 } else { hole_len(rest) };
        if hole > 0 {
            text.push_str(&format!("\"{}\"", &rest[..hole]));
            at += hole;
        } else if !quoted && rest.starts_with("...") {
            text.push_str("\"...\":0");
            at += 3;
        } else {
            let c = rest.chars().next().unwrap_or_default();
            if c == '\\' && quoted {
                text.push_str(&rest[..2]);
                at += 2;
                continue;
            }
            quoted ^= c == '"';
            text.push(c);
            at += c.len_utf8();
        }
    }
    serde_json::from_str(&text).map_err(|e| format!("bad JSON pattern {text}: {e}"))
}

/// Compares JSON; members may come in any order. `Err` says where and how they differ.
pub fn json_matches(want: &Value, have: &Value, at: &str, vars: &mut Vars) -> Result<(), String> {
    let differ = || Err(format!("{at}: expected {want}, got {have}"));
    match (want, have) {
        (Value::Object(want), Value::Object(have)) => {
            for (key, value) in want.iter().filter(|(key, _)| *key != "...") {
                let at = format!("{at}.{key}");
                match have.get(key) {
                    Some(_) if value == "{absent}" => {
                        return Err(format!("{at}: should be absent"));
                    }
                    Some(found) => json_matches(value, found, &at, vars)?,
                    None if value == "{absent}" => {}
                    None => return Err(format!("{at}: missing, expected {value}")),
                }
            }
            let extra = have.keys().find(|key| !want.contains_key(*key));
            match extra.filter(|_| !want.contains_key("...")) {
                Some(key) => Err(format!("{at}.{key}: not expected, got {}", have[key])),
                None => Ok(()),
            }
        }
        (Value::Array(want), Value::Array(have)) if want.len() == have.len() => {
            want.iter().zip(have).enumerate().try_for_each(|(i, (want, have))| {
                json_matches(want, have, &format!("{at}[{i}]"), vars)
            })
        }
        (Value::String(text), _) if hole_len(text) == text.len() && !text.is_empty() => {
            let kind_is_any = text == "{any}" || text.ends_with("=any}");
            let scalar = match have {
                Value::String(s) => s.clone(),
                other => other.to_string(),
            };
            let wants_number = text == "{int}" || text.ends_with("=int}");
            let fits = !wants_number || have.is_number();
            match kind_is_any || (fits && !have.is_object() && !have.is_array()) {
                true if text_matches(text, &scalar, vars) => Ok(()),
                _ => differ(),
            }
        }
        (Value::String(text), Value::String(actual)) if text.contains('{') => {
            if text_matches(text, actual, vars) { Ok(()) } else { differ() }
        }
        _ if want == have => Ok(()),
        _ => differ(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let mut vars = Vars::new();
        assert!(text_matches("MSG {s=word} 1 {len}", "MSG a.b 1 22", &mut vars));
        assert_eq!(vars["s"], "a.b");
        assert!(text_matches("x {s}", "x a.b", &mut vars));
        assert!(!text_matches("x {s}", "x a.c", &mut vars));
        assert!(!text_matches("n {int}", "n a", &mut vars));
        assert!(text_matches("-ERR '{any}'", "-ERR 'it's'", &mut vars));
        assert_eq!(substitute("{s}-{t}-{\"a\":1}", &vars), "a.b-{t}-{\"a\":1}");
    }

    #[test]
    fn json() {
        let cases = [
            (r#"{"a":{int},...}"#, r#"{"b":2,"a":1}"#, true),
            (r#"{"a":{int}}"#, r#"{"b":2,"a":1}"#, false),
            (r#"{"a":{int}}"#, r#"{"a":"1"}"#, false),
            (r#"{"a":{absent},...}"#, r#"{"b":2}"#, true),
            (r#"{"a":{absent},...}"#, r#"{"a":2}"#, false),
            (r#"{"t":{time}}"#, r#"{"t":"2026-01-01T00:00:00.5Z"}"#, true),
            (r#"{"t":{time}}"#, r#"{"t":"0001-01-01T00:00:00Z"}"#, false),
            (r#"{"t":"no {int}"}"#, r#"{"t":"no 5"}"#, true),
            (r#"{"l":["a","b"]}"#, r#"{"l":["b","a"]}"#, false),
            (r#"{"l":[1]}"#, r#"{"l":[1,2]}"#, false),
            (r#"{"s":"a \"...\" b"}"#, r#"{"s":"a \"...\" b"}"#, true),
        ];
        for (want, have, fits) in cases {
            let want = parse_json(want).unwrap();
            let have = serde_json::from_str(have).unwrap();
            let result = json_matches(&want, &have, "", &mut Vars::new());
            assert_eq!(result.is_ok(), fits, "{want} {have} {result:?}");
        }
    }
}
