//! Consumers wait for receivers that are slow, wherever these are.

use super::*;
use crate::client::SECOND;
use crate::types::{ConsumerId, ConsumerPlace, Pressure, PressureQuery, StreamId};

const MAX_PENDING: usize = 4000;

fn node(reactors: usize) -> Node {
    Node::with_limits(reactors, 1, Limits { max_pending: MAX_PENDING, ..Limits::default() })
}

/// A client that subscribes and takes nothing.
fn reader(node: &mut Node, reactor: usize, subscribe: &str) -> ConnId {
    let conn = node.client(reactor);
    node.send(conn, subscribe);
    node.settle();
    node.seen.get_mut(&conn).unwrap().window = Some(0);
    conn
}

/// A consumer of reactor 0 delivers a message of 1,000 bytes.
fn deliver(node: &mut Node, subject: &str) {
    let payload = [b'x'; 1000];
    let message = Message { subject: subject.as_bytes(), payload: &payload, ..Message::default() };
    let (net, shards) = (&mut node.nets[0], &mut node.shards[0]);
    net.publish(node.now, &message, shards);
    node.effects(0);
    node.settle();
}

fn query(consumer: u64, nth: u64) -> PressureQuery {
    let (reactor, shard, stream) = (ReactorId(0), ShardId(0), StreamId(1));
    let consumer = ConsumerPlace { reactor, shard, stream, consumer: ConsumerId(consumer) };
    PressureQuery { consumer, nth, shared: false }
}

/// The consumer asks. Returns the answers that are there at once, and those to come.
fn ask(node: &mut Node, subject: &str, nth: u64) -> (Vec<Pressure>, u32) {
    let now = node.now;
    let wanted =
        node.nets[0].ask_receivers(now, AccountId(0), subject.as_bytes(), None, query(1, nth));
    node.effects(0);
    node.settle();
    let answers = answers(node);
    let open = wanted - answers.len() as u32;
    (answers, open)
}

fn answers(node: &mut Node) -> Vec<Pressure> {
    node.nets[0].take_answers().into_iter().map(|(_, pressure)| pressure).collect()
}

/// The client takes what is under way.
fn take(node: &mut Node, conn: ConnId, bytes: usize) {
    let reactor = node.home[&conn];
    node.nets[reactor].sent(node.now, conn, bytes);
    node.effects(reactor);
    node.settle();
}

#[test]
fn a_consumer_waits_for_its_reader_until_a_quarter_is_left() {
    for reactors in [1, 2] {
        let mut node = node(reactors);
        let slow = reader(&mut node, reactors - 1, "SUB d 1\r\n");
        deliver(&mut node, "d");
        assert_eq!(node.nets[0].pressure(), 0);
        deliver(&mut node, "d");
        assert_eq!(node.nets[0].pressure(), 1, "{reactors} reactors");
        assert_eq!(ask(&mut node, "d", 1), (vec![], 1));
        // A send is under way with the first message, then one with the second.
        for bytes in [600, 416] {
            take(&mut node, slow, bytes);
            assert_eq!(answers(&mut node), [], "more than a quarter is left");
        }
        take(&mut node, slow, 100);
        assert_eq!(answers(&mut node), [Pressure::Drained]);
        let clear = vec![Pressure::Clear; reactors - 1];
        assert_eq!(ask(&mut node, "d", 2), (clear, 0));
        assert_eq!(node.closed(slow), None);
    }
}

#[test]
fn pressure_grows_while_what_is_full_fills_further() {
    for reactors in [1, 2] {
        let mut node = node(reactors);
        reader(&mut node, reactors - 1, "SUB d 1\r\n");
        for _ in 0..3 {
            deliver(&mut node, "d");
        }
        assert_eq!(node.nets[0].pressure(), 2);
    }
}

#[test]
fn other_consumers_do_not_wait() {
    for reactors in [1, 2] {
        let mut node = node(reactors);
        reader(&mut node, reactors - 1, "SUB d 1\r\n");
        let quick = node.client(reactors - 1);
        node.send(quick, "SUB e 1\r\n");
        node.settle();
        deliver(&mut node, "d");
        deliver(&mut node, "d");
        assert_eq!(ask(&mut node, "e", 1).1, 0);
        assert_eq!(ask(&mut node, "nobody", 2).1, 0);
    }
}

#[test]
fn a_reader_among_several_is_not_waited_for_long() {
    for (reactors, subscribe) in
        [(1, "SUB d 1\r\n"), (2, "SUB d 1\r\n"), (1, "SUB d q 1\r\n"), (2, "SUB d q 1\r\n")]
    {
        let mut node = node(reactors);
        let slow = reader(&mut node, reactors - 1, subscribe);
        deliver(&mut node, "d");
        deliver(&mut node, "d");
        let quick = node.client(0);
        node.send(quick, subscribe);
        node.settle();
        assert_eq!(ask(&mut node, "d", 1).1, 1);
        node.pass(SECOND);
        assert_eq!(ask(&mut node, "d", 2).1, 1);
        node.pass(SECOND);
        assert_eq!(ask(&mut node, "d", 3).1, 0, "{reactors} reactors");
        // As slow as before, but nobody else waits.
        node.hang_up(quick);
        node.settle();
        assert_eq!(ask(&mut node, "d", 4).1, 1);
        assert_eq!(node.closed(slow), None);
    }
}

#[test]
fn a_reader_that_is_gone_is_not_waited_for() {
    for reactors in [1, 2] {
        let mut node = node(reactors);
        let slow = reader(&mut node, reactors - 1, "SUB d 1\r\n");
        deliver(&mut node, "d");
        deliver(&mut node, "d");
        assert_eq!(ask(&mut node, "d", 1).1, 1);
        node.hang_up(slow);
        node.settle();
        assert_eq!(answers(&mut node), [Pressure::Drained]);
        assert_eq!(ask(&mut node, "d", 2), (vec![], 0));
    }
}

#[test]
fn a_reader_that_takes_nothing_ends_by_the_write_deadline() {
    for reactors in [1, 2] {
        let mut node = node(reactors);
        let slow = reader(&mut node, reactors - 1, "SUB d 1\r\n");
        deliver(&mut node, "d");
        deliver(&mut node, "d");
        assert_eq!(ask(&mut node, "d", 1).1, 1);
        node.pass(11 * SECOND);
        node.settle();
        assert_eq!(node.closed(slow), Some(CloseReason::SlowConsumerWriteDeadline));
        assert_eq!(answers(&mut node), [Pressure::Drained]);
    }
}
