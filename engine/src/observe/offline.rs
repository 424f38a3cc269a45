//! Receiving from a capture: the same figures, with the capture's own time stamps as arrival times.
#![forbid(unsafe_code)]

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::capture::{Capture, Packet};
use super::config::RecvConfig;
use super::observer::Observer;
use super::recv::tell_iperf2;
use super::team;
use crate::clock;
use crate::control::{Event, Outcome};
use crate::error::Result;
use crate::measure::tally::RxTally;
use crate::packet::ethernet;
use crate::packet::ip::{self, Ip};
use crate::packet::udp::{self, Udp};
use crate::queue::{RxMeta, Sink};
use crate::report::{Interval, Report, RxCollector, Warning};

/// Counts what the capture in `file` (pcap or pcapng) holds for the target of `config`, whose unspecified address stands for every address. Of
/// the other options those count that say what to count, and `duration` and `count`.
///
/// # Errors
/// When the file cannot be opened or is no capture. What was read before a capture breaks off is in the report, and a warning says so.
pub fn analyse(config: &RecvConfig, file: &Path, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
    run(config, Capture::open(file)?, on_event)
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
    run(config, Capture::of(bytes, name)?, on_event)
}

fn run(config: &RecvConfig, capture: Capture<'_>, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
    let mut reader = Reader::new(config)?;
    let mut report = Report::begin("recv", config.describe(), None);
    on_event(Event::Ready);
    if let Some(text) = capture.read(&mut |packet| reader.packet(packet, &mut report, on_event)) {
        report.warn(Warning { code: "capture-broken-off", text, fix: None }, on_event);
    }
    reader.conclude(&mut report, on_event);
    Ok(Outcome { report, losses: Vec::new(), failure: None })
}

/// Follows a capture from packet to packet.
struct Reader {
    observer: Observer,
    collector: RxCollector,
    tally: RxTally,
    destinations: Vec<SocketAddr>,
    source: Option<std::net::IpAddr>,
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

    /// Takes in a packet; whether to go on.
    fn packet(
        &mut self,
        packet: &Packet<'_>,
        report: &mut Report,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> bool {
        let arrived_ns = packet.stamp_ns.saturating_add_signed(self.tai_ns);
        let Some((meta, payload)) = self.datagram(packet, arrived_ns) else { return true };
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

    /// The datagram in a packet, if it is one that is wanted.
    fn datagram<'a>(&mut self, packet: &Packet<'a>, arrived_ns: u64) -> Option<(RxMeta, &'a [u8])> {
        let Some(link_len) = packet.link_len() else {
            self.unknown_links += u64::from(!packet.has_known_link());
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

#[cfg(test)]
#[path = "offline_tests.rs"]
mod tests;
