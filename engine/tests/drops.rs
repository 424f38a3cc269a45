//! What the kernel drops is counted in the right number, on the right interface, under the kernel's own name.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use wirerate_engine::Kind;
use wirerate_engine::drops::{DropCount, Watch, current_netns_inode, difference};
use wirerate_engine::lab::{INTERFACE, Lab, Netns};
use wirerate_engine::queue::afxdp::steer::{Mode, Rule, Steer};
use wirerate_engine::queue::spec::Interface;

mod common;

const CLOSED: u16 = 4444;

/// A namespace whose loopback interface is up.
fn alone() -> Netns {
    let netns = Netns::new().unwrap();
    assert!(netns.command("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    netns
}

/// What `work` makes the kernel drop in `netns` for `reason`, once `packets` of them were counted; waits for stragglers that
/// would make it more.
fn dropped(watch: &Watch, netns: &Netns, reason: &str, packets: u64, work: impl FnOnce()) -> Vec<DropCount> {
    let before = netns.run(|| watch.read().unwrap());
    work();
    let inode = netns.inode().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let after = netns.run(|| watch.read().unwrap());
        let mut new = difference(&before, &after);
        new.retain(|drop| drop.netns_inode == inode && drop.reason == reason);
        let found: u64 = new.iter().map(|drop| drop.packets).sum();
        if found >= packets || Instant::now() > deadline {
            // All of them are there; one too many would come from the same softirq.
            return new;
        }
        std::thread::yield_now();
    }
}

fn expected(
    netns: &Netns,
    interface: &str,
    place: &'static str,
    reason: &str,
    skbs: u64,
    packets: u64,
) -> DropCount {
    netns.run(|| DropCount {
        netns_inode: current_netns_inode().unwrap(),
        ifindex: nix::net::if_::if_nametoindex(interface).unwrap(),
        interface: Some(interface.to_owned()),
        place,
        reason: reason.to_owned(),
        skbs,
        packets,
        ..DropCount::default()
    })
}

fn sender(to: IpAddr) -> UdpSocket {
    UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap()
}

/// Sends `count` datagrams, each by a socket of its own: the answer (port unreachable) stays on the first as an error.
fn send(netns: &Netns, to: SocketAddr, count: usize) {
    netns.run(|| {
        for _ in 0..count {
            assert_eq!(sender(to.ip()).send_to(&[0; 100], to).unwrap(), 100);
        }
    });
}

#[test]
fn five_datagrams_to_a_closed_port_on_the_receivers_interface() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let watch = Watch::start().unwrap();
    assert_eq!(watch.missing(), [] as [String; 0]);
    let receiver = &lab.receivers[0];
    for address in [IpAddr::from(receiver.ipv4), receiver.ipv6.into()] {
        let drops = dropped(&watch, &receiver.netns, "NO_SOCKET", 5, || {
            send(&lab.sender.netns, (address, CLOSED).into(), 5);
        });
        assert_eq!(drops, [expected(&receiver.netns, INTERFACE, "socket", "NO_SOCKET", 5, 5)]);
    }
}

#[test]
fn five_datagrams_to_a_closed_port_on_loopback() {
    common::require_root!();
    let netns = alone();
    let watch = Watch::start().unwrap();
    let drops = dropped(&watch, &netns, "NO_SOCKET", 5, || {
        send(&netns, (Ipv4Addr::LOCALHOST, CLOSED).into(), 5);
    });
    assert_eq!(drops, [expected(&netns, "lo", "socket", "NO_SOCKET", 5, 5)]);
}

#[test]
fn interfaces_of_other_namespaces_have_no_name_here() {
    common::require_root!();
    let netns = alone();
    let watch = Watch::start().unwrap();
    let here = Netns::current().unwrap();
    dropped(&watch, &netns, "NO_SOCKET", 1, || send(&netns, (Ipv4Addr::LOCALHOST, CLOSED).into(), 1));
    let inode = netns.inode().unwrap();
    assert_ne!(inode, here.inode().unwrap());
    let all = watch.read().unwrap();
    let theirs: Vec<_> = all.iter().filter(|drop| drop.netns_inode == inode).collect();
    assert!(!theirs.is_empty());
    assert!(theirs.iter().all(|drop| drop.interface.is_none()), "{theirs:?}");
}

/// The calling thread's namespace's count of UDP datagrams that found the socket's buffer full.
fn rcvbuf_errors(ipv6: bool) -> u64 {
    if ipv6 {
        let text = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
        let line = text.lines().find(|line| line.starts_with("Udp6RcvbufErrors")).unwrap();
        return line.split_whitespace().nth(1).unwrap().parse().unwrap();
    }
    let text = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut udp = text.lines().filter(|line| line.starts_with("Udp:")).map(str::split_whitespace);
    let (mut names, mut values) = (udp.next().unwrap(), udp.next().unwrap());
    values.nth(names.position(|name| name == "RcvbufErrors").unwrap()).unwrap().parse().unwrap()
}

/// A socket with the smallest receive buffer that the kernel allows.
fn small(address: IpAddr) -> UdpSocket {
    let socket =
        Socket::new(Domain::for_address((address, 0).into()), Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.bind(&SocketAddr::new(address, 0).into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

/// Overflows a socket of `to` with `sent` datagrams and checks what the watch says against the socket's own account.
fn overflow(from: &Netns, to: &Netns, address: IpAddr, interface: &str) {
    let watch = Watch::start().unwrap();
    let sent = 200;
    let socket = to.run(|| small(address));
    let target = socket.local_addr().unwrap();
    let before = to.run(|| watch.read().unwrap());
    from.run(|| {
        let sender = sender(address);
        for _ in 0..sent {
            sender.send_to(&[0; 100], target).unwrap();
        }
    });
    // Nothing is read before all have arrived or been dropped, so the buffer stays full.
    let ours = || {
        let mut new = to.run(|| difference(&before, &watch.read().unwrap()));
        new.retain(|drop| drop.netns_inode == to.inode().unwrap() && drop.reason == "SOCKET_RCVBUFF");
        new
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut received = 0;
    while received + to.run(|| rcvbuf_errors(address.is_ipv6())) < sent && Instant::now() < deadline {
        while socket.recv(&mut [0; 200]).is_ok() {
            received += 1;
        }
    }
    let errors = to.run(|| rcvbuf_errors(address.is_ipv6()));
    assert_eq!(received + errors, sent);
    assert!(errors > 0, "the buffer took everything");
    assert_eq!(ours(), [expected(to, interface, "socket", "SOCKET_RCVBUFF", errors, errors)]);
}

#[test]
fn full_socket_buffers_on_the_receivers_interface() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    for address in [IpAddr::from(receiver.ipv4), receiver.ipv6.into()] {
        overflow(&lab.sender.netns, &receiver.netns, address, INTERFACE);
    }
}

#[test]
fn full_socket_buffers_on_loopback() {
    common::require_root!();
    let netns = alone();
    overflow(&netns, &netns, Ipv4Addr::LOCALHOST.into(), "lo");
}

#[test]
fn a_super_buffer_is_one_skb_and_all_its_packets() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let watch = Watch::start().unwrap();
    let receiver = &lab.receivers[0];
    for address in [IpAddr::from(receiver.ipv4), receiver.ipv6.into()] {
        let drops = dropped(&watch, &receiver.netns, "NO_SOCKET", 10, || {
            lab.sender.netns.run(|| {
                let sender = sender(address);
                setsockopt(&sender, sockopt::UdpGsoSegment, &500).unwrap();
                // The last segment is shorter.
                assert_eq!(sender.send_to(&[0; 4900], (address, CLOSED)).unwrap(), 4900);
            });
        });
        assert_eq!(drops, [expected(&receiver.netns, INTERFACE, "socket", "NO_SOCKET", 1, 10)]);
    }
}

#[test]
fn a_super_buffer_that_a_full_socket_drops() {
    common::require_root!();
    let netns = alone();
    let watch = Watch::start().unwrap();
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    let socket = netns.run(|| small(address));
    setsockopt(&socket, sockopt::UdpGroSegment, &true).unwrap();
    let target = socket.local_addr().unwrap();
    let drops = dropped(&watch, &netns, "SOCKET_RCVBUFF", 10, || {
        netns.run(|| {
            let sender = sender(address);
            setsockopt(&sender, sockopt::UdpGsoSegment, &1000).unwrap();
            // The first is taken whatever its size.
            for _ in 0..3 {
                sender.send_to(&[0; 5000], target).unwrap();
            }
        });
    });
    assert_eq!(drops, [expected(&netns, "lo", "socket", "SOCKET_RCVBUFF", 2, 10)]);
}

/// The kernel checks short datagrams when they arrive, and others when they are read: then their skb is in the socket's queue, where
/// something else lies in the place of its interface.
#[test]
fn wrong_checksums_on_arrival_and_on_reading() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let watch = Watch::start().unwrap();
    let receiver = &lab.receivers[0];
    let socket = receiver.netns.run(|| UdpSocket::bind((receiver.ipv4, 0)).unwrap());
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    for length in [20_u16, 400] {
        let drops = dropped(&watch, &receiver.netns, "UDP_CSUM", 3, || {
            lab.sender.netns.run(|| {
                let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).unwrap();
                let mut datagram = vec![0; usize::from(length)];
                datagram[2..4].copy_from_slice(&port.to_be_bytes());
                datagram[4..6].copy_from_slice(&length.to_be_bytes());
                datagram[6..8].copy_from_slice(&[0xde, 0xad]);
                for _ in 0..3 {
                    raw.send_to(&datagram, &SocketAddr::from((receiver.ipv4, 0)).into()).unwrap();
                }
            });
            let until = Instant::now() + Duration::from_millis(100);
            receiver.netns.run(|| {
                while Instant::now() < until {
                    assert!(socket.recv(&mut [0; 500]).is_err());
                }
            });
        });
        assert_eq!(drops, [expected(&receiver.netns, INTERFACE, "socket", "UDP_CSUM", 3, 3)], "{length}");
    }
}

/// `steer` on `interface` with a socket that is bound to no queue: the kernel refuses each redirect.
fn steer_to_nowhere(interface: &str, destination: SocketAddr) -> (Steer, Socket) {
    let index = nix::net::if_::if_nametoindex(interface).unwrap();
    let interface = Interface { name: interface.to_owned(), index, mac: [0; 6], mtu: 1500 };
    let mut steer = Steer::attach(&interface, &[Rule { destination, source: None }]).unwrap();
    let socket = Socket::new(Domain::from(libc::AF_XDP), Type::RAW, None).unwrap();
    steer.set_socket(0, &socket).unwrap();
    (steer, socket)
}

#[test]
fn redirects_that_a_native_program_fails_at() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let watch = Watch::start().unwrap();
    let receiver = &lab.receivers[0];
    let target = SocketAddr::from((receiver.ipv4, CLOSED));
    let (steer, _socket) = receiver.netns.run(|| steer_to_nowhere(INTERFACE, target));
    assert_eq!(steer.mode(), Mode::Native);
    let reason = "xdp_redirect_err:ENXIO";
    let drops = dropped(&watch, &receiver.netns, reason, 5, || send(&lab.sender.netns, target, 5));
    assert_eq!(drops, [expected(&receiver.netns, INTERFACE, "xsk", reason, 5, 5)]);
}

#[test]
fn redirects_that_a_generic_program_fails_at_are_counted_once() {
    common::require_root!();
    let netns = alone();
    let watch = Watch::start().unwrap();
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, CLOSED));
    let (steer, _socket) = netns.run(|| steer_to_nowhere("lo", target));
    assert_eq!(steer.mode(), Mode::Generic);
    let drops = dropped(&watch, &netns, "XDP", 5, || send(&netns, target, 5));
    assert_eq!(drops, [expected(&netns, "lo", "xdp", "XDP", 5, 5)]);
    let all = netns.run(|| watch.read().unwrap());
    let inode = netns.inode().unwrap();
    assert!(!all.iter().any(|drop| drop.netns_inode == inode && drop.reason.starts_with("xdp_")), "{all:?}");
}

#[test]
fn without_privileges_the_error_says_what_helps() {
    common::require_root!();
    let nobody = 65_534;
    let status = Command::new("/proc/self/exe")
        .args(["--exact", "as_nobody", "--ignored", "--nocapture"])
        .uid(nobody)
        .gid(nobody)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "run as nobody by without_privileges_the_error_says_what_helps"]
fn as_nobody() {
    for error in [Watch::start().unwrap_err(), Steer::load(&[]).unwrap_err()] {
        assert_eq!(error.kind, Kind::Environment, "{error}");
        assert!(error.fix.as_deref().is_some_and(|fix| fix.contains("setcap")), "{error}");
    }
}
