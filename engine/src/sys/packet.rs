//! Whole frames out of an interface: packet(7).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A socket that sends whole frames and receives nothing.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    interface: libc::c_int,
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
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(fd) }, interface: interface.cast_signed() })
    }

    /// Sends `frame`, an Ethernet frame without FCS.
    ///
    /// # Errors
    /// Those of sendto(2): EMSGSIZE above the MTU, ENETDOWN and ENXIO when the interface is down or gone, ENOBUFS when its queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: zeros are a valid address.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = self.interface;
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
}
