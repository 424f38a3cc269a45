//! Reset (RFC 2544 §26.6, RFC 6201): how long frames do not pass when a link goes down and comes up again, in frames that are missing, and in time by the
//! stamps in the frames on both sides of the gap.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::search::{Purpose, Validity};
use super::Size;
use super::bench::Bench;
use super::latency::NO_LOAD;
use super::link::{Outage, PortSeen};
use super::report::{Measurement, Reset};
use crate::error::Result;
use crate::report::Outcome;

/// Frames that are missing below this are loss, and no outage: RFC 2544 sends no slower than a frame in some ms.
const LEAST: u64 = 2;

pub(super) fn run(bench: &mut Bench<'_>, size: &Size, measurement: &mut Measurement) -> Result<()> {
    let direction = measurement.direction;
    let Some(load) = bench.load(size, direction)? else {
        measurement.conclude(Outcome::Inconclusive, NO_LOAD.to_owned());
        return Ok(());
    };
    let mut trial = bench.plain(size, direction, load);
    trial.duration = bench.params.reset_wait;
    let outage = match &bench.params.reset_link {
        Some(interface) => {
            trial.duration += bench.params.reset_down;
            Outage::Made { interface: interface.clone(), down: bench.params.reset_down }
        }
        None => Outage::Awaited,
    };
    let (what, kept_down_ns) = match &outage {
        Outage::Made { interface, down } => (format!("link of {interface}"), Some(down.as_nanos() as u64)),
        Outage::Awaited => ("what somebody else reset".to_owned(), None),
    };
    trial.outage = Some(outage);
    let report = bench.trial(measurement, &trial, Purpose::Confirm, Duration::ZERO)?;
    let seen = bench.last.clone();
    let resets: Vec<Reset> = report
        .ports
        .iter()
        .zip(&seen)
        .map(|(port, seen)| Reset {
            what: what.clone(),
            port: port.port.clone(),
            offered_pps: port.offered.pps,
            lost_frames: seen.longest_loss,
            lost_all: port.lost,
            by_loss_ns: (seen.longest_loss as f64 * 1e9 / load).round() as u64,
            by_stamps_ns: seen.outage_by_stamps_ns,
            by_arrivals_ns: seen.outage_by_arrivals_ns,
            granularity_ns: (1e9 / load).round() as u64,
            kept_down_ns,
        })
        .collect();
    let (outcome, why) = if report.validity == Validity::Inconclusive {
        (Outcome::Inconclusive, report.reasons.join("; "))
    } else {
        conclusion(&resets, &seen, bench.params)
    };
    // The port that was without frames for longest.
    measurement.reset = resets.into_iter().max_by_key(|reset| reset.lost_frames);
    measurement.conclude(outcome, why);
    Ok(())
}

fn conclusion(resets: &[Reset], seen: &[PortSeen], params: &super::Params) -> (Outcome, String) {
    let Some((worst, seen)) = resets.iter().zip(seen).max_by_key(|(reset, _)| reset.lost_frames) else {
        return (Outcome::Inconclusive, "no port told what it received".to_owned());
    };
    if worst.lost_frames < LEAST {
        let why = format!("there was no outage within {}", humantime::format_duration(params.reset_wait));
        return (Outcome::Inconclusive, why);
    }
    let ms = |ns: u64| ns as f64 / 1e6;
    if seen.outage_by_arrivals_ns.is_none() {
        let why = format!(
            "{}: frames did not come again: {} are missing, {:.1} ms",
            worst.port,
            worst.lost_frames,
            ms(worst.by_loss_ns)
        );
        return (Outcome::Fail, why);
    }
    let time = worst.by_stamps_ns.unwrap_or(worst.by_loss_ns);
    let figures = format!(
        "{}: {} frames are missing, {:.1} ms; {:.1} ms by the stamps in the frames",
        worst.port,
        worst.lost_frames,
        ms(worst.by_loss_ns),
        ms(time)
    );
    match params.expect.reset {
        Some(limit) if u128::from(time) > limit.as_nanos() => {
            (Outcome::Fail, format!("{figures}; {:.1} ms at most are expected", limit.as_secs_f64() * 1e3))
        }
        _ => (Outcome::Pass, figures),
    }
}
