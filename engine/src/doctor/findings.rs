//! From facts to findings: pure rules, so that each can be tried on a machine that does not exist.
#![forbid(unsafe_code)]

use super::{Finding, InterfaceFacts, Machine, Severity};
use crate::host::cpu::parse_cpu_list;
use crate::host::privilege::{Capability, Purpose, SETCAP};

/// A smaller receive buffer holds less than about 10 ms of small packets at 1 Gbit/s, for each of which the kernel
/// counts more than its payload.
const SOCKET_BUFFER: u64 = 4 << 20;
/// An AF_XDP queue has 8192 frames of 4096 bytes at most; this is enough for one.
const UMEM: u64 = 32 << 20;
/// About the largest MTU at which drivers run XDP programs that see one buffer: a page without headroom and skb_shared_info.
const SINGLE_BUFFER_MTU: u32 = 3_498;

/// Collects findings about one subject.
pub(super) struct Findings {
    pub(super) interface: Option<String>,
    pub(super) list: Vec<Finding>,
}

impl Findings {
    pub(super) fn add(&mut self, severity: Severity, code: &'static str, text: impl Into<String>) {
        let interface = self.interface.clone();
        self.list.push(Finding { severity, code, interface, text: text.into(), fix: None });
    }

    pub(super) fn fixed_by(
        &mut self,
        severity: Severity,
        code: &'static str,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(severity, code, text);
        if let Some(last) = self.list.last_mut() {
            last.fix = Some(fix.into());
        }
    }
}

/// What is to be said of the machine.
pub(super) fn of_machine(machine: &Machine, interfaces: &[InterfaceFacts]) -> Vec<Finding> {
    let mut found = Findings { interface: None, list: Vec::new() };
    privileges(machine, &mut found);
    kernel(machine, &mut found);
    buffers(machine, &mut found);
    cpus(machine, interfaces, &mut found);
    multicast(machine, interfaces, &mut found);
    found.list
}

fn names(capabilities: &[Capability]) -> String {
    capabilities.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ")
}

fn privileges(machine: &Machine, found: &mut Findings) {
    let own = &machine.privileges;
    if own.in_user_namespace {
        found.add(
            Severity::Note,
            "user-namespace",
            "runs in a user namespace, where the kernel refuses eBPF: afxdp, xdp and drops need the first one",
        );
    } else {
        let xdp = own.missing(Purpose::Xdp);
        if xdp.is_empty() {
            found.add(Severity::Ok, "xdp-allowed", "may open AF_XDP sockets and load XDP programs");
        } else {
            let text = format!("no {}: the backends afxdp and xdp are refused", names(&xdp));
            found.fixed_by(Severity::Problem, "no-xdp-privilege", text, SETCAP);
        }
        let drops = own.missing(Purpose::Drops);
        if !drops.is_empty() {
            let text = format!("no {}: drops in the kernel cannot be counted", names(&drops));
            found.fixed_by(Severity::Problem, "no-drops-privilege", text, SETCAP);
        }
    }
    if let Some(limit) = own.memlock_bytes.filter(|limit| *limit < UMEM)
        && !own.has(Capability::CapIpcLock)
    {
        // Before 5.11 eBPF maps count as locked memory too; an AF_XDP socket's frames do to this day.
        let maps = machine.kernel.version().is_some_and(|v| v < (5, 11));
        let what = if maps { "AF_XDP frames and eBPF maps" } else { "AF_XDP frames" };
        let text = format!("only {} KiB of memory may be locked, too little for {what}", limit >> 10);
        found.fixed_by(Severity::Note, "memlock", text, format!("ulimit -l unlimited, or: {SETCAP}"));
    }
    if own.missing(Purpose::Namespaces).is_empty() {
        return;
    }
    if own.user_namespaces {
        found.add(
            Severity::Ok,
            "unprivileged-lab",
            "may make user namespaces: demo runs its uring half without root",
        );
    } else {
        found.add(
            Severity::Note,
            "no-lab",
            "neither root nor allowed to make user namespaces: demo needs sudo",
        );
    }
}

fn kernel(machine: &Machine, found: &mut Findings) {
    let kernel = &machine.kernel;
    if kernel.xdp_sockets == Some(false) {
        found.add(
            Severity::Problem,
            "no-xdp-sockets",
            "this kernel has no AF_XDP sockets (CONFIG_XDP_SOCKETS): use uring or mmsg",
        );
    }
    if !kernel.btf {
        found.add(
            Severity::Problem,
            "no-btf",
            "this kernel does not describe its types (CONFIG_DEBUG_INFO_BTF): drop reasons have no names",
        );
    }
    match kernel.io_uring_disabled {
        Some(2) => found.fixed_by(
            Severity::Note,
            "io-uring-disabled",
            "io_uring is switched off for everybody: auto takes mmsg",
            "sudo sysctl -w kernel.io_uring_disabled=0",
        ),
        Some(1) => found.fixed_by(
            Severity::Note,
            "io-uring-restricted",
            "io_uring is for root and the members of the group kernel.io_uring_group only: for others auto takes mmsg",
            "sudo sysctl -w kernel.io_uring_disabled=0",
        ),
        _ => {}
    }
}

fn buffers(machine: &Machine, found: &mut Findings) {
    for (name, value) in [("rmem", machine.kernel.rmem_max_bytes), ("wmem", machine.kernel.wmem_max_bytes)] {
        // CAP_NET_ADMIN goes beyond the limit (SO_RCVBUFFORCE).
        if machine.privileges.has(Capability::CapNetAdmin) && !machine.privileges.in_user_namespace {
            return;
        }
        if let Some(value) = value.filter(|v| *v < SOCKET_BUFFER) {
            let (code, what) = if name == "rmem" {
                ("rmem-max", "receive buffers, which overflow at high rates")
            } else {
                ("wmem-max", "send buffers, which hold few packets")
            };
            let text = format!("net.core.{name}_max allows {} KiB: small {what}", value >> 10);
            found.fixed_by(
                Severity::Note,
                code,
                text,
                format!("sudo sysctl -w net.core.{name}_max={}", SOCKET_BUFFER * 4),
            );
        }
    }
}

fn cpus(machine: &Machine, interfaces: &[InterfaceFacts], found: &mut Findings) {
    let count = parse_cpu_list(&machine.cpus).map_or(0, |c| c.len());
    if count < 2 {
        found.add(
            Severity::Note,
            "one-cpu",
            format!("one CPU (CPU {}) for sender, receiver and kernel: they take turns", machine.cpus),
        );
    }
    if machine.isolated_cpus.is_empty() {
        found.add(
            Severity::Note,
            "no-isolated-cpus",
            "no isolated CPUs: other tasks interrupt the workers, seen as latency peaks; boot with isolcpus=LIST",
        );
    }
    let allowed = parse_cpu_list(&machine.cpus).unwrap_or_default();
    for facts in interfaces {
        let Some(list) = facts.local_cpus.as_deref().filter(|_| machine.numa_nodes > 1) else { continue };
        let local = parse_cpu_list(list).unwrap_or_default();
        if !local.iter().any(|cpu| allowed.contains(cpu)) {
            found.add(
                Severity::Note,
                "far-cpus",
                format!(
                    "{}: this process may use none of CPUs {list}, which are on the NIC's NUMA node",
                    facts.link.name
                ),
            );
        }
    }
}

fn multicast(machine: &Machine, interfaces: &[InterfaceFacts], found: &mut Findings) {
    let example = interfaces.iter().find(|i| i.link.up && i.link.multicast).map(|i| i.link.name.as_str());
    let device = example.unwrap_or("IF");
    if !machine.ipv4_multicast_route {
        found.fixed_by(
            Severity::Note,
            "no-ipv4-multicast-route",
            "no route to IPv4 groups: name the interface with --iface, which needs none",
            format!("sudo ip route add 224.0.0.0/4 dev {device}"),
        );
    }
    if !machine.ipv6_multicast_route {
        found.add(
            Severity::Note,
            "no-ipv6-multicast-route",
            "no route to IPv6 groups: name an interface that has an IPv6 address with --iface",
        );
    }
}

/// What is to be said of an interface.
pub(super) fn of_interface(facts: &InterfaceFacts) -> Vec<Finding> {
    let mut found = Findings { interface: Some(facts.link.name.clone()), list: Vec::new() };
    state(facts, &mut found);
    if !facts.link.loopback {
        xdp(facts, &mut found);
        offloads(facts, &mut found);
        stamps(facts, &mut found);
        placement(facts, &mut found);
    }
    found.list
}

fn state(facts: &InterfaceFacts, found: &mut Findings) {
    let link = &facts.link;
    let name = &link.name;
    if !link.up {
        let fix = format!("sudo ip link set dev {name} up");
        found.fixed_by(Severity::Problem, "interface-down", "the interface is down", fix);
    } else if !link.carrier {
        found.add(
            Severity::Problem,
            "no-carrier",
            "no carrier: check the cable, or whether the other end is up",
        );
    }
    if !link.multicast && !link.loopback {
        found.fixed_by(
            Severity::Problem,
            "no-multicast",
            "the MULTICAST flag is off: no group can be joined or sent to",
            format!("sudo ip link set dev {name} multicast on"),
        );
    }
    if link.up && facts.addresses.iter().all(|a| a.tentative) {
        found.fixed_by(
            Severity::Note,
            "no-address",
            "no address: sockets cannot send here, and a join does not name its sender",
            format!("sudo ip address add 192.0.2.1/24 dev {name}"),
        );
    }
    if facts.rp_filter == Some(1) && !link.loopback {
        found.fixed_by(
            Severity::Note,
            "rp-filter",
            "the reverse-path filter is strict: IPv4 packets whose source is not routed back here are dropped",
            format!("sudo sysctl -w net.ipv4.conf.{}.rp_filter=2", name.replace('.', "/")),
        );
    }
    if link.mtu < 1500 {
        let text = format!("MTU {}: frames of more than {} bytes cannot be sent", link.mtu, link.mtu + 18);
        let fix = format!("sudo ip link set dev {name} mtu 1500");
        found.fixed_by(Severity::Note, "small-mtu", text, fix);
    }
}

fn xdp(facts: &InterfaceFacts, found: &mut Findings) {
    if !facts.link.xdp_programs.is_empty() {
        let programs = facts.link.xdp_programs.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        found.fixed_by(
            Severity::Problem,
            "xdp-program",
            format!("an XDP program is attached (id {programs}): afxdp and xdp receive nothing beside it"),
            format!(
                "if nobody needs it (bpftool prog show id {}): sudo ip link set dev {} xdp off",
                facts.link.xdp_programs[0], facts.link.name
            ),
        );
    }
    if !facts.link.ethernet {
        found.add(
            Severity::Note,
            "no-ethernet",
            "no Ethernet interface: afxdp is refused, use uring or mmsg",
        );
        return;
    }
    let Some(xdp) = facts.nic.xdp else {
        found.add(
            Severity::Note,
            "xdp-unknown",
            "this kernel does not tell what the driver can do with XDP (it needs 6.3): afxdp finds out by trying",
        );
        return;
    };
    if !xdp.native || !xdp.redirect {
        found.add(
            Severity::Note,
            "no-native-xdp",
            "the driver has no native XDP: afxdp runs in generic mode, which copies and is slower",
        );
    } else if !xdp.zero_copy {
        found.add(Severity::Note, "no-zero-copy", "native XDP without zero-copy: afxdp copies each frame");
    } else {
        found.add(Severity::Ok, "zero-copy", "native XDP and zero-copy AF_XDP");
    }
    if xdp.redirect && !xdp.redirect_target {
        found.add(
            Severity::Note,
            "no-redirect-target",
            "takes no packets from XDP programs now, so that send --backend xdp is refused: a veth takes them when its other end \
             has GRO on or an XDP program, some drivers when one is attached here",
        );
    }
    if facts.link.mtu > SINGLE_BUFFER_MTU && !xdp.multi_buffer {
        found.fixed_by(
            Severity::Note,
            "large-mtu",
            format!("MTU {}: the driver refuses XDP for frames of several buffers", facts.link.mtu),
            format!("sudo ip link set dev {} mtu {SINGLE_BUFFER_MTU}", facts.link.name),
        );
    }
}

fn stamps(facts: &InterfaceFacts, found: &mut Findings) {
    let Some(stamps) = facts.nic.stamps else { return };
    match stamps.phc {
        Some(phc) if stamps.all => {
            let text = format!("stamps every packet that it receives (/dev/ptp{phc}): recv --timestamps nic");
            found.add(Severity::Ok, "nic-stamps", text);
        }
        _ => found.add(
            Severity::Note,
            "ptp-stamps",
            "stamps packets of PTP only, or has no clock that can be read: recv --timestamps nic is refused",
        ),
    }
}

fn offloads(facts: &InterfaceFacts, found: &mut Findings) {
    let (name, offloads) = (&facts.link.name, &facts.nic.offloads);
    let veth = facts.link.kind.as_deref() == Some("veth");
    if veth && offloads.tx_checksum == Some(true) {
        found.fixed_by(
            Severity::Note,
            "veth-tx-checksum",
            "veth with tx checksumming: what sockets send here reaches an AF_XDP receiver on the other end with \
             unfinished UDP checksums",
            format!("sudo ethtool -K {name} tx off"),
        );
    }
    if offloads.udp_gro_forwarding == Some(true) {
        found.fixed_by(
            Severity::Note,
            "udp-merged",
            "UDP datagrams may be merged before a capture or counter sees them: they count several as one",
            format!("sudo ethtool -K {name} rx-udp-gro-forwarding off"),
        );
    }
}

fn placement(facts: &InterfaceFacts, found: &mut Findings) {
    let (Some(node), Some(local)) = (facts.nic.numa_node, &facts.local_cpus) else { return };
    let local = parse_cpu_list(local).unwrap_or_default();
    let is_far =
        |cpus: &str| parse_cpu_list(cpus).is_ok_and(|cpus| !cpus.iter().any(|cpu| local.contains(cpu)));
    let far = facts.nic.interrupts.iter().filter(|i| is_far(&i.cpus)).map(|i| i.irq).collect::<Vec<_>>();
    if let Some(first) = far.first() {
        let (all, cpus) = (facts.nic.interrupts.len(), facts.local_cpus.as_deref().unwrap_or_default());
        found.fixed_by(
            Severity::Note,
            "far-interrupts",
            format!(
                "{} of its {all} interrupts are served by CPUs outside of its NUMA node {node} (CPUs {cpus})",
                far.len()
            ),
            format!("for each of them: echo {cpus} | sudo tee /proc/irq/{first}/smp_affinity_list"),
        );
    }
}

#[cfg(test)]
pub(super) mod tests;
