//! The shortest proof: a sender and a receiver in the lab, by each datapath.

use wirerate_engine::lab::{INTERFACE, Lab};
use wirerate_engine::target::Target;

mod common;

#[test]
fn every_packet_arrives_by_each_datapath() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for target in
        ["udp://239.1.2.3:5001", "udp://[ff15::1:2:3]:5001", "udp://10.77.0.11:5001", "udp://[fd77::b]:5001"]
    {
        let group = Some(target.parse::<Target>().unwrap().destination.ip()).filter(|ip| ip.is_multicast());
        for backend in ["uring", "mmsg", "afxdp"] {
            let receiver = common::Running::ready_on(
                &lab.receivers[0],
                &["recv", target, "--iface", INTERFACE, "--backend", backend],
            );
            if let Some(group) = group {
                lab.wait_for_members(group, 1).unwrap();
            }
            let sent = common::report_on(
                &lab.sender,
                &[
                    "send",
                    target,
                    "--iface",
                    INTERFACE,
                    "--backend",
                    backend,
                    "--count",
                    "2000",
                    "--rate",
                    "10kpps",
                ],
            );
            assert_eq!(sent["tx"]["packets"], 2000, "{target} {backend}");
            let received = receiver.report();
            assert_eq!(received["rx"]["unique"], 2000, "{target} {backend}: {}", received["rx"]);
            assert_eq!(received["rx"]["lost"], 0);
            assert_eq!(received["rx"]["lost_tail"], 0);
            assert_eq!(received["ledger"]["paths"][0]["unaccounted"], 0);
            assert_eq!(received["backend"]["name"], backend);
        }
    }
}
