//! Devices under test: what copies multicast to its members, each built in a lab of its own.
//!
//! ```text
//!  sender 1 … n          the device              member 1 … m, and a stranger
//!  ┌──────────┐  veth  ┌─────────────┐  veth   ┌──────────┐
//!  │ wr0      ├────────┤ s0       r1 ├─────────┤ wr0      │
//!  └──────────┘        │          r2 ├─ …      └──────────┘
//!                      │           x ├─ the stranger, who joins nothing
//!                      └─────────────┘
//! ```
//!
//! [`Device::build`] makes one; dropping it takes everything away, and so does the end of the process, however it comes. docs/devices.md says what each is.
#![forbid(unsafe_code)]

mod bridge;
mod ends;
mod macvlan;
mod mirred;
mod pimd;
mod replicators;
mod routed;
mod router;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::{Host, INTERFACE, Lab, Netns, ip};
use crate::error::{Error, Result};
use crate::host::files;
use crate::multicast::snoop::stays_on_link;
use crate::replicator::{self, Control};

pub use ends::Options;

/// How long [`Device::wait_for`] waits: a host repeats a report that was lost within ten seconds (RFC 2236 §8.10).
const PATIENCE: Duration = Duration::from_secs(12);

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A Linux bridge with IGMP and MLD snooping and a querier.
    Bridge,
    /// A multicast router by the kernel's forwarding cache, every host in a subnet of its own.
    Router,
    /// As that, by FRR's pimd.
    Pimd,
    /// Members are macvlan devices on one parent.
    Macvlan,
    /// `tc` mirrors the frames of each group to the ports of its members.
    Mirred,
    /// Our replicator, an XDP program.
    Xdp,
    /// Our replicator, by AF_XDP sockets.
    Afxdp,
    /// Our replicator, by packet sockets.
    Socket,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Bridge,
        Self::Router,
        Self::Pimd,
        Self::Macvlan,
        Self::Mirred,
        Self::Xdp,
        Self::Afxdp,
        Self::Socket,
    ];

    /// Its name, as typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Router => "router",
            Self::Pimd => "pimd",
            Self::Macvlan => "macvlan",
            Self::Mirred => "mirred",
            Self::Xdp => "xdp",
            Self::Afxdp => "afxdp",
            Self::Socket => "socket",
        }
    }

    /// What it is, in a line.
    pub fn about(self) -> &'static str {
        match self {
            Self::Bridge => "a Linux bridge with IGMP and MLD snooping and a querier",
            Self::Router => "a multicast router: the kernel's forwarding cache, set by what members report",
            Self::Pimd => "a multicast router: FRR's pimd, IPv4 only (package frr)",
            Self::Macvlan => "members are macvlan devices (bridge mode) on one parent",
            Self::Mirred => "tc u32 filters that mirror each group to its members (act_mirred)",
            Self::Xdp => "our replicator: an XDP program that broadcasts to a device map of members",
            Self::Afxdp => "our replicator in user space, by AF_XDP sockets",
            Self::Socket => "our replicator in user space, by packet sockets that keep segmentation offload",
        }
    }

    /// The most senders, members and strangers together that it has room for.
    pub fn most_hosts(self) -> usize {
        match self {
            // MAXVIFS.
            Self::Router => crate::sys::mroute::INTERFACES,
            // pimd has one for itself, by which it registers sources.
            Self::Pimd => crate::sys::mroute::INTERFACES - 1,
            // Addresses 10.77.0.11 to .253 for members.
            _ => 240,
        }
    }

    /// Why the device cannot forward `group` from `source`; `None`: it can.
    pub fn cannot(self, group: IpAddr, source: Option<IpAddr>) -> Option<String> {
        let local = stays_on_link(group);
        if !group.is_multicast() {
            return Some(format!("{group} is not a group"));
        }
        if local && matches!(self, Self::Router | Self::Pimd) {
            return Some(format!("{group} does not leave its link: a router does not forward it"));
        }
        if local && !matches!(self, Self::Macvlan | Self::Bridge) {
            return Some(format!(
                "{group} belongs to the link and is never reported: {self} copies reported groups only"
            ));
        }
        if group.is_ipv6() && matches!(self, Self::Pimd) {
            return Some(format!("{group}: pimd routes IPv4 only"));
        }
        if source.is_some_and(|source| source.is_ipv4() != group.is_ipv4()) {
            return Some(format!("{group} and its source are of different IP versions"));
        }
        None
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
            Error::usage(format!("{text}: no such device")).fix(format!("use one of {}", names.join(", ")))
        })
    }
}

/// Every kind of device that there is.
pub fn kinds() -> [Kind; 8] {
    Kind::ALL
}

/// A device with its hosts.
#[derive(Debug)]
pub struct Device {
    /// What it is.
    pub kind: Kind,
    /// Hosts that send.
    pub senders: Vec<Host>,
    /// Where the device is, with the interfaces that [`Host::port`] names.
    pub middle: Netns,
    /// Hosts that may join.
    pub members: Vec<Host>,
    /// A host that joins nothing, connected as members are.
    pub stranger: Host,
    running: Running,
}

/// What works for a device besides the kernel.
#[derive(Debug)]
enum Running {
    /// Nothing: a bridge keeps its own table.
    Bridge,
    /// Nothing: macvlan devices filter by their own addresses.
    Macvlan,
    /// A control loop; its ports are the members, then the stranger, then the senders.
    Control(Control),
    /// The daemons of FRR.
    Pimd(pimd::Daemons),
    /// As that, with a replicator's own datapath.
    Replicator(replicator::Replicator),
}

impl Device {
    /// Builds a device of this kind with as many members.
    ///
    /// # Errors
    /// Usage: no members, or more than the kind has room for. Environment: without CAP_SYS_ADMIN, CAP_NET_ADMIN and (for the replicators) CAP_BPF, without
    /// `ip`, `tc` or `ethtool`, or when the kernel lacks what the device is made of.
    pub fn build(kind: Kind, members: usize, options: &Options) -> Result<Self> {
        let hosts = members + 1 + usize::from(options.senders);
        if members == 0 || options.senders == 0 {
            return Err(Error::usage(format!("{kind}: a device has a sender and a member at least")));
        }
        if hosts > kind.most_hosts() {
            return Err(Error::usage(format!(
                "{kind}: {hosts} hosts are more than its {}",
                kind.most_hosts()
            ))
            .fix(format!("use {} members or fewer", kind.most_hosts() - 1 - usize::from(options.senders))));
        }
        // A descriptor for each namespace.
        files::allow_all();
        match kind {
            Kind::Bridge => bridge::build(members, options),
            Kind::Router => router::build(members, options),
            Kind::Pimd => pimd::build(members, options),
            Kind::Macvlan => macvlan::build(members, options),
            Kind::Mirred => mirred::build(members, options),
            Kind::Xdp | Kind::Afxdp | Kind::Socket => replicators::build(kind, members, options),
        }
    }

    /// The first sender.
    pub fn sender(&self) -> &Host {
        &self.senders[0]
    }

    /// Members, then the stranger.
    pub fn receivers(&self) -> impl Iterator<Item = &Host> {
        self.members.iter().chain(std::iter::once(&self.stranger))
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.senders.iter().chain(self.receivers())
    }

    /// The smallest TTL with which a sender's packets arrive at members.
    pub fn ttl(&self) -> u8 {
        match self.kind {
            Kind::Router | Kind::Pimd => routed::FEWEST_HOPS,
            _ => 1,
        }
    }

    /// To which receivers packets of `group` from any source would go now: members by their place, and the stranger after the last of them.
    ///
    /// # Errors
    /// When the device cannot be asked, or its control loop has failed, and why.
    pub fn forwards(&self, group: IpAddr) -> Result<BTreeSet<usize>> {
        let control = match &self.running {
            Running::Bridge => {
                let ports = ip::bridge_members(&self.middle, group)?;
                return Ok(self.places(|host| ports.contains(&host.port)));
            }
            Running::Pimd(daemons) => {
                let ports = daemons.interfaces_of(group)?;
                return Ok(self.places(|host| ports.contains(&host.port)));
            }
            Running::Macvlan => {
                let mut places = BTreeSet::new();
                for (place, host) in self.receivers().enumerate() {
                    if ip::has_group(&host.netns, INTERFACE, group)? {
                        places.insert(place);
                    }
                }
                return Ok(places);
            }
            Running::Control(control) => control,
            Running::Replicator(replicator) => replicator.control(),
        };
        let state = control.state();
        if let Some(failure) = &state.failure {
            return Err(Error::failed(format!("{}: its control loop has ended: {failure}", self.kind)));
        }
        Ok(state.table.ports(group, None).into_iter().filter(|port| *port <= self.members.len()).collect())
    }

    fn places(&self, is: impl Fn(&Host) -> bool) -> BTreeSet<usize> {
        self.receivers().enumerate().filter(|(_, host)| is(host)).map(|(place, _)| place).collect()
    }

    /// Waits until packets of `group` go to exactly these receivers, see [`forwards`](Self::forwards): a kernel that has joined or left says so a moment
    /// later.
    ///
    /// # Errors
    /// When they do not within 12 s, and as [`forwards`](Self::forwards).
    pub fn wait_for(&self, group: IpAddr, receivers: &[usize]) -> Result<()> {
        let wanted: BTreeSet<usize> = receivers.iter().copied().collect();
        self.wait_until(group, |now| *now == wanted)
    }

    /// Waits until packets of `group` go to this number of receivers or more.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub fn wait_for_members(&self, group: IpAddr, members: usize) -> Result<()> {
        self.wait_until(group, |now| now.len() >= members)
    }

    fn wait_until(&self, group: IpAddr, reached: impl Fn(&BTreeSet<usize>) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let now = self.forwards(group)?;
            if reached(&now) {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(Error::environment(format!(
                    "{}: packets of {group} still go to the receivers {now:?} after {} s",
                    self.kind,
                    PATIENCE.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Packets that have left towards a receiver, by `ip -s link`: what its port transmitted, or, where it has none of its own (macvlan), what arrived.
    ///
    /// # Errors
    /// When `ip` tells nothing.
    pub fn transmitted(&self, receiver: &Host) -> Result<u64> {
        match self.running {
            Running::Macvlan => ip::received(&receiver.netns, INTERFACE),
            _ => ip::transmitted(&self.middle, &receiver.port),
        }
    }

    /// What the replicator has counted; `None` for devices that are none of ours.
    ///
    /// # Errors
    /// When its counters cannot be read.
    pub fn replicator(&self) -> Option<&replicator::Replicator> {
        match &self.running {
            Running::Replicator(replicator) => Some(replicator),
            _ => None,
        }
    }
}

impl Lab {
    /// A bridge between one sender and `receivers` receivers.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN and CAP_NET_ADMIN, without `ip`, or when the kernel lacks veth or bridges.
    pub fn bridge(receivers: u8) -> Result<Self> {
        bridge::lab(receivers)
    }
}
