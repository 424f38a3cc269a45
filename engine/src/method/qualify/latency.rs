//! Latency (RFC 2544 §26.2), at the throughput where it was found and no load was named. Every frame has a time stamp, so that a trial gives a
//! distribution, not one value.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::search::Validity;
use super::Size;
use super::bench::{Bench, outcome_of};
use super::report::{Measurement, PortLatency};
use crate::error::Result;
use crate::report::Outcome;

/// What to say where there is no load.
pub(super) const NO_LOAD: &str = "there is no load to measure at: no throughput was found for this size in this run, and no --rate is given";

pub(super) fn run(bench: &mut Bench<'_>, size: &Size, measurement: &mut Measurement) -> Result<()> {
    let Some(load) = bench.load(size, measurement.direction)? else {
        measurement.conclude(Outcome::Inconclusive, NO_LOAD.to_owned());
        return Ok(());
    };
    let trial = bench.plain(size, measurement.direction, load);
    let report = bench.settled_trial(measurement, &trial, Duration::ZERO)?;
    measurement.latency = report
        .ports
        .iter()
        .filter_map(|port| {
            Some(PortLatency {
                port: port.port.clone(),
                offered_pps: port.offered.pps,
                latency_ns: port.latency_ns?,
                jitter_ns: port.jitter_ns,
            })
        })
        .collect();
    if report.validity != Validity::Valid {
        measurement.conclude(outcome_of(report.validity), report.reasons.join("; "));
        return Ok(());
    }
    if measurement.latency.len() < report.ports.len() {
        let why = "the clocks of sender and receiver do not compare: docs/time.md tells what they need";
        measurement.conclude(Outcome::Inconclusive, why.to_owned());
        return Ok(());
    }
    let mean = measurement.latency.iter().map(|port| port.latency_ns.mean).max().unwrap_or(0);
    let us = |ns: u64| ns as f64 / 1e3;
    let most = measurement.latency.iter().map(|port| port.latency_ns.max).max().unwrap_or(0);
    let figures = format!("mean {:.1} µs, highest {:.1} µs at {load:.0} frames/s", us(mean), us(most));
    let (outcome, why) = match bench.params.expect.latency {
        Some(limit) if u128::from(mean) > limit.as_nanos() => (
            Outcome::Fail,
            format!("{figures}; a mean of {:.1} µs at most is expected", limit.as_secs_f64() * 1e6),
        ),
        _ => (Outcome::Pass, figures),
    };
    measurement.conclude(outcome, why);
    Ok(())
}
