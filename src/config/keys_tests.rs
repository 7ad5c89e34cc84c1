//! The tables of keys against the reader, the documents and the names that nats-server has.

use super::super::flags;
use super::super::options::{Options, Persona};
use super::super::tests::{of, refused};
use super::*;
use std::path::Path;

/// The keys that nats-server 2.15.1 knows at the top of a file.
const TOP_NAMES: &str = "listen client_advertise port server_name host net debug trace \
    trace_verbose trace_headers logtime logtime_utc mappings maps disable_sublist_cache \
    no_sublist_cache accounts default_sentinel authorization http https http_port monitor_port \
    https_port http_base_path cluster gateway leaf leafnodes store_dir storedir jetstream logfile \
    log_file logfile_size_limit log_size_limit logfile_max_num log_max_num syslog remote_syslog \
    pidfile pid_file ports_file_dir prof_port prof_block_rate max_control_line max_payload \
    max_pending proxy_protocol max_connections max_conn max_traced_msg_len max_subscriptions \
    max_subs max_sub_tokens max_subscription_tokens ping_interval ping_max tls ocsp allow_non_tls \
    write_deadline write_timeout lame_duck_duration lame_duck_grace_period operator operators \
    roots root root_operator root_operators resolver account_resolver accounts_resolver \
    resolver_tls resolver_preload resolver_pinned_accounts no_auth_user system_account system \
    no_system_account no_system no_sys_acc no_header_support trusted trusted_keys \
    connect_error_reports reconnect_error_reports websocket ws mqtt server_tags server_metadata \
    feature_flags default_js_domain ocsp_cache no_fast_producer_stall max_closed_clients proxies";

/// And in the `jetstream` block, and in its `limits`.
const JETSTREAM_NAMES: &str = "enabled enable strict store_dir storedir sync sync_interval \
    max_memory_store max_mem_store max_mem max_file_store max_file domain key ek encryption_key \
    prev_key prev_ek prev_encryption_key cipher extension_hint limits tpm unique_tag \
    max_outstanding_catchup max_buffered_size max_buffered_msgs request_queue_limit \
    info_queue_limit meta_compact meta_compact_size meta_compact_sync max_concurrent_io";
const LIMIT_NAMES: &str =
    "max_ack_pending max_ha_assets max_request_batch duplicate_window default_max_consumers batch";

/// A table, its names, and the text around one of its keys.
fn tables() -> [(&'static [Key], &'static str, &'static str, &'static str); 3] {
    [
        (TOP, TOP_NAMES, "", ""),
        (JETSTREAM, JETSTREAM_NAMES, "jetstream { ", " }"),
        (JETSTREAM_LIMITS, LIMIT_NAMES, "jetstream { limits { ", " } }"),
    ]
}

fn base(before: &str, after: &str) -> Options {
    plain(of(&format!("{before}{after}\n")))
}

/// Options without what tells where they come from.
fn plain(options: Options) -> Options {
    Options { config_file: None, config_digest: String::new(), notes: String::new(), ..options }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn compatibility() -> String {
    std::fs::read_to_string(root().join("docs/COMPATIBILITY.md")).unwrap()
}

#[test]
fn no_key_is_forgotten() {
    for (table, names, ..) in tables() {
        let mut known: Vec<&str> = table.iter().flat_map(|key| key.names.iter().copied()).collect();
        let mut all: Vec<&str> = names.split_whitespace().collect();
        known.sort_unstable();
        all.sort_unstable();
        assert_eq!(known, all);
    }
}

#[test]
fn every_key_has_its_fate() {
    for (table, _, before, after) in tables() {
        for key in table {
            let base = base(before, after);
            let mut seen = None;
            for name in key.names {
                let text = format!("{before}{name}: {}{after}", key.sample);
                match key.fate {
                    Obeyed(..) => {
                        let options = plain(of(&text));
                        assert_ne!(options, base, "{text} changes nothing");
                        let first = seen.get_or_insert_with(|| options.clone());
                        assert_eq!(&options, first, "{text} is not what its other name is");
                    }
                    Meaningless(_) => {
                        let options = plain(of(&text));
                        assert_eq!(options, base, "{text} changes something");
                    }
                    Refused(_) => {
                        let why = refused(&text);
                        let words = format!(": \"{name}\" is not supported yet");
                        assert!(why.ends_with(&words), "{text}: {why}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_asks_for_nothing_is_let_pass() {
    for (table, _, before, after) in tables() {
        for key in table {
            let Refused(off) = key.fate else { continue };
            let texts = off.iter().flat_map(|off| match off {
                Block => vec!["{}"],
                List => vec!["[]"],
                Flag => vec!["false"],
                Number => vec!["0"],
                Text => vec!["\"\""],
                Words(words) => words.to_vec(),
            });
            for text in texts {
                let text = if text.is_empty() || text.starts_with('$') {
                    format!("\"{text}\"")
                } else {
                    text.to_owned()
                };
                let file = format!("{before}{}: {text}{after}", key.names[0]);
                assert_eq!(plain(of(&file)), base(before, after), "{file}");
            }
        }
    }
}

#[test]
fn what_is_obeyed_is_shown() {
    for (table, ..) in tables() {
        for key in table {
            let Obeyed(file, needle) = key.fate else { continue };
            let path = root().join(file);
            let found = match path.is_dir() {
                true => std::fs::read_dir(&path)
                    .unwrap()
                    .flatten()
                    .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
                    .any(|text| text.contains(needle)),
                false => std::fs::read_to_string(&path).is_ok_and(|text| text.contains(needle)),
            };
            assert!(found, "{:?}: no {needle:?} in {file}", key.names);
        }
    }
}

#[test]
fn the_document_lists_what_is_not_obeyed() {
    let document = compatibility();
    let section = |title: &str| {
        let start = document.find(title).unwrap_or_else(|| panic!("no {title:?}"));
        let text = &document[start + title.len()..];
        text.split("\n## ").next().unwrap_or_default().split("\n### ").next().unwrap_or_default()
    };
    let refused = section("### Refused by name");
    let meaningless = section("### Without meaning here");
    for (table, ..) in tables() {
        for key in table {
            for name in key.names {
                let quoted = format!("`{name}`");
                let (want_refused, want_meaningless) = match key.fate {
                    Obeyed(..) => (false, false),
                    Meaningless(_) => (false, true),
                    Refused(_) => (true, false),
                };
                assert!(!want_refused || refused.contains(&quoted), "{name} is not listed");
                assert!(!want_meaningless || meaningless.contains(&quoted), "{name} is not listed");
            }
            if let Meaningless(why) = key.fate {
                assert!(meaningless.contains(why), "{:?}: {why:?} is not said", key.names);
            }
        }
    }
    for name in flags::refused() {
        assert!(refused.contains(&format!("`--{name}`")), "--{name} is not listed");
    }
    for name in flags::meaningless() {
        assert!(meaningless.contains(&format!("`--{name}`")), "--{name} is not listed");
    }
}

#[test]
fn limits_at_and_below_nothing() {
    let limits = |text: &str| of(text).limits;
    let default = Options::defaults(Persona::Corelane).limits;
    for name in [
        "max_payload",
        "max_control_line",
        "max_pending",
        "max_subscriptions",
        "ping_max",
        "ping_interval",
        "write_deadline",
        "max_traced_msg_len",
        "log_size_limit",
        "logfile_max_num",
    ] {
        // As in nats-server, nothing stands for the default.
        let note = of(&format!("{name}: 0"));
        assert_eq!(plain(note), base("", ""), "{name}");
    }
    for number in [0, -1, -2, i64::MIN] {
        assert_eq!(limits(&format!("max_connections: {number}")).connections_max, 0);
    }
    assert_eq!(limits("max_subscriptions: -1"), default);
    for (text, words) in [
        ("max_subscriptions: -2", "max_subscriptions of -2 is not supported"),
        ("max_payload: -1", "max_payload of -1 is not supported"),
        ("max_control_line: -1", "max_control_line of -1 is not supported"),
        ("max_pending: -1", "max_payload (1048576) cannot be higher than max_pending (-1)"),
        ("max_pending: -1, max_payload: -2", "max_payload of -2 is not supported"),
        ("ping_max: -1", "ping_max of -1 is not supported"),
        ("ping_interval: \"-1s\"", "ping_interval of -1s is not supported"),
        ("write_deadline: \"-1s\"", "write_deadline of -1s is not supported"),
        ("jetstream { sync_interval: \"-1s\" }", "sync_interval of -1s is not supported"),
        ("max_closed_clients: -1", "max_closed_clients of -1 is not supported"),
        ("max_sub_tokens: 0", "c.conf:1:0: max_sub_tokens value can not be negative"),
        ("max_sub_tokens: 256", "c.conf:1:0: max_sub_tokens value is too big"),
        ("lame_duck_duration: \"0s\"", "invalid lame_duck_duration of 0s"),
        ("lame_duck_grace_period: \"-1s\"", "invalid lame_duck_grace_period"),
        ("write_timeout: x", "write_timeout must be 'default', 'close' or 'retry'"),
        ("write_timeout: 5", "interface conversion: interface {} is int64, not string"),
    ] {
        let why = refused(text);
        assert!(why.contains(words), "{text}: {why}");
    }
    let jetstream = |text: &str| of(&format!("jetstream {{ {text} }}")).jetstream.unwrap();
    for (text, memory) in [("0", Some(0)), ("-1", None), ("-2", None), ("1K", Some(1000))] {
        assert_eq!(jetstream(&format!("max_mem: {text}")).memory_bytes_max, memory, "{text}");
        assert_eq!(jetstream(&format!("max_file: {text}")).store_bytes_max, memory, "{text}");
    }
    for (text, most) in [("0", 1000), ("-1", -1), ("7", 7)] {
        let text = format!("limits {{ default_max_consumers: {text} }}");
        assert_eq!(jetstream(&text).consumers_max, most, "{text}");
    }
}
