//! The XDP program `replicate`, frame by frame, and what a replicator refuses to begin with.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use wirerate_engine::lab::Lab;
use wirerate_engine::multicast::snoop::Entry;
use wirerate_engine::queue::spec::Interface;
use wirerate_engine::replicator::plane::Plane;
use wirerate_engine::replicator::xdp::{Action, Program};
use wirerate_engine::replicator::{By, Config, Membership, Replicator};

mod common;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 1);
const SOURCE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The program, with the loopback interface for a member of both groups.
fn loaded() -> Program {
    let member = Interface { name: "lo".to_owned(), index: 1, mac: [0; 6], mtu: 65_536 };
    let mut program = Program::load(&[member], 16, true).unwrap();
    program.forward(GROUP.into(), &[entry(None, &[0])]).unwrap();
    program.forward(GROUP6.into(), &[entry(None, &[0])]).unwrap();
    program
}

fn entry(source: Option<IpAddr>, ports: &[usize]) -> Entry {
    Entry { source, ports: ports.iter().copied().collect::<BTreeSet<_>>() }
}

fn ethernet(to: [u8; 6], tags: &[u16], ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1]);
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(body);
    frame
}

const MULTICAST: [u8; 6] = [1, 0, 0x5e, 1, 2, 3];
const MULTICAST6: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

fn ipv4(source: Ipv4Addr, to: Ipv4Addr, protocol: u8, fragment: u16, options: usize) -> Vec<u8> {
    let mut packet = vec![0; 20 + options + 26];
    packet[0] = 0x40 | ((20 + options) / 4) as u8;
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[8] = 1;
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&to.octets());
    packet
}

fn ipv6(to: Ipv6Addr, next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([next, 1]);
    packet.extend(SOURCE6.octets());
    packet.extend(to.octets());
    packet.extend(body);
    packet
}

fn v4(to: Ipv4Addr) -> Vec<u8> {
    ethernet(MULTICAST, &[], 0x0800, &ipv4(SOURCE, to, UDP, 0, 0))
}

fn v6(to: Ipv6Addr, next: u8, body: &[u8]) -> Vec<u8> {
    ethernet(MULTICAST6, &[], 0x86dd, &ipv6(to, next, body))
}

/// Runs the program on `frame`; it is counted once, under `fate`.
#[track_caller]
fn judged(program: &mut Program, frame: &[u8], action: Action, fate: &str, what: &str) {
    let before = program.fates().unwrap();
    assert_eq!(program.dry_run(frame).unwrap(), action, "{what}");
    for ((name, before), (_, after)) in before.iter().zip(program.fates().unwrap()) {
        assert_eq!(after - before, u64::from(*name == fate), "{what}: {name}");
    }
}

#[test]
fn groups_with_members_are_copied_and_others_dropped() {
    common::require_root!();
    let mut program = loaded();
    judged(&mut program, &v4(GROUP), Action::Redirect, "replicated", "a group with a member");
    judged(&mut program, &v4(Ipv4Addr::new(239, 1, 2, 4)), Action::Drop, "no-member", "another group");
    // 32 groups have the same hardware address.
    judged(
        &mut program,
        &v4(Ipv4Addr::new(238, 129, 2, 3)),
        Action::Drop,
        "no-member",
        "of the same address",
    );
    judged(&mut program, &v6(GROUP6, UDP, &[0; 26]), Action::Redirect, "replicated", "IPv6");
    let other = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 1, 1);
    judged(&mut program, &v6(other, UDP, &[0; 26]), Action::Drop, "no-member", "another IPv6 group");
    for options in [4, 40] {
        let frame = ethernet(MULTICAST, &[], 0x0800, &ipv4(SOURCE, GROUP, UDP, 0, options));
        judged(&mut program, &frame, Action::Redirect, "replicated", "with options");
    }
    program.forward(GROUP.into(), &[]).unwrap();
    judged(&mut program, &v4(GROUP), Action::Drop, "no-member", "after the last has left");
}

#[test]
fn fragments_go_where_the_first_goes() {
    common::require_root!();
    let mut program = loaded();
    for fragment in [0x2000, 0x2010, 0x0010] {
        let frame = ethernet(MULTICAST, &[], 0x0800, &ipv4(SOURCE, GROUP, UDP, fragment, 0));
        judged(&mut program, &frame, Action::Redirect, "replicated", "a fragment");
    }
    let frame = v6(GROUP6, 44, &[UDP, 0, 0, 1, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8]);
    judged(&mut program, &frame, Action::Redirect, "replicated", "an IPv6 fragment");
}

#[test]
fn what_the_kernel_must_see_passes() {
    common::require_root!();
    let mut program = loaded();
    let unicast = [2, 0, 0, 0, 0, 9];
    let frame = ethernet(unicast, &[], 0x0800, &ipv4(SOURCE, Ipv4Addr::new(10, 0, 0, 2), UDP, 0, 0));
    judged(&mut program, &frame, Action::Pass, "passed", "unicast");
    let frame = ethernet(unicast, &[], 0x0800, &ipv4(SOURCE, GROUP, UDP, 0, 0));
    judged(&mut program, &frame, Action::Pass, "passed", "a group in a unicast frame");
    judged(&mut program, &ethernet([0xff; 6], &[], 0x0806, &[0; 28]), Action::Pass, "passed", "ARP");
    judged(
        &mut program,
        &ethernet([1, 0x80, 0xc2, 0, 0, 0xe], &[], 0x88cc, &[0; 46]),
        Action::Pass,
        "passed",
        "LLDP",
    );
    let igmp = ethernet(MULTICAST, &[], 0x0800, &ipv4(SOURCE, GROUP, 2, 0, 4));
    judged(&mut program, &igmp, Action::Pass, "control", "an IGMPv2 report, which goes to its group");
    judged(&mut program, &v4(Ipv4Addr::new(224, 0, 0, 251)), Action::Pass, "control", "a group of the link");
    judged(&mut program, &v4(Ipv4Addr::new(224, 0, 1, 1)), Action::Drop, "no-member", "the next block");
    let alert = [ICMPV6, 0, 5, 2, 0, 0, 1, 0, 131, 0, 0, 0, 0, 0, 0, 0];
    judged(
        &mut program,
        &v6(GROUP6, 0, &alert),
        Action::Pass,
        "control",
        "an MLDv1 report, which goes to its group",
    );
    for scope in [0xff01, 0xff02] {
        let group = Ipv6Addr::new(scope, 0, 0, 0, 0, 0, 0, 1);
        judged(&mut program, &v6(group, UDP, &[0; 26]), Action::Pass, "control", "of interface or link");
    }
    for tags in [&[0x8100][..], &[0x88a8, 0x8100]] {
        let frame = ethernet(MULTICAST, tags, 0x0800, &ipv4(SOURCE, GROUP, UDP, 0, 0));
        judged(&mut program, &frame, Action::Pass, "tagged", "with a VLAN tag");
    }
}

#[test]
fn malformed_frames_pass_wherever_they_are_cut() {
    common::require_root!();
    let mut program = loaded();
    for whole in [v4(GROUP), v6(GROUP6, UDP, &[0; 26])] {
        // The kernel's test run takes no less than an Ethernet header.
        for length in 14..whole.len() {
            let what = format!("cut to {length} bytes");
            judged(&mut program, &whole[..length], Action::Pass, "malformed", &what);
        }
    }
    for (at, value) in [(14, 0x65), (14, 0x44), (16, 0xff)] {
        let mut frame = v4(GROUP);
        frame[at] = value;
        judged(&mut program, &frame, Action::Pass, "malformed", "a header that contradicts itself");
    }
}

#[test]
fn a_source_goes_where_it_is_wanted_and_the_rest_elsewhere() {
    common::require_root!();
    let mut program = loaded();
    let other = Ipv4Addr::new(10, 0, 0, 2);
    let from = |source| ethernet(MULTICAST, &[], 0x0800, &ipv4(source, GROUP, UDP, 0, 0));
    let lines = [entry(Some(SOURCE.into()), &[0]), entry(None, &[])];
    program.forward(GROUP.into(), &lines).unwrap();
    judged(&mut program, &from(SOURCE), Action::Redirect, "replicated", "the source");
    judged(&mut program, &from(other), Action::Drop, "no-member", "another, which nobody wants");
    program.forward(GROUP.into(), &[]).unwrap();
    judged(&mut program, &from(SOURCE), Action::Drop, "no-member", "nobody is left");
}

#[test]
fn what_cannot_be_begun_is_said() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let config = |from: &[&str], to: &[&str], by| Config {
        from: from.iter().map(|s| (*s).to_owned()).collect(),
        to: to.iter().map(|s| (*s).to_owned()).collect(),
        by,
        membership: Membership::default(),
        duration: Some(Duration::from_millis(1)),
    };
    lab.middle.run(|| {
        let said = |config: &Config| Replicator::start(config).unwrap_err();
        assert!(said(&config(&["s0"], &["s0"], By::Socket)).what.contains("twice"));
        assert!(said(&config(&["s0"], &["nix0"], By::Socket)).what.contains("nix0"));
        assert!(said(&config(&[], &["r1"], By::Socket)).what.contains("--from"));
        assert!(said(&config(&["s0", "lo"], &["r1"], By::Afxdp)).what.contains("one interface"));
        let error = said(&config(&["s0"], &["r1"], By::Xdp));
        assert!(error.fix.as_deref().unwrap_or("").contains("gro on"), "{error}");
        let first = Replicator::start(&config(&["s0"], &["r1"], By::Afxdp)).unwrap();
        let error = said(&config(&["s0"], &["r1"], By::Afxdp));
        assert!(error.to_string().contains("s0") || error.to_string().contains("r1"), "{error}");
        drop(first);
    });
}
