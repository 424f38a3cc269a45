//! CLOCK_TAI by the CPU's time stamp counter: for a worker that looks at the time again and again, at a third of the cost of the vDSO.
#![forbid(unsafe_code)]

use super::tai_ns;
use crate::sys::tsc::Counter;

/// Binary places of the length of a tick.
const FRACTION: u32 = 32;

/// Readings closer together than this say too little of a tick's length, in ns.
const SHORTEST_NS: u64 = 1_000_000;

/// CLOCK_TAI for one pinned thread.
///
/// Between two [anchorings](Self::anchor) some tens of milliseconds apart it is off by what the clock is slewed
/// meanwhile (at most 500 ppm) and by the time of two readings; a step of CLOCK_TAI shows at the next anchoring, at which
/// it may step back, too. Where there is no invariant counter, and before the second anchoring, it is the vDSO's.
#[derive(Debug)]
pub struct Quick {
    counter: Option<Counter>,
    line: Line,
}

impl Default for Quick {
    fn default() -> Self {
        Self::new()
    }
}

impl Quick {
    /// A clock that has been anchored once.
    pub fn new() -> Self {
        let mut clock = Self { counter: Counter::find(), line: Line::default() };
        clock.anchor();
        clock
    }

    /// Nanoseconds of CLOCK_TAI.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.counter.and_then(|counter| self.line.at(counter.read())).unwrap_or_else(tai_ns)
    }

    /// Compares the counter with CLOCK_TAI.
    pub fn anchor(&mut self) {
        let Some(counter) = self.counter else { return };
        // Of several attempts the one that nothing came between.
        let best = (0..4)
            .map(|_| {
                let (before, ns, after) = (counter.read(), tai_ns(), counter.read());
                let width = after.wrapping_sub(before);
                (width, before.wrapping_add(width / 2), ns)
            })
            .min();
        if let Some((_, ticks, ns)) = best {
            self.line.take(ticks, ns);
        }
    }
}

/// Time as a line over the counter.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    ticks: u64,
    ns: u64,
    /// Length of a tick in ns, with [`FRACTION`] binary places; 0: not known.
    tick: u64,
}

impl Line {
    /// The time when the counter stands at `ticks`; `None` while a tick's length is not known.
    #[inline]
    fn at(&self, ticks: u64) -> Option<u64> {
        let since = u128::from(ticks.wrapping_sub(self.ticks)) * u128::from(self.tick);
        (self.tick > 0).then(|| self.ns.wrapping_add((since >> FRACTION) as u64))
    }

    /// The counter stood at `ticks` when it was `ns`.
    fn take(&mut self, ticks: u64, ns: u64) {
        let passed = ns.wrapping_sub(self.ns);
        let known = self.ns > 0 && ns > self.ns;
        if known && passed < SHORTEST_NS {
            return;
        }
        let counted = ticks.wrapping_sub(self.ticks);
        let tick = (u128::from(passed) << FRACTION).checked_div(counted.into());
        let tick = tick.and_then(|t| u64::try_from(t).ok()).filter(|_| known).unwrap_or(0);
        // A clock slews by half a thousandth at most: what differs more was stepped, and nobody knows which of the two is wrong.
        let stepped = self.tick > 0 && tick.abs_diff(self.tick) > self.tick / 1000;
        *self = Self { ticks, ns, tick: if stepped { 0 } else { tick } };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn it_goes_with_clock_tai() {
        let mut clock = Quick::new();
        for _ in 0..40 {
            std::thread::sleep(std::time::Duration::from_millis(50));
            // However long this thread is held up in between, the reading lies between the two others.
            let (before, now, after) = (tai_ns(), clock.now_ns(), tai_ns());
            let off = before.saturating_sub(now).max(now.saturating_sub(after));
            assert!(off < MS, "{off} ns off");
            clock.anchor();
        }
    }

    #[test]
    fn a_stepped_clock_is_not_believed_until_it_is_steady() {
        let mut line = Line::default();
        line.take(1_000, 500 * MS);
        assert_eq!(line.at(1_000), None, "one reading is no line");
        line.take(1_000 + 150 * MS, 550 * MS);
        assert_eq!(line.at(1_000 + 300 * MS), Some(600 * MS - 1), "a tick is rounded down");
        // A second forward, then on as before.
        line.take(1_000 + 300 * MS, 1_600 * MS);
        assert_eq!(line.at(1_000 + 300 * MS), None);
        line.take(1_000 + 450 * MS, 1_650 * MS);
        assert_eq!(line.at(1_000 + 600 * MS), Some(1_700 * MS - 1));
        // A second back.
        line.take(1_000 + 600 * MS, 700 * MS);
        assert_eq!(line.at(1_000 + 600 * MS), None);
    }

    proptest! {
        #[test]
        fn a_steady_counter_is_followed(
            ghz in 0.01f64..10.0, first: u64, ns in 1u64..1 << 62, waits in prop::collection::vec(1u64..200, 2..30),
        ) {
            let mut line = Line::default();
            let (mut now, mut ticks) = (ns, first);
            line.take(ticks, now);
            for wait in waits {
                now += wait * MS;
                ticks = ticks.wrapping_add((wait as f64 * MS as f64 * ghz) as u64);
                if let Some(at) = line.at(ticks) {
                    // A tick is rounded, and long at the slowest rate.
                    prop_assert!(at.abs_diff(now) <= 50_000, "{} ns off", at.abs_diff(now));
                }
                line.take(ticks, now);
                prop_assert!(line.at(ticks).is_some());
            }
        }

        #[test]
        fn no_readings_panic(readings in prop::collection::vec(any::<(u64, u64)>(), 0..50), at: u64) {
            let mut line = Line::default();
            for (ticks, ns) in readings {
                line.take(ticks, ns);
                let _ = line.at(at);
            }
        }
    }
}
