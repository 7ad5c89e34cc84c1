//! Models of the crate's ordering argument, run by
//! `RUSTFLAGS="--cfg loom" cargo test -p corelane-ringbuf --release --test loom`.
//!
//! These weakenings of the code were tried, and loom failed the tests named with each:
//! - `tail` stored with Relaxed instead of Release: `items_arrive_in_order`.
//! - `head` stored with Relaxed instead of Release: `items_arrive_in_order`.
//! - no fence in `Doorbell::must_wake`: `no_wake_up_is_lost`.
//! - no fence in `Doorbell::announce_sleep`: `no_wake_up_is_lost`.
//! - a plain load and store instead of compare-exchange in `must_wake`: `one_ring_per_sleep`.
//! - `tail` loaded with Relaxed in `note`: both `control_stays_ahead_…` tests.
//! - `try_sleep` that does not look at the room of starved lanes: `a_full_lane_is_freed`.
//! - no fence in `Consumer::take_starved`: `a_full_lane_is_freed`.
//! - a batch whose slots are freed before they are read: `batches_arrive_whole_and_in_order`.
#![cfg(loom)]

use std::collections::VecDeque;

use corelane_ringbuf::{Doorbell, LaneCapacity, channel, mesh};
use loom::{
    sync::{
        Arc, Notify,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A bounded model: three preemptions find every bug listed above and keep the runs short.
fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

#[test]
fn items_arrive_in_order() {
    model(|| {
        let (mut producer, mut consumer) = channel::<Box<u32>>(2);
        let sender = thread::spawn(move || {
            for number in 0..4 {
                let mut item = Box::new(number);
                while let Err(back) = producer.push(item) {
                    item = back;
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < 4 {
            match consumer.pop() {
                Some(item) => {
                    assert_eq!(*item, expected);
                    expected += 1;
                }
                None => thread::yield_now(),
            }
        }
        sender.join().unwrap();
        assert!(consumer.pop().is_none());
    });
}

#[test]
fn batches_arrive_whole_and_in_order() {
    model(|| {
        let (mut producer, mut consumer) = channel::<Box<u32>>(2);
        let sender = thread::spawn(move || {
            let mut items: VecDeque<_> = (0..3).map(Box::new).collect();
            while !items.is_empty() {
                if producer.push_all(&mut items) == 0 {
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < 3 {
            let taken = consumer.drain(8, |item| {
                assert_eq!(*item, expected);
                expected += 1;
            });
            if taken == 0 {
                thread::yield_now();
            }
        }
        sender.join().unwrap();
    });
}

#[test]
fn leftovers_are_dropped_once() {
    model(|| {
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = channel(2);
        let counter = Arc::clone(&drops);
        let sender = thread::spawn(move || {
            for _ in 0..2 {
                assert!(producer.push(Counted(Arc::clone(&counter))).is_ok());
            }
        });
        let taken = consumer.pop();
        drop(consumer);
        drop(taken);
        sender.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 2);
    });
}

/// The consumer sleeps on a `Notify`; a lost wake-up would be a deadlock, which loom reports.
#[test]
fn no_wake_up_is_lost() {
    model(|| {
        let (mut producer, mut consumer) = channel::<u32>(4);
        let doorbell = Arc::new(Doorbell::new());
        let kernel = Arc::new(Notify::new());
        let (bell, waker) = (Arc::clone(&doorbell), Arc::clone(&kernel));
        let sender = thread::spawn(move || {
            for number in 0..2 {
                producer.push(number).unwrap();
                if bell.must_wake() {
                    waker.notify();
                }
            }
        });
        let mut taken = 0;
        while taken < 2 {
            taken += consumer.drain(8, |_| {});
            if taken == 2 {
                break;
            }
            doorbell.announce_sleep();
            if consumer.available() == 0 {
                kernel.wait();
            }
            doorbell.wake_up();
        }
        sender.join().unwrap();
    });
}

#[test]
fn one_ring_per_sleep() {
    model(|| {
        let doorbell = Arc::new(Doorbell::new());
        doorbell.announce_sleep();
        let ringers: Vec<_> = (0..2)
            .map(|_| {
                let bell = Arc::clone(&doorbell);
                thread::spawn(move || usize::from(bell.must_wake()))
            })
            .collect();
        let rings: usize = ringers.into_iter().map(|ringer| ringer.join().unwrap()).sum();
        assert_eq!(rings, 1);
        assert!(doorbell.wake_up());
    });
}

/// The producer sleeps on a full lane; the consumer wakes it after making room.
#[test]
fn a_full_lane_is_freed() {
    model(|| {
        let capacity = LaneCapacity { control: 1, messages: 1 };
        let mut endpoints = mesh::<(), u32>(2, capacity);
        let mut receiver = endpoints.pop().unwrap();
        let mut sender = endpoints.pop().unwrap();
        let kernel = Arc::new(Notify::new());
        let waker = Arc::clone(&kernel);
        let taking = thread::spawn(move || {
            let mut expected = 0;
            while expected < 2 {
                let taken = receiver.inbound(0).messages.drain(8, |item| {
                    assert_eq!(item, expected);
                    expected += 1;
                });
                if taken == 0 {
                    thread::yield_now();
                } else if receiver.must_wake_starved(0) {
                    waker.notify();
                }
            }
        });
        let mut next = 0;
        while next < 2 {
            if sender.outbound(1).messages.push(next).is_ok() {
                next += 1;
            } else if sender.try_sleep() {
                kernel.wait();
                sender.wake_up();
            }
        }
        taking.join().unwrap();
    });
}

/// A message is never handled before the control item that was pushed before it.
#[test]
fn control_stays_ahead_of_messages() {
    model(|| {
        let mut endpoints = mesh::<u32, u32>(2, LaneCapacity { control: 2, messages: 2 });
        let mut receiver = endpoints.pop().unwrap();
        let mut sender = endpoints.pop().unwrap();
        let sending = thread::spawn(move || {
            for number in 1..=2 {
                sender.outbound(1).control.push(number).unwrap();
                sender.outbound(1).messages.push(number).unwrap();
            }
        });
        let (mut known, mut handled) = (0, 0);
        while handled < 2 {
            let lanes = receiver.inbound(0);
            let note = lanes.messages.note();
            lanes.control.drain(8, |number| known = number);
            lanes.messages.drain_to(note, 8, |number| {
                assert!(number <= known, "message {number} before its interest");
                handled = number;
            });
            thread::yield_now();
        }
        sending.join().unwrap();
    });
}

/// The same by way of a third: reactor 0 tells 2 its interest, then asks 1, which answers to 2.
#[test]
fn control_stays_ahead_by_way_of_a_third() {
    model(|| {
        let mut endpoints = mesh::<u32, u32>(3, LaneCapacity { control: 1, messages: 1 });
        let mut replier = endpoints.pop().unwrap();
        let mut between = endpoints.pop().unwrap();
        let mut asker = endpoints.pop().unwrap();
        let asking = thread::spawn(move || {
            asker.outbound(2).control.push(7).unwrap();
            asker.outbound(1).messages.push(7).unwrap();
        });
        let passing = thread::spawn(move || {
            let item = between.inbound(0).messages.pop();
            if let Some(item) = item {
                between.outbound(2).messages.push(item).unwrap();
            }
        });
        let note = replier.inbound(1).messages.note();
        let mut known = 0;
        replier.inbound(0).control.drain(8, |item| known = item);
        replier.inbound(1).messages.drain_to(note, 8, |item| {
            assert_eq!(item, known, "a message before its interest");
        });
        asking.join().unwrap();
        passing.join().unwrap();
    });
}
