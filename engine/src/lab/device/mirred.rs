//! `tc` as a replicator: for each group a filter at the sender's port mirrors frames to its members' ports (tc-mirred(8), tc-u32(8)).
//!
//! The ports are those of a bridge, which carries unicast, ARP and reports and floods no groups; the filters come before it. A frame's last copy is a redirection,
//! so that it goes no further.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use super::ends::{self, Options, flat_number, interfaces};
use super::{Device, Kind, Running, bridge};
use crate::error::{Error, Result};
use crate::lab::{BRIDGE, Netns, ip};
use crate::multicast::snoop::Entry;
use crate::replicator::plane::Plane;
use crate::replicator::{Control, Membership};

/// Filters with a source come before those without.
const WITH_SOURCE: u16 = 1;
const WITHOUT_SOURCE: u16 = 0x8000;

pub(super) fn build(members: usize, options: &Options) -> Result<Device> {
    let middle = unsnooped()?;
    let (senders, members, stranger) = ends::hosts(members, options.senders, |port, n| {
        bridge::attach(&middle, port, flat_number(n, options.senders))
    })?;
    let hosts: Vec<_> = senders.iter().chain(&members).chain([&stranger]).collect();
    bridge::ready(&middle, &hosts)?;
    dry(&middle, hosts.iter().map(|host| host.port.as_str()))?;
    drop(hosts);
    for host in &senders {
        ip::offload(&middle, &host.port, "gro", true)?;
        ip::tc(&middle, &format!("qdisc add dev {} clsact\n", host.port))?;
    }
    let receivers: Vec<String> = members.iter().chain([&stranger]).map(|host| host.port.clone()).collect();
    let plane = Mirrors {
        middle: middle
            .try_clone()
            .map_err(|e| Error::environment("mirred: another handle to its namespace").because(e))?,
        senders: senders.iter().map(|host| host.port.clone()).collect(),
        receivers: receivers.clone(),
        filters: BTreeMap::new(),
        priorities: BTreeSet::new(),
    };
    let ports = interfaces(&middle, receivers.iter().map(String::as_str))?;
    let membership = Membership { interval: options.query_interval, ..Membership::default() };
    let control = middle.run(|| Control::start(&ports, membership, plane))?;
    let running = Running::Control(control);
    Ok(Device { kind: Kind::Mirred, senders, middle, members, stranger, running })
}

/// A bridge that does not look into reports.
pub(super) fn unsnooped() -> Result<Netns> {
    bridge::middle("mcast_snooping 0")
}

/// Has the bridge send no groups to these ports.
pub(super) fn dry<'a>(middle: &Netns, ports: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let mut script = String::new();
    for port in ports {
        let _ = writeln!(script, "link set {port} type bridge_slave mcast_flood off");
    }
    // The bridge itself is no receiver of groups.
    let _ = writeln!(script, "link set {BRIDGE} allmulticast off");
    ip::configure(middle, &script)
}

/// The filters of all groups.
struct Mirrors {
    middle: Netns,
    senders: Vec<String>,
    receivers: Vec<String>,
    /// Preference of the filter of each group and source.
    filters: BTreeMap<(IpAddr, Option<IpAddr>), u16>,
    priorities: BTreeSet<u16>,
}

impl Mirrors {
    fn free_priority(&mut self, source: bool) -> Result<u16> {
        let range = if source { WITH_SOURCE..WITHOUT_SOURCE } else { WITHOUT_SOURCE..u16::MAX };
        let free = range.into_iter().find(|priority| !self.priorities.contains(priority));
        let priority = free.ok_or_else(|| Error::failed("tc: no preference is left for another group"))?;
        self.priorities.insert(priority);
        Ok(priority)
    }
}

impl Plane for Mirrors {
    fn forward(&mut self, group: IpAddr, entries: &[Entry]) -> Result<()> {
        let old: Vec<_> =
            self.filters.iter().filter(|((g, _), _)| *g == group).map(|(key, at)| (*key, *at)).collect();
        let protocol = if group.is_ipv4() { "ip" } else { "ipv6" };
        let mut script = String::new();
        let mut new = Vec::new();
        // The new ones first: no frame finds neither, and none finds both, as the first that matches ends the search.
        for entry in entries.iter().filter(|entry| entry.source.is_some() || !entry.ports.is_empty()) {
            let priority = self.free_priority(entry.source.is_some())?;
            new.push(((group, entry.source), priority));
            for sender in &self.senders {
                let _ = write!(
                    script,
                    "filter add dev {sender} ingress protocol {protocol} pref {priority} u32 {}",
                    selector(group, entry.source)
                );
                if entry.ports.is_empty() {
                    // It goes on to the bridge, which floods no groups.
                    script.push_str(" flowid 1:1");
                }
                let last = entry.ports.last().copied();
                for &port in &entry.ports {
                    let (verb, then) =
                        if Some(port) == last { ("redirect", "") } else { ("mirror", " pipe") };
                    let _ = write!(
                        script,
                        " action mirred egress {verb} dev {}{then}",
                        self.receivers.get(port).map_or("", String::as_str)
                    );
                }
                script.push('\n');
            }
        }
        for (_, priority) in &old {
            for sender in &self.senders {
                let _ = writeln!(
                    script,
                    "filter del dev {sender} ingress protocol {protocol} pref {priority} u32"
                );
            }
        }
        ip::tc(&self.middle, &script)?;
        for (key, priority) in old {
            self.filters.remove(&key);
            self.priorities.remove(&priority);
        }
        self.filters.extend(new);
        Ok(())
    }
}

/// What a filter looks for.
fn selector(group: IpAddr, source: Option<IpAddr>) -> String {
    let (word, length) = if group.is_ipv4() { ("ip", 32) } else { ("ip6", 128) };
    let mut text = format!("match {word} dst {group}/{length}");
    if let Some(source) = source {
        let _ = write!(text, " match {word} src {source}/{length}");
    }
    text
}
