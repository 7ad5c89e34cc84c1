//! The server as a program: flags, exit codes, files, signals and log lines, under the name
//! `nats-server`, by which tools start it. Each test runs against corelane and, where it is
//! installed, against nats-server.

#[allow(dead_code)]
mod common;

use common::conn::{Conn, Frame};
use common::server::Kind;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(10);

/// A directory with the program in it under the name `nats-server`; gone with its value.
struct Home(PathBuf);

impl Home {
    fn new(kind: Kind) -> Option<Home> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let program = fs::canonicalize(kind.program()?).expect("the program is there");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("process-{}-{count}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&dir).expect("a directory for the test");
        // A package's launcher finds its binary beside itself, so it is started by its own path.
        let link = dir.join("nats-server");
        let script = fs::read(&program).is_ok_and(|bytes| bytes.starts_with(b"#!"));
        match script {
            true => fs::write(&link, format!("#!/bin/sh\nexec {} \"$@\"\n", program.display())),
            false => std::os::unix::fs::symlink(&program, &link),
        }
        .expect("a link to the program");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        if script {
            fs::set_permissions(&link, mode).expect("an executable script");
        }
        Some(Home(dir))
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).expect("write a file");
        name.to_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.0.join("nats-server"));
        command.args(args).current_dir(&self.0).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let file = |name: &str| fs::File::create(self.0.join(name)).expect("a file");
        let child = self.command(args).stdout(file("out")).stderr(file("err")).spawn();
        let mut running = Running { child: child.expect("it starts"), log: self.0.join("err") };
        let code = running.exit_code();
        let text = |name: &str| fs::read_to_string(self.0.join(name)).unwrap_or_default();
        (code, text("out"), text("err"))
    }

    /// Starts a server that logs to the file `log` and waits until it is ready.
    fn serve(&self, args: &[&str]) -> Running {
        // What an earlier server logged must not be taken for this one's.
        let _ = fs::remove_file(self.0.join("log"));
        let child = self.command(args).args(["-l", "log"]).spawn().expect("it starts");
        let mut running = Running { child, log: self.0.join("log") };
        running.wait_for("Server is ready");
        running
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + WAIT;
        while !self.log().contains(text) {
            assert!(Instant::now() < end, "no {text:?} in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn exit_code(&mut self) -> i32 {
        let end = Instant::now() + WAIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn port(&self) -> u16 {
        let log = self.log();
        let line = log.lines().find(|l| l.contains("Listening for client connections on "));
        let port = line.and_then(|line| line.rsplit(':').next()).and_then(|p| p.parse().ok());
        port.expect("the log tells the port")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn each(test: impl Fn(Kind, &Home)) {
    for kind in [Kind::NatsServer, Kind::Corelane] {
        match Home::new(kind) {
            Some(home) => test(kind, &home),
            None => println!("{} is not installed", kind.word()),
        }
    }
}

#[test]
fn words_and_exit_codes() {
    each(|kind, home| {
        let good = home.file("good.conf", "port: 4333\nmax_payload: 1MB\n");
        let odd = home.file("odd.conf", "prot: 4222\n");
        let typed = home.file("typed.conf", "port: \"x\"\n");
        let open = home.file("open.conf", "jetstream {\n");
        let tag = home.file("tag.conf", "jetstream { unique_tag: 5 }\n");
        let unit = home.file("unit.conf", "ping_interval: \"5x\"\n");
        let include = home.file("include.conf", "include no.conf\n");
        let cases: &[(&[&str], i32, &str)] = &[
            (&["-c", "no.conf"], 1, "nats-server: open no.conf: no such file or directory"),
            (
                &["-t", "-c", &good],
                0,
                "nats-server: configuration file good.conf is valid (sha256:",
            ),
            (&["-t"], 1, "must specify [-c, --config] option to check configuration file syntax"),
            (&["-t", "-c", &odd], 1, "nats-server: odd.conf:1:0: unknown field \"prot\""),
            (&["-c", &odd], 1, "odd.conf:1:0: unknown field \"prot\""),
            (&["-c", &typed], 1, "nats-server: "),
            (&["-c", &open], 1, "Parse error on line 2: 'Unexpected EOF processing map.'"),
            (&["foo"], 1, "nats-server: unrecognized command: \"foo\""),
            (&["-nope"], 0, "flag provided but not defined: -nope"),
            (&["-p", "abc"], 0, "invalid value \"abc\" for flag -p: parse error"),
            (&["-c"], 0, "flag needs an argument: -c"),
            (&["--signal", "stop=99999999"], 1, "signal \"stop\" 99999999: no such process"),
            (&["--signal", "ldm=abc"], 1, "nats-server: invalid pid: abc"),
            (&["-t", "-c", &tag], 1, "interface conversion: interface {} is int64, not string"),
            (&["-t", "-c", &unit], 1, "nats-server: unit.conf:1:"),
            (&["-t", "-c", &include], 1, "error parsing include file 'no.conf'"),
            (
                &["-a", "127.0.0.1", "-p", "99999"],
                1,
                "[FTL] Error listening on port: 127.0.0.1:99999",
            ),
            (
                &["-a", "127.0.0.1", "-p", "-1", "-m", "99999"],
                1,
                "[FTL] Can't start monitoring: can't listen to the monitor port: listen tcp: ",
            ),
            (
                &["-a", "127.0.0.1", "-p", "-1", "--client_advertise", "a:b"],
                1,
                "[FTL] Error setting server INFO with ClientAdvertise value of a:b, err=",
            ),
            (
                &["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", "/proc/nowhere"],
                1,
                "[FTL] Can't start JetStream: could not create storage directory - mkdir /proc/",
            ),
            (
                &["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", &good],
                1,
                "[FTL] Can't start JetStream: storage directory is not a directory",
            ),
        ];
        for (args, code, words) in cases {
            let (found, _, stderr) = home.run(args);
            let word = kind.word();
            assert!(stderr.contains(words), "{word} {args:?}: no {words:?} in:\n{stderr}");
            assert_eq!(found, *code, "{word} {args:?}: {stderr}");
        }
        let (code, stdout, _) = home.run(&["-v"]);
        assert_eq!(code, 0);
        assert!(stdout.starts_with("nats-server: v2.15."), "{}: {stdout}", kind.word());
    });
}

#[test]
fn files_signals_and_log_lines() {
    each(|kind, home| {
        fs::create_dir(home.0.join("ports")).expect("a directory");
        let args = ["-a", "127.0.0.1", "-p", "-1", "-P", "pid", "--ports_file_dir", "ports"];
        let mut server = home.serve(&args);
        let pid = fs::read_to_string(home.0.join("pid")).expect("a pid file");
        assert_eq!(pid, server.child.id().to_string(), "{}", kind.word());
        let ports = || fs::read_dir(home.0.join("ports")).expect("ports").flatten().next();
        // nats-server says that it is ready before it has written the file.
        let end = Instant::now() + WAIT;
        while ports().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let file = ports().expect("a ports file").file_name().into_string().expect("a name");
        assert!(file.ends_with(&format!("_{pid}.ports")), "{}: {file}", kind.word());
        let log = server.log();
        let at = |text: &str| {
            log.find(text).unwrap_or_else(|| panic!("{}: no {text:?}:\n{log}", kind.word()))
        };
        let starts = at("[INF] Starting nats-server");
        let listens = at("[INF] Listening for client connections on 127.0.0.1:");
        let ready = at("[INF] Server is ready");
        assert!(starts < listens && listens < ready, "{}:\n{log}", kind.word());
        let (code, _, stderr) = home.run(&["--signal", &format!("stop={pid}")]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{}", kind.word());
        // nats-server's `stop` is a kill; a clean end is asked for by `quit`.
        server.exit_code();
        let mut server = home.serve(&args);
        let pid = server.child.id().to_string();
        home.run(&["--signal", &format!("quit={pid}")]);
        assert_eq!(server.exit_code(), 0, "{}", kind.word());
        assert!(home.0.join("pid").exists(), "{}: the pid file stays", kind.word());
        let mine = |name: &str| name.contains(&format!("_{pid}."));
        let left = fs::read_dir(home.0.join("ports")).expect("ports").flatten();
        let left = left.filter(|e| mine(&e.file_name().to_string_lossy())).count();
        assert_eq!(left, 0, "{}: the ports file goes", kind.word());
    });
}

#[test]
fn an_address_in_use() {
    each(|kind, home| {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("an address").port().to_string();
        let (code, _, stderr) = home.run(&["-a", "127.0.0.1", "-p", &port]);
        let words = format!("[FTL] Error listening on port: 127.0.0.1:{port}, \"listen tcp ");
        assert!(stderr.contains(&words), "{}: {stderr}", kind.word());
        assert!(stderr.contains("bind: address already in use"), "{}: {stderr}", kind.word());
        assert_eq!(code, 1, "{}", kind.word());
    });
}

#[test]
fn lame_duck_by_signal() {
    each(|kind, home| {
        let mut server = home.serve(&["-a", "127.0.0.1", "-p", "-1"]);
        let pid = server.child.id().to_string();
        let (code, _, stderr) = home.run(&["--signal", &format!("ldm={pid}")]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{}", kind.word());
        server.wait_for("Entering lame duck mode, stop accepting new clients");
        assert_eq!(server.exit_code(), 0, "{}", kind.word());
    });
}

#[test]
fn signals_without_a_configuration_file() {
    each(|kind, home| {
        let mut server = home.serve(&["-a", "127.0.0.1", "-p", "-1"]);
        let pid = server.child.id().to_string();
        home.run(&["--signal", &format!("reload={pid}")]);
        server.wait_for(
            "[ERR] Failed to reload server configuration: can only reload config when a file is \
             provided using -c or --config",
        );
        home.run(&["--signal", &format!("reopen={pid}")]);
        server.wait_for("File log re-opened");
        // SAFETY: `kill` takes no pointers; the child is ours and has not been waited for.
        unsafe { libc::kill(server.child.id() as i32, libc::SIGQUIT) };
        assert_eq!(server.exit_code(), 2, "{}", kind.word());
    });
}

fn get(port: u16, path: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the monitor listens");
    socket.set_read_timeout(Some(WAIT)).expect("a timeout");
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn monitoring() {
    each(|kind, home| {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let monitor = port.to_string();
        let server =
            home.serve(&["-a", "127.0.0.1", "-p", "-1", "-m", &monitor, "-js", "-sd", "store"]);
        let health = get(port, "/healthz");
        assert!(health.contains(" 200 "), "{}: {health}", kind.word());
        assert!(health.contains("\"status\""), "{}: {health}", kind.word());
        let varz = get(port, "/varz");
        let json: serde_json::Value =
            serde_json::from_str(varz.split("\r\n\r\n").nth(1).unwrap_or_default())
                .unwrap_or_default();
        let version = json["version"].as_str().unwrap_or_default();
        assert!(version.starts_with("2.15."), "{}: {varz}", kind.word());
        assert_eq!(json["port"], server.port(), "{}", kind.word());
        if kind == Kind::Corelane {
            let metrics = get(port, "/metrics");
            assert!(metrics.contains("# TYPE "), "{metrics}");
        }
    });
}

#[test]
fn a_store_of_nats_server_is_refused() {
    let (Some(theirs), Some(ours)) = (Home::new(Kind::NatsServer), Home::new(Kind::Corelane))
    else {
        return println!("nats-server is not installed");
    };
    let store = theirs.0.join("store");
    let flag = store.display().to_string();
    let server = theirs.serve(&["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", &flag]);
    let mut socket = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
    let create = "PUB $JS.API.STREAM.CREATE.S 12\r\n{\"name\":\"S\"}\r\n";
    socket.write_all(format!("CONNECT {{}}\r\n{create}").as_bytes()).expect("a request");
    let end = Instant::now() + WAIT;
    while !store.join("jetstream/$G/streams/S/meta.sum").exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(server);
    let (code, _, stderr) = ours.run(&["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", &flag]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("nats-server"), "{stderr}");
    assert!(store.join("jetstream/$G/streams/S/meta.inf").exists(), "its data is left alone");
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("an address").port()
}

/// Starts a server with nothing but a file, whose log goes to `log`.
fn serve_file(home: &Home, text: &str) -> Running {
    let _ = fs::remove_file(home.0.join("log"));
    let file = home.file("server.conf", &format!("{text}\nlog_file: log\n"));
    let child = home.command(&["-c", &file]).stderr(Stdio::null()).spawn().expect("it starts");
    let mut running = Running { child, log: home.0.join("log") };
    running.wait_for("Server is ready");
    running
}

fn json_of(answer: &str) -> serde_json::Value {
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    serde_json::from_str(body).unwrap_or_default()
}

/// The INFO that a server greets a client with.
fn info(address: SocketAddr) -> serde_json::Value {
    let mut socket = TcpStream::connect_timeout(&address, WAIT).expect("it listens");
    socket.set_read_timeout(Some(WAIT)).expect("a timeout");
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") {
        socket.read_exact(&mut byte).expect("a line");
        line.push(byte[0]);
    }
    serde_json::from_slice(&line[b"INFO ".len()..]).expect("INFO is JSON")
}

#[test]
fn a_configuration_file_is_obeyed() {
    each(|kind, home| {
        let (word, monitor) = (kind.word(), free_port());
        fs::create_dir(home.0.join("ports")).expect("a directory");
        let text = format!(
            "listen: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:{monitor}\"\nhttp_base_path: base\n\
             server_name: here\nlogtime: false\npid_file: pid\nports_file_dir: ports\n\
             server_tags: [One, two]\nserver_metadata: {{ a: b }}\n\
             jetstream: enabled\nstore_dir: store\n"
        );
        let server = serve_file(home, &text);
        let log = server.log();
        let pid = server.child.id();
        assert!(log.starts_with(&format!("[{pid}] [INF] Starting nats-server")), "{word}: {log}");
        let written = fs::read_to_string(home.0.join("pid")).expect("a pid file");
        assert_eq!(written, pid.to_string(), "{word}");
        assert!(get(monitor, "/varz").contains(" 404 "), "{word}");
        let varz = json_of(&get(monitor, "/base/varz"));
        assert_eq!(varz["server_name"], "here", "{word}: {varz}");
        assert_eq!(varz["tags"], serde_json::json!(["one", "two"]), "{word}: {varz}");
        assert_eq!(varz["metadata"]["a"], "b", "{word}: {varz}");
        assert_eq!(varz["jetstream"]["config"]["store_dir"], "store/jetstream", "{word}: {varz}");
        assert_eq!(info(SocketAddr::from(([127, 0, 0, 1], server.port())))["jetstream"], true);
        drop(server);
        let monitor = free_port();
        let text =
            format!("host: \"127.0.0.1\"\nport: -1\nhttp_port: {monitor}\nmax_closed_clients: 2\n");
        let server = serve_file(home, &text);
        let varz = json_of(&get(monitor, "/varz"));
        assert_eq!(varz["port"], server.port(), "{word}");
        // Each reactor of ours remembers so many.
        let most = 2 * varz["cores"].as_u64().expect("a number");
        for _ in 0..most + 2 {
            info(SocketAddr::from(([127, 0, 0, 1], server.port())));
        }
        let left = || json_of(&get(monitor, "/varz"))["connections"].as_u64();
        let end = Instant::now() + WAIT;
        while left() != Some(0) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let closed = json_of(&get(monitor, "/connz?state=closed"));
        let total = closed["total"].as_u64().expect("a number");
        assert!((1..=most).contains(&total), "{word}: {closed}");
    });
}

#[test]
fn every_way_to_name_an_address() {
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    each(|kind, home| {
        for (text, host, v4, v6) in [
            ("listen: \":-1\"", "0.0.0.0", true, true),
            ("listen: -1", "0.0.0.0", true, true),
            ("host: \"\"\nport: -1", "0.0.0.0", true, true),
            ("host: \"0.0.0.0\"\nport: -1", "0.0.0.0", true, true),
            ("net: \"::\"\nport: -1", "::", true, true),
            ("net: \"127.0.0.1\"\nport: -1", "127.0.0.1", true, false),
            ("listen: \"localhost:-1\"", "localhost", true, false),
            ("listen: \"[::1]:-1\"", "::1", false, true),
        ] {
            if !has_ipv6 && !v4 {
                continue;
            }
            let server = serve_file(home, text);
            let of = |ip: IpAddr| SocketAddr::new(ip, server.port());
            for (ip, reached) in [
                (IpAddr::from(Ipv4Addr::LOCALHOST), v4),
                (IpAddr::from(Ipv6Addr::LOCALHOST), v6 && has_ipv6),
            ] {
                let context = format!("{}: {text:?} by {ip}", kind.word());
                if reached {
                    let info = info(of(ip));
                    assert_eq!(info["host"], host, "{context}");
                    assert_eq!(info["port"], server.port(), "{context}");
                    assert_eq!(info["client_ip"], ip.to_string(), "{context}");
                } else {
                    assert!(TcpStream::connect(of(ip)).is_err(), "{context}");
                }
            }
        }
    });
}

/// What a directory takes of the disk, in bytes.
fn taken(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    let sizes = entries.map(|entry| match entry.path() {
        path if path.is_dir() => taken(&path),
        path => fs::metadata(path).map_or(0, |m| std::os::unix::fs::MetadataExt::blocks(&m) * 512),
    });
    sizes.sum()
}

#[test]
fn a_store_of_ten_small_streams_is_small() {
    each(|kind, home| {
        let server = home.serve(&["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", "small"]);
        let mut conn = Conn::open(server.port(), true).expect("a connection");
        let end = Instant::now() + 2 * WAIT;
        conn.send(b"CONNECT {\"verbose\":false}\r\nSUB answers 1\r\n");
        let has = |text: &'static str| {
            move |frame: &Frame| String::from_utf8_lossy(&frame.body).contains(text)
        };
        for n in 0..10 {
            let body = format!(r#"{{"name":"S{n}","subjects":["s{n}"]}}"#);
            let create = format!("PUB $JS.API.STREAM.CREATE.S{n} answers {}\r\n", body.len());
            conn.send(format!("{create}{body}\r\n").as_bytes());
            assert!(conn.take(end, has("\"did_create\"")).is_some(), "{}: S{n}", kind.word());
            conn.send(format!("PUB s{n} answers 5\r\nhello\r\n").as_bytes());
            assert!(conn.take(end, has("\"seq\"")).is_some(), "{}: s{n}", kind.word());
        }
        let taken = taken(&home.0.join("small"));
        assert!(taken <= 32 << 20, "{}: {taken} bytes", kind.word());
    });
}

#[test]
fn a_store_that_is_not_there_yet() {
    each(|kind, home| {
        let absolute = home.0.join("x/y").display().to_string();
        for path in ["data", "./dotted", "deep/er/data", "slash/", "~/home", "a/../up", &absolute] {
            let server = home.serve(&["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", path]);
            let log = server.log();
            let line =
                log.lines().find(|line| line.contains("  Max Storage: ")).unwrap_or_default();
            let room = line.rsplit(": ").next().unwrap_or_default().trim();
            assert!(!room.starts_with("0 ") && !room.is_empty(), "{} {path}: {log}", kind.word());
        }
        std::os::unix::fs::symlink("nowhere/at/all", home.0.join("dangling")).expect("a link");
        let args = ["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", "dangling"];
        let (code, _, stderr) = home.run(&args);
        assert!(stderr.contains("[FTL] Can't start JetStream: "), "{}: {stderr}", kind.word());
        assert_eq!(code, 1, "{}: {stderr}", kind.word());
    });
}
