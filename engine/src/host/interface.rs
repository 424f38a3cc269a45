//! The interfaces of the current network namespace, by rtnetlink(7).
#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
};
use serde::Serialize;

use super::netlink::{self, Rtnl};
use crate::error::{Error, Result};
use crate::queue::spec::Interface;

/// What the kernel says of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Name.
    pub name: String,
    /// Index in this network namespace.
    pub index: u32,
    /// Hardware address; absent where it is not one of six bytes (tunnels).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes: the largest IP packet.
    pub mtu: u32,
    /// Kind of a virtual device: `veth`, `bridge`, `vlan`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Administratively up (IFF_UP).
    pub up: bool,
    /// The lower layer is up: a cable, a peer (IFF_LOWER_UP).
    pub carrier: bool,
    /// Can send and receive multicast (IFF_MULTICAST).
    pub multicast: bool,
    /// The loopback device.
    pub loopback: bool,
    /// Has one other end only (IFF_POINTOPOINT).
    pub point_to_point: bool,
    /// Resolves no neighbours (IFF_NOARP).
    pub noarp: bool,
    /// Frames begin with an Ethernet header.
    pub ethernet: bool,
    /// Identifiers of the XDP programs attached to it.
    pub xdp_programs: Vec<u32>,
    /// Receive queues that the device was made with.
    pub rx_queues: u32,
    /// Transmit queues that the device was made with.
    pub tx_queues: u32,
}

impl Link {
    /// What a queue needs to know; a device without a hardware address has all zeros, as loopback has.
    pub fn interface(&self) -> Interface {
        Interface {
            name: self.name.clone(),
            index: self.index,
            mac: self.mac.unwrap_or_default(),
            mtu: self.mtu,
        }
    }

    /// # Errors
    /// When the interface is down.
    pub fn require_up(&self) -> Result<()> {
        if self.up {
            return Ok(());
        }
        Err(Error::environment(format!("{}: the interface is down", self.name))
            .fix(format!("ip link set dev {} up", self.name)))
    }
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Address {
    /// The interface's index.
    pub index: u32,
    /// The local address.
    pub ip: IpAddr,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
    /// Valid beyond the link (scope global or site).
    pub global: bool,
    /// IPv6: duplicate address detection is under way or has failed; cannot be used as a source.
    pub tentative: bool,
}

/// The interface called `name`, with all a queue needs.
///
/// # Errors
/// Usage when there is none, with the names of those there are.
pub fn lookup(name: &str) -> Result<Interface> {
    Ok(link(name)?.interface())
}

/// What the kernel says of the interface called `name`.
///
/// # Errors
/// Usage when there is none, with the names of those there are.
pub fn link(name: &str) -> Result<Link> {
    // The whole table is read: asking by name would also find alternative names, and no device when it is too long.
    let links = list()?;
    if let Some(link) = links.iter().find(|l| l.name == name) {
        return Ok(link.clone());
    }
    let names = links.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(", ");
    Err(Error::usage(format!("{name}: no such interface in this network namespace"))
        .fix(format!("use one of: {names}")))
}

/// The interface with this index; none when it is gone.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn by_index(index: u32) -> Result<Option<Link>> {
    let mut message = get_link();
    message.header.index = index;
    match netlink::route(&Rtnl::GetLink(message), 0) {
        Ok(answers) => Ok(answers.iter().find_map(parse_link)),
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(e) => Err(cannot_ask("interfaces", e)),
    }
}

/// How often the link of the interface with this index has gone down, ever; none when it is gone.
pub fn carrier_downs(index: u32) -> Option<u32> {
    let mut message = get_link();
    message.header.index = index;
    let answers = netlink::route(&Rtnl::GetLink(message), 0).ok()?;
    answers.iter().find_map(|answer| match answer {
        Rtnl::NewLink(message) => message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::CarrierDownCount(count) => Some(*count),
            _ => None,
        }),
        _ => None,
    })
}

/// Whether there is an interface with this index.
pub fn exists(index: u32) -> bool {
    // nix takes the null that if_indextoname(3) returns on failure for an empty name.
    nix::net::if_::if_indextoname(index).is_ok_and(|name| !name.is_empty())
}

/// The interface called `name`, which has to be up.
///
/// # Errors
/// Usage when there is none; Environment when it is down.
pub fn require_up(name: &str) -> Result<Link> {
    let link = link(name)?;
    link.require_up()?;
    Ok(link)
}

/// All interfaces of this network namespace, by index.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn list() -> Result<Vec<Link>> {
    let answers =
        netlink::route(&Rtnl::GetLink(get_link()), NLM_F_DUMP).map_err(|e| cannot_ask("interfaces", e))?;
    let mut links = answers.iter().filter_map(parse_link).collect::<Vec<_>>();
    links.sort_by_key(|l| l.index);
    Ok(links)
}

/// The addresses of the interface with this index, in the kernel's order.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn addresses(index: u32) -> Result<Vec<Address>> {
    Ok(all_addresses()?.into_iter().filter(|a| a.index == index).collect())
}

/// The addresses of all interfaces.
pub(crate) fn all_addresses() -> Result<Vec<Address>> {
    let answers = netlink::route(&Rtnl::GetAddress(AddressMessage::default()), NLM_F_DUMP)
        .map_err(|e| cannot_ask("addresses", e))?;
    Ok(answers.iter().filter_map(parse_address).collect())
}

fn get_link() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Unspec;
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

fn parse_link(answer: &Rtnl) -> Option<Link> {
    let Rtnl::NewLink(message) = answer else { return None };
    let flags = message.header.flags;
    let layer = message.header.link_layer_type;
    let mut link = Link {
        name: String::new(),
        index: message.header.index,
        mac: None,
        mtu: 0,
        kind: None,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        multicast: flags.contains(LinkFlags::Multicast),
        loopback: flags.contains(LinkFlags::Loopback),
        point_to_point: flags.contains(LinkFlags::Pointopoint),
        noarp: flags.contains(LinkFlags::Noarp),
        ethernet: matches!(layer, LinkLayerType::Ether | LinkLayerType::Loopback),
        xdp_programs: Vec::new(),
        rx_queues: 0,
        tx_queues: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::NumRxQueues(n) => link.rx_queues = *n,
            LinkAttribute::NumTxQueues(n) => link.tx_queues = *n,
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            LinkAttribute::Xdp(parts) => link.xdp_programs = xdp_programs(parts),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn xdp_programs(parts: &[LinkXdp]) -> Vec<u32> {
    let mut programs = parts
        .iter()
        .filter_map(|part| match part {
            LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
                Some(*id)
            }
            _ => None,
        })
        .filter(|id| *id != 0)
        .collect::<Vec<_>>();
    programs.sort_unstable();
    programs.dedup();
    programs
}

fn parse_address(answer: &Rtnl) -> Option<Address> {
    let Rtnl::NewAddress(message) = answer else { return None };
    let (mut local, mut address, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(f) => flags = *f,
            _ => {}
        }
    }
    Some(Address {
        index: message.header.index,
        // On a point-to-point interface IFA_ADDRESS is the other end's.
        ip: local.or(address)?,
        prefix: message.header.prefix_len,
        global: matches!(message.header.scope, AddressScope::Universe | AddressScope::Site),
        tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed)
            && !flags.contains(AddressFlags::Optimistic),
    })
}

fn cannot_ask(what: &str, error: io::Error) -> Error {
    Error::environment(format!("cannot ask the kernel for its {what} over netlink")).because(error)
}
