//! What connections write to the log: nats-server's lines for the same session.

#[allow(dead_code)]
mod common;

use common::conn::Conn;
use common::server::{Kind, Server, Setup};
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

const STEP_MAX: Duration = Duration::from_secs(10);
const QUIET: &str = r#"{"verbose":false,"headers":true,"no_responders":true,"protocol":1"#;

/// Lines without what differs from run to run: process, time, ports, the numbers of connections,
/// which nats-server begins behind its own.
fn lines(text: &str, wanted: &[&str]) -> Vec<String> {
    let mut cids: Vec<String> = Vec::new();
    let mut out = Vec::new();
    for line in text.lines() {
        let Some(at) = wanted.iter().filter_map(|label| line.find(label)).min() else { continue };
        let line = &line[at..];
        let Some((before, rest)) = line.split_once("127.0.0.1:") else { continue };
        let Some((_, rest)) = rest.split_once(" - cid:") else { continue };
        let (cid, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if !cids.iter().any(|known| known == cid) {
            cids.push(cid.to_owned());
        }
        let number = cids.iter().position(|known| known == cid).unwrap_or(0);
        out.push(format!("{before}conn {number} {rest}"));
    }
    out
}

fn start(kind: Kind, config: &str) -> Server {
    let (config, core_only) = (config.to_owned(), true);
    Server::start(kind, Setup { config, core_only, reactors: 1, ..Setup::default() }).unwrap()
}

fn connect(server: &Server, json: &str) -> Conn {
    let mut conn = Conn::open(server.port(), true).unwrap();
    conn.send(format!("CONNECT {json}\r\n").as_bytes());
    sync(&mut conn);
    conn
}

fn sync(conn: &mut Conn) {
    assert!(conn.sync(Instant::now() + STEP_MAX));
}

/// Waits until the log says this.
fn wait_for(server: &Server, text: &str, times: usize) {
    let end = Instant::now() + STEP_MAX;
    while server.log().matches(text).count() < times {
        assert!(Instant::now() < end, "no {text:?} {times} times in\n{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One step after the other, so that both write in the same order.
fn session(server: &Server) {
    let mut a =
        connect(server, &format!("{QUIET},\"name\":\"n\",\"lang\":\"rs\",\"version\":\"1\"}}"));
    for step in [
        "SUB foo  1\r\n",
        "SUB bar.* q 2\r\n",
        "PUB foo 5\r\nhello\r\n",
        "pub  foo   reply.x  5\r\nhello\r\n",
        "HPUB foo 24 29\r\nNATS/1.0\r\nK: v\r\nx: y\r\n\r\nworld\r\n",
        "PUB foo 0\r\n\r\n",
        "UNSUB 2\r\n",
        "UNSUB 1 5\r\n",
        "UNSUB 77\r\n",
        "SUB in 9\r\n",
        "PUB nobody in 2\r\nhi\r\n",
        "PUB bar.x 2\r\n\x01\"\r\n",
        "SUB foo. 3\r\n",
    ] {
        a.send(step.as_bytes());
        sync(&mut a);
    }
    a.send(format!("PUB foo 300\r\n{}\r\n", "x".repeat(300)).as_bytes());
    sync(&mut a);
    for part in ["PU", "B foo 5\r", "\nhe", "llo\r\n"] {
        a.send(part.as_bytes());
        std::thread::sleep(Duration::from_millis(50));
    }
    sync(&mut a);
    drop(a);
    wait_for(server, "Client connection closed", 1);
    let secrets =
        r#"{"user":"u","pass":"secret","auth_token":"tok","jwt":"j","sig":"s","verbose":true}"#;
    let mut b = connect(server, secrets);
    for step in ["SUB a 1\r\n", "PUB a.b 1\r\nx\r\n"] {
        b.send(step.as_bytes());
        sync(&mut b);
    }
    drop(b);
    wait_for(server, "Client connection closed", 2);
    drop(connect(server, r#"{"auth_token":"tok","verbose":false}"#));
    wait_for(server, "Client connection closed", 3);
}

/// Connections that are closed for what they send.
fn violations(server: &Server) {
    let long = format!("SUB {} 1\r\n", "f".repeat(5000));
    for (at, step) in [
        "PUB foo 999999999\r\n",
        "PUB foo bad\r\n",
        "PUB a\r\n",
        "SUB foo\r\n",
        "SUB a b c d\r\n",
        "HPUB a 14 6\r\nx\r\n",
        "HPUB a b c d e\r\n",
        "-ERR 'foo'\r\n",
        &long,
        "CONNECT {\"protocol\":5}\r\n",
        "CONNECT {\"no_responders\":true,\"headers\":false}\r\n",
        "CONNECT {\"account\":\"X\"}\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut conn = connect(server, &format!("{QUIET}}}"));
        conn.send(step.as_bytes());
        // By an end of the stream or by a reset.
        conn.closes(Instant::now() + STEP_MAX);
        drop(conn);
        wait_for(server, "Client connection closed", at + 1);
    }
}

fn both(config: &str, act: impl Fn(&Server), wanted: &[&str]) -> Option<[Vec<String>; 2]> {
    Kind::NatsServer.program()?;
    let of = |kind| {
        let server = start(kind, config);
        act(&server);
        std::thread::sleep(Duration::from_millis(100));
        lines(&server.log(), wanted)
    };
    Some([of(Kind::Corelane), of(Kind::NatsServer)])
}

fn assert_same(both: Option<[Vec<String>; 2]>) {
    let Some([ours, theirs]) = both else { return println!("nats-server is not installed") };
    let (ours_text, theirs_text) = (ours.join("\n"), theirs.join("\n"));
    let at = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
    let (a, b) = (ours.get(at), theirs.get(at));
    assert!(ours == theirs, "line {at}: {a:?}\nnats-server {b:?}\n\n{ours_text}\n\n{theirs_text}");
}

fn without_deletions(lines: Vec<String>) -> Vec<String> {
    // nats-server shows the end of subscriptions when a connection is closed, we while it closes.
    let shown = |line: &String| !line.contains("[DELSUB") && !line.contains("Auto-unsubscribe");
    lines.into_iter().filter(shown).collect()
}

#[test]
fn the_protocol_is_traced() {
    let wanted = ["[TRC] ", "[DBG] ", "[ERR] "];
    let config = "debug: true, trace: true, max_traced_msg_len: 100, ping_interval: \"1h\"\n";
    let seen = both(config, session, &wanted);
    assert_same(seen.map(|both| both.map(without_deletions)));
    let seen = both("trace_headers: true, ping_interval: \"1h\"\n", headers, &wanted);
    assert_same(seen.map(|both| both.map(without_deletions)));
}

/// Messages of which only headers are shown.
fn headers(server: &Server) {
    let mut a = connect(server, &format!("{QUIET}}}"));
    for step in
        ["SUB foo 1\r\n", "PUB foo 2\r\nhi\r\n", "HPUB foo 18 19\r\nNATS/1.0\r\nK: v\r\n\r\nx\r\n"]
    {
        a.send(step.as_bytes());
        sync(&mut a);
    }
}

#[test]
fn violations_are_told() {
    let mut both = both("debug: true\n", violations, &["[ERR] ", "closed: "]);
    for lines in both.iter_mut().flatten() {
        // The two lines of a connection come in either order.
        lines.sort();
    }
    assert_same(both);
}

#[test]
fn slow_consumers_and_full_servers_are_told() {
    let config = "max_pending: 2MB, write_deadline: \"1s\", max_connections: 3\n";
    let act = |server: &Server| {
        let mut slow = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        slow.write_all(b"CONNECT {\"verbose\":false}\r\nSUB big 1\r\nPING\r\n").unwrap();
        let mut fast = connect(server, "{\"verbose\":false}");
        for _ in 0..40 {
            fast.send(format!("PUB big 500000\r\n{}\r\n", "z".repeat(500_000)).as_bytes());
        }
        wait_for(server, "Slow Consumer Detected", 1);
        let _others: Vec<TcpStream> =
            (0..3).filter_map(|_| TcpStream::connect(("127.0.0.1", server.port())).ok()).collect();
        wait_for(server, "maximum connections exceeded", 1);
    };
    let both = both(config, act, &["[INF] ", "[ERR] "]);
    let told = |lines: Vec<String>| {
        let mut lines: Vec<String> = lines
            .into_iter()
            .map(|line| line.split("conn ").last().unwrap()[2..].to_owned())
            .collect();
        lines.retain(|line| !line.contains("WriteDeadline"));
        lines.sort();
        lines.dedup();
        lines
    };
    assert_same(both.map(|both| both.map(told)));
}

/// A log that nobody reads stops nobody and is not waited for without end.
#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = std::process::Command::new(Kind::Corelane.program().unwrap());
    command.args(["-a", "127.0.0.1", "-p", &free.to_string(), "-DV"]).current_dir(dir);
    // The pipe is never read.
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let end = Instant::now() + STEP_MAX;
    let mut conn = loop {
        match Conn::open(free, true) {
            Ok(conn) => break conn,
            Err(why) => assert!(Instant::now() < end, "{why}"),
        }
    };
    conn.send(b"CONNECT {\"verbose\":false}\r\n");
    for _ in 0..200 {
        conn.send("PUB foo 2000\r\n".as_bytes());
        conn.send(format!("{}\r\n", "y".repeat(2000)).repeat(1).as_bytes());
        for _ in 0..50 {
            conn.send(format!("PUB foo 2000\r\n{}\r\n", "y".repeat(2000)).as_bytes());
        }
    }
    let served = conn.sync(Instant::now() + STEP_MAX);
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let _ = child.kill();
    let _ = child.wait();
    assert!(served, "the server does not answer");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = kib.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 128 << 10, "{kib} KiB");
}
