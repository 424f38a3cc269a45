//! A million packets by each datapath to two members of a group: none lost, and every witness in the middle agrees.

use std::net::IpAddr;

use serde_json::Value;
use wirerate_engine::lab::{INTERFACE, Lab};

mod common;

use common::Running;
use common::witness::{At, Captured, Tcpdump, link_packets, nft_count, nft_packets};

const TARGET: &str = "udp://239.1.2.3:5001";
const PACKETS: u64 = 1_000_000;

/// Other than that of end-of-stream messages, so that witnesses can tell them apart.
const LENGTH: &str = "100";

/// The middle's ports: in from the sender, out to the members.
const PORTS: [(&str, At<'_>); 3] = [("s0", At::Into("s0")), ("r1", At::OutOf("r1")), ("r2", At::OutOf("r2"))];

#[test]
fn uring() {
    million("uring");
}

#[test]
fn mmsg() {
    million("mmsg");
}

#[test]
fn afxdp() {
    million("afxdp");
}

fn million(backend: &str) {
    common::require_root!();
    let lab = Lab::bridge(2).unwrap();
    let middle = &lab.middle;
    let members: Vec<Running> = lab
        .receivers
        .iter()
        .map(|host| {
            // Should the ends be lost, the report says more than waiting for them does.
            let args = ["recv", TARGET, "--iface", INTERFACE, "--backend", backend, "--idle", "10s"];
            Running::ready_on(host, &args)
        })
        .collect();
    lab.wait_for_members(IpAddr::from([239, 1, 2, 3]), 2).unwrap();

    let dumps = PORTS.map(|(port, _)| Tcpdump::count(middle, port, "udp dst port 5001 and udp[4:2] == 108"));
    let before = PORTS.map(|(port, _)| link_packets(middle, port));
    let names: Vec<[String; 3]> = PORTS
        .iter()
        .map(|(port, _)| [format!("data_{port}"), format!("other_{port}"), format!("all_{port}")])
        .collect();
    let counters: Vec<(&str, At<'_>, &str)> = names
        .iter()
        .zip(PORTS)
        .flat_map(|([data, other, all], (_, at))| {
            [
                (data.as_str(), at, "udp dport 5001 udp length 108"),
                (other.as_str(), at, "udp dport 5001 udp length != 108"),
                (all.as_str(), at, ""),
            ]
        })
        .collect();
    nft_count(middle, &counters);
    let between = PORTS.map(|(port, _)| link_packets(middle, port));

    let sent = common::report_on(
        &lab.sender,
        &[
            "send",
            TARGET,
            "--iface",
            INTERFACE,
            "--backend",
            backend,
            "--rate",
            // What an AF_XDP receiver may be off its CPU for is its 8,192 frames: a third of a second at this rate.
            if backend == "afxdp" { "25kpps" } else { "40kpps" },
            "--length",
            LENGTH,
            // The witnesses count buffers.
            "--segments",
            "off",
            "--count",
            "1000000",
        ],
    );
    assert_eq!(sent["backend"]["name"], backend);
    assert_eq!(sent["tx"]["packets"], PACKETS, "{}", sent["tx"]);
    assert_eq!(sent["tx"]["errors"], 0);
    for member in members {
        check_member(backend, &member.report());
    }

    let after = PORTS.map(|(port, _)| link_packets(middle, port));
    let messages = sent["tx"]["messages"].as_u64().unwrap();
    for (n, dump) in dumps.into_iter().enumerate() {
        let (port, at) = PORTS[n];
        let [data, other, all] = &names[n];
        assert_eq!(nft_packets(middle, data), PACKETS, "{backend}, nft at {port}");
        assert_eq!(nft_packets(middle, other), messages, "{backend}, nft at {port}: end-of-stream messages");
        let all = nft_packets(middle, all);
        let later = link_packets(middle, port);
        // The bridge's queries and the hosts' reports pass, too, at any time: also between two readings.
        let packets = |(rx, tx): (u64, u64)| if matches!(at, At::Into(_)) { rx } else { tx };
        let (least, most) = (packets(after[n]) - packets(between[n]), packets(later) - packets(before[n]));
        assert!(
            (least..=most).contains(&all),
            "{backend}, {port}: {all} by nft, {least} to {most} by ip -s link"
        );
        let Captured { captured, matched, missed } = dump.end();
        assert_eq!(matched, PACKETS, "{backend}, tcpdump at {port}");
        assert_eq!(captured + missed, PACKETS, "{backend}, tcpdump at {port}");
    }
}

fn check_member(backend: &str, report: &Value) {
    let rx = &report["rx"];
    assert_eq!(report["backend"]["name"], backend);
    for (field, expected) in [
        ("packets", PACKETS),
        ("unique", PACKETS),
        ("payload_bytes", 100 * PACKETS),
        ("lost", 0),
        ("lost_tail", 0),
        ("duplicate", 0),
        ("reordered", 0),
        ("late", 0),
        ("corrupt", 0),
        ("foreign", 0),
        ("before_start", 0),
    ] {
        assert_eq!(rx[field], expected, "{backend} {field}: {} {}", report["rx"], report["ledger"]);
    }
    assert_eq!(rx["latency_ns"]["count"], PACKETS);
    let path = &report["ledger"]["paths"][0];
    assert_eq!((&path["sent"], &path["received"]), (&PACKETS.into(), &PACKETS.into()));
    assert_eq!(path["drops"], Value::Array(Vec::new()));
    assert_eq!(path["unaccounted"], 0);
}
