//! Stores that earlier versions wrote: each is opened, answers as the version that wrote it did,
//! takes new messages, and does so again after a stop and after a crash. `tests/golden/make` made
//! them.

#[allow(dead_code)]
mod common;

use common::conn::{Conn, Frame};
use common::server::{Kind, Server, Setup};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

struct Client {
    conn: Conn,
    requests: u32,
}

impl Client {
    fn new(server: &Server) -> Client {
        let mut conn = Conn::open(server.port(), true).expect("a connection");
        conn.send(CONNECT);
        conn.send(b"SUB to.* to\r\n");
        assert!(conn.sync(Instant::now() + WAIT), "a greeting");
        Client { conn, requests: 0 }
    }

    fn publish(&mut self, subject: &str, headers: &str, payload: &str) {
        self.requests += 1;
        let n = self.requests;
        let (h, p) = (headers.len(), payload.len());
        let text = match headers {
            "" => format!("PUB {subject} to.{n} {p}\r\n{payload}\r\n"),
            _ => format!("HPUB {subject} to.{n} {h} {}\r\n{headers}{payload}\r\n", h + p),
        };
        self.conn.send(text.as_bytes());
    }

    fn ask(&mut self, subject: &str, headers: &str, payload: &str) -> Frame {
        self.publish(subject, headers, payload);
        let head = format!("MSG to.{} ", self.requests);
        let answer = |frame: &Frame| frame.line.contains(&head);
        self.conn.take(Instant::now() + WAIT, answer).expect("an answer")
    }

    fn json(&mut self, subject: &str, headers: &str, payload: &str) -> Value {
        let frame = self.ask(subject, headers, payload);
        let text = String::from_utf8_lossy(&frame.body);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{subject}: {text}"))
    }
}

/// Takes out what does not come from the store.
fn without_volatile(mut answer: Value) -> Value {
    if let Some(answer) = answer.as_object_mut() {
        // Who answered, and when, and how far a crash lets consumer sequences jump.
        answer.remove("ts");
        answer.remove("cluster");
        if let Some(delivered) = answer.get_mut("delivered").and_then(Value::as_object_mut) {
            delivered.remove("consumer_seq");
        }
        if let Some(config) = answer.get_mut("config").and_then(Value::as_object_mut) {
            config.remove("metadata");
        }
    }
    answer
}

/// The members that differ, cut short: some answers have thousands.
fn difference(have: &Value, want: &Value) -> String {
    let (Some(h), Some(w)) = (have.as_object(), want.as_object()) else {
        return format!("{have:.300} instead of {want:.300}");
    };
    let keys = h.keys().chain(w.keys().filter(|k| !h.contains_key(*k)));
    keys.filter(|k| h.get(*k) != w.get(*k))
        .map(|k| format!("{k}: {}; ", difference(&have[k], &want[k])))
        .collect()
}

fn answers_as_before(client: &mut Client, name: &str) {
    let expected = fs::read_to_string(file(&format!("{name}.json"))).expect("the answers");
    assert!(expected.lines().count() > 100, "the answers are there");
    for line in expected.lines() {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        let verb = line["ask"].as_str().expect("a request");
        let with = line["with"].as_str().expect("its payload");
        let answer = client.json(&format!("$JS.API.{verb}"), "", with);
        let (have, want) = (without_volatile(answer), without_volatile(line["answer"].clone()));
        assert!(have == want, "{verb} {with}: {}", difference(&have, &want));
    }
}

/// The duplicate window, a large message and what is to be delivered next.
fn serves(client: &mut Client) {
    for (id, seq) in [("id-7", 8), ("tail", 121)] {
        let headers = format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n");
        let ack = client.json("ids.a", &headers, "again");
        assert_eq!((&ack["seq"], &ack["duplicate"]), (&seq.into(), &true.into()), "{ack}");
    }
    let large = client.json("$JS.API.STREAM.MSG.GET.LARGE", "", "{\"seq\":1}");
    let data = large["message"]["data"].as_str().expect("its data");
    assert_eq!((data.len(), data.trim_start_matches('A')), ((6 << 20) / 3 * 4, ""));
}

/// Pulls one message of a consumer and acknowledges it. Its stream sequence.
fn pull(client: &mut Client, consumer: &str) -> u64 {
    let payload = "{\"batch\":1,\"expires\":5000000000}";
    client.publish(&format!("$JS.API.CONSUMER.MSG.NEXT.LOG.{consumer}"), "", payload);
    let of_log = |frame: &Frame| frame.line.contains("MSG log.");
    let frame = client.conn.take(Instant::now() + WAIT, of_log).expect("a message");
    let reply = frame.line.split(' ').nth(3).expect("an acknowledgement's subject").to_owned();
    let seq = reply.split('.').nth(5).and_then(|s| s.parse().ok()).expect("a stream sequence");
    client.ask(&reply, "", "+ACK");
    seq
}

fn counts(client: &mut Client, consumer: &str) -> (u64, u64) {
    let info = client.json(&format!("$JS.API.CONSUMER.INFO.LOG.{consumer}"), "", "");
    let number = |name: &str| info[name].as_u64().expect("a number");
    (number("num_pending"), number("num_ack_pending"))
}

fn check(name: &str) {
    // The store has two shards; any number of reactors serves it.
    let config = "max_payload: 8MB\ncorelane { reactors: 1, pin: false }\n".to_owned();
    let archive = Some(file(&format!("{name}.tar.gz")));
    let setup = Setup { config, archive, ..Setup::default() };
    let mut server = Server::start(Kind::Corelane, setup).expect("it opens");
    for kill in [true, false, true] {
        let mut client = Client::new(&server);
        answers_as_before(&mut client, name);
        serves(&mut client);
        server.restart(kill).expect("it opens again");
    }
    let mut client = Client::new(&server);
    let pulled: Vec<u64> = (0..3).map(|_| pull(&mut client, "pull")).collect();
    assert!(pulled.iter().all(|&seq| seq > 261) && pulled.is_sorted(), "{pulled:?}");
    let before = counts(&mut client, "pull");
    let ack = client.json("log.5.new", "", "new");
    assert_eq!(ack["seq"].as_u64(), Some(5041), "{ack}");
    assert_eq!(counts(&mut client, "pull"), (before.0 + 1, before.1));
    server.restart(true).expect("it opens again");
    let mut client = Client::new(&server);
    assert_eq!(counts(&mut client, "pull"), (before.0 + 1, before.1));
    assert!(pull(&mut client, "pull") > pulled[2]);
    let log = server.log_tail();
    assert!(!log.contains("[ERR]") && !log.contains("cannot be read"), "{log}");
}

#[test]
fn format_1_opens() {
    check("format-1");
}

/// A store of format 2 before its checkpoint said by an index how far the catalogue is applied.
#[test]
fn format_2_with_a_root_of_version_2_opens() {
    check("root-2");
}
