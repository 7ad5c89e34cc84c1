//! The `corelane {}` block: the keys that nats-server does not have.
//!
//! | key | value | default |
//! |---|---|---|
//! | `cpus` | CPUs to pin reactors to: `"0-3,8"`, a number, or a list of these | all allowed |
//! | `pin` | whether reactors are pinned | `true` |
//! | `short_wake_ups` | whether busy clients keep CPUs out of slow idle states | `true` |
//! | `reactors` | number of reactors, 1–256 | one a CPU |
//! | `shards` | shards of a new store, 1–1024 | one a reactor |
//! | `segment_size` | bytes of a log segment, a multiple of 4 MiB, 8 MiB–4 GiB | 64 MiB |
//! | `tail_cache` | bytes of recent log blocks kept, of the node, at least 8 MiB | 128 MiB |
//! | `writes_in_flight` | log writes in flight, 0–16; 0 goes by their size | 0 |
//! | `flush_gather` | least time between two small writes of a log, at most 1s | 100us |
//! | `publish_credit` | bytes of publishes under way, and 1 KiB for each, at least 1 MiB | 64 MiB |
//!
//! `publish_credit` is for file streams; memory streams have as much of their own.
//!
//! Sizes are numbers with the suffixes of the grammar (`64MB` is 64 MiB), bare or in quotes.

use super::draft::{Findings, Mismatch, Read, boolean, integer, unknown};
use super::options::{BLOCK_BYTES, EngineOptions};
use super::units::{SECOND, parse_duration};
use super::value::{Node, Value};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Highest number of a CPU that is believed.
const CPU_MAX: u32 = 4095;

pub(super) fn read(node: &Node, engine: &mut EngineOptions, found: &mut Findings) -> Read<()> {
    let Value::Map(map) = &node.value else {
        let text = format!("Expected corelane to be a map, got {}", node.value.go_type());
        found.error(&node.at, text);
        return Ok(());
    };
    for (key, node) in map {
        let lower = key.to_lowercase();
        let result = match lower.as_str() {
            "cpus" => cpus(&node.value).map(|cpus| engine.cpus = cpus),
            "pin" => boolean(&node.value).map(|flag| engine.pin = flag).map_err(|Mismatch(e)| e),
            "short_wake_ups" => boolean(&node.value)
                .map(|flag| engine.short_wake_ups = flag)
                .map_err(|Mismatch(e)| e),
            "reactors" => count(&node.value, 1..=256).map(|n| engine.reactors = Some(n)),
            "shards" => count(&node.value, 1..=1024).map(|n| engine.shards = Some(n)),
            "segment_size" => segment_size(&node.value).map(|n| engine.segment_bytes = n),
            "tail_cache" => size(&node.value, 8 << 20).map(|n| engine.tail_cache_bytes = n),
            "writes_in_flight" => count(&node.value, 0..=16)
                .map(|n| engine.writes_in_flight = u8::try_from(n).unwrap_or(0)),
            "flush_gather" => gather(&node.value).map(|d| engine.flush_gather = d),
            "publish_credit" => size(&node.value, 1 << 20).map(|n| engine.publish_credit_bytes = n),
            _ => {
                unknown(key, node, found);
                Ok(())
            }
        };
        if let Err(text) = result {
            found.error(&node.at, format!("invalid \"{key}\": {text}"));
        }
    }
    Ok(())
}

fn count(value: &Value, range: RangeInclusive<u16>) -> Result<u16, String> {
    let number = integer(value).map_err(|Mismatch(e)| e)?;
    u16::try_from(number).ok().filter(|n| range.contains(n)).ok_or_else(|| {
        format!("must be between {} and {}, got {number}", range.start(), range.end())
    })
}

fn size(value: &Value, least: u64) -> Result<u64, String> {
    let bytes = match value {
        Value::Int(bytes) => *bytes,
        Value::String(text) => parse_size(text)?,
        other => return Err(format!("expected a size, got {}", other.go_type())),
    };
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes >= least)
        .ok_or_else(|| format!("must be at least {least}, got {bytes}"))
}

/// A number with the grammar's suffixes.
fn parse_size(text: &str) -> Result<i64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let scale: i64 = match suffix.to_lowercase().as_str() {
        "" => 1,
        "k" => 1_000,
        "kb" | "ki" | "kib" => 1 << 10,
        "m" => 1_000_000,
        "mb" | "mi" | "mib" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" | "gi" | "gib" => 1 << 30,
        "t" => 1_000_000_000_000,
        "tb" | "ti" | "tib" => 1 << 40,
        _ => return Err(format!("expected a size, got \"{text}\"")),
    };
    let number: i64 = digits.parse().map_err(|_| format!("expected a size, got \"{text}\""))?;
    number.checked_mul(scale).ok_or_else(|| format!("\"{text}\" is too big"))
}

fn segment_size(value: &Value) -> Result<u64, String> {
    let bytes = size(value, 2 * BLOCK_BYTES)?;
    if !bytes.is_multiple_of(BLOCK_BYTES) || bytes > 4 << 30 {
        return Err(format!("must be a multiple of {BLOCK_BYTES}, 2 to 1024 of them, got {bytes}"));
    }
    Ok(bytes)
}

fn gather(value: &Value) -> Result<Duration, String> {
    let ns = match value {
        Value::String(text) => parse_duration(text)?,
        Value::Int(0) => 0,
        other => return Err(format!("expected a duration, got {}", other.go_type())),
    };
    match u64::try_from(ns) {
        Ok(ns) if ns <= SECOND.unsigned_abs() => Ok(Duration::from_nanos(ns)),
        _ => Err("must be between 0 and 1s".to_owned()),
    }
}

/// The CPUs of `0-3,8`, of a number, or of a list of these: ascending, each once.
fn cpus(value: &Value) -> Result<Vec<u32>, String> {
    let mut cpus = Vec::new();
    collect_cpus(value, &mut cpus)?;
    cpus.sort_unstable();
    cpus.dedup();
    if cpus.is_empty() {
        return Err("names no CPU".to_owned());
    }
    Ok(cpus)
}

fn collect_cpus(value: &Value, cpus: &mut Vec<u32>) -> Result<(), String> {
    match value {
        Value::Int(number) => match u32::try_from(*number) {
            Ok(cpu) if cpu <= CPU_MAX => cpus.push(cpu),
            _ => return Err(format!("{number} is not a CPU")),
        },
        Value::String(text) => {
            for part in text.split(',') {
                cpus.extend(cpu_range(part.trim())?);
            }
        }
        Value::Array(items) => {
            for item in items {
                collect_cpus(&item.value, cpus)?;
            }
        }
        other => return Err(format!("expected CPUs, got {}", other.go_type())),
    }
    Ok(())
}

fn cpu_range(text: &str) -> Result<RangeInclusive<u32>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
        (Ok(first), Ok(last)) if first <= last && last <= CPU_MAX => Ok(first..=last),
        _ => Err(format!("\"{text}\" is not a range of CPUs")),
    }
}
