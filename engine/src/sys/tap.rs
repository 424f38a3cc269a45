//! IP packets of an interface as they pass, in both directions, with the kernel's stamps: packet(7).
#![expect(unsafe_code, reason = "bind and getsockopt on plain structures")]

use std::io::{self, IoSliceMut};
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt, sockopt};
use socket2::{Domain, SockFilter, Socket, Type};

use super::socket::set_int;

/// Bytes that the kernel holds until they are read: some ten thousand packets.
const BUFFER: i32 = 64 << 20;

/// A packet that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Bytes that were put into the buffer, or would have been had it been long enough.
    pub len: usize,
    /// This host sent it.
    pub outgoing: bool,
    /// The kernel's stamp, CLOCK_REALTIME in ns.
    pub at_ns: u64,
}

/// A socket that sees IP packets from the IP header on.
#[derive(Debug)]
pub struct Tap(Socket);

impl Tap {
    /// Sees what passes `filter`, a classic BPF program over IP packets, at the interface with this index in the calling thread's network namespace.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and setsockopt(2); EPERM without CAP_NET_RAW.
    pub fn open(interface: u32, filter: &[SockFilter]) -> io::Result<Self> {
        // With protocol 0 nothing comes before it is bound.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.cloexec().nonblocking(), None)?;
        socket.attach_filter(filter)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        // The first takes CAP_NET_ADMIN, the second is bounded by net.core.rmem_max.
        if set_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER).is_err() {
            set_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, BUFFER)?;
        }
        // SAFETY: zeros are a valid address.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = interface.cast_signed();
        // SAFETY: the address is live, and its length is given.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                mem::size_of_val(&address) as libc::socklen_t,
            )
        };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(socket)) }
    }

    /// Puts the next packet into `buffer`; `None` when there is none within `patience`, of which parts of a millisecond do not count.
    ///
    /// # Errors
    /// The kernel's own; ENETDOWN once when the interface went down or away.
    pub fn next(&self, buffer: &mut [u8], patience: Duration) -> io::Result<Option<Passed>> {
        if !patience.is_zero() {
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(0) | Err(Errno::EINTR) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut control = [0; 128];
        let mut slices = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
        let message = match recvmsg::<LinkAddr>(self.0.as_raw_fd(), &mut slices, Some(&mut control), flags) {
            Ok(message) => message,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stamp = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(at) => Some(at),
            _ => None,
        });
        Ok(Some(Passed {
            len: message.bytes,
            outgoing: message.address.is_some_and(|address| address.pkttype() == libc::PACKET_OUTGOING),
            at_ns: stamp
                .map_or(0, |at| at.tv_sec().unsigned_abs() * 1_000_000_000 + at.tv_nsec().unsigned_abs()),
        }))
    }

    /// Packets that passed since the last call and found no room, because nobody read.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn dropped(&self) -> io::Result<u32> {
        let mut figures = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = mem::size_of_val(&figures) as libc::socklen_t;
        // SAFETY: figures and len are live, and len is the size of figures.
        let answer = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut figures).cast(),
                &raw mut len,
            )
        };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(figures.tp_drops) }
    }
}
