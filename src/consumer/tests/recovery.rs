use super::drive::*;
use crate::consumer::*;

/// Rebuilds the consumer from its durable deltas, as after a crash or a clean stop.
fn restart(b: &mut Bench, durable: usize, clean: bool) {
    let settings = b.consumer.settings().clone();
    b.log.truncate(durable);
    let mut c = Consumer::restore(settings, b.now, None, 1).expect("a blank one");
    for delta in &b.log {
        c.apply_delta(delta).expect("a delta");
    }
    let last = b.last_seq;
    c.recovered(b.now, last, clean);
    b.consumer = c;
    let position = b.consumer.progress().position;
    let pending = b.messages.range(position..).filter(|(_, m)| b.matches(&m.subject)).count();
    b.groups.set(b.handle, position, pending as u64, last);
    b.groups.watch(b.handle, b.consumer.watched());
    b.sink.take();
}

#[test]
fn a_clean_stop_loses_nothing() {
    let mut b = Bench::new(pull_settings(), 10);
    b.pull("{\"batch\":5}");
    b.ack(2, 2, "");
    b.ack(3, 3, "+TERM");
    b.ack(1, 1, "-NAK 50ms");
    let (before, numbers) = (b.consumer.clone(), b.numbers());
    let durable = b.log.len();
    restart(&mut b, durable, true);
    assert!(b.consumer.same_state(&before));
    assert_eq!(b.numbers(), numbers);
    b.lines();
    b.pull("2");
    b.until(60 * MS);
    let want = ["inbox .1.6.6.6000000.4", "inbox .1.7.7.7000000.3"];
    assert_eq!(b.lines(), want);
    b.pull("1");
    assert_eq!(b.lines(), ["inbox .2.1.8.1000000.3"]);
}

#[test]
fn a_crash_reuses_no_consumer_sequence_and_takes_late_acknowledgements() {
    let mut b = Bench::new(pull_settings(), 10);
    b.pull("{\"batch\":2}");
    let durable = b.log.len();
    // These three are delivered, and the crash comes before their record is durable.
    b.pull("{\"batch\":3}");
    assert_eq!(b.lines().last().map(String::as_str), Some("inbox .1.5.5.5000000.5"));
    restart(&mut b, durable, false);
    assert_eq!(b.numbers()[7], 8);
    b.ack(4, 4, "");
    assert_eq!(b.lines(), ["ar ack"]);
    // Never delivered by anyone: the consumer sequence lies outside of what an earlier life can
    // have used.
    b.ack(9, 2 + SEQ_AHEAD_MAX + 1, "");
    b.ack(11, 4, "");
    assert!(b.lines().is_empty());
    b.pull("{\"batch\":9,\"no_wait\":true}");
    let seqs: Vec<_> = b.lines().iter().map(|l| l.split('.').nth(2).map(str::to_owned)).collect();
    let want: Vec<_> = ["3", "5", "6", "7", "8", "9", "10"].map(|s| Some(s.to_owned())).to_vec();
    assert_eq!(seqs[..7], want[..]);
    // What it says of itself is what it knows to be delivered.
    let first_new = 2 + SEQ_AHEAD_MAX + 1;
    assert_eq!(b.numbers()[0], first_new + 6);
    // The answered acknowledgement survives the next crash too.
    let durable = b.log.len();
    restart(&mut b, durable, false);
    assert!(b.consumer.view.unacked.get(4).is_none());
    assert_eq!(b.numbers()[4], 9);
}

/// Clients compare what heartbeats say with the last consumer sequence that they got.
#[test]
fn nothing_says_that_the_jump_was_delivered() {
    let push = PushSettings {
        deliver_subject: b"dlv".to_vec(),
        idle_heartbeat: SECOND,
        ..Default::default()
    };
    let mut b = Bench::new(ConsumerSettings { mode: Mode::Push(push), ..push_settings() }, 3);
    b.consumer.interest(b.now, true);
    b.drive();
    (1..=3).for_each(|seq| assert!(b.ack(seq, seq, "")));
    // Two crashes in a row, and a stop in between.
    for (life, clean) in [false, false, true].into_iter().enumerate() {
        let durable = b.log.len();
        restart(&mut b, durable, clean);
        b.flush();
        assert_eq!(b.numbers()[..4], [3, 3, 3, 3], "{life}");
        let mut snapshot = Vec::new();
        b.consumer.encode_snapshot(&mut snapshot);
        let settings = b.consumer.settings().clone();
        let copy = Consumer::restore(settings, b.now, Some(&snapshot), 1).expect("a snapshot");
        assert!(copy.same_state(&b.consumer));
        b.consumer.interest(b.now, true);
        b.until(b.now.0 + SECOND);
        let want = "dlv 100 Idle Heartbeat|Nats-Last-Consumer: 3|Nats-Last-Stream: 3";
        assert_eq!(b.lines(), [want], "{life}");
    }
    // The next delivery has a sequence that was not used, and so has what is said from then on.
    b.append(b"s.a");
    b.drive();
    let cseq = 3 + 2 * SEQ_AHEAD_MAX + 1;
    assert_eq!(b.lines(), [format!("dlv .1.4.{cseq}.4000000.0")]);
    assert_eq!(b.numbers()[..4], [cseq, 4, 3, 3]);
    b.until(b.now.0 + SECOND);
    let want = format!("dlv 100 Idle Heartbeat|Nats-Last-Consumer: {cseq}|Nats-Last-Stream: 4");
    assert_eq!(b.lines(), [want]);
    b.ack(4, cseq, "");
    assert_eq!(b.numbers()[..4], [cseq, 4, cseq, 4]);
}

#[test]
fn a_message_in_work_keeps_the_consumer_after_a_restart() {
    let s = ConsumerSettings { inactive_threshold: 100 * MS, ..pull_settings() };
    let mut b = Bench::new(s, 1);
    b.pull("1");
    let durable = b.log.len();
    restart(&mut b, durable, true);
    b.until(30 * SECOND + 99 * MS);
    assert!(b.lines().is_empty());
    b.until(30 * SECOND + 100 * MS);
    assert_eq!(b.lines(), ["auto delete"]);
}

#[test]
fn an_acknowledgement_ahead_survives_a_second_crash() {
    let mut b = Bench::new(pull_settings(), 5);
    let durable = b.log.len();
    b.pull("{\"batch\":3}");
    restart(&mut b, durable, false);
    b.ack(2, 2, "");
    b.flush();
    let durable = b.log.len();
    restart(&mut b, durable, false);
    b.pull("{\"batch\":2}");
    let seqs: Vec<_> = b.lines().iter().map(|l| l.split('.').nth(2).map(str::to_owned)).collect();
    assert_eq!(seqs, [Some("1".to_owned()), Some("3".to_owned())]);
}

#[test]
fn acknowledge_all_ahead() {
    let s = ConsumerSettings { ack_policy: AckPolicy::All, ..pull_settings() };
    let mut b = Bench::new(s, 6);
    let durable = b.log.len();
    b.pull("{\"batch\":4}");
    restart(&mut b, durable, false);
    b.ack(3, 3, "");
    assert_eq!(b.lines(), ["ar ack"]);
    b.pull("{\"batch\":1}");
    let cseq = SEQ_AHEAD_MAX + 1;
    assert_eq!(b.lines(), [format!("inbox .1.4.{cseq}.4000000.2")]);
}

#[test]
fn the_jump_is_durable_before_the_next_delivery() {
    let mut b = Bench::new(pull_settings(), 3);
    restart(&mut b, 1, false);
    b.counted();
    b.consumer.pull(b.now, b"2", b"inbox", ORIGIN, &mut b.sink);
    b.drive_without_flush();
    assert!(b.lines().is_empty());
    b.flush();
    b.drive_without_flush();
    assert_eq!(b.lines().len(), 2);
}

#[test]
fn deliveries_do_not_run_too_far_ahead() {
    let s = ConsumerSettings { max_ack_pending: 0, ack_policy: AckPolicy::None, ..push_settings() };
    let mut b = Bench::new(s, SEQ_AHEAD_MAX + 100);
    b.consumer.interest(b.now, true);
    b.drive_without_flush();
    assert_eq!(b.lines().len() as u64, SEQ_AHEAD_MAX);
    b.drive();
    assert_eq!(b.lines().len(), 100);
}

#[test]
fn a_volatile_consumer_records_nothing_and_is_not_held() {
    let s = ConsumerSettings { volatile: true, ack_policy: AckPolicy::None, ..push_settings() };
    let start = StartPosition { next_seq: 1, ..Default::default() };
    let mut c = Consumer::new(s, crate::types::Timestamp(0), start, 1);
    let mut sink = Recorder::default();
    c.interest(crate::types::Timestamp(0), true);
    for seq in 1..=2 * SEQ_AHEAD_MAX {
        let now = crate::types::Timestamp(0);
        assert_eq!(c.wants(now, &mut sink), Want::Next { from: seq });
        assert_eq!(c.deliver(now, seq, &Meta::default(), &mut sink), Outcome::Sent);
    }
    assert!(!c.is_dirty());
    assert!(c.take_delta(&mut Vec::new()).is_none());
}
