//! Times of one session, and how they are distributed.
#![forbid(unsafe_code)]

use hdrhistogram::Histogram;

use crate::measure::tally::MAX_LATENCY_NS;
use crate::report::{Distribution, distribution};

/// Times from 1 ns to a minute, exact to 0.1 %; longer ones count as a minute.
#[derive(Debug)]
pub(super) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MAX_LATENCY_NS, 3).expect("constant bounds are valid"))
    }
}

impl Times {
    pub(super) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    pub(super) fn reset(&mut self) {
        self.0.reset();
    }

    pub(super) fn distribution(&self) -> Option<Distribution> {
        distribution(&self.0)
    }
}

/// The four times of a round trip, in ns of one clock each end: T1 and T4 of the sender's, T2 and T3 of the reflector's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoundTrip {
    pub(super) t1: u64,
    pub(super) t2: u64,
    pub(super) t3: u64,
    pub(super) t4: u64,
}

impl RoundTrip {
    /// (T4 − T1) − (T3 − T2); negative when a clock was set meanwhile.
    pub(super) fn ns(&self) -> i64 {
        self.total().wrapping_sub(self.processing())
    }

    /// T3 − T2.
    pub(super) fn processing(&self) -> i64 {
        difference(self.t3, self.t2)
    }

    /// T2 − T1, with the clocks' offset in it.
    pub(super) fn forward(&self) -> i64 {
        difference(self.t2, self.t1)
    }

    /// T4 − T3, with the clocks' offset in it.
    pub(super) fn backward(&self) -> i64 {
        difference(self.t4, self.t3)
    }

    fn total(&self) -> i64 {
        difference(self.t4, self.t1)
    }

    /// How far the reflector's clock is ahead, if both ways took equally long; `None` when a clock was set meanwhile.
    fn offset(&self) -> Option<Offset> {
        let round_trip = u64::try_from(self.ns()).ok()?;
        let twice = i128::from(self.forward()) - i128::from(self.backward());
        Some(Offset { ns: i64::try_from(twice / 2).ok()?, error_ns: round_trip.div_ceil(2) })
    }
}

/// How far one clock is ahead of another, and by how much that may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) ns: i64,
    pub(super) error_ns: u64,
}

fn difference(later: u64, earlier: u64) -> i64 {
    later.wrapping_sub(earlier).cast_signed()
}

/// What a session's round trips came to.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) round_trip: Times,
    pub(super) from_schedule: Times,
    pub(super) processing: Times,
    pub(super) departure_lag: Times,
    /// Of round trip, way there and way back: from one packet to the next (RFC 3393).
    pub(super) variation: [Times; 3],
    pub(super) forward: Times,
    pub(super) backward: Times,
    /// How far the reflector's clock is ahead, by the shortest round trip, which leaves least open.
    pub(super) offset: Option<Offset>,
    /// Round trips of the running interval.
    pub(super) recent: Times,
    /// Round trips and processing times that came out negative: a clock was set.
    pub(super) negative: u64,
}

impl Figures {
    /// Enters a round trip whose packet was to leave at `intended` (the sender's clock). `one_way`: the clocks agree, as far as they know. `wire`: T4 − T1 by
    /// the NIC, whose clock is none of the others.
    pub(super) fn enter(&mut self, trip: &RoundTrip, intended: u64, one_way: bool, wire: Option<u64>) {
        let round_trip = wire.map_or(trip.ns(), |ns| ns.cast_signed().wrapping_sub(trip.processing()));
        let (Ok(round_trip), Ok(processing)) = (u64::try_from(round_trip), u64::try_from(trip.processing()))
        else {
            self.negative += 1;
            return;
        };
        self.round_trip.record(round_trip);
        self.recent.record(round_trip);
        self.processing.record(processing);
        if let Some(offset) = trip.offset()
            && self.offset.is_none_or(|best| offset.error_ns < best.error_ns)
        {
            self.offset = Some(offset);
        }
        let from_schedule = difference(trip.t4, intended).wrapping_sub(trip.processing());
        self.from_schedule.record(u64::try_from(from_schedule).unwrap_or(0));
        if one_way {
            for (times, ns) in [(&mut self.forward, trip.forward()), (&mut self.backward, trip.backward())] {
                match u64::try_from(ns) {
                    Ok(ns) => times.record(ns),
                    Err(_) => self.negative += 1,
                }
            }
        }
    }

    /// Enters how two packets in a row differ.
    pub(super) fn vary(&mut self, a: &RoundTrip, b: &RoundTrip) {
        let of = |f: fn(&RoundTrip) -> i64| f(b).wrapping_sub(f(a)).unsigned_abs();
        let differences = [of(RoundTrip::ns), of(RoundTrip::forward), of(RoundTrip::backward)];
        for (times, ns) in self.variation.iter_mut().zip(differences) {
            times.record(ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_reflectors_time_and_the_clocks_offset_are_taken_out() {
        let offset = 5_000_000_000;
        let trip = RoundTrip { t1: 1000, t2: offset + 1300, t3: offset + 1700, t4: 2100 };
        assert_eq!((trip.ns(), trip.processing()), (700, 400));
        let next = RoundTrip { t1: 2000, t2: offset + 2350, t3: offset + 2700, t4: 3000 };
        let mut figures = Figures::default();
        figures.enter(&trip, 900, false, None);
        figures.enter(&next, 2000, false, None);
        figures.vary(&trip, &next);
        let max = |times: &Times| times.distribution().unwrap().max;
        assert_eq!((max(&figures.round_trip), max(&figures.from_schedule)), (700, 800));
        assert_eq!(figures.variation.iter().map(max).collect::<Vec<_>>(), [50, 50, 100]);
        assert!(figures.forward.distribution().is_none());
        figures.enter(&trip, 900, false, Some(1050));
        assert_eq!(figures.round_trip.distribution().unwrap().min, 650, "by the NIC");
    }

    #[test]
    fn the_clocks_offset_is_that_of_the_shortest_round_trip() {
        let mut figures = Figures::default();
        let mut enter = |ahead: u64, there, back| {
            let t2 = 1000u64.wrapping_add(there).wrapping_add(ahead);
            let trip = RoundTrip { t1: 1000, t2, t3: t2 + 10, t4: 1010 + there + back };
            figures.enter(&trip, 1000, false, None);
            let Offset { ns, error_ns } = figures.offset.unwrap();
            // It is wrong by no more than it says.
            assert!(ns.abs_diff(ahead.cast_signed()) <= error_ns);
            (ns, error_ns)
        };
        assert_eq!(enter(5_000_000, 300, 100), (5_000_100, 200));
        assert_eq!(enter(5_000_000, 101, 100), (5_000_000, 101));
        assert_eq!(enter(5_000_000, 900, 900), (5_000_000, 101), "a longer one tells less");
        assert_eq!(enter((-7_000i64).cast_unsigned(), 10, 10), (-7_000, 10), "behind");
    }

    #[test]
    fn a_clock_that_was_set_is_counted_and_not_measured() {
        let mut figures = Figures::default();
        figures.enter(&RoundTrip { t1: 1000, t2: 0, t3: 0, t4: 900 }, 1000, false, None);
        figures.enter(&RoundTrip { t1: 1000, t2: 10, t3: 9, t4: 1100 }, 1000, false, None);
        figures.enter(&RoundTrip { t1: 1000, t2: 900, t3: 950, t4: 1100 }, 1000, true, None);
        assert_eq!(figures.negative, 3, "two round trips, one way");
        assert_eq!(figures.round_trip.distribution().unwrap().count, 1);
    }

    #[test]
    fn a_percentile_needs_its_count() {
        let mut times = Times::default();
        for n in 1..=999 {
            times.record(n);
        }
        let p = times.distribution().unwrap();
        assert_eq!((p.p99.is_some(), p.p999, p.p99999), (true, None, None));
        for n in 0..100_000 {
            times.record(n);
        }
        let p = times.distribution().unwrap();
        assert!(p.p999.unwrap() <= p.p9999.unwrap() && p.p99999.unwrap() <= p.max);
    }

    proptest! {
        #[test]
        fn no_times_panic(t1: u64, t2: u64, t3: u64, t4: u64, intended: u64, one_way: bool) {
            let mut figures = Figures::default();
            let trip = RoundTrip { t1, t2, t3, t4 };
            figures.enter(&trip, intended, one_way, None);
            figures.vary(&trip, &RoundTrip { t1: t4, t2: t1, t3: t2, t4: t3 });
        }
    }
}
