//! Receiving from a capture: the same figures, with the capture's own time stamps as arrival times.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use super::config::RecvConfig;
use super::observer::Observer;
use super::recv::tell_iperf2;
use super::team;
use crate::clock;
use crate::control::{Event, Outcome};
use crate::error::{Error, Result};
use crate::measure::tally::RxTally;
use crate::packet::ethernet::{self, Ethernet};
use crate::packet::ip::{self, Ip};
use crate::packet::udp::{self, Udp};
use crate::queue::{RxMeta, Sink};
use crate::report::{Interval, Report, RxCollector, Warning};

/// Bytes read at once: more than any packet has.
const BUFFER: usize = 1 << 20;

const SECOND_NS: u64 = 1_000_000_000;

/// Link type of Linux's second "cooked" capture.
const LINUX_SLL2: Linktype = Linktype(276);

/// Counts what the capture in `file` (pcap or pcapng) holds for the target of `config`, whose unspecified address stands for every address. Of
/// the other options those count that say what to count, and `duration` and `count`.
///
/// # Errors
/// When the file cannot be opened or is no capture. What was read before a capture breaks off is in the report, and a warning says so.
pub fn analyse(config: &RecvConfig, file: &Path, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
    let opened = File::open(file)
        .map_err(|e| Error::usage(format!("--pcap {}: cannot be read", file.display())).because(e))?;
    analyse_from(config, opened, file, on_event)
}

/// As [`analyse`], of the bytes of a capture, wherever they come from; `name` is what it is called.
///
/// # Errors
/// When it is no capture.
pub fn analyse_from(
    config: &RecvConfig,
    bytes: impl Read + Send,
    name: &Path,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    let mut capture = create_reader(BUFFER, bytes).map_err(|e| {
        Error::usage(format!("--pcap {}: {}", name.display(), said(&e)))
            .fix("name a pcap or pcapng file, such as tcpdump -w writes")
    })?;
    let mut reader = Reader::new(config)?;
    let mut report = Report::begin("recv", config.describe(), None);
    on_event(Event::Ready);
    let mut ended = None;
    loop {
        match capture.next() {
            Ok((length, block)) => {
                let goes_on = reader.block(&block, &mut report, on_event);
                capture.consume(length);
                if !goes_on {
                    break;
                }
            }
            Err(PcapError::Eof) => break,
            Err(PcapError::Incomplete(_)) => {
                if let Err(error) = capture.refill() {
                    ended = Some(said(&error));
                    break;
                }
            }
            Err(error) => {
                ended = Some(said(&error));
                break;
            }
        }
    }
    if let Some(why) = ended {
        let text =
            format!("{}: the capture breaks off ({why}): the report covers what is before", name.display());
        report.warn(Warning { code: "capture-broken-off", text, fix: None }, on_event);
    }
    reader.conclude(&mut report, on_event);
    Ok(Outcome { report, losses: Vec::new(), failure: None })
}

fn said(error: &PcapError<&[u8]>) -> String {
    match error {
        PcapError::HeaderNotRecognized => "it is neither pcap nor pcapng".to_owned(),
        PcapError::UnexpectedEof | PcapError::Incomplete(_) | PcapError::Eof => {
            "its last packet is cut off".to_owned()
        }
        PcapError::BufferTooSmall => "a block is longer than 1 MiB".to_owned(),
        PcapError::ReadError => "it cannot be read".to_owned(),
        PcapError::NomError(..) | PcapError::OwnedNomError(..) => "a block contradicts itself".to_owned(),
    }
}

/// How an interface of the capture writes its packets.
#[derive(Debug, Clone, Copy)]
struct Link {
    kind: Linktype,
    /// Time stamps in a second.
    resolution: u64,
    /// Seconds to be added to them.
    offset: i64,
}

/// What a block holds.
struct Packet<'a> {
    link: Link,
    /// Since 1970, in ns.
    stamp_ns: u64,
    frame: &'a [u8],
}

/// Follows a capture from packet to packet.
struct Reader {
    observer: Observer,
    collector: RxCollector,
    tally: RxTally,
    destinations: Vec<SocketAddr>,
    source: Option<std::net::IpAddr>,
    links: Vec<Link>,
    /// CLOCK_TAI less the wall clock, in ns.
    tai_ns: i64,
    /// Of the first datagram, and where the interval begins, from there; 0 before.
    first_ns: u64,
    interval_ns: u64,
    period: Duration,
    duration: Option<Duration>,
    count: Option<u64>,
    inspect: Option<super::config::Inspect>,
    unread: u64,
    unknown_links: u64,
}

impl Reader {
    fn new(config: &RecvConfig) -> Result<Self> {
        let mut collector = RxCollector::new();
        collector.ready(0);
        Ok(Self {
            observer: Observer::new(config.observer(0)),
            collector,
            tally: RxTally::new(0),
            destinations: team::destinations(config)?,
            source: config.target.source,
            links: Vec::new(),
            tai_ns: clock::tai_minus_utc_ns(),
            first_ns: 0,
            interval_ns: 0,
            period: config.interval,
            duration: config.duration,
            count: config.count,
            inspect: config.inspect,
            unread: 0,
            unknown_links: 0,
        })
    }

    /// Takes in a block; whether to go on.
    fn block(
        &mut self,
        block: &PcapBlockOwned<'_>,
        report: &mut Report,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> bool {
        let Some(packet) = self.packet(block) else { return true };
        let arrived_ns = packet.stamp_ns.saturating_add_signed(self.tai_ns);
        let Some((meta, payload)) = self.datagram(&packet, arrived_ns) else { return true };
        if self.first_ns == 0 {
            self.first_ns = arrived_ns;
        }
        let since_ns = arrived_ns.saturating_sub(self.first_ns);
        if self.duration.is_some_and(|duration| since_ns >= duration.as_nanos() as u64) {
            return false;
        }
        let period_ns = self.period.as_nanos() as u64;
        if since_ns >= self.interval_ns + period_ns {
            // Packets of a capture come when they come: the interval that is over ends where it has to.
            let end_ns = since_ns / period_ns * period_ns;
            self.interval(end_ns, report, on_event);
        }
        if let Some(inspect) = self.inspect {
            inspect(&meta, payload);
        }
        self.observer.run(&meta, payload, payload.len().max(1), 1);
        self.count.is_none_or(|count| self.observer.packets() < count)
    }

    fn packet<'a>(&mut self, block: &'a PcapBlockOwned<'_>) -> Option<Packet<'a>> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let resolution = if header.is_nanosecond_precision() { SECOND_NS } else { 1_000_000 };
                self.links = vec![Link { kind: header.network, resolution, offset: 0 }];
                None
            }
            PcapBlockOwned::Legacy(packet) => {
                let link = *self.links.first()?;
                let fraction = u64::from(packet.ts_usec).saturating_mul(SECOND_NS / link.resolution);
                let stamp_ns = u64::from(packet.ts_sec) * SECOND_NS + fraction;
                Some(Packet { link, stamp_ns, frame: packet.data.get(..packet.caplen as usize)? })
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                self.links.clear();
                None
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                let resolution = resolution(interface.if_tsresol)?;
                self.links.push(Link { kind: interface.linktype, resolution, offset: interface.ts_offset() });
                None
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let link = *self.links.get(packet.if_id as usize)?;
                let stamp = u128::from(packet.ts_high) << 32 | u128::from(packet.ts_low);
                let ns = stamp * u128::from(SECOND_NS) / u128::from(link.resolution);
                let ns = u64::try_from(ns).ok()?;
                let stamp_ns = ns.checked_add_signed(link.offset.checked_mul(SECOND_NS.cast_signed())?)?;
                Some(Packet { link, stamp_ns, frame: packet.data.get(..packet.caplen as usize)? })
            }
            // A simple packet block has no time stamp.
            PcapBlockOwned::NG(_) => None,
        }
    }

    /// The datagram in a packet, if it is one that is wanted.
    fn datagram<'a>(&mut self, packet: &Packet<'a>, arrived_ns: u64) -> Option<(RxMeta, &'a [u8])> {
        let Some(link_len) = link_len(packet.link.kind, packet.frame) else {
            self.unknown_links += u64::from(!knows(packet.link.kind));
            return None;
        };
        let bytes = packet.frame.get(link_len..)?;
        let version = bytes.first()? >> 4;
        let parsed = match version {
            4 => Ip::parse_v4(bytes),
            6 => Ip::parse_v6(bytes),
            _ => return None,
        };
        let udp = |(ip, ip_len): (Ip, usize)| {
            let datagram = bytes.get(ip_len..ip_len + usize::from(ip.payload_len))?;
            Some((ip, ip_len, Udp::parse(datagram)?, datagram))
        };
        let is_udp = match version {
            4 => bytes.get(9) == Some(&ip::UDP),
            // Next header 44 is that of a fragment.
            _ => matches!(bytes.get(6), Some(&(ip::UDP | 44))),
        };
        let Some((ip, ip_len, udp, datagram)) = parsed.filter(|(ip, _)| ip.protocol == ip::UDP).and_then(udp)
        else {
            self.unread += u64::from(is_udp);
            return None;
        };
        let destination = SocketAddr::new(ip.destination, udp.destination);
        let wanted = self.destinations.iter().any(|d| {
            d.port() == destination.port() && (d.ip() == destination.ip() || d.ip().is_unspecified())
        });
        if !wanted || self.source.is_some_and(|source| source != ip.source) {
            return None;
        }
        let headers = link_len.max(ethernet::HEADER_LEN) + ip_len + udp::HEADER_LEN + ethernet::FCS_LEN;
        let meta = RxMeta {
            source: SocketAddr::new(ip.source, udp.source),
            destination,
            arrived_ns,
            overhead: headers as u16,
            frames: 1,
        };
        Some((meta, &datagram[udp::HEADER_LEN..usize::from(udp.len)]))
    }

    fn interval(&mut self, end_ns: u64, report: &mut Report, on_event: &mut dyn FnMut(Event<'_>)) {
        self.observer.tally(&mut self.tally);
        self.tally.at_ns = self.first_ns + end_ns;
        self.collector.absorb(&self.tally);
        tell_iperf2(&mut self.collector, on_event);
        let rx = self.collector.interval(end_ns - self.interval_ns);
        let interval = Interval { start_ns: self.interval_ns, end_ns, tx: None, rx: Some(rx) };
        self.interval_ns = end_ns;
        if interval.rx.as_ref().is_some_and(|rx| rx.packets > 0) {
            on_event(Event::Interval(&interval));
            report.intervals.push(interval);
        }
    }

    fn conclude(mut self, report: &mut Report, on_event: &mut dyn FnMut(Event<'_>)) {
        let last_ns = self.observer.last_arrival_ns().saturating_sub(self.first_ns);
        self.interval(last_ns.max(self.interval_ns), report, on_event);
        self.observer.last_tally(&mut self.tally);
        self.collector.absorb(&self.tally);
        tell_iperf2(&mut self.collector, on_event);
        let mut warn = |count: u64, code, text: &str| {
            if count > 0 {
                report.warn(Warning { code, text: format!("{count} {text}"), fix: None }, on_event);
            }
        };
        warn(
            self.unread,
            "capture-unread",
            "UDP packets of the capture are fragments or cut short (tcpdump -s), and were left out, whomever they were for",
        );
        warn(
            self.unknown_links,
            "capture-link",
            "packets of the capture have a link type that is not known, and were left out",
        );
        let rx = self.collector.finish();
        if rx.packets == 0 {
            let text = match rx.foreign {
                0 => "the capture has no datagram for the target".to_owned(),
                n => format!("nothing of a known format is in the capture, but {n} foreign datagrams are"),
            };
            let fix = Some(
                "0.0.0.0:PORT or [::]:PORT takes datagrams to any address; --format raw counts them"
                    .to_owned(),
            );
            report.warn(Warning { code: "nothing-heard", text, fix }, on_event);
        }
        for warning in self.collector.warnings() {
            report.warn(warning, on_event);
        }
        report.rx = Some(rx);
    }
}

fn knows(kind: Linktype) -> bool {
    matches!(
        kind,
        Linktype::ETHERNET
            | Linktype::RAW
            | Linktype::IPV4
            | Linktype::IPV6
            | Linktype::NULL
            | Linktype::LOOP
            | Linktype::LINUX_SLL
            | LINUX_SLL2
            | Linktype(12)
    )
}

/// Where the IP header begins; `None` where there is none, or the link type is not known.
fn link_len(kind: Linktype, frame: &[u8]) -> Option<usize> {
    let is_ip = |at: usize| {
        let ethertype = u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]);
        matches!(ethertype, ethernet::IPV4 | ethernet::IPV6).then_some(())
    };
    match kind {
        Linktype::ETHERNET => {
            let (header, len) = Ethernet::parse(frame)?;
            matches!(header.ethertype, ethernet::IPV4 | ethernet::IPV6).then_some(len)
        }
        // 12 is "raw" on some systems.
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12) => Some(0),
        Linktype::NULL | Linktype::LOOP => Some(4),
        Linktype::LINUX_SLL => is_ip(14).map(|()| 16),
        LINUX_SLL2 => is_ip(0).map(|()| 20),
        _ => None,
    }
}

/// Units a second by the option if_tsresol of pcapng: a power of ten, or with the highest bit one of two; `None` when it is out of all reason.
fn resolution(option: u8) -> Option<u64> {
    let power = u32::from(option & 0x7f);
    if option & 0x80 == 0 { 10u64.checked_pow(power) } else { 1u64.checked_shl(power) }
}

#[cfg(test)]
#[path = "offline_tests.rs"]
mod tests;
