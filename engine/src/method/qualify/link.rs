//! What a qualification asks of its two ports: run one trial. Who reaches the ports, and how, is the link's affair.
#![forbid(unsafe_code)]

#[cfg(test)]
pub mod memory;

use std::time::Duration;

use serde::Serialize;

use super::super::bed::Offered;
use super::params::Size;
use crate::control::Stop;
use crate::error::Result;
use crate::host::health::Snapshot;
use crate::report::{Distribution, Warning};

/// Which way frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the first port to the second.
    Forward,
    /// From the second port to the first.
    Reverse,
    /// Both at once.
    Both,
}

impl Direction {
    /// The ways in it: whether frames go back.
    pub fn ways(self) -> &'static [bool] {
        match self {
            Self::Forward => &[false],
            Self::Reverse => &[true],
            Self::Both => &[false, true],
        }
    }
}

/// The two ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// The first port: it sends forward.
    pub tx: String,
    /// The second port: it receives forward; or the reflector.
    pub rx: String,
    /// Speed of the link, the lower of both ends; absent where neither tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_bps: Option<u64>,
    /// The most datagrams in one buffer: `off`, `auto` or a number.
    pub segments: String,
}

/// One trial: the senders send for a time, or a burst.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Frame sizes, in turn.
    pub size: Size,
    /// Which way.
    pub direction: Direction,
    /// Frames a second in each direction.
    pub pps: f64,
    /// Frames of a burst in each direction; `None`: for `duration`.
    pub burst: Option<u64>,
    /// How long is sent.
    pub duration: Duration,
    /// Time between the entries of a time line, where one is wanted.
    pub time_line: Option<Duration>,
    /// What interrupts the link meanwhile.
    pub outage: Option<Outage>,
}

/// How a link is interrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outage {
    /// This program sets an interface of this host down for this long, a second after frames began to flow.
    Made {
        /// The interface, in this network namespace.
        interface: String,
        /// How long it stays down.
        down: Duration,
    },
    /// Somebody else does, some time within the trial.
    Awaited,
}

impl Trial {
    /// Frames in each direction, at least one.
    pub fn frames(&self) -> u64 {
        self.burst.unwrap_or_else(|| ((self.pps * self.duration.as_secs_f64()).round() as u64).max(1))
    }
}

/// What one trial came to.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The receiving ports, in the order of [`Direction::ways`].
    pub ports: Vec<PortSeen>,
    /// Whether the trial was cut short.
    pub interrupted: bool,
    /// What the ports warned of.
    pub warnings: Vec<Warning>,
    /// What both ports were like before and after.
    pub health: Vec<HealthSeen>,
}

/// What one port was like before and after a trial.
#[derive(Debug, Clone)]
pub struct HealthSeen {
    /// The port.
    pub port: String,
    /// Before.
    pub before: Snapshot,
    /// After.
    pub after: Snapshot,
}

/// What one port received.
#[derive(Debug, Clone, Default)]
pub struct PortSeen {
    /// What its sender offered.
    pub offered: Offered,
    /// Different frames.
    pub received: u64,
    /// Copies.
    pub duplicate: u64,
    /// Frames that came after a later one.
    pub reordered: u64,
    /// Of the frames that are missing, those that were lost in the port's own host.
    pub lost_in_host: u64,
    /// Whether frames were seen to arrive before the trial began.
    pub learned: bool,
    /// One-way delay, where clocks allow to tell it.
    pub latency_ns: Option<Distribution>,
    /// Highest jitter.
    pub jitter_ns: Option<u64>,
    /// Frames of the longest run that is missing.
    pub longest_loss: u64,
    /// The longest outage between two frames that came, by the stamps in them.
    pub outage_by_stamps_ns: Option<u64>,
    /// The same by their arrivals.
    pub outage_by_arrivals_ns: Option<u64>,
    /// The time line, where one was asked for.
    pub time_line: Vec<Moment>,
}

/// An entry of a time line.
#[derive(Debug, Clone)]
pub struct Moment {
    /// From the start.
    pub start_ns: u64,
    /// From the start.
    pub end_ns: u64,
    /// Frames received.
    pub received: u64,
    /// Frames missed, less those that came late.
    pub lost: i64,
    /// Frames received a second.
    pub pps: u64,
    /// Latency.
    pub latency_ns: Option<Distribution>,
}

/// Two ports, and whoever reaches them.
pub trait Link {
    /// The ports.
    fn layout(&self) -> Layout;

    /// Time that a trial takes besides its duration.
    fn overhead(&self) -> Duration;

    /// What both ports were like at the beginning, with their names.
    fn health(&self) -> Vec<(String, Snapshot)>;

    /// Runs one trial.
    ///
    /// # Errors
    /// When a port cannot be reached any more, or refuses what it is asked to do; what the trial had seen is lost.
    fn trial(&mut self, trial: &Trial, stop: &Stop) -> Result<Seen>;
}
