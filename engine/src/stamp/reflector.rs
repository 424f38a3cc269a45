//! The session-reflector. It answers with as much as came and to where it came from, at most at one rate, and no answers: so it
//! multiplies nothing, and two of them do not keep each other busy.
#![forbid(unsafe_code)]

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, SystemTime};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use serde_json::json;
use socket2::Socket;

use super::report::{By, Ignored, REFLECT_SCHEMA, Reflected};
use super::session::{Key, Sessions};
use super::{Clock, Timestamps, error_estimate, net};
use crate::clock;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::packet::stamp::{Answer, ErrorEstimate, Format, LEN, NotARequest, Request, SHORTEST_ANSWER, tlv};
use crate::report::Warning;
use crate::sys::timestamping::{self, CONTROL, Received};

/// Most sessions in a report.
const REPORTED: usize = 1000;

/// Longest sleep: a request to stop is seen so soon.
const PATIENCE: Duration = Duration::from_millis(50);

/// How often the clock's quality is asked for.
const ASK_CLOCK_NS: u64 = 1_000_000_000;

/// A rate limit lets this much through at once.
const BURST_NS: u64 = 100_000_000;

/// Datagrams from one socket before the next has its turn.
const TURN: usize = 64;

/// Longest datagram.
const LONGEST: usize = 65_536;

/// Where to listen, and how to answer.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses and ports.
    pub addresses: Vec<SocketAddr>,
    /// Answers are counted for each session, so that the sender can tell the ways apart (RFC 8762 §4).
    pub stateful: bool,
    /// Who takes T2.
    pub timestamps: Timestamps,
    /// How times are written.
    pub format: Format,
    /// Most answers a second.
    pub max_pps: u32,
    /// Packets of TWAMP Light senders below 41 bytes are answered, with more than came (RFC 8762 §4.6).
    pub answer_short: bool,
    /// End after this time.
    pub duration: Option<Duration>,
    /// Time between interim results.
    pub interval: Duration,
}

/// What a reflector came to. When it failed on the way, what it did by then is in the report.
#[derive(Debug)]
pub struct Outcome {
    /// The report.
    pub report: Reflected,
    /// Why it ended before it should.
    pub failure: Option<Error>,
}

/// What a reflector tells while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Bound: packets are answered from now on.
    Ready,
    /// An interval has passed.
    Interval {
        /// Its end, in ns from the start.
        end_ns: u64,
        /// Datagrams that came, since the start.
        received: u64,
        /// Answers that left, since the start.
        answered: u64,
    },
}

/// Reflects until the time is up or somebody asks it to stop.
///
/// # Errors
/// When it cannot begin: a socket cannot be opened or lacks what is needed.
pub fn run(config: &Config, stop: &Stop, on_event: &mut dyn FnMut(Event)) -> Result<Outcome> {
    let started_at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let sockets =
        config.addresses.iter().map(|address| open(*address, config)).collect::<Result<Vec<_>>>()?;
    let bound = |socket: &Socket| socket.local_addr().ok().and_then(|address| address.as_socket());
    let addresses: Vec<SocketAddr> = sockets.iter().filter_map(bound).collect();
    let mut reflector = Reflector::new(config);
    on_event(Event::Ready);
    let start_ns = clock::tai_ns();
    let failure = reflector.go(&sockets, start_ns, stop, on_event).err();
    let dropped_here = sockets.iter().map(net::dropped).sum::<Result<u64>>()?;
    let report = Reflected {
        schema: REFLECT_SCHEMA,
        started_at,
        config: effective(config),
        addresses,
        duration_ns: clock::tai_ns().saturating_sub(start_ns),
        received: reflector.received,
        answered: reflector.answered,
        ignored: reflector.ignored,
        dropped_here,
        receive_timestamps: reflector.stamps,
        sessions: config.stateful.then(|| reflector.sessions.report(REPORTED)),
        warnings: warnings(&reflector.ignored, dropped_here),
    };
    Ok(Outcome { report, failure })
}

fn open(address: SocketAddr, config: &Config) -> Result<Socket> {
    let socket = net::bind(address)?;
    let fd = socket.as_fd();
    let set = || -> io::Result<()> {
        if address.is_ipv6() {
            setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&fd, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&fd, sockopt::Ipv6RecvTClass, &true)?;
        } else {
            setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
            setsockopt(&fd, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&fd, sockopt::IpRecvTos, &true)?;
        }
        if config.timestamps == Timestamps::Kernel {
            timestamping::enable(fd, false)?;
        }
        Ok(())
    };
    set().map_err(|e| {
        Error::environment(format!("{address}: the socket lacks what a reflector needs")).because(e)
    })?;
    Ok(socket)
}

struct Reflector<'a> {
    config: &'a Config,
    clock: Clock,
    error: ErrorEstimate,
    asked_clock_ns: u64,
    sessions: Sessions,
    limit: Limit,
    received: u64,
    answered: u64,
    ignored: Ignored,
    stamps: By,
    payload: Vec<u8>,
    control: Vec<u8>,
}

impl<'a> Reflector<'a> {
    fn new(config: &'a Config) -> Self {
        Self {
            config,
            clock: Clock::read(),
            error: error_estimate(config.format),
            asked_clock_ns: clock::tai_ns(),
            sessions: Sessions::default(),
            limit: Limit::new(config.max_pps),
            received: 0,
            answered: 0,
            ignored: Ignored::default(),
            stamps: By::default(),
            payload: vec![0; LONGEST],
            control: vec![0; CONTROL],
        }
    }

    fn go(
        &mut self,
        sockets: &[Socket],
        start_ns: u64,
        stop: &Stop,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<()> {
        let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        let end_ns = self.config.duration.map_or(u64::MAX, |d| start_ns.saturating_add(d.as_nanos() as u64));
        let period = self.config.interval.as_nanos() as u64;
        let mut tell_ns = start_ns + period;
        loop {
            let mut came = false;
            for socket in sockets {
                for _ in 0..TURN {
                    match timestamping::receive(socket.as_fd(), &mut self.payload, &mut self.control) {
                        Ok(Some(packet)) => self.reflect(socket, &packet),
                        Ok(None) => break,
                        // Of an answer to somebody who is gone.
                        Err(e) if net::is_refusal(&e) => {}
                        Err(e) => return Err(Error::failed("receiving failed").because(e)),
                    }
                    came = true;
                }
            }
            let now = clock::tai_ns();
            if now >= tell_ns {
                let (received, answered) = (self.received, self.answered);
                on_event(Event::Interval { end_ns: now.saturating_sub(start_ns), received, answered });
                tell_ns = now + period;
            }
            if now >= self.asked_clock_ns + ASK_CLOCK_NS {
                self.asked_clock_ns = now;
                self.error = error_estimate(self.config.format);
                self.clock = Clock::read();
            }
            if stop.is_requested() || now >= end_ns {
                return Ok(());
            }
            if !came {
                net::wait(
                    &descriptors,
                    Duration::from_nanos(end_ns.min(tell_ns).saturating_sub(now)).min(PATIENCE),
                )?;
            }
        }
    }

    fn reflect(&mut self, socket: &Socket, packet: &Received) {
        self.received += 1;
        let now = clock::tai_ns();
        let Some(place) = self.answer(socket, packet, now) else {
            self.answered += 1;
            return;
        };
        *place += 1;
    }

    /// Answers a datagram, or gives the count that it belongs to.
    fn answer(&mut self, socket: &Socket, packet: &Received, now: u64) -> Option<&mut u64> {
        let len = packet.len.min(self.payload.len());
        let request = match Request::parse(&self.payload[..len]) {
            Ok(request) => request,
            Err(NotARequest::Short) => return Some(&mut self.ignored.short),
            Err(NotARequest::Corrupt) => return Some(&mut self.ignored.corrupt),
            Err(NotARequest::Authenticated) => return Some(&mut self.ignored.authenticated),
            Err(NotARequest::Answer) => return Some(&mut self.ignored.answers),
        };
        let len = match len {
            SHORTEST_ANSWER.. => len,
            _ if self.config.answer_short => LEN,
            _ => return Some(&mut self.ignored.short),
        };
        let (Some(source), Some((destination, interface)), false) =
            (packet.source, packet.destination, packet.to_many)
        else {
            return Some(&mut self.ignored.group);
        };
        if !self.limit.allows(now) {
            return Some(&mut self.ignored.limited);
        }
        let t2 = packet.stamps.software_ns.map(|ns| self.clock.tai_ns(ns));
        let by = if t2.is_some() { &mut self.stamps.kernel } else { &mut self.stamps.user };
        *by += 1;
        let mut session = None;
        if self.config.stateful {
            session =
                self.sessions.arrive(Key { source, destination, ssid: request.ssid }, request.sequence, now);
            if session.is_none() {
                return Some(&mut self.ignored.sessions);
            }
        }
        let sequence = session.as_ref().map_or(request.sequence, |s| s.next());
        let format = self.config.format;
        let received = self.clock.encode(t2.unwrap_or(now), format);
        let mut answer = Answer::to(&request, sequence, received, packet.ttl.unwrap_or(0), self.error);
        let bytes = &mut self.payload[..len];
        if let Some(more) = bytes.get_mut(LEN..) {
            tlv::reflect(more);
        }
        answer.timestamp = self.clock.encode(clock::tai_ns(), format);
        answer.emit(bytes);
        let from = (destination, interface);
        match send(socket, bytes, source, from, packet.class.unwrap_or(0)) {
            Ok(()) => {
                if let Some(session) = session {
                    session.answered();
                }
                None
            }
            Err(_) => Some(&mut self.ignored.errors),
        }
    }
}

/// Sends an answer from the address that was asked, with the class of the question.
fn send(socket: &Socket, bytes: &[u8], to: SocketAddr, from: (IpAddr, u32), class: u8) -> nix::Result<()> {
    let (address, interface) = from;
    let (v4, v6);
    let traffic_class = i32::from(class);
    let control = match address {
        IpAddr::V4(address) => {
            v4 = libc::in_pktinfo {
                // By the route.
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
                ipi_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::UNSPECIFIED) },
            };
            [ControlMessage::Ipv4PacketInfo(&v4), ControlMessage::Ipv4Tos(&class)]
        }
        IpAddr::V6(address) => {
            // A link-local address is one of an interface.
            let index = if address.is_unicast_link_local() { interface } else { 0 };
            v6 = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
                ipi6_ifindex: index,
            };
            [ControlMessage::Ipv6PacketInfo(&v6), ControlMessage::Ipv6TClass(&traffic_class)]
        }
    };
    let to = SockaddrStorage::from(to);
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], &control, MsgFlags::MSG_DONTWAIT, Some(&to)).map(drop)
}

/// Lets so many a second through, and a tenth of that at once.
#[derive(Debug)]
struct Limit {
    interval_ns: u64,
    /// When the next would be due, were all evenly spaced.
    due_ns: u64,
}

impl Limit {
    fn new(pps: u32) -> Self {
        Self { interval_ns: 1_000_000_000 / u64::from(pps.max(1)), due_ns: 0 }
    }

    fn allows(&mut self, now_ns: u64) -> bool {
        let due = self.due_ns.max(now_ns);
        if due - now_ns > BURST_NS.max(self.interval_ns) - self.interval_ns {
            return false;
        }
        self.due_ns = due + self.interval_ns;
        true
    }
}

fn warnings(ignored: &Ignored, dropped: u64) -> Vec<Warning> {
    let mut warnings = vec![];
    let mut warn = |count: u64, code, text: &str, fix: &str| {
        if count > 0 {
            warnings.push(Warning { code, text: format!("{count} {text}"), fix: Some(fix.to_owned()) });
        }
    };
    warn(
        dropped,
        "socket-overflow",
        "datagrams were dropped at our sockets: this host was too slow",
        "sysctl -w net.core.rmem_max=4194304",
    );
    warn(ignored.limited, "limited", "packets were above the highest rate", "a higher --max-pps");
    warn(
        ignored.authenticated,
        "authenticated",
        "packets were in authenticated mode, which is not spoken here",
        "let the sender use unauthenticated mode",
    );
    warn(
        ignored.short,
        "short",
        "datagrams were too short to be answered with no more than came",
        "let the sender send 44 bytes, or --answer-short",
    );
    warn(
        ignored.sessions,
        "sessions",
        "packets were of sessions beyond those that can be followed",
        "--stateless",
    );
    warn(
        ignored.errors,
        "refused",
        "answers were refused by this host",
        "look at its routes and its firewall",
    );
    warnings
}

fn effective(config: &Config) -> serde_json::Value {
    crate::report::effective(json!({
        "addresses": config.addresses,
        "stateful": config.stateful,
        "timestamps": config.timestamps.name(),
        "format": config.format.name(),
        "max_pps": config.max_pps,
        "answer_short": config.answer_short,
        "duration_ns": config.duration.map(|d| d.as_nanos() as u64),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_kept_and_a_burst_passes() {
        let mut limit = Limit::new(1000);
        let start = 5_000_000_000;
        assert_eq!((0..500).filter(|_| limit.allows(start)).count(), 100);
        let second = (0..1_000_000_u64).filter(|us| limit.allows(start + us * 1000)).count();
        assert!((899..=1000).contains(&second), "{second}");
        let mut slow = Limit::new(1);
        assert!(
            slow.allows(start) && !slow.allows(start + 999_999_999) && slow.allows(start + 1_000_000_000)
        );
    }
}
