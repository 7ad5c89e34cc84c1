//! Many connections, large messages, slow readers: what a broker must bear without an error,
//! without a leak, and with little memory. By raw sockets, against corelane alone: the bounds are
//! its own.

#[allow(dead_code)]
mod common;

use common::server::{Kind, Server, Setup};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(60);
/// Resident memory of a broker without clients.
const IDLE_BYTES_MAX: u64 = 48 << 20;
/// What an idle connection adds to it.
const CONNECTION_BYTES_MAX: u64 = 12 << 10;
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";

/// One at a time: memory is measured, and slowness is judged.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(config: &str) -> Server {
    let setup = Setup { config: config.to_owned(), ..Setup::default() };
    Server::start(Kind::Corelane, setup).expect("a server")
}

/// A connected client that has its first PONG.
fn connect(port: u16) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    socket.set_read_timeout(Some(WAIT)).expect("a timeout");
    socket.set_nodelay(true).expect("no delay");
    socket.write_all(&[CONNECT, b"PING\r\n"].concat()).expect("a greeting");
    read_until(&mut socket, b"PONG\r\n");
    socket
}

fn read_until(socket: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    // The server's own PING may follow at once.
    while !got.windows(end.len()).any(|part| part == end) {
        let n = socket.read(&mut buffer).expect("an answer");
        let text = String::from_utf8_lossy(&got);
        assert!(n > 0, "closed after {text}");
        got.extend_from_slice(&buffer[..n]);
    }
    got
}

fn request(socket: &mut TcpStream, subject: &str, body: &str) -> String {
    let text = format!("SUB answer 9\r\nPUB {subject} answer {}\r\n{body}\r\n", body.len());
    socket.write_all(text.as_bytes()).expect("a request");
    let answer = read_until(socket, b"}\r\n");
    socket.write_all(b"UNSUB 9\r\n").expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(server: &Server, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a known field");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

fn resident(server: &Server) -> u64 {
    status(server, "VmRSS:") << 10
}

fn descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.pid())).map_or(0, Iterator::count)
}

/// Lets this process have many sockets. Returns how many.
fn raise_files() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read and write `limit`.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    limit.rlim_max as usize
}

/// Waits until `what` holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + WAIT;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn idle_connections_take_little_memory() {
    let _alone = alone();
    let count = raise_files().saturating_sub(500).min(10_000);
    let server = start("");
    let before = resident(&server);
    assert!(before <= IDLE_BYTES_MAX, "{} KiB before the first client", before >> 10);
    let mut clients: Vec<TcpStream> = (0..count).map(|_| connect(server.port())).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        client.write_all(format!("SUB idle.{i} 1\r\nPING\r\n").as_bytes()).expect("a subscription");
    }
    for client in &mut clients {
        read_until(client, b"PONG\r\n");
    }
    let each = (resident(&server) - before) / count as u64;
    println!("{count} connections: {each} bytes each, {} KiB before", before >> 10);
    assert!(each <= CONNECTION_BYTES_MAX, "{each} bytes a connection");
    drop(clients);
}

#[test]
fn connections_that_come_and_go_leave_nothing() {
    let _alone = alone();
    // Closed ones are remembered, for monitoring: a bounded number of them.
    let server = start("max_closed_clients: 100\n");
    let round = |count: usize| {
        for i in 0..count {
            let mut socket = connect(server.port());
            let _ =
                socket.write_all(b"SUB flood.> 1\r\nSUB flood.*.x q 2\r\nPUB flood.a 2\r\nhi\r\n");
            if i % 3 == 0 {
                let _ = socket.write_all(b"PUB half.way 100\r\nab");
            }
            if i % 7 == 0 {
                read_until(&mut socket, b"hi\r\n");
            }
        }
    };
    round(3000);
    let at_rest = descriptors(&server);
    let mut sizes = vec![resident(&server) >> 10];
    for _ in 0..4 {
        round(1500);
        sizes.push(resident(&server) >> 10);
    }
    eventually("descriptors come back", || descriptors(&server) <= at_rest);
    println!("KiB resident: {sizes:?}");
    // A leak grows with every round; an allocator's pages do not.
    let grows = sizes.windows(2).all(|pair| pair[1] > pair[0] + 300);
    assert!(!grows, "every round of connections leaves something: {sizes:?} KiB");
}

#[test]
fn a_slow_consumer_is_closed_and_the_others_get_all() {
    let _alone = alone();
    let server = start("max_pending: 32MB\nwrite_deadline: \"1s\"\n");
    let mut slow = connect(server.port());
    let mut quick = connect(server.port());
    for client in [&mut slow, &mut quick] {
        client.write_all(b"SUB flow 1\r\nPING\r\n").expect("a subscription");
        read_until(client, b"PONG\r\n");
    }
    const MESSAGES: usize = 8000;
    let body = vec![b'x'; 16 << 10];
    let mut publisher = connect(server.port());
    let writer = std::thread::spawn(move || {
        for _ in 0..MESSAGES {
            publisher.write_all(b"PUB flow 16384\r\n").expect("a publish");
            publisher.write_all(&body).expect("a body");
            publisher.write_all(b"\r\n").expect("an end");
        }
        publisher.write_all(b"PING\r\n").expect("a ping");
        read_until(&mut publisher, b"PONG\r\n");
    });
    let wants = MESSAGES * (b"MSG flow 1 16384\r\n".len() + (16 << 10) + 2);
    let mut got = 0;
    let mut buffer = vec![0; 1 << 16];
    while got < wants {
        let n = quick.read(&mut buffer).expect("the quick one is served");
        assert!(n > 0, "the quick one was closed after {got} bytes");
        got += n;
    }
    writer.join().expect("the publisher is served");
    let end = Instant::now() + WAIT;
    loop {
        match slow.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => break,
            Err(e) => panic!("the slow one is not closed: {e}"),
        }
        assert!(Instant::now() < end, "the slow one is not closed");
    }
}

#[test]
fn large_publishes_in_flight_are_all_taken() {
    let _alone = alone();
    const PUBLISHERS: usize = 8;
    const IN_FLIGHT: usize = 500;
    let server = start("");
    let mut client = connect(server.port());
    let create =
        request(&mut client, "$JS.API.STREAM.CREATE.L", r#"{"name":"L","subjects":["l.*"]}"#);
    assert!(!create.contains("error"), "{create}");
    let port = server.port();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|p| {
            std::thread::spawn(move || {
                let mut socket = connect(port);
                socket.write_all(format!("SUB acks.{p} 1\r\n").as_bytes()).expect("a subscription");
                let mut writer = socket.try_clone().expect("a second handle");
                let sender = std::thread::spawn(move || {
                    let body = vec![b'b'; 100 << 10];
                    for _ in 0..IN_FLIGHT {
                        let head = format!("PUB l.{p} acks.{p} {}\r\n", body.len());
                        writer.write_all(head.as_bytes()).expect("a publish");
                        writer.write_all(&body).expect("a body");
                        writer.write_all(b"\r\n").expect("an end");
                    }
                });
                let (mut text, mut buffer) = (String::new(), vec![0; 1 << 16]);
                while text.matches("\"seq\":").count() < IN_FLIGHT {
                    let n = socket.read(&mut buffer).expect("an answer");
                    assert!(n > 0, "closed");
                    text.push_str(&String::from_utf8_lossy(&buffer[..n]));
                    assert!(!text.contains("error") && !text.contains("-ERR"), "{text}");
                }
                sender.join().expect("all is sent");
            })
        })
        .collect();
    for publisher in publishers {
        publisher.join().expect("every publish is acknowledged");
    }
    let info = request(&mut client, "$JS.API.STREAM.INFO.L", "");
    assert!(info.contains(&format!("\"messages\":{}", PUBLISHERS * IN_FLIGHT)), "{info}");
}

/// More is added to an outbound while a part of it is being sent: it must go out as well.
#[test]
fn a_burst_of_deliveries_arrives_as_a_whole() {
    let _alone = alone();
    const MESSAGES: usize = 60_000;
    let server = start("");
    let mut client = connect(server.port());
    let create =
        request(&mut client, "$JS.API.STREAM.CREATE.B", r#"{"name":"B","subjects":["b"]}"#);
    assert!(!create.contains("error"), "{create}");
    let publish = format!("PUB b 100\r\n{:100}\r\n", "").repeat(1000);
    for _ in 0..MESSAGES / 1000 {
        client.write_all(publish.as_bytes()).expect("messages");
    }
    eventually("all is stored", || {
        let info = request(&mut client, "$JS.API.STREAM.INFO.B", "");
        info.contains(&format!("\"messages\":{MESSAGES},"))
    });
    let mut reader = connect(server.port());
    reader.write_all(b"SUB there 1\r\nPING\r\n").expect("a subscription");
    read_until(&mut reader, b"PONG\r\n");
    let config = r#"{"stream_name":"B","config":{"ack_policy":"none","deliver_subject":"there"}}"#;
    let create = request(&mut client, "$JS.API.CONSUMER.CREATE.B", config);
    assert!(!create.contains("error"), "{create}");
    let (mut bytes, mut buffer, mut last) = (0, vec![0; 1 << 14], Vec::new());
    loop {
        let n = reader.read(&mut buffer).expect("the next part");
        assert!(n > 0, "closed after {bytes} bytes");
        bytes += n;
        last.extend_from_slice(&buffer[..n]);
        last.drain(..last.len().saturating_sub(400));
        let tail = String::from_utf8_lossy(&last);
        if tail.contains(&format!(".{MESSAGES}.{MESSAGES}.")) && tail.ends_with(" \r\n") {
            break;
        }
    }
}

/// Readers on every reactor that take less than a consumer without flow control could send, and of
/// much more than may wait for them.
#[test]
fn consumers_wait_for_readers_that_are_slow() {
    const MESSAGES: usize = 6400;
    const BYTES: usize = 16 << 10;
    const RATE: u32 = 30 << 20;
    let _alone = alone();
    for reactors in [1, 2, 4] {
        let server = start(&format!("max_pending: 16MB\ncorelane {{ reactors: {reactors} }}\n"));
        let mut client = connect(server.port());
        let create =
            request(&mut client, "$JS.API.STREAM.CREATE.B", r#"{"name":"B","subjects":["b"]}"#);
        assert!(!create.contains("error"), "{create}");
        let publish = [format!("PUB b {BYTES}\r\n").as_bytes(), &[b'x'; BYTES], b"\r\n"].concat();
        for _ in 0..MESSAGES {
            client.write_all(&publish).expect("messages");
        }
        eventually("all is stored", || {
            let info = request(&mut client, "$JS.API.STREAM.INFO.B", "");
            info.contains(&format!("\"messages\":{MESSAGES},"))
        });
        let readers: Vec<_> = (0..2 * reactors)
            .map(|i| {
                let mut reader = connect(server.port());
                let subscribe = format!("SUB there.{i} 1\r\nPING\r\n");
                reader.write_all(subscribe.as_bytes()).expect("a subscription");
                read_until(&mut reader, b"PONG\r\n");
                let config = r#"{"stream_name":"B","config":{"ack_policy":"none","#.to_owned()
                    + &format!(r#""deliver_subject":"there.{i}"}}}}"#);
                let create = request(&mut client, "$JS.API.CONSUMER.CREATE.B", &config);
                assert!(!create.contains("error"), "{create}");
                std::thread::spawn(move || read_slowly(&mut reader, MESSAGES * BYTES, RATE))
            })
            .collect();
        for reader in readers {
            reader.join().expect("a reader gets all");
        }
    }
}

fn read_slowly(socket: &mut TcpStream, wants: usize, rate: u32) {
    let start = Instant::now();
    let (mut got, mut buffer) = (0, vec![0; 256 << 10]);
    while got < wants {
        let n = socket.read(&mut buffer).expect("the next part");
        assert!(n > 0, "closed after {got} bytes");
        got += n;
        let due = Duration::from_secs_f64(got as f64 / f64::from(rate));
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
}

/// A file size limit cuts a write of the log short, or refuses it.
#[test]
fn a_write_that_fails_stops_the_node_and_loses_nothing() {
    let _alone = alone();
    // Instead of a signal, the write fails. The server inherits that.
    // SAFETY: ignoring a signal has no preconditions.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    // In the middle of a block, and where a write may begin: the first cuts it short, the second
    // may refuse it altogether.
    for limit in [(1 << 20) + 512, 1 << 20] {
        let mut server = start("");
        let mut socket = connect(server.port());
        let made = request(&mut socket, "$JS.API.STREAM.CREATE.S", r#"{"name":"S"}"#);
        assert!(made.contains("\"config\""), "{made}");
        // The first checkpoint is made and segments that are made ahead are there by then; if not,
        // making one fails, which ends the same way.
        std::thread::sleep(Duration::from_secs(2));
        let limits = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: the limits are valid for the call, which writes nothing back.
        let set = unsafe {
            libc::prlimit(server.pid() as i32, libc::RLIMIT_FSIZE, &limits, std::ptr::null_mut())
        };
        assert_eq!(set, 0, "a limit");
        let body = "x".repeat(10_000);
        let text = format!("PUB S answer {}\r\n{body}\r\n", body.len());
        socket.write_all(b"SUB answer 1\r\n").expect("it listens");
        let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
        // It goes away in the middle.
        while socket.write_all(text.as_bytes()).is_ok()
            && let Ok(n @ 1..) = socket.read(&mut buffer)
        {
            got.extend_from_slice(&buffer[..n]);
        }
        assert_eq!(server.wait_exit(WAIT), Some(1), "{}", server.log_tail());
        let why = server.log_tail();
        assert!(why.contains("what the disk holds is not known any more"), "{why}");
        server.restart(false).expect("it starts again");
        let acks = got.windows(8).filter(|part| part == b"\"stream\"").count();
        let mut socket = connect(server.port());
        let info = request(&mut socket, "$JS.API.STREAM.INFO.S", "");
        let messages = info.split("\"messages\":").nth(1).and_then(|t| t.split(',').next());
        let messages: usize = messages.and_then(|t| t.parse().ok()).expect("a count");
        assert!(acks > 0 && messages >= acks, "{acks} acknowledged, {info}");
    }
}

#[test]
fn a_port_refuses_from_the_moment_its_process_is_gone() {
    let _alone = alone();
    for signal in [libc::SIGKILL, libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
        let mut server = start("");
        let clients: Vec<TcpStream> = (0..20).map(|_| connect(server.port())).collect();
        server.signal(signal);
        server.wait_exit(WAIT).expect("an end");
        for _ in 0..200 {
            let kind = TcpStream::connect(("127.0.0.1", server.port())).map_err(|e| e.kind());
            assert_eq!(kind.err(), Some(ErrorKind::ConnectionRefused), "after signal {signal}");
        }
        drop(clients);
    }
}

/// True if a PONG comes, false if the connection ends before.
fn answered(socket: &mut TcpStream) -> bool {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n) = socket.read(&mut buffer)
        && n > 0
    {
        got.extend_from_slice(&buffer[..n]);
        if String::from_utf8_lossy(&got).contains("PONG") {
            return true;
        }
    }
    false
}

#[test]
fn connections_take_no_descriptor_from_the_log() {
    let _alone = alone();
    raise_files();
    for (reactors, clients) in [(1, 150), (2, 100)] {
        let setup = Setup { reactors, descriptors: 300, ..Setup::default() };
        let server = Server::start(Kind::Corelane, setup).expect("a server");
        let mut first = connect(server.port());
        // More than there are descriptors for, while the log is to open many files.
        let mut held: Vec<TcpStream> = (0..500)
            .map(|_| TcpStream::connect(("127.0.0.1", server.port())).expect("a connection"))
            .collect();
        request(&mut first, "$JS.API.STREAM.CREATE.D", "{\"name\":\"D\",\"subjects\":[\"d\"]}");
        let body = "x".repeat(900_000);
        for n in 1..=200 {
            let answer = request(&mut first, "d", &body);
            assert!(answer.contains(&format!("\"seq\":{n}")), "{answer}");
        }
        let served = held.iter_mut().filter_map(|socket| {
            socket.set_read_timeout(Some(WAIT)).expect("a timeout");
            socket.write_all(&[CONNECT, b"PING\r\n"].concat()).ok()?;
            answered(socket).then_some(())
        });
        assert!(served.count() >= clients, "{reactors} reactors");
        drop(held);
        eventually("connections are accepted again", || {
            let mut socket = TcpStream::connect(("127.0.0.1", server.port())).expect("connected");
            socket.set_read_timeout(Some(WAIT)).expect("a timeout");
            let sent = socket.write_all(&[CONNECT, b"PING\r\n"].concat());
            sent.is_ok() && answered(&mut socket)
        });
    }
}

/// Resident memory of a broker that is flooded with requests.
const FLOODED_BYTES_MAX: u64 = 96 << 20;

#[test]
fn a_flood_of_requests_takes_little_memory_and_gives_it_back() {
    let _alone = alone();
    let server = start("");
    let mut client = connect(server.port());
    let made = request(&mut client, "$JS.API.STREAM.CREATE.S", r#"{"name":"S"}"#);
    assert!(made.contains("\"config\""), "{made}");
    client.set_write_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let flood = std::thread::spawn(move || {
        let lines = b"PUB $JS.API.STREAM.INFO.S _Q 0\r\n\r\n".repeat(1000);
        for _ in 0..500 {
            client.write_all(&lines).expect("it is read on, if slowly");
        }
    });
    let mut peak = 0;
    while !flood.is_finished() {
        peak = peak.max(resident(&server));
        std::thread::sleep(Duration::from_millis(20));
    }
    flood.join().expect("all is sent");
    assert!(peak <= FLOODED_BYTES_MAX, "{} KiB while flooded", peak >> 10);
    eventually("memory comes back", || resident(&server) <= IDLE_BYTES_MAX);
    println!("{} KiB while flooded, {} KiB afterwards", peak >> 10, resident(&server) >> 10);
}

/// What a flood asks for, over and over, and of what.
struct Flood {
    name: &'static str,
    prepare: fn(&mut TcpStream),
    subject: &'static str,
    body: &'static str,
    /// The flooding connection subscribes to its answers, and does not read them.
    subscribes: bool,
    /// It comes again when it was closed for being slow.
    returns: bool,
}

/// How long a flood lasts.
const FLOOD_TIME: Duration = Duration::from_secs(3);
/// What a flood adds where what is stored takes much already, and what of that stays.
const FLOOD_ADDS_MAX: u64 = 64 << 20;
const FLOOD_LEAVES_MAX: u64 = 40 << 20;
/// What one adds that comes again and again: for each of four reactors some times `max_pending`,
/// however often it comes.
const RETURNING_ADDS_MAX: u64 = 4 * 3 * (16 << 20);
/// How soon memory is to be back: what was taken of a flood is worked off first.
const FLOOD_FORGOTTEN: Duration = Duration::from_secs(60);
const SUBJECTS: usize = 100_000;
const STREAMS: usize = 60;
const CONSUMERS: usize = 300;

fn create(client: &mut TcpStream, subject: &str, config: &str) {
    let made = request(client, subject, config);
    assert!(made.contains("\"config\""), "{made}");
}

fn many_streams(client: &mut TcpStream) {
    for i in 0..STREAMS {
        create(client, &format!("$JS.API.STREAM.CREATE.S{i}"), &format!("{{\"name\":\"S{i}\"}}"));
    }
}

/// One message on each of many subjects, and as many deleted between them.
fn many_subjects(client: &mut TcpStream) {
    let config = r#"{"name":"S","subjects":["s.>"],"max_msgs_per_subject":1}"#;
    create(client, "$JS.API.STREAM.CREATE.S", config);
    for first in (0..SUBJECTS).step_by(1000) {
        let each = |i| format!("PUB s.a 0\r\n\r\nPUB s.{i} 0\r\n\r\n");
        let lines: String = (first..first + 1000).map(each).collect();
        client.write_all(lines.as_bytes()).expect("messages");
    }
    eventually("all is stored", || {
        let info = request(client, "$JS.API.STREAM.INFO.S", "");
        info.contains(&format!("\"messages\":{},", SUBJECTS + 1))
    });
}

fn many_consumers(client: &mut TcpStream) {
    create(client, "$JS.API.STREAM.CREATE.S", r#"{"name":"S"}"#);
    for i in 0..CONSUMERS {
        let config = r#"{"stream_name":"S","config":{"ack_policy":"explicit"}}"#
            .replace("\"ack_policy\"", &format!("\"durable_name\":\"C{i}\",\"ack_policy\""));
        create(client, &format!("$JS.API.CONSUMER.DURABLE.CREATE.S.C{i}"), &config);
    }
}

/// A stream with a large message, and a consumer that has delivered it.
fn one_message(client: &mut TcpStream) {
    let config = r#"{"name":"S","subjects":["s"],"allow_direct":true}"#;
    create(client, "$JS.API.STREAM.CREATE.S", config);
    let config = r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#;
    create(client, "$JS.API.CONSUMER.DURABLE.CREATE.S.C", config);
    request(client, "s", &"x".repeat(100_000));
    client
        .write_all(b"SUB one 8\r\nPUB $JS.API.CONSUMER.MSG.NEXT.S.C one 0\r\n\r\n")
        .expect("a pull");
    read_until(client, b"xx\r\n");
}

const FLOODS: &[Flood] = &[
    flood("STREAM.LIST", many_streams, "$JS.API.STREAM.LIST", ""),
    flood("STREAM.NAMES", many_streams, "$JS.API.STREAM.NAMES", r#"{"subject":">"}"#),
    flood("INFO", many_streams, "$JS.API.INFO", ""),
    flood("subjects", many_subjects, "$JS.API.STREAM.INFO.S", r#"{"subjects_filter":">"}"#),
    flood("deleted", many_subjects, "$JS.API.STREAM.INFO.S", r#"{"deleted_details":true}"#),
    flood("PURGE", many_subjects, "$JS.API.STREAM.PURGE.S", r#"{"filter":"none"}"#),
    flood(
        "last of a filter",
        many_subjects,
        "$JS.API.STREAM.MSG.GET.S",
        r#"{"last_by_subj":"s.*.x"}"#,
    ),
    flood("CONSUMER.LIST", many_consumers, "$JS.API.CONSUMER.LIST.S", ""),
    flood("CONSUMER.NAMES", many_consumers, "$JS.API.CONSUMER.NAMES.S", ""),
    flood("CONSUMER.INFO", many_consumers, "$JS.API.CONSUMER.INFO.S.C7", ""),
    flood("MSG.GET", one_message, "$JS.API.STREAM.MSG.GET.S", r#"{"seq":1}"#),
    flood("DIRECT.GET", one_message, "$JS.API.DIRECT.GET.S", r#"{"seq":1}"#),
    flood("+ACK", one_message, "$JS.ACK.S.C.1.1.1.1700000000000000000.0", "+ACK"),
    Flood {
        subscribes: true,
        ..flood("STREAM.LIST, subscribed", many_streams, "$JS.API.STREAM.LIST", "")
    },
    Flood {
        subscribes: true,
        ..flood("CONSUMER.LIST, subscribed", many_consumers, "$JS.API.CONSUMER.LIST.S", "")
    },
    Flood {
        subscribes: true,
        ..flood("DIRECT.GET, subscribed", one_message, "$JS.API.DIRECT.GET.S", r#"{"seq":1}"#)
    },
    returning("DIRECT.GET, returning", "$JS.API.DIRECT.GET.S", r#"{"seq":1}"#),
    returning("MSG.GET, returning", "$JS.API.STREAM.MSG.GET.S", r#"{"seq":1}"#),
    returning("batches, returning", "$JS.API.DIRECT.GET.S", r#"{"seq":1,"batch":9}"#),
    returning("pulls, returning", "$JS.API.CONSUMER.MSG.NEXT.S.C", r#"{"no_wait":true}"#),
    Flood {
        returns: true,
        subscribes: true,
        ..flood("STREAM.LIST, returning", many_streams, "$JS.API.STREAM.LIST", "")
    },
];

const fn flood(
    name: &'static str,
    prepare: fn(&mut TcpStream),
    subject: &'static str,
    body: &'static str,
) -> Flood {
    Flood { name, prepare, subject, body, subscribes: false, returns: false }
}

const fn returning(name: &'static str, subject: &'static str, body: &'static str) -> Flood {
    Flood { subscribes: true, returns: true, ..flood(name, one_message, subject, body) }
}

impl Flood {
    /// Floods for some time. Answers how many requests were taken.
    fn run(&self, port: u16) -> usize {
        let end = Instant::now() + FLOOD_TIME;
        let mut taken = self.send(port, end);
        while self.returns && Instant::now() < end {
            taken += self.send(port, end);
        }
        taken
    }

    /// Sends by one connection without reading, until it is closed for being slow.
    fn send(&self, port: u16, end: Instant) -> usize {
        let Flood { subject, body, .. } = self;
        let one = format!("PUB {subject} _Q {}\r\n{body}\r\n", body.len());
        let lines = one.repeat(1000);
        let mut client = connect(port);
        client.set_write_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        if self.subscribes {
            client.write_all(b"SUB _Q 1\r\n").expect("a subscription");
        }
        let mut at = 0;
        while Instant::now() < end {
            match client.write(&lines.as_bytes()[at % lines.len()..]) {
                Ok(n) => at += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        at / one.len()
    }

    /// What it brings the resident memory to. KiB before, while flooded, and afterwards.
    fn measure(&self) -> [u64; 3] {
        let server = start("max_pending: 16MB\n");
        let mut client = connect(server.port());
        (self.prepare)(&mut client);
        let before = resident(&server);
        let port = server.port();
        let (peak, sent) = std::thread::scope(|scope| {
            let flood = scope.spawn(|| self.run(port));
            let mut peak = 0;
            while !flood.is_finished() {
                peak = peak.max(resident(&server));
                std::thread::sleep(Duration::from_millis(10));
            }
            (peak, flood.join().expect("it floods"))
        });
        let end = Instant::now() + FLOOD_FORGOTTEN;
        let mut after = resident(&server);
        while after > IDLE_BYTES_MAX.max(before + FLOOD_LEAVES_MAX) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
            after = resident(&server);
        }
        let figures = [before, peak, after].map(|bytes| bytes >> 10);
        println!("{:28} {sent:8} requests, KiB resident: {figures:?}", self.name);
        figures
    }
}

#[test]
fn a_flood_of_any_request_takes_little_memory_and_gives_it_back() {
    let _alone = alone();
    let over = |flood: &&Flood| {
        let [before, peak, after] = flood.measure().map(|kib| kib << 10);
        let adds = if flood.returns { RETURNING_ADDS_MAX } else { FLOOD_ADDS_MAX };
        peak > FLOODED_BYTES_MAX.max(before + adds)
            || after > IDLE_BYTES_MAX.max(before + FLOOD_LEAVES_MAX)
    };
    let failed: Vec<&str> = FLOODS.iter().filter(over).map(|flood| flood.name).collect();
    assert!(failed.is_empty(), "too much memory: {failed:?}");
}

#[test]
fn requests_beyond_the_limit_wait_and_none_is_dropped() {
    const REQUESTS: usize = 5_000;
    let _alone = alone();
    let server = start("jetstream { request_queue_limit: 5 }\n");
    let mut client = connect(server.port());
    let made = request(&mut client, "$JS.API.STREAM.CREATE.S", r#"{"name":"S"}"#);
    assert!(made.contains("\"config\""), "{made}");
    let mut lines = b"SUB answers 1\r\n".to_vec();
    lines.extend(b"PUB $JS.API.STREAM.INFO.S answers 0\r\n\r\n".repeat(REQUESTS));
    let mut sender = client.try_clone().expect("a second handle");
    let sends = std::thread::spawn(move || sender.write_all(&lines).expect("it is read on"));
    // Others are answered meanwhile.
    let mut other = connect(server.port());
    assert!(request(&mut other, "$JS.API.STREAM.INFO.S", "").contains("\"config\""));
    let (mut answers, mut rest) = (0, Vec::new());
    let mut buffer = [0; 65_536];
    while answers < REQUESTS {
        let n = client.read(&mut buffer).expect("answers");
        assert!(n > 0, "closed after {answers}");
        rest.extend_from_slice(&buffer[..n]);
        let whole = rest.windows(12).filter(|part| part == b"MSG answers ").count();
        answers += whole;
        let tail = rest.len().min(11);
        rest.drain(..rest.len() - tail);
    }
    sends.join().expect("all is sent");
    assert_eq!(answers, REQUESTS);
}

#[test]
fn a_client_with_many_subscriptions_leaves_without_holding_up_others() {
    let _alone = alone();
    const MANY: usize = 100_000;
    /// A search for each subscription takes seconds; the rest is left to a busy machine.
    const HELD_UP_MAX: Duration = Duration::from_millis(100);
    let server = start("");
    for form in ["SUB one {}\r\n", "SUB one group {}\r\n", "SUB many.{} {}\r\n"] {
        let mut leaves = connect(server.port());
        let text: String = (0..MANY).map(|i| form.replace("{}", &i.to_string())).collect();
        leaves.write_all(text.as_bytes()).expect("subscriptions");
        leaves.write_all(b"PING\r\n").expect("a ping");
        read_until(&mut leaves, b"PONG\r\n");
        let mut stays = connect(server.port());
        drop(leaves);
        let mut longest = Duration::ZERO;
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            let begun = Instant::now();
            stays.write_all(b"PING\r\n").expect("a ping");
            read_until(&mut stays, b"PONG\r\n");
            longest = longest.max(begun.elapsed());
        }
        println!("{form:?}: the longest round trip took {longest:.1?}");
        assert!(longest <= HELD_UP_MAX, "{form:?}: {longest:.1?}");
    }
}
