//! What the kernels' counters prove of a tool's loss: nothing that the tool says is in it.
//!
//! `sent` are the datagrams that the sender's kernel took from its sockets, `received` those that the receiver's kernel handed to sockets; both are counters of a network namespace, so that the path has
//! to be quiet otherwise. Drops are told by the kernel's tracepoints, by destination. `sent + copies = received + Σ drops + unaccounted`: where more was dropped than is missing,
//! the path made copies; where less, the rest is unaccounted.
#![forbid(unsafe_code)]

use super::report::{Drop, Proven};
use super::witness::{Dropped, Look};

/// Datagrams counted by kernels of one trial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Taken from sockets of the sender's namespace, those that its own queues then refused among them.
    pub sent: u64,
    /// Handed to sockets of the receiver's namespace.
    pub received: u64,
}

impl Counted {
    /// Between two looks at each end; `None` where a counter was set back.
    pub fn between(from: [&Look; 2], to: [&Look; 2], ipv6: bool) -> Option<Self> {
        let [before, after] = from.map(|look| look.udp(ipv6));
        let sent =
            after.out.checked_sub(before.out)? + after.sndbuf_errors.checked_sub(before.sndbuf_errors)?;
        let [before, after] = to.map(|look| look.udp(ipv6));
        Some(Self { sent, received: after.r#in.checked_sub(before.r#in)? })
    }
}

/// What follows for datagrams. `drops` are those that were dropped of the trial's destination; `None` where no kernel could be asked.
pub fn of_kernel(counted: Counted, drops: Option<Vec<Drop>>, mut not_known: Vec<String>) -> Proven {
    let Counted { sent, received } = counted;
    let missing = sent.saturating_sub(received);
    let dropped = drops.as_ref().map(|drops| drops.iter().map(|drop| drop.packets).sum::<u64>());
    let (lost, copies, unaccounted) = match dropped {
        // More left the path than is missing at its end: copies took the place of what was lost.
        Some(dropped) if dropped + received > sent => (dropped, Some(dropped + received - sent), Some(0)),
        Some(dropped) => (missing, Some(0), Some(missing - dropped)),
        None if received > sent => {
            not_known.push(
                "more was received than sent: the path made copies, and what it lost is hidden by them"
                    .into(),
            );
            (0, Some(received - sent), None)
        }
        None => (missing, None, None),
    };
    Proven {
        by: Some("kernel"),
        not_known,
        sent: Some(sent),
        received: Some(received),
        lost: Some(lost),
        lost_percent: percent(lost, sent),
        copies,
        drops,
        unaccounted,
        ..Proven::default()
    }
}

/// What follows from the numbers in every packet of ours.
pub fn of_ledger(
    sent: u64,
    unique: u64,
    copies: u64,
    drops: Option<Vec<Drop>>,
    not_known: Vec<String>,
) -> Proven {
    let lost = sent.saturating_sub(unique);
    let dropped = drops.as_ref().map(|drops| drops.iter().map(|drop| drop.packets).sum::<u64>());
    Proven {
        by: Some("ledger"),
        not_known,
        sent: Some(sent),
        received: Some(unique),
        lost: Some(lost),
        lost_percent: percent(lost, sent),
        copies: Some(copies),
        drops,
        unaccounted: dropped.map(|dropped| lost.saturating_sub(dropped)),
        ..Proven::default()
    }
}

/// Drops with the end at which they happened: `ends` are boot and namespace of the sender's and the receiver's.
pub fn placed(dropped: &[Dropped], boot: &str, ends: [(&str, u64); 2]) -> Vec<Drop> {
    let [from, to] = ends.map(|(of, netns)| (of == boot).then_some(netns));
    let mut drops: Vec<Drop> = Vec::new();
    for one in dropped {
        let at = match Some(one.netns) {
            // Of a socket that is gone the kernel tells no namespace.
            _ if one.netns == 0 && one.place == "socket" => "receiver",
            netns if netns == to => "receiver",
            netns if netns == from => "sender",
            _ => "between",
        };
        let same = |drop: &&mut Drop| {
            drop.at == at
                && drop.place == one.place
                && drop.interface == one.interface
                && drop.reason == one.reason
        };
        match drops.iter_mut().find(same) {
            Some(drop) => drop.packets += one.packets,
            None => drops.push(Drop {
                place: one.place.clone(),
                interface: one.interface.clone(),
                at,
                reason: one.reason.clone(),
                packets: one.packets,
            }),
        }
    }
    drops.sort_by_key(|drop| std::cmp::Reverse(drop.packets));
    drops
}

pub(super) fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at_a_qdisc(packets: u64) -> Option<Vec<Drop>> {
        Some(vec![Drop {
            place: "qdisc".into(),
            interface: None,
            at: "between",
            reason: "QDISC_DROP".into(),
            packets,
        }])
    }

    #[test]
    fn loss_by_difference() {
        let proven = of_kernel(Counted { sent: 1000, received: 900 }, at_a_qdisc(100), Vec::new());
        assert_eq!((proven.lost, proven.copies, proven.unaccounted), (Some(100), Some(0), Some(0)));
        assert_eq!(proven.lost_percent, Some(10.0));
        let proven = of_kernel(Counted { sent: 1000, received: 900 }, at_a_qdisc(30), Vec::new());
        assert_eq!((proven.lost, proven.unaccounted), (Some(100), Some(70)));
        let proven = of_kernel(Counted { sent: 1000, received: 900 }, None, vec!["no".into()]);
        assert_eq!((proven.lost, proven.copies, proven.unaccounted), (Some(100), None, None));
    }

    #[test]
    fn copies_hide_no_loss() {
        // 200 lost and 200 copied: a receiver that counts sees nothing missing.
        let proven = of_kernel(Counted { sent: 1000, received: 1000 }, at_a_qdisc(200), Vec::new());
        assert_eq!((proven.lost, proven.copies, proven.unaccounted), (Some(200), Some(200), Some(0)));
        let blind = of_kernel(Counted { sent: 1000, received: 1010 }, None, Vec::new());
        assert_eq!((blind.lost, blind.copies), (Some(0), Some(10)));
        assert_eq!(blind.not_known.len(), 1);
    }

    #[test]
    fn places_have_an_end() {
        let drop = |netns, place: &str, packets| Dropped {
            netns,
            interface: None,
            place: place.into(),
            reason: "R".into(),
            packets,
        };
        let all = [drop(1, "qdisc", 1), drop(2, "socket", 5), drop(3, "netfilter", 2), drop(0, "socket", 4)];
        let drops = placed(&all, "b", [("b", 1), ("b", 2)]);
        let told: Vec<_> = drops.iter().map(|d| (d.at, d.place.as_str(), d.packets)).collect();
        assert_eq!(told, [("receiver", "socket", 9), ("between", "netfilter", 2), ("sender", "qdisc", 1)]);
        // Another kernel's numbers of namespaces mean nothing here.
        assert!(placed(&all[..1], "b", [("c", 1), ("c", 2)]).iter().all(|drop| drop.at == "between"));
    }

    proptest! {
        #[test]
        fn the_sum_is_always_right(sent in 0..1_000_000_u64, received in 0..1_000_000_u64, dropped in 0..1_000_000_u64) {
            let proven = of_kernel(Counted { sent, received }, at_a_qdisc(dropped), Vec::new());
            let (copies, unaccounted) = (proven.copies.unwrap(), proven.unaccounted.unwrap());
            prop_assert_eq!(sent + copies, received + dropped + unaccounted);
            prop_assert!(proven.lost.unwrap() >= dropped);
        }
    }
}
