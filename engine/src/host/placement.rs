//! Which worker runs on which CPU.
//!
//! A CPU is the better the fewer of these hold, the first weighing most: another worker runs on it; another worker runs on its
//! core; it is on another NUMA node than the NIC; it is not isolated; it serves the queue's interrupt, or another one of the
//! NIC's. Among equals receivers take the lowest numbers and senders the highest, so that on one host they stay
//! out of each other's way as long as there are CPUs enough.
#![forbid(unsafe_code)]

use std::path::Path;

use super::cpu::{Cpus, format_cpu_list};
use super::irq::{Direction, QueueIrq};
use super::nic::Nic;
use crate::error::{Error, Result};

/// What a CPU's place is measured against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// The NIC's NUMA node.
    pub node: Option<u32>,
    /// The interrupts of its queues.
    pub irqs: Vec<QueueIrq>,
}

impl Device {
    /// That of `nic`.
    pub fn of(nic: &Nic) -> Self {
        let irqs = nic.directory.as_deref().map(|d| QueueIrq::read(Path::new("/"), d));
        Self { node: nic.numa_node, irqs: irqs.unwrap_or_default() }
    }
}

/// What is to be placed.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// NIC queue of each worker; `None`: a socket.
    pub queues: &'a [Option<u32>],
    /// What the workers do.
    pub direction: Direction,
    /// CPUs to take, in this order and again from the first; empty: the best.
    pub wanted: &'a [usize],
    /// Rather on the CPU that serves the queue's interrupt than away from it: right for busy polling, where the two take turns.
    pub on_irq_cpu: bool,
}

/// A worker's CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The CPU.
    pub cpu: usize,
    /// Its NUMA node, where the machine has nodes.
    pub numa_node: Option<u32>,
    /// Why this one, in a few words.
    pub why: String,
}

/// A CPU for each worker of `request`.
///
/// # Errors
/// Usage when a wanted CPU does not exist, is offline or is not one that this process may use.
pub fn place(cpus: &Cpus, device: &Device, request: &Request<'_>) -> Result<Vec<Place>> {
    if let Some(error) = request.wanted.iter().find_map(|&cpu| unusable(cpus, cpu)) {
        return Err(error);
    }
    let mut taken: Vec<usize> = Vec::new();
    let mut places = Vec::new();
    for (n, &queue) in request.queues.iter().enumerate() {
        let own = own_irq(device, queue, request.direction);
        let (cpu, why) = if request.wanted.is_empty() {
            let cpu = best(cpus, device, request, own, &taken)
                .ok_or_else(|| Error::environment("this process may use no CPU at all"))?;
            (cpu, reasons(cpus, device, request, own, &taken, cpu))
        } else {
            (request.wanted[n % request.wanted.len()], "asked for".to_owned())
        };
        places.push(Place { cpu, numa_node: cpus.topology.node_of(cpu), why });
        taken.push(cpu);
    }
    Ok(places)
}

/// Why nothing can run on `cpu`, if so.
fn unusable(cpus: &Cpus, cpu: usize) -> Option<Error> {
    let there = &cpus.topology;
    if cpus.allowed.contains(&cpu) {
        return None;
    }
    if !there.present.is_empty() && !there.present.contains(&cpu) {
        let present = format_cpu_list(&there.present);
        return Some(
            Error::usage(format!("CPU {cpu} does not exist: this machine has {present}"))
                .fix(format!("choose from {}", format_cpu_list(&cpus.allowed))),
        );
    }
    if !there.online.is_empty() && !there.online.contains(&cpu) {
        return Some(
            Error::usage(format!("CPU {cpu} is offline"))
                .fix(format!("echo 1 > /sys/devices/system/cpu/cpu{cpu}/online")),
        );
    }
    let mask = format_cpu_list(&cpus.allowed);
    Some(
        Error::usage(format!("CPU {cpu} is not one of those that this process may use, {mask}"))
            .fix(format!("choose from {mask}, or start it with another mask or cpuset (taskset -c)")),
    )
}

fn own_irq(device: &Device, queue: Option<u32>, direction: Direction) -> Option<&QueueIrq> {
    let queue = queue?;
    device.irqs.iter().find(|irq| irq.is_of(queue, direction))
}

fn best(
    cpus: &Cpus,
    device: &Device,
    request: &Request<'_>,
    own: Option<&QueueIrq>,
    taken: &[usize],
) -> Option<usize> {
    let topology = &cpus.topology;
    let elsewhere = |cpu| device.node.is_some_and(|node| topology.node_of(cpu) != Some(node));
    let serves_own = |cpu| own.is_some_and(|irq| irq.cpus.contains(&cpu));
    let disturbed = |cpu: usize| {
        let any = device.irqs.iter().any(|irq| irq.cpus.contains(&cpu));
        u8::from(any) + u8::from(serves_own(cpu))
    };
    cpus.allowed.iter().copied().min_by_key(|&cpu| {
        let on_cpu = taken.iter().filter(|&&t| t == cpu).count();
        let on_core = taken.iter().filter(|&&t| topology.core_of(t) == topology.core_of(cpu)).count();
        let among_equals = match request.direction {
            Direction::Receive => cpu,
            Direction::Transmit => usize::MAX - cpu,
        };
        (
            request.on_irq_cpu && !serves_own(cpu),
            on_cpu,
            on_core,
            elsewhere(cpu),
            !topology.isolated.contains(&cpu),
            if request.on_irq_cpu { 0 } else { disturbed(cpu) },
            among_equals,
        )
    })
}

/// What speaks for `cpu` and against it.
fn reasons(
    cpus: &Cpus,
    device: &Device,
    request: &Request<'_>,
    own: Option<&QueueIrq>,
    taken: &[usize],
    cpu: usize,
) -> String {
    let topology = &cpus.topology;
    let mut parts = Vec::new();
    match (device.node, topology.node_of(cpu)) {
        (Some(wanted), Some(node)) if wanted == node => parts.push(format!("node {node} as the NIC")),
        (Some(wanted), Some(node)) => parts.push(format!("node {node}, not {wanted} as the NIC")),
        _ => {}
    }
    if topology.isolated.contains(&cpu) {
        parts.push("isolated".to_owned());
    }
    match own {
        Some(irq) if irq.cpus.contains(&cpu) => {
            parts.push(format!("serves the queue's interrupt {}", irq.irq))
        }
        Some(irq) if !irq.cpus.is_empty() => {
            let list = format_cpu_list(&irq.cpus);
            parts.push(format!("away from interrupt {} on CPU {list}", irq.irq));
        }
        _ if request.on_irq_cpu => parts.push("the queue's interrupt is not known".to_owned()),
        _ => {}
    }
    if taken.contains(&cpu) {
        parts.push("shared with another worker".to_owned());
    } else if taken.iter().any(|&t| topology.core_of(t) == topology.core_of(cpu)) {
        parts.push("its core is shared with another worker".to_owned());
    }
    if parts.is_empty() {
        let end = if request.direction == Direction::Receive { "first" } else { "last" };
        parts.push(format!("{end} free one of {}", format_cpu_list(&cpus.allowed)));
    }
    parts.join(", ")
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
