use proptest::prelude::*;

use super::*;
use crate::packet::rtp::{Extension, ONE_BYTE, Options};

fn header(sequence: u16, timestamp: u32) -> Header {
    Header { marker: false, payload_type: 0, sequence, timestamp, ssrc: 7 }
}

/// A source that was given packets of 160 bytes: number, time stamp, arrival in ns.
fn given(packets: &[(u16, u32, u64)]) -> (Source, Vec<Seen>) {
    let clocks = ClockRates::default();
    let mut source = Source::new(&header(packets[0].0, packets[0].1), packets[0].2, &clocks);
    let seen = packets.iter().map(|&(sequence, timestamp, arrived_ns)| {
        let mut bytes = [0; 172];
        header(sequence, timestamp).emit(&mut bytes);
        source.arrive(&Rtp::parse(&bytes).unwrap(), arrived_ns, &clocks).seen
    });
    let seen = seen.collect();
    (source, seen)
}

const MS: u64 = 1_000_000;

#[test]
fn lost_as_the_rfc_counts_it_and_a_copy_hides_a_loss() {
    let packets = [1u16, 2, 4, 4, 7, 6].map(|n| (n, u32::from(n) * 160, u64::from(n) * 20 * MS));
    let (source, _) = given(&packets);
    let figures = source.figures();
    assert_eq!((figures.expected, figures.received, figures.cumulative_lost()), (7, 6, 1));
    assert_eq!(figures.fraction_lost(), 36);
    assert_eq!((figures.highest, figures.valid, figures.media_bytes), (7, true, 6 * 160));
    assert_eq!((figures.steps, figures.discontinuities), (Some((160, 160)), 0));
}

#[test]
fn a_restart_begins_another_sequence_and_an_outage_does_not() {
    let (source, seen) = given(&[
        (1, 160, 20 * MS),
        (2, 320, 40 * MS),
        (40_000, 0x9000_0000, 60 * MS),
        (40_001, 0x9000_00a0, 80 * MS),
        (40_003, 0x9000_01e0, 120 * MS),
    ]);
    assert_eq!(seen[2], Seen::Doubtful);
    assert!(matches!(seen[3], Seen::Restart(_)));
    let figures = source.figures();
    assert_eq!((figures.restarts, figures.expected, figures.received), (1, 6, 5));
    assert_eq!(figures.jitter, 0, "another clock is no jitter");
    // 5000 packets, 100 s, went missing, and the time stamp says so.
    let (source, _) = given(&[(1, 160, 20 * MS), (2, 320, 40 * MS), (5002, 5002 * 160, 5002 * 20 * MS)]);
    let figures = source.figures();
    assert_eq!((figures.restarts, figures.expected, figures.cumulative_lost()), (0, 5002, 4999));
}

#[test]
fn a_time_stamp_that_jumps_without_a_gap_is_a_discontinuity() {
    let (source, _) = given(&[(1, 0, 0), (2, 160, 20 * MS), (3, 160_000, 40 * MS), (4, 160_160, 60 * MS)]);
    assert_eq!((source.figures().discontinuities, source.figures().steps), (1, Some((160, 159_840))));
}

#[test]
fn what_headers_hold_is_told() {
    let clocks = ClockRates::default();
    let mut source = Source::new(&header(1, 0), 0, &clocks);
    let data = [0x32, 1, 2, 3, 0x10, 9, 0, 0];
    let options =
        Options { csrcs: &[5, 6], extension: Some(Extension { profile: ONE_BYTE, data: &data }), padding: 4 };
    for (n, payload_type) in [0, 8, 96].into_iter().enumerate() {
        let mut bytes = vec![0; options.header_len() + 100 + 4];
        options.emit(&Header { payload_type, marker: true, ..header(1 + n as u16, 0) }, &mut bytes);
        source.arrive(&Rtp::parse(&bytes).unwrap(), 0, &clocks);
    }
    let figures = source.figures();
    assert_eq!((figures.csrcs.values(), figures.mixed), (&[5, 6][..], 3));
    assert_eq!(
        (figures.profiles.values(), figures.elements[0], figures.extended),
        (&[ONE_BYTE][..], 0b1010, 3)
    );
    assert_eq!(
        (figures.padded, figures.padding_bytes, figures.media_bytes, figures.markers),
        (3, 12, 300, 3)
    );
    assert_eq!((figures.payload_types, figures.payload_type_changes), (1 | 1 << 8 | 1 << 96, 2));
    assert_eq!((figures.clock_hz, figures.clock_assumed), (90_000, true));
}

proptest! {
    /// A.8 as it is printed, on whole numbers: arrival in units, transit, difference, sixteenth.
    #[test]
    fn jitter_is_that_of_the_appendix(
        first: u32, steps in prop::collection::vec((0u32..2000, 0u64..100_000_000), 1..300),
    ) {
        let (mut timestamp, mut arrived, mut packets) = (first, 5 * MS, vec![(0u16, first, 5 * MS)]);
        for (n, (step, pause)) in steps.into_iter().enumerate() {
            timestamp = timestamp.wrapping_add(step);
            arrived += pause;
            packets.push((1 + n as u16, timestamp, arrived));
        }
        let (source, _) = given(&packets);
        let (mut transit, mut jitter, mut highest) = (None, 0u32, 0);
        for (_, timestamp, arrived) in packets {
            let units = (u128::from(arrived - 5 * MS) * 8000 / 1_000_000_000) as u32;
            let now = units.wrapping_sub(timestamp).cast_signed();
            if let Some(before) = transit.replace(now) {
                let d = now.wrapping_sub(before).unsigned_abs();
                jitter = jitter + d - ((jitter + 8) >> 4);
                highest = highest.max(jitter >> 4);
            }
        }
        let figures = source.figures();
        prop_assert_eq!((figures.jitter, figures.max_jitter), (u64::from(jitter >> 4), u64::from(highest)));
    }

    #[test]
    fn no_packets_overflow(
        packets in prop::collection::vec(any::<(u16, u32, u64)>(), 1..100), hz in prop_oneof![Just(1), Just(u32::MAX), any::<u32>()],
    ) {
        let mut clocks = ClockRates::default();
        clocks.set(0, hz);
        let mut source = Source::new(&header(packets[0].0, packets[0].1), packets[0].2, &clocks);
        for (sequence, timestamp, arrived_ns) in packets {
            let mut bytes = [0; 12];
            header(sequence, timestamp).emit(&mut bytes);
            source.arrive(&Rtp::parse(&bytes).unwrap(), arrived_ns, &clocks);
        }
        source.figures();
    }
}
