//! `wirerate qualify` over a link without a fault, in all the ways in which ports can be named; what it says, and how it ends.

mod common;

use common::qualify::*;
use common::replicate::port;
use common::{Running, ip, require_root, run, wirerate};
use serde_json::Value;
use wirerate_engine::lab::{INTERFACE, Lab, Netns};

const ALL: &str = "throughput,latency,frame-loss,back-to-back,soak";

#[test]
fn a_link_without_a_fault_passes_every_test() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    let report =
        qualified(&lab, &format!("--tests {ALL} --direction both --duration 1s --interval 200ms"), 0);
    let names: Vec<_> = ALL.split(',').chain(["health"]).map(|name| (name, "pass")).collect();
    assert_eq!(checks(&report), names);
    for trial in trials(&report) {
        let ports = trial["ports"].as_array().unwrap();
        assert_eq!(ports.len(), 2, "{trial:#}");
        for port in ports {
            assert!(port["received"].as_u64() > Some(0) && port["sent"] == port["received"], "{port:#}");
            assert_eq!((&port["learned"], port["duplicate"].as_u64()), (&Value::Bool(true), Some(0)));
        }
    }
    assert_eq!(measured(&report, "throughput")["throughput"]["bound"], "range");
    assert_eq!(measured(&report, "latency")["latency"].as_array().unwrap().len(), 2);
    let soak = &measured(&report, "soak")["soak"];
    assert!(soak["intervals"].as_array().unwrap().len() >= 6, "{soak:#}");
    assert_eq!(report["health"].as_array().unwrap().len(), 2);
    assert_eq!(report["health"][0]["state"]["kind"], "veth");
}

#[test]
fn mixes_each_direction_and_text() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    let more = format!(
        "--tests throughput --direction each --frame-size 64,imix --imix 1:100,1:1400 --json-file {}",
        file.display()
    );
    let ended = run(qualify(&lab, &more));
    assert_eq!(ended.code, 0, "{}{}", ended.stderr, ended.stdout);
    for words in [
        "throughput (RFC 2544 §26.1)",
        "reverse",
        "1:100,1:1400",
        "system-recovery",
        "health of rx",
        "verdict",
    ] {
        assert!(ended.stdout.contains(words), "{words:?} is missing in: {}", ended.stdout);
    }
    assert!(ended.stderr.contains(" left"), "{}", ended.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let all = report["tests"][0]["measurements"].as_array().unwrap();
    let told: Vec<_> = all
        .iter()
        .map(|m| {
            (
                m["sizes"].as_str().unwrap(),
                m["direction"].as_str().unwrap(),
                m["frame_bytes"].as_u64().unwrap(),
            )
        })
        .collect();
    let sizes = [("64", 64), ("imix", 362), ("1:100,1:1400", 750)];
    let want: Vec<_> = ["forward", "reverse"]
        .into_iter()
        .flat_map(|way| sizes.map(|(name, bytes)| (name, way, bytes)))
        .collect();
    assert_eq!(told, want);
}

#[test]
fn a_sender_that_is_too_slow_is_neither_pass_nor_fail() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    // No machine sends that many frames by sockets over this bridge.
    let slow = "--min-rate 20Mpps --max-rate 30Mpps --initial-rate 20Mpps --frame-size 64 --search-trial 50ms --trial 50ms";
    let report = qualified(&lab, &format!("--tests throughput {slow}"), 5);
    let found = measured(&report, "throughput");
    assert_eq!((&found["outcome"], &found["throughput"]["pps"]), (&"inconclusive".into(), &Value::Null));
    assert!(found["why"].as_str().unwrap().contains("its sender offered"), "{found:#}");
    // Nor where the link loses frames, too.
    common::scene::nft(
        &lab.middle,
        "table netdev t { chain c { type filter hook ingress device s0 priority 0; udp sport 20000 udp length > 100 numgen inc mod 5 == 0 drop;\n }\n}",
    );
    let report = qualified(&lab, &format!("--tests throughput {slow}"), 5);
    assert_eq!(checks(&report)[0], ("throughput", "inconclusive"));
}

#[test]
fn a_link_that_does_not_bear_what_is_expected_fails() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    common::scene::nft(
        &lab.middle,
        "table netdev t { chain c { type filter hook ingress device s0 priority 0; udp sport 20000 udp length > 100 numgen inc mod 50 == 0 drop;\n }\n}",
    );
    let report = qualified(&lab, "--tests throughput,latency --rate 300pps --offered-tolerance 60%", 3);
    assert_eq!(checks(&report), [("throughput", "fail"), ("latency", "fail"), ("health", "pass")]);
    assert!(measured(&report, "throughput")["why"].as_str().unwrap().contains("lost "));
}

#[test]
fn this_host_and_an_agent_elsewhere() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    let far = port(&lab.receivers[0]);
    let far = far.split_once('@').unwrap().1;
    for family in ["", "-6"] {
        let mut command = lab.sender.command(common::WIRERATE);
        command.args(["qualify", "--tx", INTERFACE, "--rx", INTERFACE, "--far", far]);
        command.args(quick(&format!("--tests latency --rate 300pps --offered-tolerance 60% {family}")));
        command.args(["--json", "--quiet"]);
        let report = report_of(&run(command), 0);
        assert_eq!(checks(&report), [("latency", "pass"), ("health", "pass")]);
    }
}

#[test]
fn two_ports_of_one_host() {
    require_root!();
    let netns = Netns::new().unwrap();
    ip(&netns, "link add pa type veth peer name pb");
    ip(&netns, "address add 10.9.0.1/24 dev pa");
    ip(&netns, "address add 10.9.0.2/24 dev pb");
    for name in ["lo", "pa", "pb"] {
        ip(&netns, &format!("link set {name} up"));
    }
    let command = |more: &str| {
        let mut command = netns.command(common::WIRERATE);
        command.args(["qualify", "--tx", "pa", "--rx", "pb"]);
        command.args(quick(more));
        command.args(["--json", "--quiet"]);
        command
    };
    run(command("--tests throughput")).expect(4, &["one network namespace", "--isolate"]);
    let report = report_of(&run(command("--tests throughput --isolate")), 0);
    assert_eq!(checks(&report), [("throughput", "pass"), ("health", "pass")]);
    // It is back, with its address.
    let addresses = ip(&netns, "address show dev pb");
    assert!(addresses.contains("10.9.0.2/24") && addresses.contains("UP"), "{addresses}");
}

#[test]
fn one_port_and_a_reflector() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    let reflector =
        Running::ready_on(receiver, &["reflect", &format!("{}:8620", receiver.ipv4), "--stateful"]);
    let run_with = |port: u16| {
        let mut command = lab.sender.command(common::WIRERATE);
        command.args([
            "qualify",
            "--reflector",
            &format!("{}:{port}", receiver.ipv4),
            "--frame-size",
            "64,512",
        ]);
        command.args(["--trial", "500ms", "--rate", "50pps", "--json", "--quiet"]);
        run(command)
    };
    let report = report_of(&run_with(8620), 0);
    let trip = &measured(&report, "round-trip")["round_trip"];
    assert_eq!((&trip["sent"], trip["lost"].as_u64()), (&trip["answered"], Some(0)), "{trip:#}");
    assert!(trip["unknown"].as_array().unwrap().len() > 2);
    drop(reflector);
    let ended = run_with(8621);
    assert!(matches!(ended.code, 1 | 3), "nobody answers: {}{}", ended.stderr, ended.stdout);
}

#[test]
fn what_was_known_survives_ctrl_c() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    let mut running = Running::ready(qualify(&lab, "--tests throughput --trial 20s"), &[]);
    running.wait_for("trial");
    running.wait_for("begins");
    running.signal("INT");
    let (report, ended) = running.end();
    let report = report.expect("a report");
    assert_eq!((ended.code, &report["interrupted"]), (5, &Value::Bool(true)), "{report:#}");
    assert!(trials(&report).count() >= 1);
}

#[test]
fn a_profile_gives_options() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("veth.yaml");
    let text = "about: veth\noptions:\n  tests: [throughput]\n  retries: 1\n  expect-throughput: 500pps\nhealth:\n  speed: 40G\n";
    std::fs::write(&file, text).unwrap();
    // A veth tells no speed, or another.
    let report = qualified(&lab, &format!("--profile {}", file.display()), 3);
    assert_eq!(checks(&report), [("throughput", "pass"), ("health", "fail")]);
    assert_eq!(report["config"]["retries"], 1);
    std::fs::write(&file, text.replace("  speed: 40G\n", "  allow: {rx_dropped: 5}\n")).unwrap();
    let report = qualified(&lab, &format!("--profile {} --expect-throughput 550pps", file.display()), 0);
    assert_eq!(report["config"]["expect_throughput"], "550pps");
    std::fs::write(&file, "options:\n  frame-sise: 64\n").unwrap();
    run(qualify(&lab, &format!("--profile {}", file.display())))
        .expect(2, &["frame-sise", "did you mean frame-size"]);
}

#[test]
fn wrong_arguments_are_told_before_anything_begins() {
    for (arguments, words) in [
        ("--tx lo --rx lo --tests nonsense", "none of that name"),
        ("--tx lo --rx lo --max-rate max --min-rate 1Kpps", "has to be a number"),
        ("--tx lo --rx lo --max-rate 1000pps --min-rate 2Mpps", "no room"),
        ("--tx lo --rx lo --max-rate 1Mpps --min-rate 1Kpps --frame-size 20", "too small"),
        ("--tx lo --rx lo --max-rate 1Mpps --min-rate 1Kpps --tests y1564", "--cir"),
        ("--tx lo --rx lo --imix 7:x", "no proportion"),
        ("--tx lo --rx lo --profile /nowhere.yaml", "cannot be read"),
        ("--tx lo --rx lo --quick", "one network namespace"),
        ("--tx lo --rx nix0 --quick", "no interface nix0"),
        ("--tx lo", "--rx"),
        ("--reflector 192.0.2.1 --tests throughput", "round trips only"),
        ("--tx lo --rx lo --tests round-trip", "--reflector"),
    ] {
        let mut command = wirerate(&["qualify"]);
        command.args(arguments.split_whitespace());
        let ended = run(command);
        assert!(matches!(ended.code, 2 | 4), "{arguments}: {}", ended.code);
        assert!(ended.stderr.contains(words), "{arguments}: {words:?} is missing in {}", ended.stderr);
    }
}
