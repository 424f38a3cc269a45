//! The socket and the thread of an RTCP session.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustc_hash::FxHashSet;
use socket2::{Domain, Protocol, Socket, Type};

use super::RtcpConfig;
use super::figures::Moment;
use super::session::{Figures, Session, SessionConfig, rtcp_address};
use crate::clock;
use crate::error::{Error, Result};
use crate::generate::SendConfig;
use crate::multicast::membership;
use crate::packet::rtcp::Compound;
use crate::queue::spec::Interface;
use crate::report::Rtcp;
use crate::sys;
use crate::target::Target;

/// How long the thread waits for a datagram before it looks whether something is due.
const TICK: Duration = Duration::from_millis(20);

/// Longest datagram that is read: more than any link carries.
const LONGEST: usize = 1 << 16;

/// Longest wait for a goodbye among many.
const LONGEST_FAREWELL_NS: u64 = 5_000_000_000;

/// What an endpoint is to be opened with.
#[derive(Debug)]
pub(crate) struct EndpointSpec {
    /// Local address.
    bind: SocketAddr,
    /// What to join and to hear on.
    join: Option<Target>,
    interface: Option<Interface>,
    ttl: u8,
    dscp: u8,
    session: SessionSpec,
}

/// What a session begins with but for what is drawn at random.
#[derive(Debug)]
struct SessionSpec {
    receives: bool,
    interval_ns: Option<u64>,
    at_once: bool,
    to_group: bool,
    mux: bool,
}

impl EndpointSpec {
    /// Of a sender: at the port after its own, if that was named, so that others find it. In a group it hears what receivers say to the group; in
    /// a source-specific one these can only tell it itself.
    pub(crate) fn of_sender(config: &SendConfig, rtcp: &RtcpConfig, interface: Option<&Interface>) -> Self {
        let target = config.target;
        let asm = target.is_group() && target.source.is_none() && !rtcp.mux;
        let port = match (asm, &config.source_ports) {
            (true, _) => rtcp_address(target.destination, false).port(),
            (false, Some(ports)) if !rtcp.mux => ports.start().saturating_add(1),
            (false, _) => 0,
        };
        Self {
            bind: SocketAddr::new(unspecified(target.is_ipv6()), port),
            join: asm.then(|| rtcp_target(&target)),
            interface: interface.cloned(),
            ttl: config.effective_ttl(),
            dscp: config.dscp,
            session: SessionSpec {
                receives: false,
                interval_ns: rtcp.interval.map(|i| i.as_nanos() as u64),
                at_once: !target.is_group(),
                to_group: asm,
                mux: rtcp.mux,
            },
        }
    }

    /// Of a receiver of `target`: at the port after the target's; in a group on the group's address, too.
    pub(crate) fn of_receiver(target: &Target, rtcp: &RtcpConfig, interface: Option<&Interface>) -> Self {
        let to = rtcp_target(target);
        // What shares the port of RTP comes by the datapath.
        let bind = if rtcp.mux { SocketAddr::new(unspecified(target.is_ipv6()), 0) } else { to.destination };
        Self {
            bind,
            join: (target.is_group() && !rtcp.mux).then_some(to),
            interface: interface.cloned(),
            ttl: if target.is_group() { 1 } else { 64 },
            dscp: 0,
            session: SessionSpec {
                receives: true,
                interval_ns: rtcp.interval.map(|i| i.as_nanos() as u64),
                at_once: !target.is_group(),
                to_group: target.source.is_none(),
                mux: rtcp.mux,
            },
        }
    }
}

fn rtcp_target(target: &Target) -> Target {
    Target { destination: rtcp_address(target.destination, false), ..*target }
}

fn unspecified(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// A running session.
#[derive(Debug)]
pub(crate) struct Endpoint {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    quit: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    session: Session,
    figures: Figures,
}

impl Endpoint {
    /// Opens the socket and starts the thread.
    ///
    /// # Errors
    /// `Environment` when the port is in use, the group cannot be joined, or there is no such interface.
    pub(crate) fn open(spec: &EndpointSpec) -> Result<Self> {
        let socket = open(spec)?;
        let random = |what: &str| {
            getrandom::u64().map_err(|e| Error::failed(format!("no random numbers for {what}: {e}")))
        };
        let SessionSpec { receives, interval_ns, at_once, to_group, mux } = spec.session;
        // Drawn for each run, it says nothing of who or where this is (RFC 7022 §4.2).
        let cname = format!("{:016x}{:08x}", random("RTCP")?, random("RTCP")? >> 32);
        let ssrc = receives.then(|| random("RTCP").map(|bits| bits as u32)).transpose()?;
        let config =
            SessionConfig { ssrc, cname, interval_ns, at_once, to_group, mux, seed: random("RTCP")? };
        let state = State { session: Session::new(config, now()), figures: Figures::default() };
        let shared = Arc::new(Shared { socket, quit: AtomicBool::new(false), state: Mutex::new(state) });
        let thread = thread::Builder::new()
            .name("rtcp".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.run()
            })
            .map_err(|e| Error::failed("no thread for RTCP").because(e))?;
        Ok(Self { shared, thread })
    }

    /// Has `change` bring the figures up to date.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.shared.state().figures);
    }

    /// Takes a datagram that came `from` somebody on the port of RTP.
    pub(crate) fn receive(&self, from: SocketAddr, datagram: &[u8]) {
        self.shared.receive(from, datagram);
    }

    /// Those that said goodbye and were not heard since.
    pub(crate) fn left(&self) -> FxHashSet<u32> {
        self.shared.state().session.left().collect()
    }

    /// Says goodbye and ends the thread; what was said and heard.
    pub(crate) fn finish(self) -> Rtcp {
        let wait_ns = self.shared.state().session.farewell_wait_ns(now());
        // Answers may still come meanwhile.
        thread::sleep(Duration::from_nanos(wait_ns.min(LONGEST_FAREWELL_NS)));
        self.shared.quit.store(true, Ordering::Relaxed);
        // What it heard is in the state, whatever became of it.
        let _ = self.thread.join();
        let mut state = self.shared.state();
        let State { session, figures } = &mut *state;
        let last = session.farewell(now(), figures);
        self.shared.send(session, last);
        session.report(&figures.sent)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut buffer = vec![0; LONGEST];
        while !self.quit.load(Ordering::Relaxed) {
            // A timeout, or an error of an earlier datagram (ICMP): both are nothing.
            if let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
                self.receive(from, &buffer[..len]);
            }
            let mut state = self.state();
            let State { session, figures } = &mut *state;
            let moment = now();
            if moment.ns >= session.next_ns() {
                let due = session.due(moment, figures);
                self.send(session, due);
            }
        }
    }

    fn receive(&self, from: SocketAddr, datagram: &[u8]) {
        let moment = now();
        let mut state = self.state();
        let State { session, figures } = &mut *state;
        session.receive(moment, from, datagram, &figures.sent);
    }

    fn send(&self, session: &mut Session, datagrams: Vec<(SocketAddr, Compound)>) {
        for (to, compound) in datagrams {
            // The first attempt may be told of an earlier datagram that nobody took.
            let send = || self.socket.send_to(compound.bytes(), to);
            if send().or_else(|_| send()).is_err() {
                session.failed();
            }
        }
    }
}

fn now() -> Moment {
    Moment::new(clock::tai_ns(), clock::tai_minus_utc_ns())
}

/// A socket bound and joined as the spec says, with a timeout of one tick.
fn open(spec: &EndpointSpec) -> Result<UdpSocket> {
    let interface = spec.interface.as_ref();
    let ipv6 = spec.bind.is_ipv6();
    let failed = |step: &str, error: io::Error| {
        let failure = Error::environment(format!("RTCP at {}: {step}", spec.bind)).because(error);
        failure.fix("free the port, or use --rtcp off")
    };
    let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket =
        Socket::new(domain, Type::DGRAM.cloexec(), Some(Protocol::UDP)).map_err(|e| failed("socket", e))?;
    if let Some(interface) = interface {
        match socket.bind_device(Some(interface.name.as_bytes())) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                sys::socket::leave_by(socket.as_fd(), ipv6, interface.index)
                    .map_err(|e| failed("choice of interface", e))?;
            }
            other => other.map_err(|e| failed("SO_BINDTODEVICE", e))?,
        }
    }
    let ttl = u32::from(spec.ttl);
    let class = u32::from(spec.dscp) << 2;
    if ipv6 {
        socket.set_only_v6(true).map_err(|e| failed("IPV6_V6ONLY", e))?;
        socket.set_unicast_hops_v6(ttl).and_then(|()| socket.set_multicast_hops_v6(ttl))
    } else {
        socket.set_ttl_v4(ttl).and_then(|()| socket.set_multicast_ttl_v4(ttl))
    }
    .map_err(|e| failed("TTL", e))?;
    if ipv6 { socket.set_tclass_v6(class) } else { socket.set_tos_v4(class) }
        .map_err(|e| failed("DSCP", e))?;
    if let Some(target) = &spec.join {
        // Sender and receivers of one host share the port of a group.
        socket.set_reuse_address(true).map_err(|e| failed("SO_REUSEADDR", e))?;
        if ipv6 { socket.set_multicast_all_v6(false) } else { socket.set_multicast_all_v4(false) }
            .map_err(|e| failed("IP_MULTICAST_ALL", e))?;
        membership::join_on(&socket, interface, target)?;
    }
    socket.bind(&scoped(spec.bind, interface).into()).map_err(|e| failed("bind", e))?;
    socket.set_read_timeout(Some(TICK)).map_err(|e| failed("SO_RCVTIMEO", e))?;
    Ok(socket.into())
}

/// Link-local addresses mean nothing without their interface (RFC 4007).
fn scoped(address: SocketAddr, interface: Option<&Interface>) -> SocketAddr {
    match (address, interface) {
        (SocketAddr::V6(v6), Some(interface)) => {
            SocketAddrV6::new(*v6.ip(), v6.port(), v6.flowinfo(), interface.index).into()
        }
        _ => address,
    }
}
