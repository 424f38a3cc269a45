//! How far out of order datagrams came: reordering extent, late-time offset and n-reordering (RFC 4737). Copies are not in the sample.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use super::missing::Jump;
use super::spread::Spread;

/// Fewest arrivals with higher numbers right before a datagram that make TCP take it for lost (RFC 4737 §5).
const TCP_THRESHOLD: u64 = 3;

/// The reordered datagrams of a stream, or of several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reordering {
    /// Reordering extent (RFC 4737 §4.2): how many arrivals ago the first with a higher number came.
    pub extents: Spread,
    /// Late-time offset (RFC 4737 §4.3): how long ago in ns that one came.
    pub late_ns: Spread,
    /// Reordered datagrams that are in neither: so many gaps have opened since theirs did that it was forgotten.
    pub unplaced: u64,
    /// n-reordering (RFC 4737 §5): of each reordered datagram that has higher numbers, and nothing else, in the n arrivals right before it, the
    /// largest n.
    pub n: Spread,
    /// Those of them with an n of at least 3, the ones that TCP takes for lost.
    pub three: u64,
    /// Those whose n may be larger than what is in `n`, because the arrivals have not been kept for so long.
    pub at_least: u64,
}

impl Reordering {
    /// Enters the reordered arrival number `index` at `now_ns`, whose number `jump` had passed; `None` when that was forgotten.
    pub(super) fn reordered(&mut self, index: u64, now_ns: u64, jump: Option<Jump>) {
        match jump {
            Some(jump) => {
                self.extents.record(index - jump.index);
                self.late_ns.record(now_ns.saturating_sub(jump.at_ns));
            }
            None => self.unplaced += 1,
        }
    }

    /// Enters how many arrivals right before a reordered one have higher numbers, and whether that is all of them.
    pub(super) fn preceded(&mut self, (n, all): (u64, bool)) {
        if n > 0 {
            self.n.record(n);
        }
        self.three += u64::from(n >= TCP_THRESHOLD);
        self.at_least += u64::from(!all);
    }

    /// Adds another stream's.
    pub fn add(&mut self, other: &Self) {
        self.extents.add(&other.extents);
        self.late_ns.add(&other.late_ns);
        self.unplaced += other.unplaced;
        self.n.add(&other.n);
        self.three += other.three;
        self.at_least += other.at_least;
    }
}

/// The last different arrivals, as at most `KEPT` stretches of consecutive numbers. Arrivals are counted from 1.
///
/// Datagrams in order write nothing: they are the rest of the last stretch.
#[derive(Debug, Clone)]
pub(super) struct Stretches<const KEPT: usize> {
    /// First number of each and which arrival it was. The last may have nothing in it as yet.
    kept: VecDeque<(u64, u64)>,
}

impl<const KEPT: usize> Stretches<KEPT> {
    /// All arrivals so far have been in order from number `base` on.
    pub(super) fn begin(base: u64) -> Self {
        Self { kept: VecDeque::from([(base, 1)]) }
    }

    /// Arrival `index` is number `n`, higher than all before it and not the next.
    pub(super) fn jumped(&mut self, n: u64, index: u64) {
        self.empty_last(index);
        self.push(n, index);
    }

    /// Arrival `index` is number `n`, lower than the highest; what comes in order after it will be number `next`.
    pub(super) fn reordered(&mut self, n: u64, index: u64, next: u64) {
        self.empty_last(index);
        let follows = self.kept.back().is_some_and(|(first, at)| first + (index - at) == n);
        if !follows {
            self.push(n, index);
        }
        self.push(next, index + 1);
    }

    /// Drops the last stretch if it would only begin with arrival `index`.
    fn empty_last(&mut self, index: u64) {
        if self.kept.back().is_some_and(|(_, at)| *at == index) {
            self.kept.pop_back();
        }
    }

    fn push(&mut self, n: u64, index: u64) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((n, index));
    }

    /// How many arrivals right before arrival `index`, which is number `n`, have higher numbers, as far as they are kept; and whether it is
    /// all of them.
    pub(super) fn higher_before(&self, n: u64, index: u64) -> (u64, bool) {
        let mut end = index;
        for (first, at) in self.kept.iter().rev() {
            if *first < n {
                let last = first + (end - at);
                return (index - end + last.saturating_sub(n + 1), true);
            }
            end = *at;
        }
        (index - end, end == 1)
    }
}
