//! Whole frames through AF_XDP, whatever they hold: for what passes frames on instead of making or reading them.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::rx::FILL_PER_FRAME;
use super::sizes;
use super::socket::{Sizes, Socket};
use super::umem::{self, Frame, Frames, LARGE_CHUNK, RX_HEADROOM, Received, SMALL_CHUNK};
use super::{Kernel, Woken};
use crate::error::{Error, Result};
use crate::packet::ethernet::{HEADER_LEN, TAG_LEN};
use crate::queue::QueueLoss;
use crate::queue::ring::{Consumer, Desc, MORE, Producer};
use crate::queue::spec::{Interface, Tuning};
use crate::sys::xsk::Which;

/// Frames looked at before they go back to the kernel.
const BATCH: u32 = 64;

/// The chunk that the frames of an interface fit into.
fn chunk(interface: &Interface) -> Result<u32> {
    let longest = interface.mtu as usize + HEADER_LEN + 2 * TAG_LEN + RX_HEADROOM as usize;
    [SMALL_CHUNK, LARGE_CHUNK].into_iter().find(|chunk| longest <= *chunk as usize).ok_or_else(|| {
        let most = LARGE_CHUNK as usize - RX_HEADROOM as usize - HEADER_LEN - 2 * TAG_LEN;
        Error::environment(format!(
            "{}: frames of an MTU of {} take several chunks",
            interface.name, interface.mtu
        ))
        .fix(format!("ip link set {} mtu {most}, or another datapath", interface.name))
    })
}

/// Receives frames of one queue.
#[derive(Debug)]
pub struct RawRx {
    kernel: Socket,
    ring: Consumer<Desc>,
    fill: Producer<u64>,
    frames: Received,
}

impl RawRx {
    /// Opens `queue`; frames arrive once [`fd`](Self::fd) is in the XSKMAP of an XDP program on the interface.
    ///
    /// # Errors
    /// As [`Socket::bind`], and Environment when frames do not fit into a page.
    pub fn open(interface: &Interface, queue: u32) -> Result<Self> {
        let chunk = chunk(interface)?;
        let tuning = Tuning::default();
        let slots = sizes::rx(interface);
        let fill = FILL_PER_FRAME * slots;
        let memory = umem::create(chunk, 1, slots, fill, 1, tuning.huge_pages)?;
        let sizes = Sizes { rx: slots, tx: 1, fill, completion: 1 };
        let mut kernel = Socket::bind(interface, queue, &memory, sizes, false, tuning)?;
        let ring = kernel.map_packets(Which::Rx)?.consumer();
        let mut fill = kernel.map_addresses(Which::Fill)?.producer();
        fill.reserve(memory.free.len() as u32);
        let frames = Received::lend(memory.frames, memory.free, |address| fill.write(address));
        fill.commit();
        kernel.wake_rx().map_err(|e| {
            Error::failed(format!("{} queue {queue}: the driver cannot receive", interface.name)).because(e)
        })?;
        Ok(Self { kernel, ring, fill, frames })
    }

    /// The socket's descriptor, for the XSKMAP.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.kernel.fd()
    }

    /// Gives what is there, up to a batch of frames, to `each`; how many. Waits for nothing.
    ///
    /// # Errors
    /// ENXIO and ENETDOWN when the interface is gone or down.
    pub fn poll(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<usize> {
        let ready = self.ring.available(1);
        if ready == 0 {
            if self.fill.needs_wakeup() {
                self.kernel.wake_rx()?;
            }
            return Ok(0);
        }
        self.fill.reserve(BATCH);
        let mut fill = self.fill.slots();
        let frames = self.frames.look();
        let mut count = 0;
        for desc in self.ring.filled(BATCH) {
            count += 1;
            // A frame in several pieces is longer than any that the interface may have.
            if desc.options & MORE == 0
                && let Some(bytes) = frames.bytes(desc)
            {
                each(bytes);
            }
            fill.write(desc.address);
        }
        drop(fill);
        self.ring.release();
        self.fill.commit();
        Ok(count)
    }

    /// Waits until there is something.
    ///
    /// # Errors
    /// When waiting is not possible.
    pub fn wait(&mut self, at_most: Duration) -> io::Result<()> {
        self.kernel.wait_rx(at_most)
    }

    /// Appends the frames that the kernel dropped at this queue.
    pub fn losses(&mut self, losses: &mut Vec<QueueLoss>) {
        self.kernel.losses(losses);
    }
}

/// Sends frames by one queue.
#[derive(Debug)]
pub struct RawTx {
    kernel: Socket,
    ring: Producer<Desc>,
    completion: Consumer<u64>,
    frames: Frames,
    free: Vec<Frame>,
}

impl RawTx {
    /// Opens `queue`.
    ///
    /// # Errors
    /// As [`RawRx::open`].
    pub fn open(interface: &Interface, queue: u32) -> Result<Self> {
        let chunk = chunk(interface)?;
        let tuning = Tuning::default();
        let slots = sizes::tx(interface);
        let memory = umem::create(chunk, 1, slots, 1, slots, tuning.huge_pages)?;
        let sizes = Sizes { rx: 1, tx: slots, fill: 1, completion: slots };
        let kernel = Socket::bind(interface, queue, &memory, sizes, false, tuning)?;
        let ring = kernel.map_packets(Which::Tx)?.producer();
        let completion = kernel.map_addresses(Which::Completion)?.consumer();
        Ok(Self { kernel, ring, completion, frames: memory.frames, free: memory.free })
    }

    /// Writes `frame` into the ring; false when there is no room, or it is too long.
    pub fn put(&mut self, frame: &[u8]) -> bool {
        if self.free.is_empty() {
            self.reap();
        }
        let fits = frame.len() <= self.frames.size() as usize;
        let Some(mut token) = self.free.pop_if(|_| fits) else { return false };
        if self.ring.reserve(1) == 0 {
            self.free.push(token);
            return false;
        }
        self.frames.bytes_mut(&mut token)[..frame.len()].copy_from_slice(frame);
        let ring = &mut self.ring;
        // It fits, so that its length is less than a chunk's.
        self.frames.lend(token, frame.len() as u32, |desc| ring.write(desc));
        true
    }

    /// Has the kernel send what was put; how many frames it dropped instead.
    ///
    /// # Errors
    /// ENXIO and ENETDOWN when the interface is gone or down.
    pub fn flush(&mut self) -> io::Result<u64> {
        self.ring.commit();
        let mut dropped = 0;
        // Copying, each call sends some tens of frames.
        for _ in 0..=self.ring.pending() {
            if self.ring.pending() == 0 {
                break;
            }
            match self.kernel.wake_tx()? {
                Woken::Done | Woken::More => {}
                Woken::Refused => dropped += 1,
                Woken::Later => break,
            }
            self.reap();
        }
        Ok(dropped)
    }

    fn reap(&mut self) {
        while self.completion.available(1) > 0 {
            let Some(address) = self.completion.read() else { break };
            self.free.extend(self.frames.take_back(address));
        }
        self.completion.release();
    }
}
