//! An AF_XDP socket bound to one queue of an interface: made by xsk-rs, its rings mapped for ourselves.
#![expect(unsafe_code, reason = "the library's constructor and the mapping of rings are unsafe")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{setsockopt, sockopt};
use xsk_rs::Socket as XskSocket;
use xsk_rs::config::{BindFlags, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::socket::{RxQueue, TxQueue};
use xsk_rs::umem::{CompQueue, FillQueue, Umem};

use super::umem::Memory;
use super::{Granted, Kernel, Woken};
use crate::error::{Error, Result};
use crate::queue::QueueLoss;
use crate::queue::ring::{Desc, Ring};
use crate::queue::spec::{Interface, Tuning};
use crate::sys::xsk::{self, Which};

/// How long the queue of a socket closed a moment ago may stay busy: the kernel lets go of it in a deferred piece of work.
const BUSY_FOR: Duration = Duration::from_secs(2);
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Packets that one system call may send in copy mode. On a veth 32 to 2048 measured the same with batches of 64.
const TX_BUDGET: u32 = 256;
/// Socket buffer in copy mode, bytes: what the frames of a whole TX ring take as socket buffers, large ones included.
const SEND_BUFFER: usize = 16 << 20;

/// Slots of each ring, powers of two.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// RX ring.
    pub rx: u32,
    /// TX ring.
    pub tx: u32,
    /// Fill ring.
    pub fill: u32,
    /// Completion ring.
    pub completion: u32,
}

/// A bound socket.
#[derive(Debug)]
pub struct Socket {
    granted: Granted,
    sizes: Sizes,
    /// What else ends waiting when it becomes readable.
    other: Option<OwnedFd>,
    /// The socket and the library's mappings live as long as these; their ring functions are never called.
    library: (TxQueue, RxQueue, FillQueue, CompQueue),
}

impl Socket {
    /// Binds to `queue` of `interface`: with zero-copy where the driver grants it, else copying. `large` asks for packets of several
    /// chunks (`XDP_USE_SG`). No XDP program is loaded.
    ///
    /// # Errors
    /// `Environment` naming interface and queue: no such interface or queue, queue in use, interface down, no privilege, no busy polling.
    pub fn bind<N>(
        interface: &Interface,
        queue: u32,
        memory: &Memory<N>,
        sizes: Sizes,
        large: bool,
        tuning: Tuning,
    ) -> Result<Self> {
        let umem = &memory.umem;
        let mut flags = BindFlags::XDP_USE_NEED_WAKEUP;
        if large {
            flags |= BindFlags::XDP_USE_SG;
        }
        let bind = |mode| patiently(|| create(interface, queue, umem, sizes, flags | mode));
        let (library, refused) = match bind(BindFlags::XDP_ZEROCOPY) {
            Ok(library) => (library, None),
            // Copying would find the queue just as busy.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => return Err(cannot_bind(interface, queue, e)),
            Err(refused) => match bind(BindFlags::XDP_COPY) {
                Ok(library) => (library, Some(refused)),
                Err(e) => return Err(cannot_bind(interface, queue, e)),
            },
        };
        let granted = Granted {
            zero_copy: false,
            refused: None,
            busy_poll: false,
            huge_pages: memory.huge_pages,
            memory_node: memory.node,
        };
        let mut socket = Self { granted, sizes, other: None, library };
        let zero_copy = xsk::is_zero_copy(socket.fd()).map_err(|e| cannot_bind(interface, queue, e))?;
        // Copying, the kernel binds to an interface that is down, and says so only when asked to do something.
        if let Err(e) = xsk::wake_rx(socket.fd())
            && e.raw_os_error() == Some(libc::ENETDOWN)
        {
            return Err(cannot_bind(interface, queue, e));
        }
        socket.granted.zero_copy = zero_copy;
        socket.granted.refused = refused.map(|e| e.to_string());
        if let Some(budget) = tuning.busy_poll {
            let polls =
                xsk::set_busy_poll(socket.fd(), budget).and_then(|()| xsk::is_busy_polling(socket.fd()));
            socket.granted.busy_poll = polls.map_err(|e| cannot_poll(interface, queue, e))?;
        }
        if !zero_copy {
            // Both only make it faster. The budget is new in Linux 6.17; the buffer needs CAP_NET_ADMIN to go over the system's limit.
            let _ = xsk::set_tx_budget(socket.fd(), TX_BUDGET.min(sizes.tx));
            if setsockopt(&socket.fd(), sockopt::SndBufForce, &SEND_BUFFER).is_err() {
                let _ = setsockopt(&socket.fd(), sockopt::SndBuf, &SEND_BUFFER);
            }
        }
        Ok(socket)
    }

    /// The descriptor, for the XSKMAP.
    pub fn fd(&self) -> BorrowedFd<'_> {
        let fd: RawFd = self.library.0.fd().as_raw_fd();
        // SAFETY: the library closes it when the last of its queues is dropped, which this borrow prevents.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }

    /// What the kernel granted.
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// Has waiting end, too, when `fd` becomes readable.
    pub(super) fn wait_for_too(&mut self, fd: OwnedFd) {
        self.other = Some(fd);
    }

    /// Maps the RX or the TX ring. Each ring may be mapped once.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(super) fn map_packets(&self, which: Which) -> Result<Ring<Desc>> {
        let size = if which == Which::Rx { self.sizes.rx } else { self.sizes.tx };
        // SAFETY: these two hold descriptors; the size is the one asked for at creation; the library's own functions are never called.
        unsafe { xsk::map_ring(self.fd(), which, size) }.map_err(cannot_map)
    }

    /// Maps the fill or the completion ring. Each ring may be mapped once.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(super) fn map_addresses(&self, which: Which) -> Result<Ring<u64>> {
        let size = if which == Which::Fill { self.sizes.fill } else { self.sizes.completion };
        // SAFETY: these two hold addresses; the rest as above.
        unsafe { xsk::map_ring(self.fd(), which, size) }.map_err(cannot_map)
    }
}

type Library = (TxQueue, RxQueue, FillQueue, CompQueue);

fn create(
    interface: &Interface,
    queue: u32,
    umem: &Umem,
    sizes: Sizes,
    flags: BindFlags,
) -> io::Result<Library> {
    let size = |slots| QueueSize::new(slots).map_err(io::Error::other);
    let config = SocketConfig::builder()
        .rx_queue_size(size(sizes.rx)?)
        .tx_queue_size(size(sizes.tx)?)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(flags)
        .build();
    let name = interface.name.parse().map_err(io::Error::other)?;
    // SAFETY: the UMEM is used for one socket only, and no program is loaded.
    let made = unsafe { XskSocket::new(config, umem, &name, queue) };
    let (tx, rx, rings) = made.map_err(|e| {
        let source = std::error::Error::source(&e).and_then(|s| s.downcast_ref::<io::Error>());
        match source.and_then(io::Error::raw_os_error) {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::other(e.to_string()),
        }
    })?;
    let (fill, completion) = rings.ok_or_else(|| io::Error::other("the UMEM's rings are in use already"))?;
    Ok((tx, rx, fill, completion))
}

/// Tries again for a while when the answer is EBUSY.
fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + BUSY_FOR;
    loop {
        match attempt() {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                thread::sleep(BUSY_PAUSE);
            }
            done => return done,
        }
    }
}

fn cannot_bind(interface: &Interface, queue: u32, error: io::Error) -> Error {
    let name = &interface.name;
    let failed = |why: &str| Error::environment(format!("{name} queue {queue}: {why}"));
    match error.raw_os_error() {
        Some(libc::EBUSY) => failed("another AF_XDP socket has it")
            .because(error)
            .fix("end the program that uses it, or choose another queue with --queues"),
        Some(libc::EINVAL) => failed("an AF_XDP socket cannot be bound to it").because(error).fix(format!(
            "see how many queues there are with ethtool -l {name}, and choose one with --queues"
        )),
        Some(libc::ENODEV) => Error::environment(format!("{name}: no such interface")).fix("see ip link"),
        Some(libc::ENETDOWN) => {
            failed("the interface is down").because(error).fix(format!("ip link set {name} up"))
        }
        Some(libc::EPERM) => failed("no permission for an AF_XDP socket")
            .because(error)
            .fix("run as root, or with CAP_NET_RAW, or use --backend uring"),
        Some(libc::EOPNOTSUPP) => {
            failed("the driver refuses AF_XDP sockets").because(error).fix("use --backend uring")
        }
        _ => failed("cannot bind an AF_XDP socket").because(error),
    }
}

fn cannot_poll(interface: &Interface, queue: u32, error: io::Error) -> Error {
    let name = &interface.name;
    let fix = match error.raw_os_error() {
        Some(libc::EPERM) => "run as root, or with CAP_NET_ADMIN, or leave --busy-poll out",
        Some(libc::ENOPROTOOPT) => {
            "leave --busy-poll out: it needs Linux 5.11 or newer with CONFIG_NET_RX_BUSY_POLL"
        }
        _ => "leave --busy-poll out",
    };
    Error::environment(format!("{name} queue {queue}: the kernel refuses busy polling"))
        .because(error)
        .fix(fix)
}

fn cannot_map(error: io::Error) -> Error {
    Error::failed("cannot map a ring of an AF_XDP socket").because(error)
}

impl Kernel for Socket {
    fn wake_tx(&mut self) -> io::Result<Woken> {
        match xsk::wake_tx(self.fd()) {
            Ok(()) => Ok(Woken::Done),
            Err(e) => match e.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Ok(Woken::More),
                // With zero-copy the driver says that it is at it; copying, __dev_direct_xmit says that it dropped one.
                Some(libc::EBUSY) if self.granted.zero_copy => Ok(Woken::Later),
                Some(libc::EBUSY) => Ok(Woken::Refused),
                Some(libc::ENOBUFS | libc::ENOMEM) => Ok(Woken::Later),
                _ => Err(e),
            },
        }
    }

    fn wake_rx(&mut self) -> io::Result<()> {
        match xsk::wake_rx(self.fd()) {
            Err(e)
                if !matches!(
                    e.raw_os_error(),
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR)
                ) =>
            {
                Err(e)
            }
            _ => Ok(()),
        }
    }

    fn polls(&self) -> bool {
        self.granted.busy_poll
    }

    fn refuses(&self) -> bool {
        !self.granted.zero_copy
    }

    fn wait_rx(&mut self, at_most: Duration) -> io::Result<()> {
        let fd = self.fd();
        let other = self.other.as_ref().map_or(fd, AsFd::as_fd);
        let mut fds = [fd, other].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let count = 1 + usize::from(self.other.is_some());
        match ppoll(&mut fds[..count], Some(at_most.into()), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn losses(&mut self, losses: &mut Vec<QueueLoss>) {
        // A socket whose interface is gone still answers; should it not, there is nothing to add.
        let Ok(statistics) = xsk::statistics(self.fd()) else { return };
        // Copying, the kernel counts a packet that found no frame in rx_dropped, too. With zero-copy the driver only tells how often it found none, and what it
        // dropped then is in the NIC's counters.
        let no_frame = statistics.rx_fill_ring_empty_descs.min(statistics.rx_dropped);
        for (reason, packets) in [
            ("rx_dropped", statistics.rx_dropped - no_frame),
            ("rx_fill_ring_empty", no_frame),
            ("rx_ring_full", statistics.rx_ring_full),
        ] {
            losses.push(QueueLoss { place: "xsk", reason, packets });
        }
    }
}
