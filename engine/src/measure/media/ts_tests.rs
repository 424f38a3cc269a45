use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::packet::ts::SYNC;

/// A packet of `pid` with a payload.
fn packet(pid: u16, continuity: u8) -> [u8; LEN] {
    let mut packet = [0xff; LEN];
    packet[..4].copy_from_slice(&[SYNC, (pid >> 8) as u8, pid as u8, 0x10 | continuity & 0x0f]);
    packet
}

/// With a clock reference of `pcr`, and an announcement of a discontinuity where asked for.
fn with_pcr(pid: u16, continuity: u8, pcr: u64, discontinuity: bool) -> [u8; LEN] {
    let mut packet = packet(pid, continuity);
    packet[3] |= 0x20;
    let (base, extension) = (pcr / 300, pcr % 300);
    packet[4..6].copy_from_slice(&[7, 0x10 | u8::from(discontinuity) << 7]);
    packet[6..10].copy_from_slice(&((base >> 1) as u32).to_be_bytes());
    packet[10..12].copy_from_slice(&(((base & 1) << 15) as u16 | 0x7e00 | extension as u16).to_be_bytes());
    packet
}

const UNNUMBERED: Option<fn() -> u64> = None;

fn given(packets: &[[u8; LEN]]) -> Figures {
    let mut transport = Transport::new(None);
    packets.iter().enumerate().for_each(|(n, p)| transport.arrive(p, n as u64 * 1_000_000, UNNUMBERED));
    let mut figures = Figures::default();
    transport.tell(&mut figures);
    figures
}

#[test]
fn counters_may_repeat_once_stand_still_without_payload_and_jump_when_announced() {
    let mut without_payload = packet(0x100, 9);
    without_payload[3] = 0x20 | 9;
    without_payload[4..6].copy_from_slice(&[183, 0]);
    let figures = given(&[
        packet(0x100, 14),
        packet(0x100, 15),
        packet(0x100, 15),
        packet(0x100, 0),
        without_payload,
        packet(0x101, 7),
        packet(0x100, 1),
        with_pcr(0x100, 12, 0, true),
        packet(0x100, 13),
    ]);
    assert_eq!((figures.continuity_errors, figures.missing, figures.packets), (0, 0, 9));
    assert_eq!((figures.pids[0].repeated, figures.pids[0].packets, figures.pids[1].pid), (1, 8, 0x101));
    let figures = given(&[
        packet(5, 1),
        packet(5, 1),
        packet(5, 1),
        packet(5, 2),
        packet(5, 6),
        packet(NULL, 0),
        packet(NULL, 9),
    ]);
    assert_eq!((figures.continuity_errors, figures.missing, figures.null_packets), (2, 3, 2));
}

#[test]
fn what_is_not_in_sync_broken_or_odd_is_counted() {
    let mut broken = packet(9, 3);
    broken[1] |= 0x80;
    let mut odd = packet(9, 3);
    odd[3] |= 0x20;
    odd[4] = 200;
    let mut lost_sync = packet(9, 3);
    lost_sync[0] = 0;
    let mut transport = Transport::new(None);
    transport.arrive(
        &[&packet(9, 1)[..], &broken, &odd, &lost_sync, &packet(9, 2), &[SYNC; 10]].concat(),
        0,
        UNNUMBERED,
    );
    let mut figures = Figures::default();
    transport.tell(&mut figures);
    assert_eq!(
        (figures.packets, figures.sync_errors, figures.transport_errors, figures.malformed),
        (4, 2, 1, 1)
    );
    assert_eq!((figures.continuity_errors, figures.pids.len()), (0, 1));
}

#[test]
fn the_clock_gives_interval_rate_and_jitter() {
    // 1504 bits each ms, a reference each 20 ms, over the wrap of the clock.
    let step = 27_000;
    let start = PCR_WRAP - 50 * step;
    let packets: Vec<_> = (0..2001u64)
        .map(|n| match n % 20 {
            0 => with_pcr(0x100, n as u8, (start + n * step) % PCR_WRAP, false),
            _ => packet(0x100, n as u8),
        })
        .collect();
    let figures = given(&packets);
    let clock = figures.clock.unwrap();
    assert_eq!((clock.pid, clock.count, clock.jumps, clock.max_interval_ns), (0x100, 101, 0, 20_000_000));
    assert_eq!((clock.rate_bps, clock.jitter_ns), (Some(1_504_000), Some((0, 0))));
    // The first second has no rate yet.
    assert_eq!((figures.mdi.intervals, figures.mdi.media_rate_bps), (1, 1_504_000));
    let figures =
        given(&[with_pcr(1, 0, 0, false), with_pcr(1, 1, PCR_HZ * 11, false), with_pcr(1, 2, 5, true)]);
    assert_eq!(figures.clock.unwrap().jumps, 1);
}

#[test]
fn the_rate_leaves_out_stretches_in_which_something_is_missing() {
    let mut transport = Transport::new(None);
    // A reference each 20 packets, and packets that hold nothing between: nobody counts those.
    for n in (0..201u64).filter(|n| n % 40 != 7) {
        if n % 40 == 8 {
            transport.gap();
        }
        let packet =
            if n % 20 == 0 { with_pcr(0x100, (n / 20) as u8, n * 27_000, false) } else { packet(NULL, 0) };
        transport.arrive(&packet, n * 1_000_000, UNNUMBERED);
    }
    let mut figures = Figures::default();
    transport.tell(&mut figures);
    assert_eq!((figures.clock.unwrap().rate_bps, figures.continuity_errors), (Some(1_504_000), 0));
}

#[test]
fn more_pids_than_are_followed_are_counted() {
    let figures = given(&(0..300).map(|pid| packet(pid, 0)).collect::<Vec<_>>());
    assert_eq!((figures.pids.len(), figures.untracked, figures.packets), (MAX_PIDS, 45, 300));
}

proptest! {
    /// Whatever is taken out between packets of a stream, its counters show what they can: each gap less whole rounds of 16.
    #[test]
    fn losses_show_as_far_as_four_bits_can(
        pids in prop::collection::vec(0u16..4, 1..300), lost in prop::collection::vec(any::<bool>(), 300),
    ) {
        let mut next: BTreeMap<u16, u64> = BTreeMap::new();
        let (mut arrived, mut gap) = (Vec::new(), BTreeMap::new());
        let (mut errors, mut missing, mut first) = (0, 0, BTreeMap::new());
        for (pid, lost) in pids.into_iter().zip(lost) {
            let n = next.entry(pid).or_insert(0);
            if lost {
                *gap.entry(pid).or_insert(0u64) += 1;
            } else {
                let gap = gap.remove(&pid).unwrap_or(0);
                // A gap of 15 looks like a copy.
                prop_assume!(gap % 16 != 15);
                if first.insert(pid, ()).is_some() && gap % 16 != 0 {
                    errors += 1;
                    missing += gap % 16;
                }
                arrived.push(packet(0x20 + pid, *n as u8));
            }
            *n += 1;
        }
        let figures = given(&arrived);
        prop_assert_eq!((figures.continuity_errors, figures.missing), (errors, missing));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), arrived_ns: u64) {
        let mut transport = Transport::new(Some(1));
        let mut bytes = bytes;
        bytes.chunks_mut(LEN).for_each(|packet| packet[0] = SYNC);
        transport.arrive(&bytes, arrived_ns, UNNUMBERED);
        transport.arrive(&bytes, 0, Some(|| 3));
        transport.arrive(&bytes, u64::MAX, Some(|| 0));
    }
}
