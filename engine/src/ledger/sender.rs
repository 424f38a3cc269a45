//! The sender's side of the ledger: what became of its packets, as far as its own host can see.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::collections::BTreeSet;

use super::whose::{explain, is_copy, is_told_to_sender};
use super::{add, refusals};
use crate::drops::{Content, DropCount, Origin};
use crate::host::reach::Reach;
use crate::report::{Drop, Ledger, Sending};

/// What a sender did, and what its kernel saw of that.
#[derive(Debug, Clone)]
pub(crate) struct Sent<'a> {
    /// The run.
    pub run: u32,
    /// Its UDP source ports.
    pub ports: &'a BTreeSet<u16>,
    /// Whether it sent to groups, of whose packets there are copies.
    pub groups: bool,
    /// Inode of the sender's namespace.
    pub here: u64,
    /// Name and index of the interface that it sent by, if it was settled.
    pub interface: Option<(&'a str, u32)>,
    /// Numbers used.
    pub sent: u64,
    /// Of them, packets that were refused.
    pub refused: u64,
    /// Whether the kernel made the packets, so that what was refused is what an interface did not take of them.
    pub live: bool,
    /// What this kernel dropped, in any namespace.
    pub kernel: &'a [DropCount],
}

/// The sender's side of the ledger.
pub(crate) fn of_sender(sent: &Sent<'_>) -> Ledger {
    let reach = OnceCell::new();
    let mut own: Vec<DropCount> =
        sent.kernel.iter().filter(|drop| sent.lost(drop, &reach)).cloned().collect();
    let mut left = explain(sent.refused, &mut own);
    let mut on_the_way = Vec::new();
    for drop in &own {
        add(&mut on_the_way, Drop::in_namespace(drop, sent.here), drop.packets);
    }
    for drop in sent.kernel.iter().filter(|drop| sent.not_taken(drop)) {
        let packets = left.min(drop.packets);
        add(&mut on_the_way, Drop::in_namespace(drop, sent.here), packets);
        left -= packets;
    }
    let mut drops = refusals(left, 0);
    drops.extend(on_the_way);
    Ledger { sending: Some(Sending { sent: sent.sent, drops }), ..Ledger::default() }
}

impl Sent<'_> {
    /// Whether the drop was one of this run's packets on its only way.
    fn lost(&self, drop: &DropCount, reach: &OnceCell<Reach>) -> bool {
        let ours = match drop.origin {
            Origin::Run(run) => run == self.run,
            Origin::Port(port) => {
                self.ports.contains(&port)
                    && (drop.netns_inode == self.here
                        || reach.get_or_init(Reach::from_here).is_connected(drop.netns_inode))
            }
            Origin::Unknown => false,
        };
        let only_way = !self.groups || drop.way.is_of_sender() || is_told_to_sender(drop);
        ours && drop.content == Content::Data && only_way && !is_copy(drop) && !is_program_of_driver(drop)
    }

    /// Whether these are frames that the interface did not take from a program in the kernel.
    fn not_taken(&self, drop: &DropCount) -> bool {
        self.live
            && drop.netns_inode == self.here
            && self.interface.is_some_and(|(_, index)| index == drop.ifindex)
            && drop.reason.starts_with("xdp_devmap_xmit")
    }
}

/// Whether a native XDP program dropped it on a driver that had made an skb before: so a sink drops what it has counted.
fn is_program_of_driver(drop: &DropCount) -> bool {
    drop.symbol.as_deref().is_some_and(|function| function.starts_with("veth_xdp_"))
}
