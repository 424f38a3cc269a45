//! docs/compare.schema.json describes what `wirerate compare` serialises: no field more, no field less.
#![forbid(unsafe_code)]

#[path = "common/schema.rs"]
mod schema_checks;

use schema_checks::{errors, every_field_is_described};
use serde_json::{Value, json};
use wirerate_engine::method::compare::baseline::{Baseline, Measure, compare};
use wirerate_engine::method::compare::limits::{By, Limit};
use wirerate_engine::method::compare::noise::Spread;
use wirerate_engine::method::compare::report::*;
use wirerate_engine::method::compare::tools::ToolName;
use wirerate_engine::report::{Check, Outcome, Verdict, Warning};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/compare.schema.json")).expect("the schema is JSON")
}

fn trial() -> Trial {
    let flow = Some(Flow { packets: Some(1), payload_bytes: 1, seconds: 1.0, payload_bps: 8.0 });
    let cpu = CpuOf {
        user_ns: Some(1),
        system_ns: Some(1),
        s_per_gb: Some(1.0),
        percent: Some(1.0),
        busiest_percent: Some(1.0),
        softirq_percent: Some(1.0),
        not_known: Some("elsewhere".into()),
    };
    Trial {
        round: 1,
        turn: 1,
        offered: flow,
        delivered: flow,
        stated: Some(Stated {
            lost: Some(-1),
            lost_percent: Some(1.0),
            out_of_order: Some(1),
            duplicate: Some(1),
            jitter_ns: Some(1.0),
            retransmits: Some(1),
        }),
        proven: Some(Proven {
            by: Some("kernel"),
            not_known: vec!["copies".into()],
            sent: Some(2),
            received: Some(1),
            lost: Some(1),
            lost_percent: Some(50.0),
            copies: Some(0),
            drops: Some(vec![Drop {
                place: "qdisc".into(),
                interface: Some("wr0".into()),
                at: "between",
                reason: "QDISC_DROP".into(),
                packets: 1,
            }]),
            unaccounted: Some(0),
            retransmitted: Some(1),
            interfaces: Some(Interfaces::default()),
        }),
        cpu: Cpu { sender: cpu.clone(), receiver: cpu },
        limit: Some(limit()),
        quiet: true,
        failure: Some("no route".into()),
    }
}

fn limit() -> Limit {
    Limit { by: By::OnTheWay, text: "loss on the way".into(), evidence: vec!["1 of 2".into()] }
}

/// A report with every optional field.
fn full() -> Value {
    let some = Spread::of([1.0, 2.0]);
    let end = End {
        interface: "wr0".into(),
        address: "192.0.2.1".into(),
        command: Some("ip netns exec b wirerate agent".into()),
        host: "a".into(),
        kernel: "6.1".into(),
        link_bps: Some(1),
    };
    let comparison = compare("uring", Measure::LossPercent, Spread::single(1.0), some.unwrap());
    let report = Report {
        schema: SCHEMA,
        started_at: "2026-11-29T20:27:53.172Z".into(),
        config: Config {
            rate: "1M".into(),
            pps: Some(1.0),
            payload_bps: Some(1.0),
            length_bytes: 100,
            frame_bytes: 146,
            duration_ns: 1,
            rounds: 1,
            port: 5201,
            segments: "auto".into(),
        },
        from: end.clone(),
        to: end,
        tools: vec![ToolReport {
            name: "iperf3-udp",
            what: "iperf3 3.12, UDP".into(),
            transport: "udp",
            own: false,
            sender: "iperf3 -c".into(),
            receiver: "iperf3 -s".into(),
            jitter_is: Some("RFC 1889"),
            summary: Summary {
                offered_bps: some,
                delivered_bps: some,
                loss_stated_percent: some,
                loss_proven_percent: some,
                jitter_ns: some,
                sender_cpu_s_per_gb: some,
                receiver_cpu_s_per_gb: some,
            },
            limit: limit(),
            trials: vec![trial()],
        }],
        missing: vec![Missing {
            name: "iperf2".into(),
            why: "not installed".into(),
            fix: Some("install it".into()),
        }],
        baseline: Some(Baseline {
            file: "old.json".into(),
            by: "iperf3 3.12".into(),
            comparisons: vec![comparison],
            not_compared: vec!["iperf3-tcp: it gave no figures now".into()],
        }),
        warnings: vec![Warning {
            code: "other-load",
            text: "it was another".into(),
            fix: Some("the same".into()),
        }],
        interrupted: true,
        failure: Some("from: gone".into()),
        verdict: Some(Verdict {
            outcome: Outcome::Fail,
            checks: vec![Check {
                name: "expect-not-worse",
                want: "5 %".into(),
                got: "10 %".into(),
                outcome: Outcome::Fail,
            }],
        }),
    };
    serde_json::to_value(report).unwrap()
}

#[test]
fn every_field_is_described_required_or_optional_as_it_is() {
    let (schema, full) = (schema(), full());
    assert!(jsonschema::meta::is_valid(&schema));
    assert_eq!(errors(&schema, &full), Vec::<String>::new());
    every_field_is_described(&schema, &full, 90);
}

#[test]
fn every_tool_has_its_name_in_the_schema() {
    let names = &schema()["$defs"]["tool_report"]["properties"]["name"]["enum"];
    assert_eq!(*names, json!(ToolName::ALL.map(ToolName::name)));
}
