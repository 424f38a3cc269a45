//! What a qualification came to: plain data, as docs/qualify.schema.json describes it. Units are in the names.
#![forbid(unsafe_code)]

use serde::Serialize;
use serde_json::Value;

use super::super::bed::Offered;
use super::super::search::{Bound, Purpose, Validity};
use super::link::{Direction, Layout};
use super::params::Test;
use crate::host::health::{Finding, Snapshot};
use crate::report::{Distribution, Outcome, Verdict, Warning};

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "wirerate.qualify/1";

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
    /// Tests that are not run, and why.
    pub reserved: Vec<Reserved>,
    /// Both ports at the beginning, and what was found of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<PortHealth>,
    /// What a reader should know before believing the figures.
    pub warnings: Vec<Warning>,
    /// It was ended early; the report has what was known by then.
    pub interrupted: bool,
    /// Why it ended before it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Whether all was as expected: a check for each test, for each expectation, and for the health of the ports.
    pub verdict: Verdict,
}

/// One port's health.
#[derive(Debug, Clone, Serialize)]
pub struct PortHealth {
    /// The port.
    pub port: String,
    /// What it was like before the first trial.
    pub state: Snapshot,
    /// What is wrong with it, or moved in trials, the severest first.
    pub findings: Vec<Finding>,
}

/// A test that is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reserved {
    /// Its name.
    pub name: &'static str,
    /// Where it is described.
    pub section: &'static str,
    /// Why it is not run.
    pub why: &'static str,
}

/// One test.
#[derive(Debug, Clone, Serialize)]
pub struct TestReport {
    /// Its name.
    pub name: Test,
    /// Its title.
    pub title: &'static str,
    /// Where it is described: a document and its section.
    pub section: &'static str,
    /// The worst of its measurements.
    pub outcome: Outcome,
    /// One for each direction and size of frames.
    pub measurements: Vec<Measurement>,
}

/// One size of frames in one direction. What a test does not measure is absent.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// Frame size with FCS; of a mix the mean, rounded.
    pub frame_bytes: u32,
    /// The sizes as they were asked for: `64`, `imix`, a genome.
    pub sizes: String,
    /// Which way frames went.
    pub direction: Direction,
    /// Whether the link did what it should.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub why: String,
    /// The highest load that is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput: Option<Throughput>,
    /// Latency and jitter, for each receiving port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<PortLatency>,
    /// Loss by load, from the highest down.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loss_curve: Vec<LossPoint>,
    /// The longest bursts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_to_back: Option<BackToBack>,
    /// How long a reset took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<Reset>,
    /// Steps of a service activation test.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service: Vec<ServiceStep>,
    /// A long run, and what it was like over time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak: Option<Soak>,
    /// Round trips to a reflector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip: Option<RoundTrip>,
    /// Each trial, in the order in which they were run.
    pub trials: Vec<TrialReport>,
}

/// A load that was searched for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Throughput {
    /// Frames a second in each direction, as they were offered in the last valid trial; absent when not even the lowest load is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pps: Option<f64>,
    /// The same in bits of frames with FCS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2_bps: Option<u64>,
    /// The same in bits on the line, with preamble and gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l1_bps: Option<u64>,
    /// Frames a second of the line rate, where the link's speed is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line_pps: Option<f64>,
    /// What bounds it from above.
    pub bound: Bound,
    /// The load is known to this.
    pub resolution_pps: f64,
}

/// Latency at one receiving port.
#[derive(Debug, Clone, Serialize)]
pub struct PortLatency {
    /// The port.
    pub port: String,
    /// Frames a second that were offered to it.
    pub offered_pps: f64,
    /// One-way delay of each frame.
    pub latency_ns: Distribution,
    /// Interarrival jitter (RFC 3550 §6.4.1): its highest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ns: Option<u64>,
}

/// One load of a loss curve, all receiving ports together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LossPoint {
    /// Load in percent of the highest.
    pub percent: f64,
    /// Frames a second that were to be offered in each direction.
    pub intended_pps: f64,
    /// Frames a second that were.
    pub offered_pps: f64,
    /// Frames sent.
    pub sent: u64,
    /// Different ones received.
    pub received: u64,
    /// (sent − received) · 100 / sent (RFC 2544 §26.3).
    pub loss_percent: f64,
    /// What it says of its load.
    pub validity: Validity,
}

/// Bursts without loss (RFC 2544 §26.4, RFC 9004).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackToBack {
    /// Frames a second within a burst: the line's.
    pub burst_pps: f64,
    /// The longest burst of each repetition, in frames; absent: not even the shortest was without loss.
    pub bursts: Vec<Option<u64>>,
    /// Mean of those found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_frames: Option<f64>,
    /// Lowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_frames: Option<u64>,
    /// Highest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_frames: Option<u64>,
    /// Standard deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation_frames: Option<f64>,
    /// The mean is known to this.
    pub resolution_frames: f64,
    /// What bounds the bursts: the range when the longest that was asked for is without loss.
    pub bound: Bound,
    /// mean / burst rate: implied time of the device's buffer (RFC 9004 §6).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implied_buffer_ns: Option<u64>,
    /// The same without what left the device during the burst, at the throughput; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrected_buffer_ns: Option<u64>,
    /// That in frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrected_buffer_frames: Option<f64>,
}

/// An outage that was caused or waited for (RFC 6201).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reset {
    /// What was reset.
    pub what: String,
    /// The receiving port.
    pub port: String,
    /// Frames a second that were offered.
    pub offered_pps: f64,
    /// Frames of the longest run that is missing; 0 when there was no outage.
    pub lost_frames: u64,
    /// All frames that are missing.
    pub lost_all: u64,
    /// Frames lost / rate (RFC 6201 §4.2, frame-loss method).
    pub by_loss_ns: u64,
    /// From the stamp in the last frame before the outage to that in the first after it (RFC 6201 §4.2, time-stamp method).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_stamps_ns: Option<u64>,
    /// The same by their arrivals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_arrivals_ns: Option<u64>,
    /// Time between two frames: no figure is more exact.
    pub granularity_ns: u64,
    /// How long the link was kept down, where this program did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_down_ns: Option<u64>,
}

/// A step of a service activation test (ITU-T Y.1564), at each receiving port.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceStep {
    /// `25 % of CIR`, `CIR + EIR`, `policing`, `performance`.
    pub name: String,
    /// The port.
    pub port: String,
    /// Information rate offered: bits of frames with FCS a second.
    pub offered_bps: u64,
    /// Information rate received.
    pub received_bps: u64,
    /// Frame loss ratio in percent.
    pub loss_percent: f64,
    /// Frame transfer delay, mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ns: Option<u64>,
    /// Frame delay variation: highest less lowest delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_variation_ns: Option<u64>,
    /// Whether it is as the service promises.
    pub outcome: Outcome,
    /// Why.
    pub why: String,
}

/// A long run.
#[derive(Debug, Clone, Serialize)]
pub struct Soak {
    /// Frames a second that were offered in each direction.
    pub offered_pps: f64,
    /// Intervals with loss.
    pub intervals_with_loss: u64,
    /// The time line, all ports in turn.
    pub intervals: Vec<SoakInterval>,
}

/// One interval at one receiving port.
#[derive(Debug, Clone, Serialize)]
pub struct SoakInterval {
    /// The port.
    pub port: String,
    /// From the start of the run.
    pub start_ns: u64,
    /// From the start of the run.
    pub end_ns: u64,
    /// Frames received.
    pub received: u64,
    /// Frames missed in it, less those that were missed before and came in it.
    pub lost: i64,
    /// Frames received a second.
    pub pps: u64,
    /// Latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<Distribution>,
}

/// Round trips to a reflector (RFC 8762).
#[derive(Debug, Clone, Serialize)]
pub struct RoundTrip {
    /// The reflector.
    pub reflector: String,
    /// Packets sent.
    pub sent: u64,
    /// Answered in time.
    pub answered: u64,
    /// Never answered, or too late.
    pub lost: u64,
    /// Of those, on the way there, where the reflector counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_forward: Option<u64>,
    /// Of those, on the way back, where the reflector counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_backward: Option<u64>,
    /// Time there and back, without the time in the reflector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ns: Option<Distribution>,
    /// What a single port cannot know.
    pub unknown: Vec<&'static str>,
}

/// One trial.
#[derive(Debug, Clone, Serialize)]
pub struct TrialReport {
    /// Why it was run.
    pub purpose: Purpose,
    /// Frame size with FCS; of a mix the mean, rounded.
    pub frame_bytes: u32,
    /// Time it was to last.
    pub duration_ns: u64,
    /// Frames a second that were to be offered in each direction (intended load, RFC 2285).
    pub intended_pps: f64,
    /// Frames of a burst, where that was offered, in each direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_frames: Option<u64>,
    /// What it says of its load.
    pub validity: Validity,
    /// What is wrong, worst first; empty when it is valid.
    pub reasons: Vec<String>,
    /// Each receiving port.
    pub ports: Vec<PortReport>,
    /// Counters of both ports that moved and should not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<Finding>,
}

/// One receiving port in one trial.
#[derive(Debug, Clone, Serialize)]
pub struct PortReport {
    /// The port.
    pub port: String,
    /// What its sender offered.
    pub offered: Offered,
    /// Frames sent to it.
    pub sent: u64,
    /// Different ones received.
    pub received: u64,
    /// Missing.
    pub lost: u64,
    /// Missing, in percent of what was sent.
    pub loss_percent: f64,
    /// Copies.
    pub duplicate: u64,
    /// Came after a later one.
    pub reordered: u64,
    /// Of those that are missing, lost in the port's own host.
    pub lost_in_host: u64,
    /// Frames a second received, over the sender's time.
    pub forwarded_pps: f64,
    /// Whether frames were seen to arrive before the trial began.
    pub learned: bool,
    /// One-way delay of all its frames, where clocks allow to tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<Distribution>,
    /// Interarrival jitter (RFC 3550 §6.4.1): its highest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ns: Option<u64>,
}
