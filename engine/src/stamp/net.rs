//! The sockets of both ends.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Error, Result};

/// Test packets leave with the highest TTL, so that the other end can tell the hops (RFC 5357 §4.1.2).
const TTL: u32 = 255;

/// Room in the socket for what comes while this thread does not run, in bytes.
const BUFFER: usize = 4 << 20;

/// A UDP socket bound to `address`, whose packets leave with TTL 255.
pub(super) fn bind(address: SocketAddr) -> Result<Socket> {
    let failed = |e: io::Error| -> Error {
        match e.kind() {
            ErrorKind::PermissionDenied => Error::environment(format!("{address}: ports below 1024 are not for every user"))
                .fix(format!("run it as root, or: setcap cap_net_bind_service=ep $(command -v wirerate), or name another port, as {}:8620", address.ip())),
            ErrorKind::AddrInUse => Error::failed(format!("{address}: another program has this port"))
                .fix(format!("end it (ss -ulnp sport = :{}), or name another port", address.port())),
            ErrorKind::AddrNotAvailable => {
                Error::usage(format!("{address}: no interface has this address")).fix("name one of this host's (ip address)")
            }
            _ => Error::failed(format!("{address}: a socket cannot be opened")),
        }
        .because(e)
    };
    open(address).map_err(failed)
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(TTL)?;
    } else {
        socket.set_ttl_v4(TTL)?;
    }
    // What the kernel grants: a privileged user's limit is higher.
    let _ = socket.set_recv_buffer_size(BUFFER);
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The class field of a DSCP.
pub(super) fn class(dscp: u8) -> u8 {
    dscp << 2
}

/// Waits until one of `sockets` has something, or for `at_most`.
pub(super) fn wait(sockets: &[BorrowedFd<'_>], at_most: Duration) -> Result<()> {
    let mut polled: Vec<PollFd<'_>> = sockets.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match ppoll(&mut polled, Some(TimeSpec::from_duration(at_most)), None) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(e) => Err(Error::failed("poll").because(e)),
    }
}

/// Whether an error says that somebody on the way answered by ICMP.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN)
    )
}

/// Packets leave whole or not at all.
pub(super) fn never_fragment(socket: &Socket, ipv6: bool) -> io::Result<()> {
    let (level, name, value) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
    };
    crate::sys::socket::set_int(socket.as_fd(), level, name, value)
}

/// Datagrams that the kernel dropped at the socket, since it was opened.
pub(super) fn dropped(socket: &Socket) -> Result<u64> {
    crate::sys::socket::memory(socket.as_fd())
        .map(|figures| figures[libc::SK_MEMINFO_DROPS as usize].into())
        .map_err(|e| Error::failed("the kernel does not tell what it dropped at our socket").because(e))
}
