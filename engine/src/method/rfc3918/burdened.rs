//! Forwarding burdened multicast latency (RFC 3918 §8.1) and group join delay (§8.2): measured first without, then with unicast frames
//! that the device forwards to all member ports besides.
#![forbid(unsafe_code)]

use super::super::bed::Trial;
use super::bench::Bench;
use super::matrix::of_trial;
use super::report::Measurement;
use super::{delay, latency};
use crate::error::Result;
use crate::report::Outcome;

/// Measures latency without and with the burden.
pub(super) fn latency(bench: &mut Bench<'_>, measurement: &mut Measurement) -> Result<()> {
    let load = latency::load(bench, measurement)?;
    // Together they have to stay what the device bears.
    let share = bench.params.unicast_percent / 100.0;
    let plain = Trial { latency_by_group: true, ..bench.plain(measurement, load * (1.0 - share)) };
    let burdened = Trial { unicast_pps: load * share, ..plain.clone() };
    let more = plain.duration + bench.overhead();
    let first = bench.settled_trial(measurement, &plain, more)?;
    measurement.baseline = latency::figures(&first);
    let (outcome, why) = of_trial(&first);
    if bench.stop.is_requested() || outcome != Outcome::Pass {
        measurement.conclude(outcome, format!("without the burden: {why}"));
        return Ok(());
    }
    let second = bench.settled_trial(measurement, &burdened, std::time::Duration::ZERO)?;
    measurement.latency = latency::figures(&second);
    let (mut outcome, mut why) = of_trial(&second);
    match (&measurement.baseline, &measurement.latency) {
        (Some(before), Some(after)) => {
            why +=
                &format!("; {} under load, {} without", latency::in_words(after), latency::in_words(before));
        }
        _ if outcome == Outcome::Pass => {
            outcome = Outcome::Inconclusive;
            why = "no latency can be told: the clocks of sender and members do not compare".to_owned();
        }
        _ => {}
    }
    measurement.conclude(outcome, why);
    Ok(())
}

/// Measures join and leave delay with the burden; without, unless that was done in the same run.
pub(super) fn join(bench: &mut Bench<'_>, measurement: &mut Measurement) -> Result<()> {
    match bench.delays_found.get(&(measurement.frame_bytes, measurement.groups)) {
        Some(found) => measurement.delays.clone_from(found),
        None => delay::measure(bench, measurement, false)?,
    }
    if !bench.stop.is_requested() {
        delay::measure(bench, measurement, true)?;
    }
    delay::conclude(bench, measurement);
    Ok(())
}
