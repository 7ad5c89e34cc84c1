use super::drive::*;
use crate::consumer::*;

fn busy() -> Bench {
    let mut b = Bench::new(ConsumerSettings { max_deliver: 2, ..pull_settings() }, 10);
    b.pull("{\"batch\":5}");
    b.ack(2, 2, "");
    b.ack(3, 3, "");
    b.ack(1, 1, "-NAK");
    b.pull("1");
    b.ack(1, 6, "-NAK");
    b.pull("1");
    b
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |i| u8::from_str_radix(&text[i..i + 2], 16).expect("two digits");
    (0..text.len()).step_by(2).map(digits).collect()
}

/// The bytes of format version 1; they may not change.
#[test]
fn golden_deltas() {
    let b = busy();
    let got: Vec<_> = b.log.iter().map(|d| hex(d)).collect();
    let want = GOLDEN_DELTAS.map(str::to_owned).to_vec();
    assert_eq!(got, want);
    let mut c = Consumer::restore(b.consumer.settings().clone(), b.now, None, 1).expect("blank");
    for delta in &b.log {
        c.apply_delta(delta).expect("a delta");
    }
    assert!(c.same_state(&b.consumer));
}

#[test]
fn golden_snapshot() {
    let b = busy();
    let mut out = Vec::new();
    b.consumer.encode_snapshot(&mut out);
    assert_eq!(hex(&out), GOLDEN_SNAPSHOT);
    for bytes in [out, unhex(GOLDEN_SNAPSHOT_1)] {
        let c = Consumer::restore(b.consumer.settings().clone(), b.now, Some(&bytes), 1);
        assert!(c.expect("a snapshot").same_state(&b.consumer));
    }
}

const GOLDEN_DELTAS: [&str; 8] = [
    // Start: next sequence 1, last 0, no start set.
    "010c010000",
    // Delivered 1..=5, due at 30 s.
    "0101020580b09dc2df01",
    // Acknowledged 2, then 3.
    "01020401",
    "01020601",
    // Due at once, delivered again, due at once.
    "01050200",
    "01040280b09dc2df01",
    "01050200",
    // Dropped 1, delivered 6.
    "010602010a0180b09dc2df01",
];
const GOLDEN_SNAPSHOT: &str =
    "43020708060000000007000003080880b09dc2df010102020001020400010102020000";
/// The same state as version 1 wrote it, before jumps were part of it.
const GOLDEN_SNAPSHOT_1: &str =
    "4301070806000000000703080880b09dc2df010102020001020400010102020000";

#[test]
fn a_start_set_survives() {
    let start = StartPosition { next_seq: 100, last_seq: 99, start_set: [3, 7, 50, 99].into() };
    let mut c = Consumer::new(pull_settings(), crate::types::Timestamp(5), start, 1);
    let mut delta = Vec::new();
    c.take_delta(&mut delta).expect("a start");
    c.removed(crate::types::Timestamp(5), 50);
    let removal = c.take_delta(&mut Vec::new()).expect("a removal");
    c.delta_durable(removal);
    let mut replayed =
        Consumer::restore(pull_settings(), crate::types::Timestamp(5), None, 1).unwrap();
    replayed.apply_delta(&delta).unwrap();
    assert!(!replayed.same_state(&c));
    replayed.removed(crate::types::Timestamp(5), 50);
    assert!(replayed.same_state(&c));
    let mut snapshot = Vec::new();
    c.encode_snapshot(&mut snapshot);
    let restored =
        Consumer::restore(pull_settings(), crate::types::Timestamp(5), Some(&snapshot), 1).unwrap();
    assert!(restored.same_state(&c));
    assert_eq!(restored.pending(), 3);
}

/// Cut short or with a bit turned, bytes are refused or read as something else, and nothing panics.
#[test]
fn damaged_bytes_do_not_panic() {
    let b = busy();
    let mut snapshot = Vec::new();
    b.consumer.encode_snapshot(&mut snapshot);
    let settings = b.consumer.settings().clone();
    let blank = || Consumer::restore(settings.clone(), b.now, None, 1).expect("blank");
    for cut in 0..snapshot.len() {
        assert!(Consumer::restore(settings.clone(), b.now, Some(&snapshot[..cut]), 1).is_err());
    }
    for i in 0..snapshot.len() * 8 {
        let mut bytes = snapshot.clone();
        bytes[i / 8] ^= 1 << (i % 8);
        let _ = Consumer::restore(settings.clone(), b.now, Some(&bytes), 1);
    }
    for (n, delta) in b.log.iter().enumerate() {
        for i in 0..delta.len() * 8 {
            let mut c = blank();
            for before in &b.log[..n] {
                c.apply_delta(before).expect("a delta");
            }
            let mut bytes = delta.clone();
            bytes[i / 8] ^= 1 << (i % 8);
            let _ = c.apply_delta(&bytes);
        }
    }
}
