//! From what was said to what is meant: defaults, checks across keys, directories.

use super::draft::{Draft, split_host_port};
use super::options::{
    Advertise, CONSUMERS_MAX_DEFAULT, DEFAULT_HOST, DEFAULT_PORT, HttpOptions, JetStreamOptions,
    Limits, LogOptions, Options, Persona, SyncPolicy,
};
use super::units::format_duration;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Payloads above this are warned about.
const PAYLOAD_WARN_BYTES: i64 = 8 << 20;

/// What an interval of nothing stands for.
const SYNC_INTERVAL_DEFAULT: Duration = Duration::from_secs(120);

/// Makes options of a draft. The error is the text after `nats-server: `.
pub(super) fn finish(draft: &Draft, persona: Persona) -> Result<Options, String> {
    let mut options = Options::defaults(persona);
    let host = draft.host.clone().filter(|host| !host.is_empty());
    options.host = host.unwrap_or_else(|| DEFAULT_HOST.to_owned());
    options.port = port(draft.port, DEFAULT_PORT).unwrap_or_else(|why| {
        options.refusals.push(cannot_listen(&options.host, draft.port, &why));
        DEFAULT_PORT
    });
    options.server_name = draft.server_name.clone().filter(|name| !name.is_empty());
    if options.server_name.as_ref().is_some_and(|name| name.contains(' ')) {
        return Err("server name cannot contain spaces".to_owned());
    }
    if let Some(text) = draft.client_advertise.as_deref().filter(|a| !a.is_empty()) {
        match advertise(text) {
            Ok(address) => options.client_advertise = Some(address),
            Err(why) => options.refusals.push(why),
        }
    }
    options.http = http(draft, &mut options);
    options.log = log(draft)?;
    let path = |text: &Option<String>| text.as_ref().filter(|t| !t.is_empty()).map(PathBuf::from);
    options.pid_file = path(&draft.pid_file);
    options.ports_file_dir = path(&draft.ports_file_dir);
    options.limits = limits(draft, &mut options.warnings)?;
    timing(draft, &mut options)?;
    if draft.jetstream == Some(true) {
        options.jetstream = Some(jetstream(draft, persona)?);
    }
    options.fast_producer_stall = !draft.no_fast_producer_stall;
    options.headers = !draft.no_headers;
    options.server_tags.clone_from(&draft.tags);
    options.server_metadata.clone_from(&draft.metadata);
    options.engine = draft.engine.clone();
    Ok(options)
}

/// A port to listen on: -1 is any, which we write as 0, and 0 is the default.
fn port(given: Option<i64>, default: u16) -> Result<u16, String> {
    match given {
        None | Some(0) => Ok(default),
        Some(-1) => Ok(0),
        Some(number) => {
            u16::try_from(number).map_err(|_| format!("listen tcp: address {number}: invalid port"))
        }
    }
}

fn cannot_listen(host: &str, port: Option<i64>, why: &str) -> String {
    let address = join_host_port(host, port.unwrap_or_default());
    format!("Error listening on port: {address}, \"{why}\"")
}

/// `host:port`, the host in brackets if it has colons.
pub fn join_host_port(host: &str, port: impl std::fmt::Display) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// `host`, `host:port`, `[host]` or `[host]:port`; ports 0 and -1 stand for the bound one.
fn advertise(given: &str) -> Result<Advertise, String> {
    let failed = |why: String| {
        format!("Error setting server INFO with ClientAdvertise value of {given}, err={why}")
    };
    let text = given.trim();
    let bracketed = text.strip_prefix('[');
    let (host, number) = match split_host_port(text) {
        Some(parts) => parts,
        None if bracketed.is_some_and(|inner| !inner.contains(']')) => {
            return Err(failed(format!("address {text}: missing ']' in address")));
        }
        None if bracketed.is_none() && text.contains(':') => {
            return Err(failed(format!("address {text}: too many colons in address")));
        }
        None => (text.trim_start_matches('[').trim_end_matches(']'), "0"),
    };
    let why = |why: &str| failed(format!("strconv.Atoi: parsing \"{number}\": {why}"));
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(why("invalid syntax"));
    }
    let port = match number.parse::<i64>() {
        Ok(-1) => 0,
        Ok(number) => u16::try_from(number).map_err(|_| why("value out of range"))?,
        Err(_) => return Err(why("value out of range")),
    };
    Ok(Advertise { host: host.to_owned(), port })
}

fn http(draft: &Draft, options: &mut Options) -> Option<HttpOptions> {
    let number = draft.http_port.filter(|n| *n != 0)?;
    let host = match draft.http_host.as_deref() {
        None | Some("") => options.host.clone(),
        Some(host) => host.to_owned(),
    };
    let port = port(Some(number), 0).unwrap_or_else(|why| {
        let text = "Can't start monitoring: can't listen to the monitor port";
        options.refusals.push(format!("{text}: {why}"));
        0
    });
    let base = draft.http_base_path.as_deref().unwrap_or_default().trim_matches('/');
    let base_path = if base.is_empty() { String::new() } else { format!("/{base}") };
    Some(HttpOptions { host, port, base_path })
}

fn log(draft: &Draft) -> Result<LogOptions, String> {
    let natural = |number: Option<i64>| u64::try_from(number.unwrap_or(0)).unwrap_or(0);
    let natural32 = |number: Option<i64>| u32::try_from(natural(number)).unwrap_or(u32::MAX);
    Ok(LogOptions {
        debug: draft.debug.unwrap_or(false),
        trace: draft.trace.unwrap_or(false),
        trace_verbose: draft.trace_verbose.unwrap_or(false),
        trace_headers: draft.trace_headers.unwrap_or(false),
        time: draft.log_time.unwrap_or(true),
        time_utc: draft.log_time_utc.unwrap_or(false),
        file: draft.log_file.as_ref().filter(|f| !f.is_empty()).map(PathBuf::from),
        size_limit_bytes: natural(draft.log_size_limit),
        files_max: natural32(draft.log_files_max),
        traced_message_bytes_max: natural32(draft.traced_message_max),
    })
}

/// A limit where zero means the default and less is refused.
fn positive(name: &str, given: Option<i64>, default: u64) -> Result<u64, String> {
    match given {
        None | Some(0) => Ok(default),
        Some(number) => u64::try_from(number)
            .map_err(|_| format!("{name} of {number} is not supported yet, it must be positive")),
    }
}

fn limits(draft: &Draft, warnings: &mut Vec<String>) -> Result<Limits, String> {
    let default = Limits::default();
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let pending_default = i64::try_from(default.pending_bytes_max).unwrap_or(i64::MAX);
    let pending = draft.pending_max.filter(|n| *n != 0).unwrap_or(pending_default);
    let payload =
        draft.payload_max.filter(|n| *n != 0).unwrap_or(i64::from(default.payload_bytes_max));
    if payload > pending {
        return Err(format!(
            "max_payload ({payload}) cannot be higher than max_pending ({pending})"
        ));
    }
    if payload > PAYLOAD_WARN_BYTES {
        warnings.push(
            "Maximum payloads over 8.00 MB are generally discouraged and could lead to poor \
             performance"
                .to_owned(),
        );
    }
    Ok(Limits {
        control_line_bytes_max: narrow(positive(
            "max_control_line",
            draft.control_line_max,
            u64::from(default.control_line_bytes_max),
        )?),
        payload_bytes_max: narrow(positive("max_payload", Some(payload), 0)?),
        pending_bytes_max: positive("max_pending", Some(pending), 0)?,
        // As in nats-server, nothing and less than nothing let nobody in.
        connections_max: match draft.connections_max {
            None => default.connections_max,
            Some(number) => narrow(u64::try_from(number).unwrap_or(0)),
        },
        subscriptions_max: match draft.subscriptions_max {
            None | Some(-1) => 0,
            Some(number) => narrow(u64::try_from(number).map_err(|_| {
                format!("max_subscriptions of {number} is not supported, it must be -1 or more")
            })?),
        },
        subscription_tokens_max: draft.subscription_tokens_max.unwrap_or(0),
        closed_clients_max: narrow(positive(
            "max_closed_clients",
            draft.closed_clients_max,
            u64::from(default.closed_clients_max),
        )?),
    })
}

fn timing(draft: &Draft, options: &mut Options) -> Result<(), String> {
    let time = |name: &str, given: Option<i64>, default: Duration| match given {
        None | Some(0) => Ok(default),
        Some(ns) => u64::try_from(ns)
            .map(Duration::from_nanos)
            .map_err(|_| format!("{name} of {} is not supported", format_duration(ns))),
    };
    options.ping_interval = time("ping_interval", draft.ping_interval, options.ping_interval)?;
    options.write_deadline = time("write_deadline", draft.write_deadline, options.write_deadline)?;
    let ping_max = positive("ping_max", draft.ping_max, u64::from(options.ping_max))?;
    options.ping_max = u32::try_from(ping_max).unwrap_or(u32::MAX);
    let duration = draft.lame_duck_duration.map(Duration::from_nanos_signed);
    let grace = draft.lame_duck_grace.map(Duration::from_nanos_signed);
    options.lame_duck_duration = duration.unwrap_or(options.lame_duck_duration);
    options.lame_duck_grace_period = grace.unwrap_or(options.lame_duck_grace_period);
    if options.lame_duck_grace_period >= options.lame_duck_duration {
        let show = |d: Duration| format_duration(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
        return Err(format!(
            "lame duck grace period ({}) should be strictly lower than lame duck duration ({})",
            show(options.lame_duck_grace_period),
            show(options.lame_duck_duration)
        ));
    }
    Ok(())
}

fn jetstream(draft: &Draft, persona: Persona) -> Result<JetStreamOptions, String> {
    let mut options = JetStreamOptions::defaults(persona);
    if let Some(dir) = draft.store_dir.as_deref().filter(|d| !d.is_empty()) {
        options.store_dir = Path::new(dir).join("jetstream");
        options.store_dir_given = true;
    }
    // Less than zero asks for the host's share, as saying nothing does.
    let bytes = |given: Option<i64>| given.and_then(|n| u64::try_from(n).ok());
    options.memory_bytes_max = bytes(draft.memory_max);
    options.store_bytes_max = bytes(draft.store_max);
    options.sync = match draft.sync_interval {
        _ if draft.sync_always => SyncPolicy::Always,
        None => SyncPolicy::BeforeAck,
        Some(ns) if ns < 0 => {
            return Err(format!("sync_interval of {} is not supported", format_duration(ns)));
        }
        Some(0) => SyncPolicy::Interval(SYNC_INTERVAL_DEFAULT),
        Some(ns) => SyncPolicy::Interval(Duration::from_nanos_signed(ns)),
    };
    options.strict = draft.strict.unwrap_or(true);
    let natural = |number: i64| u32::try_from(number.max(0)).unwrap_or(u32::MAX);
    if draft.request_queue_limit > 0 {
        options.requests_max = Some(natural(draft.request_queue_limit));
    }
    options.ack_pending_max = natural(draft.ack_pending_max);
    options.request_batch_max = natural(draft.request_batch_max);
    options.consumers_max = match draft.consumers_max {
        0 => CONSUMERS_MAX_DEFAULT,
        number => number,
    };
    options.duplicate_window_max = Duration::from_nanos_signed(draft.duplicate_window);
    Ok(options)
}

/// Nanoseconds below zero are none.
trait FromNanos {
    fn from_nanos_signed(ns: i64) -> Self;
}

impl FromNanos for Duration {
    fn from_nanos_signed(ns: i64) -> Self {
        Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
    }
}
