//! The digest of a configuration: SHA-256 of its JSON, byte for byte the JSON that nats-server
//! makes.

use super::value::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// `sha256:<hex>` of a parsed configuration.
///
/// The text hashed is the map as JSON with sorted keys, no spaces, `<`, `>` and `&` escaped, and a
/// newline at the end.
pub fn digest(map: &Map) -> String {
    let mut json = String::new();
    write_map(&mut json, map);
    json.push('\n');
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(json.as_bytes()) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn write_map(out: &mut String, map: &Map) {
    out.push('{');
    for (i, (key, node)) in map.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_string(out, key);
        out.push(':');
        write_value(out, &node.value);
    }
    out.push('}');
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::String(text) | Value::Datetime(text) => write_string(out, text),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Int(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Float(number) => write_float(out, *number),
        Value::Array(items) => {
            out.push('[');
            for (i, node) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, &node.value);
            }
            out.push(']');
        }
        Value::Map(map) => write_map(out, map),
    }
}

/// The shortest digits that read back the same, with an exponent only for the very small and the
/// very large.
fn write_float(out: &mut String, number: f64) {
    let size = number.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        let _ = write!(out, "{number}");
        return;
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => {
            let _ = write!(out, "{digits}e+{exponent}");
        }
        _ => out.push_str(&text),
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}
