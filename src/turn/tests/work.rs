//! What would take a turn too long goes on in the next, and nobody can see that it did.

use super::*;

const MANY: usize = 100_000;

/// Subscriptions, as a client sends them: `{}` stands for their number.
fn subscriptions(conn: &mut String, filter: &str, queue: &str) {
    for i in 0..MANY {
        let filter = filter.replace("{}", &i.to_string());
        conn.push_str(&format!("SUB {filter} {queue} {i}\r\n"));
    }
}

/// Sends in reads of the size that a reactor makes.
fn send_in_reads(node: &mut Node, conn: ConnId, text: &str) {
    for piece in text.as_bytes().chunks(128 << 10) {
        node.send(conn, piece);
    }
}

/// Turns of one reactor until it has nothing to do, and the most removals in one of them.
fn removals(node: &mut Node, reactor: usize) -> (usize, usize) {
    let (mut turns, mut most) = (0, 0);
    loop {
        let before = node.nets[reactor].subscriptions();
        if !node.turn(reactor) {
            return (turns, most);
        }
        most = most.max(before - node.nets[reactor].subscriptions());
        turns += 1;
    }
}

#[test]
fn many_subscriptions_go_over_several_turns() {
    for (filter, queue) in [("one", ""), ("one", "group"), ("many.{}", ""), ("one", "g{}")] {
        let mut node = Node::new(1, 1);
        let (leaves, stays) = (node.client(0), node.client(0));
        let mut text = String::new();
        subscriptions(&mut text, filter, queue);
        send_in_reads(&mut node, leaves, &text);
        node.settle();
        assert_eq!(node.nets[0].subscriptions(), MANY);
        node.send(stays, "SUB in 1\r\nSUB other 2\r\n");
        node.hang_up(leaves);
        assert_eq!(node.nets[0].connections(), 1, "it is gone for all to see");
        node.send(stays, "PUB other 2\r\nhi\r\nPING\r\n");
        assert!(node.read(stays).ends_with("MSG other 2 2\r\nhi\r\nPONG\r\n"), "others go on");
        let (turns, most) = removals(&mut node, 0);
        assert!(turns > 10 && most < 5_000, "{turns} turns, {most} removals in one");
        assert_eq!(node.nets[0].subscriptions(), 2);
        let nobody = "HMSG in 1 35 35\r\nNATS/1.0 503\r\nNats-Subject: one\r\n\r\n\r\n";
        assert_eq!(node.ask(stays, "PUB one in 1\r\nx\r\n"), nobody);
    }
}

#[test]
fn a_few_subscriptions_go_at_once() {
    let mut node = Node::new(1, 1);
    let (leaves, stays) = (node.client(0), node.client(0));
    node.send(leaves, "SUB a 1\r\nSUB a.* q 2\r\n");
    node.hang_up(leaves);
    assert_eq!(node.nets[0].subscriptions(), 0);
    node.send(stays, "SUB in 1\r\nPUB a in 1\r\nx\r\n");
    assert!(node.read(stays).contains("NATS/1.0 503"));
}

#[test]
fn a_large_one_that_leaves_does_not_hold_up_small_ones() {
    let mut node = Node::new(1, 1);
    let (large, small) = (node.client(0), node.client(0));
    let mut text = String::new();
    subscriptions(&mut text, "one", "");
    send_in_reads(&mut node, large, &text);
    node.send(small, "SUB small 1\r\n");
    node.settle();
    node.hang_up(large);
    node.hang_up(small);
    node.turn(0);
    assert!(!node.nets[0].has_interest(AccountId(0), b"small", None));
    assert!(node.nets[0].has_interest(AccountId(0), b"one", None));
}

#[test]
fn a_second_connect_goes_on_after_the_last_subscription_of_the_first() {
    let mut node = Node::new(1, 1);
    let conn = node.client(0);
    let mut text = String::new();
    subscriptions(&mut text, "one", "");
    send_in_reads(&mut node, conn, &text);
    node.settle();
    let again = format!("{QUIET}SUB one 7\r\nPUB one 1\r\nx\r\nPING\r\n");
    node.send(conn, again);
    assert_eq!(node.read(conn), "", "it waits");
    node.settle();
    assert_eq!(node.read(conn), "MSG one 7 1\r\nx\r\nPONG\r\n");
    assert_eq!(node.nets[0].subscriptions(), 1);
}

#[test]
fn what_came_before_the_end_counts_whatever_it_costs() {
    for reactors in [1, 3] {
        let mut node = Node::new(reactors, 1);
        let (listens, leaves) = (node.client(0), node.client(0));
        node.send(listens, "SUB last 1\r\n");
        let mut text = String::new();
        subscriptions(&mut text, "many.{}", "");
        text.push_str("PING\r\nPUB last 1\r\nx\r\n");
        send_in_reads(&mut node, leaves, &text);
        node.hang_up(leaves);
        node.settle();
        assert_eq!(node.read(listens), "MSG last 1 1\r\nx\r\n");
        assert!(node.nets.iter().all(|net| net.subscriptions() < 2));
    }
}

#[test]
fn a_fan_out_ends_the_turn_of_its_publisher_alone() {
    let mut node = Node::new(1, 1);
    let (fans, publisher, other) = (node.client(0), node.client(0), node.client(0));
    let mut text = String::new();
    for i in 0..2_000 {
        text.push_str(&format!("SUB fan {i}\r\n"));
    }
    node.send(fans, text);
    node.settle();
    node.send(publisher, "PUB fan 1\r\nx\r\n".repeat(100));
    let first = node.read(fans).matches("MSG").count();
    assert!((2_000..100_000).contains(&first), "{first} in the first turn");
    node.nets[0].begin_turn();
    node.send(other, "PING\r\n");
    assert_eq!(node.read(other), "PONG\r\n", "before the rest of the other's");
    node.settle();
    assert_eq!(first + node.read(fans).matches("MSG").count(), 200_000);
}

/// A sid can be used again as soon as its last message is there, removed or not.
#[test]
fn subscriptions_that_had_their_last_message_are_gone_at_once() {
    let mut node = Node::new(1, 1);
    let (conn, publisher) = (node.client(0), node.client(0));
    let mut text = String::new();
    for i in 0..20_000 {
        text.push_str(&format!("SUB once {i}\r\nUNSUB {i} 1\r\n"));
    }
    send_in_reads(&mut node, conn, &text);
    node.settle();
    node.send(publisher, "PUB once 1\r\nx\r\n");
    assert!(node.nets[0].subscriptions() > 10_000, "not all of them in one turn");
    assert_eq!(node.read(conn).matches("MSG once").count(), 20_000);
    node.send(publisher, "PUB once 1\r\nx\r\n");
    assert_eq!(node.read(conn), "", "none has a second one");
    node.nets[0].begin_turn();
    node.send(conn, "UNSUB 19998 5\r\nSUB once 19999\r\nPUB once 1\r\nx\r\n");
    assert_eq!(node.read(conn), "MSG once 19999 1\r\nx\r\n");
    let (turns, most) = removals(&mut node, 0);
    assert!(turns > 1 && most < 5_000, "{turns} turns, {most} removals in one");
    assert_eq!(node.nets[0].subscriptions(), 1);
}

#[test]
fn small_publishes_into_streams_go_over_several_turns() {
    const PUBLISHES: usize = 30_000;
    let mut node = Node::new(1, 1);
    node.stream(0, 1, "S", &["s"]);
    let conn = node.client(0);
    send_in_reads(&mut node, conn, &"PUB s 1\r\nx\r\n".repeat(PUBLISHES));
    let mut most = node.shards[0].got.len();
    loop {
        let before = node.shards[0].got.len();
        if !node.turn(0) {
            break;
        }
        most = most.max(node.shards[0].got.len() - before);
    }
    assert!((1_000..7_000).contains(&most), "{most} captured in a turn");
    assert_eq!(node.shards[0].got.len(), PUBLISHES);
}
