//! What was lost between two physical ports, and in the receiver's NIC: by the ports' own counters, which count everybody's packets.
#![forbid(unsafe_code)]

use super::{add, messages_of};
use crate::host::counters::port::Moved;
use crate::measure::tally::StreamTally;
use crate::report::{Cable, Drop, Ledger, Path, RxCollector};

/// Packets of others that do not make a port a shared one, at least: neighbour discovery, membership, LLDP.
const BACKGROUND: u64 = 16;
/// The same as a share of the packets of the runs: one of so many.
const BACKGROUND_SHARE: u64 = 1000;

/// Two ports, and what their counters moved by during a run.
#[derive(Debug, Clone)]
pub(crate) struct Counted<'a> {
    /// Name of the sender's interface, with its namespace if that is another.
    pub from: &'a str,
    /// Name of the receiver's.
    pub to: &'a str,
    /// What left the one.
    pub sender: &'a Moved,
    /// What came to the other.
    pub receiver: &'a Moved,
}

/// What a receiver knows of its senders' packets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    /// Packets and messages that left, as their senders say; `None` as long as one of them has not said its end.
    pub left: Option<u64>,
    /// Packets that arrived, copies and fragments included.
    pub arrived: u64,
}

impl Known {
    pub(crate) fn of(collector: &RxCollector) -> Self {
        let streams = collector.streams();
        let left = |s: &StreamTally| {
            s.end.map(|end| end.issued.saturating_sub(end.failed).saturating_sub(s.counters.before_start))
        };
        let data: Option<u64> = streams.iter().map(left).sum();
        Self { left: data.map(|data| data + messages_of(&streams)), arrived: collector.totals().frames }
    }
}

/// The counters as evidence, and, if the path is `quiet`, what they explain of that which is unaccounted, in the paths.
pub(crate) fn of_cable(ledger: &mut Ledger, counted: &Counted<'_>, known: Known, quiet: bool) {
    let (sender, receiver) = (counted.sender, counted.receiver);
    let missing = sender.left.saturating_sub(receiver.came).saturating_sub(receiver.dropped_at_most);
    let others = known.left.map(|own| sender.left.saturating_sub(own));
    let cable = Cable {
        from: counted.from.to_owned(),
        to: counted.to.to_owned(),
        left: sender.left,
        left_by: sender.left_by,
        came: receiver.came,
        came_by: receiver.came_by,
        dropped: receiver.dropped.iter().map(|(_, packets)| packets).sum(),
        missing,
        others,
        quiet,
        whole: receiver.came >= known.arrived,
    };
    if cable.quiet && cable.whole {
        let alone = known
            .left
            .zip(others)
            .is_some_and(|(own, others)| others <= BACKGROUND.max(own / BACKGROUND_SHARE));
        let mut losses = Vec::new();
        if alone {
            let of_nic = |(name, packets): &(&str, u64)| Drop {
                packets: *packets,
                ..Drop::at("nic-rx", Some(counted.to.to_owned()), name)
            };
            losses.extend(receiver.dropped.iter().map(of_nic));
        }
        let reason = format!("left {} and never came to {}", counted.from, counted.to);
        losses.push(Drop { packets: missing, ..Drop::at("wire", None, &reason) });
        explain(&mut ledger.paths, losses);
    }
    ledger.cable = Some(cable);
}

/// Names places of as many unaccounted packets as there are losses, and of no more. Losses do not tell whose they were: where several paths miss packets they explain all of these, or none.
fn explain(paths: &mut [Path], losses: Vec<Drop>) {
    let missing = |path: &Path| path.unaccounted.max(0).unsigned_abs();
    let lost: u64 = losses.iter().map(|loss| loss.packets).sum();
    let all: u64 = paths.iter().map(missing).sum();
    if paths.iter().filter(|path| missing(path) > 0).count() > 1 && lost < all {
        return;
    }
    for mut loss in losses {
        for path in paths.iter_mut() {
            let packets = loss.packets.min(missing(path));
            add(&mut path.drops, loss.clone(), packets);
            path.unaccounted -= packets.cast_signed();
            loss.packets -= packets;
        }
    }
}
