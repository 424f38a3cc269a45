//! The observer over datagrams made by hand and captured from iperf.

use std::net::SocketAddr;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::measure::tally::StreamTally;
use crate::packet::ends::ends;
use crate::packet::probe::End;
use crate::packet::rtcp::is_rtcp;

const START: u64 = 1_800_000_000_000_000_000;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn meta(source: &str, arrived_ns: u64) -> RxMeta {
    RxMeta {
        source: address(source),
        destination: address("239.1.2.3:5001"),
        arrived_ns,
        overhead: 46,
        frames: 1,
    }
}

fn data(run: u32, stream: u16, sequence: u64, sent_ns: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let low = (1 << 40) - 1;
    Probe { kind: Kind::Data, run, stream, sequence: sequence & low, time: sent_ns & low }.emit(&mut bytes);
    Payload::pattern().fill(sequence, &mut bytes[probe::LEN..]);
    bytes
}

fn end_message(run: u32, stream: u16, end: End) -> Vec<u8> {
    let mut bytes = vec![0; probe::MESSAGE_LEN];
    Probe { kind: Kind::End, run, stream, sequence: end.issued & ((1 << 40) - 1), time: 0 }.emit(&mut bytes);
    Message { end, ..Message::default() }.emit(&mut bytes);
    bytes
}

fn observer(format: FormatChoice) -> Observer {
    Observer::new(ObserverSpec {
        format,
        ready_ns: START,
        verify: None,
        media: MediaSpec::default(),
        inbox: None,
        as_iperf2: None,
    })
}

fn tally(observer: &mut Observer) -> RxTally {
    let mut tally = RxTally::new(0);
    observer.tally(&mut tally);
    tally
}

fn give(observer: &mut Observer, meta: &RxMeta, payload: &[u8]) {
    observer.run(meta, payload, payload.len(), 1);
}

fn stream(tally: &RxTally, run: u32, id: u16) -> &StreamTally {
    tally.streams.iter().find(|s| (s.key.run, s.key.stream) == (run, id)).unwrap()
}

#[test]
fn a_buffer_of_segments_is_many_datagrams() {
    let mut o = observer(FormatChoice::Auto);
    let mut buf = Vec::new();
    for n in 0..4 {
        buf.extend(data(1, 0, n, START, 100));
    }
    // The last segment is shorter: only its header is left.
    buf.truncate(3 * 100 + 18);
    o.run(&meta("10.0.0.1:40000", START + 500), &buf, 100, 4);
    let t = tally(&mut o);
    assert_eq!((t.counters.packets, t.counters.unique, t.counters.lost), (4, 4, 0));
    assert_eq!(t.counters.payload_bytes, 318);
    assert_eq!(t.counters.frame_bytes, 318 + 4 * 46);
    assert_eq!((t.counters.first_ns, t.counters.last_ns), (START + 500, START + 500));
    assert_eq!((t.latency.len(), t.latency.min()), (4, 500));
    assert_eq!(o.packets(), 4);
    assert_eq!(tally(&mut o).latency.len(), 0, "latencies are handed over once");
    assert_eq!(tally(&mut o).counters, t.counters, "counters are totals");
}

#[test]
fn runs_streams_and_senders_are_told_apart() {
    let mut o = observer(FormatChoice::Auto);
    for (source, run, id) in
        [("10.0.0.1:1", 1, 0), ("10.0.0.1:1", 1, 1), ("10.0.0.1:1", 2, 0), ("10.0.0.2:1", 1, 0)]
    {
        for n in [0, 1, 3] {
            give(&mut o, &meta(source, START), &data(run, id, n, START, 64));
        }
    }
    let t = tally(&mut o);
    assert_eq!(t.streams.len(), 4);
    assert!(t.streams.iter().all(|s| s.counters.packets == 3 && s.counters.lost == 1));
    assert_eq!((t.counters.packets, t.counters.lost), (12, 4));
    assert_eq!((o.streams_live(), o.all_ended()), (4, false));
}

#[test]
fn the_end_tells_the_tail_and_whether_the_head_was_lost() {
    for (first_ns, lost, before_start) in [(START, 5, 0), (START - 1, 0, 5)] {
        let mut o = observer(FormatChoice::Auto);
        let m = meta("10.0.0.1:1", START + 9);
        give(&mut o, &m, &data(1, 0, 5, START, 64));
        let end = End { issued: 10, failed: 1, first_ns, last_ns: START + 8 };
        for _ in 0..3 {
            give(&mut o, &m, &end_message(1, 0, end));
        }
        assert!(o.all_ended());
        // A straggler still counts.
        give(&mut o, &m, &data(1, 0, 7, START, 64));
        let t = tally(&mut o);
        let c = t.counters;
        assert_eq!((c.packets, c.lost, c.before_start, c.lost_tail), (2, lost + 1, before_start, 2));
        assert_eq!(stream(&t, 1, 0).end, Some(end));
        assert_eq!(stream(&t, 1, 0).ended_ns, START + 9);
    }
}

#[test]
fn an_end_of_before_our_time_is_nobodys_and_one_of_a_stream_wholly_lost_is_heard() {
    let mut o = observer(FormatChoice::Auto);
    let m = meta("10.0.0.1:1", START + 9);
    give(&mut o, &m, &end_message(1, 0, End { issued: 10, failed: 0, first_ns: 1, last_ns: START - 1 }));
    assert!(!o.all_ended());
    assert_eq!(tally(&mut o).streams.len(), 0);
    give(&mut o, &m, &end_message(2, 0, End { issued: 10, failed: 0, first_ns: START, last_ns: START + 1 }));
    assert!(o.all_ended());
    let c = tally(&mut o).counters;
    assert_eq!((c.packets, c.lost, c.lost_tail, c.foreign), (0, 0, 10, 0));
}

#[test]
fn corrupt_and_foreign() {
    let mut o = observer(FormatChoice::Auto);
    let m = meta("10.0.0.1:1", START);
    let mut bad = data(1, 0, 1, START, 64);
    bad[12] ^= 1;
    give(&mut o, &m, &bad);
    assert_eq!(tally(&mut o).counters.foreign, 1, "nothing known fits");
    give(&mut o, &m, &data(1, 0, 0, START, 64));
    give(&mut o, &m, &bad);
    let mut other_stream = bad.clone();
    other_stream[7] ^= 0x40;
    give(&mut o, &m, &other_stream);
    assert_eq!(tally(&mut o).counters.corrupt, 2);
    let mut version = bad.clone();
    version[2] = 0x20;
    let mut run = bad.clone();
    run[3] ^= 0xff;
    let mut long = bad.clone();
    long.push(0);
    for (payload, why) in [(&version, "version"), (&run, "run"), (&long, "length"), (&vec![], "nothing")] {
        let before = tally(&mut o).counters;
        give(&mut o, &m, payload);
        let after = tally(&mut o).counters;
        assert_eq!((after.foreign, after.corrupt), (before.foreign + 1, before.corrupt), "{why}");
    }
    give(&mut o, &meta("10.0.0.9:1", START), &bad);
    let c = tally(&mut o).counters;
    assert_eq!((c.corrupt, c.foreign, c.packets, c.lost), (2, 6, 1, 0));
}

#[test]
fn an_end_whose_body_disagrees_with_its_header_ends_nothing() {
    let mut o = observer(FormatChoice::Auto);
    let m = meta("10.0.0.1:1", START);
    give(&mut o, &m, &data(1, 0, 0, START, probe::MESSAGE_LEN));
    let mut bad = end_message(1, 0, End { issued: 10, failed: 0, first_ns: START, last_ns: START });
    bad[probe::LEN + 7] ^= 4;
    give(&mut o, &m, &bad);
    give(&mut o, &m, &bad[..probe::LEN + 5]);
    let c = tally(&mut o).counters;
    assert_eq!((o.all_ended(), c.corrupt, c.foreign), (false, 1, 1));
}

#[test]
fn verification_compares_every_byte() {
    let spec = ObserverSpec {
        verify: Some(Arc::new(Payload::pattern())),
        ready_ns: START,
        ..ObserverSpec::default()
    };
    let mut o = Observer::new(spec);
    let m = meta("10.0.0.1:1", START);
    for n in 0..3 {
        let mut bytes = data(1, 0, n, START, 64);
        if n == 1 {
            bytes[63] ^= 1;
        }
        give(&mut o, &m, &bytes);
    }
    // Ends are not payload.
    give(&mut o, &m, &end_message(1, 0, End { issued: 3, failed: 0, first_ns: START, last_ns: START }));
    let c = tally(&mut o).counters;
    assert_eq!((c.packets, c.corrupt, c.lost, c.lost_tail), (2, 1, 1, 0));
}

#[test]
fn sequence_numbers_pass_forty_bits() {
    let mut o = observer(FormatChoice::Auto);
    let m = meta("10.0.0.1:1", START);
    let wrap = 1u64 << 40;
    for n in wrap - 2..wrap + 2 {
        give(&mut o, &m, &data(1, 0, n, START, 64));
    }
    let c = tally(&mut o).counters;
    assert_eq!((c.unique, c.lost, c.reordered, c.before_start), (4, 0, 0, wrap - 2));
}

/// Payloads of the captured iperf 2.1.8 test to port 5001: 202 datagrams and the end.
fn iperf_capture() -> Vec<Vec<u8>> {
    let pcap: &[u8] = include_bytes!("../../tests/vectors/iperf2_218_mcast_vectors.pcap");
    let (mut rest, mut payloads) = (&pcap[24..], vec![]);
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let frame = &rest[16..16 + length];
        if frame[36..38] == 5001u16.to_be_bytes() {
            payloads.push(frame[42..].to_vec());
        }
        rest = &rest[16 + length..];
    }
    payloads
}

#[test]
fn iperf2_is_recognised_and_counted_by_its_own_numbers() {
    let arrived = 0x6b00_882b * 1_000_000_000;
    let m = meta("192.0.2.1:43059", arrived);
    for format in [FormatChoice::Auto, FormatChoice::Iperf2] {
        let mut o = observer(format);
        let capture = iperf_capture();
        for (n, payload) in capture.iter().enumerate() {
            if n != 9 && n != 201 {
                give(&mut o, &m, payload);
            }
        }
        give(&mut o, &m, &capture[3]);
        // Somebody else on the same ports is not iperf.
        give(&mut o, &m, b"hello");
        let t = tally(&mut o);
        let c = t.counters;
        assert_eq!((c.packets, c.unique, c.duplicate, c.lost, c.lost_tail), (201, 200, 1, 1, 1));
        assert_eq!((c.foreign, c.corrupt, c.before_start, t.latency.len()), (1, 0, 0, 0));
        assert_eq!((t.streams.len(), t.streams[0].key.format), (1, Format::Iperf2));
        assert_eq!(t.streams[0].end.unwrap().issued, 202);
        assert!(t.streams[0].jitter_ns.is_some() && o.all_ended());
    }
    let mut o = observer(FormatChoice::Wirerate);
    iperf_capture().iter().for_each(|payload| give(&mut o, &m, payload));
    let c = tally(&mut o).counters;
    assert_eq!((c.packets, c.foreign), (0, 203));
}

/// A datagram of iperf 2.1.8 with this identifier, sent at `sent_ns`.
fn iperf(id: i64, sent_ns: u64) -> Vec<u8> {
    let id = id.cast_unsigned();
    let (seconds, micros) = (sent_ns / 1_000_000_000, sent_ns / 1000 % 1_000_000);
    let fields = [
        id as u32,
        seconds as u32,
        micros as u32,
        (id >> 32) as u32,
        0x4801_0098,
        1,
        5001,
        100,
        0,
        0xffff_ff9c,
    ];
    let mut bytes = fields.iter().flat_map(|field| field.to_be_bytes()).collect::<Vec<_>>();
    bytes.resize(100, 0);
    bytes
}

#[test]
fn iperf_started_again_is_another_stream_and_no_loss_nor_copies() {
    const MS: u64 = 1_000_000;
    for (end, pause_ms, restarts) in [(true, 20, true), (false, 1500, true), (false, 20, false)] {
        let mut o = observer(FormatChoice::Auto);
        let give_at = |o: &mut Observer, id, sent_ms: u64, now_ms: u64| {
            give(o, &meta("10.0.0.1:40000", START + now_ms * MS), &iperf(id, START + sent_ms * MS));
        };
        (1..=100).for_each(|n| give_at(&mut o, n, n as u64, n as u64));
        if end {
            give_at(&mut o, -101, 101, 101);
        }
        // Copies and stragglers carry the time at which they were sent first.
        let again = 101 + pause_ms;
        give_at(&mut o, 7, 7, again);
        give_at(&mut o, 100, 100, again);
        let t = tally(&mut o);
        assert_eq!((t.streams.len(), t.counters.duplicate), (1, 2));
        // The next test, on the same port.
        let from = again + pause_ms;
        (1..=30).for_each(|n| give_at(&mut o, n, from + n as u64, from + n as u64));
        let t = tally(&mut o);
        if restarts {
            assert_eq!(t.streams.len(), 2);
            let [old, new] = [0, 1].map(|run| stream(&t, run, 0).counters);
            assert_eq!((old.unique, old.duplicate, old.lost), (100, 2, 0));
            assert_eq!((new.unique, new.duplicate, new.lost, new.before_start), (30, 0, 0, 0));
            assert_eq!(o.streams_live(), 1);
            give_at(&mut o, -31, from + 31, from + 31);
            assert!(o.all_ended());
        } else {
            assert_eq!((t.streams.len(), t.counters.duplicate), (1, 32), "nothing says that it is another");
        }
    }
}

#[test]
fn many_streams_in_turn_are_kept_apart() {
    let mut o = observer(FormatChoice::Auto);
    for n in 0..5 {
        for stream in 0..1000 {
            for run in [0x12_3456, 0x65_4321] {
                // Each stream loses another number.
                if n != u64::from(stream) % 5 {
                    give(&mut o, &meta("10.0.0.1:40000", START + n), &data(run, stream, n, START, 30));
                }
            }
        }
    }
    let t = tally(&mut o);
    assert_eq!(t.streams.len(), 2000);
    for stream in &t.streams {
        assert_eq!(stream.counters.unique, 4, "{:?}", stream.key);
    }
}

#[test]
fn raw_counts_everything_by_source() {
    let mut o = observer(FormatChoice::Raw);
    give(&mut o, &meta("10.0.0.1:1", START), b"");
    give(&mut o, &meta("10.0.0.1:1", START + 1), &data(1, 0, 9, START, 64));
    give(&mut o, &meta("10.0.0.2:1", START + 2), b"hello");
    let t = tally(&mut o);
    assert_eq!((t.counters.packets, t.counters.unique, t.counters.foreign, t.counters.lost), (3, 3, 0, 0));
    assert_eq!(t.counters.payload_bytes, 69);
    assert_eq!(t.counters.frame_bytes, 64 + 110 + 64, "short frames are padded");
    assert_eq!(t.streams.len(), 2);
    assert!(!o.all_ended());
    assert_eq!(o.last_arrival_ns(), START + 2);
}

#[test]
fn streams_beyond_the_limit_are_counted() {
    let mut o = observer(FormatChoice::Auto);
    let m = meta("10.0.0.1:1", START);
    for run in 0..2u32 {
        for id in 0..=u16::MAX {
            if run == 0 || id < 7 {
                give(&mut o, &m, &data(run, id, 0, START, 18));
            }
        }
    }
    let t = tally(&mut o);
    assert_eq!((t.streams.len(), t.counters.packets, t.untracked), (MAX_STREAMS, MAX_STREAMS as u64, 7));
}

#[test]
fn the_hexdump_sees_each_datagram() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut o = observer(FormatChoice::Auto);
    let log = Arc::clone(&seen);
    o.set_hexdump(Box::new(move |m, payload| log.lock().unwrap().push((m.source, payload.len()))));
    o.run(&meta("10.0.0.1:1", START), &[0; 250], 100, 3);
    let source = address("10.0.0.1:1");
    assert_eq!(*seen.lock().unwrap(), [(source, 100), (source, 100), (source, 50)]);
    assert_eq!(tally(&mut o).counters.foreign, 3);
}

proptest! {
    #[test]
    fn no_datagrams_panic(
        buf in prop::collection::vec(any::<u8>(), 0..300), stride in 0usize..120, count in 0usize..9, format in 0..6,
    ) {
        let formats = [
            FormatChoice::Auto,
            FormatChoice::Wirerate,
            FormatChoice::Iperf2,
            FormatChoice::Raw,
            FormatChoice::Rtp,
            FormatChoice::Ts,
        ];
        let mut o = observer(formats[format as usize]);
        o.run(&meta("[2001:db8::1]:9", START), &buf, stride, count);
        let c = tally(&mut o).counters;
        let from = |n: usize| n.saturating_mul(stride).min(buf.len());
        // RTCP is no packet of a stream, and beside RTP nobody else's.
        let rtcp = (0..count).filter(|&n| format == 4 && is_rtcp(&buf[from(n)..from(n + 1)])).count();
        prop_assert_eq!(c.packets + c.foreign + rtcp as u64, count as u64);
    }
}

/// What a buffer holds in place of the next packet of the batch.
#[derive(Debug, Clone)]
enum Oddity {
    /// Numbers are left out, or come again.
    Jump(i64),
    /// A bit of the header or the body is changed.
    Damage(usize),
    OtherStream(u16),
    OtherRun,
    OtherTime(i64),
    End,
    Foreign,
    /// Not in the middle of a super-buffer.
    Short,
}

fn oddity() -> impl Strategy<Value = Oddity> {
    prop_oneof![
        (-70i64..70).prop_map(Oddity::Jump),
        Just(Oddity::Jump(70_000)),
        (0usize..64 * 8).prop_map(Oddity::Damage),
        (0u16..3).prop_map(Oddity::OtherStream),
        Just(Oddity::OtherRun),
        (-2_000i64..2_000).prop_map(Oddity::OtherTime),
        Just(Oddity::End),
        Just(Oddity::Foreign),
        Just(Oddity::Short),
    ]
}

/// Buffers of consecutive packets of 64 bytes, of one stream or of several in turn, with oddities among them: each with its meta data and its payloads.
fn buffers() -> impl Strategy<Value = Vec<(RxMeta, Vec<Vec<u8>>)>> {
    let segment = prop_oneof![12 => Just(None), 1 => oddity().prop_map(Some)];
    let buffer = (prop::collection::vec(segment, 1..80), 0u64..3, 0u64..1000, any::<bool>());
    let start = prop_oneof![0u64..100, (1u64 << 40) - 100..1 << 40];
    (start, 1u64..4, prop::collection::vec(buffer, 1..6)).prop_map(|(start, turn, buffers)| {
        let (mut next, mut stream_id, mut sent) = (start, 0, START);
        let mut build = |(segments, pause, delay, elsewhere): (Vec<Option<Oddity>>, u64, u64, bool)| {
            sent += pause;
            let source = if elsewhere { "10.0.0.1:1" } else { "10.0.0.2:2" };
            let payloads = segments.into_iter().map(|odd| {
                let (mut run, mut length, mut damage) = (1, 64, None);
                match odd {
                    None => {}
                    Some(Oddity::Jump(by)) => next = next.saturating_add_signed(by),
                    Some(Oddity::Damage(bit)) => damage = Some(bit),
                    Some(Oddity::OtherStream(id)) => stream_id = id,
                    Some(Oddity::OtherRun) => run = 2,
                    Some(Oddity::OtherTime(by)) => sent = sent.saturating_add_signed(by),
                    Some(Oddity::End) => {
                        let end = End { issued: next, failed: 0, first_ns: START, last_ns: sent };
                        let mut message = end_message(1, stream_id, end);
                        message.resize(64, 0);
                        return message;
                    }
                    Some(Oddity::Foreign) => return vec![0xaa; 64],
                    Some(Oddity::Short) => length = 20,
                }
                let in_turn = stream_id + (next % turn) as u16;
                let mut payload = data(run, in_turn, next / turn, sent, length);
                if let Some(bit) = damage {
                    payload[bit / 8 % length] ^= 1 << (bit % 8);
                }
                next += 1;
                payload
            });
            let payloads: Vec<_> = payloads.collect();
            (meta(source, (sent + delay).saturating_sub(500)), payloads)
        };
        buffers.into_iter().map(&mut build).collect()
    })
}

/// All that an observer says.
fn said(observer: &mut Observer) -> (String, hdrhistogram::Histogram<u64>) {
    let numbers =
        (observer.packets(), observer.last_arrival_ns(), observer.streams_live(), observer.all_ended());
    let mut tally = tally(observer);
    assert_eq!(observer.packets(), numbers.0, "a tally changes nothing");
    let latency = std::mem::replace(&mut tally.latency, crate::measure::tally::latency_histogram());
    (format!("{numbers:?} {tally:?}"), latency)
}

proptest! {
    #[test]
    fn batches_count_as_their_packets_one_by_one(
        buffers in buffers(), verify: bool, dumped: bool, tallies in prop::collection::vec(any::<bool>(), 6),
    ) {
        let make = |dumped| {
            let verify = verify.then(|| Payload::pattern().into());
            let mut o = Observer::new(ObserverSpec { format: FormatChoice::Auto, ready_ns: START, verify, media: MediaSpec::default(), inbox: None, as_iperf2: None });
            if dumped {
                o.set_hexdump(Box::new(|_, _| ()));
            }
            o
        };
        // An observer that shows datagrams takes no short way.
        let mut one_by_one = make(true);
        let (mut quick, mut buffered, mut framed) = (make(dumped), make(dumped), make(dumped));
        let mut in_turn = make(dumped);
        for ((meta, payloads), tally_now) in buffers.into_iter().zip(tallies) {
            payloads.iter().for_each(|payload| give(&mut one_by_one, &meta, payload));
            payloads.iter().for_each(|payload| give(&mut quick, &meta, payload));
            // A short segment ends a super-buffer.
            for group in payloads.split_inclusive(|payload| payload.len() < 64) {
                buffered.run(&meta, &group.concat(), 64, group.len());
            }
            give(&mut framed, &meta, &payloads[0]);
            for payload in &payloads {
                let ends = ends(meta.source, meta.destination).unwrap();
                if !(in_turn.turns(meta.arrived_ns) && in_turn.turn(&ends, payload)) {
                    give(&mut in_turn, &meta, payload);
                }
            }
            framed.more(&meta, payloads[1..].iter().map(|payload| &payload[..]));
            if tally_now {
                let expected = said(&mut one_by_one);
                prop_assert_eq!(&said(&mut quick), &expected);
                prop_assert_eq!(&said(&mut buffered), &expected);
                prop_assert_eq!(&said(&mut framed), &expected);
                prop_assert_eq!(&said(&mut in_turn), &expected);
            }
        }
        let expected = said(&mut one_by_one);
        prop_assert_eq!(&said(&mut quick), &expected);
        prop_assert_eq!(&said(&mut buffered), &expected);
        prop_assert_eq!(&said(&mut framed), &expected);
        prop_assert_eq!(&said(&mut in_turn), &expected);
    }
}

/// Lines of what these were given, without the figures that depend on the clock: bytes, lost, total, out of order.
fn as_iperf2(o: &mut Observer) -> Vec<(u32, u64, u64, u64, u64)> {
    use crate::interop::iperf2::server::Span;
    let mut last = RxTally::new(0);
    o.last_tally(&mut last);
    let whole = last.as_iperf2.iter().filter(|row| row.figures.span == Span::Whole);
    whole
        .map(|row| {
            let f = &row.figures;
            (row.flow.run, f.bytes, f.lost, f.total, f.out_of_order)
        })
        .collect()
}

#[test]
fn iperfs_lines_are_of_each_test_and_of_our_own_streams() {
    let spec = iperf2::server::Spec { interval_ns: 1_000_000_000, tai_minus_utc_ns: 0 };
    let asked = || ObserverSpec { ready_ns: START, as_iperf2: Some(spec), ..ObserverSpec::default() };
    let mut o = Observer::new(asked());
    let at = |n: u64| meta("10.0.0.1:40000", START + n);
    let test = |o: &mut Observer, from: u64| {
        for (n, id) in (from..).zip([1, 2, 3, 5, 5, 4, 8, -9, -10]) {
            give(o, &at(n), &iperf(id, START + n * 1_000_000));
        }
    };
    test(&mut o, 0);
    test(&mut o, 100);
    let bytes = 8 * iperf(1, START).len() as u64;
    // Two were jumped over and one was late, and so were a copy.
    assert_eq!(as_iperf2(&mut o), [(0, bytes, 1, 9, 2), (1, bytes, 1, 9, 2)]);

    let mut o = Observer::new(asked());
    for (n, number) in (0..).zip([0, 1, 2, 6, 6, 5, 7]) {
        give(&mut o, &at(n), &data(9, 3, number, START, 100));
    }
    give(&mut o, &at(9), &end_message(9, 3, End { issued: 10, failed: 0, first_ns: START, last_ns: START }));
    let t = tally(&mut o);
    assert_eq!(t.streams[0].detail, None);
    assert_eq!(t.as_iperf2.len(), 2, "its beginning and its end, as they come");
    let whole = t.as_iperf2[1].figures;
    assert_eq!((whole.bytes, whole.lost, whole.total, whole.out_of_order), (700, 3, 10, 2));
    assert_eq!(as_iperf2(&mut o), [], "each line once");
    assert_eq!(observer(FormatChoice::Auto).spec.as_iperf2, None);
}
