//! Both backends over the loopback interface, without privileges.
#![forbid(unsafe_code)]

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::setup::{RECEIVE_BUFFER, any_like};
use super::*;
use crate::error::Kind;
use crate::packet::probe::Probe;
use crate::profile::payload::Payload;
use crate::profile::segments::Segments;
use crate::queue::spec::Interface;
use crate::queue::{Flow, Receive, Run, RxMeta, RxSpec, Sink, Stamper, Transmit, Tuning, TxSpec, Wait};
use crate::target::Target;

fn loopback() -> Interface {
    Interface { name: "lo".into(), index: 1, mac: [0; 6], mtu: 65536 }
}

fn tx_spec(destination: SocketAddr, interface: Option<Interface>) -> TxSpec {
    let flow = Flow { stream: 7, source: any_like(destination), destination, destination_mac: [0; 6] };
    TxSpec {
        interface,
        queue: 0,
        flows: vec![flow],
        ttl: 1,
        dscp: 0,
        fragment: false,
        vlan: None,
        rtp: None,
        iperf2: false,
        payload: Arc::new(Payload::Pattern),
        max_payload: 1000,
        segments: Segments::Auto,
        txtime: None,
        tuning: Tuning::default(),
    }
}

/// Every datagram by itself.
fn one_by_one(spec: RxSpec) -> RxSpec {
    RxSpec { segments: Segments::Off, ..spec }
}

fn rx_spec(target: &str, interface: Option<Interface>) -> RxSpec {
    RxSpec {
        interface,
        queue: 0,
        target: target.parse().unwrap(),
        groups: 1,
        max_payload: 1000,
        segments: Segments::Auto,
        nic_clock: None,
        tuning: Tuning::default(),
    }
}

/// A port that nobody has at the moment.
fn free_port(address: &str) -> u16 {
    UdpSocket::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

/// Demands consecutive sequence numbers and our payload.
#[derive(Default)]
struct InOrder {
    next: u64,
    meta: Option<RxMeta>,
}

impl Sink for InOrder {
    fn run(&mut self, meta: &RxMeta, buf: &[u8], stride: usize, count: usize) {
        assert_eq!(buf.len().div_ceil(stride), count);
        for packet in buf.chunks(stride) {
            let probe = Probe::parse(packet).unwrap();
            assert_eq!((probe.stream, probe.sequence), (7, self.next));
            assert!(packet[18..].starts_with(b"0123456789"));
            self.next += 1;
        }
        self.meta = Some(*meta);
    }
}

/// Counts whatever comes.
#[derive(Default)]
struct Count(u64);

impl Sink for Count {
    fn run(&mut self, _: &RxMeta, _: &[u8], _: usize, count: usize) {
        self.0 += count as u64;
    }
}

/// Sends numbers from `first` on until `count` packets have a known fate.
fn send(tx: &mut impl Transmit, first: u64, count: u64) -> (u64, u64) {
    let mut stamper = Stamper::new(1);
    let (mut taken, mut packets, mut failed) = (0, 0, 0);
    while packets + failed < count {
        let run = Run { flow: 0, len: 100, count: (count - taken).min(64) as u16, first_seq: first + taken };
        taken += tx.submit(&[run], &mut stamper).unwrap() as u64;
        let done = tx.reap(Wait::For(Duration::from_millis(100))).unwrap();
        packets += done.packets;
        failed += done.failed;
    }
    assert_eq!((taken, tx.in_flight()), (count, 0));
    (packets, failed)
}

fn receive(rx: &mut impl Receive, sink: &mut impl Sink) {
    while rx.poll(sink, Wait::For(Duration::from_millis(100))).unwrap() > 0 {}
}

fn exchange(mut tx: impl Transmit, mut rx: impl Receive, to: SocketAddr) {
    let mut sink = InOrder::default();
    for turn in 0..40 {
        assert_eq!(send(&mut tx, turn * 250, 250), (250, 0));
        while sink.next < (turn + 1) * 250 {
            let taken = rx.poll(&mut sink, Wait::For(Duration::from_secs(10))).unwrap();
            assert!(taken > 0, "{to}: {} arrived", sink.next);
        }
    }
    let meta = sink.meta.unwrap();
    assert_eq!(meta.destination.port(), to.port());
    assert_eq!(meta.destination.ip(), to.ip());
    assert_eq!(meta.source.is_ipv6(), to.is_ipv6());
    assert_eq!(meta.overhead, if to.is_ipv6() { 66 } else { 46 });
    tx.send_message(0, b"the end").unwrap();
    let mut rest = Count::default();
    while rest.0 == 0 {
        rx.poll(&mut rest, Wait::For(Duration::from_secs(10))).unwrap();
    }
    let mut losses = vec![];
    rx.losses(&mut losses);
    assert_eq!(losses, [QueueLoss { place: "socket", reason: "SOCKET_RCVBUFF", packets: 0 }]);
}

#[test]
fn every_backend_to_every_other_in_order() {
    available().unwrap();
    for (bind, group, interface) in [
        ("127.0.0.1", None, None),
        ("127.0.0.1", None, Some(loopback())),
        ("::1", None, None),
        ("127.0.0.1", Some("239.1.2.3"), Some(loopback())),
    ] {
        let to = SocketAddr::new(group.unwrap_or(bind).parse().unwrap(), free_port(bind));
        let tx = tx_spec(to, interface.clone());
        let rx = rx_spec(&to.to_string(), interface);
        exchange(MmsgTx::open(&tx).unwrap(), MmsgRx::open(&rx).unwrap(), to);
        exchange(MmsgTx::open(&tx).unwrap(), UringRx::open(&rx).unwrap(), to);
        exchange(UringTx::open(&tx).unwrap(), MmsgRx::open(&rx).unwrap(), to);
        exchange(UringTx::open(&tx).unwrap(), UringRx::open(&rx).unwrap(), to);
    }
}

#[test]
fn the_destination_is_known_on_an_unspecified_address() {
    let to = SocketAddr::new("127.0.0.1".parse().unwrap(), free_port("127.0.0.1"));
    let any = rx_spec(&format!("0.0.0.0:{}", to.port()), None);
    exchange(MmsgTx::open(&tx_spec(to, None)).unwrap(), MmsgRx::open(&any).unwrap(), to);
    exchange(MmsgTx::open(&tx_spec(to, None)).unwrap(), UringRx::open(&any).unwrap(), to);
    let to = SocketAddr::new("::1".parse().unwrap(), free_port("::1"));
    let any = rx_spec(&format!("[::]:{}", to.port()), None);
    exchange(UringTx::open(&tx_spec(to, None)).unwrap(), MmsgRx::open(&any).unwrap(), to);
    exchange(UringTx::open(&tx_spec(to, None)).unwrap(), UringRx::open(&any).unwrap(), to);
}

#[test]
fn a_ring_of_buffers_that_runs_dry_is_armed_again() {
    let to = SocketAddr::new("127.0.0.1".parse().unwrap(), free_port("127.0.0.1"));
    let mut rx = UringRx::with_sizes(&one_by_one(rx_spec(&to.to_string(), None)), RECEIVE_BUFFER, 8).unwrap();
    let mut tx = MmsgTx::open(&tx_spec(to, None)).unwrap();
    let mut sink = InOrder::default();
    // Armed before anything arrives, so that the request and not the first look finds the packets.
    assert_eq!(rx.poll(&mut sink, Wait::No).unwrap(), 0);
    for turn in 0..5 {
        send(&mut tx, turn * 100, 100);
        while sink.next < (turn + 1) * 100 {
            assert!(rx.poll(&mut sink, Wait::For(Duration::from_secs(10))).unwrap() <= 8);
        }
    }
    assert!(rx.ran_dry() > 0);
    let mut losses = vec![];
    rx.losses(&mut losses);
    assert_eq!(losses[0].packets, 0, "a dry ring loses nothing");
}

/// Has the socket overflow; `of_buffer` packets are what it counts as one.
fn overflow(rx: &mut impl Receive, to: SocketAddr, of_buffer: u64) {
    let mut tx = MmsgTx::open(&tx_spec(to, None)).unwrap();
    let mut got = Count::default();
    assert_eq!(rx.poll(&mut got, Wait::No).unwrap(), 0);
    assert_eq!(send(&mut tx, 0, 5000), (5000, 0));
    receive(rx, &mut got);
    let mut losses = vec![];
    rx.losses(&mut losses);
    assert!(losses[0].packets > 0);
    assert_eq!(losses[0].packets, (5000 - got.0).div_ceil(of_buffer));
}

#[test]
fn what_overflows_the_socket_is_counted_exactly() {
    let to = SocketAddr::new("127.0.0.1".parse().unwrap(), free_port("127.0.0.1"));
    let spec = rx_spec(&to.to_string(), None);
    let single = one_by_one(spec.clone());
    overflow(&mut MmsgRx::with_buffer(&single, 64 << 10).unwrap(), to, 1);
    overflow(&mut UringRx::with_sizes(&single, 64 << 10, 64).unwrap(), to, 1);
    // The sender hands over 64 at a time.
    overflow(&mut MmsgRx::with_buffer(&spec, 64 << 10).unwrap(), to, 64);
    overflow(&mut UringRx::with_sizes(&spec, 64 << 10, 16).unwrap(), to, 64);
}

#[test]
fn a_closed_port_does_not_stop_a_sender() {
    let to = SocketAddr::new("127.0.0.1".parse().unwrap(), free_port("127.0.0.1"));
    assert_eq!(send(&mut MmsgTx::open(&tx_spec(to, None)).unwrap(), 0, 1000), (1000, 0));
    assert_eq!(send(&mut UringTx::open(&tx_spec(to, None)).unwrap(), 0, 1000), (1000, 0));
}

#[test]
fn runs_of_several_flows_in_one_batch() {
    let receivers: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let mut spec = tx_spec(receivers[0].local_addr().unwrap(), None);
    spec.flows = receivers
        .iter()
        .zip(0..)
        .map(|(socket, stream)| Flow { stream, destination: socket.local_addr().unwrap(), ..spec.flows[0] })
        .collect();
    spec.payload = Arc::new(Payload::File((0..=255).collect()));
    let check = |tx: &mut dyn FnMut(&[Run], &mut Stamper) -> usize| {
        let runs = [0u16, 1, 2, 0].map(|flow| Run {
            flow,
            len: 100 + flow,
            count: 20,
            first_seq: u64::from(flow) * 1000,
        });
        assert_eq!(tx(&runs, &mut Stamper::new(1)), 80);
        for (flow, count) in [(0, 40), (1, 20), (2, 20)] {
            let mut buffer = [0; 200];
            for n in 0..count {
                let len = receivers[flow].recv(&mut buffer).unwrap();
                assert_eq!(len, 100 + flow);
                let probe = Probe::parse(&buffer[..len]).unwrap();
                assert_eq!(usize::from(probe.stream), flow);
                // The second run of flow 0 starts with its number again.
                assert_eq!(probe.sequence, flow as u64 * 1000 + if n < 20 { n } else { n - 20 });
                let mut body = vec![0; len - 18];
                spec.payload.fill(probe.sequence, &mut body);
                assert_eq!(buffer[18..len], body);
            }
        }
    };
    let mut tx = MmsgTx::open(&spec).unwrap();
    check(&mut |runs, stamper| tx.submit(runs, stamper).unwrap());
    let mut tx = UringTx::open(&spec).unwrap();
    check(&mut |runs, stamper| tx.submit(runs, stamper).unwrap());
    assert_eq!(tx.reap(Wait::No).unwrap().packets, 80);
}

#[test]
fn no_packet_costs_more_room_than_is_reckoned() {
    let receiver = socket2::Socket::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    let to = receiver.local_addr().unwrap();
    for len in [18, 100, 300, 600, 1000, 1472, 4000, 8972, 16000, 30000, 60000] {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(&vec![0; usize::from(len)], to.as_socket().unwrap()).unwrap();
        // The same buffer, now charged to the receiver.
        let charged = sys::socket::memory(receiver.as_fd()).unwrap()[libc::SK_MEMINFO_RMEM_ALLOC as usize];
        assert!(i64::from(charged) <= uring::cost(len, 1), "{len}: {charged}");
        let mut buffer = [std::mem::MaybeUninit::uninit(); 1];
        receiver.recv(&mut buffer).unwrap();
    }
}

#[test]
fn no_buffer_of_several_costs_more_room_than_is_reckoned() {
    let address = format!("127.0.0.1:{}", free_port("127.0.0.1"));
    for (len, count) in [(18, 2), (18, 128), (64, 128), (500, 3), (500, 128), (1000, 65)] {
        let rx = MmsgRx::open(&rx_spec(&address, None)).unwrap();
        let mut tx = MmsgTx::open(&tx_spec(address.parse().unwrap(), None)).unwrap();
        let run = Run { flow: 0, len, count, first_seq: 0 };
        // Longer payloads could be in one buffer by the number of them, and not by the 64 KiB.
        let taken = tx.submit(&[run], &mut Stamper::new(1)).unwrap();
        assert_eq!(taken, usize::from(count));
        let charged = rx.charged();
        let buffers = if count > 65 { 2 } else { 1 };
        assert!(i64::from(charged) <= buffers * uring::cost(len, count.min(65)), "{len} {count}: {charged}");
    }
}

#[test]
fn what_is_wrong_is_said_with_what_mends_it() {
    let port = free_port("127.0.0.1");
    let to = |text: &str| SocketAddr::new(text.parse().unwrap(), port);
    let send = |spec: &TxSpec| {
        let error = MmsgTx::open(spec).unwrap_err();
        assert_eq!(UringTx::open(spec).err().unwrap().to_string(), error.to_string());
        assert!(error.fix.is_some(), "{error}");
        (error.kind, error.to_string())
    };
    let has = |(kind, text): (Kind, String), expected: Kind, says: &str| {
        assert_eq!(kind, expected, "{text}");
        assert!(text.contains(says), "{text}");
    };

    let gone = Interface { name: "nix0".into(), index: 0x7fff_fff0, ..loopback() };
    has(send(&tx_spec(to("127.0.0.1"), Some(gone))), Kind::Environment, "nix0: no such interface");
    has(send(&tx_spec(to("127.255.255.255"), None)), Kind::Usage, "broadcast");
    has(send(&tx_spec(to("fe80::1"), None)), Kind::Usage, "link-local");
    let mut spec = tx_spec(to("127.0.0.1"), None);
    spec.flows[0].source = "192.0.2.77:0".parse().unwrap();
    has(send(&spec), Kind::Environment, "192.0.2.77 is not");
    has(send(&TxSpec { max_payload: 65535, ..tx_spec(to("::1"), None) }), Kind::Usage, "MTU");
    has(send(&TxSpec { ttl: 0, ..tx_spec(to("::1"), None) }), Kind::Usage, "TTL");
    has(send(&TxSpec { dscp: 64, ..tx_spec(to("::1"), None) }), Kind::Usage, "DSCP");

    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut spec = tx_spec(to("127.0.0.1"), None);
    spec.flows[0].source = address;
    has(send(&spec), Kind::Environment, "another program has port");
    let error = MmsgRx::open(&rx_spec(&address.to_string(), None)).unwrap_err();
    has((error.kind, error.to_string()), Kind::Environment, "another program has 127.0.0.1");
    let error = UringRx::open(&rx_spec("192.0.2.77:5001", None)).err().unwrap();
    has((error.kind, error.to_string()), Kind::Environment, "192.0.2.77 is not");
}

#[test]
fn several_receivers_share_a_group_and_not_a_unicast_port() {
    let port = free_port("127.0.0.1");
    let group: Target = format!("239.1.2.4:{port}").parse().unwrap();
    let spec = RxSpec { target: group, ..rx_spec("127.0.0.1:1", Some(loopback())) };
    let (mut a, mut b) = (MmsgRx::open(&spec).unwrap(), UringRx::open(&spec).unwrap());
    let mut tx = UringTx::open(&tx_spec(group.destination, Some(loopback()))).unwrap();
    send(&mut tx, 0, 100);
    let (mut by_a, mut by_b) = (Count::default(), Count::default());
    receive(&mut a, &mut by_a);
    receive(&mut b, &mut by_b);
    assert_eq!((by_a.0, by_b.0), (100, 100));
    let unicast = rx_spec(&format!("127.0.0.1:{port}"), None);
    let _first = MmsgRx::open(&unicast).unwrap();
    assert!(MmsgRx::open(&unicast).is_err());
}

/// Keeps the lengths.
#[derive(Default)]
struct Lengths(Vec<usize>);

impl Sink for Lengths {
    fn run(&mut self, _: &RxMeta, buf: &[u8], stride: usize, count: usize) {
        assert_eq!((stride, count), (buf.len(), 1));
        self.0.push(stride);
    }
}

fn odd_sizes(rx: &mut impl Receive, to: SocketAddr) {
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut lengths = Lengths::default();
    for len in [0, 1, 0, 1000, 1001, 5000, 0] {
        sender.send_to(&[0; 5000][..len], to).unwrap();
    }
    while lengths.0.len() < 7 {
        assert!(rx.poll(&mut lengths, Wait::For(Duration::from_secs(10))).unwrap() > 0);
    }
    assert_eq!(lengths.0, [0, 1, 0, 1000, 1000, 1000, 0]);
}

#[test]
fn empty_datagrams_count_and_long_ones_are_cut() {
    let to = SocketAddr::new("127.0.0.1".parse().unwrap(), free_port("127.0.0.1"));
    let spec = one_by_one(rx_spec(&to.to_string(), None));
    odd_sizes(&mut MmsgRx::open(&spec).unwrap(), to);
    odd_sizes(&mut UringRx::open(&spec).unwrap(), to);
}

#[test]
fn the_drop_counter_wraps() {
    let mut drops = SocketDrops::default();
    drops.advance(u32::MAX - 1);
    drops.advance(3);
    assert_eq!(drops.total, u64::from(u32::MAX) - 1 + 5);
}

#[test]
fn a_receive_buffer_is_granted_and_told() {
    let to = format!("127.0.0.1:{}", free_port("127.0.0.1"));
    let rx = MmsgRx::open(&rx_spec(&to, None)).unwrap();
    let least = setup::unprivileged_receive_buffer().unwrap().min(RECEIVE_BUFFER);
    assert!(rx.receive_buffer() >= least, "{} < {least}", rx.receive_buffer());
}
