//! Payloads above the MTU, as the container demo's 2K: cut into fragments by the sender, counted in the middle, put together
//! at the members.

use std::net::IpAddr;

use wirerate_engine::lab::{INTERFACE, Lab};

mod common;

use common::Running;
use common::witness::{At, nft_count, nft_packets};

const PACKETS: u64 = 20_000;

/// Frames and frame bytes of a payload of 2000 bytes over an MTU of 1500: what each fragment carries, its headers, an FCS.
struct Scene {
    target: &'static str,
    group: &'static str,
    /// What nftables matches a fragment by.
    fragment: &'static str,
    frame_bytes: u64,
}

const SCENES: [Scene; 2] = [
    Scene {
        target: "udp://239.1.2.3:5001",
        group: "239.1.2.3",
        fragment: "ip frag-off & 0x3fff != 0",
        frame_bytes: (1480 + 528) + 2 * (14 + 20 + 4),
    },
    Scene {
        target: "udp://[ff15::1]:5001",
        group: "ff15::1",
        fragment: "exthdr frag exists",
        frame_bytes: (1448 + 560) + 2 * (14 + 40 + 8 + 4),
    },
];

#[test]
fn uring() {
    fragments("uring", ["uring", "uring"]);
}

#[test]
fn mmsg() {
    fragments("mmsg", ["mmsg", "mmsg"]);
}

#[test]
fn afxdp() {
    fragments("afxdp", ["afxdp", "afxdp"]);
}

#[test]
fn frames_to_sockets_and_back() {
    fragments("afxdp", ["uring", "mmsg"]);
    fragments("mmsg", ["afxdp", "uring"]);
}

fn fragments(sender: &str, receivers: [&str; 2]) {
    common::require_root!();
    for scene in &SCENES {
        let lab = Lab::bridge(2).unwrap();
        let members: Vec<Running> = lab
            .receivers
            .iter()
            .zip(receivers)
            .map(|(host, backend)| {
                let args =
                    ["recv", scene.target, "--iface", INTERFACE, "--backend", backend, "--verify-payload"];
                Running::ready_on(host, &[&args[..], &["--idle", "10s"]].concat())
            })
            .collect();
        lab.wait_for_members(scene.group.parse::<IpAddr>().unwrap(), 2).unwrap();
        nft_count(
            &lab.middle,
            &[("cut", At::Into("s0"), scene.fragment), ("out", At::OutOf("r1"), scene.fragment)],
        );
        let sent = common::report_on(
            &lab.sender,
            &[
                "send",
                scene.target,
                "--iface",
                INTERFACE,
                "--backend",
                sender,
                "--rate",
                "10kpps",
                "--length",
                "2000",
                "--count",
                &PACKETS.to_string(),
            ],
        );
        let tx = &sent["tx"];
        assert_eq!((&tx["packets"], &tx["errors"]), (&PACKETS.into(), &0.into()), "{tx}");
        assert_eq!(tx["fragments"], 2 * PACKETS, "{tx}");
        assert_eq!(tx["frame_bytes"], scene.frame_bytes * PACKETS, "{tx}");
        for (member, backend) in members.into_iter().zip(receivers) {
            let report = member.report();
            let rx = &report["rx"];
            for (field, expected) in [
                ("unique", PACKETS),
                ("payload_bytes", 2000 * PACKETS),
                ("fragments", 2 * PACKETS),
                ("frame_bytes", scene.frame_bytes * PACKETS),
                ("lost", 0),
                ("lost_tail", 0),
                ("corrupt", 0),
                ("foreign", 0),
            ] {
                assert_eq!(rx[field], expected, "{sender} {backend} {field}: {rx} {}", report["ledger"]);
            }
            assert_eq!(report["ledger"]["paths"][0]["unaccounted"], 0);
        }
        assert_eq!(nft_packets(&lab.middle, "cut"), 2 * PACKETS, "{sender} {}", scene.target);
        assert_eq!(nft_packets(&lab.middle, "out"), 2 * PACKETS, "{sender} {}", scene.target);
    }
}

#[test]
fn they_are_refused_on_request() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for backend in ["uring", "mmsg", "afxdp"] {
        let args = ["send", SCENES[0].target, "--iface", INTERFACE, "--backend", backend, "--dont-fragment"];
        let ended =
            common::run(common::wirerate_on(&lab.sender, &[&args[..], &["--length", "2000"]].concat()));
        ended.expect(2, &["MTU of 1500", "--length 1472"]);
    }
}
