//! What the tests share: trials that are judged and told, a search, and an estimate of the time that is left.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::Duration;

use super::super::search::{Bound, Found, Limits, Next, Purpose, Search, Validity};
use super::health::{self, Health};
use super::judge::judge;
use super::link::{Direction, Layout, Link, PortSeen, Trial};
use super::report::{Measurement, PortHealth, TrialReport};
use super::{Params, Progress, Size, Test};
use crate::control::Stop;
use crate::error::Result;
use crate::report::{Outcome, Warning};

/// Trials that a search takes, about, where it has not begun.
const SEARCH_TRIALS: u32 = 9;

/// The ports, and how they are used.
pub(super) struct Bench<'a> {
    link: &'a mut dyn Link,
    pub params: &'a Params,
    pub stop: &'a Stop,
    tell: &'a mut dyn FnMut(Progress<'_>),
    pub layout: Layout,
    /// The test that runs.
    pub test: Test,
    /// Throughput that was found, by sizes and direction.
    pub throughput: HashMap<(String, Direction), f64>,
    /// What the ports of the last trial received.
    pub last: Vec<PortSeen>,
    health: Health<'a>,
    warnings: Vec<Warning>,
    /// Measurements that have not ended, with the time that each takes.
    planned: Vec<Duration>,
}

impl<'a> Bench<'a> {
    pub fn new(
        link: &'a mut dyn Link,
        params: &'a Params,
        stop: &'a Stop,
        tell: &'a mut dyn FnMut(Progress<'_>),
    ) -> Self {
        let overhead = link.overhead();
        let each = |test| std::iter::repeat_n(planned_time(params, test, overhead), combinations(params));
        let planned = tests(params).flat_map(each).rev().collect();
        let layout = link.layout();
        let health = Health::begin(link.health(), &params.health);
        Self {
            link,
            params,
            stop,
            tell,
            layout,
            test: Test::Throughput,
            throughput: HashMap::new(),
            last: Vec::new(),
            health,
            warnings: Vec::new(),
            planned,
        }
    }

    /// A trial of a final trial's duration.
    pub fn plain(&self, size: &Size, direction: Direction, pps: f64) -> Trial {
        Trial {
            size: size.clone(),
            direction,
            pps,
            burst: None,
            duration: self.params.final_trial,
            time_line: None,
            outage: None,
        }
    }

    /// The load of tests with a fixed one: the one that was named, or the throughput where it was found.
    pub fn load(&self, size: &Size, direction: Direction) -> Result<Option<f64>> {
        let found = || self.throughput.get(&(size.name.clone(), direction)).copied();
        Ok(self.params.fixed_load(size)?.or_else(found))
    }

    /// Names of the ports that receive.
    pub fn receivers(&self, direction: Direction) -> Vec<String> {
        let name = |back: &bool| if *back { &self.layout.tx } else { &self.layout.rx };
        direction.ways().iter().map(|back| name(back).clone()).collect()
    }

    /// Runs `trial` and judges it. `more` is the time that the measurement takes after it.
    pub fn trial(
        &mut self,
        measurement: &mut Measurement,
        trial: &Trial,
        purpose: Purpose,
        more: Duration,
    ) -> Result<TrialReport> {
        let load = match trial.burst {
            Some(frames) => format!("a burst of {frames} frames at {:.0} frames/s", trial.pps),
            None => format!("{:.0} frames/s for {}", trial.pps, humantime::format_duration(trial.duration)),
        };
        let what = format!("{}: {} bytes, {load}", self.test, trial.size.name);
        self.begins(&what, trial.duration + self.link.overhead() + more);
        let seen = self.link.trial(trial, self.stop)?;
        let ports = self.receivers(trial.direction);
        seen.warnings.iter().for_each(|warning| self.note(warning.clone()));
        for (port, name) in seen.ports.iter().zip(&ports) {
            if !port.learned && !seen.interrupted {
                self.note(Warning {
                    code: "nothing-came",
                    text: format!("{name}: no frame came before the trial began"),
                    fix: Some(
                        "see whether the link is up and the addresses are right, or give it longer with --link-wait"
                            .to_owned(),
                    ),
                });
            }
        }
        let mut report = judge(trial, &seen, &ports, &self.params.tolerance, purpose);
        report.health = self.health.look(trial, &seen.health);
        (self.tell)(Progress::Trial(self.test, &report));
        measurement.trials.push(report.clone());
        self.last = seen.ports;
        Ok(report)
    }

    /// As [`trial`](Self::trial), once more when it is inconclusive, and as often as was asked for when it is invalid. The last counts.
    pub fn settled_trial(
        &mut self,
        measurement: &mut Measurement,
        trial: &Trial,
        more: Duration,
    ) -> Result<TrialReport> {
        let mut repeats = 1;
        let mut retries = self.params.retries;
        loop {
            let report = self.trial(measurement, trial, Purpose::Confirm, more)?;
            let left = match report.validity {
                Validity::Valid => return Ok(report),
                Validity::Inconclusive => &mut repeats,
                Validity::Invalid => &mut retries,
            };
            if *left == 0 || self.stop.is_requested() {
                return Ok(report);
            }
            *left -= 1;
        }
    }

    /// Searches the highest valid load; `make` gives the trial of a load and a purpose.
    pub fn search(
        &mut self,
        measurement: &mut Measurement,
        limits: Limits,
        make: impl Fn(f64, Purpose) -> Trial,
    ) -> Result<Found> {
        let mut search = Search::new(limits)?;
        let mut retries = self.params.retries;
        loop {
            let (load, purpose) = match search.ask() {
                Next::Trial(load, purpose) => (load, purpose),
                Next::Done(found) => return Ok(found),
            };
            if self.stop.is_requested() {
                return Ok(search.end_now());
            }
            let (short, long) = search.remaining();
            let overhead = self.link.overhead();
            let time = |purpose| make(load, purpose).duration + overhead;
            let more = time(Purpose::Search) * short.saturating_sub(1) + time(Purpose::Confirm) * long;
            let report = self.trial(measurement, &make(load, purpose), purpose, more)?;
            // What came by chance does not come again.
            if report.validity == Validity::Invalid && retries > 0 {
                retries -= 1;
                continue;
            }
            retries = self.params.retries;
            search.note(report.validity);
        }
    }

    /// Tells that something begins, with which this measurement takes `own` to its end.
    fn begins(&mut self, what: &str, own: Duration) {
        let later: Duration = self.planned.iter().rev().skip(1).sum();
        (self.tell)(Progress::Begins(what, own + later));
    }

    /// Tells of a measurement that has ended.
    pub fn measured(&mut self, measurement: &Measurement) {
        self.planned.pop();
        (self.tell)(Progress::Measured(self.test, measurement));
    }

    /// Notes a warning and tells it, once.
    pub fn note(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            (self.tell)(Progress::Warning(&warning));
            self.warnings.push(warning);
        }
    }

    /// What a reader should know, and the ports' health.
    pub fn end(mut self) -> (Vec<Warning>, Vec<PortHealth>) {
        let health = self.health.report();
        for warning in health::warnings(&health) {
            if !self.warnings.contains(&warning) {
                (self.tell)(Progress::Warning(&warning));
                self.warnings.push(warning);
            }
        }
        (self.warnings, health)
    }
}

/// The tests that are run over two ports, in order.
pub(super) fn tests(params: &Params) -> impl DoubleEndedIterator<Item = Test> {
    Test::ALL.into_iter().filter(|test| params.tests.contains(test) && *test != Test::RoundTrip)
}

fn combinations(params: &Params) -> usize {
    params.sizes.len() * params.directions.len()
}

/// What a bound says, after the load.
pub(super) fn bound_in_words(bound: Bound) -> &'static str {
    match bound {
        Bound::Device => "more does not pass as it should",
        Bound::Range => "more was not tried",
        Bound::Sender => "the sender could not offer more, so that the link may well bear it",
        Bound::Unsettled => "it was not settled",
    }
}

/// What is wrong with a trial, and which outcome that is.
pub(super) fn outcome_of(validity: Validity) -> Outcome {
    match validity {
        Validity::Valid => Outcome::Pass,
        Validity::Invalid => Outcome::Fail,
        Validity::Inconclusive => Outcome::Inconclusive,
    }
}

/// Time of one measurement, about.
fn planned_time(params: &Params, test: Test, overhead: Duration) -> Duration {
    let (short, long) = (params.trial + overhead, params.final_trial + overhead);
    match test {
        Test::Throughput => short * SEARCH_TRIALS + long * params.confirmations,
        Test::Latency => long,
        Test::FrameLoss => long * 5,
        Test::BackToBack => (params.longest_burst / 4 + overhead) * 12 * params.bursts,
        Test::Reset => params.reset_wait + overhead,
        Test::Y1564 => params.service.map_or(Duration::ZERO, |service| {
            (service.step + overhead) * (service.steps + 2) + service.performance + overhead
        }),
        Test::Soak => params.soak + overhead,
        Test::RoundTrip => params.final_trial,
    }
}
