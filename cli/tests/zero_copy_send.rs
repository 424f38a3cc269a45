//! `send --zero-copy`: buffers that the kernel does not copy arrive like all others, and where they cannot be had they are copied.

mod common;

use std::fs;
use std::process::Command;

use common::{Running, run};
use serde_json::{Value, json};
use wirerate_engine::lab::{Host, INTERFACE, Lab};

const TARGET: &str = "10.77.0.11:5001";
const SEND: &str = "send 10.77.0.11:5001 --backend uring --length 1400 --rate max --count 50000";

/// Whether this kernel sends messages from registered buffers.
fn supported() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Has `sender` send to a receiver with this backend; what the sender says, once everything has arrived.
fn exchange(lab: &Lab, receiver: &str, mut sender: Command) -> Value {
    let recv = format!("recv {TARGET} --iface {INTERFACE} --backend {receiver}");
    let receiver = Running::ready_on(&lab.receivers[0], &words(&recv));
    sender.args(["--json", "--quiet"]);
    let ended = run(sender);
    ended.expect(0, &[]);
    let (sent, received) = (ended.json(), receiver.report());
    assert_eq!((&sent["tx"]["packets"], &sent["tx"]["errors"]), (&json!(50_000), &json!(0)));
    let rx = &received["rx"];
    let counts = ["unique", "packets", "lost", "lost_tail", "reordered", "corrupt"].map(|field| &rx[field]);
    assert_eq!(json!(counts), json!([50_000, 50_000, 0, 0, 0, 0]), "{received:#}");
    sent
}

fn wirerate(host: &Host, options: &str) -> Command {
    common::wirerate_on(host, &words(&format!("{SEND} {options}")))
}

/// As [`wirerate`], with so much memory that may be locked and without the privilege to lock more.
fn confined(host: &Host, bytes: u32) -> Command {
    let mut command = host.command("prlimit");
    command.arg(format!("--memlock={bytes}"));
    command.args(words("setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock"));
    command.arg(env!("CARGO_BIN_EXE_wirerate")).args(words(SEND));
    command
}

#[test]
fn nothing_is_copied_on_the_way_to_a_sink_in_the_kernel() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let sent = exchange(&lab, "xdp", wirerate(&lab.sender, ""));
    let expected = if supported() { json!(true) } else { Value::Null };
    assert_eq!(sent["backend"]["zero_copy_send"], expected);
    assert_eq!(sent["config"]["zero_copy"], "auto");
    let sent = exchange(&lab, "xdp", wirerate(&lab.sender, "--zero-copy off"));
    assert_eq!(sent["backend"]["zero_copy_send"], Value::Null);
    assert_eq!(sent["config"]["zero_copy"], "off");
}

#[test]
fn a_receiver_in_user_space_needs_a_copy() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for receiver in ["uring", "mmsg"] {
        // The receiver's buffer takes all of it, however slow it is.
        let sent = exchange(&lab, receiver, wirerate(&lab.sender, ""));
        assert_eq!(sent["backend"]["zero_copy_send"], Value::Null);
        assert_eq!(sent["warnings"], json!([]), "it is nobody's fault");
    }
}

#[test]
fn without_memory_to_lock_everything_is_copied() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for (bytes, granted) in [(64 << 10, false), (8 << 20, supported())] {
        let sent = exchange(&lab, "xdp", confined(&lab.sender, bytes));
        let expected = if granted { json!(true) } else { Value::Null };
        assert_eq!(sent["backend"]["zero_copy_send"], expected, "{bytes}");
    }
}

#[test]
fn it_comes_back_when_nobody_needs_a_copy_any_longer() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let line = format!("{TARGET} --iface {INTERFACE} --duration 60s");
    // Nobody listens: the kernel copies what goes to its UDP, and answers by ICMP.
    let mut sender = Running::ready_on(
        &lab.sender,
        &words(&format!("send {line} --backend uring --rate max --length 1400")),
    );
    sender.wait_for("interval");
    let receiver = Running::ready_on(&lab.receivers[0], &words(&format!("recv {line} --backend xdp")));
    sender.wait_for("interval");
    sender.signal("INT");
    let sent = sender.report();
    let expected = if supported() { json!(true) } else { Value::Null };
    assert_eq!(sent["backend"]["zero_copy_send"], expected, "{sent:#}");
    assert!(receiver.report()["rx"]["unique"].as_u64() > Some(0));
}
