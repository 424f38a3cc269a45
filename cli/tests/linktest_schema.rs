//! docs/linktest.schema.json describes what a link test serialises: no field more, no field less.
#![forbid(unsafe_code)]

#[path = "common/schema.rs"]
mod schema_checks;

use schema_checks::{errors, every_field_is_described};
use serde_json::{Value, json};
use wirerate_engine::host::health::*;
use wirerate_engine::linktest::report::{Far, Interface, Ptp, PtpPort, PtpSource, Report, SCHEMA, Traffic};
use wirerate_engine::report::{Check, Outcome, Verdict, Warning};

fn snapshot() -> Snapshot {
    let text = || Some("x".to_owned());
    Snapshot {
        interface: "wr0".into(),
        index: 7,
        kind: text(),
        driver: text(),
        firmware: text(),
        bus: text(),
        mtu: 1500,
        link: LinkState {
            up: true,
            carrier: true,
            carrier_changes: Some(1),
            carrier_downs: Some(1),
            speed_bps: Some(1),
            duplex: Some(Duplex::Full),
            autonegotiation: Some(Autonegotiation::On),
        },
        rings: Some(Rings { rx: 1, tx: 1, max_rx: 1, max_tx: 1 }),
        rx_queues: 1,
        tx_queues: 1,
        pause: Some(Pause { autonegotiation: true, rx: true, tx: true }),
        offloads: [("rx-gro".to_owned(), true)].into(),
        temperatures: vec![Temperature { name: "card".into(), celsius: 50.5, high_celsius: Some(100.0) }],
        module: Some(Module {
            vendor: text(),
            part: text(),
            celsius: Some(1.0),
            rx_milliwatt: Some(1.0),
            tx_milliwatt: Some(1.0),
        }),
        pcie: Some(PcieLink {
            speed_gtps: 8.0,
            width: 8,
            max_speed_gtps: 8.0,
            max_width: 8,
            usable_bps: 1,
            needed_bps: Some(1),
        }),
        interrupts: vec![Interrupt {
            irq: 1,
            name: "x-TxRx-0".into(),
            queue: Some(0),
            taken: [(0, 1)].into(),
        }],
        counters: Counters {
            rtnl: [("rx_packets".to_owned(), 1)].into(),
            ethtool: [("rx_queue_0_drops".to_owned(), 1)].into(),
            qdisc: [("fq 0:".to_owned(), 1)].into(),
            softnet_dropped: Some(1),
        },
    }
}

fn finding() -> Finding {
    Finding {
        severity: Severity::Fail,
        code: "crc".into(),
        text: "x".into(),
        counters: vec![Moved {
            source: "rtnl".into(),
            name: "rx_crc_errors".into(),
            before: 1,
            after: 3,
            by: 2,
        }],
        suspects: vec![Part::Cable, Part::Cpu],
        next: vec!["replace it".into()],
    }
}

fn traffic() -> Traffic {
    Traffic {
        kind: "udp",
        direction: "out",
        target: "10.0.0.1:9".into(),
        duration_ns: 1,
        sent_bps: Some(1),
        received_bps: Some(1),
        sent_packets: Some(1),
        received_packets: Some(1),
        lost_packets: Some(0),
        lost_percent: Some(0.5),
        retransmits: Some(1),
        report: Some(json!({})),
        receiver_report: Some(json!({})),
    }
}

/// A report with every optional field.
fn full() -> Value {
    let report = Report {
        schema: SCHEMA,
        started_at: "2026-11-21T20:27:53.172Z".into(),
        duration_ns: 1,
        config: json!({}),
        interface: Interface { name: "wr0".into(), why: "x".into(), addresses: vec!["10.0.0.1/24".into()] },
        steps: vec!["counters read".into()],
        calibration: vec![traffic()],
        traffic: vec![traffic()],
        ptp: Some(Ptp {
            group: "224.0.1.129".into(),
            igmp: Some("IGMPv3".into()),
            in_link_filter: true,
            ports: vec![PtpPort { port: 319, kinds: [("sync", 1)].into(), ..PtpPort::default() }],
            sources: vec![PtpSource {
                address: "10.0.0.2:319".into(),
                clock: "020000.fffe.000001".into(),
                domain: 0,
                messages: 1,
                far_end: true,
            }],
        }),
        before: snapshot(),
        after: snapshot(),
        findings: vec![finding()],
        far: Some(Far {
            host: "b".into(),
            interface: "wr1".into(),
            ptp_heard: Some(1),
            before: Some(snapshot()),
            after: Some(snapshot()),
            findings: vec![finding()],
        }),
        replace: vec![Part::Cable, Part::Port, Part::Card, Part::Rings, Part::Cpu],
        warnings: vec![Warning { code: "x", text: "x".into(), fix: Some("x".into()) }],
        verdict: Verdict {
            outcome: Outcome::Fail,
            checks: vec![Check {
                name: "counters",
                want: "x".into(),
                got: "x".into(),
                outcome: Outcome::Fail,
            }],
        },
    };
    serde_json::to_value(report).unwrap()
}

#[test]
fn every_field_is_described_required_or_optional_as_it_is() {
    let schema: Value = serde_json::from_str(include_str!("../../docs/linktest.schema.json")).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    let full = full();
    assert_eq!(errors(&schema, &full), Vec::<String>::new());
    every_field_is_described(&schema, &full, 150);
}
