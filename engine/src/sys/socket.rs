//! Socket options and interface requests that socket2 and nix lack.
#![expect(unsafe_code, reason = "setsockopt, getsockopt and ioctl on plain structures")]

use std::ffi::c_int;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets an option whose value is an `int`.
///
/// # Errors
/// The kernel's own.
pub fn set_int(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    set(fd, level, name, &value)
}

/// Reads an option whose value is an `int`.
///
/// # Errors
/// The kernel's own.
pub fn get_int(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut len = size::<c_int>();
    // SAFETY: value and len are live and len is the size of value.
    let answer =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    check(answer).map(|_| value)
}

/// Makes packets of the socket leave by the interface with this index, unicast and multicast, without
/// binding the socket to it: needs no privilege (`ip(7)`, IP_MULTICAST_IF and IP_UNICAST_IF).
///
/// # Errors
/// The kernel's own; EADDRNOTAVAIL or ENODEV when there is no such interface.
pub fn leave_by(fd: BorrowedFd<'_>, ipv6: bool, index: u32) -> io::Result<()> {
    // IP_UNICAST_IF and IPV6_UNICAST_IF take the index in network byte order, unlike the others.
    let unicast = index.to_be().cast_signed();
    if ipv6 {
        set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, index.cast_signed())?;
        set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_IF, unicast)
    } else {
        let any = libc::in_addr { s_addr: u32::from(Ipv4Addr::UNSPECIFIED) };
        let request =
            libc::ip_mreqn { imr_multiaddr: any, imr_address: any, imr_ifindex: index.cast_signed() };
        set(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)?;
        set_int(fd, libc::IPPROTO_IP, libc::IP_UNICAST_IF, unicast)
    }
}

/// Joins `group`, or the channel (`source`, `group`), on the interface with this index; index 0 leaves the
/// choice to the routing table (RFC 3678 §5.1).
///
/// # Errors
/// The kernel's own.
pub fn join(fd: BorrowedFd<'_>, index: u32, group: IpAddr, source: Option<IpAddr>) -> io::Result<()> {
    let level = if group.is_ipv6() { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
    match source {
        None => {
            let request = libc::group_req { gr_interface: index, gr_group: storage(group) };
            set(fd, level, libc::MCAST_JOIN_GROUP, &request)
        }
        Some(source) => {
            let request = libc::group_source_req {
                gsr_interface: index,
                gsr_group: storage(group),
                gsr_source: storage(source),
            };
            set(fd, level, libc::MCAST_JOIN_SOURCE_GROUP, &request)
        }
    }
}

/// Sets the whole source filter of `group`, of which the socket has to be a member: wants `sources` only, or with `exclude` all but these (MCAST_MSFILTER,
/// RFC 3678 §5.2). An empty list that is not to be excluded leaves the group without leaving the socket's membership.
///
/// # Errors
/// The kernel's own; EINVAL when the socket is no member, ENOBUFS when there are more sources than it allows.
pub fn set_filter(
    fd: BorrowedFd<'_>,
    index: u32,
    group: IpAddr,
    exclude: bool,
    sources: &[IpAddr],
) -> io::Result<()> {
    /// `struct group_filter` (linux/in.h) before its list of addresses.
    const HEAD: usize = 8 + size_of::<libc::sockaddr_storage>() + 8;
    /// MCAST_INCLUDE is 1 and MCAST_EXCLUDE is 0.
    const INCLUDE: u32 = 1;
    const MCAST_MSFILTER: c_int = 48;
    let level = if group.is_ipv6() { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
    let number = u32::try_from(sources.len()).map_err(|_| io::Error::from_raw_os_error(libc::ENOBUFS))?;
    let mut request = Vec::with_capacity(HEAD + sources.len() * size_of::<libc::sockaddr_storage>());
    request.extend(index.to_ne_bytes());
    request.extend([0; 4]);
    request.extend(bytes_of(group));
    request.extend(if exclude { 0 } else { INCLUDE }.to_ne_bytes());
    request.extend(number.to_ne_bytes());
    sources.iter().for_each(|source| request.extend(bytes_of(*source)));
    let len =
        libc::socklen_t::try_from(request.len()).map_err(|_| io::Error::from_raw_os_error(libc::ENOBUFS))?;
    // SAFETY: the request is live, laid out as the kernel has it, and its length is given.
    let answer =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, MCAST_MSFILTER, request.as_ptr().cast(), len) };
    check(answer).map(|_| ())
}

/// The bytes of a `sockaddr_storage` with this address and port 0.
fn bytes_of(address: IpAddr) -> [u8; size_of::<libc::sockaddr_storage>()] {
    let mut bytes = [0; size_of::<libc::sockaddr_storage>()];
    let family = if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    bytes[..2].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
    match address {
        IpAddr::V4(v4) => bytes[4..8].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes[8..24].copy_from_slice(&v6.octets()),
    }
    bytes
}

/// Leaves `group`, or the channel (`source`, `group`), on the interface with this index (RFC 3678 §5.1).
///
/// # Errors
/// The kernel's own; EADDRNOTAVAIL when the socket is no member.
pub fn leave(fd: BorrowedFd<'_>, index: u32, group: IpAddr, source: Option<IpAddr>) -> io::Result<()> {
    let level = if group.is_ipv6() { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
    match source {
        None => {
            let request = libc::group_req { gr_interface: index, gr_group: storage(group) };
            set(fd, level, libc::MCAST_LEAVE_GROUP, &request)
        }
        Some(source) => {
            let request = libc::group_source_req {
                gsr_interface: index,
                gsr_group: storage(group),
                gsr_source: storage(source),
            };
            set(fd, level, libc::MCAST_LEAVE_SOURCE_GROUP, &request)
        }
    }
}

/// The socket's memory figures, by the `SK_MEMINFO_` constants (`SO_MEMINFO`, Linux 4.12).
///
/// # Errors
/// The kernel's own.
pub fn memory(fd: BorrowedFd<'_>) -> io::Result<[u32; 9]> {
    let mut figures = [0u32; 9];
    let mut len = size::<[u32; 9]>();
    // SAFETY: figures and len are live and len is the size of figures.
    let answer = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            figures.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    check(answer).map(|_| figures)
}

/// The `IFF_` flags of the interface with this index, in the network namespace of the socket.
///
/// # Errors
/// ENODEV when there is no such interface.
pub fn interface_flags(fd: BorrowedFd<'_>, index: u32) -> io::Result<c_int> {
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_ifru.ifru_ifindex = index.cast_signed();
    // SAFETY: request is a live ifreq with the index set; the kernel writes the name into it.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFNAME as _, &raw mut request) })?;
    // SAFETY: request is a live ifreq with the name set; the kernel writes the flags into it.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) })?;
    // SAFETY: the call succeeded, so the flags are the member that was written.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(c_int::from(flags) & 0xffff)
}

/// Sets an option whose value is a plain structure.
pub(super) fn set<T>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: value is live, and the length is its own.
    let answer = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), size::<T>())
    };
    check(answer).map(|_| ())
}

fn size<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("option values are small")
}

fn check(answer: c_int) -> io::Result<c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn storage(address: IpAddr) -> libc::sockaddr_storage {
    // SAFETY: all zeros is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    match address {
        IpAddr::V4(v4) => {
            let place = (&raw mut storage).cast::<libc::sockaddr_in>();
            let address = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: 0,
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage is large and aligned enough for every socket address.
            unsafe { place.write(address) };
        }
        IpAddr::V6(v6) => {
            let place = (&raw mut storage).cast::<libc::sockaddr_in6>();
            let address = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: 0,
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.octets() },
                sin6_scope_id: 0,
            };
            // SAFETY: as above.
            unsafe { place.write(address) };
        }
    }
    storage
}
