//! What the operator meant: every setting typed, with a value.
//!
//! `Options` is total: defaults are filled in, so nobody downstream asks "was it given?", except
//! where the answer depends on the host (`Option` fields, each says so). It is an immutable
//! snapshot: a reload would make a new one.

use std::path::PathBuf;
use std::time::Duration;

/// The NATS version that clients' feature checks see in `INFO`, `/varz` and `-v`.
pub const NATS_VERSION: &str = "2.15.1";
/// corelane's own version, shown beside it.
pub const CORELANE_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Default client port.
pub const DEFAULT_PORT: u16 = 4222;
/// Default of `default_max_consumers`, which came with NATS 2.15.
pub const CONSUMERS_MAX_DEFAULT: i64 = 1_000;
/// Default bind address.
pub const DEFAULT_HOST: &str = "0.0.0.0";

/// The name the program was started under, which decides wording and the default store directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persona {
    /// Our own name.
    Corelane,
    /// `argv[0]` was `nats-server`: tools that start one must not notice a difference.
    NatsServer,
}

impl Persona {
    /// The program's name as it stands before messages on stderr.
    pub fn name(self) -> &'static str {
        match self {
            Persona::Corelane => "corelane",
            Persona::NatsServer => "nats-server",
        }
    }
}

/// Everything that a start needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Name the program was started under.
    pub persona: Persona,
    /// The configuration file, as given.
    pub config_file: Option<PathBuf>,
    /// `sha256:<hex>` of the parsed configuration; empty without a file.
    pub config_digest: String,
    /// Address to bind for clients.
    pub host: String,
    /// Port for clients; 0 lets the system choose (NATS writes that as -1).
    pub port: u16,
    /// Server name; `None` means the server's id.
    pub server_name: Option<String>,
    /// `host:port` that INFO advertises to clients instead of the bound address.
    pub client_advertise: Option<Advertise>,
    /// HTTP monitoring; `None` is off.
    pub http: Option<HttpOptions>,
    /// Logging.
    pub log: LogOptions,
    /// File to write the process id to.
    pub pid_file: Option<PathBuf>,
    /// Directory for `<exe>_<pid>.ports`.
    pub ports_file_dir: Option<PathBuf>,
    /// Limits on connections and what they send.
    pub limits: Limits,
    /// Time between a server's PINGs to a client.
    pub ping_interval: Duration,
    /// Unanswered PINGs before a connection is stale.
    pub ping_max: u32,
    /// Time a send may take before its client counts as slow.
    pub write_deadline: Duration,
    /// Time over which lame duck mode closes clients.
    pub lame_duck_duration: Duration,
    /// Time before the first client is closed in lame duck mode.
    pub lame_duck_grace_period: Duration,
    /// JetStream; `None` is off.
    pub jetstream: Option<JetStreamOptions>,
    /// False when publishers are never stalled before a full outbound.
    pub fast_producer_stall: bool,
    /// False: header messages are not offered to clients.
    pub headers: bool,
    /// Free words shown in `/varz` and `$SYS`.
    pub server_tags: Vec<String>,
    /// Free pairs shown in `/varz` and `$SYS`, in the order of their names.
    pub server_metadata: Vec<(String, String)>,
    /// How the engine uses the host.
    pub engine: EngineOptions,
    /// Lines to log as warnings at the start, in order.
    pub warnings: Vec<String>,
    /// What the log refuses the start with, once it is open: the first of these.
    pub refusals: Vec<String>,
    /// Text for standard error before the log starts: old-fashioned values, by position.
    pub notes: String,
}

/// A host and port to tell others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// Host name or address.
    pub host: String,
    /// Port; 0 means the bound one.
    pub port: u16,
}

/// HTTP monitoring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// Address to bind.
    pub host: String,
    /// Port; 0 lets the system choose.
    pub port: u16,
    /// Path before every endpoint: empty, or `/x` without a slash at its end.
    pub base_path: String,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// `[DBG]` lines.
    pub debug: bool,
    /// `[TRC]` lines.
    pub trace: bool,
    /// Traces of the system account too.
    pub trace_verbose: bool,
    /// Headers in traces.
    pub trace_headers: bool,
    /// Whether lines start with the time.
    pub time: bool,
    /// UTC instead of the local zone.
    pub time_utc: bool,
    /// File instead of stderr.
    pub file: Option<PathBuf>,
    /// Bytes after which the file is rotated; 0 is never.
    pub size_limit_bytes: u64,
    /// Number of log files kept, the current one included; 0 keeps all.
    pub files_max: u32,
    /// Longest part of a message in a trace; 0 is unlimited.
    pub traced_message_bytes_max: u32,
}

/// Limits on connections and what they send. Zero stands for "no limit" only where the text says
/// so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest arguments of a verb, in bytes.
    pub control_line_bytes_max: u32,
    /// Longest message, header and body together, in bytes.
    pub payload_bytes_max: u32,
    /// Bytes that may wait for one client before it counts as slow.
    pub pending_bytes_max: u64,
    /// Connected clients; with 0 none is let in.
    pub connections_max: u32,
    /// Subscriptions of one connection; 0 is unlimited.
    pub subscriptions_max: u32,
    /// Tokens in a subscription's subject; 0 is unlimited.
    pub subscription_tokens_max: u8,
    /// Closed clients kept for `/connz`.
    pub closed_clients_max: u32,
}

/// When the log is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Nothing was said: flushed before every acknowledgement.
    BeforeAck,
    /// `sync_interval: always`: the same, and said so in `/varz`.
    Always,
    /// `sync_interval` with a duration: acknowledged when written, flushed at least this often.
    Interval(Duration),
}

impl SyncPolicy {
    /// True if an acknowledgement promises durability.
    pub fn flush_before_ack(self) -> bool {
        !matches!(self, SyncPolicy::Interval(_))
    }
}

/// JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JetStreamOptions {
    /// Where the data lies: `<store_dir>/jetstream`, or the persona's default.
    pub store_dir: PathBuf,
    /// False if `store_dir` is the default; the start says so in the log.
    pub store_dir_given: bool,
    /// Bytes for memory streams; `None` is three quarters of the host's memory.
    pub memory_bytes_max: Option<u64>,
    /// Bytes for file streams; `None` is three quarters of what the disk has free.
    pub store_bytes_max: Option<u64>,
    /// When the log is flushed.
    pub sync: SyncPolicy,
    /// Requests with unknown fields are refused.
    pub strict: bool,
    /// Requests of the API that may wait, if that was said; who sends more is not read meanwhile.
    pub requests_max: Option<u32>,
    /// Largest `max_ack_pending` of a consumer; 0 is unlimited.
    pub ack_pending_max: u32,
    /// Largest batch of a pull request; 0 is unlimited.
    pub request_batch_max: u32,
    /// Longest duplicate window of a stream; zero is unlimited.
    pub duplicate_window_max: Duration,
    /// Most consumers of a stream that does not say how many it may have; less than zero is
    /// unlimited.
    pub consumers_max: i64,
}

/// The `corelane {}` block: how the engine uses the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// CPUs to pin reactors to, ascending; empty means all that the process may use.
    pub cpus: Vec<u32>,
    /// Number of reactors; `None` means one a CPU.
    pub reactors: Option<u16>,
    /// Number of shards of a new store; `None` means one a reactor. A store that exists keeps its
    /// own.
    pub shards: Option<u16>,
    /// Size of a log segment, a multiple of 4 MiB.
    pub segment_bytes: u64,
    /// Memory of recent log blocks, of the whole node.
    pub tail_cache_bytes: u64,
    /// Log writes in flight; 0 lets the size of the writes decide.
    pub writes_in_flight: u8,
    /// Least time between two small writes of a log, so that publishes share a flush.
    pub flush_gather: Duration,
    /// Bytes of publishes that may wait for durability, of the whole node.
    pub publish_credit_bytes: u64,
    /// Whether reactors are pinned.
    pub pin: bool,
    /// Whether to keep CPUs out of slow idle states while clients are busy.
    pub short_wake_ups: bool,
}

/// The block size of the log, of which a segment is a multiple.
pub const BLOCK_BYTES: u64 = 4 << 20;

impl Options {
    /// What a start without a file and without flags means.
    pub fn defaults(persona: Persona) -> Self {
        Options {
            persona,
            config_file: None,
            config_digest: String::new(),
            host: DEFAULT_HOST.to_owned(),
            port: DEFAULT_PORT,
            server_name: None,
            client_advertise: None,
            http: None,
            log: LogOptions::default(),
            pid_file: None,
            ports_file_dir: None,
            limits: Limits::default(),
            ping_interval: Duration::from_secs(120),
            ping_max: 2,
            write_deadline: Duration::from_secs(10),
            lame_duck_duration: Duration::from_secs(120),
            lame_duck_grace_period: Duration::from_secs(10),
            jetstream: None,
            fast_producer_stall: true,
            headers: true,
            server_tags: Vec::new(),
            server_metadata: Vec::new(),
            engine: EngineOptions::default(),
            warnings: Vec::new(),
            refusals: Vec::new(),
            notes: String::new(),
        }
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            debug: false,
            trace: false,
            trace_verbose: false,
            trace_headers: false,
            time: true,
            time_utc: false,
            file: None,
            size_limit_bytes: 0,
            files_max: 0,
            traced_message_bytes_max: 0,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            control_line_bytes_max: 4096,
            payload_bytes_max: 1 << 20,
            pending_bytes_max: 64 << 20,
            connections_max: 64 << 10,
            subscriptions_max: 0,
            subscription_tokens_max: 0,
            closed_clients_max: 10_000,
        }
    }
}

impl JetStreamOptions {
    /// JetStream with nothing said about it.
    pub fn defaults(persona: Persona) -> Self {
        let root = match persona {
            Persona::Corelane => PathBuf::from("./corelane-data"),
            Persona::NatsServer => std::env::temp_dir().join("nats"),
        };
        JetStreamOptions {
            store_dir: root.join("jetstream"),
            store_dir_given: false,
            memory_bytes_max: None,
            store_bytes_max: None,
            sync: SyncPolicy::BeforeAck,
            strict: true,
            requests_max: None,
            ack_pending_max: 0,
            request_batch_max: 0,
            duplicate_window_max: Duration::ZERO,
            consumers_max: CONSUMERS_MAX_DEFAULT,
        }
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            cpus: Vec::new(),
            reactors: None,
            shards: None,
            segment_bytes: 64 << 20,
            tail_cache_bytes: 128 << 20,
            writes_in_flight: 0,
            flush_gather: Duration::from_micros(100),
            publish_credit_bytes: 64 << 20,
            pin: true,
            short_wake_ups: true,
        }
    }
}
