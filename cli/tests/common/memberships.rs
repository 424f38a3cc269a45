//! Who joins and leaves what, and when data comes, as tshark reads it in a capture.
#![allow(dead_code, reason = "not every test file needs everything")]

use std::collections::BTreeMap;

use super::witness::dissect;

/// What tshark reads of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// A host says that it is a member.
    Join,
    /// It says that it leaves.
    Leave,
    /// UDP to port 5001.
    Data,
}

/// What a capture tells of each group, of data and of what the host with these addresses says, by time: ns of CLOCK_REALTIME. Packets of several CPUs may stand in
/// another order in the capture. One report may tell of several groups.
pub fn by_group(capture: &std::path::Path, host: &[String]) -> BTreeMap<String, Vec<(u64, Said)>> {
    let fields = [
        "frame.time_epoch",
        "ip.src",
        "ipv6.src",
        "ip.dst",
        "ipv6.dst",
        "udp.dstport",
        "igmp.type",
        "icmpv6.type",
        "igmp.maddr",
        "igmp.record_type",
        "icmpv6.mld.multicast_address",
        "icmpv6.mldr.mar.multicast_address",
        "icmpv6.mldr.mar.record_type",
    ];
    let mut groups = BTreeMap::<String, Vec<(u64, Said)>>::new();
    for row in dissect(capture, &fields) {
        let (seconds, nanos) = row[0].split_once('.').unwrap();
        let at_ns = seconds.parse::<u64>().unwrap() * 1_000_000_000 + nanos.parse::<u64>().unwrap();
        let mut add = |group: &str, said| groups.entry(group.to_owned()).or_default().push((at_ns, said));
        let (source, destination) = if row[1].is_empty() { (&row[2], &row[4]) } else { (&row[1], &row[3]) };
        if row[5] == "5001" {
            add(destination, Said::Data);
            continue;
        }
        if !host.contains(source) {
            continue;
        }
        let mut records = |addresses: &str, kinds: &str| {
            for (group, kind) in addresses.split(',').zip(kinds.split(',')) {
                match kind {
                    "2" | "4" => add(group, Said::Join),
                    "3" => add(group, Said::Leave),
                    _ => {}
                }
            }
        };
        match (row[6].as_str(), row[7].as_str()) {
            ("0x16", _) => add(&row[8], Said::Join),
            ("0x17", _) => add(&row[8], Said::Leave),
            ("0x22", _) => records(&row[8], &row[9]),
            (_, "131") => add(&row[10], Said::Join),
            (_, "132") => add(&row[10], Said::Leave),
            (_, "143") => records(&row[11], &row[12]),
            _ => {}
        }
    }
    groups.values_mut().for_each(|all| all.sort());
    groups
}
