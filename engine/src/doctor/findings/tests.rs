//! Each rule on a machine made for it.

use super::*;
use crate::host::interface::{Address, Link};
use crate::host::kernel::Kernel;
use crate::host::nic::{Interrupt, Nic, Offloads, XdpFeatures};
use crate::host::privilege::Privileges;
use crate::host::tuning::Tuning;

/// A machine with nothing to complain about.
pub(in crate::doctor) fn machine() -> Machine {
    Machine {
        kernel: Kernel {
            release: "6.12.0".into(),
            machine: "x86_64".into(),
            btf: true,
            xdp_sockets: Some(true),
            io_uring_disabled: Some(0),
            unprivileged_bpf_disabled: Some(2),
            rmem_max_bytes: Some(64 << 20),
            wmem_max_bytes: Some(64 << 20),
            igmp_max_memberships: Some(20),
        },
        privileges: Privileges {
            capabilities: Capability::ALL.to_vec(),
            memlock_bytes: None,
            in_user_namespace: false,
            user_namespaces: true,
        },
        backends: vec!["mmsg", "uring", "afxdp", "xdp"],
        cpus: "0-7".into(),
        isolated_cpus: "6-7".into(),
        numa_nodes: 2,
        tuning: Tuning::default(),
        ipv4_multicast_route: true,
        ipv6_multicast_route: true,
    }
}

/// A NIC with nothing to complain about.
pub(in crate::doctor) fn interface() -> InterfaceFacts {
    InterfaceFacts {
        link: Link {
            name: "ens1".into(),
            index: 2,
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            kind: None,
            up: true,
            carrier: true,
            multicast: true,
            loopback: false,
            point_to_point: false,
            noarp: false,
            ethernet: true,
            xdp_programs: vec![],
            rx_queues: 8,
            tx_queues: 8,
        },
        addresses: vec![Address {
            index: 2,
            ip: "10.0.0.1".parse().unwrap(),
            prefix: 24,
            global: true,
            tentative: false,
        }],
        nic: Nic {
            driver: Some("ice".into()),
            numa_node: Some(1),
            offloads: Offloads { tx_checksum: Some(true), ..Offloads::default() },
            xdp: Some(XdpFeatures { native: true, redirect: true, zero_copy: true, ..Default::default() }),
            interrupts: vec![Interrupt { irq: 40, cpus: "4-5".into() }],
            ..Nic::default()
        },
        local_cpus: Some("4-7".into()),
        rp_filter: Some(2),
    }
}

pub(in crate::doctor) fn codes(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().filter(|f| f.severity > Severity::Ok).map(|f| f.code).collect()
}

fn machine_with(change: impl FnOnce(&mut Machine)) -> Vec<Finding> {
    let mut machine = machine();
    change(&mut machine);
    of_machine(&machine, &[interface()])
}

fn interface_with(change: impl FnOnce(&mut InterfaceFacts)) -> Vec<Finding> {
    let mut facts = interface();
    change(&mut facts);
    of_interface(&facts)
}

#[test]
fn nothing_to_complain_about() {
    assert_eq!(codes(&machine_with(|_| {})), Vec::<&str>::new());
    assert_eq!(codes(&interface_with(|_| {})), Vec::<&str>::new());
}

#[test]
fn an_ordinary_user_is_told_the_capabilities() {
    let found = machine_with(|m| m.privileges.capabilities.clear());
    assert_eq!(codes(&found), ["no-xdp-privilege", "no-drops-privilege"]);
    let fix = found[0].fix.as_deref().unwrap();
    assert!(fix.contains("setcap cap_net_raw,cap_net_admin,cap_bpf,cap_perfmon,cap_ipc_lock+ep"), "{fix}");
    assert!(found.iter().any(|f| f.code == "unprivileged-lab"));
    let found = machine_with(|m| {
        m.privileges.capabilities.clear();
        m.privileges.user_namespaces = false;
    });
    assert!(codes(&found).contains(&"no-lab"));
}

#[test]
fn machine_rules() {
    type Change = fn(&mut Machine);
    let rules: [(&str, Change); 10] = [
        ("user-namespace", |m| m.privileges.in_user_namespace = true),
        ("no-xdp-sockets", |m| m.kernel.xdp_sockets = Some(false)),
        ("no-btf", |m| m.kernel.btf = false),
        ("io-uring-disabled", |m| m.kernel.io_uring_disabled = Some(2)),
        ("io-uring-restricted", |m| m.kernel.io_uring_disabled = Some(1)),
        ("no-isolated-cpus", |m| m.isolated_cpus.clear()),
        ("no-ipv4-multicast-route", |m| m.ipv4_multicast_route = false),
        ("no-ipv6-multicast-route", |m| m.ipv6_multicast_route = false),
        ("far-cpus", |m| m.cpus = "0-3".into()),
        ("memlock", |m| {
            m.privileges.memlock_bytes = Some(64 << 10);
            m.privileges.capabilities.retain(|c| *c != Capability::CapIpcLock);
        }),
    ];
    for (code, change) in rules {
        assert_eq!(codes(&machine_with(change)), [code]);
    }
}

#[test]
fn small_buffers_matter_to_those_who_cannot_exceed_them() {
    let small = |m: &mut Machine| {
        m.kernel.rmem_max_bytes = Some(212_992);
        m.kernel.wmem_max_bytes = Some(212_992);
    };
    assert_eq!(codes(&machine_with(small)), Vec::<&str>::new());
    let found = machine_with(|m| {
        small(m);
        m.privileges.capabilities.retain(|c| *c != Capability::CapNetAdmin);
    });
    assert!(codes(&found).contains(&"rmem-max") && codes(&found).contains(&"wmem-max"));
    let fix = found.iter().find(|f| f.code == "rmem-max").unwrap().fix.clone();
    assert_eq!(fix.as_deref(), Some("sudo sysctl -w net.core.rmem_max=16777216"));
}

#[test]
fn interface_rules() {
    type Change = fn(&mut InterfaceFacts);
    let rules: [(&str, Change); 14] = [
        ("interface-down", |i| (i.link.up, i.link.carrier) = (false, false)),
        ("no-carrier", |i| i.link.carrier = false),
        ("no-multicast", |i| i.link.multicast = false),
        ("no-address", |i| i.addresses.clear()),
        ("rp-filter", |i| i.rp_filter = Some(1)),
        ("small-mtu", |i| i.link.mtu = 1280),
        ("large-mtu", |i| i.link.mtu = 9000),
        ("xdp-program", |i| i.link.xdp_programs = vec![7]),
        ("no-ethernet", |i| i.link.ethernet = false),
        ("xdp-unknown", |i| i.nic.xdp = None),
        ("no-native-xdp", |i| i.nic.xdp = Some(XdpFeatures::default())),
        ("no-zero-copy", |i| i.nic.xdp.as_mut().unwrap().zero_copy = false),
        ("veth-tx-checksum", |i| i.link.kind = Some("veth".into())),
        ("far-interrupts", |i| i.nic.interrupts[0].cpus = "0-3".into()),
    ];
    for (code, change) in rules {
        assert_eq!(codes(&interface_with(change)), [code]);
    }
    assert_eq!(codes(&interface_with(|i| i.nic.offloads.udp_gro_forwarding = Some(true))), ["udp-merged"]);
}

#[test]
fn fixes_name_the_interface() {
    let down = interface_with(|i| i.link.up = false);
    assert_eq!(down[0].fix.as_deref(), Some("sudo ip link set dev ens1 up"));
    // sysctl wants the dot of a VLAN's name as a slash.
    let vlan = interface_with(|i| {
        i.link.name = "ens1.7".into();
        i.rp_filter = Some(1);
    });
    assert_eq!(vlan[0].fix.as_deref(), Some("sudo sysctl -w net.ipv4.conf.ens1/7.rp_filter=2"));
}
