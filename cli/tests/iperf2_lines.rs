//! `recv --as iperf2` beside the real iperf 2.1.8, which receives the same datagrams.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use wirerate_engine::lab::{Host, INTERFACE, Lab};

mod common;

use common::inject::Injection;

const GROUP: [u8; 4] = [239, 1, 2, 3];

/// A program whose lines are read as they come, killed when dropped.
struct Lines {
    child: Child,
    lines: Receiver<String>,
    /// Lines that were read already.
    head: Vec<String>,
}

impl Lines {
    fn start(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it is installed");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line).ok())
        });
        Self { child, lines, head: Vec::new() }
    }

    /// iperf's server on `host`.
    fn iperf(host: &Host, more: &[&str]) -> Self {
        let mut command = host.command("stdbuf");
        command.args(["-oL", "iperf", "-s", "-u", "-i", "1", "-B", "239.1.2.3"]).args(more);
        Self::start(command)
    }

    /// Ours on `host`, in one of iperf's forms.
    fn ours(host: &Host, form: &str, backend: &str) -> Self {
        let args = ["recv", "udp://239.1.2.3:5001", "--iface", INTERFACE, "--backend", backend, "--as", form];
        let more = ["--quiet", "--keep", "--ready-fd", "1"];
        let mut ours = Self::start(common::wirerate_on(host, &[&args[..], &more].concat()));
        // What stands before the byte that says that it is ready is its head.
        loop {
            match ours.lines.recv_timeout(common::PATIENCE).expect("it gets ready") {
                line if line.is_empty() => break,
                line => ours.head.push(line),
            }
        }
        ours
    }

    /// All lines until none has come for `quiet`, and at least one.
    fn said(&self, quiet: Duration) -> Vec<String> {
        let first = self.lines.recv_timeout(common::PATIENCE).expect("a line");
        let more = std::iter::from_fn(|| self.lines.recv_timeout(quiet).ok());
        self.head.iter().cloned().chain(std::iter::once(first)).chain(more).collect()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What both say of what `send` sends once both have joined.
fn side_by_side(lab: &Lab, form: &str, backend: &str, send: impl FnOnce()) -> (Vec<String>, Vec<String>) {
    let iperf = Lines::iperf(&lab.receivers[0], if form == "iperf2" { &[] } else { &["-y", "C"] });
    let ours = Lines::ours(&lab.receivers[1], form, backend);
    lab.wait_for_members(IpAddr::from(GROUP), 2).unwrap();
    send();
    // iperf's lines of an interval are further apart than its last ones, and by then ours have come, too.
    let said = (iperf.said(Duration::from_millis(1500)), ours.said(Duration::from_millis(500)));
    eprintln!("{form} {backend}\n{}\n{}", said.0.join("\n"), said.1.join("\n"));
    said
}

fn iperf_client(lab: &Lab) {
    let mut client = lab.sender.command("iperf");
    client.args(["-c", "239.1.2.3", "-u", "-b", "500pps", "-l", "200", "-t", "1.6"]);
    assert_eq!(common::run(client).code, 0);
}

/// Sends datagrams as a version makes them, with these identifiers.
fn by_hand(lab: &Lab, version: &str, ids: &str, pause_ms: u32) {
    let script = format!(
        "import socket, struct, time\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         for i in {ids}:\n    \
             t = time.time(); now = (int(t), int(t % 1 * 1e6)); i64 = i & (1 << 64) - 1\n    \
             old = struct.pack('>iII', i, *now) + struct.pack('>6i', 0, 1, 5001, 300, 0, -1000)\n    \
             head = struct.pack('>4I', i64 & 0xffffffff, *now, i64 >> 32)\n    \
             new = head + struct.pack('>I5i', 0x480100a0, 1, 5001, 300, 0, -100) + struct.pack('>4I2H4I', 0, 0, 0, 0x20002, 1, 3, 0, 0, 0, 0)\n    \
             s.sendto({version}.ljust(300, b'x'), ('239.1.2.3', 5001))\n    \
             time.sleep({pause_ms} / 1000)\n"
    );
    let mut python = lab.sender.command("python3");
    python.args(["-c", &script]);
    common::run(python).expect(0, &[]);
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("a number: {text}"))
}

#[track_caller]
fn near(a: &str, b: &str, share: f64) {
    let (a, b) = (number(a), number(b));
    assert!((a - b).abs() <= share * a.abs().max(b.abs()), "{a} and {b}");
}

/// The last line of text that is not of what was out of order, as words: number, interval, …
fn last_line(said: &[String]) -> Vec<String> {
    let line = said.iter().rev().find(|line| line.contains(" ms ")).expect("a line with figures");
    line.replace(['[', ']'], " ").split_whitespace().map(str::to_owned).collect()
}

fn same_text((theirs, ours): &(Vec<String>, Vec<String>)) {
    let (iperf, wirerate) = (last_line(theirs), last_line(ours));
    assert_eq!(iperf.len(), wirerate.len());
    // 1 0.0000-1.6026 sec 157 KBytes 802 Kbits/sec 0.010 ms 0/802 (0%)
    for place in [0, 2, 3, 4, 6, 8, 9, 10] {
        assert_eq!(iperf[place], wirerate[place], "{iperf:?} {wirerate:?}");
    }
    near(&iperf[5], &wirerate[5], 0.02);
    assert!(wirerate[1].starts_with("0.0000-"));
    let out_of_order = |said: &[String]| -> Vec<String> {
        let lines = said.iter().filter(|line| line.ends_with("datagrams received out-of-order"));
        lines.map(|line| line.split("sec").nth(1).unwrap().to_owned()).collect()
    };
    assert_eq!(out_of_order(theirs), out_of_order(ours));
    // The heads are the same, but for one that says how iperf works, and what differs between machines.
    let head = |said: &[String]| -> Vec<String> {
        let kept = said.iter().filter(|line| !line.contains("single client") && !line.contains(" sec "));
        kept.map(|line| line.split(" size:").next().unwrap().to_owned())
            .filter(|l| !l.starts_with("WARN"))
            .collect()
    };
    let ours_is = head(ours);
    for (iperf, wirerate) in head(theirs).iter().zip(&ours_is) {
        assert_eq!(
            &iperf.replace("multicast group  239.1.2.3", "multicast (*,G)=*,239.1.2.3 w/iface wr0"),
            wirerate
        );
    }
    assert_eq!(head(theirs).len(), ours_is.len());
}

/// The rows are of the same 14 fields, which agree but for what both take from their clocks.
fn same_values((theirs, ours): &(Vec<String>, Vec<String>)) {
    assert_eq!(theirs.len(), ours.len());
    let whole = theirs.len() - 1;
    for (n, (iperf, wirerate)) in theirs.iter().zip(ours).enumerate() {
        let (iperf, wirerate): (Vec<&str>, Vec<&str>) =
            (iperf.split(',').collect(), wirerate.split(',').collect());
        assert_eq!((iperf.len(), wirerate.len()), (14, 14), "{iperf:?} {wirerate:?}");
        assert_eq!((iperf[0].len(), wirerate[0].len()), (14, 14));
        assert_eq!(iperf[1..6], wirerate[1..6]);
        assert_eq!(iperf[6].split('-').next(), wirerate[6].split('-').next());
        near(iperf[8], wirerate[8], 0.05);
        if n == whole {
            assert_eq!((iperf[7], &iperf[10..]), (wirerate[7], &wirerate[10..]), "{iperf:?} {wirerate:?}");
        }
    }
}

#[test]
fn the_lines_are_those_of_iperf_receiving_the_same() {
    common::require_root!();
    // One of 50 datagrams is lost on the way to both, but no end: that begins with 0xff.
    for (form, backend) in [("iperf2", "mmsg"), ("iperf2-csv", "afxdp")] {
        // A lab of its own, so that no membership is there before.
        let lab = Lab::bridge(2).unwrap();
        let injection =
            Injection::begin(&lab.middle, &["udp length 208 @th,64,8 0 numgen inc mod 50 7 LOSE"]);
        let both = side_by_side(&lab, form, backend, || iperf_client(&lab));
        let said = if form == "iperf2" {
            same_text(&both);
            last_line(&both.1)[9].split('/').next().unwrap().to_owned()
        } else {
            same_values(&both);
            both.1.last().unwrap().split(',').nth(10).unwrap().to_owned()
        };
        assert!(injection.packets().0 > 0);
        assert_eq!(said, injection.packets().0.to_string(), "what nftables dropped");
    }
}

#[test]
fn versions_and_disorder_are_counted_as_iperf_counts_them() {
    common::require_root!();
    for (version, ids, form, backend) in [
        // From 0 on, with a gap, a copy and two that come late.
        ("old", "[*range(0, 40), 45, 46, 46, 42, 41, *range(47, 200), -200]", "iperf2", "uring"),
        // The tail is missing.
        ("new", "[*range(1, 40), 45, 46, 46, 42, 41, *range(47, 200), -204]", "iperf2-csv", "mmsg"),
        // The beginning was not heard.
        ("new", "[*range(30, 200), 199, -200]", "iperf2", "mmsg"),
    ] {
        let lab = Lab::bridge(2).unwrap();
        let both = side_by_side(&lab, form, backend, || by_hand(&lab, version, ids, 7));
        if form == "iperf2" { same_text(&both) } else { same_values(&both) }
    }
}
