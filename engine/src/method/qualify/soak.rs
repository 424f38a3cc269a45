//! A long run at one load, with a time line: what comes only once in a while is seen when it comes.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::search::Purpose;
use super::Size;
use super::bench::{Bench, outcome_of};
use super::latency::NO_LOAD;
use super::report::{Measurement, Soak, SoakInterval};
use crate::error::Result;
use crate::report::Outcome;

pub(super) fn run(bench: &mut Bench<'_>, size: &Size, measurement: &mut Measurement) -> Result<()> {
    let direction = measurement.direction;
    let Some(load) = bench.load(size, direction)? else {
        measurement.conclude(Outcome::Inconclusive, NO_LOAD.to_owned());
        return Ok(());
    };
    let mut trial = bench.plain(size, direction, load);
    trial.duration = bench.params.soak;
    trial.time_line = Some(bench.params.soak_interval);
    let report = bench.trial(measurement, &trial, Purpose::Confirm, Duration::ZERO)?;
    let ports = std::mem::take(&mut bench.last);
    let intervals: Vec<SoakInterval> = report
        .ports
        .iter()
        .zip(ports)
        .flat_map(|(port, seen)| {
            let name = port.port.clone();
            seen.time_line.into_iter().map(move |moment| SoakInterval {
                port: name.clone(),
                start_ns: moment.start_ns,
                end_ns: moment.end_ns,
                received: moment.received,
                lost: moment.lost,
                pps: moment.pps,
                latency_ns: moment.latency_ns,
            })
        })
        .collect();
    let with_loss = intervals.iter().filter(|interval| interval.lost > 0).count();
    let count = intervals.len();
    measurement.soak = Some(Soak { offered_pps: load, intervals_with_loss: with_loss as u64, intervals });
    let why = match report.reasons.first() {
        Some(_) => format!("{}; {with_loss} of {count} intervals with loss", report.reasons.join("; ")),
        None => format!("{load:.0} frames/s for {}", humantime::format_duration(bench.params.soak)),
    };
    measurement.conclude(outcome_of(report.validity), why);
    Ok(())
}
