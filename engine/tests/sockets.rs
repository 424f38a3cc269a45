//! The socket queues over a veth pair between two network namespaces.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use wirerate_engine::multicast::membership::Membership;
use wirerate_engine::packet::probe::Probe;
use wirerate_engine::profile::payload::Payload;
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::queue::socket::{MmsgRx, MmsgTx, UringRx, UringTx};
use wirerate_engine::queue::spec::Interface;
use wirerate_engine::queue::{
    Flow, QueueError, QueueLoss, Receive, Run, RxMeta, RxSpec, Sink, Stamper, Transmit, Tuning, TxSpec, Wait,
};
use wirerate_engine::sys::netns::Netns;
use wirerate_engine::target::Target;

mod common;

const SECOND: Duration = Duration::from_secs(1);
/// How many packets a sender may be ahead of the receiver: fewer than a receive buffer holds.
const AHEAD: u64 = 20_000;

/// Two namespaces and the veth pair `v0` between them; the sender has two addresses of each version.
struct Pair {
    sender: Netns,
    receiver: Netns,
}

impl Pair {
    fn new() -> Self {
        let pair = Self { sender: Netns::new().unwrap(), receiver: Netns::new().unwrap() };
        // `ip` finds the other namespace by a process in it.
        let mut other = pair.receiver.command("sleep").arg("60").spawn().unwrap();
        ip(&pair.sender, &format!("link add v0 type veth peer name v0 netns {}", other.id()));
        other.kill().unwrap();
        other.wait().unwrap();
        ip(
            &pair.sender,
            "link set lo up\naddress add 10.0.0.1/24 dev v0\naddress add 10.0.0.2/24 dev v0\n\
             address add fd00::1/64 dev v0 nodad\naddress add fd00::2/64 dev v0 nodad\nlink set v0 up",
        );
        ip(
            &pair.receiver,
            "link set lo up\naddress add 10.0.0.9/24 dev v0\naddress add fd00::9/64 dev v0 nodad\nlink set v0 up",
        );
        // No packet of a test waits for address resolution.
        let mac = pair.receiver.run(|| interface().mac.map(|b| format!("{b:02x}")).join(":"));
        ip(
            &pair.sender,
            &format!(
                "neigh replace 10.0.0.9 lladdr {mac} dev v0 nud permanent\n\
                 neigh replace fd00::9 lladdr {mac} dev v0 nud permanent"
            ),
        );
        pair.wait_for_ipv6();
        pair
    }

    /// For up to a second after a link came up the kernel has no route for IPv6 groups and drops what arrives.
    fn wait_for_ipv6(&self) {
        let words = ["ip", "-6", "route", "show", "table", "local", "type", "multicast", "dev", "v0"];
        let ready =
            || [&self.sender, &self.receiver].iter().all(|ns| feed(ns, &words, "").contains("ff00::/8"));
        while !ready() {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn ip(netns: &Netns, script: &str) {
    feed(netns, &["ip", "-batch", "-"], script);
}

/// Runs a program inside and returns what it says.
fn feed(netns: &Netns, words: &[&str], input: &str) -> String {
    let mut child = netns
        .command(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{words:?} {input}");
    String::from_utf8(output.stdout).unwrap()
}

/// `v0` as seen by the calling thread.
fn interface() -> Interface {
    let index = nix::net::if_::if_nametoindex("v0").unwrap();
    let mac = nix::ifaddrs::getifaddrs()
        .unwrap()
        .filter(|entry| entry.interface_name == "v0")
        .find_map(|entry| entry.address?.as_link_addr()?.addr())
        .unwrap();
    Interface { name: "v0".into(), index, mac, mtu: 1500 }
}

fn flow(stream: u16, source: &str, destination: SocketAddr) -> Flow {
    let source: IpAddr = source.parse().unwrap();
    Flow { stream, source: SocketAddr::new(source, 0), destination, destination_mac: [0; 6] }
}

fn tx_spec(flows: Vec<Flow>) -> TxSpec {
    TxSpec {
        interface: Some(interface()),
        queue: 0,
        flows,
        ttl: 7,
        dscp: 46,
        fragment: false,
        vlan: None,
        rtp: None,
        iperf2: false,
        payload: Arc::new(Payload::Pattern),
        max_payload: 1400,
        segments: Segments::Auto,
        txtime: None,
        tuning: Tuning::default(),
    }
}

fn rx_spec(target: &str) -> RxSpec {
    RxSpec {
        interface: Some(interface()),
        queue: 0,
        target: target.parse().unwrap(),
        groups: 1,
        max_payload: 1400,
        segments: Segments::Auto,
        nic_clock: None,
        tuning: Tuning::default(),
    }
}

/// Demands consecutive numbers of one source, and tells how far it is.
struct InOrder<'a> {
    next: &'a AtomicU64,
    source: IpAddr,
}

impl Sink for InOrder<'_> {
    fn run(&mut self, meta: &RxMeta, buf: &[u8], stride: usize, count: usize) {
        assert_eq!(meta.source.ip(), self.source);
        let mut next = self.next.load(Ordering::Relaxed);
        assert_eq!(buf.chunks(stride).count(), count);
        for packet in buf.chunks(stride) {
            assert_eq!(Probe::parse(packet).unwrap().sequence, next);
            next += 1;
        }
        self.next.store(next, Ordering::Relaxed);
    }
}

/// Lets the sender run to its end when the receiver has failed.
struct FreeOnPanic<'a>(&'a AtomicU64);

impl Drop for FreeOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(u64::MAX / 2, Ordering::Relaxed);
        }
    }
}

/// Sends `count` packets of flow `flow`, keeping the distance to what has arrived.
fn send(tx: &mut impl Transmit, flow: u16, count: u64, arrived: Option<&AtomicU64>) -> (u64, u64) {
    let mut stamper = Stamper::new(1);
    let (mut taken, mut packets, mut failed) = (0, 0, 0);
    while packets + failed < count {
        if arrived.is_some_and(|arrived| taken > arrived.load(Ordering::Relaxed) + AHEAD) {
            thread::yield_now();
            continue;
        }
        let most = tx.caps().batch.into();
        let run = Run { flow, len: 64, count: (count - taken).min(most) as u16, first_seq: taken };
        taken += tx.submit(&[run], &mut stamper).unwrap() as u64;
        let done = tx.reap(Wait::For(SECOND)).unwrap();
        packets += done.packets;
        failed += done.failed;
    }
    (packets, failed)
}

fn all_arrive<T: Transmit, R: Receive>(
    pair: &Pair,
    target: &str,
    source: &str,
    open_tx: impl Fn(&TxSpec) -> T + Sync,
    open_rx: impl Fn(&RxSpec) -> R + Sync,
) {
    const PACKETS: u64 = 100_000;
    let destination = target.parse::<Target>().unwrap().destination;
    let (tell_ready, ready) = mpsc::channel();
    let arrived = AtomicU64::new(0);
    let (arrived, open_tx, open_rx) = (&arrived, &open_tx, &open_rx);
    thread::scope(|scope| {
        scope.spawn(move || {
            pair.receiver.enter().unwrap();
            let mut rx = open_rx(&rx_spec(target));
            tell_ready.send(()).unwrap();
            let _free = FreeOnPanic(arrived);
            let mut sink = InOrder { next: arrived, source: source.parse().unwrap() };
            while arrived.load(Ordering::Relaxed) < PACKETS {
                let taken = rx.poll(&mut sink, Wait::For(20 * SECOND)).unwrap();
                assert!(taken > 0, "{target}: {arrived:?} arrived");
            }
            let mut losses = vec![];
            rx.losses(&mut losses);
            assert_eq!(losses, [QueueLoss { place: "socket", reason: "SOCKET_RCVBUFF", packets: 0 }]);
        });
        scope.spawn(move || {
            pair.sender.enter().unwrap();
            let mut tx = open_tx(&tx_spec(vec![flow(3, source, destination)]));
            ready.recv().expect("the receiver opens");
            assert_eq!(send(&mut tx, 0, PACKETS, Some(arrived)), (PACKETS, 0));
        });
    });
}

#[test]
fn a_hundred_thousand_packets_arrive_in_order() {
    common::require_root!();
    let pair = Pair::new();
    for (target, source) in [
        ("10.0.0.9:5001", "10.0.0.1"),
        ("239.1.2.3:5001", "10.0.0.2"),
        ("[fd00::9]:5001", "fd00::1"),
        ("[ff15::1]:5001", "fd00::2"),
        ("[ff12::1]:5001", "fd00::2"),
    ] {
        for segments in [Segments::Auto, Segments::Off, Segments::Exactly(3)] {
            let tx = |s: &TxSpec| TxSpec { segments, ..s.clone() };
            let rx = |s: &RxSpec| RxSpec { segments, ..s.clone() };
            all_arrive(
                &pair,
                target,
                source,
                |s| UringTx::open(&tx(s)).unwrap(),
                |s| UringRx::open(&rx(s)).unwrap(),
            );
            all_arrive(
                &pair,
                target,
                source,
                |s| MmsgTx::open(&tx(s)).unwrap(),
                |s| MmsgRx::open(&rx(s)).unwrap(),
            );
        }
        // Buffers of the sender's that the receiver's kernel takes apart.
        let one_by_one = |s: &RxSpec| RxSpec { segments: Segments::Off, ..s.clone() };
        all_arrive(
            &pair,
            target,
            source,
            |s| UringTx::open(s).unwrap(),
            |s| MmsgRx::open(&one_by_one(s)).unwrap(),
        );
        all_arrive(
            &pair,
            target,
            source,
            |s| MmsgTx::open(s).unwrap(),
            |s| UringRx::open(&one_by_one(s)).unwrap(),
        );
    }
}

#[test]
fn a_slow_link_holds_a_sender_back_and_reorders_nothing() {
    common::require_root!();
    let pair = Pair::new();
    // The queueing discipline sends from the sender's CPU and from its timer's, and veth without NAPI has a queue for each
    // CPU: the pair itself would reorder. With UDP GRO forwarding it has one ring.
    feed(&pair.receiver, &["ethtool", "-K", "v0", "gro", "on", "rx-udp-gro-forwarding", "on"], "");
    // The queue holds more than a send buffer, so that the socket is what fills up.
    feed(
        &pair.sender,
        &["tc", "-batch", "-"],
        "qdisc add dev v0 root tbf rate 200mbit burst 20kb limit 100mb\n",
    );
    let (target, source) = ("10.0.0.9:5001", "10.0.0.1");
    all_arrive(&pair, target, source, |s| UringTx::open(s).unwrap(), |s| MmsgRx::open(s).unwrap());
    all_arrive(&pair, target, source, |s| MmsgTx::open(s).unwrap(), |s| UringRx::open(s).unwrap());
}

/// Counts by source address.
#[derive(Default)]
struct BySource(Vec<(IpAddr, u64)>);

impl Sink for BySource {
    fn run(&mut self, meta: &RxMeta, _: &[u8], _: usize, packets: usize) {
        match self.0.iter_mut().find(|(source, _)| *source == meta.source.ip()) {
            Some((_, count)) => *count += packets as u64,
            None => self.0.push((meta.source.ip(), packets as u64)),
        }
    }
}

/// Flow 0 sends what must not arrive, flow 1 afterwards what must.
fn only_the_second<R: Receive>(
    pair: &Pair,
    target: &str,
    flows: &(dyn Fn() -> Vec<Flow> + Sync),
    open: impl Fn(&RxSpec) -> R + Sync,
) {
    let (tell_ready, ready) = mpsc::channel();
    let open = &open;
    thread::scope(|scope| {
        scope.spawn(move || {
            pair.receiver.enter().unwrap();
            let mut rx = open(&rx_spec(target));
            tell_ready.send(()).unwrap();
            let mut sink = BySource::default();
            while sink.0.iter().all(|(_, count)| *count < 500) {
                assert!(rx.poll(&mut sink, Wait::For(10 * SECOND)).unwrap() > 0, "{target}: {:?}", sink.0);
            }
            assert_eq!(sink.0.len(), 1, "{target}: {:?}", sink.0);
            assert_eq!(sink.0[0].0, flows()[1].source.ip(), "{target}");
            // Everything else was sent before; nothing more has come.
            assert_eq!(rx.poll(&mut sink, Wait::No).unwrap(), 0);
        });
        scope.spawn(move || {
            pair.sender.enter().unwrap();
            let mut tx = MmsgTx::open(&tx_spec(flows())).unwrap();
            ready.recv().expect("the receiver opens");
            assert_eq!(send(&mut tx, 0, 500, None), (500, 0));
            assert_eq!(send(&mut tx, 1, 500, None), (500, 0));
        });
    });
}

#[test]
fn of_two_sources_only_the_joined_one_arrives() {
    common::require_root!();
    let pair = Pair::new();
    for (group, joined, other) in
        [("232.1.1.1:5001", "10.0.0.1", "10.0.0.2"), ("[ff3e::8000:1]:5001", "fd00::1", "fd00::2")]
    {
        let to: SocketAddr = group.parse().unwrap();
        let flows = || vec![flow(0, other, to), flow(1, joined, to)];
        let target =
            format!("udp://{}@{group}", if to.is_ipv6() { format!("[{joined}]") } else { joined.into() });
        only_the_second(&pair, &target, &flows, |s| UringRx::open(s).unwrap());
        only_the_second(&pair, &target, &flows, |s| MmsgRx::open(s).unwrap());
    }
}

#[test]
fn other_groups_on_the_port_do_not_arrive() {
    common::require_root!();
    let pair = Pair::new();
    for (wanted, other, source) in
        [("239.1.1.1:5001", "239.1.1.2:5001", "10.0.0.1"), ("[ff15::1]:5001", "[ff15::2]:5001", "fd00::1")]
    {
        // The host is a member of both.
        let _member = pair.receiver.run(|| Membership::join(&interface(), &other.parse().unwrap()).unwrap());
        let second = if source == "fd00::1" { "fd00::2" } else { "10.0.0.2" };
        let flows =
            || vec![flow(0, source, other.parse().unwrap()), flow(1, second, wanted.parse().unwrap())];
        only_the_second(&pair, wanted, &flows, |s| UringRx::open(s).unwrap());
        only_the_second(&pair, wanted, &flows, |s| MmsgRx::open(s).unwrap());
    }
}

#[test]
fn ttl_and_dscp_are_in_the_packets() {
    common::require_root!();
    let pair = Pair::new();
    feed(
        &pair.receiver,
        &["nft", "-f", "-"],
        "table inet t { chain c { type filter hook input priority 0;
           ip ttl 7 ip dscp 46 udp dport 5001 counter
           ip6 hoplimit 7 ip6 dscp 46 udp dport 5001 counter\n}\n}",
    );
    pair.sender.run(|| {
        for (to, source) in [("10.0.0.9:5001", "10.0.0.1"), ("[fd00::9]:5001", "fd00::1")] {
            let spec = tx_spec(vec![flow(0, source, to.parse().unwrap())]);
            // The filter counts buffers.
            let spec = TxSpec { segments: Segments::Off, ..spec };
            assert_eq!(send(&mut MmsgTx::open(&spec).unwrap(), 0, 10, None), (10, 0));
            assert_eq!(send(&mut UringTx::open(&spec).unwrap(), 0, 10, None), (10, 0));
        }
    });
    let list = || feed(&pair.receiver, &["nft", "list", "ruleset"], "");
    let mut listing = list();
    // The last packets may still be in the receiver's backlog.
    for _ in 0..500 {
        if listing.matches("packets 20 ").count() == 2 {
            break;
        }
        thread::sleep(Duration::from_millis(20));
        listing = list();
    }
    assert_eq!(listing.matches("packets 20 ").count(), 2, "{listing}");
}

#[test]
fn a_firewall_of_this_host_makes_failed_packets() {
    common::require_root!();
    let pair = Pair::new();
    feed(
        &pair.sender,
        &["nft", "-f", "-"],
        "table inet t { chain c { type filter hook output priority 0; udp dport 5001 counter drop\n}\n}",
    );
    pair.sender.run(|| {
        let spec = tx_spec(vec![flow(0, "10.0.0.1", "10.0.0.9:5001".parse().unwrap())]);
        assert_eq!(send(&mut MmsgTx::open(&spec).unwrap(), 0, 300, None), (0, 300));
        assert_eq!(send(&mut UringTx::open(&spec).unwrap(), 0, 300, None), (0, 300));
    });
}

#[test]
fn a_closed_port_on_the_far_side_does_not_stop_a_sender() {
    common::require_root!();
    let pair = Pair::new();
    pair.sender.run(|| {
        for (to, source) in [("10.0.0.9:5001", "10.0.0.1"), ("[fd00::9]:5001", "fd00::1")] {
            let spec = tx_spec(vec![flow(0, source, to.parse().unwrap())]);
            assert_eq!(send(&mut MmsgTx::open(&spec).unwrap(), 0, 20_000, None), (20_000, 0));
            assert_eq!(send(&mut UringTx::open(&spec).unwrap(), 0, 20_000, None), (20_000, 0));
        }
    });
}

/// Goes on sending until the queue breaks.
fn until_broken(tx: &mut impl Transmit) -> QueueError {
    let mut stamper = Stamper::new(1);
    for first_seq in 0..10_000 {
        if let Err(error) = tx.submit(&[Run { flow: 0, len: 64, count: 1, first_seq }], &mut stamper) {
            return error;
        }
        if let Err(error) = tx.reap(Wait::No) {
            return error;
        }
    }
    panic!("it goes on without its interface");
}

#[test]
fn an_interface_that_goes_down_or_away_is_noticed() {
    common::require_root!();
    for change in ["link set v0 down", "link delete v0"] {
        let pair = Pair::new();
        for (to, source) in
            [("10.0.0.9:5001", "10.0.0.1"), ("239.1.2.3:5001", "10.0.0.1"), ("[fd00::9]:5001", "fd00::1")]
        {
            pair.sender.run(|| {
                ip(&pair.sender, "link set v0 up");
                let _ = feed(&pair.sender, &["sh", "-c", "ip address replace fd00::1/64 dev v0 nodad"], "");
                let spec = tx_spec(vec![flow(0, source, to.parse().unwrap())]);
                let (mut mmsg, mut uring) = (MmsgTx::open(&spec).unwrap(), UringTx::open(&spec).unwrap());
                let rx = MmsgRx::open(&rx_spec("239.1.2.3:5001")).unwrap();
                let rx_uring = UringRx::open(&rx_spec("239.1.2.3:5001")).unwrap();
                assert_eq!(send(&mut mmsg, 0, 64, None), (64, 0));
                assert_eq!(send(&mut uring, 0, 64, None), (64, 0));
                ip(&pair.sender, change);
                for error in [until_broken(&mut mmsg), until_broken(&mut uring)] {
                    assert!(error.is_interface_gone(), "{change}, {to}: {error}");
                }
                let gone = change.contains("delete");
                assert_eq!(mmsg.interface_gone(), gone);
                assert_eq!(uring.interface_gone(), gone);
                assert_eq!(rx.interface_gone(), gone);
                assert_eq!(rx_uring.interface_gone(), gone);
            });
            if change.contains("delete") {
                break;
            }
        }
    }
}

#[test]
fn what_is_wrong_with_the_interface_is_said() {
    common::require_root!();
    let pair = Pair::new();
    pair.sender.run(|| {
        let group: SocketAddr = "239.1.2.3:5001".parse().unwrap();
        let error = |spec: &TxSpec| UringTx::open(spec).err().unwrap().to_string();

        let spec = TxSpec { max_payload: 1473, ..tx_spec(vec![flow(0, "0.0.0.0", group)]) };
        let text = error(&spec);
        assert!(text.contains("it is 1500") && text.contains("ip link set dev v0 mtu 1501"), "{text}");
        UringTx::open(&TxSpec { max_payload: 1472, ..spec }).unwrap();

        let text = error(&TxSpec { interface: None, ..tx_spec(vec![flow(0, "0.0.0.0", group)]) });
        assert!(text.contains("no route leads to 239.1.2.3: name the interface"), "{text}");
        let text =
            MmsgRx::open(&RxSpec { interface: None, ..rx_spec("239.1.2.3:5001") }).unwrap_err().to_string();
        assert!(text.contains("no route leads to 239.1.2.3: name the interface"), "{text}");

        ip(&pair.sender, "link set v0 multicast off");
        let text =
            Membership::join(&interface(), &"239.1.2.3:5001".parse().unwrap()).unwrap_err().to_string();
        assert!(text.contains("ip link set dev v0 multicast on"), "{text}");

        ip(&pair.sender, "address flush dev v0");
        let text = error(&tx_spec(vec![flow(0, "0.0.0.0", group)]));
        assert!(text.contains("address"), "{text}");

        ip(&pair.sender, "link set v0 down");
        let text = error(&tx_spec(vec![flow(0, "0.0.0.0", group)]));
        assert!(text.contains("v0 is down") && text.contains("ip link set dev v0 up"), "{text}");
    });
}
