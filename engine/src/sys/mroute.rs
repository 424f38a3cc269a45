//! The kernel's multicast forwarding cache: linux/mroute.h and linux/mroute6.h.
//!
//! The socket that has said MRT_INIT is the multicast router of its network namespace. When it is closed, interfaces and entries go with it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::socket::set;

/// MAXVIFS and MAXMIFS: interfaces of a router.
pub const INTERFACES: usize = 32;

/// The TTL threshold of an interface that packets do not leave by.
pub const NEVER: u8 = 255;

const INIT: libc::c_int = 200;
const ADD_INTERFACE: libc::c_int = 202;
const ADD_ENTRY: libc::c_int = 204;
const DELETE_ENTRY: libc::c_int = 205;
const USE_IFINDEX: u8 = 0x8;

/// IGMPMSG_NOCACHE and MRT6MSG_NOCACHE.
const NO_CACHE: u8 = 1;

#[repr(C)]
struct Vif {
    number: u16,
    flags: u8,
    threshold: u8,
    rate_limit: u32,
    ifindex: libc::c_int,
    remote: u32,
}

#[repr(C)]
struct Mif {
    number: u16,
    flags: u8,
    threshold: u8,
    ifindex: u16,
    rate_limit: u32,
}

#[repr(C)]
struct Entry4 {
    origin: [u8; 4],
    group: [u8; 4],
    parent: u16,
    thresholds: [u8; INTERFACES],
    counts: [u32; 3],
    expire: libc::c_int,
}

#[repr(C)]
struct Entry6 {
    origin: libc::sockaddr_in6,
    group: libc::sockaddr_in6,
    parent: u16,
    interfaces: [u32; 8],
}

const _: () = assert!(size_of::<Vif>() == 16 && size_of::<Mif>() == 12);
const _: () = assert!(size_of::<Entry4>() == 60 && size_of::<Entry6>() == 92);

/// A packet that no entry forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// The interface that it came in by.
    pub interface: u16,
    /// Its source.
    pub source: IpAddr,
    /// Its group.
    pub group: IpAddr,
}

/// The multicast router of a network namespace, for one version of IP.
#[derive(Debug)]
pub struct MulticastRouter {
    socket: OwnedFd,
    ipv6: bool,
}

impl MulticastRouter {
    /// Becomes the router of the calling thread's namespace.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN; EADDRINUSE when there is one already; ENOPROTOOPT without CONFIG_IP_MROUTE or CONFIG_IPV6_MROUTE.
    pub fn new(ipv6: bool) -> io::Result<Self> {
        let (family, protocol) =
            if ipv6 { (libc::AF_INET6, libc::IPPROTO_ICMPV6) } else { (libc::AF_INET, libc::IPPROTO_IGMP) };
        // SAFETY: numbers only.
        let fd = unsafe {
            libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let router = Self { socket: unsafe { OwnedFd::from_raw_fd(fd) }, ipv6 };
        let on: libc::c_int = 1;
        router.set(INIT, &on)?;
        Ok(router)
    }

    /// Makes the interface with this index the one with `number`; packets of a TTL up to `threshold` do not leave by it (IPv4 only).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn add_interface(&self, number: u16, ifindex: u32, threshold: u8) -> io::Result<()> {
        if self.ipv6 {
            let ifindex = u16::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?;
            self.set(ADD_INTERFACE, &Mif { number, flags: 0, threshold, ifindex, rate_limit: 0 })
        } else {
            let ifindex = ifindex.cast_signed();
            let vif = Vif { number, flags: USE_IFINDEX, threshold, rate_limit: 0, ifindex, remote: 0 };
            self.set(ADD_INTERFACE, &vif)
        }
    }

    /// Has packets from `source` to `group` that come in by `parent` leave by every interface whose threshold is below [`NEVER`] and (IPv4) below the packet's
    /// TTL. An entry that is there is replaced.
    ///
    /// # Errors
    /// Those of setsockopt(2); EINVAL when the addresses are of different versions.
    pub fn set_entry(
        &self,
        source: IpAddr,
        group: IpAddr,
        parent: u16,
        thresholds: [u8; INTERFACES],
    ) -> io::Result<()> {
        match (source, group) {
            (IpAddr::V4(source), IpAddr::V4(group)) if !self.ipv6 => {
                self.set(ADD_ENTRY, &entry4(source, group, parent, thresholds))
            }
            (IpAddr::V6(source), IpAddr::V6(group)) if self.ipv6 => {
                self.set(ADD_ENTRY, &entry6(source, group, parent, thresholds))
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Forgets an entry.
    ///
    /// # Errors
    /// ENOENT when there is none; those of setsockopt(2).
    pub fn remove_entry(&self, source: IpAddr, group: IpAddr, parent: u16) -> io::Result<()> {
        match (source, group) {
            (IpAddr::V4(source), IpAddr::V4(group)) if !self.ipv6 => {
                self.set(DELETE_ENTRY, &entry4(source, group, parent, [NEVER; INTERFACES]))
            }
            (IpAddr::V6(source), IpAddr::V6(group)) if self.ipv6 => {
                self.set(DELETE_ENTRY, &entry6(source, group, parent, [NEVER; INTERFACES]))
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The next packet that the kernel had no entry for; `None` when there is no other. What else came to the socket is passed over.
    ///
    /// # Errors
    /// Those of recv(2).
    pub fn unknown(&self) -> io::Result<Option<Unknown>> {
        let mut buffer = [0u8; 2048];
        loop {
            // SAFETY: buffer is live and writable, and its length is given.
            let read = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            let Ok(read) = usize::try_from(read) else {
                return match io::Error::last_os_error() {
                    e if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                        Ok(None)
                    }
                    e => Err(e),
                };
            };
            let message = &buffer[..read];
            let unknown = if self.ipv6 { unknown6(message) } else { unknown4(message) };
            if unknown.is_some() {
                return Ok(unknown);
            }
        }
    }

    fn set<T>(&self, name: libc::c_int, value: &T) -> io::Result<()> {
        let level = if self.ipv6 { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
        set(self.as_fd(), level, name, value)
    }
}

impl AsFd for MulticastRouter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn entry4(source: Ipv4Addr, group: Ipv4Addr, parent: u16, thresholds: [u8; INTERFACES]) -> Entry4 {
    Entry4 { origin: source.octets(), group: group.octets(), parent, thresholds, counts: [0; 3], expire: 0 }
}

fn entry6(source: Ipv6Addr, group: Ipv6Addr, parent: u16, thresholds: [u8; INTERFACES]) -> Entry6 {
    let address = |ip: Ipv6Addr| libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: 0,
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: ip.octets() },
        sin6_scope_id: 0,
    };
    let mut interfaces = [0; 8];
    for (number, _) in thresholds.iter().enumerate().filter(|(_, threshold)| **threshold < NEVER) {
        interfaces[number / 32] |= 1 << (number % 32);
    }
    Entry6 { origin: address(source), group: address(group), parent, interfaces }
}

/// `struct igmpmsg`: where an IP header has its protocol there is 0.
fn unknown4(message: &[u8]) -> Option<Unknown> {
    let message: &[u8; 20] = message.first_chunk()?;
    if message[9] != 0 || message[8] != NO_CACHE {
        return None;
    }
    let address = |at: usize| {
        let octets: [u8; 4] = message[at..at + 4].try_into().expect("four bytes");
        IpAddr::from(octets)
    };
    let interface = u16::from(message[10]) | u16::from(message[11]) << 8;
    Some(Unknown { interface, source: address(12), group: address(16) })
}

/// `struct mrt6msg`: where ICMPv6 has its type there is 0.
fn unknown6(message: &[u8]) -> Option<Unknown> {
    let message: &[u8; 40] = message.first_chunk()?;
    if message[0] != 0 || message[1] != NO_CACHE {
        return None;
    }
    let address = |at: usize| {
        let octets: [u8; 16] = message[at..at + 16].try_into().expect("sixteen bytes");
        IpAddr::from(octets)
    };
    let interface = u16::from_ne_bytes([message[2], message[3]]);
    Some(Unknown { interface, source: address(8), group: address(24) })
}
