//! Which interface, source address and gateway the kernel takes for a destination (RTM_GETROUTE, rtnetlink(7)).
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use serde::Serialize;

use super::interface::{self, Address};
use super::netlink::{self, Rtnl};
use crate::error::{Error, Result};

/// The way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Index of the interface that packets leave by.
    pub interface: u32,
    /// Source address that they carry.
    pub source: IpAddr,
    /// The router on the way; none where the destination is on the link, or a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The destination is an address of this machine: packets never reach a wire.
    pub local: bool,
}

/// The kernel's route to `destination`, by `interface` and from `source` where they are given. With an interface,
/// a group needs no route, and an IPv4 destination without one is taken to be on its link, as the kernel does for sockets
/// that are bound to a device.
///
/// # Errors
/// Environment when there is no route, or no address to send from; Usage when `source` is no address of this machine.
pub fn route_to(destination: IpAddr, interface: Option<u32>, source: Option<IpAddr>) -> Result<Route> {
    let addresses = interface::all_addresses()?;
    if let Some(source) = source {
        check_source(source, destination, &addresses)?;
    }
    match netlink::route(&request(destination, interface, source), 0) {
        Ok(answers) => {
            let found = answers.iter().find_map(|answer| parse(answer, destination));
            let Some((index, chosen, gateway, local)) = found else {
                return Err(no_route(
                    destination,
                    interface,
                    io::Error::from_raw_os_error(libc::ENETUNREACH),
                ));
            };
            let source = source
                .or(chosen)
                .or_else(|| choose_source(destination, index, &addresses))
                .ok_or_else(|| no_source(destination, index))?;
            Ok(Route { interface: index, source, gateway, local })
        }
        Err(error) => match interface {
            Some(index) if destination.is_multicast() => {
                let source = source
                    .or_else(|| choose_source(destination, index, &addresses))
                    .ok_or_else(|| no_source(destination, index))?;
                Ok(Route { interface: index, source, gateway: None, local: false })
            }
            _ => Err(no_route(destination, interface, error)),
        },
    }
}

/// The address of interface `index` to send to `destination` from. IPv4: the first global one, otherwise the first.
/// IPv6: link-local for link-local destinations, otherwise a global one where there is one (RFC 6724, rule 2).
pub fn choose_source(destination: IpAddr, index: u32, addresses: &[Address]) -> Option<IpAddr> {
    let usable = |a: &&Address| a.index == index && a.ip.is_ipv4() == destination.is_ipv4() && !a.tentative;
    let wants_global = match destination {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => !is_link_scope(ip),
    };
    let mut candidates = addresses.iter().filter(usable);
    candidates.clone().find(|a| a.global == wants_global).or_else(|| candidates.next()).map(|a| a.ip)
}

/// Unicast fe80::/10, or a group of interface-local or link-local scope (RFC 4291, 2.7).
fn is_link_scope(ip: Ipv6Addr) -> bool {
    ip.is_unicast_link_local() || (ip.is_multicast() && matches!(ip.octets()[1] & 0xf, 1 | 2))
}

fn request(destination: IpAddr, interface: Option<u32>, source: Option<IpAddr>) -> Rtnl {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = prefix(destination);
    message.attributes.push(RouteAttribute::Destination(destination.into()));
    if let Some(source) = source {
        message.header.source_prefix_length = prefix(source);
        message.attributes.push(RouteAttribute::Source(source.into()));
    }
    if let Some(index) = interface {
        message.attributes.push(RouteAttribute::Oif(index));
    }
    Rtnl::GetRoute(message)
}

/// Interface, source address, gateway, and whether the route ends on this machine.
fn parse(answer: &Rtnl, destination: IpAddr) -> Option<(u32, Option<IpAddr>, Option<IpAddr>, bool)> {
    let Rtnl::NewRoute(message) = answer else { return None };
    let kind = message.header.kind;
    if matches!(kind, RouteType::Unreachable | RouteType::Prohibit | RouteType::BlackHole | RouteType::Throw)
    {
        return None;
    }
    let (mut index, mut source, mut gateway) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::PrefSource(address) => source = ip_of(address),
            RouteAttribute::Gateway(address) => gateway = ip_of(address),
            // RFC 8950: an IPv4 route by way of an IPv6 router.
            RouteAttribute::Via(RouteVia::Inet(ip)) => gateway = Some(IpAddr::V4(*ip)),
            RouteAttribute::Via(RouteVia::Inet6(ip)) => gateway = Some(IpAddr::V6(*ip)),
            _ => {}
        }
    }
    let gateway = gateway.filter(|_| !destination.is_multicast());
    let source = source.filter(|ip: &IpAddr| !ip.is_unspecified());
    Some((index?, source, gateway, kind == RouteType::Local))
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn prefix(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn check_source(source: IpAddr, destination: IpAddr, addresses: &[Address]) -> Result<()> {
    if source.is_ipv4() != destination.is_ipv4() {
        return Err(Error::usage(format!(
            "source {source} and destination {destination} are of different IP versions"
        )));
    }
    // 127.0.0.0/8 is local as a whole.
    let loopback = source.is_loopback() && source.is_ipv4();
    if loopback || addresses.iter().any(|a| a.ip == source) {
        return Ok(());
    }
    let own = addresses
        .iter()
        .filter(|a| a.ip.is_ipv4() == source.is_ipv4())
        .map(|a| a.ip.to_string())
        .collect::<Vec<_>>();
    let error = Error::usage(format!("source {source} is no address of this machine"));
    Err(if own.is_empty() { error } else { error.fix(format!("use one of: {}", own.join(", "))) })
}

fn no_route(destination: IpAddr, interface: Option<u32>, error: io::Error) -> Error {
    let v6 = if destination.is_ipv6() { "-6 " } else { "" };
    let name = interface.map(name_of);
    let text = match &name {
        Some(name) => format!("no route to {destination} by {name}"),
        None => format!("no route to {destination}"),
    };
    let network: IpAddr = match destination {
        IpAddr::V4(_) if destination.is_multicast() => Ipv4Addr::new(224, 0, 0, 0).into(),
        IpAddr::V6(_) if destination.is_multicast() => Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(),
        other => other,
    };
    let bits = match destination {
        IpAddr::V4(_) if destination.is_multicast() => 4,
        IpAddr::V6(_) if destination.is_multicast() => 8,
        other => prefix(other),
    };
    let add = format!("ip {v6}route add {network}/{bits} dev {}", name.as_deref().unwrap_or("IF"));
    let fix = if interface.is_none() { format!("name an interface with --iface, or: {add}") } else { add };
    Error::environment(text).because(error).fix(fix)
}

fn no_source(destination: IpAddr, index: u32) -> Error {
    let name = name_of(index);
    let (version, example) =
        if destination.is_ipv4() { ("IPv4", "192.0.2.1/24") } else { ("IPv6", "2001:db8::1/64") };
    Error::environment(format!("{name}: no {version} address to send to {destination} from"))
        .fix(format!("give it one: ip address add {example} dev {name}"))
}

fn name_of(index: u32) -> String {
    interface::by_index(index).ok().flatten().map_or_else(|| format!("interface {index}"), |l| l.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(index: u32, ip: &str, global: bool) -> Address {
        Address { index, ip: ip.parse().unwrap(), prefix: 64, global, tentative: false }
    }

    #[test]
    fn sources_by_scope() {
        let all = [
            address(1, "127.0.0.1", false),
            address(2, "169.254.7.7", false),
            address(2, "10.0.0.1", true),
            address(2, "10.0.0.2", true),
            address(2, "fe80::1", false),
            address(2, "fd00::1", true),
            address(3, "fe80::3", false),
        ];
        for (destination, index, expected) in [
            ("239.1.1.1", 2, Some("10.0.0.1")),
            ("239.1.1.1", 1, Some("127.0.0.1")),
            ("239.1.1.1", 3, None),
            ("ff02::1", 2, Some("fe80::1")),
            ("ff15::1", 2, Some("fd00::1")),
            ("ff15::1", 3, Some("fe80::3")),
            ("fe80::9", 2, Some("fe80::1")),
            ("2001:db8::1", 2, Some("fd00::1")),
        ] {
            let chosen = choose_source(destination.parse().unwrap(), index, &all);
            assert_eq!(chosen, expected.map(|e| e.parse().unwrap()), "{destination} by {index}");
        }
    }

    #[test]
    fn a_tentative_address_is_no_source() {
        let tentative = Address { tentative: true, ..address(2, "fd00::1", true) };
        assert_eq!(choose_source("ff15::1".parse().unwrap(), 2, &[tentative]), None);
    }

    #[test]
    fn no_route_says_what_to_add() {
        for (destination, says) in [
            ("239.1.1.1", "ip route add 224.0.0.0/4 dev IF"),
            ("10.9.8.7", "ip route add 10.9.8.7/32 dev IF"),
            ("ff15::1", "ip -6 route add ff00::/8 dev IF"),
        ] {
            let error = no_route(destination.parse().unwrap(), None, io::Error::from_raw_os_error(101));
            assert!(error.fix.as_deref().unwrap().contains(says), "{error}");
            assert!(error.fix.as_deref().unwrap().contains("--iface"), "{error}");
        }
    }
}
