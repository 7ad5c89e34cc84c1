//! What shards get, and what becomes of their answers.

use super::*;
use crate::client::SECOND;
use crate::interest::{WatchEvent, request_credit};
use crate::turn::net::REQUEST_CREDIT_BYTES;
use crate::types::{CREDIT_KINDS, StreamId};

const S: StreamId = StreamId(5);

#[test]
fn a_publish_reaches_subscribers_and_the_stream_s_shard_once() {
    for (publisher, owner) in [(0, 0), (0, 1), (2, 1)] {
        let mut node = Node::new(3, 1);
        node.stream(owner, 5, "S", &["orders.>"]);
        let conn = node.client(publisher);
        let subscriber = node.client(owner);
        node.send(subscriber, "SUB orders.* 1\r\n");
        node.settle();
        node.ask(conn, "PUB orders.eu r 2\r\nhi\r\n");
        assert_eq!(node.read(subscriber), "MSG orders.eu 1 r 2\r\nhi\r\n");
        let shard = ShardId(owner as u16);
        let want = Got {
            target: Target::Stream { stream: S, shard, credit: CreditKind::Publish },
            origin: Origin { reactor: ReactorId(publisher as u16), conn },
            subject: "orders.eu".into(),
            reply: "r".into(),
            payload: "hi".into(),
            credit: 9 + 2 + 1024,
        };
        assert_eq!(node.shards[owner].got, [want]);
        let all: usize = node.shards.iter().map(|s| s.got.len()).sum();
        assert_eq!(all, 1);
        assert_eq!(node.nets[publisher].credit_taken(CreditKind::Publish, shard), 1035);
        node.nets[owner].credit_return(
            ReactorId(publisher as u16),
            CreditKind::Publish,
            shard,
            1035,
        );
        node.effects(owner);
        node.settle();
        assert_eq!(node.nets[publisher].credit_taken(CreditKind::Publish, shard), 0);
    }
}

#[test]
fn requests_and_acks_go_to_the_stream_s_shard_and_the_rest_to_shard_0() {
    let mut node = Node::new(2, 1);
    for net in &mut node.nets {
        net.set_jetstream(true);
    }
    node.stream(1, 5, "S", &["s"]);
    let conn = node.client(0);
    node.send(conn, "SUB r 1\r\nSUB $JS.API.> 2\r\n");
    let text = "PUB $JS.API.STREAM.INFO.S r 0\r\n\r\nPUB $JS.API.INFO r 0\r\n\r\n\
                PUB $JS.ACK.S.C.1.2.3.4.5 0\r\n\r\nPUB $JS.API.STREAM.INFO.T r 0\r\n\r\n\
                PUB $JS.FC.S.C.abcd 0\r\n\r\nPUB $JS.ACK.T.C.1.2.3.4.5 r 0\r\n\r\n";
    let got = node.ask(conn, text);
    assert_eq!(got.matches("MSG $JS.API.").count(), 3, "ordinary subscribers get theirs: {got}");
    assert_eq!(got.matches("NATS/1.0 503").count(), 1, "{got}");
    let targets = |shards: &Shards| shards.got.iter().map(|g| g.target).collect::<Vec<_>>();
    let shard = ShardId(1);
    let want = [
        Target::Api { shard, stream: Some(S) },
        Target::Ack { stream: S, shard },
        Target::FlowControl { stream: S, shard },
    ];
    assert_eq!(targets(&node.shards[1]), want);
    let meta = Target::Api { shard: ShardId(0), stream: None };
    assert_eq!(targets(&node.shards[0]), [meta, meta]);
}

fn message<'a>(subject: &'a str, shown: &'a str, reply: &'a str, payload: &'a str) -> Message<'a> {
    Message {
        subject: subject.as_bytes(),
        shown: shown.as_bytes(),
        reply: reply.as_bytes(),
        payload: payload.as_bytes(),
        ..Message::default()
    }
}

#[test]
fn answers_are_routed_where_the_request_came_from() {
    for seed in 0..100 {
        let mut node = Node::new(3, seed);
        node.stream(1, 5, "S", &["s"]);
        // The inbox is on a third reactor, and only the requester's reactor is sure to know of it.
        let (inbox, conn) = (node.client(2), node.client(0));
        node.send(inbox, "SUB in.* 4\r\nPING\r\n");
        while !node.seen[&inbox].bytes.ends_with(b"PONG\r\n") {
            let reactor = node.random.below(3) as usize;
            node.turn(reactor);
        }
        node.read(inbox);
        node.send(conn, "PUB s in.7 1\r\nx\r\n");
        let mut answered = false;
        for _ in 0..200 {
            let reactor = node.random.below(3) as usize;
            node.turn(reactor);
            if let Some(got) = node.shards[1].got.pop() {
                assert!(!answered);
                answered = true;
                let message = message(&got.reply, "stored", "$JS.ACK.S.C.1", "ok");
                let delivery = Delivery { to: got.origin.reactor, message };
                node.nets[1].deliver(node.now, &delivery, &mut node.shards[1]);
                node.effects(1);
            }
        }
        assert_eq!(node.read(inbox), "MSG stored 4 $JS.ACK.S.C.1 2\r\nok\r\n");
    }
}

#[test]
fn pushed_messages_go_to_one_member_anywhere() {
    let mut node = Node::new(3, 1);
    let members = [node.client(0), node.client(2)];
    for member in members {
        node.send(member, "SUB deliver g 1\r\n");
    }
    node.settle();
    for _ in 0..50 {
        let pushed = message("deliver", "orders.eu", "$JS.ACK.S.C.1", "x");
        assert!(node.nets[1].publish(node.now, &pushed, &mut node.shards[1]));
    }
    node.effects(1);
    node.settle();
    let counts = members.map(|m| node.read(m).matches("MSG orders.eu 1 $JS.ACK").count());
    assert_eq!(counts[0] + counts[1], 50);
    assert!(counts[0] > 10 && counts[1] > 10, "{counts:?}");
    let nobody = message("nobody", "", "", "x");
    assert!(!node.nets[1].publish(node.now, &nobody, &mut node.shards[1]));
}

#[test]
fn what_a_shard_publishes_is_captured_like_any_other_message() {
    let mut node = Node::new(2, 1);
    node.stream(1, 5, "S", &["events.>"]);
    let event = message("events.x", "", "r", "x");
    assert!(node.nets[0].publish(node.now, &event, &mut node.shards[0]));
    node.effects(0);
    node.settle();
    let got = &node.shards[1].got[0];
    assert_eq!(got.origin, Origin { reactor: ReactorId(0), conn: ConnId(0) });
    assert_eq!((got.subject.as_str(), got.credit), ("events.x", 0));
}

#[test]
fn shards_hear_when_interest_comes_and_goes_on_any_reactor() {
    let mut node = Node::new(2, 1);
    let watch = node.nets[0].watch(AccountId(0), b"deliver.x", None);
    let conn = node.client(1);
    node.ask(conn, "SUB deliver.* 1\r\n");
    assert_eq!(node.nets[0].take_watch_events(), [], "a wildcard is no listener");
    node.ask(conn, "SUB deliver.x 2\r\n");
    assert_eq!(node.nets[0].take_watch_events(), [WatchEvent { watch, interested: true }]);
    node.hang_up(conn);
    node.settle();
    assert_eq!(node.nets[0].take_watch_events(), [WatchEvent { watch, interested: false }]);
}

#[test]
fn a_publish_to_a_stream_that_is_just_gone_is_answered_and_its_credit_comes_home() {
    let mut node = Node::new(2, 1);
    node.stream(1, 5, "S", &["s"]);
    let conn = node.client(0);
    node.send(conn, "SUB r 1\r\nPUB s r 1\r\nx\r\n");
    node.nets[1].announce_stream_removed(S);
    node.effects(1);
    assert!(node.nets[0].credit_taken(CreditKind::Publish, ShardId(1)) > 0);
    node.settle();
    assert!(node.read(conn).contains("NATS/1.0 503\r\nNats-Subject: s\r\n"));
    assert_eq!(node.nets[0].credit_taken(CreditKind::Publish, ShardId(1)), 0);
    assert_eq!(node.shards[1].got, []);
}

#[test]
fn publishers_wait_when_too_much_waits_for_durability() {
    for owner in [0, 1] {
        let mut node = Node::new(2, 1);
        node.stream(owner, 5, "S", &["s"]);
        let in_memory = CreditKind::PublishMemory;
        node.stream_charged_to(in_memory, owner, 6, "M", &["m"]);
        let (conn, idle) = (node.client(0), node.client(0));
        let message = format!("PUB s 1000000\r\n{}\r\n", "x".repeat(1_000_000));
        for _ in 0..16 {
            node.ask(conn, &message);
        }
        assert!(!node.seen[&conn].paused);
        node.ask(conn, &message);
        assert!(node.seen[&conn].paused);
        assert!(!node.seen[&idle].paused);
        let shard = ShardId(owner as u16);
        node.ask(idle, "PUB m 2\r\nhi\r\n");
        assert!(!node.seen[&idle].paused, "a memory stream waits for no disk");
        assert_eq!(node.nets[0].credit_taken(in_memory, shard), 1 + 2 + 1024);
        node.pass(SECOND);
        for got in std::mem::take(&mut node.shards[owner].got) {
            node.nets[owner].credit_return(
                got.origin.reactor,
                got.target.credit(got.subject.as_bytes()),
                shard,
                u64::from(got.credit),
            );
        }
        node.effects(owner);
        node.settle();
        assert!(!node.seen[&conn].paused);
        assert_eq!(node.nets[0].credit_taken(in_memory, shard), 0);
    }
}

#[test]
fn who_floods_requests_waits_until_they_are_handled() {
    for owner in [0, 1] {
        for subject in ["$JS.API.STREAM.INFO.S", "$JS.ACK.S.C.1.2.3.4.5", "$JS.FC.S.C.x"] {
            let mut node = Node::new(2, 1);
            for net in &mut node.nets {
                net.set_jetstream(true);
            }
            node.stream(owner, 5, "S", &["s"]);
            let (conn, publisher) = (node.client(0), node.client(0));
            let (shard, kind) = (ShardId(owner as u16), request_credit(subject.as_bytes()));
            let text = format!("PUB {subject} r 0\r\n\r\n").repeat(1000);
            let mut reads = 0;
            while !node.seen[&conn].paused {
                node.ask(conn, &text);
                reads += 1;
                assert!(reads < 20, "it is read on and on");
            }
            assert!(node.nets[0].credit_taken(kind, shard) > 0);
            node.ask(publisher, "PUB s 1\r\nx\r\n");
            assert!(!node.seen[&publisher].paused, "publishes have credit of their own");
            node.pass(3600 * SECOND);
            assert_eq!(node.closed(conn), None, "nor is it called stale");
            let mut handled = 0;
            // The publish comes with them.
            let sent = reads * 1000 + 1;
            while handled < sent {
                let taken = node.nets[0].credit_taken(kind, shard);
                assert!(taken <= REQUEST_CREDIT_BYTES / 2 + 2048, "{taken} bytes of credit");
                handled += answer(&mut node, owner, shard);
            }
            assert_eq!(handled, sent, "none is dropped");
            assert!(!node.seen[&conn].paused);
            for kind in CREDIT_KINDS {
                assert_eq!(node.nets[0].credit_taken(kind, shard), 0, "all credit is home");
            }
        }
    }
}

/// Handles the requests that reached the shard on reactor `owner`. Returns how many.
fn answer(node: &mut Node, owner: usize, shard: ShardId) -> usize {
    let came = std::mem::take(&mut node.shards[owner].got);
    for got in &came {
        let (to, kind) = (got.origin.reactor, got.target.credit(got.subject.as_bytes()));
        node.nets[owner].credit_return(to, kind, shard, u64::from(got.credit));
    }
    node.effects(owner);
    node.settle();
    assert!(!came.is_empty(), "nobody goes on");
    came.len()
}

#[test]
fn who_comes_and_goes_has_no_more_requests_under_way_than_who_stays() {
    const CAME: usize = 200;
    const EACH: usize = 1000;
    for owner in [0, 1] {
        let mut node = Node::new(2, 1);
        for net in &mut node.nets {
            net.set_jetstream(true);
        }
        node.stream(owner, 5, "S", &["s"]);
        let shard = ShardId(owner as u16);
        let text = "PUB $JS.API.STREAM.INFO.S r 0\r\n\r\n".repeat(EACH);
        for _ in 0..CAME {
            let conn = node.client(0);
            node.ask(conn, &text);
            node.hang_up(conn);
        }
        let taken = node.nets[0].credit_taken(CreditKind::Request, shard);
        let each = 2048 * CAME as u64;
        assert!(taken <= REQUEST_CREDIT_BYTES / 2 + each, "{taken} bytes of credit");
        // What a few of them sent is handled still, in its turn.
        let (stays, mut handled) = (node.client(0), 0);
        node.ask(stays, &text);
        while node.nets[0].credit_taken(CreditKind::Request, shard) > 0 {
            handled += answer(&mut node, owner, shard);
        }
        assert!((10 * EACH..CAME * EACH / 2).contains(&handled), "{handled} requests");
        assert_eq!(node.nets[0].connections(), 1);
        assert!(!node.seen[&stays].paused);
    }
}

#[test]
fn credit_of_a_request_for_a_stream_that_is_just_gone_comes_home() {
    let mut node = Node::new(2, 1);
    for net in &mut node.nets {
        net.set_jetstream(true);
    }
    node.stream(1, 5, "S", &["s"]);
    let conn = node.client(0);
    node.send(conn, "SUB r 1\r\nPUB $JS.ACK.S.C.1.2.3.4.5 r 0\r\n\r\n");
    assert!(node.nets[0].credit_taken(CreditKind::Consume, ShardId(1)) > 0);
    node.nets[1].announce_stream_removed(S);
    node.settle();
    assert_eq!(node.nets[0].credit_taken(CreditKind::Consume, ShardId(1)), 0);
    assert!(node.read(conn).contains("NATS/1.0 503"));
}
