//! UDP sockets for the queues: one connected socket for each flow sent, one bound socket for a target received.
//!
//! Nothing here needs a privilege; with CAP_NET_ADMIN the buffers become larger.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::received::{Addressing, IP_RECVFRAGSIZE, IPV6_RECVFRAGSIZE};
use super::{explain, groups, timed};
use crate::error::{Error, Result};
use crate::multicast::membership;
use crate::multicast::memberships::Memberships;
use crate::queue::spec::{Flow, Interface, RxSpec, TxSpec};
use crate::sys;

/// Bytes of packets that a sending socket may have on their way through queueing discipline and NIC.
const SEND_BUFFER: usize = 4 << 20;

/// Bytes that a receiving socket asks to hold; the kernel counts its own overhead of a packet too, so that 64 MiB
/// are some 80,000 small packets.
pub(super) const RECEIVE_BUFFER: usize = 64 << 20;

/// How long the kernel may take to begin to stamp what arrives. What comes earlier has no stamp, and is counted.
const STAMPS_BEGIN: Duration = Duration::from_millis(20);

/// A receiving socket.
#[derive(Debug)]
pub(super) struct Receiver {
    /// Bound and joined.
    pub(super) socket: Socket,
    /// What its packets have in common.
    pub(super) addressing: Addressing,
    /// The errno with which the kernel declined UDP_GRO, when it was wanted.
    pub(super) gro_refused: Option<i32>,
    /// Bytes of receive buffer that the kernel granted, in the terms of `net.core.rmem_max`.
    pub(super) granted: usize,
    /// Memberships that it does not hold itself.
    pub(super) held: Option<Memberships>,
}

/// Opens a connected socket for each flow of `spec`.
///
/// Packets leave with "don't fragment" and path MTU discovery off (IP_PMTUDISC_PROBE): one datagram is one frame, unless
/// it is longer than the MTU and the spec lets it be cut.
pub(super) fn senders(spec: &TxSpec) -> Result<Vec<Socket>> {
    if spec.ttl == 0 {
        return Err(Error::usage("TTL 0 does not leave the host").fix("use a TTL from 1 to 255"));
    }
    if spec.dscp > 63 {
        return Err(
            Error::usage(format!("DSCP {} is more than six bits", spec.dscp)).fix("use a DSCP from 0 to 63")
        );
    }
    spec.flows.iter().map(|flow| sender(spec, flow)).collect()
}

fn sender(spec: &TxSpec, flow: &Flow) -> Result<Socket> {
    let interface = spec.interface.as_ref();
    let destination = scoped(flow.destination, interface)?;
    let ipv6 = destination.is_ipv6();
    let failed = |step: &str, error| explain::sender(step, error, flow, interface);
    let socket = open(ipv6).map_err(|e| failed("socket", e))?;
    if let Some(interface) = interface {
        check_up(&socket, interface)?;
        // Unprivileged since Linux 5.7; before that the choice of the way out does nearly as well. Not both: a bound
        // socket refuses IP_UNICAST_IF with EINVAL.
        match socket.bind_device(Some(interface.name.as_bytes())) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                sys::socket::leave_by(socket.as_fd(), ipv6, interface.index)
                    .map_err(|e| failed("choice of interface", e))?;
            }
            Err(error) => return Err(failed("SO_BINDTODEVICE", error)),
        }
    }
    mark(&socket, ipv6, spec).map_err(|e| failed("TTL and DSCP", e))?;
    if force_send_buffer(&socket, SEND_BUFFER).is_err() {
        socket.set_send_buffer_size(SEND_BUFFER).map_err(|e| failed("SO_SNDBUF", e))?;
    }
    // Nothing is read from it: what strangers send to the port is dropped early.
    socket.set_recv_buffer_size(0).map_err(|e| failed("SO_RCVBUF", e))?;
    if let Some(qdisc) = &spec.txtime {
        timed::enable(&socket, qdisc).map_err(|e| match e.raw_os_error() {
            Some(libc::EPERM) => Error::environment(format!("--txtime: {} takes CAP_NET_ADMIN", qdisc.kind))
                .fix("run it as root, or use fq"),
            _ => failed("SO_TXTIME", e),
        })?;
    }
    let source = scoped(flow.source, interface)?;
    if source.is_ipv6() != ipv6 {
        return Err(Error::usage(format!(
            "source {} and destination {} are of different IP versions",
            source.ip(),
            destination.ip()
        )));
    }
    if source.port() != 0 {
        // Several flows may share a source port.
        socket.set_reuse_address(true).map_err(|e| failed("SO_REUSEADDR", e))?;
    }
    if source.port() != 0 || !source.ip().is_unspecified() {
        socket.bind(&source.into()).map_err(|e| failed("bind", e))?;
    }
    socket.connect(&destination.into()).map_err(|e| failed("connect", e))?;
    check_route(&socket, spec, flow, ipv6)?;
    Ok(socket)
}

/// TTL or hop limit, DSCP, loop-back of multicast to receivers on this host, no fragments.
fn mark(socket: &Socket, ipv6: bool, spec: &TxSpec) -> io::Result<()> {
    let ttl = u32::from(spec.ttl);
    let class = u32::from(spec.dscp) << 2;
    if ipv6 {
        socket.set_unicast_hops_v6(ttl)?;
        socket.set_multicast_hops_v6(ttl)?;
        socket.set_multicast_loop_v6(true)?;
        socket.set_tclass_v6(class)?;
        let level = libc::IPPROTO_IPV6;
        sys::socket::set_int(socket.as_fd(), level, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
        sys::socket::set_int(socket.as_fd(), level, libc::IPV6_DONTFRAG, 1)
    } else {
        socket.set_ttl_v4(ttl)?;
        socket.set_multicast_ttl_v4(ttl)?;
        socket.set_multicast_loop_v4(true)?;
        socket.set_tos_v4(class)?;
        let level = libc::IPPROTO_IP;
        sys::socket::set_int(socket.as_fd(), level, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
    }
}

/// The kernel connects a socket without a source address and over a small MTU; the packets would fail one by one.
fn check_route(socket: &Socket, spec: &TxSpec, flow: &Flow, ipv6: bool) -> Result<()> {
    let interface = spec.interface.as_ref();
    let place = interface.map_or_else(String::new, |interface| format!("{}: ", interface.name));
    let local = socket.local_addr().ok().and_then(|address| address.as_socket());
    if local.is_none_or(|local| local.ip().is_unspecified()) {
        let version = if ipv6 { "IPv6" } else { "IPv4" };
        return Err(explain::no_address(&place, version, flow, interface));
    }
    let Some(mtu) = route_mtu(socket, ipv6) else { return Ok(()) };
    let around = if ipv6 { 48 } else { 28 };
    let packet = i32::from(spec.max_payload) + around;
    if packet <= mtu {
        return Ok(());
    }
    if spec.fragment {
        return allow_fragments(socket, ipv6)
            .map_err(|e| explain::sender("permission to fragment", e, flow, interface));
    }
    let error = Error::usage(format!(
        "{place}{} bytes of payload to {} need an MTU of {packet}, and it is {mtu}",
        spec.max_payload, flow.destination
    ));
    let smaller = format!("use at most {} bytes of payload", (mtu - around).max(0));
    Err(match interface {
        Some(i) => error.fix(format!("{smaller}, or: ip link set dev {} mtu {packet}", i.name)),
        None => error.fix(smaller),
    })
}

/// The MTU of the route of a connected socket, in bytes.
fn route_mtu(socket: &Socket, ipv6: bool) -> Option<i32> {
    let (level, name) =
        if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_MTU) } else { (libc::IPPROTO_IP, libc::IP_MTU) };
    sys::socket::get_int(socket.as_fd(), level, name).ok()
}

/// Whether a payload of `len` bytes leaves whole on the route of a connected socket.
pub(super) fn leaves_whole(socket: &Socket, ipv6: bool, len: u16) -> bool {
    let around = if ipv6 { 48 } else { 28 };
    route_mtu(socket, ipv6).is_none_or(|mtu| i32::from(len) + around <= mtu)
}

/// Has the kernel cut what is longer than the MTU, and take no router's word for a smaller one.
fn allow_fragments(socket: &Socket, ipv6: bool) -> io::Result<()> {
    let fd = socket.as_fd();
    if ipv6 {
        sys::socket::set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?;
        sys::socket::set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 0)
    } else {
        sys::socket::set_int(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
    }
}

/// Bytes of receive buffer that `spec` asks for.
pub(super) fn wanted_buffer(spec: &RxSpec) -> usize {
    spec.tuning.receive_buffer.map_or(RECEIVE_BUFFER, |bytes| bytes as usize)
}

/// Opens the socket that receives the target of `spec`, asking for `buffer` bytes of receive buffer.
///
/// For a group it is bound to the group's address, so that other groups on the port do not arrive; with an
/// interface only what arrives on that one does. A unicast port is not shared. For many groups it is bound to no address, see [`groups`].
pub(super) fn receiver(spec: &RxSpec, buffer: usize) -> Result<Receiver> {
    let interface = spec.interface.as_ref();
    let target = &spec.target;
    let destination = scoped(target.destination, interface)?;
    let ipv6 = destination.is_ipv6();
    let failed = |step: &str, error| explain::receiver(step, error, target, interface);
    let socket = open(ipv6).map_err(|e| failed("socket", e))?;
    let many = groups::many(spec);
    let mut bound = false;
    if let Some(interface) = interface {
        check_up(&socket, interface)?;
        bound = true;
        if let Err(error) = socket.bind_device(Some(interface.name.as_bytes())) {
            bound = false;
            // An IPv4 membership is of one interface, and so filters by it (IP_MULTICAST_ALL is off).
            let filtered = target.is_group() && !ipv6;
            if !(filtered && error.raw_os_error() == Some(libc::EPERM)) {
                return Err(failed("SO_BINDTODEVICE", error));
            }
        }
    }
    if force_receive_buffer(&socket, buffer).is_err() {
        socket.set_recv_buffer_size(buffer).map_err(|e| failed("SO_RCVBUF", e))?;
    }
    // The kernel doubles what is asked for, for its own overhead.
    let granted = socket.recv_buffer_size().map_err(|e| failed("SO_RCVBUF", e))? / 2;
    if target.is_group() {
        socket.set_reuse_address(true).map_err(|e| failed("SO_REUSEADDR", e))?;
    }
    let any = destination.ip().is_unspecified();
    if (target.is_group() || any) && !many {
        // Groups that others on this host have joined are theirs.
        if ipv6 { socket.set_multicast_all_v6(false) } else { socket.set_multicast_all_v4(false) }
            .map_err(|e| failed("IP_MULTICAST_ALL", e))?;
    }
    if any || many {
        let (level, name) = if ipv6 {
            (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
        } else {
            (libc::IPPROTO_IP, libc::IP_PKTINFO)
        };
        sys::socket::set_int(socket.as_fd(), level, name, 1).map_err(|e| failed("IP_PKTINFO", e))?;
    }
    let wanted = spec.segments.most() > 1;
    let refused = wanted.then(|| sys::socket::set_int(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).err());
    let gro_refused = refused.flatten().and_then(|error| error.raw_os_error());
    // Only what came in fragments has a message of this.
    let (level, name) =
        if ipv6 { (libc::IPPROTO_IPV6, IPV6_RECVFRAGSIZE) } else { (libc::IPPROTO_IP, IP_RECVFRAGSIZE) };
    sys::socket::set_int(socket.as_fd(), level, name, 1).map_err(|e| failed("IP_RECVFRAGSIZE", e))?;
    if spec.tuning.kernel_stamps {
        stamp(&socket, spec.nic_clock.is_some()).map_err(|e| failed("SO_TIMESTAMPING", e))?;
    }
    // Joined before it is bound: what arrives in between is what is wanted, and nothing else is let in.
    let mut addressing = Addressing::new(
        destination,
        wanted && gro_refused.is_none(),
        spec.tuning.kernel_stamps,
        spec.nic_clock.clone(),
    );
    let mut held = None;
    if many {
        let (memberships, range) = groups::join(spec, bound)?;
        (held, addressing) = (Some(memberships), addressing.of_groups(range));
    } else if target.is_group() {
        membership::join_on(&socket, interface, target)?;
    }
    let address = if many { groups::anywhere(spec) } else { destination };
    socket.bind(&SockAddr::from(address)).map_err(|e| failed("bind", e))?;
    Ok(Receiver { socket, addressing, gro_refused, granted, held })
}

/// Has the kernel stamp what arrives, and hand on the stamp of the NIC, too, where that is wanted and there is one.
fn stamp(socket: &Socket, nic: bool) -> io::Result<()> {
    let mut flags = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
    if nic {
        flags |= libc::SOF_TIMESTAMPING_RX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE;
    }
    sys::socket::set_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPING, flags.cast_signed())?;
    // The kernel begins to stamp in a work queue, a moment later.
    thread::sleep(STAMPS_BEGIN);
    Ok(())
}

fn open(ipv6: bool) -> io::Result<Socket> {
    let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if ipv6 {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn force_send_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    force(socket, libc::SO_SNDBUFFORCE, bytes)
}

fn force_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    force(socket, libc::SO_RCVBUFFORCE, bytes)
}

/// Past the sysctl limits; needs CAP_NET_ADMIN in the network namespace's user namespace.
fn force(socket: &Socket, name: i32, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    sys::socket::set_int(socket.as_fd(), libc::SOL_SOCKET, name, bytes)
}

/// Gives link-local addresses the scope that they mean nothing without (RFC 4007).
fn scoped(address: SocketAddr, interface: Option<&Interface>) -> Result<SocketAddr> {
    let SocketAddr::V6(mut v6) = address else { return Ok(address) };
    if v6.scope_id() == 0 && needs_scope(*v6.ip()) {
        let Some(interface) = interface else {
            return Err(Error::usage(format!("{} is a link-local address", v6.ip()))
                .fix("name the interface with --iface"));
        };
        v6.set_scope_id(interface.index);
    }
    Ok(SocketAddr::V6(v6))
}

/// Link-local unicast, and groups of interface-local or link-local scope.
fn needs_scope(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    first & 0xffc0 == 0xfe80 || (first & 0xff00 == 0xff00 && matches!(first & 0xf, 1 | 2))
}

fn check_up(socket: &Socket, interface: &Interface) -> Result<()> {
    let name = &interface.name;
    match sys::socket::interface_flags(socket.as_fd(), interface.index) {
        Ok(flags) if flags & libc::IFF_UP != 0 => Ok(()),
        Ok(_) => Err(Error::environment(format!("{name} is down")).fix(format!("ip link set dev {name} up"))),
        Err(error) => Err(Error::environment(format!("{name}: no such interface"))
            .because(error)
            .fix("see `ip link` for those that there are")),
    }
}

/// Whether the interface of an open socket was deleted or set down: `Some` with the errno that says so.
pub(super) fn interface_lost(socket: &Socket, interface: Option<&Interface>) -> Option<i32> {
    match sys::socket::interface_flags(socket.as_fd(), interface?.index) {
        Ok(flags) if flags & libc::IFF_UP != 0 => None,
        Ok(_) => Some(libc::ENETDOWN),
        Err(_) => Some(libc::ENODEV),
    }
}

/// The largest receive buffer that this machine grants without CAP_NET_ADMIN, in bytes (`net.core.rmem_max`).
pub fn unprivileged_receive_buffer() -> Option<usize> {
    fs::read_to_string("/proc/sys/net/core/rmem_max").ok()?.trim().parse().ok()
}

/// The unspecified address of the same IP version, port 0: "whatever the kernel chooses".
pub fn any_like(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).into(),
        SocketAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_get_the_interface() {
        let interface = Interface { name: "x".into(), index: 7, mac: [0; 6], mtu: 1500 };
        for (text, needs) in [
            ("fe80::1", true),
            ("febf::1", true),
            ("ff02::1:2", true),
            ("ff11::1", true),
            ("ff15::1", false),
            ("ff3e::8000:1", false),
            ("2001:db8::1", false),
        ] {
            let address = SocketAddr::new(text.parse().unwrap(), 5);
            assert_eq!(scoped(address, None).is_err(), needs, "{text}");
            let SocketAddr::V6(v6) = scoped(address, Some(&interface)).unwrap() else { panic!() };
            assert_eq!(v6.scope_id(), if needs { 7 } else { 0 }, "{text}");
        }
    }
}
