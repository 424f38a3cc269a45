//! Which interface is tested: the one that was named, or the first that can have a cable.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::host::interface::{self, Link};
use crate::host::route;

/// Names of interfaces without a cable of their own: of containers, virtual machines and wireless cards.
const PREFIXES: [(&str, &str); 14] = [
    ("docker", "of Docker"),
    ("br-", "a bridge of Docker"),
    ("veth", "of a container"),
    ("cni", "of a container"),
    ("cali", "of a container"),
    ("flannel", "of a container"),
    ("lxc", "of a container"),
    ("podman", "of a container"),
    ("virbr", "of libvirt"),
    ("vnet", "of a virtual machine"),
    ("tap", "of a virtual machine"),
    ("tun", "a tunnel"),
    ("wl", "wireless"),
    ("ww", "a modem"),
];

/// Kinds of devices without a cable.
const KINDS: [&str; 12] = [
    "bridge",
    "dummy",
    "ifb",
    "tun",
    "wireguard",
    "vxlan",
    "geneve",
    "gre",
    "gretap",
    "sit",
    "ipip",
    "nlmon",
];

/// The interface under test.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// What the kernel says of it.
    pub link: Link,
    /// Its addresses with the lengths of their prefixes, as 192.0.2.1/24.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Why this one.
    pub why: String,
}

impl Chosen {
    /// An address of the same family as `like`, the first that is valid beyond the link.
    pub fn address(&self, like: IpAddr) -> Option<IpAddr> {
        self.addresses
            .iter()
            .map(|(ip, _)| *ip)
            .find(|ip| ip.is_ipv4() == like.is_ipv4() && !is_link_local(*ip))
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The interface called `named`; otherwise the one that packets `towards` an address leave by; otherwise the first that may have a cable.
///
/// # Errors
/// Usage when there is none of that name; Environment when it is down, or when none suits: all are named, each with what is against it.
pub fn choose(named: Option<&str>, towards: Option<IpAddr>) -> Result<Chosen> {
    let (link, why) = match (named, towards) {
        (Some(name), _) => (interface::require_up(name)?, "named by --iface".to_owned()),
        (None, towards) => {
            let first = first(&interface::list()?);
            match towards.map(way_out).transpose()?.flatten() {
                // What is counted has to be where the packets are.
                Some(way) if first.as_ref().map_or(true, |first| first.index != way.index) => {
                    (way, "the route to the other end leads to it".to_owned())
                }
                _ => (first?, "the first that may have a cable".to_owned()),
            }
        }
    };
    let addresses = interface::addresses(link.index)?.into_iter().map(|a| (a.ip, a.prefix)).collect();
    Ok(Chosen { link, addresses, why })
}

fn way_out(towards: IpAddr) -> Result<Option<Link>> {
    if towards.is_multicast() {
        return Ok(None);
    }
    let route = route::route_to(towards, None, None)?;
    if route.local {
        return Err(Error::usage(format!(
            "{towards} is an address of this host: no packet to it reaches a cable"
        ))
        .fix("name the other end of the link"));
    }
    interface::by_index(route.interface)
}

/// The first of these that may have a cable, by index.
///
/// # Errors
/// Environment, naming each with what is against it.
fn first(links: &[Link]) -> Result<Link> {
    let mut against = Vec::new();
    for link in links {
        match unsuitable(link) {
            None => return Ok(link.clone()),
            Some(why) => against.push(format!("{} ({why})", link.name)),
        }
    }
    Err(Error::environment(format!("no interface suits a link test: {}", against.join(", ")))
        .fix("bring one up, or name one by --iface IF"))
}

/// What is against testing this interface unless somebody names it.
fn unsuitable(link: &Link) -> Option<String> {
    if link.loopback {
        return Some("loopback".to_owned());
    }
    if let Some((_, what)) = PREFIXES.iter().find(|(prefix, _)| link.name.starts_with(prefix)) {
        return Some((*what).to_owned());
    }
    if let Some(kind) = link.kind.as_deref().filter(|kind| KINDS.contains(kind)) {
        return Some(kind.to_owned());
    }
    match link {
        Link { ethernet: false, .. } => Some("no Ethernet".to_owned()),
        Link { up: false, .. } => Some("down".to_owned()),
        Link { carrier: false, .. } => Some("no link".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, change: impl FnOnce(&mut Link)) -> Link {
        let mut link = Link {
            name: name.to_owned(),
            index: 2,
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            kind: None,
            up: true,
            carrier: true,
            multicast: true,
            loopback: false,
            point_to_point: false,
            noarp: false,
            ethernet: true,
            xdp_programs: Vec::new(),
            rx_queues: 1,
            tx_queues: 1,
        };
        change(&mut link);
        link
    }

    #[test]
    fn the_first_that_may_have_a_cable() {
        let links = [
            link("lo", |l| l.loopback = true),
            link("docker0", |_| ()),
            link("veth1a2b", |_| ()),
            link("wlp3s0", |_| ()),
            link("virbr0", |_| ()),
            link("br0", |l| l.kind = Some("bridge".into())),
            link("eno1", |l| l.carrier = false),
            link("eno2", |l| l.up = false),
            link("enp5s0f0", |_| ()),
            link("enp5s0f1", |_| ()),
        ];
        assert_eq!(first(&links).unwrap().name, "enp5s0f0");
        let none = first(&links[..8]).unwrap_err();
        for word in [
            "lo (loopback)",
            "docker0 (of Docker)",
            "br0 (bridge)",
            "eno1 (no link)",
            "eno2 (down)",
            "wireless",
        ] {
            assert!(none.what.contains(word), "{none}");
        }
        assert_eq!(none.kind, crate::Kind::Environment);
    }
}
