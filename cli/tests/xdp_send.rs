//! `send --backend xdp`: packets made in the kernel arrive, are whole, and are counted to the last one.

mod common;

use common::witness::Dissection;
use common::{Running, eventually, ip, report_on, run, wirerate_on};
use serde_json::Value;
use wirerate_engine::lab::{Host, INTERFACE, Lab, Netns};

const GROUP: &str = "239.1.2.3:5001";
const GROUP6: &str = "[ff15::1:2:3]:5001";

/// A lab whose sender's cable takes what XDP redirects: its other end has GRO on.
fn lab() -> Lab {
    let lab = Lab::bridge(1).unwrap();
    gro(&lab.middle, &lab.sender.port, "on");
    lab
}

fn gro(netns: &Netns, port: &str, on: &str) {
    let mut ethtool = netns.command("ethtool");
    ethtool.args(["-K", port, "gro", on]);
    run(ethtool).expect(0, &[]);
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn receive(host: &Host, target: &str, options: &str) -> Running {
    Running::ready_on(host, &words(&format!("recv {target} --iface {INTERFACE} {options}")))
}

fn send(host: &Host, target: &str, options: &str) -> Value {
    report_on(host, &words(&format!("send {target} --iface {INTERFACE} --backend xdp {options}")))
}

/// Sum of the ledger's drops, and what it cannot explain.
fn ledger(report: &Value) -> (u64, i64) {
    let path = &report["ledger"]["paths"][0];
    let drops = path["drops"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    (drops.iter().map(|d| d["packets"].as_u64().unwrap()).sum(), path["unaccounted"].as_i64().unwrap())
}

#[test]
fn every_packet_arrives_at_every_kind_of_receiver() {
    common::require_root!();
    let lab = lab();
    for (target, group) in [(GROUP, "239.1.2.3"), (GROUP6, "ff15::1:2:3")] {
        for receiver in ["mmsg", "afxdp"] {
            let recv = receive(&lab.receivers[0], target, &format!("--backend {receiver}"));
            lab.wait_for_members(group.parse().unwrap(), 1).unwrap();
            let sent = send(&lab.sender, target, "--rate 20kpps --count 30001 --streams 3 --length 100");
            let backend = &sent["backend"];
            assert_eq!(
                (&backend["name"], &backend["mode"], &backend["xdp"]),
                (&"xdp".into(), &"live".into(), &"none".into())
            );
            assert_eq!(
                (&sent["tx"]["packets"], &sent["tx"]["errors"]),
                (&30_001.into(), &0.into()),
                "{sent:#}"
            );
            assert_eq!(sent["tx"]["payload_bytes"], 30_001 * 100);
            assert_eq!(sent["tx"]["messages"], 3 + 15);
            assert_eq!(sent["workers"][0]["packets"], 30_001);
            let got = recv.report();
            let rx = &got["rx"];
            for (field, wanted) in [
                ("packets", 30_001),
                ("unique", 30_001),
                ("lost", 0),
                ("lost_tail", 0),
                ("corrupt", 0),
                ("foreign", 0),
            ] {
                assert_eq!(rx[field], wanted, "{target} {receiver} {field}: {rx:#} {}", got["ledger"]);
            }
            assert_eq!(rx["latency_ns"]["count"], 30_001);
            assert_eq!(rx["streams"].as_array().unwrap().len(), 3);
            assert_eq!(ledger(&got), (0, 0));
        }
    }
}

#[test]
fn tshark_finds_nothing_wrong_in_them() {
    common::require_root!();
    let lab = lab();
    for (target, filter, length) in
        [(GROUP, "udp port 5001", 18), (GROUP, "udp port 5001", 1400), (GROUP6, "ip6 and udp port 5001", 19)]
    {
        let capture = Dissection::begin(&lab.middle, &lab.sender.port, filter);
        let sent = send(
            &lab.sender,
            target,
            &format!("--rate 5kpps --count 2000 --length {length} --ttl 9 --dscp EF"),
        );
        assert_eq!(sent["tx"]["packets"], 2000);
        let v6 = target == GROUP6;
        let rows = capture.end(&[
            "udp.checksum.status",
            if v6 { "ipv6.hlim" } else { "ip.ttl" },
            if v6 { "ipv6.tclass.dscp" } else { "ip.dsfield.dscp" },
            "udp.length",
            if v6 { "ipv6.plen" } else { "ip.checksum.status" },
        ]);
        let udp = length + 8;
        let last = if v6 { udp.to_string() } else { "1".to_owned() };
        let wanted = ["1".to_owned(), "9".to_owned(), "46".to_owned(), udp.to_string(), last];
        assert_eq!(rows.iter().filter(|row| **row == wanted).count(), 2000, "{:?}", rows.first());
        // The others are the announcement and the end-of-stream messages, whose checksums are right, too.
        assert_eq!(rows.len(), 2006);
        assert!(rows.iter().all(|row| row[0] == "1"));
    }
}

#[test]
fn at_full_speed_every_lost_packet_has_a_place() {
    common::require_root!();
    let lab = lab();
    let host = &lab.receivers[0];
    let recv = receive(host, GROUP, "--backend mmsg");
    lab.wait_for_members("239.1.2.3".parse().unwrap(), 1).unwrap();
    let sent = send(&lab.sender, GROUP, "--rate max --count 500000 --length 18");
    let got = recv.report();
    let tx = |field: &str| sent["tx"][field].as_u64().unwrap();
    assert_eq!(tx("packets") + tx("errors"), 500_000, "{}", sent["tx"]);
    let path = &got["ledger"]["paths"][0];
    assert_eq!(path["sent"], 500_000, "numbers used: {path:#}");
    let (drops, unaccounted) = ledger(&got);
    let received = path["received"].as_u64().unwrap();
    assert_eq!(received as i64 + drops as i64 + unaccounted, 500_000);
    assert!(received > 0, "{got:#}");
    assert_eq!(got["rx"]["corrupt"], 0);
}

#[test]
fn a_direct_cable_into_an_xdp_program_loses_nothing_untold() {
    common::require_root!();
    // No bridge: the receiver's XDP program is at the other end of the sender's cable.
    let lab = Lab::bridge(1).unwrap();
    let (sender, receiver) = (&lab.sender, &lab.receivers[0]);
    ip(&sender.netns, "link add wr1 type veth peer name wr1p");
    move_link(sender, receiver, "wr1p");
    for (host, name, address) in [(sender, "wr1", "10.88.0.1/24"), (receiver, "wr1p", "10.88.0.2/24")] {
        ip(&host.netns, &format!("address add {address} dev {name}"));
        ip(&host.netns, &format!("link set {name} up"));
    }
    let recv = Running::ready_on(receiver, &words("recv 10.88.0.2:5001 --iface wr1p --backend afxdp"));
    let sent = report_on(
        sender,
        &words("send 10.88.0.2:5001 --iface wr1 --backend xdp --rate max --count 300000 --frame-size 64"),
    );
    let got = recv.report();
    let (packets, errors) = (sent["tx"]["packets"].as_u64().unwrap(), sent["tx"]["errors"].as_u64().unwrap());
    assert_eq!(packets + errors, 300_000);
    let path = &got["ledger"]["paths"][0];
    assert_eq!(path["sent"], 300_000, "{path:#}");
    assert_eq!(path["unaccounted"], 0, "{path:#} {}", got["rx"]);
}

/// Moves an interface between the namespaces of two hosts.
fn move_link(from: &Host, to: &Host, name: &str) {
    // The child of a command in the other namespace names it by its process number.
    let mut holder = to.command("sleep");
    let mut holder = holder.arg("60").spawn().unwrap();
    ip(&from.netns, &format!("link set {name} netns {}", holder.id()));
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn a_cable_whose_other_end_takes_nothing_is_named() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    gro(&lab.middle, &lab.sender.port, "off");
    let line = format!("send {GROUP} --iface {INTERFACE} --backend xdp --count 10");
    run(wirerate_on(&lab.sender, &words(&line)))
        .expect(4, &["wr0 takes no packets from XDP programs", "ethtool -K PEER gro on"]);
    // And when it stops taking them on the way.
    gro(&lab.middle, &lab.sender.port, "on");
    let mut sending = Running::ready_on(
        &lab.sender,
        &words(&format!("send {GROUP} --iface {INTERFACE} --backend xdp --rate 20kpps --interval 100ms")),
    );
    sending.wait_for("interval");
    gro(&lab.middle, &lab.sender.port, "off");
    let (report, ended) = sending.end();
    ended.expect(1, &["takes no packets from XDP", "GRO"]);
    assert!(report.expect("what was sent before")["tx"]["packets"].as_u64().unwrap() > 0);
}

#[test]
fn what_the_generator_cannot_do_is_said_before_it_begins() {
    common::require_root!();
    let lab = lab();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"abc").unwrap();
    let payload = format!("--payload-file {}", file.path().display());
    for (options, words_said) in [
        ("--frame-size 64,128", ["packets of one size", "afxdp"]),
        (payload.as_str(), ["--payload-file", "--payload pattern"]),
        ("--workers 3 --streams 2", ["3 workers have only 2 streams", "--streams 3"]),
    ] {
        let line = format!("send {GROUP} --iface {INTERFACE} --backend xdp --count 10 {options}");
        run(wirerate_on(&lab.sender, &words(&line))).expect(2, &words_said);
    }
    let line = format!("send {GROUP} --iface lo --backend xdp --count 10");
    run(wirerate_on(&lab.sender, &words(&line))).expect(4, &["lo takes no packets from XDP programs"]);
}

#[test]
fn it_stops_when_asked_and_when_its_interface_goes() {
    common::require_root!();
    let lab = lab();
    for (rate, workers) in [("max", 1), ("100", 2)] {
        let line = format!(
            "send {GROUP} --iface {INTERFACE} --backend xdp --rate {rate}pps --duration 1h --interval 100ms --workers {workers}"
        );
        let line = line.replace("maxpps", "max");
        let mut sending = Running::ready_on(&lab.sender, &words(&line));
        sending.wait_for("interval");
        sending.signal("INT");
        let report = sending.report();
        assert!(report["tx"]["packets"].as_u64().unwrap() > 0);
        assert_eq!(report["workers"].as_array().unwrap().len(), workers);
    }
    let line = format!("send {GROUP} --iface {INTERFACE} --backend xdp --rate 20kpps --interval 100ms");
    let mut sending = Running::ready_on(&lab.sender, &words(&line));
    sending.wait_for("interval");
    ip(&lab.sender.netns, &format!("link set {INTERFACE} down"));
    let (report, ended) = sending.end();
    ended.expect(1, &["wr0: the interface went away or down during the run"]);
    assert!(report.is_some());
    eventually("the link is down", || ip(&lab.sender.netns, "link show wr0").contains("state DOWN"));
}

#[test]
fn two_workers_share_a_count_exactly() {
    common::require_root!();
    let lab = lab();
    let recv = receive(&lab.receivers[0], GROUP, "--backend mmsg");
    lab.wait_for_members("239.1.2.3".parse().unwrap(), 1).unwrap();
    let sent = send(&lab.sender, GROUP, "--rate 20kpps --count 20001 --workers 2 --streams 5 --length 64");
    assert_eq!(sent["tx"]["packets"], 20_001, "{sent:#}");
    let got = recv.report();
    assert_eq!(got["rx"]["unique"], 20_001, "{}", got["rx"]);
    assert_eq!(ledger(&got), (0, 0));
}
