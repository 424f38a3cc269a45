//! Qualification of a NIC or of a link: the tests of RFC 2544 over two ports, a service activation test in the manner of ITU-T Y.1564, a long
//! run, round trips to a reflector.
//!
//! Every trial has the same procedure (RFC 2544 §23): the receiver is ready, frames are seen to come, the sender sends for a time, frames in
//! flight are waited for, both ports are read. A trial is judged by loss, copies, order and delay together ([`judge`]); one to which the tester itself
//! was not equal is inconclusive, and so is what rests on it.
#![forbid(unsafe_code)]

pub mod isolate;
pub mod judge;
pub mod link;
pub mod pair;
pub mod params;
pub mod report;

pub use params::{Expectations, Params, Service, Size, Test, Tolerance};

mod bench;
mod burst;
mod health;
mod latency;
mod loss;
mod reset;
pub mod round_trip;
mod service;
mod soak;
#[cfg(test)]
mod tests;
mod throughput;

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::control::Stop;
use crate::error::{Error, Kind, Result};
use crate::report::{Check, Outcome, Verdict, Warning};
use bench::Bench;
use link::{Direction, Link};
use report::{Measurement, Report, Reserved, SCHEMA, TestReport, TrialReport};

/// What a qualification tells while it goes on.
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

/// What a qualification came to: when it failed on the way, what was known by then is still in the report.
#[derive(Debug)]
pub struct Ended {
    /// The report.
    pub report: Report,
    /// Why it ended before it should.
    pub failure: Option<Error>,
}

/// The tests of RFC 2544 that are not run.
const RESERVED: [Reserved; 1] = [Reserved {
    name: "system-recovery",
    section: "RFC 2544 §26.5",
    why: "it takes a sender that halves its load from one frame to the next; two senders in turn leave a gap in which the device recovers unseen",
}];

/// Runs the tests of `params` over the ports of `link`.
///
/// # Errors
/// `Usage` when the parameters cannot be run; what goes wrong later is in [`Ended::failure`].
pub fn run(
    params: &Params,
    link: &mut dyn Link,
    stop: &Stop,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Ended> {
    params.check()?;
    let mut report = Report::begin(params, link.layout());
    let mut bench = Bench::new(link, params, stop, tell);
    let mut failure = None;
    for test in bench::tests(params) {
        let mut measured = TestReport::begin(test);
        let result = run_test(&mut bench, test, &mut measured.measurements);
        measured.outcome = worst(measured.measurements.iter().map(|m| m.outcome));
        report.tests.push(measured);
        if let Err(mut error) = result {
            // What went well before is no wrong argument: an interface may have gone away.
            let began = report.tests.iter().flat_map(|test| &test.measurements).any(|m| !m.trials.is_empty());
            if began && error.kind == Kind::Usage {
                error.kind = Kind::Failed;
            }
            failure = Some(error);
        }
        if failure.is_some() || stop.is_requested() {
            break;
        }
    }
    (report.warnings, report.health) = bench.end();
    report.interrupted = stop.is_requested();
    report.failure = failure.as_ref().map(|error| match &error.source {
        Some(source) => format!("{}: {source}", error.what),
        None => error.what.clone(),
    });
    report.verdict = verdict(params, &report);
    Ok(Ended { report, failure })
}

impl Report {
    /// Nothing found out yet.
    pub(crate) fn begin(params: &Params, ports: link::Layout) -> Self {
        Self {
            schema: SCHEMA,
            started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            config: describe(params),
            ports,
            tests: Vec::new(),
            reserved: RESERVED.to_vec(),
            health: Vec::new(),
            warnings: Vec::new(),
            interrupted: false,
            failure: None,
            verdict: Verdict { outcome: Outcome::Inconclusive, checks: Vec::new() },
        }
    }
}

impl TestReport {
    /// Nothing measured yet.
    pub(crate) fn begin(test: Test) -> Self {
        Self {
            name: test,
            title: test.title(),
            section: test.section(),
            outcome: Outcome::Inconclusive,
            measurements: Vec::new(),
        }
    }
}

/// Runs one test; what is measured up to a failure stays in `measurements`.
fn run_test(bench: &mut Bench<'_>, test: Test, measurements: &mut Vec<Measurement>) -> Result<()> {
    bench.test = test;
    let params = bench.params;
    for direction in &params.directions {
        for size in &params.sizes {
            let mut measurement = Measurement::begin(size, *direction);
            let result = match test {
                Test::Throughput => throughput::run(bench, size, &mut measurement),
                Test::Latency => latency::run(bench, size, &mut measurement),
                Test::FrameLoss => loss::run(bench, size, &mut measurement),
                Test::BackToBack => burst::run(bench, size, &mut measurement),
                Test::Reset => reset::run(bench, size, &mut measurement),
                Test::Y1564 => service::run(bench, size, &mut measurement),
                Test::Soak => soak::run(bench, size, &mut measurement),
                Test::RoundTrip => Ok(()),
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
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Measurement {
    /// Nothing measured yet.
    pub(crate) fn begin(size: &Size, direction: Direction) -> Self {
        Self {
            frame_bytes: size.mean_bytes().round() as u32,
            sizes: size.name.clone(),
            direction,
            outcome: Outcome::Inconclusive,
            why: "nothing was measured".to_owned(),
            throughput: None,
            latency: Vec::new(),
            loss_curve: Vec::new(),
            back_to_back: None,
            reset: None,
            service: Vec::new(),
            soak: None,
            round_trip: None,
            trials: Vec::new(),
        }
    }

    pub(crate) fn conclude(&mut self, outcome: Outcome, why: String) {
        (self.outcome, self.why) = (outcome, why);
    }
}

/// The worst of some outcomes; of none, nothing is known.
pub(crate) fn worst(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Pass => 0,
        Outcome::Inconclusive => 1,
        Outcome::Fail => 2,
    };
    outcomes.max_by_key(rank).unwrap_or(Outcome::Inconclusive)
}

/// A check for each test that was asked for.
pub(crate) fn verdict(params: &Params, report: &Report) -> Verdict {
    let mut checks: Vec<Check> = Vec::new();
    for test in Test::ALL.into_iter().filter(|test| params.tests.contains(test)) {
        let want = wanted(params, test);
        let begun = report.tests.iter().find(|begun| begun.name == test);
        let check = match begun {
            None => Check {
                name: test.name(),
                want,
                got: "it was not begun".to_owned(),
                outcome: Outcome::Inconclusive,
            },
            Some(begun) => {
                let worst = begun.measurements.iter().find(|m| m.outcome == begun.outcome);
                let got = worst.map_or_else(
                    || "nothing was measured".to_owned(),
                    |m| format!("{} bytes, {}: {}", m.sizes, way(m.direction), m.why),
                );
                Check { name: test.name(), want, got, outcome: begun.outcome }
            }
        };
        checks.push(check);
    }
    checks.extend(health::check(&report.health));
    let mut outcome = worst(checks.iter().map(|check| check.outcome));
    if outcome == Outcome::Pass && (report.interrupted || report.failure.is_some()) {
        outcome = Outcome::Inconclusive;
    }
    Verdict { outcome, checks }
}

/// A direction as people say it.
pub fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
        Direction::Both => "both ways at once",
    }
}

/// What a test is expected to show.
fn wanted(params: &Params, test: Test) -> String {
    let expect = &params.expect;
    let time = |time: Duration| humantime::format_duration(time).to_string();
    match test {
        Test::Throughput => expect
            .throughput
            .map_or_else(|| format!("{} at least", params.min_rate), |rate| format!("{rate} at least")),
        Test::Latency => expect
            .latency
            .map_or_else(|| "no loss".to_owned(), |limit| format!("a mean of {} at most", time(limit))),
        Test::FrameLoss => expect.loss_percent.map_or_else(
            || "two loads in a row without loss".to_owned(),
            |limit| format!("below {limit} % at the highest load"),
        ),
        Test::BackToBack => expect
            .burst_frames
            .map_or_else(|| "one frame at least".to_owned(), |frames| format!("{frames} frames at least")),
        Test::Reset => expect
            .reset
            .map_or_else(|| "frames come again".to_owned(), |limit| format!("{} at most", time(limit))),
        Test::Y1564 => "as the service promises".to_owned(),
        Test::Soak => "every interval as it should be".to_owned(),
        Test::RoundTrip => expect.round_trip.map_or_else(
            || "loss within the tolerance".to_owned(),
            |limit| format!("a mean of {} at most", time(limit)),
        ),
    }
}

/// The effective parameters.
fn describe(params: &Params) -> Value {
    let nanos = |time: Duration| time.as_nanos() as u64;
    let rate = |rate: Option<crate::profile::rate::Rate>| rate.map(|rate| rate.to_string());
    let (tolerance, expect) = (&params.tolerance, &params.expect);
    let sizes: Vec<Value> =
        params.sizes.iter().map(|size| json!({"name": size.name, "order": size.list.to_string()})).collect();
    crate::report::effective(json!({
        "tests": params.tests,
        "sizes": sizes,
        "directions": params.directions,
        "min_rate": params.min_rate.to_string(),
        "max_rate": params.max_rate.to_string(),
        "initial_rate": rate(params.initial_rate),
        "rate": rate(params.rate),
        "resolution_percent": params.resolution_percent,
        "backoff": params.backoff,
        "confirmations": params.confirmations,
        "retries": params.retries,
        "trial_ns": nanos(params.trial),
        "final_trial_ns": nanos(params.final_trial),
        "loss_tolerance_percent": tolerance.loss_percent,
        "duplicate_tolerance": tolerance.duplicates,
        "reordered_tolerance": tolerance.reordered,
        "latency_tolerance_ns": tolerance.latency.map(nanos),
        "jitter_tolerance_ns": tolerance.jitter.map(nanos),
        "offered_tolerance_percent": tolerance.offered_percent,
        "loss_step_percent": params.loss_step_percent,
        "bursts": params.bursts,
        "longest_burst_ns": nanos(params.longest_burst),
        "burst_resolution": params.burst_resolution,
        "reset_link": params.reset_link,
        "reset_down_ns": nanos(params.reset_down),
        "reset_wait_ns": nanos(params.reset_wait),
        "cir_bps": params.service.map(|service| service.cir_bps),
        "eir_bps": params.service.map(|service| service.eir_bps),
        "soak_ns": nanos(params.soak),
        "soak_interval_ns": nanos(params.soak_interval),
        "health": params.health,
        "expect_throughput": rate(expect.throughput),
        "expect_latency_ns": expect.latency.map(nanos),
        "expect_loss_below_percent": expect.loss_percent,
        "expect_burst": expect.burst_frames,
        "expect_reset_ns": expect.reset.map(nanos),
        "expect_round_trip_ns": expect.round_trip.map(nanos),
    }))
}
