//! The control loop: listens for membership reports at every port, asks who is a member, and tells a [`Plane`] where groups go.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};

use super::filter;
use super::plane::Plane;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::multicast::message::{self, Body, Heard, Message, Query, RecordKind, Unread, Version};
use crate::multicast::snoop::{Claim, LAST_MEMBER_TIME, Said, Table};
use crate::packet::ethernet::Ethernet;
use crate::queue::spec::Interface;
use crate::sys::packet::PacketSocket;

/// How long the loop sleeps at most before it looks whether it is to end, and at its timers.
const TICK: Duration = Duration::from_millis(20);

/// General queries when it begins, a second apart (RFC 9776 §8.6 and §8.7 have two, a quarter of the usual interval apart).
const FIRST_QUERIES: u32 = 3;
const FIRST_INTERVAL: Duration = Duration::from_secs(1);

/// A message may be lost this often (RFC 9776 §8.1).
const ROBUSTNESS: u8 = 2;

/// Longer frames are no reports: what comes to a packet socket is at most as long as the MTU.
const LONGEST: usize = 65_536;

/// How memberships are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Ask who is a member. Without a querier, and with none elsewhere, memberships end after a while.
    pub querier: bool,
    /// Time between general queries.
    pub interval: Duration,
    /// Groups that there is room for.
    pub most_groups: usize,
}

impl Default for Membership {
    fn default() -> Self {
        // RFC 9776 §8.2.
        Self { querier: true, interval: Duration::from_secs(125), most_groups: 4096 }
    }
}

impl Membership {
    /// Members answer a general query within this time.
    fn response(&self) -> Duration {
        (self.interval / 2).min(Duration::from_secs(10)).max(Duration::from_millis(100))
    }

    /// A report holds for this time (RFC 9776 §8.4).
    fn lifetime(&self) -> Duration {
        self.interval * u32::from(ROBUSTNESS) + self.response()
    }
}

/// What others may look at while the loop goes on.
#[derive(Debug)]
pub struct State {
    /// Who is a member; the plane forwards accordingly.
    pub table: Table,
    /// Reports taken in.
    pub reports: u64,
    /// What could not be read or is not valid.
    pub malformed: u64,
    /// Queries sent, on all ports.
    pub queries: u64,
    /// Why it has ended, when it has.
    pub failure: Option<Error>,
}

/// The loop, on a thread of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Control {
    state: Arc<Mutex<State>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// A port with its listener.
#[derive(Debug)]
struct Port {
    interface: Interface,
    socket: PacketSocket,
}

/// A question that is asked again.
#[derive(Debug, Clone, Copy)]
struct Asked {
    port: usize,
    group: IpAddr,
    again: Instant,
}

impl Control {
    /// Begins with the calling thread's network namespace, where the ports are. Port numbers in the plane's entries are their places here.
    ///
    /// # Errors
    /// Environment: without CAP_NET_RAW, or when an interface is gone.
    pub fn start(ports: &[Interface], membership: Membership, plane: impl Plane + 'static) -> Result<Self> {
        let ports = ports
            .iter()
            .map(|interface| {
                let socket = PacketSocket::listen(interface.index, &filter::REPORTS, false).map_err(|e| {
                    Error::environment(format!("{}: cannot listen for membership reports", interface.name))
                        .because(e)
                        .fix("run as root, or with CAP_NET_RAW")
                })?;
                Ok(Port { interface: interface.clone(), socket })
            })
            .collect::<Result<Vec<_>>>()?;
        let table = Table::new(ports.len(), membership.lifetime(), membership.most_groups);
        let state = State { table, reports: 0, malformed: 0, queries: 0, failure: None };
        let state = Arc::new(Mutex::new(state));
        let stop = Stop::default();
        let (shared, ended) = (Arc::clone(&state), stop.clone());
        let thread = thread::Builder::new()
            .name("memberships".into())
            .spawn(move || {
                let mut work = Loop { ports, membership, plane, asked: Vec::new(), buffer: vec![0; LONGEST] };
                if let Err(error) = work.run(&shared, &ended) {
                    lock(&shared).failure = Some(error);
                }
            })
            .map_err(|e| Error::environment("cannot start a thread").because(e))?;
        Ok(Self { state, stop, thread: Some(thread) })
    }

    /// What it knows. The loop waits meanwhile.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.request();
        if let Some(thread) = self.thread.take() {
            // A panic is a defect that the thread has already told of.
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Loop<P> {
    ports: Vec<Port>,
    membership: Membership,
    plane: P,
    asked: Vec<Asked>,
    buffer: Vec<u8>,
}

impl<P: Plane> Loop<P> {
    fn run(&mut self, shared: &Mutex<State>, stop: &Stop) -> Result<()> {
        let mut first = if self.membership.querier { FIRST_QUERIES } else { 0 };
        let mut next_query = Instant::now();
        while !stop.is_requested() {
            let now = Instant::now();
            if self.membership.querier && now >= next_query {
                let starting = first > 0;
                first = first.saturating_sub(1);
                next_query = now + if first > 0 { FIRST_INTERVAL } else { self.membership.interval };
                let response = if starting { FIRST_INTERVAL / 2 } else { self.membership.response() };
                let sent = self.ask_everybody(response);
                lock(shared).queries += sent;
            }
            self.wait()?;
            let mut state = lock(shared);
            for port in 0..self.ports.len() {
                self.listen(port, &mut state)?;
            }
            self.plane.look(&state.table)?;
            for group in state.table.expire(Instant::now()) {
                self.plane.forward(group, &state.table.entries(group))?;
            }
            state.queries += self.ask_again();
        }
        Ok(())
    }

    /// Until there is something to read at a port or in the plane, for a tick at most.
    fn wait(&self) -> Result<()> {
        let ports = self.ports.iter().map(|port| port.socket.as_fd());
        let mut fds: Vec<_> =
            ports.chain(self.plane.wakes()).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match ppoll(&mut fds, Some(TICK.into()), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(e) => Err(Error::failed("waiting for membership reports").because(e)),
        }
    }

    /// Takes in what has arrived at a port.
    fn listen(&mut self, port: usize, state: &mut State) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        // One that goes down is reported once; its members do not come back before it does.
        while let Some(frame) = self.ports[port].socket.receive(&mut buffer).unwrap_or(None) {
            let heard = match heard_in(frame) {
                Ok(heard) => heard,
                Err(Unread::Foreign) => continue,
                Err(Unread::Malformed(_)) => {
                    state.malformed += 1;
                    continue;
                }
            };
            state.reports += 1;
            for claim in claims(port, &heard) {
                let effect = state.table.hear(&claim, Instant::now());
                if effect.changed {
                    self.plane.forward(claim.group, &state.table.entries(claim.group))?;
                }
                if effect.ask && self.membership.querier {
                    self.ask(port, claim.group);
                    state.queries += 1;
                    self.asked.push(Asked {
                        port,
                        group: claim.group,
                        again: Instant::now() + LAST_MEMBER_TIME / 2,
                    });
                }
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn ask_again(&mut self) -> u64 {
        let now = Instant::now();
        let due: Vec<Asked> = self.asked.iter().filter(|asked| asked.again <= now).copied().collect();
        self.asked.retain(|asked| asked.again > now);
        due.iter().for_each(|asked| self.ask(asked.port, asked.group));
        due.len() as u64
    }

    fn ask_everybody(&self, response: Duration) -> u64 {
        let mut sent = 0;
        for port in 0..self.ports.len() {
            for version in [Version::Igmp3, Version::Mld2] {
                self.query(port, version, None, response);
                sent += 1;
            }
        }
        sent
    }

    fn ask(&self, port: usize, group: IpAddr) {
        self.query(port, Version::newest(group), Some(group), LAST_MEMBER_TIME / 2);
    }

    fn query(&self, port: usize, version: Version, group: Option<IpAddr>, response: Duration) {
        let Port { interface, socket } = &self.ports[port];
        let query = Query {
            group,
            sources: Vec::new(),
            max_response_ms: u32::try_from(response.as_millis()).unwrap_or(u32::MAX),
            suppress: false,
            robustness: ROBUSTNESS,
            interval_s: u32::try_from(self.membership.interval.as_secs()).unwrap_or(u32::MAX),
        };
        let source = if version.is_ipv6() {
            IpAddr::from(link_local(interface.mac))
        } else {
            // As a switch does (RFC 4541 §2.1.1): it is not to be elected before a router.
            Ipv4Addr::UNSPECIFIED.into()
        };
        if let Ok(frame) = (Message { version, body: Body::Query(query) }).frame(interface.mac, source) {
            // A port that is down has nobody to be asked.
            let _ = socket.send(&frame);
        }
    }
}

/// What a frame says.
fn heard_in(frame: &[u8]) -> std::result::Result<Heard, Unread> {
    let (ethernet, len) = Ethernet::parse(frame).ok_or(Unread::Foreign)?;
    if ethernet.vlan.is_some() {
        return Err(Unread::Foreign);
    }
    let heard = message::parse(&frame[len..])?;
    if heard.is_valid() { Ok(heard) } else { Err(Unread::Malformed("a receiver ignores it")) }
}

/// What a message says of memberships.
fn claims(port: usize, heard: &Heard) -> Vec<Claim> {
    let host = heard.source;
    let claim = |group, said| Claim { port, host, group, said };
    match &heard.message.body {
        Body::Query(_) => Vec::new(),
        // A host says everything again once it has an address (RFC 3590 §4), and would leave with another source than it had joined with.
        _ if host == IpAddr::from(Ipv6Addr::UNSPECIFIED) => Vec::new(),
        Body::Join(group) => vec![claim(*group, Said::Member)],
        Body::Leave(group) => vec![claim(*group, Said::Leaves)],
        Body::Report(records) => records
            .iter()
            .map(|record| {
                let sources = record.sources.clone();
                let said = match record.kind {
                    RecordKind::IsInclude | RecordKind::ToInclude => Said::Include(sources),
                    RecordKind::IsExclude | RecordKind::ToExclude => Said::Exclude(sources),
                    RecordKind::Allow => Said::Allow(sources),
                    RecordKind::Block => Said::Block(sources),
                };
                claim(record.group, said)
            })
            .collect(),
    }
}

/// The address that an interface gives itself (RFC 4291 appendix A): hosts take MLD only from such.
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
