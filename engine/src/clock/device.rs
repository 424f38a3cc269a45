//! A NIC's own clock against CLOCK_TAI: what its stamps are on the clock of everything else.
//!
//! Both are compared about once a second ([`Comparison`]). In between, a line is followed that is [steered](Follower::take) towards the comparison to
//! come: each piece begins where the last one ended, so that times that rise on the one clock never fall on the other. [`Shared`] hands the line to the
//! workers, which read it once for each batch.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};

/// Binary places of how much faster CLOCK_TAI goes.
const FRACTION: u32 = 40;

/// The slowest that CLOCK_TAI may go by a device's clock, and the fastest: a sixteenth, and nine times, as what is added to its pace, with [`FRACTION`] places. What an emulated
/// NIC has for a clock may go at twice the pace.
const DRIFTS: (i64, i64) = (-(15 << (FRACTION - 4)), 8 << FRACTION);

/// Time between two comparisons, once the clocks are known.
pub const PERIOD_NS: u64 = 1_000_000_000;

/// What a comparison may be off from what was foreseen, in errors of comparisons: two comparisons make the line that foresees a third.
const ERRORS: u64 = 8;

/// And for each ns since the last one, as a fraction: twice what the kernel slews its clock by at most.
const SLEW: u64 = 1000;

/// How much longer than this a packet lies in a NIC's ring only where nothing takes it out: a stamp of the NIC before that is none.
const LONGEST_IN_RING_NS: u64 = 1_000_000_000;

/// How much later than somebody who has the packet after the NIC the NIC may seem to have had it, besides the error that is known: which is little at first.
const SEEMS_LATER_NS: u64 = 100_000;

/// When the device's clock showed `device_ns`, CLOCK_TAI was within `error_ns` of `tai_ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// The device's, in ns.
    pub device_ns: u64,
    /// CLOCK_TAI, in ns.
    pub tai_ns: u64,
    /// Half of the time that it took.
    pub error_ns: u64,
}

impl Comparison {
    /// ns that the device's clock is ahead of CLOCK_TAI.
    pub fn offset_ns(&self) -> i64 {
        self.device_ns.wrapping_sub(self.tai_ns).cast_signed()
    }
}

/// CLOCK_TAI over the device's clock: two pieces that meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Where they meet, on both clocks.
    device_ns: u64,
    tai_ns: u64,
    /// How much faster CLOCK_TAI goes, before and after.
    before: i64,
    after: i64,
    /// What it may be off, in ns.
    error_ns: u64,
}

impl Line {
    /// CLOCK_TAI when the device's clock showed `device_ns`.
    #[inline]
    pub fn tai_ns(&self, device_ns: u64) -> u64 {
        let since = device_ns.wrapping_sub(self.device_ns).cast_signed();
        let drift = if since < 0 { self.before } else { self.after };
        let more = ((i128::from(since) * i128::from(drift)) >> FRACTION) as i64;
        self.tai_ns.saturating_add_signed(since.saturating_add(more))
    }

    /// CLOCK_TAI when the NIC had a packet, by its stamp `device_ns`, where somebody had it after the NIC at `latest_ns`: not later than that. `None` where the two
    /// contradict each other, because one of the clocks was set a moment ago.
    #[inline]
    pub fn arrived_ns(&self, device_ns: u64, latest_ns: u64) -> Option<u64> {
        let arrived_ns = self.tai_ns(device_ns);
        let early = latest_ns.saturating_sub(arrived_ns);
        let late = arrived_ns.saturating_sub(latest_ns);
        let can_be = early <= LONGEST_IN_RING_NS && late <= self.error_ns.saturating_add(SEEMS_LATER_NS);
        can_be.then_some(arrived_ns.min(latest_ns))
    }

    /// What that may be off, in ns, by the comparisons up to now.
    pub fn error_ns(&self) -> u64 {
        self.error_ns
    }
}

/// Follows a device's clock.
#[derive(Debug, Clone)]
pub struct Follower {
    line: Line,
    last: Comparison,
    /// By the last two comparisons.
    drift: i64,
    comparisons: u64,
    steps: u64,
    /// CLOCK_TAI in ns when the next comparison is due.
    due_ns: u64,
}

impl Follower {
    /// From two comparisons, at least some tens of ms apart; `None` when the device's clock does not go, or goes at less than a ninth or more than sixteen times the pace of CLOCK_TAI.
    pub fn begin(first: Comparison, second: Comparison) -> Option<Self> {
        let drift = drift(first, second)?;
        let line = Line {
            device_ns: second.device_ns,
            tai_ns: second.tai_ns,
            before: drift,
            after: drift,
            error_ns: first.error_ns.max(second.error_ns),
        };
        let due_ns = due(first, second);
        Some(Self { line, last: second, drift, comparisons: 2, steps: 0, due_ns })
    }

    /// Takes a new comparison in. Returns by how many ns CLOCK_TAI was ahead of what it had to be, if one of the clocks was set: what came since the last
    /// comparison may be off by as much.
    pub fn take(&mut self, now: Comparison) -> Option<i64> {
        self.comparisons += 1;
        let passed = now.tai_ns.saturating_sub(self.last.tai_ns);
        // From the last comparison on, not along the line, which is still on its way to that.
        let Comparison { device_ns, tai_ns, error_ns } = self.last;
        let straight = Line { device_ns, tai_ns, before: self.drift, after: self.drift, error_ns };
        let set = now.tai_ns.wrapping_sub(straight.tai_ns(now.device_ns)).cast_signed();
        let allowed =
            ERRORS.saturating_mul(error_ns.saturating_add(now.error_ns)).saturating_add(passed / SLEW);
        let measured = drift(self.last, now).filter(|_| set.unsigned_abs() <= allowed);
        self.due_ns = due(self.last, now);
        self.last = now;
        let Some(drift) = measured else {
            self.steps += 1;
            let (before, after) = (self.drift, self.drift);
            self.line = Line { device_ns: now.device_ns, tai_ns: now.tai_ns, before, after, ..self.line };
            return Some(set);
        };
        self.drift = drift;
        let foreseen_ns = self.line.tai_ns(now.device_ns);
        let off = now.tai_ns.wrapping_sub(foreseen_ns).cast_signed();
        // Back on the clock a period later.
        let steer = (i128::from(off) << FRACTION) / i128::from(PERIOD_NS);
        let after = i128::from(drift) + steer;
        self.line = Line {
            device_ns: now.device_ns,
            tai_ns: foreseen_ns,
            before: self.line.after,
            after: after.clamp(DRIFTS.0.into(), DRIFTS.1.into()) as i64,
            error_ns: self.line.error_ns.max(now.error_ns.saturating_add(off.unsigned_abs())),
        };
        None
    }

    /// Whether it is time for another comparison.
    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.due_ns
    }

    /// The line for what comes now.
    pub fn line(&self) -> Line {
        self.line
    }

    /// The last comparison.
    pub fn last(&self) -> Comparison {
        self.last
    }

    /// How often both clocks were compared.
    pub fn comparisons(&self) -> u64 {
        self.comparisons
    }

    /// How often one of them was set.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// By how much faster the device's clock goes than CLOCK_TAI, in parts of 10⁹.
    pub fn faster_ppb(&self) -> i64 {
        let tai = (1i128 << FRACTION) + i128::from(self.drift);
        ((-i128::from(self.drift) * 1_000_000_000) / tai) as i64
    }
}

/// How much faster CLOCK_TAI went from one comparison to the next, with [`FRACTION`] places; `None` when one of the clocks was set or stood.
fn drift(from: Comparison, to: Comparison) -> Option<i64> {
    let device = i128::from(to.device_ns) - i128::from(from.device_ns);
    let tai = i128::from(to.tai_ns) - i128::from(from.tai_ns);
    if device <= 0 || tai <= 0 {
        return None;
    }
    let drift = i64::try_from(((tai - device) << FRACTION) / device).ok()?;
    (DRIFTS.0..=DRIFTS.1).contains(&drift).then_some(drift)
}

/// When the next comparison is due: after twice the time between these two, up to [`PERIOD_NS`].
fn due(last: Comparison, now: Comparison) -> u64 {
    let passed = now.tai_ns.saturating_sub(last.tai_ns).min(PERIOD_NS);
    now.tai_ns.saturating_add((2 * passed).clamp(PERIOD_NS / 64, PERIOD_NS))
}

/// A line that one thread renews and others read, without a lock: readers try again when it changed meanwhile.
#[derive(Debug)]
pub struct Shared {
    /// Odd while it changes.
    version: AtomicU64,
    device_ns: AtomicU64,
    tai_ns: AtomicU64,
    before: AtomicI64,
    after: AtomicI64,
    error_ns: AtomicU64,
}

impl Shared {
    /// Of this line.
    pub fn new(line: Line) -> Self {
        Self {
            version: AtomicU64::new(0),
            device_ns: AtomicU64::new(line.device_ns),
            tai_ns: AtomicU64::new(line.tai_ns),
            before: AtomicI64::new(line.before),
            after: AtomicI64::new(line.after),
            error_ns: AtomicU64::new(line.error_ns),
        }
    }

    /// Renews it. For one thread only.
    pub fn renew(&self, line: Line) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.device_ns.store(line.device_ns, Ordering::Relaxed);
        self.tai_ns.store(line.tai_ns, Ordering::Relaxed);
        self.before.store(line.before, Ordering::Relaxed);
        self.after.store(line.after, Ordering::Relaxed);
        self.error_ns.store(line.error_ns, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// The line as it is now.
    #[inline]
    pub fn line(&self) -> Line {
        loop {
            let version = self.version.load(Ordering::Acquire);
            let line = Line {
                device_ns: self.device_ns.load(Ordering::Relaxed),
                tai_ns: self.tai_ns.load(Ordering::Relaxed),
                before: self.before.load(Ordering::Relaxed),
                after: self.after.load(Ordering::Relaxed),
                error_ns: self.error_ns.load(Ordering::Relaxed),
            };
            fence(Ordering::Acquire);
            if version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version {
                return line;
            }
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
