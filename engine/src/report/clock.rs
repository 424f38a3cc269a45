//! The report's `clock`: what the hosts say of their clocks, and what follows for the difference of two readings.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use super::{Clock, ClockState, PeerClock, Warning};
use crate::clock::{Claim, Relation, relation};
use crate::measure::tally::SenderClock;

/// What is known of the clocks of one run.
#[derive(Debug, Clone, Default)]
pub struct Clocks {
    ours: Option<Claim>,
    steps: u64,
    /// How far the times of arrivals may be off this host's clock, in ns.
    arrivals_error_ns: u64,
    /// What senders said, by address and run.
    said: BTreeMap<(IpAddr, u32), Claim>,
}

/// The clocks of the senders that were heard, against ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compared {
    /// The worst relation of all.
    pub relation: Relation,
    /// The largest difference, as far as the hosts know.
    pub error_ns: Option<u64>,
    peers: Vec<PeerClock>,
}

impl Clocks {
    /// Looks at this host's clock; what is told in the end is the worst that was seen.
    pub fn look(&mut self) {
        self.note(Claim::read());
    }

    /// This host says this of its clock.
    pub fn note(&mut self, claim: Option<Claim>) {
        self.ours = match (self.ours, claim) {
            (Some(before), Some(now)) => Some(before.worse(now)),
            (before, now) => before.or(now),
        };
    }

    /// This host's clock was set in the course of the run.
    pub fn stepped(&mut self) {
        self.steps += 1;
    }

    /// Packets' arrivals were told by another clock, and may be off ours by so many ns.
    pub fn arrivals_off_by(&mut self, error_ns: u64) {
        self.arrivals_error_ns = self.arrivals_error_ns.max(error_ns);
    }

    /// Senders said this of theirs.
    pub fn hear(&mut self, senders: &[SenderClock]) {
        for sender in senders {
            let claim = self.said.entry((sender.source, sender.run)).or_insert(sender.claim);
            *claim = claim.worse(sender.claim);
        }
    }

    /// Compares ours with those of `senders`; `None` without any.
    pub(crate) fn compare(&self, senders: impl Iterator<Item = (IpAddr, u32)>) -> Option<Compared> {
        let mut senders: Vec<_> = senders.collect();
        senders.sort_unstable();
        senders.dedup();
        let peers: Vec<PeerClock> = senders
            .into_iter()
            .map(|(source, run)| {
                let claim = self.said.get(&(source, run)).copied();
                let (relation, error_ns) = relation(claim, self.ours);
                let error_ns = error_ns.map(|error_ns| error_ns.saturating_add(self.arrivals_error_ns));
                PeerClock { source, run, relation: relation.name(), error_ns, state: claim.map(state) }
            })
            .collect();
        let relations =
            peers.iter().map(|peer| relation(self.said.get(&(peer.source, peer.run)).copied(), self.ours).0);
        let relation = relations.max()?;
        let error_ns =
            peers.iter().map(|peer| peer.error_ns).try_fold(0, |most, error| Some(most.max(error?)));
        Some(Compared { relation, error_ns, peers })
    }

    /// The report's `clock`; `compared` where something was received.
    pub(crate) fn finish(&self, compared: Option<Compared>) -> Clock {
        let (relation, error_ns, senders) = match compared {
            Some(Compared { relation, error_ns, peers }) => (Some(relation.name()), error_ns, peers),
            None => (None, None, Vec::new()),
        };
        Clock {
            source: "CLOCK_TAI",
            clocksource: clocksource(),
            state: self.ours.map(state),
            steps: self.steps,
            relation,
            error_ns,
            senders,
        }
    }
}

impl Compared {
    /// Why there is no latency, and what to do about it.
    pub(crate) fn warning(&self) -> Option<Warning> {
        let (code, text, fix) = match self.relation {
            Relation::SameHost | Relation::Disciplined => return None,
            Relation::Undisciplined => (
                "clocks-apart",
                "latency is not told: the sender's clock and this host's are two, and not both are synchronised to one time (or \
                 their offsets of CLOCK_TAI to UTC differ); delay variation needs no common clock, and is",
                "on both hosts run ptp4l and phc2sys, or chronyd with `leapsectz right/UTC`, and wait until `adjtimex --print` or \
                 `chronyc tracking` says that the clock is synchronised",
            ),
            Relation::Unknown => (
                "clock-unknown",
                "latency is not told: nothing is known of the sender's clock, because no message about it arrived or a host \
                 does not say; delay variation needs no common clock, and is",
                "let the receiver run until the sender's end, and use one version of wirerate on both hosts",
            ),
        };
        Some(Warning { code, text: text.to_owned(), fix: Some(fix.to_owned()) })
    }
}

fn state(claim: Claim) -> ClockState {
    ClockState {
        synchronised: claim.synchronised,
        tai_offset_s: claim.tai_offset_s,
        estimated_error_ns: u64::from(claim.estimated_error_us) * 1000,
        max_error_ns: u64::from(claim.max_error_us) * 1000,
    }
}

/// What the kernel counts time by.
fn clocksource() -> Option<String> {
    let name = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource").ok()?;
    Some(name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Claim =
        Claim { host: 1, synchronised: true, tai_offset_s: 37, estimated_error_us: 2, max_error_us: 30 };

    fn said(last: u8, claim: Claim) -> SenderClock {
        SenderClock { source: [10, 0, 0, last].into(), run: 7, claim }
    }

    #[test]
    fn the_worst_of_all_senders_decides() {
        let mut clocks = Clocks::default();
        clocks.note(Some(OURS));
        let senders = |n: u8| (1..=n).map(|last| (IpAddr::from([10, 0, 0, last]), 7));
        clocks.hear(&[said(1, OURS), said(2, Claim { host: 2, ..OURS })]);
        assert_eq!(clocks.compare(senders(0)), None);
        let one = clocks.compare(senders(1).chain(senders(1))).unwrap();
        assert_eq!((one.relation, one.error_ns, one.peers.len()), (Relation::SameHost, Some(0), 1));
        assert_eq!(one.warning(), None);
        let two = clocks.compare(senders(2)).unwrap();
        assert_eq!((two.relation, two.error_ns), (Relation::Disciplined, Some(60_000)));
        let three = clocks.compare(senders(3)).unwrap();
        assert_eq!((three.relation, three.error_ns), (Relation::Unknown, None));
        assert_eq!(three.warning().unwrap().code, "clock-unknown");
        // The NIC's clock comes on top.
        let mut by_nic = clocks.clone();
        by_nic.arrivals_off_by(700);
        by_nic.arrivals_off_by(300);
        let errors = |n| by_nic.compare(senders(n)).unwrap().error_ns;
        assert_eq!((errors(1), errors(2), errors(3)), (Some(700), Some(60_700), None));
        // A clock that was not kept for a moment was not kept.
        clocks.note(Some(Claim { synchronised: false, ..OURS }));
        clocks.note(Some(OURS));
        let two = clocks.compare(senders(2)).unwrap();
        assert_eq!((two.relation, two.error_ns), (Relation::Undisciplined, None));
        assert_eq!(two.warning().unwrap().code, "clocks-apart");
        assert_eq!(clocks.compare(senders(1)).unwrap().relation, Relation::SameHost);
        clocks.stepped();
        let told = clocks.finish(Some(two));
        assert_eq!((told.relation, told.steps, told.senders.len()), (Some("undisciplined"), 1, 2));
        assert_eq!(told.senders[1].state.unwrap().max_error_ns, 30_000);
        assert!(!told.state.unwrap().synchronised);
    }

    #[test]
    fn this_host_is_told_of_without_a_sender() {
        let mut clocks = Clocks::default();
        clocks.look();
        let told = clocks.finish(None);
        assert!(told.state.is_some() && told.relation.is_none() && told.senders.is_empty());
    }
}
