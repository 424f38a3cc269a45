//! What a session is told of the streams, which others count.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

/// One moment by the clock of this host and as NTP has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// CLOCK_TAI in ns.
    pub ns: u64,
    /// Seconds since 1900 in UTC, 32.32 (RFC 5905 §6).
    pub ntp: u64,
}

/// Seconds from NTP's era 0 to 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;

impl Moment {
    /// The moment of `ns` CLOCK_TAI, which is `tai_minus_utc_ns` ahead of UTC.
    pub(crate) fn new(ns: u64, tai_minus_utc_ns: i64) -> Self {
        let unix_ns = ns.saturating_add_signed(tai_minus_utc_ns.saturating_neg());
        let seconds = (unix_ns / 1_000_000_000 + NTP_TO_UNIX) & 0xffff_ffff;
        // Rounded down: a fraction of 32 bits is finer than a ns.
        let fraction = ((unix_ns % 1_000_000_000) << 32) / 1_000_000_000;
        Self { ns, ntp: seconds << 32 | fraction }
    }

    /// The middle 32 bits, in 1/65536 s, as LSR has them.
    pub(crate) fn middle(self) -> u32 {
        middle(self.ntp)
    }
}

/// The middle 32 bits of an NTP time.
pub(crate) fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// An NTP time of era 0 as ns since 1970; 0 for earlier ones.
pub(crate) fn unix_ns(ntp: u64) -> u64 {
    let fraction = ((ntp & 0xffff_ffff) * 1_000_000_000 + (1 << 31)) >> 32;
    (ntp >> 32).checked_sub(NTP_TO_UNIX).map_or(0, |seconds| seconds * 1_000_000_000 + fraction)
}

/// A stream that this end sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SenderFigures {
    /// Its SSRC.
    pub ssrc: u32,
    /// Where its RTCP goes.
    pub to: SocketAddr,
    /// RTP packets sent so far.
    pub packets: u64,
    /// Their payload, without headers and padding.
    pub octets: u64,
    /// A time stamp, and the CLOCK_TAI in ns that it stands for.
    pub anchor: (u32, u64),
    /// Units of the time stamp in a second.
    pub clock_hz: u32,
}

impl SenderFigures {
    /// The time stamp of `now_ns`.
    pub(crate) fn timestamp(&self, now_ns: u64) -> u32 {
        let (timestamp, then_ns) = self.anchor;
        let ns = i128::from(now_ns) - i128::from(then_ns);
        let units = (ns * i128::from(self.clock_hz)).div_euclid(1_000_000_000);
        // Modulo 2^32, as time stamps are.
        timestamp.wrapping_add(units as u32)
    }
}

/// A stream that this end receives, since it was first heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReceptionFigures {
    /// Its SSRC.
    pub ssrc: u32,
    /// Who sends it.
    pub source: SocketAddr,
    /// Where it was sent to.
    pub destination: SocketAddr,
    /// Highest sequence number, extended by the count of its cycles.
    pub highest_seq: u32,
    /// Packets from the first sequence number to the highest.
    pub expected: u64,
    /// Packets that came, copies too.
    pub received: u64,
    /// Octets of payload.
    pub octets: u64,
    /// Interarrival jitter in units of the time stamp.
    pub jitter: u32,
    /// CLOCK_TAI in ns of the last arrival.
    pub last_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ntp_times() {
        // 2026-01-01T00:00:00.5Z, 37 s behind TAI.
        let unix = 1_767_225_600_500_000_000;
        let moment = Moment::new(unix + 37_000_000_000, 37_000_000_000);
        assert_eq!(moment.ntp, (1_767_225_600 + 2_208_988_800) << 32 | 0x8000_0000);
        assert_eq!(moment.middle(), 0xcf00_8000 & 0xffff | (moment.ntp >> 16) as u32 & 0xffff_0000);
        assert_eq!(unix_ns(moment.ntp), unix);
        assert_eq!(unix_ns(0), 0);
    }

    proptest! {
        #[test]
        fn times_read_back_to_the_nanosecond(unix in 0u64..4_000_000_000_000_000_000) {
            prop_assume!(unix / 1_000_000_000 + NTP_TO_UNIX < 1 << 32);
            let back = unix_ns(Moment::new(unix, 0).ntp);
            prop_assert!(back.abs_diff(unix) <= 1, "{} {}", back, unix);
        }

        #[test]
        fn time_stamps_go_on_by_the_clock(anchor: u32, then in 1u64 << 40..1 << 60, seconds in 0u64..100_000, clock in 1u32..192_000) {
            let figures = SenderFigures {
                ssrc: 1, to: "192.0.2.1:5005".parse().unwrap(), packets: 1, octets: 1, anchor: (anchor, then), clock_hz: clock,
            };
            let later = anchor.wrapping_add((seconds * u64::from(clock)) as u32);
            prop_assert_eq!(figures.timestamp(then + seconds * 1_000_000_000), later);
            prop_assert_eq!(figures.timestamp(then - 1_000_000_000), anchor.wrapping_sub(clock));
        }
    }
}
