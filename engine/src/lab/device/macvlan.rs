//! Members that are macvlan devices in bridge mode on one parent, the device's end of the sender's cable.
//!
//! Nobody listens to reports here: each device has a filter of the group addresses that its host has joined (by a hash of 256 values), and the parent copies a frame
//! to every device whose filter lets it through. Frames for more than one device wait in a queue that a kernel thread works off.
#![forbid(unsafe_code)]

use super::ends::{self, Addresses, Options, flat_number, settle};
use super::{Device, Kind, Running};
use crate::error::{Error, Result};
use crate::lab::{Host, INTERFACE, Netns, ip, new_netns};

/// The parent.
const PARENT: &str = "s0";

/// Frames that may wait for being copied; the kernel's default of 1000 is soon full.
const QUEUE: u32 = 100_000;

pub(super) fn build(members: usize, options: &Options) -> Result<Device> {
    if options.senders > 1 {
        return Err(Error::usage("macvlan: one sender only, at the other end of the parent's cable"));
    }
    let middle = new_netns()?;
    ip::configure(&middle, "link set lo up\n")?;
    let (senders, members, stranger) = ends::hosts(members, 1, |port, n| {
        let addresses = Addresses::flat(flat_number(n, 1));
        if port == PARENT { ends::attach(&middle, port, addresses) } else { child(&middle, addresses) }
    })?;
    let device =
        Device { kind: Kind::Macvlan, senders, middle, members, stranger, running: Running::Macvlan };
    ip::offload(&device.middle, PARENT, "gro", true)?;
    let hosts: Vec<&Host> = device.hosts().collect();
    ends::introduce(&hosts)?;
    hosts.iter().try_for_each(|host| ip::wait_for_group_route(&host.netns, INTERFACE))?;
    drop(hosts);
    Ok(device)
}

fn child(middle: &Netns, addresses: Addresses) -> Result<Host> {
    let netns = new_netns()?;
    ip::add_in(
        middle,
        &format!("link add link {PARENT} name {INTERFACE}"),
        &netns,
        &format!("type macvlan mode bridge bcqueuelen {QUEUE}"),
    )?;
    settle(netns, addresses, PARENT)
}
