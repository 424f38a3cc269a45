//! Times: which clocks support a latency, who stamps packets, and that a stamp is what it is said to be.

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;

use common::witness::{Tcpdump, stamped_frames};
use common::{Running, report_on, run};
use serde_json::Value;
use wirerate_engine::clock::{self, Claim};
use wirerate_engine::lab::{INTERFACE, Lab};
use wirerate_engine::packet::probe::{End, Kind, LEN, MESSAGE_LEN, Message, Probe};

const TARGET: &str = "239.1.2.3:5001";

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// A receiver of the group in a lab, when the bridge knows it.
fn receiver(lab: &Lab, options: &str) -> Running {
    let line = format!("recv {TARGET} --iface {INTERFACE} {options}");
    let receiver = Running::ready_on(&lab.receivers[0], &words(&line));
    lab.wait_for_members(IpAddr::from([239, 1, 2, 3]), 1).unwrap();
    receiver
}

fn codes(report: &Value) -> Vec<&str> {
    report["warnings"].as_array().unwrap().iter().map(|w| w["code"].as_str().unwrap()).collect()
}

#[test]
fn the_kernel_stamps_every_datagram_on_each_datapath() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for (backend, source) in [("uring", "kernel"), ("mmsg", "kernel"), ("afxdp", "kernel"), ("mmsg", "user")]
    {
        let receiver = receiver(&lab, &format!("--backend {backend} --timestamps {source}"));
        let line = format!("send {TARGET} --iface {INTERFACE} --backend mmsg --rate 2kpps --count 1000");
        report_on(&lab.sender, &words(&line));
        let report = receiver.report();
        let rx = &report["rx"];
        assert_eq!((&rx["packets"], &rx["lost"]), (&1000.into(), &0.into()), "{backend}");
        assert_eq!(rx["timestamps"]["source"], source, "{backend}");
        let missing = &rx["timestamps"]["missing"];
        assert_eq!(missing.as_u64(), (source == "kernel").then_some(0), "{backend}: {missing}");
        assert_eq!((&rx["latency_ns"]["count"], &rx["pdv_ns"]["count"]), (&1000.into(), &1000.into()));
        assert_eq!(rx["ipdv_ns"]["magnitude"]["count"], 999);
        assert_eq!(
            (&report["clock"]["relation"], &report["clock"]["error_ns"]),
            (&"same-host".into(), &0.into())
        );
        // No stamp is earlier than the sender's hand-over.
        assert!(!codes(&report).contains(&"clock-disagreement"), "{backend}: {report}");
    }
}

/// The probe header of a frame that holds IPv4 and UDP.
fn probe(frame: &[u8]) -> Probe {
    Probe::parse(&frame[42..]).expect("a probe")
}

/// The times of the data in a capture by sequence number, on CLOCK_TAI.
fn times(capture: &Path, offset_ns: i64) -> BTreeMap<u64, u64> {
    let frames = stamped_frames(capture);
    let data =
        frames.iter().map(|(at_ns, frame)| (at_ns, probe(frame))).filter(|(_, p)| p.kind == Kind::Data);
    data.map(|(at_ns, p)| (p.sequence, at_ns.checked_add_signed(offset_ns).unwrap())).collect()
}

#[test]
fn latency_between_the_kernels_stamps_is_what_tcpdump_sees() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let offset_ns = clock::tai_minus_utc_ns();
    for (backend, streams) in [("mmsg", 1), ("uring", 1)] {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let table = file("packets.csv");
        let options = format!("--backend {backend} --timestamps kernel --packets {}", table.display());
        let receiver = receiver(&lab, &options);
        let filter = "udp dst port 5001";
        // The first stands before the driver of the sender, the second behind it, the third behind that of the receiver.
        let places = [
            (&lab.sender.netns, INTERFACE, "sent"),
            (&lab.middle, "s0", "passed"),
            (&lab.receivers[0].netns, INTERFACE, "received"),
        ];
        let dumps: Vec<_> = places
            .iter()
            .map(|(netns, port, name)| Tcpdump::stamped(netns, port, filter, &file(name)))
            .collect();
        let line = format!(
            "send {TARGET} --iface {INTERFACE} --timestamps kernel --rate 500pps --count 300 --streams {streams} --length 100"
        );
        let sent = report_on(&lab.sender, &words(&line));
        assert_eq!(sent["backend"]["name"], "mmsg", "the one that reads the kernel's stamps");
        let report = receiver.report();
        for dump in dumps {
            let account = dump.end();
            assert_eq!(account.missed, 0, "{account:?}");
        }
        let [before, behind, arrived] = places.map(|(_, _, name)| times(&file(name), offset_ns));
        assert_eq!((before.len(), behind.len(), arrived.len()), (300, 300, 300), "{backend}");

        let text = std::fs::read_to_string(&table).unwrap();
        let mut rows = 0;
        let mut sum = 0;
        for row in text.lines().skip(1) {
            let [_, _, sequence, tx, rx] =
                row.split(',').map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>()[..]
            else {
                panic!("{row}")
            };
            // The receiver's tap and its socket have one stamp of the same packet.
            assert_eq!(rx, arrived[&sequence], "{backend}: {row}");
            // The sender's tap is before its driver, where we stamp, and the other end of the cable behind it.
            assert!(
                before[&sequence] <= tx && tx <= behind[&sequence],
                "{backend}: {row}, {before:?}, {behind:?}"
            );
            sum += rx - tx;
            rows += 1;
        }
        assert_eq!(rows, 300, "{backend}: one row for each packet");
        let wire = &report["rx"]["wire_latency_ns"];
        assert_eq!(wire["count"], 300);
        let mean = wire["mean"].as_u64().unwrap();
        assert!(
            mean.abs_diff(sum / 300) <= sum / 300 / 50,
            "{backend}: mean {mean}, and by the table {}",
            sum / 300
        );
        // Messages are no packets, and no loss.
        let rx = &report["rx"];
        assert_eq!((&rx["packets"], &rx["foreign"], &rx["corrupt"]), (&300.into(), &0.into(), &0.into()));
        assert_eq!(rx["messages"], sent["tx"]["messages"]);
        assert_eq!(report["ledger"]["paths"][0]["unaccounted"], 0);
        assert!(!codes(&report).contains(&"packets"), "{report}");
    }
}

/// A sender with another host's clock, made by hand: it announces itself, sends, and ends.
fn foreign_sender(to: SocketAddr, claim: Claim, count: u64) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(to).unwrap();
    let run = 0x5_0505;
    // Its clock is three minutes behind.
    let now = || clock::tai_ns() - 180_000_000_000;
    let message = |kind, issued, first_ns, last_ns, announced| {
        let mut payload = [0; MESSAGE_LEN];
        Probe { kind, run, stream: 0, sequence: issued, time: now() }.emit(&mut payload);
        let end = End { issued, failed: 0, first_ns, last_ns };
        Message { end, clock: Some(claim), announced }.emit(&mut payload);
        socket.send(&payload).unwrap();
    };
    message(Kind::Announce, 0, 0, 0, 0);
    let first_ns = now();
    for sequence in 0..count {
        let mut payload = [0; LEN];
        Probe { kind: Kind::Data, run, stream: 0, sequence, time: now() & ((1 << 40) - 1) }
            .emit(&mut payload);
        socket.send(&payload).unwrap();
        // Some intervals of the receiver's.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    (0..5).for_each(|_| message(Kind::End, count, first_ns, clock::tai_ns(), 1));
}

#[test]
fn clocks_of_two_hosts_that_nobody_keeps_give_no_latency() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver_address = lab.receivers[0].ipv4;
    for backend in ["mmsg", "xdp"] {
        let args =
            format!("recv {receiver_address}:5001 --iface {INTERFACE} --backend {backend} --interval 100ms");
        let receiver = Running::ready_on(&lab.receivers[0], &words(&args));
        let own = Claim::read().unwrap();
        let claim = Claim { host: own.host ^ 1, synchronised: false, ..own };
        lab.sender.netns.run(|| foreign_sender((receiver_address, 5001).into(), claim, 200));
        let report = receiver.report();
        let (rx, clock) = (&report["rx"], &report["clock"]);
        assert_eq!(rx["packets"], 200, "{backend}: {report}");
        assert!(rx["latency_ns"].is_null(), "{backend}: {rx}");
        assert_eq!(clock["relation"], "undisciplined", "{backend}");
        assert_eq!(clock["senders"][0]["state"]["synchronised"], false);
        assert!(clock["error_ns"].is_null());
        let warnings = codes(&report);
        assert!(
            warnings.contains(&"clocks-apart") && !warnings.contains(&"clock-disagreement"),
            "{warnings:?}"
        );
        let intervals = report["intervals"].as_array().unwrap();
        assert!(
            intervals.len() > 1 && intervals.iter().all(|i| i["rx"]["latency_ns"].is_null()),
            "{intervals:?}"
        );
        assert!(rx["jitter_ns"].is_object(), "what needs no common clock stays");
        assert_eq!(rx["pdv_ns"]["count"].as_u64(), (backend == "mmsg").then_some(200));
    }
}

/// Reads each line of an HdrHistogram log by the format's description (HdrHistogram V2, compressed), and prints how many values all hold.
const READER: &str = r##"
import base64, struct, sys, zlib
total = 0
for line in open(sys.argv[1]):
    if line.startswith("#") or line.startswith('"'):
        continue
    start, length, highest, text = line.strip().split(",")
    cookie, size = struct.unpack(">ii", base64.b64decode(text)[:8])
    # The second lowest digit is the word size, which V2 does not use.
    assert cookie & ~0xf0 == 0x1c849304, hex(cookie)
    body = zlib.decompress(base64.b64decode(text)[8:8 + size])
    cookie, size, offset, digits, low, high, ratio = struct.unpack(">iiiiqqd", body[:40])
    assert cookie & ~0xf0 == 0x1c849303 and offset == 0 and digits == 2 and ratio == 1.0, (hex(cookie), offset, digits, ratio)
    counts, at = body[40:40 + size], 0
    while at < len(counts):
        value = shift = 0
        for n in range(9):
            byte = counts[at]
            at += 1
            value |= (byte if n == 8 else byte & 0x7f) << shift
            shift += 7
            if n == 8 or not byte & 0x80:
                break
        count = (value >> 1) ^ -(value & 1)
        total += max(count, 0)
print(total)
"##;

#[test]
fn another_reader_finds_every_latency_in_the_log() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("latency.hlog");
    let receiver = receiver(&lab, &format!("--backend mmsg --interval 100ms --hlog {}", log.display()));
    let line = format!("send {TARGET} --iface {INTERFACE} --rate 2kpps --count 1500");
    let sent = report_on(&lab.sender, &words(&line));
    assert!(sent["tx"]["lateness_ns"]["count"].as_u64() > Some(0), "a pace is kept more or less: {sent}");
    let report = receiver.report();
    assert_eq!(report["rx"]["latency_ns"]["count"], 1500);
    assert!(report["rx"]["latency_ns"]["p999"].is_u64() && report["rx"]["latency_ns"]["p9999"].is_null());
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        text.lines().filter(|line| !line.starts_with('#')).count() > 3,
        "a line for each interval: {text}"
    );
    let mut python = Command::new("python3");
    python.args(["-c", READER]).arg(&log);
    let read = run(python);
    assert_eq!((read.code, read.stdout.trim()), (0, "1500"), "{}", read.stderr);
    // What cannot be written is said before anything is measured.
    let bad = format!("recv {TARGET} --iface {INTERFACE} --hlog {}/no/such", directory.path().display());
    run(common::wirerate_on(&lab.receivers[0], &words(&bad))).expect(2, &["--hlog", "no/such"]);
}

#[test]
fn the_nics_stamps_are_refused_where_there_is_no_nic() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let on = format!("--iface {INTERFACE}");
    for (options, status, said) in [
        (&*on, 4, &["does not stamp what it receives", "ethtool -T", "--timestamps kernel"][..]),
        (&format!("{on} --backend uring"), 4, &["does not stamp what it receives"]),
        ("--iface lo", 4, &["lo:"]),
        ("", 2, &["--iface"]),
        (&format!("{on} --backend afxdp"), 4, &["does not stamp what it receives"]),
        (&format!("{on} --backend xdp"), 2, &["sinks of xdp", "--backend mmsg"]),
    ] {
        let line = format!("recv {TARGET} --timestamps nic {options}");
        let refused = run(common::wirerate_on(&lab.receivers[0], &words(&line)));
        refused.expect(status, &[&["--timestamps nic"], said].concat());
    }
}

#[test]
fn what_the_kernel_cannot_stamp_is_refused_with_the_way_out() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for (options, said) in [
        ("--rate max", "give a --rate"),
        ("--rate 1kpps --backend uring", "use --backend mmsg"),
        ("--rate 1kpps --segments 4", "--segments off"),
    ] {
        let line = format!("send {TARGET} --iface {INTERFACE} --timestamps kernel --count 5 {options}");
        run(common::wirerate_on(&lab.sender, &words(&line))).expect(2, &["--timestamps kernel", said]);
    }
    let line = format!("recv {TARGET} --iface {INTERFACE} --packets /tmp/x");
    run(common::wirerate_on(&lab.receivers[0], &words(&line)))
        .expect(2, &["--packets", "--timestamps kernel"]);
}
