//! A ring of buffers that the kernel picks from as datagrams arrive (`io_uring_register_buf_ring(3)`).
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use crate::queue::socket::slots::stride;

const PAGE: usize = 4096;

/// The group that the buffers form; a ring of ours has one only.
pub(super) const GROUP: u16 = 0;

/// Buffers of one size, and the ring by which they go to the kernel. A buffer is either with the kernel or, between its
/// completion and [`give_back`](Self::give_back), ours.
#[derive(Debug)]
pub(super) struct BufRing {
    entries: NonNull<BufRingEntry>,
    buffers: NonNull<u8>,
    count: u16,
    /// Bytes of a buffer.
    size: usize,
    /// From one buffer to the next: two never share a cache line.
    stride: usize,
    /// Where the next buffer goes; the kernel sees it when it is published.
    tail: u16,
}

impl BufRing {
    /// Makes `count` buffers, a power of two up to 32768, of `size` bytes, and registers them with `ring`, all with the kernel.
    ///
    /// # Safety
    /// [`unregister`](Self::unregister) has to succeed before the value is dropped; else it has to be forgotten.
    pub(super) unsafe fn new(ring: &IoUring, count: u16, size: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15 && size > 0);
        let stride = stride(size);
        let mut this = Self {
            entries: allocate(Self::ring_layout(count)).cast(),
            buffers: allocate(Self::buffer_layout(count, stride)),
            count,
            size,
            stride,
            tail: 0,
        };
        let address = this.entries.as_ptr() as u64;
        // SAFETY: the memory is count entries long and lives until unregister, as the caller promised.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0) }?;
        for id in 0..count {
            this.give_back(id);
        }
        this.publish();
        Ok(this)
    }

    /// Takes the ring away from the kernel; no request may be using it any more.
    pub(super) fn unregister(&self, ring: &IoUring) -> io::Result<()> {
        ring.submitter().unregister_buf_ring(GROUP)
    }

    /// The first `len` bytes of buffer `id`.
    ///
    /// # Safety
    /// The kernel has completed a request with this buffer, and it was not given back since.
    pub(super) unsafe fn filled(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < self.count && len <= self.size);
        // SAFETY: in bounds as asserted, initialised (zeroed at first), and not with the kernel, as the caller promised.
        unsafe { std::slice::from_raw_parts(self.buffers.as_ptr().add(usize::from(id) * self.stride), len) }
    }

    /// Puts buffer `id` back into the ring; the kernel has it when it is [published](Self::publish).
    #[inline]
    pub(super) fn give_back(&mut self, id: u16) {
        assert!(id < self.count);
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: place is below count; the kernel does not read entries from the tail on, of which this is the
        // first: there are no more buffers than entries.
        let entry = unsafe { &mut *self.entries.as_ptr().add(place) };
        // SAFETY: id is below count.
        entry.set_addr(unsafe { self.buffers.as_ptr().add(usize::from(id) * self.stride) } as u64);
        entry.set_len(self.size as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see the buffers given back.
    #[inline]
    pub(super) fn publish(&mut self) {
        // SAFETY: the first entry of the ring is initialised; the tail lies in its reserved field, aligned, and is only
        // read by the kernel.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn ring_layout(count: u16) -> Layout {
        Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), PAGE)
            .expect("at most half a MiB")
    }

    fn buffer_layout(count: u16, stride: usize) -> Layout {
        Layout::from_size_align(usize::from(count) * stride, PAGE).expect("at most 32768 datagrams")
    }
}

impl Drop for BufRing {
    fn drop(&mut self) {
        // SAFETY: allocated with these layouts, and the kernel no longer uses them, as promised to new.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), Self::ring_layout(self.count));
            dealloc(self.buffers.as_ptr(), Self::buffer_layout(self.count, self.stride));
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout here is empty.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
