//! What the benches, which stand in `benches/`, and the work whose instructions are counted have in common.

use std::sync::Arc;

use wirerate_engine::profile::payload::Payload;
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::queue::{Flow, Tuning, TxSpec};

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
