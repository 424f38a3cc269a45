//! `wirerate replicator`: copies to those who have joined, by every datapath, and tells what it did when it is interrupted.

use serde_json::Value;
use wirerate_engine::lab::{INTERFACE, Lab};
use wirerate_engine::replicator::{Fate, Group, Memberships, Port, Report, SCHEMA};
use wirerate_engine::report::Warning;

mod common;
#[path = "common/schema.rs"]
mod schema_checks;

use common::{Running, WIRERATE, ip, report_on, run, wirerate};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/replicator.schema.json")).expect("the schema is JSON")
}

#[track_caller]
fn assert_valid(report: &Value) {
    let errors = schema_checks::errors(&schema(), report);
    assert!(errors.is_empty(), "{errors:#?}\n{report:#}");
}

#[test]
fn the_schema_describes_every_field() {
    let report = Report {
        schema: SCHEMA,
        by: "xdp",
        from: vec!["s0".into()],
        duration_ns: 1,
        frames: vec![Fate { fate: "replicated", frames: 1 }],
        ports: vec![Port {
            interface: "r1".into(),
            frames: 1,
            refused: 1,
            reason: Some("why".into()),
            groups: 1,
        }],
        groups: vec![Group {
            group: "239.1.2.3".parse().unwrap(),
            source: Some("10.0.0.1".parse().unwrap()),
            ports: vec!["r1".into()],
            frames: 1,
            bytes: 60,
        }],
        memberships: Memberships { reports: 1, malformed: 0, queries: 2, refused: 0 },
        warnings: vec![Warning { code: "generic-xdp", text: "why".into(), fix: Some("wait".into()) }],
    };
    let mut value = serde_json::to_value(report).unwrap();
    assert_valid(&value);
    value["other"] = Value::from(1);
    let schema = schema();
    assert!(!jsonschema::is_valid(&schema, &value));
}

/// A lab whose middle is no bridge any more.
fn unbridged() -> Lab {
    let lab = Lab::bridge(2).unwrap();
    for port in ["s0", "r1", "r2"] {
        ip(&lab.middle, &format!("link set {port} nomaster"));
    }
    for host in lab.hosts() {
        let feature = if host.port == "s0" { ["tx", "off"] } else { ["gro", "on"] };
        let mut command = host.command("ethtool");
        command.args(["-K", INTERFACE]).args(feature);
        assert_eq!(run(command).code, 0);
    }
    lab
}

fn copies_by(by: &str) {
    let lab = unbridged();
    let args = ["replicator", "--from", "s0", "--to", "r1,r2", "--by", by, "--interval", "100ms"];
    let mut replicator = Running::ready(lab.middle.command(WIRERATE), &args);
    let member = Running::ready_on(
        &lab.receivers[0],
        &["recv", "239.1.2.3:5001", "--iface", INTERFACE, "--backend", "mmsg"],
    );
    let joined = |event: serde_json::Value| event["interval"]["ports"][0]["groups"] == 1;
    assert!((0..300).any(|_| joined(replicator.wait_for("interval"))), "nobody joined in 30 s");
    let sent = report_on(
        &lab.sender,
        &[
            "send",
            "239.1.2.3:5001",
            "--iface",
            INTERFACE,
            "--backend",
            "mmsg",
            "--count",
            "1000",
            "--rate",
            "20kpps",
            "--segments",
            "off",
        ],
    );
    assert_eq!(sent["tx"]["packets"], 1000);
    let got = member.report();
    assert_eq!((&got["rx"]["unique"], &got["rx"]["lost"]), (&1000.into(), &0.into()), "{got:#}");
    replicator.signal("INT");
    let report = replicator.report();
    assert_valid(&report);
    let port = |n: usize| report["ports"][n]["frames"].as_u64().unwrap();
    // End-of-stream messages are copied as well.
    assert!((1000..1100).contains(&port(0)) && port(1) == 0, "{report:#}");
    let group = &report["groups"][0];
    assert_eq!(
        (&group["group"], &group["ports"]),
        (&"239.1.2.3".into(), &Value::from(vec!["r1"])),
        "{report:#}"
    );
    assert_eq!(group["frames"].as_u64().unwrap(), port(0), "{report:#}");
}

#[test]
fn xdp_copies_and_reports() {
    common::require_root!();
    copies_by("xdp");
}

#[test]
fn afxdp_copies_and_reports() {
    common::require_root!();
    copies_by("afxdp");
}

#[test]
fn sockets_copy_and_report() {
    common::require_root!();
    copies_by("socket");
}

#[test]
fn text_says_what_was_copied() {
    common::require_root!();
    let lab = unbridged();
    let mut command = lab.middle.command(WIRERATE);
    command.args(["replicator", "--from", "s0", "--to", "r1,r2", "--duration", "200ms", "--quiet"]);
    let ended = run(command);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for words in ["replicator xdp from s0", "port       r1: 0 copies", "0 groups joined now", "queries sent"]
    {
        assert!(ended.stdout.contains(words), "{words:?} is missing in:\n{}", ended.stdout);
    }
}

#[test]
fn wrong_arguments_are_told() {
    common::require_root!();
    for (args, word) in [
        (&["--from", "lo"][..], "--to"),
        (&["--from", "lo", "--to", "lo"], "twice"),
        (&["--from", "lo", "--to", "nix0"], "nix0"),
        (&["--from", "lo", "--to", "nix0", "--query-interval", "10h"], "1s to 8h"),
        (&["--from", "lo", "--to", "nix0", "--most-groups", "0"], "most-groups"),
    ] {
        run(wirerate(&[&["replicator"], args].concat())).expect(2, &[word]);
    }
}
