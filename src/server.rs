//! One broker process: from its options to its exit code. Log lines, files, signals and monitoring;
//! everything else is the node's.

mod monitor;
mod rest;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::client::{Limits, ServerInfo};
use crate::config::banner;
use crate::config::files::{self, Ports, PortsFile};
use crate::config::log::Logger;
use crate::config::options::{Advertise, JetStreamOptions, NATS_VERSION, Options};
use crate::control::{self, Control, Site};
use crate::reactor::{self, Node, NodeError, Plan, Store};
use crate::turn::{Command, LameDuck, LogSettings, Settings, TraceSettings};
use crate::types::WallTime;
use monitor::{Mailboxes, Source};
use rest::Rest;

/// How often a draining node looks whether its clients are gone.
const DRAIN_LOOK: Duration = Duration::from_millis(100);

/// Bytes for memory streams where the host does not say how much memory it has, as in nats-server.
const MEMORY_BYTES_GUESS: u64 = 256 << 20;
/// Bytes for file streams where the file system does not say what is free, as in nats-server.
const STORE_BYTES_GUESS: u64 = 1 << 40;

/// How long JetStream may take to come to rest at a stop.
const REST_MAX: Duration = Duration::from_secs(10);

/// Runs the broker until it is told to stop. Returns the exit code.
pub fn run(options: Options) -> i32 {
    eprint!("{}", options.notes);
    let logger = match Logger::open(&options.log) {
        Ok(logger) => logger,
        Err(line) => {
            eprintln!("{line}");
            return 1;
        }
    };
    match start(options, &logger) {
        Ok(code) => code,
        Err(text) => {
            logger.fatal(format_args!("{text}"));
            1
        }
    }
}

fn start(options: Options, logger: &Logger) -> Result<i32, String> {
    corelane_tune::probe().map_err(|e| e.to_string())?;
    let signals = Signals::block();
    // Only now, so that signals are blocked in it, too.
    logger.start_writer().map_err(|e| format!("cannot start the log's thread: {e}"))?;
    let server_id = public_key(b'N').map_err(|e| e.to_string())?;
    let server_name = options.server_name.clone().unwrap_or_else(|| server_id.clone());
    introduce(&options, &server_id, logger)?;
    let listener = reactor::listen(&options).map_err(|e| listen_error(&options, &e))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    if let Some(path) = &options.pid_file {
        files::write_pid_file(path)?;
    }
    let begun = Instant::now();
    let reactors = reactor_count(&options);
    let limits = store_limits(&options);
    let shown = advertised(&options, address.port());
    let settings = Arc::new(settings(&options, &server_id, &server_name, &shown)?);
    let site = Site {
        options: Options { host: shown.host, ..options.clone() },
        server_id,
        server_name: server_name.clone(),
        client_port: shown.port,
        start: now(),
        begun: Instant::now(),
        cores: u32::try_from(reactor::allowed_cpus().len()).unwrap_or(u32::MAX),
        api_level: crate::api::API_LEVEL,
        memory_bytes_max: limits.0,
        store_bytes_max: limits.1,
    };
    let mailboxes = Mailboxes::default();
    let control = start_monitor(site, &mailboxes, logger)?;
    let store = match &options.jetstream {
        Some(js) => Some(open_store(js, &options, reactors, limits, logger)?),
        None => None,
    };
    let mut options = options;
    if let Some(js) = &mut options.jetstream {
        (js.memory_bytes_max, js.store_bytes_max) = (Some(limits.0), Some(limits.1));
    }
    let plan = Plan {
        cpus: options.engine.cpus.iter().map(|&c| c as usize).collect(),
        pin: options.engine.pin,
        server_name,
        settings,
        logger: logger.clone(),
        reactors,
        store,
        descriptors_elsewhere: control.as_ref().map_or(0, |_| control::DESCRIPTORS_MAX),
        options: options.clone(),
    };
    let mut node = Node::start(plan, listener).map_err(|e| start_error(&e))?;
    // Only this sets them. Monitoring finds the node able to serve before anybody can connect.
    let _ = mailboxes.set(node.mailboxes().to_vec());
    node.open().map_err(|e| listen_error(&options, &e))?;
    if options.jetstream.is_some() {
        logger.info(format_args!("{}", banner::jetstream_took(begun.elapsed())));
    }
    logger.info(format_args!("{}", banner::listening(&options.host, address.port())));
    let ports = write_files(&options, address, control.as_ref(), logger);
    logger.info(format_args!("{}", banner::READY));
    let code = serve(&options, node, control, &signals, logger);
    if let Some(Err(why)) = ports.map(PortsFile::remove) {
        logger.error(format_args!("{why}"));
    }
    Ok(code)
}

/// The first lines of the log. The error is what the options refuse the start with.
fn introduce(options: &Options, server_id: &str, logger: &Logger) -> Result<(), String> {
    for line in banner::start(options, server_id) {
        logger.info(format_args!("{line}"));
    }
    for line in &options.warnings {
        logger.warn(format_args!("{line}"));
    }
    options.refusals.first().map_or(Ok(()), |text| Err(text.clone()))
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Starts monitoring where it is configured: before the store is opened, which may take long.
fn start_monitor(
    site: Site,
    mailboxes: &Mailboxes,
    logger: &Logger,
) -> Result<Option<Control>, String> {
    let Some(http) = site.options.http.clone() else { return Ok(None) };
    let source = Source::new(mailboxes.clone(), site.options.jetstream.is_some());
    let control = control::start(&http, site, Box::new(source)).map_err(|e| {
        let text = banner::cannot_listen(&http.host, http.port, &e);
        let why = text.split('"').nth(1).unwrap_or(&text).to_owned();
        format!("Can't start monitoring: can't listen to the monitor port: {why}")
    })?;
    logger.info(format_args!("{}", banner::http_monitor(&http.host, control.address().port())));
    Ok(Some(control))
}

fn listen_error(options: &Options, error: &NodeError) -> String {
    match error {
        NodeError::Listen(why) => banner::cannot_listen(&options.host, options.port, why),
        other => other.to_string(),
    }
}

fn start_error(error: &NodeError) -> String {
    match error {
        NodeError::Store(why) => format!("Can't start JetStream: {why}"),
        other => other.to_string(),
    }
}

fn reactor_count(options: &Options) -> usize {
    let cpus = match options.engine.cpus.len() {
        0 => reactor::allowed_cpus().len(),
        n => n,
    };
    options.engine.reactors.map_or(cpus, usize::from).max(1)
}

/// Bytes that memory and file streams may take.
fn store_limits(options: &Options) -> (u64, u64) {
    let Some(js) = &options.jetstream else { return (0, 0) };
    let memory = || match corelane_tune::memory_bytes() {
        0 => MEMORY_BYTES_GUESS,
        bytes => bytes / 4 * 3,
    };
    let free =
        || corelane_tune::disk_free_bytes(&js.store_dir).map_or(STORE_BYTES_GUESS, |n| n / 4 * 3);
    (js.memory_bytes_max.unwrap_or_else(memory), js.store_bytes_max.unwrap_or_else(free))
}

fn open_store(
    js: &JetStreamOptions,
    options: &Options,
    reactors: usize,
    (memory, disk): (u64, u64),
    logger: &Logger,
) -> Result<Store, String> {
    for line in banner::jetstream(js, memory, disk, crate::api::API_LEVEL) {
        logger.info(format_args!("{line}"));
    }
    let shards = options.engine.shards.unwrap_or(u16::try_from(reactors).unwrap_or(u16::MAX));
    let root = js.store_dir.parent().unwrap_or(&js.store_dir);
    Store::open(root, shards).map_err(|e| format!("Can't start JetStream: {e}"))
}

/// The host and port that clients and monitoring are shown.
fn advertised(options: &Options, port: u16) -> Advertise {
    match &options.client_advertise {
        Some(Advertise { host, port: 0 }) => Advertise { host: host.clone(), port },
        Some(given) => given.clone(),
        None => Advertise { host: options.host.clone(), port },
    }
}

fn settings(
    options: &Options,
    server_id: &str,
    server_name: &str,
    shown: &Advertise,
) -> Result<Settings, String> {
    let ns = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
    let given = &options.limits;
    let limits = Limits {
        max_control_line: given.control_line_bytes_max as usize,
        max_payload: given.payload_bytes_max as usize,
        max_pending: usize::try_from(given.pending_bytes_max).unwrap_or(usize::MAX),
        max_subscriptions: given.subscriptions_max as usize,
        max_subscription_tokens: usize::from(given.subscription_tokens_max),
        ping_interval: ns(options.ping_interval),
        ping_max: options.ping_max,
        write_deadline: ns(options.write_deadline),
        first_ping: Limits::default().first_ping.min(ns(options.ping_interval)),
        stall: options.fast_producer_stall,
        headers: options.headers,
        closed_max: given.closed_clients_max as usize,
    };
    let info = ServerInfo {
        server_id: server_id.to_owned(),
        server_name: server_name.to_owned(),
        version: NATS_VERSION.to_owned(),
        proto: 1,
        git_commit: banner::git_commit(),
        go: "go1.27".to_owned(),
        host: shown.host.clone(),
        port: shown.port,
        headers: options.headers,
        auth_required: false,
        max_payload: i64::from(given.payload_bytes_max),
        jetstream: options.jetstream.is_some(),
        connect_urls: Vec::new(),
        domain: String::new(),
        api_lvl: i32::try_from(crate::api::API_LEVEL).unwrap_or(0),
        xkey: public_key(b'X').map_err(|e| e.to_string())?,
    };
    let mut settings = Settings::new(limits, info);
    let trace = options.log.trace.then_some(TraceSettings {
        payload_bytes_max: options.log.traced_message_bytes_max as usize,
        headers_only: options.log.trace_headers,
    });
    settings.log = LogSettings { debug: options.log.debug, trace };
    Ok(settings)
}

/// Writes the files that tell others where we are. A missing ports file is told and does not
/// matter.
fn write_files(
    options: &Options,
    address: SocketAddr,
    control: Option<&Control>,
    logger: &Logger,
) -> Option<PortsFile> {
    let dir = options.ports_file_dir.as_ref()?;
    let mut ports = Ports { nats: files::urls("nats", address), ..Ports::default() };
    if let Some(control) = control {
        ports.monitoring = files::urls("http", control.address());
    }
    let file = PortsFile::new(dir, options.persona.name());
    if let Err(why) = file.write(&ports) {
        logger.error(format_args!("{why}"));
    }
    Some(file)
}

/// Processor time of the process, in nanoseconds.
fn cpu_time() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call only writes `ts`.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Serves until a signal says otherwise.
fn serve(
    options: &Options,
    node: Node,
    control: Option<Control>,
    signals: &Signals,
    logger: &Logger,
) -> i32 {
    let mut draining = false;
    let mut rest = Rest::new(cpu_time());
    loop {
        let Some(signal) = signals.wait(if draining { DRAIN_LOOK } else { rest::LOOK }) else {
            if draining && node.connections() == 0 {
                break;
            }
            if !draining && rest.look(cpu_time()) {
                node.release_memory();
            }
            continue;
        };
        if signal == libc::SIGQUIT {
            // nats-server does not wait for this one either; its runtime says so and exits with 2.
            eprintln!("SIGQUIT: quit");
            return 2;
        }
        logger.info(format_args!("{}", banner::trapped(name_of(signal))));
        match signal {
            libc::SIGINT => break,
            libc::SIGTERM if !draining => break,
            libc::SIGUSR1 => logger.reopen(),
            libc::SIGHUP => {
                let why = match options.config_file {
                    None => "can only reload config when a file is provided using -c or --config",
                    Some(_) => "reload is not supported yet",
                };
                logger.error(format_args!("Failed to reload server configuration: {why}"));
            }
            libc::SIGUSR2 if !draining => {
                draining = true;
                logger.info(format_args!("{}", banner::LAME_DUCK));
                lame_duck(options, &node);
            }
            _ => {}
        }
    }
    logger.info(format_args!("{}", banner::SHUTDOWN));
    node.stop_accepting();
    if options.jetstream.is_some() {
        logger.info(format_args!("{}", banner::JETSTREAM_SHUTDOWN_BEGIN));
        shut_down_jetstream(&node);
        logger.info(format_args!("{}", banner::JETSTREAM_SHUTDOWN_END));
    }
    if let Some(control) = control {
        control.stop();
    }
    node.stop();
    logger.flush();
    logger.info(format_args!("{}", banner::EXITING));
    0
}

/// Tells waiting pulls, writes down what consumers know, and waits until all of it is durable.
fn shut_down_jetstream(node: &Node) {
    let (tell, rested) = std::sync::mpsc::channel();
    let mut left = 0;
    for mailbox in node.mailboxes() {
        let tell = tell.clone();
        let told = Box::new(move || tell.send(()).unwrap_or_default());
        left += usize::from(mailbox.send(Command::ShutDownJetStream));
        mailbox.send(Command::Drained(told));
    }
    let end = Instant::now() + REST_MAX;
    while left > 0 {
        if rested.recv_timeout(end.saturating_duration_since(Instant::now())).is_err() {
            break;
        }
        left -= 1;
    }
}

fn lame_duck(options: &Options, node: &Node) {
    let ns = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
    let how = LameDuck {
        grace: ns(options.lame_duck_grace_period),
        duration: ns(options.lame_duck_duration),
    };
    for mailbox in node.mailboxes() {
        mailbox.send(Command::StopAccepting);
        mailbox.send(Command::ShutDownJetStream);
        mailbox.send(Command::LameDuck(how));
    }
}

fn name_of(signal: i32) -> &'static str {
    match signal {
        libc::SIGINT => "interrupt",
        libc::SIGTERM => "terminated",
        libc::SIGHUP => "hangup",
        libc::SIGUSR1 => "user defined signal 1",
        _ => "user defined signal 2",
    }
}

const SIGNALS: [i32; 6] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGQUIT];

/// The signals that the process waits for instead of being interrupted by them.
struct Signals(libc::sigset_t);

impl Signals {
    /// Blocks them in this thread and those it starts.
    fn block() -> Self {
        // SAFETY: an all-zero sigset is valid to initialise; these calls only read and write it.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in SIGNALS {
                libc::sigaddset(&mut set, signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            Signals(set)
        }
    }

    /// The next signal, or `None` after `timeout`.
    fn wait(&self, timeout: Duration) -> Option<i32> {
        let ts = libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        // SAFETY: the set is initialised; a null info pointer is allowed.
        let signal = unsafe { libc::sigtimedwait(&self.0, std::ptr::null_mut(), &ts) };
        (signal > 0).then_some(signal)
    }
}

/// A fresh public key in the nkeys format: a letter for what it is, 32 bytes, a checksum, in base
/// 32.
fn public_key(kind: u8) -> std::io::Result<String> {
    let mut bytes = vec![(kind - b'A') << 3];
    bytes.extend_from_slice(&reactor::random::<32>()?);
    let mut crc = 0u16;
    for &b in &bytes {
        crc ^= u16::from(b) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    bytes.extend_from_slice(&crc.to_le_bytes());
    let (mut text, mut bits, mut held) = (String::new(), 0u32, 0);
    for b in bytes {
        bits = bits << 8 | u32::from(b);
        held += 8;
        while held >= 5 {
            held -= 5;
            text.push(char::from(
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[(bits >> held & 31) as usize],
            ));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_look_like_nkeys() {
        let key = public_key(b'N').unwrap();
        assert_eq!(key.len(), 56);
        assert!(key.starts_with('N'));
        assert!(public_key(b'X').unwrap().starts_with('X'));
    }
}
