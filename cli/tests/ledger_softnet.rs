//! What finds a CPU's receive queue full has its place in the receiver's ledger.

mod common;

use std::fmt::Write as _;
use std::fs;

use common::scene::{BRIDGED, SENDERS, balanced, lost_only, nft, number, receiver};
use wirerate_engine::lab::{INTERFACE, Lab, Netns};

/// The CPU that is too slow.
const CPU: usize = 1;

/// Packets that found the receive queue of [`CPU`] full: the second column of its line (net/core/net-procfs.c), whose thirteenth is the CPU.
fn softnet_dropped() -> u64 {
    let text = fs::read_to_string("/proc/net/softnet_stat").unwrap();
    let hex = |word: &str| u64::from_str_radix(word, 16).unwrap();
    let lines = text.lines().map(|line| line.split_whitespace().map(hex).collect::<Vec<_>>());
    lines.filter(|line| line[12] == CPU as u64).map(|line| line[1]).sum()
}

/// Has that CPU, and no other, take what comes to `netns` (receive packet steering), and makes it slow by a filter that has much to compare.
fn slow(netns: &Netns) {
    let mask = format!("echo {:x} > /sys/class/net/{INTERFACE}/queues/rx-0/rps_cpus", 1 << CPU);
    assert!(netns.command("sh").args(["-c", &mask]).status().unwrap().success());
    let mut rules =
        "add table ip t\nadd chain ip t f { type filter hook prerouting priority 0; }\n".to_owned();
    (0..4000).for_each(|_| _ = writeln!(rules, "add rule ip t f ip saddr 192.0.2.1 drop"));
    nft(netns, &rules);
}

#[test]
fn a_cpus_backlog_overflows() {
    common::require_root!();
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() <= CPU) {
        return common::skipped("a second CPU");
    }
    for (sender, backend) in SENDERS.into_iter().zip(["mmsg", "uring", "mmsg", "uring"]) {
        let what = format!("{sender:?} to {backend}");
        let lab = Lab::bridge(1).unwrap();
        let host = &lab.receivers[0];
        slow(&host.netns);
        let receiver = receiver(host, BRIDGED, backend, "");
        let before = softnet_dropped();
        let count = if sender.gso { 200_000 } else { 40_000 };
        let sent = sender.send(&lab.sender, BRIDGED, 10_000_000, count, "--cpus 0");
        let report = receiver.report();
        let missing = balanced(&report, count, &what);
        let lost = lost_only(&report, "backlog", "CPU_BACKLOG", INTERFACE, None, &what);
        assert!(lost == missing && lost > 0, "{what}: {lost} {missing}");
        let full = softnet_dropped() - before;
        if sender.gso {
            // It counts buffers, and the ledger packets.
            assert!(full > 0 && full < lost, "{what}: {full} buffers, {lost} packets");
        } else {
            let messages = number(&sent["tx"]["messages"]) - number(&report["rx"]["messages"]);
            // What hosts say to each other by themselves (MLD, neighbour discovery) finds it full, too.
            let others = full.checked_sub(lost + messages);
            assert!(
                others.is_some_and(|others| others < 16),
                "{what}: {full} found it full, {lost} lost, {messages} messages"
            );
        }
    }
}
