//! A station of a link that speaks IGMP and MLD itself: a querier, a member of thousands of groups, or one that holds them through the kernel, and listens meanwhile.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use super::host::Host;
use super::listen::{Event, Listener, begin, now_ns, tap, warn};
use super::memberships::{Memberships, SourceFilter, Wanted};
use super::message::{Body, Heard, Message, Version, parse};
use super::querier::Querier;
use super::report::{Election, Joined, Queried, Report};
use super::state::{Mode, Timers};
use super::version::Forced;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::host::interface;
use crate::queue::spec::Interface;
use crate::report::Warning;
use crate::sys::packet::PacketSocket;
use crate::sys::tap::{Passed, Tap};

/// How often a signal is looked for.
const PATIENCE: Duration = Duration::from_millis(50);
/// The longest IP packet.
const LONGEST: usize = 1 << 16;
/// How long leaves are waited for: they are repeated within a second, RFC 9776 §8.11.
const FAREWELL: Duration = Duration::from_secs(3);

/// Who tells the link of our memberships.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The kernel, by sockets.
    Kernel,
    /// We, with reports of our own: the kernel knows of nothing, and no socket receives anything.
    Emitted,
}

/// What to join.
#[derive(Debug, Clone)]
pub struct Join {
    /// Groups and who is wanted of them.
    pub wanted: Vec<Wanted>,
    /// Joins, and at the end leaves, a second; at once without.
    pub rate: Option<f64>,
    /// Who tells.
    pub by: By,
    /// Speak this version, whatever the querier speaks; the kernel is made to, and made to forget it at the end.
    pub version: Option<Version>,
}

/// How to query.
#[derive(Debug, Clone)]
pub struct Query {
    /// IGMPv3 and MLDv2, or what is named here; one of each family at most.
    pub versions: Vec<Version>,
    /// The times.
    pub timers: Timers,
}

/// What a station does.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where.
    pub interface: Interface,
    /// For so long; otherwise until asked to stop.
    pub duration: Option<Duration>,
    /// Be a member.
    pub join: Option<Join>,
    /// Be the querier.
    pub query: Option<Query>,
}

/// Our addresses on the link.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    ipv4: Option<Ipv4Addr>,
    link_local: Option<IpAddr>,
}

impl Addresses {
    fn of(interface: &Interface) -> Result<Self> {
        let all = interface::addresses(interface.index)?;
        let usable = || all.iter().filter(|address| !address.tentative).map(|address| address.ip);
        Ok(Self {
            ipv4: usable().find_map(|ip| match ip {
                IpAddr::V4(v4) => Some(v4),
                IpAddr::V6(_) => None,
            }),
            link_local: usable().find(|ip| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())),
        })
    }

    /// The source of what we say.
    fn source(&self, interface: &Interface, ipv6: bool) -> Result<IpAddr> {
        match (ipv6, self.link_local) {
            // RFC 9776 §4.2.13: from a host without an address.
            (false, _) => Ok(self.ipv4.unwrap_or(Ipv4Addr::UNSPECIFIED).into()),
            (true, Some(address)) => Ok(address),
            (true, None) => Err(Error::environment(format!(
                "{}: no link-local IPv6 address, without which MLD is ignored",
                interface.name
            ))
            .fix(format!("ip link set dev {} up, and wait for its address", interface.name))),
        }
    }
}

/// Puts messages onto the link.
struct Voice {
    socket: PacketSocket,
    interface: Interface,
    addresses: Addresses,
}

impl Voice {
    fn open(interface: &Interface) -> Result<Self> {
        let socket = PacketSocket::open(interface.index).map_err(|error| {
            let denied = error.raw_os_error() == Some(libc::EPERM);
            let error =
                Error::environment(format!("{}: cannot send IGMP and MLD", interface.name)).because(error);
            if denied { error.fix("run as root, or grant the program CAP_NET_RAW") } else { error }
        })?;
        Ok(Self { socket, interface: interface.clone(), addresses: Addresses::of(interface)? })
    }

    fn say(&self, message: &Message) -> Result<()> {
        let source = self.addresses.source(&self.interface, message.version.is_ipv6())?;
        let frame = message.frame(self.interface.mac, source)?;
        // A queue that is full empties itself; what is lost is repeated.
        for _ in 0..100 {
            match self.socket.send(&frame) {
                Ok(()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => {
                    return Err(Error::failed(format!(
                        "{}: sending {}",
                        self.interface.name, message.version
                    ))
                    .because(error));
                }
            }
        }
        Ok(())
    }
}

/// Memberships that only we speak of: joined by reports of our own, kept by answers to queries, left at the end or when this is dropped.
///
/// Frames to any group are let in by the interface (all-multicast) for as long, for whoever receives them past the socket layer.
pub struct Reporter {
    voice: Voice,
    hosts: Vec<Host>,
    sent: u64,
}

impl Reporter {
    /// A member of nothing on `interface`. It speaks what the oldest querier speaks, or `version`.
    ///
    /// # Errors
    /// Environment: without CAP_NET_RAW.
    pub fn open(interface: &Interface, version: Option<Version>) -> Result<Self> {
        let voice = Voice::open(interface)?;
        voice.socket.let_all_groups_in().map_err(|error| {
            Error::environment(format!("{}: cannot let all groups in", interface.name)).because(error)
        })?;
        let mut seed = [0; 8];
        // Two hosts that start together are not to answer together.
        let seed = getrandom::fill(&mut seed).map_or_else(|_| now_ns(), |()| u64::from_ne_bytes(seed));
        let host = |newest: Version| {
            let forced = version.filter(|version| version.is_ipv6() == newest.is_ipv6());
            Host::new(forced.unwrap_or(newest), forced.is_none(), seed ^ u64::from(newest.is_ipv6()))
        };
        Ok(Self { voice, hosts: vec![host(Version::Igmp3), host(Version::Mld2)], sent: 0 })
    }

    /// Joins, or changes who is wanted; [`speak`](Self::speak) tells it.
    ///
    /// # Errors
    /// Environment: an IPv6 group without a link-local address to speak from.
    pub fn set(&mut self, group: IpAddr, filter: &SourceFilter) -> Result<()> {
        self.voice.addresses.source(&self.voice.interface, group.is_ipv6())?;
        self.hosts[usize::from(group.is_ipv6())].set(now_ns(), group, filter);
        Ok(())
    }

    /// Leaves everything; [`speak`](Self::speak) tells it.
    pub fn leave_all(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.leave_all(now_ns()));
    }

    /// Takes in what others said, at `at_ns` (UTC).
    pub fn hear(&mut self, at_ns: u64, heard: &Heard) {
        self.hosts[usize::from(heard.message.version.is_ipv6())].hear(at_ns, heard);
    }

    /// When there is something to say next, ns since 1970 UTC.
    pub fn next_ns(&self) -> Option<u64> {
        self.hosts.iter().filter_map(Host::next_ns).min()
    }

    /// Says what is due.
    ///
    /// # Errors
    /// Failed: the interface is down or gone.
    pub fn speak(&mut self) -> Result<()> {
        let mtu = self.voice.interface.mtu as usize;
        for host in &mut self.hosts {
            for message in host.due(now_ns(), mtu) {
                self.voice.say(&message)?;
                self.sent += 1;
            }
        }
        Ok(())
    }

    /// Groups that are held.
    pub fn len(&self) -> usize {
        self.hosts.iter().map(Host::len).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a join or leave is still to be repeated.
    pub fn is_telling(&self) -> bool {
        self.hosts.iter().any(Host::is_telling)
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if !self.is_empty() {
            self.leave_all();
            // Said once; whoever has time for more has called `leave_all`.
            let _ = self.speak();
        }
    }
}

/// What a running station consists of.
struct Station<'a> {
    config: &'a Config,
    tap: Tap,
    buffer: Vec<u8>,
    listener: Listener,
    queriers: Vec<Querier>,
    reporter: Option<Reporter>,
    voice: Option<Voice>,
}

/// What a station came to. When it failed on the way, what was heard by then is still in the report.
#[derive(Debug)]
pub struct Outcome {
    /// The report.
    pub report: Report,
    /// Why it ended before it should.
    pub failure: Option<Error>,
}

/// Runs until the time is up or `stop` is requested, and takes everything back.
///
/// # Errors
/// When it cannot begin. Usage: a group that is none, a version without an address to speak from. Environment: no privilege. What fails later, joins among it, is the outcome's.
pub fn run(config: &Config, stop: &Stop, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
    let mut report = begin();
    // The first that is made and the last that goes: leaves are of the forced version, too.
    let forced = config.join.as_ref().filter(|join| join.by == By::Kernel).and_then(|join| join.version);
    let _forced = forced.map(|version| Forced::on(&config.interface.name, version)).transpose()?;
    let mut station = Station::open(config)?;
    let mut memberships = Memberships::new(&config.interface);
    let start = Instant::now();
    let mut joined = config.join.as_ref().map(|join| Joined {
        by: if join.by == By::Kernel { "kernel" } else { "emitted" },
        groups: join.wanted.len() as u64,
        ..Joined::default()
    });
    let failure = station.live(&mut memberships, joined.as_mut(), start, stop, on_event).err();
    if let (Some(joined), Some(reporter)) = (&mut joined, &station.reporter) {
        joined.reports_sent = reporter.sent;
        joined.queries_answered = reporter.hosts.iter().map(Host::queries_answered).sum();
    }
    report.joined = joined;
    report.queried = config.query.is_some().then(|| queried(&station.queriers));
    let missed = station.tap.dropped().map_or(0, u64::from);
    let mut wire = std::mem::take(&mut station.listener).conclude(now_ns());
    (wire.duration_ns, wire.missed) = (start.elapsed().as_nanos() as u64, missed);
    if missed > 0 {
        let text =
            format!("{missed} messages came faster than they were read: queries may have gone unanswered");
        warn(&mut report, Warning { code: "messages-missed", text, fix: None }, on_event);
    }
    report.heard = Some(wire);
    Ok(Outcome { report, failure })
}

fn queried(queriers: &[Querier]) -> Queried {
    let election = |querier: &Querier| Election {
        family: if querier.address().is_ipv6() { "ipv6" } else { "ipv4" },
        address: querier.address(),
        is_querier: querier.other().is_none(),
        other: querier.other(),
    };
    Queried {
        elected: queriers.iter().map(election).collect(),
        general: queriers.iter().map(|querier| querier.general).sum(),
        specific: queriers.iter().map(|querier| querier.specific).sum(),
    }
}

impl<'a> Station<'a> {
    fn open(config: &'a Config) -> Result<Self> {
        let interface = &config.interface;
        let tap = tap(Some(interface))?;
        let (mut queriers, mut voice) = (Vec::new(), None);
        if let Some(query) = &config.query {
            let speaks = Voice::open(interface)?;
            for version in &query.versions {
                let address = speaks.addresses.source(interface, version.is_ipv6())?;
                queriers.push(Querier::new(*version, address, query.timers, now_ns()));
            }
            // Members' reports go to groups that the interface has to let in.
            speaks.socket.let_all_groups_in().map_err(|error| {
                Error::environment(format!("{}: cannot let all groups in", interface.name)).because(error)
            })?;
            voice = Some(speaks);
        }
        let reporter = match &config.join {
            Some(join) if join.by == By::Emitted => Some(Reporter::open(interface, join.version)?),
            _ => None,
        };
        let (buffer, listener) = (vec![0; LONGEST], Listener::default());
        Ok(Self { config, tap, buffer, listener, queriers, reporter, voice })
    }

    /// Joins, goes on until the end, and leaves.
    fn live(
        &mut self,
        memberships: &mut Memberships,
        joined: Option<&mut Joined>,
        start: Instant,
        stop: &Stop,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let config = self.config;
        if let Some((join, joined)) = config.join.as_ref().zip(joined) {
            let made = self.join(join, memberships, stop, on_event);
            let reported = self.reporter.as_ref().map_or(0, Reporter::len);
            joined.held = (memberships.len() + reported) as u64;
            joined.sockets = memberships.sockets() as u64;
            joined.joining_ns = start.elapsed().as_nanos() as u64;
            made?;
        }
        on_event(Event::Ready);
        let over =
            || stop.is_requested() || config.duration.is_some_and(|duration| start.elapsed() >= duration);
        while !over() {
            let rest = config.duration.map_or(PATIENCE, |duration| duration.saturating_sub(start.elapsed()));
            self.step(rest.min(PATIENCE), on_event)?;
        }
        // A request to stop was the reason, or is one to make haste.
        let rate = config.join.as_ref().and_then(|join| join.rate);
        memberships.leave_all(rate, stop, &mut |_| {})?;
        self.farewell(on_event)
    }

    fn join(
        &mut self,
        join: &Join,
        memberships: &mut Memberships,
        stop: &Stop,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let start = Instant::now();
        // One by one, so that a querier of ours goes on meanwhile.
        for (n, wanted) in join.wanted.iter().enumerate() {
            if !self.wait(n, join.rate, start, stop, on_event)? {
                break;
            }
            match &mut self.reporter {
                None => _ = memberships.join(wanted)?,
                Some(reporter) => reporter.set(wanted.group, &wanted.filter)?,
            }
        }
        self.speak()
    }

    /// Goes on until step `n` is due; false when `stop` was requested.
    fn wait(
        &mut self,
        n: usize,
        rate: Option<f64>,
        start: Instant,
        stop: &Stop,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<bool> {
        let Some(rate) = rate else { return Ok(!stop.is_requested()) };
        let due = Duration::try_from_secs_f64(n as f64 / rate).unwrap_or(Duration::MAX);
        while !stop.is_requested() {
            let rest = due.saturating_sub(start.elapsed());
            if rest.is_zero() {
                break;
            }
            self.step(rest.min(PATIENCE), on_event)?;
        }
        Ok(!stop.is_requested())
    }

    /// Says what is due, and takes in what comes within `patience`, but at most until there is something to say.
    fn step(&mut self, patience: Duration, on_event: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        self.speak()?;
        let queriers = self.queriers.iter().filter_map(Querier::next_ns);
        let next = queriers.chain(self.reporter.as_ref().and_then(Reporter::next_ns)).min();
        let until = next.map_or(patience, |next| Duration::from_nanos(next.saturating_sub(now_ns())));
        let passed = match self.tap.next(&mut self.buffer, patience.min(until)) {
            Ok(None) => return Ok(()),
            Ok(Some(passed)) => passed,
            Err(error) => {
                return Err(Error::failed(format!(
                    "{}: listening to IGMP and MLD",
                    self.config.interface.name
                ))
                .because(error));
            }
        };
        self.take(&passed, on_event);
        Ok(())
    }

    fn take(&mut self, passed: &Passed, on_event: &mut dyn FnMut(Event<'_>)) {
        let packet = &self.buffer[..passed.len.min(LONGEST)];
        let direction = if passed.outgoing { "out" } else { "in" };
        if let Some(line) =
            self.listener.packet(passed.at_ns, &self.config.interface.name, Some(direction), packet)
        {
            on_event(Event::Message(&line));
        }
        let Ok(heard) = parse(packet) else { return };
        let now = now_ns();
        let ours = passed.outgoing && self.is_ours(&heard);
        // This host's own kernel is a member like others: our querier hears it.
        if !ours {
            for querier in &mut self.queriers {
                if querier.address().is_ipv6() == heard.message.version.is_ipv6() {
                    querier.hear(now, &heard);
                }
            }
        }
        // What this host says as a member is not another member's word, but a querier on this host is one like others.
        let query = matches!(heard.message.body, Body::Query(_));
        if let Some(reporter) = self.reporter.as_mut().filter(|_| !passed.outgoing || query) {
            reporter.hear(now, &heard);
        }
    }

    /// Whether our querier said it.
    fn is_ours(&self, heard: &Heard) -> bool {
        matches!(heard.message.body, Body::Query(_))
            && self.queriers.iter().any(|querier| querier.address() == heard.source)
    }

    fn speak(&mut self) -> Result<()> {
        if let Some(voice) = &self.voice {
            for querier in &mut self.queriers {
                for message in querier.due(now_ns()) {
                    voice.say(&message)?;
                }
            }
        }
        self.reporter.as_mut().map_or(Ok(()), Reporter::speak)
    }

    /// Leaves what we report ourselves, as often as the RFC wants it said.
    fn farewell(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let Some(reporter) = &mut self.reporter else { return Ok(()) };
        reporter.leave_all();
        let start = Instant::now();
        while self.reporter.as_ref().is_some_and(Reporter::is_telling) && start.elapsed() < FAREWELL {
            self.step(PATIENCE, on_event)?;
        }
        Ok(())
    }
}

/// Whether a list of memberships asks for single sources anywhere.
pub fn names_sources(wanted: &[Wanted]) -> bool {
    wanted.iter().any(|wanted| {
        let (mode, sources) = wanted.filter.parts();
        mode == Mode::Include || !sources.is_empty()
    })
}
