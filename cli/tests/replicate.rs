//! `wirerate replicate` over real ports: devices without a fault pass every test of RFC 3918, with groups of each kind.

mod common;

use common::replicate::*;
use common::{require_root, run, wirerate};
use serde_json::Value;
use wirerate_engine::lab::device::{Device, Kind, Options};

#[test]
fn a_bridge_forwards_as_rfc_3918_asks() {
    require_root!();
    let device = bridge(2, &Options::default());
    let report = test(&device, FORWARDING, "--capacity-from 6", 0);
    says(&report, "6 groups; more was not tried");
    all_pass(&report, FORWARDING);
    all_trials_are_clean(&report);
    assert_eq!(report["reserved"][0]["section"], "4.4");
    assert_eq!(report["ports"]["membership"], "IGMPv3");
    // Latency of each port and group.
    for port in measured(&report, "latency")["trials"][0]["ports"].as_array().unwrap() {
        let groups = port["groups"].as_array().unwrap();
        assert_eq!(groups.iter().filter(|group| group["latency_ns"]["count"].as_u64() > Some(0)).count(), 3);
    }
    unicast_came(&report);
}

/// Panics unless the mixed test sent unicast frames to every member, and all of them came.
#[track_caller]
fn unicast_came(report: &Value) {
    for trial in measured(report, "mixed")["trials"].as_array().unwrap() {
        for port in trial["ports"].as_array().unwrap() {
            assert!(port["unicast"]["sent"].as_u64() > Some(0), "{port:#}");
            assert_eq!(port["unicast"]["sent"], port["unicast"]["received"]);
        }
    }
}

#[test]
fn members_of_a_bridge_come_and_go() {
    require_root!();
    let device = bridge(2, &Options::default());
    // With a burden they do in another test.
    let report = test(&device, "join-leave", AT_ANY_LOAD, 0);
    says(&report, "joins took up to");
    all_joined_and_left(&report, "join-leave", 4);
}

#[test]
fn a_router_that_the_command_builds_forwards_as_rfc_3918_asks() {
    require_root!();
    let arguments = format!(
        "replicate --device router --members 2 --test {FORWARDING} {QUICK} --capacity-from 6 --json --quiet"
    );
    let ended = run(wirerate(&arguments.split_whitespace().collect::<Vec<_>>()));
    assert_eq!(ended.code, 0, "{}{}", ended.stderr, ended.stdout);
    let report = ended.json();
    assert!(report["ports"]["device"].as_str().unwrap().starts_with("router"));
    all_pass(&report, FORWARDING);
    all_trials_are_clean(&report);
    unicast_came(&report);
}

#[test]
fn members_of_a_router_come_and_go() {
    require_root!();
    // Each leave takes it two seconds.
    let device = Device::build(Kind::Router, 2, &Options::default()).unwrap();
    all_joined_and_left(&test(&device, "join-leave", AT_ANY_LOAD, 0), "join-leave", 4);
    let device = Device::build(Kind::Router, 1, &Options::default()).unwrap();
    all_joined_and_left(&test(&device, "burdened-join", AT_ANY_LOAD, 0), "burdened-join", 2);
}

#[test]
fn groups_of_ipv6() {
    require_root!();
    let names = "mixed,join-leave";
    for kind in [Kind::Bridge, Kind::Router] {
        let device = Device::build(kind, 1, &Options::default()).unwrap();
        let report = test(&device, names, &format!("--group [ff15::18:1]:5001 {AT_ANY_LOAD}"), 0);
        all_pass(&report, names);
        all_trials_are_clean(&report);
        all_joined_and_left(&report, "join-leave", 1);
        unicast_came(&report);
        assert_eq!(report["ports"]["membership"], "MLDv2");
    }
}

#[test]
fn source_specific_groups() {
    require_root!();
    let names = "matrix,join-leave";
    for kind in [Kind::Bridge, Kind::Router] {
        let device = Device::build(kind, 1, &Options::default()).unwrap();
        let source = device.sender().ipv4;
        let report =
            test(&device, names, &format!("--group {source}@232.18.0.1:5001 --groups 2 {AT_ANY_LOAD}"), 0);
        all_pass(&report, names);
        all_trials_are_clean(&report);
        all_joined_and_left(&report, "join-leave", 1);
    }
    // A source that no sender is is told before anything begins.
    let device = bridge(1, &Options { senders: 2, ..Options::default() });
    let source = device.sender().ipv4;
    let arguments = format!("--test matrix --group {source}@232.18.0.1:5001 {QUICK}");
    run(replicate(&device, &arguments)).expect(2, &["s2: ", "is not its address"]);
}

#[test]
fn two_senders() {
    require_root!();
    let names = "mixed,matrix";
    for kind in [Kind::Bridge, Kind::Router] {
        let device = Device::build(kind, 2, &Options { senders: 2, ..Options::default() }).unwrap();
        let report = test(&device, names, "", 0);
        assert_eq!(report["ports"]["senders"].as_array().unwrap().len(), 2);
        all_pass(&report, names);
        all_trials_are_clean(&report);
        unicast_came(&report);
    }
}

#[test]
fn burdening_ports() {
    require_root!();
    let names = "burdened-latency,burdened-join";
    let arguments = format!(
        "replicate --device bridge --members 1 --burden-ports 3 --test {names} {} --json --quiet",
        quick(&format!("--groups 1 {AT_ANY_LOAD}"))
    );
    let ended = run(wirerate(&arguments.split_whitespace().collect::<Vec<_>>()));
    assert_eq!(ended.code, 0, "{}{}", ended.stderr, ended.stdout);
    let report = ended.json();
    all_pass(&report, names);
    all_trials_are_clean(&report);
    assert_eq!(report["ports"]["burden"], serde_json::json!(["b1", "b2", "b3"]));
    let trials = measured(&report, "burdened-latency")["trials"].as_array().unwrap();
    let (without, with) = (&trials[0], trials.last().unwrap());
    assert!(without["burden"].is_null() && without["unicast"].is_null());
    // Six ways, each with as many frames; the member gets none of them, and the load of the groups is what it was.
    let sent = with["burden"]["sent"].as_u64().unwrap();
    assert!(sent > 0 && sent.is_multiple_of(6), "{with:#}");
    assert_eq!(with["burden"]["sent"], with["burden"]["received"]);
    assert!(with["ports"][0]["unicast"].is_null());
    assert_eq!(with["multicast"]["frames"], without["multicast"]["frames"]);
    all_joined_and_left(&report, "burdened-join", 2);
}

#[test]
fn a_thousand_groups() {
    require_root!();
    let device = bridge(1, &Options::default());
    // More than one `recv` takes, and no more than a busy machine sends at once.
    let more = "--groups 1000 --step 700 --capacity-from 300 --capacity-max 1000 --rate 2000pps --offered-tolerance 90% --frame-size 128";
    let report = test(&device, "capacity", more, 0);
    says(&report, "1000 groups; more was not tried");
    assert!(trials(&report).all(|trial| trial["leaked"] == 0), "{report:#}");
}

#[test]
fn what_it_says_to_people() {
    require_root!();
    let device = bridge(2, &Options::default());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    let ended =
        run(replicate(&device, &format!("--test matrix,capacity {QUICK} --json-file {}", file.display())));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for words in [
        "scaled group forwarding matrix (RFC 3918 §4.2)",
        "segments   off",
        "stranger   x1",
        "m2",
        "fails at",
        "encapsulation (RFC 3918 §4.4)",
        "verdict",
    ] {
        assert!(ended.stdout.contains(words), "{words:?} is missing in: {}", ended.stdout);
    }
    assert!(ended.stderr.contains(" left"), "{}", ended.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    all_pass(&report, "capacity,matrix");
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
