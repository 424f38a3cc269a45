//! Whole frames out of an interface, and into one: packet(7).

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use socket2::{SockFilter, SockRef};

use super::socket::{set, set_int};

/// `PACKET_IGNORE_OUTGOING` (Linux 4.20) and `PACKET_VNET_HDR`, of linux/if_packet.h.
const IGNORE_OUTGOING: libc::c_int = 23;
const VNET_HDR: libc::c_int = 15;

/// A socket that sends whole frames and receives nothing, unless it was made to listen.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    interface: u32,
}

impl PacketSocket {
    /// A socket for the interface with this index in the calling thread's network namespace.
    ///
    /// # Errors
    /// Those of socket(2); EPERM without CAP_NET_RAW.
    pub fn open(interface: u32) -> io::Result<Self> {
        // SAFETY: numbers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(fd) }, interface })
    }

    /// A socket that also receives the frames that arrive at the interface and that `filter` lets through, groups that this host is no member of among them.
    /// With `segments` each frame, sent or received, has a [`Segmented`] before it, and may be a buffer of several segments.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2) and bind(2): EPERM without CAP_NET_RAW, ENODEV when the interface is gone.
    pub fn listen(interface: u32, filter: &[SockFilter], segments: bool) -> io::Result<Self> {
        let socket = Self::open(interface)?;
        if segments {
            socket.set_segmented()?;
        }
        set_int(socket.as_fd(), libc::SOL_PACKET, IGNORE_OUTGOING, 1)?;
        // Bound to no protocol yet, so that nothing comes before the filter is there.
        SockRef::from(&socket.socket).attach_filter(filter)?;
        bind(socket.as_fd(), interface)?;
        socket.let_all_groups_in()?;
        Ok(socket)
    }

    /// Frames have a [`Segmented`] before them from now on.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_segmented(&self) -> io::Result<()> {
        set_int(self.as_fd(), libc::SOL_PACKET, VNET_HDR, 1)
    }

    /// Bytes that may wait to be received; more than the system's limit with CAP_NET_ADMIN.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_receive_buffer(&self, bytes: libc::c_int) -> io::Result<()> {
        set_int(self.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
            .or_else(|_| set_int(self.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
    }

    /// Frames that did not fit into the receive buffer since the last call (`PACKET_STATISTICS`).
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn dropped(&self) -> io::Result<u64> {
        dropped(self.as_fd()).map(u64::from)
    }

    /// Sends `frame`, an Ethernet frame without FCS.
    ///
    /// # Errors
    /// Those of sendto(2): EMSGSIZE above the MTU, ENETDOWN and ENXIO when the interface is down or gone, ENOBUFS and EAGAIN when its queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let address = self.address(0);
        // SAFETY: frame and address are live, and their lengths are given.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                mem::size_of_val(&address) as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next frame that has arrived, cut to the length of `buffer`; `None` when there is none.
    ///
    /// # Errors
    /// Those of recv(2): ENETDOWN once when the interface went down.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        // SAFETY: buffer is live and writable, and its length is given.
        let read = unsafe {
            libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        };
        match usize::try_from(read) {
            Ok(read) => Ok(Some(&buffer[..read])),
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
                e if e.kind() == io::ErrorKind::Interrupted => Ok(None),
                e => Err(e),
            },
        }
    }

    fn address(&self, protocol: u16) -> libc::sockaddr_ll {
        address(self.interface, protocol)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Frames received with one system call, and sent with one to each interface that is to have them.
pub struct Batch {
    len: usize,
    frames: Box<[u8]>,
    filled: Box<[usize]>,
    vectors: Box<[libc::iovec]>,
    messages: Box<[libc::mmsghdr]>,
}

// SAFETY: the pointers lead into boxes of the same value, or are made anew for each call.
unsafe impl Send for Batch {}

impl Batch {
    /// Room for `count` frames of up to `len` bytes.
    pub fn new(count: usize, len: usize) -> Self {
        // SAFETY: zeros are a valid vector and a valid header.
        let (vector, message) = unsafe { (mem::zeroed::<libc::iovec>(), mem::zeroed::<libc::mmsghdr>()) };
        Self {
            len,
            frames: vec![0; count * len].into_boxed_slice(),
            filled: vec![0; count].into_boxed_slice(),
            vectors: vec![vector; count].into_boxed_slice(),
            messages: vec![message; count].into_boxed_slice(),
        }
    }

    /// Receives what is there, up to the whole batch, and waits for nothing; how many frames there are.
    ///
    /// # Errors
    /// Those of recvmmsg(2): ENETDOWN once when the interface went down.
    pub fn receive(&mut self, socket: &PacketSocket) -> io::Result<usize> {
        for (index, frame) in self.frames.chunks_exact_mut(self.len).enumerate() {
            self.vectors[index] = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: self.len };
        }
        let count = self.vectors.len();
        self.point(count);
        // SAFETY: every header has one vector, which leads to bytes of its own that nobody uses meanwhile.
        let received = unsafe {
            libc::recvmmsg(
                socket.socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else {
            return match io::Error::last_os_error() {
                e if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
                e => Err(e),
            };
        };
        for (filled, message) in self.filled.iter_mut().zip(&self.messages[..received]) {
            *filled = (message.msg_len as usize).min(self.len);
        }
        Ok(received)
    }

    /// The frame with this number among those received last.
    pub fn frame(&self, index: usize) -> &[u8] {
        let start = index * self.len;
        &self.frames[start..start + self.filled[index]]
    }

    /// Sends the frames with these numbers; how many the interface took. It stops at the first that is refused.
    ///
    /// # Errors
    /// Those of sendmmsg(2) when not even the first is taken: ENOBUFS and EAGAIN when the queue is full, EMSGSIZE, ENETDOWN, ENXIO.
    pub fn send(&mut self, socket: &PacketSocket, numbers: &[u16]) -> io::Result<usize> {
        let mut address = socket.address(0);
        for (vector, &number) in self.vectors.iter_mut().zip(numbers) {
            let start = usize::from(number) * self.len;
            let frame = &mut self.frames[start..start + self.filled[usize::from(number)]];
            *vector = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        }
        let count = numbers.len().min(self.vectors.len());
        self.point(count);
        for message in &mut self.messages[..count] {
            message.msg_hdr.msg_name = (&raw mut address).cast();
            message.msg_hdr.msg_namelen = mem::size_of_val(&address) as libc::socklen_t;
        }
        // SAFETY: every header has one vector, which leads to bytes that nobody writes meanwhile, and the address, which is live.
        let sent = unsafe {
            libc::sendmmsg(
                socket.socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// One vector for each of the first `count` headers.
    fn point(&mut self, count: usize) {
        for (message, vector) in self.messages[..count].iter_mut().zip(self.vectors.iter_mut()) {
            // SAFETY: zeros are a valid header.
            *message = unsafe { mem::zeroed() };
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("frames", &self.filled.len())
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// What stands before a frame that may have several segments (`struct virtio_net_hdr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmented {
    /// Payload bytes of a segment; 0 when there is one only.
    pub segment: u16,
    /// Bytes of the headers, which each segment has.
    pub headers: u16,
}

impl Segmented {
    /// Its bytes.
    pub const LEN: usize = 10;

    /// What stands before `frame`, and the frame itself; `None` when it is too short for that.
    pub fn split(frame: &[u8]) -> Option<(Self, &[u8])> {
        let (header, frame) = frame.split_first_chunk::<{ Self::LEN }>()?;
        let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        // gso_type 0 is none.
        let segment = if header[1] == 0 { 0 } else { word(4) };
        Some((Self { segment, headers: word(2) }, frame))
    }

    /// Datagrams in a frame of `len` bytes.
    pub fn count(self, len: usize) -> u64 {
        if self.segment == 0 {
            return 1;
        }
        (len.saturating_sub(self.headers.into()) as u64).div_ceil(self.segment.into()).max(1)
    }
}

fn address(interface: u32, protocol: u16) -> libc::sockaddr_ll {
    // SAFETY: zeros are a valid address.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = interface.cast_signed();
    address
}

/// Binds a packet socket to all protocols of the interface with this index; 0 is every interface.
///
/// # Errors
/// Those of bind(2).
pub(super) fn bind(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    let address = address(interface, libc::ETH_P_ALL as u16);
    // SAFETY: the address is live, and its length is given.
    let answer = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            mem::size_of_val(&address) as libc::socklen_t,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Packets that a packet socket had no room for, since the last call.
///
/// # Errors
/// Those of getsockopt(2).
pub(super) fn dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: statistics and len are live, and len is the size of statistics.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut len,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(statistics.tp_drops) }
}

impl PacketSocket {
    /// Has the interface let frames to every group in, for as long as this socket is open.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn let_all_groups_in(&self) -> io::Result<()> {
        let_all_groups_in(self.as_fd(), self.interface)
    }
}

/// Has the interface with this index let frames to every group in (IFF_ALLMULTI), joined or not, for as long as `socket` is open (PACKET_MR_ALLMULTI).
///
/// # Errors
/// Those of setsockopt(2).
pub(super) fn let_all_groups_in(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    let all = libc::packet_mreq {
        mr_ifindex: interface.cast_signed(),
        mr_type: libc::PACKET_MR_ALLMULTI as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &all)
}
