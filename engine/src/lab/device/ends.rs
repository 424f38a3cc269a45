//! The hosts around a device, and how they are connected to it.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::lab::{Host, INTERFACE, Netns, ip};
use crate::queue::spec::Interface;

/// How a device is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Hosts that send.
    pub senders: u8,
    /// `bridge`: look into membership reports. Without, every group goes to every port.
    pub snooping: bool,
    /// `bridge`: groups that there is room for; the kernel gives up snooping above. `None`: its default of 4096.
    pub hash_limit: Option<u32>,
    /// All but `macvlan`: time between general queries.
    pub query_interval: Duration,
    /// `pimd`: the first sender is the neighbour that it asks for groups, once that says that it is a router (RFC 7761 §4.3).
    pub upstream: bool,
    /// `router`: packets whose TTL is not above this do not leave towards members (IPv4; RFC 1112 §6.1 calls it a threshold), 0 to 254.
    pub threshold: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            senders: 1,
            snooping: true,
            hash_limit: None,
            query_interval: Duration::from_secs(20),
            upstream: false,
            threshold: 0,
        }
    }
}

/// Names of a device's interfaces: senders, members, the stranger.
pub(super) fn sender_port(n: u8) -> String {
    format!("s{n}")
}

pub(super) fn member_port(n: usize) -> String {
    format!("r{n}")
}

pub(super) const STRANGER_PORT: &str = "x";

/// Addresses of a host: its own, of its router if there is one, and prefix lengths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub ipv4: Ipv4Addr,
    pub ipv6: Ipv6Addr,
    pub router: Option<(Ipv4Addr, Ipv6Addr)>,
}

impl Addresses {
    /// In the one subnet of a device on layer 2.
    pub(super) fn flat(n: u8) -> Self {
        Self {
            ipv4: Ipv4Addr::new(10, 77, 0, n),
            ipv6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(n)),
            router: None,
        }
    }

    /// In a subnet with the number `n`, which has a router.
    pub(super) fn routed(n: u8) -> Self {
        let v6 = |host| Ipv6Addr::new(0xfd77, u16::from(n), 0, 0, 0, 0, 0, host);
        Self {
            ipv4: Ipv4Addr::new(10, 77, n, 1),
            ipv6: v6(1),
            router: Some((Ipv4Addr::new(10, 77, n, 254), v6(0xfe))),
        }
    }
}

/// A host whose [`INTERFACE`] is there already gets addresses and routes.
pub(super) fn settle(netns: Netns, addresses: Addresses, port: &str) -> Result<Host> {
    let Addresses { ipv4, ipv6, router } = addresses;
    let mut script = format!(
        "link set lo up\n\
         address add {ipv4}/24 dev {INTERFACE}\n\
         address add {ipv6}/64 dev {INTERFACE} nodad\n\
         link set {INTERFACE} up\n\
         route add 224.0.0.0/4 dev {INTERFACE}\n"
    );
    if let Some((v4, v6)) = router {
        script += &format!("route add default via {v4}\nroute add ::/0 via {v6}\n");
    }
    ip::configure(&netns, &script)?;
    Ok(Host { netns, ipv4, ipv6, port: port.to_owned() })
}

/// A new host, connected to `middle` by a cable that ends in `port` there. The port is up.
pub(super) fn attach(middle: &Netns, port: &str, addresses: Addresses) -> Result<Host> {
    let netns = crate::lab::new_netns()?;
    ip::connect(middle, port, &netns, INTERFACE)?;
    ip::configure(middle, &format!("link set {port} up\n"))?;
    settle(netns, addresses, port)
}

/// Senders, members and the stranger of a device, in this order, each connected by `join` with its port and its number.
pub(super) fn hosts(
    members: usize,
    senders: u8,
    mut join: impl FnMut(&str, u8) -> Result<Host>,
) -> Result<(Vec<Host>, Vec<Host>, Host)> {
    // Kind::most_hosts is less than a byte holds.
    let number = |n: usize| u8::try_from(n).map_err(|_| Error::usage("too many hosts"));
    let sending = (0..senders).map(|n| join(&sender_port(n), 1 + n)).collect::<Result<Vec<_>>>()?;
    let receiving = (1..=members)
        .map(|n| join(&member_port(n), number(usize::from(senders) + n)?))
        .collect::<Result<Vec<_>>>()?;
    let stranger = join(STRANGER_PORT, number(usize::from(senders) + members + 1)?)?;
    Ok((sending, receiving, stranger))
}

/// The first sender is 10.77.0.1, the first of the others 10.77.0.11, or as far behind the senders as they are many.
pub(super) fn flat_number(n: u8, senders: u8) -> u8 {
    if n <= senders { n } else { n - senders + senders.max(10) }
}

/// Tells every host its neighbours' hardware addresses, so that the first packets of a test do not wait for ARP.
pub(super) fn introduce(hosts: &[&Host]) -> Result<()> {
    let macs = hosts.iter().map(|h| ip::mac_of(&h.netns, INTERFACE)).collect::<Result<Vec<_>>>()?;
    for host in hosts {
        let mut script = String::new();
        for (other, mac) in hosts.iter().zip(&macs).filter(|(other, _)| other.ipv4 != host.ipv4) {
            for address in [IpAddr::from(other.ipv4), other.ipv6.into()] {
                script += &format!("neigh replace {address} lladdr {mac} dev {INTERFACE} nud permanent\n");
            }
        }
        ip::configure(&host.netns, &script)?;
    }
    Ok(())
}

/// The interfaces with these names in the middle, in this order.
pub(super) fn interfaces<'a>(
    middle: &Netns,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Interface>> {
    let names: Vec<&str> = names.into_iter().collect();
    middle.run(|| names.into_iter().map(crate::host::interface::lookup).collect())
}
