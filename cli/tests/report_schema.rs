//! docs/report.schema.json describes what the engine serialises: no field more, no field less.
#![forbid(unsafe_code)]

#[path = "common/schema.rs"]
mod schema_checks;

use schema_checks::{errors, every_field_is_described};
use serde_json::{Value, json};
use wirerate_engine::clock::Claim;
use wirerate_engine::interop::iperf2::client::Answer;
use wirerate_engine::measure::delay::Spreads;
use wirerate_engine::measure::loss::Loss;
use wirerate_engine::measure::media::rtp::Source;
use wirerate_engine::measure::media::{Media, MediaFigures, MediaSpec};
use wirerate_engine::measure::sequence::{Detail, Tracker, When};
use wirerate_engine::measure::tally::{
    Format, RxCounters, RxTally, SenderClock, StreamKey, StreamTally, TxTally,
};
use wirerate_engine::packet::probe::End;
use wirerate_engine::packet::rtp::{Extension, Header, ONE_BYTE, Options, Rtp};
use wirerate_engine::report::*;

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/report.schema.json")).expect("the schema is JSON")
}

/// Two gaps and a tail, a packet that came late, and one so late that it could not be placed any more.
fn detail() -> Detail {
    let mut tracker = Tracker::<1, 1>::default();
    for n in [0, 1, 5, 6, 3, 9, 12, 11, 4] {
        tracker.arrive(n, &When { first_ns: 5, last_ns: 7, now_ns: 9, sent_gap_ns: Some(3) });
    }
    tracker.end(20, true);
    let mut detail = tracker.detail();
    detail.as_iperf3.jitter_ns = Some(1);
    detail.reordering.at_least = 1;
    assert!(detail.loss.refilled > 0 && detail.reordering.unplaced > 0 && detail.loss != Loss::default());
    detail
}

fn rx() -> RxCollector {
    let mut tally = RxTally::new(0);
    tally.counters = RxCounters {
        packets: 3,
        unique: 3,
        frames: 6,
        lost: 1,
        first_ns: 5,
        last_ns: 9,
        ..Default::default()
    };
    for (format, source, destination) in [
        (Format::Wirerate, "10.0.0.1:40000", "239.1.2.3:5001"),
        (Format::Iperf2, "[2001:db8::1]:40000", "[ff15::1]:5001"),
        (Format::Raw, "10.0.0.1:40001", "239.1.2.3:5001"),
        (Format::Ts, "10.0.0.1:40001", "239.1.2.3:5001"),
        (Format::Rtp, "10.0.0.1:40001", "239.1.2.3:5001"),
    ] {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        tally.streams.push(StreamTally {
            key: StreamKey { format, run: 0xff_ffff, stream: u16::MAX, source, destination },
            counters: tally.counters,
            jitter_ns: Some((1, 2)),
            end: Some(End { issued: 4, failed: 0, first_ns: 1, last_ns: 9 }),
            announced: 0,
            ended_ns: 10,
            detail: (format != Format::Raw).then(|| Box::new(detail())),
            media: Some(Box::new(media())),
        });
    }
    // Enough for every percentile.
    tally.latency.record_n(1000, 100_000).unwrap();
    tally.gaps.record_n(1000, 100_000).unwrap();
    tally.wire.record_n(1000, 100_000).unwrap();
    tally.steps.sizes.record_n(1000, 100_000).unwrap();
    (tally.steps.lowest, tally.steps.highest) = (-1000, 1000);
    let mut spreads = Spreads::default();
    let place = spreads.place([10, 0, 0, 1].into(), 0xff_ffff).unwrap();
    spreads.record(place, -5, 100_000);
    spreads.hand_over(&mut tally.spreads);
    // The same sender's next run.
    let mut next = tally.streams[0].clone();
    (next.key.run, next.counters.first_ns, next.counters.last_ns) = (1, 10, 12);
    tally.streams.push(next);
    tally.negative_latency = 1;
    let claim =
        Claim { host: 1, synchronised: true, tai_offset_s: 37, estimated_error_us: 1, max_error_us: 2 };
    for run in [0xff_ffff, 1] {
        tally.clocks.push(SenderClock { source: [10, 0, 0, 1].into(), run, claim });
    }
    let mut collector = RxCollector::new();
    collector.expect_kernel_stamps();
    collector.ask(vec!["239.1.2.3:5001".parse().unwrap(), "239.1.2.4:5001".parse().unwrap()]);
    collector.clocks().note(Some(Claim { host: 2, ..claim }));
    collector.by_nic(NicClock {
        phc: 0,
        read: "extended",
        offset_ns: -37_000_000_000,
        faster_ppb: -12,
        error_ns: 400,
        comparisons: 3,
        steps: 1,
    });
    collector.absorb(&tally);
    collector
}

/// Every field of both ends at once.
fn rtcp() -> Rtcp {
    let source = "192.0.2.1:5005".parse().unwrap();
    let peer = RtcpPeer {
        ssrc: u32::MAX,
        source,
        cname: Some("x".into()),
        stream: 1,
        fraction_lost: 0.5,
        lost: -3,
        highest_seq: 70_000,
        jitter: 8,
        jitter_ns: 1_000_000,
        rtt_ns: Some(5),
    };
    let sender = RtcpSender {
        ssrc: 1,
        source,
        cname: Some("y".into()),
        packets: 2,
        octets: 320,
        unix_ns: 1,
        rtp_timestamp: 9,
        left: true,
    };
    Rtcp {
        ssrc: Some(7),
        cname: "z".into(),
        rtt_ns: Some(RoundTrip { count: 1, min: 5, mean: 5, max: 5 }),
        peers: vec![peer],
        senders: vec![sender],
        ..Rtcp::default()
    }
}

/// RTP with all that headers can hold, and a transport stream with a clock in it.
fn media() -> MediaFigures {
    let (mut media, spec) = (Media::default(), MediaSpec::default());
    let mut ts = [0xff; 188];
    ts[..12].copy_from_slice(&[0x47, 1, 0, 0x30, 7, 0x10, 0, 0, 0, 0, 0x7e, 0]);
    let mut pat = [0xff; 188];
    pat[..21]
        .copy_from_slice(&[0x47, 0x40, 0, 0x10, 0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0, 1, 2, 3, 4]);
    for n in 0..3 {
        ts[3] = 0x30 | n as u8;
        // A quarter of a second by the clock.
        ts[6..10].copy_from_slice(&(11_250 * u32::from(n)).to_be_bytes());
        let payload = [ts, pat, pat].concat();
        let extension = Extension { profile: ONE_BYTE, data: &[0x10, 1, 0, 0] };
        let options = Options { csrcs: &[8], extension: Some(extension), padding: 1 };
        let mut bytes = vec![0; options.header_len()];
        bytes.extend(payload);
        bytes.push(0);
        let header = Header { marker: true, payload_type: 33, sequence: n, timestamp: 0, ssrc: u32::MAX };
        options.emit(&header, &mut bytes);
        let rtp = Rtp::parse(&bytes).unwrap();
        let at = u64::from(n) * 1_000_000_000;
        let source = media.source.get_or_insert_with(|| Source::new(&header, at, &spec.clocks));
        source.arrive(&rtp, at, &spec.clocks);
        let spec = MediaSpec { media_rate_bps: Some(1_000_000), ..spec.clone() };
        media.carried(&rtp, true, at, &spec, || 0);
    }
    let mut figures = MediaFigures::default();
    media.tell(&mut figures);
    figures
}

fn minimal() -> Report {
    Report {
        schema: SCHEMA,
        command: "doctor".into(),
        started_at: "2026-11-20T19:17:00Z".into(),
        host: Host { kernel: "6.18.0".into(), cpus: 2, memory_locked: true, nic: vec![] },
        config: json!({}),
        backend: None,
        workers: vec![],
        steer: vec![],
        intervals: vec![],
        tx: None,
        rx: None,
        rtcp: None,
        clock: None,
        ledger: None,
        warnings: vec![],
        verdict: None,
    }
}

/// A report in which every part and every optional field is present.
fn full() -> Report {
    let mut rx = rx();
    let mut tx = TxCollector::new();
    let mut sent = TxTally::new(0);
    (sent.packets, sent.frames, sent.overdue) = (1, 2, Some(1));
    let answer = Answer { bytes: 1, duration_ns: 2, lost: 3, out_of_order: 4, packets: 5, jitter_ns: 6 };
    sent.iperf2.answers.push((7, answer));
    sent.gaps.record_n(1000, 100_000).unwrap();
    sent.lateness.record_n(1000, 100_000).unwrap();
    tx.absorb(&sent);
    let drop = Drop {
        place: "socket".into(),
        interface: Some("veth0".into()),
        netns: Some(4_026_532_000),
        namespace: Some("blue".into()),
        reason: "NOT_SPECIFIED".into(),
        symbol: Some("veth_xmit".into()),
        packets: 1,
    };
    let counter = Counter {
        source: "ethtool",
        interface: Some("eth1".into()),
        name: "rx_missed_errors".into(),
        place: "nic-rx",
        what: "no descriptor",
        packets: 1,
    };
    let cable = Cable {
        from: "eth0@a".into(),
        to: "eth1".into(),
        left: 4,
        left_by: "tx_packets_phy",
        came: 3,
        came_by: "rx_packets",
        dropped: 1,
        missing: 1,
        others: Some(0),
        quiet: true,
        whole: true,
    };
    let sending = Sending { sent: 4, drops: vec![drop.clone()] };
    let path = Path {
        sender: "a".into(),
        receiver: "b".into(),
        sent: 4,
        received: 3,
        drops: vec![drop],
        unaccounted: -1,
    };
    let check =
        Check { name: "expect-loss-below", want: "0.01%".into(), got: "25%".into(), outcome: Outcome::Fail };
    let mut warnings = rx.warnings();
    warnings.push(Warning { code: "copy-mode", text: "copied".into(), fix: Some("another NIC".into()) });
    Report {
        config: json!({"rate": "10G", "groups": 3}),
        host: Host {
            nic: vec![Nic {
                name: "veth0".into(),
                driver: Some("veth".into()),
                speed_bps: Some(10_000_000_000),
                numa_node: Some(0),
                queues: 2,
            }],
            ..minimal().host
        },
        backend: Some(Backend {
            name: "uring",
            mode: "plain",
            xdp: "none",
            segments: Some(64),
            zero_copy_send: Some(true),
            payload_touched: Some(true),
            why: "asked for".into(),
        }),
        steer: vec![Steered {
            interface: "veth0".into(),
            queue: 0,
            verdict: "redirected",
            packets: 1,
            frame_bytes: 60,
        }],
        workers: vec![Worker {
            queue: 0,
            cpu: 1,
            numa_node: Some(0),
            memory_node: Some(0),
            why: "asked for".into(),
            packets: 3,
        }],
        intervals: vec![Interval {
            start_ns: 0,
            end_ns: 1_000_000_000,
            tx: Some(tx.interval(1_000_000_000)),
            rx: Some(rx.interval(1_000_000_000)),
        }],
        tx: Some(tx.finish()),
        rx: Some(rx.finish()),
        rtcp: Some(rtcp()),
        clock: Some(rx.clock()),
        ledger: Some(Ledger {
            paths: vec![path],
            sending: Some(sending),
            cable: Some(cable),
            evidence: vec![counter],
        }),
        warnings,
        verdict: Some(Verdict { outcome: Outcome::Fail, checks: vec![check] }),
        ..minimal()
    }
}

fn value(report: &Report) -> Value {
    serde_json::to_value(report).expect("reports serialise")
}

#[test]
fn the_schema_is_one_of_draft_2020_12() {
    assert_eq!(schema()["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(jsonschema::meta::is_valid(&schema()));
}

#[test]
fn reports_fit_the_schema() {
    for report in [minimal(), full()] {
        assert_eq!(errors(&schema(), &value(&report)), Vec::<String>::new());
    }
}

#[test]
fn what_is_not_a_report_does_not_fit() {
    let good = value(&full());
    for (pointer, wrong) in [
        ("/schema", json!("wirerate.report/2")),
        ("/rx/lost", json!(-1)),
        ("/rx/packets", json!("3")),
        ("/rx/latency_ns", json!(null)),
        ("/rx/streams/0/format", json!("iperf")),
        ("/rx/streams/0/run", json!(1 << 24)),
        ("/tx/pps", json!(0.5)),
        ("/backend/mode", json!("fast")),
        ("/verdict/outcome", json!("Pass")),
        ("/started_at", json!("yesterday")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = wrong;
        assert!(!errors(&schema(), &bad).is_empty(), "{pointer}");
    }
}

#[test]
fn every_field_is_described_required_or_optional_as_it_is() {
    let (schema, mut full) = (schema(), value(&full()));
    // Not every stream has everything: what any of them has is looked at in all.
    let streams = full["rx"]["streams"].as_array_mut().unwrap();
    let all: Vec<_> =
        streams.iter().filter_map(Value::as_object).flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    for stream in streams.iter_mut().filter_map(Value::as_object_mut) {
        all.iter().for_each(|(name, value)| _ = stream.entry(name).or_insert(value.clone()));
    }
    every_field_is_described(&schema, &full, 100);
    // Optional are those parts that a minimal report leaves out.
    let least: Vec<_> = value(&minimal()).as_object().unwrap().keys().cloned().collect();
    let mut required: Vec<_> =
        schema["required"].as_array().unwrap().iter().map(|r| r.as_str().unwrap().to_owned()).collect();
    required.sort();
    assert_eq!(least, required);
}
