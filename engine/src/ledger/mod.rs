//! Every lost packet has a place: sent = received + drops + unaccounted, on every path from a sender to a receiver.
//!
//! Rules:
//! - `sent` are the numbers that the sender used from the moment that the receiver was ready; what was sent before is
//!   no loss of the path.
//! - `received` are different packets: a duplicate hides no loss.
//! - A packet that the sender's host refused has used a number and never left: place `sender`. Where the kernel tells the call of what it drops (AF_XDP until the other end
//!   of the cable has taken the packet over; a socket's own refusals and those of a filter on its host), its drops are among the refused and name place and reason of as
//!   many, but of no more: a buffer of several packets that a filter refuses is tried again one by one. `sender` keeps what they do not explain.
//! - What a receive queue dropped is told by the queue itself: place `socket` (SO_MEMINFO) or `xsk` (XDP_STATISTICS).
//! - The kernel's own count of its drops (`kfree_skb`) tells packets apart: of those to the receiver's destinations, data counts,
//!   end-of-stream messages do not, and what has no probe header does when a stream has a format of another tool, whose
//!   own end messages look like its data. Data of a run that the receiver has never heard of is not its own.
//! - It counts in all network namespaces of the host. Where the receiver is, on its interface if it has one, everything to its destinations counts. Elsewhere only what is
//!   told to be of its runs does: by the probe header, or, where the payload cannot be read (most buffers with several segments), by the UDP source port and a namespace that is
//!   connected with the receiver's (`host::reach`). Formats without runs count where the receiver is.
//! - Of a packet to a group there are copies. One that was dropped counts for a member when it was still the only one, in the sender's namespace, or was on its
//!   way to that member: leaving by an interface that leads nearer to it, or come in by one that leads further away from it.
//! - Copies for a capture (PACKET_SOCK_ERROR), and for hosts that a bridge floods a packet to (OTHERHOST to another's hardware address), are no losses.
//! - A packet that arrived changed used a number that stays missing: place `application`, reason `corrupt`; of each stream no more than are missing, as the others were copies.
//! - A drop without a reason has its place by the kernel's function that dropped it.
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
//! - Senders on different hosts have a path each, when every drop tells whose it was, by run or port, so that the paths add up to what is known of all. A full AF_XDP ring does not tell; then one
//!   path has them all.
//! - Of a sender that has said no end nobody knows how much it sent: it has no path, and a warning names it. The others' paths then have only those drops that tell that they were theirs;
//!   what a queue lost without telling whose it was may be the silent one's, and stays unaccounted.
//! - A sender's side has what its host refused and what its kernel dropped of its run in any namespace, by the same rules; of packets to groups only what was dropped before it left.
//!   What a program at tc or XDP dropped is not in it: so a sink drops what it has received.
//! - Counters that do not know whose packets they count (drivers, interfaces, queueing disciplines, softnet) are evidence beside the ledger and in no sum.
//! - "The wire" is a place between two physical ports with counters of their own, and nowhere else: between the port that a user names as the sender's and the receiver's, of one machine. What left the one is what
//!   its counter moved by, what came to the other is what that one's moved by and all that its NIC may have dropped: the difference was lost on the cable. It explains what is unaccounted and no more; what exceeds that
//!   were packets of others. A virtual interface has no port: veth, bridge, a virtual function, a guest's NIC.
//! - What the receiver's NIC dropped (missed, FIFO, CRC) explains what is unaccounted, before the wire does, place `nic-rx`, if nobody else uses the cable: when what left the sender's port is not more than the senders sent, but for a
//!   background of 16 packets or one in 1000. Otherwise it is evidence.
//! - Neither of them tells whose packets were lost: where several paths miss packets, they explain all of these or none. Counters that have not come to rest, that were set back, or that know of fewer
//!   packets than the receiver had (as those that leave out what an XDP program took) explain nothing.
//! - Counts are read when the path is quiet: workers ended, two equal readings.
//! - What is left over is called `unaccounted`, and nothing else.
#![forbid(unsafe_code)]

pub(crate) mod cable;
pub(crate) mod evidence;
mod losses;
mod receiver;
mod sender;
mod whose;

pub(crate) use losses::Losses;
pub(crate) use receiver::{Seen, of_receiver, without_end};
pub(crate) use sender::{Sent, of_sender};

use crate::drops::{Content, DropCount};
use crate::generate::END_MESSAGES;
use crate::measure::tally::{Format, StreamTally};
use crate::observe::{Place, Sunk};
use crate::report::{Drop, Path};

/// Leaves out of the kernel's drops what a sink has counted, which was in namespace `here` on the interface `ifindex`.
pub(crate) fn leave_out_sunk(kernel: &mut [DropCount], sunk: Sunk, here: u64, ifindex: Option<u32>) {
    let reason = match sunk.place {
        Place::Tc => "TC_INGRESS",
        Place::XdpGeneric => "XDP",
        Place::XdpNative => "NOT_SPECIFIED",
    };
    let mut left = sunk.packets;
    let own = |drop: &&mut DropCount| {
        let is_here = drop.netns_inode == here && ifindex.is_none_or(|index| drop.ifindex == index);
        drop.content == Content::Data && drop.reason == reason && is_here
    };
    for drop in kernel.iter_mut().filter(own) {
        let off = left.min(drop.packets);
        drop.packets -= off;
        left -= off;
    }
}

/// Adds `packets` more that were lost as `drop` says.
fn add(drops: &mut Vec<Drop>, drop: Drop, packets: u64) {
    if packets == 0 {
        return;
    }
    match drops.iter_mut().find(|known| known.is_like(&drop)) {
        Some(known) => known.packets += packets,
        None => drops.push(Drop { packets, ..drop }),
    }
}

/// Packets of all places.
pub(crate) fn total(drops: &[Drop]) -> u64 {
    drops.iter().map(|d| d.packets).sum()
}

/// What the sender's host refused, without those that its kernel's drops explain.
pub(crate) fn refusals(refused: u64, explained: u64) -> Vec<Drop> {
    let mut drops = Vec::new();
    let refusal = Drop::at("sender", None, "refused by the sender's host");
    add(&mut drops, refusal, refused.saturating_sub(explained));
    drops
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
mod tests;
