//! Frame loss rate (RFC 2544 §26.3): from the highest load down in steps, until two loads in a row are without loss.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::search::{Purpose, Validity};
use super::Size;
use super::bench::Bench;
use super::judge::percent;
use super::report::{LossPoint, Measurement, TrialReport};
use crate::error::Result;
use crate::report::Outcome;

/// Loads of a curve, in percent of the highest, at most.
fn loads(step: f64) -> impl Iterator<Item = f64> {
    (0..).map(move |n| 100.0 - f64::from(n) * step).take_while(move |load| *load > step / 1e6)
}

pub(super) fn run(bench: &mut Bench<'_>, size: &Size, measurement: &mut Measurement) -> Result<()> {
    let highest = bench.params.highest(size)?;
    let mut clean = 0;
    for load in loads(bench.params.loss_step_percent) {
        if clean == 2 || bench.stop.is_requested() {
            break;
        }
        let trial = bench.plain(size, measurement.direction, highest * load / 100.0);
        // What is lost is the result, so that only a trial that shows nothing is run again.
        let mut report = bench.trial(measurement, &trial, Purpose::Confirm, Duration::ZERO)?;
        if report.validity == Validity::Inconclusive && !bench.stop.is_requested() {
            report = bench.trial(measurement, &trial, Purpose::Confirm, Duration::ZERO)?;
        }
        let point = point(load, &report);
        let is_clean = point.received == point.sent && point.validity != Validity::Inconclusive;
        clean = if is_clean { clean + 1 } else { 0 };
        measurement.loss_curve.push(point);
    }
    let (outcome, why) = conclusion(&measurement.loss_curve, clean == 2, bench.params.expect.loss_percent);
    measurement.conclude(outcome, why);
    Ok(())
}

fn point(percent_of_load: f64, report: &TrialReport) -> LossPoint {
    let sum = |of: fn(&super::report::PortReport) -> u64| report.ports.iter().map(of).sum::<u64>();
    let (sent, lost) = (sum(|port| port.sent), sum(|port| port.lost));
    LossPoint {
        percent: percent_of_load,
        intended_pps: report.intended_pps,
        offered_pps: report.ports.iter().map(|port| port.offered.pps).fold(f64::INFINITY, f64::min).min(1e12),
        sent,
        received: sent - lost,
        loss_percent: percent(lost, sent),
        validity: report.validity,
    }
}

fn conclusion(curve: &[LossPoint], reached: bool, expected: Option<f64>) -> (Outcome, String) {
    let Some(first) = curve.first() else {
        return (Outcome::Inconclusive, "no load was tried".to_owned());
    };
    let doubtful = curve.iter().filter(|point| point.validity == Validity::Inconclusive).count();
    let top = format!("{:.4} % lost at {:.0} frames/s", first.loss_percent, first.intended_pps);
    let clean = curve.iter().rev().take_while(|point| point.received == point.sent).last();
    let clean =
        clean.map_or(String::new(), |point| format!("; none from {:.0} % of that down", point.percent));
    if doubtful > 0 {
        let why = format!("{doubtful} of {} loads could not be offered as they should be", curve.len());
        return (Outcome::Inconclusive, why);
    }
    match expected {
        // "Below 0 %" is how users ask for no loss at all.
        Some(limit) if first.loss_percent >= limit && first.received < first.sent => {
            (Outcome::Fail, format!("{top}, of less than {limit} % that is expected{clean}"))
        }
        _ if !reached => (Outcome::Fail, format!("{top}; no two loads in a row are without loss")),
        _ => (Outcome::Pass, format!("{top}{clean}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_of_rfc_2544() {
        let ten: Vec<f64> = loads(10.0).collect();
        assert_eq!(ten, [100.0, 90.0, 80.0, 70.0, 60.0, 50.0, 40.0, 30.0, 20.0, 10.0]);
        assert_eq!(loads(4.0).count(), 25);
        assert!(loads(0.3).all(|load| load > 0.0));
    }
}
