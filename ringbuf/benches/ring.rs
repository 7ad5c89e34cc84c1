//! What a ring costs: nanoseconds per item, alone and in batches, on one core and across two.
//! `cargo bench -p corelane-ringbuf`.
//!
//! Across two cores the threads are pinned to the first and the last core that the process may
//! use.
#![allow(missing_docs)]

use std::{
    collections::VecDeque,
    hint::{black_box, spin_loop},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use corelane_ringbuf::{Doorbell, channel};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const CAPACITY: usize = 1024;

/// The first and the last core that the process could use when it started (a pinned thread hands
/// its one core on to the threads it starts).
fn cores() -> Option<(usize, usize)> {
    static CORES: OnceLock<Option<(usize, usize)>> = OnceLock::new();
    *CORES.get_or_init(|| {
        // SAFETY: a zeroed set is an empty set; the call fills at most the size given.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
                return None;
            }
            let mut cores =
                (0..libc::CPU_SETSIZE as usize).filter(|&core| libc::CPU_ISSET(core, &set));
            let first = cores.next()?;
            Some((first, cores.next_back().unwrap_or(first)))
        }
    })
}

/// Pins the calling thread to the first or the last core.
fn pin(last: bool) {
    let Some((first, final_one)) = cores() else { return };
    // SAFETY: a zeroed set is an empty set, and the core came out of such a set.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(if last { final_one } else { first }, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

fn one_core(c: &mut Criterion) {
    let mut group = c.benchmark_group("one core");
    group.throughput(Throughput::Elements(1));
    group.bench_function("push and pop", |b| {
        let (mut producer, mut consumer) = channel::<usize>(CAPACITY);
        b.iter(|| {
            let _ = producer.push(black_box(1));
            black_box(consumer.pop())
        });
    });
    group.bench_function("must_wake of one who is awake", |b| {
        let doorbell = Doorbell::new();
        b.iter(|| black_box(doorbell.must_wake()));
    });
    for batch in [16_usize, 256] {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("push_all and drain", batch), |b| {
            let (mut producer, mut consumer) = channel::<usize>(CAPACITY);
            let mut items = VecDeque::with_capacity(batch);
            b.iter(|| {
                items.extend(0..batch);
                producer.push_all(&mut items);
                consumer.drain(batch, |item| {
                    black_box(item);
                })
            });
        });
    }
    group.finish();
}

/// Moves `total` items across two cores in batches of at most `batch`, and returns how long.
fn across(total: u64, batch: usize) -> Duration {
    let _ = cores();
    let (mut producer, mut consumer) = channel::<u64>(CAPACITY);
    let receiver = thread::spawn(move || {
        pin(true);
        let mut taken = 0;
        while taken < total {
            let count = if batch == 1 {
                u64::from(consumer.pop().map(black_box).is_some())
            } else {
                consumer.drain(batch, |item| {
                    black_box(item);
                }) as u64
            };
            if count == 0 {
                spin_loop();
            }
            taken += count;
        }
    });
    pin(false);
    let start = Instant::now();
    let mut sent = 0;
    while sent < total {
        let count = if batch == 1 {
            u64::from(producer.push(sent).is_ok())
        } else {
            let upto = total.min(sent + batch as u64);
            producer.push_from(&mut (sent..upto)) as u64
        };
        if count == 0 {
            spin_loop();
        }
        sent += count;
    }
    receiver.join().expect("the receiver ends");
    start.elapsed()
}

/// Sends one item there and back `rounds` times, without sleeping.
fn round_trips(rounds: u64) -> Duration {
    let _ = cores();
    let (mut there, mut far) = channel::<u64>(CAPACITY);
    let (mut back, mut near) = channel::<u64>(CAPACITY);
    let echo = thread::spawn(move || {
        pin(true);
        for _ in 0..rounds {
            let item = loop {
                match far.pop() {
                    Some(item) => break item,
                    None => spin_loop(),
                }
            };
            let _ = back.push(item);
        }
    });
    pin(false);
    let start = Instant::now();
    for round in 0..rounds {
        let _ = there.push(round);
        while near.pop().is_none() {
            spin_loop();
        }
    }
    let took = start.elapsed();
    echo.join().expect("the echo ends");
    took
}

fn two_cores(c: &mut Criterion) {
    let mut group = c.benchmark_group("two cores");
    group.throughput(Throughput::Elements(1));
    for batch in [1, 16, 256] {
        group.bench_function(BenchmarkId::new("stream, batch", batch), |b| {
            b.iter_custom(|iterations| {
                let total = iterations.max(10_000);
                let took = across(total, batch);
                took.mul_f64(iterations as f64 / total as f64)
            });
        });
    }
    group.bench_function("round trip", |b| b.iter_custom(|rounds| round_trips(rounds.max(1))));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(900))
        .sample_size(20);
    targets = one_core, two_cores
}
criterion_main!(benches);
