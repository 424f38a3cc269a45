//! What is lost between sender and receiver has its place in the receiver's ledger, when all of it is on one host.

mod common;

use std::process::Stdio;

use common::ip;
use common::scene::{
    BRIDGED, RECEIVERS, SENDERS, Sender, balanced, lost_only, nft, nft_counted, number, path, receiver, tc,
    told,
};
use serde_json::Value;
use wirerate_engine::lab::{INTERFACE, Lab};

const COUNT: u64 = 2000;
const PPS: u64 = 4000;

/// Has the middle do `what` with every fifth buffer on its way to the first receiver, and count those.
fn every_fifth(lab: &Lab, what: &str) {
    nft(
        &lab.middle,
        &format!(
            "add table bridge t\n\
             add chain bridge t f {{ type filter hook forward priority 0; }}\n\
             add rule bridge t f oifname r1 udp dport 5001 udp length > 200 numgen inc mod 5 == 4 {what}\n"
        ),
    );
}

#[test]
fn a_filter_in_the_middle() {
    common::require_root!();
    for (sender, backend) in
        SENDERS.into_iter().flat_map(|s| RECEIVERS.map(|r| (s, r))).filter(|(s, r)| s.gso || *r != "uring")
    {
        let what = format!("{sender:?} to {backend}");
        let lab = Lab::bridge(1).unwrap();
        every_fifth(&lab, "counter drop");
        let receiver = receiver(&lab.receivers[0], BRIDGED, backend, "");
        sender.send(&lab.sender, BRIDGED, PPS, COUNT, "");
        let report = receiver.report();
        let missing = balanced(&report, COUNT, &what);
        let lost = lost_only(&report, "netfilter", "NETFILTER_DROP", "r1", Some(&lab.middle), &what);
        assert_eq!((lost, missing), (nft_counted(&lab.middle), lost), "{what}");
        assert!(lost >= COUNT / 6, "{what}: {lost}");
    }
}

#[test]
fn rtp_with_a_probe_is_told_from_other_packets_too() {
    common::require_root!();
    for sender in [SENDERS[0], SENDERS[3]] {
        let what = format!("{sender:?}");
        let lab = Lab::bridge(1).unwrap();
        every_fifth(&lab, "counter drop");
        let target = BRIDGED.replace("udp:", "rtp:");
        let receiver = receiver(&lab.receivers[0], &target, "mmsg", "--rtcp off");
        sender.send(&lab.sender, &target, PPS, COUNT, "--rtcp off");
        let report = receiver.report();
        let missing = balanced(&report, COUNT, &what);
        let lost = lost_only(&report, "netfilter", "NETFILTER_DROP", "r1", Some(&lab.middle), &what);
        assert_eq!((lost, missing), (nft_counted(&lab.middle), lost), "{what}");
    }
}

#[test]
fn a_group_has_one_path_for_each_member() {
    common::require_root!();
    let group = "239.1.2.3:5001";
    let lab = Lab::bridge(2).unwrap();
    every_fifth(&lab, "counter drop");
    let [first, second] = [0, 1].map(|n| receiver(&lab.receivers[n], group, "mmsg", ""));
    lab.wait_for_members("239.1.2.3".parse().unwrap(), 2).unwrap();
    SENDERS[0].send(&lab.sender, group, PPS, COUNT, "");
    let (first, second) = (first.report(), second.report());
    assert_eq!(balanced(&second, COUNT, "the other member"), 0);
    let dropped = nft_counted(&lab.middle);
    balanced(&first, COUNT, "the member that some were kept from");
    assert_eq!(lost_only(&first, "netfilter", "NETFILTER_DROP", "r1", Some(&lab.middle), "group"), dropped);
}

/// Only one of two senders is filtered: each has a path of its own, and the drops are in the right one.
#[test]
fn senders_have_a_path_each() {
    common::require_root!();
    for backend in ["mmsg", "afxdp"] {
        let lab = Lab::bridge(2).unwrap();
        every_fifth(&lab, "ip saddr 10.77.0.1 counter drop");
        let receiver = receiver(&lab.receivers[0], BRIDGED, backend, "--keep");
        std::thread::scope(|scope| {
            scope.spawn(|| SENDERS[0].send(&lab.sender, BRIDGED, PPS, COUNT, "--src-port 40000"));
            scope.spawn(|| SENDERS[3].send(&lab.receivers[1], BRIDGED, PPS, COUNT, "--src-port 40000"));
        });
        receiver.signal("INT");
        let report = receiver.report();
        let paths = report["ledger"]["paths"].as_array().unwrap();
        let senders: Vec<_> = paths.iter().map(|path| path["sender"].as_str().unwrap()).collect();
        assert_eq!(senders, ["10.77.0.1", "10.77.0.12"], "{backend}: {:#}", report["ledger"]);
        let dropped = nft_counted(&lab.middle);
        assert!(dropped > 0, "{backend}");
        for (path, missing) in paths.iter().zip([dropped, 0]) {
            let figures = ["sent", "received", "unaccounted"].map(|key| path[key].as_u64());
            assert_eq!(figures, [COUNT, COUNT - missing, 0].map(Some), "{backend}: {path:#}");
        }
        let lost = ("netfilter".to_owned(), "NETFILTER_DROP".to_owned(), dropped);
        assert_eq!((told(&paths[0]["drops"]), told(&paths[1]["drops"])), (vec![lost], vec![]), "{backend}");
    }
}

/// One of two filtered senders is killed and says no end: the other's path is whole, and the report says who is missing.
#[test]
fn a_sender_that_is_killed() {
    common::require_root!();
    for backend in ["mmsg", "afxdp"] {
        let lab = Lab::bridge(2).unwrap();
        every_fifth(&lab, "counter drop");
        let mut receiver = receiver(&lab.receivers[0], BRIDGED, backend, "--keep");
        let endless =
            format!("send {BRIDGED} --iface {INTERFACE} --backend mmsg --rate 1kpps --duration 60s --quiet");
        let mut killed = common::wirerate_on(&lab.receivers[1], &endless.split(' ').collect::<Vec<_>>());
        let mut killed = killed.stdout(Stdio::null()).spawn().unwrap();
        receiver.wait_for("interval");
        SENDERS[0].send(&lab.sender, BRIDGED, PPS, COUNT, "");
        killed.kill().unwrap();
        killed.wait().unwrap();
        receiver.signal("INT");
        let report = receiver.report();
        let missing = balanced(&report, COUNT, backend);
        let lost = lost_only(&report, "netfilter", "NETFILTER_DROP", "r1", Some(&lab.middle), backend);
        assert!(lost == missing && lost > 0, "{backend}: {:#}", path(&report));
        assert_eq!(path(&report)["sender"], "10.77.0.1", "{backend}");
        let warnings = report["warnings"].as_array().unwrap();
        let said = warnings.iter().find(|w| w["code"] == "no-end").expect("said");
        assert!(said["text"].as_str().unwrap().contains("no end came from 10.77.0.12 (run "), "{said}");
    }
}

/// Packets that the queueing discipline of `r1` has dropped, by its own count.
fn dropped_by_qdisc(lab: &Lab) -> u64 {
    let qdiscs: Value = serde_json::from_str(&tc(&lab.middle, "-s -j qdisc show dev r1")).unwrap();
    number(&qdiscs[0]["drops"])
}

#[test]
fn a_shaper_in_the_middle() {
    common::require_root!();
    for (sender, backend) in SENDERS.into_iter().zip(["mmsg", "uring", "mmsg", "uring"]) {
        let what = format!("{sender:?} to {backend}");
        let lab = Lab::bridge(1).unwrap();
        tc(&lab.middle, "qdisc add dev r1 root tbf rate 8mbit burst 20000 limit 60000");
        let receiver = receiver(&lab.receivers[0], BRIDGED, backend, "");
        let sent = sender.send(&lab.sender, BRIDGED, PPS, COUNT, "");
        let report = receiver.report();
        let missing = balanced(&report, COUNT, &what);
        assert!(missing > COUNT / 4, "{what}: {missing}");
        let drops = path(&report)["drops"].as_array().unwrap();
        for drop in drops {
            let says = ["place", "reason", "interface"].map(|key| drop[key].as_str().unwrap());
            assert_eq!(says, ["qdisc", "QDISC_DROP", "r1"], "{what}: {drop}");
            assert_eq!(drop["netns"], lab.middle.inode().unwrap(), "{what}: {drop}");
        }
        let all: u64 = drops.iter().map(|d| number(&d["packets"])).sum();
        // Messages may have been dropped, too.
        let messages = number(&sent["tx"]["messages"]) - number(&report["rx"]["messages"]);
        if !sender.gso {
            assert_eq!(dropped_by_qdisc(&lab), all + messages, "{what}: {drops:?}");
        }
    }
}

#[test]
fn a_port_of_the_middle_that_is_down_for_a_while() {
    common::require_root!();
    for (sender, backend) in SENDERS.into_iter().zip(["mmsg", "uring", "afxdp", "mmsg"]) {
        for (netns, link) in [("middle", "r1"), ("receiver", INTERFACE)] {
            let what = format!("{sender:?} to {backend}, {link} down");
            let lab = Lab::bridge(1).unwrap();
            let netns = if netns == "middle" { &lab.middle } else { &lab.receivers[0].netns };
            let receiver = receiver(&lab.receivers[0], BRIDGED, backend, "");
            let count = 3 * PPS;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(std::time::Duration::from_millis(700));
                    ip(netns, &format!("link set {link} down"));
                    std::thread::sleep(std::time::Duration::from_millis(1000));
                    ip(netns, &format!("link set {link} up"));
                });
                sender.send(&lab.sender, BRIDGED, PPS, count, "");
            });
            let report = receiver.report();
            let missing = balanced(&report, count, &what);
            assert!(missing > 0, "{what}");
            for (place, reason, _) in told(&path(&report)["drops"]) {
                // One packet may just have been on its way to the interface.
                let known = [
                    ("bridge", "NO_TX_TARGET"),
                    ("bridge", "NOT_SPECIFIED br_handle_frame_finish"),
                    ("bridge", "NOT_SPECIFIED br_dev_queue_push_xmit"),
                    ("veth", "NOT_SPECIFIED __dev_forward_skb2"),
                    ("veth", "NOT_SPECIFIED veth_xmit"),
                    ("tx", "DEV_READY"),
                    ("qdisc", "QDISC_DROP"),
                ];
                assert!(known.contains(&(&place, &reason)), "{what}: {place} {reason}");
            }
        }
    }
}

#[test]
fn a_checksum_that_is_wrong() {
    common::require_root!();
    for (sender, backend) in SENDERS.into_iter().flat_map(|s| ["mmsg", "uring"].map(|r| (s, r))) {
        let what = format!("{sender:?} to {backend}");
        let lab = Lab::bridge(1).unwrap();
        // The sender's host writes the checksum itself, and cuts super-packets for that: otherwise there is none to be wrong.
        let off = lab.sender.command("ethtool").args(["-K", INTERFACE, "tx", "off"]).output().unwrap();
        assert!(off.status.success(), "{off:?}");
        every_fifth(&lab, "counter udp checksum set 0xbad");
        let receiver = receiver(&lab.receivers[0], BRIDGED, backend, "--segments off");
        sender.send(&lab.sender, BRIDGED, PPS, COUNT, "");
        let report = receiver.report();
        let missing = balanced(&report, COUNT, &what);
        let lost = lost_only(&report, "socket", "UDP_CSUM", INTERFACE, None, &what);
        assert_eq!((lost, missing), (nft_counted(&lab.middle), lost), "{what}");
    }
}

#[test]
fn what_arrives_changed() {
    common::require_root!();
    for (sender, backend) in SENDERS.into_iter().flat_map(|s| RECEIVERS.map(|r| (s, r))) {
        let what = format!("{sender:?} to {backend}");
        let lab = Lab::bridge(1).unwrap();
        // No UDP checksum, and a probe header whose check is wrong.
        every_fifth(&lab, "counter udp checksum set 0 @th,64,16 set 0");
        let off = lab.sender.command("ethtool").args(["-K", INTERFACE, "tx", "off"]).output().unwrap();
        assert!(off.status.success(), "{off:?}");
        let receiver = receiver(&lab.receivers[0], BRIDGED, backend, "");
        sender.send(&lab.sender, BRIDGED, PPS, COUNT, "");
        let report = receiver.report();
        let missing = balanced(&report, COUNT, &what);
        let lost = lost_only(&report, "application", "corrupt", INTERFACE, None, &what);
        assert_eq!((lost, missing), (nft_counted(&lab.middle), lost), "{what}");
    }
}

/// Two labs on one host with the same addresses and ports: each ledger has its own drops only.
#[test]
fn labs_side_by_side() {
    common::require_root!();
    let labs = [Lab::bridge(1).unwrap(), Lab::bridge(1).unwrap()];
    every_fifth(&labs[0], "counter drop");
    let receivers = [0, 1].map(|n| receiver(&labs[n].receivers[0], BRIDGED, "mmsg", ""));
    let Sender { .. } = SENDERS[0];
    std::thread::scope(|scope| {
        for lab in &labs {
            scope.spawn(|| SENDERS[0].send(&lab.sender, BRIDGED, PPS, COUNT, "--src-port 40000"));
        }
    });
    let [first, second] = receivers.map(common::Running::report);
    assert_eq!(balanced(&first, COUNT, "the first"), nft_counted(&labs[0].middle));
    assert_eq!(balanced(&second, COUNT, "the second"), 0);
    assert_eq!(told(&path(&second)["drops"]), []);
}
