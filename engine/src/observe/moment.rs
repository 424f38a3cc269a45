//! Datagrams that were sent at one time and arrived at one time.
#![forbid(unsafe_code)]

use super::stream::transit;
use crate::packet::probe::{time_bits, unwrap40};

/// No header's time has such bits.
const NEVER: u64 = u64::MAX;

/// No sender whose delay variation is measured has that place.
const UNMEASURED: u8 = u8::MAX;

/// The place of a sender in one number.
#[inline]
pub(super) fn sender_place(place: Option<u8>) -> u8 {
    place.unwrap_or(UNMEASURED)
}

/// What datagrams of a batch have in common, of whatever streams they are: their sender, and both their times. What follows from these is entered once for all of
/// them.
#[derive(Debug)]
pub(super) struct Moment {
    /// The sending time by [`time_bits`]; [`NEVER`]: no datagram is of this moment any more.
    time: u64,
    /// The place of the sender among those whose delay variation is measured, as [`sender_place`] has it.
    pub(super) sender: u8,
    pub(super) sent_ns: u64,
    pub(super) arrived_ns: u64,
    /// Arrival minus departure in ns.
    pub(super) transit: i64,
    /// Came, and not yet entered.
    pub(super) count: u64,
}

impl Default for Moment {
    fn default() -> Self {
        Self { time: NEVER, sender: UNMEASURED, sent_ns: 0, arrived_ns: 0, transit: 0, count: 0 }
    }
}

impl Moment {
    /// That of a datagram whose header has `time`, and which arrived at `arrived_ns`; none has been counted.
    pub(super) fn new(time: u64, arrived_ns: u64, sender: u8) -> Self {
        let sent_ns = unwrap40(time, arrived_ns);
        let transit = transit(sent_ns, arrived_ns);
        Self { time: time_bits(time), sender, sent_ns, arrived_ns, transit, count: 0 }
    }

    /// Whether it is that of a datagram of this sender whose time is `time`, by [`time_bits`], and which arrived at the same time.
    #[inline(always)]
    pub(super) fn is(&self, time: u64, sender: u8) -> bool {
        self.time == time && self.sender == sender
    }

    /// No datagram is of this moment any more.
    pub(super) fn close(&mut self) {
        self.time = NEVER;
    }
}
