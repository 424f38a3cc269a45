//! From counts and times to rates.
#![forbid(unsafe_code)]

use hdrhistogram::Histogram;

use super::Distribution;
use crate::profile::size::L1_OVERHEAD;

const SECOND_NS: u128 = 1_000_000_000;

/// Rates over the time from the first packet to the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) duration_ns: u64,
    pub(super) pps: u64,
    pub(super) l1_bps: u64,
    pub(super) l2_bps: u64,
    pub(super) payload_bps: u64,
}

impl Rates {
    /// Rates of `packets` packets in `frames` frames, the first at `first_ns`, the last at `last_ns`. That is one interval fewer than packets, so the
    /// bytes count for as many packets less one; with fewer than two packets, or all at one time, the rates are 0.
    pub(super) fn new(
        packets: u64,
        frames: u64,
        frame_bytes: u64,
        payload_bytes: u64,
        first_ns: u64,
        last_ns: u64,
    ) -> Self {
        let duration_ns = last_ns.saturating_sub(first_ns);
        if packets < 2 || duration_ns == 0 {
            return Self { duration_ns, ..Self::default() };
        }
        let less_one = |amount: u128| {
            let whole = amount * SECOND_NS / u128::from(duration_ns);
            saturate(whole * u128::from(packets - 1) / u128::from(packets))
        };
        let gaps = u128::from(frames) * u128::from(L1_OVERHEAD);
        Self {
            duration_ns,
            pps: less_one(packets.into()),
            l1_bps: less_one((u128::from(frame_bytes) + gaps) * 8),
            l2_bps: less_one(u128::from(frame_bytes) * 8),
            payload_bps: less_one(u128::from(payload_bytes) * 8),
        }
    }
}

/// `amount` a second, when it came in `span_ns`; 0 for no time.
pub(super) fn per_second(amount: u64, span_ns: u64) -> u64 {
    (u128::from(amount) * SECOND_NS).checked_div(span_ns.into()).map_or(0, saturate)
}

fn saturate(n: u128) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// The figures of a histogram of ns; `None` when it is empty. A percentile is told when one sample lies above it on average.
pub(crate) fn distribution(histogram: &Histogram<u64>) -> Option<Distribution> {
    let at = |quantile: f64, needed: u64| {
        (histogram.len() >= needed).then(|| histogram.value_at_quantile(quantile))
    };
    (!histogram.is_empty()).then(|| Distribution {
        count: histogram.len(),
        min: histogram.min(),
        mean: histogram.mean().round() as u64,
        p50: histogram.value_at_quantile(0.5),
        p90: at(0.9, 10),
        p99: at(0.99, 100),
        p999: at(0.999, 1_000),
        p9999: at(0.9999, 10_000),
        p99999: at(0.99999, 100_000),
        max: histogram.max(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_steady_stream_has_its_rate_however_short() {
        for packets in [2, 3, 1001] {
            let last_ns = 5 + (packets - 1) * 1_000_000;
            let rates = Rates::new(packets, packets, packets * 64, packets * 18, 5, last_ns);
            assert_eq!(rates.pps.abs_diff(1000), 0);
            // Whole numbers of bits are cut off, twice.
            assert!(rates.l1_bps.abs_diff(1000 * 84 * 8) <= 1);
            assert!(rates.l2_bps.abs_diff(1000 * 64 * 8) <= 1);
            assert!(rates.payload_bps.abs_diff(1000 * 18 * 8) <= 1);
        }
    }

    #[test]
    fn too_little_to_tell_is_zero() {
        assert_eq!(Rates::new(0, 0, 0, 0, 0, 0), Rates::default());
        assert_eq!(Rates::new(1, 1, 64, 18, 7, 7), Rates::default());
        assert_eq!(Rates::new(64, 64, 4096, 64, 7, 7), Rates::default());
        assert_eq!(Rates::new(2, 2, 4096, 64, 9, 7), Rates::default());
        assert_eq!(per_second(5, 0), 0);
        assert_eq!(per_second(5, 500_000_000), 10);
        assert!(distribution(&crate::measure::tally::latency_histogram()).is_none());
    }

    proptest! {
        #[test]
        fn nothing_overflows(packets: u64, frames: u64, payload: u64, first: u64, last: u64) {
            let _ = Rates::new(packets, packets, frames, payload, first, last);
            let _ = per_second(frames, first);
        }
    }

    #[test]
    fn a_percentile_takes_as_many_samples_as_it_leaves_one_above() {
        let told = |count: u64| {
            let mut histogram = crate::measure::tally::latency_histogram();
            histogram.record_n(1000, count).unwrap();
            let d = distribution(&histogram)?;
            Some([d.p90, d.p99, d.p999, d.p9999, d.p99999].iter().flatten().count())
        };
        let expected = [
            (0, None),
            (9, Some(0)),
            (10, Some(1)),
            (99, Some(1)),
            (100, Some(2)),
            (9_999, Some(3)),
            (100_000, Some(5)),
        ];
        for (count, percentiles) in expected {
            assert_eq!(told(count), percentiles, "{count} samples");
        }
    }
}
