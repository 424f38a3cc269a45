//! The times of packets by the kernels of both ends.
#![forbid(unsafe_code)]

use super::arrivals::{Arrivals, MOST_STREAMS};
use crate::measure::latency::Recorder;
use crate::measure::tally::{MAX_PAIRS, Pair, RxTally};

/// What became of the departures that were told.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    wanted: bool,
    each: bool,
    wire: Recorder,
    pairs: Vec<Pair>,
    missing: u64,
}

impl Pairs {
    /// To be told of, packet by packet, too, if `each`.
    pub(super) fn wanted(each: bool) -> Self {
        Self { wanted: true, each, ..Self::default() }
    }

    /// A memory for the stream at this place.
    pub(super) fn arrivals(&self, place: usize) -> Option<Arrivals> {
        (self.wanted && place < MOST_STREAMS).then(Arrivals::new)
    }

    /// A packet of which both times are known.
    pub(super) fn enter(&mut self, pair: Pair) {
        self.wire.record(pair.sent_ns, pair.arrived_ns, 1);
        if !self.each {
            return;
        }
        if self.pairs.len() < MAX_PAIRS {
            self.pairs.push(pair);
        } else {
            self.missing += 1;
        }
    }

    /// Hands over what was entered since the last time.
    pub(super) fn hand_over(&mut self, into: &mut RxTally) {
        self.wire.hand_over(&mut into.wire);
        into.pairs.clear();
        std::mem::swap(&mut into.pairs, &mut self.pairs);
        into.pairs_missing = self.missing;
    }
}
