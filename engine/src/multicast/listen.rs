//! Who joins what: messages off the wire or out of a capture, as they come, and the state that they leave behind.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use socket2::SockFilter;

use super::message::{Body, Unread, parse};
use super::report::{self, Line, Wire};
use super::routers::Routers;
use super::{own, state};
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::host::interface;
use crate::observe::capture::Capture;
use crate::packet::pim;
use crate::queue::spec::Interface;
use crate::report::Warning;
use crate::sys::tap::Tap;

/// How often a signal is looked for.
const PATIENCE: Duration = Duration::from_millis(50);
/// The longest IP packet.
const LONGEST: usize = 1 << 16;

/// A packet filter for IP packets: IGMP, MLD with or without hop-by-hop options, and PIM.
pub(crate) fn filter() -> Vec<SockFilter> {
    // Codes of classic BPF: load byte, load byte at X, and, add, shift, go to, jump if equal, to X, return.
    const LDB: u16 = 0x30;
    const LDB_X: u16 = 0x50;
    const AND: u16 = 0x54;
    const ADD: u16 = 0x04;
    const SHIFT_LEFT: u16 = 0x64;
    const GO: u16 = 0x05;
    const JEQ: u16 = 0x15;
    const TO_X: u16 = 0x07;
    const RETURN: u16 = 0x06;
    /// Where the types of MLD are looked at, what is wanted is taken, and the rest is not: numbers of steps below.
    const TYPES: u8 = 20;
    const TAKE: u8 = 24;
    const LEAVE: u8 = 25;
    const PIM: u32 = pim::PROTOCOL as u32;
    let step = |code, k| SockFilter::new(code, 0, 0, k);
    // From step `at` on: where to when the byte is k, and when it is not.
    let jump = |at: u8, k, yes: u8, no: u8| SockFilter::new(JEQ, yes - at - 1, no - at - 1, k);
    vec![
        step(LDB, 0),
        step(AND, 0xf0),
        jump(2, 0x40, 3, 6),
        // IPv4: the protocol.
        step(LDB, 9),
        jump(4, 2, TAKE, 5),
        jump(5, PIM, TAKE, LEAVE),
        jump(6, 0x60, 7, LEAVE),
        // IPv6: PIM, ICMPv6 at once, or behind hop-by-hop options.
        step(LDB, 6),
        jump(8, PIM, TAKE, 9),
        jump(9, 58, 10, 12),
        step(LDB, 40),
        step(GO, u32::from(TYPES) - 12),
        jump(12, 0, 13, LEAVE),
        step(LDB, 40),
        jump(14, 58, 15, LEAVE),
        step(LDB, 41),
        step(ADD, 1),
        step(SHIFT_LEFT, 3),
        step(TO_X, 0),
        step(LDB_X, 40),
        jump(TYPES, 130, TAKE, 21),
        jump(21, 131, TAKE, 22),
        jump(22, 132, TAKE, 23),
        jump(23, 143, TAKE, LEAVE),
        step(RETURN, LONGEST as u32),
        step(RETURN, 0),
    ]
}

/// What a listener tells.
#[derive(Debug)]
pub enum Event<'a> {
    /// What passes from now on is heard.
    Ready,
    /// A message.
    Message(&'a Line),
    /// Something that a reader should know.
    Warning(&'a Warning),
}

/// How to listen.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// On this interface; on all of this network namespace without.
    pub interface: Option<Interface>,
    /// For so long; otherwise until asked to stop.
    pub duration: Option<Duration>,
}

/// What was heard so far, by interface.
#[derive(Debug, Default)]
pub struct Listener {
    links: BTreeMap<(String, bool), state::Link>,
    routers: BTreeMap<(String, bool), Routers>,
    wire: Wire,
}

impl Listener {
    /// Takes in an IP packet seen on `interface` at `at_ns` (since 1970, UTC); gives the message in it, if it is one.
    pub fn packet(
        &mut self,
        at_ns: u64,
        interface: &str,
        direction: Option<&'static str>,
        packet: &[u8],
    ) -> Option<Line> {
        let heard = match parse(packet) {
            Ok(heard) => heard,
            Err(Unread::Foreign) => return self.of_a_router(at_ns, interface, direction, packet),
            Err(Unread::Malformed(_)) => {
                self.wire.malformed += 1;
                return None;
            }
        };
        match heard.message.body {
            Body::Query(_) => self.wire.queries += 1,
            Body::Report(_) | Body::Join(_) => self.wire.reports += 1,
            Body::Leave(_) => self.wire.leaves += 1,
        }
        self.wire.defective += u64::from(!heard.defects.is_empty());
        let key = (interface.to_owned(), heard.message.version.is_ipv6());
        self.links.entry(key).or_default().hear(at_ns, &heard);
        Some(Line::of(at_ns, interface, direction, &heard))
    }

    /// The same for PIM.
    fn of_a_router(
        &mut self,
        at_ns: u64,
        interface: &str,
        direction: Option<&'static str>,
        packet: &[u8],
    ) -> Option<Line> {
        let heard = match pim::parse(packet) {
            Ok(heard) => heard,
            Err(unread) => {
                self.wire.malformed += u64::from(unread != Unread::Foreign);
                return None;
            }
        };
        self.wire.pim += 1;
        self.wire.defective += u64::from(!heard.defects.is_empty());
        let key = (interface.to_owned(), heard.source.is_ipv6());
        self.routers.entry(key).or_default().hear(at_ns, &heard);
        Some(Line::of_pim(at_ns, interface, direction, &heard))
    }

    /// What was heard, and the state at `now_ns`.
    pub fn conclude(mut self, now_ns: u64) -> Wire {
        for ((interface, ipv6), link) in &mut self.links {
            link.expire(now_ns);
            self.wire.links.push(report::Link::of(interface, *ipv6, link, now_ns));
        }
        for ((interface, _), routers) in &mut self.routers {
            routers.expire(now_ns);
            let told = routers
                .iter()
                .map(|(address, router)| report::Router::of(interface, *address, router, now_ns));
            self.wire.routers.extend(told);
        }
        self.wire
    }
}

/// A report of a run that begins now.
pub(crate) fn begin() -> report::Report {
    report::Report {
        schema: report::SCHEMA,
        started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        host: None,
        heard: None,
        joined: None,
        queried: None,
        warnings: Vec::new(),
    }
}

/// Nanoseconds since 1970, UTC: the clock of the kernel's stamps.
pub(crate) fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Opens a socket that sees IGMP, MLD and PIM on `interface`, or on all.
///
/// # Errors
/// Environment: without CAP_NET_RAW.
pub(crate) fn tap(interface: Option<&Interface>) -> Result<Tap> {
    let place = interface.map_or("all interfaces", |interface| &interface.name);
    Tap::open(interface.map_or(0, |interface| interface.index), &filter()).map_err(|error| {
        let denied = error.raw_os_error() == Some(libc::EPERM);
        let error = Error::environment(format!("{place}: cannot listen to IGMP, MLD and PIM")).because(error);
        if denied { error.fix("run as root, or grant the program CAP_NET_RAW") } else { error }
    })
}

/// Listens until the time is up or `stop` is requested.
///
/// # Errors
/// Environment: without CAP_NET_RAW.
pub fn watch(config: &Config, stop: &Stop, on_event: &mut dyn FnMut(Event<'_>)) -> Result<report::Report> {
    let mut report = begin();
    let tap = tap(config.interface.as_ref())?;
    let (mut listener, mut names) = (Listener::default(), HashMap::new());
    let mut buffer = vec![0; LONGEST];
    let start = Instant::now();
    on_event(Event::Ready);
    while !stop.is_requested() && config.duration.is_none_or(|duration| start.elapsed() < duration) {
        let rest = config.duration.map_or(PATIENCE, |duration| duration.saturating_sub(start.elapsed()));
        match tap.next(&mut buffer, rest.min(PATIENCE)) {
            Ok(None) => {}
            Ok(Some(passed)) => {
                let name = names.entry(passed.interface).or_insert_with(|| name_of(passed.interface));
                let direction = if passed.outgoing { "out" } else { "in" };
                let packet = &buffer[..passed.len.min(LONGEST)];
                if let Some(line) = listener.packet(passed.at_ns, name, Some(direction), packet) {
                    on_event(Event::Message(&line));
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {
                let place = config.interface.as_ref().map_or("an interface", |interface| &interface.name);
                let text = format!("{place} went down or away: nothing is heard there until it is up again");
                warn(&mut report, Warning { code: "interface-down", text, fix: None }, on_event);
            }
            Err(error) => return Err(Error::failed("listening to IGMP, MLD and PIM").because(error)),
        }
    }
    let mut wire = listener.conclude(now_ns());
    wire.duration_ns = start.elapsed().as_nanos() as u64;
    wire.missed = tap.dropped().map_or(0, u64::from);
    if wire.missed > 0 {
        let text =
            format!("{} messages came faster than they were read: the state may be wrong", wire.missed);
        warn(&mut report, Warning { code: "messages-missed", text, fix: None }, on_event);
    }
    report.heard = Some(wire);
    Ok(report)
}

fn name_of(index: u32) -> String {
    interface::by_index(index).ok().flatten().map_or_else(|| format!("index {index}"), |link| link.name)
}

pub(crate) fn warn(report: &mut report::Report, warning: Warning, on_event: &mut dyn FnMut(Event<'_>)) {
    on_event(Event::Warning(&warning));
    report.warnings.push(warning);
}

/// Reads a capture, pcap or pcapng; memberships expire by its own time stamps.
///
/// # Errors
/// Usage: the file cannot be read, or is no capture.
pub fn read(file: &Path, on_event: &mut dyn FnMut(Event<'_>)) -> Result<report::Report> {
    let capture = Capture::open(file)?;
    let (mut report, mut listener) = (begin(), Listener::default());
    let (mut first_ns, mut last_ns, mut unknown) = (None, 0, 0u64);
    let broken = capture.read(&mut |packet| {
        first_ns.get_or_insert(packet.stamp_ns);
        last_ns = last_ns.max(packet.stamp_ns);
        let Some(bytes) = packet.link_len().and_then(|len| packet.frame.get(len..)) else {
            unknown += u64::from(!packet.has_known_link());
            return true;
        };
        let number = packet.interface.to_string();
        let name = packet.interface_name.unwrap_or(&number);
        if let Some(line) = listener.packet(packet.stamp_ns, name, None, bytes) {
            on_event(Event::Message(&line));
        }
        true
    });
    if let Some(text) = broken {
        warn(&mut report, Warning { code: "capture-broken-off", text, fix: None }, on_event);
    }
    if unknown > 0 {
        let text =
            format!("{unknown} packets of the capture have a link type that is not known, and were left out");
        warn(&mut report, Warning { code: "capture-link", text, fix: None }, on_event);
    }
    let mut wire = listener.conclude(last_ns);
    wire.duration_ns = last_ns.saturating_sub(first_ns.unwrap_or(last_ns));
    report.heard = Some(wire);
    Ok(report)
}

/// This host's own memberships, on `interface` or on all.
///
/// # Errors
/// Usage: no such interface. Environment: /proc is not there.
pub fn host(interface: Option<&str>) -> Result<report::Report> {
    Ok(report::Report { host: Some(own::memberships(interface)?), ..begin() })
}
