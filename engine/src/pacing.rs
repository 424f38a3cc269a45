//! Open-loop pacing: packets are due by the clock, whatever became of earlier ones.
#![forbid(unsafe_code)]

/// Longest burst in packets: 100 µs' worth at 160 Mpps.
pub const MAX_BURST: u32 = 16_384;

/// A burst is what leaves in this time at the rate, in ns.
const BURST_NS: f64 = 100_000.0;

/// Binary places of the rate: a millionth of a packet in a minute is told apart.
const FRACTION: u32 = 24;

/// Credit that one packet costs: a second's worth of ns, at the rate's scale.
const COST: u128 = (SECOND_NS as u128) << FRACTION;

const SECOND_NS: u64 = 1_000_000_000;

/// Holds a rate.
///
/// Packet `k` is due at the start plus `k` intervals, never earlier, so that a run of a whole number of seconds has exactly its
/// count. No more than [`burst`](Self::burst) packets are released at once, and no fewer than [together](Self::together). What a stall held up is made good
/// at no more than twice the rate: in any time T at most `burst + 2 × rate × T` packets are released.
///
/// Time is any clock in ns; one that steps back costs nothing but the step. A worker that sleeps until
/// [`next_ns`](Self::next_ns) should spin through the last half interval: with a burst of 1, waking later than that eats
/// what is there to catch up with.
#[derive(Debug, Clone)]
pub struct Pacer {
    /// Packets a second, with [`FRACTION`] binary places; credit gained in each ns.
    rate: u64,
    burst: u32,
    /// Earned and not spent, without limit: the schedule.
    credit: u128,
    /// Earned at twice the rate, at most a burst's worth: the limit on bursts and on catching up.
    peak: u128,
    last_ns: u64,
    /// Fewest packets released at once.
    together: u32,
    /// Released and not yet sent.
    open: u32,
    /// Whether the start has passed; a clock behind it means waiting, one that falls back later has stepped.
    started: bool,
}

impl Pacer {
    /// A pacer of `pps` packets a second whose first packet is due at `start_ns`. The burst is what leaves in 100 µs, at least 1
    /// and at most [`MAX_BURST`].
    ///
    /// # Panics
    /// When `pps` is not within the limits of [`Rate::pps`](crate::profile::rate::Rate::pps), 0.001 to 1e9.
    pub fn new(pps: f64, start_ns: u64) -> Self {
        let burst = (pps * BURST_NS / 1e9).clamp(1.0, f64::from(MAX_BURST)) as u32;
        Self::with_burst(pps, burst, start_ns)
    }

    /// A pacer with a burst of its own, 1 to [`MAX_BURST`].
    ///
    /// # Panics
    /// When `pps` or `burst` is not within its limits.
    pub fn with_burst(pps: f64, burst: u32, start_ns: u64) -> Self {
        use crate::profile::rate::{MAX_PPS, MIN_PPS};
        assert!((MIN_PPS..=MAX_PPS).contains(&pps), "{pps} packets a second cannot be paced");
        assert!((1..=MAX_BURST).contains(&burst), "a burst of {burst}");
        Self {
            rate: (pps * f64::from(1u32 << FRACTION)).round() as u64,
            burst,
            // The first packet is due at once.
            credit: COST,
            peak: COST,
            last_ns: start_ns,
            together: 1,
            open: 0,
            started: false,
        }
    }

    /// Releases no fewer than `packets` at once, 1 to the burst: the first of them waits for the last.
    #[must_use]
    pub fn together(mut self, packets: u32) -> Self {
        assert!((1..=self.burst).contains(&packets), "{packets} together in bursts of {}", self.burst);
        self.together = packets;
        self
    }

    /// No more than `packets` are still to come: nothing waits for more.
    #[inline]
    pub fn expect(&mut self, packets: u64) {
        if packets < self.together.into() {
            self.together = (packets as u32).max(1);
        }
    }

    /// Most packets released at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Whether packets that were [`due`](Self::due) have not been sent yet.
    #[inline]
    pub fn is_burst_open(&self) -> bool {
        self.open > 0
    }

    /// Packets that may leave now: at most a burst. They stay due until [`sent`](Self::sent).
    #[inline]
    pub fn due(&mut self, now_ns: u64) -> u32 {
        if now_ns < self.last_ns && !self.started {
            return 0;
        }
        self.started = true;
        let earned = u128::from(now_ns.saturating_sub(self.last_ns)) * u128::from(self.rate);
        self.last_ns = now_ns;
        self.credit += earned;
        self.peak = (self.peak + 2 * earned).min(u128::from(self.burst) * COST);
        // At most a burst's worth, which without its binary places is small enough for the quick division.
        let earned = ((self.credit.min(self.peak) >> FRACTION) as u64 / SECOND_NS) as u32;
        // The rest of a burst whose beginning has left goes on; otherwise a whole one is waited for.
        if self.together == 1 || self.open == 0 {
            self.open = if earned < self.together { 0 } else { earned };
        }
        self.open
    }

    /// `packets` of those that were [`due`](Self::due) have left.
    ///
    /// # Panics
    /// In debug builds, when more left than were due.
    #[inline]
    pub fn sent(&mut self, packets: u32) {
        let cost = u128::from(packets) * COST;
        debug_assert!(cost <= self.peak && cost <= self.credit, "more were sent than were due");
        self.peak = self.peak.saturating_sub(cost);
        self.credit = self.credit.saturating_sub(cost);
        self.open = self.open.saturating_sub(packets);
    }

    /// How long the first of the packets that are due has been so, in ns by the schedule; 0 when none is.
    pub fn late_ns(&self) -> u64 {
        let since = self.credit.saturating_sub(u128::from(self.together.max(1)) * COST);
        u64::try_from(since / u128::from(self.rate)).unwrap_or(u64::MAX)
    }

    /// When the next packet is due; not after now when one is.
    pub fn next_ns(&self) -> u64 {
        self.due_ns(1)
    }

    /// When `packets` are due together, at most a burst: a worker that hands over in batches waits for
    /// `min(burst, packets left)`.
    pub fn due_ns(&self, packets: u32) -> u64 {
        let want = if self.together > 1 && self.open > 0 {
            packets.clamp(1, self.open)
        } else {
            packets.clamp(self.together, self.burst)
        };
        let want = u128::from(want) * COST;
        let short = want.saturating_sub(self.credit);
        let peak_short = want.saturating_sub(self.peak);
        let rate = u128::from(self.rate);
        let wait = short.div_ceil(rate).max(peak_short.div_ceil(2 * rate));
        self.last_ns.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// When each of the packets that are due leaves, for a queueing discipline that is told so; none before `earliest_ns`.
    pub fn departures(&self, earliest_ns: u64) -> Departures {
        let rate = u128::from(self.rate);
        let since = self.credit.saturating_sub(COST) / rate;
        Departures {
            first_ns: self.last_ns.saturating_sub(u64::try_from(since).unwrap_or(u64::MAX)),
            step: ((COST << STEP_FRACTION) / rate) as u64,
            earliest_ns,
        }
    }
}

/// Binary places of the interval between two packets, in ns.
const STEP_FRACTION: u32 = 16;

/// When the packets of one hand-over leave: each an interval after the one before, but none before it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departures {
    first_ns: u64,
    /// The interval, with [`STEP_FRACTION`] binary places.
    step: u64,
    earliest_ns: u64,
}

impl Departures {
    /// When packet `n` leaves, on the pacer's clock in ns.
    #[inline]
    pub fn at(&self, n: usize) -> u64 {
        self.due(n).max(self.earliest_ns)
    }

    /// Whether packet `n` was due before it can leave.
    #[inline]
    pub fn is_overdue(&self, n: usize) -> bool {
        self.due(n) < self.earliest_ns
    }

    #[inline]
    fn due(&self, n: usize) -> u64 {
        let after = (u128::from(self.step) * n as u128) >> STEP_FRACTION;
        self.first_ns.saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Packets whose time has come `elapsed` ns after the start, exactly.
    fn scheduled(pps: u64, elapsed: u64) -> u64 {
        (u128::from(elapsed) * u128::from(pps) / 1_000_000_000) as u64 + 1
    }

    #[test]
    fn bursts_follow_the_rate() {
        for (pps, burst) in
            [(0.5, 1), (10_000.0, 1), (50_000.0, 5), (1e6, 100), (20e6, 2000), (1e9, MAX_BURST)]
        {
            assert_eq!(Pacer::new(pps, 0).burst(), burst);
        }
    }

    #[test]
    fn an_hour_has_its_exact_count() {
        for pps in [3, 999] {
            let mut pacer = Pacer::new(pps as f64, 5);
            let (mut sent, mut now) = (0, 5);
            while now < 5 + 3_600_000_000_000 {
                let due = pacer.due(now);
                pacer.sent(due);
                sent += u64::from(due);
                // Step over many packets at a time, but let the backlog drain first.
                now = if due > 0 { pacer.next_ns() } else { pacer.next_ns().max(now + 1) };
            }
            assert_eq!(sent, pps * 3600);
        }
    }

    #[test]
    fn nothing_before_the_start() {
        let mut pacer = Pacer::new(1000.0, 1_000_000);
        assert_eq!(pacer.due(0), 0);
        assert_eq!(pacer.next_ns(), 1_000_000);
        assert_eq!(pacer.due(999_999), 0);
        assert_eq!(pacer.due(1_000_000), 1);
        pacer.sent(1);
        assert_eq!(pacer.due(1_000_000), 0);
        assert_eq!(pacer.next_ns(), 2_000_000);
    }

    #[test]
    fn a_clock_that_steps_back_does_not_stop_it() {
        let mut pacer = Pacer::new(1000.0, 10_000_000_000);
        assert_eq!(pacer.due(10_000_000_000), 1);
        pacer.sent(1);
        assert_eq!(pacer.due(3_000_000_000), 0);
        assert_eq!(pacer.due(3_001_000_000), 1);
    }

    #[test]
    fn a_whole_burst_is_due_together() {
        let mut pacer = Pacer::new(1_000_000.0, 0);
        let at = pacer.due_ns(100);
        assert_eq!(at, 99_000);
        assert!(pacer.due(at - 1) < 100);
        assert_eq!(pacer.due(at), 100);
    }

    #[test]
    fn departures_are_an_interval_apart_and_not_before_they_can_be() {
        let mut pacer = Pacer::with_burst(1000.0, 10, 5_000_000).together(5);
        assert_eq!(pacer.due(9_500_000), 5);
        let departures = pacer.departures(0);
        let at: Vec<u64> = (0..5).map(|n| departures.at(n)).collect();
        assert_eq!(at, [5_000_000, 6_000_000, 7_000_000, 8_000_000, 9_000_000]);
        pacer.sent(2);
        let late = pacer.departures(7_500_000);
        assert_eq!((0..3).map(|n| late.at(n)).collect::<Vec<_>>(), [7_500_000, 8_000_000, 9_000_000]);
        assert_eq!((0..3).map(|n| late.is_overdue(n)).collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn together_or_not_at_all() {
        let mut pacer = Pacer::with_burst(1000.0, 10, 0).together(10);
        assert_eq!((pacer.due(0), pacer.next_ns()), (0, 9_000_000));
        assert_eq!(pacer.due(8_999_999), 0);
        assert_eq!(pacer.due(9_000_000), 10);
        pacer.sent(4);
        assert!(pacer.is_burst_open());
        assert_eq!((pacer.due(9_500_000), pacer.next_ns()), (6, 9_500_000), "the rest waits for nothing");
        pacer.sent(6);
        assert!(!pacer.is_burst_open());
        assert_eq!((pacer.due(18_000_000), pacer.next_ns()), (0, 19_000_000), "the mean rate is kept");
        // The last ones are fewer.
        pacer.expect(3);
        assert_eq!((pacer.next_ns(), pacer.due(18_000_000)), (18_000_000, 9));
    }

    proptest! {
        #[test]
        fn bursts_of_a_pattern_are_whole_and_in_time(
            pps in 1u64..30_000_000,
            burst in 2u32..5_000,
            steps in prop::collection::vec((0u64..3_000_000, 1u32..=100), 1..300),
        ) {
            let mut pacer = Pacer::with_burst(pps as f64, burst, 0).together(burst);
            let (mut now, mut sent, mut in_burst) = (0u64, 0u64, 0);
            for (wait, percent) in steps {
                now += wait;
                let due = pacer.due(now);
                prop_assert!(due == 0 || due + in_burst == burst, "{} of {}", due, burst);
                prop_assert_eq!(due > 0, pacer.next_ns() <= now);
                // The queue may take a burst in pieces.
                let taken = (due * percent).div_ceil(100);
                pacer.sent(taken);
                sent += u64::from(taken);
                in_burst = if pacer.is_burst_open() { in_burst + taken } else { 0 };
                prop_assert!(sent <= scheduled(pps, now));
                let next = pacer.next_ns();
                prop_assert!(next <= now || (pacer.clone().due(next) > 0 && pacer.clone().due(next - 1) == 0));
            }
        }

        #[test]
        fn never_a_longer_burst_never_ahead_never_over_twice_the_rate(
            pps in 1u64..30_000_000,
            waits in prop::collection::vec((0u64..3_000_000, 0u32..=100), 1..300),
        ) {
            let mut pacer = Pacer::new(pps as f64, 0);
            let (mut now, mut sent) = (0u64, 0u64);
            let mut log = vec![];
            for (wait, percent) in waits {
                now += wait;
                let due = pacer.due(now);
                prop_assert!(due <= pacer.burst());
                // The queue may have room for fewer.
                let taken = due * percent / 100;
                pacer.sent(taken);
                sent += u64::from(taken);
                prop_assert!(sent <= scheduled(pps, now));
                log.push((now, sent));
                for (then, before) in &log[..log.len() - 1] {
                    // What left between two moments, the first one's own burst not counted.
                    let limit = u64::from(pacer.burst()) + 2 * (now - then) * pps / 1_000_000_000 + 1;
                    prop_assert!(sent - before <= limit, "{} in {} ns", sent - before, now - then);
                }
            }
        }

        #[test]
        fn a_stall_is_made_good(pps in 1u64..30_000_000, early in 0u64..1_000_000, stall in 0u64..5_000_000) {
            let mut pacer = Pacer::new(pps as f64, 0);
            let mut sent = 0u64;
            let mut step = |now: u64| {
                let due = pacer.due(now);
                pacer.sent(due);
                sent += u64::from(due);
                (sent, pacer.next_ns())
            };
            step(early);
            let mut now = early + stall;
            // At twice the rate the stall is made good in as long again.
            let end = now + early + stall + 2_000_000_000 / pps + 2;
            loop {
                let (sent, next) = step(now);
                if now >= end {
                    prop_assert_eq!(sent, scheduled(pps, now));
                    break;
                }
                prop_assert!(next > now, "nothing stays due");
                now = next.min(end);
            }
        }

        #[test]
        fn each_packet_departs_when_it_is_due(
            pps in 1u64..30_000_000, start in 0u64..1 << 61, steps in prop::collection::vec((0u64..3_000_000, 0u32..=100), 1..100),
        ) {
            let mut pacer = Pacer::with_burst(pps as f64, 1000, start);
            let (mut now, mut sent) = (start, 0u64);
            for (wait, percent) in steps {
                now += wait;
                let due = pacer.due(now);
                let departures = pacer.departures(0);
                for n in [0, due.saturating_sub(1)].into_iter().take(due as usize) {
                    let k = sent + u64::from(n);
                    let exactly = start + (u128::from(k) * 1_000_000_000).div_ceil(pps.into()) as u64;
                    let off = departures.at(n as usize).abs_diff(exactly);
                    // Both the first and the interval are rounded.
                    prop_assert!(off <= 2, "packet {} is {} ns off", k, off);
                }
                let taken = due * percent / 100;
                pacer.sent(taken);
                sent += u64::from(taken);
            }
        }

        #[test]
        fn due_ns_is_the_first_moment(
            pps in 1u64..50_000_000, now in 0u64..10_000_000, sent in 0u32..5000, want in 1u32..5000,
        ) {
            let mut pacer = Pacer::new(pps as f64, 0);
            let due = pacer.due(now);
            pacer.sent(sent.min(due));
            let want = want.min(pacer.burst());
            let at = pacer.due_ns(want);
            prop_assert!(pacer.clone().due(at) >= want);
            prop_assert!(at <= now || pacer.clone().due(at - 1) < want);
        }
    }
}
