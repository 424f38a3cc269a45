//! What reports of `send` and `recv` say of a trial. A report is another program's words: what is not there counts as nothing.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::super::bed::{GroupSeen, Offered};
use crate::report::Distribution;

/// What was offered, by the reports of all senders of one class.
pub(in crate::method) fn offered(reports: &[Value]) -> Offered {
    let number = |report: &Value, name: &str| report["tx"][name].as_u64().unwrap_or(0);
    let mut sum = Offered::default();
    for report in reports {
        let (frames, duration_ns) = (number(report, "packets"), number(report, "duration_ns"));
        sum.frames += frames;
        sum.refused += number(report, "errors");
        // A rate takes two frames; of fewer it is what was asked for that counts, and that is seen in the number of frames.
        if frames > 1 && duration_ns > 0 {
            sum.pps += (frames - 1) as f64 * 1e9 / duration_ns as f64;
        }
    }
    sum
}

/// The classes of frames of one stream, multicast and unicast, where the latter have this share of all.
pub(in crate::method) fn classes(all: Offered, share: f64) -> (Offered, Offered) {
    let part = |frames: u64| (frames as f64 * share).round() as u64;
    let unicast = Offered { frames: part(all.frames), refused: part(all.refused), pps: all.pps * share };
    let multicast = Offered {
        frames: all.frames - unicast.frames,
        refused: all.refused - unicast.refused,
        pps: all.pps - unicast.pps,
    };
    (multicast, unicast)
}

/// Most datagrams that a report's sender handed over at once.
pub(in crate::method) fn segments(report: &Value) -> u64 {
    report["backend"]["segments"].as_u64().unwrap_or(1)
}

/// One stream of a receiver's report.
#[derive(Debug)]
pub(in crate::method) struct Stream {
    pub source: SocketAddr,
    /// Its number: one source has several to a group where frames of other kinds stand between.
    pub id: u64,
    pub group: IpAddr,
    pub unique: u64,
    pub duplicate: u64,
    pub reordered: u64,
    /// What its sender said that it sent.
    pub sent: Option<u64>,
}

/// The streams of a report that came from source ports that `is_ours` says yes to.
pub(in crate::method) fn streams(report: &Value, is_ours: impl Fn(u16) -> bool) -> Vec<Stream> {
    let all = report["rx"]["streams"].as_array().map_or(&[][..], Vec::as_slice);
    all.iter()
        .filter_map(|stream| {
            let number = |name: &str| stream[name].as_u64().unwrap_or(0);
            let source: SocketAddr = stream["source"].as_str()?.parse().ok()?;
            is_ours(source.port()).then_some(())?;
            Some(Stream {
                source,
                id: number("id"),
                group: stream["group"].as_str()?.parse().ok()?,
                unique: number("unique"),
                duplicate: number("duplicate"),
                reordered: number("reordered"),
                sent: stream["sent"].as_u64(),
            })
        })
        .collect()
}

/// Adds a stream to its group.
pub(in crate::method) fn add(group: &mut GroupSeen, stream: &Stream) {
    group.received += stream.unique;
    group.duplicate += stream.duplicate;
    group.reordered += stream.reordered;
}

/// The latency of all that a report's receiver got.
pub(in crate::method) fn latency(report: &Value) -> Option<Distribution> {
    let told = &report["rx"]["latency_ns"];
    let number = |name: &str| told[name].as_u64();
    Some(Distribution {
        count: number("count")?,
        min: number("min")?,
        mean: number("mean")?,
        p50: number("p50")?,
        p90: number("p90"),
        p99: number("p99"),
        p999: number("p999"),
        p9999: number("p9999"),
        p99999: number("p99999"),
        max: number("max")?,
    })
}

/// Of what is missing, what the receiver's own host lost: in its namespace, or in the program's queues.
pub(in crate::method) fn lost_in_host(report: &Value) -> u64 {
    let paths = report["ledger"]["paths"].as_array().map_or(&[][..], Vec::as_slice);
    paths
        .iter()
        .flat_map(|path| path["drops"].as_array().map_or(&[][..], Vec::as_slice))
        // A place in another namespace of this machine is on the way: there the device may be.
        .filter(|drop| drop.get("netns").is_none())
        .filter_map(|drop| drop["packets"].as_u64())
        .sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn offers_of_several_senders_add_up() {
        let report =
            |packets: u64| json!({"tx": {"packets": packets, "errors": 1, "duration_ns": 1_000_000_000_u64}});
        let sum = offered(&[report(101), report(201)]);
        assert_eq!((sum.frames, sum.refused, sum.pps), (302, 2, 300.0));
        assert_eq!(offered(&[json!({}), json!([1]), report(1)]).pps, 0.0);
    }

    #[test]
    fn streams_of_learning_are_left_out() {
        let stream = |port: u16, unique: u64| json!({"source": format!("10.0.0.1:{port}"), "group": "239.1.1.1", "unique": unique, "sent": 9});
        let report = json!({"rx": {"streams": [stream(20_000, 7), stream(21_000, 3), {"source": 5}, {}]}});
        let ours = streams(&report, |port| port == 20_000);
        assert_eq!(ours.iter().map(|s| (s.unique, s.sent)).collect::<Vec<_>>(), [(7, Some(9))]);
        assert!(streams(&json!("nonsense"), |_| true).is_empty());
    }

    #[test]
    fn what_is_lost_elsewhere_is_not_the_host_s() {
        let report = json!({"ledger": {"paths": [{"drops": [
            {"place": "socket", "packets": 5}, {"place": "netfilter", "netns": 4026, "packets": 7}, {"place": "xsk"}
        ]}]}});
        assert_eq!(lost_in_host(&report), 5);
        assert_eq!(lost_in_host(&json!(null)), 0);
    }
}
