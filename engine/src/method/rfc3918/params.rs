//! What a benchmark is run with, and the defaults of RFC 3918 and RFC 2544.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::super::search::Limits;
use crate::error::{Error, Result};
use crate::method::bed::mix;
use crate::profile::mix::Mix;
use crate::profile::rate::Rate;
use crate::profile::size::{Framing, SizeList, Sizes};

/// A test of RFC 3918.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Test {
    /// Aggregated multicast throughput.
    Throughput,
    /// Mixed class throughput.
    Mixed,
    /// Scaled group forwarding matrix.
    Matrix,
    /// Multicast latency, and its lowest and highest.
    Latency,
    /// Group join and leave delay.
    JoinLeave,
    /// Multicast group capacity.
    Capacity,
    /// Forwarding-burdened multicast latency.
    BurdenedLatency,
    /// Forwarding-burdened group join delay.
    BurdenedJoin,
}

impl Test {
    /// All of them, in the order in which one needs what another found.
    pub const ALL: [Self; 8] = [
        Self::Capacity,
        Self::Throughput,
        Self::Mixed,
        Self::Matrix,
        Self::Latency,
        Self::JoinLeave,
        Self::BurdenedLatency,
        Self::BurdenedJoin,
    ];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Mixed => "mixed",
            Self::Matrix => "matrix",
            Self::Latency => "latency",
            Self::JoinLeave => "join-leave",
            Self::Capacity => "capacity",
            Self::BurdenedLatency => "burdened-latency",
            Self::BurdenedJoin => "burdened-join",
        }
    }

    /// Its title in RFC 3918.
    pub fn title(self) -> &'static str {
        match self {
            Self::Throughput => "aggregated multicast throughput",
            Self::Mixed => "mixed class throughput",
            Self::Matrix => "scaled group forwarding matrix",
            Self::Latency => "multicast latency, min/max multicast latency",
            Self::JoinLeave => "group join delay, group leave delay",
            Self::Capacity => "multicast group capacity",
            Self::BurdenedLatency => "forwarding burdened multicast latency",
            Self::BurdenedJoin => "forwarding burdened group join delay",
        }
    }

    /// Its sections in RFC 3918.
    pub fn section(self) -> &'static str {
        match self {
            Self::Throughput => "4.3",
            Self::Mixed => "4.1",
            Self::Matrix => "4.2",
            Self::Latency => "5.1, 5.2",
            Self::JoinLeave => "6.1, 6.2",
            Self::Capacity => "7.1",
            Self::BurdenedLatency => "8.1",
            Self::BurdenedJoin => "8.2",
        }
    }
}

impl FromStr for Test {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|test| test.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|test| test.name()).collect();
            Error::usage(format!("test {text}: there is none of that name"))
                .fix(format!("one of {}", names.join(", ")))
        })
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Test {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What a trial may show and still be valid: all of it together, at every port and in every group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Loss, in percent of what was sent to one group, or by unicast, towards one port.
    pub loss_percent: f64,
    /// Frames that nobody should have got: of the groups at the port that did not join, and copies at members.
    pub leaked: u64,
    /// The highest latency of any frame at any port.
    pub latency: Option<Duration>,
    /// How far the sender may stay below the load that it was to offer, in percent, before a trial proves nothing.
    pub offered_percent: f64,
    /// The longest delay of a join.
    pub join: Option<Duration>,
    /// The longest delay of a leave.
    pub leave: Option<Duration>,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { loss_percent: 0.0, leaked: 0, latency: None, offered_percent: 2.0, join: None, leave: None }
    }
}

/// What to test, and how.
#[derive(Debug, Clone)]
pub struct Params {
    /// The tests.
    pub tests: Vec<Test>,
    /// Frame sizes with FCS (RFC 2544 §9.1).
    pub frame_sizes: Vec<u32>,
    /// Numbers of groups.
    pub groups: Vec<u32>,
    /// Lowest load of a search: a device that does not bear it fails.
    pub min_rate: Rate,
    /// Highest load of a search.
    pub max_rate: Rate,
    /// Load of a search's first trial; `None`: the highest.
    pub initial_rate: Option<Rate>,
    /// Load of tests with a fixed one; latency takes the throughput where it was found, unless it is named.
    pub rate: Option<Rate>,
    /// A search's resolution in percent of its highest load.
    pub resolution_percent: f64,
    /// [`Limits::backoff`].
    pub backoff: f64,
    /// Final trials in a row that have to be valid.
    pub confirmations: u32,
    /// Duration of a search's trials.
    pub trial: Duration,
    /// Duration of final trials, and of those of tests without a search (RFC 2544 §24: at least 60 s).
    pub final_trial: Duration,
    /// What is tolerated.
    pub tolerance: Tolerance,
    /// Unicast frames in percent of all, where there are both.
    pub unicast_percent: f64,
    /// Groups that are added from one iteration to the next, in the matrix (RFC 3918 §4.2: 10) and for the capacity.
    pub step: u32,
    /// Groups of the capacity's first iteration.
    pub first_groups: u32,
    /// Where the capacity's iterations end.
    pub most_groups: u32,
    /// How long a first or a last frame is waited for after a join or leave.
    pub patience: Duration,
    /// Whether addresses are IPv6.
    pub ipv6: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            tests: Test::ALL.to_vec(),
            frame_sizes: vec![64, 128, 256, 512, 1024, 1280, 1518],
            groups: vec![10],
            min_rate: Rate::Pps(1_000.0),
            max_rate: Rate::Pps(1_000_000.0),
            initial_rate: None,
            rate: None,
            resolution_percent: 1.0,
            backoff: 0.5,
            confirmations: 1,
            trial: Duration::from_secs(10),
            final_trial: Duration::from_secs(60),
            tolerance: Tolerance::default(),
            unicast_percent: 50.0,
            step: 10,
            first_groups: 10,
            most_groups: 1000,
            patience: Duration::from_secs(10),
            ipv6: false,
        }
    }
}

/// The load of tests that have a fixed one, where nobody named it.
const FIXED: Rate = Rate::Pps(1_000.0);

impl Params {
    /// Whether all of it can be run.
    ///
    /// # Errors
    /// `Usage`, with what is wrong.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str, fix: &str| Err(Error::usage(what).fix(fix));
        if self.tests.is_empty() || self.frame_sizes.is_empty() || self.groups.is_empty() {
            return wrong(
                "nothing to test",
                "name at least one test, one frame size and one number of groups",
            );
        }
        if self.groups.contains(&0) || self.step == 0 || self.first_groups == 0 || self.most_groups == 0 {
            return wrong("no groups to test with", "at least 1");
        }
        if self.trial.is_zero() || self.final_trial.is_zero() || self.patience.is_zero() {
            return wrong("a trial of no time shows nothing", "name a time above 0, as 10s");
        }
        if !(0.0..=100.0).contains(&self.tolerance.loss_percent) {
            return wrong("a loss tolerance is from 0 to 100 percent", "0 is what RFC 3918 asks for");
        }
        if !(self.unicast_percent > 0.0 && self.unicast_percent < 100.0) {
            return wrong("a share of unicast is between 0 and 100 percent, without both", "as 50%");
        }
        for &frame in &self.frame_sizes {
            self.limits(frame)?.check()?;
            self.fixed_load(frame)?;
        }
        Ok(())
    }

    /// What a search of frames of `frame_bytes` goes through.
    ///
    /// # Errors
    /// `Usage` when a rate cannot be told in frames a second.
    pub fn limits(&self, frame_bytes: u32) -> Result<Limits> {
        let lower = self.pps(self.min_rate, frame_bytes)?;
        let upper = self.pps(self.max_rate, frame_bytes)?;
        let initial = self.initial_rate.map_or(Ok(upper), |rate| self.pps(rate, frame_bytes))?;
        Ok(Limits {
            initial,
            backoff: self.backoff,
            confirmations: self.confirmations,
            ..Limits::new(lower, upper, upper * self.resolution_percent / 100.0)
        })
    }

    /// The fixed load in frames a second.
    ///
    /// # Errors
    /// As [`limits`](Self::limits).
    pub fn fixed_load(&self, frame_bytes: u32) -> Result<f64> {
        self.pps(self.rate.unwrap_or(FIXED), frame_bytes)
    }

    fn pps(&self, rate: Rate, frame_bytes: u32) -> Result<f64> {
        let framing = Framing { ipv6: self.ipv6, ..Framing::default() };
        let sizes = Sizes::from_frames(&SizeList::Cycle(vec![frame_bytes]), framing)?;
        rate.pps(&sizes, None)?.ok_or_else(|| {
            Error::usage("rate max: a load that is searched or kept has to be a number")
                .fix("name it, as 14.88Mpps or 10GL1")
        })
    }

    /// The order of multicast and unicast frames that are of one stream.
    pub(crate) fn mix(&self, groups: u32, ports: usize) -> Mix {
        mix(groups, ports, self.unicast_percent)
    }

    /// The load of unicast frames beside a multicast load, so that they are the share of all that was asked for.
    pub fn unicast_beside(&self, multicast_pps: f64) -> f64 {
        multicast_pps * self.unicast_percent / (100.0 - self.unicast_percent)
    }

    /// The matrix's numbers of groups: those named when there are several, else by steps up to the one.
    pub fn matrix_groups(&self) -> Vec<u32> {
        if self.groups.len() > 1 {
            return self.groups.clone();
        }
        let last = self.groups[0];
        let mut steps: Vec<u32> = (1..).map(|n| n * self.step).take_while(|n| *n < last).collect();
        steps.push(last);
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_tests() {
        for test in Test::ALL {
            assert_eq!(test.name().parse::<Test>().unwrap(), test);
        }
        assert!("encapsulation".parse::<Test>().is_err());
    }

    #[test]
    fn defaults_can_be_run() {
        Params::default().check().unwrap();
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        let good = Params::default;
        for bad in [
            Params { groups: vec![0], ..good() },
            Params { frame_sizes: vec![], ..good() },
            Params { frame_sizes: vec![20], ..good() },
            Params { min_rate: Rate::Pps(2e6), ..good() },
            Params { max_rate: Rate::Max, ..good() },
            Params { max_rate: Rate::Percent(50.0), ..good() },
            Params { unicast_percent: 100.0, ..good() },
            Params { trial: Duration::ZERO, ..good() },
        ] {
            assert_eq!(bad.check().unwrap_err().kind, crate::Kind::Usage, "{bad:?}");
        }
    }

    #[test]
    fn the_matrix_goes_by_steps_or_as_named() {
        let matrix = |groups: &[u32]| Params { groups: groups.to_vec(), ..Params::default() }.matrix_groups();
        assert_eq!(matrix(&[10]), [10]);
        assert_eq!(matrix(&[35]), [10, 20, 30, 35]);
        assert_eq!(matrix(&[1, 100]), [1, 100]);
    }
}
