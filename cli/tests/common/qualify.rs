//! `wirerate qualify` between the sender and the receiver of a lab, and what its report says.
#![allow(dead_code, reason = "not every test file needs everything")]

use std::process::Command;

use serde_json::Value;
use wirerate_engine::lab::Lab;

use super::replicate::port;
use super::{Ended, WIRERATE, run};

/// Short trials at rates that any machine bears. What a test gives besides counts instead of what stands here.
pub const QUICK: &str = "--trial 500ms --search-trial 300ms --drain 200ms --rest 10ms --frame-size 256 --min-rate 300pps --max-rate 600pps \
                         --resolution 40% --link-wait 5s --offered-tolerance 15% --kernel-drops off --backend mmsg --bursts 2 --longest-burst 100ms";

/// The words of [`QUICK`] but for the options that are in `more`, and `more`.
pub fn quick(more: &str) -> Vec<String> {
    let mut words: Vec<&str> = QUICK.split_whitespace().collect();
    for option in more.split_whitespace().filter(|word| word.starts_with("--")) {
        if let Some(at) = words.iter().position(|word| *word == option) {
            words.drain(at..at + 2);
        }
    }
    words.into_iter().chain(more.split_whitespace()).map(str::to_owned).collect()
}

/// `wirerate qualify` from the lab's sender to its first receiver.
///
/// It goes before what else the machine does, where that is allowed: a sender that is held up catches up with a burst, which is another load than was asked for.
pub fn qualify(lab: &Lab, more: &str) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "-15", WIRERATE, "qualify"]);
    command.args(["--tx", &port(&lab.sender), "--rx", &port(&lab.receivers[0])]);
    command.args(quick(more));
    command
}

/// Runs it to the end: the report. Panics unless it ends with `code`.
#[track_caller]
pub fn qualified(lab: &Lab, more: &str, code: i32) -> Value {
    let mut command = qualify(lab, more);
    command.args(["--json", "--quiet"]);
    report_of(&run(command), code)
}

/// The report of what has ended with `code`.
#[track_caller]
pub fn report_of(ended: &Ended, code: i32) -> Value {
    assert_eq!(ended.code, code, "{}{}", ended.stderr, ended.stdout);
    ended.json()
}

/// The first measurement of a test.
#[track_caller]
pub fn measured<'a>(report: &'a Value, name: &str) -> &'a Value {
    let tests = report["tests"].as_array().unwrap();
    &tests.iter().find(|test| test["name"] == name).unwrap_or_else(|| panic!("no {name}: {report:#}"))["measurements"]
        [0]
}

/// All trials of a report.
pub fn trials(report: &Value) -> impl Iterator<Item = &Value> {
    let tests = report["tests"].as_array().unwrap().iter();
    let measurements = tests.flat_map(|test| test["measurements"].as_array().unwrap());
    measurements.flat_map(|measurement| measurement["trials"].as_array().unwrap())
}

/// Name and outcome of each check of the verdict.
pub fn checks(report: &Value) -> Vec<(&str, &str)> {
    let checks = report["verdict"]["checks"].as_array().expect("checks");
    checks.iter().map(|check| (check["name"].as_str().unwrap(), check["outcome"].as_str().unwrap())).collect()
}
