//! What a qualification is run with, and the defaults of RFC 2544.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::super::search::Limits;
use super::link::Direction;
use crate::error::{Error, Result};
use crate::profile::rate::Rate;
use crate::profile::size::{Framing, L1_OVERHEAD, SizeList, Sizes};

/// A test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Test {
    /// Throughput.
    Throughput,
    /// Latency at the throughput.
    Latency,
    /// Frame loss rate by load.
    FrameLoss,
    /// Back-to-back frames.
    BackToBack,
    /// Reset.
    Reset,
    /// Service activation.
    Y1564,
    /// A long run.
    Soak,
    /// Round trips to a reflector.
    RoundTrip,
}

impl Test {
    /// All of them, in the order in which one needs what another found.
    pub const ALL: [Self; 8] = [
        Self::Throughput,
        Self::Latency,
        Self::FrameLoss,
        Self::BackToBack,
        Self::Reset,
        Self::Y1564,
        Self::Soak,
        Self::RoundTrip,
    ];

    /// Those that are run when none is named.
    pub const DEFAULT: [Self; 4] = [Self::Throughput, Self::Latency, Self::FrameLoss, Self::BackToBack];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::FrameLoss => "frame-loss",
            Self::BackToBack => "back-to-back",
            Self::Reset => "reset",
            Self::Y1564 => "y1564",
            Self::Soak => "soak",
            Self::RoundTrip => "round-trip",
        }
    }

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency at the throughput",
            Self::FrameLoss => "frame loss rate",
            Self::BackToBack => "back-to-back frames",
            Self::Reset => "reset recovery",
            Self::Y1564 => "service activation",
            Self::Soak => "soak",
            Self::RoundTrip => "round trip to a reflector",
        }
    }

    /// Where it is described.
    pub fn section(self) -> &'static str {
        match self {
            Self::Throughput => "RFC 2544 §26.1",
            Self::Latency => "RFC 2544 §26.2",
            Self::FrameLoss => "RFC 2544 §26.3",
            Self::BackToBack => "RFC 2544 §26.4, RFC 9004",
            Self::Reset => "RFC 2544 §26.6, RFC 6201",
            Self::Y1564 => "ITU-T Y.1564",
            Self::Soak => "docs/qualify.md",
            Self::RoundTrip => "RFC 8762",
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

/// Frame sizes that are tested together: one, or a mix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// As it was asked for.
    pub name: String,
    /// Sizes with FCS, in turn.
    pub list: SizeList,
}

impl Size {
    /// Frames of one size.
    pub fn one(bytes: u32) -> Self {
        Self { name: bytes.to_string(), list: SizeList::Cycle(vec![bytes]) }
    }

    /// A mix.
    ///
    /// # Errors
    /// `Usage` when it is none.
    pub fn mix(text: &str) -> Result<Self> {
        Ok(Self { name: text.to_owned(), list: crate::profile::imix::parse(text)? })
    }

    /// Sizes of the datagrams.
    ///
    /// # Errors
    /// `Usage` when one is too small for its headers, or too large.
    pub fn sizes(&self, ipv6: bool) -> Result<Sizes> {
        Sizes::from_frames(&self.list, Framing { ipv6, ..Framing::default() })
    }

    /// Mean size with FCS.
    pub fn mean_bytes(&self) -> f64 {
        self.sizes(false).map_or(0.0, |sizes| sizes.mean_frame_bytes())
    }

    /// Largest size with FCS.
    pub fn largest(&self) -> u32 {
        match &self.list {
            SizeList::Cycle(sizes) => sizes.iter().copied().max().unwrap_or(0),
            SizeList::Imix => 1518,
        }
    }

    /// Bits of frames of so many a second.
    pub fn l2_bps(&self, pps: f64) -> u64 {
        (pps * self.mean_bytes() * 8.0).round() as u64
    }

    /// Bits on the line of so many a second.
    pub fn l1_bps(&self, pps: f64) -> u64 {
        (pps * (self.mean_bytes() + f64::from(L1_OVERHEAD)) * 8.0).round() as u64
    }
}

/// What a trial may show and still be valid: all of it together, at every receiving port.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Loss in percent of what was sent.
    pub loss_percent: f64,
    /// Copies.
    pub duplicates: u64,
    /// Frames out of order; `None`: any.
    pub reordered: Option<u64>,
    /// The highest latency of any frame.
    pub latency: Option<Duration>,
    /// The highest jitter.
    pub jitter: Option<Duration>,
    /// How far the sender may stay below the load that it was to offer, in percent, before a trial proves nothing.
    pub offered_percent: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            loss_percent: 0.0,
            duplicates: 0,
            reordered: Some(0),
            latency: None,
            jitter: None,
            offered_percent: 2.0,
        }
    }
}

/// What is expected of the results; each makes a check of the verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Expectations {
    /// Throughput of each size in each direction, at least.
    pub throughput: Option<Rate>,
    /// Mean latency at most.
    pub latency: Option<Duration>,
    /// Loss at the highest load of a loss curve at most, in percent.
    pub loss_percent: Option<f64>,
    /// Mean of the bursts at least, in frames.
    pub burst_frames: Option<u64>,
    /// Duration of a reset at most.
    pub reset: Option<Duration>,
    /// Mean round trip at most.
    pub round_trip: Option<Duration>,
}

/// A service by ITU-T Y.1564.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Service {
    /// Committed information rate, bits of frames with FCS a second.
    pub cir_bps: f64,
    /// Excess information rate.
    pub eir_bps: f64,
    /// Steps up to the CIR.
    pub steps: u32,
    /// How long each step lasts.
    pub step: Duration,
    /// How long the performance test lasts.
    pub performance: Duration,
    /// By how much what passes the policer may be above CIR + EIR, in percent.
    pub policing_margin_percent: f64,
    /// Whether it is tested that more than CIR + EIR does not pass.
    pub policing: bool,
}

/// What to test, and how.
#[derive(Debug, Clone)]
pub struct Params {
    /// The tests.
    pub tests: Vec<Test>,
    /// Frame sizes (RFC 2544 §9.1), each tested by itself.
    pub sizes: Vec<Size>,
    /// Directions, one after the other.
    pub directions: Vec<Direction>,
    /// Lowest load of a search: a link that does not bear it fails.
    pub min_rate: Rate,
    /// Highest load of a search, and of a loss curve.
    pub max_rate: Rate,
    /// Load of a search's first trial; `None`: the highest.
    pub initial_rate: Option<Rate>,
    /// Load of tests with a fixed one; latency and soak take the throughput where it was found and none is named.
    pub rate: Option<Rate>,
    /// A search's resolution in percent of its highest load.
    pub resolution_percent: f64,
    /// [`Limits::backoff`].
    pub backoff: f64,
    /// Final trials in a row that have to be valid.
    pub confirmations: u32,
    /// How often an invalid trial is run again before it counts.
    pub retries: u32,
    /// Duration of a search's trials.
    pub trial: Duration,
    /// Duration of final trials, and of those of tests without a search (RFC 2544 §24: at least 60 s).
    pub final_trial: Duration,
    /// What is tolerated.
    pub tolerance: Tolerance,
    /// Steps of a loss curve, in percent of the highest load, at most 10 (RFC 2544 §26.3).
    pub loss_step_percent: f64,
    /// Repetitions of back-to-back (RFC 2544 §26.4: at least 50).
    pub bursts: u32,
    /// Longest burst in time (RFC 2544 §26.4: 2 s).
    pub longest_burst: Duration,
    /// Resolution of bursts in frames.
    pub burst_resolution: u64,
    /// An interface of this host that the reset test sets down.
    pub reset_link: Option<String>,
    /// How long that is kept down.
    pub reset_down: Duration,
    /// How long a reset by others is waited for, or how long frames flow around one of our own.
    pub reset_wait: Duration,
    /// The service.
    pub service: Option<Service>,
    /// Duration of a soak.
    pub soak: Duration,
    /// Time between entries of its time line.
    pub soak_interval: Duration,
    /// What is expected of the ports, and how far their counters may move.
    pub health: crate::host::health::Limits,
    /// Expectations.
    pub expect: Expectations,
    /// Whether addresses are IPv6.
    pub ipv6: bool,
    /// Speed of the link, where it is known: percentages are of it.
    pub speed_bps: Option<u64>,
}

/// Frame sizes of RFC 2544 §9.1.
pub const RFC_SIZES: [u32; 7] = [64, 128, 256, 512, 1024, 1280, 1518];

impl Default for Params {
    fn default() -> Self {
        Self {
            tests: Test::DEFAULT.to_vec(),
            sizes: RFC_SIZES.into_iter().map(Size::one).collect(),
            directions: vec![Direction::Forward],
            min_rate: Rate::Percent(1.0),
            max_rate: Rate::Percent(100.0),
            initial_rate: None,
            rate: None,
            resolution_percent: 0.5,
            backoff: 0.5,
            confirmations: 1,
            retries: 0,
            trial: Duration::from_secs(10),
            final_trial: Duration::from_secs(60),
            tolerance: Tolerance::default(),
            loss_step_percent: 10.0,
            bursts: 50,
            longest_burst: Duration::from_secs(2),
            burst_resolution: 1,
            reset_link: None,
            reset_down: Duration::from_secs(1),
            reset_wait: Duration::from_secs(60),
            service: None,
            soak: Duration::from_secs(600),
            soak_interval: Duration::from_secs(1),
            health: crate::host::health::Limits::default(),
            expect: Expectations::default(),
            ipv6: false,
            speed_bps: None,
        }
    }
}

impl Params {
    /// Whether all of it can be run.
    ///
    /// # Errors
    /// `Usage`, with what is wrong.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str, fix: &str| Err(Error::usage(what).fix(fix));
        if self.tests.is_empty() || self.sizes.is_empty() || self.directions.is_empty() {
            return wrong("nothing to test", "name at least one test, one frame size and one direction");
        }
        if self.trial.is_zero() || self.final_trial.is_zero() || self.soak.is_zero() {
            return wrong("a trial of no time shows nothing", "name a time above 0, as 10s");
        }
        if !(0.0..=100.0).contains(&self.tolerance.loss_percent) {
            return wrong("a loss tolerance is from 0 to 100 percent", "0 is what RFC 2544 asks for");
        }
        if !(self.loss_step_percent > 0.0 && self.loss_step_percent <= 10.0) {
            return wrong(
                "steps of a loss curve are above 0 and at most 10 percent",
                "RFC 2544 §26.3 asks for 10% or finer",
            );
        }
        if self.bursts == 0 || self.longest_burst.is_zero() || self.burst_resolution == 0 {
            return wrong("a burst of nothing shows nothing", "at least one repetition, one frame, 1ms");
        }
        if self.tests.contains(&Test::Y1564) {
            let Some(service) = self.service else {
                return wrong("y1564 tests what a service promises", "name it: --cir 50M, and --eir 20M");
            };
            if service.cir_bps <= 0.0 || service.eir_bps < 0.0 || service.steps == 0 {
                return wrong(
                    "a service has a CIR above 0 and an EIR of 0 or more, and takes a step at least",
                    "as --cir 50M --eir 20M",
                );
            }
        }
        self.health.check()?;
        for size in &self.sizes {
            self.limits(size)?.check()?;
            self.fixed_load(size)?;
            self.expect.throughput.map(|rate| self.pps(rate, size)).transpose()?;
        }
        Ok(())
    }

    /// What a search of frames of `size` goes through.
    ///
    /// # Errors
    /// `Usage` when a rate cannot be told in frames a second.
    pub fn limits(&self, size: &Size) -> Result<Limits> {
        let lower = self.pps(self.min_rate, size)?;
        let upper = self.highest(size)?;
        let initial = self.initial_rate.map_or(Ok(upper), |rate| self.pps(rate, size))?;
        Ok(Limits {
            initial,
            backoff: self.backoff,
            confirmations: self.confirmations,
            ..Limits::new(lower, upper, upper * self.resolution_percent / 100.0)
        })
    }

    /// The highest load in frames a second.
    ///
    /// # Errors
    /// As [`limits`](Self::limits).
    pub fn highest(&self, size: &Size) -> Result<f64> {
        self.pps(self.max_rate, size)
    }

    /// The load that was named for tests with a fixed one.
    ///
    /// # Errors
    /// As [`limits`](Self::limits).
    pub fn fixed_load(&self, size: &Size) -> Result<Option<f64>> {
        self.rate.map(|rate| self.pps(rate, size)).transpose()
    }

    /// Frames a second of the line rate, where the link's speed is known.
    pub fn line_pps(&self, size: &Size) -> Option<f64> {
        let bits = (size.mean_bytes() + f64::from(L1_OVERHEAD)) * 8.0;
        self.speed_bps.map(|speed| speed as f64 / bits)
    }

    /// A rate in frames of `size` a second.
    ///
    /// # Errors
    /// `Usage` for `max`, and for a percentage of a link whose speed is not known.
    pub fn pps(&self, rate: Rate, size: &Size) -> Result<f64> {
        let sizes = size.sizes(self.ipv6)?;
        rate.pps(&sizes, self.speed_bps)
            .map_err(|error| match rate {
                Rate::Percent(_) => error.fix("name --max-rate and --min-rate, as 1GL1 and 10ML1"),
                _ => error,
            })?
            .ok_or_else(|| {
                Error::usage("rate max: a load that is searched or kept has to be a number")
                    .fix("name it, as 14.88Mpps or 10GL1")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Params {
        Params { speed_bps: Some(1_000_000_000), ..Params::default() }
    }

    #[test]
    fn names_lead_back_to_tests() {
        for test in Test::ALL {
            assert_eq!(test.name().parse::<Test>().unwrap(), test);
        }
        assert!("recovery".parse::<Test>().is_err());
    }

    #[test]
    fn defaults_can_be_run_where_the_speed_is_known() {
        known().check().unwrap();
        let limits = known().limits(&Size::one(64)).unwrap();
        assert!((limits.upper - 1_488_095.0).abs() < 1.0, "{limits:?}");
        let error = Params::default().check().unwrap_err();
        assert!(error.fix.unwrap().contains("--max-rate"));
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        for bad in [
            Params { sizes: vec![], ..known() },
            Params { sizes: vec![Size::one(20)], ..known() },
            Params { min_rate: Rate::Percent(100.0), max_rate: Rate::Percent(1.0), ..known() },
            Params { max_rate: Rate::Max, ..known() },
            Params { trial: Duration::ZERO, ..known() },
            Params { loss_step_percent: 20.0, ..known() },
            Params { bursts: 0, ..known() },
            Params { tests: vec![Test::Y1564], ..known() },
        ] {
            assert_eq!(bad.check().unwrap_err().kind, crate::Kind::Usage, "{bad:?}");
        }
    }

    #[test]
    fn rates_of_mixes() {
        let mix = Size::mix("imix").unwrap();
        assert!((mix.mean_bytes() - (7.0 * 64.0 + 4.0 * 594.0 + 1518.0) / 12.0).abs() < 1e-9);
        assert_eq!((mix.largest(), Size::one(64).l1_bps(1_488_095.0) / 1_000_000), (1518, 999));
    }
}
