//! Loss as a pattern: how long the runs of lost datagrams were and how far apart (RFC 3357), and how long nothing arrived meanwhile.
#![forbid(unsafe_code)]

use super::missing::{Jump, Run};
use super::spread::Spread;

/// The loss periods of a stream, or of several.
///
/// A loss period is a run of consecutive numbers all of which are lost (RFC 3357 §5). Runs that late arrivals filled are none, and those that they
/// split are several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss {
    /// Their lengths in datagrams (RFC 3357 §6.3); the sum is what was lost.
    pub lengths: Spread,
    /// The distance in numbers from the last datagram of one to the first of the next (inter-loss-period length, RFC 3357 §6.4).
    pub distances: Spread,
    /// Time in ns from the last arrival before a gap to the first after it, for each gap of which something is still missing. What is lost before the first
    /// arrival or after the last has none.
    pub outages_ns: Spread,
    /// The same by the stamps in the datagrams on both sides of each gap: how long the sender sent what did not come (RFC 6201 §4.2).
    pub sent_gaps_ns: Spread,
    /// Datagrams in `lengths` that arrived in the end: so late, and after so many other gaps, that their period had been closed.
    pub refilled: u64,
    /// Last number of the last period.
    last: Option<u64>,
    /// The arrival that jumped over the last period.
    jump: Option<Jump>,
}

impl Loss {
    /// Enters the next run of lost numbers. Runs come in rising order.
    pub fn period(&mut self, run: &Run) {
        // The pieces of one gap waited for the same arrival.
        if self.jump != Some(run.jump) {
            run.jump.silence_ns.into_iter().for_each(|ns| self.outages_ns.record(ns));
            run.jump.sent_gap_ns.into_iter().for_each(|ns| self.sent_gaps_ns.record(ns));
        }
        self.jump = Some(run.jump);
        self.lost(run.from, run.to);
    }

    /// Enters the next run of lost numbers, of which nobody can tell how long it lasted.
    pub fn lost(&mut self, from: u64, to: u64) {
        self.lengths.record(to - from + 1);
        if let Some(last) = self.last.replace(to) {
            self.distances.record(from - last);
        }
    }

    /// Adds another stream's.
    pub fn add(&mut self, other: &Self) {
        self.lengths.add(&other.lengths);
        self.distances.add(&other.distances);
        self.outages_ns.add(&other.outages_ns);
        self.sent_gaps_ns.add(&other.sent_gaps_ns);
        self.refilled += other.refilled;
    }
}
