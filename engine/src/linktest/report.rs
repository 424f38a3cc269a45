//! What a link test reports, as docs/linktest.schema.json describes it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::host::health::{Finding, Part, Snapshot};
use crate::report::{Verdict, Warning};

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "wirerate.linktest/1";

/// The exit status of a test that found a difference.
pub const DIFFERENCE: u8 = 100;

/// What a link test found out.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Start in RFC 3339, UTC.
    pub started_at: String,
    /// From the first counters to the last, in ns.
    pub duration_ns: u64,
    /// The effective configuration.
    pub config: Value,
    /// The interface under test.
    pub interface: Interface,
    /// What was done, in order.
    pub steps: Vec<String>,
    /// What the link does each way, as measured before the test.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calibration: Vec<Traffic>,
    /// The traffic of the test.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Traffic>,
    /// What came of PTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ptp: Option<Ptp>,
    /// The interface before.
    pub before: Snapshot,
    /// The interface after.
    pub after: Snapshot,
    /// What moved, changed or is wrong, the severest first.
    pub findings: Vec<Finding>,
    /// The other end; absent without an agent there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub far: Option<Far>,
    /// What to replace or change, in the order in which to try it; empty when nothing failed.
    pub replace: Vec<Part>,
    /// What a reader should know before believing the figures.
    pub warnings: Vec<Warning>,
    /// Whether the link is sound.
    pub verdict: Verdict,
}

impl Report {
    /// Whether a counter of errors moved, or something else about the link is wrong, at either end: scripts get [`DIFFERENCE`].
    pub fn differs(&self) -> bool {
        self.verdict.outcome == crate::report::Outcome::Fail
    }
}

/// The interface under test.
#[derive(Debug, Clone, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Why this one.
    pub why: String,
    /// Its addresses with the lengths of their prefixes.
    pub addresses: Vec<String>,
}

/// Traffic of one kind in one direction.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Traffic {
    /// `tcp`, `udp`, `multicast`.
    pub kind: &'static str,
    /// `out`: from here; `back`: from the far end.
    pub direction: &'static str,
    /// To whom.
    pub target: String,
    /// How long, in ns.
    pub duration_ns: u64,
    /// Payload bits a second that were sent, as the sender counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_bps: Option<u64>,
    /// Payload bits a second that arrived; absent where nobody counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_bps: Option<u64>,
    /// Packets that were sent (UDP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_packets: Option<u64>,
    /// Packets that arrived, copies left out (UDP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_packets: Option<u64>,
    /// Packets that never arrived (UDP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_packets: Option<u64>,
    /// The same in percent of those sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_percent: Option<f64>,
    /// Segments that were sent again (TCP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u64>,
    /// What iperf3 wrote, or the report of `send`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Value>,
    /// The report of `recv`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver_report: Option<Value>,
}

/// What came of PTP: group 224.0.1.129, ports 319 and 320.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Ptp {
    /// The group.
    pub group: String,
    /// What the kernel speaks about the group: IGMPv2, IGMPv3; absent where it does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub igmp: Option<String>,
    /// The group's hardware address is in the interface's filter.
    pub in_link_filter: bool,
    /// Both ports.
    pub ports: Vec<PtpPort>,
    /// Who was heard.
    pub sources: Vec<PtpSource>,
}

/// What came to and left from a port of PTP.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PtpPort {
    /// 319 or 320.
    pub port: u16,
    /// Messages of ours that were sent: of a domain that every clock ignores.
    pub sent: u64,
    /// Messages of ours that this host refused.
    pub refused: u64,
    /// Messages that came.
    pub received: u64,
    /// The same by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Datagrams that are no PTP of version 2.
    pub other: u64,
}

/// A sender of PTP.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PtpSource {
    /// Its address.
    pub address: String,
    /// Identity of its clock.
    pub clock: String,
    /// Domain.
    pub domain: u8,
    /// Messages.
    pub messages: u64,
    /// It is the far end of this test.
    pub far_end: bool,
}

/// The other end.
#[derive(Debug, Clone, Serialize)]
pub struct Far {
    /// Its host name.
    pub host: String,
    /// Its interface.
    pub interface: String,
    /// Messages of PTP from here that were heard there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ptp_heard: Option<u64>,
    /// The interface before; absent where the far end gave no report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Snapshot>,
    /// The interface after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Snapshot>,
    /// What moved, changed or is wrong there.
    pub findings: Vec<Finding>,
}
