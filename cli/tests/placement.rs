//! Workers run where the report says and as they were asked to: against /proc.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Nobody, Running, report_on, run, wirerate_on};
use serde_json::{Value, json};
use wirerate_engine::host::cpu::Cpus;
use wirerate_engine::lab::{INTERFACE, Lab};

const TARGET: &str = "239.1.2.3:5001";

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The receive workers of a process, as their directories in /proc.
fn workers(id: u32) -> Vec<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap().map(|t| t.unwrap().path());
    tasks.filter(|t| fs::read_to_string(t.join("comm")).unwrap().starts_with("recv ")).collect()
}

/// Field `number` of a task's stat, counted from 1 as in proc(5).
fn stat(task: &Path, number: usize) -> u64 {
    let stat = fs::read_to_string(task.join("stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    after_name.split_whitespace().nth(number - 3).unwrap().parse().unwrap()
}

/// A line of a task's status.
fn status(task: &Path, name: &str) -> String {
    let status = fs::read_to_string(task.join("status")).unwrap();
    status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned()
}

#[test]
fn workers_are_where_the_report_says() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let line = format!("recv {TARGET} --iface {INTERFACE} --dst-port 5001-5003");
    let mut receiver = Running::ready_on(&lab.receivers[0], &words(&line));
    let mut on: Vec<_> = workers(receiver.id())
        .iter()
        .map(|w| status(w, "Cpus_allowed_list:").parse::<u64>().unwrap())
        .collect();
    let line = format!("send {TARGET} --iface {INTERFACE} --dst-port 5001-5003 --count 300 --rate 3kpps");
    let sent = report_on(&lab.sender, &words(&line));
    let received = receiver.wait_for("report")["report"].clone();
    let cpus = |report: &Value| -> Vec<u64> {
        let all = report["workers"].as_array().unwrap().iter();
        all.map(|w| {
            assert!(!w["why"].as_str().unwrap().is_empty(), "{w}");
            w["cpu"].as_u64().unwrap()
        })
        .collect()
    };
    let mut reported = cpus(&received);
    on.sort_unstable();
    reported.sort_unstable();
    assert_eq!(on, reported);
    // Three receivers leave the sender a CPU of its own where there are four.
    if Cpus::read().unwrap().allowed.len() > 3 {
        assert!(!reported.contains(&cpus(&sent)[0]), "{reported:?}");
    }
    assert_eq!(received["host"]["memory_locked"], true, "root may");
    assert_eq!(received["config"]["sched"], "other");
}

#[test]
fn memory_is_locked_as_the_kernel_says() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let line = format!("recv {TARGET} --iface {INTERFACE}");
    let receiver = Running::ready_on(&lab.receivers[0], &words(&line));
    let worker = &workers(receiver.id())[0];
    assert!(!status(worker, "VmLck:").starts_with("0 "), "{}", status(worker, "VmLck:"));

    let nobody = Nobody::new();
    let mut limited = lab.receivers[0].command("prlimit");
    limited.args(["--memlock=65536:65536", "setpriv"]);
    let receiver = Running::ready(nobody.become_by(limited), &words(&line));
    let worker = &workers(receiver.id())[0];
    assert!(status(worker, "VmLck:").starts_with("0 "), "{}", status(worker, "VmLck:"));
    receiver.signal("INT");
    assert_eq!(receiver.finish().0.unwrap()["host"]["memory_locked"], false);
}

#[test]
fn fifo_is_granted_or_refused_in_words() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let line = format!("recv {TARGET} --iface {INTERFACE} --sched fifo:7 --duration 500ms");
    let mut tried = wirerate_on(&lab.receivers[0], &words(&line));
    tried.args(["--json", "--quiet"]);
    let ended = run(tried);
    if ended.code == 0 {
        assert_eq!(ended.json()["config"]["sched"], "fifo:7");
        let line = format!("recv {TARGET} --iface {INTERFACE} --sched fifo:7");
        let receiver = Running::ready_on(&lab.receivers[0], &words(&line));
        let worker = &workers(receiver.id())[0];
        // SCHED_FIFO is policy 1.
        assert_eq!((stat(worker, 41), stat(worker, 40)), (1, 7));
        let rest = fs::read_to_string("/proc/sys/kernel/sched_rt_runtime_us").unwrap();
        receiver.signal("INT");
        let warnings = receiver.finish().0.unwrap()["warnings"].clone();
        let warned = warnings.as_array().unwrap().iter().any(|w| w["code"] == json!("real-time-budget"));
        assert_eq!(warned, rest.trim() != "-1", "{rest}: {warnings}");
    } else {
        ended.expect(4, &["--sched fifo:7", "SCHED_FIFO is refused", "CAP_SYS_NICE"]);
    }

    // Nobody without a limit is refused for certain.
    let nobody = Nobody::new();
    let mut limited = lab.receivers[0].command("prlimit");
    limited.args(["--rtprio=0:0", "setpriv"]);
    let mut command = nobody.become_by(limited);
    command.args(words(&line));
    run(command).expect(4, &["--sched fifo:7", "SCHED_FIFO is refused", "ulimit -r 7"]);
}
