//! Receiving with `recvmmsg`.
#![expect(unsafe_code, reason = "recvmmsg takes pointers to the messages")]

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::poll::PollFlags;
use socket2::Socket;

use crate::error::Result;
use crate::multicast::memberships::Memberships;
use crate::queue::socket::busy_poll::{self, Polled};
use crate::queue::socket::offload::Offload;
use crate::queue::socket::outgoing::wait_for;
use crate::queue::socket::received::{Addressing, CONTROL_LEN, NAME_LEN, buffer_len};
use crate::queue::socket::setup;
use crate::queue::socket::slots::stride;
use crate::queue::socket::spin::Spin;
use crate::queue::socket::{BATCH, SocketDrops};
use crate::queue::spec::Interface;
use crate::queue::{QueueError, QueueLoss, Receive, RxSpec, Sink, StampCounts, Wait};

/// Bytes taken at once at most: what a CPU's second-level cache keeps until they are looked at.
const HOT_BYTES: usize = 256 << 10;

/// Where the kernel writes one datagram's addresses.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
struct Addresses {
    control: [u8; CONTROL_LEN],
    name: [u8; NAME_LEN],
}

/// A receive queue over `recvmmsg`. Without UDP_GRO a datagram longer than [`RxSpec::max_payload`] is cut to that.
///
/// It stays on the thread that opened it.
#[derive(Debug)]
pub struct MmsgRx {
    socket: Socket,
    addressing: Addressing,
    granted: usize,
    offload: Offload,
    drops: SocketDrops,
    interface: Option<Interface>,
    /// Memberships that the socket does not hold itself.
    _held: Option<Memberships>,
    stride: usize,
    /// Messages to ask for: fewer when they are long.
    ask: usize,
    stamps: StampCounts,
    spin: Spin,
    polled: Option<Polled>,
    memory: Box<[u8]>,
    addresses: Box<[Addresses]>,
    messages: Box<[libc::mmsghdr]>,
    /// The messages point to these.
    _vectors: Box<[libc::iovec]>,
}

impl MmsgRx {
    /// Opens a socket bound to the target, joined when it is a group.
    ///
    /// # Errors
    /// Usage: the target does not fit. Environment: interface missing or down, address or port not to be had,
    /// membership refused.
    pub fn open(spec: &RxSpec) -> Result<Self> {
        Self::with_buffer(spec, setup::wanted_buffer(spec))
    }

    /// As [`open`](Self::open), asking for so many bytes of receive buffer.
    pub(in crate::queue::socket) fn with_buffer(spec: &RxSpec, buffer: usize) -> Result<Self> {
        let receiver = setup::receiver(spec, buffer)?;
        let polled =
            spec.tuning.busy_poll.map(|budget| busy_poll::begin(&receiver.socket, budget)).transpose()?;
        let len = buffer_len(spec, &receiver.addressing);
        let stride = stride(len);
        let mut memory = vec![0u8; stride * BATCH].into_boxed_slice();
        let mut addresses =
            vec![Addresses { control: [0; CONTROL_LEN], name: [0; NAME_LEN] }; BATCH].into_boxed_slice();
        let mut vectors: Box<[libc::iovec]> = memory
            .chunks_exact_mut(stride)
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: len })
            .collect();
        let messages = vectors.iter_mut().zip(&mut addresses).map(|(v, a)| message(v, a)).collect();
        Ok(Self {
            socket: receiver.socket,
            addressing: receiver.addressing,
            granted: receiver.granted,
            offload: Offload::of_receiver(spec, receiver.gro_refused),
            drops: SocketDrops::default(),
            interface: spec.interface.clone(),
            _held: receiver.held,
            stride,
            ask: BATCH,
            stamps: StampCounts::default(),
            spin: Spin::default(),
            polled,
            memory,
            addresses,
            messages,
            _vectors: vectors,
        })
    }

    /// Bytes of receive buffer that the kernel granted, of the 64 MiB asked for.
    pub fn receive_buffer(&self) -> usize {
        self.granted
    }

    /// The socket, once, when reading from it runs the driver.
    pub fn take_polled(&mut self) -> Option<Polled> {
        self.polled.take()
    }

    /// Bytes of receive buffer in use.
    #[cfg(test)]
    pub(in crate::queue::socket) fn charged(&self) -> u32 {
        crate::sys::socket::memory(std::os::fd::AsFd::as_fd(&self.socket)).expect("Linux 4.12")
            [libc::SK_MEMINFO_RMEM_ALLOC as usize]
    }

    /// How many datagrams the kernel may deliver as one buffer.
    pub fn offload(&self) -> Offload {
        self.offload.clone()
    }

    /// Whether the interface that the queue was opened on was deleted: nothing else tells a receiver. A system call: not for the hot path.
    pub fn interface_gone(&self) -> bool {
        setup::interface_lost(&self.socket, self.interface.as_ref()) == Some(libc::ENODEV)
    }

    /// Takes what has arrived, without waiting.
    fn take(&mut self) -> std::result::Result<usize, QueueError> {
        let control_len = self.addressing.control_len();
        for message in &mut self.messages[..self.ask] {
            message.msg_hdr.msg_namelen = NAME_LEN as libc::socklen_t;
            message.msg_hdr.msg_controllen = control_len;
        }
        // SAFETY: messages, vectors, buffers and addresses are owned by self, and their lengths are true; no timeout.
        let taken = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                self.ask as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if taken >= 0 {
            return Ok(taken.unsigned_abs() as usize);
        }
        let source = io::Error::last_os_error();
        match source.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR | libc::ENOMEM | libc::ENOBUFS) => Ok(0),
            _ => Err(QueueError { call: "recvmmsg", source }),
        }
    }
}

impl MmsgRx {
    /// Waits at most for `limit`, and takes what has arrived.
    fn wait(&mut self, limit: Duration) -> std::result::Result<usize, QueueError> {
        let mut spin = mem::take(&mut self.spin);
        let found = spin.find(limit, || Ok(Some(self.take()?).filter(|&taken| taken > 0)));
        let taken = match found {
            Ok(None) => {
                spin.sleep(|| wait_for(&self.socket, PollFlags::POLLIN, limit)).and_then(|()| self.take())
            }
            found => found.map(Option::unwrap_or_default),
        };
        self.spin = spin;
        taken
    }
}

impl Receive for MmsgRx {
    fn poll<S: Sink>(&mut self, sink: &mut S, wait: Wait) -> std::result::Result<usize, QueueError> {
        let mut taken = self.take()?;
        if let Wait::For(limit) = wait
            && taken == 0
        {
            taken = self.wait(limit)?;
        }
        if taken == 0 {
            return Ok(0);
        }
        let mut when = self.addressing.taken();
        let (mut datagrams, mut bytes) = (0, 0);
        for n in 0..taken {
            let header = &self.messages[n];
            let addresses = &self.addresses[n];
            let name = &addresses.name[..NAME_LEN.min(header.msg_hdr.msg_namelen as usize)];
            let control = &addresses.control[..CONTROL_LEN.min(header.msg_hdr.msg_controllen)];
            let payload = &self.memory[n * self.stride..][..header.msg_len as usize];
            datagrams += self.addressing.hand_over(sink, name, control, payload, &mut when);
            bytes += payload.len();
        }
        self.stamps.add(when.stamps);
        self.ask = (HOT_BYTES * taken).checked_div(bytes).unwrap_or(BATCH).clamp(1, BATCH);
        Ok(datagrams)
    }

    fn stamps(&self) -> StampCounts {
        self.stamps
    }

    fn losses(&mut self, losses: &mut Vec<QueueLoss>) {
        self.drops.read(&self.socket, losses);
    }
}

/// A message of one buffer with room for the addresses.
fn message(vector: &mut libc::iovec, addresses: &mut Addresses) -> libc::mmsghdr {
    // SAFETY: all zeros is a valid mmsghdr.
    let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
    message.msg_hdr.msg_iov = vector;
    message.msg_hdr.msg_iovlen = 1;
    message.msg_hdr.msg_name = addresses.name.as_mut_ptr().cast();
    message.msg_hdr.msg_control = addresses.control.as_mut_ptr().cast();
    message
}
