//! Packet queues: the paths from user space to the wire and back.
//!
//! A queue is owned by one worker and trades in runs: one flow, one size, consecutive sequence numbers.
//! [`Transmit`] and [`Receive`] are implemented by `afxdp`, `socket::{uring, mmsg}` and `memory`;
//! the workers are compiled once for each of them.

pub mod afxdp;
pub mod headers;
pub mod memory;
pub mod outage;
pub mod ring;
pub mod socket;
pub mod spec;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock;
use crate::clock::device::Line;
use crate::interop::iperf2::client::ClientHeader;
use crate::interop::iperf3::header::SenderHeader;
use crate::pacing::Departures;
use crate::packet::ends::Ends;
use crate::packet::follow_up::Departed;
use crate::packet::probe::{Kind, Probe, Series};
use crate::profile::rtp::Rtp;
use headers::{AnyHeaders, HeaderKind, Iperf2, Iperf3, Plain, Probed};

pub use spec::{Flow, HugePages, RxSpec, Tuning, TxSpec};

/// Packets of one flow and one size with consecutive sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Index into the [`TxSpec::flows`] of the queue.
    pub flow: u16,
    /// UDP payload of each packet in bytes, probe header included.
    pub len: u16,
    /// Packets.
    pub count: u16,
    /// Sequence number of the first.
    pub first_seq: u64,
}

/// What a transmit queue can take.
#[derive(Debug, Clone, Copy)]
pub struct TxCaps {
    /// Packets worth submitting at once; also the longest run.
    pub batch: u16,
    /// Packets of one run that leave as one buffer, by segmentation offload: 1 without.
    pub segments: u16,
    /// Longest UDP payload in bytes.
    pub max_payload: u16,
}

/// Packets whose fate is known since the last call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Completed {
    /// Handed over to the kernel or the NIC.
    pub packets: u64,
    /// Refused by this host after they were submitted: they never left, and their numbers are gaps.
    pub failed: u64,
}

/// How long to wait when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most this long, and shorter when something arrives.
    For(Duration),
}

/// Why a queue cannot go on.
#[derive(Debug)]
pub struct QueueError {
    /// The system call or step that failed.
    pub call: &'static str,
    /// The kernel's answer.
    pub source: io::Error,
}

impl QueueError {
    /// An error of `call` with the kernel's last answer.
    pub fn last(call: &'static str) -> Self {
        Self { call, source: io::Error::last_os_error() }
    }

    /// Whether the interface under the queue is down; it may come back.
    pub fn is_link_down(&self) -> bool {
        self.source.raw_os_error() == Some(libc::ENETDOWN)
    }

    /// Whether the interface under the queue went away or down.
    pub fn is_interface_gone(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENODEV | libc::ENXIO | libc::ENETDOWN))
    }
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.source)
    }
}

impl std::error::Error for QueueError {}

/// Writes probe headers, RTP headers or both: one sender run, with the time of the batch.
#[derive(Debug)]
pub struct Stamper {
    run: u32,
    now_ns: u64,
    departures: Option<Departures>,
    rtp: Option<Rtp>,
    iperf2: Option<ClientHeader>,
    iperf3: Option<SenderHeader>,
}

impl Stamper {
    /// A stamper for the sender run `run` (24 bits).
    pub fn new(run: u32) -> Self {
        Self { run, now_ns: clock::tai_ns(), departures: None, rtp: None, iperf2: None, iperf3: None }
    }

    /// The same with RTP headers, if any. The queue has to be opened with them, too.
    pub fn with_rtp(self, rtp: Option<Rtp>) -> Self {
        Self { rtp, ..self }
    }

    /// The same with iperf 2's headers, if any. The queue has to be opened with them, too.
    pub fn with_iperf2(self, iperf2: Option<ClientHeader>) -> Self {
        Self { iperf2, ..self }
    }

    /// The same with iperf3's headers. The queue has to be opened with them, too.
    pub fn with_iperf3(self, header: SenderHeader) -> Self {
        Self { iperf3: Some(header), ..self }
    }

    /// Reads the clock; a queue calls it once for each batch that it hands over.
    #[inline]
    pub fn refresh(&mut self) -> u64 {
        self.now_ns = clock::tai_ns();
        self.now_ns
    }

    /// Gives the packets of the next hand-over times of departure.
    #[inline]
    pub fn set_departures(&mut self, departures: Departures) {
        self.departures = Some(departures);
    }

    /// When packet `n` of the hand-over is to leave, where it has a time of departure (CLOCK_TAI in ns): the headers written next carry it.
    #[inline]
    pub fn depart(&mut self, n: usize) -> Option<u64> {
        self.now_ns = self.departures?.at(n);
        Some(self.now_ns)
    }

    /// Writes the header of packet `sequence` of `stream` into the start of `payload`.
    #[inline]
    pub fn stamp(&self, payload: &mut [u8], stream: u16, sequence: u64) {
        Probe { kind: Kind::Data, run: self.run, stream, sequence, time: self.now_ns }.emit(payload);
    }

    /// The headers of packets `first_seq`, `first_seq + 1` and so on of `stream`, to be written one after the other.
    #[inline]
    pub fn series(&self, stream: u16, first_seq: u64) -> Series {
        Series::new(&Probe {
            kind: Kind::Data,
            run: self.run,
            stream,
            sequence: first_seq,
            time: self.now_ns,
        })
    }

    /// The headers of packets `first_seq`, `first_seq + 1` and so on of `stream`, of the kind that the run has.
    #[inline]
    pub fn headers(&self, stream: u16, first_seq: u64) -> AnyHeaders<'_> {
        match self.kind() {
            HeaderKind::Probe => AnyHeaders::Probe(self.series(stream, first_seq)),
            HeaderKind::Rtp(rtp) => AnyHeaders::Rtp(self.plain(rtp, stream, first_seq)),
            HeaderKind::Probed(rtp) => AnyHeaders::Probed(self.probed(rtp, stream, first_seq)),
            HeaderKind::Iperf2(header) => AnyHeaders::Iperf2(self.iperf2(header, first_seq)),
            HeaderKind::Iperf3(header) => AnyHeaders::Iperf3(self.iperf3(header, first_seq)),
        }
    }

    /// Which kind that is.
    #[inline]
    pub fn kind(&self) -> HeaderKind<'_> {
        if let Some(header) = &self.iperf3 {
            return HeaderKind::Iperf3(header);
        }
        match (&self.iperf2, self.rtp) {
            (Some(header), _) => HeaderKind::Iperf2(header),
            (None, None) => HeaderKind::Probe,
            (None, Some(rtp)) if rtp.probe => HeaderKind::Probed(rtp),
            (None, Some(rtp)) => HeaderKind::Rtp(rtp),
        }
    }

    /// RTP headers, as [`headers`](Self::headers) has them.
    #[inline]
    pub fn plain(&self, rtp: Rtp, stream: u16, first_seq: u64) -> Plain {
        Plain::new(rtp, stream, first_seq, self.now_ns)
    }

    /// iperf 2's headers, as [`headers`](Self::headers) has them.
    #[inline]
    pub fn iperf2<'a>(&self, header: &'a ClientHeader, first_seq: u64) -> Iperf2<'a> {
        Iperf2::new(header, first_seq, self.now_ns)
    }

    /// iperf3's headers, as [`headers`](Self::headers) has them.
    #[inline]
    pub fn iperf3<'a>(&self, header: &'a SenderHeader, first_seq: u64) -> Iperf3<'a> {
        Iperf3::new(header, first_seq, self.now_ns)
    }

    /// RTP headers with probe headers, as [`headers`](Self::headers) has them.
    #[inline]
    pub fn probed(&self, rtp: Rtp, stream: u16, first_seq: u64) -> Probed {
        Probed::new(self.plain(rtp, stream, first_seq), self.run, stream)
    }

    /// Writes the headers of `count` consecutive packets of `stream`, the first of them number `first_seq`, whose payloads lie in `buf`, each
    /// `stride` bytes after the last. Nothing but the headers is touched; the last payload may be shorter.
    ///
    /// # Panics
    /// When `stride` is 0, or `buf` ends before the last header does.
    #[inline]
    pub fn stamp_run(&self, buf: &mut [u8], stride: usize, count: usize, stream: u16, first_seq: u64) {
        self.headers(stream, first_seq).write_run(buf, stride, count);
    }
}

/// A queue that packets leave by.
pub trait Transmit {
    /// What it can take.
    fn caps(&self) -> TxCaps;

    /// Takes packets off the front of `runs`, stamps them and hands them over without waiting. Returns how many
    /// packets were taken: fewer than asked for, or 0, when there is no room.
    ///
    /// # Errors
    /// When the queue is broken; a packet that the kernel refuses for itself is reported by [`reap`](Self::reap).
    fn submit(&mut self, runs: &[Run], stamper: &mut Stamper) -> Result<usize, QueueError>;

    /// Learns the fate of packets submitted earlier, waiting as told when none is known and some are under way.
    ///
    /// # Errors
    /// When the queue is broken.
    fn reap(&mut self, wait: Wait) -> Result<Completed, QueueError>;

    /// Packets submitted whose fate is not yet known.
    fn in_flight(&self) -> usize;

    /// Sends one datagram with `payload` as it is on the flow with this index: for end-of-stream messages. Not for the hot path; not
    /// counted by [`reap`](Self::reap).
    ///
    /// # Errors
    /// When the kernel refuses it or there is no room.
    fn send_message(&mut self, flow: u16, payload: &[u8]) -> Result<(), QueueError>;

    /// The next datagram that has come back to the flow's source, if the queue has sockets. Not for the hot path.
    fn answer(&mut self, _flow: u16) -> Option<Vec<u8>> {
        None
    }

    /// Packets of which the kernel is to say when they left, and has not.
    #[inline]
    fn awaits_stamps(&self) -> usize {
        0
    }

    /// Appends the flow of each packet of which the kernel has said so, and what it said.
    fn stamps(&mut self, _into: &mut Vec<(u16, Departed)>) {}
}

/// What is the same for all segments of a received buffer.
#[derive(Debug, Clone, Copy)]
pub struct RxMeta {
    /// Who sent it.
    pub source: SocketAddr,
    /// Where it was sent to.
    pub destination: SocketAddr,
    /// CLOCK_TAI in ns when the queue took it over; with the kernel's stamps, when the kernel took it from the driver.
    pub arrived_ns: u64,
    /// Bytes of the frame around each payload: Ethernet, VLAN tags, IP, UDP, FCS. A queue that sees
    /// no frames computes them.
    pub overhead: u16,
    /// Frames that each came in: more than one when it was in fragments.
    pub frames: u16,
}

/// Takes what a receive queue delivers.
pub trait Sink {
    /// `count` payloads lie in `buf`, each `stride` bytes, the last possibly shorter.
    fn run(&mut self, meta: &RxMeta, buf: &[u8], stride: usize, count: usize);

    /// More payloads, each by itself, whose `meta` is the same in every field as in the call before: there need not be looked at it again.
    #[inline]
    fn more<'a>(&mut self, meta: &RxMeta, payloads: impl Iterator<Item = &'a [u8]>) {
        // Chunks of 0 bytes are none, and cannot be asked for.
        payloads.for_each(|payload| self.run(meta, payload, payload.len().max(1), 1));
    }

    /// What [`turn`](Self::turn) is given next arrived at `arrived_ns`. Whether anything would be taken.
    #[inline]
    fn turns(&mut self, _arrived_ns: u64) -> bool {
        false
    }

    /// One payload by itself from a single frame with IPv4, without tags and options, whatever its flow; whether it was taken. If not, nothing was
    /// done with it, and it is to be given to [`run`](Self::run). Not without [`turns`](Self::turns), and anew after any other call.
    #[inline]
    fn turn(&mut self, _ends: &Ends, _payload: &[u8]) -> bool {
        false
    }
}

/// Bytes of a frame around a payload that [`Sink::turn`] is given.
pub const PLAIN_OVERHEAD: u16 = 46;

/// Packets that the queue itself lost, since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLoss {
    /// Where, in the report's terms: `socket`, `xsk`.
    pub place: &'static str,
    /// Why, in the kernel's own terms.
    pub reason: &'static str,
    /// Packets; at a socket with receive offload buffers, each of one packet or more.
    pub packets: u64,
}

/// A queue that packets arrive by.
pub trait Receive {
    /// Hands what has arrived to `sink`, waiting as told when nothing has. Returns the number of payloads.
    ///
    /// # Errors
    /// When the queue is broken.
    fn poll<S: Sink>(&mut self, sink: &mut S, wait: Wait) -> Result<usize, QueueError>;

    /// Appends what the kernel dropped at this queue. Makes system calls: not for the hot path.
    fn losses(&mut self, losses: &mut Vec<QueueLoss>);

    /// Who stamped the payloads, where stamps were asked for, since the queue was opened.
    fn stamps(&self) -> StampCounts {
        StampCounts::default()
    }
}

/// Payloads by who said when they arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StampCounts {
    /// The NIC.
    pub nic: u64,
    /// The kernel, where the NIC was asked and did not.
    pub kernel: u64,
    /// Nobody: their [`arrived_ns`](RxMeta::arrived_ns) is that of the hand-over.
    pub missing: u64,
    /// Of those by the kernel, or by nobody: the NIC's stamp contradicted the time at which the kernel had them.
    pub implausible: u64,
}

impl StampCounts {
    /// When `count` payloads arrived: by the NIC's clock, `line`, where the NIC stamped them and the kernel, which has a packet after the NIC, does not contradict it; else
    /// by the kernel; else now.
    pub(crate) fn enter(
        &mut self,
        line: Line,
        nic_ns: Option<u64>,
        kernel_ns: Option<u64>,
        now_ns: u64,
        count: u64,
    ) -> u64 {
        let latest_ns = kernel_ns.unwrap_or(now_ns);
        if let Some(stamp_ns) = nic_ns {
            if let Some(arrived_ns) = line.arrived_ns(stamp_ns, latest_ns) {
                self.nic += count;
                return arrived_ns;
            }
            self.implausible += count;
        }
        match kernel_ns {
            Some(_) => self.kernel += count,
            None => self.missing += count,
        }
        latest_ns
    }

    /// Adds those of another queue.
    pub fn add(&mut self, other: Self) {
        self.nic += other.nic;
        self.kernel += other.kernel;
        self.missing += other.missing;
        self.implausible += other.implausible;
    }
}
