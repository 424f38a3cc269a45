//! Benchmarks of IP multicast forwarding: the tests of RFC 3918, in the terms of RFC 2432.
//!
//! Every trial has the same procedure (RFC 2544 §23, RFC 3918 §4): members join, are waited for until frames of each group
//! come to each of them, the senders send for a time, frames in flight are waited for, ports are read. Each port and each group is
//! judged by itself ([`judge`]): a device that loses all of one group at one port is not excused by the others. A trial to which the
//! tester itself was not equal is inconclusive.
#![forbid(unsafe_code)]

mod bench;
mod burdened;
mod capacity;
mod delay;
pub mod judge;
mod latency;
mod matrix;
pub mod params;
pub mod report;
#[cfg(test)]
mod tests;
mod throughput;

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::bed::Bed;
use crate::control::Stop;
use crate::error::{Error, Kind, Result};
use crate::report::{Outcome, Warning};
use bench::Bench;
pub use params::{Params, Test, Tolerance};
use report::{Measurement, Report, Reserved, SCHEMA, TestReport, TrialReport};

/// What a benchmark tells while it goes on.
#[derive(Debug)]
pub enum Progress<'a> {
    /// Something begins that takes a while: what, and how long all the rest will take, about.
    Begins(&'a str, Duration),
    /// A trial has ended.
    Trial(Test, &'a TrialReport),
    /// A measurement has ended.
    Measured(Test, &'a Measurement),
    /// Something that a reader should know.
    Warning(&'a Warning),
}

/// What a benchmark came to: when it failed on the way, what was known by then is still in the report.
#[derive(Debug)]
pub struct Ended {
    /// The report.
    pub report: Report,
    /// Why it ended before it should.
    pub failure: Option<Error>,
}

/// The test that needs a tunnel.
const RESERVED: [Reserved; 1] = [Reserved {
    name: "encapsulation",
    section: "4.4",
    why: "throughput of a device that adds or takes off a tunnel's header: it takes an end of a tunnel, which this program does not have yet",
}];

/// Runs the tests of `params` over the ports of `bed`.
///
/// # Errors
/// `Usage` when the parameters cannot be run; what goes wrong later is in [`Ended::failure`].
pub fn run(
    params: &Params,
    bed: &mut dyn Bed,
    stop: &Stop,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Ended> {
    params.check()?;
    let layout = bed.layout();
    let mut report = Report {
        schema: SCHEMA,
        started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        config: describe(params),
        ports: layout.clone(),
        tests: Vec::new(),
        reserved: RESERVED.to_vec(),
        warnings: Vec::new(),
        interrupted: false,
        failure: None,
        outcome: Outcome::Inconclusive,
    };
    let mut bench = Bench::new(bed, params, stop, tell, layout);
    let mut failure = None;
    // In the order in which one test needs what another found.
    for test in Test::ALL.into_iter().filter(|test| params.tests.contains(test)) {
        let mut measured = TestReport {
            name: test,
            title: test.title(),
            section: test.section(),
            outcome: Outcome::Inconclusive,
            measurements: Vec::new(),
        };
        let result = run_test(&mut bench, test, &mut measured.measurements);
        measured.outcome = worst(measured.measurements.iter().map(|m| m.outcome));
        report.tests.push(measured);
        if let Err(mut error) = result {
            // What went well before is no wrong argument: an interface may have gone away.
            let began = report.tests.iter().flat_map(|test| &test.measurements).any(|m| m.has_figures());
            if began && error.kind == Kind::Usage {
                error.kind = Kind::Failed;
            }
            failure = Some(error);
        }
        if failure.is_some() || stop.is_requested() {
            break;
        }
    }
    report.warnings = bench.into_warnings();
    report.interrupted = stop.is_requested();
    report.failure = failure.as_ref().map(|error| match &error.source {
        Some(source) => format!("{}: {source}", error.what),
        None => error.what.clone(),
    });
    report.outcome = worst(report.tests.iter().map(|test| test.outcome));
    if report.outcome == Outcome::Pass && (report.interrupted || report.failure.is_some()) {
        report.outcome = Outcome::Inconclusive;
    }
    Ok(Ended { report, failure })
}

/// Runs one test; what is measured up to a failure stays in `measurements`.
fn run_test(bench: &mut Bench<'_>, test: Test, measurements: &mut Vec<Measurement>) -> Result<()> {
    bench.test = test;
    for (frame_bytes, groups) in bench::combinations(bench.params, test) {
        let mut measurement = Measurement::begin(frame_bytes, groups);
        let result = match test {
            Test::Throughput => throughput::run(bench, &mut measurement, false),
            Test::Mixed => throughput::run(bench, &mut measurement, true),
            Test::Matrix => matrix::run(bench, &mut measurement),
            Test::Latency => latency::run(bench, &mut measurement),
            Test::JoinLeave => delay::run(bench, &mut measurement),
            Test::Capacity => capacity::run(bench, &mut measurement),
            Test::BurdenedLatency => burdened::latency(bench, &mut measurement),
            Test::BurdenedJoin => burdened::join(bench, &mut measurement),
        };
        if let Err(error) = &result {
            measurement.conclude(Outcome::Inconclusive, format!("it was not finished: {}", error.what));
        } else if bench.stop.is_requested() {
            measurement.conclude(Outcome::Inconclusive, "it was ended early".to_owned());
        }
        bench.measured(&measurement);
        measurements.push(measurement);
        result?;
        if bench.stop.is_requested() {
            break;
        }
    }
    Ok(())
}

impl Measurement {
    /// Nothing measured yet.
    fn begin(frame_bytes: u32, groups: u32) -> Self {
        Self {
            frame_bytes,
            groups,
            outcome: Outcome::Inconclusive,
            why: "nothing was measured".to_owned(),
            throughput: None,
            forwarding: None,
            latency: None,
            baseline: None,
            capacity: None,
            delays: Vec::new(),
            trials: Vec::new(),
        }
    }

    /// Whether anything was measured.
    fn has_figures(&self) -> bool {
        !self.trials.is_empty() || !self.delays.is_empty()
    }

    fn conclude(&mut self, outcome: Outcome, why: String) {
        (self.outcome, self.why) = (outcome, why);
    }
}

/// The worst of some outcomes; of none, nothing is known.
fn worst(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Pass => 0,
        Outcome::Inconclusive => 1,
        Outcome::Fail => 2,
    };
    outcomes.max_by_key(rank).unwrap_or(Outcome::Inconclusive)
}

/// The effective parameters.
fn describe(params: &Params) -> Value {
    let nanos = |time: Duration| time.as_nanos() as u64;
    let tolerance = &params.tolerance;
    crate::report::effective(json!({
        "tests": params.tests,
        "frame_sizes": params.frame_sizes,
        "groups": params.groups,
        "min_rate": params.min_rate.to_string(),
        "max_rate": params.max_rate.to_string(),
        "initial_rate": params.initial_rate.map(|rate| rate.to_string()),
        "rate": params.rate.map(|rate| rate.to_string()),
        "resolution_percent": params.resolution_percent,
        "backoff": params.backoff,
        "confirmations": params.confirmations,
        "trial_ns": nanos(params.trial),
        "final_trial_ns": nanos(params.final_trial),
        "loss_tolerance_percent": tolerance.loss_percent,
        "leakage_tolerance": tolerance.leaked,
        "latency_tolerance_ns": tolerance.latency.map(nanos),
        "offered_tolerance_percent": tolerance.offered_percent,
        "join_tolerance_ns": tolerance.join.map(nanos),
        "leave_tolerance_ns": tolerance.leave.map(nanos),
        "unicast_percent": params.unicast_percent,
        "step": params.step,
        "first_groups": params.first_groups,
        "most_groups": params.most_groups,
        "patience_ns": nanos(params.patience),
    }))
}
