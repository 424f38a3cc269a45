//! What the tests share: trials that are judged and told, a search, and an estimate of the time that is left.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::Duration;

use super::super::bed::{Bed, DelayTrial, DelaysSeen, Layout, Trial};
use super::super::search::{Bound, Found, Next, Purpose, Search, Validity};
use super::judge::judge;
use super::report::{Measurement, PortDelays, TrialReport};
use super::{Params, Progress, Test};
use crate::control::Stop;
use crate::error::Result;
use crate::report::Warning;

/// Trials that a search takes, about, where it has not begun.
const SEARCH_TRIALS: u32 = 8;

/// Time from a leave to its last frame, and to where that is certain, about: two queries of a group with a second each (RFC 3376 §8.8).
pub(super) const LEAVE: Duration = Duration::from_secs(4);

/// The ports, and how they are used.
pub(super) struct Bench<'a> {
    bed: &'a mut dyn Bed,
    pub params: &'a Params,
    pub stop: &'a Stop,
    tell: &'a mut dyn FnMut(Progress<'_>),
    pub layout: Layout,
    /// The test that runs.
    pub test: Test,
    /// Throughput that was found, by frame size and groups.
    pub throughput: HashMap<(u32, u32), f64>,
    /// Delays without a burden that were measured, by frame size and groups.
    pub delays_found: HashMap<(u32, u32), Vec<PortDelays>>,
    /// The lowest capacity that was found.
    pub capacity: Option<u32>,
    warnings: Vec<Warning>,
    /// Measurements that have not ended, with the time that each takes.
    planned: Vec<(Test, Duration)>,
}

impl<'a> Bench<'a> {
    pub fn new(
        bed: &'a mut dyn Bed,
        params: &'a Params,
        stop: &'a Stop,
        tell: &'a mut dyn FnMut(Progress<'_>),
        layout: Layout,
    ) -> Self {
        let mut planned = Vec::new();
        let overhead = bed.overhead();
        for test in Test::ALL.into_iter().filter(|test| params.tests.contains(test)) {
            let each = planned_time(params, test, layout.members.len() as u32, overhead);
            planned.extend(combinations(params, test).into_iter().map(|_| (test, each)));
        }
        planned.reverse();
        Self {
            bed,
            params,
            stop,
            tell,
            layout,
            test: Test::Throughput,
            throughput: HashMap::new(),
            delays_found: HashMap::new(),
            capacity: None,
            warnings: Vec::new(),
            planned,
        }
    }

    /// A trial without unicast and without latencies by group, of a final trial's duration.
    pub fn plain(&self, measurement: &Measurement, multicast_pps: f64) -> Trial {
        Trial {
            frame_bytes: measurement.frame_bytes,
            groups: measurement.groups,
            multicast_pps,
            unicast_pps: 0.0,
            interleaved: false,
            duration: self.params.final_trial,
            latency_by_group: false,
        }
    }

    /// Runs `trial` and judges it. `more` is the time that the measurement takes after it.
    pub fn trial(&mut self, trial: &Trial, purpose: Purpose, more: Duration) -> Result<TrialReport> {
        let what = format!(
            "{}: {} bytes, {} groups, {:.0} frames/s for {}",
            self.test,
            trial.frame_bytes,
            trial.groups,
            trial.multicast_pps + trial.unicast_pps,
            humantime::format_duration(trial.duration)
        );
        let each = trial.duration + self.bed.overhead();
        self.begins(&what, each + more);
        let seen = self.bed.trial(trial, self.stop)?;
        self.note_all(&seen.warnings);
        for (port, name) in seen.ports.iter().zip(self.layout.members.clone()) {
            if !port.learned {
                self.note(Warning {
                    code: "members-missing",
                    text: format!("{name}: not every group came before the trial began"),
                    fix: Some(
                        "see whether the device learns of members, or give it longer with --join-wait"
                            .to_owned(),
                    ),
                });
            }
        }
        let report = judge(trial, &seen, &self.layout.members, &self.params.tolerance, purpose);
        (self.tell)(Progress::Trial(self.test, &report));
        Ok(report)
    }

    /// As [`trial`](Self::trial), once more when the first is inconclusive. Both go into `measurement`; the last counts.
    pub fn settled_trial(
        &mut self,
        measurement: &mut Measurement,
        trial: &Trial,
        more: Duration,
    ) -> Result<TrialReport> {
        let first = self.trial(trial, Purpose::Confirm, more)?;
        measurement.trials.push(first.clone());
        if first.validity != Validity::Inconclusive || self.stop.is_requested() {
            return Ok(first);
        }
        let second = self.trial(trial, Purpose::Confirm, more)?;
        measurement.trials.push(second.clone());
        Ok(second)
    }

    /// Times joins and leaves.
    pub fn delays(&mut self, trial: &DelayTrial, more: Duration) -> Result<DelaysSeen> {
        let state = if trial.filled { "filled" } else { "empty" };
        let burden = if trial.unicast_pps > 0.0 { ", under unicast load" } else { "" };
        let what = format!(
            "{}: {} bytes, {} groups at {}, forwarding database {state}{burden}",
            self.test, trial.frame_bytes, trial.groups, self.layout.members[trial.port]
        );
        self.begins(&what, self.bed.overhead() + LEAVE + more);
        let seen = self.bed.delays(trial, self.stop)?;
        self.note_all(&seen.warnings);
        Ok(seen)
    }

    /// Searches the highest valid load; `make` gives the trial of a load and a duration. Trials go into `trials` as they end.
    pub fn search(
        &mut self,
        frame_bytes: u32,
        trials: &mut Vec<TrialReport>,
        make: impl Fn(f64, Duration) -> Trial,
    ) -> Result<Found> {
        let mut search = Search::new(self.params.limits(frame_bytes)?)?;
        loop {
            let (load, purpose) = match search.ask() {
                Next::Trial(load, purpose) => (load, purpose),
                Next::Done(found) => return Ok(found),
            };
            if self.stop.is_requested() {
                return Ok(search.end_now());
            }
            let duration = match purpose {
                Purpose::Search => self.params.trial,
                Purpose::Confirm => self.params.final_trial,
            };
            let trial = make(load, duration);
            let (short, long) = search.remaining();
            let overhead = self.bed.overhead();
            let more = (self.params.trial + overhead) * short.saturating_sub(1)
                + (self.params.final_trial + overhead) * long;
            let report = self.trial(&trial, purpose, more)?;
            search.note(report.validity);
            trials.push(report);
        }
    }

    /// Time of a bed's trial besides its duration.
    pub fn overhead(&self) -> Duration {
        self.bed.overhead()
    }

    /// Tells that something begins, with which this measurement takes `own` to its end.
    fn begins(&mut self, what: &str, own: Duration) {
        let later: Duration = self.planned.iter().rev().skip(1).map(|(_, time)| *time).sum();
        (self.tell)(Progress::Begins(what, own + later));
    }

    /// Tells of a measurement that has ended.
    pub fn measured(&mut self, measurement: &Measurement) {
        self.planned.pop();
        (self.tell)(Progress::Measured(self.test, measurement));
    }

    fn note_all(&mut self, warnings: &[Warning]) {
        for warning in warnings {
            self.note(warning.clone());
        }
    }

    /// Notes a warning and tells it, once.
    pub fn note(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            (self.tell)(Progress::Warning(&warning));
            self.warnings.push(warning);
        }
    }

    pub fn into_warnings(self) -> Vec<Warning> {
        self.warnings
    }
}

/// What a bound says, after the load.
pub(super) fn bound_in_words(bound: Bound) -> &'static str {
    match bound {
        Bound::Device => "more is not forwarded as it should be",
        Bound::Range => "more was not tried",
        Bound::Sender => "the sender could not offer more, so that the device may well bear it",
        Bound::Unsettled => "it was not settled",
    }
}

/// Frame sizes and numbers of groups of a test.
pub(super) fn combinations(params: &Params, test: Test) -> Vec<(u32, u32)> {
    let groups = match test {
        Test::Matrix => params.matrix_groups(),
        Test::Capacity => vec![params.most_groups],
        _ => params.groups.clone(),
    };
    params.frame_sizes.iter().flat_map(|&frame| groups.iter().map(move |&n| (frame, n))).collect()
}

/// Time of one measurement, about.
fn planned_time(params: &Params, test: Test, members: u32, overhead: Duration) -> Duration {
    let (short, long) = (params.trial + overhead, params.final_trial + overhead);
    match test {
        Test::Throughput | Test::Mixed => short * SEARCH_TRIALS + long * params.confirmations,
        Test::Matrix | Test::Latency => long,
        Test::BurdenedLatency => long * 2,
        Test::Capacity => short * params.most_groups.div_ceil(params.step).min(20),
        Test::JoinLeave => (overhead + LEAVE) * members * 2,
        Test::BurdenedJoin if params.tests.contains(&Test::JoinLeave) => (overhead + LEAVE) * members * 2,
        Test::BurdenedJoin => (overhead + LEAVE) * members * 4,
    }
}
