use std::net::SocketAddr;

use super::*;
use crate::measure::media::MediaSpec;
use crate::measure::tally::{RxTally, StreamTally};
use crate::observe::observer::ObserverSpec;
use crate::packet::probe::{self, End, Message};
use crate::packet::ts::LEN;
use crate::queue::Sink;

const START: u64 = 1_800_000_000_000_000_000;
const MS: u64 = 1_000_000;

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

fn meta(source: &str, arrived_ns: u64) -> RxMeta {
    let source: SocketAddr = source.parse().unwrap();
    let destination = "239.1.2.3:5004".parse().unwrap();
    RxMeta { source, destination, arrived_ns, overhead: 46, frames: 1 }
}

/// PCMU of 20 ms.
fn audio(ssrc: u32, sequence: u16, timestamp: u32) -> Vec<u8> {
    let mut bytes = vec![0xd5; 172];
    Header { marker: false, payload_type: 0, sequence, timestamp, ssrc }.emit(&mut bytes);
    bytes
}

fn give(o: &mut Observer, source: &str, at: u64, payload: &[u8]) {
    o.run(&meta(source, START + at), payload, payload.len(), 1);
}

fn tally(o: &mut Observer) -> RxTally {
    let mut tally = RxTally::new(0);
    o.tally(&mut tally);
    tally
}

fn rtp_of(stream: &StreamTally) -> crate::measure::media::rtp::Figures {
    stream.media.as_ref().unwrap().rtp.unwrap()
}

const A: &str = "10.0.0.1:1000";

#[test]
fn lost_duplicate_and_reordered_are_exact_over_the_wrap_beside_the_rfcs() {
    for format in [FormatChoice::Auto, FormatChoice::Rtp] {
        let mut o = observer(format);
        for n in [0u16, 1, 2, 4, 5, 5, 9, 8, 10] {
            give(&mut o, A, u64::from(n) * 20 * MS, &audio(7, 65_530u16.wrapping_add(n), u32::from(n) * 160));
        }
        let t = tally(&mut o);
        let c = t.counters;
        assert_eq!((c.packets, c.unique, c.duplicate, c.lost, c.reordered), (9, 8, 1, 3, 1), "{format:?}");
        assert_eq!((c.foreign, c.before_start, c.payload_bytes), (0, 0, 9 * 172));
        assert_eq!((t.streams.len(), t.streams[0].key.format, t.streams[0].key.run), (1, Format::Rtp, 7));
        let f = rtp_of(&t.streams[0]);
        assert_eq!(
            (f.expected, f.received, f.cumulative_lost(), f.wraps),
            (11, 9, 2, 1),
            "a copy hides a loss"
        );
        assert_eq!((f.media_bytes, f.clock_hz, f.valid), (9 * 160, 8000, true));
        assert_eq!(t.latency.len(), 0, "RTP tells no time of day");
        assert!(!o.all_ended());
    }
}

#[test]
fn foreign_datagrams_are_not_taken_for_rtp_and_rtcp_is_not() {
    let mut o = observer(FormatChoice::Auto);
    // Looks like RTP, and has no sequence.
    for n in [5u16, 7, 7, 900, 3] {
        give(&mut o, A, 0, &audio(1, n, 0));
    }
    let rtcp = [0x80, 200, 0, 6].into_iter().chain([0; 24]).collect::<Vec<u8>>();
    give(&mut o, A, 0, &rtcp);
    give(&mut o, A, 0, &rtcp);
    let t = tally(&mut o);
    assert_eq!((t.counters.foreign, t.counters.packets, t.streams.len()), (7, 0, 0));
    // Now it has: the packet before is counted after all.
    give(&mut o, A, 0, &audio(1, 4, 160));
    let t = tally(&mut o);
    assert_eq!((t.counters.foreign, t.counters.packets, t.counters.lost), (6, 2, 0));
}

#[test]
fn a_sender_that_restarts_begins_another_sequence() {
    let mut o = observer(FormatChoice::Auto);
    for (n, timestamp) in
        [(1, 160), (2, 320), (4, 640), (40_000, 0x9000_0000), (40_001, 0x9000_00a0), (40_003, 0x9000_01e0)]
    {
        give(&mut o, A, 0, &audio(7, n, timestamp));
    }
    let t = tally(&mut o);
    let c = t.counters;
    assert_eq!((c.packets, c.unique, c.lost, c.foreign), (6, 6, 2, 0));
    assert_eq!((rtp_of(&t.streams[0]).restarts, rtp_of(&t.streams[0]).cumulative_lost()), (1, 2));
    // One that strays is no part of it.
    give(&mut o, A, 0, &audio(7, 20_000, 0x1000_0000));
    give(&mut o, A, 0, &audio(7, 40_004, 0x9000_0280));
    let c = tally(&mut o).counters;
    assert_eq!((c.packets, c.lost, c.foreign), (7, 2, 1));
}

#[test]
fn ten_thousand_sources_at_once_are_told_apart() {
    let mut o = observer(FormatChoice::Auto);
    for n in 0..3u16 {
        for ssrc in 0..10_000u32 {
            give(&mut o, A, u64::from(n), &audio(ssrc * 0x1_0001, n, 0));
        }
    }
    let t = tally(&mut o);
    assert_eq!(
        (t.streams.len(), t.counters.packets, t.counters.lost, t.counters.foreign),
        (10_000, 30_000, 0, 0)
    );
    let capacity = t.streams.capacity();
    let mut again = t;
    o.tally(&mut again);
    assert_eq!((again.streams.len(), again.streams.capacity()), (10_000, capacity));
}

#[test]
fn more_candidates_than_there_is_room_for_are_foreign() {
    let mut o = observer(FormatChoice::Auto);
    let count = MAX_CANDIDATES as u32 + 5;
    (0..count).for_each(|ssrc| give(&mut o, A, 0, &audio(ssrc, 1, 0)));
    assert_eq!(tally(&mut o).counters.foreign, u64::from(count));
    give(&mut o, A, 0, &audio(count - 1, 2, 160));
    let t = tally(&mut o);
    assert_eq!((t.counters.foreign, t.counters.packets), (u64::from(count) - 1, 2));
}

/// RTP with a probe in it, number `sequence` of stream 3 of run 5.
fn probed(sequence: u64, rtp: u16) -> Vec<u8> {
    let mut bytes = vec![0; 100];
    Header { marker: false, payload_type: 96, sequence: rtp, timestamp: 0, ssrc: 9 }.emit(&mut bytes);
    let time = (START + 10) & ((1 << 40) - 1);
    rtp::emit_probe(&mut bytes, &Probe { kind: Kind::Data, run: 5, stream: 3, sequence, time });
    bytes
}

#[test]
fn a_probe_in_rtp_is_measured_as_our_own_and_compared_with_its_header() {
    for format in [FormatChoice::Auto, FormatChoice::Rtp] {
        let mut o = observer(format);
        for (sequence, rtp) in [(0, 65_535), (1, 0), (3, 2), (4, 4), (5, 4)] {
            give(&mut o, A, 1000, &probed(sequence, rtp));
        }
        let mut end = vec![0; rtp::HEADER_LEN + probe::MESSAGE_LEN];
        Header { marker: false, payload_type: 96, sequence: 7, timestamp: 0, ssrc: 9 }.emit(&mut end);
        let body = End { issued: 8, failed: 0, first_ns: START, last_ns: START + 5 };
        Message { end: body, clock: None, announced: 0 }.emit(&mut end[rtp::HEADER_LEN..]);
        rtp::emit_probe(&mut end, &Probe { kind: Kind::End, run: 5, stream: 3, sequence: 8, time: 0 });
        give(&mut o, A, 2000, &end);
        let t = tally(&mut o);
        let c = t.counters;
        assert_eq!((c.packets, c.lost, c.lost_tail, c.foreign, t.messages), (5, 1, 2, 0, 1), "{format:?}");
        assert_eq!(
            (t.latency.len(), t.latency.min(), o.all_ended()),
            (5, t.latency.lowest_equivalent(990), true)
        );
        let stream = &t.streams[0];
        assert_eq!((stream.key.format, stream.key.run, stream.key.stream), (Format::Wirerate, 5, 3));
        let f = rtp_of(stream);
        assert_eq!((f.ssrc, f.probe_mismatches, f.expected), (9, 1, 6));
    }
}

fn transport(first: u8) -> Vec<u8> {
    let packet = |n: u8| {
        let mut packet = [0xff; LEN];
        packet[..4].copy_from_slice(&[ts::SYNC, 0x01, 0x00, 0x10 | n & 0x0f]);
        packet
    };
    (0..7).flat_map(|n| packet(first.wrapping_add(n))).collect()
}

#[test]
fn a_transport_stream_over_udp_has_no_numbers_and_loses_what_its_counters_say() {
    for format in [FormatChoice::Auto, FormatChoice::Ts] {
        let mut o = observer(format);
        for n in [0u8, 1, 2, 4, 5] {
            give(&mut o, A, u64::from(n) * MS, &transport(n * 7));
        }
        give(&mut o, A, 6 * MS, &[0; 500]);
        let t = tally(&mut o);
        let c = t.counters;
        assert_eq!((c.packets, c.lost, c.duplicate, c.foreign), (6, 0, 0, 0), "{format:?}");
        let ts = t.streams[0].media.as_ref().unwrap().ts.as_ref().unwrap();
        assert_eq!((ts.packets, ts.continuity_errors, ts.missing, ts.sync_errors), (35, 1, 7, 3));
        assert_eq!(t.streams[0].key.format, Format::Ts);
    }
    let mut o = observer(FormatChoice::Rtp);
    give(&mut o, A, 0, &transport(0));
    assert_eq!(tally(&mut o).counters.foreign, 1);
}

#[test]
fn single_packets_make_a_transport_stream_when_enough_came() {
    let mut o = observer(FormatChoice::Auto);
    let stream = transport(0);
    for packet in stream.chunks(LEN).take(2) {
        give(&mut o, A, 0, packet);
    }
    assert_eq!((tally(&mut o).counters.foreign, tally(&mut o).counters.packets), (2, 0));
    give(&mut o, A, 0, &stream[2 * LEN..3 * LEN]);
    assert_eq!((tally(&mut o).counters.foreign, tally(&mut o).counters.packets), (0, 3));
}

#[test]
fn a_transport_stream_in_rtp_is_found_by_its_type_or_by_its_sync() {
    for payload_type in [33, 96] {
        let mut o = observer(FormatChoice::Auto);
        for n in [0u8, 1, 3, 4] {
            let mut bytes = vec![0; rtp::HEADER_LEN];
            let sequence = u16::from(n);
            Header { marker: false, payload_type, sequence, timestamp: 0, ssrc: 1 }.emit(&mut bytes);
            bytes.extend(transport(n * 7));
            give(&mut o, A, u64::from(n) * MS, &bytes);
        }
        let t = tally(&mut o);
        assert_eq!((t.counters.packets, t.counters.lost), (4, 1));
        let ts = t.streams[0].media.as_ref().unwrap().ts.as_ref().unwrap();
        assert_eq!((ts.packets, ts.continuity_errors, ts.missing), (28, 1, 7), "payload type {payload_type}");
    }
}

#[test]
fn a_payload_that_looks_like_a_probe_by_chance_stays_with_its_rtp_source() {
    let mut o = observer(FormatChoice::Auto);
    give(&mut o, A, 0, &audio(7, 0x10ff, 0));
    give(&mut o, A, 0, &audio(7, 0x1100, 160));
    let mut bytes = audio(7, 0x1101, 320);
    bytes[16..18].fill(0);
    let words = crate::packet::checksum::fold(crate::packet::checksum::sum(&bytes[..probe::LEN]));
    let filler = crate::packet::checksum::fold(u64::from(probe::CHECK_SUM) + u64::from(!words));
    bytes[16..18].copy_from_slice(&filler.to_be_bytes());
    assert!(Probe::parse(&bytes).is_ok());
    give(&mut o, A, 0, &bytes);
    let t = tally(&mut o);
    assert_eq!((t.streams.len(), t.counters.packets, t.counters.lost), (1, 3, 0));
}

#[test]
fn rtcp_on_the_port_of_rtp_is_in_no_count_and_messages_are_taken() {
    use crate::observe::Inbox;
    use crate::packet::rtcp::{Compound, app_header};

    let inbox = Inbox::default();
    let mut o = observer(FormatChoice::Rtp);
    o.spec.inbox = Some(inbox.clone());
    let probe = Probe { kind: Kind::Data, run: 5, stream: 1, sequence: 0, time: START };
    let mut packet = audio(7, 1, 0);
    rtp::emit_probe(&mut packet, &probe);
    give(&mut o, A, MS, &packet);
    let mut report = Compound::new();
    report.receiver_report(9, &[]);
    give(&mut o, A, 2 * MS, report.bytes());
    // The end of the stream, as it is sent among RTP.
    let mut end = vec![0; 96];
    end[..12].copy_from_slice(&app_header(7, *b"wrat", 96));
    rtp::emit_probe(&mut end, &Probe { kind: Kind::End, sequence: 2, ..probe });
    let said = End { issued: 2, failed: 0, first_ns: START, last_ns: START + MS };
    Message { end: said, clock: None, announced: 0 }.emit(&mut end[rtp::HEADER_LEN..]);
    give(&mut o, A, 3 * MS, &end);
    let t = tally(&mut o);
    assert_eq!((t.counters.packets, t.counters.foreign, t.messages), (1, 0, 1));
    assert_eq!((t.counters.lost_tail, t.streams[0].end), (1, Some(said)));
    assert_eq!(inbox.take().map(|(_, bytes)| bytes.into_vec()), Some(report.bytes().to_vec()));
    assert!(inbox.take().is_none());
}
