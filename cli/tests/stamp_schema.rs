//! docs/stamp.schema.json and docs/reflect.schema.json describe what both ends serialise: no field more, no field less.
#![forbid(unsafe_code)]

#[path = "common/schema.rs"]
mod schema_checks;

use schema_checks::{errors, every_field_is_described};
use serde_json::{Value, json};
use wirerate_engine::report::{Check, Distribution, Outcome, Verdict, Warning};
use wirerate_engine::stamp::report::*;

fn schemas() -> [Value; 2] {
    let read = |text| serde_json::from_str(text).expect("the schema is JSON");
    [read(include_str!("../../docs/stamp.schema.json")), read(include_str!("../../docs/reflect.schema.json"))]
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

fn warning() -> Warning {
    Warning { code: "late-answers", text: "3 answers".into(), fix: Some("wait".into()) }
}

/// Both reports with every optional field.
fn full() -> [Value; 2] {
    let p = Some(distribution());
    let check = Check { name: "loss", want: "< 1 %".into(), got: "0 %".into(), outcome: Outcome::Pass };
    let report = Report {
        schema: SCHEMA,
        started_at: "2026-11-21T20:27:53.172Z".into(),
        config: json!({"rate_pps": 10.0}),
        source: "10.0.0.1:40000".parse().unwrap(),
        ssid: 7,
        duration_ns: 1,
        tx: Tx::default(),
        rx: Rx::default(),
        loss: Loss {
            lost: 1,
            percent: Some(0.5),
            split: Some(Split { forward: 1, backward: 0, unplaced: 0 }),
            no_split: Some("why"),
        },
        times: Times {
            rtt_ns: p,
            rtt_from_schedule_ns: p,
            reflector_ns: p,
            departure_lag_ns: p,
            variation_ns: p,
            variation_forward_ns: p,
            variation_backward_ns: p,
            one_way_forward_ns: p,
            one_way_backward_ns: p,
            one_way_error_ns: Some(1),
            clock_offset_ns: Some(-1),
            clock_offset_error_ns: Some(1),
            negative: 0,
        },
        reflector: Some(Reflector {
            mode: "stateful",
            format: "ntp",
            synchronized: true,
            error_ns: 1,
            ssid: true,
            ttl_min: 1,
            ttl_max: 255,
        }),
        timestamps: Stamps::default(),
        warnings: vec![warning()],
        verdict: Some(Verdict { outcome: Outcome::Pass, checks: vec![check] }),
    };
    let reflected = Reflected {
        schema: REFLECT_SCHEMA,
        started_at: "2026-11-21T20:27:53.172Z".into(),
        config: json!({}),
        addresses: vec!["[::]:862".parse().unwrap()],
        duration_ns: 1,
        received: 1,
        answered: 1,
        ignored: Ignored::default(),
        dropped_here: 0,
        receive_timestamps: By::default(),
        sessions: Some(vec![Session {
            source: "10.0.0.1:40000".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            ssid: 7,
            unique: 1,
            duplicate: 0,
            reordered: 0,
            lost: 0,
            answered: 1,
        }]),
        warnings: vec![warning()],
    };
    [serde_json::to_value(report).unwrap(), serde_json::to_value(reflected).unwrap()]
}

#[test]
fn every_field_is_described_required_or_optional_as_it_is() {
    for ((schema, full), least) in schemas().into_iter().zip(full()).zip([80, 30]) {
        assert!(jsonschema::meta::is_valid(&schema));
        assert_eq!(errors(&schema, &full), Vec::<String>::new());
        every_field_is_described(&schema, &full, least);
    }
}

#[test]
fn what_both_ends_print_fits() {
    let program = env!("CARGO_BIN_EXE_wirerate");
    let run = |args: &[&str]| std::process::Command::new(program).args(args).output().expect("it was built");
    let outputs = [
        // Nobody listens there.
        run(&["stamp", "127.0.0.1:9", "--count", "2", "--rate", "100", "--timeout", "200ms", "--json", "-q"]),
        run(&["reflect", "127.0.0.1:8629", "--duration", "100ms", "--json", "-q"]),
    ];
    for (schema, output) in schemas().iter().zip(&outputs) {
        let Ok(report) = serde_json::from_slice::<Value>(&output.stdout) else {
            // Somebody else may have the port.
            assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
            continue;
        };
        assert_eq!(errors(schema, &report), Vec::<String>::new(), "{report}");
    }
}
