//! Scenes of the ledger: a sender and a receiver in the lab, something that goes wrong between them, and what the ledger has to say of it.
#![allow(dead_code, reason = "not every test file needs everything")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use wirerate_engine::lab::{Host, INTERFACE, Lab, Netns};

use super::{Running, ip, report_on};

/// Payload of each packet.
pub const LENGTH: u64 = 1000;

/// How a sender's packets come to the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    /// `--backend`
    pub backend: &'static str,
    /// Whether several packets leave as one buffer.
    pub gso: bool,
}

/// Sockets with a buffer for each packet and with super-packets, and frames.
pub const SENDERS: [Sender; 4] = [
    Sender { backend: "mmsg", gso: false },
    Sender { backend: "mmsg", gso: true },
    Sender { backend: "uring", gso: true },
    Sender { backend: "afxdp", gso: false },
];

/// Every way to receive.
pub const RECEIVERS: [&str; 4] = ["mmsg", "uring", "afxdp", "xdp"];

impl Sender {
    /// Sends `count` packets to `target` from `host`, and gives the report. `more` are further options.
    pub fn send(self, host: &Host, target: &str, pps: u64, count: u64, more: &str) -> Value {
        let (backend, segments) =
            (self.backend, if self.gso { "--segments 16 --burst 32" } else { "--segments off" });
        let length = if more.contains("--length") { String::new() } else { format!("--length {LENGTH}") };
        let line = format!(
            "send {target} --iface {INTERFACE} --backend {backend} {segments} --rate {pps}pps --count {count} {length} {more}"
        );
        let report = report_on(host, &line.split_whitespace().collect::<Vec<_>>());
        if self.gso {
            assert_eq!(report["backend"]["mode"], "gso", "{report:#}");
        }
        report
    }
}

/// A receiver that is ready.
pub fn receiver(host: &Host, target: &str, backend: &str, more: &str) -> Running {
    let line = format!("recv {target} --iface {INTERFACE} --backend {backend} {more}");
    Running::ready_on(host, &line.split_whitespace().collect::<Vec<_>>())
}

/// The only path of a report.
pub fn path(report: &Value) -> &Value {
    let paths = report["ledger"]["paths"].as_array().unwrap_or_else(|| panic!("no ledger: {report:#}"));
    assert_eq!(paths.len(), 1, "{report:#}");
    &paths[0]
}

/// A number of a report.
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// What a ledger's drops say, sorted: place, reason, the function that stands for a reason, packets.
pub fn told(drops: &Value) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let drops = drops.as_array().expect("drops");
    let mut told: Vec<_> = drops
        .iter()
        .map(|drop| {
            let symbol = drop["symbol"].as_str().map_or(String::new(), |symbol| format!(" {symbol}"));
            (text(&drop["place"]), text(&drop["reason"]) + &symbol, number(&drop["packets"]))
        })
        .collect();
    told.sort();
    told
}

/// Panics unless all `sent` packets are accounted for; those that did not arrive.
#[track_caller]
pub fn balanced(report: &Value, sent: u64, what: &str) -> u64 {
    let path = path(report);
    assert_eq!(path["unaccounted"], 0, "{what}: {path:#} {:#}", report["rx"]);
    assert_eq!(path["sent"], sent, "{what}: {path:#}");
    sent - number(&path["received"])
}

/// Panics unless everything that is missing was lost at one place: there, for this reason, on this interface of that namespace (`None`: the receiver's own).
#[track_caller]
pub fn lost_only(
    report: &Value,
    place: &str,
    reason: &str,
    interface: &str,
    netns: Option<&Netns>,
    what: &str,
) -> u64 {
    let drops = path(report)["drops"].as_array().unwrap();
    assert_eq!(drops.len(), 1, "{what}: {:#}", path(report));
    let drop = &drops[0];
    let reason_told = drop["symbol"].as_str().unwrap_or_else(|| drop["reason"].as_str().unwrap());
    assert_eq!((drop["place"].as_str(), reason_told), (Some(place), reason), "{what}: {drop}");
    assert_eq!(drop["interface"], interface, "{what}: {drop}");
    assert_eq!(drop["netns"].as_u64(), netns.map(|netns| netns.inode().unwrap()), "{what}: {drop}");
    number(&drop["packets"])
}

/// Runs nft with `script` in `netns`.
pub fn nft(netns: &Netns, script: &str) {
    let mut nft =
        netns.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nftables is installed");
    nft.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{script}");
}

/// What the counters of all rules in `netns` come to: packets of [`LENGTH`] bytes of payload over IPv4. nftables counts buffers and their bytes; each buffer has
/// headers once.
pub fn nft_counted(netns: &Netns) -> u64 {
    const HEADERS: u64 = 28;
    let output = netns.command("nft").args(["-j", "list", "ruleset"]).output().unwrap();
    let ruleset: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rules =
        ruleset["nftables"].as_array().unwrap().iter().filter_map(|item| item["rule"]["expr"].as_array());
    let counters = rules.flatten().map(|e| &e["counter"]).filter(|counter| counter.is_object());
    counters
        .map(|counter| {
            let payload = number(&counter["bytes"]) - HEADERS * number(&counter["packets"]);
            assert_eq!(payload % LENGTH, 0, "{counter}");
            payload / LENGTH
        })
        .sum()
}

/// Runs `tc` with the words of `args` in `netns`; what it prints.
pub fn tc(netns: &Netns, args: &str) -> String {
    let output = netns.command("tc").args(args.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "tc {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// One of the kernel's UDP counters over IPv4 in `netns`, by its name in /proc/net/snmp.
pub fn snmp(netns: &Netns, protocol: &str, name: &str) -> u64 {
    let text = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let head = format!("{protocol}:");
    let mut lines = text.lines().filter(|line| line.starts_with(&head)).map(str::split_whitespace);
    let (mut names, mut values) = (lines.next().unwrap(), lines.next().unwrap());
    values.nth(names.position(|n| n == name).unwrap_or_else(|| panic!("{name}"))).unwrap().parse().unwrap()
}

/// Stops the receiver for a while in the middle of `send`.
pub fn interrupted(receiver: &Running, pause: Duration, send: impl FnOnce() -> Value) -> Value {
    let id = receiver.id();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            super::signal(id, "STOP");
            std::thread::sleep(pause);
            super::signal(id, "CONT");
        });
        send()
    })
}

/// A lab whose middle routes: the receiver is at [`ROUTED`].
pub fn routed() -> Lab {
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    ip(&lab.middle, "link set s0 nomaster");
    ip(&lab.middle, "link set r1 nomaster");
    ip(&lab.middle, "address add 10.77.0.254/24 dev s0");
    ip(&lab.middle, "address add 10.78.0.254/24 dev r1");
    lab.middle.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    ip(&receiver.netns, "address flush dev wr0 scope global");
    ip(&receiver.netns, "address add 10.78.0.11/24 dev wr0");
    ip(&receiver.netns, "route add 10.77.0.0/24 via 10.78.0.254");
    ip(&lab.sender.netns, "route add 10.78.0.0/24 via 10.77.0.254");
    let mac = |netns: &Netns, interface: &str| {
        let links: Value =
            serde_json::from_str(&ip(netns, &format!("-json link show dev {interface}"))).unwrap();
        links[0]["address"].as_str().unwrap().to_owned()
    };
    let know = |netns: &Netns, address: &str, mac: &str, interface: &str| {
        ip(netns, &format!("neigh replace {address} lladdr {mac} dev {interface} nud permanent"));
    };
    know(&lab.middle, "10.77.0.1", &mac(&lab.sender.netns, INTERFACE), "s0");
    know(&lab.middle, "10.78.0.11", &mac(&receiver.netns, INTERFACE), "r1");
    know(&lab.sender.netns, "10.77.0.254", &mac(&lab.middle, "s0"), INTERFACE);
    know(&receiver.netns, "10.78.0.254", &mac(&lab.middle, "r1"), INTERFACE);
    lab
}

/// Where the receiver of a routed lab is.
pub const ROUTED: &str = "udp://10.78.0.11:5001";

/// Where the first receiver of a bridged lab is.
pub const BRIDGED: &str = "udp://10.77.0.11:5001";

/// Ends a command by its id when dropped.
pub fn ended(mut command: Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}
