//! Devices with a fault, which gets exactly the verdict that it deserves, and the witnesses to the fault.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::replicate::*;
use common::{ip, require_root};
use serde_json::Value;
use wirerate_engine::lab::device::{Device, Kind, Options};

/// Frames of trials with 256 bytes, and no messages between them: by source port and length.
const DATA: &str = "udp dport 5001 udp sport 20000-20999 udp length 218";

#[test]
fn a_port_that_drops_one_in_a_thousand() {
    require_root!();
    for kind in [Kind::Bridge, Kind::Router] {
        let device = Device::build(kind, 2, &Options::default()).unwrap();
        nft(
            &device.middle,
            &format!(
                "add table netdev fault\n\
                 add counter netdev fault dropped\n\
                 add chain netdev fault c {{ type filter hook egress device \"{}\" priority 0; }}\n\
                 add rule netdev fault c {DATA} numgen inc mod 1000 == 999 counter name dropped drop\n",
                device.members[1].port
            ),
        );
        // 2000 frames a trial: both that are dropped are of the last of four groups.
        let strict = "--groups 4 --step 4 --rate 2000pps --min-rate 2000pps --max-rate 2000pps --trial 1s --search-trial 1s --kernel-drops on";
        let mut dropped = 0;
        let mut tried = |names: &str, tolerance: &str, code: i32| {
            let report = test(&device, names, &format!("{strict} --loss-tolerance {tolerance}"), code);
            for trial in trials(&report) {
                let ports = trial["ports"].as_array().unwrap();
                assert_eq!((&ports[0]["sent"], &ports[0]["lost"]), (&2000.into(), &0.into()), "{trial:#}");
                assert_eq!((&ports[1]["sent"], &ports[1]["lost"]), (&2000.into(), &2.into()), "{trial:#}");
                assert_eq!((&ports[1]["worst_group"], &ports[1]["groups_with_loss"]), (&3.into(), &1.into()));
                dropped += 2;
            }
            // The witness.
            assert_eq!(counted(&device, "dropped"), dropped);
            report
        };
        let report = tried("throughput,matrix", "0%", 3);
        assert_eq!(outcomes(&report), [("throughput", "fail"), ("matrix", "fail")]);
        says(&report, "m2: lost 2 of 2000 frames, in 1 of 4 groups; most in group 3, 0.4000 %");
        does_not_say(&report, "m1:");
        if kind == Kind::Router {
            continue;
        }
        // It is 0.1 % of all, and 0.4 % of the group that it is judged by.
        assert_eq!(outcomes(&tried("matrix", "0.3%", 3)), [("matrix", "fail")]);
        assert_eq!(outcomes(&tried("throughput", "0.4%", 0)), [("throughput", "pass")]);
    }
}

/// Packets that a counter of the table `fault` has counted.
fn counted(device: &Device, name: &str) -> u64 {
    let mut nft = device.middle.command("nft");
    let output = nft.args(["--json", "list", "counter", "netdev", "fault", name]).output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    listed["nftables"][1]["counter"]["packets"].as_u64().expect("a counter of that name")
}

#[test]
fn flooding_is_leakage() {
    require_root!();
    let device = bridge(1, &Options { snooping: false, ..Options::default() });
    let report = test(&device, "capacity,throughput,join-leave", "--patience 2s --offered-tolerance 60%", 3);
    assert_eq!(outcomes(&report), [("capacity", "fail"), ("throughput", "fail"), ("join-leave", "fail")]);
    says(&report, "did not join");
    says(&report, "frames came before the join");
    // Every frame of the trial, and no less.
    let trial = &measured(&report, "throughput")["trials"][0];
    assert!(trial["leaked"].as_u64() >= trial["multicast"]["frames"].as_u64(), "{trial:#}");
    assert_eq!(trial["ports"][0]["lost"], 0);
}

/// Leaves the groups of IPv6 out of the bridge's table: hosts join some by themselves.
fn without_ipv6(device: &Device) {
    for netns in device.hosts().map(|host| &host.netns).chain([&device.middle]) {
        netns.run(|| std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")).unwrap();
    }
    common::eventually("the table is empty", || {
        for entry in mdb(&device.middle) {
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            let mut delete = device.middle.command("bridge");
            delete.args([
                "mdb",
                "del",
                "dev",
                "br0",
                "port",
                &text("port"),
                "grp",
                &text("grp"),
                &text("state"),
            ]);
            // It may have left by itself.
            let _ = delete.output().unwrap();
        }
        mdb(&device.middle).is_empty()
    });
}

/// Runs `work`, and gives with it the most groups that the bridge's table had meanwhile.
fn most_groups<T>(device: &Device, work: impl FnOnce() -> T) -> (usize, T) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                let groups: BTreeSet<String> =
                    mdb(&device.middle).iter().filter_map(|e| e["grp"].as_str().map(str::to_owned)).collect();
                most = most.max(groups.len());
                thread::sleep(Duration::from_millis(50));
            }
            most
        });
        let result = work();
        over.store(true, Ordering::Relaxed);
        (looking.join().unwrap(), result)
    })
}

/// Whether the bridge looks into reports, as `ip` has it.
fn snoops(device: &Device) -> bool {
    ip(&device.middle, "-details link show br0").contains("mcast_snooping 1")
}

#[test]
fn a_limit_of_groups_is_the_capacity_exactly() {
    require_root!();
    let build = || {
        let device = bridge(2, &Options { hash_limit: Some(64), ..Options::default() });
        without_ipv6(&device);
        device
    };
    let options = |from: u32, step: u32| {
        format!("--groups 64 --capacity-from {from} --step {step} --capacity-max 80 --rate 2000pps")
    };
    // One by one: the kernel takes 64, and with the next it gives up snooping and floods (br_multicast_new_group).
    let device = build();
    let (most, report) = most_groups(&device, || test(&device, "capacity", &options(63, 1), 0));
    let capacity = |report: &Value| {
        let found = &measured(report, "capacity")["capacity"];
        assert_eq!(found["bound"], "device", "{}", said(report));
        (found["groups"].as_u64().unwrap(), found["failed"].as_u64().unwrap())
    };
    assert_eq!(capacity(&report), (64, 65), "{}", said(&report));
    says(&report, "did not join");
    // The witnesses.
    assert_eq!((most, snoops(&device)), (64, false));
    // In one step too far: the bridge does not get over it, and that is told.
    let device = build();
    let report = test(&device, "capacity", &options(62, 4), 3);
    assert_eq!(capacity(&report), (62, 66), "{}", said(&report));
    says(&report, "did not get over 66 groups");
    assert!(!snoops(&device));
}

#[test]
fn a_member_that_is_never_heard() {
    require_root!();
    let device = bridge(2, &Options::default());
    nft(
        &device.middle,
        &format!(
            "add table netdev fault\n\
             add chain netdev fault c {{ type filter hook ingress device \"{}\" priority 0; }}\n\
             add rule netdev fault c ip protocol igmp drop\n",
            device.members[0].port
        ),
    );
    let report =
        test(&device, "matrix,join-leave", "--join-wait 1s --patience 1s --offered-tolerance 60%", 3);
    says(&report, "m1: lost");
    says(&report, "m1 (database empty): 3 of 3 groups never came");
    does_not_say(&report, "m2:");
    does_not_say(&report, "m2 (");
    assert!(report["warnings"].as_array().unwrap().iter().any(|w| w["code"] == "members-missing"));
}

#[test]
fn a_member_that_joins_late() {
    require_root!();
    let options = Options { query_interval: Duration::from_secs(4), ..Options::default() };
    let device = bridge(2, &options);
    // Three times the device does not hear that the first member is in the group: when it joins, when it says so again, and when it answers a query. It
    // answers the next at least two seconds later. The group is in the first record of a report of IGMPv3, or in the second, behind one without sources.
    nft(
        &device.middle,
        &format!(
            "add table netdev fault\n\
             add counter netdev fault dropped\n\
             add chain netdev fault late\n\
             add rule netdev fault late numgen inc mod 1000000 < 3 counter name dropped drop\n\
             add chain netdev fault c {{ type filter hook ingress device \"{}\" priority 0; }}\n\
             add rule netdev fault c ip protocol igmp @th,64,8 {{ 2, 4 }} @th,96,32 0xef120001 jump late\n\
             add rule netdev fault c ip protocol igmp @th,128,8 {{ 2, 4 }} @th,160,32 0xef120001 jump late\n",
            device.members[0].port
        ),
    );
    let late = "--groups 1 --patience 15s --join-tolerance 1500ms --offered-tolerance 60%";
    let report = test(&device, "join-leave", late, 3);
    assert_eq!(counted(&device, "dropped"), 3);
    // The first measurement, and no other: the frames came, and too late.
    says(&report, "m1 (database empty): a join took");
    says(&report, "above 1500.000 ms");
    does_not_say(&report, "never");
    does_not_say(&report, "m1 (database filled)");
    does_not_say(&report, "m2 (");
}

#[test]
fn a_sender_that_is_too_slow_is_neither_pass_nor_fail() {
    require_root!();
    let device = bridge(1, &Options::default());
    let more = "--rate 900Mpps --min-rate 900Mpps --max-rate 900Mpps --trial 100ms --search-trial 100ms --frame-size 1518 --offered-tolerance 2%";
    let report = test(&device, "matrix", more, 5);
    assert_eq!(outcomes(&report), [("matrix", "inconclusive")]);
    says(&report, "the sender offered");
}
