//! docs/replicate.schema.json describes what `wirerate replicate` serialises: no field more, no field less.
#![forbid(unsafe_code)]

#[path = "common/schema.rs"]
mod schema_checks;

use schema_checks::{errors, every_field_is_described};
use serde_json::{Value, json};
use wirerate_engine::method::bed::{Layout, Offered};
use wirerate_engine::method::rfc3918::Test;
use wirerate_engine::method::rfc3918::report::*;
use wirerate_engine::method::search::{Bound, Purpose, Validity};
use wirerate_engine::report::{Distribution, Outcome, Warning};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/replicate.schema.json")).expect("the schema is JSON")
}

fn trial() -> TrialReport {
    let some = Some(5);
    let latency_ns = Some(Distribution {
        count: 1,
        min: 1,
        mean: 2,
        p50: 3,
        p90: some,
        p99: some,
        p999: some,
        p9999: some,
        p99999: some,
        max: 9,
    });
    let offered = Offered { frames: 1, refused: 0, pps: 10.5 };
    TrialReport {
        purpose: Purpose::Confirm,
        frame_bytes: 64,
        groups: 1,
        duration_ns: 1,
        intended_pps: 11.0,
        multicast: offered,
        unicast: Some(offered),
        validity: Validity::Invalid,
        reasons: vec!["m1: lost".into()],
        leaked: Some(0),
        burden: Some(UnicastReport { sent: 1, received: 1 }),
        ports: vec![PortReport {
            port: "m1".into(),
            sent: 2,
            received: 1,
            lost: 1,
            duplicate: 0,
            reordered: 0,
            lost_in_host: 0,
            forwarded_pps: 5.0,
            worst_group: 0,
            worst_loss_percent: 50.0,
            groups_with_loss: 1,
            learned: true,
            learned_after_ns: Some(1),
            unicast: Some(UnicastReport { sent: 1, received: 1 }),
            latency_ns,
            groups: vec![GroupReport { group: 0, sent: 2, received: 1, duplicate: 0, latency_ns }],
        }],
    }
}

/// A report with every optional field.
fn full() -> Value {
    let latency = Latency { offered_pps: 1.0, min_ns: 1, max_ns: 2, min_max_ns: 1, skew_ns: 1 };
    let spread = Some(Spread { min: 1, mean: 2, max: 3 });
    let rate = Some(1.5);
    let measurement = Measurement {
        frame_bytes: 64,
        groups: 1,
        outcome: Outcome::Fail,
        why: "m1: lost".into(),
        throughput: Some(Throughput {
            pps: rate,
            multicast_pps: rate,
            unicast_pps: rate,
            aggregated_pps: rate,
            aggregated_l2_bps: Some(1),
            bound: Bound::Device,
            resolution_pps: 1.0,
        }),
        forwarding: Some(Forwarding { offered_pps: 1.0, forwarded_pps: 1.0, worst_loss_percent: 0.0 }),
        latency: Some(latency.clone()),
        baseline: Some(latency),
        capacity: Some(Capacity { groups: 64, failed: Some(65), bound: Bound::Range }),
        delays: vec![PortDelays {
            port: "m1".into(),
            filled: true,
            burdened: false,
            offered_pps: 1.0,
            granularity_ns: 1,
            join_ns: spread,
            leave_ns: spread,
            never_joined: 0,
            never_left: 0,
            before_join: 0,
            after_leave: 0,
            groups: vec![GroupDelays { group: 0, join_ns: Some(1), leave_ns: Some(0) }],
        }],
        trials: vec![trial()],
    };
    let report = Report {
        schema: SCHEMA,
        started_at: "2026-11-29T20:27:53.172Z".into(),
        config: json!({"rate": "1000pps"}),
        ports: Layout {
            senders: vec!["s1".into()],
            members: vec!["m1".into()],
            stranger: Some("x1".into()),
            burden: vec!["b1".into(), "b2".into()],
            membership: "IGMP".into(),
            segments: "off".into(),
            device: Some("bridge".into()),
        },
        tests: vec![TestReport {
            name: Test::JoinLeave,
            title: Test::JoinLeave.title(),
            section: Test::JoinLeave.section(),
            outcome: Outcome::Fail,
            measurements: vec![measurement],
        }],
        reserved: vec![Reserved { name: "encapsulation", section: "4.4", why: "no tunnel" }],
        warnings: vec![Warning { code: "port", text: "m1: slow".into(), fix: Some("wait".into()) }],
        interrupted: false,
        failure: Some("m1: gone".into()),
        outcome: Outcome::Fail,
    };
    serde_json::to_value(report).unwrap()
}

#[test]
fn every_field_is_described_required_or_optional_as_it_is() {
    let (schema, full) = (schema(), full());
    assert!(jsonschema::meta::is_valid(&schema));
    assert_eq!(errors(&schema, &full), Vec::<String>::new());
    every_field_is_described(&schema, &full, 100);
}

#[test]
fn every_test_has_its_name_in_the_schema() {
    let names = &schema()["$defs"]["test"]["properties"]["name"]["enum"];
    assert_eq!(*names, json!(Test::ALL.map(Test::name)));
}
