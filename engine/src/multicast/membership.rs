//! Group membership: a kernel socket that has joined makes the kernel speak IGMP or MLD, and the NIC and
//! the switches let the group through, for as long as it is open.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Error, Result};
use crate::queue::spec::Interface;
use crate::sys;
use crate::target::Target;

/// A membership of a group (ASM) or of an (S,G) channel (SSM, RFC 4607); it ends when this is dropped.
///
/// Its socket is not bound to a port and never receives a datagram: for queues that take packets past the
/// socket layer. A receiving socket joins by itself ([`join_on`]).
#[derive(Debug)]
pub struct Membership {
    /// Open for as long as the kernel is to be a member.
    _socket: Socket,
}

impl Membership {
    /// Joins the group of `target` on `interface`.
    ///
    /// # Errors
    /// As [`join_on`].
    pub fn join(interface: &Interface, target: &Target) -> Result<Self> {
        let domain = if target.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::DGRAM.cloexec(), Some(Protocol::UDP))
            .map_err(|e| Error::environment(format!("join {target}: no socket")).because(e))?;
        join_on(&socket, Some(interface), target)?;
        Ok(Self { _socket: socket })
    }
}

/// Joins the group of `target` with `socket`, on `interface` or on the one that the routing table has for
/// the group. A packet is delivered once for each socket, however many interfaces have it.
///
/// # Errors
/// Usage: the target is not a group. Environment: no such interface, interface without the MULTICAST flag,
/// no route to the group, too many memberships.
pub fn join_on(socket: &Socket, interface: Option<&Interface>, target: &Target) -> Result<()> {
    if !target.is_group() {
        return Err(Error::usage(format!(
            "join {target}: {} is not a multicast group",
            target.destination.ip()
        ))
        .fix("use a group, such as 239.1.2.3 or ff15::1"));
    }
    if let Some(interface) = interface {
        check_flags(socket, interface, &format!("join {target}"))?;
    }
    let index = interface.map_or(0, |interface| interface.index);
    match sys::socket::join(socket.as_fd(), index, target.destination.ip(), target.source) {
        Ok(()) => Ok(()),
        Err(error) => Err(explain(error, interface, target)),
    }
}

/// The kernel joins on any interface, and nothing ever arrives on one without the flag. The loopback
/// interface lacks it and nevertheless loops multicast back.
pub(super) fn check_flags(socket: &Socket, interface: &Interface, what: &str) -> Result<()> {
    let name = &interface.name;
    let flags = sys::socket::interface_flags(socket.as_fd(), interface.index).map_err(|error| {
        Error::environment(format!("{what} on {name}"))
            .because(error)
            .fix(format!("{name} is gone: see `ip link`"))
    })?;
    if flags & (libc::IFF_MULTICAST | libc::IFF_LOOPBACK) == 0 {
        return Err(Error::environment(format!("{what}: {name} has no MULTICAST flag"))
            .fix(format!("ip link set dev {name} multicast on")));
    }
    Ok(())
}

fn explain(error: io::Error, interface: Option<&Interface>, target: &Target) -> Error {
    let group = target.destination.ip();
    let what = match interface {
        Some(interface) => format!("join {target} on {}", interface.name),
        None => format!("join {target}"),
    };
    let fix = match (error.raw_os_error(), interface) {
        (Some(libc::ENODEV | libc::EADDRNOTAVAIL), None) => {
            Some(format!("no route leads to {group}: name the interface with --iface"))
        }
        (Some(libc::ENODEV), Some(interface)) => Some(format!("{} is gone: see `ip link`", interface.name)),
        (Some(libc::ENOBUFS | libc::ENOMEM), _) => Some(limits(group, target.source)),
        _ => None,
    };
    let error = Error::environment(what).because(error);
    match fix {
        Some(fix) => error.fix(fix),
        None => error,
    }
}

/// What bounds the memberships of one socket (`Documentation/networking/ip-sysctl.rst`).
fn limits(group: IpAddr, source: Option<IpAddr>) -> String {
    let (name, path) = match (group, source) {
        (IpAddr::V4(_), None) => ("net.ipv4.igmp_max_memberships", "/proc/sys/net/ipv4/igmp_max_memberships"),
        (IpAddr::V4(_), Some(_)) => ("net.ipv4.igmp_max_msf", "/proc/sys/net/ipv4/igmp_max_msf"),
        (IpAddr::V6(_), None) => ("net.core.optmem_max", "/proc/sys/net/core/optmem_max"),
        (IpAddr::V6(_), Some(_)) => ("net.ipv6.mld_max_msf", "/proc/sys/net/ipv6/mld_max_msf"),
    };
    let now = fs::read_to_string(path).unwrap_or_default();
    format!("too many memberships: raise {name}, now {}", now.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn loopback() -> Interface {
        Interface { name: "lo".into(), index: 1, mac: [0; 6], mtu: 65536 }
    }

    #[test]
    fn a_host_is_not_a_group() {
        let error = Membership::join(&loopback(), &"127.0.0.1:5001".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.what.contains("127.0.0.1 is not a multicast group"), "{error}");
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let interface = Interface { name: "nix0".into(), index: 0x7fff_fff0, ..loopback() };
        let error = Membership::join(&interface, &"239.1.2.3:5001".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind, Kind::Environment);
        assert!(error.to_string().contains("nix0 is gone"), "{error}");
    }

    #[test]
    fn groups_and_channels_are_joined() {
        for target in
            ["239.1.2.3:5001", "127.0.0.1@232.1.1.1:5001", "[ff15::1]:5001", "[::1]@[ff3e::8000:1]:5"]
        {
            let target: Target = target.parse().unwrap();
            Membership::join(&loopback(), &target).unwrap_or_else(|e| panic!("{target}: {e}"));
        }
    }

    #[test]
    fn one_socket_too_often() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        let error = (1..=255).find_map(|n| {
            let target: Target = format!("239.9.9.{n}:5001").parse().unwrap();
            join_on(&socket, Some(&loopback()), &target).err()
        });
        // The limit is 20 unless somebody raised it.
        if let Some(error) = error {
            assert!(error.to_string().contains("igmp_max_memberships"), "{error}");
        }
    }
}
