//! Group join delay (RFC 3918 §6.1) and group leave delay (§6.2), at each member port in turn, while traffic flows: with the forwarding
//! database (MFDB) empty, state 0, and filled, state 1, which another member's join has brought about.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::bed::{DelayTrial, DelaysSeen, Moments};
use super::bench::{Bench, LEAVE};
use super::report::{GroupDelays, Measurement, PortDelays, Spread};
use crate::error::Result;
use crate::report::Outcome;

/// Measures every port in both states.
pub(super) fn run(bench: &mut Bench<'_>, measurement: &mut Measurement) -> Result<()> {
    measure(bench, measurement, false)?;
    if !bench.stop.is_requested() {
        let key = (measurement.frame_bytes, measurement.groups);
        bench.delays_found.insert(key, measurement.delays.clone());
    }
    conclude(bench, measurement);
    Ok(())
}

/// Measures every port in both states, with unicast load or without.
pub(super) fn measure(bench: &mut Bench<'_>, measurement: &mut Measurement, burdened: bool) -> Result<()> {
    let multicast_pps = bench.params.fixed_load(measurement.frame_bytes)?;
    let members = bench.layout.members.len();
    // Nobody but the port itself can fill the database of a bed with one member.
    let states: &[bool] = if members > 1 { &[false, true] } else { &[false] };
    let all = members * states.len();
    for port in 0..members {
        for (n, &filled) in states.iter().enumerate() {
            let trial = DelayTrial {
                frame_bytes: measurement.frame_bytes,
                groups: measurement.groups,
                multicast_pps,
                unicast_pps: if burdened { bench.params.unicast_beside(multicast_pps) } else { 0.0 },
                port,
                filled,
                patience: bench.params.patience,
            };
            let left = all - port * states.len() - n - 1;
            let more = (bench.overhead() + LEAVE) * left as u32;
            let mut seen = bench.delays(&trial, more)?;
            let least = multicast_pps * (1.0 - bench.params.tolerance.offered_percent / 100.0);
            // A sender that was held up says nothing of the device: once more.
            if seen.multicast.pps < least && !bench.stop.is_requested() {
                seen = bench.delays(&trial, more)?;
            }
            let figures = figures(&bench.layout.members[port], &trial, &seen);
            measurement.delays.push(figures);
            if bench.stop.is_requested() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn figures(port: &str, trial: &DelayTrial, seen: &DelaysSeen) -> PortDelays {
    let groups: Vec<GroupDelays> = seen
        .groups
        .iter()
        .enumerate()
        .map(|(n, moments)| GroupDelays {
            group: n as u32,
            join_ns: join_ns(moments),
            leave_ns: leave_ns(moments, trial.patience),
        })
        .collect();
    let never_joined = groups.iter().filter(|group| group.join_ns.is_none()).count();
    let never_left = seen.groups.iter().filter(|moments| stays(moments, trial.patience)).count();
    PortDelays {
        port: port.to_owned(),
        filled: trial.filled,
        burdened: trial.unicast_pps > 0.0,
        offered_pps: seen.multicast.pps,
        granularity_ns: (1e9 * f64::from(trial.groups) / trial.multicast_pps) as u64,
        join_ns: Spread::of(groups.iter().filter_map(|group| group.join_ns)),
        leave_ns: Spread::of(groups.iter().filter_map(|group| group.leave_ns)),
        never_joined: never_joined as u32,
        never_left: never_left as u32,
        before_join: seen.groups.iter().map(|moments| moments.before_join).sum(),
        after_leave: seen.groups.iter().map(|moments| moments.after_leave).sum(),
        groups,
    }
}

/// From the report to the first frame after it.
fn join_ns(moments: &Moments) -> Option<u64> {
    moments.first_ns?.checked_sub(moments.joined_ns?)
}

/// From the leave to the last frame after it; 0 when none came after it.
fn leave_ns(moments: &Moments, patience: Duration) -> Option<u64> {
    if stays(moments, patience) {
        return None;
    }
    Some(moments.last_ns?.saturating_sub(moments.left_ns?))
}

/// Whether frames came until nobody waited any longer.
fn stays(moments: &Moments, patience: Duration) -> bool {
    let (Some(left), Some(last)) = (moments.left_ns, moments.last_ns) else { return false };
    // A frame in the last tenth of the wait is no last frame.
    last > left && u128::from(last - left) * 10 >= patience.as_nanos() * 9
}

/// The outcome of all that was measured at the ports.
pub(super) fn conclude(bench: &Bench<'_>, measurement: &mut Measurement) {
    let tolerance = &bench.params.tolerance;
    let mut faults = Vec::new();
    let mut doubts = Vec::new();
    for delays in &measurement.delays {
        let name = format!(
            "{} (database {}{})",
            delays.port,
            if delays.filled { "filled" } else { "empty" },
            if delays.burdened { ", burdened" } else { "" }
        );
        let intended = 1e9 * f64::from(measurement.groups) / delays.granularity_ns.max(1) as f64;
        if delays.offered_pps < intended * (1.0 - tolerance.offered_percent / 100.0) {
            doubts.push(format!(
                "the sender offered {:.0} of {intended:.0} frames a second",
                delays.offered_pps
            ));
            continue;
        }
        if delays.never_joined > 0 {
            faults.push(format!(
                "{name}: {} of {} groups never came after the join",
                delays.never_joined, measurement.groups
            ));
        }
        if delays.never_left > 0 {
            faults.push(format!(
                "{name}: {} of {} groups went on after the leave",
                delays.never_left, measurement.groups
            ));
        }
        if delays.before_join > tolerance.leaked {
            faults.push(format!("{name}: {} frames came before the join", delays.before_join));
        }
        for (what, spread, limit) in
            [("join", delays.join_ns, tolerance.join), ("leave", delays.leave_ns, tolerance.leave)]
        {
            if let (Some(spread), Some(limit)) = (spread, limit)
                && u128::from(spread.max) > limit.as_nanos()
            {
                faults.push(format!(
                    "{name}: a {what} took {:.3} ms, above {:.3} ms",
                    spread.max as f64 / 1e6,
                    limit.as_secs_f64() * 1e3
                ));
            }
        }
    }
    if !faults.is_empty() {
        measurement.conclude(Outcome::Fail, faults.join("; "));
    } else if !doubts.is_empty() || measurement.delays.is_empty() {
        measurement.conclude(Outcome::Inconclusive, doubts.join("; "));
    } else {
        let longest = |of: fn(&PortDelays) -> Option<Spread>| {
            measurement.delays.iter().filter_map(of).map(|spread| spread.max).max().unwrap_or(0) as f64 / 1e6
        };
        let (join, leave) = (longest(|d| d.join_ns), longest(|d| d.leave_ns));
        measurement
            .conclude(Outcome::Pass, format!("joins took up to {join:.3} ms, leaves up to {leave:.3} ms"));
    }
}
