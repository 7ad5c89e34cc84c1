//! `/varz`: the general state, with nats-server's names, order and units.

use super::process::Usage;
use super::status::{JetStreamStatus, Site, Snapshot};
use crate::api::time::rfc3339;
use crate::config::banner::git_commit;
use crate::config::options::{CORELANE_VERSION, NATS_VERSION, SyncPolicy};
use crate::types::WallTime;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// NATS's protocol number.
const PROTO: u8 = 1;
/// What stands where NATS names its Go version.
const LANGUAGE: &str = "rust";
/// How often a log without a promise is flushed where nothing is said, as NATS shows it.
const SYNC_INTERVAL_SHOWN: Duration = Duration::from_secs(120);

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Varz<'a> {
    #[serde(flatten)]
    settings: Settings<'a>,
    jetstream: JetStream<'a>,
    tls_timeout: u32,
    write_deadline: u64,
    start: String,
    now: String,
    uptime: String,
    mem: u64,
    cores: u32,
    gomaxprocs: usize,
    cpu: f64,
    #[serde(flatten)]
    counters: Counters,
    http_req_stats: &'a BTreeMap<String, u64>,
    config_load_time: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    config_digest: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'a str, &'a str>,
    system_account: &'a str,
    slow_consumer_stats: ByKind,
    stale_connection_stats: ByKind,
    corelane: Own,
}

/// Who this is and how it is set.
#[derive(Serialize)]
struct Settings<'a> {
    server_id: &'a str,
    server_name: &'a str,
    version: &'a str,
    proto: u8,
    git_commit: String,
    go: &'a str,
    host: &'a str,
    port: u16,
    max_connections: i64,
    #[serde(skip_serializing_if = "is_zero")]
    max_subscriptions: u32,
    ping_interval: u64,
    ping_max: u32,
    http_host: &'a str,
    http_port: u16,
    http_base_path: &'a str,
    https_port: u16,
    auth_timeout: u32,
    max_control_line: u32,
    max_payload: u32,
    max_pending: u64,
    cluster: Empty,
    gateway: Empty,
    leaf: Empty,
    mqtt: Empty,
    websocket: Empty,
}

/// What was counted.
#[derive(Serialize)]
struct Counters {
    connections: u64,
    total_connections: u64,
    routes: u32,
    remotes: u32,
    leafnodes: u32,
    in_msgs: u64,
    in_bytes: u64,
    in_client_msgs: u64,
    in_client_bytes: u64,
    out_msgs: u64,
    out_bytes: u64,
    out_client_msgs: u64,
    out_client_bytes: u64,
    slow_consumers: u64,
    stale_connections: u64,
    stalled_clients: u64,
    subscriptions: u64,
}

/// Counts by kind of connection.
#[derive(Serialize)]
struct ByKind {
    clients: u64,
    routes: u64,
    gateways: u64,
    leafs: u64,
}

/// What only we have.
#[derive(Serialize)]
struct Own {
    version: &'static str,
    reactors: usize,
    shards: usize,
}

#[derive(Default, Serialize)]
pub(super) struct JetStream<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<JetStreamConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<JetStreamStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<JetStreamLimits>,
}

#[derive(Default, Serialize)]
pub(super) struct JetStreamConfig<'a> {
    max_memory: u64,
    max_storage: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    store_dir: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "is_zero_wide")]
    sync_interval: u64,
    #[serde(skip_serializing_if = "is_false")]
    sync_always: bool,
    #[serde(skip_serializing_if = "is_false")]
    strict: bool,
}

impl Api {
    pub(super) fn new(level: u32, stats: &JetStreamStatus) -> Api {
        Api {
            level,
            total: stats.api_total,
            errors: stats.api_errors,
            inflight: stats.api_inflight,
        }
    }
}

#[derive(Serialize)]
struct JetStreamStats {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    accounts: u64,
    ha_assets: u64,
    api: Api,
}

#[derive(Serialize)]
pub(super) struct Api {
    level: u32,
    total: u64,
    errors: u64,
    #[serde(skip_serializing_if = "is_zero_wide")]
    inflight: u64,
}

#[derive(Serialize)]
pub(super) struct JetStreamLimits {
    #[serde(skip_serializing_if = "is_zero")]
    max_request_batch: u32,
    #[serde(skip_serializing_if = "is_zero")]
    max_ack_pending: u32,
    #[serde(skip_serializing_if = "is_zero_wide")]
    max_duplicate_window: u64,
    default_max_consumers: i64,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_zero_wide(number: &u64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The answer's JSON, two spaces deep.
pub(super) fn varz(
    site: &Site,
    snapshot: &Snapshot,
    usage: &Usage,
    requests: &BTreeMap<String, u64>,
    now: WallTime,
) -> String {
    let options = &site.options;
    let counters = counters(snapshot);
    let by_kind = |clients| ByKind { clients, routes: 0, gateways: 0, leafs: 0 };
    let document = Varz {
        settings: settings(site),
        jetstream: jetstream(site, snapshot),
        tls_timeout: 2,
        write_deadline: nanos(options.write_deadline),
        start: rfc3339(site.start),
        now: rfc3339(now),
        uptime: uptime(site.begun.elapsed().as_nanos() as i64),
        mem: usage.memory_bytes,
        cores: site.cores,
        gomaxprocs: snapshot.reactors.len(),
        cpu: (usage.cpu_percent * 10.0).round() / 10.0,
        http_req_stats: requests,
        config_load_time: rfc3339(site.start),
        config_digest: &options.config_digest,
        tags: &options.server_tags,
        metadata: pairs(&options.server_metadata),
        system_account: "$SYS",
        slow_consumer_stats: by_kind(counters.slow_consumers),
        stale_connection_stats: by_kind(counters.stale_connections),
        corelane: Own {
            version: CORELANE_VERSION,
            reactors: snapshot.reactors.len(),
            shards: snapshot.shards.len(),
        },
        counters,
    };
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

fn settings(site: &Site) -> Settings<'_> {
    let (options, limits) = (&site.options, &site.options.limits);
    let (http_host, http_port, base) = match &options.http {
        Some(http) => (http.host.as_str(), http.port, http.base_path.as_str()),
        None => ("", 0, ""),
    };
    Settings {
        server_id: &site.server_id,
        server_name: &site.server_name,
        version: NATS_VERSION,
        proto: PROTO,
        git_commit: git_commit(),
        go: LANGUAGE,
        host: &options.host,
        port: site.client_port,
        max_connections: if limits.connections_max == 0 {
            -1
        } else {
            limits.connections_max.into()
        },
        max_subscriptions: limits.subscriptions_max,
        ping_interval: nanos(options.ping_interval),
        ping_max: options.ping_max,
        http_host,
        http_port,
        http_base_path: base,
        https_port: 0,
        auth_timeout: 2,
        max_control_line: limits.control_line_bytes_max,
        max_payload: limits.payload_bytes_max,
        max_pending: limits.pending_bytes_max,
        cluster: Empty {},
        gateway: Empty {},
        leaf: Empty {},
        mqtt: Empty {},
        websocket: Empty {},
    }
}

fn counters(snapshot: &Snapshot) -> Counters {
    let total = snapshot.totals();
    Counters {
        connections: total.connections,
        total_connections: total.total_connections,
        routes: 0,
        remotes: 0,
        leafnodes: 0,
        in_msgs: total.in_msgs,
        in_bytes: total.in_bytes,
        in_client_msgs: total.in_msgs,
        in_client_bytes: total.in_bytes,
        out_msgs: total.out_msgs,
        out_bytes: total.out_bytes,
        out_client_msgs: total.out_msgs,
        out_client_bytes: total.out_bytes,
        slow_consumers: total.slow_consumers,
        stale_connections: total.stale_connections,
        stalled_clients: total.stalled_clients,
        subscriptions: total.subscriptions,
    }
}

fn pairs(pairs: &[(String, String)]) -> BTreeMap<&str, &str> {
    pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

pub(super) fn jetstream<'a>(site: &'a Site, snapshot: &Snapshot) -> JetStream<'a> {
    let Some(options) = &site.options.jetstream else { return JetStream::default() };
    let stats = snapshot.jetstream.unwrap_or_default();
    JetStream {
        config: Some(JetStreamConfig {
            max_memory: site.memory_bytes_max,
            max_storage: site.store_bytes_max,
            store_dir: options.store_dir.to_string_lossy(),
            sync_interval: nanos(match options.sync {
                SyncPolicy::Interval(time) => time,
                _ => SYNC_INTERVAL_SHOWN,
            }),
            sync_always: options.sync.flush_before_ack(),
            strict: options.strict,
        }),
        stats: Some(JetStreamStats {
            memory: stats.memory,
            storage: stats.storage,
            reserved_memory: stats.reserved_memory,
            reserved_storage: stats.reserved_storage,
            accounts: stats.accounts,
            ha_assets: 0,
            api: Api::new(site.api_level, &stats),
        }),
        limits: Some(JetStreamLimits {
            max_request_batch: options.request_batch_max,
            max_ack_pending: options.ack_pending_max,
            max_duplicate_window: nanos(options.duplicate_window_max),
            default_max_consumers: options.consumers_max,
        }),
    }
}

/// `1y2d3h4m5s`, beginning with the largest that is not zero.
pub(super) fn uptime(ns: i64) -> String {
    let seconds = ns.max(0) / 1_000_000_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let years = days / 365;
    let clock = |hours: i64| format!("{hours}h{}m{}s", minutes % 60, seconds % 60);
    if years > 0 {
        format!("{years}y{}d{}", days % 365, clock(hours % 24))
    } else if days > 0 {
        format!("{days}d{}", clock(hours % 24))
    } else if hours > 0 {
        clock(hours)
    } else if minutes > 0 {
        format!("{minutes}m{}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_begins_with_what_is_not_zero() {
        let second = 1_000_000_000;
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m0s"),
            (3_725, "1h2m5s"),
            (86_400, "1d0h0m0s"),
            (366 * 86_400 + 1, "1y1d0h0m1s"),
        ] {
            assert_eq!(uptime(seconds * second), text);
        }
    }
}
