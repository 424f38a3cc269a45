//! What is lost on the sender's host, or for want of somebody who receives it, has its place in the sender's ledger, and in that of a receiver on the same host.

mod common;

use std::process::Command;

use common::ip;
use common::scene::{
    BRIDGED, RECEIVERS, SENDERS, balanced, nft, nft_counted, number, path, receiver, snmp, told,
};
use serde_json::Value;
use wirerate_engine::lab::{INTERFACE, Lab};

const COUNT: u64 = 1000;
const PPS: u64 = 4000;

#[test]
fn a_closed_port() {
    common::require_root!();
    for sender in SENDERS {
        let what = format!("{sender:?}");
        let lab = Lab::bridge(1).unwrap();
        let netns = &lab.receivers[0].netns;
        let before = snmp(netns, "Udp", "NoPorts");
        let sent = sender.send(&lab.sender, BRIDGED, PPS, COUNT, "");
        let sending = &sent["ledger"]["sending"];
        assert_eq!(sending["sent"], COUNT, "{what}");
        let drops = sending["drops"].as_array().unwrap();
        assert_eq!(drops.len(), 1, "{what}: {sending:#}");
        let drop = &drops[0];
        let says = ["place", "reason", "interface"].map(|key| drop[key].as_str().unwrap());
        assert_eq!(says, ["socket", "NO_SOCKET", INTERFACE], "{what}: {drop}");
        assert_eq!(
            (&drop["packets"], &drop["netns"]),
            (&COUNT.into(), &netns.inode().unwrap().into()),
            "{what}"
        );
        if !sender.gso {
            assert_eq!(
                snmp(netns, "Udp", "NoPorts") - before,
                COUNT + number(&sent["tx"]["messages"]),
                "{what}"
            );
        }
    }
}

#[test]
fn filters_at_both_ends() {
    common::require_root!();
    for (sender, backend) in SENDERS.into_iter().zip(["mmsg", "uring", "mmsg", "uring"]) {
        let what = format!("{sender:?} to {backend}");
        let lab = Lab::bridge(1).unwrap();
        let rules = |hook: &str| {
            format!(
                "add table inet t\n\
                 add chain inet t f {{ type filter hook {hook} priority 0; }}\n\
                 add rule inet t f udp dport 5001 udp length > 200 numgen inc mod 5 == 4 counter drop\n"
            )
        };
        // Frames pass no filter on the sender's host.
        if sender.backend != "afxdp" {
            nft(&lab.sender.netns, &rules("output"));
        }
        nft(&lab.receivers[0].netns, &rules("input"));
        let receiver = receiver(&lab.receivers[0], BRIDGED, backend, "");
        let sent = sender.send(&lab.sender, BRIDGED, PPS, COUNT, "");
        let report = receiver.report();
        let missing = balanced(&report, COUNT, &what);
        // A buffer of several packets that the filter drops is sent again, one by one.
        let out = number(&sent["tx"]["errors"]);
        let [by_output, back] = [&lab.sender.netns, &lab.receivers[0].netns].map(nft_counted);
        assert!(
            if sender.gso { out > 0 && out < by_output } else { out == by_output },
            "{what}: {out} {by_output}"
        );
        assert_eq!(missing, out + back, "{what}: {:#}", path(&report));
        let by = |netns: Option<u64>| -> u64 {
            let drops = path(&report)["drops"].as_array().unwrap().iter();
            drops
                .filter(|d| d["place"] == "netfilter" && d["netns"].as_u64() == netns)
                .map(|d| number(&d["packets"]))
                .sum()
        };
        assert_eq!(by(None), back, "{what}: {:#}", path(&report));
        let named = by(Some(lab.sender.netns.inode().unwrap()));
        assert_eq!(named + number_at(&report, "sender"), out, "{what}: {:#}", path(&report));
        // The sender's own ledger has its own.
        let own: Vec<_> = told(&sent["ledger"]["sending"]["drops"]);
        let packets: u64 = own.iter().map(|(_, _, packets)| packets).sum();
        assert_eq!(packets, out + back, "{what}: {own:?}");
        assert!(own.iter().all(|(place, _, _)| place == "netfilter" || place == "sender"), "{what}: {own:?}");
        assert!(sender.gso || own.iter().all(|(place, _, _)| place == "netfilter"), "{what}: {own:?}");
    }
}

/// Packets of a place.
fn number_at(report: &Value, place: &str) -> u64 {
    told(&path(report)["drops"]).iter().filter(|(at, _, _)| at == place).map(|(_, _, packets)| packets).sum()
}

#[test]
fn an_mtu_that_is_too_small_at_the_sender() {
    common::require_root!();
    for (sender, backend) in
        SENDERS.into_iter().filter(|s| s.backend != "afxdp").zip(["mmsg", "uring", "afxdp"])
    {
        let what = format!("{sender:?} to {backend}");
        let lab = Lab::bridge(1).unwrap();
        let mut receiver = receiver(&lab.receivers[0], BRIDGED, backend, "");
        let count = 2 * PPS;
        let sent = std::thread::scope(|scope| {
            let sending = scope.spawn(|| sender.send(&lab.sender, BRIDGED, PPS, count, "--dont-fragment"));
            receiver.wait_for("interval");
            ip(&lab.sender.netns, "link set wr0 mtu 700");
            sending.join().unwrap()
        });
        let report = receiver.report();
        let missing = balanced(&report, count, &what);
        assert!(missing > 0, "{what}");
        assert_eq!(sent["tx"]["errors"], missing, "{what}");
        let refused = vec![("sender".to_owned(), "refused by the sender's host".to_owned(), missing)];
        assert_eq!(told(&path(&report)["drops"]), refused, "{what}");
        assert_eq!(told(&sent["ledger"]["sending"]["drops"]), refused, "{what}");
    }
}

/// A socket hears nothing of packets with a VLAN tag that no interface has; frames are looked at as they come.
#[test]
fn a_vlan_that_nobody_has() {
    common::require_root!();
    for backend in ["mmsg", "uring"] {
        let lab = Lab::bridge(1).unwrap();
        let netns = &lab.receivers[0].netns;
        let receiver = receiver(&lab.receivers[0], BRIDGED, backend, "");
        let sent = SENDERS[3].send(&lab.sender, BRIDGED, PPS, COUNT, "--vlan 7");
        let sending = &sent["ledger"]["sending"];
        let drops = sending["drops"].as_array().unwrap();
        assert_eq!(drops.len(), 1, "{backend}: {sending:#}");
        let says = ["place", "reason", "interface"].map(|key| drops[0][key].as_str().unwrap());
        assert_eq!(says, ["link", "OTHERHOST", INTERFACE], "{backend}: {sending:#}");
        assert_eq!(drops[0]["netns"], netns.inode().unwrap(), "{backend}: {sending:#}");
        assert_eq!(number(&drops[0]["packets"]), COUNT, "{backend}: {sending:#}");
        receiver.signal("INT");
        assert_eq!(receiver.finish().0.unwrap()["rx"]["packets"], 0);
    }
    // Some packets in a VLAN, and others not: the receiver's own ledger tells.
    let lab = Lab::bridge(1).unwrap();
    let receiver = receiver(&lab.receivers[0], BRIDGED, "afxdp", "");
    SENDERS[3].send(&lab.sender, BRIDGED, PPS, COUNT, "--vlan 7");
    assert_eq!(balanced(&receiver.report(), COUNT, "frames have their tags"), 0);
}

/// Kernel threads that poll interfaces named `name`.
fn pollers(name: &str) -> Vec<String> {
    let output = Command::new("pgrep").arg(format!("^napi/{name}-")).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Has the kernel run thread `id` by another policy.
fn run_as(policy: &str, id: &str) {
    let done = Command::new("chrt").args([policy, "-p", "0", id]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// Has the middle take packets from the sender's cable by a ring, whose readers get no CPU as long as anybody else wants it; those.
fn starve(lab: &Lab) -> Vec<String> {
    for (netns, interface) in [(&lab.middle, "s0"), (&lab.sender.netns, INTERFACE)] {
        let on = netns.command("ethtool").args(["-K", interface, "gro", "on"]).output().unwrap();
        assert!(on.status.success(), "{on:?}");
    }
    let before = pollers("s0");
    let threaded = lab.middle.command("sh").args(["-c", "echo 1 > /sys/class/net/s0/threaded"]).status();
    assert!(threaded.unwrap().success());
    let readers: Vec<String> = pollers("s0").into_iter().filter(|id| !before.contains(id)).collect();
    for id in &readers {
        let done = Command::new("taskset").args(["-p", "1", id]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        run_as("--idle", id);
    }
    readers
}

#[test]
fn live_frames_faster_than_the_ring_of_a_veth() {
    common::require_root!();
    for backend in RECEIVERS {
        let lab = Lab::bridge(1).unwrap();
        let readers = starve(&lab);
        let receiver = receiver(&lab.receivers[0], BRIDGED, backend, "--keep");
        let line = format!(
            "send {BRIDGED} --iface {INTERFACE} --backend xdp --rate max --count 300000 --length 100 --cpus 0"
        );
        let sent = common::report_on(&lab.sender, &line.split_whitespace().collect::<Vec<_>>());
        // What is in the ring has not arrived yet, and the end does not wait for it there.
        readers.iter().for_each(|id| run_as("--other", id));
        std::thread::sleep(std::time::Duration::from_millis(500));
        receiver.signal("INT");
        let report = receiver.report();
        balanced(&report, 300_000, backend);
        let refused = number(&sent["tx"]["errors"]);
        assert!(refused > 0, "{backend}: the ring never was full");
        assert_eq!(number_at(&report, "sender"), refused, "{backend}: {:#}", path(&report));
        // What the interface did not take, by the kernel's tracepoint.
        let own = told(&sent["ledger"]["sending"]["drops"]);
        let by_ring: Vec<_> = own.iter().filter(|(place, _, _)| place == "xdp").collect();
        assert!(by_ring.iter().all(|(_, reason, _)| reason.starts_with("xdp_devmap_xmit")), "{own:?}");
        assert_eq!(by_ring.iter().map(|(_, _, packets)| packets).sum::<u64>(), refused, "{backend}: {own:?}");
    }
}
