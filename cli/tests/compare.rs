//! `wirerate compare` over the lab with the real iperf3 and iperf 2: what they say, what is proven, and witnesses that are neither.

mod common;

use std::fs;

use common::inject::Injection;
use common::replicate::port;
use common::{Ended, Running, require_root, run, wirerate, wirerate_on};
use serde_json::{Value, json};
use wirerate_engine::lab::{Lab, Netns};

#[path = "common/schema.rs"]
mod schema_checks;

/// Rates that any machine bears, and datagrams that a rule of nftables can tell from all others.
const LOAD: &str = "--duration 1s --length 200 --segments off --rate 2000pps";

/// `wirerate compare` in the lab's sender, to its first receiver.
fn command(lab: &Lab, arguments: &str) -> std::process::Command {
    let mut command =
        wirerate_on(&lab.sender, &["compare", "--from", "wr0", "--to", &port(&lab.receivers[0])]);
    command.args(arguments.split_whitespace());
    command
}

/// Runs it to its end, which has to be `status`; its report fits the schema.
#[track_caller]
fn compared(lab: &Lab, arguments: &str, status: i32) -> (Value, Ended) {
    let ended = run(command(lab, &format!("{LOAD} --json {arguments}")));
    assert_eq!(ended.code, status, "{}{}", ended.stderr, ended.stdout);
    let report = ended.json();
    let schema = serde_json::from_str(include_str!("../../docs/compare.schema.json")).expect("JSON");
    assert_eq!(schema_checks::errors(&schema, &report), Vec::<String>::new());
    (report, ended)
}

fn tools(report: &Value) -> &[Value] {
    report["tools"].as_array().expect("a list")
}

/// Every trial of a tool; each has to have figures.
fn trials(tool: &Value) -> &[Value] {
    let trials = tool["trials"].as_array().expect("a list");
    assert!(trials.iter().all(|trial| trial["failure"].is_null()), "{tool:#}");
    trials
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no count: {value}"))
}

/// Datagrams that were dropped between the ends, as proven of a trial whose sum is right.
#[track_caller]
fn between(trial: &Value) -> u64 {
    let proven = &trial["proven"];
    let all = |at: &str| -> u64 {
        let drops = proven["drops"].as_array().expect("drops are known").iter();
        drops.filter(|drop| at.is_empty() || drop["at"] == at).map(|drop| number(&drop["packets"])).sum()
    };
    if proven["by"] == "kernel" {
        let [sent, received, copies, rest] =
            ["sent", "received", "copies", "unaccounted"].map(|name| number(&proven[name]));
        assert_eq!(sent + copies, received + all("") + rest, "{proven:#}");
    }
    all("between")
}

/// Packets that the shaper in the middle says it dropped.
fn dropped_by(middle: &Netns, port: &str) -> u64 {
    let output = middle.command("tc").args(["-s", "-j", "qdisc", "show", "dev", port]).output().unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    number(&shown[0]["drops"])
}

#[test]
fn a_shaper_is_what_limits_all() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = lab.receivers[0].port.clone();
    let words = format!("qdisc add dev {receiver} root tbf rate 2mbit burst 3000 limit 6000");
    let ended = run({
        let mut tc = lab.middle.command("tc");
        tc.args(words.split_whitespace());
        tc
    });
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let before = dropped_by(&lab.middle, &receiver);
    let (report, ended) = compared(&lab, "--rounds 2 --tools iperf3-udp,iperf2,uring,mmsg", 0);
    let told: u64 = tools(&report).iter().flat_map(trials).map(between).sum();
    let witness = dropped_by(&lab.middle, &receiver) - before;
    // The shaper drops what is no trial's, too: a report of IGMP, a neighbour's question.
    assert!(told > 0 && told <= witness && witness - told < 20, "{told} told, {witness} dropped by tc");
    for tool in tools(&report) {
        assert_eq!(tool["limit"]["by"], "drops", "{tool:#}");
        assert!(tool["limit"]["text"].as_str().unwrap().contains(&format!("qdisc of {receiver}, between")));
        for trial in trials(tool) {
            assert!(
                number(&trial["cpu"]["sender"]["system_ns"]) + number(&trial["cpu"]["sender"]["user_ns"]) > 0
            );
            assert!(trial["cpu"]["receiver"]["s_per_gb"].is_f64(), "{trial:#}");
        }
    }
    // Forwards, then backwards.
    let turns =
        |tool: usize| trials(&tools(&report)[tool]).iter().map(|t| number(&t["turn"])).collect::<Vec<_>>();
    assert_eq!((turns(0), turns(3)), (vec![1, 4], vec![4, 1]));
    assert!(ended.stderr.contains("round 2 of 2: iperf2; about"), "{}", ended.stderr);
}

/// What iperf3 and we state and what is proven of both, through rules that lose `lost` and copy `copied` of each, in the first run of three in which this machine lost nothing by itself.
fn through(rules: [&[&str]; 2], lost: u64, copied: u64) -> [Value; 2] {
    let lab = Lab::bridge(1).unwrap();
    let mut last = Value::Null;
    for _ in 0..3 {
        let mut found = Vec::new();
        for (tool, rules) in ["iperf3-udp", "mmsg"].into_iter().zip(rules) {
            let injection = Injection::begin(&lab.middle, rules);
            let (report, _) = compared(&lab, &format!("--rounds 1 --quiet --tools {tool}"), 0);
            let trial = trials(&tools(&report)[0])[0].clone();
            let (really_lost, really_copied) = injection.packets();
            assert_eq!(between(&trial), really_lost, "{trial:#}");
            let proven = &trial["proven"];
            assert!(number(&proven["lost"]) >= really_lost, "{proven:#}");
            let exact = number(&proven["lost"]) == really_lost
                && number(&proven["copies"]) == really_copied
                && number(&proven["unaccounted"]) == 0;
            assert!(really_lost >= lost && really_copied >= copied, "{really_lost} {really_copied}");
            last = trial.clone();
            if exact {
                found.push(trial);
            }
        }
        if let Ok(both) = found.try_into() {
            return both;
        }
    }
    panic!("never exact: {last:#}");
}

#[test]
fn what_is_lost_at_the_end_is_proven_and_not_stated() {
    require_root!();
    // iperf3's number stands behind its time and counts from 1, ours behind check, kind, run and stream.
    let rules = [
        "udp dport 5201 udp length 208 @th,128,32 > 1000 LOSE",
        "udp dport 5201 udp length 208 @th,136,32 >= 1000 LOSE",
    ];
    let [iperf3, ours] = through([&rules[..1], &rules[1..]], 100, 0);
    assert_eq!(iperf3["stated"]["lost"], 0, "{iperf3:#}");
    assert!(number(&iperf3["proven"]["lost"]) >= 100);
    assert_eq!(ours["stated"]["lost"], ours["proven"]["lost"], "{ours:#}");
}

#[test]
fn copies_hide_losses_from_iperf3_only() {
    require_root!();
    let data = "udp dport 5201 udp length 208";
    let (lose, copy) =
        (format!("{data} numgen inc mod 100 50 LOSE"), format!("{data} numgen inc mod 99 10 COPY"));
    let rules: [&str; 2] = [&lose, &copy];
    let [iperf3, ours] = through([&rules, &rules], 5, 5);
    assert!(iperf3["stated"]["lost"].as_i64().unwrap() <= 1, "{iperf3:#}");
    assert_eq!(ours["stated"]["lost"], ours["proven"]["lost"]);
    assert_eq!(ours["stated"]["duplicate"], ours["proven"]["copies"]);
}

#[test]
fn an_earlier_result_and_what_is_missing() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, report: &Value| {
        let path = directory.path().join(name);
        fs::write(&path, report.to_string()).unwrap();
        path.display().to_string()
    };
    // A thousand times what is offered now, without loss.
    let fast = json!({"start": {"version": "iperf 3.9", "test_start": {"protocol": "UDP", "blksize": 200, "num_streams": 1, "target_bitrate": 3.2e9}},
        "intervals": [], "end": {"sum_sent": {"bits_per_second": 3.2e9}, "sum_received": {"bits_per_second": 3.2e9, "lost_percent": 0}}});
    let path = write("fast.json", &fast);
    let more = "--rounds 2 --tools iperf3-udp,iperf3-tcp,iperf2 --iperf2 /nowhere/iperf --expect-not-worse 50% --quiet";
    let (report, _) = compared(&lab, &format!("--baseline {path} {more}"), 3);
    assert_eq!(report["verdict"]["outcome"], "fail");
    let comparisons = report["baseline"]["comparisons"].as_array().unwrap();
    let delivered = comparisons.iter().find(|c| c["measure"] == "delivered_bps").expect("delivered");
    assert_eq!((&delivered["worse"], &delivered["beyond_noise"]), (&json!(true), &json!(true)));
    assert_eq!(report["warnings"][0]["code"], "other-load");
    assert_eq!(report["missing"][0]["name"], "iperf2");
    assert!(report["missing"][0]["why"].as_str().unwrap().contains("/nowhere/iperf"), "{report:#}");
    let tcp = &tools(&report)[1];
    assert_eq!((&tcp["transport"], &trials(tcp)[0]["proven"]["by"]), (&json!("tcp"), &json!("tcp")));
    assert!(number(&trials(tcp)[0]["delivered"]["payload_bytes"]) > 0);
    // Its own report, with all that it delivered divided by a thousand: nothing is worse.
    let mut old = report.clone();
    old["tools"] = json!([tools(&report)[0]]);
    for end in ["median", "low", "high"] {
        let figure = &mut old["tools"][0]["summary"]["delivered_bps"][end];
        *figure = json!(figure.as_f64().unwrap() / 1000.0);
        old["tools"][0]["summary"]["loss_stated_percent"][end] = json!(100.0);
    }
    let path = write("old.json", &old);
    let ended = run(command(
        &lab,
        &format!("{LOAD} --baseline {path} --rounds 1 --tools iperf3-udp --expect-not-worse 5%"),
    ));
    assert_eq!(ended.code, 0, "{}{}", ended.stderr, ended.stdout);
    for words in
        ["beside", "delivered is better by", "verdict", "loss proven", "CPU s/GB", "by the kernels' counters"]
    {
        assert!(ended.stdout.contains(words), "{words:?} is missing in: {}", ended.stdout);
    }
}

#[test]
fn ctrl_c_gives_the_rounds_so_far() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    let mut running = Running::ready(command(&lab, &format!("{LOAD} --rounds 100 --tools mmsg,iperf2")), &[]);
    running.wait_for("trial");
    running.signal("INT");
    let (report, status) = running.finish();
    let report = report.expect("a report");
    assert_eq!((status, &report["interrupted"]), (0, &json!(true)));
    let done: usize = tools(&report).iter().map(|tool| trials(tool).len()).sum();
    assert!((1..10).contains(&done), "{done}");
}

#[test]
fn af_xdp_leaves_no_program_behind() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    let (report, _) = compared(&lab, "--rounds 1 --quiet --tools afxdp,mmsg", 0);
    for tool in tools(&report) {
        assert!(number(&trials(tool)[0]["proven"]["received"]) > 0, "{tool:#}");
    }
    for host in lab.hosts() {
        let shown = common::ip(&host.netns, "-d link show wr0");
        assert!(!shown.contains("xdp"), "{shown}");
    }
}

#[test]
fn wrong_arguments_are_told_before_anything_begins() {
    for (arguments, words) in [
        ("--from lo --to lo --duration 1500ms", "whole seconds"),
        ("--from lo --to lo --tools hping", "there is none of that name"),
        ("--from lo --to lo --rate nonsense", "rate nonsense"),
        ("--from lo --to lo --expect-not-worse 5%", "--baseline"),
        ("--from lo --to lo --baseline /nowhere/old.json", "cannot be read"),
        ("--from lo --to nix0", "no interface nix0"),
        ("--from lo", "--to"),
    ] {
        let mut command = wirerate(&["compare"]);
        command.args(arguments.split_whitespace());
        let ended = run(command);
        assert!(matches!(ended.code, 2 | 4), "{arguments}: {}{}", ended.code, ended.stderr);
        assert!(ended.stderr.contains(words), "{arguments}: {words:?} is missing in {}", ended.stderr);
    }
}
