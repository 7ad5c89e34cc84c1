//! The command line. `compare` and `whitepaper` write the same words, so that every measured run
//! can be repeated by hand.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A load generator for NATS and JetStream servers.
#[derive(Debug, Parser)]
#[command(name = "corelane-bench", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Where and how to report.
    #[command(flatten)]
    pub common: Common,
}

/// What every scenario takes.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The server's address
    #[arg(long, short = 's', global = true, default_value = "127.0.0.1:4222")]
    pub server: SocketAddr,
    /// The server's process, to report its processor time and memory
    #[arg(long, global = true, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// corelane's monitoring address, to report its longest turns
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub monitor: Option<SocketAddr>,
    /// Also write the results as JSON
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Show no progress bar
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// First run against a built-in server that does nothing, and report that rate as the ceiling
    #[arg(long, global = true)]
    pub ceiling: bool,
}

/// How long a scenario runs.
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// How long to measure (5, 5s, 500ms)
    #[arg(long, short = 'd', default_value = "5s", value_parser = duration)]
    pub duration: Duration,
    /// How long to run before measuring
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub warmup: Duration,
}

/// The scenarios.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Publishers and as many subscribers, core NATS, as fast as it goes
    CorePubSub(CorePubSub),
    /// One publisher, several subscribers
    Fanout(Fanout),
    /// Requests and replies
    Request(Request),
    /// One-way latency at rest, by pairs of connections
    Latency(Latency),
    /// JetStream publishes with acknowledgements
    JsPublish(JsPublish),
    /// JetStream consumers that read a stream from its start
    JsReplay(JsReplay),
    /// JetStream publishers and consumers at once
    JsSustained(JsSustained),
    /// Latency of a JetStream publish with one in flight
    JsAckLatency(JsAckLatency),
    /// What many push consumers with a backlog do to another client's requests
    JsPushBacklog(JsPushBacklog),
    /// Many streams, each slow, at a given rate
    JsSlowStreams(JsSlowStreams),
    /// Connections that do nothing
    IdleConnections(IdleConnections),
    /// Fills a stream with messages on many subjects and leaves it there
    JsRestartFill(JsRestartFill),
    /// Publish latency while a large purge runs and a consumer over many subjects is created
    JsPurgeInterference(JsPurgeInterference),
    /// The publish, replay and sustained tables of "Comparing NATS.io with Amazon Kinesis"
    Whitepaper(Whitepaper),
    /// A 4 KiB overwrite and flush on a directory's device
    Device(Device),
    /// A server that does nothing, to measure the generator itself
    Sink(Sink),
    /// Two servers in the same run
    Compare(Compare),
    /// Lists what `compare` can run
    Runs,
}

/// Arguments of `core-pub-sub`.
#[derive(Args, Clone, Debug)]
pub struct CorePubSub {
    /// Payload sizes, one run each
    #[arg(long, value_delimiter = ',', default_value = "128", value_parser = size)]
    pub size: Vec<usize>,
    /// Pairs of a publisher and a subscriber, each pair on a subject of its own
    #[arg(long, default_value_t = 1)]
    pub pairs: usize,
    /// Only publish
    #[arg(long)]
    pub no_subscriber: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub load: Load,
}

/// Arguments of `fanout`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct Fanout {
    #[arg(long, value_delimiter = ',', default_value = "128", value_parser = size)]
    pub size: Vec<usize>,
    #[arg(long, default_value_t = 4)]
    pub subscribers: usize,
    #[command(flatten)]
    pub load: Load,
}

/// Arguments of `request`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct Request {
    #[arg(long, default_value = "128", value_parser = size)]
    pub size: usize,
    #[arg(long, default_value_t = 1)]
    pub clients: usize,
    /// Responders, in one queue group
    #[arg(long, default_value_t = 1)]
    pub responders: usize,
    #[arg(long, default_value_t = 1)]
    pub in_flight: usize,
    #[command(flatten)]
    pub load: Load,
}

/// Arguments of `latency`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct Latency {
    #[arg(long, default_value = "128", value_parser = size)]
    pub size: usize,
    /// Subscribing connections; a server spreads them over its cores
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// Messages per second, in all
    #[arg(long, default_value_t = 1000.0)]
    pub rate: f64,
    #[command(flatten)]
    pub load: Load,
}

/// Where a stream is kept.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Storage {
    File,
    Memory,
}

/// The stream of a scenario.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct StreamArgs {
    #[arg(long, default_value = "corelane-bench")]
    pub stream: String,
    #[arg(long, value_enum, default_value_t = Storage::File)]
    pub storage: Storage,
    #[arg(long, default_value_t = 1)]
    pub replicas: u32,
    /// Leave the stream there afterwards
    #[arg(long)]
    pub keep: bool,
}

/// Arguments of `js-publish`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct JsPublish {
    /// Payload sizes, one run each
    #[arg(long, value_delimiter = ',', default_value = "1KiB", value_parser = size)]
    pub size: Vec<usize>,
    #[arg(long, default_value_t = 8)]
    pub clients: usize,
    /// Unacknowledged publishes of each client
    #[arg(long, default_value_t = 500)]
    pub in_flight: usize,
    /// Threads of the generator (default: one for each core, at most one for each client)
    #[arg(long)]
    pub threads: Option<usize>,
    /// Publishes per second, in all; latency then counts from when each was due (open loop)
    #[arg(long)]
    pub rate: Option<f64>,
    /// Publish so many messages instead of for a time
    #[arg(long)]
    pub msgs: Option<u64>,
    #[command(flatten)]
    pub stream: StreamArgs,
    #[command(flatten)]
    pub load: Load,
}

/// How a consumer gets its messages.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Mode {
    /// An ordered push consumer with flow control
    Push,
    /// An ephemeral pull consumer, asked again before it runs dry
    Pull,
}

/// Arguments of `js-replay`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct JsReplay {
    #[arg(long, default_value = "1KiB", value_parser = size)]
    pub size: usize,
    /// Messages in the stream (default: 512 MiB of them)
    #[arg(long)]
    pub msgs: Option<u64>,
    /// Consumers, each of which reads everything; one run for each number
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub consumers: Vec<usize>,
    #[arg(long, value_enum, default_value_t = Mode::Push)]
    pub mode: Mode,
    /// Messages of one pull request
    #[arg(long, default_value_t = 500)]
    pub batch: usize,
    /// Read a stream that is there already
    #[arg(long)]
    pub no_fill: bool,
    /// Read only what matches
    #[arg(long)]
    pub filter: Option<String>,
    /// The longest a replay may take
    #[arg(long, default_value = "120s", value_parser = duration)]
    pub limit: Duration,
    #[command(flatten)]
    pub stream: StreamArgs,
}

/// Arguments of `js-sustained`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct JsSustained {
    #[arg(long, default_value = "1KiB", value_parser = size)]
    pub size: usize,
    #[arg(long, default_value_t = 8)]
    pub clients: usize,
    #[arg(long, default_value_t = 500)]
    pub in_flight: usize,
    #[arg(long, default_value_t = 1)]
    pub consumers: usize,
    #[arg(long, value_enum, default_value_t = Mode::Push)]
    pub mode: Mode,
    #[arg(long, default_value_t = 500)]
    pub batch: usize,
    #[arg(long)]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub stream: StreamArgs,
    #[command(flatten)]
    pub load: Load,
}

/// Arguments of `js-ack-latency`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct JsAckLatency {
    #[arg(long, default_value = "1KiB", value_parser = size)]
    pub size: usize,
    /// Connections used in turn; a server spreads them over its cores
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    #[command(flatten)]
    pub stream: StreamArgs,
    #[command(flatten)]
    pub load: Load,
}

/// Arguments of `js-push-backlog`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct JsPushBacklog {
    #[arg(long, default_value_t = 1000)]
    pub consumers: usize,
    /// Connections that they deliver to
    #[arg(long, default_value_t = 5)]
    pub connections: usize,
    /// Messages that each of them has to deliver
    #[arg(long, default_value_t = 200_000)]
    pub msgs: u64,
    #[arg(long, default_value = "128", value_parser = size)]
    pub size: usize,
    /// Connections that ask meanwhile
    #[arg(long, default_value_t = 4)]
    pub askers: usize,
    /// The pause between two questions
    #[arg(long, default_value = "2ms", value_parser = duration)]
    pub every: Duration,
    /// How long the server may rest before it begins
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub pause: Duration,
    /// The longest that filling may take
    #[arg(long, default_value = "120s", value_parser = duration)]
    pub limit: Duration,
    #[command(flatten)]
    pub stream: StreamArgs,
    #[command(flatten)]
    pub load: Load,
}

/// Arguments of `js-slow-streams`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct JsSlowStreams {
    #[arg(long, default_value_t = 1000)]
    pub streams: usize,
    /// Messages per second of each stream
    #[arg(long, default_value_t = 8.0)]
    pub rate: f64,
    #[arg(long, default_value = "256", value_parser = size)]
    pub size: usize,
    #[arg(long, default_value_t = 8)]
    pub clients: usize,
    #[command(flatten)]
    pub stream: StreamArgs,
    #[command(flatten)]
    pub load: Load,
}

/// Arguments of `idle-connections`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct IdleConnections {
    #[arg(long, default_value_t = 10_000)]
    pub connections: usize,
    /// How long they are held before memory and processor time are read
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub hold: Duration,
}

/// Arguments of `js-restart-fill`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct JsRestartFill {
    #[arg(long, default_value_t = 5_000_000)]
    pub msgs: u64,
    #[arg(long, default_value = "256", value_parser = size)]
    pub size: usize,
    #[arg(long, default_value_t = 100_000)]
    pub subjects: u64,
    #[arg(long, default_value_t = 4)]
    pub clients: usize,
    #[arg(long, default_value_t = 500)]
    pub in_flight: usize,
    /// Streams, filled in turn so that they interleave
    #[arg(long, default_value_t = 1)]
    pub streams: u64,
    /// The longest it may take
    #[arg(long, default_value = "300s", value_parser = duration)]
    pub limit: Duration,
    #[command(flatten)]
    pub stream: StreamArgs,
}

/// Arguments of `js-purge-interference`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct JsPurgeInterference {
    /// Messages that the purge removes
    #[arg(long, default_value_t = 1_000_000)]
    pub purged: u64,
    /// Subjects under the consumer that is created
    #[arg(long, default_value_t = 1_000_000)]
    pub subjects: u64,
    #[arg(long, default_value = "128", value_parser = size)]
    pub size: usize,
    /// Publishes per second meanwhile
    #[arg(long, default_value_t = 2000.0)]
    pub rate: f64,
    /// How long each of the two phases is watched at least
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub phase: Duration,
    /// The longest that filling, the purge or the consumer may take
    #[arg(long, default_value = "300s", value_parser = duration)]
    pub limit: Duration,
    #[command(flatten)]
    pub stream: StreamArgs,
}

/// Arguments of `whitepaper`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct Whitepaper {
    #[arg(long, value_delimiter = ',', value_parser = size)]
    #[arg(default_value = "1KiB,5KiB,10KiB,100KiB")]
    pub size: Vec<usize>,
    #[arg(long, default_value_t = 8)]
    pub clients: usize,
    #[arg(long, default_value_t = 500)]
    pub in_flight: usize,
    #[arg(long, default_value_t = 4)]
    pub consumers_max: usize,
    /// Bytes of payload in the stream that is replayed
    #[arg(long, default_value = "1GiB", value_parser = size)]
    pub volume: usize,
    #[arg(long, value_enum, default_value_t = Mode::Push)]
    pub mode: Mode,
    #[command(flatten)]
    pub stream: StreamArgs,
    #[command(flatten)]
    pub load: Load,
}

/// Arguments of `device`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct Device {
    /// A directory on the device
    #[arg(default_value = ".")]
    pub directory: PathBuf,
    #[arg(long, default_value_t = 2000)]
    pub writes: usize,
}

/// Arguments of `sink`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct Sink {
    #[arg(long, short = 'p', default_value_t = 4222)]
    pub port: u16,
}

/// Arguments of `compare`.
#[derive(Args, Clone, Debug)]
#[allow(missing_docs)]
pub struct Compare {
    /// The server under test: `[NAME=]COMMAND`, with {port} and {dir} in it, and
    /// {monitor} where its monitoring port goes, if turns are to be told; NAME `nats-server`
    /// and a path alone means nats-server with a minimal configuration
    #[arg(long, value_name = "SERVER")]
    pub a: String,
    /// What it is compared with, written in the same way
    #[arg(long, value_name = "SERVER")]
    pub b: String,
    /// Which sets of runs, or which single ones by name (`runs` lists them)
    #[arg(long = "set", value_delimiter = ',', default_value = "bars")]
    pub sets: Vec<String>,
    /// Runs of each server per measurement, in turn
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// The `nats` command line, for the run that uses its own bench
    #[arg(long)]
    pub nats: Option<PathBuf>,
    /// Where the servers keep their data (default: a temporary directory); removed afterwards
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// End everything after this time, with what is there by then
    #[arg(long, default_value = "3600s", value_parser = duration)]
    pub time_limit: Duration,
    /// Scale durations and counts, for a quick look (0.1) or a long run (3)
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
}

/// `5`, `5s`, `500ms`, `2m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}")),
    };
    let seconds: f64 = number.trim().parse().map_err(|_| format!("{text:?} is no duration"))?;
    Duration::try_from_secs_f64(seconds * factor).map_err(|error| error.to_string())
}

/// `128`, `128B`, `1k`, `1KiB`, `2MiB`; a kilobyte has 1,024 bytes, as in `nats bench`.
pub fn size(text: &str) -> Result<usize, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(format!("unknown unit {unit:?}")),
    };
    let number: usize = number.trim().parse().map_err(|_| format!("{text:?} is no size"))?;
    number.checked_shl(shift).filter(|n| n >> shift == number).ok_or("too large".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_and_durations() {
        assert_eq!(size("128"), Ok(128));
        assert_eq!(size("128B"), Ok(128));
        assert_eq!(size("1kb"), Ok(1024));
        assert_eq!(size("100KiB"), Ok(102_400));
        assert_eq!(size("2g"), Ok(2 << 30));
        assert!(size("x").is_err() && size("1x").is_err() && size("99999999999999999g").is_err());
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("-1s").is_err() && duration("1y").is_err() && duration("").is_err());
    }

    #[test]
    fn sizes_come_as_lists_and_flags_in_any_place() {
        let words = ["b", "--server", "127.0.0.1:9", "js-publish", "--size", "128,1KiB"];
        let cli = Cli::parse_from(words.iter().chain(&["--json", "x.json", "-d", "2s"]));
        assert_eq!(cli.common.server.port(), 9);
        assert_eq!(cli.common.json, Some("x.json".into()));
        let Command::JsPublish(js) = cli.command else { panic!("js-publish") };
        assert_eq!(js.size, [128, 1024]);
        assert_eq!((js.clients, js.in_flight, js.load.duration.as_secs()), (8, 500, 2));
    }
}
