//! `wirerate replicate` over the ports of a device in the lab, and what its report says.
#![allow(dead_code, reason = "not every test file needs everything")]

use std::fs;
use std::io::Write;
use std::os::fd::IntoRawFd;
use std::process::{Command, Stdio};

use serde_json::Value;
use wirerate_engine::lab::device::{Device, Kind, Options};
use wirerate_engine::lab::{Host, INTERFACE, Netns};

use super::{Running, WIRERATE, wirerate};

/// Short trials at rates that any machine bears. What a test gives besides counts instead of what stands here.
pub const QUICK: &str = "--quick --trial 500ms --search-trial 300ms --drain 200ms --rest 10ms --frame-size 256 --groups 3 --rate 600pps \
                         --min-rate 300pps --max-rate 600pps --resolution 60% --capacity-max 6 --step 3 --patience 6s --join-wait 5s \
                         --offered-tolerance 10% --kernel-drops off --backend mmsg";

/// Delays do not depend on the load: a sender that is held up on a busy machine is no reason to doubt them.
pub const AT_ANY_LOAD: &str = "--offered-tolerance 60%";

/// What is forwarded, and when.
pub const FORWARDING: &str = "capacity,throughput,mixed,matrix,latency,burdened-latency";

/// The port of `host`: its agent comes into the namespace, which has no name, through a descriptor of this test.
pub fn port(host: &Host) -> String {
    let file = host.netns.run(|| fs::File::open("/proc/thread-self/ns/net")).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.into_raw_fd());
    format!("{INTERFACE}@nsenter --net={path} {WIRERATE} agent")
}

/// `wirerate replicate` over the ports of `device`.
pub fn replicate(device: &Device, arguments: &str) -> Command {
    let mut command = wirerate(&["replicate"]);
    for sender in &device.senders {
        command.args(["--sender", &port(sender)]);
    }
    for member in &device.members {
        command.args(["--member", &port(member)]);
    }
    command.args(["--stranger", &port(&device.stranger)]);
    command.args(arguments.split_whitespace());
    command
}

/// The words of [`QUICK`] but for the options that are in `more`, and `more`.
pub fn quick(more: &str) -> String {
    let mut words: Vec<&str> = QUICK.split_whitespace().collect();
    for option in more.split_whitespace().filter(|word| word.starts_with("--")) {
        if let Some(at) = words.iter().position(|word| *word == option) {
            words.drain(at..at + 2);
        }
    }
    format!("{} {more}", words.join(" "))
}

/// Begins the tests `names` over `device`, with more options.
pub fn begin(device: &Device, names: &str, more: &str) -> Running {
    Running::ready(replicate(device, &format!("--test {names} {}", quick(more))), &[])
}

/// Runs the tests `names` over `device` to the end: the report. Panics unless they end with `code`.
#[track_caller]
pub fn test(device: &Device, names: &str, more: &str, code: i32) -> Value {
    ended(begin(device, names, more), code)
}

/// The report of a run that ends with `code`.
#[track_caller]
pub fn ended(running: Running, code: i32) -> Value {
    let (report, ended) = running.end();
    let report = report.unwrap_or_else(|| panic!("no report: {}", ended.stderr));
    assert_eq!(ended.code, code, "{}{}", ended.stderr, said(&report));
    report
}

/// Outcome of each test.
pub fn outcomes(report: &Value) -> Vec<(&str, &str)> {
    let tests = report["tests"].as_array().expect("tests");
    tests.iter().map(|test| (test["name"].as_str().unwrap(), test["outcome"].as_str().unwrap())).collect()
}

/// Panics unless each of `names` passed, in the order of the report.
#[track_caller]
pub fn all_pass(report: &Value, names: &str) {
    let wanted: Vec<_> = names.split(',').map(|name| (name, "pass")).collect();
    assert_eq!(outcomes(report), wanted, "{}", said(report));
}

/// All that measurements of a report say, a line each.
pub fn said(report: &Value) -> String {
    let tests = report["tests"].as_array().expect("tests");
    let all = tests.iter().flat_map(|test| test["measurements"].as_array().unwrap());
    all.map(|m| m["why"].as_str().unwrap().to_owned() + "\n").collect()
}

/// Panics unless the report says `words`.
#[track_caller]
pub fn says(report: &Value, words: &str) {
    let said = said(report);
    assert!(said.contains(words), "{words:?} is missing in: {said}");
}

/// Panics if the report says `words`.
#[track_caller]
pub fn does_not_say(report: &Value, words: &str) {
    let said = said(report);
    assert!(!said.contains(words), "{words:?} is in: {said}");
}

/// The first measurement of a test.
pub fn measured<'a>(report: &'a Value, name: &str) -> &'a Value {
    let tests = report["tests"].as_array().unwrap();
    &tests.iter().find(|test| test["name"] == name).unwrap()["measurements"][0]
}

/// All trials of a report.
pub fn trials(report: &Value) -> impl Iterator<Item = &Value> {
    let tests = report["tests"].as_array().unwrap().iter();
    let measurements = tests.flat_map(|test| test["measurements"].as_array().unwrap());
    measurements.flat_map(|measurement| measurement["trials"].as_array().unwrap())
}

/// Panics unless every trial of a report is without loss, copies and leakage.
#[track_caller]
pub fn all_trials_are_clean(report: &Value) {
    for trial in trials(report) {
        assert_eq!(trial["leaked"], 0, "{trial:#}");
        for port in trial["ports"].as_array().unwrap() {
            assert!(port["received"].as_u64() > Some(0), "{port:#}");
            assert_eq!(port["sent"], port["received"], "{port:#}");
            assert_eq!(port["duplicate"], 0, "{port:#}");
            assert_eq!(port["learned"], true, "{port:#}");
        }
    }
}

/// Panics unless `ports` ports were measured in `states` states of the database, and so on for each load of `times`.
#[track_caller]
pub fn all_joined_and_left(report: &Value, name: &str, measurements: usize) {
    let delays = measured(report, name)["delays"].as_array().unwrap();
    assert_eq!(delays.len(), measurements, "{delays:#?}");
    for delay in delays {
        assert!(delay["join_ns"]["max"].is_u64() && delay["leave_ns"]["max"].is_u64(), "{delay:#}");
        assert_eq!((delay["never_joined"].as_u64(), delay["never_left"].as_u64()), (Some(0), Some(0)));
        assert_eq!(delay["before_join"], 0, "{delay:#}");
    }
}

/// A bridge with so many members, which asks for other members twice in 200 ms, and not in two seconds, when one leaves.
pub fn bridge(members: usize, options: &Options) -> Device {
    let device = Device::build(Kind::Bridge, members, options).unwrap();
    super::ip(&device.middle, "link set br0 type bridge mcast_last_member_interval 10");
    device
}

/// Has nftables do what `script` says in the device's place.
pub fn nft(middle: &Netns, script: &str) {
    let mut nft = middle.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
    nft.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{script}");
}

/// The bridge's table of members, as `bridge mdb` has it.
pub fn mdb(middle: &Netns) -> Vec<Value> {
    let output = middle.command("bridge").args(["-json", "mdb", "show"]).output().expect("bridge");
    let table: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    table[0]["mdb"].as_array().cloned().unwrap_or_default()
}
