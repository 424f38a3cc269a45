//! How a benchmark ends when something breaks, and whether its delays are those of an independent witness.

mod common;

use std::fs;
use std::os::fd::IntoRawFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::witness::Tcpdump;
use common::{Ended, eventually, ip, require_root, run, signal, wait, wirerate};
use serde_json::Value;
use wirerate_engine::lab::device::{Device, Kind, Options};
use wirerate_engine::lab::{Host, INTERFACE, Netns};

/// One trial after another, each of a second or two.
const LONG: &str = "--test matrix --quick --trial 300ms --frame-size 256 --groups 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 --rate 500pps \
                    --join-wait 4s --offered-tolerance 90% --backend mmsg --json --quiet";

/// The port of `host`; `by` is put before the command that starts its agent.
fn port(host: &Host, by: &str) -> String {
    let file = host.netns.run(|| fs::File::open("/proc/thread-self/ns/net")).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.into_raw_fd());
    format!("{INTERFACE}@{by} nsenter --net={path} {} agent", common::WIRERATE)
}

/// A benchmark over a bridge whose second member's agent is started `by` something.
fn benchmark(device: &Device, by: &str, arguments: &str) -> Command {
    let mut command = wirerate(&["replicate", "--sender", &port(device.sender(), "")]);
    for (n, member) in device.members.iter().enumerate() {
        command.args(["--member", &port(member, if n == 1 { by } else { "" })]);
    }
    command.args(["--stranger", &port(&device.stranger, "")]);
    command.args(arguments.split_whitespace());
    command
}

fn bridge(members: usize) -> Device {
    Device::build(Kind::Bridge, members, &Options::default()).unwrap()
}

/// Panics unless measurements were kept, the first of which passed.
#[track_caller]
fn kept(ended: &Ended) -> Value {
    let report = ended.json();
    let measurements = report["tests"][0]["measurements"].as_array().unwrap();
    assert!(measurements.len() > 1, "{}{report:#}", ended.stderr);
    assert_eq!(measurements[0]["outcome"], "pass", "{report:#}");
    assert_eq!(measurements.last().unwrap()["outcome"], "inconclusive", "{report:#}");
    report
}

/// Processes in the namespaces of a device's hosts.
fn inhabitants(device: &Device) -> Vec<String> {
    let inodes: Vec<u64> = device.hosts().map(|host| host.netns.inode().unwrap()).collect();
    let lives = |pid: &str| {
        let link = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
        let inode: u64 = link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()?;
        inodes.contains(&inode).then_some(())
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    pids.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).filter(|pid| lives(pid).is_some()).collect()
}

#[track_caller]
fn nothing_is_left(device: &Device) {
    eventually("the agents are gone", || inhabitants(device).is_empty());
}

#[test]
fn an_agent_that_dies() {
    require_root!();
    let device = bridge(2);
    let ended = run(benchmark(&device, "timeout -s KILL 6", LONG));
    ended.expect(1, &["m2: ", "ended"]);
    let report = kept(&ended);
    assert!(report["failure"].as_str().unwrap().starts_with("m2: "), "{report:#}");
    nothing_is_left(&device);
}

#[test]
fn an_agent_that_hangs() {
    require_root!();
    let device = bridge(2);
    let ended = run(benchmark(&device, "timeout -s STOP 6", LONG));
    ended.expect(1, &["m2: ", "after 15 s"]);
    kept(&ended);
    nothing_is_left(&device);
}

#[test]
fn an_interface_that_vanishes() {
    require_root!();
    let device = bridge(2);
    let netns: &Netns = &device.members[1].netns;
    let ended = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_secs(6));
            ip(netns, &format!("link delete {INTERFACE}"));
        });
        run(benchmark(&device, "", LONG))
    });
    ended.expect(1, &["m2: ", INTERFACE]);
    kept(&ended);
    nothing_is_left(&device);
}

#[test]
fn ctrl_c() {
    require_root!();
    let device = bridge(2);
    let mut child: Child =
        benchmark(&device, "", LONG).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_secs(6));
    signal(child.id(), "INT");
    let status = wait(&mut child);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ended =
        Ended { code: status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) };
    ended.expect(5, &[]);
    let report = kept(&ended);
    assert_eq!(report["interrupted"], true);
    nothing_is_left(&device);
}

/// Time of each packet in ns, the group it is about, and what it is: `join`, `leave`, `data`.
fn read(capture: &std::path::Path) -> Vec<(u64, String, &'static str)> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(capture).args(["-T", "fields", "-E", "separator=|"]);
    for field in ["frame.time_epoch", "ip.dst", "igmp.record_type", "igmp.maddr", "udp.dstport"] {
        tshark.args(["-e", field]);
    }
    let ended = run(tshark);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let ns = |text: &str| {
        let (seconds, fraction) = text.split_once('.').expect("a fraction");
        seconds.parse::<u64>().unwrap() * 1_000_000_000
            + format!("{fraction:0<9}")[..9].parse::<u64>().unwrap()
    };
    ended
        .stdout
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('|').collect();
            let (record, group) = (fields[2], fields[3]);
            let what = match record {
                "4" => ("join", group),
                "3" => ("leave", group),
                _ if fields[4] == "5001" => ("data", fields[1]),
                _ => return None,
            };
            Some((ns(fields[0]), what.1.to_owned(), what.0))
        })
        .collect()
}

#[test]
fn delays_are_those_that_tshark_reads_from_a_capture_at_the_same_port() {
    require_root!();
    let device = bridge(1);
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("m1.pcap");
    let tcpdump = Tcpdump::stamped(&device.members[0].netns, INTERFACE, "igmp or udp port 5001", &capture);
    let arguments = "--test join-leave --quick --groups 1 --rate 500pps --frame-size 256 --patience 6s --offered-tolerance 90% --backend mmsg \
                     --json --quiet";
    let ended = run(benchmark(&device, "", arguments));
    tcpdump.end();
    assert_eq!(ended.code, 0, "{}{}", ended.stderr, ended.stdout);
    let delays = &ended.json()["tests"][0]["measurements"][0]["delays"][0];

    let packets = read(&capture);
    let group = "239.18.0.1";
    let of = |what: &str| {
        packets.iter().filter(move |p| p.1 == group && p.2 == what).map(|p| p.0).collect::<Vec<_>>()
    };
    let (join, leave, data) = (of("join")[0], of("leave")[0], of("data"));
    let first = *data.iter().find(|at| **at >= join).expect("data after the join");
    let last = *data.last().unwrap();
    assert!(data.iter().all(|at| *at >= join), "the bridge forwards nothing before");
    assert_eq!(delays["join_ns"]["max"].as_u64(), Some(first - join), "{delays:#}");
    assert_eq!(delays["leave_ns"]["max"].as_u64(), Some(last.saturating_sub(leave)), "{delays:#}");
    assert_eq!(delays["after_leave"].as_u64(), Some(data.iter().filter(|at| **at >= leave).count() as u64));
}
