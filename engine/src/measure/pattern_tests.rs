//! How loss and reordering are spread, against a model that keeps every arrival and goes by the definitions.

use proptest::prelude::*;

use super::super::spread::Spread;
use super::*;

/// Every arrival, copies too: number and time.
#[derive(Debug, Default)]
struct Model {
    arrivals: Vec<(u64, u64)>,
}

impl Model {
    /// The arrivals that are no copies, each with the time of the arrival before it.
    fn unique(&self) -> Vec<(u64, u64, Option<u64>)> {
        let mut unique: Vec<(u64, u64, Option<u64>)> = vec![];
        for (i, &(n, at)) in self.arrivals.iter().enumerate() {
            if unique.iter().all(|(seen, ..)| *seen != n) {
                unique.push((n, at, i.checked_sub(1).map(|before| self.arrivals[before].1)));
            }
        }
        unique
    }

    /// RFC 4737, definition by definition.
    fn reordering(&self) -> Reordering {
        let (unique, mut all) = (self.unique(), Reordering::default());
        for (i, &(n, at, _)) in unique.iter().enumerate() {
            let Some(j) = (0..i).find(|j| unique[*j].0 > n) else { continue };
            all.extents.record((i - j) as u64);
            all.late_ns.record(at - unique[j].1);
            let higher = (0..i).rev().take_while(|k| unique[*k].0 > n).count() as u64;
            if higher > 0 {
                all.n.record(higher);
            }
            all.three += u64::from(higher >= 3);
        }
        all
    }

    /// RFC 3357: the runs of numbers that never came, of those below `next`, and the tail.
    fn loss(&self, end: Option<(u64, bool)>) -> (Spread, Spread, Spread) {
        let unique = self.unique();
        let mut numbers: Vec<_> = unique.iter().map(|(n, ..)| *n).collect();
        numbers.sort_unstable();
        let (head_is_lost, issued) = (end.is_some_and(|(_, lost)| lost), end.map_or(0, |(issued, _)| issued));
        let first = unique.first().map_or(0, |(n, ..)| *n);
        let (mut lengths, mut distances, mut outages) = <(Spread, Spread, Spread)>::default();
        let (mut last_lost, mut last_jump, mut expected) = (None, None, 0);
        for &n in numbers.iter().chain((issued > numbers.last().map_or(0, |n| n + 1)).then_some(&issued)) {
            let from = expected;
            expected = n + 1;
            if from == n || (n <= first && !head_is_lost && n != issued) {
                continue;
            }
            if unique.is_empty() && n != issued {
                continue;
            }
            lengths.record(n - from);
            if let Some(last) = last_lost.replace(n - 1) {
                distances.record(from - last);
            }
            // The first arrival of a higher number than those lost, unless nothing came before it.
            let jump = unique.iter().position(|(m, ..)| *m > from);
            if let Some(jump) = jump
                && let (_, at, Some(before)) = unique[jump]
                && last_jump.replace(jump) != Some(jump)
            {
                outages.record(at - before);
            }
        }
        (lengths, distances, outages)
    }

    /// iperf3's `iperf_udp_recv`, whose numbers begin with 1, and its figures.
    fn as_iperf3(&self) -> AsIperf {
        let (mut highest, mut lost, mut out_of_order) = (0, 0u64, 0);
        for (n, _) in &self.arrivals {
            let id = n + 1;
            if id > highest {
                lost += id - 1 - highest;
                highest = id;
            } else {
                out_of_order += 1;
                lost = lost.saturating_sub(1);
            }
        }
        AsIperf { lost, out_of_order, packets: highest, jitter_ns: None }
    }

    /// iperf 2's `reporter_handle_packet_server_udp`, whose numbers begin with 1 and whose end has one, and its final figures.
    fn as_iperf2(&self, issued: Option<u64>) -> AsIperf {
        let (mut highest, mut gaps, mut out_of_order) = (0, 0u64, 0);
        for id in self.arrivals.iter().map(|(n, _)| n + 1).chain(issued.map(|issued| issued + 1)) {
            if id <= highest {
                out_of_order += 1;
            } else {
                gaps += id - 1 - highest;
                highest = id;
            }
        }
        AsIperf { lost: gaps.saturating_sub(out_of_order), out_of_order, packets: highest, jitter_ns: None }
    }
}

/// Numbers and times as a network delivers them: stretches in order, gaps, datagrams held back singly and by the dozen, copies, and jumps.
fn arrivals() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let step = prop_oneof![
        20 => (Just(1i64), 1usize..6),
        6 => (2i64..6, 1usize..3),
        1 => (60i64..300, 1usize..3),
        5 => (-6i64..=0, 1usize..5),
        3 => (-200i64..-6, 1usize..5),
        1 => (-1500i64..-130, 1usize..3),
    ];
    (0u64..150, prop::collection::vec((step, 0u64..50), 0..150)).prop_map(|(start, steps)| {
        let (mut highest, mut now, mut all) = (start, 1000, vec![(start, 1000)]);
        for ((step, length), pause) in steps {
            let from = highest.saturating_add_signed(step);
            for n in from..from + length as u64 {
                now += pause;
                all.push((n, now));
                highest = highest.max(n);
            }
        }
        all
    })
}

/// The tracker and the model after the same arrivals.
fn both<const W: usize, const R: usize>(arrivals: &[(u64, u64)]) -> (Tracker<W, R>, Model) {
    let (mut tracker, mut model) = (Tracker::default(), Model::default());
    let mut when = When { first_ns: arrivals[0].1, last_ns: 0, now_ns: 0, sent_gap_ns: None };
    for &(n, now_ns) in arrivals {
        when.now_ns = now_ns;
        tracker.arrive(n, &when);
        when.last_ns = now_ns;
        model.arrivals.push((n, now_ns));
    }
    (tracker, model)
}

fn equal<const W: usize>(arrivals: &[(u64, u64)], end: Option<(u64, bool)>) -> Result<(), TestCaseError> {
    let (mut tracker, model) = both::<W, 1_000_000>(arrivals);
    // iperf's own end comes after all that it has sent.
    let end = end.map(|(more, lost)| (tracker.next() + more, lost));
    if let Some((issued, head_is_lost)) = end {
        tracker.end(issued, head_is_lost);
    }
    let detail = tracker.detail();
    prop_assert_eq!(detail.first_number, Some(arrivals[0].0));
    let Loss { lengths, distances, outages_ns, refilled, .. } = detail.loss;
    prop_assert_eq!((lengths.clone(), distances, outages_ns), model.loss(end));
    let mut counters = RxCounters::default();
    tracker.counters(&mut counters);
    prop_assert_eq!((lengths.sum(), refilled), (counters.lost + counters.lost_tail, 0));
    let (got, want) = (detail.reordering, model.reordering());
    prop_assert_eq!((&got.extents, &got.late_ns, got.unplaced), (&want.extents, &want.late_ns, 0));
    prop_assert_eq!(got.extents.count(), counters.reordered);
    if got.at_least == 0 {
        prop_assert_eq!((got.n, got.three), (want.n, want.three));
    } else {
        prop_assert!(got.n.count() <= want.n.count() && got.n.sum() <= want.n.sum());
    }
    prop_assert_eq!(detail.as_iperf3, model.as_iperf3());
    prop_assert_eq!(detail.as_iperf2, model.as_iperf2(end.map(|(issued, _)| issued)));
    Ok(())
}

proptest! {
    #[test]
    fn equal_to_the_definitions(
        arrivals in arrivals(), end in prop::option::of((0u64..300, any::<bool>())),
    ) {
        equal::<1>(&arrivals, end)?;
        equal::<2>(&arrivals, end)?;
        equal::<1024>(&arrivals, end)?;
    }

    /// A memory of a few runs: what is lost is still all there, and what cannot be told any more is said.
    #[test]
    fn what_was_forgotten_is_said(arrivals in arrivals(), more in 0u64..9, head_is_lost: bool) {
        let (mut tracker, model) = both::<2, 3>(&arrivals);
        tracker.end(tracker.next() + more, head_is_lost);
        let (detail, mut counters) = (tracker.detail(), RxCounters::default());
        tracker.counters(&mut counters);
        prop_assert!(tracker.disorder.as_ref().is_none_or(|d| d.missing.len() <= 3));
        let (lengths, refilled) = (&detail.loss.lengths, detail.loss.refilled);
        prop_assert!(lengths.sum() <= counters.lost + counters.lost_tail + refilled);
        if head_is_lost {
            prop_assert_eq!(lengths.sum(), counters.lost + counters.lost_tail + refilled);
        }
        let reordering = &detail.reordering;
        prop_assert_eq!(reordering.extents.count() + reordering.unplaced, counters.reordered);
        prop_assert_eq!(reordering.unplaced, refilled);
        let exact = model.reordering();
        prop_assert!(reordering.extents.sum() <= exact.extents.sum());
        prop_assert!(reordering.extents.range().unwrap_or_default().1 <= exact.extents.range().unwrap_or_default().1);
        prop_assert_eq!(detail.as_iperf3, model.as_iperf3());
        if counters.undecided == 0 && refilled == 0 {
            let whole = model.loss(Some((tracker.issued().unwrap_or(0), head_is_lost)));
            prop_assert_eq!((detail.loss.lengths, detail.loss.distances, detail.loss.outages_ns), whole);
        }
    }

    /// Stretches that are entered at once are as one by one, in these figures too.
    #[test]
    fn stretches_count_as_one_by_one(
        arrivals in arrivals(), stretches in prop::collection::vec(0u64..400, 1..5),
    ) {
        let [one, two] = [false, true].map(|at_once| {
            let mut tracker = Tracker::<2, 64>::default();
            let when = When { first_ns: 5, last_ns: 6, now_ns: 9, sent_gap_ns: None };
            for part in arrivals.chunks(arrivals.len().div_ceil(stretches.len())).zip(&stretches) {
                part.0.iter().for_each(|(n, _)| _ = tracker.arrive(*n, &when));
                match at_once {
                    true => tracker.follow(*part.1),
                    false => (0..*part.1).for_each(|_| _ = tracker.arrive(tracker.next(), &when)),
                }
            }
            tracker.detail()
        });
        prop_assert_eq!(one, two);
    }

    #[test]
    fn any_numbers_and_times(arrivals in prop::collection::vec(any::<(u64, u64)>(), 1..60), issued: u64) {
        let (mut tracker, _) = both::<2, 4>(&arrivals);
        tracker.end(issued, true);
        tracker.detail();
    }
}

/// The reordering extents and n of these numbers.
fn reordering(numbers: &[u64]) -> Reordering {
    let arrivals: Vec<_> = numbers.iter().zip(1..).map(|(n, at)| (*n, at)).collect();
    both::<1024, 1000>(&arrivals).0.detail().reordering
}

#[test]
fn the_definitions_in_examples() {
    // Two packets swapped; one held back by three; two held back together, of which the second has a lower one right before it.
    for (numbers, extents, n, three) in [
        (&[0, 2, 1, 3][..], &[1][..], &[1][..], 0),
        (&[0, 1, 3, 4, 5, 2, 6], &[3], &[3], 1),
        (&[0, 1, 4, 5, 2, 3, 6], &[2, 3], &[2], 0),
        (&[0, 3, 2, 1], &[1, 2], &[1, 2], 0),
        (&[5, 6, 0, 7], &[2], &[2], 0),
        // A copy is no arrival.
        (&[0, 2, 2, 2, 2, 1], &[1], &[1], 0),
    ] {
        let got = reordering(numbers);
        let spread = |values: &[u64]| {
            let mut spread = Spread::default();
            values.iter().for_each(|v| spread.record(*v));
            spread
        };
        assert_eq!((got.extents, got.n, got.three), (spread(extents), spread(n), three), "{numbers:?}");
    }
}

#[test]
fn what_is_not_kept_of_arrivals_is_said() {
    // More stretches than are kept lie between: every second number is left out for a while.
    let mut numbers: Vec<u64> = vec![0];
    numbers.extend((2..400).step_by(2));
    numbers.push(1);
    let got = reordering(&numbers);
    assert_eq!((got.at_least, got.extents.range()), (1, Some((199, 199))));
    let (n, _) = got.n.range().unwrap();
    assert!((STRETCHES as u64..199).contains(&n), "{n}");
}

#[test]
fn an_outage_is_one_however_many_come_late() {
    // 1 to 6 are jumped over, 3 comes late: two periods, one outage, then a tail of 4.
    let (mut tracker, _) = both::<2, 100>(&[(0, 100), (7, 5100), (3, 5200), (8, 5300), (10, 5400)]);
    tracker.end(15, true);
    let loss = tracker.detail().loss;
    assert_eq!(loss.lengths.count(), 4);
    assert_eq!((loss.lengths.sum(), loss.lengths.range()), (10, Some((1, 4))));
    assert_eq!((loss.outages_ns.count(), loss.outages_ns.range()), (2, Some((100, 5000))));
    assert_eq!(loss.distances.range(), Some((2, 3)));
}

#[test]
fn nothing_but_the_end_is_one_period() {
    let mut tracker = Tracker::<2, 4>::default();
    tracker.end(10, true);
    let detail = tracker.detail();
    assert_eq!((detail.first_number, detail.loss.lengths.range()), (None, Some((10, 10))));
    assert_eq!((detail.as_iperf3, detail.as_iperf2.lost), (AsIperf::default(), 10));
}
