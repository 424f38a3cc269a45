//! Receiving with one multishot `recvmsg` into a ring of buffers.
#![expect(unsafe_code, reason = "requests and buffers shared with the kernel")]

use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, Fixed, RecvMsgOut, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use socket2::Socket;

use super::buf_ring::{BufRing, GROUP};
use super::ring;
use crate::error::{Error, Result};
use crate::multicast::memberships::Memberships;
use crate::queue::socket::SocketDrops;
use crate::queue::socket::busy_poll::Polled;
use crate::queue::socket::offload::Offload;
use crate::queue::socket::received::{Addressing, NAME_LEN, buffer_len};
use crate::queue::socket::setup;
use crate::queue::socket::spin::Spin;
use crate::queue::spec::Interface;
use crate::queue::{QueueError, QueueLoss, Receive, RxSpec, Sink, StampCounts, Wait};

/// Buffers for a datagram each: enough that the ring seldom runs dry.
const BUFFERS: u16 = 256;

/// Buffers for many datagrams each.
const SUPER_BUFFERS: u16 = 16;

/// Bytes that the kernel may fill at once, as it uses the buffers in turn: what a CPU's second-level cache keeps. With 1 MiB a buffer of
/// 64 KiB took a tenth to a third longer when several were waiting.
const HOT_BYTES: usize = 256 << 10;

/// Buffers that the kernel has at least, however long they are.
const LEAST_BUFFERS: usize = 2;

const CACHE_LINE: usize = 64;

/// What the kernel writes before name, control messages and payload (`struct io_uring_recvmsg_out`).
const OUT_LEN: usize = 16;

/// A receive queue over io_uring: a standing request that the kernel answers once for each datagram. When the
/// buffers run out the request ends, datagrams stay in the socket's buffer, and it is made again.
/// Without UDP_GRO a datagram longer than [`RxSpec::max_payload`] is cut to that.
///
/// It stays on the thread that opened it: the ring belongs to that thread.
pub struct UringRx {
    ring: IoUring,
    /// Freed by hand, once the kernel has let go of it.
    buffers: ManuallyDrop<BufRing>,
    /// Buffers that the kernel has.
    with_kernel: usize,
    /// Buffers that it is to have at most.
    hot: usize,
    /// Buffers that it does not have, the one last used at the end.
    resting: Vec<u16>,
    socket: Socket,
    fixed: bool,
    /// The form of the answers; the kernel reads it when the request is made.
    form: Box<libc::msghdr>,
    addressing: Addressing,
    armed: bool,
    ran_dry: u64,
    stamps: StampCounts,
    spin: Spin,
    /// Waits run the driver.
    polls: bool,
    polled: Option<Polled>,
    granted: usize,
    offload: Offload,
    drops: SocketDrops,
    interface: Option<Interface>,
    /// Memberships that the socket does not hold itself.
    _held: Option<Memberships>,
}

impl UringRx {
    /// Opens a socket bound to the target, joined when it is a group, and a ring for it.
    ///
    /// # Errors
    /// Usage: the target does not fit. Environment: no io_uring here; interface missing or down, address or port not to be had,
    /// membership refused.
    pub fn open(spec: &RxSpec) -> Result<Self> {
        let count = if spec.segments.most() > 1 { SUPER_BUFFERS } else { BUFFERS };
        Self::with_sizes(spec, setup::wanted_buffer(spec), count)
    }

    /// As [`open`](Self::open), asking for so many bytes of receive buffer and so many buffers, a power of two.
    pub(in crate::queue::socket) fn with_sizes(
        spec: &RxSpec,
        receive_buffer: usize,
        count: u16,
    ) -> Result<Self> {
        let receiver = setup::receiver(spec, receive_buffer)?;
        // A completion for each buffer, and one more for the end of the request.
        let ring = ring::open(8, u32::from(count) * 2)?;
        let fixed = ring::register(&ring, &[receiver.socket.as_raw_fd()]);
        let polled = match spec.tuning.busy_poll {
            Some(_) => {
                ring::busy_poll(&ring)?;
                Some(Polled::of(&receiver.socket)?)
            }
            None => None,
        };
        // The payload begins with a cache line, or the kernel's copy takes a tenth longer.
        let before = (OUT_LEN + NAME_LEN + receiver.addressing.control_len()).next_multiple_of(CACHE_LINE);
        let control = before - OUT_LEN - NAME_LEN;
        // SAFETY: all zeros is a valid msghdr.
        let mut form: Box<libc::msghdr> = Box::new(unsafe { mem::zeroed() });
        form.msg_namelen = NAME_LEN as libc::socklen_t;
        form.msg_controllen = control;
        let size = before + buffer_len(spec, &receiver.addressing);
        // SAFETY: Drop unregisters it, or leaks it.
        let buffers = unsafe { BufRing::new(&ring, count, size) }.map_err(|error| {
            Error::environment("no ring of receive buffers (Linux 5.19)")
                .because(error)
                .fix("use --backend mmsg")
        })?;
        Ok(Self {
            ring,
            buffers: ManuallyDrop::new(buffers),
            with_kernel: usize::from(count),
            hot: usize::MAX,
            resting: Vec::with_capacity(usize::from(count)),
            socket: receiver.socket,
            fixed,
            form,
            addressing: receiver.addressing,
            armed: false,
            ran_dry: 0,
            stamps: StampCounts::default(),
            spin: Spin::default(),
            polls: polled.is_some(),
            polled,
            granted: receiver.granted,
            offload: Offload::of_receiver(spec, receiver.gro_refused),
            drops: SocketDrops::default(),
            interface: spec.interface.clone(),
            _held: receiver.held,
        })
    }

    /// Bytes of receive buffer that the kernel granted, of the 64 MiB asked for.
    pub fn receive_buffer(&self) -> usize {
        self.granted
    }

    /// How many datagrams the kernel may deliver as one buffer.
    pub fn offload(&self) -> Offload {
        self.offload.clone()
    }

    /// The socket, once, when waits on it run the driver.
    pub fn take_polled(&mut self) -> Option<Polled> {
        self.polled.take()
    }

    /// How often the ring of buffers ran dry: no loss, but a sign that the reader is slow.
    pub fn ran_dry(&self) -> u64 {
        self.ran_dry
    }

    /// Whether the interface that the queue was opened on was deleted: nothing else tells a receiver. A system call: not for the hot path.
    pub fn interface_gone(&self) -> bool {
        setup::interface_lost(&self.socket, self.interface.as_ref()) == Some(libc::ENODEV)
    }

    /// Queues the standing request.
    fn arm(&mut self) {
        let form = &raw const *self.form;
        let entry = if self.fixed {
            opcode::RecvMsgMulti::new(Fixed(0), form, GROUP).build()
        } else {
            opcode::RecvMsgMulti::new(Fd(self.socket.as_raw_fd()), form, GROUP).build()
        };
        // SAFETY: the form and the buffers live until Drop has cancelled the request.
        // There is room: no more than this one entry is ever queued.
        self.armed = unsafe { self.ring.submission().push(&entry) }.is_ok();
    }

    /// Gets completions into the ring, waiting as told when there are none.
    fn fetch(&mut self, wait: Wait) -> std::result::Result<(), QueueError> {
        if !self.armed {
            self.arm();
        }
        let (_, mut submission, completion) = self.ring.split();
        submission.sync();
        let queued = !submission.is_empty();
        let nothing_yet = completion.is_empty();
        let work_waits = nothing_yet && submission.taskrun();
        drop((submission, completion));
        if queued || work_waits {
            ring::submit(&self.ring)?;
        }
        // The work may come to nothing: what it was told of had been taken before.
        match wait {
            Wait::For(limit) if nothing_yet && self.ring.completion().is_empty() => self.wait(limit),
            _ => Ok(()),
        }
    }

    /// Waits at most for `limit` for completions. As long as it looks it makes no system call before the kernel sets a flag: there is work.
    fn wait(&mut self, limit: Duration) -> std::result::Result<(), QueueError> {
        if self.polls {
            return ring::submit_and_wait(&self.ring, limit);
        }
        let ring = &mut self.ring;
        let found = self.spin.find(limit, || {
            let (_, submission, completion) = ring.split();
            let work_waits = submission.taskrun();
            drop((submission, completion));
            if work_waits {
                ring::submit(ring)?;
            }
            Ok((!ring.completion().is_empty()).then_some(()))
        })?;
        match found {
            Some(()) => Ok(()),
            None => self.spin.sleep(|| ring::submit_and_wait(&self.ring, limit)),
        }
    }

    /// Gives buffers back, those first that were used last: no more than stay in the cache until they are looked at. With fewer the ring
    /// runs dry sooner, which costs less than buffers that come from memory.
    fn give_back(&mut self, delivered: usize, bytes: usize) {
        if delivered > 0 {
            self.hot = (HOT_BYTES * delivered).checked_div(bytes).unwrap_or(usize::MAX).max(LEAST_BUFFERS);
        }
        while self.with_kernel < self.hot {
            let Some(id) = self.resting.pop() else { break };
            self.buffers.give_back(id);
            self.with_kernel += 1;
        }
        self.buffers.publish();
    }
}

impl Receive for UringRx {
    fn poll<S: Sink>(&mut self, sink: &mut S, wait: Wait) -> std::result::Result<usize, QueueError> {
        self.fetch(wait)?;
        let mut completions = self.ring.completion();
        if completions.is_empty() {
            return Ok(0);
        }
        let mut when = self.addressing.taken();
        let (mut taken, mut delivered, mut bytes) = (0, 0, 0);
        let mut broken = None;
        for completion in &mut completions {
            let flags = completion.flags();
            self.armed &= cqueue::more(flags);
            let buffer = cqueue::buffer_select(flags);
            match (usize::try_from(completion.result()), buffer) {
                (Ok(len), Some(id)) => {
                    // SAFETY: the kernel has just completed a request with this buffer.
                    let answer = unsafe { self.buffers.filled(id, len) };
                    if let Ok(out) = RecvMsgOut::parse(answer, &self.form) {
                        let (name, control) = (out.name_data(), out.control_data());
                        let payload = out.payload_data();
                        delivered += 1;
                        bytes += payload.len();
                        taken += self.addressing.hand_over(sink, name, control, payload, &mut when);
                    }
                }
                (Ok(_), None) => {}
                (Err(_), _) => match -completion.result() {
                    libc::ENOBUFS => self.ran_dry += 1,
                    libc::EAGAIN | libc::EINTR | libc::ENOMEM | libc::ECANCELED => {}
                    errno => broken = Some(errno),
                },
            }
            if let Some(id) = buffer {
                self.resting.push(id);
                self.with_kernel -= 1;
            }
        }
        drop(completions);
        self.stamps.add(when.stamps);
        self.give_back(delivered, bytes);
        match broken {
            Some(errno) if taken == 0 => {
                Err(QueueError { call: "recvmsg (multishot)", source: io::Error::from_raw_os_error(errno) })
            }
            // It ended the request; made again, it says so again.
            _ => Ok(taken),
        }
    }

    fn stamps(&self) -> StampCounts {
        self.stamps
    }

    fn losses(&mut self, losses: &mut Vec<QueueLoss>) {
        self.drops.read(&self.socket, losses);
    }
}

impl Drop for UringRx {
    fn drop(&mut self) {
        let limit = Timespec::from(Duration::from_secs(1));
        let cancelled = self.ring.submitter().register_sync_cancel(Some(limit), CancelBuilder::any());
        let idle = match &cancelled {
            Ok(()) => true,
            // There was no request.
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        };
        // The end of the request is taken out of the kernel, and with it the last use of the socket.
        let _ = ring::submit_and_wait(&self.ring, Duration::ZERO);
        ring::release(&self.ring, self.fixed);
        if idle && self.buffers.unregister(&self.ring).is_ok() {
            // SAFETY: no request is left, the ring of buffers is taken away from the kernel, and self is not used again.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        }
        // Else the kernel may still write into the buffers: they are leaked.
    }
}
