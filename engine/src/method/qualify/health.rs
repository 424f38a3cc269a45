//! The ports' health around trials: what moved in each, and what all of it says of the whole run.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::link::{HealthSeen, Trial};
use super::report::PortHealth;
use crate::host::health::{Finding, Limits, Severity, Snapshot, compare, inspect, worst};
use crate::report::{Check, Outcome, Warning};

/// What a link that is set down on purpose moves.
const OF_AN_OUTAGE: [&str; 5] = ["link-flap", "carrier", "tx-dropped", "rx-dropped", "qdisc"];

/// What is known of both ports.
#[derive(Debug)]
pub(super) struct Health<'a> {
    limits: &'a Limits,
    ports: Vec<Port>,
}

#[derive(Debug)]
struct Port {
    name: String,
    /// At the beginning; from the first trial on, before that: programs that were attached may have moved something.
    first: Snapshot,
    last: Option<Snapshot>,
    /// Codes of what moved in trials, and was not meant to.
    moved: BTreeSet<String>,
}

impl<'a> Health<'a> {
    pub fn begin(ports: Vec<(String, Snapshot)>, limits: &'a Limits) -> Self {
        let port = |(name, first)| Port { name, first, last: None, moved: BTreeSet::new() };
        Self { limits, ports: ports.into_iter().map(port).collect() }
    }

    /// Takes in what a trial moved: what of it counts.
    pub fn look(&mut self, trial: &Trial, seen: &[HealthSeen]) -> Vec<Finding> {
        let mut found = Vec::new();
        for (port, seen) in self.ports.iter_mut().zip(seen) {
            if port.last.is_none() {
                port.first = seen.before.clone();
            }
            port.last = Some(seen.after.clone());
            let meant =
                |finding: &Finding| trial.outage.is_some() && OF_AN_OUTAGE.contains(&finding.code.as_str());
            let moved = compare(&seen.before, &seen.after, self.limits)
                .into_iter()
                .filter(|finding| !finding.counters.is_empty() || finding.code == "replaced")
                .filter(|finding| !meant(finding));
            for finding in moved {
                port.moved.insert(finding.code.clone());
                found.push(finding);
            }
        }
        found
    }

    /// What the whole run says.
    pub fn report(self) -> Vec<PortHealth> {
        let limits = self.limits;
        self.ports
            .into_iter()
            .map(|port| {
                let findings = match &port.last {
                    None => inspect(&port.first, limits),
                    Some(last) => compare(&port.first, last, limits)
                        .into_iter()
                        .filter(|finding| finding.counters.is_empty() || port.moved.contains(&finding.code))
                        .collect(),
                };
                PortHealth { port: port.name, state: port.first, findings }
            })
            .collect()
    }
}

/// The verdict's part.
pub(super) fn check(ports: &[PortHealth]) -> Option<Check> {
    let all: Vec<&Finding> = ports.iter().flat_map(|port| &port.findings).collect();
    let failed: Vec<&&Finding> = all.iter().filter(|finding| finding.severity == Severity::Fail).collect();
    if ports.is_empty() {
        return None;
    }
    let got = match failed.first() {
        None => "nothing moved that should not, and the links are as they should be".to_owned(),
        Some(finding) => {
            let next = finding.next.first().map_or(String::new(), |next| format!("; next: {next}"));
            let more = failed.len() - 1;
            let more = if more == 0 { String::new() } else { format!("; and {more} more") };
            format!("{}{next}{more}", finding.text)
        }
    };
    let outcome = if failed.is_empty() { Outcome::Pass } else { Outcome::Fail };
    let want = "no counter of damaged or lost frames moves, and the links are as expected".to_owned();
    Some(Check { name: "health", want, got, outcome })
}

/// What is no failure and should be known.
pub(super) fn warnings(ports: &[PortHealth]) -> Vec<Warning> {
    let warn = |finding: &&Finding| worst(std::slice::from_ref(*finding)) == Some(Severity::Warn);
    ports
        .iter()
        .flat_map(|port| &port.findings)
        .filter(warn)
        .map(|finding| Warning {
            code: "health",
            text: finding.text.clone(),
            fix: finding.next.first().cloned(),
        })
        .collect()
}
