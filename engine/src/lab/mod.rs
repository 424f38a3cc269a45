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
//! tcpdump, nftables and the port counters see every packet. The namespaces have no names and end with the process.
//! Everything is set up with iproute2's `ip`.
#![forbid(unsafe_code)]

pub mod demo;
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
    /// A bridge between one sender and `receivers` receivers.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN and CAP_NET_ADMIN, without `ip`, or when the kernel lacks veth or bridges.
    pub fn bridge(receivers: u8) -> Result<Self> {
        let middle = new_netns()?;
        ip::configure(
            &middle,
            // IGMPv3 and MLDv2: members of the versions before keep silent when they hear another's report, and the
            // bridge, which passes reports on as long as it is new, would not learn of them for seconds.
            "link add br0 type bridge mcast_snooping 1 mcast_querier 1 mcast_startup_query_interval 20 \
               mcast_igmp_version 3 mcast_mld_version 2\n\
             link set lo up\n\
             link set br0 up\n",
        )?;
        let sender = attach(&middle, "s0", 1)?;
        let receivers =
            (1..=receivers).map(|n| attach(&middle, &format!("r{n}"), 10 + n)).collect::<Result<_>>()?;
        let lab = Self { sender, middle, receivers };
        lab.introduce()?;
        lab.hosts().try_for_each(|host| ip::wait_for_port(&lab.middle, &host.port))?;
        lab.hosts().try_for_each(|host| ip::wait_for_group_route(&host.netns, INTERFACE))?;
        Ok(lab)
    }

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

    /// Tells every host its neighbours' hardware addresses, so that the first packets of a test do not wait for ARP.
    fn introduce(&self) -> Result<()> {
        let macs = self.hosts().map(|h| ip::mac_of(&h.netns, INTERFACE)).collect::<Result<Vec<_>>>()?;
        for host in self.hosts() {
            let mut script = String::new();
            for (other, mac) in self.hosts().zip(&macs).filter(|(other, _)| other.ipv4 != host.ipv4) {
                for address in [IpAddr::from(other.ipv4), other.ipv6.into()] {
                    script +=
                        &format!("neigh replace {address} lladdr {mac} dev {INTERFACE} nud permanent\n");
                }
            }
            ip::configure(&host.netns, &script)?;
        }
        Ok(())
    }
}

/// Makes a host with the number `n` in its addresses and connects it to the bridge by `port`.
fn attach(middle: &Netns, port: &str, n: u8) -> Result<Host> {
    let netns = new_netns()?;
    let ipv4 = Ipv4Addr::new(10, 77, 0, n);
    let ipv6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(n));
    ip::connect(middle, port, &netns, INTERFACE)?;
    ip::configure(middle, &format!("link set {port} master br0 up\n"))?;
    ip::configure(
        &netns,
        &format!(
            "link set lo up\n\
             address add {ipv4}/24 dev {INTERFACE}\n\
             address add {ipv6}/64 dev {INTERFACE} nodad\n\
             link set {INTERFACE} up\n\
             route add 224.0.0.0/4 dev {INTERFACE}\n"
        ),
    )?;
    Ok(Host { netns, ipv4, ipv6, port: port.to_owned() })
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
