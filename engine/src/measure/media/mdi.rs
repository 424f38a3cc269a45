//! Media delivery index (RFC 4445): delay factor and media loss rate of a stream of transport stream packets.
//!
//! A virtual buffer is filled by what arrives and drained at the media rate. Its highest less its lowest level, in time at that rate, is the
//! delay factor (§3.1): how long a receiver has to hold packets back. The media loss rate (§3.2) is packets lost or out of order in a second.
//!
//! An interval lasts from an arrival to the first that is a second or more later; that one is the first of the next interval, and the level just
//! before it the last of this one, so that a silence is in the figure.

/// Shortest interval in ns, as the RFC recommends.
pub const INTERVAL_NS: u64 = 1_000_000_000;

/// Bits times ns in a second: levels are kept so that draining needs no division.
const SCALE: i128 = 1_000_000_000;

/// DF and MLR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mdi {
    /// Delay factor in ns.
    pub delay_factor_ns: u64,
    /// Packets of the medium lost or out of order.
    pub lost: u64,
    /// How long the interval was in ns.
    pub span_ns: u64,
}

impl Mdi {
    /// Media loss rate: packets lost or out of order in a second, rounded to the nearest.
    pub fn media_loss_rate(&self) -> u64 {
        let span = u128::from(self.span_ns.max(1));
        ((u128::from(self.lost) * u128::from(INTERVAL_NS) + span / 2) / span) as u64
    }
}

/// What is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Complete intervals.
    pub intervals: u64,
    /// The last of them.
    pub last: Mdi,
    /// Highest delay factor in ns.
    pub max_delay_factor_ns: u64,
    /// Highest media loss rate, packets a second.
    pub max_media_loss_rate: u64,
    /// Media rate of the last interval, bit/s.
    pub media_rate_bps: u64,
}

/// The interval that goes on.
#[derive(Debug, Clone, Copy)]
struct Open {
    since_ns: u64,
    rate_bps: u64,
    /// What has arrived, in bits.
    filled: i128,
    lowest: i128,
    highest: i128,
    /// Losses before it began.
    lost_before: u64,
}

/// Works out the index of one stream.
#[derive(Debug, Default)]
pub struct Meter {
    figures: Figures,
    open: Option<Open>,
}

impl Meter {
    /// The complete intervals so far.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    #[inline]
    fn begins(&self, now_ns: u64) -> bool {
        self.open.is_none_or(|open| now_ns.saturating_sub(open.since_ns) >= INTERVAL_NS)
    }

    /// Takes in `bytes` of the medium that arrived at `now_ns`. Where they begin an interval, `so_far` is asked how many packets have been lost or out
    /// of order since the start, and for the media rate in bit/s: without one there is no index until there is.
    #[inline]
    pub fn arrive(&mut self, now_ns: u64, bytes: u64, so_far: impl FnOnce() -> (u64, Option<u64>)) {
        if self.begins(now_ns) {
            let (lost, rate_bps) = so_far();
            self.begin(now_ns, lost, rate_bps);
        }
        let Some(open) = &mut self.open else { return };
        let drained = i128::from(now_ns.saturating_sub(open.since_ns)) * i128::from(open.rate_bps);
        open.lowest = open.lowest.min(open.filled * SCALE - drained);
        open.filled += i128::from(bytes) * 8;
        open.highest = open.highest.max(open.filled * SCALE - drained);
    }

    #[cold]
    fn begin(&mut self, now_ns: u64, lost: u64, rate_bps: Option<u64>) {
        if let Some(mut open) = self.open.take() {
            let span_ns = now_ns - open.since_ns;
            let drained = i128::from(span_ns) * i128::from(open.rate_bps);
            open.lowest = open.lowest.min(open.filled * SCALE - drained);
            let last = Mdi {
                delay_factor_ns: ((open.highest - open.lowest) / i128::from(open.rate_bps)) as u64,
                lost: lost.saturating_sub(open.lost_before),
                span_ns,
            };
            let figures = &mut self.figures;
            figures.intervals += 1;
            figures.last = last;
            figures.max_delay_factor_ns = figures.max_delay_factor_ns.max(last.delay_factor_ns);
            figures.max_media_loss_rate = figures.max_media_loss_rate.max(last.media_loss_rate());
            figures.media_rate_bps = open.rate_bps;
        }
        self.open = rate_bps.filter(|rate| *rate > 0).map(|rate_bps| Open {
            since_ns: now_ns,
            rate_bps,
            filled: 0,
            lowest: 0,
            highest: 0,
            lost_before: lost,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packets_at_the_media_rate_need_a_buffer_of_one_packet() {
        let mut meter = Meter::default();
        // 1316 bytes each 10 ms.
        let rate = 1316 * 8 * 100;
        (0..=100u64).for_each(|n| meter.arrive(n * 10_000_000, 1316, || (0, Some(rate))));
        let figures = meter.figures();
        assert_eq!((figures.intervals, figures.last.delay_factor_ns), (1, 10_000_000));
        assert_eq!((figures.last.media_loss_rate(), figures.media_rate_bps), (0, rate));
    }

    #[test]
    fn a_silence_is_in_the_delay_factor_and_losses_are_per_second() {
        let mut meter = Meter::default();
        meter.arrive(0, 1250, || (5, Some(1_000_000)));
        meter.arrive(10_000_000, 1250, || (5, Some(1_000_000)));
        // Two seconds later: 10 ms were filled, 2 s drained.
        meter.arrive(2_010_000_000, 1250, || (35, Some(1_000_000)));
        let figures = meter.figures();
        assert_eq!(figures.last, Mdi { delay_factor_ns: 2_000_000_000, lost: 30, span_ns: 2_010_000_000 });
        assert_eq!((figures.last.media_loss_rate(), figures.max_media_loss_rate), (15, 15));
    }

    #[test]
    fn without_a_media_rate_there_is_no_index() {
        let mut meter = Meter::default();
        for n in 0..5 {
            meter.arrive(n * INTERVAL_NS, 1316, || (0, (n >= 3).then_some(8000)));
        }
        assert_eq!(meter.figures().intervals, 1);
    }

    proptest! {
        /// The slow, obvious way: all levels of an interval just before and just after each arrival.
        #[test]
        fn the_index_is_that_of_the_definition(
            arrivals in prop::collection::vec((0u64..400_000_000, 1u64..10_000, 0u64..3), 1..60), rate in 1u64..20_000_000,
        ) {
            let (mut meter, mut now, mut lost) = (Meter::default(), 0, 0);
            let mut all = Vec::new();
            for (pause, bytes, more) in arrivals {
                now += pause;
                lost += more;
                meter.arrive(now, bytes, || (lost, Some(rate)));
                all.push((now, bytes, lost));
            }
            let (mut from, mut intervals) = (0, vec![]);
            while let Some(next) = (from..all.len()).find(|at| all[*at].0 - all[from].0 >= INTERVAL_NS) {
                let start = all[from].0;
                let level = |until: usize, at: u64| {
                    let bits: u64 = all[from..until].iter().map(|(_, bytes, _)| bytes * 8).sum();
                    bits as f64 - rate as f64 * (at - start) as f64 / 1e9
                };
                let levels = (from..next).flat_map(|n| [level(n, all[n].0), level(n + 1, all[n].0)]);
                let levels: Vec<f64> = levels.chain([level(next, all[next].0)]).collect();
                let highest = levels.iter().copied().fold(f64::MIN, f64::max);
                let lowest = levels.iter().copied().fold(f64::MAX, f64::min);
                intervals.push(((highest - lowest) / rate as f64 * 1e9, all[next].2 - all[from].2));
                from = next;
            }
            let figures = meter.figures();
            prop_assert_eq!(figures.intervals as usize, intervals.len());
            if let Some((factor, lost)) = intervals.last() {
                let off = (figures.last.delay_factor_ns as f64 - factor).abs();
                prop_assert!(off <= 1.0 + factor * 1e-9, "{} is not {}", figures.last.delay_factor_ns, factor);
                prop_assert_eq!(figures.last.lost, *lost);
                let highest = intervals.iter().map(|(factor, _)| *factor).fold(0.0, f64::max);
                prop_assert!((figures.max_delay_factor_ns as f64 - highest).abs() <= 1.0 + highest * 1e-9);
            }
        }
    }
}
