//! When RTCP packets are sent (RFC 3550 §6.2, §6.3, A.7): so seldom that all participants together take a twentieth of the session's
//! bandwidth, at intervals that no two share. Time and randomness come from the caller.
#![forbid(unsafe_code)]

/// Shortest mean interval, ns; half of it before the first packet (§6.2).
const MIN_NS: f64 = 5e9;

/// Part of the session's bandwidth that RTCP may take.
const SHARE: f64 = 0.05;

/// Part of that which senders have for themselves while they are no larger a part of the members.
const SENDERS: f64 = 0.25;

/// e − 3/2: timer reconsideration makes intervals shorter by this factor (A.7).
const COMPENSATION: f64 = 1.218_28;

/// What an interval depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    /// Participants, this one included.
    pub members: usize,
    /// Those that send RTP.
    pub senders: usize,
    /// Whether this one does.
    pub we_sent: bool,
    /// The session's bandwidth in octets a second.
    pub bandwidth: f64,
    /// Mean size of RTCP packets with UDP and IP headers, octets.
    pub mean_size: f64,
}

impl Load {
    /// The interval without its random factor, in ns: "deterministic calculated interval" Td (§6.3.1).
    pub(crate) fn deterministic_ns(&self, initial: bool) -> f64 {
        let (mut bandwidth, mut n) = (self.bandwidth * SHARE, self.members as f64);
        let senders = self.senders as f64;
        if senders <= n * SENDERS {
            if self.we_sent {
                (bandwidth, n) = (bandwidth * SENDERS, senders);
            } else {
                (bandwidth, n) = (bandwidth * (1.0 - SENDERS), n - senders);
            }
        }
        let shortest = if initial { MIN_NS / 2.0 } else { MIN_NS };
        // Without a bandwidth the result is infinite; nobody waits for that.
        (self.mean_size * n / bandwidth * 1e9).clamp(shortest, 3600e9)
    }

    /// An interval in ns; `random` is from 0 to 1.
    fn interval_ns(&self, initial: bool, random: f64) -> u64 {
        (self.deterministic_ns(initial) * (random + 0.5) / COMPENSATION) as u64
    }
}

/// Tells when the next packet is due. Times are those of any clock in ns.
#[derive(Debug, Clone)]
pub(crate) struct Timer {
    /// Every interval is this long, ns.
    fixed_ns: Option<u64>,
    /// When the last packet was sent.
    last_ns: u64,
    next_ns: u64,
    /// Members when `next_ns` was computed.
    members: usize,
    /// Nothing has been sent yet.
    initial: bool,
}

impl Timer {
    /// A timer that starts at `now_ns`. `at_once`: the first packet need not wait, as in sessions of two (§6.2).
    pub(crate) fn start(now_ns: u64, fixed_ns: Option<u64>, at_once: bool, load: &Load, random: f64) -> Self {
        let wait = if at_once || fixed_ns.is_some() { 0 } else { load.interval_ns(true, random) };
        Self { fixed_ns, last_ns: now_ns, next_ns: now_ns + wait, members: load.members, initial: true }
    }

    /// When to ask [`expired`](Self::expired) next.
    pub(crate) fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Whether a packet is to be sent now. When more members joined than there were, it is put off (timer reconsideration, §6.3.6).
    pub(crate) fn expired(&mut self, now_ns: u64, load: &Load, random: [f64; 2]) -> bool {
        if now_ns < self.next_ns {
            return false;
        }
        if let Some(fixed) = self.fixed_ns {
            self.last_ns = now_ns;
            // On the beat, unless it was missed for a whole one.
            self.next_ns = (self.next_ns + fixed).max(now_ns + fixed / 2);
            self.initial = false;
            return true;
        }
        let first = self.initial && self.next_ns == self.last_ns;
        let again = if first { now_ns } else { self.last_ns + load.interval_ns(self.initial, random[0]) };
        self.members = load.members;
        if again > now_ns {
            self.next_ns = again;
            return false;
        }
        self.last_ns = now_ns;
        self.initial = false;
        self.next_ns = now_ns + load.interval_ns(false, random[1]);
        true
    }

    /// Members left, so that the others may speak sooner (reverse reconsideration, §6.3.4).
    pub(crate) fn reverse(&mut self, now_ns: u64, members: usize) {
        if self.fixed_ns.is_some() || members >= self.members || self.members == 0 {
            return;
        }
        let part = members as f64 / self.members as f64;
        let scaled = |ns: u64| (ns as f64 * part) as u64;
        self.next_ns = now_ns + scaled(self.next_ns.saturating_sub(now_ns));
        self.last_ns = now_ns - scaled(now_ns.saturating_sub(self.last_ns));
        self.members = members;
    }

    /// This participant leaves among many: its goodbye waits as a first packet would (§6.3.7).
    pub(crate) fn leave(&mut self, now_ns: u64, load: &Load, random: f64) {
        *self = Self::start(now_ns, None, false, load, random);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn load(members: usize, senders: usize, we_sent: bool) -> Load {
        // 64 kbit/s: 400 octets a second of RTCP.
        Load { members, senders, we_sent, bandwidth: 8000.0, mean_size: 100.0 }
    }

    #[test]
    fn the_interval_of_the_specification() {
        // A.7 by hand: a call of two has the minimum.
        assert_eq!(load(2, 1, true).deterministic_ns(false), 5e9);
        assert_eq!(load(2, 1, true).deterministic_ns(true), 2.5e9);
        // 1 sender of 101: it has a quarter of 400 octets a second for itself, the others 300 for 100 packets of 100.
        assert_eq!(load(101, 1, true).deterministic_ns(false), 5e9);
        assert!((load(101, 1, false).deterministic_ns(false) - 100.0 * 100.0 / 300.0 * 1e9).abs() < 1.0);
        // Half of 100 send: all share alike.
        assert!((load(100, 50, true).deterministic_ns(false) - 25e9).abs() < 1.0);
        assert!((load(100, 50, false).deterministic_ns(false) - 25e9).abs() < 1.0);
        let silent = Load { bandwidth: 0.0, ..load(2, 1, true) };
        assert_eq!(silent.deterministic_ns(false), 3600e9, "no bandwidth, and still no infinite wait");
    }

    proptest! {
        #[test]
        fn intervals_are_half_to_one_and_a_half_of_the_computed(random in 0.0f64..1.0, members in 1usize..1000) {
            let load = load(members, 1, false);
            let (interval, td) = (load.interval_ns(false, random) as f64, load.deterministic_ns(false));
            prop_assert!((td * 0.5 / COMPENSATION..=td * 1.5 / COMPENSATION).contains(&(interval + 1.0)));
        }

        #[test]
        fn packets_never_come_closer_than_the_shortest_interval(
            randoms in prop::collection::vec((0.0f64..1.0, 0.0f64..1.0, 2usize..200), 1..50),
        ) {
            let mut timer = Timer::start(0, None, true, &load(2, 1, true), 0.5);
            let mut sent = Vec::new();
            for (a, b, members) in randoms {
                let now = timer.next_ns();
                if timer.expired(now, &load(members, 1, true), [a, b]) {
                    sent.push(now);
                }
                prop_assert!(timer.next_ns() > now);
            }
            let shortest = (5e9 * 0.5 / COMPENSATION) as u64;
            prop_assert!(sent.windows(2).all(|pair| pair[1] - pair[0] >= shortest - 1));
        }
    }

    #[test]
    fn who_joins_with_many_waits_longer() {
        let mut timer = Timer::start(0, None, false, &load(2, 0, false), 0.5);
        let planned = timer.next_ns();
        // By then there are 1000 members: 1000 × 100 octets at 300 a second.
        assert!(!timer.expired(planned, &load(1000, 0, false), [0.5, 0.5]));
        assert!(timer.next_ns() > 200 * SECOND);
        // They leave again.
        timer.reverse(planned, 2);
        assert!(timer.next_ns() < planned + SECOND, "{}", timer.next_ns());
    }

    #[test]
    fn a_fixed_interval_is_kept_from_the_start() {
        let load = load(5000, 0, false);
        let mut timer = Timer::start(7, Some(2 * SECOND), false, &load, 0.9);
        let mut sent = Vec::new();
        for now in [7, SECOND, 2 * SECOND + 7, 3 * SECOND, 4 * SECOND + 9, 6 * SECOND + 7] {
            if timer.expired(now, &load, [0.1, 0.9]) {
                sent.push(now);
            }
        }
        assert_eq!(sent, [7, 2 * SECOND + 7, 4 * SECOND + 9, 6 * SECOND + 7]);
    }
}
