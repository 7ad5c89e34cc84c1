//! The server over loopback, with a source that is not there.

use super::{
    Control, Health, JetStreamStatus, PageAnswer, ReactorStatus, ShardStatus, Site, Snapshot,
    StatusSource, start,
};
use crate::api::types::{ConsumerConfig, ConsumerInfo, StreamInfo};
use crate::config::options::{HttpOptions, JetStreamOptions, Options, Persona};
use crate::inspect::{Connection, Matching, Page, Query, Subscription};
use crate::types::WallTime;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Answers at the poll that it is told to.
struct Fake {
    snapshot: Snapshot,
    polls: u32,
    /// Polls until the answer; `None` never answers.
    after: Option<u32>,
}

impl StatusSource for Fake {
    fn ask(&mut self) {
        self.polls = 0;
    }

    fn poll(&mut self) -> Option<Snapshot> {
        self.polls += 1;
        self.after.filter(|after| self.polls > *after).map(|_| self.snapshot.clone())
    }

    fn reactors(&self) -> usize {
        self.snapshot.reactors.len()
    }

    fn inspect(&mut self, reactor: usize, query: Query, answer: PageAnswer) -> bool {
        if self.after.is_some() {
            answer(page(reactor, &query));
        }
        true
    }
}

/// Four connections, two on each reactor, a page each.
fn page(reactor: usize, query: &Query) -> Page {
    let cid = |at: usize| (reactor * 2 + at + 1) as u64;
    match query {
        Query::Connections { from } => {
            let cid = cid(*from);
            let connection = Connection {
                cid,
                ip: "10.0.0.1".to_owned(),
                out_msgs: 10 - cid,
                start: site().start,
                last_activity: site().start,
                user: if cid == 2 { "joe" } else { "" }.to_owned(),
                ..Connection::default()
            };
            Page::Connections(vec![connection], (*from == 0).then_some(1))
        }
        Query::Closed { .. } => Page::Connections(
            vec![Connection {
                cid: 100 + reactor as u64,
                stop: Some((site().start, "Client Closed")),
                ..Connection::default()
            }],
            None,
        ),
        Query::Subscriptions { of, .. } => {
            let shown = |cid: &u64| of.is_empty() || of.contains(cid);
            let of = [cid(0), cid(1)].into_iter().filter(shown);
            let sub = |cid| Subscription { cid, subject: format!("s{cid}"), ..Default::default() };
            Page::Subscriptions(of.map(sub).collect(), None)
        }
        Query::Matching => Page::Matching(Matching {
            subscriptions: 2,
            matches: 4,
            searches: 1,
            plans: 2,
            fanout: 6,
            fanout_max: 3 + reactor as u64,
            ..Matching::default()
        }),
        Query::Streams { from } => {
            let mut info = StreamInfo::default();
            info.config.name = format!("S{}", 9 - reactor);
            info.state.consumer_count = 1;
            Page::Streams(vec![info], (*from == (0, 0)).then_some((1, 0)))
        }
        Query::Consumers { after, .. } => {
            let name = if after.is_empty() { "A" } else { "B" };
            let config = Some(ConsumerConfig::default());
            let info = ConsumerInfo { name: name.to_owned(), config, ..Default::default() };
            Page::Consumers(vec![info], after.is_empty())
        }
        Query::Find { stream, consumer } => {
            Page::Found(reactor == 1 && stream == "S", consumer == "C")
        }
    }
}

fn snapshot() -> Snapshot {
    let reactor = ReactorStatus {
        connections: 2,
        in_msgs: 10,
        in_bytes: 1000,
        slow_consumers: 1,
        ..ReactorStatus::default()
    };
    Snapshot {
        health: Health::Ok,
        reactors: vec![reactor, ReactorStatus { subscriptions: 5, ..reactor }],
        shards: vec![ShardStatus { flushes: 7, ..ShardStatus::default() }],
        jetstream: Some(JetStreamStatus { streams: 3, api_total: 9, ..Default::default() }),
    }
}

fn site() -> Site {
    let mut options = Options::defaults(Persona::Corelane);
    options.jetstream = Some(JetStreamOptions::defaults(Persona::Corelane));
    options.config_digest = "sha256:00".to_owned();
    options.server_tags = vec!["a".to_owned()];
    Site {
        options,
        server_id: "NID".to_owned(),
        server_name: "here".to_owned(),
        client_port: 4222,
        start: WallTime(1_787_308_800_000_000_000),
        begun: Instant::now(),
        cores: 2,
        api_level: 0,
        memory_bytes_max: 1000,
        store_bytes_max: 2000,
    }
}

fn run(after: Option<u32>, snapshot: Snapshot, base: &str) -> Control {
    let http = HttpOptions { host: "127.0.0.1".to_owned(), port: 0, base_path: base.to_owned() };
    start(&http, site(), Box::new(Fake { snapshot, polls: 0, after })).unwrap()
}

/// Head and body of the answer to one request.
fn request(control: &Control, method: &str, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(control.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let text = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn health_is_nats_servers() {
    let control = run(Some(2), snapshot(), "");
    let (head, body) = request(&control, "GET", "/healthz?js-enabled-only=true");
    assert_eq!(body, r#"{"status":"ok"}"#);
    let lines: Vec<&str> = head.split("\r\n").collect();
    assert_eq!(lines[0], "HTTP/1.1 200 OK");
    for line in
        ["Access-Control-Allow-Origin: *", "Content-Type: application/json", "Content-Length: 15"]
    {
        assert!(lines.contains(&line), "{head}");
    }
    let (head, body) = request(&control, "HEAD", "/healthz");
    assert!(head.contains("Content-Length: 15") && body.is_empty(), "{head}");
    control.stop();
}

#[test]
fn ill_health_and_silence_are_503() {
    let ill = Snapshot { health: Health::Unavailable("not \"up\"".to_owned()), ..snapshot() };
    let control = run(Some(0), ill, "");
    let (head, body) = request(&control, "GET", "/healthz");
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    assert_eq!(body, r#"{"status":"unavailable","error":"not \"up\""}"#);
    control.stop();
    let control = run(None, snapshot(), "");
    let begun = Instant::now();
    let (head, body) = request(&control, "GET", "/healthz");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(body, r#"{"status":"unavailable","error":"reactors do not answer"}"#);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    control.stop();
}

/// Top-level keys of pretty JSON, in their order.
fn keys(json: &str) -> Vec<&str> {
    json.lines()
        .filter_map(|line| line.strip_prefix("  \"")?.split_once('"').map(|(key, _)| key))
        .collect()
}

#[test]
fn varz_has_nats_servers_keys_in_their_order() {
    // As nats-server 2.15.1 gives them, but for feature_flags and disk_io_wait_stats.
    const KEYS: &str = "server_id server_name version proto git_commit go host port \
        max_connections ping_interval ping_max http_host http_port http_base_path https_port \
        auth_timeout max_control_line max_payload max_pending cluster gateway leaf mqtt websocket \
        jetstream tls_timeout write_deadline start now uptime mem cores gomaxprocs cpu \
        connections total_connections routes remotes leafnodes in_msgs in_bytes in_client_msgs \
        in_client_bytes out_msgs out_bytes out_client_msgs out_client_bytes slow_consumers \
        stale_connections stalled_clients subscriptions http_req_stats config_load_time \
        config_digest tags system_account slow_consumer_stats stale_connection_stats corelane";
    let control = run(Some(0), snapshot(), "");
    request(&control, "GET", "/nope");
    let (_, body) = request(&control, "GET", "/varz");
    assert_eq!(keys(&body), KEYS.split_whitespace().collect::<Vec<_>>());
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["version"], "2.15.1");
    assert_eq!(json["corelane"]["version"], "0.1.0");
    assert_eq!(json["http_port"], control.address().port());
    assert_eq!(json["connections"], 4);
    assert_eq!(json["in_bytes"], 2000);
    assert_eq!(json["subscriptions"], 5);
    assert_eq!(json["slow_consumer_stats"]["clients"], 2);
    assert_eq!(json["start"], "2026-08-21T10:40:00Z");
    assert_eq!(json["http_req_stats"], serde_json::json!({ "/varz": 1 }));
    assert_eq!(json["jetstream"]["config"]["sync_always"], true);
    assert_eq!(json["jetstream"]["stats"]["api"]["total"], 9);
    assert!(json["mem"].as_u64().unwrap() > 0);
    control.stop();
}

#[test]
fn metrics_are_prometheus_text() {
    let control = run(Some(0), snapshot(), "");
    let (head, body) = request(&control, "GET", "/metrics");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    for line in [
        "# TYPE corelane_in_msgs_total counter",
        "corelane_in_msgs_total{reactor=\"1\"} 10",
        "corelane_log_flushes_total{shard=\"0\"} 7",
        "corelane_jetstream_streams 3",
        "corelane_healthy 1",
        "corelane_start_time_seconds 1787308800",
    ] {
        assert!(body.lines().any(|known| known == line), "{line} is not in\n{body}");
    }
    // Every sample belongs to the family told just before it.
    let mut family = "";
    for line in body.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(rest) => family = rest.split(' ').next().unwrap(),
            None if line.starts_with('#') => {}
            None => assert_eq!(line.split(['{', ' ']).next(), Some(family)),
        }
    }
    control.stop();
}

#[test]
fn a_base_path_stands_before_every_endpoint() {
    let control = run(Some(0), snapshot(), "/x");
    for (path, status) in [
        ("/x/varz", 200),
        ("/x/healthz", 200),
        ("/x", 200),
        ("/x/", 200),
        ("/varz", 404),
        ("/xvarz", 404),
        ("/x/varz/", 404),
    ] {
        let (head, _) = request(&control, "GET", path);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
    }
    let (head, body) = request(&control, "GET", "/nope");
    assert_eq!(body, "404 page not found\n");
    assert!(head.contains("X-Content-Type-Options: nosniff"), "{head}");
    control.stop();
}

#[test]
fn a_taken_port_is_an_error() {
    let first = run(Some(0), snapshot(), "");
    let http = HttpOptions {
        host: "127.0.0.1".to_owned(),
        port: first.address().port(),
        base_path: String::new(),
    };
    let source = Fake { snapshot: snapshot(), polls: 0, after: Some(0) };
    let error = start(&http, site(), Box::new(source)).err().expect("the port is taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    first.stop();
}

#[test]
fn one_connection_serves_many_requests_and_garbage_is_refused() {
    let control = run(Some(0), snapshot(), "");
    let mut socket = TcpStream::connect(control.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for _ in 0..3 {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut bytes = [0; 1024];
        let mut text = String::new();
        while !text.ends_with("{\"status\":\"ok\"}") {
            let read = socket.read(&mut bytes).unwrap();
            assert!(read > 0, "closed after {text}");
            text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }
    let mut socket = TcpStream::connect(control.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(b"CONNECT {}\r\nPING\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{text}");
    control.stop();
}

#[test]
fn a_restart_may_listen_on_the_same_port() {
    let mut http = HttpOptions { host: "127.0.0.1".to_owned(), port: 0, base_path: String::new() };
    for _ in 0..3 {
        let source = Fake { snapshot: snapshot(), polls: 0, after: Some(0) };
        let control = start(&http, site(), Box::new(source)).unwrap();
        http.port = control.address().port();
        // The server closes first, so it is on its side that the connection is remembered.
        request(&control, "GET", "/healthz");
        control.stop();
    }
}

fn json(control: &Control, path: &str) -> serde_json::Value {
    let (head, body) = request(control, "GET", path);
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head} {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn connections_are_gathered_ordered_and_paged() {
    let control = run(Some(0), snapshot(), "");
    let cids = |path: &str| -> Vec<u64> {
        let answer = json(&control, path);
        let shown = answer["connections"].as_array().unwrap();
        assert_eq!(answer["num_connections"], shown.len());
        shown.iter().map(|c| c["cid"].as_u64().unwrap()).collect()
    };
    for (path, want) in [
        ("/connz", &[1, 2, 3, 4][..]),
        ("/connz?limit=2&offset=1", &[2, 3]),
        ("/connz?sort=msgs_to", &[1, 2, 3, 4]),
        ("/connz?sort=uptime&limit=1", &[1]),
        ("/connz?cid=3", &[3]),
        ("/connz?cid=9", &[]),
        ("/connz?user=joe", &[2]),
        ("/connz?state=closed", &[100, 101]),
        ("/connz?state=any&limit=5&offset=-1", &[1, 2, 3, 4, 100]),
        ("/connz?acc=$G", &[1, 2, 3, 4]),
        ("/connz?mqtt_client=x", &[]),
    ] {
        assert_eq!(cids(path), want, "{path}");
    }
    let answer = json(&control, "/connz?cid=2&subs=detail&auth=1");
    assert_eq!((&answer["total"], &answer["limit"]), (&4.into(), &1.into()));
    let shown = &answer["connections"][0];
    assert_eq!(shown["authorized_user"], "joe");
    assert_eq!(shown["subscriptions_list_detail"][0]["subject"], "s2");
    assert_eq!(json(&control, "/connz?acc=NO")["connections"], serde_json::Value::Null);
    for (path, text) in [
        ("/connz?sort=foo", "invalid sorting option: foo"),
        ("/connz?sort=stop", "sort by stop only valid on closed connections"),
        ("/connz?state=wat", "Error decoding state for wat"),
        (
            "/connz?cid=abc",
            "Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"abc\": invalid syntax",
        ),
    ] {
        let (head, body) = request(&control, "GET", path);
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert_eq!(body, text);
    }
    control.stop();
}

#[test]
fn subscriptions_and_streams_are_gathered_from_all_reactors() {
    let control = run(Some(0), snapshot(), "");
    let answer = json(&control, "/subsz?subs=1&limit=2&offset=1");
    assert_eq!((&answer["num_subscriptions"], &answer["total"]), (&4.into(), &4.into()));
    assert_eq!((&answer["max_fanout"], &answer["cache_hit_rate"]), (&4.into(), &0.75.into()));
    assert_eq!(answer["subscriptions_list"].as_array().map(Vec::len), Some(2));
    assert_eq!(answer["subscriptions_list"][0]["account"], "$G");
    assert!(json(&control, "/subsz").get("subscriptions_list").is_none());
    let (head, _) = request(&control, "GET", "/subsz?test=a..b");
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    let answer = json(&control, "/jsz?consumers=1");
    let streams = answer["account_details"][0]["stream_detail"].as_array().unwrap();
    let names: Vec<_> = streams.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["S8", "S8", "S9", "S9"]);
    let consumers = streams[0]["consumer_detail"].as_array().unwrap();
    assert_eq!((consumers.len(), &consumers[1]["name"]), (2, &"B".into()));
    assert!(streams[0].get("config").is_none() && consumers[0].get("config").is_none());
    assert!(json(&control, "/jsz").get("account_details").is_none());
    let answer = json(&control, "/jsz?streams=1&config=1");
    assert!(answer["account_details"][0]["stream_detail"][0].get("config").is_some());
    control.stop();
}

#[test]
fn health_of_what_there_is_and_is_not() {
    let control = run(Some(0), snapshot(), "");
    for (path, status, body) in [
        ("/healthz?account=$G&stream=S&consumer=C", 200, r#"{"status":"ok"}"#),
        (
            "/healthz?account=$G&stream=S&consumer=D",
            404,
            concat!(
                r#"{"status":"unavailable","error":"JetStream consumer \"D\" not found"#,
                r#" for stream \"S\" on account \"$G\""}"#
            ),
        ),
        (
            "/healthz?account=$G&stream=T&details=1",
            404,
            concat!(
                r#"{"status":"error","errors":[{"type":"STREAM","account":"$G","stream":"T","#,
                r#""error":"JetStream stream \"T\" not found on account \"$G\""}]}"#
            ),
        ),
        (
            "/healthz?stream=S",
            400,
            concat!(
                r#"{"status":"error","error":"\"account\" must not be empty"#,
                r#" when checking stream health"}"#
            ),
        ),
    ] {
        let (head, got) = request(&control, "GET", path);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert_eq!(got, body);
    }
    control.stop();
}

#[test]
fn what_is_not_built_is_empty() {
    let control = run(Some(0), snapshot(), "");
    for (path, member) in [
        ("/routez", "routes"),
        ("/gatewayz", "outbound_gateways"),
        ("/leafz", "leafs"),
        ("/accountz", "accounts"),
        ("/accountz?acc=$G", "account_detail"),
        ("/accstatz", "account_statz"),
        ("/subscriptionsz", "num_cache"),
    ] {
        assert!(json(&control, path).get(member).is_some(), "{path}");
    }
    let (_, index) = request(&control, "GET", "/");
    for path in [
        "varz", "jsz", "connz", "accountz", "accstatz", "subsz", "routez", "leafz", "gatewayz",
        "raftz", "healthz", "metrics",
    ] {
        assert!(index.contains(&format!("<a href=./{path}>")), "{path}");
    }
    let (head, _) = request(&control, "GET", "/raftz");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    control.stop();
}

#[test]
fn a_listing_of_a_silent_reactor_fails() {
    let control = run(None, snapshot(), "");
    let (head, body) = request(&control, "GET", "/connz");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head} {body}");
    control.stop();
}
