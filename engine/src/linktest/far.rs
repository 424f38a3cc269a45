//! The other end: an agent, its interface, and a link test without traffic there, by which its counters are compared.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::report;
use super::select::Chosen;
use crate::agent::protocol::Interface;
use crate::agent::{Agent, Launch, Task};
use crate::error::{Error, Result};
use crate::host::health::{self, Limits, Snapshot};

/// How long an agent may take to answer what takes no time, and a driver to tell all its counters.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// The other end.
#[derive(Debug)]
pub(super) struct Far {
    /// The agent there.
    pub agent: Agent,
    /// Name of the interface there.
    pub interface: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    watch: Option<Task>,
}

impl Far {
    /// Starts the agent and finds its interface: the one called `named`; otherwise the one with an address in a network of `near`.
    pub fn reach(command: &str, named: Option<&str>, near: &Chosen, target: Option<IpAddr>) -> Result<Self> {
        let agent = Launch::new("far").command_line(command)?;
        let found = find(&agent.hello().interfaces, named, near, target)?;
        let addresses = addresses(found).map(|(ip, _)| ip).collect();
        let interface = found.name.clone();
        Ok(Self { agent, interface, addresses, watch: None })
    }

    /// Its address of the same family as `like`.
    pub fn address(&self, like: IpAddr) -> Option<IpAddr> {
        let local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        self.addresses.iter().copied().find(|ip| ip.is_ipv4() == like.is_ipv4() && !local(ip))
    }

    /// Has the counters there read.
    pub fn watch(&mut self) -> Result<()> {
        // It is stopped when the test is over.
        let words = ["linktest", "--iface", &self.interface, "--duration", "365d"];
        let task = self.agent.start(&words)?;
        self.agent.ready(task, ANSWER)?;
        self.watch = Some(task);
        Ok(())
    }

    /// Has them read again, and judges by `limits` what moved.
    pub fn judge(&mut self, limits: &Limits) -> Result<report::Far> {
        let mut told = report::Far {
            host: self.agent.hello().host.clone(),
            interface: self.interface.clone(),
            ptp_heard: None,
            before: None,
            after: None,
            findings: Vec::new(),
        };
        let Some(task) = self.watch.take() else { return Ok(told) };
        self.agent.stop(task)?;
        let mut said = self.agent.report(task, ANSWER)?;
        let mut snapshot = |name: &str| -> Result<Snapshot> {
            serde_json::from_value(said[name].take()).map_err(|e| {
                Error::failed(format!("far: its report has no counters that can be read: {e}"))
                    .fix("install the same version at both ends")
            })
        };
        let (before, after) = (snapshot("before")?, snapshot("after")?);
        told.findings = health::compare(&before, &after, limits);
        (told.before, told.after) = (Some(before), Some(after));
        Ok(told)
    }

    /// Messages of PTP that a link test there heard from this clock.
    pub fn ptp_heard(said: &Value, clock: &str) -> u64 {
        let sources = said["ptp"]["sources"].as_array().map_or(&[][..], Vec::as_slice);
        sources.iter().filter(|s| s["clock"] == clock).filter_map(|s| s["messages"].as_u64()).sum()
    }
}

fn addresses(interface: &Interface) -> impl Iterator<Item = (IpAddr, u8)> {
    interface.addresses.iter().filter_map(|text| {
        let (ip, prefix) = text.split_once('/')?;
        Some((ip.parse().ok()?, prefix.parse().ok()?))
    })
}

fn find<'a>(
    interfaces: &'a [Interface],
    named: Option<&str>,
    near: &Chosen,
    target: Option<IpAddr>,
) -> Result<&'a Interface> {
    let has = |interface: &&Interface, wanted: &dyn Fn(IpAddr) -> bool| {
        addresses(interface).any(|(ip, _)| wanted(ip))
    };
    let found = match named {
        Some(name) => interfaces.iter().find(|i| i.name == name),
        None => target
            .filter(|ip| !ip.is_multicast())
            .and_then(|ip| interfaces.iter().find(|i| has(i, &|theirs| theirs == ip)))
            .or_else(|| {
                let neighbour = |theirs: IpAddr| {
                    near.addresses
                        .iter()
                        .any(|(ours, prefix)| *ours != theirs && in_one_network(*ours, theirs, *prefix))
                };
                interfaces.iter().find(|i| has(i, &neighbour))
            }),
    };
    found.ok_or_else(|| {
        let there: Vec<_> =
            interfaces.iter().map(|i| format!("{} ({})", i.name, i.addresses.join(" "))).collect();
        let what = match named {
            Some(name) => format!("far: there is no interface {name}"),
            None => format!("far: no interface has an address in a network of {}", near.link.name),
        };
        Error::usage(what).fix(format!("name one by --far-iface: {}", there.join(", ")))
    })
}

/// Whether two addresses are in one network; those of the link itself are in every one.
fn in_one_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix.into())).unwrap_or(0);
            a.to_bits() & mask == b.to_bits() & mask
        }
        (IpAddr::V6(a), IpAddr::V6(b)) if !a.is_unicast_link_local() => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(prefix.into())).unwrap_or(0);
            a.to_bits() & mask == b.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (a, b, prefix, same) in [
            ("10.0.0.1", "10.0.0.200", 24, true),
            ("10.0.0.1", "10.0.1.1", 24, false),
            ("10.0.0.1", "192.0.2.1", 0, true),
            ("fd99::1", "fd99::2", 64, true),
            ("fd99::1", "fd98::2", 64, false),
            ("fe80::1", "fe80::2", 64, false),
            ("10.0.0.1", "fd99::2", 0, false),
        ] {
            assert_eq!(in_one_network(a.parse().unwrap(), b.parse().unwrap(), prefix), same, "{a} {b}");
        }
    }
}
