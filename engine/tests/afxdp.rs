//! AF_XDP queues over a veth pair: what they send is what a plain kernel socket accepts, what they receive is what was sent,
//! and what goes wrong is said.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wirerate_engine::clock::device::{Comparison, Follower, Shared};
use wirerate_engine::lab::Netns;
use wirerate_engine::multicast::mac;
use wirerate_engine::packet::probe::{Kind, Probe};
use wirerate_engine::profile::payload::Payload;
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::queue::afxdp::steer::{Mode, Rule, Steer};
use wirerate_engine::queue::afxdp::{AfxdpRx, AfxdpTx};
use wirerate_engine::queue::spec::Interface;
use wirerate_engine::queue::{
    Flow, QueueError, Receive, Run, RxMeta, RxSpec, Sink, StampCounts, Stamper, Transmit, Tuning, TxSpec,
    Wait,
};
use wirerate_engine::target::{Scheme, Target};
use wirerate_engine::{Error, Kind as ErrorKind};

mod common;

const A4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 0, 1));
const B4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 0, 2));
const A6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 1));
const B6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 2));
const PORT: u16 = 5001;

/// Two namespaces and a veth pair, `va` in the one and `vb` in the other. `vb` may be the port of a bridge `br0`, which then has
/// the addresses.
struct Pair {
    a: Netns,
    b: Netns,
    va: Interface,
    vb: Interface,
}

fn ip(netns: &Netns, arguments: &str) {
    let output = netns.command("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn interface(netns: &Netns, name: &str, mtu: u32) -> Interface {
    let (index, mac) = netns.run(|| {
        let link = nix::ifaddrs::getifaddrs()
            .unwrap()
            .filter(|i| i.interface_name == name)
            .find_map(|i| i.address?.as_link_addr().copied())
            .unwrap();
        (link.ifindex() as u32, link.addr().unwrap())
    });
    Interface { name: name.to_owned(), index, mac, mtu }
}

impl Pair {
    fn new(mtu: u32) -> Self {
        Self::with(mtu, false)
    }

    fn with(mtu: u32, bridge: bool) -> Self {
        let (a, b) = (Netns::new().unwrap(), Netns::new().unwrap());
        for netns in [&a, &b] {
            netns.run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap());
        }
        let b_file = b.run(|| std::fs::File::open("/proc/thread-self/ns/net").unwrap());
        let path = format!("/proc/{}/fd/{}", std::process::id(), b_file.as_raw_fd());
        ip(&a, &format!("link add va mtu {mtu} type veth peer name vb mtu {mtu} netns {path}"));
        let far = if bridge { "br0" } else { "vb" };
        if bridge {
            ip(&b, "link add br0 type bridge mcast_snooping 0");
            ip(&b, "link set vb master br0 up");
        }
        for (netns, name, v4, v6) in [(&a, "va", A4, A6), (&b, far, B4, B6)] {
            ip(netns, &format!("link set {name} mtu {mtu} up"));
            ip(netns, &format!("address add {v4}/24 dev {name}"));
            ip(netns, &format!("address add {v6}/64 dev {name} nodad"));
        }
        let (va, vb) = (interface(&a, "va", mtu), interface(&b, far, mtu));
        Self { a, b, va, vb }
    }

    fn flow(&self, stream: u16, destination: IpAddr) -> Flow {
        let source = if destination.is_ipv4() { A4 } else { A6 };
        Flow {
            stream,
            source: SocketAddr::new(source, 1000 + stream),
            destination: SocketAddr::new(destination, PORT),
            destination_mac: mac::of_group(destination).unwrap_or(self.vb.mac),
        }
    }

    fn tx_spec(&self, destinations: &[IpAddr], payload: Payload, max_payload: u16) -> TxSpec {
        TxSpec {
            interface: Some(self.va.clone()),
            queue: 0,
            flows: destinations.iter().zip(0..).map(|(d, n)| self.flow(n, *d)).collect(),
            ttl: 2,
            dscp: 0,
            fragment: false,
            vlan: None,
            rtp: None,
            iperf2: false,
            payload: Arc::new(payload),
            max_payload,
            segments: Segments::Auto,
            txtime: None,
            tuning: Tuning::default(),
        }
    }

    /// A queue that receives what goes to `destinations`, in the mode that the kernel allows.
    fn open_rx(&self, destinations: &[IpAddr]) -> (Steer, AfxdpRx) {
        self.b.run(|| {
            let target =
                |d: &IpAddr| Target { scheme: Scheme::Udp, source: None, destination: (*d, PORT).into() };
            let rules: Vec<_> = destinations.iter().map(|d| Rule::from(&target(d))).collect();
            let spec = RxSpec {
                interface: Some(self.vb.clone()),
                queue: 0,
                target: target(&destinations[0]),
                groups: 1,
                max_payload: 1472,
                segments: Segments::Auto,
                nic_clock: None,
                tuning: Tuning::default(),
            };
            let rx = AfxdpRx::open(&spec).unwrap();
            let mut steer = Steer::attach(&self.vb, &rules).unwrap();
            steer.set_socket(0, &rx.fd()).unwrap();
            (steer, rx)
        })
    }

    fn open_tx(&self, spec: &TxSpec) -> Result<AfxdpTx, Error> {
        self.a.run(|| AfxdpTx::open(spec))
    }
}

/// Sends everything in `runs`, and learns that it left.
fn send(tx: &mut AfxdpTx, runs: &[Run]) {
    let total: usize = runs.iter().map(|r| usize::from(r.count)).sum();
    assert_eq!(tx.submit(runs, &mut Stamper::new(5)).unwrap(), total);
    let mut left = 0;
    while left < total as u64 {
        let done = tx.reap(Wait::For(Duration::from_secs(5))).unwrap();
        assert_eq!(done.failed, 0);
        assert!(done.packets > 0, "{left} of {total} left");
        left += done.packets;
    }
    assert_eq!(tx.in_flight(), 0);
}

fn check(payload: &Payload, bytes: &[u8], stream: u16, sequence: u64) {
    let probe = Probe::parse(bytes).unwrap();
    assert_eq!((probe.kind, probe.run, probe.stream, probe.sequence), (Kind::Data, 5, stream, sequence));
    assert!(payload.matches(sequence, &bytes[18..]), "the body of {sequence}");
}

/// Datagrams as they arrive: overhead and payload.
#[derive(Default)]
struct Seen(Vec<(SocketAddr, u16, Vec<u8>)>);

impl Sink for Seen {
    fn run(&mut self, meta: &RxMeta, buf: &[u8], stride: usize, count: usize) {
        assert_eq!((stride, count), (buf.len(), 1));
        self.0.push((meta.destination, meta.overhead, buf.to_vec()));
    }
}

fn receive(rx: &mut AfxdpRx, count: usize) -> Seen {
    let mut seen = Seen::default();
    let deadline = Instant::now() + Duration::from_secs(5);
    while seen.0.len() < count && Instant::now() < deadline {
        rx.poll(&mut seen, Wait::For(Duration::from_millis(200))).unwrap();
    }
    assert_eq!(seen.0.len(), count);
    seen
}

fn run(flow: u16, len: u16, count: u16, first_seq: u64) -> Run {
    Run { flow, len, count, first_seq }
}

#[test]
fn a_kernel_socket_accepts_every_datagram() {
    common::require_root!();
    let pair = Pair::new(1500);
    let group = IpAddr::from([239, 1, 2, 3]);
    for destination in [B4, B6, group] {
        let socket = pair.b.run(|| {
            let any: IpAddr = if destination.is_ipv4() {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            };
            let socket = UdpSocket::bind((any, PORT)).unwrap();
            if destination.is_multicast() {
                socket.join_multicast_v4(&[239, 1, 2, 3].into(), &Ipv4Addr::new(10, 78, 0, 2)).unwrap();
            }
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket
        });
        let max = if destination.is_ipv4() { 1472 } else { 1452 };
        for payload in [Payload::pattern(), Payload::random(), Payload::File(b"wirerate".to_vec())] {
            let spec = pair.tx_spec(&[destination], payload.clone(), max);
            let mut tx = pair.open_tx(&spec).unwrap();
            assert!(!tx.granted().zero_copy && tx.granted().refused.is_some(), "veth copies");
            let mut buffer = [0; 2000];
            let mut first = 0;
            for len in [18, 19, 64, max, 300, max] {
                send(&mut tx, &[run(0, len, 40, first)]);
                for n in first..first + 40 {
                    let (got, from) = socket.recv_from(&mut buffer).unwrap();
                    assert_eq!((got, from), (usize::from(len), spec.flows[0].source));
                    check(&payload, &buffer[..got], 0, n);
                }
                first += 40;
            }
            tx.send_message(0, b"end of stream").unwrap();
            let (got, _) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..got], b"end of stream");
        }
    }
}

#[test]
fn what_one_queue_sends_the_other_receives() {
    common::require_root!();
    // A bridge has no native XDP; its port takes the tag off before the bridge sees the packet.
    for (bridge, mode, vlans) in
        [(false, Mode::Native, &[None, Some(42)][..]), (true, Mode::Generic, &[None][..])]
    {
        for &vlan in vlans {
            let pair = Pair::with(1500, bridge);
            let destinations = [B4, B6, IpAddr::from([239, 1, 2, 3]), "ff15::1".parse().unwrap()];
            let (steer, mut rx) = pair.open_rx(&destinations);
            assert_eq!(steer.mode(), mode);
            let spec = TxSpec { vlan, ..pair.tx_spec(&destinations, Payload::pattern(), 1400) };
            let mut tx = pair.open_tx(&spec).unwrap();
            for round in 0..200 {
                let len = 18 + round as u16 * 3;
                let runs: Vec<_> = (0..4).map(|f| run(f, len, 12, round * 12)).collect();
                send(&mut tx, &runs);
                let seen = receive(&mut rx, 48);
                for (n, (destination, overhead, bytes)) in (0u64..).zip(&seen.0) {
                    let flow = &spec.flows[n as usize / 12];
                    assert_eq!(*destination, flow.destination);
                    let ip = if destination.is_ipv4() { 20 } else { 40 };
                    assert_eq!(*overhead, 14 + if vlan.is_some() { 4 } else { 0 } + ip + 8 + 4);
                    assert_eq!(bytes.len(), usize::from(len));
                    check(&spec.payload, bytes, flow.stream, round * 12 + n % 12);
                }
            }
            assert_eq!(rx.ignored(), 0);
            let mut losses = Vec::new();
            rx.losses(&mut losses);
            assert!(losses.iter().all(|l| l.packets == 0), "{losses:?}");
        }
    }
}

#[test]
fn what_a_kernel_socket_sends_is_received_and_all_else_passes() {
    common::require_root!();
    let pair = Pair::new(1500);
    let (_steer, mut rx) = pair.open_rx(&[B4]);
    let other = pair.b.run(|| UdpSocket::bind((B4, PORT + 1)).unwrap());
    other.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let socket = pair.a.run(|| UdpSocket::bind((A4, 0)).unwrap());
    for n in 0..100u8 {
        socket.send_to(&[n; 33], (B4, PORT)).unwrap();
    }
    for (n, (_, _, bytes)) in receive(&mut rx, 100).0.iter().enumerate() {
        assert_eq!(bytes[..], [n as u8; 33]);
    }
    socket.send_to(b"passes", (B4, PORT + 1)).unwrap();
    let mut buffer = [0; 10];
    assert_eq!(other.recv(&mut buffer).unwrap(), 6);
    assert_eq!(rx.poll(&mut Seen::default(), Wait::No).unwrap(), 0);
}

#[test]
fn jumbo_frames_take_several_descriptors() {
    common::require_root!();
    for bridge in [false, true] {
        let pair = Pair::with(9000, bridge);
        let spec = pair.tx_spec(&[B4], Payload::random(), 8972);
        let mut tx = pair.open_tx(&spec).unwrap();
        let socket = pair.b.run(|| UdpSocket::bind((B4, PORT)).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = vec![0; 9000];
        for len in [8972, 4054, 4055, 18, 8972] {
            send(&mut tx, &[run(0, len, 3, 0)]);
            for n in 0..3 {
                let got = socket.recv(&mut buffer).unwrap();
                assert_eq!(got, usize::from(len));
                check(&spec.payload, &buffer[..got], 0, n);
            }
        }
        let (_steer, mut rx) = pair.open_rx(&[B4]);
        for round in 0..1000 {
            let lens = [8972, 3798, 18, 3799, 8972];
            for len in lens {
                send(&mut tx, &[run(0, len, 4, round)]);
            }
            let seen = receive(&mut rx, 20);
            for (n, (_, _, bytes)) in seen.0.iter().enumerate() {
                assert_eq!(bytes.len(), usize::from(lens[n / 4]));
                check(&spec.payload, bytes, 0, round + n as u64 % 4);
            }
        }
    }
}

#[test]
fn the_longest_datagram_there_is() {
    common::require_root!();
    let pair = Pair::new(65_535);
    let socket = pair.b.run(|| UdpSocket::bind((B4, PORT)).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let spec = pair.tx_spec(&[B4], Payload::random(), 65_507);
    let mut tx = pair.open_tx(&spec).unwrap();
    send(&mut tx, &[run(0, 65_507, 1, 0)]);
    let mut buffer = vec![0; 65_535];
    let got = socket.recv(&mut buffer).unwrap();
    assert_eq!(got, 65_507);
    check(&spec.payload, &buffer[..got], 0, 0);
    let (_steer, mut rx) = pair.open_rx(&[B4]);
    for n in 0..100 {
        send(&mut tx, &[run(0, 65_507, 2, n)]);
        for (k, (_, _, bytes)) in (n..).zip(&receive(&mut rx, 2).0) {
            check(&spec.payload, bytes, 0, k);
        }
    }
}

#[test]
fn what_the_receiver_does_not_take_is_counted() {
    common::require_root!();
    let pair = Pair::new(1500);
    let (_steer, mut rx) = pair.open_rx(&[B4]);
    let mut tx = pair.open_tx(&pair.tx_spec(&[B4], Payload::zero(), 18)).unwrap();
    // More than the 8,192 frames that wait.
    const ROUNDS: u64 = 200;
    for round in 0..ROUNDS {
        send(&mut tx, &[run(0, 18, 60, round * 60)]);
    }
    let mut seen = Seen::default();
    while rx.poll(&mut seen, Wait::For(Duration::from_millis(200))).unwrap() > 0 {}
    let mut losses = Vec::new();
    rx.losses(&mut losses);
    let lost: u64 = losses.iter().map(|l| l.packets).sum();
    assert!(lost > 0);
    assert_eq!(seen.0.len() as u64 + lost, ROUNDS * 60);
}

#[test]
fn a_queue_is_free_again_at_once_and_a_busy_one_is_named() {
    common::require_root!();
    let pair = Pair::new(1500);
    let spec = pair.tx_spec(&[B4], Payload::zero(), 100);
    for _ in 0..5 {
        send(&mut pair.open_tx(&spec).unwrap(), &[run(0, 100, 10, 0)]);
    }
    let held = pair.open_tx(&spec).unwrap();
    let error = pair.open_tx(&spec).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Environment);
    assert!(error.what.contains("va queue 0: another AF_XDP socket"), "{error}");
    assert!(error.fix.is_some());
    // Let go while the next one is already trying.
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(held);
        });
        pair.open_tx(&spec).unwrap();
    });
}

#[test]
fn what_cannot_be_opened_is_said() {
    common::require_root!();
    let pair = Pair::new(1500);
    let spec = pair.tx_spec(&[B4], Payload::zero(), 100);
    let of = |spec: &TxSpec| pair.open_tx(spec).unwrap_err();
    let error = of(&TxSpec { max_payload: 1473, ..spec.clone() });
    assert!(error.what.contains("MTU of 1500") && error.fix.unwrap().contains("mtu 1501"));
    let error = of(&TxSpec { interface: None, ..spec.clone() });
    assert_eq!(error.kind, ErrorKind::Usage);
    let error = of(&TxSpec { queue: 7, ..spec.clone() });
    assert!(error.what.contains("va queue 7") && error.fix.unwrap().contains("ethtool -l va"));
    let nowhere = Interface { name: "nowhere0".into(), ..pair.va.clone() };
    let error = of(&TxSpec { interface: Some(nowhere), ..spec.clone() });
    assert!(error.what.contains("nowhere0: no such interface"), "{error}");
    ip(&pair.a, "link set va down");
    let error = of(&spec);
    assert_eq!(error.kind, ErrorKind::Environment);
    assert!(error.what.contains("is down") && error.fix.unwrap().contains("ip link set va up"));
}

/// Goes on with `step` until the queue says that its interface is gone.
fn until_gone(mut step: impl FnMut() -> Result<(), QueueError>) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match step() {
            Err(error) => {
                assert!(error.is_interface_gone(), "{error}");
                return;
            }
            Ok(()) => assert!(Instant::now() < deadline, "nothing was said"),
        }
    }
}

#[test]
fn an_interface_deleted_during_a_run_is_told() {
    common::require_root!();
    let pair = Pair::new(1500);
    let (_steer, mut rx) = pair.open_rx(&[B4]);
    let mut tx = pair.open_tx(&pair.tx_spec(&[B4], Payload::zero(), 100)).unwrap();
    send(&mut tx, &[run(0, 100, 10, 0)]);
    receive(&mut rx, 10);
    ip(&pair.a, "link delete va");
    until_gone(|| rx.poll(&mut Seen::default(), Wait::For(Duration::from_millis(20))).map(drop));
    until_gone(|| {
        tx.submit(&[run(0, 100, 10, 0)], &mut Stamper::new(5))?;
        tx.reap(Wait::No).map(drop)
    });
}

#[test]
fn packets_that_the_interface_refuses_are_failed_and_not_sent() {
    common::require_root!();
    let pair = Pair::new(1500);
    let mut tx = pair.open_tx(&pair.tx_spec(&[B4], Payload::zero(), 100)).unwrap();
    send(&mut tx, &[run(0, 100, 10, 0)]);
    // Without its peer the interface is up and has no carrier.
    ip(&pair.b, "link set vb down");
    assert_eq!(tx.submit(&[run(0, 100, 50, 10)], &mut Stamper::new(5)).unwrap(), 50);
    let mut failed = 0;
    while tx.in_flight() > 0 {
        let done = tx.reap(Wait::For(Duration::from_secs(1))).unwrap();
        assert_eq!(done.packets, 0);
        failed += done.failed;
    }
    failed += tx.reap(Wait::No).unwrap().failed;
    assert_eq!(failed, 50);
    assert!(tx.send_message(0, b"end").is_err());
}

#[test]
fn a_packet_that_loses_several_fragments_is_refused_once() {
    common::require_root!();
    let pair = Pair::new(1500);
    let spec = TxSpec { fragment: true, ..pair.tx_spec(&[B4], Payload::pattern(), 5000) };
    let mut tx = pair.open_tx(&spec).unwrap();
    let receiver = pair.b.run(|| UdpSocket::bind((B4, PORT)).unwrap());
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    send(&mut tx, &[run(0, 5000, 10, 0), run(0, 1000, 2, 10)]);
    let mut bytes = [0; 6000];
    for (sequence, len) in (0..12).map(|n| (n, if n < 10 { 5000 } else { 1000 })) {
        assert_eq!(receiver.recv(&mut bytes).unwrap(), len);
        check(&spec.payload, &bytes[..len], 0, sequence);
    }
    // Without its peer the interface is up and has no carrier: all four fragments of each are refused.
    ip(&pair.b, "link set vb down");
    let mut taken = 0;
    let mut failed = 0;
    while taken < 20 || tx.in_flight() > 0 {
        let rest = [run(0, 5000, 20 - taken, 12 + u64::from(taken))];
        taken += tx.submit(&rest[..usize::from(taken < 20)], &mut Stamper::new(5)).unwrap() as u16;
        let done = tx.reap(Wait::For(Duration::from_secs(1))).unwrap();
        assert_eq!(done.packets, 0);
        failed += done.failed;
    }
    failed += tx.reap(Wait::No).unwrap().failed;
    assert_eq!(failed, 20);
    assert!(tx.send_message(0, b"end").is_err());
}

/// The driver of a veth knows the function and has no NIC behind it.
#[test]
fn a_program_bound_to_its_device_asks_the_driver_when_the_nic_had_a_packet() {
    common::require_root!();
    let pair = Pair::new(1500);
    let at = |n| Comparison { device_ns: n, tai_ns: n, error_ns: 1 };
    let line = Follower::begin(at(1_000_000_000), at(2_000_000_000)).unwrap().line();
    let target = Target { scheme: Scheme::Udp, source: None, destination: (B4, PORT).into() };
    let spec = RxSpec {
        groups: 1,
        interface: Some(pair.vb.clone()),
        queue: 0,
        target,
        max_payload: 1472,
        segments: Segments::Auto,
        nic_clock: Some(Arc::new(Shared::new(line))),
        tuning: Tuning { kernel_stamps: true, ..Tuning::default() },
    };
    let (steer, mut rx) = pair.b.run(|| {
        let rx = AfxdpRx::open(&spec).unwrap();
        let mut steer = Steer::attach_asking_nic(&pair.vb, &[Rule::from(&target)]).unwrap();
        steer.set_socket(0, &rx.fd()).unwrap();
        (steer, rx)
    });
    assert!(steer.asks_nic() && steer.mode() == Mode::Native);
    let link = || {
        let output = pair.b.command("ip").args(["link", "show", "dev", "vb"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(link().contains("xdp"), "{}", link());
    // Another program is refused while it is there.
    let error = pair.b.run(|| Steer::attach_asking_nic(&pair.vb, &[])).unwrap_err();
    assert!(error.what.contains("vb: another XDP program is attached"), "{error}");
    let spec = pair.tx_spec(&[B4], Payload::pattern(), 100);
    let mut tx = pair.open_tx(&spec).unwrap();
    send(&mut tx, &[run(0, 100, 50, 0)]);
    for (n, (_, _, payload)) in (0..).zip(receive(&mut rx, 50).0) {
        check(&Payload::pattern(), &payload, 0, n);
    }
    assert_eq!(rx.stamps(), StampCounts { kernel: 50, ..StampCounts::default() });
    assert_eq!(steer.counts().unwrap().iter().map(|c| c.packets).max(), Some(50));
    drop(steer);
    assert!(!link().contains("xdp"), "{}", link());
}
