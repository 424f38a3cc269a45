//! A private network to measure in: sender – middle – receivers, each a network namespace of its own.
//!
//! ```text
//!  sender                    middle                     receiver 1
//!  ┌───────────┐   veth   ┌─────────────────┐   veth   ┌───────────┐
//!  │ wr0  .1   ├──────────┤ s0   br0     r1 ├──────────┤ wr0  .11  │
//!  └───────────┘          │              r2 ├─┐        └───────────┘
//!                         └─────────────────┘ │         receiver 2
//!                                             │        ┌───────────┐
//!                                             └────────┤ wr0  .12  │
//!                                                      └───────────┘
//! ```
//!
//! The middle is a bridge with IGMPv3 and MLDv2 snooping and a querier, and has no XDP program on its ports: there
//! tcpdump, nftables and the port counters see every packet. Other middles, each a device that copies multicast in its own way, are in [`device`].
//! The namespaces have no names and end with the process.
//! Everything is set up with iproute2's `ip`.
#![forbid(unsafe_code)]

pub mod demo;
pub mod device;
mod ip;
mod places;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use crate::error::{Error, Result};
pub use crate::sys::netns::{Netns, become_root_in_user_namespace};

/// The interface in the sender's and the receivers' namespaces.
pub const INTERFACE: &str = "wr0";

/// The bridge in the middle.
const BRIDGE: &str = "br0";

/// One end of the lab.
#[derive(Debug)]
pub struct Host {
    /// Its namespace.
    pub netns: Netns,
    /// Address of [`INTERFACE`].
    pub ipv4: Ipv4Addr,
    /// Address of [`INTERFACE`].
    pub ipv6: Ipv6Addr,
    /// The middle's interface that it is connected to.
    pub port: String,
}

impl Host {
    /// Its address of the same family as `like`.
    pub fn address(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() { self.ipv4.into() } else { self.ipv6.into() }
    }

    /// A command that runs in its namespace; see [`Netns::command`].
    pub fn command(&self, program: &str) -> Command {
        self.netns.command(program)
    }
}

/// The lab; dropping it removes everything once the processes in it have ended.
#[derive(Debug)]
pub struct Lab {
    /// Where packets start.
    pub sender: Host,
    /// Where the witnesses are.
    pub middle: Netns,
    /// Where packets end.
    pub receivers: Vec<Host>,
}

impl Lab {
    /// All ends, the sender first.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        std::iter::once(&self.sender).chain(&self.receivers)
    }

    /// Waits until the bridge forwards `group` to `ports` ports: a kernel that has joined says so a moment later.
    ///
    /// # Errors
    /// When it does not within 12 s, or cannot be asked.
    pub fn wait_for_members(&self, group: IpAddr, ports: usize) -> Result<()> {
        ip::wait_for_members(&self.middle, group, ports)
    }
}

fn new_netns() -> Result<Netns> {
    let netns = Netns::new().map_err(|e| {
        Error::environment("cannot make a network namespace").because(e).fix("run as root (CAP_SYS_ADMIN)")
    })?;
    // Duplicate address detection would keep IPv6 addresses unusable for a second or two.
    netns.run(|| {
        for scope in ["all", "default"] {
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0");
        }
    });
    Ok(netns)
}
