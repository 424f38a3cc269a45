//! The middle of a few rounds, and an interval in which the true middle lies.
//!
//! The interval is of order statistics, which asks nothing of how figures are distributed: of `n` rounds the median lies between the `k`-th least and the `k`-th greatest with the
//! probability that a fair coin thrown `n` times shows at least `k` heads and at least `k` tails. The greatest `k` with at least 95 % is taken: from six rounds on there is one. With fewer the interval
//! is from the least to the greatest, and its coverage, which is then lower, is told: 50 % of two rounds, 75 % of three, 93.75 % of five. One round has none.
#![forbid(unsafe_code)]

use serde::Serialize;

/// What an interval has to cover, where there are enough rounds.
const WANTED: f64 = 0.95;

/// A median with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle figure, or the mean of the two in the middle.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Figures.
    pub rounds: u32,
    /// Probability that the interval holds the true median, in percent; 0 with one figure.
    pub coverage_percent: f64,
}

impl Spread {
    /// Of no figures there is none; what is no number does not count.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let (first, last) = (*sorted.first()?, *sorted.last()?);
        let middle = count / 2;
        let median =
            if count % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        let rank = (1..=count / 2).rev().find(|&k| coverage(count, k) >= WANTED).unwrap_or(1);
        let (low, high) = if count < 2 { (first, last) } else { (sorted[rank - 1], sorted[count - rank]) };
        Some(Self {
            median,
            low,
            high,
            rounds: u32::try_from(count).unwrap_or(u32::MAX),
            coverage_percent: 100.0 * coverage(count, rank),
        })
    }

    /// A single figure, of which nobody knows how far it might have been another.
    pub fn single(figure: f64) -> Self {
        Self { median: figure, low: figure, high: figure, rounds: 1, coverage_percent: 0.0 }
    }

    /// Whether its interval is wholly below `other`'s.
    pub fn is_below(&self, other: &Self) -> bool {
        self.high < other.low
    }

    /// The same in another unit.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { median: self.median * factor, low: self.low * factor, high: self.high * factor, ..self }
    }
}

/// Probability that the median of a population lies between the `k`-th least and the `k`-th greatest of `n` of it: 1 - 2 Σ C(n, i) / 2ⁿ for i < k.
fn coverage(n: usize, k: usize) -> f64 {
    if n < 2 || k < 1 || 2 * k > n {
        return 0.0;
    }
    // C(n, i) / 2ⁿ from one i to the next, by logarithms: 2ⁿ of thousands of rounds is no f64.
    let mut log = -(n as f64) * std::f64::consts::LN_2;
    let mut outside = 0.0;
    for i in 0..k {
        outside += log.exp();
        log += ((n - i) as f64 / (i + 1) as f64).ln();
    }
    (1.0 - 2.0 * outside).max(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_rounds_are_from_least_to_greatest() {
        assert_eq!(Spread::of([]), None);
        let one = Spread::of([5.0]).expect("one");
        assert_eq!((one.median, one.low, one.high, one.coverage_percent), (5.0, 5.0, 5.0, 0.0));
        let three = Spread::of([3.0, 1.0, 2.0]).expect("three");
        assert_eq!((three.median, three.low, three.high), (2.0, 1.0, 3.0));
        assert!((three.coverage_percent - 75.0).abs() < 1e-9);
        let five = Spread::of([1.0, 2.0, 3.0, 4.0, 5.0]).expect("five");
        assert!((five.coverage_percent - 93.75).abs() < 1e-9);
        assert_eq!(Spread::of([f64::NAN, 2.0]).expect("one").rounds, 1);
    }

    #[test]
    fn many_rounds_leave_the_outermost_out() {
        // The tables: n = 10, 2nd and 9th, 97.9 %; n = 20, 6th and 15th, 95.9 %.
        let ten = Spread::of((1..=10).map(f64::from)).expect("ten");
        assert_eq!((ten.low, ten.high, ten.median), (2.0, 9.0, 5.5));
        assert!((ten.coverage_percent - 97.85).abs() < 0.01);
        let twenty = Spread::of((1..=20).map(f64::from)).expect("twenty");
        assert_eq!((twenty.low, twenty.high), (6.0, 15.0));
        assert!((twenty.coverage_percent - 95.86).abs() < 0.01);
        assert_eq!(Spread::of((1..=6).map(f64::from)).map(|s| (s.low, s.high)), Some((1.0, 6.0)));
    }

    proptest! {
        #[test]
        fn the_median_lies_in_its_interval(figures in prop::collection::vec(-1e12..1e12_f64, 1..3000)) {
            let spread = Spread::of(figures.iter().copied()).expect("some");
            prop_assert!(spread.low <= spread.median && spread.median <= spread.high);
            prop_assert!((0.0..=100.0).contains(&spread.coverage_percent));
            if figures.len() >= 6 {
                prop_assert!(spread.coverage_percent >= 95.0);
            }
        }
    }
}
