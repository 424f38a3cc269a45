//! The real iperf 2.1.8 and we, in both directions: what each counts, and nftables in the middle.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use wirerate_engine::lab::{Host, INTERFACE, Lab};

mod common;

use common::Running;
use common::inject::Injection;
use common::witness::{At, nft_count, nft_forget, nft_packets};

/// A running iperf server, killed when dropped.
struct Server {
    child: Child,
    rows: Receiver<String>,
}

impl Server {
    /// On `host`, with its values separated by commas: one row for each test.
    fn start(host: &Host, more: &[&str]) -> Self {
        let mut command = host.command("stdbuf");
        command.args(["-oL", "iperf", "-s", "-u", "-y", "C"]).args(more);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("iperf is installed");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, rows) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line).ok())
        });
        common::eventually("iperf listens", || {
            let output = host.command("ss").args(["-Hlun", "sport", "=", ":5001"]).output().unwrap();
            !output.stdout.is_empty()
        });
        Self { child, rows }
    }

    /// The fields of its row: 7 bytes, 10 lost, 11 total, 13 out of order.
    fn row(self) -> Vec<String> {
        let row = self.rows.recv_timeout(common::PATIENCE).expect("iperf heard the end");
        row.split(',').map(str::to_owned).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is sent in iperf's format: its report.
fn send(lab: &Lab, target: &str, more: &[&str]) -> Value {
    let args =
        ["send", target, "--iface", INTERFACE, "--format", "iperf2", "--rate", "2kpps", "--length", "200"];
    common::report_on(&lab.sender, &[&args[..], more].concat())
}

/// ASM and SSM, IPv4 and IPv6: group, source.
fn matrix(lab: &Lab) -> [(IpAddr, Option<IpAddr>); 4] {
    let (v4, v6) = (IpAddr::from(lab.sender.ipv4), IpAddr::from(lab.sender.ipv6));
    let group = |text: &str| text.parse().unwrap();
    [
        (group("239.1.2.3"), None),
        (group("232.1.2.3"), Some(v4)),
        (group("ff15::1:2:3"), None),
        (group("ff3e::8000:2"), Some(v6)),
    ]
}

fn bracketed(ip: IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

#[test]
fn multicast_of_iperf_is_counted_as_it_counts_ours() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    for (n, (group, source)) in matrix(&lab).into_iter().enumerate() {
        let ipv6 = group.is_ipv6();
        let scoped = if ipv6 { format!("{group}%{INTERFACE}") } else { group.to_string() };
        let family: &[&str] = if ipv6 { &["-V"] } else { &[] };
        let target = format!("udp://{}:5001", bracketed(group));
        let of_source = source.map_or(target.clone(), |source| {
            format!("udp://{}@{}:5001", bracketed(source), bracketed(group))
        });
        let backend = ["uring", "mmsg", "afxdp"][n % 3];

        // From iperf to us.
        let ours =
            Running::ready_on(receiver, &["recv", &of_source, "--iface", INTERFACE, "--backend", backend]);
        lab.wait_for_members(group, 1).unwrap();
        nft_count(&lab.middle, &[("datagrams", At::OutOf("r1"), "udp dport 5001 udp length 208")]);
        let mut client = lab.sender.command("iperf");
        client.args(["-c", &scoped, "-u", "-b", "2M", "-l", "200", "-n", "60000"]).args(family);
        assert_eq!(common::run(client).code, 0);
        let report = ours.report();
        let rx = &report["rx"];
        // The end is a datagram of its own.
        assert_eq!(nft_packets(&lab.middle, "datagrams"), 301, "{group}");
        nft_forget(&lab.middle);
        for (field, expected) in
            [("packets", 300), ("unique", 300), ("lost", 0), ("lost_tail", 0), ("foreign", 0)]
        {
            assert_eq!(rx[field], expected, "{group} {field}: {rx}");
        }
        assert_eq!(rx["streams"][0]["format"], "iperf2");

        // From us to iperf.
        let mut options = vec!["-B", &scoped];
        options.extend(family);
        let host = source.map(|source| source.to_string());
        if let Some(host) = &host {
            options.extend(["-H", host]);
        }
        let server = Server::start(receiver, &options);
        lab.wait_for_members(group, 1).unwrap();
        nft_count(&lab.middle, &[("datagrams", At::OutOf("r1"), "udp dport 5001 udp length 208")]);
        let sent = send(&lab, &target, &["--backend", backend, "--count", "500", "--segments", "off"]);
        let row = server.row();
        assert_eq!((&sent["tx"]["packets"], &sent["tx"]["messages"]), (&json!(500), &json!(1)), "{sent}");
        assert_eq!(nft_packets(&lab.middle, "datagrams"), 501, "{group}");
        nft_forget(&lab.middle);
        assert_eq!(row.len(), 14);
        let figures = [7, 10, 11, 13].map(|n| row[n].as_str());
        assert_eq!(
            figures,
            ["100200", "0", "501", "0"],
            "{group} {backend}: bytes, lost, total, out of order"
        );
    }
}

/// Packets that never arrive are the ones that iperf misses; by GSO too, whose packets the middle sees one by one.
#[test]
fn iperf_misses_what_was_dropped() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    common::inject::split_super_packets(&lab.sender);
    for (backend, more) in [("mmsg", "auto"), ("afxdp", "auto"), ("uring", "off")] {
        let server = Server::start(&lab.receivers[0], &["-B", "239.1.2.3"]);
        lab.wait_for_members(IpAddr::from([239, 1, 2, 3]), 1).unwrap();
        let injection = Injection::begin(&lab.middle, &["udp length 208 numgen inc mod 50 7 LOSE"]);
        let options = ["--backend", backend, "--segments", more, "--count", "600", "--rate", "10kpps"];
        let args =
            ["send", "udp://239.1.2.3:5001", "--iface", INTERFACE, "--format", "iperf2", "--length", "200"];
        common::report_on(&lab.sender, &[&args[..], &options].concat());
        let row = server.row();
        let (lost, _) = injection.packets();
        assert_eq!(lost, 12, "{backend}");
        assert_eq!([7, 10, 11].map(|n| row[n].as_str()), ["117800", "12", "601"], "{backend}");
    }
}

/// A server of unicast answers, and what it says is in our report.
#[test]
fn a_server_of_unicast_says_what_it_received() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let (receiver, target) = (&lab.receivers[0], "udp://10.77.0.11:5001");
    for backend in ["uring", "mmsg", "afxdp"] {
        let server = Server::start(receiver, &[]);
        let sent = send(&lab, target, &["--backend", backend, "--count", "400"]);
        let row = server.row();
        let said = &sent["tx"]["iperf2"][0];
        for (field, place) in [("bytes", 7), ("lost", 10), ("packets", 11), ("out_of_order", 13)] {
            assert_eq!(said[field].to_string(), row[place], "{backend} {field}: {sent}");
        }
        assert_eq!((&said["packets"], &said["lost"]), (&json!(401), &json!(0)), "{backend}: {sent}");
    }
    // Nobody answers.
    let sent = send(&lab, target, &["--backend", "mmsg", "--count", "10"]);
    assert_eq!(sent["tx"]["messages"], 10, "{sent}");
    let codes: Vec<&Value> = sent["warnings"].as_array().unwrap().iter().map(|w| &w["code"]).collect();
    assert!(codes.contains(&&json!("iperf2-unanswered")), "{codes:?}");
}

#[test]
fn what_iperf_cannot_have_is_refused() {
    let send =
        |more: &[&str]| common::run(common::wirerate(&[&["send", "--format", "iperf2"], more].concat()));
    send(&["udp://127.0.0.1:5001", "--length", "75", "--backend", "mmsg"])
        .expect(2, &["75 bytes", "--length 76"]);
    send(&["rtp://127.0.0.1:5002", "--backend", "mmsg"]).expect(2, &["no RTP", "udp://"]);
    send(&["udp://127.0.0.1:5001", "--backend", "mmsg", "--timestamps", "kernel", "--rate", "1kpps"])
        .expect(2, &["--timestamps kernel"]);
    let recv = |more: &[&str]| common::run(common::wirerate(&[&["recv", "--as", "iperf2"], more].concat()));
    recv(&["rtp://127.0.0.1:5002"]).expect(2, &["--as"]);
    recv(&["udp://127.0.0.1:5001", "--format", "raw"]).expect(2, &["--as"]);
    recv(&["udp://127.0.0.1:5001", "--json"]).expect(2, &["--json"]);
}
