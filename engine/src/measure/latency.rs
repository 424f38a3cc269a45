//! One-way latency between two readings of CLOCK_TAI.
#![forbid(unsafe_code)]

use hdrhistogram::Histogram;

use super::tally::latency_histogram;

/// Records latencies without allocating; those above [`MAX_LATENCY_NS`](super::tally::MAX_LATENCY_NS) count as that.
///
/// Datagrams that were sent in one batch and arrive in one have the same latency, so equal ones in a row are
/// added up before they go into the histogram.
#[derive(Debug)]
pub struct Recorder {
    histogram: Histogram<u64>,
    /// The last latency, and how often it came that the histogram does not know of.
    last: u64,
    waiting: u64,
    negative: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { histogram: latency_histogram(), last: 0, waiting: 0, negative: 0 }
    }
}

impl Recorder {
    /// Takes in `count` datagrams. Those that arrived before they were sent are not measured but counted: the clocks disagree.
    #[inline]
    pub fn record(&mut self, sent_ns: u64, arrived_ns: u64, count: u64) {
        match arrived_ns.checked_sub(sent_ns) {
            Some(latency) => {
                if latency != self.last {
                    self.settle();
                    self.last = latency;
                }
                self.waiting += count;
            }
            None => self.negative += count,
        }
    }

    #[inline(never)]
    fn settle(&mut self) {
        // None at all would still count as a minimum.
        if self.waiting > 0 {
            self.histogram.saturating_record_n(self.last, std::mem::take(&mut self.waiting));
        }
    }

    /// Hands over what was recorded since the last time and starts anew; what `into` held is gone.
    pub fn hand_over(&mut self, into: &mut Histogram<u64>) {
        self.settle();
        into.reset();
        std::mem::swap(into, &mut self.histogram);
    }

    /// Datagrams that seemed to arrive before they were sent, in all.
    pub fn negative(&self) -> u64 {
        self.negative
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::MAX_LATENCY_NS;
    use super::*;

    #[test]
    fn records_saturates_and_counts_the_impossible() {
        let mut recorder = Recorder::default();
        recorder.record(1000, 1000, 1);
        recorder.record(1000, 6000, 1);
        recorder.record(0, u64::MAX, 1);
        recorder.record(2, 1, 1);
        recorder.record(1000, 6000, 3);
        let mut got = latency_histogram();
        got.record(7).unwrap();
        recorder.hand_over(&mut got);
        assert_eq!(got.len(), 6, "what it held before is gone");
        assert_eq!(got.min(), 0);
        assert!(got.max() >= MAX_LATENCY_NS && got.max() < MAX_LATENCY_NS + MAX_LATENCY_NS / 50);
        assert!(got.value_at_quantile(0.5).abs_diff(5000) <= 50);
        assert_eq!(recorder.negative(), 1);
        recorder.hand_over(&mut got);
        assert_eq!(got.len(), 0);
        assert_eq!(recorder.negative(), 1, "a total");
    }
}
