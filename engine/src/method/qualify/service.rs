//! A service activation test in the manner of ITU-T Y.1564: steps up to the committed rate (CIR), then with the excess rate (EIR), then above both, which a policer has to
//! hold back; and at last the committed rate for a long time. The tolerances of a trial are what the service promises.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::search::{Purpose, Validity};
use super::bench::{Bench, outcome_of};
use super::report::{Measurement, ServiceStep, TrialReport};
use super::{Service, Size};
use crate::error::Result;
use crate::report::Outcome;

/// What a step has to show.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// All that the service promises.
    Committed,
    /// The committed rate passes, whatever becomes of the rest.
    Excess,
    /// That, and no more than both rates.
    Policing,
}

/// A step: its name, its rate, its time.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    name: String,
    kind: Kind,
    bps: f64,
    time: Duration,
}

/// The steps of a service, in order.
fn steps(service: &Service) -> Vec<Step> {
    let (cir, eir) = (service.cir_bps, service.eir_bps);
    let step = |name: &str, kind, bps, time| Step { name: name.to_owned(), kind, bps, time };
    let mut steps: Vec<Step> = (1..=service.steps)
        .map(|n| {
            let share = f64::from(n) / f64::from(service.steps);
            step(&format!("{:.0} % of CIR", share * 100.0), Kind::Committed, cir * share, service.step)
        })
        .collect();
    if eir > 0.0 {
        steps.push(step("CIR + EIR", Kind::Excess, cir + eir, service.step));
    }
    if service.policing {
        // A quarter above: of the EIR, or of the CIR where the EIR is too little of it to tell the two apart.
        let above = if eir >= cir * 0.2 { cir + 1.25 * eir } else { 1.25 * cir + eir };
        steps.push(step("policing", Kind::Policing, above, service.step));
    }
    steps.push(step("performance", Kind::Committed, cir, service.performance));
    steps
}

pub(super) fn run(bench: &mut Bench<'_>, size: &Size, measurement: &mut Measurement) -> Result<()> {
    let service = bench.params.service.expect("checked: y1564 has a service");
    let steps = steps(&service);
    let bits = size.mean_bytes() * 8.0;
    for (n, step) in steps.iter().enumerate() {
        if bench.stop.is_requested() {
            break;
        }
        // What does not do for a minute will not for a day.
        if step.name == "performance" && measurement.service.iter().any(|done| done.outcome == Outcome::Fail)
        {
            break;
        }
        let mut trial = bench.plain(size, measurement.direction, step.bps / bits);
        trial.duration = step.time;
        let more = steps[n + 1..].iter().map(|step| step.time).sum();
        let report = if step.kind == Kind::Committed {
            bench.settled_trial(measurement, &trial, more)?
        } else {
            let first = bench.trial(measurement, &trial, Purpose::Confirm, more)?;
            match first.validity {
                Validity::Inconclusive if !bench.stop.is_requested() => {
                    bench.trial(measurement, &trial, Purpose::Confirm, more)?
                }
                _ => first,
            }
        };
        measurement.service.extend(step_reports(
            step,
            &service,
            &report,
            bits,
            bench.params.tolerance.loss_percent,
        ));
    }
    let worst = super::worst(measurement.service.iter().map(|step| step.outcome));
    let why =
        measurement.service.iter().find(|step| step.outcome == worst && worst != Outcome::Pass).map_or_else(
            || "the service is as promised".to_owned(),
            |step| format!("{}: {}", step.name, step.why),
        );
    measurement.conclude(worst, why);
    Ok(())
}

fn step_reports(
    step: &Step,
    service: &Service,
    report: &TrialReport,
    bits: f64,
    loss_tolerance: f64,
) -> Vec<ServiceStep> {
    report
        .ports
        .iter()
        .map(|port| {
            let received = port.forwarded_pps * bits;
            let (outcome, why) = judge(step, service, report, received, loss_tolerance);
            ServiceStep {
                name: step.name.clone(),
                port: port.port.clone(),
                offered_bps: (port.offered.pps * bits).round() as u64,
                received_bps: received.round() as u64,
                loss_percent: port.loss_percent,
                delay_ns: port.latency_ns.map(|latency| latency.mean),
                delay_variation_ns: port.latency_ns.map(|latency| latency.max - latency.min),
                outcome,
                why,
            }
        })
        .collect()
}

/// Whether what was received, in bit/s, is as it should be in this step.
fn judge(
    step: &Step,
    service: &Service,
    report: &TrialReport,
    received: f64,
    loss_tolerance: f64,
) -> (Outcome, String) {
    if report.validity == Validity::Inconclusive {
        return (Outcome::Inconclusive, report.reasons.join("; "));
    }
    let mbit = |bps: f64| bps / 1e6;
    let least = service.cir_bps * (1.0 - loss_tolerance / 100.0);
    let most = (service.cir_bps + service.eir_bps) * (1.0 + service.policing_margin_percent / 100.0);
    // Rates of frames that were offered over a time are as exact as that time: a part in a thousand.
    if step.kind != Kind::Committed && received < least * 0.999 {
        return (
            Outcome::Fail,
            format!("{:.3} Mbit/s came, less than the CIR of {:.3}", mbit(received), mbit(service.cir_bps)),
        );
    }
    match step.kind {
        Kind::Committed => {
            let why =
                if report.reasons.is_empty() { "as promised".to_owned() } else { report.reasons.join("; ") };
            (outcome_of(report.validity), why)
        }
        Kind::Policing if received > most => (
            Outcome::Fail,
            format!(
                "{:.3} Mbit/s came, more than CIR + EIR of {:.3}: nothing is held back",
                mbit(received),
                mbit(service.cir_bps + service.eir_bps)
            ),
        ),
        Kind::Excess | Kind::Policing => (Outcome::Pass, format!("{:.3} Mbit/s came", mbit(received))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(cir: f64, eir: f64) -> Service {
        Service {
            cir_bps: cir,
            eir_bps: eir,
            steps: 4,
            step: Duration::from_secs(1),
            performance: Duration::from_secs(9),
            policing_margin_percent: 5.0,
            policing: true,
        }
    }

    #[test]
    fn steps_of_a_service() {
        let named = |service: &Service| {
            steps(service).into_iter().map(|step| (step.name, step.bps)).collect::<Vec<_>>()
        };
        let told: Vec<_> = [
            ("25 % of CIR", 12.5),
            ("50 % of CIR", 25.0),
            ("75 % of CIR", 37.5),
            ("100 % of CIR", 50.0),
            ("CIR + EIR", 70.0),
            ("policing", 75.0),
            ("performance", 50.0),
        ]
        .map(|(name, bps)| (name.to_owned(), bps))
        .to_vec();
        assert_eq!(named(&service(50.0, 20.0)), told);
        // Without an EIR, or with little.
        assert_eq!(named(&service(100.0, 0.0))[4], ("policing".to_owned(), 125.0));
        assert_eq!(named(&service(100.0, 10.0))[5], ("policing".to_owned(), 135.0));
        assert_eq!(named(&Service { policing: false, ..service(100.0, 0.0) }).len(), 5);
    }
}
