//! Options do what they say: each against a witness or the other side.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use wirerate_engine::lab::{Host, INTERFACE, Lab};

mod common;

use common::Running;
use common::witness::{At, Dissection, nft_count, nft_packets};

const TARGET: &str = "udp://239.1.2.3:5001";

fn recv<'a>(backend: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["recv", TARGET, "--iface", INTERFACE, "--backend", backend], more].concat()
}

/// A receiver of the group in the first receiving host, with a sender that may begin.
fn receiver(lab: &Lab, backend: &str, more: &[&str]) -> Running {
    let running = Running::ready_on(&lab.receivers[0], &recv(backend, more));
    wait_for_member(lab);
    running
}

fn wait_for_member(lab: &Lab) {
    lab.wait_for_members(IpAddr::from([239, 1, 2, 3]), 1).unwrap();
}

fn send(lab: &Lab, backend: &str, more: &[&str]) -> Value {
    let args = [&["send", TARGET, "--iface", INTERFACE, "--backend", backend], more].concat();
    common::report_on(&lab.sender, &args)
}

/// How often each value occurs.
fn occurrences<T: Ord>(values: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    values.into_iter().fold(BTreeMap::new(), |mut counts, value| {
        *counts.entry(value).or_default() += 1;
        counts
    })
}

#[test]
fn streams_over_groups_and_ports() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for backend in ["uring", "mmsg", "afxdp"] {
        let running = receiver(&lab, backend, &["--groups", "2", "--dst-port", "6000-6001"]);
        lab.wait_for_members(IpAddr::from([239, 1, 2, 4]), 1).unwrap();
        let wire = Dissection::begin(&lab.middle, "r1", "udp dst portrange 6000-6001 and udp[4:2] == 108");
        let spread =
            ["--groups", "2", "--dst-port", "6000-6001", "--src-port", "4000-4003", "--streams", "4"];
        send(&lab, backend, &[&spread[..], &["--count", "400", "--length", "100"]].concat());
        let report = running.report();
        let streams = report["rx"]["streams"].as_array().unwrap();
        let seen: BTreeMap<_, _> = streams
            .iter()
            .map(|s| {
                assert_eq!((&s["packets"], &s["lost"], &s["sent"]), (&json!(100), &json!(0), &json!(100)));
                let text = |field: &str| s[field].as_str().unwrap().to_owned();
                (s["id"].as_u64().unwrap(), (text("source"), text("group"), s["port"].to_string()))
            })
            .collect();
        let expected: BTreeMap<_, _> = (0..4)
            .map(|n| {
                let (group, port) = (3 + n % 2, 6000 + n % 2);
                (n, (format!("10.77.0.1:{}", 4000 + n), format!("239.1.2.{group}"), port.to_string()))
            })
            .collect();
        assert_eq!(seen, expected, "{backend}");
        let rows = wire.end(&["ip.src", "udp.srcport", "ip.dst", "udp.dstport"]);
        let flows = occurrences(rows);
        let expected = expected.into_values().map(|(source, group, port)| {
            let (ip, source_port) = source.split_once(':').unwrap();
            (vec![ip.to_owned(), source_port.to_owned(), group, port], 100)
        });
        assert_eq!(flows, expected.collect(), "{backend}");
    }
}

#[test]
fn vlan_tags() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let running = receiver(&lab, "afxdp", &[]);
    let wire = Dissection::begin(&lab.middle, "s0", "vlan 42");
    let sent = send(&lab, "afxdp", &["--vlan", "42", "--count", "90", "--frame-size", "68,594,1518"]);
    assert_eq!(sent["tx"]["frame_bytes"], 30 * (68 + 594 + 1518));
    let rows = wire.end(&["vlan.id", "frame.len", "udp.checksum.status"]);
    assert_eq!(rows.len() as u64, 90 + sent["tx"]["messages"].as_u64().unwrap());
    // The first is the announcement.
    for (n, row) in rows[1..=90].iter().enumerate() {
        // What is captured has no FCS.
        let length = [64, 590, 1514][n % 3].to_string();
        assert_eq!(row[..], ["42".to_owned(), length, "1".to_owned()], "packet {n}");
    }
    let rx = running.report()["rx"].take();
    assert_eq!((&rx["unique"], &rx["lost"], &rx["foreign"]), (&json!(90), &json!(0), &json!(0)), "{rx}");
    let args = ["send", TARGET, "--iface", INTERFACE, "--backend", "uring", "--vlan", "42"];
    let refused = common::run_on(&lab.sender, &args);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn sizes() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let imix = BTreeMap::from([(60, 70), (590, 40), (1514, 10)]);
    let range = (142..=146).map(|length| (length, 24)).collect();
    for (option, sizes, expected) in [("--frame-size", "imix", imix), ("--length", "100-104", range)] {
        for backend in ["uring", "afxdp"] {
            let running = receiver(&lab, backend, &[]);
            let wire = Dissection::begin(&lab.middle, "s0", "udp dst port 5001");
            let sent = send(&lab, backend, &[option, sizes, "--count", "120"]);
            let lengths = wire.end(&["frame.len"]);
            // The first is the announcement.
            let lengths = lengths[1..=120].iter().map(|row| row[0].parse::<usize>().unwrap());
            assert_eq!(occurrences(lengths), expected, "{backend} {sizes}");
            let bytes: usize = expected.iter().map(|(length, count)| (length + 4) * count).sum();
            assert_eq!(sent["tx"]["frame_bytes"], bytes, "{backend} {sizes}");
            let rx = running.report()["rx"].take();
            assert_eq!(
                (&rx["unique"], &rx["frame_bytes"]),
                (&json!(120), &json!(bytes)),
                "{backend} {sizes}: {rx}"
            );
        }
    }
}

#[test]
fn payloads_are_verified_byte_by_byte() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let contents: Vec<u8> = (0..1009_u32).map(|n| (n * n % 251) as u8).collect();
    let file = |name: &str, contents: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good", &contents);
    let mut changed = contents.clone();
    changed[500] ^= 1;
    let changed = file("changed", &changed);
    // Packet n has bytes 100 × n modulo 1009 and 99 more: the changed one is in 10 of each 101 packets.
    let with_500 = (0..200).filter(|n| (0..100).any(|i| (n * 100 + i) % 1009 == 500)).count();
    for (backend, sent, told, corrupt) in [
        ("uring", ["--payload-file", &good], ["--payload-file", &good], 0),
        ("afxdp", ["--payload-file", &good], ["--payload-file", &good], 0),
        ("mmsg", ["--payload-file", &good], ["--payload-file", &changed], with_500),
        ("afxdp", ["--payload-file", &good], ["--payload", "pattern"], 200),
        ("uring", ["--payload", "random"], ["--payload", "random"], 0),
        ("uring", ["--payload", "zero"], ["--payload", "random"], 200),
        ("afxdp", ["--payload", "zero"], ["--payload", "zero"], 0),
        ("afxdp", ["--payload", "pattern"], ["--payload", "pattern"], 0),
    ] {
        let running = receiver(&lab, backend, &[&["--verify-payload"], &told[..]].concat());
        let wire = Dissection::begin(&lab.middle, "s0", "udp dst port 5001");
        send(&lab, backend, &[&["--length", "118", "--count", "200"], &sent[..]].concat());
        let rx = running.report()["rx"].take();
        assert_eq!(rx["corrupt"], corrupt, "{backend} {sent:?} {told:?}: {rx}");
        assert_eq!(rx["unique"], 200 - corrupt, "{backend} {sent:?} {told:?}: {rx}");
        let rows = wire.end(&["udp.payload"]);
        // The first is the announcement.
        let rows = &rows[1..=200];
        for (n, row) in rows.iter().enumerate() {
            let body = &row[0][2 * 18..];
            let byte = |i: usize| u8::from_str_radix(&body[2 * i..2 * i + 2], 16).unwrap();
            match sent[1] {
                "zero" => assert!(body.bytes().all(|digit| digit == b'0')),
                "pattern" => assert!((0..100).all(|i| byte(i) == b'0' + (i % 10) as u8)),
                "random" => assert_eq!(row[0][2 * 18..], rows[0][0][2 * 18..]),
                _ => assert!((0..100).all(|i| byte(i) == contents[(n * 100 + i) % 1009]), "packet {n}"),
            }
        }
    }
}

/// The program with descriptor 3 open, its result in a file.
struct WithDescriptor {
    child: Child,
    directory: TempDir,
}

impl WithDescriptor {
    /// Starts it and waits for the byte that `--ready-fd 3` writes.
    fn ready_on(host: &Host, args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = host.command("sh");
        command.args(["-c", r#"out=$1; shift; exec "$0" "$@" --quiet --ready-fd 3 3>&1 >"$out""#]);
        command.arg(common::WIRERATE).arg(directory.path().join("out")).args(args);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut byte = [0];
        child.stdout.as_mut().expect("piped").read_exact(&mut byte).expect("a byte when it is ready");
        assert_eq!(byte, [b'\n']);
        Self { child, directory }
    }

    /// Waits for its end, which must be a success; what it printed.
    fn finish(mut self) -> String {
        assert!(self.child.wait().unwrap().success());
        fs::read_to_string(self.directory.path().join("out")).unwrap()
    }
}

impl Drop for WithDescriptor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn hexdump_shows_every_datagram() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for backend in ["uring", "mmsg", "afxdp"] {
        let running = WithDescriptor::ready_on(&lab.receivers[0], &recv(backend, &["--hexdump"]));
        wait_for_member(&lab);
        send(&lab, backend, &["--count", "3", "--length", "38", "--src-port", "4000"]);
        let said = running.finish();
        let shown = said.matches("10.77.0.1:4000 > 239.1.2.3:5001: 38 bytes").count();
        assert_eq!(shown, 3, "{backend}: {said}");
        // Bytes 18 to 31 of the payload are the first digits, at the end of the second line.
        assert_eq!(said.matches("30 31 32 33 34 35 36 37 38 39 30 31 32 33").count(), 3, "{backend}: {said}");
        assert!(said.contains("01234567890123"), "{backend}: {said}");
        assert!(said.contains("received   3 packets"), "{backend}: {said}");
    }
}

#[test]
fn expectations_decide_the_exit_status() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    // The middle loses every other packet: those of 101 bytes.
    nft_count(&lab.middle, &[("lost", At::Into("s0"), "udp dport 5001 udp length 109")]);
    let rule = "add rule netdev witness lost udp dport 5001 udp length 109 drop";
    assert!(lab.middle.command("nft").arg(rule).status().unwrap().success());
    let mut before = 0;
    for (backend, below, status) in [("uring", "60%", 0), ("afxdp", "40%", 3), ("mmsg", "0%", 3)] {
        let running = receiver(&lab, backend, &["--expect-loss-below", below]);
        let sent =
            send(&lab, backend, &["--count", "200", "--length", "100,101", "--expect-loss-below", "0%"]);
        assert_eq!(sent["verdict"]["outcome"], "pass", "all of them left");
        let (report, ended) = running.finish();
        let report = report.expect("a report, whatever the verdict");
        assert_eq!(ended, status, "{backend} {below}: {}", report["verdict"]);
        assert_eq!(report["verdict"]["outcome"], if status == 0 { "pass" } else { "fail" });
        let rx = &report["rx"];
        assert_eq!(
            (&rx["lost"], &rx["lost_tail"]),
            (&json!(99), &json!(1)),
            "the very last one is lost, too"
        );
        let path = &report["ledger"]["paths"][0];
        assert_eq!((&path["unaccounted"], &path["drops"][0]["packets"]), (&json!(0), &json!(100)), "{path}");
        let lost = nft_packets(&lab.middle, "lost");
        assert_eq!(lost - before, 100);
        before = lost;
    }
    for (above, status) in [("1pps", 0), ("1K", 0), ("100GL1", 3), ("1000Mpps", 3)] {
        let args = ["send", TARGET, "--iface", INTERFACE, "--count", "50", "--expect-rate-above", above];
        let output = common::run_on(&lab.sender, &args);
        assert_eq!(output.status.code(), Some(status), "{above}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(if status == 0 { "pass" } else { "fail" }), "{said}");
    }
}

#[test]
fn every_way_to_end() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    // Rounded up to whole packets.
    let sent = send(&lab, "uring", &["--bytes", "9901", "--length", "100"]);
    assert_eq!((&sent["tx"]["packets"], &sent["tx"]["payload_bytes"]), (&json!(100), &json!(10_000)));
    // Whichever comes first.
    let sent = send(&lab, "mmsg", &["--bytes", "10000000", "--count", "70", "--duration", "60s"]);
    assert_eq!(sent["tx"]["packets"], 70);
    let sent = send(&lab, "afxdp", &["--count", "1000000000", "--duration", "300ms"]);
    let packets = sent["tx"]["packets"].as_u64().unwrap();
    assert!((1..1_000_000).contains(&packets), "{packets} packets");

    // Without traffic, --duration ends a receiver; that nothing came is said, and is no failure.
    let report = common::report_on(&lab.receivers[0], &recv("uring", &["--duration", "300ms"]));
    assert_eq!(report["rx"]["packets"], 0);
    assert_eq!(report["warnings"][0]["code"], "nothing-heard");

    // With --keep a receiver goes on after a sender's end, here to the second one's --count.
    for backend in ["uring", "afxdp"] {
        let running = receiver(&lab, backend, &["--keep", "--count", "130"]);
        for count in ["70", "60"] {
            send(&lab, backend, &["--count", count]);
        }
        let rx = running.report()["rx"].take();
        let streams = rx["streams"].as_array().unwrap();
        let mut packets: Vec<_> = streams.iter().map(|s| s["packets"].as_u64().unwrap()).collect();
        packets.sort_unstable();
        assert_eq!(packets, [60, 70], "{backend}: {rx}");
        assert_ne!(streams[0]["run"], streams[1]["run"]);
    }
}

#[test]
fn the_result_goes_to_a_file_when_asked() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("result.json");
    let path = path.to_str().unwrap();
    let running = WithDescriptor::ready_on(&lab.receivers[0], &recv("uring", &["--json", "--output", path]));
    wait_for_member(&lab);
    send(&lab, "uring", &["--count", "40"]);
    assert_eq!(running.finish(), "");
    let report: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!((&report["schema"], &report["rx"]["unique"]), (&json!("wirerate.report/1"), &json!(40)));
    assert_eq!(report["config"]["target"], TARGET);

    let path = directory.path().join("result.txt");
    let path = path.to_str().unwrap();
    let wanted = ["--expect-loss-below", "1%", "--output", path];
    let running = WithDescriptor::ready_on(&lab.receivers[0], &recv("uring", &wanted));
    wait_for_member(&lab);
    send(&lab, "uring", &["--count", "40"]);
    running.finish();
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains("pass") && !text.contains('\x1b'), "a verdict without colours: {text}");
}
