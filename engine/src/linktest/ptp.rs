//! PTP's group and ports: who is heard there, and whether what is sent there leaves and arrives.
//!
//! What is sent belongs to a domain that no clock may use ([`ptp::UNUSED_DOMAIN`]), so that clocks on the link ignore it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::report::{Ptp, PtpPort, PtpSource};
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::host::interface::Link;
use crate::multicast::own;
use crate::packet::ptp::{self, ClockIdentity, EVENT_PORT, GENERAL_PORT, Header};
use crate::sys;

/// PTP over UDP over IPv4, all messages but those of peer delay (IEEE 1588-2019 annex C).
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 1, 129);

/// Time between two messages of ours to a port.
const PACE: Duration = Duration::from_millis(125);

/// Senders that are told apart; others are counted at the port only.
const SOURCES: usize = 256;

/// Both ports, joined and bound.
pub(super) struct Check {
    sockets: Vec<(UdpSocket, PtpPort)>,
    clock: ClockIdentity,
    interface: String,
    sources: BTreeMap<(SocketAddr, ClockIdentity, u8), u64>,
}

impl Check {
    /// Joins the group on this interface, at both ports.
    ///
    /// # Errors
    /// Environment without the privilege for ports below 1024, or when the group cannot be joined.
    pub fn open(link: &Link) -> Result<Self> {
        let mut sockets = Vec::new();
        for port in [EVENT_PORT, GENERAL_PORT] {
            let socket = open(port, link.index).map_err(|e| {
                let denied = e.kind() == ErrorKind::PermissionDenied;
                let error = Error::environment(format!("--ptp: UDP port {port} of {GROUP} on {}", link.name))
                    .because(e);
                error.fix(if denied {
                    "run as root, or: sudo sysctl net.ipv4.ip_unprivileged_port_start=319".to_owned()
                } else {
                    format!("look at ip addr show dev {}: it needs an IPv4 address, and multicast", link.name)
                })
            })?;
            sockets.push((socket, PtpPort { port, ..PtpPort::default() }));
        }
        let clock = ClockIdentity::of_mac(link.mac.unwrap_or_default());
        Ok(Self { sockets, clock, interface: link.name.clone(), sources: BTreeMap::new() })
    }

    /// Identity that what is sent from here carries.
    pub fn clock(&self) -> String {
        self.clock.to_string()
    }

    /// Sends to both ports at a gentle pace, and notes what comes, until the time is over or `stop` is requested.
    ///
    /// # Errors
    /// When the sockets cannot be waited for.
    pub fn run(&mut self, duration: Duration, stop: &Stop) -> Result<()> {
        let begin = Instant::now();
        let mut number = 0u16;
        while begin.elapsed() < duration && !stop.is_requested() {
            if begin.elapsed() >= PACE * u32::from(number) && number < u16::MAX {
                self.send(number);
                number += 1;
            }
            self.listen(Duration::from_millis(20).min(duration))
                .map_err(|e| Error::failed("--ptp: cannot wait for what comes").because(e))?;
        }
        Ok(())
    }

    fn send(&mut self, number: u16) {
        for (socket, port) in &mut self.sockets {
            let to = SocketAddrV4::new(GROUP, port.port);
            match socket.send_to(&ptp::probe(port.port, self.clock, number), to) {
                Ok(_) => port.sent += 1,
                Err(_) => port.refused += 1,
            }
        }
    }

    fn listen(&mut self, patience: Duration) -> io::Result<()> {
        let mut waiting: Vec<PollFd> =
            self.sockets.iter().map(|(socket, _)| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        match poll(&mut waiting, patience) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        drop(waiting);
        for (socket, port) in &mut self.sockets {
            let mut room = [0; 1500];
            // As many as wait now; others wait for the next turn.
            for _ in 0..64 {
                let Ok((length, from)) = socket.recv_from(&mut room) else { break };
                let Some(header) = Header::parse(&room[..length]) else {
                    port.other += 1;
                    continue;
                };
                port.received += 1;
                *port.kinds.entry(header.kind_name()).or_insert(0) += 1;
                let key = (from, header.clock, header.domain);
                if self.sources.len() < SOURCES || self.sources.contains_key(&key) {
                    *self.sources.entry(key).or_insert(0) += 1;
                }
            }
        }
        Ok(())
    }

    /// What came of it. `far` are addresses of the far end.
    ///
    /// # Errors
    /// When the kernel does not tell its memberships.
    pub fn report(self, far: &[IpAddr]) -> Result<Ptp> {
        // While the sockets hold the group.
        let interfaces = own::memberships(Some(&self.interface))?;
        let interface = interfaces.first();
        let group = interface.and_then(|i| i.groups.iter().find(|g| g.group == IpAddr::V4(GROUP)));
        let version = interface.and_then(|i| i.igmp).and_then(|speaks| speaks.version);
        Ok(Ptp {
            group: GROUP.to_string(),
            igmp: version.and_then(|v| serde_json::to_value(v).ok()?.as_str().map(str::to_owned)),
            in_link_filter: group.is_some_and(|g| g.in_link_filter),
            ports: self.sockets.into_iter().map(|(_, port)| port).collect(),
            sources: self
                .sources
                .into_iter()
                .map(|((address, clock, domain), messages)| PtpSource {
                    address: address.to_string(),
                    clock: clock.to_string(),
                    domain,
                    messages,
                    far_end: far.contains(&address.ip()),
                })
                .collect(),
        })
    }
}

fn open(port: u16, index: u32) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // A PTP daemon may have it, too.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_multicast_all_v4(false)?;
    socket.set_multicast_loop_v4(false)?;
    socket.set_multicast_ttl_v4(1)?;
    socket.bind(&SocketAddrV4::new(GROUP, port).into())?;
    sys::socket::leave_by(socket.as_fd(), false, index)?;
    sys::socket::join(socket.as_fd(), index, IpAddr::V4(GROUP), None)?;
    Ok(socket.into())
}
