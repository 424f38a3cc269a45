//! `wirerate linktest` between two namespaces: what scripts expect of it. `ip -s link` is the witness of counters, tcpdump's place is taken by sockets of the test.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use wirerate_engine::lab::Netns;

mod common;
use common::{WIRERATE, ip, run};

#[path = "common/schema.rs"]
mod schema_checks;

/// Two namespaces with a veth pair between them: wr0 with 10.9.0.1 here, wr1 with 10.9.0.2 at the far end.
struct Link {
    near: Netns,
    far: Netns,
}

impl Link {
    fn new() -> Self {
        let (near, far) = (Netns::new().unwrap(), Netns::new().unwrap());
        ip(&near, "link add name wr0 type veth peer name wr1");
        ip(&near, &format!("link set dev wr1 netns /proc/{}/fd/{}", std::process::id(), far.fd()));
        for (netns, name, address) in [(&near, "wr0", "10.9.0.1/24"), (&far, "wr1", "10.9.0.2/24")] {
            ip(netns, &format!("addr add {address} dev {name}"));
            ip(netns, &format!("link set dev {name} up"));
            ip(netns, "link set dev lo up");
        }
        Self { near, far }
    }

    /// The command that starts an agent at the far end.
    fn agent(&self) -> String {
        format!("nsenter --net=/proc/{}/fd/{} {WIRERATE} agent", std::process::id(), self.far.fd())
    }

    /// Runs a link test here: exit status, report, and what it said.
    fn test(&self, args: &str, far: bool) -> (i32, Value, String) {
        let mut command: Command = self.near.command(WIRERATE);
        command.args(["linktest", "--json"]).args(args.split_whitespace());
        if far {
            command.args(["--far", &self.agent()]);
        }
        let ended = run(command);
        assert!(!ended.stdout.is_empty(), "no report: {}", ended.stderr);
        let report = ended.json();
        let schema: Value = serde_json::from_str(include_str!("../../docs/linktest.schema.json")).unwrap();
        assert_eq!(schema_checks::errors(&schema, &report), Vec::<String>::new(), "{report:#}");
        (ended.code, report, ended.stderr)
    }

    /// The kernel's counters of an interface, as iproute2 reads them.
    fn witness(netns: &Netns, interface: &str) -> Value {
        let text = ip(netns, &format!("-json -statistics link show dev {interface}"));
        serde_json::from_str::<Value>(&text).unwrap()[0]["stats64"].clone()
    }
}

fn failed(findings: &Value) -> Vec<&str> {
    let all = findings.as_array().unwrap().iter();
    all.filter(|f| f["severity"] == "fail").map(|f| f["code"].as_str().unwrap()).collect()
}

#[test]
fn a_clean_link() {
    common::require_root!();
    let link = Link::new();
    let (code, report, said) = link.test("--duration 300ms", false);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["verdict"]["outcome"], "pass");
    assert_eq!((&report["interface"]["name"], &report["replace"]), (&"wr0".into(), &Value::Array(vec![])));
    assert!(report["interface"]["why"].as_str().unwrap().contains("first"), "{report:#}");
    assert!(report.get("traffic").is_none() && report.get("far").is_none());
    for step in
        ["interface wr0", "link up: 10G, full duplex", "counters read: ", "without traffic of its own"]
    {
        assert!(said.contains(step), "{step:?} is missing in {said}");
    }
}

#[test]
fn a_counter_that_moves() {
    common::require_root!();
    let link = Link::new();
    // Packets that are too large for the other end's MTU are dropped by the veth, and counted.
    ip(&link.far, "link set dev wr1 mtu 576");
    let before = Link::witness(&link.near, "wr0");
    let (code, report, _) =
        link.test("--udp 10.9.0.2:5001 --length 1200 --rate 100pps --duration 500ms", false);
    assert_eq!(code, 100, "{report:#}");
    assert_eq!(failed(&report["findings"]), ["tx-dropped"]);
    let moved = &report["findings"][0]["counters"][0];
    assert_eq!((&moved["source"], &moved["name"]), (&"rtnl".into(), &"tx_dropped".into()));
    let after = Link::witness(&link.near, "wr0");
    let seen = |w: &Value| w["tx"]["dropped"].as_u64().unwrap();
    assert!(seen(&after) - seen(&before) >= 40, "{before} {after}");
    assert_eq!(moved["after"].as_u64().unwrap(), seen(&after));
    assert_eq!(report["replace"], serde_json::json!(["rings", "cpu"]));
    assert_eq!(report["verdict"]["outcome"], "fail");

    // As much may be allowed, and then it is none.
    let allowed = "--udp 10.9.0.2:5001 --length 1200 --rate 100pps --duration 300ms --allow tx_dropped=1000";
    let (code, report, _) = link.test(allowed, false);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(failed(&report["findings"]), Vec::<&str>::new());

    // As a script sees it: text, and the list of what to replace.
    let mut command = link.near.command(WIRERATE);
    command.args([
        "linktest",
        "--quiet",
        "--udp",
        "10.9.0.2:5001",
        "--length",
        "1200",
        "--duration",
        "300ms",
    ]);
    command.args(["--rate", "100pps", "--verbose"]);
    let ended = run(command);
    assert_eq!(ended.code, 100, "{}", ended.stderr);
    for text in [
        "FAIL  wr0: ",
        "frames dropped instead of sent (tx_dropped)",
        "replace or change",
        "rtnl tx_dropped",
        "verdict    FAIL",
    ] {
        assert!(
            ended.stdout.to_lowercase().contains(&text.to_lowercase()),
            "{text:?} is missing in {}",
            ended.stdout
        );
    }
}

#[test]
fn a_link_that_flaps_during_the_test() {
    common::require_root!();
    let link = Link::new();
    let (code, report, _) = thread::scope(|scope| {
        let test = scope.spawn(|| link.test("--duration 2s", false));
        thread::sleep(Duration::from_millis(900));
        ip(&link.far, "link set dev wr1 down");
        ip(&link.far, "link set dev wr1 up");
        test.join().unwrap()
    });
    assert_eq!(code, 100, "{report:#}");
    assert_eq!(failed(&report["findings"]), ["link-flap"]);
    assert_eq!(report["replace"], serde_json::json!(["cable", "port", "card"]));
}

#[test]
fn udp_and_multicast_are_counted_at_the_far_end() {
    common::require_root!();
    let link = Link::new();
    let args = "--udp 10.9.0.2:5001 --multicast 239.1.2.3:5002 --rate 500pps --length 200 --duration 600ms";
    for (more, direction) in [("", "out"), (" --reverse", "back")] {
        let (code, report, said) = link.test(&format!("{args}{more}"), true);
        assert_eq!(code, 0, "{report:#} {said}");
        let traffic = report["traffic"].as_array().unwrap();
        assert_eq!(traffic.len(), 2);
        for (traffic, kind) in traffic.iter().zip(["udp", "multicast"]) {
            assert_eq!((&traffic["kind"], &traffic["direction"]), (&kind.into(), &direction.into()));
            assert_eq!(traffic["sent_packets"], 300);
            assert_eq!(
                (&traffic["received_packets"], &traffic["lost_packets"]),
                (&300.into(), &0.into()),
                "{traffic:#}"
            );
            assert_eq!(traffic["report"]["schema"], "wirerate.report/1");
            assert_eq!(traffic["receiver_report"]["rx"]["unique"], 300);
        }
        // The counters of both ends, and those agree with the other tool's.
        assert_eq!(report["far"]["interface"], "wr1");
        assert_eq!(failed(&report["far"]["findings"]), Vec::<&str>::new());
        let packets = |s: &Value, name: &str| s["counters"]["rtnl"][name].as_u64().unwrap();
        let (sent, came) =
            if more.is_empty() { ("tx_packets", "rx_packets") } else { ("rx_packets", "tx_packets") };
        let here = packets(&report["after"], sent) - packets(&report["before"], sent);
        let there = packets(&report["far"]["after"], came) - packets(&report["far"]["before"], came);
        assert!(here >= 600 && there >= 600, "{here} {there}");
    }
}

#[test]
fn faults_at_the_far_end_count() {
    common::require_root!();
    let link = Link::new();
    // What the far end sends is too large for this one.
    ip(&link.near, "link set dev wr0 mtu 576");
    let (code, report, _) =
        link.test("--udp 10.9.0.2:5001 --reverse --rate 100pps --length 1200 --duration 500ms", true);
    assert_eq!(code, 100, "{report:#}");
    // Both ends of a veth count such a packet.
    assert_eq!(failed(&report["findings"]), ["rx-dropped"]);
    assert_eq!(failed(&report["far"]["findings"]), ["tx-dropped"]);
    let checks = report["verdict"]["checks"].as_array().unwrap();
    let outcome =
        |name: &str| checks.iter().find(|c| c["name"] == name).map(|c| c["outcome"].as_str().unwrap());
    assert_eq!((outcome("counters"), outcome("far-counters")), (Some("fail"), Some("fail")));
    assert_eq!(outcome("arrival"), Some("inconclusive"));
}

#[test]
fn tcp_by_a_real_iperf3() {
    common::require_root!();
    if Command::new("iperf3").arg("--version").output().is_err() {
        common::skipped("iperf3");
        return;
    }
    let link = Link::new();
    let (code, report, said) = link.test("--tcp 10.9.0.2 --duration 1s", true);
    assert_eq!(code, 0, "{report:#} {said}");
    let traffic = &report["traffic"][0];
    assert_eq!((&traffic["kind"], &traffic["direction"]), (&"tcp".into(), &"out".into()));
    let sent = traffic["report"]["end"]["sum_sent"]["bits_per_second"].as_f64().unwrap();
    assert_eq!(traffic["sent_bps"].as_u64().unwrap(), sent as u64, "its own JSON");
    assert_eq!(
        traffic["report"]["start"]["connected"][0]["local_host"], "10.9.0.1",
        "bound to the interface"
    );
    assert!(traffic["received_bps"].as_u64().unwrap() > 0);

    let (_, report, _) = link.test("--remote_server 10.9.0.2 --port 5202 --reverse --duration 1s", true);
    assert_eq!(report["traffic"][0]["direction"], "back");
    assert_eq!(report["traffic"][0]["report"]["start"]["test_start"]["reverse"], 1);
}

#[test]
fn a_server_that_is_not_there() {
    common::require_root!();
    let link = Link::new();
    let (code, report, said) = link.test("--tcp 10.9.0.2:5999 --duration 1s", false);
    assert_eq!(code, 1, "{report:#} {said}");
    assert!(said.contains("iperf3"), "{said}");
    assert_eq!(report["verdict"]["outcome"], "inconclusive");
    assert!(report.get("after").is_some(), "the counters are compared all the same");
}

#[test]
fn both_directions_are_calibrated_before_the_counters() {
    common::require_root!();
    let link = Link::new();
    let (_, report, said) = link.test(
        "--udp 10.9.0.2:5001 --length 1000 --calibrate=400ms --duration 400ms --allow *=1000000000",
        true,
    );
    let calibration = report["calibration"].as_array().unwrap();
    let directions: Vec<_> = calibration.iter().map(|c| c["direction"].as_str().unwrap()).collect();
    assert_eq!(directions, ["out", "back"], "{said}");
    for traffic in calibration {
        assert!(traffic["received_packets"].as_u64().unwrap() > 0, "{traffic:#}");
    }
    // Nine tenths of what the link did this way are offered.
    let offered: u64 = report["config"]["rate"].as_str().unwrap().parse().unwrap();
    let found = calibration[0]["received_bps"].as_u64().unwrap();
    assert!(offered.abs_diff(found / 10 * 9) <= 10, "{offered} of {found}");
    // What the calibration lost is no fault.
    let sent = calibration[0]["sent_packets"].as_u64().unwrap();
    assert!(report["before"]["counters"]["rtnl"]["tx_packets"].as_u64().unwrap() > 0, "{sent}");
}

#[test]
fn ptp_at_both_ends() {
    common::require_root!();
    let link = Link::new();
    let (code, report, said) = link.test("--ptp --duration 1s", true);
    assert_eq!(code, 0, "{report:#} {said}");
    let ptp = &report["ptp"];
    assert_eq!((&ptp["group"], &ptp["in_link_filter"]), (&"224.0.1.129".into(), &true.into()));
    let sent: u64 = ptp["ports"].as_array().unwrap().iter().map(|p| p["sent"].as_u64().unwrap()).sum();
    assert!(sent >= 2, "{ptp:#}");
    assert_eq!(report["far"]["ptp_heard"].as_u64().unwrap(), sent, "{ptp:#}");
    for (port, kind) in ptp["ports"].as_array().unwrap().iter().zip(["delay_req", "signaling"]) {
        assert!(port["received"].as_u64().unwrap() > 0 && port["refused"] == 0, "{ptp:#}");
        assert_eq!(port["kinds"].as_object().unwrap().keys().collect::<Vec<_>>(), [kind]);
    }
    let source = &ptp["sources"][0];
    assert_eq!((&source["far_end"], &source["domain"]), (&true.into(), &255.into()), "{ptp:#}");
}

#[test]
fn ptp_of_somebody_else() {
    common::require_root!();
    let link = Link::new();
    // A clock at the other end: Sync to 319, Announce to 320, and something else.
    let done = std::sync::atomic::AtomicBool::new(false);
    let (code, report, _) = thread::scope(|scope| {
        scope.spawn(|| {
            link.far.run(|| {
                let socket = UdpSocket::bind("10.9.0.2:0").unwrap();
                let mut message = [0u8; 64];
                message[1] = 2;
                message[3] = 64;
                message[20..28].copy_from_slice(&[0, 0x1b, 0x21, 0xff, 0xfe, 1, 2, 3]);
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    for (kind, port) in [(0, 319), (11, 320)] {
                        message[0] = kind;
                        let _ = socket.send_to(&message, (Ipv4Addr::new(224, 0, 1, 129), port));
                    }
                    let _ = socket.send_to(b"no clock", (Ipv4Addr::new(224, 0, 1, 129), 320));
                    thread::sleep(Duration::from_millis(20));
                }
            });
        });
        let ended = link.test("--ptp --duration 700ms", false);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        ended
    });
    assert_eq!(code, 0, "{report:#}");
    let ports = &report["ptp"]["ports"];
    assert!(ports[0]["kinds"]["sync"].as_u64().unwrap() > 0, "{ports:#}");
    assert!(
        ports[1]["kinds"]["announce"].as_u64().unwrap() > 0 && ports[1]["other"].as_u64().unwrap() > 0,
        "{ports:#}"
    );
    let source = &report["ptp"]["sources"][0];
    assert_eq!((&source["clock"], &source["domain"]), (&"001b21.fffe.010203".into(), &0.into()));
    assert_eq!(source["far_end"], false, "there is no agent");
}

#[test]
fn no_interface_suits() {
    common::require_root!();
    let netns = Netns::new().unwrap();
    let linktest = |args: &str| {
        let mut command = netns.command(WIRERATE);
        command.args(["linktest", "--duration", "100ms"]).args(args.split_whitespace());
        run(command)
    };
    ip(&netns, "link add name docker0 type bridge");
    linktest("")
        .expect(4, &["no interface suits a link test", "lo (loopback)", "docker0 (of Docker)", "--iface"]);
    linktest("--iface wr7").expect(2, &["wr7", "docker0"]);
    linktest("--iface docker0").expect(4, &["down", "ip link set dev docker0 up"]);
    ip(&netns, "link add name wr5 type veth peer name wr6");
    ip(&netns, "link set dev wr5 up");
    let ended = linktest("--iface wr5 --json");
    assert_eq!(ended.code, 100, "it has no link: {}", ended.stderr);
    assert_eq!(failed(&ended.json()["findings"]), ["no-link"]);
}

#[test]
fn what_contradicts_itself() {
    for (args, words) in [
        (&["--multicast", "10.0.0.1:5001"][..], &["no multicast group", "--udp"][..]),
        (&["--udp", "239.1.2.3:5001"], &["a multicast group", "--multicast"]),
        (&["--udp", "10.0.0.1"], &["the port is missing"]),
        (&["--udp", "192.0.2.1:9", "--reverse"], &["--far"]),
        (&["--calibrate"], &["--far"]),
        (&["--limits", "/nonexistent"], &["--limits /nonexistent"]),
        (&["--allow", "x"], &["rx_dropped=10"]),
        (&["--expect-speed", "fast"], &["2.5G"]),
        (&["--udp", "127.0.0.1:9"], &["an address of this host"]),
    ] {
        let mut command = common::wirerate(&["linktest", "--duration", "100ms"]);
        command.args(args);
        run(command).expect(2, words);
    }
}
