//! Many memberships of one host, held by kernel sockets: as many sockets as the kernel's limits take, joined and left at a set rate.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

use super::membership::check_flags;
use super::state::Mode;
use crate::clock;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::queue::spec::Interface;
use crate::sys;
use crate::target::Target;

/// How often a signal is looked for while a pace is kept.
const PATIENCE: Duration = Duration::from_millis(50);

/// Which senders of a group are wanted (RFC 3376 §2, RFC 3678 §3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceFilter {
    /// These only; nobody when there is none, which is no membership.
    Include(Vec<IpAddr>),
    /// All but these; everybody when there is none, which is the plain join of a group (ASM).
    Exclude(Vec<IpAddr>),
}

impl SourceFilter {
    /// Everybody: a plain join.
    pub fn all() -> Self {
        Self::Exclude(Vec::new())
    }

    /// Mode and sources.
    pub fn parts(&self) -> (Mode, &[IpAddr]) {
        match self {
            Self::Include(sources) => (Mode::Include, sources),
            Self::Exclude(sources) => (Mode::Exclude, sources),
        }
    }
}

/// A group and who is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The group.
    pub group: IpAddr,
    /// Its senders.
    pub filter: SourceFilter,
}

impl Wanted {
    /// What a target asks for: all of the group, or the one source.
    ///
    /// # Errors
    /// Usage: it is not a group.
    pub fn of(target: &Target) -> Result<Self> {
        let group = target.destination.ip();
        let filter =
            target.source.map_or_else(SourceFilter::all, |source| SourceFilter::Include(vec![source]));
        let wanted = Self { group, filter };
        wanted.check()?;
        Ok(wanted)
    }

    /// `number` consecutive groups from `target`'s on, each as [`of`](Self::of).
    ///
    /// # Errors
    /// Usage: one of them is not a group.
    pub fn range(target: &Target, number: u32) -> Result<Vec<Self>> {
        let first = Self::of(target)?;
        (0..number)
            .map(|n| {
                let group = match first.group {
                    IpAddr::V4(v4) => u32::from(v4).checked_add(n).map(|n| IpAddr::V4(n.into())),
                    IpAddr::V6(v6) => u128::from(v6).checked_add(u128::from(n)).map(|n| IpAddr::V6(n.into())),
                };
                group
                    .filter(IpAddr::is_multicast)
                    .map(|group| Self { group, filter: first.filter.clone() })
                    .ok_or_else(|| {
                        Error::usage(format!(
                            "{number} groups from {} on go beyond the multicast addresses",
                            first.group
                        ))
                        .fix("begin with a lower group, or ask for fewer")
                    })
            })
            .collect()
    }

    fn check(&self) -> Result<()> {
        let (_, sources) = self.filter.parts();
        if !self.group.is_multicast() {
            return Err(Error::usage(format!("join {}: not a multicast group", self.group))
                .fix("use a group, such as 239.1.2.3 or ff15::1"));
        }
        match sources.iter().find(|s| s.is_ipv4() != self.group.is_ipv4() || !super::message::is_host(**s)) {
            Some(source) => {
                Err(Error::usage(format!("join {}: {source} cannot be a source of it", self.group))
                    .fix("name the sender's own unicast address, of the group's IP version"))
            }
            None => Ok(()),
        }
    }
}

/// When something was asked of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// The group.
    pub group: IpAddr,
    /// CLOCK_TAI just before the system call, in ns.
    pub called_ns: u64,
    /// And just after.
    pub returned_ns: u64,
}

/// What the kernel allows, read from its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Groups of one socket (net.ipv4.igmp_max_memberships); IPv6 is bounded by memory alone.
    pub igmp_max_memberships: Option<u32>,
    /// Sources of one IPv4 group and socket (net.ipv4.igmp_max_msf).
    pub igmp_max_msf: Option<u32>,
    /// Sources of one IPv6 group and socket (net.ipv6.mld_max_msf).
    pub mld_max_msf: Option<u32>,
    /// Bytes of a socket's memberships and filters (net.core.optmem_max).
    pub optmem_max: Option<u32>,
}

impl Limits {
    /// Those of the calling thread's network namespace.
    pub fn read() -> Self {
        let read = |path: &str| fs::read_to_string(format!("/proc/sys/net/{path}")).ok()?.trim().parse().ok();
        Self {
            igmp_max_memberships: read("ipv4/igmp_max_memberships"),
            igmp_max_msf: read("ipv4/igmp_max_msf"),
            mld_max_msf: read("ipv6/mld_max_msf"),
            optmem_max: read("core/optmem_max"),
        }
    }

    /// Sources that one membership of `group` may name, and the setting that says so.
    pub fn sources(&self, group: IpAddr) -> (Option<u32>, &'static str) {
        match group {
            IpAddr::V4(_) => (self.igmp_max_msf, "net.ipv4.igmp_max_msf"),
            IpAddr::V6(_) => (self.mld_max_msf, "net.ipv6.mld_max_msf"),
        }
    }
}

/// Memberships on one interface. They end when this is dropped, or by [`leave`](Self::leave).
///
/// No socket is bound to a port, none receives a datagram.
#[derive(Debug)]
pub struct Memberships {
    /// `None`: the one that the routing table has for each group.
    interface: Option<Interface>,
    limits: Limits,
    sockets: Vec<Socket>,
    /// What is held, and by which socket.
    held: BTreeMap<IpAddr, (SourceFilter, usize)>,
    /// Which socket joins next, by family; a full one is passed over.
    open: [Option<usize>; 2],
}

impl Memberships {
    /// None yet, on `interface`.
    pub fn new(interface: &Interface) -> Self {
        Self::on(Some(interface))
    }

    /// None yet, on `interface`, or on the one that the routing table has for each group.
    pub fn on(interface: Option<&Interface>) -> Self {
        Self {
            interface: interface.cloned(),
            limits: Limits::read(),
            sockets: Vec::new(),
            held: BTreeMap::new(),
            open: [None; 2],
        }
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many sockets that takes.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Joins one group, or if it is held already changes who is wanted of it.
    ///
    /// # Errors
    /// Usage: no group, or more sources than the kernel allows. Environment: no such interface, no more sockets.
    pub fn join(&mut self, wanted: &Wanted) -> Result<Moment> {
        wanted.check()?;
        let (limit, setting) = self.limits.sources(wanted.group);
        let (_, sources) = wanted.filter.parts();
        if limit.is_some_and(|limit| sources.len() > limit as usize) {
            return Err(Error::environment(format!(
                "join {}: {} sources, and this kernel takes {} for a group",
                wanted.group,
                sources.len(),
                limit.unwrap_or(0)
            ))
            .fix(format!("sysctl -w {setting}={}, or name fewer", sources.len())));
        }
        let index = self.index();
        if let Some((filter, socket)) = self.held.get_mut(&wanted.group) {
            let called_ns = clock::tai_ns();
            let (mode, sources) = wanted.filter.parts();
            let exclude = mode == Mode::Exclude;
            let socket = &self.sockets[*socket];
            sys::socket::set_filter(socket.as_fd(), index, wanted.group, exclude, sources)
                .map_err(|e| explain("change the sources of", wanted.group, self.interface.as_ref(), e))?;
            *filter = wanted.filter.clone();
            return Ok(Moment { group: wanted.group, called_ns, returned_ns: clock::tai_ns() });
        }
        let family = usize::from(wanted.group.is_ipv6());
        if let Some(socket) = self.open[family] {
            match self.join_by(socket, wanted) {
                Err(error) if is_full(&error) => {}
                joined => {
                    return joined.map_err(|e| explain("join", wanted.group, self.interface.as_ref(), e));
                }
            }
        }
        // Another socket: its limits are its own.
        let socket = self.another(wanted)?;
        self.open[family] = Some(socket);
        self.join_by(socket, wanted).map_err(|e| explain("join", wanted.group, self.interface.as_ref(), e))
    }

    /// As the kernel wants it: 0 leaves the choice to the routing table.
    fn index(&self) -> u32 {
        self.interface.as_ref().map_or(0, |interface| interface.index)
    }

    fn another(&mut self, wanted: &Wanted) -> Result<usize> {
        let domain = if wanted.group.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::DGRAM.cloexec(), Some(Protocol::UDP)).map_err(|error| {
            let files = error.raw_os_error() == Some(libc::EMFILE);
            let what = format!("join {}: no socket beside {}", wanted.group, self.sockets.len());
            let error = Error::environment(what).because(error);
            if !files {
                return error;
            }
            error.fix("raise the number of open files (ulimit -n), or net.ipv4.igmp_max_memberships, which is of one socket")
        })?;
        if let Some(interface) = self.interface.as_ref().filter(|_| self.sockets.is_empty()) {
            check_flags(&socket, interface, &format!("join {}", wanted.group))?;
        }
        self.sockets.push(socket);
        Ok(self.sockets.len() - 1)
    }

    fn join_by(&mut self, number: usize, wanted: &Wanted) -> io::Result<Moment> {
        let (fd, index, group) = (self.sockets[number].as_fd(), self.index(), wanted.group);
        let (mode, sources) = wanted.filter.parts();
        let called_ns = clock::tai_ns();
        match (mode, sources) {
            // Asked for one by one the first, so that the group is never asked for as a whole.
            (Mode::Include, [first, rest @ ..]) => {
                sys::socket::join(fd, index, group, Some(*first))?;
                if !rest.is_empty() {
                    sys::socket::set_filter(fd, index, group, false, sources)?;
                }
            }
            (Mode::Include, []) => {}
            (Mode::Exclude, sources) => {
                sys::socket::join(fd, index, group, None)?;
                if !sources.is_empty() {
                    sys::socket::set_filter(fd, index, group, true, sources)?;
                }
            }
        }
        let moment = Moment { group, called_ns, returned_ns: clock::tai_ns() };
        self.held.insert(group, (wanted.filter.clone(), number));
        Ok(moment)
    }

    /// Joins all of `wanted` in order, `rate` of them a second (at once without), until `stop` is requested. `on_each` is told each moment.
    ///
    /// # Errors
    /// As [`join`](Self::join); what was joined before stays joined.
    pub fn join_all(
        &mut self,
        wanted: &[Wanted],
        rate: Option<f64>,
        stop: &Stop,
        on_each: &mut dyn FnMut(&Moment),
    ) -> Result<()> {
        let pace = Pace::new(rate);
        for (n, wanted) in wanted.iter().enumerate() {
            if !pace.wait(n, stop) {
                break;
            }
            on_each(&self.join(wanted)?);
        }
        Ok(())
    }

    /// Leaves one group.
    ///
    /// # Errors
    /// Usage: it is not held. Environment: the kernel's own.
    pub fn leave(&mut self, group: IpAddr) -> Result<Moment> {
        let Some((filter, number)) = self.held.remove(&group) else {
            return Err(Error::usage(format!("leave {group}: it was not joined")));
        };
        let called_ns = clock::tai_ns();
        let (mode, sources) = filter.parts();
        // Nobody was wanted: there is no membership.
        if mode == Mode::Exclude || !sources.is_empty() {
            sys::socket::leave(self.sockets[number].as_fd(), self.index(), group, None)
                .map_err(|e| explain("leave", group, self.interface.as_ref(), e))?;
        }
        // It has room again.
        self.open[usize::from(group.is_ipv6())] = Some(number);
        Ok(Moment { group, called_ns, returned_ns: clock::tai_ns() })
    }

    /// Leaves all, `rate` of them a second (at once without). A request to stop ends the pace: the rest is left at once.
    ///
    /// # Errors
    /// As [`leave`](Self::leave).
    pub fn leave_all(
        &mut self,
        rate: Option<f64>,
        stop: &Stop,
        on_each: &mut dyn FnMut(&Moment),
    ) -> Result<()> {
        let pace = Pace::new(rate);
        let mut n = 0;
        while let Some(group) = self.held.keys().next().copied() {
            pace.wait(n, stop);
            on_each(&self.leave(group)?);
            n += 1;
        }
        Ok(())
    }
}

/// Even steps in time.
struct Pace {
    start: Instant,
    rate: Option<f64>,
}

impl Pace {
    fn new(rate: Option<f64>) -> Self {
        Self { start: Instant::now(), rate }
    }

    /// Waits until step `n` is due; false when `stop` was requested.
    fn wait(&self, n: usize, stop: &Stop) -> bool {
        if let Some(rate) = self.rate {
            let due = Duration::try_from_secs_f64(n as f64 / rate).unwrap_or(Duration::MAX);
            while !stop.is_requested() {
                let rest = due.saturating_sub(self.start.elapsed());
                if rest.is_zero() {
                    break;
                }
                thread::sleep(rest.min(PATIENCE));
            }
        }
        !stop.is_requested()
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

fn explain(verb: &str, group: IpAddr, interface: Option<&Interface>, error: io::Error) -> Error {
    let fix = match (error.raw_os_error(), interface) {
        (Some(libc::ENODEV | libc::EADDRNOTAVAIL), None) => {
            Some(format!("no route leads to {group}: name the interface with --iface"))
        }
        (Some(libc::ENODEV), Some(interface)) => Some(format!("{} is gone: see `ip link`", interface.name)),
        // A socket of its own had no room for it.
        (Some(libc::ENOBUFS | libc::ENOMEM), _) => {
            let optmem = Limits::read().optmem_max.unwrap_or(0);
            Some(format!("raise net.core.optmem_max, now {optmem} bytes, or name fewer sources"))
        }
        _ => None,
    };
    let place = interface.map_or_else(String::new, |interface| format!(" on {}", interface.name));
    let error = Error::environment(format!("{verb} {group}{place}")).because(error);
    match fix {
        Some(fix) => error.fix(fix),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Interface {
        Interface { name: "lo".into(), index: 1, mac: [0; 6], mtu: 65536 }
    }

    #[test]
    fn more_groups_than_a_socket_takes() {
        let mut memberships = Memberships::new(&loopback());
        let (mut moments, stop) = (Vec::new(), Stop::default());
        for target in ["239.77.0.250:1", "[ff15::77:1]:1"] {
            let wanted = Wanted::range(&target.parse().unwrap(), 50).unwrap();
            memberships.join_all(&wanted, None, &stop, &mut |m| moments.push(*m)).unwrap();
        }
        assert_eq!((memberships.len(), moments.len()), (100, 100));
        assert!(moments.iter().all(|m| m.called_ns <= m.returned_ns));
        assert!(moments.is_sorted_by_key(|m| m.called_ns));
        if Limits::read().igmp_max_memberships == Some(20) {
            assert_eq!(memberships.sockets(), 4);
        }
        let group = "239.77.1.3".parse().unwrap();
        memberships.leave(group).unwrap();
        assert!(memberships.leave(group).unwrap_err().what.contains("was not joined"));
        memberships.leave_all(Some(1e6), &stop, &mut |_| {}).unwrap();
        assert!(memberships.is_empty());
    }

    #[test]
    fn what_cannot_be_joined_is_explained() {
        let mut memberships = Memberships::new(&loopback());
        let sources = |n: u32| (1..=n).map(|n| IpAddr::V4((0x0a00_0000 + n).into())).collect::<Vec<_>>();
        let group = IpAddr::from([239, 77, 2, 1]);
        let limit = Limits::read().igmp_max_msf.unwrap();
        let filter = SourceFilter::Exclude(sources(limit + 1));
        let error = memberships.join(&Wanted { group, filter }).unwrap_err();
        assert!(error.to_string().contains("net.ipv4.igmp_max_msf"), "{error}");
        for (group, source) in [("10.0.0.1", "10.0.0.2"), ("239.1.1.1", "239.1.1.2"), ("239.1.1.1", "::1")] {
            let filter = SourceFilter::Include(vec![source.parse().unwrap()]);
            memberships.join(&Wanted { group: group.parse().unwrap(), filter }).unwrap_err();
        }
        let error = Wanted::range(&"239.255.255.255:1".parse().unwrap(), 2).map(|w| w.len());
        // 240.0.0.0 is no group.
        assert!(error.unwrap_err().what.contains("go beyond"));
        assert!(memberships.is_empty());
        memberships.join(&Wanted { group, filter: SourceFilter::Include(sources(limit)) }).unwrap();
        memberships.join(&Wanted { group, filter: SourceFilter::Exclude(sources(2)) }).unwrap();
        assert_eq!(memberships.len(), 1);
    }
}
