//! The XDP program `steer`: what it selects, frame by frame, and how it is attached.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use wirerate_engine::lab::{INTERFACE, Lab, Netns};
use wirerate_engine::queue::afxdp::steer::{Mode, Rule, Steer, Verdict};
use wirerate_engine::queue::spec::Interface;

mod common;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 1);
const SOURCE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const PORT: u16 = 5001;

const UDP: u8 = 17;

fn any_source(destination: impl Into<IpAddr>) -> Rule {
    Rule { destination: SocketAddr::new(destination.into(), PORT), source: None }
}

/// A socket that may stand in the map; it is bound to no queue, and no packet reaches it in a dry run.
fn xsk() -> Socket {
    Socket::new(Domain::from(libc::AF_XDP), Type::RAW, None).unwrap()
}

/// The program with `rules` and a socket for queue 0.
fn loaded(rules: &[Rule]) -> (Steer, Socket) {
    let mut steer = Steer::load(rules).unwrap();
    let socket = xsk();
    steer.set_socket(0, &socket).unwrap();
    (steer, socket)
}

/// An Ethernet frame: addresses, `tags` (802.1ad outside, 802.1Q inside), type, body.
fn ethernet(tags: usize, ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    for tag in (1..=tags).rev() {
        frame.extend(if tag == 2 { [0x88, 0xa8] } else { [0x81, 0x00] });
        frame.extend([0, 7]);
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(body);
    frame
}

fn udp(port: u16, payload: usize) -> Vec<u8> {
    let mut datagram = vec![0; 8 + payload];
    datagram[2..4].copy_from_slice(&port.to_be_bytes());
    datagram[4..6].copy_from_slice(&(8 + payload as u16).to_be_bytes());
    datagram
}

/// An IPv4 packet with `options` bytes of options; `fragment` is the field of flags and offset.
fn ipv4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    options: usize,
    fragment: u16,
    body: &[u8],
) -> Vec<u8> {
    let header = 20 + options;
    let mut packet = vec![0; header];
    packet[0] = 0x40 | (header / 4) as u8;
    packet[2..4].copy_from_slice(&((header + body.len()) as u16).to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    packet.extend(body);
    packet
}

fn v4(source: Ipv4Addr, destination: Ipv4Addr, port: u16) -> Vec<u8> {
    ethernet(0, 0x0800, &ipv4(source, destination, UDP, 0, 0, &udp(port, 18)))
}

/// An IPv6 packet; `extensions` are (protocol number, length in 8 bytes beyond the first 8).
fn v6(source: Ipv6Addr, destination: Ipv6Addr, extensions: &[(u8, u8)], last: u8, body: &[u8]) -> Vec<u8> {
    let mut chain = Vec::new();
    for (index, &(_, more)) in extensions.iter().enumerate() {
        let mut header = vec![0; 8 + usize::from(more) * 8];
        header[0] = extensions.get(index + 1).map_or(last, |next| next.0);
        header[1] = more;
        chain.extend(header);
    }
    chain.extend(body);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((chain.len() as u16).to_be_bytes());
    packet.extend([extensions.first().map_or(last, |first| first.0), 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(chain);
    ethernet(0, 0x86dd, &packet)
}

/// Runs the program on `frame` and checks that it is counted once, with its bytes, under `verdict`.
fn judged(steer: &mut Steer, frame: &[u8], verdict: Verdict, what: &str) {
    let of = |steer: &Steer| {
        let counts = steer.counts().unwrap();
        let all: u64 = counts.iter().map(|count| count.packets).sum();
        let this = counts.iter().find(|count| count.queue == 0 && count.verdict == verdict);
        (all, this.map_or((0, 0), |count| (count.packets, count.bytes)))
    };
    let (all, (packets, bytes)) = of(steer);
    let redirected = steer.dry_run(frame).unwrap();
    assert_eq!(redirected, verdict == Verdict::Redirected, "{what}");
    assert_eq!(of(steer), (all + 1, (packets + 1, bytes + frame.len() as u64)), "{what}: {verdict:?}");
}

#[test]
fn ipv4_datagrams_by_destination_and_port() {
    common::require_root!();
    let (mut steer, _socket) = loaded(&[any_source(GROUP)]);
    judged(&mut steer, &v4(SOURCE, GROUP, PORT), Verdict::Redirected, "the one selected");
    judged(&mut steer, &v4(SOURCE, GROUP, PORT + 1), Verdict::Passed, "another port");
    judged(&mut steer, &v4(SOURCE, Ipv4Addr::new(239, 1, 2, 4), PORT), Verdict::Passed, "another group");
    for options in [4, 40] {
        let frame = ethernet(0, 0x0800, &ipv4(SOURCE, GROUP, UDP, options, 0, &udp(PORT, 18)));
        judged(&mut steer, &frame, Verdict::Redirected, "with options");
    }
    let frame = ethernet(0, 0x0800, &ipv4(SOURCE, GROUP, UDP, 0, 0x4000, &udp(PORT, 18)));
    judged(&mut steer, &frame, Verdict::Redirected, "with don't-fragment");
    let mut padded = v4(SOURCE, GROUP, PORT);
    padded.extend([0; 20]);
    judged(&mut steer, &padded, Verdict::Redirected, "with padding");
}

#[test]
fn up_to_two_vlan_tags() {
    common::require_root!();
    let (mut steer, _socket) = loaded(&[any_source(GROUP)]);
    let packet = ipv4(SOURCE, GROUP, UDP, 0, 0, &udp(PORT, 18));
    for (tags, verdict) in
        [(0, Verdict::Redirected), (1, Verdict::Redirected), (2, Verdict::Redirected), (3, Verdict::Passed)]
    {
        judged(&mut steer, &ethernet(tags, 0x0800, &packet), verdict, &format!("{tags} tags"));
    }
}

#[test]
fn ipv6_behind_extension_headers() {
    common::require_root!();
    let (mut steer, _socket) = loaded(&[any_source(GROUP6)]);
    let datagram = udp(PORT, 18);
    let frame = |extensions: &[(u8, u8)]| v6(SOURCE6, GROUP6, extensions, UDP, &datagram);
    judged(&mut steer, &frame(&[]), Verdict::Redirected, "bare");
    judged(&mut steer, &frame(&[(0, 0)]), Verdict::Redirected, "hop-by-hop");
    judged(&mut steer, &frame(&[(0, 0), (60, 2), (43, 1), (60, 5)]), Verdict::Redirected, "four");
    judged(
        &mut steer,
        &frame(&[(0, 0), (60, 0), (60, 0), (60, 0), (60, 0), (60, 0)]),
        Verdict::Unwalked,
        "six",
    );
    judged(&mut steer, &v6(SOURCE6, GROUP6, &[], UDP, &udp(PORT + 1, 18)), Verdict::Passed, "another port");
    judged(&mut steer, &v6(SOURCE6, SOURCE6, &[], UDP, &datagram), Verdict::Passed, "another address");
    judged(&mut steer, &v6(SOURCE6, GROUP6, &[(44, 0)], UDP, &datagram), Verdict::Fragment, "fragment");
    judged(
        &mut steer,
        &v6(SOURCE6, SOURCE6, &[(44, 0)], UDP, &datagram),
        Verdict::Passed,
        "other's fragment",
    );
}

#[test]
fn source_specific_rules_take_only_their_source() {
    common::require_root!();
    let other = Ipv4Addr::new(10, 0, 0, 2);
    let rule = Rule { source: Some(SOURCE.into()), ..any_source(GROUP) };
    let rule6 = Rule { source: Some(SOURCE6.into()), ..any_source(GROUP6) };
    let (mut steer, _socket) = loaded(&[rule, rule6, any_source(other)]);
    judged(&mut steer, &v4(SOURCE, GROUP, PORT), Verdict::Redirected, "the source");
    judged(&mut steer, &v4(other, GROUP, PORT), Verdict::Passed, "another source");
    judged(&mut steer, &v6(SOURCE6, GROUP6, &[], UDP, &udp(PORT, 0)), Verdict::Redirected, "IPv6");
    judged(&mut steer, &v6(GROUP6, GROUP6, &[], UDP, &udp(PORT, 0)), Verdict::Passed, "another IPv6 source");
    judged(&mut steer, &v4(SOURCE, other, PORT), Verdict::Redirected, "a rule for any source beside it");
    let fragment = |from| ethernet(0, 0x0800, &ipv4(from, GROUP, UDP, 0, 0x2000, &udp(PORT, 16)));
    judged(&mut steer, &fragment(SOURCE), Verdict::Fragment, "its fragment");
    judged(&mut steer, &fragment(other), Verdict::Passed, "another source's fragment");
}

#[test]
fn an_ipv4_rule_is_not_met_by_ipv6_bytes() {
    common::require_root!();
    let (mut steer, _socket) = loaded(&[any_source(GROUP)]);
    let mut octets = [0; 16];
    octets[..4].copy_from_slice(&GROUP.octets());
    let frame = v6(SOURCE6, octets.into(), &[], UDP, &udp(PORT, 0));
    judged(&mut steer, &frame, Verdict::Passed, "the same first four bytes");
}

#[test]
fn fragments_to_a_selected_address_pass_and_are_counted() {
    common::require_root!();
    let (mut steer, _socket) = loaded(&[any_source(GROUP)]);
    for (field, what) in [(0x2000, "first"), (0x2010, "middle"), (0x0010, "last")] {
        let frame = |to| ethernet(0, 0x0800, &ipv4(SOURCE, to, UDP, 0, field, &udp(PORT, 16)));
        judged(&mut steer, &frame(GROUP), Verdict::Fragment, what);
        judged(&mut steer, &frame(SOURCE), Verdict::Passed, what);
    }
}

#[test]
fn frames_cut_anywhere_pass() {
    common::require_root!();
    let (mut steer, _socket) = loaded(&[any_source(GROUP), any_source(GROUP6)]);
    let with_options = ethernet(1, 0x0800, &ipv4(SOURCE, GROUP, UDP, 8, 0, &udp(PORT, 4)));
    let with_extension = v6(SOURCE6, GROUP6, &[(60, 1)], UDP, &udp(PORT, 4));
    for (frame, ip) in [(with_options, 18), (with_extension, 14)] {
        judged(&mut steer, &frame, Verdict::Redirected, "whole");
        // The kernel's test run takes no less than an Ethernet header.
        for length in 14..frame.len() {
            let verdict = if length < ip { Verdict::Passed } else { Verdict::Malformed };
            judged(&mut steer, &frame[..length], verdict, &format!("cut to {length} bytes"));
        }
    }
}

#[test]
fn headers_that_contradict_themselves_pass() {
    common::require_root!();
    let (mut steer, _socket) = loaded(&[any_source(GROUP), any_source(GROUP6)]);
    let good = v4(SOURCE, GROUP, PORT);
    for (at, value, what) in [
        (14, 0x65, "version 6 in an IPv4 frame"),
        (14, 0x44, "header of 16 bytes"),
        (14, 0x4f, "header beyond the datagram"),
        (16, 0xff, "longer than the frame"),
        (38, 0xff, "UDP longer than the packet"),
        (39, 7, "UDP shorter than its header"),
    ] {
        let mut frame = good.clone();
        frame[at] = value;
        judged(&mut steer, &frame, Verdict::Malformed, what);
    }
    let mut frame = v6(SOURCE6, GROUP6, &[(60, 0)], UDP, &udp(PORT, 0));
    frame[14 + 40 + 1] = 200;
    judged(&mut steer, &frame, Verdict::Malformed, "IPv6 extension beyond the packet");
}

#[test]
fn what_the_kernel_must_see_passes() {
    common::require_root!();
    let (mut steer, _socket) = loaded(&[any_source(GROUP), any_source(GROUP6)]);
    for (protocol, what) in [(2, "IGMP"), (103, "PIM"), (6, "TCP"), (1, "ICMP")] {
        let frame = ethernet(0, 0x0800, &ipv4(SOURCE, GROUP, protocol, 4, 0, &udp(PORT, 8)));
        judged(&mut steer, &frame, Verdict::Passed, what);
    }
    judged(&mut steer, &v6(SOURCE6, GROUP6, &[(0, 0)], 58, &udp(PORT, 8)), Verdict::Passed, "MLD");
    judged(&mut steer, &v6(SOURCE6, GROUP6, &[], 58, &udp(PORT, 8)), Verdict::Passed, "neighbour discovery");
    judged(&mut steer, &v6(SOURCE6, GROUP6, &[], 103, &udp(PORT, 8)), Verdict::Passed, "PIM");
    judged(&mut steer, &ethernet(0, 0x0806, &[0; 28]), Verdict::Passed, "ARP");
    judged(&mut steer, &ethernet(0, 0x88cc, &[0; 46]), Verdict::Passed, "LLDP");
}

#[test]
fn without_a_socket_what_is_selected_passes() {
    common::require_root!();
    let mut steer = Steer::load(&[any_source(GROUP)]).unwrap();
    judged(&mut steer, &v4(SOURCE, GROUP, PORT), Verdict::NoSocket, "no socket yet");
    let socket = xsk();
    steer.set_socket(0, &socket).unwrap();
    judged(&mut steer, &v4(SOURCE, GROUP, PORT), Verdict::Redirected, "with a socket");
    let error = steer.set_socket(256, &socket).unwrap_err();
    assert!(error.what.contains("queue 256"), "{error}");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(steer.set_socket(1, &udp).is_err(), "a UDP socket is no AF_XDP socket");
}

/// The interface `name` of the calling thread's namespace.
fn interface(name: &str) -> Interface {
    let index = nix::net::if_::if_nametoindex(name).unwrap();
    Interface { name: name.to_owned(), index, mac: [0; 6], mtu: 1500 }
}

fn shown(netns: &Netns, name: &str) -> String {
    let output = netns.command("ip").args(["-details", "link", "show", "dev", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn native_on_veth_and_gone_with_its_owner() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let netns = &lab.receivers[0].netns;
    netns.run(|| {
        let steer = Steer::attach(&interface(INTERFACE), &[any_source(GROUP)]).unwrap();
        assert_eq!((steer.mode(), steer.why()), (Mode::Native, None));
        assert!(shown(netns, INTERFACE).contains("prog/xdp"));
        // Real packets: neighbour discovery and a datagram for the kernel pass.
        let receiver = std::net::UdpSocket::bind((lab.receivers[0].ipv4, PORT)).unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        lab.sender.netns.run(|| {
            let sender = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            sender.send_to(b"hello", (lab.receivers[0].ipv4, PORT)).unwrap();
        });
        assert_eq!(receiver.recv(&mut [0; 16]).unwrap(), 5);
        assert!(steer.counts().unwrap().iter().any(|count| count.verdict == Verdict::Passed));
    });
    assert!(!shown(netns, INTERFACE).contains("prog/xdp"));
}

#[test]
fn gone_when_its_owner_is_killed() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let netns = &lab.receivers[0].netns;
    let mut child = netns
        .command("/proc/self/exe")
        .args(["--exact", "hold_until_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap().contains("attached")));
    assert!(shown(netns, INTERFACE).contains("prog/xdp"));
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while shown(netns, INTERFACE).contains("prog/xdp") {
        assert!(Instant::now() < deadline, "the program outlives its owner");
    }
}

#[test]
#[ignore = "run by gone_when_its_owner_is_killed"]
fn hold_until_killed() {
    let _steer = Steer::attach(&interface(INTERFACE), &[any_source(GROUP)]).unwrap();
    println!("attached");
    loop {
        std::thread::park();
    }
}

#[test]
fn generic_where_native_is_refused_and_says_why() {
    common::require_root!();
    Netns::new().unwrap().run(|| {
        let steer = Steer::attach(&interface("lo"), &[any_source(GROUP)]).unwrap();
        assert_eq!(steer.mode(), Mode::Generic);
        assert!(steer.why().unwrap().starts_with("lo: the driver refuses native XDP: "), "{:?}", steer.why());
    });
}

#[test]
fn another_program_on_the_interface_is_named_and_left_alone() {
    common::require_root!();
    for name in ["lo", INTERFACE] {
        let lab = Lab::bridge(1).unwrap();
        lab.sender.netns.run(|| {
            let first = Steer::attach(&interface(name), &[any_source(GROUP)]).unwrap();
            let error = Steer::attach(&interface(name), &[any_source(GROUP)]).unwrap_err();
            assert_eq!(error.kind, wirerate_engine::Kind::Environment);
            assert!(error.what.starts_with(&format!("{name}: another XDP program is attached")), "{error}");
            assert!(error.fix.as_deref().unwrap().contains(&format!("ip link show dev {name}")), "{error}");
            drop(first);
            Steer::attach(&interface(name), &[any_source(GROUP)]).expect("free again");
        });
    }
}

#[test]
fn an_interface_that_is_gone() {
    common::require_root!();
    Netns::new().unwrap().run(|| {
        let gone = Interface { name: "gone0".to_owned(), index: 4242, mac: [0; 6], mtu: 1500 };
        let error = Steer::attach(&gone, &[any_source(GROUP)]).unwrap_err();
        assert!(error.what.starts_with("gone0: "), "{error}");
    });
}

#[test]
fn many_rules() {
    common::require_root!();
    let groups = 3000_u32;
    let group = |n: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(239, 0, 0, 1)) + n);
    let rules: Vec<Rule> = (0..groups).map(|n| any_source(group(n))).collect();
    let (mut steer, _socket) = loaded(&rules);
    for n in [0, 1, groups - 1] {
        judged(&mut steer, &v4(SOURCE, group(n), PORT), Verdict::Redirected, "a group of many");
    }
    judged(&mut steer, &v4(SOURCE, group(groups), PORT), Verdict::Passed, "one more");
}
