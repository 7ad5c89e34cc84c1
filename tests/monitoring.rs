//! What monitoring shows, field by field as nats-server shows it after the same traffic.

#[allow(dead_code)]
mod common;

use common::conn::Conn;
use common::server::{Kind, Server, Setup};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long a step of the traffic may take.
const STEP_MAX: Duration = Duration::from_secs(10);

/// Members whose values differ from run to run or from server to server: only the type is compared.
const VOLATILE: [&str; 36] = [
    "server_id",
    "server_name",
    "now",
    "start",
    "last_activity",
    "stop",
    "uptime",
    "idle",
    "rtt",
    "port",
    "cid",
    "created",
    "ts",
    "first_ts",
    "last_ts",
    "last_active",
    "max_memory",
    "max_storage",
    "store_dir",
    "sync_interval",
    "level",
    "leader",
    "_nats.req.level",
    "num_subscriptions",
    "num_cache",
    "num_inserts",
    "num_removes",
    "num_matches",
    "cache_hit_rate",
    "max_fanout",
    "avg_fanout",
    "update_time",
    "subscriptions_of_account",
    "pending_bytes",
    "total_conns",
    "out_bytes",
];
/// Members that only one of the two has, on purpose: how a write is flushed, limits that are not
/// the same, imports and exports of the system account.
const APART: [&str; 4] = ["sync_always", "limits", "imports", "exports"];

/// Puts lists in order that nats-server shows in any.
fn order(document: &mut Value) {
    const LISTS: [&str; 4] =
        ["stream_detail", "subscriptions_list", "subscriptions_list_detail", "accounts"];
    match document {
        Value::Object(members) => {
            for (key, member) in members.iter_mut() {
                order(member);
                if let (Value::Array(items), true) = (member, LISTS.contains(&key.as_str())) {
                    items.sort_by_key(|item| {
                        let named = item.get("name").or(item.get("subject")).unwrap_or(item);
                        named.to_string()
                    });
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(order),
        _ => {}
    }
}

/// Differences between two documents, as paths.
fn differences(at: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let shown = |key: &&String| !APART.contains(&key.as_str());
            for key in a.keys().chain(b.keys()).filter(shown) {
                let path = format!("{at}/{key}");
                match (a.get(key), b.get(key)) {
                    (Some(x), Some(y)) if VOLATILE.contains(&key.as_str()) => {
                        if std::mem::discriminant(x) != std::mem::discriminant(y) {
                            found.push(format!("{path}: {x} is not of the type of {y}"));
                        }
                    }
                    (Some(x), Some(y)) => differences(&path, x, y, found),
                    (x, y) => found.push(format!("{path}: {x:?}, nats-server {y:?}")),
                }
            }
            let order = |map: &serde_json::Map<String, Value>| -> Vec<String> {
                map.keys().filter(shown).cloned().collect()
            };
            if order(a) != order(b) {
                found.push(format!("{at}: the order of members differs"));
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            if a.len() != b.len() {
                return found.push(format!("{at}: {} items, nats-server {}", a.len(), b.len()));
            }
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                differences(&format!("{at}/{i}"), x, y, found);
            }
        }
        (a, b) if a != b => found.push(format!("{at}: {a}, nats-server {b}")),
        _ => {}
    }
}

/// A server with monitoring, and the traffic that both get.
struct Watched {
    server: Server,
    http: u16,
    /// Open while the server is looked at.
    conns: Vec<Conn>,
}

impl Watched {
    fn start(kind: Kind, reactors: u16) -> Watched {
        let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!("http: \"127.0.0.1:{http}\"\nserver_name: one\n");
        let setup = Setup { config, reactors, ..Setup::default() };
        let server = Server::start(kind, setup).unwrap();
        let mut watched = Watched { server, http, conns: Vec::new() };
        watched.traffic();
        watched
    }

    fn connect(&self, json: &str) -> Conn {
        let mut conn = Conn::open(self.server.port(), true).unwrap();
        conn.send(format!("CONNECT {json}\r\n").as_bytes());
        assert!(conn.sync(Instant::now() + STEP_MAX));
        conn
    }

    fn traffic(&mut self) {
        let quiet = r#""verbose":false,"headers":true,"no_responders":true"#;
        let named = r#""name":"a","lang":"rust","version":"1.0","user":"joe","pass":"x""#;
        let mut a = self.connect(&format!("{{{quiet},{named}}}"));
        a.send(b"SUB foo.* 1\r\nSUB bar q 2\r\nUNSUB 2 10\r\n");
        assert!(a.sync(Instant::now() + STEP_MAX));
        let mut b = self.connect(&format!("{{{quiet},\"auth_token\":\"secret\"}}"));
        b.send(b"PUB foo.a 5\r\nhello\r\nPUB foo.b 0\r\n\r\nPUB nobody 2\r\nhi\r\n");
        assert!(b.sync(Instant::now() + STEP_MAX));
        b.send(b"SUB in 1\r\n");
        for (request, body) in [
            ("STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"],"storage":"file"}"#),
            ("STREAM.CREATE.M", r#"{"name":"M","subjects":["m"],"storage":"memory"}"#),
            (
                "CONSUMER.CREATE.S.C",
                r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#,
            ),
            ("STREAM.INFO.NO", ""),
        ] {
            self.ask(&mut b, &format!("$JS.API.{request}"), body);
        }
        for n in 0..3 {
            self.ask(&mut b, &format!("s.{n}"), "hello");
        }
        let mut c = self.connect(&format!("{{{quiet},\"name\":\"c\"}}"));
        c.send(b"SUB gone 1\r\n");
        assert!(c.sync(Instant::now() + STEP_MAX));
        drop(c);
        let mut d = self.connect(&format!("{{{quiet}}}"));
        d.send(b"PUB foo 99999999\r\n");
        // By an end of the stream or by a reset.
        d.closes(Instant::now() + STEP_MAX);
        self.conns = vec![a, b];
        let end = Instant::now() + STEP_MAX;
        while self.json("/connz?state=closed")["total"] != 2 {
            assert!(Instant::now() < end, "closed connections are not shown");
        }
    }

    fn ask(&self, conn: &mut Conn, subject: &str, body: &str) {
        conn.send(format!("PUB {subject} in {}\r\n{body}\r\n", body.len()).as_bytes());
        let answer = conn.take(Instant::now() + STEP_MAX, |frame| frame.sid() == "1");
        assert!(answer.is_some(), "{subject} is not answered");
    }

    fn get(&self, path: &str) -> (u16, String) {
        get(self.http, path)
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        let mut document = serde_json::from_str(&body).unwrap();
        order(&mut document);
        document
    }
}

/// Status and body.
fn get(http: u16, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", http)).unwrap();
    socket.set_read_timeout(Some(STEP_MAX)).unwrap();
    let text = format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n");
    socket.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

const DOCUMENTS: [&str; 35] = [
    "/connz",
    "/connz?subs=1&limit=1",
    "/connz?subs=detail&auth=1&limit=1",
    "/connz?auth=true",
    "/connz?state=closed",
    "/connz?state=closed&sort=stop",
    "/connz?state=closed&sort=reason",
    "/connz?state=any&limit=2&offset=1",
    "/connz?offset=-3&limit=0",
    "/connz?cid=999",
    "/connz?user=joe",
    "/connz?user=nobody",
    "/connz?acc=$G",
    "/connz?acc=NO",
    "/connz?sort=msgs_to",
    "/connz?sort=msgs_from",
    "/connz?sort=bytes_from",
    "/connz?sort=subs",
    "/connz?sort=uptime",
    "/connz?sort=start",
    "/subsz",
    "/subsz?acc=NO&subs=1",
    "/subsz?test=foo.a&subs=1",
    "/subsz?test=foo.a",
    "/jsz",
    "/jsz?accounts=1",
    "/jsz?streams=true&config=1",
    "/jsz?consumers=1&config=1",
    "/jsz?consumers=1&offset=1",
    "/jsz?acc=$G",
    "/jsz?acc=NO&raft=1",
    "/jsz?leader-only=1&stream-leader-only=1",
    "/routez?subs=1",
    "/gatewayz?accs=1",
    "/accountz",
];

/// Answers whose status and text are the same to the letter.
const TEXTS: [&str; 32] = [
    "/healthz",
    "/healthz?js-enabled-only=true",
    "/healthz?js-server-only=1",
    "/healthz?js-meta-only=1",
    "/healthz?account=$G",
    "/healthz?account=NO",
    "/healthz?account=$G&stream=S",
    "/healthz?account=$G&stream=NO",
    "/healthz?account=$G&stream=S&consumer=C",
    "/healthz?account=$G&stream=S&consumer=NO",
    "/healthz?account=$G&stream=NO&consumer=NO",
    "/healthz?stream=S",
    "/healthz?consumer=C",
    "/healthz?stream=S&consumer=C",
    "/healthz?account=NO&details=1",
    "/healthz?account=$G&stream=S&consumer=NO&details=1",
    "/healthz?stream=S&details=true",
    "/healthz?details=1",
    "/healthz?details=x",
    "/connz?sort=foo",
    "/connz?sort=stop",
    "/connz?limit=x",
    "/connz?cid=abc",
    "/connz?state=wat",
    "/connz?subs=abc",
    "/connz?auth=zz",
    "/subsz?test=foo..a",
    "/subsz?offset=1.5",
    "/jsz?streams=maybe",
    "/accountz?acc=NO",
    "/raftz",
    "/nothing",
];

#[test]
fn answers_are_nats_servers() {
    if Kind::NatsServer.program().is_none() {
        println!("nats-server is not installed: nothing to compare with");
        return;
    }
    let theirs = Watched::start(Kind::NatsServer, 1);
    for reactors in [1, 2] {
        let ours = Watched::start(Kind::Corelane, reactors);
        let mut found = Vec::new();
        for path in DOCUMENTS {
            differences(path, &ours.json(path), &theirs.json(path), &mut found);
        }
        for path in TEXTS {
            let (ours, theirs) = (ours.get(path), theirs.get(path));
            if ours != theirs {
                found.push(format!("{path}: {ours:?}, nats-server {theirs:?}"));
            }
        }
        assert!(found.is_empty(), "{reactors} reactors:\n{}", found.join("\n"));
    }
}

#[test]
fn many_connections_and_subscriptions_are_paged() {
    let ours = Watched::start(Kind::Corelane, 2);
    let mut conns: Vec<Conn> = (0..300).map(|_| ours.connect("{\"verbose\":false}")).collect();
    for (n, conn) in conns.iter_mut().enumerate() {
        let subs: String = (0..20).map(|i| format!("SUB many.{n}.{i} {i}\r\n")).collect();
        conn.send(subs.as_bytes());
        assert!(conn.sync(Instant::now() + STEP_MAX));
    }
    let answer = ours.json("/connz?limit=100&offset=250&subs=1");
    assert_eq!(answer["total"], 302);
    assert_eq!(answer["num_connections"], 52);
    let shown = answer["connections"].as_array().unwrap();
    assert!(
        shown.iter().all(|c| c["subscriptions_list"].as_array().is_some_and(|l| l.len() == 20))
    );
    let cids: Vec<u64> = shown.iter().map(|c| c["cid"].as_u64().unwrap()).collect();
    assert!(cids.is_sorted());
    let answer = ours.json("/subsz?subs=1&limit=5&offset=40&test=many.7.3");
    assert_eq!((&answer["total"], answer.get("subscriptions_list")), (&1.into(), None));
    let answer = ours.json("/subsz?subs=1&limit=4096");
    assert_eq!(answer["subscriptions_list"].as_array().map(Vec::len), Some(4096));
    assert_eq!(answer["total"], answer["num_subscriptions"]);
    drop(conns);
    let end = Instant::now() + STEP_MAX;
    while ours.json("/connz?state=closed&limit=1")["total"] != 302 {
        assert!(Instant::now() < end);
    }
}

/// A port that accepts belongs to a server that is healthy.
#[test]
fn who_can_connect_finds_the_server_healthy() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = dir.join(format!("healthy-{}", std::process::id()));
    for _ in 0..10 {
        let (port, http) = (free(), free());
        let mut command = std::process::Command::new(Kind::Corelane.program().unwrap());
        let (port_text, http_text) = (port.to_string(), http.to_string());
        command.args(["-a", "127.0.0.1", "-p", &port_text, "-m", &http_text, "-js", "-sd"]);
        let log = std::process::Stdio::null();
        let mut child = command.arg(&dir).stderr(log).spawn().unwrap();
        let end = Instant::now() + STEP_MAX;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "nobody listens");
        }
        let got = get(http, "/healthz");
        let _ = child.kill();
        let _ = child.wait();
        assert_eq!(got, (200, "{\"status\":\"ok\"}".to_owned()));
    }
    let _ = std::fs::remove_dir_all(&dir);
}
