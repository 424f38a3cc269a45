//! Multicast group capacity (RFC 3918 §7.1): groups are added until one of them is missing at a member port. What lies between the last
//! iteration that was good and the one that was not is then halved until the number is exact.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::bed::Trial;
use super::super::search::{Bound, Purpose, Validity};
use super::bench::{Bench, bound_in_words};
use super::report::{Capacity, Measurement, TrialReport};
use crate::error::Result;
use crate::report::Outcome;

/// Frames of each group at least: RFC 3918 asks that one of them comes.
const FRAMES_PER_GROUP: u32 = 5;

/// A trial is no shorter than this, or than any other: a rate of a few frames is none.
const LEAST: Duration = Duration::from_secs(1);

/// Finds the highest number of groups of which at least one frame comes to every member port, and none to the port that did not join.
pub(super) fn run(bench: &mut Bench<'_>, measurement: &mut Measurement) -> Result<()> {
    let most = measurement.groups;
    let step = bench.params.step;
    let mut good = 0;
    let mut bad: Option<(u32, String)> = None;
    // Those that failed one after another since the last that was good.
    let mut in_a_row: Vec<(u32, String)> = Vec::new();
    let mut doubt = None;
    let mut next = bench.params.first_groups.min(most);
    loop {
        let iteration = iteration(bench, measurement, next)?;
        if bench.stop.is_requested() {
            break;
        }
        match iteration {
            Iteration::Good => {
                good = next;
                in_a_row.clear();
            }
            Iteration::Bad(why) => {
                in_a_row.push((next, why.clone()));
                bad = Some((next, why));
            }
            Iteration::Unknown(why) => {
                doubt = Some(why);
                break;
            }
        }
        next = match bad {
            None if good >= most => break,
            None => (good + step).min(most),
            Some((bad, _)) if bad - good <= 1 => break,
            Some((bad, _)) => good.midpoint(bad),
        };
    }
    let mut broken = None;
    // More than one in a row: what was good before has to be good still, or the device has not got over the first of them.
    if let [(first, why), _, ..] = &in_a_row[..]
        && doubt.is_none()
        && !bench.stop.is_requested()
    {
        if good == 0 {
            broken = Some(format!("whether it held some before {first} were tried is not known"));
        } else if let Iteration::Bad(still) = iteration(bench, measurement, good)? {
            broken = Some(format!(
                "what lies between them is not known: the device did not get over {first} groups, and of {good} {still}; set it back, and begin at \
                 {good} with a smaller step"
            ));
            bad = Some((*first, why.clone()));
        }
    }
    let bound = match (&doubt, &bad) {
        _ if bench.stop.is_requested() => Bound::Unsettled,
        (Some(_), _) => Bound::Sender,
        (None, Some(_)) => Bound::Device,
        (None, None) => Bound::Range,
    };
    measurement.capacity =
        Some(Capacity { groups: good, failed: bad.as_ref().map(|(groups, _)| *groups), bound });
    bench.capacity = Some(bench.capacity.map_or(good, |known| known.min(good)));
    // The device has to hold what the other tests use.
    let needed = bench.params.groups.iter().copied().max().unwrap_or(1).min(most);
    let why = bad.map(|(groups, why)| format!("of {groups} groups {why}")).or(doubt);
    let why = why.map_or(String::new(), |why| format!(" ({why})"));
    let broken = broken.map_or(String::new(), |broken| format!("; {broken}"));
    let text = format!("{good} groups; {}{why}{broken}", bound_in_words(bound));
    let (outcome, text) = match bound {
        _ if good >= needed => (Outcome::Pass, text),
        Bound::Device => (Outcome::Fail, format!("{text}; {needed} were asked for")),
        _ => (Outcome::Inconclusive, text),
    };
    measurement.conclude(outcome, text);
    Ok(())
}

enum Iteration {
    Good,
    Bad(String),
    Unknown(String),
}

fn iteration(bench: &mut Bench<'_>, measurement: &mut Measurement, groups: u32) -> Result<Iteration> {
    let load = bench.params.fixed_load(measurement.frame_bytes)?;
    let trial = Trial {
        groups,
        duration: Duration::from_secs_f64(f64::from(groups * FRAMES_PER_GROUP) / load)
            .max(bench.params.trial.min(LEAST)),
        ..bench.plain(measurement, load)
    };
    let each = trial.duration + bench.overhead();
    let more = each * measurement.groups.saturating_sub(groups).div_ceil(bench.params.step).min(20);
    for _ in 0..2 {
        let mut report = bench.trial(&trial, Purpose::Search, more)?;
        let found = look(bench, &mut report);
        measurement.trials.push(report);
        if bench.stop.is_requested() || !matches!(found, Iteration::Unknown(_)) {
            return Ok(found);
        }
    }
    let doubt = measurement.trials.last().map_or(String::new(), |trial| trial.reasons.join("; "));
    Ok(Iteration::Unknown(doubt))
}

/// One frame of each group at each port is enough, whatever was lost besides; where none came, whatever was offered must have been there to come.
fn look(bench: &Bench<'_>, report: &mut TrialReport) -> Iteration {
    let missing: Vec<String> = report
        .ports
        .iter()
        .filter_map(|port| {
            let silent: Vec<u32> =
                port.groups.iter().filter(|g| g.sent > 0 && g.received == 0).map(|g| g.group).collect();
            let first = silent.first()?;
            Some(format!(
                "{}: no frame of {} of {} groups, the first is {first}",
                port.port,
                silent.len(),
                report.groups
            ))
        })
        .collect();
    if report.validity == Validity::Inconclusive {
        return Iteration::Unknown(report.reasons.join("; "));
    }
    let leaked = report.leaked.filter(|leaked| *leaked > bench.params.tolerance.leaked);
    let mut reasons = missing;
    reasons.extend(leaked.map(|leaked| format!("{leaked} frames came to the port that did not join")));
    report.validity = if reasons.is_empty() { Validity::Valid } else { Validity::Invalid };
    report.reasons.clone_from(&reasons);
    if reasons.is_empty() { Iteration::Good } else { Iteration::Bad(reasons.join("; ")) }
}
