//! Real peers: iperf 2 at either end, and a sender that knows nothing of us.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::json;
use wirerate_engine::lab::{Host, INTERFACE, Lab};
use wirerate_engine::packet::probe::MESSAGE_LEN;

mod common;

use common::Running;
use common::witness::{Dissection, Tcpdump};

const TARGET: &str = "udp://239.1.2.3:5001";

fn wait_for_member(lab: &Lab) {
    lab.wait_for_members(IpAddr::from([239, 1, 2, 3]), 1).unwrap();
}

#[test]
fn recv_counts_and_orders_what_iperf_sends() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for backend in ["uring", "mmsg", "afxdp"] {
        let args = ["recv", TARGET, "--iface", INTERFACE, "--backend", backend];
        let receiver = Running::ready_on(&lab.receivers[0], &args);
        wait_for_member(&lab);
        let wire = Dissection::begin(&lab.middle, "r1", "udp dst port 5001");
        let mut iperf = lab.sender.command("iperf");
        iperf.args(["-c", "239.1.2.3", "-u", "-b", "2M", "-l", "200", "-n", "100000", "-e"]);
        let said = String::from_utf8(iperf.output().expect("iperf is installed").stdout).unwrap();
        // It ends by itself, with iperf's end.
        let report = receiver.report();
        assert!(said.contains(" 500/0 "), "datagrams that iperf wrote and could not write: {said}");
        // Identifiers on the wire: 1, 2, …, 500, and the end, which is negative.
        let ids = wire.end(&["udp.payload"]);
        let ids: Vec<i32> =
            ids.iter().map(|row| u32::from_str_radix(&row[0][..8], 16).unwrap().cast_signed()).collect();
        assert_eq!(ids[..500], (1..=500).collect::<Vec<_>>());
        assert_eq!(ids[500..], [-501]);
        let rx = &report["rx"];
        for (field, expected) in
            [("packets", 500), ("unique", 500), ("payload_bytes", 100_000), ("lost", 0), ("lost_tail", 0)]
        {
            assert_eq!(rx[field], expected, "{backend} {field}: {rx}");
        }
        for field in ["duplicate", "reordered", "late", "corrupt", "foreign", "before_start"] {
            assert_eq!(rx[field], 0, "{backend} {field}: {rx}");
        }
        assert_eq!(rx["streams"].as_array().unwrap().len(), 1);
        assert_eq!(rx["streams"][0]["format"], "iperf2");
        assert_eq!(rx["streams"][0]["sent"], 500);
        assert_eq!(report["ledger"]["paths"][0]["unaccounted"], 0);
    }
}

/// A running iperf server that says what it saw as comma-separated values, killed when dropped.
struct IperfServer {
    child: Child,
    rows: Receiver<String>,
}

impl IperfServer {
    fn start(host: &Host) -> Self {
        let mut child = host
            .command("stdbuf")
            .args(["-oL", "iperf", "-s", "-u", "-B", "239.1.2.3", "-y", "C"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("iperf is installed");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, rows) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok).filter(|line| line.contains(",239.1.2.3,")) {
                let _ = sender.send(line);
            }
        });
        Self { child, rows }
    }
}

impl Drop for IperfServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// iperf takes the first bytes of a datagram for its own header: about every other one is the end of a test to it, after
/// which it reports and begins anew, and some hold options that make it wait. What it can tell is who sent to whom, and how
/// many bytes of each test it read.
#[test]
fn iperf_and_tcpdump_see_what_we_send() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for backend in ["uring", "mmsg", "afxdp"] {
        let tcpdump = Tcpdump::count(&lab.middle, "s0", "udp dst port 5001");
        let (mut sent, mut seen) = (0, None);
        for _ in 0..20 {
            let iperf = IperfServer::start(&lab.receivers[0]);
            wait_for_member(&lab);
            // All of one length, messages too.
            let args = [
                "send",
                TARGET,
                "--iface",
                INTERFACE,
                "--backend",
                backend,
                "--count",
                "300",
                "--length",
                "82",
                "--src-port",
                "4000",
            ];
            let report = common::report_on(&lab.sender, &args);
            assert_eq!(report["tx"]["packets"], 300);
            let messages = report["tx"]["messages"].as_u64().unwrap();
            sent += 300 + messages;
            seen = iperf.rows.recv_timeout(Duration::from_millis(700)).ok();
            if seen.is_some() {
                break;
            }
        }
        let seen = seen.unwrap_or_else(|| panic!("{backend}: iperf saw nothing of {sent} datagrams"));
        let fields: Vec<&str> = seen.split(',').collect();
        assert_eq!(fields[1..5], ["10.77.0.1", "4000", "239.1.2.3", "5001"], "{seen}");
        let bytes: u64 = fields[7].parse().unwrap();
        assert!(bytes > 0 && bytes.is_multiple_of(82) && bytes <= 82 * sent, "{seen}");
        assert_eq!(tcpdump.end().matched, sent, "{backend}");
    }
}

/// Lengths, time to live, DSCP and checksums, by a dissector that is not ours.
#[test]
fn tshark_finds_every_field_as_asked_for() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    // Kernel senders leave the checksum to the device, which a veth never is.
    let off = lab.sender.command("ethtool").args(["-K", INTERFACE, "tx", "off"]).output().unwrap();
    assert!(off.status.success(), "{off:?}");
    for (target, version) in [("udp://239.1.2.3:5001", 4), ("udp://[ff15::1:2:3]:5001", 6)] {
        for backend in ["uring", "mmsg", "afxdp"] {
            let wire = Dissection::begin(&lab.middle, "s0", "udp dst port 5001");
            let args = [
                "send",
                target,
                "--iface",
                INTERFACE,
                "--backend",
                backend,
                "--count",
                "60",
                "--length",
                "18,51,1452",
                "--ttl",
                "7",
                "--dscp",
                "AF41",
                "--src-port",
                "4000",
            ];
            let sent = common::report_on(&lab.sender, &args);
            let messages = sent["tx"]["messages"].as_u64().unwrap();
            let (ttl, dscp) =
                if version == 4 { ("ip.ttl", "ip.dsfield.dscp") } else { ("ipv6.hlim", "ipv6.tclass.dscp") };
            let fields = ["udp.length", "udp.checksum.status", ttl, dscp, "udp.srcport", "udp.payload"];
            let rows = wire.end(&fields);
            assert_eq!(rows.len() as u64, 60 + messages, "{target} {backend}");
            for (n, row) in rows.iter().enumerate() {
                // The announcement, the data, and the messages of the end.
                let length = if (1..=60).contains(&n) { [18, 51, 1452][(n - 1) % 3] } else { MESSAGE_LEN };
                // Checksum status 1 is "good".
                let expected = [&(8 + length).to_string(), "1", "7", "34", "4000"];
                assert_eq!(row[..5], expected, "{target} {backend} packet {n}");
                assert_eq!(row[5].len(), 2 * length);
            }
            let sequences: Vec<u64> =
                rows[1..=60].iter().map(|row| u64::from_str_radix(&row[5][16..26], 16).unwrap()).collect();
            assert_eq!(sequences, (0..60).collect::<Vec<_>>(), "{target} {backend}");
            assert_eq!(rows[61..].iter().map(|row| &row[5][16..26]).collect::<BTreeSet<_>>().len(), 1);
        }
    }
}

/// Sends `count` numbered datagrams of 64 bytes.
fn python(host: &Host, count: u32) {
    let script = format!(
        "import socket, struct, time\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         for n in range({count}):\n    \
             s.sendto(struct.pack('>Q', n) + b'hello, world'.ljust(56), ('239.1.2.3', 5001))\n    \
             time.sleep(0.0005)\n"
    );
    assert!(host.command("python3").args(["-c", &script]).status().expect("python3 is installed").success());
}

#[test]
fn a_stranger_is_counted_as_raw_and_foreign_without() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for backend in ["uring", "mmsg", "afxdp"] {
        let recv = |more: &[&str]| {
            let args = [&["recv", TARGET, "--iface", INTERFACE, "--backend", backend], more].concat();
            let receiver = Running::ready_on(&lab.receivers[0], &args);
            wait_for_member(&lab);
            receiver
        };
        for end in [["--count", "300"], ["--idle", "1s"]] {
            let receiver = recv(&["--format", "raw", end[0], end[1]]);
            python(&lab.sender, 300);
            let rx = receiver.report()["rx"].take();
            assert_eq!(
                (&rx["packets"], &rx["unique"], &rx["payload_bytes"], &rx["foreign"]),
                (&json!(300), &json!(300), &json!(300 * 64), &json!(0)),
                "{backend} {end:?}: {rx}"
            );
            assert_eq!(rx["streams"][0]["format"], "raw");
            assert!(rx["latency_ns"].is_null(), "a stranger tells no time: {rx}");
        }
        let receiver = recv(&[]);
        python(&lab.sender, 300);
        // Nobody says an end that it knows.
        receiver.signal("INT");
        let report = receiver.report();
        let rx = &report["rx"];
        assert_eq!((&rx["packets"], &rx["foreign"]), (&json!(0), &json!(300)), "{backend}: {rx}");
        assert_eq!(report["warnings"].as_array().unwrap().last().unwrap()["code"], "nothing-heard");
    }
}
