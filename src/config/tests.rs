//! The configuration and the command line against what nats-server 2.15.1 answered (`golden/`), and
//! what is our own.

use super::options::{NATS_VERSION, Options, Persona, SyncPolicy};
use super::usage::usage;
use super::{Command, Loader, Reply, SignalRequest, parse_command};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Files and variables of a test.
#[derive(Default)]
struct Fake {
    files: BTreeMap<String, Vec<u8>>,
    vars: BTreeMap<String, String>,
}

impl Fake {
    fn with(files: &[(&str, &str)]) -> Fake {
        let files = files.iter().map(|(k, v)| (k.to_string(), v.as_bytes().to_vec())).collect();
        Fake { files, vars: BTreeMap::new() }
    }
}

impl Loader for Fake {
    fn read(&mut self, path: &str) -> Result<Vec<u8>, String> {
        match path {
            "." | "/tmp" => Err(format!("read {path}: is a directory")),
            _ => self
                .files
                .get(path)
                .cloned()
                .ok_or_else(|| format!("open {path}: no such file or directory")),
        }
    }

    fn var(&mut self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }
}

/// The surroundings in which the golden answers were taken.
fn surroundings() -> Fake {
    let mut fake = Fake::with(&[
        ("good.conf", "port: 14222\n"),
        ("bad.conf", "prot: 14222\n"),
        ("empty.conf", ""),
        ("i1.conf", "a: 7, q: \"inc\"\n"),
        ("i2.conf", "b: [1,\n"),
        ("i5.conf", "\n"),
        ("sub/i3.conf", "include i4.conf\nc: $a2"),
        ("sub/i4.conf", "a2: 1k"),
    ]);
    fake.vars.insert("FOO".to_owned(), "bar".to_owned());
    fake.vars.insert("HOME".to_owned(), "/root".to_owned());
    fake
}

fn run_as(program: &str, args: &[&str], fake: &mut Fake) -> Command {
    let mut all = vec![program.to_owned()];
    all.extend(args.iter().map(|arg| arg.to_string()));
    parse_command(&all, fake)
}

fn done(command: Command) -> Reply {
    match command {
        Command::Done(reply) => reply,
        other => panic!("not done: {other:?}"),
    }
}

fn options(args: &[&str], fake: &mut Fake) -> Options {
    match run_as("corelane", args, fake) {
        Command::Run(options) => *options,
        other => panic!("does not run: {other:?}"),
    }
}

/// Options of a file alone.
pub(super) fn of(text: &str) -> Options {
    options(&["-c", "c.conf"], &mut Fake::with(&[("c.conf", text)]))
}

/// The error a file alone ends with.
pub(super) fn refused(text: &str) -> String {
    let mut fake = Fake::with(&[("c.conf", text)]);
    let reply = done(run_as("nats-server", &["-c", "c.conf"], &mut fake));
    assert_eq!((reply.code, reply.stdout.as_str()), (1, ""));
    reply.stderr.trim_start_matches("nats-server: ").trim_end().to_owned()
}

#[derive(Deserialize)]
struct GoldenFile {
    text: String,
    code: i32,
    stderr: String,
}

#[test]
fn files_are_answered_as_nats_server_answers_them() {
    for line in include_str!("golden/files.jsonl").lines() {
        let golden: GoldenFile = serde_json::from_str(line).unwrap();
        let mut fake = surroundings();
        fake.files.insert("f.conf".to_owned(), golden.text.clone().into_bytes());
        let reply = done(run_as("/bin/nats-server", &["-t", "-c", "f.conf"], &mut fake));
        // nats-server gives several errors in the order of a hash map.
        let sorted = |text: &str| {
            let text = text.strip_prefix("nats-server: ").unwrap_or(text);
            let mut lines: Vec<String> = text.split('\n').map(String::from).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&reply.stderr), sorted(&golden.stderr), "{:?}", golden.text);
        assert_eq!((reply.code, reply.stdout.as_str()), (golden.code, ""), "{:?}", golden.text);
    }
}

#[derive(Deserialize)]
struct GoldenCommand {
    args: Vec<String>,
    code: i32,
    stdout: String,
    stderr: String,
}

#[test]
fn commands_are_answered_as_nats_server_answers_them() {
    for line in include_str!("golden/commands.jsonl").lines() {
        let golden: GoldenCommand = serde_json::from_str(line).unwrap();
        let args: Vec<&str> = golden.args.iter().map(String::as_str).collect();
        let reply = done(run_as("nats-server", &args, &mut surroundings()));
        let stdout = match golden.stdout.as_str() {
            "USAGE" => usage(Persona::NatsServer),
            text => text.to_owned(),
        };
        let expected = Reply { stdout, stderr: golden.stderr, code: golden.code };
        assert_eq!(reply, expected, "{args:?}");
    }
}

#[test]
fn our_own_name_shows_both_versions() {
    let mut fake = Fake::default();
    let reply = done(run_as("/usr/bin/corelane", &["-v"], &mut fake));
    assert_eq!(reply.stdout, format!("corelane: v0.1.0\nnats-server: v{NATS_VERSION}\n"));
    let reply = done(run_as("corelane", &["foo"], &mut fake));
    assert_eq!(reply.stderr, "corelane: unrecognized command: \"foo\"\n");
    let help = done(run_as("corelane", &["-h"], &mut fake)).stdout;
    assert!(help.starts_with("\nUsage: corelane [options]\n\nServer Options:\n"), "{help}");
}

#[test]
fn nothing_said_means_the_defaults() {
    let given = options(&[], &mut Fake::default());
    assert_eq!(given, Options::defaults(Persona::Corelane));
    assert_eq!((given.host.as_str(), given.port), ("0.0.0.0", 4222));
    assert_eq!(given.jetstream, None);
    let jetstream = options(&["-js"], &mut Fake::default()).jetstream.unwrap();
    assert_eq!(jetstream.store_dir.to_str(), Some("./corelane-data/jetstream"));
    assert!(!jetstream.store_dir_given && jetstream.strict);
    assert_eq!(jetstream.sync, SyncPolicy::BeforeAck);
    let Command::Run(nats) = run_as("nats-server", &["-js"], &mut Fake::default()) else {
        panic!("does not run");
    };
    let dir = std::env::temp_dir().join("nats/jetstream");
    assert_eq!(nats.jetstream.unwrap().store_dir, dir);
}

#[test]
fn a_whole_file_is_understood() {
    let given = of(r#"
        listen: "127.0.0.1:-1"
        server_name = here
        http: 8222, http_base_path: "x/"
        debug: yes; trace: off
        log_file: "/l", log_size_limit: 1MB, logfile_max_num: 4, logtime: no
        pid_file: "/p" , ports_file_dir: "/d"
        max_payload: 2MB  # two
        max_pending: 32MiB // thirty-two
        max_connections: 100, max_subs: 7, max_sub_tokens: 9, max_control_line: 8k
        ping_interval: "30s", ping_max: 5, write_deadline: "2s"
        lame_duck_duration: "40s", lame_duck_grace_period: "3s"
        server_tags: [A, "b c"], server_metadata: {z: 1k_, a: B}
        no_fast_producer_stall: true, disable_sublist_cache: true
        client_advertise: "me:77"
        jetstream {
            store_dir: "/s", max_mem: 1G, max_file: "2G", sync: always, strict: false
            limits { max_ack_pending: 5, max_request_batch: 6, duplicate_window: "5s" }
        }
    "#);
    assert_eq!((given.host.as_str(), given.port), ("127.0.0.1", 0));
    assert_eq!(given.server_name.as_deref(), Some("here"));
    let http = given.http.unwrap();
    assert_eq!((http.host.as_str(), http.port, http.base_path.as_str()), ("127.0.0.1", 8222, "/x"));
    assert!(given.log.debug && !given.log.trace && !given.log.time);
    assert_eq!((given.log.size_limit_bytes, given.log.files_max), (1 << 20, 4));
    assert_eq!(given.limits.payload_bytes_max, 2 << 20);
    assert_eq!(given.limits.pending_bytes_max, 32 << 20);
    assert_eq!(given.limits.connections_max, 100);
    assert_eq!(given.limits.subscriptions_max, 7);
    assert_eq!(given.limits.subscription_tokens_max, 9);
    assert_eq!(given.limits.control_line_bytes_max, 8000);
    assert_eq!((given.ping_interval, given.ping_max), (Duration::from_secs(30), 5));
    assert_eq!(given.write_deadline, Duration::from_secs(2));
    assert_eq!(given.lame_duck_duration, Duration::from_secs(40));
    assert_eq!(given.lame_duck_grace_period, Duration::from_secs(3));
    assert_eq!(given.server_tags, ["a", "b c"]);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(given.server_metadata, [pair("a", "B"), pair("z", "1k_")]);
    assert!(!given.fast_producer_stall);
    let advertise = given.client_advertise.unwrap();
    assert_eq!((advertise.host.as_str(), advertise.port), ("me", 77));
    let jetstream = given.jetstream.unwrap();
    assert_eq!(jetstream.store_dir.to_str(), Some("/s/jetstream"));
    assert_eq!(jetstream.memory_bytes_max, Some(1_000_000_000));
    assert_eq!(jetstream.store_bytes_max, Some(2 << 30));
    assert_eq!(jetstream.sync, SyncPolicy::Always);
    assert!(jetstream.sync.flush_before_ack() && !jetstream.strict);
    assert_eq!((jetstream.ack_pending_max, jetstream.request_batch_max), (5, 6));
    assert_eq!(jetstream.duplicate_window_max, Duration::from_secs(5));
}

#[test]
fn flags_win_over_the_file() {
    let text = "port: 1, server_name: a, debug: true, jetstream: enabled, http: 9, host: h";
    let mut fake = Fake::with(&[("c.conf", text)]);
    let file = ["-c", "c.conf"];
    let with = |flags: &[&str], fake: &mut Fake| options(&[&file, flags].concat(), fake);
    let plain = with(&[], &mut fake);
    assert_eq!((plain.port, plain.log.debug), (1, true));
    assert!(plain.config_digest.starts_with("sha256:") && plain.config_digest.len() == 71);
    let flags = ["-p", "2", "-n", "b", "-D=false", "-js=false", "-m", "7", "-a", "g", "-T=false"];
    let over = with(&flags, &mut fake);
    assert_eq!((over.port, over.server_name.as_deref()), (2, Some("b")));
    assert!(!over.log.debug && !over.log.time && over.jetstream.is_none());
    assert_eq!(over.http.map(|http| (http.host, http.port)), Some(("g".to_owned(), 7)));
    // Zero and nothing take away what the file says.
    let zero = with(&["-p", "0", "-n", "", "-m", "0", "-a", ""], &mut fake);
    assert_eq!((zero.host.as_str(), zero.port, zero.server_name), ("0.0.0.0", 4222, None));
    assert_eq!(zero.http, None);
    assert_eq!(with(&["-p=-1"], &mut fake).port, 0);
    let off = with(&["-DV=false"], &mut fake);
    assert!(!off.log.debug && !off.log.trace);
    let verbose = with(&["-DVV"], &mut fake).log;
    assert!(verbose.debug && verbose.trace && verbose.trace_verbose);
}

#[test]
fn jetstream_is_on_where_the_block_stands() {
    assert!(of("jetstream {}").jetstream.is_some());
    assert!(of("jetstream { enabled: false, store_dir: x }").jetstream.is_none());
    assert!(of("jetstream: disabled").jetstream.is_none());
    assert!(of("jetstream: true").jetstream.is_some());
}

#[test]
fn sync_is_durable_unless_relaxed() {
    let sync = |text: &str| of(&format!("jetstream {{ {text} }}")).jetstream.unwrap().sync;
    assert_eq!(sync(""), SyncPolicy::BeforeAck);
    assert_eq!(sync("sync_interval: always"), SyncPolicy::Always);
    let relaxed = sync("sync_interval: 30s");
    assert_eq!(relaxed, SyncPolicy::Interval(Duration::from_secs(30)));
    assert!(!relaxed.flush_before_ack());
    assert_eq!(sync("sync: \"0s\""), SyncPolicy::Interval(Duration::from_secs(120)));
}

#[test]
fn old_fashioned_values_are_noted_and_obeyed() {
    let given = of("ping_interval: 5");
    assert_eq!(given.ping_interval, Duration::from_secs(5));
    let note = "c.conf:1:0: invalid use of field \"ping_interval\": ping_interval should be \
                converted to a duration\n";
    assert_eq!(given.notes, note);
    assert_eq!(of("").notes, "c.conf: config has no values or is empty\n");
    let warnings = of("max_payload: 9MB").warnings;
    assert!(warnings[0].starts_with("Maximum payloads over 8.00 MB"), "{warnings:?}");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (text, error) in [
        (
            "max_payload: 70MB",
            "max_payload (73400320) cannot be higher than max_pending (67108864)",
        ),
        (
            "lame_duck_duration: 30s, lame_duck_grace_period: 40s",
            "lame duck grace period (40s) should be strictly lower than lame duck duration (30s)",
        ),
        ("authorization { token: x }", "c.conf:1:0: \"authorization\" is not supported yet"),
        ("\n Cluster { name: x }", "c.conf:2:2: \"Cluster\" is not supported yet"),
        ("jetstream { domain: x }", "c.conf:1:12: \"domain\" is not supported yet"),
        ("syslog: true", "c.conf:1:0: \"syslog\" is not supported yet"),
        ("system_account: A", "c.conf:1:0: \"system_account\" is not supported yet"),
        ("corelane { foo: 1 }", "c.conf:1:11: unknown field \"foo\""),
        (
            "corelane { reactors: 0 }",
            "c.conf:1:11: invalid \"reactors\": must be between 1 and 256, got 0",
        ),
        (
            "corelane { cpus: \"3-1\" }",
            "c.conf:1:11: invalid \"cpus\": \"3-1\" is not a range of CPUs",
        ),
        (
            "corelane { tail_cache: 1k }",
            "c.conf:1:11: invalid \"tail_cache\": must be at least 8388608, got 1000",
        ),
        (
            "corelane { segment_size: 9MB }",
            "c.conf:1:11: invalid \"segment_size\": must be a multiple of 4194304, \
             2 to 1024 of them, got 9437184",
        ),
        ("corelane: 1", "c.conf:1:0: Expected corelane to be a map, got int64"),
    ] {
        assert_eq!(refused(text), error, "{text:?}");
    }
    // The log tells what only listening finds.
    for (text, refusal) in [
        (
            "port: 70000",
            "Error listening on port: 0.0.0.0:70000, \"listen tcp: address 70000: invalid port\"",
        ),
        (
            "http: 70000",
            "Can't start monitoring: can't listen to the monitor port: \
             listen tcp: address 70000: invalid port",
        ),
    ] {
        assert_eq!(of(text).refusals, [refusal], "{text:?}");
    }
    let reply = done(run_as("corelane", &["--user", "x"], &mut Fake::default()));
    let stderr = "corelane: flag --user is not supported yet\n".to_owned();
    assert_eq!(reply, Reply { stdout: String::new(), stderr, code: 1 });
}

#[test]
fn flags_that_ask_for_nothing_are_let_pass() {
    options(&["--user", "", "--tls=false", "--connect_retries", "3"], &mut Fake::default());
}

#[test]
fn the_engine_has_a_block_of_its_own() {
    let engine = of(r#"corelane {
        cpus: ["8", "0-2", 1 ], pin: no, reactors: 4, shards: 8, segment_size: 32MB
        tail_cache: "256MiB", writes_in_flight: 3, flush_gather: "200us", publish_credit: 1MB
    }"#)
    .engine;
    assert_eq!(engine.cpus, [0, 1, 2, 8]);
    assert_eq!((engine.reactors, engine.shards, engine.pin), (Some(4), Some(8), false));
    assert_eq!(engine.segment_bytes, 32 << 20);
    assert_eq!(engine.tail_cache_bytes, 256 << 20);
    assert_eq!(engine.writes_in_flight, 3);
    assert_eq!(engine.flush_gather, Duration::from_micros(200));
    assert_eq!(engine.publish_credit_bytes, 1 << 20);
    assert_eq!(of("corelane { cpus: \"0-3,8\" }").engine.cpus, [0, 1, 2, 3, 8]);
    assert_eq!(of("corelane { cpus: 3 }").engine.cpus, [3]);
}

#[test]
fn signals_are_taken_apart() {
    let command = run_as("nats-server", &["--signal", "ldm=/a.pid"], &mut Fake::default());
    let request = SignalRequest {
        persona: Persona::NatsServer,
        command: "ldm".to_owned(),
        target: "/a.pid".to_owned(),
    };
    assert_eq!(command, Command::Signal(request));
}

#[test]
fn included_files_and_variables_have_bounds() {
    let loops = Fake::with(&[("c.conf", "include c.conf")]);
    let error = super::parser::parse_file("c.conf", &mut { loops }).unwrap_err();
    assert!(error.ends_with("files are included deeper than 32"), "{error}");
    let mut wide = Fake::with(&[("c.conf", &"include d.conf\n".repeat(2000)), ("d.conf", "a: 1")]);
    let error = super::parser::parse_file("c.conf", &mut wide).unwrap_err();
    assert!(error.ends_with("configuration includes more than 1000 files"), "{error}");
    let mut bomb = String::from("v0: [x, x, x, x, x, x, x, x ]\n");
    for level in 1..20 {
        let before = format!("$v{}, ", level - 1).repeat(8);
        bomb.push_str(&format!("v{level}: [{before}]\n"));
    }
    let error = refused(&bomb);
    assert_eq!(error, "configuration has more than 1048576 values");
    let deep = format!("a: {}", "[".repeat(200));
    assert!(refused(&deep).contains("Values are nested deeper than 128."));
}

/// Random texts of the grammar's pieces: no panic, and the same answer twice.
#[test]
fn no_text_is_too_odd() {
    const PIECES: &[&str] = &[
        "a",
        "$a",
        "\"",
        "'",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        ":",
        "=",
        " ",
        "\n",
        ",",
        ";",
        "#",
        "//",
        "/",
        "\\",
        "\\x4",
        "1",
        "-",
        ".",
        "k",
        "true",
        "2006-",
        "T",
        "include ",
        "\u{e9}",
        "\t",
        "\r",
        "\0",
        "jetstream",
        "corelane",
        "port",
        "\u{fffd}",
        "2006-01-02T15:04:05Z",
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..12 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(PIECES[usize::try_from(seed >> 33).unwrap() % PIECES.len()]);
        }
        let mut fake = Fake::with(&[("c.conf", &text), ("a", "port: 1")]);
        let first = run_as("corelane", &["-c", "c.conf"], &mut fake);
        assert_eq!(first, run_as("corelane", &["-c", "c.conf"], &mut fake), "{text:?}");
    }
}
