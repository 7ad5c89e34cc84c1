//! Rings, notes, meshes and doorbells against simple models, and across real threads. Small enough
//! for Miri: `cargo +nightly miri test -p corelane-ringbuf --test ring`.
#![cfg(not(loom))]

use std::{
    cell::Cell,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    thread,
};

use corelane_ringbuf::{Consumer, LaneCapacity, Producer, channel, mesh};

/// A small generator, so that a run can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap()
}

/// One random operation on the lane and on its model, a queue of boxed numbers.
fn step(
    random: &mut Random,
    producer: &mut Producer<Box<u64>>,
    consumer: &mut Consumer<Box<u64>>,
    model: &mut VecDeque<u64>,
    next: &mut u64,
) {
    let room = producer.capacity() - model.len();
    match random.below(7) {
        0 => {
            let pushed = producer.push(Box::new(*next)).is_ok();
            assert_eq!(pushed, room > 0);
            assert_eq!(producer.is_starving(), room == 0);
            if pushed {
                model.push_back(*next);
                *next += 1;
            }
        }
        1 => {
            let count = random.below(12);
            let mut items: VecDeque<_> = (*next..*next + count).map(Box::new).collect();
            let pushed = number(producer.push_all(&mut items));
            assert_eq!(pushed, count.min(number(room)));
            assert_eq!(items.front().map(|item| **item), (pushed < count).then(|| *next + pushed));
            model.extend(*next..*next + pushed);
            *next += pushed;
        }
        2 => {
            let count = random.below(12);
            let mut source = (*next..*next + count).map(Box::new);
            let pushed = number(producer.push_from(&mut source));
            assert_eq!(pushed, count.min(number(room)));
            assert_eq!(source.count(), usize::try_from(count - pushed).unwrap());
            model.extend(*next..*next + pushed);
            *next += pushed;
        }
        3 => assert_eq!(consumer.pop().map(|item| *item), model.pop_front()),
        4 => {
            let limit = usize::try_from(random.below(12)).unwrap();
            let expected = limit.min(model.len());
            let taken = consumer.drain(limit, |item| assert_eq!(Some(*item), model.pop_front()));
            assert_eq!(taken, expected);
        }
        5 => assert_eq!(consumer.available(), model.len()),
        _ => {
            let note = consumer.note();
            let limit = usize::try_from(random.below(4)).unwrap();
            let expected = limit.min(model.len());
            let taken =
                consumer.drain_to(note, limit, |item| assert_eq!(Some(*item), model.pop_front()));
            assert_eq!(taken, expected);
            assert_eq!(consumer.remaining(note), model.len());
        }
    }
}

#[test]
fn a_lane_behaves_like_a_bounded_queue() {
    let rounds = if cfg!(miri) { 300 } else { 100_000 };
    for (seed, capacity) in [(1, 1), (2, 2), (3, 3), (4, 8), (5, 16)] {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let (mut producer, mut consumer) = channel(capacity);
        assert_eq!(producer.capacity(), capacity.next_power_of_two());
        let (mut model, mut next) = (VecDeque::new(), 0);
        for _ in 0..rounds {
            step(&mut random, &mut producer, &mut consumer, &mut model, &mut next);
        }
    }
}

#[test]
fn a_note_does_not_move_with_the_lane() {
    let (mut producer, mut consumer) = channel(8);
    (0..3).for_each(|n| producer.push(n).unwrap());
    let note = consumer.note();
    (3..6).for_each(|n| producer.push(n).unwrap());
    let mut seen = Vec::new();
    assert_eq!(consumer.drain_to(note, 2, |n| seen.push(n)), 2);
    assert_eq!(consumer.remaining(note), 1);
    assert_eq!(consumer.drain_to(note, 9, |n| seen.push(n)), 1);
    assert_eq!(consumer.drain_to(note, 9, |n| seen.push(n)), 0);
    assert_eq!(consumer.pop(), Some(3));
    assert_eq!(consumer.remaining(note), 0, "a note that was passed stays passed");
    assert_eq!(seen, [0, 1, 2]);
}

#[test]
fn a_note_of_another_lane_is_harmless() {
    let (mut producer, mut far) = channel(8);
    (0..6).for_each(|n| producer.push(Box::new(n)).unwrap());
    let note = far.note();
    let (_other, mut near) = channel::<Box<i32>>(8);
    assert_eq!(near.drain_to(note, 9, |_| panic!("there is nothing in this lane")), 0);
}

#[test]
fn starving_is_told_once() {
    let (mut producer, mut consumer) = channel(2);
    producer.push(1).unwrap();
    producer.push(2).unwrap();
    assert!(!consumer.take_starved());
    assert_eq!(producer.push(3), Err(3));
    assert!(producer.is_starving());
    assert_eq!(producer.room(), 0);
    assert_eq!(consumer.pop(), Some(1));
    assert!(consumer.take_starved());
    assert!(!consumer.take_starved());
    assert_eq!(producer.room(), 1);
    producer.push(3).unwrap();
    assert!(!producer.is_starving());
}

#[test]
fn every_item_is_dropped_once() {
    struct Counted(Rc<Cell<u32>>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let drops = Rc::new(Cell::new(0));
    let (mut producer, mut consumer) = channel(8);
    for _ in 0..6 {
        assert!(producer.push(Counted(Rc::clone(&drops))).is_ok());
    }
    drop(consumer.pop());
    assert_eq!(drops.get(), 1);
    // A panic in the middle of a batch neither loses the rest nor drops anything twice.
    let mut count = 0;
    let result = catch_unwind(AssertUnwindSafe(|| {
        consumer.drain(4, |item| {
            count += 1;
            drop(item);
            assert!(count < 2, "on purpose");
        })
    }));
    assert!(result.is_err());
    assert_eq!(drops.get(), 3);
    assert_eq!(consumer.available(), 3);
    drop(producer);
    drop(consumer);
    assert_eq!(drops.get(), 6);
}

#[test]
fn a_source_that_panics_leaves_what_it_gave() {
    let (mut producer, mut consumer) = channel(8);
    let mut source = (0..5).map(|n| {
        assert!(n < 3, "on purpose");
        Box::new(n)
    });
    assert!(catch_unwind(AssertUnwindSafe(|| producer.push_from(&mut source))).is_err());
    let mut seen = Vec::new();
    consumer.drain(9, |item| seen.push(*item));
    assert_eq!(seen, [0, 1, 2]);
}

#[test]
#[should_panic(expected = "out of range")]
fn an_empty_lane_is_refused() {
    let _ = channel::<u8>(0);
}

#[test]
fn two_threads_exchange_everything() {
    let total: u64 = if cfg!(miri) { 200 } else { 200_000 };
    let (mut producer, mut consumer) = channel(16);
    let sender = thread::spawn(move || {
        let mut source = (0..total).map(Box::new).peekable();
        while source.peek().is_some() {
            if producer.push_from(&mut source) == 0 {
                thread::yield_now();
            }
        }
    });
    let mut expected = 0;
    while expected < total {
        let taken = consumer.drain(7, |item| {
            assert_eq!(*item, expected);
            expected += 1;
        });
        if taken == 0 {
            thread::yield_now();
        }
    }
    sender.join().unwrap();
    assert!(consumer.pop().is_none());
}

/// Three reactors that park when idle: each sends to the others over lanes that are too small, and
/// wakes only whom the doorbells name.
#[test]
fn a_mesh_of_parking_threads_never_hangs() {
    let (reactors, total) = if cfg!(miri) { (2, 20) } else { (3, 20_000) };
    let endpoints = mesh::<u64, u64>(reactors, LaneCapacity { control: 2, messages: 4 });
    let (tell, listen) = std::sync::mpsc::channel();
    let threads: Vec<_> = endpoints
        .into_iter()
        .map(|mut endpoint| {
            let tell = tell.clone();
            let (hand, handles) = std::sync::mpsc::channel::<Vec<thread::Thread>>();
            let thread = thread::spawn(move || {
                let neighbours = handles.recv().unwrap();
                let me = endpoint.id();
                let peers: Vec<usize> = endpoint.peers().collect();
                let mut to_send: Vec<VecDeque<u64>> =
                    (0..reactors).map(|_| (0..total).collect()).collect();
                let mut expected = vec![0; reactors];
                loop {
                    for &peer in &peers {
                        let lanes = endpoint.inbound(peer);
                        let seen = &mut expected[peer];
                        lanes.messages.drain(3, |item| {
                            assert_eq!(item, *seen);
                            *seen += 1;
                        });
                        let starved = endpoint.must_wake_starved(peer);
                        endpoint.outbound(peer).messages.push_all(&mut to_send[peer]);
                        if endpoint.must_wake(peer) || starved {
                            neighbours[peer].unpark();
                        }
                    }
                    let done = peers.iter().all(|&p| to_send[p].is_empty() && expected[p] == total);
                    if done {
                        break;
                    }
                    if endpoint.try_sleep() {
                        // A lost wake-up would hang here for ever.
                        thread::park();
                        endpoint.wake_up();
                    }
                }
                tell.send(me).unwrap();
            });
            (thread, hand)
        })
        .collect();
    let handles: Vec<_> = threads.iter().map(|(thread, _)| thread.thread().clone()).collect();
    for (_, hand) in &threads {
        hand.send(handles.clone()).unwrap();
    }
    for _ in 0..reactors {
        let patience = std::time::Duration::from_secs(60);
        listen.recv_timeout(patience).expect("a reactor missed its wake-up");
    }
    for (thread, _) in threads {
        thread.join().unwrap();
    }
}
