//! What leaves in fragments is put together again by the letter of RFC 791 and RFC 8200, and has to be what was sent.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use crate::packet::checksum::{fold, sum};
use crate::packet::ethernet::{self, Ethernet};
use crate::packet::ip::{V4_LEN, V6_LEN};
use crate::packet::probe::{Kind, Probe};
use crate::packet::udp::{self, Checksum};
use crate::profile::payload::Payload;
use crate::profile::segments::Segments;
use crate::profile::size::Framing;
use crate::queue::memory::{Fate, MemoryTx, pair_with};
use crate::queue::spec::Interface;
use crate::queue::{Flow, Run, Stamper, Transmit, Tuning, TxSpec, Wait};

type Frames = Arc<Mutex<Vec<Vec<u8>>>>;

fn spec(ipv6: bool, mtu: u32, payload: Payload, max_payload: u16) -> TxSpec {
    let (source, destination) =
        if ipv6 { ("[2001:db8::1]:1000", "[ff15::1]:5001") } else { ("192.0.2.1:1000", "239.1.2.3:5001") };
    let flow = |stream| Flow {
        stream,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        destination_mac: [1, 0, 0x5e, 1, 2, 3],
    };
    TxSpec {
        interface: Some(Interface { name: "none".into(), index: 1, mac: [2, 0, 0, 0, 0, 9], mtu }),
        queue: 0,
        flows: vec![flow(7), flow(8)],
        ttl: 3,
        dscp: 46,
        fragment: true,
        txtime: None,
        vlan: None,
        rtp: None,
        iperf2: false,
        payload: Arc::new(payload),
        max_payload,
        segments: Segments::Auto,
        tuning: Tuning::default(),
    }
}

/// A queue, and all frames that left by it.
fn queue(spec: &TxSpec) -> (MemoryTx, Frames) {
    let frames = Frames::default();
    let seen = Arc::clone(&frames);
    let note = move |frame: &[u8]| {
        seen.lock().unwrap().push(frame.to_vec());
        Fate::Drop
    };
    (pair_with(spec, note).unwrap().0, frames)
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// What one fragment says: identification, offset, whether others follow; and its bytes.
fn fragment(frame: &[u8], mtu: usize) -> (u32, usize, bool, &[u8]) {
    assert!(frame.len() >= ethernet::MIN_LEN);
    let (ethernet, at) = Ethernet::parse(frame).unwrap();
    let packet = &frame[at..];
    if ethernet.ethertype == ethernet::IPV4 {
        let total = usize::from(word(packet, 2));
        assert!(total <= mtu, "{total} bytes over an MTU of {mtu}");
        assert_eq!(fold(sum(&packet[..V4_LEN])), 0xffff, "IPv4 header checksum");
        assert_eq!(packet[9], 17);
        let flags = word(packet, 6);
        assert_eq!(flags & 0xc000, 0, "it may be cut again");
        let offset = usize::from(flags & 0x1fff) * 8;
        (u32::from(word(packet, 4)), offset, flags & 0x2000 != 0, &packet[V4_LEN..total])
    } else {
        let end = V6_LEN + usize::from(word(packet, 4));
        assert!(end <= mtu, "{end} bytes over an MTU of {mtu}");
        assert_eq!((packet[6], packet[V6_LEN], packet[V6_LEN + 1]), (44, 17, 0));
        let offset = word(packet, V6_LEN + 2);
        let identification = packet[V6_LEN + 4..V6_LEN + 8].try_into().unwrap();
        (
            u32::from_be_bytes(identification),
            usize::from(offset & !7),
            offset & 1 != 0,
            &packet[V6_LEN + 8..end],
        )
    }
}

/// Puts the fragments of one datagram together; also returns their identification.
fn put_together(frames: &[Vec<u8>], mtu: u32) -> (u32, Vec<u8>) {
    let (identification, ..) = fragment(&frames[0], mtu as usize);
    let mut datagram = vec![];
    for (n, frame) in frames.iter().enumerate() {
        let (id, offset, more, bytes) = fragment(frame, mtu as usize);
        assert_eq!((id, offset, more), (identification, datagram.len(), n + 1 < frames.len()));
        assert!(!more || bytes.len() % 8 == 0);
        datagram.extend_from_slice(bytes);
    }
    (identification, datagram)
}

/// Sends `count` packets in one run, and checks all that left: in how many frames, and with what inside.
fn round_trip(
    spec: &TxSpec,
    tx: &mut MemoryTx,
    frames: &Frames,
    flow: u16,
    len: u16,
    first_seq: u64,
    count: u16,
) {
    let mtu = spec.interface.as_ref().unwrap().mtu;
    let run = Run { flow, len, count, first_seq };
    assert_eq!(tx.submit(&[run], &mut Stamper::new(5)).unwrap(), usize::from(count));
    let done = tx.reap(Wait::No).unwrap();
    assert_eq!((done.packets, done.failed, tx.in_flight()), (u64::from(count), 0, 0));
    let flow = &spec.flows[usize::from(flow)];
    let framing = Framing { ipv6: flow.destination.is_ipv6(), vlan: spec.vlan.is_some(), mtu: Some(mtu) };
    let wire = framing.wire(len);
    let frames = std::mem::take(&mut *frames.lock().unwrap());
    assert!(frames.iter().all(|f| Ethernet::parse(f).unwrap().0.vlan == spec.vlan));
    let bytes: u64 = frames.iter().map(|f| f.len() as u64 + 4).sum();
    assert_eq!(frames.len() as u64, wire.frames * u64::from(count));
    assert_eq!(bytes, wire.bytes * u64::from(count), "what is counted is what leaves");
    let mut identifications = BTreeSet::new();
    for (datagram, sequence) in frames.chunks(wire.frames as usize).zip(first_seq..) {
        let whole = if wire.frames > 1 {
            let (identification, whole) = put_together(datagram, mtu);
            identifications.insert(identification);
            whole
        } else {
            let found = crate::packet::frame::parse_udp(&datagram[0]).expect("a whole datagram");
            datagram[0][found.payload.start - udp::HEADER_LEN..found.payload.end].to_vec()
        };
        let ends: [IpAddr; 2] = [flow.source.ip(), flow.destination.ip()];
        assert_eq!(udp::verify(ends[0], ends[1], &whole), Checksum::Good, "packet {sequence}");
        let payload = &whole[udp::HEADER_LEN..];
        assert_eq!(payload.len(), usize::from(len));
        let Probe { kind, stream, sequence: number, run, .. } = Probe::parse(payload).unwrap();
        assert_eq!((kind, stream, number, run), (Kind::Data, flow.stream, sequence, 5));
        assert!(spec.payload.matches(sequence, &payload[18..]), "body of {sequence}");
    }
    assert_eq!(identifications.len(), if wire.frames > 1 { usize::from(count) } else { 0 });
}

#[test]
fn sizes_on_the_border() {
    for ipv6 in [false, true] {
        let around = if ipv6 { 48 } else { 28 };
        for mtu in [1280u32, 1500, 9000] {
            let whole = mtu as u16 - around;
            let spec = spec(ipv6, mtu, Payload::pattern(), 65_507);
            let (mut tx, frames) = queue(&spec);
            // Twice each, and of two flows: what a frame held before must not show.
            for round in 0..4u64 {
                for len in [whole, whole + 1, whole - 1, 2000, 65_507, 18] {
                    round_trip(&spec, &mut tx, &frames, (round % 2) as u16, len, round * 10, 3);
                }
            }
        }
    }
}

#[test]
fn the_longest_over_ipv6_and_the_smallest_mtu() {
    let longest = spec(true, 1500, Payload::random(), 65_527);
    let (mut tx, frames) = queue(&longest);
    round_trip(&longest, &mut tx, &frames, 0, 65_527, 9, 2);
    let smallest = spec(false, 68, Payload::pattern(), 65_507);
    let (mut tx, frames) = queue(&smallest);
    round_trip(&smallest, &mut tx, &frames, 0, 65_507, 9, 1);
}

#[test]
fn a_full_ring_takes_what_it_can_and_goes_on() {
    let spec = spec(false, 1500, Payload::pattern(), 65_507);
    let (mut tx, frames) = queue(&spec);
    // 64 packets of 45 fragments are more than all frames.
    let run = Run { flow: 0, len: 65_507, count: 64, first_seq: 0 };
    let mut taken = 0;
    while taken < 64 {
        let rest = Run { count: 64 - taken, first_seq: u64::from(taken), ..run };
        let now = tx.submit(&[rest], &mut Stamper::new(5)).unwrap();
        assert!(now > 0);
        taken += now as u16;
        tx.reap(Wait::No).unwrap();
    }
    assert_eq!(tx.in_flight(), 0);
    let frames = frames.lock().unwrap();
    assert_eq!(frames.len(), 64 * 45);
    for (datagram, sequence) in frames.chunks(45).zip(0..) {
        let (_, whole) = put_together(datagram, 1500);
        assert_eq!(Probe::parse(&whole[8..]).unwrap().sequence, sequence);
    }
}

#[test]
fn messages_and_whole_packets_between_fragments_are_counted_apart() {
    let spec = spec(false, 1500, Payload::pattern(), 3000);
    let (mut tx, _) = queue(&spec);
    let runs = [(18, 5), (3000, 4), (1472, 3)].map(|(len, count)| Run { flow: 0, len, count, first_seq: 0 });
    for _ in 0..500 {
        assert_eq!(tx.submit(&runs, &mut Stamper::new(5)).unwrap(), 12);
        tx.send_message(1, &[3; 50]).unwrap();
        let done = tx.reap(Wait::No).unwrap();
        assert_eq!((done.packets, done.failed, tx.in_flight()), (12, 0, 0));
    }
}

proptest! {
    #[test]
    fn any_size_over_any_mtu(
        ipv6: bool, mtu in 68u32..10_000, lens in prop::collection::vec(18u16..=65_507, 1..4), which in 0usize..3,
        vlan in prop::option::of(0u16..4095),
    ) {
        let mtu = if ipv6 { mtu.max(1280) } else { mtu };
        let payloads: [Payload; 3] =
            [Payload::pattern(), Payload::random(), Payload::File((0..=250).collect())];
        let spec = TxSpec { vlan, ..spec(ipv6, mtu, payloads[which].clone(), 65_507) };
        let (mut tx, frames) = queue(&spec);
        for (n, len) in lens.into_iter().enumerate() {
            round_trip(&spec, &mut tx, &frames, 0, len, n as u64, 1);
        }
    }
}
