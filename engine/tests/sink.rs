//! The sinks' programs by test runs: what they take, and that they count as the engine does.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use wirerate_engine::measure::sequence::{Tracker, When};
use wirerate_engine::measure::tally::{RxCounters, StreamTally};
use wirerate_engine::observe::sink::{Program, STREAMS, WINDOW, stream_tally};
use wirerate_engine::packet::probe::{End, Kind, LEN, MESSAGE_LEN, Message, Probe};
use wirerate_engine::queue::afxdp::steer::{Rule, Verdict};

mod common;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PORT: u16 = 5001;
const RUN: u32 = 0x12_3456;

/// Bytes in front of the payload: Ethernet, IPv4, UDP.
const HEADERS: usize = 42;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Xdp,
    Tc,
}

const WAYS: [Way; 2] = [Way::Xdp, Way::Tc];

fn rule(destination: impl Into<IpAddr>) -> Rule {
    Rule { destination: SocketAddr::new(destination.into(), PORT), source: None }
}

fn loaded() -> Program {
    Program::load(&[rule(GROUP)]).unwrap()
}

/// A frame to [`GROUP`] around `payload`.
fn frame(payload: &[u8]) -> Vec<u8> {
    frame_to(SOURCE, PORT, payload)
}

fn frame_to(source: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADERS];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&(28 + payload.len() as u16).to_be_bytes());
    frame[23] = 17;
    frame[26..30].copy_from_slice(&source.octets());
    frame[30..34].copy_from_slice(&GROUP.octets());
    frame[34..36].copy_from_slice(&40_000_u16.to_be_bytes());
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    frame[38..40].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    frame.extend(payload);
    frame
}

/// A payload of `length` bytes: number `sequence` of `stream`, sent now.
fn data(stream: u16, sequence: u64, length: usize) -> Vec<u8> {
    let mut payload = vec![0xa5; length];
    let time = wirerate_engine::clock::tai_ns();
    Probe { kind: Kind::Data, run: RUN, stream, sequence, time }.emit(&mut payload);
    payload
}

fn message(stream: u16, sequence: u64, end: End) -> Vec<u8> {
    let mut payload = vec![0; MESSAGE_LEN];
    Message { end, ..Message::default() }.emit(&mut payload);
    Probe { kind: Kind::End, run: RUN, stream, sequence, time: 0 }.emit(&mut payload);
    payload
}

fn took(program: &mut Program, way: Way, frame: &[u8]) -> bool {
    match way {
        Way::Xdp => program.dry_run_xdp(frame, 1),
        Way::Tc => program.dry_run_tc(frame, 0, 1),
    }
    .unwrap()
    .0
}

fn feed(program: &mut Program, way: Way, payload: &[u8]) {
    assert!(took(program, way, &frame(payload)), "{way:?}");
}

fn only(program: &Program) -> StreamTally {
    let streams = program.streams().unwrap();
    assert_eq!(streams.len(), 1);
    stream_tally(&streams[0], 0)
}

/// Sum over all CPUs: foreign, untracked, negative latencies, latencies.
fn shares(program: &Program) -> (u64, u64, u64, u64) {
    let mut sum = (0, 0, 0, 0);
    program
        .shares(|_, share| {
            sum.0 += share.foreign;
            sum.1 += share.untracked;
            sum.2 += share.negative_latency;
            sum.3 += share.latency.iter().sum::<u64>();
            assert_eq!(share.contended, 0);
        })
        .unwrap();
    sum
}

#[test]
fn a_stream_in_order() {
    common::require_root!();
    for way in WAYS {
        let mut program = loaded();
        let before = wirerate_engine::clock::tai_ns();
        for sequence in 0..1000 {
            feed(&mut program, way, &data(7, sequence, 18 + sequence as usize % 30));
        }
        let tally = only(&program);
        let c = tally.counters;
        assert_eq!((c.packets, c.unique, c.lost, c.duplicate, c.reordered), (1000, 1000, 0, 0, 0), "{way:?}");
        assert_eq!((tally.key.run, tally.key.stream), (RUN, 7));
        assert_eq!(tally.key.source, SocketAddr::from((SOURCE, 40_000)));
        assert_eq!(tally.key.destination, SocketAddr::from((GROUP, PORT)));
        let payload: u64 = (0..1000).map(|n| 18 + n % 30).sum();
        assert_eq!((c.payload_bytes, c.frame_bytes), (payload, payload + 1000 * 46));
        assert!(
            c.first_ns >= before && c.first_ns < c.last_ns && c.last_ns <= wirerate_engine::clock::tai_ns()
        );
        assert_eq!(shares(&program), (0, 0, 0, 1000));
        assert!(tally.jitter_ns.unwrap().1 > 0 && tally.end.is_none());
    }
}

#[test]
fn what_no_rule_selects_passes_and_is_counted_apart() {
    common::require_root!();
    for way in WAYS {
        let mut program = Program::load(&[Rule { source: Some(SOURCE.into()), ..rule(GROUP) }]).unwrap();
        let probe = data(1, 0, 18);
        assert!(took(&mut program, way, &frame(&probe)));
        assert!(!took(&mut program, way, &frame_to(SOURCE, PORT + 1, &probe)), "another port");
        assert!(
            !took(&mut program, way, &frame_to(Ipv4Addr::new(10, 0, 0, 9), PORT, &probe)),
            "another source"
        );
        let mut fragment = frame(&probe);
        fragment[20] = 0x20;
        assert!(!took(&mut program, way, &fragment), "a fragment");
        let mut arp = frame(&probe);
        arp[12..14].copy_from_slice(&[8, 6]);
        assert!(!took(&mut program, way, &arp), "ARP");
        let mut short = frame(&probe);
        short.truncate(HEADERS + 10);
        assert!(!took(&mut program, way, &short), "shorter than it says");
        let mut passed: Vec<_> =
            program.passed().unwrap().iter().map(|c| (c.verdict as u32, c.packets)).collect();
        passed.sort_unstable();
        let wanted = [(Verdict::Passed, 3), (Verdict::Fragment, 1), (Verdict::Malformed, 1)];
        assert_eq!(passed, wanted.map(|(verdict, packets)| (verdict as u32, packets)), "{way:?}");
        assert_eq!(only(&program).counters.packets, 1);
        assert_eq!(shares(&program).0, 0);
    }
}

#[test]
fn ipv6_and_vlan_tags() {
    common::require_root!();
    let group: Ipv6Addr = "ff15::1".parse().unwrap();
    let source: Ipv6Addr = "fd00::1".parse().unwrap();
    for way in WAYS {
        let mut program = Program::load(&[rule(group)]).unwrap();
        let payload = data(3, 9, 100);
        let mut v6 = vec![0; 12];
        v6.extend([0x81, 0, 0, 7, 0x86, 0xdd, 0x60, 0, 0, 0]);
        v6.extend((8 + payload.len() as u16).to_be_bytes());
        v6.extend([17, 64]);
        v6.extend(source.octets());
        v6.extend(group.octets());
        v6.extend([0x9c, 0x40]);
        v6.extend(PORT.to_be_bytes());
        v6.extend((8 + payload.len() as u16).to_be_bytes());
        v6.extend([0, 0]);
        v6.extend(&payload);
        assert!(took(&mut program, way, &v6), "{way:?}");
        let tally = only(&program);
        assert_eq!(tally.key.source, SocketAddr::from((source, 40_000)));
        assert_eq!(tally.key.destination, SocketAddr::from((group, PORT)));
        assert_eq!(tally.counters.frame_bytes, v6.len() as u64 + 4);
        assert_eq!(tally.counters.before_start, 9);
    }
}

#[test]
fn foreign_and_corrupt() {
    common::require_root!();
    for way in WAYS {
        let mut program = loaded();
        // Nothing is known of the run yet.
        let mut bad = data(1, 5, 64);
        bad[9] ^= 1;
        feed(&mut program, way, &bad);
        feed(&mut program, way, b"somebody else's");
        feed(&mut program, way, &[0; 64]);
        feed(&mut program, way, b"");
        assert_eq!(shares(&program).0, 4, "{way:?}");
        feed(&mut program, way, &data(1, 4, 64));
        feed(&mut program, way, &bad);
        let mut other_stream = data(1, 6, 64);
        other_stream[7] ^= 1;
        feed(&mut program, way, &other_stream);
        assert_eq!(only(&program).counters.corrupt, 2, "{way:?}");
        // A length that the stream has not had, another run, an unknown version.
        let mut longer = data(1, 5, 65);
        longer[9] ^= 1;
        feed(&mut program, way, &longer);
        let mut other_run = data(1, 5, 64);
        other_run[4] ^= 1;
        feed(&mut program, way, &other_run);
        let mut version = data(1, 5, 64);
        version[2] ^= 0x20;
        feed(&mut program, way, &version);
        assert_eq!(shares(&program).0, 7, "{way:?}");
        let c = only(&program).counters;
        assert_eq!((c.packets, c.corrupt), (1, 2));
    }
}

#[test]
fn the_end_of_a_stream() {
    common::require_root!();
    for way in WAYS {
        let mut program = loaded();
        program.set_ready(500).unwrap();
        for sequence in [2, 3, 5] {
            feed(&mut program, way, &data(1, sequence, 18));
        }
        let end = End { issued: 10, failed: 2, first_ns: 600, last_ns: 900 };
        for _ in 0..3 {
            feed(&mut program, way, &message(1, 10, end));
        }
        // A later one that says something else changes nothing; one that contradicts itself is corrupt or foreign.
        feed(&mut program, way, &message(1, 11, End { issued: 11, ..end }));
        feed(&mut program, way, &message(1, 11, end));
        let stream = program.streams().unwrap()[0];
        assert_eq!(stream.messages, 4, "{way:?}");
        let tally = stream_tally(&stream, 500);
        assert_eq!(tally.end, Some(end));
        let c = tally.counters;
        assert_eq!((c.packets, c.lost, c.lost_tail, c.before_start), (3, 3, 4, 0), "ready before its first");
        let c = stream_tally(&stream, 601).counters;
        assert_eq!((c.lost, c.lost_tail, c.before_start), (1, 4, 2), "ready after its first");
        assert_eq!(shares(&program).0, 1);
        // The end of a stream never heard counts if its sender went on after we were ready.
        feed(&mut program, way, &message(2, 10, End { last_ns: 499, first_ns: 1, ..end }));
        assert_eq!(program.streams().unwrap().len(), 1);
        feed(&mut program, way, &message(3, 10, end));
        assert_eq!(program.streams().unwrap().len(), 2);
        assert_eq!(stream_tally(&program.streams().unwrap()[1], 500).counters.lost_tail, 10);
    }
}

#[test]
fn numbers_and_times_beyond_40_bits() {
    common::require_root!();
    for way in WAYS {
        let mut program = loaded();
        let top = (1 << 40) - 1;
        for sequence in [top - 1, top, 0, 1, top - 2, 3] {
            feed(&mut program, way, &data(1, sequence, 18));
        }
        let c = only(&program).counters;
        assert_eq!((c.unique, c.lost, c.reordered, c.duplicate), (6, 1, 1, 0), "{way:?}");
        assert_eq!(c.before_start, top - 2);
        assert_eq!(program.streams().unwrap()[0].highest, top + 4);
        // Half a turn of the clock ahead of us.
        let mut future = vec![0; 18];
        let time = wirerate_engine::clock::tai_ns() + 1_000_000_000;
        Probe { kind: Kind::Data, run: RUN, stream: 1, sequence: 4, time }.emit(&mut future);
        feed(&mut program, way, &future);
        assert_eq!(shares(&program), (0, 0, 1, 6));
    }
}

/// Datagrams, bytes of each, and of the last: some are taken in several at once, some share a word of the window.
const SUPER_PACKETS: [(u64, usize, usize); 11] = [
    (2, 64, 64),
    (3, 64, 18),
    (40, 64, 64),
    (41, 64, 18),
    (25, 128, 17),
    (130, 24, 24),
    (64, 18, 18),
    (128, 18, 18),
    (100, 20, 19),
    (2, 1448, 17),
    (2, 1448, 1448),
];

#[test]
fn super_packets_segment_by_segment() {
    common::require_root!();
    for (segments, length, last) in SUPER_PACKETS {
        let mut program = loaded();
        let mut payload = Vec::new();
        for sequence in 0..segments - 1 {
            payload.extend(data(1, sequence, length));
        }
        let mut rest = data(1, segments - 1, last.max(LEN));
        rest.truncate(last);
        payload.extend(rest);
        let (took, _) = program.dry_run_tc(&frame(&payload), length as u32, 1).unwrap();
        let what = format!("{segments} of {length}, last {last}");
        assert!(took, "{what}");
        let whole = segments - u64::from(last < LEN);
        let c = only(&program).counters;
        assert_eq!((c.unique, c.lost, c.reordered, c.duplicate), (whole, 0, 0, 0), "{what}");
        assert_eq!(
            c.payload_bytes,
            payload.len() as u64 - if last < LEN { last as u64 } else { 0 },
            "{what}"
        );
        assert_eq!(shares(&program).0, segments - whole, "{what}: what is too short is foreign");
        let mut most = 0;
        let mut timed = 0;
        program
            .shares(|_, share| {
                most = most.max(share.segments);
                timed += share.negative_latency + share.latency.iter().sum::<u64>();
            })
            .unwrap();
        assert_eq!((most, timed), (segments, whole), "{what}");
    }
}

#[test]
fn a_super_packet_of_several_streams_with_bad_ones_and_an_end() {
    common::require_root!();
    let mut program = loaded();
    program.set_ready(0).unwrap();
    let mut payload = Vec::new();
    for sequence in 0..6 {
        payload.extend(data(1, sequence, 96));
        payload.extend(data(2, sequence * 2, 96));
    }
    let mut bad = data(2, 11, 96);
    bad[12] ^= 4;
    payload.extend(bad);
    payload.extend([0; 96]);
    payload.extend(data(1, 6, 96));
    payload.extend(message(1, 7, End { issued: 7, failed: 0, first_ns: 1, last_ns: 2 }));
    assert!(program.dry_run_tc(&frame(&payload), 96, 1).unwrap().0);
    let tallies: Vec<_> = program.streams().unwrap().iter().map(|s| stream_tally(s, 0)).collect();
    let counts: Vec<_> = tallies
        .iter()
        .map(|t| (t.key.stream, t.counters.unique, t.counters.lost, t.counters.corrupt, t.end.is_some()))
        .collect();
    assert_eq!(counts, [(1, 7, 0, 0, true), (2, 6, 5, 1, false)]);
    assert_eq!(shares(&program).0, 1);
    // Nobody holds a stream any more.
    assert!(program.streams().unwrap().iter().all(|s| s.lock == 0));
}

#[test]
fn as_many_streams_as_there_is_room_for() {
    common::require_root!();
    let mut program = loaded();
    for stream in 0..STREAMS as u16 + 3 {
        feed(&mut program, Way::Xdp, &data(stream, 0, 18));
    }
    for stream in 0..STREAMS as u16 {
        feed(&mut program, Way::Tc, &data(stream, 1, 18));
    }
    let streams = program.streams().unwrap();
    assert_eq!(streams.len(), STREAMS as usize);
    assert!(streams.iter().all(|s| s.unique == 2 && stream_tally(s, 0).counters.lost == 0));
    assert_eq!(shares(&program).1, 3);
}

/// What is compared with the engine's own tracker.
fn figures(c: &RxCounters) -> [u64; 6] {
    [c.unique, c.duplicate, c.packets, c.reordered, c.lost, c.before_start]
}

/// Steps of a sequence: mostly in order, with gaps, and back within the window.
fn steps() -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![
        6 => Just(1_i64),
        2 => 2_i64..200,
        1 => 200_i64..40_000,
        3 => -300_i64..=0,
        1 => -(WINDOW as i64 - 64)..-300,
    ];
    proptest::collection::vec(step, 1..400)
}

#[test]
fn any_sequence_counts_as_in_the_engine() {
    common::require_root!();
    let mut stream = 0;
    let programs = std::cell::RefCell::new(WAYS.map(|way| (way, loaded())));
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let stream = std::cell::RefCell::new(&mut stream);
    runner
        .run(&(0_u64..100_000, steps()), |(first, steps)| {
            let mut number: &mut u16 = &mut stream.borrow_mut();
            *number += 1;
            let (mut tracker, mut position) = (Tracker::<1024, 1024>::default(), first);
            let mut numbers = vec![first];
            for step in steps {
                position = position.saturating_add_signed(step);
                numbers.push(position);
                // A step back counts from the highest.
                position = *numbers.iter().max().unwrap();
            }
            for &n in &numbers {
                tracker.arrive(n, &When::default());
            }
            let mut wanted = RxCounters::default();
            tracker.counters(&mut wanted);
            prop_assert_eq!(wanted.undecided, 0);
            let different: HashSet<_> = numbers.iter().collect();
            prop_assert_eq!(wanted.unique, different.len() as u64);
            for (way, program) in programs.borrow_mut().iter_mut() {
                for &n in &numbers {
                    feed(program, *way, &data(*number, n, 18));
                }
                let streams = program.streams().unwrap();
                let got = stream_tally(streams.last().unwrap(), 0);
                prop_assert_eq!(got.key.stream, *number);
                prop_assert_eq!(got.counters.undecided, 0);
                prop_assert_eq!(figures(&got.counters), figures(&wanted), "{:?}", way);
            }
            number = &mut *number;
            let _ = number;
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_comes_after_the_window_has_passed_is_undecided_where_something_is_missing() {
    common::require_root!();
    let mut program = loaded();
    feed(&mut program, Way::Xdp, &data(1, 10, 18));
    feed(&mut program, Way::Xdp, &data(1, 11, 18));
    feed(&mut program, Way::Xdp, &data(1, 12 + 2 * WINDOW, 18));
    for old in [10, 13, 5] {
        feed(&mut program, Way::Xdp, &data(1, old, 18));
    }
    let c = only(&program).counters;
    assert_eq!((c.unique, c.duplicate, c.undecided), (3, 3, 3));
    assert_eq!((c.lost, c.reordered), (2 * WINDOW, 0));
    // Nothing is missing in this one, so that a number within can only be a copy.
    for sequence in 0..=WINDOW {
        feed(&mut program, Way::Tc, &data(2, sequence, 18));
    }
    feed(&mut program, Way::Tc, &data(2, 0, 18));
    let c = stream_tally(&program.streams().unwrap()[1], 0).counters;
    assert_eq!((c.unique, c.duplicate, c.undecided, c.lost), (WINDOW + 1, 1, 0, 0));
}
