//! Every key of nats-server's configuration, and what becomes of it here. Nothing is accepted and
//! ignored: a key is obeyed, or it has no meaning here by definition, or it is refused by name.
//!
//! The reader asks these tables which keys to refuse; the tests hold the reader, and the list in
//! `docs/COMPATIBILITY.md`, to all of them.

use super::value::Value;
use Fate::{Meaningless, Obeyed, Refused};
use Off::{Block, Flag, List, Number, Text, Words};

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It does what it does in nats-server: a file that shows it, and what to look for there.
    Obeyed(&'static str, &'static str),
    /// Its value is checked and not used; why.
    Meaningless(&'static str),
    /// Refused by name, except for values that ask for nothing.
    Refused(&'static [Off]),
}

/// A value that asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Off {
    /// `{}`
    Block,
    /// `[]`
    List,
    /// `false`
    Flag,
    /// `0`
    Number,
    /// An empty text.
    Text,
    /// One of these texts.
    Words(&'static [&'static str]),
}

impl Off {
    fn is(self, value: &Value) -> bool {
        match (self, value) {
            (Block, Value::Map(map)) => map.is_empty(),
            (List, Value::Array(items)) => items.is_empty(),
            (Flag, Value::Bool(on)) => !on,
            (Number, Value::Int(number)) => *number == 0,
            (Text, Value::String(text)) => text.is_empty(),
            (Words(words), Value::String(text)) => words.contains(&text.as_str()),
            _ => false,
        }
    }
}

/// A key under all its names, with a value that asks for something.
pub(super) struct Key {
    names: &'static [&'static str],
    /// For the tests.
    #[cfg_attr(not(test), allow(dead_code))]
    sample: &'static str,
    fate: Fate,
}

const fn key(names: &'static [&'static str], sample: &'static str, fate: Fate) -> Key {
    Key { names, sample, fate }
}

/// Whether a key is one that is refused: then the values that ask for nothing.
pub(super) fn refused(table: &[Key], name: &str) -> Option<&'static [Off]> {
    table.iter().find(|key| key.names.contains(&name)).and_then(|key| match key.fate {
        Refused(off) => Some(off),
        _ => None,
    })
}

/// Whether a value of a refused key asks for nothing, so that the key may stand there.
pub(super) fn asks_for_nothing(off: &[Off], value: &Value) -> bool {
    off.iter().any(|off| off.is(value))
}

const PROCESS: &str = "tests/process.rs";
const LOG: &str = "src/config/log.rs";
const LINES: &str = "tests/log_lines.rs";
const REMOTES: &str = "there are no routes, gateways and leaf nodes";

/// The keys of the file itself.
pub(super) const TOP: &[Key] = &[
    key(&["listen"], "\"127.0.0.1:7\"", Obeyed(PROCESS, "listen: ")),
    key(&["port"], "7", Obeyed(PROCESS, "port: ")),
    key(&["host", "net"], "\"127.0.0.1\"", Obeyed(PROCESS, "host: ")),
    key(&["server_name"], "x", Obeyed(PROCESS, "server_name: ")),
    key(
        &["client_advertise"],
        "\"h:7\"",
        Obeyed("tests/transcripts/core/advertise.txt", "client_advertise: "),
    ),
    key(&["http"], "\"127.0.0.1:7\"", Obeyed(PROCESS, "http: ")),
    key(&["http_port", "monitor_port"], "7", Obeyed(PROCESS, "http_port: ")),
    // Without monitoring there is nothing that it could change.
    key(&["http_base_path"], "x, http: 7", Obeyed(PROCESS, "http_base_path: ")),
    key(&["debug"], "true", Obeyed(LINES, "debug: true")),
    key(&["trace"], "true", Obeyed(LINES, "trace: true")),
    key(&["trace_verbose"], "true", Obeyed(LINES, "trace: true")),
    key(&["trace_headers"], "true", Obeyed(LINES, "trace_headers: true")),
    key(&["max_traced_msg_len"], "7", Obeyed(LINES, "max_traced_msg_len: ")),
    key(&["logtime"], "false", Obeyed(PROCESS, "logtime: ")),
    key(&["logtime_utc"], "true", Obeyed(LOG, "time_utc")),
    key(&["logfile", "log_file"], "x", Obeyed(PROCESS, "log_file: ")),
    key(&["logfile_size_limit", "log_size_limit"], "7", Obeyed(LOG, "size_limit_bytes")),
    key(&["logfile_max_num", "log_max_num"], "7", Obeyed(LOG, "files_max")),
    key(&["pidfile", "pid_file"], "x", Obeyed(PROCESS, "pid_file: ")),
    key(&["ports_file_dir"], "x", Obeyed(PROCESS, "ports_file_dir: ")),
    key(&["server_tags"], "x", Obeyed(PROCESS, "server_tags: ")),
    key(&["server_metadata"], "{a: b}", Obeyed(PROCESS, "server_metadata: ")),
    key(
        &["max_control_line"],
        "777",
        Obeyed("tests/transcripts/core/limits.txt", "max_control_line: "),
    ),
    key(&["max_payload"], "777", Obeyed("tests/transcripts/core/limits.txt", "max_payload: ")),
    key(
        &["max_pending"],
        "7777777",
        Obeyed("tests/transcripts/core/slow_consumer.txt", "max_pending: "),
    ),
    key(
        &["max_connections", "max_conn"],
        "7",
        Obeyed("tests/transcripts/core/connections.txt", "max_connections: "),
    ),
    key(
        &["max_subscriptions", "max_subs"],
        "7",
        Obeyed("tests/transcripts/core/limits.txt", "max_subscriptions: "),
    ),
    key(
        &["max_sub_tokens", "max_subscription_tokens"],
        "7",
        Obeyed("tests/transcripts/core/limits.txt", "max_subscription_tokens: "),
    ),
    key(&["ping_interval"], "\"7s\"", Obeyed("tests/transcripts/core/ping.txt", "ping_interval: ")),
    key(&["ping_max"], "7", Obeyed("tests/transcripts/core/ping.txt", "ping_max: ")),
    key(&["write_deadline"], "\"7s\"", Obeyed("src/turn/tests/core.rs", "write_deadline: ")),
    key(
        &["lame_duck_duration"],
        "\"37s\"",
        Obeyed("tests/transcripts/core/lame_duck.txt", "lame_duck_duration: "),
    ),
    key(
        &["lame_duck_grace_period"],
        "\"7s\"",
        Obeyed("tests/transcripts/core/lame_duck.txt", "lame_duck_grace_period: "),
    ),
    key(
        &["no_header_support"],
        "true",
        Obeyed("tests/transcripts/core/no_headers.txt", "no_header_support: "),
    ),
    key(&["no_fast_producer_stall"], "true", Obeyed("src/turn/tests/core.rs", "stall: false")),
    key(&["store_dir", "storedir"], "x, jetstream: enabled", Obeyed(PROCESS, "store_dir: ")),
    key(&["jetstream"], "enabled", Obeyed(PROCESS, "jetstream: ")),
    key(&["max_closed_clients"], "7", Obeyed(PROCESS, "max_closed_clients: ")),
    key(
        &["disable_sublist_cache", "no_sublist_cache"],
        "true",
        Meaningless("who gets the last 8,192 subjects is remembered, in bounded memory"),
    ),
    key(&["connect_error_reports", "reconnect_error_reports"], "7", Meaningless(REMOTES)),
    key(
        &["prof_block_rate"],
        "7",
        Meaningless("it tunes what `prof_port` shows, which is refused"),
    ),
    key(&["accounts"], "{A {}}", Refused(&[Block, List])),
    key(&["authorization"], "{token: x}", Refused(&[Block])),
    key(&["no_auth_user"], "x", Refused(&[Text])),
    key(&["default_sentinel"], "x", Refused(&[Text])),
    key(&["mappings", "maps"], "{a: b}", Refused(&[Block])),
    key(&["system_account", "system"], "A", Refused(&[Words(&["", "$SYS"])])),
    key(&["no_system_account", "no_system", "no_sys_acc"], "true", Refused(&[Flag])),
    key(
        &["operator", "operators", "root", "roots", "root_operator", "root_operators"],
        "x",
        Refused(&[List]),
    ),
    key(&["resolver", "account_resolver", "accounts_resolver"], "MEM", Refused(&[])),
    key(&["resolver_tls"], "{verify: true}", Refused(&[Block])),
    key(&["resolver_preload"], "{A: x}", Refused(&[Block])),
    key(&["resolver_pinned_accounts"], "[A]", Refused(&[List])),
    key(&["trusted", "trusted_keys"], "[O]", Refused(&[List])),
    key(&["proxies"], "{trusted: []}", Refused(&[Block])),
    key(&["proxy_protocol"], "true", Refused(&[Flag])),
    // An empty block asks for TLS with the defaults.
    key(&["tls"], "{}", Refused(&[])),
    key(&["allow_non_tls"], "true", Refused(&[Flag])),
    key(&["ocsp"], "true", Refused(&[Flag, Block])),
    key(&["ocsp_cache"], "true", Refused(&[Flag, Block])),
    key(&["https", "https_port"], "7", Refused(&[Number])),
    key(&["cluster"], "{name: x}", Refused(&[Block])),
    key(&["gateway"], "{name: x}", Refused(&[Block])),
    key(&["leafnodes", "leaf"], "{port: 7}", Refused(&[Block])),
    key(&["mqtt"], "{port: 7}", Refused(&[Block])),
    key(&["websocket", "ws"], "{port: 7}", Refused(&[Block])),
    key(&["default_js_domain"], "{A: d}", Refused(&[Block])),
    key(&["feature_flags"], "{f: true}", Refused(&[Block])),
    key(&["syslog"], "true", Refused(&[Flag])),
    key(&["remote_syslog"], "\"udp://h:7\"", Refused(&[Text])),
    key(&["prof_port"], "7", Refused(&[Number])),
    // What is done to a client that is slow: it is closed.
    key(&["write_timeout"], "retry", Refused(&[Words(&["default", "close"])])),
];

/// The keys of the `jetstream` block.
pub(super) const JETSTREAM: &[Key] = &[
    key(&["enabled", "enable"], "false", Obeyed("src/config/tests.rs", "enabled: false")),
    key(&["strict"], "false", Obeyed("tests/transcripts/api/not_strict.txt", "strict: false")),
    key(&["store_dir", "storedir"], "x", Obeyed(PROCESS, "store_dir: ")),
    key(&["sync", "sync_interval"], "\"7s\"", Obeyed("tests/durability", "sync_interval")),
    key(
        &["max_memory_store", "max_mem_store", "max_mem"],
        "7",
        Obeyed("tests/transcripts/stream/no_memory.txt", "max_mem: "),
    ),
    key(
        &["max_file_store", "max_file"],
        "7",
        Obeyed("tests/transcripts/stream/no_memory.txt", "max_file: "),
    ),
    key(&["limits"], "{max_ack_pending: 7}", Obeyed("tests/transcripts/api/limits.txt", "limits ")),
    key(&["extension_hint"], "will_extend", Meaningless(REMOTES)),
    key(&["unique_tag"], "az", Meaningless("no replicas are placed")),
    key(&["max_outstanding_catchup"], "7", Meaningless("no replica catches up")),
    key(
        &["meta_compact", "meta_compact_size"],
        "7",
        Meaningless("the streams' catalogue is no log of a cluster"),
    ),
    key(&["meta_compact_sync"], "true", Meaningless("as `meta_compact`")),
    key(
        &["max_buffered_msgs", "max_buffered_size"],
        "7",
        Meaningless("publishers are slowed before messages are refused"),
    ),
    key(&["request_queue_limit"], "7", Obeyed("tests/limits.rs", "request_queue_limit: ")),
    key(&["info_queue_limit"], "7", Meaningless("requests are slowed before they are dropped")),
    key(&["max_concurrent_io"], "7", Meaningless("no thread is blocked by a read or a write")),
    key(&["domain"], "x", Refused(&[Text])),
    key(
        &["key", "ek", "encryption_key", "prev_key", "prev_ek", "prev_encryption_key"],
        "x",
        Refused(&[Text]),
    ),
    key(&["cipher"], "aes", Refused(&[])),
    key(&["tpm"], "{keys_file: x}", Refused(&[Block])),
];

/// The keys of `jetstream { limits }`.
#[cfg_attr(not(test), allow(dead_code))]
pub(super) const JETSTREAM_LIMITS: &[Key] = &[
    key(&["max_ack_pending"], "7", Obeyed("tests/transcripts/api/limits.txt", "max_ack_pending: ")),
    key(
        &["max_request_batch"],
        "7",
        Obeyed("tests/transcripts/api/limits.txt", "max_request_batch: "),
    ),
    key(
        &["duplicate_window"],
        "\"7s\"",
        Obeyed("tests/transcripts/api/limits.txt", "duplicate_window: "),
    ),
    key(
        &["default_max_consumers"],
        "7",
        Obeyed("tests/transcripts/consumer/default_max.txt", "default_max_consumers: "),
    ),
    key(&["max_ha_assets"], "7", Meaningless("nothing has replicas")),
    key(&["batch"], "{max_msgs: 7}", Meaningless("publishing a batch is refused as a whole")),
];

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
