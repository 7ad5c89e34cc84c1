//! Delivery, limits and timers of one or more reactors.

use super::*;
use crate::client::{MILLISECOND, SECOND};

#[test]
fn headers_are_stripped_for_those_who_do_not_know_them() {
    for reactors in [1, 2] {
        let mut node = Node::new(reactors, 1);
        let publisher = node.client(0);
        let old = node.connect(reactors - 1);
        node.send(old, "CONNECT {\"verbose\":false}\r\nSUB a 1\r\n");
        let new = node.client(reactors - 1);
        node.send(new, "SUB a 7\r\n");
        node.settle();
        node.ask(publisher, "HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
        assert_eq!(node.read(old), "MSG a 1 r 2\r\nhi\r\n");
        assert_eq!(node.read(new), "HMSG a 7 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    }
}

#[test]
fn max_connections_is_told_after_info() {
    let mut node = Node::new(1, 1);
    let conn = ConnId(77);
    node.home.insert(conn, 0);
    node.seen.insert(conn, Seen::default());
    node.nets[0].accept(node.now, conn, "1.2.3.4:5", true);
    node.effects(0);
    let text = node.read(conn);
    assert!(text.starts_with("INFO {"));
    assert!(text.ends_with("} \r\n-ERR 'maximum connections exceeded'\r\n"));
    assert_eq!(node.closed(conn), Some(CloseReason::MaxConnectionsExceeded));
    assert_eq!(node.nets[0].connections(), 0);
}

#[test]
fn subscription_limits() {
    let limits = Limits { max_subscriptions: 2, max_subscription_tokens: 2, ..Limits::default() };
    let mut node = Node::with_limits(1, 1, limits);
    let conn = node.client(0);
    let got = node.ask(conn, "SUB a 1\r\nSUB a.b.c 2\r\nSUB b 2\r\nSUB c 3\r\nPING\r\n");
    let want = "-ERR 'Permissions Violation for Subscription to \"a.b.c\", too many tokens'\r\n\
                -ERR 'maximum subscriptions exceeded'\r\nPONG\r\n";
    assert_eq!(got, want);
}

#[test]
fn pings_and_stale_connections() {
    let mut node = Node::new(1, 1);
    let quiet = node.connect(0);
    node.pass(600 * SECOND);
    assert_eq!(node.read(quiet), "", "no PING before CONNECT");
    let conn = node.client(0);
    node.pass(SECOND * 19 / 10);
    assert_eq!(node.read(conn), "");
    node.pass(SECOND);
    assert_eq!(node.read(conn), "PING\r\n");
    node.send(conn, "PONG\r\n");
    assert!(node.nets[0].connection_page(0).0.iter().any(|c| c.cid == conn.0 && c.rtt > 0));
    node.pass(60 * SECOND);
    node.send(conn, "PUB a 0\r\n\r\n");
    node.pass(70 * SECOND);
    assert_eq!(node.read(conn), "", "recent input stands for a PONG");
    node.pass(480 * SECOND);
    assert_eq!(node.read(conn), "PING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
    assert_eq!(node.closed(conn), Some(CloseReason::StaleConnection));
    assert_eq!(node.nets[0].stats().stale_connections, 1);
}

#[test]
fn a_paused_connection_is_never_stale() {
    let mut node = Node::new(1, 1);
    node.stream(0, 1, "S", &["s"]);
    let conn = node.client(0);
    let payload = "x".repeat(1 << 20);
    let message = format!("PUB s {}\r\n{payload}\r\n", payload.len());
    for _ in 0..65 {
        node.send(conn, &message);
        node.turn(0);
    }
    assert!(node.seen[&conn].paused);
    node.pass(3600 * SECOND);
    assert_eq!(node.closed(conn), None);
    let bytes: u64 = node.shards[0].got.iter().map(|g| u64::from(g.credit)).sum();
    assert_eq!(node.nets[0].credit_taken(CreditKind::Publish, ShardId(0)), bytes);
    node.nets[0].credit_return(ReactorId(0), CreditKind::Publish, ShardId(0), bytes);
    node.effects(0);
    assert!(!node.seen[&conn].paused);
}

/// A node with a publisher and a subscriber that takes nothing, and a message of a quarter of what
/// may wait for it.
fn node_with_slow_consumer(reactors: usize) -> (Node, ConnId, ConnId, String) {
    let limits = Limits { max_pending: 4000, ..Limits::default() };
    let mut node = Node::with_limits(reactors, 1, limits);
    let publisher = node.client(0);
    let slow = node.client(reactors - 1);
    node.send(slow, "SUB a 1\r\n");
    node.settle();
    node.seen.get_mut(&slow).unwrap().window = Some(0);
    (node, publisher, slow, format!("PUB a 1000\r\n{}\r\n", "x".repeat(1000)))
}

#[test]
fn slow_consumers_are_closed_and_their_publishers_stalled_before() {
    for reactors in [1, 2] {
        let (mut node, publisher, slow, message) = node_with_slow_consumer(reactors);
        node.ask(publisher, &message);
        assert!(!node.seen[&publisher].paused);
        node.ask(publisher, &message);
        assert!(node.seen[&publisher].paused, "{reactors} reactors");
        assert_eq!(node.closed(slow), None);
        node.pass(11 * MILLISECOND);
        assert!(!node.seen[&publisher].paused);
        node.ask(publisher, message.repeat(2));
        assert_eq!(node.closed(slow), Some(CloseReason::SlowConsumerPendingBytes));
        let stats = node.nets[reactors - 1].stats();
        assert_eq!(stats.slow_consumers, 1);
        assert!(node.nets[0].stats().stalled_clients > 0);
        assert_eq!(node.nets[reactors - 1].subscriptions(), 0);
    }
}

#[test]
fn a_stall_ends_when_the_outbound_has_drained() {
    for reactors in [1, 2] {
        let (mut node, publisher, slow, message) = node_with_slow_consumer(reactors);
        node.ask(publisher, message.repeat(3));
        assert!(node.seen[&publisher].paused, "{reactors} reactors");
        let now = node.now;
        node.nets[reactors - 1].sent(now, slow, 4000);
        node.effects(reactors - 1);
        node.settle();
        assert!(!node.seen[&publisher].paused, "{reactors} reactors");
    }
}

#[test]
fn a_send_without_progress_is_given_up() {
    for (seconds, limits) in
        [(10, Limits::default()), (3, Limits { write_deadline: 3 * SECOND, ..Limits::default() })]
    {
        let mut node = Node::with_limits(1, 1, limits);
        let conn = node.client(0);
        node.seen.get_mut(&conn).unwrap().window = Some(0);
        node.send(conn, "PING\r\n");
        node.pass((seconds - 1) * SECOND);
        assert_eq!(node.closed(conn), None);
        node.pass((seconds + 2) * SECOND);
        assert_eq!(node.closed(conn), Some(CloseReason::SlowConsumerWriteDeadline));
    }
}

#[test]
fn publishers_are_not_stalled_where_that_is_off() {
    let limits = Limits { max_pending: 4000, stall: false, ..Limits::default() };
    let mut node = Node::with_limits(1, 1, limits);
    let (publisher, slow) = (node.client(0), node.client(0));
    node.send(slow, "SUB a 1\r\n");
    node.settle();
    node.seen.get_mut(&slow).unwrap().window = Some(0);
    node.ask(publisher, format!("PUB a 1000\r\n{}\r\n", "x".repeat(1000)).repeat(3));
    assert!(!node.seen[&publisher].paused);
    assert_eq!(node.nets[0].stats().stalled_clients, 0);
    assert_eq!(node.closed(slow), None);
}

#[test]
fn a_connection_that_closes_does_not_wait_for_ever_to_send_its_error() {
    let mut node = Node::new(1, 1);
    let conn = node.client(0);
    node.seen.get_mut(&conn).unwrap().window = Some(0);
    node.send(conn, "PING\r\nX");
    assert_eq!(node.closed(conn), None);
    node.pass(12 * SECOND);
    assert_eq!(node.closed(conn), Some(CloseReason::ProtocolViolation));
    assert_eq!(node.nets[0].stats().slow_consumers, 0);
}

#[test]
fn pongs_count_too() {
    let limits = Limits { max_pending: 1000, ..Limits::default() };
    let mut node = Node::with_limits(1, 1, limits);
    let conn = node.client(0);
    node.seen.get_mut(&conn).unwrap().window = Some(0);
    node.send(conn, "PING\r\n".repeat(300));
    assert_eq!(node.closed(conn), Some(CloseReason::SlowConsumerPendingBytes));
}

#[test]
fn partial_sends_lose_nothing() {
    let mut node = Node::new(1, 1);
    let conn = node.client(0);
    node.seen.get_mut(&conn).unwrap().window = Some(3);
    let got = node.ask(conn, "SUB a 1\r\nPUB a 5\r\nhello\r\nPING\r\n");
    assert_eq!(got, "MSG a 1 5\r\nhello\r\nPONG\r\n");
}

#[test]
fn lame_duck_mode_tells_then_closes_one_after_the_other() {
    let mut node = Node::new(1, 1);
    let conns: Vec<ConnId> = (0..4)
        .map(|i| {
            let conn = node.client(0);
            if i > 0 {
                node.ask(conn, QUIET.replace("}\r\n", ",\"protocol\":1}\r\nPING\r\n"));
            }
            conn
        })
        .collect();
    node.nets[0].lame_duck(node.now, LameDuck { grace: 10 * SECOND, duration: 40 * SECOND });
    node.effects(0);
    assert_eq!(node.read(conns[0]), "", "protocol 0 gets no INFO");
    let told = node.read(conns[1]);
    assert!(told.contains("\"ldm\":true") && !told.contains("connect_info"), "{told}");
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(node.nets[0].connections());
        node.pass(10 * SECOND);
    }
    assert_eq!(open, [4, 3, 2, 1, 0, 0]);
    let text = node.read(conns[3]);
    assert!(!text.contains("-ERR"), "{text}");
    assert_eq!(node.closed(conns[3]), Some(CloseReason::ServerShutdown));
}

#[test]
fn connections_at_rest_cost_little() {
    let mut node = Node::new(1, 1);
    let conns: Vec<ConnId> = (0..2000)
        .map(|_| {
            let conn = node.connect(0);
            let connect = "CONNECT {\"verbose\":false,\"protocol\":1,\"headers\":true,\
                \"name\":\"client\",\"lang\":\"go\",\"version\":\"1.50.0\"}\r\nPING\r\n";
            node.send(conn, connect);
            node.send(conn, format!("SUB _INBOX.abcdefghijklmnopqrst{}.* 1\r\nPING\r\n", conn.0));
            // Half a message, then the rest: nothing of it stays.
            node.send(conn, "PUB a 5\r\nhe");
            node.send(conn, "llo\r\n");
            conn
        })
        .collect();
    for conn in conns {
        let heap = node.nets[0].conn_heap_bytes(conn).unwrap();
        assert!(heap < 512, "{heap} bytes");
    }
    let fixed = size_of::<crate::client::Connection>();
    assert!(fixed <= 768, "{fixed} bytes");
}

#[test]
fn statistics_count_payloads() {
    let mut node = Node::new(2, 1);
    let (publisher, subscriber) = (node.client(0), node.client(1));
    node.send(subscriber, "SUB a 1\r\nSUB a 2\r\n");
    node.settle();
    node.ask(publisher, "PUB a 5\r\nhello\r\nHPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    let (into, out) = (node.nets[0].stats(), node.nets[1].stats());
    assert_eq!((into.in_msgs, into.in_bytes), (2, 19));
    assert_eq!((out.out_msgs, out.out_bytes), (4, 38));
    let stats = node.nets[1].connection_page(0).0.remove(0);
    assert_eq!((stats.out_msgs, stats.out_bytes, stats.subscriptions), (4, 38, 2));
}
