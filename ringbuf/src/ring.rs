//! One bounded lane from one thread to one other. The ordering argument is in the crate's docs.

use std::{cell::Cell, collections::VecDeque, fmt, marker::PhantomData, mem::MaybeUninit};

use crossbeam_utils::CachePadded;

use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell, fence};

/// The most slots a lane may have.
pub const CAPACITY_MAX: usize = 1 << 30;

/// What the producer stores and the consumer reads; one cache line.
struct ProducerLine {
    tail: AtomicUsize,
    starved: AtomicBool,
}

struct Shared<T> {
    producer: CachePadded<ProducerLine>,
    head: CachePadded<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    mask: usize,
}

// SAFETY: a slot is touched by one side at a time, handed over by `tail` and `head` (crate docs,
// point 1), so sharing the ring moves values between threads and never shares them: `T: Send`.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; the slots own their values.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    fn capacity(&self) -> usize {
        self.mask + 1
    }

    /// # Safety
    /// The caller is the producer and `position` lies in `tail..head + capacity`.
    #[inline(always)]
    unsafe fn write(&self, position: usize, item: T) {
        self.slots[position & self.mask].with_mut(|slot| {
            // SAFETY: by the contract the slot is free and ours until `tail` passes it.
            unsafe { (*slot).write(item) };
        });
    }

    /// # Safety
    /// The caller is the consumer, `position` lies in `head..tail`, and it is read only once.
    #[inline(always)]
    unsafe fn read(&self, position: usize) -> T {
        // SAFETY: by the contract the slot was written and is ours until `head` passes it.
        self.slots[position & self.mask].with(|slot| unsafe { (*slot).assume_init_read() })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tail = self.producer.tail.load(Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        while head != tail {
            // SAFETY: both halves are gone, `head..tail` is what was pushed and never taken.
            drop(unsafe { self.read(head) });
            head = head.wrapping_add(1);
        }
    }
}

/// Makes a lane of at least `capacity` slots (rounded up to a power of two).
///
/// # Panics
/// When `capacity` is zero or above [`CAPACITY_MAX`].
pub fn channel<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity > 0 && capacity <= CAPACITY_MAX, "lane capacity {capacity} is out of range");
    let capacity = capacity.next_power_of_two();
    let shared = Arc::new(Shared {
        producer: CachePadded::new(ProducerLine {
            tail: AtomicUsize::new(0),
            starved: AtomicBool::new(false),
        }),
        head: CachePadded::new(AtomicUsize::new(0)),
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        mask: capacity - 1,
    });
    let producer = Producer {
        shared: Arc::clone(&shared),
        tail: 0,
        head_cached: 0,
        starving: false,
        not_sync: PhantomData,
    };
    let consumer = Consumer { shared, head: 0, tail_cached: 0, not_sync: PhantomData };
    (producer, consumer)
}

/// The sending half of a lane. May move to another thread, not be shared.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    head_cached: usize,
    starving: bool,
    not_sync: PhantomData<Cell<()>>,
}

impl<T> Producer<T> {
    /// Pushes one item, or gives it back when the lane is full. A refusal is remembered: the
    /// consumer learns of it by [`Consumer::take_starved`] once it has made room.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.reserve(1) == 0 {
            return Err(item);
        }
        // SAFETY: this is the producer and `reserve` found room at `tail`.
        unsafe { self.shared.write(self.tail, item) };
        self.publish(self.tail.wrapping_add(1));
        Ok(())
    }

    /// Moves as many items as fit from the front of `items`, in order and visible at once. Returns
    /// how many went; what stays is remembered as with [`push`](Self::push).
    pub fn push_all(&mut self, items: &mut VecDeque<T>) -> usize {
        let count = self.reserve(items.len());
        let mut batch = Filling { tail: self.tail, producer: self };
        for item in items.drain(..count) {
            batch.write(item);
        }
        count
    }

    /// Pushes items of `source` until it ends or the lane is full, visible at once; what does not
    /// fit is left in `source`. Returns how many went.
    pub fn push_from(&mut self, source: &mut impl Iterator<Item = T>) -> usize {
        let room = self.reserve(self.shared.capacity());
        let mut batch = Filling { tail: self.tail, producer: self };
        let mut count = 0;
        for item in source.take(room) {
            batch.write(item);
            count += 1;
        }
        count
    }

    /// The number of slots.
    pub fn capacity(&self) -> usize {
        self.shared.capacity()
    }

    /// How many items fit now.
    pub fn room(&mut self) -> usize {
        self.head_cached = self.shared.head.load(Ordering::Acquire);
        self.room_cached()
    }

    /// Whether the last push did not fit whole. Clears when one does.
    pub fn is_starving(&self) -> bool {
        self.starving
    }

    #[inline(always)]
    fn room_cached(&self) -> usize {
        self.shared.capacity() - self.tail.wrapping_sub(self.head_cached)
    }

    /// How many of `wanted` fit; when not all do, tells the consumer.
    #[inline]
    fn reserve(&mut self, wanted: usize) -> usize {
        if self.room_cached() >= wanted || self.room() >= wanted {
            self.starving = false;
            return wanted;
        }
        self.starve(wanted)
    }

    /// The fence lets the lane stand alone; a producer that sleeps by a doorbell fences once more.
    #[cold]
    fn starve(&mut self, wanted: usize) -> usize {
        self.shared.producer.starved.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let room = self.room();
        self.starving = room < wanted;
        room.min(wanted)
    }

    #[inline(always)]
    fn publish(&mut self, tail: usize) {
        self.tail = tail;
        self.shared.producer.tail.store(tail, Ordering::Release);
    }
}

/// A batch being written. Dropping it publishes what was written, also when the source panics.
struct Filling<'a, T> {
    producer: &'a mut Producer<T>,
    tail: usize,
}

impl<T> Filling<'_, T> {
    #[inline(always)]
    fn write(&mut self, item: T) {
        debug_assert!(
            self.tail.wrapping_sub(self.producer.head_cached) < self.producer.capacity(),
            "the batch was reserved"
        );
        // SAFETY: this is the producer, and the callers write no more than `reserve` granted.
        unsafe { self.producer.shared.write(self.tail, item) };
        self.tail = self.tail.wrapping_add(1);
    }
}

impl<T> Drop for Filling<'_, T> {
    fn drop(&mut self) {
        if self.tail != self.producer.tail {
            self.producer.publish(self.tail);
        }
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("tail", &self.tail).finish_non_exhaustive()
    }
}

/// How far a lane reached at some moment: handle what lies before it with
/// [`Consumer::drain_to`], over several turns if need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note(usize);

/// The receiving half of a lane. May move to another thread, not be shared.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    tail_cached: usize,
    not_sync: PhantomData<Cell<()>>,
}

impl<T> Consumer<T> {
    /// Takes the oldest item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_cached && self.available() == 0 {
            return None;
        }
        // SAFETY: this is the consumer, `head < tail`, and `head` moves past it right below.
        let item = unsafe { self.shared.read(self.head) };
        self.release(self.head.wrapping_add(1));
        Some(item)
    }

    /// Hands at most `limit` items to `f`, oldest first, and frees their slots at the end. Returns
    /// how many there were.
    pub fn drain(&mut self, limit: usize, f: impl FnMut(T)) -> usize {
        let mut count = self.seen();
        if count < limit {
            count = self.available();
        }
        self.take(count.min(limit), f)
    }

    /// How many items are there now. What is pushed later does not count, so `drain` of this many
    /// ends even when the producer keeps pushing.
    pub fn available(&mut self) -> usize {
        self.tail_cached = self.shared.producer.tail.load(Ordering::Acquire);
        self.seen()
    }

    /// Notes how far the lane reaches now. Everything that the producer pushed to *any* lane of
    /// this consumer's thread before what the note covers is visible from here on.
    pub fn note(&mut self) -> Note {
        self.available();
        Note(self.tail_cached)
    }

    /// How many items lie before `note` and were not taken yet.
    pub fn remaining(&self, note: Note) -> usize {
        let count = note.0.wrapping_sub(self.head);
        // Once `head` is past the note the difference wraps to something huge. The second bound
        // keeps a note of another lane harmless.
        if count <= self.shared.capacity() { count.min(self.seen()) } else { 0 }
    }

    /// How many items lie below the cached tail.
    #[inline(always)]
    fn seen(&self) -> usize {
        self.tail_cached.wrapping_sub(self.head)
    }

    /// Hands at most `limit` of the items before `note` to `f`. Returns how many there were.
    pub fn drain_to(&mut self, note: Note, limit: usize, f: impl FnMut(T)) -> usize {
        self.take(self.remaining(note).min(limit), f)
    }

    /// Whether the producer found the lane full since this was last asked. Ask after taking items,
    /// and on `true` ring the producer's doorbell (a wake-up too many is possible, a lost one not).
    pub fn take_starved(&mut self) -> bool {
        fence(Ordering::SeqCst);
        let starved = &self.shared.producer.starved;
        starved.load(Ordering::Relaxed) && starved.swap(false, Ordering::Relaxed)
    }

    /// The number of slots.
    pub fn capacity(&self) -> usize {
        self.shared.capacity()
    }

    fn take(&mut self, count: usize, mut f: impl FnMut(T)) -> usize {
        debug_assert!(count <= self.seen());
        let mut batch = Emptying { head: self.head, consumer: self };
        for _ in 0..count {
            // SAFETY: this is the consumer, the position is below a tail that was loaded with
            // Acquire, and `head` moves past it before `f` can panic.
            let item = unsafe { batch.consumer.shared.read(batch.head) };
            batch.head = batch.head.wrapping_add(1);
            f(item);
        }
        count
    }

    #[inline(always)]
    fn release(&mut self, head: usize) {
        self.head = head;
        self.shared.head.store(head, Ordering::Release);
    }
}

/// A batch being taken. Dropping it frees what was read, also when the caller's closure panics.
struct Emptying<'a, T> {
    consumer: &'a mut Consumer<T>,
    head: usize,
}

impl<T> Drop for Emptying<'_, T> {
    fn drop(&mut self) {
        if self.head != self.consumer.head {
            self.consumer.release(self.head);
        }
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("head", &self.head).finish_non_exhaustive()
    }
}
