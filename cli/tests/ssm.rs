//! Source-specific multicast: of two sources on one group only the joined one is received.

use std::process::Command;

use wirerate_engine::lab::{Host, INTERFACE, Lab};

mod common;

use common::Running;
use common::witness::{At, nft_count, nft_forget, nft_packets};

fn send(from: &Host, target: &str, backend: &str, count: &str) {
    let args =
        ["send", target, "--iface", INTERFACE, "--backend", backend, "--count", count, "--rate", "5kpps"];
    let sent = common::report_on(from, &args);
    assert_eq!(sent["tx"]["packets"].to_string(), count);
}

#[test]
fn only_the_joined_source_is_received() {
    common::require_root!();
    let lab = Lab::bridge(2).unwrap();
    // A bridge with IGMPv3 snooping would keep the other source away by itself; here the receiving host has to.
    let mut ip: Command = lab.middle.command("ip");
    assert!(
        ip.args(["link", "set", "br0", "type", "bridge", "mcast_snooping", "0"]).status().unwrap().success()
    );
    let (receiver, joined, other) = (&lab.receivers[0], &lab.sender, &lab.receivers[1]);
    for (group, ipv6) in [("232.1.1.1", false), ("[ff3e::8000:1]", true)] {
        let (joined_is, other_is) = if ipv6 {
            (format!("[{}]", joined.ipv6), format!("ip6 saddr {}", other.ipv6))
        } else {
            (joined.ipv4.to_string(), format!("ip saddr {}", other.ipv4))
        };
        for backend in ["uring", "mmsg", "afxdp"] {
            let target = format!("udp://{group}:5001");
            let of_joined = format!("udp://{joined_is}@{group}:5001");
            let running = Running::ready_on(
                receiver,
                &["recv", &of_joined, "--iface", INTERFACE, "--backend", backend],
            );
            let others = format!("{other_is} udp dport 5001");
            nft_count(&lab.middle, &[("others", At::OutOf("r1"), &others)]);
            // The other one first, and its end: should it be heard, the receiver would end with it.
            send(other, &target, backend, "700");
            send(joined, &target, backend, "500");
            let report = running.report();
            let rx = &report["rx"];
            for (field, expected) in [
                ("packets", 500),
                ("unique", 500),
                ("lost", 0),
                ("lost_tail", 0),
                ("foreign", 0),
                ("corrupt", 0),
            ] {
                assert_eq!(rx[field], expected, "{group} {backend} {field}: {rx}");
            }
            let streams = rx["streams"].as_array().unwrap();
            assert_eq!(streams.len(), 1, "{group} {backend}: {rx}");
            let source = streams[0]["source"].as_str().unwrap();
            assert!(source.starts_with(&format!("{joined_is}:")), "{source}");
            let arrived = nft_packets(&lab.middle, "others");
            assert!(
                arrived > 700,
                "{group} {backend}: of the other source {arrived} packets reached the receiver"
            );
            nft_forget(&lab.middle);
        }
    }
}
