//! Sending straight from registered buffers, without the kernel's copy (`io_uring_prep_sendmsg_zc(3)`).
//!
//! Such a request is answered twice: when the socket took the buffer, and when nothing below it reads the buffer any more. Where somebody
//! needs the bytes for longer (a socket on this host, a capture, a device without scatter-gather) the kernel copies them after all,
//! and says so with the second answer; that costs more than a copy at once, and zero-copy is given up until a single try shows that it would last.
#![expect(unsafe_code, reason = "buffers shared with the kernel")]

use std::io;
use std::mem;
use std::time::Duration;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};

use super::ring;
use crate::queue::socket::offload::Offload;
use crate::queue::socket::slots::{Content, Slots};

/// IORING_RECVSEND_FIXED_BUF: the vector lies in a registered buffer, here the only one, number 0.
const FIXED_BUFFER: u16 = 1 << 2;

/// IORING_SEND_ZC_REPORT_USAGE: the second answer tells whether the bytes were copied.
const REPORT_USAGE: u16 = 1 << 3;

/// IORING_NOTIF_USAGE_ZC_COPIED.
const COPIED: i32 = i32::MIN;

/// Bytes from which on a buffer is sent so. Into the kernel's sink over veth a copy cost the same as the bookkeeping of pages and second answers
/// at 8 and 16 KiB, and 8 % and 20 % of the rate at 32 and 64 KiB.
const WORTH_IT: usize = 24 << 10;

/// Bytes registered at most: half of what an ordinary user may lock (`ulimit -l` is 8 MiB), and more than a NIC has under way.
const MEMORY: usize = 4 << 20;

/// Buffers copied in a row after which it is given up. A single one may have waited for a neighbour.
const PATIENCE: u8 = 8;

/// Having given up, it is tried again with every so many-th buffer: a receiver may have left its socket for a program in the kernel.
const TRY_AGAIN: u16 = 1024;

/// Which buffers leave without being copied, and when they may be written again.
#[derive(Debug)]
pub(super) struct ZeroCopy {
    /// Buffers below this number are registered.
    buffers: u16,
    on: bool,
    states: Box<[State]>,
    /// Buffers whose second answer is awaited.
    awaited: usize,
    /// Buffers that the kernel copied, since it last did not.
    copied: u8,
    /// Buffers sent by copy since it was last tried.
    skipped: u16,
    told: Offload,
}

/// Of one buffer.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// It was sent without a copy, this time.
    asked: bool,
    /// The second answer is to come.
    awaited: bool,
    /// The fate of its packets is known.
    settled: bool,
}

impl ZeroCopy {
    /// Registers the first of `slots` with `ring`, when `wanted` and allowed; else nothing is ever sent so.
    ///
    /// # Safety
    /// [`unregister`](Self::unregister) has to succeed, with nothing awaited, before the slots are freed.
    pub(super) unsafe fn new(ring: &IoUring, slots: &mut Slots, wanted: bool, told: Offload) -> Self {
        let count = slots.count();
        let buffers = count.min(MEMORY / slots.stride()) as u16;
        let largest = slots.stride() >= WORTH_IT;
        let vector = libc::iovec {
            iov_base: slots.address_mut(0).cast(),
            iov_len: usize::from(buffers) * slots.stride(),
        };
        let on = wanted
            && largest
            && supported()
            // SAFETY: the memory belongs to the slots, which live until it is unregistered, as the caller promised.
            && unsafe { ring.submitter().register_buffers(&[vector]) }.is_ok();
        Self {
            buffers: if on { buffers } else { 0 },
            on,
            states: vec![State::default(); count].into_boxed_slice(),
            awaited: 0,
            copied: 0,
            skipped: 0,
            told,
        }
    }

    /// Takes the buffers away from the kernel.
    pub(super) fn unregister(&self, ring: &IoUring) -> io::Result<()> {
        if self.buffers == 0 { Ok(()) } else { ring.submitter().unregister_buffers() }
    }

    /// Buffers whose second answer is awaited.
    pub(super) fn awaited(&self) -> usize {
        self.awaited
    }

    /// Buffer `slot` is about to be sent, for the first time or `again`, with this content. Whether to do so without a copy.
    #[inline]
    pub(super) fn ask(&mut self, slot: u16, content: Content, again: bool) -> bool {
        let fit = !again && slot < self.buffers && content.bytes() >= WORTH_IT;
        if fit && !self.on {
            self.skipped = (self.skipped + 1) % TRY_AGAIN;
        }
        let asked = fit && (self.on || self.skipped == 0);
        self.states[usize::from(slot)].asked = asked;
        asked
    }

    /// The first answer for buffer `slot` was a refusal. Whether it was sent without a copy.
    pub(super) fn refused(&mut self, slot: u16) -> bool {
        mem::take(&mut self.states[usize::from(slot)].asked)
    }

    /// The first answer for buffer `slot` said that a second one follows.
    #[inline]
    pub(super) fn promised(&mut self, slot: u16) {
        self.states[usize::from(slot)].awaited = true;
        self.awaited += 1;
    }

    /// The fate of the packets in buffer `slot` is known. Whether it may be written again.
    #[inline]
    pub(super) fn settle(&mut self, slot: u16) -> bool {
        let state = &mut self.states[usize::from(slot)];
        state.settled = state.awaited;
        !state.awaited
    }

    /// The second answer for buffer `slot`. Whether it may be written again.
    #[inline]
    pub(super) fn notified(&mut self, slot: u16, usage: i32) -> bool {
        let state = &mut self.states[usize::from(slot)];
        let free = mem::take(&mut state.settled);
        state.awaited = false;
        self.awaited -= 1;
        // What was refused counts as copied, which tells nothing.
        if state.asked {
            self.learn(usage & COPIED != 0);
        }
        free
    }

    #[inline]
    fn learn(&mut self, copied: bool) {
        if !copied {
            self.copied = 0;
            self.on = true;
            self.told.set_zero_copy(true);
        } else if self.on {
            self.copied += 1;
            if self.copied == PATIENCE {
                self.on = false;
                self.told.set_zero_copy(false);
            }
        }
    }
}

/// The request that sends a message without a copy.
pub(super) fn request(message: opcode::SendMsgZc) -> squeue::Entry {
    message.ioprio(FIXED_BUFFER | REPORT_USAGE).flags(libc::MSG_DONTWAIT as u32).build()
}

/// Whether the kernel sends messages from registered buffers (Linux 6.15): older ones refuse the request before they look at its descriptor.
fn supported() -> bool {
    let Ok(mut ring) = ring::open(1, 4) else { return false };
    // SAFETY: all zeros is a valid msghdr: no vectors.
    let message: libc::msghdr = unsafe { mem::zeroed() };
    let request = request(opcode::SendMsgZc::new(Fd(-1), &raw const message));
    // SAFETY: the message outlives the ring's only request, which is refused while it is submitted, below.
    if unsafe { ring.submission().push(&request) }.is_err() {
        return false;
    }
    let _ = ring::submit_and_wait(&ring, Duration::from_millis(100));
    ring.completion().next().is_some_and(|answer| answer.result() == -libc::EBADF)
}
