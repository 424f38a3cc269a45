//! Packets that leave at times of their own: which queueing discipline it takes, and what the receiver sees of it.

mod common;

use std::process::Command;

use common::{Running, report_on, run, wirerate_on};
use wirerate_engine::lab::{INTERFACE, Lab, Netns};

const TARGET: &str = "239.1.2.3:5001";

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Runs `tc` inside the namespace; `false` when it refuses, as it does what the kernel does not have.
fn tc(netns: &Netns, line: &str) -> bool {
    let mut command: Command = netns.command("tc");
    command.args(words(line)).output().expect("tc runs (apt-get install iproute2)").status.success()
}

/// The interface's queueing disciplines, as `tc` shows them.
fn shown(netns: &Netns) -> String {
    let mut command: Command = netns.command("tc");
    let output = command.args(["qdisc", "show", "dev", INTERFACE]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_queueing_discipline_without_times_is_refused_by_name() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let netns = &lab.sender.netns;
    let line = format!("send {TARGET} --iface {INTERFACE} --txtime --rate 1kpps --count 5");
    let fix = format!("tc qdisc replace dev {INTERFACE} root fq");
    for qdisc in ["noqueue", "pfifo limit 100", "tbf rate 1gbit burst 100kb latency 50ms"] {
        assert!(qdisc == "noqueue" || tc(netns, &format!("qdisc replace dev {INTERFACE} root {qdisc}")));
        let kind = words(qdisc)[0];
        assert!(shown(netns).contains(kind), "the witness: {}", shown(netns));
        let said = run(wirerate_on(&lab.sender, &words(&line)));
        said.expect(4, &[INTERFACE, &format!("the queueing discipline {kind},"), &fix]);
    }
    // Without an interface it is the one that the route leads to: here the loopback.
    let said = run(wirerate_on(&lab.sender, &words("send 127.0.0.1:5001 --txtime --rate 1kpps --count 5")));
    said.expect(4, &["lo has the queueing discipline noqueue,", "tc qdisc replace dev lo root fq"]);
}

#[test]
fn what_does_not_go_with_times_is_a_usage_error() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for (options, words_said) in [
        ("--rate max", ["--txtime", "give a --rate"]),
        ("--rate 1kpps --backend uring", ["--backend uring", "use --backend mmsg"]),
        ("--rate 1kpps --backend afxdp", ["--backend afxdp", "use --backend mmsg"]),
        ("--rate 1kpps --burst 10", ["in a burst", "leave --burst out"]),
        ("--rate 1kpps --segments 4", ["one time", "--segments off"]),
    ] {
        let line = format!("send {TARGET} --iface {INTERFACE} --txtime --count 5 {options}");
        run(wirerate_on(&lab.sender, &words(&line))).expect(2, &words_said);
    }
}

/// Where this kernel has fq; the guest of `scripts/zero-copy --full` has it in any case.
#[test]
fn fq_lets_packets_go_at_their_times() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    if !tc(&lab.sender.netns, &format!("qdisc replace dev {INTERFACE} root fq")) {
        eprintln!("SKIPPED: this kernel has no fq: scripts/zero-copy --full runs it in a guest that does");
        return;
    }
    let line = format!("recv {TARGET} --iface {INTERFACE} --backend mmsg");
    let receiver = Running::ready_on(&lab.receivers[0], &words(&line));
    lab.wait_for_members([239, 1, 2, 3].into(), 1).unwrap();
    let line = format!("send {TARGET} --iface {INTERFACE} --txtime --rate 2kpps --count 1000 --streams 3");
    let sent = report_on(&lab.sender, &words(&line));
    assert_eq!(sent["backend"]["name"], "mmsg");
    assert!(sent["backend"]["why"].as_str().unwrap().contains("--txtime"));
    assert_eq!(sent["config"]["txtime"]["qdisc"], "fq");
    assert_eq!((&sent["tx"]["packets"], &sent["tx"]["errors"]), (&1000.into(), &0.into()));
    assert_eq!(sent["tx"]["burst"]["max"], 1);
    assert!(sent["tx"]["overdue"].is_u64());
    let heard = receiver.report();
    assert_eq!(heard["rx"]["unique"], 1000);
    for figure in ["lost", "lost_tail", "reordered", "duplicate"] {
        assert_eq!(heard["rx"][figure], 0, "{figure}");
    }
}
