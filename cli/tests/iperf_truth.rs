//! Side by side with the real iperf3 and iperf 2: through the same rules of nftables, what each says was lost, and what was.

use std::io::Read;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use wirerate_engine::lab::{INTERFACE, Lab};

mod common;

use common::Running;
use common::inject::{self, Injection};

const PACKETS: u64 = 20_000;
const LENGTH: &str = "200";

/// Data, ours and iperf3's: neither has other datagrams of this length.
const DATA: &str = "udp dport { 5001, 5201 } udp length 208";

/// What somebody says of the same traffic.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Said {
    lost: u64,
    out_of_order: u64,
    packets: u64,
}

impl Said {
    fn read(part: &Value, lost: &str) -> Self {
        let number = |name: &str| part[name].as_u64().unwrap_or_else(|| panic!("{name}: {part}"));
        Self { lost: number(lost), out_of_order: number("out_of_order"), packets: number("packets") }
    }

    /// Whether iperf3, of which this is, says what `ours` says that it does. What its server has not read when the client's end comes by TCP
    /// it leaves unread, and does not miss.
    fn agrees(&self, ours: &Self) -> bool {
        let Self { lost, out_of_order, packets } = *ours;
        (self.lost, self.out_of_order) == (lost, out_of_order) && self.packets <= packets
    }
}

/// A program that is killed when dropped.
struct Server(Child);

impl Server {
    fn start(mut command: Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it is installed"))
    }

    /// All that it says until it ends.
    fn end(mut self) -> String {
        let mut said = String::new();
        self.0.stdout.take().expect("piped").read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether somebody listens on the TCP or UDP port in the receiver's namespace.
fn listening(lab: &Lab, protocol: &str, port: &str) -> bool {
    let output =
        lab.receivers[0].command("ss").args(["-Hln", protocol, "sport", "=", port]).output().unwrap();
    assert!(output.status.success());
    !output.stdout.is_empty()
}

/// The real iperf3 at both ends: its server's own report.
fn iperf3(lab: &Lab) -> Said {
    let mut command = lab.receivers[0].command("iperf3");
    command.args(["-s", "-1", "-J", "-p", "5201"]);
    let server = Server::start(command);
    common::eventually("iperf3 listens", || listening(lab, "-t", ":5201"));
    let mut client = lab.sender.command("iperf3");
    let count = PACKETS.to_string();
    client.args(["-c", "10.77.0.11", "-p", "5201", "-u", "-b", "16M", "-l", LENGTH, "-k", &count]);
    let ended = common::run(client);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let report: Value = serde_json::from_str(&server.end()).expect("JSON");
    Said::read(&report["end"]["streams"][0]["udp"], "lost_packets")
}

/// Our own traffic at the same rate: the report's `rx`.
fn ours(lab: &Lab) -> Value {
    let target = "udp://10.77.0.11:5001";
    let receiver =
        Running::ready_on(&lab.receivers[0], &["recv", target, "--iface", INTERFACE, "--backend", "mmsg"]);
    let count = PACKETS.to_string();
    common::report_on(
        &lab.sender,
        &[
            "send",
            target,
            "--iface",
            INTERFACE,
            "--backend",
            "mmsg",
            "--segments",
            "off",
            "--rate",
            "10kpps",
            "--count",
            &count,
            "--length",
            LENGTH,
        ],
    );
    let mut report = receiver.report();
    let (_, own) = inject::told(&report, &lab.middle);
    assert_eq!(own, 0, "this machine lost packets itself");
    report["rx"].take()
}

/// Both through `rules`, until they agree: what iperf3 says, and our report's `rx`. `injected` are what is lost and what is copied of each.
fn side_by_side(rules: &[&str], injected: (u64, u64)) -> (Said, Value) {
    let lab = Lab::bridge(1).unwrap();
    let mut rounds = 0;
    loop {
        let injection = Injection::begin(&lab.middle, rules);
        let rx = ours(&lab);
        assert_eq!(injection.packets(), injected, "of ours");
        drop(injection);
        let injection = Injection::begin(&lab.middle, rules);
        let real = iperf3(&lab);
        assert_eq!(injection.packets(), injected, "of iperf3's");
        let as_iperf3 = Said::read(&rx["as_iperf3"], "lost");
        eprintln!(
            "injected     {} lost, {} copied\niperf3 says  {real:?}\nwe say       {} lost, {} duplicate\nas iperf3    {as_iperf3:?}",
            injected.0,
            injected.1,
            lost(&rx),
            rx["duplicate"],
        );
        // What this machine loses by itself iperf3 cannot tell from the rest.
        rounds += 1;
        let same = real.agrees(&as_iperf3);
        if same || rounds == 5 {
            assert!(same, "iperf3 says what we say that it says");
            return (real, rx);
        }
    }
}

fn lost(rx: &Value) -> u64 {
    rx["lost"].as_u64().unwrap() + rx["lost_tail"].as_u64().unwrap()
}

#[test]
fn iperf3_does_not_see_what_is_lost_at_the_end() {
    common::require_root!();
    // iperf3's number stands behind its time and counts from 1, ours behind check, kind, run and stream and counts from 0.
    let rules = [
        "udp dport 5201 udp length 208 @th,128,32 > 19500 LOSE",
        "udp dport 5001 udp length 208 @th,136,32 >= 19500 LOSE",
    ];
    let (iperf3, rx) = side_by_side(&rules, (500, 0));
    assert_eq!((iperf3.lost, iperf3.out_of_order), (0, 0));
    assert!(iperf3.packets <= PACKETS - 500, "{iperf3:?}");
    assert_eq!((lost(&rx), rx["lost_tail"].as_u64()), (500, Some(500)));
}

#[test]
fn iperf3_takes_copies_for_what_was_lost() {
    common::require_root!();
    let (lose, copy) =
        (format!("{DATA} numgen inc mod 100 50 LOSE"), format!("{DATA} numgen inc mod 99 10 COPY"));
    let (iperf3, rx) = side_by_side(&[&lose, &copy], (200, 200));
    // The first copy comes before the first loss, and hides none.
    assert_eq!((iperf3.lost, iperf3.out_of_order), (1, 200));
    assert_eq!((lost(&rx), rx["duplicate"].as_u64(), rx["reordered"].as_u64()), (200, Some(200), Some(0)));
}

#[test]
fn iperf3_is_right_of_gaps_alone() {
    common::require_root!();
    let (iperf3, rx) = side_by_side(&[&format!("{DATA} numgen inc mod 100 50 LOSE")], (200, 0));
    assert_eq!((iperf3.lost, iperf3.out_of_order), (200, 0));
    assert_eq!(lost(&rx), 200);
}

/// A datagram as iperf 2.1.8 writes it, with this identifier.
fn iperf2_datagram(id: i64, port: u16) -> [u8; 200] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let id = id.cast_unsigned();
    let fields = [
        id as u32,
        now.as_secs() as u32,
        now.subsec_micros(),
        (id >> 32) as u32,
        0x4801_0098,
        1,
        port.into(),
        200,
        0,
        0xffff_ff9c,
    ];
    let mut datagram = [0; 200];
    datagram
        .chunks_exact_mut(4)
        .zip(fields)
        .for_each(|(place, field)| place.copy_from_slice(&field.to_be_bytes()));
    datagram
}

/// Sends these numbers, which count from 1, to the receiver's `port`, and then the end of `issued`.
fn send_iperf2(lab: &Lab, port: u16, numbers: &[i64], issued: i64) {
    lab.sender.netns.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(("10.77.0.11", port)).unwrap();
        for id in numbers.iter().copied().chain([-(issued + 1)]) {
            socket.send(&iperf2_datagram(id, port)).unwrap();
            sleep(Duration::from_micros(500));
        }
    });
}

#[test]
fn iperf2_says_what_we_say_that_it_says() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let most = |gaps: &[i64]| (1..=2000).filter(|n| !gaps.contains(n)).collect::<Vec<i64>>();
    let mut copies = most(&[500, 501, 502, 900]);
    (0..5).for_each(|n| copies.insert(1000 + n, copies[1000]));
    let mut late = most(&[]);
    late[700..720].rotate_left(3);
    for (what, numbers, issued, want) in [
        ("nothing", most(&[]), 2000, (0, 0)),
        ("gaps and a tail", most(&[10, 11, 12, 700]), 2100, (104, 104)),
        ("the head", most(&[1, 2, 3]), 2000, (3, 0)),
        ("more copies than losses", copies, 2000, (0, 4)),
        ("reordering", late, 2000, (0, 0)),
    ] {
        let mut command = lab.receivers[0].command("iperf");
        command.args(["-s", "-u", "-B", "10.77.0.11", "-p", "5002", "-P", "1", "-y", "C"]);
        let server = Server::start(command);
        common::eventually("iperf listens", || listening(&lab, "-u", ":5002"));
        send_iperf2(&lab, 5002, &numbers, issued);
        let said = server.end();
        let row: Vec<&str> = said.trim().lines().last().expect("a report").split(',').collect();
        let field = |n: usize| row[n].parse().unwrap_or_else(|_| panic!("{said}"));
        let real = Said { lost: field(10), packets: field(11), out_of_order: field(13) };

        let receiver = Running::ready_on(
            &lab.receivers[0],
            &["recv", "udp://10.77.0.11:5001", "--iface", INTERFACE, "--backend", "mmsg"],
        );
        send_iperf2(&lab, 5001, &numbers, issued);
        let rx = receiver.report()["rx"].take();
        assert_eq!(Said::read(&rx["as_iperf2"], "lost"), real, "{what}: {rx}");
        // A receiver does not know of iperf when it began: what is missing at the head was before its start.
        let (missing, before) = (lost(&rx), rx["before_start"].as_u64().unwrap());
        assert_eq!((real.lost, missing + before), (want.0, want.0.max(want.1)), "{what}");
    }
}
