//! The headers of consecutive packets of a stream, as a queue writes them into each.
#![forbid(unsafe_code)]

use crate::interop::iperf2::client::{self, ClientHeader};
use crate::interop::iperf3::header::SenderHeader;
use crate::packet::probe::{self, Kind, Probe, Series};
use crate::packet::rtp;
use crate::profile::rtp::{Rtp, RtpStream};

/// Writes headers, one after the other. Queues are compiled for each kind, so that what the one needs costs the other nothing.
pub trait Headers {
    /// Bytes of a header.
    const LEN: usize;

    /// Whether their sum differs from packet to packet, and with it the UDP checksum.
    const SUM_VARIES: bool;

    /// Writes the next header to the start of `payload`.
    ///
    /// # Panics
    /// When `payload` is shorter than [`LEN`](Self::LEN).
    fn emit(&mut self, payload: &mut [u8]);
}

impl Headers for Series {
    const LEN: usize = probe::LEN;
    const SUM_VARIES: bool = false;

    #[inline]
    fn emit(&mut self, payload: &mut [u8]) {
        Series::emit(self, payload);
    }
}

/// RTP headers with a probe header behind each, which takes up what changes in it.
#[derive(Debug, Clone, Copy)]
pub struct Probed {
    plain: Plain,
    probe: Probe,
}

/// RTP headers alone.
#[derive(Debug, Clone, Copy)]
pub struct Plain {
    rtp: Rtp,
    stream: RtpStream,
    sequence: u64,
    now_ns: u64,
}

impl Plain {
    /// The headers of packets `first_seq`, `first_seq + 1` and so on of stream number `stream`, handed over at `now_ns`.
    #[inline]
    pub fn new(rtp: Rtp, stream: u16, first_seq: u64, now_ns: u64) -> Self {
        Self { rtp, stream: rtp.stream(stream), sequence: first_seq, now_ns }
    }
}

impl Probed {
    /// The same with probe headers of the sender run `run`.
    #[inline]
    pub fn new(plain: Plain, run: u32, stream: u16) -> Self {
        let probe = Probe { kind: Kind::Data, run, stream, sequence: plain.sequence, time: plain.now_ns };
        Self { plain, probe }
    }
}

impl Headers for Plain {
    const LEN: usize = rtp::HEADER_LEN;
    const SUM_VARIES: bool = true;

    #[inline]
    fn emit(&mut self, payload: &mut [u8]) {
        self.rtp.header(&self.stream, self.sequence, self.now_ns).emit(payload);
        self.sequence += 1;
    }
}

impl Headers for Probed {
    const LEN: usize = rtp::PROBED_LEN;
    const SUM_VARIES: bool = false;

    #[inline]
    fn emit(&mut self, payload: &mut [u8]) {
        self.plain.emit(payload);
        rtp::emit_probe(payload, &self.probe);
        self.probe.sequence += 1;
    }
}

/// iperf 2's headers.
#[derive(Debug, Clone, Copy)]
pub struct Iperf2<'a> {
    header: &'a ClientHeader,
    time: (u32, u32),
    id: i64,
}

impl<'a> Iperf2<'a> {
    /// The headers of packets `first_seq`, `first_seq + 1` and so on, handed over at `now_ns`.
    #[inline]
    pub fn new(header: &'a ClientHeader, first_seq: u64, now_ns: u64) -> Self {
        Self { header, time: header.time(now_ns), id: (first_seq + 1).cast_signed() }
    }
}

impl Headers for Iperf2<'_> {
    const LEN: usize = client::LEN;
    const SUM_VARIES: bool = true;

    #[inline]
    fn emit(&mut self, payload: &mut [u8]) {
        self.header.emit(payload, self.id, self.time);
        self.id += 1;
    }
}

/// iperf3's headers.
#[derive(Debug, Clone, Copy)]
pub struct Iperf3<'a> {
    header: &'a SenderHeader,
    time: [u8; 8],
    number: u64,
}

impl<'a> Iperf3<'a> {
    /// The headers of packets `first_seq`, `first_seq + 1` and so on, handed over at `now_ns`.
    #[inline]
    pub fn new(header: &'a SenderHeader, first_seq: u64, now_ns: u64) -> Self {
        Self { header, time: header.time(now_ns), number: first_seq + 1 }
    }
}

impl Headers for Iperf3<'_> {
    /// With a number of 64 bits; sockets are told the length of those of 32.
    const LEN: usize = 16;
    const SUM_VARIES: bool = true;

    #[inline]
    fn emit(&mut self, payload: &mut [u8]) {
        self.header.emit(payload, self.number, self.time);
        self.number += 1;
    }
}

/// Which headers packets have.
#[derive(Debug, Clone, Copy)]
pub enum HeaderKind<'a> {
    /// Probe headers.
    Probe,
    /// RTP headers.
    Rtp(Rtp),
    /// RTP headers with probe headers.
    Probed(Rtp),
    /// iperf 2's headers.
    Iperf2(&'a ClientHeader),
    /// iperf3's headers.
    Iperf3(&'a SenderHeader),
}

/// The headers of a run of packets, of whichever kind.
#[derive(Debug, Clone, Copy)]
pub enum AnyHeaders<'a> {
    /// Probe headers.
    Probe(Series),
    /// RTP headers.
    Rtp(Plain),
    /// RTP headers with probe headers.
    Probed(Probed),
    /// iperf 2's headers.
    Iperf2(Iperf2<'a>),
    /// iperf3's headers.
    Iperf3(Iperf3<'a>),
}

impl AnyHeaders<'_> {
    /// Writes the headers of `count` packets whose payloads lie in `buf`, each `stride` bytes after the last.
    ///
    /// # Panics
    /// When `stride` is 0, or `buf` ends before the last header does.
    #[inline]
    pub(super) fn write_run(self, buf: &mut [u8], stride: usize, count: usize) {
        match self {
            Self::Probe(series) => write_run(series, buf, stride, count),
            Self::Rtp(plain) => write_run(plain, buf, stride, count),
            Self::Probed(probed) => write_run(probed, buf, stride, count),
            Self::Iperf2(iperf2) => write_run(iperf2, buf, stride, count),
            Self::Iperf3(iperf3) => write_run(iperf3, buf, stride, count),
        }
    }
}

#[inline]
fn write_run<H: Headers>(mut headers: H, buf: &mut [u8], stride: usize, count: usize) {
    let mut payloads = buf.chunks_mut(stride);
    for _ in 0..count {
        headers.emit(payloads.next().expect("a payload for each packet"));
    }
}
