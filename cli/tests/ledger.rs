//! Every packet that does not arrive has its place in the ledger, by other witnesses' count.

use std::fs;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use wirerate_engine::backend::Choice;
use wirerate_engine::control::Stop;
use wirerate_engine::lab::demo::{self, DemoConfig};
use wirerate_engine::lab::{Host, INTERFACE, Lab, Netns};

mod common;

use common::Nobody;

const TARGET: &str = "udp://10.77.0.11:5001";

/// Has the middle drop every fifth packet of port 5001 on its way to `port`.
fn drop_some(middle: &Netns, port: &str) {
    let rules = format!(
        "add table bridge t; add chain bridge t f {{ type filter hook forward priority 0; }}; \
         add rule bridge t f oifname {port} udp dport 5001 udp length > 100 numgen inc mod 5 == 0 counter drop"
    );
    assert!(middle.command("nft").arg(rules).status().unwrap().success());
}

/// What nft's own counter says.
fn dropped_by_nft(middle: &Netns) -> u64 {
    let output = middle.command("nft").args(["-j", "list", "ruleset"]).output().unwrap();
    let ruleset: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rules =
        ruleset["nftables"].as_array().unwrap().iter().filter_map(|item| item["rule"]["expr"].as_array());
    rules.flatten().filter_map(|e| e["counter"]["packets"].as_u64()).sum()
}

fn send(host: &Host, backend: &str, rate: &str, count: &str) -> Value {
    common::report_on(
        host,
        &[
            "send",
            TARGET,
            "--iface",
            INTERFACE,
            "--backend",
            backend,
            "--rate",
            rate,
            "--count",
            count,
            "--length",
            "1400",
        ],
    )
}

fn path(report: &Value) -> &Value {
    &report["ledger"]["paths"][0]
}

/// Packets in all drops of a place.
fn at(path: &Value, place: &str) -> u64 {
    let drops = path["drops"].as_array().unwrap();
    drops.iter().filter(|d| d["place"] == place).map(|d| d["packets"].as_u64().unwrap()).sum()
}

#[test]
fn a_filter_in_the_middle_has_its_place_where_the_middle_is_seen() {
    common::require_root!();
    for backend in [Choice::Mmsg, Choice::Afxdp] {
        let lab = Lab::bridge(2).unwrap();
        drop_some(&lab.middle, &lab.receivers[1].port);
        let config = DemoConfig { backends: vec![backend], duration: Duration::from_millis(300), pps: 5000 };
        let demo = demo::run_in(&lab, &config, &Stop::default(), &mut |_| {}).unwrap();
        let mut filtered = 0;
        for scene in &demo.scenes {
            let [first, second] = [0, 1].map(|n| &scene.members[n].path);
            assert_eq!(first.unaccounted, 0, "{first:?}");
            assert_eq!(second.unaccounted, 0, "{second:?}");
            assert!(first.drops.iter().all(|d| d.place != "netfilter"), "{first:?}");
            let drop = second.drops.iter().find(|d| d.place == "netfilter").expect("some were dropped");
            assert_eq!(
                (drop.interface.as_deref(), drop.reason.as_str()),
                (Some("middle r2"), "NETFILTER_DROP")
            );
            filtered += drop.packets;
        }
        assert_eq!(filtered, dropped_by_nft(&lab.middle));
    }
}

/// A receiver that is not root.
fn as_nobody(nobody: &Nobody, host: &Host, backend: &str) -> common::Running {
    let command = nobody.become_by(host.command("setpriv"));
    common::Running::ready(command, &["recv", TARGET, "--iface", INTERFACE, "--backend", backend])
}

#[test]
fn without_privileges_it_says_what_would_tell_more() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    drop_some(&lab.middle, &lab.receivers[0].port);
    let nobody = Nobody::new();
    let receiver = as_nobody(&nobody, &lab.receivers[0], "mmsg");
    send(&lab.sender, "mmsg", "2kpps", "1000");
    let report = receiver.report();
    assert_eq!(path(&report)["unaccounted"], dropped_by_nft(&lab.middle));
    let warnings = report["warnings"].as_array().unwrap();
    let unseen = warnings.iter().find(|w| w["code"] == "kernel-drops-unseen").expect("said");
    assert!(unseen["fix"].as_str().is_some_and(|fix| fix.contains("cap_perfmon")), "{unseen}");
}

/// Stops the receiver for a while in the middle of `send`.
fn interrupted(receiver: &common::Running, pause: Duration, send: impl FnOnce() -> Value) -> Value {
    let id = receiver.id();
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(150));
            common::signal(id, "STOP");
            thread::sleep(pause);
            common::signal(id, "CONT");
        });
        send()
    })
}

#[test]
fn a_small_socket_buffer_explains_all_without_privileges() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let nobody = Nobody::new();
    for backend in ["mmsg", "uring"] {
        let receiver = as_nobody(&nobody, &lab.receivers[0], backend);
        let sent = interrupted(&receiver, Duration::from_millis(700), || {
            send(&lab.sender, backend, "10kpps", "15000")
        });
        let report = receiver.report();
        let path = path(&report);
        assert_eq!(path["unaccounted"], 0, "{path}");
        assert_eq!(path["sent"], sent["tx"]["packets"]);
        assert!(at(path, "socket") > 0, "{path}");
        let codes: Vec<_> = report["warnings"].as_array().unwrap().iter().map(|w| &w["code"]).collect();
        let limit: usize = fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap().trim().parse().unwrap();
        let said = codes.iter().filter(|c| **c == "small-buffer").count();
        assert_eq!(said, usize::from(limit < 4 << 20), "{codes:?}");
        assert!(!codes.iter().any(|c| *c == "kernel-drops-unseen"), "nothing is unaccounted: {codes:?}");
    }
}

#[test]
fn a_full_ring_of_afxdp_explains_all() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = common::Running::ready_on(
        &lab.receivers[0],
        &["recv", TARGET, "--iface", INTERFACE, "--backend", "afxdp"],
    );
    // The ring and the frames hold 8,192 packets.
    let pause = Duration::from_millis(1_500);
    let sent = interrupted(&receiver, pause, || send(&lab.sender, "afxdp", "20kpps", "45000"));
    let report = receiver.report();
    let path = path(&report);
    assert_eq!(path["unaccounted"], 0, "{path}");
    assert_eq!(
        path["sent"].as_u64(),
        sent["tx"]["packets"].as_u64().map(|n| n + sent["tx"]["errors"].as_u64().unwrap())
    );
    assert!(at(path, "xsk") > 0, "{path}");
}

#[test]
fn what_others_lose_is_not_in_it() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = common::Running::ready_on(
        &lab.receivers[0],
        &["recv", TARGET, "--iface", INTERFACE, "--backend", "mmsg"],
    );
    lab.sender.netns.run(|| {
        for _ in 0..500 {
            // Nobody listens there.
            let _ = UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&[0; 200], "10.77.0.11:5002");
        }
    });
    send(&lab.sender, "mmsg", "5kpps", "1000");
    let report = receiver.report();
    let path = path(&report);
    assert_eq!((&path["received"], &path["unaccounted"]), (&Value::from(1000), &Value::from(0)), "{path}");
    assert_eq!(path["drops"], Value::Array(vec![]));
}
