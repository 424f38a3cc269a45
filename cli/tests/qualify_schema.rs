//! docs/qualify.schema.json describes what `wirerate qualify` serialises: no field more, no field less.
#![forbid(unsafe_code)]

#[path = "common/schema.rs"]
mod schema_checks;

use schema_checks::{errors, every_field_is_described};
use serde_json::{Value, json};
use wirerate_engine::host::health::{Finding, Moved, Part, Severity, Snapshot};
use wirerate_engine::method::bed::Offered;
use wirerate_engine::method::qualify::Test;
use wirerate_engine::method::qualify::link::{Direction, Layout};
use wirerate_engine::method::qualify::report::*;
use wirerate_engine::method::search::{Bound, Purpose, Validity};
use wirerate_engine::report::{Check, Distribution, Outcome, Verdict, Warning};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/qualify.schema.json")).expect("the schema is JSON")
}

fn distribution() -> Distribution {
    let some = Some(5);
    Distribution {
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
    }
}

fn finding() -> Finding {
    Finding {
        severity: Severity::Fail,
        code: "crc".into(),
        text: "eth1: 5 frames".into(),
        counters: vec![Moved { source: "ethtool".into(), name: "rx_crc".into(), before: 0, after: 5, by: 5 }],
        suspects: vec![Part::Cable],
        next: vec!["change the cable".into()],
    }
}

fn trial() -> TrialReport {
    TrialReport {
        purpose: Purpose::Confirm,
        frame_bytes: 64,
        duration_ns: 1,
        intended_pps: 11.0,
        burst_frames: Some(1),
        validity: Validity::Invalid,
        reasons: vec!["rx: lost".into()],
        ports: vec![PortReport {
            port: "rx".into(),
            offered: Offered { frames: 1, refused: 0, pps: 10.5 },
            sent: 2,
            received: 1,
            lost: 1,
            loss_percent: 50.0,
            duplicate: 0,
            reordered: 0,
            lost_in_host: 0,
            forwarded_pps: 5.0,
            learned: true,
            latency_ns: Some(distribution()),
            jitter_ns: Some(1),
        }],
        health: vec![finding()],
    }
}

fn measurement() -> Measurement {
    Measurement {
        frame_bytes: 64,
        sizes: "64".into(),
        direction: Direction::Both,
        outcome: Outcome::Fail,
        why: "rx: lost".into(),
        throughput: Some(Throughput {
            pps: Some(1.5),
            l2_bps: Some(1),
            l1_bps: Some(1),
            line_pps: Some(2.0),
            bound: Bound::Device,
            resolution_pps: 1.0,
        }),
        latency: vec![PortLatency {
            port: "rx".into(),
            offered_pps: 1.0,
            latency_ns: distribution(),
            jitter_ns: Some(1),
        }],
        loss_curve: vec![LossPoint {
            percent: 100.0,
            intended_pps: 1.0,
            offered_pps: 1.0,
            sent: 2,
            received: 1,
            loss_percent: 50.0,
            validity: Validity::Invalid,
        }],
        back_to_back: Some(BackToBack {
            burst_pps: 1.0,
            bursts: vec![Some(5), None],
            mean_frames: Some(5.0),
            min_frames: Some(5),
            max_frames: Some(5),
            deviation_frames: Some(0.0),
            resolution_frames: 1.0,
            bound: Bound::Device,
            implied_buffer_ns: Some(1),
            corrected_buffer_ns: Some(1),
            corrected_buffer_frames: Some(1.0),
        }),
        reset: Some(Reset {
            what: "link".into(),
            port: "rx".into(),
            offered_pps: 1.0,
            lost_frames: 1,
            lost_all: 1,
            by_loss_ns: 1,
            by_stamps_ns: Some(1),
            by_arrivals_ns: Some(1),
            granularity_ns: 1,
            kept_down_ns: Some(1),
        }),
        service: vec![ServiceStep {
            name: "policing".into(),
            port: "rx".into(),
            offered_bps: 1,
            received_bps: 1,
            loss_percent: 0.0,
            delay_ns: Some(1),
            delay_variation_ns: Some(1),
            outcome: Outcome::Pass,
            why: "as promised".into(),
        }],
        soak: Some(Soak {
            offered_pps: 1.0,
            intervals_with_loss: 0,
            intervals: vec![SoakInterval {
                port: "rx".into(),
                start_ns: 0,
                end_ns: 1,
                received: 1,
                lost: -1,
                pps: 1,
                latency_ns: Some(distribution()),
            }],
        }),
        round_trip: Some(RoundTrip {
            reflector: "192.0.2.1:862".into(),
            sent: 1,
            answered: 1,
            lost: 0,
            lost_forward: Some(0),
            lost_backward: Some(0),
            rtt_ns: Some(distribution()),
            unknown: vec!["throughput"],
        }),
        trials: vec![trial()],
    }
}

/// A report with every optional field.
fn full() -> Value {
    let report = Report {
        schema: SCHEMA,
        started_at: "2026-11-29T20:27:53.172Z".into(),
        config: json!({"rate": "1000pps"}),
        ports: Layout { tx: "tx".into(), rx: "rx".into(), speed_bps: Some(1), segments: "off".into() },
        tests: vec![TestReport {
            name: Test::Throughput,
            title: Test::Throughput.title(),
            section: Test::Throughput.section(),
            outcome: Outcome::Fail,
            measurements: vec![measurement()],
        }],
        reserved: vec![Reserved { name: "system-recovery", section: "26.5", why: "one sender" }],
        health: vec![PortHealth { port: "rx".into(), state: Snapshot::default(), findings: vec![finding()] }],
        warnings: vec![Warning { code: "health", text: "rx: slow".into(), fix: Some("wait".into()) }],
        interrupted: false,
        failure: Some("rx: gone".into()),
        verdict: Verdict {
            outcome: Outcome::Fail,
            checks: vec![Check {
                name: "throughput",
                want: "1 %".into(),
                got: "none".into(),
                outcome: Outcome::Fail,
            }],
        },
    };
    serde_json::to_value(report).unwrap()
}

#[test]
fn every_field_is_described_required_or_optional_as_it_is() {
    let (schema, full) = (schema(), full());
    assert!(jsonschema::meta::is_valid(&schema));
    assert_eq!(errors(&schema, &full), Vec::<String>::new());
    every_field_is_described(&schema, &full, 120);
}

#[test]
fn every_test_has_its_name_in_the_schema() {
    let names = &schema()["$defs"]["test"]["properties"]["name"]["enum"];
    assert_eq!(*names, json!(Test::ALL.map(Test::name)));
}
