//! A multicast router: the kernel's forwarding cache, with an entry for every source and group that members have reported. Each host is in a subnet of its own,
//! TTL is decremented, and a threshold keeps what has come far from leaving.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use super::ends::{Options, interfaces};
use super::routed::Routed;
use super::{Device, Kind, Running};
use crate::error::{Error, Result};
use crate::multicast::snoop::{Entry, Table};
use crate::replicator::plane::Plane;
use crate::replicator::{Control, Membership};
use crate::sys::mroute::{INTERFACES, MulticastRouter, NEVER, Unknown};

/// Sources without a member that are kept, so that the kernel does not ask for each of their packets.
const MOST_SOURCES: usize = 4096;

pub(super) fn build(members: usize, options: &Options) -> Result<Device> {
    let routed = Routed::new(members, options)?;
    let ports = interfaces(&routed.middle, routed.receivers().map(|host| host.port.as_str()))?;
    let Routed { middle, senders, members, stranger } = routed;
    let sending = interfaces(&middle, senders.iter().map(|host| host.port.as_str()))?;
    let refused = |what: &str, e| {
        Error::environment(format!("router: {what}"))
            .because(e)
            .fix("a kernel with CONFIG_IP_MROUTE and CONFIG_IPV6_MROUTE, as root")
    };
    let control = middle.run(|| {
        let mut kernels = Vec::new();
        for ipv6 in [false, true] {
            let kernel =
                MulticastRouter::new(ipv6).map_err(|e| refused("cannot become the multicast router", e))?;
            // The control loop's ports have the same numbers here.
            for (number, port) in (0u16..).zip(ports.iter().chain(&sending)) {
                let threshold = if usize::from(number) < ports.len() { options.threshold } else { 0 };
                kernel
                    .add_interface(number, port.index, threshold)
                    .map_err(|e| refused(&format!("{}: not an interface for it", port.name), e))?;
            }
            kernels.push(kernel);
        }
        let [v4, v6] = <[_; 2]>::try_from(kernels).expect("two");
        // They are on the sender's link, so that the first packets need not wait for a question.
        let known = (0u16..).zip(&senders).flat_map(|(n, host)| {
            let parent = ports.len() as u16 + n;
            [(IpAddr::from(host.ipv4), parent), (host.ipv6.into(), parent)]
        });
        let plane = Cache {
            kernels: (v4, v6),
            threshold: options.threshold.max(1),
            known: known.collect(),
            entries: BTreeMap::new(),
        };
        let membership = Membership { interval: options.query_interval, ..Membership::default() };
        Control::start(&ports, membership, plane)
    })?;
    let running = Running::Control(control);
    Ok(Device { kind: Kind::Router, senders, middle, members, stranger, running })
}

/// The kernel's entries.
struct Cache {
    kernels: (MulticastRouter, MulticastRouter),
    threshold: u8,
    /// Senders, and the interfaces that they are behind.
    known: BTreeMap<IpAddr, u16>,
    /// Entries by group and source, with the interface that the source is behind.
    entries: BTreeMap<(IpAddr, IpAddr), u16>,
}

impl Cache {
    fn kernel(&self, group: IpAddr) -> &MulticastRouter {
        if group.is_ipv4() { &self.kernels.0 } else { &self.kernels.1 }
    }

    fn set(&mut self, source: IpAddr, group: IpAddr, parent: u16, entries: &[Entry]) -> Result<()> {
        let failed = |e| Error::failed(format!("router: entry ({source}, {group})")).because(e);
        let entry = entries.iter().find(|entry| entry.source == Some(source)).or(entries.last());
        let mut thresholds = [NEVER; INTERFACES];
        for &port in entry.iter().flat_map(|entry| &entry.ports) {
            if let Some(threshold) = thresholds.get_mut(port) {
                *threshold = self.threshold;
            }
        }
        self.kernel(group).set_entry(source, group, parent, thresholds).map_err(failed)?;
        self.entries.insert((group, source), parent);
        Ok(())
    }
}

impl Plane for Cache {
    fn forward(&mut self, group: IpAddr, entries: &[Entry]) -> Result<()> {
        let mut sources: BTreeMap<IpAddr, u16> = self
            .known
            .iter()
            .filter(|(s, _)| s.is_ipv4() == group.is_ipv4())
            .map(|(s, p)| (*s, *p))
            .collect();
        sources.extend(
            self.entries
                .iter()
                .filter(|((g, _), _)| *g == group)
                .map(|((_, source), parent)| (*source, *parent)),
        );
        for (source, parent) in sources {
            self.set(source, group, parent, entries)?;
        }
        Ok(())
    }

    fn wakes(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.kernels.0.as_fd(), self.kernels.1.as_fd()]
    }

    fn look(&mut self, table: &Table) -> Result<()> {
        for ipv6 in [false, true] {
            let kernel = if ipv6 { &self.kernels.1 } else { &self.kernels.0 };
            let mut asked: Vec<Unknown> = Vec::new();
            while let Ok(Some(unknown)) = kernel.unknown() {
                asked.push(unknown);
            }
            for Unknown { interface, source, group } in asked {
                if self.entries.len() < MOST_SOURCES {
                    self.set(source, group, interface, &table.entries(group))?;
                }
            }
        }
        Ok(())
    }
}
