//! The rate and its bursts: what is asked for is what leaves, by the counts of both sides.

mod common;

use common::{Running, report_on, run, wirerate_on};
use serde_json::Value;
use wirerate_engine::lab::{INTERFACE, Lab};

const TARGET: &str = "239.1.2.3:5001";

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn send(lab: &Lab, options: &str) -> Value {
    report_on(&lab.sender, &words(&format!("send {TARGET} --iface {INTERFACE} {options}")))
}

#[test]
fn a_share_of_the_link_is_at_l1() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    // A veth says that it is a link of 10 Gbit/s; preamble, start delimiter and gap are 20 bytes of each frame.
    for (rate, frame, pps) in [
        ("95%", 1518, 0.95 * 10e9 / (1538.0 * 8.0)),
        ("1%", 1518, 0.01 * 10e9 / (1538.0 * 8.0)),
        ("0.01%", 64, 0.0001 * 10e9 / (84.0 * 8.0)),
        ("100ML1", 1518, 100e6 / (1538.0 * 8.0)),
        ("100ML2", 1518, 100e6 / (1518.0 * 8.0)),
    ] {
        let report = send(&lab, &format!("--rate {rate} --frame-size {frame} --duration 400ms"));
        let asked = report["config"]["rate_pps"].as_f64().unwrap();
        assert!((asked / pps - 1.0).abs() < 1e-9, "{rate}: {asked} is not {pps}");
        // Never more than fits the time.
        let (sent, most) = (report["tx"]["packets"].as_u64().unwrap(), (pps * 0.4).ceil() as u64);
        assert!(sent > 0 && sent <= most, "{rate}: {sent} of {most}");
    }
    assert_eq!(send(&lab, "--rate max --count 1000")["config"].get("rate_pps"), None);
}

#[test]
fn a_share_of_a_link_without_a_speed_is_refused() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let line = format!("send {TARGET} --iface lo --rate 5% --count 1 --backend mmsg");
    run(wirerate_on(&lab.sender, &words(&line))).expect(2, &["5%", "does not tell its speed", "950ML1"]);
}

#[test]
fn the_rate_is_of_all_workers_together() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for (backend, options, shares) in
        [("mmsg", "--workers 2 --streams 3", [2, 1]), ("uring", "--workers 2 --streams 4", [2, 2])]
    {
        let line = format!("--backend {backend} {options} --rate 3kpps --duration 500ms");
        let report = send(&lab, &line);
        let whole: u64 = shares.iter().sum();
        for (worker, share) in report["workers"].as_array().unwrap().iter().zip(shares) {
            let (packets, most) = (worker["packets"].as_u64().unwrap(), 1500 * share / whole);
            assert!(packets > 0 && packets <= most, "{backend}: {packets} of {most}");
        }
        assert_eq!(report["config"]["rate_pps"], 3000.0);
    }
}

#[test]
fn bursts_as_asked_for_at_both_ends() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for backend in ["uring", "mmsg", "afxdp"] {
        let line = format!("recv {TARGET} --iface {INTERFACE} --backend {backend}");
        let receiver = Running::ready_on(&lab.receivers[0], &words(&line));
        let report = send(&lab, &format!("--backend {backend} --rate 20kpps --burst 50 --count 2010"));
        assert_eq!(report["config"]["burst"], 50);
        let burst = &report["tx"]["burst"];
        assert_eq!((&burst["p50"], &burst["max"]), (&50.into(), &50.into()), "{backend}");
        // 40 whole ones and a rest.
        assert_eq!(report["tx"]["inter_departure_ns"]["count"], 40, "{backend}");
        let heard = receiver.report();
        assert_eq!(heard["rx"]["unique"], 2010, "{backend}");
        let gaps = heard["rx"]["inter_arrival_ns"]["count"].as_u64().unwrap();
        assert!((1..2010).contains(&gaps), "{backend}: {gaps}");
    }
    let report = send(&lab, "--rate 2kpps --burst 1 --count 100");
    assert_eq!(
        (&report["tx"]["burst"]["max"], &report["tx"]["inter_departure_ns"]["count"]),
        (&1.into(), &99.into())
    );
    assert_eq!(send(&lab, "--count 10")["config"]["burst"], "auto");
}
