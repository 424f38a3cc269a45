//! Results as files have them, with something in every part that a page shows.
#![allow(dead_code, reason = "not every test needs everything")]

use serde_json::{Value, json};

/// A distribution of times around `middle` ns.
pub fn times(middle: u64) -> Value {
    json!({"count": 100_000, "min": middle / 4, "mean": middle + 7, "p50": middle, "p90": middle * 2, "p99": middle * 5, "p999": middle * 30,
        "p9999": middle * 100, "max": middle * 900})
}

/// A receiver's report over `count` intervals of half a second.
pub fn recv(count: u64) -> Value {
    let half = 500_000_000;
    let intervals: Vec<Value> = (0..count)
        .map(|n| {
            let packets = 50_000 + n * 7_919 % 1_000;
            json!({"start_ns": n * half, "end_ns": (n + 1) * half, "rx": {
                "packets": packets, "lost": u64::from(n % 50 == 7) * 120, "pps": packets * 2, "payload_bps": packets * 2 * 1400 * 8,
                "latency_ns": times(12_000 + n % 37 * 100)}})
        })
        .collect();
    let streams: Vec<Value> = (0..12)
        .map(|id| {
            json!({"id": id, "run": 77, "format": "wirerate", "source": "192.0.2.1:40000", "group": format!("239.1.2.{id}"), "port": 5001,
                "packets": 1000 + id, "unique": 1000 + id, "lost": id * 3, "lost_tail": 0, "before_start": 0, "duplicate": 0,
                "reordered": 0, "corrupt": 0, "jitter_ns": {"rfc3550": 300 + id, "max": 9000}})
        })
        .collect();
    json!({
        "schema": "wirerate.report/1", "command": "recv", "started_at": "2026-11-29T20:27:53.172Z",
        "host": {"kernel": "6.18.0", "cpus": 8, "memory_locked": true, "nic": [
            {"name": "eth1", "driver": "ice", "speed_bps": 25_000_000_000u64, "queues": 4}]},
        "config": {"target": "udp://239.1.2.0:5001", "interval_ns": half, "groups": 12},
        "backend": {"name": "afxdp", "mode": "zero-copy", "xdp": "native", "why": "the NIC does zero-copy"},
        "workers": (0..4).map(|q| json!({"queue": q, "cpu": q + 2, "packets": 15_000_000 - q * 1_250_000, "why": "its queue"})).collect::<Vec<_>>(),
        "intervals": intervals,
        "rx": {"packets": 60_000_123u64, "unique": 60_000_100u64, "frame_bytes": 86_000_000_000u64, "payload_bytes": 84_000_000_000u64,
            "duration_ns": count * half, "pps": 100_000, "l1_bps": 1_170_000_000, "l2_bps": 1_150_000_000, "payload_bps": 1_120_000_000,
            "lost": 2_880, "lost_tail": 20, "before_start": 0, "duplicate": 23, "reordered": 5, "late": 1, "corrupt": 0, "foreign": 3,
            "messages": 12, "timestamps": {"source": "user"}, "latency_ns": times(12_345), "pdv_ns": times(4_000),
            "inter_arrival_ns": times(9_000), "jitter_ns": {"rfc3550": 812, "max": 44_000}, "restarts": 0, "streams": streams},
        "clock": {"source": "CLOCK_TAI", "steps": 0, "relation": "disciplined", "error_ns": 900},
        "ledger": {"paths": [{"sender": "192.0.2.1", "receiver": "here", "sent": 60_003_000u64, "received": 60_000_100u64, "drops": [
            {"place": "nic-rx", "interface": "eth1", "reason": "rx_missed", "packets": 2_000},
            {"place": "socket", "reason": "SOCKET_RCVBUFF", "packets": 700},
            {"place": "socket", "reason": "PROTO_MEM", "packets": 150}], "unaccounted": 50}]},
        "warnings": [{"code": "governor", "text": "CPU 3 may slow down: its governor is powersave", "fix": "cpupower frequency-set -g performance"}],
        "verdict": {"outcome": "fail", "checks": [{"name": "loss", "want": "< 0.001 %", "got": "0.004833 % (2900 of 60003000)", "outcome": "fail"},
            {"name": "rate", "want": "> 1 Gbit/s", "got": "1.12 Gbit/s", "outcome": "pass"}]}
    })
}

/// A sender's report.
pub fn send() -> Value {
    let intervals: Vec<Value> = (0..20u64)
        .map(|n| {
            json!({"start_ns": n * 1_000_000_000, "end_ns": (n + 1) * 1_000_000_000, "tx": {
                "packets": 99_000 + n, "errors": n % 3, "pps": 99_000 + n, "payload_bps": (99_000 + n) * 11_200}})
        })
        .collect();
    json!({
        "schema": "wirerate.report/1", "command": "send", "started_at": "2026-11-29T20:27:53.172Z", "host": {"kernel": "6.18.0", "cpus": 2, "nic": []},
        "config": {"target": "udp://192.0.2.9:5001"}, "warnings": [], "intervals": intervals,
        "workers": [{"queue": 0, "cpu": 1, "packets": 1_980_190, "why": "the first"}],
        "tx": {"packets": 1_980_190, "frame_bytes": 1, "payload_bytes": 2, "duration_ns": 20_000_000_000u64, "pps": 99_009, "l1_bps": 5, "l2_bps": 4,
            "payload_bps": 1_108_900_800, "errors": 19, "messages": 3, "burst": {"p50": 1, "p99": 4, "max": 9},
            "inter_departure_ns": times(10_000), "lateness_ns": times(900)},
        "ledger": {"paths": [], "sending": {"sent": 1_980_209, "drops": [{"place": "qdisc", "interface": "eth0", "reason": "fq", "packets": 19}]}}
    })
}

/// A benchmark's report.
pub fn replicate() -> Value {
    let trial = |n: u64, pps: f64, validity: &str| {
        json!({"purpose": if n == 4 { "confirm" } else { "search" }, "frame_bytes": 64, "groups": 10, "duration_ns": 10_000_000_000u64,
            "intended_pps": pps, "multicast": {"frames": 1000, "pps": pps, "refused": 0}, "validity": validity,
            "reasons": if validity == "valid" { vec![] } else { vec!["m1: 1.2 % lost in group 3"] },
            "ports": [{"port": "m1", "sent": 100_000, "received": 100_000 - n * 10, "lost": n * 10, "duplicate": 0, "reordered": 0, "lost_in_host": 0,
                "forwarded_pps": pps, "worst_group": 0, "worst_loss_percent": 0.0, "groups_with_loss": 0, "learned": true, "latency_ns": times(30_000)}]})
    };
    let measurement = |bytes: u64, pps: f64| {
        json!({"frame_bytes": bytes, "groups": 10, "outcome": "pass", "why": "the device forwards it",
            "throughput": {"pps": pps, "multicast_pps": pps, "aggregated_pps": pps * 3.0, "bound": "device", "resolution_pps": 10.0},
            "trials": [trial(1, 100_000.0, "invalid"), trial(2, 50_000.0, "valid"), trial(3, 75_000.0, "inconclusive"), trial(4, pps, "valid")]})
    };
    let delays = json!({"frame_bytes": 64, "groups": 10, "outcome": "fail", "why": "m2: a leave took 3 s", "trials": [], "delays": (1..4).map(|m| json!({
        "port": format!("m{m}"), "filled": false, "burdened": false, "offered_pps": 1000.0, "granularity_ns": 10_000_000,
        "join_ns": {"min": 100_000, "mean": 300_000, "max": 900_000 * m}, "leave_ns": {"min": 1_000_000, "mean": 2_000_000, "max": 1_000_000_000u64 * m},
        "never_joined": 0, "never_left": 0, "before_join": 0, "after_leave": 9, "groups": []})).collect::<Vec<_>>()});
    let latency = json!({"frame_bytes": 512, "groups": 10, "outcome": "pass", "why": "measured", "trials": [],
        "latency": {"offered_pps": 1000.0, "min_ns": 5_000, "max_ns": 11_000, "min_max_ns": 6_000, "skew_ns": 800}});
    json!({
        "schema": "wirerate.replicate/1", "started_at": "2026-11-29T20:27:53.172Z", "config": {"frame_sizes": [64, 512]},
        "ports": {"senders": ["s1"], "members": ["m1", "m2", "m3"], "stranger": "x1", "membership": "IGMP", "segments": "off", "device": "bridge"},
        "tests": [
            {"name": "throughput", "title": "Aggregated multicast throughput", "section": "4.3", "outcome": "pass",
                "measurements": [measurement(64, 50_000.0), measurement(512, 42_000.0)]},
            {"name": "latency", "title": "Multicast latency", "section": "5.1", "outcome": "pass", "measurements": [latency]},
            {"name": "join-leave", "title": "Group join and leave delay", "section": "6.1", "outcome": "fail", "measurements": [delays]}],
        "reserved": [{"name": "encapsulation", "section": "4.4", "why": "no tunnel"}], "warnings": [], "interrupted": false, "outcome": "fail"
    })
}

/// A session's report, with the time line that its lines had.
pub fn stamp() -> Value {
    let intervals: Vec<Value> = (0..10u64)
        .map(|n| {
            json!({"start_ns": n * 1_000_000_000, "end_ns": (n + 1) * 1_000_000_000, "sent": 100, "answered": 99, "lost": 1, "rtt_ns": times(20_000)})
        })
        .collect();
    json!({"schema": "wirerate.stamp/1", "started_at": "2026-11-29T20:27:53.172Z", "config": {"target": "192.0.2.7:862"}, "source": "192.0.2.1:4",
        "ssid": 5, "duration_ns": 10_000_000_000u64, "tx": {"packets": 1000, "errors": 0, "refused": 0},
        "rx": {"packets": 990, "answered": 990, "late": 0, "duplicate": 0, "reordered": 0, "foreign": 0, "dropped_here": 0},
        "loss": {"lost": 10, "percent": 1.0, "split": {"forward": 6, "backward": 3, "unplaced": 1}},
        "times": {"rtt_ns": times(20_000), "rtt_from_schedule_ns": times(25_000), "reflector_ns": times(3_000)},
        "timestamps": {"transmit": {}, "receive": {}}, "warnings": [], "intervals": intervals})
}

/// A comparison of two tools.
pub fn compare() -> Value {
    let tool = |name: &str, bps: f64, loss: f64| {
        let of = |median: f64| json!({"median": median, "low": median * 0.9, "high": median * 1.1, "rounds": 2, "coverage_percent": 50});
        json!({
            "name": name, "what": name, "own": name == "uring", "transport": "udp", "sender": "iperf3 -c 192.0.2.2 -u", "receiver": "iperf3 -s",
            "jitter_is": "RFC 1889", "limit": {"by": "drops", "text": "drops: qdisc of r1", "evidence": ["1335 of 4999 datagrams lost"]},
            "summary": {"offered_bps": of(bps), "delivered_bps": of(bps * 0.7), "loss_stated_percent": of(loss), "loss_proven_percent": of(loss),
                "jitter_ns": of(4410.5), "sender_cpu_s_per_gb": of(11.5), "receiver_cpu_s_per_gb": of(5.9)},
            "trials": [{"round": 1, "turn": 1, "quiet": true}, {"round": 2, "turn": 2, "quiet": true}],
        })
    };
    json!({
        "schema": "wirerate.compare/1", "started_at": "2026-11-29T10:00:00.000Z", "interrupted": false, "missing": [], "warnings": [],
        "config": {"rate": "20M", "payload_bps": 20e6, "length_bytes": 1000, "duration_ns": 1_000_000_000, "rounds": 2},
        "from": {"interface": "eth1", "address": "192.0.2.1", "host": "a"}, "to": {"interface": "eth1", "address": "192.0.2.2", "host": "b"},
        "tools": [tool("iperf3-udp", 19.98e6, 26.691), tool("uring", 20.001e6, 26.705)],
    })
}
