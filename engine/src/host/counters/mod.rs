//! Counters of lost packets that machine and interfaces keep by themselves: the driver's (`ethtool -S`), the interface's (`ip -s link`), those of its queueing disciplines (`tc
//! -s qdisc`) and of the kernel's receive queues (/proc/net/softnet_stat).
//!
//! They count the packets of everybody, some of them packets and others buffers, and the same packet may be in several. So they are evidence beside a ledger, and
//! no part of it.
#![forbid(unsafe_code)]

pub mod meaning;
pub mod port;

use std::fs;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, Stats64};
use netlink_packet_route::tc::{TcAttribute, TcMessage, TcStats2};
use serde::Serialize;

use super::netlink::{self, Rtnl};
use crate::sys::ethtool::Ethtool;

/// A counter of lost packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counter {
    /// Who counts: `ethtool`, `rtnl`, `qdisc`, `softnet`.
    pub source: &'static str,
    /// The interface; none for the machine's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Its name, as the source has it.
    pub name: String,
    /// Place, in the ledger's terms: `nic-rx`, `nic-tx`, `xdp`, `qdisc`, `backlog`.
    pub place: &'static str,
    /// What it says, in plain words.
    pub what: &'static str,
    /// How many; of what, the source decides.
    pub packets: u64,
}

/// All counters of lost packets of these interfaces of the calling thread's namespace, and the machine's own. What cannot be read is left out.
pub fn read(interfaces: &[(String, u32)]) -> Vec<Counter> {
    let mut counters = Vec::new();
    let links = netlink::route(&Rtnl::GetLink(LinkMessage::default()), NLM_F_DUMP).unwrap_or_default();
    let qdiscs =
        netlink::route(&Rtnl::GetQueueDiscipline(TcMessage::default()), NLM_F_DUMP).unwrap_or_default();
    for (name, index) in interfaces {
        let counter = |source, what: (&str, &'static str, &'static str), packets| Counter {
            source,
            interface: Some(name.clone()),
            name: what.0.to_owned(),
            place: what.1,
            what: what.2,
            packets,
        };
        for (told, value) in Ethtool::open(name).and_then(|e| e.statistics()).unwrap_or_default() {
            if let Some(means) = meaning::of(&told) {
                counters.push(counter("ethtool", (&told, means.place, means.what), value));
            }
        }
        if let Some(statistics) = links.iter().find_map(|answer| of_link(answer, *index)) {
            counters.extend(rtnl(&statistics).map(|(what, value)| counter("rtnl", what, value)));
        }
        for (kind, drops) in qdiscs.iter().filter_map(|answer| of_qdisc(answer, *index)) {
            counters.push(counter("qdisc", (&kind, "qdisc", "dropped"), drops));
        }
    }
    let text = fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    counters.push(Counter {
        source: "softnet",
        interface: None,
        name: "dropped".to_owned(),
        place: "backlog",
        what: "a CPU's receive queue was full",
        packets: softnet_dropped(&text),
    });
    counters
}

/// What was counted between two readings; counters that stayed are left out, and so are those that were set back.
pub fn difference(before: &[Counter], after: &[Counter]) -> Vec<Counter> {
    let key = |c: &Counter| (c.source, c.interface.clone(), c.name.clone());
    // Several queueing disciplines of an interface may have one name: the nth of one reading is the nth of the other.
    let mut left: Vec<&Counter> = before.iter().collect();
    let mut new = Vec::new();
    for counter in after {
        let earlier =
            left.iter().position(|old| key(old) == key(counter)).map_or(0, |at| left.remove(at).packets);
        let packets = counter.packets.saturating_sub(earlier);
        if packets > 0 {
            new.push(Counter { packets, ..counter.clone() });
        }
    }
    new
}

fn of_link(answer: &Rtnl, index: u32) -> Option<Stats64> {
    let Rtnl::NewLink(link) = answer else { return None };
    if link.header.index != index {
        return None;
    }
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(statistics) => Some(*statistics),
        _ => None,
    })
}

/// The interface's counters (`struct rtnl_link_stats64`): name, place and meaning, and value.
fn rtnl(s: &Stats64) -> impl Iterator<Item = ((&'static str, &'static str, &'static str), u64)> {
    [
        (("rx_errors", "nic-rx", "errors"), s.rx_errors),
        (("rx_dropped", "nic-rx", "dropped"), s.rx_dropped),
        (("rx_length_errors", "nic-rx", "wrong length"), s.rx_length_errors),
        (("rx_over_errors", "nic-rx", "FIFO full"), s.rx_over_errors),
        (("rx_crc_errors", "nic-rx", "wrong frame check sequence"), s.rx_crc_errors),
        (("rx_frame_errors", "nic-rx", "damaged on the line"), s.rx_frame_errors),
        (("rx_fifo_errors", "nic-rx", "FIFO full"), s.rx_fifo_errors),
        (("rx_missed_errors", "nic-rx", "no descriptor"), s.rx_missed_errors),
        (("rx_nohandler", "nic-rx", "nobody wanted it"), s.rx_nohandler),
        (("tx_errors", "nic-tx", "errors"), s.tx_errors),
        (("tx_dropped", "nic-tx", "dropped"), s.tx_dropped),
        (("tx_aborted_errors", "nic-tx", "aborted"), s.tx_aborted_errors),
        (("tx_carrier_errors", "nic-tx", "no carrier"), s.tx_carrier_errors),
        (("tx_fifo_errors", "nic-tx", "FIFO ran empty"), s.tx_fifo_errors),
        (("tx_window_errors", "nic-tx", "aborted"), s.tx_window_errors),
        (("tx_heartbeat_errors", "nic-tx", "aborted"), s.tx_heartbeat_errors),
    ]
    .into_iter()
}

/// Kind and drops of a queueing discipline of the interface.
pub(super) fn of_qdisc(answer: &Rtnl, index: u32) -> Option<(String, u64)> {
    let Rtnl::NewQueueDiscipline(qdisc) = answer else { return None };
    if qdisc.header.index.cast_unsigned() != index {
        return None;
    }
    let (mut kind, mut drops) = (None, None);
    for attribute in &qdisc.attributes {
        match attribute {
            TcAttribute::Kind(name) => kind = Some(name.clone()),
            TcAttribute::Stats2(parts) => {
                drops = parts.iter().find_map(|part| match part {
                    TcStats2::Queue(queue) => Some(u64::from(queue.drops)),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some((format!("{} {:x}:", kind?, qdisc.header.handle.major), drops?))
}

/// Packets that found a CPU's receive queue full: the second column (Documentation/networking/scaling.rst, net/core/net-procfs.c), in hexadecimal, one CPU a line.
pub(super) fn softnet_dropped(text: &str) -> u64 {
    let dropped = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok();
    text.lines().filter_map(dropped).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_column_of_each_cpu() {
        let text = "00015c73 0000000a 00000000 00000000\n0000d280 00000010 00000003 00000000\nrubbish\n";
        assert_eq!(softnet_dropped(text), 26);
        assert_eq!(softnet_dropped(""), 0);
    }

    #[test]
    fn loopback_and_the_machine() {
        let counters = read(&[("lo".to_owned(), 1)]);
        let of = |source| counters.iter().filter(|c| c.source == source).count();
        assert_eq!((of("rtnl"), of("softnet"), of("ethtool")), (16, 1, 0), "{counters:?}");
    }

    #[test]
    fn what_is_new() {
        let counter = |name: &str, packets| Counter {
            source: "qdisc",
            interface: Some("wr0".to_owned()),
            name: name.to_owned(),
            place: "qdisc",
            what: "dropped",
            packets,
        };
        let before = [counter("fq 0:", 3), counter("fq 0:", 5), counter("tbf 1:", 7)];
        let after = [counter("fq 0:", 3), counter("fq 0:", 9), counter("tbf 1:", 2), counter("new", 1)];
        assert_eq!(difference(&before, &after), [counter("fq 0:", 4), counter("new", 1)]);
    }
}
