//! Whether numbers are those of one RTP source, and what they are without wrap-around (RFC 3550 A.1).

/// Consecutive packets that make a source valid.
pub const MIN_SEQUENTIAL: u8 = 2;
/// Numbers from here on ahead are doubted.
pub const MAX_DROPOUT: u16 = 3000;
/// Numbers up to here behind are taken for reordered.
pub const MAX_MISORDER: u16 = 100;

/// Where whole numbers begin: what comes before the first packet has a number, too.
pub const FIRST_CYCLE: u64 = 1 << 16;

/// What a number turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Of the sequence; the whole number.
    Number(u64),
    /// Far from the sequence: a stray, or the first after a restart. The packet is not to be counted, unless a restart follows.
    Doubtful,
    /// The packet before it and this one are the first of another sequence; the whole number of this one in that.
    Restart(u64),
}

/// The state of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    highest: u16,
    /// Of `highest`: a multiple of 2^16.
    cycle: u64,
    /// What would come next after a doubtful packet.
    after_doubtful: Option<u16>,
    probation: u8,
    wraps: u64,
}

impl Validity {
    /// The state after the first packet, number `first`.
    pub fn new(first: u16) -> Self {
        Self {
            highest: first,
            cycle: FIRST_CYCLE,
            after_doubtful: None,
            probation: MIN_SEQUENTIAL - 1,
            wraps: 0,
        }
    }

    /// Whether [`MIN_SEQUENTIAL`] packets in sequence have come.
    pub fn is_valid(&self) -> bool {
        self.probation == 0
    }

    /// How often the number went over 2^16.
    pub fn wraps(&self) -> u64 {
        self.wraps
    }

    /// The highest number, whole.
    pub fn highest(&self) -> u64 {
        self.cycle + u64::from(self.highest)
    }

    /// Takes in number `n`. `goes_on`, asked for numbers that A.1 doubts: whether the time stamp is where the arrival says that it has to be if
    /// the sender has not restarted. Then an outage is an outage, however many packets it took, and a late packet is late.
    #[inline]
    pub fn arrive(&mut self, n: u16, goes_on: impl FnOnce() -> bool) -> Seen {
        let ahead = n.wrapping_sub(self.highest);
        if ahead == 1 {
            self.probation = self.probation.saturating_sub(1);
        }
        if ahead < MAX_DROPOUT {
            return self.advance(n);
        }
        let behind = ahead.wrapping_neg();
        if behind <= MAX_MISORDER {
            self.after_doubtful = None;
            return Seen::Number(self.highest() - u64::from(behind));
        }
        self.far(n, ahead, goes_on)
    }

    #[inline]
    fn advance(&mut self, n: u16) -> Seen {
        if n < self.highest {
            self.cycle += 1 << 16;
            self.wraps += 1;
        }
        self.highest = n;
        self.after_doubtful = None;
        Seen::Number(self.highest())
    }

    #[cold]
    fn far(&mut self, n: u16, ahead: u16, goes_on: impl FnOnce() -> bool) -> Seen {
        if self.after_doubtful == Some(n) {
            let wraps = self.wraps;
            *self = Self { probation: 0, wraps, ..Self::new(n) };
            return Seen::Restart(self.highest());
        }
        if goes_on() {
            return if ahead < 1 << 15 {
                self.advance(n)
            } else {
                self.after_doubtful = None;
                Seen::Number(self.highest().saturating_sub(u64::from(ahead.wrapping_neg())))
            };
        }
        self.after_doubtful = Some(n.wrapping_add(1));
        Seen::Doubtful
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEVER: fn() -> bool = || false;

    #[test]
    fn two_in_a_row_make_a_source() {
        let mut v = Validity::new(65_535);
        assert!(!v.is_valid());
        assert_eq!(v.arrive(4, NEVER), Seen::Number(FIRST_CYCLE + 65_540));
        assert!(!v.is_valid());
        assert_eq!(v.arrive(5, NEVER), Seen::Number(FIRST_CYCLE + 65_541));
        assert!(v.is_valid());
        assert_eq!((v.wraps(), v.highest()), (1, FIRST_CYCLE + 65_541));
        assert_eq!(
            v.arrive(65_530, NEVER),
            Seen::Number(FIRST_CYCLE + 65_530),
            "late, from before the first"
        );
    }

    #[test]
    fn a_restart_is_two_in_a_row_elsewhere_and_a_stray_is_none() {
        let mut v = Validity::new(100);
        assert_eq!(v.arrive(30_000, NEVER), Seen::Doubtful);
        assert_eq!(v.arrive(101, NEVER), Seen::Number(FIRST_CYCLE + 101));
        assert_eq!(v.arrive(30_001, NEVER), Seen::Doubtful, "what came between cleared it");
        assert_eq!(v.arrive(30_002, NEVER), Seen::Restart(FIRST_CYCLE + 30_002));
        assert!(v.is_valid());
    }

    #[test]
    fn the_time_stamp_tells_an_outage_from_a_restart() {
        let mut v = Validity::new(100);
        assert_eq!(v.arrive(5100, || true), Seen::Number(FIRST_CYCLE + 5100));
        assert_eq!(v.arrive(4000, || true), Seen::Number(FIRST_CYCLE + 4000));
        assert_eq!(v.highest(), FIRST_CYCLE + 5100);
    }

    proptest! {
        #[test]
        fn numbers_are_what_they_were_before_they_were_cut(
            first: u16, steps in prop::collection::vec(-90i64..2900, 1..400),
        ) {
            let mut v = Validity::new(first);
            let (mut highest, start) = (FIRST_CYCLE + u64::from(first), FIRST_CYCLE + u64::from(first));
            for step in steps {
                let whole = highest.saturating_add_signed(step);
                prop_assert_eq!(v.arrive(whole as u16, NEVER), Seen::Number(whole));
                highest = highest.max(whole);
            }
            prop_assert_eq!(v.highest(), highest);
            prop_assert_eq!(v.wraps(), (highest >> 16) - (start >> 16));
        }
    }
}
