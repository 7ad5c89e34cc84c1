//! Several reactors: causality, barriers, queue groups, messages that come back.

use super::*;

fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

#[test]
fn a_pong_means_that_everybody_knows() {
    for seed in 0..200 {
        let mut node = Node::new(4, seed);
        let subscriber = node.client(1);
        let publishers: Vec<ConnId> = [0, 2, 3].map(|r| node.client(r)).to_vec();
        node.send(subscriber, "SUB a 1\r\nPING\r\nPUB late 1\r\nx\r\nSUB late 2\r\n");
        let mut turns = 0;
        while !node.seen[&subscriber].bytes.ends_with(b"PONG\r\n") {
            let reactor = node.random.below(4) as usize;
            node.turn(reactor);
            turns += 1;
            assert!(turns < 1000, "the PONG comes");
        }
        for &publisher in &publishers {
            node.send(publisher, "PUB a 1\r\nx\r\n");
        }
        node.settle();
        let got = node.read(subscriber);
        assert_eq!(count(&got, "MSG a 1 1\r\nx\r\n"), 3, "{got}");
        assert_eq!(count(&got, "late"), 0, "order within the connection holds: {got}");
    }
}

#[test]
fn an_answer_finds_the_inbox_by_way_of_a_third_reactor() {
    for seed in 0..300 {
        let mut node = Node::new(3, seed);
        let (requester, forwarder, replier) = (node.client(0), node.client(1), node.client(2));
        node.send(forwarder, "SUB first 1\r\nPING\r\n");
        node.send(replier, "SUB second 1\r\nPING\r\n");
        node.settle();
        node.read(forwarder);
        node.read(replier);
        // No PING between SUB and PUB: the interest must overtake the answer by itself.
        node.send(requester, "SUB inbox.1 9\r\nPUB first inbox.1 1\r\nx\r\n");
        let mut answered = [false; 2];
        for _ in 0..400 {
            let reactor = node.random.below(3) as usize;
            node.turn(reactor);
            if !answered[0] && node.read(forwarder).contains("MSG first 1 inbox.1") {
                node.send(forwarder, "PUB second inbox.1 1\r\nx\r\n");
                answered[0] = true;
            }
            if !answered[1] && node.read(replier).contains("MSG second 1 inbox.1") {
                node.send(replier, "PUB inbox.1 2\r\nok\r\n");
                answered[1] = true;
            }
        }
        assert_eq!(node.read(requester), "MSG inbox.1 9 2\r\nok\r\n", "seed {seed}");
    }
}

#[test]
fn order_holds_per_publisher() {
    let mut node = Node::new(3, 5);
    let subscriber = node.client(2);
    node.send(subscriber, "SUB a.> 1\r\n");
    node.settle();
    let publishers = [node.client(0), node.client(1)];
    for i in 0..200 {
        for (p, &publisher) in publishers.iter().enumerate() {
            node.send(publisher, format!("PUB a.{p} 3\r\n{i:03}\r\n"));
        }
        if node.random.below(3) == 0 {
            let reactor = node.random.below(3) as usize;
            node.turn(reactor);
        }
    }
    node.settle();
    let got = node.read(subscriber);
    for p in 0..2 {
        let lines: Vec<&str> = got.lines().collect();
        let head = format!("MSG a.{p} 1 3");
        let numbers: Vec<u32> =
            lines.windows(2).filter(|w| w[0] == head).map(|w| w[1].parse().unwrap()).collect();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    }
}

#[test]
fn members_of_a_queue_group_are_equally_likely_wherever_they_are() {
    let mut node = Node::new(3, 3);
    let publisher = node.client(0);
    let members: Vec<ConnId> = [0, 1, 1, 2].map(|r| node.client(r)).to_vec();
    let plain = node.client(1);
    node.send(plain, "SUB * 1\r\n");
    for &member in &members {
        node.send(member, "SUB work q 1\r\n");
    }
    node.settle();
    for _ in 0..40 {
        node.ask(publisher, "PUB work 1\r\nx\r\n".repeat(50));
    }
    let counts: Vec<usize> =
        members.iter().map(|&m| count(&node.read(m), "MSG work 1 1\r\n")).collect();
    assert_eq!(counts.iter().sum::<usize>(), 2000);
    for &n in &counts {
        assert!((400..600).contains(&n), "{counts:?}");
    }
    assert_eq!(count(&node.read(plain), "MSG work 1 1\r\n"), 2000);
}

#[test]
fn one_name_is_one_group_across_filters() {
    let mut node = Node::new(2, 3);
    let publisher = node.client(0);
    let members = [node.client(0), node.client(1)];
    node.send(members[0], "SUB work.* q 1\r\n");
    node.send(members[1], "SUB work.a q 1\r\nSUB work.> other 2\r\n");
    node.settle();
    node.ask(publisher, "PUB work.a 1\r\nx\r\n".repeat(100));
    let got = members.map(|m| node.read(m));
    assert_eq!(count(&got[0], "MSG work.a 1") + count(&got[1], "MSG work.a 1"), 100);
    assert_eq!(count(&got[1], "MSG work.a 2"), 100);
}

#[test]
fn a_message_whose_member_left_goes_to_another() {
    for seed in 0..100 {
        let mut node = Node::new(3, seed);
        let publisher = node.client(0);
        let leaver = node.client(1);
        let stayer = node.client(2);
        node.send(leaver, "SUB work q 1\r\n");
        node.send(stayer, "SUB work q 1\r\n");
        node.settle();
        node.send(publisher, "PUB work 1\r\nx\r\n".repeat(20));
        node.send(leaver, "UNSUB 1\r\n");
        node.settle();
        assert_eq!(node.read(leaver), "");
        assert_eq!(count(&node.read(stayer), "MSG work 1 1\r\nx\r\n"), 20, "seed {seed}");
    }
}

#[test]
fn a_request_whose_responder_left_is_answered_with_503() {
    for queue in ["", " q"] {
        for seed in 0..50 {
            let mut node = Node::new(2, seed);
            let (requester, responder) = (node.client(0), node.client(1));
            node.send(requester, "SUB r 1\r\n");
            node.send(responder, format!("SUB svc{queue} 1\r\n"));
            node.settle();
            // The request is on its way when the responder leaves.
            node.send(requester, "PUB svc r 1\r\nx\r\n");
            node.send(responder, "UNSUB 1\r\n");
            node.settle();
            let want = "HMSG r 1 35 35\r\nNATS/1.0 503\r\nNats-Subject: svc\r\n\r\n\r\n";
            assert_eq!(node.read(requester), want, "queue {queue:?}");
            assert_eq!(node.read(responder), "");
        }
    }
}

#[test]
fn auto_unsubscribe_is_exact_across_batches() {
    for seed in 0..50 {
        let mut node = Node::new(3, seed);
        let subscriber = node.client(1);
        let publishers = [node.client(0), node.client(2)];
        node.send(subscriber, "SUB a 1\r\nUNSUB 1 7\r\n");
        node.settle();
        for publisher in publishers {
            node.send(publisher, "PUB a 1\r\nx\r\n".repeat(5));
        }
        node.settle();
        assert_eq!(count(&node.read(subscriber), "MSG a 1 1\r\nx\r\n"), 7);
        assert!(!node.nets[0].has_interest(AccountId(0), b"a", None), "others know");
    }
}

#[test]
fn a_connection_that_closes_takes_its_interest_along() {
    let mut node = Node::new(2, 1);
    let subscriber = node.client(1);
    node.send(subscriber, "SUB a 1\r\nSUB a.* q 2\r\nSUB > 3\r\n");
    node.settle();
    assert!(node.nets[0].has_interest(AccountId(0), b"a.b", Some(b"q")));
    node.hang_up(subscriber);
    node.settle();
    assert!(!node.nets[0].has_interest(AccountId(0), b"a.b", Some(b"q")));
    assert!(!node.nets[0].has_interest(AccountId(0), b"x", None));
    assert_eq!(node.nets[1].subscriptions(), 0);
}

#[test]
fn what_a_client_sent_behind_a_barrier_counts_although_it_is_gone() {
    let mut node = Node::new(2, 1);
    let watcher = node.client(0);
    node.send(watcher, "SUB out 1\r\n");
    node.settle();
    let hasty = node.client(1);
    node.send(hasty, "SUB a 1\r\nPING\r\nPUB out 1\r\nx\r\nSUB b 2\r\nPING\r\nPUB out 1\r\ny\r\n");
    node.hang_up(hasty);
    node.settle();
    assert_eq!(node.read(watcher), "MSG out 1 1\r\nx\r\nMSG out 1 1\r\ny\r\n");
}

#[test]
fn a_full_ring_stops_the_reading_of_those_who_fill_it() {
    let mut node = Node::new(2, 1);
    let (publisher, other, subscriber) = (node.client(0), node.client(0), node.client(1));
    node.send(subscriber, "SUB a 1\r\n");
    node.settle();
    node.full = true;
    let message = format!("PUB a 1000000\r\n{}\r\n", "x".repeat(1_000_000));
    for _ in 0..5 {
        node.send(publisher, &message);
    }
    node.send(other, "PUB b 1\r\nx\r\n");
    assert!(node.seen[&publisher].paused);
    assert!(!node.seen[&other].paused);
    node.full = false;
    node.settle();
    assert!(!node.seen[&publisher].paused);
    assert_eq!(count(&node.read(subscriber), "MSG a 1 1000000"), 5);
}

#[test]
fn same_seed_same_bytes() {
    let run = |seed: u64| {
        let mut node = Node::new(4, seed);
        let conns: Vec<ConnId> = (0..8).map(|i| node.client(i % 4)).collect();
        for (i, &conn) in conns.iter().enumerate() {
            node.send(conn, format!("SUB s.{} 1\r\nSUB s.> q 2\r\nSUB * z{} 3\r\n", i % 3, i % 2));
        }
        for i in 0..100 {
            let conn = conns[node.random.below(8) as usize];
            node.send(conn, format!("PUB s.{} 2\r\n{:02}\r\nPUB x r 0\r\n\r\n", i % 4, i % 100));
            let reactor = node.random.below(4) as usize;
            node.turn(reactor);
        }
        node.settle();
        conns.iter().map(|&c| node.read(c)).collect::<Vec<_>>()
    };
    assert_eq!(run(9), run(9));
    assert_ne!(run(9), run(10));
}
