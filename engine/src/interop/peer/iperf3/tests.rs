//! Reports as versions wrote them, shortened, and what nobody wrote.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const UDP_3_12: &str = r#"{"start":{"connected":[],"version":"iperf 3.12","system_info":"Linux a 6.1 x86_64",
"timestamp":{"time":"Sun","timesecs":1795971972},"target_bitrate":10000000,
"test_start":{"protocol":"UDP","num_streams":1,"blksize":1000,"omit":0,"duration":1,"bytes":0,"blocks":0,"reverse":0,"tos":0,"target_bitrate":10000000}},
"intervals":[{"streams":[],"sum":{"start":0,"end":0.5,"seconds":0.5,"bytes":1,"bits_per_second":1,"packets":1,"omitted":true,"sender":true}},
{"streams":[],"sum":{"start":0,"end":1.00007,"seconds":1.0,"bytes":1249000,"bits_per_second":9991300.85,"packets":1249,"omitted":false,"sender":true}}],
"end":{"streams":[{"udp":{"socket":5,"bytes":1249000,"bits_per_second":9991300.6,"jitter_ms":0.0147,"lost_packets":9,"packets":1249,"lost_percent":0.72,"out_of_order":3,"sender":true}}],
"sum":{"start":0,"end":1.0,"seconds":1.000141,"bytes":1249000,"bits_per_second":9991300.6,"jitter_ms":0.0147,"lost_packets":9,"packets":1249,"lost_percent":0.72,"sender":true},
"sum_sent":{"start":0,"end":1.0,"seconds":1.00007,"bytes":1249000,"bits_per_second":9991300.6,"jitter_ms":0,"lost_packets":0,"packets":1249,"lost_percent":0,"sender":true},
"sum_received":{"start":0,"end":1.0,"seconds":1.000141,"bytes":1240000,"bits_per_second":9918601.5,"jitter_ms":0.0147,"lost_packets":9,"packets":1249,"lost_percent":0.72,"sender":false},
"cpu_utilization_percent":{"host_total":3.3,"remote_total":0.8}}}"#;

const TCP: &str = r#"{"start":{"version":"iperf 3.12","test_start":{"protocol":"TCP","num_streams":2,"blksize":131072,"duration":1,"reverse":1}},
"intervals":[],"end":{"streams":[],
"sum_sent":{"start":0,"end":1,"seconds":1,"bytes":12582912,"bits_per_second":100651419.1,"retransmits":18446744073709551615,"sender":true},
"sum_received":{"start":0,"end":1,"seconds":1,"bytes":12582912,"bits_per_second":100645984.8,"sender":true},
"sender_tcp_congestion":"bbr"}}"#;

/// Before 3.2 there was one sum for UDP.
const UDP_3_1: &str = r#"{"start":{"version":"iperf 3.1.3","test_start":{"protocol":"UDP","num_streams":1,"blksize":1000,"duration":1,"reverse":0}},
"intervals":[],"end":{"streams":[{"udp":{"out_of_order":0}}],
"sum":{"start":0,"end":1,"seconds":1,"bytes":100000,"bits_per_second":800000,"jitter_ms":0.5,"lost_packets":25,"packets":100,"lost_percent":25}}}"#;

#[test]
fn udp_of_3_12() {
    let result = parse(UDP_3_12).expect("a report");
    assert_eq!(result.version.as_deref(), Some("3.12"));
    assert_eq!((result.transport, result.block_bytes), (Some(Transport::Udp), Some(1000)));
    let (sent, received) = (result.sent.expect("sent"), result.received.expect("received"));
    assert_eq!((sent.packets, sent.lost, sent.jitter_ms), (Some(1249), None, None));
    assert_eq!((received.bytes, received.lost, received.out_of_order), (1_240_000, Some(9), Some(3)));
    assert_eq!(result.intervals.len(), 1, "an omitted one does not count");
    assert_eq!(result.cpu, Some(CpuPercent { own: 3.3, other: Some(0.8) }));
    assert!(!result.reverse && !result.both && result.error.is_none());
}

#[test]
fn tcp_and_the_number_that_stands_for_minus_one() {
    let result = parse(TCP).expect("a report");
    assert_eq!(result.transport, Some(Transport::Tcp));
    assert_eq!(result.sent.expect("sent").retransmits, None, "-1 is no count");
    assert!(result.reverse);
    assert_eq!(result.congestion.as_deref(), Some("bbr"));
}

#[test]
fn an_old_one_tells_of_both_ends_in_one_sum() {
    let result = parse(UDP_3_1).expect("a report");
    let (sent, received) = (result.sent.expect("sent"), result.received.expect("received"));
    assert_eq!((sent.packets, sent.bytes, sent.lost), (Some(100), 100_000, None));
    assert_eq!((received.bytes, received.lost), (75_000, Some(25)));
    assert!((received.bits_per_second - 600_000.0).abs() < 1e-6);
}

#[test]
fn lines_of_json_stream() {
    let lines = r#"{"event":"start","data":{"version":"iperf 3.17","test_start":{"protocol":"TCP"}}}
{"event":"interval","data":{"sum":{"start":0,"end":1,"seconds":1,"bytes":8,"bits_per_second":64,"omitted":false,"sender":true}}}
{"event":"end","data":{"sum_sent":{"seconds":1,"bytes":8,"bits_per_second":64},"sum_received":{"seconds":1,"bytes":8,"bits_per_second":64}}}
"#;
    let result = parse(lines).expect("a report");
    assert_eq!((result.version.as_deref(), result.intervals.len()), (Some("3.17"), 1));
    assert_eq!(result.received.expect("received").bytes, 8);
}

#[test]
fn errors_name_themselves() {
    let told = parse(
        r#"{"start":{},"intervals":[],"end":{},"error":"unable to connect to server: Connection refused"}"#,
    );
    assert_eq!(
        told.expect("a report").error.as_deref(),
        Some("unable to connect to server: Connection refused")
    );
    for (text, words) in [
        ("", "no JSON"),
        ("iperf3: error - unknown", "no JSON"),
        (&UDP_3_12[..400], "breaks off after 400 bytes"),
        (r#"{"start": nonsense}"#, "is no JSON"),
        (r#"{"a":1}"#, "neither start nor end"),
        ("{}[]", "neither start nor end"),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    let ended = |stdout: &str, stderr: &str| Ended {
        stdout: stdout.into(),
        stderr: stderr.into(),
        status: Some(1),
        late: false,
        seconds: 0.0,
        cpu: None,
    };
    let error = read(&ended("", "iperf3: error - no route\n"), "the client", false).expect_err("no JSON");
    assert!(error.to_string().contains("iperf3: the client: iperf3: error - no route"), "{error}");
    let error = read(&ended(r#"{"start":{},"error":"busy"}"#, ""), "the client", false).expect_err("busy");
    assert!(error.to_string().contains("busy"), "{error}");
}

#[test]
fn of_several_reports_the_last_whole_one_counts() {
    let both = format!("warning: something\n{TCP}\n{UDP_3_12}");
    assert_eq!(parse(&both).expect("two").transport, Some(Transport::Udp));
    let second_breaks = format!("{TCP}\n{}", &UDP_3_12[..300]);
    assert_eq!(parse(&second_breaks).expect("one").transport, Some(Transport::Tcp));
}

#[test]
fn arguments_as_typed() {
    let address = "192.0.2.2".parse().expect("an address");
    let plain = Client::new(address).arguments().join(" ");
    assert_eq!(plain, "-c 192.0.2.2 -J -p 5201 -t 10 -b 0");
    let all = Client {
        bind: Some(address),
        udp: true,
        bits_per_second: Some(10e6),
        length: Some(1000),
        duration: Duration::from_millis(1500),
        streams: 4,
        both: true,
        omit: 1,
        window: Some(65_536),
        gsro: true,
        more: vec!["--udp-counters-64bit".into()],
        ..Client::new(address)
    };
    assert_eq!(
        all.arguments().join(" "),
        "-c 192.0.2.2 -J -p 5201 -t 2 -b 10000000 -B 192.0.2.2 -l 1000 -P 4 -O 1 -w 65536 -u --bidir --gsro --udp-counters-64bit"
    );
}

/// Any JSON, with iperf3's own keys often enough to reach what reads them.
fn values() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        Just(u64::MAX.into()),
        prop_oneof!["UDP", "TCP", "iperf 3.12", ".{0,8}"].prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        let key = prop::sample::select(vec![
            "start",
            "end",
            "intervals",
            "sum",
            "sum_sent",
            "sum_received",
            "streams",
            "udp",
            "test_start",
            "protocol",
            "packets",
            "lost_packets",
            "bits_per_second",
            "bytes",
            "blksize",
            "out_of_order",
            "error",
            "event",
            "data",
            "sender",
            "omitted",
            "sum_sent_bidir_reverse",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(key, inner, 0..8).prop_map(|map| map
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_json_panics(value in values()) {
        let _ = parse(&value.to_string());
    }

    #[test]
    fn a_report_that_breaks_off_is_told(end in 1..UDP_3_12.len() - 1) {
        prop_assert!(parse(&UDP_3_12[..end]).is_err());
    }

    #[test]
    fn counts_come_back(packets in 0..u64::MAX, lost in any::<i64>()) {
        let report = serde_json::json!({"start": {"test_start": {"protocol": "UDP"}},
            "end": {"sum_received": {"bits_per_second": 1.0, "packets": packets, "lost_packets": lost}}});
        let received = parse(&report.to_string()).expect("a report").received.expect("received");
        prop_assert_eq!((received.packets, received.lost), (Some(packets), Some(lost)));
    }
}
