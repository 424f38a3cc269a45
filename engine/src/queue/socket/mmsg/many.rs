//! Receiving from several connected sockets with `recvmmsg`, into one set of buffers.
#![expect(unsafe_code, reason = "recvmmsg takes pointers to the messages")]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::Socket;

use crate::error::{Error, Result};
use crate::queue::socket::BATCH;
use crate::queue::socket::received::{Addressing, CONTROL_LEN};
use crate::queue::socket::slots::stride;
use crate::queue::socket::spin::Spin;
use crate::queue::{QueueError, RxMeta, Sink, Wait};
use crate::sys;

/// Bytes taken at once at most: what a CPU's second-level cache keeps until they are looked at.
const HOT_BYTES: usize = 256 << 10;

/// Where the kernel writes one buffer's control messages.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// Takes what arrives at sockets with numbers.
pub trait Takes {
    /// `count` payloads of socket number `socket` lie in `buf`, each `stride` bytes, the last possibly shorter.
    fn run(&mut self, socket: usize, meta: &RxMeta, buf: &[u8], stride: usize, count: usize);
}

struct One<'a, T> {
    socket: usize,
    taker: &'a mut T,
}

impl<T: Takes> Sink for One<'_, T> {
    fn run(&mut self, meta: &RxMeta, buf: &[u8], stride: usize, count: usize) {
        self.taker.run(self.socket, meta, buf, stride, count);
    }
}

/// A receive queue over sockets that are connected already, each to its sender. Payloads longer than expected are cut.
///
/// It stays on the thread that opened it.
#[derive(Debug)]
pub struct ManyRx {
    sockets: Vec<Socket>,
    addressing: Addressing,
    stride: usize,
    /// Messages to ask for: fewer when they are long.
    ask: usize,
    spin: Spin,
    epoll: Epoll,
    ready: Box<[EpollEvent]>,
    memory: Box<[u8]>,
    controls: Box<[Control]>,
    messages: Box<[libc::mmsghdr]>,
    /// The messages point to these.
    _vectors: Box<[libc::iovec]>,
}

impl ManyRx {
    /// Receives from `sockets` payloads of at most `max_payload` bytes, with receive offload where it is wanted and the kernel has it.
    ///
    /// # Errors
    /// Failed, when the kernel does not let them be waited for.
    pub fn adopt(sockets: Vec<Socket>, max_payload: u16, offload: bool) -> Result<Self> {
        let watch = || {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            for (n, socket) in sockets.iter().enumerate() {
                epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, n as u64))?;
            }
            Ok(epoll)
        };
        let epoll = watch().map_err(|error: nix::errno::Errno| {
            Error::failed("sockets cannot be waited for (epoll)").because(io::Error::from(error))
        })?;
        let gro = offload
            && sockets
                .iter()
                .all(|socket| sys::socket::set_int(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).is_ok());
        // Where to is known of each socket by its number.
        let somewhere = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let len = if gro { usize::from(u16::MAX) } else { usize::from(max_payload) };
        let stride = stride(len);
        let mut memory = vec![0u8; stride * BATCH].into_boxed_slice();
        let mut controls = vec![Control([0; CONTROL_LEN]); BATCH].into_boxed_slice();
        let mut vectors: Box<[libc::iovec]> = memory
            .chunks_exact_mut(stride)
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: len })
            .collect();
        let messages = vectors.iter_mut().zip(&mut controls).map(|(v, c)| message(v, c)).collect();
        Ok(Self {
            epoll,
            ready: vec![EpollEvent::empty(); sockets.len().max(1)].into_boxed_slice(),
            sockets,
            addressing: Addressing::new(somewhere, gro, false, None),
            stride,
            ask: BATCH,
            spin: Spin::default(),
            memory,
            controls,
            messages,
            _vectors: vectors,
        })
    }

    /// Whether the kernel may deliver several datagrams as one buffer.
    pub fn offloads(&self) -> bool {
        self.addressing.gro()
    }

    /// Hands what has arrived to `taker`, waiting as told when nothing has. Returns the number of payloads.
    ///
    /// # Errors
    /// When a socket is broken.
    pub fn poll<T: Takes>(&mut self, taker: &mut T, wait: Wait) -> std::result::Result<usize, QueueError> {
        let taken = self.round(taker)?;
        let Wait::For(limit) = wait else { return Ok(taken) };
        if taken > 0 {
            return Ok(taken);
        }
        let mut spin = mem::take(&mut self.spin);
        let found = spin.find(limit, || Ok(Some(self.round(taker)?).filter(|&taken| taken > 0)));
        let taken = match found {
            Ok(None) => spin.sleep(|| self.look(limit)).and_then(|_| self.round(taker)),
            found => found.map(Option::unwrap_or_default),
        };
        self.spin = spin;
        taken
    }

    /// Takes from each socket that has something.
    fn round<T: Takes>(&mut self, taker: &mut T) -> std::result::Result<usize, QueueError> {
        if self.sockets.len() == 1 {
            return self.take(0, taker);
        }
        let ready = self.look(Duration::ZERO)?;
        let mut taken = 0;
        for n in 0..ready {
            // Socket numbers are all that was put there.
            taken += self.take(self.ready[n].data() as usize, taker)?;
        }
        Ok(taken)
    }

    /// Finds the sockets that have something, waiting at most for `limit`. Returns how many are in `ready`.
    fn look(&mut self, limit: Duration) -> std::result::Result<usize, QueueError> {
        let limit = EpollTimeout::try_from(limit).unwrap_or(EpollTimeout::MAX);
        match self.epoll.wait(&mut self.ready, limit) {
            Ok(ready) => Ok(ready),
            Err(nix::errno::Errno::EINTR) => Ok(0),
            Err(error) => Err(QueueError { call: "epoll_wait", source: io::Error::from(error) }),
        }
    }

    /// Takes what has arrived at one socket, without waiting.
    fn take<T: Takes>(&mut self, socket: usize, taker: &mut T) -> std::result::Result<usize, QueueError> {
        let control_len = self.addressing.control_len();
        for message in &mut self.messages[..self.ask] {
            message.msg_hdr.msg_controllen = control_len;
        }
        // SAFETY: messages, vectors, buffers and control messages are owned by self, and their lengths are true; no timeout.
        let taken = unsafe {
            libc::recvmmsg(
                self.sockets[socket].as_raw_fd(),
                self.messages.as_mut_ptr(),
                self.ask as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if taken < 0 {
            let source = io::Error::last_os_error();
            return match source.raw_os_error() {
                Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL) => {
                    Err(QueueError { call: "recvmmsg", source })
                }
                // Nothing there, or what the network says of something that was sent earlier.
                _ => Ok(0),
            };
        }
        let taken = taken.unsigned_abs() as usize;
        let mut when = self.addressing.taken();
        let (mut datagrams, mut bytes) = (0, 0);
        let mut sink = One { socket, taker };
        for n in 0..taken {
            let header = &self.messages[n];
            let control = &self.controls[n].0[..CONTROL_LEN.min(header.msg_hdr.msg_controllen)];
            let payload = &self.memory[n * self.stride..][..header.msg_len as usize];
            datagrams += self.addressing.hand_over(&mut sink, &[], control, payload, &mut when);
            bytes += payload.len();
        }
        self.ask = (HOT_BYTES * taken).checked_div(bytes).unwrap_or(BATCH).clamp(1, BATCH);
        Ok(datagrams)
    }
}

/// A message of one buffer with room for control messages; who sent it is known.
fn message(vector: &mut libc::iovec, control: &mut Control) -> libc::mmsghdr {
    // SAFETY: all zeros is a valid mmsghdr.
    let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
    message.msg_hdr.msg_iov = vector;
    message.msg_hdr.msg_iovlen = 1;
    message.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
    message
}
