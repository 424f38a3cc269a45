//! `wirerate replicate` over real ports: a device without a fault passes every test of RFC 3918, and each fault gets the verdict that it deserves.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{Ended, require_root, run, wirerate};
use serde_json::Value;
use wirerate_engine::lab::device::{Device, Kind, Options};
use wirerate_engine::lab::{Host, INTERFACE, Netns};

/// Short trials at rates that any machine bears.
const QUICK: &str = "--quick --trial 400ms --search-trial 200ms --frame-size 256 --groups 3 --rate 600pps \
                     --min-rate 300pps --max-rate 600pps --resolution 60% --capacity-max 6 --step 3 --patience 6s --join-wait 5s \
                     --offered-tolerance 90% --backend mmsg --json --quiet";

/// The path by which an agent comes into `netns`, which has no name: through this test's descriptor.
fn port(host: &Host) -> String {
    let path = format!("/proc/{}/fd/{}", std::process::id(), descriptor(&host.netns));
    format!("{INTERFACE}@nsenter --net={path} {} agent", common::WIRERATE)
}

/// A descriptor of the namespace, which stays open to the end of the test.
fn descriptor(netns: &Netns) -> i32 {
    use std::os::fd::IntoRawFd;
    netns.run(|| std::fs::File::open("/proc/thread-self/ns/net")).unwrap().into_raw_fd()
}

/// `wirerate replicate` over the ports of `device`.
fn replicate(device: &Device, arguments: &str) -> Command {
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

/// Runs the tests `names` over `device` to the end.
fn test(device: &Device, names: &str, more: &str) -> Ended {
    // What is given last counts.
    let mut arguments: Vec<&str> = QUICK.split_whitespace().collect();
    let more: Vec<&str> = more.split_whitespace().collect();
    for pair in more.chunks(2) {
        if let Some(at) = arguments.iter().position(|word| *word == pair[0]) {
            arguments.drain(at..at + 2);
        }
    }
    run(replicate(device, &format!("--test {names} {} {}", arguments.join(" "), more.join(" "))))
}

/// Outcome of each test.
fn outcomes(report: &Value) -> Vec<(&str, &str)> {
    let tests = report["tests"].as_array().expect("tests");
    tests.iter().map(|test| (test["name"].as_str().unwrap(), test["outcome"].as_str().unwrap())).collect()
}

/// All that measurements of a report say.
fn said(report: &Value) -> String {
    let tests = report["tests"].as_array().expect("tests");
    let all = tests.iter().flat_map(|test| test["measurements"].as_array().unwrap());
    all.map(|m| m["why"].as_str().unwrap().to_owned() + "\n").collect()
}

/// Panics unless the run ended with `code`, and what was said has `words` in it.
#[track_caller]
fn expect(ended: &Ended, code: i32, words: &str) -> Value {
    assert_eq!(ended.code, code, "{}{}", ended.stderr, ended.stdout);
    let report = ended.json();
    let said = said(&report);
    assert!(said.contains(words), "{words:?} is missing in: {said}");
    report
}

/// Rules of nftables on what leaves the middle by `ports`.
fn on_the_way_out(middle: &Netns, rules: &[(&str, &str)]) {
    let mut script = "add table netdev fault\n".to_owned();
    for (n, (port, rule)) in rules.iter().enumerate() {
        script += &format!(
            "add chain netdev fault c{n} {{ type filter hook egress device \"{port}\" priority 0; }}\n\
             add rule netdev fault c{n} {rule}\n"
        );
    }
    let mut nft = middle.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
    nft.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{script}");
}

/// A bridge with so many members, which asks for other members twice in 200 ms, and not in two seconds, when one leaves.
fn bridge(members: usize, options: &Options) -> Device {
    let device = Device::build(Kind::Bridge, members, options).unwrap();
    common::ip(&device.middle, "link set br0 type bridge mcast_last_member_interval 10");
    device
}

/// What is forwarded, and when.
const FORWARDING: &str = "capacity,throughput,mixed,matrix,latency,burdened-latency";
const DELAYS: &str = "join-leave,burdened-join";

/// Panics unless each of `names` passed, in the order of the report.
#[track_caller]
fn all_pass(report: &Value, names: &str) {
    let wanted: Vec<_> = names.split(',').map(|name| (name, "pass")).collect();
    assert_eq!(outcomes(report), wanted, "{}", said(report));
}

/// The measurement of a test.
fn measured<'a>(report: &'a Value, name: &str) -> &'a Value {
    let tests = report["tests"].as_array().unwrap();
    &tests.iter().find(|test| test["name"] == name).unwrap()["measurements"][0]
}

/// Panics unless every trial of a report is without loss, copies and leakage.
#[track_caller]
fn all_trials_are_clean(report: &Value) {
    for test in report["tests"].as_array().unwrap() {
        for trial in test["measurements"][0]["trials"].as_array().unwrap() {
            assert_eq!(trial["leaked"], 0, "{trial:#}");
            for port in trial["ports"].as_array().unwrap() {
                assert_eq!(port["sent"], port["received"], "{port:#}");
                assert_eq!(port["duplicate"], 0, "{port:#}");
                assert_eq!(port["learned"], true, "{port:#}");
            }
        }
    }
}

/// Panics unless both ports were measured in both states of the database, `times` times.
#[track_caller]
fn all_joined_and_left(report: &Value, name: &str, times: usize) {
    let delays = measured(report, name)["delays"].as_array().unwrap();
    assert_eq!(delays.len(), 4 * times);
    for delay in delays {
        assert!(delay["join_ns"]["max"].is_u64() && delay["leave_ns"]["max"].is_u64(), "{delay:#}");
        assert_eq!((delay["never_joined"].as_u64(), delay["never_left"].as_u64()), (Some(0), Some(0)));
        assert_eq!(delay["before_join"], 0, "{delay:#}");
    }
}

#[test]
fn a_bridge_forwards_as_rfc_3918_asks() {
    require_root!();
    let device = bridge(2, &Options::default());
    let report = expect(&test(&device, FORWARDING, ""), 0, "6 groups; more was not tried");
    all_pass(&report, FORWARDING);
    all_trials_are_clean(&report);
    assert_eq!(report["reserved"][0]["section"], "4.4");
    assert_eq!(report["ports"]["membership"], "IGMPv3");
    // Latency of each port and group.
    for port in measured(&report, "latency")["trials"][0]["ports"].as_array().unwrap() {
        let groups = port["groups"].as_array().unwrap();
        assert_eq!(groups.iter().filter(|group| group["latency_ns"]["count"].as_u64() > Some(0)).count(), 3);
    }
    // Unicast to every member.
    for port in measured(&report, "mixed")["trials"][0]["ports"].as_array().unwrap() {
        assert!(port["unicast"]["sent"].as_u64() > Some(0));
        assert_eq!(port["unicast"]["sent"], port["unicast"]["received"]);
    }
}

#[test]
fn members_of_a_bridge_come_and_go() {
    require_root!();
    let device = bridge(2, &Options::default());
    let report = expect(&test(&device, DELAYS, ""), 0, "joins took up to");
    all_pass(&report, DELAYS);
    all_joined_and_left(&report, "join-leave", 1);
    all_joined_and_left(&report, "burdened-join", 2);
}

/// Runs the tests `names` over a router that the command builds itself.
fn router(names: &str) -> Value {
    let arguments = format!("replicate --device router --members 2 --test {names} {QUICK}");
    let report = expect(&run(wirerate(&arguments.split_whitespace().collect::<Vec<_>>())), 0, "");
    assert!(report["ports"]["device"].as_str().unwrap().starts_with("router"));
    all_pass(&report, names);
    report
}

#[test]
fn a_router_forwards_as_rfc_3918_asks() {
    require_root!();
    all_trials_are_clean(&router(FORWARDING));
}

#[test]
fn members_of_a_router_come_and_go() {
    require_root!();
    let report = router(DELAYS);
    all_joined_and_left(&report, "join-leave", 1);
    all_joined_and_left(&report, "burdened-join", 2);
}

#[test]
fn a_port_that_drops_one_in_a_thousand() {
    require_root!();
    let device = bridge(2, &Options::default());
    // Of the data only, so that it is one in a thousand of the trial's.
    on_the_way_out(
        &device.middle,
        &[(&device.members[1].port, "udp dport 5001 numgen inc mod 1000 == 999 drop")],
    );
    let strict =
        "--rate 4000pps --min-rate 4000pps --max-rate 4000pps --trial 1s --search-trial 1s --confirm 1";
    let report = expect(&test(&device, "throughput,matrix", strict), 3, "m2: lost");
    assert_eq!(outcomes(&report), [("throughput", "fail"), ("matrix", "fail")]);
    assert!(!said(&report).contains("m1:"), "{}", said(&report));
    let trial = &report["tests"][1]["measurements"][0]["trials"][0];
    let lost = |port: usize| trial["ports"][port]["lost"].as_u64().unwrap();
    assert_eq!(lost(0), 0);
    assert!((3..=5).contains(&lost(1)), "{trial:#}");
    // It is as much as that is tolerated of one group.
    expect(&test(&device, "throughput", &format!("{strict} --loss-tolerance 1%")), 0, "4000 frames/s");
}

#[test]
fn flooding_is_leakage() {
    require_root!();
    let device = bridge(2, &Options { snooping: false, ..Options::default() });
    let report = expect(&test(&device, "throughput,capacity,join-leave", "--patience 2s"), 3, "did not join");
    assert_eq!(outcomes(&report), [("capacity", "fail"), ("throughput", "fail"), ("join-leave", "fail")]);
    assert!(said(&report).contains("frames came before the join"), "{}", said(&report));
    // Every frame of the trial.
    let trial = &report["tests"][1]["measurements"][0]["trials"][0];
    assert!(trial["leaked"].as_u64() >= trial["multicast"]["frames"].as_u64(), "{trial:#}");
}

#[test]
fn a_limit_of_groups_is_the_capacity() {
    require_root!();
    // With more groups than that the kernel gives up snooping, and floods.
    let options = Options { hash_limit: Some(64), ..Options::default() };
    let device = bridge(2, &options);
    let more = "--capacity-max 80 --step 40 --groups 64 --rate 2000pps";
    let report = expect(&test(&device, "capacity", more), 3, "");
    let capacity = &report["tests"][0]["measurements"][0]["capacity"];
    assert_eq!(capacity["bound"], "device", "{report:#}");
    let groups = capacity["groups"].as_u64().unwrap();
    // IPv6 groups of the hosts themselves are in the table, too.
    assert!((40..=64).contains(&groups), "{groups}: {}", said(&report));
}

#[test]
fn a_member_that_joins_late() {
    require_root!();
    let device = bridge(2, &Options::default());
    // Its reports are lost for longer than anybody waits.
    let mut nft = device.middle.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let script = format!(
        "add table netdev late\nadd chain netdev late c {{ type filter hook ingress device \"{}\" priority 0; }}\n\
         add rule netdev late c ip protocol igmp drop\n",
        device.members[0].port
    );
    nft.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
    let report = expect(&test(&device, "matrix,join-leave", "--join-wait 1s --patience 1s"), 3, "m1: lost");
    assert!(said(&report).contains("m1 (database empty): 3 of 3 groups never came"), "{}", said(&report));
    assert!(!said(&report).contains("m2:"), "{}", said(&report));
    assert!(report["warnings"].as_array().unwrap().iter().any(|w| w["code"] == "members-missing"));
}

#[test]
fn a_sender_that_is_too_slow_is_neither_pass_nor_fail() {
    require_root!();
    let device = bridge(1, &Options::default());
    let more = "--rate 900Mpps --min-rate 900Mpps --max-rate 900Mpps --trial 100ms --search-trial 100ms --frame-size 1518 --offered-tolerance 2%";
    let report = expect(&test(&device, "throughput,matrix", more), 5, "the sender offered");
    for (name, outcome) in outcomes(&report) {
        assert_eq!(outcome, "inconclusive", "{name}");
    }
}

#[test]
fn what_it_says_to_people() {
    require_root!();
    let device = bridge(2, &Options::default());
    let arguments = QUICK.replace("--json --quiet", "--test matrix,capacity");
    let ended = run(replicate(&device, &arguments));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for words in [
        "scaled group forwarding matrix (RFC 3918 §4.2)",
        "segments   off",
        "stranger   x1",
        "m2",
        "encapsulation (RFC 3918 §4.4)",
        "verdict",
    ] {
        assert!(ended.stdout.contains(words), "{words:?} is missing in: {}", ended.stdout);
    }
    assert!(ended.stderr.contains(" left"), "{}", ended.stderr);
}

#[test]
fn wrong_arguments_are_told_before_anything_begins() {
    for (arguments, words) in [
        ("--sender lo --member lo --test nonsense", "none of that name"),
        ("--sender lo --member lo --group 10.0.0.1:5", "not a multicast group"),
        ("--sender lo --member lo --max-rate max", "has to be a number"),
        ("--sender lo --member lo --max-rate 10%", "does not tell its speed"),
        ("--sender lo --member lo --min-rate 2Mpps", "no room"),
        ("--sender lo --member lo --frame-size 20", "too small"),
        ("--sender nix0 --member lo --quick", "s1: no interface nix0"),
        ("--sender lo --member lo@/nowhere/wirerate --quick", "m1: `/nowhere/wirerate` cannot be started"),
        ("--sender lo --member lo@ --quick", "no command"),
        ("--member lo", "--sender"),
        ("--device bridge --sender lo", "cannot be used with"),
        ("--device hub", "no such device"),
    ] {
        let mut command = wirerate(&["replicate"]);
        command.args(arguments.split_whitespace());
        let ended = run(command);
        assert!(matches!(ended.code, 2 | 4), "{arguments}: {}", ended.code);
        assert!(ended.stderr.contains(words), "{arguments}: {words:?} is missing in {}", ended.stderr);
    }
}
