//! What must hold for every input: one function for each parser, and for what is fed by them. `scripts/fuzz` searches for inputs that break
//! one; `engine/tests/corpus.rs` feeds them what is kept in `corpus/`.
#![forbid(unsafe_code)]

pub mod agent;
pub mod btf;
pub mod fragments;
pub mod frame;
pub mod headers;
pub mod igmp;
pub mod imix;
pub mod iperf2;
pub mod iperf3;
pub mod iperf3_json;
pub mod mld;
pub mod observer;
pub mod pcap;
pub mod pim;
pub mod probe;
pub mod ptp;
pub mod rtcp;
pub mod rtp;
mod script;
pub mod stamp;
pub mod target;
pub mod text;
pub mod tracker;
pub mod ts;

/// A target's function: panics when what must hold does not.
pub type Check = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Check)] = &[
    ("agent", agent::check),
    ("btf", btf::check),
    ("fragments", fragments::check),
    ("frame", frame::check),
    ("headers", headers::check),
    ("igmp", igmp::check),
    ("imix", imix::check),
    ("iperf2", iperf2::check),
    ("iperf3", iperf3::check),
    ("iperf3_json", iperf3_json::check),
    ("mld", mld::check),
    ("observer", observer::check),
    ("pcap", pcap::check),
    ("pim", pim::check),
    ("probe", probe::check),
    ("ptp", ptp::check),
    ("rtcp", rtcp::check),
    ("rtp", rtp::check),
    ("stamp", stamp::check),
    ("target", target::check),
    ("text", text::check),
    ("tracker", tracker::check),
    ("ts", ts::check),
];
