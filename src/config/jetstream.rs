//! The `jetstream` key: a word, a flag or a block.

use super::draft::{
    Draft, Findings, Read, boolean, duration, integer, store_dir, string, unknown, unsupported,
};
use super::keys;
use super::units::parse_duration;
use super::value::{Map, Node, Value};

pub(super) fn read(node: &Node, draft: &mut Draft, found: &mut Findings) -> Read<()> {
    match &node.value {
        Value::Bool(flag) => draft.jetstream = Some(*flag),
        Value::String(word) => match word.to_lowercase().as_str() {
            "enabled" | "enable" => draft.jetstream = Some(true),
            "disabled" | "disable" => draft.jetstream = Some(false),
            _ => {
                let text =
                    format!("Expected 'enabled' or 'disabled' for string value, got '{word}'");
                found.error(&node.at, text);
            }
        },
        Value::Map(map) => return block(map, draft, found),
        other => {
            let text = format!(
                "Expected map, bool or string to define JetStream, got {}",
                other.go_type()
            );
            found.error(&node.at, text);
        }
    }
    Ok(())
}

fn block(map: &Map, draft: &mut Draft, found: &mut Findings) -> Read<()> {
    let mut enabled = true;
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "enabled" | "enable" => enabled = boolean(&node.value)?,
            "strict" => strict(node, draft, found),
            "store_dir" | "storedir" => store_dir(node, draft, found)?,
            "sync" | "sync_interval" => {
                let word = if let Value::String(word) = &node.value { word.as_str() } else { "" };
                if word.eq_ignore_ascii_case("always") {
                    draft.sync_always = true;
                } else {
                    draft.sync_interval = duration(&key.to_lowercase(), node, found)?;
                }
            }
            "max_memory_store" | "max_mem_store" | "max_mem" => {
                draft.memory_max = size("max_mem_store", node, found);
            }
            "max_file_store" | "max_file" => {
                draft.store_max = size("max_file_store", node, found);
            }
            "limits" => limits(node, draft, found)?,
            "request_queue_limit" => {
                if let Some(limit) = queue_limit("request_queue_limit", node, found) {
                    draft.request_queue_limit = limit;
                }
            }
            key if idle(key, node, found)? => {}
            lower => match keys::refused(keys::JETSTREAM, lower) {
                Some(off) if keys::asks_for_nothing(off, &node.value) => {}
                Some(_) => unsupported(key, node, found),
                None => unknown(key, node, found),
            },
        }
    }
    draft.jetstream = Some(enabled);
    Ok(())
}

/// Keys that tune what a server of one node does not do, or name what files are called. Their
/// values are looked at and not used.
fn idle(key: &str, node: &Node, found: &mut Findings) -> Read<bool> {
    let bounds = match key {
        "extension_hint" | "unique_tag" => return string(&node.value).map(|_| true),
        "meta_compact_sync" => return boolean(&node.value).map(|_| true),
        "max_outstanding_catchup" | "max_buffered_size" | "meta_compact_size" => {
            size(key, node, found);
            return Ok(true);
        }
        "max_buffered_msgs" | "info_queue_limit" => {
            queue_limit(key, node, found);
            return Ok(true);
        }
        "meta_compact" | "max_concurrent_io" => "an absolute size",
        _ => return Ok(false),
    };
    let given = match &node.value {
        Value::Int(n) if key != "max_concurrent_io" || (4..=8192).contains(n) => return Ok(true),
        Value::Int(n) => n.to_string(),
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        other => other.go_type().to_owned(),
    };
    let between = if key == "max_concurrent_io" { " between 4 and 8192" } else { "" };
    let text = format!("Expected {bounds} for \"{key}\"{between}, got {given}");
    found.error(&node.at, text);
    Ok(true)
}

/// A number of things that wait.
fn queue_limit(key: &str, node: &Node, found: &mut Findings) -> Option<i64> {
    let given = match &node.value {
        Value::Int(n) => return Some(*n),
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        other => other.go_type().to_owned(),
    };
    found.error(&node.at, format!("Expected a parseable size for \"{key}\", got {given}"));
    None
}

fn strict(node: &Node, draft: &mut Draft, found: &mut Findings) {
    match &node.value {
        Value::Bool(flag) => draft.strict = Some(*flag),
        other => {
            let shown = match other {
                Value::String(text) => text.clone(),
                Value::Int(number) => format!("%!s(int64={number})"),
                Value::Float(number) => format!("%!s(float64={number})"),
                Value::Array(_) => "[]".to_owned(),
                _ => "map[]".to_owned(),
            };
            let text = format!("Expected 'true' or 'false' for bool value, got '{shown}'");
            found.error(&node.at, text);
        }
    }
}

/// A number of bytes, or a string of a number and one of K, M, G, T (of 1024).
fn size(name: &str, node: &Node, found: &mut Findings) -> Option<i64> {
    match &node.value {
        Value::Int(bytes) => Some(*bytes),
        Value::String(text) if text.is_empty() => Some(0),
        Value::String(text) => match suffixed(text) {
            Ok(bytes) => Some(bytes),
            Err(e) => {
                found.error(&node.at, format!("{name} {e}"));
                None
            }
        },
        _ => {
            found.error(&node.at, format!("{name} must be int64 or string"));
            None
        }
    }
}

fn suffixed(text: &str) -> Result<i64, String> {
    let end = text.char_indices().next_back().map_or(0, |(at, _)| at);
    let (digits, suffix) = text.split_at(end);
    let number: i64 = digits
        .parse()
        .map_err(|_| format!("strconv.ParseInt: parsing \"{digits}\": invalid syntax"))?;
    let shift = match suffix {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("sizes defined as strings must end in K, M, G, T".to_owned()),
    };
    Ok(number.wrapping_mul(1 << shift))
}

fn limits(node: &Node, draft: &mut Draft, found: &mut Findings) -> Read<()> {
    let Value::Map(map) = &node.value else {
        let text =
            format!("Expected a map to define JetStreamLimits, got {}", node.value.go_type());
        found.error(&node.at, text);
        return Ok(());
    };
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "max_ack_pending" => draft.ack_pending_max = integer(&node.value)?,
            "max_request_batch" => draft.request_batch_max = integer(&node.value)?,
            "default_max_consumers" => draft.consumers_max = integer(&node.value)?,
            "max_ha_assets" => {
                integer(&node.value)?;
            }
            "duplicate_window" => match parse_duration(&string(&node.value)?) {
                Ok(ns) => draft.duplicate_window = ns,
                Err(e) => found.errors.push((None, e)),
            },
            "batch" => batch(node, found)?,
            _ => unknown(key, node, found),
        }
    }
    Ok(())
}

/// Limits of batches. Publishing one is refused, so they are looked at and not used.
fn batch(node: &Node, found: &mut Findings) -> Read<()> {
    let Value::Map(map) = &node.value else {
        let text = format!("Expected a map to define batch limits, got {}", node.value.go_type());
        found.error(&node.at, text);
        return Ok(());
    };
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "max_inflight_per_stream" | "max_inflight_total" | "max_msgs" => {
                integer(&node.value)?;
            }
            "timeout" => {
                if let Err(e) = parse_duration(&string(&node.value)?) {
                    found.errors.push((None, e));
                }
            }
            _ => unknown(key, node, found),
        }
    }
    Ok(())
}
