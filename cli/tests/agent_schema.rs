//! docs/agent.schema.json and docs/watch.schema.json describe what agents are told and tell: no field more, no field less.
#![forbid(unsafe_code)]

#[path = "common/schema.rs"]
mod schema_checks;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use schema_checks::{errors, every_field_is_described};
use serde_json::{Value, json};
use wirerate_engine::agent::protocol::*;
use wirerate_engine::clock::Claim;

fn protocol() -> Value {
    serde_json::from_str(include_str!("../../docs/agent.schema.json")).expect("the schema is JSON")
}

fn watch() -> Value {
    serde_json::from_str(include_str!("../../docs/watch.schema.json")).expect("the schema is JSON")
}

/// One of the kinds of lines, as a schema of its own.
fn kind(schema: &Value, name: &str) -> Value {
    let mut kind = schema["$defs"][name].clone();
    assert!(kind.is_object(), "{name}");
    kind["$defs"] = schema["$defs"].clone();
    kind
}

fn look() -> Look {
    let (some, igmp) = (Some(5), Some("IGMPv3".to_owned()));
    let moments = GroupMoments {
        join_asked_ns: some,
        join_reported_ns: some,
        join_message: igmp.clone(),
        first_data_ns: some,
        leave_asked_ns: some,
        leave_reported_ns: some,
        leave_message: igmp,
        last_data_ns: some,
        join_delay_ns: some,
        leave_delay_ns: some,
        ..GroupMoments::new("232.1.1.1".parse().unwrap(), Some("10.0.0.1".parse().unwrap()))
    };
    Look {
        schema: WATCH_SCHEMA.into(),
        interface: "wr0".into(),
        port: 5001,
        joined: 1,
        sockets: 1,
        reports: 2,
        queries: 1,
        missed: 0,
        groups: vec![moments],
        others: Others { packets: 1, bytes: 2, groups: vec!["239.1.1.1".parse().unwrap()] },
    }
}

fn failure() -> Failure {
    Failure { fix: Some("wait".into()), ..Failure::usage("wrong") }
}

/// Every request with every optional field.
fn requests() -> Vec<(&'static str, Value)> {
    let groups = || Groups { groups: vec!["239.1.1.1:5001".into()], rate: Some(2.5) };
    let spec = WatchSpec { interface: "wr0".into(), port: 5001, groups: vec!["239.1.1.1:5001".into()] };
    let all = [
        ("start", Ask::Start(vec!["recv".into()])),
        ("watch", Ask::Watch(spec)),
        ("join", Ask::Join(groups())),
        ("leave", Ask::Leave(groups())),
        ("look", Ask::Look(Yes)),
        ("stop", Ask::Stop(Yes)),
        ("ping", Ask::Ping(Yes)),
    ];
    let line = |ask| serde_json::from_str(&Request { id: 7, ask }.line()).unwrap();
    all.into_iter().map(|(name, ask)| (name, line(ask))).collect()
}

/// Every event with every optional field.
fn events() -> Vec<(&'static str, Value)> {
    let moved = || Moved { groups: 1, failure: Some(failure()) };
    let interface = Interface {
        name: "wr0".into(),
        index: 2,
        mac: Some("02:00:00:00:00:01".into()),
        addresses: vec!["192.0.2.1/24".into()],
        mtu: 1500,
        up: true,
        kind: Some("veth".into()),
    };
    let hello = Hello {
        protocol: PROTOCOL,
        version: "1".into(),
        host: "h".into(),
        kernel: "6".into(),
        boot_id: "b".into(),
        netns: 1,
        pid: 2,
        clock: Some(Claim {
            host: 3,
            synchronised: true,
            tai_offset_s: 37,
            estimated_error_us: 1,
            max_error_us: 2,
        }),
        interfaces: vec![interface],
        capabilities: vec!["cap_net_raw".into()],
        backends: vec!["mmsg".into()],
    };
    let all = [
        ("hello", Event::Hello(hello)),
        ("ready", Event::Ready),
        ("interval", Event::Interval { interval: json!({}) }),
        ("warning", Event::Warning { warning: json!({}) }),
        ("report", Event::Report { report: json!({}) }),
        ("joined", Event::Joined(moved())),
        ("left", Event::Left(moved())),
        ("look", Event::Look(look())),
        ("error", Event::Error(failure())),
        ("end", Event::End { status: 1 }),
        ("pong", Event::Pong { tai_ns: 1 }),
    ];
    all.into_iter()
        .map(|(name, event)| {
            let id = (name != "hello").then_some(7);
            (name, serde_json::from_str(&Message { id, event }.line()).unwrap())
        })
        .collect()
}

#[test]
fn every_line_is_described_and_is_of_one_kind() {
    let schema = protocol();
    assert!(jsonschema::meta::is_valid(&schema));
    for (prefix, lines) in [("request", requests()), ("event", events())] {
        // No kind more than there are.
        let described = schema["$defs"][prefix]["oneOf"].as_array().unwrap();
        assert_eq!(described.len(), lines.len());
        for (name, line) in lines {
            assert_eq!(errors(&schema, &line), Vec::<String>::new(), "{name}");
            every_field_is_described(&kind(&schema, &format!("{prefix}_{name}")), &line, 1);
        }
    }
}

#[test]
fn a_watch_is_described() {
    let (schema, full) = (watch(), serde_json::to_value(look()).unwrap());
    assert!(jsonschema::meta::is_valid(&schema));
    assert_eq!(errors(&schema, &full), Vec::<String>::new());
    every_field_is_described(&schema, &full, 25);
    // The protocol has it in an event, word for word.
    let protocol = protocol();
    for shared in ["moments", "others"] {
        assert_eq!(schema["$defs"][shared], protocol["$defs"][shared]);
    }
    for (name, property) in schema["properties"].as_object().unwrap() {
        assert_eq!(*property, protocol["$defs"]["event_look"]["properties"][name]);
    }
}

#[test]
fn an_agent_says_what_is_described() {
    let schema = protocol();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_wirerate"))
        .arg("agent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(agent.stdout.take().unwrap()).lines();
    let mut stdin = agent.stdin.take().unwrap();
    for request in [
        r#"{"id":1,"start":["recv","127.0.0.1:5041","--interval","100ms","--duration","300ms"]}"#,
        r#"{"id":2,"ping":true}"#,
        r#"{"id":3,"look":true}"#,
        r#"{"id":4,"start":["dance"]}"#,
        "nonsense",
    ] {
        writeln!(stdin, "{request}").unwrap();
        let parsed = serde_json::from_str::<Value>(request);
        assert!(parsed.is_err() || errors(&schema, &parsed.unwrap()).is_empty(), "{request}");
    }
    let mut kinds = Vec::new();
    let mut stdin = Some(stdin);
    for line in lines {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(errors(&schema, &line), Vec::<String>::new(), "{line}");
        kinds.push(line["event"].as_str().unwrap().to_owned());
        if line["event"] == "end" && line["id"] == 1 {
            // It ends with its input.
            stdin = None;
        }
    }
    drop(stdin);
    assert!(agent.wait().unwrap().success());
    for kind in ["hello", "ready", "report", "end", "pong", "error"] {
        assert!(kinds.iter().any(|k| k == kind), "{kind}: {kinds:?}");
    }
}
