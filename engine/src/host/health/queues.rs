//! How packets spread over a NIC's queues, by the driver's own counters of each.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::snapshot::Snapshot;

/// How many packets each queue of one direction had between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Receive queues; else transmit.
    pub receive: bool,
    /// Packets by queue.
    pub packets: BTreeMap<u32, u64>,
}

impl Share {
    /// All packets.
    pub fn total(&self) -> u64 {
        self.packets.values().sum()
    }

    /// The queue that had most, and its part of all, from 0 to 1; none without packets.
    pub fn largest(&self) -> Option<(u32, f64)> {
        let (queue, most) = self.packets.iter().max_by_key(|(_, packets)| **packets)?;
        let total = self.total();
        (total > 0).then(|| (*queue, *most as f64 / total as f64))
    }
}

/// The packets of each queue between two snapshots: receive, then transmit; a direction that the driver does not tell by queue is left out.
pub fn shares(before: &Snapshot, after: &Snapshot) -> Vec<Share> {
    [true, false]
        .into_iter()
        .filter_map(|receive| {
            let mut packets = BTreeMap::new();
            for (name, value) in &after.counters.ethtool {
                if let Some(queue) = packets_of(name, receive) {
                    let earlier = before.counters.ethtool.get(name).copied().unwrap_or(0);
                    *packets.entry(queue).or_insert(0) += value.saturating_sub(earlier);
                }
            }
            (!packets.is_empty()).then_some(Share { receive, packets })
        })
        .collect()
}

/// The queue whose packets of this direction the counter `name` counts: `rx_queue_3_packets` (igb, ixgbe, ice, virtio_net), `rx-3.packets` (i40e), `rx3_packets` (mlx5, virtio_net),
/// `[3]: rx_ucast_packets` (bnxt), `queue_3_rx_cnt` (ena). None when it counts something else.
fn packets_of(name: &str, receive: bool) -> Option<u32> {
    let lower = name.to_ascii_lowercase();
    let mut words = Vec::new();
    let mut number = None;
    for word in lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &word[letters.len()..];
        if !digits.is_empty() {
            if number.is_some() {
                // Of a priority or a traffic class within a queue: no sum of its own.
                return None;
            }
            number = Some(digits.parse().ok()?);
        }
        if !letters.is_empty() && letters != "queue" {
            words.push(letters);
        }
    }
    let direction = if receive { "rx" } else { "tx" };
    let known = [
        &[direction, "packets"][..],
        &[direction, "cnt"],
        &[direction, "ucast", "packets"],
        &[direction, "mcast", "packets"],
        &[direction, "bcast", "packets"],
    ];
    number.filter(|_| known.contains(&words.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_queues() {
        for (name, receive, transmit) in [
            ("rx_queue_3_packets", Some(3), None),
            ("tx_queue_11_packets", None, Some(11)),
            ("rx-0.packets", Some(0), None),
            ("rx7_packets", Some(7), None),
            ("[2]: rx_ucast_packets", Some(2), None),
            ("[2]: tx_mcast_packets", None, Some(2)),
            ("queue_5_rx_cnt", Some(5), None),
            ("queue_5_tx_cnt", None, Some(5)),
            ("rx_packets", None, None),
            ("rx_queue_0_bytes", None, None),
            ("rx_queue_0_xdp_packets", None, None),
            ("rx_prio0_packets", None, None),
            ("port.rx_size_64", None, None),
            ("rx_queue_99999999999_packets", None, None),
            ("queue_0_rx_xdp_drop", None, None),
        ] {
            assert_eq!((packets_of(name, true), packets_of(name, false)), (receive, transmit), "{name}");
        }
    }

    #[test]
    fn the_largest() {
        let share = Share { receive: true, packets: [(0, 10), (1, 90)].into() };
        assert_eq!((share.total(), share.largest()), (100, Some((1, 0.9))));
        assert_eq!(Share { receive: true, packets: [(0, 0)].into() }.largest(), None);
    }

    proptest::proptest! {
        #[test]
        fn any_name_will_do(name in ".{0,40}") {
            let _ = packets_of(&name, true);
        }
    }
}
