//! One-way latency between two readings of CLOCK_TAI.
#![forbid(unsafe_code)]

use hdrhistogram::Histogram;

use super::tally::latency_histogram;

/// Records latencies without allocating; those above [`MAX_LATENCY_NS`](super::tally::MAX_LATENCY_NS) count as that.
#[derive(Debug)]
pub struct Recorder {
    histogram: Histogram<u64>,
    negative: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { histogram: latency_histogram(), negative: 0 }
    }
}

impl Recorder {
    /// Takes in a datagram. One that arrived before it was sent is not measured but counted: the clocks disagree.
    #[inline]
    pub fn record(&mut self, sent_ns: u64, arrived_ns: u64) {
        match arrived_ns.checked_sub(sent_ns) {
            Some(latency) => self.histogram.saturating_record(latency),
            None => self.negative += 1,
        }
    }

    /// Hands over what was recorded since the last time and starts anew; what `into` held is gone.
    pub fn hand_over(&mut self, into: &mut Histogram<u64>) {
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
        recorder.record(1000, 1000);
        recorder.record(1000, 6000);
        recorder.record(0, u64::MAX);
        recorder.record(2, 1);
        let mut got = latency_histogram();
        got.record(7).unwrap();
        recorder.hand_over(&mut got);
        assert_eq!(got.len(), 3, "what it held before is gone");
        assert_eq!(got.min(), 0);
        assert!(got.max() >= MAX_LATENCY_NS && got.max() < MAX_LATENCY_NS + MAX_LATENCY_NS / 50);
        assert!(got.value_at_quantile(0.5).abs_diff(5000) <= 50);
        assert_eq!(recorder.negative(), 1);
        recorder.hand_over(&mut got);
        assert_eq!(got.len(), 0);
        assert_eq!(recorder.negative(), 1, "a total");
    }
}
