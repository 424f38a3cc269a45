//! `wirerate qualify` over links with known properties: it finds them.

mod common;

use std::time::Duration;

use common::qualify::*;
use common::replicate::port;
use common::scene::{nft, tc};
use common::{Running, ip, require_root, run};
use serde_json::Value;
use wirerate_engine::lab::{INTERFACE, Lab, Netns};

#[test]
fn the_rate_of_a_shaped_link_is_found() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    // The shaper counts frames without FCS. Bucket and queue are 1.3 % of what passes in a trial, which may hide in them, and 33 ms of sending: a
    // sender, or a shaper's timer, that is held up for less loses nothing.
    tc(&lab.middle, "qdisc add dev r1 root tbf rate 50mbit burst 100kb limit 100kb");
    let report = qualified(
        &lab,
        "--tests throughput --frame-size 1518 --min-rate 3000pps --max-rate 5000pps --resolution 0.8% --trial 2500ms \
         --search-trial 2500ms --retries 2 --offered-tolerance 2%",
        0,
    );
    let found = measured(&report, "throughput");
    let pps = found["throughput"]["pps"].as_f64().unwrap();
    let shaped = 50e6 / (1514.0 * 8.0);
    assert!((pps - shaped).abs() <= shaped * 0.02, "{pps} of {shaped}: {found:#}");
    assert_eq!(found["throughput"]["bound"], "device");
    // The witness is the shaper itself.
    assert!(tc(&lab.middle, "-s qdisc show dev r1").contains("dropped"), "it dropped nothing");
    assert_eq!(checks(&report), [("throughput", "pass"), ("health", "pass")]);
}

#[test]
fn a_known_loss_is_the_loss_curve() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    // One in 20 of the trials' frames, exactly.
    nft(
        &lab.middle,
        "table netdev t { chain c { type filter hook ingress device s0 priority 0; udp sport 20000 udp length > 100 numgen inc mod 20 == 0 counter drop;\n }\n}",
    );
    let report =
        qualified(&lab, "--tests frame-loss --max-rate 2000pps --trial 200ms --offered-tolerance 60%", 3);
    let found = measured(&report, "frame-loss");
    let curve = found["loss_curve"].as_array().unwrap();
    let loads: Vec<f64> = curve.iter().map(|point| point["percent"].as_f64().unwrap()).collect();
    assert_eq!(loads, [100.0, 90.0, 80.0, 70.0, 60.0, 50.0, 40.0, 30.0, 20.0, 10.0], "{found:#}");
    let (mut sent, mut received) = (0, 0);
    for point in curve {
        let number = |name: &str| point[name].as_u64().unwrap();
        // Each trial begins somewhere in the twenty.
        let lost = number("sent") - number("received");
        assert!(lost.abs_diff(number("sent") / 20) <= 1, "{point:#}");
        (sent, received) = (sent + number("sent"), received + number("received"));
    }
    // All together they are one count.
    assert_eq!(sent - received, sent.div_ceil(20), "{found:#}");
    assert_eq!(checks(&report)[0], ("frame-loss", "fail"));
}

/// Frames of trials by the counters of `netns`, which has one rule.
fn counted(netns: &Netns) -> u64 {
    let output = netns.command("nft").args(["-j", "list", "ruleset"]).output().unwrap();
    let ruleset: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rules = ruleset["nftables"].as_array().unwrap().iter();
    let expressions = rules.filter_map(|item| item["rule"]["expr"].as_array()).flatten();
    expressions.filter_map(|e| e["counter"]["packets"].as_u64()).sum()
}

/// What a reset is, by two counters: frames that came to the device, and those that came to the receiver.
fn count_trials(lab: &Lab) {
    let rule = |device: &str| {
        format!(
            "table netdev t {{ chain c {{ type filter hook ingress device {device} priority 0; udp sport 20000 udp length > 100 counter;\n }}\n}}"
        )
    };
    nft(&lab.middle, &rule("s0"));
    nft(&lab.receivers[0].netns, &rule(INTERFACE));
}

#[track_caller]
fn is_the_outage(lab: &Lab, report: &Value, down: Duration) {
    let reset = &measured(report, "reset")["reset"];
    let lost = counted(&lab.middle) - counted(&lab.receivers[0].netns);
    assert!(lost > 0, "{reset:#}");
    assert_eq!(reset["lost_frames"].as_u64(), Some(lost), "{reset:#}");
    assert_eq!(reset["lost_all"].as_u64(), Some(lost), "{reset:#}");
    // Whatever was sent meanwhile did not come.
    let stamps = reset["by_stamps_ns"].as_u64().unwrap();
    assert!(u128::from(stamps) >= down.as_nanos() * 3 / 4, "{reset:#}");
}

#[test]
fn a_reset_by_somebody_else_is_measured_in_frames_and_by_their_stamps() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    count_trials(&lab);
    let command = qualify(&lab, "--tests reset --rate 400pps --reset-wait 30s --offered-tolerance 60%");
    let mut running = Running::ready(command, &[]);
    running.wait_for("begins");
    common::eventually("frames come", || counted(&lab.receivers[0].netns) > 50);
    let down = Duration::from_millis(700);
    ip(&lab.middle, "link set r1 down");
    std::thread::sleep(down);
    ip(&lab.middle, "link set r1 up");
    is_the_outage(&lab, &running.report(), down);
}

#[test]
fn a_reset_of_our_own_link() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    count_trials(&lab);
    // The command runs where the device's ports are.
    let mut command = lab.middle.command(common::WIRERATE);
    command.args(["qualify", "--tx", &port(&lab.sender), "--rx", &port(&lab.receivers[0])]);
    command.args(quick(
        "--tests reset --rate 400pps --reset-link r1 --reset-down 500ms --reset-wait 20s --offered-tolerance 60%",
    ));
    command.args(["--json", "--quiet"]);
    let report = report_of(&run(command), 0);
    is_the_outage(&lab, &report, Duration::from_millis(500));
    assert_eq!(measured(&report, "reset")["reset"]["kept_down_ns"], 500_000_000);
    assert!(ip(&lab.middle, "link show dev r1").contains("UP"));
    assert_eq!(checks(&report), [("reset", "pass"), ("health", "pass")]);
}

#[test]
fn a_service_is_as_its_policer_makes_it() {
    require_root!();
    let options = "--tests y1564 --cir 4M --eir 4M --frame-size 512 --service-steps 2 --step-time 2s --performance-time 500ms --retries 2";
    let lab = Lab::bridge(1).unwrap();
    // 8 Mbit/s of frames of 512 bytes, in packets: of bytes nftables lets a whole second's worth pass at once.
    nft(
        &lab.middle,
        "table netdev t { chain c { type filter hook ingress device s0 priority 0; udp sport 20000 udp length > 100 limit rate over 1953/second burst 120 packets drop;\n }\n}",
    );
    let report = qualified(&lab, options, 0);
    let steps = measured(&report, "y1564")["service"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["50 % of CIR", "100 % of CIR", "CIR + EIR", "policing", "performance"]);
    // Nothing polices any more.
    nft(&lab.middle, "flush ruleset");
    let report = qualified(&lab, &options.replace("--step-time 2s", "--step-time 500ms"), 3);
    let found = measured(&report, "y1564");
    assert!(found["why"].as_str().unwrap().starts_with("policing: "), "{found:#}");
}
