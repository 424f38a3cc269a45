//! The session-sender.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use serde_json::json;
use socket2::Socket;

use super::figures::{Figures, RoundTrip, Times};
pub use super::loss::Numbering;
use super::loss::Numbers;
use super::report::{self, By, Interval, Loss, Report, Rx, Stamps, Tx};
use super::window::{Sent, Window};
use super::{Clock, Timestamps, error_estimate, net};
use crate::clock::{self, Steadiness};
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::measure::sequence::Arrival;
use crate::packet::stamp::{Answer, ErrorEstimate, Format, LEN, Request, tlv};
use crate::profile::payload::Payload;
use crate::report::Warning;
use crate::sys::timestamping::{self, CONTROL, Received};

/// Fastest schedule, packets a second: one thread does all.
pub const MAX_PPS: f64 = 10_000.0;

/// Longest time that is waited for an answer.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// Most packets of a session: its numbers do not begin anew.
pub const MAX_COUNT: u64 = u32::MAX as u64;

/// Longest packet, UDP payload in bytes.
pub const MAX_LENGTH: u16 = 65_507;

/// Longest sleep: a request to stop is seen so soon.
const PATIENCE: Duration = Duration::from_millis(50);

/// The kernel needs a moment to begin with its stamps.
const STAMPING: Duration = Duration::from_millis(20);

/// Link, IPv6 and UDP headers before a packet that comes back with its time of departure; with room to spare.
const HEADERS: usize = 256;

/// What to send, to whom, and how long to wait.
#[derive(Debug, Clone)]
pub struct Config {
    /// The session-reflector.
    pub target: SocketAddr,
    /// Packets a second, 0.001 to [`MAX_PPS`].
    pub pps: f64,
    /// End after so many packets, at most [`MAX_COUNT`].
    pub count: Option<u64>,
    /// End after this time.
    pub duration: Option<Duration>,
    /// UDP payload in bytes: [`LEN`], or 4 and more above it.
    pub length: u16,
    /// DSCP, 0 to 63.
    pub dscp: u8,
    /// Who takes our times.
    pub timestamps: Timestamps,
    /// How times are written.
    pub format: Format,
    /// How long an answer is waited for, up to [`MAX_TIMEOUT`].
    pub timeout: Duration,
    /// What is known of the reflector's numbers.
    pub reflector: Numbering,
    /// Time between interim results.
    pub interval: Duration,
}

/// What a session tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// An interval has passed.
    Interval(&'a Interval),
    /// Something that a reader should know.
    Warning(&'a Warning),
}

/// What a session came to. When it failed on the way, what was measured by then is in the report.
#[derive(Debug)]
pub struct Outcome {
    /// The report.
    pub report: Report,
    /// Why it ended before it should.
    pub failure: Option<Error>,
}

/// Runs one session to its end.
///
/// # Errors
/// When it cannot begin: the configuration is out of its limits, the socket cannot be opened, the packet is longer than the path takes.
pub fn run(config: &Config, stop: &Stop, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
    check(config)?;
    let started_at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let mut steadiness = Steadiness::begin();
    let mut session = Session::open(config)?;
    let failure = session.go(stop, on_event).err();
    // A packet too long for the path is the user's to mend, and nothing was measured.
    if let Some(error) = failure.as_ref().filter(|_| session.tx.packets == 0)
        && error.kind == crate::error::Kind::Usage
    {
        return Err(failure.expect("just seen"));
    }
    let mut report = session.report(started_at)?;
    if let Some(what) = steadiness.look() {
        report.warnings.push(Warning {
            code: "clock-step",
            text: format!("{what} during the run: times before and after do not compare"),
            fix: Some("let the time daemon settle before measuring (chronyc waitsync)".to_owned()),
        });
    }
    for warning in &report.warnings {
        on_event(Event::Warning(warning));
    }
    Ok(Outcome { report, failure })
}

fn check(config: &Config) -> Result<()> {
    let length = usize::from(config.length);
    if length < LEN || (LEN + 1..LEN + tlv::HEADER_LEN).contains(&length) || config.length > MAX_LENGTH {
        return Err(Error::usage(format!("a STAMP packet cannot have {length} bytes"))
            .fix(format!("{LEN} bytes, or {} to {MAX_LENGTH}", LEN + tlv::HEADER_LEN)));
    }
    if !(0.001..=MAX_PPS).contains(&config.pps) {
        return Err(Error::usage(format!("{} packets a second", config.pps))
            .fix(format!("from 0.001pps to {MAX_PPS}pps can be kept")));
    }
    if config.target.ip().is_multicast() || config.target.ip().is_unspecified() {
        return Err(Error::usage(format!("{}: a session has one other end", config.target))
            .fix("name the address of a session-reflector"));
    }
    if config.count.is_some_and(|count| count > MAX_COUNT) {
        return Err(Error::usage(format!("a session has at most {MAX_COUNT} packets")));
    }
    Ok(())
}

struct Session<'a> {
    config: &'a Config,
    socket: Socket,
    source: SocketAddr,
    clock: Clock,
    ssid: u16,
    packet: Vec<u8>,
    incoming: Vec<u8>,
    control: Vec<u8>,
    error: ErrorEstimate,
    start_ns: u64,
    /// Times at which a packet was to leave that have passed.
    slots: u64,
    window: Window,
    numbers: Numbers,
    figures: Figures,
    tx: Tx,
    rx: Rx,
    stamps: Stamps,
    reflector: Option<report::Reflector>,
    one_way_error_ns: u64,
    /// Packets that were not answered in time.
    overdue: u64,
}

impl<'a> Session<'a> {
    fn open(config: &'a Config) -> Result<Self> {
        let any: SocketAddr =
            if config.target.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
        let socket = net::bind(any)?;
        let failed = |what: &str| Error::failed(format!("{}: {what}", config.target));
        let class = u32::from(net::class(config.dscp));
        if config.target.is_ipv6() { socket.set_tclass_v6(class) } else { socket.set_tos_v4(class) }
            .and_then(|()| net::never_fragment(&socket, config.target.is_ipv6()))
            .and_then(|()| socket.set_nonblocking(true))
            .map_err(|e| failed("the socket cannot be set up").because(e))?;
        socket.connect(&config.target.into()).map_err(|e| {
            failed("there is no way to it").because(e).fix(format!("ip route get {}", config.target.ip()))
        })?;
        if config.timestamps == Timestamps::Kernel {
            timestamping::enable(socket.as_fd(), true).map_err(|e| {
                Error::environment("the kernel gives no time stamps").because(e).fix("use --timestamps user")
            })?;
            std::thread::sleep(STAMPING);
        }
        let source = socket.local_addr().ok().and_then(|address| address.as_socket()).unwrap_or(any);
        let mut packet = vec![0; config.length.into()];
        if packet.len() > LEN {
            tlv::pad(&mut packet[LEN..], |value| Payload::random().fill(0, value));
        }
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(|_| Error::environment("the kernel gives no random numbers"))?;
        Ok(Self {
            socket,
            source,
            clock: Clock::read(),
            // 0 would say that there is none.
            ssid: u16::from_ne_bytes(random).max(1),
            incoming: vec![0; packet.len() + HEADERS],
            packet,
            control: vec![0; CONTROL],
            error: error_estimate(config.format),
            start_ns: clock::tai_ns(),
            slots: 0,
            window: Window::default(),
            numbers: Numbers::default(),
            figures: Figures::default(),
            tx: Tx::default(),
            rx: Rx::default(),
            stamps: Stamps::default(),
            reflector: None,
            one_way_error_ns: 0,
            overdue: 0,
            config,
        })
    }

    /// When the packet of slot `n` is to leave.
    fn intended(&self, n: u64) -> u64 {
        let thousandth_pps = (self.config.pps * 1000.0).round() as u128;
        self.start_ns.saturating_add((u128::from(n) * 1_000_000_000_000 / thousandth_pps) as u64)
    }

    fn is_sent(&self, stop: &Stop) -> bool {
        let time = self.intended(self.slots) - self.start_ns;
        stop.is_requested()
            || self.tx.packets >= self.config.count.unwrap_or(MAX_COUNT)
            || self.config.duration.is_some_and(|d| time >= d.as_nanos() as u64)
    }

    fn go(&mut self, stop: &Stop, on_event: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        // Sleeps end when they should: a hint, which the kernel may refuse.
        let _ = nix::sys::prctl::set_timerslack(1);
        let period = self.config.interval.as_nanos() as u64;
        let timeout = self.config.timeout.as_nanos() as u64;
        self.start_ns = clock::tai_ns();
        let mut told = Told { at_ns: self.start_ns, ..Told::default() };
        loop {
            while !self.is_sent(stop) && self.intended(self.slots) <= clock::tai_ns() {
                self.send()?;
            }
            self.take_in()?;
            let now = clock::tai_ns();
            self.overdue += self.window.expire(now, timeout);
            let sent = self.is_sent(stop);
            if now >= told.at_ns + period || (sent && self.window.is_answered()) {
                told.tell(self, now, on_event);
            }
            if sent && self.window.is_answered() {
                return Ok(());
            }
            let next = if sent { u64::MAX } else { self.intended(self.slots) };
            let until =
                next.min(told.at_ns + period).min(self.window.next_expiry(timeout)).saturating_sub(now);
            net::wait(&[self.socket.as_fd()], Duration::from_nanos(until).min(PATIENCE))?;
        }
    }

    fn send(&mut self) -> Result<()> {
        let intended = self.intended(self.slots);
        self.slots += 1;
        if self.slots.is_multiple_of(1024) {
            self.error = error_estimate(self.config.format);
        }
        // The second time, when the first told of an earlier packet.
        for _ in 0..2 {
            let t1 = clock::tai_ns();
            let timestamp = self.clock.encode(t1, self.config.format);
            let sequence = self.window.next();
            Request { sequence, timestamp, error: self.error, ssid: self.ssid }.emit(&mut self.packet);
            match self.socket.send(&self.packet) {
                Ok(_) => {
                    self.tx.packets += 1;
                    self.window.push(Sent::new(intended, t1, timestamp));
                    return Ok(());
                }
                Err(e) if net::is_refusal(&e) => self.tx.refused += 1,
                Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) => {
                    return Err(Error::usage(format!(
                        "packets of {} bytes are longer than the path takes whole",
                        self.config.length
                    ))
                    .because(e)
                    .fix("a shorter --length: on Ethernet 1472 over IPv4, 1452 over IPv6"));
                }
                Err(_) => {
                    self.tx.errors += 1;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes all that has come: times of departure first, which the answers need.
    fn take_in(&mut self) -> Result<()> {
        let failed = |e: io::Error| Error::failed("receiving failed").because(e);
        let length = self.packet.len();
        while let Some(left) =
            timestamping::transmitted(self.socket.as_fd(), &mut self.incoming, &mut self.control)
                .map_err(failed)?
        {
            let Some(at) = left.len.checked_sub(length) else { continue };
            let Ok(request) = Request::parse(&self.incoming[at..left.len]) else { continue };
            if let Some(sent) = self.window.get(request.sequence).filter(|_| request.ssid == self.ssid) {
                sent.kernel_ns = left.stamps.software_ns.map(|ns| self.clock.tai_ns(ns)).or(sent.kernel_ns);
                sent.hardware_ns = left.stamps.hardware_ns.or(sent.hardware_ns);
            }
        }
        loop {
            match timestamping::receive(self.socket.as_fd(), &mut self.incoming, &mut self.control) {
                Ok(Some(received)) => self.answered(&received),
                Ok(None) => return Ok(()),
                Err(e) if net::is_refusal(&e) => self.tx.refused += 1,
                Err(e) => return Err(failed(e)),
            }
        }
    }

    fn answered(&mut self, received: &Received) {
        let now = clock::tai_ns();
        let payload = &self.incoming[..received.len.min(self.incoming.len())];
        // A reflector that knows no identifiers sends 0 (RFC 8972 §3).
        let Some(answer) = Answer::parse(payload).filter(|a| a.ssid == self.ssid || a.ssid == 0) else {
            self.rx.foreign += 1;
            return;
        };
        let number = answer.sender_sequence;
        let in_time = self.window.get(number).copied();
        let forged = in_time.is_some_and(|sent| sent.timestamp != answer.sender_timestamp);
        if forged || u64::from(number) >= self.tx.packets {
            self.rx.foreign += 1;
            return;
        }
        self.rx.packets += 1;
        match (self.numbers.arrive(number, answer.sequence), in_time) {
            (Arrival::Duplicate, _) => self.rx.duplicate += 1,
            (_, None) => self.rx.late += 1,
            (_, Some(sent)) => {
                self.rx.answered += 1;
                self.measure(number, &sent, &answer, received, now);
            }
        }
        self.describe(&answer);
    }

    fn measure(&mut self, number: u32, sent: &Sent, answer: &Answer, received: &Received, now: u64) {
        let wire = sent.hardware_ns.zip(received.stamps.hardware_ns).map(|(t1, t4)| t4.wrapping_sub(t1));
        let kernel_t4 = received.stamps.software_ns.map(|ns| self.clock.tai_ns(ns));
        let count = |by: &mut By, kernel: bool| match (wire.is_some(), kernel) {
            (true, _) => by.hardware += 1,
            (false, true) => by.kernel += 1,
            (false, false) => by.user += 1,
        };
        count(&mut self.stamps.transmit, sent.kernel_ns.is_some());
        count(&mut self.stamps.receive, kernel_t4.is_some());
        let t1 = sent.kernel_ns.unwrap_or(sent.user_ns);
        self.figures.departure_lag.record(t1.saturating_sub(sent.intended_ns));
        let near = |bits| self.clock.decode(bits, answer.error.format, now);
        let trip = near(answer.received).zip(near(answer.timestamp)).map(|(t2, t3)| RoundTrip {
            t1,
            t2,
            t3,
            t4: kernel_t4.unwrap_or(now),
        });
        self.window.answer(number, trip);
        let Some(trip) = trip else {
            self.figures.negative += 1;
            return;
        };
        let one_way = self.error.synchronized && answer.error.synchronized;
        self.figures.enter(&trip, sent.intended_ns, one_way, wire);
        if one_way {
            self.one_way_error_ns =
                self.one_way_error_ns.max(self.error.ns().saturating_add(answer.error.ns()));
        }
        for (a, b) in self.window.neighbours(number) {
            self.figures.vary(&a, &b);
        }
    }

    fn describe(&mut self, answer: &Answer) {
        let ttl = answer.sender_ttl;
        let (low, high) =
            self.reflector.as_ref().map_or((ttl, ttl), |r| (r.ttl_min.min(ttl), r.ttl_max.max(ttl)));
        self.reflector = Some(report::Reflector {
            mode: match self.numbers.is_stateful(self.config.reflector) {
                Some(true) => "stateful",
                Some(false) => "stateless",
                None => "unknown",
            },
            format: answer.error.format.name(),
            synchronized: answer.error.synchronized,
            error_ns: answer.error.ns(),
            ssid: answer.ssid != 0,
            ttl_min: low,
            ttl_max: high,
        });
    }

    fn report(mut self, started_at: String) -> Result<Report> {
        self.rx.reordered = self.numbers.counters().reordered;
        self.rx.dropped_here = net::dropped(&self.socket)?;
        let sent = self.tx.packets;
        let lost = sent - self.rx.answered - self.rx.late;
        let split = self.numbers.split(sent, self.config.reflector);
        let f = &self.figures;
        let of = Times::distribution;
        let times = report::Times {
            rtt_ns: of(&f.round_trip),
            rtt_from_schedule_ns: of(&f.from_schedule),
            reflector_ns: of(&f.processing),
            departure_lag_ns: of(&f.departure_lag),
            variation_ns: of(&f.variation[0]),
            variation_forward_ns: of(&f.variation[1]),
            variation_backward_ns: of(&f.variation[2]),
            one_way_forward_ns: of(&f.forward),
            one_way_backward_ns: of(&f.backward),
            one_way_error_ns: (self.one_way_error_ns > 0).then_some(self.one_way_error_ns),
            clock_offset_ns: f.offset.map(|offset| offset.ns),
            clock_offset_error_ns: f.offset.map(|offset| offset.error_ns),
            negative: f.negative,
        };
        Ok(Report {
            schema: report::SCHEMA,
            started_at,
            config: effective(self.config),
            source: self.source,
            ssid: self.ssid,
            duration_ns: clock::tai_ns().saturating_sub(self.start_ns),
            loss: Loss {
                lost,
                percent: (sent > 0).then(|| lost as f64 * 100.0 / sent as f64),
                no_split: split.err().filter(|_| sent > 0),
                split: split.ok().filter(|_| sent > 0),
            },
            times,
            warnings: self.warnings(),
            tx: self.tx,
            rx: self.rx,
            reflector: self.reflector,
            timestamps: self.stamps,
            verdict: None,
        })
    }

    fn warnings(&self) -> Vec<Warning> {
        let target = self.config.target;
        let mut warnings = vec![];
        let mut warn = |code, text: String, fix: &str| {
            warnings.push(Warning { code, text, fix: Some(fix.to_owned()).filter(|fix| !fix.is_empty()) });
        };
        if self.rx.packets == 0 && self.tx.refused > 0 {
            let text = format!("{target}: nobody listens there, or nobody may be asked (ICMP)");
            warn("refused", text, "start a session-reflector there: wirerate reflect");
        } else if self.rx.packets == 0 && self.tx.packets > 0 {
            let fix = "look whether a session-reflector runs there, and whether UDP to its port and back is let through";
            warn("no-answer", format!("{target}: not one answer"), fix);
        }
        if self.rx.late > 0 {
            let text = format!("{} answers came after {:?}", self.rx.late, self.config.timeout);
            warn("late-answers", text, "a longer --timeout");
        }
        if self.rx.dropped_here > 0 {
            let text = format!(
                "{} answers were dropped at our own socket: this host was too slow",
                self.rx.dropped_here
            );
            warn("socket-overflow", text, "a lower --rate, or sysctl -w net.core.rmem_max=4194304");
        }
        if self.figures.negative > 0 {
            let text =
                format!("{} times came out negative: a clock was set during the run", self.figures.negative);
            warn("negative-times", text, "");
        }
        let By { user, .. } = self.stamps.transmit;
        if self.config.timestamps == Timestamps::Kernel && user > 0 {
            let text = format!(
                "the kernel did not stamp {user} packets when they left; their T1 is from before it took them"
            );
            warn("user-timestamps", text, "");
        }
        warnings
    }
}

/// What was told of the last interval.
#[derive(Debug, Default)]
struct Told {
    at_ns: u64,
    sent: u64,
    answered: u64,
    overdue: u64,
}

impl Told {
    fn tell(&mut self, session: &mut Session<'_>, now: u64, on_event: &mut dyn FnMut(Event<'_>)) {
        let (sent, answered, overdue) = (session.tx.packets, session.rx.answered, session.overdue);
        let interval = Interval {
            start_ns: self.at_ns - session.start_ns,
            end_ns: now.saturating_sub(session.start_ns),
            sent: sent - self.sent,
            answered: answered - self.answered,
            lost: overdue - self.overdue,
            rtt_ns: session.figures.recent.distribution(),
        };
        session.figures.recent.reset();
        *self = Self { at_ns: now.max(self.at_ns), sent, answered, overdue };
        on_event(Event::Interval(&interval));
    }
}

fn effective(config: &Config) -> serde_json::Value {
    crate::report::effective(json!({
        "target": config.target,
        "rate_pps": config.pps,
        "count": config.count,
        "duration_ns": config.duration.map(|d| d.as_nanos() as u64),
        "length_bytes": config.length,
        "dscp": config.dscp,
        "timestamps": config.timestamps.name(),
        "format": config.format.name(),
        "timeout_ns": config.timeout.as_nanos() as u64,
        "reflector": config.reflector.name(),
    }))
}
