//! Several NIC queues, each with a worker and an AF_XDP socket of its own, over a veth pair with four.

mod common;

use std::os::fd::AsRawFd;

use common::{Running, ip, run};
use serde_json::Value;
use wirerate_engine::lab::Netns;

const TARGET: &str = "10.79.0.2:5001";

/// `va` and `vb`, four queues each way.
struct Pair {
    a: Netns,
    b: Netns,
}

impl Pair {
    fn new() -> Self {
        let (a, b) = (Netns::new().unwrap(), Netns::new().unwrap());
        let file = b.run(|| std::fs::File::open("/proc/thread-self/ns/net").unwrap());
        let there = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let queues = "numtxqueues 4 numrxqueues 4";
        ip(&a, &format!("link add va {queues} type veth peer name vb {queues} netns {there}"));
        for (netns, name, address) in [(&a, "va", "10.79.0.1/24"), (&b, "vb", "10.79.0.2/24")] {
            ip(netns, &format!("address add {address} dev {name}"));
            ip(netns, &format!("link set {name} up"));
        }
        Self { a, b }
    }

    fn receive(&self, options: &str) -> Running {
        let line = format!("recv {TARGET} --iface vb --backend afxdp --interval 100ms {options}");
        let words: Vec<&str> = line.split_whitespace().collect();
        Running::ready(self.b.command(common::WIRERATE), &words)
    }

    fn send(&self, options: &str) -> Value {
        let mut command = self.a.command(common::WIRERATE);
        let line = format!("send {TARGET} --iface va --backend afxdp --json -q {options}");
        command.args(line.split_whitespace());
        let ended = run(command);
        ended.expect(0, &[]);
        ended.json()
    }
}

fn numbers(report: &Value, list: &str, field: &str) -> Vec<u64> {
    let list = report[list].as_array().unwrap_or_else(|| panic!("{list}: {report}"));
    list.iter().map(|item| item[field].as_u64().unwrap()).collect()
}

fn warning<'a>(report: &'a Value, code: &str) -> Option<&'a Value> {
    report["warnings"].as_array().unwrap().iter().find(|w| w["code"] == code)
}

#[test]
fn every_queue_has_its_share() {
    common::require_root!();
    let pair = Pair::new();
    let receiver = pair.receive("");
    let sent = pair.send("--queues 0-3 --cpus 0,0,0,0 --rate 20kpps --count 6400");
    let received = receiver.report();
    assert_eq!(numbers(&sent, "workers", "queue"), [0, 1, 2, 3]);
    assert_eq!(numbers(&sent, "workers", "packets"), [1600; 4], "{}", sent["workers"]);
    assert_eq!(numbers(&received, "workers", "packets"), [1600; 4], "{}", received["workers"]);
    assert_eq!(received["rx"]["unique"], 6400, "{}", received["rx"]);
    assert_eq!(received["ledger"]["paths"][0]["unaccounted"], 0);
    // Eight streams a queue, each with a source port of its own: RSS of a real NIC spreads them.
    let streams = received["rx"]["streams"].as_array().unwrap();
    let sources: std::collections::BTreeSet<_> =
        streams.iter().map(|s| s["source"].as_str().unwrap()).collect();
    assert_eq!((streams.len(), sources.len()), (32, 32));
    // A kernel with NUMA nodes says where the frames lie.
    if std::path::Path::new("/sys/devices/system/node/node0").exists() {
        assert_eq!(numbers(&sent, "workers", "memory_node").len(), 4);
        assert_eq!(numbers(&received, "workers", "memory_node").len(), 4);
    }
}

#[test]
fn a_subset_of_the_queues_is_said_to_be_one() {
    common::require_root!();
    let pair = Pair::new();
    for (options, expected) in [("--queues 0,1", true), ("--queues 0,1 --steer off", false)] {
        let receiver = pair.receive(options);
        pair.send("--queues 0-3 --cpus 0,0,0,0 --rate 20kpps --count 3200");
        let received = receiver.report();
        // A veth takes no rules.
        let warning = warning(&received, "not-directed");
        assert_eq!(warning.is_some(), expected, "{}", received["warnings"]);
        if let Some(warning) = warning {
            assert!(warning["text"].as_str().unwrap().contains("no-socket"), "{warning}");
        }
        assert_eq!(received["rx"]["unique"], 1600, "{}", received["rx"]);
        let no_socket = received["steer"].as_array().unwrap().iter().filter(|s| s["verdict"] == "no-socket");
        assert!(
            no_socket.map(|s| s["packets"].as_u64().unwrap()).sum::<u64>() >= 1600,
            "{}",
            received["steer"]
        );
        let path = &received["ledger"]["paths"][0];
        let passed = path["drops"].as_array().unwrap().iter().find(|d| d["reason"] == "passed");
        assert_eq!((&path["sent"], &passed.unwrap()["packets"]), (&3200.into(), &1600.into()), "{path}");
        assert_eq!(path["unaccounted"], 0, "{path}");
    }
}

/// What comes in fragments comes to the worker of the first queue, whatever queue the rest of its stream comes by.
#[test]
fn fragments_from_any_queue_are_part_of_their_streams() {
    common::require_root!();
    let pair = Pair::new();
    for (sending, sizes, frames) in
        [("3 --cpus 0", "2000", 2.0), ("0-3 --cpus 0,0,0,0", "100,1472,1473,4000", 7.0 / 4.0)]
    {
        let receiver = pair.receive("--verify-payload");
        let sent = pair.send(&format!("--queues {sending} --rate 8kpps --count 6400 --length {sizes}"));
        let received = receiver.report();
        let fragments = (6400.0 * frames) as u64;
        assert_eq!(sent["tx"]["fragments"], fragments, "{}", sent["tx"]);
        let rx = &received["rx"];
        for (field, expected) in [
            ("unique", 6400),
            ("fragments", fragments),
            ("lost", 0),
            ("lost_tail", 0),
            ("duplicate", 0),
            ("corrupt", 0),
            ("before_start", 0),
        ] {
            assert_eq!(rx[field], expected, "{field}: {rx} {}", received["steer"]);
        }
        assert_eq!(received["ledger"]["paths"][0]["unaccounted"], 0, "{}", received["ledger"]);
        let reordered = rx["reordered"].as_u64().unwrap() > 0;
        assert_eq!(warning(&received, "two-ways").is_some(), reordered, "{}", received["warnings"]);
    }
}

#[test]
fn a_port_that_another_program_has_costs_no_more_than_the_fragments() {
    common::require_root!();
    let pair = Pair::new();
    let _other = pair.b.run(|| std::net::UdpSocket::bind(TARGET).unwrap());
    let receiver = pair.receive("");
    pair.send("--rate 2kpps --count 400 --length 100,2000");
    let received = receiver.report();
    assert_eq!(received["rx"]["unique"], 200, "{}", received["rx"]);
    let text =
        warning(&received, "fragments-unseen").expect("a warning")["text"].as_str().unwrap().to_owned();
    assert!(text.contains("400 fragments") && text.contains("in use"), "{text}");
}

#[test]
fn busy_polling_is_granted_and_receives_everything() {
    common::require_root!();
    let pair = Pair::new();
    let receiver = pair.receive("--queues 0 --steer off --busy-poll 128");
    let sent = pair.send("--busy-poll --rate 5kpps --count 2000");
    let received = receiver.report();
    assert_eq!(sent["config"]["busy_poll"], 64);
    assert_eq!(received["config"]["busy_poll"], 128);
    assert_eq!(received["rx"]["unique"], 2000, "{}", received["rx"]);
    assert_eq!(received["ledger"]["paths"][0]["unaccounted"], 0);
}

#[test]
fn huge_pages_that_are_missing_are_asked_for() {
    common::require_root!();
    let free = || {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find(|l| l.starts_with("HugePages_Free:")).map(str::to_owned);
        line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok())
    };
    let pair = Pair::new();
    if free() != Some(0) {
        return common::skipped("this machine has huge pages, or none at all");
    }
    let mut command = pair.a.command(common::WIRERATE);
    let line = format!("send {TARGET} --iface va --backend afxdp --huge-pages on --count 1");
    command.args(line.split_whitespace());
    run(command).expect(4, &["no huge pages", "vm.nr_hugepages=", "--huge-pages auto"]);
}

#[test]
fn sockets_poll_where_there_is_something_to_poll() {
    common::require_root!();
    let pair = Pair::new();
    // A veth polls only while it puts packets together, and only what its peer could not have sent together.
    let mut ethtool = pair.a.command("ethtool");
    ethtool.args(["-K", "va", "tso", "off"]);
    run(ethtool).expect(0, &[]);
    for (gro, warns) in [("off", true), ("on", false)] {
        let mut ethtool = pair.b.command("ethtool");
        ethtool.args(["-K", "vb", "gro", gro]);
        run(ethtool).expect(0, &[]);
        for backend in ["uring", "mmsg"] {
            let line = format!("recv {TARGET} --iface vb --backend {backend} --busy-poll");
            let receiver = Running::ready(
                pair.b.command(common::WIRERATE),
                &line.split_whitespace().collect::<Vec<_>>(),
            );
            pair.send("--rate 5kpps --count 2000");
            let received = receiver.report();
            assert_eq!(received["rx"]["unique"], 2000, "{backend}: {}", received["rx"]);
            assert_eq!(received["rx"]["lost"], 0, "{backend}");
            assert_eq!(warning(&received, "no-napi").is_some(), warns, "{backend} gro {gro}: {received:#}");
        }
    }
}
