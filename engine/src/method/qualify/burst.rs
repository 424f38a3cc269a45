//! Back-to-back frames (RFC 2544 §26.4, RFC 9004): the longest burst without loss, several times, and what that says of the device's buffer.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::search::{Bound, Found, Limits, Purpose};
use super::Size;
use super::bench::{Bench, bound_in_words};
use super::report::{BackToBack, Measurement};
use crate::error::Result;
use crate::report::Outcome;

pub(super) fn run(bench: &mut Bench<'_>, size: &Size, measurement: &mut Measurement) -> Result<()> {
    let direction = measurement.direction;
    let burst_pps = bench.params.highest(size)?;
    let longest = (burst_pps * bench.params.longest_burst.as_secs_f64()).floor().max(1.0);
    let resolution = (bench.params.burst_resolution as f64).min(longest);
    let plain = bench.plain(size, direction, burst_pps);
    let make = |frames: f64, _: Purpose| {
        let mut trial = plain.clone();
        let frames = frames.floor().max(1.0);
        trial.burst = Some(frames as u64);
        trial.duration = Duration::from_secs_f64(frames / burst_pps);
        trial
    };
    let whole = Limits { confirmations: 0, ..Limits::new(1.0, longest, resolution) };
    let mut found: Vec<Found> = Vec::new();
    for _ in 0..bench.params.bursts {
        if bench.stop.is_requested() {
            break;
        }
        // The next is looked for around the one before, and everywhere when it is not there.
        let near = found.last().and_then(|before| before.load).filter(|load| *load < longest);
        let limits = near.map(|load| around(load, whole)).filter(|near| near.check().is_ok());
        let mut one = bench.search(measurement, limits.unwrap_or(whole), make)?;
        let at_edge = one.load.is_none() || one.bound == Bound::Range;
        if limits.is_some() && at_edge && !bench.stop.is_requested() {
            one = bench.search(measurement, whole, make)?;
        }
        found.push(one);
    }
    let throughput = bench.throughput.get(&(size.name.clone(), direction)).copied();
    let result = summary(&found, burst_pps, resolution, throughput);
    let (outcome, why) = conclusion(&result, bench.params.expect.burst_frames);
    measurement.back_to_back = Some(result);
    measurement.conclude(outcome, why);
    Ok(())
}

fn around(load: f64, whole: Limits) -> Limits {
    let (lower, upper) = ((load / 2.0).floor().max(whole.lower), (load * 2.0).min(whole.upper));
    Limits { lower, upper, initial: load.clamp(lower, upper), ..whole }
}

/// What repetitions come to. `throughput` is that of the same size, in frames a second.
fn summary(found: &[Found], burst_pps: f64, resolution: f64, throughput: Option<f64>) -> BackToBack {
    let bursts: Vec<Option<u64>> = found.iter().map(|one| one.load.map(|load| load.floor() as u64)).collect();
    let known: Vec<f64> = bursts.iter().flatten().map(|frames| *frames as f64).collect();
    let mean = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
    let deviation = mean.map(|mean| {
        (known.iter().map(|frames| (frames - mean).powi(2)).sum::<f64>() / known.len() as f64).sqrt()
    });
    // The least that is certain of any.
    let bound = [Bound::Unsettled, Bound::Sender, Bound::Range]
        .into_iter()
        .find(|bound| found.iter().any(|one| one.bound == *bound))
        .unwrap_or(if found.is_empty() { Bound::Unsettled } else { Bound::Device });
    // A burst that ended with the range says nothing of a buffer.
    let buffer = mean.filter(|_| bound == Bound::Device);
    let corrected = buffer.zip(throughput).map(|(mean, pps)| mean * (1.0 - (pps / burst_pps).min(1.0)));
    let ns = |frames: f64| (frames * 1e9 / burst_pps).round() as u64;
    BackToBack {
        burst_pps,
        mean_frames: mean,
        min_frames: bursts.iter().flatten().min().copied(),
        max_frames: bursts.iter().flatten().max().copied(),
        deviation_frames: deviation,
        resolution_frames: resolution,
        bound,
        implied_buffer_ns: buffer.map(ns),
        corrected_buffer_ns: corrected.map(ns),
        corrected_buffer_frames: corrected,
        bursts,
    }
}

fn conclusion(result: &BackToBack, expected: Option<u64>) -> (Outcome, String) {
    let bound = bound_in_words(result.bound);
    let Some(mean) = result.mean_frames else {
        let outcome = if result.bound == Bound::Device { Outcome::Fail } else { Outcome::Inconclusive };
        return (outcome, format!("not even a burst of one frame passes as it should; {bound}"));
    };
    let figures = format!("{mean:.1} frames, mean of {}; {bound}", result.bursts.len());
    let settled = matches!(result.bound, Bound::Device | Bound::Range);
    match expected {
        Some(expected) if mean >= expected as f64 && result.bound != Bound::Unsettled => {
            (Outcome::Pass, format!("{figures}, of {expected} that are expected"))
        }
        Some(expected) => {
            let outcome = if result.bound == Bound::Device { Outcome::Fail } else { Outcome::Inconclusive };
            (outcome, format!("{figures}, below {expected} that are expected"))
        }
        None => (if settled { Outcome::Pass } else { Outcome::Inconclusive }, figures),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(load: Option<f64>, bound: Bound) -> Found {
        Found { load, bound, trials: 1 }
    }

    #[test]
    fn buffer_times_of_rfc_9004() {
        // 26,000 frames at 14,880,952 frames a second, of a device that forwards 12,000,000.
        let bursts = [found(Some(25_900.0), Bound::Device), found(Some(26_100.0), Bound::Device)];
        let result = summary(&bursts, 14_880_952.0, 1.0, Some(12_000_000.0));
        assert_eq!(
            (result.mean_frames, result.min_frames, result.max_frames),
            (Some(26_000.0), Some(25_900), Some(26_100))
        );
        assert_eq!(result.deviation_frames, Some(100.0));
        assert_eq!(result.implied_buffer_ns, Some(1_747_200));
        // 1747200 · (1 − 12 / 14.880952)
        assert_eq!(result.corrected_buffer_ns, Some(338_258));
        let result = summary(&bursts, 14_880_952.0, 1.0, None);
        assert_eq!((result.corrected_buffer_ns, result.corrected_buffer_frames), (None, None));
    }

    #[test]
    fn what_a_range_or_a_sender_bounds_says_nothing_of_a_buffer() {
        for bound in [Bound::Range, Bound::Sender, Bound::Unsettled] {
            let result = summary(
                &[found(Some(10.0), Bound::Device), found(Some(20.0), bound)],
                100.0,
                1.0,
                Some(50.0),
            );
            assert_eq!((result.bound, result.implied_buffer_ns), (bound, None));
        }
        assert_eq!(summary(&[], 1.0, 1.0, None).bound, Bound::Unsettled);
    }
}
