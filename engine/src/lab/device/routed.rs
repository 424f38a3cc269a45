//! Hosts around a router, each in a subnet of its own.
#![forbid(unsafe_code)]

use super::ends::{self, Addresses, Options};
use crate::error::{Error, Result};
use crate::lab::{Host, INTERFACE, Netns, ip, new_netns};

/// TTL of a sender's packets so that members get them: the router takes one off.
pub(super) const FEWEST_HOPS: u8 = 2;

/// A namespace that forwards, and the hosts around it. Who copies multicast is still missing.
pub(super) struct Routed {
    pub middle: Netns,
    pub senders: Vec<Host>,
    pub members: Vec<Host>,
    pub stranger: Host,
}

impl Routed {
    pub(super) fn new(members: usize, options: &Options) -> Result<Self> {
        let middle = new_netns()?;
        ip::configure(&middle, "link set lo up\n")?;
        middle.run(|| {
            for path in ["ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{path}"), "1").map_err(|e| {
                    Error::environment(format!("cannot set /proc/sys/net/{path}: a router forwards"))
                        .because(e)
                })?;
            }
            Ok(())
        })?;
        let (senders, members, stranger) = ends::hosts(members, options.senders, |port, n| {
            let host = ends::attach(&middle, port, Addresses::routed(n))?;
            let (v4, v6) = Addresses::routed(n).router.unwrap_or((host.ipv4, host.ipv6));
            ip::configure(
                &middle,
                &format!("address add {v4}/24 dev {port}\naddress add {v6}/64 dev {port} nodad\n"),
            )?;
            Ok(host)
        })?;
        for host in &senders {
            ip::offload(&middle, &host.port, "gro", true)?;
        }
        let routed = Self { middle, senders, members, stranger };
        for host in routed.senders.iter().chain(routed.receivers()) {
            introduce(&routed.middle, host)?;
            ip::wait_for_group_route(&host.netns, INTERFACE)?;
            ip::wait_for_group_route(&routed.middle, &host.port)?;
        }
        Ok(routed)
    }

    /// Members, then the stranger.
    pub(super) fn receivers(&self) -> impl Iterator<Item = &Host> {
        self.members.iter().chain(std::iter::once(&self.stranger))
    }
}

/// Router and host need not ask for each other's hardware addresses.
fn introduce(middle: &Netns, host: &Host) -> Result<()> {
    let port = &host.port;
    let router = ip::mac_of(middle, port)?;
    let own = ip::mac_of(&host.netns, INTERFACE)?;
    let (v4, v6) = (host.ipv4, host.ipv6);
    let subnet = host.ipv4.octets()[2];
    let Some((gate4, gate6)) = Addresses::routed(subnet).router else { return Ok(()) };
    ip::configure(
        middle,
        &format!(
            "neigh replace {v4} lladdr {own} dev {port} nud permanent\n\
             neigh replace {v6} lladdr {own} dev {port} nud permanent\n"
        ),
    )?;
    ip::configure(
        &host.netns,
        &format!(
            "neigh replace {gate4} lladdr {router} dev {INTERFACE} nud permanent\n\
             neigh replace {gate6} lladdr {router} dev {INTERFACE} nud permanent\n"
        ),
    )
}
