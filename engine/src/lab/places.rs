//! Where in the lab the kernel dropped packets, and to whose path each place belongs.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;

use nix::net::if_::if_indextoname;

use super::{BRIDGE, Host, Lab, Netns};
use crate::drops::DropCount;
use crate::error::{Error, Result};

/// The kernel's drops in the lab; each interface is named with its host before it.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Within the sender's call: on its host, or at the other end of its cable before the packet is taken. The kernel tells
    /// an AF_XDP sender of them, and their packets are among those that it was refused.
    pub sending: Vec<DropCount>,
    /// In the middle, before the ways part.
    pub shared: Vec<DropCount>,
    /// On the way to one member, by its address.
    towards: Vec<(Ipv4Addr, DropCount)>,
    /// On a member's host, by its address.
    at: Vec<(Ipv4Addr, DropCount)>,
}

impl Places {
    /// Sorts `drops` by place.
    ///
    /// # Errors
    /// When a namespace cannot be told from others.
    pub(super) fn of(lab: &Lab, drops: &[DropCount]) -> Result<Self> {
        let inode = |netns: &Netns| {
            netns.inode().map_err(|e| Error::failed("a namespace of the lab has no number").because(e))
        };
        let sender = inode(&lab.sender.netns)?;
        let middle = inode(&lab.middle)?;
        let members = lab
            .receivers
            .iter()
            .map(|host| inode(&host.netns).map(|inode| (inode, host)))
            .collect::<Result<Vec<_>>>()?;
        let mut places = Self::default();
        for drop in drops {
            if drop.netns_inode == sender {
                places.sending.push(located(drop, "sender", &lab.sender.netns));
            } else if drop.netns_inode == middle {
                places.in_the_middle(lab, drop);
            } else if let Some((_, host)) = members.iter().find(|(inode, _)| *inode == drop.netns_inode) {
                places.at.push((host.ipv4, located(drop, "receiver", &host.netns)));
            }
        }
        Ok(places)
    }

    fn in_the_middle(&mut self, lab: &Lab, drop: &DropCount) {
        let name = name_of(&lab.middle, drop.ifindex);
        let drop = located(drop, "middle", &lab.middle);
        let port = name.as_deref();
        // What the bridge itself is handed are copies.
        if port == Some(BRIDGE) {
            return;
        }
        if let Some(host) = lab.receivers.iter().find(|host| port == Some(&host.port)) {
            self.towards.push((host.ipv4, drop));
        } else if port == Some(&lab.sender.port) && !drop.way.came_in {
            self.sending.push(drop);
        } else {
            self.shared.push(drop);
        }
    }

    /// What was dropped on the way to `member` only, and on its host.
    pub(super) fn of_member(&self, member: &Host) -> (Vec<DropCount>, Vec<DropCount>) {
        let of = |all: &[(Ipv4Addr, DropCount)]| {
            all.iter().filter(|(address, _)| *address == member.ipv4).map(|(_, drop)| drop.clone()).collect()
        };
        (of(&self.towards), of(&self.at))
    }
}

fn located(drop: &DropCount, host: &str, netns: &Netns) -> DropCount {
    let interface = match name_of(netns, drop.ifindex) {
        Some(name) => format!("{host} {name}"),
        None => host.to_owned(),
    };
    DropCount { interface: Some(interface), ..drop.clone() }
}

/// The name of an interface of `netns`, where alone its number means something.
fn name_of(netns: &Netns, ifindex: u32) -> Option<String> {
    netns.run(|| if_indextoname(ifindex)).ok().and_then(|name| name.into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drops::{Content, Way};
    use crate::lab::INTERFACE;

    #[test]
    fn every_place_belongs_to_its_paths() {
        let Ok(lab) = Lab::bridge(2) else {
            eprintln!("SKIPPED: every_place_belongs_to_its_paths needs root");
            return;
        };
        let drop = |netns: &Netns, interface: &str, place| DropCount {
            netns_inode: netns.inode().unwrap(),
            ifindex: netns.run(|| nix::net::if_::if_nametoindex(interface)).unwrap(),
            place,
            reason: "NOT_SPECIFIED".to_owned(),
            port: Some(5001),
            content: Content::Data,
            way: Way { came_in: place == "netfilter", ..Way::default() },
            skbs: 1,
            packets: 1,
            ..DropCount::default()
        };
        let [first, second] = [0, 1].map(|n| &lab.receivers[n]);
        let drops = [
            drop(&lab.sender.netns, INTERFACE, "qdisc"),
            drop(&lab.middle, "s0", "backlog"),
            drop(&lab.middle, "s0", "netfilter"),
            drop(&lab.middle, BRIDGE, "ip"),
            drop(&lab.middle, &first.port, "netfilter"),
            drop(&second.netns, INTERFACE, "kernel"),
            DropCount { netns_inode: 1, ..drop(&lab.middle, "s0", "backlog") },
        ];
        let places = Places::of(&lab, &drops).unwrap();
        let names =
            |drops: &[DropCount]| drops.iter().filter_map(|d| d.interface.clone()).collect::<Vec<_>>();
        assert_eq!(names(&places.sending), ["sender wr0", "middle s0"]);
        assert_eq!(names(&places.shared), ["middle s0"]);
        let (towards, here) = places.of_member(first);
        assert_eq!((names(&towards), names(&here)), (vec!["middle r1".to_owned()], vec![]));
        let (towards, here) = places.of_member(second);
        assert_eq!((names(&towards), names(&here)), (vec![], vec!["receiver wr0".to_owned()]));
    }
}
