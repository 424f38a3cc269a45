//! What a comparison came to: plain data, as docs/compare.schema.json describes it. Units are in the names; what a tool does not tell is absent.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::baseline::Baseline;
use super::limits::Limit;
use super::noise::Spread;
use crate::report::{Verdict, Warning};

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "wirerate.compare/1";

/// Everything that was found out.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Start in RFC 3339, UTC.
    pub started_at: String,
    /// The effective parameters, defaults filled in.
    pub config: Config,
    /// Where packets are sent.
    pub from: End,
    /// Where they arrive.
    pub to: End,
    /// Each tool that was run, in the order of `--tools`.
    pub tools: Vec<ToolReport>,
    /// Tools that were asked for, or could have been, and that were not run.
    pub missing: Vec<Missing>,
    /// An earlier result set beside this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// What a reader should know before believing the figures.
    pub warnings: Vec<Warning>,
    /// It was ended early; the report has the rounds by then.
    pub interrupted: bool,
    /// Why it ended before it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Whether it met what was expected of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// What all tools are asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// The rate, as typed.
    pub rate: String,
    /// Packets a second; absent: as fast as each can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pps: Option<f64>,
    /// Payload bits a second; absent: as fast as each can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_bps: Option<f64>,
    /// UDP payload of each packet in bytes. TCP cuts its stream as it likes.
    pub length_bytes: u32,
    /// The frame of such a packet, with FCS.
    pub frame_bytes: u32,
    /// Time of each trial.
    pub duration_ns: u64,
    /// Rounds in which every tool has its turn.
    pub rounds: u32,
    /// The port that all of them use, TCP and UDP.
    pub port: u16,
    /// The most datagrams in one buffer of our sockets: `auto`, `off` or a number.
    pub segments: String,
}

/// One end of the path.
#[derive(Debug, Clone, Serialize)]
pub struct End {
    /// The interface.
    pub interface: String,
    /// Its address.
    pub address: String,
    /// The command that reaches it; absent: this host, this network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Name of the host, or of the container.
    pub host: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Speed of the link, where the driver has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_bps: Option<u64>,
}

/// A tool that was not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Its name in `--tools`.
    pub name: String,
    /// Why, in one clause.
    pub why: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Everything about one tool.
#[derive(Debug, Clone, Serialize)]
pub struct ToolReport {
    /// Its name in `--tools`: `iperf3-udp`, `uring`.
    pub name: &'static str,
    /// What it is: "iperf3 3.12, UDP", "wirerate uring (gso)".
    pub what: String,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// It is one of wirerate's own datapaths.
    pub own: bool,
    /// What is typed at the sending end.
    pub sender: String,
    /// What is typed at the receiving end.
    pub receiver: String,
    /// What its jitter is, and at what moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_is: Option<&'static str>,
    /// Medians and intervals over the rounds.
    pub summary: Summary,
    /// What limited it, over the rounds.
    pub limit: Limit,
    /// Each round.
    pub trials: Vec<Trial>,
}

/// Medians over the rounds, each with an interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Payload bits a second offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offered_bps: Option<Spread>,
    /// Payload bits a second delivered, by the receiver's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered_bps: Option<Spread>,
    /// Loss as the tool states it, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_stated_percent: Option<Spread>,
    /// Loss as it is proven, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_proven_percent: Option<Spread>,
    /// Jitter as the tool defines it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ns: Option<Spread>,
    /// CPU seconds of the sender for each gigabyte (10⁹ bytes) of payload that it sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_cpu_s_per_gb: Option<Spread>,
    /// CPU seconds of the receiver for each gigabyte of payload delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver_cpu_s_per_gb: Option<Spread>,
}

/// One round of one tool.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// The round, from 1.
    pub round: u32,
    /// Its turn in the round, from 1.
    pub turn: u32,
    /// What was sent, by the sender's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offered: Option<Flow>,
    /// What was received, by the receiver's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Flow>,
    /// Loss and jitter as the tool states them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stated: Option<Stated>,
    /// Loss as it is proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proven: Option<Proven>,
    /// CPU of both ends.
    pub cpu: Cpu,
    /// What limited it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// The path was quiet before it.
    pub quiet: bool,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A flow at one end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Flow {
    /// Datagrams; absent for TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Payload.
    pub payload_bytes: u64,
    /// Time, in seconds.
    pub seconds: f64,
    /// Payload bits a second.
    pub payload_bps: f64,
}

/// What a tool says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stated {
    /// Datagrams that it says were lost; negative where copies outnumber losses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<i64>,
    /// The same in percent, as it counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_percent: Option<f64>,
    /// Datagrams that it says came out of order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_order: Option<u64>,
    /// Copies, where it tells them from others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<u64>,
    /// Jitter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ns: Option<f64>,
    /// Segments that TCP sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u64>,
}

/// What can be proven of the loss of one trial: `sent + copies = received + Σ drops + unaccounted`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Proven {
    /// By whose counts: `ledger` (numbers in every packet, ours), `kernel` (counters of both ends' kernels, which no tool can change), `tcp` (the kernel's count of segments that were sent
    /// again); absent where nothing can be proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'static str>,
    /// Why something is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_known: Vec<String>,
    /// Datagrams that left the sender's socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Datagrams that the receiver's socket handed over: different ones by the ledger, copies among them by the kernel's counters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// Datagrams of these that never arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// The same in percent of `sent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_percent: Option<f64>,
    /// Copies that the path made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<u64>,
    /// Where the kernel dropped them; absent where it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drops: Option<Vec<Drop>>,
    /// Lost, and dropped at no place that was watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unaccounted: Option<u64>,
    /// TCP segments that the sender's kernel sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmitted: Option<u64>,
    /// Frames that both ends' interfaces counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Interfaces>,
}

/// What both interfaces counted in a trial: frames of everybody, and a buffer of several datagrams is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Interfaces {
    /// Left the sender's.
    pub left: u64,
    /// Came to the receiver's.
    pub came: u64,
    /// Dropped by the sender's interface.
    pub from_dropped: u64,
    /// Dropped by the receiver's interface.
    pub to_dropped: u64,
}

/// Datagrams dropped at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drop {
    /// Place, in the ledger's terms: `netfilter`, `qdisc`, `socket`.
    pub place: String,
    /// The interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Which network namespace: `sender`, `receiver`, `between` (another of a kernel that was watched).
    pub at: &'static str,
    /// The kernel's reason.
    pub reason: String,
    /// Datagrams.
    pub packets: u64,
}

/// CPU of both ends.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// The sender's.
    pub sender: CpuOf,
    /// The receiver's.
    pub receiver: CpuOf,
}

/// CPU of one end.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuOf {
    /// CPU time of the process in the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_ns: Option<u64>,
    /// CPU time of the process in the kernel. What soft interrupts did for it is not in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_ns: Option<u64>,
    /// CPU seconds for each gigabyte (10⁹ bytes) of payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s_per_gb: Option<f64>,
    /// The process, in percent of one CPU over the trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// The busiest CPU of that host over the trial, in percent: of everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busiest_percent: Option<f64>,
    /// Soft interrupts of that host over the trial, in percent of one CPU: of everybody, the receive side of the network among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub softirq_percent: Option<f64>,
    /// Why CPU time is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_known: Option<String>,
}
