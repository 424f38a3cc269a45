//! Hardware addresses of neighbours: asked of the kernel, which is made to resolve those it does not know (ARP, RFC 826;
//! neighbour discovery, RFC 4861).
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::interface;
use super::netlink::{self, Rtnl};
use super::route::{self, Route};
use crate::error::{Error, Result};
use crate::queue::spec::Interface;

/// Between two looks at the table.
const POLL: Duration = Duration::from_millis(5);

/// UDP port of the discard service (RFC 863), for the datagram that makes the kernel resolve.
const DISCARD: u16 = 9;

/// What the table says of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Known([u8; 6]),
    /// Not in the table.
    Absent,
    /// In the table, and not yet resolved.
    Unknown,
    Failed,
}

/// The hardware address to send to for `destination` by `route`: that of the gateway where there is one.
///
/// # Errors
/// As [`resolve`].
pub fn next_hop(
    interface: &Interface,
    route: &Route,
    destination: IpAddr,
    timeout: Duration,
) -> Result<[u8; 6]> {
    resolve(interface, route.gateway.unwrap_or(destination), timeout)
}

/// The hardware address of the neighbour `ip` (unicast) on `interface`, resolved when the kernel does not know it yet.
/// Loopback has none: all zeros; interfaces that resolve nothing have the address that the kernel itself writes.
///
/// # Errors
/// Environment when nobody answers within `timeout` or the interface has no Ethernet header to write.
pub fn resolve(interface: &Interface, ip: IpAddr, timeout: Duration) -> Result<[u8; 6]> {
    let gone = || Error::failed(format!("{}: the interface is gone", interface.name));
    let link = interface::by_index(interface.index)?.ok_or_else(gone)?;
    if link.loopback {
        return Ok([0; 6]);
    }
    if !link.ethernet {
        return Err(Error::environment(format!(
            "{}: no Ethernet interface, so {ip} has no hardware address there",
            interface.name
        ))
        .fix("use --backend uring or mmsg, which leave the headers to the kernel"));
    }
    link.require_up()?;
    if link.noarp {
        // neigh_constructor of ARP and ND: a device that resolves nothing is written to by its own address.
        return Ok(interface.mac);
    }
    let failed = |e: io::Error| {
        Error::environment(format!("{}: cannot look up the neighbour {ip}", interface.name)).because(e)
    };
    if let Entry::Known(mac) = look_up(interface.index, ip).map_err(failed)? {
        return Ok(mac);
    }
    trigger(interface, ip).map_err(failed)?;
    let deadline = Instant::now() + timeout;
    loop {
        match look_up(interface.index, ip).map_err(failed)? {
            Entry::Known(mac) => return Ok(mac),
            Entry::Failed => break,
            Entry::Absent | Entry::Unknown if Instant::now() >= deadline => break,
            Entry::Absent | Entry::Unknown => std::thread::sleep(POLL),
        }
    }
    Err(Error::environment(format!("no neighbour answers for {ip} on {}", interface.name)).fix(format!(
        "check that {ip} is up and on this link (ip neigh show dev {}), or add a route to it by a gateway",
        interface.name
    )))
}

/// The next hop and the interface on the way to `destination` (unicast), by `interface` where it is given, if the kernel has
/// looked for that neighbour in vain so far: what a socket sends there, this host drops, and tells the socket nothing.
pub fn unanswered(destination: IpAddr, interface: Option<u32>) -> Option<(IpAddr, String)> {
    let route = route::route_to(destination, interface, None).ok().filter(|route| !route.local)?;
    let next = route.gateway.unwrap_or(destination);
    let entry = look_up(route.interface, next).ok()?;
    let link = interface::by_index(route.interface).ok()??;
    matches!(entry, Entry::Unknown | Entry::Failed).then_some((next, link.name))
}

fn look_up(index: u32, ip: IpAddr) -> io::Result<Entry> {
    match netlink::route(&Rtnl::GetNeighbour(message(index, ip)), 0) {
        Ok(answers) => Ok(answers.iter().find_map(entry).unwrap_or(Entry::Absent)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(Entry::Absent),
        Err(e) => Err(e),
    }
}

fn message(index: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let (family, address) = match ip {
        IpAddr::V4(ip) => (AddressFamily::Inet, NeighbourAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, NeighbourAddress::Inet6(ip)),
    };
    message.header.family = family;
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
}

fn entry(answer: &Rtnl) -> Option<Entry> {
    let Rtnl::NewNeighbour(message) = answer else { return None };
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
        _ => None,
    });
    Some(match (message.header.state, mac) {
        (NeighbourState::Failed, _) => Entry::Failed,
        (NeighbourState::Incomplete | NeighbourState::None, _) | (_, None) => Entry::Unknown,
        (_, Some(mac)) => Entry::Known(mac),
    })
}

/// Makes the kernel resolve. NTF_USE sends nothing but ARP or ND, and needs CAP_NET_ADMIN; without that, a datagram does.
fn trigger(interface: &Interface, ip: IpAddr) -> io::Result<()> {
    let mut request = message(interface.index, ip);
    request.header.flags = NeighbourFlags::Use;
    match netlink::route(&Rtnl::NewNeighbour(request), NLM_F_CREATE | NLM_F_ACK) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
            send_datagram(interface, ip)
        }
        other => other.map(drop),
    }
}

fn send_datagram(interface: &Interface, ip: IpAddr) -> io::Result<()> {
    let (domain, to) = match ip {
        IpAddr::V4(_) => (Domain::IPV4, SocketAddr::new(ip, DISCARD)),
        IpAddr::V6(ip) => (Domain::IPV6, SocketAddrV6::new(ip, DISCARD, 0, interface.index).into()),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.name.as_bytes()))?;
    socket.send_to(&[], &to.into())?;
    Ok(())
}
