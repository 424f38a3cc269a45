//! What a benchmark came to: plain data, as docs/replicate.schema.json describes it. Units are in the names.
#![forbid(unsafe_code)]

use serde::Serialize;
use serde_json::Value;

use super::super::bed::{Layout, Offered};
use super::super::search::{Bound, Purpose, Validity};
use super::params::Test;
use crate::report::{Distribution, Outcome, Warning};

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "wirerate.replicate/1";

/// Everything that was found out.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Start in RFC 3339, UTC.
    pub started_at: String,
    /// The effective parameters, defaults filled in.
    pub config: Value,
    /// The ports.
    pub ports: Layout,
    /// The tests that were begun.
    pub tests: Vec<TestReport>,
    /// Tests of RFC 3918 that are not run, and why.
    pub reserved: Vec<Reserved>,
    /// What a reader should know before believing the figures.
    pub warnings: Vec<Warning>,
    /// It was ended early; the report has what was known by then.
    pub interrupted: bool,
    /// Why it ended before it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The worst of the tests.
    pub outcome: Outcome,
}

/// A test that is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reserved {
    /// Its name.
    pub name: &'static str,
    /// Its section in RFC 3918.
    pub section: &'static str,
    /// Why it is not run.
    pub why: &'static str,
}

/// One test.
#[derive(Debug, Clone, Serialize)]
pub struct TestReport {
    /// Its name.
    pub name: Test,
    /// Its title in RFC 3918.
    pub title: &'static str,
    /// Its sections in RFC 3918.
    pub section: &'static str,
    /// The worst of its measurements.
    pub outcome: Outcome,
    /// One for each frame size and number of groups.
    pub measurements: Vec<Measurement>,
}

/// One frame size, one number of groups. What a test does not measure is absent.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// Frame size with FCS.
    pub frame_bytes: u32,
    /// Groups; for the capacity, where it was to end.
    pub groups: u32,
    /// Whether the device did what it should.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub why: String,
    /// The highest load that is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput: Option<Throughput>,
    /// What was forwarded at the fixed load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<Forwarding>,
    /// Latencies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Latencies without the burden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Latency>,
    /// Groups that were forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Delays of joins and leaves, for each port and state of the forwarding database.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delays: Vec<PortDelays>,
    /// Each trial.
    pub trials: Vec<TrialReport>,
}

/// A load that was searched for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Throughput {
    /// Frames a second offered to the device, both classes; absent when not even the lowest load is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pps: Option<f64>,
    /// Of these, multicast frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multicast_pps: Option<f64>,
    /// Of these, unicast frames, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unicast_pps: Option<f64>,
    /// Frames a second that left the device by all member ports together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregated_pps: Option<f64>,
    /// The same in bits of frames with FCS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregated_l2_bps: Option<u64>,
    /// What bounds it.
    pub bound: Bound,
    /// The search's resolution in frames a second.
    pub resolution_pps: f64,
}

/// What was forwarded at a fixed load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forwarding {
    /// Multicast frames a second offered.
    pub offered_pps: f64,
    /// Frames a second that came to all member ports together.
    pub forwarded_pps: f64,
    /// Percent of what should have come that did not, at the port and in the group with the most.
    pub worst_loss_percent: f64,
}

/// Latencies, a vector over egress ports and groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// Multicast frames a second offered.
    pub offered_pps: f64,
    /// The lowest mean of a port and group.
    pub min_ns: u64,
    /// The highest mean of a port and group.
    pub max_ns: u64,
    /// Their difference: min/max multicast latency (RFC 3918 §5.2).
    pub min_max_ns: u64,
    /// The greatest difference between the medians of two members of one group.
    pub skew_ns: u64,
}

/// How many groups the device holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capacity {
    /// Groups of the last iteration in which at least one frame of each came to each member port, and nothing where it should not.
    pub groups: u32,
    /// The lowest number that is not forwarded; more than one above `groups` where the device did not get over a number that was too high.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<u32>,
    /// `device`: more are not forwarded; `range`: more were not tried; `sender`, `unsettled`: more could not be told.
    pub bound: Bound,
}

/// Delays at one port.
#[derive(Debug, Clone, Serialize)]
pub struct PortDelays {
    /// The port.
    pub port: String,
    /// Whether another member was in the groups before: the forwarding database (MFDB) had them.
    pub filled: bool,
    /// Unicast load besides.
    pub burdened: bool,
    /// Multicast frames a second offered, all groups together.
    pub offered_pps: f64,
    /// Time from one frame of a group to the next: no delay can be told more exactly.
    pub granularity_ns: u64,
    /// From the report to the first frame, over groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_ns: Option<Spread>,
    /// From the leave to the last frame, over groups; 0 where none came after the leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leave_ns: Option<Spread>,
    /// Groups of which no frame came after the join.
    pub never_joined: u32,
    /// Groups of which frames came for as long as they were waited for after the leave.
    pub never_left: u32,
    /// Frames that came before the join.
    pub before_join: u64,
    /// Frames that came after the leave.
    pub after_leave: u64,
    /// Each group.
    pub groups: Vec<GroupDelays>,
}

/// Lowest, mean and highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// Lowest.
    pub min: u64,
    /// Mean.
    pub mean: u64,
    /// Highest.
    pub max: u64,
}

impl Spread {
    /// Of some values; none of none.
    pub fn of(values: impl Iterator<Item = u64> + Clone) -> Option<Self> {
        let count = values.clone().count() as u64;
        Some(Self {
            min: values.clone().min()?,
            max: values.clone().max()?,
            mean: values.map(u128::from).sum::<u128>().checked_div(u128::from(count))? as u64,
        })
    }
}

/// Delays of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GroupDelays {
    /// Which, counted from 0.
    pub group: u32,
    /// From the report to the first frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_ns: Option<u64>,
    /// From the leave to the last frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leave_ns: Option<u64>,
}

/// One trial.
#[derive(Debug, Clone, Serialize)]
pub struct TrialReport {
    /// Why it was run.
    pub purpose: Purpose,
    /// Frame size with FCS.
    pub frame_bytes: u32,
    /// Groups.
    pub groups: u32,
    /// Time it was to last.
    pub duration_ns: u64,
    /// Frames a second that were to be offered, both classes (intended load, RFC 2285).
    pub intended_pps: f64,
    /// Multicast frames that were offered.
    pub multicast: Offered,
    /// Unicast frames that were offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unicast: Option<Offered>,
    /// What it says of its load.
    pub validity: Validity,
    /// What is wrong, worst first; empty when it is valid.
    pub reasons: Vec<String>,
    /// Frames of the groups at the port that did not join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaked: Option<u64>,
    /// Unicast frames of all burdening ports to each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burden: Option<UnicastReport>,
    /// Each member port.
    pub ports: Vec<PortReport>,
}

/// One member port in one trial.
#[derive(Debug, Clone, Serialize)]
pub struct PortReport {
    /// The port.
    pub port: String,
    /// Multicast frames sent to its groups.
    pub sent: u64,
    /// Different ones received.
    pub received: u64,
    /// Missing.
    pub lost: u64,
    /// Copies.
    pub duplicate: u64,
    /// Came after a later one.
    pub reordered: u64,
    /// Of those that are missing, lost in the port's own host.
    pub lost_in_host: u64,
    /// Frames a second received, over the sender's time.
    pub forwarded_pps: f64,
    /// The group with the greatest loss, counted from 0.
    pub worst_group: u32,
    /// Its loss in percent.
    pub worst_loss_percent: f64,
    /// Groups with loss.
    pub groups_with_loss: u32,
    /// Whether every group was seen to arrive before the trial began.
    pub learned: bool,
    /// Time from the joins until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learned_after_ns: Option<u64>,
    /// Unicast frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unicast: Option<UnicastReport>,
    /// Latency of all its multicast frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<Distribution>,
    /// Groups with something to tell: loss, copies, latency.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupReport>,
}

/// Unicast frames to one port, or of all burdening ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UnicastReport {
    /// Sent to it.
    pub sent: u64,
    /// Different ones received.
    pub received: u64,
}

/// One group at one port in one trial.
#[derive(Debug, Clone, Serialize)]
pub struct GroupReport {
    /// Which, counted from 0.
    pub group: u32,
    /// Sent to it.
    pub sent: u64,
    /// Different ones received.
    pub received: u64,
    /// Copies.
    pub duplicate: u64,
    /// Latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<Distribution>,
}
