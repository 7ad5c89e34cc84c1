use super::drive::*;
use crate::consumer::*;

fn with(change: impl FnOnce(&mut ConsumerSettings)) -> ConsumerSettings {
    let mut settings = pull_settings();
    change(&mut settings);
    settings
}

fn limits(change: impl FnOnce(&mut PullSettings)) -> ConsumerSettings {
    with(|s| {
        if let Mode::Pull(pull) = &mut s.mode {
            change(pull);
        }
    })
}

/// Requests to a consumer with messages pending, and all that is sent. Recorded from nats-server
/// 2.15.1 (with other timestamps, which make the sizes differ).
#[test]
fn requests_at_once() {
    for (messages, body, want) in [
        (0, "{\"no_wait\":true}", vec!["inbox 404 No Messages"]),
        (0, "{\"batch\":2", vec!["inbox 400 Bad Request - unexpected end of JSON input"]),
        (2, "", vec!["inbox .1.1.1.1000000.1"]),
        (2, "-4", vec!["inbox .1.1.1.1000000.1"]),
        (2, "{}", vec!["inbox .1.1.1.1000000.1"]),
        (
            2,
            "{\"batch\":5,\"no_wait\":true}",
            vec!["inbox .1.1.1.1000000.1", "inbox .1.2.2.2000000.0", "inbox 404 No Messages"],
        ),
        (
            1,
            "{\"batch\":5,\"no_wait\":true,\"expires\":200}",
            vec!["inbox .1.1.1.1000000.0", "inbox 404 No Messages"],
        ),
        (
            2,
            "{\"batch\":5,\"max_bytes\":10}",
            vec!["inbox 409 Message Size Exceeds MaxBytes|M: 5|B: 10"],
        ),
        // One delivery is 3 + 27 + 5 bytes.
        (
            2,
            "{\"batch\":5,\"max_bytes\":40}",
            vec!["inbox .1.1.1.1000000.1", "inbox 409 Message Size Exceeds MaxBytes|M: 4|B: 5"],
        ),
        (
            2,
            "{\"batch\":1,\"max_bytes\":1000}",
            vec!["inbox .1.1.1.1000000.1", "inbox 409 Batch Completed|M: 0|B: 965"],
        ),
        (2, "{\"batch\":5,\"max_bytes\":35}", vec!["inbox .1.1.1.1000000.1"]),
    ] {
        let mut b = Bench::new(pull_settings(), messages);
        b.pull(body);
        assert_eq!(b.lines(), want, "{messages} {body}");
    }
}

#[test]
fn requests_over_time() {
    for (body, messages, until, want) in [
        (
            "{\"batch\":3,\"expires\":50000000}",
            1,
            60 * MS,
            vec!["inbox .1.1.1.1000000.0", "inbox 408 Request Timeout|M: 2|B: 0"],
        ),
        ("{\"expires\":50000000}", 0, 60 * MS, vec!["inbox 408 Request Timeout|M: 0|B: 0"]),
        (
            "{\"batch\":3,\"expires\":50000000,\"max_bytes\":100}",
            0,
            50 * MS,
            vec!["inbox 408 Request Timeout|M: 3|B: 100"],
        ),
        ("{\"batch\":3,\"expires\":50000000}", 0, 50 * MS - 1, vec![]),
        (
            "{\"batch\":2,\"expires\":250000000,\"idle_heartbeat\":100000000}",
            1,
            260 * MS,
            vec![
                "inbox .1.1.1.1000000.0",
                "inbox 100 Idle Heartbeat|Nats-Last-Consumer: 1|Nats-Last-Stream: 1",
                "inbox 100 Idle Heartbeat|Nats-Last-Consumer: 1|Nats-Last-Stream: 1",
                "inbox 408 Request Timeout|M: 1|B: 0",
            ],
        ),
        (
            "{\"batch\":5,\"no_wait\":true,\"expires\":50000000}",
            0,
            60 * MS,
            vec!["inbox 408 Request Timeout|M: 5|B: 0"],
        ),
    ] {
        let mut b = Bench::new(pull_settings(), messages);
        b.pull(body);
        b.until(until);
        assert_eq!(b.lines(), want, "{body}");
    }
}

#[test]
fn no_wait_with_expiry_ends_after_the_first_arrival() {
    let mut b = Bench::new(pull_settings(), 0);
    b.pull("{\"batch\":5,\"no_wait\":true,\"expires\":400000000}");
    b.append(b"s.a");
    b.append(b"s.a");
    b.drive();
    let want = ["inbox .1.1.1.1000000.1", "inbox .1.2.2.2000000.0", "inbox 404 No Messages"];
    assert_eq!(b.lines(), want);
}

#[test]
fn requests_take_turns() {
    let mut b = Bench::new(pull_settings(), 0);
    b.pull_to("{\"batch\":3}", "a");
    b.pull_to("{\"batch\":1}", "b");
    b.pull_to("{\"batch\":2}", "c");
    for _ in 0..6 {
        b.append(b"s.a");
    }
    b.drive();
    let to: Vec<_> = b.lines().iter().map(|l| l[..1].to_owned()).collect();
    assert_eq!(to, ["a", "b", "c", "a", "c", "a"]);
    assert_eq!(b.numbers(), [6, 6, 0, 0, 6, 0, 0, 0]);
}

#[test]
fn limits_of_requests() {
    let s = limits(|p| {
        p.max_batch = 5;
        p.max_expires = 1_500 * MS;
        p.max_bytes = 1000;
        p.max_waiting = 2;
    });
    let mut b = Bench::new(s, 0);
    for (body, want) in [
        ("{\"batch\":6}", vec!["inbox 409 Exceeded MaxRequestBatch of 5"]),
        ("6", vec!["inbox 409 Exceeded MaxRequestBatch of 5"]),
        (
            "{\"batch\":5,\"expires\":2000000000}",
            vec!["inbox 409 Exceeded MaxRequestExpires of 1.5s"],
        ),
        ("{\"batch\":5,\"max_bytes\":1001}", vec!["inbox 409 Exceeded MaxRequestMaxBytes of 1000"]),
        ("{\"batch\":1}", vec![]),
        ("{\"batch\":2}", vec![]),
        ("{\"batch\":2}", vec!["inbox 409 Exceeded MaxWaiting"]),
        ("{\"batch\":2,\"expires\":1000,\"idle_heartbeat\":100}", vec![]),
        ("{\"batch\":2,\"no_wait\":true}", vec!["inbox 404 No Messages"]),
    ] {
        b.pull(body);
        assert_eq!(b.lines(), want, "{body}");
    }
    assert_eq!(b.numbers()[6], 2);
}

#[test]
fn stalled_on_unacknowledged() {
    let mut b = Bench::new(with(|s| s.max_ack_pending = 1), 5);
    b.pull("{\"batch\":1}");
    b.pull_to("{\"batch\":10}", "q");
    assert_eq!(b.lines(), ["inbox .1.1.1.1000000.4"]);
    b.pull_to("{\"batch\":3,\"no_wait\":true}", "n");
    assert_eq!(b.lines(), ["n 408 Requests Pending"]);
    b.ack(1, 1, "");
    assert_eq!(b.lines(), ["ar ack", "q .1.2.2.2000000.3"]);
}

/// Recorded from nats-server 2.15.1: while too much is unacknowledged, a request that does not wait
/// ends when the time of some request has come, and not before.
#[test]
fn stalled_requests_that_do_not_wait() {
    let heartbeat =
        "{\"batch\":3,\"no_wait\":true,\"expires\":90000000,\"idle_heartbeat\":20000000}";
    for (first, second, until, want) in [
        ("{\"batch\":3,\"no_wait\":true}", "", 100 * MS, vec![]),
        (heartbeat, "", 19 * MS, vec![]),
        (heartbeat, "", 80 * MS, vec!["first 404 No Messages"]),
        (
            "{\"batch\":3,\"expires\":50000000}",
            "{\"no_wait\":true}",
            80 * MS,
            vec!["first 408 Request Timeout|M: 1|B: 0", "second 404 No Messages"],
        ),
        (
            "{\"batch\":3,\"no_wait\":true,\"expires\":90000000}",
            "{\"expires\":50000000}",
            80 * MS,
            vec!["first 404 No Messages", "second 408 Request Timeout|M: 0|B: 0"],
        ),
        // It got nothing yet.
        (
            "{\"batch\":3,\"expires\":50000000}",
            "{\"no_wait\":true,\"expires\":90000000}",
            80 * MS,
            vec!["first 408 Request Timeout|M: 1|B: 0"],
        ),
    ] {
        let mut b = Bench::new(with(|s| s.max_ack_pending = 2), 5);
        b.pull_to(first, "first");
        assert_eq!(b.lines().len(), 2, "{first}");
        if !second.is_empty() {
            b.pull_to(second, "second");
        }
        b.until(until);
        assert_eq!(b.lines(), want, "{first} {second}");
    }
}

/// Acknowledgements of three delivered messages out of five, as recorded from nats-server 2.15.1.
#[test]
fn acknowledgements() {
    let mut b = Bench::new(pull_settings(), 5);
    b.pull("{\"batch\":3}");
    b.lines();
    for (seq, cseq, payload, answered, want) in [
        (2, 2, "", true, [3, 3, 0, 0, 2, 0, 0, 2]),
        (2, 2, "", true, [3, 3, 0, 0, 2, 0, 0, 2]),
        (9, 9, "", false, [3, 3, 0, 0, 2, 0, 0, 2]),
        (4, 4, "", false, [3, 3, 0, 0, 2, 0, 0, 2]),
        (1, 1, "-NAK {\"delay\": 100000000}", true, [3, 3, 0, 0, 2, 0, 0, 2]),
        (1, 1, "-NAK 5x", true, [3, 3, 0, 0, 2, 0, 0, 2]),
        (3, 3, "+WPI", true, [3, 3, 0, 0, 2, 0, 0, 2]),
        (3, 3, "garbage", true, [3, 3, 0, 0, 2, 0, 0, 2]),
        (3, 3, "+TERM why", true, [3, 3, 0, 0, 1, 0, 0, 2]),
        (9, 9, "-NAK", true, [3, 3, 0, 0, 1, 0, 0, 2]),
        (9, 9, "+TERM", false, [3, 3, 0, 0, 1, 0, 0, 2]),
        (9, 9, "+WPI", true, [3, 3, 0, 0, 1, 0, 0, 2]),
        (0, 0, "", true, [3, 3, 0, 0, 1, 0, 0, 2]),
        (1, 1, "+ACKx", true, [3, 3, 0, 0, 1, 0, 0, 2]),
        (1, 1, "+OK", true, [3, 3, 3, 3, 0, 0, 0, 2]),
    ] {
        b.ack(seq, cseq, payload);
        let lines = b.lines();
        assert_eq!(lines, if answered { vec!["ar ack"] } else { vec![] }, "{seq} {payload}");
        assert_eq!(b.numbers(), want, "{seq} {payload}");
    }
}

#[test]
fn acknowledge_all() {
    let mut b = Bench::new(with(|s| s.ack_policy = AckPolicy::All), 5);
    b.pull("{\"batch\":4}");
    b.lines();
    for (seq, cseq, payload, want) in [
        (2, 2, "", [4, 4, 2, 2, 2, 0, 0, 1]),
        (1, 1, "", [4, 4, 2, 2, 2, 0, 0, 1]),
        (3, 3, "-NAK", [4, 4, 2, 2, 2, 0, 0, 1]),
        (4, 4, "", [4, 4, 4, 4, 0, 0, 0, 1]),
    ] {
        b.ack(seq, cseq, payload);
        assert_eq!(b.lines(), ["ar ack"], "{seq} {payload}");
        assert_eq!(b.numbers(), want, "{seq} {payload}");
    }
}

#[test]
fn acknowledge_none() {
    let mut b = Bench::new(with(|s| s.ack_policy = AckPolicy::None), 5);
    b.pull("{\"batch\":4}");
    assert_eq!(b.lines().len(), 4);
    assert!(!b.ack(2, 2, ""));
    assert!(b.lines().is_empty());
    assert_eq!(b.numbers(), [4, 4, 4, 4, 0, 0, 0, 1]);
}

#[test]
fn acknowledge_and_pull_next() {
    let mut b = Bench::new(pull_settings(), 5);
    b.pull("");
    b.ack(1, 1, "+NXT");
    b.ack(2, 2, "+NXT 2");
    b.ack(3, 3, "+NXT {\"batch\":1,\"no_wait\":true}");
    b.ack(4, 4, "+NXT {");
    let want = [
        "inbox .1.1.1.1000000.4",
        "ar .1.2.2.2000000.3",
        "ar .1.3.3.3000000.2",
        "ar .1.4.4.4000000.1",
        "ar .1.5.5.5000000.0",
        "ar 400 Bad Request - unexpected end of JSON input",
    ];
    assert_eq!(b.lines(), want);
    assert_eq!(b.numbers(), [5, 5, 4, 4, 1, 0, 0, 0]);
}

#[test]
fn redelivery_comes_first_in_the_order_it_was_asked() {
    let mut b = Bench::new(pull_settings(), 5);
    b.pull("{\"batch\":3}");
    b.ack(2, 2, "-NAK");
    b.ack(1, 1, "-NAK");
    b.ack(1, 1, "-NAK");
    b.lines();
    b.pull("{\"batch\":4,\"no_wait\":true}");
    let want = [
        "inbox .2.2.4.2000000.2",
        "inbox .2.1.5.1000000.2",
        "inbox .1.4.6.4000000.1",
        "inbox .1.5.7.5000000.0",
    ];
    assert_eq!(b.lines(), want);
    assert_eq!(b.numbers(), [7, 5, 0, 0, 5, 2, 0, 0]);
}

#[test]
fn waits_for_acknowledgement() {
    let mut b = Bench::new(with(|s| s.ack_wait = 100 * MS), 3);
    b.pull("{\"batch\":2}");
    b.pull("{\"batch\":20}");
    b.lines();
    b.until(50 * MS);
    b.ack(1, 1, "+WPI");
    b.ack(3, 3, "-NAK 20ms");
    b.until(149 * MS);
    assert_eq!(b.lines(), ["ar ack", "ar ack", "inbox .2.3.4.3000000.0", "inbox .2.2.5.2000000.0"]);
    b.until(150 * MS);
    assert_eq!(b.lines(), ["inbox .2.1.6.1000000.0"]);
    b.until(200 * MS);
    assert_eq!(b.lines(), ["inbox .3.3.7.3000000.0", "inbox .3.2.8.2000000.0"]);
}

#[test]
fn backoff_and_the_last_delivery() {
    let s = with(|s| {
        s.backoff = vec![10 * MS, 20 * MS];
        s.max_deliver = 3;
    });
    let mut b = Bench::new(s, 2);
    b.pull("{\"batch\":20}");
    b.ack(2, 2, "");
    b.lines();
    for (at, want) in [
        (9, vec![]),
        (10, vec!["inbox .2.1.3.1000000.0"]),
        (29, vec![]),
        (30, vec!["inbox .3.1.4.1000000.0"]),
        (49, vec![]),
        (50, vec!["max 1 3"]),
        (999, vec![]),
    ] {
        b.until(at * MS);
        assert_eq!(b.lines(), want, "{at}");
    }
    let mut purged = b.consumer.clone();
    purged.purged_below(2);
    assert_eq!(purged.info().redelivered, 0);
    // The floor waits for a later acknowledgement.
    assert_eq!(b.numbers(), [4, 2, 0, 0, 0, 1, 1, 0]);
    b.append(b"s.a");
    b.drive();
    b.ack(3, 5, "");
    assert_eq!(b.numbers(), [5, 3, 5, 3, 0, 1, 1, 0]);
}

#[test]
fn a_nak_of_the_last_delivery_drops_the_message_when_it_is_wanted() {
    let mut b = Bench::new(with(|s| s.max_deliver = 1), 2);
    b.pull("1");
    b.ack(1, 1, "-NAK");
    assert_eq!(b.numbers()[4], 1);
    b.lines();
    b.pull("1");
    assert_eq!(b.lines(), ["max 1 1", "inbox .1.2.2.2000000.0"]);
    assert_eq!(b.numbers()[4], 1);
}

#[test]
fn removals_and_purges() {
    let mut b = Bench::new(pull_settings(), 5);
    b.pull("{\"batch\":3}");
    b.remove(1);
    assert_eq!(b.numbers(), [3, 3, 1, 1, 2, 0, 0, 2]);
    b.remove(3);
    assert_eq!(b.numbers(), [3, 3, 1, 1, 1, 0, 0, 2]);
    b.remove(4);
    assert_eq!(b.numbers(), [3, 3, 1, 1, 1, 0, 0, 1]);
    b.purge_below(5);
    assert_eq!(b.numbers(), [3, 4, 3, 4, 0, 0, 0, 1]);
    b.purge_below(6);
    assert_eq!(b.numbers(), [3, 5, 3, 5, 0, 0, 0, 0]);
    b.append(b"s.a");
    assert_eq!(b.numbers(), [3, 5, 3, 5, 0, 0, 0, 1]);
}

#[test]
fn positions_with_a_filter() {
    let start = StartPosition { next_seq: 1, ..Default::default() };
    let mut b = Bench::bare(pull_settings(), &[b"s.b"], start);
    for s in ["s.a", "s.b", "s.a", "s.c", "s.b", "s.d"] {
        b.append(s.as_bytes());
    }
    b.pull("{\"batch\":3,\"no_wait\":true}");
    assert_eq!(
        b.lines(),
        ["inbox .1.2.1.2000000.1", "inbox .1.5.2.5000000.0", "inbox 404 No Messages"]
    );
    b.ack(1, 1, "");
    b.ack(2, 1, "");
    assert_eq!(b.numbers(), [2, 5, 1, 4, 1, 0, 0, 0]);
    b.ack(5, 2, "");
    assert_eq!(b.numbers(), [2, 5, 2, 5, 0, 0, 0, 0]);
    b.pull("{\"batch\":3,\"expires\":500000000,\"idle_heartbeat\":200000000}");
    b.lines();
    b.until(200 * MS);
    let want = ["inbox 100 Idle Heartbeat|Nats-Last-Consumer: 2|Nats-Last-Stream: 6"];
    assert_eq!(b.lines(), want);
}

#[test]
fn last_per_subject() {
    let start = StartPosition { next_seq: 7, last_seq: 6, start_set: [3, 4, 5, 6].into() };
    let mut b = Bench::bare(
        pull_settings(),
        &[b"s.>"],
        StartPosition { next_seq: 1, ..Default::default() },
    );
    for s in ["s.a", "s.b", "s.a", "s.c", "s.b", "s.d"] {
        b.append(s.as_bytes());
    }
    b.consumer = Consumer::new(pull_settings(), b.now, start, 1);
    b.groups.set(b.handle, 7, 0, 6);
    b.groups.watch(b.handle, b.consumer.watched());
    assert_eq!(b.numbers(), [0, 2, 0, 2, 0, 0, 0, 4]);
    b.pull("1");
    assert_eq!(b.lines(), ["inbox .1.3.1.3000000.3"]);
    b.remove(4);
    assert_eq!(b.numbers(), [1, 3, 0, 2, 1, 0, 0, 2]);
    b.append(b"s.a");
    assert_eq!(b.numbers()[7], 3);
    b.pull("9");
    let want = ["inbox .1.5.2.5000000.2", "inbox .1.6.3.6000000.1", "inbox .1.7.4.7000000.0"];
    assert_eq!(b.lines(), want);
}

#[test]
fn closing_a_consumer() {
    let mut b = Bench::new(pull_settings(), 0);
    b.pull_to("{\"batch\":3,\"max_bytes\":5}", "a");
    b.pull_to("", "b");
    b.pull_to("", "c");
    b.sink.gone.push(b"c".to_vec());
    b.consumer.drop_gone(&mut 9, &mut b.sink);
    assert_eq!(b.lines(), ["c 408 Interest Expired|M: 1|B: 0"]);
    let mut other = b.consumer.clone();
    b.consumer.shutdown(&mut b.sink);
    assert_eq!(b.lines(), ["a 409 Server Shutdown|M: 3|B: 5", "b 409 Server Shutdown|M: 1|B: 0"]);
    other.delete(&mut b.sink);
    assert_eq!(b.lines(), ["a 409 Consumer Deleted", "b 409 Consumer Deleted"]);
    assert_eq!(other.deadline(), None);
}

#[test]
fn a_request_whose_inbox_nobody_listens_on_gets_nothing() {
    let mut b = Bench::new(pull_settings(), 0);
    b.pull_to("5", "a");
    b.pull_to("1", "b");
    b.sink.gone.push(b"a".to_vec());
    b.append(b"s.a");
    b.drive();
    assert_eq!(b.lines(), ["a 408 Interest Expired|M: 5|B: 0", "b .1.1.1.1000000.0"]);
    assert_eq!(b.numbers()[6], 0);
}

#[test]
fn inactivity() {
    let s = with(|s| {
        s.inactive_threshold = 500 * MS;
        s.ack_wait = 1000 * MS;
    });
    let mut b = Bench::new(s, 1);
    b.until(499 * MS);
    b.pull("{\"batch\":1,\"no_wait\":true}");
    b.lines();
    // Not before the wait for the acknowledgement ends, and then the threshold.
    b.until(1998 * MS);
    assert!(b.lines().is_empty());
    b.pull("{\"batch\":2,\"expires\":2000000000}");
    b.lines();
    b.until(4497 * MS);
    assert_eq!(b.lines(), ["inbox .3.1.3.1000000.0"]);
    b.until(4498 * MS);
    assert_eq!(b.lines(), ["auto delete"]);
    // Until it is gone for good, whoever asks is told.
    b.pull("{\"batch\":1,\"expires\":1000000000}");
    assert_eq!(b.lines(), ["inbox 409 Consumer Deleted"]);
}

#[test]
fn whoever_acknowledges_is_active() {
    for payload in ["", "+TERM", "-NAK 60s", "+WPI", "nonsense"] {
        let s = with(|s| {
            s.inactive_threshold = 500 * MS;
            s.ack_wait = 100 * MS;
        });
        let mut b = Bench::new(s, 9);
        b.pull("{\"batch\":9}");
        for round in 1..=9u32 {
            b.until(i64::from(round) * 400 * MS);
            b.ack(u64::from(round), u64::from(round), payload);
        }
        b.until(3_700 * MS);
        assert!(!b.lines().contains(&"auto delete".to_owned()), "{payload}");
    }
}

/// Progress and a delayed refusal move the time until which somebody may be at work.
#[test]
fn work_in_progress_is_waited_for() {
    let s = with(|s| {
        s.inactive_threshold = 500 * MS;
        s.ack_wait = 1000 * MS;
    });
    for (payload, gone) in [("+WPI", 2_400), ("-NAK 3s", 4_400)] {
        let mut b = Bench::new(s.clone(), 1);
        b.pull("1");
        b.until(900 * MS);
        b.ack(1, 1, payload);
        b.lines();
        b.until((gone - 1) * MS);
        assert!(b.lines().is_empty(), "{payload}");
        b.until(gone * MS);
        assert_eq!(b.lines(), ["auto delete"], "{payload}");
    }
}

#[test]
fn requests_of_clients_that_went_away_are_not_counted() {
    let s = with(|s| {
        s.mode = Mode::Pull(PullSettings { max_waiting: 2, ..Default::default() });
        s.max_ack_pending = 1;
    });
    let mut b = Bench::new(s, 3);
    b.pull_to("1", "a");
    b.lines();
    b.pull_to("2", "b");
    b.pull_to("9", "c");
    b.pull_to("1", "d");
    assert_eq!(b.lines(), ["d 409 Exceeded MaxWaiting"]);
    // They leave room in the queue.
    b.sink.gone.push(b"b".to_vec());
    b.pull_to("1", "d");
    assert_eq!(b.lines(), ["b 408 Interest Expired|M: 2|B: 0"]);
    // Neither do they speak for messages.
    b.pull_to("{\"no_wait\":true}", "e");
    assert_eq!(b.lines(), ["e 408 Requests Pending"]);
    b.sink.gone.push(b"c".to_vec());
    b.pull_to("{\"no_wait\":true}", "e");
    assert_eq!(b.lines(), ["c 408 Interest Expired|M: 9|B: 0"]);
    assert_eq!(b.numbers()[6], 2);
}

#[test]
fn nothing_was_delivered_twice_with_one_delivery() {
    let s = with(|s| {
        s.max_deliver = 1;
        s.ack_wait = 10 * MS;
    });
    let mut b = Bench::new(s, 3);
    b.pull("{\"batch\":3}");
    b.until(20 * MS);
    assert_eq!(b.numbers()[4..6], [0, 0]);
}

#[test]
fn original_pace() {
    let mut b = Bench::new(with(|s| s.replay = ReplayPolicy::Original), 0);
    b.consumer = Consumer::new(
        b.consumer.settings().clone(),
        b.now,
        StartPosition { next_seq: 1, last_seq: 3, start_set: Default::default() },
        1,
    );
    for (i, at) in [1, 300, 300, 900].into_iter().enumerate() {
        let seq = b.append(b"s.a");
        assert_eq!(seq, i as u64 + 1);
        if let Some(m) = b.messages.get_mut(&seq) {
            m.stored.0 = at * MS;
        }
    }
    b.pull("9");
    let mut seen = Vec::new();
    for at in [0, 298, 299, 300, 898, 899, 2000] {
        b.until(at * MS);
        seen.push(b.lines().len());
    }
    // The fourth was stored after the consumer was made, so it does not wait.
    assert_eq!(seen, [1, 0, 3, 0, 0, 0, 0]);
}
