//! Times in test packets: the two formats and the error estimate (RFC 8762 §4.2.1, RFC 4656 §4.1.2, RFC 8186 §2.3).

/// Seconds from the NTP epoch, 1900, to that of Unix.
const NTP_TO_UNIX: i128 = 2_208_988_800;
const SECOND_NS: i128 = 1_000_000_000;
/// After this time both formats begin anew: 2^32 seconds.
const ERA_NS: i128 = SECOND_NS << 32;

/// How a time is written in 64 bits; the Z flag of the error estimate tells which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// NTP (RFC 5905 §6): seconds since 1900 and a binary fraction. The clock is UTC.
    #[default]
    Ntp,
    /// PTPv2, truncated (IEEE 1588-2008): seconds since 1970 and nanoseconds. The clock is TAI.
    Ptp,
}

impl Format {
    /// The name that selects it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ntp => "ntp",
            Self::Ptp => "ptp",
        }
    }

    /// Writes a time of this format's clock, in ns since 1970.
    pub fn encode(self, ns: u64) -> u64 {
        let (seconds, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
        match self {
            Self::Ntp => {
                // Rounded, so that reading it again gives the same nanosecond.
                let fraction = ((rest << 32) + 500_000_000) / 1_000_000_000;
                (seconds.wrapping_add(NTP_TO_UNIX as u64) << 32).wrapping_add(fraction)
            }
            Self::Ptp => seconds << 32 | rest,
        }
    }

    /// Reads a time of this format's clock, in ns since 1970: of the eras, the one that is nearest to `near_ns`. `None` for nanoseconds that fill a
    /// second, and for times before 1970.
    pub fn decode(self, bits: u64, near_ns: u64) -> Option<u64> {
        let (seconds, rest) = (i128::from(bits >> 32), i128::from(bits & 0xffff_ffff));
        let within_era = match self {
            Self::Ntp => (seconds - NTP_TO_UNIX) * SECOND_NS + ((rest * SECOND_NS + (1 << 31)) >> 32),
            Self::Ptp if rest < SECOND_NS => seconds * SECOND_NS + rest,
            Self::Ptp => return None,
        };
        let eras = (i128::from(near_ns) - within_era + ERA_NS / 2).div_euclid(ERA_NS);
        u64::try_from(within_era + eras * ERA_NS).ok()
    }
}

/// How far off a clock may be, and how its times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorEstimate {
    /// The S flag: the clock is synchronised to UTC by an external source.
    pub synchronized: bool,
    /// The Z flag.
    pub format: Format,
    /// Six bits: the power of two that the multiplier is scaled by.
    scale: u8,
    /// Not 0.
    multiplier: u8,
}

impl ErrorEstimate {
    /// An estimate of at least `ns`, as near to it as the field can tell.
    pub fn new(ns: u64, synchronized: bool, format: Format) -> Self {
        // In units of 2^-32 s, rounded up.
        let mut units = (u128::from(ns) << 32).div_ceil(1_000_000_000).max(1);
        let mut scale = 0;
        while units > 255 {
            units = units.div_ceil(2);
            scale += 1;
        }
        // 64 bits of nanoseconds need a scale of 59 at most.
        Self { synchronized, format, scale, multiplier: units as u8 }
    }

    /// The error in ns, rounded up.
    pub fn ns(self) -> u64 {
        let units = u128::from(self.multiplier) << self.scale;
        u64::try_from((units * 1_000_000_000).div_ceil(1 << 32)).unwrap_or(u64::MAX)
    }

    /// The field.
    pub fn bits(self) -> u16 {
        let ptp = self.format == Format::Ptp;
        u16::from(self.synchronized) << 15
            | u16::from(ptp) << 14
            | u16::from(self.scale & 0x3f) << 8
            | u16::from(self.multiplier)
    }

    /// Reads the field; `None` with a multiplier of 0, by which a packet is known as corrupt (RFC 4656 §4.1.2).
    pub fn from_bits(bits: u16) -> Option<Self> {
        let format = if bits & 0x4000 == 0 { Format::Ntp } else { Format::Ptp };
        let estimate = Self {
            synchronized: bits & 0x8000 != 0,
            format,
            scale: (bits >> 8) as u8 & 0x3f,
            multiplier: bits as u8,
        };
        (estimate.multiplier != 0).then_some(estimate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        // RFC 5905: 1970-01-01 is second 2,208,988,800 of era 0; half a second is half of 2^32.
        assert_eq!(Format::Ntp.encode(500_000_000), 0x83aa_7e80_8000_0000);
        assert_eq!(Format::Ptp.encode(1_000_000_005), 1 << 32 | 5);
        // The era of 2036 begins with second 0.
        let turn = (4_294_967_296 - 2_208_988_800) * 1_000_000_000;
        assert_eq!(Format::Ntp.encode(turn), 0);
        assert_eq!(Format::Ntp.decode(0, turn - 1), Some(turn));
        assert_eq!(Format::Ptp.decode(1_000_000_000, 0), None);
    }

    #[test]
    fn known_errors() {
        let estimate = ErrorEstimate::new(16_000_000_000, false, Format::Ntp);
        assert_eq!((estimate.scale, estimate.multiplier, estimate.ns()), (29, 128, 16_000_000_000));
        assert_eq!(ErrorEstimate::from_bits(0x8000), None);
        let ptp = ErrorEstimate::from_bits(0xc001).unwrap();
        assert_eq!((ptp.synchronized, ptp.format, ptp.ns()), (true, Format::Ptp, 1));
    }

    proptest! {
        #[test]
        fn times_read_back(ns in 0u64..1 << 63, off in -1_000_000_000_000_000_000i64..1_000_000_000_000_000_000, ptp: bool) {
            let format = if ptp { Format::Ptp } else { Format::Ntp };
            prop_assert_eq!(format.decode(format.encode(ns), ns.saturating_add_signed(off)), Some(ns));
        }

        #[test]
        fn errors_are_not_understated(ns: u64, synchronized: bool) {
            let estimate = ErrorEstimate::new(ns, synchronized, Format::Ptp);
            prop_assert_eq!(ErrorEstimate::from_bits(estimate.bits()), Some(estimate));
            prop_assert!(estimate.ns() >= ns);
            prop_assert!(estimate.ns() - ns <= ns / 127 + 1);
        }

        #[test]
        fn no_bits_panic(bits: u64, near: u64, error: u16) {
            let _ = Format::Ntp.decode(bits, near);
            let _ = Format::Ptp.decode(bits, near);
            if let Some(estimate) = ErrorEstimate::from_bits(error) {
                prop_assert_eq!(estimate.bits(), error);
                let _ = estimate.ns();
            }
        }
    }
}
