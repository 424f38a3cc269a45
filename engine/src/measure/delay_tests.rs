//! Delay variation against its definition.

use proptest::prelude::*;

use super::*;

/// The distances of all from the lowest, in order.
fn exact(transits: &[i64]) -> Vec<u64> {
    let lowest = *transits.iter().min().expect("not empty");
    let mut distances: Vec<u64> = transits.iter().map(|t| t.abs_diff(lowest)).collect();
    distances.sort_unstable();
    distances
}

/// What a worker with a hand-over after every `piece` packets and a collector make of them.
fn told(transits: &[i64], piece: usize) -> Histogram<u64> {
    let (mut worker, mut tally, mut all) = (Spread::default(), Spread::default(), Spread::default());
    for piece in transits.chunks(piece) {
        piece.iter().for_each(|&transit| worker.record(transit, 1));
        worker.hand_over(&mut tally);
        all.add(&tally);
    }
    let mut pdv = latency_histogram();
    all.above_lowest(&mut pdv);
    pdv
}

fn check(transits: &[i64], piece: usize) -> Result<(), TestCaseError> {
    let (pdv, exact) = (told(transits, piece), exact(transits));
    prop_assert_eq!(pdv.len(), exact.len() as u64);
    let last = exact.len() - 1;
    // What is typical sets how exactly the lowest are told.
    let typical = exact[exact.len() / 2];
    for quantile in [0.0, 0.1, 0.5, 0.9, 0.99, 1.0] {
        let got = pdv.value_at_quantile(quantile);
        // Values that lie closely together may swap places when they are rounded.
        let at = (quantile * last as f64).round() as usize;
        let (low, high) = (exact[at.saturating_sub(1)], exact[(at + 1).min(last)]);
        let slack = |value: u64| value / 25 + typical / 25 + 3;
        prop_assert!(
            got + slack(low) >= low && got <= high + slack(high),
            "{} at {}, {:?}",
            got,
            quantile,
            (low, high)
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn variation_is_the_distance_from_the_lowest_whatever_the_clocks_offset(
        delays in prop::collection::vec(0i64..3_000_000, 1..400), offset in -(1i64 << 60)..(1 << 60), piece in 1usize..100,
    ) {
        let transits: Vec<i64> = delays.iter().map(|d| d + offset).collect();
        check(&transits, piece)?;
    }

    #[test]
    fn a_minimum_that_falls_all_the_time_spoils_nothing(
        fall in 1i64..5_000, jitter in prop::collection::vec(0i64..20_000, 200..2_000), piece in 1usize..50,
    ) {
        // A receiver's clock that runs slow: each packet seems to be faster than the last.
        let transits: Vec<i64> = (0..).zip(&jitter).map(|(n, j)| j - n * fall).collect();
        check(&transits, piece)?;
    }

    #[test]
    fn alike_packets_count_as_one_by_one(transits in prop::collection::vec((0i64..50, 1u64..9), 1..50)) {
        let (mut at_once, mut singly) = (Spread::default(), Spread::default());
        for &(transit, count) in &transits {
            at_once.record(transit, count);
            (0..count).for_each(|_| singly.record(transit, 1));
        }
        let (mut a, mut b) = (Spread::default(), Spread::default());
        at_once.hand_over(&mut a);
        singly.hand_over(&mut b);
        prop_assert_eq!(a.above, b.above);
        prop_assert_eq!(a.below, b.below);
    }

    #[test]
    fn no_times_overflow(times in prop::collection::vec(any::<i64>(), 0..100)) {
        let (mut spread, mut tally, mut all) = (Spread::default(), Spread::default(), Spread::default());
        let mut steps = Steps::default();
        for time in times {
            spread.record(time, 1);
            steps.record(time);
            spread.hand_over(&mut tally);
            all.add(&tally);
        }
        all.above_lowest(&mut latency_histogram());
    }
}

#[test]
fn a_slow_first_packet_does_not_make_the_others_coarse() {
    // The first took a millisecond for neighbour discovery, the others 10 to 12 µs.
    let mut transits = vec![1_000_000];
    transits.extend((0..1000).map(|n| 10_000 + n % 2_000));
    let pdv = told(&transits, 10);
    assert!(pdv.value_at_quantile(0.5).abs_diff(500) < 60, "{}", pdv.value_at_quantile(0.5));
    assert!(pdv.max().abs_diff(990_000) < 10_000);
    assert!(pdv.min() < 50, "{}", pdv.min());
}

#[test]
fn differences_keep_their_signs_at_the_ends() {
    let (mut steps, mut got) = (Steps::default(), Steps::default());
    steps.record_none(7);
    steps.record(-30);
    steps.record(20);
    steps.hand_over(&mut got);
    assert_eq!((got.sizes.len(), got.lowest, got.highest, got.sizes.max()), (9, -30, 20, 30));
    assert_eq!(got.sizes.value_at_quantile(0.5), 0);
    steps.record(5);
    steps.hand_over(&mut got);
    assert_eq!((got.sizes.len(), got.lowest, got.highest), (1, 5, 5));
}

#[test]
fn senders_have_clocks_of_their_own() {
    let (mut spreads, mut tally) = (Spreads::default(), Vec::new());
    let address = |last| IpAddr::from([10, 0, 0, last]);
    for last in 0..MAX_SENDERS as u8 {
        assert_eq!(spreads.place(address(last), 1), Some(last));
    }
    assert_eq!((spreads.place(address(9), 1), spreads.place(address(0), 1)), (None, Some(0)));
    for n in 0..10 {
        spreads.record(0, 100 + n, 1);
        spreads.record(1, 5_000_000_000 + n, 1);
    }
    spreads.hand_over(&mut tally);
    let mut pdv = latency_histogram();
    tally.iter().for_each(|sender| sender.spread.above_lowest(&mut pdv));
    assert_eq!((pdv.len(), pdv.max()), (20, 9));
}
