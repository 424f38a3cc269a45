//! The tracker against a model that remembers everything.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// 128 numbers of window, and a memory that never runs out.
type Small = Tracker<2, 1_000_000>;

/// Every number that arrived, and the definitions word by word.
#[derive(Default)]
struct Model {
    seen: HashSet<u64>,
    base: u64,
    highest: u64,
    duplicate: u64,
    reordered: u64,
    late: u64,
}

impl Model {
    fn arrive(&mut self, n: u64, window: u64) -> Arrival {
        let first = self.seen.is_empty();
        if !self.seen.insert(n) {
            self.duplicate += 1;
            return Arrival::Duplicate;
        }
        if first {
            (self.base, self.highest) = (n, n);
        }
        if n >= self.highest {
            self.highest = n;
            return Arrival::InOrder;
        }
        self.reordered += 1;
        if self.highest - n < window {
            return Arrival::Reordered;
        }
        self.late += 1;
        Arrival::Late
    }

    fn counters(&self, end: Option<(u64, bool)>) -> RxCounters {
        let missing = |from: u64, to: u64| (from..to).filter(|n| !self.seen.contains(n)).count() as u64;
        let next = if self.seen.is_empty() { 0 } else { self.highest + 1 };
        let (head, gaps) = (missing(0, self.base), missing(self.base, next));
        let head_is_lost = end.is_some_and(|(_, lost)| lost);
        RxCounters {
            packets: self.seen.len() as u64 + self.duplicate,
            unique: self.seen.len() as u64,
            duplicate: self.duplicate,
            lost: gaps + if head_is_lost { head } else { 0 },
            before_start: if head_is_lost { 0 } else { head },
            lost_tail: end.map_or(0, |(issued, _)| issued.saturating_sub(next)),
            reordered: self.reordered,
            late: self.late,
            ..RxCounters::default()
        }
    }
}

/// Number `n` arrives when nobody asks for times.
fn arrive<const W: usize, const R: usize>(tracker: &mut Tracker<W, R>, n: u64) -> Arrival {
    tracker.arrive(n, &When::default())
}

fn counters<const W: usize, const R: usize>(tracker: &Tracker<W, R>) -> RxCounters {
    let mut counters = RxCounters::default();
    tracker.counters(&mut counters);
    counters
}

/// Numbers as a network delivers them: in order, with gaps, copies, reordering near and far, and jumps.
fn arrivals() -> impl Strategy<Value = Vec<u64>> {
    let step = prop_oneof![
        20 => Just(1i64),
        4 => 2i64..5,
        1 => 60i64..70,
        1 => 120i64..140,
        1 => 200i64..1000,
        4 => -3i64..=0,
        2 => -130i64..-60,
        2 => -1500i64..-130,
    ];
    (0u64..400, prop::collection::vec(step, 0..400)).prop_map(|(start, steps)| {
        let (mut highest, mut all) = (start, vec![start]);
        for step in steps {
            let n = highest.saturating_add_signed(step);
            highest = highest.max(n);
            all.push(n);
        }
        all
    })
}

proptest! {
    #[test]
    fn equal_to_the_model(arrivals in arrivals(), issued in 0u64..40_000, head_is_lost: bool) {
        let (mut tracker, mut model) = (Small::default(), Model::default());
        for n in arrivals {
            prop_assert_eq!(arrive(&mut tracker, n), model.arrive(n, 128), "number {}", n);
        }
        prop_assert_eq!(counters(&tracker), model.counters(None));
        tracker.end(issued, head_is_lost);
        tracker.end(issued + 1, !head_is_lost);
        prop_assert_eq!(counters(&tracker), model.counters(Some((issued, head_is_lost))));
    }

    #[test]
    fn what_was_forgotten_is_said(arrivals in arrivals()) {
        let (mut tracker, mut model) = (Tracker::<2, 2>::default(), Model::default());
        for n in arrivals {
            arrive(&mut tracker, n);
            model.arrive(n, 128);
            prop_assert!(tracker.disorder.as_ref().is_none_or(|d| d.missing.len() <= 2));
        }
        let (got, want) = (counters(&tracker), model.counters(None));
        prop_assert_eq!(got.packets, want.packets);
        // Each late arrival taken for a copy leaves one number lost too many, and is undecided.
        let mistaken = want.unique - got.unique;
        prop_assert_eq!(got.duplicate, want.duplicate + mistaken);
        prop_assert_eq!(got.lost + got.before_start, want.lost + want.before_start + mistaken);
        prop_assert!(mistaken <= got.undecided);
    }

    #[test]
    fn stretches_count_as_one_by_one(
        steps in prop::collection::vec((arrivals(), 0u64..400), 1..4), forgetful: bool,
    ) {
        // Each of the arrivals moved to where the last stretch ended, so that windows are crossed again and again.
        fn both<const R: usize>(steps: Vec<(Vec<u64>, u64)>) -> [(RxCounters, Vec<Arrival>); 2] {
            [false, true].map(|at_once| {
                let (mut tracker, mut seen) = (Tracker::<2, R>::default(), vec![]);
                for (arrivals, stretch) in &steps {
                    let from = tracker.next().saturating_sub(150);
                    seen.extend(arrivals.iter().map(|n| arrive(&mut tracker, from + n)));
                    if at_once {
                        tracker.follow(*stretch);
                    } else {
                        (0..*stretch).for_each(|_| assert_eq!({
                            let next = tracker.next();
                            arrive(&mut tracker, next)
                        }, Arrival::InOrder));
                    }
                }
                let all = 0..tracker.next();
                seen.extend(all.map(|n| arrive(&mut tracker, n)));
                (counters(&tracker), seen)
            })
        }
        let [one_by_one, at_once] = if forgetful { both::<3>(steps) } else { both::<1_000_000>(steps) };
        prop_assert_eq!(one_by_one, at_once);
    }

    #[test]
    fn any_numbers_at_all(numbers in prop::collection::vec(any::<u64>(), 0..50), issued: u64) {
        let mut tracker = Small::default();
        numbers.iter().for_each(|n| _ = arrive(&mut tracker, *n));
        tracker.end(issued, true);
        prop_assert_eq!(counters(&tracker).packets, numbers.len() as u64);
    }
}

#[test]
fn a_clean_stream_needs_no_window() {
    let mut tracker = Tracker::<1024, MAX_RUNS>::default();
    for n in 7..200_000 {
        assert_eq!(arrive(&mut tracker, n), Arrival::InOrder);
    }
    assert!(tracker.disorder.is_none());
    let c = counters(&tracker);
    assert_eq!((c.unique, c.lost, c.before_start), (199_993, 0, 7));
}

#[test]
fn the_full_window_is_65536() {
    let mut tracker: Tracker = Tracker::default();
    arrive(&mut tracker, 0);
    arrive(&mut tracker, 3);
    arrive(&mut tracker, 65_537);
    assert_eq!(arrive(&mut tracker, 2), Arrival::Reordered);
    assert_eq!(arrive(&mut tracker, 1), Arrival::Late);
    assert_eq!(arrive(&mut tracker, 1), Arrival::Duplicate);
    assert_eq!(arrive(&mut tracker, 0), Arrival::Duplicate);
    assert_eq!(counters(&tracker).lost, 65_533);
}

#[test]
fn a_window_made_late_knows_what_came_before_it() {
    for (base, last) in [(5, 300), (5, 60), (500, 510)] {
        let mut tracker = Small::default();
        for n in base..=last {
            arrive(&mut tracker, n);
        }
        arrive(&mut tracker, last + 2);
        for n in base..=last {
            assert_eq!(arrive(&mut tracker, n), Arrival::Duplicate, "{n} of {base} to {last}");
        }
        for n in (0..base).chain([last + 1]) {
            assert!(
                matches!(arrive(&mut tracker, n), Arrival::Late | Arrival::Reordered),
                "{n} of {base} to {last}"
            );
            assert_eq!(arrive(&mut tracker, n), Arrival::Duplicate);
        }
        assert_eq!((counters(&tracker).lost, counters(&tracker).before_start), (0, 0));
    }
}

#[test]
fn only_the_end_arrived() {
    let mut tracker = Small::default();
    tracker.end(10, true);
    let c = counters(&tracker);
    assert_eq!((c.packets, c.lost, c.lost_tail), (0, 0, 10));
}

#[test]
fn a_repeated_iperf_end_counts_by_its_lowest() {
    let mut tracker = Small::default();
    arrive(&mut tracker, 0);
    tracker.end_at_most(5);
    tracker.end_at_most(6);
    tracker.end_at_most(4);
    assert_eq!((tracker.issued(), counters(&tracker).lost_tail), (Some(4), 3));
}
