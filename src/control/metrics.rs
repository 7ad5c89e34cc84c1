//! `/metrics`: Prometheus's text format.

use super::process::Usage;
use super::status::{Health, JetStreamStatus, ReactorStatus, ShardStatus, Site, Snapshot};
use crate::config::options::{CORELANE_VERSION, NATS_VERSION};
use std::fmt::{Display, Write as _};

/// A metric of every reactor or every shard.
struct Family<T> {
    name: &'static str,
    counter: bool,
    help: &'static str,
    value: fn(&T) -> u64,
}

const fn counter<T>(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Family<T> {
    Family { name, counter: true, help, value }
}

const fn gauge<T>(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Family<T> {
    Family { name, counter: false, help, value }
}

const REACTOR: &[Family<ReactorStatus>] = &[
    gauge("connections", "Open connections.", |r| r.connections),
    counter("connections_total", "Accepted connections.", |r| r.total_connections),
    gauge("subscriptions", "Subscriptions.", |r| r.subscriptions),
    counter("in_msgs_total", "Messages received from clients.", |r| r.in_msgs),
    counter("in_bytes_total", "Bytes of messages received.", |r| r.in_bytes),
    counter("out_msgs_total", "Messages delivered to clients.", |r| r.out_msgs),
    counter("out_bytes_total", "Bytes of messages delivered.", |r| r.out_bytes),
    counter("slow_consumers_total", "Clients closed as slow.", |r| r.slow_consumers),
    counter("stale_connections_total", "Clients closed as stale.", |r| r.stale_connections),
    counter("stalled_clients_total", "Publishers delayed.", |r| r.stalled_clients),
    counter("turns_total", "Turns of the reactor.", |r| r.turns),
    counter("slow_turns_total", "Turns longer than allowed.", |r| r.slow_turns),
    counter("preempted_turns_total", "Of those, turns that waited for the processor.", |r| {
        r.preempted_turns
    }),
    counter("busy_nanoseconds_total", "Time spent in turns.", |r| r.busy_ns),
    gauge("longest_turn_nanoseconds", "The longest turn so far.", |r| r.longest_turn_ns),
    counter("mesh_batches_total", "Batches sent to other reactors.", |r| r.mesh_batches),
    counter("mesh_full_total", "Times a ring was full.", |r| r.mesh_full),
];

const SHARD: &[Family<ShardStatus>] = &[
    counter("log_records_total", "Records appended.", |s| s.records),
    counter("log_written_bytes_total", "Bytes written.", |s| s.written_bytes),
    counter("log_writes_total", "Writes.", |s| s.writes),
    counter("log_flushes_total", "Flushes.", |s| s.flushes),
    gauge("log_segments", "Segments that hold data.", |s| s.segments),
    gauge("log_live_bytes", "Bytes that are alive.", |s| s.live_bytes),
];

const JETSTREAM: &[Family<JetStreamStatus>] = &[
    gauge("jetstream_streams", "Streams.", |j| j.streams),
    gauge("jetstream_consumers", "Consumers.", |j| j.consumers),
    gauge("jetstream_messages", "Messages stored.", |j| j.messages),
    gauge("jetstream_bytes", "Bytes of messages stored.", |j| j.bytes),
    gauge("jetstream_memory_bytes", "Bytes of memory streams.", |j| j.memory),
    gauge("jetstream_storage_bytes", "Bytes of file streams.", |j| j.storage),
    counter("jetstream_api_total", "API requests.", |j| j.api_total),
    counter("jetstream_api_errors_total", "API errors.", |j| j.api_errors),
    gauge("jetstream_api_inflight", "API requests under way.", |j| j.api_inflight),
];

/// The answer's text.
pub(super) fn metrics(site: &Site, snapshot: &Snapshot, usage: &Usage) -> String {
    let mut out = String::with_capacity(8 << 10);
    let name = escape(&site.server_name);
    header(&mut out, "build_info", false, "Versions of this server.");
    let _ = writeln!(
        out,
        "corelane_build_info{{version=\"{CORELANE_VERSION}\",nats_version=\"{NATS_VERSION}\",\
         server_name=\"{name}\"}} 1"
    );
    let healthy = u64::from(snapshot.health == Health::Ok);
    single(&mut out, "healthy", false, "1 if the server can serve.", healthy);
    let start = site.start.0 as f64 / 1e9;
    single(&mut out, "start_time_seconds", false, "Start, since the epoch.", start);
    let memory = usage.memory_bytes;
    single(&mut out, "resident_memory_bytes", false, "Resident memory.", memory);
    single(&mut out, "cpu_seconds_total", true, "CPU time used.", usage.cpu_seconds);
    labelled(&mut out, REACTOR, "reactor", &snapshot.reactors);
    labelled(&mut out, SHARD, "shard", &snapshot.shards);
    if let Some(jetstream) = &snapshot.jetstream {
        for family in JETSTREAM {
            let value = (family.value)(jetstream);
            single(&mut out, family.name, family.counter, family.help, value);
        }
        let limits = [
            ("jetstream_memory_bytes_max", "Bytes allowed for memory.", site.memory_bytes_max),
            ("jetstream_storage_bytes_max", "Bytes allowed for storage.", site.store_bytes_max),
        ];
        for (name, help, value) in limits {
            single(&mut out, name, false, help, value);
        }
    }
    out
}

fn header(out: &mut String, name: &str, counter: bool, help: &str) {
    let kind = if counter { "counter" } else { "gauge" };
    let _ = writeln!(out, "# HELP corelane_{name} {help}\n# TYPE corelane_{name} {kind}");
}

fn single(out: &mut String, name: &str, counter: bool, help: &str, value: impl Display) {
    header(out, name, counter, help);
    let _ = writeln!(out, "corelane_{name} {value}");
}

fn labelled<T>(out: &mut String, families: &[Family<T>], label: &str, all: &[T]) {
    for family in families {
        header(out, family.name, family.counter, family.help);
        for (number, one) in all.iter().enumerate() {
            let (name, value) = (family.name, (family.value)(one));
            let _ = writeln!(out, "corelane_{name}{{{label}=\"{number}\"}} {value}");
        }
    }
}

/// Text as a label's value.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
