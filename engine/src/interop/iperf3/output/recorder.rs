//! The events of one test, made into what iperf3 prints of it.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::config::{Amount, Direction};
use super::super::event::{
    Begin, Cpu, End as Ended, Event, Interval as Passed, Parameters, ServerOutput, Stream, Totals,
};
use super::model::{
    Connected, CpuUtilization, End, Interval, Output, Peer, Span, Start, StreamTotal, TestStart, Timestamp,
    Total,
};
use super::sums::{self, Both};

/// Who prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// "iperf 3.22 (wirerate 0.1.0)".
    pub version: String,
    /// As `uname -a` has it.
    pub system_info: String,
}

impl Identity {
    /// Of this program: scripts take the version apart, so that iperf3's, whose output this is, stands first.
    pub fn own() -> Self {
        let system_info = nix::sys::utsname::uname().map_or_else(
            |_| "Linux".to_owned(),
            |name| {
                [name.sysname(), name.nodename(), name.release(), name.version(), name.machine()]
                    .map(|part| part.to_string_lossy().into_owned())
                    .join(" ")
            },
        );
        Self { version: format!("iperf 3.22 (wirerate {})", env!("CARGO_PKG_VERSION")), system_info }
    }
}

/// Makes an [`Output`] of the events of one test.
#[derive(Debug, Clone)]
pub struct Recorder {
    client: bool,
    interval: Duration,
    keep_intervals: bool,
    direction: Direction,
    streams: Vec<Stream>,
    output: Output,
}

impl Recorder {
    /// Of a test of a client or server that reports each `interval`. A server's `--json-stream` runs for weeks: without `keep_intervals` only the last interval is
    /// kept.
    pub fn new(client: bool, identity: &Identity, interval: Duration, keep_intervals: bool) -> Self {
        let start = Start {
            version: identity.version.clone(),
            system_info: identity.system_info.clone(),
            ..Start::default()
        };
        Self {
            client,
            interval,
            keep_intervals,
            direction: Direction::Normal,
            streams: Vec::new(),
            output: Output { start, ..Output::default() },
        }
    }

    /// All there is by now.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// The streams, once they are connected.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Why it failed, in iperf3's words.
    pub fn fail(&mut self, why: impl Into<String>) {
        self.output.error = Some(why.into());
    }

    /// Takes note of an event of this test.
    pub fn event(&mut self, event: &Event<'_>) {
        let start = &mut self.output.start;
        match event {
            Event::Connecting { host, port } => {
                start.connecting_to = Some(Peer { host: (*host).to_owned(), port: *port });
            }
            Event::Accepted { remote, cookie, at, .. } => {
                start.timestamp = Some(timestamp(*at));
                start.cookie = Some((*cookie).to_owned());
                if !self.client {
                    start.accepted_connection = Some(peer(*remote));
                }
            }
            Event::Parameters { parameters, .. } => self.parameters(parameters),
            Event::Begin(begin) => self.begin(begin),
            Event::Interval(passed) => self.passed(passed),
            Event::End(ended) => self.ended(ended),
            Event::Listening { .. }
            | Event::OutputWanted { .. }
            | Event::Done { .. }
            | Event::Failed { .. }
            | Event::Warning { .. } => {}
        }
    }

    fn parameters(&mut self, p: &Parameters) {
        self.direction = p.direction;
        self.output.title.clone_from(&p.title);
        self.output.extra_data.clone_from(&p.extra_data);
        let start = &mut self.output.start;
        start.target_bitrate = Some(p.bandwidth);
        start.fq_rate = Some(p.fq_rate);
        start.sock_bufsize = Some(p.window);
        let (duration, bytes, blocks) = match p.amount {
            Amount::Seconds(seconds) => (seconds, 0, 0),
            Amount::Bytes(bytes) => (0, bytes, 0),
            Amount::Blocks(blocks) => (0, 0, blocks),
        };
        start.test_start = Some(TestStart {
            protocol: "UDP",
            num_streams: p.parallel,
            blksize: p.length,
            omit: p.omit,
            duration,
            bytes,
            blocks,
            reverse: u8::from(p.direction == Direction::Reverse),
            tos: p.tos,
            target_bitrate: p.bandwidth,
            bidir: u8::from(p.direction == Direction::Bidirectional),
            fqrate: p.fq_rate,
            interval: self.interval.as_secs_f64().into(),
            gso: u8::from(p.gso),
            gro: u8::from(p.gro),
        });
    }

    fn begin(&mut self, begin: &Begin) {
        self.streams.clone_from(&begin.streams);
        let start = &mut self.output.start;
        start.sndbuf_actual = Some(begin.send_buffer);
        start.rcvbuf_actual = Some(begin.receive_buffer);
        start.connected = begin
            .streams
            .iter()
            .map(|stream| {
                let (local, remote) = (peer(stream.local), peer(stream.remote));
                Connected {
                    socket: stream.socket,
                    local_host: local.host,
                    local_port: local.port,
                    remote_host: remote.host,
                    remote_port: remote.port,
                }
            })
            .collect();
    }

    /// Whether the direction that iperf3 names first is one in which this end sends.
    fn first_sends(&self) -> bool {
        match self.direction {
            Direction::Reverse => !self.client,
            Direction::Normal | Direction::Bidirectional => self.client,
        }
    }

    fn passed(&mut self, passed: &Passed) {
        let span = |span: sums::Span, socket: Option<i32>, sender: bool| Span {
            socket,
            start: span.start.into(),
            end: span.end.into(),
            seconds: span.seconds().into(),
            bytes: span.bytes,
            bits_per_second: span.rate().into(),
            jitter_ms: (!sender).then(|| (span.jitter * 1e3).into()),
            lost_packets: (!sender).then_some(span.lost),
            packets: span.packets,
            lost_percent: (!sender).then(|| span.lost_percent().into()),
            omitted: passed.omitted,
            sender,
        };
        let streams = self.streams.iter().enumerate();
        let first = self.first_sends();
        let sum = |sender| span(sums::Span::together(passed, &self.streams, sender), None, sender);
        let interval = Interval {
            streams: streams
                .map(|(at, s)| span(sums::Span::of(passed, at), Some(s.socket), s.sender))
                .collect(),
            sum: sum(first),
            sum_bidir_reverse: (self.direction == Direction::Bidirectional).then(|| sum(!first)),
        };
        if !self.keep_intervals {
            self.output.intervals.clear();
        }
        self.output.intervals.push(interval);
    }

    fn ended(&mut self, ended: &Ended) {
        let streams = self.streams.iter().zip(&ended.streams).map(|(stream, end)| {
            let both = Both::of(stream, end);
            let udp = Total {
                socket: Some(stream.socket),
                out_of_order: Some(end.own.out_of_order),
                ..mixed(&both, stream.sender, true)
            };
            StreamTotal { udp }
        });
        let mut end = End { streams: Some(streams.collect()), ..End::default() };
        let together = |sender| {
            let both = Both::together(&self.streams, &ended.streams, sender);
            let (sent, received) = both.sides();
            let sent = Total { lost_packets: 0, ..total(&Totals { jitter: 0.0, ..sent }, 0.0, true) };
            let received = total(&received, both.lost_percent(), false);
            (Some(mixed(&both, sender, false)), Some(sent), Some(received))
        };
        let first = self.first_sends();
        (end.sum, end.sum_sent, end.sum_received) = together(first);
        if self.direction == Direction::Bidirectional {
            (end.sum_bidir_reverse, end.sum_sent_bidir_reverse, end.sum_received_bidir_reverse) =
                together(!first);
        }
        let (own, peer) = (ended.cpu, ended.peer_cpu.unwrap_or(Cpu { total: 0.0, user: 0.0, system: 0.0 }));
        end.cpu_utilization_percent = Some(CpuUtilization {
            host_total: own.total.into(),
            host_user: own.user.into(),
            host_system: own.system.into(),
            remote_total: peer.total.into(),
            remote_user: peer.user.into(),
            remote_system: peer.system.into(),
        });
        self.output.end = end;
        match &ended.server_output {
            Some(ServerOutput::Text(text)) => self.output.server_output_text = Some(text.clone()),
            Some(ServerOutput::Json(value)) => self.output.server_output_json = Some(value.clone()),
            None => {}
        }
    }
}

/// Figures of one end.
fn total(totals: &Totals, lost_percent: f64, sender: bool) -> Total {
    Total {
        socket: None,
        start: 0.0.into(),
        end: totals.seconds.into(),
        seconds: totals.seconds.into(),
        bytes: totals.bytes,
        bits_per_second: sums::rate(totals.bytes, totals.seconds).into(),
        jitter_ms: (totals.jitter * 1e3).into(),
        lost_packets: totals.lost,
        packets: totals.packets,
        lost_percent: lost_percent.into(),
        out_of_order: None,
        sender,
    }
}

/// Both ends mixed: what was sent, and of it lost. The time is the sender's of a stream, and the receiver's of a sum. iperf3 has zeros where a server that receives was
/// not told what was sent; here it is what arrived.
fn mixed(both: &Both, sender: bool, stream: bool) -> Total {
    let (_, received) = both.sides();
    let sent = both.sent.unwrap_or(received);
    let shown = if stream { sent.seconds } else { received.seconds };
    Total {
        end: shown.into(),
        seconds: shown.into(),
        jitter_ms: (received.jitter * 1e3).into(),
        lost_packets: received.lost,
        ..total(&sent, both.lost_percent(), sender)
    }
}

/// An address as iperf3 writes it: IPv4 within IPv6 as IPv4.
fn peer(address: SocketAddr) -> Peer {
    Peer { host: address.ip().to_canonical().to_string(), port: address.port() }
}

fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        time: gmt(since.as_secs()),
        timesecs: since.as_secs(),
        timemillisecs: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    }
}

/// A time as HTTP writes it: "Sun, 29 Nov 2026 17:04:26 GMT".
pub(super) fn gmt(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of the year 0, in eras of 400 years: leap days come last in a year that begins in March.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[(month - 1) as usize],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}
