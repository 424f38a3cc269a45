//! The eBPF program `generate`, run by run: what it writes, when, and how many.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use wirerate_engine::clock;
use wirerate_engine::error::Kind as ErrorKind;
use wirerate_engine::generate::kernel::{Generator, Pace};
use wirerate_engine::packet::ethernet::Ethernet;
use wirerate_engine::packet::frame::parse_udp;
use wirerate_engine::packet::probe::{self, Kind, Probe, unwrap40};
use wirerate_engine::packet::udp::{Checksum, verify};
use wirerate_engine::packet::{checksum, frame};
use wirerate_engine::profile::payload::Payload;
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::queue::spec::{Flow, Interface};
use wirerate_engine::queue::{Tuning, TxSpec};

mod common;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const NEXT_HOP: [u8; 6] = [2, 0, 0, 0, 0, 2];
const RUN: u32 = 0x00ab_cdef;

fn flow(stream: u16, ipv6: bool) -> Flow {
    let (source, destination): (IpAddr, IpAddr) = if ipv6 {
        ("fd00::1".parse().unwrap(), "ff15::1:2".parse().unwrap())
    } else {
        ([10, 0, 0, 1].into(), [239, 1, 2, 3].into())
    };
    Flow {
        stream,
        source: SocketAddr::new(source, 49_152 + stream),
        destination: SocketAddr::new(destination, 5001 + stream),
        destination_mac: NEXT_HOP,
    }
}

fn spec(flows: Vec<Flow>, vlan: Option<u16>, payload: Payload, length: u16) -> TxSpec {
    // No packet leaves in a dry run, so that the interface need not be there.
    let interface = Interface { name: "none".to_owned(), index: 4242, mac: MAC, mtu: 1500 };
    TxSpec {
        interface: Some(interface),
        queue: 0,
        flows,
        ttl: 7,
        dscp: 46,
        fragment: false,
        vlan,
        rtp: None,
        iperf2: false,
        payload: Arc::new(payload),
        max_payload: length,
        segments: Segments::Auto,
        txtime: None,
        tuning: Tuning::default(),
    }
}

fn loaded(spec: &TxSpec, pace: Pace) -> Generator {
    Generator::load(spec, RUN, pace).unwrap()
}

/// A buffer as a forwarding host might have left it: all that a header may be is overwritten.
fn used(generator: &Generator) -> Vec<u8> {
    let mut buffer = generator.frame().to_vec();
    let headers = parse_udp(&buffer).expect("a datagram").payload.start;
    buffer[..headers + probe::LEN].fill(0xa5);
    buffer
}

/// Checks everything in the packet but when it was made; its stream, sequence number and time.
fn checked(packet: &[u8], spec: &TxSpec) -> (u16, u64, u64) {
    let found = parse_udp(packet).expect("a whole datagram with a right IPv4 checksum");
    let payload = &packet[found.payload.clone()];
    let probe = Probe::parse(payload).expect("a probe header with the one sum");
    assert_eq!((probe.kind, probe.run), (Kind::Data, RUN));
    let flow = spec.flows.iter().find(|flow| flow.stream == probe.stream).expect("one of its streams");
    assert_eq!((found.source, found.destination), (flow.source, flow.destination));
    let (ethernet, ip_at) = Ethernet::parse(packet).unwrap();
    assert_eq!((ethernet.destination, ethernet.source, ethernet.vlan), (NEXT_HOP, MAC, spec.vlan));
    let (version, dscp, ttl) = match packet[ip_at] >> 4 {
        4 => {
            assert_eq!(checksum::fold(checksum::sum(&packet[ip_at..ip_at + 20])), 0xffff, "IPv4 header");
            (4, packet[ip_at + 1] >> 2, packet[ip_at + 8])
        }
        _ => (6, packet[ip_at] << 4 >> 2 | packet[ip_at + 1] >> 6, packet[ip_at + 7]),
    };
    assert_eq!((version == 6, dscp, ttl), (flow.destination.is_ipv6(), spec.dscp, spec.ttl));
    let datagram = &packet[found.payload.start - 8..found.payload.end];
    assert_eq!(verify(found.source.ip(), found.destination.ip(), datagram), Checksum::Good);
    assert_eq!(payload.len(), usize::from(spec.max_payload));
    assert!(spec.payload.matches(probe.sequence, &payload[probe::LEN..]));
    (probe.stream, probe.sequence, probe.time)
}

#[test]
fn every_kind_of_packet_is_whole_in_a_used_buffer() {
    common::require_root!();
    for ipv6 in [false, true] {
        for vlan in [None, Some(7)] {
            for (payload, length) in [
                (Payload::pattern(), 18),
                (Payload::random(), 19),
                (Payload::zero(), 100),
                (Payload::random(), 2900),
            ] {
                let spec = spec(vec![flow(3, ipv6)], vlan, payload, length);
                let mut generator = loaded(&spec, Pace::default());
                let buffer = used(&generator);
                let mut reading = None;
                for wanted in 0..10 {
                    let before = clock::tai_ns();
                    let packet = generator.dry_run(&buffer).unwrap().expect("there is no pace");
                    let after = clock::tai_ns();
                    let (stream, sequence, time) = checked(&packet, &spec);
                    assert_eq!((stream, sequence), (3, wanted));
                    let time = unwrap40(time, before);
                    if wanted % 8 == 0 {
                        assert!((before..=after).contains(&time), "{before} {time} {after}");
                        reading = Some(time);
                    }
                    assert_eq!(Some(time), reading, "eight share a reading");
                }
            }
        }
    }
}

#[test]
fn the_checksum_is_right_at_every_time_and_for_every_stream() {
    common::require_root!();
    // Time is what changes most of the header's sum; a thousand readings of the clock are a thousand different sums.
    let streams = [0, 1, 0x00ff, 0xff00, 0xffff - 49_152, 9_999];
    for ipv6 in [false, true] {
        let spec = spec(streams.iter().map(|&s| flow(s % 10_000, ipv6)).collect(), None, Payload::zero(), 18);
        let mut generator = loaded(&spec, Pace::default());
        let buffer = used(&generator);
        for _ in 0..1000 {
            checked(&generator.dry_run(&buffer).unwrap().unwrap(), &spec);
        }
    }
}

#[test]
fn runs_and_streams_are_what_they_are_in_user_space() {
    common::require_root!();
    let config = Config { cases: 30, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(0..=probe::MAX_RUN, any::<u16>()), |(run, stream)| {
            let flow = Flow { stream, ..flow(0, false) };
            let spec = spec(vec![flow], None, Payload::pattern(), 64);
            let mut generator = Generator::load(&spec, run, Pace::default()).unwrap();
            let buffer = used(&generator);
            let packet = generator.dry_run(&buffer).unwrap().unwrap();
            let found = parse_udp(&packet).unwrap();
            let probe = Probe::parse(&packet[found.payload.clone()]).unwrap();
            prop_assert_eq!((probe.run, probe.stream, probe.sequence), (run, stream, 0));
            let template =
                frame::FrameTemplate::new(&flow, MAC, frame::Marks::from(&spec), &spec.payload, 64).unwrap();
            let mut wanted = template.frame().to_vec();
            probe.emit(&mut wanted[template.payload()]);
            prop_assert_eq!(packet, wanted);
            Ok(())
        })
        .unwrap();
}

#[test]
fn streams_take_turns() {
    common::require_root!();
    let streams = [4, 9, 2];
    let spec = spec(streams.iter().map(|&s| flow(s, false)).collect(), None, Payload::pattern(), 18);
    let mut generator = loaded(&spec, Pace { limit: Some(8), ..Pace::default() });
    let buffer = used(&generator);
    for k in 0..8 {
        let packet = generator.dry_run(&buffer).unwrap().unwrap();
        let (stream, sequence, _) = checked(&packet, &spec);
        assert_eq!((stream, sequence), (streams[k % 3], (k / 3) as u64));
    }
    for _ in 0..3 {
        assert_eq!(generator.dry_run(&buffer).unwrap(), None, "the limit");
    }
    let progress = generator.counts().unwrap().progress;
    assert_eq!((progress.issued, progress.ended), (8, 1));
    assert!(progress.first_ns > 0 && progress.first_ns <= progress.last_ns);
}

#[test]
fn what_is_not_due_is_not_sent_and_has_no_number() {
    common::require_root!();
    let spec = spec(vec![flow(0, false)], None, Payload::pattern(), 18);
    // The second packet is due in seventeen minutes.
    let mut slow = loaded(&spec, Pace { pps: Some(0.001), ..Pace::default() });
    let buffer = used(&slow);
    assert!(slow.dry_run(&buffer).unwrap().is_some(), "the first is due at once");
    for _ in 0..10 {
        assert_eq!(slow.dry_run(&buffer).unwrap(), None);
    }
    let progress = slow.counts().unwrap().progress;
    assert_eq!((progress.issued, progress.sequence, progress.ended), (1, 1, 0));
    assert_eq!(progress.due_ns - progress.first_ns, 1_000_000_000_000);
    // Every one is due when the program gets to it.
    let mut fast = loaded(&spec, Pace { pps: Some(1e9), ..Pace::default() });
    for wanted in 0..10 {
        let packet = fast.dry_run(&buffer).unwrap().expect("due");
        assert_eq!(checked(&packet, &spec).1, wanted);
    }
}

#[test]
fn the_pace_is_kept_to_fractions_of_a_nanosecond() {
    common::require_root!();
    let spec = spec(vec![flow(0, false)], None, Payload::pattern(), 18);
    // 3 packets in 1000 ns: after 300 packets exactly 100,000 ns have been planned, less than a ns off.
    let mut generator = loaded(&spec, Pace { pps: Some(3e6), ..Pace::default() });
    let buffer = used(&generator);
    while generator.counts().unwrap().progress.issued < 300 {
        generator.dry_run(&buffer).unwrap();
    }
    let progress = generator.counts().unwrap().progress;
    assert!((99_999..=100_000).contains(&(progress.due_ns - progress.first_ns)), "{progress:?}");
}

#[test]
fn it_ends_when_the_time_is_up() {
    common::require_root!();
    let spec = spec(vec![flow(0, false)], None, Payload::pattern(), 18);
    let duration = Some(Duration::from_millis(20));
    let mut generator = loaded(&spec, Pace { duration, ..Pace::default() });
    let buffer = used(&generator);
    // It counts from the first packet.
    std::thread::sleep(Duration::from_millis(30));
    for _ in 0..8 {
        assert!(generator.dry_run(&buffer).unwrap().is_some());
    }
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(generator.dry_run(&buffer).unwrap(), None);
    let progress = generator.counts().unwrap().progress;
    assert_eq!((progress.ended, progress.issued), (1, 8));
}

#[test]
fn what_it_cannot_make_is_said() {
    common::require_root!();
    for (payload, length, word) in [
        (Payload::File(b"abc".to_vec()), 100, "--payload-file"),
        (Payload::pattern(), 3031, "3077 bytes with FCS"),
        (Payload::pattern(), 9000, "frames of up to 3076"),
    ] {
        let spec = spec(vec![flow(0, false)], None, payload, length);
        let error = Generator::load(&spec, RUN, Pace::default()).err().expect("refused");
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.what.contains(word) && error.fix.is_some(), "{error}");
    }
    loaded(&spec(vec![flow(0, false)], None, Payload::pattern(), 3030), Pace::default());
}
