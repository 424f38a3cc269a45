//! Our own replicator between the hosts. The ports are those of a bridge, which carries unicast, ARP and neighbour discovery and floods no groups.
#![forbid(unsafe_code)]

use super::ends::{self, Options, flat_number};
use super::mirred::{dry, unsnooped};
use super::{Device, Kind, Running, bridge};
use crate::error::Result;
use crate::lab::{INTERFACE, ip};
use crate::replicator::{By, Config, Membership, Replicator};

pub(super) fn build(kind: Kind, members: usize, options: &Options) -> Result<Device> {
    let by = match kind {
        Kind::Afxdp => By::Afxdp,
        Kind::Socket => By::Socket,
        _ => By::Xdp,
    };
    let middle = unsnooped()?;
    let (senders, members, stranger) = ends::hosts(members, options.senders, |port, n| {
        bridge::attach(&middle, port, flat_number(n, options.senders))
    })?;
    let receivers: Vec<_> = members.iter().chain([&stranger]).collect();
    let hosts: Vec<_> = senders.iter().chain(receivers.iter().copied()).collect();
    bridge::ready(&middle, &hosts)?;
    dry(&middle, hosts.iter().map(|host| host.port.as_str()))?;
    for host in &senders {
        ip::offload(&middle, &host.port, "gro", true)?;
        if by != By::Socket {
            // What XDP hands on leaves with the checksum that it came with, and a kernel sender leaves that to its interface.
            ip::offload(&host.netns, INTERFACE, "tx", false)?;
        }
    }
    if by == By::Xdp {
        // A veth takes a redirected frame only while its other end has GRO or a native XDP program.
        receivers.iter().try_for_each(|host| ip::offload(&host.netns, INTERFACE, "gro", true))?;
    }
    let config = Config {
        from: senders.iter().map(|host| host.port.clone()).collect(),
        to: receivers.iter().map(|host| host.port.clone()).collect(),
        by,
        membership: Membership { interval: options.query_interval, ..Membership::default() },
        duration: None,
    };
    let replicator = middle.run(|| Replicator::start(&config))?;
    let running = Running::Replicator(replicator);
    Ok(Device { kind, senders, middle, members, stranger, running })
}
