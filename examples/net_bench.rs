//! Nanoseconds per operation of the core protocol, without sockets: `cargo run --release
//! --example net_bench`.

use corelane::client::{Limits, ServerInfo};
use corelane::turn::{Net, NetConfig, NoJetStream, Settings};
use corelane::types::{ConnId, ReactorId, Timestamp};
use std::sync::Arc;
use std::time::Instant;

const NOW: Timestamp = Timestamp(1);
const BATCH: usize = 500;
const ROUNDS: usize = 2000;
const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n";

fn net(reactor: u16, reactors: u16) -> Net {
    let settings = Arc::new(Settings::new(Limits::default(), ServerInfo::default()));
    Net::new(NetConfig::new(ReactorId(reactor), reactors, reactors, settings))
}

fn client(net: &mut Net, id: u64, then: &str) -> ConnId {
    let conn = ConnId(id);
    net.accept(NOW, conn, "127.0.0.1:1", false);
    net.received(NOW, conn, CONNECT, &mut NoJetStream);
    net.received(NOW, conn, then.as_bytes(), &mut NoJetStream);
    conn
}

/// Takes what is to be sent, as a reactor would.
fn flush(net: &mut Net, touched: &mut Vec<ConnId>) {
    net.begin_turn();
    net.take_touched(touched);
    while let Some(conn) = touched.pop() {
        if let Some(out) = net.start_send(NOW, conn) {
            let size = out.len();
            net.sent(NOW, conn, size);
        }
    }
}

/// Prints the median and the best round: the machine may be busy with other things.
fn report(name: &str, operations: usize, mut round: impl FnMut()) {
    let mut times: Vec<u128> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            round();
            started.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    let [median, best] =
        [times[ROUNDS / 2], times[ROUNDS / 100]].map(|ns| ns as f64 / operations as f64);
    println!("{name:<48} median {median:>6.1} ns, best {best:>6.1} ns");
}

fn publishes(subject: impl Fn(usize) -> String, payload: usize) -> Vec<u8> {
    let body = "x".repeat(payload);
    (0..BATCH)
        .map(|i| format!("PUB {} {payload}\r\n{body}\r\n", subject(i)))
        .collect::<String>()
        .into()
}

fn local(name: &str, subscriptions: usize, filter: &str, input: &[u8]) {
    let mut net = net(0, 1);
    let publisher = client(&mut net, 1, "");
    for id in 0..subscriptions {
        client(&mut net, 10 + id as u64, &format!("SUB {filter} 1\r\n"));
    }
    let mut touched = Vec::new();
    report(name, BATCH * subscriptions.max(1), || {
        net.received(NOW, publisher, input, &mut NoJetStream);
        flush(&mut net, &mut touched);
    });
    let delivered = net.stats().out_msgs as usize;
    assert_eq!(delivered, BATCH * ROUNDS * subscriptions);
}

fn remote() {
    let (mut a, mut b) = (net(0, 2), net(1, 2));
    let publisher = client(&mut a, 1, "");
    client(&mut b, 2, "SUB foo.bar 1\r\n");
    a.control(NOW, ReactorId(1), b.take_control(ReactorId(0)));
    let input = publishes(|_| "foo.bar".into(), 128);
    let mut touched = Vec::new();
    report("publish, hop, deliver 128 B (both cores)", BATCH, || {
        a.begin_turn();
        a.received(NOW, publisher, &input, &mut NoJetStream);
        let mut batch = a.take_messages(ReactorId(1));
        b.messages(NOW, ReactorId(0), &batch, &mut NoJetStream);
        batch.clear();
        a.keep_batch(batch);
        flush(&mut b, &mut touched);
    });
}

fn main() {
    let same = publishes(|_| "foo.bar".into(), 128);
    local("parse and route 128 B, nobody", 0, "", &same);
    local("publish and deliver 128 B, 1 to 1", 1, "foo.bar", &same);
    local("publish and deliver 128 B, 1 to 4, a delivery", 4, "foo.bar", &same);
    local("publish and deliver 128 B, 1 to 64, a delivery", 64, "foo.bar", &same);
    let inboxes = publishes(|i| format!("_INBOX.abcdefghijklmnopqrstuv.{i}"), 16);
    local("publish to inboxes 16 B, 1 to 1", 1, "_INBOX.abcdefghijklmnopqrstuv.*", &inboxes);
    let many = publishes(|i| format!("orders.{}.{i}.x", i % 7), 128);
    local("publish 128 B to 500 subjects, 1 to 1", 1, "orders.*.*.x", &many);
    remote();
}
