use super::drive::*;
use crate::consumer::*;
use crate::types::Timestamp;

fn with(change: impl FnOnce(&mut PushSettings)) -> ConsumerSettings {
    let mut settings = push_settings();
    if let Mode::Push(push) = &mut settings.mode {
        change(push);
    }
    settings
}

fn active(settings: ConsumerSettings, count: u64) -> Bench {
    let mut b = Bench::new(settings, count);
    b.consumer.interest(b.now, true);
    b.drive();
    b
}

#[test]
fn delivers_while_there_is_interest() {
    let mut b = Bench::new(push_settings(), 2);
    b.drive();
    assert!(b.lines().is_empty());
    b.consumer.interest(b.now, true);
    b.drive();
    assert_eq!(b.lines(), ["dlv .1.1.1.1000000.1", "dlv .1.2.2.2000000.0"]);
    assert!(b.consumer.info().push_bound);
    b.consumer.interest(b.now, false);
    b.append(b"s.a");
    b.drive();
    assert!(b.lines().is_empty());
    b.consumer.interest(b.now, true);
    b.drive();
    assert_eq!(b.lines(), ["dlv .1.3.3.3000000.0"]);
    b.pull("1");
    assert_eq!(b.lines(), ["inbox 409 Consumer is push based"]);
}

#[test]
fn heartbeats_when_idle() {
    let mut b = active(with(|p| p.idle_heartbeat = 100 * MS), 0);
    b.until(50 * MS);
    b.append(b"s.a");
    b.drive();
    b.until(149 * MS);
    assert_eq!(b.lines(), ["dlv .1.1.1.1000000.0"]);
    b.until(250 * MS);
    let want = "dlv 100 Idle Heartbeat|Nats-Last-Consumer: 1|Nats-Last-Stream: 1";
    assert_eq!(b.lines(), [want, want]);
    b.consumer.interest(b.now, false);
    b.until(1000 * MS);
    assert!(b.lines().is_empty());
}

#[test]
fn flow_control() {
    let s = with(|p| {
        p.flow_control = true;
        p.idle_heartbeat = 100 * MS;
    });
    let mut b = Bench::new(ConsumerSettings { ack_policy: AckPolicy::None, ..s }, 0);
    // The window starts at 2 MiB: a request after more than 1 MiB, a stall after more than 2.
    for _ in 0..40 {
        b.append_sized(b"s.a", 100 << 10);
    }
    b.consumer.interest(b.now, true);
    b.drive();
    let lines = b.lines();
    let request = lines.iter().position(|l| l.contains("FlowControl")).expect("a request");
    assert_eq!(request, 11);
    let (text, subject) = lines[request].split_once(" ^").expect("a reply");
    assert_eq!(text, "dlv 100 FlowControl Request");
    let token = subject.strip_prefix("$JS.FC.S.C.").expect("a flow-control subject");
    assert!(token.len() == 4 && token.bytes().all(|b| b.is_ascii_alphanumeric()));
    assert_eq!(lines.len(), 21 + 1);
    b.until(100 * MS);
    let stalled = format!(
        "dlv 100 Idle Heartbeat|Nats-Last-Consumer: 21|Nats-Last-Stream: 21|\
         Nats-Consumer-Stalled: {subject}"
    );
    assert_eq!(b.lines(), [stalled]);
    assert!(!b.consumer.flow_response(b"$JS.FC.S.C.nope"));
    assert!(b.consumer.flow_response(subject.as_bytes()));
    assert!(!b.consumer.flow_response(subject.as_bytes()));
    b.drive();
    // 19 messages are left, 10 of the first 21 still under way; the window is 4 MiB.
    let lines = b.lines();
    assert_eq!(lines.iter().filter(|l| l.contains("FlowControl")).count(), 1);
    assert_eq!(lines.len(), 20);
}

#[test]
fn rate_limit() {
    // 8,000 bits a second: a byte each millisecond. The bucket holds 120; a delivery is 35 bytes.
    let s = with(|p| p.rate_limit_bps = 8_000);
    let mut b = Bench::new(s, 6);
    b.until(1000 * MS);
    b.consumer.interest(b.now, true);
    b.drive();
    assert_eq!(b.lines().len(), 3);
    assert_eq!(b.consumer.deadline(), Some(Timestamp(1020 * MS)));
    b.until(1019 * MS);
    assert!(b.lines().is_empty());
    b.until(1020 * MS);
    assert_eq!(b.lines().len(), 1);
    b.until(1100 * MS);
    assert_eq!(b.lines().len(), 2);
    b.append_sized(b"s.a", 5000);
    b.drive();
    b.until(1209 * MS);
    assert!(b.lines().is_empty());
    // Larger than the bucket: when it is full.
    b.until(1210 * MS);
    assert_eq!(b.lines().len(), 1);
    // It is full after five seconds more. Once the stream takes larger messages, it holds more.
    b.consumer.set_rate_burst(240);
    b.append(b"s.a");
    b.drive();
    b.until(6_000 * MS);
    assert!(b.lines().is_empty());
    b.until(6_100 * MS);
    assert_eq!(b.lines().len(), 1);
}

#[test]
fn a_wait_without_a_taker_does_not_keep_the_clock_busy() {
    let s = with(|p| p.rate_limit_bps = 8_000);
    let mut b = active(s, 5);
    assert!(b.consumer.deadline().is_some_and(|at| at > b.now));
    b.consumer.interest(b.now, false);
    b.until(100 * MS);
    assert!(b.consumer.deadline().is_some_and(|at| at > b.now));
}

#[test]
fn headers_only_is_said_and_counted() {
    let mut b = active(ConsumerSettings { headers_only: true, ..push_settings() }, 0);
    b.append_sized(b"s.a", 100);
    let mut seen = false;
    struct Look<'a>(&'a mut bool);
    impl Sink for Look<'_> {
        fn message(&mut self, d: &Dispatch<'_>) {
            *self.0 = d.headers_only && d.origin.is_none() && d.to == b"dlv";
        }
        fn status(&mut self, _: &[u8], _: Option<Origin>, _: &[u8], _: &[u8]) {}
        fn ack_reply(&mut self, _: &[u8], _: Origin) {}
        fn auto_delete(&mut self) {}
    }
    let meta = Meta { subject_bytes: 3, payload_bytes: 100, ..Default::default() };
    b.consumer.arrived();
    assert_eq!(b.consumer.wants(b.now, &mut b.sink), Want::Next { from: 1 });
    b.consumer.deliver(b.now, 1, &meta, &mut Look(&mut seen));
    assert!(seen);
}

#[test]
fn inactive_without_interest() {
    let s = ConsumerSettings { inactive_threshold: 500 * MS, ..push_settings() };
    let mut b = active(s, 0);
    b.until(2000 * MS);
    b.consumer.interest(b.now, false);
    b.until(2400 * MS);
    b.consumer.interest(b.now, true);
    b.until(2600 * MS);
    b.consumer.interest(b.now, false);
    b.until(3099 * MS);
    assert!(b.lines().is_empty());
    b.until(3100 * MS);
    assert_eq!(b.lines(), ["auto delete"]);
}

#[test]
fn another_deliver_subject_gets_everything_again() {
    let mut b = active(push_settings(), 3);
    b.ack(2, 2, "");
    b.lines();
    let s = with(|p| p.deliver_subject = b"new".to_vec());
    b.consumer.update(b.now, s);
    b.drive();
    assert!(b.lines().is_empty());
    b.consumer.interest(b.now, true);
    b.drive();
    assert_eq!(b.lines(), ["new .2.1.4.1000000.0", "new .2.3.5.3000000.0"]);
}

#[test]
fn another_wait_moves_the_timers() {
    let mut b = active(push_settings(), 1);
    b.lines();
    b.consumer.update(b.now, ConsumerSettings { ack_wait: 100 * MS, ..push_settings() });
    b.until(99 * MS);
    assert!(b.lines().is_empty());
    b.until(100 * MS);
    assert_eq!(b.lines(), ["dlv .2.1.2.1000000.0"]);
}
