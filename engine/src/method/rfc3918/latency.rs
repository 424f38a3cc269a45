//! Multicast latency (RFC 3918 §5.1), for each egress port and group, and min/max multicast latency (§5.2).
#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::bed::Trial;
use super::bench::Bench;
use super::matrix::of_trial;
use super::report::{Latency, Measurement, TrialReport};
use crate::error::Result;
use crate::report::{Distribution, Outcome};

/// Measures at the throughput, where it was found and no load was named.
pub(super) fn run(bench: &mut Bench<'_>, measurement: &mut Measurement) -> Result<()> {
    let trial = Trial { latency_by_group: true, ..bench.plain(measurement, load(bench, measurement)?) };
    let report = bench.settled_trial(measurement, &trial, Duration::ZERO)?;
    measurement.latency = figures(&report);
    let (mut outcome, mut why) = of_trial(&report);
    match &measurement.latency {
        Some(latency) => why += &format!("; {}", in_words(latency)),
        None if outcome == Outcome::Pass => {
            outcome = Outcome::Inconclusive;
            why = "no latency can be told: the clocks of sender and members do not compare".to_owned();
        }
        None => {}
    }
    measurement.conclude(outcome, why);
    Ok(())
}

/// The load of a latency test (RFC 2544 §26.2: the throughput).
pub(super) fn load(bench: &Bench<'_>, measurement: &Measurement) -> Result<f64> {
    let found = bench.throughput.get(&(measurement.frame_bytes, measurement.groups));
    match (bench.params.rate, found) {
        (None, Some(found)) => Ok(*found),
        _ => bench.params.fixed_load(measurement.frame_bytes),
    }
}

/// The figures of a trial; `None` when a port tells no latency.
pub(super) fn figures(report: &TrialReport) -> Option<Latency> {
    let mut means: Vec<u64> = Vec::new();
    let mut skew_ns = 0;
    for group in 0..report.groups {
        let of_group: Vec<Distribution> = report
            .ports
            .iter()
            .filter_map(|port| port.groups.iter().find(|g| g.group == group)?.latency_ns)
            .collect();
        means.extend(of_group.iter().map(|latency| latency.mean));
        skew_ns = skew_ns.max(skew(&of_group));
    }
    if means.is_empty() {
        // Without figures by group, those of whole ports.
        let of_ports: Vec<Distribution> = report.ports.iter().filter_map(|port| port.latency_ns).collect();
        means.extend(of_ports.iter().map(|latency| latency.mean));
        skew_ns = skew(&of_ports);
    }
    let (min_ns, max_ns) = (means.iter().copied().min()?, means.iter().copied().max()?);
    Some(Latency { offered_pps: report.multicast.pps, min_ns, max_ns, min_max_ns: max_ns - min_ns, skew_ns })
}

/// The greatest difference between two medians.
fn skew(latencies: &[Distribution]) -> u64 {
    let medians = latencies.iter().map(|latency| latency.p50);
    medians.clone().max().unwrap_or(0) - medians.min().unwrap_or(0)
}

pub(super) fn in_words(latency: &Latency) -> String {
    let us = |ns: u64| ns as f64 / 1e3;
    format!(
        "mean latency from {:.1} to {:.1} µs, members apart by {:.1} µs",
        us(latency.min_ns),
        us(latency.max_ns),
        us(latency.skew_ns)
    )
}
