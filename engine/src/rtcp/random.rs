//! Random numbers from a seed: SplitMix64, which is good enough for intervals and first numbers, and the same for the same seed.
#![forbid(unsafe_code)]

/// A sequence of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to less than 1.
    pub(crate) fn unit(&mut self) -> f64 {
        // A double has 53 bits.
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_spread_and_repeat() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        let (mut low, mut sum) = (0, 0.0);
        for _ in 0..10_000 {
            let unit = a.unit();
            assert_eq!(unit, b.unit());
            assert!((0.0..1.0).contains(&unit));
            low += u32::from(unit < 0.25);
            sum += unit;
        }
        assert!((2300..2700).contains(&low) && (4900.0..5100.0).contains(&sum), "{low} {sum}");
    }
}
