//! Rings with one producer and one consumer, in the layout that AF_XDP maps into user space: two indices that only ever grow
//! (and wrap around at 2³²), a word of flags, and a power of two of slots.
//!
//! ```text
//!             consumer                producer
//!                ▼                       ▼
//!   ┄┄ free ┄┄┃ filled by the producer ┃┄┄ free ┄┄      index & (size − 1) is the slot
//! ```
//!
//! [`Producer`] and [`Consumer`] each keep private copies of both indices. They touch the shared ones once for a batch, because
//! each touch may move a cache line from another CPU: [`reserve`](Producer::reserve) – [`write`](Producer::write) …
//! – [`commit`](Producer::commit), and [`available`](Consumer::available) – [`read`](Consumer::read) … –
//! [`release`](Consumer::release). In a hot loop [`slots`](Producer::slots), [`filled`](Consumer::filled) and [`Relay`] stand for the calls in the middle. Of AF_XDP's four rings the program produces into TX and fill, and consumes RX and completion;
//! the kernel has the other ends. [`in_memory`] makes both ends over plain memory.
#![expect(unsafe_code, reason = "the slots and indices are memory shared with the kernel or another thread")]

use std::cell::UnsafeCell;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam::utils::CachePadded;

/// A descriptor of the RX or TX ring (`struct xdp_desc`).
#[doc(alias = "xdp_desc")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Desc {
    /// Offset of the data in the UMEM, bytes.
    pub address: u64,
    /// Its length, bytes.
    pub len: u32,
    /// [`MORE`] or 0.
    pub options: u32,
}

// As the kernel has it.
const _: () = assert!(size_of::<Desc>() == size_of::<libc::xdp_desc>());

/// In [`Desc::options`]: the packet goes on in the next descriptor.
#[doc(alias = "XDP_PKT_CONTD")]
pub const MORE: u32 = libc::XDP_PKT_CONTD;

/// Where a ring lies.
pub struct Ring<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    slots: NonNull<T>,
    size: u32,
    /// Keeps the memory in place.
    _memory: Arc<dyn Send + Sync>,
}

// SAFETY: indices and flags are atomic; a slot is accessed by one end at a time, as the indices say; the memory lives as long as
// the ring and is bound to no thread.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    /// A ring over existing memory.
    ///
    /// # Safety
    /// `producer`, `consumer` and `flags` must point to aligned words that are only accessed atomically, `slots` to `size` aligned slots in which
    /// every bit pattern is a valid `T`; all valid for reads and writes while `memory` lives. At most one [`Producer`] and one [`Consumer`] may be made for
    /// these pointers, in this program and the kernel together.
    ///
    /// # Panics
    /// When `size` is not a power of two.
    pub unsafe fn new(
        producer: NonNull<AtomicU32>,
        consumer: NonNull<AtomicU32>,
        flags: NonNull<AtomicU32>,
        slots: NonNull<T>,
        size: u32,
        memory: Arc<dyn Send + Sync>,
    ) -> Self {
        assert!(size.is_power_of_two(), "a ring of {size} slots");
        Self { producer, consumer, flags, slots, size, _memory: memory }
    }

    /// Makes this program the producer.
    pub fn producer(self) -> Producer<T> {
        let next = self.produced().load(Ordering::Relaxed);
        // Nothing is known to be free until the first look.
        Producer { next, end: next, ring: self }
    }

    /// Makes this program the consumer.
    pub fn consumer(self) -> Consumer<T> {
        let next = self.consumed().load(Ordering::Relaxed);
        Consumer { next, end: next, ring: self }
    }

    #[inline]
    fn produced(&self) -> &AtomicU32 {
        // SAFETY: valid as long as the ring, by the contract of `new`.
        unsafe { self.producer.as_ref() }
    }

    #[inline]
    fn consumed(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    #[inline]
    fn flagged(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.flags.as_ref() }
    }

    #[inline]
    fn slot(&self, index: u32) -> NonNull<T> {
        // SAFETY: masked to less than `size` slots, which are all there.
        unsafe { self.slots.add((index & (self.size - 1)) as usize) }
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("size", &self.size)
            .field("produced", &self.produced().load(Ordering::Relaxed))
            .field("consumed", &self.consumed().load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// The end that fills slots.
#[derive(Debug)]
pub struct Producer<T> {
    ring: Ring<T>,
    /// The next slot to write.
    next: u32,
    /// The first slot not known to be free.
    end: u32,
}

impl<T: Copy> Producer<T> {
    /// Slots that may be written now, before the next [`commit`](Self::commit). Looks at the consumer only when fewer than `want` are known.
    #[inline]
    pub fn reserve(&mut self, want: u32) -> u32 {
        if self.end.wrapping_sub(self.next) < want {
            // Acquire: the consumer has finished reading the slots it passed.
            let consumed = self.ring.consumed().load(Ordering::Acquire);
            self.end = consumed.wrapping_add(self.ring.size);
        }
        self.end.wrapping_sub(self.next)
    }

    /// Writes the next slot; the consumer sees it after [`commit`](Self::commit).
    ///
    /// # Panics
    /// When it is not reserved.
    #[inline]
    pub fn write(&mut self, value: T) {
        assert!(self.next != self.end, "a slot that was not reserved");
        // SAFETY: the slot is valid; between the indices it belongs to the producer, of which there is one.
        unsafe { self.ring.slot(self.next).write(value) };
        self.next = self.next.wrapping_add(1);
    }

    /// The slots that are known to be free, to be written in a loop: what [`write`](Self::write) needs stays in registers there.
    #[inline]
    pub fn slots(&mut self) -> Slots<'_, T> {
        Slots {
            slots: self.ring.slots,
            mask: self.ring.size - 1,
            next: self.next,
            end: self.end,
            producer: self,
        }
    }

    /// Hands over what was written.
    #[inline]
    pub fn commit(&mut self) {
        // Release: the slots are written before the index says so.
        self.ring.produced().store(self.next, Ordering::Release);
    }

    /// Slots handed over that the consumer has not passed.
    #[inline]
    pub fn pending(&self) -> u32 {
        let produced = self.ring.produced().load(Ordering::Relaxed);
        produced.wrapping_sub(self.ring.consumed().load(Ordering::Acquire))
    }

    /// Whether the consumer sleeps until it is woken by a system call.
    #[doc(alias = "XDP_RING_NEED_WAKEUP")]
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.ring.flagged().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// Free slots of a [`Producer`], which goes on behind those that were written when this is dropped.
#[derive(Debug)]
pub struct Slots<'a, T> {
    producer: &'a mut Producer<T>,
    slots: NonNull<T>,
    mask: u32,
    next: u32,
    end: u32,
}

impl<T: Copy> Slots<'_, T> {
    /// As [`Producer::write`].
    ///
    /// # Panics
    /// When all have been written.
    #[inline]
    pub fn write(&mut self, value: T) {
        assert!(self.next != self.end, "a slot that was not reserved");
        // SAFETY: masked to less than the ring's slots, which are there as long as the producer; between the indices they are its own,
        // and it is borrowed.
        unsafe { self.slots.add((self.next & self.mask) as usize).write(value) };
        self.next = self.next.wrapping_add(1);
    }
}

impl<T> Drop for Slots<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.producer.next = self.next;
    }
}

/// The end that empties slots.
#[derive(Debug)]
pub struct Consumer<T> {
    ring: Ring<T>,
    /// The next slot to read.
    next: u32,
    /// The first slot not known to be filled.
    end: u32,
}

impl<T: Copy> Consumer<T> {
    /// Slots that can be read now. Looks at the producer only when fewer than `want` are known.
    #[inline]
    pub fn available(&mut self, want: u32) -> u32 {
        if self.end.wrapping_sub(self.next) < want {
            // Acquire: the slots are read after the index that says they are filled.
            self.end = self.ring.produced().load(Ordering::Acquire);
        }
        self.end.wrapping_sub(self.next)
    }

    /// Takes the next slot that [`available`](Self::available) found; `None` after the last.
    #[inline]
    pub fn read(&mut self) -> Option<T> {
        if self.next == self.end {
            return None;
        }
        // SAFETY: the slot is valid and filled; the producer leaves it alone until `release`.
        let value = unsafe { self.ring.slot(self.next).read() };
        self.next = self.next.wrapping_add(1);
        Some(value)
    }

    /// The next slots that [`available`](Self::available) found, at most `most`, to be read in a loop: what [`read`](Self::read) needs stays in
    /// registers there.
    #[inline]
    pub fn filled(&mut self, most: u32) -> Filled<'_, T> {
        let known = self.end.wrapping_sub(self.next);
        let end = self.next.wrapping_add(known.min(most));
        Filled { slots: self.ring.slots, mask: self.ring.size - 1, next: self.next, end, consumer: self }
    }

    /// Gives the slots that were read back to the producer.
    #[inline]
    pub fn release(&mut self) {
        // Release: they are read before the index says so.
        self.ring.consumed().store(self.next, Ordering::Release);
    }

    /// Slots in the ring, filled or not.
    pub fn size(&self) -> u32 {
        self.ring.size
    }
}

/// Filled slots of a [`Consumer`], which goes on behind those that were read when this is dropped.
#[derive(Debug)]
pub struct Filled<'a, T> {
    consumer: &'a mut Consumer<T>,
    slots: NonNull<T>,
    mask: u32,
    next: u32,
    end: u32,
}

impl<T: Copy> Iterator for Filled<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.next == self.end {
            return None;
        }
        // SAFETY: masked to less than the ring's slots, which are there as long as the consumer; up to the end they are filled, and the
        // producer leaves them alone until `release`, which cannot be called meanwhile.
        let value = unsafe { self.slots.add((self.next & self.mask) as usize).read() };
        self.next = self.next.wrapping_add(1);
        Some(value)
    }
}

impl<T> Drop for Filled<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.consumer.next = self.next;
    }
}

/// Filled slots of one ring, for each of which at most one slot of another is written: one counter serves both in a loop.
#[derive(Debug)]
pub struct Relay<'a, T, U> {
    from: &'a mut Consumer<T>,
    to: &'a mut Producer<U>,
    slots: NonNull<T>,
    mask: u32,
    into: NonNull<U>,
    into_mask: u32,
    /// The slot of `from` that was the first to be read, and that of `to` which it would have gone to if all slots read had been passed on.
    first: u32,
    first_into: u32,
    /// Slots read so far.
    read: u32,
    /// Slots that can be read, and as many can be written.
    count: u32,
}

impl<'a, T: Copy, U: Copy> Relay<'a, T, U> {
    /// Of the slots that [`available`](Consumer::available) and [`reserve`](Producer::reserve) found, at most `most`.
    #[inline]
    pub fn new(from: &'a mut Consumer<T>, to: &'a mut Producer<U>, most: u32) -> Self {
        let (filled, free) = (from.end.wrapping_sub(from.next), to.end.wrapping_sub(to.next));
        Self {
            slots: from.ring.slots,
            mask: from.ring.size - 1,
            into: to.ring.slots,
            into_mask: to.ring.size - 1,
            first: from.next,
            first_into: to.next,
            read: 0,
            count: filled.min(free).min(most),
            from,
            to,
        }
    }

    /// Slots that are to be read.
    #[inline]
    pub fn left(&self) -> u32 {
        self.count - self.read
    }

    /// The next slot; `None` after the last.
    #[inline(always)]
    pub fn peek(&self) -> Option<T> {
        if self.read == self.count {
            return None;
        }
        let at = self.first.wrapping_add(self.read) & self.mask;
        // SAFETY: masked to less than the ring's slots, which are there as long as the consumer. It is one of the filled ones, of which there are
        // `count`, and the producer leaves them alone until `release`, which cannot be called meanwhile.
        Some(unsafe { self.slots.add(at as usize).read() })
    }

    /// Goes past the slot that [`peek`](Self::peek) found, and writes one for it.
    ///
    /// # Panics
    /// When there was none.
    #[inline(always)]
    pub fn pass_on(&mut self, value: U) {
        assert!(self.read != self.count, "nothing is left to be passed on");
        let at = self.first_into.wrapping_add(self.read) & self.into_mask;
        // SAFETY: masked to less than the ring's slots, which are there as long as the producer. No more are written than were read, of which there are
        // `count` at most, and as many are free; the producer is borrowed.
        unsafe { self.into.add(at as usize).write(value) };
        self.read += 1;
    }

    /// Goes past the slot that [`peek`](Self::peek) found, and writes none.
    ///
    /// # Panics
    /// When there was none.
    #[inline]
    pub fn keep(&mut self) {
        assert!(self.read != self.count, "nothing is left to be kept");
        self.read += 1;
        self.first_into = self.first_into.wrapping_sub(1);
    }
}

impl<T, U> Drop for Relay<'_, T, U> {
    #[inline]
    fn drop(&mut self) {
        self.from.next = self.first.wrapping_add(self.read);
        self.to.next = self.first_into.wrapping_add(self.read);
    }
}

/// Whoever plays the kernel: says to the producer that it wants to be woken.
impl<T> Consumer<T> {
    /// Sets or clears the flag that [`Producer::needs_wakeup`] reads.
    pub fn ask_for_wakeup(&mut self, ask: bool) {
        let flag = if ask { libc::XDP_RING_NEED_WAKEUP } else { 0 };
        self.ring.flagged().store(flag, Ordering::Relaxed);
    }
}

struct Plain<T> {
    producer: CachePadded<AtomicU32>,
    consumer: CachePadded<AtomicU32>,
    flags: CachePadded<AtomicU32>,
    slots: Box<[UnsafeCell<T>]>,
}

// SAFETY: the slots are only accessed through the two ends, one end at a time.
unsafe impl<T: Send> Sync for Plain<T> {}

/// Both ends of a ring of `size` slots in plain memory, its indices starting at `start`.
///
/// # Panics
/// When `size` is not a power of two.
pub fn in_memory<T: Copy + Default + Send + 'static>(size: u32, start: u32) -> (Producer<T>, Consumer<T>) {
    let memory = Arc::new(Plain {
        producer: CachePadded::new(AtomicU32::new(start)),
        consumer: CachePadded::new(AtomicU32::new(start)),
        flags: CachePadded::new(AtomicU32::new(0)),
        slots: (0..size).map(|_| UnsafeCell::new(T::default())).collect(),
    });
    let ring = || {
        let slots = NonNull::from(&*memory.slots).cast::<T>();
        let word = |w: &CachePadded<AtomicU32>| NonNull::from(&**w);
        let (producer, consumer, flags) =
            (word(&memory.producer), word(&memory.consumer), word(&memory.flags));
        // SAFETY: all of it lives in `memory`; UnsafeCell<T> has the layout of T; one end of each kind is made below.
        unsafe { Ring::new(producer, consumer, flags, slots, size, Arc::<Plain<T>>::clone(&memory)) }
    };
    (ring().producer(), ring().consumer())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn indices_wrap_around() {
        let (mut producer, mut consumer) = in_memory::<u64>(4, u32::MAX - 5);
        for n in 0..100 {
            assert_eq!(producer.reserve(4), 4);
            for k in 0..3 {
                producer.write(n * 10 + k);
            }
            assert_eq!(consumer.available(1), 0, "not before the commit");
            producer.commit();
            assert_eq!((producer.pending(), consumer.available(1)), (3, 3));
            for k in 0..3 {
                assert_eq!(consumer.read(), Some(n * 10 + k));
            }
            assert_eq!(consumer.read(), None);
            assert_eq!(producer.reserve(4), 1, "not before the release");
            consumer.release();
        }
    }

    #[test]
    fn loops_leave_off_where_they_were_left() {
        let (mut producer, mut consumer) = in_memory::<u64>(8, u32::MAX - 5);
        for n in 0..50 {
            assert_eq!(producer.reserve(8), 8);
            let mut slots = producer.slots();
            (0..5).for_each(|k| slots.write(n * 10 + k));
            drop(slots);
            producer.write(n * 10 + 5);
            producer.commit();
            assert_eq!(consumer.available(8), 6);
            assert_eq!(consumer.filled(8).next(), Some(n * 10));
            assert!(consumer.filled(3).eq((1..4).map(|k| n * 10 + k)));
            assert!(consumer.filled(8).eq((4..6).map(|k| n * 10 + k)));
            assert_eq!(consumer.read(), None);
            consumer.release();
        }
    }

    #[test]
    fn slots_are_passed_on_to_another_ring() {
        let (mut source, mut from) = in_memory::<u64>(8, u32::MAX - 5);
        let (mut to, mut sink) = in_memory::<u64>(4, u32::MAX - 2);
        for n in 0..50 {
            source.reserve(6);
            (0..6).for_each(|k| source.write(n * 10 + k));
            source.commit();
            assert_eq!((from.available(8), to.reserve(8)), (6, 4));
            let mut relay = Relay::new(&mut from, &mut to, 3);
            assert_eq!((relay.left(), relay.peek()), (3, Some(n * 10)));
            relay.pass_on(n * 10);
            assert_eq!(relay.peek(), Some(n * 10 + 1));
            relay.keep();
            relay.pass_on(n * 10 + 2);
            assert_eq!((relay.left(), relay.peek()), (0, None));
            drop(relay);
            let mut rest = Relay::new(&mut from, &mut to, 8);
            assert_eq!(rest.left(), 2, "no more than can be passed on");
            rest.keep();
            drop(rest);
            assert!(from.filled(8).eq([n * 10 + 4, n * 10 + 5]));
            from.release();
            to.commit();
            assert_eq!(sink.available(4), 2);
            assert!(sink.filled(4).eq([n * 10, n * 10 + 2]));
            sink.release();
        }
    }

    #[test]
    #[should_panic(expected = "not reserved")]
    fn a_loop_ends_with_the_reserved_slots() {
        let (mut producer, _consumer) = in_memory::<u64>(4, 0);
        producer.reserve(4);
        let mut slots = producer.slots();
        (0..5).for_each(|n| slots.write(n));
    }

    #[test]
    #[should_panic(expected = "not reserved")]
    fn a_full_ring_takes_no_more() {
        let (mut producer, _consumer) = in_memory::<u64>(2, 0);
        let room = producer.reserve(3);
        for n in 0..=u64::from(room) {
            producer.write(n);
        }
    }

    #[test]
    fn the_consumer_asks_to_be_woken() {
        let (producer, mut consumer) = in_memory::<u64>(2, 0);
        assert!(!producer.needs_wakeup());
        consumer.ask_for_wakeup(true);
        assert!(producer.needs_wakeup());
    }

    #[test]
    fn two_threads_see_every_value_in_order() {
        const COUNT: u64 = 200_000;
        let (mut producer, mut consumer) = in_memory::<u64>(64, u32::MAX - 1000);
        let sender = std::thread::spawn(move || {
            let mut n = 0;
            while n < COUNT {
                let room = u64::from(producer.reserve(16)).min(16).min(COUNT - n);
                for _ in 0..room {
                    producer.write(n);
                    n += 1;
                }
                producer.commit();
                if room == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let mut next = 0;
        while next < COUNT {
            if consumer.available(1) == 0 {
                std::thread::yield_now();
            }
            while let Some(value) = consumer.read() {
                assert_eq!(value, next);
                next += 1;
            }
            consumer.release();
        }
        sender.join().unwrap();
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(u8),
        Commit,
        Read(u8),
        Release,
    }

    proptest! {
        #[test]
        fn behaves_as_a_queue(
            start in prop_oneof![any::<u32>(), (u32::MAX - 20)..],
            log2 in 0u32..5,
            steps in proptest::collection::vec(prop_oneof![
                (1u8..20).prop_map(Step::Write), Just(Step::Commit), (1u8..20).prop_map(Step::Read), Just(Step::Release),
            ], 0..200),
        ) {
            let size = 1usize << log2;
            let (mut producer, mut consumer) = in_memory::<u64>(size as u32, start);
            let (mut written, mut shared, mut held) = (VecDeque::new(), VecDeque::new(), 0usize);
            let mut next = 0u64;
            for step in steps {
                match step {
                    Step::Write(n) => {
                        let room = size - written.len() - shared.len() - held;
                        // Never more than there is, and all there is when that many are asked for.
                        let known = producer.reserve(u32::from(n)) as usize;
                        prop_assert!(known <= room && known >= room.min(usize::from(n)));
                        for _ in 0..known.min(usize::from(n)) {
                            producer.write(next);
                            written.push_back(next);
                            next += 1;
                        }
                    }
                    Step::Commit => {
                        producer.commit();
                        shared.append(&mut written);
                    }
                    Step::Read(n) => {
                        let known = consumer.available(u32::from(n)) as usize;
                        prop_assert!(known <= shared.len() && known >= shared.len().min(usize::from(n)));
                        for _ in 0..known.min(usize::from(n)) {
                            prop_assert_eq!(consumer.read(), shared.pop_front());
                            held += 1;
                        }
                    }
                    Step::Release => {
                        consumer.release();
                        held = 0;
                    }
                }
            }
        }
    }
}
