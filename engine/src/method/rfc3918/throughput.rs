//! Aggregated multicast throughput (RFC 3918 §4.3) and mixed class throughput (§4.1): the highest load at which nothing is lost towards
//! any member port, found by a search.
#![forbid(unsafe_code)]

use super::super::bed::Trial;
use super::super::search::{Bound, Found, Purpose, Validity};
use super::bench::{Bench, bound_in_words};
use super::report::{Measurement, Throughput, TrialReport};
use crate::error::Result;
use crate::report::Outcome;

/// Searches the throughput; with `mixed`, of multicast and unicast frames whose ratio stays the same.
pub(super) fn run(bench: &mut Bench<'_>, measurement: &mut Measurement, mixed: bool) -> Result<()> {
    let (frame_bytes, groups) = (measurement.frame_bytes, measurement.groups);
    // What the order of frames comes to: every group has as many as another, and every port.
    let share = if mixed { bench.params.mix(groups, bench.layout.members.len()).hosts_share() } else { 0.0 };
    let make = |load: f64, duration| Trial {
        frame_bytes,
        groups,
        multicast_pps: load * (1.0 - share),
        unicast_pps: load * share,
        interleaved: mixed,
        duration,
        latency_by_group: false,
    };
    let resolution_pps = bench.params.limits(frame_bytes)?.resolution;
    let found = bench.search(frame_bytes, &mut measurement.trials, make)?;
    if let (Some(load), false) = (found.load, mixed) {
        bench.throughput.insert((frame_bytes, groups), load);
    }
    let witness = found.load.and_then(|load| last_valid(&measurement.trials, load));
    let aggregated = witness.map(|trial| trial.ports.iter().map(|port| port.forwarded_pps).sum::<f64>());
    measurement.throughput = Some(Throughput {
        pps: found.load,
        multicast_pps: found.load.map(|load| load * (1.0 - share)),
        unicast_pps: found.load.filter(|_| mixed).map(|load| load * share),
        aggregated_pps: aggregated,
        aggregated_l2_bps: aggregated.map(|pps| (pps * f64::from(frame_bytes) * 8.0) as u64),
        bound: found.bound,
        resolution_pps,
    });
    let (outcome, why) = conclusion(&found, &measurement.trials);
    measurement.conclude(outcome, why);
    Ok(())
}

/// The last valid trial at `load`: a final one, where it was confirmed.
fn last_valid(trials: &[TrialReport], load: f64) -> Option<&TrialReport> {
    let is_it = |trial: &&TrialReport| {
        trial.validity == Validity::Valid && (trial.intended_pps - load).abs() <= load * 1e-9
    };
    trials
        .iter()
        .rev()
        .find(|trial| is_it(trial) && trial.purpose == Purpose::Confirm)
        .or_else(|| trials.iter().rev().find(is_it))
}

fn conclusion(found: &Found, trials: &[TrialReport]) -> (Outcome, String) {
    // What an invalid trial at the lowest load shows is what is wrong with the device.
    let wrong = trials
        .iter()
        .filter(|trial| trial.validity == Validity::Invalid)
        .min_by(|a, b| a.intended_pps.total_cmp(&b.intended_pps))
        .map(|trial| trial.reasons.join("; "));
    match (found.load, found.bound) {
        (Some(load), bound @ (Bound::Device | Bound::Range)) => {
            let then = wrong.map_or(String::new(), |wrong| format!(" ({wrong})"));
            (Outcome::Pass, format!("{load:.0} frames/s; {}{then}", bound_in_words(bound)))
        }
        (Some(load), bound @ (Bound::Sender | Bound::Unsettled)) => {
            (Outcome::Inconclusive, format!("{load:.0} frames/s at least; {}", bound_in_words(bound)))
        }
        (None, Bound::Device) => {
            let wrong = wrong.unwrap_or_else(|| "no trial is valid".to_owned());
            (Outcome::Fail, format!("not even the lowest load is forwarded as it should be: {wrong}"))
        }
        (None, _) => {
            let doubt = trials.last().map_or(String::new(), |trial| trial.reasons.join("; "));
            (Outcome::Inconclusive, format!("no load could be tried as it should be: {doubt}"))
        }
    }
}
