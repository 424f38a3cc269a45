//! docs/groups.schema.json describes what `groups` prints: no field more, no field less.
#![forbid(unsafe_code)]

#[path = "common/schema.rs"]
mod schema_checks;

use std::process::{Command, Output};

use schema_checks::{errors, every_field_is_described};
use serde_json::{Value, json};
use wirerate_engine::multicast::message::Version;
use wirerate_engine::multicast::own::{self, Source, Speaks};
use wirerate_engine::multicast::report::*;
use wirerate_engine::multicast::state::{Mode, Timers};
use wirerate_engine::report::Warning;

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/groups.schema.json")).expect("the schema is JSON")
}

/// A report with every optional field.
fn full() -> Value {
    let group = "239.1.2.3".parse().unwrap();
    let source = "10.0.0.1".parse().unwrap();
    let speaks = Some(Speaks { version: Some(Version::Igmp3), forced: false });
    let host = own::Interface {
        name: "wr0".into(),
        index: 2,
        igmp: speaks,
        mld: speaks,
        groups: vec![own::Group {
            group,
            mac: "01:00:5e:01:02:03".into(),
            in_link_filter: true,
            users: 1,
            last_reporter: true,
            mode: Some(Mode::Exclude),
            sources: vec![Source { source, included: 0, excluded: 1 }],
        }],
        other_link_addresses: vec!["01:80:c2:00:00:0e".into()],
    };
    let reporter = Reporter {
        host: source,
        version: Version::Igmp3,
        mode: Mode::Include,
        sources: vec![source],
        reports: 2,
        heard_ms_ago: 5,
    };
    let link = Link {
        interface: "wr0".into(),
        family: "ipv4",
        querier: Some(Querier { address: source, version: Version::Igmp3, queries: 1 }),
        timers: Timers::default(),
        groups: vec![Group {
            group,
            mode: Mode::Exclude,
            sources: vec![source],
            excluded: vec![source],
            version: Version::Igmp2,
            expires_ms: 1,
            reporters: vec![reporter],
        }],
    };
    let router = Router {
        interface: "wr0".into(),
        address: source,
        dr_priority: Some(1),
        expires_ms: Some(105_000),
        joins: vec![RouterJoin {
            group,
            source: Some(source),
            rendezvous_point: Some(source),
            upstream: source,
            expires_ms: Some(1),
        }],
    };
    let election = Election { family: "ipv4", address: source, is_querier: false, other: Some(source) };
    let report = Report {
        schema: SCHEMA,
        started_at: "2026-11-21T20:27:53.172Z".into(),
        host: Some(vec![host]),
        heard: Some(Wire { links: vec![link], routers: vec![router], ..Wire::default() }),
        joined: Some(Joined { by: "kernel", ..Joined::default() }),
        queried: Some(Queried { elected: vec![election], general: 1, specific: 0 }),
        warnings: vec![Warning { code: "messages-missed", text: "3 messages".into(), fix: Some("x".into()) }],
    };
    serde_json::to_value(report).unwrap()
}

#[test]
fn every_field_is_described_required_or_optional_as_it_is() {
    let (schema, full) = (schema(), full());
    assert!(jsonschema::meta::is_valid(&schema));
    assert_eq!(errors(&schema, &full), Vec::<String>::new());
    every_field_is_described(&schema, &full, 60);
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wirerate")).arg("groups").args(args).output().expect("it was built")
}

const VECTORS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/vectors/igmp_mld_kernel_vectors.pcap");

#[test]
fn what_is_printed_fits() {
    let schema = schema();
    for args in [&["--json"][..], &["--json", "--iface", "lo"], &["--json", "-q", "--pcap", VECTORS]] {
        let output = run(args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(errors(&schema, &report), Vec::<String>::new(), "{report}");
    }
    // The kernel's permanent membership of all systems' group.
    let report: Value = serde_json::from_slice(&run(&["--json", "--iface", "lo"]).stdout).unwrap();
    assert_eq!(report["host"][0]["groups"][0]["group"], "224.0.0.1");
}

#[test]
fn the_kernel_s_capture_is_told_message_by_message() {
    let schema = schema();
    let message = json!({"$defs": schema["$defs"], "$ref": "#/$defs/message"});
    let output = run(&["--json-lines", "--pcap", VECTORS]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&Value> =
        events.iter().filter(|e| e["event"] == "message").map(|e| &e["message"]).collect();
    assert_eq!(messages.len(), 14);
    for one in &messages {
        assert_eq!(errors(&message, one), Vec::<String>::new(), "{one}");
    }
    assert_eq!(messages[0]["says"], json!([{"type": "join", "group": "239.1.2.3", "record": "TO_EX"}]));
    let report = &events.last().unwrap()["report"];
    assert_eq!(report["heard"]["reports"], 14);
    // Everything was left again, and nobody asked the last members: they are believed to be there until they expire.
    let groups = &report["heard"]["links"][0]["groups"];
    assert!(groups.as_array().unwrap().iter().all(|group| group["reporters"] == json!([])), "{groups}");
    let text = String::from_utf8(run(&["--pcap", VECTORS]).stdout).unwrap();
    assert!(text.contains("192.0.2.1") && text.contains("allow 232.1.1.1 192.0.2.10 (ALLOW)"), "{text}");
    assert!(text.contains("leave 239.1.2.3 (TO_IN)"), "{text}");
}

#[test]
fn wrong_arguments_are_explained() {
    for (args, says) in [
        (&["--duration", "1s"][..], "--watch"),
        (&["--join", "10.0.0.1", "--iface", "lo"], "not a multicast group"),
        (&["--join", "239.1.1.1"], "--iface"),
        (&["--querier"], "--iface"),
        (&["--join", "239.1.1.1", "--iface", "lo", "--speak", "mldv2"], "IP version"),
        (&["--join", "10.0.0.1@232.1.1.1", "--iface", "lo", "--speak", "igmpv2"], "cannot name sources"),
        (&["--join", "239.255.255.250", "--groups", "10", "--iface", "lo"], "go beyond"),
        (&["--pcap", "/dev/null"], "/dev/null"),
        (&["--watch", "--iface", "nix0"], "no such interface"),
    ] {
        let output = run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
    }
}
