//! What keeps a machine with a fast NIC from line rate: the points of docs/line-rate.md that software can look at, in its order
//! and with its names. Nothing is said of a machine whose NICs are all virtual.
#![forbid(unsafe_code)]

use super::findings::Findings;
use super::{Finding, InterfaceFacts, Machine, Severity};
use crate::host::cpu::parse_cpu_list;

/// Idle states that take longer to leave than this are seen as latency, in µs: 10 Gbit/s bring 30 small frames in 2 µs.
const SHALLOW_US: u32 = 10;

/// A link from this speed on is worth the trouble.
const FAST_BPS: u64 = 10_000_000_000;

/// Frames of several AF_XDP queues lie in huge pages: 2048 of 4 KiB fill four of 2 MiB.
const HUGE_BYTES: u64 = 8 << 20;

/// What is to be said of all of them.
pub(super) fn of(machine: &Machine, interfaces: &[InterfaceFacts]) -> Vec<Finding> {
    let fast = interfaces.iter().filter(|i| is_fast(i)).collect::<Vec<_>>();
    if fast.is_empty() {
        return Vec::new();
    }
    let mut found = Findings { interface: None, list: Vec::new() };
    cpus(machine, &mut found);
    memory(machine, &mut found);
    for facts in fast {
        found.interface = Some(facts.link.name.clone());
        pcie(facts, &mut found);
        rings(facts, &mut found);
        queues(machine, facts, &mut found);
        interrupts(machine, facts, &mut found);
        link(facts, &mut found);
    }
    found.list
}

/// A NIC on a bus with a link worth the trouble; one without carrier tells no speed.
fn is_fast(facts: &InterfaceFacts) -> bool {
    facts.nic.pcie.is_some() && facts.nic.speed_bps.is_none_or(|bps| bps >= FAST_BPS)
}

fn cpus(machine: &Machine, found: &mut Findings) {
    let tuning = &machine.tuning;
    let slow = tuning.governors.iter().filter(|(name, _)| *name != "performance");
    for (governor, cpus) in slow {
        found.fixed_by(
            Severity::Note,
            "governor",
            format!(
                "CPUs {cpus} run under the frequency governor {governor}: their speed follows the load, late"
            ),
            "sudo cpupower frequency-set -g performance",
        );
    }
    if let Some(us) = tuning.deepest_idle_us.filter(|&us| us > SHALLOW_US) {
        found.fixed_by(
            Severity::Note,
            "deep-idle",
            format!("idle CPUs take up to {us} µs to wake: seen as latency, and as lost packets where rings are small"),
            format!("sudo cpupower idle-set -D {SHALLOW_US}"),
        );
    }
    let isolated = parse_cpu_list(&machine.isolated_cpus).unwrap_or_default();
    let ticking = parse_cpu_list(&tuning.nohz_full_cpus).unwrap_or_default();
    if isolated.iter().any(|cpu| !ticking.contains(cpu)) {
        found.add(
            Severity::Note,
            "timer-tick",
            format!(
                "the timer ticks on isolated CPUs: boot with nohz_full={0} rcu_nocbs={0} beside isolcpus={0}",
                machine.isolated_cpus
            ),
        );
    }
    let siblings = parse_cpu_list(&tuning.sibling_cpus).unwrap_or_default();
    if isolated.iter().any(|cpu| siblings.contains(cpu)) {
        found.add(
            Severity::Note,
            "isolated-siblings",
            format!(
                "hyper-threads of one core are among the isolated CPUs {}: two workers there share one core's speed",
                machine.isolated_cpus
            ),
        );
    }
}

fn memory(machine: &Machine, found: &mut Findings) {
    if let Some(pages) =
        machine.tuning.huge_pages.filter(|p| p.free.saturating_mul(p.size_bytes) < HUGE_BYTES)
    {
        let want = pages.total + HUGE_BYTES.div_ceil(pages.size_bytes.max(1)) * 4;
        found.fixed_by(
            Severity::Note,
            "no-huge-pages",
            format!(
                "{} huge pages are free: AF_XDP frames lie in small pages, and the CPU looks up more of them",
                pages.free
            ),
            format!("sudo sysctl -w vm.nr_hugepages={want}"),
        );
    }
    if machine.tuning.iommu_translates == Some(true) {
        found.add(
            Severity::Note,
            "iommu",
            "the IOMMU translates every address that the NIC uses: boot with iommu=pt where that is acceptable",
        );
    }
}

fn pcie(facts: &InterfaceFacts, found: &mut Findings) {
    let Some(link) = facts.nic.pcie else { return };
    if let Some(speed) = facts.nic.speed_bps.filter(|&bps| bps > link.usable_bps()) {
        found.add(
            Severity::Problem,
            "pcie-too-small",
            format!(
                "PCIe of {} GT/s × {} carries about {} Gbit/s, less than the link's {}: use another slot",
                link.speed_gtps,
                link.width,
                link.usable_bps() / 1_000_000_000,
                speed / 1_000_000_000
            ),
        );
    } else if link.width < link.max_width || link.speed_gtps < link.max_speed_gtps {
        found.add(
            Severity::Note,
            "pcie-below-card",
            format!(
                "the slot gives {} GT/s × {} of the card's {} GT/s × {}: enough for this link, not for all of its ports",
                link.speed_gtps, link.width, link.max_speed_gtps, link.max_width
            ),
        );
    }
}

fn rings(facts: &InterfaceFacts, found: &mut Findings) {
    let Some(rings) = facts.nic.rings.filter(|r| r.rx < r.max_rx || r.tx < r.max_tx) else { return };
    found.fixed_by(
        Severity::Note,
        "small-rings",
        format!(
            "rings of {} (receive) and {} (transmit) of possible {} and {}: larger ones survive longer pauses",
            rings.rx, rings.tx, rings.max_rx, rings.max_tx
        ),
        format!("sudo ethtool -G {} rx {} tx {}", facts.link.name, rings.max_rx, rings.max_tx),
    );
}

fn queues(machine: &Machine, facts: &InterfaceFacts, found: &mut Findings) {
    let list = facts.local_cpus.as_ref().unwrap_or(&machine.cpus);
    let local = parse_cpu_list(list).map_or(0, |cpus| cpus.len());
    let queues = facts.nic.queues;
    if local > 0 && queues.rx as usize > local {
        found.fixed_by(
            Severity::Note,
            "more-queues-than-cpus",
            format!("{} receive queues for the {local} CPUs {list}: workers would share CPUs", queues.rx),
            format!("sudo ethtool -L {} combined {local}", facts.link.name),
        );
    }
}

fn interrupts(machine: &Machine, facts: &InterfaceFacts, found: &mut Findings) {
    let isolated = parse_cpu_list(&machine.isolated_cpus).unwrap_or_default();
    let on_isolated =
        |cpus: &str| parse_cpu_list(cpus).is_ok_and(|c| c.iter().any(|cpu| isolated.contains(cpu)));
    let taken =
        facts.nic.interrupts.iter().filter(|i| on_isolated(&i.cpus)).map(|i| i.irq).collect::<Vec<_>>();
    if let Some(first) = taken.first() {
        found.fixed_by(
            Severity::Note,
            "interrupts-on-isolated",
            format!(
                "{} of its interrupts go to isolated CPUs ({}): without busy polling they interrupt the workers there",
                taken.len(),
                machine.isolated_cpus
            ),
            format!("for each of them: echo CPU | sudo tee /proc/irq/{first}/smp_affinity_list, or use --busy-poll"),
        );
    }
    if facts.nic.napi.is_some_and(|n| n.defer_hard_irqs == 0 || n.gro_flush_timeout_ns == 0) {
        let name = &facts.link.name;
        found.fixed_by(
            Severity::Note,
            "busy-poll-off",
            "interrupts come back after every poll: --busy-poll gains little",
            format!(
                "echo 2 | sudo tee /sys/class/net/{name}/napi_defer_hard_irqs; \
                 echo 200000 | sudo tee /sys/class/net/{name}/gro_flush_timeout"
            ),
        );
    }
}

fn link(facts: &InterfaceFacts, found: &mut Findings) {
    if facts.nic.pause.is_some_and(|p| p.rx || p.tx) {
        found.fixed_by(
            Severity::Note,
            "pause-frames",
            "pause frames are on: a slow receiver stops the sender, and what was to be measured as loss is seen as a lower rate",
            format!("sudo ethtool -A {} autoneg off rx off tx off", facts.link.name),
        );
    }
}

#[cfg(test)]
mod tests;
