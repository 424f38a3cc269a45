//! Delay variation (RFC 5481): how packets' delays differ from the lowest, and from one packet to the next. The offset between the two
//! hosts' clocks is in every transit time alike, and falls out.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use hdrhistogram::Histogram;

use super::tally::latency_histogram;

/// Senders whose variation one worker measures: each has an offset of its own. What further ones send is not measured.
pub const MAX_SENDERS: usize = 4;

/// The transit times of one sender's packets, relative to one of them.
///
/// The lowest is known at the end only, and a reference that follows it down would spoil what was recorded before. So times above
/// a fixed reference stand in one histogram and those below in another; with the exact lowest both become distances from it, to 1 %
/// of the distance from the reference. At each hand-over a worker begins anew with the lowest so far for its reference.
#[derive(Debug, Clone)]
pub struct Spread {
    /// Arrival minus departure in ns; `None` before the first.
    reference: Option<i64>,
    lowest: i64,
    highest: i64,
    above: Histogram<u64>,
    below: Histogram<u64>,
    /// The last time, and how often it came that the histograms do not know of.
    last: i64,
    waiting: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self {
            reference: None,
            lowest: i64::MAX,
            highest: i64::MIN,
            above: latency_histogram(),
            below: latency_histogram(),
            last: 0,
            waiting: 0,
        }
    }
}

impl Spread {
    /// Takes in `count` packets with this transit time.
    #[inline(always)]
    pub fn record(&mut self, transit: i64, count: u64) {
        if transit != self.last {
            self.settle();
            self.last = transit;
        }
        self.waiting += count;
    }

    #[inline(never)]
    fn settle(&mut self) {
        if self.waiting > 0 {
            self.put(self.last, self.waiting);
            self.waiting = 0;
        }
    }

    #[inline]
    fn put(&mut self, transit: i64, count: u64) {
        let reference = *self.reference.get_or_insert(transit);
        self.lowest = self.lowest.min(transit);
        self.highest = self.highest.max(transit);
        let distance = transit.abs_diff(reference);
        let histogram = if transit >= reference { &mut self.above } else { &mut self.below };
        histogram.saturating_record_n(distance, count);
    }

    /// Hands over what was recorded since the last time and starts anew; what `into` held is gone.
    pub fn hand_over(&mut self, into: &mut Self) {
        self.settle();
        into.clear();
        std::mem::swap(into, self);
        // What comes next is most often no lower than what came.
        self.reference = into.reference.map(|_| into.lowest);
        self.last = into.last;
    }

    fn clear(&mut self) {
        self.above.reset();
        self.below.reset();
        (self.reference, self.lowest, self.highest, self.waiting) = (None, i64::MAX, i64::MIN, 0);
    }

    /// Adds what another has recorded of the same sender. Not for the hot path.
    pub fn add(&mut self, other: &Self) {
        if other.lowest > other.highest {
            return;
        }
        self.reference.get_or_insert(other.lowest);
        self.lowest = self.lowest.min(other.lowest);
        self.pour(other);
        let (reference, lowest) = (self.reference.unwrap_or_default(), self.lowest);
        let fell = reference.abs_diff(lowest);
        // Moving all that is there costs exactness, so it is done when staying would cost more, each time for a larger distance.
        if fell.saturating_mul(8) > self.typical().saturating_add(fell) {
            let mut moved = Self { reference: Some(lowest), ..Self::default() };
            moved.pour(self);
            *self = moved;
        }
    }

    /// Half of the packets are closer to the reference, from above.
    fn typical(&self) -> u64 {
        if self.below.len() > self.above.len() { 0 } else { self.above.value_at_quantile(0.5) }
    }

    fn pour(&mut self, other: &Self) {
        let Some(reference) = other.reference else { return };
        let distance = |h: &Histogram<u64>, value| {
            h.median_equivalent(value).min(i64::MAX.cast_unsigned()).cast_signed()
        };
        for step in other.above.iter_recorded() {
            let transit = reference.saturating_add(distance(&other.above, step.value_iterated_to()));
            self.put(transit.min(other.highest), step.count_at_value());
        }
        for step in other.below.iter_recorded() {
            let transit = reference.saturating_sub(distance(&other.below, step.value_iterated_to()));
            self.put(transit.max(other.lowest), step.count_at_value());
        }
        // The extremes are known exactly.
        (self.lowest, self.highest) = (self.lowest.min(other.lowest), self.highest.max(other.highest));
    }

    /// Adds each packet's distance from the lowest transit time to `into` (PDV, RFC 5481 §4.2).
    pub fn above_lowest(&self, into: &mut Histogram<u64>) {
        let Some(reference) = self.reference.filter(|_| self.lowest <= self.highest) else { return };
        let fell = reference.abs_diff(self.lowest);
        let most = self.lowest.abs_diff(self.highest);
        for step in self.above.iter_recorded() {
            let distance = fell + self.above.median_equivalent(step.value_iterated_to());
            into.saturating_record_n(distance.min(most), step.count_at_value());
        }
        for step in self.below.iter_recorded() {
            let distance = fell.saturating_sub(self.below.median_equivalent(step.value_iterated_to()));
            into.saturating_record_n(distance, step.count_at_value());
        }
    }
}

/// The transit times of the senders that one worker hears.
#[derive(Debug, Default)]
pub struct Spreads {
    senders: Vec<SenderSpread>,
}

/// Those of one.
#[derive(Debug, Clone)]
pub struct SenderSpread {
    /// Who sends.
    pub source: IpAddr,
    /// Its run; 0 where the format has none.
    pub run: u32,
    /// Its transit times.
    pub spread: Spread,
}

impl Spreads {
    /// The place of a sender; `None` when there are too many.
    pub fn place(&mut self, source: IpAddr, run: u32) -> Option<u8> {
        let known = self.senders.iter().position(|s| (s.source, s.run) == (source, run));
        let place = known.or_else(|| {
            (self.senders.len() < MAX_SENDERS).then(|| {
                self.senders.push(SenderSpread { source, run, spread: Spread::default() });
                self.senders.len() - 1
            })
        });
        place.map(|place| place as u8)
    }

    /// Takes in `count` packets of the sender at `place` with this transit time.
    #[inline(always)]
    pub fn record(&mut self, place: u8, transit: i64, count: u64) {
        if let Some(sender) = self.senders.get_mut(usize::from(place)) {
            sender.spread.record(transit, count);
        }
    }

    /// Hands over what was recorded since the last time and starts anew; what `into` held is gone.
    pub fn hand_over(&mut self, into: &mut Vec<SenderSpread>) {
        for (place, sender) in self.senders.iter_mut().enumerate() {
            if into.len() == place {
                into.push(SenderSpread { spread: Spread::default(), ..*sender });
            }
            sender.spread.hand_over(&mut into[place].spread);
        }
    }
}

/// Differences between the delays of packets with consecutive numbers (IPDV, RFC 5481 §4.1).
#[derive(Debug, Clone)]
pub struct Steps {
    /// Without their signs.
    pub sizes: Histogram<u64>,
    /// The lowest: the second packet caught up by so much. `i64::MAX` before the first.
    pub lowest: i64,
    /// The highest: the second packet fell behind by so much. `i64::MIN` before the first.
    pub highest: i64,
    /// Those of 0 that the histogram does not know of.
    zeros: u64,
    /// The last other than those, and how often it came that the histogram does not know of: streams that take turns have it in common.
    last: i64,
    waiting: u64,
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            sizes: latency_histogram(),
            lowest: i64::MAX,
            highest: i64::MIN,
            zeros: 0,
            last: 0,
            waiting: 0,
        }
    }
}

impl Steps {
    /// Takes in a difference.
    #[inline]
    pub fn record(&mut self, step: i64) {
        if step != self.last {
            self.settle();
            self.last = step;
        }
        self.waiting += 1;
    }

    #[inline(never)]
    fn settle(&mut self) {
        let waiting = [(self.last, std::mem::take(&mut self.waiting)), (0, std::mem::take(&mut self.zeros))];
        for (step, count) in waiting.into_iter().filter(|(_, count)| *count > 0) {
            self.lowest = self.lowest.min(step);
            self.highest = self.highest.max(step);
            self.sizes.saturating_record_n(step.unsigned_abs(), count);
        }
    }

    /// Takes in `count` differences of 0.
    #[inline]
    pub fn record_none(&mut self, count: u64) {
        self.zeros += count;
    }

    /// Hands over what was recorded since the last time and starts anew; what `into` held is gone.
    pub fn hand_over(&mut self, into: &mut Self) {
        self.settle();
        into.sizes.reset();
        (into.lowest, into.highest, into.zeros, into.waiting) = (i64::MAX, i64::MIN, 0, 0);
        (into.last, self.last) = (0, 0);
        std::mem::swap(into, self);
    }

    /// Adds what another worker has recorded.
    pub fn add(&mut self, other: &Self) {
        self.sizes.add(&other.sizes).expect("all have the same bounds");
        (self.lowest, self.highest) = (self.lowest.min(other.lowest), self.highest.max(other.highest));
    }
}

#[cfg(test)]
#[path = "delay_tests.rs"]
mod tests;
