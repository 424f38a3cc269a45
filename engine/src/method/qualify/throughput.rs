//! Throughput (RFC 2544 §26.1): the highest load at which a trial is valid, found by a search.
#![forbid(unsafe_code)]

use super::super::search::{Bound, Found, Purpose, Validity};
use super::Size;
use super::bench::{Bench, bound_in_words};
use super::report::{Measurement, Throughput, TrialReport};
use crate::error::Result;
use crate::report::Outcome;

pub(super) fn run(bench: &mut Bench<'_>, size: &Size, measurement: &mut Measurement) -> Result<()> {
    let direction = measurement.direction;
    let limits = bench.params.limits(size)?;
    let (short, long) = (bench.params.trial, bench.params.final_trial);
    let plain = bench.plain(size, direction, 0.0);
    let make = |pps: f64, purpose: Purpose| {
        let mut trial = plain.clone();
        (trial.pps, trial.duration) = (pps, if purpose == Purpose::Search { short } else { long });
        trial
    };
    let mut found = bench.search(measurement, limits, make)?;
    // A sender may stay a little below the load: what it did offer is what is known to pass.
    found.load = found.load.map(|load| offered(&measurement.trials, load));
    if let Some(load) = found.load {
        bench.throughput.insert((size.name.clone(), direction), load);
    }
    measurement.throughput = Some(Throughput {
        pps: found.load,
        l2_bps: found.load.map(|pps| size.l2_bps(pps)),
        l1_bps: found.load.map(|pps| size.l1_bps(pps)),
        line_pps: bench.params.line_pps(size),
        bound: found.bound,
        resolution_pps: limits.resolution,
    });
    let expected = bench.params.expect.throughput.map(|rate| bench.params.pps(rate, size)).transpose()?;
    let (outcome, why) = conclusion(&found, expected, &measurement.trials);
    measurement.conclude(outcome, why);
    Ok(())
}

/// What was offered in the last valid trial at `load`, a final one where it was confirmed; no more than the load.
fn offered(trials: &[TrialReport], load: f64) -> f64 {
    let is_it = |trial: &&TrialReport| {
        trial.validity == Validity::Valid && (trial.intended_pps - load).abs() <= load * 1e-9
    };
    let witness = trials.iter().filter(is_it).max_by_key(|trial| trial.purpose == Purpose::Confirm);
    let ports = witness.map_or(&[][..], |trial| &trial.ports);
    ports.iter().map(|port| port.offered.pps).fold(load, f64::min)
}

/// What a search says of the link. Something that is expected is met by a load that was borne, whatever bounds it, and missed only by what the device bounds.
fn conclusion(found: &Found, expected: Option<f64>, trials: &[TrialReport]) -> (Outcome, String) {
    // What an invalid trial at the lowest load shows is what is wrong with the device.
    let wrong = trials
        .iter()
        .filter(|trial| trial.validity == Validity::Invalid)
        .min_by(|a, b| a.intended_pps.total_cmp(&b.intended_pps))
        .map(|trial| trial.reasons.join("; "));
    let Some(load) = found.load else {
        return match found.bound {
            Bound::Device => {
                let wrong = wrong.unwrap_or_else(|| "no trial is valid".to_owned());
                (Outcome::Fail, format!("not even the lowest load passes as it should: {wrong}"))
            }
            _ => {
                let doubt = trials.last().map_or(String::new(), |trial| trial.reasons.join("; "));
                (Outcome::Inconclusive, format!("no load could be tried as it should be: {doubt}"))
            }
        };
    };
    let bound = bound_in_words(found.bound);
    let settled = matches!(found.bound, Bound::Device | Bound::Range);
    match expected {
        Some(expected) if load >= expected && found.bound != Bound::Unsettled => {
            (Outcome::Pass, format!("{load:.0} frames/s, of {expected:.0} that are expected; {bound}"))
        }
        Some(expected) => {
            let wrong = wrong.map_or(String::new(), |wrong| format!(" ({wrong})"));
            let outcome = match found.bound {
                Bound::Device => Outcome::Fail,
                Bound::Range | Bound::Sender | Bound::Unsettled => Outcome::Inconclusive,
            };
            (outcome, format!("{load:.0} frames/s, below {expected:.0} that are expected; {bound}{wrong}"))
        }
        None if settled => {
            let wrong = wrong.map_or(String::new(), |wrong| format!(" ({wrong})"));
            (Outcome::Pass, format!("{load:.0} frames/s; {bound}{wrong}"))
        }
        None => (Outcome::Inconclusive, format!("{load:.0} frames/s at least; {bound}")),
    }
}
