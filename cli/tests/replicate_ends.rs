//! How a benchmark ends when something breaks, and whether its delays are those of an independent witness.

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::memberships::{Said, by_group};
use common::replicate::replicate;
use common::witness::Tcpdump;
use common::{Running, eventually, ip, require_root, run, signal};
use serde_json::Value;
use wirerate_engine::lab::device::{Device, Kind, Options};
use wirerate_engine::lab::{Host, INTERFACE};

/// One trial after another, each of a second or two. More than are run: something breaks when the first has ended.
const LONG: &str = "--test matrix --quick --trial 300ms --frame-size 256 --groups 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 --rate 500pps \
                    --join-wait 4s --agent-timeout 4s --offered-tolerance 90% --backend mmsg";

/// A long benchmark whose first trial has ended.
fn begun(device: &Device) -> Running {
    let mut running = Running::ready(replicate(device, LONG), &[]);
    running.wait_for("measurement");
    running
}

fn bridge(members: usize) -> Device {
    Device::build(Kind::Bridge, members, &Options::default()).unwrap()
}

/// The report of a run that ended with `code` and said `words`. Panics unless what was measured by then was kept, and no more was measured.
#[track_caller]
fn kept(running: Running, code: i32, words: &[&str]) -> Value {
    let (report, ended) = running.end();
    ended.expect(code, words);
    let report = report.expect("a report");
    let measurements = report["tests"][0]["measurements"].as_array().unwrap();
    assert!((1..16).contains(&measurements.len()), "{}{report:#}", ended.stderr);
    assert_eq!(measurements[0]["outcome"], "pass", "{report:#}");
    assert_eq!(report["outcome"], "inconclusive", "{report:#}");
    if report["failure"].is_string() {
        assert_eq!(measurements.last().unwrap()["outcome"], "inconclusive", "{report:#}");
    }
    report
}

/// Processes in the namespaces of hosts.
fn inhabitants<'a>(hosts: impl Iterator<Item = &'a Host>) -> Vec<u32> {
    let inodes: Vec<u64> = hosts.map(|host| host.netns.inode().unwrap()).collect();
    let lives = |pid: &u32| {
        let link = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
        let inode: u64 = link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()?;
        inodes.contains(&inode).then_some(())
    };
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| lives(pid).is_some()).collect()
}

/// Sends a signal to the agent of the second member.
fn to_the_second_agent(device: &Device, name: &str) {
    let pids = inhabitants(device.members[1..2].iter());
    assert_eq!(pids.len(), 1, "one agent");
    signal(pids[0], name);
}

#[track_caller]
fn nothing_is_left(device: &Device) {
    eventually("the agents are gone", || inhabitants(device.hosts()).is_empty());
}

#[test]
fn an_agent_that_dies() {
    require_root!();
    let device = bridge(2);
    let running = begun(&device);
    to_the_second_agent(&device, "KILL");
    let report = kept(running, 1, &["m2: ", "ended"]);
    assert!(report["failure"].as_str().unwrap().starts_with("m2: "), "{report:#}");
    nothing_is_left(&device);
}

#[test]
fn an_agent_that_hangs() {
    require_root!();
    let device = bridge(2);
    let running = begun(&device);
    to_the_second_agent(&device, "STOP");
    kept(running, 1, &["m2: ", " after "]);
    nothing_is_left(&device);
}

#[test]
fn an_interface_that_vanishes() {
    require_root!();
    let device = bridge(2);
    let running = begun(&device);
    ip(&device.members[1].netns, &format!("link delete {INTERFACE}"));
    kept(running, 1, &["m2: ", INTERFACE]);
    nothing_is_left(&device);
}

#[test]
fn ctrl_c() {
    require_root!();
    let device = bridge(2);
    let running = begun(&device);
    running.signal("INT");
    let report = kept(running, 5, &[]);
    assert_eq!(report["interrupted"], true);
    nothing_is_left(&device);
}

#[test]
fn delays_are_those_that_tshark_reads_from_a_capture_at_the_same_port() {
    require_root!();
    let device = bridge(1);
    common::ip(&device.middle, "link set br0 type bridge mcast_last_member_interval 20");
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("m1.pcap");
    let tcpdump = Tcpdump::stamped(&device.members[0].netns, INTERFACE, "igmp or udp port 5001", &capture);
    let arguments = "--test join-leave --quick --groups 1 --rate 500pps --frame-size 256 --offered-tolerance 90% --backend mmsg \
                     --json --quiet";
    let ended = run(replicate(&device, arguments));
    let account = tcpdump.end();
    assert_eq!(ended.code, 0, "{}{}", ended.stderr, ended.stdout);
    assert_eq!(account.missed, 0, "the witness has to have seen all");
    // One member: one measurement, of an empty database. What was joined before it, to see how, was another group.
    let delays = &ended.json()["tests"][0]["measurements"][0]["delays"];
    assert_eq!(delays.as_array().unwrap().len(), 1);
    let delays = &delays[0];

    let host = [device.members[0].ipv4.to_string()];
    let all = by_group(&capture, &host);
    let packets = &all["239.18.0.1"];
    // Reports are repeated: the first of each kind is the one.
    let of = |what: Said| packets.iter().filter(move |p| p.1 == what).map(|p| p.0).collect::<Vec<u64>>();
    let (join, leave, data) = (of(Said::Join)[0], of(Said::Leave)[0], of(Said::Data));
    let (first, last) = (data[0], *data.last().unwrap());
    assert!(join < first && first < leave, "the bridge forwards nothing before: {packets:?}");
    assert_eq!(delays["before_join"], 0, "{delays:#}");
    assert_eq!(delays["join_ns"]["max"].as_u64(), Some(first - join), "{delays:#}");
    assert_eq!(delays["leave_ns"]["max"].as_u64(), Some(last.saturating_sub(leave)), "{delays:#}");
    assert_eq!(delays["after_leave"].as_u64(), Some(data.iter().filter(|at| **at >= leave).count() as u64));
}

/// FRR's daemons drop to a user of their own, and so do not die with their parent.
#[test]
fn killed_it_leaves_no_daemons() {
    require_root!();
    let daemons = || {
        let output = Command::new("pgrep").args(["-x", "pimd|zebra"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let before = daemons();
    let arguments = "replicate --device pimd --members 1 --test matrix --quick --groups 1 --rate 100pps --backend mmsg --quiet";
    let mut child = common::wirerate(&arguments.split(' ').collect::<Vec<_>>())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("both run", || daemons().lines().count() == before.lines().count() + 2);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("both have ended", || daemons() == before);
}
