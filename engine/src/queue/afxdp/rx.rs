//! Receiving frames: UDP datagrams out of an RX ring, and their frames back into the fill ring.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use super::last::{LONGEST, Last, NextFrame};
use super::sizes;
use super::socket::{Sizes, Socket};
use super::umem::{self, Frames, LARGE_CHUNK, Look, RX_HEADROOM, Received, SMALL_CHUNK};
use super::{Granted, Kernel};
use wirerate_ebpf_types::steer::Stamp;

use crate::clock;
use crate::clock::device::Shared;
use crate::error::{Error, Result};
use crate::packet::ethernet::{HEADER_LEN, TAG_LEN};
use crate::queue::ring::{Consumer, Desc, Producer, Relay};
use crate::queue::{QueueError, QueueLoss, Receive, RxSpec, Sink, StampCounts, Wait};
use crate::sys::xsk::Which;

/// Slots of the fill ring for each frame: the kernel shows a packet before it says that it has read the fill ring for it
/// (`xsk_flush`), so that a frame may come back while it still takes a slot.
pub(crate) const FILL_PER_FRAME: u32 = 2;
/// Descriptors taken before frames go back to the kernel.
const BATCH: u32 = 64;

/// A receive queue that reads frames.
#[derive(Debug)]
pub struct FrameRx<K> {
    kernel: K,
    ring: Consumer<Desc>,
    fill: Producer<u64>,
    frames: Received,
    /// The beginning of a packet that goes on in the next descriptor.
    beginning: Vec<u8>,
    /// The last frame's headers.
    last: Last,
    /// Frames that hold no UDP datagram.
    ignored: u64,
    /// `Some` where the program stamps frames: who did.
    stamps: Option<StampCounts>,
    /// The clock by which the NIC does, where the program asks for it.
    nic: Option<Arc<Shared>>,
}

impl FrameRx<Socket> {
    /// Opens a queue on the calling thread, which is to be pinned already: that is where its memory will lie. Packets arrive once
    /// [`fd`](Self::fd) is in the XSKMAP of an XDP program on the interface.
    ///
    /// # Errors
    /// `Usage` without an interface, `Environment` when the kernel refuses: see [`Socket::bind`].
    pub fn open(spec: &RxSpec) -> Result<Self> {
        let Some(interface) = &spec.interface else {
            return Err(Error::usage("AF_XDP needs an interface to receive on")
                .fix("name it with --iface, see ip link"));
        };
        let longest = interface.mtu as usize + HEADER_LEN + 2 * TAG_LEN;
        let fits = |chunk: u32| longest <= (chunk - RX_HEADROOM) as usize;
        // Half the memory for the usual MTU: each frame is used in turn, and shares the cache with all others.
        let chunk = if fits(SMALL_CHUNK) { SMALL_CHUNK } else { LARGE_CHUNK };
        let slots = spec.tuning.rx_ring.unwrap_or_else(|| sizes::rx(interface));
        let frames = spec.tuning.rx_frames.unwrap_or(slots);
        let fill = FILL_PER_FRAME * frames.next_power_of_two();
        let memory = umem::create(chunk, 1, frames, fill, 1, spec.tuning.huge_pages)?;
        let sizes = Sizes { rx: slots, tx: 1, fill, completion: 1 };
        let socket = Socket::bind(interface, spec.queue, &memory, sizes, !fits(chunk), spec.tuning)?;
        let ring = socket.map_packets(Which::Rx)?.consumer();
        let fill = socket.map_addresses(Which::Fill)?.producer();
        let mut rx = Self::new(socket, ring, fill, memory.frames);
        rx.stamps = spec.tuning.kernel_stamps.then(StampCounts::default);
        rx.nic.clone_from(&spec.nic_clock);
        rx.kernel.wake_rx().map_err(|e| {
            Error::failed(format!("{} queue {}: the driver cannot receive", interface.name, spec.queue))
                .because(e)
        })?;
        Ok(rx)
    }

    /// The socket's descriptor, for the XSKMAP.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.kernel.fd()
    }

    /// What the kernel granted.
    pub fn granted(&self) -> &Granted {
        self.kernel.granted()
    }

    /// Has waiting end, too, when `fd` becomes readable.
    pub fn wait_for_too(&mut self, fd: OwnedFd) {
        self.kernel.wait_for_too(fd);
    }
}

impl<K: Kernel> FrameRx<K> {
    /// A queue whose rings and frames are there already. Gives all of the frames to the kernel.
    pub(crate) fn new(kernel: K, ring: Consumer<Desc>, mut fill: Producer<u64>, frames: Frames<()>) -> Self {
        fill.reserve(frames.free() as u32);
        let frames = Received::lend(frames, |address| fill.write(address));
        fill.commit();
        let beginning = Vec::with_capacity(LONGEST);
        Self {
            kernel,
            ring,
            fill,
            frames,
            beginning,
            last: Last::default(),
            ignored: 0,
            stamps: None,
            nic: None,
        }
    }

    /// Frames that arrived and hold no UDP datagram: fragments, other protocols, lengths that contradict each other.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Whoever has the other end of the rings.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Waits until something is there; returns the descriptors to be read.
    #[inline]
    fn ready(&mut self, wait: Wait) -> io::Result<u32> {
        let ready = self.ring.available(1);
        if ready > 0 {
            return Ok(ready);
        }
        if self.kernel.polls() {
            return self.poll_driver(wait);
        }
        if self.fill.needs_wakeup() {
            self.kernel.wake_rx()?;
        }
        let Wait::For(at_most) = wait else { return Ok(0) };
        self.kernel.wait_rx(at_most)?;
        let ready = self.ring.available(1);
        if ready == 0 {
            // poll(2) does not tell that the interface went away.
            self.kernel.wake_rx()?;
        }
        Ok(ready)
    }

    /// Has the driver look for packets until there are some: it does so in this system call, on this CPU, and not otherwise.
    fn poll_driver(&mut self, wait: Wait) -> io::Result<u32> {
        let deadline = match wait {
            Wait::No => None,
            Wait::For(at_most) => Some(Instant::now() + at_most),
        };
        loop {
            self.kernel.wake_rx()?;
            let ready = self.ring.available(1);
            if ready > 0 || deadline.is_none_or(|d| Instant::now() >= d) {
                return Ok(ready);
            }
        }
    }
}

impl<K: Kernel> Receive for FrameRx<K> {
    fn poll<S: Sink>(&mut self, sink: &mut S, wait: Wait) -> std::result::Result<usize, QueueError> {
        let broken = |source| QueueError { call: "recvfrom (AF_XDP)", source };
        let ready = self.ready(wait).map_err(broken)?;
        if ready == 0 {
            return Ok(0);
        }
        let now_ns = clock::tai_ns();
        let line = self.nic.as_deref().map(Shared::line);
        self.last.batch(now_ns);
        // There are enough slots for each frame to be there twice.
        self.fill.reserve(BATCH);
        let rings = Relay::new(&mut self.ring, &mut self.fill, BATCH);
        // Counted are the few that hold no payload or not the whole of one.
        let mut payloads = rings.left() as usize;
        let mut arrived = Arrived { rings, frames: self.frames.look() };
        loop {
            // Each frame has a time of its own where the program stamps them, and pieces of a packet have headers in the first only.
            if self.stamps.is_none() && self.beginning.is_empty() {
                self.last.turns(&mut arrived, sink);
            }
            let Some(desc) = arrived.rings.peek() else { break };
            // A packet in several frames has one before the first.
            if let Some(stamps) = &mut self.stamps
                && self.beginning.is_empty()
            {
                let stamp = stamp_of(&arrived.frames, desc).filter(|stamp| stamp.tai_ns <= now_ns);
                let seen_ns = stamp.map(|stamp| stamp.tai_ns);
                let arrived_ns = match line {
                    Some(line) => {
                        let nic_ns = stamp.map(|stamp| stamp.nic_ns).filter(|&ns| ns > 0);
                        stamps.enter(line, nic_ns, seen_ns, now_ns, 1)
                    }
                    None => {
                        stamps.missing += u64::from(seen_ns.is_none());
                        seen_ns.unwrap_or(now_ns)
                    }
                };
                self.last.batch(arrived_ns);
            }
            let Some(bytes) = arrived.frames.bytes(desc) else {
                arrived.rings.keep();
                self.ignored += 1;
                payloads -= 1;
                continue;
            };
            let delivered = self.last.other(bytes, desc, &mut self.beginning, sink);
            payloads -= usize::from(delivered != Some(true));
            self.ignored += u64::from(delivered == Some(false));
            arrived.rings.pass_on(desc.address);
            if self.stamps.is_none() && self.beginning.is_empty() {
                self.last.again(&mut arrived, sink);
            }
        }
        drop(arrived);
        self.ring.release();
        self.fill.commit();
        Ok(payloads)
    }

    fn losses(&mut self, losses: &mut Vec<QueueLoss>) {
        self.kernel.losses(losses);
    }

    fn stamps(&self) -> StampCounts {
        self.stamps.unwrap_or_default()
    }
}

/// Frames that arrived, which go into the fill ring one by one as they are taken.
struct Arrived<'a, 'r> {
    rings: Relay<'r, Desc, u64>,
    frames: Look<'a>,
}

impl<'a> NextFrame<'a> for Arrived<'a, '_> {
    #[inline(always)]
    fn next_if<T>(&mut self, len: u32, wanted: impl FnOnce(&'a [u8]) -> Option<T>) -> Option<T> {
        let desc = self.rings.peek()?;
        let wanted = wanted(self.frames.alone(desc, len)?)?;
        self.rings.pass_on(desc.address);
        Some(wanted)
    }
}

/// The times that the program wrote before a frame, if it did.
#[inline]
fn stamp_of(frames: &Look<'_>, desc: Desc) -> Option<Stamp> {
    const LEN: u32 = size_of::<Stamp>() as u32;
    let before = Desc { address: desc.address.checked_sub(LEN.into())?, len: LEN, ..desc };
    let bytes: &[u8; LEN as usize] = frames.bytes(before)?.first_chunk()?;
    let number = |at: usize| bytes[at..].first_chunk().map(|b| u64::from_ne_bytes(*b));
    Some(Stamp { tai_ns: number(0)?, nic_ns: number(8)?, mark: number(16)? }).filter(Stamp::is_one)
}
