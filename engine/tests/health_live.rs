//! Snapshots of interfaces of namespaces made for the test, with counters that really move. `ip -s link` and `ethtool` are the witnesses.

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use wirerate_engine::host::health::{Duplex, Limits, Severity, Snapshot, compare, inspect, worst};
use wirerate_engine::lab::Netns;

mod common;

/// Runs the lines as `ip` commands inside the namespace.
fn ip(netns: &Netns, lines: &[&str]) {
    for line in lines {
        let output = netns.command("ip").args(line.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The kernel's counters of an interface, as iproute2 reads them.
fn witness(netns: &Netns, interface: &str) -> serde_json::Value {
    let mut command: Command = netns.command("ip");
    let output = command.args(["-json", "-statistics", "link", "show", "dev", interface]).output().unwrap();
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    all[0]["stats64"].clone()
}

/// Two namespaces with a veth pair between them: wr0 with 10.9.0.1, wr1 with 10.9.0.2.
fn pair() -> (Netns, Netns) {
    let (near, far) = (Netns::new().unwrap(), Netns::new().unwrap());
    ip(&near, &["link set dev lo up", "link add name wr0 type veth peer name wr1"]);
    let fd = format!("/proc/{}/fd/{}", std::process::id(), far.fd());
    ip(&near, &[&format!("link set dev wr1 netns {fd}")]);
    for (netns, name, address) in [(&near, "wr0", "10.9.0.1/24"), (&far, "wr1", "10.9.0.2/24")] {
        ip(netns, &[&format!("addr add {address} dev {name}"), &format!("link set dev {name} up")]);
    }
    (near, far)
}

fn take(netns: &Netns, name: &str) -> Snapshot {
    netns.run(|| Snapshot::take(name).unwrap())
}

fn send(netns: &Netns, to: &str, packets: usize) {
    netns.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..packets {
            let _ = socket.send_to(&[7; 100], to);
        }
    });
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "never came true: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_veth_as_its_witnesses_see_it() {
    common::require_root!();
    let (near, far) = pair();
    let sink = far.run(|| UdpSocket::bind("10.9.0.2:9").unwrap());
    let before = take(&far, "wr1");
    assert_eq!((before.kind.as_deref(), before.driver.as_deref()), (Some("veth"), Some("veth")));
    assert_eq!((before.link.duplex, before.link.speed_bps), (Some(Duplex::Full), Some(10_000_000_000)));
    assert!(before.link.up && before.link.carrier);
    assert_eq!((before.rings, before.pause, before.pcie), (None, None, None), "a veth has none");
    assert!(before.temperatures.is_empty() && before.module.is_none() && before.interrupts.is_empty());
    assert!(before.counters.ethtool.contains_key("rx_queue_0_drops"), "{:?}", before.counters.ethtool);
    assert_eq!(inspect(&before, &Limits::default()), []);

    send(&near, "10.9.0.2:9", 500);
    eventually("500 packets came", || take(&far, "wr1").counters.rtnl["rx_packets"] >= 500);
    let after = take(&far, "wr1");
    let seen = witness(&far, "wr1");
    assert_eq!(seen["rx"]["packets"].as_u64().unwrap(), after.counters.rtnl["rx_packets"]);
    assert_eq!(seen["rx"]["dropped"].as_u64().unwrap(), after.counters.rtnl["rx_dropped"]);
    let found = compare(&before, &after, &Limits::default());
    assert!(worst(&found).is_none_or(|severity| severity < Severity::Fail), "{found:?}");
    drop(sink);
}

#[test]
fn a_link_that_flaps() {
    common::require_root!();
    let (near, far) = pair();
    eventually("the link is up", || take(&near, "wr0").link.carrier);
    let before = take(&near, "wr0");
    ip(&far, &["link set dev wr1 down"]);
    eventually("the link is down", || !take(&near, "wr0").link.carrier);
    let down = compare(&before, &take(&near, "wr0"), &Limits::default());
    assert!(
        down.iter().any(|f| f.code == "no-link") && down.iter().any(|f| f.code == "link-flap"),
        "{down:?}"
    );
    ip(&far, &["link set dev wr1 up"]);
    eventually("the link is up again", || take(&near, "wr0").link.carrier);
    let found = compare(&before, &take(&near, "wr0"), &Limits::default());
    let codes: Vec<&str> = found.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["link-flap"], "{found:?}");
    assert_eq!(found[0].severity, Severity::Fail);
}

#[test]
fn packets_that_the_far_end_has_no_place_for() {
    common::require_root!();
    let (near, far) = pair();
    // A packet larger than the peer's MTU is dropped by the sending veth, and counted there.
    ip(&far, &["link set dev wr1 mtu 576"]);
    let before = take(&near, "wr0");
    near.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..5 {
            let _ = socket.send_to(&[7; 1200], "10.9.0.2:9");
        }
    });
    eventually("5 drops", || {
        let dropped = |s: &Snapshot| s.counters.rtnl["tx_dropped"];
        dropped(&take(&near, "wr0")) >= dropped(&before) + 5
    });
    let after = take(&near, "wr0");
    let found = compare(&before, &after, &Limits::default());
    let dropped = found.iter().find(|f| f.code == "tx-dropped").unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(dropped.severity, Severity::Fail);
    let seen = witness(&near, "wr0");
    let moved = dropped.counters.iter().find(|c| c.source == "rtnl" && c.name == "tx_dropped").unwrap();
    assert_eq!(moved.after, seen["tx"]["dropped"].as_u64().unwrap());
    let allowed = Limits { allow: [("tx_dropped".to_owned(), 1000)].into(), ..Limits::default() };
    assert!(compare(&before, &after, &allowed).iter().all(|f| f.code != "tx-dropped"));
}

#[test]
fn an_interface_that_goes() {
    common::require_root!();
    let netns = Netns::new().unwrap();
    ip(&netns, &["link add name wr0 type veth peer name wr1"]);
    let before = take(&netns, "wr0");
    assert!(inspect(&before, &Limits::default()).iter().any(|f| f.code == "down"));
    ip(&netns, &["link del dev wr0"]);
    netns.run(|| {
        assert!(Snapshot::take("wr0").unwrap_err().what.contains("wr0"));
        assert!(before.recount().is_err());
    });
    ip(&netns, &["link add name wr0 index 900 type veth peer name wr1"]);
    let found = compare(&before, &take(&netns, "wr0"), &Limits::default());
    assert_eq!(found[0].code, "replaced", "{found:?}");
}
