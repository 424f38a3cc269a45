//! Thousands of groups on one receiver: one worker takes all, the kernel's limits are no obstacle, and each group has its figures.

mod common;

use common::{Running, require_root, run, wirerate_on};
use serde_json::Value;
use wirerate_engine::lab::{Host, INTERFACE, Lab, Netns};

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn receiver(host: &Host, line: &str) -> Running {
    let words = words(&format!("recv {line} --iface {INTERFACE}"));
    Running::ready_on(host, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// As [`receiver`], without the kernel's word on what it drops, which takes a third of a second to ask for.
fn quiet(host: &Host, line: &str) -> Running {
    receiver(host, &format!("{line} --kernel-drops off"))
}

fn send(host: &Host, line: &str) -> Value {
    let words = words(&format!("send {line} --iface {INTERFACE} --kernel-drops off"));
    common::report_on(host, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Groups that the kernel of `netns` is a member of on [`INTERFACE`].
fn joined(netns: &Netns) -> usize {
    common::ip(netns, &format!("maddress show dev {INTERFACE}")).matches("239.66.").count()
}

/// A bridge that floods: what a snooping one has room for is not what is tested here.
fn lab() -> Lab {
    let lab = Lab::bridge(1).unwrap();
    common::ip(&lab.middle, "link set br0 type bridge mcast_snooping 0");
    lab
}

#[test]
fn one_worker_receives_a_thousand_groups_and_four_thousand() {
    require_root!();
    let lab = lab();
    let host = &lab.receivers[0];
    for (backend, groups) in [("mmsg", 1000), ("uring", 4000), ("afxdp", 1000)] {
        let line = format!("239.66.0.1:5001 --groups {groups} --backend {backend}");
        let running = receiver(host, &line);
        // The kernel says who is a member, and we are of each.
        assert_eq!(joined(&host.netns), groups, "{backend}");
        let count = groups * 5;
        send(
            &lab.sender,
            &format!("239.66.0.1:5001 --groups {groups} --backend mmsg --rate 20kpps --count {count}"),
        );
        let report = running.report();
        let rx = &report["rx"];
        assert_eq!((&rx["unique"], &rx["lost"], &rx["lost_tail"]), (&count.into(), &0.into(), &0.into()));
        let summary = &rx["groups"];
        for (field, expected) in [("asked", groups), ("heard", groups), ("with_loss", 0)] {
            assert_eq!(summary[field], expected, "{backend} {field}: {summary}");
        }
        assert!(summary["least_packets"].as_u64() >= Some(1), "{backend}: {summary}");
        assert_eq!(summary["worst"].as_array().unwrap().len(), 0);
        assert_eq!(rx["streams"].as_array().unwrap().len(), groups, "{backend}");
        if backend != "afxdp" {
            assert_eq!(report["workers"].as_array().unwrap().len(), 1, "{backend}");
        }
        assert_eq!(report["ledger"]["paths"][0]["unaccounted"], 0, "{backend}: {}", report["ledger"]);
    }
    assert_eq!(joined(&host.netns), 0, "memberships end with the run");
}

#[test]
fn groups_of_others_are_left_to_them() {
    require_root!();
    let lab = lab();
    let host = &lab.receivers[0];
    for (first, other) in [("239.66.1.1", "239.66.9.9"), ("[ff15::66:1]", "[ff15::77:1]")] {
        for backend in ["mmsg", "uring"] {
            // The other's membership brings its packets to this host, to the same port.
            let others = quiet(host, &format!("{other}:5001 --backend mmsg"));
            let running = quiet(host, &format!("{first}:5001 --groups 300 --backend {backend}"));
            send(&lab.sender, &format!("{other}:5001 --backend mmsg --rate 5kpps --count 400"));
            send(&lab.sender, &format!("{first}:5001 --groups 300 --backend mmsg --rate 5kpps --count 600"));
            let rx = running.report()["rx"].take();
            for (field, expected) in [("packets", 600), ("foreign", 0), ("corrupt", 0), ("lost", 0)] {
                assert_eq!(rx[field], expected, "{first} {backend} {field}: {rx}");
            }
            assert_eq!(rx["groups"]["heard"], 300, "{first} {backend}");
            assert_eq!(others.report()["rx"]["packets"], 400, "{first} {backend}");
        }
    }
}

#[test]
fn a_source_is_the_only_one_of_all_groups_and_silent_ones_are_named() {
    require_root!();
    let lab = lab();
    let (host, sender) = (&lab.receivers[0], lab.sender.ipv4);
    for backend in ["mmsg", "uring", "afxdp"] {
        let running =
            quiet(host, &format!("udp://{sender}@232.66.0.1:5001 --groups 100 --backend {backend}"));
        // Another socket of this host lets the other source's packets in.
        let others = quiet(host, "udp://10.77.0.99@232.66.0.1:5001 --backend mmsg --duration 30s");
        common::ip(&lab.sender.netns, &format!("address replace 10.77.0.99/24 dev {INTERFACE}"));
        send(
            &lab.sender,
            "udp://10.77.0.99@232.66.0.1:5001 --groups 100 --backend mmsg --rate 5kpps --count 300",
        );
        // Ten of the groups stay silent.
        send(
            &lab.sender,
            &format!("udp://{sender}@232.66.0.1:5001 --groups 90 --backend mmsg --rate 5kpps --count 900"),
        );
        let rx = running.report()["rx"].take();
        assert_eq!((&rx["packets"], &rx["foreign"]), (&900.into(), &0.into()), "{backend}: {rx}");
        let groups = &rx["groups"];
        assert_eq!((&groups["asked"], &groups["heard"]), (&100.into(), &90.into()), "{backend}: {groups}");
        let worst = groups["worst"].as_array().unwrap();
        assert_eq!(worst.len(), 10, "{backend}");
        assert_eq!((&worst[0]["group"], &worst[0]["packets"]), (&"232.66.0.91".into(), &0.into()));
        drop(others);
    }
}

#[test]
fn workers_are_as_many_as_wanted_and_too_many_groups_are_refused() {
    require_root!();
    let lab = lab();
    let host = &lab.receivers[0];
    for (workers, expected) in [("1", 1), ("8", 3)] {
        let running = quiet(host, &format!("239.66.0.1:5001 --groups 3 --backend mmsg --workers {workers}"));
        send(&lab.sender, "239.66.0.1:5001 --groups 3 --backend mmsg --count 300");
        let report = running.report();
        assert_eq!(report["workers"].as_array().unwrap().len(), expected);
        assert_eq!((&report["rx"]["unique"], &report["rx"]["duplicate"]), (&300.into(), &0.into()));
    }
    let refused = |args: &[&str], words: &[&str]| run(wirerate_on(host, args)).expect(2, words);
    refused(&["send", "239.66.0.1:5001", "--groups", "5000", "--iface", INTERFACE], &["4096 groups at most"]);
    refused(&["recv", "239.255.255.1:5001", "--groups", "300", "--iface", INTERFACE], &["the range ends"]);
    refused(
        &["recv", "239.66.0.1:5001", "--workers", "2", "--backend", "afxdp", "--iface", INTERFACE],
        &["--workers"],
    );
}

#[test]
fn an_ordinary_limit_of_open_files_is_no_obstacle() {
    require_root!();
    let lab = lab();
    let host = &lab.receivers[0];
    let receiver = Running::ready_on(
        host,
        &["recv", "239.66.0.1:5001", "--groups", "1500", "--iface", INTERFACE, "--backend", "mmsg"],
    );
    // A stream each is a socket each, where shells give 1024 files.
    let mut command = lab.sender.command("sh");
    command.args(["-c", "ulimit -Sn 1024; exec \"$0\" \"$@\"", common::WIRERATE]).args([
        "send",
        "239.66.0.1:5001",
        "--groups",
        "1500",
        "--iface",
        INTERFACE,
        "--backend",
        "uring",
        "--rate",
        "20kpps",
        "--count",
        "3000",
        "--quiet",
    ]);
    run(command).expect(0, &[]);
    assert_eq!(receiver.report()["rx"]["groups"]["heard"], 1500);
}
