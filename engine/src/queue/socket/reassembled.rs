//! Datagrams that came in fragments, for a queue that takes all others past the kernel: the kernel puts them together (RFC 791 §3.2, RFC 8200 §4.5) and
//! delivers them to these sockets.
#![expect(unsafe_code, reason = "recvmmsg takes pointers to the messages")]

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::Socket;

use super::SocketDrops;
use super::received::{Addressing, CONTROL_LEN, NAME_LEN};
use super::setup::{self, RECEIVE_BUFFER};
use crate::error::{Error, Result};
use crate::multicast::memberships::Memberships;
use crate::packet::probe::{Kind, Probe};
use crate::profile::segments::Segments;
use crate::queue::{QueueError, QueueLoss, RxMeta, RxSpec, Sink, StampCounts};
use crate::target::Target;

/// Datagrams taken from a socket at once, and sockets looked at.
const BATCH: usize = 16;

/// Batches that may have come before the first look; a socket's buffer does not hold more.
const EARLY: usize = 8192;

/// Bytes of each buffer: no datagram is longer.
const BUFFER: usize = 1 << 16;

/// A socket for each target. All share their buffers.
///
/// What comes to them whole did not take the other way because nobody waited there, as at a NIC queue without an AF_XDP socket: it is counted and thrown
/// away, because a receiver of some queues is to receive these. Messages of the end of a stream are kept: they say how much was sent.
#[derive(Debug)]
pub struct ReassembledRx {
    sockets: Vec<Bound>,
    /// Readable when one of the sockets is.
    epoll: Epoll,
    memory: Box<[u8]>,
    /// Whole datagrams since the first look.
    passed: u64,
    /// Whether there was a first look.
    started: bool,
}

#[derive(Debug)]
struct Bound {
    socket: Socket,
    addressing: Addressing,
    drops: SocketDrops,
    stamps: StampCounts,
    /// Memberships that the socket does not hold itself.
    _held: Option<Memberships>,
}

/// Hands datagrams on with addresses as they stand in a frame: without a scope.
struct Unscoped<'a, S>(&'a mut S);

impl<S: Sink> Sink for Unscoped<'_, S> {
    fn run(&mut self, meta: &RxMeta, buf: &[u8], stride: usize, count: usize) {
        let mut meta = *meta;
        for address in [&mut meta.source, &mut meta.destination] {
            if let SocketAddr::V6(v6) = address {
                v6.set_scope_id(0);
            }
        }
        self.0.run(&meta, buf, stride, count);
    }
}

impl ReassembledRx {
    /// Opens a socket for each of `targets`, of so many groups from the target's on, as `spec` says otherwise.
    ///
    /// # Errors
    /// As [`MmsgRx::open`](super::MmsgRx::open).
    pub fn open(spec: &RxSpec, targets: &[(Target, u16)]) -> Result<Self> {
        let failed = |e: Errno| Error::failed("epoll").because(e);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        let mut sockets = Vec::with_capacity(targets.len());
        for (&(target, groups), n) in targets.iter().zip(0..) {
            let spec = RxSpec { target, groups, segments: Segments::Off, ..spec.clone() };
            let receiver = setup::receiver(&spec, RECEIVE_BUFFER)?;
            epoll.add(&receiver.socket, EpollEvent::new(EpollFlags::EPOLLIN, n)).map_err(failed)?;
            sockets.push(Bound {
                socket: receiver.socket,
                _held: receiver.held,
                addressing: receiver.addressing,
                drops: SocketDrops::default(),
                stamps: StampCounts::default(),
            });
        }
        let memory = vec![0; BATCH * BUFFER].into_boxed_slice();
        Ok(Self { sockets, epoll, memory, passed: 0, started: false })
    }

    /// Readable when something is there to be taken.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Hands what has arrived in fragments to `sink`, without waiting. Returns the number of payloads.
    ///
    /// # Errors
    /// When a socket is broken.
    pub fn take<S: Sink>(&mut self, sink: &mut S) -> std::result::Result<usize, QueueError> {
        let mut payloads = 0;
        for _ in 0..if self.started { 1 } else { EARLY } {
            let mut events = [EpollEvent::empty(); BATCH];
            let ready = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(QueueError { call: "epoll_wait", source: error.into() }),
            };
            for event in &events[..ready] {
                payloads += self.take_from(event.data() as usize, sink)?;
            }
            if ready == 0 {
                break;
            }
        }
        if !mem::replace(&mut self.started, true) {
            self.passed = 0;
        }
        Ok(payloads)
    }

    fn take_from<S: Sink>(&mut self, n: usize, sink: &mut S) -> std::result::Result<usize, QueueError> {
        let Bound { socket, addressing, stamps, .. } = &mut self.sockets[n];
        let mut names = [[0u8; NAME_LEN]; BATCH];
        let mut controls = [[0u64; CONTROL_LEN / 8]; BATCH];
        // SAFETY: all zeros are valid for both.
        let (mut messages, mut vectors): ([libc::mmsghdr; BATCH], [libc::iovec; BATCH]) =
            unsafe { mem::zeroed() };
        let parts = vectors.iter_mut().zip(self.memory.chunks_exact_mut(BUFFER));
        for (((message, (vector, buffer)), name), control) in
            messages.iter_mut().zip(parts).zip(&mut names).zip(&mut controls)
        {
            *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            let header = &mut message.msg_hdr;
            (header.msg_iov, header.msg_iovlen) = (vector, 1);
            (header.msg_name, header.msg_namelen) = (name.as_mut_ptr().cast(), NAME_LEN as libc::socklen_t);
            (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), CONTROL_LEN);
        }
        // SAFETY: the messages point to what was set up above, which is borrowed for as long as the call lasts, and their lengths are true; no timeout.
        let taken = unsafe {
            let flags = libc::MSG_DONTWAIT;
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as u32,
                flags,
                std::ptr::null_mut(),
            )
        };
        if taken < 0 {
            let source = io::Error::last_os_error();
            return match source.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR | libc::ENOMEM | libc::ENOBUFS) => Ok(0),
                _ => Err(QueueError { call: "recvmmsg", source }),
            };
        }
        let mut when = addressing.taken();
        let sink = &mut Unscoped(sink);
        let mut payloads = 0;
        let buffers = self.memory.chunks_exact(BUFFER);
        for (((message, buffer), name), control) in
            messages.iter().zip(buffers).zip(&names).zip(&controls).take(taken.unsigned_abs() as usize)
        {
            let header = &message.msg_hdr;
            let name = &name[..NAME_LEN.min(header.msg_namelen as usize)];
            // SAFETY: plain integers of so many bytes.
            let control: &[u8; CONTROL_LEN] = unsafe { &*std::ptr::from_ref(control).cast() };
            let control = &control[..CONTROL_LEN.min(header.msg_controllen)];
            let payload = &buffer[..message.msg_len as usize];
            if !addressing.is_wanted(name, control) {
                continue;
            }
            if addressing.hand_over_reassembled(sink, name, control, payload, &mut when) {
                payloads += 1;
            } else if Probe::parse(payload).is_ok_and(|probe| probe.kind != Kind::Data) {
                payloads += addressing.hand_over(sink, name, control, payload, &mut when);
            } else {
                self.passed += 1;
            }
        }
        stamps.add(when.stamps);
        Ok(payloads)
    }

    /// Who stamped the payloads, where stamps were asked for.
    pub fn stamps(&self) -> StampCounts {
        let mut sum = StampCounts::default();
        self.sockets.iter().for_each(|bound| sum.add(bound.stamps));
        sum
    }

    /// Appends what the kernel dropped at these sockets, and what came to them whole.
    pub fn losses(&mut self, losses: &mut Vec<QueueLoss>) {
        for bound in &mut self.sockets {
            bound.drops.read(&bound.socket, losses);
        }
        losses.push(QueueLoss { place: "xdp", reason: "passed", packets: self.passed });
    }
}
