//! Buffers of several packets: what the wire sees of them, and what happens when they are refused in mid-run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wirerate_engine::lab::{Host, INTERFACE, Lab};
use wirerate_engine::packet::probe::{LEN, Probe};
use wirerate_engine::profile::payload::Payload;
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::queue::socket::offload::Offload;
use wirerate_engine::queue::socket::{MmsgRx, MmsgTx, UringRx, UringTx};
use wirerate_engine::queue::{
    Flow, Receive, Run, RxMeta, RxSpec, Sink, Stamper, Transmit, Tuning, TxSpec, Wait,
};

mod common;

const TARGET: &str = "10.77.0.11:5001";

fn tx_spec(payload: &Arc<Payload>, max_payload: u16) -> TxSpec {
    let flow = Flow {
        stream: 0,
        source: "10.77.0.1:0".parse().unwrap(),
        destination: TARGET.parse::<SocketAddr>().unwrap(),
        destination_mac: [0; 6],
    };
    TxSpec {
        interface: None,
        queue: 0,
        flows: vec![flow],
        ttl: 1,
        dscp: 0,
        fragment: false,
        vlan: None,
        rtp: None,
        iperf2: false,
        payload: Arc::clone(payload),
        max_payload,
        segments: Segments::Auto,
        txtime: None,
        tuning: Tuning::default(),
    }
}

fn rx_spec() -> RxSpec {
    RxSpec {
        interface: None,
        queue: 0,
        target: TARGET.parse().unwrap(),
        groups: 1,
        max_payload: 65_507,
        segments: Segments::Auto,
        nic_clock: None,
        tuning: Tuning::default(),
    }
}

/// Demands consecutive numbers and every byte of the payload; notes the length of each packet and how many came together.
struct Checked {
    payload: Arc<Payload>,
    next: u64,
    lengths: Vec<usize>,
    longest: usize,
}

impl Checked {
    fn new(payload: &Arc<Payload>) -> Self {
        Self { payload: Arc::clone(payload), next: 0, lengths: vec![], longest: 0 }
    }
}

impl Sink for Checked {
    fn run(&mut self, _: &RxMeta, buf: &[u8], stride: usize, count: usize) {
        assert_eq!(buf.len().div_ceil(stride), count);
        self.longest = self.longest.max(count);
        for packet in buf.chunks(stride) {
            assert_eq!(Probe::parse(packet).unwrap().sequence, self.next);
            assert!(self.payload.matches(self.next, &packet[LEN..]), "packet {}", self.next);
            self.lengths.push(packet.len());
            self.next += 1;
        }
    }
}

/// Sends `count` packets of `len` bytes from number `first` on; how many were taken and how many refused.
fn send(tx: &mut impl Transmit, len: u16, count: u16, first: u64) -> (u64, u64) {
    let mut stamper = Stamper::new(1);
    let (mut taken, mut packets, mut failed) = (0, 0, 0);
    let begin = Instant::now();
    while packets + failed < u64::from(count) {
        assert!(begin.elapsed() < Duration::from_secs(30), "{packets} sent, {failed} refused of {count}");
        let run = Run { flow: 0, len, count: count - taken, first_seq: first + u64::from(taken) };
        if run.count > 0 {
            taken += tx.submit(&[run], &mut stamper).unwrap() as u16;
        }
        let done = tx.reap(Wait::For(Duration::from_millis(1))).unwrap();
        packets += done.packets;
        failed += done.failed;
    }
    assert_eq!(tx.in_flight(), 0);
    (packets, failed)
}

fn receive(rx: &mut impl Receive, sink: &mut Checked, until: u64) {
    while sink.next < until {
        assert!(rx.poll(sink, Wait::For(Duration::from_secs(10))).unwrap() > 0, "{} of {until}", sink.next);
    }
}

/// Opens both ends and lets `test` use them, the sender in its namespace.
fn with<T: Transmit, R: Receive>(
    lab: &Lab,
    spec: &TxSpec,
    open_tx: impl Fn(&TxSpec) -> (T, Offload) + Sync,
    open_rx: impl Fn(&RxSpec) -> R + Sync,
    test: impl Fn(&mut T, &Offload, &mut R) + Sync,
) {
    // A socket belongs to its namespace wherever it is used.
    lab.receivers[0].netns.run(|| {
        let mut rx = open_rx(&rx_spec());
        lab.sender.netns.enter().unwrap();
        let (mut tx, offload) = open_tx(spec);
        test(&mut tx, &offload, &mut rx);
    });
}

fn mmsg(spec: &TxSpec) -> (MmsgTx, Offload) {
    let tx = MmsgTx::open(spec).unwrap();
    let offload = tx.offload();
    (tx, offload)
}

fn uring(spec: &TxSpec) -> (UringTx, Offload) {
    let tx = UringTx::open(spec).unwrap();
    let offload = tx.offload();
    (tx, offload)
}

fn run(host: &Host, line: &str) -> String {
    let output = host.command("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Buffers of data that the receiver's host has seen.
fn seen(host: &Host) -> u64 {
    let listing = run(host, "nft list table inet seen");
    listing.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

fn every_length<T: Transmit, R: Receive>(tx: &mut T, rx: &mut R, host: &Host, payload: &Arc<Payload>) {
    run(
        host,
        "nft 'add table inet seen; flush table inet seen; add chain inet seen c { type filter hook input priority 0; }; \
         add rule inet seen c udp dport 5001 counter'",
    );
    let mut sink = Checked::new(payload);
    let (mut lengths, mut first) = (vec![], 0);
    for (count, len) in (1..=128).zip((18..).step_by(3)) {
        assert_eq!(send(tx, len, count, first), (count.into(), 0));
        lengths.extend(std::iter::repeat_n(usize::from(len), count.into()));
        first += u64::from(count);
        receive(rx, &mut sink, first);
    }
    assert_eq!(sink.lengths, lengths);
    assert_eq!(sink.longest, 128);
    assert_eq!(seen(host), 128, "one buffer for each run");
}

#[test]
fn one_to_a_hundred_and_twenty_eight_packets_are_one_buffer() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    for payload in [Payload::Pattern, Payload::File((0..=250).collect())].map(Arc::new) {
        let spec = tx_spec(&payload, 500);
        with(
            &lab,
            &spec,
            mmsg,
            |s| MmsgRx::open(s).unwrap(),
            |tx, _, rx| every_length(tx, rx, host, &payload),
        );
        with(
            &lab,
            &spec,
            uring,
            |s| UringRx::open(s).unwrap(),
            |tx, _, rx| {
                every_length(tx, rx, host, &payload);
            },
        );
    }
}

/// Packets as before, then with `change` on the sender's host, then after `undo`; what offload says at the end.
fn refused_in_mid_run<T: Transmit, R: Receive>(
    lab: &Lab,
    tx: &mut T,
    rx: &mut R,
    change: &str,
    undo: &str,
    refused: u64,
) {
    let payload = Arc::new(Payload::Pattern);
    let mut sink = Checked::new(&payload);
    assert_eq!(send(tx, 1000, 2000, 0), (2000, 0));
    receive(rx, &mut sink, 2000);
    assert!(sink.longest > 1);
    run(&lab.sender, change);
    sink.longest = 0;
    assert_eq!(send(tx, 1000, 2000, 2000), (2000 - refused, refused));
    sink.next += refused;
    receive(rx, &mut sink, 4000);
    assert!(sink.longest <= 1, "none together");
    run(&lab.sender, undo);
    assert_eq!(send(tx, 1000, 2000, 4000), (2000, 0));
    receive(rx, &mut sink, 6000);
}

#[test]
fn a_filter_that_refuses_long_buffers_turns_segmentation_off_and_loses_nothing() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let change = "nft 'add table inet f; add chain inet f c { type filter hook output priority 0; }; \
                  add rule inet f c meta length > 1500 counter drop'";
    let undo = "nft 'delete table inet f'";
    let spec = tx_spec(&Arc::new(Payload::Pattern), 1000);
    let check = |offload: &Offload| {
        assert_eq!(offload.refused().unwrap().raw_os_error(), Some(libc::EPERM));
        assert_eq!(offload.segments(), 65, "what was granted before");
    };
    with(
        &lab,
        &spec,
        mmsg,
        |s| MmsgRx::open(s).unwrap(),
        |tx, offload, rx| {
            refused_in_mid_run(&lab, tx, rx, change, undo, 0);
            check(offload);
        },
    );
    with(
        &lab,
        &spec,
        uring,
        |s| UringRx::open(s).unwrap(),
        |tx, offload, rx| {
            refused_in_mid_run(&lab, tx, rx, change, undo, 0);
            check(offload);
        },
    );
}

#[test]
fn an_mtu_below_the_packets_is_no_refusal_of_segmentation() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let mtu = |mtu: u32| format!("ip link set dev {INTERFACE} mtu {mtu}");
    let (change, undo) = (mtu(1000), mtu(1500));
    let spec = tx_spec(&Arc::new(Payload::Pattern), 1000);
    with(
        &lab,
        &spec,
        mmsg,
        |s| MmsgRx::open(s).unwrap(),
        |tx, offload, rx| {
            refused_in_mid_run(&lab, tx, rx, &change, &undo, 2000);
            assert!(offload.refused().is_none());
        },
    );
    with(
        &lab,
        &spec,
        uring,
        |s| UringRx::open(s).unwrap(),
        |tx, offload, rx| {
            refused_in_mid_run(&lab, tx, rx, &change, &undo, 2000);
            assert!(offload.refused().is_none());
        },
    );
}

#[test]
fn what_waits_in_a_queue_is_not_written_again() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    // Buffers that were not copied lie there for up to some 80 ms, while new ones are made. Longer ones would be cut.
    run(&lab.sender, &format!("tc qdisc add dev {INTERFACE} root tbf rate 400mbit burst 256kb limit 64mb"));
    let payload = Arc::new(Payload::File((0..=250).collect()));
    with(
        &lab,
        &tx_spec(&payload, 1000),
        uring,
        |s| UringRx::open(s).unwrap(),
        |tx, _, rx| {
            let mut sink = Checked::new(&payload);
            // Of two sizes: the payloads, too, are written again.
            for (turn, len) in (0..8).zip([1000, 700].into_iter().cycle()) {
                assert_eq!(send(tx, len, 1500, turn * 1500), (1500, 0));
            }
            receive(rx, &mut sink, 12_000);
            assert!(sink.longest > 1);
        },
    );
}
