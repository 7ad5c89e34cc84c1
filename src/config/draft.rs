//! A configuration file's keys, checked for type but not yet for sense.

use super::engine;
use super::keys;
use super::options::EngineOptions;
use super::units::{SECOND, parse_duration, quote};
use super::value::{Map, Node, Pos, Value};

/// What a file and the flags said. `None` was not said.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub host: Option<String>,
    pub port: Option<i64>,
    pub server_name: Option<String>,
    pub client_advertise: Option<String>,
    pub http_host: Option<String>,
    pub http_port: Option<i64>,
    pub http_base_path: Option<String>,
    pub debug: Option<bool>,
    pub trace: Option<bool>,
    pub trace_verbose: Option<bool>,
    pub trace_headers: Option<bool>,
    pub log_time: Option<bool>,
    pub log_time_utc: Option<bool>,
    pub log_file: Option<String>,
    pub log_size_limit: Option<i64>,
    pub log_files_max: Option<i64>,
    pub traced_message_max: Option<i64>,
    pub pid_file: Option<String>,
    pub ports_file_dir: Option<String>,
    pub control_line_max: Option<i64>,
    pub payload_max: Option<i64>,
    pub pending_max: Option<i64>,
    pub connections_max: Option<i64>,
    pub subscriptions_max: Option<i64>,
    pub subscription_tokens_max: Option<u8>,
    pub closed_clients_max: Option<i64>,
    /// Nanoseconds, as the durations below.
    pub ping_interval: Option<i64>,
    pub ping_max: Option<i64>,
    pub write_deadline: Option<i64>,
    pub lame_duck_duration: Option<i64>,
    pub lame_duck_grace: Option<i64>,
    pub no_fast_producer_stall: bool,
    pub no_headers: bool,
    pub tags: Vec<String>,
    pub metadata: Vec<(String, String)>,
    pub jetstream: Option<bool>,
    pub store_dir: Option<String>,
    pub memory_max: Option<i64>,
    pub store_max: Option<i64>,
    pub sync_always: bool,
    pub sync_interval: Option<i64>,
    pub strict: Option<bool>,
    pub request_queue_limit: i64,
    pub ack_pending_max: i64,
    pub request_batch_max: i64,
    pub duplicate_window: i64,
    pub consumers_max: i64,
    pub engine: EngineOptions,
}

/// What is wrong with a file, and what is only old-fashioned, by position.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub errors: Vec<(Option<Pos>, String)>,
    pub warnings: Vec<(Option<Pos>, String)>,
}

impl Findings {
    pub(super) fn error(&mut self, at: &Pos, text: impl Into<String>) {
        self.errors.push((Some(at.clone()), text.into()));
    }

    /// The warnings' lines.
    pub(super) fn warning_lines(&self) -> String {
        lines(&self.warnings)
    }

    /// The lines to refuse a file with, warnings first; `None` if it is good.
    pub(super) fn refusal(&mut self, warnings_count: bool) -> Option<String> {
        let tolerable = self.warnings.is_empty() || !warnings_count;
        if self.errors.is_empty() && tolerable {
            return None;
        }
        self.errors.sort();
        Some(self.warning_lines() + &lines(&self.errors))
    }
}

fn lines(findings: &[(Option<Pos>, String)]) -> String {
    let line = |(at, text): &(Option<Pos>, String)| match at {
        Some(at) => format!("{at}: {text}\n"),
        None => format!("{text}\n"),
    };
    findings.iter().map(line).collect()
}

/// A value of the wrong type. It ends the reading of the top-level key it is in, as a panic does in
/// nats-server.
pub(super) struct Mismatch(pub String);

pub(super) type Read<T> = Result<T, Mismatch>;

fn mismatch<T>(value: &Value, wanted: &str) -> Read<T> {
    Err(Mismatch(format!(
        "interface conversion: interface {{}} is {}, not {wanted}",
        value.go_type()
    )))
}

pub(super) fn string(value: &Value) -> Read<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        _ => mismatch(value, "string"),
    }
}

pub(super) fn boolean(value: &Value) -> Read<bool> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        _ => mismatch(value, "bool"),
    }
}

pub(super) fn integer(value: &Value) -> Read<i64> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => mismatch(value, "int64"),
    }
}

/// A duration; a bare number is seconds, with a warning.
pub(super) fn duration(key: &str, node: &Node, found: &mut Findings) -> Read<Option<i64>> {
    if let Value::String(text) = &node.value {
        return Ok(match parse_duration(text) {
            Ok(ns) => Some(ns),
            Err(e) => {
                found.error(&node.at, format!("error parsing {key}: {e}"));
                None
            }
        });
    }
    let warning =
        format!("invalid use of field \"{key}\": {key} should be converted to a duration");
    found.warnings.push((Some(node.at.clone()), warning));
    Ok(Some(integer(&node.value)?.saturating_mul(SECOND)))
}

/// Reads all keys of a file into `draft`.
pub(super) fn read(map: &Map, draft: &mut Draft, found: &mut Findings) {
    let mut nodes: Vec<(&String, &Node)> = map.iter().collect();
    nodes.sort_by(|a, b| a.1.at.cmp(&b.1.at));
    for (key, node) in nodes {
        let lower = key.to_lowercase();
        if let Err(Mismatch(text)) = top_level(&lower, key, node, draft, found) {
            found.error(&node.at, text);
        }
    }
}

fn top_level(
    lower: &str,
    key: &str,
    node: &Node,
    draft: &mut Draft,
    found: &mut Findings,
) -> Read<()> {
    let value = &node.value;
    match lower {
        "listen" => listen(node, found, &mut draft.host, &mut draft.port),
        "http" => listen(node, found, &mut draft.http_host, &mut draft.http_port),
        "port" => draft.port = Some(integer(value)?),
        "host" | "net" => draft.host = Some(string(value)?),
        "http_port" | "monitor_port" => draft.http_port = Some(integer(value)?),
        "http_base_path" => draft.http_base_path = Some(string(value)?),
        "client_advertise" => draft.client_advertise = Some(string(value)?),
        "server_name" => {
            let name = string(value)?;
            if name.contains(' ') {
                found.error(&node.at, "server name cannot contain spaces");
            }
            draft.server_name = Some(name);
        }
        "server_tags" => draft.tags = tags(node, found),
        "server_metadata" => metadata(node, draft, found)?,
        "jetstream" => super::jetstream::read(node, draft, found)?,
        "store_dir" | "storedir" => store_dir(node, draft, found)?,
        "corelane" => engine::read(node, &mut draft.engine, found)?,
        _ if logging(lower, value, draft)? => {}
        _ if limits(lower, node, draft, found)? => {}
        _ if timing(lower, node, draft, found)? => {}
        "no_fast_producer_stall" => draft.no_fast_producer_stall = boolean(value)?,
        "no_header_support" => draft.no_headers = boolean(value)?,
        // Of use to other designs only.
        "disable_sublist_cache" | "no_sublist_cache" => {
            boolean(value)?;
        }
        "connect_error_reports" | "reconnect_error_reports" | "prof_block_rate" => {
            integer(value)?;
        }
        "write_timeout" if !matches!(string(value)?.as_str(), "default" | "close" | "retry") => {
            found.error(&node.at, "write_timeout must be 'default', 'close' or 'retry'");
        }
        _ => match keys::refused(keys::TOP, lower) {
            Some(off) if keys::asks_for_nothing(off, value) => {}
            Some(_) => unsupported(key, node, found),
            None => unknown(key, node, found),
        },
    }
    Ok(())
}

pub(super) fn unknown(key: &str, node: &Node, found: &mut Findings) {
    if !node.used {
        found.error(&node.at, format!("unknown field {}", quote(key)));
    }
}

pub(super) fn unsupported(key: &str, node: &Node, found: &mut Findings) {
    found.error(&node.at, format!("\"{key}\" is not supported yet"));
}

fn logging(key: &str, value: &Value, draft: &mut Draft) -> Read<bool> {
    match key {
        "debug" => draft.debug = Some(boolean(value)?),
        "trace" => draft.trace = Some(boolean(value)?),
        "trace_verbose" => {
            draft.trace_verbose = Some(boolean(value)?);
            draft.trace = Some(boolean(value)?);
        }
        "trace_headers" => {
            draft.trace_headers = Some(boolean(value)?);
            draft.trace = Some(boolean(value)?);
        }
        "logtime" => draft.log_time = Some(boolean(value)?),
        "logtime_utc" => draft.log_time_utc = Some(boolean(value)?),
        "logfile" | "log_file" => draft.log_file = Some(string(value)?),
        "logfile_size_limit" | "log_size_limit" => draft.log_size_limit = Some(integer(value)?),
        "logfile_max_num" | "log_max_num" => draft.log_files_max = Some(integer(value)?),
        "max_traced_msg_len" => draft.traced_message_max = Some(integer(value)?),
        "pidfile" | "pid_file" => draft.pid_file = Some(string(value)?),
        "ports_file_dir" => draft.ports_file_dir = Some(string(value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn limits(key: &str, node: &Node, draft: &mut Draft, found: &mut Findings) -> Read<bool> {
    let value = &node.value;
    match key {
        "max_control_line" | "max_payload" => {
            let number = integer(value)?;
            if number > i64::from(i32::MAX) {
                found.error(&node.at, format!("{key} value is too big"));
            } else if key == "max_payload" {
                draft.payload_max = Some(number);
            } else {
                draft.control_line_max = Some(number);
            }
        }
        "max_pending" => draft.pending_max = Some(integer(value)?),
        "max_connections" | "max_conn" => draft.connections_max = Some(integer(value)?),
        "max_subscriptions" | "max_subs" => draft.subscriptions_max = Some(integer(value)?),
        "max_closed_clients" => draft.closed_clients_max = Some(integer(value)?),
        "max_sub_tokens" | "max_subscription_tokens" => match u8::try_from(integer(value)?) {
            Ok(number) if number > 0 => draft.subscription_tokens_max = Some(number),
            _ if integer(value)? > 0 => found.error(&node.at, format!("{key} value is too big")),
            _ => found.error(&node.at, format!("{key} value can not be negative")),
        },
        _ => return Ok(false),
    }
    Ok(true)
}

fn timing(key: &str, node: &Node, draft: &mut Draft, found: &mut Findings) -> Read<bool> {
    match key {
        "ping_interval" => draft.ping_interval = duration(key, node, found)?,
        "ping_max" => draft.ping_max = Some(integer(&node.value)?),
        "write_deadline" => draft.write_deadline = duration(key, node, found)?,
        "lame_duck_duration" => match parse_duration(&string(&node.value)?) {
            Ok(ns) if ns < 30 * SECOND => {
                let given = super::units::format_duration(ns);
                let text = format!("invalid {key} of {given}, minimum is 30 seconds");
                found.error(&node.at, text);
            }
            Ok(ns) => draft.lame_duck_duration = Some(ns),
            Err(e) => found.error(&node.at, format!("error parsing {key}: {e}")),
        },
        "lame_duck_grace_period" => match parse_duration(&string(&node.value)?) {
            Ok(ns) if ns < 0 => {
                found.error(&node.at, format!("invalid {key}, needs to be positive"));
            }
            Ok(ns) => draft.lame_duck_grace = Some(ns),
            Err(e) => found.error(&node.at, format!("error parsing {key}: {e}")),
        },
        _ => return Ok(false),
    }
    Ok(true)
}

/// `port` or `host:port`.
fn listen(node: &Node, found: &mut Findings, host: &mut Option<String>, port: &mut Option<i64>) {
    match &node.value {
        Value::Int(number) => *port = Some(*number),
        Value::String(text) => match split_host_port(text) {
            None => found.error(&node.at, format!("could not parse address string \"{text}\"")),
            Some((name, number)) => match number.parse::<i64>() {
                Ok(number) => {
                    *host = Some(name.to_owned());
                    *port = Some(number);
                }
                Err(_) => found.error(&node.at, format!("could not parse port \"{number}\"")),
            },
        },
        other => {
            let text = format!("expected port or host:port, got {}", other.go_type());
            found.error(&node.at, text);
        }
    }
}

/// Splits `host:port` or `[host]:port`; a host with colons needs brackets.
pub(super) fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').map(|inner| (inner, port)),
        None if host.contains([':', ']']) => None,
        None => Some((host, port)),
    }
}

fn tags(node: &Node, found: &mut Findings) -> Vec<String> {
    let tidy = |text: &str| text.trim().to_lowercase();
    match &node.value {
        Value::String(text) => vec![tidy(text)],
        Value::Array(items) => {
            let mut tags = Vec::new();
            for item in items {
                if let Value::String(text) = &item.value {
                    tags.push(tidy(text));
                } else {
                    let text = "error parsing tags: unsupported type *conf.token where string is \
                                expected";
                    found.error(&node.at, text);
                    break;
                }
            }
            tags
        }
        other => {
            found.error(
                &node.at,
                format!("error parsing tags: unsupported type {}", other.go_type()),
            );
            Vec::new()
        }
    }
}

fn metadata(node: &Node, draft: &mut Draft, found: &mut Findings) -> Read<()> {
    let Value::Map(map) = &node.value else {
        let text = format!("error parsing metadata: unsupported type {}", node.value.go_type());
        found.error(&node.at, text);
        return Ok(());
    };
    for (key, entry) in map {
        match string(&entry.value) {
            Ok(text) => draft.metadata.push((key.clone(), text)),
            Err(Mismatch(text)) => found.error(&entry.at, text),
        }
    }
    Ok(())
}

pub(super) fn store_dir(node: &Node, draft: &mut Draft, found: &mut Findings) -> Read<()> {
    let dir = string(&node.value)?;
    if draft.store_dir.is_some() {
        found.error(&node.at, "Duplicate 'store_dir' configuration");
    }
    draft.store_dir = Some(dir);
    Ok(())
}
