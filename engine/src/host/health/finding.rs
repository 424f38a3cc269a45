//! What a comparison found, and what to look at next.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// What a finding does to a verdict, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// The result may be another's: look before you believe it.
    Warn,
    /// The verdict is "fail".
    Fail,
}

/// What may be at fault, in the order in which it is looked at: what is cheapest to replace first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Cable, connector, transceiver.
    Cable,
    /// The port at the other end: of a switch, or of another card.
    Port,
    /// The card, its slot, driver and firmware.
    Card,
    /// Descriptor rings and queues.
    Rings,
    /// CPUs that empty the rings.
    Cpu,
}

impl Part {
    /// As people say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cable => "cable",
            Self::Port => "port",
            Self::Card => "card",
            Self::Rings => "rings",
            Self::Cpu => "CPU",
        }
    }
}

/// A counter that moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Who counts: `ethtool`, `rtnl`, `qdisc`, `softnet`.
    pub source: String,
    /// Its name, as the source has it.
    pub name: String,
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
    /// The difference.
    pub by: u64,
}

/// Something that a comparison found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What it does to a verdict.
    pub severity: Severity,
    /// A word that stays the same from release to release: `crc`, `no-descriptor`, `link-flap`, `half-duplex`, ….
    pub code: String,
    /// What was found, in one clause, with the interface's name.
    pub text: String,
    /// The counters that say so; none where it is no counter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<Moved>,
    /// What may be at fault, in the order in which to look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspects: Vec<Part>,
    /// What to do next, the first first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<String>,
}

impl Finding {
    /// A finding without counters and advice.
    pub fn new(severity: Severity, code: &str, text: impl Into<String>) -> Self {
        Self {
            severity,
            code: code.to_owned(),
            text: text.into(),
            counters: Vec::new(),
            suspects: Vec::new(),
            next: Vec::new(),
        }
    }

    /// Adds what may be at fault and what to do about each.
    #[must_use]
    pub fn suspect(mut self, advice: &[(Part, String)]) -> Self {
        for (part, what) in advice {
            self.suspects.push(*part);
            self.next.push(what.clone());
        }
        self
    }

    /// How many packets it is about: the largest of its counters, as several may count the same packets.
    pub fn packets(&self) -> u64 {
        self.counters.iter().map(|moved| moved.by).max().unwrap_or(0)
    }
}

/// The severest of these; none where there is nothing.
pub fn worst(findings: &[Finding]) -> Option<Severity> {
    findings.iter().map(|finding| finding.severity).max()
}
