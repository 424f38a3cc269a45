//! Every lost packet has a place: sent = received + drops + unaccounted, on every path from a sender to a receiver.
//!
//! Rules:
//! - `sent` are the numbers that the sender used from the moment that the receiver was ready; what was sent before is
//!   no loss of the path.
//! - `received` are different packets: a duplicate hides no loss.
//! - A packet that the sender's host refused has used a number and never left: place `sender`.
//! - What a receive queue dropped is told by the queue itself, exactly: place `socket` or `xsk`. Foreign packets
//!   count there too, so that `unaccounted` can be below zero where a port is shared.
//! - What is left over is called `unaccounted`, and nothing else.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use crate::queue::QueueLoss;
use crate::report::{Drop, Ledger, Path, RxCollector};

/// The receiver's side of the ledger; `None` as long as no sender has told how much it sent.
pub(crate) fn of_receiver(collector: &RxCollector, interface: Option<&str>) -> Option<Ledger> {
    let streams = collector.streams();
    let ended: Vec<_> = streams.iter().filter_map(|s| s.end.map(|end| (s, end))).collect();
    if ended.is_empty() || ended.len() < streams.len() {
        return None;
    }
    let senders: BTreeSet<_> = ended.iter().map(|(s, _)| s.key.source.ip().to_string()).collect();
    let sent = ended.iter().map(|(s, end)| end.issued.saturating_sub(s.counters.before_start)).sum();
    let received = ended.iter().map(|(s, _)| s.counters.unique).sum();
    let refused = ended.iter().map(|(_, end)| end.failed).sum();
    let drops = receiver_drops(refused, &collector.losses(), interface);
    let path =
        path(senders.into_iter().collect::<Vec<_>>().join(", "), "here".to_owned(), sent, received, drops);
    Some(Ledger { paths: vec![path] })
}

fn receiver_drops(refused: u64, losses: &[QueueLoss], interface: Option<&str>) -> Vec<Drop> {
    let mut drops = Vec::new();
    if refused > 0 {
        drops.push(Drop {
            place: "sender".to_owned(),
            interface: None,
            reason: "refused by the sender's host".to_owned(),
            packets: refused,
        });
    }
    drops.extend(losses.iter().filter(|l| l.packets > 0).map(|loss| Drop {
        place: loss.place.to_owned(),
        interface: interface.map(str::to_owned),
        reason: loss.reason.to_owned(),
        packets: loss.packets,
    }));
    drops
}

/// A path whose `unaccounted` is what the drops leave over.
pub(crate) fn path(sender: String, receiver: String, sent: u64, received: u64, drops: Vec<Drop>) -> Path {
    let known: u64 = drops.iter().map(|d| d.packets).sum();
    let unaccounted = sent.cast_signed() - received.cast_signed() - known.cast_signed();
    Path { sender, receiver, sent, received, drops, unaccounted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_place_explains_is_unaccounted() {
        let drops = receiver_drops(
            2,
            &[
                QueueLoss { place: "socket", reason: "SOCKET_RCVBUFF", packets: 5 },
                QueueLoss { place: "xsk", reason: "rx_ring_full", packets: 0 },
            ],
            Some("wr0"),
        );
        assert_eq!(drops.len(), 2, "places without drops are not listed");
        let path = path("a".into(), "b".into(), 100, 90, drops);
        assert_eq!(path.unaccounted, 3);
        assert_eq!(path.sent.cast_signed(), 90 + 7 + path.unaccounted);
    }
}
