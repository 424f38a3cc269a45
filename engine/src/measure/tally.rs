//! What workers hand to the collector.
//!
//! Counters in a tally are totals since the worker started, so that a tally can replace its predecessor;
//! histograms hold what was recorded since the last hand-over, and are added up.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use hdrhistogram::Histogram;

use super::delay::{SenderSpread, Steps};
use super::sequence::Detail;
use crate::clock::Claim;
use crate::interop::iperf2::server::Row;

/// Longest latency that the histograms hold: a minute, in ns.
pub const MAX_LATENCY_NS: u64 = 60_000_000_000;

/// Format of a datagram, as recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// wirerate's probe header.
    Wirerate,
    /// iperf 2's UDP header.
    Iperf2,
    /// Counted without being understood.
    Raw,
    /// RTP (RFC 3550) without wirerate's probe.
    Rtp,
    /// An MPEG transport stream in datagrams without RTP.
    Ts,
}

impl Format {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wirerate => "wirerate",
            Self::Iperf2 => "iperf2",
            Self::Raw => "raw",
            Self::Rtp => "rtp",
            Self::Ts => "ts",
        }
    }
}

/// What tells one stream from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Format.
    pub format: Format,
    /// The sender's run (`Wirerate`), the SSRC (`Rtp`), 0 otherwise.
    pub run: u32,
    /// Stream number (`Wirerate`), 0 otherwise.
    pub stream: u16,
    /// Who sends it.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
}

/// Counts of received datagrams, as the report's `rx` has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RxCounters {
    /// Datagrams of a recognised format: unique and duplicate.
    pub packets: u64,
    /// Different datagrams.
    pub unique: u64,
    /// Copies of a datagram already counted.
    pub duplicate: u64,
    /// Gaps in the sequence, not counting the tail.
    pub lost: u64,
    /// Missing after the last that arrived, known from the end-of-stream message.
    pub lost_tail: u64,
    /// Sent before the receiver was ready: not lost.
    pub before_start: u64,
    /// Arrived after one with a higher number.
    pub reordered: u64,
    /// Arrived after the tracker's window had passed them; within `reordered`.
    pub late: u64,
    /// Counted as duplicates, from so far back that they may have been late instead.
    pub undecided: u64,
    /// Recognisably ours, and changed on the way.
    pub corrupt: u64,
    /// Anybody else's.
    pub foreign: u64,
    /// UDP payload of `packets`.
    pub payload_bytes: u64,
    /// Frames with FCS of `packets`.
    pub frame_bytes: u64,
    /// Frames of `packets`: more than packets where they came in fragments.
    pub frames: u64,
    /// CLOCK_TAI in ns of the first arrival; 0 before.
    pub first_ns: u64,
    /// CLOCK_TAI in ns of the last arrival.
    pub last_ns: u64,
}

/// One stream's figures since it was first heard.
#[derive(Debug, Clone)]
pub struct StreamTally {
    /// Which stream.
    pub key: StreamKey,
    /// Its counts; `foreign` are packets of an RTP source whose numbers are far from its sequence.
    pub counters: RxCounters,
    /// Smoothed interarrival jitter (RFC 3550 §6.4.1) and its highest value, in ns.
    pub jitter_ns: Option<(u64, u64)>,
    /// What the sender said of the end, once it has.
    pub end: Option<crate::packet::probe::End>,
    /// Messages that the sender said it sent before the end.
    pub announced: u64,
    /// CLOCK_TAI in ns when the end was first heard.
    pub ended_ns: u64,
    /// How it was lost and reordered: in a worker's last tally, of a stream with numbers.
    pub detail: Option<Box<Detail>>,
    /// What a media stream says of itself.
    pub media: Option<Box<super::media::MediaFigures>>,
}

/// What a sender said of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderClock {
    /// Who sends.
    pub source: IpAddr,
    /// Its run.
    pub run: u32,
    /// What it said; at its worst, if it said more than one thing.
    pub claim: Claim,
}

/// A packet's times by the kernels of both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The sender's run.
    pub run: u32,
    /// Stream number.
    pub stream: u16,
    /// Sequence number.
    pub sequence: u64,
    /// CLOCK_TAI in ns when the sender's kernel gave it to the driver.
    pub sent_ns: u64,
    /// CLOCK_TAI in ns when the receiver's took it from there.
    pub arrived_ns: u64,
}

/// Most pairs of one hand-over.
pub const MAX_PAIRS: usize = 1 << 16;

/// A receive worker's hand-over.
#[derive(Debug)]
pub struct RxTally {
    /// Which worker.
    pub worker: usize,
    /// CLOCK_TAI in ns of the hand-over.
    pub at_ns: u64,
    /// Totals since the worker started.
    pub counters: RxCounters,
    /// Totals of each stream since the worker started.
    pub streams: Vec<StreamTally>,
    /// One-way latency in ns of datagrams that carry a CLOCK_TAI time, since the last hand-over.
    pub latency: Histogram<u64>,
    /// Time in ns from the driver of the sender to that of this host, by the stamps of both kernels, since the last hand-over.
    pub wire: Histogram<u64>,
    /// Those times packet by packet, where somebody wants them, since the last hand-over.
    pub pairs: Vec<Pair>,
    /// Pairs that found no room. Total.
    pub pairs_missing: u64,
    /// Transit times by sender, since the last hand-over.
    pub spreads: Vec<SenderSpread>,
    /// Differences between the delays of consecutive datagrams, since the last hand-over.
    pub steps: Steps,
    /// Time in ns from one batch of datagrams of a recognised format to the next, as the queue took them over, since the last
    /// hand-over.
    pub gaps: Histogram<u64>,
    /// Datagrams that seemed to arrive before they were sent: the clocks disagree. Total.
    pub negative_latency: u64,
    /// Datagrams of recognised formats whose streams were more than can be followed; in no other count. Total.
    pub untracked: u64,
    /// Datagrams of recognised formats that could not be counted, because another CPU held their stream for too long (`xdp`); in no
    /// other count. Total.
    pub contended: u64,
    /// Who stamped the payloads, where stamps were asked for. Total.
    pub stamps: crate::queue::StampCounts,
    /// Messages of the streams: of their ends, and announcements. Total.
    pub messages: u64,
    /// What the senders said of their clocks.
    pub clocks: Vec<SenderClock>,
    /// What the kernel dropped at this queue. Total.
    pub losses: Vec<crate::queue::QueueLoss>,
    /// Lines that iperf 2's server would have printed, where somebody wants them, since the last hand-over.
    pub as_iperf2: Vec<Row>,
}

impl RxTally {
    /// An empty tally of worker number `worker`.
    pub fn new(worker: usize) -> Self {
        Self {
            worker,
            at_ns: 0,
            counters: RxCounters::default(),
            streams: Vec::new(),
            latency: latency_histogram(),
            wire: latency_histogram(),
            pairs: Vec::new(),
            pairs_missing: 0,
            spreads: Vec::new(),
            steps: Steps::default(),
            gaps: gap_histogram(),
            negative_latency: 0,
            untracked: 0,
            contended: 0,
            stamps: crate::queue::StampCounts::default(),
            messages: 0,
            clocks: Vec::new(),
            losses: Vec::new(),
            as_iperf2: Vec::new(),
        }
    }
}

impl RxCounters {
    /// Adds the counts of another stream or worker; the times become the earliest and the latest.
    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.unique += other.unique;
        self.duplicate += other.duplicate;
        // What is missing is told by numbers in packets, which anybody may write: several streams may claim more than there can be.
        self.lost = self.lost.saturating_add(other.lost);
        self.lost_tail = self.lost_tail.saturating_add(other.lost_tail);
        self.before_start = self.before_start.saturating_add(other.before_start);
        self.reordered += other.reordered;
        self.late += other.late;
        self.undecided += other.undecided;
        self.corrupt += other.corrupt;
        self.foreign += other.foreign;
        self.payload_bytes += other.payload_bytes;
        self.frame_bytes += other.frame_bytes;
        self.frames += other.frames;
        self.first_ns = match (self.first_ns, other.first_ns) {
            (0, first) | (first, 0) => first,
            (a, b) => a.min(b),
        };
        self.last_ns = self.last_ns.max(other.last_ns);
    }
}

/// A transmit worker's hand-over.
#[derive(Debug)]
pub struct TxTally {
    /// Which worker.
    pub worker: usize,
    /// CLOCK_TAI in ns of the hand-over.
    pub at_ns: u64,
    /// Packets handed over to the kernel or the NIC. Total.
    pub packets: u64,
    /// Packets that this host refused. Total.
    pub errors: u64,
    /// Packets taken by the queue, whatever became of them: those whose numbers are used. Total.
    pub issued: u64,
    /// Packets that a stream sends in its turn.
    pub turn: u64,
    /// UDP payload of `packets` and `errors`, bytes. Total.
    pub payload_bytes: u64,
    /// Frames with FCS of `packets` and `errors`, bytes. Total.
    pub frame_bytes: u64,
    /// Frames of `packets` and `errors`: more than packets where they leave in fragments. Total.
    pub frames: u64,
    /// End-of-stream messages. Total.
    pub messages: u64,
    /// CLOCK_TAI in ns of the first packet; 0 before.
    pub first_ns: u64,
    /// CLOCK_TAI in ns of the last packet.
    pub last_ns: u64,
    /// What was heard of the ends of iperf's streams: in a worker's last tally.
    pub iperf2: crate::generate::Ends,
    /// Packets whose time had passed when they were handed over, where each has a time to leave at. Total.
    pub overdue: Option<u64>,
    /// Packets handed over at once (without a pace: until the queue was full), since the last hand-over.
    pub burst: Histogram<u64>,
    /// Time in ns by which bursts began later than planned, since the last hand-over; empty without a pace.
    pub lateness: Histogram<u64>,
    /// Time in ns from the start of a burst to that of the next (without a pace: from one hand-over to the kernel or the NIC to the next), since the
    /// last hand-over.
    pub gaps: Histogram<u64>,
}

impl TxTally {
    /// An empty tally of worker number `worker`.
    pub fn new(worker: usize) -> Self {
        Self {
            worker,
            at_ns: 0,
            packets: 0,
            errors: 0,
            issued: 0,
            turn: 1,
            payload_bytes: 0,
            frame_bytes: 0,
            frames: 0,
            messages: 0,
            first_ns: 0,
            last_ns: 0,
            iperf2: crate::generate::Ends::default(),
            overdue: None,
            burst: burst_histogram(),
            lateness: latency_histogram(),
            gaps: gap_histogram(),
        }
    }
}

/// An empty latency histogram: 1 ns to a minute, two significant digits (1 %). A third digit would take 220 KiB for each histogram instead of 30,
/// more than a core's first cache, to tell differences that are smaller than the time between two packets of a batch.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_LATENCY_NS, 2).expect("constant bounds are valid")
}

/// An empty histogram of times between batches: 1 ns to a minute, two significant digits.
pub fn gap_histogram() -> Histogram<u64> {
    latency_histogram()
}

/// An empty histogram of burst lengths, exact to 1 %.
pub fn burst_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 1 << 20, 2).expect("constant bounds are valid")
}
