//! Interarrival jitter (RFC 3550 §6.4.1), in nanoseconds rather than in units of a media clock.
#![forbid(unsafe_code)]

/// Longest difference in transit that counts, in ns: a clock that stepped must not overflow the average.
const MAX_DIFFERENCE: u64 = 1 << 56;

/// The smoothed difference in transit time between one datagram and the next, in order of arrival.
#[derive(Debug, Clone, Copy, Default)]
pub struct Jitter {
    /// There is a last datagram to compare with.
    begun: bool,
    smoothed: Smoothed,
}

/// That of datagrams of which at least one has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Smoothed {
    /// Arrival minus sending time of the last datagram; the clocks' offset is in it and falls out.
    transit: i64,
    /// The average, 16 times as large, as in RFC 3550 appendix A.8.
    scaled: u64,
    max_scaled: u64,
}

impl Smoothed {
    /// Arrival minus sending time of the last datagram, in ns.
    #[inline]
    pub fn transit(&self) -> i64 {
        self.transit
    }

    /// Takes in a datagram that arrived `transit` ns after it was sent, by clocks that may differ by any amount.
    #[inline(always)]
    pub fn arrive_after(&mut self, transit: i64) {
        let difference = transit.wrapping_sub(self.transit).unsigned_abs().min(MAX_DIFFERENCE);
        self.transit = transit;
        self.scaled = self.scaled + difference - ((self.scaled + 8) >> 4);
        self.max_scaled = self.max_scaled.max(self.scaled);
    }
}

impl Jitter {
    /// Takes in a datagram that was sent at `sent_ns` by the sender's clock and arrived at `arrived_ns` by ours.
    #[inline]
    pub fn arrive(&mut self, sent_ns: u64, arrived_ns: u64) {
        self.arrive_after(arrived_ns.wrapping_sub(sent_ns).cast_signed());
    }

    /// Takes in a datagram that arrived `transit` ns after it was sent, by clocks that may differ by any amount.
    #[inline]
    pub fn arrive_after(&mut self, transit: i64) {
        if self.begun {
            self.smoothed.arrive_after(transit);
        } else {
            (self.begun, self.smoothed.transit) = (true, transit);
        }
    }

    /// Where it stands, once a datagram has come.
    pub fn smoothed(&self) -> Option<Smoothed> {
        self.begun.then_some(self.smoothed)
    }

    /// It has gone on to `smoothed` elsewhere.
    pub fn resume(&mut self, smoothed: Smoothed) {
        *self = Self { begun: true, smoothed };
    }

    /// Takes in `count` datagrams with the transit time of the last one: that they were sent and arrived at the same times as it, or as far apart.
    #[inline]
    pub fn arrive_alike(&mut self, count: u64) {
        let mut scaled = self.smoothed.scaled;
        let fall = |scaled: &mut u64, count: u64| (0..count).for_each(|_| *scaled -= (*scaled + 8) >> 4);
        let mut left = count;
        // Below 8 it falls no further.
        while left >= 8 && scaled >= 8 {
            fall(&mut scaled, 8);
            left -= 8;
        }
        fall(&mut scaled, left % 8);
        self.smoothed.scaled = scaled;
    }

    /// The sender's clock is another from now on: the next datagram does not compare with the last.
    pub fn begin_anew(&mut self) {
        self.begun = false;
    }

    /// The jitter now and its highest value, in ns; `None` before the first datagram.
    pub fn value(&self) -> Option<(u64, u64)> {
        self.begun.then_some((self.smoothed.scaled >> 4, self.smoothed.max_scaled >> 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_steady_stream_has_none_whatever_the_clocks_offset() {
        let mut jitter = Jitter::default();
        assert_eq!(jitter.value(), None);
        for n in 0..100 {
            jitter.arrive(9_000_000_000 + n * 1000, n * 1000);
        }
        assert_eq!(jitter.value(), Some((0, 0)));
    }

    #[test]
    fn it_moves_a_sixteenth_of_the_way() {
        let mut jitter = Jitter::default();
        jitter.arrive(0, 1000);
        jitter.arrive(1000, 2000 + 1600);
        assert_eq!(jitter.value(), Some((100, 100)));
        jitter.arrive(2000, 3000 + 1600);
        // 100 - 100/16, and the highest stays.
        assert_eq!(jitter.value(), Some((93, 100)));
    }

    proptest! {
        #[test]
        fn close_to_the_definition(times in prop::collection::vec((0u64..1_000_000, 0u64..1_000_000), 2..200)) {
            let (mut jitter, mut exact, mut last) = (Jitter::default(), 0.0f64, None);
            let mut sent = 0;
            for (gap, delay) in times {
                sent += gap;
                jitter.arrive(sent, sent + delay);
                if let Some(last) = last.replace(delay) {
                    exact += ((delay as f64 - last as f64).abs() - exact) / 16.0;
                }
            }
            let (value, max) = jitter.value().unwrap();
            prop_assert!((value as f64 - exact).abs() <= 2.0, "{} is not {}", value, exact);
            prop_assert!(max >= value);
        }

        #[test]
        fn datagrams_alike_count_as_one_by_one(
            before in prop::collection::vec((0u64..1_000_000, 0u64..1_000_000), 1..9), count in 0u64..300,
        ) {
            let (mut one_by_one, mut at_once) = (Jitter::default(), Jitter::default());
            for (sent, delay) in &before {
                one_by_one.arrive(*sent, sent + delay);
                at_once.arrive(*sent, sent + delay);
            }
            let (sent, delay) = before[before.len() - 1];
            for n in 0..count {
                one_by_one.arrive(sent + n, sent + n + delay);
            }
            at_once.arrive_alike(count);
            prop_assert_eq!(one_by_one.smoothed.scaled, at_once.smoothed.scaled);
            prop_assert_eq!(one_by_one.value(), at_once.value());
        }

        #[test]
        fn no_times_overflow(times in prop::collection::vec(any::<(u64, u64)>(), 0..200)) {
            let mut jitter = Jitter::default();
            times.iter().for_each(|(sent, arrived)| jitter.arrive(*sent, *arrived));
        }
    }
}
