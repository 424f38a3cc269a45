//! Trouble in the middle of a run: what was measured is reported, and nothing is left behind.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use common::{Running, eventually, ip, run, wait, wirerate_on};
use serde_json::Value;
use wirerate_engine::lab::{Host, INTERFACE, Lab};

const GROUP: &str = "239.1.2.3:5001";
const BACKENDS: [&str; 3] = ["uring", "mmsg", "afxdp"];
const GONE: [&str; 2] = ["wr0: the interface went away", "the report covers the time before"];

fn receiver(host: &Host, backend: &str, options: &str) -> Running {
    let line = format!("recv {GROUP} --iface {INTERFACE} --backend {backend} --interval 100ms {options}");
    Running::ready_on(host, &line.split_whitespace().collect::<Vec<_>>())
}

/// Sends until it is stopped.
fn sender(host: &Host, backend: &str) -> Running {
    Running::ready_on(host, &sending(backend).split_whitespace().collect::<Vec<_>>())
}

fn sending(backend: &str) -> String {
    format!(
        "send {GROUP} --iface {INTERFACE} --backend {backend} --rate 2kpps --duration 1h --interval 100ms"
    )
}

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {report}"))
}

/// A sender's figures agree with each other: what it handed over has bytes, and no packet has neither left nor failed.
fn adds_up(report: &Value) {
    let packets = number(report, "/tx/packets");
    assert_eq!(number(report, "/tx/payload_bytes"), packets * 1400, "{}", report["tx"]);
    assert_eq!(number(report, "/workers/0/packets"), number(report, "/tx/packets"));
}

#[test]
fn the_interface_goes_away_under_both() {
    common::require_root!();
    for backend in BACKENDS {
        let lab = Lab::bridge(1).unwrap();
        let mut receiver = receiver(&lab.receivers[0], backend, "");
        let mut sender = sender(&lab.sender, backend);
        sender.wait_for("interval");
        let heard = receiver.wait_for("interval")["interval"]["rx"]["packets"].as_u64().unwrap();

        ip(&lab.receivers[0].netns, "link delete wr0");
        let (report, ended) = receiver.end();
        ended.expect(1, &GONE);
        let received = report.expect("what was measured is reported");
        assert!(number(&received, "/rx/unique") >= heard, "{backend}: {}", received["rx"]);
        assert_eq!(number(&received, "/rx/lost"), 0, "{backend}");

        ip(&lab.sender.netns, "link delete wr0");
        let (report, ended) = sender.end();
        ended.expect(1, &GONE);
        let sent = report.expect("what was sent is reported");
        adds_up(&sent);
        assert!(number(&sent, "/tx/packets") >= number(&received, "/rx/unique"), "{backend}: {}", sent["tx"]);
    }
}

#[test]
fn the_interface_goes_away_and_the_report_is_one_object() {
    common::require_root!();
    for backend in BACKENDS {
        let lab = Lab::bridge(1).unwrap();
        // Ready is told on standard error: a byte in front of everything else.
        let line =
            format!("recv {GROUP} --iface {INTERFACE} --backend {backend} --keep --json -q --ready-fd 2");
        let mut child = wirerate_on(&lab.receivers[0], &line.split_whitespace().collect::<Vec<_>>())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while line != "\n" {
            line.clear();
            assert!(errors.read_line(&mut line).unwrap() > 0, "it ended before it was ready");
        }
        let line = format!("{} --count 500", sending(backend).replace("--duration 1h", ""));
        let sent = common::report_on(&lab.sender, &line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(sent["tx"]["packets"], 500);
        ip(&lab.receivers[0].netns, "link delete wr0");
        let status = wait(&mut child);
        let (mut said, mut report) = (String::new(), String::new());
        errors.read_to_string(&mut said).unwrap();
        child.stdout.take().unwrap().read_to_string(&mut report).unwrap();
        common::assert_no_panic(&said);
        assert_eq!(status.code(), Some(1), "{said}");
        GONE.iter().for_each(|word| assert!(said.contains(word), "{said}"));
        let report: Value = serde_json::from_str(&report).expect("one JSON object");
        assert_eq!(number(&report, "/rx/unique"), 500, "{backend}");
        assert_eq!(number(&report, "/rx/lost_tail"), 0, "{backend}");

        let line = format!("{} --json --quiet", sending(backend));
        let child = wirerate_on(&lab.sender, &line.split_whitespace().collect::<Vec<_>>())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let before = transmitted(&lab);
        eventually("packets leave", || transmitted(&lab) > before + 100);
        ip(&lab.sender.netns, "link delete wr0");
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        common::assert_no_panic(&said);
        assert_eq!(output.status.code(), Some(1), "{said}");
        GONE.iter().for_each(|word| assert!(said.contains(word), "{said}"));
        let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert!(number(&report, "/tx/packets") > 100, "{backend}");
        adds_up(&report);
    }
}

/// Packets that the sender's port of the bridge has seen.
fn transmitted(lab: &Lab) -> u64 {
    let link: Value = serde_json::from_str(&ip(&lab.middle, "-json -stats link show dev s0")).unwrap();
    number(&link, "/0/stats64/rx/packets")
}

/// Sets the link of `host` down for 300 ms.
fn reset(host: &Host) {
    ip(&host.netns, "link set wr0 down");
    std::thread::sleep(std::time::Duration::from_millis(300));
    ip(&host.netns, "link set wr0 up");
}

fn warned(report: &Value, code: &str) -> bool {
    report["warnings"].as_array().unwrap().iter().any(|w| w["code"] == code)
}

#[test]
fn a_link_that_goes_down_and_comes_back_ends_nothing() {
    common::require_root!();
    for backend in BACKENDS {
        let lab = Lab::bridge(1).unwrap();
        let mut receiver = receiver(&lab.receivers[0], backend, "");
        let sender = sender(&lab.sender, backend);
        receiver.wait_for("interval");

        reset(&lab.sender);
        // Intervals without a packet are not told: these are of packets that came later.
        let before = receiver.wait_for("interval")["interval"]["end_ns"].as_u64().unwrap();
        eventually("packets arrive again", || {
            receiver.wait_for("interval")["interval"]["start_ns"].as_u64().unwrap() > before + 300_000_000
        });
        reset(&lab.receivers[0]);
        let before = receiver.wait_for("interval")["interval"]["end_ns"].as_u64().unwrap();
        eventually("packets arrive again", || {
            receiver.wait_for("interval")["interval"]["start_ns"].as_u64().unwrap() > before + 300_000_000
        });

        sender.signal("INT");
        let sent = sender.report();
        assert!(warned(&sent, "link-down"), "{backend}: {}", sent["warnings"]);
        adds_up(&sent);
        let received = receiver.report();
        assert!(warned(&received, "link-down"), "{backend}: {}", received["warnings"]);
        // What was sent while the receiver's link was down is lost, and said to be.
        assert!(number(&received, "/rx/lost") > 0, "{backend}: {}", received["rx"]);
        let path = &received["ledger"]["paths"][0];
        let used = number(&sent, "/tx/packets") + number(&sent, "/tx/errors");
        assert_eq!(number(path, "/sent"), used, "{backend}: {path}");
    }
}

#[test]
fn signals_end_a_run_with_its_report() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for (backend, to_receiver, to_sender) in
        [("uring", "TERM", "INT"), ("mmsg", "INT", "TERM"), ("afxdp", "HUP", "INT")]
    {
        // The receiver in the middle of the stream.
        let mut sender = sender(&lab.sender, backend);
        let mut first = receiver(&lab.receivers[0], backend, "");
        first.wait_for("interval");
        first.signal(to_receiver);
        let report = first.report();
        assert!(number(&report, "/rx/packets") > 0);
        assert_eq!(number(&report, "/rx/lost"), 0, "{backend}: {}", report["rx"]);
        assert!(report.get("ledger").is_none(), "nobody has told what was sent");

        // The sender, who tells the receiver, who then ends by itself.
        let mut second = receiver(&lab.receivers[0], backend, "");
        second.wait_for("interval");
        sender.wait_for("interval");
        sender.signal(to_sender);
        let sent = sender.report();
        adds_up(&sent);
        let received = second.report();
        assert_eq!(number(&received, "/rx/lost"), 0, "{backend}: {}", received["rx"]);
        assert_eq!(number(&received, "/rx/lost_tail"), 0, "{backend}: {}", received["rx"]);
        assert_eq!(received["ledger"]["paths"][0]["unaccounted"], 0, "{backend}: {}", received["ledger"]);
        assert!(number(&sent, "/tx/packets") > number(&received, "/rx/unique"));
        assert!(!sent["intervals"].as_array().unwrap().is_empty());
    }
}

#[test]
fn signals_before_anything_arrives() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for (backend, name) in [("uring", "INT"), ("mmsg", "TERM"), ("afxdp", "INT")] {
        let receiver = receiver(&lab.receivers[0], backend, "");
        receiver.signal(name);
        let report = receiver.report();
        assert_eq!(number(&report, "/rx/packets"), 0);
        assert_eq!(report["warnings"].as_array().unwrap().last().unwrap()["code"], "nothing-heard");
    }
}

/// Fields of /proc/PID/status that are sets of signals.
fn signals_of(id: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[test]
fn a_second_interrupt_ends_at_once() {
    const SIGINT: u64 = 1 << 1;
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiving = format!("recv {GROUP} --iface {INTERFACE} --backend uring");
    // timeout(1) sends SIGTERM twice.
    for (command, first) in [(sending("mmsg"), &["INT"][..]), (receiving, &["TERM", "TERM"])] {
        // Its results go into a pipe that nobody reads and that is full: it cannot end by itself.
        let (reader, writer) = std::io::pipe().unwrap();
        let name = format!("of=/proc/{}/fd/{}", std::process::id(), writer.as_raw_fd());
        let mut filler = Command::new("dd");
        filler.args(["if=/dev/zero", &name, "bs=4096", "count=10000", "oflag=nonblock"]);
        assert!(!filler.stderr(Stdio::null()).status().unwrap().success(), "the pipe took it all");
        let mut child = wirerate_on(&lab.sender, &command.split_whitespace().collect::<Vec<_>>())
            .arg("--json-lines")
            .stdout(writer)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("it handles SIGINT", || signals_of(child.id(), "SigCgt") & SIGINT != 0);
        for name in first {
            common::signal(child.id(), name);
            eventually("it has taken it", || signals_of(child.id(), "ShdPnd") == 0);
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(child.try_wait().unwrap().is_none(), "{first:?} only ask it to end");
        common::signal(child.id(), "INT");
        assert_eq!(wait(&mut child).signal(), Some(2));
        drop(reader);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for (command, status) in [
        (format!("send {GROUP} --iface wr0 --rate 2kpps --duration 500ms --interval 100ms --json-lines"), 0),
        (format!("send {GROUP} --iface wr0 --count 10 --json"), 0),
        (format!("send {GROUP} --iface wr0 --count 10"), 0),
        (format!("recv {GROUP} --iface wr0 --duration 300ms --json-lines"), 0),
        (format!("recv {GROUP} --iface wr0 --duration 300ms"), 0),
        ("doctor".to_owned(), 0),
        ("doctor --json".to_owned(), 0),
        ("drops --duration 200ms --json".to_owned(), 0),
        ("--help".to_owned(), 0),
        ("send --help".to_owned(), 0),
        ("send nonsense".to_owned(), 2),
        ("send 1.2.3.4:5 --iface nix0".to_owned(), 2),
    ] {
        // Standard output and error, first read by nobody, then closed altogether.
        for closing in ["2>&1 | :", "2>&1 | head -c 1 >/dev/null", ">&- 2>&-", "2>&1 >/dev/full | :"] {
            let script =
                format!("set -o pipefail; {{ {} {command}; echo $? >&3; }} {closing}", common::WIRERATE);
            let script = format!("exec 3>&2; {script}");
            let mut bash = lab.sender.command("bash");
            bash.args(["-c", &script]);
            let ended = run(bash);
            // A full disk is a failure, where there is a result to be written.
            let lost = closing.contains("full") && status == 0 && !command.contains("help");
            let wanted = if lost { 1 } else { status };
            assert_eq!(ended.stderr.trim(), wanted.to_string(), "{command} {closing}: {}", ended.stdout);
        }
    }
}

#[test]
fn kill_leaves_nothing_of_an_afxdp_receiver() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    let sockets = || {
        let of = |name: &str| {
            let table =
                host.netns.run(|| std::fs::read_to_string("/proc/thread-self/net/protocols").unwrap());
            let row = table.lines().find(|l| l.split_whitespace().next() == Some(name));
            row.and_then(|l| l.split_whitespace().nth(2)?.parse::<i64>().ok())
        };
        (of("XDP"), of("UDP"), of("UDPv6"))
    };
    let groups = || host.netns.run(|| std::fs::read_to_string("/proc/thread-self/net/igmp").unwrap());
    let joined = || groups().contains("030201EF");
    let attached = || ip(&host.netns, "-json link show dev wr0").contains("\"xdp\"");
    let before = sockets();
    assert!(before.0.is_some(), "/proc/net/protocols knows AF_XDP");
    assert!(!attached() && !joined());
    for _ in 0..2 {
        let mut sender = sender(&lab.sender, "uring");
        let mut receiver = receiver(host, "afxdp", "");
        receiver.wait_for("interval");
        assert!(attached() && joined());
        assert_ne!(sockets(), before);
        receiver.signal("KILL");
        let (report, code) = receiver.finish();
        assert!(report.is_none() && code == -1);
        eventually("the XDP program is gone", || !attached());
        eventually("the membership is gone", || !joined());
        eventually("the sockets are gone", || sockets() == before);
        sender.wait_for("interval");
        sender.signal("INT");
        sender.report();
    }
}
