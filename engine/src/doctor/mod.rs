//! Is this machine ready: the facts about it and its interfaces, what is missing, and the command that mends it.
#![forbid(unsafe_code)]

mod findings;
mod line_rate;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use serde::Serialize;

use crate::error::Result;
use crate::host::cpu::{Cpus, format_cpu_list};
use crate::host::interface::{self, Address, Link};
use crate::host::kernel::{self, Kernel};
use crate::host::nic::Nic;
use crate::host::privilege::Privileges;
use crate::host::route;
use crate::host::tuning::Tuning;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is as it should be.
    Ok,
    /// It works, though less well, or not with everything.
    Note,
    /// Something does not work.
    Problem,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Stable name for scripts: `interface-down`, `no-native-xdp`.
    pub code: &'static str,
    /// The interface that it is about; absent: the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// What is the matter, and what it means.
    pub text: String,
    /// The command that mends it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Facts about the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The running kernel.
    pub kernel: Kernel,
    /// What this process may do.
    pub privileges: Privileges,
    /// Backends that the privileges allow.
    pub backends: Vec<&'static str>,
    /// CPUs that this process may use, as a list: `0-3`.
    pub cpus: String,
    /// Isolated CPUs, as a list; empty: none.
    pub isolated_cpus: String,
    /// NUMA nodes.
    pub numa_nodes: usize,
    /// Frequency, idle states, huge pages, command line.
    pub tuning: Tuning,
    /// A socket without `--iface` finds a way to IPv4 groups.
    pub ipv4_multicast_route: bool,
    /// A socket without `--iface` finds a way to IPv6 groups.
    pub ipv6_multicast_route: bool,
}

/// Facts about an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InterfaceFacts {
    /// What the kernel says of it.
    pub link: Link,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// What its driver says.
    pub nic: Nic,
    /// CPUs of the NIC's NUMA node, as a list; absent without a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_cpus: Option<String>,
    /// Reverse-path filter in effect: 0 off, 1 strict, 2 loose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rp_filter: Option<u32>,
}

/// What `examine` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The machine.
    pub machine: Machine,
    /// The interfaces that were examined.
    pub interfaces: Vec<InterfaceFacts>,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// The worst that was found.
    pub fn worst(&self) -> Severity {
        self.findings.iter().map(|f| f.severity).max().unwrap_or(Severity::Ok)
    }
}

/// Examines the machine and the interfaces called so in the calling thread's network namespace; without names, all of them but
/// loopback.
///
/// # Errors
/// Usage when one of the names is no interface; Environment when the kernel cannot be asked.
pub fn examine(interfaces: &[String]) -> Result<Diagnosis> {
    let links = if interfaces.is_empty() {
        interface::list()?.into_iter().filter(|l| !l.loopback).collect()
    } else {
        interfaces.iter().map(|name| interface::link(name)).collect::<Result<Vec<_>>>()?
    };
    let cpus = Cpus::read()?;
    let machine = machine(&cpus);
    let interfaces = links.into_iter().map(|link| facts(link, &cpus)).collect::<Result<Vec<_>>>()?;
    let mut findings = findings::of_machine(&machine, &interfaces);
    findings.extend(interfaces.iter().flat_map(findings::of_interface));
    findings.extend(line_rate::of(&machine, &interfaces));
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    Ok(Diagnosis { machine, interfaces, findings })
}

fn machine(cpus: &Cpus) -> Machine {
    let privileges = Privileges::read();
    let routed = |group: IpAddr| route::route_to(group, None, None).is_ok();
    let nodes = cpus.topology.nodes.values().collect::<std::collections::BTreeSet<_>>().len();
    Machine {
        kernel: Kernel::read(),
        backends: privileges.backends(),
        privileges,
        cpus: format_cpu_list(&cpus.allowed),
        isolated_cpus: format_cpu_list(&cpus.topology.isolated),
        numa_nodes: nodes.max(1),
        tuning: Tuning::read(Path::new("/")),
        ipv4_multicast_route: routed(Ipv4Addr::new(239, 255, 0, 1).into()),
        ipv6_multicast_route: routed(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 1).into()),
    }
}

fn facts(link: Link, cpus: &Cpus) -> Result<InterfaceFacts> {
    let nic = Nic::read(&link);
    let local_cpus = nic.numa_node.map(|node| {
        let local = cpus.topology.nodes.iter().filter(|(_, n)| **n == node).map(|(cpu, _)| *cpu);
        format_cpu_list(&local.collect::<Vec<_>>())
    });
    Ok(InterfaceFacts {
        addresses: interface::addresses(link.index)?,
        rp_filter: kernel::rp_filter(&link.name),
        nic,
        local_cpus,
        link,
    })
}
