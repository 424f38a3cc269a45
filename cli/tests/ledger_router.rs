//! What a router between sender and receiver drops has its place in the receiver's ledger.

mod common;

use common::ip;
use common::scene::{ROUTED, SENDERS, balanced, lost_only, number, path, receiver, routed, snmp, told};

const COUNT: u64 = 1000;
const PPS: u64 = 4000;

/// Sends a part of the packets with a TTL that ends at the router; the others tell the receiver that there is a run.
#[test]
fn a_time_to_live_that_ends() {
    common::require_root!();
    for (sender, backend) in SENDERS.into_iter().zip(["mmsg", "uring", "afxdp", "mmsg"]) {
        let what = format!("{sender:?} to {backend}");
        let lab = routed();
        let receiver = receiver(&lab.receivers[0], ROUTED, backend, "");
        let before = snmp(&lab.middle, "Ip", "InHdrErrors");
        // The receiver hears nothing of this run: it is the sender whose ledger tells.
        let sent = sender.send(&lab.sender, ROUTED, PPS, COUNT, "--ttl 1");
        let drops = &sent["ledger"]["sending"]["drops"];
        let lost: u64 = told(drops).iter().map(|(_, _, packets)| packets).sum();
        assert_eq!(lost, COUNT, "{what}: {drops:#}");
        for drop in drops.as_array().unwrap() {
            assert_eq!(
                (drop["place"].as_str(), drop["reason"].as_str()),
                (Some("ip"), Some("IP_INHDR")),
                "{what}: {drop}"
            );
            assert_eq!(drop["interface"], "s0", "{what}: {drop}");
            assert_eq!(drop["netns"], lab.middle.inode().unwrap(), "{what}: {drop}");
        }
        if !sender.gso {
            let messages = number(&sent["tx"]["messages"]);
            assert_eq!(snmp(&lab.middle, "Ip", "InHdrErrors") - before, COUNT + messages, "{what}");
        }
        receiver.signal("INT");
        let (report, _) = receiver.finish();
        assert_eq!(report.unwrap()["rx"]["packets"], 0, "{what}");
    }
}

#[test]
fn a_time_to_live_that_ends_from_some_moment_on() {
    common::require_root!();
    for (sender, backend) in SENDERS.into_iter().zip(["mmsg", "uring", "afxdp", "xdp"]) {
        let what = format!("{sender:?} to {backend}");
        let lab = routed();
        let receiver = receiver(&lab.receivers[0], ROUTED, backend, "");
        // A third of the packets meets a router that takes off more than there is.
        let rules = "add table netdev t\n\
             add chain netdev t f { type filter hook ingress device s0 priority 0; }\n\
             add rule netdev t f udp dport 5001 udp length > 200 numgen inc mod 3 == 0 counter ip ttl set 1\n";
        common::scene::nft(&lab.middle, rules);
        sender.send(&lab.sender, ROUTED, PPS, COUNT, "");
        let report = receiver.report();
        let missing = balanced(&report, COUNT, &what);
        let lost = lost_only(&report, "ip", "IP_INHDR", "s0", Some(&lab.middle), &what);
        assert_eq!((lost, missing), (common::scene::nft_counted(&lab.middle), lost), "{what}");
    }
}

#[test]
fn an_mtu_that_is_too_small_in_the_middle() {
    common::require_root!();
    for (sender, backend) in SENDERS.into_iter().zip(["mmsg", "uring", "afxdp", "mmsg"]) {
        let what = format!("{sender:?} to {backend}");
        let lab = routed();
        ip(&lab.middle, "link set r1 mtu 900");
        let receiver = receiver(&lab.receivers[0], ROUTED, backend, "--dst-port 5001-5002");
        // Small packets pass, large ones do not; when the router has told a socket so, its host refuses them.
        let sent = sender.send(&lab.sender, ROUTED, PPS, COUNT, "--length 500,1200");
        let report = receiver.report();
        let missing = balanced(&report, COUNT, &what);
        assert_eq!(missing, COUNT / 2, "{what}: {:#}", path(&report));
        let refused = number(&sent["tx"]["errors"]);
        let mut wanted = vec![("ip".to_owned(), "PKT_TOO_BIG".to_owned(), missing - refused)];
        if refused > 0 {
            wanted.push(("sender".to_owned(), "refused by the sender's host".to_owned(), refused));
        }
        assert_eq!(told(&path(&report)["drops"]), wanted, "{what}");
        let by_router =
            &path(&report)["drops"].as_array().unwrap().iter().find(|d| d["place"] == "ip").unwrap();
        assert_eq!(by_router["netns"], lab.middle.inode().unwrap(), "{what}: {by_router}");
    }
}
