//! How a connection ends: what the client still gets, and whether its socket ends in order or is
//! reset. The same table is played to nats-server, where it is installed, and to corelane.

#[allow(dead_code)]
mod common;

use common::server::{Kind, Server, Setup};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);
/// Long enough for a server to have read what was sent before.
const PAUSE: Duration = Duration::from_millis(50);
const CONNECT: &str = "CONNECT {\"verbose\":false}\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    InOrder,
    Reset,
}

/// One connection: what it sends after a PING that was answered, and how it ends.
struct Case {
    name: &'static str,
    config: &'static str,
    /// Connections that are open before.
    others: usize,
    /// Whether CONNECT and PING come first.
    greets: bool,
    sends: Vec<u8>,
    /// It closes its own direction then.
    hangs_up: bool,
    /// What comes last.
    last: &'static str,
    end: End,
}

fn case(name: &'static str, sends: impl Into<Vec<u8>>, last: &'static str, end: End) -> Case {
    let sends = sends.into();
    Case { name, config: "", others: 0, greets: true, sends, hangs_up: false, last, end }
}

fn publish(bytes: usize) -> Vec<u8> {
    format!("PUB a {bytes}\r\n{}\r\n", "x".repeat(bytes)).into_bytes()
}

fn cases() -> Vec<Case> {
    use End::{InOrder, Reset};
    let payload = "-ERR 'Maximum Payload Violation'\r\n";
    let operation = "-ERR 'Unknown Protocol Operation'\r\n";
    let line = "-ERR 'maximum control line exceeded'\r\n";
    let full = "-ERR 'maximum connections exceeded'\r\n";
    let small = "max_payload: 100";
    let two = "max_connections: 2";
    let twice = |first: &str, then: &str, times| first.to_owned() + &then.repeat(times);
    let long = |n: usize| format!("SUB {} 1\r\n", "x".repeat(n));
    let stale = "ping_interval: \"300ms\"\nping_max: 1";
    let echo = [b"SUB a 1\r\n".to_vec(), publish(3), b"PING\r\n".to_vec()].concat();
    vec![
        Case {
            config: small,
            ..case("a payload read with its line", publish(200), payload, InOrder)
        },
        Case {
            config: small,
            ..case("a payload that is a little longer", publish(600), payload, Reset)
        },
        Case { config: small, ..case("a long payload", publish(10_000), payload, Reset) },
        case("a payload of two MiB", publish(2 << 20), payload, Reset),
        case("the line of a large payload alone", "PUB a 2000000\r\n", payload, InOrder),
        case("an unknown operation", "FOO\r\n", operation, InOrder),
        case("more after it", twice("FOO\r\n", "PING\r\n", 20), operation, InOrder),
        case("much after it", twice("FOO\r\n", "PING\r\n", 800), operation, Reset),
        case("a payload that does not end", "PUB a 2\r\nxxyyPING\r\n", operation, InOrder),
        case("wrong arguments", "PUB a b c d\r\n", "PONG\r\n", InOrder),
        case("wrong arguments of SUB", "SUB a\r\n", "PONG\r\n", InOrder),
        case("headers longer than the message", "HPUB a 10 5\r\n", "PONG\r\n", InOrder),
        case("a control line that is too long", long(5_000), line, InOrder),
        case("one that is far too long", long(50_000), line, Reset),
        Case { config: two, others: 2, greets: false, ..case("too many", "", full, InOrder) },
        case("the client's own error", "-ERR 'x'\r\n", "PONG\r\n", InOrder),
        case("an INFO that is none", "INFO x\r\n", "PONG\r\n", InOrder),
        Case { config: stale, ..case("no PONG", "", "-ERR 'Stale Connection'\r\n", InOrder) },
        Case {
            greets: false,
            ..case(
                "an unknown protocol",
                "CONNECT {\"protocol\":7}\r\nPING\r\n",
                "-ERR 'invalid client protocol'\r\n",
                InOrder,
            )
        },
        Case {
            greets: false,
            ..case(
                "no responders without headers",
                "CONNECT {\"no_responders\":true,\"headers\":false}\r\nPING\r\n",
                "-ERR 'no responders requires headers support'\r\n",
                InOrder,
            )
        },
        Case { hangs_up: true, ..case("it hangs up", "PING\r\n", "PONG\r\nPONG\r\n", InOrder) },
        Case {
            hangs_up: true,
            ..case("it hangs up behind a message", echo, "MSG a 1 3\r\nxxx\r\nPONG\r\n", InOrder)
        },
    ]
}

fn open(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    socket.set_read_timeout(Some(WAIT)).expect("a timeout");
    socket
}

/// Reads to the end of a connection. PINGs of the server are left out.
fn read_to_end(mut socket: TcpStream) -> (String, End) {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        match socket.read(&mut buffer) {
            Ok(0) => break End::InOrder,
            Ok(n) => got.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => break End::Reset,
            Err(e) => panic!("{e} after {}", String::from_utf8_lossy(&got)),
        }
    };
    (String::from_utf8_lossy(&got).replace("PING\r\n", ""), end)
}

/// Plays a case; the text is what differs from it.
fn play(kind: Kind, case: &Case, reactors: u16) -> Option<String> {
    let setup =
        Setup { config: case.config.to_owned(), reactors, core_only: true, ..Setup::default() };
    let server = Server::start(kind, setup).expect("a server");
    let others: Vec<TcpStream> = (0..case.others).map(|_| open(server.port())).collect();
    std::thread::sleep(PAUSE);
    let mut socket = open(server.port());
    if case.greets {
        socket.write_all(format!("{CONNECT}PING\r\n").as_bytes()).expect("a greeting");
        std::thread::sleep(PAUSE);
    }
    // The server may be done with it before all is sent; whoever writes then sees the reset.
    let broken = socket.write_all(&case.sends).is_err();
    if case.hangs_up {
        let _ = socket.shutdown(Shutdown::Write);
    }
    std::thread::sleep(PAUSE);
    let (got, end) = read_to_end(socket);
    let end = if broken { End::Reset } else { end };
    drop(others);
    let right = got.ends_with(case.last) && end == case.end;
    let last = &got[got.len().saturating_sub(80)..];
    (!right).then(|| format!("{} ({kind:?}, {reactors}): {end:?} after {last:?}", case.name))
}

#[test]
fn connections_end_as_those_of_nats_server() {
    let mut wrong = Vec::new();
    let mut servers = vec![(Kind::Corelane, 1), (Kind::Corelane, 2)];
    if Kind::NatsServer.program().is_some() {
        servers.push((Kind::NatsServer, 0));
    }
    for (kind, reactors) in servers {
        wrong.extend(cases().iter().filter_map(|case| play(kind, case, reactors)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
