//! Whose packet a drop was: which of those that the kernel counted, in all of its namespaces, are losses of the way to one receiver.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::collections::BTreeSet;

use crate::drops::{DropCount, Origin};
use crate::host::reach::{Leads, Reach};
use crate::measure::tally::{Format, StreamTally};

/// What tells a receiver's packets from those of others.
#[derive(Debug)]
pub(super) struct Own {
    /// Inode of the receiver's namespace.
    here: u64,
    /// Its interface, if it has one.
    ifindex: Option<u32>,
    /// The runs whose data it has heard.
    pub(super) runs: BTreeSet<u32>,
    /// Their UDP source ports.
    ports: BTreeSet<u16>,
    /// Whether there are copies for others.
    groups: bool,
    /// Looked for when something was dropped of which only the place tells whose it was.
    reach: OnceCell<Reach>,
}

impl Own {
    pub(super) fn of(streams: &[StreamTally], here: u64, ifindex: Option<u32>) -> Self {
        let known = || streams.iter().map(|s| s.key).filter(|key| key.format == Format::Wirerate);
        Self {
            here,
            ifindex,
            runs: known().map(|key| key.run).collect(),
            ports: known().map(|key| key.source.port()).collect(),
            groups: streams.iter().any(|s| s.key.destination.ip().is_multicast()),
            reach: OnceCell::new(),
        }
    }

    /// Whether the drop tells that it was one of theirs.
    pub(super) fn sent(&self, drop: &DropCount) -> bool {
        match drop.origin {
            Origin::Run(run) => self.runs.contains(&run),
            Origin::Port(port) => self.ports.contains(&port),
            Origin::Unknown => false,
        }
    }

    /// What was dropped where the receiver is, of whatever sender; and what was dropped elsewhere of the runs that it has heard.
    pub(super) fn sort(&self, drops: &[DropCount]) -> (Vec<DropCount>, Vec<DropCount>) {
        let here = drops.iter().filter(|drop| self.is_here(drop)).cloned().collect();
        let elsewhere = |drop: &&DropCount| !self.is_here(drop) && self.is_lost_elsewhere(drop);
        (here, drops.iter().filter(elsewhere).cloned().collect())
    }

    /// On the receiver's interface, or not yet on any.
    fn is_here(&self, drop: &DropCount) -> bool {
        let on_interface = self.ifindex.is_none_or(|index| drop.ifindex == index || drop.ifindex == 0);
        drop.netns_inode == self.here && on_interface
    }

    fn is_lost_elsewhere(&self, drop: &DropCount) -> bool {
        let ours = match drop.origin {
            Origin::Run(run) => self.runs.contains(&run),
            Origin::Port(port) => self.ports.contains(&port) && self.reach().is_connected(drop.netns_inode),
            Origin::Unknown => false,
        };
        ours && drop.netns_inode != 0 && !is_copy(drop) && (!self.groups || self.was_coming(drop))
    }

    /// Whether a packet to a group was on its way to the receiver: not yet copied, or the copy that was.
    fn was_coming(&self, drop: &DropCount) -> bool {
        if drop.way.is_of_sender() || is_told_to_sender(drop) {
            return true;
        }
        let leads = self.reach().leads(drop.netns_inode, drop.ifindex);
        leads == Some(if drop.way.leaving { Leads::Nearer } else { Leads::Further })
    }

    fn reach(&self) -> &Reach {
        self.reach.get_or_init(Reach::from_here)
    }
}

/// Whether it was a copy, and the packet went on: what a capture had no room for, and what a bridge floods to hosts that it is not for. A frame to an interface's own
/// address that counts as another host's has a VLAN tag that no interface has, and is lost.
pub(super) fn is_copy(drop: &DropCount) -> bool {
    drop.place == "tap" || (drop.reason == "OTHERHOST" && !drop.way.addressed)
}

/// Gives the drops that the call told the sender of no more packets than were refused: what a filter refuses as a buffer of several packets is tried
/// again one by one, and only the sender knows what came of that. What its own socket dropped is no more than a refusal. Returns the refusals that they leave
/// unexplained.
pub(super) fn explain(refused: u64, drops: &mut [DropCount]) -> u64 {
    let mut left = refused;
    for drop in drops.iter_mut().filter(|drop| is_told_to_sender(drop)) {
        drop.packets = if drop.place == "socket" { 0 } else { drop.packets.min(left) };
        left -= drop.packets;
    }
    left
}

/// Whether the call that sent it told the sender: an AF_XDP socket of what is dropped before the other end of the cable has taken the packet over, any other
/// socket of what a filter on its host drops (EPERM), and of what it drops itself (EMSGSIZE).
pub(super) fn is_told_to_sender(drop: &DropCount) -> bool {
    let by_socket = drop.way.is_of_sender() && matches!(drop.place, "netfilter" | "socket");
    by_socket || (drop.way.of_frames && !drop.way.came_in)
}
