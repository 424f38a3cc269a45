//! Datagrams to a closed port: `wirerate drops` names the kernel's reason, the interface and the number.

use std::io::Read;
use std::net::UdpSocket;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wirerate_engine::lab::{Host, INTERFACE, Lab};

mod common;

const CLOSED: u16 = 4444;

/// A running `wirerate drops`, killed when dropped.
struct Drops {
    child: Child,
    stdout: ChildStdout,
}

impl Drops {
    /// Starts it and waits until it counts: the byte of `--ready-fd` comes before the result on the same pipe.
    fn ready_on(host: &Host, more: &[&str]) -> Self {
        let mut command = host.command(common::WIRERATE);
        command.args(["drops", "--quiet", "--ready-fd", "1"]).args(more).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program was built");
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_exact(&mut [0]).expect("a byte when it counts");
        Self { child, stdout }
    }

    /// Ends it as Ctrl-C does; what it prints.
    fn end(mut self) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success());
        said
    }
}

impl Drop for Drops {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The kernel's own count of datagrams that found no socket (`NoPorts`), over IPv4.
fn no_ports(host: &Host) -> u64 {
    let text = host.netns.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let mut udp = text.lines().filter(|line| line.starts_with("Udp:")).map(str::split_whitespace);
    let (mut names, mut values) = (udp.next().unwrap(), udp.next().unwrap());
    values.nth(names.position(|name| name == "NoPorts").unwrap()).unwrap().parse().unwrap()
}

/// Waits until `packets` more than `before` found no socket.
fn wait_for(host: &Host, before: u64, packets: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while no_ports(host) < before + packets && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(no_ports(host), before + packets);
}

#[test]
fn a_strangers_datagrams() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    let (mut before, target) = (no_ports(receiver), (receiver.ipv4, CLOSED));
    for json_asked in [true, false] {
        let drops = Drops::ready_on(receiver, if json_asked { &["--json", INTERFACE] } else { &[INTERFACE] });
        lab.sender.netns.run(|| {
            // Each by a socket of its own: the answer (port unreachable) stays on the first as an error.
            for _ in 0..37 {
                UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&[7; 100], target).unwrap();
            }
        });
        wait_for(receiver, before, 37);
        before += 37;
        let said = drops.end();
        if json_asked {
            let report: Value = serde_json::from_str(&said).unwrap();
            assert_eq!(report["not_counted"], json!([]));
            let drop = find(&report);
            assert_eq!((&drop["packets"], &drop["buffers"]), (&json!(37), &json!(37)), "{report}");
            assert_eq!(drop["place"], "socket");
        } else {
            let row =
                said.lines().find(|line| line.contains("NO_SOCKET")).unwrap_or_else(|| panic!("{said}"));
            let cells: Vec<_> = row.split(['│', '┆']).map(str::trim).filter(|c| !c.is_empty()).collect();
            assert_eq!(cells, ["this", INTERFACE, "socket", "NO_SOCKET", "37", "37"], "{said}");
        }
    }
}

/// The only NO_SOCKET of the report; it must be on the lab's interface.
fn find(report: &Value) -> Value {
    let all = report["drops"].as_array().unwrap();
    let found: Vec<_> = all.iter().filter(|drop| drop["reason"] == "NO_SOCKET").collect();
    assert_eq!(found.len(), 1, "{report}");
    assert_eq!(found[0]["interface"], INTERFACE);
    found[0].clone()
}

#[test]
fn our_own_datagrams() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    let target = format!("udp://{}:{CLOSED}", receiver.ipv4);
    for backend in ["afxdp", "uring", "mmsg"] {
        let before = no_ports(receiver);
        let drops = Drops::ready_on(receiver, &["--json", INTERFACE]);
        let args = ["send", &target, "--iface", INTERFACE, "--backend", backend, "--count", "200"];
        let sent = common::report_on(&lab.sender, &args);
        let tx = |field: &str| sent["tx"][field].as_u64().unwrap();
        let left = tx("packets") + tx("messages");
        wait_for(receiver, before, left);
        let report: Value = serde_json::from_str(&drops.end()).unwrap();
        assert_eq!(find(&report)["packets"], left, "{backend}: {report}");
    }
}
