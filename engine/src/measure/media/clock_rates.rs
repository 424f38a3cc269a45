//! Clocks of payload types: whose, and how fast.

use std::collections::BTreeMap;

use crate::packet::rtp;

/// Clock of a dynamic payload type of which nothing is said, Hz: that of nearly all video.
pub const DEFAULT_CLOCK_HZ: u32 = 90_000;

/// Where a clock rate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Told by the user, or by RFC 3551.
    Told,
    /// Taken for granted: [`DEFAULT_CLOCK_HZ`].
    Assumed,
}

/// Clock rates that a user has told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClockRates {
    by_type: BTreeMap<u8, u32>,
    default: Option<u32>,
}

impl ClockRates {
    /// Payload type `number` (0 to 127) runs on a clock of `hz`.
    pub fn set(&mut self, number: u8, hz: u32) {
        self.by_type.insert(number, hz);
    }

    /// Dynamic types of which nothing else is said run on a clock of `hz`.
    pub fn set_default(&mut self, hz: u32) {
        self.default = Some(hz);
    }

    /// The clock of payload type `number` in Hz, never 0: what was told of it, RFC 3551, what was told of all, [`DEFAULT_CLOCK_HZ`].
    pub fn of(&self, number: u8) -> (u32, Known) {
        let told = self.by_type.get(&number).copied();
        let told = told.or_else(|| rtp::static_type(number).map(|t| t.clock_hz)).or(self.default);
        told.map_or((DEFAULT_CLOCK_HZ, Known::Assumed), |hz| (hz.max(1), Known::Told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_knows_better_than_the_rfc_and_the_rfc_better_than_nobody() {
        let mut rates = ClockRates::default();
        assert_eq!(rates.of(96), (90_000, Known::Assumed));
        assert_eq!(rates.of(0), (8000, Known::Told));
        rates.set_default(48_000);
        assert_eq!((rates.of(96), rates.of(8)), ((48_000, Known::Told), (8000, Known::Told)));
        rates.set(8, 16_000);
        rates.set(97, 0);
        assert_eq!((rates.of(8).0, rates.of(97).0), (16_000, 1), "a clock of 0 Hz would divide by it");
    }
}
