//! Scaled group forwarding matrix (RFC 3918 §4.2): what is forwarded at a fixed load as groups are added.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::search::Validity;
use super::bench::Bench;
use super::report::{Forwarding, Measurement, TrialReport};
use crate::error::Result;
use crate::report::{Outcome, Warning};

/// Measures one iteration, one number of groups.
pub(super) fn run(bench: &mut Bench<'_>, measurement: &mut Measurement) -> Result<()> {
    if let Some(capacity) = bench.capacity.filter(|capacity| *capacity < measurement.groups) {
        bench.note(Warning {
            code: "above-capacity",
            text: format!(
                "matrix: {} groups are more than the {capacity} that the device holds (RFC 3918 §4.2 rules them out)",
                measurement.groups
            ),
            fix: Some("name fewer with --groups".to_owned()),
        });
    }
    let trial = bench.plain(measurement, bench.params.fixed_load(measurement.frame_bytes)?);
    let report = bench.settled_trial(measurement, &trial, Duration::ZERO)?;
    measurement.forwarding = Some(forwarding(&report));
    let (outcome, why) = of_trial(&report);
    measurement.conclude(outcome, why);
    Ok(())
}

/// What a trial forwarded.
pub(super) fn forwarding(report: &TrialReport) -> Forwarding {
    Forwarding {
        offered_pps: report.multicast.pps,
        forwarded_pps: report.ports.iter().map(|port| port.forwarded_pps).sum(),
        worst_loss_percent: report.ports.iter().map(|port| port.worst_loss_percent).fold(0.0, f64::max),
    }
}

/// The outcome of a test that is one trial.
pub(super) fn of_trial(report: &TrialReport) -> (Outcome, String) {
    match report.validity {
        Validity::Valid => (Outcome::Pass, "every group came to every member, and to nobody else".to_owned()),
        Validity::Invalid => (Outcome::Fail, report.reasons.join("; ")),
        Validity::Inconclusive => (Outcome::Inconclusive, report.reasons.join("; ")),
    }
}
