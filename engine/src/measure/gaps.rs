//! Times between one batch of packets and the next: inter-departure and inter-arrival.
#![forbid(unsafe_code)]

use hdrhistogram::Histogram;

use super::tally::gap_histogram;

/// Records the time from each batch to the next without allocating; one longer than
/// [`MAX_LATENCY_NS`](super::tally::MAX_LATENCY_NS) counts as that.
#[derive(Debug)]
pub struct Gaps {
    histogram: Histogram<u64>,
    /// Time of the last batch; 0 before the first.
    last_ns: u64,
}

impl Default for Gaps {
    fn default() -> Self {
        Self { histogram: gap_histogram(), last_ns: 0 }
    }
}

impl Gaps {
    /// Takes in packets of time `at_ns`. Those of one time are one batch, also when they come in several calls. A clock that steps
    /// back leaves no gap.
    #[inline]
    pub fn mark(&mut self, at_ns: u64) {
        let last_ns = std::mem::replace(&mut self.last_ns, at_ns);
        if last_ns != 0 && at_ns > last_ns {
            self.histogram.saturating_record(at_ns - last_ns);
        }
    }

    /// Hands over what was recorded since the last time and starts anew; what `into` held is gone.
    pub fn hand_over(&mut self, into: &mut Histogram<u64>) {
        into.reset();
        std::mem::swap(into, &mut self.histogram);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gap_less_than_batches() {
        let mut gaps = Gaps::default();
        for at in [5_000, 5_000, 6_000, 6_000, 6_000, 9_000, 2_000, 4_000] {
            gaps.mark(at);
        }
        let mut got = gap_histogram();
        got.record(7).unwrap();
        gaps.hand_over(&mut got);
        assert_eq!(got.len(), 3, "three batches, a step back, a batch; what it held before is gone");
        assert_eq!(got.min(), 1_000);
        assert_eq!(got.value_at_quantile(0.5), got.highest_equivalent(2_000));
        assert!(got.max().abs_diff(3_000) <= 30);
        gaps.mark(104_000);
        gaps.hand_over(&mut got);
        assert_eq!(got.len(), 1, "the time of the last batch is not forgotten");
        assert!(got.max().abs_diff(100_000) <= 1_000);
    }

    #[test]
    fn no_times_overflow() {
        let mut gaps = Gaps::default();
        for at in [1, u64::MAX, 0, u64::MAX, 3] {
            gaps.mark(at);
        }
        let mut got = gap_histogram();
        gaps.hand_over(&mut got);
        assert_eq!(got.len(), 1);
    }
}
