//! The report: plain data, as docs/report.schema.json describes it. Rendered only by the command line.
//!
//! Units are in the names; a part that a command does not have is absent.
#![forbid(unsafe_code)]

mod begin;
mod clock;
mod drop;
mod groups;
mod hlog;
mod media;
mod pairs;
mod pattern;
mod rates;
mod rtcp;
mod rx;
mod tx;

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

pub use crate::host::counters::Counter;

pub(crate) use begin::effective;
pub use clock::Clocks;
pub use groups::{GroupLoss, Groups};
pub use hlog::HistogramLog;
pub use media::{IntervalMdi, Mdi, PayloadType, Pcr, Pid, Program, Rtp, RtpSources, Ts};
pub use pairs::PacketTable;
pub use pattern::{Bucket, Iperf, LossPeriods, ReorderingExtent, Spread};
pub(crate) use rates::distribution;
pub use rtcp::{RoundTrip, Rtcp, RtcpPeer, RtcpSender};
pub use rx::RxCollector;
pub use tx::TxCollector;

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "wirerate.report/1";

/// Everything that a command found out.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The command, as typed after `wirerate`.
    pub command: String,
    /// Start in RFC 3339, UTC.
    pub started_at: String,
    /// The machine.
    pub host: Host,
    /// The effective configuration, defaults filled in.
    pub config: serde_json::Value,
    /// The datapath.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// The workers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<Worker>,
    /// What the program did with the packets that it saw (afxdp and xdp, receiving; without those that the sink took).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steer: Vec<Steered>,
    /// Figures over time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub intervals: Vec<Interval>,
    /// What was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx: Option<Tx>,
    /// What was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx: Option<Rx>,
    /// What was said and heard by RTCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtcp: Option<Rtcp>,
    /// What times were taken by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    /// Where packets went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledger>,
    /// What a reader should know before believing the figures.
    pub warnings: Vec<Warning>,
    /// Whether it met what was expected of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// The machine.
#[derive(Debug, Clone, Serialize)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// CPUs online.
    pub cpus: usize,
    /// The memory of this process is kept from being paged out.
    pub memory_locked: bool,
    /// Interfaces used.
    pub nic: Vec<Nic>,
}

/// A network interface.
#[derive(Debug, Clone, Serialize)]
pub struct Nic {
    /// Name.
    pub name: String,
    /// Kernel driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Link speed, where the driver has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_bps: Option<u64>,
    /// NUMA node, where the device has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// Receive queues.
    pub queues: u32,
}

/// The datapath that ran, as granted by the kernel.
#[derive(Debug, Clone, Serialize)]
pub struct Backend {
    /// `afxdp`, `uring`, `mmsg`, `xdp`.
    pub name: &'static str,
    /// `zero-copy` or `copy` (afxdp); `gso` (sockets that send several datagrams as one buffer), `gro` (sockets that
    /// receive them so), `plain` (sockets, one datagram a buffer), `live` (xdp, made in the kernel); `xdp` or `tc`, where the sink is (xdp, receiving).
    pub mode: &'static str,
    /// `native`, `generic` or `none`: how the XDP program is attached.
    pub xdp: &'static str,
    /// Datagrams of one hand-over to or from the kernel at most (sockets), or of one buffer that came (xdp, receiving): 1 without
    /// segmentation offload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<u16>,
    /// Buffers left without the kernel's copy, to the end of the run (uring, sending); absent when they did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_copy_send: Option<bool>,
    /// Whether the receiver had the payload copied to it, or looked at headers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_touched: Option<bool>,
    /// Why this backend and mode.
    pub why: String,
}

/// A worker and its place.
#[derive(Debug, Clone, Serialize)]
pub struct Worker {
    /// NIC queue, or index of the socket; of the sink (xdp), index among the CPUs that it ran on.
    pub queue: u32,
    /// CPU it is pinned to, or ran on.
    pub cpu: usize,
    /// NUMA node of the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// Why it is there.
    pub why: String,
    /// NUMA node of the frames (afxdp).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_node: Option<u32>,
    /// Packets it sent or received.
    pub packets: u64,
}

/// Packets of one queue that the XDP program came to one verdict on.
#[derive(Debug, Clone, Serialize)]
pub struct Steered {
    /// Interface.
    pub interface: String,
    /// Receive queue; 256 stands for all from 256 on.
    pub queue: u32,
    /// `passed`, `redirected`, `no-socket`, `fragment`, `malformed`, `unwalked`.
    pub verdict: &'static str,
    /// Packets.
    pub packets: u64,
    /// Their frames, without FCS.
    pub frame_bytes: u64,
}

/// Figures of one interval.
#[derive(Debug, Clone, Serialize)]
pub struct Interval {
    /// Start, from the start of the run.
    pub start_ns: u64,
    /// End, from the start of the run.
    pub end_ns: u64,
    /// Sent in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx: Option<IntervalTx>,
    /// Received in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx: Option<IntervalRx>,
}

/// Sent in an interval.
#[derive(Debug, Clone, Serialize)]
pub struct IntervalTx {
    /// Packets handed over.
    pub packets: u64,
    /// Packets refused by this host.
    pub errors: u64,
    /// Packets a second.
    pub pps: u64,
    /// UDP payload.
    pub payload_bps: u64,
}

/// Received in an interval.
#[derive(Debug, Clone, Serialize)]
pub struct IntervalRx {
    /// Datagrams of a recognised format.
    pub packets: u64,
    /// Gaps that appeared; negative when late arrivals filled earlier ones.
    pub lost: i64,
    /// Datagrams a second.
    pub pps: u64,
    /// UDP payload.
    pub payload_bps: u64,
    /// One-way latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<Distribution>,
    /// Media delivery index (RFC 4445).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mdi: Option<IntervalMdi>,
}

/// What was sent.
#[derive(Debug, Clone, Serialize)]
pub struct Tx {
    /// Packets handed over to the kernel or the NIC, without end-of-stream messages.
    pub packets: u64,
    /// IP packets that they left in, where the MTU cut some of them into fragments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragments: Option<u64>,
    /// Their frames, FCS included.
    pub frame_bytes: u64,
    /// Their UDP payload.
    pub payload_bytes: u64,
    /// Time from the first packet to the last.
    pub duration_ns: u64,
    /// Packets a second.
    pub pps: u64,
    /// Bits a second on the line: frame, FCS, preamble, SFD and gap.
    pub l1_bps: u64,
    /// Bits a second of frames with FCS.
    pub l2_bps: u64,
    /// Bits a second of UDP payload.
    pub payload_bps: u64,
    /// Packets that this host refused.
    pub errors: u64,
    /// End-of-stream messages sent after them.
    pub messages: u64,
    /// What iperf servers answered to the ends of their streams.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub iperf2: Vec<IperfServer>,
    /// Of packets with a time at which the queueing discipline lets them go, those that were handed over after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overdue: Option<u64>,
    /// Packets handed over at once; without a pace, until the queue was full; 1 where each has its own time.
    pub burst: Burst,
    /// Time from the start of a burst to that of the next, of each worker; without a pace, from one hand-over of packets to the
    /// kernel or the NIC to the next; where each packet has its own time, from one's to the next's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inter_departure_ns: Option<Distribution>,
    /// Time by which bursts began later than the pace had planned; absent without a pace, and where each packet has its own time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lateness_ns: Option<Distribution>,
}

/// What an iperf server said of a stream.
#[derive(Debug, Clone, Serialize)]
pub struct IperfServer {
    /// Stream number.
    pub stream: u16,
    /// What it said.
    #[serde(flatten)]
    pub said: crate::interop::iperf2::client::Answer,
}

/// Lengths of bursts in packets.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Burst {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// Longest.
    pub max: u64,
}

/// What was received.
#[derive(Debug, Clone, Serialize)]
pub struct Rx {
    /// Datagrams of a recognised format: unique and duplicate.
    pub packets: u64,
    /// Different datagrams.
    pub unique: u64,
    /// IP packets that they came in, where some were in fragments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragments: Option<u64>,
    /// Frames with FCS.
    pub frame_bytes: u64,
    /// UDP payload.
    pub payload_bytes: u64,
    /// Time from the first arrival to the last.
    pub duration_ns: u64,
    /// Datagrams a second.
    pub pps: u64,
    /// Bits a second on the line.
    pub l1_bps: u64,
    /// Bits a second of frames with FCS.
    pub l2_bps: u64,
    /// Bits a second of UDP payload.
    pub payload_bps: u64,
    /// Gaps, without the tail.
    pub lost: u64,
    /// Missing after the last that arrived.
    pub lost_tail: u64,
    /// Sent before the receiver was ready.
    pub before_start: u64,
    /// Copies.
    pub duplicate: u64,
    /// Arrived after a higher number.
    pub reordered: u64,
    /// Arrived after the window had passed; absent where that cannot be told from a copy (`xdp`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<u64>,
    /// Ours, changed on the way.
    pub corrupt: u64,
    /// Not ours.
    pub foreign: u64,
    /// End-of-stream messages; in no other count.
    pub messages: u64,
    /// Who said when packets arrived.
    pub timestamps: Timestamps,
    /// One-way latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<Distribution>,
    /// Time from the sender's driver to this host's, by the stamps of both kernels (`--timestamps kernel` at both ends), or of this host's NIC (`nic` here).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire_latency_ns: Option<Distribution>,
    /// Time from one batch of datagrams to the next, as each worker's queue took them over: what is found together has arrived
    /// together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inter_arrival_ns: Option<Distribution>,
    /// Interarrival jitter of the stream with the highest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ns: Option<Jitter>,
    /// Packet delay variation (RFC 5481 §4.2): each packet's delay minus the lowest of its sender's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pdv_ns: Option<Distribution>,
    /// Inter-packet delay variation (RFC 5481 §4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipdv_ns: Option<Ipdv>,
    /// Streams that are a sender's next run, after it was started again.
    pub restarts: u64,
    /// Loss as runs of packets, of all streams; absent without loss, and where it is not known (`xdp`, or a stream that came to several workers).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_periods: Option<LossPeriods>,
    /// How far packets were reordered, of all streams; absent when none was, and where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reordering: Option<ReorderingExtent>,
    /// What iperf3 would have printed for the same arrivals; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_iperf3: Option<Iperf>,
    /// What iperf 2 would have printed for the same arrivals; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_iperf2: Option<Iperf>,
    /// All RTP sources together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtp: Option<RtpSources>,
    /// How packets came to the groups and ports that were asked for, where these are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
    /// Each stream.
    pub streams: Vec<Stream>,
}

/// Who said when packets arrived.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Timestamps {
    /// `kernel`: it did when it took them from the driver, or an eBPF program did there; `user`: the program when it took them from its queue; `nic`: the NIC.
    pub source: &'static str,
    /// Datagrams, messages among them, that the NIC stamped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nic: Option<u64>,
    /// Datagrams, messages among them, that the NIC was to stamp and the kernel did, or the XDP program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<u64>,
    /// Datagrams, messages among them, that had no stamp of the kernel's (nor of the NIC's) and got one of the program's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<u64>,
    /// Of those in `kernel` or `missing`, the ones that the NIC stamped with a time that cannot be: its clock was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implausible: Option<u64>,
    /// The clock that the NIC stamps by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nic_clock: Option<NicClock>,
}

/// A NIC's own clock against CLOCK_TAI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NicClock {
    /// The device is /dev/ptpN.
    pub phc: u32,
    /// How both clocks were read: `precise` at one moment, by hardware; `extended` with the kernel's around the NIC's register; `plain` around the whole driver.
    pub read: &'static str,
    /// ns that the NIC's was ahead of CLOCK_TAI at the end.
    pub offset_ns: i64,
    /// By how much it went faster, at the end, in parts of 10⁹.
    pub faster_ppb: i64,
    /// What its stamps on CLOCK_TAI may be off: the most of all comparisons, half of the time that each took and what it was off from what was foreseen.
    pub error_ns: u64,
    /// How often both were compared.
    pub comparisons: u64,
    /// How often one of the two was set.
    pub steps: u64,
}

/// How times in ns are distributed, to 1 % (those of STAMP to 0.1 %). A percentile that there are too few times for is absent: q takes 1/(1 - q) of them.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Distribution {
    /// Times measured.
    pub count: u64,
    /// Lowest.
    pub min: u64,
    /// Mean.
    pub mean: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p90: Option<u64>,
    /// 99th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<u64>,
    /// 99.9th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p999: Option<u64>,
    /// 99.99th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p9999: Option<u64>,
    /// 99.999th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99999: Option<u64>,
    /// Highest.
    pub max: u64,
}

/// Differences between the delays of packets with consecutive numbers.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ipdv {
    /// The lowest: by so much did a packet catch up with the one before.
    pub min: i64,
    /// The highest: by so much did it fall behind.
    pub max: i64,
    /// Without their signs.
    pub magnitude: Distribution,
}

/// Interarrival jitter.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Jitter {
    /// RFC 3550 §6.4.1, at the end.
    pub rfc3550: u64,
    /// Its highest value.
    pub max: u64,
}

/// One stream.
#[derive(Debug, Clone, Serialize)]
pub struct Stream {
    /// Stream number.
    pub id: u16,
    /// The sender's run.
    pub run: u32,
    /// `wirerate`, `iperf2`, `rtp`, `ts`, `raw`.
    pub format: &'static str,
    /// Who sent it.
    pub source: SocketAddr,
    /// Group, or destination address.
    pub group: IpAddr,
    /// Destination port.
    pub port: u16,
    /// Datagrams.
    pub packets: u64,
    /// Different datagrams.
    pub unique: u64,
    /// Gaps, without the tail.
    pub lost: u64,
    /// Missing after the last that arrived.
    pub lost_tail: u64,
    /// Sent before the receiver was ready.
    pub before_start: u64,
    /// Copies.
    pub duplicate: u64,
    /// Arrived after a higher number.
    pub reordered: u64,
    /// Arrived after the window had passed; absent where that cannot be told from a copy (`xdp`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<u64>,
    /// Changed on the way.
    pub corrupt: u64,
    /// Interarrival jitter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ns: Option<Jitter>,
    /// What the sender said that it sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Number of the packet that arrived first; what is below it was sent before the receiver was ready, or lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_number: Option<u64>,
    /// Run that the same sender was on before it was started again: what is missing between the two was not lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_of: Option<u32>,
    /// Loss as runs of packets; absent without loss, and where it is not known (`xdp`, or a stream that came to several workers).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_periods: Option<LossPeriods>,
    /// How far packets were reordered; absent when none was, and where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reordering: Option<ReorderingExtent>,
    /// What iperf3 would have printed for the same arrivals; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_iperf3: Option<Iperf>,
    /// What iperf 2 would have printed for the same arrivals; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_iperf2: Option<Iperf>,
    /// What its RTP headers say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtp: Option<Rtp>,
    /// The transport stream that it is or carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts: Option<Ts>,
}

/// What times were taken by, and whether those of the two ends can be compared.
#[derive(Debug, Clone, Serialize)]
pub struct Clock {
    /// The clock that times are told by.
    pub source: &'static str,
    /// What the kernel counts time by: `tsc`, `kvm-clock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clocksource: Option<String>,
    /// How this host keeps it, where the kernel tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<ClockState>,
    /// How often it was set, or its offset to UTC changed, in the course of the run.
    pub steps: u64,
    /// `same-host`, `disciplined`, `undisciplined`, `unknown`: that of the sender that compares worst. A latency is told with the first two only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relation: Option<&'static str>,
    /// How far the clocks may be apart, as the hosts claim, and where the NIC stamps arrivals what its clock may be off; absent where they make no such claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_ns: Option<u64>,
    /// Each sender's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub senders: Vec<PeerClock>,
}

/// How a host keeps its clock (`adjtimex(2)`), at its worst in the course of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ClockState {
    /// A daemon keeps it.
    pub synchronised: bool,
    /// Seconds that CLOCK_TAI is ahead of UTC; 0 while nobody told the kernel.
    pub tai_offset_s: i32,
    /// The error that the daemon expects.
    pub estimated_error_ns: u64,
    /// The error that it rules out to be exceeded.
    pub max_error_ns: u64,
}

/// A sender's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerClock {
    /// Who sends.
    pub source: IpAddr,
    /// Its run.
    pub run: u32,
    /// As in [`Clock::relation`].
    pub relation: &'static str,
    /// As in [`Clock::error_ns`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_ns: Option<u64>,
    /// What it said of its clock, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<ClockState>,
}

/// Where packets went: sent = received + drops + unaccounted, on every path.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Ledger {
    /// One for each sender and receiver.
    pub paths: Vec<Path>,
    /// The sender's side: what became of its packets as far as its host can see (send).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sending: Option<Sending>,
    /// What the ports at both ends of a cable counted, where the sender's was named (recv).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cable: Option<Cable>,
    /// What counters of the interface and of the machine, which count everybody's packets, rose by meanwhile: no part of any sum.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Counter>,
}

/// What two physical ports with a cable between them counted during a run: everybody's packets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cable {
    /// The sender's port, with its namespace as it was named.
    pub from: String,
    /// The receiver's port.
    pub to: String,
    /// Packets that left the sender's port.
    pub left: u64,
    /// The counter that says so; the first, where it takes one for each of unicast, multicast and broadcast.
    pub left_by: &'static str,
    /// Packets that came to the receiver's port without an error.
    pub came: u64,
    /// The counter that says so.
    pub came_by: &'static str,
    /// Packets that came to it and that its NIC dropped: missed, FIFO, CRC.
    pub dropped: u64,
    /// Packets that left the one and did not come to the other, dropped or not.
    pub missing: u64,
    /// Packets that left the sender's port and were not of the runs that the receiver heard; absent when one of these has not said its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<u64>,
    /// The counters had come to rest, before and after.
    pub quiet: bool,
    /// The receiver's port knows of all packets that the receiver had.
    pub whole: bool,
}

/// A sender's packets.
#[derive(Debug, Clone, Serialize)]
pub struct Sending {
    /// Numbers used: packets handed over, and those refused.
    pub sent: u64,
    /// Of them, packets lost whose place is known. What is in another namespace of the host is in the receiver's ledger, too, if the receiver is on this host.
    pub drops: Vec<Drop>,
}

/// One sender, one receiver.
#[derive(Debug, Clone, Serialize)]
pub struct Path {
    /// Who sent.
    pub sender: String,
    /// Who received.
    pub receiver: String,
    /// Packets sent.
    pub sent: u64,
    /// Different packets received.
    pub received: u64,
    /// Packets lost whose place is known.
    pub drops: Vec<Drop>,
    /// Packets lost whose place is not known; negative when places counted more than is missing.
    pub unaccounted: i64,
}

/// Packets lost at one place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Drop {
    /// Where: `sender`, `netfilter`, `qdisc`, `tx`, `wire`, `nic-rx`, `veth`, `backlog`, `link`, `bridge`, `ip`, `tunnel`, `socket`, `xsk`, `xdp`, `application`; `kernel` for the rest of it.
    pub place: String,
    /// Interface, where the place has one; with its host before it where several hosts are looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Inode of the interface's network namespace, as in /proc/self/ns/net, where it is not the one of this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<u64>,
    /// What that namespace is known by: its name in /run/netns, or a process that lives in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Why, in the kernel's own terms.
    pub reason: String,
    /// The kernel's function that dropped them, where it gave no reason and shows its symbols.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Packets.
    pub packets: u64,
}

/// What a reader should know before believing the figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Stable name for scripts: `generic-xdp`, `copy-mode`.
    pub code: &'static str,
    /// What is the matter.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Pass, fail, inconclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Met.
    Pass,
    /// Not met.
    Fail,
    /// Cannot be told.
    Inconclusive,
}

/// Whether the run met what was expected of it.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The worst of the checks.
    pub outcome: Outcome,
    /// Each expectation.
    pub checks: Vec<Check>,
}

/// One expectation.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Its option's name.
    pub name: &'static str,
    /// What was wanted.
    pub want: String,
    /// What came.
    pub got: String,
    /// Whether it fits.
    pub outcome: Outcome,
}
