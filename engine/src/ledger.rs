//! Every lost packet has a place: sent = received + drops + unaccounted, on every path from a sender to a receiver.
//!
//! Rules:
//! - `sent` are the numbers that the sender used from the moment that the receiver was ready; what was sent before is
//!   no loss of the path.
//! - `received` are different packets: a duplicate hides no loss.
//! - A packet that the sender's host refused has used a number and never left: place `sender`. Where the kernel's own drops
//!   on that host are seen, they are those packets and name the reason; `sender` keeps what they do not explain.
//! - What a receive queue dropped is told by the queue itself: place `socket` (SO_MEMINFO) or `xsk` (XDP_STATISTICS).
//! - The kernel's own count of its drops (`kfree_skb`) tells packets apart: of those to the receiver's destinations, data counts,
//!   end-of-stream messages do not, and what has no probe header does when a stream has a format of another tool, whose
//!   own end messages look like its data. It counts in the receiver's namespace, on its interface if it
//!   has one.
//! - What the queue counts, the kernel counts too. Socket reasons other than NO_SOCKET are the queue's: when both counts agree,
//!   no other socket has a part in them, and the kernel's takes the place of the queue's because it leaves out messages and foreign
//!   packets; when not, the queue's stands. With AF_XDP they are of a stranger's socket, which had a copy. Reason XDP (generic mode) covers
//!   the queue's `xsk`, which then gives up the messages and foreign packets, and keeps its names. Of the failed redirects to AF_XDP
//!   sockets (native mode) only ENXIO and EINVAL are added: the others are in XDP_STATISTICS.
//! - Beside AF_XDP there are sockets for what comes in fragments. What these lost is told by themselves, place `socket`, and what came to them whole, because
//!   XDP passed it, place `xdp`, reason `passed`.
//! - A sink (`xdp`) drops what it has counted, and the kernel counts that as well: with reason TC_INGRESS at tc, XDP in generic mode, and none
//!   (NOT_SPECIFIED) in native mode where the driver had made an skb. As many of the data of that reason as the sink has counted were received.
//! - What lay unread in a socket that was closed does not count: a receiver reads its own until they are empty, so it was a stranger's
//!   copy.
//! - A socket with receive offload counts buffers, each of which is one packet or more; the kernel's count tells how many packets they were.
//!   Without it the socket's count is the least that was lost there, and the rest is unaccounted.
//! - Those counts of a queue that cannot leave messages out may explain more than is missing. Then as many messages as never
//!   arrived are taken off. Foreign packets still count there, so that `unaccounted` can be below zero where a destination is shared.
//! - Counts are read when the path is quiet: workers ended, two equal readings.
//! - What is left over is called `unaccounted`, and nothing else.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};

use crate::drops::place::UNREAD;
use crate::drops::{Content, DropCount};
use crate::generate::END_MESSAGES;
use crate::measure::tally::{Format, StreamTally};
use crate::observe::{Place, Sunk};
use crate::queue::QueueLoss;
use crate::report::{Drop, Ledger, Path, RxCollector};

/// Why an AF_XDP socket takes no packet without counting it.
const NOT_IN_XDP_STATISTICS: [&str; 2] = ["xdp_redirect_err:ENXIO", "xdp_redirect_err:EINVAL"];

/// What is known at one receiver of the packets that did not arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Losses<'a> {
    /// Whether the queue is AF_XDP's.
    pub afxdp: bool,
    /// What the queue lost.
    pub queue: &'a [QueueLoss],
    /// What the kernel dropped there.
    pub kernel: &'a [DropCount],
    /// Whether data may be without probe headers.
    pub other_formats: bool,
}

/// The receiver's side of the ledger; `None` as long as no sender has told how much it sent.
pub(crate) fn of_receiver(
    collector: &RxCollector,
    afxdp: bool,
    kernel: &[DropCount],
    interface: Option<&str>,
) -> Option<Ledger> {
    let streams = collector.streams();
    let ended: Vec<_> = streams.iter().filter_map(|s| s.end.map(|end| (s, end))).collect();
    if ended.is_empty() || ended.len() < streams.len() {
        return None;
    }
    let senders: BTreeSet<_> = ended.iter().map(|(s, _)| s.key.source.ip().to_string()).collect();
    let sent = ended.iter().map(|(s, end)| end.issued.saturating_sub(s.counters.before_start)).sum();
    let received = ended.iter().map(|(s, _)| s.counters.unique).sum();
    let refused = ended.iter().map(|(_, end)| end.failed).sum();
    let losses = Losses {
        afxdp,
        queue: &collector.losses(),
        kernel,
        other_formats: streams.iter().any(|s| s.key.format != Format::Wirerate),
    };
    let on_the_way = losses.on_the_way(|_| interface.map(str::to_owned));
    let here = streams.iter().any(|s| is_local(s.key.source));
    let mut drops = refusals(refused, if here { total(&on_the_way) } else { 0 });
    drops.extend(on_the_way);
    drops.extend(losses.at_the_queue(interface));
    let mut path =
        path(senders.into_iter().collect::<Vec<_>>().join(", "), "here".to_owned(), sent, received, drops);
    let messages = messages_of(&streams).saturating_sub(collector.messages());
    take_off_messages(&mut path, messages.saturating_sub(messages_in(kernel)));
    Some(Ledger { paths: vec![path] })
}

/// Leaves out of the kernel's drops what a sink has counted.
pub(crate) fn leave_out_sunk(kernel: &mut [DropCount], sunk: Sunk) {
    let reason = match sunk.place {
        Place::Tc => "TC_INGRESS",
        Place::XdpGeneric => "XDP",
        Place::XdpNative => "NOT_SPECIFIED",
    };
    let mut left = sunk.packets;
    let own = |drop: &&mut DropCount| drop.content == Content::Data && drop.reason == reason;
    for drop in kernel.iter_mut().filter(own) {
        let off = left.min(drop.packets);
        drop.packets -= off;
        left -= off;
    }
}

impl Losses<'_> {
    /// What was dropped before it came to the queue; `place_of` names the interface.
    pub(crate) fn on_the_way(&self, place_of: impl Fn(&DropCount) -> Option<String>) -> Vec<Drop> {
        let mut drops = Vec::new();
        for drop in self.kernel {
            let counts = match drop.port {
                Some(_) => self.is_data(drop) && !is_of_socket(drop) && !is_generic_xdp(drop),
                None => self.afxdp && NOT_IN_XDP_STATISTICS.contains(&drop.reason.as_str()),
            };
            if counts {
                add(&mut drops, drop.place, place_of(drop), &drop.reason, drop.packets);
            }
        }
        drops
    }

    /// What was dropped at the queue, which is on `interface`.
    pub(crate) fn at_the_queue(&self, interface: Option<&str>) -> Vec<Drop> {
        let named = || interface.map(str::to_owned);
        let mut drops = Vec::new();
        let covers = |loss: &QueueLoss| !self.afxdp || loss.place == "xsk";
        let queue_total: u64 = self.queue.iter().filter(|loss| covers(loss)).map(|loss| loss.packets).sum();
        let at_queue = |drop: &&DropCount| {
            let counted =
                if self.afxdp { is_generic_xdp(drop) } else { is_of_socket(drop) && drop.reason != UNREAD };
            drop.port.is_some() && counted
        };
        let kernel: Vec<&DropCount> = self.kernel.iter().filter(at_queue).collect();
        let kernel_total: u64 = kernel.iter().map(|drop| drop.packets).sum();
        let data: u64 = kernel.iter().filter(|drop| self.is_data(drop)).map(|drop| drop.packets).sum();
        let buffers: u64 = kernel.iter().map(|drop| drop.skbs).sum();
        if !self.afxdp && queue_total == buffers {
            for drop in kernel.iter().filter(|drop| self.is_data(drop)) {
                add(&mut drops, drop.place, named(), &drop.reason, drop.packets);
            }
            return drops;
        }
        let covered = self.afxdp && kernel_total >= queue_total;
        let mut not_data = if covered { kernel_total - data } else { 0 };
        let mut told = 0;
        for loss in self.queue {
            let off = if covers(loss) { not_data.min(loss.packets) } else { 0 };
            not_data -= off;
            told += if covers(loss) { loss.packets - off } else { 0 };
            add(&mut drops, loss.place, named(), loss.reason, loss.packets - off);
        }
        if covered {
            add(&mut drops, "xdp", named(), "XDP", data.saturating_sub(told));
        }
        drops
    }

    fn is_data(&self, drop: &DropCount) -> bool {
        match drop.content {
            Content::Data => true,
            Content::Other => self.other_formats,
            Content::Message => false,
        }
    }
}

/// Whether a socket that the packet had reached dropped it.
fn is_of_socket(drop: &DropCount) -> bool {
    drop.place == "socket" && drop.reason != "NO_SOCKET"
}

/// Whether generic XDP dropped it.
fn is_generic_xdp(drop: &DropCount) -> bool {
    drop.place == "xdp" && drop.reason == "XDP"
}

fn add(drops: &mut Vec<Drop>, place: &str, interface: Option<String>, reason: &str, packets: u64) {
    if packets == 0 {
        return;
    }
    match drops.iter_mut().find(|d| d.place == place && d.interface == interface && d.reason == reason) {
        Some(known) => known.packets += packets,
        None => drops.push(Drop { place: place.to_owned(), interface, reason: reason.to_owned(), packets }),
    }
}

/// Packets of all places.
pub(crate) fn total(drops: &[Drop]) -> u64 {
    drops.iter().map(|d| d.packets).sum()
}

/// What the sender's host refused, without those that its kernel's drops explain.
pub(crate) fn refusals(refused: u64, explained: u64) -> Vec<Drop> {
    let mut drops = Vec::new();
    add(&mut drops, "sender", None, "refused by the sender's host", refused.saturating_sub(explained));
    drops
}

/// Whether the address is one of this host's, in the thread's namespace: nothing can be bound to others.
fn is_local(mut address: SocketAddr) -> bool {
    address.set_port(0);
    UdpSocket::bind(address).is_ok()
}

/// Messages that the senders of these streams have sent.
fn messages_of(streams: &[StreamTally]) -> u64 {
    let ended = streams.iter().filter(|s| s.key.format == Format::Wirerate && s.end.is_some());
    ended.map(|s| s.announced + END_MESSAGES).sum()
}

/// Messages that the kernel dropped.
pub(crate) fn messages_in(kernel: &[DropCount]) -> u64 {
    kernel.iter().filter(|d| d.content == Content::Message).map(|d| d.packets).sum()
}

/// Takes messages off the queue's own counts as long as these explain more packets than are missing; `missing` is how many messages
/// never arrived.
pub(crate) fn take_off_messages(path: &mut Path, missing: u64) {
    let mut surplus = missing.min(path.unaccounted.min(0).unsigned_abs());
    for drop in path.drops.iter_mut().filter(|d| matches!(d.place.as_str(), "xsk" | "socket")) {
        let off = surplus.min(drop.packets);
        drop.packets -= off;
        surplus -= off;
        path.unaccounted += off.cast_signed();
    }
    path.drops.retain(|d| d.packets > 0);
}

/// A path whose `unaccounted` is what the drops leave over.
pub(crate) fn path(sender: String, receiver: String, sent: u64, received: u64, drops: Vec<Drop>) -> Path {
    let unaccounted = sent.cast_signed() - received.cast_signed() - total(&drops).cast_signed();
    Path { sender, receiver, sent, received, drops, unaccounted }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
