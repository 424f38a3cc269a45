//! What a contestant is, what it is asked, and what one trial of it showed.

use std::time::Duration;

use serde::Serialize;
use wirerate_engine::error::{Error, Result};

use crate::lab::{Counters, Lab, Napi};
use crate::process::interrupted;

/// The share of packets that a lossless rate may lose: 0.1 %.
pub const LOSSLESS: f64 = 0.001;

/// From where to where packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Class {
    /// Made by a program, handed to a program.
    #[serde(rename = "user→user")]
    UserToUser,
    /// Made by a program, checked by a program in the kernel.
    #[serde(rename = "user→kernel")]
    UserToKernel,
    /// Made in the kernel, checked in the kernel.
    #[serde(rename = "kernel→kernel")]
    KernelToKernel,
    /// Made in the kernel, handed to a program.
    #[serde(rename = "kernel→user")]
    KernelToUser,
    /// Made by a program, dropped unseen by XDP.
    #[serde(rename = "user→drop")]
    UserToDrop,
    /// Made in the kernel, dropped unseen by XDP.
    #[serde(rename = "kernel→drop")]
    KernelToDrop,
}

impl Class {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::UserToUser => "user→user",
            Self::UserToKernel => "user→kernel",
            Self::KernelToKernel => "kernel→kernel",
            Self::KernelToUser => "kernel→user",
            Self::UserToDrop => "user→drop",
            Self::KernelToDrop => "kernel→drop",
        }
    }

    /// Whether `vb` has the program that drops everything.
    pub fn drops(self) -> bool {
        matches!(self, Self::UserToDrop | Self::KernelToDrop)
    }
}

/// Offered load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// As fast as it can.
    Max,
    /// Packets a second.
    Pps(u64),
}

/// What one trial showed.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Trial {
    /// Packets that arrived, told by the receiver.
    pub received: u64,
    /// Packets handed over by the sender, where it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Time in which they arrived.
    pub seconds: f64,
    /// What the kernel counted of the same: datagrams read by sockets, or frames dropped by XDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witness: Option<u64>,
    /// Packets in an skb at `vb`, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments_per_skb: Option<f64>,
    /// Whether the receiver had the payload copied to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_touched: Option<bool>,
}

impl Trial {
    /// Received a second.
    pub fn pps(&self) -> f64 {
        if self.seconds > 0.0 { self.received as f64 / self.seconds } else { 0.0 }
    }

    /// Sent a second.
    pub fn sent_pps(&self) -> f64 {
        if self.seconds > 0.0 { self.sent.unwrap_or(self.received) as f64 / self.seconds } else { 0.0 }
    }

    /// The share that did not arrive, where the sender tells what it sent.
    pub fn loss(&self) -> Option<f64> {
        let sent = self.sent.filter(|&sent| sent > 0)?;
        Some(sent.saturating_sub(self.received) as f64 / sent as f64)
    }

    /// Whether something arrived and less than [`LOSSLESS`] was lost.
    pub fn is_lossless(&self) -> bool {
        self.received > 0 && self.loss().is_some_and(|loss| loss < LOSSLESS)
    }

    /// Adds what the kernel's counters tell.
    #[must_use]
    pub fn with(mut self, counted: Counters) -> Self {
        if counted.skbs > 0 && self.received > 0 {
            let arrived = self.received.max(self.sent.unwrap_or(0).saturating_sub(counted.lost));
            self.segments_per_skb = Some((arrived as f64 / counted.skbs as f64).max(1.0));
        }
        self
    }
}

/// A pair of programs that is measured.
pub trait Contestant {
    /// Its name in tables: "uring", "iperf3 3.22 --gsro".
    fn name(&self) -> &str;
    /// UDP payload of its packets in bytes.
    fn length(&self) -> u16;
    /// From where to where.
    fn class(&self) -> Class;
    /// Whether it is ours and no yardstick: only then does the lossless figure count, and not the one at full blast.
    fn ours(&self) -> bool {
        false
    }
    /// Whether it can be told a rate.
    fn paces(&self) -> bool;
    /// Measures for `time`; the lab has been prepared.
    ///
    /// # Errors
    /// What the program said when it did not run.
    fn run(&self, lab: &Lab, load: Load, napi: Napi, time: Duration) -> Result<Trial>;
    /// What is typed, for the JSON.
    fn command(&self) -> String;
}

/// The lab is prepared and `contestant` measured once.
pub fn trial(
    contestant: &dyn Contestant,
    lab: &Lab,
    load: Load,
    napi: Napi,
    time: Duration,
) -> Result<Trial> {
    if interrupted() {
        return Err(Error::failed("interrupted"));
    }
    lab.prepare(napi, contestant.class().drops())?;
    contestant.run(lab, load, napi, time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_needs_a_sender_that_tells() {
        let trial = Trial { received: 999, sent: Some(1000), seconds: 0.5, ..Trial::default() };
        assert_eq!(trial.loss(), Some(0.001));
        assert!(!trial.is_lossless(), "0.1 % is not under 0.1 %");
        assert!((trial.pps() - 1998.0).abs() < 1e-9);
        assert!(Trial { sent: Some(999), ..trial }.is_lossless());
        assert!(!Trial { sent: None, ..trial }.is_lossless());
        assert!(!Trial { received: 0, sent: Some(0), ..trial }.is_lossless());
        assert_eq!(Trial { received: 1001, ..trial }.loss(), Some(0.0));
    }
}
