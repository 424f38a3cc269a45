//! What the benches, which stand in `benches/`, and the work whose instructions are counted have in common.

use std::sync::Arc;

use wirerate_engine::profile::payload::Payload;
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::queue::{Flow, Tuning, TxSpec};

/// As [`spec`], with a group for each stream.
pub fn spec_to_groups(groups: u16, max_payload: u16) -> TxSpec {
    let mut spec = spec(groups, max_payload);
    for flow in &mut spec.flows {
        let [high, low] = flow.stream.to_be_bytes();
        // All from one port, as they may be.
        flow.source.set_port(1000);
        flow.destination.set_ip([239, 1, high, low].into());
        flow.destination_mac = [1, 0, 0x5e, 1, high, low];
    }
    spec
}

/// A sender of `flows` streams to one multicast address, with payloads of up to `max_payload` bytes.
pub fn spec(flows: u16, max_payload: u16) -> TxSpec {
    let flow = |stream: u16| Flow {
        stream,
        source: ([192, 0, 2, 1], 1000 + stream).into(),
        destination: ([239, 1, 2, 3], 5001).into(),
        destination_mac: [1, 0, 0x5e, 1, 2, 3],
    };
    TxSpec {
        interface: None,
        queue: 0,
        flows: (0..flows).map(flow).collect(),
        ttl: 1,
        dscp: 0,
        fragment: false,
        vlan: None,
        segments: Segments::Auto,
        txtime: None,
        tuning: Tuning::default(),
        rtp: None,
        iperf2: false,
        payload: Arc::new(Payload::pattern()),
        max_payload,
    }
}

/// What iperf 2's server tells of a test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IperfServer {
    /// Datagrams that did not arrive.
    pub lost: u64,
    /// All datagrams.
    pub total: u64,
    /// Time of the test.
    pub seconds: f64,
}

/// Reads the server's line of a whole test, which is its last: `… 0.0000-2.0240 sec … 133438/199434 (67%) …`.
pub fn iperf_server(text: &str) -> Option<IperfServer> {
    let line =
        text.lines().rfind(|line| line.contains(" sec ") && line.contains("/sec") && line.contains("%)"))?;
    let words: Vec<_> = line.split_whitespace().collect();
    let interval = words
        .iter()
        .position(|&word| word == "sec")
        .and_then(|at| words[at.checked_sub(1)?].split_once('-'))?;
    let share = words.iter().position(|word| word.ends_with("%)"))?;
    let (lost, total) = words.get(share.checked_sub(1)?)?.split_once('/')?;
    let seconds = interval.1.parse::<f64>().ok()? - interval.0.trim_start_matches('[').parse::<f64>().ok()?;
    Some(IperfServer { lost: lost.parse().ok()?, total: total.parse().ok()?, seconds })
}
