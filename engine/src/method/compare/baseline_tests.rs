//! Decisions on figures that are known.

use serde_json::json;

use super::*;

fn of(figures: &[f64]) -> Spread {
    Spread::of(figures.iter().copied()).expect("some")
}

#[test]
fn worse_beyond_the_noise() {
    let c = compare("iperf3-udp", Measure::DeliveredBps, Spread::single(100.0), of(&[88.0, 90.0, 91.0]));
    assert!(c.worse && c.beyond_noise == Some(true));
    assert!((c.change + 10.0).abs() < 1e-9);
    assert_eq!(c.text, "delivered is worse by 10.0 %, beyond the noise of 3 rounds");
}

#[test]
fn worse_within_the_noise() {
    let c = compare("iperf3-udp", Measure::DeliveredBps, Spread::single(100.0), of(&[80.0, 90.0, 101.0]));
    assert!(c.worse && c.beyond_noise == Some(false));
    assert!(c.text.contains("within the noise"));
    let overlap = compare("uring", Measure::DeliveredBps, of(&[95.0, 100.0, 105.0]), of(&[90.0, 92.0, 95.0]));
    assert_eq!(overlap.beyond_noise, Some(false), "they touch");
}

#[test]
fn better_and_the_same_and_one_round() {
    let better = compare("uring", Measure::DeliveredBps, Spread::single(100.0), of(&[110.0, 120.0]));
    assert!(!better.worse && better.text.starts_with("delivered is better by 15.0 %, beyond"));
    let same = compare("uring", Measure::LossPercent, Spread::single(0.0), of(&[0.0, 0.0]));
    assert!(!same.worse && same.text == "loss is what it was");
    let one = compare("uring", Measure::LossPercent, Spread::single(0.0), of(&[5.0]));
    assert!(one.worse && one.beyond_noise.is_none() && one.text.contains("one round does not tell"));
    // More of loss and of jitter is worse.
    let loss = compare("uring", Measure::LossPercent, Spread::single(1.0), of(&[3.0, 3.5]));
    assert!(loss.worse && (loss.change - 2.25).abs() < 1e-9 && loss.text.contains("percentage points"));
    let jitter = compare("uring", Measure::JitterNs, Spread::single(0.0), of(&[3.0, 3.5]));
    assert!(jitter.worse && (jitter.change - 100.0).abs() < 1e-9);
}

fn baseline(comparisons: Vec<Comparison>, not_compared: &[&str]) -> Baseline {
    Baseline {
        file: "old.json".into(),
        by: "iperf3 3.12".into(),
        comparisons,
        not_compared: not_compared.iter().map(|&text| text.to_owned()).collect(),
    }
}

#[test]
fn three_outcomes() {
    let delivered =
        |after: &[f64]| compare("iperf3-tcp", Measure::DeliveredBps, Spread::single(100.0), of(after));
    let outcome = |c: Vec<Comparison>, not: &[&str]| not_worse(&baseline(c, not), 5.0).outcome;
    assert_eq!(outcome(vec![delivered(&[88.0, 90.0])], &[]), Outcome::Fail);
    assert_eq!(outcome(vec![delivered(&[80.0, 90.0, 101.0])], &[]), Outcome::Inconclusive);
    assert_eq!(outcome(vec![delivered(&[90.0])], &[]), Outcome::Inconclusive, "one round");
    assert_eq!(outcome(vec![delivered(&[96.0, 97.0])], &[]), Outcome::Pass, "not by more than that");
    assert_eq!(outcome(vec![delivered(&[100.0, 101.0])], &["uring: no"]), Outcome::Inconclusive);
    assert_eq!(outcome(vec![], &[]), Outcome::Inconclusive);
    let jitter = compare("iperf3-udp", Measure::JitterNs, Spread::single(1.0), of(&[100.0, 101.0]));
    assert_eq!(outcome(vec![delivered(&[100.0, 101.0]), jitter], &[]), Outcome::Pass, "jitter is not judged");
    let loss = compare("iperf3-udp", Measure::LossPercent, Spread::single(0.0), of(&[6.0, 7.0]));
    assert_eq!(outcome(vec![loss], &[]), Outcome::Fail);
}

#[test]
fn files_of_each_kind() {
    let udp = json!({"start": {"version": "iperf 3.9", "test_start": {"protocol": "UDP", "blksize": 1000, "num_streams": 2, "target_bitrate": 5e6}},
        "end": {"sum_sent": {"bits_per_second": 1e7}, "sum_received": {"bits_per_second": 9e6, "lost_percent": 10.0, "jitter_ms": 0.5}}});
    let earlier = Earlier::read("old.json", &udp.to_string()).expect("iperf3");
    assert_eq!(earlier.by, "iperf3 3.9");
    let old = &earlier.tools[0];
    assert_eq!((old.tool, old.rate_bps, old.length), (ToolName::Iperf3Udp, Some(1e7), Some(1000)));
    assert_eq!(old.delivered_bps, Some(Spread::single(9e6)));
    assert_eq!((old.loss_percent.unwrap().median, old.jitter_ns.unwrap().median), (10.0, 5e5));

    let second = |bps: f64| json!({"sum": {"bits_per_second": bps, "bytes": 1}});
    let tcp = json!({"start": {"test_start": {"protocol": "TCP"}},
        "intervals": [second(80.0), second(90.0), second(100.0), second(110.0), second(120.0)],
        "end": {"sum_sent": {"bits_per_second": 101.0}, "sum_received": {"bits_per_second": 100.0}}});
    let earlier = Earlier::read("old.json", &tcp.to_string()).expect("iperf3");
    let delivered = earlier.tools[0].delivered_bps.expect("delivered");
    assert_eq!(
        (earlier.tools[0].tool, delivered.low, delivered.median, delivered.high),
        (ToolName::Iperf3Tcp, 80.0, 100.0, 120.0)
    );

    let compare = json!({"schema": "wirerate.compare/1", "config": {"payload_bps": 1e6, "length_bytes": 500},
        "tools": [{"name": "uring", "summary": {"delivered_bps": {"median": 2.0, "low": 1.0, "high": 3.0, "rounds": 3}}}]});
    let earlier = Earlier::read("old.json", &compare.to_string()).expect("ours");
    assert_eq!((earlier.tools[0].tool, earlier.tools[0].length), (ToolName::Uring, Some(500)));
    assert_eq!(earlier.tools[0].delivered_bps.expect("delivered").rounds, 3);

    let recv = json!({"schema": "wirerate.report/1", "backend": {"name": "mmsg"},
        "rx": {"payload_bps": 100, "lost": 1, "lost_tail": 1, "unique": 8, "jitter_ns": {"rfc3550": 7}}});
    let earlier = Earlier::read("old.json", &recv.to_string()).expect("ours");
    assert_eq!(earlier.tools[0].loss_percent, Some(Spread::single(20.0)));

    for (text, words) in [
        ("nothing", "--baseline old.json: no report of iperf3"),
        (r#"{"schema":"wirerate.stamp/1"}"#, "wirerate.stamp/1 cannot be compared"),
        (r#"{"start":{},"error":"unable to connect"}"#, "that iperf3 failed: unable to connect"),
        (r#"{"schema":"wirerate.compare/1","tools":[]}"#, "of no tool"),
        (r#"{"schema":"wirerate.report/1","backend":{"name":"mmsg"},"tx":{}}"#, "of no tool"),
    ] {
        let error = Earlier::read("old.json", text).expect_err(text).to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn beside_what_was_found_now() {
    let old = |tool| Old {
        tool,
        rate_bps: None,
        length: None,
        delivered_bps: Some(Spread::single(100.0)),
        loss_percent: None,
        jitter_ns: None,
    };
    let earlier = Earlier {
        file: "old.json".into(),
        by: "iperf3".into(),
        tools: vec![old(ToolName::Iperf3Udp), old(ToolName::Iperf3Tcp)],
    };
    let summary = Summary { delivered_bps: Some(of(&[50.0, 51.0])), ..Summary::default() };
    let baseline = earlier.beside(|tool| (tool == ToolName::Iperf3Udp).then_some(&summary));
    assert_eq!(baseline.comparisons.len(), 1);
    assert_eq!(baseline.not_compared, ["iperf3-tcp: it gave no figures now"]);
}
