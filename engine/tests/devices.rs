//! Devices under test: each copies the packets of a group to those who joined it, and to nobody else. The kernel's packet filter on every host is the witness.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use wirerate_engine::lab::device::{Device, Kind, Options, kinds};
use wirerate_engine::lab::{Host, INTERFACE};
use wirerate_engine::multicast::membership::join_on;
use wirerate_engine::queue::spec::Interface;
use wirerate_engine::target::{Scheme, Target};

mod common;

const PORT: u16 = 5001;
const PATIENCE: Duration = Duration::from_secs(30);
const PACKETS: usize = 2000;
/// Packets that are on the way at once: no ring on it is shorter.
const BURST: usize = 40;

const GROUPS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(239, 1, 2, 1), Ipv4Addr::new(239, 1, 2, 2), Ipv4Addr::new(239, 1, 2, 3)];
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 0x77);

/// Who joins what: members by groups.
const JOINED: [&[usize]; 3] = [&[0, 1], &[1, 2], &[0]];

/// A socket that has joined a group and counts what it gets.
struct Joined {
    socket: Socket,
    heard: usize,
}

impl Joined {
    fn new(host: &Host, group: IpAddr, source: Option<IpAddr>) -> Self {
        host.netns.run(|| {
            let domain = if group.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
            let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.bind(&SocketAddr::new(group, PORT).into()).unwrap();
            let target = Target { scheme: Scheme::Udp, source, destination: SocketAddr::new(group, PORT) };
            let index = if_nametoindex(INTERFACE).unwrap();
            let interface = Interface { name: INTERFACE.to_owned(), index, mac: [0; 6], mtu: 1500 };
            join_on(&socket, Some(&interface), &target).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self { socket, heard: 0 }
        })
    }

    fn count(&mut self) -> usize {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 256];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(_) => self.heard += 1,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return self.heard,
                Err(e) => panic!("{e}"),
            }
        }
    }

    fn wait_for(&mut self, wanted: usize, what: &str) {
        let start = Instant::now();
        while self.count() < wanted {
            assert!(start.elapsed() < PATIENCE, "{what}: {} of {wanted}", self.heard);
            std::thread::sleep(Duration::from_micros(200));
        }
        assert_eq!(self.heard, wanted, "{what}");
    }
}

/// A host that sends to groups.
struct Sender(Socket);

impl Sender {
    fn new(device: &Device, ipv6: bool) -> Self {
        let host = device.sender();
        host.netns.run(|| {
            let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
            let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).unwrap();
            let ttl = u32::from(device.ttl());
            let index = if_nametoindex(INTERFACE).unwrap();
            if ipv6 {
                socket.set_multicast_hops_v6(ttl).unwrap();
                socket.set_multicast_if_v6(index).unwrap();
                socket.bind(&SocketAddr::new(host.ipv6.into(), 0).into()).unwrap();
            } else {
                SockRef::from(&socket).set_multicast_ttl_v4(ttl).unwrap();
                socket.set_multicast_if_v4(&host.ipv4).unwrap();
            }
            Self(socket)
        })
    }

    fn send(&self, group: impl Into<IpAddr>, count: usize) {
        let to = SocketAddr::new(group.into(), PORT).into();
        for _ in 0..count {
            assert_eq!(self.0.send_to(&[0x5a; 18], &to).unwrap(), 18);
        }
    }
}

/// Has the kernel of a host count what arrives for each group, before its IP layer looks whether somebody wants it.
fn watch(host: &Host) {
    let mut rules =
        format!("table netdev w {{ chain c {{ type filter hook ingress device {INTERFACE} priority 0;\n");
    for group in GROUPS {
        rules += &format!("ip daddr {group} udp dport {PORT} counter\n");
    }
    rules += &format!("ip6 daddr {GROUP6} udp dport {PORT} counter\n}}\n}}\n");
    let mut child = host.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// What the kernel of a host has counted.
fn seen(host: &Host) -> BTreeMap<IpAddr, usize> {
    let output = host.command("nft").args(["list", "table", "netdev", "w"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains("daddr")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after =
            |word: &str| words.iter().position(|w| *w == word).map(|at| words[at + 1].to_owned()).unwrap();
        counts.insert(after("daddr").parse().unwrap(), after("packets").parse().unwrap());
    }
    assert_eq!(counts.len(), GROUPS.len() + 1, "{text}");
    counts
}

fn receivers_of(group: usize) -> Vec<usize> {
    (0..JOINED.len()).filter(|member| JOINED[*member].contains(&group)).collect()
}

/// pimd sets an entry when the first packet of a source has come, and sets it anew once or twice soon after: what comes meanwhile may be lost.
fn settle(sender: &Sender, joined: &mut [BTreeMap<usize, Joined>]) {
    for _ in 0..20 {
        GROUPS.into_iter().for_each(|group| sender.send(group, 1));
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(300));
    for joined in joined.iter_mut().flat_map(BTreeMap::values_mut) {
        assert!(joined.count() > 0);
        joined.heard = 0;
    }
}

/// Every member gets the packets of its groups, each once, and no other; nobody gets any once the last has left.
fn copies_to_members(kind: Kind) {
    let device = Device::build(kind, 3, &Options::default()).unwrap();
    let mut joined: Vec<BTreeMap<usize, Joined>> = JOINED
        .iter()
        .zip(&device.members)
        .map(|(groups, host)| {
            groups.iter().map(|&g| (g, Joined::new(host, GROUPS[g].into(), None))).collect()
        })
        .collect();
    for (number, group) in GROUPS.into_iter().enumerate() {
        device.wait_for(group.into(), &receivers_of(number)).unwrap();
    }

    let sender = Sender::new(&device, false);
    if kind == Kind::Pimd {
        settle(&sender, &mut joined);
    }
    device.receivers().for_each(watch);
    let mut sent = 0;
    while sent < PACKETS {
        GROUPS.into_iter().for_each(|group| sender.send(group, BURST));
        sent += BURST;
        for (member, groups) in joined.iter_mut().enumerate() {
            for (group, joined) in groups {
                joined.wait_for(sent, &format!("{kind}: member {member}, group {group}"));
            }
        }
    }
    let macvlan = kind == Kind::Macvlan;
    for (place, host) in device.receivers().enumerate() {
        let seen = seen(host);
        for (number, group) in GROUPS.into_iter().enumerate() {
            let wanted = if receivers_of(number).contains(&place) { PACKETS } else { 0 };
            let seen = seen[&IpAddr::from(group)];
            // A macvlan device filters by a hash of the address, and the rest is left to its host.
            assert!(seen == wanted || macvlan && wanted == 0, "{kind}: receiver {place}, {group}: {seen}");
        }
    }
    witnesses(&device);

    // Member 0 leaves the first group, member 2 stays; then nobody is left.
    let group = GROUPS[0];
    joined[0].remove(&0);
    device.wait_for(group.into(), &[2]).unwrap();
    sender.send(group, BURST);
    joined[2].get_mut(&0).unwrap().wait_for(PACKETS + BURST, "the one that stays");
    joined[2].clear();
    device.wait_for(group.into(), &[]).unwrap();
    sender.send(group, BURST);
    // What was sent later arrives later.
    sender.send(GROUPS[1], BURST);
    for member in [0, 1] {
        joined[member].get_mut(&1).unwrap().wait_for(PACKETS + BURST, "a group that goes on");
    }
    if !macvlan {
        let left: Vec<usize> = device.receivers().map(|host| seen(host)[&IpAddr::from(group)]).collect();
        assert_eq!(left, [PACKETS, 0, PACKETS + BURST, 0], "{kind}: after the leaves");
    }
    if let Some(replicator) = device.replicator() {
        let report = replicator.report().unwrap();
        assert_eq!(report.fate("no-member"), BURST as u64, "{report:?}");
        assert_eq!(report.fate("replicated"), (3 * PACKETS + 2 * BURST) as u64);
    }
}

/// What others say of the device's work.
fn witnesses(device: &Device) {
    match device.kind {
        Kind::Router | Kind::Pimd => {
            let output = device.middle.command("ip").args(["mroute", "show"]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let source = device.sender().ipv4;
            for (number, group) in GROUPS.into_iter().enumerate() {
                let line =
                    text.lines().find(|line| line.starts_with(&format!("({source},{group})"))).unwrap();
                for (place, host) in device.receivers().enumerate() {
                    let leaves = line.split_whitespace().any(|word| word == host.port);
                    assert_eq!(leaves, receivers_of(number).contains(&place), "{line}");
                }
            }
        }
        Kind::Macvlan => {}
        _ => {
            for (place, host) in device.receivers().enumerate() {
                let wanted = JOINED.get(place).map_or(0, |groups| groups.len() * PACKETS) as u64;
                let left = device.transmitted(host).unwrap();
                // Queries and neighbour discovery leave by the port, too.
                assert!((wanted..wanted + 200).contains(&left), "{}: {left} by {}", device.kind, host.port);
            }
        }
    }
    if let Some(replicator) = device.replicator() {
        let report = replicator.report().unwrap();
        let of = |port: &str, group: Ipv4Addr| -> u64 {
            let lines = report.groups.iter().filter(|g| g.group == IpAddr::from(group));
            lines.filter(|g| g.ports.iter().any(|p| p == port)).map(|g| g.frames).sum()
        };
        for (place, host) in device.receivers().enumerate() {
            for (number, group) in GROUPS.into_iter().enumerate() {
                let wanted = if receivers_of(number).contains(&place) { PACKETS as u64 } else { 0 };
                assert_eq!(of(&host.port, group), wanted, "{report:?}");
            }
            let port = report.ports.iter().find(|p| p.interface == host.port).unwrap();
            let wanted = JOINED.get(place).map_or(0, |groups| groups.len() * PACKETS) as u64;
            assert_eq!((port.frames, port.refused), (wanted, 0), "{report:?}");
        }
    }
}

/// IPv6, and a source of which one member wants to hear, and another does not.
fn tells_sources_apart(kind: Kind) {
    let device = Device::build(kind, 2, &Options::default()).unwrap();
    let own = IpAddr::from(device.sender().ipv4);
    let other = IpAddr::from([10, 99, 0, 1]);
    let group = IpAddr::from([232, 1, 2, 3]);
    let mut wants = Joined::new(&device.members[0], group, Some(own));
    let mut does_not = Joined::new(&device.members[1], group, Some(other));
    let mut six = Joined::new(&device.members[1], GROUP6.into(), None);
    device.wait_for(group, &[0, 1]).unwrap();
    device.wait_for(GROUP6.into(), &[1]).unwrap();
    device.receivers().for_each(watch);
    let before = device.transmitted(&device.members[1]).unwrap();
    let sender = Sender::new(&device, false);
    for burst in 1..=5 {
        sender.send(group, BURST);
        wants.wait_for(burst * BURST, &format!("{kind}: the source that it wants"));
    }
    assert_eq!(does_not.count(), 0, "{kind}: another source");
    let between = device.transmitted(&device.members[1]).unwrap();
    assert!(
        between - before < 100,
        "{kind}: {} packets left towards who does not want them",
        between - before
    );
    let sender = Sender::new(&device, true);
    for burst in 1..=5 {
        sender.send(GROUP6, BURST);
        six.wait_for(burst * BURST, &format!("{kind}: IPv6"));
    }
    let seen: Vec<usize> = device.receivers().map(|host| seen(host)[&IpAddr::from(GROUP6)]).collect();
    assert_eq!(seen, [0, 5 * BURST, 0], "{kind}: IPv6");
}

macro_rules! devices {
    ($($kind:ident: $copies:ident, $sources:ident;)*) => {$(
        #[test]
        fn $copies() {
            common::require_root!();
            copies_to_members(Kind::$kind);
        }

        #[test]
        fn $sources() {
            common::require_root!();
            tells_sources_apart(Kind::$kind);
        }
    )*};
}

devices! {
    Bridge: a_bridge_copies_to_members, a_bridge_tells_sources_apart;
    Router: a_router_copies_to_members, a_router_tells_sources_apart;
    Mirred: mirred_copies_to_members, mirred_tells_sources_apart;
    Xdp: xdp_copies_to_members, xdp_tells_sources_apart;
    Afxdp: afxdp_copies_to_members, afxdp_tells_sources_apart;
    Socket: sockets_copy_to_members, sockets_tell_sources_apart;
}

/// FRR's pimd, which is another's router: its querier and its tables are witnesses of how we join and leave.
#[test]
fn pimd_copies_to_members() {
    common::require_root!();
    copies_to_members(Kind::Pimd);
}

#[test]
fn macvlan_copies_to_members() {
    common::require_root!();
    copies_to_members(Kind::Macvlan);
}

#[test]
fn a_routers_threshold_keeps_what_has_come_far() {
    common::require_root!();
    let options = Options { threshold: 32, ..Options::default() };
    let device = Device::build(Kind::Router, 1, &options).unwrap();
    let group = GROUPS[0];
    let mut member = Joined::new(&device.members[0], group.into(), None);
    device.wait_for(group.into(), &[0]).unwrap();
    let sender = Sender::new(&device, false);
    sender.send(group, 10);
    sender.0.set_multicast_ttl_v4(64).unwrap();
    sender.send(group, 10);
    member.wait_for(10, "those above the threshold only");
}

#[test]
fn what_cannot_be_built_is_said() {
    for kind in kinds() {
        let error = Device::build(kind, 0, &Options::default()).unwrap_err();
        assert!(error.what.contains("member"), "{error}");
        assert!(Device::build(kind, 500, &Options::default()).unwrap_err().fix.is_some());
        assert_eq!(kind.name().parse::<Kind>().unwrap(), kind);
        assert_eq!(kind.cannot(IpAddr::from(GROUPS[0]), None), None);
        assert!(kind.cannot(IpAddr::from([10, 0, 0, 1]), None).is_some());
    }
    assert!("hub".parse::<Kind>().unwrap_err().fix.unwrap().contains("bridge"));
    assert!(Kind::Router.cannot(IpAddr::from([224, 0, 0, 251]), None).unwrap().contains("link"));
    assert!(Kind::Pimd.cannot(GROUP6.into(), None).unwrap().contains("IPv4 only"));
}

#[test]
fn a_device_leaves_nothing_behind() {
    common::require_root!();
    let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    for kind in [Kind::Router, Kind::Pimd, Kind::Xdp] {
        let device = Device::build(kind, 2, &Options::default()).unwrap();
        assert!(std::fs::read_dir("/proc/self/fd").unwrap().count() > before);
        drop(device);
    }
    assert_eq!(std::fs::read_dir("/proc/self/fd").unwrap().count(), before);
}
