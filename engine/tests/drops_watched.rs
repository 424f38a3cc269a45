//! Drops of datagrams to watched destinations are told from all others, wherever on the way they happen.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, Socket, Type};
use wirerate_engine::drops::{Content, DropCount, Watch, difference};
use wirerate_engine::lab::{INTERFACE, Lab, Netns};
use wirerate_engine::packet::probe::{Kind, LEN, Probe};

mod common;

const WATCHED: u16 = 4444;
const OTHER: u16 = 4445;

fn run(mut command: Command, args: &[&str]) {
    let output = command.args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A payload of `length` bytes with a probe header of `kind`.
fn probe(kind: Kind, length: usize) -> Vec<u8> {
    let mut payload = vec![0x55; length];
    Probe { kind, run: 7, stream: 1, sequence: 99, time: 12_345 }.emit(&mut payload);
    payload
}

fn send(from: &Netns, to: SocketAddr, payload: &[u8], count: usize) {
    from.run(|| {
        for _ in 0..count {
            let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            assert_eq!(socket.send_to(payload, to).unwrap(), payload.len());
        }
    });
}

/// What was dropped in `netns` for the reason, by port and content, as soon as it comes to `packets`.
fn dropped(watch: &Watch, netns: &Netns, before: &[DropCount], reason: &str, packets: u64) -> Vec<DropCount> {
    let inode = netns.inode().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut new = difference(before, &netns.run(|| watch.read().unwrap()));
        new.retain(|drop| drop.netns_inode == inode && drop.reason == reason);
        if new.iter().map(|drop| drop.packets).sum::<u64>() >= packets || Instant::now() > deadline {
            new.sort_by_key(|drop| (drop.port, drop.content as u16));
            return new;
        }
        std::thread::yield_now();
    }
}

/// Port, content, packets of all senders.
fn figures(drops: &[DropCount]) -> Vec<(Option<u16>, Content, u64)> {
    let mut figures: Vec<(Option<u16>, Content, u64)> = Vec::new();
    for drop in drops {
        match figures.iter_mut().find(|(port, content, _)| (*port, *content) == (drop.port, drop.content)) {
            Some((_, _, packets)) => *packets += drop.packets,
            None => figures.push((drop.port, drop.content, drop.packets)),
        }
    }
    figures
}

#[test]
fn on_receive_by_port_and_content() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    for address in [IpAddr::from(receiver.ipv4), receiver.ipv6.into()] {
        let watch = Watch::start_for(&[(address, WATCHED).into()]).unwrap();
        assert_eq!(watch.missing(), [] as [String; 0]);
        let before = watch.read().unwrap();
        let sender = &lab.sender.netns;
        send(sender, (address, OTHER).into(), &probe(Kind::Data, 100), 2);
        send(sender, (address, WATCHED).into(), &probe(Kind::Data, LEN), 3);
        send(sender, (address, WATCHED).into(), &probe(Kind::Data, 1400), 1);
        send(sender, (address, WATCHED).into(), &probe(Kind::End, 100), 5);
        send(sender, (address, WATCHED).into(), &[0; 100], 6);
        send(sender, (address, WATCHED).into(), &probe(Kind::Data, LEN)[..LEN - 1], 1);
        let drops = dropped(&watch, &receiver.netns, &before, "NO_SOCKET", 18);
        assert_eq!(
            figures(&drops),
            [
                (None, Content::Other, 2),
                (Some(WATCHED), Content::Other, 7),
                (Some(WATCHED), Content::Data, 4),
                (Some(WATCHED), Content::Message, 5),
            ],
            "{address}"
        );
    }
}

#[test]
fn an_address_selects_and_an_unspecified_one_does_not() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    let second = Ipv4Addr::new(10, 77, 0, 99);
    run(receiver.command("ip"), &["address", "add", "10.77.0.99/24", "dev", INTERFACE]);
    let wanted = SocketAddr::from((receiver.ipv4, WATCHED));
    let both = SocketAddr::from((Ipv4Addr::UNSPECIFIED, WATCHED));
    for (watched, figures_wanted) in [
        (wanted, vec![(None, Content::Other, 2), (Some(WATCHED), Content::Other, 1)]),
        (both, vec![(Some(WATCHED), Content::Other, 3)]),
    ] {
        let watch = Watch::start_for(&[watched]).unwrap();
        let before = watch.read().unwrap();
        send(&lab.sender.netns, wanted, &[0; 100], 1);
        send(&lab.sender.netns, (second, WATCHED).into(), &[0; 100], 2);
        let drops = dropped(&watch, &receiver.netns, &before, "NO_SOCKET", 3);
        assert_eq!(figures(&drops), figures_wanted, "{watched}");
    }
}

#[test]
fn a_super_buffer_at_a_watched_port_is_all_its_packets() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    for address in [IpAddr::from(receiver.ipv4), receiver.ipv6.into()] {
        let target = SocketAddr::new(address, WATCHED);
        let watch = Watch::start_for(&[target]).unwrap();
        let before = watch.read().unwrap();
        lab.sender.netns.run(|| {
            let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            setsockopt(&socket, sockopt::UdpGsoSegment, &500).unwrap();
            socket.send_to(&probe(Kind::Data, 500).repeat(10), target).unwrap();
        });
        let drops = dropped(&watch, &receiver.netns, &before, "NO_SOCKET", 10);
        assert_eq!(figures(&drops), [(Some(WATCHED), Content::Data, 10)], "{address}");
    }
}

#[test]
fn full_socket_buffers() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    for address in [IpAddr::from(receiver.ipv4), receiver.ipv6.into()] {
        let target = SocketAddr::new(address, WATCHED);
        let watch = Watch::start_for(&[target]).unwrap();
        let _sockets = [WATCHED, OTHER].map(|port| {
            receiver.netns.run(|| {
                let domain = Domain::for_address(target);
                let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).unwrap();
                socket.set_recv_buffer_size(1).unwrap();
                socket.bind(&SocketAddr::new(address, port).into()).unwrap();
                socket
            })
        });
        let before = watch.read().unwrap();
        for port in [WATCHED, OTHER] {
            send(&lab.sender.netns, (address, port).into(), &probe(Kind::Data, 1000), 20);
        }
        let drops = dropped(&watch, &receiver.netns, &before, "SOCKET_RCVBUFF", 30);
        let found = figures(&drops);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].0, None);
        assert_eq!((found[1].0, found[1].1), (Some(WATCHED), Content::Data));
        assert!(found[1].2 >= 15, "the smallest buffer takes only a few: {found:?}");
    }
}

/// Bytes of memory that datagrams take which wait at the watched port of `netns`.
fn queued(netns: &Netns) -> u64 {
    let table = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/udp")).unwrap();
    let line = table.lines().find(|line| line.contains(&format!(":{WATCHED:04X} "))).expect("the socket");
    let (_, received) = line.split_whitespace().nth(4).unwrap().split_once(':').unwrap();
    u64::from_str_radix(received, 16).unwrap()
}

/// Nothing in such a packet tells its namespace, and the kernel gives no reason.
#[test]
fn what_nobody_read() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    let target = SocketAddr::from((receiver.ipv4, WATCHED));
    let socket = receiver.netns.run(|| UdpSocket::bind(target).unwrap());
    let watch = Watch::start_for(&[target]).unwrap();
    let before = watch.read().unwrap();
    let payload = probe(Kind::Data, 100);
    send(&lab.sender.netns, target, &payload, 1);
    socket.peek_from(&mut [0; 10]).unwrap();
    let one = queued(&receiver.netns);
    assert!(one > 0);
    send(&lab.sender.netns, target, &payload, 2);
    let deadline = Instant::now() + Duration::from_secs(5);
    while queued(&receiver.netns) < 3 * one && Instant::now() < deadline {
        std::thread::yield_now();
    }
    receiver.netns.run(|| std::mem::drop(socket));
    let deadline = Instant::now() + Duration::from_secs(5);
    let unread = loop {
        let mut new = difference(&before, &watch.read().unwrap());
        new.retain(|drop| drop.reason == "unread when closed" && drop.port == Some(WATCHED));
        if new.iter().map(|drop| drop.packets).sum::<u64>() >= 3 || Instant::now() > deadline {
            break new;
        }
        std::thread::yield_now();
    };
    assert_eq!(figures(&unread), [(Some(WATCHED), Content::Data, 3)]);
    assert_eq!((unread[0].place, unread[0].netns_inode), ("socket", 0));
}

#[test]
fn a_filter_in_the_bridge() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    let rules = "add table bridge t; add chain bridge t f { type filter hook forward priority 0; }; \
                 add rule bridge t f udp dport 4444 drop; add rule bridge t f udp dport 4445 drop";
    run(lab.middle.command("nft"), &[rules]);
    for address in [IpAddr::from(receiver.ipv4), receiver.ipv6.into()] {
        let watch = Watch::start_for(&[(address, WATCHED).into()]).unwrap();
        let before = watch.read().unwrap();
        send(&lab.sender.netns, (address, WATCHED).into(), &probe(Kind::Data, 200), 7);
        send(&lab.sender.netns, (address, OTHER).into(), &probe(Kind::Data, 200), 4);
        let drops = dropped(&watch, &lab.middle, &before, "NETFILTER_DROP", 11);
        let found = figures(&drops);
        assert_eq!(found, [(None, Content::Other, 4), (Some(WATCHED), Content::Data, 7)], "{address}");
        let port = Some(receiver.port.clone());
        assert!(drops.iter().all(|d| d.interface == port), "on the way to the receiver: {drops:?}");
    }
}

#[test]
fn no_carrier_on_the_way_out() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    run(lab.middle.command("ip"), &["link", "set", "s0", "down"]);
    let address = IpAddr::from(receiver.ipv4);
    let watch = Watch::start_for(&[(address, WATCHED).into()]).unwrap();
    let before = watch.read().unwrap();
    send(&lab.sender.netns, (address, WATCHED).into(), &probe(Kind::Data, 200), 7);
    send(&lab.sender.netns, (address, OTHER).into(), &probe(Kind::Data, 200), 4);
    let drops = dropped(&watch, &lab.sender.netns, &before, "QDISC_DROP", 11);
    assert_eq!(figures(&drops), [(None, Content::Other, 4), (Some(WATCHED), Content::Data, 7)]);
    assert!(drops.iter().all(|d| d.interface.as_deref() == Some(INTERFACE)), "{drops:?}");
}

/// Kernel threads that poll interfaces named like the lab's.
fn pollers() -> Vec<String> {
    let output = Command::new("pgrep").arg(format!("^napi/{INTERFACE}-")).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The reader of the ring is a thread that gets no CPU as long as the sender has it.
#[test]
fn a_full_ring_of_a_veth() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    run(receiver.command("ethtool"), &["-K", INTERFACE, "gro", "on"]);
    // With segmentation offload its peer passes packets on without the ring.
    run(lab.middle.command("ethtool"), &["-K", &receiver.port, "tso", "off"]);
    let before = pollers();
    run(receiver.command("sh"), &["-c", &format!("echo 1 > /sys/class/net/{INTERFACE}/threaded")]);
    for id in pollers().iter().filter(|id| !before.contains(id)) {
        run(Command::new("taskset"), &["-p", "1", id]);
        run(Command::new("chrt"), &["--idle", "-p", "0", id]);
    }
    let mut first = CpuSet::new();
    first.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &first).unwrap();
    let target = SocketAddr::from((receiver.ipv4, WATCHED));
    let watch = Watch::start_for(&[target]).unwrap();
    let before = watch.read().unwrap();
    let payload = probe(Kind::Data, 100);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut sent = 0;
    let inode = receiver.netns.inode().unwrap();
    let ours = || {
        let mut places = difference(&before, &watch.read().unwrap());
        places.retain(|d| d.netns_inode == inode && d.port == Some(WATCHED));
        places
    };
    let overflowed = || ours().iter().any(|d| d.reason != "NO_SOCKET");
    while !overflowed() && Instant::now() < deadline {
        lab.sender.netns.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for _ in 0..20_000 {
                // A refusal is the answer of the closed port to an earlier one.
                sent += u64::from(socket.send_to(&payload, target).is_ok());
            }
        });
    }
    let mut places = Vec::new();
    let mut accounted = 0;
    let deadline = Instant::now() + Duration::from_secs(5);
    while accounted < sent && Instant::now() < deadline {
        places = ours();
        accounted = places.iter().map(|d| d.packets).sum();
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(accounted, sent, "every packet was dropped, in the ring or for want of a socket: {places:?}");
    assert!(places.iter().any(|d| d.reason != "NO_SOCKET"), "the ring never was full: {places:?}");
}
