//! Receiving frames: UDP datagrams out of an RX ring, and their frames back into the fill ring.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;

use super::last::Last;
use super::socket::{Sizes, Socket};
use super::umem::{self, Frame, Frames, LARGE_CHUNK, RX_HEADROOM};
use super::{Granted, Kernel};
use crate::clock;
use crate::error::{Error, Result};
use crate::packet::ethernet::{HEADER_LEN, TAG_LEN};
use crate::queue::ring::{Consumer, Desc, MORE, Producer};
use crate::queue::{QueueError, QueueLoss, Receive, RxSpec, Sink, Wait};
use crate::sys::xsk::Which;

/// Slots of the RX ring, and frames. What arrives while the worker is off its CPU waits there.
pub(crate) const RING: u32 = 8192;
/// Slots of the fill ring: more than there are frames, because the kernel shows a packet before it says that it has read the
/// fill ring for it (`xsk_flush`), so that a frame may come back while it still takes a slot.
pub(crate) const FILL: u32 = 2 * RING;
/// Descriptors taken before frames go back to the kernel.
const BATCH: u32 = 64;
/// Longest packet that is put together from several frames, bytes.
const LONGEST: usize = (1 << 16) + 256;

/// A receive queue that reads frames.
#[derive(Debug)]
pub struct FrameRx<K> {
    kernel: K,
    ring: Consumer<Desc>,
    fill: Producer<u64>,
    frames: Frames,
    /// The beginning of a packet that goes on in the next descriptor.
    beginning: Vec<u8>,
    /// The last frame's headers.
    last: Last,
    /// Frames that hold no UDP datagram.
    ignored: u64,
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
        let (umem, frames, free) = umem::create(LARGE_CHUNK, 1, RING, FILL, 1)?;
        let sizes = Sizes { rx: RING, tx: 1, fill: FILL, completion: 1 };
        let longest = interface.mtu as usize + HEADER_LEN + 2 * TAG_LEN;
        let large = longest > (LARGE_CHUNK - RX_HEADROOM) as usize;
        let socket = Socket::bind(interface, spec.queue, &umem, sizes, large)?;
        let ring = socket.map_packets(Which::Rx)?.consumer();
        let fill = socket.map_addresses(Which::Fill)?.producer();
        let mut rx = Self::new(socket, ring, fill, frames, free);
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
}

impl<K: Kernel> FrameRx<K> {
    /// A queue whose rings and frames are there already. Gives all of the frames, `free`, to the kernel.
    pub(crate) fn new(
        kernel: K,
        ring: Consumer<Desc>,
        mut fill: Producer<u64>,
        mut frames: Frames,
        free: Vec<Frame>,
    ) -> Self {
        fill.reserve(free.len() as u32);
        for frame in free {
            frames.lend(frame, 1, |desc| fill.write(desc.address));
        }
        fill.commit();
        let beginning = Vec::with_capacity(LONGEST);
        Self { kernel, ring, fill, frames, beginning, last: Last::default(), ignored: 0 }
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
}

/// Adds a piece to the beginning of a packet; whether that is the whole of it.
#[cold]
fn piece(beginning: &mut Vec<u8>, bytes: &[u8], desc: Desc) -> bool {
    // Cut off rather than grown: what does not fit any IP packet fails to parse.
    let room = LONGEST - beginning.len();
    beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
    desc.options & MORE == 0
}

impl<K: Kernel> Receive for FrameRx<K> {
    fn poll<S: Sink>(&mut self, sink: &mut S, wait: Wait) -> std::result::Result<usize, QueueError> {
        let broken = |source| QueueError { call: "recvfrom (AF_XDP)", source };
        let ready = self.ready(wait).map_err(broken)?;
        if ready == 0 {
            return Ok(0);
        }
        self.last.batch(clock::tai_ns());
        // There are enough slots for each frame to be there twice.
        self.fill.reserve(BATCH);
        let mut fill = self.fill.slots();
        let mut payloads = 0;
        for desc in self.ring.filled(BATCH) {
            let Some((bytes, address)) = self.frames.received(desc) else {
                self.ignored += 1;
                continue;
            };
            if desc.options & MORE == 0 && self.beginning.is_empty() {
                if self.last.deliver(bytes, sink) {
                    payloads += 1;
                } else {
                    self.ignored += 1;
                }
            } else if piece(&mut self.beginning, bytes, desc) {
                let delivered = self.last.deliver(&self.beginning, sink);
                self.beginning.clear();
                payloads += usize::from(delivered);
                self.ignored += u64::from(!delivered);
            }
            fill.write(address);
        }
        drop(fill);
        self.ring.release();
        self.fill.commit();
        Ok(payloads)
    }

    fn losses(&mut self, losses: &mut Vec<QueueLoss>) {
        self.kernel.losses(losses);
    }
}
