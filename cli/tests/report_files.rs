//! `wirerate report` without a browser: what it reads, what it refuses, its CSV.

mod common;
#[path = "common/results.rs"]
mod results;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Ended, run, wirerate};
use serde_json::{Value, json};

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let file = directory.join(name);
    fs::write(&file, text).unwrap();
    file
}

fn report(file: &Path, more: &[&str]) -> Ended {
    run(wirerate(&[&["report", file.to_str().unwrap()], more].concat()))
}

/// Rows of a table by their titles.
fn rows(csv: &str) -> Vec<Vec<(String, String)>> {
    let mut lines = csv.split("\r\n").filter(|l| !l.is_empty());
    let titles: Vec<&str> = lines.next().expect("titles").split(',').collect();
    lines
        .map(|l| titles.iter().zip(l.split(',')).map(|(t, v)| ((*t).to_owned(), v.to_owned())).collect())
        .collect()
}

#[test]
fn tables_have_every_row_and_the_numbers_of_the_result() {
    let directory = tempfile::tempdir().unwrap();
    let result = results::recv(1200);
    let file = write(directory.path(), "recv.json", &result.to_string());
    let ended = report(&file, &["--csv"]);
    ended.expect(0, &[]);
    let intervals = rows(&ended.stdout);
    assert_eq!(intervals.len(), 1200);
    for (row, interval) in intervals.iter().zip(result["intervals"].as_array().unwrap()) {
        for (title, path) in
            [("end_ns", "/end_ns"), ("rx_packets", "/rx/packets"), ("latency_p99_ns", "/rx/latency_ns/p99")]
        {
            let value = &row.iter().find(|(t, _)| t == title).expect(title).1;
            assert_eq!(*value, interval.pointer(path).unwrap().to_string(), "{title}");
        }
    }
    for (table, count) in [("streams", 12), ("workers", 4), ("drops", 6), ("times", 3)] {
        let ended = report(&file, &["--csv", "--table", table]);
        ended.expect(0, &[]);
        assert_eq!(rows(&ended.stdout).len(), count, "{table}:\n{}", ended.stdout);
    }
    report(&file, &["--csv", "--table", "trials"]).expect(2, &["recv.json has none", "intervals"]);
    report(&file, &["--table", "trials"]).expect(2, &["--csv"]);
    let file = write(directory.path(), "replicate.json", &results::replicate().to_string());
    let trials = report(&file, &["--csv"]);
    assert_eq!(rows(&trials.stdout).len(), 8, "{}", trials.stdout);
    assert!(trials.stdout.starts_with("test,trial,purpose,frame_bytes,groups,duration_ns,intended_pps"));
    // Every figure by its JSON Pointer.
    let figures = report(&file, &["--csv", "--table", "figures"]);
    assert!(
        figures.stdout.contains("/tests/0/measurements/0/throughput/pps,50000.0\r\n"),
        "{}",
        figures.stdout
    );
}

#[test]
fn a_text_is_no_formula_in_a_spreadsheet() {
    let directory = tempfile::tempdir().unwrap();
    let mut result = results::recv(1);
    result["rx"]["streams"] =
        json!([{"id": 0, "source": "=HYPERLINK(\"x\")", "group": "a,b\"c\nd", "lost": -3}]);
    let file = write(directory.path(), "r.json", &result.to_string());
    let ended = report(&file, &["--csv", "--table", "streams"]);
    assert!(ended.stdout.contains("\"'=HYPERLINK(\"\"x\"\")\",\"a,b\"\"c\nd\""), "{}", ended.stdout);
    assert!(ended.stdout.contains(",-3,"), "numbers are numbers: {}", ended.stdout);
}

#[test]
fn lines_of_events_are_read_and_so_is_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    let mut lines = String::from("{\"event\":\"ready\"}\n");
    for interval in results::recv(5)["intervals"].as_array().unwrap() {
        lines += &(json!({"event": "interval", "interval": interval}).to_string() + "\n");
    }
    // Ended in the midst of a line.
    let cut = write(directory.path(), "cut.jsonl", &format!("{lines}{{\"event\":\"inter"));
    let page = directory.path().join("cut.html");
    report(&cut, &[]).expect(0, &["cut.html", "cut off", "end before the report"]);
    assert!(fs::read_to_string(&page).unwrap().contains("data-state=\"cut\""));
    lines += &json!({"event": "report", "report": results::recv(5)}).to_string();
    let whole = write(directory.path(), "whole.jsonl", &lines);
    let ended = report(&whole, &["--output", "-"]);
    ended.expect(0, &[]);
    assert!(ended.stdout.starts_with("<!doctype html>") && ended.stdout.contains("data-state=\"complete\""));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "exec \"$0\" report - < \"$1\"", common::WIRERATE, whole.to_str().unwrap()]);
    assert_eq!(run(shell).stdout, ended.stdout);
}

#[test]
fn what_is_no_result_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let whole = results::recv(2).to_string();
    let mut newer: Value = results::recv(2);
    newer["schema"] = json!("wirerate.report/2");
    for (name, text, words) in [
        ("half.json", whole[..whole.len() / 2].to_owned(), "not a whole result"),
        ("empty.json", String::new(), "not a whole result"),
        ("other.json", "{\"a\":1}".to_owned(), "it has no \"schema\""),
        ("newer.json", newer.to_string(), "this version reads wirerate.report/1"),
        ("iperf3.json", "{\"start\":{},\"intervals\":[],\"end\":{}}".to_owned(), "iperf3"),
        ("lines.jsonl", "{\"event\":\"ready\"}\nx\n{}\n".to_owned(), "line 2"),
    ] {
        let ended = report(&write(directory.path(), name, &text), &[]);
        ended.expect(2, &[name, words, "fix: "]);
        assert!(!directory.path().join(name).with_extension("html").exists(), "{name}: nothing is written");
    }
    fs::write(directory.path().join("bytes.json"), [0xff, 0xfe, 0]).unwrap();
    report(&directory.path().join("bytes.json"), &[]).expect(2, &["byte 0 is no UTF-8"]);
    report(&directory.path().join("none.json"), &[])
        .expect(2, &["none.json: cannot be read", "No such file"]);
    report(directory.path(), &[]).expect(2, &["cannot be read", "directory"]);
    let file = write(directory.path(), "r.json", &whole);
    report(&file, &["--output", "/nowhere/r.html"])
        .expect(2, &["/nowhere/r.html: cannot be written", "fix: "]);
}
