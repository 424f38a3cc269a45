//! Whole frames out of an interface: packet(7).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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

/// Binds a packet socket to all protocols of the interface with this index; 0 is every interface.
///
/// # Errors
/// Those of bind(2).
pub(super) fn bind(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    // SAFETY: zeros are a valid address.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = interface.cast_signed();
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
    /// Has the interface let frames to every group in (IFF_ALLMULTI), for as long as this socket is open (PACKET_MR_ALLMULTI).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn let_all_groups_in(&self) -> io::Result<()> {
        self.add_membership(libc::PACKET_MR_ALLMULTI, None)
    }

    /// Has the interface let frames to `mac` in, for as long as this socket is open (PACKET_MR_MULTICAST).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn let_in(&self, mac: [u8; 6]) -> io::Result<()> {
        self.add_membership(libc::PACKET_MR_MULTICAST, Some(mac))
    }

    fn add_membership(&self, kind: libc::c_int, mac: Option<[u8; 6]>) -> io::Result<()> {
        // SAFETY: zeros are a valid request.
        let mut request: libc::packet_mreq = unsafe { mem::zeroed() };
        request.mr_ifindex = self.interface;
        request.mr_type = kind as libc::c_ushort;
        if let Some(mac) = mac {
            request.mr_alen = 6;
            request.mr_address[..6].copy_from_slice(&mac);
        }
        // SAFETY: the request is live, and its length is given.
        let answer = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const request).cast(),
                mem::size_of_val(&request) as libc::socklen_t,
            )
        };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
